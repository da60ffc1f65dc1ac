"""What a log has lines of: the names of events, their levels, and what each line has.

    journal entry ─► entry_line ──┐
    connection ─► connection_line ┼──► Line: event, level, when, fields ──► writer
    anything else ─► Line ────────┘

Every line has `ts` (event time, UTC: of a replay the recording's), `wall` (when it was noted, UTC),
`level`, `event` and `run`. What came of a frame has its `seq`; what is in the journal its `id`, as
`bot why` takes it, `ticker`, `words`, and `parent`, the id of its cause. Other fields, by event:

    run_began           version, commit, python, mode, network, chain, account, tickers, config,
                        config_hash, pid
    run_ended           frames, fills, acts, run_hash, error (what ended it, or its strategy)
    connection          link ("" for all together), was, state, reason
    decision            action, target_usdc, previous_usdc
    verdict_approved, verdict_denied, verdict_reduce, verdict_bracket, verdict_withdraw
                        reason (of a refusal)
    gate                was, state
    order_placed, order_open, order_part_filled, order_filled, order_cancelled, order_rejected,
    order_unresolved    order_id, client_id, status, side, size, price, filled, reason
    fill, liquidated    fill_id, order_id, side, size, price, fee_usdc, liquidity
    act                 who, what
    reload              who, changes (path: value)
    reload_refused      who
    error               class, endpoint, sample: the first of its class and endpoint
    errors              class, endpoint, count, minute, sample: more of them within that minute
    trouble             who, words: what is wrong around the run
    warning, message    words: what the bot printed on stderr
    library             logger, words, error: what a library reported, from warning on
    lines_dropped       count: lines that did not fit between the run and the log
    log_resumed         words: why lines could not be written for a while

Sizes and prices are as the venue has them, in base units and USDC, as text. A field that is not
known is left out.
"""

import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec
from dydx_conn import ConnectionState, ConnError, OrderState

from bot.config.changes import REFUSE, RELOAD, changes_of
from bot.run.journal import VERDICTS, JournalEntry

Fields = dict[str, Any]

DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR

# Every event, with its level where nothing in it makes it more than that.
EVENTS: Final[Mapping[str, int]] = MappingProxyType({
    "run_began": INFO, "run_ended": INFO,
    "connection": INFO,
    "decision": DEBUG,
    **{f"verdict_{kind}": INFO for kind in VERDICTS},
    "gate": WARNING,
    "order_placed": INFO, "order_open": INFO, "order_part_filled": INFO, "order_filled": INFO,
    "order_cancelled": INFO, "order_rejected": WARNING, "order_unresolved": WARNING,
    "fill": INFO, "liquidated": ERROR,
    "act": INFO, "reload": INFO, "reload_refused": WARNING,
    "error": WARNING, "errors": WARNING,
    "trouble": ERROR, "warning": WARNING, "message": INFO, "library": WARNING,
    "lines_dropped": WARNING, "log_resumed": WARNING,
})  # fmt: skip

_ORDER_EVENTS: Final[Mapping[str, str]] = {
    "PENDING": "order_placed", "OPEN": "order_open", "PARTIALLY_FILLED": "order_part_filled",
    "FILLED": "order_filled", "CANCELLED": "order_cancelled", "REJECTED": "order_rejected",
    "UNRESOLVED": "order_unresolved",
}  # fmt: skip
_STOPPING: Final = ("halt", "flatten", "pause")  # acts that a person should not miss
_LOST: Final = ("stale", "backing_off", "polling")


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened; `at` is its event time and `wall` when it was noted, ns, UTC.

    `level` 0 is that of its event.
    """

    event: str
    at: int
    wall: int
    level: int = 0
    fields: Mapping[str, Any] = {}

    @property
    def severity(self) -> int:
        """Return its level, as a number of `logging`."""
        return self.level or EVENTS[self.event]


# === Journal ===


def entry_line(entry: JournalEntry, wall: int) -> Line | None:
    """Return the line of an entry of the journal; None of one that has none.

    That is what became of the connections together: each of their transitions has a line.
    """
    if (make := _ENTRIES.get(entry.kind)) is None:
        return None
    event, level, own = make(entry)
    known = {"seq": entry.seq, "id": entry.id, "ticker": entry.ticker, "words": entry.words}
    fields = {name: value for name, value in known.items() if value != ""}
    fields |= {"parent": entry.parent} if entry.parent else {}
    own = {name: value for name, value in own.items() if value not in ("", None)}
    return Line(event=event, at=entry.at, wall=wall, level=level, fields=fields | own)


_Made = tuple[str, int, Fields]


def _decision(entry: JournalEntry) -> _Made:
    decision = entry.value
    names = ("action", "target_usdc", "previous_usdc")
    return "decision", 0, {name: getattr(decision, name) for name in names}


def _verdict(entry: JournalEntry) -> _Made:
    return f"verdict_{entry.kind}", 0, {"reason": getattr(entry.value, "reason", "")}


def _gate(entry: JournalEntry) -> _Made:
    change = entry.value
    level = INFO if change.state == "ACTIVE" else WARNING
    return "gate", level, {"was": change.was, "state": change.state}


def _order(entry: JournalEntry) -> _Made:
    state: OrderState = entry.value
    row = state.row
    return _ORDER_EVENTS[state.status], 0, {
        "order_id": state.id,
        "client_id": None if state.named is None else state.named.client_id,
        "status": state.status,
        "side": row.side if row else state.order.side if state.order else None,
        "size": str(state.size) if state.size else row.size if row else None,
        "price": row.price if row else None,
        "filled": str(state.filled) if state.filled else None,
        "reason": state.reason,
    }  # fmt: skip


def _fill(entry: JournalEntry) -> _Made:
    fill = entry.value
    return "liquidated" if fill.type == "LIQUIDATED" else "fill", 0, {
        "fill_id": fill.id, "order_id": fill.order_id, "side": fill.side, "size": str(fill.size),
        "price": str(fill.price), "fee_usdc": fill.fee / 1e6, "liquidity": fill.liquidity,
    }  # fmt: skip


def _act(entry: JournalEntry) -> _Made:
    act = entry.value
    if act.type == RELOAD:
        return "reload", 0, {"who": act.link, "changes": _changes(act.text)}
    if act.type == REFUSE:
        return "reload_refused", 0, {"who": act.link}
    level = WARNING if act.type in _STOPPING else 0
    return "act", level, {"who": act.link, "what": act.type}


def _changes(text: str) -> Fields | None:
    try:
        return changes_of(text)
    except ConnError:
        return None  # the run refuses it, in words of its own


_ENTRIES: Final[Mapping[str, Callable[[JournalEntry], _Made]]] = {
    "decision": _decision, "gate": _gate, "order": _order, "fill": _fill, "act": _act,
    **dict.fromkeys(VERDICTS, _verdict),
}  # fmt: skip


# === Connections ===


def connection_line(turn: ConnectionState, wall: int) -> Line:
    """Return the line of a transition of a connection."""
    fields = {"seq": turn.seq, "link": turn.link, "was": turn.was, "state": turn.state}
    fields |= {"reason": turn.reason} if turn.reason else {}
    level = WARNING if turn.state in _LOST else INFO
    return Line(event="connection", at=turn.at, wall=wall, level=level, fields=fields)
