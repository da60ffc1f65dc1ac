"""Which recording is meant: by its name, or as that of a run which the database has.

NAME, PATH ──┐
--run N ─────┴─► source_of ─► a path
"""

import argparse
from pathlib import Path

from dydx_conn import Recording, find_recording

from bot.bundle.parcel import BundleError
from bot.database.rows import database_of


def source_of(arguments: argparse.Namespace) -> Path:
    """Return the recording that is meant: by its name, by a run of the database, or the bundled."""
    if arguments.run is None:
        return find_recording(arguments.recording or "quickstart")
    if arguments.recording is not None:
        what = "expected a recording or --run N"
        raise BundleError(f"{what}, got both: {arguments.recording} and {arguments.run}")
    return recording_of(arguments)


def recording_of(arguments: argparse.Namespace) -> Path:
    """Return where a run of the database recorded its frames; `BundleError` if nowhere."""
    from sqlalchemy import select

    from bot.database.tables import engine_of, explained, file_of, runs, shown

    # Of what was typed the database alone: the run's own settings are in its recording.
    url = database_of(argparse.Namespace(config=arguments.config, database=arguments.database))
    path = file_of(url) if url else None
    if not url or (path is not None and not path.exists()):
        raise BundleError(f"expected a database with runs, got {path or 'none'}: --database")
    with explained(url), engine_of(url).connect() as connection:
        wanted = select(runs.c.recording, runs.c.began).where(runs.c.id == arguments.run)
        row = connection.execute(wanted).first()
    if row is None:
        what = f"expected a run of {shown(url)}"
        raise BundleError(f"{what}, got {arguments.run}: bot pnl --by run lists them")
    if not row.recording:
        what = f"expected a run with a recording, got run {arguments.run}, which has none"
        raise BundleError(f"{what}: --record FILE writes one")
    return _as_recorded(row.recording, row.began)


def _as_recorded(name: str, began: int) -> Path:
    """Return the file of a run; of a name with the {time} in it the one that began with it."""
    path = Path(name)
    if "{time}" in path.name:
        files = [*path.parent.glob(path.name.replace("{time}", "*"))]
        near = sorted(files, key=lambda file: abs(Recording(file).header.ns - began))
        path = near[0] if near else path
    if not path.exists():
        raise BundleError(f"expected the recording of the run in {path}, got no file")
    return path
