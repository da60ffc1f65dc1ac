"""A run in figures, and the figures in words: the data of every report, and the long one.

`report_of` is the whole report as plain data, the same that `--json` prints; `report_lines`
turns it into the lines of `--report`, and bot.report.brief into the six that are printed otherwise.
Everything above "machine" is the same on every run of a recording.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from math import inf
from operator import getitem
from typing import Any, Final

from dydx_conn import NETWORKS, Recording
from dydx_panels import wording
from dydx_paper import AccountFigures, PaperVenue
from dydx_risk import percent_text
from dydx_strategy import Allocator

from bot.config.document import quoted
from bot.config.loaded import NO_FILE, deciding, settings_words
from bot.config.profiles import limits_text
from bot.report.assumed import assumed_words
from bot.run.composition import Bot, raised
from bot.run.journal import VERDICTS, JournalEntry, order_words
from bot.run.paper import book_model_of
from bot.run.wire import WireVenue
from bot.system import memory_mb
from bot.times import clock

SHOWN: Final = 12
_HALTS: Final = ("HALTED", "FOREIGN")


_SAMPLED: Final = {
    "decisions": ("decision",),
    "verdicts": VERDICTS,
    "fills": ("fill",),
    "acts": ("act",),
}


def report_of(
    bot: Bot, *, name: str, recording: Recording | None = None, complete: bool = True
) -> dict[str, Any]:
    """Gather the report: counts, money in USDC, samples with their ids, the machine's part."""
    counts, account, data = bot.journal.counts, bot.venue.figures(), bot.data
    return {
        "source": name,
        "carried": bot.shown.carried,
        "made_by": recording.header.source if recording else None,
        "damage": recording.damage if recording else [],
        "complete": complete,
        "frames": data.frames,
        "markets": [view.ticker for view in bot.shown.watched],
        "decisions": {"target": counts["target"], "hold": counts["hold"]},
        "verdicts": {
            kind: counts[kind] for kind in VERDICTS if counts[kind] or kind in VERDICTS[:3]
        },
        "orders": {
            key.removeprefix("order "): n for key, n in counts.items() if key.startswith("order ")
        },
        "fills": counts["fill"],
        "liquidations": account.liquidations,
        "money_usdc": _money(bot, account),
        "drawdown": {"usdc": bot.risk.falls.deepest / 1e6, "share": bot.risk.falls.share},
        "positions": positions_of(bot),
        "strategies": _strategies(bot),
        "gate": gate_of(bot),
        "acts": counts["act"],
        "stopped": None if bot.stopped is None else raised(bot.stopped),
        "open": positions_of(bot) if isinstance(bot.venue, WireVenue) else None,
        "by_hand": sorted(bot.risk.account.by_hand),
        "standing": _standing(bot),
        "profile": {
            "name": bot.options.profile,
            "limits": limits_text(bot.options.policy),
            "policy": bot.options.policy.model_dump(),
            "strategy": bot.options.settings.model_dump(),
        },
        "guard": bot.options.guard,
        "config": _config(bot),
        "closest_distance_to_liquidation": bot.risk.closest,
        "fidelity": data.fidelity,
        "assumed": list(_assumed(bot, recording)),
        "optimism": bot.venue.optimism.error if isinstance(bot.venue, PaperVenue) else None,
        "trouble": data.counts(),
        "troubles": dict(bot.shown.troubles),
        "samples": {
            name: _samples(bot.journal.of_kind(*kinds)) for name, kinds in _SAMPLED.items()
        },
        "log": bot.shown.log,
        "run_hash": bot.journal.hash,
        "machine": _machine(bot),
    }


def _assumed(bot: Bot, recording: Recording | None) -> tuple[str, ...]:
    if recording is None:
        return ()
    return assumed_words(recording.header, book_model_of(bot.options.paper))


def _money(bot: Bot, account: AccountFigures) -> dict[str, float | None]:
    return {
        "deposit": bot.options.deposit,
        "equity": None if account.equity is None else account.equity / 1e6,
        "profit": account.profit / 1e6,
        "realized_pnl": account.realized_pnl / 1e6,
        "unrealized_pnl": account.unrealized_pnl / 1e6,
        "fees_paid": account.fees_paid / 1e6,
        "funding_paid": account.funding_paid / 1e6,
        "funding_unsettled": -account.unsettled / 1e6,
        "insurance_paid": account.insurance_paid / 1e6,
    }


