"""How far the data of each market can be believed, as a panel shows it: the worst first.

quality_figures, silence ─► worst_first ─► dydx_panels.QualityRow
"""

from typing import Final

from dydx_data import MarketView, quality_figures, silence
from dydx_panels import QualityRow

from bot.run.composition import Bot

AGES: Final = ("book", "trades", "oracle", "funding", "block")


def worst_first(bot: Bot) -> tuple[QualityRow, ...]:
    """Return every market's quality, the worst first."""
    rows = [_quality(bot.data.at, view) for view in bot.shown.watched]
    return tuple(sorted(rows, key=lambda row: (not row.why, row.known or 0.0, -row.troubles)))


def _quality(at: int, view: MarketView) -> QualityRow:
    figures, (stale_ns, words) = quality_figures(view, at), silence(view, at)
    why: str = "" if figures.verdict == "ok" else figures.verdict
    if view.quality.stale:
        why = f"{words} {stale_ns / 1e9:.0f} s"
    elif not view.book.known:
        why = "no book"
    counts = sorted(figures.counts.items(), key=lambda row: -row[1])
    return QualityRow(
        ticker=view.ticker,
        why=why,
        complete=figures.complete,
        known=figures.known,
        messages_s=figures.messages_s,
        expected_s=figures.expected_s,
        lag_p99_ms=figures.lag_p99_ms,
        counts=tuple(counts[:4]),
        ages=tuple((name, figures.ages_s.get(name)) for name in AGES),
    )
