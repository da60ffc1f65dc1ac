"""Chaos: what each fault does to the wire, which promises are watched, and what is printed."""

import json
import re
import shlex
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import bot.chaos.command
import dydx_data
import dydx_paper
import msgspec
import pytest
from bot.__main__ import main
from bot.chaos.command import (
    Inspector,
    SeedResult,
    difference,
    fewest,
    imbalance,
    ledger_of,
    survival_lines,
    survive,
    unfounded,
)
from bot.chaos.faults import FAULTS, Fault, Ladders, Tape, Wire, faulted, plan, words_of
from bot.run.composition import Bot, Options
from bot.run.journal import JournalEntry
from dydx_conn import (
    AccountFill,
    BookContents,
    ConnError,
    Frame,
    Recording,
    RecordingWriter,
    Side,
    collect,
    find_recording,
    from_generator,
    load_recorded_stream,
)
from dydx_data import MarketView
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reactivex import from_iterable

SECOND = 1_000_000_000
QUICKSTART = collect(load_recorded_stream("quickstart"))
BOTH = ("v4_orderbook", "v4_trades")


@cache
def tape_of(seconds: int) -> Tape:
    """Return the first seconds of the bundled recording, decoded once."""
    return Tape(QUICKSTART, seconds)


@pytest.fixture
def minute() -> Tape:
    """Return the first minute."""
    return tape_of(60)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same minute as a recording of its own."""
    source = Recording(find_recording("quickstart"))
    path = tmp_path_factory.mktemp("chaos") / "minute.jsonl.zst"
    writer = RecordingWriter(path, source.header)
    for frame in QUICKSTART:
        if frame.mono - QUICKSTART[0].mono < 60 * SECOND:
            writer.write_frame(frame)
    writer.close()
    return path


def fault(kind: str, index: int = 400, amount: int = 1, on: str = "") -> Fault:
    """Return one fault; on the only connection, or on BTC."""
    on = on or ("c1" if FAULTS[kind].of_link else "BTC-USD")
    return Fault(number=1, kind=kind, index=index, on=on, amount=amount, seed=4)


def played(tape: Tape, *faults: Fault, announces: bool = False) -> list[Frame]:
    """Return the frames that these faults leave."""
    return list(faulted(tape, faults, announces=announces))


def lived(tape: Tape, *faults: Fault, seed: int = 2) -> SeedResult:
    """Run the bot through these faults."""
    return survive(tape, seed, faults, Options.of("reckless"))


def ids(frames: list[Frame]) -> list[int]:
    """Return the message ids of what could be read, in the order in which it came."""
    return [frame.message_id for frame in frames if frame.message_id]


# === Tape ===


def test_a_tape_holds_the_subscriptions_of_each_connection(minute: Tape) -> None:
    """Faults come after the last subscription was answered."""
    books = [(channel, ticker) for ticker in minute.link_of for channel in BOTH]
    assert sorted(minute.subscribed["c1"]) == sorted(
        [("v4_markets", ""), ("v4_block_height", ""), *books]
    )
    assert minute.link_of == dict.fromkeys(["BTC-USD", "ETH-USD", "SOL-USD"], "c1")
    assert minute.frames[minute.ready - 1].type == "subscribed"
    assert 59 < minute.second(-1) < 60


def test_a_tape_ends_where_its_recording_lost_something(minute: Tape) -> None:
    """Beyond that the true state is unknown: a hole, a gap, a close, an unreadable text."""
    whole = minute.frames
    lost = msgspec.structs.replace(whole[500], kind="gap")
    bad = msgspec.structs.replace(whole[500], fault="bad", message_id=0)

    for spoilt in (
        [*whole[:500], *whole[501:]],
        [*whole[:500], lost, *whole[500:]],
        [*whole[:500], bad, *whole[501:]],
    ):
        assert whole[500].message_id
        assert len(Tape(spoilt).frames) == 500


@pytest.mark.parametrize(
    ("frames", "got"),
    [
        ([], "0 books and 0 frames"),
        (QUICKSTART[:60], "3 books and 42 frames"),
        ([f for f in QUICKSTART if f.channel != "v4_orderbook"], "0 books and"),
    ],
    ids=["nothing", "too short", "no books"],
)
def test_a_tape_without_enough_to_spoil_is_refused(frames: list[Frame], got: str) -> None:
    """The error holds what was expected and what it was."""
    with pytest.raises(ConnError, match=f"expected a recording of books with 100.*{got}"):
        Tape(frames)


# === Plan ===


def test_a_seed_draws_the_same_faults_and_another_seed_others(minute: Tape) -> None:
    """Seed 0 has none, and in time every kind is drawn."""
    plans = [plan(minute, seed) for seed in range(60)]

    assert plans[0] == []
    assert plans[1:] == [plan(minute, seed) for seed in range(1, 60)]
    assert len({tuple(words_of(fault) for fault in faults) for faults in plans}) == 60
    assert {fault.kind for faults in plans for fault in faults} == set(FAULTS)
    for faults in plans[1:]:
        assert 3 <= len(faults) <= 8
        assert faults == sorted(faults, key=lambda fault: fault.index)
        assert all(minute.ready <= fault.index < len(minute.frames) for fault in faults)


# === Wire ===


def test_without_faults_a_tape_plays_the_recording(minute: Tape) -> None:
    """Frame by frame, so that the run is the same."""
    assert played(minute) == minute.frames


@given(st.integers(1, 10**9), st.booleans())
@settings(max_examples=10)
def test_any_plan_gives_frames_as_they_are_received(seed: int, announces: bool) -> None:
    """Numbered without a hole, later ones never before earlier ones, and the same each time."""
    tape = tape_of(40)
    frames = played(tape, *plan(tape, seed), announces=announces)

    assert [frame.seq for frame in frames] == list(range(1, len(frames) + 1))
    assert all(a.mono <= b.mono for a, b in pairwise(frames))
    assert frames == played(tape, *plan(tape, seed), announces=announces)


def test_lost_messages_are_a_hole_in_the_ids_and_are_resubscribed(minute: Tape) -> None:
    """The server goes on counting; what was lost comes back as snapshots of the true state."""
    frames = played(minute, fault("drop", amount=3))
    first = next(f.message_id for f in minute.frames[400:] if f.message_id)

    numbers = ids(frames)
    assert set(range(1, max(numbers))) - set(numbers) == {first, first + 1, first + 2}
    requests = [f.text for f in frames if f.kind == "sent"][8:]
    left, again = requests[::2], requests[1::2]
    assert '{"type":"unsubscribe","channel":"v4_markets"}' in left
    assert [text.replace('"unsub', '"sub', 1) for text in left] == again
    assert len(requests) == 16
    assert Counter(f.type for f in frames)["subscribed"] == 16
    assert not any(f.kind == "gap" for f in frames)


def test_an_edge_that_reports_a_hole_does_so_before_the_message_that_shows_it(minute: Tape) -> None:
    """As `live` does; its frame holds how many are lost."""
    frames = played(minute, fault("drop", amount=2), announces=True)

    (gap,) = [frame for frame in frames if frame.kind == "gap"]
    shown = frames[gap.seq]
    assert (gap.link, gap.message_id) == ("c1", 2)
    assert gap.text == f"2 messages lost before message_id {shown.message_id}"


@pytest.mark.replays
def test_a_lost_answer_is_requested_again_when_it_is_overdue(minute: Tape) -> None:
    """Ten seconds later; until then it may still be late."""
    lost = fault("drop")
    answered = next(f.mono for f in played(minute, lost)[400:] if f.type == "subscribed")
    before = max(n for n, frame in enumerate(minute.frames) if frame.mono < answered)
    faults = [lost, fault("drop", index=before, amount=12)]

    frames = played(minute, *faults, announces=True)

    overdue = [frame for frame in frames if frame.kind == "gap" and "overdue" in frame.text]
    assert overdue
    assert lived(minute, *faults, seed=1).broken == {}
    assert lived(minute, *faults, seed=2).broken == {}


def test_a_duplicate_comes_twice(minute: Tape) -> None:
    """The same text, now or a little later."""
    frames = played(minute, fault("duplicate", amount=2))

    assert Counter(Counter(ids(frames)).values()) == {1: len(set(ids(frames))) - 2, 2: 2}


def test_a_late_message_comes_after_later_ones(minute: Tape) -> None:
    """And shows what it seemed: a hole."""
    numbers = ids(played(minute, fault("reorder")))

    assert sum(b < a for a, b in pairwise(numbers[30:])) > 0
    assert len(numbers) == len(set(numbers))


def test_a_stalled_connection_sends_nothing_and_then_everything(minute: Tape) -> None:
    """In order, in one burst; ticks go on."""
    frames = played(minute, fault("delay", amount=5_000))
    begin = minute.frames[400].mono

    during = [f for f in frames if begin < f.mono < begin + 5 * SECOND]
    burst = [f for f in frames if f.mono == begin + 5 * SECOND]
    assert {f.kind for f in during} == {"tick"}
    assert len(burst) > 50
    assert ids(burst) == sorted(ids(burst))


@pytest.mark.parametrize("kind", ["corrupt", "truncate"])
def test_a_spoilt_text_is_a_fault_and_leaves_a_hole(minute: Tape, kind: str) -> None:
    """It is received all the same."""
    frames = played(minute, fault(kind, amount=2))

    assert sum(bool(frame.fault) for frame in frames) == 2
    assert len(set(range(1, max(ids(frames)))) - set(ids(frames))) == 2


def test_a_crossed_book_comes_from_the_server_and_ends(minute: Tape) -> None:
    """Bids and asks meet for a while, under ids of the server's."""
    wire = Wire(minute, [fault("cross", amount=2_000)])
    crossed = [
        frame.mono
        for frame in wire.frames()
        if "BTC-USD" in wire.delivered
        and min(wire.delivered["BTC-USD"][1]) <= max(wire.delivered["BTC-USD"][0])
    ]

    assert 1.5 * SECOND < crossed[-1] - crossed[0] <= 2 * SECOND
    assert len(ids(played(minute, fault("cross")))) == len(ids(minute.frames)) + 2


