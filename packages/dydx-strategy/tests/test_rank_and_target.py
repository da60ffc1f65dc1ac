"""The standard strategy: when it acts, when it does not, and what it says of both."""

from collections import defaultdict
from typing import Any

import pytest
from dydx_strategy import Decider, Decision, Holdings, RankAndTarget, Settings, Sniper
from hypothesis import given, settings
from hypothesis import strategies as st
from market import SECOND, Account, Market, stamp
from pydantic import ValidationError


def run(strategy, market: Market, *said: tuple[float, float]) -> list[Decision]:
    """Tell a strategy a market's momentum (the only weight) at some times."""
    made = [strategy.step(market.scored(at, momentum=value), Holdings()) for at, value in said]
    return [one for decided in made for one in decided]


def plain(**changes: Any) -> RankAndTarget:
    """Make a strategy that listens to momentum alone, in round figures, and seldom reports."""
    defaults: dict[str, Any] = {"weights": {"momentum": 1}, "market_usdc": 10_000, "report_s": 900}
    return RankAndTarget(Settings(**(defaults | changes)))


def opened(strategy: RankAndTarget, market: Market, value: float = 80) -> list[Decision]:
    """Look twice, so that a position is open from 5 s on."""
    return run(strategy, market, (0, value), (5, value))


def test_it_opens_long_above_the_threshold_and_says_why():
    """The reason carries the composite, the threshold and every score that entered."""
    strategy, market = RankAndTarget(), Market()
    scores = {"momentum": 80.0, "imbalance": 70.0, "funding": 50.0, "volume": 75.0}
    strategy.step(market.scored(0, **scores), Holdings())

    [decision] = strategy.step(market.scored(5, **scores), Holdings())

    # lean (30 · 0.6 + 20 · 0.3 + 0 · 0.1) = 24, lifted by 0.25 · 25 / 50 = 12.5 %
    assert decision.score == pytest.approx(77)
    assert (decision.action, decision.target_usdc, decision.previous_usdc) == ("target", 12_000, 0)
    assert decision.reasons == (
        "score 77.0 ≥ 60 to go long: momentum 80 · imbalance 70 · funding 50 · volume 75",
        "gross now 12,000 of 30,000 USDC",
    )
    assert (decision.ticker, decision.at, decision.urgency) == ("BTC-USD", stamp(5), 1.0)
    assert [score.signal for score in decision.scores] == list(scores)


def test_it_opens_short_below_the_mirrored_threshold():
    """40 is to a short what 60 is to a long; at the threshold the smallest size is earned."""
    [decision] = opened(plain(), Market(), 40)

    assert decision.target_usdc == -5_000
    assert decision.reasons[0] == "score 40.0 ≤ 40 to go short: momentum 40"


def test_the_size_grows_with_the_score_up_to_the_full_one():
    """Half at 60, all at 75, straight in between."""
    sizes = [opened(plain(), Market(), value)[0].target_usdc for value in (60, 67.5, 75, 90)]

    assert sizes == [5_000, 7_500, 10_000, 10_000]


def test_between_the_thresholds_it_neither_opens_nor_closes():
    """Hysteresis: 55 opens nothing, and closes nothing that 80 opened."""
    idle, busy, market = plain(), plain(change_share=1.0), Market()
    opened(busy, market)

    assert run(idle, market, (0, 55), (5, 55), (10, 55)) == []
    assert run(busy, market, (40, 55), (45, 55)) == []


def test_it_closes_below_the_exit_threshold_after_the_holding_time():
    """30 s must pass since it opened; then a score below 52 ends it."""
    strategy, market = plain(), Market()
    opened(strategy, market)

    early = run(strategy, market, (10, 20), (15, 20), (30, 20))
    [closed] = run(strategy, market, (35, 20))

    assert early == []
    assert (closed.target_usdc, closed.previous_usdc) == (0, 10_000)
    assert closed.reasons[0] == "score 20.0 < 52 to stay long: momentum 20"


def test_a_bad_score_must_last_before_it_closes():
    """With 20 s to confirm, one good look in between begins the count anew."""
    strategy, market = plain(confirm_s=20), Market()
    opened(strategy, market)

    wavering = run(strategy, market, (35, 20), (45, 20), (50, 80), (55, 20), (70, 20))
    [closed] = run(strategy, market, (75, 20))

    assert wavering == []
    assert closed.target_usdc == 0


