"""Servers for tests, on the loopback.

postgresql_server: Debian's own PostgreSQL, as a user that owns nothing else
http_server: whatever a test answers to a path
venue_process: the stand-in of the venue, in a process of its own
places: where a bot of a test leaves all that it writes
"""

import contextlib
import ctypes
import os
import pwd
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

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


@dataclass
class VenueProcess:
    """The stand-in of the venue in a process of its own, and what it printed of itself."""

    process: "subprocess.Popen[str]"
    printed: str = ""

    def find(self, pattern: str) -> str:
        """Return what a pattern's group matches in what it printed."""
        if (found := re.search(pattern, self.printed)) is None:
            raise OSError(f"expected the venue to print {pattern}, got:\n{self.printed}")
        return found[1]

    @property
    def rest(self) -> str:
        """Return the address of its REST face."""
        return self.find(r"REST\s+(\S+)")

    @property
    def ws(self) -> str:
        """Return the address of its socket."""
        return self.find(r"WebSocket\s+(\S+/v4/ws)")

    @property
    def node(self) -> str:
        """Return the address of its node."""
        return self.find(r"node gRPC\s+(\S+)")

    @property
    def authority(self) -> str:
        """Return the file that a client must trust, over TLS."""
        return self.find(r"authority\s+(\S+)")

    @property
    def typed(self) -> list[str]:
        """Return its addresses as a bot takes them: REST, socket, node."""
        return ["--rest", self.rest, "--ws", self.ws, "--node", self.node]

    @property
    def fields(self) -> dict[str, Any]:
        """Return its network as a file of one has it."""
        where = {"rest": self.rest, "ws": self.ws, "node": self.node}
        return where | {"name": "venue", "chain_id": "localdydxprotocol"}

    def write(self, path: Path) -> Path:
        """Write its network to a file."""
        path.write_text("".join(f'{name} = "{text}"\n' for name, text in self.fields.items()))
        return path

    def query(self, path: str) -> Any:
        """Query its REST face over TLS, patiently and past every proxy."""
        import httpx

        trusted = ssl.create_default_context(cafile=self.authority)
        with httpx.Client(base_url=self.rest, verify=trusted, trust_env=False) as http:
            while True:
                answer = http.get(path)
                if answer.status_code != 429:
                    answer.raise_for_status()
                    return answer.json()
                time.sleep(int(answer.headers["Retry-After"]) / 1000)

    def require(self) -> None:
        """End it all if it has ended."""
        if (code := self.process.poll()) is not None:
            raise SystemExit(f"expected a venue that goes on, got exit code {code}: no proof")

    def stop(self, patience_s: float = 60.0) -> int:
        """End it as a service manager would; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(patience_s)


@contextlib.contextmanager
def venue_process(*options: str, patience_s: float = 60.0) -> Iterator[VenueProcess]:
    """Run a venue on free ports; it is ended if it still runs."""
    ports = ("--port", "0", "--ws-port", "0", "--grpc-port", "0")
    command = [sys.executable, str(Path(__file__).parent / "venue"), *ports, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        venue = VenueProcess(process)
        for line in process.stdout or ():
            venue.printed += line
            if line.startswith("Ctrl-C"):
                break
        try:
            yield venue
        finally:
            if process.poll() is None:
                venue.stop(patience_s)


def places(folder: Path) -> dict[str, str]:
    """Return the environment by which a bot leaves everything in a folder."""
    found = {f"XDG_{name}_HOME": str(folder / name.lower()) for name in ("STATE", "DATA", "CONFIG")}
    return found | {"XDG_RUNTIME_DIR": str(folder), "DYDX_CONFIG": "none"}
