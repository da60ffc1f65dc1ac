"""A message on its way out: apprise, and the address that it needs.

    SinkSettings ──► address_of ──► deliver(address, message) ──► "" or why it was not taken

An address may hold a token: it is read where it is needed, and nothing here repeats it. What a
service answers is cut, redacted, and rid of the parts of the address.
"""

import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from dydx_conn import ConnError
from pydantic import SecretStr

from bot.config.notify import SinkSettings, hidden, pairs_of
from bot.notify.notice import Message
from bot.outlet import one_line
from bot.system import absent, secret_of

Deliver = Callable[[str, Message], str]

_LONGEST: Final = 4_096  # characters of a file with an address

# === Addresses ===


class SinkError(ConnError):
    """A sink whose address is not there, or none; its text holds no part of it."""


def address_of(sink: SinkSettings, urls: SecretStr) -> str:
    """Return the address of a sink from where it is; `SinkError` if there is none."""
    if sink.url:
        return sink.url
    if sink.url_env:
        if not (found := os.environ.get(sink.url_env, "").strip()):
            raise SinkError(f"expected the address of {sink.name} in {sink.url_env}, got nothing")
        return found
    if sink.url_file:
        return _in_file(sink.name, Path(sink.url_file))
    if not (found := pairs_of(urls).get(sink.name, "")):
        raise SinkError(
            f"expected the address of {sink.name} in url, url_env, url_file or notify.urls, "
            "got none"
        )
    return found


def _in_file(name: str, path: Path) -> str:
    try:
        text = secret_of(path, _LONGEST).decode().strip()
    except ConnError as error:
        raise SinkError(str(error)) from None
    except (OSError, UnicodeError) as error:
        what = getattr(error, "strerror", None) or "no text"
        raise SinkError(f"expected the address of {name} in {path}, got {what}") from None
    if len(text.split()) != 1:
        raise SinkError(f"expected one address in {path}, got {len(text.split())}")
    return text


# === Delivery ===

_KINDS: Final = {"info": "info", "warning": "warning", "critical": "failure"}


def service_of(address: str) -> Any:
    """Return what apprise has for an address; `SinkError` if it has nothing."""
    if words := absent("notify", "notices"):
        raise SinkError(words)
    _forgo_socks()
    import apprise

    with _listening():
        found = apprise.Apprise.instantiate(address, suppress_exceptions=True)
    if found is None:
        raise SinkError(
            f"expected an address that apprise knows (its wiki lists them), got {hidden(address)}"
        )
    return found


def _forgo_socks() -> None:
    # Without PySocks urllib3 warns of it when it is loaded. What requests does against that is lost
    # where another thread is in `catch_warnings` meanwhile, as FastAPI is when a run begins.
    if find_spec("socks") is None:
        sys.modules.setdefault("urllib3.contrib.socks", None)  # type: ignore[arg-type]


def deliver(address: str, message: Message) -> str:
    """Send a message; return "" if it was taken, else why it was not. It may take for ever."""
    service = service_of(address)
    body = message.body or message.title  # none takes nothing
    if message.omitted:
        body += f"\n{message.omitted:,} notices before it were too many to be stored"
    with _listening() as logged:
        taken = service.notify(
            title=message.title, body=body, notify_type=_KINDS[message.level], body_format="text"
        )
    if taken:
        return ""
    return without(address, " ".join(logged)) or "the service did not take it"


def without(address: str, text: str) -> str:
    """Return what a service answered without any part of its address that may be a token."""
    parts = {part for part in re.split(r"[/:@?&=,]+", address) if len(part) > 3}
    for part in sorted(parts, key=len, reverse=True):
        text = text.replace(part, "***")
    return one_line(text, 200)


_LOGGER: Final = "apprise"
_OF_THREAD: Final = threading.local()


class _Listener(logging.Handler):
    """Takes what apprise logs on the thread that sends: it is the only word on why it failed."""

    def emit(self, record: logging.LogRecord) -> None:
        """Note a line of the thread that it is of."""
        lines = getattr(_OF_THREAD, "lines", None)
        if lines is not None and record.levelno >= logging.WARNING:
            lines.append(record.getMessage())


_LISTENER: Final = _Listener()


@contextmanager
def _listening() -> Iterator[list[str]]:
    logger = logging.getLogger(_LOGGER)
    if _LISTENER not in logger.handlers:
        logger.addHandler(_LISTENER)
        logger.propagate = False  # it logs addresses, and they are nobody else's
    lines = list[str]()
    _OF_THREAD.lines = lines
    try:
        yield lines
    finally:
        _OF_THREAD.lines = None


# === An attempt ===


class Attempt:
    """One message on its way, on a thread of its own: nobody waits longer than he chooses.

    `why` is "" once it was taken, else why not; None while nobody knows.
    """

    def __init__(self, deliver: Deliver, address: Callable[[], str], message: Message) -> None:
        self.why: str | None = None
        self.began = time.monotonic()
        self._work = deliver, address, message
        self._thread = threading.Thread(target=self._run, name="notice", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> str | None:
        """Wait for what comes of it, for so long at most."""
        self._thread.join(max(0.0, seconds))
        return self.why

    def _run(self) -> None:
        deliver, address, message = self._work
        url = ""
        try:
            url = address()
            self.why = deliver(url, message)
        except SinkError as error:
            self.why = str(error)
        except Exception as error:  # noqa: BLE001 - a service of whatever kind raises what it likes
            self.why = without(url, f"{type(error).__name__}: {error}")
