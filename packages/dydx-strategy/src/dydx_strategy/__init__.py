"""Decisions: in which market, which way, how much, and why.

    Scored (all markets) ─┐
    Holdings ─────────────┼──► decisions(strategy) ──► Decision "target" | "hold"
    Outcome ──────────────┘

Nothing is believed to be held because it was decided: what is held comes back as `Holdings`, what
became of each decision as an `Outcome`. In this order, and looking up only:

    Errors            StrategyError
    Values            Decision; Held, Holdings and Outcome, the facts; Strategy, the protocol
    Pace              Pace: throttle, debounce, back-off and cool-down of whatever adds risk
    Settings          RankSettings: every threshold and limit of the built-in strategies
    Composite         a market's scores come to one opinion
    Plans             what would be done in a market, and what room there is for it
    Rank and target   RankAndTarget ("rank")
    Costs             what getting in and out costs, by the book
    Returns           whether a price goes on or comes back: averages by half-life
    Watching          WatchSettings: what strategies of one market at a time have in common
    Sniper            Sniper ("sniper"): joins a trend on its pullback, by a limit order
    Reversion         Reversion ("reversion"): against what is far from what was paid lately
    Carry             Carry ("carry"): the side that funding pays
    Pairs             Pairs ("pairs"): one market against another, both legs or none
    Belief            what counts as a decision: types, bounds, an intent that can be meant
    Shares            share_out: whole numbers in parts that add up; Stake: what one has come to
    Allocation        allocate: what several want, scaled, bounded and netted
    Children          one of several, as if its share were the account; StrategyResult
    Allocator         Allocator: several strategies on one account
    Loading           STRATEGIES, SETTINGS, load_strategy: by name, from a file or from a module
    Deciding          Decider: checks, paces and numbers what any strategy decides
    Streams           decisions: the operator around it; throttle, debounce, distinct_targets

A "target" is the signed exposure wanted in one market (USDC, + long, - short), to be judged by
the layer above; a "hold" wants nothing. Both carry reasons in plain words with their figures, and
the scores they came from.

Units: `_usdc` in USDC as float (an opinion, not money), `_share` of the present equity or of what
its text names, scores 0 to 100, `_s` seconds of event time. Nothing here knows margin or orders,
reads a clock or draws a number; only `load_strategy` reads a file. The same events in the same
order give the same decisions.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import math
import sys
import tomllib
import traceback
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from types import ModuleType
from typing import (
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    Protocol,
    Self,
    TypeVar,
    get_args,
    runtime_checkable,
)

import msgspec
from dydx_conn import fold
from dydx_data import Book, Level, MarketView, funding_outlook, stopping
from dydx_signals import ALL, Score, Scored, Scorer
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from reactivex import Observable

# One name a line would be a page.
# fmt: off
__all__ = [
    # Errors
    "StrategyError",
    # Values
    "Action", "Decision", "Entry", "Held", "Holdings", "Outcome", "OutcomeKind", "Strategy",
    # Pace
    "Pace",
    # Settings
    "RankSettings",
    # Composite
    "Composite", "Weighed", "composite",
    # Plans
    "Look", "Ranked",
    # Rank and target
    "RankAndTarget",
    # Watching
    "WatchSettings",
    # Sniper
    "Sniper", "SniperSettings",
    # Reversion
    "Reversion", "ReversionSettings",
    # Carry
    "Carry", "CarrySettings",
    # Pairs
    "Pairs", "PairsSettings",
    # Shares
    "Stake", "StakesLeft", "share_out",
    # Allocation
    "Allocation", "AllocatorSettings",
    # Children
    "StrategyResult",
    # Allocator
    "Allocator",
    # Loading
    "SETTINGS", "STRATEGIES", "load_allocator", "load_strategy", "run_file",
    # Deciding
    "Decider",
    # Streams
    "debounce", "decisions", "distinct_targets", "throttle",
]
# fmt: on

# === Errors ===
# One error, for whoever chose or wrote a strategy: the message names what was expected. What the
# built-in strategies raise is a bug and is not wrapped.


class StrategyError(Exception):
    """A strategy that cannot be found, loaded, run or believed: choose or mend it.

    A strategy of a user's own is input, as a file or an address is: what goes wrong in it is an
    error of the input, and not a bug of this layer.
    """


# === Values ===
# What is decided, what is held, and what became of a decision. Facts come from outside and are
# never guessed here: the bot translates account and verdicts into them.

# What can be scored without an engine of one's own: a name that is not among them is misspelt.
_SIGNALS: Final = Scorer(ALL).names


def _nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that may be meant, in words; nothing if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f": did you mean {near[0]!r}?" if near else ""


Action = Literal["target", "hold"]
Entry = Literal["take", "make", "stop"]
OutcomeKind = Literal["approved", "denied", "filled", "cut", "expired", "funding"]
# No figure of a decision may be beyond this: it is more than the venue has.
_LARGEST: Final = 1e12
# No entry waits longer, and none stands farther behind the best price: 30 days, half the price.
_LONGEST_S: Final = 30 * 86_400.0
_FARTHEST_BPS: Final = 5_000.0
# The most that a close may press without leaving at any price, as one at 1 does.
_PRESSING: Final = 0.9


def _always(default: Any) -> Any:
    # Written down though it is the default, as it was before there was more to say: what was
    # hashed then hashes alike.
    return msgspec.field(default_factory=lambda: default)


_NONE: Final = 0.0  # one object, which is how msgspec knows what is left out


class Decision(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What a strategy wants in one market, or why it wants nothing.

    `target_usdc` is signed. `urgency` is 0 to 1, and a target of 0 at 1 leaves at whatever price
    there is; `score` is what the decision rests on. `Decider` sets the rest: `id`, and
    `previous_usdc` to what is held, the target of a "hold" too.

    `entry` is how a position grows: "take" crosses the book at once; "make" rests
    `entry_offset_bps` behind the best price of its own side, post-only; "stop" takes once the
    oracle price or a trade has gone through `trigger_price` in its own direction. Both wait
    `patience_s`, what is not filled by then is cancelled and reported as "expired". What shrinks a
    position always takes. `stop_loss` and `take_profit` are where all that is held is left again,
    on the venue, until a later target says otherwise. Prices in USDC, 0 is none.
    """

    ticker: str
    seq: int
    at: int
    action: Action
    target_usdc: float
    previous_usdc: float = _always(0.0)
    urgency: float
    score: float
    reasons: tuple[str, ...]
    scores: tuple[Score, ...]
    id: str = _always("")
    entry: Entry = "take"
    entry_offset_bps: float = _NONE
    patience_s: float = _NONE
    trigger_price: float = _NONE
    stop_loss: float = _NONE
    take_profit: float = _NONE

    @classmethod
    def of(
        cls,
        scored: Scored,
        target_usdc: float,
        *reasons: str,
        urgency: float = 0.5,
        score: float = 50.0,
        entry: Entry = "take",
        entry_offset_bps: float = _NONE,
        patience_s: float = _NONE,
        trigger_price: float = _NONE,
        stop_loss: float = _NONE,
        take_profit: float = _NONE,
    ) -> Self:
        """Decide on a target in the market that was scored, for these reasons."""
        return cls(
            ticker=scored.ticker, seq=scored.seq, at=scored.at, action="target",
            target_usdc=target_usdc, urgency=urgency, score=score, reasons=reasons,
            scores=scored.scores, entry=entry, entry_offset_bps=entry_offset_bps,
            patience_s=patience_s, trigger_price=trigger_price, stop_loss=stop_loss,
            take_profit=take_profit,
        )  # fmt: skip


