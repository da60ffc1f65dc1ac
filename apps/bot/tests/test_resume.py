"""What a run carries over from the one before it: a kill loses no more than the frame at hand."""

import contextlib
import itertools
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bot.database.remains import left_of
from bot.database.spill import Spill
from bot.database.tables import engine_of
from bot.database.writer import Writer
from bot.run.composition import Bot, Options
from bot.run.paper import Paper, paper_account
from bot.run.resume import ACCOUNT, Carrying, Left, beginning, beyond, carry_on, unused_id
from bot.run.wire import WireVenue
from dydx_conn import CONDITIONAL, ConnError, Frame, Inbox, Subaccount
from dydx_paper import (
    Entry,
    LedgerState,
    OrderRecord,
    VenueState,
    from_json,
    frozen,
    in_parts,
    ledger_state,
    resumed,
    to_json,
)
from dydx_risk import Levels, Memory, Policy, Risk
from hypothesis import given, settings
from hypothesis import strategies as st
from reactivex import from_iterable

CHAIN = "test"
PAPER = paper_account("paper")
BEGAN = itertools.count(1)
Put = Callable[[str, Any], None]


class Run:
    """A bot on frames, with what is beside it; it is killed after the last: nothing is to end."""

    def __init__(self, put: Put, left: Left | None = None, options: Options | None = None) -> None:
        self.bot = Bot(options or Options.of("reckless"))
        self.carrying, self.inbox = Carrying(self.bot.venue, self.bot.risk, put, left), Inbox()
        self.rows: list[tuple[str, Any]] = []
        self.first: list[Frame] = []
        self.states: dict[int, str] = {}  # the ledger after each frame in which it changed

    @property
    def ledger(self) -> LedgerState:
        """Return the ledger as it stands."""
        assert isinstance(self.bot.venue, Paper)
        return ledger_state(self.bot.venue.ledger)

    def on(self, frames: Sequence[Frame]) -> "Run":
        """Play frames, those of the inbox first."""
        self.carrying.begin(self.inbox)
        while (state := self.inbox.take(0, 0.0)) is not None:
            at = {"at": frames[0].at, "mono": frames[0].mono} if frames else {}
            self.first.append(msgspec.structs.replace(state, **at))

        def passing() -> Iterator[Frame]:
            last = 0
            for frame in (*self.first, *frames):
                digest = self.carrying._digest
                if digest is not None and digest.events:
                    self.states[last] = to_json(self.ledger)
                self.carrying.note(frame)
                last = frame.seq
                yield frame

        self.bot.run(from_iterable(passing()))
        return self


def row_of(left: Left | None, **more: Any) -> dict[str, Any]:
    """Return the row of a run that begins now."""
    return {
        "mode": "paper", "network": "x", "chain_id": CHAIN, "account": str(PAPER), "name": "x",
        "began": next(BEGAN), "process": "elsewhere 1 1",
        "ledger": left.ledger if left else None,
    } | more  # fmt: skip


def stored(
    url: str, frames: Sequence[Frame], left: Left | None = None, bot: Bot | None = None, **more: Any
) -> Run:
    """Run a bot whose rows go to a database."""
    writer = Writer(url, row_of(left, **more))
    writer.start()
    try:
        run = Run(writer.put, left)
        if bot is not None:
            run.bot = bot
            run.carrying = Carrying(bot.venue, bot.risk, writer.put, left, parts=bot.parts)
        return run.on(frames)
    finally:
        writer.close()


def text_of(row: dict[str, Any]) -> str:
    """Return a state as its column has it."""
    return str(msgspec.json.decode(row["data"]))


def required(url: str) -> Left:
    """Return what the last run left."""
    left = left_of(url, CHAIN, PAPER, paper=True)
    assert left is not None
    return left


@pytest.fixture(scope="module")
def whole(frames: list[Frame]) -> "Run":
    """Return a run of the whole crash, with its rows."""
    run = Run(lambda table, row: run.rows.append((table, row() if callable(row) else row)))
    return run.on(frames)


