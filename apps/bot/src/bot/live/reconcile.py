"""An account before it is traded, in three views: what the last run left, the indexer, the chain.

    database ──► LastRun ──┐
    indexer ──► Reported ──┼──► compare ──► Finding ──► words, and a halt for what nothing explains
    chain ──► HeldAt ──────┘

`compare` is pure. What differs is explained by what the indexer reports of the time in which no
bot ran: fills, transfers, funding. An indexer that is only behind is waited for. Orders are the
indexer's word alone: a node lists none of an account.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from dydx_conn import (
    ENDPOINTS,
    ChainAccount,
    ConnError,
    FillFields,
    FundingPaymentFields,
    Inbox,
    Network,
    OrderFields,
    Rest,
    RestError,
    Subaccount,
    TransferFields,
    WireError,
    chain_account,
    instant,
    number,
)
from dydx_risk import funding_settlement, funding_settlement_ppm

from bot.outlet import as_lines
from bot.run.acts import act

if TYPE_CHECKING:
    from sqlalchemy import Engine

# === Values ===
# What each of the three holds. Sizes are signed base units, money is in quote quantums.

Kind = Literal["explained", "noted", "behind", "unexplained"]


class HeldAt(msgspec.Struct, frozen=True, kw_only=True):
    """What an account holds at a height: sizes by ticker, none of 0; its USDC, funding settled."""

    height: int = 0
    sizes: dict[str, Decimal] = {}
    collateral: int | None = None


class OpenOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order that may still fill, by the venue's id and by ours, and in words."""

    order_id: str
    client_id: str
    words: str


class Movement(msgspec.Struct, frozen=True, kw_only=True):
    """Something that moved money: `size` is what a fill added to a position, `paid_in` to USDC."""

    kind: Literal["fill", "transfer", "funding"]
    at: int
    paid_in: int
    id: str = ""
    ticker: str = ""
    size: Decimal = Decimal(0)
    order_id: str = ""
    words: str = ""


class LastRun(msgspec.Struct, frozen=True, kw_only=True):
    """What a run left behind: `run` names it, `began` is when it did."""

    run: str
    began: int
    held: HeldAt
    orders: tuple[OpenOrder, ...] = ()


class Reported(msgspec.Struct, frozen=True, kw_only=True):
    """What the indexer reports: open orders, and what moved since the last run began.

    `at` is when, in ns; `cut` are the lists of which more rows are there than were looked at.
    """

    held: HeldAt
    orders: tuple[OpenOrder, ...] = ()
    moves: tuple[Movement, ...] = ()
    at: int = 0
    cut: tuple[str, ...] = ()


class Finding(msgspec.Struct, frozen=True):
    """One difference, in words; `noted` is what matters and needs no explanation.

    `paid_in` is what transfers have to do with it, in quote quantums.
    """

    kind: Kind
    words: str
    paid_in: int = 0


# === Comparison ===
# Pure: one finding for each ticker, for the collateral and for each order.

# Blocks: more is not the time that a block takes to arrive everywhere.
_BEHIND: Final = 20
# Of a list: who has more than ten pages of it while no bot ran, looks at it by hand.
_MOST_ROWS: Final = 10_000


def compare(left: LastRun | None, indexer: Reported, chain: HeldAt) -> list[Finding]:
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


def _lag(indexer: Reported, chain: HeldAt) -> Iterator[Finding]:
    if (behind := chain.height - indexer.held.height) > _BEHIND:
        yield Finding("noted", f"the indexer is {behind} blocks behind the chain")


def _sizes(left: LastRun | None, indexer: Reported, chain: HeldAt) -> Iterator[Finding]:
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
            ours = {each.order_id for each in left.orders}
            yield _explain(words, now - was, fills, ours, _cut(indexer, "fills"))


