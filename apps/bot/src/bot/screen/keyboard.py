"""What a person presses and clicks, as names of keys.

    terminal ── bytes ──► keyboard thread ── parsed ──► queue ──► bot.screen.screen
    Ctrl-Z, fg ── signals ── SUSPEND, CONTINUED ───┘

A key is its letter, or a name for what comes as a sequence of bytes; what the mouse does is a
`Click`. Where there is no terminal, or a system without `termios`, nothing is pressed: the run goes
on as it is.
"""

import contextlib
import os
import queue
import re
import select
import signal
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

# Windows has none.
HAS_TERMIOS: Final = find_spec("termios") is not None
if HAS_TERMIOS:
    import termios
    import tty

KEYLESS: Final = "keys do not work here: this system has no termios (Ctrl-C ends the run)"
SUSPEND: Final = "suspend"
CONTINUED: Final = "continued"

# === Keys ===
# Bytes of a terminal become keys: one table of sequences, and the mouse as SGR 1006 reports it.


class Click(NamedTuple):
    """The mouse's left button ("click") or its wheel ("up", "down") on a cell, from 0."""

    what: str
    x: int
    y: int


Key = str | Click

_SEQUENCE: Final = re.compile(r"\x1b\[<\d+;\d+;\d+[Mm]|\x1b(?:\[[0-9;]*|O)[A-Za-z~]|.", re.DOTALL)
# What may still become a sequence: a read may end within one.
_BEGUN: Final = re.compile(r"\x1b(?:\[(?:<?[0-9;]*)?|O)?\Z")
_MOUSE: Final = re.compile(r"\x1b\[<(\d+);(\d+);(\d+)M")
_BUTTONS: Final = {0: "click", 64: "up", 65: "down"}
_NAMES: Final = {
    **{"\x1b[A": "up", "\x1b[B": "down", "\x1b[C": "right", "\x1b[D": "left"},
    **{"\x1bOA": "up", "\x1bOB": "down", "\x1bOC": "right", "\x1bOD": "left"},
    **{"\x1b[5~": "pageup", "\x1b[6~": "pagedown", "\x1b[Z": "back-tab", "\t": "tab"},
    **{"\x1b[H": "home", "\x1bOH": "home", "\x1b[1~": "home"},
    **{"\x1b[F": "end", "\x1bOF": "end", "\x1b[4~": "end"},
    **{"\n": "\r", "\x1a": SUSPEND},
}


def parsed(text: str) -> tuple[list[Key], str]:
    """Return the keys of a text, and what of it may go on in the next one."""
    begun = _BEGUN.search(text)
    whole, rest = (text[: begun.start()], begun.group()) if begun else (text, "")
    keys = (_key(sequence) for sequence in _SEQUENCE.findall(whole))
    return [key for key in keys if key], rest


def _key(sequence: str) -> Key:
    if mouse := _MOUSE.fullmatch(sequence):
        button, x, y = map(int, mouse.groups())
        return Click(_BUTTONS[button], x - 1, y - 1) if button in _BUTTONS else ""
    return _NAMES.get(sequence, sequence if len(sequence) == 1 else "")


# === Keyboard ===
# The thread that reads them, the terminal taken and given back, and Ctrl-Z.

_WAIT_S: Final = 0.1
_SPLIT_S: Final = 0.05  # an Esc alone is one after so long


class Keyboard:
    """Keys as they are pressed, read on a thread of their own; quiet where there are none."""

    def __init__(self, keys: "queue.SimpleQueue[Key]") -> None:
        self._keys = keys
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._saved: list[Any] = []

    def start(self) -> str:
        """Take single keys from the terminal; return why there are none, if so."""
        if not sys.stdin.isatty():
            return ""
        if not HAS_TERMIOS:
            return KEYLESS
        # After a stop the shell has its own modes on it: the first ones are to be given back.
        self._saved = self._saved or termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin)
        self._stopping.clear()
        self._thread = threading.Thread(target=self._read, name="keyboard", daemon=True)
        self._thread.start()
        return ""

    def stop(self) -> None:
        """Give the terminal its lines back; it can be taken again."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)
            with contextlib.suppress(OSError, termios.error):  # of a terminal that is closed
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._saved)
            self._thread = None

    def _read(self) -> None:
        rest = ""
        while not self._stopping.is_set():
            ready, _, _ = select.select([sys.stdin], [], [], _SPLIT_S if rest else _WAIT_S)
            if not ready:
                for key in rest:
                    self._keys.put(key)
                rest = ""
                continue
            try:
                text = os.read(sys.stdin.fileno(), 1024).decode("utf-8", "replace")
            except OSError:
                return
            if not text:
                return  # the terminal is closed: it would be ready for ever
            # Several presses may come at once.
            keys, rest = parsed(rest + text)
            for each in keys:
                self._keys.put(each)


@contextlib.contextmanager
def stopping(keys: "queue.SimpleQueue[Key]") -> Iterator[bool]:
    """Make keys of Ctrl-Z, unless somebody else takes it (a live run refuses it), and of SIGCONT.

    Yield whether Ctrl-Z is one. They wait in the queue: nothing is drawn within a signal.
    """
    made = {}
    if hasattr(signal, "SIGTSTP"):
        made[signal.SIGCONT] = lambda *_: keys.put(CONTINUED)
        if signal.getsignal(signal.SIGTSTP) == signal.SIG_DFL:
            made[signal.SIGTSTP] = lambda *_: keys.put(SUSPEND)
    former = {number: signal.signal(number, handler) for number, handler in made.items()}
    try:
        yield "SIGTSTP" in {number.name for number in made}
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def suspend() -> None:
    """Stop this program, as a shell's Ctrl-Z does; return when it is continued."""
    taken = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    try:
        os.kill(os.getpid(), signal.SIGTSTP)
    finally:
        signal.signal(signal.SIGTSTP, taken)
