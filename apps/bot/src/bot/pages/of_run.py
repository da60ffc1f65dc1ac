"""A run at its end as a report: what it has itself, and what was gathered as it went on.

    Bot, Gathered, the recording if there is one ──► report_of_run ──► Report

Nothing here changes the run. The text of frames is read from the recording, once for all entries;
without one, as of a run on a network that is not recorded, they are named by number alone.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Final, NamedTuple

from dydx_conn import Recording
from dydx_data import RESOLUTIONS
from dydx_paper import PaperVenue, execution_figures

from bot.config.loaded import Loaded
from bot.database.rows import fill_row
from bot.outlet import one_line
from bot.pages.gathered import Gathered
from bot.pages.months import Point, months_of
from bot.pages.shape import (
    Candle,
    Cost,
    Entry,
    Fill,
    Latency,
    Market,
    Month,
    Named,
    Payment,
    Quality,
    Report,
    Setting,
    Trouble,
    Wire,
    exact,
)
from bot.pages.sums import (
    LEVELS,
    by_market,
    fill_of,
    matched,
    named_lines,
    performance_by,
    performance_of,
    reasons_of,
    trade_of,
)
from bot.pages.versions import versions
from bot.report.brief import brief_lines, wrong_lines
from bot.report.report import report_of
from bot.report.why import WIRE, details, frames_behind, frames_of, held_words, wire_head
from bot.run.composition import Bot
from bot.run.journal import VERDICTS, JournalEntry
from bot.run.meters import LatencyHistogram
from bot.screen.closeup import candles_of
from bot.screen.snapshot import equity_of
from bot.times import iso
from bot.version import commit_of

MARKETS: Final = 12  # whose candles are drawn
ROWS: Final = 1_000  # of a table, the newest
_LETTERS: Final = 2_000_000  # of the wire, in all


class Source(NamedTuple):
    """Which run a report is of: what it is called, its mode, its network and its recording."""

    name: str
    mode: str
    network: str
    recording: Recording | None = None
    complete: bool = True


def report_of_run(bot: Bot, gathered: Gathered, source: Source) -> Report:
    """Return the report of a run that is over."""
    name, recording = source.name, source.recording
    did = report_of(bot, name=name, recording=recording, complete=source.complete)
    entries = [*gathered.entries.values()]
    kinds = _Kinds(entries)
    fills = _fills(gathered, entries)
    shown = _shown(gathered, kinds)
    positions = matched(gathered.positions.values(), gathered.grouping.made_by)
    policy, loaded, wrong = bot.options.policy, bot.options.config, wrong_lines(did)
    return Report(
        source=name, mode=source.mode, network=source.network, account=str(bot.venue.subaccount),
        made_by=did["made_by"] or "",
        began=iso(gathered.began_at) if gathered.began_at else None,
        ended=iso(bot.data.at) if bot.data.at else None,
        complete=source.complete, profile=bot.options.profile, strategy=bot.options.strategy,
        guarded=bot.options.guard, run_hash=did["run_hash"],
        versions=versions(), commit=commit_of(), frames=did["frames"],
        tickers=tuple(did["markets"]),
        wrong=tuple(wrong), missing=tuple(_missing(bot, source)),
        left_out=tuple(_left_out(gathered, bot, fills)),
        summary=_summary(did, wrong),
        performance=performance_of(bot.shown.performance())
        or performance_by(gathered.positions.values()),
        settings=settings_of(loaded), settings_hash=None if loaded is None else loaded.hash,
        curve=equity_of(bot), levels=_levels(bot), most_leverage=policy.max_leverage,
        trades=tuple(trade_of(row, made) for row, made in reversed(positions[-ROWS:])),
        fills=tuple(reversed(fills[-ROWS:])), by_market=by_market(row for row, _ in positions),
        months=_months(bot, gathered), markets=_markets(bot, gathered, fills),
        reasons=reasons_of(_reasons(kinds.of(*VERDICTS))),
        decisions=kinds.ids("decision"), verdicts=kinds.ids(*VERDICTS),
        guard=kinds.ids("reduce"), acts=kinds.ids("act"), gate=kinds.ids("gate"),
        entries=shown, wire=_wire(recording, shown.values()),
        costs=_costs(bot), funding=_funding(gathered), latency=_latency(bot),
        quality=_quality(gathered), errors=_errors(bot, gathered),
    )  # fmt: skip


def _summary(did: Mapping[str, Any], wrong: Sequence[str]) -> tuple[Named, ...]:
    """Return the lines that every run ends with, and one for each of several strategies."""
    lines = named_lines(line for line in brief_lines(did) if line not in wrong)
    shares = (
        Named(name=one_line(row["title"]),
              words=f"{row['pnl']:+,.2f} USDC, {row['fees']:,.2f} of fees, {row['state']}")
        for row in did["strategies"]
    )  # fmt: skip
    return (*lines, *shares)


class _Kinds:
    """Entries by their kinds, newest first."""

    def __init__(self, entries: Sequence[JournalEntry]) -> None:
        self._entries = entries

    def of(self, *kinds: str) -> list[JournalEntry]:
        return [entry for entry in self._entries if entry.kind in kinds]

    def ids(self, *kinds: str) -> tuple[str, ...]:
        return tuple(islice((entry.id for entry in reversed(self.of(*kinds))), ROWS))


# === What happened ===


def _shown(gathered: Gathered, kinds: _Kinds) -> dict[str, Entry]:
    """Return the entries that a table shows, and those that led to them."""
    wanted = dict.fromkeys(kinds.ids("decision") + kinds.ids(*VERDICTS) + kinds.ids("reduce"))
    wanted |= dict.fromkeys(kinds.ids("fill") + kinds.ids("act") + kinds.ids("gate"))
    waiting = [*wanted]
    while waiting:
        entry = gathered.entries.get(waiting.pop())
        if entry is not None and entry.parent and entry.parent not in wanted:
            wanted[entry.parent] = None
            waiting.append(entry.parent)
    found = (gathered.entries[id_] for id_ in wanted if id_ in gathered.entries)
    return {entry.id: _entry(entry) for entry in found}


def _entry(entry: JournalEntry) -> Entry:
    lines = (*details(entry.value), *map(held_words, entry.held))
    return Entry(
        id=entry.id, kind=entry.kind, at=iso(entry.at), seq=entry.seq, ticker=entry.ticker,
        words=one_line(entry.words), parent=entry.parent, details=tuple(map(one_line, lines)),
        frames=tuple(frames_behind([entry])),
    )  # fmt: skip


def _fills(gathered: Gathered, entries: Iterable[JournalEntry]) -> list[Fill]:
    return [
        fill_of(fill_row(entry), entry.parent, is_exit=entry.id in gathered.grouping.exits)
        for entry in entries
        if entry.kind == "fill"
    ]


def _reasons(verdicts: Iterable[JournalEntry]) -> Iterator[tuple[str, str, str]]:
    for entry in verdicts:
        value = entry.value
        yield entry.kind, str(getattr(value, "reason", getattr(value, "cause", ""))), entry.id


def _wire(recording: Recording | None, entries: Iterable[Entry]) -> dict[int, Wire]:
    if recording is None:
        return {}
    seqs = sorted({*chain.from_iterable(entry.frames for entry in entries)})
    found: dict[int, Wire] = {}
    room = _LETTERS
    for frame in frames_of(recording.path, seqs, recording.kinds):
        text = one_line(frame.text[: WIRE if room > 0 else 0])
        room -= len(text)
        found[frame.seq] = Wire(
            seq=frame.seq, head=one_line(wire_head(frame)), text=text, letters=len(frame.text)
        )
    return found


def _funding(gathered: Gathered) -> tuple[Payment, ...]:
    newest = sorted(gathered.payments, key=lambda row: -row["at"])[:ROWS]
    return tuple(
        Payment(at=iso(row["at"]), ticker=row["ticker"], size=row["size"],
                received=exact(row["quote"]))
        for row in newest
    )  # fmt: skip


# === How it stood ===


def _levels(bot: Bot) -> dict[str, float]:
    policy = bot.options.policy
    if not bot.risk.guard:
        return {}
    return {words: getattr(policy, name) for words, name in LEVELS.items()}


def settings_of(loaded: Loaded | None) -> tuple[Setting, ...]:
    """Return every setting with its origin; of a secret what may be seen."""
    if loaded is None:
        return ()
    return tuple(
        Setting(path=path, value=one_line(json.dumps(value, ensure_ascii=False)),
                origin=one_line(loaded.origins[path]))
        for path, value in loaded.plain().items()
    )  # fmt: skip


def _markets(bot: Bot, gathered: Gathered, fills: Sequence[Fill]) -> tuple[Market, ...]:
    tickers = [*dict.fromkeys(fill.ticker for fill in reversed(fills))][:MARKETS]
    span_ns = bot.data.at - gathered.began_at
    found = []
    for ticker in tickers:
        view, line = bot.data.views.get(ticker), gathered.lines.get(ticker)
        if view is None or not view.candles:
            continue
        # The finest of which the whole run is there.
        fits = (n for n, c in view.candles.items() if RESOLUTIONS[n] * c.capacity >= span_ns)
        resolution = next(fits, [*view.candles][-1])
        rows = candles_of(bot, ticker, resolution).rows
        found.append(Market(
            ticker=ticker, resolution=resolution,
            candles=tuple(
                Candle(
                    started_at=row.started_at, open=row.open, high=row.high, low=row.low,
                    close=row.close, volume=row.volume, usd=row.usd, trades=row.trades,
                    state=row.state,
                ) for row in rows
            ),
            liquidation=() if line is None else line.points,
        ))  # fmt: skip
    return tuple(found)


def _months(bot: Bot, gathered: Gathered) -> tuple[Month, ...]:
    if not isinstance(bot.venue, PaperVenue):
        return ()  # the worth of a real account is not marked by the hour
    ledger, began = bot.venue.ledger, gathered.began_at
    marked = [p for p in ledger.history.points if p.created.at > began and p.equity is not None]
    points = [Point(p.created.at, p.equity or 0, p.net_transfers) for p in marked]
    if ledger.equity is not None:
        points.append(Point(bot.data.at, ledger.equity, ledger.deposits))
    # An account that goes on was worth at its beginning what its first hour says, not its deposit.
    if not bot.shown.carried:
        deposit = bot.options.deposit * 10**6
        points.insert(0, Point(began, deposit, deposit))
    ended = ((row.ended, row.record.realized - row.record.fees) for row in bot.dealt.trades)
    return months_of(points, ended)


def _costs(bot: Bot) -> tuple[Cost, ...]:
    did = bot.venue.figures()
    costs = [
        Cost(kind="fees", paid=exact(did.fees_paid)),
        Cost(kind="funding", paid=exact(did.funding_paid)),
        Cost(kind="funding not settled", paid=exact(-did.unsettled)),
        Cost(kind="insurance fund", paid=exact(did.insurance_paid)),
    ]
    slipped = [one.slippage for one in execution_figures(bot.executed.fills)]
    known = [one for one in slipped if one is not None]
    # From mid when it was decided: it is in the prices already, and in no sum.
    usdc = exact(round(sum(known) * 1e6)) if known else None  # to the quantum
    return (*costs, Cost(kind="slippage, in the prices already", paid=usdc))


def _latency(bot: Bot) -> tuple[Latency, ...]:
    stages: dict[str, LatencyHistogram] = {"frame to last order": bot.meters.latency}
    if bot.shown.way is not None:
        stages |= bot.shown.way.latencies
    return tuple(
        Latency(
            stage=stage, frames=found.count,
            us={name: round(ns / 1e3, 1) for name, ns in found.percentiles().items()},
        )
        for stage, found in stages.items()
        if found.count
    )  # fmt: skip


def _quality(gathered: Gathered) -> tuple[Quality, ...]:
    return tuple(
        Quality(ticker=row.ticker, why=one_line(row.why), known=row.known, complete=row.complete,
                lag_p99_ms=row.lag_p99_ms, troubles=dict(row.counts))
        for row in gathered.quality
    )  # fmt: skip


def _errors(bot: Bot, gathered: Gathered) -> tuple[Trouble, ...]:
    around = [
        Trouble(kind="around the run", endpoint=who, count=1, sample=one_line(words))
        for who, words in bot.shown.troubles.items()
    ]
    refused = [
        Trouble(kind="order refused", endpoint="venue", count=count, sample=one_line(words))
        for words, count in bot.venue.refusals.most_common()
    ]
    of_wire = [
        Trouble(kind=kind, endpoint=one_line(endpoint), count=count,
                sample=gathered.samples.get((kind, endpoint), ""))
        for (kind, endpoint), count in gathered.errors.most_common(ROWS)
    ]  # fmt: skip
    return (*around, *refused, *of_wire)


# === What is not there ===


def _missing(bot: Bot, source: Source) -> Iterator[str]:
    if not isinstance(bot.venue, PaperVenue):
        yield "Sharpe, Sortino, turnover: the worth of a real account is not marked by the hour"
    if source.recording is None:
        yield "the text of the wire: the run was not played from a recording"
    if bot.shown.way is None:
        yield "latency by stage: bot report RECORDING measures it"
    if commit_of() is None:
        yield "the commit: this bot was not built from a checkout that names one"
    if bot.options.config is None:
        yield "the settings' origins"


def _left_out(gathered: Gathered, bot: Bot, fills: Sequence[Fill]) -> Iterator[str]:
    counts = bot.journal.counts
    for what, count in {"decisions": counts["target"] + counts["hold"],
                        "verdicts": sum(counts[kind] for kind in VERDICTS)}.items():  # fmt: skip
        if count > ROWS:
            yield f"{count - ROWS:,} of {count:,} {what}, the oldest"
    if gathered.dropped:
        yield f"{gathered.dropped:,} entries of the journal, the oldest"
    tables = {"fills": len(fills), "positions": len(gathered.positions)}
    for what, count in tables.items():
        if count > ROWS:
            yield f"{count - ROWS:,} of {count:,} {what}, the oldest"
    traded = len({fill.ticker for fill in fills})
    if traded > MARKETS:
        yield f"the candles of {traded - MARKETS} of {traded} markets, those traded longest ago"
