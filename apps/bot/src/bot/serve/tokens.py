"""Who may look at a run and who may act: two tokens, each in a file that only its owner can read.

    bot token read | trading ──► a file, 0600 ──► Tokens.kind_of(what was sent) ──► "trading", None

A file is looked at again whenever it is another one, so that a new token counts at once and the one
before it no more. What was sent is compared in constant time, and stands in no log, error or URL.
"""

import argparse
import hmac
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from dydx_conn import ConnError

from bot.config.api import ApiSettings
from bot.run.acts import private, state_directory
from bot.system import replacing, secret_of

Kind = Literal["read", "trading"]
KINDS: Final[tuple[Kind, ...]] = ("trading", "read")

_BYTES: Final = 32
_LEAST: Final = 32  # characters of a token that somebody chose
_MOST: Final = 1_024


class TokenError(ConnError):
    """A token's file is not as it must be; the message has the file, and never the token."""


def default_file(kind: Kind) -> Path:
    """Return where a token is for whoever chose no file."""
    return state_directory() / f"api-{kind}.token"


def file_of(settings: ApiSettings, kind: Kind) -> Path:
    """Return where a token is."""
    chosen = settings.read_token if kind == "read" else settings.trading_token
    return Path(chosen) if chosen else default_file(kind)


def made(path: Path) -> None:
    """Write a new token into a file of its own, in place of the one that was there."""
    if path.parent == state_directory():
        private(path.parent)
    try:
        with replacing(path, on_disk=True) as file:
            file.write(f"{secrets.token_urlsafe(_BYTES)}\n".encode())
    except OSError as error:
        what = f"expected to write a token into {path}"
        raise TokenError(f"{what}, got {error.strerror or error}") from None


def read(path: Path) -> str:
    """Return the token in a file; `TokenError` if it could be anybody's, or is none."""
    try:
        text = secret_of(path, _MOST + 1)
    except OSError as error:
        words = f"expected a token in {path}, got {error.strerror or error}"
        raise TokenError(f"{words}: bot token makes one") from None
    except ConnError as error:
        raise TokenError(str(error)) from None
    token = text.strip().decode("ascii", "replace")
    if not (_LEAST <= len(token) <= _MOST and token.isprintable() and len(token.split()) == 1):
        what = f"expected {_LEAST} to {_MOST} letters and digits in {path}"
        raise TokenError(f"{what}, got {len(text)} bytes that are no such token")
    return token


class _Known:
    """One token as it was read last, and which file that was."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.token = ""
        self.stamp: tuple[int, ...] | None = ()

    def now(self, lost: Callable[[str], None]) -> str:
        """Return the token, read again if the file is another; "" while it is not as it must be."""
        try:
            found = self.path.lstat()
            stamp = (found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode, found.st_uid)
        except OSError:
            stamp = None
        if stamp != self.stamp:
            self.stamp, self.token = stamp, ""
            try:
                self.token = read(self.path)
            except TokenError as error:
                lost(str(error))
        return self.token


class Tokens:
    """The tokens of a run; `lost` gets the words where a file is not as it must be any more."""

    def __init__(
        self, settings: ApiSettings, lost: Callable[[str], None] = lambda words: None
    ) -> None:
        self.lost = lost
        self._known = {kind: _Known(file_of(settings, kind)) for kind in KINDS}

    def require(self) -> list[str]:
        """Make what is missing and read all; return the files that were made. `TokenError`."""
        new = [each.path for each in self._known.values() if not _is_there(each.path)]
        for path in new:
            made(path)
        if len({read(each.path) for each in self._known.values()}) < len(self._known):
            paths = " and ".join(str(each.path) for each in self._known.values())
            raise TokenError(f"expected two tokens in {paths}, got the same twice")
        return [str(path) for path in new]

    def kind_of(self, sent: str) -> Kind | None:
        """Return what a token may do, None if it is none of ours."""
        found: Kind | None = None
        for kind, each in self._known.items():
            token = each.now(self.lost)
            # Both are compared, whatever the first one gives: how long it takes says nothing.
            if hmac.compare_digest(token.encode(), sent.encode()) and token:
                found = kind  # of a token that is both the lesser one, which comes last
        return found


def _is_there(path: Path) -> bool:
    return os.path.lexists(path)


# === Command ===


def token(arguments: argparse.Namespace) -> int:
    """Make a token, unless there is one, and print where it is."""
    from bot.config.configured import loaded_of

    path = file_of(loaded_of(arguments).settings.api, arguments.kind)
    if arguments.new or not _is_there(path):
        made(path)
    read(path)
    print(path)
    return 0
