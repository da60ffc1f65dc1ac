"""A decision walked through: from the figures on the screen a person comes to the same ones."""

import re

import pytest
from dydx_panels import (
    Snapshot,
    StrategiesPart,
    StrategyRow,
    TargetRow,
    Theme,
    View,
    WalkPart,
    WalkRow,
    panel,
    selectable,
)
from dydx_risk import Approved, Denied
from dydx_signals import Score
from dydx_strategy import Decision, Look, Ranked, RankSettings, composite
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

SIGNALS = ("momentum", "imbalance", "funding", "volume", "volatility", "liquidity")
STEPS = ("scores", "score", "threshold", "size", "ranking", "reasons", "verdict", "order", "fills")


def drawn(rows: tuple[WalkRow, ...], width: int = 120, height: int = 40, selected: int = -1) -> str:
    """Draw walks alone, in letters that everybody types."""
    view, theme = View(panel="walk", selected=selected), Theme(unicode=False)
    return panel("walk", Snapshot(walk=WalkPart(rows=rows)), width, height, view, theme).text


def number(text: str) -> float:
    """Read a figure as a person would."""
    return float(text.replace(",", ""))


def walked(values: dict[str, float], equity: float, strength: float) -> WalkRow:
    """Return the walk of a decision that rests on these scores."""
    chosen = RankSettings()
    scores = tuple(Score("A-USD", name, value, (), 9, 1) for name, value in values.items())
    made = composite(scores, chosen)
    share = chosen.smallest_share + (1 - chosen.smallest_share) * strength
    ranked = Ranked(
        ticker="A-USD", score=made.value, has_usdc=0.0, strength=strength, wants_usdc=1.0,
        earns_usdc=float(round(chosen.market_share * equity * share)), gets_usdc=1.0, why="",
    )  # fmt: skip
    look = Look(seq=1, at=1, settings=chosen, equity_usdc=equity, gross_usdc=0.0, limit_usdc=1.0,
                taken=0, markets=(ranked,))  # fmt: skip
    decided = Decision(
        ticker="A-USD", seq=9, at=1, action="target", target_usdc=1.0, urgency=0.5, reasons=(),
        score=made.value, scores=scores,
    )  # fmt: skip
    return WalkRow(decision=decided, composite=made, look=look)


@settings(max_examples=30)
@given(st.fixed_dictionaries({name: st.floats(0, 100) for name in SIGNALS}))
def test_the_score_comes_out_of_the_figures_beside_it(values: dict[str, float]) -> None:
    """50 and the sum of the parts, times the factors, as they are written."""
    text = drawn((walked(values, 10_000.0, 0.5),))

    found = re.search(r"50 ([+-][\d.]+) x ([\d.]+) x ([\d.]+) x ([\d.]+) = ([\d.]+)", text)
    assert found is not None
    added, *factors, score = map(number, found.groups())
    by_hand = min(max(50 + added * factors[0] * factors[1] * factors[2], 0), 100)
    # Parts are written to 0.01, factors to 0.001 of as much as 50.
    assert score == pytest.approx(by_hand, abs=0.12)


@settings(max_examples=30)
@given(st.fixed_dictionaries({name: st.floats(0, 100) for name in SIGNALS[:3]}))
def test_each_part_comes_out_of_its_value_and_its_weight(values: dict[str, float]) -> None:
    """The distance to 50 times its share of the weights; the parts add up to the sum."""
    text = drawn((walked(values, 10_000.0, 0.5),))

    rows = re.findall(r" ([\d.]+)  x ([\d.]+)/([\d.]+) = +([+-][\d.]+)", text)
    parts = [number(part) for *_, part in rows]
    by_hand = [(number(v) - 50) * number(w) / number(of) for v, w, of, _ in rows]
    assert parts == pytest.approx(by_hand, abs=0.06)
    assert sum(parts) == pytest.approx(number(re.findall(r"50 ([+-][\d.]+)", text)[0]), abs=0.03)


@settings(max_examples=30)
@given(st.floats(1, 1e7), st.floats(0, 1))
def test_the_size_comes_out_of_equity_share_and_strength(equity: float, strength: float) -> None:
    """The share of the equity times what the strength earns of it."""
    text = drawn((walked({"momentum": 70.0, "imbalance": 60.0}, equity, strength),), 200)

    found = re.search(
        r"([\d.]+) x ([\d,.]+) x \(([\d.]+) \+ ([\d.]+) x ([\d.]+)\) = ([\d,]+) USDC", text
    )
    assert found is not None
    share, of, least, more, strong, size = map(number, found.groups())
    assert size == pytest.approx(share * of * (least + more * strong), abs=1 + equity * 0.001)


@pytest.mark.parametrize("size", [(80, 50), (120, 40), (250, 70)])
def test_every_step_is_there(full: Snapshot, size: tuple[int, int]) -> None:
    """From the scores to the fills, on any screen that has the rows."""
    text = panel("walk", full, *size, View(panel="walk")).text

    assert [step for step in STEPS if step not in text] == []


