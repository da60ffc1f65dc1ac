"""The bundled recording, from its frames to the decisions of an account that fills at once."""

import pytest
from dydx_conn import collect, fold, load_recorded_stream
from dydx_data import market_views
from dydx_signals import Scored, scores
from dydx_strategy import Decider, Decision, RankSettings
from market import SECOND, Account


def at_once(state: tuple[Decider, Account], scored: Scored) -> list[Decision]:
    """Decide, and hold each target at once."""
    decider, account = state
    decider.step(account.held)
    return account.take(decider.step(scored))


CHAIN = load_recorded_stream("quickstart").pipe(
    market_views(), scores(), fold(lambda: (Decider(), Account()), at_once)
)


@pytest.fixture(scope="module")
def decided() -> list[Decision]:
    """Decide once for all tests here."""
    return collect(CHAIN)


def test_the_recording_gets_a_modest_flow_of_explained_decisions(decided):
    """The first within half a minute, some tens in all, each with its reason and scores."""
    start = collect(load_recorded_stream("quickstart"))[0].at

    assert decided[0].at - start <= 30 * SECOND
    assert 10 <= len(decided) <= 60
    assert all(one.reasons and one.scores for one in decided)
    assert [one.id for one in decided] == [f"D{count}" for count in range(1, len(decided) + 1)]


def test_the_recording_is_traded_within_the_limits(decided):
    """Gross exposure and the throttle hold on live frames too."""
    settings = RankSettings()
    targets: dict[str, float] = {}
    last: dict[str, int] = {}
    for one in decided:
        if one.action == "hold":
            continue
        if abs(one.target_usdc) > abs(one.previous_usdc):
            assert one.at - last.get(one.ticker, 0) >= settings.throttle_s * SECOND
        last[one.ticker] = one.at
        targets[one.ticker] = one.target_usdc
        assert sum(map(abs, targets.values())) <= settings.gross_share * 10_000


def test_two_replays_of_the_recording_give_the_same_decisions(decided):
    """Same frames, same decisions."""
    assert collect(CHAIN) == decided
