"""Hold what no import linter sees: the order inside a layer's file, and circles between files.

    uv run --all-packages --group dev tools/structure.py        a line for each violation

Of a layer's one file: a section uses only what stands above it or in itself, is named in the
docstring, and is of at most 350 lines; `__all__` lists what the file defines, under its section's
title, and what more than tests reach; nothing is imported by star. The built-in `sum`, which
rounds floats otherwise from Python 3.12 on, adds integers and says so on its line, `# integers`, or
is begun with what is exact, such as `Decimal(0)`: floats are added by `math.fsum`. Of the
workspace: no class is of more than 300 lines or sets more than 15 attributes on itself, no function
is of more than 60 lines; only dydx_conn defines, and only bot names, what holds a key or sends an
order; no files of bot or of the stand-in venue import one another in a circle. A distribution
imports the standard library and what its pyproject.toml requires: no tool, no test, nothing that is
there only because something else is.

Exit code 1 if anything was found, else 0.
"""

import ast
import graphlib
import re
import sys
import tomllib
from bisect import bisect
from collections.abc import Collection, Iterator, Mapping
from functools import cache, lru_cache
from importlib.metadata import packages_distributions
from itertools import pairwise
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent

# What can hold a key or send an order.
EDGES = frozenset(["Keys", "Trader"])
SECTION = re.compile(r"^# === (.+) ===$", re.MULTILINE)
MOST_OF_SECTION, MOST_OF_CLASS, MOST_OF_FUNCTION = 350, 300, 60
MOST_ATTRIBUTES = 15
# Classes that hold more, by file, and why; one that is parted has to leave the table.
_FLAT = "slotted and folded at every frame or level, where a hop more is paid each time"
_UNPARTED = "what a run is composed of, and read all over: not parted yet"
MORE_ATTRIBUTES = {
    "dydx_conn._Account": _FLAT, "dydx_data.Book": _FLAT, "dydx_data.ModelledBook": _FLAT,
    "dydx_data._Quoting": _FLAT, "dydx_risk.Course": _FLAT, "dydx_signals._Deviation": _FLAT,
    "composition.Bot": _UNPARTED, "dydx_risk.Risk": _UNPARTED, "shown.Shown": _UNPARTED,
    "travel.Travel": _UNPARTED, "wire.WireVenue": _UNPARTED,
}  # fmt: skip
# Tables that are written as calls: migrations are never changed once they are out.
TABLES = "migrations/versions"
SOURCES = ("packages/*/src/**/*.py", "apps/bot/src/**/*.py", "tools/*.py", "tools/venue/*.py")

Definitions = Mapping[str, ast.stmt]


def main() -> int:
    """Print every violation; return the exit code."""
    found = list(violations(ROOT))
    print(
        "\n".join(found)
        or "every section looks up, nothing is too long, each import is required, without circles"
    )
    return 1 if found else 0


def violations(root: Path) -> Iterator[str]:
    """Yield what is wrong in a workspace, a sentence each."""
    for path in sorted(root.glob("packages/*/src/*/__init__.py")):
        for problem in of_layer(root, path):
            yield f"{path.relative_to(root)}:{problem}"
    for path in sorted(path for glob in SOURCES for path in root.glob(glob)):
        if TABLES not in path.as_posix():
            text = path.read_text()
            file = path.parent.name if path.stem == "__init__" else path.stem
            for problem in (*too_long(text), *too_many(text, file)):
                yield f"{path.relative_to(root)}:{problem}"
    for path in sorted(root.glob("*/*/pyproject.toml")):
        for problem in undeclared(path):
            yield f"{path.relative_to(root)}: {problem}"
    for directory in ("apps/bot/src/bot", "tools/venue"):
        paths = (root / directory).rglob("*.py")
        files = {_dotted(path, root / directory): path.read_text() for path in paths}
        if found := circle({name: imports(text, files) for name, text in files.items()}):
            yield f"{directory}: expected no circle of imports, got {' -> '.join(found)}"


def of_layer(root: Path, path: Path) -> Iterator[str]:
    """Yield what is wrong in the one file of a layer."""
    text = path.read_text()
    for check in (looks_down, publishes, grouped, unmapped, long_sections, sums):
        yield from check(text)
    others = [other for glob in SOURCES for other in root.glob(glob) if other != path]
    others += root.glob("packages/*/README.md")
    yield from unreached(text, frozenset().union(*map(words, others)))
    if path.parent.name != "dydx_conn":
        yield from names_edges(text)


@cache
def words(path: Path) -> frozenset[str]:
    """Return every word of a file."""
    return frozenset(re.findall(r"\w+", path.read_text()))