def test_rest_refuses_and_answers_the_retry(minute: Tape) -> None:
    """With 429, and then with the true book."""
    frames = played(minute, fault("429", amount=500))

    refused = next(frame for frame in frames if frame.type == "429")
    answered = next(f for f in frames if f.seq > refused.seq and f.kind == "http")
    assert refused.text == '{"errors":[{"msg":"Too many requests"}]}'
    assert (answered.type, answered.channel) == ("200", refused.channel)
    assert 0.5 * SECOND <= answered.mono - refused.mono < 1.5 * SECOND


def test_a_clock_that_jumps_takes_the_wall_time_along_and_not_the_monotonic(minute: Tape) -> None:
    """From the fault on, for good."""
    frames = played(minute, fault("clock jump", amount=-3_600_000))

    apart = [(after.at - before.at) / SECOND for before, after in zip(minute.frames, frames, strict=True)]  # fmt: skip
    assert set(apart) == {0.0, -3600.0}
    assert [frame.mono for frame in frames] == [frame.mono for frame in minute.frames]


def test_a_storm_closes_and_opens_and_subscribes_to_everything(minute: Tape) -> None:
    """Ids begin again at 1, and each snapshot is the true book."""
    wire = Wire(minute, [fault("reconnect", amount=3)])
    frames, down = [], 0
    for frame in wire.frames():
        frames.append(frame)
        down += frame.kind == "close" and not wire.delivered

    assert [f.kind for f in frames if f.kind in ("close", "open")][1:] == ["close", "open"] * 3
    assert down == 3
    assert set(wire.delivered) == {"BTC-USD", "ETH-USD", "SOL-USD"}
    last = max(n for n, frame in enumerate(frames) if frame.type == "connected")
    assert ids(frames[last:])[:8] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert frames[-1].message_id < minute.frames[-1].message_id


