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
    Rank and target   RankAndTarget ("rank") and Sniper ("sniper")
    Loading           STRATEGIES, load_strategy: by name, from a file or from a module
    Deciding          Decider: checks, paces and numbers what any strategy decides
    Streams           decisions: the operator around it

A "target" is the signed exposure wanted in one market (USDC, + long, - short), to be judged by
the layer above; a "hold" wants nothing. Both carry reasons in plain words with their figures, and
the scores they came from.

Units: `_usdc` in USDC as float (an opinion, not money), `_share` of the present equity or of what
its text names, scores 0 to 100, `_s` seconds of event time. Nothing here knows margin or orders,
reads a clock or draws a number; only `load_strategy` reads a file. The same events in the same
order give the same decisions.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import (
    Any,
    ClassVar,
    Final,
    Literal,
    Protocol,
    Self,
    get_args,
    runtime_checkable,
)

import msgspec
from dydx_conn import fold
from dydx_data import MarketView, stopping
from dydx_signals import Score, Scored
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
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
    # Rank and target
    "RankAndTarget", "Sniper",
    # Loading
    "STRATEGIES", "load_strategy",
    # Deciding
    "Decider",
    # Streams
    "decisions",
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

Action = Literal["target", "hold"]
Entry = Literal["take", "make", "stop"]
OutcomeKind = Literal["approved", "denied", "filled", "cut", "expired"]
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

    >>> Holdings().usdc("BTC-USD"), Holdings().equity_usdc
    (0.0, None)
    """

    positions: Mapping[str, Held] = field(default_factory=dict)
    equity_usdc: float | None = None

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

    `usdc` is signed, + bought: what an approved order is for, what a fill or a cut traded, what
    an expired order left unfilled. `open_usdc` is what may still be filled of the decision's
    order. `reason` is a denial's or a cut's in one word, or the bracket's that filled (STOP_LOSS or
    TAKE_PROFIT: then `decision` is the one that set it), `why` is in a sentence.
    """

    decision: str
    ticker: str
    kind: OutcomeKind
    seq: int
    at: int
    usdc: float = 0.0
    open_usdc: float = 0.0
    reason: str = ""
    why: str = ""


@runtime_checkable
class Strategy(Protocol):
    """Anything with a name that turns scores into decisions; its state is its own.

    A method `learn(outcome)` is optional: it takes what became of each decision, an `Outcome`.
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

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

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

    def same(self, target: float, other: float) -> bool:
        """Return whether two targets are near enough to count as one."""
        return math.isclose(target, other, rel_tol=self.same_share, abs_tol=0.0)


class _Pacing:
    """What was requested of each market and what became of it: what has to wait, and why."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self._markets: dict[str, _Requests] = {}
        self._cut: Outcome | None = None

    def request(self, decision: Decision) -> None:
        """Take note of a target that goes out."""
        market = self._market(decision.ticker)
        market.at = decision.at
        if decision.entry != "take":
            market.patient = decision.id
        if abs(decision.target_usdc) > abs(decision.previous_usdc):
            market.added, market.added_at = decision.target_usdc, decision.at

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
        if market.refusals:
            # Where nothing is waited for, refusals are counted on and on: no float is so large.
            doubled = 2.0 ** min(market.refusals - 1, 64)
            longest = min(pace.back_off_s * doubled, pace.back_off_most_s)
            if (spent := (at - market.refused_at) / 1e9) < longest:
                return f"{market.refusal}, {spent:.0f} s ago < {longest:g} s before retry"
        if market.at is None:
            return ""
        spent = (at - market.at) / 1e9
        if spent < pace.throttle_s:
            return f"last target {spent:.0f} s ago < {pace.throttle_s:g} s between two"
        spent = (at - market.added_at) / 1e9
        if spent < pace.debounce_s and not market.refusals and pace.same(target, market.added):
            return f"the same target {spent:.0f} s ago < {pace.debounce_s:g} s"
        return ""


