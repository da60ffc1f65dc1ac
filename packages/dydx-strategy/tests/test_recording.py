"""The bundled recording, from its frames to the decisions."""

from dydx_conn import collect, load_recorded_stream
from dydx_data import market_views
from dydx_signals import scores
from dydx_strategy import Settings, decisions
from market import SECOND

chain = load_recorded_stream("quickstart").pipe(market_views(), scores(), decisions())


def test_the_recording_gets_a_modest_flow_of_explained_decisions():
    """The first within half a minute, some tens in all, each with its reason and scores."""
    start = collect(load_recorded_stream("quickstart"))[0].at
    made = collect(chain)

    assert made[0].at - start <= 30 * SECOND
    assert 10 <= len(made) <= 60
    assert all(one.reasons and one.scores for one in made)
    assert [one.id for one in made] == [f"D{count}" for count in range(1, len(made) + 1)]


def test_the_recording_is_traded_within_the_limits():
    """Gross exposure and the throttle hold on live frames too."""
    settings = Settings()
    targets: dict[str, float] = {}
    last: dict[str, int] = {}
    for one in collect(chain):
        if one.action == "hold":
            continue
        assert one.at - last.get(one.ticker, 0) >= settings.throttle_s * SECOND
        last[one.ticker] = one.at
        targets[one.ticker] = one.target_usdc
        assert sum(map(abs, targets.values())) <= settings.gross_usdc


def test_two_replays_of_the_recording_give_the_same_decisions():
    """Same frames, same decisions."""
    assert collect(chain) == collect(chain)
