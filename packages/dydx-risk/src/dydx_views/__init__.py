"""One account as the chain has it and as front ends show it, and why they differ.

    HeldSubaccount ─┬─► chain_view | web_view | abacus_view | indexer_view ──► AccountView
                    ├─► explain ──► Differences: what is shown, what acts, why
                    └─► may_choose_leverage ──► would the chain accept it
    a parent and its children ──► parent_view(view) ──► ParentView

A `HeldSubaccount` is what its caller knows of a subaccount; nothing is fetched. The chain's view
is `dydx_margin` in people's units and the one to act on; the others repeat what a screen says,
its floors and omissions included. What cannot be valued raises `MarginError` in every view.

Units: what is held is signed quantums (positive is long), quote quantums (1e-6 USDC) and an
oracle price with its power of ten, as in `dydx_margin`. What is seen is USDC, base units, prices
in USDC and plain fractions (0.05 is five per cent): exact, until a `Difference` is put in words.
Nothing here judges an order, remembers, reads a clock, does I/O or subscribes.
Sources: v4-chain x/subaccounts/keeper/leverage.go; v4-web bonsai calculators/subaccount.ts;
v4-abacus SubaccountCalculator.kt; v4-chain indexer, comlink src/lib/helpers.ts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from math import ceil
from typing import Final, Literal

import msgspec
from dydx_conn import PerpetualMarket
from dydx_margin import (
    PPM,
    MarginError,
    MarginFigures,
    PositionMargin,
    adjusted_imf_ppm,
    chosen_imf_ppm,
    maintenance_margin_ppm,
    position_margin,
    total_margin,
)

__all__ = [
    "AccountView", "Difference", "HeldPosition", "HeldSubaccount", "ParentView", "PositionView",
    "abacus_view", "chain_view", "explain", "indexer_view", "may_choose_leverage", "parent_view",
    "web_view",
]  # fmt: skip

# === Holdings ===
# A subaccount as plain figures, for those that keep no account of their own.


class HeldPosition(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A position and what values it: signed quantums, oracle price, open interest in quantums.

    `open_interest` None is unknown. `entry_price` is in USDC per base unit; `selected_leverage`
    is what its owner chose for the market, None if nothing.
    """

    market: PerpetualMarket
    quantums: int
    price: int
    exponent: int
    open_interest: int | None = 0
    entry_price: Fraction | None = None
    selected_leverage: Fraction | None = None

    @property
    def chosen_imf_ppm(self) -> int:
        """Return the fraction that the selected leverage asks for, 0 if none is selected."""
        if self.selected_leverage is None:
            return 0
        if self.selected_leverage <= 0:
            what = f"{self.market.ticker}: a selected leverage above 0"
            raise MarginError(what, self.selected_leverage)
        return ceil(PPM / self.selected_leverage)

    @property
    def margin(self) -> PositionMargin:
        """Return its margin as the chain computes it."""
        return self.margin_at(self.chosen_imf_ppm)

    def margin_at(self, imf_ppm: int) -> PositionMargin:
        """Return its margin with `imf_ppm` chosen, 0 for none."""
        return position_margin(
            self.market, self.quantums, self.price, self.exponent, self.open_interest, imf_ppm
        )


