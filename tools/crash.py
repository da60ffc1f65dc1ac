"""Lead seeded accounts through seeded crashes, under the guard and its rivals, and compare.

    uv run --all-packages --group dev tools/crash.py --paths 10000        the table
    uv run --all-packages --group dev tools/crash.py --family V           of one family alone
    uv run --all-packages --group dev tools/crash.py --seed 4711 --policy guard    one path, shown
    uv run --all-packages --group dev tools/crash.py --seed 4711 --only 0,3   two events of it
    uv run --all-packages --group dev tools/crash.py --recording quickstart --profile reckless

    crash_paths.py    families, and the paths that a seed draws of them
    crash_wire.py     the frames of a path
    crash_rivals.py   the rules that the guard has to beat
    crash_runs.py     one fold of the market, an account behind it for each policy; hindsight
    crash_table.py    sums, paired intervals, verdicts
    crash_recorded.py the same policies on a recording, with the bot's own strategy

Every policy gets the same frames, on paper venues of the same kind, through the bot's own
composition; the strategy has no opinion, and the account is opened by hand. The exit code is 1 if
what is promised of the guard does not hold, 2 if what was typed makes no sense.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Final

import msgspec
from bot.config.profiles import STEADY
from bot.engines.engine import Engine, engine_typed, results_of
from bot.progress import Progress
from bot.run.composition import Options
from crash_paths import FAMILIES, KINDS, Path, path_of
from crash_recorded import on_recording, recorded_table
from crash_runs import POLICIES, hindsight, lead
from crash_table import Run, as_json, claims, table
from dydx_conn import ConnError


def main(arguments: Sequence[str]) -> int:
    """Run what was requested; 1 if a promise of the guard's is broken."""
    options = _parser().parse_args(arguments)
    try:
        if options.seed is not None:
            return _show(options.seed, options.family, options.only, options.policy)
        if options.recording is not None:
            return _recorded(options.recording, options.profile, as_json_=options.json)
        return _table(options)
    except (ValueError, ConnError) as error:
        print(f"crash: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="uv run tools/crash.py", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--paths", type=_count, default=10_000, help="how many (default 10000)")
    parser.add_argument("--first", type=int, default=1, help="the first seed (default 1)")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0 for one a core")
    parser.add_argument(
        "--engine", default="local",
        help="local, local:4, here, or dask://HOST:PORT, whose workers have this folder in their "
        "PYTHONPATH (default local)",
    )  # fmt: skip
    parser.add_argument("--certs", help="certificates of bot sweep certs, for a scheduler")
    parser.add_argument("--family", default="", help="paths of this family alone")
    parser.add_argument("--seed", type=int, help="show one path second by second")
    parser.add_argument("--policy", default="guard", choices=POLICIES, help="under which policy")
    parser.add_argument("--only", help="of its events, these: 0,3")
    parser.add_argument("--no-regret", action="store_true", help="search no best of hindsight")
    parser.add_argument("--recording", help="play this under every policy: quickstart, a path")
    parser.add_argument(
        "--profile", default=STEADY, help="how its strategy trades (default steady)"
    )
    parser.add_argument("--json", action="store_true", help="the table as JSON")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected at least one path, got {text!r}")
    return int(text)


# === One path ===


def _show(seed: int, family: str, only: str | None, policy: str) -> int:
    path = _reduced(path_of(seed, _family(family)), only)
    print(f"{path.family}: {path.seconds} s")
    for asset in path.assets:
        print(f"{asset.ticker}  holds {asset.held_usdc:,.0f} USDC at {asset.price:,.4f}")
    for number, event in enumerate(path.events):
        when = f"at {event.at_s} s for {event.for_s} s"
        print(f"event {number}  {event.kind:<13} {when}, {event.size:.4g}: {KINDS[event.kind]}")
    print("\n".join(lead(path, (policy,), verbose=True)[policy].lines))
    for name, outcome in lead(path).items():
        state = "lost" if outcome.lost else "saved"
        print(f"{name:<6} {state}, {outcome.left:,.2f} USDC left, {outcome.orders} orders")
    return 0


def _reduced(path: Path, only: str | None) -> Path:
    if only is None:
        return path
    try:
        events = tuple(path.events[int(number)] for number in only.split(",") if number)
    except (ValueError, IndexError):
        what = f"expected numbers of the {len(path.events)} events, such as 0,3"
        raise ValueError(f"{what}; got {only!r}") from None
    return msgspec.structs.replace(path, events=events)


def _family(name: str) -> str:
    if name and name not in FAMILIES:
        raise ValueError(f"expected a family among {', '.join(FAMILIES)}, got {name!r}")
    return name


# === A recording ===


def _recorded(name: str, profile: str, *, as_json_: bool) -> int:
    outcomes = on_recording(name, Options.of(profile))
    shown = json.dumps(msgspec.to_builtins(outcomes)) if as_json_ else None
    print(shown or "\n".join(recorded_table(outcomes)))
    return 0


# === Table ===


# Seeds of which the best of hindsight is searched too: of each family as many.
REGRETTED: Final = range(1, 301)


def run(seed: int, family: str = "", *, regret: bool = True) -> Run:
    """Lead a seed's account down its path under every policy."""
    path = path_of(seed, family)
    best = hindsight(path) if regret and seed in REGRETTED and not family else None
    return Run(seed, path.family, lead(path), best)


def _table(options: argparse.Namespace) -> int:
    started = time.monotonic()
    seeds = range(options.first, options.first + options.paths)
    work = partial(run, family=_family(options.family), regret=not options.no_regret)
    runs = _runs(work, seeds, engine_typed(options))
    if options.json:
        print(json.dumps(as_json(runs)))
    else:
        print("\n".join(table(runs)))
        print(f"seeds {seeds[0]} to {seeds[-1]}, {time.monotonic() - started:.0f} s")
    return 1 if any(claim.broken for claim in claims(runs)) else 0


def _runs(work: Callable[[int], Run], seeds: Sequence[int], engine: Engine) -> list[Run]:
    chunks = [seeds[n : n + _CHUNK] for n in range(0, len(seeds), _CHUNK)]
    done = 0

    def step(runs: Sequence[Run]) -> None:
        nonlocal done
        done += len(runs)
        progress.at(done)

    with engine, Progress("paths", len(seeds)) as progress:
        found = results_of(engine, partial(_chunk, work), chunks, step)
    return sorted(chain(*found), key=lambda one: one.seed)


def _chunk(work: Callable[[int], Run], seeds: Sequence[int]) -> list[Run]:
    return [work(seed) for seed in seeds]


_CHUNK: Final = 10

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
