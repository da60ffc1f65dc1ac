"""Why the chain, the indexer and the web front end show other figures of one account: in words.

    Reading ──► differences ──► Cause: what it is, and how much of the equity it moves

Two kinds: what each goes by (the block, the prices, the balance), each with its part of the equity,
so that the parts come to the whole; and by which rules each calculates, in the words of dydx_risk.
"""

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Final

import msgspec
from dydx_risk import Holding, explain

from bot.watch.reading import Reading, Seen, usdc

_NAMES: Final = {"web": "the web front end", "indexer": "the indexer"}


class Cause(msgspec.Struct, frozen=True):
    """One difference in words; `equity` is what of it the indexer shows more, in quote quantums.

    `known` is False of what nothing explains. None of an equity: it moves something else.
    """

    words: str
    equity: int | None = None
    known: bool = True


def differences(reading: Reading) -> list[Cause]:
    """Return each cause for which the indexer's equity or a front end's figures are others."""
    chain, indexer = reading.chain, reading.indexer
    if chain is None or indexer is None:
        return []
    causes = [*_of_blocks(chain, indexer), *_of_equity(reading, chain, indexer)]
    causes += _of_interest(chain, indexer)
    if reading.orders:
        causes.append(Cause(_of_orders(len(reading.orders))))
    return [*causes, *_of_rules(chain)]


def _of_blocks(chain: Seen, indexer: Seen) -> Iterator[Cause]:
    behind = chain.height - indexer.height
    if behind:
        what = f"{abs(behind)} block{'s' * (abs(behind) > 1)} {'behind' if behind > 0 else 'ahead'}"
        yield Cause(f"the indexer is {what}: it is as of block {indexer.height}")
    if not chain.whole:
        words = (
            f"blocks came while the chain was read: it is as of {chain.height} or a little later"
        )
        yield Cause(words)


def _of_equity(reading: Reading, chain: Seen, indexer: Seen) -> Iterator[Cause]:
    parts = [*_of_positions(chain, indexer), *_of_balance(chain, indexer)]
    yield from parts
    margin = chain.margin
    if reading.reported is None or margin is None:
        return
    shown = int(reading.reported[0].scaleb(6))
    rest = shown - margin.net_collateral - sum(part.equity or 0 for part in parts)  # integers
    # Each part is cut to a quantum, as the chain cuts each position.
    if abs(rest) > 2 * (1 + len(chain.holdings) + len(indexer.holdings)):
        words = (
            f"{usdc(rest, '+')} USDC of the indexer's equity follow from nothing that it reports"
        )
        yield Cause(f"{words}: it was reckoned at another price or block", rest, known=False)


def _of_positions(chain: Seen, indexer: Seen) -> Iterator[Cause]:
    tickers = {held.ticker for seen in (chain, indexer) for held in seen.holdings}
    for ticker in sorted(tickers):
        true, shown = chain.holding(ticker), indexer.holding(ticker)
        sizes = [held.quantums if held else 0 for held in (true, shown)]
        one = true or shown
        if one is None:
            continue
        if sizes[0] != sizes[1]:
            was, now = (f"{one.market.size(size).normalize():+f}" for size in (sizes[1], sizes[0]))
            moved = (sizes[1] - sizes[0]) * _per_quantum(one)
            words = f"{ticker}: the indexer holds {was}, the chain {now}: it traded in between"
            yield Cause(words, int(moved))
        if true and shown and _per_quantum(true) != _per_quantum(shown):
            moved = sizes[1] * (_per_quantum(shown) - _per_quantum(true))
            prices = f"{_price(shown)} in the indexer, {_price(true)} on the chain"
            yield Cause(f"{ticker}: the oracle price is {prices}", int(moved))


def _of_balance(chain: Seen, indexer: Seen) -> Iterator[Cause]:
    apart = indexer.collateral - chain.collateral
    if abs(apart) <= 1 + len(chain.holdings):  # it rounds the funding of each position by itself
        return
    unsettled = chain.unsettled or 0
    if abs(apart + unsettled) <= 1 + len(chain.holdings):
        words = "funding that the chain has not settled yet is not in the indexer's balance"
        yield Cause(f"{words}: {usdc(unsettled, '+')} USDC", apart)
        return
    there, here = usdc(indexer.collateral), usdc(chain.collateral)
    words = f"the balance is {there} USDC in the indexer, {here} on the chain with its funding"
    same = {h.ticker: h.quantums for h in indexer.holdings} == {
        h.ticker: h.quantums for h in chain.holdings
    }
    if same and chain.height == indexer.height:
        yield Cause(f"{words}, at the same block", apart, known=False)
    else:
        yield Cause(f"{words}: fills, transfers or funding between their blocks", apart)


def _of_interest(chain: Seen, indexer: Seen) -> Iterator[Cause]:
    """Where open interest scales the initial margin, the indexer's report of it is a minute old."""
    for true in chain.holdings:
        shown = indexer.holding(true.ticker)
        if shown is None or true.objection or not true.market.open_interest_upper_cap:
            continue
        there = msgspec.structs.replace(true, open_interest=shown.open_interest)
        apart = there.margin().initial_margin - true.margin().initial_margin
        if apart:
            what = f"{true.ticker}: open interest is reported up to a minute late"
            yield Cause(f"{what}: by it the initial margin were {usdc(apart, '+')} USDC")


def _of_orders(count: int) -> str:
    which = "an order is" if count == 1 else f"{count} orders are"
    return f"{which} open: neither locks margin for it, a fill may take what seems free"


def _of_rules(chain: Seen) -> Iterator[Cause]:
    if chain.margin is None:
        return
    by_reason: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for each in explain(chain.collateral, chain.holdings):
        if each.view in _NAMES and not each.ticker:  # of a position it is the same again
            figures = by_reason.setdefault((each.view, each.reasons), [])
            what = each.figure.replace("_", " ")
            figures.append(f"{what} {_number(each.shown)} for {_number(each.acts)} on the chain")
    for (view, reasons), figures in by_reason.items():
        yield Cause(f"{_NAMES[view]}: {'; '.join(reasons)}: {', '.join(figures)}")


def _number(value: Fraction | None) -> str:
    return "undefined" if value is None else f"{float(value):,.6f}"


def _per_quantum(held: Holding) -> Fraction:
    """Return what a base quantum is worth at its oracle price, in quote quantums."""
    power = held.exponent + held.market.atomic_resolution + 6
    return (held.price or 0) * Fraction(10) ** power


def _price(held: Holding) -> str:
    if held.price is None:
        return "unknown"
    return f"{Decimal(held.price).scaleb(held.exponent).normalize():f}"
