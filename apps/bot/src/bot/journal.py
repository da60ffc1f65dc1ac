"""What the run said and did, in order, each with the id that `bot why` asks by.

    Decision, Verdict, account frame ──► Journal ──► entries, counts, hash

The hash covers every decision, verdict, order and fill, byte for byte and in order: two runs
with the same hash did the same things for the same reasons.
"""

import hashlib
from collections import Counter, deque
from typing import Any, Final

import msgspec
from dydx_conn import FillFields, Frame, OrderFields, SubaccountContents, contents
from dydx_risk import Denied, Reduce, Verdict
from dydx_strategy import Decision

KEPT: Final = 5_000


class Entry(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One thing that happened; `parent` is the id of what caused it, `seq` the wire frame."""

    id: str
    kind: str
    seq: int
    at: int
    ticker: str
    words: str
    value: Any
    parent: str = ""


class Journal:
    """The newest entries by kind and id, counts over the whole run, and its hash so far."""

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque(maxlen=KEPT)
        self.counts: Counter[str] = Counter()
        self._by_id: dict[str, Entry] = {}
        # The venue speaks of an order by its client id; this is where it came from.
        self._verdict_of: dict[str, str] = {}
        self._order_of: dict[str, str] = {}
        self._seen_fills: set[str] = set()
        self._hash = hashlib.sha256()
        self._encode = msgspec.json.Encoder(order="deterministic").encode

    @property
    def hash(self) -> str:
        """Return the hash over all that was written so far."""
        return self._hash.hexdigest()

    def find(self, id_: str) -> Entry | None:
        """Return an entry by its id (D7, V3, O3, F2), in any case."""
        return self._by_id.get(id_.upper())

    def of_kind(self, *kinds: str) -> list[Entry]:
        """Return the kept entries of some kinds, oldest first."""
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

    def judged(self, verdict: Verdict, cost: str = "") -> None:
        """Write down a verdict, what its order may cost, and remember the order that it lets go."""
        self._hash.update(self._encode(verdict))
        decision = None if isinstance(verdict, Reduce) else verdict.decision
        ticker = verdict.ticker if isinstance(verdict, Denied) else verdict.order.ticker
        kind = type(verdict).__name__.lower()
        self._add(
            id=verdict.id,
            kind=kind,
            seq=verdict.seq,
            at=verdict.at,
            ticker=ticker,
            words=verdict.why + cost,
            value=verdict,
            parent=decision.id if decision else "",
        )
        self.counts[kind] += 1
        if not isinstance(verdict, Denied):
            self._verdict_of[str(verdict.order.client_id)] = verdict.id

    def accounted(self, frame: Frame) -> None:
        """Write down the orders and fills of an account frame; its text is what is hashed."""
        self._hash.update(frame.text.encode())
        for update in contents(frame):
            if isinstance(update, SubaccountContents):
                for order in update.orders:
                    self._ordered(order, frame)
                for fill in update.fills:
                    self._filled(fill, frame)

    def _ordered(self, order: OrderFields, frame: Frame) -> None:
        verdict = self._verdict_of.get(order.client_id or "", "")
        id_ = self._order_of.get(order.id) or f"O{len(self._order_of) + 1}"
        self._order_of[order.id] = id_
        self.counts[f"order {order.status}"] += 1
        self._add(
            id=id_,
            kind="order",
            seq=frame.seq,
            at=frame.at,
            ticker=order.ticker or "",
            words=order_words(order),
            value=order,
            parent=verdict,
        )

    def _filled(self, fill: FillFields, frame: Frame) -> None:
        if fill.id in self._seen_fills:
            return
        self._seen_fills.add(fill.id)
        self.counts["fill"] += 1
        self._add(
            id=f"F{len(self._seen_fills)}",
            kind="fill",
            seq=frame.seq,
            at=frame.at,
            ticker=fill.ticker or fill.market or "",
            words=fill_words(fill),
            value=fill,
            parent=self._order_of.get(fill.order_id or "", ""),
        )

    def _add(self, **fields: Any) -> None:
        entry = Entry(**fields)
        if len(self.entries) == KEPT:
            oldest = self.entries[0]
            if self._by_id.get(oldest.id) is oldest:
                del self._by_id[oldest.id]
        self.entries.append(entry)
        self._by_id[entry.id] = entry


def decision_words(decision: Decision) -> str:
    """Say in one line what was decided and for which reasons."""
    move = (
        f"hold at {decision.previous_usdc:+,.0f} USDC"
        if decision.action == "hold"
        else f"target {decision.previous_usdc:+,.0f} → {decision.target_usdc:+,.0f} USDC"
    )
    return f"{move}: {'; '.join(decision.reasons)}"


def order_words(order: OrderFields) -> str:
    """Say in one line what became of an order."""
    what = f"{order.side} {order.size} at {order.price}" if order.side else f"order {order.id[:8]}"
    flags = " reduce-only" if order.reduce_only else ""
    filled = f", filled {order.total_filled}" if order.total_filled not in (None, "0") else ""
    reason = (order.removal_reason or "").removeprefix("ORDER_REMOVAL_REASON_")
    return f"{what}{flags}: {order.status}{filled}{f' ({reason})' if reason else ''}"


def fill_words(fill: FillFields) -> str:
    """Say in one line what was traded."""
    liquidated = " LIQUIDATED" if fill.type == "LIQUIDATED" else ""
    cost = "insurance" if liquidated else f"{fill.liquidity.lower()} fee"
    return f"{fill.side} {fill.size} at {fill.price}{liquidated}, {cost} {fill.fee}"
