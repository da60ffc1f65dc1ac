"""A task of a sweep, where it is worked on: a recording or a span, played once for its variants.

    Block: recording and its hash, base, variants ──► play_block ──► Outcome of each, or Lost

What a task names is checked here: that the recording is the one that was meant, before it is played
and after, and that the settings are, by their hash.
"""

import hashlib
import os
from collections.abc import Generator
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

import msgspec
from dydx_conn import ConnError, Frame, Recording, from_generator
from reactivex import Observable

from bot.backtest.figures import RunFigures, figures_of
from bot.backtest.playing import Span
from bot.config.varied import Base, varied
from bot.engines.work import Lost, stamp
from bot.live.runs import DEPOSIT, chosen, until
from bot.run.composition import Bot, Options
from bot.run.front import play
from bot.run.kinds import kinds_of
from bot.run.resume import ACCOUNT
from bot.sweep.grid import Variant
from bot.times import iso, utc


class Key(msgspec.Struct, frozen=True, order=True):
    """What a result is of: recording, span of it, configuration, code; the hashes of each."""

    recording: str
    span: str
    config: str
    code: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a variant on a recording; `failure` is why it ended early, where it did."""

    key: Key
    changes: dict[str, Any]
    figures: RunFigures
    failure: str = ""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A recording, some of it or a span: its path, its SHA-256, and what it goes by.

    A span is from `opens_ns` to before `closes_ns`; what comes before it warms up the scores, of
    history so much as `warmup_ns`. Of `fidelity` a history is played; None for the best it has.
    """

    path: str
    name: str
    sha256: str
    seconds: float | None = None
    opens_ns: int | None = None
    closes_ns: int | None = None
    fidelity: str | None = None
    warmup_ns: int = Span().warmup

    @property
    def span(self) -> str:
        """Return which part of it is played, "" for all."""
        if self.opens_ns is not None:
            part = f"{iso(self.opens_ns)}/{iso(self.closes_ns)}"
            if self.warmup_ns != Span().warmup:
                part += f", {self.warmup_ns / 1e9:g} s before it"
        else:
            part = "" if self.seconds is None else f"first {self.seconds:g} s"
        return ", ".join(filter(None, (part, self.fidelity)))

    @property
    def label(self) -> str:
        """Return what it goes by, and from when on, where it is a span."""
        return self.name if self.opens_ns is None else f"{self.name} from {utc(self.opens_ns)}"


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """One task: variants of a base, to be played on a source."""

    source: Source
    base: Base
    variants: tuple[Variant, ...]
    code: str

    def keys(self) -> list[Key]:
        """Return what each variant's result has to be of."""
        source = self.source
        return [Key(source.sha256, source.span, v.config, self.code) for v in self.variants]


def play_block(block: Block) -> list[Outcome] | Lost:
    """Play a block; `Lost` where its recording or its settings are others than were meant."""
    path = found_here(block.source.path)
    try:
        before = _looks(path)
        if (sha256 := _sha256(*before)) != block.source.sha256:
            return Lost(_other(block.source, sha256[:12]))
        options = [_options(block, variant) for variant in block.variants]
        opens, closes = block.source.opens_ns, block.source.closes_ns
        frames = _frames(path, block.source)
        bots = play(frames, options, opens_ns=opens, closes_ns=closes)
        if _looks(path) != before:
            return Lost(_other(block.source, "one that changed under way"))
    except (OSError, ConnError) as error:
        return Lost(f"{type(error).__name__}: {error}")
    return [
        Outcome(
            key=key, changes=variant.changes, figures=figures_of(bot, opens or 0),
            failure=_failure(bot),
        )
        for key, variant, bot in zip(block.keys(), block.variants, bots, strict=True)
    ]  # fmt: skip


def options_of_variant(base: Base, variant: Variant) -> Options:
    """Return the options of a variant; `ConnError` where its settings are not those meant."""
    loaded = varied(base, variant.changes)
    if loaded.hash != variant.config:
        what = f"expected settings of hash {variant.config[:12]}, got {loaded.hash[:12]}"
        raise ConnError(f"{what}: the worker's defaults are others")
    return chosen(loaded, DEPOSIT)


def _options(block: Block, variant: Variant) -> Options:
    if code_of(block.base, variant.changes) != block.code:
        what = "expected the files of strategy, signals and book model that the sweep began with"
        raise ConnError(f"{what}, got others")
    return options_of_variant(block.base, variant)


def _failure(bot: Bot) -> str:
    error = bot.failure or bot.stopped
    return "" if error is None else f"{type(error).__name__}: {error}"


def _frames(path: Path, source: Source) -> Observable[Frame]:
    recording = Recording(path, kinds_of(source.fidelity))
    first = 0 if source.opens_ns is None else source.opens_ns - source.warmup_ns
    goes_on = until(source.seconds, lambda _: True)

    def frames() -> Generator[Frame]:
        yield from filter(_counts, takewhile(goes_on, recording.since(first)))

    return from_generator(frames)


def _counts(frame: Frame) -> bool:
    # What the recorded run did, and what its account was, is no part of what variants see.
    return frame.kind != "act" and (frame.kind != "state" or frame.link != ACCOUNT)


# === What is played ===


def found_here(path: str) -> Path:
    """Return where a recording is on this machine: at its path, or by its name where one works."""
    here = Path(Path(path).name)
    return here if here.exists() and not os.path.exists(path) else Path(path)


def source_of(
    path: Path, name: str, seconds: float | None, fidelity: str | None = None, **more: Any
) -> Source:
    """Return a recording as a task names it; `OSError` where it cannot be read.

    `ConnError` where it has nothing of that fidelity.
    """
    path = path.resolve()
    Recording(path, kinds_of(fidelity))
    sha256 = _sha256(*_looks(path))
    return Source(
        path=str(path), name=name, sha256=sha256, seconds=seconds, fidelity=fidelity, **more
    )


def spans_of(source: Source, since_ns: int, until_ns: int, span_ns: int) -> list[Source]:
    """Return a recording as spans, one after the other; what is shorter at its end is left out.

    `ConnError` where not even one fits.
    """
    opens = range(since_ns, until_ns - span_ns + 1, span_ns)
    if not opens:
        hours = [round(ns / 3.6e12, 2) for ns in (span_ns, until_ns - since_ns)]
        what = f"expected spans within {source.name}, of {hours[1]:g} hours"
        raise ConnError(f"{what}, got {hours[0]:g} hours as one")
    return [msgspec.structs.replace(source, opens_ns=at, closes_ns=at + span_ns) for at in opens]


def _looks(path: Path) -> tuple[str, int, int]:
    found = path.stat()
    return str(path), found.st_size, found.st_mtime_ns


@lru_cache(maxsize=256)
def _sha256(path: str, size: int, changed_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _other(source: Source, got: str) -> str:
    return f"expected the recording {source.path} with SHA-256 {source.sha256[:12]}, got {got}"


# === Code ===


def code_of(base: Base, changes: dict[str, Any] = {}) -> str:  # noqa: B006  # only read
    """Return the hash of all code that decides: the bot's own, and files of the user's."""
    files = [str(changes.get(path, base.files.get(path, ""))) for path in OF_FILES]
    own = [name for name in files if name.endswith(_SUFFIXES) and os.path.isfile(name)]
    if not own:
        return stamp().sources
    digest = hashlib.sha256(stamp().sources.encode())
    for name in own:
        digest.update(_sha256(*_looks(Path(name))).encode())
    return digest.hexdigest()


_SUFFIXES: Final = (".py", ".toml", ".json")
OF_FILES: Final = ("paper.book_model", "signals.use", "strategy")