@settings(max_examples=15)
@given(st.data())
def test_what_is_stored_up_to_a_frame_is_the_ledger_of_that_frame(
    whole: Run, data: st.DataObject
) -> None:
    """To the quantum, in all that it holds, paid and remembers, whenever the run is killed."""
    rows = [row for table, row in whole.rows if table == "ledger_events"]
    assert len(rows) > 20
    cut = data.draw(st.integers(1, len(rows) - 1))

    state = from_json(text_of(rows[0]), VenueState)
    again = resumed(state, (from_json(row["data"], Entry) for row in rows[1 : cut + 1]))
    assert whole.states[rows[cut]["seq"]] == to_json(again.ledger)


@pytest.mark.replays
def test_a_run_goes_on_to_the_quantum_where_another_was_killed(
    tmp_path: Path, frames: list[Frame]
) -> None:
    """From the database, twice; a recording of it replays to the same hash without one."""
    url, cut = str(tmp_path / "bot.db"), 3_000
    assert left_of(url, CHAIN, PAPER, paper=True) is None
    killed = stored(url, frames[:cut])

    left = required(url)
    assert left.venue is not None
    assert to_json(left.venue.ledger) == [*killed.states.values()][-1]
    assert (1, 1, False, 0) == (left.run, left.ledger, left.ended, left.lost)
    assert left.memory is not None
    assert killed.bot.risk.memory.opened == left.memory.opened

    again = stored(url, frames[:5_500], left)
    assert again.bot.shown.notice == f"the account {again.bot.shown.carried}"
    assert again.bot.shown.carried.startswith("goes on from run 1, which was killed ")
    assert " ago, with equity " in again.bot.shown.carried
    assert again.ledger.tally.fills > left.venue.ledger.tally.fills
    assert not {"DRAWDOWN", "DAILY_LOSS"} & dict(again.bot.risk.standing.reasons).keys()
    following = required(url)
    assert (2, 1) == (following.run, following.ledger)

    replayed = Bot(Options.of("reckless"))
    replayed.run(from_iterable([*again.first, *frames[:5_500]]))
    assert replayed.journal.hash == again.bot.journal.hash


@pytest.mark.replays
def test_what_each_of_several_strategies_has_outlives_a_kill(
    tmp_path: Path, frames: list[Frame]
) -> None:
    """It adds up to the account to the quantum, and a recording replays to the same without it."""
    url, file = str(tmp_path / "bot.db"), tmp_path / "mix.toml"
    rows = [f'[[strategies]]\nuse = "rank"\nname = "{name}"\nweight = {w}\n' for name, w in SHARES]
    file.write_text("".join(rows))

    def mixed() -> Bot:
        return Bot(Options.of("reckless", strategy=str(file)))

    killed = stored(url, frames[:3_000], bot=mixed())
    had = {title: part.stakes for title, part in killed.bot.parts().items()}
    held = {title: len([one for one in row.values() if one.quantums]) for title, row in had.items()}
    assert min(held["a"], held["b"]) > 0

    left = required(url)
    assert {title: part.stakes for title, part in left.parts.items()} == had
    again = stored(url, frames[:3_500], left, bot=mixed())
    assert isinstance(again.bot.venue, Paper)
    parts = again.bot.parts().values()
    for ticker, holding in again.bot.venue.ledger.holdings.items():
        stakes = [part.stakes[ticker] for part in parts if ticker in part.stakes]
        assert sum(stake.quantums for stake in stakes) == holding.quantums
        assert len(stakes) > 1
    assert sum(s.fees for part in parts for s in part.stakes.values()) == again.ledger.paid.fees

    replayed = mixed()
    replayed.run(from_iterable((*again.first, *frames[:3_500])))
    assert replayed.journal.hash == again.bot.journal.hash


SHARES = (("a", 1.0), ("b", 2.0))


@pytest.mark.replays
def test_no_order_goes_out_twice_and_no_fill_is_counted_twice(
    tmp_path: Path, frames: list[Frame]
) -> None:
    """Not by its client id, not by its fill."""
    url, cut = str(tmp_path / "bot.db"), 3_000
    first = stored(url, frames[:cut])
    second = stored(url, frames[:5_500], required(url))

    ids = [
        {e.value.order.client_id for e in r.bot.journal.of_kind("approved", "reduce")}
        for r in (first, second)
    ]
    fills = [{e.value.id for e in r.bot.journal.of_kind("fill")} for r in (first, second)]
    assert all(ids)
    assert all(fills)
    assert set() == ids[0] & ids[1] == fills[0] & fills[1]
    assert second.ledger.tally.fills == sum(map(len, fills))


