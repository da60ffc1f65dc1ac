"""Where settings come from: each layer a mapping of paths to what was given there, and where.

    of_options ─► of_variables ─► of_recording ─► of_document ─► of_profile    the first that has it
                        └───────────── tree_of ──► Settings

What is no name of a setting is a fault here; what is wrong with a value is for bot.config.settled.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from pydantic import SecretStr

from bot.config.document import (
    KEY,
    SEALED,
    SECRET,
    ConfigError,
    Document,
    Fault,
    near,
    read_text,
    shown,
)
from bot.config.environment import ENVIRONMENT
from bot.config.notify import SCHEME, is_plain, pairs_of
from bot.config.place import PREFIX
from bot.config.profiles import PROFILES, STEADY
from bot.config.settings import PATHS, SECRETS, SECTIONS, Settings


class Given(msgspec.Struct, frozen=True):
    """A value as it was given, and where; of its parts where they are in a file."""

    value: Any
    where: str
    place: Callable[[tuple[str | int, ...]], str] | None = None

    def at(self, part: tuple[str | int, ...] = ()) -> str:
        """Return where a part of it was given."""
        return self.where if self.place is None else self.place(part)


Layer = Mapping[str, Given]
DEFAULT: Final = "default"


def tree_of(given: Layer) -> Settings:
    """Return the tree of these values; pydantic's `ValidationError` for what cannot be meant."""
    nested: dict[str, Any] = {}
    for path, one in given.items():
        *sections, name = path.split(".")
        into = nested
        for section in sections:
            into = into.setdefault(section, {})
        into[name] = one.value
    return Settings(**nested)


# === Profile and options ===

PROFILE: Final = "profile "


def of_profile(name: str) -> Layer:
    """Return what a profile decides."""
    profile, where = PROFILES.get(name, PROFILES[STEADY]), f"{PROFILE}{name}"
    fields = {"policy": profile.policy, "strategies.rank": profile.strategy}
    return {
        f"{section}.{field}": Given(value, where)
        for section, model in fields.items()
        for field, value in dict(model).items()
    }


def of_options(typed: Mapping[str, tuple[str, Any]]) -> Layer:
    """Return what was typed: of each path the option and its value."""
    return {path: Given(value, option) for path, (option, value) in typed.items()}


# === File and recording ===


def of_document(document: Document, faults: list[Fault], before: str = "") -> Layer:
    """Return what a file gives; names that it does not know are faults."""
    layer: dict[str, Given] = {}
    _flatten(document, (), before, document.value, layer, faults)
    return layer


def _flatten(
    document: Document,
    path: tuple[str | int, ...],
    section: str,
    value: Any,
    layer: dict[str, Given],
    faults: list[Fault],
) -> None:
    if value is None:
        return  # a section of which everything is a comment
    if not isinstance(value, Mapping):
        name = section or "the file"
        words = f"expected names and values in {name}, got {_kind(value)}"
        words += " (as in name: value)" * isinstance(value, str)
        faults.append(Fault(document.place(path), words))
        return
    for name, part in value.items():
        here, below = f"{section}.{name}".removeprefix("."), (*path, name)
        if name not in SECTIONS[section].model_fields:
            faults.append(Fault(document.place((*below, KEY)), unknown(section, name)))
        elif here in SECTIONS:
            _flatten(document, below, here, part, layer, faults)
        else:
            layer[here] = Given(part, document.line((*below, KEY)), _placed(document, below))


def _placed(
    document: Document, path: tuple[str | int, ...]
) -> Callable[[tuple[str | int, ...]], str]:
    return lambda part: document.place((*path, *part))


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else shown(value)


def unknown(section: str, name: str) -> str:
    """Return in words that a section has no such name, and which may be meant."""
    whole = f"{section}.{name}".removeprefix(".")
    if whole in PATHS or whole in SECTIONS:
        above, _, last = whole.rpartition(".")
        return f"expected {last} in a line below {above}, got {shown(whole)} as one name"
    siblings = [*SECTIONS[section].model_fields]
    nearest = near(name, siblings)
    if not nearest:  # right, but in another place
        others = {path.rpartition(".")[2]: path for path in reversed([*PATHS])}
        found = near(name, others).rpartition(" ")[2].removesuffix("?")
        nearest = f": did you mean {others[found]}?" if found else f": known are {_some(siblings)}"
    return f"expected the name of a setting, got {shown(whole)}{nearest}"


