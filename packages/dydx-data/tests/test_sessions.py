"""Sessions of the real software: what the views show is what its node and its database held."""

import json
import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Any

import msgspec
import pytest
from dydx_conn import Frame, instant, ws_frame
from dydx_data import (
    WINDOWS,
    DataState,
    MarketView,
    Trade,
    funding_clamp_ppm,
    objections,
    premium_vote,
    step,
)
from sessions import REAL, Session

SECOND = 1_000_000_000

each_session = pytest.mark.parametrize("session", REAL, ids=str)


@cache
def frames_of(session: Session) -> tuple[Frame, ...]:
    """Read the frames of a session, without the recorder's own end."""
    received = [n for n, frame in enumerate(session.frames) if frame.kind in ("ws", "http")]
    return session.frames[: received[-1] + 1]


def played(frames: tuple[Frame, ...], state: DataState) -> Iterator[tuple[Frame, list[MarketView]]]:
    """Fold a session frame by frame; each comes with the views it touched."""
    for frame in frames:
        yield frame, list(step(state, frame))


class Seen:
    """A session folded once: its state at the end, and what there was at any of its frames.

    Nobody may change any of it.
    """

    def __init__(self, session: Session) -> None:
        self.state = state = DataState()
        self.lost = False  # whether a link did not report all
        self.heights = [0]
        self.oracles: dict[str, set[Decimal]] = {}
        self.objections: set[str] = set()  # until a link was lost
        self.known: set[str] = set()  # whose book was known
        self.crossed: list[tuple[int, str]] = []
        self.unknown: list[tuple[int, str]] = []  # whose book had been known, and none was lost
        for frame, views in played(frames_of(session), state):
            self.lost = self.lost or lose(frame)
            self.heights.append(state.chain.height)
            for view in () if self.lost else state.views.values():
                self.objections |= {one.kind for one in objections(view, state.at)}
            for view in views:
                self._look(view, (frame.seq, view.ticker))

    def _look(self, view: MarketView, where: tuple[int, str]) -> None:
        bid, ask = view.book.best_bid, view.book.best_ask
        if bid is not None and ask is not None and bid.price >= ask.price:
            self.crossed.append(where)
        if not (view.book.known or view.ticker not in self.known or self.lost):
            self.unknown.append(where)
        self.known |= {view.ticker} if view.book.known else set()
        if view.oracle is not None:
            self.oracles.setdefault(view.ticker, set()).add(Decimal(view.oracle.text))


seen_in = cache(Seen)


def folded(session: Session) -> DataState:
    """Fold a whole session; nobody may change the state."""
    return seen_in(session).state


def lose(frame: Frame) -> bool:
    """Tell whether a frame ends what a link reports."""
    return frame.kind in ("close", "gap") or frame.is_refusal


@each_session
def test_grids_and_fractions_are_the_chains(session: Session) -> None:
    """Whatever a market is described by."""
    rows = session.truth["markets"]
    names = {
        "perpetual": "perpetual_id", "clob_pair": "clob_pair_id",
        "atomic_resolution": "atomic_resolution",
        "quantum_conversion_exponent": "quantum_conversion_exponent",
        "step_base_quantums": "step_base_quantums", "subticks_per_tick": "subticks_per_tick",
        "initial_margin_ppm": "imf_ppm", "maintenance_fraction_ppm": "maintenance_fraction_ppm",
        "oi_lower_cap": "open_interest_lower_cap", "oi_upper_cap": "open_interest_upper_cap",
    }  # fmt: skip

    shown = {
        ticker: {
            key: getattr(folded(session).views[ticker].market, ours) for key, ours in names.items()
        }
        for ticker in rows
    }

    assert shown == {t: {key: int(row[key]) for key in names} for t, row in rows.items()}


@each_session
def test_the_chains_oracle_price_was_shown(session: Session) -> None:
    """To the last digit, though a market may say nothing for minutes."""
    seen = seen_in(session).oracles

    for ticker, row in session.truth["markets"].items():
        assert Decimal(row["oracle_price"]).scaleb(row["oracle_exponent"]) in seen[ticker]


