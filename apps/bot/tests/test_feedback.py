"""What the strategy learns: what is held, and what became of each of its decisions."""

from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from bot.live.runs import until
from bot.report.why import chain
from bot.run.composition import Bot, Options
from bot.run.feedback import Feedback
from dydx_conn import (
    AccountFill,
    AccountUpdate,
    OrderRequest,
    Profit,
    Subaccount,
    order_id,
    replay,
)
from dydx_data import MarketView
from dydx_risk import Approved, Denied, GateChange, MarginFigures, Reduce, Reservation, Risk
from dydx_signals import Scored
from dydx_strategy import STRATEGIES, Decision, Held, Holdings, Outcome

US = Subaccount("dydx1feedback", 0)
NOTHING = MarginFigures(0)
TICKER = "BTC-USD"


class Buyer:
    """Go long of every market with all that the gate lets pass, again and again."""

    name = "buyer"

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.seen: list[Holdings] = []
        self.due: dict[str, int] = defaultdict(int)

    def step(self, scored: Scored, held: Holdings) -> Iterator[Decision]:
        """Want 15,000 USDC of a market, once in 20 s."""
        if not self.seen or self.seen[-1] is not held:
            self.seen.append(held)
        if scored.at >= self.due[scored.ticker]:
            self.due[scored.ticker] = scored.at + 20_000_000_000
            yield Decision.of(scored, 15_000.0, "more")

    def learn(self, outcome: Outcome) -> None:
        """Store an outcome."""
        self.outcomes.append(outcome)


def bought(seconds: float | None = None) -> tuple[Bot, Buyer]:
    """Play the bundled recording for a buyer, all of it or its first seconds."""
    made: list[Buyer] = []

    def buyer() -> Buyer:
        made.append(Buyer())
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STRATEGIES, "buyer", buyer)
        bot = Bot(Options.of("reckless", strategy="buyer"))
    bot.run(replay("quickstart", pace=until(seconds, lambda _: True)))
    return bot, made[-1]


@pytest.fixture(scope="module")
def run() -> tuple[Bot, Buyer]:
    """Return what became of a buyer by the end of the crash."""
    return bought()


@pytest.mark.replays
def test_each_decision_is_approved_or_denied_with_the_reason(run: tuple[Bot, Buyer]) -> None:
    """As many verdicts as the journal has, each for the decision that it is of."""
    bot, buyer = run
    kinds = ("approved", "denied")
    learnt = [(o.decision, o.kind, o.why) for o in buyer.outcomes if o.kind in kinds]
    entries = bot.journal.of_kind(*kinds)

    assert learnt == [(e.parent, e.kind, e.value.why) for e in entries if e.parent]
    assert {o.reason for o in buyer.outcomes if o.kind == "denied"} - {""}


def test_fills_add_up_to_what_was_approved_or_the_rest_expired(run: tuple[Bot, Buyer]) -> None:
    """Of what was approved nothing stays open, and the last outcome of each order shows it."""
    _, buyer = run
    approved = {o.decision: o.usdc for o in buyer.outcomes if o.kind == "approved"}
    done: dict[str, float] = defaultdict(float)
    for outcome in buyer.outcomes:
        if outcome.kind in ("filled", "expired"):
            done[outcome.decision] += outcome.usdc
    last = {o.decision: o for o in buyer.outcomes if o.decision in approved}

    assert approved
    assert {d: round(usdc, -3) for d, usdc in done.items()} == {
        d: round(usdc, -3) for d, usdc in approved.items()
    }
    assert {outcome.open_usdc for outcome in last.values()} == {0.0}


def test_what_the_guard_sold_is_a_cut_without_a_decision(run: tuple[Bot, Buyer]) -> None:
    """It is negative of a long, with the guard's own reason."""
    bot, buyer = run
    cuts = [o for o in buyer.outcomes if o.kind == "cut"]

    assert bot.journal.counts["reduce"] > 0
    assert {(o.decision, o.reason, o.usdc < 0, o.open_usdc) for o in cuts} == {
        ("", "GUARD", True, 0.0)
    }
    assert {o.why for o in cuts} == {e.value.why for e in bot.journal.of_kind("reduce")}


@pytest.mark.replays
def test_what_is_held_is_what_the_account_holds_at_the_present_price() -> None:
    """The last holdings are the account's, to the base unit and to the cent."""
    bot, buyer = bought(500)
    last, positions = buyer.seen[-1], bot.risk.positions()

    assert positions
    assert {row.ticker: row.size for row in positions} == {t: h.size for t, h in last.items()}
    for row in positions:
        assert row.net_notional is not None
        assert last.usdc(row.ticker) == pytest.approx(row.net_notional / 1e6, abs=0.01)
    assert last.equity_usdc == bot.risk.margin.net_collateral / 1e6


