"""The venue's markets and exchange, stepped without sockets or a clock."""

import math
import os
import statistics
import subprocess
import sys
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from dydx_risk import funding_index_delta

sys.path.insert(0, str(Path(__file__).parent.parent / "venue"))

from exchange import Exchange, VenueSettings  # the folder's modules are siblings
from market import PAIR, REVERT, ROUND_TRIP_BPS, SCENARIOS, Displacement, listings
from tape import decimal_text, from_iso, iso, quotient_text

START_NS = from_iso("2026-01-05T13:56:00Z")


class Listener:
    """A sink that stores what it receives."""

    def __init__(self) -> None:
        self.published: list[tuple[str, str, bytes]] = []

    def wanted(self, channel: str, id: str) -> bool:
        return True

    def publish(self, channel: str, id: str, contents: Any, subaccount: int | None = None) -> None:
        # Encoded at once, as the hub does: contents must not change afterwards.
        self.published.append((channel, id, msgspec.json.encode(contents)))

    def on(self, channel: str, id: str = "") -> list[Any]:
        found = [
            contents
            for where, who, contents in self.published
            if where == channel and id in ("", who)
        ]
        return [msgspec.json.decode(contents) for contents in found]


class Deaf(Listener):
    """A sink for those who look at the books themselves."""

    def wanted(self, channel: str, id: str) -> bool:
        return False

    def publish(self, *_: Any, **__: Any) -> None:
        pass


def run(seconds: float, **settings: Any) -> tuple[Exchange, Listener]:
    """Let a new venue run for some venue seconds."""
    listener = Listener()
    exchange = Exchange(VenueSettings(start_ns=START_NS, **settings), listener)
    for _ in range(int(seconds * 10)):
        exchange.step()
    return exchange, listener


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_same_seed_gives_the_same_events_in_every_scenario(scenario: str) -> None:
    """Two venues of the same settings publish the same, word for word, in the same order."""
    first = run(20, scenario=scenario, markets=4, seed=11, calm_s=5)[1].published
    again = run(20, scenario=scenario, markets=4, seed=11, calm_s=5)[1].published

    assert first == again


def test_no_process_receives_anything_else() -> None:
    """Processes with different hash seeds publish the same: nothing hangs on a set's order."""
    listen = (
        "import hashlib, test_venue_market as t; "
        "contents = t.run(8, scenario='crash', markets=8, calm_s=2)[1].published; "
        "print(hashlib.sha256(repr(contents).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", listen],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parent,
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(digests) == 1


def test_another_seed_gives_other_events() -> None:
    """Chance comes from the seed alone."""
    assert run(3, seed=1)[1].published != run(3, seed=2)[1].published


def test_one_more_market_does_not_change_the_others() -> None:
    """Each market draws from a chance of its own, so BTC-USD is BTC-USD in any company."""
    # Six, because the residents choose among the first six.
    few, many = (run(15, markets=count)[1] for count in (6, 12))

    assert few.on("v4_orderbook", "BTC-USD") == many.on("v4_orderbook", "BTC-USD")
    assert few.on("v4_trades", "BTC-USD") == many.on("v4_trades", "BTC-USD")


def test_what_the_wire_carries_adds_up_to_the_book() -> None:
    """A snapshot and every update after it give the matching engine's own levels."""
    listener = Listener()
    exchange = Exchange(VenueSettings(scenario="crash", calm_s=5, start_ns=START_NS), listener)
    tape = exchange.tapes["ETH-USD"]
    wire = {
        side: {row["price"]: row["size"] for row in rows} for side, rows in tape.orderbook().items()
    }

    for _ in range(200):
        exchange.step()
    for update in listener.on("v4_orderbook", "ETH-USD"):
        for side, levels in update.items():
            wire[side].update(dict(levels))

    for side, rows in tape.orderbook().items():
        engine = {row["price"]: row["size"] for row in rows}
        carried = {price: size for price, size in wire[side].items() if size != "0"}
        # Only removals may come late.
        assert engine.items() <= carried.items()
        assert len(carried) - len(engine) < 40


def test_each_update_is_one_level_of_one_side() -> None:
    """The venue's books change level by level, as real captures show."""
    updates = run(5)[1].on("v4_orderbook", "BTC-USD")

    assert updates
    assert all(len(update) == 1 and len(*update.values()) == 1 for update in updates)


def test_a_crash_is_a_gap_and_a_slide_of_a_quarter_to_a_third() -> None:
    """After the calm the price gaps by several per cent, slides within 90 s and partly returns."""
    _, listener = run(260, scenario="crash", calm_s=20, markets=1)
    oracle = [
        (from_iso(price["effectiveAt"]) - START_NS, float(price["oraclePrice"]))
        for contents in listener.on("v4_markets")
        for price in contents.get("oraclePrices", {}).values()
    ]
    before = [price for at, price in oracle if at < 20e9][-1]
    gapped = [price for at, price in oracle if at < 21.9e9][-1]
    low_at, low = min(((at, price) for at, price in oracle), key=lambda pair: pair[1])
    end = oracle[-1][1]

    assert -0.12 < gapped / before - 1 < -0.05
    assert -0.36 < low / before - 1 < -0.24
    assert 60e9 < low_at - 20e9 < 100e9
    assert 0.1 < (end - low) / (before - low) < 0.7