def _explain(
    words: str, change: Decimal, fills: Sequence[Movement], ours: set[str], cut: str
) -> Finding:
    newest = sorted(fills, key=lambda move: -move.at)
    sums = accumulate((move.size for move in newest), initial=Decimal(0))
    # The newest so many: what older ones did, the last run knew.
    count = next((count for count, added in enumerate(sums) if count and added == change), 0)
    if not count:
        what = f"no fills are reported that explain {change:+f}{cut}"
        return Finding("unexplained", f"{words}: {what}")
    chosen = newest[:count]
    done = "bought" if change > 0 else "sold"
    by = " by an order of the last run" * all(move.order_id in ours for move in chosen)
    forced = sorted({move.words for move in chosen if move.words})
    how = f" ({', '.join(forced).lower()})" if forced else ""
    named = _named("fill", [move.id for move in chosen])
    return Finding(
        "explained", f"{words}: {abs(change):f} was {done}{by} while no bot ran{how}: {named}"
    )


def _collateral(left: LastRun | None, indexer: Reported, chain: HeldAt) -> Iterator[Finding]:
    now, true = indexer.held.collateral, chain.collateral
    was = left.held.collateral if left else None
    if now is None or true is None:
        return
    words = _three("collateral", indexer.held, chain, *(_usdc(each) for each in (was, now, true)))
    # The indexer rounds the funding of each position by itself.
    if abs(now - true) > 1 + len(chain.sizes):
        yield _apart(words, indexer.held, chain)
    elif was is not None and abs(now - was) > 1 + len(chain.sizes):
        late = _late(indexer) if left and (left.held.sizes or chain.sizes) else 0
        yield _account_for(words, now - was, indexer, 1 + len(chain.sizes), late)


def _account_for(words: str, change: int, indexer: Reported, rounding: int, late: int) -> Finding:
    # The newest so many of all that moved: what older ones did, the last run had counted.
    causes = sorted(indexer.moves, key=lambda move: -move.at)
    count = _newest(causes, change, rounding, 0)
    if count is not None:
        return _explained(words, causes[:count], 0)
    # An hour's payments are reported some time after it: until then no more than all before.
    causes = [move for move in causes if move.kind != "funding"]
    count = _newest(causes, change, rounding, late) if late else None
    if count is not None:
        rest = change - sum(move.paid_in for move in causes[:count])  # integers
        return _explained(words, causes[:count], rest)
    what = "no fill, transfer or funding is reported that explains"
    return Finding("unexplained", f"{words}: {what} {_usdc(change, '+')}{_cut(indexer, '')}")


def _newest(causes: Sequence[Movement], change: int, rounding: int, more: int) -> int | None:
    """Return how many of the newest explain a change but for `more`, each rounded by itself."""
    sums = accumulate((move.paid_in for move in causes), initial=0)
    return next(
        (n for n, added in enumerate(sums) if abs(change - added) <= rounding + n + more), None
    )


def _explained(words: str, chosen: Sequence[Movement], late: int) -> Finding:
    parts = [_counted(chosen, kind) for kind in ("fill", "transfer", "funding")]
    parts += [f"funding {_usdc(late, '+')}, as far as its payments are reported"] * bool(late)
    paid_in = sum(move.paid_in for move in chosen if move.kind == "transfer")  # integers
    return Finding("explained", f"{words}: {', '.join(filter(None, parts))}", paid_in)


def _late(indexer: Reported) -> int:
    """Return what payments that are not reported yet may be; 0 where the last hour's are."""
    paid = [move for move in indexer.moves if move.kind == "funding"]
    newest = max((move.at for move in paid), default=0)
    is_late = newest < indexer.at - indexer.at % _HOUR_NS
    return sum(abs(move.paid_in) for move in paid) if is_late else 0  # integers


_HOUR_NS: Final = 3_600_000_000_000


def _cut(indexer: Reported, what: str) -> str:
    """Return that lists were not read to their end: one of them, or any."""
    lists = [name.replace("_", " ") for name in indexer.cut if what in ("", name)]
    return f" (the newest {_MOST_ROWS:,} {' and '.join(lists)} are looked at)" if lists else ""


