"""`bot strategy check`: does a strategy of your own behave, before it has money?

    frames ─► observed runs ─► targets, readings, times ─► RULES ─► Finding each
    the same with a book lost, and with a silence ─┘

It is run on a recording, as it is and with trouble put in where it holds something, and in two
other processes, in which sets and dicts of objects have another order. The gate denies what breaks
a limit and the pace drops what flaps: what is checked here is that it does not rely on them.
"""

import argparse
import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

import msgspec
from dydx_conn import ConnError, Frame, Recording, find_recording
from dydx_signals import ALL, Scorer
from dydx_strategy import Strategy

from bot.config.configured import loaded_of, typed_again
from bot.config.place import NONE
from bot.findings import Finding, print_findings
from bot.live.commands import options_as_recorded
from bot.live.runs import until
from bot.parsing import nearest
from bot.progress import Progress
from bot.run.composition import Options
from bot.system import own_command
from bot.writing.witness import Decided, Seen, loaded, observed, seen_findings

_SECOND: Final = 1_000_000_000
# A position whose market is in trouble for as long should be on its way out.
_PATIENCE_NS: Final = 60 * _SECOND
# Links count as silent after 30 s.
_SILENT_NS: Final = 45 * _SECOND
_CALM_NS: Final = 10 * _SECOND
# Out and in again, or to the other side and back: there and back costs two fees and the spread.
_FLAP_NS: Final = 30 * _SECOND
_FLAP_TURNS: Final = 3
# The whole way from frame to verdict is to take less at the 99th percentile.
_STEP_NS: Final = 1_000_000
_FEWEST: Final = 100
# Prices move between a decision and what is held by it.
_ROUNDED: Final = 1.02
_KNOWN: Final = Scorer(ALL).names

# === Trouble ===
# The same recording on a worse day. Numbers and times of the frames stay as they are.


class Trouble(msgspec.Struct, kw_only=True):
    """A run with trouble put in: in which market from when (ns) on, and what was seen."""

    what: str
    ticker: str
    since: int
    seen: Seen


def without_book(frames: Iterable[Frame], ticker: str, since: int) -> Iterator[Frame]:
    """Yield frames in which a market's book is not subscribed any more, from a time on."""
    for frame in frames:
        if frame.at >= since and frame.channel == "v4_orderbook" and frame.id == ticker:
            frame = msgspec.structs.replace(frame, type="unsubscribed", raw=msgspec.Raw(b""))
        yield frame


def silent(frames: Iterable[Frame], since: int) -> Iterator[Frame]:
    """Yield frames in which the venue says nothing for a while: ticks alone, and then a hole."""
    for frame in frames:
        if frame.kind == "tick" or not since <= frame.at < since + _SILENT_NS:
            yield frame


def troubles(
    frames: Sequence[Frame], seen: Seen, options: Options, make: Callable[[], Strategy]
) -> list[Trouble]:
    """Run a strategy with trouble put in at a time when it holds something; nothing if none."""
    last_ns = _SILENT_NS + _PATIENCE_NS + _CALM_NS
    place = next(
        (
            (at + _CALM_NS, max(held, key=lambda ticker: abs(held[ticker])))
            for (at, held), (then, _) in pairwise([*seen.held, (frames[-1].at, {})])
            if held and at + _CALM_NS < min(then, frames[-1].at - last_ns)
        ),
        None,
    )
    if place is None:
        return []
    since, ticker = place
    played = [frame for frame in frames if frame.at < since + last_ns]
    worse = {
        f"the book of {ticker} is unknown": (without_book(played, ticker, since), since),
        "every link was silent": (silent(played, since), since + _SILENT_NS),
    }
    return [
        Trouble(what=what, ticker=ticker, since=from_, seen=observed(day, options, make))
        for what, (day, from_) in worse.items()
    ]


# === Rules ===
# Each takes what was seen and returns what of it is broken in words, or nothing; a new rule is a
# function and a row of the table.


class Seeing(msgspec.Struct, kw_only=True):
    """All that was seen of a strategy: its runs, and the hashes of other processes."""

    options: Options
    whole: Seen
    again: Seen
    troubles: list[Trouble]
    hashes: list[str] = []