@each_session
def test_open_interest_is_the_last_report_of_the_living_field(session: Session) -> None:
    """`baseOpenInterest` stands beside it in every description, and is 0 in all of them."""
    reported: dict[str, str] = {}
    for frame in frames_of(session):
        if frame.kind == "ws" and frame.channel == "v4_markets":
            given = json.loads(frame.text).get("contents", {})
            for part in given if isinstance(given, list) else [given]:
                for ticker, row in {**part.get("markets", {}), **part.get("trading", {})}.items():
                    assert row.get("baseOpenInterest", "0") == "0"
                    reported[ticker] = row.get("openInterest", reported.get(ticker, ""))

    for ticker, text in reported.items():
        view = folded(session).views[ticker]
        assert view.market is not None
        assert view.open_interest == int(Decimal(text).scaleb(-view.market.atomic_resolution))


def test_past_the_upper_cap_open_interest_is_the_chains() -> None:
    """It came to 43 million AVAX, of 80 before."""
    [session] = [one for one in REAL if str(one) == "25-open-interest-full-margin"]

    shown = folded(session).views["AVAX-USD"].open_interest

    assert shown == session.truth["markets"]["AVAX-USD"]["open_interest_quantums"]


@each_session
def test_trades_stand_in_the_order_of_their_events(session: Session) -> None:
    """As the node made them, though a snapshot has those of a block in none."""
    true: dict[str, list[str]] = {}
    for _, event, ticker, *_ in session.truth["trades"]:
        true.setdefault(ticker, []).append(event)

    for ticker, view in folded(session).views.items():
        shown = [trade.id for trade in view.trades]
        assert shown == sorted(shown)
        both = set(true.get(ticker, ())) & set(shown)
        assert [x for x in shown if x in both] == [x for x in true.get(ticker, ()) if x in both]


def shuffled(frame: Frame, dice: random.Random) -> Frame:
    """Put the trades of each block of a snapshot in another order."""
    if frame.kind != "ws" or frame.channel != "v4_trades" or not frame.is_snapshot:
        return frame
    message = json.loads(frame.text)
    dice.shuffle(message["contents"]["trades"])
    message["contents"]["trades"].sort(key=lambda row: row["createdAt"], reverse=True)
    text = json.dumps(message)
    return msgspec.structs.replace(frame, text=text, raw=json.dumps(message["contents"]).encode())


def opinions(state: DataState) -> dict[str, Any]:
    """Gather what signals are made of."""
    return {
        ticker: (
            [trade.id for trade in view.trades],
            {name: list(candles) for name, candles in view.candles.items()},
            [(x.buys, x.sells, x.trades) for x in map(view.flow.over, ("1MIN", "1HOUR"))],
            view.book.mid_price,
        )
        for ticker, view in state.views.items()
        if view.live_at
    }


@each_session
def test_the_order_in_a_snapshot_changes_nothing(session: Session) -> None:
    """Last price, flow and candles come from the events, not from the rows."""
    dice, state = random.Random(str(session)), DataState()

    for _ in played(tuple(shuffled(frame, dice) for frame in frames_of(session)), state):
        pass

    assert opinions(state) == opinions(folded(session))


@each_session
def test_nothing_is_stale_while_links_live(session: Session) -> None:
    """Neither an oracle price that stands for two minutes nor a chain that halts for twelve s."""
    seen = seen_in(session)

    assert "STALE" not in seen.objections
    assert seen.lost or "stale" not in seen.state.counts()


@each_session
def test_a_book_is_never_crossed_and_unknown_only_after_a_loss(session: Session) -> None:
    """The indexer's own is crossed for hours, where expired orders stay on it."""
    seen = seen_in(session)

    assert seen.known
    assert (seen.crossed, seen.unknown) == ([], [])


@each_session
def test_the_chain_only_grows_and_is_seen_to_the_end(session: Session) -> None:
    """Blocks are taken one after the other, whatever the halt between them."""
    seen = seen_in(session)
    state = seen.state

    assert seen.heights == sorted(seen.heights)
    assert state.chain.height >= session.truth["true_at_block"] - 1
    assert state.counts().get("out_of_order", 0) == 0


@pytest.mark.parametrize("jump_s", [3_600, -3_600])
@each_session
def test_a_clock_that_is_set_changes_nothing(session: Session, jump_s: int) -> None:
    """An hour ahead or back from the middle on, and right again for the last third."""
    frames, state = frames_of(session), DataState()
    middle, last = len(frames) // 3, 2 * len(frames) // 3

    for n, frame in enumerate(frames):
        set_ns = jump_s * SECOND if middle <= n < last else 0
        step(state, msgspec.structs.replace(frame, at=frame.at + set_ns))

    right = folded(session)
    assert opinions(state) == opinions(right)
    assert state.counts() == right.counts() | {"clock": 2}
    # A jump is measured between two frames, whose clocks do not tick as one.
    assert abs(state.at - right.at) < SECOND // 100


