"""A recorded crash, traded on paper: the same frames give the same account, to the byte."""

from dydx_conn import Accounts, Frame, collect, load_recorded_stream
from dydx_data import DataState, step
from dydx_paper import PaperVenue
from dydx_risk import Account, Risk
from traded import OWNER, order, trade


def test_risk_and_venue_compute_the_same_margin() -> None:
    """After each frame, to the quantum: also in the hours whose funding nobody has settled yet."""
    venue, risk, state = PaperVenue(OWNER, 100_000_000_000), Risk(subaccount=OWNER), DataState()
    reported: list[Frame] = []
    accounts = Accounts()
    books = unsettled = 0
    for frame in collect(load_recorded_stream("quickstart")):
        for view in step(state, frame):
            reported += venue.step(view)
            risk.step(view)
            books += view.changed == "book"
            if view.changed == "book" and books % 200 == 0 and books < 4_000:
                reported += order(venue, view, books // 50)
        for account_frame in reported:
            for update in accounts.step(account_frame):
                risk.step(update)
        reported.clear()
        if not risk.account.seq:
            continue
        unsettled += bool(venue.ledger.unsettled)
        assert venue.ledger.margin.net_collateral == risk.margin.net_collateral
        assert venue.ledger.margin.maintenance_margin == risk.margin.maintenance_margin
        assert venue.ledger.unsettled == risk.account.unsettled.quantums

    assert venue.ledger.holdings
    assert unsettled > 100


def test_a_recording_is_traded_the_same_way_every_time() -> None:
    """Fills happen, money is conserved, risk's fold agrees, and a second run gives the same bytes."""
    venue, frames = trade()

    ledger = venue.ledger
    paid = ledger.paid.for_fills + ledger.paid.fees + ledger.paid.funding + ledger.paid.insurance
    assert ledger.tally.fills > 0
    assert ledger.deposits == ledger.collateral + paid
    account, accounts = Account(OWNER), Accounts()
    for frame in frames:
        for update in accounts.step(frame):
            account.take(update)
    assert ("", ledger.collateral) == (account.trouble, account.collateral)
    assert [frame.text for frame in frames] == [frame.text for frame in trade()[1]]
