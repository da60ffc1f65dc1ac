"""What the run decided and did, in order, each with the id that `bot why` takes.

    Decision, Judgement, AccountUpdate, act ──► Journal ──► entries, counts, hash

The hash covers every decision, verdict, change of the gate, order, fill and act, byte for byte and
in order: two runs with the same hash did the same things for the same reasons. What became of a
connection is written down for whoever looks, and is none of that.
"""

import contextlib
import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec
from dydx_conn import (
    AccountFill,
    AccountUpdate,
    ConnectionState,
    ConnError,
    Frame,
    OrderState,
)
from dydx_risk import (
    Approved,
    Bracket,
    Denied,
    GateChange,
    Judgement,
    PositionFigures,
    Verdict,
    Withdraw,
    sign_text,
)
from dydx_strategy import Decision

from bot.config.changes import REFUSE, RELOAD, brief_change_words, changes_of

CAPACITY: Final = 5_000
VERDICTS: Final = ("approved", "denied", "reduce", "bracket", "withdraw")


class JournalEntry(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One thing that happened; `parent` is the id of what caused it, `seq` the wire frame.

    `held` are the positions that a verdict was judged by, at the prices of that moment.
    """

    id: str
    kind: str
    seq: int
    at: int
    ticker: str
    words: str
    value: Any
    parent: str = ""
    held: tuple[PositionFigures, ...] = ()


class Journal:
    """The newest entries by kind and id, how many of each kind over the whole run, and its hash."""

    def __init__(self) -> None:
        self.entries: deque[JournalEntry] = deque(maxlen=CAPACITY)
        self.counts: Counter[str] = Counter()
        self.written = 0  # entries of all kinds: while it stands, so do they
        # What is of the run itself and gets each entry as it is made, before everybody else.
        self.within: list[Callable[[JournalEntry], None]] = []
        # Who gets each entry as it is made, and each account update before its entries.
        self.listeners: list[Callable[[JournalEntry | AccountUpdate], None]] = []
        self._by_id: dict[str, JournalEntry] = {}
        # The venue names an order by its client id; this is where it came from.
        self._verdict_of: dict[str, str] = {}
        self._order_of: dict[str, str] = {}
        self._act_of: dict[int, str] = {}
        self._hash = hashlib.sha256()
        self._encode = msgspec.json.Encoder(order="deterministic").encode

    @property
    def hash(self) -> str:
        """Return the hash over all that was written so far."""
        return self._hash.hexdigest()

    def digest(self) -> Any:
        """Return the hash as an object of its own, from which `go_on` goes on."""
        return self._hash.copy()

    def go_on(self, digest: Any) -> None:
        """Go on with the hash from where it was copied."""
        self._hash = digest.copy()

    def __getstate__(self) -> dict[str, Any]:
        """Return what can be packed: not the hash, nor who listens."""
        return {k: v for k, v in vars(self).items() if k not in ("_hash", "_encode", "listeners")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin as a new one does, with what was packed."""
        self.__init__()  # type: ignore[misc]
        self.__dict__.update(state)

    def find(self, id_: str) -> JournalEntry | None:
        """Return an entry by its id (D7, V3, G1, O3, F2, A1, L1), in any case."""
        return self._by_id.get(id_.upper())

    def of_kind(self, *kinds: str) -> list[JournalEntry]:
        """Return the stored entries of some kinds, oldest first."""
        return [entry for entry in self.entries if entry.kind in kinds]

    def decided(self, decision: Decision) -> None:
        """Write down a decision."""
        self._hash.update(self._encode(decision))
        self._add(
            id=decision.id,
            kind="decision",
            seq=decision.seq,
            at=decision.at,
            ticker=decision.ticker,
            words=decision_words(decision),
            value=decision,
        )
        self.counts[decision.action] += 1

    def judged(
        self, verdict: Judgement, cost: str = "", held: Iterable[PositionFigures] = ()
    ) -> None:
        """Write down what the gate became, or a verdict with what its order may cost.

        `held` is what was held then: it explains the verdict, and is no part of the hash.
        """
        self._hash.update(self._encode(verdict))
        if isinstance(verdict, GateChange):
            self._add(
                id=verdict.id, kind="gate", seq=verdict.seq, at=verdict.at, ticker="",
                words=sign_text(verdict.why), value=verdict,
                parent=self._act_of.get(verdict.seq, ""),
            )  # fmt: skip
            self.counts["gate"] += 1
            return
        ticker = verdict.ticker if isinstance(verdict, Denied | Withdraw) else verdict.order.ticker
        kind = type(verdict).__name__.lower()
        self._add(
            id=verdict.id,
            kind=kind,
            seq=verdict.seq,
            at=verdict.at,
            ticker=ticker,
            words=sign_text(verdict.why) + cost,
            value=verdict,
            parent=_decision_of(verdict),
            held=tuple(held),
        )
        self.counts[kind] += 1
        if not isinstance(verdict, Denied | Withdraw):
            self._verdict_of[str(verdict.order.client_id)] = verdict.id

    def began(self, state: Frame) -> None:
        """Count in the hash what another run left for this one."""
        self._hash.update(self._encode([state.seq, state.at, state.id, state.text]))

    def acted(self, act: Frame, was: Mapping[str, Any] | None = None) -> str:
        """Write down what a person or a watchdog did; return the id it goes by.

        `was` has of settings that it changes what they are before it.
        """
        deed = {"who": act.link, "what": act.type, "why": act.text}
        self._hash.update(self._encode([act.seq, act.at, deed]))
        self.counts["act"] += 1
        id_ = f"A{self.counts['act']}"
        words = act_words(act, was or {})
        self._add(id=id_, kind="act", seq=act.seq, at=act.at, ticker="", words=words, value=act)
        self._act_of = {act.seq: id_}  # whose the next change of the gate is
        return id_

    def accounted(self, update: AccountUpdate) -> None:
        """Write down what became of the account: its orders, then its fills."""
        self._hash.update(self._encode(update))
        for listener in self.listeners:
            listener(update)
        for state in update.orders:
            self._ordered(state, update)
        for fill in update.fills:
            self._filled(fill, update)

    def linked(self, turn: ConnectionState, words: str) -> None:
        """Write down that a connection was lost or is back; the hash knows nothing of it."""
        self.counts["link"] += 1
        id_ = f"L{self.counts['link']}"
        self._add(id=id_, kind="link", seq=turn.seq, at=turn.at, ticker="", words=words, value=turn)

    def _ordered(self, state: OrderState, update: AccountUpdate) -> None:
        id_ = self._order_of.get(state.id) or f"O{len(self._order_of) + 1}"
        self._order_of[state.id] = id_
        client_id = "" if state.named is None else str(state.named.client_id)
        self.counts[f"order {state.status}"] += 1
        self._add(
            id=id_,
            kind="order",
            seq=update.seq,
            at=update.at,
            ticker=state.named.ticker if state.named else "",
            words=order_words(state),
            value=state,
            parent=self._verdict_of.get(client_id, ""),
        )

    def _filled(self, fill: AccountFill, update: AccountUpdate) -> None:
        self.counts["fill"] += 1
        self._add(
            id=f"F{self.counts['fill']}",
            kind="fill",
            seq=update.seq,
            at=update.at,
            ticker=fill.ticker,
            words=fill_words(fill),
            value=fill,
            parent=self._order_of.get(fill.order_id, ""),
        )

    def _add(self, **fields: Any) -> None:
        entry = JournalEntry(**fields)
        if len(self.entries) == CAPACITY:
            oldest = self.entries[0]
            if self._by_id.get(oldest.id) is oldest:
                del self._by_id[oldest.id]
        self.entries.append(entry)
        self.written += 1
        self._by_id[entry.id] = entry
        for follow in self.within:
            follow(entry)
        for listener in self.listeners:
            listener(entry)


def _decision_of(verdict: Verdict) -> str:
    if isinstance(verdict, Bracket):
        return verdict.decision
    decision = verdict.decision if isinstance(verdict, Approved | Denied) else None
    return decision.id if decision is not None else ""


def act_words(act: Frame, was: Mapping[str, Any]) -> str:
    """Put in one line who did what, and why; of settings what each `was`."""
    why = act.text
    if act.type == REFUSE:
        return f"settings refused by {act.link}: {why}"
    if act.type == RELOAD:
        with contextlib.suppress(ConnError):
            why = brief_change_words(changes_of(act.text), was) or "as the run goes by already"
    return f"{act.type} by {act.link}: {why or 'no reason was given'}"


def decision_words(decision: Decision) -> str:
    """Put in one line what was decided and for which reasons."""
    move = (
        f"hold at {decision.previous_usdc:+,.0f} USDC"
        if decision.action == "hold"
        else f"target {decision.previous_usdc:+,.0f} → {decision.target_usdc:+,.0f} USDC"
    )
    return f"{move}{intent_words(decision)}: {'; '.join(decision.reasons)}"


def intent_words(decision: Decision) -> str:
    """Put how a decision enters and leaves in words; "" where it takes, and leaves when decided."""
    words = {
        "take": "",
        "make": f" resting {decision.entry_offset_bps:g} bps behind the best price",
        "stop": f" once the price is {decision.trigger_price:,.10g}",
    }[decision.entry]
    if decision.patience_s:
        words += f" for {decision.patience_s:g} s"
    for name in ("stop_loss", "take_profit"):
        if price := getattr(decision, name):
            words += f", {name.replace('_', ' ')} at {price:,.10g}"
    return words


def order_words(state: OrderState) -> str:
    """Put in one line what became of an order."""
    row, what = state.row, f"order {state.id[:8]}"
    if row is not None and row.side:
        what = f"{row.side} {_amount(row.size)} at {_amount(row.price)}"
    flags = " reduce-only" if row is not None and row.reduce_only else ""
    if row is not None and row.trigger_price:
        kind = "take profit" if (row.type or "").startswith("TAKE_PROFIT") else "stop"
        flags += f" {kind} at {_amount(row.trigger_price)}"
    if row is not None and row.post_only:
        flags += " post-only"
    if row is not None and row.good_til_block_time:
        flags += f" until {row.good_til_block_time[:19]}"
    filled = f", filled {state.filled}" if state.filled else ""
    leaving = ", leaving" if state.leaving else ""
    return f"{what}{flags}: {state.status}{leaving}{filled}{_because(state.reason)}"


def _amount(text: str | None) -> str:
    """Write a size or a price as the venue reports it with thousands; as it is if it is none."""
    try:
        return f"{Decimal(text or ''):,f}"
    except ArithmeticError:
        return str(text)


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""


def fill_words(fill: AccountFill) -> str:
    """Put in one line what was traded."""
    liquidated = " LIQUIDATED" if fill.type == "LIQUIDATED" else ""
    cost = (
        f"insurance {fee_words(fill.fee).removeprefix('fee ')}"
        if liquidated
        else f"{fill.liquidity.lower()} {fee_words(fill.fee)}"
    )
    return f"{fill.side} {fill.size:,f} at {fill.price:,f}{liquidated}, {cost}"


def fee_words(quote_quantums: int) -> str:
    """Word a fee in USDC, to the cent unless that would be none; what is received is negative."""
    usdc = Decimal(quote_quantums).scaleb(-6)
    exact = usdc and abs(usdc) < Decimal("0.01")
    return f"fee {usdc.normalize():f} USDC" if exact else f"fee {usdc:,.2f} USDC"
