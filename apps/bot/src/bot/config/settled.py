"""All layers come to one tree, or to all that is wrong with them, each with where it was given.

    [Layer, …] ──► settled ──► Settings, and the origin of each value      or ConfigError

A value may be wrong by itself, contradict another of its section, or not agree with another one's;
what a layer goes over is looked at, too. Words are "expected …, got …", with the nearest name.
"""

import re
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Final, cast

from dydx_conn import NETWORKS, printable
from dydx_signals import ALL, SignalError
from dydx_strategy import SETTINGS, AllocatorSettings
from pydantic import ValidationError

from bot.config.document import SECRET, ConfigError, Fault, near, shown
from bot.config.layers import DEFAULT, PROFILE, Given, Layer, of_profile, tree_of
from bot.config.profiles import STEADY, beyond
from bot.config.settings import PATHS, SECTIONS, Settings, StrategiesSettings, value_of


def settled(layers: list[Layer], faults: list[Fault]) -> tuple[Settings, dict[str, str]]:
    """Return the settings of some layers, the first before the next, and the origin of each.

    `ConfigError` has all that is wrong, also the `faults` of before.
    """
    above: Mapping[str, Given] = ChainMap(*cast(Any, layers))
    name = above["profile"].value if "profile" in above else STEADY
    layers = [*layers, of_profile(name if isinstance(name, str) else STEADY)]
    given: Mapping[str, Given] = ChainMap(*cast(Any, layers))
    faults += _truths(given)
    wrong = [*faults, *_shadowed(layers)]
    try:
        settings = tree_of(given)
    except ValidationError as error:
        names = {path: given[path].value for path in _NAMES if path in given}
        unknown_names = _unknown_names(names, given)
        raise ConfigError(_themselves([*wrong, *_faults(error, given), *unknown_names])) from None
    if wrong := [*wrong, *_disagreements(settings, given)]:
        raise ConfigError(wrong)
    return settings, {path: _line(given, path) for path in PATHS}


def _themselves(faults: list[Fault]) -> list[Fault]:
    """Return what is wrong by itself: a secret was taken out, and is not missing."""
    secret = {fault.where for fault in faults if fault.words == SECRET}
    return [fault for fault in faults if fault.words == SECRET or fault.where not in secret]


def _line(given: Mapping[str, Given], path: str) -> str:
    return given[path].where if path in given else DEFAULT


def _at(given: Mapping[str, Given], path: str, part: tuple[str | int, ...] = ()) -> str:
    return given[path].at(part) if path in given else DEFAULT


def _shadowed(layers: list[Layer]) -> Iterator[Fault]:
    """Find what is wrong by itself in what another layer goes over."""
    for n in range(1, len(layers)):
        below: Mapping[str, Given] = ChainMap(*cast(Any, layers[n:]))
        try:
            tree_of(below)
        except ValidationError as error:
            for one in _errors(error):
                path, part = _split(one["loc"])
                if path in below:
                    words = _words(".".join(map(str, one["loc"])), dict(one))
                    yield Fault(below[path].at(part), words)


def _truths(given: Mapping[str, Given]) -> Iterator[Fault]:
    """Find a true or false where a number is expected: pydantic takes it for 1 or 0."""
    for path, one in given.items():
        kinds = str(PATHS[path].annotation)
        if "bool" not in kinds and "Any" not in kinds and _holds_truth(one.value):
            yield Fault(one.at(), f"expected {path} to be no true or false, got one")


def _holds_truth(value: Any) -> bool:
    parts = value.values() if isinstance(value, Mapping) else value
    if isinstance(value, Mapping | list | tuple):
        return any(map(_holds_truth, parts))
    return isinstance(value, bool)


def _faults(error: ValidationError, given: Mapping[str, Given]) -> Iterator[Fault]:
    for one in _errors(error):
        path, part = _split(one["loc"])
        words = _words(".".join(map(str, one["loc"])), dict(one))
        if path in PATHS:
            # What is missing is so where its section was given.
            beside = f"{path.rpartition('.')[0]}."
            near_it = (other for other in PATHS if other.startswith(beside) and other in given)
            where = _at(given, path if path in given else next(near_it, path), part)
        else:
            where, words = _contradiction(path, words, given)
        yield Fault(where, words)


def _errors(error: ValidationError) -> Iterator[Any]:
    """Yield all but that a list is too short because of what is wrong in it."""
    found = error.errors()
    inner = {one["loc"][:-1] for one in found}
    yield from (one for one in found if one["type"] != "too_short" or one["loc"] not in inner)


def _split(loc: Sequence[str | int]) -> tuple[str, tuple[str | int, ...]]:
    """Part where an error is into the path of a setting, or a section, and what is within."""
    for n in range(len(loc), 0, -1):
        path = ".".join(map(str, loc[:n]))
        if path in PATHS or path in SECTIONS:
            return path, tuple(loc[n:])
    return "", tuple(loc)


def _words(path: str, error: Mapping[str, Any]) -> str:
    path, what = printable(path), error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        named = path.rpartition(".")[2] in what
        return what if named else f"{path}: {what}".removeprefix(": ")
    if error["type"] == "missing":
        return f"expected {path}, got nothing"
    if error["type"] == "extra_forbidden":
        return f"expected the name of a setting, got {shown(path)}"
    what = _KINDS.get(error["type"], what.replace("Input should ", "to ", 1))
    choices = re.findall("'([^']*)'", what) if error["type"] == "literal_error" else []
    return (
        f"expected {path} {what}, got {shown(error['input'])}{near(str(error['input']), choices)}"
    )