def _counted(moves: Sequence[Movement], kind: str) -> str:
    chosen = [move for move in moves if move.kind == kind]
    if not chosen:
        return ""
    name = "funding payment" if kind == "funding" else kind
    paid_in = sum(move.paid_in for move in chosen)  # integers
    return f"{len(chosen)} {name}{'s' * (len(chosen) > 1)} {_usdc(paid_in, '+')}"


def _orders(left: LastRun | None, indexer: Reported) -> Iterator[Finding]:
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


def _apart(words: str, indexer: HeldAt, chain: HeldAt) -> Finding:
    behind = chain.height - indexer.height
    if behind > 0:
        plural = "s" * (behind > 1)
        return Finding("behind", f"{words}: the indexer is {behind} block{plural} behind the chain")
    return Finding("unexplained", f"{words}: expected the indexer to have what the chain has")


def _three(what: str, indexer: HeldAt, chain: HeldAt, was: str, now: str, true: str) -> str:
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


# === The chain ===
# What a node answers, as a view.


def held_by(account: ChainAccount) -> HeldAt:
    """Return what the chain holds, its funding as if it were settled now."""
    settlements = (
        funding_settlement_ppm(each.quantums, each.index_now, each.funding_index)
        for each in account.positions
    )
    return HeldAt(
        height=account.height,
        sizes={each.ticker: each.size for each in account.positions if each.quantums},
        collateral=account.collateral + funding_settlement(settlements),
    )


# === The indexer ===
# What REST answers, as a view: its USDC is adjusted for funding that is not settled yet.

_OPEN: Final = ("OPEN", "UNTRIGGERED", "BEST_EFFORT_OPENED")
_PAID_IN: Final = {"DEPOSIT": 1, "TRANSFER_IN": 1, "WITHDRAWAL": -1, "TRANSFER_OUT": -1}
_APART_NS: Final = (
    60_000_000_000  # of our clock and the venue's: what is older by that is looked at
)


async def reported(rest: Rest, subaccount: Subaccount, since: int | None) -> Reported:
    """Query what the account holds and its open orders; with `since` (ns) what moved from then on.

    `RestError` if what it holds is not answered; moves that are not are none.
    """
    fields = (await rest.subaccount(subaccount)).value
    try:
        held = _held_in(fields)
    except ValueError as error:
        raise WireError(f"expected what {subaccount} holds, got {error}") from None
    orders = (await rest.orders(subaccount, status=_OPEN)).value
    moves, cut = list[Movement](), list[str]()
    for endpoint in _MOVES if since is not None else ():
        found, whole = await _moves(rest, endpoint, subaccount, (since or 0) - _APART_NS)
        moves += found
        cut += [endpoint] * (not whole)
    return Reported(
        held=held, orders=tuple(map(_standing, orders)), moves=tuple(moves),
        at=time.time_ns(), cut=tuple(cut),
    )  # fmt: skip


def _held_in(fields: Any) -> HeldAt:
    heights = [fields.latest_processed_block_height, fields.updated_at_height]
    sizes = {t: number(row.size) for t, row in fields.open_perpetual_positions.items()}
    usdc = fields.asset_positions.get("USDC")
    amount = number("0" if usdc is None else usdc.size)
    owed = usdc is not None and usdc.side == "SHORT"
    return HeldAt(
        height=next((int(each) for each in heights if each), 0),
        sizes={ticker: size for ticker, size in sizes.items() if size},
        collateral=int((-amount if owed else amount).scaleb(6)),
    )


async def _moves(
    rest: Rest, endpoint: str, subaccount: Subaccount, since: int
) -> tuple[list[Movement], bool]:
    """Return what a list has from `since` (ns) on, and whether that is all of it."""
    moves, rows = list[Movement](), 0
    # What is not answered, or cannot be read, explains nothing.
    with contextlib.suppress(RestError):
        async for row in rest.walk(ENDPOINTS[endpoint], subaccount):
            if rows == _MOST_ROWS:
                return moves, False
            rows += 1
            with contextlib.suppress(ConnError, ValueError):
                move = _MOVES[endpoint](row)
                if move.at < since:
                    break  # the newest come first
                moves.append(move)
    return moves, True


