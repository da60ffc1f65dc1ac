"""An account before it is traded, in three views: what the last run left, the indexer, the chain.

    database ──► Left ─────┐
    indexer ──► Reported ──┼──► compare ──► Finding ──► words, and a halt for what nothing explains
    chain ──► Held ────────┘

`compare` is pure. What differs is explained by what the indexer reports of the time in which no
bot ran: fills, transfers, funding. An indexer that is only behind is waited for.
"""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import accumulate
from typing import Final, Literal

import msgspec

# === Values ===
# What each of the three holds. Sizes are signed base units, money is in quote quantums.

Kind = Literal["explained", "noted", "behind", "unexplained"]


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What an account holds at a height: sizes by ticker, none of 0; its USDC, funding settled."""

    height: int = 0
    sizes: dict[str, Decimal] = {}
    collateral: int | None = None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """An order that may still fill, by the venue's id and by ours, and in words."""

    order_id: str
    client_id: str
    words: str


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """Something that moved money: `size` is what a fill added to a position, `paid_in` to USDC."""

    kind: Literal["fill", "transfer", "funding"]
    at: int
    paid_in: int
    id: str = ""
    ticker: str = ""
    size: Decimal = Decimal(0)
    order_id: str = ""
    words: str = ""


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """What a run left behind: `run` names it, `began` is when it did."""

    run: str
    began: int
    held: Held
    orders: tuple[Standing, ...] = ()


class Reported(msgspec.Struct, frozen=True, kw_only=True):
    """What the indexer reports: open orders, and what moved since the last run began."""

    held: Held
    orders: tuple[Standing, ...] = ()
    moves: tuple[Move, ...] = ()


class Finding(msgspec.Struct, frozen=True):
    """One difference, in words; `noted` is what matters and needs no explanation."""

    kind: Kind
    words: str


# === Comparison ===
# Pure: one finding for each ticker, for the collateral and for each order.

# Blocks: more is not the time that a block takes to arrive everywhere.
_BEHIND: Final = 20


def compare(left: Left | None, indexer: Reported, chain: Held) -> list[Finding]:
    """Return each difference between the three, none where they agree."""
    return [
        *_lag(indexer, chain),
        *_sizes(left, indexer, chain),
        *_collateral(left, indexer, chain),
        *_orders(left, indexer),
    ]


def reason(findings: Iterable[Finding]) -> str:
    """Return why a run is to begin halted, "" if everything is explained."""
    whys = [found.words for found in findings if found.kind in ("behind", "unexplained")]
    more = f" (and {len(whys) - 1} more)" if len(whys) > 1 else ""
    return f"{whys[0]}{more}" if whys else ""


def _lag(indexer: Reported, chain: Held) -> Iterator[Finding]:
    if (behind := chain.height - indexer.held.height) > _BEHIND:
        yield Finding("noted", f"the indexer is {behind} blocks behind the chain")


def _sizes(left: Left | None, indexer: Reported, chain: Held) -> Iterator[Finding]:
    before = left.held.sizes if left else {}
    for ticker in sorted({*before, *indexer.held.sizes, *chain.sizes}):
        was, now, true = (
            each.get(ticker, Decimal(0)) for each in (before, indexer.held.sizes, chain.sizes)
        )
        words = _three(
            ticker, indexer.held, chain, f"{was:+f}" if left else "", f"{now:+f}", f"{true:+f}"
        )
        if now != true:
            yield _apart(words, indexer.held, chain)
        elif left is not None and now != was:
            fills = [
                move for move in indexer.moves if move.ticker == ticker and move.kind == "fill"
            ]
            yield _explain(words, now - was, fills, {each.order_id for each in left.orders})


def _explain(words: str, change: Decimal, fills: Sequence[Move], ours: set[str]) -> Finding:
    newest = sorted(fills, key=lambda move: -move.at)
    sums = accumulate((move.size for move in newest), initial=Decimal(0))
    # The newest so many: what older ones did, the last run knew.
    count = next((count for count, added in enumerate(sums) if count and added == change), 0)
    if not count:
        return Finding("unexplained", f"{words}: no fills are reported that explain {change:+f}")
    chosen = newest[:count]
    done = "bought" if change > 0 else "sold"
    by = " by an order of the last run" * all(move.order_id in ours for move in chosen)
    forced = sorted({move.words for move in chosen if move.words})
    how = f" ({', '.join(forced).lower()})" if forced else ""
    named = _named("fill", [move.id for move in chosen])
    return Finding(
        "explained", f"{words}: {abs(change):f} was {done}{by} while no bot ran{how}: {named}"
    )