class _Requests:
    """One market: the last target that added, open orders, and refusals in a row."""

    __slots__ = ("added", "added_at", "at", "open", "patient", "refusal", "refusals", "refused_at")

    def __init__(self) -> None:
        self.added, self.added_at = 0.0, 0
        self.at: int | None = None
        self.open: dict[str, float] = {}
        self.refusals = self.refused_at = 0
        self.refusal = ""
        self.patient: str | None = None  # the last decision whose entry waits for its price

    def refuse(self, outcome: Outcome, forgotten_ns: int) -> None:
        if outcome.at - self.refused_at > forgotten_ns:
            self.refusals = 0
        self.refusals, self.refused_at = self.refusals + 1, outcome.at
        self.refusal = f"{outcome.kind} {outcome.reason}".rstrip() + f" ({outcome.why})"


# === Settings ===
# The thresholds and limits of the built-in strategies: values that a person may choose, refused
# as a whole where they contradict. Sizes are shares of the account's present equity.


class RankSettings(Pace):
    """Every threshold and limit of `RankAndTarget`, its pace too; refused if they contradict.

    Scores run from 0 to 100 around 50, and a short is a long in the mirror: `enter` 60 means
    long from 60 up, short from 40 down. Times are event time.
    """

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


# === Composite ===
# The scores of one market come to one opinion, with its words. Only the distance to 50 is scaled,
# never the side; nothing here knows what is held.


class _Opinion(msgspec.Struct, frozen=True, gc=False):
    """What a market's scores come to: a composite around 50, and the words for it."""

    value: float
    words: str
    missing: str = ""

    @property
    def conviction(self) -> float:
        return abs(self.value - 50.0)


def _opinion(scores: Iterable[Score], settings: RankSettings) -> _Opinion:
    # The mean of what points a way, stretched by volume, damped by rough or thin markets.
    # Only the distance to 50 is scaled: a damped market has no opinion, not a low one.
    values = {score.signal: score.value for score in scores}
    weights = settings.weights
    present = [signal for signal in weights if signal in values]
    weight = math.fsum(weights[signal] for signal in present)
    if weight < settings.quorum * math.fsum(weights.values()):
        missing = ", ".join(signal for signal in weights if signal not in values)
        return _Opinion(50.0, "", f"it has no {missing} yet")
    lean = math.fsum((values[signal] - 50.0) * weights[signal] for signal in present) / weight
    words = [f"{signal} {values[signal]:.0f}" for signal in present]
    if "volume" in values:
        lean *= 1.0 + settings.volume_lift * (values["volume"] - 50.0) / 50.0
        words.append(f"volume {values['volume']:.0f}")
    for signal, calm, extreme in (
        ("volatility", settings.volatility_calm, settings.volatility_extreme),
        ("liquidity", settings.liquidity_calm, settings.liquidity_extreme),
    ):
        if signal in values:
            share = _undamped(values[signal], calm, extreme)
            lean *= share
            words.append(f"{signal} {values[signal]:.0f}" + _damping(share))
    return _Opinion(min(max(50.0 + lean, 0.0), 100.0), " · ".join(words))


def _undamped(value: float, calm: float, extreme: float) -> float:
    """Return 1 up to calm, 0 from extreme on, straight in between; either may be larger."""
    return min(max((extreme - value) / (extreme - calm), 0.0), 1.0)


def _damping(share: float) -> str:
    return "" if share > 0.995 else f" (damps to {100.0 * share:.0f} %)"


# === Plans ===
# What is remembered of a market, what would be done in it, and what room there is: the parts of a
# look at all markets. Nothing here decides.


class _Market:
    """What the strategy remembers of a market; what is held in it is looked up at each look."""

    __slots__ = (
        "cut_reason", "cut_usdc", "exposure", "held", "news", "opinion", "out_since", "refusal",
        "scored", "since", "stranded", "trouble", "troubled_at",
    )  # fmt: skip

    def __init__(self, scored: Scored) -> None:
        self.scored = scored
        self.opinion = _Opinion(50.0, "")
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
        self.opinion = _opinion(self.scored.scores, settings)
        # A position is not left because a price is old: silence and what is unknown count.
        found = stopping(self.scored.view, "entry", None if self.taken else at)
        trouble = found[0].why if found else self.opinion.missing
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

    __slots__ = ("_equity", "_settings", "_taken", "gross", "limit")

    def __init__(self, settings: RankSettings, held: Holdings, markets: Iterable[_Market]) -> None:
        # Positions in markets without a score count, too.
        self._taken = {ticker: abs(one.usdc) for ticker, one in held.items()}
        self._taken |= {market.scored.ticker: market.taken for market in markets}
        self._settings = settings
        self._equity = None if held.equity_usdc is None else max(held.equity_usdc, 0.0)
        self.gross = math.fsum(self._taken.values())
        self.limit = settings.gross_share * (self._equity or 0.0)

    @property
    def missing(self) -> str:
        """Return why nothing can be sized; empty if something can."""
        if self._equity:
            return ""
        return "the account's equity is not known" if self._equity is None else "no equity is left"

    def size(self, strength: float) -> float:
        """Return what a score of such strength earns; 0 while nothing can be sized."""
        least = self._settings.smallest_share
        share = least + (1.0 - least) * strength
        return float(round(self._settings.market_share * (self._equity or 0.0) * share))

    def least(self, exposure: float) -> float:
        """Return the least change that is worth it."""
        share = self._settings.least_share * (self._equity or 0.0)
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


