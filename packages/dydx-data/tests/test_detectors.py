"""Detectors: what they find in made-up markets whose truth is known."""

import math
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import ClassVar

import pytest
import reactivex
from dydx_conn import MARBLE_CASES, Frame, WireWriter, collect, market_fields, play
from dydx_data import (
    Arbitrage,
    DataError,
    DataState,
    Detection,
    Detector,
    MarketMakers,
    MarketView,
    PriceDiscovery,
    detections,
    market_views,
    step,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from reactivex import compose


def views_of(frames: Iterable[Frame]) -> Iterator[MarketView]:
    """Fold frames, one view at a time."""
    state = DataState(stale_after_ns=10**18)
    for frame in frames:
        yield from step(state, frame)


def found(detector: Detector, frames: Iterable[Frame]) -> list[Detection]:
    """Return what a detector finds in frames."""
    views = (view for view in views_of(frames) if view.changed in detector.changes)
    return [one for view in views if (one := detector.step(view)) is not None]


def figure(seen: Detection, name: str) -> float:
    """Return an input that is there."""
    value = seen.value(name)
    assert value is not None
    return value


def begun(wire: WireWriter, *tickers: str, price: float = 100.0) -> list[Frame]:
    """Begin with some markets that pay no funding."""
    known = [
        market_fields(ticker, price=price, nextFundingRate="0", subticksPerTick=10_000)
        for ticker in tickers
    ]
    return [wire.message("connected"), wire.markets(*known)]


# === Streams ===


@pytest.mark.parametrize("case", MARBLE_CASES)
def test_detections_are_as_drawn(case: str) -> None:
    """When one is due, for the changes that a detector wants; they end as their source."""
    wire = WireWriter()
    seen = {
        "b": wire.book("BTC-USD", [(99, 1)], [(101, 1)]),
        "q": wire.publish("v4_trades", {"trades": None}, id="BTC-USD"),
    }
    wire.wait(1)
    seen["o"] = wire.oracle("BTC-USD", 100)

    class Oracles:
        name: ClassVar[str] = "oracles"
        changes: ClassVar[frozenset[str]] = frozenset(["book", "oracle"])

        def __init__(self) -> None:
            self.due = 0

        def step(self, view: MarketView) -> Detection | None:
            if view.at < self.due:
                return None
            self.due = view.at + 1_000_000_000
            return Detection(view.ticker, self.name, 1.0, (), view.seq)

    chain = compose(market_views(), detections([Oracles]))
    came, drawn = play(detections, chain, seen, lambda _: "D", case)

    assert came == drawn


def test_each_subscriber_gets_detectors_of_its_own() -> None:
    """Two subscribers find the same, not what the other has seen."""
    frames = list(quoted(20, every_s=0.5))
    stream = reactivex.from_iterable(frames).pipe(market_views(), detections([MarketMakers]))

    first, again = collect(stream), collect(stream)

    assert first == again != []


def test_a_detection_names_its_inputs() -> None:
    """A figure that is not among the inputs is absent, not 0."""
    seen = Detection("BTC-USD", "makers", 0.5, (("life_s", 1.5),), 7)

    assert (seen.value("life_s"), seen.value("beta")) == (1.5, None)


# === Market makers ===


def quoted(
    seconds: float,
    *,
    every_s: float,
    size: Callable[[int], float] = lambda _: 1.0,
    both: bool = True,
) -> Iterator[Frame]:
    """Yield a market of one maker, who moves both quotes by a tick every so often."""
    wire = WireWriter()
    yield from begun(wire, "BTC-USD")
    yield wire.book("BTC-USD", [(99, 1)], [(101, 1)])
    at = 0
    for number in range(1, int(seconds * 2)):
        wire.wait(0.5)
        if number % 2:
            yield wire.block()
        if number % (every_s * 2):
            continue
        was, at = at, 1 - at
        bids = [(99 + was / 10, 0), (99 + at / 10, size(number))]
        asks = [(101 + was / 10, 0), (101 + at / 10, size(number))]
        yield wire.levels("BTC-USD", bids, asks if both else ())


def test_quotes_renewed_within_a_block_on_both_sides_are_a_maker() -> None:
    """With constant sizes more so than with sizes of chance."""
    chance = Random(7)
    constant = found(MarketMakers(), quoted(60, every_s=0.5))[-1]
    by_chance = quoted(60, every_s=0.5, size=lambda _: round(chance.lognormvariate(0, 1), 3))
    varied = found(MarketMakers(), by_chance)[-1]

    assert constant.strength > 0.85 > varied.strength > 0.7
    assert figure(constant, "constant") == pytest.approx(1.0, abs=0.01)
    assert figure(constant, "life_s") == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        (quoted(60, every_s=8.0), "nobody renews them within a block"),
        (quoted(60, every_s=0.5, both=False), "one side stands alone"),
    ],
)
def test_other_quotes_are_no_maker(frames: Iterator[Frame], why: str) -> None:
    """Quotes that stand, and quotes of one side, are somebody's orders."""
    assert found(MarketMakers(), frames)[-1].strength < 0.25, why


