"""What is tried: GRID.yaml names settings by the paths of bot.yaml, and the values of each.

    policy:
      max_leverage: [1, 1.5, 2]                            these values
      max_account_share: {low: 0.1, high: 0.9, step: 0.1}  from low to high
    signals.trend.fast: {low: 5, high: 60, log: true}      for a sampler alone: there is no step
    strategies.rank.enter: 70                              the same for all

Everything that is wrong is reported, with file and line, before anything runs.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec
from dydx_conn import ConnError

from bot.config.document import KEY, ConfigError, Document, Fault, near, read_file, shown
from bot.config.layers import unknown
from bot.config.settings import PATHS, SECTIONS
from bot.config.varied import Base, varied

SECTIONS_TRIED: Final = ("strategies", "signals", "policy", "paper")
_ALONE: Final = ("strategy", "deposit", "guard")
_PARTS: Final = ("values", "low", "high", "step", "log")
MOST: Final = 100_000
LARGEST: Final = 1e15  # of a number of a span: beyond it steps of 1 are none


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A setting that is tried: its values in their order, or a span of numbers."""

    path: str
    where: str
    values: tuple[Any, ...] = ()
    places: tuple[str, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False

    def place(self, value: Any) -> str:
        """Return where a value was given."""
        if value in self.values and self.places:
            return self.places[self.values.index(value)]
        return self.where

    def listed(self) -> tuple[Any, ...]:
        """Return the values; `ConfigError` for a span that has no step."""
        count = self.count
        if self.values:
            return self.values
        low, step = Decimal(str(self.low)), Decimal(str(self.step))
        whole = all(isinstance(part, int) for part in (self.low, self.step))
        kind = int if whole else float
        return tuple(kind(low + n * step) for n in range(count))

    @property
    def count(self) -> int:
        """Return how many values there are, without making any; `ConfigError` without a step."""
        if self.values:
            return len(self.values)
        if self.step is None:
            words = f"expected a step beside low and high of {self.path}, or values, got none"
            raise ConfigError([Fault(self.where, f"{words} (--sampler random needs none)")])
        low, high, step = (Decimal(str(part)) for part in (self.low, self.high, self.step))
        return int((high - low) / step) + 1


class Grid(msgspec.Struct, frozen=True):
    """All settings that are tried, in the order of their paths."""

    name: str
    fields: tuple[Field, ...]

    @property
    def count(self) -> int:
        """Return how many combinations there are."""
        count = 1
        for field in self.fields:
            count *= field.count
        return count

    def combinations(self) -> Iterator[dict[str, Any]]:
        """Yield each combination; the last setting changes fastest."""
        paths = [field.path for field in self.fields]
        for values in itertools.product(*(field.listed() for field in self.fields)):
            yield dict(zip(paths, values, strict=True))

    def places(self, changes: Mapping[str, Any]) -> dict[str, str]:
        """Return where the value of each was given."""
        return {
            field.path: field.place(changes[field.path])
            for field in self.fields
            if field.path in changes
        }


# === Reading ===


def read_grid(path: Path) -> Grid:
    """Read a grid; `ConfigError` has all that is wrong with it."""
    document = read_file(path)
    faults = [*document.faults]
    fields: dict[str, Field] = {}
    if not isinstance(document.value, Mapping) or not document.value:
        words = "expected settings and what to try of each, as policy.max_leverage: [1, 2]"
        raise ConfigError([Fault(str(path), f"{words}, got {_kind(document.value)}")])
    for name, found in _flat(document, (), "", document.value, faults):
        if name in fields:
            words = f"expected {name} once, got it again: it stands at {fields[name].where}"
            faults.append(Fault(found.where, words))
        fields[name] = found
    if faults:
        raise ConfigError(faults)
    return Grid(path.stem, tuple(fields[name] for name in sorted(fields)))


def _flat(
    document: Document,
    place: tuple[str | int, ...],
    section: str,
    value: Mapping[str, Any],
    faults: list[Fault],
) -> Iterator[tuple[str, Field]]:
    for name, part in value.items():
        below, whole = (*place, name), f"{section}.{name}".removeprefix(".")
        where = document.line((*below, KEY))
        if whole in SECTIONS and isinstance(part, Mapping):
            yield from _flat(document, below, whole, part, faults)
        elif whole in PATHS:
            if whole.partition(".")[0] not in (*SECTIONS_TRIED, *_ALONE):
                known = ", ".join((*SECTIONS_TRIED, *_ALONE))
                words = f"expected a setting of what is tried ({known}), got {whole}"
                faults.append(Fault(where, words))
            elif (found := _field(document, below, whole, part, faults)) is not None:
                yield whole, found
        elif whole in SECTIONS:
            words = f"expected settings of {whole}, got {_kind(part)}"
            faults.append(Fault(where, words))
        else:
            faults.append(Fault(where, _unknown(whole)))


def _unknown(whole: str) -> str:
    """Return in words that there is no such setting, and which may be meant."""
    section, _, name = whole.rpartition(".")
    while section not in SECTIONS:
        section, _, above = section.rpartition(".")
        name = f"{above}.{name}"
    # Of what is tried alone, where a name is near to one of these.
    tried = [path for path in PATHS if path.partition(".")[0] in SECTIONS_TRIED]
    if nearest := near(whole, tried):
        return f"expected the name of a setting, got {shown(whole)}{nearest}"
    return unknown(section, name)


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    return "a list" if isinstance(value, list) else shown(value)


def _field(
    document: Document, place: tuple[str | int, ...], path: str, part: Any, faults: list[Fault]
) -> Field | None:
    """Return what is tried of a setting, None and a fault if that cannot be read."""
    where = document.line((*place, KEY))
    if isinstance(part, Mapping) and part and {*part} <= {*_PARTS}:
        if "values" in part and len(part) == 1:
            place, part = (*place, "values"), part["values"]
        else:
            words = _span_fault(part)
            if words:
                faults.append(Fault(where, f"{path}: {words}"))
                return None
            span = {name: part[name] for name in ("low", "high", "step") if name in part}
            return Field(path=path, where=where, log=part.get("log", False), **span)
    values = part if isinstance(part, list) else [part]
    if not values:
        faults.append(Fault(where, f"{path}: expected a value or more to try, got none"))
        return None
    for n, value in enumerate(values):
        if value in values[:n] and type(value) is type(values[values.index(value)]):
            words = f"{path}: expected each value once, got {shown(value)} again"
            faults.append(Fault(document.place((*place, n)), words))
    places = [document.place((*place, n)) for n in range(len(values))]
    return Field(path=path, where=where, values=tuple(values), places=tuple(places))


def _span_fault(part: Mapping[str, Any]) -> str:
    """Return what is wrong with low, high, step and log, "" if nothing is."""
    if "values" in part:
        return "expected values alone, or low and high, got both"
    if missing := [name for name in ("low", "high") if name not in part]:
        return f"expected low and high, got no {missing[0]}"
    for name in ("low", "high", "step"):
        value = part.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"expected a number as {name}, got {shown(value)}"
        if not abs(value) <= LARGEST:  # infinity and nan, too
            return f"expected a number up to {LARGEST:g} as {name}, got {shown(value)}"
    if not part["low"] < part["high"]:
        return f"expected low < high, got {part['low']:g} and {part['high']:g}"
    if not part.get("step", 1) > 0:
        return f"expected a step above 0, got {part['step']:g}"
    if not isinstance(part.get("log", False), bool):
        return f"expected log to be true or false, got {shown(part['log'])}"
    if part.get("log") and ("step" in part or part["low"] <= 0):
        return "expected log with a low above 0 and without a step, got another"
    return ""


# === Variants ===


class Variant(msgspec.Struct, frozen=True):
    """What is other than in the base, and the hash of the settings that makes."""

    changes: dict[str, Any]
    config: str


class LeftOut(msgspec.Struct, frozen=True):
    """A combination that contradicts itself, and how."""

    changes: dict[str, Any]
    why: str


def variants_of(
    base: Base, grid: Grid, combinations: Iterable[Mapping[str, Any]]
) -> tuple[list[Variant], list[LeftOut]]:
    """Validate combinations as a whole; return the variants, and what is left out.

    Of a whole grid a value that no combination can have is an error: `ConfigError`. Two
    combinations of the same settings are one variant.
    """
    variants: dict[str, Variant] = {}
    left_out: list[LeftOut] = []
    good: set[tuple[str, str]] = set()
    blamed: dict[tuple[str, str], ConfigError] = {}
    for changes in combinations:
        named = {(path, repr(value)) for path, value in changes.items()}
        try:
            loaded = varied(base, changes, grid.places(changes))
        except ConfigError as error:
            left_out.append(LeftOut(dict(changes), "; ".join(f.words for f in error.faults)))
            for one in named:
                blamed.setdefault(one, error)
            continue
        good |= named
        variants.setdefault(loaded.hash, Variant(dict(changes), loaded.hash))
    if never := [error for one, error in blamed.items() if one not in good]:
        raise ConfigError([fault for error in never for fault in error.faults])
    return [*variants.values()], left_out


def require_few(grid: Grid) -> None:
    """Refuse a grid that nobody would wait for."""
    if grid.count > MOST:
        count = f"{grid.count:,}" if grid.count < LARGEST else f"{Decimal(grid.count):.1e}"
        what = f"expected at most {MOST:,} combinations, got {count}"
        raise ConnError(f"{what}: larger steps, or --sampler random --trials 200")
