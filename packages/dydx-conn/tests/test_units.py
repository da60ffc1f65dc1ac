"""Units, grids and identities: exact, and never toward more risk."""

import math
import time
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from dydx_conn import (
    CancelRequest,
    GridError,
    MarketFields,
    OrderRequest,
    PerpetualMarket,
    Subaccount,
    WireError,
    base_to_quote,
    event_id,
    exact,
    fill_to_quote,
    instant,
    order_id,
    perpetual_market,
    ppm,
    quote_to_base,
    subaccount_id,
)
from hypothesis import assume, given
from hypothesis import strategies as st

BTC = PerpetualMarket(
    ticker="BTC-USD",
    clob_pair_id=0,
    perpetual_id=0,
    atomic_resolution=-10,
    quantum_conversion_exponent=-9,
    step_base_quantums=1_000_000,
    subticks_per_tick=100_000,
    imf_ppm=20_000,
    maintenance_fraction_ppm=600_000,
)
# A step that is no power of ten, and a resolution that counts whole coins.
ODD = PerpetualMarket(
    ticker="ODD-USD",
    clob_pair_id=7,
    perpetual_id=9,
    atomic_resolution=0,
    quantum_conversion_exponent=-7,
    step_base_quantums=30,
    subticks_per_tick=7,
    imf_ppm=100_000,
    maintenance_fraction_ppm=500_000,
)

markets = st.sampled_from([BTC, ODD])
decimals = st.decimals(min_value=0, max_value=10**9, allow_nan=False, places=12)
amounts = st.integers(min_value=-(10**18), max_value=10**18)
prices = st.integers(min_value=1, max_value=10**12)
exponents = st.integers(min_value=-18, max_value=6)


def fields(**changes: Any) -> MarketFields:
    """Describe BTC as the indexer does."""
    stated: dict[str, Any] = {
        "clob_pair_id": "0",
        "ticker": "BTC-USD",
        "atomic_resolution": -10,
        "quantum_conversion_exponent": -9,
        "step_base_quantums": 1_000_000,
        "subticks_per_tick": 100_000,
        "initial_margin_fraction": "0.02",
        "maintenance_margin_fraction": "0.012",
    }
    return MarketFields(**{**stated, **changes})


# === Grid ===


@pytest.mark.parametrize(
    ("size", "quantums"),
    [("0.0001", 1_000_000), ("0.0003", 3_000_000), ("1.0010", 10_010_000_000), ("0", 0)],
)
def test_a_size_on_the_step_is_exact(size: str, quantums: int) -> None:
    """Where the official client's floats lose a step, nothing is lost."""
    assert BTC.quantums(size) == quantums
    assert BTC.size(quantums) == Decimal(size)


@pytest.mark.parametrize("size", ["0.00015", "0.0000000000000001", "-0.00001"])
def test_a_size_off_the_step_is_refused(size: str) -> None:
    """The message names the step and the size."""
    with pytest.raises(GridError, match=r"BTC-USD: expected a size in multiples of 0\.0001, got"):
        BTC.quantums(size)


@pytest.mark.parametrize("price", ["63132.5", "8.2"])
def test_a_price_off_the_tick_is_refused(price: str) -> None:
    """The message names the tick and the price."""
    with pytest.raises(GridError, match="expected a price in multiples of 1, got"):
        BTC.subticks(price)


@pytest.mark.parametrize(
    "text", ["", "much", "NaN", "Infinity", "1e400", "1E-999999999", "1" * 5000, "0x10"]
)
@pytest.mark.parametrize(
    "method", ["quantums", "subticks", "floor_quantums", "floor_subticks", "ceil_subticks"]
)
def test_what_is_no_sensible_number_is_refused(method: str, text: str) -> None:
    """At once, and as an error of this layer: no overflow, no endless sum."""
    with pytest.raises(GridError, match="expected"):
        getattr(BTC, method)(text)


@given(market=markets, steps=st.integers(min_value=-(10**12), max_value=10**12))
def test_sizes_round_trip(market: PerpetualMarket, steps: int) -> None:
    """Quantums to size and back, for every multiple of the step."""
    quantums = steps * market.step_base_quantums

    assert market.quantums(market.size(quantums)) == quantums
    assert market.floor_quantums(market.size(quantums)) == quantums


@given(market=markets, ticks=st.integers(min_value=0, max_value=10**12))
def test_prices_round_trip(market: PerpetualMarket, ticks: int) -> None:
    """Subticks to price and back, for every multiple of the tick."""
    subticks = ticks * market.subticks_per_tick

    assert market.subticks(market.price(subticks)) == subticks
    assert market.floor_subticks(market.price(subticks)) == subticks
    assert market.ceil_subticks(market.price(subticks)) == subticks


