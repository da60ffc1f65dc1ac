"""What all tests here share: a machine on which nobody has chosen anything yet."""

import tempfile
from collections.abc import Iterator

import pytest
from dydx_conn import Frame, Recording, find_recording
from hypothesis import HealthCheck, settings
from sessions import pytest_collection_modifyitems  # noqa: F401  (a hook)

# A property is about what comes out, not about how busy the machine was.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take away what the shell that runs the tests may have set, and what other bots left."""
    for name in ("ENVIRONMENT", "MNEMONIC", "PRIVATE_KEY", "PASSPHRASE", "ADDRESS"):
        monkeypatch.delenv(f"DYDX_{name}", raising=False)
    # Not below tmp_path: the path of a socket may be no longer than 107 characters.
    with tempfile.TemporaryDirectory(prefix="bot-") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        monkeypatch.setenv("XDG_STATE_HOME", f"{folder}/state")
        yield


@pytest.fixture(scope="session")
def frames() -> list[Frame]:
    """Return the bundled recording's frames up to the end of its crash."""
    frames = list(Recording(find_recording("quickstart")))
    return [frame for frame in frames if frame.mono - frames[0].mono < 640 * 10**9]
