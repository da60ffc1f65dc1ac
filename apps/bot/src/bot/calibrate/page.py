"""What scores were worth, as a page: reliability curves of each signal by horizon.

calibrations (bot.calibrate.calibration), lines of the head ──► calibrated_page ──► HTML
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from bot.calibrate.calibration import Bucket, Calibration
from bot.pages.page import chart, escaped, page, pairs, section, side_by_side
from bot.pages.style import GREY, SERIES, Trace, axis, figure_of, rounded
from bot.pages.sums import named_lines

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def calibrated_page(found: Sequence[Calibration], head: Iterable[str]) -> str:
    """Return one page: for each signal how often the mid went up after a score, and how far."""
    names = list(dict.fromkeys(one.signal for one in found))
    figures: dict[str, Figure] = {}
    body = ["<header><h1>Calibration</h1>", pairs(_paired(head)), "</header><main>"]
    for name in names:
        mine = [one for one in found if one.signal == name]
        figures |= {f"ups {name}": _ups(mine), f"moves {name}": _moves(mine)}
        drawn = side_by_side(
            chart(f"ups {name}", "Share of ups", "after a score; dotted, were a score a share"),
            chart(f"moves {name}", "Net move", "bps, the way the score points"),
        )
        body.append(section(name, name, drawn))
    return page("calibration", [*body, f"</main><footer>{escaped(_FOOT)}</footer>"], figures)


_FOOT: Final = "What is drawn was measured on recordings; nothing here is advice."


def _paired(head: Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in named_lines(head):
        yield line.name, line.words


def _ups(those: Sequence[Calibration]) -> "Figure":
    even: Trace = {
        "type": "scatter", "mode": "lines", "x": [0, 100], "y": [0, 100], "showlegend": False,
        "hoverinfo": "skip", "line": {"color": GREY, "width": 1, "dash": "dot"},
    }  # fmt: skip

    def share(point: Bucket) -> float | None:
        return None if point.share_up is None else 100 * point.share_up

    return _drawn([even, *_lines(those, share)], " %", range=[0, 100])


def _moves(those: Sequence[Calibration]) -> "Figure":
    return _drawn([*_lines(those, lambda point: point.net_bps)], " bps", zeroline=True)


def _drawn(traces: Sequence[Trace], unit: str, **of_values: Any) -> "Figure":
    return figure_of(
        traces, "reliability", showlegend=True, hovermode="closest",
        xaxis=axis(range=[0, 100]), yaxis=axis(side="right", ticksuffix=unit, **of_values),
    )  # fmt: skip


def _lines(
    those: Sequence[Calibration], value: Callable[[Bucket], float | None]
) -> Iterator[Trace]:
    for n, one in enumerate(those):
        yield {
            "type": "scatter", "mode": "lines+markers", "name": f"{one.horizon_s:g} s",
            "x": rounded([point.score for point in one.curve], 2),
            "y": rounded([value(point) for point in one.curve], 3),
            "text": [f"{point.count:,} scores" for point in one.curve],
            "hovertemplate": "score %{x:.1f}: %{y}, %{text}",
            "line": {"color": SERIES[n % len(SERIES)], "width": 2},
        }  # fmt: skip
