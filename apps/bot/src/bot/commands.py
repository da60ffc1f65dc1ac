"""What each command does, once its words are checked.

replay, paper ──► a source of frames ──► Bot.run ──► dashboard or report
why, panel    ──► the same run, at full speed, then one answer from it
"""

import argparse
import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from dydx_conn import (
    ConnError,
    Frame,
    Header,
    MarketsContents,
    Network,
    NetworkError,
    Recording,
    RecordingWriter,
    Subaccount,
    contents,
    find_recording,
    key_of,
    live,
)
from dydx_conn import replay as play
from reactivex import Observable, operators

from bot.composition import Bot, Options
from bot.environment import check_chain, enter, settings_of
from bot.report import figures, print_report
from bot.why import chain

Source = Callable[[Callable[[Frame], bool]], Observable[Frame]]


DEPOSIT: Final = 10_000
# What the header of a recording says of a run with real orders: for whom, and sized to what.
RUN: Final = re.compile(r"trade (\w+)/(\d+) (\d+)")


def bot_for(arguments: argparse.Namespace, recording: Recording) -> Bot:
    """Return a bot as it was recorded: the orders of a real run were sent, and are not again."""
    run = RUN.fullmatch(recording.header.run)
    if run is None:
        return Bot(options_of(arguments))
    from bot.trade import WireVenue

    venue = WireVenue(Subaccount(run[1], int(run[2])))
    return Bot(options_of(arguments, int(run[3])), venue)


def options_of(arguments: argparse.Namespace, deposit: int = DEPOSIT) -> Options:
    """Gather what changes how the bot acts; `deposit` is for whoever typed none."""
    usdc = deposit if arguments.deposit is None else arguments.deposit
    if usdc <= 0:
        raise ConnError(f"expected a deposit above 0 USDC, got {usdc}")
    return Options(strategy=arguments.strategy, deposit=usdc, guard=not arguments.no_guard)


def replay(arguments: argparse.Namespace) -> int:
    """Play a recording, on a dashboard if this is a terminal, and report."""
    recording = Recording(find_recording(arguments.recording))
    bot = bot_for(arguments, recording)
    speed = arguments.speed
    if on_dashboard(arguments):
        return watch(
            bot,
            lambda pace: play(recording, pace=pace),
            mode="REPLAY",
            name=arguments.recording,
            speed=speed or 20.0,
            recording=recording.path,
        )
    complete = run_to_end(bot, play(recording, speed=speed))
    report = figures(bot, name=arguments.recording, recording=recording, complete=complete)
    print_report(report, arguments.json)
    return 0


def paper(arguments: argparse.Namespace) -> int:
    """Trade on paper against a live network until told to stop, and report."""
    net = enter(settings_of(arguments))
    tickers = tickers_of(arguments)
    bot = Bot(options_of(arguments))
    with recorder(arguments.record, net) as keep:
        check_chain(net)

        def receive(pace: Callable[[Frame], bool]) -> Observable[Frame]:
            return live(net, tickers, pace=until(arguments.seconds, pace))

        return lived(arguments, bot, net, tickers, receive, keep, mode="PAPER")


def lived(
    arguments: argparse.Namespace,
    bot: Bot,
    net: Network,
    tickers: list[str],
    receive: Source,
    keep: Callable[[Frame], None] | None,
    *,
    mode: str,
) -> int:
    """Run a bot on what a network says, with a dashboard or without, and report."""

    def source(pace: Callable[[Frame], bool]) -> Observable[Frame]:
        checked = receive(pace).pipe(operators.do_action(listed(tickers, net)))
        return checked if keep is None else checked.pipe(operators.do_action(keep))

    name = f"{net.name} {' '.join(tickers[:3])}"
    if on_dashboard(arguments):
        kept = Path(arguments.record) if arguments.record else None
        return watch(bot, source, mode=mode, name=name, recording=kept)
    run_to_end(bot, source(lambda _: True))
    heard(bot, net)
    print_report(figures(bot, name=name), arguments.json)
    return 0


def run_to_end(bot: Bot, frames: Observable[Frame]) -> bool:
    """Run a source until it ends or somebody ends it; tell which. Either way there is a report."""
    try:
        bot.run(frames)
    except KeyboardInterrupt:
        return False
    return True


def heard(bot: Bot, net: Network) -> None:
    """Refuse to report on a run in which the network never said a thing."""
    if not bot.data.views:
        why = bot.last_loss.reason if bot.last_loss else "nothing came"
        raise NetworkError(f"expected frames of {net.name} from {net.ws}, but {why}")


