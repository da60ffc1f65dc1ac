"""What a run dealt in each market: its trades, one by one and with why they ended, and its sums.

    Journal ─► verdicts (why), orders, fills ─► Dealt ─► Trade by Trade, Dealings by market

It follows every run, so it does little: a few additions a fill. What a position came to is the
paper ledger's own record; of a run with real orders there are the sums alone. Nothing is decided
by it.
"""

from collections import deque
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import msgspec
from dydx_conn import AccountFill
from dydx_paper import PaperVenue, PositionRecord, Stamp, Tally

from bot.run.executed import Executed
from bot.run.journal import Journal, JournalEntry

TRADES: Final = 20_000
_TAKEN: Final = {"LIQUIDATED": "liquidated", "DELEVERAGED": "deleveraged", "OFFSETTING": "offset"}
_OTHER: Final = "other"  # nobody of ours ordered it, as far as is known


class Trade(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A position that has ended: the ledger's `record` of it, and the ids that explain it.

    `decision` is what began it, `verdict` what let the order go that ended it, "" where none is
    known; `fills` made it, oldest first. `reason` is one word for why it ended; `size` is all that
    was opened, `entry` and `exit` are average prices.
    """

    record: PositionRecord
    size: Decimal
    entry: Decimal
    exit: Decimal
    fills: tuple[str, ...]
    decision: str
    verdict: str
    reason: str
    opened: int
    ended: int


class Dealings(msgspec.Struct):
    """Sums of one market since the run began; fees are quote quantums, times ns.

    `slipped` is basis points against mid times USDC, over the `judged` USDC whose mid is known;
    `notional_ns` is USDC held at the price of the last fill, times how long; `exits` counts trades
    by why they ended. The others are of what is held now.
    """

    tally: Tally
    fees: int = 0
    funding: int = 0
    slipped: float = 0.0
    judged: float = 0.0
    reductions: int = 0
    notional_ns: float = 0.0
    exits: dict[str, int] = msgspec.field(default_factory=dict)
    held: Decimal = Decimal(0)
    price: float = 0.0
    since: int = 0
    decision: str = ""
    opened: int = 0
    size: Decimal = Decimal(0)
    paid: Decimal = Decimal(0)
    left: Decimal = Decimal(0)
    taken: Decimal = Decimal(0)
    made: list[str] = msgspec.field(default_factory=list)

    def held_until(self, at: int) -> int:
        """Return how long something was held by a moment, in ns."""
        return self.tally.exposed_ns + (max(at - self.tally.held_since_ns, 0) if self.held else 0)

    def notional_until(self, at: int) -> float:
        """Return what was held by a moment, in USDC times ns."""
        return self.notional_ns + abs(float(self.held)) * self.price * max(at - self.since, 0)

    @property
    def entry(self) -> Decimal:
        """Return the average price at which what is held was opened."""
        return self.paid / self.size if self.size else Decimal(0)

    def open(self, size: Decimal, price: Decimal) -> None:
        """Add to what is held."""
        self.size, self.paid = self.size + size, self.paid + size * price

    def close(self, size: Decimal, price: Decimal) -> None:
        """Take off what is held."""
        self.left, self.taken = self.left + size, self.taken + size * price

    def begin(self, decision: str, at: int) -> None:
        """Begin another position."""
        self.decision, self.opened, self.made = decision, at, []
        self.size = self.paid = self.left = self.taken = Decimal(0)


class Dealt:
    """The newest trades, oldest first, and the sums of each market since the run began."""

    def __init__(self, journal: Journal, executed: Executed, venue: Any) -> None:
        self.trades: deque[Trade] = deque(maxlen=TRADES)
        self.markets: dict[str, Dealings] = {}
        self.exposed_ns = 0
        self._open: set[str] = set()
        self._since = 0
        # Of each verdict why its order goes, and by which decision; of each order its verdict.
        self._whys: dict[str, tuple[str, str]] = {}
        self._verdicts: dict[str, str] = {}
        self._executed = executed
        self._venue = venue if isinstance(venue, PaperVenue) else None
        self._ended: int | None = None  # how many positions of the ledger were seen to end
        self._unmatched: list[PositionRecord] = []
        journal.within.append(self._take)

    def exposed_until(self, at: int) -> int:
        """Return how long anything was held by a moment, in ns."""
        return self.exposed_ns + (max(at - self._since, 0) if self._open else 0)

    def _take(self, entry: JournalEntry) -> None:
        if self._ended is None:  # an account that goes on has trades from before
            self._ended = self._endings()
        kind = entry.kind
        if kind in _WHYS:
            self._whys[entry.id] = _WHYS[kind](entry.value), entry.parent
            if kind == "reduce":
                self._of(entry.ticker).reductions += 1
        elif kind == "order":
            if entry.parent:
                self._verdicts[entry.id] = entry.parent
        elif kind == "fill":
            self._fill(entry, entry.value)

    def _of(self, ticker: str) -> Dealings:
        found = self.markets.get(ticker)
        if found is None:
            found = self.markets[ticker] = Dealings(Tally())
        return found

    def _fill(self, entry: JournalEntry, fill: AccountFill) -> None:
        dealt, at = self._of(fill.ticker), entry.at
        before = dealt.held if fill.held is None else fill.held
        after, verdict = before + fill.signed, self._verdicts.get(entry.parent, "")
        dealt.notional_ns = dealt.notional_until(at)
        dealt.held, dealt.price, dealt.since = after, float(fill.price), at
        self._sum(dealt, fill, Stamp(time_ns=at), was_flat=not before)
        left = fill.size
        if before * fill.signed < 0:
            closing = min(abs(before), left)
            left -= closing
            dealt.close(closing, fill.price)
            dealt.made.append(entry.id)
            if before * after <= 0:
                self._end(dealt, fill, verdict, at)
        if left:
            if before * after <= 0:
                dealt.begin(self._whys.get(verdict, ("", ""))[1], at)
            dealt.open(left, fill.price)
            dealt.made.append(entry.id)
        self._expose(fill.ticker, at, is_open=bool(after))

    def _sum(self, dealt: Dealings, fill: AccountFill, when: Stamp, *, was_flat: bool) -> None:
        tally, maker = dealt.tally, fill.liquidity == "MAKER"
        tally.trade(when, fill.quote if maker else 0, 0 if maker else fill.quote)
        tally.expose(when, was_flat=was_flat, flat=not dealt.held)
        tally.liquidations += fill.type == "LIQUIDATED"
        dealt.fees += fill.fee
        execution = self._executed.fills[-1]
        if (bps := execution.slippage_bps) is not None:
            dealt.slipped += bps * execution.usdc
            dealt.judged += execution.usdc

    def _expose(self, ticker: str, at: int, *, is_open: bool) -> None:
        if is_open and not self._open:
            self._since = at
        if not is_open and self._open == {ticker}:
            self.exposed_ns += max(at - self._since, 0)
        (self._open.add if is_open else self._open.discard)(ticker)

    def _end(self, dealt: Dealings, fill: AccountFill, verdict: str, at: int) -> None:
        why = _TAKEN.get(fill.type) or self._whys.get(verdict, (_OTHER, ""))[0]
        reason = "reversed" if dealt.held and why == "strategy" else why
        dealt.exits[reason] = dealt.exits.get(reason, 0) + 1
        record = self._record(fill.ticker)
        if record is None:
            return
        dealt.tally.end(record.realized - record.fees)
        dealt.funding += record.net_funding
        self.trades.append(Trade(
            # What was held before the run the ledger knows.
            record=record, size=dealt.size, entry=dealt.entry or record.indexed.entry,
            exit=dealt.taken / dealt.left, fills=tuple(dealt.made), decision=dealt.decision,
            verdict=verdict, reason=reason, opened=dealt.opened or record.created.time_ns, ended=at,
        ))  # fmt: skip

    def _endings(self) -> int:
        if self._venue is None:
            return 0
        tally = self._venue.ledger.tally
        return tally.won + tally.lost + tally.even

    def _record(self, ticker: str) -> PositionRecord | None:
        """Return the ledger's record of the position of a market that has ended, the oldest."""
        if self._venue is None:
            return None
        now, ended = self._endings(), self._venue.ledger.history.ended
        fresh = min(now - (self._ended or 0), len(ended))
        self._ended = now
        self._unmatched += [ended[n] for n in range(len(ended) - fresh, len(ended))]
        found = next((one for one in self._unmatched if one.ticker == ticker), None)
        if found is not None:
            self._unmatched.remove(found)
        return found


# Why the order of a verdict goes, by the verdict's kind.
_CAUSES: Final = {"DISTANCE": "guard"}
_WHYS: Final[dict[str, Callable[[Any], str]]] = {
    "approved": lambda verdict: "flatten" if verdict.decision.id.startswith("A") else "strategy",
    "reduce": lambda verdict: _CAUSES.get(verdict.cause, verdict.cause.lower()),
    "bracket": lambda verdict: verdict.kind.lower(),
}
