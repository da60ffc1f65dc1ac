"""Run a local stand-in for dYdX v4: REST, WebSocket and node, on this machine only.

    uv run tools/venue --scenario crash --count 60 --seed 7 --speed 20

    market.py          what is listed, how it moves, one book each (matching is dydx_paper's)
    past.py            days before the start, for `--history`
    tape.py            what the indexer remembers of a market, in its own JSON
    accounts.py        wallets, subaccounts, their orders (all rules are dydx_paper's)
    residents.py       four accounts that trade by chance
    exchange.py        the clock, the blocks, funding
    roundtable.py      what the indexer does every so often
    authenticators.py  keys that an owner permits
    replicas.py        how far behind the chain REST and sockets are
    disturbances.py    what goes wrong, if it is switched on
    indexer.py         REST under /v4, WebSocket at /v4/ws
    node.py            the node's gRPC services
    tls.py             throw-away certificates, for `--tls`

With `--tls` all of it is encrypted, and a client that is to trust it is configured from outside,
as for any private authority: SSL_CERT_FILE (sockets, httpx) and GRPC_DEFAULT_SSL_ROOTS_FILE_PATH
name the file that is printed. `--habits harsh` lets everything go wrong that may at the real
venue, by the seed; how the venue reports (late, twice, in no order) needs no switch, it always
does. SIGUSR1 holds venue time, SIGUSR2 lets it go on.

It is not dYdX, it holds no money and its prices are made up. The wall clock decides only when
the next step of venue time is due, never what happens in it.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import datetime
import importlib.util
import json
import logging
import os
import re
import shlex
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dydx_conn import OrderRequest, Subaccount
    from exchange import Exchange
    from indexer import SocketHub
    from past import History
    from tls import Papers

NEEDS = ("starlette", "uvicorn", "websockets", "cryptography")
STORIES = (
    "calm: nothing much",
    "trend: one way with pullbacks",
    "crash: a gap, a slide of about 30 %% with a thin book, a partial rebound",
    "halt: no block for a minute",
    "funding-squeeze: books far above the oracle",
    "revert: each price jumps now and then, and comes back",
    "pair: two prices jump apart now and then, and come back",
)
NOW = "now"

# === Command line ===


def main() -> int:
    """Read the command line and run until Ctrl-C or SIGTERM."""
    options = parser().parse_args()
    problem = objection(options)
    if problem:
        print(f"venue: {problem}", file=sys.stderr)
        return 2
    fetch_needs()
    try:
        asyncio.run(serve(options))
    except OSError as error:
        print(f"venue: {error}; choose other ports, or 0 for any free one", file=sys.stderr)
        return 1
    return 0


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Names the defaults, but of what has none."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


def parser() -> argparse.ArgumentParser:
    """Return the parser; `--help` shows all of it."""
    wide = argparse.ArgumentParser(
        prog="uv run tools/venue",
        description="A local stand-in for dYdX v4. It speaks its wire; it is not dYdX.",
        formatter_class=_Help,
    )
    names = ("calm", "trend", "crash", "halt", "funding-squeeze", "revert", "pair")
    add = wide.add_argument
    add("--scenario", choices=names, default="calm", help="; ".join(STORIES))
    add("--count", type=int, default=3, metavar="N", help="how many markets, 1 to 250")
    # What it was called before.
    add("--markets", type=int, dest="count", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    add(
        "--seed",
        type=int,
        default=7,
        metavar="N",
        help="the same seed gives the same market events",
    )
    add("--speed", type=float, default=1.0, metavar="N", help="venue seconds per wall second")
    add("--calm", type=float, default=240.0, metavar="SECONDS", help="how long before it happens")
    add(
        "--start",
        "--now",
        default=NOW,
        metavar="ISO",
        help="venue time at the start; now keeps one clock with whoever records or trades",
    )
    past(wide.add_argument_group("history", "what REST has of the time before the start"))
    add("--port", type=int, default=3002, metavar="PORT", help="REST and WebSocket; 0 for any")
    extra = "the same again, where the official LOCAL configuration looks for it; 0 for any"
    add("--ws-port", type=int, default=3003, metavar="PORT", help=extra)
    add("--grpc-port", type=int, default=9090, metavar="PORT", help="the node; 0 for any")
    add("--seconds", type=float, default=0.0, help="stop after so many venue seconds; 0 runs on")
    add(
        "--tls",
        nargs="?",
        choices=("valid", "expired"),
        const="valid",
        help="encrypt everything, with a certificate made for this run; expired is for tests",
    )
    switches(wide.add_argument_group("disturbances", "what goes wrong, by the seed; each is off"))
    add("--stamps", type=Path, metavar="FILE", help="write when each message was sent, at the end")
    add(
        "--placed",
        type=Path,
        metavar="FILE",
        help="write each order that is received, and its answer",
    )
    return wide


def past(group: "argparse._ArgumentGroup") -> None:
    """Add the switches of the history."""
    add = group.add_argument
    add(
        "--history",
        type=history_hours,
        metavar="DAYS",
        help="so much of trades, candles and funding, such as 7d or 36h; --start ends it",
    )
    a_day = "trades a day in each market, in place of its own"
    add("--trades-per-day", type=float, metavar="N", help=a_day)
    add(
        "--history-faults",
        action="store_true",
        help="of the first market an hour is missing and another has no trades, the last market "
        "is 3 days old, nothing is older than 5 days, full pages end with a trade twice",
    )


def switches(group: "argparse._ArgumentGroup") -> None:
    """Add the switches of what may go wrong; what is not typed is left to `--habits`."""
    add = group.add_argument
    harsh = "all of them but the geo-block, as far as they are not given by themselves"
    add("--habits", choices=("plain", "harsh"), default="plain", help=f"harsh: {harsh}")
    for name, kind, metavar, what in _SWITCHES:
        add(f"--{name}", type=kind, default=argparse.SUPPRESS, metavar=metavar, help=what)


_SWITCHES: tuple[tuple[str, type, str, str], ...] = (
    ("replica-lag", int, "BLOCKS", "REST and sockets each up to so many more blocks behind"),
    ("indexer-lag", int, "BLOCKS", "the whole indexer up to so many blocks behind the node"),
    ("errors", float, "SHARE", "REST answers and snapshots that are none, 0 to 1"),
    ("node-stops", float, "SECONDS", "the node stops for 2 to 5 s, so far apart in the mean"),
    ("makers-leave", float, "SECONDS", "the makers leave for 5 to 12 s, so far apart in the mean"),
    ("silence", float, "SECONDS", "a subscription falls silent, so far apart in the mean"),
    ("geo-block", int, "STATUS", "everything but the node is refused with 403 or 451"),
)
_MOST = {"errors": 1, "replica_lag": 100, "indexer_lag": 100}


def chosen(options: argparse.Namespace) -> dict[str, Any]:
    """Return the switches that were typed, by their names as fields."""
    names = [name.replace("-", "_") for name, *_ in _SWITCHES]
    return {name: getattr(options, name) for name in names if hasattr(options, name)}


def objection(options: argparse.Namespace) -> str:
    """Return what is wrong with the options, "" if nothing is."""
    if not 1 <= options.count <= 250:
        return f"expected --count between 1 and 250, got {options.count}"
    if not 0 < options.speed <= 1000:
        return f"expected --speed above 0 and up to 1000, got {options.speed}"
    if options.calm < 0:
        return f"expected --calm in seconds, got {options.calm}"
    for name, value in chosen(options).items():
        most, typed = _MOST.get(name, 86_400), f"--{name.replace('_', '-')}"
        if not 0 <= value <= most:
            return f"expected {typed} between 0 and {most}, got {value}"
        if name == "geo_block" and value not in (403, 451):
            return f"expected {typed} 403 or 451, got {value}"
    if options.history is None and (options.trades_per_day or options.history_faults):
        return "expected --history with --trades-per-day and --history-faults, got none"
    if options.trades_per_day is not None and not 1 <= options.trades_per_day <= 1e6:
        return f"expected --trades-per-day between 1 and 1000000, got {options.trades_per_day:g}"
    try:
        options.start == NOW or datetime.datetime.fromisoformat(options.start)
    except ValueError:
        return f"expected --start like 2026-01-05T13:56:00Z, or {NOW}, got {options.start!r}"
    return ""


def history_hours(text: str) -> int:
    """Read a span such as 7d or 36h as hours; `ArgumentTypeError` if it is none."""
    found = re.fullmatch(r"(\d{1,5})([dh])", text)
    hours = int(found[1]) * (24 if found[2] == "d" else 1) if found else 0
    if not 1 <= hours <= _MOST_HOURS:
        raise argparse.ArgumentTypeError(f"expected days or hours like 7d or 36h, got {text!r}")
    return hours


_MOST_HOURS = 24 * 365


def history(options: argparse.Namespace) -> "History | None":
    """Return the past that was chosen; None without `--history`."""
    from past import Faults, History

    if options.history is None:
        return None
    faults = Faults() if options.history_faults else None
    return History(hours=options.history, trades_per_day=options.trades_per_day, faults=faults)


def begin(start: str) -> int:
    """Return venue time at the start, in nanoseconds."""
    from tape import from_iso

    return time.time_ns() if start == NOW else from_iso(start)


def fetch_needs() -> None:
    """Start again with the tools group if what it brings is missing."""
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if not missing:
        return
    folder = os.path.dirname(os.path.abspath(__file__))
    root = os.path.dirname(os.path.dirname(folder))
    command = ["run", "--project", root, "--group", "tools", folder, *sys.argv[1:]]
    uv = os.environ.get("UV")
    if uv is None or "DYDX_VENUE_AGAIN" in os.environ:
        typed = shlex.join(["uv", *command])
        sys.exit(f"venue: {', '.join(missing)} missing; type: {typed}")
    os.environ["DYDX_VENUE_AGAIN"] = "1"
    os.execv(uv, [uv, *command])


# === Serving ===


async def serve(options: argparse.Namespace) -> None:
    """Open the ports, print where they are, and let time pass until stopped."""
    with papers_for(options.tls) as papers:
        await run(options, papers)
    print("venue: closed", flush=True)


@contextlib.contextmanager
def papers_for(tls: str | None) -> "Iterator[Papers | None]":
    """Make certificates for as long as the venue runs; None without TLS."""
    if tls is None:
        yield None
        return
    from tls import issue

    with tempfile.TemporaryDirectory(prefix="dydx-venue-") as folder:
        yield issue(Path(folder), expired=tls == "expired")


async def run(options: argparse.Namespace, papers: "Papers | None") -> None:
    """Serve until stopped, or until venue time is up."""
    from disturbances import HARSH, NONE
    from exchange import Exchange, VenueSettings
    from indexer import Server, SocketHub, application
    from node import start as start_node

    # Who is gone while it is being written to is no news.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    habits = HARSH if options.habits == "harsh" else NONE
    disturbances = dataclasses.replace(habits, **chosen(options))
    hub = SocketHub(options.seed, disturbances.silence)
    began = time.monotonic()
    if options.stamps:
        hub.stamps = {}
    settings = VenueSettings(
        scenario=options.scenario,
        markets=options.count,
        seed=options.seed,
        calm_s=options.calm,
        start_ns=begin(options.start),
        disturbances=disturbances,
        history=history(options),
    )
    exchange = Exchange(settings, hub)
    if options.placed:
        exchange.received = Placed(options.placed)
    sockets = [listen(options.port), listen(options.ws_port)]
    server = Server(application(exchange, hub), papers)
    stop, held = asyncio.Event(), asyncio.Event()
    signals = {
        signal.SIGINT: stop.set,
        signal.SIGTERM: stop.set,
        signal.SIGUSR1: held.set,
        signal.SIGUSR2: held.clear,
    }
    for number, do in signals.items():
        asyncio.get_running_loop().add_signal_handler(number, do)
    serving = asyncio.create_task(server.serve(sockets=sockets))
    try:
        node, grpc_port = await start_node(exchange, options.grpc_port, papers)
    except OSError:
        server.should_exit = True
        await serving
        raise
    announce(options, exchange, sockets, grpc_port, papers)
    try:
        await pace(exchange, hub, options, began, stop, held)
    finally:
        server.should_exit = True
        await asyncio.gather(serving, node.stop(grace=0.5))
        if options.stamps:
            hub.write_stamps(options.stamps)


class Placed:
    """Writes each order that the node receives, at once: a line of JSON with its answer."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)

    def __call__(self, who: "Subaccount", order: "OrderRequest", code: int, log: str) -> None:
        """Write one down; its answer is 0 if the node took it."""
        row = {"at": time.time_ns(), "who": str(who), "code": code, "log": log}
        self._file.write(json.dumps(row | {name: getattr(order, name) for name in _ORDER}) + "\n")


