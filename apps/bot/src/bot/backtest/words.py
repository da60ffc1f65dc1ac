"""What is typed behind `bot backtest`: which words name strategies, which name recordings.

    rank mine.py sixty monday.jsonl.zst ──► Variant, Variant │ Recording, Recording

A name of a strategy, a file of code, a list of several or a file of settings is a variant; what
names a recording is data. A word that could be both is refused.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from dydx_conn import ConnError, Recording, RecordingError, find_recording
from dydx_strategy import STRATEGIES

from bot.config.profiles import PROFILES
from bot.parsing import nearest
from bot.run.kinds import kinds_of

_CODE: Final = (".py", ".toml", ".json")
_SETTINGS: Final = (".yaml", ".yml")
_NAMES: Final = (*STRATEGIES, "mix", "none")


class WordError(ConnError):
    """A word that names neither a strategy nor a recording, or both."""


class Variant(NamedTuple):
    """One way to trade: what it is called, and what was typed as if it alone were."""

    label: str
    arguments: argparse.Namespace


class Words(NamedTuple):
    """The words of one command by what they name, in the order they were typed in."""

    variants: list[str]
    recordings: list[str]


def classified(words: Sequence[str]) -> Words:
    """Part names of variants from those of recordings; `WordError` for what is neither, or both."""
    found = Words([], [])
    for word in words:
        is_variant = _is_variant(word)
        is_data = _is_recording(word, only_so=is_variant)
        if is_variant and is_data:
            what = f"expected {word} to name one thing, got a strategy and a recording"
            raise WordError(f"{what}: type the path of the recording, {find_recording(word)}")
        if not (is_variant or is_data):
            raise WordError(_unknown(word))
        (found.variants if is_variant else found.recordings).append(word)
    for kind, names in zip(("strategy", "recording"), found, strict=True):
        twice = next((name for n, name in enumerate(names) if name in names[:n]), None)
        if twice is not None:
            raise WordError(f"expected each {kind} once, got {twice} twice")
    return found


def variants_of(names: Sequence[str], arguments: argparse.Namespace) -> list[Variant]:
    """Return what was typed once for each variant; without any, as it is configured."""
    if not names:
        return [Variant("", argparse.Namespace(**vars(arguments)))]
    short = [Path(name).name for name in names]
    labels = short if len({*short}) == len(names) else names
    typed = [_as_typed(name, arguments) for name in names]
    return [Variant(*each) for each in zip(labels, typed, strict=True)]


def _as_typed(name: str, arguments: argparse.Namespace) -> argparse.Namespace:
    chosen = "strategy"
    if name.endswith(_SETTINGS):
        chosen = "config"
    elif name in PROFILES:
        chosen = "profile"
    return argparse.Namespace(**{**vars(arguments), chosen: name})


def recordings_of(names: Sequence[str], fidelity: str | None = None) -> list[Recording]:
    """Open recordings, in order of their time; the same one twice is refused."""
    found = [Recording(find_recording(name), kinds_of(fidelity)) for name in names]
    paths = [recording.path.resolve() for recording in found]
    twice = next((path.name for n, path in enumerate(paths) if path in paths[:n]), None)
    if twice is not None:
        raise WordError(f"expected each recording once, got {twice} twice")
    return sorted(found, key=began_at)


def began_at(recording: Recording) -> int:
    """Return when the first frame of a recording came; 0 of one that has none."""
    if recording.header.history is not None:
        return recording.header.history.since_ns
    return next((frame.at for frame in recording), 0)


def _is_variant(word: str) -> bool:
    if word.endswith(_CODE + _SETTINGS):
        return True
    return word in _NAMES or word in PROFILES


def _is_recording(word: str, *, only_so: bool) -> bool:
    # Of a name that may be a strategy's a file or a folder that is called so too is no recording.
    try:
        found = find_recording(word)
    except RecordingError:
        return False
    return found.name.endswith(".zst") or not only_so


def _unknown(word: str) -> str:
    known = _NO_RECORDING.sub(r"\1", _refusal(word))
    near = nearest(word, _NAMES)
    hint = f" (the nearest is {near})" if near else ""
    strategies = ", ".join(_NAMES)
    what = f"expected a strategy ({strategies}, a .py or .toml file) or a recording"
    return f"{what} ({known}, a .jsonl.zst file), got {word!r}{hint}"


_NO_RECORDING: Final = re.compile(r".* one of (.*), got .*", re.DOTALL)


def _refusal(word: str) -> str:
    try:
        return str(find_recording(word))
    except RecordingError as error:
        return str(error)