# === Survival ===


@pytest.mark.replays
@pytest.mark.parametrize("seed", [1, 2], ids=["an edge that reports holes", "a silent edge"])
@pytest.mark.parametrize("kind", FAULTS)
def test_the_bot_survives_each_kind_of_fault(minute: Tape, kind: str, seed: int) -> None:
    """Every promise holds, and every hole is found."""
    amount = {"stall": 40_000, "delay": 12_000, "429": 900, "cross": 2_000}.get(kind, 3)

    result = lived(minute, fault(kind, index=200, amount=amount), seed=seed)

    assert result.broken == {}
    assert result.injected == {kind: 1}
    assert result.gaps == result.gaps_found
    assert result.gaps[kind] == (kind in ("drop", "reorder", "corrupt", "truncate"))
    assert (result.stalls, result.stalls_marked) == ((1, 1) if kind == "stall" else (0, 0))


@given(st.integers(1, 10**9))
@example(747775077)  # candles of the venue's that were ahead of its socket
@settings(max_examples=8)
def test_the_bot_survives_any_seed(seed: int) -> None:
    """Whatever is drawn, together; `bot chaos --seeds 100` draws more."""
    tape = tape_of(60)

    assert survive(tape, seed, plan(tape, seed), Options.of("reckless")).broken == {}


