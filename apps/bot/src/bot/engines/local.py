"""Tasks on the processes of this machine.

    tasks ─► as many at a time as there are workers ─► ProcessPoolExecutor (spawn) ─► results
                 ▲                                          │ a worker that died breaks the pool
                 └── each that was worked on then, alone ◄──┘

A pool that lost a worker cannot name the task that ended it. So what was worked on at that moment
is tried again, each by itself in a pool that is made again: whichever ends its worker twice with
nothing beside it is lost, and no other is. Ctrl-C reaches this process alone, which ends the
workers; they end by themselves when it is gone.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, Final, Self, TypeVar

from bot.engines.work import Answer, Lost, stamp, taken, work

Task = TypeVar("Task")
Result = TypeVar("Result")

_DEATHS: Final = 2
_PATIENCE_S: Final = 5.0  # until a worker that is to end is killed


class Local:
    """So many processes of this machine; each is started when there is work for it."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._context = _Context()
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def run(
        self, function: Callable[[Task], Result], tasks: Sequence[Task]
    ) -> Iterator[tuple[int, Result | Lost]]:
        """Yield the number of each task and what came of it, whichever is done first."""
        wanted, queue = stamp(), _Queue(len(tasks), self.workers)
        while queue.waits:
            for number in queue.next():
                try:
                    future = self._made().submit(work, function, tasks[number], wanted)
                except BrokenExecutor:  # since the last task: this one did nothing to it
                    queue.put_back(number)
                    self._end()
                    break
                queue.running[future] = number
            broken, alone = False, len(queue.running) == 1
            for future in wait(queue.running, return_when=FIRST_COMPLETED).done:
                number = queue.running.pop(future)
                try:
                    answer = future.result()
                except BrokenExecutor:
                    broken = True
                    if why := queue.died(number, alone=alone):
                        yield number, Lost(why)
                else:
                    yield number, taken(answer, wanted)
            if broken and not queue.running:
                self._end()

    def _made(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self.workers, self._context, _begin)
        return self._pool

    def _end(self) -> None:
        """End the workers, whatever they are at."""
        if self._pool is None:
            return
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = None
        for process in self._context.workers:
            process.terminate()
        for process in self._context.workers:
            process.join(_PATIENCE_S)
            process.kill()
        self._context.workers.clear()


class _Queue:
    """Which task is next: those that may have ended a worker by themselves, before all others."""

    def __init__(self, tasks: int, workers: int) -> None:
        self.running: dict[Future[Answer], int] = {}
        self._waiting = deque(range(tasks))
        self._suspects: deque[int] = deque()
        self._deaths: Counter[int] = Counter()
        self._workers = workers

    @property
    def waits(self) -> bool:
        """Return whether anything is not done."""
        return bool(self._waiting or self._suspects or self.running)

    def next(self) -> Iterator[int]:
        """Yield what may begin now."""
        if self._suspects:
            if not self.running:
                yield self._suspects.popleft()
            return
        while self._waiting and len(self.running) < self._workers:
            yield self._waiting.popleft()

    def put_back(self, number: int) -> None:
        """Take back one that could not begin."""
        (self._suspects if number in self._deaths else self._waiting).appendleft(number)

    def died(self, number: int, *, alone: bool) -> str:
        """Count a worker that died of this `alone`; return why it is lost, if it is."""
        self._deaths[number] += alone
        if self._deaths[number] >= _DEATHS:
            return f"its worker ended without an answer, {_DEATHS} times"
        self._suspects.append(number)
        return ""


# === Processes ===
# Workers that Ctrl-C passes by, and that outlive nobody.


class _Worker(SpawnProcess):
    def start(self) -> None:
        with _interrupts_held():
            super().start()


class _Context(SpawnContext):
    """Starts processes, and remembers them: a pool ends none that is at work."""

    def __init__(self) -> None:
        super().__init__()
        self.workers: list[SpawnProcess] = []

    def Process(self, *arguments: Any, **named: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802
        """Return a process that is not started yet, as a pool wants one."""
        self.workers.append(made := _Worker(*arguments, **named))
        return made


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold SIGINT back: what is started meanwhile never gets it, this process gets it after."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    was = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, was)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdout = sys.stderr  # what a strategy prints there is no part of a report
    threading.Thread(target=_end_with, args=[multiprocessing.parent_process()], daemon=True).start()


def _end_with(parent: Any) -> None:
    # A pool's worker waits for tasks for ever where whoever began it was killed.
    parent.join()
    os._exit(1)