# In place of pydantic's words, by the type of its error.
_KINDS: Final = {
    "bool_type": "to be true or false",
    "bool_parsing": "to be true or false",
    "int_type": "to be a whole number",
    "int_parsing": "to be a whole number",
    "int_from_float": "to be a whole number",
    "int_parsing_size": "to be a smaller number",
    "float_type": "to be a number",
    "float_parsing": "to be a number",
    "string_type": "to be text",
    "dict_type": "to be names and values, as in {BTC-USD: 1}",
    "tuple_type": "to be a list, as in [a, b]",
    "too_short": "to be longer",
}


def _contradiction(section: str, words: str, given: Mapping[str, Given]) -> tuple[str, str]:
    """Return where the settings that contradict each other come from, and say it of each."""
    below = [path for path in PATHS if path.startswith(f"{section}.")]
    named = [path for path in below if re.search(rf"\b{path.rpartition('.')[2]}\b", words)]
    named = named or [path for path in below if path in given]
    places = {path: _at(given, path) for path in named}
    listed = ", ".join(f"{path.rpartition('.')[2]}: {place}" for path, place in places.items())
    return _foremost([*places.values()] or [section]), f"{words} ({listed})" if listed else words


def _foremost(places: Sequence[str]) -> str:
    """Return where a person chose before where a profile did."""
    return min(places, key=lambda place: place == DEFAULT or place.startswith(PROFILE))


def _disagreements(settings: Settings, given: Mapping[str, Given]) -> Iterator[Fault]:
    """Find what agrees with its own section, and not with another one."""
    yield from _unknown_names({path: value_of(settings, path) for path in _NAMES}, given)
    if settings.strategy == "mix" and settings.strategies.mix is None:
        words = "expected strategies.mix beside strategy mix, got nothing"
        yield Fault(_at(given, "strategy"), words)
    if settings.strategy in StrategiesSettings.model_fields:
        name = f"strategies.{settings.strategy}"
        for setting, wanted, limit, most in beyond(settings.policy, settings.of_strategy()):
            paths = f"{name}.{setting}", f"policy.{limit}"
            places = [_at(given, path) for path in paths]
            words = f"expected {paths[0]} <= {paths[1]}, got {wanted:g} and {most:g}"
            yield Fault(
                _foremost(places), f"{words} ({setting}: {places[0]}, {limit}: {places[1]})"
            )
    yield from _of_mix(settings.strategies.mix, given)
    for make in ALL:
        fields = settings.signals.tuned().get(name := make().name)
        if fields is not None:
            try:
                make(**fields)
            except SignalError as error:
                where, words = _contradiction(f"signals.{name}", str(error), given)
                yield Fault(where, f"signals.{name}: {words}")


_NAMES: Final = ("network", "strategy", "signals.use")


def _unknown_names(names: Mapping[str, Any], given: Mapping[str, Given]) -> Iterator[Fault]:
    """Find what is no name of a strategy or a signal, nor a file; not of what is typed."""
    texts = {path: value for path, value in names.items() if isinstance(value, str)}
    strategy, use = texts.get("strategy", "none"), texts.get("signals.use", "")
    known = [*SETTINGS, "mix", "none"]
    wanted = [part.strip() for part in use.split(",") if part.strip()]
    signals = [*(make().name for make in ALL), "all"]
    for path, name, meant in (
        ("network", texts.get("network", ""), ["", *NETWORKS]),
        ("strategy", strategy, known),
        *(("signals.use", name, signals) for name in wanted if not use.endswith(".py")),
    ):
        typed = _at(given, path).startswith("--")
        if name not in meant and not typed and not _FILE.search(name) and not _module(path, name):
            listed = ", ".join(filter(None, meant))
            words = f"expected one of {listed}, or a file, got {shown(name)}"
            yield Fault(_at(given, path), words + near(name, meant))


_FILE: Final = re.compile(r"[/\\]|\.(py|toml|json)$")


def _module(path: str, name: str) -> bool:
    """Return whether a strategy may be an importable module."""
    if path != "strategy" or not name.replace(".", "").isidentifier():
        return False
    if "." in name:  # to look for it would import the package that it is in
        return True
    try:
        return find_spec(name) is not None
    except ValueError:  # one that is no module like others, as __main__
        return False


def _of_mix(mix: AllocatorSettings | None, given: Mapping[str, Given]) -> Iterator[Fault]:
    """Find what is wrong with the settings of one of several strategies."""
    path = "strategies.mix.strategies"
    for n, one in enumerate(mix.strategies if mix is not None else ()):
        kind, _ = SETTINGS.get(one.use, (None, None))
        if kind is None:
            if one.settings:
                words = f"expected settings of {', '.join(SETTINGS)} alone, got some of {one.use}"
                yield Fault(_at(given, path, (n, "settings")), words)
            continue
        try:
            kind.model_validate(one.settings)
        except ValidationError as error:
            for wrong in error.errors():
                below = (n, "settings", *wrong["loc"])
                words = _words(".".join(map(str, (path, *below))), dict(wrong))
                yield Fault(_at(given, path, below), words)
