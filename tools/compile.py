"""Compile layers with mypyc into wheels, of the same source files, and try them.

    uv run --all-packages --group dev tools/compile.py           data and signals, 3.11 and 3.12
    … tools/compile.py --python 3.12 --layers data signals paper
    … tools/compile.py --only build                              into dist/compiled, no more

    a copy of packages/dydx-data + setup.py ─► setuptools, mypyc, cc ─► dist/compiled/*-cp311-*.whl
    all pure wheels                                 ─► an environment ─┐
    the same, compiled ones where there are some    ─► an environment ─┴► hashes, tests, speed

Nothing of the workspace is changed: the default build stays uv_build, source distributions stay
pure, and whoever installs a compiled wheel has the same version with the same metadata. What is
tried: that what is compiled is what is imported, that runs have the same hashes, that the layer's
own tests pass (`LEFT_OUT` excepted, each with its reason), and how much faster it is, in turns with
the pure one. What compiled layers lack: docstrings at run time, and interpreted classes that
inherit from theirs. A signal or strategy of one's own needs neither.

Exit code 1 if anything is not so, 77 where there is no compiler or nothing can be installed.
"""

import argparse
import os
import re
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import check
import paired
from elsewhere import PYTHONS, found_python, run, uv

SKIPPED: Final = 77
OUT: Final = check.ROOT / "dist" / "compiled"
LAYERS: Final = ("conn", "data", "signals", "strategy", "risk", "paper")
# Where most of a frame's time goes, and what gains most for a minute of building.
DEFAULT: Final = ("data", "signals")
# What is played: run hashes must be those of the pure layers.
RUNS: Final = (
    ["replay", "quickstart"],
    ["replay", "quickstart", "--profile", "reckless"],
    ["replay", "sixty"],
)
PAIRED: Final = ("sixty", "quickstart")

SETUP: Final = """\
from mypyc.build import mypycify
from setuptools import setup

setup(ext_modules=mypycify([{source!r}], opt_level="3", debug_level="0"))
"""
# The project's table is read by setuptools too: name, version, bounds, licence, README.
BACKEND: Final = """\
[build-system]
requires = ["setuptools", "mypy"]
build-backend = "setuptools.build_meta"

[tool.setuptools.package-data]
"*" = ["py.typed"]
"""


