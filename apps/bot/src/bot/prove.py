"""`bot prove`: does a strategy decide by what is past, and by nothing else?

    frames ─► Bot ─► what was decided, frame by frame
    the same up to a cut, then nothing ──────┐
    the same up to a cut, then another day ──┴─► the same decisions, up to the cut?

The strategy is loaded once and made anew for each run, so that what it remembers beside itself is
there in the next. While it runs it is observed (bot.witness): a view that it reads after its
frame, and a file that it opens, show by themselves.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Final

import msgspec
from dydx_conn import ConnError, Frame, Recording, find_recording
from dydx_strategy import Strategy
from reactivex import from_iterable

from bot.budget import Supervisor
from bot.composition import Bot, Options, raised, strategy_of
from bot.findings import Finding, as_words, exit_code
from bot.outlet import as_lines, progress
from bot.runs import options_of, until
from bot.witness import Witness, reaching

# After a cut so many frames of another day are played.
_FUTURE: Final = 2_000
_FEWEST: Final = 100

# === Runs ===


class Run(msgspec.Struct, kw_only=True):
    """One run of a strategy: what it decided at which frame, and what was noticed."""

    decided: list[tuple[int, bytes]]
    reached: list[str]
    late: list[str]
    stopped: Exception | None


def observed(frames: Iterable[Frame], options: Options, make: Callable[[], Strategy]) -> Run:
    """Run a strategy under observation."""
    seen: list[Witness] = []

    def witness() -> Strategy:
        seen.append(Witness(make))
        return seen[-1]

    bot = Bot(options, strategy=witness)
    try:
        bot.run(from_iterable(frames))
    except Exception as error:
        if error is not bot.stopped:
            raise
    encode = msgspec.json.Encoder(order="deterministic").encode
    return Run(
        decided=[(one.decision.seq, encode(one.decision)) for w in seen for one in w.decided],
        reached=list(dict.fromkeys(words for w in seen for words in w.reached)),
        late=[words for w in seen for words in w.lease.late],
        stopped=bot.stopped,
    )


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
        self._make = self._load(self._loaded)
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
            if not self._difference(frames, past[-1].seq, self._load([])):
                self._remembers = self._remembers or differs
            else:
                self._otherwise.append(f"{differs} where {what} after frame {past[-1].seq}")

    def findings(self) -> list[Finding]:
        """Return what was found, a line each."""
        whole = self.whole
        compared = f"{self._compared:,} targets up to {self.cuts} cuts are the same"
        nothing = not self._compared and not self._otherwise and not self._remembers
        prefix = Finding("past alone", "holds", f"{compared} with another future and with none")
        if nothing:
            what = f"it decided {len(whole.decided)} targets, none before a cut: nothing is proved"
            prefix = Finding("past alone", "unseen", what)
        elif self._otherwise:
            prefix = Finding("past alone", "broken", f"it knows the future: {self._otherwise[0]}")
        found = [
            prefix,
            _finding(
                "no memory", self._remembers, "what it remembers beside itself: {}: modules, "
                "classes and globals go from one run to the next",
                "a run after another decides as the first did",
            ),
            _finding(
                "own frame", whole.late[:1], "it keeps a view past its frame, which shows another "
                "time than the decision's: {}", "no view is read after its frame",
            ),
            _finding(
                "frames only", [*self._loaded, *whole.reached], "it {}: what holds the future "
                "there, no replay can tell; what a strategy knows comes with the frames",
                "nothing is opened, connected to or started",
            ),
        ]  # fmt: skip
        if whole.stopped is not None and not whole.late:
            found.append(Finding("runs", "broken", f"it was stopped: {raised(whole.stopped)}"))
        return found

    def _difference(self, frames: Sequence[Frame], last: int, make: Callable[[], Strategy]) -> str:
        expected = [row for row in self.whole.decided if row[0] <= last]
        got = [row for row in observed(frames, self._options, make).decided if row[0] <= last]
        if got == expected:
            self._compared += len(expected)
            return ""
        place = next(
            (n for n, rows in enumerate(zip(got, expected, strict=False)) if rows[0] != rows[1]),
            min(len(got), len(expected)),
        )
        return f"it {_words(got, place)}, and before {_words(expected, place)}"

    def _load(self, reached: list[str]) -> Callable[[], Strategy]:
        with Supervisor(self._options.budget).loading(self._options.strategy), reaching(reached):
            make = strategy_of(self._options)
        if make is None:
            raise ConnError("expected a strategy to prove, got none")
        return make


def _finding(name: str, found: str | Sequence[str], broken: str, holds: str) -> Finding:
    if not found:
        return Finding(name, "holds", holds)
    words = found if isinstance(found, str) else " and ".join(found[:3])
    return Finding(name, "broken", broken.format(words))


def _words(rows: Sequence[tuple[int, bytes]], place: int) -> str:
    if place >= len(rows):
        return "decided nothing more"
    seq, row = rows[place]
    decision = msgspec.json.decode(row)
    return f"decided {decision['target_usdc']:+,.0f} USDC of {decision['ticker']} at frame {seq}"


# === Command ===


def prove(arguments: argparse.Namespace) -> int:
    """Prove that a strategy sees no future on a recording, or say what it sees: 1 if it does."""
    options = options_of(arguments)
    recording = Recording(find_recording(arguments.recording))
    goes_on = until(arguments.seconds, lambda _: True)
    frames = [frame for frame in recording if goes_on(frame)]
    if len(frames) < _FEWEST:
        raise ConnError(f"expected a recording of {_FEWEST} frames or more, got {len(frames)}")
    progress("the whole recording")
    proof, chance = Proof(frames, options), Random(arguments.seed)
    for number in range(arguments.cuts):
        progress(f"cut {number + 1} of {arguments.cuts}")
        proof.cut(chance.randrange(len(frames) // 10, len(frames)), chance)
    progress("")
    findings = proof.findings()
    if arguments.json:
        print(json.dumps(msgspec.to_builtins(findings), indent=2))
    else:
        print(as_lines([*_head(arguments, len(frames)), *as_words(findings)]))
    return exit_code(findings)


def _head(arguments: argparse.Namespace, frames: int) -> list[str]:
    return [
        f"strategy    {arguments.strategy} on {arguments.recording}, {frames:,} frames",
        f"cuts        {arguments.cuts}, drawn with seed {arguments.seed}",
        "",
    ]
