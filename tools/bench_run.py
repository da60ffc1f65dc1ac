"""Run the bot itself on the local venue, bare and with all that stands beside a run, and compare.

    venue (TLS, a process) ──► bot paper (a process): bare │ whole  ──► rows

`bare` has no file of settings, no database and no log; `whole` reads, watches and reloads a file,
writes all that happens to a database and a log, is recorded, answers over HTTP (/metrics and
/health every five seconds, and an open page) and sends its notices to a webhook. Both decide the
same; one runs after the other, since together they would share the cores that they are to measure.
CPU and memory are the kernel's own counts, from when the start is over; latencies are those of the
bot's report, start included. All of it takes under three minutes; a bot that does not end in its
time is ended, with a word on it: then the machine is too busy to measure anything.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from answering import free_port
from onlookers import Onlookers
from webhook import Hook, listening

Row = tuple[str, str, str, str]

_NOTHING: Final = ("--config", "none", "--database", "none", "--log", "none")
# The file of settings at first, and what it is changed to while the bot runs.
_EDITS: Final = tuple(f"policy:\n  max_leverage: {1.5 + n / 10:.1f}\n" for n in range(5))


def run(
    _: str, markets: Sequence[int] = (60, 250), seconds: float = 15.0, warm_s: float = 15.0
) -> Iterator[Row]:
    """Run the whole bot live at some sizes: CPU, memory, latency, beside the same run bare."""
    from servers import venue_process

    for count in markets:
        with venue_process("--tls", "--count", str(count)) as venue:
            tickers = list(venue.query("/v4/perpetualMarkets")["markets"])
            where = ["--rest", venue.rest, "--ws", venue.ws, "--tickers", ",".join(tickers)]
            trust = {"SSL_CERT_FILE": venue.authority}
            bare = measured([*where, *_NOTHING], trust, (), seconds, warm_s)
            with listening(Hook()) as hook:
                sinks = f"notify:\n  sinks:\n    - name: here\n      url: {hook.url}\n"
                edits = [text + sinks for text in _EDITS]
                whole = measured(where, trust, edits, seconds, warm_s, port=free_port())
        what = f"bot paper, {count} markets, {seconds:.0f} s after {warm_s:.0f}"
        yield from rows(what, whole, bare)
        yield from looks(whole, len(hook.got))


def measured(
    typed: Sequence[str],
    environment: Mapping[str, str],
    edits: Sequence[str],
    seconds: float,
    warm_s: float,
    port: int = 0,
) -> dict[str, Any]:
    """Run one bot to its end, its file edited meanwhile; return its report and what it used.

    With a `port` it is recorded and answers there, and is looked at.
    """
    import psutil

    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        places = ("CONFIG_HOME", "DATA_HOME", "STATE_HOME", "RUNTIME_DIR")
        at = {f"XDG_{place}": str(Path(folder, place.lower())) for place in places}
        for place in at.values():
            Path(place, "dydx-bot").mkdir(parents=True, mode=0o700)
        file = Path(at["XDG_CONFIG_HOME"], "dydx-bot", "bot.yaml")
        if edits:
            file.write_text(edits[0])
        command = [sys.executable, "-m", "bot", "paper", "--network", "local", "--json", *typed]
        command += ["--seconds", str(warm_s + seconds)]
        onlookers = Onlookers(port, Path(at["XDG_STATE_HOME"], "dydx-bot", "api-read.token"))
        if port:
            command += ["--api", f"127.0.0.1:{port}", "--record", "run.jsonl.zst"]
        with open(Path(folder, "words"), "w+") as words, subprocess.Popen(
            command, cwd=folder, env=os.environ | environment | at, stdout=subprocess.PIPE,
            stderr=words,  # where its settings are, and that no node was given
        ) as process, contextlib.ExitStack() as ends:  # fmt: skip
            ends.callback(process.kill)  # whatever happens: it is waited for behind this
            bot = psutil.Process(process.pid)
            if port:
                onlookers.begin()
            time.sleep(warm_s)
            began, before = time.monotonic(), sum(bot.cpu_times()[:2])
            for text in edits[1:]:
                time.sleep(seconds / (len(edits) + 1))
                file.write_text(text)
            time.sleep(max(began + 0.9 * seconds - time.monotonic(), 0))
            cpu_s, memory = sum(bot.cpu_times()[:2]) - before, bot.memory_info().rss
            took_s = time.monotonic() - began
            onlookers.end()
            printed = ended(process, 60.0)
            words.seek(0)
            report = parsed(printed, words.read())
        stored = sum(each.stat().st_size for each in Path(at["XDG_DATA_HOME"]).rglob("*.db*"))
    seen = {"looks": onlookers.took, "drawn": onlookers.drawn, "failed": onlookers.failed}
    used = {"cpu": cpu_s / took_s, "memory_mb": memory / 2**20, "stored": stored}
    reloads = sum(act["words"].startswith("reload") for act in report["samples"]["acts"])
    return {"machine": report["machine"], "reloads": reloads, **used, **seen}


def ended(process: "subprocess.Popen[bytes]", patience_s: float) -> bytes:
    """Return what a bot printed, at its end; one that does not end in time ends it all."""
    try:
        return process.communicate(timeout=patience_s)[0]
    except subprocess.TimeoutExpired:
        what = f"expected the bot to end {patience_s:.0f} s after its time, got one that runs"
        raise SystemExit(f"{what}: the machine is too busy to measure it") from None


def parsed(text: bytes, words: str) -> dict[str, Any]:
    """Read a report; a bot that made none ends it all, with its own words."""
    if not text:
        raise SystemExit(f"expected a report of the bot, got none: {words[-2000:]}")
    report: dict[str, Any] = json.loads(text)
    return report


def rows(label: str, whole: Mapping[str, Any], bare: Mapping[str, Any]) -> Iterator[Row]:
    """Write what the two runs measured, the whole one's figures beside those of the bare one."""

    def row(figure: str, write: Callable[[Any], str], budget: str = "") -> Row:
        return figure, write(whole), write(bare), budget

    yield row(label, lambda run: f"{run['machine']['frames_per_s']:,.0f} f/s")
    yield row("  CPU, of a core", lambda run: f"{run['cpu']:.1%}")
    yield row("  memory", lambda run: f"{run['memory_mb']:.1f} MB")
    for share in ("p50", "p99", "p99.9", "max"):
        budget = "< 1 ms" if share == "p99" else ""
        yield row(
            f"  frame to order, {share}",
            lambda run: f"{run['machine']['latency_us'][share]:,.0f} µs",  # noqa: B023 - called at once
            budget,
        )
    yield row("  reloads", lambda run: str(run["reloads"]))
    yield row("  database, with its log", lambda run: f"{run['stored'] / 1e6:.2f} MB")


def looks(watched: Mapping[str, Any], notices: int) -> Iterator[Row]:
    """Write what those who looked got."""
    for path, took in watched["looks"].items():
        slowest = f"{1e3 * max(took):.0f} ms at most"
        yield (
            f"  {path}, {len(took)} times",
            f"{1e3 * sorted(took)[len(took) // 2]:.0f} ms",
            slowest,
            "",
        )
    yield "  messages to an open page", str(watched["drawn"]), "", ""
    yield "  notices, looks that failed", f"{notices}, {watched['failed']}", "", ""
