"""A run as rows of the database: what happens in it, as it happens, beside the frames.

    Journal (each entry, each account update) ──┐
    frames: errors, connections, seconds ───────┼──► Database ──► writer, a thread of its own
    begin, end ─────────────────────────────────┘

Nothing here decides, and the run's hash is the same with it and without. An entry is frozen, so
the writer's thread makes its row; what goes on changing is copied at once.
"""

import argparse
import hashlib
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from math import isfinite
from typing import Any, Final

import msgspec
from dydx_conn import (
    AccountUpdate,
    Frame,
    Inbox,
    Network,
    OrderRequest,
    OrderState,
    PerpetualMarket,
    Recording,
    TransferFields,
    event_id,
    instant,
)

from bot import __version__
from bot.config.changes import RELOAD, changes_of, is_of_settings
from bot.config.configured import loaded_of, opened_of
from bot.config.place import NONE
from bot.database.error_rows import Errors
from bot.database.position_rows import holdings_of, quote, text
from bot.database.spill import process
from bot.database.writer import Writer
from bot.outlet import one_line
from bot.run.acts import default_database
from bot.run.beside import Beside
from bot.run.composition import Bot
from bot.run.journal import VERDICTS, JournalEntry
from bot.run.resume import Carrying, Left

Row = dict[str, Any]

_SECOND_NS: Final = 1_000_000_000
_MINUTE_NS: Final = 60 * _SECOND_NS
_LOOK_NS: Final = 10 * _SECOND_NS  # between two looks at what open positions are worth

BALANCE: Final = "collateral"  # a state of an account: its USDC in quote quantums, as text

# === Entries ===
# A row of each entry of the journal, made by the writer's thread.


def decision_row(entry: JournalEntry) -> Row:
    """Return a decision; its scores are in `data`."""
    decision = entry.value
    return {
        "id": entry.id, "seq": entry.seq, "at": entry.at, "ticker": entry.ticker,
        "action": decision.action, "target_usdc": decision.target_usdc,
        "previous_usdc": decision.previous_usdc, "words": entry.words, "data": decision,
    }  # fmt: skip


def verdict_row(entry: JournalEntry) -> Row:
    """Return a verdict; the decision that it is of is in a row of its own."""
    verdict = entry.value
    if getattr(verdict, "decision", None) is not None and entry.kind != "bracket":
        verdict = msgspec.structs.replace(verdict, decision=None)
    return {
        "id": entry.id, "seq": entry.seq, "at": entry.at, "ticker": entry.ticker,
        "kind": entry.kind, "decision_id": entry.parent,
        "reason": getattr(verdict, "reason", ""), "words": entry.words, "data": verdict,
    }  # fmt: skip


def gate_row(entry: JournalEntry) -> Row:
    """Return a change of the gate."""
    change = entry.value
    return state_row(entry.seq, entry.at, "gate", change.was, change.state, entry.words)


def act_row(entry: JournalEntry) -> Row:
    """Return what a person or a watchdog did."""
    act = entry.value
    return state_row(entry.seq, entry.at, "act", act.link, act.type, one_line(entry.words))


def state_row(seq: int, at: int, what: str, was: str, state: str, words: str) -> Row:
    """Return a change of state."""
    return {"seq": seq, "at": at, "what": what, "was": was, "state": state, "words": words}


def fill_row(entry: JournalEntry) -> Row:
    """Return a fill."""
    fill = entry.value
    return {
        "fill_id": fill.id, "id": entry.id, "order_id": fill.order_id, "seq": entry.seq,
        "at": entry.at, "ticker": fill.ticker, "side": fill.side, "size": text(fill.size),
        "price": text(fill.price), "quote": fill.quote, "fee": fill.fee,
        "liquidity": fill.liquidity, "type": fill.type, "words": entry.words,
    }  # fmt: skip