def test_it_turns_round_only_by_closing_first():
    """From long to short there are two decisions, a throttle apart."""
    strategy, market = plain(), Market()
    opened(strategy, market)

    decided = run(strategy, market, *((at, 20) for at in range(35, 60, 5)))

    assert [(one.at - stamp(0)) // SECOND for one in decided] == [35, 45]
    assert [one.target_usdc for one in decided] == [0, -10_000]


def test_it_resizes_only_when_the_change_is_worth_it():
    """A tenth less is noise; a half less is not."""
    strategy, market = plain(), Market()
    opened(strategy, market)

    assert run(strategy, market, (36, 72)) == []
    [resized] = run(strategy, market, (41, 61))

    assert (resized.target_usdc, resized.previous_usdc) == (5_333, 10_000)
    assert resized.reasons[0] == "score 61.0 earns 5,333 USDC: momentum 61"


def test_a_short_resizes_on_its_own_side():
    """Growing a short makes it more negative."""
    strategy, market = plain(), Market()
    opened(strategy, market, 40)

    [resized] = run(strategy, market, (40, 10))

    assert (resized.previous_usdc, resized.target_usdc) == (-5_000, -10_000)


def test_it_looks_no_more_often_than_told():
    """Between two looks scores are only remembered."""
    strategy, market = plain(look_s=10), Market()

    assert run(strategy, market, (0, 80), (4, 80), (9.9, 80)) == []
    assert len(run(strategy, market, (10, 80))) == 1


def test_late_scores_are_remembered_and_decide_nothing():
    """Time that steps back is not time for a look."""
    strategy, market = plain(), Market()
    opened(strategy, market)

    assert run(strategy, market, (2, 10), (1, 10)) == []


def test_the_strongest_markets_come_first_and_places_are_few():
    """With two places the two largest distances to 50 are taken, long or short."""
    strategy = plain(positions=2)
    said = {"A-USD": 65, "B-USD": 15, "C-USD": 80}
    markets = {ticker: Market(ticker) for ticker in said}
    for ticker, value in said.items():
        strategy.step(markets[ticker].scored(0, momentum=value), Holdings())

    decided = strategy.step(markets["A-USD"].scored(5, momentum=65), Holdings())

    assert [(one.ticker, one.target_usdc) for one in decided] == [
        ("B-USD", -10_000),
        ("C-USD", 10_000),
    ]


def test_what_is_held_keeps_its_place_from_a_stronger_newcomer():
    """Ranking alone never makes it trade; the one left out hears why."""
    strategy, held, newcomer = plain(positions=1, report_s=5), Market("A-USD"), Market("B-USD")
    opened(strategy, held, 65)

    strategy.step(newcomer.scored(6, momentum=95), Holdings())
    [hold] = strategy.step(newcomer.scored(10, momentum=95), Holdings())

    assert (hold.action, hold.ticker, hold.target_usdc) == ("hold", "B-USD", 0)
    assert hold.reasons[0] == "no place: 1 of 1 markets held"


def test_gross_exposure_cuts_the_last_target_and_then_ends_it():
    """What is left of the limit is given to the next in rank; crumbs are not."""
    strategy = plain(gross_usdc=15_200, change_usdc=500)
    markets = [Market(f"{name}-USD") for name in "ABC"]
    for market, value in zip(markets, (95, 90, 85), strict=True):
        strategy.step(market.scored(0, momentum=value), Holdings())

    decided = list(strategy.step(markets[0].scored(5, momentum=95), Holdings()))

    assert [one.target_usdc for one in decided] == [10_000, 5_200]
    assert decided[1].reasons[1] == "gross now 15,200 of 15,200 USDC"


def test_without_room_it_says_so():
    """A limit that is used up is a reason too."""
    strategy, first, second = plain(gross_usdc=10_200, report_s=5), Market("A-USD"), Market("B-USD")
    opened(strategy, first)
    strategy.step(second.scored(6, momentum=95), Holdings())

    [hold] = strategy.step(second.scored(10, momentum=95), Holdings())

    assert hold.reasons[0] == "no room: 10,000 of 10,200 USDC in use"


# === Damping ===


def test_extreme_volatility_and_poor_liquidity_silence_a_market():
    """Only the distance to 50 shrinks: a rough market has no opinion, not a low one."""
    strategy, market = plain(report_s=5), Market()
    strategy.step(market.scored(0, momentum=90), Holdings())

    [hold] = strategy.step(
        market.scored(5, momentum=90, volatility=86.25, liquidity=15), Holdings()
    )

    # 40 · (90 - 86.25) / 15 · (15 - 5) / 20 = 5
    assert hold.score == pytest.approx(55)
    assert hold.reasons[0] == (
        "score 55.0 < 60 to go long: momentum 90 · volatility 86 (damps to 25 %)"
        " · liquidity 15 (damps to 50 %)"
    )


def test_a_market_without_enough_signals_has_no_opinion():
    """Imbalance and funding alone are 40 % of the weights, and 60 % are asked for."""
    strategy, market = RankAndTarget(Settings(report_s=5)), Market()
    strategy.step(market.scored(0, imbalance=95, funding=95), Holdings())

    [hold] = strategy.step(market.scored(5, imbalance=95, funding=95), Holdings())

    assert (hold.score, hold.action) == (50, "hold")
    assert hold.reasons[0] == "not judged: it has no momentum yet"


def test_a_figure_that_rounds_to_the_threshold_shows_the_difference():
    """A score of 60.0 below 60 would be a riddle."""
    strategy, market = plain(report_s=5), Market()

    [hold] = run(strategy, market, (0, 59.99), (5, 59.99))

    assert hold.reasons[0] == "score 59.990 < 60 to go long: momentum 60"


# === Trouble ===

TROUBLES = {
    "its book is unknown": lambda market: market.close(30),
    "its book has not both sides": lambda market: market.book(30, ask=None),
    "its status is PAUSED": lambda market: market.trading(30, status="PAUSED"),
    "its data are stale": lambda market: market.silence(200),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_market_in_trouble_is_closed_with_that_reason(trouble):
    """What cannot be judged is not held, whatever its last score and holding time."""
    strategy, market = plain(patience_s=5), Market()
    opened(strategy, market)
    TROUBLES[trouble](market)

    first = run(strategy, market, (30, 90))
    [closed] = run(strategy, market, (35, 90))

    assert first == []
    assert (closed.target_usdc, closed.urgency) == (0, 1)
    assert closed.reasons[0] == f"close: {trouble} for 5.0 s"


def test_trouble_that_passes_within_the_patience_changes_nothing():
    """A reconnection must not cost a round trip."""
    strategy, market = plain(patience_s=8), Market()
    opened(strategy, market)
    market.close(30)
    during = run(strategy, market, (30, 90), (35, 90))
    market.book(37)

    assert during == []
    assert run(strategy, market, (40, 90), (50, 90)) == []


@pytest.mark.parametrize(
    ("fields", "trouble"),
    [
        ({"oraclePrice": None}, "its oracle price is unknown"),
        ({"status": None}, "its status is unknown"),
    ],
)
def test_a_market_in_trouble_is_never_opened(fields, trouble):
    """An unknown is a danger, not a zero."""
    strategy, market = plain(report_s=5), Market(**fields)

    [hold] = run(strategy, market, (0, 95), (5, 95))

    assert hold.action == "hold"
    assert hold.reasons[0] == f"not judged: {trouble}"


# === Holds ===


def test_a_hold_says_why_once_in_a_while():
    """The absence of a trade has a reason too, but not five times a minute."""
    strategy, market = plain(report_s=30), Market()

    decided = run(strategy, market, *((at, 57) for at in range(0, 95, 5)))

    assert [(one.at - stamp(0)) // SECOND for one in decided] == [30, 60, 90]
    assert decided[0].reasons == (
        "score 57.0 < 60 to go long: momentum 57",
        "first of 1 markets looked at, none changes",
    )


def test_a_hold_of_what_is_held_names_the_target_it_keeps():
    """`previous_usdc` and `target_usdc` are the same, and the reason is the exit's."""
    strategy, market = plain(report_s=30), Market()
    opened(strategy, market)

    [hold] = run(strategy, market, (40, 80))

    assert (hold.action, hold.target_usdc, hold.previous_usdc) == ("hold", 10_000, 10_000)
    assert hold.reasons[0] == "score 80.0 ≥ 52 to stay long: momentum 80"


@pytest.mark.parametrize(
    ("at", "reason"),
    [(10, "last target 5 s ago < 10 s between two"), (20, "held 15 s < 30 s")],
)
def test_a_hold_names_the_wait_that_binds(at, reason):
    """Throttle first, then the holding time."""
    strategy, market = plain(report_s=5), Market()
    opened(strategy, market)

    [hold] = run(strategy, market, (at, 10))

    assert hold.reasons[0] == reason


def test_sniper_waits_for_an_outstanding_market_and_takes_one():
    """Seventy does not move it; ninety does, whole."""
    patient, keen, market = Sniper(), Sniper(), Market()

    def said(value: float) -> dict[str, float]:
        return {"momentum": value, "imbalance": value, "funding": value}

    for at in (0, 5):
        none = list(patient.step(market.scored(at, **said(70)), Holdings()))
        shots = list(keen.step(market.scored(at, **said(90)), Holdings()))

    assert none == []
    assert [one.target_usdc for one in shots] == [12_000]
    assert (Sniper.name, keen.settings.positions) == ("sniper", 1)


# === Settings ===


@pytest.mark.parametrize(
    "wrong",
    [
        {"enter": 50},
        {"enter": 80},
        {"exit": 61},
        {"exit": 40},
        {"weights": {}},
        {"weights": {"momentum": 0}},
        {"volatility_calm": 90},
        {"liquidity_calm": 4},
        {"gross_usdc": float("inf")},
        {"look_s": 0},
        {"change_usdc": 7_000},
        {"unheard_of": 1},
    ],
)
def test_settings_that_contradict_are_refused(wrong):
    """A threshold that cannot be meant is found before the first trade."""
    with pytest.raises(ValidationError):
        Settings(**wrong)


def test_settings_cannot_be_changed_under_a_running_strategy():
    """They are frozen."""
    with pytest.raises(ValidationError):
        Settings().enter = 70


# === What never happens ===

TICKERS = ("A-USD", "B-USD", "C-USD", "D-USD")
said_at = st.lists(
    st.tuples(
        st.sampled_from(TICKERS),
        st.floats(min_value=-3, max_value=15),
        st.floats(min_value=0, max_value=100),
        st.sampled_from(["", "", "", "close", "book", "pause", "resume"]),
    ),
    max_size=120,
)
chosen = st.builds(
    Settings,
    gross_usdc=st.floats(min_value=1_000, max_value=100_000),
    positions=st.integers(min_value=1, max_value=4),
    throttle_s=st.floats(min_value=0.1, max_value=60),
    holding_s=st.floats(min_value=0, max_value=60),
    look_s=st.floats(min_value=0.1, max_value=20),
)
HAPPENS = {
    "close": lambda market, at: market.close(at),
    "book": lambda market, at: market.book(at),
    "pause": lambda market, at: market.trading(at, status="PAUSED"),
    "resume": lambda market, at: market.trading(at, status="ACTIVE"),
}


def decided(said, config: Settings) -> list[Decision]:
    """Decide over four markets whose scores and troubles come as they may."""
    decider, account, at = Decider(lambda: RankAndTarget(config)), Account(), 0.0
    markets = {ticker: Market(ticker) for ticker in TICKERS}
    made = []
    for ticker, pace, value, trouble in said:
        at = max(at + pace, 0.0)
        if trouble:
            HAPPENS[trouble](markets[ticker], at)
        decider.step(account.held)
        scored = markets[ticker].scored(at, momentum=value, imbalance=value)
        made += account.take(decider.step(scored))
    return made


@settings(max_examples=60, deadline=None)
@given(said_at, chosen)
def test_it_never_exceeds_its_limits_and_never_hurries(said, config):
    """Gross, per-market and place limits hold after each decision; the throttle between two."""
    targets: dict[str, float] = defaultdict(float)
    last: dict[str, int] = {}
    for one in decided(said, config):
        assert one.previous_usdc == targets[one.ticker]
        assert 0 <= one.urgency <= 1
        assert 0 <= one.score <= 100
        assert one.reasons
        if one.action == "hold":
            assert one.target_usdc == one.previous_usdc
            continue
        assert one.target_usdc != one.previous_usdc
        assert one.target_usdc * one.previous_usdc >= 0
        if one.ticker in last:
            assert one.at - last[one.ticker] >= round(config.throttle_s * 1e9)
        last[one.ticker] = one.at
        targets[one.ticker] = one.target_usdc
        assert sum(map(abs, targets.values())) <= config.gross_usdc * (1 + 1e-12)
        assert max(map(abs, targets.values())) <= config.market_usdc
        assert sum(1 for target in targets.values() if target) <= config.positions


@settings(max_examples=20, deadline=None)
@given(said_at)
def test_the_same_scores_give_the_same_decisions(said):
    """No clock, no chance."""
    assert decided(said, Settings()) == decided(said, Settings())
