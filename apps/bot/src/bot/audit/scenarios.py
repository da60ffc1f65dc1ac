"""What an audit is made of: scenarios that are run with the layers themselves, and what was seen.

    Group.shows ──► Scenario ──► carried_out ──► Outcome: each thing seen, expected and got

A scenario is a few lines over public functions of the layers; what it yields is its evidence. It
names the tests that prove the same at length, by their files and names in the workspace.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Literal, NamedTuple

import msgspec

PACKAGES: Final = ("conn", "data", "signals", "strategy", "risk", "paper", "panels")


class That(NamedTuple):
    """What is expected of a figure or a text where that is no single value."""

    words: str
    holds: Callable[[Any], bool]

    def __str__(self) -> str:
        return self.words


def has(text: str) -> That:
    """Expect a text within another."""
    return That(f"…{text}…", lambda got: text in str(got))


def above(least: float) -> That:
    """Expect more than a number."""
    return That(f"more than {least:,}", lambda got: got > least)


class Evidence(NamedTuple):
    """One thing of a scenario: what it is, what was expected of it and what it was."""

    what: str
    expected: Any
    got: Any

    @property
    def holds(self) -> bool:
        """Return whether it was as expected."""
        if isinstance(self.expected, That):
            return self.expected.holds(self.got)
        return bool(self.expected == self.got)

    @property
    def words(self) -> str:
        """Put it in a line."""
        got = shown(self.got)
        return f"{self.what}: {got}" if self.holds else (
            f"{self.what}: expected {shown(self.expected)}, got {got}"
        )  # fmt: skip


def shown(value: Any) -> str:
    """Return a value as a person reads it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple) and not isinstance(value, That):
        return ", ".join(map(shown, value)) or "none"
    return f"{value:,}" if isinstance(value, int | float) else str(value) or "nothing"


Run = Callable[[], Iterable[Evidence]]


class Scenario(NamedTuple):
    """A row of the audit: `tests` are ids as pytest takes them, from the root of the workspace."""

    group: str
    name: str
    expects: str
    tests: tuple[str, ...]
    run: Run


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a scenario: the evidence, line by line, and what does not hold of it."""

    group: str
    name: str
    expects: str
    verdict: Literal["pass", "FAIL"]
    evidence: list[str]
    broken: list[str]
    tests: list[str]
    ms: float


class Group:
    """Scenarios about one subject, in their order."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.scenarios: list[Scenario] = []

    def shows(self, name: str, expects: str, *tests: str) -> Callable[[Run], Run]:
        """Add a scenario: its name, what is expected in a sentence, and its tests as `where`."""

        def add(run: Run) -> Run:
            found = tuple(where(test) for test in tests)
            self.scenarios.append(Scenario(self.title, name, expects, found, run))
            return run

        return add


def where(test: str) -> str:
    """Return the id of a test that is named as `paper/venue::a_taker_walks` or `bot/trade::x`."""
    place, _, name = test.partition("::")
    layer, _, file = place.partition("/")
    folder = (
        f"packages/dydx-{layer}" if layer in PACKAGES else {"bot": "apps/bot"}.get(layer, layer)
    )
    return f"{folder}/tests/test_{file}.py::test_{name}"


def carried_out(scenarios: Iterable[Scenario]) -> Iterator[Outcome]:
    """Run scenarios one after the other; what one raises is its failure, and ends no other."""
    for one in scenarios:
        begun = time.perf_counter()
        evidence: list[str] = []
        broken: list[str] = []
        try:
            for seen in one.run():
                (evidence if seen.holds else broken).append(seen.words)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the audit found
            broken.append(f"expected an outcome, got {type(error).__name__}: {error}")
        if not (evidence or broken):
            broken.append("expected evidence, got none")
        yield Outcome(
            group=one.group, name=one.name, expects=one.expects,
            verdict="FAIL" if broken else "pass", evidence=evidence, broken=broken,
            tests=[*one.tests], ms=round((time.perf_counter() - begun) * 1e3, 1),
        )  # fmt: skip
