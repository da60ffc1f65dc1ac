"""A recording under way: what is whole of it outlives whatever ends the fetch.

begin ──► write a window, write a window … ──► finish: NAME.jsonl.zst
│ killed, Ctrl-C, a full disk
▼
NAME.part.jsonl.zst: itself a recording ──► resume: behind the last whole window
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, Self

import msgspec
from dydx_conn import Frame, Header, History, Recording, RecordingWriter, instant

from bot.archive.rows import page_of
from bot.archive.spans import SUFFIX, WantedError
from bot.archive.verify import is_walked
from bot.system import IS_UNIX, lock
from bot.times import utc

_ONCE: Final = 3  # frames before the first window


def part_of(path: Path) -> Path:
    """Return where a recording is while it is not whole."""
    return path.with_name(f"{path.name.removesuffix(SUFFIX)}.part{SUFFIX}")


class Part:
    """The file of a fetch, this process's alone; `next_ns` is the window that comes next."""

    def __init__(
        self, path: Path, writer: RecordingWriter, history: History, taken: IO[bytes] | None
    ) -> None:
        self.path, self.history = path, history
        self.part = part_of(path)
        self.next_ns = history.since_ns
        self._writer, self._taken = writer, taken

    @classmethod
    def begin(cls, path: Path, header: Header, once: Iterable[Frame]) -> Self:
        """Begin the recording that is to be at `path`, with what is requested once."""
        history = _history(header)
        part = part_of(path)
        part.touch()
        taken = _taken(part)
        writer = RecordingWriter(part, header)
        found = cls(path, writer, history, taken)
        found._append(once)
        return found

    @classmethod
    def resume(cls, path: Path, header: Header, fixed: Sequence[str] = ()) -> Self | None:
        """Go on with what another fetch of the same left; None where it left nothing.

        What is `fixed`, "beginning" or "end", has to be the same too; else it is as it was then.
        """
        part = part_of(path)
        if not part.exists() or not part.stat().st_size:
            return None
        recording = Recording(part)
        history = _same(recording, header, fixed)
        events, next_ns = _whole(recording, history)
        if events < _ONCE:
            return None
        taken = _taken(part)
        found = cls(path, RecordingWriter.resume(part, events), history, taken)
        found.next_ns = next_ns
        return found

    def write(self, window_ns: int, frames: Iterable[Frame]) -> None:
        """Append a window; `OSError` if that is not possible: what was whole is still there."""
        self._append(frames)
        step = self.history.window_s * 1_000_000_000
        self.next_ns = min(window_ns + step, self.history.until_ns)

    def leave(self) -> None:
        """Close it as it is, to be gone on with."""
        with suppress(OSError):
            self._writer.leave()
        self._release()

    def finish(self) -> Path:
        """Close it with its sum, and put it where it was to be."""
        self._writer.close()
        os.replace(self.part, self.path)
        self._release()
        return self.path

    def _append(self, frames: Iterable[Frame]) -> None:
        for frame in frames:
            self._writer.write_frame(frame)
        self._writer.flush()  # a block ends with each window: there it can be gone on with

    def _release(self) -> None:
        if self._taken is not None:
            self._taken.close()


def windows_of(recording: Recording) -> Iterator[tuple[int, list[Frame]]]:
    """Yield the windows that can be read, with their frames, up to the first damage.

    What stands before the first window is that of the time 0.
    """
    window, frames = 0, list[Frame]()
    for frame in recording.pages():
        if frame.kind != "http":
            return  # of what is damaged nobody knows whether it is whole
        at = instant(frame.id) if frame.id else window
        if at != window:
            yield window, frames
            window, frames = at, []
        frames.append(frame)
    yield window, frames


def _whole(recording: Recording, history: History) -> tuple[int, int]:
    """Return how many events stand in whole windows, and which window comes next."""
    events, next_ns = 0, history.since_ns
    last: list[Frame] = []
    for window, frames in windows_of(recording):
        if window and window != next_ns:
            break
        events, last = events + len(frames), frames
        next_ns += history.window_s * 1_000_000_000 if window else 0
    # Only what was written last may be there in part.
    pages = [*filter(None, map(page_of, last))]
    if pages and not is_walked(history, pages):
        return events - len(last), next_ns - history.window_s * 1_000_000_000
    return events, min(next_ns, history.until_ns)


def _same(recording: Recording, header: Header, fixed: Sequence[str]) -> History:
    """Return what a part is of; it is refused where that is not what is wanted now."""
    history, wanted = _history(recording.header), _history(header)
    theirs, ours = _described(recording.header, history), _described(header, wanted)
    free = {"beginning", "end"}.difference(fixed)
    for differs in (name for name in ours if name not in free and theirs[name] != ours[name]):
        what = f"expected {recording.path} to go on with, with the {differs} {ours[differs]}"
        raise WantedError(f"{what}, got {theirs[differs]}: --out FILE is another, or remove it")
    return history


def _described(header: Header, history: History) -> dict[str, Any]:
    return {
        "network": header.network, "address": header.rest, "markets": ", ".join(history.markets),
        "kinds": ", ".join(history.kinds), "window": f"{history.window_s // 3_600}h",
        "beginning": utc(history.since_ns), "end": utc(history.until_ns),
    }  # fmt: skip


def _history(header: Header) -> History:
    if header.history is None:
        raise WantedError("expected a recording of history to go on with, got one of a live link")
    return header.history


def _taken(part: Path) -> IO[bytes] | None:
    """Take a file for this process; refused where another fetch has it."""
    if not IS_UNIX:
        return None
    file = part.open("rb")
    try:
        lock(file.fileno())
    except BlockingIOError:
        file.close()
        raise WantedError(f"expected {part} for this fetch alone, got one that goes on") from None
    return file


def extended(old: Recording, until_ns: int) -> History:
    """Return the history of a finished recording, up to a later time."""
    history = _history(old.header)
    if until_ns <= history.until_ns:
        what = f"expected an end after {utc(history.until_ns)} (UTC)"
        raise WantedError(f"{what}, which {old.path} reaches already, got {utc(until_ns)}")
    return msgspec.structs.replace(history, until_ns=until_ns)