class Held(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What an account holds in one market, as of frame `seq`.

    `size` is in base units, `usdc` its value at the oracle price (at the entry price while there
    is none); both are signed, + long.
    """

    ticker: str
    size: Decimal
    usdc: float
    entry_price: float
    seq: int
    at: int


@dataclass(frozen=True, slots=True, eq=False)
class Holdings(Mapping[str, Held]):
    """Everything an account holds, by ticker, and its equity; None while that is not known.

    `closed` is whether whatever adds risk is refused now, in every market, whatever its size.

    >>> Holdings().usdc("BTC-USD"), Holdings().equity_usdc
    (0.0, None)
    """

    positions: Mapping[str, Held] = field(default_factory=dict)
    equity_usdc: float | None = None
    closed: bool = False

    def usdc(self, ticker: str) -> float:
        """Return the signed value held in a market; 0 if nothing is."""
        held = self.positions.get(ticker)
        return 0.0 if held is None else held.usdc

    def __getitem__(self, ticker: str) -> Held:
        return self.positions[ticker]

    def __iter__(self) -> Iterator[str]:
        return iter(self.positions)

    def __len__(self) -> int:
        return len(self.positions)


class Outcome(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What became of a decision; `cut` is what the guard or a liquidation did without one.

    So is `funding`, what holding a market brought: its `cash`, and no quantums.

    `usdc` is signed, + bought: what an approved order is for, what a fill or a cut traded, what
    an expired order left unfilled. `open_usdc` is what may still be filled of the decision's
    order. Of a fill or a cut `quantums` are the signed size, `cash` what it brought (negative: what
    it took) without its `fee`, both in quote quantums. `reason` is a denial's or a cut's in one
    word, or the bracket's that filled (STOP_LOSS or TAKE_PROFIT: then `decision` is the one that
    set it), `why` is in a sentence.
    """

    decision: str
    ticker: str
    kind: OutcomeKind
    seq: int
    at: int
    usdc: float = 0.0
    open_usdc: float = 0.0
    quantums: int = 0
    cash: int = 0
    fee: int = 0
    reason: str = ""
    why: str = ""


@runtime_checkable
class Strategy(Protocol):
    """Anything with a name that turns scores into decisions; its state is its own.

    A method `learn(outcome)` is optional: it takes what became of each decision, an `Outcome`. So
    is an attribute `signals`: the names of those that it reads; and `hedges`: the markets that it
    holds against each other, in groups, of which an `Allocator` cuts none alone. A method
    `change(settings)` lets it go on by others than its attribute `settings`, of the same type,
    without forgetting anything: `StrategyError` where it cannot, and then nothing has changed.
    """

    @property
    def name(self) -> str:
        """Return the name it is known by."""

    def step(self, scored: Scored, held: Holdings) -> Iterable[Decision]:
        """Take one market's newest scores and all that is held; return decisions, or none."""


# === Pace ===
# How often risk may be added, by whatever strategy: throttle, debounce, back-off and cool-down in
# event time. What shrinks a position is none of this section's business: it never waits.


class Pace(BaseModel):
    """How often a strategy may add risk, in seconds of event time, and why so often.

    A strategy with a `pace` of its own follows that one, as the default strategy does
    (`RankSettings`); every other this one.
    """

    # Validators are built when the first is made: a run uses one of all these settings.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _named(cls, fields: Any) -> Any:
        for name in fields if isinstance(fields, Mapping) else ():
            if name not in cls.model_fields and (near := _nearest(str(name), cls.model_fields)):
                raise ValueError(f"expected no setting {name}, got {fields[name]!r}{near}")
        return fields

    throttle_s: float = Field(
        default=30.0,
        ge=0,
        description="least time between two targets of a market: there and back costs a taker "
        "0.1 %, so that turning all the time costs 12 % an hour and not 100",
    )
    debounce_s: float = Field(
        default=60.0, ge=0,
        description="time in which the same target is no news: prices drift, and to follow "
        "each drift costs a fee",
    )  # fmt: skip
    same_share: float = Field(
        default=0.05, ge=0, lt=1,
        description="targets no farther apart are the same: a trade of less is not worth its fee",
    )  # fmt: skip
    back_off_s: float = Field(
        default=10.0, ge=0,
        description="first wait after a denial or an unfilled order, twice as long after each "
        "further one: margin, a thin book or an outage seldom pass sooner",
    )  # fmt: skip
    back_off_most_s: float = Field(
        default=300.0, ge=0,
        description="longest of these waits: by then it is another market, and the count begins "
        "again",
    )  # fmt: skip
    cool_down_s: float = Field(
        default=300.0, ge=0,
        description="time in which nothing grows in any market after the guard or a liquidation "
        "cut one: the margin is shared, a move that strong lasts minutes, and what is bought "
        "back at once pays the exit twice",
    )  # fmt: skip

    @property
    def fixed(self) -> Mapping[str, object]:
        """Return what stays as it is while a strategy runs, by what it is called."""
        return {}

    def refuse(self, other: Pace) -> None:
        """Refuse other settings, as `StrategyError`, of which something is fixed."""
        for name, value in self.fixed.items():
            if (got := other.fixed.get(name)) != value:
                words = f"expected no change of {name} while it runs, got {got}: restart for it"
                raise StrategyError(words)

    def same(self, target: float, other: float) -> bool:
        """Return whether two targets are near enough to count as one."""
        return _same(target, other, self.same_share)


def _same(target: float, other: float, share: float) -> bool:
    return math.isclose(target, other, rel_tol=share, abs_tol=0.0)


def _too_soon(since_ns: int, at: int, seconds: float) -> str:
    """Return why a target comes too soon after the last; empty if it does not."""
    spent = (at - since_ns) / 1e9
    if spent >= seconds:
        return ""
    return f"last target {spent:.0f} s ago < {seconds:g} s between two"


def _no_news(last: tuple[float, int], target: float, at: int, seconds: float, share: float) -> str:
    """Return why a target says the same again, after the last one and its time; else nothing."""
    spent = (at - last[1]) / 1e9
    if spent >= seconds or not _same(target, last[0], share):
        return ""
    return f"the same target {spent:.0f} s ago < {seconds:g} s"


class _Pacing:
    """What was requested of each market and what became of it: what has to wait, and why."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self._markets: dict[str, _Requests] = {}
        self._cut: Outcome | None = None
        self._closed = False

    def request(self, decision: Decision) -> None:
        """Take note of a target that goes out."""
        market = self._market(decision.ticker)
        market.at = decision.at
        if decision.entry != "take":
            market.patient = decision.id
        if abs(decision.target_usdc) > abs(decision.previous_usdc):
            market.added, market.added_at = decision.target_usdc, decision.at

    def heed(self, held: Holdings) -> None:
        """Take note of whether anything may enter now."""
        if held.closed != self._closed:
            self._closed = held.closed
            for market in self._markets.values():
                market.shut = False

    def learn(self, outcome: Outcome) -> None:
        """Take note of what became of one, or of a cut."""
        if outcome.kind == "cut":
            self._cut = outcome
            return
        market = self._market(outcome.ticker)
        if outcome.open_usdc:
            market.open[outcome.decision] = outcome.open_usdc
        else:
            market.open.pop(outcome.decision, None)
        if outcome.kind == "expired" and outcome.decision == market.patient:
            return  # it waited as long as it was to: no reason to wait any longer
        if outcome.kind in ("denied", "expired"):
            market.refuse(outcome, round(self.pace.back_off_most_s * 1e9))
            market.shut = self._closed and outcome.kind == "denied"
        elif outcome.kind == "filled":
            market.refusals = 0

    def open_usdc(self, ticker: str) -> float:
        """Return what is approved in a market and not filled yet, signed."""
        market = self._markets.get(ticker)
        return math.fsum(market.open.values()) if market is not None else 0.0

    def rests(self, ticker: str) -> bool:
        """Return whether an entry that waits for its price is on its way in a market."""
        market = self._markets.get(ticker)
        return market is not None and market.patient in market.open

    def wait_to_move(self, ticker: str, at: int) -> str:
        """Return why other prices to leave at have to wait; empty if they need not."""
        market = self._markets.get(ticker)
        if market is None or market.at is None:
            return ""
        spent, limit = (at - market.at) / 1e9, self.pace.throttle_s
        return f"last target {spent:.0f} s ago < {limit:g} s between two" if spent < limit else ""

    def under_way(self, ticker: str, held: float, target: float) -> str:
        """Return why what is held is on its way to no more than a target; empty if it is not."""
        on_its_way = self.open_usdc(ticker)
        # An order is valued at the price of its approval: so near to the target counts as the
        # target. One for more than is held leaves nothing: no exit opens the other side.
        left = max(abs(held) - abs(on_its_way), 0.0) - self.pace.same_share * abs(held)
        if on_its_way * held >= 0 or left > abs(target):
            return ""
        return f"an order for {on_its_way:+,.0f} USDC is in flight"

    def wait(self, ticker: str, target: float, at: int) -> str:
        """Return why a target that adds risk has to wait; empty if it need not."""
        market = self._markets.get(ticker)
        waits = self._cooling(at)
        if not waits and market is not None:
            waits = self._waiting(ticker, market, target, at)
        return waits

    def wait_to_turn(self, ticker: str, at: int) -> str:
        """Return why the far side of a turn has to wait, its near side done; empty if it need not.

        The turn kept the pace as a whole.
        """
        on_its_way = self.open_usdc(ticker)
        waits = f"an order for {on_its_way:+,.0f} USDC is in flight" if on_its_way else ""
        return self._cooling(at) or waits

    def retries(self, ticker: str, at: int) -> tuple[str, ...]:
        """Return which retry this is and how the last try ended; nothing if it is the first."""
        market = self._markets.get(ticker)
        if market is None or not market.refusals:
            return ()
        spent = (at - market.refused_at) / 1e9
        return (f"retry {market.refusals} after {spent:.0f} s: {market.refusal}",)

    def _market(self, ticker: str) -> _Requests:
        market = self._markets.get(ticker)
        if market is None:
            market = self._markets[ticker] = _Requests()
        return market

    def _cooling(self, at: int) -> str:
        if self._cut is None:
            return ""
        spent, limit = (at - self._cut.at) / 1e9, self.pace.cool_down_s
        if spent >= limit:
            return ""
        what = f"{self._cut.ticker} was cut {spent:.0f} s ago"
        return f"{what} < {limit:g} s of cool-down ({self._cut.reason})"

    def _waiting(self, ticker: str, market: _Requests, target: float, at: int) -> str:
        pace = self.pace
        if market.open:
            return f"an order for {self.open_usdc(ticker):+,.0f} USDC is in flight"
        if market.shut:
            return f"{market.refusal}, no retry before anything may enter"
        if market.refusals:
            # Where nothing is waited for, refusals are counted on and on: no float is so large.
            doubled = 2.0 ** min(market.refusals - 1, 64)
            longest = min(pace.back_off_s * doubled, pace.back_off_most_s)
            if (spent := (at - market.refused_at) / 1e9) < longest:
                return f"{market.refusal}, {spent:.0f} s ago < {longest:g} s before retry"
        if market.at is None:
            return ""
        if soon := _too_soon(market.at, at, pace.throttle_s):
            return soon
        if market.refusals:
            return ""
        added = market.added, market.added_at
        return _no_news(added, target, at, pace.debounce_s, pace.same_share)


def _refused(outcome: Outcome) -> str:
    word = "refused" if outcome.kind == "denied" else outcome.kind
    return f"{word} {outcome.reason}".rstrip()


class _Requests:
    """One market: the last target that added, open orders, and refusals in a row."""

    __slots__ = (
        "added", "added_at", "at", "open", "patient", "refusal", "refusals", "refused_at", "shut",
    )  # fmt: skip

    def __init__(self) -> None:
        self.added, self.added_at = 0.0, 0
        self.at: int | None = None
        self.open: dict[str, float] = {}
        self.refusals = self.refused_at = 0
        self.refusal = ""
        self.shut = False  # refused while nothing may enter: it would be again
        self.patient: str | None = None  # the last decision whose entry waits for its price

    def refuse(self, outcome: Outcome, forgotten_ns: int) -> None:
        if outcome.at - self.refused_at > forgotten_ns:
            self.refusals = 0
        self.refusals, self.refused_at = self.refusals + 1, outcome.at
        self.refusal = f"{_refused(outcome)} ({outcome.why})"


# === Settings ===
# The thresholds and limits of the built-in strategies: values that a person may choose, refused
# as a whole where they contradict. Sizes are shares of the account's present equity.


class RankSettings(Pace):
    """Every threshold and limit of the strategy rank, its pace too; refused if they contradict.

    Scores run from 0 to 100 around 50, and a short is a long in the mirror: `enter` 60 means
    long from 60 up, short from 40 down. Times are event time. `scored` is what may have a weight:
    whoever scores signals of their own adds them in a subclass.
    """

    scored: ClassVar[tuple[str, ...]] = _SIGNALS

    gross_share: float = Field(
        default=3.0, gt=0, description="limit of all exposure together, in equities"
    )
    market_share: float = Field(
        default=1.2, gt=0, description="limit of one market's |target|, in equities"
    )
    positions: int = Field(default=3, ge=1, description="most markets targeted at once")

    weights: dict[str, float] = Field(
        default={"momentum": 0.6, "imbalance": 0.3, "funding": 0.1},
        description="weight of each directional signal in the composite",
    )
    quorum: float = Field(
        default=0.6, gt=0, le=1, description="share of the weights that must be present"
    )
    volume_lift: float = Field(
        default=0.25, ge=0, le=1, description="how far volume stretches conviction"
    )
    volatility_calm: float = Field(
        default=75.0, ge=0, le=100, description="volatility damps above this"
    )
    volatility_extreme: float = Field(
        default=90.0, ge=0, le=100, description="and silences from here"
    )
    liquidity_calm: float = Field(
        default=25.0, ge=0, le=100, description="liquidity damps below this"
    )
    liquidity_extreme: float = Field(
        default=5.0, ge=0, le=100, description="and silences from here"
    )

    enter: float = Field(
        default=60.0, gt=50, lt=100, description="composite that opens (mirror: short)"
    )
    exit: float = Field(
        default=52.0, ge=0, lt=100, description="composite below which a long closes"
    )
    full: float = Field(
        default=75.0, gt=50, le=100, description="composite that earns the full size"
    )
    smallest_share: float = Field(
        default=0.5, gt=0, le=1, description="size at `enter`, share of the full"
    )

    throttle_s: float = Field(
        default=10.0, ge=0, description="as of every pace; two thresholds keep it from turning"
    )
    look_s: float = Field(default=5.0, gt=0, description="time between two looks at all markets")
    holding_s: float = Field(
        default=30.0, ge=0, description="least time before scores may close or resize"
    )
    confirm_s: float = Field(
        default=0.0, ge=0, description="how long a score must stay out before it closes"
    )
    patience_s: float = Field(
        default=5.0, ge=0, description="how long trouble may last before it closes"
    )
    change_share: float = Field(
        default=0.3, gt=0, le=1, description="least resize, share of the target"
    )
    least_share: float = Field(
        default=0.05, gt=0, description="least target and least resize, in equities"
    )
    report_s: float = Field(
        default=30.0, gt=0, description="silence after which a hold gives the reason"
    )

    @field_validator("weights")
    @classmethod
    def _weights_count(cls, weights: dict[str, float]) -> dict[str, float]:
        if not weights or not all(weight > 0 for weight in weights.values()):
            raise ValueError(f"expected at least one signal and weights above 0, got {weights}")
        # A weight of what nothing scores would never be there, and with it the quorum.
        for name in weights:
            if name not in cls.scored:
                known, near = ", ".join(cls.scored), _nearest(name, cls.scored)
                raise ValueError(f"expected signals ({known}), got {name!r}{near}")
        return weights

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _below(self, "exit", "enter")
        _below(self, "enter", "full")
        _below(self, "volatility_calm", "volatility_extreme")
        _below(self, "liquidity_extreme", "liquidity_calm")
        # The mirror of a long exit below 50 would let a short close above a long's entry.
        if self.exit <= 100.0 - self.enter:
            raise ValueError(f"expected exit above {100 - self.enter:g}, got {self.exit:g}")
        if self.least_share > self.market_share * self.smallest_share:
            raise ValueError(
                f"expected least_share of at most {self.market_share * self.smallest_share:g}, "
                f"the smallest target, got {self.least_share:g}"
            )
        return self


def _below(settings: RankSettings, low: str, high: str) -> None:
    if not getattr(settings, low) < getattr(settings, high):
        raise ValueError(
            f"expected {low} below {high}, got {getattr(settings, low):g} "
            f"and {getattr(settings, high):g}"
        )


_S = TypeVar("_S", bound=BaseModel)


def _validated(kind: type[_S], fields: _S | Mapping[str, Any], what: str) -> _S:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        wrong = "; ".join(_fault(dict(one)) for one in error.errors())
        raise StrategyError(f"expected settings of {what} that can be meant: {wrong}") from None


def _fault(error: Mapping[str, Any]) -> str:
    where = ".".join(map(str, error["loc"]))
    return f"{where}: {error['msg']}, got {str(error['input'])[:80]}".removeprefix(": ")


# === Composite ===
# The scores of one market come to one opinion, with its words. Only the distance to 50 is scaled,
# never the side; nothing here knows what is held.


class Weighed(msgspec.Struct, frozen=True, gc=False):
    """What one score does to a composite.

    One with a `weight` adds `part`, its distance to 50 times its share of the weights that are
    there; one without scales all that was added by `factor`.
    """

    signal: str
    value: float
    weight: float = 0.0
    part: float = 0.0
    factor: float = 1.0


class Composite(msgspec.Struct, frozen=True, gc=False):
    """What a market's scores come to: 50, what they add, and what scales that, within 0 to 100.

    `missing` says what there is no opinion without.
    """

    value: float
    parts: tuple[Weighed, ...] = ()
    missing: str = ""

    @property
    def conviction(self) -> float:
        """Return how far it is from 50."""
        return abs(self.value - 50.0)

    @property
    def words(self) -> str:
        """Name the scores, and what damps."""
        return " · ".join(map(_part_words, self.parts))


def composite(scores: Iterable[Score], settings: RankSettings) -> Composite:
    """Return what a market's scores come to by these weights, and what each of them does to it."""
    return _composed({score.signal: score.value for score in scores}, settings)


def _composed(values: Mapping[str, float], settings: RankSettings) -> Composite:
    # The mean of what points a way, stretched by volume, damped by rough or thin markets.
    # Only the distance to 50 is scaled: a damped market has no opinion, not a low one.
    weights = settings.weights
    present = [signal for signal in weights if signal in values]
    weight = math.fsum([weights[signal] for signal in present])
    if weight < settings.quorum * math.fsum(weights.values()):
        missing = ", ".join(signal for signal in weights if signal not in values)
        return Composite(50.0, (), f"it has no {missing} yet")
    leans = [(values[signal] - 50.0) * weights[signal] for signal in present]
    parts = [  # by position: a look makes some thousand of them
        Weighed(signal, values[signal], weights[signal], lean / weight)
        for signal, lean in zip(present, leans, strict=True)
    ]
    lean = math.fsum(leans) / weight
    for signal, factor in _factors(values, settings):
        lean *= factor
        parts.append(Weighed(signal, values[signal], 0.0, 0.0, factor))
    return Composite(min(max(50.0 + lean, 0.0), 100.0), tuple(parts))


def _factors(values: Mapping[str, float], settings: RankSettings) -> Iterator[tuple[str, float]]:
    """Yield by what each score that points no way scales those that do."""
    if "volume" in values:
        yield "volume", 1.0 + settings.volume_lift * (values["volume"] - 50.0) / 50.0
    for signal, calm, extreme in (
        ("volatility", settings.volatility_calm, settings.volatility_extreme),
        ("liquidity", settings.liquidity_calm, settings.liquidity_extreme),
    ):
        if signal in values:
            yield signal, _undamped(values[signal], calm, extreme)


def _part_words(part: Weighed) -> str:
    damps = not part.weight and part.signal != "volume"
    return f"{part.signal} {part.value:.0f}" + (_damping(part.factor) if damps else "")


def _undamped(value: float, calm: float, extreme: float) -> float:
    """Return 1 up to calm, 0 from extreme on, straight in between; either may be larger."""
    share = (extreme - value) / (extreme - calm)
    if share >= 1.0:
        return 1.0
    return share if share > 0.0 else 0.0  # a nothing of no sign: -0 would be read as one


def _damping(share: float) -> str:
    return "" if share > 0.995 else f" (damps to {100.0 * share:.0f} %)"


# === Plans ===
# What is remembered of a market, what would be done in it, and what room there is: the parts of a
# look at all markets. Nothing here decides.

# How long what is held from the start waits for its first scores: the candles of a hundred markets
# take a venue's rate limit that long, and a second try of those that were not answered.
_BEGINS_S: Final = 60.0


class _Market:
    """What the strategy remembers of a market; what is held in it is looked up at each look."""

    __slots__ = (
        "cut_reason", "cut_usdc", "exposure", "held", "judged", "news", "opinion", "out_since",
        "refusal", "scored", "since", "stranded", "ticker", "trouble", "troubled_at",
    )  # fmt: skip

    def __init__(self, scored: Scored) -> None:
        self.ticker = scored.ticker
        # As of the look that is going on.
        self.scored = scored
        self.opinion = Composite(50.0)
        self.judged = False  # whether there ever was an opinion
        # Signed: what is held, and the same with what is approved and not filled yet.
        self.held = self.exposure = 0.0
        self.since: int | None = None
        self.out_since: int | None = None
        self.trouble = self.stranded = ""
        self.troubled_at = 0
        self.cut_usdc, self.cut_reason = 0.0, ""
        self.refusal = ""
        self.news = ""

    @property
    def taken(self) -> float:
        """Return what it takes of the gross exposure: an exit counts once it has filled."""
        return max(abs(self.held), abs(self.exposure))

    def judge(self, at: int, settings: RankSettings) -> None:
        # Scores are made for those that something is decided of.
        self.opinion = _composed(self.scored.values, settings)
        # A position is not left because a price is old: silence and what is unknown count.
        found = stopping(self.scored.view, "entry", None if self.taken else at)
        trouble = found[0].why if found else self.opinion.missing
        self.judged |= not self.opinion.missing
        if trouble and not self.trouble:
            self.troubled_at, self.stranded = at, ""
        self.trouble = trouble

    def strand(self, why: str) -> None:
        """Take in that a position cannot be closed; it is news if the reason is another."""
        if why != self.stranded:
            self.news = self.stranded = why

    def find(self, at: int, held: float, on_its_way: float, settings: RankSettings) -> None:
        """Take in what is held; note what no target of ours explains."""
        exposure = held + on_its_way
        # An order is valued at the price of its approval: so near to nothing counts as nothing.
        if abs(exposure) <= settings.same_share * max(abs(held), abs(on_its_way)):
            exposure = 0.0
        self.held, self.exposure, self.news = held, exposure, ""
        if not self.taken:
            self.since = self.out_since = None
        elif self.since is None:
            self.since, self.news = at, f"found {held:+,.0f} USDC: adopted, it may be closed"
        if self.cut_usdc:
            went = f"cut by {self.cut_usdc:+,.0f} USDC ({self.cut_reason})"
            self.news = f"{went}: nothing grows for {settings.cool_down_s:g} s"
            self.cut_usdc = 0.0


class _Plan(msgspec.Struct, frozen=True):
    """What would be done in a market if there is room, and why."""

    market: _Market
    target: float
    urgency: float
    reason: str

    @classmethod
    def stay(cls, market: _Market, reason: str) -> _Plan:
        return cls(market, market.exposure, 0.0, reason)

    @property
    def shrinks(self) -> bool:
        # What is only on its way cannot be taken back.
        return abs(self.target) < min(abs(self.market.exposure), abs(self.market.held))

    @property
    def grows(self) -> bool:
        return abs(self.target) > abs(self.market.exposure)


class _Room:
    """What a look may still add: by what is held or on its way, and by what it has decided.

    Everything is a share of the present equity; nothing may be added while that is not known.
    """

    __slots__ = ("_settings", "_taken", "equity", "gross", "limit")

    def __init__(self, settings: RankSettings, held: Holdings, markets: Iterable[_Market]) -> None:
        # Positions in markets without a score count, too.
        self._taken = {ticker: abs(one.usdc) for ticker, one in held.items()}
        self._taken |= {market.ticker: market.taken for market in markets}
        self._settings = settings
        self.equity = None if held.equity_usdc is None else max(held.equity_usdc, 0.0)
        self.gross = math.fsum(self._taken.values())
        self.limit = settings.gross_share * (self.equity or 0.0)

    @property
    def missing(self) -> str:
        """Return why nothing can be sized; empty if something can."""
        if self.equity:
            return ""
        return "the account's equity is not known" if self.equity is None else "no equity is left"

    def size(self, strength: float) -> float:
        """Return what a score of such strength earns; 0 while nothing can be sized."""
        least = self._settings.smallest_share
        share = least + (1.0 - least) * strength
        return float(round(self._settings.market_share * (self.equity or 0.0) * share))

    def least(self, exposure: float) -> float:
        """Return the least change that is worth it."""
        share = self._settings.least_share * (self.equity or 0.0)
        return max(share, self._settings.change_share * abs(exposure))

    @property
    def places(self) -> int:
        return sum(1 for usdc in self._taken.values() if usdc)  # integers

    @property
    def then(self) -> float:
        return math.fsum(self._taken.values())

    @property
    def left(self) -> float:
        return max(self.limit - self.then, 0.0)

    def take(self, ticker: str, target: float) -> str:
        """Take what a target needs; return in words what is in use then."""
        before = self._taken[ticker]
        self._taken[ticker] = max(before, abs(target))
        then = f", then {self.then:,.0f}" if abs(target) > before else ""
        return f"gross now {self.gross:,.0f}{then} of {self.limit:,.0f} USDC"


class _Met(msgspec.Struct, frozen=True):
    """A composite against a threshold, in the direction meant."""

    met: bool
    way: str
    words: str


def _meets(value: float, threshold: float, direction: float) -> _Met:
    # A short's threshold is the mirror of a long's.
    if direction >= 0:
        met = value >= threshold
        return _Met(met, "long", _compared(value, "≥" if met else "<", threshold))
    mirrored = 100.0 - threshold
    met = value <= mirrored
    return _Met(met, "short", _compared(value, "≤" if met else ">", mirrored))


def _compared(value: float, sign: str, threshold: float) -> str:
    # "60.0 < 60" would be a riddle: show more digits.
    riddle = value != threshold and round(value, 1) == threshold
    return f"score {value:.{3 if riddle else 1}f} {sign} {threshold:g}"


class Ranked(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One market in a look: what it has, what its score wants of it, and what it gets; signed USDC.

    `strength` is how far its score is from the threshold on the way to the full size, 0 to 1, and
    `earns_usdc` the size that goes with it. `has_usdc` counts what is on its way; `why` says why
    it gets what it gets.
    """

    ticker: str
    score: float
    has_usdc: float
    strength: float
    earns_usdc: float
    wants_usdc: float
    gets_usdc: float
    why: str


class Look(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """All markets weighed against each other at one frame, the strongest first, and by what.

    A size is `market_share` of the equity times what its strength earns of it, as long as there is
    room: `gross_usdc` is what was in use of `limit_usdc` before, `taken` in how many markets. An
    `equity_usdc` of None is not known.
    """

    seq: int
    at: int
    settings: RankSettings
    equity_usdc: float | None
    gross_usdc: float
    limit_usdc: float
    taken: int
    markets: tuple[Ranked, ...]


def _rank(market: _Market) -> tuple[bool, float, str]:
    return (bool(market.trouble), -market.opinion.conviction, market.ticker)


def _hold(market: _Market, now: Scored, *reasons: str) -> Decision:
    return _decision(market, now, "hold", market.held, 0.0, reasons)


def _decision(
    market: _Market,
    now: Scored,
    action: Action,
    target: float,
    urgency: float,
    reasons: tuple[str, ...],
) -> Decision:
    return Decision(
        ticker=market.ticker,
        # The frame of this look; each score names the frame that it came from.
        seq=now.seq,
        at=now.at,
        action=action,
        target_usdc=target,
        previous_usdc=market.held,
        urgency=urgency,
        score=market.opinion.value,
        reasons=reasons,
        scores=market.scored.scores,
    )


_FOREVER_NS: Final = 2**63


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


# === Rank and target ===
# The standard strategy. It decides by what is held and on its way; how often risk may be added,
# `Pace` limits for it as for every other.


_LOOKS: Final = 64  # as many as a person goes back through


class RankAndTarget:
    """Rank all markets by composite score; target the strongest, long or short.

    Every `look_s` it looks at all markets: what must close or shrink does, then the strongest
    of the rest open or grow while places and gross exposure last. Both count what is held or on
    its way; a market that was refused takes neither, and is retried or given up. What is held
    keeps its place until it closes by itself, so ranking alone never makes it trade; and it turns
    round only by closing first. Two thresholds, a holding time, a time to confirm, a least change
    and a pace stand between opening and closing: it cannot flap. It adopts a position that it
    finds; of one that was cut, it goes on with the rest.
    """

    name: ClassVar[str] = "rank"

    def __init__(self, settings: RankSettings | None = None) -> None:
        self.settings = settings or RankSettings()
        self._pacing = _Pacing(self.settings)
        self._markets: dict[str, _Market] = {}
        self._next_look: int | None = None
        self._reported_at = 0
        # The newest look, and the newest of those that decided something.
        self.looked: Look | None = None
        self.looks: deque[Look] = deque(maxlen=_LOOKS)

    @property
    def signals(self) -> tuple[str, ...]:
        """Return the names of what it weighs."""
        return tuple(self.settings.weights)

    @property
    def pace(self) -> Pace:
        """Return how often it may add risk."""
        return self.settings

    def rests_until(self, view: MarketView) -> int:
        """Return when it looks next, where the market is known."""
        known = view.ticker in self._markets
        return self._next_look or 0 if known else 0

    def step(self, scored: Scored, held: Holdings) -> Iterable[Decision]:
        """Take note of a market; look at all markets when it is time."""
        if scored.ticker not in self._markets:
            self._markets[scored.ticker] = _Market(scored)
        if self._next_look is None:
            self._next_look = scored.at + _ns(self.settings.look_s)
            self._reported_at = scored.at
        if scored.at < self._next_look:
            return ()
        self._next_look = scored.at + _ns(self.settings.look_s)
        self._pacing.heed(held)
        return self._look(scored, held)

    def change(self, settings: RankSettings) -> None:
        """Go on by other settings."""
        self.settings = self._pacing.pace = settings

    def learn(self, outcome: Outcome) -> None:
        """Take in what became of a decision, or that a position was cut."""
        self._pacing.learn(outcome)
        market = self._markets.get(outcome.ticker)
        if market is None:
            return
        if outcome.kind == "cut":
            market.cut_usdc, market.cut_reason = market.cut_usdc + outcome.usdc, outcome.reason
        elif outcome.kind in ("denied", "expired"):
            market.refusal = _refused(outcome)
        elif outcome.kind == "filled":
            market.refusal = ""

    def _look(self, now: Scored, held: Holdings) -> list[Decision]:
        markets, settings = self._markets.values(), self.settings
        scored = now.markets
        for ticker, market in self._markets.items():
            market.scored = scored[ticker]
            market.find(now.at, held.usdc(ticker), self._pacing.open_usdc(ticker), settings)
            market.judge(now.at, settings)
        room = _Room(settings, held, markets)
        plans = [self._plan(market, now.at, room) for market in sorted(markets, key=_rank)]
        taken = room.places
        # What shrinks goes first. The room that it makes is there when it has filled.
        decided = [self._target(plan, now, room) for plan in plans if plan.shrinks]
        granted: list[_Plan] = []
        for plan in plans:
            granted.append(self._grant(plan, now.at, room))
            if granted[-1].grows:
                decided.append(self._target(granted[-1], now, room))
        decided += self._news(plans, {one.ticker for one in decided}, now)
        if not decided and now.at - self._reported_at >= _ns(settings.report_s):
            first = self._grant(plans[0], now.at, room)
            looked = f"first of {len(plans)} markets looked at, none changes"
            decided = [_hold(first.market, now, first.reason, looked)]
        self.looked = Look(
            seq=now.seq, at=now.at, settings=settings, equity_usdc=room.equity,
            gross_usdc=room.gross, limit_usdc=room.limit, taken=taken,
            markets=tuple(map(partial(self._ranked, room), plans, granted)),
        )  # fmt: skip
        if decided:
            self._reported_at = now.at
            self.looks.append(self.looked)
        return decided

    def _ranked(self, room: _Room, plan: _Plan, granted: _Plan) -> Ranked:
        market = plan.market
        strength = self._strength(market.opinion)
        side = math.copysign(1.0, market.opinion.value - 50.0)
        return Ranked(
            ticker=market.ticker, score=market.opinion.value, has_usdc=market.exposure,
            strength=strength, earns_usdc=side * room.size(strength), wants_usdc=plan.target,
            gets_usdc=granted.target, why=granted.reason,
        )  # fmt: skip

    def _news(self, plans: list[_Plan], decided: set[str], now: Scored) -> Iterator[Decision]:
        """Yield a hold where something happened that no target of this look answers."""
        for plan in plans:
            market = plan.market
            if market.news and market.ticker not in decided:
                yield _hold(market, now, market.news, plan.reason)

    def _plan(self, market: _Market, at: int, room: _Room) -> _Plan:
        if market.trouble:
            return self._plan_trouble(market, at)
        if market.exposure:
            return self._plan_held(market, at, room)
        return self._plan_flat(market, room)

    def _plan_trouble(self, market: _Market, at: int) -> _Plan:
        lasted = (at - market.troubled_at) / 1e9
        patience = self.settings.patience_s
        if not market.judged and market.trouble == market.opinion.missing:
            # A run that begins with it: the past that scores are made of is still on its way.
            patience = max(patience, _BEGINS_S)
        if not market.exposure:
            return _Plan.stay(market, f"not judged: {market.trouble}")
        if lasted < patience:
            return _Plan.stay(market, f"{market.trouble} ({lasted:.1f} s < {patience:g} s)")
        if stops := stopping(market.scored.view, "exit"):
            market.strand(f"cannot be closed: {stops[0].why}")
            return _Plan.stay(market, market.stranded)
        return _Plan(market, 0.0, _PRESSING, f"close: {market.trouble} ({lasted:.1f} s)")

    def _plan_held(self, market: _Market, at: int, room: _Room) -> _Plan:
        settings, opinion = self.settings, market.opinion
        held = (at - (at if market.since is None else market.since)) / 1e9
        if held < settings.holding_s:
            return _Plan.stay(market, f"held {held:.0f} s < {settings.holding_s:g} s")
        stays = _meets(opinion.value, settings.exit, market.exposure)
        if not stays.met:
            return self._plan_leaving(market, at, stays)
        market.out_since = None
        wanted = room.size(self._strength(opinion))
        if room.missing or abs(wanted - abs(market.exposure)) < room.least(market.exposure):
            return _Plan.stay(market, f"{stays.words} to stay {stays.way}: {opinion.words}")
        target = wanted if market.exposure > 0 else -wanted
        reason = f"score {opinion.value:.1f} earns {wanted:,.0f} USDC: {opinion.words}"
        return _Plan(market, target, self._strength(opinion), reason)

    def _plan_leaving(self, market: _Market, at: int, stays: _Met) -> _Plan:
        # One bad look is noise; a score that stays below is a reason to leave.
        market.out_since = at if market.out_since is None else market.out_since
        out = (at - market.out_since) / 1e9
        confirm = self.settings.confirm_s
        reason = f"{stays.words} to stay {stays.way}"
        if out < confirm:
            return _Plan.stay(market, f"{reason} for {out:.0f} s < {confirm:g} s")
        return _Plan(market, 0.0, 0.5, f"{reason}: {market.opinion.words}")

    def _plan_flat(self, market: _Market, room: _Room) -> _Plan:
        opinion = market.opinion
        enters = _meets(opinion.value, self.settings.enter, opinion.value - 50.0)
        reason = f"{enters.words} to go {enters.way}: {opinion.words}"
        if not enters.met:
            if market.refusal:
                market.news, market.refusal = f"given up, it was {market.refusal}", ""
            return _Plan.stay(market, reason)
        if room.missing:
            return _Plan.stay(market, f"{room.missing}: {reason}")
        wanted = room.size(self._strength(opinion))
        target = wanted if opinion.value > 50.0 else -wanted
        return _Plan(market, target, self._strength(opinion), reason)

    def _grant(self, plan: _Plan, at: int, room: _Room) -> _Plan:
        """Bound a plan that grows by the places and the gross exposure left, or let it wait."""
        if not plan.grows:
            return plan
        settings, market, before = self.settings, plan.market, abs(plan.market.exposure)
        if wait := self._pacing.wait(market.ticker, plan.target, at):
            return _Plan.stay(market, f"{wait}: {plan.reason}")
        if not market.taken and room.places >= settings.positions:
            reason = f"no place: {room.places} of {settings.positions} markets held"
            return _Plan.stay(market, reason)
        size = min(abs(plan.target), before + room.left)
        if size - before < room.least(before):
            used = f"{room.then:,.0f} of {room.limit:,.0f} USDC in use"
            return _Plan.stay(market, f"no room: {used}")
        target = size if plan.target > 0 else -size
        return _Plan(market, target, plan.urgency, plan.reason)

    def _target(self, plan: _Plan, now: Scored, room: _Room) -> Decision:
        market = plan.market
        if not market.taken:
            market.since, market.out_since = now.at, None
        used = room.take(market.ticker, plan.target)
        reasons = (market.news, plan.reason, used) if market.news else (plan.reason, used)
        decision = _decision(market, now, "target", plan.target, plan.urgency, reasons)
        self._pacing.request(decision)
        return decision

    def _strength(self, opinion: Composite) -> float:
        settings = self.settings
        beyond = opinion.conviction + 50.0 - settings.enter
        return min(max(beyond / (settings.full - settings.enter), 0.0), 1.0)


# === Costs ===
# What getting in and out again costs, by walking the book for the whole size: what a strategy
# expects to gain is held against it. Fees are the settings'; nothing here looks ahead.


def _average_price(levels: Iterable[Level], usdc: float) -> float | None:
    """Return the average price of taking so much of the levels; None if they are too few."""
    left, size = usdc, 0.0
    for level in levels:
        taken = min(left, level.price * level.size)
        size += taken / level.price
        left -= taken
        if left <= 0.0:
            return usdc / size
    return None


def _round_trip_bps(book: Book, usdc: float, fee_ppm: int) -> float | None:
    """Return what it costs to take so much and give it back at once, in bps of it.

    Both sides are walked and two fees of `fee_ppm` paid; None if the book does not hold as much.
    """
    if book.mid_price is None or usdc <= 0.0:
        return None
    bought, sold = _average_price(book.asks(), usdc), _average_price(book.bids(), usdc)
    if bought is None or sold is None:
        return None
    return (bought - sold) / book.mid_price * 1e4 + 2 * fee_ppm / 100.0


# === Returns ===
# What is remembered of prices to judge whether they go on or come back: averages by half-life,
# one step each, of event time.


def _fading(half_life_s: float) -> float:
    """Return the rate at which what is remembered fades, a second."""
    return -math.log(2.0) / half_life_s


# Samples of the distance at hand that count as if it never came back.
_DOUBT: Final = 10.0
_NEVER: Final = 1.0 - 1e-12


class _Return:
    """How far a log price strays from where it belongs, and how fast it comes back.

    deviation   = the square root of the mean square of x, its distance
    half_life_s = dt · ln 2 / -ln(k), k = (sum of x · x' + 10 x²) / (sum of x'² + 10 x²), x' a
                  sample ago: where less was seen than is seen now, nothing is known to come back
    """

    __slots__ = ("_at", "_count", "_products", "_squares", "_time", "rate", "since", "x")

    def __init__(self, half_life_s: float) -> None:
        self.rate = _fading(half_life_s)
        self._at = self.since = 0
        self.x = self._count = self._products = self._squares = self._time = 0.0

    def sample(self, x: float, at: int) -> None:
        dt = (at - self._at) / 1e9
        if not self._at:
            self.since = at
        elif dt > 0.0:
            decay = math.exp(dt * self.rate)
            self._squares = self._squares * decay + self.x * self.x
            self._products = self._products * decay + self.x * x
            self._time, self._count = self._time * decay + dt, self._count * decay + 1.0
        self.x, self._at = x, at

    @property
    def deviation(self) -> float:
        return math.sqrt(self._squares / self._count) if self._count else 0.0

    @property
    def half_life_s(self) -> float:
        unknown = _DOUBT * self.x * self.x
        if self._products >= self._squares or not unknown:
            return math.inf  # it strays farther and farther
        share = (self._products + unknown) / (self._squares + unknown)
        step = self._time / self._count
        return step * math.log(2.0) / -math.log(min(max(share, 1e-9), _NEVER))

    def gain(self, seconds: float) -> float:
        """Return how much of the distance is expected back after so many seconds."""
        left: float = 0.5 ** (seconds / max(self.half_life_s, 1e-9))
        return abs(self.x) * (1.0 - left)


class _Drift:
    """Whether a price goes somewhere: its returns against their own size, by half-life.

    t = sum of w · r / sqrt(v · sum of w² · dt), w halves with each half-life, v their variance a
    second: a standard normal figure where returns have no direction. `minute_bps` is their
    deviation over a minute.
    """

    __slots__ = ("_at", "_log", "_sum", "_time", "_time_2", "_variance", "rate", "since")

    def __init__(self, half_life_s: float) -> None:
        self.rate = _fading(half_life_s)
        self._at = self.since = 0
        self._log = self._sum = self._variance = self._time = self._time_2 = 0.0

    def sample(self, price: float, at: int) -> None:
        log, dt = math.log(price), (at - self._at) / 1e9
        if not self._at:
            self.since = at
        elif dt > 0.0:
            step, decay = log - self._log, math.exp(dt * self.rate)
            self._sum = self._sum * decay + step
            self._time_2 = self._time_2 * decay * decay + dt
            self._variance = self._variance * decay + step * step
            self._time = self._time * decay + dt
        self._log, self._at = log, at

    @property
    def t(self) -> float:
        chance = self._variance * self._time_2
        return self._sum * math.sqrt(self._time / chance) if chance > 0.0 else 0.0

    @property
    def minute_bps(self) -> float:
        return 1e4 * math.sqrt(60.0 * self._variance / self._time) if self._time else 0.0


class _ReturnSettings(Pace):
    """When a distance is far enough to trade against, and when that is over."""

    warm_up_s: float = Field(default=300.0, ge=0, description="time watched before any is judged")
    enter: float = Field(default=2.0, gt=0, description="|z| from which it enters")
    exit_share: float = Field(
        default=0.25, ge=0, lt=1, description="share of the distance at which it is done"
    )
    stop_share: float = Field(
        default=1.8, gt=1, description="times the distance at which it gives up"
    )
    edge: float = Field(
        default=1.5, ge=1, description="expected gain, in costs of getting in and out"
    )


# === Watching ===
# What strategies of one opinion per market have in common: when they look, what trouble they leave
# for, how much room there is, and that they say why nothing happens. Nothing here has an opinion.


class WatchSettings(Pace):
    """The limits and times of a strategy that watches each market by itself."""

    market_share: float = Field(
        default=0.4, gt=0, description="what it takes of a market, in equities"
    )
    positions: int = Field(default=2, ge=1, description="most markets held at once")
    taker_fee_ppm: int = Field(
        default=500, ge=0, description="what taking costs: a round trip is two of them"
    )
    look_s: float = Field(default=1.0, gt=0, description="time between two looks at a market")
    patience_s: float = Field(
        default=5.0, ge=0, description="how long trouble may last before it closes"
    )
    report_s: float = Field(
        default=60.0, gt=0, description="silence after which a hold gives the reason"
    )


class _Watched:
    """What is remembered of one market."""

    def __init__(self) -> None:
        self.due = 0
        self.troubled_at: int | None = None
        self.since: int | None = None  # when something held was first seen
        self.asked_until = 0  # an entry may be on its way so long
        self.rests_until = 0

    def takes(self, _: MarketView) -> bool:
        """Tell whether `take` has anything to take in of a view."""
        return False

    def take(self, scored: Scored) -> None:
        """Take in whatever comes, looked at or not."""


_W = TypeVar("_W", bound=_Watched)
_L = TypeVar("_L", bound=WatchSettings)


class _Watcher(Generic[_W, _L]):
    """Look at each market every `look_s`: leave trouble, leave what is done, enter what is new.

    A look comes to a decision, or to the reason why there is none.
    """

    name: ClassVar[str]
    signals: ClassVar[tuple[str, ...]] = ()

    def __init__(self, settings: _L) -> None:
        self.settings = settings
        self._markets: dict[str, _W] = {}
        self._reported_at: int | None = None

    @property
    def pace(self) -> Pace:
        """Return how often it may add risk."""
        return self.settings

    def change(self, settings: _L) -> None:
        """Go on by other settings; what was seen fades by them from here on."""
        self.settings = settings
        for market in self._markets.values():
            self._tune(market)

    def rests_until(self, view: MarketView) -> int:
        """Return when it looks at a market next; 0 of one that has something to take in."""
        market = self._markets.get(view.ticker)
        return 0 if market is None or market.takes(view) else market.due

    def step(self, scored: Scored, held: Holdings) -> Iterable[Decision]:
        """Take in a market's newest scores; look at it when it is time."""
        market = self._markets.get(scored.ticker)
        if market is None:
            market = self._markets[scored.ticker] = self._watch()
        market.take(scored)
        if scored.at < market.due:
            return ()
        market.due = scored.at + _ns(self.settings.look_s)
        looked = self._look(market, scored, held)
        if not isinstance(looked, str):
            self._reported_at = scored.at
            return (looked,)
        return self._report(scored, held, looked)

    def learn(self, outcome: Outcome) -> None:
        """Give up the place of an entry that has failed."""
        market = self._markets.get(outcome.ticker)
        if market is not None and outcome.kind in ("denied", "expired"):
            market.asked_until = 0

    def _report(self, scored: Scored, held: Holdings, why: str) -> Iterable[Decision]:
        silent_since = self._reported_at
        if silent_since is None or scored.at - silent_since < _ns(self.settings.report_s):
            self._reported_at = scored.at if silent_since is None else silent_since
            return ()
        self._reported_at = scored.at
        return (_holding(scored, held, why),)

    def _look(self, market: _W, scored: Scored, held: Holdings) -> Decision | str:
        usdc, view = held.usdc(scored.ticker), scored.view
        # A position is not left because a price is old: silence and what is unknown count.
        if found := stopping(view, "entry", None if usdc else scored.at):
            return self._in_trouble(market, scored, usdc, found[0].why)
        market.troubled_at = None
        self._judge(market, scored)
        if usdc:
            market.since = scored.at if market.since is None else market.since
            return self._stay(market, scored, held[scored.ticker])
        market.since = None
        if scored.at < market.rests_until:
            return f"it rests for {(market.rests_until - scored.at) / 1e9:.0f} s more"
        if wait := self._full(scored, held):
            return wait
        size = self.settings.market_share * (held.equity_usdc or 0.0)
        entered = self._enter(market, scored, size)
        if not isinstance(entered, str):
            market.asked_until = scored.at + _ns(self._asks_s)
        return entered

    def _in_trouble(self, market: _W, scored: Scored, usdc: float, why: str) -> Decision | str:
        market.troubled_at = scored.at if market.troubled_at is None else market.troubled_at
        lasted, patience = (scored.at - market.troubled_at) / 1e9, self.settings.patience_s
        if not usdc:
            return f"not judged: {why}"
        if lasted < patience:
            return f"{why} ({lasted:.1f} s < {patience:g} s)"
        if stops := stopping(scored.view, "exit"):
            return f"cannot be closed: {stops[0].why}"
        return Decision.of(scored, 0.0, f"close: {why} ({lasted:.1f} s)", urgency=_PRESSING)

    def _full(self, scored: Scored, held: Holdings) -> str:
        if not held.equity_usdc or held.equity_usdc < 0:
            known = held.equity_usdc is not None
            return "no equity is left" if known else "the account's equity is not known"
        # What is on its way to be held takes its place, too.
        taken = {t for t, one in self._markets.items() if one.asked_until > scored.at}.union(held)
        if len(taken - {scored.ticker}) >= self.settings.positions:
            return f"no place: {len(taken)} of {self.settings.positions} markets held"
        return ""

    def _leave(self, market: _W, scored: Scored, rest_s: float, why: str) -> Decision:
        market.rests_until = scored.at + _ns(rest_s)
        return Decision.of(scored, 0.0, why)

    @property
    def _asks_s(self) -> float:
        return 15.0  # by then an order that takes has filled or failed

    def _watch(self) -> _W:
        raise NotImplementedError

    def _tune(self, market: _W) -> None:
        """Take in that the settings are others."""

    def _judge(self, market: _W, scored: Scored) -> None:
        """Take in a market whose book and price are known, once a look."""
        raise NotImplementedError

    def _enter(self, market: _W, scored: Scored, usdc: float) -> Decision | str:
        raise NotImplementedError

    def _stay(self, market: _W, scored: Scored, held: Held) -> Decision | str:
        raise NotImplementedError


def _holding(scored: Scored, held: Holdings, why: str) -> Decision:
    hold = Decision.of(scored, held.usdc(scored.ticker), why, urgency=0.0)
    return msgspec.structs.replace(hold, action="hold")


# === Sniper ===
# Joins a trend on its pullback, at a price of its own, and leaves when the trend is over.


class SniperSettings(WatchSettings):
    """When a market is aimed at, when it is shot at, and when it is left."""

    positions: int = Field(default=2, ge=1, description="most markets held at once")
    trend_s: float = Field(default=600.0, gt=0, description="half-life of what counts as a trend")
    warm_up_s: float = Field(default=300.0, ge=0, description="returns seen before any is judged")
    arm: float = Field(default=3.0, gt=0, description="t of the trend from which it aims")
    leave: float = Field(
        default=1.0, description="t below which it stops aiming, and leaves what it holds"
    )
    pullback: float = Field(
        default=0.5, ge=0, description="how far the price comes back, in deviations of a minute"
    )
    offset_bps: float = Field(
        default=0.0, ge=0, description="how far behind the best price it bids"
    )
    entry_patience_s: float = Field(default=30.0, gt=0, description="how long it bids")
    stop: float = Field(
        default=10.0, gt=0, description="loss at which it leaves, in deviations of a minute"
    )
    rest_s: float = Field(default=300.0, ge=0, description="time without a shot after it has left")
    least_liquidity: float = Field(
        default=10.0, ge=0, le=100, description="liquidity score below which it does not aim"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.leave < self.arm:
            raise ValueError(f"expected leave below arm, got {self.leave:g} and {self.arm:g}")
        return self


_Aim = Literal["watching", "armed", "triggered", "entered"]


class _Target(_Watched):
    def __init__(self, trend_s: float) -> None:
        super().__init__()
        self.drift = _Drift(trend_s)
        self.aim: _Aim = "watching"
        self.side = 0.0
        self.best = 0.0  # the farthest price of the trend since it was armed
        self.shot_at = 0
        self.stop_bps = 0.0  # as it was when it was entered: a fall does not widen its own stop

    def be(self, aim: _Aim) -> None:
        self.aim = aim


class Sniper(_Watcher[_Target, SniperSettings]):
    """Aim at a market that goes one way; bid when it comes back a little; stay while it goes on.

    Hypothesis: a price that has gone one way for minutes, far beyond what chance does, goes on a
    while; its small setbacks are the time to join, and who waits there with a limit order is paid
    the spread and a fifth of the fee, where everybody else pays them.

    watching ── |t| ≥ arm ──► armed ── price back by `pullback` ──► triggered ── filled ──► entered
        ▲                      │ ▲                                      │                      │
        ├──── |t| < leave ─────┘ └────────── expired, denied ───────────┘                      │
        └──────────────── t < leave, or a loss of `stop`, then a rest ─────────────────────────┘

    Must not trade: before `warm_up_s` of returns; in a market thinner than usual; while entries are
    stopped; after it has left, for `rest_s`. Costs: a maker's fee and no spread in, a taker's out
    (about 7 bps); a bid that is only filled because the price went on falling is the cost that no
    table shows. A stop on the venue, half as far again as its own, stands for when nobody looks.
    """

    name: ClassVar[str] = "sniper"
    signals: ClassVar[tuple[str, ...]] = ("liquidity",)

    def __init__(self, settings: SniperSettings | None = None) -> None:
        super().__init__(settings or SniperSettings())
        self._aims: dict[_Aim, Callable[[_Target, Scored, float], Decision | str]] = {
            "watching": self._watching, "armed": self._armed, "triggered": self._triggered,
            "entered": self._gone,
        }  # fmt: skip

    def learn(self, outcome: Outcome) -> None:
        """Aim again where an entry has failed."""
        super().learn(outcome)
        market = self._markets.get(outcome.ticker)
        failed = outcome.kind in ("denied", "expired")
        if market is not None and market.aim == "triggered" and failed:
            # It takes another pullback.
            market.aim, market.best = "armed", 0.0

    @property
    def _asks_s(self) -> float:
        return 1.5 * self.settings.entry_patience_s

    def _watch(self) -> _Target:
        return _Target(self.settings.trend_s)

    def _tune(self, market: _Target) -> None:
        market.drift.rate = _fading(self.settings.trend_s)

    def _judge(self, market: _Target, scored: Scored) -> None:
        market.drift.sample(_mid(scored), scored.at)

    def _enter(self, market: _Target, scored: Scored, usdc: float) -> Decision | str:
        return self._aims[market.aim](market, scored, usdc)

    def _watching(self, market: _Target, scored: Scored, usdc: float) -> Decision | str:
        settings, t = self.settings, market.drift.t
        seen = (scored.at - market.drift.since) / 1e9
        if seen < settings.warm_up_s:
            return f"{seen:.0f} s of returns < {settings.warm_up_s:g} s"
        if abs(t) < settings.arm:
            return f"watching: no trend, |t| {abs(t):.1f} < {settings.arm:g}"
        market.be("armed")
        market.side, market.best = math.copysign(1.0, t), 0.0
        return self._armed(market, scored, usdc)

    def _armed(self, market: _Target, scored: Scored, usdc: float) -> Decision | str:
        settings, t, mid = self.settings, market.drift.t * market.side, _mid(scored)
        if t < settings.leave:
            market.be("watching")
            return f"no longer armed: t {t:.1f} < {settings.leave:g}"
        best = market.best
        if not best or (mid - best) * market.side > 0:
            market.best = best = mid
        back = (best - mid) / best * market.side * 1e4
        wanted = settings.pullback * market.drift.minute_bps
        if back < wanted:
            return f"armed: t {t:.1f}, {back:.1f} bps back < {wanted:.1f}"
        liquidity = scored.value("liquidity")
        if liquidity is None or liquidity < settings.least_liquidity:
            shown = "unknown" if liquidity is None else f"{liquidity:.0f}"
            return f"armed: liquidity {shown}, expected {settings.least_liquidity:g} or more"
        market.be("triggered")
        market.shot_at = scored.at
        return self._shot(market, scored, usdc, f"t {t:.1f} and {back:.1f} bps back")

    def _shot(self, market: _Target, scored: Scored, usdc: float, why: str) -> Decision:
        settings = self.settings
        market.stop_bps = settings.stop * market.drift.minute_bps
        return Decision.of(
            scored, float(round(market.side * usdc)), f"triggered: {why}",
            f"bids {settings.entry_patience_s:g} s at the best price of its side",
            urgency=0.5, entry="make", entry_offset_bps=settings.offset_bps,
            patience_s=settings.entry_patience_s,
            stop_loss=_mid(scored) * (1.0 - market.side * min(1.5e-4 * market.stop_bps, 0.5)),
        )  # fmt: skip

    def _triggered(self, market: _Target, scored: Scored, usdc: float) -> Decision | str:
        # Until it is filled, or fails; what was never sent, because it had to wait, fails in time.
        out, most = (scored.at - market.shot_at) / 1e9, self._asks_s
        if out < most:
            return f"triggered: its bid is out for {out:.0f} s"
        market.be("armed")
        market.best = 0.0
        return f"armed again: nothing came of its bid in {out:.0f} s"

    def _gone(self, market: _Target, scored: Scored, usdc: float) -> Decision | str:
        market.be("watching")
        return "what it held is gone"

    def _stay(self, market: _Target, scored: Scored, held: Held) -> Decision | str:
        settings, mid = self.settings, _mid(scored)
        market.be("entered")
        market.side = math.copysign(1.0, held.usdc)
        t = market.drift.t * market.side
        lost = (held.entry_price - mid) / mid * market.side * 1e4
        most = market.stop_bps = market.stop_bps or settings.stop * market.drift.minute_bps
        if t < settings.leave:
            return self._leave(market, scored, settings.rest_s, f"t {t:.1f} < {settings.leave:g}")
        if lost > most:
            why = f"{lost:.0f} bps against it > {most:.0f}"
            return self._leave(market, scored, settings.rest_s, why)
        return f"entered: t {t:.1f} ≥ {settings.leave:g}, {-lost:+.0f} bps"


def _mid(scored: Scored) -> float:
    mid = scored.view.book.mid_price
    if mid is None:  # entries are stopped there, so that nobody asks
        raise ValueError(f"expected a book of two sides in {scored.ticker}, got none")
    return mid


# === Reversion ===
# Trades against a price that is far from what was paid lately, where such a price has come back.


class ReversionSettings(_ReturnSettings, WatchSettings):
    """How far is far, how fast it must have come back so far, and when it is given up."""

    vwap_s: float = Field(default=180.0, gt=0, description="half-life of the volume-weighted price")
    usual_s: float = Field(default=1_800.0, gt=0, description="half-life of what is usual")
    half_life_s: float = Field(
        default=75.0, gt=0, description="a price that has taken longer to come back half does not"
    )
    holding_s: float = Field(default=180.0, gt=0, description="longest it waits")
    rest_s: float = Field(default=120.0, ge=0, description="time without an entry after a loss")


class _Strayed(_Watched):
    def __init__(self, settings: ReversionSettings) -> None:
        super().__init__()
        self.back = _Return(settings.usual_s)
        self.entered_bps = 0.0
        self.rate = _fading(settings.vwap_s)
        self._usd = self._size = 0.0
        self._at = 0

    def takes(self, view: MarketView) -> bool:
        return view.changed == "trades" and bool(view.fresh)

    def take(self, scored: Scored) -> None:
        view = scored.view
        if not self.takes(view):
            return
        decay = math.exp(max(scored.at - self._at, 0) / 1e9 * self.rate) if self._at else 0.0
        self._at = scored.at
        self._usd *= decay
        self._size *= decay
        for trade in view.fresh:
            self._usd += trade.price * trade.size
            self._size += trade.size

    @property
    def vwap(self) -> float | None:
        return self._usd / self._size if self._size > 0.0 else None


class Reversion(_Watcher[_Strayed, ReversionSettings]):
    """Sell what is far above what was paid lately and buy what is far below, for the way back.

    Hypothesis: an order too large for the moment moves the price beyond what the news is worth, and
    it comes back within a minute or two. Where that is so it shows: the distance of the price to
    its volume-weighted average halves much faster than that average follows a price that stays.

    x = ln(mid / vwap), z = x / its usual size; enters against x where |z| ≥ `enter`, x has halved
    within `half_life_s` so far, and what is expected back within `holding_s` is `edge` times what
    the round trip costs. Leaves when x is back to `exit_share`, after `holding_s`, or when x has
    grown to `stop_share`.

    Must not trade: before `warm_up_s`; on candles alone, which do not say what was paid within a
    minute; where distances do not halve in time (a walk, a trend, a crash); where the book does not
    fill its size; while entries are stopped; after a loss, for `rest_s`. Costs: two
    taker's fees and both sides of the book, walked for its size.
    """

    name: ClassVar[str] = "reversion"

    def __init__(self, settings: ReversionSettings | None = None) -> None:
        super().__init__(settings or ReversionSettings())

    def _watch(self) -> _Strayed:
        return _Strayed(self.settings)

    def _tune(self, market: _Strayed) -> None:
        market.back.rate = _fading(self.settings.usual_s)
        market.rate = _fading(self.settings.vwap_s)

    def _judge(self, market: _Strayed, scored: Scored) -> None:
        if (vwap := market.vwap) is not None:
            market.back.sample(math.log(_mid(scored) / vwap), scored.at)

    def _enter(self, market: _Strayed, scored: Scored, usdc: float) -> Decision | str:
        settings, back = self.settings, market.back
        seen = (scored.at - back.since) / 1e9 if back.since else 0.0
        if scored.view.book.fidelity == "candles":
            return "candles do not say what was paid within a minute: it needs trades"
        if seen < settings.warm_up_s or not back.deviation:
            return (
                f"{seen:.0f} s of distances to the volume-weighted price < {settings.warm_up_s:g} s"
            )
        cost = _round_trip_bps(scored.view.book, usdc, settings.taker_fee_ppm)
        far = _far(
            back, settings.enter, settings.half_life_s, settings.holding_s, cost, settings.edge
        )
        if not far.met:
            return far.words
        market.entered_bps = abs(back.x) * 1e4
        return Decision.of(scored, float(round(-math.copysign(usdc, back.x))), far.words)

    def _stay(self, market: _Strayed, scored: Scored, held: Held) -> Decision | str:
        settings = self.settings
        away = -market.back.x * math.copysign(1e4, held.usdc)
        entered = market.entered_bps = market.entered_bps or max(abs(away), 1.0)
        spent = (scored.at - (market.since or scored.at)) / 1e9
        if away <= settings.exit_share * entered:
            return self._leave(
                market, scored, 0.0, f"back: {away:.1f} of {entered:.1f} bps are left"
            )
        if away >= settings.stop_share * entered:
            why = f"it went on: {away:.1f} bps, {entered:.1f} when it entered"
            return self._leave(market, scored, settings.rest_s, why)
        if spent >= settings.holding_s:
            why = f"{away:.1f} of {entered:.1f} bps are left after {spent:.0f} s"
            return self._leave(market, scored, settings.rest_s, why)
        return f"{away:.1f} of {entered:.1f} bps to go"


def _far(
    back: _Return, enter: float, half_life_s: float, holding_s: float, cost_bps: float | None,
    edge: float,
) -> _Met:  # fmt: skip
    """Return whether a distance is worth trading against, and in words why or why not."""
    far_bps, z = back.x * 1e4, back.x / back.deviation
    shown = f"{far_bps:+.1f} bps off, z {z:+.1f}"
    way = "short" if z > 0 else "long"
    if abs(z) < enter:
        return _Met(False, way, f"{shown}: |z| < {enter:g}")
    if back.half_life_s > half_life_s:
        lasting = f"{back.half_life_s:.0f} s" if back.half_life_s < math.inf else "for ever"
        return _Met(False, way, f"{shown}: half of it stays {lasting} > {half_life_s:g} s")
    if cost_bps is None:
        return _Met(False, way, f"{shown}: the book does not hold as much")
    gain, least = back.gain(holding_s) * 1e4, edge * cost_bps
    sum_ = f"{gain:.1f} bps expected back, {cost_bps:.1f} to trade it"
    if gain < least:
        return _Met(False, way, f"{shown}: {sum_}, less than {edge:g} times")
    return _Met(True, way, f"{shown}, half of it is gone after {back.half_life_s:.0f} s: {sum_}")


# === Carry ===
# Holds the side that is paid, where that is worth more than getting in and out.


class CarrySettings(WatchSettings):
    """For how long carry is counted, how fast it fades, and what it must exceed."""

    look_s: float = Field(default=5.0, gt=0, description="time between two looks at a market")
    horizon_h: float = Field(default=24.0, gt=0, description="hours for which carry is counted")
    fades_h: float = Field(default=8.0, gt=0, description="hours in which a rate halves")
    usual_s: float = Field(default=1_800.0, gt=0, description="half-life of the mean rate")
    warm_up_s: float = Field(default=900.0, ge=0, description="rates seen before any is judged")
    edge: float = Field(
        default=2.0, ge=2, description="expected carry, in costs of the round trip, to enter"
    )
    exit_edge: float = Field(
        default=0.0, ge=0, description="expected carry, in costs of the round trip, to stay"
    )
    stop: float = Field(
        default=0.08, gt=0, le=1, description="move against it at which it gives up, of the price"
    )
    rest_s: float = Field(default=3_600.0, ge=0, description="time without an entry after it left")


class _Rate(_Watched):
    def __init__(self) -> None:
        super().__init__()
        self.rate = self.mean = 0.0
        self.at = self.seen_since = 0


class Carry(_Watcher[_Rate, CarrySettings]):
    """Hold the side that funding pays, while what it pays is worth the way in and out.

    Hypothesis: where the book stands above the oracle for hours the crowd pays to be long, and it
    goes on paying for a while; who takes the other side is paid every hour for a risk of the price
    that goes either way.

    carry = the lower of the rate that the hour comes to and its mean, summed over `horizon_h` while
    it halves every `fades_h`; enters where it exceeds `edge` (at least two) times the round trip,
    and leaves where what is to come is no more than `exit_edge` times, or the price has moved
    against it by `stop`.

    Must not trade: before `warm_up_s` of rates; where the rate has just turned; where the book does
    not fill its size; while entries are stopped. Costs: two taker's fees and both sides of the
    book, walked for its size. The price's own walk is not hedged: over a day it is as large as what
    is earned, so that many days, or markets, make the mean.
    """

    name: ClassVar[str] = "carry"
    signals: ClassVar[tuple[str, ...]] = ("funding",)

    def __init__(self, settings: CarrySettings | None = None) -> None:
        super().__init__(settings or CarrySettings())

    def _watch(self) -> _Rate:
        return _Rate()

    def _judge(self, market: _Rate, scored: Scored) -> None:
        # The venue's figure is neither padded nor clamped: what is charged may be far less.
        outlook = funding_outlook(scored.view)
        if outlook is None:
            return
        rate = market.rate = outlook.rate_1h
        if not market.seen_since:
            market.seen_since, market.mean = scored.at, rate
        else:
            spent = max(scored.at - market.at, 0) / 1e9
            market.mean = rate + (market.mean - rate) * 0.5 ** (spent / self.settings.usual_s)
        market.at = scored.at

    def _carry_bps(self, market: _Rate) -> float:
        """Return what a short is expected to be paid over the horizon, in bps of it."""
        rate, mean, settings = market.rate, market.mean, self.settings
        if rate * mean <= 0.0:
            return 0.0
        keeps: float = 0.5 ** (1.0 / settings.fades_h)
        hours: float = keeps * (1.0 - keeps**settings.horizon_h) / (1.0 - keeps)
        return math.copysign(min(abs(rate), abs(mean)), rate) * hours * 1e4

    def _enter(self, market: _Rate, scored: Scored, usdc: float) -> Decision | str:
        settings = self.settings
        seen = (scored.at - market.seen_since) / 1e9 if market.seen_since else 0.0
        if seen < settings.warm_up_s:
            return f"{seen:.0f} s of funding rates < {settings.warm_up_s:g} s"
        carry = self._carry_bps(market)
        cost = _round_trip_bps(scored.view.book, usdc, settings.taker_fee_ppm)
        if cost is None:
            return "the book does not hold as much"
        words = f"{abs(carry):.1f} bps of carry in {settings.horizon_h:g} h, {cost:.1f} to trade it"
        if abs(carry) <= settings.edge * cost:
            return f"{words}: not more than {settings.edge:g} times"
        payer = "longs pay" if carry > 0 else "shorts pay"
        return Decision.of(scored, float(round(-math.copysign(usdc, carry))), f"{payer}: {words}")

    def _stay(self, market: _Rate, scored: Scored, held: Held) -> Decision | str:
        settings, mid = self.settings, _mid(scored)
        side = math.copysign(1.0, held.usdc)
        carry = -side * self._carry_bps(market)
        cost = _round_trip_bps(scored.view.book, abs(held.usdc), settings.taker_fee_ppm) or 0.0
        lost = (held.entry_price - mid) / mid * side
        if carry <= settings.exit_edge * cost:
            why = f"{carry:.1f} bps of carry to come: no more than {settings.exit_edge:g} times"
            return self._leave(market, scored, settings.rest_s, f"{why} {cost:.1f}")
        if lost > settings.stop:
            why = f"the price is {lost:.1%} against it > {settings.stop:.1%}"
            return self._leave(market, scored, settings.rest_s, why)
        return f"{carry:.1f} bps of carry to come in {settings.horizon_h:g} h"


# === Pairs ===
# Trades what one market is worth in another: both legs, or none.


class PairsSettings(_ReturnSettings):
    """Which pairs, how far apart is far, how fast they must have come back, and what ends it."""

    pairs: tuple[tuple[str, str], ...] = Field(
        default=(("BTC-USD", "ETH-USD"),), min_length=1, description="what is held against what"
    )
    leg_share: float = Field(default=0.4, gt=0, description="each leg, in equities")
    taker_fee_ppm: int = Field(default=500, ge=0, description="what taking costs")
    look_s: float = Field(default=1.0, gt=0, description="time between two looks at a pair")
    mean_s: float = Field(default=900.0, gt=0, description="half-life of the usual ratio")
    usual_s: float = Field(default=3_600.0, gt=0, description="half-life of what is usual")
    half_life_s: float = Field(
        default=240.0, gt=0, description="a ratio that has taken longer to come back half does not"
    )
    holding_s: float = Field(default=400.0, gt=0, description="longest it waits")
    leg_s: float = Field(
        default=15.0, gt=0, description="time for both legs to fill, and to be sure both are gone"
    )
    uneven_share: float = Field(
        default=0.25, gt=0, lt=1, description="most by which one leg may be smaller than the other"
    )
    rest_s: float = Field(default=240.0, ge=0, description="time without an entry after a failure")
    report_s: float = Field(
        default=60.0, gt=0, description="silence after which a hold gives the reason"
    )

    @property
    def fixed(self) -> Mapping[str, object]:
        """Return the pairs: what is held of one is of no other."""
        return {"pairs": self.pairs}

    @field_validator("pairs")
    @classmethod
    def _apart(cls, pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        tickers = [ticker for pair in pairs for ticker in pair]
        if len({*tickers}) < len(tickers):
            raise ValueError(f"expected each market in one pair and once, got {pairs}")
        return pairs


_Phase = Literal["flat", "opening", "open", "closing"]


class _Leg:
    """One leg of a pair, as its market was when the pair was last looked at."""

    __slots__ = ("cost_bps", "mid", "ticker", "trouble", "usdc")

    def __init__(self, ticker: str) -> None:
        self.ticker = ticker
        self.mid: float | None = None
        self.cost_bps: float | None = None
        self.trouble = f"nothing is known of {ticker} yet"
        self.usdc = 0.0  # held

    def look(self, scored: Scored | None, size_usdc: float, fee_ppm: int) -> None:
        if scored is None:
            return
        view = scored.view
        found = stopping(view, "entry", scored.at)
        self.mid = view.book.mid_price
        self.trouble = f"{self.ticker}: {found[0].why}" if found else ""
        self.cost_bps = _round_trip_bps(view.book, size_usdc, fee_ppm)


class _Pair:
    """Two markets, what one is worth in the other, and what is held of them."""

    def __init__(self, tickers: tuple[str, str], settings: PairsSettings) -> None:
        self.first, self.second = _Leg(tickers[0]), _Leg(tickers[1])
        self.back = _Return(settings.usual_s)
        self.phase: _Phase = "flat"
        self.due = self.since = self.rests_until = 0
        self.quiet_since: int | None = None
        self.entered_bps = 0.0
        self.failed = ""
        self._mean: float | None = None
        self._mean_at = 0
        self.rate = _fading(settings.mean_s)

    @property
    def legs(self) -> tuple[_Leg, _Leg]:
        return self.first, self.second

    @property
    def name(self) -> str:
        return f"{self.first.ticker} in {self.second.ticker}"

    @property
    def trouble(self) -> str:
        return self.first.trouble or self.second.trouble

    @property
    def cost_bps(self) -> float | None:
        one, other = self.first.cost_bps, self.second.cost_bps
        return None if one is None or other is None else one + other

    def enter(self, phase: _Phase, at: int) -> None:
        self.phase, self.since = phase, at
        self.quiet_since = None

    def sample(self, at: int) -> None:
        """Take in what one is worth in the other now."""
        one, other = self.first.mid, self.second.mid
        if one is None or other is None:
            return
        log = math.log(one / other)
        if self._mean is None:
            self._mean = log
        else:
            decay = math.exp(max(at - self._mean_at, 0) / 1e9 * self.rate)
            self._mean = log + (self._mean - log) * decay
        self._mean_at = at
        self.back.sample(log - self._mean, at)

    def is_even(self, most: float) -> bool:
        """Return whether both legs are held, against each other and nearly alike."""
        one, other = self.first.usdc, self.second.usdc
        return one * other < 0 and min(abs(one), abs(other)) >= (1 - most) * max(
            abs(one), abs(other)
        )


class Pairs:
    """Hold one market against another when what it is worth in the other is far from usual.

    Hypothesis: markets that follow the same news drift apart when one is bought in a hurry, and
    come back to each other within minutes. What both do together is held against itself, so that
    only the difference is risked.

    x = ln(one / other) less its mean of `mean_s`, z = x / its usual size; enters against x, both
    legs of the same value, by the conditions of `Reversion`, with the costs of both legs. Both legs
    or none: a leg that is denied, does not fill within `leg_s`, or is cut, ends the other.

        flat ──► opening ──► open ──► closing ──► flat, when nothing is held for `leg_s`
                    └── a leg is missing ──►┘

    Must not trade: before `warm_up_s`; while either market stops entries; where ratios do not come
    back in time; after a failure, for `rest_s`. Costs: four taker's fees and both books, walked for
    the legs' size. A leg alone is the risk that no table shows: it lasts `leg_s` at most, and as
    long as its market takes no order.
    """

    name: ClassVar[str] = "pairs"
    signals: ClassVar[tuple[str, ...]] = ()

    def __init__(self, settings: PairsSettings | None = None) -> None:
        self.settings = settings or PairsSettings()
        self._pairs: dict[str, _Pair] = {}
        for tickers in self.settings.pairs:
            self._pairs |= dict.fromkeys(tickers, _Pair(tickers, self.settings))
        self._phases: dict[_Phase, Callable[[_Pair, Scored, Holdings], list[Decision] | str]] = {
            "flat": self._flat, "opening": self._opening, "open": self._open,
            "closing": self._closing,
        }  # fmt: skip
        self._reported_at = 0

    @property
    def pace(self) -> Pace:
        """Return how often it may add risk."""
        return self.settings

    @property
    def hedges(self) -> tuple[tuple[str, str], ...]:
        """Return the markets that it holds against each other."""
        return self.settings.pairs

    def rests_until(self, view: MarketView) -> int:
        """Return when it looks next at the pair of a market; never at one that is of none."""
        pair = self._pairs.get(view.ticker)
        return _FOREVER_NS if pair is None else pair.due

    def step(self, scored: Scored, held: Holdings) -> Iterable[Decision]:
        """Look at both legs of a pair when it is time."""
        pair, settings = self._pairs.get(scored.ticker), self.settings
        if pair is None or scored.at < pair.due:
            return ()
        pair.due = scored.at + _ns(settings.look_s)
        size, markets = settings.leg_share * (held.equity_usdc or 0.0), scored.markets
        for leg in pair.legs:
            leg.look(markets.get(leg.ticker), size, settings.taker_fee_ppm)
            leg.usdc = held.usdc(leg.ticker)
        if not pair.trouble:
            pair.sample(scored.at)
        decided = self._phases[pair.phase](pair, scored, held)
        return self._report(scored, held, decided) if isinstance(decided, str) else decided

    def change(self, settings: PairsSettings) -> None:
        """Go on by other settings of the same pairs; what was seen fades by them from here on."""
        self.settings.refuse(settings)
        self.settings = settings
        for pair in self._pairs.values():
            pair.rate, pair.back.rate = _fading(settings.mean_s), _fading(settings.usual_s)

    def learn(self, outcome: Outcome) -> None:
        """Take in that a leg has failed, or was cut: the other cannot stay."""
        pair = self._pairs.get(outcome.ticker)
        if pair is None:
            return
        failed = pair.phase == "opening" and outcome.kind in ("denied", "expired")
        if failed or (pair.phase in ("opening", "open") and outcome.kind == "cut"):
            pair.failed = f"{outcome.ticker} was {outcome.kind} {outcome.reason}".rstrip()

    def _flat(self, pair: _Pair, scored: Scored, held: Holdings) -> list[Decision] | str:
        settings = self.settings
        if pair.first.usdc or pair.second.usdc:
            return self._found(pair, scored)
        if pair.trouble:
            return f"not judged: {pair.trouble}"
        if scored.at < pair.rests_until:
            return f"it rests for {(pair.rests_until - scored.at) / 1e9:.0f} s more"
        if not held.equity_usdc or held.equity_usdc < 0:
            return "the account's equity is not known, or none is left"
        seen = (scored.at - pair.back.since) / 1e9 if pair.back.since else 0.0
        if seen < settings.warm_up_s or not pair.back.deviation:
            return f"{seen:.0f} s of {pair.name} < {settings.warm_up_s:g} s"
        far = _far(
            pair.back, settings.enter, settings.half_life_s, settings.holding_s, pair.cost_bps,
            settings.edge,
        )  # fmt: skip
        if not far.met:
            return f"{pair.name}: {far.words}"
        pair.enter("opening", scored.at)
        pair.failed, pair.entered_bps = "", abs(pair.back.x) * 1e4
        usdc = float(round(settings.leg_share * held.equity_usdc))
        first = -math.copysign(usdc, pair.back.x)
        return [
            _of_leg(scored, leg, target, f"{pair.name}: {far.words}", "both legs or none")
            for leg, target in zip(pair.legs, (first, -first), strict=True)
        ]

    def _found(self, pair: _Pair, scored: Scored) -> list[Decision] | str:
        if not pair.is_even(self.settings.uneven_share):
            return self._close(pair, scored, "a leg alone was found")
        pair.enter("open", scored.at)
        pair.failed, pair.entered_bps = "", max(abs(pair.back.x) * 1e4, 1.0)
        return f"{pair.name}: both legs were found, and are adopted"

    def _opening(self, pair: _Pair, scored: Scored, held: Holdings) -> list[Decision] | str:
        if pair.failed:
            return self._close(pair, scored, pair.failed)
        usdc = self.settings.leg_share * (held.equity_usdc or 0.0)
        whole = all(abs(leg.usdc) >= (1 - self.settings.uneven_share) * usdc for leg in pair.legs)
        if whole and pair.is_even(self.settings.uneven_share):
            pair.enter("open", scored.at)
            return f"{pair.name}: both legs are held"
        if scored.at - pair.since > _ns(self.settings.leg_s):
            lacking = min(pair.legs, key=lambda leg: abs(leg.usdc))
            why = f"{lacking.ticker} is held with {lacking.usdc:+,.0f} USDC after"
            return self._close(pair, scored, f"{why} {self.settings.leg_s:g} s")
        return f"{pair.name}: both legs are on their way"

    def _open(self, pair: _Pair, scored: Scored, held: Holdings) -> list[Decision] | str:
        settings, spent = self.settings, (scored.at - pair.since) / 1e9
        if pair.failed:
            return self._close(pair, scored, pair.failed)
        if not pair.is_even(settings.uneven_share):
            return self._close(pair, scored, "one leg is no longer what the other is")
        if pair.trouble:
            return self._close(pair, scored, pair.trouble)
        away = -pair.back.x * math.copysign(1e4, pair.first.usdc)
        entered = pair.entered_bps
        if away <= settings.exit_share * entered:
            return self._close(pair, scored, f"back: {away:.1f} of {entered:.1f} bps are left", 0.0)
        if away >= settings.stop_share * entered:
            return self._close(pair, scored, f"it went on: {away:.1f} bps, {entered:.1f} at first")
        if spent >= settings.holding_s:
            why = f"{away:.1f} of {entered:.1f} bps are left after {spent:.0f} s"
            return self._close(pair, scored, why)
        return f"{pair.name}: {away:.1f} of {entered:.1f} bps to go"

    def _close(
        self, pair: _Pair, scored: Scored, why: str, rest_s: float | None = None
    ) -> list[Decision]:
        rest = self.settings.rest_s if rest_s is None else rest_s
        pair.enter("closing", scored.at)
        pair.rests_until, pair.failed = scored.at + _ns(rest), why
        return self._leaving(pair, scored)

    def _closing(self, pair: _Pair, scored: Scored, held: Holdings) -> list[Decision] | str:
        if pair.first.usdc or pair.second.usdc:
            pair.quiet_since = None
            return self._leaving(pair, scored)
        # What is on its way may still fill.
        if pair.quiet_since is None:
            pair.quiet_since = scored.at
        if scored.at - pair.quiet_since >= _ns(self.settings.leg_s):
            pair.enter("flat", scored.at)
        return f"{pair.name}: both legs are gone"

    def _leaving(self, pair: _Pair, scored: Scored) -> list[Decision]:
        return [
            _of_leg(scored, leg, 0.0, f"{pair.name}: {pair.failed}")
            for leg in pair.legs
            if leg.usdc
        ]

    def _report(self, scored: Scored, held: Holdings, why: str) -> Iterable[Decision]:
        if scored.at - self._reported_at < _ns(self.settings.report_s):
            return ()
        first, self._reported_at = not self._reported_at, scored.at
        return () if first else (_holding(scored, held, why),)


def _of_leg(scored: Scored, leg: _Leg, target: float, *reasons: str) -> Decision:
    decision = Decision.of(scored, target, *reasons, urgency=0.5 if target else _PRESSING)
    return msgspec.structs.replace(decision, ticker=leg.ticker)


# === Belief ===
# What counts as a decision: every field of its type, every figure within its bounds, and an intent
# that somebody can mean. Whose it is, is said by whoever asks.


class _NoDecisionError(Exception):
    """What was got in the place of a decision."""


def _walks(made: Iterable[Decision]) -> bool:
    if made == ():
        return False
    if made is None:
        raise _NoDecisionError("None (return () to decide nothing)")
    if not isinstance(made, Iterable):
        raise _NoDecisionError(f"{_kind(made)}")
    return True


def _believed(decision: Decision) -> Decision:
    """Return a decision whose every field has its type and whose every figure its bounds."""
    if not isinstance(decision, Decision):
        raise _NoDecisionError(f"{_kind(decision)}")
    if decision.action not in get_args(Action):
        action = f"{decision.action!r}, neither 'target' nor 'hold'"
        raise _NoDecisionError(f"one whose action is {action}")
    try:
        believed = msgspec.convert(msgspec.structs.asdict(decision), Decision)
    except msgspec.ValidationError as error:
        raise _NoDecisionError(f"one with a wrong field: {error}") from error
    for name in ("target_usdc", "previous_usdc", "urgency", "score"):
        figure = getattr(believed, name)
        # Written so that NaN is refused, too.
        if not abs(figure) <= _LARGEST:
            raise _NoDecisionError(f"one whose {name} is {figure:g}, beyond ±{_LARGEST:g}")
    if wrong := _contradiction(believed):
        raise _NoDecisionError(f"one whose {wrong}")
    return believed


# The figures of an intent: what each may be at most, which entries need it, which may have it.
_INTENT: Final[dict[str, tuple[float, tuple[Entry, ...], tuple[Entry, ...]]]] = {
    "entry_offset_bps": (_FARTHEST_BPS, (), ("make",)),
    "patience_s": (_LONGEST_S, ("make", "stop"), ("make", "stop")),
    "trigger_price": (_LARGEST, ("stop",), ("stop",)),
    "stop_loss": (_LARGEST, (), get_args(Entry)),
    "take_profit": (_LARGEST, (), get_args(Entry)),
}


def _contradiction(decision: Decision) -> str:
    """Return what of an intent nobody can mean, wherever the market stands; empty if nothing is."""
    for name, (most, needing, having) in _INTENT.items():
        figure, entry = getattr(decision, name), decision.entry
        if not 0.0 <= figure <= most:  # refuses NaN, too
            return f"{name} is {figure:g}, not within 0 and {most:g}"
        if entry in needing and not figure:
            return f"{name} is 0, although its entry is {entry!r}"
        if figure and entry not in having:
            return f"{name} is {figure:g}, although its entry is {entry!r}"
    return _disorder(decision)


def _disorder(decision: Decision) -> str:
    """Return which two prices stand the wrong way round for a target; empty if none do."""
    names = ("stop_loss", "trigger_price", "take_profit")
    side = "long" if decision.target_usdc > 0 else "short"
    prices = [(name, price) for name in names if (price := getattr(decision, name))]
    if not decision.target_usdc:  # nothing to leave
        return ""
    for (low, below), (high, above) in pairwise(prices if side == "long" else prices[::-1]):
        if below >= above:
            return f"{low} is {below:g}, not below {high} {above:g}, for a {side}"
    return ""


def _kind(thing: object) -> str:
    return "nothing" if thing is None else f"a {type(thing).__name__}"


# === Shares ===
# Whole numbers shared out so that they add up again, and what each strategy has come to by them.


def share_out(total: int, parts: Sequence[int]) -> list[int]:
    """Share a whole number out in proportion to parts, so that the shares add up to it exactly.

    No share is off by a whole one. A part below 0 is of the other sign, as a short's funding is a
    long's the other way round; parts that add up to 0 are refused with `ValueError`.

    >>> share_out(10, [1, 1, 1]), share_out(-7, [3, 0, 1]), share_out(10, [3, -1])
    ([3, 4, 3], [-5, 0, -2], [15, -5])
    """
    whole = sum(parts)  # integers
    if not whole:
        raise ValueError(f"expected parts that do not add up to 0, got {[*parts]}")
    # Rounded as they add up: what is lost of one is had by the next.
    upto = ((2 * total * so_far + whole) // (2 * whole) for so_far in accumulate(parts, initial=0))
    return [there - here for here, there in pairwise(upto)]


class Stake(msgspec.Struct, kw_only=True):
    """What one strategy has of one market: whole quantums and quote quantums.

    `cash` is what selling brought less what buying took, `fees` what was paid for both, `funding`
    what holding brought; `entry` is at what a quantum that it has was entered, in quote quantums.
    """

    quantums: int = 0
    cash: int = 0
    fees: int = 0
    funding: int = 0
    entry: float = 0.0

    @property
    def paid(self) -> int:
        """Return what it brought in all, without what it still has."""
        return self.cash - self.fees + self.funding

    def add(self, quantums: int, cash: int, fees: int) -> None:
        """Take a share of a fill."""
        before, self.quantums = self.quantums, self.quantums + quantums
        self.cash += cash
        self.fees += fees
        if before * quantums > 0:
            self.entry = (abs(before) * self.entry + abs(cash)) / abs(self.quantums)
        elif quantums and before * self.quantums <= 0:  # from nothing, to it, or to the other side
            self.entry = abs(cash / quantums) if self.quantums else 0.0

    def merge(self, other: Self) -> None:
        """Take over all that another has come to."""
        self.entry = self.entry if self.quantums else other.entry
        self.quantums += other.quantums
        self.cash += other.cash
        self.fees += other.fees
        self.funding += other.funding


class StakesLeft(msgspec.Struct, frozen=True, kw_only=True):
    """What one of several strategies leaves for the next run: its stakes, its best, its rest."""

    stakes: dict[str, Stake] = {}
    best_usdc: float = 0.0
    rests_until: int = 0
    state: str = "trades"


class _Lot(msgspec.Struct):
    """A market's grid and newest price, to turn USDC into quantums and back."""

    price: float
    unit: float  # base units of a quantum

    def quantums(self, usdc: float) -> int:
        return int(usdc / (self.price * self.unit))

    def usdc(self, quantums: int) -> float:
        return quantums * self.unit * self.price


# === Allocation ===
# What several strategies want, scaled, bounded and netted to one target a market: pure arithmetic
# of shares of the equity.


class Allocation(BaseModel):
    """One strategy of several: which, how much of the account, where, and by which settings."""

    # Its validator is built when the first is made, not at import.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    use: str = Field(description="the strategy's name, or a .py file")
    name: str = Field(default="", description="what it is called here, if not by its name")
    weight: float = Field(default=1.0, gt=0, description="its part of the account, among the parts")
    markets: tuple[str, ...] = Field(default=(), description="where it may trade; all without any")
    settings: dict[str, Any] = Field(default_factory=dict, description="its own settings")

    @property
    def title(self) -> str:
        """Return what it is called here."""
        return self.name or Path(self.use).stem


class AllocatorSettings(Pace):
    """The strategies, and the limits of what they want together, in equities."""

    strategies: tuple[Allocation, ...] = Field(min_length=1, description="who trades the account")
    gross_share: float = Field(default=1.0, gt=0, description="all exposure together")
    net_share: float = Field(default=0.8, gt=0, description="longs less shorts")
    market_share: float = Field(default=0.4, gt=0, description="one market")
    cluster_share: float = Field(default=0.6, gt=0, description="longs less shorts of a cluster")
    cluster_correlation: float = Field(
        default=0.7, gt=0, lt=1, description="markets that correlate so much are one cluster"
    )
    least_share: float = Field(default=0.005, ge=0, description="least that is worth holding")
    volatility_1h: float = Field(
        default=0.01, gt=0, description="deviation of an hour that a strategy may have, of its part"
    )
    unknown_1h: float = Field(
        default=0.01,
        gt=0,
        description="deviation of an hour of a market that was not seen for long",
    )
    half_life_s: float = Field(default=3_600.0, gt=0, description="of variances and correlations")
    sample_s: float = Field(
        default=30.0, gt=0, description="length of the returns they are made of"
    )
    shrink: float = Field(
        default=0.3, ge=0, le=1, description="how far a correlation is drawn to the mean of all"
    )
    drawdown_share: float = Field(
        default=0.05, gt=0, lt=1, description="loss from its best at which a strategy is closed"
    )
    drawdown_rest_s: float = Field(
        default=86_400.0, ge=0, description="how long it rests then, before it begins from there"
    )
    look_s: float = Field(default=5.0, gt=0, description="time between two looks at the losses")

    @property
    def fixed(self) -> Mapping[str, object]:
        """Return who trades which markets, and the length of returns that were seen already."""
        who = [(one.use, one.title, one.markets) for one in self.strategies]
        return {"strategies and their markets": who, "sample_s": self.sample_s}

    @property
    def shares(self) -> list[tuple[Allocation, float]]:
        """Return each strategy with its part of the account."""
        whole = math.fsum(one.weight for one in self.strategies)
        return [(one, one.weight / whole) for one in self.strategies]

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        titles = [one.title for one in self.strategies]
        if len({*titles}) < len(titles):
            raise ValueError(f"expected a name for each of two that use the same, got {titles}")
        return self


_SEEN: Final = 10  # returns before a variance, or a correlation, is believed


class _Risks:
    """How much markets move, and how much together: averages of their returns by half-life.

    A correlation is drawn by `shrink` to the mean of all that are known. One that is not known yet
    counts against whoever asks: 1 where two exposures add, so that nothing hides behind a hedge.
    """

    def __init__(self, settings: AllocatorSettings) -> None:
        self.change(settings)
        self._due = 0
        self._logs: dict[str, float] = {}
        self._products: dict[tuple[str, str], list[float]] = {}  # sum, weight, count
        self.watched: set[str] = set()  # markets whose correlations matter

    def change(self, settings: AllocatorSettings) -> None:
        """Go on by other settings; what was seen fades by them from here on."""
        self._settings = settings
        self._keeps = 0.5 ** (settings.sample_s / settings.half_life_s)

    def sample(self, scored: Scored) -> None:
        """Take all markets' returns in, when it is time."""
        if scored.at < self._due:
            return
        self._due = scored.at + _ns(self._settings.sample_s)
        logs = {}
        for ticker, other in scored.markets.items():
            mid = other.view.book.mid_price
            if mid is not None:
                logs[ticker] = math.log(mid)
        steps = {t: log - self._logs[t] for t, log in logs.items() if t in self._logs}
        self._logs = logs
        watched = sorted(steps.keys() & self.watched)
        for one, step in steps.items():
            self._add(one, one, step * step)
        for number, one in enumerate(watched):
            for other_ in watched[number + 1 :]:
                self._add(one, other_, steps[one] * steps[other_])

    def _add(self, one: str, other: str, product: float) -> None:
        sums = self._products.setdefault((one, other), [0.0, 0.0, 0.0])
        sums[0] = sums[0] * self._keeps + product
        sums[1] = sums[1] * self._keeps + 1.0
        sums[2] += 1.0

    def _mean(self, one: str, other: str) -> float | None:
        sums = self._products.get((one, other) if one <= other else (other, one))
        return None if sums is None or sums[2] < _SEEN else sums[0] / sums[1]

    def deviation_1h(self, ticker: str) -> float:
        """Return the deviation of an hour's return, as a fraction."""
        variance = self._mean(ticker, ticker)
        if variance is None:
            return self._settings.unknown_1h
        return math.sqrt(variance * 3_600.0 / self._settings.sample_s)

    def raw(self, one: str, other: str) -> float | None:
        """Return a correlation as it was seen; None if it is not known."""
        both, first, second = (
            self._mean(*pair) for pair in ((one, other), (one, one), (other, other))
        )
        if both is None or not first or not second:
            return None
        return min(max(both / math.sqrt(first * second), -1.0), 1.0)

    def correlations(self, tickers: Sequence[str]) -> dict[tuple[str, str], float | None]:
        """Return the correlation of each two markets, drawn to their mean; None if unknown."""
        pairs = [(one, other) for n, one in enumerate(tickers) for other in tickers[n + 1 :]]
        seen = {pair: self.raw(*pair) for pair in pairs}
        known = [value for value in seen.values() if value is not None]
        mean, shrink = math.fsum(known) / len(known) if known else 0.0, self._settings.shrink
        return {
            pair: None if value is None else value + shrink * (mean - value)
            for pair, value in seen.items()
        }

    def deviation_usdc(self, exposures: Mapping[str, float]) -> float:
        """Return the deviation of an hour of signed exposures, in USDC."""
        tickers = sorted(ticker for ticker, usdc in exposures.items() if usdc)
        at_risk = {t: exposures[t] * self.deviation_1h(t) for t in tickers}
        variance = math.fsum(x * x for x in at_risk.values())
        for (one, other), rho in self.correlations(tickers).items():
            product = at_risk[one] * at_risk[other]
            variance += 2.0 * (abs(product) if rho is None else rho * product)
        return math.sqrt(max(variance, 0.0))

    def clusters(self, tickers: Iterable[str]) -> list[set[str]]:
        """Return the markets that move together, in groups."""
        groups: list[set[str]] = [{ticker} for ticker in sorted(tickers)]
        least = self._settings.cluster_correlation
        for pair, rho in self.correlations(sorted(tickers)).items():
            if rho is None or rho >= least:
                one, other = (next(g for g in groups if ticker in g) for ticker in pair)
                if one is not other:
                    groups.remove(other)
                    one |= other
        return groups


# By strategy: markets that it wants against each other, and whose targets are cut alike.
_Hedges = Mapping[str, Collection[Collection[str]]]
_EXACT: Final = 1.0 + 1e-9  # of a limit, beyond what rounding does


def allocate(
    wants: Mapping[str, Mapping[str, float]],
    parts: Mapping[str, float],
    equity: float,
    risks: _Risks,
    settings: AllocatorSettings,
    hedges: _Hedges,
) -> tuple[dict[str, dict[str, float]], dict[str, list[str]]]:
    """Scale and bound what strategies want, in USDC by market; return it, and why by market.

    Each strategy is scaled as a whole to the deviation of an hour that its part of the account
    allows. Then what all want of a market, of a cluster of markets, net and gross is brought within
    its limit, by as much for each of them, and with it the other legs of their hedges: no leg is
    ever cut alone. No share is above 1, and none turns a side.
    """
    words: dict[str, list[str]] = {ticker: [] for want in wants.values() for ticker in want}
    made = {title: dict(want) for title, want in wants.items()}
    least = settings.least_share * equity
    for ticker in words:
        left = _net(_netted(made, (ticker,)))
        if 0.0 < left < least:
            cut = f"cut to nothing: {left:,.0f} USDC < {least:,.0f}, not worth a fee"
            _scale(made, (ticker,), 0.0, hedges, cut, words)
    for title, targets in made.items():
        deviation, most = risks.deviation_usdc(targets), settings.volatility_1h * parts[title]
        if deviation > most:
            share, risk = most / deviation, f"±{deviation:,.0f} USDC an hour > {most:,.0f}"
            cut = f"{title} cut to {share:.0%}: {risk}"
            _scale({title: targets}, targets, share, hedges, cut, words)
    bounds = [*_bounds(words, risks, equity, settings)]
    # A leg that was cut with another may have stood against what somebody else wants: then all that
    # is left is scaled, by which every figure shrinks alike.
    for together in (False, True):
        for what, tickers, limit, figure in bounds:
            amount = figure(_netted(made, tickers))
            if amount > limit * _EXACT:
                cut = f"cut to {limit / amount:.0%}: {what} {amount:,.0f} > {limit:,.0f}"
                within = words if together else tickers
                _scale(made, within, limit / amount, hedges, cut, words)
    return made, words


def _scale(
    made: Mapping[str, dict[str, float]], tickers: Collection[str], share: float,
    hedges: _Hedges, cut: str, words: Mapping[str, list[str]],
) -> None:  # fmt: skip
    """Scale what each wants of some markets, the other legs alike; say so for each market."""
    scaled = dict[str, None]()
    for title, targets in made.items():
        mine = dict.fromkeys(ticker for ticker in tickers if targets.get(ticker))
        for legs in hedges.get(title, ()):
            if any(leg in mine for leg in legs):
                mine |= dict.fromkeys(leg for leg in legs if leg in targets)
        for ticker in mine:
            targets[ticker] *= share
        scaled |= mine
    for ticker in scaled:
        words[ticker].append(cut)


_Bound = tuple[str, Collection[str], float, Callable[[Iterable[float]], float]]


def _bounds(
    tickers: Collection[str], risks: _Risks, equity: float, settings: AllocatorSettings
) -> Iterator[_Bound]:
    """Yield each limit: what it is of, its markets, how much, and of which figure of them."""
    for ticker in tickers:
        yield ticker, (ticker,), settings.market_share * equity, _net
    for group in risks.clusters(tickers):
        if len(group) > 1:
            yield f"cluster of {len(group)}", group, settings.cluster_share * equity, _net
    yield "net", tickers, settings.net_share * equity, _net
    yield "gross", tickers, settings.gross_share * equity, _gross


def _net(exposures: Iterable[float]) -> float:
    return abs(math.fsum(exposures))


def _gross(exposures: Iterable[float]) -> float:
    return math.fsum(map(abs, exposures))


def _netted(made: Mapping[str, Mapping[str, float]], tickers: Iterable[str]) -> list[float]:
    return [math.fsum(targets.get(t, 0.0) for targets in made.values()) for t in tickers]


# === Children ===
# One strategy of several: it decides as if its share were the account; what it holds and earned is
# counted beside it.


class StrategyResult(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What one of several strategies has come to: `pnl_usdc` is after fees and funding, as of now.

    `stakes` are whole quantums and quote quantums by market: those of all strategies, and of
    nobody, add up to the account's fills and funding. `state` says whether it trades, or why not,
    `share` is its part of the account, `decided` its newest decision by market and `cuts` why it
    was allowed less than it wants there.
    """

    title: str
    state: str
    share: float
    pnl_usdc: float
    best_usdc: float
    stakes: Mapping[str, Stake]
    wants: Mapping[str, float]
    allocated: Mapping[str, float]
    decided: Mapping[str, Decision]
    cuts: Mapping[str, tuple[str, ...]]


# What nothing came of by then was never sent: it had to wait, and the moment is gone.
_SENT_S: Final = 15.0


class _Child:
    """One of the strategies: what it wants, what it was allowed, and what it has."""

    def __init__(self, allocation: Allocation, strategy: Strategy, share: float) -> None:
        self.title, self.strategy, self.share = allocation.title, strategy, share
        self.markets = frozenset(allocation.markets)
        self.hedges: Collection[Collection[str]] = getattr(strategy, "hedges", ())
        for leg in (leg for legs in self.hedges for leg in legs if not self.may(leg)):
            raise StrategyError(
                f"expected {self.title} to trade all its legs, got {leg} beside its markets "
                f"({', '.join(allocation.markets)})"
            )
        self.wants: dict[str, float] = {}
        self.allocated: dict[str, float] = {}
        self.desired: dict[str, int] = {}
        self.stakes: dict[str, Stake] = {}
        self.decided: dict[str, Decision] = {}
        self.holds: dict[str, Decision] = {}
        self.best = 0.0
        self.rests_until = 0
        self.state = "trades"
        self._seen: tuple[Holdings, Holdings] | None = None

    def change(self, was: Allocation, now: Allocation, share: float) -> None:
        """Have another part of the account, and other settings where they are others."""
        if was.settings != now.settings:
            strategy: Any = self.strategy
            strategy.change(_validated(type(strategy.settings), now.settings, self.title))
        self.share = share
        self.touch()

    def may(self, ticker: str) -> bool:
        return not self.markets or ticker in self.markets

    def decides(self, scored: Scored, held: Holdings) -> list[Decision]:
        """Return what it decides, checked as if it were alone, and about its markets only."""
        if scored.at < self.rests_until or not self.may(scored.ticker):
            return []
        try:
            made = self.strategy.step(scored, held)
            decided = [_believed(decision) for decision in made] if _walks(made) else []
            for decision in decided:
                if not self.may(decision.ticker):
                    raise _NoDecisionError(f"one about {decision.ticker}, no market of its own")
        except _NoDecisionError as error:
            raise _NoDecisionError(f"{error}, from {self.title}") from error
        return decided

    def stake(self, ticker: str) -> Stake:
        return self.stakes.setdefault(ticker, Stake())

    def lacks(self, ticker: str) -> int:
        """Return what it wants of a market beside what it has, signed quantums."""
        stake = self.stakes.get(ticker)
        return self.desired.get(ticker, 0) - (0 if stake is None else stake.quantums)

    def want(self, decision: Decision) -> None:
        self.wants[decision.ticker] = decision.target_usdc
        self.decided[decision.ticker] = decision

    @property
    def newest(self) -> dict[str, Decision]:
        """Return what it decided last by market, whatever it was."""
        held = {t: d for t, d in self.holds.items() if t not in self.decided}
        wanted = self.decided.items()
        return held | {t: max(self.holds.get(t, d), d, key=lambda d: d.seq) for t, d in wanted}

    def allow(self, allocated: Mapping[str, float], lots: Mapping[str, _Lot], same: float) -> None:
        """Take in what it may have; a size that is nearly the same stays the same."""
        for ticker, usdc in allocated.items():
            before = self.allocated.get(ticker)
            if before is None or not _same(usdc, before, same):
                self.allocated[ticker] = usdc
                self.desired[ticker] = lots[ticker].quantums(usdc)
        self.touch()

    def is_in(self, ticker: str) -> bool:
        """Return whether it has something of a market, or is to have."""
        return bool(self.desired.get(ticker) or self.stake(ticker).quantums)

    def awaits(self, ticker: str, at: int) -> bool:
        """Return whether what it wants more of a market may still be on its way."""
        decided, adds = self.decided.get(ticker), self.lacks(ticker) * self.desired.get(ticker, 0)
        if decided is None or adds <= 0:
            return True
        return at - decided.at < _ns(_SENT_S + 1.5 * decided.patience_s)

    def give_up(self, ticker: str, lots: Mapping[str, _Lot]) -> None:
        """Want no more than there is: what it wanted has failed."""
        stake, lot = self.stakes.get(ticker), lots.get(ticker)
        held = 0 if stake is None else stake.quantums
        ratio = self._ratio(ticker)
        self.desired[ticker] = held
        self.allocated[ticker] = 0.0 if lot is None else lot.usdc(held)
        self.wants[ticker] = self.allocated[ticker] * ratio

    def touch(self) -> None:
        self._seen = None

    def sees(self, held: Holdings, lots: Mapping[str, _Lot]) -> Holdings:
        """Return what it has, as if that were the account and all that it wants were allowed."""
        if self._seen is None or self._seen[0] is not held:
            self._seen = held, self._holdings(held, lots)
        return self._seen[1]

    def _holdings(self, held: Holdings, lots: Mapping[str, _Lot]) -> Holdings:
        positions = {}
        for ticker, stake in self.stakes.items():
            lot = lots.get(ticker)
            if not stake.quantums or lot is None:
                continue
            quantums = stake.quantums * self._ratio(ticker)
            account = held.positions.get(ticker)
            positions[ticker] = Held(
                ticker=ticker, size=Decimal(quantums * lot.unit),
                usdc=quantums * lot.unit * lot.price,
                entry_price=stake.entry / 1e6 / lot.unit,
                seq=0 if account is None else account.seq, at=0 if account is None else account.at,
            )  # fmt: skip
        equity = held.equity_usdc
        share = None if equity is None else equity * self.share
        return Holdings(positions, share, held.closed)

    def _ratio(self, ticker: str) -> float:
        wanted, allowed = self.wants.get(ticker, 0.0), self.allocated.get(ticker, 0.0)
        return wanted / allowed if wanted * allowed > 0.0 else 1.0

    @property
    def left(self) -> StakesLeft:
        stakes = {t: msgspec.structs.replace(stake) for t, stake in self.stakes.items()}
        return StakesLeft(
            stakes=stakes, best_usdc=self.best, rests_until=self.rests_until, state=self.state
        )

    def recall(self, left: StakesLeft) -> None:
        self.best, self.rests_until, self.state = left.best_usdc, left.rests_until, left.state
        for ticker, stake in left.stakes.items():
            self.take_over(ticker, stake)

    def take_over(self, ticker: str, stake: Stake) -> None:
        self.stake(ticker).merge(stake)
        self.desired[ticker] = self.stake(ticker).quantums

    def pnl_usdc(self, lots: Mapping[str, _Lot]) -> float:
        # At the start of a run what was held before is worth its entry until a price is known.
        worth = (
            lots[t].usdc(stake.quantums) if t in lots else stake.quantums * stake.entry / 1e6
            for t, stake in self.stakes.items() if stake.quantums
        )  # fmt: skip
        paid = sum(stake.paid for stake in self.stakes.values())  # integers
        return paid / 1e6 + math.fsum(worth)

    def result(self, lots: Mapping[str, _Lot], cuts: Mapping[str, Sequence[str]]) -> StrategyResult:
        # Its own cuts, and those of all that want a market.
        own = ("cut to ", f"{self.title} cut to ")
        why = {
            ticker: tuple(
                word.removeprefix(f"{self.title} ") for word in row if word.startswith(own)
            )
            for ticker, row in cuts.items()
            if ticker in self.wants
        }
        return StrategyResult(
            title=self.title, state=self.state, share=self.share, pnl_usdc=self.pnl_usdc(lots),
            best_usdc=self.best, stakes=self.stakes, wants=self.wants, allocated=self.allocated,
            decided=self.newest, cuts=why,
        )  # fmt: skip


def _lot_of(scored: Scored | None) -> _Lot | None:
    view = None if scored is None else scored.view
    if view is None or view.market is None or view.oracle is None:
        return None
    return _Lot(view.oracle.price, 10.0**view.market.atomic_resolution)


def _close(stakes: Sequence[Stake], rest: int, lot: _Lot) -> int:
    """Close in proportion what went while no run was there; return what of `rest` is left."""
    parts = [stake.quantums for stake in stakes]
    held = sum(parts)  # integers
    if rest * held >= 0:
        return rest
    closed = max(rest, -held) if rest < 0 else min(rest, -held)
    for stake, share in zip(stakes, share_out(closed, parts), strict=True):
        stake.add(share, -round(lot.usdc(share) * 1e6), 0)
    return rest - closed


# === Allocator ===
# Several strategies on one account: each decides as if its share were the account, and what they
# want is scaled, bounded and netted to one target a market. It has no opinion of a market.


class Allocator:
    """Several strategies on one account, each with a part of it by its weight.

    Each sees its part of the equity and what it has itself, and decides as if there were nothing
    else. What they want is scaled and bounded (`allocate`), and netted to one target a market: what
    one wants to buy and another to sell changes hands between them at the middle of the book, the
    rest is decided on. A fill is shared out in proportion to what each still wanted of its side, or
    had wanted where it comes late; a cut, in proportion to what each has; a funding payment, to
    that and its side: whole quantums, quote quantums and fees, which add up (`share_out`). A
    strategy that loses `drawdown_share` of its part from its best is closed, and rests. What a run
    before has left (`recall`) is whose it was; what was closed since was of all in proportion, and
    what is found beside it belongs to the first strategy that trades the market.

    What stands on the venue is of all that is held: one alone leaves by its own prices; of several,
    the farthest stop of the larger side stands, and no profit is taken there. What fails, or has
    not been sent in time, is wanted no more until its strategy decides again.
    """

    name: ClassVar[str] = "allocator"

    def __init__(self, settings: AllocatorSettings, strategies: Sequence[Strategy]) -> None:
        self.settings = settings
        self._children = [
            _Child(allocation, strategy, share)
            for (allocation, share), strategy in zip(settings.shares, strategies, strict=True)
        ]
        names = (getattr(one, "signals", ()) for one in strategies)
        self.signals = tuple(sorted({name for row in names for name in row}))
        self.nobody: dict[str, Stake] = {}
        self._cuts: Mapping[str, Sequence[str]] = {}
        self._risks = _Risks(settings)
        self._lots: dict[str, _Lot] = {}
        self._held: Holdings | None = None
        # What the account had when it was first known, and is nobody's yet for want of a price.
        self._found: dict[str, Held] | None = None
        self._left: set[str] = set()  # the markets of stakes that are still to be compared with it
        self._wanted: dict[str, list[int]] = {}  # what each lacked when it was last decided
        self._open: dict[str, set[str]] = {}  # decisions whose orders may still fill
        self._due = 0

    @property
    def pace(self) -> Pace:
        """Return how often it may add risk."""
        return self.settings

    @property
    def strategies(self) -> tuple[Strategy, ...]:
        """Return who trades, in the order of the settings and of `results`."""
        return tuple(child.strategy for child in self._children)

    @property
    def left(self) -> dict[str, StakesLeft]:
        """Return by title what each strategy leaves for a next run; "" is nobody's."""
        nobody = {t: msgspec.structs.replace(stake) for t, stake in self.nobody.items()}
        return {"": StakesLeft(stakes=nobody)} | {one.title: one.left for one in self._children}

    def recall(self, left: Mapping[str, StakesLeft]) -> None:
        """Go on, before the first score, with what strategies have left in an earlier run.

        What one has left that trades no more belongs to the first that trades its market.
        """
        children = {child.title: child for child in self._children}
        for title, one in left.items():
            self._left |= {ticker for ticker, stake in one.stakes.items() if stake.quantums}
            if title in children:
                children[title].recall(one)
                continue
            for ticker, stake in one.stakes.items():
                owner = self._owner(ticker) if title else None
                if owner is None:
                    self.nobody.setdefault(ticker, Stake()).merge(stake)
                else:
                    owner.take_over(ticker, stake)

    def step(self, scored: Scored, held: Holdings) -> Iterable[Decision]:
        """Let each strategy take the scores; allocate where any of them decides."""
        self._risks.sample(scored)
        if held is not self._held or self._found or self._left:
            self._take(scored, held)
        moved: set[str] = set()
        holds: list[Decision] = []
        for child in self._children:
            for decision in child.decides(scored, child.sees(held, self._lots)):
                if decision.action == "hold":
                    child.holds[decision.ticker] = decision
                    holds.append(_titled(child, decision))
                else:
                    child.want(decision)
                    moved.add(decision.ticker)
        if scored.at >= self._due:
            self._due = scored.at + _ns(self.settings.look_s)
            self._expire(scored.at)
            moved |= self._losses(scored, held)
        return [*holds, *self._allocated(scored, held, moved)] if moved else holds

    def change(self, settings: AllocatorSettings) -> None:
        """Go on by other settings, shares and settings of the same strategies in their markets."""
        _change_all(self._children, self.settings, settings)
        self._risks.change(settings)
        self.settings = settings

    def learn(self, outcome: Outcome) -> None:
        """Share out what was filled or paid; let those who wanted it learn what became of it."""
        ticker = outcome.ticker
        still = self._open.setdefault(ticker, set())
        (still.add if outcome.open_usdc else still.discard)(outcome.decision)
        mine = [child for child in self._children if child.lacks(ticker)]
        # What closes without a decision, a cut or a bracket, is whose it closes.
        closed = outcome.kind == "cut" or (outcome.kind == "filled" and bool(outcome.reason))
        if closed or outcome.kind == "funding":
            mine = [child for child in self._children if child.stake(ticker).quantums]
        if outcome.kind == "funding":
            self._pay(ticker, outcome.cash)
        elif outcome.quantums:
            self._share(outcome, closed)
        for child in mine:
            if closed or outcome.kind in ("denied", "expired"):
                child.give_up(ticker, self._lots)
            child.touch()
            if (learn := getattr(child.strategy, "learn", None)) is not None:
                learn(outcome)

    def results(self) -> tuple[StrategyResult, ...]:
        """Return what each strategy has come to."""
        return tuple(child.result(self._lots, self._cuts) for child in self._children)

    def _take(self, scored: Scored, held: Holdings) -> None:
        """Take in what the account holds; what it had when first known is somebody's, too."""
        self._held = held
        if self._found is None and held.equity_usdc is not None:
            self._found = dict(held.positions)
        for ticker in {*held, *self._lots, *self._left}:
            self._price(scored, ticker)
        if self._found is not None:
            waiting = dict.fromkeys((*self._found, *sorted(self._left)))
            for ticker in [ticker for ticker in waiting if ticker in self._lots]:
                self._left.discard(ticker)
                self._adopt(ticker, self._found.pop(ticker, None))

    def _adopt(self, ticker: str, found: Held | None) -> None:
        """Let the stakes in a market add up to what the account was found to have of it."""
        lot = self._lots[ticker]
        owners = [child for child in self._children if ticker in child.stakes]
        stakes = [child.stakes[ticker] for child in owners]
        stakes += [self.nobody[ticker]] if ticker in self.nobody else []
        quantums = 0 if found is None else round(float(found.size) / lot.unit)
        held = sum(stake.quantums for stake in stakes)  # integers
        rest = _close(stakes, quantums - held, lot)
        if rest and found is not None:
            cash = -round(float(found.size) * (rest / quantums) * found.entry_price * 1e6)
            owner = self._owner(ticker)
            taken = (
                self.nobody.setdefault(ticker, Stake()) if owner is None else owner.stake(ticker)
            )
            taken.add(rest, cash, 0)
            owners += [] if owner is None else [owner]
        for child in owners:
            child.give_up(ticker, self._lots)
            child.touch()

    def _owner(self, ticker: str) -> _Child | None:
        return next((child for child in self._children if child.may(ticker)), None)

    def _price(self, scored: Scored, ticker: str) -> bool:
        """Take in a market's price; return whether it is known by now."""
        if (lot := _lot_of(scored.markets.get(ticker))) is not None:
            self._lots[ticker] = lot
        return ticker in self._lots

    def _losses(self, scored: Scored, held: Holdings) -> set[str]:
        """Close the strategies that have lost too much; return the markets that they are in."""
        for ticker in self._lots:
            self._price(scored, ticker)
        moved: set[str] = set()
        for child in self._children:
            pnl = child.pnl_usdc(self._lots)
            if child.state != "trades" and scored.at >= child.rests_until:
                child.state, child.best = "trades", pnl
            child.best = max(child.best, pnl)
            lost, most = child.best - pnl, self.settings.drawdown_share * child.share
            most *= held.equity_usdc or 0.0
            if child.state == "trades" and held.equity_usdc and lost > most:
                rest = self.settings.drawdown_rest_s
                child.rests_until = scored.at + _ns(rest)
                child.state = f"rests: {lost:,.2f} USDC below its best > {most:,.2f}"
                child.wants = dict.fromkeys(child.wants, 0.0)
                moved |= child.wants.keys()
            elif child.state != "trades":
                # Nobody decides for it: what could not be closed is closed when it can be.
                stays = {t for t, one in child.stakes.items() if one.quantums and not self._sent(t)}
                child.wants |= dict.fromkeys(stays, 0.0)
                moved |= stays
        return moved

    def _sent(self, ticker: str) -> bool:
        return bool(self._open.get(ticker))

    def _expire(self, at: int) -> None:
        """Let go of what was to be added and never sent: later it would be another's trade."""
        for child in self._children:
            for ticker in child.desired:
                if not (child.awaits(ticker, at) or self._sent(ticker)):
                    child.give_up(ticker, self._lots)
                    child.touch()

    def _allocated(self, scored: Scored, held: Holdings, moved: set[str]) -> Iterator[Decision]:
        children, same = self._children, self.settings.same_share
        known = {t for child in children for t in child.wants if self._price(scored, t)}
        self._risks.watched |= known
        equity = max(held.equity_usdc or 0.0, 0.0)
        wants = {c.title: {t: x for t, x in c.wants.items() if t in known} for c in children}
        parts = {child.title: child.share * equity for child in children}
        hedges = {child.title: child.hedges for child in children}
        made, words = allocate(wants, parts, equity, self._risks, self.settings, hedges)
        self._cuts = words
        before = {ticker: self._desired(ticker) for ticker in known}
        for child in children:
            child.allow(made[child.title], self._lots, same)
        for ticker in sorted(known):
            desired = self._desired(ticker)
            if ticker in moved or not _same(desired, before[ticker], same):
                self._cross(ticker)
                yield self._decided(scored, ticker, words[ticker])

    def _desired(self, ticker: str) -> int:
        return sum(child.desired.get(ticker, 0) for child in self._children)  # integers

    def _cross(self, ticker: str) -> None:
        """Let what one wants to buy and another to sell change hands between them."""
        lacking = [child.lacks(ticker) for child in self._children]
        buys, sells = [max(n, 0) for n in lacking], [max(-n, 0) for n in lacking]
        crossed = min(sum(buys), sum(sells))  # integers
        if not crossed:
            return
        lot = self._lots[ticker]
        cash = round(lot.usdc(crossed) * 1e6)
        for sign, parts in ((1, buys), (-1, sells)):
            shares = zip(share_out(crossed, parts), share_out(cash, parts), strict=True)
            for child, (quantums, paid) in zip(self._children, shares, strict=True):
                if quantums or paid:
                    child.stake(ticker).add(sign * quantums, -sign * paid, 0)
                    child.touch()

    def _share(self, outcome: Outcome, closed: bool) -> None:
        ticker, quantums = outcome.ticker, outcome.quantums
        sign = 1 if quantums > 0 else -1
        wanted = [child.lacks(ticker) for child in self._children]
        held = [-child.stake(ticker).quantums for child in self._children]
        # What is filled after it was given up is of those that it was decided for.
        rows = (held,) if closed else (wanted, self._wanted.get(ticker, wanted), held)
        sides = ([max(sign * n, 0) for n in row] for row in rows)
        parts = next((side for side in sides if any(side)), None)
        if parts is None:
            stake = self.nobody.setdefault(ticker, Stake())
            stake.add(quantums, outcome.cash, outcome.fee)
            return
        shares = (share_out(whole, parts) for whole in (quantums, outcome.cash, outcome.fee))
        late = not closed and not any(max(sign * n, 0) for n in wanted)
        for child, row in zip(self._children, zip(*shares, strict=True), strict=True):
            if any(row):
                child.stake(ticker).add(*row)
                if late:
                    child.give_up(ticker, self._lots)
                child.touch()

    def _pay(self, ticker: str, cash: int) -> None:
        """Share a funding payment out by what each has, a short the other way round."""
        stakes = [child.stake(ticker) for child in self._children]
        stakes.append(self.nobody.setdefault(ticker, Stake()))
        parts = [stake.quantums for stake in stakes]
        whole = sum(parts)  # integers
        shares = share_out(cash, parts) if whole else [*(0 for _ in parts[1:]), cash]
        for stake, share in zip(stakes, shares, strict=True):
            stake.funding += share

    def _decided(self, scored: Scored, ticker: str, cuts: Sequence[str]) -> Decision:
        """Net what all want of a market into one decision."""
        self._wanted[ticker] = [child.lacks(ticker) for child in self._children]
        movers = [child for child in self._children if child.lacks(ticker)]
        decided = [
            child.decided[ticker]
            for child in movers
            if ticker in child.decided and child.state == "trades"
        ]
        reasons = [why for child in movers for why in _why(child, ticker)]
        target = self._lots[ticker].usdc(self._desired(ticker))
        urgency = max((one.urgency for one in decided), default=_PRESSING)
        if len(decided) == len(movers) == 1 and decided[0].target_usdc * target > 0.0:
            # One alone may enter in its own way.
            made = msgspec.structs.replace(
                decided[0], seq=scored.seq, at=scored.at, target_usdc=target,
                reasons=(*reasons, *decided[0].reasons[1:], *cuts),
            )  # fmt: skip
        else:
            made = Decision.of(scored, target, *reasons, *cuts, urgency=urgency)
        return _leaving(self._children, msgspec.structs.replace(made, ticker=ticker))


def _leaving(children: Sequence[_Child], made: Decision) -> Decision:
    """Set where all that is held of a market is left by itself, whoever moves in it."""
    inside = [child for child in children if child.is_in(made.ticker)]
    sides = [child.decided[made.ticker] for child in inside if made.ticker in child.decided]
    sides = [one for one in sides if one.target_usdc * made.target_usdc > 0.0]
    stops = [one.stop_loss for one in sides if one.stop_loss]
    farthest = min if made.target_usdc > 0.0 else max
    made = msgspec.structs.replace(
        made, stop_loss=farthest(stops, default=_NONE),
        take_profit=sides[0].take_profit if len(inside) == len(sides) == 1 else _NONE,
    )  # fmt: skip
    # Another's stop need not fit one's own trigger: its own watch leaves, then.
    return msgspec.structs.replace(made, stop_loss=_NONE) if _disorder(made) else made


def _change_all(children: Sequence[_Child], was: AllocatorSettings, now: AllocatorSettings) -> None:
    """Give each its part and its settings by others of the allocator, or none of them."""
    was.refuse(now)
    rows = [*zip(children, was.shares, now.shares, strict=True)]
    for number, (child, old, new) in enumerate(rows):
        try:
            child.change(old[0], *new)
        except StrategyError:
            for other, before, after in rows[:number]:
                other.change(after[0], *before)
            raise


def _why(child: _Child, ticker: str) -> tuple[str, ...]:
    """Return what one of several wants of a market, in its words; nothing if it has none."""
    decided = child.decided.get(ticker)
    if decided is None or child.state != "trades":
        return (f"{child.title} {child.state}",)
    wants = f"{child.title} {child.wants[ticker]:+,.0f}"
    return (": ".join((wants, *decided.reasons[:1])),)


def _titled(child: _Child, decision: Decision) -> Decision:
    reasons = ": ".join((child.title, *decision.reasons[:1])), *decision.reasons[1:]
    return msgspec.structs.replace(decision, reasons=reasons)


# === Loading ===
# Strategies by name, from a user's file or a module. A file is run here, with all rights of this
# process; what is not a strategy is refused with a sentence, before the first frame.

# What a user's file may raise without ending the bot; Ctrl-C is the person's and not among it.
_ITS_OWN: Final = (Exception, SystemExit)

STRATEGIES: Final[dict[str, Callable[[], Strategy]]] = {
    "rank": RankAndTarget,
    "sniper": Sniper,
    "reversion": Reversion,
    "carry": Carry,
    "pairs": Pairs,
}


# The settings that each takes, for whoever chooses them.
SETTINGS: Final[dict[str, tuple[type[BaseModel], Callable[[Any], Strategy]]]] = {
    "rank": (RankSettings, RankAndTarget),
    "sniper": (SniperSettings, Sniper),
    "reversion": (ReversionSettings, Reversion),
    "carry": (CarrySettings, Carry),
    "pairs": (PairsSettings, Pairs),
}


def load_strategy(
    path_or_name: str | Path, signals: Collection[str] = _SIGNALS
) -> Callable[[], Strategy]:
    """Find what makes a strategy: by its name, in a `.py` file, or in an importable module.

    A `.toml` or `.json` file lists several for one account, by the fields of `AllocatorSettings`.

    A file or module must define `strategy()`, which returns a new strategy each time it is
    called. It is run here, with all rights of this process. `StrategyError` names what
    was expected and what it got, also of a file that raises or leaves by `sys.exit()`, and of one
    that reads something else than the `signals` of the run.
    """
    name = str(path_or_name)
    if name.startswith("~/"):  # in a list of several, which no shell passes on
        name = str(Path(name).expanduser())
    if name in STRATEGIES:
        return STRATEGIES[name]
    if name.endswith(_LISTS):
        return load_allocator(_read_list(Path(name)), signals)
    module = run_file(Path(name), "strategy") if _is_file_name(name) else _from_module(name)
    make = getattr(module, "strategy", None)
    if not callable(make):
        raise StrategyError(f"expected {name} to define strategy(), got {_kind(make)}")
    _read(_checked(make, name), name, signals)
    return lambda: _checked(make, name)


# Files that list several strategies, with their weights and settings.
_LISTS: Final = (".json", ".toml")


def load_allocator(
    fields: AllocatorSettings | Mapping[str, Any], signals: Collection[str] = _SIGNALS
) -> Callable[[], Allocator]:
    """Find what makes several strategies on one account, by the fields of `AllocatorSettings`.

    `StrategyError` names each field that is wrong, what was expected of it and what it was.
    """
    settings = _validated(AllocatorSettings, fields, "the allocator")
    makers = [_maker(one, signals) for one in settings.strategies]
    Allocator(settings, [make() for make in makers])  # which refuses a leg that it may not trade
    return lambda: Allocator(settings, [make() for make in makers])


def _maker(allocation: Allocation, signals: Collection[str]) -> Callable[[], Strategy]:
    if not allocation.settings:
        return load_strategy(allocation.use, signals)
    if allocation.use not in SETTINGS:
        raise StrategyError(
            f"expected settings of a built-in strategy ({', '.join(SETTINGS)}), "
            f"got some of {allocation.use}"
        )
    kind, make = SETTINGS[allocation.use]
    settings = _validated(kind, allocation.settings, allocation.title)
    return lambda: make(settings)


def _read_list(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        fields = tomllib.loads(text) if path.suffix == ".toml" else msgspec.json.decode(text)
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise StrategyError(f"expected a list of strategies in {path}, got {error}") from error
    if not isinstance(fields, dict):
        raise StrategyError(f"expected a table with strategies in {path}, got {_kind(fields)}")
    return fields


def _is_file_name(name: str) -> bool:
    return name.endswith(".py") or "/" in name or "\\" in name


def run_file(path: Path, defines: str) -> ModuleType:
    """Run a user's Python file, which is to define such a function, and return it as a module.

    It has all rights of this process. `StrategyError` for a file that is none, or that raises.
    """
    if not path.is_file():
        raise StrategyError(f"expected a Python file with {defines}(), got no file {path}")
    name = f"{defines}_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise StrategyError(f"expected {defines}() in a file ending in .py, got {path}")
    module = importlib.util.module_from_spec(spec)
    # Classes look their annotations up under the name of their module.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except _ITS_OWN as error:
        del sys.modules[name]
        raise StrategyError(f"expected {path} to run, got {_raised(error)}") from error
    return module


def _from_module(name: str) -> ModuleType:
    names, near = ", ".join(STRATEGIES), _nearest(name, STRATEGIES)
    expected = f"expected a strategy ({names}), a .py file or a module, got {name!r}{near}"
    if not all(part.isidentifier() for part in name.split(".")):
        raise StrategyError(expected)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise StrategyError(f"{expected} ({error})") from error
    except _ITS_OWN as error:
        raise StrategyError(f"expected {name} to import, got {_raised(error)}") from error


def _checked(make: Callable[[], object], name: str) -> Strategy:
    try:
        made = make()
    except _ITS_OWN as error:
        raise StrategyError(
            f"expected strategy() of {name} to return a strategy, got {_raised(error)}"
        ) from error
    if not isinstance(made, Strategy) or not callable(made.step):
        raise StrategyError(
            f"expected strategy() of {name} to return an object with a name and "
            f"step(scored, held), got {_kind(made)}"
        )
    _takes_two(made.step, name)
    return made


def _read(strategy: Strategy, name: str, signals: Collection[str]) -> None:
    """Refuse a strategy that names a signal which is not scored: it would wait for it for ever."""
    names = getattr(strategy, "signals", ())
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise StrategyError(f"expected {name} to list its signals, got {_kind(names)}")
    for signal in names:
        if signal not in signals:
            known, near = ", ".join(signals), _nearest(str(signal), signals)
            raise StrategyError(f"expected {name} to read signals ({known}), got {signal!r}{near}")


def _takes_two(step: Callable[..., object], name: str) -> None:
    try:
        signature = inspect.signature(step)
        signature.bind(None, None)
    except ValueError:  # one without a signature, as C functions are
        return
    except TypeError:
        raise StrategyError(
            f"expected step(scored, held) in {name}, got step{signature}: the second argument is "
            f"what the account holds, held.usdc(ticker) its signed value in a market"
        ) from None


def _raised(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")


# === Deciding ===
# A strategy, built in or a user's own, and what is done with whatever it decides: it is
# checked, paced and numbered. Nothing here has an opinion of a market.

_Event = Scored | Holdings | Outcome | BaseModel


class Decider:
    """A strategy whose decisions are checked, paced and numbered: what `decisions` folds into.

    What shrinks a position passes at once where its market takes orders, and what is on its way
    already is not sent twice. What adds risk keeps the strategy's `Pace`. A turn to the other side
    is two decisions: a close, at once, and the far side when nothing is held and nothing is on its
    way, unless the strategy has decided something else by then or the close has failed. The first
    target to be dropped becomes a "hold" with the reason, and the next to pass has the number of
    those dropped.

    A strategy of a user's own that raises, leaves by `sys.exit()` or decides nonsense ends in
    `StrategyError`, with what it raised as the cause. What a built-in one raises is a bug.
    """

    def __init__(self, strategy: Callable[[], Strategy] = RankAndTarget) -> None:
        self.strategy = strategy()
        _takes_two(self.strategy.step, self.strategy.name)
        self._ours = type(self.strategy) in STRATEGIES.values()
        self._resting: Callable[[MarketView], int] = getattr(
            self.strategy, "rests_until", _always_due
        )
        self._pacing = _Pacing(_pace_of(self.strategy))
        self._holdings = Holdings()
        self._dropped: dict[str, int] = {}
        self._now: Scored | None = None
        # The turns whose near side is on its way, as they were decided last.
        self._turns: dict[str, Decision] = {}
        # Where what is held is left, as it was decided last.
        self._leaves: dict[str, tuple[float, float]] = {}
        self._count = 0

    def rests_until(self, view: MarketView) -> int:
        """Return until when scores of a market change nothing here, 0 if those of a view may.

        What it returns for a view that brings no trades holds for all such views of its market
        until something else is learned, or decided.
        """
        if self._turns or not self._ours:
            return 0
        return self._resting(view)

    def step(self, event: _Event) -> list[Decision]:
        """Take in scores, what is held, or an outcome; return decisions "D1", "D2", ….

        Or other settings: it goes on by them, at their pace; `StrategyError` if it cannot.
        """
        if not isinstance(event, Scored):
            # Its own class is looked at first: of a model each look is a call in Python.
            self._change(event) if isinstance(event, BaseModel) else self._learn(event)
            return []
        self._now = event
        try:
            made = self.strategy.step(event, self._holdings)
            # A strategy may be a generator, which raises only while it is walked.
            decided = [_believed(decision) for decision in made] if _walks(made) else []
        except _ITS_OWN as error:
            self._blame(error)
            raise
        if self._turns:
            decided += self._far_sides(event, {decision.ticker for decision in decided})
        return [*self._paced(decided)] if decided else decided

    def _change(self, settings: BaseModel) -> None:
        change = getattr(self.strategy, "change", None)
        if change is None:
            what = f"a strategy that takes other settings while it runs, got {self.strategy.name}"
            raise StrategyError(f"expected {what}: restart for it")
        change(settings)
        self._pacing.pace = _pace_of(self.strategy)

    def _learn(self, event: Holdings | Outcome) -> None:
        if isinstance(event, Holdings):
            self._holdings = event
            self._pacing.heed(event)
            return
        self._pacing.learn(event)
        if event.kind in ("denied", "expired", "cut"):
            self._turns.pop(event.ticker, None)
        if (learn := getattr(self.strategy, "learn", None)) is None:
            return
        try:
            learn(event)
        except _ITS_OWN as error:
            self._blame(error)
            raise

    def _blame(self, error: BaseException) -> None:
        # A user's strategy that goes wrong is an error of the input; a built-in one, a bug.
        if isinstance(error, _NoDecisionError):
            raise StrategyError(self._expected(str(error))) from error
        if not (self._ours or isinstance(error, StrategyError)):
            raise StrategyError(self._expected(_raised_at(error))) from error

    def _paced(self, decided: Iterable[Decision]) -> Iterator[Decision]:
        for decision in decided:
            held = self._holdings.usdc(decision.ticker)
            if decision.action == "hold":
                yield self._numbered(decision, held, held, decision.reasons)
                continue
            target, wait = self._passing(decision, held)
            dropped = self._dropped.get(decision.ticker, 0)
            if target is not None:
                yield self._requested(decision, held, target, wait, dropped)
            else:
                self._dropped[decision.ticker] = dropped + 1
                if not dropped:
                    hold = msgspec.structs.replace(decision, action="hold")
                    yield self._numbered(hold, held, held, (wait, *decision.reasons))

    def _far_sides(self, scored: Scored, decided: Collection[str]) -> Iterator[Decision]:
        """Yield the far sides of turns that are due, and that nothing else was decided about."""
        for ticker, turn in [*self._turns.items()]:
            if ticker in decided or self._holdings.usdc(ticker) or self._pacing.open_usdc(ticker):
                continue
            reasons = *turn.reasons, "the other side of a turn: what was held is closed"
            yield msgspec.structs.replace(turn, seq=scored.seq, at=scored.at, reasons=reasons)

    def _passing(self, decision: Decision, held: float) -> tuple[float | None, str]:
        """Return the target that may pass now, None if none may, and what has to wait."""
        pacing, ticker, target = self._pacing, decision.ticker, decision.target_usdc
        turn = self._turns.pop(ticker, None)
        if target * held < 0 or abs(target) < abs(held):
            market = None if self._now is None else self._now.markets.get(ticker)
            if market is not None and (stops := stopping(market.view, "exit")):
                return None, f"cannot be closed: {stops[0].why}"
            if target * held < 0:
                return self._turning(decision, held, turn)
            under_way = pacing.under_way(ticker, held, target)
            return (None, under_way) if under_way else (target, "")
        if target == held or pacing.pace.same(target, held):
            return self._staying(decision, held)
        if not held and turn is not None and turn.target_usdc * target > 0:
            wait = pacing.wait_to_turn(ticker, decision.at)
        else:
            wait = pacing.wait(ticker, target, decision.at)
        return (None, wait) if wait else (target, "")

    def _staying(self, decision: Decision, held: float) -> tuple[float | None, str]:
        """Return what is held as the target, if an entry is to be taken back or brackets moved."""
        ticker = decision.ticker
        if self._pacing.rests(ticker):
            return held, "what waits for its price is taken back"
        if not held or self._leaves.get(ticker, (0.0, 0.0)) == _leaves(decision):
            return None, "nothing is held" if not held else f"{held:+,.0f} USDC are held already"
        wait = self._pacing.wait_to_move(ticker, decision.at)
        return (None, wait) if wait else (held, "")

    def _turning(
        self, decision: Decision, held: float, turn: Decision | None
    ) -> tuple[float | None, str]:
        """Return the near side of a turn if it may pass; note the far side if it may follow."""
        ticker, follows = decision.ticker, "the other side follows when what is held is closed"
        wait = self._pacing.wait(ticker, decision.target_usdc, decision.at)
        if turn is not None or not wait:
            self._turns[ticker] = decision
            wait = follows
        else:
            wait = f"the other side waits: {wait}"
        under_way = self._pacing.under_way(ticker, held, 0.0)
        return (None, under_way) if under_way else (0.0, f"closes first, {wait}")

    def _requested(
        self, decision: Decision, held: float, target: float, wait: str, dropped: int
    ) -> Decision:
        reasons = decision.reasons
        if wait:
            reasons += (wait,)
        elif abs(target) > abs(held):
            reasons += self._pacing.retries(decision.ticker, decision.at)
        if dropped > 1:
            reasons += (f"{dropped} targets were dropped since the last that passed",)
        self._dropped.pop(decision.ticker, None)
        if decision.target_usdc and not target:  # a turn is no decision to leave at any price
            urgency = min(decision.urgency, _PRESSING)
            decision = msgspec.structs.replace(decision, urgency=urgency)
        made = self._numbered(decision, held, target, reasons)
        self._pacing.request(made)
        self._leaves[made.ticker] = _leaves(made)
        return made

    def _numbered(
        self, decision: Decision, held: float, target: float, reasons: tuple[str, ...]
    ) -> Decision:
        self._count += 1
        return msgspec.structs.replace(
            decision, id=f"D{self._count}", target_usdc=target, previous_usdc=held, reasons=reasons
        )

    def _expected(self, got: str) -> str:
        return f"expected {self.strategy.name} to decide with Decisions, got {got}"


def _always_due(_: MarketView) -> int:
    return 0


def _leaves(decision: Decision) -> tuple[float, float]:
    return decision.stop_loss, decision.take_profit


def _pace_of(strategy: Strategy) -> Pace:
    pace = getattr(strategy, "pace", None)
    if pace is not None and not isinstance(pace, Pace):
        raise StrategyError(f"expected the pace of {strategy.name} to be a Pace, got {_kind(pace)}")
    return pace or Pace()


def _raised_at(error: BaseException) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{_raised(error)} at {Path(where.filename).name}:{where.lineno}"


# === Streams ===
# The operator, one line around `Decider`: no subscription, no scheduler, no state of its own; and
# what a `Pace` is made of, for whoever has decisions of another kind. Time is the events' own.


def decisions(
    strategy: Callable[[], Strategy] | None = None,
) -> Callable[[Observable[_Event]], Observable[Decision]]:
    """Decide over all markets of a stream; `strategy` makes one per subscription.

    Scores (S) are decided on, with what is held (H) as it came last; here a target (T) is denied,
    as its outcome (O) reports, and the next scores bring a hold (D) with that reason. Without a
    strategy it is `RankAndTarget` with its default `RankSettings`. Hot or cold as the source is,
    replays nothing, runs on the source's thread, completes and errors with it, and ends with what
    `Decider` raises.

        events     -H-S-S-O-S-|
        decisions  ---T-----D-|
    """
    make = strategy or RankAndTarget
    return fold(lambda: Decider(make), Decider.step)


_Passing = Callable[[Observable[Decision]], Observable[Decision]]


def throttle(seconds: float) -> _Passing:
    """Let a market's target pass if the last one that passed is so many seconds old, or more.

    Time is that of the decisions. What adds no risk always passes: a hold, and a target of less
    than is held (`previous_usdc`) on its side. Every strategy's `Pace` does this by default. Hot
    or cold as the source is, replays nothing, runs on the source's thread, completes and errors
    with it. A target too soon after the first (a), an exit (x), a target in time:

        decisions  -a-b--x---d-|
        throttle   -a----x---d-|
    """
    return _passing(lambda last, new: not _too_soon(last.at, new.at, seconds))


def debounce(seconds: float, share: float = Pace().same_share) -> _Passing:
    """Let a market's target pass unless the last one that passed said the same a moment ago.

    The same is within a `share` of each other; `seconds` later it is news again. Beside that it is
    as `throttle` is. The target again (a), another one (b):

        decisions  -a-a-b-b--|
        debounce   -a---b----|
    """
    return _passing(
        lambda last, new: (
            not _no_news((last.target_usdc, last.at), new.target_usdc, new.at, seconds, share)
        )
    )


def distinct_targets(share: float = Pace().same_share) -> _Passing:
    """Let a market's target pass if it is another than the last that passed, however long ago.

    And another than what is held by then. The same is within a `share` of each other; beside that
    it is as `throttle` is. The target again (a), another one (b):

        decisions         -a-a-b-a--|
        distinct_targets  -a---b-a--|
    """

    def is_other(last: Decision, new: Decision) -> bool:
        target = new.target_usdc
        return not any(
            _same(target, other, share) for other in (last.target_usdc, new.previous_usdc)
        )

    return _passing(is_other)


def _passing(passes: Callable[[Decision, Decision], bool]) -> _Passing:
    """Let a target that adds risk pass by the last that passed in its market; all else passes."""

    def step(last: dict[str, Decision], new: Decision) -> tuple[Decision, ...]:
        if new.action == "hold":
            return (new,)
        before = last.get(new.ticker)
        if before is not None and _adds(new) and not passes(before, new):
            return ()
        last[new.ticker] = new
        return (new,)

    return fold(dict, step)


def _adds(decision: Decision) -> bool:
    target, held = decision.target_usdc, decision.previous_usdc
    return decision.action == "target" and (target * held < 0 or abs(target) > abs(held))