def _collateral(left: Left | None, indexer: Reported, chain: Held) -> Iterator[Finding]:
    now, true = indexer.held.collateral, chain.collateral
    was = left.held.collateral if left else None
    if now is None or true is None:
        return
    words = _three("collateral", indexer.held, chain, *(_usdc(each) for each in (was, now, true)))
    # The indexer rounds the funding of each position by itself.
    if abs(now - true) > 1 + len(chain.sizes):
        yield _apart(words, indexer.held, chain)
    elif was is not None and abs(now - was) > 1 + len(chain.sizes):
        yield _account_for(words, now - was, indexer.moves, 1 + len(chain.sizes))


def _account_for(words: str, change: int, moves: Sequence[Move], rounding: int) -> Finding:
    causes = sorted((m for m in moves if m.kind != "funding"), key=lambda move: -move.at)
    # What of it the last run had counted is not known to the hour: no more than all of it.
    funding = sum(abs(move.paid_in) for move in moves if move.kind == "funding")  # integers
    sums = accumulate((move.paid_in for move in causes), initial=0)
    for count, added in enumerate(sums):
        rest = change - added
        if abs(rest) <= rounding + count + funding:
            parts = [_counted(causes[:count], kind) for kind in ("fill", "transfer")]
            parts += [f"funding {_usdc(rest, '+')}"] * (abs(rest) > rounding + count)
            return Finding("explained", f"{words}: {', '.join(filter(None, parts))}")
    what = "no fill, transfer or funding is reported that explains"
    return Finding("unexplained", f"{words}: {what} {_usdc(change, '+')}")


def _counted(moves: Sequence[Move], kind: str) -> str:
    chosen = [move for move in moves if move.kind == kind]
    paid_in = sum(move.paid_in for move in chosen)  # integers
    return f"{len(chosen)} {kind}{'s' * (len(chosen) > 1)} {_usdc(paid_in, '+')}" if chosen else ""


def _orders(left: Left | None, indexer: Reported) -> Iterator[Finding]:
    if left is None:
        return
    ours = {each.order_id: each for each in left.orders}
    open_ = {each.order_id: each for each in indexer.orders}
    for id_, order in ours.items():
        if id_ in open_:
            what = f"an order of the last run (client id {order.client_id}) still stands"
            yield Finding("noted", f"{what}: {open_[id_].words}")
        else:
            what = f"an order of the last run (client id {order.client_id}) is over"
            yield Finding("explained", f"{what}: {order.words}")
    for id_, order in open_.items():
        if id_ not in ours:
            what = f"an order that the last run did not leave (client id {order.client_id}) stands"
            yield Finding("noted", f"{what}: {order.words}")


def _apart(words: str, indexer: Held, chain: Held) -> Finding:
    behind = chain.height - indexer.height
    if behind > 0:
        plural = "s" * (behind > 1)
        return Finding("behind", f"{words}: the indexer is {behind} block{plural} behind the chain")
    return Finding("unexplained", f"{words}: expected the indexer to have what the chain has")


def _three(what: str, indexer: Held, chain: Held, was: str, now: str, true: str) -> str:
    left = f"the last run left {was}, " if was else ""
    return (
        f"{what}: {left}the indexer has {now} at block {indexer.height}, "
        f"the chain {true} at block {chain.height}"
    )


def _usdc(quantums: int | None, sign: str = "") -> str:
    return "" if quantums is None else f"{Decimal(quantums).scaleb(-6):{sign},.6f} USDC"


def _named(what: str, ids: Sequence[str]) -> str:
    """Name a few of them, and how many more there are."""
    some = ", ".join(ids[:2])
    more = f" and {len(ids) - 2} more" if len(ids) > 2 else ""
    return f"{what}{'s' * (len(ids) > 1)} {some}{more}"
