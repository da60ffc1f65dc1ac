"""How the venue reports: the shapes of its messages, and what it always reports first.

    frames ──► shapes ──► what a message looks like, down to which values may be null
           ├─► broken ──► what was reported of accounts before what must come first
           └─► sequences ──► what follows what within a block

Both read the wire text alone, so that the real software's recordings, the stand-in and the paper
venue are held to one measure: each shape of theirs is one of the recordings, and `broken` is
empty of all three. A batch counts as its messages.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple

from dydx_conn import Frame

Json = dict[str, Any]
ACCOUNTS: Final = ("v4_subaccounts", "v4_parent_subaccounts")
MARKETS: Final = (
    "v4_markets", "v4_orderbook", "v4_trades", "v4_candles", "v4_block_height",
)  # fmt: skip
_NOTHING: Final = Decimal(0)
_LISTS: Final = ("fills", "orders", "perpetualPositions", "assetPositions")


class Message(NamedTuple):
    """One message of a channel; `whose` names its subaccount or its market."""

    channel: str
    whose: str
    type: str
    contents: Json

    @property
    def height(self) -> int:
        """Return the block under which it was reported."""
        return int(self.contents.get("blockHeight") or 0)


def messages(frames: Iterable[Frame], channels: Collection[str] = ACCOUNTS) -> Iterator[Message]:
    """Yield the messages of some channels' frames, one by one."""
    for frame in frames:
        if frame.kind != "ws" or frame.channel not in channels or '"contents"' not in frame.text:
            continue
        read = json.loads(frame.text)
        child, contents = read.get("subaccountNumber"), read["contents"]
        whose = frame.id if child is None else f"{frame.id.partition('/')[0]}/{child}"
        for part in contents if isinstance(contents, list) else [contents]:
            yield Message(frame.channel, whose, frame.type, part)


# === Shapes ===


class Shape(NamedTuple):
    """What a message or a row looks like: its keys, and the JSON type of one of its values.

    A message's `value` is empty; a row has a shape for each of its values. Rows of accounts look
    the same on either channel, and name none.
    """

    channel: str
    what: str
    keys: tuple[str, ...]
    value: tuple[str, ...] = ()


def shapes(frames: Iterable[Frame]) -> Counter[Shape]:
    """Count the shapes of account messages, of their rows, and of each value of a row."""
    found: Counter[Shape] = Counter()
    for message in messages(frames):
        contents = message.contents
        found[Shape(message.channel, message.type, tuple(sorted(contents)))] += 1
        for what, row in _rows(contents):
            keys = tuple(sorted(row))
            found.update(Shape("", what, keys, (key, type(row[key]).__name__)) for key in keys)
    return found


def _rows(contents: Mapping[str, Any]) -> Iterator[tuple[str, Json]]:
    """Yield every row of a message, by the list that it is of."""
    for name in _LISTS:
        yield from ((name, row) for row in contents.get(name) or ())
    if moved := contents.get("transfers"):
        yield "transfers", moved
        yield "sender", moved["sender"]
        yield "recipient", moved["recipient"]
    if held := contents.get("subaccount"):
        yield "subaccount", held
        for child in held.get("childSubaccounts", [held]):
            yield "child", child
            for name in ("openPerpetualPositions", "assetPositions"):
                yield from ((f"held {name}", row) for row in child[name].values())


def market_shapes(frames: Iterable[Frame]) -> Counter[Shape]:
    """Count the shapes of market messages, of their rows, and of each value of a row.

    A `trading` row has only what changed, so that each of its values is a shape of its own.
    """
    found: Counter[Shape] = Counter()
    for message in messages(frames, MARKETS):
        contents = message.contents
        # An update of a candle is a row itself.
        lists = {"candles": [contents]} if "startedAt" in contents else contents
        type_ = "subscribed" if message.type == "subscribed" else "update"
        keys = () if lists is not contents else tuple(sorted(contents))
        found[Shape(message.channel, type_, keys)] += 1
        for name, rows in lists.items():
            for row in _market_rows(rows):
                keys = () if name == "trading" else tuple(sorted(row))
                values = ((key, type(value).__name__) for key, value in row.items())
                what = f"{type_} {name}"
                found.update(Shape(message.channel, what, keys, value) for value in values)
    return found