def _some(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def of_recording(
    recorded: Mapping[str, Any], typed: Mapping[str, tuple[str, Any]], faults: list[Fault]
) -> Layer:
    """Return what a recording holds of its run."""
    document = Document(source=RECORDING, value=recorded, places={(): RECORDING})
    layer = of_document(document, faults)
    if "profile" not in typed:
        return layer
    # Whoever types another profile means all of it.
    return {
        path: given for path, given in layer.items()
        if not path.startswith(("policy.", "strategies.rank."))
    }  # fmt: skip


RECORDING: Final = "recording"


# === Variables ===

# What these are called without the tree.
_SHORT: Final = {ENVIRONMENT: "environment", "DYDX_ADDRESS": "account.address"}


def of_variables(environment: Mapping[str, str], faults: list[Fault]) -> Layer:
    """Return what variables give; an empty one gives nothing."""
    layer = {
        path: Given(environment[name], name)
        for name, path in _SHORT.items()
        if environment.get(name)
    }
    # A section before its settings: what names one setting goes over what names many.
    for name in sorted(filter(environment.get, environment), key=lambda name: name.count("__")):
        if name.upper().startswith(PREFIX):
            layer |= _variable(name, environment[name], faults)
    return layer


def _variable(name: str, text: str, faults: list[Fault]) -> Layer:
    path = name[len(PREFIX) :].lower().replace("__", ".")
    field = PATHS.get(path)
    if field is None and (path not in SECTIONS or not path):
        known = {
            PREFIX + known.upper().replace(".", "__"): known
            for known in (*PATHS, *SECTIONS)
            if known
        }
        words = f"expected the name of a setting{near(name.upper(), known)}"
        faults.append(Fault(name, words))
        return {}
    if field is not None and field.annotation in (str, str | None, SecretStr):
        return {path: Given(text, name)}
    try:
        document = read_text(text, name)
    except ConfigError as error:
        faults.extend(error.faults)
        return {}
    faults.extend(document.faults)
    if field is None:
        return of_document(document, faults, path)
    return {path: Given(document.value, name)}


def is_ours(name: str) -> bool:
    """Return whether a variable gives a setting."""
    return name in _SHORT or name.upper().startswith(PREFIX)


# === Sealed ===
# Secrets that are in the file, encrypted: opened where they are needed, and not before.


def of_sealed(document: Document, faults: list[Fault]) -> dict[str, Given]:
    """Take the encrypted section out of a file: of each secret its text, and where it is."""
    value, found = document.value, dict[str, Given]()
    given = value.pop(SEALED, None) if isinstance(value, dict) else None
    if given is not None and not isinstance(given, dict):
        words = f"expected names and sealed texts in {SEALED}, got {_kind(given)}"
        faults.append(Fault(document.place((SEALED,)), words))
        return found
    for name, text in (given or {}).items():
        where = document.place((SEALED, name, KEY))
        if name not in SECRETS:
            words = f"expected a secret ({', '.join(SECRETS)}), got {shown(name)}"
            faults.append(Fault(where, words + near(name, SECRETS)))
        elif not isinstance(text, str) or '"dydx-sealed"' not in text:
            faults.append(Fault(where, "expected what `bot config seal` has made, got other text"))
        else:
            found[name] = Given(text, document.line((SEALED, name, KEY)))
    return found


def in_the_clear(layer: Layer) -> Iterator[Fault]:
    """Find addresses of `notify.urls` that hold a token, and so are secret as a whole."""
    given = layer.get("notify.urls")
    if given is not None and isinstance(given.value, str):
        addresses = pairs_of(SecretStr(given.value)).values()
        if any(SCHEME.match(url) and not is_plain(url) for url in addresses):
            yield Fault(given.at(), SECRET)
