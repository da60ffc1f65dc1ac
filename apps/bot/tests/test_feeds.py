"""What came in, counted for whoever looks."""

from bot.run.feeds import Feeds
from dydx_conn import Frame, WireWriter

SECOND = 1_000_000_000


def test_frames_are_counted_by_channel_and_market_and_by_link() -> None:
    """A rate is of the frames since it was first read, by event time."""
    feeds, link = Feeds(), WireWriter()
    for _ in range(3):
        feeds.take(link.trade("BTC-USD", "BUY", "1", "100"))
    assert feeds.rates(5 * SECOND) == {}

    for _ in range(8):
        feeds.take(link.trade("ETH-USD", "BUY", "1", "100"))

    assert feeds.rates(7 * SECOND) == {("v4_trades", "BTC-USD"): 0.0, ("v4_trades", "ETH-USD"): 4.0}
    assert feeds.flows["v4_trades", "BTC-USD"] == 3
    assert feeds.links == {"c1": 11}


def test_a_rate_forgets_what_is_ten_seconds_old() -> None:
    """So that it is of now; and time that goes back begins it again."""
    feeds, link = Feeds(), WireWriter()
    for second in range(30):
        feeds.take(link.trade("BTC-USD", "BUY", "1", "100"))
        found = feeds.rates(second * SECOND)

    assert found == {("v4_trades", "BTC-USD"): 1.0}
    assert feeds.rates(0) == {}


def test_answers_are_counted_by_endpoint_and_losses_by_reason() -> None:
    """What a path names of markets and accounts is no endpoint of its own."""
    feeds = Feeds()
    for ticker in ("BTC-USD", "ETH-USD"):
        path = f"/v4/orderbooks/perpetualMarket/{ticker}?limit=9"
        feeds.take(Frame(1, 0, 0, "rest", "http", "{}", "200", path))
    feeds.take(Frame(2, 0, 0, "c1", "close", "gone away", "1006"))
    feeds.take(Frame(3, 0, 0, "clock", "tick"))

    assert feeds.answers == {("/v4/orderbooks/perpetualMarket/*", 200): 2}
    assert feeds.losses == {"gone away": 1}