def test_before_the_account_is_known_its_equity_is_not() -> None:
    """Nothing is held, and nobody may size a target by it; it is reported once."""
    feedback, risk = Feedback(US), Risk(subaccount=US)

    [held] = feedback.news(risk, {}, 1, 1)

    assert isinstance(held, Holdings)
    assert (len(held), held.equity_usdc) == (0, None)
    assert list(feedback.news(risk, {}, 2, 2)) == []


# === One order ===


class Turner:
    """Go long and short of every market in turn; each is decided once."""

    name = "turner"

    def __init__(self) -> None:
        self.due: dict[str, int] = {}
        self.side: dict[str, float] = defaultdict(lambda: 1.0)

    def step(self, scored: Scored, held: Holdings) -> Iterator[Decision]:
        """Want 2,000 USDC of the other side, once in 65 s."""
        if scored.at >= self.due.get(scored.ticker, scored.at):
            self.due[scored.ticker] = scored.at + 65_000_000_000
            self.side[scored.ticker] *= -1
            yield Decision.of(scored, 2_000.0 * self.side[scored.ticker], "the other side")


@pytest.mark.replays
def test_who_turns_round_closes_and_then_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the recording: no order goes through zero, and each close has its far side."""
    monkeypatch.setitem(STRATEGIES, "turner", Turner)
    bot = Bot(Options(strategy="turner", guard=False))
    bot.run(replay("quickstart"))

    approved = [entry.value for entry in bot.journal.of_kind("approved")]
    enter = [verdict for verdict in approved if not verdict.order.reduce_only]
    far = "the other side of a turn: what was held is closed"
    assert sum(far in verdict.decision.reasons for verdict in enter) > 10
    assert not [
        verdict
        for verdict in enter
        if verdict.order.signed_quantums * verdict.decision.previous_usdc < 0
    ]


@pytest.fixture(scope="module")
def view(run: tuple[Bot, Buyer]) -> MarketView:
    """Return one market as it stood in the end."""
    return run[0].data.views[TICKER]


def order(client_id: int = 7) -> OrderRequest:
    """Write an order to buy 2 BTC."""
    return OrderRequest(
        ticker=TICKER, clob_pair_id=0, side="BUY", quantums=2 * 10**10, subticks=10**9,
        time_in_force="IOC", client_id=client_id, good_til_block=9,
    )  # fmt: skip


def decision(id_: str = "D1") -> Decision:
    """Write the decision behind it."""
    return Decision(
        id=id_, ticker=TICKER, seq=1, at=1, action="target", target_usdc=1.0, urgency=0.5,
        score=50.0, reasons=(), scores=(),
    )  # fmt: skip


def approved(client_id: int = 7) -> Approved:
    """Approve it."""
    return Approved(
        id="V1", order=order(client_id), decision=decision(), seq=1, at=1, before=NOTHING,
        after=NOTHING, why="it fits",
    )  # fmt: skip


def fills(*made: AccountFill, seq: int) -> AccountUpdate:
    """Write the update that brings these fills."""
    return AccountUpdate(seq=seq, at=seq, subaccount=US, height=1, fills=made)


def fill(size: str, *, client_id: int = 7, side: Any = "BUY", type: str = "LIMIT") -> AccountFill:
    """Write a fill of it."""
    return AccountFill(
        id="f", order_id=order_id(US, order(client_id)), ticker=TICKER, side=side,
        size=Decimal(size), price=Decimal(10), quote=0, fee=0, liquidity="TAKER", type=type,
        height=1, created_at="",
    )  # fmt: skip


def risk_with(*, doubted: bool | None = None) -> Risk:
    """Make a risk that holds something in reserve for the order, or nothing."""
    risk = Risk(subaccount=US)
    if doubted is not None:
        id_ = order_id(US, order())
        risk.account.orders.reserved[id_] = Reservation(
            order=order(), order_id=id_, effect=NOTHING, verdict_id="V1", doubted=doubted
        )
    return risk


def learnt(feedback: Feedback, risk: Risk, views: dict[str, MarketView]) -> list[Any]:
    """Return the kinds of what is new, each with what is still open in base units."""
    news = feedback.news(risk, views, 5, 5)
    price = views[TICKER].oracle.price  # type: ignore[union-attr]
    return [(o.kind, round(o.open_usdc / price, 6)) for o in news if isinstance(o, Outcome)]


def test_an_order_that_fills_in_parts_stays_open_until_it_ends(view: MarketView) -> None:
    """Each part has what is left; the rest of an order that ends expires."""
    feedback, views = Feedback(US), {TICKER: view}
    feedback.judged(approved(), views)
    feedback.filled(fills(fill("0.5"), fill("1"), seq=2), views)

    during = learnt(feedback, risk_with(doubted=False), views)
    [expired] = [o for o in feedback.news(risk_with(), views, 6, 6) if isinstance(o, Outcome)]

    assert during == [("approved", 2.0), ("filled", 1.5), ("filled", 0.5)]
    assert (expired.kind, expired.seq, expired.open_usdc) == ("expired", 6, 0.0)
    assert expired.why == "0.5000000000 of 2.0000000000 did not fill"


def test_an_order_in_doubt_has_expired_until_a_fill_comes_after_all(view: MarketView) -> None:
    """A node dropped it; another may fill it, and then it did."""
    feedback, views = Feedback(US), {TICKER: view}
    feedback.judged(approved(), views)

    doubted = learnt(feedback, risk_with(doubted=True), views)
    feedback.filled(fills(fill("2"), seq=3), views)
    late = learnt(feedback, risk_with(), views)

    assert doubted == [("approved", 2.0), ("expired", 0.0)]
    assert late == [("filled", 0.0)]


@pytest.mark.parametrize(
    ("type_", "learns"),
    [
        ("LIQUIDATED", [("cut", "LIQUIDATED")]),
        ("DELEVERAGED", [("cut", "DELEVERAGED")]),
        ("LIMIT", []),
    ],
)
def test_a_fill_that_nobody_ordered_is_a_cut_if_the_venue_made_it(
    view: MarketView, type_: str, learns: list[tuple[str, str]]
) -> None:
    """What a person trades on the same account is neither."""
    feedback = Feedback(US)
    feedback.filled(fills(fill("1", client_id=99, type=type_, side="SELL"), seq=3), {TICKER: view})

    news = feedback.news(risk_with(), {TICKER: view}, 3, 3)

    assert [(o.kind, o.reason) for o in news if isinstance(o, Outcome)] == learns


def test_a_denial_of_the_guards_is_of_no_decision(view: MarketView) -> None:
    """Nobody decided what the guard could not do."""
    feedback = Feedback(US)
    denied = Denied(
        id="V1", ticker=TICKER, decision=None, seq=1, at=1, reason="BELOW_STEP", why="too small"
    )
    feedback.judged(denied, {TICKER: view})

    assert learnt(feedback, risk_with(), {TICKER: view}) == []


def test_whether_anything_may_enter_is_news_once(view: MarketView) -> None:
    """As the gate closes and as it opens, though nothing else moved."""
    feedback, risk, views = Feedback(US), risk_with(), {TICKER: view}
    feedback.news(risk, views, 1, 1)
    closed = list[bool]()
    for state in ("ACTIVE", "REDUCING", "HALTED", "ACTIVE"):
        change = GateChange(id="G1", seq=2, at=2, was="ACTIVE", state=state)
        feedback.judged(change, views)
        waiting, news = feedback.is_waiting(risk), feedback.news(risk, views, 2, 2)
        assert waiting == bool(news)
        closed += [one.closed for one in news if isinstance(one, Holdings)]

    assert closed == [True, False]


def test_the_fill_of_a_guards_order_is_a_cut(view: MarketView) -> None:
    """Its verdict is no outcome, its fill is one; that it ends unfilled concerns no decision."""
    feedback, views = Feedback(US), {TICKER: view}
    feedback.judged(
        Reduce(
            id="V1", order=order(), seq=1, at=1, before=NOTHING, after=NOTHING, distance=0.1,
            rung=1, cost=0, why="near",
        ),
        views,
    )  # fmt: skip
    feedback.filled(fills(fill("1"), seq=2), views)

    [cut] = [o for o in feedback.news(risk_with(), views, 3, 3) if isinstance(o, Outcome)]

    assert (cut.kind, cut.reason, cut.why, cut.usdc) == ("cut", "GUARD", "near", 10.0)


def test_only_so_many_orders_are_remembered(view: MarketView) -> None:
    """A fill of one long gone is nobody's; the newest are known."""
    feedback, views = Feedback(US), {TICKER: view}
    for client_id in range(1_025):
        feedback.judged(approved(client_id), views)
    feedback.news(risk_with(), views, 3, 3)
    feedback.filled(fills(fill("1", client_id=0), fill("1", client_id=1_024), seq=4), views)

    assert [kind for kind, _ in learnt(feedback, risk_with(), views)] == ["filled"]


