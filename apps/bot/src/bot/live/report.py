"""`bot report`: one page about a run, or the same as JSON.

    recording ─► played again, gathered ──┐
    --run N of the database ─► its rows ──┴──► Report ──► page, JSON

What is written is one file that needs nothing else; of a stored run it has what was stored, and
names what is missing.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Final

from dydx_conn import ConnError, Frame, find_recording
from dydx_conn import replay as play
from reactivex import operators

from bot.live.commands import bot_for
from bot.live.runs import ended, run_to_end
from bot.pages.gathered import Gathered
from bot.pages.of_run import Source, report_of_run
from bot.pages.shape import Report, as_json, schema
from bot.pages.style import require_plotly
from bot.progress import Progress
from bot.run.budget import Foreseen
from bot.run.composition import trace
from bot.run.kinds import kinds_of

_STEP: Final = 500  # frames between two looks at how far it is
_MOST: Final = 1_000  # pages of one name in one place
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9._-]+")


def report(arguments: argparse.Namespace) -> int:
    """Write a page about a run, print or write JSON of it."""
    if arguments.schema:
        print(json.dumps(schema(), indent=1))
        return 0
    wants_page = arguments.html or arguments.json is None
    if wants_page:
        require_plotly("bot report")  # refused before the run, not after it
    found, code = _stored(arguments) if arguments.run is not None else _replayed(arguments)
    if arguments.json is not None:
        _write_json(found, arguments.json)
    if wants_page:
        from bot.pages.report_page import report_page

        # What a run of the network is called says nothing of which one it was.
        stem = f"run-{arguments.run}" if arguments.run is not None else _stem(found.source)
        path = _write_page(report_page(found), arguments.html, stem or found.mode)
        print(_written(path, found), file=sys.stderr if arguments.json == "-" else sys.stdout)
    return code


def _replayed(arguments: argparse.Namespace) -> tuple[Report, int]:
    recording = Foreseen(find_recording(arguments.recording), kinds_of(arguments.fidelity))
    bot = bot_for(arguments, recording)
    gathered = Gathered(bot)
    gathered.follow()
    trace(bot).looks = False  # a stopwatch alone: nobody looks at what a frame changes
    with Progress("frames", 0) as progress:
        # To read the frames takes a twentieth of the time that it takes to play them.
        frames = sum(1 for _ in recording) if progress.is_shown else 0
        progress.begin(recording.path.name, frames)

        def noted(frame: Frame) -> None:
            gathered.note(frame)
            if not frame.seq % _STEP:
                progress.at(frame.seq)

        complete = run_to_end(bot, play(recording).pipe(operators.do_action(noted)))
    gathered.end()
    network = recording.header.network
    source = Source(arguments.recording, "replay", network, recording, complete)
    return report_of_run(bot, gathered, source), ended(bot)


def _stored(arguments: argparse.Namespace) -> tuple[Report, int]:
    from bot.history.reading import chosen_url, reading, require_run
    from bot.pages.stored import report_of_stored

    with reading(chosen_url(arguments)) as connection:
        run = require_run(connection, arguments.run)
        return report_of_stored(connection, run), 0


def _write_json(found: Report, where: str) -> None:
    text = as_json(found)
    if where == "-":
        print(text.decode())
    else:
        Path(where).write_bytes(text + b"\n")


def _stem(source: str) -> str:
    return _NO_NAME.sub("-", Path(source).name.removesuffix(".jsonl.zst")).strip("-.")


def _write_page(page: str, where: str | None, stem: str) -> Path:
    """Write a page where it was typed, else to a new file of the working directory."""
    if where is not None:
        Path(where).write_text(page, encoding="utf-8")
        return Path(where)
    for number in range(1, _MOST):
        path = Path(f"report-{stem}{f'-{number}' if number > 1 else ''}.html")
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(page)
        except FileExistsError:
            continue
        return path
    raise ConnError(f"expected a free name such as {path}, got {_MOST - 1} reports already")


def _written(path: Path, found: Report) -> str:
    size = path.stat().st_size / 1e6
    what = (
        f"{len(found.trades):,} trades, {len(found.fills):,} fills, {len(found.entries):,} reasons"
    )
    return f"{path}: {what}, {size:.1f} MB; it opens without a network"
