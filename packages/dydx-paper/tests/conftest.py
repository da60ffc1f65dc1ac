"""Let the tests import what they share, `exchange.py`: importlib mode leaves it out."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
