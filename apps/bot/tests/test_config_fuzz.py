"""Whatever stands in a file or a variable: settings, or words.

Never a traceback, and never what may be a token. A few cases here; tools/check.py settings tries
thousands.
"""

import json
import os
import re
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import pytest
from bot.config.document import ConfigError
from bot.config.loaded import load
from bot.config.notify import SinkSettings
from bot.config.profiles import PROFILES
from bot.config.settings import PATHS, SECTIONS, value_of
from bot.config.varied import yaml_of
from dydx_conn import NETWORKS, printable
from dydx_strategy import SETTINGS
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

CASES: Final = int(os.environ.get("TEST_CONFIG_CASES", "25"))
TOKEN: Final = "AAhidden"
SINK: Final = f"tgram://123456:{TOKEN}/42"
HOOK: Final = f"https://hooks.example.org/services/T00000000/B00000000/{TOKEN}"
# What is nearly right is looked at by more of the code than what is not.
NEAR: Final = (
    "", "~", "~nobody/x", "/dev/null", "/", "127.0.0.1:0", "[::1]:1", "[::zz]:1", "a:99999", "²:1",
    "json://127.0.0.1/", "json://[::1", SINK, HOOK, f"phone={SINK}", "22:00-07:00", "Europe/Berlin",
    "Europe", "Europe/../Berlin", "08:00", "²³:00", "none", "NaN", "1e400", "-1", "true", "warning",
)  # fmt: skip

WORDS = st.text(max_size=20) | st.sampled_from(NEAR)
SCALARS = WORDS | st.integers() | st.floats() | st.booleans() | st.none() | st.just(10**400)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=4,
)


def near_to(path: str) -> st.SearchStrategy[Any]:
    """Return values that a setting may nearly have: of its kind, about its default."""
    default, kind = value_of(USUAL, path), str(PATHS[path].annotation)
    usual = to_jsonable_python(default, serialize_unknown=True)
    found = [st.just(usual), *PLAIN.get(path, [])]
    if is_number(default):
        found.append(st.sampled_from([0.5, 0.9, 1.1, 2]).map(lambda n: n * default))
    elif "float" in kind or "int" in kind:
        found.append(st.sampled_from([1, 2, 0.5, 100, -1, 0]))
    if get_origin(PATHS[path].annotation) is Literal:
        found.append(st.sampled_from(get_args(PATHS[path].annotation)))
    return st.one_of(found)


def is_number(value: Any) -> bool:
    """Return whether a value is a number, and no truth."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def some_of(model: type[BaseModel]) -> st.SearchStrategy[Any]:
    """Return a strategy of some fields of a model."""
    return st.dictionaries(st.sampled_from([*model.model_fields]), VALUES, max_size=4)


USUAL: Final = load(environment={}).settings
SIGNALS: Final = [name for name in SECTIONS["signals"].model_fields if name != "use"]
# What is made of parts.
PLAIN: Final[dict[str, list[st.SearchStrategy[Any]]]] = {
    "notify.sinks": [st.lists(some_of(SinkSettings), max_size=3)],
    "notify.urls": [st.sampled_from([f"phone={SINK}", "hook=json://127.0.0.1:80/"])],
    "strategies.mix.strategies": [
        st.lists(
            st.fixed_dictionaries(
                {"use": st.sampled_from([*SETTINGS, "none", "mix", "mine.py"])},
                optional={"weight": SCALARS, "settings": some_of(SETTINGS["rank"][0])},
            ),
            max_size=3,
        )
    ],
    "strategies.rank.weights": [st.dictionaries(st.sampled_from(SIGNALS), SCALARS, max_size=3)],
    "strategy": [st.sampled_from([*SETTINGS, "none", "mix"])],
    "signals.use": [st.lists(st.sampled_from(SIGNALS), max_size=3).map(",".join)],
    "profile": [st.sampled_from([*PROFILES])],
    "network": [st.sampled_from([*NETWORKS])],
}


@st.composite
def files(draw: st.DrawFn) -> dict[str, Any]:
    """Return a file: some settings of any section, and now and then a slip in its structure."""
    whole: dict[str, Any] = {}
    for path in draw(st.lists(st.sampled_from([*PATHS]), max_size=6, unique=True)):
        *sections, name = path.split(".")
        into: Any = whole
        for section in sections:
            into = into.setdefault(section, {})
        into[name] = draw(near_to(path))
    slip = draw(st.integers(0, 5))
    if slip == 0 and whole:
        into[name] = draw(VALUES)
    if slip == 1:
        into = whole.get(draw(st.sampled_from([*PATHS])).partition(".")[0], whole)
        (into if isinstance(into, dict) else whole)[draw(WORDS | st.sampled_from([*PATHS]))] = draw(
            VALUES
        )
    return whole


NAMES: Final = [f"DYDX__{path.replace('.', '__').upper()}" for path in (*PATHS, *SECTIONS) if path]
VARIABLES = st.dictionaries(
    st.sampled_from([*NAMES, "DYDX__NOTIFY__SINKS__0__NAME", "DYDX__LOG__", "DYDX_ENVIRONMENT"]),
    WORDS.filter(lambda word: "\0" not in word) | VALUES.map(json.dumps),
    max_size=1,
)
# What pydantic says, and a person need not read.
FOREIGN: Final = re.compile(r"Input should|should have|Unable to|validation error|Value error")


def require_words(error: ConfigError, path: Path) -> None:
    """Require of each fault its place, in what was expected, and no token."""
    for fault in error.faults:
        assert re.match(rf"{re.escape(str(path))}:\d+|DYDX_", fault.where), fault
        assert "expected " in fault.words, fault
        assert not FOREIGN.search(fault.words), fault
        assert printable(fault.words) == fault.words, fault
    assert TOKEN not in str(error)


@pytest.mark.no_cover  # what a property comes to is chance
def test_any_settings_are_taken_or_refused_in_words(tmp_path: Path) -> None:
    """Each fault with its place and what was expected; a token is in none, nor in what is taken.

    What is taken is the same again from a recording, and from a file that is made of it.
    """
    path = tmp_path / "bot.yaml"

    @settings(
        max_examples=CASES, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate],
    )  # fmt: skip
    @given(files(), st.just({}) | VARIABLES)
    def tries(file: dict[str, Any], variables: dict[str, str]) -> None:
        path.write_text(json.dumps(file))
        try:
            found = load(path=path, environment=variables)
        except ConfigError as error:
            require_words(error, path)
            return
        assert TOKEN not in found.text()
        assert load(recorded=json.loads(found.text()), environment={}).hash == found.hash
        path.write_text(yaml_of(found, "made of another"))
        assert load(path=path, environment={}).hash == found.hash

    tries()
