"""What every distribution must hold, and what the repository must not."""

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import check
import pytest
from packaging.requirements import Requirement

ROOT = check.ROOT
MEMBERS = check.members()
LAYERS = [name for name in MEMBERS if name != "bot"]
AT_THE_TOP = {
    "LICENSE",
    "README.md",
    "apps",
    "packages",
    "pyproject.toml",
    "recordings",
    "tools",
    "uv.lock",
}


def configuration(name: str) -> dict[str, Any]:
    """Read a member's pyproject.toml."""
    return tomllib.loads((MEMBERS[name] / "pyproject.toml").read_text())


def lines(file: Path) -> int:
    """Count a file's lines."""
    return len(file.read_text().splitlines())


def tracked() -> list[Path]:
    """List the files under version control; skip the test where there is none."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is not a checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return [Path(name) for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


@pytest.mark.parametrize("name", MEMBERS)
def test_a_distribution_has_its_papers(name: str) -> None:
    """A version of its own, a README, a licence, a changelog that opens with what is to come."""
    directory = MEMBERS[name]
    changelog = (directory / "CHANGELOG.md").read_text()

    assert re.fullmatch(r"\d+\.\d+\.\d+", configuration(name)["project"]["version"])
    assert configuration(name)["project"]["requires-python"] == ">=3.11,<3.13"
    assert re.findall(r"^## (.*)$", changelog, re.MULTILINE)[0] == "[Unreleased]"
    assert (directory / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert (directory / "README.md").read_text().strip()


@pytest.mark.parametrize("name", MEMBERS)
def test_a_changelog_is_short_and_names_what_there_is(name: str) -> None:
    """14 entries a version of a layer, twice as many of the bot; no name is of an earlier day."""
    directory = MEMBERS[name]
    changelog = (directory / "CHANGELOG.md").read_text()
    sources = "\n".join(file.read_text() for file in (directory / "src").rglob("*.py"))
    words = {*re.findall(r"\w+", sources)}

    entries = [version.count("\n- ") for version in re.split(r"^## ", changelog, flags=re.M)]
    named = re.findall(r"`([A-Za-z][\w.]*)[`(]", changelog)

    assert max(entries) <= (28 if name == "bot" else 14)
    assert [] == [part for each in named for part in each.split(".") if part not in words]


@pytest.mark.parametrize("name", MEMBERS)
def test_a_distribution_is_typed(name: str) -> None:
    """`py.typed` stands beside the source, so that mypy reads an installed layer."""
    package = MEMBERS[name] / "src" / name.replace("-", "_")

    assert (package / "py.typed").is_file()
    assert (package / "__init__.py").is_file()


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_one_file(name: str) -> None:
    """A layer is its `__init__.py` and no other source, however long."""
    source = MEMBERS[name] / "src"

    assert [*source.rglob("*.py")] == [source / name.replace("-", "_") / "__init__.py"]


def test_pages_are_short_and_their_links_lead_somewhere() -> None:
    """At most 150 lines at the top, 60 of a member; a link is to a file or folder that is there."""
    pages = [file for file in tracked() if file.suffix == ".md"]
    readmes = [
        Path("README.md"),
        *(path.relative_to(ROOT) / "README.md" for path in MEMBERS.values()),
    ]

    links = [
        (page, link)
        for page in pages
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text())
    ]

    assert [] == [
        file for file in readmes if lines(ROOT / file) > (60 if file.parent.name else 150)
    ]
    assert [] == [(page, link) for page, link in links if not (ROOT / page.parent / link).exists()]


@pytest.mark.parametrize("name", MEMBERS)
def test_a_distribution_has_a_gate_of_its_own(name: str) -> None:
    """Its own tests, its own branches, 95 %."""
    options = configuration(name)["tool"]["pytest"]["ini_options"]
    # The bot's migrations are loaded by their path, and so measured by it.
    measured = "src/bot" if name == "bot" else name.replace("-", "_")
    gate = {f"--cov={measured}", "--cov-branch", "--cov-fail-under=95"}

    assert options["testpaths"] == ["tests"]
    assert gate <= set(options["addopts"].split())


@pytest.mark.parametrize("name", MEMBERS)
def test_no_property_fails_because_the_machine_was_busy(name: str) -> None:
    """One profile a distribution, without a deadline; no test sets another."""
    tests = MEMBERS[name] / "tests"

    profile = (tests / "conftest.py").read_text()
    set_elsewhere = [
        file.name for file in tests.glob("test_*.py") if "deadline=" in file.read_text()
    ]

    assert 'register_profile("patient", deadline=None' in profile
    assert 'load_profile("patient")' in profile
    assert [] == set_elsewhere


@pytest.mark.parametrize("name", MEMBERS)
def test_a_distribution_bounds_the_layers_below_it(name: str) -> None:
    """A layer below is required from one minor version to the next, and resolves to this one."""
    needs = [Requirement(text) for text in configuration(name)["project"]["dependencies"]]

    for need in needs:
        if need.name in MEMBERS:
            version = configuration(need.name)["project"]["version"]
            assert {">=", "<"} == {bound.operator for bound in need.specifier}
            assert need.specifier.contains(version), f"{name} wants {need}, it is {version}"


def test_nothing_else_stands_at_the_top() -> None:
    """The root is a workspace and not a place to leave things."""
    top = {path.parts[0] for path in tracked() if not path.parts[0].startswith(".")}

    assert top == AT_THE_TOP


def test_no_file_shows_where_it_was_made() -> None:
    """No path of this machine, no index's host, no word of a burnt mnemonic."""
    # Put together here, so that this file does not hold what it looks for.
    burnt = " ".join(["clerk", "oak"])
    hosts = [".".join(parts) for parts in (("pypi", "org"), ("files", "pythonhosted", "org"))]
    homes = [os.sep.join(["", home, ""]) for home in ("home", "Users")]
    words = [str(ROOT) + os.sep, burnt, *hosts, *homes]

    found = [
        f"{path}: {word}"
        for path in tracked()
        # The lock names the index by its very nature.
        if path.name != "uv.lock"
        for word in words
        if word.encode() in (ROOT / path).read_bytes()
    ]

    assert [] == found


def test_the_pipeline_runs_the_command_that_the_readme_shows() -> None:
    """The last line of .ci/run is the README's test command, letter for letter."""
    readme = (ROOT / "README.md").read_text()
    shown = [line.strip() for line in readme.splitlines() if "pip install" in line]

    command = (ROOT / ".ci" / "run").read_text().splitlines()[-1]

    assert command in shown
    assert command.endswith("tools/check.py")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
