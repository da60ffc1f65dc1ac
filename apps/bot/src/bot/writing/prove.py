"""`bot prove`: does a strategy decide by what is past, and by nothing else?

    frames ─► Bot ─► what was decided, frame by frame
    the same up to a cut, then nothing ──────┐
    the same up to a cut, then another day ──┴─► the same decisions, up to the cut?

The strategy is loaded once and made again for each run, so that what it remembers beside itself is
there in the next. While it runs it is observed (bot.writing.witness): a view that it reads after
its frame, and a file that it opens, show by themselves.
"""

import argparse
from collections.abc import Callable, Sequence
from math import ceil
from pathlib import Path
from random import Random
from typing import Final

import msgspec
from dydx_conn import ConnError, Frame, Recording, find_recording
from dydx_strategy import Decision, Strategy

from bot.engines.engine import Here, engine_typed, results_of
from bot.findings import Finding, print_findings
from bot.live.commands import options_as_recorded
from bot.live.runs import until
from bot.progress import Progress
from bot.run.composition import Options
from bot.run.kinds import kinds_of
from bot.writing.witness import Witnessed, loaded, observed, seen_findings

# After a cut so many frames of another day are played.
_FUTURE: Final = 2_000
_FEWEST: Final = 100

# === Another day ===


def scrambled(frames: Sequence[Frame], chance: Random) -> list[Frame]:
    """Return frames whose messages came in another order, each subscription for itself."""
    subscriptions: dict[tuple[str, ...], list[int]] = {}
    for index, frame in enumerate(frames):
        if frame.kind == "ws":
            about = frame.link, frame.type, frame.channel, frame.id
            subscriptions.setdefault(about, []).append(index)
    found = list(frames)
    for places in subscriptions.values():
        others = chance.sample(places, len(places))
        for place, other in zip(places, others, strict=True):
            text, raw = frames[other].text, frames[other].raw
            found[place] = msgspec.structs.replace(frames[place], text=text, raw=raw)
    return found


# === Proofs ===


class Proof:
    """Everything that was found of one strategy on one recording."""

    def __init__(self, frames: Sequence[Frame], options: Options) -> None:
        self._frames, self._options = frames, options
        self._loaded: list[str] = []
        self._make = loaded(options, self._loaded)
        self.whole = observed(frames, options, self._make)
        self._compared = 0
        self._otherwise: list[str] = []
        self._remembers = ""
        self.cuts = 0

    def cut(self, index: int, chance: Random) -> None:
        """Run what came before a frame, with nothing after it and with another day after it."""
        past, future = self._frames[:index], self._frames[index : index + _FUTURE]
        self.cuts += 1
        for what, frames in (
            ("another day followed", [*past, *scrambled(future, chance)]),
            ("nothing followed", past),
        ):
            differs = self._difference(frames, past[-1].seq, self._make)
            if not differs:
                continue
            # With the file loaded again: is it the run that went before, or the future?
            if not self._difference(frames, past[-1].seq, loaded(self._options, [])):
                self._remembers = self._remembers or differs
            else:
                self._otherwise.append(f"{differs} where {what} after frame {past[-1].seq}")

    def proved(self) -> "Proved":
        """Return what was found so far, as a value."""
        return Proved(
            whole=self.whole, loaded=self._loaded, compared=self._compared,
            otherwise=self._otherwise, remembers=self._remembers, cuts=self.cuts,
        )  # fmt: skip

    def findings(self) -> list[Finding]:
        """Return what was found, a line each."""
        return self.proved().findings()

    def _difference(self, frames: Sequence[Frame], last: int, make: Callable[[], Strategy]) -> str:
        expected = self.whole.rows(last)
        got = observed(frames, self._options, make).rows(last)
        if got == expected:
            self._compared += len(expected)
            return ""
        place = next(
            (n for n, rows in enumerate(zip(got, expected, strict=False)) if rows[0] != rows[1]),
            min(len(got), len(expected)),
        )
        return f"it {_words(got, place)}, and before {_words(expected, place)}"


