"""What is printed after a run: six lines, and what went wrong; the long report on request.

    bot.report.report ──► brief_lines (or report_lines, or JSON) ──► stdout

Equity, profit, drawdown, positions left, costs, hash. A line more for each thing that went wrong
stands above them; a run in which all went well has none. What orders filled on has a line where no
books were recorded; settings where a file was read, or where any is not as the profile has it.
"""

import argparse
import json
from collections.abc import Mapping
from typing import Any

from bot.outlet import as_lines
from bot.report.report import (
    equity_words,
    fidelity_words,
    others,
    report_lines,
    settings_lines,
    stops,
    warnings,
)


def print_report(report: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Print a report as it was chosen: for a program, long, or in six lines."""
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        print(as_lines((report_lines if arguments.report else brief_lines)(report)))


def brief_lines(report: Mapping[str, Any]) -> list[str]:
    """Put a report in six lines, below those of what went wrong."""
    # Of an account that goes on all is since its deposit, but for the drawdown.
    of_run = " in this run" if report["carried"] else ""
    return [
        *wrong_lines(report),
        f"equity       {equity_words(report)}",
        f"profit       {_profit(report['money_usdc'])}",
        f"drawdown     {_drawdown(report['drawdown'])}{of_run}",
        f"positions    {_left(report['positions'])}",
        f"costs        {_costs(report['money_usdc'])}",
        *([f"fidelity     {fidelity_words(report)}"] if report["fidelity"] != "book" else []),
        *(f"assumed      {words}" for words in report["assumed"]),
        *settings_lines(report["config"]),
        *([f"log          {report['log']}"] if report["log"] else []),
        f"run hash     {report['run_hash']}",
    ]


def wrong_lines(report: Mapping[str, Any]) -> list[str]:
    """Name what went wrong, and what a run with real orders leaves to look after."""
    liquidated = report["liquidations"]
    times = "once" if liquidated == 1 else f"{liquidated:,} times"
    return [
        *(() if report["complete"] else ("ended early  not all frames of its source were played",)),
        *warnings(report),
        *stops(report),
        *([f"LIQUIDATED   {times}"] if liquidated else ()),
        *others(report),
        *(f"TROUBLE      {who}: {words}" for who, words in report["troubles"].items()),
    ]


def _profit(money: Mapping[str, Any]) -> str:
    realized, unrealized = money["realized_pnl"], money["unrealized_pnl"]
    parts = f"{realized:+,.2f} realized, {unrealized:+,.2f} unrealized, less costs"
    return f"{money['profit']:+,.2f} USDC: {parts}"


def _paid(money: Mapping[str, Any]) -> dict[str, float]:
    return {
        "fees": money["fees_paid"],
        "funding": money["funding_paid"] + money["funding_unsettled"],
        "insurance": money["insurance_paid"],
    }


def _costs(money: Mapping[str, Any]) -> str:
    paid = _paid(money)
    parts = ", ".join(f"{usdc:,.2f} {name}" for name, usdc in paid.items())
    return f"{sum(paid.values()):,.2f} USDC: {parts}".replace("-0.00 ", "0.00 ")


def _drawdown(drawdown: Mapping[str, Any]) -> str:
    if not drawdown["usdc"]:
        return "none"
    return f"{drawdown['usdc']:,.2f} USDC, {drawdown['share']:.2%} below the peak".replace(
        "%", " %"
    )


_NAMED = 3


def _left(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "none left"
    more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    held = ", ".join(f"{row['ticker']} {row['size']}" for row in rows[:_NAMED])
    return f"{len(rows)} left: {held}{more}"
