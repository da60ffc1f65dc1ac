"""A bot in a process of its own that answers over HTTP, for tools that call it.

    words, environment ──► answering ──► Answering: the process, its URL, its tokens' files

It is ended by Ctrl-C however that goes, as a person ends it.
"""

import contextlib
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

_ANSWERS = re.compile(r"answers at (\S+)")
_PATIENCE_S = 60.0


class Answering(NamedTuple):
    """A bot that answers: `state` is its state directory, in which it has made its tokens."""

    process: "subprocess.Popen[str]"
    url: str
    state: Path

    def token_file(self, kind: str = "read") -> Path:
        """Return the file of a token, "read" or "trading"."""
        return self.state / "dydx-bot" / f"api-{kind}.token"

    def token(self, kind: str = "read") -> str:
        """Return a token."""
        return self.token_file(kind).read_text(encoding="ascii").strip()


@contextlib.contextmanager
def answering(words: Sequence[str], environment: Mapping[str, str]) -> Iterator[Answering]:
    """Start `bot` with words and `--api`; yields it once it answers.

    The environment names its state directory: XDG_STATE_HOME.
    """
    command = [sys.executable, "-m", "bot", *words, "--api", "127.0.0.1:0"]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    with ended(process):
        lines = iter(process.stderr.readline, "") if process.stderr else iter(())
        url = next((found[1] for line in lines if (found := _ANSWERS.search(line))), None)
        if url is None:
            raise SystemExit("expected a bot that answers, got one that ended")
        yield Answering(process, url, Path(environment["XDG_STATE_HOME"]))


@contextlib.contextmanager
def ended(process: "subprocess.Popen[Any]") -> Iterator[None]:
    """End a process by Ctrl-C, however this goes."""
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=_PATIENCE_S)  # what it prints still is read, and forgotten
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """Return a port that is free by now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
