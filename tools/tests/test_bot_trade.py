"""`bot trade` against the local venue: orders signed, accepted, filled, reported, taken back."""

import contextlib
import json
import os
import re
import signal
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import bot.database.tables
import bot.live.reconcile
import bot.live.trade
import bot.run.wire
import httpx
import msgspec
import pytest
from bot.__main__ import main
from bot.live.handle import request
from bot.run.handles import running
from dydx_conn import (
    LONG_TERM,
    AuditLog,
    ConnError,
    Inbox,
    Keys,
    Network,
    NotQueued,
    OrderRequest,
    Queued,
    Recording,
    Subaccount,
    Trader,
    perpetual_market,
    rest_contents,
)
from leaks import plant
from pydantic import SecretStr
from runbook import is_in, pages, typed
from servers import places, venue_process
from warm import Warm

# `harsh` in the check of that name.
HABITS = ("--habits", os.environ.get("TEST_VENUE_HABITS", "plain"))
# Where heights fall silent, the node is polled each 2 s: blocks must not come faster than they do.
SPEED = "1" if "harsh" in HABITS else "5"
NAMES = (
    "fills",
    "ends",
    "sweep",
    "flat",
    "halts",
    "two",
    "hand",
    "beside",
    "killed",
    "leaves",
    "warned",
    "bracketed",
    "compared",
    "fresh",
)
# No event is as late as this; a busy machine may be slow.
PATIENCE_S = 180 if "harsh" in HABITS else 60
# Each test has a wallet of its own, which holds nothing but what the faucet gives.
HEX = {name: plant(f"{number:02x}" * 32) for number, name in enumerate(NAMES, 0x41)}

# Buys 1,000 USDC of a market once, when it and the account have been known for a while; what was
# denied or did not fill is tried again.
STRATEGY = """
from dydx_strategy import Decision, Pace

WAIT_NS = 3_000_000_000


class Once:
    name = "once"
    pace = Pace(throttle_s=0, debounce_s=0, back_off_s=0)

    def __init__(self):
        self.due = 0

    def learn(self, outcome):
        if outcome.kind in ("denied", "expired"):
            self.due = outcome.at + 10_000_000_000

    def step(self, scored, held):
        self.due = self.due or scored.at + WAIT_NS
        if scored.at >= self.due and not held:
            self.due = 2**63
            yield Decision.of(scored, 1_000.0, "once")


strategy = Once
"""


@dataclass
class Running:
    """A venue in a process of its own, as a network file names it."""

    file: Path
    rest: str
    network: Network

    def fund(self, address: str, usdc: int = 10_000, number: int = 0) -> None:
        """Open an account with money out of nowhere."""
        payment = {"address": address, "subaccountNumber": number, "amount": usdc}
        assert httpx.post(f"{self.rest}/faucet/tokens", json=payment).status_code == 202
        path = f"{self.rest}/v4/addresses/{address}/subaccountNumber/{number}"
        # Each replica in turn may be queried.
        self.wait(lambda: all(b'"subaccount"' in httpx.get(path).content for _ in range(16)))

    def wait(self, until: Callable[[], bool]) -> None:
        """Wait until a query's answer is as expected."""
        end = time.monotonic() + PATIENCE_S
        while not until():
            assert time.monotonic() < end
            time.sleep(0.1)

    def answer(self, path: str, begin: str) -> Any:
        """Query the indexer, again where what comes does not begin as an answer does."""
        found: list[Any] = []

        def answered() -> bool:
            answer = httpx.get(self.rest + path)
            if answer.status_code == 200 and answer.text.startswith(begin):
                found.append(rest_contents(path, answer.text))
            return bool(found)

        self.wait(answered)
        return found[0]

    def market(self, ticker: str) -> Any:
        """Query the indexer for a market."""
        return self.answer("/v4/perpetualMarkets", '{"markets"').markets[ticker]

    def orders(self, address: str) -> list[Any]:
        """Query the indexer for an account's orders."""
        found: list[Any] = self.answer(f"/v4/orders?address={address}&subaccountNumber=0", "[")
        return found

    def filled(self, address: str, count: int) -> list[Any]:
        """Wait until so many of an account's orders are filled; others may be over without."""
        rows: list[Any] = []

        def there() -> bool:
            rows[:] = [row for row in self.orders(address) if row.status == "FILLED"]
            return len(rows) == count

        self.wait(there)
        return rows

    def until(self, address: str, statuses: set[str], count: int = 1) -> None:
        """Wait until an account has so many orders and each is in one of these states."""

        def there() -> bool:
            rows = self.orders(address)
            return len(rows) == count and {row.status for row in rows} <= statuses

        self.wait(there)


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Run one venue for all tests of this file."""
    with venue_process("--speed", SPEED, *HABITS, patience_s=PATIENCE_S) as found:
        file = found.write(tmp_path_factory.mktemp("venue") / "venue.toml")
        yield Running(file, found.fields["rest"], Network(**found.fields))


@pytest.fixture(autouse=True)
def own_places(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no other bot of this machine be found, and nothing be left on it."""
    # Not below tmp_path: the path of a socket may be no longer than 107 characters.
    with tempfile.TemporaryDirectory(prefix="bot-") as folder:
        for name, place in places(Path(folder)).items():
            monkeypatch.setenv(name, place)
        yield


