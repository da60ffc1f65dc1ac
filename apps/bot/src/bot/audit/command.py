"""`bot audit`: the trading logic, scenario by scenario, as it is computed here and now.

    scenarios (bot.audit) ─► carried_out ─► Outcome ─► terminal, Markdown, HTML, JSON

Each row has what is expected, what came of it on small inputs through the layers that trade, and
which tests prove the same at length. Nothing is sent beyond this machine, and no key is read.
"""

import argparse
import json
import platform
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import msgspec
from dydx_conn import ConnError

from bot import __version__
from bot.audit.errors import ERRORS
from bot.audit.exits import COSTS, EXITS
from bot.audit.money import FUNDING, PROFITS
from bot.audit.orders import IN_FORCE, ORDERS
from bot.audit.risk import ENTRIES, LIQUIDATION
from bot.audit.scenarios import Group, Outcome, Scenario, carried_out
from bot.audit.stored import STORED
from bot.audit.venue import LINKS, NETWORKS, PROMISES
from bot.outlet import as_lines, clean
from bot.pages.page import Column, escaped, folded, page, section, table

GROUPS: Final[Sequence[Group]] = (
    NETWORKS, ENTRIES, ORDERS, IN_FORCE, EXITS, COSTS, PROFITS, FUNDING, LIQUIDATION, ERRORS,
    LINKS, STORED, PROMISES,
)  # fmt: skip
_WIDTH: Final = 100
_NAME: Final = 33

# === Command ===


def audit(arguments: argparse.Namespace) -> int:
    """Carry out every scenario and print what came of it; 1 if any is not as expected."""
    write = _writer_of(arguments.out) if arguments.out else None
    outcomes = [*carried_out(scenarios())]
    if write is not None:
        Path(arguments.out).write_text(clean(write(outcomes)), encoding="utf-8")
    if arguments.json:
        print(json.dumps(report_of(outcomes), indent=2))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
        print(as_lines(lines_of(outcomes, whole=arguments.verbose, width=width)))
        if arguments.out:
            print(f"written to   {arguments.out}")
    return int(any(one.broken for one in outcomes))


def scenarios() -> Iterator[Scenario]:
    """Yield all scenarios, group by group."""
    for group in GROUPS:
        yield from group.scenarios


def _writer_of(path: str) -> Callable[[Sequence[Outcome]], str]:
    writer = _WRITERS.get(Path(path).suffix.lower())
    if writer is None:
        raise ConnError(f"expected --out with a file in {', '.join(_WRITERS)}, got {path}")
    return writer


def report_of(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return all of it as plain data: what it was made by, the sums and each scenario."""
    return {
        "bot": __version__,
        "python": platform.python_version(),
        "passed": sum(not one.broken for one in outcomes),
        "failed": sum(bool(one.broken) for one in outcomes),
        "scenarios": msgspec.to_builtins(outcomes),
    }


def summary(outcomes: Sequence[Outcome]) -> str:
    """Put the sums in a line."""
    failed = sum(bool(one.broken) for one in outcomes)
    checks = sum(len(one.evidence) + len(one.broken) for one in outcomes)
    tests = len({test for one in outcomes for test in one.tests})
    seconds = sum(one.ms for one in outcomes) / 1e3
    how = f"{failed} FAILED" if failed else "all as expected"
    return (
        f"{len(outcomes)} scenarios, {checks} things seen, {how}; {tests} tests are named; "
        f"{seconds:.1f} s"
    )


def _grouped(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, list[Outcome]]]:
    for title, rows in groupby(outcomes, key=attrgetter("group")):
        yield title, [*rows]


# === Terminal ===


def lines_of(outcomes: Sequence[Outcome], *, whole: bool, width: int = 0) -> Iterator[str]:
    """Yield a line for each scenario, below its group; with `whole` its evidence and tests too.

    No line of a scenario is longer than `width`, if that is given: it is cut there.
    """
    for title, rows in _grouped(outcomes):
        yield title
        for one in rows:
            line = f"  {one.verdict:<5}{one.name:<{_NAME}} {one.expects}"
            yield line if whole or not width or len(line) <= width else f"{line[: width - 1]}…"
            for broken in one.broken:
                yield from _wrapped("         ! ", broken)
            for seen in one.evidence if whole else ():
                yield from _wrapped("         - ", seen)
            for test in one.tests if whole or one.broken else ():
                yield f"         test {test}"
        yield ""
    yield summary(outcomes)


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=head, subsequent_indent=" " * len(head))


# === Markdown ===


def markdown_of(outcomes: Sequence[Outcome]) -> str:
    """Return the audit as Markdown: a table a group, then the evidence of each scenario."""
    lines = ["# Audit of the trading logic", "", f"bot {__version__}: {summary(outcomes)}.", ""]
    for title, rows in _grouped(outcomes):
        lines += [f"## {title}", "", "| | scenario | expected |", "|---|---|---|"]
        lines += [f"| {_mark(one)} | {_cell(one.name)} | {_cell(one.expects)} |" for one in rows]
        lines.append("")
        for one in rows:
            lines += [f"### {one.name}", ""]
            lines += [f"- **{_cell(line)}**" for line in one.broken]
            lines += [f"- {_cell(line)}" for line in one.evidence]
            lines += ["", *(f"    {test}" for test in one.tests), ""]
    return "\n".join(lines)


def _mark(one: Outcome) -> str:
    return "**FAIL**" if one.broken else "pass"


def _cell(text: str) -> str:
    for sign in "\\|*_<>`":
        text = text.replace(sign, f"\\{sign}")
    return text


# === HTML ===


def html_of(outcomes: Sequence[Outcome]) -> str:
    """Return the audit as one HTML file that loads nothing; a row opens to its evidence."""
    name = "Audit of the trading logic"
    head = f"<p>bot {escaped(__version__)}: {escaped(summary(outcomes))}.</p>"
    parts = (section(title, title, table(_COLUMNS, rows, "")) for title, rows in _grouped(outcomes))
    return page(name, [f"<header><h1>{name}</h1>{head}</header><main>", *parts, "</main>"], {})


def _seen(one: Outcome) -> str:
    lines = [f'<li class="danger">{escaped(line)}</li>' for line in one.broken]
    lines += [f"<li>{escaped(line)}</li>" for line in one.evidence]
    lines += [f'<li class="mono">{escaped(test)}</li>' for test in one.tests]
    checks = f"checks {len(one.evidence) + len(one.broken)}, tests {len(one.tests)}"
    return folded(checks, f"<ul>{''.join(lines)}</ul>", is_open=bool(one.broken))


_COLUMNS: Final = (
    Column("", lambda one: one.verdict, "t", style=lambda one: "danger" if one.broken else "good"),
    Column("scenario", lambda one: one.name, "t"),
    Column("expected", lambda one: one.expects, "w"),
    Column("evidence", lambda _: "", "w", html=_seen),
)


_WRITERS: Final[Mapping[str, Callable[[Sequence[Outcome]], str]]] = {
    ".md": markdown_of, ".html": html_of,
}  # fmt: skip
