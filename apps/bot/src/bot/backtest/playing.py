"""Play recordings through variants, as fast as they can be read, and reckon what each came to.

    Recording ─► frames of a span, warmed up ─► Front, or a Bot alone ─► Played by Played

Each recording is a run of its own with a fresh account; what its own run did, its acts and its
account, is no part of the data. A variant that raises ends alone: its outcome says so.
"""

import argparse
from collections.abc import Callable, Generator, Iterator, Sequence
from decimal import Context, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from dydx_conn import ConnError, Frame, Inbox, Recording, from_generator
from dydx_paper import PaperVenue, PositionRecord
from msgspec.structs import replace
from reactivex import Observable

from bot.backtest.figures import RunFigures, figures_of
from bot.backtest.held import Held
from bot.backtest.judged import Part, judged, named_words
from bot.backtest.words import Variant, began_at
from bot.database.rows import replay_written_down
from bot.ending import Ended, begin_frame, between_frames, whole
from bot.live.commands import RUN, options_as_recorded
from bot.live.runs import seldom_stopped
from bot.progress import Progress
from bot.run.beside import begun
from bot.run.budget import watched
from bot.run.composition import Bot, Options, raised
from bot.run.front import Front
from bot.run.resume import ACCOUNT
from bot.times import utc

if TYPE_CHECKING:
    from bot.pages.reporting import Reporting

_SECOND_NS: Final = 1_000_000_000
_DAY_NS: Final = 86_400 * _SECOND_NS
_SUFFIX: Final = ".jsonl.zst"
_STEP: Final = 256  # frames between two looks at how far it is


# === Values ===


class Span(NamedTuple):
    """From when on a run trades, and where the frames end; ns, None for no bound.

    Of the time before `since` so much is played as warms up: `warmup`, of history, else all.
    """

    since: int | None = None
    until: int | None = None
    warmup: int = 2 * _DAY_NS


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One trade, as a table has it: USDC, base units and prices are exact, times ns.

    `profit` is after `fees` (paid) and `funding` (received); `mae` and `mfe` are the least and the
    most that it had come to, by the oracle price once a second, None where nobody looked. What is
    open still has the reason "open". `decision`, `verdict` and `fills` are ids for `bot why`.
    """

    strategy: str
    recording: str
    ticker: str
    side: str
    size: Decimal
    opened: int
    closed: int | None
    entry: Decimal
    exit: Decimal | None
    profit: Decimal | None
    fees: Decimal
    funding: Decimal
    mae: Decimal | None
    mfe: Decimal | None
    reason: str
    decision: str
    verdict: str
    fills: tuple[str, ...]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one variant came to on one recording.

    `failure` is what it raised, "" if nothing; not `complete` is one that was ended early. `damage`
    names what of the recording is lost, `acts` counts what of the recorded run is left out, `early`
    updates of books that a loss had made unknown; `trouble` is why something was not written.
    """

    strategy: str
    recording: str
    made_by: str
    figures: RunFigures
    complete: bool
    failure: str
    damage: tuple[str, ...]
    acts: int
    early: int
    trades: tuple[Row, ...]
    trouble: str = ""


class Played(NamedTuple):
    """An outcome, and what it is judged by."""

    outcome: Outcome
    part: Part


# === Playing ===


def played(
    recording: Recording,
    variants: Sequence[Variant],
    span: Span,
    progress: Progress,
    page_of: Callable[[str, str], Path] | None = None,
) -> Iterator[Played]:
    """Play a recording through each variant; `page_of` names the page of a variant's run on it.

    Ctrl-C ends what is being played: its outcome is not complete, and is the last.
    """
    source = Source(recording, span)
    jobs = [job_of(variant, recording) for variant in variants]
    # What is written down of a run is gathered as it goes on, of each by itself.
    if len(jobs) > 1 and page_of is None and not jobs[0].arguments.journal:
        what = f"{len(jobs)} strategies on {source.name}, seconds"
        yield from played_together(jobs, source, progress, what)
        return
    for job in jobs:
        found = _alone(job, source, progress, page_of)
        yield found
        if not found.outcome.complete:
            return


def played_together(
    jobs: Sequence["Job"], source: "Source", progress: Progress, what: str
) -> Iterator[Played]:
    """Play a recording once for all; each comes to what it would alone.

    `what` says beside the bar of what it counts the seconds.
    """
    front, errors = Front([job.options for job in jobs], source.span.since), list[Exception]()
    seen, complete = _Seen(source, front.bots), True
    progress.begin(what, source.seconds)
    frames = source.frames([source.counting(progress), *seen.notes], lambda: bool(front.running))
    try:
        with seldom_stopped(), watched([bot.supervisor for bot in front.bots]), between_frames():
            frames.subscribe(whole(front.take), errors.append)
    except Ended:
        complete = False
    finally:
        front.close()
    if errors:
        raise errors[0]
    for job, bot in zip(jobs, front.bots, strict=True):
        yield seen.played(job.label, bot, complete=complete)


