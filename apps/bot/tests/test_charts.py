"""The charts of an account and its markets: what is drawn, where, and that no text is markup."""

import json

import pytest
from bot.pages import bars, charts
from bot.pages.style import plain, plotly_js, require_plotly, rounded, tinted
from dydx_conn import ConnError
from dydx_panels import COLOURS, CandleRow, CandlesPart, EquityPart, FillMark
from dydx_risk import PositionFigures

SECOND = 1_000_000_000
CURVE = EquityPart(
    at=(SECOND, 2 * SECOND, 3 * SECOND), seqs=(1, 2, 3), equity=(100.0, 110.0, 95.0),
    low=(99.0, 100.0, 90.0), high=(101.0, 112.0, 110.0), profit=(0.0, 10.0, -15.0),
    fall=(0.0, 0.0, 0.25), distance=(0.5, None, 0.04), leverage=(1.0, None, 3.0),
    deposited=110.0, act_below=0.06, most_fall=0.2,
)  # fmt: skip
CANDLES = CandlesPart(
    ticker="BTC-USD", resolution="1MIN",
    rows=(
        CandleRow(60 * SECOND, 100.0, 104.0, 98.0, 102.0, 1.0, 100.0, 3),
        CandleRow(120 * SECOND, 102.0, 103.0, 99.0, 99.0, 1.0, 100.0, 3, "partial"),
    ),
    fills=(
        FillMark(70 * SECOND, "BUY", 101.0, 2.0),
        FillMark(130 * SECOND, "SELL", 100.0, 2.0, is_exit=True),
    ),
)  # fmt: skip


def test_equity_is_drawn_with_its_extremes_and_what_was_paid_in() -> None:
    """A band from the least to the most of each point, the end of it, and the deposits so far."""
    found = charts.equity(CURVE).to_dict()

    assert [trace["y"] for trace in found["data"]] == [
        [99.0, 100.0, 90.0], [101.0, 112.0, 110.0], [100.0, 110.0, 95.0], [100.0, 100.0, 110.0],
    ]  # fmt: skip
    assert found["data"][0]["x"] == [1_000, 2_000, 3_000]  # ms, UTC


def test_equity_is_of_the_colour_of_its_result() -> None:
    """Below what was paid in it is that of a loss, above it that of a gain."""
    better = charts.equity(EquityPart(at=(1,), equity=(2.0,), profit=(1.0,), deposited=1.0))

    assert charts.equity(CURVE).to_dict()["data"][2]["line"]["color"] == COLOURS["down"]
    assert better.to_dict()["data"][2]["line"]["color"] == COLOURS["up"]


def test_a_curve_without_a_point_is_an_empty_chart() -> None:
    """Before anything is known there is nothing to draw, and no error."""
    parts = [charts.equity, charts.drawdown, charts.exposure, charts.distance]

    assert all(json.loads(draw(EquityPart()).to_json())["data"] for draw in parts)


def test_a_distance_is_a_hole_where_nothing_is_held() -> None:
    """What is far is at the top, four times the highest level; flat is a hole, not zero."""
    found = charts.distance(CURVE, {"all closed below": 0.06, "defended": 0.1}).to_dict()

    assert found["data"][0]["y"] == [40.0, None, 4.0]
    assert found["data"][0]["customdata"] == [50.0, None, 4.0]
    assert [trace["name"] for trace in found["data"][1:]] == [
        "all closed below 6 %",
        "defended 10 %",
    ]


@pytest.mark.parametrize(
    ("distances", "highest"),
    [((0.97, 1.2, 4.0), 0.97 * 1.25), ((0.97, 0.98), 0.98), ((0.03, 0.9), 0.24), ((None,), 0.24)],
)
def test_the_closest_distance_is_always_within_the_scale(
    distances: tuple[float | None, ...], highest: float
) -> None:
    """A run that was never near is drawn where it was, not cut at the scale of one that was."""
    part = EquityPart(at=tuple(range(len(distances))), distance=distances, act_below=0.06)
    found = charts.distance(part).to_dict()

    assert found["layout"]["yaxis"]["range"] == [0.0, pytest.approx(104 * highest)]


def test_charts_of_one_run_have_one_axis_of_time() -> None:
    """Also where there is nothing to draw at first: below each other they are in line."""
    draws = (charts.equity, charts.drawdown, charts.exposure, charts.distance)
    found = [draw(CURVE).to_dict()["layout"] for draw in draws]

    assert {tuple(one["xaxis"]["range"]) for one in found} == {(1_000, 3_000)}
    assert len({one["margin"]["r"] for one in found}) == 1


