"""`bot audit`: the trading logic, scenario by scenario, as it is computed here and now.

    scenarios (bot.audit) ─► carried_out ─► Outcome ─► terminal, Markdown, HTML, JSON

Each row has what is expected, what came of it on small inputs through the layers that trade, and
which tests prove the same at length. Nothing is sent beyond this machine, and no key is read.
"""

import argparse
import html
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

_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
details { border-top: 1px solid #8884; padding: .35rem 0; }
summary { cursor: pointer; display: grid; grid-template-columns: 3.5rem 14rem 1fr; gap: .75rem; }
summary b { color: #1a7f37; } .fail summary b { color: #cf222e; }
li { overflow-wrap: anywhere; } .broken { color: #cf222e; font-weight: 600; }
code { font-size: .85em; overflow-wrap: anywhere; }
@media (max-width: 40rem) { summary { grid-template-columns: 3rem 1fr; }
  summary span:last-child { grid-column: 1 / -1; } }
"""


def html_of(outcomes: Sequence[Outcome]) -> str:
    """Return the audit as one HTML file that loads nothing; a row opens to its evidence."""
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Audit of the trading logic</title><style>{_STYLE}</style>",
        "<h1>Audit of the trading logic</h1>",
        f"<p>bot {html.escape(__version__)}: {html.escape(summary(outcomes))}.</p>",
    ]
    for title, rows in _grouped(outcomes):
        parts.append(f"<h2>{html.escape(title)}</h2>")
        parts += [_row(one) for one in rows]
    return "\n".join([*parts, "</html>"])


def _row(one: Outcome) -> str:
    name, expects = html.escape(one.name), html.escape(one.expects)
    opens = ' class="fail" open' if one.broken else ""
    lines = [f'<li class="broken">{html.escape(line)}</li>' for line in one.broken]
    lines += [f"<li>{html.escape(line)}</li>" for line in one.evidence]
    lines += [f"<li><code>{html.escape(test)}</code></li>" for test in one.tests]
    head = f"<summary><b>{one.verdict}</b><span>{name}</span><span>{expects}</span></summary>"
    return f"<details{opens}>{head}<ul>{''.join(lines)}</ul></details>"


_WRITERS: Final[Mapping[str, Callable[[Sequence[Outcome]], str]]] = {
    ".md": markdown_of, ".html": html_of,
}  # fmt: skip
