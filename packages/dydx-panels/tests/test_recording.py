"""Each panel, driven by the layers' own values over the bundled recording."""

import pytest
from dydx_conn import Accounts, Frame, Subaccount, load_recorded_stream
from dydx_data import DataState, MarketView, market_views
from dydx_panels import (
    KEYS,
    BookPart,
    MarketRow,
    QualityPart,
    SafetyPart,
    Snapshot,
    View,
    WirePart,
    panel,
)
from dydx_panels import dashboard as whole
from dydx_paper import PaperVenue
from dydx_risk import GateChange, Judgement, Policy, Reduce, Risk, Verdict
from dydx_signals import Scored, Scorer, scores
from dydx_strategy import Decision, Held, Holdings, RankSettings, decisions
from dydx_strategy import RankAndTarget as Standard
from reactivex.subject import Subject
from rich.cells import cell_len

OWNER = Subaccount("dydx1panels", 0)
POLICY = Policy(act_below=0.10, restore_to=0.15, keep_above=0.18)


class Run:
    """The layers joined as simply as can be: venue, risk, then opinion, within each frame."""

    def __init__(self) -> None:
        self.data, self.risk = DataState(), Risk(POLICY, OWNER)
        self.venue, self.accounts = PaperVenue(OWNER, deposit=10_000 * 10**6), Accounts()
        self.decisions: list[Decision] = []
        self.verdicts: list[Verdict] = []
        self.scorer = Scorer()
        self._views: Subject[MarketView] = Subject()
        settings = RankSettings(
            gross_share=4.5, market_share=1.6, smallest_share=0.8, confirm_s=45.0
        )
        rated: Subject[Scored | Holdings] = Subject()
        rated.pipe(decisions(lambda: Standard(settings))).subscribe(self._decided)
        self._views.pipe(scores(self.scorer)).subscribe(self._rate)
        self._rated = rated
        load_recorded_stream("quickstart").pipe(market_views(self.data)).subscribe(self._see)

    def _rate(self, scored: Scored) -> None:
        self._rated.on_next(self._held())
        self._rated.on_next(scored)

    def _held(self) -> Holdings:
        rows, positions = self.risk.positions(), self.risk.account.positions
        held = {
            row.ticker: Held(
                ticker=row.ticker, size=row.size, usdc=(row.net_notional or 0) / 1e6,
                entry_price=float(positions[row.ticker].entry_price or 0), seq=row.seq, at=0,
            )
            for row in rows
        }  # fmt: skip
        return Holdings(held, self.risk.margin.net_collateral / 1e6)

    def _see(self, view: MarketView) -> None:
        self._account(self.venue.step(view))
        self._judged(self.risk.step(view))
        self._views.on_next(view)

    def _decided(self, decision: Decision) -> None:
        self.decisions.append(decision)
        self._judged(self.risk.step(decision))

    def _judged(self, verdicts: list[Judgement]) -> None:
        self.verdicts += [value for value in verdicts if not isinstance(value, GateChange)]
        for order in (getattr(verdict, "order", None) for verdict in verdicts):
            self._account(self.venue.step(order) if order is not None else [])

    def _account(self, frames: list[Frame]) -> None:
        for frame in frames:
            for update in self.accounts.step(frame):
                self.risk.step(update)

    def snapshot(self) -> Snapshot:
        """Copy what stands now."""
        views = list(self.data.views.values())
        book = views[0].book
        last = next((v for v in reversed(self.verdicts) if isinstance(v, Reduce)), None)
        return Snapshot(
            safety=SafetyPart(margin=self.risk.margin, positions=len(self.risk.account.positions),
                          closest=self.risk.closest, act_below=POLICY.act_below,
                          last=last),
            positions=tuple(self.risk.positions()),
            markets=tuple(
                MarketRow(ticker=v.ticker, market=v.market, price=v.book.mid_price,
                          status=v.status, scores=self.scorer.scores(v.ticker)) for v in views),
            decisions=tuple(reversed(self.decisions)),
            verdicts=tuple(reversed(self.verdicts)),
            watch=self.risk.watch(views[0]),
            book=BookPart(ticker=views[0].ticker, market=views[0].market, known=book.known,
                      bids=tuple(book.bids(12)), asks=tuple(book.asks(12)), seq=book.seq,
                      mid_price=book.mid_price, trades=tuple(views[0].trades)),
            quality=QualityPart(samples=tuple(views[0].quality.samples)),
            wire=WirePart(height=self.data.chain.height, block_time_ns=self.data.chain.time_ns),
        )  # fmt: skip


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    """Return the end of a run over the recording, crash and all."""
    return Run().snapshot()


@pytest.mark.parametrize("name", [*KEYS.values(), "help", "why"])
def test_each_panel_draws_what_the_layers_made(snapshot: Snapshot, name: str) -> None:
    """Alone at three sizes, every row is as wide as requested."""
    for width, height in ((80, 24), (120, 40), (200, 60)):
        rows = panel(name, snapshot, width, height, View(panel=name)).text.split("\n")

        assert [width] * height == [cell_len(row) for row in rows]


def test_the_crash_is_shown_in_the_words_of_risk(snapshot: Snapshot) -> None:
    """The guard acted: its last step stands under the distance, its order among the orders."""
    text = whole(snapshot, View(), 200, 60).text

    assert "last step" in text
    assert "leaves nothing, costs 341.30 USDC" in panel("orders", snapshot, 120, 40).text


def test_every_decision_and_score_is_shown_with_its_frame(snapshot: Snapshot) -> None:
    """What the panels show can be looked up in the recording."""
    decision, score = snapshot.decisions[0], snapshot.markets[0].scores[0]

    assert f"#{decision.seq}" in panel("decisions", snapshot, 120, 40).text
    assert f"#{score.seq}" in panel("signals", snapshot, 120, 40).text
    assert decision.reasons[0][:40] in panel("decisions", snapshot, 120, 40).text
