"""What falls below a threshold, lasts too long, or is due: noticed once, until it is over."""

from typing import Any

import pytest
from bot.config.notify import NotifySettings
from bot.notify.looks import Figures, Look, Noticed, next_at, step, summary_of, usdc
from bot.notify.notice import Notice

SECOND = 10**9
NOON = 1_796_040_000 * SECOND  # 2026-11-30 12:00:00 UTC
SETTINGS = NotifySettings(summary_at="", disconnected_s=30, lag_s=5, wait_s=10)


def run(*looks: dict[str, Any], settings: NotifySettings = SETTINGS) -> list[Notice]:
    """Look at an account once a second, as it stands by then."""
    state, found = Noticed(), list[Notice]()
    for n, fields in enumerate(looks):
        given: dict[str, Any] = {"at": NOON + n * SECOND, "account": "dydx1…/0"} | fields
        look = Look(**given)
        state, notices = step(state, look, settings)
        found += notices
    return found


def titles(*looks: dict[str, Any]) -> list[str]:
    """Return what is noticed in short."""
    return [f"{one.level}: {one.title}" for one in run(*looks)]


def test_a_distance_is_noticed_as_it_falls_below_each_level() -> None:
    """The lowest is critical; what moves about a level is noticed once."""
    moves = [0.3, 0.24, 0.26, 0.24, 0.14, 0.09, 0.101, 0.09]

    assert titles(*({"distance": one} for one in moves)) == [
        "warning: 24.0 % from liquidation, below 25.0 %",
        "warning: 14.0 % from liquidation, below 15.0 %",
        "critical: 9.0 % from liquidation, below 10.0 %",
    ]


def test_a_fall_through_all_levels_is_one_notice() -> None:
    """Of the lowest, and negative where it is passed."""
    assert titles({"distance": 0.5}, {"distance": -0.02}) == [
        "critical: -2.0 % from liquidation, below 10.0 %"
    ]


def test_a_distance_that_is_clear_of_all_levels_is_noticed_too() -> None:
    """And the next fall again."""
    assert titles(*({"distance": one} for one in (0.2, 0.26, 0.28, 0.2))) == [
        "warning: 20.0 % from liquidation, below 25.0 %",
        "info: 28.0 % from liquidation, clear of all levels",
        "warning: 20.0 % from liquidation, below 25.0 %",
    ]


def test_what_is_unknown_is_below_nothing_and_clear_of_nothing() -> None:
    """It stays as it was last known."""
    assert titles({"distance": 0.2}, {"distance": None}, {"distance": 0.2}, {}) == [
        "warning: 20.0 % from liquidation, below 25.0 %"
    ]


def test_a_connection_is_noticed_once_it_is_lost_for_long_and_when_it_is_back() -> None:
    """One that comes back soon is no news."""
    short = [{"lost": (n, "reset")} for n in range(20)]
    long = [{"lost": (float(n), "reset")} for n in range(29, 40)]

    assert titles(*short, {}, *long, {}, {}) == [
        "critical: disconnected for 30 s", "info: connected again",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("lag_s", "warning: frames wait 11.0 s"),
        ("wait_s", "warning: a rate limit makes requests wait 11 s"),
    ],
)
def test_what_takes_too_long_is_noticed_until_it_is_well_below(name: str, title: str) -> None:
    """Half of the limit is."""
    seen = [{name: seconds} for seconds in (1.0, 11.0, 9.0, 11.0, 1.0, 11.0)]

    assert titles(*seen) == [title, title]


def test_a_trouble_is_noticed_once() -> None:
    """Each by where it is."""
    disk, both = (("recorder", "disk full"),), (("recorder", "disk full"), ("audit", "disk full"))

    assert [one.title for one in run({"troubles": disk}, {"troubles": disk}, {"troubles": both})] == [
        "trouble with recorder", "trouble with audit",
    ]  # fmt: skip


BEFORE = Figures(equity=10_000 * 10**6, profit=0, fees=0, funding=0)
AFTER = Figures(
    equity=9_950 * 10**6, profit=-50 * 10**6, fees=7 * 10**6, funding=-1, fills=12, guard=1,
    rejected=2, losses=3, faults=4,
)  # fmt: skip


def test_a_summary_is_due_at_its_time_of_day_and_counts_since_the_last() -> None:
    """In the words of the panels; the distance is the closest of that time."""
    settings = NotifySettings(summary_at="13:00", timezone="Europe/Berlin")  # 12:00 UTC
    moves = [
        {"at": NOON - 2 * SECOND, "figures": Figures()},  # equity is not known yet
        {"at": NOON - SECOND, "figures": BEFORE, "distance": 0.4},
        {"at": NOON, "figures": AFTER, "distance": 0.5},
        {"at": NOON + SECOND, "figures": AFTER},
        {"at": NOON + 86_400 * SECOND, "figures": AFTER},
    ]
    day, next_day = run(*moves, settings=settings)

    assert day.title == "summary since 2026-11-30 11:59:58 UTC"
    assert day.words == (
        "equity 9,950.00 USDC, PnL -50.00 USDC, fees 7.00 USDC, funding 0.00 USDC, 12 fills, "
        "closest to liquidation 40.0 %, guard acted once, 2 orders rejected, connections lost 3 "
        "times, 4 faults in what was received"
    )
    assert "PnL +0.00 USDC" in next_day.words
    assert "0 fills, closest to liquidation 50.0 %" in next_day.words


def test_of_what_is_unknown_a_summary_says_so() -> None:
    """And not that it is nothing."""
    words = summary_of(Noticed(), Look(at=NOON)).words

    assert words.startswith("equity unknown, PnL unknown, fees unknown, funding unknown, 0 fills")
    assert usdc(-1) == "0.00 USDC"


@pytest.mark.parametrize(
    ("clock", "zone", "hours"),
    [
        ("12:00", "UTC", 24),
        ("13:30", "UTC", 1.5),
        ("11:00", "UTC", 23),
        ("13:00", "Asia/Tokyo", 16),
    ],
)
def test_a_time_of_day_is_due_next_where_it_is(clock: str, zone: str, hours: float) -> None:
    """Today if it is to come, else tomorrow."""
    assert next_at(clock, zone, NOON) == NOON + round(hours * 3_600) * SECOND


def test_a_day_on_which_clocks_change_is_shorter() -> None:
    """The summary comes at its time of day all the same."""
    before = 1_774_700_000 * SECOND  # 2026-03-28 12:13:20 UTC, a day before summer time begins

    due = next_at("08:00", "Europe/Berlin", before)

    assert due == 1_774_764_000 * SECOND  # 06:00 UTC