def test_a_crash_thins_the_book_and_crosses_it_on_the_wire() -> None:
    """In the crash the wire's book is crossed now and then; the engine's never is."""
    listener = Listener()
    exchange = Exchange(VenueSettings(scenario="crash", calm_s=10, start_ns=START_NS), listener)
    tape = exchange.tapes["BTC-USD"]
    wire: dict[str, dict[float, float]] = {
        side: {float(row["price"]): float(row["size"]) for row in rows}
        for side, rows in tape.orderbook().items()
    }
    crossed = 0
    for _ in range(600):
        listener.published.clear()
        exchange.step()
        for update in listener.on("v4_orderbook", "BTC-USD"):
            for side, [(price, size)] in update.items():
                wire[side][float(price)] = float(size)
        bid = max((price for price, size in wire["bids"].items() if size), default=0.0)
        ask = min((price for price, size in wire["asks"].items() if size), default=1e9)
        crossed += bid >= ask
        book = tape.book.book
        assert book.best_bid is None or book.best_ask is None or book.best_bid < book.best_ask

    assert crossed > 20


def test_calm_markets_are_as_wide_and_as_lively_as_measured() -> None:
    """Spread and minute returns of BTC lie where the mainnet's do."""
    exchange = Exchange(VenueSettings(markets=2, start_ns=START_NS), Deaf())
    book, spreads, minutes = exchange.tapes["BTC-USD"].book, [], []
    for step in range(20 * 600):
        exchange.step()
        bid, ask = book.book.best_bid, book.book.best_ask
        if bid and ask and step % 10 == 0:
            spreads.append((ask - bid) / bid * 1e4)
        if step % 600 == 599:
            minutes.append(book.mid)
    returns = [later / earlier - 1 for earlier, later in pairwise(minutes)]

    assert 1.4 < statistics.median(spreads) < 3.3
    assert 2.0 < statistics.stdev(returns) * 1e4 < 9.0


def test_a_halt_stops_the_chain_and_freezes_the_books() -> None:
    """During the halt there is no block, no price and no book change, only the last statistics."""
    exchange, listener = run(12, scenario="halt", calm_s=10, markets=1)
    height = exchange.height
    listener.published.clear()
    for _ in range(400):
        exchange.step()
    during = [contents for _, _, contents in listener.published]
    for _ in range(300):
        exchange.step()

    assert len(during) < 2
    assert all(contents.startswith(b'{"trading"') for contents in during)
    assert exchange.height > height + 5


def test_funding_is_paid_on_the_hour_and_sampled_each_minute() -> None:
    """The hour closes with one rate per market; the estimate then starts from new samples."""
    exchange = Exchange(VenueSettings(markets=2, start_ns=START_NS), Deaf())
    exchange.step()
    btc = exchange.tapes["BTC-USD"]
    before = btc.funding.index
    for _ in range(4 * 600):
        exchange.step()
    [paid] = btc.funding.rows

    assert paid["effectiveAt"].startswith("2026-01-05T14:00:0")
    assert btc.funding.index - before == funding_index_delta(
        round(float(paid["rate"]) * 8e6), 3_600, round(float(paid["price"]) * 1e5), -5, -10
    )


def test_a_squeeze_raises_the_next_funding_rate() -> None:
    """Books far above the oracle make longs pay."""
    settings = VenueSettings(scenario="funding-squeeze", calm_s=5, markets=3, start_ns=START_NS)
    exchange = Exchange(settings, Deaf())
    for _ in range(600 * 10):
        exchange.step()
    rates = [float(tape.funding.next_rate_text) for tape in exchange.tapes.values()]

    assert min(rates) > 1e-5


def test_candles_are_made_of_the_trades_of_their_minute() -> None:
    """Volume, count, high and low of a closed minute are those of its trades."""
    exchange, listener = run(130, markets=2)
    tape = exchange.tapes["ETH-USD"]
    trades = [
        trade for contents in listener.on("v4_trades", "ETH-USD") for trade in contents["trades"]
    ]
    _, candle, *_ = tape.newest_candles("1MIN", 0, 2**62, 1000)
    start = from_iso(candle["startedAt"])
    inside = [t for t in trades if start <= from_iso(t["createdAt"]) < start + 60 * 10**9]

    assert candle["trades"] == len(inside)
    assert float(candle["baseTokenVolume"]) == pytest.approx(sum(float(t["size"]) for t in inside))
    assert float(candle["high"]) == max(float(t["price"]) for t in inside)
    assert float(candle["low"]) == min(float(t["price"]) for t in inside)


