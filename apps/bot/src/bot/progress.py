"""How far something is that takes long, and how long it takes still: for who waits at a terminal.

    with Progress("seeds", 100) as progress:
        progress.step("1 failed")             seeds ━━━━━╸─────────  37 of 100  1:10 left  1 failed

It is drawn on stderr and gone when it is over. In a pipe nothing is written and nothing loaded.
"""

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, Self, TextIO, TypeVar

from bot.outlet import Outlet, behind, clean

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import Task

_A = TypeVar("_A")

_A_SECOND: Final = 4
# From the last ten minutes: of what takes a minute a step, no shorter time says how fast it is.
_REMEMBERED_S: Final = 600.0
# To draw each of many thousand rows would take as long as they do.
_EVERY: Final = 64


class Progress:
    """A bar that says what is done, how much of it and how long the rest takes.

    `of` counts in whatever unit `at` and `step` do. Use it as a context; `begin` goes on with the
    next part of the same work.
    """

    def __init__(self, what: str, of: float, stream: TextIO | Outlet | None = None) -> None:
        stream = sys.stderr if stream is None else stream
        self._done = 0.0
        self._bar: Bar | None = _bar_on(behind(stream)) if stream.isatty() else None
        self.begin(what, of)

    @property
    def is_shown(self) -> bool:
        """Return whether anybody sees it: to count what is coming may be left out if not."""
        return self._bar is not None

    def begin(self, what: str, of: float) -> None:
        """Go on with another part, of which nothing is done yet."""
        self._done = 0.0
        if self._bar is not None:
            for task in self._bar.task_ids:
                self._bar.remove_task(task)
            self._bar.add_task(clean(what), total=of, words="")

    def step(self, words: str = "") -> None:
        """Count one more as done."""
        self.at(self._done + 1, words)

    def at(self, done: float, words: str = "") -> None:
        """Say how much is done, and what became of it in a few words."""
        self._done = done
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[-1], completed=done, words=clean(words))

    def through(self, rows: Iterable[_A]) -> Iterator[_A]:
        """Yield the rows; each is done when the next one is requested."""
        if self._bar is None:
            yield from rows
            return
        for number, row in enumerate(rows):
            if number % _EVERY == 0:
                self.at(number)
            yield row

    def line(self, text: str) -> None:
        """Print a line of the report on stdout, above the bar where both are on one terminal."""
        if self._bar is not None and sys.stdout.isatty():
            self._bar.print(clean(text), markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, flush=True)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
            _shown.append(self._bar)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            _shown.remove(self._bar)
            self._bar.stop()


_shown: Final["list[Bar]"] = []


def warn(text: str) -> None:
    """Print a line on stderr, above the bar where there is one."""
    if _shown:
        _shown[-1].print(clean(text), markup=False, highlight=False, soft_wrap=True)
    else:
        print(clean(text), file=sys.stderr, flush=True)


def _bar_on(stream: TextIO) -> "Bar":
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, TextColumn
    from rich.progress import Progress as Bar
    from rich.table import Column
    from rich.text import Text

    class Left(ProgressColumn):
        """Shows how long the rest takes, once it is known how fast it goes."""

        max_refresh = 0.5

        def render(self, task: "Task") -> Text:
            return Text(left(task.time_remaining))

    columns: list[Any] = [
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}", markup=False),
        Left(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[words]}", markup=False),
    ]
    return Bar(
        *columns,
        console=Console(file=stream),
        transient=True,
        refresh_per_second=_A_SECOND,
        speed_estimate_period=_REMEMBERED_S,
        # What is printed meanwhile goes where it belongs, and not to stderr.
        redirect_stdout=False,
        redirect_stderr=False,
    )


def left(seconds: float | None) -> str:
    """Return a time in words, such as "1:10 left"; unknown is no word at all."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} left" if hours else f"{minutes}:{rest:02} left"
