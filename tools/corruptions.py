"""Corrupt a recording here and there, and count how much of it the rules of dydx_data find.

    uv run --all-packages --group dev tools/corruptions.py                 quickstart, 200 a kind
    uv run --all-packages --group dev tools/corruptions.py sixty -n 50

    recording ──► one value made wrong every few seconds ──► DataState ──► found within 5 s, or not

Prices move by 2.2 % to 100 % (a trade's, an oracle's, a level that crosses the book), sizes are 11
to 1,000 times the size that 999 of 1,000 trades do not exceed, grids are left by 1 % to 99 % of a
tick. An oracle price that the next one corrects within 5 s is no case: it is found after 3 s, and
does no harm for longer than that. A level that crosses the book is hidden by the next update of the
other side; among the prices of the last ten minutes it looks like an order that expired, and is not
found. Beside it: what the rules find in the recording as it is, which should be nothing.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import Any, Final

import msgspec
from dydx_conn import Frame, PerpetualMarket, Recording, find_recording, ws_frame
from dydx_data import RULES, DataState, MarketView, step

_SECOND: Final = 1_000_000_000
_APART: Final = 5 * _SECOND  # between two, and how long one has to be found
_WARM: Final = 10 * _SECOND
_LEAST: Final = {"book level": 0.7}  # after a crash of 30 % its prices hide many; else 95 %


def main(arguments: Sequence[str]) -> int:
    """Print a row a kind; 1 where too little was found, or something in the true recording."""
    parser = argparse.ArgumentParser(prog="tools/corruptions.py", description=_first_line())
    parser.add_argument("recording", nargs="?", default="quickstart")
    parser.add_argument("-n", type=int, default=200, help="most corruptions of a kind")
    options = parser.parse_args(arguments)
    frames = [*Recording(find_recording(options.recording))]
    alarms = _alarms(frames)
    print(f"{'false alarms':<12} {alarms} in {len(frames):,} frames")
    found = {kind: _share(frames, kind, options.n) for kind in KINDS}
    return 0 if not alarms and all(found[kind] >= _LEAST.get(kind, 0.95) for kind in found) else 1


def _first_line() -> str:
    return (__doc__ or "").splitlines()[0]


def _odd(state: DataState) -> int:
    return sum(count for kind, count in state.counts().items() if kind in RULES)


def _alarms(frames: Sequence[Frame]) -> int:
    state = DataState()
    for frame in frames:
        step(state, frame)
    return _odd(state)


def _share(frames: Sequence[Frame], kind: str, most: int) -> float:
    """Corrupt one kind of value, and print which share was found."""
    dice, state, found, made = Random(kind), DataState(), 0, 0
    open_until, counted, after = 0, 0, list[Frame]()
    start, brief = frames[0].at + _WARM, _brief(frames)
    for frame in frames:
        if open_until and frame.at >= open_until:
            found, made, open_until = found + (_odd(state) > counted), made + 1, 0
            for undo in after:
                step(state, msgspec.structs.replace(undo, at=frame.at, mono=frame.mono))
            after = []
        wrong = None
        if not open_until and frame.at > start and made < most and dice.random() < 0.3:
            wrong = None if frame.seq in brief else KINDS[kind](frame, state, dice)
        if wrong is not None:
            counted, open_until = _odd(state), frame.at + _APART
            frame, after = wrong.frame, wrong.undo
        step(state, frame)
    share = found / made if made else math.nan
    print(f"{kind:<12} {found} of {made} found, {share:.1%}")
    return share if made else 1.0


def _brief(frames: Sequence[Frame]) -> set[int]:
    """Return the frames whose oracle prices others correct within 5 s."""
    last: dict[str, Frame] = {}
    brief = set()
    for frame in frames:
        if frame.channel == "v4_markets" and '"oraclePrices"' in frame.text:
            for ticker in set(re.findall(r'"([A-Z0-9]+-USD)"', frame.text)):
                if ticker in last and frame.at - last[ticker].at < _APART + _SECOND:
                    brief.add(last[ticker].seq)
                last[ticker] = frame
    return brief


@dataclass(frozen=True, slots=True)
class Wrong:
    """A frame made wrong, and what takes it back."""

    frame: Frame
    undo: list[Frame]


def _rewritten(frame: Frame, message: Any) -> Frame:
    return ws_frame(frame.seq, frame.at, frame.mono, frame.link, json.dumps(message))


def _factor(dice: Random) -> float:
    moved = math.exp(dice.uniform(math.log(0.022), 0.0))
    return 1 + moved if dice.random() < 0.5 else max(1 - moved, 0.01)


def _on_grid(market: PerpetualMarket, price: float) -> str:
    text = f"{Decimal(price):.12f}"
    return f"{market.price(max(market.floor_subticks(text), market.subticks_per_tick)):f}"


def _trade(frame: Frame, state: DataState, edit: Callable[[MarketView, Any], bool]) -> Wrong | None:
    view = state.views.get(frame.id)
    if frame.channel != "v4_trades" or frame.is_snapshot or view is None or not view.trades:
        return None
    message = json.loads(frame.text)
    if view.market is None or not edit(view, message["contents"][0]["trades"][0]):
        return None
    return Wrong(_rewritten(frame, message), [])


def _trade_price(frame: Frame, state: DataState, dice: Random) -> Wrong | None:
    def edit(view: MarketView, row: Any) -> bool:
        if view.book.mid_price is None or view.oracle is None or view.market is None:
            return False
        factor = _factor(dice)
        base = max if factor > 1 else min
        row["price"] = _on_grid(view.market, base(view.book.mid_price, view.oracle.price) * factor)
        return True

    return _trade(frame, state, edit)


def _trade_size(frame: Frame, state: DataState, dice: Random) -> Wrong | None:
    def edit(view: MarketView, row: Any) -> bool:
        market, tail = view.market, view._checks.tail
        if market is None or math.isinf(tail):
            return False
        size = tail * math.exp(dice.uniform(math.log(1.1), math.log(100)))
        row["size"] = f"{market.size(market.floor_quantums(f'{size:.10f}')):f}"
        return True

    return _trade(frame, state, edit)


def _trade_grid(frame: Frame, state: DataState, dice: Random) -> Wrong | None:
    def edit(view: MarketView, row: Any) -> bool:
        market = view.market
        if market is None:
            return False
        tick = market.price(market.subticks_per_tick)
        row["price"] = f"{Decimal(row['price']) + tick * Decimal(dice.uniform(0.01, 0.99)):f}"[:30]
        return True

    return _trade(frame, state, edit)


def _oracle(frame: Frame, state: DataState, dice: Random) -> Wrong | None:
    if frame.channel != "v4_markets" or '"oraclePrices"' not in frame.text or frame.is_snapshot:
        return None
    message = json.loads(frame.text)
    parts = message["contents"] if isinstance(message["contents"], list) else [message["contents"]]
    for part in parts:
        for ticker, row in part.get("oraclePrices", {}).items():
            view = state.views.get(ticker)
            if view is not None and view.book.mid_price is not None:
                row["oraclePrice"] = f"{Decimal(row['oraclePrice']) * Decimal(_factor(dice)):.9f}"
                return Wrong(_rewritten(frame, message), [frame])
    return None


def _book(frame: Frame, state: DataState, dice: Random) -> Wrong | None:
    """Insert a level that crosses the book, of the newest update: the other side is hidden."""
    view = state.views.get(frame.id)
    if frame.channel != "v4_orderbook" or view is None or not view.book.link or frame.is_snapshot:
        return None
    if view.book.mid_price is None or view.oracle is None or view.market is None:
        return None
    factor = _factor(dice)
    side = "bids" if factor > 1 else "asks"
    base = max if factor > 1 else min
    price = _on_grid(view.market, base(view.book.mid_price, view.oracle.price) * factor)
    message = json.loads(frame.text)

    def whole(size: str) -> Frame:
        contents = [*message["contents"], {side: [[price, size]]}]
        return _rewritten(frame, {**message, "contents": contents, "message_id": 0})

    return Wrong(_rewritten(frame, {**message, "contents": [
        *message["contents"], {side: [[price, view.book.bids(1)[0].size_text]]}]}), [whole("0")]
    )  # fmt: skip


KINDS: Final[dict[str, Callable[[Frame, DataState, Random], Wrong | None]]] = {
    "trade price": _trade_price,
    "trade size": _trade_size,
    "trade grid": _trade_grid,
    "oracle price": _oracle,
    "book level": _book,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
