"""What all tests here share: patience."""

from hypothesis import HealthCheck, settings
from sessions import pytest_collection, pytest_collection_modifyitems  # noqa: F401  (hooks)

# A property is about what comes out, not about how busy the machine was.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
