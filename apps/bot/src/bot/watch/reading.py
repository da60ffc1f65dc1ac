"""An account read once, in two views: the chain at a height, and the indexer at another.

    node, without a key ──► chain_state ──► Seen ──┐
    indexer, REST ──► what it holds, markets ──────┼──► Reading, one for each subaccount
    indexer, REST ──► open orders ─────────────────┘

What the chain holds is read with the prices, funding indices and tiers of the same block, so its
figures are exact to the quote quantum at that height. What cannot be read is None, and why.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from typing import Any, Final

import msgspec
from dydx_conn import (
    PARENTS,
    ChainState,
    ConnError,
    GridError,
    MarketFields,
    Network,
    NetworkError,
    NotFound,
    OrderFields,
    Rest,
    RestError,
    Subaccount,
    SubaccountFields,
    WireError,
    chain_state,
    exact,
    number,
    perpetual_market,
)
from dydx_risk import (
    PPM,
    Holding,
    MarginFigures,
    funding_settlement,
    funding_settlement_ppm,
    total_margin,
)

from bot.progress import Progress
from bot.times import utc
from bot.watch.address import Target, parent_of

_OPEN: Final = ("OPEN", "UNTRIGGERED", "BEST_EFFORT_OPENED")
PATIENCE_S: Final = 10.0
INDEXER_ONLY: Final = "indexer only, unsettled funding not included"
FIGURES: Final = ("net_collateral", "initial_margin", "maintenance_margin", "free_collateral")

# Called with each answer that has come.
Answered = Callable[[], object]

# === Values ===


class Seen(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """An account in one view at a height; `collateral` is USDC in quote quantums, funding settled.

    `unsettled` is what of it the chain has not credited yet, by ticker in `owed`; None is unknown.
    `unvalued` has the reason for each position whose market is not known. `whole` is False where
    blocks came while it was read.
    """

    height: int
    time_ns: int = 0
    collateral: int
    unsettled: int | None = None
    owed: dict[str, int] = {}
    holdings: tuple[Holding, ...] = ()
    unvalued: tuple[str, ...] = ()
    whole: bool = True

    @cached_property
    def margin(self) -> MarginFigures | None:
        """Return its margin as the chain calculates it; None while a position is not valued."""
        if self.unknown:
            return None
        return total_margin(self.collateral, [held.margin() for held in self.holdings])

    @property
    def unknown(self) -> tuple[str, ...]:
        """Return why the margin is unknown; empty if it is known."""
        reasons = (held.objection for held in self.holdings)
        return (*filter(None, reasons), *self.unvalued)

    def holding(self, ticker: str) -> Holding | None:
        """Return what is held in a market, None if nothing is."""
        return next((held for held in self.holdings if held.ticker == ticker), None)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """An open order, in the venue's own words."""

    ticker: str
    side: str
    size: str
    price: str
    type: str
    status: str
    reduce_only: bool = False


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One subaccount as both have it; `reported` are the indexer's equity and free collateral.

    `no_chain` and `no_indexer` say why there is no view of theirs.
    """

    whose: Subaccount
    chain: Seen | None = None
    indexer: Seen | None = None
    reported: tuple[Decimal, Decimal] | None = None
    orders: tuple[Order, ...] | None = None
    no_chain: str = ""
    no_indexer: str = ""

    @property
    def isolated(self) -> bool:
        """Return whether it holds an isolated position of its parent."""
        return self.whose.number >= PARENTS

    @property
    def best(self) -> Seen | None:
        """Return the chain's view, or the indexer's where there is none."""
        return self.chain or self.indexer

    @property
    def is_empty(self) -> bool:
        """Return whether neither of them holds anything."""
        return not any(
            seen.holdings or seen.unvalued or seen.collateral
            for seen in (self.chain, self.indexer) if seen is not None
        )  # fmt: skip


# === The chain ===


def seen_on_chain(
    state: ChainState, whose: Subaccount, entries: Mapping[str, Decimal | None] | None = None
) -> Seen:
    """Return an account as the chain has it, funding as if it were settled at that height.

    `entries` are entry prices by ticker: the chain stores none.
    """
    account, entries = state.accounts[whose], entries or {}
    ppm = {
        each.ticker: funding_settlement_ppm(each.quantums, each.index_now, each.funding_index)
        for each in account.positions
    }
    unsettled = funding_settlement(ppm.values())
    markets = {each.ticker: state.markets[each.ticker] for each in account.positions}
    return Seen(
        height=state.height,
        time_ns=state.time_ns,
        collateral=account.collateral + unsettled,
        unsettled=unsettled,
        owed={ticker: funding_settlement([each]) for ticker, each in ppm.items()},
        holdings=tuple(
            Holding(
                market=markets[each.ticker].market,
                quantums=each.quantums,
                price=markets[each.ticker].price,
                exponent=markets[each.ticker].exponent,
                open_interest=markets[each.ticker].open_interest,
                entry_price=entries.get(each.ticker),
                selected_leverage=Fraction(PPM, each.chosen_imf_ppm)
                if each.chosen_imf_ppm
                else None,
            )
            for each in account.positions if each.quantums
        ),
        whole=state.whole,
    )  # fmt: skip


# === The indexer ===


def seen_by_indexer(
    fields: SubaccountFields, markets: Mapping[str, MarketFields], network: str
) -> Seen:
    """Return an account as the indexer's REST reports it; `WireError` if that cannot be read."""
    heights = [fields.latest_processed_block_height, fields.updated_at_height]
    holdings, unvalued = list[Holding](), list[str]()
    for ticker, row in sorted(fields.open_perpetual_positions.items()):
        size = _number(row.size, f"the size of {ticker}")
        if ticker not in markets:
            what = f"{ticker} {size:+f}: not among the {len(markets)} markets of {network}"
            unvalued.append(f"{what}, so what it is worth is unknown")
        elif size:
            holdings.append(_holding(markets[ticker], size, row.entry_price))
    usdc = fields.asset_positions.get("USDC")
    amount = _number("0" if usdc is None else usdc.size, "a balance")
    owed = usdc is not None and usdc.side == "SHORT"
    return Seen(
        height=next((int(each) for each in heights if each), 0),
        collateral=int((-amount if owed else amount).scaleb(6)),
        holdings=tuple(holdings),
        unvalued=tuple(unvalued),
    )