BRACKETED = """
from dydx_strategy import Decision


class Once:
    name = "once"
    done = False

    def step(self, scored, held):
        if not self.done and scored.view.oracle is not None and scored.view.book.known:
            self.done, price = True, scored.view.oracle.price
            yield Decision.of(scored, 500.0, "once", stop_loss=price * 0.8, take_profit=price * 1.2)


strategy = Once
"""


def test_where_a_position_is_left_is_stored_before_it_is_entered(
    tmp_path: Path, frames: list[Frame]
) -> None:
    """Whoever is killed right after the order goes out still knows its brackets."""
    file, rows, hurried = tmp_path / "once.py", list[Any](), list[int]()
    file.write_text(BRACKETED)
    bot = Bot(Options.of("reckless", strategy=str(file)))

    def put(table: str, row: Any) -> None:
        made = row() if callable(row) else row
        if table == "checkpoints" and from_json(made["data"], Memory).levels:
            rows.append(made["seq"])

    carrying = Carrying(bot.venue, bot.risk, put, hurry=lambda: hurried.append(len(rows)))
    bot.journal.listeners.append(carrying.hear)

    def passing() -> Iterator[Frame]:
        for frame in frames:
            carrying.note(frame)
            yield frame
            if bot.journal.of_kind("approved"):
                return

    bot.run(from_iterable(passing()))
    [entered] = bot.journal.of_kind("approved")

    assert (hurried, len(rows)) == ([1], 1)
    assert rows[0] <= entered.seq


def test_the_day_of_real_orders_is_remembered_without_a_ledger(
    tmp_path: Path, frames: list[Frame]
) -> None:
    """Its client ids go by the time, and what was paid in meanwhile is no profit."""
    url, us = str(tmp_path / "bot.db"), Subaccount("dydx1abc", 0)
    bot = Bot(Options.of("steady", strategy="none"), WireVenue(us))
    day = Memory(now=1, day=20_000, opened=10**10, peak=10**10, equity=9 * 10**9, next_client_id=7)
    stored(
        url, (), Left(run=0, at=1, ended=True, memory=day), bot=bot,
        mode="trade", account=str(us), ledger=0,
    )  # fmt: skip

    left = left_of(url, CHAIN, us, paper=False)
    assert left is not None
    assert (None, day) == (left.venue, left.memory)
    left = msgspec.structs.replace(left, paid_in=-5 * 10**9)
    begun = Bot(Options.of("steady", strategy="none"), WireVenue(us))
    begun.run(from_iterable([*frames[:1], Frame(0, 1, 1, ACCOUNT, "state", left.text, id="1/x")]))
    assert day.opened == begun.risk.memory.opened
    assert begun.risk.next_client_id > 10_000
    assert -5 * 10**9 == begun.risk.account.transferred
    assert begun.shown.carried.endswith(
        "the day's loss, the drawdown and rests count on, but for -5,000.00 USDC paid in"
    )