class Proved(msgspec.Struct, kw_only=True):
    """What was found of a strategy: its run, what its loading reached, and what cuts have shown."""

    whole: Witnessed
    loaded: list[str]
    compared: int
    otherwise: list[str]
    remembers: str
    cuts: int

    def findings(self) -> list[Finding]:
        """Return what was found, a line each."""
        whole, broken = self.whole, self.otherwise[:1]
        nothing = not (self.compared or broken or self.remembers)
        return [
            Finding.of(
                "past alone",
                f"it knows the future: {broken[0]}" if broken else "",
                f"{self.compared:,} decisions up to {self.cuts} cuts are the same with another "
                "future and with none",
                f"it decided {len(whole.made)} times, never before a cut: nothing is proved"
                if nothing
                else "",
            ),
            Finding.of(
                "no memory",
                f"what it remembers beside itself: {self.remembers}: modules, classes and globals "
                "go from one run to the next"
                if self.remembers
                else "",
                "a run after another decides as the first did",
            ),
            *seen_findings(whole, self.loaded),
        ]


def joined(found: Sequence[Proved]) -> Proved:
    """Return what several have found by cuts of their own, in the order of these."""
    return msgspec.structs.replace(
        found[0],
        compared=sum(one.compared for one in found),  # integers
        otherwise=[words for one in found for words in one.otherwise],
        remembers=next((one.remembers for one in found if one.remembers), ""),
        cuts=sum(one.cuts for one in found),  # integers
    )


def _words(rows: Sequence[tuple[int, bytes]], place: int) -> str:
    if place >= len(rows):
        return "decided nothing more"
    seq, row = rows[place]
    decision = msgspec.json.decode(row, type=Decision)
    target = f"{decision.action} {decision.target_usdc:+,.0f} USDC of {decision.ticker}"
    return f"decided {target} at frame {seq} ({'; '.join(decision.reasons)[:60]})"


# === Parts ===
# The cuts of a proof dealt out to processes, each of which plays the whole recording first.


def _cuts(frames: Sequence[Frame], count: int, chance: Random) -> list[tuple[int, Random]]:
    """Draw where to cut, and for each cut the chance by which its other day is drawn."""
    found: list[tuple[int, Random]] = []
    for _ in range(count):
        index, own = chance.randrange(len(frames) // 10, len(frames)), Random(0)
        own.setstate(chance.getstate())
        found.append((index, own))
        scrambled(frames[index : index + _FUTURE], chance)  # what comes after it is drawn next
    return found


class CutTask(msgspec.Struct, frozen=True):
    """A task: some cuts of a recording, and the options of the strategy."""

    path: str
    seconds: float | None
    options: Options
    cuts: list[tuple[int, Random]]
    fidelity: str | None = None


def prove_part(part: CutTask) -> Proved:
    """Prove what some cuts can prove, in any process."""
    goes_on = until(part.seconds, lambda _: True)
    recording = Recording(Path(part.path), kinds_of(part.fidelity))
    proof = Proof([one for one in recording if goes_on(one)], part.options)
    for index, chance in part.cuts:
        proof.cut(index, chance)
    return proof.proved()


# === Command ===


def prove(arguments: argparse.Namespace) -> int:
    """Prove that a strategy sees no future on a recording, or say what it sees: 1 if it does."""
    recording = Recording(find_recording(arguments.recording), kinds_of(arguments.fidelity))
    options = options_as_recorded(arguments, recording.header)
    goes_on = until(arguments.seconds, lambda _: True)
    frames = [frame for frame in recording if goes_on(frame)]
    if len(frames) < _FEWEST:
        raise ConnError(f"expected a recording of {_FEWEST} frames or more, got {len(frames)}")
    engine, path = engine_typed(arguments), str(recording.path.resolve())
    cuts = _cuts(frames, arguments.cuts, Random(arguments.seed))
    with engine, Progress("runs", 1 + 2 * arguments.cuts) as progress:
        if isinstance(engine, Here):
            proof = Proof(frames, options)
            progress.at(1, "the whole recording")
            for number, (index, chance) in enumerate(cuts, 1):
                proof.cut(index, chance)
                progress.at(1 + 2 * number, f"cut {number} of {arguments.cuts}")
            findings = proof.findings()
        else:
            size = ceil(len(cuts) / engine.workers)
            tasks = [
                CutTask(path, arguments.seconds, options, cuts[n : n + size], arguments.fidelity)
                for n in range(0, len(cuts), size)
            ]
            progress.begin("parts", len(tasks))
            found = results_of(engine, prove_part, tasks, lambda _: progress.step())
            findings = joined(found).findings()
    return print_findings(_head(arguments, len(frames)), findings, as_json=arguments.json)


def _head(arguments: argparse.Namespace, frames: int) -> list[str]:
    return [
        f"strategy    {arguments.strategy} on {arguments.recording}, {frames:,} frames",
        f"cuts        {arguments.cuts}, drawn with seed {arguments.seed}",
    ]
