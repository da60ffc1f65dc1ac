"""What the order of a layer's file is held to."""

from pathlib import Path

import pytest
import structure

LAYER = """
__all__ = ["first"]

# === One ===

LIMIT = 1


def first(limit):
    return limit + LIMIT


# === Two ===


def second():
    third = 3
    return first(third)


# === Three ===


def third():
    return second()
"""


def test_a_section_that_uses_what_stands_above_it_is_right() -> None:
    """Names of a function's own that are called like a definition below are no use of it."""
    assert [] == [*structure.looks_down(LAYER), *structure.publishes(LAYER)]


def test_a_section_that_looks_down_is_named_with_what_it_uses() -> None:
    """The line, the section, the name and where that stands."""
    text = LAYER.replace("return limit + LIMIT", "return third()")

    [problem] = structure.looks_down(text)

    assert problem == "10: One uses third, which stands below it in Three"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("from os import *", "2: expected imports by name, got a star from os"),
        ('__all__ = ["Fees"]', "1: expected __all__ to list what is defined here, got Fees"),
        (
            '__all__ = ["first", "first"]',
            "1: expected each name once in __all__, got first twice",
        ),
    ],
)
def test_what_a_layer_publishes_is_its_own(line: str, problem: str) -> None:
    """No star, no name of another layer, none twice."""
    text = LAYER.replace('__all__ = ["first"]', line if "all" in line else f"{line}\n__all__ = []")

    assert [problem] == [*structure.publishes(text)]


def test_each_published_name_stands_under_the_section_that_defines_it() -> None:
    """What stands above the first section needs no title; a name in the wrong place is named."""
    text = LAYER.replace(
        '["first"]', '[\n    # One\n    "LIMIT", "second",\n    # Three\n    "first",\n]'
    )

    assert [*structure.grouped(text)] == [
        "4: expected second under Two in __all__, got One",
        "6: expected first under One in __all__, got Three",
    ]


def test_what_tests_alone_reach_is_not_published() -> None:
    """A use in the file itself counts, as of a type that is returned; one in its own body does not."""
    text = """
__all__ = ["first", "Found", "second"]


class Found: pass


def first() -> Found:
    return first()


def second(): pass
"""

    [problem] = structure.unreached(text, frozenset(["second"]))

    assert problem == "8: expected a layer, bot or README to reach first"


def test_the_map_of_a_layer_names_each_section() -> None:
    """Over the end of a line, too; a word of which a title is a part is not it."""
    text = (
        '"""Ones, One: all of it; Two\ntales."""\n# === One ===\n# === Two tales ===\n# === T ==='
    )

    assert [*structure.unmapped(text)] == ["1: expected the docstring to name the section T"]


def test_a_file_is_a_screen_at_a_time() -> None:
    """A section, a class, a function that is longer than its bound is named with its length."""
    lines = "\n".join(f"        x = {n}" for n in range(300))
    text = f"# === One ===\nclass Long:\n    def longer(self):\n{lines}\n" + "#\n" * 60

    assert [*structure.long_sections(text), *structure.too_long(text)] == [
        "1: expected One to be of at most 350 lines, got 363",
        "2: expected Long to be of at most 300 lines, got 302",
        "3: expected longer to be of at most 60 lines, got 301",
    ]


def test_a_class_holds_no_more_than_a_reader_can() -> None:
    """What its methods set on itself counts, each once; its fields do not. Who may hold more has to."""
    fields = "\n".join(f"    f{n}: int = 0" for n in range(20))
    sets = "\n".join(f"        self.x{n // 2}, other.y{n} = 0, 0" for n in range(32))
    text = f"class Row:\n{fields}\n\nclass State:\n    def begin(self, other):\n{sets}"

    assert [*structure.too_many(text, "file", ["file.Row"])] == [
        "1: expected Row to set more than 15 attributes on itself, got 0",
        "23: expected State to set at most 15 attributes on itself, got 16",
    ]
    assert [*structure.too_many(text, "file", ["file.State"])] == []


def test_a_sum_says_that_it_adds_no_floats() -> None:
    """Called or handed on; floats are added by `math.fsum`, the same on each Python."""
    right = ["sum(ints)  # integers", "math.fsum(floats)", "sum(sizes, Decimal(0))"]
    wrong = ["sum(floats)", "sum(floats, 0.0)", "map(sum, rows)"]

    found = structure.sums("\n".join([*right, *wrong]))

    assert [int(problem.partition(":")[0]) for problem in found] == [4, 5, 6]


@pytest.mark.parametrize(
    "text", ["from dydx_conn import Trader", "import dydx_conn\n\nx = dydx_conn.Keys", "Keys = 1"]
)
def test_who_names_what_can_send_is_found(text: str) -> None:
    """By import, by attribute or by a name of its own."""
    [problem] = structure.names_edges(text)

    assert "only bot may name" in problem


def test_what_is_imported_and_not_required_is_found(tmp_path: Path) -> None:
    """Wherever in a file: a tool, a test's library, or what only another distribution requires."""
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "ours"\ndependencies = ["PyYAML>=6"]\n'
        'optional-dependencies.fast = ["not_here>=1"]\n'
    )
    folder = tmp_path / "src" / "ours"
    folder.mkdir(parents=True)
    (folder / "right.py").write_text("import os.path, yaml, not_here.core\nfrom ours import a")
    (folder / "wrong.py").write_text("def late():\n    import bench\n    from pytest import mark")

    assert [*structure.undeclared(tmp_path / "pyproject.toml")] == [
        "expected bench, imported by wrong.py, to be required here",
        "expected pytest, imported by wrong.py, to be required here",
    ]


def test_a_circle_of_imports_is_named_once_from_its_first_name() -> None:
    """At whatever depth of a file, by whatever form; what is not of the folder is none of it."""
    texts = {
        "a": "from bot.part.b import first",
        "part.b": "def late():\n    from bot.part import c",
        "part.c": "import os, bot.a",
        "d": "from a import second",
    }

    edges = {name: structure.imports(text, texts) for name, text in texts.items()}

    assert edges == {"a": {"part.b"}, "part.b": {"part.c"}, "part.c": {"a"}, "d": {"a"}}
    assert structure.circle(edges) == ("a", "part.b", "part.c", "a")
    assert structure.circle({**edges, "part.c": set()}) == ()


def test_a_workspace_is_read_layer_by_layer(tmp_path: Path) -> None:
    """Each violation says its file; dydx_conn may define what can send."""
    for name in ("dydx_conn", "dydx_risk"):
        folder = tmp_path / "packages" / name / "src" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(
            '__all__ = ["Keys"]\n\n\nclass Keys:\n    pass\n\n\nKeys()\n'
        )

    [problem] = structure.violations(tmp_path)

    assert problem == "packages/dydx_risk/src/dydx_risk/__init__.py:8: only bot may name Keys"
