"""Change one thing in a layer at a time, and see whether the layer's own tests notice.

    layer's file ──► places that can be changed ──► a seeded sample ──► one mutant a place
                                                                            │
    the layer's tests, once, with coverage ──► tests that reach the place ──┴──► killed | survived

    uv run --all-packages --group dev tools/mutation.py                  forty a layer
    uv run --all-packages --group dev tools/mutation.py risk --seed 11   another sample of one

A place is an operator, a number, a comparison, a condition, a loop or an `except`; annotations,
docstrings, decorators and what a class is declared with are none. A mutant is killed if a test
fails, or does not end. What survives is printed as a diff. A survivor that changes nothing anyone
can observe is written into `mutation.toml` beside this file with the reason; any other one makes
the exit code 1.
The changes themselves are cosmic-ray's operators.
"""

import argparse
import ast
import difflib
import os
import subprocess
import sys
import tempfile
import time
import tomllib
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from operator import itemgetter
from pathlib import Path
from random import Random
from typing import Final

from bot.progress import Progress
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from coverage import CoverageData

ROOT: Final = Path(__file__).resolve().parent.parent
LAYERS: Final = ("conn", "data", "signals", "strategy", "risk", "paper", "panels")
REVIEWED: Final = Path(__file__).with_suffix(".toml")

# A shift or a power in place of a sum is noticed by anything; what slips through is one step off.
FAR_FETCHED: Final = (
    "RemoveDecorator", "NoOp", "_RShift", "_LShift", "_BitXor", "_BitOr", "_BitAnd", "_Pow",
    "_Is", "_IsNot", "Unary_", "_Invert",
)  # fmt: skip

# Of two cores each runs one mutant.
SIDE_BY_SIDE: Final = 2

# What a mutant's tests may take: some loop for ever.
SLOWER: Final = 4
START_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a change can be made: the operator, which of its occurrences, the line and column."""

    operator: str
    occurrence: int
    line: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A layer with one thing changed: the line that was, the line that is, the whole text."""

    place: Place
    before: str
    after: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """The layer's tests: which of them reach a line (by number), and what each took (seconds)."""

    by_line: Mapping[int, frozenset[str]]
    seconds: Mapping[str, float]

    def tests(self, line: int) -> list[str]:
        """Name the tests that run this line, quick ones first; all, if it runs on import."""
        names = self.by_line.get(line, frozenset())
        chosen = self.seconds if "" in names else names
        return sorted(chosen, key=lambda name: self.seconds.get(name, 0.0))


# === Places ===


def places(code: str) -> list[list[Place]]:
    """List what can be changed in a module, in order; each with all the changes possible there."""
    tree = get_ast(code)
    spared = spans_spared(code)
    found: dict[tuple[int, int], list[Place]] = defaultdict(list)
    for name in operator_names():
        kind = get_operator(name)
        if kind.arguments() or any(part in name for part in FAR_FETCHED):
            continue
        operator = kind()
        positions = (spot for node in ast_nodes(tree) for spot in operator.mutation_positions(node))
        for occurrence, (start, _) in enumerate(positions):
            if not any(first <= start < last for first, last in spared):
                place = Place(operator=name, occurrence=occurrence, line=start[0], column=start[1])
                found[start].append(place)
    return [found[start] for start in sorted(found)]


