"""`bot fidelity`: what a run on trades, or on candles, makes of what happened on a book.

    recording ─► its trades, its candles, as pages of a history ─► unfold ─► Bot ┐
              └► as it was recorded ─────────────────────────────────────────► Bot ┴─► compared

One strategy on one span, three times: on the recorded books, on the trades alone, and on candles of
a minute that are made of these trades. Whatever differs is what a history without books costs in
truth; of the oracle price it has, as the venue's history does, that of each hour alone.
"""

import argparse
import contextlib
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
from dydx_conn import (
    ConnError,
    Frame,
    History,
    Recording,
    contents,
    find_recording,
    from_generator,
    instant,
    unfold,
)
from dydx_data import DataState, MarketView, step
from dydx_paper import PaperVenue

from bot.live.commands import options_as_recorded
from bot.live.runs import until
from bot.outlet import as_lines
from bot.progress import Progress
from bot.report.report import optimism_words
from bot.run.composition import Bot, Options
from bot.times import iso

_SECOND: Final = 1_000_000_000
_CANDLE_NS: Final = 60 * _SECOND
_HOUR_NS: Final = 3_600 * _SECOND
_DAYS: Final = 86_400 * 366

# === A recording as a history ===
# The pages that a venue would answer for the span of a recording.


class Past:
    """What the history of a recording's span is: its trades, candles of them, hours of funding."""

    def __init__(self, frames: Iterable[Frame]) -> None:
        self.markets: dict[str, dict[str, Any]] = {}
        self.trades: dict[str, dict[str, dict[str, Any]]] = {}
        self.funding: dict[str, list[dict[str, Any]]] = {}
        self.since_ns = self.until_ns = 0
        self._state, self._hours = DataState(), dict[str, int]()
        for frame in frames:
            self._take(frame)
        if not any(self.trades.values()):
            raise ConnError("expected a recording with trades, got none")

    def frames(self, kind: str) -> Iterator[Frame]:
        """Play it as trades or as candles, with the hours' funding."""
        history = History(
            markets=(*sorted(self.trades),), kinds=(kind, "funding"), since_ns=self.since_ns,
            until_ns=self.until_ns, window_s=_DAYS,
        )  # fmt: skip
        return unfold(history, self._pages(kind))

    def _pages(self, kind: str) -> Iterator[Frame]:
        chain = self._state.chain
        tip = {"height": str(chain.height), "time": iso(chain.time_ns)}
        yield self._page("", "/v4/perpetualMarkets", {"markets": self.markets})
        yield self._page("", "/v4/height", tip)
        window = iso(self.since_ns)
        for ticker, rows in sorted(self.trades.items()):
            if kind == "trades":
                body: dict[str, Any] = {"trades": [*rows.values()]}
                yield self._page(window, f"/v4/trades/perpetualMarket/{ticker}", body)
            else:
                body = {"candles": candles_of(ticker, rows.values())}
                path = f"/v4/candles/perpetualMarkets/{ticker}?resolution=1MIN"
                yield self._page(window, path, body)
            rates = {"historicalFunding": self.funding.get(ticker, [])}
            yield self._page(window, f"/v4/historicalFunding/{ticker}", rates)

    def _page(self, window: str, path: str, body: dict[str, Any]) -> Frame:
        text = msgspec.json.encode(body).decode()
        return Frame(1, self.until_ns, 1, "rest", "http", text, "200", path, window)

    def _take(self, frame: Frame) -> None:
        for view in step(self._state, frame) if frame.link != "node" else ():
            self._settle(view)
        if frame.kind != "ws" or frame.fault:
            return
        if frame.channel == "v4_markets" and frame.is_snapshot:
            self.markets = msgspec.json.decode(frame.raw)["markets"]
        elif frame.channel == "v4_trades" and not frame.is_snapshot:
            self._trade(frame)
        self.since_ns = self.since_ns or self._state.chain.time_ns

    def _trade(self, frame: Frame) -> None:
        """Take the trades of a message, as their texts are; what cannot be read is left out."""
        with contextlib.suppress(ConnError, ValueError):
            times = {x.id: instant(x.created_at) for one in contents(frame) for x in one.trades}
            given, rows = msgspec.json.decode(frame.raw), self.trades.setdefault(frame.id, {})
            for update in given if isinstance(given, list) else [given]:
                known = (row for row in update["trades"] if row.get("id") in times)
                rows.update((row["id"], row) for row in known)
            self.until_ns = max([self.until_ns, *times.values()])

    def _settle(self, view: MarketView) -> None:
        """Note an hour's rate and price as it begins, and those of before the first one."""
        chain, oracle = view.chain, view.oracle
        hour = chain.time_ns // _HOUR_NS
        if not hour or oracle is None or not view.live_at or self._hours.get(view.ticker) == hour:
            return
        self._hours[view.ticker] = hour
        self.funding.setdefault(view.ticker, []).append({
            "ticker": view.ticker, "rate": view.funding.next_rate_text or "0",
            "price": oracle.text, "effectiveAt": iso(chain.time_ns),
            "effectiveAtHeight": str(chain.height),
        })  # fmt: skip


