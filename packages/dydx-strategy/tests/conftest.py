"""Let the tests of this layer import the market beside them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