def _alone(
    job: "Job", source: "Source", progress: Progress, page_of: Callable[[str, str], Path] | None
) -> Played:
    """Play a recording through one variant, with what is written down of it beside."""
    bot = Bot(job.options)
    seen = _Seen(source, [bot])
    pages = [] if page_of is None else [_page(bot, page_of(job.label, source.name))]
    beside = [*pages, *replay_written_down(job.arguments, bot, source.recording)]
    progress.begin(f"{job.label} on {source.name}, seconds", source.seconds)
    notes = [source.counting(progress), *seen.notes, *(each.note for each in beside)]
    with begun(beside, Inbox()):
        complete = source.play(bot, notes)
    found = seen.played(job.label, bot, complete=complete)
    for page in pages:
        words = named_words(judged([found.part]))
        page.write(source.name, "backtest", source.network, source.recording, complete=complete,
                   chance=words)  # fmt: skip
    if trouble := "; ".join(one.trouble for one in beside if one.trouble):
        return found._replace(outcome=replace(found.outcome, trouble=trouble))
    return found


class Job(NamedTuple):
    """A variant on a recording: what it is called, what was typed of it, and its options."""

    label: str
    arguments: argparse.Namespace
    options: Options


def job_of(variant: Variant, recording: Recording) -> Job:
    """Return a variant on a recording, whose own settings go below what is typed."""
    name = recording.path.name.removesuffix(_SUFFIX)
    typed = argparse.Namespace(**{**vars(variant.arguments), "recording": name})
    options = options_as_recorded(typed, recording.header)
    run = RUN.fullmatch(recording.header.run)
    if run is not None and run[1] == "paper":
        options = replace(options, account=run[2].removeprefix("dydx1"))
    return Job(variant.label or Path(options.strategy).name, typed, options)


def _page(bot: Bot, path: Path) -> "Reporting":
    from bot.pages.reporting import Reporting

    return Reporting(bot, path)


