"""What all tests here share: a machine on which nobody has chosen anything yet."""

import pytest
from hypothesis import HealthCheck, settings

# A property is about what comes out, not about how busy the machine was.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the shell that runs the tests may have set."""
    for name in ("ENVIRONMENT", "MNEMONIC", "PRIVATE_KEY", "PASSPHRASE", "ADDRESS"):
        monkeypatch.delenv(f"DYDX_{name}", raising=False)
