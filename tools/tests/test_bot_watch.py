"""`bot watch` and `bot account` on the stand-in: three residents, and what its ledger holds."""

import json
import os
import re
import signal
import subprocess
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
from servers import venue_process

BLOCKS = 8  # in which residents trade, before the venue stands still
PATIENCE_NS = 60 * 10**9
STILL_NS = 2 * 10**9  # less than what makes a height stale


class Running(NamedTuple):
    """A venue in a process of its own, as a network file names it."""

    file: Path
    network: Network
    residents: dict[str, Subaccount]
    process: "subprocess.Popen[str]"


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Run one venue for all tests of this file."""
    with venue_process("--speed", "5") as found:
        residents = {
            name: Subaccount(owner, 0)
            for owner, name in re.findall(r"(dydx1\w+)/0\s+(\w+)", found.printed)
        }
        file = found.write(tmp_path_factory.mktemp("venue") / "venue.toml")
        yield Running(file, Network(**found.fields), residents, found.process)


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the shell that runs the tests may have set."""
    monkeypatch.setenv("DYDX_CONFIG", "none")
    for name in [name for name in os.environ if name.startswith("DYDX__")]:
        monkeypatch.delenv(name)


class Moment:
    """Lets the venue stand still once residents have traded, until all accounts agree with it.

    What a resident does after a block is in the ledger at once, and reported with the next one:
    where that is so, two more blocks pass.
    """

    def __init__(self, venue: Running, group: Group, whose: list[Subaccount]) -> None:
        self._venue, self._group, self._whose = venue, group, whose
        self._due: int | None = None  # the height at which it is to stand still
        self._until: int | None = None  # until when agreement is waited for
        self._ends: int | None = None

    def pace(self, frame: Frame) -> bool:
        """Return whether to go on."""
        height = self._group.data.chain.height
        if self._ends is None and height:
            self._ends, self._due = frame.mono + PATIENCE_NS, height + BLOCKS
        if self._until is None:
            if self._due is not None and height >= self._due:
                self._venue.process.send_signal(signal.SIGUSR1)
                self._until = frame.mono + STILL_NS
        elif self._agrees():
            return False
        elif frame.mono > self._until:
            self._venue.process.send_signal(signal.SIGUSR2)
            self._until, self._due = None, height + 2
        return self._ends is None or frame.mono < self._ends

    def _agrees(self) -> bool:
        blocks = {self._group.block(each) for each in self._whose}
        if len(blocks) > 1 or None in blocks:
            return False
        state = chain_state(self._venue.network, self._whose)
        return state.height == next(iter(blocks))


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
    moment = Moment(venue, group, chosen)
    typed: Any = type("Typed", (), {"tickers": None, "config": None})
    tickers = tickers_of(typed(), readings)
    with Node(venue.network, inbox, lambda: chosen, every_s=0.5):
        group.run(
            live(venue.network, tickers, also=channels(readings), pace=moment.pace, inbox=inbox)
        )

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
