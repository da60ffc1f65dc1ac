"""The live connection to dYdX v4: sockets that are watched, and the frames they carry.

    indexer ── sockets ──► live ──► Frame

`live` is the one source that opens sockets and starts threads; `Network` says where. All names
of dydx_wire stand here too, so that one import is enough for whoever reads frames.
Sources: socks (v4-chain/indexer), the official client's IndexerSocket.
"""

import asyncio
import contextlib
import queue
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from functools import partial
from typing import Any, Final

import dydx_chain
import dydx_wire
import httpx
from dydx_chain import *  # noqa: F403 - as below
from dydx_chain import Network, Subaccount
from dydx_wire import *  # noqa: F403 - who reads frames needs one import
from dydx_wire import Frame, Pacer, from_generator, ws_frame
from reactivex import Observable

__all__ = ["PER_CONNECTION", "live"]
__all__ += dydx_chain.__all__
__all__ += dydx_wire.__all__

# === Live ===
# The only place that opens sockets and starts threads.


PER_CONNECTION: Final = 32  # subscriptions to one channel that a connection may hold (socks)


def live(
    network: Network,
    tickers: Iterable[str],
    *,
    subaccount: Subaccount | None = None,
    pace: Pacer | None = None,
) -> Observable[Frame]:
    """Receive a network's frames: markets, block height, and each ticker's book and trades.

    Cold: each subscriber opens connections of its own (share it), and receives on its own
    thread, inside `subscribe`, until `pace` says False or it is disposed; no error ends it. A
    lost connection is a close frame, and is opened anew. A tick passes every second.

        live  --open-ws-ws-tick-close----open-ws-
    """
    return from_generator(partial(_receive, network, list(tickers), subaccount, pace))


_Put = Callable[..., None]
_TICK_S: Final = 1.0
_BACKOFF_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_TIMEOUT_S: Final = 10.0


def _receive(
    network: Network, tickers: list[str], subaccount: Subaccount | None, pace: Pacer | None
) -> Generator[Frame]:
    # The one place where other threads' texts cross over.
    inbox: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()

    def put(kind: str, text: str = "", *more: str, link: str) -> None:
        # Stamped where it was received, numbered where it is put in order.
        inbox.put((time.time_ns(), time.monotonic_ns(), link, kind, text, *more))

    groups = [tickers[i : i + PER_CONNECTION] for i in range(0, len(tickers), PER_CONNECTION)]
    links = [
        _Link(network.ws, f"c{n}", partial(_subscribe, group, subaccount, first=n == 1), put)
        for n, group in enumerate(groups or [[]], 1)
    ]
    rest = threading.Thread(target=_fetch_markets, args=(network, put), daemon=True)
    for thread in (rest, *links):
        thread.start()
    tick_due, seq = time.monotonic() + _TICK_S, 0
    try:
        while True:
            if time.monotonic() >= tick_due:
                tick_due += _TICK_S
                put("tick", link="clock")
            with contextlib.suppress(queue.Empty):
                at, mono, name, kind, *said = inbox.get(timeout=max(tick_due - time.monotonic(), 0))
                seq += 1
                stamps = (seq, at, mono, name)
                frame = ws_frame(*stamps, *said) if kind == "ws" else Frame(*stamps, kind, *said)
                if pace is not None and not pace(frame):
                    return
                yield frame
    finally:
        for part in (_Link.leave, _Link.end):
            for link in links:
                part(link)


def _fetch_markets(network: Network, put: _Put) -> None:
    from dydx_v4_client.indexer.rest.indexer_client import IndexerClient

    # The client parses an answer and drops its text; frames keep the text.
    async def get(path: str, params: Mapping[str, Any] | None = None) -> Any:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S) as http:
            answer = await http.get(network.rest + path)
        put("http", answer.text, str(answer.status_code), path, link="rest")
        answer.raise_for_status()
        return answer.json()

    client = IndexerClient(network.rest)
    client.markets.get = get
    try:
        asyncio.run(client.markets.get_perpetual_markets())
    except (httpx.HTTPError, ValueError) as error:
        put("gap", f"the markets were not answered: {type(error).__name__}: {error}", link="rest")


