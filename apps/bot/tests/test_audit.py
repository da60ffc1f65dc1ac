"""The audit: every scenario holds, names tests that exist, and is able to fail."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from bot.__main__ import main
from bot.audit import command as audit
from bot.audit.exits import COSTS
from bot.audit.orders import IN_FORCE
from bot.audit.scenarios import Evidence, Group, Outcome, above, carried_out, has, shown, where

pytestmark = pytest.mark.traced
ROOT = Path(__file__).parents[3]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    """Carry all of it out, once."""
    return [*carried_out(audit.scenarios())]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Return what types `bot audit`, with the scenarios of two groups alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(audit, "GROUPS", (IN_FORCE, COSTS))

    def typed(*words: str) -> tuple[int, str, str]:
        return main(["audit", *words]), *capsys.readouterr()

    return typed


def test_every_scenario_is_as_expected(outcomes: list[Outcome]) -> None:
    """And there are as many as the brief has subjects, soon done."""
    broken = {one.name: one.broken for one in outcomes if one.broken}

    assert broken == {}
    assert len(outcomes) > 50
    assert all(one.evidence and one.expects for one in outcomes)
    assert sum(one.ms for one in outcomes) < 10_000


def test_each_test_that_is_named_exists() -> None:
    """By its file and its name: who renames one is reminded of it here."""
    named = {test for one in audit.scenarios() for test in one.tests}
    files = {test.partition("::")[0] for test in named}
    known = {
        f"{file}::{name}"
        for file in files
        if (ROOT / file).exists()
        for name in re.findall(r"(?m)^(?:async )?def (test_\w+)\(", (ROOT / file).read_text())
    }

    assert named - known == set()
    assert all(one.tests for one in audit.scenarios())


def test_no_two_scenarios_have_one_name() -> None:
    """Each can be referred to."""
    names = [(one.group, one.name) for one in audit.scenarios()]

    assert len(names) == len({*names})


# === Able to fail ===


def test_a_layer_that_errs_fails_its_scenario(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fee that is rounded down: the row, its figures and the tests that should have seen it."""
    monkeypatch.setattr("dydx_conn.fee", lambda quote, ppm: quote * ppm // 10**6)

    code, out, _ = run()

    assert code == 1
    assert "FAIL fee of a fill" in out
    assert "! rounded up: 1 quantum at 5 bp: expected 1, got 0" in out
    assert "test packages/dydx-conn/tests/test_fees.py::test_a_fee_is_rounded_up" in out
    assert "FAILED" in out.splitlines()[-1]


def test_what_is_taken_for_valid_fails(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check of orders that objects to nothing."""
    monkeypatch.setattr("bot.audit.orders.objection", lambda *_, **__: "")

    code, out, _ = run("--json")

    failed = [row["name"] for row in json.loads(out)["scenarios"] if row["verdict"] == "FAIL"]
    assert code == 1
    assert failed == ["fill or kill", "invalid orders"]


def test_what_raises_or_shows_nothing_is_a_failure() -> None:
    """And the others are carried out all the same."""
    group = Group("Some")
    group.shows("raises", "nothing")(lambda: [Evidence("a", 1, 1 // 0)])
    group.shows("silent", "nothing")(list)
    group.shows("fine", "nothing")(lambda: [Evidence("a", 1, 1)])

    raised, silent, fine = carried_out(group.scenarios)

    assert raised.broken[0].startswith("expected an outcome, got ZeroDivisionError")
    assert silent.broken == ["expected evidence, got none"]
    assert (fine.verdict, fine.broken) == ("pass", [])


# === Words ===


def test_figures_are_shown_as_people_read_them() -> None:
    """Truths, lists and thousands."""
    assert [shown(value) for value in (True, 12_345, [1, "x"], [], None)] == [
        "yes", "12,345", "1, x", "none", "None",
    ]  # fmt: skip
    assert Evidence("it", has("a"), "cab").words == "it: cab"
    assert Evidence("it", above(3), 2.5).words == "it: expected more than 3, got 2.5"
    assert where("paper/venue::x") == "packages/dydx-paper/tests/test_venue.py::test_x"
    assert where("tools/crash::x") == "tools/tests/test_crash.py::test_x"


def test_a_line_is_no_wider_than_the_terminal(outcomes: list[Outcome]) -> None:
    """What is cut is there with --verbose, and in a pipe."""
    narrow = [*audit.lines_of(outcomes, whole=False, width=60)]

    assert max(len(line) for line in narrow[:-1]) == 60
    assert len(narrow) == len([*audit.lines_of(outcomes, whole=False)])
    assert len([*audit.lines_of(outcomes, whole=True, width=60)]) > 5 * len(narrow)


def test_it_is_written_as_markdown_and_as_html(run: Run) -> None:
    """With all evidence; the page loads nothing."""
    assert run("--out", "audit.md")[0] == 0
    assert run("--out", "audit.html", "--verbose")[0] == 0

    text, page = Path("audit.md").read_text(), Path("audit.html").read_text()
    assert "| pass | fee of a fill |" in text
    assert "12.50025 USDC" in text
    assert "12.50025 USDC" in page
    assert "src=" not in page
    assert "://" not in page
    assert Balanced.of(page) == []


def test_a_failure_stands_out_in_a_file(outcomes: list[Outcome]) -> None:
    """Its row is open, and nothing in it acts upon a page."""
    broken = Outcome(
        group="G", name="<b>", expects="a|b", verdict="FAIL", evidence=[], broken=["<script>"],
        tests=["t"], ms=1.0,
    )  # fmt: skip

    page, text = audit.html_of([broken]), audit.markdown_of([broken])

    assert "<details open>" in page
    assert '<li class="danger">&lt;script&gt;</li>' in page
    assert "**FAIL**" in text
    assert "a\\|b" in text


def test_a_file_of_another_kind_is_refused(run: Run) -> None:
    """Before anything is carried out."""
    code, _, error = run("--out", "audit.pdf")

    assert (code, ".md, .html" in error) == (2, True)


class Balanced(HTMLParser):
    """Finds tags that are closed and were not open, and those that are never closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        """Open one that has an end."""
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the innermost."""
        assert self.open.pop() == tag

    @classmethod
    def of(cls, page: str) -> list[str]:
        """Return what is open at the end of a page."""
        parser = cls()
        parser.feed(page)
        return parser.open