def _holding(fields: MarketFields, size: Decimal, entry: str) -> Holding:
    market = perpetual_market(fields)
    lot = -market.atomic_resolution
    price = fields.oracle_price or fields.price
    digits, exponent = exact(price) if price else (None, 0)
    interest = fields.open_interest
    return Holding(
        market=market, quantums=int(size.scaleb(lot)), price=digits, exponent=exponent,
        open_interest=int(number(interest).scaleb(lot)) if interest else None,
        entry_price=number(entry) if entry else None,
    )  # fmt: skip


def _number(text: str, what: str) -> Decimal:
    try:
        return number(text)
    except (GridError, ValueError):
        raise WireError(f"expected {what} in digits, got {text[:40]!r}") from None


def order_of(row: OrderFields) -> Order:
    """Return an open order as it is shown."""
    return Order(
        ticker=row.ticker or "", side=row.side or "", size=row.size or "", price=row.price or "",
        type=row.type or "", status=row.status or "", reduce_only=bool(row.reduce_only),
    )  # fmt: skip


# === Reading ===
# The indexer knows which subaccounts there are; the chain is queried for those.


class _Indexed(msgspec.Struct):
    """What the indexer answered; `trouble` is why it did not."""

    accounts: dict[Subaccount, SubaccountFields] = {}
    markets: dict[str, MarketFields] = {}
    orders: dict[Subaccount, list[Order]] | None = None
    trouble: str = ""


def read(net: Network, targets: Iterable[Target]) -> list[Reading]:
    """Read accounts once, each target's subaccounts in order; never raises for what fails.

    A target of which neither the indexer nor the chain knows anything has one empty reading. How
    far it is a bar shows: an answer for each target, and one for all that they hold.
    """
    once = [*dict.fromkeys(targets)]
    with Progress("answers", len(once) + 1) as progress:
        return asyncio.run(_read(net, once, progress.step))


async def _read(net: Network, targets: list[Target], answered: Answered) -> list[Reading]:
    async with Rest(net, patience_s=PATIENCE_S) as rest:
        rows = await asyncio.gather(*(_listed(rest, each, answered) for each in targets))
        found = dict(zip(targets, rows, strict=True))
        # Of an address and of one of its subaccounts, typed both, that one is read once.
        first = {whose: each for each in reversed(targets) for whose in _wanted(each, found[each])}
        wanted = {
            each: [whose for whose in _wanted(each, found[each]) if first[whose] == each]
            for each in targets
        }
        everyone = [whose for each in targets for whose in wanted[each]]
        open_orders = asyncio.gather(*(_orders(rest, whose) for whose in everyone))
        chain, markets, orders = await asyncio.gather(
            asyncio.to_thread(_chain, net, everyone), _markets(rest), open_orders
        )
    answered()
    by_whose = dict(zip(everyone, orders, strict=True))
    return [
        _reading(net, whose, found[each], chain, markets, by_whose[whose])
        for each in targets for whose in wanted[each]
    ]  # fmt: skip


