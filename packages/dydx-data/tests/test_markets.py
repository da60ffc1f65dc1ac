"""Markets: parameters, status, oracle prices, funding, open interest."""

from typing import Any

import pytest
from dydx_conn import WireWriter, market_fields
from dydx_data import DataState, FundingRate, funding_outlook, step

MARKET = market_fields(
    "BTC-USD", price="100.5", nextFundingRate="0.00001", openInterest="12.5"
)  # fmt: skip


def test_a_snapshot_describes_each_market() -> None:
    """One view per MARKET, with the exact oracle price and the chain's parameters."""
    state = DataState()

    (view,) = step(state, WireWriter().markets(MARKET))

    assert (view.ticker, view.changed, view.status) == ("BTC-USD", "market", "ACTIVE")
    assert view.market is not None
    assert view.market.imf_ppm == 50_000
    assert view.open_interest == 125_000_000_000
    assert view.oracle is not None
    assert (view.oracle.price, view.oracle.digits, view.oracle.exponent) == (100.5, 1005, -1)
    assert (view.oracle.seq, view.oracle.text) == (1, "100.5")
    assert view.funding == FundingRate(0.00001, "0.00001", view.at, 1)
    assert view.funding.known
    assert repr(view) == "MarketView('BTC-USD', seq=1, changed='market')"


def test_one_odd_market_costs_no_other() -> None:
    """Of a snapshot, of an answer and of an update; each odd row is counted with its reason."""
    state = DataState()
    odd = {**MARKET, "ticker": "ODD-USD", "volume24H": 0}
    all_ = {"markets": {"BTC-USD": MARKET, "ODD-USD": odd}}
    link = WireWriter()

    step(state, link.publish("v4_markets", all_, snapshot=True))
    step(state, link.answer("/v4/perpetualMarkets", all_))
    prices = {"BTC-USD": {"oraclePrice": "101"}, "ODD-USD": {"oraclePrice": 7}}
    (view,) = step(state, link.publish("v4_markets", {"oraclePrices": prices}))

    assert [*state.views] == ["BTC-USD"]
    assert view.oracle is not None
    assert view.oracle.price == 101
    assert state.quality.counts == {"malformed": 3}
    assert state.quality.samples[0].text.startswith(
        "markets ODD-USD: expected `str | null`, got `int` - at `$.volume24H`, in {"
    )


OLDER = {"markets": {"BTC-USD": {**MARKET, "oraclePrice": "90", "status": "PAUSED"}}}


def test_an_answer_takes_nothing_back_that_a_socket_keeps_up_to_date() -> None:
    """A replica may be behind, and a price may stand for an hour: nothing would put it right."""
    state, link = DataState(), WireWriter()
    (view,) = step(state, link.markets(MARKET))
    step(state, link.oracle("BTC-USD", "101"))

    assert step(state, link.answer("/v4/perpetualMarkets", OLDER)) == []
    assert view.oracle is not None
    assert (view.oracle.text, view.status) == ("101", "ACTIVE")


@pytest.mark.parametrize("doubt", ["close", "an odd price"])
def test_an_answer_counts_where_the_socket_missed_something(doubt: str) -> None:
    """Its link is lost, or the newer price could not be read."""
    state, link = DataState(), WireWriter()
    (view,) = step(state, link.markets(MARKET))
    odd = {"oraclePrices": {"BTC-USD": {"oraclePrice": "4x"}}}
    step(state, link.event("close") if doubt == "close" else link.publish("v4_markets", odd))

    step(state, link.answer("/v4/perpetualMarkets", OLDER))

    assert view.oracle is not None
    assert (view.oracle.text, view.status) == ("90", "PAUSED")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, '{"message":"Service Unavailable"}'),
        (200, '{"message":"Service Unavailable"}'),
        (200, "{}"),
        (200, "null"),
        (200, ""),
        (404, "<html>"),
        (502, '{"type":"about:blank","title":"Bad Gateway"}'),
        (503, '{"markets":{"BTC-USD":{"ticker":"BTC-USD","status":"PAUSED"}}}'),
    ],
)
@pytest.mark.parametrize(
    "path",
    [
        "/v4/perpetualMarkets",
        "/v4/height",
        "/v4/orderbooks/perpetualMarket/BTC-USD",
        "/v4/trades/perpetualMarket/BTC-USD",
        "/v4/candles/perpetualMarkets/BTC-USD?resolution=1MIN",
    ],
)
def test_what_is_no_answer_is_no_update(path: str, status: int, body: str) -> None:
    """Whatever its body and its author: it is counted with its reason, and changes nothing."""
    state, link = DataState(), WireWriter()
    step(state, link.markets(MARKET))
    (book,) = step(state, link.book("BTC-USD", [("99", "1")], [("101", "1")]))

    views = step(state, link.answer(path, body, status))

    assert {view.changed for view in views} <= {"quality"}
    assert (book.status, book.book.known, state.chain.height) == ("ACTIVE", True, 0)
    assert {*state.counts()} in ({"refused"}, {"malformed"})


