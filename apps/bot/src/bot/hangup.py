"""What a hangup (SIGHUP) means: the end of a terminal, or to a daemon that it reads its settings.

No layer is loaded for it: a daemon is not ended by one while it loads them, either.
"""

import os
import signal
from collections.abc import Callable
from typing import Final

# Whose runs read their settings again, as they do when they begin (bot.live.reload).
_RELOADING: Final = ("paper", "trade")
_TERMINAL: Final = "/dev/tty"  # whichever controls this process


def has_terminal() -> bool:
    """Return whether this process has a terminal that could hang up; a daemon has none."""
    try:
        os.close(os.open(_TERMINAL, os.O_RDWR | getattr(os, "O_NOCTTY", 0)))
    except OSError:
        return False
    return True


def passed(*_: object) -> None:
    """Let a signal pass."""


def handler_of(number: int, command: str) -> Callable[..., object]:
    """Return what a signal that ends programs does while a command starts, and while it ends."""
    is_hangup = number == getattr(signal, "SIGHUP", None)
    if is_hangup and command in _RELOADING and not has_terminal():
        return passed
    return signal.default_int_handler
