"""Sessions of the real software: what the views show is what its node and its database held."""

import json
import random
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from dydx_conn import Frame, collect, load_recorded_stream
from dydx_data import DataState, MarketView, objections, step

SESSIONS = Path(__file__).parents[3] / "recordings" / "localnet"
NAMES = sorted(path.parent.name for path in SESSIONS.glob("*/truth.json"))
SECOND = 1_000_000_000

each_session = pytest.mark.parametrize("name", NAMES)


@cache
def truth_of(name: str) -> dict[str, Any]:
    """Read what was true at the end of a session."""
    truth: dict[str, Any] = json.loads((SESSIONS / name / "truth.json").read_text())
    return truth


@cache
def frames_of(name: str) -> tuple[Frame, ...]:
    """Read the frames of a session, without the recorder's own end."""
    frames = collect(load_recorded_stream(str(SESSIONS / name / "frames.jsonl.zst")))
    received = [n for n, frame in enumerate(frames) if frame.kind in ("ws", "http")]
    return tuple(frames[: received[-1] + 1])


def played(frames: tuple[Frame, ...], state: DataState) -> Iterator[tuple[Frame, list[MarketView]]]:
    """Fold a session frame by frame; each comes with the views it touched."""
    for frame in frames:
        yield frame, list(step(state, frame))


@cache
def folded(name: str) -> DataState:
    """Fold a whole session; nobody may change the state."""
    state = DataState()
    for _ in played(frames_of(name), state):
        pass
    return state


def lose(frame: Frame) -> bool:
    """Tell whether a frame ends what a link reports."""
    return frame.kind in ("close", "gap") or frame.is_refusal


@each_session
def test_grids_and_fractions_are_the_chains(name: str) -> None:
    """Whatever a market is described by."""
    rows = truth_of(name)["markets"]
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
            key: getattr(folded(name).views[ticker].market, ours) for key, ours in names.items()
        }
        for ticker in rows
    }

    assert shown == {t: {key: int(row[key]) for key in names} for t, row in rows.items()}


@each_session
def test_the_chains_oracle_price_was_shown(name: str) -> None:
    """To the last digit, though a market may say nothing for minutes."""
    seen: dict[str, set[Decimal]] = {}
    for _, views in played(frames_of(name), DataState()):
        for view in views:
            if view.oracle is not None:
                seen.setdefault(view.ticker, set()).add(Decimal(view.oracle.text))

    for ticker, row in truth_of(name)["markets"].items():
        assert Decimal(row["oracle_price"]).scaleb(row["oracle_exponent"]) in seen[ticker]


@each_session
def test_open_interest_is_the_last_report_of_the_living_field(name: str) -> None:
    """`baseOpenInterest` stands beside it in every description, and is 0 in all of them."""
    reported: dict[str, str] = {}
    for frame in frames_of(name):
        if frame.kind == "ws" and frame.channel == "v4_markets":
            given = json.loads(frame.text).get("contents", {})
            for part in given if isinstance(given, list) else [given]:
                for ticker, row in {**part.get("markets", {}), **part.get("trading", {})}.items():
                    assert row.get("baseOpenInterest", "0") == "0"
                    reported[ticker] = row.get("openInterest", reported.get(ticker, ""))

    for ticker, text in reported.items():
        view = folded(name).views[ticker]
        assert view.market is not None
        assert view.open_interest == int(Decimal(text).scaleb(-view.market.atomic_resolution))


def test_past_the_upper_cap_open_interest_is_the_chains() -> None:
    """It came to 43 million AVAX, of 80 before."""
    name = "25-open-interest-full-margin"

    shown = folded(name).views["AVAX-USD"].open_interest

    assert shown == truth_of(name)["markets"]["AVAX-USD"]["open_interest_quantums"]