def order_row(entry: JournalEntry, market: PerpetualMarket | None) -> Row:
    """Return an order as it stands; where nothing is reported of it yet, as it was sent."""
    state: OrderState = entry.value
    reported, sent = state.row, state.order
    side = (reported.side if reported else None) or (sent.side if sent else "")
    size = text(state.size) if state.size else (reported.size if reported else "") or ""
    price = (reported.price if reported else None) or _price(sent, market)
    return {
        "order_id": state.id, "id": entry.id,
        "client_id": "" if state.named is None else str(state.named.client_id),
        "ticker": entry.ticker, "side": side, "type": _type(state), "size": size, "price": price,
        "filled": text(state.filled), "status": state.status, "reason": state.reason,
        "created": entry.at, "updated": entry.at, "verdict_id": entry.parent,
        "words": entry.words, "data": {"sent": sent, "reported": reported},
    }  # fmt: skip


def _type(state: OrderState) -> str:
    if state.row is not None and state.row.type:
        return state.row.type
    return state.order.condition_type if state.order and state.order.condition_type else "LIMIT"


def _price(sent: OrderRequest | None, market: PerpetualMarket | None) -> str:
    return "" if sent is None or market is None else text(market.price(sent.subticks))


def change_row(entry: JournalEntry) -> Row:
    """Return what became of an order."""
    state: OrderState = entry.value
    return {
        "order_id": state.id, "seq": entry.seq, "at": entry.at, "status": state.status,
        "filled": text(state.filled), "reason": state.reason,
    }  # fmt: skip


def transfer_row(moved: TransferFields, at: int) -> Row:
    """Return money that came (positive) or went; `other` is its other end."""
    comes = moved.type in ("DEPOSIT", "TRANSFER_IN")
    party = moved.sender if comes else moved.recipient
    number = "" if party.subaccount_number is None else f"/{party.subaccount_number}"
    height, hash_ = moved.created_at_height, moved.transaction_hash
    name = moved.id or event_id(moved.type, moved.size, height, hash_, moved.created_at)
    paid = quote(moved.size)
    return {
        "transfer_id": name, "at": instant(moved.created_at) if moved.created_at else at,
        "type": moved.type, "quote": paid if comes else -paid, "other": f"{party.address}{number}",
    }  # fmt: skip


_ENTRIES: Final[Mapping[str, tuple[str, Callable[[JournalEntry], Row]]]] = {
    "decision": ("decisions", decision_row),
    "gate": ("states", gate_row),
    "act": ("states", act_row),
    "fill": ("fills", fill_row),
    **dict.fromkeys(VERDICTS, ("verdicts", verdict_row)),
}

# === Runs ===


def run_row(
    bot: Bot, *, mode: str, network: str, chain_id: str, name: str, config: Any, recording: str
) -> Row:
    """Return the row of a run that begins now, whose `config` is plain data."""
    loaded, text_ = bot.options.config, msgspec.json.encode(config, order="deterministic")
    # The hash that the report has, where there is one.
    hash_ = hashlib.sha256(text_).hexdigest() if loaded is None else loaded.hash
    return {
        "mode": mode, "network": network, "chain_id": chain_id,
        "account": str(bot.venue.subaccount), "name": name, "began": time.time_ns(),
        "process": process(), "version": __version__, "config": config,
        "config_hash": hash_, "deposit": bot.options.deposit * 10**6,
        "recording": recording,
        # A paper account begins with its run; a replay's is nobody else's.
        "ledger": 0 if mode == "trade" else None,
    }  # fmt: skip


def config_of(bot: Bot) -> dict[str, Any]:
    """Return all by which a run decides, as plain data: as its recording has it."""
    options = bot.options
    if options.config is not None:
        config: dict[str, Any] = msgspec.json.decode(options.config.text())
        return config
    return {
        "profile": options.profile, "strategy": options.strategy, "deposit": options.deposit,
        "guard": options.guard, "policy": options.policy.model_dump(mode="json"),
    }  # fmt: skip