def _repeats(seeing: Seeing) -> str:
    first, second = seeing.whole.rows(), seeing.again.rows()
    if first != second:
        at = next((one for one, other in zip(first, second, strict=False) if one != other), None)
        where = f" at frame {at[0]}" if at else ""
        return f"two runs in one process differ{where}: {len(first)} and {len(second)} decisions"
    if len(set(seeing.hashes)) > 1:
        return "two processes differ: does it go by the order of a set, by a clock or by chance?"
    return ""


def _names(seeing: Seeing) -> str:
    for name in sorted(seeing.whole.wanted - {*seeing.whole.scored}):
        if name in _KNOWN:
            return f"it asks for {name!r}, which nothing scores: name it in its attribute signals"
        near = nearest(name, _KNOWN)
        hint = f": did you mean {near!r}?" if near else f" ({', '.join(_KNOWN)})"
        return f"it asks for {name!r}, which nothing scores{hint}"
    return ""


def _limits(seeing: Seeing) -> str:
    policy = seeing.options.policy
    shares = (policy.max_account_share, policy.max_leverage)
    account = min(share for share in shares if share is not None)
    market = account if policy.max_market_share is None else policy.max_market_share
    for one in seeing.whole.decided:
        decision, usdc = one.decision, abs(one.decision.target_usdc)
        if not one.grows or one.equity is None:
            continue
        for what, got, share in (
            (f"of {decision.ticker}", usdc, market),
            ("with what it holds of other markets", usdc + one.others, account),
        ):
            if got > share * one.equity * _ROUNDED:
                return (
                    f"it targets {got:,.0f} USDC {what} at frame {decision.seq}, profile "
                    f"{seeing.options.profile} allows {share * one.equity:,.0f}: the rest is cut "
                    "or denied"
                )
    return ""


def _silence(seeing: Seeing) -> str:
    for seen in (seeing.whole, *(trouble.seen for trouble in seeing.troubles)):
        for one in seen.decided:
            if one.grows and one.objection:
                return f"it targets {_target(one)} although {one.objection}"
    return ""


def _exits(seeing: Seeing) -> str:
    for trouble in seeing.troubles:
        end = trouble.since + _PATIENCE_NS
        left = any(
            one.decision.ticker == trouble.ticker
            and abs(one.decision.target_usdc) < abs(one.held)
            and trouble.since <= one.decision.at <= end
            for one in trouble.seen.decided
        )
        held = [held.get(trouble.ticker) for at, held in trouble.seen.held if at <= end]
        if not left and held and held[-1]:
            wants = f"it still holds {held[-1]:+,.0f} USDC of {trouble.ticker}"
            return f"{wants} {_PATIENCE_NS // _SECOND} s after {trouble.what}"
    return ""


def _flapping(seeing: Seeing) -> str:
    turns: dict[str, list[int]] = {}
    last: dict[str, int] = {}
    for one in seeing.whole.decided:
        decision = one.decision
        way = (decision.target_usdc > 0) - (decision.target_usdc < 0)
        if way == last.get(decision.ticker, 0):
            continue
        last[decision.ticker] = way
        found = turns.setdefault(decision.ticker, [])
        found.append(decision.at)
        if len(found) > _FLAP_TURNS and decision.at - found[-_FLAP_TURNS] < _FLAP_NS:
            spent = (decision.at - found[-_FLAP_TURNS]) / _SECOND
            return (
                f"it turns {decision.ticker} {_FLAP_TURNS} times in {spent:.1f} s, up to frame "
                f"{decision.seq}: each costs a fee and half the spread"
            )
    return ""


def _time(seeing: Seeing) -> str:
    took = sorted(seeing.whole.took_ns)
    if not took or took[int(len(took) * 0.99)] <= _STEP_NS:
        return ""
    return f"a step takes {_microseconds(took)}, more than {_STEP_NS // 1000:,} µs: {_LATE}"


_LATE: Final = "frames wait meanwhile, and so does the guard"


