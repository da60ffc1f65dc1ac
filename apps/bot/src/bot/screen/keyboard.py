"""What a person presses, as names of keys.

    terminal ── bytes ──► keyboard thread ── keys ──► queue ──► bot.screen.screen

A key is its letter, or a name for what comes as a sequence of bytes. Where there is no terminal,
or a system without `termios`, nothing is pressed: the run goes on as it is.
"""

import contextlib
import os
import queue
import re
import select
import sys
import threading
from importlib.util import find_spec
from typing import Any, Final

# Windows has none.
HAS_TERMIOS: Final = find_spec("termios") is not None
if HAS_TERMIOS:
    import termios
    import tty

KEYLESS: Final = "keys do not work here: this system has no termios (Ctrl-C ends the run)"
_KEY: Final = re.compile(r"\x1b(?:\[[0-9;]*|O)[A-Za-z~]|.", re.DOTALL)
_NAMES: Final = {
    **{"\x1b[A": "up", "\x1b[B": "down", "\x1bOA": "up", "\x1bOB": "down"},
    **{"\x1b[5~": "pageup", "\x1b[6~": "pagedown"},
}


class Keyboard:
    """Keys as they are pressed, read on a thread of their own; quiet where there are none."""

    def __init__(self, keys: "queue.SimpleQueue[str]") -> None:
        self._keys = keys
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read, name="keyboard", daemon=True)
        self._saved: list[Any] | None = None

    def start(self) -> str:
        """Take single keys from the terminal; return why there are none, if so."""
        if not sys.stdin.isatty():
            return ""
        if not HAS_TERMIOS:
            return KEYLESS
        self._saved = termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin)
        self._thread.start()
        return ""

    def stop(self) -> None:
        """Give the terminal its lines back."""
        self._stopping.set()
        if self._saved is not None:
            self._thread.join(timeout=1.0)
            with contextlib.suppress(OSError, termios.error):  # of a terminal that is closed
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._saved)
            self._saved = None

    def _read(self) -> None:
        while not self._stopping.is_set():
            ready, _, _ = select.select([sys.stdin], [], [], 0.1)
            if ready:
                try:
                    text = os.read(sys.stdin.fileno(), 64).decode("utf-8", "replace")
                except OSError:
                    return
                if not text:
                    return  # the terminal is closed: it would be ready for ever
                # Arrows come as sequences, and several presses may come at once.
                for key in _KEY.findall(text):
                    self._keys.put(_NAMES.get(key, key if len(key) == 1 else ""))
