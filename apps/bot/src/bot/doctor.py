"""Look at the machine and at a network, and say what would stop a run.

Each check is a name, an outcome and what was seen; the exit code is 0 if none failed. The
network is asked through the official client, so that what works here works in a run.
"""

import argparse
import os
import platform
import shutil
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import msgspec
from dydx_conn import Network, NetworkError, network, venue_time

from bot import __version__


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
    print(f"\n{len(checks) - len(failed)} of {len(checks)} fine" + _list(failed))
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
    """Look at a network: its certificate, its REST answer, its clock against ours."""
    yield _tls(net)
    started = time.time()
    try:
        answer = venue_time(net)
    except NetworkError as error:
        yield Check("rest", "failed", str(error))
        return
    taken = time.time() - started
    yield Check("rest", "ok", f"{net.rest} answered in {taken * 1000:.0f} ms")
    skew = answer - (started + taken / 2)
    # A stand-in venue keeps a clock of its own, so there a skew says nothing.
    bad = abs(skew) > 5 and net.name != "local"
    yield Check("skew", "failed" if bad else "ok", f"venue's clock minus ours {skew:+.1f} s")


def _tls(net: Network) -> Check:
    url = urlsplit(net.rest)
    if url.scheme != "https":
        return Check(
            "tls", "ok" if net.name == "local" else "failed", f"{net.rest} is not encrypted"
        )
    try:
        context = ssl.create_default_context()
        with (
            socket.create_connection((url.hostname or "", url.port or 443), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname=url.hostname) as secured,
        ):
            return Check("tls", "ok", f"{secured.version()}, certificate verified")
    except OSError as error:
        return Check("tls", "failed", f"{url.hostname}: {type(error).__name__}: {error}")