def test_nothing_is_found_while_the_chain_stands() -> None:
    """Without blocks nobody quotes and nobody has left; neither is a finding."""
    wire, frames = WireWriter(), list(quoted(60, every_s=0.5))
    wire.at = frames[-1].at
    halted = []
    for number in range(60):
        wire.wait(1)
        halted.append(wire.levels("BTC-USD", bids=[(98 - number, 1)]))

    seen = found(MarketMakers(), [*frames, *halted])

    assert 0 <= seen[-1].seq - len(frames) <= 0 or seen[-1].strength > 0.8
    assert len(seen) < 60


def test_a_sweep_that_is_filled_up_at_once_is_a_refill() -> None:
    """The spread widens, and within a block it is as it was."""
    wire = WireWriter()
    frames = [*begun(wire, "BTC-USD"), wire.book("BTC-USD", [(99, 1), (95, 1)], [(101, 1)])]
    for _ in range(40):
        wire.wait(1)
        frames += [wire.block(), wire.levels("BTC-USD", bids=[(99, 0)])]
        wire.wait(0.5)
        frames.append(wire.levels("BTC-USD", bids=[(99, 1)], asks=[(101, 2)]))
        frames.append(wire.levels("BTC-USD", asks=[(101, 1)]))

    assert figure(found(MarketMakers(), frames)[-1], "refill") > 0.8


# === Arbitrage ===


def test_a_book_off_the_oracle_price_is_claimed_net_of_every_cost() -> None:
    """100 bps dear: sold at the bid, 20 bps of spread and twice 5 bps of fees are taken off."""
    wire = WireWriter()
    frames = [
        *begun(wire, "BTC-USD", price=100.0),
        wire.book("BTC-USD", [(100.9, 1_000)], [(101.1, 1_000)]),
    ]

    (seen,) = found(Arbitrage(1_000), frames[:])[-1:]

    assert figure(seen, "basis_bps") == pytest.approx(100.0)
    assert figure(seen, "basis_usd") == pytest.approx(10.0 - 2.0 - 0.5 * 1.009 - 0.5, abs=1e-3)
    assert seen.strength == pytest.approx(0.7, abs=0.01)


def test_funding_is_taken_off_where_it_would_be_paid_and_never_added() -> None:
    """A buyer below the oracle price pays a positive rate; at a negative one nothing is added."""
    nets = []
    for rate in ("0", "0.001", "-0.001"):
        wire = WireWriter()
        frames = [
            *begun(wire, "BTC-USD", price=100.0),
            wire.trading("BTC-USD", nextFundingRate=rate),
            wire.book("BTC-USD", [(98.9, 1_000)], [(99.1, 1_000)]),
        ]
        nets.append(figure(found(Arbitrage(1_000), frames)[-1], "basis_usd"))

    assert nets[1] == pytest.approx(nets[0] - 1.0)
    assert nets[2] == nets[0]


prices = st.integers(9_000, 11_000).map(lambda cents: cents / 100)
sizes = st.integers(1, 400).map(lambda tenths: tenths / 10)
sides = st.lists(st.tuples(st.integers(1, 300), sizes), min_size=0, max_size=30)


