"""The bundled recording, from its frames to the scores."""

from dydx_conn import collect, load_recorded_stream
from dydx_data import market_views
from dydx_signals import STANDARD, scores, signal
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
