"""Each panel over sessions of the real software: what the account held is what is drawn."""

import re
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property

import pytest
from dydx_conn import Accounts, Subaccount
from dydx_data import DataState, MarketView, step
from dydx_panels import (
    KEYS,
    BookPart,
    HeaderPart,
    MarketRow,
    QualityPart,
    SafetyPart,
    Snapshot,
    View,
    WirePart,
    dashboard,
    panel,
)
from dydx_risk import Policy, Risk
from dydx_signals import Score, Scorer
from dydx_strategy import Decider, Decision, Holdings
from rich.cells import cell_len
from sessions import REAL, Session

POLICY = Policy()
SIZES = ((80, 24), (120, 40), (200, 60))


@dataclass
class Play:
    """A session folded by the layers as `bot watch` would: nothing is sent, all is read."""

    session: Session
    data: DataState = field(default_factory=DataState)
    decisions: list[Decision] = field(default_factory=list)
    scores: dict[str, tuple[Score, ...]] = field(default_factory=dict)

    @cached_property
    def owner(self) -> str:
        """The first account of the session, address/number."""
        return str(next(iter(self.session.truth["state"])))

    @cached_property
    def risk(self) -> Risk:
        """Fold every frame; return what judges the account."""
        address, _, number = self.owner.partition("/")
        owner = Subaccount(address, int(number))
        risk, accounts, scorer, decider = Risk(POLICY, owner), Accounts(), Scorer(), Decider()
        for frame in self.session.frames:
            for update in accounts.step(frame):
                if update.subaccount == owner:
                    risk.step(update)
            risk.step(frame)
            for view in step(self.data, frame):
                risk.step(view)
                decider.step(Holdings({}, 10_000.0))
                for scored in scorer.step(view):
                    self.scores[scored.ticker] = scored.scores
                    self.decisions += decider.step(scored)
        return risk

    @cached_property
    def watched(self) -> set[str]:
        """The markets whose book was subscribed to."""
        return {f.id for f in self.session.frames if f.channel == "v4_orderbook" and f.id}

    @cached_property
    def snapshot(self) -> Snapshot:
        """Copy what stands at the end."""
        risk = self.risk
        views = [self.data.views[ticker] for ticker in sorted(self.watched)]
        return Snapshot(
            header=HeaderPart(mode="WATCH", source=str(self.session)),
            safety=SafetyPart(
                margin=risk.margin, positions=len(risk.account.positions), closest=risk.closest,
                act_below=POLICY.act_below,
            ),
            positions=tuple(risk.positions()),
            markets=tuple(map(self.row, views)),
            decisions=tuple(reversed(self.decisions)),
            watch=risk.watch(views[0]),
            book=self.book(views[0]),
            quality=QualityPart(samples=tuple(views[0].quality.samples)),
            wire=WirePart(height=self.data.chain.height, block_time_ns=self.data.chain.time_ns),
        )  # fmt: skip

    def row(self, view: MarketView) -> MarketRow:
        """Copy a market."""
        return MarketRow(
            ticker=view.ticker, market=view.market, price=view.book.mid_price, status=view.status,
            scores=self.scores.get(view.ticker, ()),
        )  # fmt: skip

    @staticmethod
    def book(view: MarketView) -> BookPart:
        """Copy a book."""
        return BookPart(
            ticker=view.ticker, market=view.market, known=view.book.known,
            bids=tuple(view.book.bids(12)), asks=tuple(view.book.asks(12)), seq=view.book.seq,
            mid_price=view.book.mid_price, trades=tuple(view.trades),
        )  # fmt: skip


@pytest.fixture(scope="module", params=REAL, ids=str)
def play(request):
    """Give each session in turn, folded once."""
    return Play(request.param)


def drawn(play: Play, name: str, width: int = 120, height: int = 40) -> str:
    """Draw a panel alone."""
    return panel(name, play.snapshot, width, height, View(panel=name)).text


@pytest.mark.parametrize("name", [*KEYS.values(), "help", "why"])
def test_a_panel_of_a_real_session_is_as_large_as_requested(play, name):
    """At three sizes; nothing in it could move a terminal's cursor."""
    for width, height in SIZES:
        rows = drawn(play, name, width, height).split("\n")
        assert [width] * height == [cell_len(row) for row in rows]
        assert all(row.isprintable() for row in rows)


def test_the_dashboard_of_a_real_session_fits_its_terminal(play):
    """Twice the same, and no wider than the terminal."""
    for width, height in SIZES:
        text = dashboard(play.snapshot, View(), width, height).text
        assert [width] * height == [cell_len(row) for row in text.split("\n")]
        assert dashboard(play.snapshot, View(), width, height).text == text


def test_the_positions_drawn_are_those_that_the_node_holds(play):
    """Every market, its side and its size; none if the chain has none."""
    truth = play.session.truth
    rows = drawn(play, "positions").split("\n")
    held = truth["state"][play.owner]["positions"]
    for position in held:
        market = truth["markets"][position["ticker"]]
        size = Decimal(position["quantums"]).scaleb(market["atomic_resolution"])
        [row] = [row for row in rows if position["ticker"] in row]
        assert ("short" if size < 0 else "long") in row.casefold()
        assert re.search(rf"(?<![\d.]){abs(size.normalize()):,f}0*(?!\d)", row), row
    assert held or "no open position is known" in "\n".join(rows)


def test_the_margin_drawn_is_the_margin_judged(play):
    """Equity to the cent, wherever the account is known."""
    margin = play.risk.margin
    assert not margin.unknown
    assert f"{margin.net_collateral / 1e6:,.2f}" in drawn(play, "safety")


def test_every_market_is_drawn_with_its_price_and_scores(play):
    """A market without a book shows none."""
    markets, signals = drawn(play, "markets"), drawn(play, "signals", 160, 60)
    for row in play.snapshot.markets:
        assert row.ticker in markets
        assert row.ticker in signals
        for score in row.scores:
            line = rf"{row.ticker} +{score.signal} +{score.value:.1f} .*#{score.seq}\b"
            assert re.search(line, signals)


def test_the_book_drawn_begins_with_its_best_levels(play):
    """Best bid and best ask stand in it; an unknown book says so."""
    book, text = play.snapshot.book, drawn(play, "book")
    for side in (book.bids, book.asks):
        for level in side[:1]:
            assert level.price_text.rstrip("0").rstrip(".") in text.replace(",", "")


def test_every_decision_is_drawn_with_its_frame_and_reason(play):
    """The newest first."""
    text = drawn(play, "decisions", 200, 60)
    for decision in play.snapshot.decisions[:1]:
        assert f"#{decision.seq}" in text
        assert decision.reasons[0][:40] in text