@given(prices, prices, sides, sides, st.integers(-20, 20))
@settings(max_examples=150)
def test_no_claim_is_more_than_walking_the_book_pays(
    oracle: float, mid: float, below: list[tuple[int, float]], above: list[tuple[int, float]],
    rate_bps: int,
) -> None:  # fmt: skip
    """Bought level by level, left at the oracle price and half the spread, fees and funding."""
    wire = WireWriter()
    bids = {round(mid - away / 100, 2): size for away, size in below}
    asks = {round(mid + away / 100, 2): size for away, size in above}
    usd, fee, rate = 1_000.0, 0.0005, rate_bps / 10_000
    frames = [
        *begun(wire, "BTC-USD", price=oracle),
        wire.trading("BTC-USD", nextFundingRate=str(rate)),
        wire.book("BTC-USD", list(bids.items()), list(asks.items())),
    ]

    seen = found(Arbitrage(usd), frames)
    claim = (seen[-1].value("basis_usd") if seen else None) or 0.0
    if claim > 0.0:
        size = usd / oracle
        bought = walked(sorted(asks.items()), size)
        sold = walked(sorted(bids.items(), reverse=True), size)
        middle = size * (max(bids) + min(asks)) / 2
        if middle > usd:
            entry, leave, paid = sold - usd, bought - middle, fee * (sold + usd)
        else:
            entry, leave, paid = usd - bought, middle - sold, fee * (bought + usd)
        funding = max(rate * usd * (-1 if middle > usd else 1), 0.0)

        assert claim <= entry - leave - paid - funding
        assert seen[-1].strength > 0.0


def walked(levels: list[tuple[float, float]], size: float) -> float:
    """Return what a size costs, level by level."""
    quote = 0.0
    for price, there in levels:
        part = min(size, there)
        quote, size = quote + part * price, size - part
    # A claim of more than the book holds would be one without end.
    return quote if size <= 1e-12 else math.inf


def basketed(seconds: int, *, jump_bps: float) -> Iterator[Frame]:
    """Yield three markets that move together, until one of them jumps away at the end."""
    chance, wire, tickers = Random(5), WireWriter(), ("BTC-USD", "ETH-USD", "SOL-USD")
    yield from begun(wire, *tickers)
    for ticker in tickers:
        yield wire.book(ticker, [(99.99, 10_000)], [(100.01, 10_000)])
    log, was = 0.0, dict.fromkeys(tickers, (99.99, 100.01))
    for second in range(seconds):
        wire.wait(1)
        log += chance.gauss(0.0, 2e-4)
        for ticker in tickers:
            beta = 1.5 if ticker == "SOL-USD" else 1.0
            off = jump_bps * 1e-4 if ticker == "SOL-USD" and second > seconds - 8 else 0.0
            mid = 100 * math.exp(beta * log + chance.gauss(0.0, 1e-5) + off)
            now = round(mid - 0.01, 4), round(mid + 0.01, 4)
            gone = was[ticker]
            bids, asks = ([(x, 0)] if x != y else [] for x, y in zip(gone, now, strict=True))
            yield wire.levels(ticker, [*bids, (now[0], 10_000)], [*asks, (now[1], 10_000)])
            was[ticker] = now


def test_a_market_that_leaves_its_basket_is_claimed_against_it() -> None:
    """Sold, its basket bought for its beta, when what is left after all legs is above 0."""
    last = {one.ticker: one for one in found(Arbitrage(), basketed(600, jump_bps=80.0))}
    seen = last["SOL-USD"]

    assert figure(seen, "beta") == pytest.approx(1.5, abs=0.1)
    assert figure(seen, "residual_bps") == pytest.approx(80.0, abs=8.0)
    assert figure(seen, "residual_usd") > 0.0 < seen.strength
    legs = {name: usd for name, usd in seen.inputs if name.startswith("-")}
    assert legs == pytest.approx({"-BTC-USD": 750.0, "-ETH-USD": 750.0}, rel=0.1)


def test_without_a_jump_there_is_nothing_to_claim() -> None:
    """A residual within its noise pays no costs."""
    seen = found(Arbitrage(), basketed(600, jump_bps=0.0))

    nets = [net for one in seen if (net := one.value("residual_usd")) is not None]

    assert len(nets) > 100
    assert max(nets) < 0.0