@given(market=markets, size=decimals, digits=st.text("0123456789", max_size=30))
def test_flooring_a_size_never_rounds_up(
    market: PerpetualMarket, size: Decimal, digits: str
) -> None:
    """The largest multiple of the step that is no more than was given, for both signs."""
    text = f"{size:f}{digits}"
    wanted = Fraction(text) * 10**-market.atomic_resolution

    quantums = market.floor_quantums(text)

    assert quantums <= wanted < quantums + market.step_base_quantums
    assert quantums % market.step_base_quantums == 0
    assert market.floor_quantums(f"-{text}") == -quantums


@given(market=markets, price=decimals, digits=st.text("0123456789", max_size=30))
def test_a_price_lies_between_its_floor_and_its_ceiling(
    market: PerpetualMarket, price: Decimal, digits: str
) -> None:
    """One tick apart, or equal on the grid."""
    text = f"{price:f}{digits}"
    wanted = Fraction(text) / Fraction(market.price(1))

    below, above = market.floor_subticks(text), market.ceil_subticks(text)

    assert below <= wanted <= above
    assert above - below in (0, market.subticks_per_tick)
    assert below % market.subticks_per_tick == above % market.subticks_per_tick == 0


def test_a_fill_is_valued_as_the_chain_does() -> None:
    """0.0001 BTC at 63132 USDC is 6.3132 USDC."""
    quote = BTC.quote_quantums(BTC.quantums("0.0001"), BTC.subticks("63132"))

    assert quote == 6_313_200


# === Units ===


@given(quantums=amounts, price=prices, exponent=exponents, resolution=exponents)
def test_a_value_truncates_toward_zero(
    quantums: int, price: int, exponent: int, resolution: int
) -> None:
    """As big.Int.Quo does: a short is worth what a long is, negated."""
    value = Fraction(quantums) * price * Fraction(10) ** (exponent + resolution + 6)

    quote = base_to_quote(quantums, price, exponent, resolution)

    assert quote == math.trunc(value)
    assert base_to_quote(-quantums, price, exponent, resolution) == -quote


@given(quote=amounts, price=prices, exponent=exponents, resolution=exponents)
def test_a_quote_amount_divides_twice(
    quote: int, price: int, exponent: int, resolution: int
) -> None:
    """First by the power of ten, then by the price, each toward zero."""
    scaled = math.trunc(Fraction(quote) * Fraction(10) ** -(exponent + resolution + 6))

    base = quote_to_base(quote, price, exponent, resolution)

    assert base == math.trunc(Fraction(scaled, price))


@given(quantums=amounts, subticks=prices, exponent=exponents)
def test_a_fills_value_truncates_toward_zero(quantums: int, subticks: int, exponent: int) -> None:
    """The scale is the pair's quantum conversion exponent alone."""
    value = Fraction(quantums) * subticks * Fraction(10) ** exponent

    assert fill_to_quote(quantums, subticks, exponent) == math.trunc(value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [("63132.81", (6313281, -2)), ("-0.5", (-5, -1)), ("1E+3", (1, 3)), ("0", (0, 0))],
)
def test_decimal_text_splits_exactly(text: str, parts: tuple[int, int]) -> None:
    """An integer and a power of ten, nothing rounded."""
    assert exact(text) == parts


@pytest.mark.parametrize("text", ["5.", ".5", "00.10", "1_0.5", " 7 ", "+2", "-0.0", "٣.٤", "1e-3"])
def test_text_splits_as_the_decimal_that_it_is(text: str) -> None:
    """However it is written."""
    assert exact(text) == exact(Decimal(text))


@pytest.mark.parametrize("text", ["", ".", "1.2.3", "²", "1,5", "--1"])
def test_what_is_no_number_does_not_split(text: str) -> None:
    """It is an error that shows it."""
    with pytest.raises(GridError, match="expected a number"):
        exact(text)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15))
def test_exact_parts_make_the_number_again(number: Decimal) -> None:
    """For every decimal that has a sensible size."""
    if not number:
        number = Decimal(0)
    text = format(number, "f")
    assume(abs(number.adjusted()) < 40 and len(text) <= 80)

    digits, power = exact(text)

    assert Fraction(digits) * Fraction(10) ** power == Fraction(number)