@pytest.mark.parametrize("price", [None, "", "0"])
def test_an_absent_oracle_price_is_unknown_and_not_nothing(price: str | None) -> None:
    """A market that is being initialised has none yet."""
    state = DataState()
    fields = {**MARKET, "oraclePrice": price, "status": "INITIALIZING"}

    (view,) = step(state, WireWriter().markets(fields))

    assert (view.status, view.oracle) == ("INITIALIZING", None)
    assert view.quality.counts == {}


def test_nothing_received_is_nothing_known() -> None:
    """A view made by a book knows no MARKET, price, rate or interest."""
    (view,) = step(DataState(), WireWriter().book("BTC-USD"))

    assert (view.market, view.status, view.oracle, view.open_interest) == (None, "", None, None)
    assert not view.funding.known


def test_oracle_prices_touch_every_market_they_name() -> None:
    """One frame, one view per market; the older servers' name of the field is read too."""
    state, link = DataState(), WireWriter()
    prices = {"BTC-USD": {"oraclePrice": "101.25"}, "ETH-USD": {"price": "3000"}}

    views = step(state, link.publish("v4_markets", {"oraclePrices": prices}))

    assert [(view.ticker, view.changed) for view in views] == [
        ("BTC-USD", "oracle"),
        ("ETH-USD", "oracle"),
    ]
    assert [view.oracle and view.oracle.price for view in views] == [101.25, 3000.0]


@pytest.mark.parametrize("price", ["nan", "-1", "0", "", "x", "1e999"])
def test_a_bad_oracle_price_leaves_the_last_one_and_is_counted(price: str) -> None:
    """Its age shows that it was not renewed."""
    state, link = DataState(), WireWriter()
    step(state, link.oracle("BTC-USD", "100"))

    (view,) = step(state, link.oracle("BTC-USD", price))

    assert view.changed == "quality"
    assert view.oracle is not None
    assert (view.oracle.price, view.oracle.seq) == (100.0, 1)
    assert view.quality.counts == {"malformed": 1}


def test_a_bad_oracle_price_in_a_snapshot_is_unknown() -> None:
    """A snapshot replaces everything."""
    state = DataState()
    fields = {**MARKET, "oraclePrice": "much"}

    (view,) = step(state, WireWriter().markets(fields))

    assert view.oracle is None
    assert view.quality.counts == {"malformed": 1}


@pytest.mark.parametrize(
    ("fields", "changed"),
    [({"status": "PAUSED"}, "status"), ({"nextFundingRate": "-0.0002"}, "funding"),
     ({"openInterest": "13"}, "market"), ({"initialMarginFraction": "0.1"}, "market")],
)  # fmt: skip
def test_trading_updates_name_what_changed(fields: dict[str, str], changed: str) -> None:
    """Only the fields that are there; the others stand."""
    state, link = DataState(), WireWriter()
    step(state, link.markets(MARKET))

    (view,) = step(state, link.trading("BTC-USD", **fields))

    assert view.changed == changed
    assert view.status == fields.get("status", "ACTIVE")
    assert view.funding.next_rate_text == fields.get("nextFundingRate", "0.00001")
    assert view.open_interest == int(float(fields.get("openInterest", "12.5")) * 10**10)
    assert view.market is not None
    assert view.market.imf_ppm == (100_000 if "initialMarginFraction" in fields else 50_000)