def _config(bot: Bot) -> dict[str, Any] | None:
    """Return all settings with their origins, and the hash over those by which a run decides."""
    config = bot.options.config
    if config is None:
        return None
    return {
        "hash": config.hash,
        "file": config.file,
        "changed": config.changed,
        "settings": config.settings.model_dump(mode="json"),
        "origins": config.origins,
    }


def settings_lines(config: Mapping[str, Any] | None) -> list[str]:
    """Name the settings in a line, where a file was read or any is not the profile's."""
    if config is None:
        return []
    changed = deciding(config["changed"])  # where a run trades is no choice of how
    if config["file"] == NO_FILE and not changed:
        return []
    profile = config["settings"]["profile"]
    words = settings_words(config["file"], changed, profile, config["hash"])
    return [f"settings     {words}"]


def _changed_lines(config: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield each setting that is not as the profile has it: its value, and where it is from."""
    if config is None:
        return
    for path in deciding(config["changed"]):
        value = reduce(getitem, path.split("."), config["settings"])
        yield f"             {path} {quoted(value)} ({config['origins'][path]})"


def gate_of(bot: Bot) -> dict[str, Any]:
    """Return what the gate lets pass, and why no more."""
    standing = bot.risk.standing
    return {"state": standing.state, "reasons": dict(standing.reasons)}


def _strategies(bot: Bot) -> list[dict[str, Any]]:
    """Return what each of several strategies has come to: money in USDC, after fees."""
    strategy = bot.shown.strategy
    return [
        {
            "title": row.title,
            "state": row.state,
            "pnl": row.pnl_usdc,
            "fees": sum(stake.fees for stake in row.stakes.values()) / 1e6,  # integers
            "held": {t: stake.quantums for t, stake in row.stakes.items() if stake.quantums},
        }
        for row in (strategy.results() if isinstance(strategy, Allocator) else ())
    ]


def _strategy_lines(rows: list[dict[str, Any]]) -> list[str]:
    return [
        f"strategy     {row['title']}: {row['pnl']:+,.2f} USDC, {row['fees']:,.2f} of fees, "
        f"{len(row['held'])} markets held, {row['state']}"
        for row in rows
    ]


def positions_of(bot: Bot) -> list[dict[str, Any]]:
    """Return the positions as they stand, the nearest to liquidation first.

    Sizes are in base units, money in USDC; `leverage` is of the account's equity.
    """
    equity = bot.risk.margin.net_collateral
    return [
        {
            "ticker": row.ticker,
            "size": f"{row.size.normalize():+f}",
            "usdc": None if (net := row.net_notional) is None else net / 1e6,
            "leverage": None if net is None or equity <= 0 else abs(net) / equity,
            "distance": None if row.distance == inf else row.distance,
            "words": away(row.distance),
        }
        for row in bot.risk.positions()
    ]


def held_words(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Put in words what is held: its size, its worth, and how far it is from liquidation."""
    return [f"{row['ticker']} {row['size']}{_worth(row)}, {row['words']}" for row in rows]


def _worth(row: dict[str, Any]) -> str:
    usdc, leverage = row["usdc"], row["leverage"]
    times = "" if leverage is None else f", {leverage:.2f}x"
    return "" if usdc is None else f" ({abs(usdc):,.2f} USDC{times})"


def _standing(bot: Bot) -> list[dict[str, Any]]:
    """Return the orders that stood before a run with real orders, and still do."""
    orders = bot.venue.standing if isinstance(bot.venue, WireVenue) else []
    return [
        {"id": state.id, "ticker": state.named.ticker if state.named else "",
         "words": order_words(state)}
        for state in orders
    ]  # fmt: skip


def _samples(entries: list[JournalEntry]) -> list[dict[str, Any]]:
    return [
        {"id": e.id, "at": clock(e.at), "kind": e.kind, "ticker": e.ticker, "words": e.words}
        for e in entries
    ]


def _machine(bot: Bot) -> dict[str, Any]:
    latency, seconds = bot.meters.latency, bot.meters.elapsed_s
    shares = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
    microseconds = {
        name: round(value / 1e3, 1) for name, value in latency.percentiles(shares).items()
    }
    busy_s = latency.total_ns / 1e9
    return {
        "seconds": round(seconds, 3),
        "frames_per_s": round(latency.count / busy_s) if busy_s else None,
        "latency_us": microseconds | {"max": round(latency.max_ns / 1e3, 1)},
        "memory_mb": round(memory_mb(), 1),
    }


def report_lines(report: dict[str, Any]) -> list[str]:
    """Put a report in words, a line each."""
    made_by = f" ({made_words(report['made_by'])})" if report["made_by"] else ""
    money, verdicts, machine = report["money_usdc"], report["verdicts"], report["machine"]
    tail = "" if report["complete"] else "  (ended early)"
    out = [
        f"source       {report['source']}{made_by}{tail}",
        *(f"account      {words}" for words in [report["carried"]] if words),
        *stops(report),
        *warnings(report),
        f"frames       {report['frames']:,} of {len(report['markets'])} markets: "
        + " ".join(report["markets"][:8]),
        *_sampled("decisions", report["decisions"], report["samples"]["decisions"]),
        *_sampled("verdicts", verdicts, report["samples"]["verdicts"]),
        f"orders       by status reported: {_counted(report['orders'])}",
        *_sampled("fills", report["fills"], report["samples"]["fills"]),
        *(_sampled("acts", report["acts"], report["samples"]["acts"]) if report["acts"] else ()),
        f"fees         {money['fees_paid']:,.6f} USDC paid",
        f"funding      {_paid(money['funding_paid'])}{_unsettled(money['funding_unsettled'])}",
        *_insured(money["insurance_paid"]),
        f"profit       {money['realized_pnl']:+,.2f} realized, "
        f"{money['unrealized_pnl']:+,.2f} unrealized",
        f"drawdown     {report['drawdown']['usdc']:,.6f} USDC, "
        f"{100 * report['drawdown']['share']:.2f} % of the equity at the peak",
        f"equity       {equity_words(report)}",
        *_strategy_lines(report["strategies"]),
        f"profile      {report['profile']['name']}: {report['profile']['limits']}",
        *settings_lines(report["config"]),
        *_changed_lines(report["config"]),
        f"guard        {'on' if report['guard'] else 'OFF'}, {verdicts['reduce']} reductions, "
        f"{report['liquidations']} liquidations",
        f"closest      {_percent(report['closest_distance_to_liquidation'])}",
        f"fidelity     {fidelity_words(report)}",
        *(f"assumed      {words}" for words in report["assumed"]),
        *_closed(report["gate"]),
        *others(report),
        f"trouble      in the data: {_counted(report['trouble'])}",
        *(f"TROUBLE      {who}: {words}" for who, words in report["troubles"].items()),
        f"latency      {_spread(machine['latency_us'])} µs from a frame to its last order",
        f"throughput   {machine['frames_per_s'] or 0:,} frames/s while busy, "
        f"{machine['seconds']:.2f} s in all, {machine['memory_mb']:.0f} MB",
        f"run hash     {report['run_hash']}",
    ]
    return out


# Of which networks the market data is dYdX's.
_REAL: Final = tuple(NETWORKS[name].source for name in ("mainnet", "testnet"))


def made_words(source: str) -> str:
    """Word who made a recording, with a caution where its prices are made up."""
    return source if source.startswith(_REAL) else f"{source}; not market data of dYdX"


def equity_words(report: Mapping[str, Any]) -> str:
    """Word what the account is worth, and what it began with."""
    money = report["money_usdc"]
    # A run with real orders begins with what is there.
    since = "deposited" if report["open"] is None else "at the start"
    return f"{_usdc(money['equity'])} USDC of {money['deposit']:,} {since}"


def warnings(report: Mapping[str, Any]) -> list[str]:
    """Name what of the source is damaged, and warn of a loss that made money meaningless.

    On an unknown book nothing trades.
    """
    early = report["trouble"].get("early", 0)
    what = f"{early:,} updates came for books that a loss had made unknown: nothing traded on them"
    return [
        *(f"damage       {place}" for place in report["damage"]),
        *([f"caution      {what}, do not compare the figures"] if early else ()),
    ]


def stops(report: Mapping[str, Any]) -> list[str]:
    """Name the halt that stops entries; no line without one."""
    stopped, reasons = report["stopped"], report["gate"]["reasons"]
    halted = next((reasons[reason] for reason in _HALTS if reason in reasons), None)
    return [
        *([f"STOPPED      {stopped}: nothing entered after that"] if stopped else ()),
        *([f"HALTED       {halted}"] if halted else ()),
    ]


def _closed(gate: dict[str, Any]) -> list[str]:
    """Say why nothing entered at the end of the run; no line where something could."""
    # A halt has its own line, above all else.
    whys = [why for reason, why in gate["reasons"].items() if reason not in _HALTS]
    return [f"gate         {gate['state']}: {'; '.join(whys)}"] if whys else []


def others(report: Mapping[str, Any]) -> list[str]:
    """List what a run with real orders leaves behind, and what others have at the account.

    What is open nobody guards from there on; orders from before the run stand, and markets in which
    somebody else trades are theirs.
    """
    standing = [f"{row['ticker']} {row['words']}" for row in report["standing"]]
    doubt = None if report["open"] is None else report["gate"]["reasons"].get("UNKNOWN_ACCOUNT")
    return [
        *(f"open         {row}: nobody guards it now" for row in held_words(report["open"] or ())),
        *([f"open         what else is open is not known: {doubt}"] if doubt else ()),
        *(f"by hand      {ticker}: somebody else traded there" for ticker in report["by_hand"]),
        *(f"standing     {words}: it stood before the run and is left alone" for words in standing),
    ]


def away(distance: float | None) -> str:
    """Word how far a position that is held is from its liquidation."""
    if distance is None:
        return "distance unknown"
    return "no price liquidates it" if distance == inf else _percent(distance)


# What the prices were that a run traded at.
_MADE_OF: Final = {
    "book": "recorded books",
    "trades": "books modelled from trades",
    "candles": "books modelled from candles",
}


def fidelity_words(report: Mapping[str, Any]) -> str:
    """Word what a run was traded on, and how far the tape bears out what was filled."""
    made_of = _MADE_OF[report["fidelity"]]
    if report["optimism"] is None:
        return f"{report['fidelity']}, {made_of}"
    return f"{report['fidelity']}, {made_of}; {optimism_words(report['optimism'])}"


def optimism_words(error: float | None) -> str:
    """Word which share of what was filled was traded there within seconds, as the tape has it."""
    return (
        "no fill was judged"
        if error is None
        else f"the tape bears out {100 * (1 - error):.0f} % of fills"
    )


def _counted(counts: dict[str, Any]) -> str:
    return ", ".join(f"{n:,} {wording(name)}" for name, n in counts.items()) or "none"


def _spread(latency_us: dict[str, float]) -> str:
    return ", ".join(f"{name} {us:,}" for name, us in latency_us.items())


def _paid(amount: float) -> str:
    return f"{abs(amount):,.6f} USDC {'paid' if amount >= 0 else 'received'}"


def _unsettled(amount: float) -> str:
    """Word what the next fill or transfer will settle; "" for nothing."""
    return f", {abs(amount):,.6f} {'owed' if amount > 0 else 'due'}" if amount else ""


def _insured(amount: float) -> list[str]:
    """Word what the insurance fund took from liquidations, or gave; no line for nothing."""
    return [f"insurance    {_paid(amount)}, by liquidations"] if amount else []


def _usdc(amount: float | None) -> str:
    return "unknown" if amount is None else f"{amount:,.2f}"


def _percent(distance: float | None) -> str:
    if distance is None:
        return "no position was held"
    text = percent_text(distance)
    return f"{text} from liquidation" if distance > 0 else f"past liquidation ({text})"


def _sampled(title: str, counts: Any, samples: list[dict[str, Any]]) -> list[str]:
    """Show a count and its samples: where many are, the first, the last and the guard's own."""
    head = _counted(counts) if isinstance(counts, dict) else f"{counts:,}"
    shown = samples
    if len(samples) > SHOWN:
        first, last = samples[: SHOWN // 2], samples[-SHOWN // 2 :]
        between = samples[SHOWN // 2 : -SHOWN // 2]
        guards = [sample for sample in between if sample["kind"] == "reduce"][:SHOWN]
        left_out = {
            "id": "…",
            "at": "",
            "ticker": "",
            "words": f"{len(between) - len(guards)} more",
        }
        shown = [*first, left_out, *guards, *last]
    rows = [f"  {s['id']:<5}{s['at'][11:19]:<9}{s['ticker']} {s['words']}" for s in shown]
    return [f"{title:<13}{head}", *rows]
