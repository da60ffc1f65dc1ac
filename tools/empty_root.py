"""Try the executable in a root where there is nothing else, beside what the sources do.

    dist/bot · the C library · a home ─► an empty root ─► bot … ─┐
    the same, typed to the sources ──────────────────────────────┴─► a line for each trial

No Python is in it, no certificates, no time zones, no shell; /proc, two devices and the loopback
alone are the machine's. It wants Linux, util-linux (unshare) and either root or user
namespaces, else it is skipped. Trials are rows of `TRIALS`; exit code 1 if one failed.
"""

import ast
import contextlib
import os
import pty
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

from servers import venue_process

ROOT: Final = Path(__file__).resolve().parent.parent
SKIPPED: Final = 77
FIRST_REPORT_S: Final = 5.0
# What any system with glibc has, and what no executable has within.
C_LIBRARY: Final = re.compile(
    r"(ld-linux.*|lib(c|m|dl|rt|pthread|util|resolv|nss_(files|dns)|z))\.so\.\d+"
)
_ENTER: Final = """\
mount -t proc proc "$1/proc" &&
for device in null urandom; do mount --bind "/dev/$device" "$1/dev/$device" || exit; done &&
exec chroot "$@"
"""


class Done(NamedTuple):
    """How a command ended: its exit code, what it printed, how long it took, and of a core."""

    code: int
    out: str
    took_s: float
    busy_s: float


class TrialError(Exception):
    """A trial came out otherwise than it should."""


