"""Tasks on the workers of a Dask scheduler: futures, retries and scheduling are Dask's.

    tasks ──► distributed.Client ──► scheduler ──► workers ──► results, whichever is done first

Whoever reaches a scheduler runs code on its workers, with all rights of whoever started them. So
all of it stays on loopback; beyond it there is mutual TLS, or nothing is connected to. Where no
worker is left, tasks wait for others to come, but not for ever.
"""

import asyncio
import contextlib
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from dydx_conn import is_loopback

from bot.engines.certificates import require_distributed, security_of
from bot.engines.errors import EngineError, why
from bot.engines.work import Answer, Lost, stamp, taken, work
from bot.progress import warn

Task = TypeVar("Task")
Result = TypeVar("Result")

PORT: Final = 8786
_PATIENCE_S: Final = 10.0
_RETRIES: Final = 1
_LOOK_S: Final = 2.0  # as often as Dask's own client asks who is there
_ALONE_S: Final = 600.0  # without any worker, until a run is given up


def address_of(text: str, certificates: Path | None) -> str:
    """Return HOST[:PORT] as Dask takes it; `EngineError` beyond loopback without certificates."""
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host, port = text, str(PORT)
    if not host or not port.isdecimal() or "/" in text:
        raise EngineError(f"expected a scheduler as 127.0.0.1:{PORT}, got {text!r}")
    if certificates is None and not is_loopback(host):
        what = "whoever reaches a scheduler runs code on its workers: beyond this machine"
        how = "mutual TLS is needed (bot sweep certs DIR, then --certs DIR)"
        raise EngineError(f"{what} {how}; got {host} and no --certs; nothing was connected to")
    return f"{'tls' if certificates else 'tcp'}://{host}:{port}"


class DaskEngine:
    """The workers of a scheduler, for as long as it is entered."""

    def __init__(self, address: str, certificates: Path | None = None) -> None:
        self.address = address_of(address, certificates)
        self._dask = require_distributed()
        self._security = None if certificates is None else security_of(certificates, "client")
        self._client: Any = None
        self.workers = 0

    def __enter__(self) -> Self:
        try:
            self._client = self._dask.Client(
                self.address, security=self._security, timeout=_PATIENCE_S, set_as_default=False
            )
        except (OSError, ValueError, RuntimeError) as error:
            what = f"expected a scheduler at {self.address} (bot sweep scheduler)"
            got = why(error, with_certificates=self._security is not None)
            raise EngineError(f"{what}, got {got}") from None
        try:
            self._client.wait_for_workers(1, timeout=_PATIENCE_S)
        except TimeoutError:
            self._close()
            what = f"expected workers of the scheduler at {self.address} (bot sweep worker)"
            raise EngineError(f"{what}, got none") from None
        self.workers = sum(self._client.nthreads().values())  # integers
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            self._client.close(timeout=_PATIENCE_S)

    def run(
        self, function: Callable[[Task], Result], tasks: Sequence[Task]
    ) -> Iterator[tuple[int, Result | Lost]]:
        """Yield the number of each task and what came of it, whichever is done first."""
        wanted = stamp()
        numbers = {
            self._client.submit(work, function, task, wanted, pure=False, retries=_RETRIES): number
            for number, task in enumerate(tasks)
        }
        done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        try:
            for future in numbers:
                future.add_done_callback(done.put)
            for _ in numbers:
                future = self._next(done)
                yield numbers[future], self._result(future, wanted)
        finally:
            with contextlib.suppress(OSError, TimeoutError):
                self._client.cancel([one for one in numbers if not one.done()])

    def _next(self, done: "queue.SimpleQueue[Any]") -> Any:
        """Wait for what is done next; `EngineError` where there was no worker for too long."""
        alone_since: float | None = None
        while True:
            try:
                return done.get(timeout=_LOOK_S)
            except queue.Empty:
                alone_since = self._alone(alone_since, time.monotonic())

    def _alone(self, since: float | None, now: float) -> float | None:
        """Return since when there is no worker, None while there is one; report each change."""
        if self._client.scheduler_info()["workers"]:
            if since is not None:
                warn(f"bot: there are workers again at {self.address}: goes on")
            return None
        if since is None:
            what = f"bot: no worker is left at {self.address} (bot sweep worker)"
            warn(f"{what}: waits {_ALONE_S / 60:g} minutes for one")
            return now
        if now - since >= _ALONE_S:
            what = f"expected workers of the scheduler at {self.address} (bot sweep worker)"
            raise EngineError(f"{what}, got none for {_ALONE_S / 60:g} minutes")
        return since

    def _result(self, future: Any, wanted: Any) -> Any:
        try:
            answer = future.result()
        except self._dask.scheduler.KilledWorker as error:
            times = error.allowed_failures + 1
            return Lost(f"its worker ended without an answer, {times} times")
        except asyncio.CancelledError:
            went = f"expected the scheduler at {self.address} to answer, it went away"
            raise EngineError(went) from None
        except Exception as error:  # noqa: BLE001  # of code that cannot read a task
            return Lost(f"expected a worker that can read it, got {type(error).__name__}: {error}")
        if not isinstance(answer, Answer):
            return Lost(f"expected an answer of its worker, got {type(answer).__name__}")
        return taken(answer, wanted)
