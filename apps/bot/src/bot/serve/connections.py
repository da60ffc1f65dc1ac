"""Connections of the server: so many at most, and none for long that requests nothing.

    accept ──► descriptors left? ──► at most MOST: else the one that waits longest makes room
           └── no: closed at once             └── a request whole within WHOLE_S, or closed

Whoever comes without a token can open connections all the same. They keep nobody out who has one,
and they take no descriptor that the run needs for its files and for the venue.
"""

import asyncio
import socket
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from bot.system import file_limits

MOST: Final = 256
WHOLE_S: Final = 10.0


class Listener(socket.socket):
    """Takes no connection once half of the descriptors of this process are in use."""

    def __init__(self, *how: Any) -> None:
        super().__init__(*how)
        self.most = file_limits()[0] / 2

    def accept(self) -> tuple[socket.socket, Any]:
        """Return the next connection; `ConnectionAbortedError` where it could not be taken."""
        connection, address = super().accept()
        # A new descriptor has the lowest number that is free: as many are in use.
        if connection.fileno() < self.most:
            return connection, address
        connection.close()
        raise ConnectionAbortedError("expected descriptors to be left, got too few")


class Connection(H11Protocol):
    """One connection: closed where a request does not come whole in time, or others need room."""

    def __init__(self, *how: Any, **named: Any) -> None:
        super().__init__(*how, **named)
        self.since = 0.0  # of the event loop's clock: for how long it has waited for a request
        self._late: asyncio.TimerHandle | None = None
        self._is_handed_over = False  # to what speaks WebSocket: nothing here ends it

    @property
    def waits(self) -> bool:
        """Return whether no request of it is being answered."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete or cycle.more_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Make room for it, and begin to wait."""
        super().connection_made(transport)
        self._await_request()
        if len(self.connections) > MOST:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        """Take bytes; a request that has come whole is not late any more."""
        super().data_received(data)
        if self._is_handed_over or self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._end_waiting()
        elif self._late is None:
            self._await_request()

    def on_response_complete(self) -> None:
        """Wait for the next request: `timeout_keep_alive` bounds that."""
        self.since = self.loop.time()
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY and self._late is None:
            self._await_request()  # it came with the one before

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over."""
        self._is_handed_over = True
        self._end_waiting()
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._end_waiting()
        super().connection_lost(exc)

    def drop(self) -> None:
        """Close it at once."""
        self.connections.discard(self)  # which counts it no more before the loop comes round
        self.transport.abort()

    def _await_request(self) -> None:
        self.since = self.loop.time()
        self._late = self.loop.call_later(WHOLE_S, self.drop)

    def _end_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _make_room(self) -> None:
        idle = [one for one in self.connections if isinstance(one, Connection) and one.waits]
        min(idle, key=lambda one: one.since, default=self).drop()