def _market_rows(rows: Any) -> Iterator[Json]:
    """Yield the rows of a list or by market; a value and a level have their places for names."""
    if isinstance(rows, str):
        yield {"": rows}
        return
    for row in rows.values() if isinstance(rows, dict) else rows:
        yield row if isinstance(row, dict) else {str(n): value for n, value in enumerate(row)}


# === Precedences ===


def broken(frames: Iterable[Frame]) -> list[str]:
    """Return what was reported otherwise than the venue always does, each with its message.

    A position's size and the balance come before the fill that made them, one message a match, a
    closing is reported twice, a balance before its transfer, an order before its fills; and a
    block's fills lead from the size before it to the size after it.
    """
    accounts: defaultdict[tuple[str, str], _Account] = defaultdict(_Account)
    for message in messages(frames):
        accounts[message.channel, message.whose].take(message)
    return [fault for account in accounts.values() for fault in account.end()]


class _Account:
    """What one channel has reported of one subaccount."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.held: dict[str, Decimal] = {}
        self.rows: dict[str, Json] = {}  # the newest row of each position
        self.closed: dict[str, int] = {}  # how often each position was reported as CLOSED
        self.replaced: set[str] = set()  # closed by a flip
        self.passed: set[str] = set()  # closed once when another was opened in their market
        self.orders: dict[str, list[Json]] = {}
        self.known = False  # a snapshot came: what is reported from here on is all there is
        self.height = 0
        self.block: list[Message] = []

    def take(self, message: Message) -> None:
        """Take one message in."""
        contents = message.contents
        if message.type == "subscribed":
            self._end_block()
            self._begin(contents)
            return
        chain = contents.keys() & {"fills", "perpetualPositions", "assetPositions", "transfers"}
        if chain:
            if message.height < self.height:
                self._fault(message, f"block {message.height} after block {self.height}")
            if message.height != self.height:
                self._end_block()
            self.height = message.height
            self._of_block(message)
            self.block.append(message)
        for row in contents.get("orders") or ():
            self._order(message, row)

    def end(self) -> list[str]:
        """End the last block; return every fault."""
        self._end_block()
        for position, times in self.closed.items():
            expected = 1 if position in self.replaced else 2
            # The matches of one order may close a position and open another: then its fills
            # come with the new one alone.
            if times != expected and not (times == 1 and position in self.passed):
                self.faults.append(f"position {position}: CLOSED {times} times, not {expected}")
        return self.faults

    def _fault(self, message: Message, what: str) -> None:
        self.faults.append(f"{message.whose} at block {message.height}: {what}")

    def _begin(self, contents: Json) -> None:
        held = contents.get("subaccount") or {}
        self.held = {
            row["market"]: Decimal(row["size"])
            for child in held.get("childSubaccounts", [held])
            for row in child.get("openPerpetualPositions", {}).values()
        }
        self.known, self.rows = True, {}
        self.orders = {row["id"]: [row] for row in contents.get("orders") or ()}

    # --- one message

    def _of_block(self, message: Message) -> None:
        contents = message.contents
        positions, fills = contents.get("perpetualPositions") or [], contents.get("fills") or []
        if fills and "assetPositions" in contents:
            self._fault(message, "a balance beside fills")
        if positions and not fills and "assetPositions" not in contents:
            self._fault(message, "positions with neither a balance nor fills")
        if "transfers" in contents:
            self._transfer(message)
        if fills:
            self._filled(message, fills, positions)
        else:
            self._state(message, positions)

    def _state(self, message: Message, positions: list[Json]) -> None:
        opened = {row["market"] for row in positions if row["status"] == "OPEN"}
        for row in positions:
            known = self.rows.get(row["positionId"])
            new = known is None and row["market"] not in self.held
            if new and (row["entryPrice"], row["sumOpen"], row["sumClose"]) != ("0", "0", "0"):
                self._fault(message, f"a new position with sums before its fill: {row}")
            if row["status"] == "CLOSED":
                self._close(row)
                if row["market"] in opened:
                    self.replaced.add(row["positionId"])
            elif known is None:
                self.passed |= {
                    position
                    for position, times in self.closed.items()
                    if times == 1 and self.rows[position]["market"] == row["market"]
                }
            self.rows[row["positionId"]] = row

    def _filled(self, message: Message, fills: list[Json], positions: list[Json]) -> None:
        orders = message.contents.get("orders") or []
        ids = {fill["orderId"] for fill in fills}
        if ids != ({row["id"] for row in orders} or {None}):
            self._fault(message, f"fills of {ids} beside {len(orders)} orders")
        if len(positions) != 1:
            self._fault(message, f"fills beside {len(positions)} positions")
        for row in positions:
            known = self.rows.get(row["positionId"])
            if known is None or known["size"] != row["size"] or known["status"] != row["status"]:
                self._fault(message, f"fills before the position they made: {row}")
            if row["status"] == "CLOSED":
                self._close(row)
            self.rows[row["positionId"]] = row
        events = [fill["eventId"] for fill in fills]
        if events != sorted(events):
            self._fault(message, f"fills out of order: {events}")

    def _close(self, row: Json) -> None:
        position = row["positionId"]
        self.closed[position] = self.closed.get(position, 0) + 1

    def _transfer(self, message: Message) -> None:
        if set(message.contents) != {"transfers", "blockHeight"}:
            self._fault(message, f"a transfer beside {sorted(message.contents)}")
        before = (earlier.contents for earlier in self.block if earlier.height == message.height)
        if not any("assetPositions" in contents for contents in before):
            self._fault(message, "a transfer before its balance")

    def _order(self, message: Message, row: Json) -> None:
        seen, status = self.orders.setdefault(row["id"], []), row["status"]
        filled = "fills" in message.contents
        if status == "BEST_EFFORT_OPENED" and "totalFilled" in row:
            self._fault(message, f"BEST_EFFORT_OPENED with an amount filled: {row}")
        if row["orderFlags"] == "32":
            order = [earlier["status"] for earlier in seen] + [status]
            if order[0] != "UNTRIGGERED" or (filled and "OPEN" not in order[:-1]):
                self._fault(message, f"a conditional order reported as {order}")
        seen.append(row)

    # --- one block

    def _end_block(self) -> None:
        """Hold a block that is over to what holds of each: states, fills and sizes agree."""
        block, self.block = self.block, []
        states: Counter[str] = Counter()
        traded: defaultdict[str, list[Json]] = defaultdict(list)
        last = dict(self.held)
        for message in block:
            fills = message.contents.get("fills") or []
            rows = message.contents.get("perpetualPositions") or []
            for market, of_market in groupby(rows, key=itemgetter("market")):
                # A flip reports the old position with size 0 beside the new one.
                last[market] = sum((Decimal(row["size"]) for row in of_market), _NOTHING)
                states[market] += not fills
            for fill in fills:
                traded[fill["ticker"]].append(fill)
        for market, fills in traded.items():
            moved = sum((_signed(fill) for fill in fills), _NOTHING)
            if self.known and self.held.get(market, _NOTHING) + moved != last.get(market):
                self._fault(block[-1], f"{market} fills lead to another size than {last}")
            if len(fills) > states[market]:
                self._fault(block[-1], f"{len(fills)} {market} fills and {states[market]} states")
        self.held = {market: size for market, size in last.items() if size}


def _signed(fill: Json) -> Decimal:
    return Decimal(fill["size"]) * (1 if fill["side"] == "BUY" else -1)


# === Orders of telling ===


def sequences(frames: Iterable[Frame]) -> Counter[tuple[str, str, str]]:
    """Count which kinds of message follow each other on an account's channel.

    The third word is "same" if both name one block, "lower" if the second names an earlier one,
    as the nodes' word of an order may.
    """
    found: Counter[tuple[str, str, str]] = Counter()
    before: dict[tuple[str, str], Message] = {}
    for message in messages(frames):
        channel = (message.channel, message.whose)
        last, before[channel] = before.get(channel), message
        if last is None or "subscribed" in (last.type, message.type):
            continue
        if last.height >= message.height:
            how = "same" if last.height == message.height else "lower"
            found[_kind(last), _kind(message), how] += 1
    return found


def _kind(message: Message) -> str:
    contents = message.contents
    if "fills" in contents:
        return "fills" if "orders" in contents else "fills without an order"
    if "perpetualPositions" in contents:
        return "state"
    for name in ("assetPositions", "transfers", "orders"):
        if name in contents:
            return name
    return "nothing"