def test_the_past_ends_where_the_venue_begins() -> None:
    """Made-up candles join without a gap in time and continue to the start."""
    exchange, _ = run(1, markets=1)
    candles = exchange.tapes["BTC-USD"].newest_candles("1MIN", 0, 2**62, 1000)
    starts = [from_iso(candle["startedAt"]) // 10**9 for candle in candles]

    assert len(candles) > 300
    assert {earlier - later for earlier, later in pairwise(starts)} == {60}
    assert candles[1]["close"] == candles[0]["open"]


def test_two_hundred_and_fifty_markets_have_names_of_their_own_and_a_sane_grid() -> None:
    """Every listing has a name, a pair and a tick of at most 25 bps of its price."""
    found = listings(250)

    assert len({listing.ticker for listing in found}) == 250
    assert [listing.market.clob_pair_id for listing in found] == list(range(250))
    for listing in found:
        market = listing.market
        tick = float(market.price(market.subticks_per_tick))
        assert 0 < tick / listing.price * 1e4 < 25
        assert 0.03 < float(market.size(market.step_base_quantums)) * listing.price < 300


def test_bitcoin_has_the_grid_it_has_on_the_mainnet() -> None:
    """The tick is a dollar and the step a ten-thousandth."""
    market = listings(1)[0].market

    assert market.price(market.subticks_per_tick) == 1
    assert market.size(market.step_base_quantums) == Decimal("0.0001")


@pytest.mark.parametrize(
    ("value", "exponent", "text"),
    [
        (9_300_000_000, -5, "93000"),
        (15, -1, "1.5"),
        (-5, -3, "-0.005"),
        (7, 2, "700"),
        (0, -6, "0"),
    ],
)
def test_decimals_are_written_plainly(value: int, exponent: int, text: str) -> None:
    """No power of ten, no needless zero."""
    assert decimal_text(value, exponent) == text


def test_quotients_are_written_to_twenty_places() -> None:
    """Like Postgres: plain, and cut."""
    assert quotient_text(1, 3) == "0.33333333333333333333"
    assert quotient_text(0, 8) == "0"


def test_times_are_written_in_milliseconds_and_read_back() -> None:
    """The indexer's way of writing time."""
    assert iso(from_iso("2026-01-05T13:56:00.250Z")) == "2026-01-05T13:56:00.250Z"


def test_no_displacement_is_beyond_its_amplitude() -> None:
    """Half to all of the amplitude, which is at most three times what trading it costs."""
    found = Displacement(7, 0, "BTC-USD")
    shown = [abs((found.second(REVERT), found.bps)[1]) for _ in range(36_000)]
    jumps = [after for before, after in pairwise(shown) if after > before]

    assert 3 * ROUND_TRIP_BPS >= REVERT.amplitude_bps >= max(jumps) > 0.95 * REVERT.amplitude_bps
    assert 0.5 * REVERT.amplitude_bps <= min(jumps)
    assert 150 <= len(jumps) <= 300


def test_half_of_a_displacement_is_left_after_its_half_life() -> None:
    """Between two jumps the price goes back, and what it adds up to is what is displaced."""
    found, went = Displacement(7, 0, "BTC-USD"), 0.0
    while not found.bps:
        went += found.second(REVERT)
    jumped = found.bps
    for _ in range(int(REVERT.half_life_s)):
        went += found.second(REVERT)

    assert math.isclose(found.bps, jumped / 2)
    assert math.isclose(went * 1e4, found.bps)


def test_a_pair_is_displaced_against_each_other() -> None:
    """The first goes up by as much as the second goes down; the next two are another pair."""
    first, second, third = (Displacement(7, n, f"M{n}-USD") for n in range(3))
    moves = [tuple(one.second(PAIR) for one in (first, second, third)) for _ in range(3_600)]

    assert all(one == -other for one, other, _ in moves)
    assert any(one != another for one, _, another in moves)
    assert 2 * max(abs(one) for one, _, _ in moves) * 1e4 <= PAIR.amplitude_bps
    assert PAIR.amplitude_bps <= 3 * 2 * ROUND_TRIP_BPS


def test_makers_follow_a_price_that_is_displaced() -> None:
    """In `revert` the fair price jumps within a step, and the book is around it soon after."""
    settings = VenueSettings(scenario="revert", calm_s=0, markets=1, start_ns=START_NS)
    exchange = Exchange(settings, Deaf())
    book = exchange.tapes["BTC-USD"].book
    before = jump = 0.0
    while abs(jump) < REVERT.amplitude_bps / 2 * 0.9e-4:
        before = book.fair
        exchange.step()
        jump = math.log(book.fair / before)
    for _ in range(30):
        exchange.step()

    assert exchange.steps < 10 * (REVERT.most_s + 4)
    assert abs(book.mid / before - 1) > abs(jump) / 2
