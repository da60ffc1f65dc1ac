"""What a strategy is worth: the frames of a story, what a run comes to, and the words for it."""

import statistics

import edge
import pytest
from dydx_data import DataState, step
from edge import Mean, Result, crossing, many, row
from edge_wire import Story, frames_of
from market import SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_story_always_sends_the_same_frames(scenario: str) -> None:
    """Whatever happens in it, in the same order."""
    story = Story(scenario=scenario, seed=3, seconds=90, calm_s=5)

    assert [*frames_of(story)] == [*frames_of(story)]


def test_every_frame_of_a_story_is_readable() -> None:
    """The market is known, its book has two sides, and nothing is counted as trouble."""
    story = Story(scenario="calm", seed=3, seconds=60, markets=3)
    data = DataState()
    for frames in frames_of(story):
        for frame in frames:
            step(data, frame)

    assert len(data.views) == 3
    assert all(view.oracle and view.book.mid_price for view in data.views.values())
    assert not data.quality.counts


def test_what_is_gained_and_what_it_cost_are_what_prices_gave() -> None:
    """Two short walks: the default strategy trades, and its fees and slippage are its costs."""
    results = many(Story(scenario="calm", seed=0, seconds=900), ["rank"], (1, 2), 1)["rank"]

    assert all(one.fills and one.costs > 0.0005 * one.volume for one in results)
    assert all(one.gross == one.net + one.costs for one in results)


def test_a_mean_holds_zero_where_its_interval_does() -> None:
    """A row says how many seeds ended above 0, and the interval is 1.96 standard errors."""
    mean = Mean.of([-1.0, 1.0, 3.0])

    assert mean.holds_zero
    assert mean.half == pytest.approx(1.96 * statistics.stdev([-1, 1, 3]) / 3**0.5)
    assert not Mean.of([1.0, 1.1]).holds_zero
    made = [
        Result(strategy="x", net=n, costs=1.0, funding=0.0, volume=2.0, fills=2)
        for n in (-1.0, 1.0, 3.0)
    ]
    assert " 67% " in row("x", made)


def test_where_profit_crosses_zero_is_read_off_a_line() -> None:
    """Between the last amplitude that loses and the first that gains; or nowhere."""
    assert crossing([(0.0, -2.0), (12.0, -1.0), (24.0, 3.0)]) == 15.0
    assert crossing([(0.0, 1.0), (12.0, 2.0)]) is None


def test_the_table_is_printed_for_one_seed(capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each strategy, and whether a walk gave anything."""
    arguments = ["--seeds", "1", "--seconds", "60", "--jobs", "1", "--strategy", "rank"]

    assert edge.main(arguments) == 0
    assert "rank: gross +0.00 ±   0.00: no free money" in capsys.readouterr().out


def test_a_sweep_prints_where_profit_begins(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing was traded in a minute, so that it begins nowhere."""
    arguments = ["--seeds", "1", "--seconds", "60", "--jobs", "1", "--strategy", "rank"]

    assert edge.main([*arguments, "--scenario", "revert", "--sweep", "0,3"]) == 0
    assert "never crosses 0" in capsys.readouterr().out
