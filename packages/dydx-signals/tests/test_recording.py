"""The bundled recording, from its frames to the scores."""

from statistics import median

import pytest
from dydx_conn import Frame, collect, load_recorded_stream
from dydx_data import DataState, market_views, step
from dydx_signals import ALL, STANDARD, Score, Scorer, every, scores, signal
from reactivex import operators as ops
from tape import Read

READ = ops.map(Read.of)


def test_every_market_of_the_recording_gets_every_signal_within_the_first_half_minute():
    """Half a minute of a live market is enough to know all six."""
    made = collect(load_recorded_stream("quickstart").pipe(market_views(), scores(), READ))
    start, tickers = made[0].at, {one.ticker for one in made}

    whole = {
        one.ticker
        for one in made
        if one.at - start <= 30_000_000_000 and len(one.scores) == len(STANDARD)
    }

    assert len(tickers) == 3
    assert whole == tickers


def test_the_crash_of_the_recording_shows_in_every_signal_that_should_see_it():
    """Momentum at the bottom, rough, thin and busy: and calm before."""
    made = collect(load_recorded_stream("quickstart").pipe(market_views(), scores(), READ))
    half = made[0].at + (made[-1].at - made[0].at) // 2

    def seen(name: str) -> tuple[list[float], list[float]]:
        values = [(one.at < half, one.value(name)) for one in made]
        calm = [value for early, value in values if early and value is not None]
        return calm, [value for early, value in values if not early and value is not None]

    assert min(seen("momentum")[1]) < 2
    assert max(seen("volatility")[1]) > max(seen("volatility")[0])
    assert min(seen("liquidity")[1]) < min(seen("liquidity")[0])
    assert max(seen("volume")[1]) > 60


def test_two_replays_of_the_recording_give_the_same_scores():
    """The stream of one signal is the same every time."""
    chain = load_recorded_stream("quickstart").pipe(market_views(), scores(), signal("momentum"))

    assert collect(chain) == collect(chain)


@pytest.mark.parametrize("share", [0.6, 0.9])
def test_the_frames_from_a_scores_first_to_its_own_give_the_same_score(share):
    """Nothing outside its window counts, of any engine."""
    frames = collect(load_recorded_stream("account"))
    frames = frames[: int(len(frames) * share)]

    def end(part: list[Frame], ticker: str) -> dict[str, Score]:
        state, scorer = DataState(), Scorer(ALL)
        for frame in part:
            for view in step(state, frame):
                scorer.step(view)
        return {score.signal: score for score in scorer.scores(ticker)}

    for ticker in ("BTC-USD", "ETH-USD"):
        whole = end(frames, ticker)
        assert len(whole) > 12
        for first in {score.first for score in whole.values()}:
            within = end([frame for frame in frames if frame.seq >= first], ticker)
            for score in whole.values():
                if score.first == first:
                    assert within[score.signal].value == score.value


def test_a_calm_recording_is_as_usual_in_every_level():
    """By the median over all its markets, once a second: from 45 to 55."""
    chain = load_recorded_stream("account").pipe(market_views(), scores(), every(1), READ)
    made = collect(chain)

    for level in ("volume", "volatility", "liquidity"):
        values = [one.value(level) for one in made]
        assert 45 < median(value for value in values if value is not None) < 55
