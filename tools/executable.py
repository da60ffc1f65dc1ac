"""Build one executable with all that the bot needs, and try it where there is nothing else.

    uv run --all-packages --group dev --group build tools/executable.py          both: dist/bot
    … tools/executable.py --folder      a folder, dist/bot-folder, that starts a second faster
    … tools/executable.py --only try    what is in dist already

    bot ─► what it requires (its metadata) ─► modules, data, metadata ─┐
    recordings · migrations · commit · licences ───────────────────────┴─► PyInstaller ─► dist/bot
    dist/bot + the C library ─► an empty root ─► what tools/empty_root.py tries there

Nothing is listed by hand but what is left out, and why: whatever the bot requires is in it with all
its modules, imported by name or not. It runs on systems with a C library (glibc) as new as the one
that is named at the end or newer; /proc has to be mounted, /dev/null and /dev/urandom be there,
and /tmp, or what TMPDIR names, be written to and run from.
The same commit, built again on the same machine, gives the same bytes.

Exit code 1 if what was tried failed, 77 where it cannot be built or tried here.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from bot.licences import WITHIN, distributions
from bot.version import BUILT_OF

ROOT: Final = Path(__file__).resolve().parent.parent
DIST: Final = ROOT / "dist"
MEMBERS: Final = re.compile(r"bot|dydx-(conn|data|signals|strategy|risk|paper|panels)")
SKIPPED: Final = 77

LEFT_OUT: Final = {
    "grpc_tools": "compiles .proto files, which the client has compiled",
    "setuptools": "wanted by grpc_tools alone",
    "zstandard._cffi": "another way to what zstandard.backend_c does",
    "zstandard.backend_cffi": "the same",
}
# For notebooks, for type checkers, for whoever imports the sources.
FILES_LEFT_OUT: Final = re.compile(
    r"plotly/(labextension/.*|package_data/widgetbundle\.js)|.*\.pyi|(.*/)?(py\.typed|__pycache__/.*)"
)
# Their folders are searched for plug-ins, or read as text.
WITH_SOURCES: Final = ("apprise",)

LAUNCHER: Final = """\
from multiprocessing import freeze_support

from bot.__main__ import main

freeze_support()  # a worker of an engine is this program again
raise SystemExit(main())
"""

SPEC: Final = """\
import sys

sys.path.insert(0, {tools!r})
import executable

found = Analysis(
    [{launcher!r}], datas={datas!r}, hiddenimports={modules!r}, excludes={excluded!r}
)
found.datas = executable.with_licences(found.datas, found.binaries, {work!r})
archive = PYZ(found.pure)
rest = [found.binaries, found.datas]
exe = EXE(
    archive, found.scripts, *({folder!r} and [[]] or rest), exclude_binaries={folder!r},
    name="bot", console=True, strip={strip!r}, upx=False,
)
if {folder!r}:
    COLLECT(exe, *rest, name="bot-folder", strip={strip!r}, upx=False)