# === Books ===


class PlainBook:
    """One market's book from the messages of its channel: each price's last size, and its age."""

    def __init__(self) -> None:
        self.sides: tuple[dict[Decimal, tuple[Decimal, int]], ...] = ({}, {})
        self.age = 0

    def take(self, frame: Frame) -> None:
        """Take a snapshot or an update, a batch item by item."""
        given = json.loads(frame.text)["contents"]
        if frame.type == "subscribed":
            self.__init__()  # type: ignore[misc]
        for item in given if isinstance(given, list) else [given]:
            self.age += 1
            for levels, side in zip(("bids", "asks"), self.sides, strict=True):
                for row in item.get(levels, ()):
                    price, size = row.values() if isinstance(row, dict) else row
                    side[Decimal(price)] = Decimal(size), self.age

    def shown(self) -> list[list[tuple[Decimal, Decimal]]]:
        """Return the sides, best first: of two that cross, the older goes, then the smaller."""
        bids, asks = ({p: row for p, row in side.items() if row[0]} for side in self.sides)
        while bids and asks and max(bids) >= min(asks):
            bid, ask = bids[max(bids)], asks[min(asks)]
            if (bid[1], bid[0]) <= (ask[1], ask[0]):
                del bids[max(bids)]
            else:
                del asks[min(asks)]
        best_first = sorted(bids.items(), reverse=True), sorted(asks.items())
        return [[(price, size) for price, (size, _) in side] for side in best_first]


@each_session
def test_a_book_is_the_last_size_reported_at_each_price(session: Session) -> None:
    """After every message of the socket, all levels, and their totals."""
    plain: dict[str, PlainBook] = defaultdict(PlainBook)
    alone = tuple(f for f in frames_of(session) if f.kind != "http")
    compared = 0
    for frame, views in played(alone, DataState()):
        if frame.channel == "v4_orderbook" and frame.kind == "ws" and frame.type != "error":
            plain[frame.id].take(frame)
        for view in views:
            if view.changed != "book" or not view.book.known:
                continue
            book, compared = view.book, compared + 1
            shown = [
                [(Decimal(level.price_text), Decimal(level.size_text)) for level in side]
                for side in (book.bids(), book.asks())
            ]
            assert shown == plain[view.ticker].shown()
            totals = [float(sum(size for _, size in side)) for side in shown]
            assert [book.bid_total, book.ask_total] == pytest.approx(totals, abs=1e-9)
            assert book.best_bid == next(iter(book.bids(1)), None)
            assert book.best_ask == next(iter(book.asks(1)), None)

    assert compared


