"""What the strategies decide over sessions of the real software, in which all is held at once."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cache, cached_property
from math import fsum

import pytest
from dydx_conn import Frame
from dydx_data import DataState, step, stopping
from dydx_signals import Scorer
from dydx_strategy import Decider, Decision, Held, Holdings, RankAndTarget, RankSettings
from market import SECOND, Account
from sessions import REAL, Session

EQUITY = 10_000.0
# What would trade on any market, so that the few minutes of a session are full of decisions.
EAGER = RankSettings(
    enter=51, exit=50.5, full=55, look_s=1, holding_s=2, throttle_s=3, debounce_s=0, report_s=5,
    weights={"momentum": 0.4, "imbalance": 0.6}, liquidity_extreme=0.0, liquidity_calm=10.0,
)  # fmt: skip
STYLES = {
    "rank": RankAndTarget,
    "eager": lambda: RankAndTarget(EAGER),
}


@dataclass(frozen=True)
class Made:
    """A decision, what was held before it, and what stood against the market then."""

    decision: Decision
    held: dict[str, float]
    against: tuple[str, ...]


@dataclass(frozen=True)
class Play:
    """A session decided upon in one style."""

    session: Session
    style: str

    def __str__(self) -> str:
        return f"{self.session}-{self.style}"

    @property
    def settings(self) -> RankSettings:
        """The limits of the style."""
        return STYLES[self.style]().settings

    @cached_property
    def made(self) -> list[Made]:
        """All decisions of the whole session."""
        return decide(self.session.frames, self.style)

    @property
    def targets(self) -> list[Made]:
        """Those that want something."""
        return [one for one in self.made if one.decision.action == "target"]


def decide(frames: tuple[Frame, ...], style: str, *, again: int = 0) -> list[Made]:
    """Replay frames into decisions; each target is held at once.

    After each `again` frames the settings come again, as they are.
    """
    data, scorer, decider, account = DataState(), Scorer(), Decider(STYLES[style]), Account(EQUITY)
    made: list[Made] = []
    for number, frame in enumerate(frames, 1):
        if again and number % again == 0:
            decider.step(STYLES[style]().settings)
        for view in step(data, frame):
            for scored in scorer.step(view):
                decider.step(account.held)
                for one in decider.step(scored):
                    against = tuple(one.why for one in stopping(data.views[one.ticker], "entry"))
                    made.append(Made(one, dict(account.usdc), against))
                    account.take([one])
    return made


@cache
def play(session: Session, style: str) -> Play:
    """Decide upon a session once for all tests here."""
    return Play(session, style)


@pytest.fixture(scope="module", params=REAL, ids=str)
def session(request):
    """Give each session in turn."""
    return request.param


@pytest.fixture(scope="module", params=STYLES)
def played(request, session):
    """Give each session in each style."""
    return play(session, request.param)


def composite(decision: Decision, settings: RankSettings) -> float | None:
    """Compute what a decision's own scores come to, as the settings describe it."""
    values = {score.signal: score.value for score in decision.scores}
    present = {name: w for name, w in settings.weights.items() if name in values}
    if fsum(present.values()) < settings.quorum * fsum(settings.weights.values()):
        return None
    lean = fsum(w * (values[name] - 50) for name, w in present.items()) / fsum(present.values())
    if "volume" in values:
        lean *= 1 + settings.volume_lift * (values["volume"] / 50 - 1)
    calm, extreme = settings.volatility_calm, settings.volatility_extreme
    if "volatility" in values:
        lean *= min(1, max(0, 1 - (values["volatility"] - calm) / (extreme - calm)))
    calm, extreme = settings.liquidity_calm, settings.liquidity_extreme
    if "liquidity" in values:
        lean *= min(1, max(0, 1 - (calm - values["liquidity"]) / (calm - extreme)))
    return min(100, max(0, 50 + lean))


def test_every_decision_rests_on_the_composite_of_its_own_scores(played):
    """50 where too few of them are there, as the settings say."""
    for one in played.made:
        value = composite(one.decision, played.settings)
        assert one.decision.score == pytest.approx(50 if value is None else value, abs=1e-9)