def _rank(market: _Market) -> tuple[bool, float, str]:
    return (bool(market.trouble), -market.opinion.conviction, market.scored.ticker)


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
    scored = market.scored
    return Decision(
        ticker=scored.ticker,
        # The frame of this look; each score names the frame that it came from.
        seq=now.seq,
        at=now.at,
        action=action,
        target_usdc=target,
        previous_usdc=market.held,
        urgency=urgency,
        score=market.opinion.value,
        reasons=reasons,
        scores=scored.scores,
    )


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


# === Rank and target ===
# The built-in strategies, the standard one and a patient one. They decide by what is held and on
# its way; how often risk may be added, `Pace` limits for them as for every other.


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

    @property
    def pace(self) -> Pace:
        """Return how often it may add risk."""
        return self.settings

    def step(self, scored: Scored, held: Holdings) -> Iterable[Decision]:
        """Keep a market's newest scores; look at all markets when it is time."""
        market = self._markets.get(scored.ticker)
        if market is None:
            market = self._markets[scored.ticker] = _Market(scored)
        market.scored = scored
        if self._next_look is None:
            self._next_look = scored.at + _ns(self.settings.look_s)
            self._reported_at = scored.at
        if scored.at < self._next_look:
            return ()
        self._next_look = scored.at + _ns(self.settings.look_s)
        return self._look(scored, held)

    def learn(self, outcome: Outcome) -> None:
        """Take in what became of a decision, or that a position was cut."""
        self._pacing.learn(outcome)
        market = self._markets.get(outcome.ticker)
        if market is None:
            return
        if outcome.kind == "cut":
            market.cut_usdc, market.cut_reason = market.cut_usdc + outcome.usdc, outcome.reason
        elif outcome.kind in ("denied", "expired"):
            market.refusal = f"{outcome.kind} {outcome.reason}".rstrip()
        elif outcome.kind == "filled":
            market.refusal = ""

    def _look(self, now: Scored, held: Holdings) -> list[Decision]:
        markets, settings = self._markets.values(), self.settings
        for market in markets:
            ticker = market.scored.ticker
            market.find(now.at, held.usdc(ticker), self._pacing.open_usdc(ticker), settings)
            market.judge(now.at, settings)
        room = _Room(settings, held, markets)
        plans = [self._plan(market, now.at, room) for market in sorted(markets, key=_rank)]
        # What shrinks goes first. The room that it makes is there when it has filled.
        decided = [self._target(plan, now, room) for plan in plans if plan.shrinks]
        for plan in plans:
            granted = self._grant(plan, now.at, room)
            if granted.grows:
                decided.append(self._target(granted, now, room))
        decided += self._news(plans, {one.ticker for one in decided}, now)
        if not decided and now.at - self._reported_at >= _ns(settings.report_s):
            first = self._grant(plans[0], now.at, room)
            looked = f"first of {len(plans)} markets looked at, none changes"
            decided = [_hold(first.market, now, first.reason, looked)]
        if decided:
            self._reported_at = now.at
        return decided

    def _news(self, plans: list[_Plan], decided: set[str], now: Scored) -> Iterator[Decision]:
        """Yield a hold where something happened that no target of this look answers."""
        for plan in plans:
            market = plan.market
            if market.news and market.scored.ticker not in decided:
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
        if wait := self._pacing.wait(market.scored.ticker, plan.target, at):
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
        used = room.take(market.scored.ticker, plan.target)
        reasons = (market.news, plan.reason, used) if market.news else (plan.reason, used)
        decision = _decision(market, now, "target", plan.target, plan.urgency, reasons)
        self._pacing.request(decision)
        return decision

    def _strength(self, opinion: _Opinion) -> float:
        settings = self.settings
        beyond = opinion.conviction + 50.0 - settings.enter
        return min(max(beyond / (settings.full - settings.enter), 0.0), 1.0)


