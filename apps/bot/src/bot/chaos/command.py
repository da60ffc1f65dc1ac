"""Chaos: run the bot through bad days, and see which of its promises hold.

    faults.Wire ─► frames ─► Bot ─► Inspector ─► SeedResult ─► survival table

An `Inspector` checks after each frame that no book shows what is not true, that every hole in the
message ids is noticed and no other, that what a silent link carries is stale and nothing else,
that nothing is bought that was not offered, and that the venue's ledger, its messages and the risk
layer agree on the money. `survive` runs one plan, `fewest` removes from a plan that broke a promise
whatever did not matter, and `chaos` is the command.
"""

import argparse
import json
import shlex
import textwrap
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import msgspec
from dydx_conn import ConnError, Frame, Recording, find_recording, from_generator
from dydx_data import Book, Candle, Candles, DataState, Flow, Level, MarketView, step
from dydx_paper import Ledger, PaperVenue
from msgspec.structs import replace

from bot.chaos.faults import FAULTS, Fault, Ladders, Tape, Wire, plan, words_of
from bot.config.configured import typed_again
from bot.ending import begin_frame, between_frames, end_frame
from bot.engines.engine import Engine, engine_typed
from bot.engines.errors import EngineError
from bot.engines.work import Lost
from bot.live.commands import options_as_recorded
from bot.outlet import as_lines
from bot.progress import Progress
from bot.report.report import made_words
from bot.run.composition import Bot, Options
from bot.run.journal import JournalEntry

_Of = TypeVar("_Of")

_SECOND: Final = 1_000_000_000
NO_FAULT: Final = "(none)"
# A lost answer is overdue after 10 s, which a tick shows; then it is requested again.
REPAIRED_WITHIN_NS: Final = 13 * _SECOND

# === Promises ===
# What is checked after each frame, a method of `Inspector` for each promise. A new promise is one
# method there and one line in `_look`.


class SeedResult(msgspec.Struct, kw_only=True):
    """The result of one run: `broken` holds, for each broken promise, how and where.

    The counts are by kind of fault: faults injected, holes that showed, holes noticed; then the
    links that fell silent for too long, and those of them whose markets were marked stale.
    """

    broken: dict[str, str]
    injected: Counter[str]
    gaps: Counter[str]
    gaps_found: Counter[str]
    stalls: int
    stalls_marked: int
    frames: int
    run_hash: str


