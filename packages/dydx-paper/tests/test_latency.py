"""How long a message is on its way: an order meets what the book has become by then."""

import pytest
from dydx_paper import Latency, PaperError, PaperVenue
from exchange import OWNER, USDC, Exchange, body
from hypothesis import given
from hypothesis import strategies as st

SECOND = 1_000_000_000


def slow(latency: Latency) -> Exchange:
    """Open an exchange to which our messages take their time."""
    return Exchange(PaperVenue(OWNER, 100_000 * USDC, latency=latency)).open()


def test_an_order_meets_the_first_book_after_its_arrival() -> None:
    """Books that come while it is on its way pass without it."""
    exchange = slow(Latency.constant(2 * SECOND))
    exchange.order("BUY", "0.5", "50100")

    exchange.second += 1
    assert [] == exchange.change(asks=[(50_001, 0), (50_002, 1)])
    exchange.second += 1
    done = body(exchange.change(asks=[(50_002, 0), (50_003, 1)]))

    assert ["50003"] == [fill["price"] for fill in done["fills"]]


def test_without_latency_the_next_book_is_met_as_ever() -> None:
    """The default and a constant of nothing are the same rule."""
    runs = []
    for latency in (None, Latency(), Latency.constant(0)):
        exchange = Exchange(PaperVenue(OWNER, 100_000 * USDC, latency=latency)).open()
        exchange.order("BUY", "0.5", "50100")
        exchange.change(asks=[(50_002, 3)])
        runs.append([frame.text for frame in exchange.frames])

    assert runs[0] == runs[1] == runs[2]


def test_measured_latencies_come_in_their_order_and_again() -> None:
    """No chance in it."""
    draws = Latency.measured([5, 6, 7]).draws()

    assert [5, 6, 7, 5] == [next(draws) for _ in range(4)]


@given(st.integers(), st.lists(st.integers(0, 10**9), min_size=1))
def test_the_same_seed_draws_the_same_latencies(seed: int, samples: list[int]) -> None:
    """Each venue begins its own draws, among what was measured."""
    latency = Latency.sampled(seed, samples)
    first, second = latency.draws(), latency.draws()

    drawn = [next(first) for _ in range(20)]
    assert drawn == [next(second) for _ in range(20)]
    assert set(drawn) <= set(samples)


def test_a_run_with_sampled_latency_gives_the_same_bytes() -> None:
    """Same seed, same events, same run."""

    def run(seed: int) -> list[str]:
        exchange = slow(Latency.sampled(seed, range(0, 5 * SECOND, SECOND // 2)))
        for number in range(8):
            exchange.second += 1
            exchange.order("BUY", "0.1", "50100")
            exchange.change(asks=[(50_001 + number % 3, 1)])
        return [frame.text for frame in exchange.frames]

    assert run(7) == run(7)
    assert run(7) != run(8)


def test_a_fast_cancel_overtakes_its_order_and_blocks_it() -> None:
    """A short-term cancel needs no order: what it names does not come in after it."""
    exchange = slow(Latency.measured([3 * SECOND, 0]))
    exchange.order("BUY", "0.5", "49000", "GTT", client_id=7)
    exchange.cancel(7)
    (unknown,) = body(exchange.change(asks=[(50_010, 1)]))["orders"]
    assert ("BEST_EFFORT_CANCELED", False) == (unknown["status"], "size" in unknown)

    exchange.second += 3
    done = body(exchange.change(asks=[(50_010, 2)]))

    assert "ErrOrderIsCanceled" in done["orders"][0]["removalReason"]


@pytest.mark.parametrize("samples", [(), (5, -1)])
def test_a_latency_that_cannot_be_is_refused(samples: tuple[int, ...]) -> None:
    """None at all, or messages that arrive before they are sent."""
    with pytest.raises(PaperError, match="expected latencies of 0 ns or more"):
        Latency.measured(samples)