@pytest.mark.replays
def test_rows_after_a_missing_one_are_not_read(tmp_path: Path, frames: list[Frame]) -> None:
    """They would not fit; how many they are is reported."""
    url = str(tmp_path / "bot.db")
    stored(url, frames[:3_000])
    whole = required(url)
    engine = engine_of(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM ledger_events WHERE n = 5")

    left = required(url)
    assert left.seq < whole.seq
    assert left.lost > 0
    assert f"{left.lost} rows of it are missing" in left.words(left.at)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE ledger_events SET data = '\"{\"'")
    engine.dispose()
    with pytest.raises(ConnError, match="expected what a run left in the database"):
        required(url)


def test_it_is_in_words_that_nobody_saw_what_met_the_orders_that_stand() -> None:
    """Of paper no chain knows it either."""
    venue = Bot(Options.of("steady")).venue
    assert isinstance(venue, Paper)
    stop = OrderRecord(
        id="x", ticker="BTC-USD", side="SELL", quantums=1, subticks=1, status="UNTRIGGERED",
        order_flags=CONDITIONAL, good_til_block_time=1, condition_type="STOP_LOSS",
    )  # fmt: skip
    venue.ledger.note(stop)
    left = Left(run=1, at=1, ended=True, venue=venue.state)

    assert ["BTC-USD"] == left.tickers
    assert ", 1 order that stands (what would have filled or triggered meanwhile" in left.words(1)


def test_an_account_goes_on_with_what_its_last_run_reported() -> None:
    """Prices went on after the newest event of its ledger."""
    venue = Bot(Options.of("steady")).venue
    assert isinstance(venue, Paper)
    begun = Left(run=1, at=1, ended=True, venue=venue.state)
    later = msgspec.structs.replace(begun, memory=Memory(day=1, equity=9_934_300_000))

    assert "with equity 10,000.00 USDC" in begun.words(1)
    assert "with equity 9,934.30 USDC" in later.words(1)


# The memory of a run, as plain data, and what none of it can be.
REMEMBERED = msgspec.to_builtins(
    Memory(
        rests=(("BTC-USD", 1),), sent=(1,), levels=(("BTC-USD", Levels(is_long=True, stop_loss=1)),)
    )
)  # fmt: skip
WRONG: list[Any] = [None, -1, 10**30, "", "x", [], {}, True, 1.5]


@settings(max_examples=60)
@given(st.sampled_from([*REMEMBERED]), st.sampled_from(WRONG))
def test_a_memory_of_another_version_goes_on_or_is_refused_in_words(name: str, wrong: Any) -> None:
    """With what it has more, or less, or what is damaged in it."""
    memory = REMEMBERED | {"of later": 1, name: wrong}
    if wrong == "":
        del memory[name]
    text = json.dumps({"run": 1, "at": 1, "ended": True, "memory": memory})
    risk = Risk(Policy(), PAPER)

    with contextlib.suppress(ConnError):
        carry_on(Frame(0, 1, 1, ACCOUNT, "state", text), WireVenue(PAPER), risk)
        assert risk.memory.opened in (0, wrong)


def test_a_frame_of_another_account_is_refused(frames: list[Frame]) -> None:
    """And one that is no state at all."""
    other = Bot(Options.of("steady", account="second"))
    assert isinstance(other.venue, Paper)
    text = Left(run=1, at=1, ended=True, venue=other.venue.state).text
    for wrong in (text, "{", '{"run":1}'):
        with pytest.raises(ConnError, match="expected what a run of this account left"):
            Bot(Options.of("steady", state=Frame(0, 1, 1, ACCOUNT, "state", wrong)))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(5, "5 s ago"), (600, "10 min ago"), (7_300, "2 h ago"), (300_000, "3 days ago")],
)
def test_how_long_ago_is_in_words(seconds: int, words: str) -> None:
    """By seconds, minutes, hours or days."""
    assert words in Left(run=1, at=0, ended=True).words(seconds * 10**9)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (("equity_points", {"at": 5_000 * 10**9, "equity": 1, "free": 1}), "which was killed 70 s"),
        (("runs", {"state": "ended", "ended": 5_010 * 10**9}), "which ended 60 s"),
    ],
)
def test_a_run_in_which_nothing_happened_was_there_all_the_same(
    tmp_path: Path, row: tuple[str, dict[str, Any]], words: str
) -> None:
    """It ended when it ended, and not with the newest event of its account."""
    url = str(tmp_path / "bot.db")
    writer = Writer(url, row_of(None))
    writer.start()
    run = Run(writer.put)
    run.carrying.begin(run.inbox)
    writer.put(*row)
    writer.close()

    assert f"goes on from run 1, {words} ago, with " in required(url).words(5_070 * 10**9)


@pytest.mark.parametrize("name", ["", "Paper", "a/b", "x" * 33, "a-b"])
def test_what_is_no_name_of_an_account_is_refused(name: str) -> None:
    """It is a part of files, rows and frames."""
    with pytest.raises(ConnError, match="expected the name of a paper account"):
        paper_account(name)


