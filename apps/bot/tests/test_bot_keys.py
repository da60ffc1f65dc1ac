"""Where the key comes from, and how it is stored."""

import os
from pathlib import Path

import pytest
from bot.__main__ import main
from dydx_conn import Keys
from pydantic import SecretStr

HEX = "4b" * 32
ADDRESS = Keys(SecretStr(HEX)).address


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a key in the environment."""
    monkeypatch.setenv("DYDX_PRIVATE_KEY", HEX)


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Derive the key of a file at the least cost that is still read."""
    monkeypatch.setattr("dydx_conn._COST", 2**14)


@pytest.mark.usefixtures("key")
def test_the_address_of_a_key_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Its address alone is printed."""
    assert main(["keys", "address"]) == 0

    assert capsys.readouterr().out == f"{ADDRESS}\n"


@pytest.mark.usefixtures("key")
def test_the_address_of_another_key_is_a_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Typed, or in the environment; the key is not shown."""
    assert main(["keys", "address", "--address", "dydx1other"]) == 2
    monkeypatch.setenv("DYDX_PRIVATE_KEY", HEX)
    monkeypatch.setenv("DYDX_ADDRESS", "dydx1another")
    assert main(["keys", "address"]) == 2

    error = capsys.readouterr().err
    assert f"expected the key of dydx1other, got {ADDRESS}" in error
    assert "dydx1another" in error
    assert HEX not in error


def test_a_key_of_the_keyring(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its name there."""
    monkeypatch.setattr("keyring.get_password", lambda _service, name: HEX if name == "a" else None)

    assert main(["keys", "address", "--keys", "keyring:a"]) == 0
    assert main(["keys", "address", "--keys", "keyring:b"]) == 2
    assert ADDRESS in capsys.readouterr().out


@pytest.mark.usefixtures("key", "cheap")
def test_a_key_is_saved_and_its_passphrase_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the environment, where there is no terminal."""
    path = str(tmp_path / "key.json")
    monkeypatch.setenv("DYDX_NEW_PASSPHRASE", "correct horse")
    assert main(["keys", "save", path]) == 0
    monkeypatch.setenv("DYDX_PASSPHRASE", "correct horse")
    monkeypatch.setenv("DYDX_NEW_PASSPHRASE", "battery staple")
    assert main(["keys", "rotate", "--keys", path]) == 0
    assert main(["keys", "address", "--keys", path]) == 2
    monkeypatch.setenv("DYDX_PASSPHRASE", "battery staple")
    assert main(["keys", "address", "--keys", path]) == 0
    assert main(["keys", "rotate", "--keys", f"{path}.old"]) == 2

    printed = capsys.readouterr()
    assert printed.err.endswith(f"got no file {path}.old\n")
    assert printed.out.endswith(f"{ADDRESS}\n")
    assert "horse" not in printed.out + printed.err


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Sit somebody at a terminal who types these, one after the other."""
    answers: list[str] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda _: answers.pop(0))
    return answers


@pytest.mark.usefixtures("key", "cheap")
def test_a_new_passphrase_is_typed_twice(
    tmp_path: Path,
    typed: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A key behind a typing error is lost."""
    path = tmp_path / "key.json"
    typed += ["correct horse", "correct house", "correct horse", "correct horse", "correct horse"]

    assert main(["keys", "save", str(path)]) == 2
    assert not path.exists()
    monkeypatch.setenv("DYDX_PRIVATE_KEY", HEX)
    assert main(["keys", "save", str(path)]) == 0
    assert main(["keys", "address", "--keys", str(path)]) == 0
    assert "got two that differ" in capsys.readouterr().err


def test_without_a_terminal_the_variable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A passphrase is never an argument, which every process could read."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    (tmp_path / "key.json").touch()

    assert main(["keys", "address", "--keys", str(tmp_path / "key.json")]) == 2

    assert "expected a passphrase in DYDX_PASSPHRASE" in capsys.readouterr().err


SPY = """
import os
import pathlib

found = sorted(name for name in os.environ if name.startswith("DYDX_")), os.environ.get("HOME")


class Spy:
    name = "spy"

    def step(self, scored, held):
        return ()


def strategy():
    pathlib.Path(os.environ["SPIED"]).write_text(repr(found))
    return Spy()
"""


@pytest.mark.replays
@pytest.mark.parametrize("command", [["replay"], ["panel", "markets"]])
def test_a_strategy_file_finds_no_key_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: Path, command: list[str]
) -> None:
    """Also where the bot itself needs none; the rest of the environment is as it was."""
    for name in ("MNEMONIC", "PRIVATE_KEY", "PASSPHRASE", "NEW_PASSPHRASE", "_DATABASE__URL"):
        monkeypatch.setenv(f"DYDX_{name}", "hunter2")
    monkeypatch.setenv("DYDX_ENVIRONMENT", "staging")
    monkeypatch.setenv("HOME", "home")
    monkeypatch.setenv("SPIED", str(tmp_path / "spied"))
    (tmp_path / "spy.py").write_text(SPY)

    assert main([*command, str(short), "--strategy", str(tmp_path / "spy.py")]) == 0

    assert (tmp_path / "spied").read_text() == "(['DYDX_CONFIG', 'DYDX_ENVIRONMENT'], 'home')"


@pytest.mark.usefixtures("key")
def test_a_key_that_was_read_is_in_the_environment_no_more() -> None:
    """Neither for a strategy nor for a program that is started."""
    assert main(["keys", "address"]) == 0

    assert "DYDX_PRIVATE_KEY" not in os.environ
