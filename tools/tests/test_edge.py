"""What a strategy is worth: the frames of a story, what a run comes to, and the words for it."""

import statistics
from pathlib import Path

import edge
import pytest
from bot.run.composition import Bot, Options
from bot.run.paper import PAPER, Paper, paper_account
from dydx_conn import CancelRequest, Frame, OrderRequest
from dydx_data import DataState, MarketView, step
from dydx_strategy import Allocator
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


@pytest.mark.parametrize(
    ("scenario", "strategy"), [("revert", "reversion"), ("pair", "pairs"), ("trend", "sniper")]
)
def test_each_strategy_gains_where_its_hypothesis_holds(scenario: str, strategy: str) -> None:
    """Two seeds of half an hour; what fifty come to is a run by hand."""
    story = Story(scenario=scenario, seed=0, seconds=2_000, step_s=2)
    results = many(story, [strategy], (1, 2), 1)[strategy]

    assert sum(one.net for one in results) > 0
    assert any(one.fills for one in results)


def test_carry_is_held_where_it_is_paid() -> None:
    """Books far above the oracle for two hours: a short in each market, paid each hour."""
    story = Story(scenario="funding-squeeze", seed=1, seconds=7_300, step_s=10)
    [one] = many(story, ["carry"], (1,), 1)["carry"]

    assert one.fills == 2
    assert one.funding > 0 < one.costs


def test_what_several_strategies_have_adds_up_to_the_account(tmp_path: Path) -> None:
    """To the quantum: positions, and what the account's collateral has gained or lost."""
    file = tmp_path / "mix.json"
    file.write_text('{"strategies": [{"use": "rank", "weight": 2}, {"use": "reversion"}]}')
    options = Options(strategy=str(file))
    bot = Bot(options)
    for frames in frames_of(Story(scenario="revert", seed=2, seconds=1_200, step_s=2)):
        play_all(bot, frames)
    strategy, ledger = bot.shown.strategy, bot.venue.ledger  # type: ignore[attr-defined]
    assert isinstance(strategy, Allocator)
    stakes = [one.stakes for one in strategy.results()]
    gained = sum(stake.paid for has in stakes for stake in has.values())
    held = {ticker: one.quantums for ticker, one in ledger.holdings.items()}

    assert not strategy.nobody
    assert bot.journal.counts["fill"] > 4
    assert gained == ledger.collateral - options.deposit * 10**6
    for ticker in {*held}.union(*stakes):
        theirs = [has[ticker].quantums for has in stakes if ticker in has]
        assert held.get(ticker, 0) == sum(theirs)


def play_all(bot: Bot, frames: list[Frame]) -> None:
    """Play a step's frames to one bot."""
    for frame in frames:
        views = step(bot.data, frame)
        bot.shown.last_frames.append(frame)
        for view in views:
            bot.see(view)
        bot.settle(frame)


# === One leg that never fills ===


class Lame(Paper):
    """A paper venue where no order of one market ever arrives that would open a position."""

    def __init__(self, lame: str) -> None:
        super().__init__(paper_account(PAPER), 10_000 * 10**6)
        self.lame = lame

    def step(self, event: MarketView | OrderRequest | CancelRequest) -> list[Frame]:
        if isinstance(event, OrderRequest) and event.ticker == self.lame:
            return []
        return super().step(event)


@pytest.mark.parametrize("lame", ["BTC-USD", "ETH-USD"])
def test_no_leg_of_a_pair_stays_alone(lame: str) -> None:
    """Through the gate and the venue: the other leg is off within half a minute, each time."""
    venue = Lame(lame)
    bot, alone, longest, seen = Bot(Options(strategy="pairs"), venue), 0, 0, False
    for frames in frames_of(Story(scenario="pair", seed=3, seconds=2_400, step_s=2)):
        play_all(bot, frames)
        alone = alone + 2 if venue.ledger.holdings else 0
        longest, seen = max(longest, alone), seen or alone > 0

    assert seen
    assert longest <= 30
