"""Connections of strangers: they keep nobody out, and take nothing that the run needs."""

import contextlib
import dataclasses
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from bot.serve import connections
from bot.serve.connections import Listener
from bot.serve.server import listening, serving
from reached import Reached, reached_run
from websockets.sync.client import connect

REQUEST = b"GET /login HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
def reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Reached, str]]:
    """Return a run that is served to at most three connections, and its URL."""
    monkeypatch.setattr(connections, "MOST", 3)
    found = reached_run(tmp_path)
    settings = found.served.settings.model_copy(update={"address": "127.0.0.1:0"})
    served = dataclasses.replace(found.served, settings=settings)
    with listening(settings) as server, serving(served, server) as url:
        yield found, url


@contextlib.contextmanager
def stranger(url: str, sends: bytes = b"") -> Iterator[socket.socket]:
    """Open a connection that sends what it sends, and no more."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10.0) as one:
        one.sendall(sends)
        yield one


def until_closed(one: socket.socket) -> bytes:
    """Return what comes until the other end closes a connection, within ten seconds."""
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while part := one.recv(65_536):
            got += part
    return got


def test_connections_that_request_nothing_make_room(reached: tuple[Reached, str]) -> None:
    """The one that waits longest, whether it has begun a request or not."""
    run, url = reached
    with contextlib.ExitStack() as stack:
        begun = (b"", REQUEST, b"POST /halt HTTP/1.1\r\nContent-Length: 9\r\n\r\n", b"", b"")
        strangers = [stack.enter_context(stranger(url, sends)) for sends in begun]
        headers = {"Authorization": f"Bearer {run.token}"}
        answers = [httpx.get(f"{url}/status", headers=headers).status_code for _ in range(3)]

        assert answers == [200] * 3
        assert [*map(until_closed, strangers[:2])] == [b"", b""]


@pytest.mark.parametrize("sends", [b"", REQUEST])
def test_a_request_that_does_not_come_whole_is_not_waited_for(
    sends: bytes, reached: tuple[Reached, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it has begun or not."""
    monkeypatch.setattr(connections, "WHOLE_S", 0.02)
    with stranger(reached[1], sends) as one:
        assert until_closed(one) == b""


def test_a_slow_body_is_not_waited_for(
    reached: tuple[Reached, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a request that was answered it is as late as any other."""
    monkeypatch.setattr(connections, "WHOLE_S", 0.02)
    slow = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
    with stranger(reached[1], REQUEST + b"\r\n" + slow) as one:
        assert until_closed(one).count(b"HTTP/1.1") == 1


def test_a_page_that_is_open_is_not_closed(
    reached: tuple[Reached, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its WebSocket requests nothing more, for as long as somebody looks."""
    monkeypatch.setattr(connections, "WHOLE_S", 0.02)
    run, url = reached
    headers = {"Authorization": f"Bearer {run.token}"}
    with connect(f"ws{url[4:]}/view/live", additional_headers=headers) as page:
        with stranger(url) as one:
            assert until_closed(one) == b""  # what requests nothing has come to its end by now
        page.send("{")

        assert "refused" in str(page.recv(timeout=5.0))


def test_half_of_the_descriptors_are_left_to_the_run() -> None:
    """What could not be taken is closed at once, and the next one is looked at."""
    with Listener(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with socket.create_connection(server.getsockname()) as one:
            server.most = 3
            with pytest.raises(ConnectionAbortedError):
                server.accept()
            assert until_closed(one) == b""
        server.most = 10**6
        with socket.create_connection(server.getsockname()):
            server.accept()[0].close()
