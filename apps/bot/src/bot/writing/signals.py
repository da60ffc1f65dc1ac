"""What every signal has to hold, tried on any engine: the bot's own and a user's.

    engines ──► conform ──► what each does not hold, in words; nothing is well

A tape of two markets is written once and again with one thing changed: another scale of price or
size, another time, the mirror image, the other market left out, or absurd figures in it. What an
engine declares (`points`, `free`) is tried where it declares it, the rest of every one. The tapes
are drawn from fixed seeds: the same engine gets the same answer each time.
"""

import argparse
import math
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from dydx_conn import Frame, WireWriter, market_fields
from dydx_data import DataState, MarketView, step
from dydx_signals import ALL, Engine, Score

from bot.run.signals import Make, from_file

# === Tapes ===
# What happens in two markets, second by second, and how it is written as frames.

TICKERS: Final = ("BTC-USD", "ETH-USD")
SECONDS: Final = 240
_BASE: Final = 1_000.0


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """How a tape is written: factors of price and size, seconds later, mirrored, or alone."""

    price: float = 1.0
    size: float = 1.0
    later_s: int = 0
    mirrored: bool = False
    alone: bool = False


class Happening(msgspec.Struct, frozen=True):
    """One thing that happens; figures are prices around 1,000, sizes, rates."""

    at: float
    ticker: str
    kind: str
    figures: tuple[float, ...] = ()
    word: str = ""


def ordinary(seed: int) -> list[Happening]:
    """Let two markets walk: books, trades of both sides, prices, rates and open interest."""
    draw, made = random.Random(seed), list[Happening]()
    prices, interest = dict.fromkeys(TICKERS, _BASE), 1_000.0
    for second in range(SECONDS):
        for ticker in TICKERS:
            prices[ticker] *= math.exp(draw.gauss(0.0, 2e-4))
            mid, half = prices[ticker], draw.uniform(0.05, 0.3)
            sizes = [draw.uniform(5.0, 60.0) for _ in range(6)]
            made.append(Happening(second, ticker, "book", (mid, half, *sizes)))
            if draw.random() < 0.6:
                side, word = draw.choice(("BUY", "SELL")), draw.random()
                kind = "LIQUIDATED" if word < 0.1 else "LIMIT"
                figures = (mid, draw.uniform(0.1, 3.0))
                made.append(Happening(second + 0.3, ticker, "trade", figures, f"{side} {kind}"))
            if second % 5 == 0:
                oracle = mid * (1.0 + draw.gauss(0.0, 3e-4))
                made.append(Happening(second + 0.5, ticker, "oracle", (oracle,)))
            if second % 10 == 0:
                interest *= math.exp(draw.gauss(0.0, 2e-3))
                made.append(Happening(second + 0.6, ticker, "interest", (interest,)))
            if second % 30 == 0:
                made.append(Happening(second + 0.7, ticker, "rate", (draw.gauss(0.0, 1e-5),)))
    return made


def absurd(seed: int) -> list[Happening]:
    """Let anything happen: one-sided and enormous books, lost links, time that steps back."""
    draw, made, at = random.Random(seed), list[Happening](), 0.0
    for _ in range(500):
        at = max(0.0, at + draw.uniform(-1.5, 12.0))
        ticker = draw.choice(TICKERS)
        price = math.exp(draw.uniform(-20.0, 27.0))
        sizes = [draw.choice((0.0, 1e-9, 1.0, 1e9, 1e200)) for _ in range(6)]
        kind = draw.choice(("book", "book", "book", "trade", "oracle", "interest", "rate", "lost"))
        figures = {
            "book": (price, price * 1e-3, *sizes), "trade": (price, 1e-6 + sizes[0]),
            "rate": (draw.gauss(0.0, 1.0),), "lost": (),
        }.get(kind, (price,))  # fmt: skip
        made.append(Happening(at, ticker, kind, figures, draw.choice(("BUY", "SELL")) + " LIMIT"))
    return made


