"""Sweep the same settings in every way, and hold the results against one another.

    uv run --all-packages --group dev tools/swept.py               all of it: two to five minutes
    uv run --all-packages --group dev tools/swept.py other_code    in one process, and that way

    here ─► digest     1, 2, 4 workers · a worker killed · a sweep killed, and taken up again
                       a scheduler and workers over mutual TLS, one of them killed
                       a worker of other code, which is refused

Every way has to find the same digest, with nothing missing, and to leave no process behind. Exit
code 1 if anything is not so.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import psutil

ROOT: Final = Path(__file__).resolve().parent.parent
GRID: Final = """\
policy.max_leverage: [1, 1.5, 2]
strategies.rank.enter: [55, 60, 65, 70]
"""
WAYS: Final = ("workers", "killed_worker", "killed_sweep", "dask", "other_code")
_PATIENCE_S: Final = 120.0


def main(arguments: Sequence[str]) -> int:
    """Run every way; print a line each, and what is not the same."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300.0, help="of the recording (300)")
    parser.add_argument(
        "ways", nargs="*", metavar="WAY", help=f"any of {', '.join(WAYS)} (default: all)"
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="swept-") as name:
        ways = Ways(Path(name), options.seconds)
        for name in ("here", *(options.ways or WAYS)):
            ways.run(getattr(ways, name))
        return 1 if ways.broken else 0


