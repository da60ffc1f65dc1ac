"""How a run stands, as plain data and in words: for `bot status`, and whoever looks over HTTP.

starting: before the run has begun ─┐
status_of: between two frames ──────┴─► a dict, frozen once it is handed over ──► status_lines
"""

import os
from typing import Any, Final

from bot.config.changes import REFUSE
from bot.report.report import away, gate_of, positions_of
from bot.run.composition import Bot
from bot.times import clock

STARTING: Final = "STARTING"  # the state of a gate that is not there yet


def starting(mode: str, name: str, account: str) -> dict[str, Any]:
    """Return how a run stands that has not begun, as `status_of` reports one that has."""
    return {
        "pid": os.getpid(),
        "mode": mode,
        "source": name,
        "at": "its start",
        "account": account,
        "gate": {"state": STARTING, "reasons": {"UNKNOWN_ACCOUNT": "the run has not begun"}},
        "alarm": "unknown",
        "equity_usdc": None,
        "distance_to_liquidation": None,
        "positions": [],
        "by_hand": [],
        "settings": None,
        "acts": 0,
    }


def status_of(bot: Bot, mode: str, name: str) -> dict[str, Any]:
    """Return how a run stands, as plain data; sizes are in base units."""
    margin, alarm = bot.risk.margin, bot.risk.alarm
    return {
        "pid": os.getpid(),
        "mode": mode,
        "source": name,
        "at": clock(bot.data.at),
        "account": str(bot.venue.subaccount),
        "gate": gate_of(bot),
        "alarm": alarm,
        "equity_usdc": None if alarm == "unknown" else margin.net_collateral / 1e6,
        "distance_to_liquidation": None if alarm == "unknown" else margin.distance,
        "positions": positions_of(bot),
        "by_hand": sorted(bot.risk.account.by_hand),
        "settings": _settings(bot),
        "acts": bot.journal.counts["act"],
        "troubles": dict(bot.shown.troubles),
        "log": bot.shown.log,
        "url": bot.shown.url,
    }


def _settings(bot: Bot) -> dict[str, Any] | None:
    """Return by which file a run goes, and the newest edit of it; None without settings."""
    if (loaded := bot.options.config) is None:
        return None
    found: dict[str, Any] = {"file": loaded.file, "edit": None}
    if (edit := bot.shown.edited) is not None:
        found["edit"] = {
            "id": edit.id, "at": clock(edit.at), "words": edit.words,
            "refused": edit.value.type == REFUSE,
        }  # fmt: skip
    return found


def settings_lines(found: dict[str, Any] | None) -> list[str]:
    """Put in words by which file a run goes, and the newest edit of it."""
    if found is None:
        return []
    edit = found["edit"]
    newest = [f"             {edit['id']} {edit['at']} {edit['words']}"] if edit else []
    return [f"settings     {found['file']}", *newest]


_NO_DISTANCE: Final = {"flat": "no position is held", "unknown": "unknown"}


def status_lines(found: dict[str, Any]) -> list[str]:
    """Put a status in words, a line each."""
    equity, gate = found["equity_usdc"], found["gate"]
    distance, held = found["distance_to_liquidation"], found["positions"]
    return [
        f"run          {found['pid']}, {found['mode']} {found['source']}",
        f"time         {found['at']}",
        f"gate         {gate['state']}",
        *(f"             {why}" for why in gate["reasons"].values()),
        f"account      {found['account']}, "
        f"{'equity unknown' if equity is None else f'{equity:,.2f} USDC'}",
        f"distance     {_NO_DISTANCE.get(found['alarm']) or away(distance)}",
        *(f"position     {row['ticker']} {row['size']}, {row['words']}" for row in held),
        *settings_lines(found.get("settings")),
        *([f"log          {found['log']}"] if found.get("log") else []),
        *([f"answers at   {found['url']}"] if found.get("url") else []),
        *(f"trouble      {who}: {words}" for who, words in found.get("troubles", {}).items()),
        *(f"by hand      {ticker}: somebody else trades there" for ticker in found["by_hand"]),
    ]
