"""Where a resting order stands, and whether the tape bears out what was filled."""

import pytest
from dydx_paper import Optimism, PaperError, PaperVenue
from exchange import OWNER, USDC, Exchange, body
from hypothesis import given
from hypothesis import strategies as st

COIN = 10**10
QUEUES = ("pessimistic", "proportional", "optimistic")


def resting(queue: str = "pessimistic", size: str = "0.5", price: str = "49999") -> Exchange:
    """Open an exchange on which we rest at a bid of 49,999, behind 1 BTC."""
    venue = PaperVenue(OWNER, 100_000 * USDC, queue=queue)  # type: ignore[arg-type]
    exchange = Exchange(venue).open()
    exchange.order("BUY", size, price, "POST_ONLY")
    exchange.change(asks=[(50_010, 1)])
    return exchange


def filled(exchange: Exchange) -> int:
    """Return what we hold, in tenths of a BTC."""
    return exchange.venue.ledger.position("BTC-USD") * 10 // COIN


def test_what_stood_before_us_trades_first() -> None:
    """A bid behind 1 BTC fills with what is sold beyond that, as maker, at its own price."""
    exchange = resting()
    assert [] == exchange.trade("SELL", "0.8", "49999")

    done = body(exchange.trade("SELL", "0.5", "49999"))

    (fill,) = done["fills"]
    assert ("0.3", "49999", "MAKER") == (fill["size"], fill["price"], fill["liquidity"])
    assert "0.2" == body(exchange.trade("SELL", "5", "49999"))["fills"][0]["size"]


def test_what_stood_before_us_may_go() -> None:
    """Once the level is gone, nobody is before us, however much came to it since."""
    exchange = resting()
    exchange.change(bids=[(49_999, 0)])
    exchange.block()
    exchange.oracle(50_000)
    exchange.change(bids=[(49_999, 3)])
    for _ in range(4):  # what left is no trade that the tape has yet to print
        exchange.block()
        exchange.oracle(50_000)

    assert "0.2" == body(exchange.trade("SELL", "0.2", "49999"))["fills"][0]["size"]


def test_what_stood_before_an_ask_may_go_too() -> None:
    """Also while we bid for nothing."""
    exchange = Exchange(PaperVenue(OWNER, 100_000 * USDC, queue="pessimistic")).open()
    exchange.change(asks=[(50_001, 1)])
    exchange.order("SELL", "0.5", "50001", "POST_ONLY")
    exchange.change(bids=[(49_990, 1)])
    exchange.change(asks=[(50_001, 0)])
    exchange.block()
    exchange.oracle(50_000)
    exchange.change(asks=[(50_001, 3)])
    for _ in range(4):
        exchange.block()
        exchange.oracle(50_000)

    assert "0.2" == body(exchange.trade("BUY", "0.2", "50001"))["fills"][0]["size"]


@pytest.mark.parametrize(("queue", "tenths"), [(QUEUES[0], 0), (QUEUES[1], 1), (QUEUES[2], 4)])
def test_who_left_decides_who_is_next(queue: str, tenths: int) -> None:
    """Of a level that grew to 2 BTC and shrank to 0.6: those behind, everybody, all before us."""
    exchange = resting(queue)
    exchange.change(bids=[(49_999, 2)])
    exchange.block()
    exchange.oracle(50_000)
    exchange.change(bids=[(49_999, 0.6)])
    for _ in range(4):
        exchange.block()
        exchange.oracle(50_000)

    exchange.trade("SELL", "0.4", "49999")

    assert tenths == filled(exchange)


@pytest.mark.parametrize("queue", QUEUES[:2])
def test_a_trade_that_book_and_tape_both_show_counts_once(queue: str) -> None:
    """Whichever shows it first."""
    book_first, tape_first = resting(queue), resting(queue)
    book_first.change(bids=[(49_999, 0.3)])
    book_first.trade("SELL", "0.7", "49999")
    tape_first.trade("SELL", "0.7", "49999")
    tape_first.change(bids=[(49_999, 0.3)])

    for exchange in (book_first, tape_first):
        assert [] == exchange.trade("SELL", "0.3", "49999")
        assert "0.1" == body(exchange.trade("SELL", "0.1", "49999"))["fills"][0]["size"]


def test_a_trade_beyond_our_price_has_passed_all_before_us() -> None:
    """Whoever sold lower has taken our level first."""
    exchange = resting()

    assert "0.2" == body(exchange.trade("SELL", "0.2", "49998"))["fills"][0]["size"]


def test_a_seller_is_reached_by_buyers() -> None:
    """The same on the other side, and buyers do not reach a bid."""
    exchange = Exchange().open()
    exchange.order("SELL", "0.5", "50001", "POST_ONLY")
    exchange.change(bids=[(49_990, 1)])
    assert [] == exchange.trade("SELL", "9", "50001")

    assert "0.5" == body(exchange.trade("BUY", "9", "50001"))["fills"][0]["size"]


