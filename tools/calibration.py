"""Hold `bot calibrate` to what is known: prices without a drift, and with one that was planted.

    uv run --all-packages --group dev tools/calibration.py --seeds 100

    made-up frames ─► market views ─► scores ─► calibrations ─► how often 0 is in the interval
                                                             └► how far the curve is from the truth

On a random walk no score is worth anything: of 100 seeds the 95 % interval of the rank correlation
is to have 0 in it in 95. Where the odds of the next moves follow the book, the share of ups of each
tenth of the scale is to be within 3 points of what was planted. Frames are made by the writer of
dydx_conn: prices with volatility that comes in clusters, spreads, sizes, trades and rates that have
nothing to do with what the price does next.
"""

import argparse
import math
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import Any, Final

from bot.calibrate.command import calibrations, sampled
from bot.progress import Progress
from dydx_conn import Frame, Side, WireWriter, market_fields

SECOND: Final = 1_000_000_000
# Of sizes and prices as fine as they are made here.
FINE: Final[dict[str, Any]] = {"stepBaseQuantums": 1, "subticksPerTick": 1}
HORIZONS: Final = (10.0, 60.0, 300.0)
# Odd, so that steps of one tick never cancel out.
PLANTED_S: Final = 11


def walk(seed: int, seconds: int, *, step_s: int = 2) -> Iterator[Frame]:
    """Yield a market whose mid is a random walk, and whose other figures are none of its doing."""
    chance, wire, ticker = Random(seed), WireWriter(), "BTC-USD"
    price, heat, lean, rate = 100_000.0, 0.0, 0.0, 0.0
    yield wire.message("connected")
    yield wire.markets(market_fields(ticker, price=price, nextFundingRate="0", **FINE))
    yield wire.block(100, snapshot=True)
    bid, ask = price - 5, price + 5
    yield wire.book(ticker, [(bid, 1)], [(ask, 1)])
    for second in range(step_s, seconds, step_s):
        wire.wait(step_s)
        heat = 0.99 * heat + chance.gauss(0, 0.1)
        lean = 0.9 * lean + chance.gauss(0, 0.4)
        price += chance.gauss(0, 10) * math.exp(heat) * math.sqrt(step_s)
        half = 5 * math.exp(chance.gauss(0, 0.5))
        sizes = [round(math.exp(way * lean + chance.gauss(0, 0.3)), 6) for way in (1, -1)]
        gone, (bid, ask) = (bid, ask), (round(price - half, 3), round(price + half, 3))
        yield wire.levels(ticker, [(gone[0], 0), (bid, sizes[0])], [(gone[1], 0), (ask, sizes[1])])
        if chance.random() < 0.3:
            side: Side = "BUY" if chance.random() < 0.5 else "SELL"
            size, paid = round(math.exp(chance.gauss(0, 1)), 6), round(price, 3)
            yield wire.trade(ticker, side, size, paid)
        if second % 10 == 0:
            yield wire.oracle(ticker, round(price, 2))
            yield wire.block()
        if second % 60 == 0:
            rate = 0.8 * rate + chance.gauss(0, 1e-5)
            yield wire.trading(ticker, nextFundingRate=f"{rate:.8f}")


def drifting(seed: int, seconds: int) -> tuple[list[Frame], list[float]]:
    """Return a market whose next steps follow its book, and the odds of an up in each second.

    A step a second of one tick, up with odds 0.5 + 0.2 · imbalance, which changes every minute.
    """
    chance, wire, ticker = Random(seed), WireWriter(), "BTC-USD"
    price, lean, odds = 100_000.0, 0.0, list[float]()
    frames = [
        wire.message("connected"),
        wire.markets(market_fields(ticker, price=price, **FINE)),
        wire.book(ticker, [(price - 5, 1)], [(price + 5, 1)]),
    ]
    for second in range(seconds):
        if second % 60 == 0:
            lean = chance.choice((-0.8, -0.4, 0.0, 0.4, 0.8))
        gone = price
        wire.wait(1)
        price += 10 if second and chance.random() < odds[-1] else -10
        odds.append(0.5 + 0.2 * lean)
        bids, asks = [(gone - 5, 0), (price - 5, 1 + lean)], [(gone + 5, 0), (price + 5, 1 - lean)]
        frames.append(wire.levels(ticker, bids, asks))
    return frames, odds


def coverage(
    seeds: int, seconds: int
) -> tuple[Counter[tuple[str, float]], Counter[tuple[str, float]]]:
    """Return by signal and horizon how many random walks had an interval, and 0 in it."""
    known, inside = Counter[tuple[str, float]](), Counter[tuple[str, float]]()
    with Progress("random walks", seeds) as progress:
        for seed in range(seeds):
            for one in calibrations(sampled(walk(seed, seconds), 5.0), HORIZONS, 0, None):
                if one.correlation is not None and one.correlation.low is not None:
                    known[one.signal, one.horizon_s] += 1
                    inside[one.signal, one.horizon_s] += not one.correlation.shown
            progress.step()
    return known, inside


def planted(seed: int, seconds: int) -> list[tuple[float, int, float, float]]:
    """Return score, count, share of ups found and share planted, by tenth of the scale."""
    frames, odds = drifting(seed, seconds)
    began = frames[3].at
    (market,) = sampled(frames, 1.0)
    found = next(
        one
        for one in calibrations([market], (float(PLANTED_S),), 0, None)
        if one.signal == "imbalance"
    )
    truths: dict[int, list[float]] = {}
    for sample, _ in market.outcomes(PLANTED_S):
        score, second = dict(sample.scores).get("imbalance"), (sample.at - began) // SECOND
        if score is not None:
            truth = up_share(odds[second : second + PLANTED_S])
            truths.setdefault(min(int(score / 10), 9), []).append(truth)
    return [
        (bucket.score, bucket.count, bucket.share_up or 0.0, sum(true) / len(true))
        for bucket in found.curve
        for true in [truths[round(bucket.low) // 10]]
    ]


def up_share(odds: list[float]) -> float:
    """Return the share of ups after steps of these odds: more than half of them go up."""
    shares = [1.0]
    for up in odds:
        shares = [stayed * (1 - up) + came * up for came, stayed in pairwise([0.0, *shares, 0.0])]
    return sum(shares[len(odds) // 2 + 1 :])


def main() -> int:
    """Print both figures; 1 if one of them is not what it is to be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--hours", type=float, default=4.0)
    options = parser.parse_args()
    began = time.monotonic()
    known, inside = coverage(options.seeds, round(options.hours * 3_600))
    print(f"random walks: {options.seeds} seeds of {options.hours:g} h; 0 within the 95 % interval")
    for (signal, horizon_s), count in sorted(known.items()):
        print(f"  {signal:<12} {horizon_s:>4g} s  {inside[signal, horizon_s]:>3} of {count}")
    share = sum(inside.values()) / max(sum(known.values()), 1)
    print(f"  all          {100 * share:.1f} %")
    rows = planted(1, 160_000)
    worst = max(abs(got - true) for _, count, got, true in rows if count >= 2_000)
    print(f"planted drift: worst of {len(rows)} buckets {100 * worst:.1f} points (bound 3)")
    for score, count, got, true in rows:
        shares = f"up {100 * got:5.1f} %, planted {100 * true:5.1f} %"
        print(f"  score {score:>5.1f}  {count:>6} scores  {shares}")
    print(f"{time.monotonic() - began:.0f} s")
    return int(share < 0.94 or worst > 0.03)


if __name__ == "__main__":
    raise SystemExit(main())