@each_session
def test_after_a_lost_message_no_book_of_the_link_is_believed(session: Session) -> None:
    """From the hole on, until the next snapshot: an update alone brings none back."""
    frames = frames_of(session)
    updates = [
        n for n, frame in enumerate(frames)
        if frame.channel == "v4_orderbook" and frame.type == "channel_batch_data"
    ]  # fmt: skip
    lost = updates[len(updates) // 2]
    state, whole = DataState(), set[str]()

    for frame, _ in played(frames[:lost] + frames[lost + 1 :], state):
        if "gap" not in state.counts():
            continue
        if frame.type == "subscribed" and frame.channel == "v4_orderbook":
            whole.add(frame.id)
        if frame.type == "connected" or frame.kind in ("open", "close"):
            whole.clear()
        by_socket = {view.ticker for view in state.views.values() if view.book.link}
        known = {view.ticker for view in state.views.values() if view.book.known}
        assert known & by_socket <= whole

    assert state.counts()["gap"] == 1 + folded(session).counts().get("gap", 0)


@each_session
def test_a_message_that_comes_twice_changes_nothing(session: Session) -> None:
    """Of whatever channel."""
    state, messages = DataState(), 0
    for frame in frames_of(session):
        step(state, frame)
        if frame.kind == "ws" and frame.message_id:
            step(state, frame)
            messages += 1

    right = folded(session)
    assert opinions(state) == opinions(right)
    for ticker, view in state.views.items():
        assert view.book.bids() == right.views[ticker].book.bids()
        assert view.book.asks() == right.views[ticker].book.asks()
    assert state.counts()["duplicate"] >= messages


@each_session
def test_broken_characters_cost_their_own_message(session: Session) -> None:
    """One in fifty texts is broken: nothing raises, no book is crossed, the chain only grows."""
    dice, state, height = random.Random(str(session)), DataState(), 0
    for frame in frames_of(session):
        sent = frame
        if frame.kind == "ws" and not dice.randrange(50):
            place = dice.randrange(len(frame.text))
            text = frame.text[:place] + chr(dice.randrange(1, 128)) + frame.text[place + 1 :]
            sent = ws_frame(frame.seq, frame.at, frame.mono, frame.link, text)
        for view in step(state, sent):
            bid, ask = view.book.best_bid, view.book.best_ask
            assert bid is None or ask is None or bid.price < ask.price
        assert state.chain.height >= height
        height = state.chain.height

    assert state.frames == len(frames_of(session))
    # Of a hundred blocks one at most is lost at the end.
    assert height >= session.truth["true_at_block"] - 10


# === Tapes ===


@each_session
def test_each_trade_is_the_databases(session: Session) -> None:
    """The taker's side, size and price as their texts, and what kind of match it was."""
    true = {event: tuple(row) for _, event, *row in session.truth["trades"]}

    shown = {
        trade.id: (ticker, trade.side, trade.size_text, trade.price_text, trade.type)
        for ticker, view in folded(session).views.items()
        for trade in view.trades
        if trade.id in true
    }

    assert shown == {event: true[event] for event in shown}
    assert shown


@each_session
def test_flow_is_the_plain_sum_of_each_window(session: Session) -> None:
    """A recount of all trades, on the same bucket edges, at the end of each session."""
    seen: dict[str, list[Trade]] = defaultdict(list)
    state = DataState()
    for _, views in played(frames_of(session), state):
        for view in views:
            if view.changed == "trades":
                seen[view.ticker] += view.fresh

    assert seen
    for ticker, trades in seen.items():
        flow = state.views[ticker].flow
        for window in WINDOWS:
            made = flow.over(window)
            width_s = 300 if window == "24HOURS" else 5 if window in ("5MINS", "1HOUR") else 1
            newest = max([flow.now_ns, *(x.at_ns for x in trades)]) // SECOND // width_s
            first = newest - WINDOWS[window][1] + 1
            rows = sums_of([x for x in trades if x.at_ns // SECOND // width_s >= first])
            assert (made.trades, made.buys, made.sells, made.usd) == pytest.approx(rows, rel=1e-12)


def sums_of(trades: list[Trade]) -> tuple[float, ...]:
    """Count trades, and sum what takers bought and sold, and all in USDC."""
    bought = math.fsum(trade.size for trade in trades if trade.side == "BUY")
    sold = math.fsum(trade.size for trade in trades if trade.side == "SELL")
    return len(trades), bought, sold, math.fsum(trade.size * trade.price for trade in trades)


def units_of(view: MarketView) -> tuple[Callable[[Decimal], int], Callable[[Decimal], int]]:
    """Return what makes subticks of a price, to the nearest, and quantums of a size."""
    assert view.market is not None
    price, size = view.market.price(1), view.market.size(1)
    return lambda text: round(text / price), lambda text: int(text / size)


@each_session
def test_candles_of_trades_alone_group_what_was_traded(session: Session) -> None:
    """Without the venue's candles: first, highest, lowest and last of each minute, and the sums."""
    alone = [f for f in frames_of(session) if "candles" not in f.channel]
    state, seen = DataState(), defaultdict[str, list[Trade]](list)
    for frame in alone:
        for view in step(state, frame):
            seen[view.ticker] += view.fresh if view.changed == "trades" else ()

    for ticker, trades in seen.items():
        minutes: dict[int, list[Trade]] = defaultdict(list)
        for trade in sorted(trades, key=lambda trade: (trade.at_ns, trade.id)):
            minutes[trade.at_ns // (60 * SECOND) * 60 * SECOND].append(trade)
        subticks, quantums = units_of(state.views[ticker])
        for candle in state.views[ticker].candles["1MIN"]:
            of = minutes.get(candle.started_at, [])
            assert candle.trades == len(of)
            assert candle.volume == sum(quantums(Decimal(t.size_text)) for t in of)  # integers
            if of:
                prices = [subticks(Decimal(trade.price_text)) for trade in of]
                assert (candle.open, candle.close) == (prices[0], prices[-1])
                assert (candle.low, candle.high) == (min(prices), max(prices))


_WITH_CANDLES = [s for s in REAL if any(s.truth["candles_1min_complete"].values())]


@pytest.mark.parametrize("session", _WITH_CANDLES, ids=str)
def test_a_complete_candle_is_the_databases(session: Session) -> None:
    """To the last trade, though a snapshot comes in the middle of one."""
    for ticker, rows in session.truth["candles_1min_complete"].items():
        view = folded(session).views[ticker]
        ours = {candle.started_at: candle for candle in view.candles["1MIN"]}
        subticks, quantums = units_of(view)
        for row in rows:
            candle = ours[instant(row["startedAt"])]
            assert (candle.open, candle.high, candle.low, candle.close) == tuple(
                subticks(Decimal(row[name])) for name in ("open", "high", "low", "close")
            )
            assert candle.trades == row["trades"]
            assert candle.volume == quantums(Decimal(row["baseTokenVolume"]))
            assert candle.usd_volume == Decimal(row["usdVolume"]) * 10**6


@each_session
def test_the_time_of_a_block_is_the_chains(session: Session) -> None:
    """The block that the truth is of, as it came by."""
    times = {
        state.chain.height: state.chain.time_ns
        for state in [DataState()]
        for _ in played(frames_of(session), state)
    }

    at, time = session.truth["true_at_block"], session.truth["block_time"]
    if at in times:
        assert times[at] // 10**6 == instant(time.replace(" ", "T").replace("+00", "Z")) // 10**6
    assert max(times) - at in range(-1, 30)


# === Markets ===


@each_session
def test_the_funding_rate_is_the_last_that_was_reported(session: Session) -> None:
    """Of the snapshot, an update or an answer."""
    reported: dict[str, str] = {}
    for frame in frames_of(session):
        is_update = frame.channel == "v4_markets" and frame.kind == "ws"
        if not is_update and frame.channel != "/v4/perpetualMarkets":
            continue
        given = json.loads(frame.text)
        given = given.get("contents", given)
        for part in given if isinstance(given, list) else [given]:
            for ticker, row in {**part.get("markets", {}), **part.get("trading", {})}.items():
                reported[ticker] = row.get("nextFundingRate") or reported.get(ticker, "")

    shown = {ticker: view.funding.next_rate_text for ticker, view in folded(session).views.items()}
    assert shown == reported


@each_session
def test_one_market_alone_is_as_among_all(session: Session) -> None:
    """No reader mixes markets, and what nobody wants gets no view."""
    right = opinions(folded(session))
    for ticker in session.truth["markets"]:
        state = DataState([ticker])
        for frame in frames_of(session):
            step(state, frame)
        assert set(state.views) == {ticker}
        assert opinions(state) == {ticker: right[ticker]}


@each_session
def test_a_premium_is_the_average_price_of_the_notional_over_the_oracles(session: Session) -> None:
    """Voted on real books: in USDC and base units, as one would reckon it by hand."""
    notional = 700 * 10**6
    for n, (_, views) in enumerate(played(frames_of(session), DataState())):
        for view in views if n % 5 == 0 else ():
            market, oracle = view.market, view.oracle
            if view.changed != "book" or market is None or oracle is None:
                continue
            bids, asks = (
                [(market.subticks(x.price_text), market.quantums(x.size_text)) for x in side]
                for side in (view.book.bids(), view.book.asks())
            )
            price = Fraction(Decimal(oracle.text))
            side, sign = view.book.bids(), 1
            if not bids or Fraction(side[0].price_text) <= price:
                side, sign = view.book.asks(), -1
                if not asks or Fraction(side[0].price_text) >= price:
                    side = []
            left, base, step_size = Fraction(700), Fraction(0), Fraction(market.size(1))
            for level in side:
                each, size = Fraction(level.price_text), Fraction(level.size_text)
                base += min(size, left / each)
                left -= size * each
                if left <= 0:
                    break
            average = None if left > 0 else 700 / (math.ceil(base / step_size) * step_size)
            vote = 0
            if average is not None and (average - price) * sign > 0:
                vote = int((average / price - 1) * 10**6)

            most = funding_clamp_ppm(60_000_000, market.imf_ppm, market.maintenance_fraction_ppm)
            terms = {"impact_notional": notional, "clamp_ppm": most}
            made = premium_vote(market, bids, asks, oracle.digits, oracle.exponent, **terms)
            assert abs(made - vote) <= 1
            assert abs(made) <= most


@each_session
def test_a_link_that_another_carries_on_is_no_part_of_the_whole(session: Session) -> None:
    """A recorder names each connection again; in the end every session is received."""
    assert folded(session).connection == "live"
