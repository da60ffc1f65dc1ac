"""Accounts that are watched together: one fold of the frames, and for each account its own risk.

    frames ──┬─► market views, folded once ──► each account's risk
             ├─► account updates, folded once ──► the risk of whose they are
             └─► what a node holds ──► funding as the chain would settle it, at a height

The layers are those of a run (bot.run); there is no strategy, no paper venue and nothing that could
send. An account that appears, as the isolated child of a parent, is watched from its first update.
"""

import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import msgspec
from dydx_conn import (
    Accounts,
    AccountUpdate,
    CancelRequest,
    ConnectionState,
    Frame,
    OrderRequest,
    Stranger,
    Subaccount,
)
from dydx_data import DataState, MarketView, market_views
from dydx_risk import MarginFigures
from reactivex import Observable

from bot.ending import between_frames, whole
from bot.run.composition import Bot, Hub, Options
from bot.run.links import reason_words
from bot.run.meters import Meters
from bot.run.wire import WireVenue
from bot.watch.address import Target, parent_of
from bot.watch.node import LINK, is_chain, state_in
from bot.watch.reading import INDEXER_ONLY, Seen, seen_on_chain

_UNANSWERED: Final = re.compile(r"expected .+ of the node (.+?), got (.+)", re.DOTALL)
# What gRPC puts before the reason: its status, and the address that stands before it already.
_STATUS: Final = re.compile(r"[A-Z_]+: (?:UNKNOWN: )?(?:ipv[46]:\S+: )?")