def spans_spared(code: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return the spans (from, to; line and column) that decide nothing: types, `frozen=True`."""
    nodes: list[ast.expr | None] = []
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.arg() | ast.AnnAssign():
                nodes.append(node.annotation)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                nodes += (node.returns, *node.decorator_list)
            case ast.Assign(value=ast.BinOp(op=ast.BitOr()) as union):
                nodes.append(union)  # `Verdict = Approved | Denied` names a type
            case ast.ClassDef():
                keywords = (keyword.value for keyword in node.keywords)
                nodes += (*keywords, *node.decorator_list)  # frozen=True, gc=False
    return [
        ((node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0))
        for node in nodes
        if node is not None
    ]


def sample(code: str, *, count: int, seed: int) -> list[Mutant]:
    """Draw so many mutants of a module by the seed, no two at one place, in the order of lines.

    A place's chance is its own, by its text: what changes elsewhere draws no other sample.
    """
    lines = code.splitlines()
    alike: Counter[tuple[str, int]] = Counter()
    drawn: list[tuple[float, Place]] = []
    for spot in places(code):
        text = lines[spot[0].line - 1], spot[0].column
        chance = Random(f"{seed} {text} {alike[text]}")
        alike[text] += 1
        drawn.append((chance.random(), chance.choice(spot)))
    drawn.sort(key=itemgetter(0))
    made = (make_mutant(code, place) for _, place in drawn)
    mutants = islice((mutant for mutant in made if mutant is not None), count)
    return sorted(mutants, key=lambda mutant: (mutant.place.line, mutant.place.column))


def make_mutant(code: str, place: Place) -> Mutant | None:
    """Make the change; None if it leaves the text as it was, or no longer a program."""
    changed = mutate_code(code, get_operator(place.operator)(), place.occurrence)
    if changed is None or changed == code:
        return None
    try:
        ast.parse(changed)
    except SyntaxError:
        return None
    before, after = differences(code, changed)
    return Mutant(place=place, before=before, after=after, code=changed)


def differences(code: str, changed: str) -> tuple[str, str]:
    """Return the lines that differ, as they were and as they are, without their margins."""
    lines = list(difflib.ndiff(code.splitlines(), changed.splitlines()))
    sides = ([line[2:].strip() for line in lines if line.startswith(sign)] for sign in ("- ", "+ "))
    before, after = ("\n".join(side) for side in sides)
    return before, after


# === Tests ===


def watch_tests(package: Path, folder: Path) -> Reached:
    """Run the layer's tests once as they are, and learn which line is reached by which."""
    data, report = folder / "coverage", folder / "report.xml"
    environment = {**os.environ, "COVERAGE_FILE": str(data)}
    options = ["--cov-context=test", "--cov-fail-under=0", f"--junitxml={report}"]
    done = run_pytest(package, options, environment, timeout_s=3600)
    if done.returncode:
        raise SystemExit(f"{package.name}: expected green tests to begin with:\n{done.stdout}")
    seconds = dict(durations(report))
    coverage = CoverageData(str(data))
    coverage.read()
    source = next(file for file in coverage.measured_files() if file.endswith("__init__.py"))
    by_line = {
        line: frozenset(context.partition("|")[0] for context in contexts)
        for line, contexts in coverage.contexts_by_lineno(source).items()
    }
    return Reached(by_line=by_line, seconds=seconds)


def durations(report: Path) -> Iterator[tuple[str, float]]:
    """Read each test's name, as pytest takes it, and its seconds from a JUnit report."""
    for case in ET.parse(report).iter("testcase"):
        names = case.attrib["classname"].split(".")
        file = next(i for i, name in enumerate(names) if name.startswith("test_"))
        path = "/".join(names[: file + 1]) + ".py"
        yield "::".join([path, *names[file + 1 :], case.attrib["name"]]), float(case.attrib["time"])


def run_pytest(
    package: Path, options: Sequence[str], environment: Mapping[str, str], *, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """Run pytest as the layer's gate does, with further options."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
        cwd=package,
        env=environment,
        timeout=timeout_s,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def is_killed(mutant: Mutant, package: Path, reached: Reached) -> bool:
    """Say whether a test notices the change; what no test reaches, none does."""
    tests = reached.tests(mutant.place.line)
    if not tests:
        return False
    module = package.name.replace("-", "_")
    limit = START_S + SLOWER * sum(reached.seconds.get(name, 1.0) for name in tests)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / module
        target.mkdir()
        (target / "__init__.py").write_text(mutant.code)
        environment = {
            **os.environ,
            "PYTHONPATH": folder,
            "PYTHONDONTWRITEBYTECODE": "1",
            "HYPOTHESIS_STORAGE_DIRECTORY": str(Path(folder) / "hypothesis"),
        }
        options = ["-x", "--no-cov", "--no-header", *tests]
        try:
            done = run_pytest(package, options, environment, timeout_s=limit)
        except subprocess.TimeoutExpired:
            return True
    return done.returncode != 0


# === Command line ===


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the layers named, or all; return 1 if a mutant survived that nobody looked at."""
    parser = argparse.ArgumentParser(
        prog="tools/mutation.py", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("layers", nargs="*", metavar="LAYER", help=f"of {', '.join(LAYERS)}")
    parser.add_argument("--sample", type=int, default=40, metavar="N", help="mutants a layer")
    parser.add_argument("--seed", type=int, default=7, metavar="N", help="draws another sample")
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.layers if name not in LAYERS]:
        parser.error(f"expected layers of {', '.join(LAYERS)}, got {', '.join(unknown)}")
    reviewed = read_reviewed(REVIEWED)
    left = [
        survivor
        for layer in given.layers or LAYERS
        for survivor in try_layer(layer, reviewed, count=given.sample, seed=given.seed)
    ]
    print(f"{len(left)} survived unreviewed")
    return 1 if left else 0


def read_reviewed(file: Path) -> set[tuple[str, str, str]]:
    """Read which survivors were looked at: their layer and both lines; each needs its reason."""
    rows = tomllib.loads(file.read_text()).get("survivor", []) if file.exists() else []
    if unreasoned := [row for row in rows if not row.get("why")]:
        raise SystemExit(f"{file.name}: expected a reason (why) for each, got {unreasoned[0]}")
    return {(row["layer"], row["before"], row["after"]) for row in rows}


def try_layer(
    layer: str, reviewed: Set[tuple[str, str, str]], *, count: int, seed: int
) -> list[Mutant]:
    """Try a layer's mutants, print what became of them; return those that survived unreviewed."""
    started = time.monotonic()
    package = ROOT / "packages" / f"dydx-{layer}"
    code = (package / "src" / f"dydx_{layer}" / "__init__.py").read_text()
    with tempfile.TemporaryDirectory() as folder:
        reached = watch_tests(package, Path(folder))
    mutants = sample(code, count=count, seed=seed)
    survivors, left = 0, []
    bar = Progress(f"mutants of {layer}", len(mutants))
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool, bar as progress:
        killed = pool.map(partial(is_killed, package=package, reached=reached), mutants)
        for one, dead in zip(mutants, killed, strict=True):
            survivors += not dead
            progress.step(f"{survivors} survived")
            if not dead and (layer, one.before, one.after) not in reviewed:
                left.append(one)
                tests = len(reached.tests(one.place.line))
                where = f"{layer} line {one.place.line}, reached by {tests} tests, survived:"
                progress.line(f"{where}\n    - {one.before}\n    + {one.after}")
    took, reviews = time.monotonic() - started, survivors - len(left)
    print(
        f"{layer:<9} {len(mutants) - survivors}/{len(mutants)} killed, {reviews} reviewed, "
        f"{len(left)} survived   {took:.0f} s",
        flush=True,
    )
    return left


if __name__ == "__main__":
    raise SystemExit(main())
