"""The mutation tool: which places it changes, that a seed draws the same, and who notices."""

from pathlib import Path

import mutation
import pytest

CODE = '''"""A layer."""

Verdict = int | str


def relief(size: int, price: int | None = 3) -> int | None:
    """Double it, 2 at least."""
    if size > 1 and price is not None:
        return size * price
    return None
'''

TESTS = {
    "sharp": "assert relief(2) == 6 and relief(2, 5) == 10 and relief(1) is None",
    "blunt": "assert relief(5)",
}


def changed(code: str) -> set[tuple[str, str]]:
    """Return both lines of every mutant."""
    return {(one.before, one.after) for one in mutation.sample(code, count=99, seed=1)}


def test_what_runs_is_changed_and_what_only_annotates_is_not() -> None:
    """No docstring, no annotation, no union of types."""
    lines = {spot[0].line for spot in mutation.places(CODE)}
    # The default, the condition and the product.
    assert lines == {6, 8, 9}
    assert all("->" not in before or "price: int | None" in before for before, _ in changed(CODE))


def test_a_mutant_differs_in_the_line_it_names_and_is_still_a_program() -> None:
    """One line differs."""
    for one in mutation.sample(CODE, count=99, seed=1):
        assert CODE.splitlines()[one.place.line - 1].strip() == one.before != one.after
        compile(one.code, "mutant", "exec")


def test_a_seed_draws_the_same_sample_and_another_seed_another() -> None:
    """No two at one place."""
    first = mutation.sample(CODE, count=3, seed=1)
    assert mutation.sample(CODE, count=3, seed=1) == first
    assert len({one.place for one in first}) == 3
    assert any(mutation.sample(CODE, count=3, seed=n) != first for n in range(2, 9))


def test_a_change_elsewhere_draws_no_other_sample() -> None:
    """Whatever was sampled of the rest is sampled again, wherever it stands now."""
    more = CODE.replace("Verdict =", "LIMIT = 5\n\nVerdict =")
    for seed in range(20):
        drawn = {(one.before, one.after) for one in mutation.sample(CODE, count=4, seed=seed)}
        again = {(one.before, one.after) for one in mutation.sample(more, count=5, seed=seed)}
        assert drawn <= again


def test_what_a_class_is_declared_with_is_no_place() -> None:
    """It names no behaviour of the layer's own."""
    assert mutation.places("class Held(Struct, frozen=True, gc=False):\n    size: int\n") == []
    assert mutation.places("@dataclass(frozen=True)\nclass Held:\n    size: int\n") == []


def package(folder: Path, assertion: str) -> Path:
    """A layer of one function with one test."""
    layer = folder / "dydx-tiny"
    (layer / "src" / "dydx_tiny").mkdir(parents=True)
    (layer / "tests").mkdir()
    (layer / "src" / "dydx_tiny" / "__init__.py").write_text(CODE)
    (layer / "conftest.py").write_text("import sys\nsys.path.append('src')\n")
    test = f"from dydx_tiny import relief\n\n\ndef test_it():\n    {assertion}\n"
    (layer / "tests" / "test_tiny.py").write_text(test)
    options = "--import-mode=importlib --cov=dydx_tiny --cov-branch"
    (layer / "pyproject.toml").write_text(f'[tool.pytest.ini_options]\naddopts = "{options}"\n')
    return layer


@pytest.mark.parametrize(("tests", "notices"), [("sharp", True), ("blunt", False)])
def test_a_sharp_test_kills_a_mutant_that_a_blunt_one_lets_live(
    tmp_path: Path, tests: str, notices: bool
) -> None:
    """The product becomes a sum."""
    layer = package(tmp_path, TESTS[tests])
    reached = mutation.watch_tests(layer, tmp_path)
    [name] = reached.seconds
    assert (name, reached.tests(9)) == ("tests/test_tiny.py::test_it", [name])
    [mutant] = [
        one
        for seed in range(99)
        for one in mutation.sample(CODE, count=1, seed=seed)
        if one.after == "return size + price"
    ][:1]
    assert mutation.is_killed(mutant, layer, reached) is notices


def test_a_survivor_that_was_looked_at_needs_its_reason(tmp_path: Path) -> None:
    """Without one nothing runs."""
    file = tmp_path / "mutation.toml"
    row = '[[survivor]]\nlayer = "risk"\nbefore = "a = 1"\nafter = "a = 2"\n'
    file.write_text(row)
    with pytest.raises(SystemExit, match=r"expected a reason \(why\) for each"):
        mutation.read_reviewed(file)
    file.write_text(f'{row}why = "a is never read below 2"\n')
    assert mutation.read_reviewed(file) == {("risk", "a = 1", "a = 2")}


def test_a_layer_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The names that there are."""
    with pytest.raises(SystemExit):
        mutation.main(["bot"])
    assert "expected layers of conn, data" in capsys.readouterr().err
