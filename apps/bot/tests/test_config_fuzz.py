"""Whatever stands in a file or a variable of `api`, `notify` and `log`: settings, or words.

Never a traceback, and never what may be a token. A few cases here; tools/check.py settings tries
thousands.
"""

import json
import os
import re
from pathlib import Path
from typing import Any, Final

import pytest
from bot.config.api import ApiSettings
from bot.config.document import ConfigError
from bot.config.loaded import load
from bot.config.log import LogSettings
from bot.config.notify import NotifySettings, SinkSettings
from bot.config.settings import PATHS
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

CASES: Final = int(os.environ.get("TEST_CONFIG_CASES", "25"))
TOKEN: Final = "AAhidden"
SINK: Final = f"tgram://123456:{TOKEN}/42"
HOOK: Final = f"https://hooks.example.org/services/T00000000/B00000000/{TOKEN}"
SECTIONS: Final = ("api", "notify", "log")
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


def some_of(model: type[BaseModel], more: st.SearchStrategy[Any] = SCALARS) -> Any:
    """Return a strategy of some fields of a section."""
    return st.dictionaries(st.sampled_from([*model.model_fields]), VALUES | more, max_size=4)


SINKS = st.lists(some_of(SinkSettings), max_size=3)
FILES = st.fixed_dictionaries(
    {}, optional={
        "api": some_of(ApiSettings), "notify": some_of(NotifySettings, SINKS) | VALUES,
        "log": some_of(LogSettings) | WORDS,
    },
)  # fmt: skip
NAMES = [
    f"DYDX__{path.replace('.', '__').upper()}" for path in PATHS if path.split(".")[0] in SECTIONS
]
VARIABLES = st.dictionaries(
    st.sampled_from([*NAMES, "DYDX__API", "DYDX__NOTIFY__SINKS__0__NAME", "DYDX__LOG__"]),
    WORDS.filter(lambda word: "\0" not in word) | VALUES.map(json.dumps),
    max_size=2,
)


@pytest.mark.no_cover  # what a property comes to is chance
def test_any_settings_are_taken_or_refused_in_words(tmp_path: Path) -> None:
    """Each fault with its place and what was expected; a token is in none, nor in what is taken."""
    path = tmp_path / "bot.yaml"

    @settings(
        max_examples=CASES, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate],
    )  # fmt: skip
    @given(FILES, VARIABLES)
    def tries(file: dict[str, Any], variables: dict[str, str]) -> None:
        path.write_text(json.dumps(file))
        try:
            words = load(path=path, environment=variables).text()
        except ConfigError as error:
            words = str(error)
            assert re.search("expected|unknown", words)
        assert TOKEN not in words

    tries()