@pytest.mark.parametrize(("fraction", "expected"), [("0.05", 50_000), ("1", 10**6), ("0", 0)])
def test_fractions_are_parts_per_million(fraction: str, expected: int) -> None:
    """As the indexer publishes margin fractions."""
    assert ppm(fraction) == expected


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01T00:00:01.000001+00:00", 1_000_001_000),
        ("1970-01-01T02:00:01+02:00", 1_000_000_000),
        ("1970-01-01T00:00:01", 1_000_000_000),
        ("2026-01-05T13:56:00.123Z", 1_767_621_360_123_000_000),
    ],
)
def test_a_time_is_nanoseconds_of_utc_wherever_this_machine_is(
    text: str, ns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that names no zone is UTC, not local time; no nanosecond is rounded away."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert instant.__wrapped__(text) == ns
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("text", ["", "now", "2026-13-01T00:00:00Z", "1767621360"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """With Python's own words."""
    with pytest.raises(ValueError, match=r"isoformat|month"):
        instant(text)


# === Identities ===

SUBACCOUNT = Subaccount("dydx1kzsvkf2ghjqlysuffdkhcdctknl4rsvcx5hkm5", 0)


def test_ids_are_those_of_the_indexer() -> None:
    """Known pairs: a subaccount's id, and that of its order."""
    order = OrderRequest(
        ticker="ETH-USD",
        clob_pair_id=1,
        side="SELL",
        quantums=5,
        subticks=1,
        time_in_force="IOC",
        client_id=2043599281,
    )
    cancel = CancelRequest(ticker="ETH-USD", clob_pair_id=1, client_id=2043599281)

    assert subaccount_id(SUBACCOUNT) == "4484a830-fa43-5b04-ba00-3621a33ef89d"
    assert order_id(SUBACCOUNT, order) == "05009670-3fba-5ec7-8447-efb81a03cd9f"
    assert order_id(SUBACCOUNT, cancel) == order_id(SUBACCOUNT, order)
    assert order.signed_quantums == -5
    assert str(SUBACCOUNT) == "dydx1kzsvkf2ghjqlysuffdkhcdctknl4rsvcx5hkm5/0"


def test_event_ids_depend_on_their_parts_alone() -> None:
    """The same parts, the same id; in another order, another."""
    assert event_id("fill", 1) == event_id("fill", 1)
    assert event_id("fill", 1) != event_id(1, "fill")


def test_a_buy_is_positive() -> None:
    """The signed size carries the direction."""
    order = OrderRequest(
        ticker="ETH-USD",
        clob_pair_id=1,
        side="BUY",
        quantums=5,
        subticks=1,
        time_in_force="GTT",
        client_id=1,
    )

    assert order.signed_quantums == 5


# === Markets ===


def test_a_markets_parameters_are_read_from_its_fields() -> None:
    """The maintenance factor is recovered from the product, caps become quote quantums."""
    market = perpetual_market(
        fields(open_interest_lower_cap="25000000.5", open_interest_upper_cap="50000000")
    )

    assert market.imf_ppm == 20_000
    assert market.maintenance_fraction_ppm == 600_000
    assert market.perpetual_id == market.clob_pair_id == 0
    assert market.open_interest_lower_cap == 25_000_000_500_000
    assert market.open_interest_upper_cap == 50_000_000_000_000
    assert market.market_type == "CROSS"


def test_a_perpetual_may_have_another_number_than_its_pair() -> None:
    """Where an update names it."""
    assert perpetual_market(fields(id="35", clob_pair_id="36")).perpetual_id == 35


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ticker": None}, "parameters of market None, got .* missing required field `ticker`"),
        ({"subticks_per_tick": None}, "missing required field `subticks_per_tick`"),
        ({"clob_pair_id": ""}, "perpetual_id"),
        ({"maintenance_margin_fraction": None}, "missing required field `imf_ppm`"),
        ({"clob_pair_id": "nought"}, "clob_pair_id"),
        ({"id": "one"}, "perpetual_id"),
        ({"initial_margin_fraction": "little"}, "got 'little'"),
        ({"initial_margin_fraction": "0"}, "division by zero"),
        ({"initial_margin_fraction": "-0.02"}, "imf_ppm"),
        ({"maintenance_margin_fraction": "NaN"}, "got 'NaN'"),
        ({"step_base_quantums": 0}, ">= 1 - at .*step_base_quantums"),
        ({"subticks_per_tick": -1}, ">= 1 - at .*subticks_per_tick"),
        ({"open_interest_lower_cap": "lots"}, "got 'lots'"),
        ({"open_interest_upper_cap": "1e999999999"}, "of sensible size"),
        ({"atomic_resolution": -1_000_000_000}, "atomic_resolution"),
        ({"quantum_conversion_exponent": 1_000_000_000}, "quantum_conversion_exponent"),
    ],
)
def test_a_market_that_cannot_be_calculated_with_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    """The message names what is missing or wrong."""
    with pytest.raises(WireError, match=message):
        perpetual_market(fields(**changes))
