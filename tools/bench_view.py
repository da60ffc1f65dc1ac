"""How soon a frame is in a browser, and what ten of them cost: fed as by a network.

    recording ── thread, as it was ──► Inbox ──► Bot ──► Desk ──► painter ──► server ──► viewers
                                                                     (ten, in another process)

Each frame counts: from the moment at which it is put in until the first message that has it is at
every viewer. The clock is the machine's own, the same in both processes. What it costs is the time
of the bot's process on a core, beside that of the same frames with nobody who looks.
"""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from bench_screen import feed, taken
from bot.config.api import ApiSettings
from bot.run.composition import Bot, Options
from bot.run.desk import Desk
from bot.serve.served import Served
from bot.serve.server import serving
from bot.serve.tokens import Tokens, made
from dydx_conn import Frame, Inbox, collect, from_generator, load_recorded_stream

VIEWERS: Final = 10
SIZE: Final = {"columns": 176, "rows": 54}
SPEED: Final = 1.0
MOST_S: Final = 30.0
_SETTLED_S: Final = 8.0  # the first drawing, and the import of plotly, are no part of it


def view(recording: str) -> Iterator[tuple[str, str, str, str]]:
    """Play a recording with nobody who looks, and with ten."""
    frames = within(collect(load_recorded_stream(recording)), MOST_S * SPEED)
    alone_s, _, _ = looked_at(frames, 0)
    spent_s, mono, arrivals = looked_at(frames, VIEWERS)
    late = sorted(delays(mono, arrivals))
    for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
        ms = late[min(int(len(late) * share), len(late) - 1)] / 1e6
        figure = f"frame to browser, {name} of {len(late):,}"
        yield figure, f"{ms:.1f} ms", "", "< 100 ms" if name == "p99" else ""
    lasted_s = (mono[-1][1] - mono[0][1]) / 1e9 - _SETTLED_S
    share = 100 * (spent_s - alone_s) / lasted_s
    messages = sum(len(one) for one in arrivals) / max(len(arrivals), 1) / lasted_s
    alone = 100 * alone_s / lasted_s
    yield f"{VIEWERS} viewers of a core", f"{share:.1f} %", f"{alone:.1f} %", "< 5 %"
    yield "messages a second to each", f"{messages:.1f}", "", ""


def within(frames: Sequence[Frame], seconds: float) -> Sequence[Frame]:
    """Return the frames of the first so many seconds."""
    return [frame for frame in frames if (frame.mono - frames[0].mono) / 1e9 <= seconds]


def delays(mono: Sequence[tuple[int, int]], arrivals: Sequence[Sequence[Any]]) -> Iterator[float]:
    """Yield how long each frame took to each viewer, in ns, once it had settled."""
    for viewer in arrivals:
        seqs = [seq for _, seq in viewer]
        begins = max(viewer[0][0], mono[0][1]) + int(_SETTLED_S * 1e9) if viewer else 0
        for seq, at in mono:
            place = bisect_left(seqs, seq)
            if at >= begins and place < len(viewer):
                yield viewer[place][0] - at


def looked_at(
    frames: Sequence[Frame], viewers: int, program: str = __file__
) -> tuple[float, list[tuple[int, int]], list[list[Any]]]:
    """Play frames while so many look; return CPU seconds, when each came, and what arrived.

    They look in another `program`, with a port, a token and their number as its words.
    """
    bot, inbox, desk = Bot(Options()), Inbox(), Desk()
    desk.begin(bot)
    inbox.attend = desk.attend
    mono: list[tuple[int, int]] = []
    spent: list[float] = []

    def pace(frame: Frame) -> bool:
        desk.answer()
        mono.append((frame.seq, frame.mono))
        if not spent and frame.mono - mono[0][1] > _SETTLED_S * 1e9:
            spent.append(time.process_time())
        return True

    with served(bot, inbox, desk) as (port, token):
        looking = looked(program, port, token, viewers) if viewers else None
        if looking is not None:
            ready(looking, desk)
        feeder = threading.Thread(target=feed, args=(frames, SPEED, inbox), daemon=True)
        feeder.start()
        bot.run(from_generator(lambda: taken(inbox, pace, len(frames))))
        spent_s = time.process_time() - spent[0]
        feeder.join()
        arrivals = [] if looking is None else json.loads(looking.communicate(b"\n")[0])
    return spent_s, mono, arrivals


@contextlib.contextmanager
def served(bot: Bot, inbox: Inbox, desk: Desk) -> Iterator[tuple[int, str]]:
    """Serve a run on loopback; yields the port, and the token that may look."""
    with tempfile.TemporaryDirectory() as place, socket.socket() as listener:
        read, trading = (str(Path(place, kind)) for kind in ("read", "trading"))
        for path in (read, trading):
            made(Path(path))
        settings = ApiSettings(address="127.0.0.1:0", read_token=read, trading_token=trading)
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        run = Served(
            desk=desk, inbox=inbox, mode="PAPER", name="bench", settings=settings,
            tokens=Tokens(settings),
        )  # fmt: skip
        with serving(run, listener):
            token = Path(read).read_text(encoding="ascii").strip()
            yield listener.getsockname()[1], token


def looked(program: str, port: int, token: str, viewers: int) -> "subprocess.Popen[bytes]":
    """Begin so many viewers in a process of their own; it reports once it reads a line."""
    command = [sys.executable, program, str(port), token, str(viewers)]
    # It prints a line once all look, and what arrived once it reads one.
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def ready(looking: "subprocess.Popen[bytes]", desk: Desk) -> None:
    """Answer until all look, however slow the machine is: a run that has not begun goes on."""
    waiting = threading.Thread(target=looking.stdout.readline if looking.stdout else int)
    waiting.start()
    while waiting.is_alive():
        time.sleep(desk.attend())


# --- the other process ---


async def watch(port: int, token: str, ends: asyncio.Event, found: list[tuple[int, int]]) -> None:
    """Look, and note of each message when it arrived and its newest frame."""
    from websockets.asyncio.client import connect

    headers = {"Authorization": f"Bearer {token}"}
    url = f"ws://127.0.0.1:{port}/view/live"
    async with connect(url, additional_headers=headers, max_size=None) as socket:
        await socket.send(json.dumps(SIZE))
        while not ends.is_set():
            with contextlib.suppress(TimeoutError):
                text = await asyncio.wait_for(socket.recv(), 1.0)
                at = time.monotonic_ns()
                found.append((at, json.loads(text)["seq"]))


async def watch_all(port: int, token: str, viewers: int) -> list[list[tuple[int, int]]]:
    """Look with so many until a line comes."""
    ends, found = asyncio.Event(), [list[tuple[int, int]]() for _ in range(viewers)]
    watching = [asyncio.create_task(watch(port, token, ends, one)) for one in found]
    while not all(found):
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    ends.set()
    await asyncio.gather(*watching, return_exceptions=True)
    return found


if __name__ == "__main__":
    _port, _token, _viewers = sys.argv[1:]
    print(json.dumps(asyncio.run(watch_all(int(_port), _token, int(_viewers)))))
