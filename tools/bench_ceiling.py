"""Run the bot at the venue's ceiling, with the dashboard on: CPU, latency, and memory over time.

    venue (TLS, a process, 250 markets at 6x) ──► bot paper (a process, on a terminal of 200x60)

The venue's servers flush a batch of each channel and market four times a second at most, which is
2,000 frames a second of 250 markets' books and trades. The stand-in flushes as often, but not each
market has news each time: at its own pace it sends some 350 frames a second. So it goes six times
as fast, and all else with it: six blocks a second, and prices of the oracle as often. That is more
than the venue would send, and each text is one that the stand-in really made, in its own order.

CPU and memory are the kernel's counts of the bot alone, from when its start is over; the terminal
is read and dropped, as whoever shows it does. Latencies are those of the bot's report, its start
included: some thousand snapshots and answers of REST, which are most of p99.9 in a short run.
"""

import contextlib
import os
import pty
import re
import statistics
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

Row = tuple[str, str, str, str]

SIZE: Final = (60, 200)
SPEED: Final = 6
_SAMPLE_S: Final = 1.0
_NOTHING: Final = ("--config", "none", "--database", "none", "--log", "none")
_LATENCY: Final = re.compile(r"(p50|p99|p99\.9|max) ([\d,]+(?:\.\d+)?)")


def ceiling(
    _: str, markets: int = 250, minutes: float = 10.0, warm_s: float = 60.0
) -> Iterator[Row]:
    """Run the bot for some minutes at the ceiling; yield its figures beside their budgets."""
    from servers import venue_process

    with venue_process("--tls", "--count", str(markets), "--speed", str(SPEED)) as venue:
        tickers = list(venue.query("/v4/perpetualMarkets")["markets"])
        typed = ["--rest", venue.rest, "--ws", venue.ws, "--tickers", ",".join(tickers), *_NOTHING]
        found = measured(typed, {"SSL_CERT_FILE": venue.authority}, 60 * minutes, warm_s)
    yield from rows(f"ceiling, {markets} markets, {minutes:g} min", found)


def rows(label: str, found: Mapping[str, Any]) -> Iterator[Row]:
    """Write what a run measured."""
    yield label, f"{found['frames_per_s']:,.0f} f/s", "", "2,000 f/s"
    yield "  CPU, dashboard on", f"{found['cpu']:.1%} of a core", "", "< 20 %"
    for share, ms in found["latency_ms"].items():
        budget = {"p99": "< 1 ms", "p99.9": "< 1 ms"}.get(share, "")
        yield f"  frame to order, {share}", f"{ms:.3f} ms", "", budget
    memory = found["memory_mb"]
    yield "  memory, at most", f"{max(memory):.0f} MB", f"{memory[0]:.0f} MB", "< 150 MB"
    yield "  memory, from its first half to its second", f"{growth(memory):+.1%}", "", "flat"
    yield "  written to the terminal", f"{found['terminal_bytes_per_s'] / 1000:,.0f} kB/s", "", ""


def growth(memory: Sequence[float]) -> float:
    """Return by how much the median of the second half lies above that of the first."""
    half = len(memory) // 2
    if not half:
        return 0.0
    return statistics.median(memory[half:]) / statistics.median(memory[:half]) - 1


def measured(
    typed: Sequence[str], environment: Mapping[str, str], seconds: float, warm_s: float
) -> dict[str, Any]:
    """Run one bot on a terminal to its end; return what it used and what it reported."""
    import psutil

    with tempfile.TemporaryDirectory(prefix="ceiling-") as folder, Terminal() as terminal:
        places = ("CONFIG_HOME", "DATA_HOME", "STATE_HOME", "RUNTIME_DIR")
        at = {f"XDG_{place}": str(Path(folder, place.lower())) for place in places}
        for place in at.values():
            Path(place, "dydx-bot").mkdir(parents=True, mode=0o700)
        command = [sys.executable, "-m", "bot", "paper", "--network", "local", "--report", *typed]
        shown = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
        with subprocess.Popen(
            command, cwd=folder, env=os.environ | environment | at | shown,
            stdin=terminal.theirs, stdout=terminal.theirs, stderr=terminal.theirs,
            start_new_session=True,
        ) as process:  # fmt: skip
            bot = psutil.Process(process.pid)
            time.sleep(warm_s)
            began, before, drawn = time.monotonic(), sum(bot.cpu_times()[:2]), terminal.count
            memory = list(sampled(bot, began + seconds))
            took_s, cpu_s = time.monotonic() - began, sum(bot.cpu_times()[:2]) - before
            drawn = terminal.count - drawn
            ended(process, terminal)
        used = {"cpu": cpu_s / took_s, "memory_mb": memory, "terminal_bytes_per_s": drawn / took_s}
        return used | reported(terminal.text())


def ended(process: "subprocess.Popen[bytes]", terminal: "Terminal") -> None:
    """Leave the dashboard, as a person does who wants the report."""
    for _ in range(30):
        for key in "qy":  # whoever holds something has to answer
            terminal.press(key)
            time.sleep(0.5)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=2)
            return
    process.kill()


def sampled(bot: Any, until: float) -> Iterator[float]:
    """Yield what a process has in memory, MB, once a second until then."""
    while (now := time.monotonic()) < until:
        yield bot.memory_info().rss / 2**20
        time.sleep(min(_SAMPLE_S, max(until - now, 0.0)))


def reported(text: str) -> dict[str, Any]:
    """Read the report at the end of what a terminal got; it ends with its own words without one."""
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    found = re.search(r"latency +(p50 .*) µs", plain)
    frames, lasted = (
        re.search(r"frames +([\d,]+) of", plain),
        re.search(r"([\d,.]+) s in all", plain),
    )
    if found is None or frames is None or lasted is None:
        raise SystemExit(f"expected a report of the bot, got: {plain[-2000:]}")
    latency = {name: float(us.replace(",", "")) / 1e3 for name, us in _LATENCY.findall(found[1])}
    count, seconds = (float(each[1].replace(",", "")) for each in (frames, lasted))
    return {"latency_ms": latency, "frames_per_s": count / seconds}


class Terminal:
    """A terminal of 200x60 that somebody reads; the end of what it got is `text`."""

    def __enter__(self) -> "Terminal":
        self._ours, self.theirs = pty.openpty()
        termios.tcsetwinsize(self.theirs, SIZE)
        self.count, self._end = 0, b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self.theirs, self._ours):
            if end >= 0:
                os.close(end)

    def press(self, key: str) -> None:
        """Press a key."""
        os.write(self._ours, key.encode())

    def text(self) -> str:
        """Return the last that was written, once nobody writes any more."""
        os.close(self.theirs)
        self.theirs = -1
        self._reader.join(10)
        return self._end.decode(errors="replace")

    def _read(self) -> None:
        try:
            while part := os.read(self._ours, 65_536):
                self.count += len(part)
                self._end = (self._end + part)[-200_000:]
        except OSError:  # all who wrote are gone
            return
