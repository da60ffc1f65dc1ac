"""Where the file of settings is, and whether anything is configured at all.

    DYDX_CONFIG, the working directory, the user's configuration directory ──► found ──► a path

It loads nothing: a command that reads one setting need not load the tree of all of them to find
that nobody has set any.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

FILE: Final = "bot.yaml"
NONE: Final = "none"
CONFIG: Final = "DYDX_CONFIG"  # what --config is where none is typed
PREFIX: Final = "DYDX__"


def found() -> Path | None:
    """Return the file that is used where none is typed: as DYDX_CONFIG says, or the first found.

    It is looked for in the working directory and in the configuration directory of the user.
    """
    if named := os.environ.get(CONFIG):
        return None if named == NONE else Path(named)
    home = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    if not home.is_absolute():  # as the standard of these directories has it
        home = Path.home() / ".config"
    places = (Path(FILE), home / "dydx-bot" / FILE)
    # What is there and no file is refused: who put it there means it to count.
    return next((path for path in places if os.path.lexists(path)), None)


def is_configured(named: str | None, environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether a file, as `named` or found, or a variable may set anything."""
    file = found() is not None if named is None else named != NONE
    return file or any(name.upper().startswith(PREFIX) for name in environment)
