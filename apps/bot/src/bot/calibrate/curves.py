"""Calibrations in a terminal: a table a horizon, and the reliability curves as plots.

`print_calibration` draws; what it draws on is the stream behind the outlet, so that every text of
elsewhere is made printable here.
"""

from collections.abc import Iterable, Sequence
from typing import Final, TextIO

from dydx_conn import printable
from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from bot.calibrate.calibration import Calibration, Correlation

_MARKS: Final = "●▲■◆"
_STYLES: Final = ("cyan", "magenta", "yellow", "green")
_WIDTH: Final = 40
_HEIGHT: Final = 11


def print_calibration(
    found: Sequence[Calibration], horizons: Sequence[float], stream: TextIO
) -> None:
    """Draw the tables, then a plot for each signal."""
    console = Console(file=stream)
    for horizon_s in horizons:
        rows = [one for one in found if one.horizon_s == horizon_s]
        if rows:
            console.print(table(horizon_s, rows), state_table(horizon_s, rows), "")
        else:
            console.print(f"{horizon_s:g} s: no recording is as long")
    signals = list(dict.fromkeys(one.signal for one in found))
    plots = [plot(s, [one for one in found if one.signal == s], horizons) for s in signals]
    console.print(Columns(plots))
    console.print(LEGEND, style="dim")


LEGEND: Final = (
    "rank: signed rank correlation of score and move, 95 % interval by blocks of time; * is not 0. "
    "Brier: squared error of a forecast of up, by the score as it is, by its isotonic map and by "
    "the share of ups alone (a coin's is 0.250). net: bps in the score's way less half the spread. "
    "Fewer than 8 blocks make no interval; of twenty scores that are worth nothing one has a star."
)


def table(horizon_s: float, rows: Sequence[Calibration]) -> Table:
    """Return what every signal was worth at one horizon."""
    made = _table(
        f"{horizon_s:g} s later", "n", "moved", "rank [95 %]", "Brier", "map", "base", "net"
    )
    for one in rows:
        brier = one.brier
        forecasts = (brier.score, brier.mapped, brier.base) if brier else (None,) * 3
        made.add_row(
            printable(one.signal),
            f"{one.count:,}",
            f"{100 * one.moved / one.count:.0f} %",
            correlation_words(one.correlation),
            *(_figure(value, 3) for value in forecasts),
            _figure(net_bps(one), 1),
        )
    return made


def state_table(horizon_s: float, rows: Sequence[Calibration]) -> Table:
    """Return the rank correlations of one horizon by the state of the market."""
    states = sorted({state for one in rows for state in one.by_state})
    made = _table(f"rank at {horizon_s:g} s by state of the market (scores)", *states)
    for one in rows:
        cells = (_short(*one.by_state.get(state, (0, None))) for state in states)
        made.add_row(printable(one.signal), *cells)
    return made


def _table(title: str, *columns: str) -> Table:
    made = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    made.add_column("signal", no_wrap=True)
    for name in columns:
        made.add_column(name, justify="right", no_wrap=True)
    return made


def correlation_words(correlation: Correlation | None) -> str:
    """Put a correlation and its interval in a cell; a star where it is shown not to be 0."""
    if correlation is None:
        return "-"
    if correlation.low is None or correlation.high is None:
        return f"{correlation.value:+.2f} [{correlation.blocks} blocks] "
    star = "*" if correlation.shown else " "
    return f"{correlation.value:+.2f} [{correlation.low:+.2f}, {correlation.high:+.2f}]{star}"


def net_bps(one: Calibration) -> float | None:
    """Return the mean net move over all scores, each in the way that its bucket points."""
    count = sum(bucket.count for bucket in one.curve)
    return sum(bucket.net_bps * bucket.count for bucket in one.curve) / count if count else None


def _short(count: int, correlation: Correlation | None) -> str:
    if not count:
        return "-"
    if correlation is None:
        return f"- ({count:,})"
    return f"{correlation.value:+.2f}{'*' if correlation.shown else ''} ({count:,})"


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def plot(signal: str, rows: Iterable[Calibration], horizons: Sequence[float]) -> Panel:
    """Draw the reliability curves of one signal: share of up moves over score."""
    cells = [[(" ", "")] * _WIDTH for _ in range(_HEIGHT)]
    for x in range(_WIDTH):  # where a score would be a share
        cells[_row(x / (_WIDTH - 1))][x] = "·", "dim"
    legend = Text()
    for one in rows:
        number = list(horizons).index(one.horizon_s) % len(_MARKS)
        mark = _MARKS[number], _STYLES[number]
        for bucket in one.curve:
            if bucket.share_up is not None:
                x = min(int(bucket.score / 100 * _WIDTH), _WIDTH - 1)
                cells[_row(bucket.share_up)][x] = mark
        legend.append(f" {mark[0]} {one.horizon_s:g} s", mark[1])
    body = Text()
    for index, row in enumerate(cells):
        share = 100 - index * 100 // (_HEIGHT - 1)
        body.append(f"{share:>4} " if index % 5 == 0 else "     ", "dim")
        for character, style in row:
            body.append(character, style)
        body.append("\n")
    body.append(f"     0{'50':>{_WIDTH // 2 - 1}}{'100':>{_WIDTH // 2}}\n", "dim")
    body.append("    ")
    body.append_text(legend)
    return Panel(body, title=f"{printable(signal)}: % up by score", width=_WIDTH + 9)


def _row(share: float) -> int:
    return round((1.0 - share) * (_HEIGHT - 1))