def test_a_drawdown_hangs_below_zero_with_its_limit() -> None:
    """It is drawn in percent below the peak, and the limit as a line that the legend names."""
    found = charts.drawdown(CURVE).to_dict()["data"]

    assert found[0]["y"] == [0.0, 0.0, -25.0]
    assert (found[1]["name"], found[1]["y"]) == ("entries stop -20 %", [-20.0, -20.0])


def test_exposure_is_zero_where_nothing_is_held() -> None:
    """A leverage that does not exist is none at all."""
    assert charts.exposure(CURVE, 2.0).to_dict()["data"][0]["y"] == [1.0, 0.0, 3.0]


def test_candles_have_fills_by_side_and_by_whether_they_end_something() -> None:
    """Bought and sold are marks of their own, and what gets out of a position another colour."""
    found = charts.candles(CANDLES).to_dict()
    marks = {trace["name"]: trace["marker"]["color"] for trace in found["data"][2:]}

    assert marks == {"bought": COLOURS["up"], "sold to get out": COLOURS["watch"]}
    assert found["data"][0]["close"] == [102.0, 99.0]


@pytest.mark.parametrize(("price", "is_drawn"), [(97.0, True), (20.0, False)])
def test_a_liquidation_price_is_drawn_where_the_candles_stay_tall(
    price: float, is_drawn: bool
) -> None:
    """One that is far away is in words: as a line it would flatten every candle."""
    found = charts.candles(CANDLES, liquidation=[(60 * SECOND, price)]).to_dict()
    drawn = any(trace.get("name") == "liquidation price" for trace in found["data"])
    words = [note["text"] for note in found["layout"].get("annotations", ())]

    assert drawn is is_drawn
    assert words == ([] if is_drawn else ["liquidation price 20: beyond this scale"])


def test_what_is_held_is_marked_on_its_candles() -> None:
    """Where it was entered and where it would be liquidated are lines across."""
    from decimal import Decimal

    held = PositionFigures(
        ticker="BTC-USD", size=Decimal(1), entry_price=Decimal(101), liquidation_price=Decimal(95)
    )
    found = charts.candles(CANDLES, held).to_dict()

    assert [shape["y0"] for shape in found["layout"]["shapes"]] == [101.0, 95.0]


def test_candles_of_another_time_are_left_out() -> None:
    """With a focus the scale is that of what is shown."""
    found = charts.candles(CANDLES, focus=(100 * SECOND, 200 * SECOND)).to_dict()

    assert found["data"][0]["open"] == [102.0]
    assert found["layout"]["xaxis"]["range"] == [100_000, 200_000]


def test_no_text_of_a_venue_is_markup() -> None:
    """A ticker with tags in it is drawn letter by letter."""
    hostile = '<a href="https://x.example">BTC</a>'
    found = [
        bars.profits({hostile: 1.0}), bars.costs({hostile: 1.0}),
        bars.latencies({hostile: {"p50": 1.0}}), charts.candles(CandlesPart(ticker=hostile)),
    ]  # fmt: skip

    assert not any("<a" in json.loads(json.dumps(one.to_dict()["data"], default=str)).__str__()
                   for one in found)  # fmt: skip


def test_costs_are_negative_and_what_was_received_is_not() -> None:
    """As everywhere, money that went is below zero."""
    found = bars.costs({"fees": 2.0, "funding": -1.0}).to_dict()["data"][0]

    assert dict(zip(found["y"], found["x"], strict=True)) == {"fees": -2.0, "funding": 1.0}


def test_a_latency_that_is_not_known_is_no_bar() -> None:
    """A stage without a percentile has none, whatever others have."""
    found = bars.latencies({"data": {"p50": 1.0, "p99": 2.0}, "risk": {"p50": 3.0}}).to_dict()

    assert [trace["x"] for trace in found["data"]] == [[1.0, 3.0], [2.0, None]]


def test_no_figure_names_a_host() -> None:
    """A figure is data and style: nothing in it is loaded from anywhere."""
    assert "http" not in charts.equity(CURVE).to_json()


def test_plotly_is_that_of_the_installed_package() -> None:
    """It is read once, whole, and from this machine."""
    from plotly.offline import get_plotlyjs

    assert plotly_js() == get_plotlyjs()
    assert plotly_js() is plotly_js()


def test_without_plotly_it_is_named_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named, and what wanted it."""
    monkeypatch.setattr("bot.system.find_spec", lambda _: None)

    with pytest.raises(
        ConnError, match="installed for --html, got no plotly: uv sync --all-extras"
    ):
        require_plotly("--html")


def test_small_helpers_leave_the_unknown_unknown() -> None:
    """None is no number, control characters are no letters."""
    assert rounded([1.234, None], 1) == [1.2, None]
    assert tinted("#0a0b0c", 0.5) == "rgba(10, 11, 12, 0.5)"
    assert plain("<b>\x1b[2J") == "&lt;b&gt;?[2J"
