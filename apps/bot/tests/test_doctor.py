"""The doctor: each check with its outcome, and what would stop a run."""

from collections.abc import Iterator

import pytest
from bot.__main__ import main
from bot.doctor import Check, machine, reach
from dydx_conn import NETWORKS, NetworkError


def outcomes(checks: Iterator[Check]) -> dict[str, str]:
    """Map each check's name to its outcome."""
    return {check.name: check.outcome for check in checks}


def test_the_machine_is_looked_at() -> None:
    """Python, the bot's version, the clock, the terminal; none fails where the tests run."""
    assert set(outcomes(machine())) == {"python", "bot", "clock", "terminal"}
    assert "failed" not in outcomes(machine()).values()


def test_a_small_terminal_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dashboard wants 80 columns and 24 rows."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("bot.doctor.shutil.get_terminal_size", lambda: (40, 10))

    assert outcomes(machine())["terminal"] == "warning"


@pytest.mark.parametrize(("skew", "outcome"), [(0.5, "ok"), (60.0, "failed")])
def test_a_clock_that_is_off_fails(
    monkeypatch: pytest.MonkeyPatch, skew: float, outcome: str
) -> None:
    """Good-til times and signatures hang on it."""
    monkeypatch.setattr("bot.doctor.time.time", lambda: 1_000_000.0)
    monkeypatch.setattr("bot.doctor.venue_time", lambda _: 1_000_000.0 + skew)
    monkeypatch.setattr("bot.doctor._tls", lambda _: Check("tls", "ok", ""))

    assert outcomes(reach(NETWORKS["testnet"]))["skew"] == outcome


def test_a_network_that_does_not_answer_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and the check that failed is named."""

    def silent(_: object) -> float:
        raise NetworkError("expected an answer, got none")

    monkeypatch.setattr("bot.doctor.venue_time", silent)

    assert main(["doctor", "--network", "local", "--rest", "http://127.0.0.1:9"]) == 1
    assert "failed: rest" in capsys.readouterr().out


def test_a_network_that_answers_is_fine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stand-in's own clock is no skew."""
    monkeypatch.setattr("bot.doctor.venue_time", lambda _: 0.0)

    assert main(["doctor", "--network", "local"]) == 0
    assert "fine" in capsys.readouterr().out


def test_tls_is_asked_of_every_network_but_the_local_one() -> None:
    """Plain text to a real network fails; a certificate that cannot be had fails too."""
    from dataclasses import replace

    from bot.doctor import _tls

    plain = replace(NETWORKS["testnet"], rest="http://127.0.0.1:9")
    nobody = replace(NETWORKS["testnet"], rest="https://127.0.0.1:9")

    assert _tls(plain).outcome == "failed"
    assert _tls(nobody).outcome == "failed"
    assert _tls(NETWORKS["local"]).outcome == "ok"
