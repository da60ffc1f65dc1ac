"""A bot in a process of its own whose modules are loaded already: three seconds less a start.

    forkserver: imports what `bot trade` imports ──► fork ──► bot.__main__.main(typed)

Its environment, working directory and standard output are what a person's would be, and so is how
it ends; `python -m bot` itself is what it leaves out.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

# Nothing of these starts a thread as it is imported, or opens a channel.
_LOADED: Final = [
    "bot.__main__", "bot.live.trade", "bot.live.commands", "bot.database.store",
    "bot.database.remains", "dydx_v4_client.node.builder", "dydx_v4_client.node.client",
]  # fmt: skip


def _context() -> multiprocessing.context.ForkServerContext:
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(_LOADED)
    return made


_CONTEXT: Final = _context()


class Warm:
    """A bot that runs, with what the tests want of a `subprocess.Popen`."""

    def __init__(self, typed: Sequence[str]) -> None:
        number, name = tempfile.mkstemp(prefix="bot-")
        os.close(number)
        self._printed = Path(name)
        arguments = [*typed], dict(os.environ), name, str(Path.cwd())
        self._process = _CONTEXT.Process(target=_live, args=arguments, daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        """Return its process."""
        return self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        """Return how it ended, None if it runs."""
        return self._process.exitcode

    def kill(self) -> None:
        """Kill it as kill -9 does."""
        self._process.kill()

    def interrupt(self) -> None:
        """Interrupt it as Ctrl-C does."""
        os.kill(self.pid, signal.SIGINT)

    def printed(self, patience_s: float) -> str:
        """Wait for its end; return what it printed. `TimeoutError` if it goes on."""
        self._process.join(patience_s)
        if self._process.exitcode is None:
            raise TimeoutError(f"expected bot {self.pid} to end in {patience_s} s, got none")
        text = self._printed.read_text()
        self._printed.unlink()
        return text


def _live(typed: list[str], environment: Mapping[str, str], printed: str, where: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(where)
    with open(printed, "w") as file:
        os.dup2(file.fileno(), 1)
    from bot.__main__ import main

    code = main(typed)
    sys.stdout.flush()
    sys.exit(code)
