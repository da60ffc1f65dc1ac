"""The standard strategy: when it acts, when it does not, and the reasons for both."""

from collections.abc import Iterator
from typing import Any

import pytest
from dydx_signals import Scored
from dydx_strategy import Decider, Decision, Outcome, RankAndTarget, RankSettings
from hypothesis import given, settings
from hypothesis import strategies as st
from market import SECOND, Account, Market, stamp
from pydantic import ValidationError


class Tried(RankAndTarget):
    """The strategy, and an account in which each target is held at once."""

    def __init__(self, config: RankSettings | None = None, account: Account | None = None) -> None:
        super().__init__(config)
        self.account = account or Account()

    def look(self, scored: Scored) -> list[Decision]:
        """Take scores in, and hold what is decided."""
        return self.account.take(self.step(scored, self.account.held))


def run(strategy: Tried, market: Market, *looks: tuple[float, float]) -> list[Decision]:
    """Let a market's momentum (the only weight) be this at some times."""
    return [one for at, value in looks for one in strategy.look(market.scored(at, momentum=value))]


def plain(account: Account | None = None, **changes: Any) -> Tried:
    """Make a strategy that listens to momentum alone, in round figures, and seldom reports."""
    defaults: dict[str, Any] = {"weights": {"momentum": 1}, "market_share": 1.0, "report_s": 900}
    return Tried(RankSettings(**(defaults | changes)), account)


def opened(strategy: Tried, market: Market, value: float = 80) -> list[Decision]:
    """Look twice, so that a position is open from 5 s on."""
    return run(strategy, market, (0, value), (5, value))


def test_it_opens_long_above_the_threshold_with_its_reason():
    """The reason carries the composite, the threshold and every score that entered."""
    strategy, market = Tried(), Market()
    scores = {"momentum": 80.0, "imbalance": 70.0, "funding": 50.0, "volume": 75.0}
    strategy.look(market.scored(0, **scores))

    [decision] = strategy.look(market.scored(5, **scores))

    # lean (30 · 0.6 + 20 · 0.3 + 0 · 0.1) = 24, lifted by 0.25 · 25 / 50 = 12.5 %
    assert decision.score == pytest.approx(77)
    assert (decision.action, decision.target_usdc, decision.previous_usdc) == ("target", 12_000, 0)
    assert decision.reasons == (
        "score 77.0 ≥ 60 to go long: momentum 80 · imbalance 70 · funding 50 · volume 75",
        "gross now 0, then 12,000 of 30,000 USDC",
    )
    assert (decision.ticker, decision.at, decision.urgency) == ("BTC-USD", stamp(5), 1.0)
    assert [score.signal for score in decision.scores] == list(scores)


def test_three_markets_have_a_place_unless_it_is_set_otherwise():
    """Four earn half a share each, 18,000 of 30,000 USDC in all: the last waits for a place."""
    strategy = Tried()
    markets = [Market(f"{name}-USD") for name in ("BTC", "ETH", "SOL", "XRP")]
    scores = {"momentum": 60.0, "imbalance": 60.0, "funding": 60.0}
    for market in markets:
        strategy.look(market.scored(0, **scores))

    made = strategy.look(markets[0].scored(5, **scores))

    assert [(one.ticker, one.target_usdc) for one in made] == [
        ("BTC-USD", 6_000),
        ("ETH-USD", 6_000),
        ("SOL-USD", 6_000),
    ]


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
    """With 20 s to confirm, one good look in between restarts the count."""
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


def test_it_looks_no_more_often_than_set():
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
    values = {"A-USD": 65, "B-USD": 15, "C-USD": 80}
    markets = {ticker: Market(ticker) for ticker in values}
    for ticker, value in values.items():
        strategy.look(markets[ticker].scored(0, momentum=value))

    decided = strategy.look(markets["A-USD"].scored(5, momentum=65))

    assert [(one.ticker, one.target_usdc) for one in decided] == [
        ("B-USD", -10_000),
        ("C-USD", 10_000),
    ]


def test_what_is_held_keeps_its_place_from_a_stronger_newcomer():
    """Ranking alone never makes it trade; the one left out gets a reason."""
    strategy, held, newcomer = plain(positions=1, report_s=5), Market("A-USD"), Market("B-USD")
    opened(strategy, held, 65)

    strategy.look(newcomer.scored(6, momentum=95))
    [hold] = strategy.look(newcomer.scored(10, momentum=95))

    assert (hold.action, hold.ticker, hold.target_usdc) == ("hold", "B-USD", 0)
    assert hold.reasons[0] == "no place: 1 of 1 markets held"


