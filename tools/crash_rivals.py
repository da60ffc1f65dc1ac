"""Rivals of the guard: the simple rules it has to beat, as good as a rule of one line can be.

    what the bot knows of its account ──► Rival.look, after every frame ──► reduce-only IOC orders

A rival knows what the guard knows: the bot's own account and margin. Its orders go the way of any
order, bounded so generously that a bound is never what stops them, and it sends again what was
answered unfilled or was not answered by its last block.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from bot.run.composition import Bot
from dydx_conn import OrderRequest, PerpetualMarket, order_id
from dydx_data import MarketView

ACT_BELOW: Final = 0.10  # of the rule that sells all
TWICE: Final = 2  # maintenance, of the rule that sells half
STOP_AT: Final = 0.85  # of the equity at the start
_BOUND: Final = 0.10  # how much worse than book and oracle an order may trade
_GOOD_BLOCKS: Final = 1  # an order fills in the next block or not at all


class Rival:
    """A rule: `look` returns the orders it sends now. Not acting is a rule as well."""

    def __init__(self, bot: Bot, first_client_id: int) -> None:
        self.bot = bot
        self.orders = 0
        self._client_id = first_client_id
        self._margin: object = None  # as last looked at
        self._sent: dict[str, tuple[str, int]] = {}  # by ticker: the order, and its last block

    def look(self) -> Iterable[OrderRequest]:
        """Return what to send now."""
        return ()

    def close(self, share: float) -> Iterator[OrderRequest]:
        """Sell a share of every position that no order of ours is on its way for."""
        for ticker, position in self.bot.risk.account.positions.items():
            view = self.bot.data.views.get(ticker)
            if view is None or view.market is None or self.is_waiting(ticker):
                continue
            held = view.market.floor_quantums(position.size)
            if held:
                yield self._order(view, view.market, held, share)

    def is_waiting(self, ticker: str) -> bool:
        """Return whether the last order in a market may still fill."""
        if ticker not in self._sent:
            return False
        id_, last_block = self._sent[ticker]
        state = self.bot.venue.accounts.orders.orders.get(id_)
        answered = state is not None and (state.final or state.leaving)
        return not answered and self.bot.data.chain.height <= last_block

    def _order(
        self, view: MarketView, market: PerpetualMarket, held: int, share: float
    ) -> OrderRequest:
        self._client_id += 1
        self.orders += 1
        order = closing(view, market, held, share, self._client_id)
        id_ = order_id(self.bot.venue.subaccount, order)
        self._sent[market.ticker] = id_, order.good_til_block
        return order


def closing(
    view: MarketView, market: PerpetualMarket, held: int, share: float, client_id: int
) -> OrderRequest:
    """Return the order that sells a share of what is held, or buys it back: reduce-only, IOC."""
    step, sells = market.step_base_quantums, held > 0
    return OrderRequest(
        ticker=market.ticker, clob_pair_id=market.clob_pair_id,
        side="SELL" if sells else "BUY",
        quantums=min(abs(held), -(-round(abs(held) * share) // step) * step),
        subticks=worst_subticks(view, market, sells=sells), time_in_force="IOC",
        reduce_only=True, client_id=client_id, good_til_block=view.chain.height + _GOOD_BLOCKS,
    )  # fmt: skip


def worst_subticks(view: MarketView, market: PerpetualMarket, *, sells: bool) -> int:
    """Return a limit far beyond both the best price shown and the oracle's."""
    best = view.book.best_bid if sells else view.book.best_ask
    prices = [view.oracle.price] if view.oracle is not None else []
    prices += [best.price] if best is not None and view.book.known else []
    if sells:
        return (
            market.floor_subticks(f"{min(prices) * (1 - _BOUND):.12f}") or market.subticks_per_tick
        )
    return market.ceil_subticks(f"{max(prices) * (1 + _BOUND):.12f}")


class SellAll(Rival):
    """Sell all once the distance to liquidation is below 10 %, until nothing is left."""

    def __init__(self, bot: Bot, first_client_id: int) -> None:
        super().__init__(bot, first_client_id)
        self.leaves = False

    def look(self) -> Iterable[OrderRequest]:
        """Look at the distance whenever the margin has changed."""
        margin = self.bot.risk.margin
        if margin is not self._margin:
            self._margin = margin
            self.leaves = self.leaves or self.is_due()
        return self.close(1.0) if self.leaves else ()

    def is_due(self) -> bool:
        """Return whether it is time to sell all."""
        distance = self.bot.risk.margin.distance
        return distance is not None and distance < ACT_BELOW


class Stop(SellAll):
    """Sell all once 15 % of the equity at the start are lost."""

    def is_due(self) -> bool:
        """Return whether that much is lost."""
        margin, start = self.bot.risk.margin, self.bot.options.deposit * 10**6
        return bool(margin.maintenance_margin) and margin.net_collateral < STOP_AT * start


class SellHalf(Rival):
    """Sell half of all whenever the equity is below twice the maintenance margin."""

    def look(self) -> Iterable[OrderRequest]:
        """Look at it after every frame: what was sold may not have been enough."""
        margin = self.bot.risk.margin
        if margin.net_collateral >= TWICE * margin.maintenance_margin:
            return ()
        return () if any(map(self.is_waiting, self._sent)) else self.close(0.5)


RIVALS: Final[Mapping[str, Callable[..., Rival]]] = {
    "none": Rival,
    "all": SellAll,
    "half": SellHalf,
    "stop": Stop,
}
