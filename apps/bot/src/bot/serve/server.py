"""The server of a run: a thread of its own that listens, from before the run begins to its end.

    listening: the address is taken, or words ──► serving: uvicorn on a thread ──► … ──► joined

What goes wrong here is a trouble of the run (it warns, and never halts).
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dydx_conn import ConnError

from bot.config.api import ApiSettings, host_and_port
from bot.serve.served import Served
from bot.system import reason

if TYPE_CHECKING:
    import uvicorn

_SWITCH_S: Final = 0.000_5  # how long a thread may hold the interpreter while another one waits
_GRACE_S: Final = 1
_JOIN_S: Final = 5.0
_BACKLOG: Final = 64
_LONGEST_HEAD: Final = 16_384  # bytes of the headers of a request


class ApiError(ConnError):
    """A run cannot be served as it was chosen; the message says what is missing."""


# === Listening ===


@contextlib.contextmanager
def listening(settings: ApiSettings) -> Iterator[socket.socket]:
    """Take the address, before the run begins; `ApiError` if it cannot be, or may not be."""
    _require_tls(settings)
    from bot.serve.connections import Listener

    host, port = host_and_port(settings.address)
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # With its protocol asyncio knows that small answers are not to wait for more (Nagle).
        server = Listener(family, kind, protocol)
    except OSError as error:
        raise ApiError(_no_address(settings, error)) from None
    with server:
        try:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(where)
            server.listen(_BACKLOG)
        except OSError as error:
            raise ApiError(_no_address(settings, error)) from None
        yield server


def _no_address(settings: ApiSettings, error: OSError) -> str:
    what = f"expected an address of this machine that is free, got {settings.address}"
    return f"{what}: {error.strerror or error}"


def _require_tls(settings: ApiSettings) -> None:
    """Refuse an address that others reach without TLS, and a certificate that cannot be used."""
    host, _ = host_and_port(settings.address)
    if not settings.certificate and not settings.key:
        if not is_loopback(host):
            what = f"expected api.certificate and api.key beyond loopback, got none for {host}"
            raise ApiError(f"{what}: 127.0.0.1 and ssh -L need neither")
        return
    for name in ("certificate", "key"):
        path = getattr(settings, name)
        if not Path(path).is_file():
            raise ApiError(f"expected a file of PEM as api.{name}, got {path or 'none'}")
    try:
        _tls_of(settings)
    except (OSError, ValueError) as error:
        what = f"expected a certificate and its key in {settings.certificate} and {settings.key}"
        raise ApiError(f"{what} (PEM, the key without a passphrase), got {reason(error)}") from None


def _tls_of(settings: ApiSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Without an empty passphrase OpenSSL would wait for one on the terminal.
    context.load_cert_chain(settings.certificate, settings.key, password="")
    return context


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a host; a name may become any other address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


# === Serving ===


@contextlib.contextmanager
def serving(served: Served, server: socket.socket) -> Iterator[str]:
    """Answer for a run while it goes on; yields the URL. The thread ends with it, always."""
    made = served.tokens.require()
    for path in made:
        print(f"bot: a token was made: {path}", file=sys.stderr)
    uvicorn_server = _server_of(served, server.getsockname()[1])
    thread = threading.Thread(
        target=_run, args=[served, uvicorn_server, server], name="api", daemon=True
    )
    usual = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    thread.start()
    try:
        yield url_of(served.settings, server)
    finally:
        served.desk.end()
        uvicorn_server.should_exit = True
        thread.join(_JOIN_S)
        sys.setswitchinterval(usual)


def url_of(settings: ApiSettings, server: socket.socket) -> str:
    """Return where a run answers."""
    host, port = host_and_port(settings.address)[0], server.getsockname()[1]
    scheme = "https" if settings.certificate else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _server_of(served: Served, port: int) -> "uvicorn.Server":
    import uvicorn

    from bot.serve.app import app_of
    from bot.serve.connections import Connection

    # They would print on the dashboard: what they report is for the log of the run alone.
    for name in ("uvicorn", "asyncio"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    settings = served.settings
    tls: dict[str, Any] = {}
    if settings.certificate:
        tls["ssl_context_factory"] = lambda *_: _tls_of(settings)
    app = app_of(served, port, lambda words: trouble(served, words))
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", server_header=False,
        proxy_headers=False, http=Connection, h11_max_incomplete_event_size=_LONGEST_HEAD,
        timeout_keep_alive=60, timeout_graceful_shutdown=_GRACE_S, ws_max_size=4_096,
        # To compress what is sent to each browser by itself costs more than all else of it.
        ws="websockets-sansio", ws_per_message_deflate=False, **tls,
    )  # fmt: skip
    config.load()
    asyncio.run(_warm(config.loaded_app))
    return uvicorn.Server(config)


async def _warm(app: Any) -> None:
    """Answer once before the run begins: what is loaded and made at the first request is by then.

    It would take a tenth of a second from the first frames, and the first chart a whole one.
    """
    from starlette.concurrency import run_in_threadpool

    from bot.serve.plots import load

    await run_in_threadpool(load)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Any) -> None:
        pass

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
        "scheme": "http", "path": "/login", "raw_path": b"/login", "query_string": b"",
        "root_path": "", "headers": [(b"host", b"localhost")], "client": None,
        "server": ("localhost", 0),
    }  # fmt: skip
    await app(scope, receive, send)


def _run(served: Served, server: "uvicorn.Server", listener: socket.socket) -> None:
    try:
        asyncio.run(server.serve(sockets=[listener]))
    except BaseException as error:  # noqa: BLE001 - the run goes on, whatever ends this thread
        trouble(served, f"expected to answer over HTTP, got {type(error).__name__}: {error}")


def trouble(served: Served, words: str) -> None:
    """Note what went wrong here as a trouble of the run, from any thread."""
    served.desk.put(lambda bot: bot.shown.troubles.setdefault("api", words), lambda _: None)