class HeldSubaccount(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A subaccount: its USDC in quote quantums, funding settled, and its positions.

    The indexer's REST adjusts its USDC for unsettled funding, its WebSocket does not.
    """

    usdc: int
    positions: tuple[HeldPosition, ...] = ()
    number: int = 0

    @property
    def figures(self) -> MarginFigures:
        """Return its margin as the chain computes it."""
        return total_margin(self.usdc, [held.margin for held in self.positions])


def may_choose_leverage(
    subaccount: HeldSubaccount, leverages: Mapping[str, Fraction | int]
) -> bool:
    """Tell whether the chain would accept these leverages, by ticker, for a subaccount.

    It must be initially collateralised with them. Leverages chosen earlier for markets that are
    not named here are left out of that test, as the chain leaves them out.
    Source: x/subaccounts/keeper/leverage.go.
    """
    margins = []
    for held in subaccount.positions:
        leverage = leverages.get(held.market.ticker)
        imf_ppm = 0 if leverage is None else chosen_imf_ppm(held.market, leverage)
        margins.append(held.margin_at(imf_ppm))
    return total_margin(subaccount.usdc, margins).free_collateral >= 0


# === Views ===
# One account, four answers. In USDC, base units and prices, exact: who prints them rounds them.

ViewName = Literal["chain", "web", "abacus", "indexer"]

# Subaccounts below this one are parents; to the chain all are alike.
_PARENTS = 128


class _Part(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    # What a view makes of one position, before it knows the account.
    ticker: str
    size: Fraction
    value: Fraction
    imf: Fraction
    mmf: Fraction
    initial_margin: Fraction
    maintenance_margin: Fraction

    @property
    def notional(self) -> Fraction:
        """Return the value without its sign."""
        return abs(self.value)


class PositionView(_Part, frozen=True, gc=False, kw_only=True):
    """One position as a view has it; `size` and `value` are negative for a short.

    `imf` is the market's, open interest included where the view does so; `initial_margin` is
    what counts against the account, with the selected leverage where the view knows of it.
    None is undefined: a leverage of no equity, a liquidation price below 0.
    """

    max_leverage: Fraction | None
    leverage: Fraction | None
    liquidation_price: Fraction | None
    unrealized_pnl: Fraction | None
    unrealized_pnl_percent: Fraction | None
    margin_mode: Literal["CROSS", "ISOLATED"]


class AccountView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One subaccount as a view has it; `raw_free_collateral` may be negative in each."""

    view: ViewName
    number: int
    quote_balance: Fraction
    equity: Fraction
    free_collateral: Fraction
    raw_free_collateral: Fraction
    margin_usage: Fraction | None
    leverage: Fraction | None
    notional: Fraction
    value: Fraction
    initial_margin: Fraction
    maintenance_margin: Fraction
    positions: tuple[PositionView, ...]


class ParentView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A parent and its children: `equity` is everybody's, what else is shown the parent's."""

    equity: Fraction
    parent: AccountView
    children: dict[int, AccountView]


def chain_view(subaccount: HeldSubaccount) -> AccountView:
    """See a subaccount as the chain acts on it, to the quote quantum; this is the one to trust.

    The chain knows no liquidation price: it is where its test would turn, other prices held,
    its roundings aside.
    """
    return _view(subaccount, "chain")


def web_view(subaccount: HeldSubaccount) -> AccountView:
    """See a subaccount as the web front end shows it: nothing below 0, leverages selected."""
    return _view(subaccount, "web")


def abacus_view(subaccount: HeldSubaccount) -> AccountView:
    """See a subaccount as the mobile apps' abacus does: no floor, a short's leverage negative."""
    return _view(subaccount, "abacus")


def indexer_view(subaccount: HeldSubaccount) -> AccountView:
    """See a subaccount as the indexer does: the tier's fractions alone, nothing rounded.

    It says equity and free collateral; the rest follows from its own figures.
    """
    return _view(subaccount, "indexer")


def parent_view(
    view: Callable[[HeldSubaccount], AccountView], subaccounts: Iterable[HeldSubaccount]
) -> ParentView:
    """See a parent subaccount (number below 128) with its children, each through `view`."""
    children = {held.number: view(held) for held in subaccounts}
    parents = [number for number in children if number < _PARENTS]
    if len(parents) != 1:
        raise MarginError("one subaccount below 128, the parent, and its children", list(children))
    equity = sum((child.equity for child in children.values()), Fraction(0))
    return ParentView(equity=equity, parent=children[parents[0]], children=children)


def _view(subaccount: HeldSubaccount, name: ViewName) -> AccountView:
    style = _STYLES[name]
    parts = [style.part(held) for held in subaccount.positions]
    balance = _usdc(subaccount.usdc)
    value, notional, initial, maintenance = (
        sum((getattr(part, figure) for part in parts), Fraction(0))
        for figure in ("value", "notional", "initial_margin", "maintenance_margin")
    )
    equity = balance + value
    if style.floors:
        equity = max(equity, Fraction(0))
    raw = equity - initial
    free = max(raw, Fraction(0)) if style.floors else raw
    return AccountView(
        view=name,
        number=subaccount.number,
        quote_balance=balance,
        equity=equity,
        free_collateral=free,
        raw_free_collateral=raw,
        margin_usage=1 - free / equity if equity > 0 else None,
        leverage=notional / equity if equity > 0 else None,
        notional=notional,
        value=value,
        initial_margin=initial,
        maintenance_margin=maintenance,
        positions=tuple(
            _position_view(held, part, equity, maintenance, style, subaccount.number)
            for held, part in zip(subaccount.positions, parts, strict=True)
        ),
    )


def _position_view(
    held: HeldPosition,
    part: _Part,
    equity: Fraction,
    maintenance: Fraction,
    style: "_Style",
    number: int,
) -> PositionView:
    pnl = percent = None
    if held.entry_price is not None:
        pnl = part.value - part.size * held.entry_price
        staked = abs(part.size * held.entry_price) / max(_screen_leverage(held), Fraction(1))
        percent = pnl / staked if staked else None
    lever = part.value if style.signed else part.notional
    others = maintenance - part.maintenance_margin
    against = part.size - abs(part.size) * part.mmf
    price = (others + part.value - equity) / against if against else None
    return PositionView(
        **msgspec.structs.asdict(part),
        max_leverage=1 / part.imf if part.imf else None,
        leverage=lever / equity if equity > 0 else None,
        liquidation_price=None if price is None or price < 0 else price,
        unrealized_pnl=pnl,
        unrealized_pnl_percent=percent,
        margin_mode="CROSS" if number < _PARENTS else "ISOLATED",
    )


def _chain_part(held: HeldPosition) -> _Part:
    market, margin, interest = held.market, held.margin, held.open_interest
    lower, upper = market.open_interest_lower_cap, market.open_interest_upper_cap
    scaled = upper if interest is None else int(interest * _quantum_value(held))
    return _Part(
        ticker=market.ticker,
        size=_size(held),
        value=_usdc(margin.net_notional),
        imf=Fraction(adjusted_imf_ppm(market.imf_ppm, lower, upper, scaled), PPM),
        mmf=Fraction(market.imf_ppm * market.maintenance_fraction_ppm, PPM * PPM),
        initial_margin=_usdc(margin.initial_margin),
        maintenance_margin=_usdc(margin.maintenance_margin),
    )


def _web_part(held: HeldPosition) -> _Part:
    imf = _screen_imf(held)
    return _screen_part(held, imf, max(imf, 1 / _screen_leverage(held)))


def _abacus_part(held: HeldPosition) -> _Part:
    return _screen_part(held, _screen_imf(held), _screen_imf(held))


def _indexer_part(held: HeldPosition) -> _Part:
    return _screen_part(held, _tier_imf(held), _tier_imf(held))


def _screen_part(held: HeldPosition, imf: Fraction, asked: Fraction) -> _Part:
    market = held.market
    value = _usdc(held.quantums * _quantum_value(held))
    mmf = Fraction(maintenance_margin_ppm(market.imf_ppm, market.maintenance_fraction_ppm), PPM)
    return _Part(
        ticker=market.ticker,
        size=_size(held),
        value=value,
        imf=imf,
        mmf=mmf,
        initial_margin=abs(value) * asked,
        maintenance_margin=abs(value) * mmf,
    )


class _Style(msgspec.Struct, frozen=True):
    # What tells one view from another.
    part: Callable[[HeldPosition], _Part]
    floors: bool = False  # equity and free collateral end at 0
    signed: bool = False  # a short's leverage is negative


_STYLES: Final[Mapping[ViewName, _Style]] = {
    "chain": _Style(_chain_part),
    "web": _Style(_web_part, floors=True),
    "abacus": _Style(_abacus_part, signed=True),
    "indexer": _Style(_indexer_part),
}


def _tier_imf(held: HeldPosition) -> Fraction:
    held.margin_at(held.chosen_imf_ppm)  # what the chain cannot value, no view may
    if held.market.imf_ppm <= 0:
        raise MarginError(f"{held.market.ticker}: a tier's imf_ppm above 0", held.market.imf_ppm)
    return Fraction(held.market.imf_ppm, PPM)


def _screen_imf(held: HeldPosition) -> Fraction:
    # Not rounded, and where both caps are one the front ends see no cap: the chain does.
    base = _tier_imf(held)
    lower, upper = held.market.open_interest_lower_cap, held.market.open_interest_upper_cap
    if not upper or lower == upper:
        return base
    if held.open_interest is None:
        return Fraction(1)
    share = max((held.open_interest * _quantum_value(held) - lower) / (upper - lower), Fraction(0))
    return min(base + share * (1 - base), Fraction(1))


def _screen_leverage(held: HeldPosition) -> Fraction:
    # Nothing selected is the most that the tier allows.
    return 1 / _tier_imf(held) if held.selected_leverage is None else held.selected_leverage


def _quantum_value(held: HeldPosition) -> Fraction:
    # In quote quantums, exactly.
    return held.price * Fraction(10) ** (held.exponent + held.market.atomic_resolution + 6)


def _size(held: HeldPosition) -> Fraction:
    return held.quantums * Fraction(10) ** held.market.atomic_resolution


def _usdc(quote_quantums: int | Fraction) -> Fraction:
    return Fraction(quote_quantums) / PPM


# === Explanation ===
# Where a view and the chain differ, and why, in words and figures.

# What each cause can move.
_BY_INITIAL: Final = ("initial_margin", "free_collateral", "margin_usage")
_BY_EQUITY: Final = (
    "equity", "free_collateral", "margin_usage", "leverage", "liquidation_price",
)  # fmt: skip
_BY_MAINTENANCE: Final = ("maintenance_margin", "liquidation_price")
_OF_ACCOUNT: Final = (
    "equity", "free_collateral", "initial_margin", "maintenance_margin", "margin_usage",
    "leverage",
)  # fmt: skip
_OF_POSITION: Final = ("initial_margin", "liquidation_price")
_ROUNDING = "the chain rounds each position to 0.000001 USDC"


class Difference(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A figure that a view shows and the chain does not act on; its text says why.

    `figure` is a field of `AccountView`, or with a `ticker` of `PositionView`. `shown` and
    `acts` are the view's and the chain's, None where undefined.
    """

    view: ViewName
    figure: str
    ticker: str
    shown: Fraction | None
    acts: Fraction | None
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        what = f"{self.ticker} {self.figure}".strip().replace("_", " ")
        shown, acts = _in_words(self.shown), _in_words(self.acts)
        return f"{self.view}: {what} {shown}, on the chain {acts}: {'; '.join(self.reasons)}"


def explain(subaccount: HeldSubaccount, *, rounding: bool = False) -> list[Difference]:
    """Tell where each front end differs from the chain over one subaccount, and why.

    Differences that roundings alone make are left out, unless `rounding` asks for them.
    """
    chain = chain_view(subaccount)
    found = [
        difference
        for view in (web_view, abacus_view, indexer_view)
        for difference in _differences(subaccount, view(subaccount), chain)
    ]
    return [each for each in found if rounding or each.reasons != (_ROUNDING,)]


def _differences(
    subaccount: HeldSubaccount, view: AccountView, chain: AccountView
) -> Iterator[Difference]:
    causes = list(_causes(subaccount, view, chain))
    pairs: list[tuple[str, str, AccountView | PositionView, AccountView | PositionView]] = [
        ("", figure, view, chain) for figure in _OF_ACCOUNT
    ]
    for shown, acts in zip(view.positions, chain.positions, strict=True):
        pairs += [(shown.ticker, figure, shown, acts) for figure in _OF_POSITION]
    for ticker, figure, left, right in pairs:
        if getattr(left, figure) != getattr(right, figure):
            # A position's own requirement has nothing to do with the others'.
            about = ("", ticker) if ticker and figure == "initial_margin" else None
            reasons = [
                reason
                for figures, cause, reason in causes
                if figure in figures and (about is None or cause in about)
            ]
            yield Difference(
                view=view.view,
                figure=figure,
                ticker=ticker,
                shown=getattr(left, figure),
                acts=getattr(right, figure),
                reasons=tuple(reasons) or (_ROUNDING,),
            )


def _causes(
    subaccount: HeldSubaccount, view: AccountView, chain: AccountView
) -> Iterator[tuple[tuple[str, ...], str, str]]:
    # The figures that each can move, the ticker it is about, and its words.
    floors = _STYLES[view.view].floors
    if floors and chain.equity < 0:
        yield _BY_EQUITY, "", f"equity is {_in_words(chain.equity)}, shown no lower than 0"
    if floors and chain.free_collateral < 0:
        lacking = _in_words(-chain.free_collateral)
        yield _BY_INITIAL[1:], "", f"initial margin lacks {lacking}, shown as 0 left"
    seen = zip(subaccount.positions, view.positions, chain.positions, strict=True)
    for held, shown, acts in seen:
        ticker, chosen = held.market.ticker, Fraction(held.chosen_imf_ppm, PPM)
        # The chain keeps six decimals of a fraction; a view may keep more.
        if abs(shown.imf - acts.imf) >= Fraction(2, PPM):
            there, here = _percent(acts.imf), _percent(shown.imf)
            reason = f"by its open interest {ticker} asks {there} on the chain, {here} here"
            yield _BY_INITIAL, ticker, reason
        if chosen > acts.imf and view.view != "web":
            reason = f"the leverage chosen for {ticker} asks {_percent(chosen)}, left out here"
            yield _BY_INITIAL, ticker, reason
        if shown.mmf != acts.mmf:
            there, here = _percent(acts.mmf), _percent(shown.mmf)
            yield _BY_MAINTENANCE, ticker, f"{ticker} maintains {there} on the chain, {here} here"


def _in_words(value: Fraction | None) -> str:
    return "undefined" if value is None else f"{float(value):,.6f}".rstrip("0").rstrip(".")


def _percent(fraction: Fraction) -> str:
    return f"{float(fraction * 100):.8g} %"