def test_24_rows_hold_the_ends_of_each_step(full: Snapshot) -> None:
    """What does not fit leaves the longest steps first, and none of them altogether."""
    text = panel("walk", full, 80, 24, View(panel="walk")).text

    assert [step for step in STEPS if step not in text] == []
    assert "5,707 USDC" in text


def test_the_selected_decision_is_the_one_that_is_walked_through(full: Snapshot) -> None:
    """Without a selection it is the newest."""
    view = View(panel="walk", selected=1)

    assert selectable(full, view) == ("D42", "D41", "D40")
    assert "rank in ETH-USD" in panel("walk", full, 120, 40, View(panel="walk")).text
    assert "sniper in SOL-USD" in panel("walk", full, 120, 40, view).text


def test_a_strategy_without_weights_shows_its_limits_and_its_own_score(full: Snapshot) -> None:
    """Nothing is made up of weights that it does not have."""
    text = panel("walk", full, 120, 40, View(panel="walk", selected=1)).text

    assert "not weighed" in text
    assert "arm 3 · leave 1" in text
    assert "by the strategy's own reckoning" in text
    assert "needs 812.00" in text


def test_a_market_without_enough_scores_says_which_lack(full: Snapshot) -> None:
    """Its score of 50 is no opinion."""
    text = panel("walk", full, 120, 40, View(panel="walk", selected=2)).text

    assert "50, no opinion: it has no momentum," in text
    assert "nothing to judge" in text


def test_an_unknown_equity_sizes_nothing() -> None:
    """It is unknown, and not 0."""
    row = walked({"momentum": 70.0, "imbalance": 60.0}, 10_000.0, 0.5)
    assert row.look is not None

    text = drawn((replace(row, look=replace(row.look, equity_usdc=None)),))

    assert "equity unknown: nothing is sized" in text


def test_what_became_of_each_decision_stands_beside_it(full: Snapshot) -> None:
    """Refused with the reason, let go without an order, partly filled."""
    partly = full.walk.rows[0]
    orders = tuple(replace(order, status="PARTIALLY_FILLED", fills=()) for order in partly.orders)
    refused = Denied(id="V2", ticker="A-USD", decision=None, seq=1, at=1, reason="STALE", why="old")
    rows = (
        replace(partly, orders=(), checks=()),
        replace(partly, verdict=refused),
        replace(partly, orders=orders),
    )

    text = drawn(rows)

    assert "no order yet" in text
    assert "STALE: old" in text
    assert "partly filled" in text
    assert "no limit blocks what shrinks" in text


def test_the_walk_is_legible_without_unicode(full: Snapshot) -> None:
    """Signs have letters in their place."""
    theme = Theme(unicode=False, colours="")

    assert panel("walk", full, 120, 40, View(panel="walk"), theme).text.isascii()


def test_decisions_alone_are_walked_through_under_their_list(full: Snapshot) -> None:
    """On the dashboard, where no walk is copied, they are a list."""
    decided = replace(full, decisions=tuple(row.decision for row in full.walk.rows))
    alone = panel("decisions", decided, 120, 40, View(panel="decisions", selected=1)).text
    listed = panel("decisions", replace(decided, walk=WalkPart()), 120, 40).text

    assert "sniper in SOL-USD" in alone
    assert "sniper in SOL-USD" not in listed


def test_a_strategy_shows_how_it_ranked_all_markets(full: Snapshot) -> None:
    """The runner-up, and why it gets nothing, under the newest decision."""
    look = full.walk.rows[0].look
    by = StrategyRow(title="rank", weights={"momentum": 1.0}, look=look, fees_usdc=2.5)
    decided = full.walk.rows[0].decision
    target = TargetRow(strategy="rank", ticker="ETH-USD", wants=1.0, held=0.0, decision=decided)
    shown = Snapshot(strategies=StrategiesPart(rows=(by,), targets=(target,)))

    text = panel("strategies", shown, 120, 40, View(panel="strategies")).text

    assert " 2 SOL-USD    31.0 held 12 s < 30 s" in text
    assert " 3 BTC-USD    52.0 score 52.0 < 60 to go long" in text
    assert "-2.50" in text


def test_a_verdict_that_counts_what_is_in_flight_says_so(full: Snapshot) -> None:
    """Its words then have another free collateral than its margin."""
    row = full.walk.rows[0]
    assert isinstance(row.verdict, Approved)
    verdict = replace(row.verdict, why="buy: free collateral 9,000.00 becomes 8,000.00")

    assert "count orders in flight" in drawn((replace(row, verdict=verdict),), 200)
    assert "count orders in flight" not in drawn((row,), 200)


def test_each_step_has_its_time_and_its_frame(full: Snapshot) -> None:
    """From the newest score to the last fill, as far as the decision came."""
    text = " ".join(drawn(full.walk.rows, 200).replace("|", " ").split())

    assert "scored #48211 ->decided 09:31:06.000 #48190 ->judged #48190 ->order O4 #48192" in text
    assert "fill F9 #48191 ->fill F10 #48192" in text