@pytest.mark.replays
@pytest.mark.parametrize("seed", [12, 462, 863, 900, 46_386])
def test_the_bot_survives_what_it_once_did_not(minute: Tape, seed: int) -> None:
    """Late answers, overtaken and repeated messages, and blocks that nobody sends."""
    assert survive(minute, seed, plan(minute, seed), Options()).broken == {}


@pytest.mark.replays
def test_a_day_without_faults_is_the_replay() -> None:
    """The same decisions, byte for byte, and no alarm."""
    replayed = Bot(Options())
    day = collect(load_recorded_stream("sixty"))[:6_000]
    replayed.run(from_iterable(day))

    result = survive(Tape(day), 0, [], Options())

    assert result.broken == {}
    assert result.run_hash == replayed.journal.hash


@pytest.mark.replays
def test_a_stall_that_begins_while_a_connection_is_down_is_no_calm() -> None:
    """The connection that opens into it is silent until it ends, and books are rightly unknown."""
    tape = tape_of(120)

    result = lived(tape, fault("reconnect"), fault("stall", index=401, amount=45_000))

    assert result.broken == {}


def test_the_distance_is_taken_every_second_whatever_the_clock(minute: Tape) -> None:
    """An hour back is no hour of silence on the panel."""
    bot = Bot(Options())
    bot.follow()
    back = fault("clock jump", amount=-3_600_000)

    bot.run(from_generator(lambda: faulted(minute, [back])))

    seconds = [at for at, _ in bot.shown.distances]
    assert len(seconds) >= 55
    assert seconds == sorted(seconds)


# === Promises ===
# Each is seen to be broken by a bot that breaks it.

Break = Callable[[pytest.MonkeyPatch], None]


def crash(patch: pytest.MonkeyPatch) -> None:
    """Raise in a layer."""

    def broken(*_: object) -> list[Frame]:
        raise ZeroDivisionError("a bug")

    patch.setattr("dydx_paper.PaperVenue.step", broken)


def keep_books(patch: pytest.MonkeyPatch) -> None:
    """Notice what is lost, and believe the books all the same."""
    patch.setattr(dydx_data, "_lose_book", lambda view, frame: ())


def notice_nothing(patch: pytest.MonkeyPatch) -> None:
    """Lose books in silence."""
    patch.setattr(dydx_data.Quality, "note", lambda *_: None)