@pytest.fixture
def once(tmp_path: Path) -> Path:
    """Write the strategy to a file, as a person would."""
    path = tmp_path / "once.py"
    path.write_text(STRATEGY)
    return path


@pytest.fixture
def key(venue: Running, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Keys]:
    """Put a funded key into the environment."""

    def put(name: str) -> Keys:
        monkeypatch.setenv("DYDX_PRIVATE_KEY", HEX[name])
        keys = Keys(SecretStr(HEX[name]))
        venue.fund(keys.address)
        return keys

    return put


def words(path: Path) -> list[dict[str, Any]]:
    """Read an audit log."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def filled(recorded: Path) -> bool:
    """Return whether a recording in the making holds an order's fill and its end.

    Where the socket falls silent, REST reports them.
    """
    texts = [f.text for f in Recording(recorded)] if recorded.exists() else []
    return all(any(part in text for text in texts) for part in ('"FILLED"', '"fills":[{'))


def test_an_order_is_signed_accepted_filled_and_reported(
    venue: Running,
    once: Path,
    key: Callable[[str], Keys],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What it lived replays to the same bytes, and nothing written holds the key."""
    keys, recorded, audit = key("fills"), tmp_path / "run.jsonl.zst", tmp_path / "audit.jsonl"
    typed = ["--network", str(venue.file), "--tickers", "BTC-USD", "--strategy", str(once)]
    typed += ["--record", str(recorded), "--audit", str(audit), "--seconds", "300", "--json"]

    assert ended_by_ctrl_c(["trade", *typed], when=lambda: filled(recorded)) == 0
    lived = json.loads(capsys.readouterr().out)
    assert main(["replay", str(recorded), "--strategy", str(once), "--json"]) == 0
    replayed = json.loads(capsys.readouterr().out)

    assert lived["orders"].get("FILLED") == 1, lived["orders"]
    assert lived["fills"] >= 1
    assert lived["money_usdc"]["deposit"] == 10_000
    assert lived["money_usdc"]["fees_paid"] > 0
    assert 9_900 < lived["money_usdc"]["equity"] < 10_100
    assert len(venue.filled(keys.address, 1)) == 1
    assert replayed["run_hash"] == lived["run_hash"]
    assert replayed["money_usdc"] == lived["money_usdc"]
    events = {line["event"] for line in words(audit)}
    assert {"trading", "node sent", "node broadcast", "socket open", "rest", "ended"} <= events
    assert HEX["fills"] not in audit.read_text()
    happened = [line["event"] for line in words(Path(lived["log"]))]
    assert happened[-1] == "run_ended"
    known = {"run_began", "connection", "verdict_approved", "order_placed", "order_filled", "fill"}
    assert known <= {*happened}


