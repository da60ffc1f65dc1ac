"""`bot watch` and `bot account` on the stand-in: three residents, and what its ledger holds."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from bot.__main__ import main
from bot.run.composition import Options
from bot.watch.address import target
from bot.watch.command import channels, tickers_of
from bot.watch.group import Group
from bot.watch.node import Node
from bot.watch.reading import read, seen_on_chain
from dydx_conn import Frame, Inbox, Network, Subaccount, chain_state, live

VENUE = Path(__file__).parent.parent / "venue"
BLOCKS = 8  # in which residents trade, before the venue stands still
PATIENCE_NS = 60 * 10**9


class Running(NamedTuple):
    """A venue in a process of its own, as a network file names it."""

    file: Path
    network: Network
    residents: dict[str, Subaccount]
    process: "subprocess.Popen[str]"

    def hold(self) -> None:
        """Let no more venue time pass."""
        self.process.send_signal(signal.SIGUSR1)


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Run one venue for all tests of this file."""
    ports = ["--port", "0", "--ws-port", "0", "--grpc-port", "0", "--speed", "5"]
    process = subprocess.Popen(
        [sys.executable, str(VENUE), *ports], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if line.startswith("Ctrl-C"):
            break
    patterns = {"rest": r"REST\s+(\S+)", "ws": r"(\S+/v4/ws)", "node": r"node gRPC\s+(\S+)"}
    found = {name: re.search(pattern, printed) for name, pattern in patterns.items()}
    fields: dict[str, Any] = {name: match[1] for name, match in found.items() if match}
    fields |= {"name": "venue", "chain_id": "localdydxprotocol"}
    residents = {
        name: Subaccount(owner, 0) for owner, name in re.findall(r"(dydx1\w+)/0\s+(\w+)", printed)
    }
    file = tmp_path_factory.mktemp("venue") / "venue.toml"
    file.write_text("".join(f'{name} = "{text}"\n' for name, text in fields.items()))
    try:
        yield Running(file, Network(**fields), residents, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        process.stdout.close()


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the shell that runs the tests may have set."""
    monkeypatch.setenv("DYDX_CONFIG", "none")
    for name in [name for name in os.environ if name.startswith("DYDX__")]:
        monkeypatch.delenv(name)


def test_three_accounts_agree_with_the_ledger_at_a_named_block(
    venue: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    """Folded live while they trade: to the quantum what the stand-in holds, once it stands still.

    And printed once, without a key, the same; all views agree.
    """
    chosen = [venue.residents[name] for name in ("quoter", "follower", "gambler")]
    targets = [target(str(whose)) for whose in chosen]
    readings = read(venue.network, targets)
    group, inbox = Group(targets, Options(), chosen), Inbox()
    began: list[int] = []
    ends: list[int] = []

    def pace(frame: Frame) -> bool:
        height = group.data.chain.height
        began[:] = began or [height] * bool(height)
        if began and height >= began[0] + BLOCKS and not ends:
            venue.hold()
            ends.append(frame.mono + PATIENCE_NS)
        if not ends:
            return True
        blocks = {group.block(whose) for whose in chosen}
        held = len(blocks) == 1 and None not in blocks and group.no_chain == ""
        settled = held and chain_state(venue.network, chosen).height == next(iter(blocks))
        return not settled and frame.mono < ends[0]

    typed: Any = type("Typed", (), {"tickers": None, "config": None})
    tickers = tickers_of(typed(), readings)
    with Node(venue.network, inbox, lambda: chosen, every_s=0.5):
        group.run(live(venue.network, tickers, also=channels(readings), pace=pace, inbox=inbox))

    state = chain_state(venue.network, chosen)
    for whose in chosen:
        risk, truth = group.bots[whose].risk, seen_on_chain(state, whose)
        assert truth.margin is not None
        assert group.block(whose) == state.height
        assert risk.margin.net_collateral == truth.margin.net_collateral
        assert risk.margin.maintenance_margin == truth.margin.maintenance_margin
        assert risk.account.settled == truth.collateral
    assert main(["account", *map(str, chosen), "--network", str(venue.file), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["accounts"]
    for whose, row in zip(chosen, rows, strict=True):
        truth = seen_on_chain(state, whose)
        assert truth.margin is not None
        assert row["chain"]["height"] == state.height
        assert row["chain"]["net_collateral"] == f"{truth.margin.net_collateral / 10**6:.6f}"
        assert abs(float(row["indexer"]["equity"]) - truth.margin.net_collateral / 1e6) < 1e-4
        assert {each["explained"] for each in row["differences"]} <= {True}


def test_who_was_never_funded_is_no_account(
    venue: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the indexer nor the node knows anything of it."""
    stranger = f"{venue.residents['quoter'].owner}/77"

    assert main(["account", stranger, "--network", str(venue.file)]) == 2
    assert main(["watch", stranger, "--network", str(venue.file)]) == 2
    assert "the chain holds nothing of it at block" in capsys.readouterr().err