def _fill(row: FillFields) -> Movement:
    size = number(row.size)
    quote, fee = int((size * number(row.price)).scaleb(6)), int(number(row.fee).scaleb(6))
    bought = row.side == "BUY"
    return Movement(
        kind="fill", at=instant(row.created_at), paid_in=(-quote if bought else quote) - fee,
        id=row.id, ticker=row.ticker or row.market or "", size=size if bought else -size,
        order_id=row.order_id or "", words="" if row.type in _TRADED else row.type,
    )  # fmt: skip


# What a fill is by its type, where it is not by an order of ours: LIQUIDATED, DELEVERAGED …
_TRADED: Final = ("LIMIT", "MARKET", "TWAP_SUBORDER", "")


def _transfer(row: TransferFields) -> Movement:
    amount = _PAID_IN.get(row.type, 0) * int(number(row.size).scaleb(6))
    return Movement(kind="transfer", at=instant(row.created_at), paid_in=amount, id=row.id)


def _payment(row: FundingPaymentFields) -> Movement:
    amount = int(number(row.payment).scaleb(6))
    return Movement(kind="funding", at=instant(row.created_at), paid_in=amount, ticker=row.ticker)


_MOVES: Final[Mapping[str, Callable[[Any], Movement]]] = {
    "fills": _fill,
    "transfers": _transfer,
    "funding_payments": _payment,
}


def _standing(row: OrderFields) -> OpenOrder:
    words = f"{row.side} {row.size} {row.ticker} at {row.price}, {row.type}"
    return OpenOrder(order_id=row.id, client_id=row.client_id or "", words=words)


# === The database ===
# What the last run of an account left there.

_LIVE: Final = ("PENDING", "OPEN", "PARTIALLY_FILLED", "UNRESOLVED")
NONE: Final = "none"


def last_run(net: Network, subaccount: Subaccount, url: str = "") -> LastRun | None:
    """Return what the last run left in a database; None where there is none, or no such run.

    What it could not write is taken from its file first. `url` "none" is no database.
    """
    # Loaded by whoever has a database: it takes a third of a second.
    from bot.database.spill import spilled
    from bot.database.store import absorb
    from bot.database.tables import (
        default_url,
        engine_of,
        explained,
        file_of,
        shown,
        upgrade,
        writing,
    )

    url = url or default_url()
    file = None if url == NONE else file_of(url)
    if url == NONE or (file is not None and not file.exists()):
        return None
    engine = engine_of(url)
    try:
        upgrade(engine)
        with explained(url), spilled(url) as earlier:
            for waiting in earlier:
                absorb(writing(engine), waiting)
            return left_in(engine, net.chain_id, str(subaccount))
    except (ValueError, ArithmeticError) as error:
        raise ConnError(f"expected sizes and a balance in {shown(url)}, got {error}") from None
    finally:
        engine.dispose()


def left_in(engine: "Engine", chain_id: str, account: str) -> LastRun | None:
    """Return what the last run with real orders that knew its account left; None without one."""
    from sqlalchemy import select

    from bot.database.rows import BALANCE
    from bot.database.tables import orders, positions, runs, states

    def of_account(table: Any) -> Any:
        return (table.c.chain_id == chain_id) & (table.c.account == account)

    known = (
        select(runs.c.id, runs.c.began, runs.c.state, states.c.state.label("collateral"))
        .join(states, states.c.run_id == runs.c.id)
        .where(of_account(runs) & (runs.c.mode == "trade") & (states.c.what == BALANCE))
        .order_by(runs.c.id.desc(), states.c.n.desc())
        .limit(1)
    )
    with engine.connect() as connection:
        run = connection.execute(known).first()
        if run is None:
            return None
        held = connection.execute(
            select(positions).where(of_account(positions) & (positions.c.status == "OPEN"))
        ).all()
        # What no run has seen since an earlier one left it, that run has reported.
        seen = orders.c.updated >= run.began
        live = connection.execute(
            select(orders).where(of_account(orders) & orders.c.status.in_(_LIVE) & seen)
        ).all()
    at = datetime.fromtimestamp(run.began / 1e9, UTC)
    ended = "ended" if run.state == "ended" else "was killed"
    return LastRun(
        run=f"run {run.id} of {at:%Y-%m-%d %H:%M}, which {ended}",
        began=run.began,
        held=HeldAt(
            sizes={row.ticker: _signed(row) for row in held}, collateral=int(run.collateral)
        ),
        orders=tuple(
            OpenOrder(
                order_id=row.order_id, client_id=row.client_id,
                words=f"{row.side} {row.size} {row.ticker} at {row.price}, {row.type}",
            )
            for row in live
        ),
    )  # fmt: skip