@pytest.mark.replays
def test_a_state_is_stored_again_after_many_events(
    frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a next run reads no more of them than that, and what it reads is the same."""
    monkeypatch.setattr("bot.run.resume._EVENTS", 10)
    rows: list[dict[str, Any]] = []
    run = Run(lambda table, row: rows.append(row() if callable(row) else row)).on(frames[:3_000])
    rows = [row for row in rows if "kind" in row]

    states = [n for n, row in enumerate(rows) if row["kind"] == "state"]
    assert len(states) > 2
    last = rows[states[-1] :]
    state = from_json(text_of(last[0]), VenueState)
    again = resumed(state, (from_json(row["data"], Entry) for row in last[1:]))
    assert [*run.states.values()][-1] == to_json(again.ledger)


@pytest.mark.replays
def test_a_state_that_a_newer_one_supersedes_is_deleted(
    tmp_path: Path, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what happened after it, of this run and of those before, however many there are."""
    monkeypatch.setattr("bot.run.resume._EVENTS", 10)
    url, left, counts = str(tmp_path / "bot.db"), None, []
    for _ in range(3):
        stored(url, frames[:3_000], left)
        left = required(url)
        assert left.lost == 0
        counts.append(events_of(url))

    assert [{number for number, _ in each} for each in counts] == [{1}, {2}, {3}]
    for each in counts:
        assert [kind for _, kind in each].count("state") == 1
        assert len(each) <= 10


def events_of(url: str) -> list[tuple[int, str]]:
    """Return what is stored of ledgers: the run and the kind of each row."""
    with sqlite3.connect(url) as connection:
        return connection.execute("SELECT run_id, kind FROM ledger_events").fetchall()


@pytest.mark.replays
def test_a_state_is_the_writers_own_whatever_the_ledger_does_later(frames: list[Frame]) -> None:
    """It is written in parts by another thread, and is to the letter what it was."""
    run = Run(lambda *_: None).on(frames[:3_000])
    assert isinstance(run.bot.venue, Paper)
    state = run.bot.venue.state
    text, later = to_json(state), frozen(state)
    run.bot.venue.deposit(1_000_000)
    run.bot.venue.ledger.holdings.clear()

    assert "".join(in_parts(later)) == text


@pytest.mark.replays
def test_what_a_run_could_not_write_is_read_too(tmp_path: Path, frames: list[Frame]) -> None:
    """Its database was locked to the end: its rows wait in a file."""
    url = str(tmp_path / "bot.db")
    run = Run(lambda table, row: run.rows.append((table, row() if callable(row) else row)))
    run.on(frames[:3_000])
    spill = Spill(url, row_of(None))
    spill.add(run.rows)
    spill.close()

    left = required(url)
    assert left.venue is not None
    assert [*run.states.values()][-1] == to_json(left.venue.ledger)
    assert required(url).text == left.text


def test_no_id_that_an_earlier_run_has_claimed_serves_again() -> None:
    """Though it was killed before a row of it was written."""
    left = Left(run=1, at=1, ended=False, memory=Memory(next_client_id=7))

    assert unused_id(left) > 7
    assert unused_id(beyond(left, [(1, 1_025), (5_000, 6_024)])) > 6_024
    assert unused_id(beyond(Left(run=1, at=1, ended=False), [])) > 0


@pytest.mark.replays
def test_an_account_of_which_only_ids_are_left_begins_above_them(
    tmp_path: Path, frames: list[Frame]
) -> None:
    """All else is as in a first run; it is an account of its own, as good as any."""
    url, some = str(tmp_path / "bot.db"), frames[:3_000]
    assert beginning([]) is None
    left = beginning([(1, 1_025)])
    assert left is not None

    run = stored(url, some, left, ledger=None)
    plain = Run(lambda *_: None).on(some)

    words = [[entry.words for entry in each.bot.journal.entries] for each in (run, plain)]
    assert words[0] == words[1]
    assert run.ledger.collateral == plain.ledger.collateral
    assert min(order.client_id for order in run.ledger.orders) > 1_025
    assert run.bot.shown.carried == "begins, with client ids that no earlier run of it has used"
    following = required(url)
    assert following.venue is not None
    assert (1, 1) == (following.run, following.ledger)
    assert to_json(following.venue.ledger) == [*run.states.values()][-1]


@pytest.mark.replays
def test_a_server_gives_back_the_same(postgresql: Callable[[], str], frames: list[Frame]) -> None:
    """To the quantum, as the file does."""
    url = postgresql()
    run = stored(url, frames[:2_000])

    left = required(url)
    assert left.venue is not None
    assert [*run.states.values()][-1] == to_json(left.venue.ledger)
    assert left.memory is not None
