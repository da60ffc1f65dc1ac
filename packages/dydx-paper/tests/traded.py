"""What several tests here replay: the recorded crash, traded, and the real software's shapes."""

from collections.abc import Iterable

from dydx_conn import Frame, OrderRequest, Subaccount, collect, load_recorded_stream
from dydx_data import DataState, MarketView, step
from dydx_paper import PaperVenue
from habits import Shape, shapes
from sessions import REAL

OWNER = Subaccount("dydx1paper", 0)


def trade() -> tuple[PaperVenue, list[Frame]]:
    """Buy and sell by turns, one step of size at a time, at every 50th book."""
    venue, state = PaperVenue(OWNER, 100_000_000_000), DataState()
    made: list[Frame] = []
    books = 0
    for frame in collect(load_recorded_stream("quickstart")):
        for view in step(state, frame):  # a view is updated in place: meet it at once
            made += venue.step(view)
            books += view.changed == "book"
            if view.changed == "book" and books % 50 == 0:
                made += order(venue, view, books // 50)
    return venue, made


def order(venue: PaperVenue, view: MarketView, number: int) -> list[Frame]:
    """Send an IOC order a hundred ticks beyond the best price."""
    market, best = view.market, view.book.best_ask if number % 3 else view.book.best_bid
    if market is None or best is None:
        return []
    away = 100 * market.subticks_per_tick * (1 if number % 3 else -1)
    return venue.step(
        OrderRequest(
            ticker=view.ticker,
            clob_pair_id=market.clob_pair_id,
            side="BUY" if number % 3 else "SELL",
            quantums=market.step_base_quantums,
            subticks=max(market.subticks_per_tick, market.subticks(best.price_text) + away),
            time_in_force="IOC",
            client_id=number,
            good_til_block=view.chain.height + 20,
        )
    )


def forms(frames: Iterable[Frame]) -> set[Shape]:
    """Return the shapes of frames; every author adds the trigger of a conditional order."""
    return {
        shape._replace(keys=tuple(key for key in shape.keys if key != "triggerPrice"))
        for shape in shapes(frames)
        if shape.value[:1] != ("triggerPrice",)
    }


KNOWN = forms(frame for session in REAL for frame in session.frames)
