"""Prove that a variant behind the front decides what it decides alone: random ones, both ways.

    seed ──► Options of fifty variants ──► play: one pass ──┐
                                      └──► Bot.run, each ───┴─► the same hash, report, ledger?

    uv run --all-packages --group dev tools/variants.py
    uv run --all-packages --group dev tools/variants.py sixty --count 10 --seed 7

Variants differ in all that a run may choose: strategy and its settings, policy, guard, deposit,
signals and what they are made by, latency, queue and fees; recordings are played with their books
and as the history of their trades and candles. Exit code 1 if any two differ.
"""

import argparse
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

from bot.backtest.fidelity import Past
from bot.config.paper import FeeSettings, LatencySettings, PaperSettings
from bot.config.profiles import PROFILES
from bot.report.report import report_of
from bot.run.composition import Bot, Options
from bot.run.front import play
from dydx_conn import Frame, Recording, find_recording
from dydx_paper import PaperVenue
from dydx_strategy import SETTINGS, Allocation, AllocatorSettings
from msgspec.structs import replace
from reactivex import from_iterable

ROOT = Path(__file__).resolve().parent.parent
RECORDINGS = (
    "quickstart", "sixty", "localnet/05-open-add-reduce-close", "quickstart:trades",
    "quickstart:candles",
)  # fmt: skip
MIX = ("rank", "sniper", "reversion")


def main(arguments: list[str]) -> int:
    """Play each recording both ways; print what differs, and how much was decided."""
    parser = argparse.ArgumentParser(prog="tools/variants.py", description=__doc__.splitlines()[0])
    parser.add_argument("recordings", nargs="*", default=RECORDINGS, metavar="RECORDING")
    parser.add_argument("--count", type=int, default=50, help="how many variants")
    parser.add_argument("--seed", type=int, default=16, help="of the choices")
    options = parser.parse_args(arguments)
    differ = 0
    for name in options.recordings:
        variants = [variant(Random(f"{options.seed} {n}")) for n in range(options.count)]
        behind = play(from_iterable(frames_of(name)), variants)
        for n, (one, bot) in enumerate(zip(variants, behind, strict=True)):
            for what in differences(alone(name, one), bot):
                differ += 1
                print(f"{name}: variant {n} ({one.strategy}) has another {what}")
        hashes = {bot.journal.hash for bot in behind}
        fills = sum(bot.journal.counts["fill"] for bot in behind)
        print(f"{name}: {len(behind)} variants, {len(hashes)} hashes, {fills} fills", flush=True)
    return 1 if differ else 0


@lru_cache(maxsize=1)
def frames_of(name: str) -> tuple[Frame, ...]:
    """Return the frames of a recording, or of its `trades` or `candles` as a history."""
    recording, _, kind = name.partition(":")
    frames = Recording(found(recording))
    return (*(Past(frames).frames(kind) if kind else frames),)


def found(name: str) -> Path:
    """Return where a recording is, by its name or that of its session."""
    session = ROOT / "recordings" / name / "frames.jsonl.zst"
    return session if session.is_file() else find_recording(name)


def alone(name: str, options: Options) -> Bot:
    """Play a recording through one variant."""
    bot = Bot(options)
    bot.run(from_iterable(frames_of(name)))
    return bot


def differences(alone: Bot, behind: Bot) -> Iterator[str]:
    """Name what is not the same of two runs of one variant, down to the byte."""
    if alone.journal.hash != behind.journal.hash:
        yield "hash"
    reports = [report_of(bot, name="x") for bot in (alone, behind)]
    for part in reports[0]:
        if part != "machine" and reports[0][part] != reports[1][part]:
            yield f"report, in {part}"
    if alone.venue.figures() != behind.venue.figures():
        yield "account"
    if [*alone.journal.entries] != [*behind.journal.entries]:
        yield "journal"
    if optimism_of(alone) != optimism_of(behind):
        yield "optimism"
    if standing_of(alone) != standing_of(behind):
        yield "state of risk"


def optimism_of(bot: Bot) -> Any:
    """Return how far the tape bore out what was filled."""
    venue = bot.venue
    return (venue.optimism.assumed, venue.optimism.traded) if isinstance(venue, PaperVenue) else ()


def standing_of(bot: Bot) -> Any:
    """Return how an account stands, to its last figure."""
    risk = bot.risk
    return risk.margin, risk.closest, risk.alarm, risk.memory, risk.falls.deepest


def variant(dice: Random) -> Options:
    """Choose a variant, from few trades a run to many."""
    strategy = dice.choice(["rank"] * 5 + ["mix", *SETTINGS])
    profile = dice.choice([*PROFILES])
    made = Options.of(
        profile,
        deposit=dice.choice([200, 10_000, 10_000, 3_000_000]),
        guard=dice.random() < 0.8,
        signals=dice.choice(["", "", "all", "trend,depth"]) if strategy != "mix" else "",
        tuned=dice.choice([{}, {}, {"momentum": {"fast": dice.uniform(4.0, 15.0)}}]),
        paper=PaperSettings(
            latency=LatencySettings(samples_ms=dice.choice([(0.0,), (120.0, 700.0)])),
            queue=dice.choice(["pessimistic", "optimistic"]),
            fees=dice.choice([None, FeeSettings(taker_ppm=200)]),
        ),
    )
    policy = made.policy.model_copy(update={
        "max_leverage": dice.choice([1.0, 5.0, 10.0]),
        "cool_down_s": dice.choice([0.0, 60.0]),
        "protect": dice.random() < 0.5,
        "max_daily_loss": dice.choice([None, 0.01]),
        "slippage_bps": dice.choice([5, 30]),
        "warm_up_s": dice.choice([0.0, 120.0]),
    })  # fmt: skip
    return replace(made, policy=policy, **_opinion(strategy, dice))


def _opinion(strategy: str, dice: Random) -> dict[str, Any]:
    """Choose by what a strategy decides."""
    if strategy == "mix":
        rows = tuple(Allocation(use=use, weight=dice.uniform(0.5, 2.0)) for use in MIX)
        return {"strategy": "mix.toml", "settings": AllocatorSettings(strategies=rows)}
    kind, _ = SETTINGS[strategy]
    chosen: dict[str, Any] = {}
    if strategy == "rank":
        chosen = {
            "enter": dice.uniform(52.0, 62.0), "exit": 51.0, "full": 80.0,
            "look_s": dice.choice([1.0, 5.0, 20.0]), "positions": dice.choice([1, 3, 10]),
            "gross_share": dice.choice([0.5, 2.0]), "confirm_s": dice.choice([0.0, 10.0]),
            "weights": dice.choice([{"momentum": 1.0}, {"momentum": 0.5, "trend": 0.5}]),
        }  # fmt: skip
    else:
        short = {"warm_up_s": 30.0, "enter": 1.0, "edge": 2.0, "arm": 1.5, "look_s": 0.5}
        chosen = {name: value for name, value in short.items() if name in kind.model_fields}
    return {"strategy": strategy, "settings": kind(**chosen)}


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
