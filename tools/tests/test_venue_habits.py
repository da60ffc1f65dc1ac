"""The stand-in reports as the real software does: its recordings are the measure, plain and harsh."""

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import count, groupby, pairwise
from operator import itemgetter
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from dydx_conn import (
    CancelRequest,
    Frame,
    OrderRequest,
    Subaccount,
    collect,
    contents,
    replay,
    ws_frame,
)  # fmt: skip

sys.path.insert(0, str(Path(__file__).parent.parent / "venue"))

from disturbances import HARSH, NONE
from exchange import Exchange, VenueSettings  # the folder's modules are siblings
from habits import (
    MARKETS,
    Json,
    Shape,
    broken,
    market_shapes,
    messages,
    sequences,
    shapes,
)  # fmt: skip
from indexer import ClientConnection, SocketHub, fetcher
from residents import address_of_resident
from tape import from_iso

LOCALNET = Path(__file__).parent.parent.parent / "recordings" / "localnet"
SEEDS = range(20)
US = Subaccount(address_of_resident("this test"), 0)
# Has conditional orders alone, so that none meets another order of its owner.
WAITING = Subaccount(address_of_resident("who waits"), 0)
# An hour that has samples of its funding already.
START_NS = from_iso("2026-01-05T13:40:00Z")


@cache
def real() -> list[list[Frame]]:
    """Return the frames of each recording of the real software."""
    return [collect(replay(path)) for path in sorted(LOCALNET.glob("*/frames.jsonl.zst"))]


@cache
def counted(count: Callable[[list[Frame]], Counter[Any]]) -> Counter[Any]:
    """Count something in all of them, once for the plain venue and the harsh."""
    return sum(map(count, real()), Counter())


class Watched:
    """A venue, watched by a client of one market that comes late: a crash, then the makers' quiet."""

    SECONDS = 60
    COMES_S = 30

    def __init__(self, seed: int, *, harsh: bool) -> None:
        disturbances = HARSH if harsh else NONE
        self.hub = SocketHub(seed, disturbances.silence)
        settings = VenueSettings(
            scenario="crash", markets=1, seed=seed, calm_s=25, start_ns=START_NS,
            disturbances=disturbances,
        )  # fmt: skip
        self.exchange = Exchange(settings, self.hub)
        self.connection = ClientConnection(self.hub, fetcher(self.exchange), count().__next__)
        self.connection.open()
        customer = Customer(self.exchange, seed)
        self.exchange.block()
        whose = (US, WAITING, self.exchange.residents[-1].subaccount)
        self.subscribe("v4_parent_subaccounts", str(US))
        for subaccount in (*whose, Subaccount(US.owner, 128)):
            self.subscribe("v4_subaccounts", str(subaccount))
        height = self.exchange.height
        for step in range(self.SECONDS * 10):
            if step == self.COMES_S * 10:
                self.come()
            self.exchange.step()
            if self.exchange.height > height:
                height = self.exchange.height
                customer.act()
        self.frames = [ws_frame(n, 0, 0, "c1", text) for n, text in enumerate(self.connection.out)]

    def come(self) -> None:
        """Subscribe to all there is of the market."""
        for channel in MARKETS:
            self.subscribe(channel, {"v4_candles": "BTC-USD/1MIN"}.get(channel, "BTC-USD"))

    def subscribe(self, channel: str, id: str) -> None:
        """Subscribe, and again if the answer is an error."""
        of_all = channel in ("v4_markets", "v4_block_height")
        named, id = ("", channel) if of_all else (f',"id":"{id}"', id)
        while id not in self.connection.subscriptions.get(channel, ()):
            self.connection.receive(f'{{"type":"subscribe","channel":"{channel}"{named}}}')
            for message_id in list(self.connection.waiting):
                self.connection.answer(message_id)


@pytest.fixture(scope="module", params=["plain", "harsh"])
def watched(request: pytest.FixtureRequest) -> list[Watched]:
    """Watch twenty venues."""
    return [Watched(seed, harsh=request.param == "harsh") for seed in SEEDS]


