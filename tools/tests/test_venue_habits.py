"""The stand-in reports as the real software does: its recordings are the measure, plain and harsh."""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from dydx_conn import Frame, collect, contents, replay, ws_frame

sys.path.insert(0, str(Path(__file__).parent.parent / "venue"))

from disturbances import HARSH, NONE
from exchange import Exchange, VenueSettings  # the folder's modules are siblings
from habits import MARKETS, Json, Shape, market_shapes, messages
from indexer import ClientConnection, SocketHub, fetcher
from tape import from_iso

LOCALNET = Path(__file__).parent.parent.parent / "recordings" / "localnet"
SEEDS = range(20)
# An hour that has samples of its funding already.
START_NS = from_iso("2026-01-05T13:40:00Z")


def real() -> Iterator[list[Frame]]:
    """Yield the frames of each recording of the real software."""
    for path in sorted(LOCALNET.glob("*/frames.jsonl.zst")):
        yield collect(replay(path))


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
        self.connection = ClientConnection(self.hub, fetcher(self.exchange), lambda: 0.0)
        self.connection.open()
        for step in range(self.SECONDS * 10):
            if step == self.COMES_S * 10:
                self.come()
            self.exchange.step()
        self.frames = [ws_frame(n, 0, 0, "c1", text) for n, text in enumerate(self.connection.out)]

    def come(self) -> None:
        """Subscribe to all there is of the market."""
        for channel in MARKETS:
            id = {"v4_candles": "BTC-USD/1MIN"}.get(channel, "BTC-USD")
            named = "" if channel in ("v4_markets", "v4_block_height") else f',"id":"{id}"'
            self.connection.receive(f'{{"type":"subscribe","channel":"{channel}"{named}}}')
        for message_id in list(self.connection.waiting):
            self.connection.answer(message_id)


@pytest.fixture(scope="module", params=["plain", "harsh"])
def watched(request: pytest.FixtureRequest) -> list[Watched]:
    """Watch twenty venues."""
    return [Watched(seed, harsh=request.param == "harsh") for seed in SEEDS]


# === Markets ===


def test_each_market_message_has_a_shape_of_the_real_software(watched: list[Watched]) -> None:
    """The keys of messages and rows, and which values may be null; and every shape comes about."""
    known: Counter[Shape] = sum(map(market_shapes, real()), Counter())
    ours: Counter[Shape] = sum((market_shapes(one.frames) for one in watched), Counter())

    assert set(ours) <= set(known)
    assert {shape for shape in known if shape not in ours and not made_of_nothing(shape)} == set()


def made_of_nothing(shape: Shape) -> bool:
    """Return whether a shape needs a book that is empty from the start."""
    return shape.value != () and shape.value[1] == "NoneType"


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
    known = sum(map(orders_of_blocks, real()), Counter())
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
                side: {float(row["price"]): float(row["size"]) for row in rows}
                for side, rows in message.contents.items()
            }
            continue
        book = books[message.whose]
        for side, rows in message.contents.items():
            for price, size in rows:
                book[side][float(price)] = float(size)
        bids, asks = ([at for at, size in book[side].items() if size] for side in ("bids", "asks"))
        updates += 1
        cross += bool(bids and asks and max(bids) >= min(asks))
    return updates, cross


def test_books_are_often_crossed_by_orders_that_are_gone(watched: list[Watched]) -> None:
    """Snapshots are not: REST uncrosses them."""
    real_updates, real_crossed = map(sum, zip(*map(crossed, real()), strict=True))
    updates, cross = map(sum, zip(*(crossed(one.frames) for one in watched), strict=True))

    assert real_crossed / real_updates > 0.1
    assert cross / updates > 0.1
