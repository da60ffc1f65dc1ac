"""What the bot is made of: from the metadata of what is installed, and what is not part of it."""

import json
from importlib.metadata import distribution
from pathlib import Path

import pytest
from bot import licences
from bot.__main__ import main
from bot.licences import distributions, parts

pytestmark = pytest.mark.traced


@pytest.fixture(scope="module")
def found() -> set[str]:
    """Return the names of all distributions that are part of it."""
    return set(distributions())


def test_a_part_is_what_the_bot_requires_and_what_that_requires(found: set[str]) -> None:
    """All extras are, too; what tests and checks need is not."""
    assert {"bot", "dydx-conn", "dydx-v4-client", "grpcio", "fastapi", "plotly", "apprise"} <= found
    assert found.isdisjoint({"pytest", "mypy", "hypothesis", "schemathesis", "mitmproxy"})


def test_an_extra_of_another_is_part_only_where_it_is_required(found: set[str]) -> None:
    """Of pydantic-settings its `yaml` is, of httpx its `http2` is not."""
    assert "pyyaml" in found
    assert "h2" not in found


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at few distributions, one of which declares nothing and has no text."""
    some = {name: distribution(name) for name in ("rich", "dydx-v4-client")}
    monkeypatch.setattr(licences, "distributions", lambda: some)


@pytest.mark.usefixtures("few")
def test_all_parts_are_listed_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    """With a version and the word for its licence; one of which nothing is known says so."""
    assert main(["licences"]) == 0

    listed = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()]
    assert [(name, licence) for name, _, licence in listed] == [
        ("Python", "PSF-2.0"), ("rich", "MIT License"), ("dydx-v4-client", "not declared"),
    ]  # fmt: skip


@pytest.mark.usefixtures("few")
def test_the_text_of_a_part_is_printed_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    """However it is spelled; one without any says so."""
    assert main(["licences", "Rich"]) == 0
    one = capsys.readouterr().out
    assert main(["licences", "dydx_v4_client"]) == 0
    none = capsys.readouterr().out

    assert one.startswith("rich ")
    assert "Permission is hereby granted" in one
    assert none.endswith("its distribution has no text\n")


@pytest.mark.usefixtures("few")
def test_a_name_that_is_no_part_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A typing error is one line and a 2."""
    code = main(["licences", "pytest"])

    assert code == 2
    assert "expected the name of a part (bot licences lists them), got 'pytest'" in (
        capsys.readouterr().err
    )


@pytest.mark.usefixtures("few")
def test_what_an_executable_has_within_is_listed_with_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The libraries of the system it was built on are no distributions, and Python's text is."""
    (tmp_path / "licences").mkdir()
    (tmp_path / "licences" / "Python.txt").write_text("PSF, in full")
    (tmp_path / "licences" / "libssl3_3.0.17.txt").write_text("Apache, in full")
    monkeypatch.setattr(licences, "PACKAGE", tmp_path)

    assert main(["licences", "libssl3", "--json"]) == 0

    assert json.loads(capsys.readouterr().out) == [
        {
            "name": "libssl3", "version": "3.0.17", "licence": "see its text",
            "texts": ["Apache, in full"],
        }
    ]  # fmt: skip
    assert next(parts()).texts == ["PSF, in full"]