def why(arguments: argparse.Namespace) -> int:
    """Print the way from an id back to the wire."""
    bot, path = replayed_to_end(arguments)
    entry = bot.journal.find(arguments.id)
    if entry is None:
        newest = {e.kind: f"{e.id} ({e.kind})" for e in bot.journal.entries}
        known = list(newest.values())
        print(
            f"bot: expected the id of a decision (D1), verdict (V1), order (O1) or fill (F1) of "
            f"this run, got {arguments.id!r}; the newest are {', '.join(known) or 'none'}",
            file=sys.stderr,
        )
        return 2
    print("\n".join(chain(entry, bot.journal, path)))
    return 0


def panel(arguments: argparse.Namespace) -> int:
    """Print one panel, or write the whole dashboard as a picture."""
    from bot.screen import print_panel, write_svg

    bot, _ = replayed_to_end(arguments, arguments.at)
    name = arguments.recording
    if arguments.svg:
        write_svg(bot, name, Path(arguments.svg), *size_of(arguments.size))
        return 0
    print_panel(bot, name, arguments.panel)
    return 0


def size_of(text: str) -> tuple[int, int]:
    """Read columns and rows, as in 120x40."""
    columns, _, rows = text.partition("x")
    if not (columns.isdigit() and rows.isdigit() and 0 < int(columns) <= 400 and int(rows) <= 120):
        raise ConnError(f"expected a size such as 120x40, at most 400x120; got {text!r}")
    return int(columns), int(rows)


def on_dashboard(arguments: argparse.Namespace) -> bool:
    """Tell whether a person is looking: both ends are a terminal and nothing else was asked."""
    asked_otherwise = arguments.plain or arguments.json or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and sys.stdin.isatty() and not asked_otherwise


def watch(
    bot: Bot,
    source: Source,
    *,
    mode: str,
    name: str,
    speed: float | None = None,
    recording: Path | None = None,
) -> int:
    """Show a run while it goes, then leave its report on the terminal."""
    from bot.screen import Screen

    with Screen(bot, mode=mode, name=name, speed=speed, recording=recording) as screen:
        if run_to_end(bot, source(screen.pace)):
            screen.stay()
    print_report(figures(bot, name=name, complete=screen.finished), as_json=False)
    return 0


def replayed_to_end(
    arguments: argparse.Namespace, seconds: float | None = None
) -> tuple[Bot, Path]:
    """Run a recording as fast as it can be read; the run is what it always is."""
    path = find_recording(arguments.recording)
    bot = bot_for(arguments, Recording(path))
    # A recording ends with its connections closed and every book unknown: look before that.
    last = max((frame.seq for frame in Recording(path) if frame.kind == "ws"), default=0)
    bot.run(play(path, pace=until(seconds, lambda frame: frame.seq <= last)))
    return bot, path


def until(seconds: float | None, pace: Callable[[Frame], bool]) -> Callable[[Frame], bool]:
    """End a source after so many seconds of its own time."""
    if seconds is None:
        return pace
    first: list[int] = []

    def bounded(frame: Frame) -> bool:
        first.append(frame.mono) if not first else None
        return frame.mono - first[0] < seconds * 1e9 and pace(frame)

    return bounded


def listed(tickers: list[str], net: Network) -> Callable[[Frame], None]:
    """Refuse tickers that a network does not have, once it has said which ones it has."""
    said: list[bool] = []

    def check(frame: Frame) -> None:
        if said or key_of(frame)[0] != "v4_markets" or not (frame.is_snapshot or frame.ok):
            return
        markets = next((c.markets for c in contents(frame) if isinstance(c, MarketsContents)), {})
        said.append(bool(markets))
        if unknown := [ticker for ticker in tickers if ticker not in markets]:
            some = ", ".join(list(markets)[:8])
            raise NetworkError(
                f"expected markets of {net.name} ({len(markets)} of them: {some}, …), "
                f"got {', '.join(unknown)}"
            )

    return check


def tickers_of(arguments: argparse.Namespace) -> list[str]:
    """Read the markets to trade."""
    tickers = [ticker.strip().upper() for ticker in arguments.markets.split(",") if ticker.strip()]
    if not tickers:
        raise ConnError(f"expected tickers such as BTC-USD,ETH-USD; got {arguments.markets!r}")
    return tickers


@contextlib.contextmanager
def recorder(
    path: str | None, net: Network, run: str = ""
) -> Iterator[Callable[[Frame], None] | None]:
    """Keep the frames of a run as a recording, if a path was given."""
    if path is None:
        yield None
        return
    if Path(path).exists():
        raise ConnError(f"expected a path where nothing is yet, {path} exists")
    header = Header(
        network=net.name,
        rest=net.rest,
        ws=net.ws,
        client="dydx-v4-client",
        source="local stand-in venue" if net.name == "local" else f"dYdX {net.name}",
        run=run,
        ns=time.time_ns(),
    )
    try:
        writer = RecordingWriter(Path(path), header)
    except OSError as error:
        raise ConnError(f"expected to write a recording to {path}: {error}") from None

    def keep(frame: Frame) -> None:
        writer.write_frame(frame)

    with contextlib.closing(writer):
        yield keep