def test_gross_exposure_cuts_the_last_target_and_then_ends_it():
    """What is left of the limit is given to the next in rank; crumbs are not."""
    strategy = plain(gross_share=1.52)
    markets = [Market(f"{name}-USD") for name in "ABC"]
    for market, value in zip(markets, (95, 90, 85), strict=True):
        strategy.look(market.scored(0, momentum=value))

    decided = list(strategy.look(markets[0].scored(5, momentum=95)))

    assert [one.target_usdc for one in decided] == [10_000, 5_200]
    assert decided[1].reasons[1] == "gross now 0, then 15,200 of 15,200 USDC"


def test_without_room_a_hold_has_that_reason():
    """A limit that is used up is a reason too."""
    strategy, first, second = plain(gross_share=1.02, report_s=5), Market("A-USD"), Market("B-USD")
    opened(strategy, first)
    strategy.look(second.scored(6, momentum=95))

    [hold] = strategy.look(second.scored(10, momentum=95))

    assert hold.reasons[0] == "no room: 10,000 of 10,200 USDC in use"


# === Damping ===


def test_extreme_volatility_and_poor_liquidity_silence_a_market():
    """Only the distance to 50 shrinks: a rough market has no opinion, not a low one."""
    strategy, market = plain(report_s=5), Market()
    strategy.look(market.scored(0, momentum=90))

    [hold] = strategy.look(market.scored(5, momentum=90, volatility=86.25, liquidity=15))

    # 40 · (90 - 86.25) / 15 · (15 - 5) / 20 = 5
    assert hold.score == pytest.approx(55)
    assert hold.reasons[0] == (
        "score 55.0 < 60 to go long: momentum 90 · volatility 86 (damps to 25 %)"
        " · liquidity 15 (damps to 50 %)"
    )


def test_a_market_without_enough_signals_has_no_opinion():
    """Imbalance and funding alone are 40 % of the weights, and 60 % are required."""
    strategy, market = Tried(RankSettings(report_s=5)), Market()
    strategy.look(market.scored(0, imbalance=95, funding=95))

    [hold] = strategy.look(market.scored(5, imbalance=95, funding=95))

    assert (hold.score, hold.action) == (50, "hold")
    assert hold.reasons[0] == "not judged: it has no momentum yet"


def test_a_figure_that_rounds_to_the_threshold_shows_the_difference():
    """A score of 60.0 below 60 would be a riddle."""
    strategy, market = plain(report_s=5), Market()

    [hold] = run(strategy, market, (0, 59.99), (5, 59.99))

    assert hold.reasons[0] == "score 59.990 < 60 to go long: momentum 60"


def test_a_score_that_is_no_riddle_has_one_digit():
    """59.6 is clear enough."""
    strategy, market = Tried(RankSettings(weights={"momentum": 1}, report_s=5)), Market()
    [hold] = run(strategy, market, (0, 59.6), (5, 59.6))

    assert hold.reasons[0] == "score 59.6 < 60 to go long: momentum 60"


# === Trouble ===

TROUBLES = {
    "the book is unknown": lambda market: market.close(30),
    "the book is one-sided": lambda market: market.book(30, ask=None),
    "the status is unknown": lambda market: setattr(market.view, "status", ""),
    "the data are stale": lambda market: market.silence(200),
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
    assert (closed.target_usdc, closed.urgency) == (0, 0.9)
    assert closed.reasons[0] == f"close: {trouble} (5.0 s)"


def test_what_a_restart_found_is_not_closed_while_its_first_scores_are_on_their_way():
    """Candles of the time before may take a minute to come; scores that were there may not."""
    strategy, market = plain(Account(BTC_USD=5_000.0), holding_s=0), Market()
    first = [made for at in (0, 5, 55) for made in strategy.look(market.scored(at, imbalance=50))]
    [closed] = strategy.look(market.scored(65, imbalance=50))

    assert [hold.reasons for hold in first] == [
        (
            "found +5,000 USDC: adopted, it may be closed",
            "it has no momentum yet (0.0 s < 60 s)",
        )
    ]
    assert closed.reasons[0] == "close: it has no momentum yet (60.0 s)"


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
        ({"oraclePrice": None}, "the oracle price is unknown"),
        ({"status": None}, "the status is unknown"),
    ],
)
def test_a_market_in_trouble_is_never_opened(fields, trouble):
    """An unknown is a danger, not a zero."""
    strategy, market = plain(report_s=5), Market(**fields)

    [hold] = run(strategy, market, (0, 95), (5, 95))

    assert hold.action == "hold"
    assert hold.reasons[0] == f"not judged: {trouble}"


