"""`bot account`: an account once, as the chain sees it and as front ends show it, and why.

ADDRESS[/N] ──► read ──► Reading ──► lines, or JSON
            └─► past ──► Past ───┘
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from math import isinf
from typing import Any, Final

from dydx_conn import ConnError, Network, NetworkError
from dydx_risk import (
    AccountView,
    Holding,
    account_view,
    is_liquidatable,
    percent_text,
    usdc_text,
)

from bot.config.configured import environment_of
from bot.config.environment import look_at
from bot.outlet import as_lines
from bot.watch.address import Target, parent_of, target
from bot.watch.differences import Cause, differences
from bot.watch.past import Past, past
from bot.watch.reading import (
    FIGURES,
    INDEXER_ONLY,
    Reading,
    Seen,
    as_is,
    block_time,
    exact_usdc,
    read,
    usdc,
)

NO_KEY: Final = "public data alone: no key is needed, and none is read"


def account(arguments: argparse.Namespace) -> int:
    """Print accounts as they stand; 1 where one of the two views is missing."""
    targets = [target(text) for text in arguments.whose]
    net = look_at(environment_of(arguments))
    readings = read(net, targets)
    require_known(net, targets, readings)
    parents = {each.whose for each in readings if not each.isolated}
    histories = past(net, sorted(parents)) if parents else {}
    if arguments.json:
        rows = [as_json(each, histories.get(each.whose)) for each in readings]
        print(json.dumps({"network": net.name, "chain_id": net.chain_id, "accounts": rows}))
    else:
        print(as_lines(lines_of(net, readings, histories)))
    return int(any(each.no_chain or each.indexer is None for each in readings))


def require_known(net: Network, targets: Sequence[Target], readings: Sequence[Reading]) -> None:
    """Refuse an account of which nobody knows anything, and one that nobody answered about."""
    for each in targets:
        of_it = [reading for reading in readings if each.means(reading.whose)]
        if all(reading.chain is None and reading.indexer is None for reading in of_it):
            first = of_it[0]
            if first.no_chain:
                what = f"expected {each} of {net.name}, got no answer"
                raise NetworkError(f"{what}: node: {first.no_chain}; indexer: {first.no_indexer}")
        if all(reading.indexer is None and reading.is_empty for reading in of_it):
            seen = next((reading.chain for reading in of_it if reading.chain), None)
            where = f", and the chain holds nothing of it at block {seen.height}" if seen else ""
            why = of_it[0].no_indexer
            what = f"expected an account that was funded on {net.name}, got {each}"
            raise ConnError(f"{what}: the indexer: {why}{where}")


# === Lines ===


def lines_of(
    net: Network, readings: Sequence[Reading], histories: dict[Any, Past]
) -> Iterator[str]:
    """Yield what is printed of accounts."""
    yield f"{net.name} ({net.chain_id}), {NO_KEY}"
    for reading in readings:
        yield ""
        yield from _account(reading)
        if (earlier := histories.get(reading.whose)) is not None:
            yield ""
            yield from (f"  {line}" for line in past_lines(earlier))
    yield from _together(readings)


def _together(readings: Sequence[Reading]) -> Iterator[str]:
    """Yield what the subaccounts of an address come to, where there are several."""
    for owner in dict.fromkeys(each.whose.owner for each in readings):
        family = [each for each in readings if each.whose.owner == owner]
        margins = [each.best.margin if each.best else None for each in family]
        known = [margin.net_collateral for margin in margins if margin is not None]
        if len(family) > 1:
            more = f", {len(family) - len(known)} of them unknown" * (len(known) < len(family))
            total = usdc(sum(known))  # integers
            yield ""
            yield f"{owner}  {len(family)} subaccounts{more}: equity {total} together"


def _account(reading: Reading) -> Iterator[str]:
    number = reading.whose.number
    kind = f"isolated child of {parent_of(number)}" if reading.isolated else "cross"
    yield f"{reading.whose.owner}  subaccount {number} ({kind})"
    yield from _sources(reading)
    yield ""
    yield from _table(reading)
    yield from _positions(reading)
    yield from _orders(reading)
    yield from _why(differences(reading))


def _sources(reading: Reading) -> Iterator[str]:
    chain, indexer = reading.chain, reading.indexer
    if chain is None:
        yield f"  chain    {INDEXER_ONLY}: {reading.no_chain}"
    else:
        about = "" if chain.whole else ", or a little later"
        yield f"  chain    block {chain.height} of {block_time(chain.time_ns)}{about}"
    if indexer is None:
        yield f"  indexer  nothing: {reading.no_indexer}"
    else:
        yield f"  indexer  block {indexer.height}"


_ROWS: Final = (
    ("equity", "equity"), ("free collateral", "free_collateral"),
    ("initial margin", "initial_margin"), ("maintenance margin", "maintenance_margin"),
    ("margin used", "margin_usage"), ("leverage", "leverage"),
)  # fmt: skip


def _table(reading: Reading) -> Iterator[str]:
    views = views_of(reading)
    shown = reading.reported
    yield f"  {'':20}{'chain':>20}{'web front end':>20}{'indexer':>20}"
    for title, figure in _ROWS:
        reported = {"equity": shown and shown[0], "free_collateral": shown and shown[1]}
        cells = [_cell(getattr(view, figure), figure) if view else "unknown" for view in views]
        last = reported.get(figure)
        cells.append("" if figure not in reported else "unknown" if last is None else _exact(last))
        yield f"  {title:20}" + "".join(f"{cell:>20}" for cell in cells)
    best = reading.best
    owed = reading.chain.unsettled if reading.chain else None
    yield f"  {'unsettled funding':20}{usdc(owed, '+'):>20}"
    yield f"  {'to liquidation':20}{_distance(best):>20}"
    for reason in best.unknown if best else ():
        yield f"  unknown: {reason}"


def _distance(seen: Seen | None) -> str:
    margin = seen.margin if seen else None
    if seen is None or margin is None:
        return "unknown"
    if not seen.holdings:
        return "no position"
    liquidatable = " LIQUIDATABLE" * is_liquidatable(
        margin.net_collateral, margin.maintenance_margin
    )
    return f"{percent_text(margin.distance)}{liquidatable}"


def views_of(reading: Reading) -> tuple[AccountView | None, AccountView | None]:
    """Return the chain's view by what it holds, and the web front end's by what the indexer does.

    None where it is missing, or holds what cannot be valued.
    """
    found = []
    for name, seen in (("chain", reading.chain), ("web", reading.indexer)):
        known = seen is not None and seen.margin is not None
        view = account_view(name, seen.collateral, seen.holdings) if known and seen else None  # type: ignore[arg-type]
        found.append(view)
    return found[0], found[1]


def _cell(value: Fraction | None, figure: str) -> str:
    if value is None:
        return "undefined"
    if figure == "margin_usage":
        return f"{float(value) * 100:.2f} %"
    if figure == "leverage":
        return f"{float(value):.2f}x"
    return usdc(int(value * 10**6))


def _exact(amount: Decimal) -> str:
    return f"{amount:,.6f}"


def _positions(reading: Reading) -> Iterator[str]:
    seen = reading.best
    if seen is None or not (seen.holdings or seen.unvalued):
        yield "  no position"
        return
    yield ""
    where = "chain" if reading.chain else "indexer"
    yield (
        f"  {'TICKER (' + where + ')':16}{'SIZE':>14}{'ENTRY':>14}{'ORACLE':>14}{'NOTIONAL':>16}"
        f"{'INITIAL':>14}{'MAINTENANCE':>14}{'UNSETTLED':>13}{'LIQ PRICE':>14}"
    )
    for held, liquidation in zip(seen.holdings, _liquidations(seen), strict=True):
        yield _position(held, seen, liquidation)


def _liquidations(seen: Seen) -> list[Fraction | None]:
    if seen.margin is None:
        return [None] * len(seen.holdings)
    view = account_view("chain", seen.collateral, seen.holdings)
    return [each.liquidation_price for each in view.positions]


def _position(held: Holding, seen: Seen, liquidation: Fraction | None) -> str:
    size = f"{held.market.size(held.quantums).normalize():+f}"
    price = "unknown" if held.price is None else _price(Decimal(held.price).scaleb(held.exponent))
    margins = ["unknown"] * 3
    if not held.objection:
        margin = held.margin()
        notional = abs(margin.net_notional)
        required = notional, margin.initial_margin, margin.maintenance_margin
        margins = [*map(usdc_text, required)]
    owed = f"{Decimal(seen.owed[held.ticker]).scaleb(-6):+.6f}" if seen.owed else "unknown"
    entry = "unknown" if held.entry_price is None else _price(held.entry_price)
    level = "none" if liquidation is None or liquidation <= 0 else _price(liquidation)
    return (
        f"  {held.ticker:16}{size:>14}{entry:>14}{price:>14}{margins[0]:>16}{margins[1]:>14}"
        f"{margins[2]:>14}{owed:>13}{level:>14}"
    )


def _price(price: Decimal | Fraction) -> str:
    return f"{float(price):,.7g}"


def _orders(reading: Reading) -> Iterator[str]:
    if reading.orders is None:
        yield "  open orders: unknown, the indexer did not answer"
    for each in reading.orders or ():
        only = " reduce-only" * each.reduce_only
        what = f"{each.side} {each.size} {each.ticker} at {each.price}"
        yield f"  open order: {what}, {each.type}{only} {each.status}"


def _why(causes: Sequence[Cause]) -> Iterator[str]:
    if not causes:
        return
    yield ""
    yield "  why they differ"
    for each in causes:
        mark = "-" if each.known else "!"
        moved = f" ({usdc(each.equity, '+')} of equity)" if each.equity else ""
        yield f"  {mark} {each.words}{moved}"


def past_lines(earlier: Past) -> Iterator[str]:
    """Yield what an account earned before, and what it did last."""
    spans = [f"{name} {_signed(amount)}" for name, amount in earlier.spans.items()]
    # The indexer adds to it once an hour: what was won or lost since then is not in it.
    until = f"  until {block_time(earlier.hours[-1][0])}" if earlier.hours else ""
    yield f"profit   {'  '.join([*spans, f'since it began {_signed(earlier.total)}'])}{until}"
    paid_in = _signed(earlier.net_transfers)
    yield f"funding  24 h {_signed(earlier.funding_24h)}   paid in {paid_in}"
    for title, rows in (("fill", earlier.fills), ("transfer", earlier.transfers)):
        for at, words in (rows or ())[:3]:
            yield f"{title:9}{block_time(at)} {words}"
        if rows is None:
            yield f"{title:9}unknown, the indexer did not answer"


def _signed(amount: Decimal | None) -> str:
    return "unknown" if amount is None else f"{amount:+,.2f}"


# === JSON ===


def as_json(reading: Reading, earlier: Past | None) -> dict[str, Any]:
    """Return an account for a program: amounts are exact, as text, None is unknown."""
    views = views_of(reading)
    return {
        "address": reading.whose.owner,
        "subaccount": reading.whose.number,
        "parent": parent_of(reading.whose.number),
        "isolated": reading.isolated,
        "key": None,
        "chain": _seen_json(reading.chain) if reading.chain else None,
        "chain_unknown_because": reading.no_chain or None,
        "indexer": _indexer_json(reading),
        "indexer_unknown_because": reading.no_indexer or None,
        "web": _view_json(views[1]),
        "orders": None if reading.orders is None else [_order_json(o) for o in reading.orders],
        "differences": [
            {"words": c.words, "equity": exact_usdc(c.equity), "explained": c.known}
            for c in differences(reading)
        ],
        "past": past_json(earlier),
    }


def _order_json(order: Any) -> dict[str, Any]:
    return {name: getattr(order, name) for name in order.__struct_fields__}


def _seen_json(seen: Seen) -> dict[str, Any]:
    margin = seen.margin
    distance = None if margin is None else margin.distance
    return {
        "height": seen.height,
        "time": block_time(seen.time_ns) if seen.time_ns else None,
        "one_height": seen.whole,
        "collateral": exact_usdc(seen.collateral),
        "unsettled_funding": exact_usdc(seen.unsettled),
        **{name: exact_usdc(getattr(margin, name, None)) for name in FIGURES},
        "leverage": None if margin is None else margin.leverage,
        "distance": None if distance is None or isinf(distance) else distance,
        "liquidatable": None
        if margin is None
        else is_liquidatable(margin.net_collateral, margin.maintenance_margin),
        "unknown": list(seen.unknown),
        "positions": [
            _position_json(held, seen, level)
            for held, level in zip(seen.holdings, _liquidations(seen), strict=True)
        ],
    }


def _position_json(held: Holding, seen: Seen, level: Fraction | None) -> dict[str, Any]:
    margin = None if held.objection else held.margin()
    price = None if held.price is None else Decimal(held.price).scaleb(held.exponent)
    return {
        "ticker": held.ticker,
        "size": f"{held.market.size(held.quantums).normalize():f}",
        "entry_price": as_is(held.entry_price),
        "oracle_price": as_is(price),
        "notional": exact_usdc(getattr(margin, "net_notional", None)),
        "imf_ppm": held.market.imf_ppm,
        "maintenance_fraction_ppm": held.market.maintenance_fraction_ppm,
        "initial_margin": exact_usdc(getattr(margin, "initial_margin", None)),
        "maintenance_margin": exact_usdc(getattr(margin, "maintenance_margin", None)),
        "unsettled_funding": exact_usdc(seen.owed.get(held.ticker)),
        "liquidation_price": None if level is None or level <= 0 else f"{float(level):.10g}",
    }


def _indexer_json(reading: Reading) -> dict[str, Any] | None:
    seen = reading.indexer
    if seen is None:
        return None
    equity, free = reading.reported or (None, None)
    reported = {"equity": as_is(equity), "free_collateral": as_is(free)}
    return {**reported, **_seen_json(seen)}


def _view_json(view: AccountView | None) -> dict[str, Any] | None:
    if view is None:
        return None
    return {
        figure: None if (value := getattr(view, figure)) is None else f"{float(value):.12g}"
        for _, figure in _ROWS
    }


_NEWEST: Final = 20


def past_json(earlier: Past | None) -> dict[str, Any] | None:
    """Return the same for a program, None where it is not known."""
    if earlier is None:
        return None
    return {
        "profit": {name.replace(" ", ""): as_is(x) for name, x in earlier.spans.items()},
        "profit_since_it_began": as_is(earlier.total),
        "net_transfers": as_is(earlier.net_transfers),
        "funding_24h": as_is(earlier.funding_24h),
        "fills": [[block_time(at), words] for at, words in (earlier.fills or ())[:_NEWEST]],
        "transfers": [[block_time(at), words] for at, words in (earlier.transfers or ())[:_NEWEST]],
    }
