"""Fuzz the HTTP API of a run by its own description: schemathesis finds nothing.

    bot replay --api … --stay ──► /openapi.json ──► cases, right and wrong ──► every check of theirs

Run as a script it starts a run of its own: `--examples` cases of each operation and mode.
"""

import argparse
import contextlib
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from answering import answering
from hypothesis import HealthCheck, Phase, assume, given, settings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis import GenerationMode

ROOT = Path(__file__).resolve().parents[1]
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
# What is wrong may be so by its length, too.
REFUSED = [400, 401, 403, 404, 405, 409, 413, 415, 421, 422, 503]
CONFIG = schemathesis.Config.from_dict(
    {"checks": {"negative_data_rejection": {"expected-statuses": REFUSED}}}
)


def fuzz(url: str, token: str, examples: int, described: dict[str, Any] | None = None) -> list[str]:
    """Send cases of each operation; return what is wrong."""
    headers = {"Authorization": f"Bearer {token}"}
    if described is None:
        schema = schemathesis.openapi.from_url(
            f"{url}/openapi.json", headers=headers, config=CONFIG
        )
    else:
        schema = schemathesis.openapi.from_dict(described, config=CONFIG)
    found = []
    for result in schema.get_all_operations():
        operation: Any = cast(Any, result).ok()
        for mode in MODES:
            if words := _tried(operation, mode, url, headers, examples):
                found.append(f"{operation.label} ({mode.value}): {words}")
    return found


def _tried(operation: Any, mode: Any, url: str, headers: dict[str, str], examples: int) -> str:
    @settings(
        max_examples=examples, derandomize=True, database=None, deadline=None,
        suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate],
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def tries(case: Any) -> None:
        # What has no value is not sent, false is a word, and an object is a list of words.
        assume(all(map(_is_sent_as_it_is, (case.query or {}).values())))
        case.call_and_validate(base_url=url, headers=headers)

    try:
        tries()
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - what a check raises is found
        if "Unsatisfiable" in type(error).__name__:
            return ""  # there is no wrong case of what takes nothing
        return str(error)
    return ""


def _is_sent_as_it_is(value: object) -> bool:
    if isinstance(value, list):
        return value != [] and all(map(_is_sent_as_it_is, value))
    return not isinstance(value, bool | None | dict)


@contextlib.contextmanager
def served(*options: str, stays: bool = True) -> Iterator[tuple[str, str]]:
    """Start a replay, which `stays` at its end; yields where it answers, and the trading token."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        environment = os.environ | {"XDG_STATE_HOME": place, "DYDX_CONFIG": "none"}
        words = ["replay", "--plain", "--quiet", *["--stay"] * stays, *options]
        with answering(words, environment) as run:
            yield run.url, run.token("trading")


def main() -> int:
    """Fuzz a run of the bundled recording; 1 if anything is found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=150, help="cases of each operation")
    arguments = parser.parse_args()
    with served("quickstart", "--speed", "2") as (url, token):
        found = fuzz(url, token, arguments.examples)
    for words in found:
        print(words)
    print(f"fuzz: {len(found)} findings")
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main())