def _signed(row: Any) -> Decimal:
    size = abs(Decimal(row.size))
    return -size if row.side == "SHORT" else size


# === Before a run ===
# Looked at until nothing is in doubt, or for no longer than is worth it.

# An indexer may be 30 blocks behind its node; what is wrong for longer than a moment stays so.
_PATIENCE_S: Final = 30.0
_MOMENT_S: Final = 5.0
_AGAIN_S: Final = 1.0


def look(
    net: Network,
    subaccount: Subaccount,
    left: LastRun | None,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[list[Finding], str]:
    """Query indexer and chain and compare them with what was left; return where they stand too.

    An indexer that is behind is waited for, for 30 s; what else is not explained is looked at
    again for 5 s. `ConnError` if one of them does not answer for so long.
    """
    began = clock()
    while True:
        try:
            found, where = _once(net, subaccount, left)
        except ConnError:
            if clock() - began >= _MOMENT_S:
                raise
        else:
            behind = any(each.kind == "behind" for each in found)
            patience_s = _PATIENCE_S if behind else _MOMENT_S
            if not reason(found) or clock() - began >= patience_s:
                return found, where
        sleep(_AGAIN_S)


def _once(net: Network, subaccount: Subaccount, left: LastRun | None) -> tuple[list[Finding], str]:
    indexer, chain = asyncio.run(_indexer(net, subaccount)), held_by(chain_account(net, subaccount))
    found = compare(left, indexer, chain)
    if left is not None and reason(found):  # what moved is only of interest where something did
        indexer = asyncio.run(_indexer(net, subaccount, left.began))
        found = compare(left, indexer, chain)
    return found, f"the indexer at block {indexer.held.height}, the chain at {chain.height}"


async def _indexer(net: Network, subaccount: Subaccount, since: int | None = None) -> Reported:
    async with Rest(net, patience_s=_MOMENT_S) as rest:
        return await reported(rest, subaccount, since)


def reconcile(net: Network, subaccount: Subaccount, inbox: Inbox, database: str = "") -> int:
    """Compare the three, print each difference and let it be one of the run's first acts.

    What nothing explains, and what could not be compared, lets the run begin halted. Return what
    was paid in since the last run, in quote quantums, as far as that is known. `database` is a
    URL, by default the user's own, or "none".
    """
    try:
        left = last_run(net, subaccount, database)
    except ConnError as error:
        left = None
        _tell(f"what the last run left is not known: {error}")
    try:
        found, where = look(net, subaccount, left)
    except ConnError as error:
        found, where = [Finding("unexplained", f"the account is not compared: {error}")], ""
    for each in found:
        _tell(each.words)
        act(inbox, "reconcile", "note", each.words)
    if all(each.kind == "noted" for each in found):
        what = f"is as {left.run}, left it" if left else "is known from no earlier run"
        _tell(f"{subaccount} {what}: {where}")
    if why := reason(found):
        _tell("the run begins halted: look at the account, then bot resume lets it enter")
        act(inbox, "reconcile", "halt", why)
    return sum(each.paid_in for each in found)  # integers


def _tell(words: str) -> None:
    print(as_lines([f"bot: {words}"]), file=sys.stderr)