class Inspector:
    """Looks at a bot after each frame, and compares it with what the wire knows to be true."""

    def __init__(self, bot: Bot, wire: Wire) -> None:
        self.broken: dict[str, str] = {}
        self.gaps: Counter[str] = Counter()
        self.gaps_found: Counter[str] = Counter()
        self.stalled: dict[str, bool] = {}
        self.own_error: Exception | None = None
        self._bot, self._wire = bot, wire
        self._taped = DataState()
        self._noted = self._fills = 0
        self._look_closely_until = 0
        self._unknown_since: dict[str, int] = {}
        self._traded: defaultdict[str, Decimal] = defaultdict(Decimal)

    def frames(self) -> Generator[Frame]:
        """Yield what the wire delivers, and look each time at what the bot made of it."""
        try:
            for frame in self._wire.frames():
                yield frame
                step(self._taped, of_trades(frame))
                self._look(frame)
            for view in self._bot.data.views.values():
                self._book(view, frame)
            for view in self._taped.views.values():
                self._tape(view, frame)
            self._account(frame)
        except Exception as error:
            self.own_error = error  # ours, not the bot's
            raise

    def _look(self, frame: Frame) -> None:
        self._holes(frame)
        if self._bot.journal.counts["fill"] != self._fills:
            self._trades(frame)
        if frame.kind == "tick":
            for view in self._bot.shown.watched:
                self._book(view, frame)
                self._repair(view, frame)
                self._silence(view, frame)
            self._account(frame)
        elif self._wire.now < self._look_closely_until and frame.id in self._wire.delivered:
            self._book(self._bot.data.views[frame.id], frame)

    def _break(self, promise: str, frame: Frame, how: str) -> None:
        self.broken.setdefault(promise, f"{how} (frame {frame.seq})")

    # === Each promise ===

    def _holes(self, frame: Frame) -> None:
        noted, self._noted = self._noted, self._bot.data.quality.counts["gap"]
        concerned = self._wire.concerned(frame)
        if self._noted > noted:
            self._look_closely_until = self._wire.now + 3 * _SECOND
            if frame.link in concerned and not self._has_reason(frame.link):
                concerned = []
            if not concerned:
                sample = self._bot.data.quality.samples[-1].text
                self._break("false alarm", frame, f"nothing was lost, but noted was: {sample}")
        for link in concerned:
            missing = self._wire.missing(link)
            kinds = set(missing.values())
            if self._noted > noted:
                self.gaps_found.update(kinds)
            elif not missing or self._wire.waits(link):
                continue  # while an answer is owed, a hole may be its own
            else:
                how = f"a hole left by {' and '.join(sorted(kinds))} was not noticed"
                self._break("gap missed", frame, how)
            self.gaps.update(kinds)
            self._wire.noticed(link)

    def _has_reason(self, link: str) -> bool:
        return bool(self._wire.missing(link)) or self._wire.doubtful(link)

    def _book(self, view: MarketView, frame: Frame) -> None:
        link = view.book.link
        wire = self._wire
        unclear = view.ticker in wire.ahead or wire.missing(link) or wire.hides(link)
        if not view.book.known or (link and unclear):
            return
        of_socket = link != ""
        books = self._wire.delivered if of_socket else self._wire.answered
        true = books.get(view.ticker)
        wrong = difference(view.book, true) if true is not None else "its connection is down"
        if wrong:
            self._break("phantom", frame, f"the book of {view.ticker} is not true: {wrong}")

    def _repair(self, view: MarketView, frame: Frame) -> None:
        if view.book.known or view.ticker not in self._wire.tape.link_of:
            self._unknown_since.pop(view.ticker, None)
            return
        since = self._unknown_since.setdefault(view.ticker, self._wire.now)
        unknown_ns = min(self._wire.now - since, self._wire.calm_ns(view.ticker))
        if unknown_ns > REPAIRED_WITHIN_NS:
            how = (
                f"the book of {view.ticker} is unknown, {unknown_ns / _SECOND:.0f} s after all calm"
            )
            self._break("blind", frame, how)

    def _silence(self, view: MarketView, frame: Frame) -> None:
        wire, limit_ns = self._wire, self._bot.data.stale_after_ns
        link = wire.links[wire.tape.link_of[view.ticker]]
        silent_ns = wire.now - wire.spoken.get(link.name, wire.now)
        if silent_ns > limit_ns:
            self.stalled.setdefault(link.name, False)
        if silent_ns > limit_ns + 2 * _SECOND and not view.quality.stale:
            how = f"{view.ticker} is silent for {silent_ns / _SECOND:.0f} s and not marked stale"
            self._break("stale missed", frame, how)
        if view.quality.stale and link.name in self.stalled:
            self.stalled[link.name] = True
        # Blocks and oracle prices may come by another link.
        silent_ns = wire.now - min(wire.spoken.values(), default=wire.now)
        spoke = silent_ns < limit_ns - 2 * _SECOND and not wire.unconfirmed()
        if view.quality.stale and view.book.known and spoke:
            how = (
                f"all links spoke {silent_ns / _SECOND:.0f} s ago and {view.ticker} is marked stale"
            )
            self._break("false stale", frame, how)

    def _trades(self, frame: Frame) -> None:
        fills = self._bot.journal.of_kind("fill")[self._fills - self._bot.journal.counts["fill"] :]
        self._fills = self._bot.journal.counts["fill"]
        for entry in fills:
            view, size = self._bot.data.views[entry.ticker], Decimal(entry.value.size)
            self._traded[entry.ticker] += size if entry.value.side == "BUY" else -size
            self._book(view, frame)
            if wrong := unfounded(entry, view):
                self._break("phantom trade", frame, f"{entry.id} {entry.words}: {wrong}")

    def _account(self, frame: Frame) -> None:
        if wrong := imbalance(self._bot, self._traded):
            self._break("account", frame, wrong)

    def _tape(self, view: MarketView, frame: Frame) -> None:
        true = undisturbed(self._wire.tape).get(view.ticker)
        # What was lost last, no later id has shown.
        hidden = any(map(self._wire.hides, self._wire.links))
        if true is not None and not hidden and (wrong := misremembered(view, true)):
            self._break("tape", frame, f"the tape of {view.ticker} is not true: {wrong}")


