"""The doctor: each check with its outcome, and what would stop a run."""

from collections.abc import Callable, Iterator
from itertools import takewhile
from typing import Any

import bot.doctor
import dydx_conn
import pytest
import reactivex
from bot.__main__ import main
from bot.doctor import Check, machine, reach
from dydx_conn import NETWORKS, Frame, Network, replay, ws_frame
from reactivex import Observable

MARKETS = '{"markets":{"BTC-USD":{"ticker":"BTC-USD"}}}'
NOW_NS = 1_767_225_600 * 10**9  # 2026-01-01T00:00:00Z


def frame(kind: str, text: str = "", type_: str = "") -> Frame:
    """Make a frame of the instant that all happens in."""
    if kind == "ws":
        return ws_frame(1, NOW_NS, 1, "c1", text)
    channel = "/v4/perpetualMarkets" if kind == "http" else ""
    return Frame(1, NOW_NS, 1, "c1", kind, text, type_, channel)


def block(time: str) -> Frame:
    """Make the message that tells a block."""
    what = f'{{"blockHeight":"9","time":"{time}"}}'
    return frame("ws", f'{{"type":"channel_data","channel":"v4_block_height","contents":{what}}}')


ANSWER = frame("http", MARKETS, "200")
OPENED = [
    frame("open", "wss://v/v4/ws"),
    frame("sent", '{"type":"subscribe","channel":"v4_markets"}'),
    frame("ws", f'{{"type":"subscribed","channel":"v4_markets","contents":{MARKETS}}}'),
]
BLOCK = block("2025-12-31T23:59:59.500Z")


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Frame]], None]:
    """Let any network say these frames, and then nothing."""

    def say(frames: list[Frame]) -> None:
        def live(_: Network, __: list[str], *, pace: dydx_conn.Pacer) -> Observable[Frame]:
            late = frame("tick"), Frame(2, NOW_NS, 2**63, "clock", "tick")
            return reactivex.from_iterable(takewhile(pace, [*frames, *late]))

        monkeypatch.setattr(bot.doctor, "live", live)

    return say


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


def test_a_network_that_answers_is_fine(says: Callable[[list[Frame]], None]) -> None:
    """Each figure is of what was heard."""
    says([ANSWER, *OPENED, BLOCK])

    checks = list(reach(NETWORKS["testnet"]))

    assert outcomes(iter(checks)) == dict.fromkeys(["rest", "socket", "tls", "skew"], "ok")
    assert checks[0].seen.endswith("lists 1 markets")
    assert checks[1].seen.endswith("/v4/ws answered in 0 ms")
    assert checks[3].seen == "newest block minus our clock -0.5 s"


@pytest.mark.parametrize(
    ("time", "network", "outcome"),
    [
        ("2026-01-01T00:00:04Z", "testnet", "ok"),
        ("2026-01-01T00:01:00Z", "testnet", "failed"),
        ("2025-12-31T23:59:00Z", "testnet", "failed"),
        ("2025-12-31T23:59:00Z", "local", "ok"),
        ("noon", "testnet", "failed"),
    ],
)
def test_a_clock_that_is_off_fails(
    says: Callable[[list[Frame]], None], time: str, network: str, outcome: str
) -> None:
    """Good-til times and signatures hang on it; a stand-in keeps a clock of its own."""
    says([ANSWER, *OPENED, block(time)])

    assert outcomes(reach(NETWORKS[network]))["skew"] == outcome


REFUSED = "SSLError: [SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate"


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ([], {"rest": "no answer", "socket": "no answer", "tls": "not every connection"}),
        ([frame("gap", "not asked: ConnectError"), *OPENED, BLOCK], {"rest": "ConnectError"}),
        ([frame("http", "<html>", "502"), *OPENED], {"rest": "answered 502: expected the answer"}),
        ([frame("http", '{"errors":[{"msg":"slow"}]}', "429"), *OPENED], {"rest": "slow"}),
        ([ANSWER, frame("close", "ConnectionRefusedError", "0")], {"socket": "RefusedError"}),
        ([ANSWER, OPENED[0], OPENED[1]], {"socket": "did not confirm what was asked"}),
        ([ANSWER, frame("close", REFUSED, "0")], {"socket": REFUSED, "tls": REFUSED}),
    ],
)
def test_what_does_not_answer_is_told_in_the_networks_words(
    says: Callable[[list[Frame]], None], frames: list[Frame], expected: dict[str, str]
) -> None:
    """Nothing is waited for longer than some seconds, and no clock is judged unheard."""
    says(frames)

    checks = {check.name: check for check in reach(NETWORKS["testnet"])}

    for name, words in expected.items():
        assert words in checks[name].seen
    assert {n for n, c in checks.items() if c.outcome == "failed"} >= {*expected} - {"tls"}
    assert (checks["tls"].outcome == "failed") == (expected.get("tls") == REFUSED)


def test_a_refusal_on_the_socket_is_no_answer(says: Callable[[list[Frame]], None]) -> None:
    """It names the channel, and brings nothing of it."""
    says([ANSWER, *OPENED[:2], frame("ws", '{"type":"error","channel":"v4_markets"}')])

    assert outcomes(reach(NETWORKS["testnet"]))["socket"] == "failed"


def test_plain_text_is_for_the_local_venue_alone(says: Callable[[list[Frame]], None]) -> None:
    """To a real network it fails, whatever it answers."""
    from dataclasses import replace

    says([ANSWER, *OPENED, BLOCK])
    plain = replace(NETWORKS["testnet"], ws="ws://127.0.0.1:9")

    assert outcomes(reach(plain))["tls"] == "failed"
    assert outcomes(reach(NETWORKS["local"]))["tls"] == "ok"


def test_what_a_venue_really_said_is_enough(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The beginning of a recording holds all that is looked for; exit code 0."""

    def live(_: Network, __: list[str], **given: Any) -> Observable[Frame]:
        return replay("quickstart", **given)

    monkeypatch.setattr(bot.doctor, "live", live)

    assert main(["doctor", "--network", "local"]) == 0
    assert "8 of 8 fine" in capsys.readouterr().out


def test_a_network_that_is_not_there_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, and the checks that failed are named."""
    nowhere = ["--rest", "http://127.0.0.1:9", "--ws", "ws://127.0.0.1:9/v4/ws"]

    assert main(["doctor", "--network", "local", *nowhere]) == 1
    assert "failed: rest, socket" in capsys.readouterr().out
