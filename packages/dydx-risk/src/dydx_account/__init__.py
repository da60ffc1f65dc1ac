"""What a subaccount holds, as a fold over its own frames: paper's and the venue's are the same.

    account Frame (socket) ──┐
    REST answer Frame ───────┼─► Account.fold ─► collateral, positions, open orders, reserved
    loss of a link ──────────┘                   trouble, unreadable

An `Account` says what is held, and `trouble` why that is not certain: frames were lost or could
not be read, a fill was told twice, or the venue contradicts its own fills. What can be read is
kept all the same. `Reservation` is collateral set aside for an order that was sent. The chain
settles funding only when it touches a subaccount; what the hours in between owe is `unsettled`,
and `index_delta` says how much an hour moves.

Units: sizes are base units as `Decimal`, negative for a short; collateral is quote quantums (1e-6
USDC), signed; heights are blocks. Nothing here values a position, reads a clock or subscribes.
Sources: v4-chain indexer (socks, comlink, ender, vulcan: get_order_status, cancel-stale-orders),
x/perpetuals/funding, x/subaccounts/lib/updates.go.
"""

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
from dydx_conn import (
    RECENT_NS,
    AssetPositionFields,
    ConnError,
    ErrorsContents,
    FillFields,
    Frame,
    OrderFields,
    OrderRequest,
    PerpetualMarket,
    PositionFields,
    Subaccount,
    SubaccountContents,
    TransferFields,
    WireError,
    contents,
    exact,
)
from dydx_data import MarketView
from dydx_margin import (
    PPM,
    FundingTerms,
    MarginFigures,
    funding_clamp_ppm,
    funding_index_delta,
    funding_settlement,
)

__all__ = ["Account", "Position", "Reservation", "index_delta"]

# === Values ===


class Position(msgspec.Struct, gc=False, kw_only=True):
    """A perpetual position; `size` in base units, negative for a short.

    `quantums` is the same size on the chain's grid: None until the market is known.
    """

    ticker: str
    size: Decimal
    entry_price: Decimal
    realized_pnl: Decimal = Decimal(0)
    net_funding: Decimal = Decimal(0)
    quantums: int | None = None