def main(arguments: Sequence[str]) -> int:
    """Build, and try what was built; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="tools/compile.py", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--python", nargs="+", default=[*PYTHONS], help="versions of Python")
    parser.add_argument("--layers", nargs="+", default=[*DEFAULT], choices=LAYERS, metavar="LAYER")
    parser.add_argument("--only", choices=["build", "try"], help="one of both")
    parser.add_argument("--rounds", type=int, default=3, help="how often speed is measured")
    options = parser.parse_args(arguments)
    layers = [layer for layer in LAYERS if layer in options.layers]
    pythons = {name: found_python(name) for name in options.python}
    if problem := unable(pythons):
        print(problem)
        return SKIPPED
    with tempfile.TemporaryDirectory(prefix="compile-") as folder:
        place = Path(folder)
        lock = locked(place)
        if options.only != "build":
            uv("build", "--quiet", "--all-packages", "--wheel", "--out-dir", str(place / "pure"))
        worst = 0
        for name, python in pythons.items():
            if options.only != "try":
                build(place / f"build-{name}", str(python), layers, lock)
            if options.only != "build":
                worst = max(
                    worst, tried(place / f"try-{name}", str(python), layers, options.rounds)
                )
    return worst


def unable(pythons: Mapping[str, str | None], compiler: str | None = None) -> str:
    """Say what is missing to build for these versions; nothing if nothing is."""
    wanted = compiler or os.environ.get("CC") or (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(wanted) is None:
        return f"expected a C compiler ({wanted}), got none (Debian: apt install gcc)"
    missing = [name for name, python in pythons.items() if python is None]
    return f"expected Python {', '.join(missing)}, got no such interpreter" if missing else ""


def locked(place: Path) -> Path:
    """Write what the lock has as constraints."""
    file = place / "lock.txt"
    options = ["--no-dev", "--no-emit-workspace", "--no-hashes", "--no-header", "--no-annotate"]
    uv("export", "--quiet", "--frozen", "--all-packages", *options, "--output-file", str(file))
    return file


# === Building ===


def build(place: Path, python: str, layers: Sequence[str], lock: Path) -> None:
    """Compile layers for one Python into dist/compiled; ends with what a failed build wrote."""
    interpreter = environment(place / "environment", python)
    # The checker reads the layers below, and what they declare, where the compiled one is to run.
    below = LAYERS[: 1 + max(map(LAYERS.index, layers))]
    editable = [word for layer in below for word in ("-e", str(source_of(layer)))]
    tools = [f"mypy=={version('mypy')}", "setuptools", "wheel"]
    install = ["pip", "install", "--quiet", "--python", interpreter, "--constraint", str(lock)]
    uv(*install, *tools, *editable)
    for layer in layers:
        tree = copied(source_of(layer), place / layer)
        uv(*build_command(interpreter, tree, OUT))
        wheel = newest(OUT, layer)
        size = f"{wheel.stat().st_size / 2**20:.1f} MiB"
        print(f"{wheel.relative_to(check.ROOT)}: {size}", flush=True)


def build_command(interpreter: str, tree: Path, out: Path) -> list[str]:
    """Return the words of uv that build one wheel with what an environment holds."""
    # Not isolated: what is compiled is checked against the layers installed beside the compiler.
    how = ["--wheel", "--quiet", "--no-build-isolation", "--python", interpreter]
    return ["build", *how, "--out-dir", str(out), str(tree)]


def copied(source: Path, tree: Path) -> Path:
    """Copy a package without its tests, with another build backend and the sources as they are."""
    ignored = shutil.ignore_patterns("tests", "__pycache__", "*.egg-info", "build", "dist", ".*")
    shutil.copytree(source, tree, ignore=ignored)
    [file] = tree.glob("src/*/__init__.py")
    (tree / "setup.py").write_text(SETUP.format(source=str(file.relative_to(tree))))
    project = tree / "pyproject.toml"
    project.write_text(with_backend(project.read_text()))
    return tree


def with_backend(project: str) -> str:
    """Return a pyproject.toml that setuptools builds, with all else as it was."""
    changed, count = re.subn(r"\[build-system\]\n(?:[^\[\n].*\n|\n)*", BACKEND + "\n", project)
    if count != 1:
        raise SystemExit(f"expected one [build-system] in pyproject.toml, got {count}")
    return changed


def newest(folder: Path, layer: str) -> Path:
    """Return the wheel of a layer that was built last."""
    return max(folder.glob(f"dydx_{layer}-*.whl"), key=lambda file: file.stat().st_mtime_ns)


def source_of(layer: str) -> Path:
    """Return a layer's directory."""
    return check.ROOT / "packages" / f"dydx-{layer}"


def environment(place: Path, python: str) -> str:
    """Make an empty environment and return its interpreter."""
    uv("venv", "--quiet", "--no-python-downloads", "--python", python, str(place))
    return str(place / "bin" / "python")


# === Trying ===


def tried(place: Path, python: str, layers: Sequence[str], rounds: int) -> int:
    """Try the compiled wheels of one Python beside the pure ones; 1 if anything is not so."""
    pure, compiled = (environment(place / kind, python) for kind in ("pure", "compiled"))
    wheels = place.parent / "pure"
    tests = ["pytest", "pytest-cov", "pytest-asyncio", "hypothesis", "vcrpy"]
    for interpreter in (pure, compiled):
        install = [
            "pip",
            "install",
            "--quiet",
            "--python",
            interpreter,
            "--find-links",
            str(wheels),
        ]
        uv(*install, "--constraint", str(place.parent / "lock.txt"), "bot", *tests)
    # By its tag: of one version uv would take the pure or the compiled one, as the cache has it.
    tag = run([compiled, "-c", _TAG]).stdout.strip()
    files = [str(file) for layer in layers for file in OUT.glob(f"dydx_{layer}-*-{tag}-*.whl")]
    if len(files) != len(layers):
        print(
            f"expected wheels of {', '.join(layers)} for {tag}, got {len(files)}: build them first"
        )
        return 1
    uv("pip", "install", "--quiet", "--python", compiled, "--no-deps", "--reinstall", *files)
    print(f"{tag}:")
    results = [
        *(imported(compiled, layer) for layer in layers),
        *same_hashes(pure, compiled),
        *(tests_pass(compiled, layer) for layer in layers),
    ]
    for recording in PAIRED:
        paired.main(
            [
                str(place / "pure"),
                str(place / "compiled"),
                "--recording",
                recording,
                "--rounds",
                str(rounds),
            ]
        )
    return int(not all(results))