def test_a_position_without_a_price_is_valued_at_its_entry(run: tuple[Bot, Buyer]) -> None:
    """It is held all the same."""
    bot, _ = run
    feedback = Feedback(US)

    [held] = [x for x in feedback.news(bot.risk, {}, 3, 3) if isinstance(x, Holdings)]

    for ticker, position in bot.risk.account.positions.items():
        assert held[ticker].size == position.size
        assert position.entry_price is not None
        assert Decimal(held[ticker].usdc) == pytest.approx(position.size * position.entry_price)


class Careful:
    """Rest behind the market for a while, and leave what fills at a loss or a gain of a percent."""

    name = "careful"

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.due: dict[str, int] = defaultdict(int)

    def step(self, scored: Scored, held: Holdings) -> Iterator[Decision]:
        """Want 2,000 USDC of each market, once in 40 s."""
        oracle = scored.view.oracle
        if oracle is not None and scored.at >= self.due[scored.ticker]:
            self.due[scored.ticker] = scored.at + 40_000_000_000
            yield Decision.of(
                scored, 2_000.0, "with care", entry="make", entry_offset_bps=1.0, patience_s=20.0,
                stop_loss=oracle.price * 0.99, take_profit=oracle.price * 1.01,
            )  # fmt: skip

    def learn(self, outcome: Outcome) -> None:
        """Store an outcome."""
        self.outcomes.append(outcome)