# === Holds ===


def test_a_hold_gives_the_reason_once_in_a_while():
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
    [(20, "held 15 s < 30 s"), (36, "score 10.0 < 52 to stay long for 0 s < 45 s")],
)
def test_a_hold_names_the_wait_that_binds(at, reason):
    """The holding time first, then the time to confirm."""
    strategy, market = plain(report_s=5, confirm_s=45), Market()
    opened(strategy, market)

    [hold] = run(strategy, market, (at, 10))

    assert hold.reasons[0] == reason


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
        {"gross_share": float("inf")},
        {"look_s": 0},
        {"least_share": 0.7},
        {"unknown_name": 1},
    ],
)
def test_settings_that_contradict_are_refused(wrong):
    """A threshold that cannot be meant is found before the first trade."""
    with pytest.raises(ValidationError):
        RankSettings(**wrong)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"weights": {"momentun": 1}}, r"imbalance, .*, got 'momentun': did you mean 'momentum'\?"),
        ({"weights": {"momentum": 1, "x": 1}}, r"expected signals \(.*\), got 'x' \["),
        ({"entre": 61}, r"expected no setting entre, got 61: did you mean 'enter'\?"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_nearest(wrong, words):
    """A weight of a signal that nothing scores would be taken, and nothing ever traded."""
    with pytest.raises(ValidationError, match=words):
        RankSettings(**wrong)


def test_signals_of_ones_own_may_have_a_weight():
    """Whoever scores them says so in a subclass; what has a weight is requested of the run."""

    class Mine(RankSettings):
        scored = (*RankSettings.scored, "mine")

    settings = Mine(weights={"mine": 0.5, "trend": 0.5})

    assert RankAndTarget(settings).signals == ("mine", "trend")


def test_a_refused_exit_names_what_it_has_to_be_above():
    """The mirror of what opens: 100 less than `enter`, in the figures of the settings."""
    with pytest.raises(ValidationError, match="expected exit above 35, got 30"):
        RankSettings(enter=65, exit=30)


ABOVE_ZERO = ("gross_share", "market_share", "quorum", "smallest_share", "look_s", "change_share",
              "least_share", "report_s")  # fmt: skip
FROM_ZERO = ("volume_lift", "holding_s", "confirm_s", "patience_s", "liquidity_extreme")
UP_TO_ONE = ("quorum", "volume_lift", "smallest_share", "change_share")
UP_TO_A_HUNDRED = ("full", "volatility_extreme", "liquidity_calm")


@pytest.mark.parametrize("name", [*ABOVE_ZERO, *FROM_ZERO])
def test_a_share_or_a_time_may_be_as_small_as_it_is_meant(name):
    """Half of anything and less; nothing at all where that switches it off."""
    least: dict[str, Any] = {} if name == "least_share" else {"least_share": 0.001}
    small = [0.1, 0.5, *([0.0] if name in FROM_ZERO else [])]
    assert [getattr(RankSettings(**{**least, name: v}), name) for v in small] == small
    with pytest.raises(ValidationError):
        RankSettings(**{**least, name: -0.001 if name in FROM_ZERO else 0.0})


@pytest.mark.parametrize("name", [*UP_TO_ONE, *UP_TO_A_HUNDRED])
def test_a_share_or_a_score_has_a_largest(name):
    """All of it; a score ends at 100."""
    most = 1.0 if name in UP_TO_ONE else 100.0
    all_of_it: dict[str, Any] = {name: most}
    more: dict[str, Any] = {name: most + 0.001}
    assert getattr(RankSettings(**all_of_it), name) == most
    with pytest.raises(ValidationError):
        RankSettings(**more)


def test_settings_cannot_be_changed_under_a_running_strategy():
    """They are frozen."""
    with pytest.raises(ValidationError):
        RankSettings().enter = 70


# === What is held ===


def test_a_position_found_at_the_start_is_adopted_and_may_be_closed():
    """It is not opened again, nor turned as if nothing were held."""
    strategy, market = plain(Account(BTC_USD=15_000.0)), Market()

    [found] = run(strategy, market, (0, 20), (5, 20))
    closed = run(strategy, market, *((at, 20) for at in range(10, 40, 5)))

    assert (found.action, found.target_usdc) == ("hold", 15_000)
    assert found.reasons == ("found +15,000 USDC: adopted, it may be closed", "held 0 s < 30 s")
    assert [(one.target_usdc, one.previous_usdc) for one in closed] == [(0, 15_000)]


def test_what_is_held_where_no_score_has_come_counts_too():
    """Its exposure is the account's, and so is the place that it takes."""
    full = plain(Account(ETH_USD=-25_000.0), report_s=5)
    crowded = plain(Account(ETH_USD=-5_000.0), positions=1, report_s=5)

    assert opened(full, Market())[0].reasons[1] == "gross now 25,000, then 30,000 of 30,000 USDC"
    assert opened(crowded, Market())[0].reasons[0] == "no place: 1 of 1 markets held"


def test_nothing_is_held_because_it_was_decided():
    """Of a target that never led to anything nothing is believed."""
    strategy, market = RankAndTarget(RankSettings(weights={"momentum": 1}, report_s=5)), Market()
    account = Account()
    made: list[Decision] = []
    for at in (0, 5, 10, 65):
        made += strategy.step(market.scored(at, momentum=80), account.held)

    assert [(one.action, one.target_usdc, one.previous_usdc) for one in made] == [
        ("target", 12_000, 0),
        ("hold", 0, 0),
        ("target", 12_000, 0),
    ]


def became(strategy: Tried, at: float, kind: str, ticker: str = "BTC-USD", **fields: Any) -> None:
    """Let a strategy learn what became of a decision."""
    row: dict[str, Any] = {"decision": "D1", "ticker": ticker, "kind": kind, "seq": 1}
    strategy.learn(Outcome(**row, at=stamp(at), **fields))


def test_a_refused_market_takes_no_place_and_no_gross_exposure():
    """The next in rank gets both; the refused one waits and is retried."""
    strategy = plain(positions=1, report_s=5)
    first, second = Market("A-USD"), Market("B-USD")
    for market, value in ((first, 95), (second, 90)):
        strategy.step(market.scored(0, momentum=value), Account().held)
    [refused] = strategy.step(first.scored(5, momentum=95), Account().held)
    became(strategy, 5, "denied", "A-USD", reason="MARGIN", why="needs more")

    [taken] = strategy.step(first.scored(10, momentum=95), Account().held)

    assert (refused.ticker, taken.ticker, taken.target_usdc) == ("A-USD", "B-USD", 10_000)
    assert taken.reasons[1] == "gross now 0, then 10,000 of 30,000 USDC"


def test_a_refused_market_names_what_it_waits_for():
    """Which refusal it was, and how long it backs off."""
    strategy, market = plain(report_s=5, throttle_s=1), Market()
    strategy.step(market.scored(0, momentum=80), Account().held)
    strategy.step(market.scored(5, momentum=80), Account().held)
    became(strategy, 5, "denied", reason="MARGIN", why="needs more")

    [waits] = strategy.step(market.scored(10, momentum=80), Account().held)
    [retried] = strategy.step(market.scored(15, momentum=80), Account().held)

    assert waits.reasons[0] == (
        "refused MARGIN (needs more), 5 s ago < 10 s before retry: "
        "score 80.0 ≥ 60 to go long: momentum 80"
    )
    assert (retried.action, retried.target_usdc) == ("target", 10_000)


def test_a_refused_target_that_is_wanted_no_more_is_given_up():
    """Once, and with the reason of both."""
    strategy, market = plain(), Market()
    strategy.step(market.scored(0, momentum=80), Account().held)
    strategy.step(market.scored(5, momentum=80), Account().held)
    became(strategy, 5, "expired", usdc=10_000.0, why="nothing filled")

    made = [*strategy.step(market.scored(10, momentum=55), Account().held)]
    made += strategy.step(market.scored(15, momentum=55), Account().held)

    assert [(one.action, one.reasons) for one in made] == [
        ("hold", ("given up, it was expired", "score 55.0 < 60 to go long: momentum 55"))
    ]


def test_a_part_that_did_not_fill_is_retried():
    """After the back-off and the holding time, up to what the score earns."""
    account = Account()
    strategy, market = plain(account), Market()
    opened(strategy, market)
    became(strategy, 5, "approved", usdc=10_000.0, open_usdc=10_000.0)
    became(strategy, 6, "filled", usdc=4_000.0, open_usdc=6_000.0)
    became(strategy, 7, "expired", usdc=6_000.0)
    account.usdc["BTC-USD"] = 4_000.0

    made = run(strategy, market, *((at, 80) for at in range(10, 45, 5)))

    assert [(one.previous_usdc, one.target_usdc) for one in made] == [(4_000, 10_000)]


def test_what_is_on_its_way_counts_and_is_waited_for():
    """It takes the room that it will need, and nothing is decided twice."""
    account = Account()
    strategy, market, other = plain(account, gross_share=1.5), Market(), Market("ETH-USD")
    opened(strategy, market)
    became(strategy, 5, "approved", usdc=10_000.0, open_usdc=10_000.0)
    account.usdc.clear()
    strategy.look(other.scored(6, momentum=95))

    [second] = strategy.look(other.scored(10, momentum=95))
    closing = run(strategy, market, (40, 10), (45, 10))

    assert second.reasons[1] == "gross now 10,000, then 15,000 of 15,000 USDC"
    assert closing == []


def test_an_exit_on_its_way_is_not_decided_again():
    """Nor is the market entered again before it has ended."""
    account = Account()
    strategy, market = plain(account, report_s=5), Market()
    opened(strategy, market)
    [exit_] = [one for one in run(strategy, market, (36, 20)) if one.action == "target"]
    account.usdc["BTC-USD"] = 10_050.0
    became(strategy, 36, "approved", usdc=-10_000.0, open_usdc=-10_000.0)

    [during] = run(strategy, market, (41, 20))
    became(strategy, 42, "expired", usdc=-10_000.0)
    [again] = run(strategy, market, (46, 20))

    assert (exit_.target_usdc, during.action, during.target_usdc) == (0, "hold", 10_050)
    assert during.reasons[0].startswith("an order for -10,000 USDC is in flight: ")
    assert (again.action, again.target_usdc) == ("target", 0)


def test_a_cut_lowers_the_target_to_what_is_left_and_nothing_grows_for_a_while():
    """Its reason is in the next look, in the market that was cut; all markets cool down."""
    account = Account()
    strategy, market, other = plain(account, report_s=5), Market(), Market("ETH-USD")
    opened(strategy, market)
    strategy.look(other.scored(6, momentum=99))
    became(strategy, 35, "cut", usdc=-4_000.0, reason="GUARD", why="near")
    became(strategy, 35, "cut", usdc=-3_000.0, reason="GUARD", why="near")
    became(strategy, 35, "cut", "DOGE-USD", usdc=-3_000.0, reason="GUARD", why="near")
    account.usdc["BTC-USD"] = 3_000.0

    [left] = run(strategy, market, (40, 80))
    [waits] = strategy.look(other.scored(45, momentum=99))
    grown = run(strategy, market, *((at, 80) for at in range(50, 345, 5)))

    assert (left.action, left.target_usdc) == ("hold", 3_000)
    assert left.reasons[0] == "cut by -7,000 USDC (GUARD): nothing grows for 300 s"
    assert waits.reasons[0].startswith("DOGE-USD was cut 10 s ago < 300 s of cool-down (GUARD)")
    assert {one.target_usdc for one in grown if one.action == "target"} == {10_000}
    assert min(one.at for one in grown if one.action == "target") == stamp(335)


def test_a_cut_may_still_be_closed():
    """To cool down is to add nothing."""
    account = Account()
    strategy, market = plain(account), Market()
    opened(strategy, market)
    became(strategy, 35, "cut", usdc=-4_000.0, reason="GUARD", why="near")
    account.usdc["BTC-USD"] = 6_000.0

    [closed] = run(strategy, market, (40, 20))

    assert (closed.previous_usdc, closed.target_usdc) == (6_000, 0)
    assert closed.reasons[:2] == (
        "cut by -4,000 USDC (GUARD): nothing grows for 300 s",
        "score 20.0 < 52 to stay long: momentum 20",
    )


def test_a_market_that_lets_nobody_out_is_reported_once():
    """The venue takes no order there: to decide on a close would be a promise."""
    strategy, market = plain(), Market()
    opened(strategy, market)
    market.trading(30, status="PAUSED")

    stuck = run(strategy, market, *((at, 90) for at in range(30, 60, 5)))
    market.trading(60, status="ACTIVE")
    free = run(strategy, market, (60, 20))

    assert [(one.action, one.target_usdc, one.reasons[0]) for one in stuck] == [
        ("hold", 10_000, "cannot be closed: the status is PAUSED")
    ]
    assert [one.target_usdc for one in free] == [0]


def test_an_old_oracle_price_opens_nothing_and_closes_nothing():
    """What is held is left for silence and for what is unknown, not for an outage of prices."""
    idle, busy, market = plain(report_s=900), plain(), Market()
    opened(busy, market)
    market.alive = False
    market.take(market.wire(5).message("unsubscribed", "v4_markets"))
    market.book(40)

    made = run(idle, market, (40, 90), (45, 90)) + run(busy, market, (40, 90), (50, 90))

    assert made == []


# === Equity ===


def test_targets_are_sized_to_the_present_equity():
    """Half the equity, half the target; the deposit is history."""
    sizes = [opened(plain(Account(equity)), Market())[0] for equity in (10_000.0, 5_000.0)]

    assert [one.target_usdc for one in sizes] == [10_000, 5_000]
    assert sizes[1].reasons[1] == "gross now 0, then 5,000 of 15,000 USDC"


def test_what_has_become_too_much_for_the_equity_shrinks():
    """When it is worth the trade, and after the holding time."""
    account = Account()
    strategy, market = plain(account), Market()
    opened(strategy, market)

    account.equity_usdc = 8_000.0
    little = run(strategy, market, (36, 80))
    account.equity_usdc = 6_000.0
    [much] = run(strategy, market, (41, 80))

    assert little == []
    assert (much.previous_usdc, much.target_usdc) == (10_000, 6_000)
    assert much.reasons[0] == "score 80.0 earns 6,000 USDC: momentum 80"


@pytest.mark.parametrize(
    ("equity", "reason"),
    [
        (None, "the account's equity is not known"),
        (0.0, "no equity is left"),
        (-5.0, "no equity is left"),
    ],
)
def test_without_an_equity_nothing_is_opened_and_what_is_held_may_close(equity, reason):
    """Nothing can be sized, but to leave needs no size."""
    idle, market = plain(Account(equity), report_s=5), Market()
    holds = opened(idle, market)
    busy = plain(Account(equity, BTC_USD=3_000.0))
    run(busy, market, (0, 80), (5, 80), (36, 80))

    closed = run(busy, market, (41, 20))

    assert [one.action for one in holds] == ["hold"]
    assert holds[0].reasons[0] == f"{reason}: score 80.0 ≥ 60 to go long: momentum 80"
    assert [one.target_usdc for one in closed] == [0]


# === What never happens ===

EQUITY = 10_000.0
TICKERS = ("A-USD", "B-USD", "C-USD", "D-USD")
FATES = ["filled", "filled", "filled", "denied", "part", "slow", "lost"]
events = st.lists(
    st.tuples(
        st.sampled_from(TICKERS),
        st.floats(min_value=-3, max_value=15),
        st.floats(min_value=0, max_value=100),
        st.sampled_from(["", "", "", "close", "book", "pause", "resume", "cut"]),
        st.sampled_from(FATES),
    ),
    max_size=100,
)
chosen = st.builds(
    RankSettings,
    gross_share=st.floats(min_value=0.1, max_value=10),
    positions=st.integers(min_value=1, max_value=4),
    throttle_s=st.floats(min_value=0.1, max_value=60),
    holding_s=st.floats(min_value=0, max_value=60),
    look_s=st.floats(min_value=0.1, max_value=20),
    back_off_s=st.floats(min_value=0, max_value=20),
    cool_down_s=st.floats(min_value=0, max_value=60),
)
HAPPENS = {
    "close": lambda market, at: market.close(at),
    "book": lambda market, at: market.book(at),
    "pause": lambda market, at: market.trading(at, status="PAUSED"),
    "resume": lambda market, at: market.trading(at, status="ACTIVE"),
}


class World:
    """Four markets, an account, and what becomes of each decision."""

    def __init__(self, config: RankSettings) -> None:
        self.decider = Decider(lambda: RankAndTarget(config))
        self.account = Account(EQUITY)
        self.markets = {ticker: Market(ticker) for ticker in TICKERS}
        # What is on its way, by decision: the ticker and the exposure.
        self.open: dict[str, tuple[str, float]] = {}

    def gross(self, ticker: str = "") -> float:
        """Return what is held and on its way to be held, in all markets or in one."""
        held = dict.fromkeys(TICKERS, 0.0) | self.account.usdc
        return sum(self.share(one, held[one]) for one in ([ticker] if ticker else TICKERS))

    def share(self, ticker: str, held: float) -> float:
        """Return the larger of what is held and what it will be."""
        coming = sum(usdc for of, usdc in self.open.values() if of == ticker)
        return max(abs(held), abs(held + coming))

    def learn(self, kind: str, decision: str, ticker: str, usdc: float, left: float = 0) -> None:
        """Let it know of an outcome."""
        row: dict[str, Any] = {"decision": decision, "ticker": ticker, "kind": kind, "seq": 1}
        self.decider.step(Outcome(**row, at=stamp(self.at), usdc=usdc, open_usdc=left))

    def fill(self, decision: str, share: float) -> None:
        """Fill a share of what is on its way."""
        ticker, usdc = self.open.pop(decision)
        self.account.usdc[ticker] = self.account.usdc.get(ticker, 0.0) + usdc * share
        self.learn("filled", decision, ticker, usdc * share, usdc * (1 - share))
        if share < 1:
            self.learn("expired", decision, ticker, usdc * (1 - share))

    def cut(self, ticker: str) -> None:
        """Let the guard take half of a position."""
        if held := self.account.usdc.get(ticker, 0.0):
            self.account.usdc[ticker] = held / 2
            self.learn("cut", "", ticker, -held / 2)

    def suffer(self, one: Decision, fate: str) -> None:
        """Let a decision become what its fate is."""
        change = one.target_usdc - self.account.usdc.get(one.ticker, 0.0)
        if fate == "denied":
            self.learn("denied", one.id, one.ticker, 0.0)
        elif fate != "lost":
            self.open[one.id] = one.ticker, change
            self.learn("approved", one.id, one.ticker, change, change)
            if fate != "slow":
                self.fill(one.id, 0.5 if fate == "part" else 1.0)

    def live(self, happened) -> Iterator[tuple[Decision, float, float, int]]:
        """Yield each decision with gross, this market's part and places as they were before."""
        self.at = 0.0
        for ticker, passed, value, event, fate in happened:
            self.at = max(self.at + passed, 0.0)
            for decision in [*self.open]:
                self.fill(decision, 1.0)
            if event == "cut":
                self.cut(ticker)
            elif event:
                HAPPENS[event](self.markets[ticker], self.at)
            self.decider.step(self.account.held)
            scored = self.markets[ticker].scored(self.at, momentum=value, imbalance=value)
            for one in self.decider.step(scored):
                places = sum(1 for t in TICKERS if self.gross(t))
                yield one, self.gross(), self.gross(one.ticker), places
                if one.action == "target":
                    self.suffer(one, fate)


@settings(max_examples=60)
@given(events, chosen)
def test_it_never_exceeds_its_limits_and_never_hurries(happened, config):
    """Gross, per-market and place limits hold for what is held and on its way; so does the pace."""
    world, last = World(config), dict[str, int]()
    for one, gross, own, places in world.live(happened):
        held = world.account.usdc.get(one.ticker, 0.0)
        assert one.previous_usdc == held
        assert 0 <= one.urgency <= 1
        assert 0 <= one.score <= 100
        assert one.reasons
        if one.action == "hold":
            assert one.target_usdc == held
            continue
        assert one.target_usdc != held
        assert one.target_usdc * held >= 0
        if abs(one.target_usdc) > abs(held):
            assert one.at - last.get(one.ticker, 0) >= round(config.throttle_s * 1e9)
            assert gross - own + abs(one.target_usdc) <= config.gross_share * EQUITY * (1 + 1e-12)
            assert abs(one.target_usdc) <= config.market_share * EQUITY
            assert places + (not own) <= config.positions
        last[one.ticker] = one.at


@settings(max_examples=20)
@given(events)
def test_the_same_events_give_the_same_decisions(happened):
    """No clock, no chance."""
    first, second = ([one for one, *_ in World(RankSettings()).live(happened)] for _ in range(2))

    assert first == second