def see_ghosts(patch: pytest.MonkeyPatch) -> None:
    """Take every block for a hole."""
    fold = dydx_data._UPDATES["v4_block_height"]

    def noted(state: Any, frame: Frame, updates: list[Any]) -> Any:
        state.quality.note(frame.seq, "gap", "a ghost")
        return fold(state, frame, updates)

    patch.setitem(dydx_data._UPDATES, "v4_block_height", noted)


def take_no_snapshot(patch: pytest.MonkeyPatch) -> None:
    """Leave lost books lost."""
    fold = dydx_data._UPDATES["v4_orderbook"]

    def once(state: Any, frame: Frame, updates: list[Any]) -> Any:
        known = frame.seq < 100 or frame.type != "subscribed"
        return fold(state, frame, updates) if known else ()

    patch.setitem(dydx_data._UPDATES, "v4_orderbook", once)


def never_stale(patch: pytest.MonkeyPatch) -> None:
    """Wait for a silence that never comes."""
    judge = dydx_data._judge

    def deaf(state: Any, frame: Frame, touched: Any) -> Any:
        for view in state.views.values():
            view.live_at = frame.at
        state.chain.at = state.chain.priced_at = frame.at
        return judge(state, frame, touched)

    patch.setattr(dydx_data, "_judge", deaf)


def always_stale(patch: pytest.MonkeyPatch) -> None:
    """Doubt a market that has just sent an update."""
    patch.setattr(dydx_data, "_compare_clocks", lambda *_: None)


def forget_fees(patch: pytest.MonkeyPatch) -> None:
    """Pay fees without an account of them."""
    book = dydx_paper.Ledger.book

    def cheap(ledger: dydx_paper.Ledger, *given: Any, **named: Any) -> Any:
        touched = book(ledger, *given, **named)
        ledger.paid.fees = 0
        return touched

    patch.setattr(dydx_paper.Ledger, "book", cheap)


def count_twice(patch: pytest.MonkeyPatch) -> None:
    """Take trades of a snapshot into the flow again."""
    fold = dydx_data._UPDATES["v4_trades"]

    def again(state: Any, frame: Frame, updates: list[Any]) -> Any:
        touched = fold(state, frame, updates)
        for view in touched:
            view.flow.add(view.trades[-1])
        return touched

    patch.setitem(dydx_data._UPDATES, "v4_trades", again)


def forget_trades(patch: pytest.MonkeyPatch) -> None:
    """Take what a snapshot sends again for fresh."""
    patch.setattr(dydx_data._Seen, "add", lambda *_: True)


def close_wrong(patch: pytest.MonkeyPatch) -> None:
    """Close a candle at its last trade to arrive, whatever its place on the chain."""
    merge = dydx_data._Bar.merge

    def last_come(bar: Any, other: Any) -> None:
        merge(bar, other)
        bar.close = other.open + 1

    patch.setattr(dydx_data._Bar, "merge", last_come)


def lose_trades(patch: pytest.MonkeyPatch) -> None:
    """Leave trades out of candles that are closed all the same."""
    count = dydx_data._count
    patch.setattr(dydx_data, "_count", lambda view, trades: count(view, trades[1:]))


@pytest.mark.replays
@pytest.mark.parametrize(
    ("breaks", "kind", "promise"),
    [
        (forget_trades, "drop", "tape"),
        (close_wrong, "drop", "tape"),
        (lose_trades, "duplicate", "tape"),
        (count_twice, "drop", "tape"),
        (crash, "drop", "crash"),
        (keep_books, "drop", "phantom"),
        (notice_nothing, "drop", "gap missed"),
        (see_ghosts, "cross", "false alarm"),
        (take_no_snapshot, "drop", "blind"),
        (never_stale, "stall", "stale missed"),
        (always_stale, "clock jump", "false stale"),
        (forget_fees, "duplicate", "account"),
    ],
)
def test_a_broken_promise_is_seen(
    monkeypatch: pytest.MonkeyPatch, minute: Tape, breaks: Break, kind: str, promise: str
) -> None:
    """The inspector sees it: what breaks the promise is reported with the frame where it did."""
    # Of a minute no candle is whole. The tape as it is comes before it is broken.
    tape = tape_of(200) if promise == "tape" else minute
    begin = len(tape.frames) // 2 if promise == "tape" else 200
    bot.chaos.command.undisturbed(tape)
    breaks(monkeypatch)

    amount = {"stall": 40_000, "clock jump": 3_600_000}.get(kind, 3)
    index = next(n for n, frame in enumerate(tape.frames) if n > begin and frame.kind == "tick")
    broken = lived(tape, fault(kind, index=index, amount=amount)).broken

    assert promise in broken
    assert "(frame " in broken[promise]