def config_row(entry: JournalEntry) -> Row:
    """Return a change of the configuration while the run goes on, or one that was refused."""
    act = entry.value
    accepted = act.type == RELOAD
    return {
        "at": entry.at, "who": act.link, "accepted": accepted,
        "changes": changes_of(act.text) if accepted else None,
        "words": "" if accepted else one_line(act.text),
    }  # fmt: skip


# === Equity ===


class Equity:
    """What the account is worth, by the second while it changes, by the minute when it does not."""

    def __init__(self, bot: Bot) -> None:
        self._bot = bot
        self._last, self._due = 0, 0

    def point(self, at: int) -> Row | None:
        """Return a point, None where nothing is new or the account's worth is not known."""
        risk = self._bot.risk
        margin, trouble = risk.margin, risk.account.trouble
        equity = margin.net_collateral
        if trouble or not margin.known or (equity == self._last and at < self._due):
            return None
        self._last, self._due = equity, at + _MINUTE_NS
        distance = margin.distance
        return {
            "at": at, "equity": equity, "free": margin.free_collateral,
            "distance": distance if distance is not None and isfinite(distance) else None,
            "leverage": margin.leverage,
            "drawdown": risk.falls.share_of(equity),
        }  # fmt: skip


# === Beside a run ===


def written_down(
    arguments: argparse.Namespace, bot: Bot, net: Network, left: Left | None = None, *, mode: str
) -> list[Beside]:
    """Return what writes a run on a network down, where that is wanted, and what it carries over.

    `left` is what it goes on with. `DatabaseError` for what names no database, before anything of
    the run begins.
    """
    settings = loaded_of(arguments).settings
    named = {"network": net.name, "chain_id": net.chain_id, "name": ",".join(settings.markets)}
    path = settings.record or ""
    made = _written_down(arguments, bot, left, mode=mode, recording=path, **named)
    writers = [one.writer for one in made]
    carrying = [
        Carrying(bot.venue, bot.risk, one.put, left, one.hurry, bot.parts) for one in writers
    ]
    bot.journal.listeners += [one.hear for one in carrying]
    return [*made, *carrying]


def replay_written_down(
    arguments: argparse.Namespace, bot: Bot, recording: Recording
) -> list[Beside]:
    """Return what writes a replay down, where that is wanted: one, or none."""
    if not arguments.journal:
        return []
    named = {"network": recording.header.network, "chain_id": "", "name": arguments.recording}
    made = _written_down(arguments, bot, mode="replay", recording=str(recording.path), **named)
    return [*made]


def _written_down(
    arguments: argparse.Namespace, bot: Bot, left: Left | None = None, **run: str
) -> "list[Database]":
    if not (url := database_of(arguments)):
        return []
    if url != str(default_database()):
        from bot.database.tables import exposed, require

        require(url)
        if url == arguments.database and (words := exposed(url)):
            print(f"bot: warning: {words}", file=sys.stderr)
    row = run_row(bot, config=config_of(bot), **run)
    if left is not None and left.run:  # a paper account goes on
        row["ledger"] = left.ledger
    return [Database(bot, url, row)]


def database_of(arguments: argparse.Namespace) -> str:
    """Return the database of a run, "" for none."""
    chosen = opened_of(arguments).settings.database.url.get_secret_value()
    return "" if chosen == NONE else chosen or str(default_database())