def test_a_book_that_cannot_fill_the_size_is_no_claim() -> None:
    """Nor for the leg of a basket."""
    wire = WireWriter()
    frames = [
        *begun(wire, "BTC-USD", price=100.0), wire.book("BTC-USD", [(110, 0.1)], [(111, 100)])
    ]  # fmt: skip
    seen = found(Arbitrage(1_000), frames)[-1]

    assert (seen.strength, seen.value("basis_usd")) == (0.0, None)


@pytest.mark.parametrize("usd", [0.0, -1.0, math.inf, math.nan])
def test_a_size_that_cannot_be_traded_is_refused(usd: float) -> None:
    """By the one who makes the detector."""
    with pytest.raises(DataError, match="expected more than 0 USDC"):
        Arbitrage(usd)


# === Price discovery ===


def followed(seed: int, lead_s: float, what: str, seconds: int = 400) -> Iterator[Frame]:
    """Yield a market whose tape, or oracle, shows what its mid showed so long before."""
    chance, wire = Random(seed), WireWriter()
    walk = [0.0]
    for _ in range(seconds * 200):
        walk.append(walk[-1] + chance.gauss(0.0, 0.5e-4))
    yield from begun(wire, "BTC-USD")
    start, best = wire.at, (0.0, 0.0)
    yield wire.book("BTC-USD")
    for _ in range(seconds * 4):
        wire.wait(chance.expovariate(4.0))
        at_s = (wire.at - start) / 1e9
        of_mid = chance.random() < 0.7
        log = walk[max(int((at_s + 5.0 - (0.0 if of_mid else lead_s)) * 100), 0)]
        price = 100_000 * math.exp(log)
        if of_mid:
            gone, best = best, (round(price - 1, 1), round(price + 1, 1))
            bids, asks = ([(x, 0)] if 0 != x != y else [] for x, y in zip(gone, best, strict=True))
            yield wire.levels("BTC-USD", [*bids, (best[0], 1)], [*asks, (best[1], 1)])
        elif what == "trades":
            yield wire.trade("BTC-USD", "BUY", 1, round(price, 1))
        else:
            yield wire.oracle("BTC-USD", round(price, 1))


@pytest.mark.parametrize("what", ["trades", "oracle"])
@pytest.mark.parametrize("lead_s", [1.0, -1.0, 0.0])
def test_a_planted_lead_is_recovered(what: str, lead_s: float) -> None:
    """Within 0.25 s, whichever leads."""
    seen = found(PriceDiscovery(), followed(3, lead_s, what))[-1]

    assert figure(seen, f"lead_{what}_s") == pytest.approx(lead_s, abs=0.25)
    assert seen.strength == figure(seen, f"rho_{what}") > 0.6


def test_the_price_that_leads_has_the_larger_share() -> None:
    """The follower makes up for the gap, and so it has the smaller part in the price."""
    leads, follows = (
        figure(found(PriceDiscovery(), followed(3, lead_s, "trades"))[-1], "share_mid")
        for lead_s in (1.0, -1.0)
    )

    assert leads > 0.7 > 0.5 > follows


def test_prices_that_do_not_move_lead_nothing() -> None:
    """Without 30 moves there is no pair, and no finding."""
    wire = WireWriter()
    frames = [*begun(wire, "BTC-USD"), wire.book("BTC-USD", [(99, 1)], [(101, 1)])]
    for _ in range(200):
        wire.wait(0.5)
        frames.append(wire.trade("BTC-USD", "BUY", 1, 100))
        frames.append(wire.levels("BTC-USD", bids=[(98, 1)]))

    assert found(PriceDiscovery(), frames) == []


def test_an_observation_that_finds_no_other_price_is_given_up() -> None:
    """A tape that goes on without a book fills no memory, and is paired again when it is back."""
    wire = WireWriter()
    detector, frames = PriceDiscovery(), [*begun(wire, "BTC-USD")]
    for number in range(3_000):
        wire.wait(0.5)
        frames.append(wire.trade("BTC-USD", "BUY", 1, 100 + number % 7))

    found(detector, frames)
    pair, _ = detector._markets["BTC-USD"].pairs["trades"]

    assert len(pair._waiting) <= 61
    assert len(detector._markets["BTC-USD"].trades.times) <= 1_024