def _microseconds(took: Sequence[int]) -> str:
    middle, late = took[len(took) // 2] / 1e3, took[int(len(took) * 0.99)] / 1e3
    return f"{middle:,.0f} µs, 99 of 100 at most {late:,.0f} µs"


def _target(one: Decided) -> str:
    decision = one.decision
    return f"{decision.target_usdc:+,.0f} USDC of {decision.ticker} at frame {decision.seq}"


_Rule = tuple[str, Callable[[Seeing], str], str, Callable[[Seeing], str]]


def _never(_: Seeing) -> str:
    return ""


def _undecided(seeing: Seeing) -> str:
    return "" if seeing.whole.made else "it decided nothing on this recording"


def _untargeted(seeing: Seeing) -> str:
    return "" if seeing.whole.decided else "it targeted nothing on this recording"


def _untroubled(seeing: Seeing) -> str:
    if seeing.troubles:
        return ""
    return "it held nothing for long enough to put trouble in: try a longer recording"


# Name, what is broken, what holds, why it was not seen.
RULES: Final[tuple[_Rule, ...]] = (
    ("repeats", _repeats, "it decides the same again, here and in two other processes", _undecided),
    ("names", _names, "every signal that it reads is scored", _never),
    ("limits", _limits, "no target is beyond what the profile allows", _untargeted),
    ("silence", _silence, "nothing grows while a market is stale or unknown", _untroubled),
    ("exits", _exits, "it leaves a market that is in trouble", _untroubled),
    ("no flapping", _flapping, "no market is turned three times in 30 s", _untargeted),
    ("time", _time, "a step takes less than 1 ms in 99 of 100 cases", _never),
)

# === Command ===


def strategy(arguments: argparse.Namespace) -> int:
    """Check a strategy on a recording, print what was found: 1 if it does not hold."""
    goes_on = until(arguments.seconds, lambda _: True)
    recording = Recording(find_recording(arguments.recording))
    options = options_as_recorded(arguments, recording.header)
    frames = [frame for frame in recording if goes_on(frame)]
    if len(frames) < _FEWEST:
        raise ConnError(f"expected a recording of {_FEWEST} frames or more, got {len(frames)}")
    reached: list[str] = []
    make = loaded(options, reached)
    with others(arguments) as hashes:
        seeing = see(frames, options, make)
        seeing.hashes = hashes()
    findings = [*checked(seeing), *seen_findings(seeing.whole, reached)]
    return print_findings(_head(arguments, seeing), findings, as_json=arguments.json)


def checked(seeing: Seeing) -> list[Finding]:
    """Apply all rules."""
    return [
        Finding.of(name, broken(seeing), holds, unseen(seeing))
        for name, broken, holds, unseen in RULES
    ]


def see(frames: Sequence[Frame], options: Options, make: Callable[[], Strategy]) -> Seeing:
    """Run a strategy in this process as often as the rules need it."""
    with Progress("runs", 3) as progress:
        whole = observed(frames, options, make)
        progress.step("and again")
        again = observed(frames, options, make)
        progress.step("with trouble put in")
        worse = troubles(frames, whole, options, make)
    return Seeing(options=options, whole=whole, again=again, troubles=worse)


@contextlib.contextmanager
def others(arguments: argparse.Namespace) -> Iterator[Callable[[], list[str]]]:
    """Play the recording in two processes meanwhile, with another order of sets in each.

    What is yielded waits for both, and returns their run hashes, of one that failed how it ended.
    """
    loaded = loaded_of(arguments)
    # Of a recording's settings nothing is typed: a file would go in their place.
    same = [] if loaded.is_recorded else ["--config", str(loaded.path or NONE)]
    typed = [
        *own_command(), "replay", arguments.recording, "--json",
        *(["--state", arguments.state] if arguments.state else []), *typed_again(arguments), *same,
    ]  # fmt: skip
    with contextlib.ExitStack() as stack:
        processes = []
        for seed in ("1", "2"):
            environment = {**os.environ, "PYTHONHASHSEED": seed}
            process = subprocess.Popen(
                typed, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            processes.append(stack.enter_context(process))
            stack.callback(process.kill)  # Ctrl-C here is for them, too
        yield lambda: [_run_hash(process) for process in processes]


def _run_hash(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate()
    report: dict[str, Any] = json.loads(out) if out.startswith("{") else {}
    return str(report.get("run_hash", f"exit code {process.returncode}"))


def _head(arguments: argparse.Namespace, seeing: Seeing) -> list[str]:
    took = sorted(seeing.whole.took_ns)
    steps = f"{len(took):,} steps" + (f" of {_microseconds(took)}" if took else "")
    return [
        f"strategy    {arguments.strategy} on {arguments.recording}: "
        f"{len(seeing.whole.decided):,} targets in {steps}",
        *(f"trouble     {trouble.what}" for trouble in seeing.troubles),
    ]