class Customer:
    """An account that does everything an account can, one thing after a block, by chance."""

    def __init__(self, exchange: Exchange, seed: int) -> None:
        self.exchange, self.accounts = exchange, exchange.accounts
        self.tape = exchange.tapes["BTC-USD"]
        self.chance = Random(f"{seed} customer")
        self.client_id = 0
        for whose in (US, WAITING):
            self.accounts.faucet(whose, 20_000_000_000)
        self.deeds = [
            self.take, self.take, self.take, self.flip, self.close, self.rest, self.cross,
            self.replace, self.miss, self.wait, self.later, self.work_off, self.move, self.withdraw,
        ]  # fmt: skip

    def act(self) -> None:
        """Do some things between two blocks."""
        for deed in self.chance.choices(self.deeds, k=self.chance.choice((0, 1, 1, 3))):
            deed()

    def order(self, away: float = 0.0, whose: Subaccount = US, **fields: Any) -> OrderRequest:
        """Place an order so far to the better side of the middle; one that takes if it is less."""
        self.client_id += 1
        market, side = self.tape.market, self.chance.choice(("BUY", "SELL"))
        side = fields.setdefault("side", side)
        sign = 1 if side == "BUY" else -1
        step = market.step_base_quantums
        given: dict[str, Any] = {
            "ticker": "BTC-USD", "clob_pair_id": 0, "client_id": self.client_id,
            "time_in_force": "GTT",
            "quantums": self.chance.randint(1, 200) * step,
            "subticks": self.tape.book.to_subticks(self.tape.book.mid * (1 - sign * away), side),
        }  # fmt: skip
        if not fields.get("order_flags"):
            given["good_til_block"] = self.exchange.height + self.chance.randint(2, 15)
        else:
            given["good_til_block_time"] = self.exchange.block_ns // 10**9 + 600
        request = OrderRequest(**given | fields)
        self.accounts.place(whose, request)
        return request

    def cancel(self, request: OrderRequest) -> None:
        self.accounts.cancel(
            US,
            CancelRequest(
                ticker="BTC-USD", clob_pair_id=0, client_id=request.client_id,
                order_flags=request.order_flags,
                good_til_block=request.good_til_block and request.good_til_block + 1,
                good_til_block_time=request.good_til_block_time,
            ),
        )  # fmt: skip

    @property
    def held(self) -> int:
        return self.accounts.ledgers[US].position("BTC-USD")

    def take(self) -> None:
        self.order(-0.01, time_in_force="IOC")

    def flip(self) -> None:
        if held := self.held:
            side = "SELL" if held > 0 else "BUY"
            self.order(-0.02, time_in_force="IOC", side=side, quantums=2 * abs(held))

    def close(self) -> None:
        if held := self.held:
            side = "SELL" if held > 0 else "BUY"
            only: dict[str, Any] = {
                "reduce_only": True,
                "quantums": 2 * abs(held),
                "time_in_force": "IOC",
            }
            self.order(-0.02, side=side, **only)

    def rest(self) -> None:
        resting = self.order(self.chance.choice((0.0001, 0.02)))
        if self.chance.random() < 0.5:
            self.cancel(resting)

    def cross(self) -> None:
        self.order(-0.01, time_in_force="POST_ONLY")

    def replace(self) -> None:
        first = self.order(0.03)
        self.accounts.place(
            US, msgspec.structs.replace(first, good_til_block=first.good_til_block + 3)
        )

    def miss(self) -> None:
        self.client_id += 1
        unknown = OrderRequest(
            ticker="BTC-USD", clob_pair_id=0, side="BUY", quantums=1, subticks=1,
            time_in_force="GTT", client_id=self.client_id,
            good_til_block=self.exchange.height + 5,
        )  # fmt: skip
        self.cancel(unknown)

    def wait(self) -> None:
        trigger = self.tape.book.to_subticks(self.tape.book.mid * 0.9999, "SELL")
        self.order(
            -0.05, WAITING, side="SELL", order_flags=32, condition_type="STOP_LOSS",
            trigger_subticks=trigger,
        )  # fmt: skip

    def later(self) -> None:
        placed = self.order(self.chance.choice((0.0, 0.02)), order_flags=64)
        if self.chance.random() < 0.3:
            self.cancel(placed)

    def work_off(self) -> None:
        self.order(
            order_flags=128, subticks=0, quantums=300 * self.tape.market.step_base_quantums,
            twap_duration_s=300, twap_interval_s=30, twap_tolerance_ppm=20_000,
        )  # fmt: skip

    def move(self) -> None:
        child = Subaccount(US.owner, 128)
        ends = (US, child) if self.chance.random() < 0.7 else (child, US)
        self.accounts.transfer(*ends, self.chance.randint(1, 50) * 1_000_000)

    def withdraw(self) -> None:
        self.accounts.withdraw(US, US.owner, 5_000_000)
        self.accounts.deposit(US.owner, US, 2_000_000)


# === Accounts ===


def test_each_account_message_has_a_shape_of_the_real_software(watched: list[Watched]) -> None:
    """The keys of messages and rows, and which values may be null."""
    known: Counter[Shape] = counted(shapes)
    ours: Counter[Shape] = sum((shapes(one.frames) for one in watched), Counter())

    assert sorted(set(ours) - set(known)) == []


def test_what_the_real_software_always_reports_first_comes_first(watched: list[Watched]) -> None:
    """State before fills, closings twice, balance before transfer: in every block of theirs."""
    assert [fault for frames in real() for fault in broken(frames)] == []
    assert [fault for one in watched for fault in broken(one.frames)] == []


def test_every_order_of_telling_of_the_real_software_comes_about(watched: list[Watched]) -> None:
    """Within twenty seeds: a client that lives with this venue has lived with all of them."""
    known = counted(sequences)
    ours = sum((sequences(one.frames) for one in watched), Counter())

    assert sorted(set(known) - set(ours)) == []


# === Markets ===