@lru_cache(maxsize=1)
def undisturbed(tape: Tape) -> Mapping[str, MarketView]:
    """Return the markets at the end of a tape on which nothing goes wrong."""
    state = DataState()
    for frame in tape.frames:
        step(state, of_trades(frame))
    return state.views


def of_trades(frame: Frame) -> Frame:
    """Hide the venue's own candles: where they stand in for ours, ours may be wrong."""
    is_hidden = frame.channel == "v4_candles" and frame.type.startswith("channel_")
    return msgspec.structs.replace(frame, channel="") if is_hidden else frame


def misremembered(view: MarketView, true: MarketView) -> str:
    """Return where candles that claim to be whole, or the flow over them, are not as expected."""
    for name, ring in view.candles.items():
        expected = {candle.started_at: candle for candle in true.candles[name]}
        for candle in ring:
            should = expected.get(candle.started_at, candle)
            is_short = candle.state == "partial" and candle.trades <= should.trades
            if not is_short and _figures(candle) != _figures(should):
                return f"{name} shows {candle}, true is {should}"
    flow, has = view.flow, true.flow
    whole_ns = min((c.started_at for c in _whole_tail(view.candles["1MIN"])), default=flow.now_ns)
    for window, length_ns in _WINDOWS:
        if flow.now_ns == has.now_ns and whole_ns <= flow.now_ns - length_ns:
            shown, should_be = _sums(flow, window), _sums(has, window)
            if shown != should_be:
                return f"the flow of {window} is {shown}, true is {should_be}"
    return ""


_WINDOWS: Final[Sequence[tuple[str, int]]] = (("1MIN", 60 * _SECOND), ("5MINS", 300 * _SECOND))


def _sums(flow: Flow, window: str) -> tuple[float, ...]:
    of = flow.over(window)
    return of.trades, of.buys, of.sells, of.usd


def _figures(candle: Candle) -> tuple[int, ...]:
    prices = candle.open, candle.high, candle.low, candle.close
    return (*prices, candle.volume, candle.usd_volume, candle.trades)


def _whole_tail(minutes: Candles) -> Iterator[Candle]:
    return takewhile(lambda candle: candle.state != "partial", reversed([*minutes]))


def difference(book: Book, expected: Ladders) -> str:
    """Return where a book is not as expected, or ""; what uncrossing hides may be missing."""
    sides = (("bids", book.bids(), expected[0]), ("asks", book.asks(), expected[1]))
    for name, shown, true in sides:
        has = {level.price: (level.price_text, level.size_text) for level in shown}
        for price, level in sorted(has.items() - true.items()):
            is_ = " x ".join(true.get(price, ["nothing there"]))
            return f"{name} show {' x '.join(level)}, true is {is_}"
    hidden = sum(len(side) for side in expected) - len(book.bids()) - len(book.asks())
    if hidden != book.crossed:
        return f"{hidden} levels are missing, of which {book.crossed} are hidden by uncrossing"
    return ""