class Source:
    """The frames of a recording that count: a span of it, without what its own run did."""

    def __init__(self, recording: Recording, span: Span) -> None:
        self.recording, self.span = recording, span
        self.name = recording.path.name.removesuffix(_SUFFIX)
        self.began, self.ended = bounds(recording)
        self.acts = 0
        low, high, _ = span
        if (low is not None and low > self.ended) or (high is not None and high <= self.began):
            what = f"expected a span within {self.name}, {utc(self.began)} to {utc(self.ended)}"
            got = " to ".join("" if at is None else utc(at) for at in (low, high))
            raise ConnError(f"{what} (UTC), got {got.strip()}")

    @property
    def until(self) -> int:
        """Return when the span ends, or the recording."""
        return self.ended if self.span.until is None else min(self.span.until, self.ended)

    @property
    def first(self) -> int:
        """Return from when on frames are played."""
        if self.recording.header.history is None or self.span.since is None:
            return self.began
        return max(self.began, self.span.since - self.span.warmup)

    @property
    def seconds(self) -> float:
        """Return how much event time is played."""
        return (self.until - self.first) / _SECOND_NS

    @property
    def since(self) -> int:
        """Return from when on a run trades, 0 for from the first frame on."""
        return self.span.since or 0

    @property
    def network(self) -> str:
        """Return of which network it is, or of what stood in for it."""
        return self.recording.header.network

    def counting(self, progress: Progress) -> Callable[[Frame], None]:
        """Return what says by each frame how far it is."""

        def count(frame: Frame) -> None:
            if not frame.seq % _STEP:
                progress.at((frame.at - self.first) / _SECOND_NS, utc(frame.at))

        return count

    def play(
        self,
        bot: Bot,
        notes: Sequence[Callable[[Frame], None]],
        goes_on: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Run a bot on all frames, each shown to who takes notes first; True if that is the end.

        False if Ctrl-C, or nobody whom it is to go on for, ended it.
        """
        since = self.since
        bot.informed = not since

        def open_(frame: Frame) -> None:
            if frame.at >= since:
                bot.informed = True

        try:
            with seldom_stopped():
                bot.run(self.frames([*notes, open_] if since else notes, goes_on))
        except Ended:
            return False
        except Exception as error:
            if error not in (bot.stopped, bot.failure):
                raise
        return goes_on()

    def frames(
        self, notes: Sequence[Callable[[Frame], None]], goes_on: Callable[[], bool] = lambda: True
    ) -> Observable[Frame]:
        """Return the frames as a cold stream, as long as somebody wants it to go on."""

        def noted() -> Generator[Frame]:
            for frame in self._frames():
                begin_frame()
                for note in notes:
                    note(frame)
                yield frame
                if not goes_on():
                    return

        return from_generator(noted)

    def _frames(self) -> Iterator[Frame]:
        self.acts = 0
        for frame in self.recording.since(self.first):
            if self.span.until is not None and frame.at >= self.span.until:
                return
            if frame.kind == "act":
                self.acts += 1
            elif frame.kind != "state" or frame.link != ACCOUNT:
                yield frame


def bounds(recording: Recording) -> tuple[int, int]:
    """Return when the first and the last frame of a recording came; `ConnError` without any."""
    if (history := recording.header.history) is not None:
        return history.since_ns, history.until_ns
    newest = recording.newest()
    if newest is None:
        raise ConnError(f"expected a recording with messages in {recording.path}, got none")
    return began_at(recording), newest.at


# === Excursions ===


class Watch:
    """What each open position came to, at worst and at best: looked at once a second."""

    def __init__(self, bots: Sequence[Bot]) -> None:
        self._due = 0
        self._watched = [(bot, dict[str, tuple[int, int]]()) for bot in bots]

    def note(self, frame: Frame) -> None:
        """Look at what is held, if that is due."""
        if frame.at < self._due:
            return
        self._due = frame.at + _SECOND_NS
        for bot, seen in self._watched:
            venue = bot.venue
            if not isinstance(venue, PaperVenue) or not venue.ledger.holdings:
                continue
            for holding in venue.ledger.holdings.values():
                if (worth := _worth(venue.ledger.standing(holding))) is not None:
                    low, high = seen.get(holding.id, (worth, worth))
                    seen[holding.id] = min(low, worth), max(high, worth)

    def of(self, bot: Bot) -> dict[str, tuple[int, int]]:
        """Return the extremes of a bot's positions by their ids, quote quantums."""
        return next(seen for one, seen in self._watched if one is bot)


def _worth(record: PositionRecord) -> int | None:
    if record.unrealized is None:
        return None
    return record.realized + record.unrealized - record.fees


# === Outcomes ===


class _Seen:
    """What is followed of bots on one pass, beside what they follow themselves."""

    def __init__(self, source: Source, bots: Sequence[Bot]) -> None:
        self._source, self._watch = source, Watch(bots)
        self._held = Held(bots, max(source.began, source.since), source.until)
        self.notes = self._watch.note, self._held.note

    def played(self, label: str, bot: Bot, *, complete: bool) -> Played:
        """Return what a bot has come to."""
        source, error, dealt = self._source, bot.failure or bot.stopped, bot.dealt
        figures = figures_of(bot, source.since)
        outcome = Outcome(
            strategy=label, recording=source.name, made_by=source.recording.header.source,
            figures=figures, complete=complete,
            failure="" if error is None else raised(error), damage=(*source.recording.damage,),
            acts=source.acts, early=bot.data.counts().get("early", 0),
            trades=tuple(_rows(label, source.name, bot, self._watch.of(bot))),
        )  # fmt: skip
        part = Part(
            figures=figures,
            profits=tuple((t.record.realized - t.record.fees) / 1e6 for t in dealt.trades),
            path=self._held.path_of(bot), holding=self._held.holding(dealt.markets, figures.equity),
        )  # fmt: skip
        return Played(outcome, part)


def _rows(label: str, recording: str, bot: Bot, seen: dict[str, tuple[int, int]]) -> Iterator[Row]:
    def row(record: PositionRecord, owed: int = 0, **of_run: Any) -> Row:
        # `owed` is the funding since it was settled last: of what is open it is in the total.
        low, high = seen.get(record.id, (None, None))
        settled = _worth(record)
        worth = None if settled is None else settled + owed
        known = [one for one in (low, high, worth) if one is not None]
        return Row(
            strategy=label, recording=recording, ticker=record.ticker,
            side="LONG" if record.is_long else "SHORT", profit=_usdc(worth),
            fees=Decimal(record.fees).scaleb(-6),
            funding=Decimal(record.net_funding + owed).scaleb(-6),
            mae=_usdc(min(known)) if low is not None else None,
            mfe=_usdc(max(known)) if high is not None else None, **of_run,
        )  # fmt: skip

    for trade in bot.dealt.trades:
        yield row(
            trade.record, opened=trade.opened, closed=trade.ended, size=trade.size,
            entry=_price(trade.entry), exit=_price(trade.exit), reason=trade.reason,
            decision=trade.decision, verdict=trade.verdict, fills=trade.fills,
        )  # fmt: skip
    if not isinstance(bot.venue, PaperVenue):
        return
    for ticker, holding in bot.venue.ledger.holdings.items():
        dealt = bot.dealt.markets[ticker]
        ledger = bot.venue.ledger
        yield row(
            ledger.standing(holding), ledger.owed_ppm(holding) // 10**6,
            opened=dealt.opened, closed=None, size=dealt.size,
            entry=_price(dealt.entry),
            exit=_price(dealt.taken / dealt.left) if dealt.left else None,
            reason="open", decision=dealt.decision, verdict="", fills=tuple(dealt.made),
        )  # fmt: skip


def _price(average: Decimal) -> Decimal:
    """Return an average price with no more digits than anybody reads."""
    return _PRICES.plus(average)


_PRICES: Final = Context(prec=14)


def _usdc(quantums: int | None) -> Decimal | None:
    return None if quantums is None else Decimal(quantums).scaleb(-6)