def frames_of(happened: Sequence[Happening], how: Change) -> list[Frame]:
    """Write what happened as frames, one each, after those that begin a link."""
    wire = WireWriter()
    wire.wait(how.later_s)
    began, mono = wire.at, wire.mono
    begins: dict[str, Any] = {
        "price": None,
        "nextFundingRate": None,
        "openInterest": str(1_000 * how.size),
    }
    begins |= {"stepBaseQuantums": 1, "subticksPerTick": 1}
    fields = [market_fields(ticker, **begins) for ticker in TICKERS]
    frames = [wire.message("connected"), wire.markets(*fields)]
    for one in happened:
        past = round(one.at * 1e9)
        wire.at, wire.mono = began + past, mono + past
        silent = how.alone and one.ticker != TICKERS[0] and one.kind != "lost"
        frames.append(wire.event("tick") if silent else _WRITE[one.kind](wire, one, how))
    return frames


def _priced(price: float, how: Change) -> float:
    return how.price * (2.0 * _BASE - price if how.mirrored else price)


def _book(wire: WireWriter, one: Happening, how: Change) -> Frame:
    mid, half, *sizes = one.figures
    below, above = ([mid + way * half * n for n in (1, 2, 4)] for way in (-1, 1))
    sizes = [size * how.size for size in sizes]
    bids, asks = zip(below, sizes[:3], strict=True), zip(above, sizes[3:], strict=True)
    if how.mirrored:
        bids, asks = asks, bids
    sides = [[(_priced(price, how), size) for price, size in side if size] for side in (bids, asks)]
    return wire.book(one.ticker, *sides)


def _trade(wire: WireWriter, one: Happening, how: Change) -> Frame:
    price, size = one.figures
    side, kind = one.word.split()
    if how.mirrored:
        side = "SELL" if side == "BUY" else "BUY"
    # On the grid: what is off it the data layer refuses.
    size, price = round(size, 6) * how.size, _priced(round(price, 4), how)
    row = {"side": side, "size": f"{size:.6f}", "price": f"{price:.4f}"}
    return wire.trades(one.ticker, row | {"type": kind})


def _oracle(wire: WireWriter, one: Happening, how: Change) -> Frame:
    return wire.oracle(one.ticker, _priced(one.figures[0], how))


def _interest(wire: WireWriter, one: Happening, how: Change) -> Frame:
    return wire.trading(one.ticker, openInterest=f"{one.figures[0] * how.size:.9f}")


def _rate(wire: WireWriter, one: Happening, how: Change) -> Frame:
    rate = -one.figures[0] if how.mirrored else one.figures[0]
    return wire.trading(one.ticker, nextFundingRate=f"{rate:.12f}")


_WRITE: Final[dict[str, Callable[[WireWriter, Happening, Change], Frame]]] = {
    "book": _book, "trade": _trade, "oracle": _oracle, "interest": _interest, "rate": _rate,
    "lost": lambda wire, *_: wire.event("close"),
}  # fmt: skip


# === Trials ===
# One engine through a tape, and what its scores have to hold.

# By frame and market.
Scores = dict[tuple[int, str], float]
Tried = Iterator[tuple[str, str]]  # an engine's name, and what it does not hold


class Trial:
    """Some engines through a tape: one that raises is out, and what it raised is in `faults`."""

    def __init__(self, makes: Sequence[Make], frames: Sequence[Frame]) -> None:
        self.engines = {engine.name: engine for engine in (make() for make in makes)}
        self.faults: dict[str, str] = {}
        self._frames = frames

    def __iter__(self) -> Iterator[tuple[str, int, Score]]:
        """Give every view to the engines that take it; yield each score, and the frame it is of."""
        state = DataState(stale_after_ns=10**18)
        for index, frame in enumerate(self._frames):
            for view in step(state, frame):
                for name, engine in self.engines.items():
                    if view.changed in engine.changes and name not in self.faults:
                        score = self._score(name, engine, view)
                        if score is not None:
                            yield name, index, score

    def values(self) -> dict[str, Scores]:
        """Return all values by engine."""
        made: dict[str, Scores] = {name: {} for name in self.engines}
        for name, index, score in self:
            made[name][index, score.ticker] = score.value
        return made

    def _score(self, name: str, engine: Engine, view: MarketView) -> Score | None:
        try:
            engine.update(view)
            score = engine.read(view.ticker)
            if engine.read(view.ticker) != score:
                self.faults[name] = "expected the same score when it is read twice, got another"
        except Exception as error:  # noqa: BLE001 - a user's file may raise anything
            self.faults[name] = f"expected no error, got {type(error).__name__}: {error}"
            return None
        return score