def unfounded(entry: JournalEntry, view: MarketView) -> str:
    """Return why a fill is unfounded, or "": its level must have stood there, uncrossed."""
    fill, book = entry.value, view.book
    if fill.type == "DELEVERAGED":
        return ""
    if not book.known or view.quality.stale:
        return f"the book is {'stale' if book.known else 'unknown'}"
    bid, ask = book.best_bid, book.best_ask
    if bid is not None and ask is not None and bid.price >= ask.price:
        return f"the book is crossed at {bid.price_text} to {ask.price_text}"
    offered: Sequence[Level] = book.asks() if fill.side == "BUY" else book.bids()
    if fill.price not in {Decimal(level.price_text) for level in offered}:
        return "no such level is shown"
    return ""


def imbalance(bot: Bot, traded: Mapping[str, Decimal]) -> str:
    """Return where ledger, account, profit and the sizes `traded` disagree, or ""."""
    ledger, account = ledger_of(bot), bot.risk.account
    if not ledger.tally.fills:
        return ""
    where = ledger.paid
    paid = where.for_fills + where.fees + where.funding + where.insurance
    if ledger.deposits - paid != ledger.collateral:
        return f"{paid} was paid of {ledger.deposits}, but {ledger.collateral} is left"
    if account.trouble or ledger.collateral != account.collateral:
        return (
            account.trouble or f"{ledger.collateral} is left, the account has {account.collateral}"
        )
    held = {
        name: holding.market.size(holding.quantums) for name, holding in ledger.holdings.items()
    }
    for who, has in (
        ("the fills make", {ticker: size for ticker, size in traded.items() if size}),
        ("the account has", {ticker: own.size for ticker, own in account.positions.items()}),
    ):
        if has != held:
            return f"the ledger holds {_sizes(held)}, {who} {_sizes(has)}"
    return _unlike(bot)


def ledger_of(bot: Bot) -> Ledger:
    """Return the ledger of the paper venue that chaos is played against."""
    return cast(PaperVenue, bot.venue).ledger


def _sizes(held: Mapping[str, Decimal]) -> str:
    return ", ".join(f"{size} {ticker}" for ticker, size in sorted(held.items())) or "nothing"


def _unlike(bot: Bot) -> str:
    ledger, margin = ledger_of(bot), bot.risk.margin
    if ledger.equity is None or not margin.known:
        return ""
    if ledger.equity != margin.net_collateral:
        return f"the ledger is worth {ledger.equity}, the account {margin.net_collateral}"
    profit = ledger.realized_pnl + ledger.unrealized_pnl + ledger.unsettled
    paid = ledger.paid.fees + ledger.paid.insurance
    unexplained = ledger.equity - (ledger.deposits + profit - paid)
    # What closing earned is rounded once, what is open once a position.
    if abs(unexplained) > 1 + len(ledger.holdings):
        return f"{unexplained} quote quantums of the equity {ledger.equity} are unexplained"
    return ""


# === Runs ===
# One seed from plan to result, and the search for the fewest faults that still fail.


def survive(tape: Tape, seed: int, faults: Iterable[Fault], options: Options) -> SeedResult:
    """Run a bot through a tape with these faults of a seed; return what became of it."""
    bot, wire = Bot(options), Wire(tape, faults, announces=seed % 2 == 1)
    watch = Inspector(bot, wire)
    try:
        bot.run(from_generator(watch.frames))
    except Exception as error:
        if error is watch.own_error:
            raise
        watch.broken["crash"] = f"{type(error).__name__}: {error} (frame {bot.data.seq})"
    return SeedResult(
        broken=watch.broken,
        injected=Counter(fault.kind for fault in wire.injected),
        gaps=watch.gaps,
        gaps_found=watch.gaps_found,
        stalls=len(watch.stalled),
        stalls_marked=sum(watch.stalled.values()),
        frames=bot.data.frames,
        run_hash=bot.journal.hash,
    )