def candles_of(ticker: str, trades: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Make candles of a minute, also of those in which nothing was traded, as the venue does."""
    minutes: dict[int, list[dict[str, Any]]] = {}
    for row in sorted(trades, key=lambda row: (instant(row["createdAt"]), row["id"])):
        at = instant(row["createdAt"])
        minutes.setdefault(at - at % _CANDLE_NS, []).append(row)
    found: list[dict[str, Any]] = []
    for start in range(min(minutes), max(minutes) + 1, _CANDLE_NS) if minutes else ():
        rows = minutes.get(start, [])
        prices = [row["price"] for row in rows] or [found[-1]["close"]]
        found.append({
            "startedAt": iso(start), "ticker": ticker, "resolution": "1MIN",
            "open": prices[0], "close": prices[-1],
            "high": max(prices, key=float), "low": min(prices, key=float),
            "baseTokenVolume": f"{sum(float(row['size']) for row in rows):.10f}",
            "usdVolume": f"{sum(float(row['size']) * float(row['price']) for row in rows):.6f}",
            "trades": len(rows),
        })  # fmt: skip
    return found


# === Comparing ===


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one run came to, on what; money is in USDC."""

    fidelity: str
    decisions: int
    fills: int
    fees: float
    profit: float
    drawdown: float
    optimism: float | None
    run_hash: str


def outcome(options: Options, frames: Iterable[Frame], what: str, progress: Progress) -> Outcome:
    """Run a strategy on frames; `what` they are says what was known."""
    bot = Bot(options)

    def played() -> Any:
        yield from progress.through(frames)

    bot.run(from_generator(played))
    figures = bot.venue.figures()
    return Outcome(
        fidelity=what,
        decisions=bot.journal.counts["target"],
        fills=bot.journal.counts["fill"],
        fees=figures.fees_paid / 1e6,
        profit=figures.profit / 1e6,
        drawdown=bot.risk.falls.deepest / 1e6,
        optimism=bot.venue.optimism.error if isinstance(bot.venue, PaperVenue) else None,
        run_hash=bot.journal.hash,
    )


def fidelity(arguments: argparse.Namespace) -> int:
    """Run one strategy on a recording's books, on its trades and on its candles; compare them."""
    recording = Recording(find_recording(arguments.recording))
    if recording.header.history is not None:
        raise ConnError(f"expected a recording with books, got the history {arguments.recording}")
    options = options_as_recorded(arguments, recording.header)
    goes_on = until(arguments.seconds, lambda _: True)
    frames = [frame for frame in recording if goes_on(frame)]
    past = Past(frames)
    with Progress("book", len(frames)) as progress:
        found = [outcome(options, frames, "book", progress)]
        for kind in ("trades", "candles"):
            unfolded = [*past.frames(kind)]
            progress.begin(kind, len(unfolded))
            found.append(outcome(options, unfolded, kind, progress))
    if arguments.json:
        print(json.dumps([msgspec.to_builtins(one) for one in found], indent=2))
        return 0
    print(as_lines(lines(arguments, found, past)))
    return 0


def lines(arguments: argparse.Namespace, found: list[Outcome], past: Past) -> list[str]:
    """Put the comparison in words, a line a run."""
    book = found[0]
    minutes = (past.until_ns - past.since_ns) / 60 / _SECOND
    head = (
        f"{'fidelity':9} {'decisions':>9} {'fills':>6} {'fees':>10} {'profit':>11} {'drawdown':>10}"
    )
    return [
        f"recording    {arguments.recording}: {minutes:,.1f} minutes, {len(past.trades)} markets",
        f"strategy     {arguments.strategy or 'rank'}; money in USDC",
        "",
        f"{head}  against the book",
        *(
            f"{one.fidelity:9} {one.decisions:9,} {one.fills:6,} {one.fees:10,.2f} "
            f"{one.profit:+11,.2f} {one.drawdown:10,.2f}  {_against(one, book)}"
            for one in found
        ),
        "",
        *(f"optimism     on {one.fidelity}: {optimism_words(one.optimism)}" for one in found),
    ]


def _against(one: Outcome, book: Outcome) -> str:
    if one is book:
        return "-"
    return f"{one.fills - book.fills:+,} fills, {one.profit - book.profit:+,.2f} profit"