def test_two_orders_of_ours_share_what_comes() -> None:
    """The older one first; the trade is spent once."""
    exchange = resting()
    exchange.order("BUY", "0.5", "49999", "POST_ONLY")
    exchange.change(asks=[(50_010, 1)])

    done = body(exchange.trade("SELL", "1.7", "49999"))

    assert ["0.5", "0.2"] == [fill["size"] for fill in done["fills"]]


def test_a_trade_of_an_earlier_block_reaches_nothing() -> None:
    """It was made before we stood there."""
    exchange = resting("optimistic")
    exchange.second -= 5

    assert [] == exchange.trade("SELL", "9", "49999")


def test_a_trade_off_the_grid_and_one_of_an_unknown_book_reach_nobody() -> None:
    """Neither can be believed."""
    exchange = resting("optimistic")
    assert [] == exchange.trade("SELL", "1", "49998.5")
    exchange.lose()

    assert [] == exchange.trade("SELL", "1", "49998")


def test_far_levels_keep_the_place_in_which_they_were_seen() -> None:
    """Beyond the best twenty levels nothing is known to have gone."""
    exchange = resting(price="49990", size="0.1")
    exchange.book([(49_999 - n / 10, 1) for n in range(30)], [(50_010, 1)])
    exchange.block()
    exchange.oracle(50_000)

    assert [] == exchange.trade("SELL", "1.9", "49990")
    assert "fills" in body(exchange.trade("SELL", "0.3", "49990"))


def test_an_unknown_queue_is_refused() -> None:
    """It names which there are."""
    with pytest.raises(PaperError, match="expected one of"):
        PaperVenue(OWNER, 0, queue="hopeful")  # type: ignore[arg-type]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("trade"), st.integers(1, 9)),
            st.tuples(st.just("level"), st.integers(0, 30)),
            st.tuples(st.just("block"), st.just(0)),
        ),
        max_size=25,
    )
)
def test_pessimism_never_fills_more_than_optimism(events: list[tuple[str, int]]) -> None:
    """Nor does either fill more than was traded."""
    held = []
    for queue in QUEUES:
        exchange = resting(queue, size="2")
        traded = 0
        for kind, tenths in events:
            if kind == "trade":
                exchange.trade("SELL", tenths / 10, "49999")
                traded += tenths
            elif kind == "level":
                exchange.change(bids=[(49_999, tenths / 10)])
            else:
                exchange.block()
                exchange.oracle(50_000)
        held.append(filled(exchange))
        assert held[-1] <= traded

    assert held[0] <= held[2]
    assert held[1] <= held[2]


# --- optimism


def test_a_fill_that_the_tape_bears_out_is_no_error() -> None:
    """A buyer's trade at our price or beyond, soon after: as much as we assumed."""
    exchange = Exchange().open()
    exchange.order("BUY", "0.5", "50001")
    exchange.change(bids=[(49_990, 3)])
    assert None is exchange.venue.optimism.error
    assert 1 == exchange.venue.optimism.pending

    exchange.trade("SELL", "0.5", "50001")
    exchange.trade("BUY", "0.2", "50001")
    exchange.trade("BUY", "0.3", "50002")

    optimism = exchange.venue.optimism
    assert (0.0, 0.0, None, 0) == (
        optimism.error, optimism.of("BTC-USD"), optimism.of("ETH-USD"), optimism.pending,
    )  # fmt: skip


def test_a_fill_that_nobody_else_made_is_all_error() -> None:
    """Ten seconds pass and the tape shows a tenth of it."""
    exchange = Exchange().open()
    exchange.order("BUY", "0.5", "50001")
    exchange.change(bids=[(49_990, 3)])
    exchange.trade("BUY", "0.05", "50001")

    exchange.second += 10
    exchange.change(bids=[(49_990, 2)])

    assert exchange.venue.optimism.error == pytest.approx(0.9)


def test_a_fill_made_by_a_trade_is_borne_out_by_it() -> None:
    """It is judged at once."""
    exchange = resting("optimistic")
    exchange.trade("SELL", "0.5", "49999")

    assert 0.0 == exchange.venue.optimism.error


def test_no_trade_bears_out_two_fills() -> None:
    """The older has it."""
    optimism = Optimism(window_ns=10)
    for at in (0, 1):
        optimism.claim("BTC-USD", "BUY", 100, 4, 400, at=at)
    optimism.observe("BTC-USD", "BUY", 100, 5, 0)
    optimism.settle(20)

    assert (800, 500) == (optimism.assumed["BTC-USD"], optimism.traded["BTC-USD"])
    assert optimism.error == pytest.approx(3 / 8)
