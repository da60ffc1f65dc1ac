"""The log: in which file what happens is written down, from which level on, and how much of it.

LogSettings ──► bot.logs.run: a line of JSON for each thing that happens, in files that rotate
"""

from typing import Final, Literal, get_args

from pydantic import Field

from bot.config.section import HomePath, Section

Level = Literal["debug", "info", "warning", "error"]
LEVELS: Final[tuple[Level, ...]] = get_args(Level)


class LogSettings(Section):
    """The log of a run: a line of JSON for each thing that happens."""

    file: HomePath = Field(
        default="",
        description="path of the log of bot paper and bot trade; empty for one of each account in "
        "the state directory, none for no log",
    )
    level: Level = Field(
        default="info",
        description="what is written: debug (decisions too), info, warning or error and above; may "
        "change while it runs",
    )
    human: bool = Field(
        default=False, description="the same for people on stderr, where there is no dashboard"
    )
    max_bytes: int = Field(
        default=10_000_000, ge=10_000, description="size of a file at which the next one begins"
    )
    backups: int = Field(
        default=5, ge=0, le=1_000, description="files before the newest one that are left: FILE.1 …"
    )
