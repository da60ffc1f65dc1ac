"""A walk for people: a row for each fold, then what all tests came to, and whether that is luck.

    Walk ─► print_walk ─► a terminal, or plain text in a pipe

What is unknown is a dash. Texts of elsewhere are made printable here.
"""

from collections.abc import Callable
from typing import Final, TextIO

from dydx_conn import printable
from rich.table import Table
from rich.text import Text

from bot.backtest.figures import Figures
from bot.backtest.shown import Canvas, print_judged, table
from bot.backtest.walking import Walk
from bot.outlet import one_line

_WHEN: Final = 16  # letters of a time: to the minute
_NAME: Final = 22  # letters of what was chosen: with it a row fits into 80
_FOLDS: Final = ("chosen", "train", "test", "best", "profit", "trades")
_SHARES: Final = frozenset(["win_rate", "max_drawdown_share", "exposure", "closest"])


def print_walk(walk: Walk, stream: TextIO, width: int | None = None) -> None:
    """Draw the folds, the variants and what all tests came to."""
    console = Canvas(stream, width)
    if not walk.complete:
        console.put("ended early  not all folds were walked")
    for words in walk.assumed:
        console.put(one_line(f"assumed      {words}"))
    console.titled(f"folds: the best {words_of(walk.objective)} of each training", _folds(walk))
    console.titled("all tests, USDC", _variants(walk))
    for line in _total_lines(walk):
        console.put(one_line(line))
    print_judged(console, "joined tests", walk.judged)
    console.print("")
    for line in walk.conventions:
        console.print(Text(line, style="dim"))


def words_of(objective: str) -> str:
    """Return an objective in words."""
    return objective.replace("_", " ")


def _folds(walk: Walk) -> Table:
    made = table("tested from", *_FOLDS, left=("chosen",), most=_NAME)
    number = value_of(walk.objective)
    for fold in walk.folds:
        chosen = f"{fold.chosen}{' STOPPED' if fold.failure else ''}"
        row = (
            fold.tested_from[:_WHEN].replace("T", " "), printable(chosen), number(fold.train),
            number(fold.test), number(fold.best), _money(fold.profit), f"{fold.trades:,}",
        )  # fmt: skip
        made.add_row(*map(Text, row))
    return made


def value_of(objective: str) -> Callable[[float | None], str]:
    """Return what words values of an objective."""

    def words(value: float | None) -> str:
        if value is None:
            return "-"
        return f"{100 * value:,.2f} %" if objective in _SHARES else f"{value:,.2f}"

    return words


def _money(value: float | None) -> str:
    return "-" if value is None else f"{value:+,.2f}"


def _variants(walk: Walk) -> Table:
    made = table("variant", "folds", "profit")
    for one in walk.variants:
        row = f"always {printable(one.name)}", f"{one.chosen:,}", _money(one.profit)
        made.add_row(*map(Text, row))
    made.add_row("as chosen", f"{len(walk.folds):,}", _money(walk.total.profit), style="bold")
    return made


def _total_lines(walk: Walk) -> list[str]:
    total: Figures = walk.total
    won = "-" if total.win_rate is None else f"{100 * total.win_rate:.1f} %"
    fall = total.max_drawdown_share
    share = "-" if fall is None else f"{100 * fall:.2f} %"
    ratio = "-" if total.sharpe is None else f"{total.sharpe:.2f}"
    pace = walk.efficiency
    efficiency = "- (the trainings made nothing)" if pace is None else f"{100 * pace:.0f} %"
    return [
        f"tests        {total.trades:,} trades, {won} won, drawdown {share}, Sharpe {ratio}",
        f"efficiency   {efficiency}",
    ]