def test_a_trade_that_is_flattened_leaves_nothing_behind(
    venue: Running,
    once: Path,
    key: Callable[[str], Keys],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What it bought is sold when it is ended, by an order that can only reduce; it replays."""
    keys, recorded, audit = key("flat"), tmp_path / "run.jsonl.zst", tmp_path / "audit.jsonl"
    # Not while the account is queried by REST, 3 s after the start: the stand-in's answer may
    # then be ahead of the height that it names.
    once.write_text(STRATEGY.replace("WAIT_NS = 3", "WAIT_NS = 5"))
    typed = ["--network", str(venue.file), "--tickers", "BTC-USD", "--strategy", str(once)]
    typed += ["--record", str(recorded), "--audit", str(audit), "--seconds", "300", "--json"]

    assert ended_by_ctrl_c(["trade", *typed, "--flatten"], when=lambda: filled(recorded)) == 0
    lived = json.loads(capsys.readouterr().out)
    assert main(["replay", str(recorded), "--strategy", str(once), "--json"]) == 0
    replayed = json.loads(capsys.readouterr().out)

    assert lived["open"] == []
    assert lived["orders"].get("FILLED") == 2, lived["orders"]
    orders = venue.filled(keys.address, 2)
    assert {(order.side, order.reduce_only) for order in orders} == {("BUY", False), ("SELL", True)}
    assert lived["gate"]["reasons"] == {"HALTED": "halted: the run ends (by end)"}
    assert next(line["what"] for line in words(audit) if line["event"] == "act") == "flatten"
    assert replayed["run_hash"] == lived["run_hash"]


@pytest.mark.parametrize("command", ["paper", "trade"])
def test_a_live_bot_is_halted_from_another_terminal(
    command: str,
    venue: Running,
    key: Callable[[str], Keys],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It shows at once, stays so when it is started again, and its recording replays it."""
    key("halts")
    recorded, audit = tmp_path / "run.jsonl.zst", str(tmp_path / "audit.jsonl")
    typed = [command, "--network", str(venue.file), "--tickers", "BTC-USD", "--json"]
    typed += ["--audit", audit] if command == "trade" else []

    first = started(*typed, "--record", str(recorded))
    assert main(["halt", "--why", "a headline"]) == 0
    reported = capsys.readouterr().out
    lived = ended(first)
    again = started(*typed)
    assert main(["status"]) == 1
    stands = capsys.readouterr().out
    assert main(["resume", str(again.pid)]) == 0
    ended(again)
    last = started(*typed)
    capsys.readouterr()
    assert main(["status", "--json"]) == 0
    resumed = json.loads(capsys.readouterr().out)
    ended(last)
    assert main(["replay", str(recorded), "--json"]) == 0
    replayed = json.loads(capsys.readouterr().out)

    assert f"{first.pid}, {command.upper()} venue BTC-USD" in reported
    assert "halted: a headline (by command)" in reported
    assert "halted: a headline (by command, and nobody resumed) (by restart)" in stands
    assert resumed["gate"] == {"state": "ACTIVE", "reasons": {}}
    assert [row["words"] for row in lived["samples"]["acts"]] == ["halt by command: a headline"]
    assert replayed["run_hash"] == lived["run_hash"]


def test_a_second_bot_on_a_subaccount_is_refused_and_one_on_another_is_not(
    venue: Running,
    key: Callable[[str], Keys],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before it sends anything, with the number of the first; which is killed, and locks nobody."""
    venue.fund(key("two").address, number=1)
    typed = ["--network", str(venue.file), "--tickers", "BTC-USD", "--json", "--audit"]

    first = started("trade", *typed, str(tmp_path / "first.jsonl"))
    other = started("trade", *typed, str(tmp_path / "other.jsonl"), "--subaccount", "1")
    assert main(["trade", *typed, str(tmp_path / "second.jsonl")]) == 2
    refused = capsys.readouterr().err
    monkeypatch.setenv("DYDX_PRIVATE_KEY", HEX["two"])  # it was taken out of the environment
    ended(other)
    first.kill()
    first.printed(PATIENCE_S)
    ended(started("trade", *typed, str(tmp_path / "again.jsonl")))

    assert f"got bot trade as process {first.pid}: bot status {first.pid} shows it" in refused
    assert not (tmp_path / "second.jsonl").exists()


def by_hand(venue: Running, keys: Keys, audit: Path, client_id: int) -> None:
    """Buy 0.01 BTC at once, as a client that is no bot does."""
    markets = {"BTC-USD": perpetual_market(venue.market("BTC-USD"))}
    worst = markets["BTC-USD"].ceil_subticks(str(float(venue.market("BTC-USD").oracle_price) * 1.1))
    with (
        AuditLog(audit) as log,
        Trader(
            venue.network, keys, Subaccount(keys.address, 0), Inbox(), log, markets=markets
        ) as trader,
    ):
        order = OrderRequest(
            ticker="BTC-USD", clob_pair_id=0, side="BUY", quantums=100_000_000, subticks=worst,
            time_in_force="IOC", client_id=client_id, good_til_block=trader.height + 15,
        )  # fmt: skip
        assert isinstance(trader.submit(order), Queued)


def standing(pid: int) -> dict[str, Any]:
    """Query a running bot for its status, which it gives between two frames."""
    found: dict[str, Any] = request(running()[pid], "status")["status"]
    return found


def test_what_another_client_trades_halts_the_bot(
    venue: Running, key: Callable[[str], Keys], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under its own reason, until it is resumed; its recording replays to the same bytes."""
    keys, recorded = key("hand"), tmp_path / "run.jsonl.zst"
    typed = ["--network", str(venue.file), "--tickers", "BTC-USD", "--json", "--audit"]
    typed += [str(tmp_path / "audit.jsonl"), "--record", str(recorded)]

    bot_run = started("trade", *typed)
    by_hand(venue, keys, tmp_path / "hand.jsonl", 3_999_999_999)
    venue.wait(lambda: standing(bot_run.pid)["gate"]["state"] == "HALTED")
    stands = standing(bot_run.pid)
    assert main(["resume", str(bot_run.pid)]) == 0
    capsys.readouterr()
    lived = ended(bot_run)
    assert main(["replay", str(recorded), "--json"]) == 0
    replayed = json.loads(capsys.readouterr().out)

    assert "client id 3999999999" in stands["gate"]["reasons"]["FOREIGN"]
    assert is_in(
        pages()["A stranger at the account"].shows[0], stands["gate"]["reasons"]["FOREIGN"]
    )
    assert [row["words"].split(":")[0] for row in lived["samples"]["acts"]] == [
        "halt by account", "resume by command"
    ]  # fmt: skip
    assert replayed["run_hash"] == lived["run_hash"]


def test_a_hand_beside_the_bot_is_left_its_market(
    venue: Running, key: Callable[[str], Keys], tmp_path: Path
) -> None:
    """What it holds is counted, and the bot goes on."""
    keys = key("beside")
    typed = ["--network", str(venue.file), "--tickers", "BTC-USD", "--json", "--hand-beside"]

    bot_run = started("trade", *typed, "--audit", str(tmp_path / "audit.jsonl"))
    by_hand(venue, keys, tmp_path / "hand.jsonl", 3_999_999_999)
    venue.wait(lambda: bool(standing(bot_run.pid)["positions"]))
    venue.wait(lambda: standing(bot_run.pid)["by_hand"] == ["BTC-USD"])
    stands = standing(bot_run.pid)
    ended(bot_run)

    assert stands["gate"]["state"] == "ACTIVE"
    assert [row["ticker"] for row in stands["positions"]] == ["BTC-USD"]


def stored(url: str, address: str, **held: str) -> None:
    """Store that a run of an account left positions: sizes by ticker."""
    engine = bot.database.tables.engine_of(url)
    bot.database.tables.upgrade(engine)
    tables, at = bot.database.tables.TABLES, time.time_ns() - 600 * 10**9
    ours = {"chain_id": "localdydxprotocol", "account": f"{address}/0"}
    with engine.begin() as connection:
        run = {"mode": "trade", "state": "running", "process": "0"}
        connection.execute(tables["runs"].insert().values(**ours, **run, began=at))
        state = {"what": "collateral", "state": "0"}
        connection.execute(tables["states"].insert().values(**state, run_id=1, n=1, seq=1, at=at))
        for name, size in held.items():
            row = {"position_id": name, "ticker": f"{name}-USD", "side": "LONG", "size": size}
            row |= {**ours, "status": "OPEN"}
            connection.execute(
                tables["positions"]
                .insert()
                .values(**row, opened=at, updated=at, run_id=1, ledger=0)
            )
    engine.dispose()


def test_what_the_last_run_left_is_compared_with_the_indexer_and_the_chain(
    venue: Running, key: Callable[[str], Keys], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was traded since is explained by its fill; what is not explained begins halted."""
    keys, recorded = key("compared"), tmp_path / "run.jsonl.zst"
    us, none = Subaccount(keys.address, 0), str(tmp_path / "none.db")
    by_hand(venue, keys, tmp_path / "hand.jsonl", 3_999_999_999)
    [fill] = venue.filled(keys.address, 1)
    stored(flat := str(tmp_path / "flat.db"), keys.address)
    stored(bot.database.tables.default_url(), keys.address, BTC="0.01", ETH="5")
    typed = ["--network", str(venue.file), "--tickers", "BTC-USD", "--json", "--audit"]
    typed += [str(tmp_path / "audit.jsonl"), "--record", str(recorded)]

    bot.live.reconcile.reconcile(venue.network, us, Inbox(), none)
    alone = capsys.readouterr().err
    bot.live.reconcile.reconcile(venue.network, us, Inbox(), flat)
    explained = capsys.readouterr().err
    bot_run = started("trade", *typed)
    stands = standing(bot_run.pid)
    assert main(["resume", str(bot_run.pid)]) == 0
    lived = ended(bot_run)
    capsys.readouterr()
    assert main(["replay", str(recorded), "--json"]) == 0
    replayed = json.loads(capsys.readouterr().out)

    assert fill.size == "0.01"
    assert f"{us} is known from no earlier run: the indexer at block" in alone
    assert "BTC-USD: the last run left +0, the indexer has +0.01 at block" in explained
    assert ": 0.01 was bought while no bot ran: fill " in explained
    assert (
        "ETH-USD: the last run left +5, the indexer has +0" in stands["gate"]["reasons"]["HALTED"]
    )
    assert lived["gate"]["reasons"] == {}
    assert [row["words"].partition(":")[0] for row in lived["samples"]["acts"]] == [
        "note by reconcile", "note by reconcile", "halt by reconcile", "resume by command"
    ]  # fmt: skip
    assert replayed["run_hash"] == lived["run_hash"]
    noted = [word["why"] for word in words(tmp_path / "audit.jsonl") if word["event"] == "act"]
    assert len(noted) == 4


def test_drill_leaked_key(
    venue: Running,
    key: Callable[[str], Keys],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As the runbook has it: what a thief bought is sold, what he placed is gone; a new key is made.

    Without a bot that runs, by a key in a file.
    """
    page, keys, log = pages()["Leaked key"], key("leaves"), tmp_path / "hand.jsonl"
    given = {"NETWORK": str(venue.file), "FILE": str(tmp_path / "old")}
    given |= {"NEWFILE": str(tmp_path / "new")}
    halt, *steps = [typed(command, **given)[1:] for command in page.commands]

    def run(words: list[str], who: str = "leaves") -> int:
        """Type a command, with a key and a passphrase at hand."""
        monkeypatch.setenv("DYDX_PRIVATE_KEY", HEX[who])
        for variable in ("DYDX_PASSPHRASE", "DYDX_NEW_PASSPHRASE"):
            monkeypatch.setenv(variable, f"correct horse of {who}")
        return main(words)

    assert run(["keys", "save", given["FILE"]]) == 0
    path = f"/v4/perpetualPositions?address={keys.address}&subaccountNumber=0&status=OPEN"
    by_hand(venue, keys, log, 3_999_999_999)
    venue.wait(lambda: all(venue.answer(path, "{").positions for _ in range(16)))

    assert run(halt) == 2  # no bot runs here
    assert [run([*step, "--audit", str(log)]) for step in steps[:2]] == [0, 0]
    printed = capsys.readouterr().out
    assert [run(step, "fresh") for step in steps[2:]] == [0, 0]

    assert is_in(page.over[1], printed)
    assert f"{keys.address}/0: 1 of 1 positions are closed" in printed
    venue.wait(lambda: not any(venue.answer(path, "{").positions for _ in range(16)))
    sides = [(o.side, o.reduce_only) for o in venue.filled(keys.address, 2)]
    assert sides.count(("SELL", True)) == 1
    assert keys.address not in capsys.readouterr().out


def test_flatten_is_done_by_the_bot_that_runs_there(
    venue: Running,
    once: Path,
    key: Callable[[str], Keys],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the key and without; it is halted then, and so is the next run."""
    key("warned")
    typed = ["--network", str(venue.file), "--tickers", "BTC-USD", "--json", "--strategy"]
    typed += [str(once), "--audit"]

    bot_run = started("trade", *typed, str(tmp_path / "audit.jsonl"))
    venue.wait(lambda: bool(standing(bot_run.pid)["positions"]))
    assert main(["flatten", "--network", str(venue.file), "--why", "a headline"]) == 0
    flat = capsys.readouterr().out
    assert main(["flatten"]) == 0  # no key is left in the environment: it is the one that runs
    ended(bot_run)
    monkeypatch.setenv("DYDX_PRIVATE_KEY", HEX["warned"])
    again = started("trade", *typed, str(tmp_path / "again.jsonl"))
    stands = standing(again.pid)
    ended(again)

    assert f"run          {bot_run.pid}, TRADE" in flat
    assert "halted: a headline (by command)" in flat
    assert "no position is held" in flat
    assert stands["gate"]["state"] == "HALTED"


def test_a_bot_that_was_killed_knows_its_own_orders_when_it_is_started_again(
    venue: Running,
    once: Path,
    key: Callable[[str], Keys],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it sent last is in flight: it fills in the next run, and halts nothing."""
    keys = key("killed")
    typed = ["--network", str(venue.file), "--tickers", "BTC-USD", "--json"]
    typed += ["--strategy", str(once), "--audit"]

    first = started("trade", *typed, str(tmp_path / "first.jsonl"))
    log = tmp_path / "first.jsonl"
    venue.wait(lambda: log.exists() and any(w["event"] == "node sent" for w in words(log)))
    first.kill()
    first.printed(PATIENCE_S)
    monkeypatch.setenv("DYDX_PRIVATE_KEY", HEX["killed"])
    again = started("trade", *typed, str(tmp_path / "again.jsonl"))
    venue.wait(lambda: bool(standing(again.pid)["positions"]))
    # On a busy machine its frames may be late for a moment.
    venue.wait(lambda: standing(again.pid)["gate"]["state"] != "REDUCING")
    stands = standing(again.pid)
    ended(again)

    assert stands["gate"]["state"] == "ACTIVE", stands
    assert keys.address in stands["account"]


BRACKETS = """once",
            stop_loss=scored.view.oracle.price * 0.7, take_profit=scored.view.oracle.price * 1.4"""


def test_brackets_survive_a_bot_that_was_killed_and_go_with_their_position(
    venue: Running,
    once: Path,
    key: Callable[[str], Keys],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The next run finds them by their client ids, sends no other, and takes them back in time."""
    address = key("bracketed").address
    once.write_text(STRATEGY.replace('once")', f"{BRACKETS})"))
    typed = ["--network", str(venue.file), "--tickers", "BTC-USD", "--json"]
    typed += ["--strategy", str(once), "--audit"]

    def brackets(status: str = "UNTRIGGERED") -> set[tuple[str, str]]:
        orders = venue.orders(address)
        return {(each.id, each.type) for each in orders if each.status == status}

    def covered() -> bool:
        # An order that fills in two halves has brackets in two pieces.
        where = f"/v4/perpetualPositions?address={address}&subaccountNumber=0&status=OPEN"
        held = {abs(Decimal(row.size)) for row in venue.answer(where, "{").positions}
        sizes = defaultdict[str, Decimal](Decimal)
        for each in venue.orders(address):
            sizes[each.type] += Decimal(each.size) * (each.status == "UNTRIGGERED")
        return bool(held) and {sizes["STOP_LIMIT"], sizes["TAKE_PROFIT"]} == held

    first = started("trade", *typed, str(tmp_path / "first.jsonl"))
    venue.wait(covered)
    first.kill()
    first.printed(PATIENCE_S)
    stood = brackets()
    again = started("trade", *typed, str(tmp_path / "again.jsonl"))
    venue.wait(lambda: bool(standing(again.pid)["positions"]))
    time.sleep(1)
    survived, gate = brackets(), standing(again.pid)["gate"]["state"]
    assert main(["flatten", "--network", str(venue.file)]) == 0
    venue.wait(lambda: not brackets())
    ended(again)

    assert (survived, gate) == (stood, "ACTIVE")
    assert {kind for _, kind in stood} == {"STOP_LIMIT", "TAKE_PROFIT"}
    assert stood <= brackets("CANCELED")
    sent = [w["content"] for w in words(tmp_path / "again.jsonl") if w["event"] == "node sent"]
    placed = [each["place"] for each in sent if "place" in each]
    assert [each["reduce_only"] for each in placed] == [True] * len(placed) != []
    # Where the exit fills in two halves, what leaves the rest is as small as that.
    exits = [each["quantums"] for each in placed if each["order_flags"] == 0]
    others = [each["quantums"] for each in placed if each["order_flags"] != 0]
    assert all(quantums < max(exits) for quantums in others)
    assert "no position is held" in capsys.readouterr().out


def started(*typed: str) -> Warm:
    """Start a bot in a process of its own; wait until it knows its account."""
    run = Warm(typed)
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        assert run.returncode is None
        if run.pid in (found := running()):
            reported = request(found[run.pid], "status")["status"]
            if "UNKNOWN_ACCOUNT" not in reported["gate"]["reasons"]:
                break
        time.sleep(0.05)
    return run


def ended(run: Warm) -> dict[str, Any]:
    """End a bot as Ctrl-C does; return its report."""
    run.interrupt()
    report: dict[str, Any] = json.loads(run.printed(PATIENCE_S))
    assert run.returncode == 0
    return report


def ended_by_ctrl_c(typed: list[str], when: Callable[[], bool]) -> int:
    """Run a command, interrupt it when something has happened; return its exit code."""
    over = threading.Event()

    def interrupt() -> None:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and not over.wait(0.1):
            with contextlib.suppress(ConnError):  # what is recorded has just begun
                if when():
                    break
        if not over.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    person = threading.Thread(target=interrupt)
    person.start()
    try:
        return main(typed)
    finally:
        over.set()
        person.join()


class Resting(Trader):
    """A trader whose orders rest far from the market: there is something to take back."""

    def submit(self, order: Any, number: int | None = None) -> Queued | NotQueued:
        if isinstance(order, OrderRequest):
            far = order.subticks // 2 // 100_000 * 100_000
            end = self.height + 20
            order = msgspec.structs.replace(
                order, subticks=far, time_in_force="GTT", good_til_block=end
            )
        return super().submit(order, number)


def test_ctrl_c_takes_what_is_open_off_the_books_and_then_reports(
    venue: Running,
    once: Path,
    key: Callable[[str], Keys],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The cancel is answered before the sources are let go; exit code 0."""
    keys = key("ends")
    monkeypatch.setattr(bot.live.trade, "Trader", Resting)
    typed = ["--network", str(venue.file), "--tickers", "BTC-USD", "--strategy", str(once)]
    typed += ["--audit", str(tmp_path / "audit.jsonl"), "--seconds", "300", "--plain"]

    def resting() -> bool:
        return any(order.status == "BEST_EFFORT_OPENED" for order in venue.orders(keys.address))

    assert ended_by_ctrl_c(["trade", *typed], when=resting) == 0

    assert "run hash" in capsys.readouterr().out
    venue.until(keys.address, {"BEST_EFFORT_CANCELED", "CANCELED"})
    ended = words(tmp_path / "audit.jsonl")[-1]
    assert (ended["event"], ended["open"], ended["refusals"]) == ("ended", [], {})


def test_cancel_all_takes_off_what_others_placed(
    venue: Running,
    key: Callable[[str], Keys],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Short-term and long-term, of a run that is long over; exit code 0."""
    keys = key("sweep")
    us, audit = Subaccount(keys.address, 0), tmp_path / "audit.jsonl"
    markets = bot.run.wire.WireVenue(us).markets
    markets["BTC-USD"] = perpetual_market(venue.market("BTC-USD"))
    resting = OrderRequest(
        ticker="BTC-USD",
        clob_pair_id=0,
        side="BUY",
        quantums=10_000_000,
        subticks=5_000_000_000,
        time_in_force="GTT",
        client_id=1,
    )
    with (
        AuditLog(audit) as log,
        Trader(venue.network, keys, us, Inbox(), log, markets=markets) as trader,
    ):
        short = msgspec.structs.replace(resting, good_til_block=trader.height + 20)
        lasting = msgspec.structs.replace(
            resting, client_id=2, order_flags=LONG_TERM, good_til_block_time=trader.time + 3600
        )
        assert isinstance(trader.submit(short), Queued)
        assert isinstance(trader.submit(lasting), Queued)
    venue.wait(lambda: all(len(venue.orders(keys.address)) == 2 for _ in range(3)))

    typed = ["--network", str(venue.file), "--audit", str(audit)]
    assert main(["cancel-all", *typed]) == 0

    # The short-term one may be over before the indexer knows of it.
    assert re.search(r"([12]) of \1 orders are off the books", capsys.readouterr().out)
    venue.until(keys.address, {"BEST_EFFORT_CANCELED", "CANCELED"}, count=2)


def test_the_doctor_finds_the_venue_fit_and_another_chain_not(
    venue: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The node names its chain; the exit code is 1 where it is not the one expected."""
    other = tmp_path / "other.toml"
    other.write_text(venue.file.read_text().replace("localdydxprotocol", "dydx-testnet-4"))

    assert main(["doctor", "--network", str(venue.file), "--json"]) == 0
    fine = json.loads(capsys.readouterr().out)
    assert main(["doctor", "--network", str(other), "--json"]) == 1
    wrong = json.loads(capsys.readouterr().out)

    assert (fine["status"], fine["http_status"]) == ("ok", 200)
    assert (wrong["status"], wrong["http_status"]) == ("mismatch", 400)
    assert wrong["chain_id_reported"] == "localdydxprotocol"


def test_nothing_is_signed_for_another_chain(
    venue: Running, key: Callable[[str], Keys], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A trade is refused before it begins: exit code 2, and no log of orders."""
    key("fills")
    other = tmp_path / "other.toml"
    other.write_text(venue.file.read_text().replace("localdydxprotocol", "fork-1"))
    audit = tmp_path / "audit.jsonl"

    typed = ["--network", str(other), "--yes-orders", "--audit", str(audit), "--plain"]
    assert main(["trade", *typed]) == 2

    reported = capsys.readouterr().err
    assert "got localdydxprotocol from the node" in reported
    assert not audit.exists()


def test_an_account_without_money_does_not_trade(
    venue: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The venue does not know it."""
    monkeypatch.setenv("DYDX_PRIVATE_KEY", "51" * 32)

    assert main(["trade", "--network", str(venue.file), "--plain"]) == 2

    assert "expected money in dydx1" in capsys.readouterr().err


def test_the_networks_value_and_its_file_are_the_same(venue: Running) -> None:
    """What a person writes down is what is connected to."""
    from bot.config.environment import read_network

    assert read_network(venue.file) == replace(venue.network)