def _subscribe(tickers: list[str], subaccount: Subaccount | None, app: Any, *, first: bool) -> None:
    # The first connection asks for what is not a market's.
    if first:
        app.markets.subscribe()
        app.send('{"type":"subscribe","channel":"v4_block_height"}')
    for ticker in tickers:
        app.order_book.subscribe(ticker)
        app.trades.subscribe(ticker)
    if first and subaccount is not None:
        app.subaccounts.subscribe(subaccount.owner, subaccount.number)


class _Link(threading.Thread):
    """One connection, kept open: subscribe, listen, and after a loss try again."""

    def __init__(self, url: str, name: str, subscribe: Callable[[Any], None], put: _Put) -> None:
        super().__init__(name=name, daemon=True)
        self._url, self._subscribe = url, subscribe
        self._put = partial(put, link=name)
        self._stopping = threading.Event()
        self._app: Any = None
        self._opened: Any = None
        self._closed = (0, "")

    def run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            self._closed, opened = (0, ""), time.monotonic()
            self._listen()
            code, reason = self._closed
            self._put("close", reason, str(code))
            # A venue that greets and drops us is as gone as one that does not answer.
            if time.monotonic() - opened > _BACKOFF_S[-1]:
                failures = 0
            wait = _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)]
            failures += 1
            # Jitter, or every bot of a restarted venue comes back in the same instant.
            self._stopping.wait(wait * random.uniform(0.5, 1.0))

    def leave(self) -> None:
        self._stopping.set()
        self._wake(socket.SHUT_RD)

    def end(self) -> None:
        # A second for the goodbye, then hang up.
        self.join(timeout=1.0)
        if self.is_alive():
            self._wake(socket.SHUT_RDWR)
            self.join(timeout=1.0)

    def _wake(self, how: int) -> None:
        # Not the client's close(): that reads the venue's answer away from our thread, which
        # waits for it. Nor SSLSocket's shutdown: that would say goodbye in plain text.
        with contextlib.suppress(AttributeError, TypeError, OSError):
            self._app.keep_running = False
            socket.socket.shutdown(self._opened.sock, how)

    def _listen(self) -> None:
        import websocket
        from dydx_v4_client.indexer.socket.websocket import IndexerSocket

        # Or a host that takes the connection and says nothing would be waited for in silence.
        websocket.setdefaulttimeout(_TIMEOUT_S)
        app = IndexerSocket(
            self._url,
            on_open=self._connected,
            on_close=lambda _, code, reason: self._note(code or 0, reason or "closed"),
            on_error=lambda _, error: self._lost(error),
        )
        # The client would parse every message; frames keep the text.
        app.on_message = lambda _, text: self._message(text)
        self._app = app
        # Its own connect() would leave certificates unchecked and never ping.
        app.run_forever(
            sslopt={"cert_reqs": ssl.CERT_REQUIRED, "check_hostname": True},
            ping_interval=15,
            ping_timeout=5,
            skip_utf8_validation=True,
            suppress_origin=True,
        )
        if self._opened is not None:
            self._opened.shutdown()  # the client leaves it open if the venue said goodbye first

    def _connected(self, app: Any) -> None:
        self._opened = app.sock
        if self._stopping.is_set():
            app.keep_running = False
            return
        self._put("open", self._url)
        # What we ask is a frame too: it tells a snapshot that is late from one that is lost.
        app.send = partial(self._say, app.send)
        self._subscribe(app)

    def _say(self, send: Callable[[str], None], text: str) -> None:
        self._put("sent", text)
        send(text)

    def _message(self, text: str | bytes) -> None:
        self._put("ws", text if isinstance(text, str) else text.decode("utf-8", "replace"))

    def _lost(self, error: Any) -> None:
        # The venue's goodbye comes as an error too; an HTTP status is no close code.
        code = getattr(error, "status_code", None) or 0
        if code >= 1000:
            self._note(code, error.reason or "closed")
        self._note(0, f"{type(error).__name__}: {error}")

    def _note(self, code: int, reason: str) -> None:
        # The first word on why it ended is the true one; what follows are echoes.
        if not self._closed[1]:
            self._closed = (code, reason)