# Each file is looked at in many ways.
parse = lru_cache(maxsize=8)(ast.parse)


# === A layer's file ===


def looks_down(text: str) -> Iterator[str]:
    """Yield each use, in one section, of what a section below it defines."""
    starts, titles = sections(text)
    tree = parse(text)
    defined = {name: bisect(starts, node.lineno) for name, node in definitions(tree).items()}
    for statement, used in reads(text):
        own = bisect(starts, statement.lineno)
        for name, line in used:
            if defined.get(name, 0) > own:
                here, below = titles[own], titles[defined[name]]
                yield f"{line}: {here} uses {name}, which stands below it in {below}"


def sections(text: str) -> tuple[list[int], list[str]]:
    """Return the lines on which sections begin, and their titles behind that of what is above."""
    starts = [text.count("\n", 0, mark.start()) + 1 for mark in SECTION.finditer(text)]
    return starts, ["the head", *SECTION.findall(text)]


def definitions(tree: ast.Module) -> Definitions:
    """Map the names that a module defines, imports aside, to their statements."""
    found: dict[str, ast.stmt] = {}
    for node in tree.body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found.setdefault(node.name, node)
            case ast.Assign() | ast.AnnAssign():
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    for name in ast.walk(target):
                        if isinstance(name, ast.Name):
                            found.setdefault(name.id, node)
            case _:
                pass
    return found


@lru_cache(maxsize=1)
def reads(text: str) -> list[tuple[ast.stmt, list[tuple[str, int]]]]:
    """Return each statement of a module with the names that it reads, and where."""
    return [(statement, [*uses(statement)]) for statement in parse(text).body]


def uses(node: ast.AST, local: frozenset[str] = frozenset()) -> Iterator[tuple[str, int]]:
    """Yield the module's names that a statement reads, and where; not a function's own."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        inside = {name.arg for name in ast.walk(node) if isinstance(name, ast.arg)}
        inside |= {
            name.id
            for name in ast.walk(node)
            if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
        }
        local |= inside
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in local:
        yield node.id, node.lineno
    for child in ast.iter_child_nodes(node):
        yield from uses(child, local)


def publishes(text: str) -> Iterator[str]:
    """Yield what a layer's `__all__` lists twice or does not define, and each star import."""
    tree = parse(text)
    defined = definitions(tree)
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and any(name.name == "*" for name in node.names):
            yield f"{node.lineno}: expected imports by name, got a star from {node.module}"
    listed: list[str] = ast.literal_eval(defined["__all__"].value)  # type: ignore[attr-defined]
    for name in listed:
        if name not in defined:
            yield f"1: expected __all__ to list what is defined here, got {name}"
    for name in {name for name in listed if listed.count(name) > 1}:
        yield f"1: expected each name once in __all__, got {name} twice"


def grouped(text: str) -> Iterator[str]:
    """Yield each name that `__all__` lists under another title than that of its section."""
    starts, titles = sections(text)
    defined = definitions(parse(text))
    published, title = defined["__all__"], titles[0]
    for line in range(published.lineno, (published.end_lineno or 0) + 1):
        words = text.split("\n")[line - 1].strip()
        if words.startswith("# "):
            title = words[2:]
        for name in re.findall(r'"(\w+)"', words) if title != titles[0] else ():
            own = titles[bisect(starts, defined[name].lineno)] if name in defined else title
            if own != title:
                yield f"{line}: expected {name} under {own} in __all__, got {title}"


def unmapped(text: str) -> Iterator[str]:
    """Yield each section that the docstring does not name."""
    drawn = " ".join((ast.get_docstring(parse(text)) or "").split())
    for title in sections(text)[1][1:]:
        if not re.search(rf"(?<!\w){re.escape(title)}(?!\w)", drawn):
            yield f"1: expected the docstring to name the section {title}"


def long_sections(text: str) -> Iterator[str]:
    """Yield each section that is longer than its bound."""
    starts, titles = sections(text)
    bounds = pairwise([*starts, text.count("\n") + 1])
    for title, (start, end) in zip(titles[1:], bounds, strict=True):
        if end - start > MOST_OF_SECTION:
            yield _longer(start, title, MOST_OF_SECTION, end - start)