class EmptyRoot:
    """A folder that is the whole file system of what runs in it."""

    def __init__(self, path: Path, executable: Path) -> None:
        self.path = path
        for name in ("proc", "dev", "tmp", "home"):
            (path / name).mkdir()
        for name in ("null", "urandom"):
            (path / "dev" / name).touch()
        if executable.parent.name == "bot-folder":
            shutil.copytree(executable.parent, path / "bot-folder")
            (path / "bot").symlink_to("bot-folder/bot")
        else:
            shutil.copy(executable, path / "bot")
        for library in _c_library():
            (path / library.parent.relative_to("/")).mkdir(parents=True, exist_ok=True)
            shutil.copy(library, path / library.relative_to("/"))

    def typed(self, arguments: Sequence[str]) -> list[str]:
        """Return the command that runs the bot within, with /proc of its own."""
        ours = [] if os.getuid() == 0 else ["--map-root-user"]
        enter = ["unshare", *ours, "--mount", "--pid", "--fork", "--kill-child"]
        return [*enter, "sh", "-c", _ENTER, "sh", str(self.path), "/bot", *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """Return all the variables there are within; PATH is for what enters."""
        return {"HOME": "/home", "PATH": os.environ["PATH"], "TERM": "xterm-256color"}

    def run(self, *arguments: str, timeout_s: float = 120.0) -> Done:
        """Run the bot within."""
        return _run(self.typed(arguments), self.environment, timeout_s)

    def write(self, name: str, text: str) -> Path:
        """Write a file into it, which is /NAME there; return where it is here."""
        (self.path / name).write_text(text)
        return self.path / name


def sources(*arguments: str, config: str = "none") -> Done:
    """Run the bot of the sources on the same."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "HOME": home, "DYDX_CONFIG": config}
        return _run([sys.executable, "-m", "bot", *arguments], environment, 120.0)


def _run(command: Sequence[str], environment: dict[str, str], timeout_s: float) -> Done:
    started, before = time.monotonic(), _children_s()
    done = subprocess.run(
        command, env=environment, check=False, timeout=timeout_s, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, time.monotonic() - started, _children_s() - before)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _c_library() -> Iterator[Path]:
    """Yield the files of the C library, and of zlib, which PyInstaller's starter needs."""
    listed = subprocess.run(["/sbin/ldconfig", "-p"], check=True, capture_output=True, text=True)
    python = Path(sys.executable).resolve().read_bytes()[4:5]  # of 32 or 64 bits
    for line in listed.stdout.splitlines():
        name, _, path = line.strip().partition(" (")[0], *line.rpartition(" => ")[1:]
        if C_LIBRARY.fullmatch(name) and Path(path).read_bytes()[4:5] == python:
            yield Path(path)
    # Where each program looks for its loader.
    yield from Path("/lib64").glob("ld-linux*.so.*")


# === Trials ===


def _ended(done: Done, wanted: int = 0) -> str:
    if done.code != wanted:
        raise TrialError(f"expected exit code {wanted}, got {done.code}: {done.out[-2000:]}")
    return done.out


def _hash(done: Done) -> str:
    found = re.search(r'"run_hash": "(\w+)"', _ended(done))
    if found is None:
        raise TrialError(f"expected a run hash, got {done.out[-2000:]}")
    return found[1]


def _same(found: str, wanted: str, what: str) -> None:
    if found != wanted:
        raise TrialError(f"expected {what} {wanted!r} as the sources have it, got {found!r}")


def it_names_its_commit(root: EmptyRoot) -> str:
    """The version is the sources' own, and a commit is known."""
    done = root.run("--version")
    out = _ended(done).strip()
    if re.fullmatch(r"bot \S+ \([0-9a-f]{12}(\+changes)?\)", out) is None:
        raise TrialError(f"expected version and commit, got {out!r}")
    return f"{out}, within {done.took_s:.2f} s"


def help_answers(root: EmptyRoot) -> str:
    """And how soon."""
    done = min((root.run("--help") for _ in range(3)), key=lambda done: done.busy_s)
    return f"within {done.took_s:.2f} s, {done.busy_s:.2f} s of a core"


def the_recording_gives_the_same_hash(root: EmptyRoot) -> str:
    """The default recording, which is within; the first report is there soon.

    It is held to what it takes of a core: others may have the machine's at the same time.
    """
    done, wanted = root.run("replay", "quickstart", "--json"), sources("replay", "--json")
    _same(_hash(done), _hash(wanted), "the run hash")
    if done.busy_s > FIRST_REPORT_S:
        raise TrialError(f"expected a report within {FIRST_REPORT_S:g} s, got {done.busy_s:.1f} s")
    return (
        f"{_hash(done)[:8]}…, within {done.took_s:.1f} s, {done.busy_s:.1f} s of a core (the "
        f"sources: {wanted.took_s:.1f} s and {wanted.busy_s:.1f} s)"
    )


def a_strategy_of_a_file_gives_the_same_hash(root: EmptyRoot) -> str:
    """The example of the README, which imports a layer; and it can be checked."""
    [example] = re.findall(
        r"```python\n(# contrarian.*?)```", (ROOT / "README.md").read_text(), re.S
    )
    file = root.write("contrarian.py", example)
    found = _hash(root.run("replay", "--strategy", "contrarian.py", "--json"))
    _same(found, _hash(sources("replay", "--strategy", str(file), "--json")), "the run hash")
    arguments = ("strategy", "check", "contrarian.py", "account", "--seconds", "120", "--json")
    checked = root.run(*arguments)
    if checked.code not in (0, 1) or '"exit code' in checked.out:
        raise TrialError(f"expected a strategy that was checked, got {checked.out[-2000:]}")
    return f"{found[:8]}…, and it is checked"


def the_file_of_settings_beside_it_counts(root: EmptyRoot) -> str:
    """Its settings are read from where it is started, and change what is decided."""
    file = root.write("bot.yaml", "strategies:\n  rank:\n    gross_share: 0.5\n")
    try:
        found = _hash(root.run("replay", "--json"))
        wanted = _hash(sources("replay", "--config", str(file), "--json"))
        _ended(root.run("config", "check"))
    finally:
        file.unlink()
    _same(found, wanted, "the run hash")
    return f"{found[:8]}…"


def every_module_can_be_imported(root: EmptyRoot) -> str:
    """All modules of the bot and its layers, and all that any of them imports anywhere."""
    names = sorted(imported())
    root.write("all_of_it.py", _IMPORTS.format(names=names))
    out = root.run("replay", "account", "--strategy", "all_of_it.py").out
    found = re.search(r"imported (\d+), not (\[.*?\])", out, re.S)
    if found is None or found[2] != "[]":
        raise TrialError(f"expected to import all, got {found[0] if found else out[-2000:]}")
    return f"{found[1]} names"


_IMPORTS: Final = """\
import importlib

lacking = []
for name in {names!r}:
    try:
        importlib.import_module(name)
    except ImportError as error:
        lacking.append(f"{{name}}: {{error}}")
raise ValueError(f"imported {{len({names!r})}}, not {{lacking}}")
"""


def imported() -> Iterator[str]:
    """Yield the modules of the workspace and what these import, as far as it is installed here."""
    folders = [ROOT / "apps" / "bot" / "src", *ROOT.glob("packages/*/src")]
    for folder in folders:
        for file in folder.rglob("*.py"):
            parts = file.relative_to(folder).with_suffix("").parts
            if "migrations" in parts:  # are read as files
                continue
            yield ".".join(part for part in parts if part != "__init__")
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    yield from _installed(node.module)
                elif isinstance(node, ast.Import):
                    yield from (name for one in node.names for name in _installed(one.name))


def _installed(name: str) -> Iterator[str]:
    with contextlib.suppress(ModuleNotFoundError):  # of another system
        if find_spec(name) is not None:
            yield name


def paper_trades_on_a_network(root: EmptyRoot) -> str:
    """Frames of the stand-in on the loopback, a database, and what is served meanwhile."""
    _ended(root.run("token", "read"))
    [token] = root.path.rglob("api-read.token")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*free.getsockname())
    with venue_process("--speed", "5", "--count", "2") as venue, ThreadPoolExecutor(1) as pool:
        venue.write(root.path / "venue.toml")
        run = pool.submit(
            root.run, "paper", "--network", "venue.toml", "--seconds", "15", "--tickers",
            "BTC-USD,ETH-USD", "--api", address,
        )  # fmt: skip
        served = _served(f"http://{address}/status", token.read_text().strip(), run.done)
        printed = _ended(run.result())
    listed = _ended(root.run("pnl", "--by", "run"))
    stored = (root.path / "home/.local/share/dydx-bot/bot.db").is_file()
    if not stored or "BTC-USD" not in served or not re.search(r"^1 ", listed, re.M):
        raise TrialError(f"expected a run in the database, got {served}{printed}{listed}")
    return f"a run of 15 s is in the database, and was served: {len(served):,} bytes of status"