@each_session
def test_trades_stand_in_the_order_of_their_events(name: str) -> None:
    """As the node made them, though a snapshot has those of a block in none."""
    true: dict[str, list[str]] = {}
    for _, event, ticker, *_ in truth_of(name)["trades"]:
        true.setdefault(ticker, []).append(event)

    for ticker, view in folded(name).views.items():
        shown = [trade.id for trade in view.trades]
        assert shown == sorted(shown)
        both = set(true.get(ticker, ())) & set(shown)
        assert [x for x in shown if x in both] == [x for x in true.get(ticker, ()) if x in both]


def shuffled(frame: Frame, dice: random.Random) -> Frame:
    """Put the trades of each block of a snapshot in another order."""
    if frame.kind != "ws" or frame.channel != "v4_trades" or not frame.is_snapshot:
        return frame
    told = json.loads(frame.text)
    dice.shuffle(told["contents"]["trades"])
    told["contents"]["trades"].sort(key=lambda row: row["createdAt"], reverse=True)
    text = json.dumps(told)
    return msgspec.structs.replace(frame, text=text, raw=json.dumps(told["contents"]).encode())


def opinions(state: DataState) -> dict[str, Any]:
    """Gather what signals are made of."""
    return {
        ticker: (
            [trade.id for trade in view.trades],
            {name: list(candles) for name, candles in view.candles.items()},
            (view.flow.buy_volume, view.flow.sell_volume, view.flow.trades),
            view.book.mid_price,
        )
        for ticker, view in state.views.items()
        if view.live_at
    }


@each_session
def test_the_order_in_a_snapshot_changes_nothing(name: str) -> None:
    """Last price, flow and candles come from the events, not from the rows."""
    dice, state = random.Random(name), DataState()

    for _ in played(tuple(shuffled(frame, dice) for frame in frames_of(name)), state):
        pass

    assert opinions(state) == opinions(folded(name))


@each_session
def test_nothing_is_stale_while_links_live(name: str) -> None:
    """Neither an oracle price that stands for two minutes nor a chain that halts for twelve s."""
    state, lost = DataState(), False

    for frame, _ in played(frames_of(name), state):
        lost = lost or lose(frame)
        for view in () if lost else state.views.values():
            assert "STALE" not in {one.kind for one in objections(view, state.at)}
    assert lost or "stale" not in state.counts()


@each_session
def test_a_book_is_never_crossed_and_unknown_only_after_a_loss(name: str) -> None:
    """The indexer's own is crossed for hours, where expired orders stay on it."""
    state, lost, known = DataState(), False, set[str]()

    for frame, views in played(frames_of(name), state):
        lost = lost or lose(frame)
        for view in views:
            bid, ask = view.book.best_bid, view.book.best_ask
            assert bid is None or ask is None or bid.price < ask.price
            assert view.book.known or view.ticker not in known or lost
            known |= {view.ticker} if view.book.known else set()
    assert known


@each_session
def test_the_chain_only_grows_and_is_seen_to_the_end(name: str) -> None:
    """Blocks are taken one after the other, whatever the halt between them."""
    state, heights = DataState(), [0]

    for _ in played(frames_of(name), state):
        heights.append(state.chain.height)

    assert heights == sorted(heights)
    assert state.chain.height >= truth_of(name)["true_at_block"] - 1
    assert state.counts().get("out_of_order", 0) == 0


@pytest.mark.parametrize("jump_s", [3_600, -3_600])
@each_session
def test_a_clock_that_is_set_changes_nothing(name: str, jump_s: int) -> None:
    """An hour ahead or back from the middle on, and right again for the last third."""
    frames, state = frames_of(name), DataState()
    middle, last = len(frames) // 3, 2 * len(frames) // 3

    for n, frame in enumerate(frames):
        set_ns = jump_s * SECOND if middle <= n < last else 0
        step(state, msgspec.structs.replace(frame, at=frame.at + set_ns))

    right = folded(name)
    assert opinions(state) == opinions(right)
    assert state.counts() == right.counts() | {"clock": 2}
    # A jump is measured between two frames, whose clocks do not tick as one.
    assert abs(state.at - right.at) < SECOND // 100