_ORDER = (
    "ticker", "side", "quantums", "subticks", "time_in_force", "client_id", "reduce_only",
    "order_flags", "condition_type", "trigger_subticks",
)  # fmt: skip


def listen(port: int) -> socket.socket:
    """Bind a port of the loopback."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        raise OSError(f"cannot listen on port {port}: {error.strerror}") from None
    return listener


def announce(
    options: argparse.Namespace,
    exchange: "Exchange",
    sockets: Sequence[socket.socket],
    grpc_port: int,
    papers: "Papers | None",
) -> None:
    """Print what this is, and where."""
    residents = "\n".join(
        f"           {resident.subaccount}  {resident.name}" for resident in exchange.residents
    )
    from node import CHAIN_ID
    from tape import iso

    s, secrecy, trust = "", "not encrypted", ""
    if papers is not None:
        s, secrecy = "s", f"TLS, certificate {options.tls}"
        trust = f"authority  {papers.ca}  (name it in {' and '.join(papers.trust())})\n"
    rest, extra = (listener.getsockname()[1] for listener in sockets)
    print(
        "A stand-in for dYdX v4: made-up markets, no money, this machine only. It is not dYdX.\n"
        f"scenario {options.scenario}, {options.count} markets, seed {options.seed}, "
        f"speed {options.speed:g}, venue time from {iso(exchange.settings.start_ns)}\n"
        f"{before_it(exchange)}"
        f"REST       http{s}://127.0.0.1:{rest}\n"
        f"WebSocket  ws{s}://127.0.0.1:{rest}/v4/ws\n"
        f"WebSocket  ws{s}://127.0.0.1:{extra}\n"
        f"node gRPC  127.0.0.1:{grpc_port}  (chain {CHAIN_ID}, {secrecy})\n"
        f"{trust}"
        f"faucet     POST http{s}://127.0.0.1:{rest}/faucet/tokens "
        '{"address": …, "subaccountNumber": 0, "amount": 1000}\n'
        f"residents\n{residents}\n"
        "Ctrl-C ends it.",
        flush=True,
    )


def before_it(exchange: "Exchange") -> str:
    """Say since when there is a past, "" if there is none."""
    from tape import iso

    past = next(iter(exchange.tapes.values())).past
    if past is None:
        return ""
    faulty = ", with faults" if past.past.history.faults else ""
    return f"history    since {iso(past.past.first * 3_600_000_000_000)}{faulty}\n"


async def pace(
    exchange: "Exchange",
    hub: "SocketHub",
    options: argparse.Namespace,
    wall: float,
    stop: asyncio.Event,
    held: asyncio.Event,
) -> None:
    """Step the exchange as venue time falls due since `wall`; flush batches every 250 venue ms.

    While `held`, all that has happened is published, everything is answered, and nothing happens.
    """
    from indexer import BATCH_MS
    from market import STEP_NS

    speed = options.speed
    last = int(options.seconds * 1e9 // STEP_NS) if options.seconds else None
    due = flushed = 0.0
    while not stop.is_set():
        now = time.monotonic()
        # After a stall the venue goes on from where it was instead of racing to catch up.
        due += min((now - wall) * speed * 1e9, 2e9 * max(speed, 1.0))
        wall = now
        if held.is_set():
            due = 0.0
            exchange.publish_all()
            hub.flush()
        began = now
        while due >= STEP_NS and not (last is not None and exchange.steps >= last):
            due -= STEP_NS
            exchange.step()
            hub.silence(exchange.now_ns)
            flushed += STEP_NS
            if flushed >= BATCH_MS * 1_000_000:
                flushed -= BATCH_MS * 1_000_000
                hub.flush()
            if time.monotonic() - began > 0.02:
                # Let the sockets have their turn.
                due = min(due, 50.0 * STEP_NS)
                break
        if last is not None and exchange.steps >= last:
            hub.flush()
            return
        wait = 0.0 if due >= STEP_NS else (STEP_NS - due) / 1e9 / speed
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), max(wait, 0.001))


if __name__ == "__main__":
    sys.exit(main())
