"""What an order may cost is estimated before it is sent, and is not exceeded."""

from collections import defaultdict
from typing import Any

import pytest
from bot.run.composition import Bot, Options
from bot.run.costs import cost_words, worst_case
from dydx_conn import Estimate, replay
from dydx_risk import Approved, Reduce


@pytest.mark.replays
def test_no_order_of_a_run_cost_more_than_was_estimated() -> None:
    """Each of its fills may round up by a millionth of a dollar, and that is all."""
    bot = Bot(Options.of("reckless"))
    estimates: dict[str, Estimate] = {}
    paid: defaultdict[str, list[int]] = defaultdict(list)
    judged = bot.journal.judged

    def listen(verdict: Approved | Reduce, cost: str = "", held: Any = ()) -> None:
        judged(verdict, cost, held)
        if cost:
            found = worst_case(verdict.order, bot.data.views[verdict.order.ticker], bot.risk)
            assert found is not None
            assert cost.endswith(cost_words(found))
            estimates[verdict.id] = found

    bot.journal.judged = listen  # type: ignore[method-assign,assignment]
    bot.run(replay("quickstart"))
    for entry in bot.journal.of_kind("fill"):
        order = bot.journal.find(entry.parent)
        assert order is not None
        paid[order.parent].append(entry.value.fee)

    filled = {
        id_: sum(fees) <= estimates[id_].fee + len(fees) - 1 for id_, fees in paid.items() if id_
    }
    assert len(filled) > 10
    assert all(filled.values())


def test_a_verdict_shows_what_its_order_may_cost() -> None:
    """In dollars; nothing for an unknown market."""
    found = Estimate(quote=683_000_000, fee=341_500, initial_margin=-1)

    assert cost_words(found) == "; fee up to 0.34, margin up to 0.00 USDC, no gas"
    assert cost_words(None) == ""


def test_a_verdict_names_what_is_in_flight_beside_it() -> None:
    """Two orders leave in one frame: the second one's collateral is without what the first takes."""
    bot = Bot(Options())
    bot.run(replay("quickstart", pace=lambda frame: frame.seq < 220))
    first, second = (bot.journal.find(id_) for id_ in ("V1", "V2"))

    assert first is not None
    assert second is not None
    assert first.seq == second.seq
    assert "in flight" not in first.words
    assert "; 194.89 USDC of free collateral are in flight with others; fee up to" in second.words