def too_long(text: str) -> Iterator[str]:
    """Yield each class and function that is longer than its bound."""
    for node in ast.walk(parse(text)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            most = MOST_OF_CLASS if isinstance(node, ast.ClassDef) else MOST_OF_FUNCTION
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > most:
                yield _longer(node.lineno, node.name, most, lines)


def _longer(line: int, what: str, most: int, lines: int) -> str:
    return f"{line}: expected {what} to be of at most {most} lines, got {lines}"


def too_many(text: str, file: str, more: Collection[str] = MORE_ATTRIBUTES) -> Iterator[str]:
    """Yield each class that sets more attributes on itself than its bound.

    One that `more` names has to: what was parted needs no exemption. What it
    declares as fields is not counted: a row of a wire or of a file has the columns it has.
    """
    for node in ast.walk(parse(text)):
        if isinstance(node, ast.ClassDef):
            count, named = len(attributes(node)), f"{file}.{node.name}"
            if (count > MOST_ATTRIBUTES) == (named in more):
                continue
            most = "more than" if named in more else "at most"
            what = f"{most} {MOST_ATTRIBUTES} attributes on itself"
            yield f"{node.lineno}: expected {node.name} to set {what}, got {count}"


def attributes(kind: ast.ClassDef) -> set[str]:
    """Return the names of what the methods of a class set on itself."""
    return {
        node.attr
        for node in ast.walk(kind)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        if isinstance(node.value, ast.Name) and node.value.id == "self"
    }


def unreached(text: str, elsewhere: frozenset[str]) -> Iterator[str]:
    """Yield each published name that nothing reads: neither the file itself nor `elsewhere`."""
    tree = parse(text)
    defined = definitions(tree)
    # What a definition reads of itself reaches it for nobody.
    own = ({name for name, _ in used} - {getattr(node, "name", "")} for node, used in reads(text))
    read = elsewhere.union(*own)
    for name in ast.literal_eval(defined["__all__"].value):  # type: ignore[attr-defined]
        if name in defined and name not in read:
            yield f"{defined[name].lineno}: expected a layer, bot or README to reach {name}"


def sums(text: str) -> Iterator[str]:
    """Yield each use of the built-in `sum` that does not say that it adds no floats."""
    lines, tree = text.split("\n"), parse(text)
    # What is begun with a Decimal, a Fraction or a Counter is of that kind.
    begun = {
        id(node.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and len(node.args) == 2
        if not isinstance(node.args[1], ast.Constant)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Name) or node.id != "sum" or id(node) in begun:
            continue
        if "# integers" not in lines[node.lineno - 1]:
            yield f"{node.lineno}: expected math.fsum, or a sum marked `# integers`, got sum"


def names_edges(text: str) -> Iterator[str]:
    """Yield each place that names what can hold a key or send an order."""
    for node in ast.walk(parse(text)):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                if name in EDGES:
                    yield f"{node.lineno}: only bot may name {name}"
            case _:
                pass


# === Imports ===


def undeclared(pyproject: Path) -> Iterator[str]:
    """Yield each module that a distribution imports and does not require, with a file of it."""
    project = tomllib.loads(pyproject.read_text())["project"]
    extras = project.get("optional-dependencies", {}).values()
    lines = [*project["dependencies"], *(line for extra in extras for line in extra)]
    required = {project["name"], *(canonicalize_name(Requirement(line).name) for line in lines)}
    imported: dict[str, Path] = {}
    for path in sorted((pyproject.parent / "src").rglob("*.py")):
        imported = {name.partition(".")[0]: path for name in absolute(path.read_text())} | imported
    brought = packages_distributions()
    for module, path in imported.items():
        # What is not installed is known by the name that it is imported by.
        by = {canonicalize_name(name) for name in brought.get(module, [module])}
        if module not in sys.stdlib_module_names and not by & required:
            yield f"expected {module}, imported by {path.name}, to be required here"


def absolute(text: str) -> Iterator[str]:
    """Yield the modules that a file imports anywhere in it, those beside it aside."""
    for node in ast.walk(parse(text)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module
            case _:
                pass


# === Circles ===


def _dotted(path: Path, directory: Path) -> str:
    return ".".join(path.relative_to(directory).with_suffix("").parts)


def imports(text: str, names: Mapping[str, str]) -> set[str]:
    """Return which files of a folder, by their dotted names, a file imports anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    # A file of the folder is named from its package on, or, beside a script, by itself.
    ours = {name.removeprefix("bot.") for name in found if "." not in name or name[:4] == "bot."}
    return ours & names.keys()


def circle(edges: Mapping[str, set[str]]) -> tuple[str, ...]:
    """Return a circle of imports, from its first name in the alphabet; nothing if there is none."""
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as error:
        found = list(reversed(error.args[1][1:]))  # an importer before what it imports
        first = found.index(min(found))
        return (*found[first:], *found[:first], found[first])
    return ()


if __name__ == "__main__":
    sys.exit(main())
