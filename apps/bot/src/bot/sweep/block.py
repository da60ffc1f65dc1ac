"""A task of a sweep, where it is worked on: one recording, played once for a block of variants.

    Block: recording and its hash, base, variants ──► play_block ──► Outcome of each, or Lost

What a task names is checked here: that the recording is the one that was meant, before it is played
and after, and that the settings are, by their hash.
"""

import hashlib
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec
from dydx_conn import ConnError, Frame, Recording
from dydx_conn import replay as replayed
from reactivex import Observable

from bot.backtest.figures import RunFigures, figures_of
from bot.config.varied import Base, varied
from bot.engines.work import Lost, stamp
from bot.live.runs import DEPOSIT, chosen, until
from bot.run.composition import Bot, Options
from bot.run.front import play
from bot.run.kinds import kinds_of
from bot.sweep.grid import Variant


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
    """A recording, or some of it: its path, its SHA-256, and what it goes by.

    Of `fidelity` a history is played; None for the best that it has.
    """

    path: str
    name: str
    sha256: str
    seconds: float | None = None
    fidelity: str | None = None

    @property
    def span(self) -> str:
        """Return which part of it is played, "" for all."""
        first = "" if self.seconds is None else f"first {self.seconds:g} s"
        return ", ".join(part for part in (first, self.fidelity) if part)


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
        bots = play(_frames(path, block.source), options)
        if _looks(path) != before:
            return Lost(_other(block.source, "one that changed under way"))
    except (OSError, ConnError) as error:
        return Lost(f"{type(error).__name__}: {error}")
    return [
        Outcome(key=key, changes=variant.changes, figures=figures_of(bot), failure=_failure(bot))
        for key, variant, bot in zip(block.keys(), block.variants, bots, strict=True)
    ]


def options_of_variant(base: Base, variant: Variant) -> Options:
    """Return the options of a variant; `ConnError` where its settings are not those meant."""
    loaded = varied(base, variant.changes)
    if loaded.hash != variant.config:
        what = f"expected settings of hash {variant.config[:12]}, got {loaded.hash[:12]}"
        raise ConnError(f"{what}: the worker's defaults are others")
    return chosen(loaded, DEPOSIT)


def _options(block: Block, variant: Variant) -> Options:
    if code_of(block.base, variant.changes) != block.code:
        raise ConnError("expected the strategy's file that the sweep began with, got another one")
    return options_of_variant(block.base, variant)


def _failure(bot: Bot) -> str:
    error = bot.failure or bot.stopped
    return "" if error is None else f"{type(error).__name__}: {error}"


def _frames(path: Path, source: Source) -> Observable[Frame]:
    recording = Recording(path, kinds_of(source.fidelity))
    return replayed(recording, pace=until(source.seconds, _on))


def _on(_: Frame) -> bool:
    return True


# === What is played ===


def found_here(path: str) -> Path:
    """Return where a recording is on this machine: at its path, or by its name where one works."""
    here = Path(Path(path).name)
    return here if here.exists() and not os.path.exists(path) else Path(path)


def source_of(path: Path, name: str, seconds: float | None, fidelity: str | None = None) -> Source:
    """Return a recording as a task names it; `OSError` where it cannot be read.

    `ConnError` where it has nothing of that fidelity.
    """
    path = path.resolve()
    Recording(path, kinds_of(fidelity))
    sha256 = _sha256(*_looks(path))
    return Source(path=str(path), name=name, sha256=sha256, seconds=seconds, fidelity=fidelity)


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
    files = [str(changes.get(path, name)) for path, name in sorted(base.files.items())]
    own = [name for name in files if name.endswith(_FILES) and os.path.isfile(name)]
    if not own:
        return stamp().sources
    digest = hashlib.sha256(stamp().sources.encode())
    for name in own:
        digest.update(_sha256(*_looks(Path(name))).encode())
    return digest.hexdigest()


_FILES: Final = (".py", ".toml", ".json")