def test_a_frame_emits_a_market_once_with_what_weighs_most() -> None:
    """Status before oracle before funding before the rest."""
    state, link = DataState(), WireWriter()
    contents = {
        "trading": {"BTC-USD": {"status": "PAUSED"}, "ETH-USD": {"nextFundingRate": "0"}},
        "oraclePrices": {"BTC-USD": {"oraclePrice": "1"}, "ETH-USD": {"oraclePrice": "2"}},
    }

    views = step(state, link.publish("v4_markets", contents))

    assert [view.changed for view in views] == ["status", "oracle"]


def test_a_new_market_may_come_with_a_trading_update() -> None:
    """Its parameters arrive in one piece or in several."""
    state, link = DataState(), WireWriter()
    first = {name: MARKET[name] for name in list(MARKET)[:8] if name != "oraclePrice"}

    (view,) = step(state, link.trading("BTC-USD", **first))
    early = view.market
    step(state, link.trading("BTC-USD", **MARKET))

    assert early is None
    assert view.market is not None
    assert view.market.step_base_quantums == 1_000_000
    assert view.quality.counts == {"malformed": 1}


@pytest.mark.parametrize(
    "fields", [{"openInterest": "lots"}, {"nextFundingRate": "nan"}, {"atomicResolution": 999},
               {"clobPairId": "x"}, {"openInterest": "1e999999"}]
)  # fmt: skip
def test_bad_figures_are_counted_and_change_nothing(fields: dict[str, Any]) -> None:
    """What was known stays known."""
    state, link = DataState(), WireWriter()
    step(state, link.markets(MARKET))

    (view,) = step(state, link.trading("BTC-USD", **fields))

    assert view.market is not None
    assert (view.market.atomic_resolution, view.market.clob_pair_id) == (-10, 0)
    assert view.open_interest == 125_000_000_000
    assert view.funding.next_rate_1h == 0.00001
    assert view.quality.counts == {"malformed": 1}


def test_an_answer_describes_markets_too() -> None:
    """REST gives the same contents as the snapshot of the channel."""
    state = DataState()
    path = "/v4/perpetualMarkets?limit=1000"

    (view,) = step(state, WireWriter().answer(path, {"markets": {"BTC-USD": MARKET}}))

    assert (view.changed, view.status) == ("market", "ACTIVE")


def test_only_wanted_tickers_get_views() -> None:
    """A bot of three markets does not carry three hundred."""
    state, link = DataState(["BTC-USD"]), WireWriter()

    step(state, link.markets(MARKET, market_fields("ETH-USD", price=3000)))
    ignored = [
        step(state, link.book("ETH-USD")),
        step(state, link.levels("ETH-USD")),
        step(state, link.trades("ETH-USD")),
        step(state, link.candles("ETH-USD", "1MIN", snapshot=True)),
        step(state, link.trading("ETH-USD", status="PAUSED")),
    ]

    assert list(state.views) == ["BTC-USD"]
    assert ignored == [(), (), (), (), []]
    assert state.counts() == {}


def test_views_are_bounded_and_named_sensibly() -> None:
    """A stream that names markets without end does not fill the memory."""
    state, link = DataState(), WireWriter()
    names = {f"M{number}-USD": {"oraclePrice": "1"} for number in range(2_500)}

    step(state, link.publish("v4_markets", {"oraclePrices": names}))
    step(state, link.book("a b"))
    step(state, link.book(""))

    assert len(state.views) == 2_000
    assert state.quality.counts == {"malformed": 502}