def _served(url: str, token: str, is_over: Callable[[], bool]) -> str:
    """Return what is served at a URL, as soon as it is."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    while not is_over():
        try:
            with urllib.request.urlopen(request, timeout=5.0) as answer:
                text: str = answer.read().decode()
                if "BTC-USD" in text:
                    return text
        except OSError as error:
            lacking = str(error)
        else:
            lacking = text
        time.sleep(0.2)
    return lacking


def a_page_of_charts_is_written(root: EmptyRoot) -> str:
    """Which needs plotly, and its JavaScript, from within."""
    _ended(root.run("calibrate", "account", "--html", "page.html"))
    size = (root.path / "page.html").stat().st_size
    if size < 1_000_000:
        raise TrialError(f"expected a page with plotly in it, got {size:,} bytes")
    return f"{size / 2**20:.1f} MiB"


def a_notice_is_received(root: EmptyRoot) -> str:
    """By a webhook on the loopback: plug-ins are found, and so is a time zone."""
    received: list[bytes] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        url = f"json://127.0.0.1:{server.server_port}/"
        settings = f"notify:\n  timezone: Europe/Zurich\n  sinks:\n  - name: hook\n    url: {url}\n"
        file = root.write("bot.yaml", settings)
        try:
            _ended(root.run("notify", "test"))
        finally:
            file.unlink()
            server.shutdown()
    if not received:
        raise TrialError("expected a notice, got none")
    return f"{len(received[0])} bytes by a webhook"


def a_run_is_reported_on_a_page(root: EmptyRoot) -> str:
    """Of a recording: curves, trades and why."""
    _ended(root.run("report", "account", "--html", "report.html"))
    return f"{(root.path / 'report.html').stat().st_size / 2**20:.1f} MiB"


def the_dashboard_is_drawn(root: EmptyRoot) -> str:
    """On a terminal; and how soon."""
    started = time.monotonic()
    child, terminal = pty.fork()
    if child == 0:
        os.execvpe("unshare", root.typed(["replay", "quickstart"]), root.environment)
    drawn = b""
    try:
        while b"BTC-USD" not in drawn and time.monotonic() - started < 30:
            if select.select([terminal], [], [], 1.0)[0]:
                drawn += os.read(terminal, 65_536)
        took_s = time.monotonic() - started
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)
    if b"BTC-USD" not in drawn:
        raise TrialError(f"expected a dashboard, got {drawn[-1000:]!r}")
    return f"within {took_s:.1f} s"


TRIALS: Final[dict[str, Callable[[EmptyRoot], str]]] = {
    "version": it_names_its_commit,
    "help": help_answers,
    "recording": the_recording_gives_the_same_hash,
    "modules": every_module_can_be_imported,
    "strategy": a_strategy_of_a_file_gives_the_same_hash,
    "settings": the_file_of_settings_beside_it_counts,
    "paper": paper_trades_on_a_network,
    "charts": a_page_of_charts_is_written,
    "report": a_run_is_reported_on_a_page,
    "notice": a_notice_is_received,
    "dashboard": the_dashboard_is_drawn,
}


def tried(executable: Path, only: Sequence[str] = ()) -> int:
    """Try all of it, or these; print a line for each trial, and return the exit code."""
    with tempfile.TemporaryDirectory(prefix="empty-root-") as folder:
        root = EmptyRoot(Path(folder), executable)
        within = sorted(str(path.relative_to(folder)) for path in root.path.rglob("*.so*"))
        print(f"in the root: bot, {', '.join(within) if len(within) < 30 else 'its folder'}")
        if (lacking := _lacking(root)) is not None:
            print(f"expected Linux, unshare and root or user namespaces, got {lacking}")
            return SKIPPED
        chosen = {name: TRIALS[name] for name in only or TRIALS}
        failures = [name for name, trial in chosen.items() if not _came_out(name, trial, root)]
    return 1 if failures else 0


def _lacking(root: EmptyRoot) -> str | None:
    """Return why nothing can be run in a root of its own here, None where it can."""
    enter = root.typed([])
    try:
        done = subprocess.run(
            [*enter[: enter.index("sh")], "mount", "--bind", "/dev/null", root.path / "dev/null"],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
    except OSError as error:
        return str(error)
    return done.stderr.strip() if done.returncode else None


def _came_out(name: str, trial: Callable[[EmptyRoot], str], root: EmptyRoot) -> bool:
    try:
        print(f"{name:<10} ok      {trial(root)}", flush=True)
    except (TrialError, subprocess.TimeoutExpired) as error:
        print(f"{name:<10} FAILED  {error}", flush=True)
        return False
    return True
