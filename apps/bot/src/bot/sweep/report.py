"""What a sweep leaves behind, and what is printed of it.

Swept ─► ranked ─► a table, how much of the best is luck
─► results.parquet, rows of the database, front.html, best.yaml
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from dydx_conn import ConnError

from bot.config.varied import varied, yaml_of
from bot.database.rows import database_of
from bot.engines.engine import Engine
from bot.outlet import as_lines
from bot.sweep.block import Outcome
from bot.sweep.page import share, shown, sweep_page
from bot.sweep.ranking import Overfit, Ranked, intervals, overfit, ranked
from bot.sweep.results import FILE, TABLE, write_table
from bot.sweep.run import Plan, Swept
from bot.system import absent

PAGE: Final = "front.html"
BEST: Final = "best.yaml"
_ROWS: Final = 10


class Report:
    """What a sweep leaves behind: files, rows, and what is printed."""

    def __init__(
        self,
        plan: Plan,
        swept: Swept,
        folder: Path,
        arguments: argparse.Namespace,
        engine: Engine,
        *,
        torn: int,
    ) -> None:
        self.complete = True
        self._plan, self._swept, self._folder = plan, swept, folder
        self._arguments, self._engine, self._torn = arguments, engine, torn
        self._rows = ranked(swept, plan)
        self._known = [row for row in self._rows if row.objectives is not None]
        self._best = self._known[0] if self._known else None
        self._overfit = overfit(swept, plan, self._known)
        self._intervals = (
            intervals(swept, plan, self._best.config_hash) if self._best is not None else {}
        )
        self._troubles: list[str] = []

    def write(self) -> None:
        """Write what is made of the results; what cannot be is a trouble, and no more."""
        names = {source.sha256: source.name for source in self._plan.sources}
        outcomes = [*self._swept.outcomes.values()]
        self._note(write_table(self._folder / TABLE, outcomes, names))
        self._store(names)
        if self._best is not None:
            head = f"Chosen by bot sweep {self._arguments.grid}: best {self._plan.objectives[0]}\n"
            head += f"of {len(self._known)} variants; settings {self._best.config_hash[:8]}."
            loaded = varied(self._plan.base, self._best.changes)
            self._save(BEST, yaml_of(loaded, head, self._best.changes))
            if missing := absent("web", PAGE):
                self._note(missing)
            else:
                self._save(PAGE, sweep_page(self._plan, self._rows, self._head()))

    def _store(self, names: Mapping[str, str]) -> None:
        if not (url := database_of(self._arguments)) or not self._swept.outcomes:
            return
        from bot.database.sweep_rows import store_sweep

        now, grid = time.time_ns(), self._plan.grid.name
        rows = [_row(one, grid, names, now) for one in self._swept.outcomes.values()]
        try:
            store_sweep(url, rows)
        except ConnError as error:
            self._note(str(error))

    def _save(self, name: str, text: str) -> None:
        try:
            (self._folder / name).write_text(text, encoding="utf-8")
        except OSError as error:
            what = f"expected to write {self._folder / name}"
            self._note(f"{what}, got {(error.strerror or str(error)).lower()}")

    def _note(self, trouble: str) -> None:
        if trouble:
            self._troubles.append(trouble)

    def print(self) -> None:
        """Print it, as JSON where that was typed."""
        for trouble in self._troubles:
            print(f"bot: warning: {trouble}", file=sys.stderr)
        if self._arguments.json:
            print(json.dumps(self.as_json(), indent=2))
            return
        print(as_lines(self.lines()))

    def as_json(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {
            "grid": self._plan.grid.name,
            "complete": self.complete,
            "results_hash": self._swept.digest,
            "results": len(self._swept.outcomes),
            "objectives": self._plan.objectives,
            "recordings": [
                {"name": one.name, "path": one.path, "hash": one.sha256, "span": one.span}
                for one in self._plan.sources
            ],
            "variants": msgspec.to_builtins(self._rows),
            "intervals": msgspec.to_builtins(self._intervals),
            "overfit": msgspec.to_builtins(self._overfit),
            "left_out": msgspec.to_builtins(self._swept.left_out),
            "missing": msgspec.to_builtins(self._swept.missing),
        }

    def lines(self) -> list[str]:
        """Return it in words."""
        found = [f"{name:<13}{words}" for name, words in self._head()]
        found += ["", *table_lines(self._plan, self._known[:_ROWS]), ""] if self._known else []
        if not self.complete:
            found.append("ended early: the same command goes on with what is there")
        return found + self._further()

    def _further(self) -> list[str]:
        """Return what was left for whoever swept, and what to type next."""
        if self._best is None:
            return []
        best, page = self._folder / BEST, self._folder / PAGE
        rows = [("page", f"{page}, for a browser")] if page.exists() else []
        rows.append(("chosen", f"{best}, the settings of the first row"))
        names = [source.name for source in self._plan.sources][:1]
        words = shlex.join(["bot", "backtest", str(best), *dict.fromkeys(names)])
        rows.append(("next", f"{words} --report-html chosen.html"))
        rows.append(("", shlex.join(["bot", "paper", "--config", str(best)])))
        return [f"{name:<13}{words}" for name, words in rows]

    def _head(self) -> list[tuple[str, str]]:
        swept, plan = self._swept, self._plan
        fields, names = plan.grid.fields, [*dict.fromkeys(one.name for one in plan.sources)]
        spans = [one for one in plan.sources if one.opens_ns is not None]
        left_out = {json.dumps(one.changes): one.why for one in swept.left_out}
        rows = [
            ("sweep", f"{plan.grid.name}: {_many(fields, 'setting')}, "
             f"{_many(swept.variants, 'variant')}"),
            ("recordings", ", ".join(names[:3]) + f" and {len(names) - 3} more" * (len(names) > 3)
             + f", in {_many(spans, 'span')}" * bool(spans)),
            ("engine", f"{self._arguments.engine}, {_workers(self._engine.workers)}"),
            ("results", f"{len(swept.outcomes):,} in {self._folder / FILE}, {swept.known:,} of "
             "them known before"),
            ("digest", f"hash {swept.digest}"),
        ]  # fmt: skip
        if left_out:
            why = next(iter(left_out.values()))
            rows.append(("left out", f"{_many(left_out, 'combination')}, such as: {why}"))
        if self._torn:
            rows.append(
                ("torn", f"{_many(range(self._torn), 'line')} of an earlier sweep, made again")
            )
        rows += [("lost", f"{one.variants} on {one.name}: {one.why}") for one in swept.missing]
        return rows + luck_rows(self._overfit, self._intervals)


def _row(one: Outcome, grid: str, names: Mapping[str, str], now: int) -> dict[str, Any]:
    """Return a result as the database has it."""
    figures, key = one.figures, one.key
    return {
        "recording": key.recording, "span": key.span, "config_hash": key.config, "code": key.code,
        "at": now, "grid": grid, "name": names.get(key.recording, ""),
        "run_hash": figures.run_hash, "fidelity": figures.fidelity, "failure": one.failure,
        "profit": figures.total.profit, "trades": figures.total.trades,
        "changes": one.changes, "figures": msgspec.to_builtins(figures.total),
    }  # fmt: skip


def _many(of: Any, noun: str) -> str:
    return f"{len(of):,} {noun}{'s' * (len(of) != 1)}"


def _workers(count: int) -> str:
    return f"{count} worker{'s' * (count != 1)}"


def luck_rows(found: Overfit, best: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return in words how much of the best is luck."""
    rows = []
    for name, one in best.items():
        if one.low is not None:
            words = f"{shown(one.value)}, 95 of 100 samples within {shown(one.low)} and "
            rows.append((f"{name}", f"of the best {words}{shown(one.high)}"))
    if found.deflated is not None:
        words = f"that it is better than the best of {found.trials} by luck"
        rows.append(("deflated", f"{100 * found.deflated:.0f} % {words}"))
    if (chosen := found.chosen) is not None:
        words = "how often the best of half the time is among the worse of the other half"
        rows.append(("overfitting", f"{100 * chosen.probability:.0f} %: {words}"))
    if not rows and found.trials:
        words = f"unknown: expected a day or more of each variant, got {found.hours:.1f} h"
        rows.append(("luck", words))
    return rows


def table_lines(plan: Plan, rows: Sequence[Ranked]) -> list[str]:
    """Return the best variants as a table: settings by the ends of their names."""
    paths = [field.path for field in plan.grid.fields]
    lasts = [path.rpartition(".")[2] for path in paths]
    names = [
        last if lasts.count(last) == 1 else path for path, last in zip(paths, lasts, strict=True)
    ]
    others = {name: of for name, of in _OTHERS.items() if name not in plan.objectives}
    heads = ["", *names, *plan.objectives, *others, "trades", "settings"]
    cells = [
        [
            "*" * row.on_front, *(shown(row.changes.get(path)) for path in paths),
            *map(shown, row.objectives or ()), *(of(row) for of in others.values()),
            f"{row.trades:,}", row.config_hash[:8],
        ]
        for row in rows
    ]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    return [
        "  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [heads, *cells]
    ]


_OTHERS: Final[Mapping[str, Callable[[Ranked], str]]] = {
    "profit": lambda row: shown(row.profit),
    "drawdown": lambda row: share(row.drawdown),
}