class Database:
    """Writes a run down; what is wrong with that is in `trouble`, and the run goes on."""

    name = "database"

    def __init__(self, bot: Bot, url: str, run: Mapping[str, Any]) -> None:
        self.writer = Writer(url, run)
        self._bot, self._run = bot, dict(run)
        self._errors, self._equity = Errors(), Equity(bot)
        self._due, self._looks, self._has_looked = 0, 0, False
        self._troubles: dict[str, str] = {}
        self._links: dict[str, str] = {}
        self._collateral = ""
        account = str(bot.venue.subaccount)
        self._holdings = holdings_of(bot.venue, account, bot.risk.positions)

    @property
    def trouble(self) -> str:
        """Return what cannot be written, and where it waits."""
        return self.writer.trouble

    def figures(self) -> dict[str, int]:
        """Return how many rows are written, wait, and are lost."""
        return self.writer.figures()

    def begin(self, inbox: Inbox) -> None:
        """Begin to write; the database is opened by the writer's thread."""
        self._bot.journal.listeners.append(self.hear)
        began, config = self._run["began"], self._run["config"]
        self.writer.put("configs", {
            "at": began, "who": "start", "accepted": True, "changes": config, "words": "",
        })  # fmt: skip
        self.writer.start()

    def hear(self, event: JournalEntry | AccountUpdate) -> None:
        """Write down an entry of the journal, or what became of the account."""
        put = self.writer.put
        if isinstance(event, AccountUpdate):
            for moved in event.transfers:
                put("transfers", partial(transfer_row, moved, event.at))
            self._balance(event)
            for table, row in self._holdings.take(event):
                put(table, row)
        elif event.kind == "order":
            view = self._bot.data.views.get(event.ticker)
            put("orders", partial(order_row, event, None if view is None else view.market))
            put("order_changes", partial(change_row, event))
        elif (found := _ENTRIES.get(event.kind)) is not None:
            table, make = found
            put(table, partial(make, event))
            if event.kind == "act" and is_of_settings(event.value):
                put("configs", partial(config_row, event))

    def _balance(self, update: AccountUpdate) -> None:
        # What the next run compares the account with (bot.live.reconcile).
        if update.collateral is None:
            return
        was, self._collateral = self._collateral, str(update.collateral)
        if was != self._collateral:
            words = f"{update.collateral / 1e6:,.6f} USDC at block {update.height}"
            row = state_row(update.seq, update.at, BALANCE, was, self._collateral, words)
            self.writer.put("states", row)

    def note(self, frame: Frame) -> None:
        """Count what is wrong with a frame, and look at the account once a second."""
        if frame.kind != "ws" or frame.fault or frame.type == "error":
            self._errors.note(frame)
            if frame.kind in _CONNECTIONS:
                self._connection(frame)
        if frame.mono >= self._due:
            self._due = frame.mono + _SECOND_NS
            self._second(frame)

    def end(self) -> None:
        """Write the run's end and its hash, and all that waits."""
        put, bot = self.writer.put, self._bot
        if bot.shown.last_frames:
            self._looks = 0
            self._second(bot.shown.last_frames[-1])
        hash_ = bot.journal.hash
        put("runs", {"state": "ended", "ended": time.time_ns(), "run_hash": hash_})
        self.writer.close()

    def _second(self, frame: Frame) -> None:
        put, at, bot = self.writer.put, frame.at, self._bot
        for row in self._errors.rows(at):
            put("errors", row)
        if (point := self._equity.point(at)) is not None:
            put("equity_points", point)
        if frame.mono >= self._looks:
            self._looks = frame.mono + _LOOK_NS
            if self._collateral and not self._has_looked:  # for so long all that stands is listed
                self._has_looked = True
                put(
                    "orders_left",
                    {"at": at, "open": [each.id for each in bot.venue.accounts.orders.open()]},
                )
            for table, row in self._holdings.look(at):
                put(table, row)
        for who, words in bot.shown.troubles.items():
            if self._troubles.get(who) != words:
                self._troubles[who] = words
                put("states", state_row(frame.seq, at, "trouble", "", who, one_line(words)))

    def _connection(self, frame: Frame) -> None:
        state = _CONNECTIONS[frame.kind]
        was = self._links.get(frame.link, "")
        self._links[frame.link] = state
        if was != state:
            words = one_line(f"{frame.link} {state}: {frame.reason or frame.text}")
            row = state_row(frame.seq, frame.at, "connection", was, state, words)
            self.writer.put("states", row)


_CONNECTIONS: Final = {"open": "connected", "close": "lost"}
