"""The doctor: each check with its outcome, and what would stop a run."""

import json
from typing import Any

import dydx_conn
import pytest
from bot.__main__ import main
from bot.doctor import machine
from bot.environment import Check
from dydx_conn import ChainTip, Frame, Network, NetworkError, replay
from reactivex import Observable


def outcomes(checks: Any) -> dict[str, str]:
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


@pytest.fixture(params=[1, 10**18], ids=["just booted", "up for decades"])
def recorded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a recording stand in for the indexer, and its first block for the node.

    A recording's monotonic stamps are another machine's: what this one's clock shows is nothing
    to them, just booted or not.
    """
    monkeypatch.setattr("time.monotonic_ns", lambda: request.param)
    block = next(f for f in dydx_conn.collect(replay("quickstart")) if f.channel == HEIGHT)
    height, time_ns = _block(block)
    tip = ChainTip("localdydxprotocol", height, time_ns, time_ns)

    def live(_: Network, __: list[str], **given: Any) -> Observable[Frame]:
        return replay("quickstart", pace=given["pace"])

    monkeypatch.setattr("bot.environment.live", live)
    monkeypatch.setattr("bot.environment.chain_tip", lambda _: tip)


HEIGHT = "v4_block_height"


def _block(frame: Frame) -> tuple[int, int]:
    from datetime import datetime

    (block,) = dydx_conn.contents(frame)
    time_ns = int(datetime.fromisoformat(block.time).timestamp() * 1e9)
    return int(block.height or block.block_height), time_ns


@pytest.mark.usefixtures("recorded")
def test_what_a_venue_really_sent_is_enough(capsys: pytest.CaptureFixture[str]) -> None:
    """The beginning of a recording holds all that is looked for; exit code 0."""
    assert main(["doctor", "--network", "local"]) == 0

    assert "local: ok, 12 of 12 fine" in capsys.readouterr().out


@pytest.mark.usefixtures("recorded")
def test_json_is_what_a_health_endpoint_tells(capsys: pytest.CaptureFixture[str]) -> None:
    """The network's kind, both chain ids, the status and every check; nothing else is printed."""
    assert main(["doctor", "--network", "local", "--json"]) == 0

    result = json.loads(capsys.readouterr().out)
    assert result["network_type"] == "local"
    assert result["chain_id_expected"] == result["chain_id_reported"] == "localdydxprotocol"
    assert (result["status"], result["http_status"]) == ("ok", 200)
    assert "node" in [check["name"] for check in result["checks"]]
    assert "python" in [check["name"] for check in result["machine"]]


@pytest.mark.usefixtures("recorded")
def test_a_node_of_another_chain_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and what a health endpoint calls a bad request."""
    other = ChainTip("dydx-mainnet-1", 9, 0, 0)
    monkeypatch.setattr("bot.environment.chain_tip", lambda _: other)

    assert main(["doctor", "--network", "local"]) == 1
    assert "expected localdydxprotocol, got dydx-mainnet-1 from the node" in capsys.readouterr().out
    assert main(["doctor", "--network", "local", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["http_status"] == 400


def test_a_network_that_is_not_there_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and the checks that failed are named."""

    def silent(_: Network) -> ChainTip:
        raise NetworkError("nobody there")

    monkeypatch.setattr("bot.environment.chain_tip", silent)
    nowhere = ["--rest", "http://127.0.0.1:9", "--ws", "ws://127.0.0.1:9/v4/ws"]

    assert main(["doctor", "--network", "local", *nowhere]) == 1
    assert "local: unreachable" in (printed := capsys.readouterr().out)
    assert "failed: node, rest, socket" in printed


def test_a_check_is_a_value() -> None:
    """Two of the same are equal: results can be compared over time."""
    assert Check("node", "ok", "block 9") == Check("node", "ok", "block 9")