"""


def main() -> int:
    """Build and try, or one of both; return the exit code."""
    from empty_root import TRIALS, tried

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", action="store_true", help="a folder in place of one file")
    parser.add_argument("--only", choices=["build", "try"], help="one of both")
    parser.add_argument("trials", nargs="*", choices=[[], *TRIALS], help="these alone")
    arguments = parser.parse_args()
    built = DIST / "bot-folder" / "bot" if arguments.folder else DIST / "bot"
    if arguments.only != "try":
        if find_spec("PyInstaller") is None:
            print(
                "expected PyInstaller, got none: uv sync --all-packages --group dev --group build"
            )
            return SKIPPED
        build(folder=arguments.folder)
    if not built.is_file():
        print(f"expected {built}, got no such file: build it first")
        return 2
    print(f"{built.relative_to(ROOT)}: {described(built)}")
    return 0 if arguments.only == "build" else tried(built, arguments.trials)


def described(built: Path) -> str:
    """Return size and hash of a built file, and the C library it wants."""
    content = built.read_bytes()
    newest = (DIST / "glibc").read_text() if (DIST / "glibc").is_file() else "unknown"
    sha = hashlib.sha256(content).hexdigest()[:16]
    return f"{len(content) / 2**20:.0f} MiB, sha256 {sha}…, glibc {newest} or newer"


# === Building ===


def build(*, folder: bool) -> None:
    """Build into dist; `CalledProcessError` where PyInstaller fails."""
    # At the same place each time: paths of it are in what is built.
    work = Path(tempfile.gettempdir()) / f"bot-executable-{os.getuid()}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o700)
    try:
        (work / "bot_launcher.py").write_text(LAUNCHER)
        (work / BUILT_OF).write_text(commit() + "\n")
        spec = SPEC.format(
            tools=str(ROOT / "tools"), launcher=str(work / "bot_launcher.py"), work=str(work),
            datas=[*data_files(work)], modules=[*modules()], excluded=excluded(), folder=folder,
            strip=shutil.which("strip") is not None,
        )  # fmt: skip
        (work / "bot.spec").write_text(spec)
        subprocess.run(
            [
                sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "ERROR",
                "--distpath", str(DIST), "--workpath", str(work / "work"), str(work / "bot.spec"),
            ],
            check=True, env=os.environ | {"PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": made_at()},
        )  # fmt: skip
        shutil.copy(work / "glibc", DIST / "glibc")
    finally:
        shutil.rmtree(work)


def commit() -> str:
    """Return the commit that is built, and that there is more than it where there is."""
    return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")


def made_at() -> str:
    """Return when the commit was made, in seconds: no build is of another time."""
    return git("log", "-1", "--format=%ct")


def git(*arguments: str) -> str:
    """Run git in the workspace and return what it printed."""
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout.strip()


def packages(names: Iterable[str]) -> set[str]:
    """Return the import packages of distributions."""
    wanted = set(names)
    # Of what is installed to be edited nobody knows which files it has.
    own = {name.replace("-", "_") for name in wanted if MEMBERS.fullmatch(name)}
    return own | {
        package
        for package, owners in packages_distributions().items()
        if wanted & {owner.lower().replace("_", "-").replace(".", "-") for owner in owners}
        and find_spec(package) is not None
    }


def modules() -> Iterator[str]:
    """Yield all modules of the bot, of its layers, and of what these require themselves.

    What is imported by a name that is put together as it runs, no search of the code finds.
    """
    from PyInstaller.utils.hooks import collect_submodules

    direct: set[str] = set()
    for name, found in distributions().items():
        if MEMBERS.fullmatch(name):
            required = [re.split(r"[\s<>=!~;\[(]", text)[0] for text in found.requires or ()]
            direct |= {name, *(one.lower() for one in required)}
    for package in sorted(packages(direct)):
        if package not in LEFT_OUT:
            yield from collect_submodules(package, on_error="ignore")


def data_files(work: Path) -> Iterator[tuple[str, str]]:
    """Yield each file that is no module, and the folder it is in."""
    from PyInstaller.utils.hooks import collect_data_files, copy_metadata

    found = distributions()
    for package in sorted(packages(found) - LEFT_OUT.keys()):
        try:
            yield from collect_data_files(package, include_py_files=package in WITH_SOURCES)
        except ValueError:  # a module of one file
            continue
    for name in found:
        try:
            yield from copy_metadata(name)
        except PackageNotFoundError:
            continue
    migrations = ROOT / "apps" / "bot" / "src" / "bot" / "database" / "migrations"
    yield str(migrations), "bot/database/migrations"
    # Those that are bundled, and none that somebody fetched.
    for recording in git("ls-files", "recordings/*.jsonl.zst").splitlines():
        if recording.count("/") == 1:
            yield str(ROOT / recording), "recordings"
    yield str(work / BUILT_OF), "bot"


def excluded() -> list[str]:
    """Return what is installed here and no part of the bot: tools, tests; and what is left out."""
    own = packages(distributions())
    others = {name for name in packages_distributions() if name not in own and "/" not in name}
    return sorted(others | LEFT_OUT.keys())


# === Within ===
# Runs inside PyInstaller, which has found by then what belongs in it.

Rows = list[tuple[str, str, str]]


def with_licences(datas: Rows, binaries: Rows, work: str) -> Rows:
    """Return the data without what is left out, and with a licence for each part."""
    place = Path(work) / WITHIN
    place.mkdir()
    for name, text in texts(binaries):
        (place / f"{name}.txt").write_text(text)
    (Path(work) / "glibc").write_text(wanted_glibc(Path(path) for _, path, _ in binaries))
    left = [row for row in datas if FILES_LEFT_OUT.fullmatch(row[0]) is None]
    return left + [(f"bot/{WITHIN}/{file.name}", str(file), "DATA") for file in place.iterdir()]


def texts(binaries: Rows) -> Iterator[tuple[str, str]]:
    """Yield names and licences of what is within and no distribution."""
    python = Path(sysconfig.get_path("stdlib")) / "LICENSE.txt"
    if python.is_file():
        yield "Python", python.read_text()
    maker = distribution("pyinstaller")
    for file in maker.files or ():
        if file.name == "COPYING.txt":
            yield f"PyInstaller-bootloader_{maker.version}", file.read_text()
    own = (sys.prefix, sys.base_prefix)
    paths = {os.path.realpath(path) for _, path, _ in binaries if not path.startswith(own)}
    yield from sorted({*map(of_system, sorted(paths))})


def of_system(path: str) -> tuple[str, str]:
    """Return the package that a library of the system is of, and its text: Debian has both."""
    unknown = f"{Path(path).name}_unknown", f"{path}: its package is not known here"
    if shutil.which("dpkg-query") is None:
        return unknown
    # A system whose /lib is a link to /usr/lib knows its files by either name.
    for one in (path, path.removeprefix("/usr")):
        done = subprocess.run(
            ["dpkg-query", "--search", one], check=False, capture_output=True, text=True
        )
        if done.returncode == 0:
            package = done.stdout.split(":")[0]
            version = subprocess.run(
                ["dpkg-query", "-W", "-f", "${Version}", package],
                check=True, capture_output=True, text=True,
            ).stdout.split()[0]  # fmt: skip
            file = Path("/usr/share/doc") / package / "copyright"
            text = file.read_text(errors="replace") if file.is_file() else "its text is not here"
            return f"{package}_{version.replace('/', '-')}", text
    return unknown


def wanted_glibc(paths: Iterable[Path]) -> str:
    """Return the newest version of the C library that any of these binaries names."""
    named = re.compile(rb"GLIBC_(\d+)\.(\d+)")
    found = {
        (int(major), int(minor))
        for path in paths
        for major, minor in named.findall(path.read_bytes())
    }
    return ".".join(map(str, max(found, default=(0, 0))))


if __name__ == "__main__":
    raise SystemExit(main())