class Sniper(RankAndTarget):
    """Wait for one outstanding market, take it whole, and leave early."""

    name: ClassVar[str] = "sniper"

    def __init__(self, settings: RankSettings | None = None) -> None:
        super().__init__(
            settings or RankSettings(positions=1, enter=72, exit=60, full=85, smallest_share=1.0)
        )


# === Loading ===
# Strategies by name, from a user's file or a module. A file is run here, with all rights of this
# process; what is not a strategy is refused with a sentence, before the first frame.

# What a user's file may raise without ending the bot; Ctrl-C is the person's and not among it.
_ITS_OWN: Final = (Exception, SystemExit)

STRATEGIES: Final[dict[str, Callable[[], Strategy]]] = {
    "rank": RankAndTarget,
    "sniper": Sniper,
}


def load_strategy(path_or_name: str | Path) -> Callable[[], Strategy]:
    """Find what makes a strategy: by its name, in a `.py` file, or in an importable module.

    A file or module must define `strategy()`, which returns a new strategy each time it is
    called. It is run here, with all rights of this process. `StrategyError` names what
    was expected and what it got, also of a file that raises or leaves by `sys.exit()`.
    """
    name = str(path_or_name)
    if name in STRATEGIES:
        return STRATEGIES[name]
    module = _from_file(Path(name)) if _is_file_name(name) else _from_module(name)
    make = getattr(module, "strategy", None)
    if not callable(make):
        raise StrategyError(f"expected {name} to define strategy(), got {_kind(make)}")
    _checked(make, name)
    return lambda: _checked(make, name)


def _is_file_name(name: str) -> bool:
    return name.endswith(".py") or "/" in name or "\\" in name


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise StrategyError(f"expected a Python file with a strategy, got no file {path}")
    name = f"strategy_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise StrategyError(f"expected a strategy in a file ending in .py, got {path}")
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
    names = ", ".join(STRATEGIES)
    expected = f"expected a strategy ({names}), a .py file or a module, got {name!r}"
    if not all(part.isidentifier() for part in name.split(".")):
        raise StrategyError(expected)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise StrategyError(f"{expected}: {error}") from error
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


def _kind(thing: object) -> str:
    return "nothing" if thing is None else f"a {type(thing).__name__}"


# === Deciding ===
# A strategy, built in or a user's own, and what is done with whatever it decides: it is
# checked, paced and numbered. Nothing here has an opinion of a market.

_Event = Scored | Holdings | Outcome


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
        self._pacing = _Pacing(_pace_of(self.strategy))
        self._holdings = Holdings()
        self._dropped: dict[str, int] = {}
        self._views: dict[str, MarketView] = {}
        # The turns whose near side is on its way, as they were decided last.
        self._turns: dict[str, Decision] = {}
        # Where what is held is left, as it was decided last.
        self._leaves: dict[str, tuple[float, float]] = {}
        self._count = 0

    def step(self, event: _Event) -> list[Decision]:
        """Take in scores, what is held, or an outcome; return decisions "D1", "D2", …."""
        if not isinstance(event, Scored):
            self._learn(event)
            return []
        self._views[event.ticker] = event.view
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

    def _learn(self, event: Holdings | Outcome) -> None:
        if isinstance(event, Holdings):
            self._holdings = event
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
            view = self._views.get(ticker)
            if view is not None and (stops := stopping(view, "exit")):
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


def _leaves(decision: Decision) -> tuple[float, float]:
    return decision.stop_loss, decision.take_profit


def _pace_of(strategy: Strategy) -> Pace:
    pace = getattr(strategy, "pace", None)
    if pace is not None and not isinstance(pace, Pace):
        raise StrategyError(f"expected the pace of {strategy.name} to be a Pace, got {_kind(pace)}")
    return pace or Pace()


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


def _raised_at(error: BaseException) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{_raised(error)} at {Path(where.filename).name}:{where.lineno}"


# === Streams ===
# The operator, one line around `Decider`: no subscription, no scheduler, no state of its own.
# Time is the events' own.


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