def _wanted(each: Target, indexed: _Indexed) -> list[Subaccount]:
    """Return the subaccounts that are meant, each parent before its children."""
    listed = [whose for whose in indexed.accounts if each.means(whose)]
    typed = Subaccount(each.owner, each.number or 0)
    if not listed or (each.number is not None and typed not in listed):
        listed.append(typed)
    return sorted(listed, key=lambda whose: (parent_of(whose.number), whose.number))


async def _listed(rest: Rest, each: Target, answered: Answered) -> _Indexed:
    try:
        rows = (await rest.subaccounts(each.owner)).value
    except NotFound:
        return _Indexed()
    except ConnError as error:
        return _Indexed(trouble=str(error))
    finally:
        answered()
    return _Indexed({Subaccount(each.owner, row.subaccount_number or 0): row for row in rows})


async def _markets(rest: Rest) -> dict[str, MarketFields] | str:
    try:
        return (await rest.perpetual_markets()).value
    except ConnError as error:
        return str(error)


async def _orders(rest: Rest, whose: Subaccount) -> tuple[Order, ...] | None:
    try:
        rows = (await rest.orders(whose, status=_OPEN)).value
    except NotFound:
        return ()
    except RestError:
        return None
    return tuple(map(order_of, rows))


def _chain(net: Network, everyone: list[Subaccount]) -> ChainState | str:
    try:
        state = chain_state(net, everyone)
    except NetworkError as error:
        return str(error)
    if state.chain_id != net.chain_id:
        return f"expected {net.node} to be of {net.chain_id}, got {state.chain_id}"
    return state


def _reading(
    net: Network, whose: Subaccount, indexed: _Indexed, chain: ChainState | str,
    markets: dict[str, MarketFields] | str, orders: tuple[Order, ...] | None,
) -> Reading:  # fmt: skip
    fields, seen, trouble = indexed.accounts.get(whose), None, indexed.trouble
    if fields is None:
        trouble = trouble or "it knows of no deposit"
    elif isinstance(markets, str):
        trouble = markets
    else:
        try:
            seen = seen_by_indexer(fields, markets, net.name)
        except ConnError as error:
            trouble = str(error)
    entries = {held.ticker: held.entry_price for held in seen.holdings} if seen else {}
    true = None if isinstance(chain, str) else seen_on_chain(chain, whose, entries)
    return Reading(
        whose=whose,
        chain=true,
        indexer=_as_chosen(seen, true),
        reported=None if fields is None else _reported(fields),
        orders=orders,
        no_chain=chain if isinstance(chain, str) else "",
        no_indexer=trouble,
    )


def _as_chosen(indexer: Seen | None, chain: Seen | None) -> Seen | None:
    """Return the indexer's view with the leverages that were chosen, which the chain alone has."""
    if indexer is None or chain is None:
        return indexer
    chosen = {held.ticker: held.selected_leverage for held in chain.holdings}
    holdings = tuple(
        msgspec.structs.replace(held, selected_leverage=chosen.get(held.ticker))
        for held in indexer.holdings
    )
    return msgspec.structs.replace(indexer, holdings=holdings)


def _reported(fields: SubaccountFields) -> tuple[Decimal, Decimal] | None:
    try:
        return number(fields.equity), number(fields.free_collateral)
    except (GridError, ValueError):
        return None


def block_time(time_ns: int) -> str:
    """Return a block's time as it is printed, UTC, to the second."""
    return f"{utc(time_ns)}Z"


def usdc(quote_quantums: int | None, sign: str = "") -> str:
    """Return money with all its digits, "unknown" if it is not known."""
    if quote_quantums is None:
        return "unknown"
    return f"{Decimal(quote_quantums).scaleb(-6):{sign},.6f}"


def exact_usdc(quote_quantums: int | None) -> str | None:
    """Return money as an exact decimal for a program, None for what is not known."""
    return None if quote_quantums is None else str(Decimal(quote_quantums).scaleb(-6))


def as_is(value: Any) -> str | None:
    """Return an exact number as text for a program, None for what is not known."""
    return None if value is None else str(value)
