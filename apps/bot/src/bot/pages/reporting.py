"""A page about a run, written when it ends: beside the run, as a recording or a database is.

begin ──► note of each frame, entries ──► Gathered ──► end ──► write ──► FILE
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from dydx_conn import Inbox, Recording
from msgspec.structs import replace

from bot.pages.gathered import Gathered
from bot.pages.of_run import Source, report_of_run
from bot.pages.report_page import report_page
from bot.pages.shape import Named
from bot.pages.style import require_plotly
from bot.run.composition import Bot


class Reporting:
    """Gathers what a page needs of a run, and writes it; what fails is in `trouble`."""

    name = "report"

    def __init__(self, bot: Bot, path: Path) -> None:
        require_plotly("--report-html")  # refused before the run, not after it
        self.trouble = ""
        self._bot, self._path, self._gathered = bot, path, Gathered(bot)
        self.note = self._gathered.note

    def begin(self, inbox: Inbox) -> None:
        """Gather from here on."""
        self._gathered.follow()

    def end(self) -> None:
        """Look at the run for the last time."""
        self._gathered.end()

    def write(
        self,
        name: str,
        mode: str,
        network: str,
        recording: Recording | None = None,
        *,
        complete: bool = True,
        chance: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Write the page of the run that has ended; `chance` says how far it can be believed."""
        source = Source(name, mode.lower(), network, recording, complete)
        believed = tuple(Named(name=title, words=words) for title, words in chance)
        try:
            report = report_of_run(self._bot, self._gathered, source)
            page = report_page(replace(report, chance=believed))
            self._path.write_text(page, encoding="utf-8")
            print(f"bot: wrote {self._path}", file=sys.stderr)
        except OSError as error:
            what = error.strerror or str(error)
            self.trouble = f"expected to write the report to {self._path}, got {what.lower()}"