_TAG: Final = "import sys; print('cp%d%d' % sys.version_info[:2])"


def imported(interpreter: str, layer: str) -> bool:
    """See that a layer is imported compiled, and that it says where its source is."""
    code = f"import dydx_{layer} as layer; print(layer.__file__); print(len(layer.__all__))"
    done = run([interpreter, "-I", "-c", code])
    right = done.returncode == 0 and done.stdout.splitlines()[0].endswith(".so")
    return reported(f"dydx_{layer} is compiled", right, done.stdout)


def same_hashes(pure: str, compiled: str) -> Iterator[bool]:
    """Play what is bundled by both; each run hash must be the same."""
    for words in RUNS:
        hashes = [run_hash(interpreter, words) for interpreter in (pure, compiled)]
        right = hashes[0] == hashes[1] and len(hashes[0]) == 64
        yield reported(f"bot {' '.join(words)}: {hashes[1][:12]}", right, "\n".join(hashes))


def run_hash(interpreter: str, words: Sequence[str]) -> str:
    """Return the hash that a run reports, or all that it printed instead."""
    environment = os.environ | {"DYDX_CONFIG": "none"}
    printed = run([interpreter, "-I", "-m", "bot", *words], env=environment).stdout
    found = re.search(r"\b[0-9a-f]{64}\b", printed)
    return found.group() if found else printed


def tests_pass(interpreter: str, layer: str) -> bool:
    """Run a layer's own tests on the compiled wheel."""
    source = source_of(layer)
    options = ["-q", "--no-cov", "--tb=short", "-p", "no:cacheprovider", "--rootdir", str(source)]
    left = [word for name in LEFT_OUT.get(layer, {}) for word in ("--deselect", name)]
    where = ["-c", str(source / "pyproject.toml"), str(source / "tests")]
    done = run([interpreter, "-m", "pytest", *options, *left, *where])
    last = done.stdout.strip().splitlines()[-1:]
    return reported(f"tests of dydx_{layer}: {' '.join(last)}", done.returncode == 0, done.stdout)


_MARBLES: Final = "reads the marbles of a docstring, which compiled code has none of"
# Tests that cannot pass on compiled code, by layer, and why.
LEFT_OUT: Final[dict[str, dict[str, str]]] = {
    "data": {
        "tests/test_detectors.py::test_detections_are_as_drawn": _MARBLES,
        "tests/test_stream.py::test_views_are_as_drawn": _MARBLES,
    },
    "signals": {
        "tests/test_streams.py::test_scores_are_as_drawn": _MARBLES,
        "tests/test_streams.py::test_a_signal_is_as_drawn": _MARBLES,
        "tests/test_streams.py::test_every_is_as_drawn": _MARBLES,
        "tests/test_streams.py::test_a_window_is_as_drawn": _MARBLES,
        "tests/test_streams.py::test_latest_is_as_drawn": _MARBLES,
        "tests/test_streams.py::test_a_score_is_made_when_it_is_read_and_once": (
            "inherits from a compiled engine, which nothing interpreted can"
        ),
    },
}


def reported(what: str, right: bool, output: str) -> bool:
    """Print whether it is so, and what was written where it is not."""
    print(
        f"  {'ok    ' if right else 'FAILED'} {what}" + ("" if right else f"\n{output[-4000:]}"),
        flush=True,
    )
    return right


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