# === Values ===


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How an account stands after a frame: `distance` is None where flat or unknown.

    `block` is the chain's at which all but the prices is exact; None while only the indexer is
    known. `trouble` is why the account is not known for certain, or "".
    """

    whose: Subaccount
    seq: int
    at: int
    margin: MarginFigures
    alarm: str
    positions: int
    block: int | None = None
    trouble: str = ""

    @property
    def distance(self) -> float | None:
        """Return the adverse move of all prices that breaches maintenance; None if not known."""
        return None if self.trouble else self.margin.distance


class Agreed(msgspec.Struct, frozen=True):
    """What of an account agreed with the chain at a height; once it changes, it is not that."""

    height: int
    collateral: int
    unsettled_ppm: int
    sizes: tuple[tuple[str, Decimal], ...]


@dataclass(slots=True)
class _Watched:
    """What is known of an account beside its layers."""

    agreed: Agreed | None = None
    height: int | None = None  # of its newest update
    # A node's balance and ours, and since which block they stand so; -1 if funding is all.
    balances: tuple[tuple[int, int], int] = (0, 0), 0
    settled: int | None = None  # in which block it was touched last
    began: int | None = None  # equity less what was paid in, when first known
    stood: tuple[MarginFigures, str, int | None] | None = None


# === One account ===


class WatchedVenue(WireVenue):
    """An account that somebody else trades: what is received of it, and no way to send."""

    def receive(self, frame: Frame) -> list[Frame]:
        """Return nothing: what is reported of the account is folded for all of them at once."""
        if self._gained_before is None and self.known:
            self._gained_before = self._gained()
        return []

    def strangers(self) -> Sequence[Stranger]:
        """Return none: whoever trades it is the one who may."""
        return ()

    def step(self, event: MarketView | OrderRequest | CancelRequest) -> list[Frame]:
        """Take a view to value it by; there is nowhere to send anything."""
        return super().step(event) if isinstance(event, MarketView) else []


# === All of them ===


class Group:
    """Watches accounts by the frames of one source; `bots` are their layers, by whose they are.

    `options` are those of the accounts' limits: by them the way out is planned, as advice.
    """

    def __init__(
        self, targets: Iterable[Target], options: Options, known: Iterable[Subaccount] = ()
    ) -> None:
        self.targets = tuple(targets)
        self.data, self.accounts, self.meters = DataState(), Accounts(), Meters()
        self.bots: dict[Subaccount, Bot] = {}
        self.seen: dict[Subaccount, Seen] = {}
        self.no_chain, self._node_answers = "no node has answered yet", True
        self.notes: dict[Subaccount, str] = {}  # what else is to be known of one that is empty
        # Who prints, draws or warns: called with each change of how an account stands.
        self.listeners: list[Callable[[Standing], None]] = []
        self._options = msgspec.structs.replace(options, strategy="none", guard=False)
        self._watched: defaultdict[Subaccount, _Watched] = defaultdict(_Watched)
        self._frames = Hub()
        self._views = self._frames.pipe(market_views(self.data)).subscribe(self._see)
        for whose in known:
            self.bot_of(whose)

    def run(self, frames: Observable[Frame]) -> None:
        """Fold a source to its end; raises what a layer raised, after letting go of it."""
        try:
            with between_frames():
                frames.subscribe(whole(self.take))
        finally:
            self.close()

    def close(self) -> None:
        """Let go of every stream."""
        self._views.dispose()
        for bot in self.bots.values():
            bot.close()

    def bot_of(self, whose: Subaccount) -> Bot:
        """Return the layers of an account; they begin with what is known of the markets."""
        bot = self.bots.get(whose)
        if bot is None:
            bot = Bot(self._options, WatchedVenue(whose), self.data)
            bot.meters = self.meters
            bot.venue.accounts = self.accounts
            for view in [*self.data.views.values()]:
                bot.see(view)
            self.bots[whose] = bot
            # By owner, each parent before its children, whenever they appeared.
            order = sorted(self.bots, key=lambda one: (self._place(one), one.number))
            self.bots = {each: self.bots[each] for each in order}
        return bot

    def _place(self, whose: Subaccount) -> tuple[int, int]:
        owners = [each.owner for each in self.targets]
        return owners.index(whose.owner) if whose.owner in owners else 0, parent_of(whose.number)

    def block(self, whose: Subaccount) -> int | None:
        """Return at which height an account agrees with the chain, None if nobody knows."""
        agreed, bot = self._watched[whose].agreed, self.bots.get(whose)
        if agreed is None or bot is None:
            return None
        return agreed.height if agreed == _agreement(bot, agreed.height) else None

    def has_met(self, target: Target) -> bool:
        """Return whether anything of an account was received so far."""
        known = self._watched.items()
        return any(each.height is not None and target.means(whose) for whose, each in known)

    def standing(self, whose: Subaccount) -> Standing:
        """Return how an account stands now."""
        bot = self.bots[whose]
        risk = bot.risk
        return Standing(
            whose=whose, seq=self.data.seq, at=self.data.at, margin=risk.margin, alarm=risk.alarm,
            positions=len(risk.account.positions), block=self.block(whose),
            trouble=risk.account.trouble,
        )  # fmt: skip

    def profit(self, whose: Subaccount) -> int | None:
        """Return what an account won since it is watched, in quote quantums; None if unknown."""
        worth, began = _worth(self.bots[whose]), self._watched[whose].began
        return None if worth is None or began is None else worth - began

    def take(self, frame: Frame) -> None:
        """Let a frame in, to every account."""
        started = time.perf_counter_ns()
        bots = [*self.bots.values()]
        for bot in bots:
            bot.shown.last_frames.append(frame)
        if frame.link != "node":
            self._frames.on_next(frame)
        for bot in bots:
            bot.settle(frame)
        # A snapshot is REST's, which reckons unsettled funding by itself; the socket sends what is.
        exact = frame.kind == "ws" and not frame.is_snapshot
        for update in self.accounts.step(frame):
            self._update(update, exact=exact)
        if is_chain(frame):
            self._settle(frame)
        self.meters.latency.add(time.perf_counter_ns() - started)
        for whose, bot in self.bots.items():
            if bot.failure is not None:  # a bug: its figures are none any more
                raise bot.failure
            if (watched := self._watched[whose]).began is None:
                watched.began = _worth(bot)
            bot.shown.take(frame)
        if self.listeners:
            self._report()

    def _see(self, view: MarketView) -> None:
        for bot in [*self.bots.values()]:
            bot.see(view)

    def _update(self, update: AccountUpdate, *, exact: bool) -> None:
        whose = update.subaccount
        if not any(target.means(whose) for target in self.targets):
            return
        if whose not in self.bots and not (update.positions or update.collateral):
            return  # an empty child of a parent, as most of them are
        bot, watched = self.bot_of(whose), self._watched[whose]
        bot.account(update)
        watched.height = max(update.height, watched.height or 0)
        if update.settled and exact:
            # Whoever touches an account settles its funding: nothing is left to settle.
            watched.settled = update.height
        # Of several matches in a block each is reported, one after the other.
        if exact and not update.doubt and update.height == watched.settled:
            watched.agreed = _agreement(bot, update.height)

    def _settle(self, frame: Frame) -> None:
        state = state_in(frame)
        if isinstance(state, str):
            self._node_turned(frame, state)
            return
        self._node_turned(frame, "")
        for whose in state.accounts:
            if (bot := self.bots.get(whose)) is None:
                continue
            entries = {t: each.entry_price for t, each in bot.risk.account.positions.items()}
            seen = self.seen[whose] = seen_on_chain(state, whose, entries)
            watched = self._watched[whose]
            known = not bot.risk.account.trouble and state.height >= (watched.height or 0)
            same = _sizes(bot) == {held.ticker: held.quantums for held in seen.holdings}
            if known and same and self._is_funding(whose, state.accounts[whose].collateral):
                bot.risk.settle_at(seen.collateral)
                watched.agreed = _agreement(bot, state.height)

    def _is_funding(self, whose: Subaccount, collateral: int) -> bool:
        """Return whether a node's balance and ours differ by funding alone, not by what we lack.

        What a node has first, as a transfer, is taken neither for funding nor for a profit.
        """
        ours, seen = self.bots[whose].risk.account.collateral, self.seen[whose]
        watched = self._watched[whose]
        had, since = watched.balances
        if had != (collateral, ours):
            since = seen.height
        # REST reckons the funding of a snapshot by itself, and cuts it position by position.
        if ours == collateral or abs(seen.collateral - ours) <= 1 + len(seen.holdings):
            since = -1
        watched.balances = (collateral, ours), since
        return self.accounts.orders.height > since

    def _node_turned(self, frame: Frame, trouble: str) -> None:
        """Note why the node does not answer, or "" where it does; a change is on every tape."""
        words, turned = node_words(trouble), bool(trouble) is self._node_answers
        self.no_chain, self._node_answers = trouble, not trouble
        turn = ConnectionState(
            seq=frame.seq, at=frame.at, link=LINK, was="live" if trouble else "backing_off",
            state="backing_off" if trouble else "live", reason=words,
        )  # fmt: skip
        for each in self.bots.values():
            if trouble:
                each.shown.troubles["node"] = f"{words}: {INDEXER_ONLY}"
            else:
                each.shown.troubles.pop("node", None)
            if turned:
                each.journal.linked(turn, f"lost: {words}" if trouble else "node back")

    def _report(self) -> None:
        for whose, bot in self.bots.items():
            now = bot.risk.margin, bot.risk.account.trouble, self.block(whose)
            before = self._watched[whose].stood
            if before is None or before[0] is not now[0] or before[1:] != now[1:]:
                self._watched[whose].stood = now
                standing = self.standing(whose)
                for listener in self.listeners:
                    listener(standing)


def node_words(trouble: str) -> str:
    """Return why a node does not answer as a person reads it: which one, and the plain reason."""
    found = _UNANSWERED.fullmatch(trouble)
    return (
        trouble if found is None else f"node {found[1]}: {_STATUS.sub('', reason_words(found[2]))}"
    )


def _worth(bot: Bot) -> int | None:
    """Return the equity less what was paid in, in quote quantums; None if unknown."""
    risk = bot.risk
    if risk.account.trouble or risk.margin.unknown:
        return None
    return risk.margin.net_collateral - risk.account.transferred


def _agreement(bot: Bot, height: int) -> Agreed:
    account = bot.risk.account
    held = tuple((ticker, each.size) for ticker, each in account.positions.items())
    return Agreed(height, account.collateral, account.unsettled.ppm, held)


def _sizes(bot: Bot) -> dict[str, int] | None:
    """Return what is held in quantums; None while a market's grid is not known."""
    sizes = {}
    for ticker, position in bot.risk.account.positions.items():
        view = bot.data.views.get(ticker)
        if view is None or view.market is None:
            return None
        sizes[ticker] = int(position.size.scaleb(-view.market.atomic_resolution))
    return sizes
