"""Compiled wheels: how they are built and when they are not; `tools/compile.py` tries real ones."""

import tomllib
from pathlib import Path

import check
import compile as building
import pytest


@pytest.mark.parametrize("layer", building.LAYERS)
def test_what_is_compiled_is_the_same_project_with_another_backend(
    layer: str, tmp_path: Path
) -> None:
    """Name, version, bounds and sources stay as they are; nothing of the workspace is changed."""
    source = building.source_of(layer)
    before = (source / "pyproject.toml").read_text()

    tree = building.copied(source, tmp_path / layer)

    ours, theirs = (tomllib.loads((at / "pyproject.toml").read_text()) for at in (source, tree))
    assert theirs["project"] == ours["project"]
    assert theirs["build-system"]["build-backend"] == "setuptools.build_meta"
    assert ours["build-system"]["build-backend"] == "uv_build"
    code = Path("src", f"dydx_{layer}", "__init__.py")
    assert (tree / code).read_bytes() == (source / code).read_bytes()
    assert str(code) in (tree / "setup.py").read_text()
    assert not (tree / "tests").exists()
    assert (source / "pyproject.toml").read_text() == before
    assert not (source / "setup.py").exists()


def test_a_wheel_is_built_by_one_interpreter_into_one_folder(tmp_path: Path) -> None:
    """With what is installed beside it: its layers below are read where it is compiled."""
    words = building.build_command("/env/bin/python", tmp_path / "data", tmp_path / "out")

    assert words[0] == "build"
    assert {"--wheel", "--no-build-isolation"} <= {*words}
    assert words[words.index("--python") + 1] == "/env/bin/python"
    assert words[words.index("--out-dir") + 1] == str(tmp_path / "out")
    assert words[-1] == str(tmp_path / "data")


def test_a_project_without_a_backend_is_refused() -> None:
    """Rather than built as something else."""
    with pytest.raises(SystemExit, match=r"expected one \[build-system\] .*, got 0"):
        building.with_backend("[project]\nname = 'x'\n")


@pytest.mark.parametrize(
    ("compiler", "python", "words"),
    [
        ("no-such-compiler", "/bin/python", "expected a C compiler (no-such-compiler), got none"),
        ("sh", None, "expected Python 3.12, got no such interpreter"),
        ("sh", "/bin/python", ""),
    ],
)
def test_what_is_missing_is_named(compiler: str, python: str | None, words: str) -> None:
    """A compiler, or an interpreter; then nothing is begun."""
    assert building.unable({"3.12": python}, compiler).startswith(words)
    assert bool(building.unable({"3.12": python}, compiler)) == bool(words)


def test_without_a_compiler_the_check_is_skipped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 77."""
    monkeypatch.setenv("CC", "no-such-compiler")

    assert building.main(["--python", "3.11", "--only", "build"]) == check.SKIPPED
    assert "expected a C compiler" in capsys.readouterr().out


def test_every_test_that_is_left_out_has_a_reason() -> None:
    """And a layer that is compiled."""
    for layer, left in building.LEFT_OUT.items():
        assert layer in building.LAYERS
        assert all(left.values())