@pytest.mark.replays
def test_entries_that_wait_and_brackets_are_reported_and_explained() -> None:
    """Over the recording's crash: what waited in vain has expired, what was stopped has filled."""
    made: list[Careful] = []

    def careful() -> Careful:
        made.append(Careful())
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STRATEGIES, "careful", careful)
        bot = Bot(Options.of("reckless", strategy="careful"))
    bot.run(replay("quickstart"))
    outcomes, account = made[-1].outcomes, bot.risk.account

    expired = [o for o in outcomes if o.kind == "expired"]
    assert expired
    assert all("did not fill" in o.why for o in expired)
    stopped = [o for o in outcomes if o.reason == "STOP_LOSS"]
    assert stopped
    assert {(o.kind, o.usdc < 0, o.open_usdc) for o in stopped} == {("filled", True, 0.0)}
    assert all(o.decision and o.why.startswith("stop loss on the venue: sell") for o in stopped)
    held = {row.ticker for row in bot.risk.positions()}
    assert {
        bracket.ticker for bracket in account.orders.brackets.values() if not bracket.asked
    } <= held

    # From the fill of a stop back to the decision, in words.
    entry = next(e for e in bot.journal.of_kind("bracket") if "stop loss" in e.words)
    lines = "\n".join(chain(entry, bot.journal, None))
    assert "stop order" in lines
    assert "resting 1 bps behind the best price for 20 s, stop loss at" in lines


def paid(held: dict[str, float], rates: dict[str, float], *all_time: int) -> list[tuple[str, int]]:
    """Return what each market brought of what the account was paid, of all time, in turn."""
    feedback, views = Feedback(US), dict[str, Any]()
    feedback._held = {
        ticker: Held(ticker=ticker, size=Decimal(1), usdc=usdc, entry_price=1.0, seq=1, at=1)
        for ticker, usdc in held.items()
    }
    for ticker, rate in rates.items():
        views[ticker] = SimpleNamespace(funding=SimpleNamespace(known=True, next_rate_1h=rate))
    for height, funding in enumerate(all_time):
        update = AccountUpdate(
            seq=1, at=1, subaccount=US, height=height, profit=Profit(funding=funding)
        )
        feedback.filled(update, views)
    news = [one for one in feedback._news if isinstance(one, Outcome)]
    assert {one.kind for one in news} == {"funding"}
    return [(one.ticker, one.cash) for one in news]


def test_funding_is_shared_by_market_and_adds_up():
    """By the hours and the rates that explain it, the rest by value; of nothing, nobody's."""
    held, rates = {TICKER: 1_000.0, "ETH-USD": -500.0}, {TICKER: 1e-4, "ETH-USD": 1e-5}

    # In two hours 200,000 are paid and 10,000 had; 3 are left open.
    assert paid(held, rates, -190_003) == [(TICKER, -200_002), ("ETH-USD", 9_999)]
    assert paid(held, {}, 0, 9, 9, 12) == [
        (TICKER, 6), ("ETH-USD", 3), (TICKER, 2), ("ETH-USD", 1),
    ]  # fmt: skip
    assert paid({}, {}, -7) == [("", -7)]