class Ways:
    """Ways to run one sweep, in a folder; `broken` has what came out otherwise."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.broken: list[str] = []
        self.digest = ""
        self._folder, self._seconds, self._count = folder, seconds, 0
        (folder / "grid.yaml").write_text(GRID, encoding="utf-8")

    def run(self, way: Callable[[], str]) -> None:
        """Run one way, and print what came of it."""
        began = time.monotonic()
        try:
            words, verdict = way(), "holds"
        except AssertionError as error:
            words, verdict = str(error), "BROKEN"
            self.broken.append(words)
        name = way.__name__.replace("_", " ")
        print(f"{verdict:<8}{name:<15}{words}, {time.monotonic() - began:.0f} s", flush=True)

    # === Each way ===

    def here(self) -> str:
        """Sweep in one process, after which all others are measured by its digest."""
        found = self._finished(self._begun("here"))
        self.digest = found["results_hash"]
        require(found["results"] == 12, f"12 results, got {found['results']}")
        return f"{found['results']} results, hash {self.digest[:12]}"

    def workers(self) -> str:
        """Sweep with one, two and four processes."""
        for count in (1, 2, 4):
            self._same(self._finished(self._begun(f"local:{count}")))
        return "1, 2, 4 workers: the same"

    def killed_worker(self) -> str:
        """Kill a worker as soon as one is at work."""
        running = self._begun("local:2")
        worker = self._worker_of(running)
        worker.kill()
        self._same(self._finished(running))
        return "one of two workers killed: the same"

    def killed_sweep(self) -> str:
        """Kill the sweep once something is finished; its workers end, and it goes on."""
        running = self._begun("local:2")
        out = self._out
        wait_until(lambda: (out / "results.jsonl").stat().st_size > 0, "a first result", running)
        workers = psutil.Process(running.pid).children(recursive=True)
        running.kill()
        running.wait()
        _, alive = psutil.wait_procs(workers, timeout=10)
        require(not alive, f"no worker after its sweep, got {len(alive)}")
        with (out / "results.jsonl").open("ab") as file:
            file.write(b'{"key":{"recording":"')  # as a write that was cut off
        found = self._finished(self._begun("local:2", out))
        self._same(found)
        return "killed, torn and taken up again: the same"

    def dask(self) -> str:
        """Sweep on two workers of a scheduler over mutual TLS, one of which is killed."""
        with self._cluster() as (address, workers):
            certs = ["--certs", str(self._folder / "certs")]
            refused = self._begun(f"dask://{address}")
            _, words = refused.communicate(timeout=_PATIENCE_S)
            require(refused.returncode == 2, f"no word without certificates, got {words}")
            running = self._begun(f"dask://{address}", more=certs)
            wait_until(lambda: self._lines(self._out) > 0, "a first result", running)
            children(workers)[0].kill()
            self._same(self._finished(running))
        return "over TLS, a worker killed: the same; without certificates refused"

    def other_code(self) -> str:
        """Sweep on a worker whose sources were edited: nothing is taken from it."""
        own = self._folder / "edited"
        shutil.copytree(ROOT / "apps" / "bot" / "src" / "bot", own / "bot")
        with (own / "bot" / "times.py").open("a", encoding="utf-8") as file:
            file.write("\n# edited\n")
        with self._cluster({"PYTHONPATH": str(own)}) as (address, _):
            certs = ["--certs", str(self._folder / "certs")]
            running = self._begun(f"dask://{address}", more=certs)
            found = self._finished(running, code=1)
        require(found["results"] == 0, f"no result of other code, got {found['results']}")
        why = {one["why"][:15] for one in found["missing"]}
        require(why == {"another version"}, f"another version, got {why}")
        return "refused: another version"

    # === Processes ===

    def _begun(
        self, engine: str, out: Path | None = None, more: Sequence[str] = ()
    ) -> subprocess.Popen[str]:
        self._count += out is None
        self._out = out or self._folder / f"out-{self._count}"
        return bot(
            "sweep", str(self._folder / "grid.yaml"), "quickstart",
            "--seconds", str(self._seconds), "--engine", engine, "--out", str(self._out),
            "--database", "none", "--json", *more,
        )  # fmt: skip

    def _finished(self, running: subprocess.Popen[str], code: int = 0) -> dict[str, Any]:
        printed, words = running.communicate(timeout=_PATIENCE_S)
        require(running.returncode == code, f"{code}, got {running.returncode}: {words[-400:]}")
        found: dict[str, Any] = json.loads(printed)
        return found

    def _same(self, found: dict[str, Any]) -> None:
        require(not found["missing"], f"nothing missing, got {found['missing']}")
        got = found["results_hash"]
        require(got == self.digest, f"hash {self.digest[:12]}, got {got[:12]}")

    def _worker_of(self, running: subprocess.Popen[str]) -> psutil.Process:
        def working() -> list[psutil.Process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                return [one for one in children(running) if one.cpu_times().user > 0.8]
            return []

        wait_until(lambda: bool(working()), "a worker at work", running)
        return working()[0]

    def _lines(self, out: Path) -> int:
        path = out / "results.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    @contextlib.contextmanager
    def _cluster(
        self, environment: dict[str, str] | None = None
    ) -> Iterator[tuple[str, subprocess.Popen[str]]]:
        certs = self._folder / "certs"
        if not certs.exists():
            made = bot("sweep", "certs", str(certs))
            require(made.wait(_PATIENCE_S) == 0, "certificates, got none")
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        how = ["--certs", str(certs)]
        with contextlib.ExitStack() as stack:
            scheduler = stack.enter_context(ended(bot("sweep", "scheduler", address, *how)))
            line(scheduler, "scheduler")
            worker = bot(
                "sweep", "worker", address, *how, "--workers", "2", environment=environment
            )
            stack.enter_context(ended(worker))
            line(worker, "workers")
            yield address, worker


def bot(*typed: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a bot."""
    command = [sys.executable, "-m", "bot", *typed]
    env = {**os.environ, "DYDX_CONFIG": "none", **(environment or {})}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=pipe, stderr=pipe)


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Interrupt a process at the end, as Ctrl-C does."""
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def line(process: subprocess.Popen[str], name: str) -> None:
    """Wait for the line that a process begins with."""
    found = "" if process.stdout is None else process.stdout.readline()
    require(found.startswith(name), f"a line of the {name}, got {found!r}")


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the processes that a process has begun, those at work first."""
    found = psutil.Process(process.pid).children(recursive=True)
    return sorted(found, key=lambda one: -one.cpu_times().user)


def wait_until(holds: Callable[[], bool], what: str, running: subprocess.Popen[str]) -> None:
    """Wait for what will soon be so."""
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until and running.poll() is None:
        with contextlib.suppress(OSError):
            if holds():
                return
        time.sleep(0.05)
    raise AssertionError(f"expected {what}, got none (exit code {running.poll()})")


def require(holds: bool, expected: str) -> None:
    """Raise what was expected, and what it was, where it does not hold."""
    if not holds:
        raise AssertionError(f"expected {expected}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
