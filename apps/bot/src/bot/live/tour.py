"""A tour of the dashboard: a recording stops where something happens first, and explains it.

recording ─► Bot ─► Tour (bot.screen.tour) ─┬─► dashboard that stops, shows a panel and goes on
                                            └─► in a pipe: the same text, the panels as text
"""

import argparse
import textwrap
from collections.abc import Callable
from typing import Final

from dydx_conn import Frame, Inbox, find_recording
from dydx_conn import replay as play
from reactivex import Observable

from bot.live.commands import bot_for, travel_of
from bot.live.runs import conduct, on_dashboard, run_to_end
from bot.run.budget import Foreseen
from bot.run.composition import Bot

_WIDTH: Final = 80


def tour(arguments: argparse.Namespace) -> int:
    """Show a newcomer around: on a terminal on the dashboard, in a pipe as text."""
    from bot.screen.tour import SPEED

    # Where much is risked, the guard has something to do.
    arguments.profile = arguments.profile or "reckless"
    arguments.json = arguments.quiet = False
    recording = Foreseen(find_recording(arguments.recording))
    bot, newest = bot_for(arguments, recording), recording.newest()
    end = None if newest is None else newest.mono  # behind it the connections close

    def bounded(pace: Callable[[Frame], bool]) -> Callable[[Frame], bool]:
        return lambda frame: (end is None or frame.mono <= end) and pace(frame)

    if on_dashboard(arguments):
        inbox = Inbox()
        travel = travel_of(bot, recording, inbox)
        conduct(
            arguments, bot, lambda pace: travel.frames(bounded(pace)), inbox, mode="REPLAY",
            name=arguments.recording, speed=SPEED, recording=recording.path, travel=travel,
            tours=True,
        )  # fmt: skip
    else:
        _print(bot, lambda pace: play(recording, pace=bounded(pace)), arguments.recording)
    return 0


def _print(
    bot: Bot, source: Callable[[Callable[[Frame], bool]], Observable[Frame]], name: str
) -> None:
    from bot.screen.picture import print_dashboard, print_trimmed
    from bot.screen.tour import SPEED, Stop, Tour

    walk = Tour(bot)

    def show(stop: Stop) -> None:
        print(f"\n{walk.title(stop)}\n\n{textwrap.fill(stop.text, _WIDTH)}\n")
        if stop.panel:
            print_trimmed(bot, name, stop.panel)
        else:
            print_dashboard(bot, name, SPEED)

    def look(_: Frame) -> bool:
        while (stop := walk.look()) is not None:
            show(stop)
        return True

    bot.follow()
    run_to_end(bot, source(look))
    show(walk.end())
