"""Markets that move second by second as a test has it, and an account that holds what is decided."""

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any

from dydx_conn import Frame, WireWriter, market_fields
from dydx_data import DataState, step
from dydx_signals import Scored, Scorer
from dydx_strategy import Decider, Decision, Held, Holdings, Outcome, OutcomeKind, Strategy
from market import START, stamp

Prices = Callable[[int], dict[str, float]]


class Street:
    """Books of some depth around prices, a trade a second, and what a strategy makes of them.

    Whatever is decided is held a second later, but in markets named in `dead`: an order there
    expires.
    """

    def __init__(
        self,
        strategy: Strategy,
        *tickers: str,
        equity: float | None = 10_000.0,
        depth: str = "1000",
    ) -> None:
        self.strategy = strategy
        self.decider = Decider(lambda: strategy)
        self.tickers, self.depth, self.equity = tickers or ("BTC-USD",), depth, equity
        self.data, self.scorer, self.wire = DataState(stale_after_ns=10**12), Scorer(), WireWriter()
        self.held: dict[str, Held] = {}
        self.dead: set[str] = set()
        self.mids: dict[str, float] = {}
        self.decided: list[Decision] = []
        self._coming: list[Decision] = []
        self.second = self.paid = 0  # quote quantums
        self.wire.at = self.wire.mono = stamp(0)
        self.play(self.wire.markets(*(market_fields(t, price="100") for t in self.tickers)))

    def run(self, seconds: int, prices: Prices, **trading: str) -> list[Decision]:
        """Let seconds pass; return what was decided in them."""
        before = len(self.decided)
        for _ in range(seconds):
            self.tick()
            self._fill()
            for ticker, mid in prices(self.second).items():
                self._show(ticker, mid, trading)
        return self.decided[before:]

    def targets(self, seconds: int, prices: Prices, **trading: str) -> list[float]:
        """Let seconds pass; return the targets that were decided in them."""
        found = self.run(seconds, prices, **trading)
        return [one.target_usdc for one in found if one.action == "target"]

    def tick(self) -> None:
        """Let a second pass in which nothing comes."""
        self.second += 1
        self.wire.at = self.wire.mono = stamp(self.second)

    def tell(self, decision: Decision, kind: OutcomeKind, **fields: Any) -> None:
        """Report what became of a decision."""
        facts: dict[str, Any] = {
            "seq": self.wire.seq,
            "at": stamp(self.second),
            "decision": decision.id,
        }
        self.decider.step(Outcome(ticker=decision.ticker, kind=kind, **facts, **fields))

    def _show(self, ticker: str, mid: float, trading: dict[str, str]) -> None:
        self.mids[ticker] = mid
        half = mid * 1e-4
        if trading:
            self.play(self.wire.trading(ticker, **trading))
        self.play(self.wire.oracle(ticker, f"{mid:.4f}"))
        bid, ask = f"{mid - half:.4f}", f"{mid + half:.4f}"
        self.play(self.wire.book(ticker, [(bid, self.depth)], [(ask, self.depth)]))
        self.play(self.wire.trade(ticker, "BUY", "1", f"{mid:.4f}"))

    def play(self, frame: Frame) -> None:
        """Fold one frame, up to what is decided."""
        for view in step(self.data, frame):
            for scored in self.scorer.step(view):
                self._decide(scored)

    def _decide(self, scored: Scored) -> None:
        for decision in self.decider.step(scored):
            self.decided.append(decision)
            if decision.action == "target":
                self._coming.append(decision)

    def _fill(self) -> None:
        coming, self._coming = self._coming, []
        for decision in coming:
            ticker, mid = decision.ticker, self.mids[decision.ticker]
            if ticker in self.dead and decision.target_usdc:
                self.tell(decision, "expired", why="nothing filled")
                continue
            before = self.held.pop(ticker, None)
            unit = 10.0 ** self.data.views[ticker].market.atomic_resolution  # type: ignore[union-attr]
            old = 0 if before is None else round(float(before.size) / unit)
            new = round(decision.target_usdc / mid / unit)
            if new != old:
                paid = round((new - old) * unit * mid * 1e6)
                fee = abs(paid) // 2_000
                self.paid += paid + fee
                self.tell(decision, "filled", quantums=new - old, cash=-paid, fee=fee)
            if decision.target_usdc:
                self.held[ticker] = held(ticker, decision.target_usdc, mid)
        self.decider.step(Holdings(dict(self.held), self.equity))


def held(ticker: str, usdc: float, price: float) -> Held:
    """Hold so much since this price."""
    size = Decimal(usdc / price)
    return Held(ticker=ticker, size=size, usdc=usdc, entry_price=price, seq=1, at=START)


def words(decided: Iterable[Decision]) -> Iterator[str]:
    """Yield the first reason of each."""
    return (one.reasons[0] for one in decided)
