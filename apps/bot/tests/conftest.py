"""What all tests here share: a machine on which nobody has chosen anything yet."""

import pytest


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the shell that runs the tests may have set."""
    for name in ("ENVIRONMENT", "MNEMONIC", "PRIVATE_KEY", "PASSPHRASE", "ADDRESS"):
        monkeypatch.delenv(f"DYDX_{name}", raising=False)
