"""`bot fetch`: the venue's past as a recording, each page as it came.

words ──► Wanted ──► once: markets, height, time ──► a window, a window … ──► verified
(resumed where an earlier fetch of the same ended)
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from dydx_conn import (
    ConnError,
    Frame,
    Header,
    History,
    Network,
    Recording,
    Rest,
    recording_folders,
    rest_contents,
)

from bot.archive.part import Part, extended, windows_of
from bot.archive.spans import SUFFIX, Wanted, WantedError, is_fixed, wanted
from bot.archive.verdict import lines_of, summary, verified
from bot.archive.walk import PATIENCE_S, Walk, came
from bot.config.configured import environment_of
from bot.config.environment import look_at
from bot.outlet import as_lines
from bot.progress import Progress
from bot.times import utc

_LATE_NS: Final = 120 * 1_000_000_000  # an indexer this far behind is mentioned


def fetch(arguments: argparse.Namespace) -> int:
    """Fetch what was typed; 1 where something of it is missing or wrong, or it was not finished."""
    net = look_at(environment_of(arguments))
    typed = wanted(
        arguments.market, arguments.since, arguments.until, arguments.kinds, arguments.window,
        time.time_ns(),
    )  # fmt: skip
    path = _target(arguments.out, typed.name(net.name))
    if path.exists() and not arguments.extend:
        raise WantedError(f"expected a new file, got {path}, {_what_is_there(path)}")
    work = _Fetch(net, typed, path)
    try:
        asyncio.run(work.run(extend=arguments.extend))
    except (OSError, ConnError, KeyboardInterrupt) as error:
        return work.left(error)
    verdict = verified(Recording(path))
    print(as_lines([summary(path, verdict, work.requests), *lines_of(verdict)]))
    return int(not verdict.is_whole)


class _Fetch:
    """One fetch, from the first request to the file that is whole."""

    def __init__(self, net: Network, typed: Wanted, path: Path) -> None:
        self._net, self._typed, self._path = net, typed, path
        self._part: Part | None = None
        self.requests = 0

    async def run(self, *, extend: bool) -> None:
        """Request what is missing, and write it down."""
        async with Rest(self._net, on_answer=came, patience_s=PATIENCE_S) as rest:
            walk = Walk(rest)
            once = await walk.once()
            now_ns = _newest(once[1])
            history = self._typed.history([*_markets(once[0])], now_ns)
            _mention(now_ns)
            self._part = part = self._open(history, once, extend=extend)
            await self._fill(walk, part)
            self.requests = walk.requests
            part.finish()

    def _open(self, history: History, once: Sequence[Frame], *, extend: bool) -> Part:
        """Go on with what is there of it, or begin."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        old = Recording(self._path) if extend and self._path.exists() else None
        if old is not None:
            history = extended(old, history.until_ns)
        header = msgspec.structs.replace(Header.of(self._net, client="bot fetch"), history=history)
        times = (("beginning", self._typed.since), ("end", self._typed.until))
        fixed = [name for name, text in times if is_fixed(text) and not (old and name != "end")]
        part = Part.resume(self._path, header, fixed)
        if part is None:
            part = Part.begin(self._path, header, once)
            if old is not None:
                _copy(old, part)
        done = (part.next_ns - part.history.since_ns) // _step(part.history)
        begun = f"goes on behind window {done}: " if done else ""
        _say(f"{begun}{_span(part.history)} into {self._path}")
        return part

    async def _fill(self, walk: Walk, part: Part) -> None:
        history = part.history
        count = -(-(history.until_ns - history.since_ns) // _step(history))
        with Progress("windows", count) as progress:
            done = (part.next_ns - history.since_ns) // _step(history)
            progress.at(done)
            async for start, frames in walk.windows(history, part.next_ns):
                part.write(start, frames)
                done += 1
                progress.at(done, walk.trouble or f"{walk.requests:,} requests")

    def left(self, error: BaseException) -> int:
        """Close what there is, and say how to go on; return the exit code."""
        part = self._part
        if part is None:
            raise error
        part.leave()
        why = "stopped" if isinstance(error, KeyboardInterrupt) else str(error)
        if isinstance(error, OSError):
            why = f"expected room for {part.part}, got {error.strerror or error}"
        done = utc(part.next_ns)
        _say(f"{why}; what there is up to {done} (UTC) is in {part.part}, and the same command "
             "goes on behind it")  # fmt: skip
        return 130 if isinstance(error, KeyboardInterrupt) else 1


def _copy(old: Recording, part: Part) -> None:
    """Take over the whole windows of a finished recording: its last one may be shorter."""
    before = old.header.history
    end = 0 if before is None else before.until_ns - _step(part.history)
    for window, frames in windows_of(old):
        if window == part.next_ns <= end:  # behind one that is lost all are requested again
            part.write(window, frames)


# === Where ===


def _target(out: str | None, name: str) -> Path:
    if out is not None:
        if not out.endswith(SUFFIX):
            raise WantedError(f"--out: expected a file that ends in {SUFFIX}, got {out!r}")
        return Path(out)
    *above, own = recording_folders()
    here = [folder for folder in above[: len(Path.cwd().parts)] if folder.is_dir()]
    path = (here[0] if here else own) / f"{name}{SUFFIX}"
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _what_is_there(path: Path) -> str:
    history = Recording(path).header.history
    if history is None:
        return "which is a recording of a live link: --out FILE is another"
    found = f"which has {_span(history)}"
    return f"{found}: --extend goes on from its end, --out FILE is another"


# === What is read of what came once ===


def _markets(frame: Frame) -> list[str]:
    return sorted(rest_contents(frame.channel, frame.text).markets)


def _newest(frame: Frame) -> int:
    """Return the time of the newest block that the indexer has."""
    _, at = rest_contents(frame.channel, frame.text).block
    return int(at)


def _mention(now_ns: int) -> None:
    late = time.time_ns() - now_ns
    if late > _LATE_NS:
        _say(f"the indexer's newest block is of {utc(now_ns)} (UTC), {late // 60_000_000_000:,} "
             "minutes ago: nothing later is fetched")  # fmt: skip


def _span(history: History) -> str:
    names = ", ".join(history.markets[:5])
    more = f" and {len(history.markets) - 5} more" if len(history.markets) > 5 else ""
    kinds = ", ".join(history.kinds)
    span = f"{utc(history.since_ns)} to {utc(history.until_ns)} (UTC)"
    return f"{kinds} of {names}{more} from {span}"


def _step(history: History) -> int:
    return history.window_s * 1_000_000_000


def _say(words: str) -> None:
    print(f"bot: {words}", file=sys.stderr, flush=True)
