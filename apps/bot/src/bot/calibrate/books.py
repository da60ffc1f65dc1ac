"""`bot calibrate --book`: how to model the books of a history, from recordings that have them.

    recordings ─► market views ─► BookFit, a market each ─► BookModel ─► --out, and what it is worth

Fitted on all that was recorded; its errors are those of a fit on the first half, judged on the
second. What it writes is for `paper.book_model` in bot.yaml.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path

import msgspec
from dydx_conn import ConnError, Frame, Recording
from dydx_data import BookError, BookFit, BookModel, BookTerms, DataState, step

from bot.backtest.words import recordings_of
from bot.live.runs import until
from bot.outlet import as_lines
from bot.progress import Progress


def fitted(recordings: Iterable[Iterable[Frame]], seconds: float | None = None) -> BookModel:
    """Fit the book of each market on recordings; those that have too little of it are left out."""
    fits: dict[str, BookFit] = {}
    since_ns = until_ns = 0
    for frames in recordings:
        state = DataState()
        goes_on = until(seconds, lambda _: True)
        for frame in takewhile(goes_on, frames):
            since_ns, until_ns = min(since_ns or frame.at, frame.at), max(until_ns, frame.at)
            for view in step(state, frame) if frame.link != "node" else ():
                fits.setdefault(view.ticker, BookFit()).see(view)
    made = {ticker: fit.terms() for ticker, fit in sorted(fits.items())}
    markets = {ticker: terms for ticker, terms in made.items() if terms}
    return BookModel(markets=markets, since_ns=since_ns, until_ns=until_ns)


def calibrate_books(arguments: argparse.Namespace) -> int:
    """Fit book models on recordings, print what they are worth, and write them."""
    recordings = recordings_of(arguments.recordings)
    past = [one.path.name for one in recordings if one.header.history is not None]
    if past:
        raise ConnError(f"expected recordings with books, got the history {past[0]}")
    with Progress("frames", 0) as progress:
        model = fitted(_shown(recordings, progress), arguments.seconds)
    if not model.markets:
        raise ConnError("expected recordings with books and trades of 20 s or more, got none")
    written = msgspec.json.format(msgspec.json.encode(model), indent=1)
    if arguments.out:
        Path(arguments.out).write_bytes(written + b"\n")
    if arguments.json:
        sys.stdout.write(written.decode() + "\n")
        return 0
    print(as_lines(model_lines(model)))
    if arguments.out:
        print(as_lines([f"written      {arguments.out}: name it in bot.yaml as paper.book_model"]))
    return 0


def _shown(recordings: Iterable[Recording], progress: Progress) -> Iterator[Iterable[Frame]]:
    for recording in recordings:
        progress.begin(recording.path.name, 0)
        yield progress.through(recording)


def model_lines(model: BookModel) -> list[str]:
    """Put a model in words: a line a market, distances and errors in bps, money in USDC."""
    head = f"{'market':14} {'seconds':>7} {'half':>7} {'impact':>7} {'depth 10':>11} {'50 bps':>11}"
    columns = f"{'1k off':>15} {'10k off':>15} {'oracle off':>13}"
    return [
        "modelled against walked books, median and 95 %, + is worse than the book: bps, USDC",
        f"{head} {columns}",
        *(f"{ticker:14} {_row(terms)}" for ticker, terms in model.markets.items()),
    ]


def _row(terms: BookTerms) -> str:
    depth, known = terms.depth_usdc, {error.usdc: error for error in terms.errors}
    oracle, most = terms.oracle_median_bps, terms.oracle_p95_bps
    off = "-" if oracle is None or most is None else f"{oracle:.1f} / {most:.1f}"
    return (
        f"{terms.samples:7,} {terms.half_spread_bps:7.2f} {terms.impact_bps:7.2f} "
        f"{depth[3]:11,.0f} {depth[5]:11,.0f} {_off(known.get(1e3)):>15} "
        f"{_off(known.get(1e4)):>15} {off:>13}"
    )


def _off(error: BookError | None) -> str:
    return "-" if error is None else f"{error.median_bps:+.1f} / {error.p95_bps:.1f}"