class Reservation(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Collateral set aside for an order that was sent and not answered yet.

    `effect` is what a fill at the order's worst price would make worse, figure by figure: what it
    would make better may not come, and must not be counted on. `doubted` is an order that a node
    dropped unfilled: it may fill on another until `order.good_til_block` is past.
    """

    order: OrderRequest
    order_id: str
    effect: MarginFigures
    verdict_id: str
    doubted: bool = False


# === Funding ===

_TERMS: Final = FundingTerms()


def index_delta(
    view: MarketView, market: PerpetualMarket, hours: int, *, worst_for: int = 0
) -> int | None:
    """Return how far hours of the view's rate move a funding index; None while it is unknown.

    In ppm quote quantums per base quantum, at the view's oracle price. With a position in
    `worst_for` an unknown rate is the one that costs it most.
    """
    imf, fraction = market.imf_ppm, market.maintenance_fraction_ppm
    most = funding_clamp_ppm(_TERMS.funding_rate_clamp_factor_ppm, imf, fraction)
    if view.oracle is None or not (view.funding.known or worst_for):
        return None
    rate_8h_ppm = most if worst_for > 0 else -most
    if view.funding.known:
        rate_8h_ppm = int(Decimal(view.funding.next_rate_text) * 8 * PPM)
    return funding_index_delta(
        min(max(rate_8h_ppm, -most), most), 3_600 * hours,
        view.oracle.digits, view.oracle.exponent, market.atomic_resolution,
    )  # fmt: skip


# === Account ===

# An order in one of these never fills again; one that is BEST_EFFORT_CANCELED still may, until
# its good-til block is past.
_ENDED = frozenset(["FILLED", "CANCELED", "ERROR"])
_PAID_IN: Final = {"DEPOSIT": 1, "TRANSFER_IN": 1, "WITHDRAWAL": -1, "TRANSFER_OUT": -1}
_REMEMBERED: Final = 4_096  # fills, so as to know one that is told again
_UNREADABLE = (
    ConnError, msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError,
)  # fmt: skip
_SHAPES: Final = (
    ("openPerpetualPositions", PositionFields, "market"),
    ("assetPositions", AssetPositionFields, "symbol"),
)


class Account:
    """One subaccount: collateral, positions, open orders, and what is reserved in flight.

    `trouble` is empty, or says why the account is not known for certain: before the first
    snapshot, after a frame that was lost, could not be read, or contradicts the fills. What was
    readable is kept all the same; `unreadable` names the positions that were not. The next
    snapshot clears it, as does the answer of a REST poll: then `polled` is set, and what is known
    is as old as `at`. `reserved` is by order id, `transferred` what was paid in since the start.

    `unsettled_ppm` is the funding of hours that passed since the chain last touched the
    subaccount, in 1e-6 quote quantums: whoever knows the markets adds to it, and what tells the
    balance anew clears it. `hours_owed` are those, by ticker, that had no price to be reckoned by.
    """

    def __init__(self, subaccount: Subaccount) -> None:
        self.subaccount = subaccount
        self.collateral = self.transferred = self.unsettled_ppm = 0
        self.hours_owed: dict[str, int] = {}
        self.positions: dict[str, Position] = {}
        self.unreadable: set[str] = set()
        self.open_orders: dict[str, OrderFields] = {}
        self.reserved: dict[str, Reservation] = {}
        self.height = self.seq = self.at = 0
        self.link, self.trouble, self.polled = "", "no account snapshot yet", False
        self._heard = -RECENT_NS
        self._fills: dict[str, None] = {}
        self._filled: set[str] = set()  # tickers, since the last snapshot
        self._faults: list[str] = []

    def fold(self, frame: Frame) -> bool:
        """Take one frame in; tell whether positions or collateral may have changed."""
        if frame.kind in ("close", "gap") and frame.link in ("", self.link):
            self.trouble = self.trouble or f"account frames were lost: {frame.kind} at {frame.seq}"
        told = frame.channel == "v4_subaccounts" and frame.id == str(self.subaccount)
        if told and frame.type in ("unsubscribed", "error"):
            self.trouble = self.trouble or f"account frames end: {frame.type} at {frame.seq}"
            return False
        # What the socket said so lately, an answer may not know yet.
        late = frame.kind == "http" and frame.mono - self._heard >= RECENT_NS
        asked = self._asked(frame) if late else ""
        if not (told or asked):
            return False
        self._faults = []
        try:
            for change in self._read(frame):
                if told:
                    self._apply(change, frame, whole=frame.type == "subscribed")
                elif not self._answer(change, frame, asked):
                    return False
        except _UNREADABLE as error:
            self._faults.append(f"cannot be read: {error}")
        if self._faults:
            self.trouble = f"account frame {frame.seq} {'; '.join(self._faults)}"
        self.seq, self.at = frame.seq, frame.at
        if told:
            self.link, self._heard, self.polled = frame.link, frame.mono, False
        return True

    def _read(self, frame: Frame) -> list[Any]:
        try:
            return contents(frame)
        except WireError:
            if frame.fault or (frame.kind, frame.type) != ("ws", "subscribed"):
                raise
            # A snapshot in which one thing has no shape still tells of the others.
            said = msgspec.json.decode(frame.raw, type=dict[str, Any])
            self._shape(said)
            return [msgspec.convert(said, SubaccountContents)]

    def _shape(self, said: dict[str, Any]) -> None:
        if said.get("subaccount") is not None:
            held = said["subaccount"] = msgspec.convert(said["subaccount"], dict[str, Any])
            for part, shape, name in _SHAPES:
                rows = held[part] = msgspec.convert(held.get(part) or {}, dict[str, Any])
                for key in [key for key, row in rows.items() if not _fits(row, shape)]:
                    # What it says instead of a size cannot be read either.
                    text = f"{rows[key]!r:.60}"
                    rows[key] = {name: key, "side": "", "status": "OPEN", "size": text}
        orders = msgspec.convert(said.get("orders") or [], list[Any])
        said["orders"] = [row for row in orders if _fits(row, OrderFields)]
        self._faults += ["cannot be read: an order"] * (len(orders) - len(said["orders"]))

    def _asked(self, frame: Frame) -> str:
        path, _, query = frame.channel.partition("?")
        owner, number = self.subaccount.owner, str(self.subaccount.number)
        if path == f"/v4/addresses/{owner}/subaccountNumber/{number}":
            return "subaccount"
        of = dict(parse_qsl(query))
        ours = of.get("address") == owner and of.get("subaccountNumber") == number
        return path.removeprefix("/v4/") if ours and path in ("/v4/orders", "/v4/fills") else ""

    def _answer(self, told: Any, frame: Frame, asked: str) -> bool:
        if isinstance(told, ErrorsContents):
            if frame.type != "404" or asked != "subaccount":
                return False  # a refusal says nothing of the account
            told = SubaccountContents()  # never funded
        if asked == "subaccount":
            self._apply(told, frame, whole=True)
            self.polled = True
        elif asked == "orders":
            self._each(self._order, told)
        else:  # an answer repeats what was told: positions come with the subaccount's
            self._fills |= dict.fromkeys(fill.id for fill in told.fills if fill.id)
        return True

    def _apply(self, change: SubaccountContents, frame: Frame, *, whole: bool) -> None:
        positions, assets, balance = change.perpetual_positions, change.asset_positions, None
        before = dict(self.positions) if whole or change.fills else {}
        if whole:
            # One that was never funded has no subaccount: it holds nothing.
            held = change.subaccount
            positions = list(held.open_perpetual_positions.values()) if held else []
            assets = list(held.asset_positions.values()) if held else []
            # Another balance than before has the funding of the hours since in it: the chain
            # settled it, or the indexer counted it in. The same one over the socket is the
            # chain's own, which nothing touched.
            balance = self.collateral if frame.kind == "ws" else None
            self._clear(assets, orders=frame.kind == "ws")
        self._each(self._own, assets)
        if assets and self.collateral != balance:
            self.unsettled_ppm, self.hours_owed = 0, {}
        for position in positions:
            if not self._each(self._hold, [position]):
                self.unreadable.add(position.market)
                if position.market in before:  # better known of old than not at all
                    self.positions[position.market] = before[position.market]
        self._each(self._order, change.orders)
        self._each(self._transfer, [change.transfers] if change.transfers is not None else [])
        self._compare(change, before, whole=whole)
        self._each(self._expire, [change.block_height] if change.block_height else [])
        if whole:
            self.trouble = ""

    def _clear(self, assets: list[AssetPositionFields], *, orders: bool) -> None:
        self.positions, self.unreadable = {}, set()
        if not any(asset.symbol == "USDC" for asset in assets):
            self.collateral = 0
        if orders:  # an answer tells them by themselves
            self.open_orders = {}

    def _expire(self, height: str) -> None:
        self.expire(int(height))

    def _each(self, take: Callable[[Any], None], rows: Iterable[Any]) -> bool:
        # One that cannot be read must not hide the others.
        faults = len(self._faults)
        for row in rows:
            try:
                take(row)
            except _UNREADABLE as error:
                self._faults.append(f"cannot be read: {error}")
        return len(self._faults) == faults

    def _own(self, asset: AssetPositionFields) -> None:
        if asset.symbol == "USDC":
            owed = -1 if asset.side == "SHORT" else 1
            self.collateral = owed * abs(_quote(asset.size))

    def _transfer(self, transfer: TransferFields) -> None:
        if transfer.symbol == "USDC":
            self.transferred += _PAID_IN.get(transfer.type, 0) * _quote(transfer.size)

    def _hold(self, fields: PositionFields) -> None:
        size = _decimal(fields.size)
        if fields.status != "OPEN" or not size:
            self.positions.pop(fields.market, None)
        else:
            self.positions[fields.market] = Position(
                ticker=fields.market,
                size=size,
                entry_price=_decimal(fields.entry_price),
                realized_pnl=_decimal(fields.realized_pnl or "0"),
                net_funding=_decimal(fields.net_funding),
            )
        self.unreadable.discard(fields.market)

    def _order(self, fields: OrderFields) -> None:
        status = fields.status
        ended = status in _ENDED
        if ended or status == "BEST_EFFORT_CANCELED":
            self.open_orders.pop(fields.id, None)
        else:
            self.open_orders[fields.id] = _merged(self.open_orders.get(fields.id), fields)
        reservation = self.reserved.get(fields.id)
        if reservation is None:
            return
        if ended:
            del self.reserved[fields.id]
        elif status == "BEST_EFFORT_CANCELED":
            # One that a node dropped unfilled may be over; one it saw fill waits for the block.
            filled = _decimal(fields.total_optimistic_filled or fields.total_filled or "0")
            self.reserved[fields.id] = msgspec.structs.replace(reservation, doubted=not filled)

    def _compare(
        self, change: SubaccountContents, before: dict[str, Position], *, whole: bool
    ) -> None:
        """Hold what fills add up to against what the venue says is held."""
        moved: dict[str, Decimal] = {}
        for fill in change.fills:
            self._fill(fill, moved)
        expected = {t: _size(before, t) + by for t, by in moved.items()}
        if whole:
            expected, self._filled = {t: _size(before, t) for t in self._filled}, set()
        self._filled |= moved.keys()
        told = {position.market for position in change.perpetual_positions}
        for ticker, size in expected.items():
            if not whole and ticker not in told:
                self._faults.append(f"reports fills of {ticker} without its position")
            # What was in doubt before proves nothing.
            elif not self.trouble and size != (held := _size(self.positions, ticker)):
                text = f"contradicts the fills: expected {size:f} {ticker}, it holds {held:f}"
                self._faults.append(text)

    def _fill(self, fill: FillFields, moved: dict[str, Decimal]) -> None:
        if fill.id in self._fills:
            self._faults.append(f"reports fill {fill.id} twice")
            return
        if fill.id:
            self._fills[fill.id] = None
        if len(self._fills) > _REMEMBERED:
            del self._fills[next(iter(self._fills))]
        ticker, size = fill.ticker or fill.market, _decimal(fill.size)
        if ticker:  # without one there is nothing to compare it with
            moved[ticker] = moved.get(ticker, Decimal(0)) + (size if fill.side == "BUY" else -size)

    @property
    def unsettled(self) -> int:
        """Return what the chain would credit (negative: take) if it settled funding now."""
        return funding_settlement([self.unsettled_ppm])

    @property
    def settled(self) -> int:
        """Return the collateral as it were then."""
        return self.collateral + self.unsettled

    def in_flight(self, ticker: str) -> list[Reservation]:
        """Return what is reserved in a market."""
        return [held for held in self.reserved.values() if held.order.ticker == ticker]

    def expire(self, height: int) -> None:
        """Move to a block; forget orders that no answer came for and that can fill no more."""
        if height <= self.height:
            return
        self.height = height
        reserved = self.reserved
        self.reserved = {i: r for i, r in reserved.items() if r.order.good_til_block >= height}


def _fits(row: Any, shape: type) -> bool:
    try:
        msgspec.convert(row, shape)
    except msgspec.ValidationError:
        return False
    return True


def _size(positions: dict[str, Position], ticker: str) -> Decimal:
    return positions[ticker].size if ticker in positions else Decimal(0)


def _quote(text: str) -> int:
    return int(_decimal(text).scaleb(6))


def _decimal(text: str) -> Decimal:
    exact(text)  # refuses what is no number, or one of more digits than there is memory
    return Decimal(text)


def _merged(old: OrderFields | None, new: OrderFields) -> OrderFields:
    # An update names what changed: what it leaves out keeps its value.
    given = {k: v for k, v in msgspec.structs.asdict(new).items() if v is not None}
    return msgspec.structs.replace(old, **given) if old is not None else new
