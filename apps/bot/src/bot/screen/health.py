"""How the program itself does, as its panel shows it: what a run needs, takes, writes and runs by.

    layers, Beside ─► rows: good, watch, danger ─┐
    Meters, the machine ─────────────────────────┴─► health_of ─► dydx_panels.HealthPart

A secret is a `SecretStr` in the settings, and is drawn as stars.
"""

import shutil
import threading
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from dydx_panels import HealthPart, HealthRow, SettingRow

from bot.config.loaded import Loaded
from bot.config.settings import value_of
from bot.run.beside import Counting
from bot.run.composition import Bot
from bot.run.links import reason_words
from bot.run.meters import LatencyHistogram
from bot.screen.quality import AGES, worst_first
from bot.system import memory_mb, peak_mb

_LONGEST: Final = 80


def health_of(bot: Bot) -> HealthPart:
    """Return how the program does; nothing is measured but what this reads."""
    meters, shown, config = bot.meters, bot.shown, bot.options.config
    where = _written_to(bot)
    return HealthPart(
        rows=tuple(_rows(bot)),
        uptime_s=meters.elapsed_s,
        carried=shown.carried,
        cpu_share=meters.cpu_share,
        cpu_s=time.process_time(),
        memory_mb=memory_mb(),
        peak_mb=peak_mb(),
        threads=threading.active_count(),
        disk_free_gb=_free_gb(where),
        disk=str(where.absolute()),
        frames=bot.data.frames,
        reconnects=shown.kinds["close"],
        gaps=shown.kinds["gap"] + bot.data.counts().get("gap", 0),
        drawn=meters.drawings.count,
        undrawn=meters.undrawn,
        draw_ms=_milliseconds(meters.drawings),
        shown_ms=_milliseconds(meters.shown),
        ages=tuple(_oldest(bot)),
        profile=bot.options.profile,
        strategy=Path(bot.options.strategy).name,
        file="" if config is None else config.file,
        config_hash="" if config is None else config.hash[:12],
        settings=() if config is None else _settings(config),
    )


# === What a run needs ===

# What is written beside a run, as a person calls it.
_NAMES: Final = {"memory": "next start", "days": "day levels", "halt": "halt file"}


def _rows(bot: Bot) -> Iterator[HealthRow]:
    yield _connection(bot)
    yield _data(bot)
    trouble = bot.risk.account.trouble
    yield HealthRow("account", "danger" if trouble else "good", trouble)
    yield _trading(bot)
    if bot.stopped is not None:
        yield HealthRow("strategy", "danger", f"stopped: {type(bot.stopped).__name__}")
    elif bot.shown.strategy is not None:
        yield HealthRow("strategy", "good", bot.shown.strategy.name)
    for one in bot.shown.beside:
        counts = tuple(one.figures().items()) if isinstance(one, Counting) else ()
        name = _NAMES.get(one.name, one.name)
        yield HealthRow(name, "watch" if one.trouble else "good", one.trouble, counts)
    known = {one.name for one in bot.shown.beside}
    for name, words in bot.shown.troubles.items():
        if name not in known:
            yield HealthRow(name, "watch", words)


def _connection(bot: Bot) -> HealthRow:
    links = bot.shown.links
    if links is None or not links.state:
        state = bot.data.connection
        return HealthRow("connection", "good" if state == "live" else "watch", state)
    if links.state == "live":
        return HealthRow("connection", "good")
    words = filter(None, (links.words(bot.data.at), reason_words(links.reason)))
    return HealthRow("connection", "watch", ": ".join(words))


def _data(bot: Bot) -> HealthRow:
    watched = bot.shown.watched
    silent = [view.ticker for view in watched if view.quality.stale]
    bookless = [view.ticker for view in watched if not view.book.known and not view.quality.stale]
    words = []
    if silent:
        words.append(f"silent: {', '.join(silent[:4])}{' …' if len(silent) > 4 else ''}")
    if bookless:
        words.append(f"no book: {', '.join(bookless[:4])}{' …' if len(bookless) > 4 else ''}")
    counts = (("markets", len(watched)), ("troubles", sum(bot.data.counts().values())))  # integers
    return HealthRow("data", "watch" if words else "good", " · ".join(words), counts)


def _trading(bot: Bot) -> HealthRow:
    standing = bot.risk.standing
    words = "; ".join(why for _, why in standing.reasons)
    state = {"ACTIVE": "good", "HALTED": "danger"}.get(standing.state, "watch")
    return HealthRow("trading", state, words)


# === The machine ===


def _milliseconds(durations: LatencyHistogram) -> tuple[tuple[str, float], ...]:
    return tuple((name, ns / 1e6) for name, ns in durations.percentiles().items())


def _written_to(bot: Bot) -> Path:
    """Return the directory that a run writes to."""
    config = bot.options.config
    record = config.settings.record if config is not None else ""
    return Path(record).parent if record else Path()


@lru_cache(maxsize=4)
def _existing(path: Path) -> Path:
    return next((each for each in (path, *path.absolute().parents) if each.exists()), Path("/"))


def _free_gb(path: Path) -> float | None:
    try:
        return shutil.disk_usage(_existing(path)).free / 1e9
    except OSError:
        return None


# === Ages and settings ===


def _oldest(bot: Bot) -> Iterator[tuple[str, str, float | None]]:
    """Yield of each part of the data the market whose is the oldest; one without any is older."""
    rows = worst_first(bot)
    for part in AGES:
        ages = [(dict(row.ages).get(part), row.ticker) for row in rows]
        if ages:
            age, ticker = max(ages, key=lambda found: (found[0] is None, found[0] or 0.0))
            yield part, ticker, age


def _settings(config: Loaded) -> tuple[SettingRow, ...]:
    return tuple(
        SettingRow(path, _value(value_of(config.settings, path)), config.origins.get(path, ""))
        for path in config.changed
    )


def _value(value: Any) -> str:
    text = ("off", "on")[value] if isinstance(value, bool) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