def fewest(faults: list[Fault], fails: Callable[[list[Fault]], bool]) -> list[Fault]:
    """Leave out whatever the failure does not need: halves first, then ever smaller parts."""
    size = len(faults)
    while size := size // 2:
        start = 0
        while start < len(faults):
            rest = faults[:start] + faults[start + size :]
            if rest and fails(rest):
                faults = rest
            else:
                start += size
    return faults


class Failure(msgspec.Struct, kw_only=True):
    """A promise that a seed broke, how, and the fewest of its faults that still break it."""

    seed: int
    promise: str
    how: str
    faults: list[Fault]
    of: int

    @property
    def kinds(self) -> set[str]:
        """Return the kinds of fault that are to blame."""
        return {fault.kind for fault in self.faults} or {NO_FAULT}


def shrunk(failure: Failure, tape: Tape, options: Options) -> Failure:
    """Find the fewest faults with which the promise is still broken, and how they break it."""
    how = failure.how

    def fails(faults: list[Fault]) -> bool:
        nonlocal how
        broken = survive(tape, failure.seed, faults, options).broken
        how = broken.get(failure.promise, how)
        return failure.promise in broken

    faults = fewest(failure.faults, fails)
    return msgspec.structs.replace(failure, faults=faults, how=how)


# === Report ===
# The survival table and the failures, as data and as lines of eighty columns.


def survival_table(
    outcomes: Sequence[SeedResult], failures: Sequence[Failure]
) -> list[dict[str, Any]]:
    """Count by kind of fault: a failure stands with the kinds that its fewest faults are of."""
    return [_row(kind, outcomes, failures) for kind in (NO_FAULT, *FAULTS)]


def _row(kind: str, outcomes: Iterable[SeedResult], failures: Iterable[Failure]) -> dict[str, Any]:
    met = [o for o in outcomes if o.injected[kind] or (kind == NO_FAULT and not o.injected)]
    broken = Counter(failure.promise for failure in failures if kind in failure.kinds)
    holes, found = sum(o.gaps[kind] for o in met), sum(o.gaps_found[kind] for o in met)
    stalls = [(o.stalls, o.stalls_marked) for o in met if kind == "stall"]
    return {
        "fault": kind,
        "seeds": len(met),
        "times": sum(o.injected[kind] for o in met),
        "crashes": broken["crash"],
        "phantoms": broken["phantom"] + broken["phantom trade"],
        "blind": broken["blind"],
        "false_alarms": broken["false alarm"] + broken["false stale"],
        "gaps": holes,
        "gaps_found": found,
        "silences": sum(stalls_ for stalls_, _ in stalls),
        "marked_stale": sum(marked for _, marked in stalls),
        "account_equal": sum("account" not in o.broken and "crash" not in o.broken for o in met),
    }


def survival_lines(report: dict[str, Any]) -> list[str]:
    """Put a report in words, none wider than a terminal of eighty columns."""
    made_by = f" ({made_words(report['made_by'])})" if report["made_by"] else ""
    tail = "" if report["complete"] else "  (ended early)"
    return [
        f"source       {report['recording']}{made_by}",
        f"tape         {report['frames']:,} frames, {report['seconds']:.1f} s, "
        f"books: {report['books']}, connections: {report['connections']}",
        f"seeds        {report['survived']} survived, {report['failed']} failed{tail}",
        "",
        _HEAD.format(*_TITLES),
        *(_HEAD.format(*_cells(row)) for row in report["table"] if row["seeds"]),
        "",
        *(line for failure in report["failures"] for line in _failure_lines(failure)),
        f"speed        {report['frames_per_s']:,} frames/s through the bot and its inspector, "
        f"{report['took_s']:.1f} s",
    ]


_TITLES: Final = (
    "fault", "seeds", "times", "crash", "phantom", "blind", "alarm", "gaps found", "stale",
    "account",
)  # fmt: skip
_HEAD: Final = "{:<10} {:>5} {:>5} {:>5} {:>7} {:>5} {:>5} {:>10} {:>7} {:>8}"