def test_an_error_of_chaos_itself_is_not_the_bots(
    monkeypatch: pytest.MonkeyPatch, minute: Tape
) -> None:
    """It is raised, not counted as a crash."""
    monkeypatch.setattr(Inspector, "_holes", lambda *_: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        lived(minute)


def ladders_of(bids: str, asks: str) -> Ladders:
    """Return the ladders of "99:1 98:2"."""
    sides = [[level.partition(":") for level in side.split()] for side in (bids, asks)]
    first, second = ({float(p): (p, s) for p, _, s in side} for side in sides)
    return first, second


def book_of(bids: str, asks: str) -> dydx_data.Book:
    """Return a known book of that."""
    book = dydx_data.Book()
    book.known = True
    ladders = ladders_of(bids, asks)
    bids_, asks_ = ([*side.values()] for side in ladders)
    book.update([BookContents(bids=bids_, asks=asks_)])
    return book


@pytest.mark.parametrize(
    ("bids", "asks", "wrong"),
    [
        ("99:1 98:2", "101:1", ""),
        ("99:1", "101:1", "bids show 98 x 2, true is nothing there"),
        ("99:1 98:3", "101:1", "bids show 98 x 2, true is 98 x 3"),
        ("99:1 98:2.0", "101:1", "bids show 98 x 2, true is 98 x 2.0"),
        ("99:1 98:2", "101:1 102:1", "1 levels are missing, of which 0 are hidden by uncrossing"),
    ],
)
def test_books_are_compared_level_by_level_and_word_by_word(
    bids: str, asks: str, wrong: str
) -> None:
    """A size of 2.0 is not the 2 that was received."""
    assert difference(book_of("99:1 98:2", "101:1"), ladders_of(bids, asks)) == wrong


def test_what_uncrossing_hides_is_not_missing() -> None:
    """It was received, and is not shown."""
    sides = "99:1 100:1", "100:2 101:1"

    assert difference(book_of(*sides), ladders_of(*sides)) == ""


def view_of(book: dydx_data.Book) -> MarketView:
    """Return a view with that book."""
    state = dydx_data.DataState()
    view = state._view("BTC-USD", 1)
    assert view is not None
    view.book = book
    return view


def fill_of(side: Side, price: str, type_: str = "LIMIT") -> JournalEntry:
    """Return a fill as the journal stores it."""
    fill = AccountFill(
        id="f", order_id="", ticker="BTC-USD", side=side, size=Decimal(1), price=Decimal(price),
        quote=0, fee=0, liquidity="TAKER", type=type_, height=1, created_at="",
    )  # fmt: skip
    return JournalEntry(id="F1", kind="fill", seq=1, at=1, ticker="BTC-USD", words="", value=fill)


@pytest.mark.parametrize(
    ("entry", "wrong"),
    [
        (fill_of("BUY", "101.0"), ""),
        (fill_of("SELL", "99"), ""),
        (fill_of("BUY", "99"), "no such level is shown"),
        (fill_of("BUY", "100"), "no such level is shown"),
        (fill_of("BUY", "7", "DELEVERAGED"), ""),
    ],
    ids=[
        "bought what is offered",
        "sold what is bid",
        "bought a bid",
        "a hidden level",
        "no trade",
    ],
)
def test_a_fill_needs_a_level_that_is_shown(entry: JournalEntry, wrong: str) -> None:
    """What uncrossing hides was not there to be taken."""
    book = book_of("99:1", "100:1 101:2")
    book.update([BookContents(bids=[("100", "3")])])
    book.update([BookContents(bids=[("100", "0")], asks=[("100", "0")])])
    view = view_of(book)

    assert unfounded(entry, view) == wrong


def test_nothing_is_traded_on_a_book_that_is_crossed_stale_or_unknown() -> None:
    """Whatever the price."""
    view = view_of(book_of("99:1", "101:1"))
    entry = fill_of("BUY", "101")

    view.quality.stale = True
    assert unfounded(entry, view) == "the book is stale"
    view.book.forget()
    assert unfounded(entry, view) == "the book is unknown"
    view.quality.stale, view.book = False, book_of("99:1", "101:1")
    view.book.best_bid = view.book.best_ask
    assert unfounded(entry, view) == "the book is crossed at 101 to 101"


def traded_bot() -> tuple[Bot, dict[str, Decimal]]:
    """Return a bot that has traded, and what its fills add up to."""
    bot = Bot(Options())
    bot.run(from_generator(lambda: faulted(Tape(QUICKSTART, 60), [])))
    held = ledger_of(bot).holdings
    assert held
    return bot, {ticker: own.market.size(own.quantums) for ticker, own in held.items()}


def test_every_disagreement_about_the_account_is_reported() -> None:
    """Between payments and balance, ledger and account, fills and positions, profit and equity."""
    bot, traded = traded_bot()
    ledger, account = ledger_of(bot), bot.risk.account
    ticker = min(traded)

    assert imbalance(bot, traded) == ""
    assert "the fills make nothing" in imbalance(bot, {})
    account.positions[ticker].size += 1
    assert "the account has" in imbalance(bot, traded)
    account.positions[ticker].size -= 1
    account.collateral += 1
    assert "is left, the account has" in imbalance(bot, traded)
    account.trouble = "account frames were lost"
    assert imbalance(bot, traded) == "account frames were lost"
    account.collateral, account.trouble = account.collateral - 1, ""
    bot.risk.valued.margin = msgspec.structs.replace(bot.risk.margin, net_collateral=7)
    assert "the account 7" in imbalance(bot, traded)
    bot.risk.valued.margin = msgspec.structs.replace(bot.risk.margin, unknown=(ticker,))
    assert imbalance(bot, traded) == ""
    ledger.paid.fees += 1
    assert "was paid of" in imbalance(bot, traded)


def test_profit_that_nothing_explains_is_reported() -> None:
    """Beyond what rounding may do."""
    bot, traded = traded_bot()
    holding = next(iter(ledger_of(bot).holdings.values()))

    holding.cost += 10

    assert "quote quantums of the equity" in imbalance(bot, traded)


# === Shrinking ===


@given(st.sets(st.integers(0, 9), min_size=1, max_size=3), st.integers(1, 10))
def test_the_fewest_faults_are_those_that_are_needed(needed: set[int], size: int) -> None:
    """All that matter, and no other."""
    faults = [fault("drop", index=n) for n in range(10)]

    left = fewest(faults, lambda some: needed <= {fault.index for fault in some})

    assert {fault.index for fault in left} == needed


# === Command ===


@pytest.mark.replays
def test_the_table_fits_a_terminal_and_counts_the_faults(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One row a kind, the run without faults first; nothing is wider than 80 columns."""
    assert main(["chaos", str(recording), "--seeds", "4"]) == 0

    printed = capsys.readouterr()
    rows = printed.out.splitlines()
    assert "seeds        5 survived, 0 failed" in rows
    head = next(n for n, row in enumerate(rows) if row.startswith("fault "))
    assert rows[head + 1].split() == ["(none)", "1", "0", "0", "0", "0", "0", "-", "-", "1/1"]
    assert {row.split()[0] for row in rows[head + 2 : -2]} <= {*FAULTS, "clock"}
    assert max(map(len, rows[1:])) <= 80
    assert "not market data of dYdX" in rows[0]
    assert printed.err == ""


@pytest.mark.replays
def test_json_holds_the_same(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All kinds, met or not."""
    assert main(["chaos", str(recording), "--seeds", "2", "--seconds", "30", "--json"]) == 0

    report = json.loads(capsys.readouterr().out)
    assert [row["fault"] for row in report["table"]] == ["(none)", *FAULTS]
    assert (report["survived"], report["failed"], report["complete"]) == (3, 0, True)
    assert 29 < report["seconds"] < 30
    assert survival_lines(report)


@pytest.mark.replays
def test_a_failing_seed_is_shrunk_to_what_can_be_played_again(
    recording: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it prints is what a person types, and fails in the same way."""
    keep_books(monkeypatch)
    typed = [str(recording), "--seconds", "50", "--deposit", "5000", "--no-guard"]

    assert main(["chaos", *typed, "--seeds", "6", "--json"]) == 1

    report = json.loads(capsys.readouterr().out)
    failure = report["failures"][0]
    assert failure["promise"] == "phantom"
    assert len(failure["faults"]) < failure["of"]
    assert report["table"][0]["phantoms"] == 0
    blamed = {fault["kind"] for fault in failure["faults"]}
    assert all(row["phantoms"] for row in report["table"] if row["fault"] in blamed)
    assert main(shlex.split(failure["again"])[1:]) == 1
    again = capsys.readouterr().out
    assert f"seed {failure['seed']} " in again
    assert "phantom: the book of" in again
    assert f"enough of its {len(failure['faults'])} faults:" in again


@pytest.mark.replays
def test_a_failure_without_faults_is_the_bots(
    recording: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the bot is at fault, not the day."""
    see_ghosts(monkeypatch)

    assert main(["chaos", str(recording), "--seed", "0"]) == 1

    printed = capsys.readouterr().out
    assert "seed 0       false alarm: nothing was lost, but noted was: a ghost" in printed
    assert "without faults" in printed
    assert "--seed 0\n" in printed


@pytest.mark.replays
def test_who_ends_it_early_gets_what_there_is(
    recording: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the exit code of an interrupt."""
    real, runs = survive, list[int]()

    def interrupted(tape: Tape, seed: int, *given: Any) -> SeedResult:
        runs.append(seed)
        if len(runs) == 3:
            raise KeyboardInterrupt
        return real(tape, seed, *given)

    monkeypatch.setattr(bot.chaos.command, "survive", interrupted)

    assert main(["chaos", str(recording), "--seeds", "9"]) == 130

    assert "seeds        2 survived, 0 failed  (ended early)" in capsys.readouterr().out


def test_who_waits_at_a_terminal_sees_how_far_it_is(
    recording: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one line, which is gone in the end."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)

    assert main(["chaos", str(recording), "--seeds", "1", "--seconds", "20"]) == 0

    printed = capsys.readouterr().err
    assert "seeds" in printed
    assert re.search("2 of 2.*0 failed", printed)
    assert printed.endswith("\x1b[2K")


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["nowhere"], "expected the path of a recording or one of"),
        (["--seeds", "0"], "expected 1 or more, got 0"),
        (["--seeds", "many"], "expected a whole number, 0 or more, got 'many'"),
        (["--seed", "-1"], "expected a whole number"),
        (["--seconds", "1"], "expected a recording of books with 100 frames or more"),
        (["--only", "3"], "expected --seed N beside --only 3, got none"),
        (["--seed", "3", "--only", "1,99"], "such as --only 1,2, got 99"),
        (["--deposit", "0"], "expected deposit to be greater than 0"),
    ],
)
def test_a_wrong_word_is_an_error_in_one_line(
    typed: list[str], message: str, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what was expected, and the exit code 2."""
    named = [str(recording), *typed] if typed[0].startswith("--") else typed
    try:
        code = main(["chaos", *named])
    except SystemExit as stopped:
        code = int(str(stopped.code))

    assert code == 2
    assert message in " ".join(capsys.readouterr().err.split())
