"""Servers for tests, on the loopback.

postgresql_server: Debian's own PostgreSQL, as a user that owns nothing else
http_server: whatever a test answers to a path
venue_process: the stand-in of the venue, in a process of its own
"""

import contextlib
import ctypes
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NamedTuple

# === PostgreSQL ===

PASSWORD = "hunter2"
_PDEATHSIG = 1  # of linux/prctl.h


def programs() -> Path | None:
    """Return where the server's programs are: on the path, or where Debian puts them."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


def unprivileged() -> str | None:
    """Return who runs the server, which refuses root: us, or a user that is there for it."""
    if os.getuid():
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    return None


@contextlib.contextmanager
def postgresql_server() -> Iterator[str]:
    """Run a server; yield its URL without a database. `OSError` where it cannot be."""
    found, user = programs(), unprivileged()
    if found is None:
        raise OSError("expected PostgreSQL's programs, got none (Debian: apt install postgresql)")
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pg-")))
        (place / "word").write_text(PASSWORD)
        if user is not None:
            for path in (place, place / "word"):
                shutil.chown(path, user)
        how: dict[str, Any] = {
            "user": user,
            "cwd": place,
            "stdin": subprocess.DEVNULL,
            "umask": 0o077,
        }
        made = subprocess.run(
            [
                found / "initdb", "-D", place / "db", "-U", "bot", "--auth=scram-sha-256",
                "--pwfile", place / "word", "--no-sync", "--no-instructions", "-E", "UTF8",
                "--locale=C",
            ],
            check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **how,
        )  # fmt: skip
        if made.returncode:
            raise OSError(f"expected initdb to make a database, got {made.stderr.strip()}")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        options = ("fsync=off", "full_page_writes=off", "unix_socket_directories=", f"port={port}")
        server = subprocess.Popen(
            [found / "postgres", "-D", place / "db", *(f"--{each}" for each in options)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=_end_with_us,  # noqa: PLW1509 - it takes no lock
            **how,
        )  # fmt: skip
        try:
            _answering(server, place / "db" / "postmaster.pid")
            yield f"postgresql+psycopg://bot:{PASSWORD}@127.0.0.1:{port}/"
        finally:
            server.send_signal(signal.SIGQUIT)  # at once: nobody will want what is in it
            server.wait(30)


def _end_with_us() -> None:
    # Tests that are killed leave no server behind.
    ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGQUIT)


def _answering(server: subprocess.Popen[bytes], status: Path) -> None:
    # It listens before it is ready: on a busy machine whoever connects then is refused.
    for _ in range(1_200):
        if server.poll() is not None:
            raise OSError(f"expected PostgreSQL to run, got exit code {server.returncode}")
        with contextlib.suppress(OSError):
            if status.read_text().split()[-1:] == ["ready"]:
                return
        time.sleep(0.025)
    raise OSError("expected PostgreSQL to answer within 30 s, got nothing")


# === HTTP ===


@contextlib.contextmanager
def http_server(get: Callable[[str], tuple[int, bytes]]) -> Iterator[str]:
    """Answer each GET of a path by status and body; yield where, HOST:PORT."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = get(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


# === The venue ===


class VenueProcess(NamedTuple):
    """The stand-in of the venue, and what it printed of itself."""

    process: "subprocess.Popen[str]"
    printed: str

    @property
    def fields(self) -> dict[str, Any]:
        """Return its network as a file of one has it."""
        patterns = {"rest": r"REST\s+(\S+)", "ws": r"(ws\S+/v4/ws)", "node": r"gRPC\s+(\S+)"}
        found = {name: re.search(pattern, self.printed) for name, pattern in patterns.items()}
        where: dict[str, Any] = {name: match[1] for name, match in found.items() if match}
        return where | {"name": "venue", "chain_id": "localdydxprotocol"}

    def write(self, path: Path) -> Path:
        """Write its network to a file."""
        path.write_text("".join(f'{name} = "{text}"\n' for name, text in self.fields.items()))
        return path


@contextlib.contextmanager
def venue_process(*options: str, patience_s: float = 60.0) -> Iterator[VenueProcess]:
    """Run a venue on free ports; it is ended if it still runs."""
    ports = ("--port", "0", "--ws-port", "0", "--grpc-port", "0")
    command = [sys.executable, str(Path(__file__).parent / "venue"), *ports, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        printed = ""
        for line in process.stdout or ():
            printed += line
            if line.startswith("Ctrl-C"):
                break
        try:
            yield VenueProcess(process, printed)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(patience_s)