def _cells(row: dict[str, Any]) -> tuple[Any, ...]:
    def of(part: str, whole: str) -> str:
        return f"{row[part]}/{row[whole]}" if row[whole] else "-"

    bad = (row["crashes"], row["phantoms"], row["blind"], row["false_alarms"])
    met = (of("gaps_found", "gaps"), of("marked_stale", "silences"), of("account_equal", "seeds"))
    return row["fault"], row["seeds"], row["times"], *bad, *met


def _failure_lines(failure: dict[str, Any]) -> list[str]:
    wrapped = textwrap.wrap(f"{failure['promise']}: {failure['how']}", 66)
    faults = [
        f"{fault['number']:>2} {fault['kind']}, at {fault['at_s']:.1f} s: {fault['words']}"
        for fault in failure["faults"]
    ]
    heading = f"enough of its {failure['of']} faults:" if faults else "without faults"
    return [
        *(f"{head:<13}{line}" for head, line in zip_first(f"seed {failure['seed']}", wrapped)),
        f"{'':<13}{heading}",
        *(f"{'':<15}{fault}" for fault in faults),
        f"{'':<13}again: {failure['again']}",
        "",
    ]


def zip_first(head: str, rows: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Put a head before the first of some rows, and nothing before the others."""
    for row in rows:
        yield head, row
        head = ""


# === Command ===
# `bot chaos`: many seeds or one, shrinking, and the exit code.

SHRUNK_AT_MOST: Final = 8  # a bug breaks many seeds in one way: the first few show which


def chaos(arguments: argparse.Namespace) -> int:
    """Run many seeds, or one, and print which promises held: 1 if any did not."""
    recording = Recording(find_recording(arguments.recording))
    # A strategy that raises is a crash here, and not to be survived.
    options = msgspec.structs.replace(options_as_recorded(arguments, recording.header), strict=True)
    tape = _tape(str(recording.path.resolve()), arguments.seconds)
    days = Days(recording.path, arguments.seconds, options, engine_typed(arguments))
    complete = days.live_through(_plans(arguments, tape))
    report = {
        "recording": arguments.recording,
        "made_by": recording.header.source,
        "frames": len(tape.frames),
        "seconds": round(tape.second(-1), 3),
        "books": len(tape.link_of),
        "connections": len(tape.subscribed),
        "complete": complete,
        "survived": sum(not outcome.broken for outcome in days.outcomes),
        "failed": sum(bool(outcome.broken) for outcome in days.outcomes),
        "table": survival_table(days.outcomes, days.failures),
        "failures": [_failure_row(failure, tape, arguments) for failure in days.failures],
        "took_s": round(days.took_s, 3),
        "frames_per_s": round(sum(o.frames for o in days.outcomes) / (days.took_s or 1)),
    }
    print(json.dumps(report, indent=2) if arguments.json else as_lines(survival_lines(report)))
    return 1 if days.failures else 0 if complete else 130


class Day(msgspec.Struct, frozen=True):
    """A task of chaos, for any process: what is played, by which options, with which faults."""

    path: str
    seconds: float | None
    options: Options
    seed: int
    faults: list[Fault]
    failure: Failure | None = None


@lru_cache(maxsize=1)
def _tape(path: str, seconds: float | None) -> Tape:
    return Tape(Recording(Path(path)), seconds)


def live_through(day: Day) -> SeedResult:
    """Run the plan of a day."""
    return survive(_tape(day.path, day.seconds), day.seed, day.faults, day.options)


def shrink(day: Day) -> Failure:
    """Find the fewest faults of a day that still make its failure."""
    if day.failure is None:
        raise ConnError(f"expected the failure of seed {day.seed}, got none")
    return shrunk(day.failure, _tape(day.path, day.seconds), day.options)


class Days:
    """The seeds run so far: what became of each, and which failed."""

    def __init__(self, path: Path, seconds: float | None, options: Options, engine: Engine) -> None:
        self.failures: list[Failure] = []
        self.took_s = 0.0
        self._engine = engine
        self._day = Day(str(path.resolve()), seconds, options, 0, [])
        self._outcomes: dict[int, SeedResult] = {}

    @property
    def outcomes(self) -> list[SeedResult]:
        """Return what became of each seed, in their order."""
        return [self._outcomes[seed] for seed in sorted(self._outcomes)]

    def live_through(self, plans: dict[int, list[Fault]]) -> bool:
        """Run each plan, then shrink what failed; False if somebody ended it early."""
        began = time.monotonic()
        days = [replace(self._day, seed=seed, faults=faults) for seed, faults in plans.items()]
        with self._engine, Progress("seeds", len(plans)) as progress:
            try:
                with between_frames():
                    self._run(days, progress, began)
            except KeyboardInterrupt:
                return False
        return True

    def _run(self, days: Sequence[Day], progress: Progress, began: float) -> None:
        for number, outcome in self._engine.run(live_through, days):
            begin_frame()
            self._note(days[number], _required(outcome))
            self.took_s = time.monotonic() - began
            progress.step(f"{len(self.failures)} failed")
            end_frame()
        self.failures.sort(key=lambda failure: failure.seed)
        first = self.failures[:SHRUNK_AT_MOST]
        if first:
            progress.begin("failures shrunk", len(first))
        broken = [replace(self._day, seed=one.seed, failure=one) for one in first]
        for number, failure in self._engine.run(shrink, broken):
            self.failures[number] = _required(failure)
            progress.step()

    def _note(self, day: Day, outcome: SeedResult) -> None:
        self._outcomes[day.seed] = outcome
        for promise, how in outcome.broken.items():
            faults = day.faults
            self.failures.append(
                Failure(seed=day.seed, promise=promise, how=how, faults=faults, of=len(faults))
            )


def _required(result: _Of | Lost) -> _Of:
    if isinstance(result, Lost):
        raise EngineError(f"expected what became of each seed, got: {result.why}")
    return result


def _plans(arguments: argparse.Namespace, tape: Tape) -> dict[int, list[Fault]]:
    """Plan the seeds that were requested; seed 0 is the recording as it is."""
    if arguments.seed is None:
        if arguments.only:
            raise ConnError(f"expected --seed N beside --only {arguments.only}, got none")
        return {seed: plan(tape, seed) for seed in range(arguments.seeds + 1)}
    faults = plan(tape, arguments.seed)
    if not arguments.only:
        return {arguments.seed: faults}
    wanted = arguments.only.replace(",", " ").split()
    if unknown := [number for number in wanted if number not in {str(f.number) for f in faults}]:
        raise ConnError(
            f"expected faults of seed {arguments.seed}, 1 to {len(faults)}, "
            f"such as --only 1,2, got {', '.join(unknown)}"
        )
    return {arguments.seed: [fault for fault in faults if str(fault.number) in wanted]}


def _failure_row(failure: Failure, tape: Tape, arguments: argparse.Namespace) -> dict[str, Any]:
    only = ",".join(str(fault.number) for fault in failure.faults)
    typed = {"--seed": failure.seed, "--only": only, "--seconds": arguments.seconds}
    words = [str(word) for pair in typed.items() if pair[1] not in (None, "") for word in pair]
    words += typed_again(arguments)
    faults = [
        {**msgspec.to_builtins(fault), "at_s": tape.second(fault.index), "words": words_of(fault)}
        for fault in failure.faults
    ]
    return {
        "seed": failure.seed,
        "promise": failure.promise,
        "how": failure.how,
        "of": failure.of,
        "faults": faults,
        "again": shlex.join(["bot", "chaos", arguments.recording, *words]),
    }