def conform(makes: Sequence[Make], seeds: Sequence[int] = (0,)) -> dict[str, list[str]]:
    """Return by name what each engine does not hold, in words; an empty list is well."""
    faults: dict[str, list[str]] = {make().name: [] for make in makes}
    for seed in seeds:
        for name, words in _faults(makes, seed):
            if words not in faults[name]:
                faults[name].append(words)
    return faults


def _faults(makes: Sequence[Make], seed: int) -> Tried:
    happened = ordinary(seed)

    def trial(how: Change) -> dict[str, Scores]:
        return Trial(makes, frames_of(happened, how)).values()

    plain, alone = trial(Change()), trial(Change(alone=True))
    for tape in (happened, absurd(seed)):
        yield from _numbers(Trial(makes, frames_of(tape, Change())))
    for name, scores in plain.items():
        if not scores:
            yield name, f"expected a score within {SECONDS} s of an ordinary market, got none"
        first = {at: value for at, value in scores.items() if at[1] == TICKERS[0]}
        yield from _same(name, "alone", first, alone[name], 0.0)
    free = {make().name: getattr(make(), "free", frozenset[str]()) for make in makes}
    for what, how in _FREE.items():
        changed = trial(how)
        for name in plain:
            if what in free[name]:
                yield from _same(name, what, plain[name], changed[name], 1e-6)
    mirrored = trial(Change(mirrored=True))
    for name in (make().name for make in makes if getattr(make(), "points", False)):
        turned = {at: 100.0 - value for at, value in mirrored[name].items()}
        yield from _same(name, "mirrored", plain[name], turned, 1.0)


_FREE: Final = {
    "price": Change(price=8.0), "size": Change(size=8.0), "time": Change(later_s=5 * 3_600 + 60),
}  # fmt: skip
_WORDS: Final = {
    "alone": "without the other market", "price": "at eight times the price",
    "size": "at eight times the size", "time": "five hours later", "mirrored": "mirrored",
}  # fmt: skip


def _numbers(trial: Trial) -> Tried:
    for name, index, score in trial:
        where, inputs = f"{score.ticker} at frame {index}", dict(score.inputs)
        if not 0.0 <= score.value <= 100.0:
            yield name, f"expected 0 to 100, got {score.value!r} in {where}"
        if bad := [key for key, figure in inputs.items() if not math.isfinite(figure)]:
            yield name, f"expected finite inputs, got {bad[0]} {inputs[bad[0]]!r} in {where}"
        elif not abs((again := trial.engines[name].value(inputs)) - score.value) <= 1e-9:
            yield name, f"expected {score.value!r} again of its inputs, got {again!r} in {where}"
    yield from trial.faults.items()


def _same(name: str, what: str, plain: Scores, other: Scores, close: float) -> Tried:
    if plain.keys() != other.keys():
        yield name, f"expected {len(plain)} scores {_WORDS[what]}, got {len(other)}"
        return
    for (index, ticker), value in plain.items():
        got = other[index, ticker]
        if not abs(got - value) <= close:
            where = f"{ticker} at frame {index}"
            yield name, f"expected {value:.6f} {_WORDS[what]}, got {got:.6f} in {where}"
            return


# === Command ===
# `bot signals check`: a line for each engine.


def signals(arguments: argparse.Namespace) -> int:
    """Try all engines of a file, or the bot's own; 1 if one does not hold what it has to."""
    makes: Sequence[Any] = from_file(Path(arguments.file)) if arguments.file else ALL
    faults = conform(makes, (0, 1, 2))
    for name, words in faults.items():
        print(f"{name:<16} {'; '.join(words[:3]) or 'holds'}")
    return int(any(faults.values()))
