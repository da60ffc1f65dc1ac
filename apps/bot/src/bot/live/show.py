"""One panel of a run on its own, drawn again as the run goes on.

    a recording, at its speed ─┐
    a network, as it comes ────┴─► Bot ──► dashboard of one panel, or one print at the end

On a terminal it is the dashboard with that panel alone: its keys work, and any other panel is a
key away. In a pipe it is printed once, as it stands at the end.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import dydx_panels
from dydx_conn import NETWORKS, ConnError, Frame, Inbox, find_recording, live
from reactivex import Observable, operators

from bot.config.configured import environment_of
from bot.config.environment import enter
from bot.config.validation import check_chain
from bot.live.commands import bot_for, replayed_to_end, travel_of
from bot.live.runs import (
    conduct,
    history_of,
    on_dashboard,
    options_of,
    require_frames,
    require_tickers,
    tickers_of,
    until,
)
from bot.run.budget import LIVE, Foreseen
from bot.run.composition import Bot
from bot.screen.closeup import closeup


def panel(arguments: argparse.Namespace) -> int:
    """Show one panel of a recording or of a network, or write the dashboard as a picture."""
    from bot.screen.picture import print_panel, write_svg

    if not arguments.panel:
        print("\n".join(listed()))
        return 0
    # A wrong word is refused before the run, not after it.
    size = size_of(arguments.size) if arguments.svg else (80, 24)
    if not arguments.svg:
        dydx_panels.panel(arguments.panel, dydx_panels.Snapshot(), *size)
    name = arguments.recording = source_of(arguments)
    if arguments.panel == "detectors":
        arguments.detectors = True
    if is_network(name):
        bot = live_panel(arguments)
    elif on_dashboard(arguments) and not arguments.svg and arguments.at is None:
        bot = replayed_panel(arguments)
    else:
        bot, _ = replayed_to_end(arguments, arguments.at, partial(look, arguments))
    if arguments.svg:
        write_svg(bot, name, Path(arguments.svg), *size)
    elif not on_dashboard(arguments) or arguments.at is not None:
        print_panel(bot, name, arguments.panel)
    return 0


def listed() -> Iterator[str]:
    """Yield a line for each panel: the key that shows it on a dashboard, its name, what it is."""
    yield "bot panel NAME [RECORDING | --network X] shows one of these; its key on a dashboard:"
    for key, name in dydx_panels.KEYS.items():
        yield f"  {key}  {name:<12} {dydx_panels.ABOUT.get(name, '')}"


def source_of(arguments: argparse.Namespace) -> str:
    """Return the recording or the network that was typed, as a word or as an option."""
    typed, chosen = arguments.recording, arguments.network
    if typed and chosen and not (is_network(typed) and typed == chosen):
        raise ConnError(f"expected a recording or a --network, got both: {typed} and {chosen}")
    return typed or chosen or "quickstart"


def is_network(name: str) -> bool:
    """Return whether a name is that of a network, and not of a recording."""
    return name in NETWORKS or name.endswith(".toml")


def look(arguments: argparse.Namespace, bot: Bot) -> None:
    """Read what the panel shows, as it would while it is drawn."""
    bot.shown.ticker = arguments.market.upper()
    for view in bot.shown.watched:
        closeup(bot, arguments.panel, view.ticker)


def replayed_panel(arguments: argparse.Namespace) -> Bot:
    """Play a recording behind the panel."""
    recording = Foreseen(find_recording(arguments.recording))
    bot, inbox = bot_for(arguments, recording), Inbox()
    bot.shown.ticker = arguments.market.upper()

    travel = travel_of(bot, recording, inbox)

    def source(pace: Callable[[Frame], bool]) -> Observable[Frame]:
        return travel.frames(until(arguments.seconds, pace))

    conduct(
        arguments, bot, source, inbox, mode="REPLAY", name=arguments.recording,
        speed=arguments.speed or 20.0, recording=recording.path, panel=arguments.panel,
        travel=travel,
    )  # fmt: skip
    return bot


def live_panel(arguments: argparse.Namespace) -> Bot:
    """Take frames of a network behind the panel, on paper; nothing is recorded."""
    arguments.network = arguments.recording
    net = enter(environment_of(arguments))
    tickers, inbox = tickers_of(arguments), Inbox()
    bot, check = Bot(options_of(arguments, budget=LIVE)), require_tickers(tickers, net)
    bot.shown.ticker = arguments.market.upper()
    check_chain(net)

    def source(pace: Callable[[Frame], bool]) -> Observable[Frame]:
        bounded, history = until(arguments.seconds, pace), history_of(bot, tickers)
        frames = live(net, tickers, history=history, pace=bounded, inbox=inbox)
        return frames.pipe(operators.do_action(check))

    conduct(arguments, bot, source, inbox, mode="PAPER", name=net.name, panel=arguments.panel)
    require_frames(bot, net)
    return bot


def size_of(text: str) -> tuple[int, int]:
    """Read columns and rows, as in 120x40."""
    columns, _, rows = text.partition("x")
    if not (columns.isdigit() and rows.isdigit() and 0 < int(columns) <= 400 and int(rows) <= 120):
        raise ConnError(f"expected a size such as 120x40, at most 400x120, got {text!r}")
    return int(columns), int(rows)
