"""Settings with some of them changed, many times over: variants of one base.

Loaded ─► base_of ─► Base: text, for a worker on any machine
Base, changes ─► varied ─► Loaded of a variant, validated as a whole
Loaded ─► yaml_of ─► a bot.yaml with what is not as the profile has it
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from bot.config.document import ConfigError, Fault, quoted
from bot.config.layers import RECORDING
from bot.config.loaded import Loaded, load
from bot.config.settings import PATHS

# What is known of a file of the user's by its name alone, wherever else settings are written.
_FILES: Final = ("strategy", "signals.use")


class Base(msgspec.Struct, frozen=True):
    """All by which a run decides, as JSON; and in whole the paths of files of the user's."""

    text: str
    files: dict[str, str]


def base_of(loaded: Loaded) -> Base:
    """Return the settings that variants are made of."""
    settings = loaded.settings
    files = {"strategy": settings.strategy, "signals.use": settings.signals.use}
    if settings.paper.book_model is not None:
        files["paper.book_model"] = settings.paper.book_model
    return Base(loaded.text(), files)


def varied(base: Base, changes: Mapping[str, Any], places: Mapping[str, str] = {}) -> Loaded:
    """Return a variant: by dotted paths what is other than in its base.

    `ConfigError` for what cannot be meant, also where settings contradict each other; `places` has
    where each was given.
    """
    typed = {path: (f"--{path}", base.files[path]) for path in _FILES}
    typed |= {path: (places.get(path, path), value) for path, value in changes.items()}
    try:
        return load(typed, recorded=json.loads(base.text), environment={})
    except ConfigError as error:
        raise ConfigError(_placed(fault, [*places.values()]) for fault in error.faults) from None


def _placed(fault: Fault, places: Sequence[str]) -> Fault:
    """Return a fault where a variant gave what is wrong, not where its base came from."""
    words = fault.words.replace(f": {RECORDING}", ": as configured")
    named = [place for place in places if place in words]
    return Fault(named[0] if named and fault.where == RECORDING else fault.where, words)


def yaml_of(loaded: Loaded, head: str, paths: Iterable[str] = ()) -> str:
    """Return a file of settings that makes the same decisions; `head` stands above as comments.

    It has what is not as the profile has it, and in any case these `paths`.
    """
    named = {"profile", *loaded.changed, *paths}
    values = {path: _plain(loaded, path) for path in PATHS if path in named}
    nested: dict[str, Any] = {}
    for path, value in values.items():
        *sections, name = path.split(".")
        into = nested
        for section in sections:
            into = into.setdefault(section, {})
        into[name] = value
    lines = [f"# {line}" for line in head.splitlines()]
    return "\n".join([*lines, *_lines(nested, "")]) + "\n"


def _plain(loaded: Loaded, path: str) -> Any:
    value: Any = loaded.settings.model_dump(mode="json")
    for name in path.split("."):
        value = value[name]
    return value


def _lines(nested: Mapping[str, Any], indent: str) -> list[str]:
    found: list[str] = []
    for name, value in nested.items():
        if isinstance(value, dict) and value and indent.count("  ") < _DEPTH:
            found += [f"{indent}{name}:", *_lines(value, f"{indent}  ")]
        else:
            found.append(f"{indent}{name}: {quoted(value)}")
    return found


_DEPTH: Final = 8