def test_each_market_message_has_a_shape_of_the_real_software(watched: list[Watched]) -> None:
    """The keys of messages and rows, and which values may be null; and every shape comes about."""
    known: Counter[Shape] = counted(market_shapes)
    ours: Counter[Shape] = sum((market_shapes(one.frames) for one in watched), Counter())

    assert set(ours) <= set(known)
    assert {shape for shape in known if shape not in ours and not made_of_nothing(shape)} == set()


def made_of_nothing(shape: Shape) -> bool:
    """Return whether a shape needs a book that is empty from the start."""
    return shape.value[1:] == ("NoneType",)


def test_every_market_message_is_read_by_the_connection_layer(watched: list[Watched]) -> None:
    """Also what a venue says on a bad day."""
    frames = [frame for one in watched for frame in one.frames if frame.channel]

    assert all(list(contents(frame)) for frame in frames if not frame.is_refusal)


def orders_of_blocks(frames: Iterable[Frame]) -> Counter[str]:
    """Count in which orders snapshots list the trades of a block: they are named by their event."""
    found: Counter[str] = Counter()
    for message in messages(frames, ["v4_trades"]):
        if message.type != "subscribed":
            continue
        for _, block in groupby(message.contents["trades"], key=itemgetter("createdAtHeight")):
            ids = [row["id"] for row in block]
            if len(ids) > 1:
                ordered = {str(sorted(ids)): "up", str(sorted(ids, reverse=True)): "down"}
                found[ordered.get(str(ids), "mixed")] += 1
    return found


def test_snapshots_list_the_trades_of_a_block_in_no_order(watched: list[Watched]) -> None:
    """Up, down and mixed, as the real ones do; blocks come newest first."""
    known = counted(orders_of_blocks)
    ours = sum((orders_of_blocks(one.frames) for one in watched), Counter())

    assert {"up", "down"} <= set(known) <= set(ours)


def test_updates_bring_the_trades_of_a_block_in_order(watched: list[Watched]) -> None:
    """As the real ones do, in every one."""
    for frames in [*real(), *(one.frames for one in watched)]:
        seen: defaultdict[str, list[str]] = defaultdict(list)
        for message in messages(frames, ["v4_trades"]):
            if message.type != "subscribed":
                seen[message.whose] += [row["id"] for row in message.contents["trades"]]
        assert all(ids == sorted(ids) for ids in seen.values())


def test_a_price_moves_by_its_least_move_or_not_at_all(watched: list[Watched]) -> None:
    """1,000 ppm for BTC-USD; the real chain too refuses what is below."""
    for frames in [*real(), *(one.frames for one in watched)]:
        prices = [row["BTC-USD"] for row in oracle_prices(frames) if "BTC-USD" in row]
        values = [float(row["oraclePrice"]) for row in prices]
        assert all(abs(new / old - 1) >= 0.000_999 for old, new in pairwise(values))


def oracle_prices(frames: Iterable[Frame]) -> Iterator[Json]:
    """Yield the oracle prices of updates."""
    for message in messages(frames, ["v4_markets"]):
        if "oraclePrices" in message.contents:
            yield message.contents["oraclePrices"]


def test_open_interest_lives_in_one_field_and_comes_late(watched: list[Watched]) -> None:
    """`baseOpenInterest` is 0 in every snapshot; `trading` updates are half a minute apart."""
    for frames in [*real(), *(one.frames for one in watched)]:
        for message in messages(frames, ["v4_markets"]):
            rows: dict[str, Any] = message.contents.get("markets", {})
            assert {row["baseOpenInterest"] for row in rows.values()} <= {"0"}
            trading: dict[str, Any] = message.contents.get("trading", {})
            assert all(trading.values())
            assert not any("baseOpenInterest" in row for row in trading.values())
    [trading_updates] = {
        sum("trading" in m.contents for m in messages(watched[0].frames, ["v4_markets"]))
    }
    assert trading_updates in (0, 1)


def crossed(frames: Iterable[Frame]) -> tuple[int, int]:
    """Count the book updates, and those that leave a book crossed."""
    books: dict[str, dict[str, dict[float, float]]] = {}
    updates = cross = 0
    for message in messages(frames, ["v4_orderbook"]):
        if message.type == "subscribed":
            books[message.whose] = {
                side: {
                    float(row["price"]): float(row["size"]) for row in rows if float(row["size"])
                }
                for side, rows in message.contents.items()
            }
            continue
        book = books[message.whose]
        for side, rows in message.contents.items():
            for price, size in rows:
                book[side][float(price)] = float(size)
                if not float(size):
                    del book[side][float(price)]
        bids, asks = book["bids"], book["asks"]
        updates += 1
        cross += bool(bids and asks and max(bids) >= min(asks))
    return updates, cross


def test_books_are_often_crossed_by_orders_that_are_gone(watched: list[Watched]) -> None:
    """Snapshots are not: REST uncrosses them."""
    real_updates, real_crossed = map(sum, zip(*map(crossed, real()), strict=True))
    updates, cross = map(sum, zip(*(crossed(one.frames) for one in watched), strict=True))

    assert real_crossed / real_updates > 0.1
    assert cross / updates > 0.1
