"""What all tests here share: `exchange.py`, which importlib mode leaves out, and patience."""

import sys
from pathlib import Path

from hypothesis import HealthCheck, settings
from sessions import pytest_collection, pytest_collection_modifyitems  # noqa: F401  (hooks)

sys.path.insert(0, str(Path(__file__).parent))

# A property is about what comes out, not about how busy the machine was.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
