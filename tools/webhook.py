"""A webhook on the loopback, for tests of what sends to one, and to look at what arrives.

uv run tools/webhook.py --port 8080     prints each notice that arrives
"""

import argparse
import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

_PATIENCE_S: Final = 10.0


class Hook:
    """A webhook: what it got, and what it answers; it hangs while `goes` is not set."""

    def __init__(self, port: int = 0) -> None:
        self.got: list[dict[str, Any]] = []
        self.answers: Iterator[int] = itertools.repeat(200)
        self.refuses = ""  # a title that is never taken
        self.goes = threading.Event()
        self.goes.set()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                hook.goes.wait(_PATIENCE_S)
                status, notice = next(hook.answers), json.loads(body)
                if notice["title"] == hook.refuses:
                    status = 400
                if status == 200:
                    hook.take(notice)
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Print nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"json://127.0.0.1:{self.server.server_port}/"

    def take(self, notice: dict[str, Any]) -> None:
        """Take what arrived."""
        self.got.append(notice)

    @property
    def titles(self) -> list[str]:
        """Return what it got so far."""
        return [one["title"] for one in self.got]


class Printing(Hook):
    """A webhook that prints what arrives."""

    def take(self, notice: dict[str, Any]) -> None:
        """Print it."""
        print(f"{notice['title']}\n{notice['message']}\n", flush=True)


@contextmanager
def listening(hook: Hook) -> Iterator[Hook]:
    """Serve on a thread of its own."""
    thread = threading.Thread(target=hook.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        hook.goes.set()
        hook.server.shutdown()
        hook.server.server_close()
        thread.join(_PATIENCE_S)


def main() -> None:
    """Print what arrives until somebody ends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port (default: any)")
    with listening(Printing(parser.parse_args().port)) as hook:
        print(f"notify: {{sinks: [{{name: hook, url: {json.dumps(hook.url)}}}]}}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
