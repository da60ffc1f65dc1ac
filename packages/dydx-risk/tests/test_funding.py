import pytest
from dydx_risk import (
    MarginError,
    funding_index_delta,
    funding_payment,
    funding_settlement,
    funding_settlement_ppm,
    index_delta,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from world import open_world

PPMS = st.integers(-(2**31), 2**31 - 1)


@pytest.mark.parametrize("price", [0, -1])
def test_an_index_does_not_move_by_no_price(price: int) -> None:
    """A rate without a price is refused, not taken for 0."""
    with pytest.raises(MarginError, match=f"an oracle price above 0, got {price}"):
        funding_index_delta(1_000, 3_600, price, -6, -9)


@given(st.lists(st.tuples(st.integers(-(10**12), 10**12), PPMS, PPMS), max_size=6))
def test_payments_never_report_less_than_was_charged(rows: list[tuple[int, int, int]]) -> None:
    """Each position is rounded up against it, the account but once: at most one quantum each."""
    settled = [funding_settlement_ppm(*row) for row in rows]
    reported, charged = sum(map(funding_payment, settled)), -funding_settlement(settled)

    assert charged <= reported <= charged + len(rows)


def test_a_long_pays_a_rising_index() -> None:
    """Positive is paid, negative received, rounded up in the venue's favour."""
    assert funding_payment(funding_settlement_ppm(10**9, 625, 0)) == 625_000
    assert funding_payment(funding_settlement_ppm(-(10**9), 625, 0)) == -625_000
    assert funding_payment(-1) == 1


def test_a_price_beyond_all_exponents_is_refused() -> None:
    """Before anybody computes a power of ten that fills the memory."""
    with pytest.raises(MarginError, match="an exponent within ±200, got -1000000"):
        funding_index_delta(1, 3_600, 1, -(10**6), -9)


@settings(max_examples=20)
@given(st.integers(2, 48), st.integers(1, 10**6))
def test_each_hour_moves_an_index_by_itself(hours: int, price: int) -> None:
    """The chain truncates hour by hour: none brings another to a whole ppm."""
    world = open_world()
    world.oracle("ETH-USD", f"{price / 1000:g}")
    view = world.state.views["ETH-USD"]
    assert view.market is not None
    one = index_delta(view, view.market, 1)

    assert one is not None
    assert hours * one == index_delta(view, view.market, hours)
