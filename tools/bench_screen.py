"""How soon a terminal shows what became of the account: fed as by a network, drawn on a real one.

    recording ── thread, faster ──► Inbox ──► Bot ──► Screen ──► a terminal, which somebody reads

Measured from the moment at which a frame is put in until the terminal has the picture: the wait,
the folding, the drawing and the writing. The floor is what a drawing takes. The account is another
program's, so that it changes as often as the recording says.
"""

import os
import pty
import termios
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Final

from bot.run.composition import Bot, Options
from bot.run.wire import WireVenue
from bot.screen.screen import Screen
from dydx_conn import Frame, Inbox, Subaccount, collect, from_generator, load_recorded_stream
from rich.console import Console

SPEED: Final = 4.0  # times as fast as it was recorded: 107 messages of the account in 30 s
SIZE: Final = (60, 200)


def screen(recording: str) -> Iterator[tuple[str, str, str, str]]:
    """Play a recording of an account, and measure how soon its changes are on the screen."""
    bot, floor_ms = shown(collect(load_recorded_stream(recording)), SPEED)
    known = bot.meters.shown
    for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
        ms = (known.percentile(share) or 0) / 1e6
        figure = f"account change to terminal, {name} of {known.count}"
        yield figure, f"{ms:.1f} ms", f"{floor_ms:.1f} ms", "< 100 ms" if name == "p99" else ""


def shown(frames: Sequence[Frame], speed: float) -> tuple[Bot, float]:
    """Show frames on a terminal as they come; return the run, and what a drawing took, in ms."""
    ids = (frame.id for frame in frames if frame.channel == "v4_subaccounts")
    owner, _, number = next(ids).partition("/")
    bot = Bot(Options(), WireVenue(Subaccount(owner, int(number))))
    inbox = Inbox()
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, SIZE)
    reader = threading.Thread(target=read, args=(ours,), daemon=True)
    reader.start()
    with open(theirs, "w", encoding="utf-8") as terminal:
        console = Console(file=terminal, force_terminal=True, color_system="truecolor",
                          width=SIZE[1], height=SIZE[0])  # fmt: skip
        feeder = threading.Thread(target=feed, args=(frames, speed, inbox), daemon=True)
        with Screen(bot, mode="PAPER", name="bench", console=console, inbox=inbox) as seen:
            feeder.start()
            bot.run(from_generator(lambda: taken(inbox, seen.pace, len(frames))))
    reader.join()
    os.close(ours)
    return bot, bot.meters.draw_ms or 0.0


def feed(frames: Sequence[Frame], speed: float, inbox: Inbox) -> None:
    """Put frames in, each when it is due."""
    began = time.monotonic()
    for frame in frames:
        time.sleep(max(began + (frame.mono - frames[0].mono) / 1e9 / speed - time.monotonic(), 0))
        inbox.put(
            frame.kind, frame.text, frame.type, frame.channel, frame.id, frame.message_id,
            link=frame.link,
        )  # fmt: skip


def taken(inbox: Inbox, pace: Callable[[Frame], bool], count: int) -> Generator[Frame]:
    """Take so many frames out, as `live` does."""
    for seq in range(1, count + 1):
        while (frame := inbox.take(seq, 1.0)) is None:
            pass
        if not pace(frame):
            return
        yield frame


def read(terminal: int) -> None:
    """Read a terminal to its end, as whoever shows it does."""
    try:
        while os.read(terminal, 65_536):
            pass
    except OSError:
        return