@pytest.mark.parametrize("price", ["1e41", "1" * 50, "nan", "-1"])
def test_an_absurd_oracle_price_is_counted_and_not_raised(price: str) -> None:
    """Nobody could calculate with it: the last price stands, and grows old."""
    state, link = DataState(), WireWriter()
    (view,) = step(state, link.markets(MARKET))
    before = view.oracle

    step(state, link.oracle("BTC-USD", price))

    assert view.oracle is before
    assert state.views["BTC-USD"].quality.counts == {"malformed": 1}


def test_a_negative_open_interest_is_refused() -> None:
    """It would pass for little, where unknown passes for much."""
    state, link = DataState(), WireWriter()
    step(state, link.markets(MARKET))

    step(state, link.trading("BTC-USD", openInterest="-5"))

    assert state.views["BTC-USD"].open_interest == 125_000_000_000
    assert state.views["BTC-USD"].quality.counts == {"malformed": 1}


def test_open_interest_is_read_from_the_field_that_lives() -> None:
    """`baseOpenInterest` is 0 in newer markets and frozen in others, and updates omit it."""
    state, link = DataState(), WireWriter()
    step(state, link.markets({**MARKET, "openInterest": "8800", "baseOpenInterest": "0"}))
    first = state.views["BTC-USD"].open_interest

    step(state, link.trading("BTC-USD", openInterest="8900"))
    step(state, link.trading("BTC-USD", baseOpenInterest="5"))

    assert first == 8_800 * 10**10
    assert state.views["BTC-USD"].open_interest == 8_900 * 10**10


def test_a_description_without_open_interest_leaves_it_unknown() -> None:
    """Unknown counts as the most: what was known before the description may be of long ago."""
    state, link = DataState(), WireWriter()
    step(state, link.markets(MARKET))

    step(state, link.markets({name: MARKET[name] for name in MARKET if name != "openInterest"}))

    assert state.views["BTC-USD"].open_interest is None


@pytest.mark.parametrize(
    ("height", "time"),
    [
        (9, "2026-01-05T14:00:01.000Z"),
        (10**12, "2026-01-05T14:00:01.000Z"),
        (11, "9999-12-31T00:00:00.000Z"),
    ],
    ids=["before", "far ahead", "in another age"],
)
def test_an_absurd_block_is_refused_and_does_not_stick(height: int, time: str) -> None:
    """The next block that follows is taken; its hours are the chain's."""
    state, link = DataState(), WireWriter()
    step(state, link.block(10, "2026-01-05T14:00:00.000Z"))

    step(state, link.block(height, time))
    assert (state.chain.height, state.quality.counts) == (10, {"out_of_order": 1})

    step(state, link.block(11, "2026-01-05T14:00:01.000Z"))
    assert state.chain.height == 11


def test_a_block_that_follows_counts_even_if_its_time_goes_back() -> None:
    """A time too far ahead, believed once, must not stop the chain until it is reached."""
    state, link = DataState(), WireWriter()
    step(state, link.block(10, "2026-01-05T14:00:00.000Z"))
    step(state, link.block(11, "2026-01-05T14:59:00.000Z"))

    step(state, link.block(12, "2026-01-05T14:00:02.000Z"))

    assert state.chain.height == 12
    assert state.quality.counts == {"block_pace": 1, "receive_lag": 1}  # odd, and followed


@pytest.mark.parametrize(
    "odd",
    [
        {"defaultFundingRate1H": "much"},
        {"nextFundingRate": "1e305"},
        {"atomicResolution": 40, "quantumConversionExponent": -40},
        {"stepBaseQuantums": 10**400},
    ],
)
def test_a_parameter_that_cannot_be_costs_itself_alone(odd: dict[str, Any]) -> None:
    """It is counted, nothing is made of it, and what follows is folded."""
    state, link = DataState(), WireWriter()
    step(state, link.markets({**MARKET, **odd}))
    step(state, link.markets(MARKET))
    trade = {"id": "1", "side": "BUY", "price": "100", "size": "0.5"}
    (view,) = step(state, link.trades("BTC-USD", trade))

    assert state.counts() == {"malformed": 1}
    assert view.candles["1MIN"].closes() == [100.0]
    assert funding_outlook(view) is not None
