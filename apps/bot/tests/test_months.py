"""A report has a table of months: what each returned, how far it fell, and its trades."""

from bot.pages import tables
from bot.pages.months import Point, months_of
from bot.pages.shape import Report
from hypothesis import given
from hypothesis import strategies as st

DAY = 86_400_000_000_000
NOVEMBER_30 = 20_422 * DAY  # 2025


def points(*worth: float, transfers: int = 0) -> list[Point]:
    """Return an account that was worth so much, a point every half day."""
    return [
        Point(NOVEMBER_30 + n * DAY // 2, round(w * 1e6), transfers) for n, w in enumerate(worth)
    ]


def test_a_month_goes_on_from_where_the_one_before_it_ended() -> None:
    """Two months of one year and their year: what a month fell begins with its own beginning."""
    found = months_of(points(100, 110, 121, 99), [(NOVEMBER_30, 10), (NOVEMBER_30 + DAY, -3)])

    assert [one.name for one in found] == ["2025-11", "2025-12", "2025"]
    assert [round(one.returned or 0, 3) for one in found] == [0.1, -0.1, -0.01]
    assert [round(one.drawdown or 0, 3) for one in found] == [0.0, 0.182, 0.182]
    assert [(one.trades, one.won) for one in found] == [(1, 1), (1, 0), (2, 1)]
    assert [one.net for one in found] == ["10.000000", "-11.000000", "-1.000000"]


def test_a_day_has_no_months() -> None:
    """A table of one row says nothing that the figures do not."""
    assert months_of(points(100, 101), []) == ()
    assert tables.months(_report()) == ""


def test_what_was_brought_in_is_no_return() -> None:
    """A deposit raises the equity, and neither return nor fall."""
    before, after = points(100, 100), points(0, 0, 150, 150, transfers=50_000_000)[2:]

    assert [one.returned for one in months_of([*before, *after], [])] == [0.0, 0.0, 0.0]


def test_an_account_that_is_worth_nothing_returns_nothing() -> None:
    """There is no share of nothing."""
    found = months_of(points(0, -1, -2, -3), [])

    assert {(one.returned, one.drawdown) for one in found} == {(None, None)}


def test_months_are_drawn_with_their_signs() -> None:
    """A share that is not defined is a question mark."""
    found = months_of(points(0, -1, -2, 5), [])
    html = tables.months(_report(months=found))

    assert "2025-12" in html
    assert "?" in html


@given(st.lists(st.floats(1, 1e6), min_size=4, max_size=300))
def test_months_of_a_year_compound_to_it(worth: list[float]) -> None:
    """Whatever happened, what the months returned is what the year did."""
    found = months_of(points(*worth), [])
    grown = 1.0
    for one in found:
        if len(one.name) > 4:
            grown *= 1 + (one.returned or 0)

    assert abs(grown - worth[-1] / worth[0]) < 1e-5 * max(worth) / min(worth)


def _report(**parts: object) -> Report:
    named = dict.fromkeys(
        ("source", "mode", "network", "account", "made_by", "profile", "strategy"), ""
    )
    unknown = dict.fromkeys(("began", "ended", "guarded", "run_hash", "commit", "frames"))
    whole = {"complete": True, "versions": {}, "tickers": ()}
    return Report(**{**named, **unknown, **whole, **parts})  # type: ignore[arg-type]
