"""Outcomes of a backtest for people: how each strategy did, and each market, in 80 columns or more.

    Outcome by Outcome ─► head_lines, print_backtest ─► a terminal, or plain text in a pipe

In 80 columns the figures of a market stand in three tables, in 180 and more in one. What is unknown
is a dash. Texts of elsewhere are made printable here: it draws on the stream behind the outlet.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TextIO

from dydx_conn import printable
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bot.backtest.figures import CONVENTIONS, Figures
from bot.backtest.joined import CARRIED, joined, joined_markets
from bot.backtest.judged import INTERVALS, Judged, holding_words, interval_rows
from bot.backtest.playing import Outcome, Span
from bot.outlet import one_line
from bot.report.report import fidelity_words, made_words
from bot.times import utc

WIDE: Final = 180
TOTAL: Final = "total"
_UNKNOWN: Final = "-"
_HASH: Final = 12  # letters


class _Column(NamedTuple):
    title: str
    cell: Callable[[Figures], str]
    is_money: bool = False


# === Cells ===


def _money(name: str, digits: int = 2) -> Callable[[Figures], str]:
    return lambda one: _number(getattr(one, name), f"+,.{digits}f")


def _paid(name: str) -> Callable[[Figures], str]:
    return lambda one: _number(getattr(one, name), ",.2f")


def _share(name: str, digits: int = 1) -> Callable[[Figures], str]:
    def cell(one: Figures) -> str:
        value = getattr(one, name)
        return _UNKNOWN if value is None else f"{100 * value:,.{digits}f} %"

    return cell


def _plain(name: str, form: str = ",.2f") -> Callable[[Figures], str]:
    return lambda one: _number(getattr(one, name), form)


def _count(name: str) -> Callable[[Figures], str]:
    return lambda one: f"{getattr(one, name):,}"


def _number(value: float | None, form: str) -> str:
    if value is None:
        return _UNKNOWN
    text = f"{value:{form}}"
    # A cost of nothing that was rounded from below is none.
    return text.replace("-", "") if not any(digit in "123456789" for digit in text) else text


def lasted(seconds: float | None) -> str:
    """Word how long something took: 45 s, 12 min, 5.5 h, 3.2 d."""
    if seconds is None:
        return _UNKNOWN
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:,.0f} s"


_WON: Final = (
    _Column("trades", _count("trades")),
    _Column("won", _share("win_rate")),
    _Column("factor", _plain("profit_factor")),
    _Column("a trade", _money("expectancy"), is_money=True),
    _Column("fees", _paid("fees_paid")),
    _Column("funding", _paid("funding_paid")),
    _Column("profit", _money("profit"), is_money=True),
)
_RISK: Final = (
    _Column("drawdown", _paid("max_drawdown")),
    _Column("share", _share("max_drawdown_share", 2)),
    _Column("lasted", lambda one: lasted(one.drawdown_s)),
    _Column("Sharpe", _plain("sharpe")),
    _Column("Sortino", _plain("sortino")),
    _Column("Calmar", _plain("calmar")),
    _Column("closest", _share("closest")),
    _Column("guard", _count("reductions")),
)
_DEALT: Final = (
    _Column("fills", _count("fills")),
    _Column("volume", _plain("volume", ",.0f")),
    _Column("turnover", _plain("turnover")),
    _Column("exposed", _share("exposure")),
    _Column("leverage", _plain("leverage")),
    _Column("slipped", _paid("slippage")),
    _Column("bps", _plain("slippage_bps", ",.1f")),
)
_OVERVIEW: Final = (
    _WON[0],
    _WON[1],
    _RISK[1]._replace(title="drawdown"),
    _RISK[3],
    _WON[-1],
)
_NARROW: Final = (
    ("profit, USDC", _WON),
    ("risk; drawdown in USDC", _RISK),
    ("dealt; volume and slippage in USDC", _DEALT),
)


# === Tables ===


class Canvas(Console):
    """What tables and lines are drawn on; it ends as all output does whose reader saw enough."""

    def __init__(self, stream: TextIO, width: int | None) -> None:
        super().__init__(file=stream, width=width, highlight=False, soft_wrap=False)

    def put(self, text: str, style: str = "") -> None:
        """Print a line, in whole where it is longer than there is room."""
        self.print(Text(text, style=style), soft_wrap=True)

    def titled(self, title: str, drawn: Table) -> None:
        """Draw a table below its title."""
        self.print("")
        self.print(Text(printable(title), style="bold"))
        self.print(drawn)

    def on_broken_pipe(self) -> None:
        """Let whoever runs the command see it: Rich would end the program with a 1."""
        raise BrokenPipeError


def print_backtest(
    outcomes: Sequence[Outcome], span: Span, stream: TextIO, width: int | None = None,
    judged: Mapping[str, Judged] = {},
) -> None:  # fmt: skip
    """Draw what was played, how each strategy did on it, and how each market did."""
    console = Canvas(stream, width)
    for line in head_lines(outcomes, span):
        console.put(line)
    by_strategy = {one.strategy: list[Outcome]() for one in outcomes}
    for one in outcomes:
        by_strategy[one.strategy].append(one)
    if len(outcomes) > 1:
        wide = console.width > _ROOM
        console.titled("all runs", overview(by_strategy, wide=wide))
    for strategy, those in by_strategy.items():
        for title, drawn in tables(strategy, those, wide=console.width >= WIDE):
            console.titled(title, drawn)
        console.put(exits_line(those))
        if (found := judged.get(strategy)) is not None:
            print_judged(console, strategy, found)
    console.print("")
    for one in outcomes:
        console.put(hash_line(one, several=len(outcomes) > 1))
    more = [CARRIED] if len({one.recording for one in outcomes}) > 1 else []
    for line in (*CONVENTIONS, *(INTERVALS if judged else ()), *more):
        console.print(Text(line, style="dim"))


def print_judged(console: Canvas, title: str, found: Judged) -> None:
    """Draw how far a result can be believed."""
    if found.intervals:
        made = table("figure", "value", "from", "to")
        for row in interval_rows(found):
            made.add_row(*map(Text, row))
        console.titled(f"{title}: how certain; 95 of 100 samples", made)
    if words := holding_words(found):
        console.put(f"buy and hold {words}")
    style = "bold" if not found.is_luck else "bold yellow"
    console.put(f"chance       {found.verdict}", style)


def head_lines(outcomes: Sequence[Outcome], span: Span) -> list[str]:
    """Say in words what was played, and what is wrong with it."""
    lines: list[str] = []
    first = next(iter(outcomes), None)
    those = [one for one in outcomes if first is not None and one.strategy == first.strategy]
    for one in those:
        found = one.figures
        lines.append(
            f"recording    {one.recording} ({made_words(one.made_by)})" if one.made_by
            else f"recording    {one.recording}"
        )  # fmt: skip
        lines.append(f"             {utc(found.since_ns)} to {utc(found.until_ns)} UTC")
        doubt = found.optimism if len(outcomes) == 1 else None  # of several each has its own
        traded_on = fidelity_words({"fidelity": found.fidelity, "optimism": doubt})
        lines.append(f"fidelity     {traded_on}")
        lines += [f"assumed      {words}" for words in one.assumed]
        lines += [f"damage       {line}" for line in one.damage]
        if one.acts:
            what = "of the recorded run are left out: bot replay has them"
            lines.append(f"acts         {one.acts:,} {what}")
        if one.early:
            what = "updates came for books that a loss had made unknown"
            lines.append(f"caution      {one.early:,} {what}: do not compare the figures")
    if span.since is not None:
        lines.append(f"span         entries from {utc(span.since)} UTC on; all is warmed up before")
    for one in outcomes:
        named = f"{one.strategy} on {one.recording}: " if len(outcomes) > 1 else ""
        if one.failure:
            what = "from there on nothing entered, guard and exits went on"
            lines.append(f"STOPPED      {named}{one.failure}: {what}")
        if not one.complete:
            lines.append(f"ended early  {named}not all frames were played")
    return [one_line(line) for line in lines]


def overview(by_strategy: Mapping[str, Sequence[Outcome]], *, wide: bool) -> Table:
    """Return a row for each run, and one for all of a strategy's where these are several.

    The last column is the share of what was filled that the tape bears out.
    """
    titles = (one.title for one in _OVERVIEW)
    made = table("strategy", "recording", *titles, "borne out", left=("recording",))
    for strategy, those in by_strategy.items():
        for one in those:
            name = _cut(strategy, _STOPPED if one.failure else "", wide=wide)
            doubt = one.figures.optimism
            words = _UNKNOWN if doubt is None else f"{100 * (1 - doubt):.0f} %"
            recording = _cut(one.recording, "", wide=wide)
            _add(made, name, one.figures.total, _OVERVIEW, recording, behind=words)
        if len(those) > 1:
            total = joined([one.figures for one in those])
            _add(made, _cut(strategy, "", wide=wide), total, _OVERVIEW, "all", last=True)
    return made


_ROOM: Final = 100  # columns from which on no name is cut
_NAME: Final = 15
_STOPPED: Final = " STOPPED"


def _cut(name: str, behind: str, *, wide: bool) -> str:
    most = _NAME - len(behind)
    return (name if wide or len(name) <= most else f"{name[: most - 1]}…") + behind


def tables(strategy: str, those: Sequence[Outcome], *, wide: bool) -> Iterator[tuple[str, Table]]:
    """Yield the tables of one strategy by their titles: each market it traded, and the total."""
    figures = [one.figures for one in those]
    total = joined(figures) if len(figures) > 1 else figures[0].total
    markets = joined_markets(figures)
    several = f", {len(figures)} recordings" if len(figures) > 1 else ""
    parts = [("USDC", tuple(column for _, part in _NARROW for column in part))] if wide else _NARROW
    for title, columns in parts:
        made = table("market", *(one.title for one in columns))
        for ticker, one in markets.items():
            _add(made, ticker, one, columns)
        _add(made, TOTAL, total, columns, last=True)
        yield f"{strategy}{several}: {title}", made


def exits_line(those: Sequence[Outcome]) -> str:
    """Name why the trades of a strategy ended, the most frequent first."""
    exits = joined([one.figures for one in those]).exits
    words = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in exits.items())
    return one_line(f"exits        {words or 'no trade has ended'}")


def hash_line(one: Outcome, *, several: bool) -> str:
    """Name the hash of a run, by which it is found and compared."""
    named = f" {one.strategy} on {one.recording}" if several else ""
    return one_line(f"run hash     {one.figures.run_hash}{named}")


def table(first: str, *titles: str, left: Collection[str] = (), most: int | None = None) -> Table:
    """Return a table without lines; texts are cut at `most` letters, figures never.

    What is in the first column, and in those that are `left`, are texts.
    """
    made = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    made.add_column(first, overflow="ellipsis", no_wrap=True)
    for title in titles:
        if title in left:
            made.add_column(title, no_wrap=True, overflow="ellipsis", max_width=most)
        else:
            made.add_column(title, justify="right", no_wrap=True, overflow="fold")
    return made


def _add(
    made: Table, name: str, one: Figures, columns: Sequence[_Column], *also: str,
    last: bool = False,
    behind: str = "",
) -> None:  # fmt: skip
    cells = [Text(printable(text)) for text in (name, *also)]
    for column in columns:
        text = column.cell(one)
        style = "" if not column.is_money else _style(text)
        cells.append(Text(text, style=style))
    made.add_row(*cells, *([behind] if behind else []), style="bold" if last else "")


def _style(text: str) -> str:
    if text == _UNKNOWN:
        return ""
    return {"+": "green", "-": "red"}.get(text[:1], "")
