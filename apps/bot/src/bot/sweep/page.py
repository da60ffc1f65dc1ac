"""A sweep as a page: the front, each setting against the first objective, all variants.

Swept, Ranked (bot.sweep.ranking) ──► sweep_page ──► HTML, a file that needs nothing else
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from bot.pages.page import Column, chart, escaped, page, pairs, section, side_by_side, table
from bot.pages.style import GREY, SERIES, Trace, axis, figure_of
from bot.sweep.ranking import Ranked
from bot.sweep.run import Plan

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_MOST: Final = 500
_FOOT: Final = "What was best on recordings need not be so again; nothing here is advice."


def sweep_page(plan: Plan, rows: Sequence[Ranked], head: Iterable[tuple[str, str]]) -> str:
    """Return the page of a sweep."""
    known = [row for row in rows if row.objectives is not None]
    paths = [field.path for field in plan.grid.fields]
    figures: dict[str, Figure] = {"front": _front(plan, known)}
    figures |= {f"setting {path}": _setting(plan, known, path) for path in paths}
    first = plan.objectives[0]
    several = plan.objectives if len(plan.objectives) > 1 else (*plan.objectives, "drawdown")
    judged = " and ".join(several)
    body = [
        f"<header><h1>Sweep {escaped(plan.grid.name)}</h1>", pairs(head), "</header><main>",
        section("front", "Front", chart("front", _axes(plan)[2], "each variant; bright: no other "
                f"one beats it in {judged}")),
        section("settings", "Settings", side_by_side(*(
            chart(f"setting {path}", path, f"against {first}") for path in paths
        ))),
        section("variants", "Variants", table(
            _columns(plan, paths), rows[:_MOST], "No variant has a result."
        ), small=f"{len(rows):,}" + f", the best {_MOST} here" * (len(rows) > _MOST)),
        f"</main><footer>{escaped(_FOOT)}</footer>",
    ]  # fmt: skip
    return page(f"sweep {plan.grid.name}", body, figures)


def _axes(plan: Plan) -> tuple[str, str, str]:
    second = plan.objectives[1] if len(plan.objectives) > 1 else "drawdown"
    return second, plan.objectives[0], f"{plan.objectives[0]} against {second}"


def _across(row: Ranked) -> float | None:
    if row.objectives is not None and len(row.objectives) > 1:
        return row.objectives[1]
    return row.drawdown


def _front(plan: Plan, rows: Sequence[Ranked]) -> "Figure":
    across, up, title = _axes(plan)
    traces = [
        _dots(name, [row for row in rows if row.on_front == bright], colour, _across)
        for name, bright, colour in (("others", False, GREY), ("front", True, SERIES[0]))
    ]
    return figure_of(
        traces, title, showlegend=True, hovermode="closest",
        xaxis=axis(title=across), yaxis=axis(side="right", title=up),
    )  # fmt: skip


def _dots(name: str, rows: Sequence[Ranked], colour: str, across: Any) -> Trace:
    return {
        "type": "scatter", "mode": "markers", "name": name, "marker": {"color": colour, "size": 7},
        "x": [across(row) for row in rows],
        "y": [row.objectives[0] for row in rows if row.objectives is not None],
        "text": [escaped(words_of(row.changes)) for row in rows],
        "hovertemplate": "%{text}<br>%{x}, %{y}<extra></extra>",
    }  # fmt: skip


def _setting(plan: Plan, rows: Sequence[Ranked], path: str) -> "Figure":
    def value(row: Ranked) -> Any:
        found = row.changes.get(path)
        is_number = isinstance(found, int | float) and not isinstance(found, bool)
        return found if is_number else escaped(shown(found))

    return figure_of(
        [_dots(path, rows, SERIES[0], value)], path, hovermode="closest",
        xaxis=axis(), yaxis=axis(side="right", title=plan.objectives[0]),
    )  # fmt: skip


def _columns(plan: Plan, paths: Sequence[str]) -> list[Column]:
    def setting(path: str, row: Ranked) -> str:
        return shown(row.changes.get(path))

    def objective(n: int, row: Ranked) -> float | None:
        return None if row.objectives is None else row.objectives[n]

    def number(of: Any, row: Ranked) -> str:
        return shown(of(row))

    return [
        *(Column(path, partial(setting, path), "t") for path in paths),
        *(
            Column(name, partial(number, partial(objective, n)), "n", partial(objective, n))
            for n, name in enumerate(plan.objectives)
        ),
        Column("trades", lambda row: f"{row.trades:,}", "n", lambda row: row.trades),
        Column("drawdown", lambda row: share(row.drawdown), "n", lambda row: row.drawdown),
        Column("front", lambda row: "yes" if row.on_front else "", "t"),
        Column("settings", lambda row: row.config_hash[:8], "t"),
        Column("ended early", lambda row: row.failure, "w"),
    ]


def shown(value: Any) -> str:
    """Return a value of a setting or a figure in a few letters; - for none."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) >= 100 else f"{value:.4g}"
    return str(value)


def share(value: float | None) -> str:
    """Return a share as per cent; - for none."""
    return "-" if value is None else f"{value:.2%}"


def words_of(changes: dict[str, Any]) -> str:
    """Return changes in a line."""
    return ", ".join(f"{path} {shown(value)}" for path, value in changes.items())
