"""What all tests of this layer share: the venue of `world.py`, and patience."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from sessions import pytest_collection, pytest_collection_modifyitems  # noqa: F401  (hooks)

if TYPE_CHECKING:
    from world import World

sys.path.insert(0, str(Path(__file__).parent))

# A property is about what comes out, not about how busy the machine was.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture
def world() -> "World":
    """Open the usual venue."""
    from world import open_world

    return open_world()


@pytest.fixture(scope="session")
def make_world() -> Any:
    """Hand out `open_world` for venues that are not the usual one."""
    from world import open_world

    return open_world


@pytest.fixture(scope="session")
def make_decision() -> Any:
    """Hand out `decision`."""
    from world import decision

    return decision
