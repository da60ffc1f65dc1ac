"""Look at the machine and at a network, and say what would stop a run.

Each check is a name, an outcome and what was seen; the exit code is 0 if none failed. The
network is received as a run receives it, so that what works here works in a run.
"""

import argparse
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import datetime

import msgspec
from dydx_conn import Frame, MarketsContents, Network, WireError, contents, live, network

from bot import __version__

PATIENCE_NS = 10_000_000_000
MAX_SKEW_S = 5.0


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at; `outcome` is ok, warning or failed."""

    name: str
    outcome: str
    seen: str


def doctor(arguments: argparse.Namespace) -> int:
    """Print every check with its outcome; return 1 if any failed."""
    from bot.commands import address

    net = address(network(arguments.network), arguments.rest, arguments.ws)
    checks = []
    for check in (*machine(), *reach(net)):
        print(f"{check.outcome:<8} {check.name:<12} {check.seen}", flush=True)
        checks.append(check)
    failed = [check.name for check in checks if check.outcome == "failed"]
    fine = sum(check.outcome == "ok" for check in checks)
    print(f"\n{fine} of {len(checks)} fine" + _list(failed))
    return 1 if failed else 0


def _list(failed: list[str]) -> str:
    return f"; failed: {', '.join(failed)}" if failed else ""


def machine() -> Iterator[Check]:
    """Look at what is here: Python, clock, terminal."""
    version = platform.python_version()
    right = (3, 11) <= sys.version_info < (3, 13)
    yield Check("python", "ok" if right else "failed", f"{version}; wanted 3.11 or 3.12")
    yield Check("bot", "ok", __version__)
    resolution_ns = time.get_clock_info("monotonic").resolution * 1e9
    fine = resolution_ns <= 1_000_000
    yield Check("clock", "ok" if fine else "warning", f"monotonic, steps of {resolution_ns:.0f} ns")
    columns, rows = shutil.get_terminal_size()
    if not sys.stdout.isatty():
        yield Check("terminal", "ok", "none: reports are plain, no dashboard")
    else:
        fits = columns >= 80 and rows >= 24
        seen = f"{columns}x{rows} {os.environ.get('TERM', '')}; wanted 80x24 or more"
        yield Check("terminal", "ok" if fits else "warning", seen)


def reach(net: Network) -> Iterator[Check]:
    """Look at a network: its REST answer, its socket, its trust, its clock against ours."""
    heard = listen(net)
    yield _rest(net, heard)
    yield _socket(net, heard)
    yield _tls(net, heard)
    if "v4_block_height" in heard:
        yield _skew(net, heard["v4_block_height"])


def listen(net: Network) -> dict[str, Frame]:
    """Receive until REST and the socket answered or failed; keep the first frame of each name.

    The name is the kind, or a message's channel. It takes no longer than `PATIENCE_NS` and a tick.
    """
    heard: dict[str, Frame] = {}
    ends = time.monotonic_ns() + PATIENCE_NS

    def pace(frame: Frame) -> bool:
        told = frame.kind == "ws" and frame.type != "error" and frame.channel
        heard.setdefault(told or frame.kind, frame)
        settled = {"http", "gap"} & heard.keys() and {"v4_block_height", "close"} & heard.keys()
        return not settled and frame.mono < ends

    live(net, [], pace=pace).subscribe()
    return heard


def _rest(net: Network, heard: dict[str, Frame]) -> Check:
    answer, failure = heard.get("http"), heard.get("gap")
    if answer is None:
        return Check("rest", "failed", f"{net.rest}: {failure.text if failure else 'no answer'}")
    try:
        (markets,) = contents(answer)
    except WireError as error:
        return Check("rest", "failed", f"{net.rest} answered {answer.type}: {error}")
    if not isinstance(markets, MarketsContents):
        return Check("rest", "failed", f"{net.rest} answered {answer.type}: {answer.text[:80]}")
    return Check("rest", "ok", f"{net.rest} lists {len(markets.markets)} markets")


def _socket(net: Network, heard: dict[str, Frame]) -> Check:
    if "open" not in heard:
        why = heard["close"].text if "close" in heard else "no answer"
        return Check("socket", "failed", f"{net.ws}: {why}")
    if "v4_markets" not in heard:
        return Check("socket", "failed", f"{net.ws} opened, and did not confirm what was asked")
    taken_ms = (heard["v4_markets"].mono - heard["sent"].mono) / 1e6
    return Check("socket", "ok", f"{net.ws} answered in {taken_ms:.0f} ms")


def _tls(net: Network, heard: dict[str, Frame]) -> Check:
    plain = [url for url in (net.rest, net.ws) if not url.startswith(("https:", "wss:"))]
    if plain:
        outcome = "ok" if net.name == "local" else "failed"
        return Check("tls", outcome, f"{' and '.join(plain)}: not encrypted")
    texts = [heard[kind].text for kind in ("close", "gap") if kind in heard]
    refused = [text for text in texts if "CERTIFICATE" in text]
    if refused:
        return Check("tls", "failed", refused[0])
    if {"open", "http"} <= heard.keys():
        return Check("tls", "ok", "certificates verified")
    return Check("tls", "warning", "not every connection was made")


def _skew(net: Network, frame: Frame) -> Check:
    try:
        (block,) = contents(frame)
        skew_s = datetime.fromisoformat(block.time).timestamp() - frame.at / 1e9
    except (WireError, ValueError) as error:
        return Check("skew", "failed", f"expected the time of a block: {error}")
    # A stand-in venue keeps a clock of its own, so there a skew says nothing.
    bad = abs(skew_s) > MAX_SKEW_S and net.name != "local"
    return Check("skew", "failed" if bad else "ok", f"newest block minus our clock {skew_s:+.1f} s")
