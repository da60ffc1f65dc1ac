"""All that looks at a running bot at once, for whoever measures what that costs it.

Onlookers ──► /metrics and /health every 5 s, a page that is open (a WebSocket)
"""

import contextlib
import http.client
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

EVERY_S: Final = 5.0
_PAUSE_S: Final = 0.2
_VIEW: Final = '{"panel": "", "market": "", "columns": 120, "rows": 40}'


@dataclass
class Onlookers:
    """Looks from `begin` to `end`; how long each answer took is in `took`, in seconds, by path."""

    port: int
    token: Path
    viewers: int = 1
    took: dict[str, list[float]] = field(default_factory=dict)
    drawn: int = 0
    failed: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def begin(self) -> None:
        """Begin to look; the bot may still come up."""
        targets = [self._scrape, *[self._view] * self.viewers]
        self._threads = [threading.Thread(target=each, daemon=True) for each in targets]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Look no longer."""
        self._over.set()
        for thread in self._threads:
            thread.join(10)

    def _scrape(self) -> None:
        while not self._over.wait(_PAUSE_S if not self.took else EVERY_S):
            for path in ("/metrics", "/health"):
                began = time.perf_counter()
                if self._gets(path):
                    self.took.setdefault(path, []).append(time.perf_counter() - began)

    def _gets(self, path: str) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path, headers=self._headers())
            answer = connection.getresponse()
            answer.read()
        except OSError:
            self.failed += bool(self.took)  # it comes up, or is over
            return False
        finally:
            connection.close()
        return answer.status in (200, 503)

    def _headers(self) -> dict[str, str]:
        with contextlib.suppress(OSError):
            return {"Authorization": f"Bearer {self.token.read_text().strip()}"}
        return {}

    def _view(self) -> None:
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect

        url = f"ws://127.0.0.1:{self.port}/view/live"
        while not self._over.wait(_PAUSE_S):
            # It comes up, or is over; a page connects again, too.
            with contextlib.suppress(OSError, WebSocketException):
                headers = self._headers() | {"Origin": f"http://127.0.0.1:{self.port}"}
                with connect(url, additional_headers=headers, max_size=None) as socket:
                    socket.send(_VIEW)
                    while not self._over.is_set():
                        with contextlib.suppress(TimeoutError):
                            socket.recv(timeout=_PAUSE_S)
                            self.drawn += 1