def test_decisions_are_numbered_and_say_why(played):
    """Each at a frame, in order, with words and the held amount before."""
    assert [one.decision.id for one in played.made] == [
        f"D{n + 1}" for n in range(len(played.made))
    ]
    assert [one.decision.seq for one in played.made] == sorted(
        one.decision.seq for one in played.made
    )
    for one in played.made:
        assert all(one.decision.reasons)
        held = round(one.held.get(one.decision.ticker, 0.0))
        assert one.decision.previous_usdc == pytest.approx(held, abs=1)


def test_a_target_opens_only_past_its_threshold_and_is_sized_by_its_score(played):
    """From half the market's share at `enter` to all of it at `full`; long above, short below."""
    settings = played.settings
    for one in played.targets:
        decision, before = one.decision, one.held.get(one.decision.ticker, 0.0)
        if abs(decision.target_usdc) <= abs(before) or before:
            continue
        beyond = abs(decision.score - 50) + 50 - settings.enter
        strength = min(1, beyond / (settings.full - settings.enter))
        least = settings.smallest_share
        full = settings.market_share * EQUITY * (least + (1 - least) * strength)
        assert beyond >= 0
        assert (decision.target_usdc > 0) is (decision.score > 50)
        assert abs(decision.target_usdc) <= round(full)
        assert decision.urgency == pytest.approx(strength)


def test_no_limit_is_passed(played):
    """Gross exposure, one market's share, and how many markets at once."""
    settings = played.settings
    for one in played.targets:
        then = one.held | {one.decision.ticker: one.decision.target_usdc}
        assert fsum(map(abs, then.values())) <= settings.gross_share * EQUITY + 1
        assert abs(one.decision.target_usdc) <= settings.market_share * EQUITY + 1
        assert sum(1 for usdc in then.values() if usdc) <= settings.positions


def test_risk_is_added_no_faster_than_the_pace_and_never_turned_round(played):
    """A market turns by closing first; between two targets that add lies the throttle."""
    last: dict[str, int] = {}
    for one in played.targets:
        decision, before = one.decision, one.held.get(one.decision.ticker, 0.0)
        assert decision.target_usdc * before >= 0
        if abs(decision.target_usdc) > abs(before):
            waited = decision.at - last.get(decision.ticker, -(10**18))
            assert waited >= played.settings.throttle_s * SECOND
        last[decision.ticker] = decision.at


def test_nothing_is_opened_where_the_market_speaks_against_it(played):
    """An unknown book, a silent chain, a status that takes no orders."""
    for one in played.targets:
        if abs(one.decision.target_usdc) > abs(one.held.get(one.decision.ticker, 0.0)):
            assert one.against == ()


def test_settings_that_come_again_as_they_are_change_nothing(played):
    """However often, in the midst of whatever was begun."""
    again = decide(played.session.frames, played.style, again=50)

    assert [one.decision for one in again] == [one.decision for one in played.made]


def test_no_decision_knows_the_rest_of_the_session(played):
    """Cut in half, the first half decides as it did in the whole."""
    half = decide(played.session.frames[: len(played.session.frames) // 2], played.style)
    assert played.made[: len(half)] == half


@pytest.mark.parametrize("side", [1, -1], ids=["long", "short"])
@pytest.mark.parametrize("session", REAL, ids=str)
def test_a_position_that_is_found_is_adopted_and_reported(session, side):
    """The first decision in that market names it; none ever grows it past its limit."""
    data, scorer, decider = DataState(), Scorer(), Decider(STYLES["eager"])
    found: dict[str, list[Decision]] = defaultdict(list)
    held: dict[str, Held] = {}
    for frame in session.frames:
        for view in step(data, frame):
            for scored in scorer.step(view):
                usdc = side * 1_000.0
                row = Held(
                    ticker=view.ticker, size=side * 1, usdc=usdc, entry_price=1_000.0, seq=1, at=0
                )
                held.setdefault(view.ticker, row)
                decider.step(Holdings(held, EQUITY))
                for one in decider.step(scored):
                    found[one.ticker].append(one)
    assert found
    for decisions in found.values():
        assert f"found {side * 1_000:+,.0f} USDC" in decisions[0].reasons[0]


def test_the_sessions_are_full_of_decisions():
    """So nothing above passes because nothing was decided."""
    counts = {style: sum(len(play(s, style).targets) for s in REAL) for style in STYLES}
    assert counts["eager"] > 50
    assert counts["rank"] >= 5
