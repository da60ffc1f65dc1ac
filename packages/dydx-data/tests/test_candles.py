"""Candles: of trades in any order, of the venue, and how far to believe them."""

from collections.abc import Iterator
from typing import Any

import pytest
import reactivex
from dydx_conn import WireWriter, instant, market_fields
from dydx_data import Candle, Candles, DataState, MarketView, candles, step
from hypothesis import given
from hypothesis import strategies as st
from reactivex import Subject

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
START = instant("2026-01-01T00:00:00Z")
MARKET = market_fields("BTC-USD", price="100")  # a price has 5 decimals, a size 10
TICK, LOT = 10**5, 10**10


def _time(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"2026-01-01T{int(hours):02d}:{int(minutes):02d}:{rest:06.3f}Z"


def trade(
    seconds: float, price: float | str, size: float | str = 1, event: int = 0
) -> dict[str, str]:
    """Describe a trade as the indexer does, in the block of its second."""
    id_ = f"{int(seconds * 10):08x}00000002{event:08x}"
    return {
        "id": id_, "side": "BUY", "size": f"{size}", "price": f"{price}",
        "createdAt": _time(seconds),
    }  # fmt: skip


class World:
    """A market whose trades and candles come by a wire."""

    def __init__(self, *resolutions: str, described: bool = True) -> None:
        self.state, self.link = DataState(resolutions=resolutions or ["1MIN"]), WireWriter()
        if described:
            self.describe()

    def describe(self) -> None:
        """Tell the market's parameters."""
        step(self.state, self.link.markets(MARKET))

    @property
    def view(self) -> MarketView:
        """Return the market's view."""
        return self.state.views["BTC-USD"]

    def trades(self, *rows: dict[str, str], snapshot: bool = False) -> None:
        """Send trades."""
        step(self.state, self.link.trades("BTC-USD", *rows, snapshot=snapshot))

    def at(self, seconds: float) -> None:
        """Let the time come, with a block."""
        self.link.wait(seconds - (self.link.at - START) / SECOND)
        step(self.state, self.link.block(int(seconds * 10), _time(seconds)))

    def sent(self, *rows: dict[str, Any], snapshot: bool = True) -> None:
        """Send candles of the venue."""
        step(self.state, self.link.candles("BTC-USD", "1MIN", *rows, snapshot=snapshot))

    def rows(self) -> list[tuple[int, ...]]:
        """Return minutes as open, high, low, close (ticks), volume (lots) and trades."""
        return [plain(candle) for candle in self.view.candles["1MIN"]]

    def states(self) -> list[str]:
        """Return how far to believe each minute."""
        return [candle.state for candle in self.view.candles["1MIN"]]


def plain(candle: Candle) -> tuple[int, ...]:
    """Return a candle in whole prices and sizes."""
    prices = candle.open, candle.high, candle.low, candle.close
    return (*(price // TICK for price in prices), candle.volume // LOT, candle.trades)


def minute(at_s: int, close: float = 105, trades: int = 3, **more: Any) -> dict[str, Any]:
    """Describe a candle as the indexer does: of 2 coins, from 100 within 90 and 110."""
    return {
        "startedAt": _time(at_s), "low": "90", "high": "110", "open": "100", "close": f"{close}",
        "baseTokenVolume": "2", "usdVolume": "200", "trades": trades, **more,
    }  # fmt: skip


def sorted_tape(tape: list[tuple[int, int, int]]) -> Iterator[tuple[int, ...]]:
    """Yield the minutes of a tape of (second, event, price) by plain grouping."""
    groups: dict[int, list[int]] = {}
    for second, _, price in sorted(tape):
        groups.setdefault(second // 60, []).append(price)
    close = 0
    for at in range(min(groups), max(groups) + 1):
        prices = groups.get(at, [])
        if prices:
            close = prices[-1]
            yield prices[0], max(prices), min(prices), close, len(prices), len(prices)
        else:
            yield close, close, close, close, 0, 0


# === Of trades ===

TAPES = st.lists(
    st.tuples(st.integers(0, 20 * 60), st.integers(0, 3), st.integers(1, 50)),
    min_size=1, max_size=25, unique_by=lambda one: one[:2],
)  # fmt: skip


@given(TAPES, st.randoms())
def test_a_tape_in_any_order_gives_the_candles_of_the_sorted_tape(
    tape: list[tuple[int, int, int]], dice: Any
) -> None:
    """Shuffled, in parts, twice, and sent again by a snapshot after a loss."""
    world, rows = World(), [trade(second, price, 1, event) for second, event, price in tape]
    disturbed = rows + dice.choices(rows, k=dice.randrange(len(rows)))
    dice.shuffle(disturbed)
    while disturbed:
        size = dice.randrange(1, 5)
        if dice.random() < 0.1:
            world.link.ids["c1"] += 1  # lost, with the trades that were in it
        else:
            world.trades(*disturbed[:size])
        del disturbed[:size]

    world.trades(*rows, snapshot=True)

    assert world.rows() == [*sorted_tape(tape)]
    ring, since, until = world.view.candles["1MIN"], START + 3 * MINUTE, START + 9 * MINUTE
    closes = [candle.close for candle in ring if since <= candle.started_at < until]
    assert ring.closes_between(since, until) == closes


def test_each_resolution_has_its_own_candles() -> None:
    """Exact integers in the market's units; USDC in millionths."""
    world = World("1MIN", "5MINS")

    world.trades(trade(1, 100), trade(2, 105), trade(3, 95), trade(61, 101, 2))

    first, second = world.view.candles["1MIN"]
    assert first == Candle(
        START, 100 * TICK, 105 * TICK, 95 * TICK, 95 * TICK, 3 * LOT, 300_000_000, 3,
        state="partial",
    )  # fmt: skip
    assert (second.started_at, second.close, second.volume) == (START + MINUTE, 101 * TICK, 2 * LOT)
    assert [plain(candle) for candle in world.view.candles["5MINS"]] == [(100, 105, 95, 101, 5, 4)]
    assert world.view.candles["1MIN"].closes(1) == [101.0]
    assert world.view.candles["1MIN"].closes() == [95.0, 101.0]


def test_a_minute_without_trades_is_flat_at_the_last_close() -> None:
    """A second after it began, when its first trades would have come, or with the next trade."""
    world = World()
    world.at(1)
    world.trades(trade(1, 100))
    world.at(120.5)
    waiting = world.rows()
    world.at(122)
    later = world.rows()

    world.trades(trade(121, 90))
    world.trades(trade(241, 80))

    flat = (100, 100, 100, 100, 0, 0)
    assert waiting == [(100, 100, 100, 100, 1, 1), flat]
    assert later == [*waiting, flat]
    assert world.rows() == [*waiting, (90,) * 4 + (1, 1), (90,) * 4 + (0, 0), (80,) * 4 + (1, 1)]


def test_a_venue_that_lives_in_another_year_has_its_candles() -> None:
    """Receive time alone rolls nothing: a stand-in may trade in a January long past."""
    world = World()
    world.link.wait(300 * 86_400)
    world.trades(trade(1, 100), snapshot=True)
    before = len(world.view.candles["1MIN"])

    step(world.state, world.link.block(10, _time(30)))
    world.link.wait(60)
    world.trades(trade(91, 101))

    assert before == 1
    assert world.view.candles["1MIN"].closes() == [100.0, 101.0]


def test_the_ring_has_the_newest_candles() -> None:
    """What is older than the ring is gone, and a trade for it counts nowhere."""
    world = World()
    for at in range(242):
        world.trades(trade(60 * at, 100 + at))
    world.trades(trade(59, 1))

    candles = world.view.candles["1MIN"]
    assert len(candles) == 240
    assert candles.closes() == [float(100 + at) for at in range(2, 242)]
    assert [x.started_at for x in candles] == [START + at * MINUTE for at in range(2, 242)]
    assert candles[-240] == candles[0]
    with pytest.raises(IndexError, match="expected an index within 240 candles, got 240"):
        candles[240]


def test_a_silence_longer_than_the_ring_leaves_flat_candles_alone() -> None:
    """And it costs no more than the ring is long."""
    world = World()
    world.trades(trade(1, 100))
    candles = world.view.candles["1MIN"]

    candles.roll(START * 2)

    assert candles.closes() == [100.0] * 240
    assert {x.trades for x in candles} == {0}
    assert candles.started_at == START * 2 - START * 2 % MINUTE


def test_what_came_before_the_markets_parameters_is_neither_lost_nor_guessed() -> None:
    """It is counted in as many decimals as it has, and in the market's once they are known."""
    world = World(described=False)
    world.trades(trade(61, 103), trade(62, 103.25, 2.5), trade(121, 104))
    world.at(125)
    world.sent(
        minute(60, 105, 1), minute(0, 102, startingOpenInterest="3", orderbookMidPriceOpen="7.5")
    )
    candles = world.view.candles["1MIN"]
    before = (candles.places, candles.lots, candles[1].close, candles[1].volume)
    closes = candles.closes()

    world.describe()

    assert before == (2, 1, 103_25, 35)
    assert candles.closes() == closes == [102.0, 103.25, 104.0]
    assert candles.closes_between(0, START * 2) == [candle.close for candle in candles]
    assert candles[1].close == 103 * TICK + TICK // 4
    assert (candles[1].volume, candles[2].volume) == (LOT * 7 // 2, LOT)
    assert (candles[0].starting_open_interest, candles[0].mid_open) == (3 * LOT, TICK * 15 // 2)
    assert (candles[0].state, candles[0].mid_close) == ("venue", None)
    assert candles[1].usd_volume == 361_125_000
    assert (candles.places, candles.lots) == (5, 10)


@pytest.mark.parametrize(
    ("row", "rule"),
    [(trade(2, 1, "0.00000000001"), "trade_grid"), (trade(2, "1e20"), "trade_range")],
)
def test_a_trade_off_the_grid_is_counted_and_missing(row: dict[str, str], rule: str) -> None:
    """Its minute is partial; the trades around it stand."""
    world = World()
    world.trades(snapshot=True)
    world.at(200)
    world.trades(trade(61, 100), trade(121, 100))

    world.trades({**row, "createdAt": _time(100)}, trade(122, 101))

    assert world.view.quality.counts == {rule: 1}
    assert world.rows() == [(100,) * 4 + (1, 1), (100, 101, 100, 101, 2, 2), (101,) * 4 + (0, 0)]
    assert world.states() == ["partial", "closed", "forming"]


@pytest.mark.parametrize("again", ["snapshot", "answer"])
@pytest.mark.parametrize(
    "row", [trade(100, 1, "0.00000000001"), trade(100, "1e20"), trade(100, "1e15", "1e-9")]
)
def test_a_refused_trade_is_missing_however_often_it_is_sent(
    row: dict[str, str], again: str
) -> None:
    """In a snapshot that fills all other holes too: its minute, and no other, stays partial."""
    world = World()
    world.trades(trade(310, 100), row, trade(50, 100), snapshot=True)
    world.at(330)
    rows = trade(320, 101), trade(310, 100), row, trade(50, 100)

    if again == "snapshot":
        world.trades(*rows, snapshot=True)
    else:
        path = "/v4/trades/perpetualMarket/BTC-USD"
        step(world.state, world.link.answer(path, {"trades": rows}))
    world.at(370)
    world.trades(trade(365, 101))

    assert [candle.trades for candle in world.view.candles["1MIN"]] == [1, 0, 0, 0, 0, 2, 1]
    assert world.states()[1:6] == ["partial", "closed", "closed", "closed", "closed"]
    assert world.view.flow.over("1HOUR").trades == 4
    assert sum(world.view.quality.counts.values()) == 1


def test_what_cannot_be_read_is_missing_beside_what_is_odd() -> None:
    """Whichever of the two was noted last."""
    world = World()
    world.trades(trade(50, 100), snapshot=True)
    step(world.state, world.link.markets({**MARKET, "oraclePrice": "100"}))
    world.at(130)

    world.trades({**trade(125, 100), "size": "much"}, trade(126, 103))
    world.at(182)

    assert {*world.view.quality.counts} == {"malformed", "trade_price"}
    assert world.states()[1:3] == ["closed", "partial"]


def test_a_price_between_subticks_counts_as_the_nearest() -> None:
    """Deleveraging pays such prices; what was paid is exact."""
    world = World()

    world.trades({**trade(1, 10.7555217647058824, 204), "type": "DELEVERAGED"})

    candle = world.view.candles["1MIN"][0]
    assert (candle.close, candle.usd_volume) == (1_075_552, 2_194_126_440)


# === How far to believe them ===


def test_a_minute_is_whole_once_all_its_trades_were_received() -> None:
    """From a snapshot that reaches before its start, to the first trade after its end."""
    world = World()
    world.at(150)
    world.trades(trade(110, 102), trade(50, 100), snapshot=True)
    began = world.states()
    world.at(200)
    world.trades(trade(200, 103))
    world.at(242)

    assert began == ["partial", "closed", "partial"]  # it may miss what came after its answer
    assert world.states() == ["partial", "closed", "partial", "closed", "forming"]


@pytest.mark.parametrize(
    ("resent", "states"),
    [((), ["partial", "partial", "partial", "closed"]),
     (((190, 103), (181, 104)), ["partial", "partial", "partial", "closed"]),
     (((190, 103), (181, 104), (130, 105), (90, 102), (70, 101)), ["closed"] * 4)],
)  # fmt: skip
def test_a_gap_is_partial_unless_it_was_sent_again(
    resent: tuple[tuple[int, int], ...], states: list[str]
) -> None:
    """By a snapshot or an answer that reaches back to before it."""
    world = World()
    world.trades(snapshot=True)
    world.at(70)
    world.trades(trade(70, 101))
    world.at(90)
    world.trades(trade(90, 102))
    world.link.wait(100)
    world.link.ids["c1"] += 1

    world.at(190)
    world.trades(trade(190, 103))
    world.at(242)
    if resent:
        path, rows = "/v4/trades/perpetualMarket/BTC-USD", [trade(*one) for one in resent]
        step(world.state, world.link.answer(path, {"trades": rows}))
    world.at(302)

    assert world.states()[:4] == states


def test_while_a_link_is_down_minutes_are_partial() -> None:
    """Until it reports trades again, with all that it missed or without."""
    world = World()
    world.trades(snapshot=True)
    world.at(61)
    world.trades(trade(61, 101))
    step(world.state, world.link.event("close"))
    world.at(182)
    down = world.states()

    world.at(250)
    world.trades(trade(130, 102), trade(61, 101), trade(50, 99), snapshot=True)
    world.at(302)

    assert down == ["partial"] * 3
    assert world.states() == [*["closed"] * 4, "partial", "forming"]


# === Of the venue ===


def test_candles_of_a_page_are_the_venues_but_for_the_newest() -> None:
    """That one is as it was, with the trades since, until the next page."""
    world = World()
    world.at(130)
    world.trades(trade(125, 100))
    extra: dict[str, Any] = {
        "startingOpenInterest": "7",
        "orderbookMidPriceOpen": "100.5000000000000005",
    }
    page = [minute(120, 104, **extra), minute(60, 102, **extra, orderbookMidPriceClose="101")]
    world.sent(*page)
    world.trades(trade(128, 103), snapshot=True)  # in it, or lost on the way
    world.at(140)
    world.trades(trade(140, 111))

    old, new = world.view.candles["1MIN"]
    assert (plain(old), old.state) == ((100, 110, 90, 102, 2, 3), "venue")
    assert (old.starting_open_interest, old.mid_open, old.mid_close) == (
        7 * LOT, 100 * TICK + TICK // 2, 101 * TICK,
    )  # fmt: skip
    assert (plain(new), new.state) == ((100, 111, 90, 111, 3, 4), "partial")
    assert (new.starting_open_interest, new.mid_close) == (7 * LOT, None)
    assert world.view.candles["1MIN"].reported_at == START + 2 * MINUTE


def test_the_venues_own_are_final_and_a_late_trade_is_in_them() -> None:
    """Where all trades were received it is the same candle, so that nothing is lost by it."""
    world = World()
    world.trades(trade(1, 100))
    world.at(70)
    world.sent(minute(60), minute(0, 102))

    world.trades(trade(30, 777))

    assert world.rows() == [(100, 110, 90, 102, 2, 3), (102,) * 4 + (0, 0)]
    assert world.states() == ["venue", "forming"]


@pytest.mark.parametrize("first", ["block", "candles"])
def test_what_a_candle_has_is_not_counted_twice(first: str) -> None:
    """Its trades come after it by a snapshot, and the time of the chain before or after both."""
    world = World()
    if first == "block":
        world.at(5)
    world.sent(minute(0, 102))
    world.trades(*(trade(at, 100 + at) for at in (2, 1, 0)), snapshot=True)
    if first == "candles":
        world.at(5)

    assert world.rows() == [(100, 110, 90, 102, 2, 3)]


def test_a_candle_that_is_ahead_of_its_socket_counts_no_trade_twice() -> None:
    """A node of the venue's that answers may have a block that the socket's has not."""
    world = World()
    world.at(5)
    world.sent(minute(0, 102))
    world.trades(*(trade(at, 102) for at in (5.6, 2, 1)), snapshot=True)
    before = world.rows()
    world.trades(trade(6.5, 101))

    assert (before, world.rows()) == ([(100, 110, 90, 102, 2, 3)], [(100, 110, 90, 101, 3, 4)])


def test_a_candle_with_as_many_trades_shows_that_none_is_missing() -> None:
    """What a snapshot may have missed is in the venue's own count."""
    world = World()
    world.at(70)
    world.trades(trade(69, 101), trade(50, 100), snapshot=True)
    before = world.states()
    world.at(80)
    own: dict[str, Any] = {
        "open": "101",
        "low": "101",
        "high": "101",
        "usdVolume": "101",
        "baseTokenVolume": "1",
    }

    world.sent({**minute(60, 101, 1), **own}, snapshot=False)

    assert (before, world.states()) == (["partial", "partial"], ["partial", "forming"])


def test_a_candle_sent_again_as_the_next_begins_is_final() -> None:
    """The channel alone, without trades."""
    world = World()
    world.at(30)
    world.sent(minute(0, 101), snapshot=False)
    world.at(61)
    world.sent(minute(0, 102, 4, orderbookMidPriceClose="102"), snapshot=False)
    before = world.states()
    world.sent(minute(60, 103, 1), snapshot=False)

    known = world.view.candles["1MIN"][0].mid_close
    world.sent(minute(0, 102, 4, orderbookMidPriceClose="103"), snapshot=False)

    assert before == ["partial", "partial"]
    assert world.states() == ["venue", "partial"]
    assert (known, world.view.candles["1MIN"][0].mid_close) == (102 * TICK, 103 * TICK)


def test_a_candle_that_stayed_behind_is_shown_and_not_believed() -> None:
    """It was not sent again when its period was over: some of it may be missing."""
    world = World()
    world.at(30)
    world.sent(minute(0, 101), snapshot=False)
    world.at(123)
    world.sent(minute(120, 103, 1), snapshot=False)
    world.trades(trade(50, 108))
    world.sent(minute(0, 102, 2))  # of a replica that is behind

    assert world.rows() == [
        (100, 110, 90, 101, 2, 3),
        (101,) * 4 + (0, 0),
        (100, 110, 90, 103, 2, 1),
    ]
    assert world.states() == ["partial"] * 3


def test_a_late_page_is_carried_on_by_the_flat_candles_after_it() -> None:
    """Nothing was traded since, so its close is the price; an older candle has no place."""
    world = World()
    world.trades(trade(1, 100))
    world.at(182)

    world.sent(minute(60, 102), minute(0, 101))
    world.sent(minute(120, 0), {**minute(0), "startedAt": "2020-01-01T00:00:00Z"}, minute(60, 107))

    assert world.view.candles["1MIN"].closes() == [101.0, 107.0, 107.0, 107.0]
    assert world.view.quality.counts == {"malformed": 1}


@pytest.mark.parametrize(
    ("wrong", "why"),
    [({"startedAt": _time(61)}, "whole periods"), ({"startedAt": "2027-01-01T00:00:00Z"}, "past"),
     ({"high": "104"}, "between"), ({"low": "101"}, "between"), ({"low": "0"}, "a price"),
     ({"trades": -1}, "0 or more"), ({"baseTokenVolume": "-2"}, "a size"),
     ({"usdVolume": "-2"}, "0 or more"), ({"startingOpenInterest": "-1"}, "a size"),
     ({"open": "nan"}, "a number"), ({"high": "1e30"}, "63 bits"), ({"resolution": "2MINS"}, "known"),
     ({"baseTokenVolume": "0.00000000001"}, "quantums")],
)  # fmt: skip
def test_a_candle_that_cannot_be_is_counted(wrong: dict[str, Any], why: str) -> None:
    """The others of its page stand, and the ring as it was."""
    world = World()
    world.at(130)

    world.sent(minute(60, 102), {**minute(0), **wrong}, minute(0, 101))

    assert world.view.candles["1MIN"].closes() == [101.0, 102.0, 102.0]
    assert world.view.quality.counts == {"malformed": 1}
    assert why in world.view.quality.samples[-1].text
    assert [*world.view.candles] == ["1MIN"]


def test_candles_may_be_requested() -> None:
    """Each names its resolution; a new one is there from then on."""
    world = World()
    world.at(130)
    path = "/v4/candles/perpetualMarkets/BTC-USD?limit=2&resolution=1DAY"
    body = {"candles": [minute(0, 102, resolution="1DAY")]}

    (view,) = step(world.state, world.link.answer(path, body))

    assert view.changed == "candles"
    assert view.candles["1DAY"].closes() == [102.0]


def test_an_empty_ring_has_no_candle() -> None:
    """Neither a last one nor closes."""
    candles = Candles(MINUTE)

    assert (candles.last, candles.closes(), [*candles]) == (None, [], [])


# === As a stream ===


def closing(world: World, *events: Any) -> list[Any]:
    """Run events on a world; return the closed candles of a stream of its views."""
    views, seen = Subject[MarketView](), list[Any]()
    views.pipe(candles("1MIN")).subscribe(seen.append, seen.append, lambda: seen.append("end"))
    for event in events:
        event()
        views.on_next(world.view)
    views.on_completed()
    return seen


def test_each_candle_is_emitted_once_as_it_closes() -> None:
    """With the first view after the next one began; what came before the first view is past."""
    world = World()

    seen = closing(
        world,
        lambda: world.trades(trade(10, 100), trade(70, 101)),
        lambda: world.trades(trade(80, 102)),
        lambda: world.trades(trade(130, 103)),
        lambda: world.trades(trade(75, 777)),
        lambda: world.trades(trade(310, 104)),
    )

    first, *flat, end = seen
    assert (first.ticker, plain(first.candle)) == ("BTC-USD", (101, 102, 101, 102, 2, 2))
    assert [one.candle.started_at // MINUTE % 60 for one in seen[:-1]] == [1, 2, 3, 4]
    assert [one.candle.trades for one in flat] == [1, 0, 0]
    assert end == "end"


def test_views_without_candles_close_none() -> None:
    """An empty stream, a market without trades, and an error that passes."""
    world = World()

    assert closing(world) == ["end"]
    assert closing(world, lambda: world.at(130)) == ["end"]
    error, seen = RuntimeError("torn"), list[Any]()
    reactivex.throw(error).pipe(candles("1MIN")).subscribe(on_error=seen.append)
    reactivex.never().pipe(candles("1MIN")).subscribe(seen.append)
    assert seen == [error]


def test_a_stream_of_no_resolution_is_refused_at_once() -> None:
    """A typing error is raised, not silent."""
    with pytest.raises(ValueError, match="expected a resolution among 1MIN"):
        candles("2MINS")
