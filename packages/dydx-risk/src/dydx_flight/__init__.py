"""The flight plan: how an account gets out before it is liquidated, costed on the present books.

    margin, positions, views ──► plan ──► FlightPlan ──► due(plan, distance) ──► rungs to fire
                one book moved ──► replan ──┘

An account always carries a ladder of reduce-only IOC orders, the `rungs`: the cheapest relief
(distance gained per USDC of cost) comes first, a position leaves in several cuts, and the last
rung is just large enough to reach `FlightPolicy.restore_to`. Farther away than any rung fires,
the ladder is drawn as it would be needed there; nearer, from where the account stands, less the
`fall` that the next block may bring: an order fills in a market that has gone on.

Doing nothing has a price too: the chain liquidates the larger of 1,000 USDC and a tenth of a
position each block and takes up to 1.5 % of it, so each rung says what that would cost. A thin
book must be left early: a rung fires the farther away, the more its exit loses to the book and
takes of the visible depth. An unknown, one-sided or stale book makes a rung blind: priced at
the oracle less a haircut. What a rung costs is reckoned on the book; how bad a price it accepts
is another matter: every fill short of liquidation brings relief, so a market that runs away is
followed nearly that far.

Units: sizes are quantums, money is quote quantums (1e-6 USDC), prices subticks; floats are
distances (0.06 is six per cent) and shares. Costs err upward: a book better than the oracle
gains nothing, and what a book does not show costs the worst. Nothing here reads a clock, sends
or remembers: a plan is a value.
Sources: v4-chain x/clob/keeper/liquidations.go; x/clob/types/errors.go, 9003 (reduce-only is IOC).
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise
from math import inf
from typing import Final

import msgspec
from dydx_conn import OrderRequest, PerpetualMarket, Side
from dydx_data import Book, MarketView
from dydx_margin import (
    PPM,
    LiquidationTerms,
    MarginFigures,
    RiskError,
    liquidation_size,
    mul_ppm,
    position_margin,
)
from dydx_trade import (
    MOST_SUBTICKS,
    amount_text,
    on_grid,
    percent_text,
    slipped,
    usdc_text,
    worst_subticks,
)

__all__ = [
    "Cut", "Exit", "FlightPlan", "FlightPolicy", "Rung", "Stuck", "due", "joined", "plan",
    "replan",
]  # fmt: skip

# === Values ===


class FlightPolicy(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """When to leave and how; `act_below` and `restore_to` are distances to liquidation.

    A position leaves in at most `cuts` cuts. An order takes the first `levels` of a book, no
    farther than `reach_bps` from the best price; its worst price is `slippage_bps` beyond the
    last level that it needs, or `chase` of the way to liquidation beyond the best price, if that
    is farther. `haircut_bps`, but no more than half the maintenance margin, is taken from the
    oracle where no book is known. `depth_margin` is
    how much earlier to leave a book of which the exit would take all.
    """

    act_below: float = 0.06
    restore_to: float = 0.10
    cuts: int = 4
    levels: int = 25
    slippage_bps: int = 100
    reach_bps: int = 300
    haircut_bps: int = 300
    chase: float = 0.75
    taker_fee_ppm: int = 500
    depth_margin: float = 0.02
    terms: LiquidationTerms = LiquidationTerms()

    def __post_init__(self) -> None:
        """Refuse, as `RiskError`, what could not be flown."""
        if not 0 < self.act_below < self.restore_to < 1:
            distances = self.act_below, self.restore_to
            raise RiskError(f"expected 0 < act_below < restore_to < 1, got {distances}")
        if self.cuts < 1 or self.levels < 1:
            raise RiskError(f"expected a cut and a level, got {self.cuts} and {self.levels}")
        for name in ("slippage_bps", "reach_bps", "haircut_bps"):
            if not 0 <= getattr(self, name) < 10_000:
                raise RiskError(f"expected 0 <= {name} < 10,000, got {getattr(self, name)}")
        if min(self.taker_fee_ppm, self.depth_margin) < 0:
            raise RiskError("expected no negative taker_fee_ppm or depth_margin")
        if not 0 <= self.chase < 1:
            raise RiskError(f"expected 0 <= chase < 1, got {self.chase}")

    @property
    def earliest(self) -> float:
        """Return the distance below which no rung fires earlier, however thin its book.

        A quarter of the way to `restore_to` stays: what has just fired is not due again.
        """
        return self.act_below + 0.75 * (self.restore_to - self.act_below)


class Rung(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One reduce-only IOC order and what it is for.

    `quantums` is unsigned, `held` the signed position that it finds, `subticks` its worst
    price. `quote` is what it trades for on the present book; `spread`, `impact` and `fee` are
    its `cost`, `loss` what it takes from net collateral at the oracle price. Fired after all
    before it, the distance goes from `before` to `restores`, inf if nothing is held then.

    `liquidation_cost` is what the same size would cost if the chain liquidated it, in parts of
    `liquidation_quantums` a block, at the highest fee. `blind` says why the book does not count,
    empty if it does. `depth_share` is the part of the visible depth that leaving the position
    takes, inf where none is visible.
    """

    market: PerpetualMarket
    side: Side
    quantums: int
    held: int
    subticks: int
    quote: int
    spread: int
    impact: int
    fee: int
    loss: int
    before: float
    restores: float
    fires_below: float
    depth_share: float
    liquidation_quantums: int
    liquidation_cost: int
    blind: str = ""

    @property
    def ticker(self) -> str:
        """Return the market's ticker."""
        return self.market.ticker

    @property
    def cost(self) -> int:
        """Return what it costs in quote quantums: spread, impact and fee."""
        return self.spread + self.impact + self.fee

    @property
    def delta(self) -> int:
        """Return the signed change of the position."""
        return self.quantums if self.side == "BUY" else -self.quantums

    @property
    def words(self) -> str:
        """Say what it does."""
        market, bound = self.market, "<=" if self.side == "BUY" else ">="
        part = "all" if self.delta == -self.held else f"of {_size(market, abs(self.held))}"
        return (
            f"{self.side.lower()} {_size(market, self.quantums)} {self.ticker} ({part}) at {bound} "
            f"{amount_text(market.price(self.subticks))}"
        )

    @property
    def ends(self) -> str:
        """Say what it comes to, what it costs, and what doing nothing would cost."""
        end = (
            "leaves nothing" if self.restores == inf else f"restores {percent_text(self.restores)}"
        )
        blind = f", blind ({self.blind}): the oracle less a haircut" if self.blind else ""
        return (
            f"{end}, costs {usdc_text(self.cost)} USDC (spread {usdc_text(self.spread)}, impact "
            f"{usdc_text(self.impact)}, fee {usdc_text(self.fee)}){blind}; liquidated, "
            f"{_size(self.market, self.liquidation_quantums)} a block, the same would cost up to "
            f"{usdc_text(self.liquidation_cost)}"
        )

    @property
    def why(self) -> str:
        """Say what it does, to what end, at what cost, and when."""
        depth = "no depth is visible" if self.blind else f"all of it takes {self.depth_share:.0%}"
        return (
            f"{self.words}: from {percent_text(self.before)} {self.ends}; fires below "
            f"{percent_text(self.fires_below)} ({depth}{'' if self.blind else ' of the depth'})"
        )

    def order(self, *, client_id: int, good_til_block: int) -> OrderRequest:
        """Return the order to send: IOC, without which the chain refuses reduce-only."""
        return OrderRequest(
            ticker=self.ticker,
            clob_pair_id=self.market.clob_pair_id,
            side=self.side,
            quantums=self.quantums,
            subticks=self.subticks,
            time_in_force="IOC",
            client_id=client_id,
            reduce_only=True,
            good_til_block=good_til_block,
        )


class Cut(msgspec.Struct, frozen=True, gc=False):
    """A part of an exit, from so much left already to so much: what it costs and relieves.

    `maintenance`, `sensitivity` and `notional` are what the account's own fall by.
    """

    start: int
    end: int
    quote: int
    spread: int
    impact: int
    fee: int
    loss: int
    maintenance: int
    sensitivity: int
    notional: int
    cost: int  # spread, impact and fee


class Exit(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One position's way out, costed on its book; what `replan` keeps of markets that rest.

    `size` is the unsigned quantums that orders can close, `shown` the levels that they would
    take: size and quote up to and with each, and its subticks. What is not shown trades at
    `bound`. `double_mid` is the sum of the best bid and the best ask.
    """

    market: PerpetualMarket
    held: int
    price: int
    exponent: int
    size: int
    fee_ppm: int
    bound: int
    best: int = 0
    double_mid: int = 0
    shown: tuple[tuple[int, int, int], ...] = ()
    depth_share: float = inf
    liquidation_quantums: int = 0
    cuts: tuple[Cut, ...] = ()
    fires_below: float = 0.0
    blind: str = ""

    @property
    def ticker(self) -> str:
        """Return the market's ticker."""
        return self.market.ticker


class Stuck(msgspec.Struct, frozen=True, gc=False):
    """A position that no order can reduce, and why; without figures unless it is `known`."""

    ticker: str
    why: str
    known: bool = False


class FlightPlan(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The ladder, cheapest relief first, and what it would come to.

    `distance_now` is None if it is unknown or nothing is held; `distance_next` is what the next
    block may leave of it, over all that could be valued: where rungs are `due`. `drawn_at` is the
    distance from which they are reckoned: that, or where the first would fire if it is nearer.
    `distance_after` and `cost` are after all rungs. `unknown` names the positions that have no
    figure at all, `left` those that have no (further) way out, and why.
    """

    policy: FlightPolicy = FlightPolicy()
    rungs: tuple[Rung, ...] = ()
    distance_now: float | None = None
    distance_next: float | None = None
    drawn_at: float | None = None
    distance_after: float | None = None
    cost: int = 0
    unknown: tuple[str, ...] = ()
    left: tuple[tuple[str, str], ...] = ()
    exits: tuple[Exit | Stuck, ...] = ()

    @property
    def is_enough(self) -> bool:
        """Tell whether all rungs restore what policy asks for, or nothing is held after them."""
        after = self.distance_after
        return not self.unknown and (after is None or after >= self.policy.restore_to)

    @property
    def fires_below(self) -> float | None:
        """Return the distance below which the first rung is due; None without a rung."""
        return self.rungs[0].fires_below if self.rungs else None

    @property
    def why(self) -> str:
        """Say how far away liquidation is, what the ladder does about it, and what it cannot."""
        said = [f"distance {percent_text(self.distance_now)}" if self.exits else "nothing is held"]
        if self.rungs:
            after = self.distance_after
            end = "to nothing held" if after == inf else f"to {percent_text(after)}"
            count = f"{len(self.rungs)} rung{'s' * (len(self.rungs) > 1)}"
            ends = f"from {percent_text(self.drawn_at)} {end}, the first below"
            cost = f"{percent_text(self.fires_below)}, cost {usdc_text(self.cost)} USDC"
            said.append(f"{count} {ends} {cost}")
        if self.unknown:
            said.append(f"unknown: {', '.join(self.unknown)}")
        said += [f"{ticker} stays: {why}" for ticker, why in self.left]
        return "; ".join(said)


def _size(market: PerpetualMarket, quantums: int) -> str:
    return amount_text(market.size(quantums))


# === Plan ===


def plan(
    margin: MarginFigures,
    positions: Mapping[str, int | None],
    views: Mapping[str, MarketView],
    policy: FlightPolicy | None = None,
    *,
    fall: int = 0,
    waiting: Collection[str] = (),
) -> FlightPlan:
    """Draw the ladder of an account: its margin, its positions and their markets.

    `margin` is the account's, over every position that could be valued; `positions` are signed
    quantums by ticker, None where the grid is not known. A view is read, never kept. `fall` is
    what the next block may take from the cushion, in quote quantums. `waiting` are tickers with a
    reduction that was not answered yet: the ladder restores the distance without them.
    """
    empty = FlightPlan(policy=policy) if policy is not None else FlightPlan()
    return replan(empty, margin, positions, views, fall=fall, waiting=waiting)


def replan(
    old: FlightPlan,
    margin: MarginFigures,
    positions: Mapping[str, int | None],
    views: Mapping[str, MarketView],
    *,
    fall: int = 0,
    waiting: Collection[str] = (),
) -> FlightPlan:
    """Draw it again after some markets or positions moved; the result is the same as `plan`'s.

    `positions` names those whose size, book, oracle price or status may be another one, those
    that wait or no longer do, 0 for what is closed, and `views` their markets; all others stay as
    they were costed.
    """
    policy, exits = old.policy, {exit_.ticker: exit_ for exit_ in old.exits}
    for ticker, quantums in positions.items():
        exits.pop(ticker, None)
        if ticker in waiting:
            exits[ticker] = Stuck(ticker, "its reduction has no answer yet", known=True)
        elif quantums != 0:
            exits[ticker] = _exit(ticker, quantums, views.get(ticker), policy)
    return _draw(margin, tuple(exits[ticker] for ticker in sorted(exits)), policy, fall)


def due(plan: FlightPlan, distance: float | None) -> tuple[Rung, ...]:
    """Return the rungs to fire at this distance, in order: a rung never before a cheaper one.

    A distance of None is unknown, hence danger: every rung is due. Whoever fires may first wait
    for the figure to come back, as at the start of a run.
    """
    near = -inf if distance is None else distance
    return tuple(rung for rung in plan.rungs if near < rung.fires_below)


def joined(rungs: Collection[Rung]) -> tuple[Rung, ...]:
    """Make one rung of those of one market: what is fired at once is one order a market.

    Its place is that of the first; its worst price, and what it restores, those of the last.
    """
    merged: dict[str, Rung] = {}
    for rung in rungs:
        first = merged.get(rung.ticker)
        if first is not None:
            sums = {name: getattr(first, name) + getattr(rung, name) for name in _ADD_UP}
            rung = msgspec.structs.replace(
                rung, held=first.held, before=first.before, fires_below=first.fires_below, **sums
            )
        merged[rung.ticker] = rung
    return tuple(merged.values())


_ADD_UP: Final = ("quantums", "quote", "spread", "impact", "fee", "loss", "liquidation_cost")


# === Ladder ===
# Which cut comes next: the one that gains the most distance per USDC of cost.


class _Stand(msgspec.Struct, frozen=True, gc=False):
    """Where the account would stand: what makes its distance, and what the next block may take."""

    cushion: int
    sensitivity: int
    notional: int
    fall: int

    @property
    def distance(self) -> float:
        return self._away(self.cushion)

    @property
    def kept(self) -> float:
        """Return the distance that the next block may leave."""
        return self._away(self.cushion - self.fall)

    def _away(self, cushion: int) -> float:
        # Nothing held, or maintenance of 100 %: no price can help or hurt. To end in debt is no
        # way out, and the chain would not let such a fill happen.
        if not self.notional or self.sensitivity <= 0:
            return inf if cushion >= 0 else -inf
        return cushion / self.sensitivity

    def after(self, cut: Cut) -> "_Stand":
        return _Stand(
            self.cushion + cut.maintenance - cut.loss,
            self.sensitivity - cut.sensitivity,
            self.notional - cut.notional,
            self.fall,
        )


def _draw(
    margin: MarginFigures, exits: tuple[Exit | Stuck, ...], policy: FlightPolicy, fall: int
) -> FlightPlan:
    ways = [exit_ for exit_ in exits if isinstance(exit_, Exit)]
    none = [exit_ for exit_ in exits if isinstance(exit_, Stuck)]
    unknown = sorted({*margin.unknown, *(stuck.ticker for stuck in none if not stuck.known)})
    stuck = [(stuck.ticker, stuck.why) for stuck in none]
    if not margin.notional:
        left = tuple(stuck)
        return FlightPlan(policy=policy, unknown=tuple(unknown), left=left, exits=exits)
    stand = start = _first_stand(margin, ways, policy, fall)
    climbed: list[tuple[Exit, Cut, _Stand]] = []
    ahead = {way.ticker: (way, way.cuts) for way in ways if way.cuts}
    while stand.kept < policy.restore_to and (best := _cheapest(stand, ahead.values())):
        way, cut = best
        if stand.after(cut).kept >= policy.restore_to:
            cut = _just_enough(stand, way, cut, policy)
        stand = stand.after(cut)
        climbed.append((way, cut, stand))
        rest = ahead[way.ticker][1][1:]
        if rest:
            ahead[way.ticker] = way, rest
        else:
            del ahead[way.ticker]
    if stand.kept < policy.restore_to:
        stuck += [_costly(way, cuts[0].start) for way, cuts in ahead.values()]
    return FlightPlan(
        policy=policy,
        rungs=_rungs(start, climbed, policy),
        distance_now=None if unknown else margin.distance,
        distance_next=_Stand(margin.cushion, margin.sensitivity, margin.notional, fall).kept,
        drawn_at=start.distance,
        distance_after=stand.distance,
        cost=sum(cut.cost for _, cut, _ in climbed),
        unknown=tuple(unknown),
        left=tuple(sorted(stuck)),
        exits=exits,
    )


def _first_stand(
    margin: MarginFigures, ways: list[Exit], policy: FlightPolicy, fall: int
) -> _Stand:
    cushion, sensitivity = margin.cushion, margin.sensitivity
    if sensitivity > 0:
        first = max((way.fires_below for way in ways), default=policy.act_below)
        fires = mul_ppm(sensitivity, int(first * PPM), round_up=False)
        cushion = min(cushion, fires + fall)
    return _Stand(cushion, sensitivity, margin.notional, fall)


def _cheapest(
    stand: _Stand, ahead: Iterable[tuple[Exit, tuple[Cut, ...]]]
) -> tuple[Exit, Cut] | None:
    # The hot path of a plan: as `after(cut).distance` has it, with no stand made to be asked.
    cushion, sensitivity, notional = stand.cushion, stand.sensitivity, stand.notional
    before, most, most_gain, found = stand.distance, 0.0, 0.0, None
    for way, cuts in ahead:
        cut = cuts[0]
        left, cost = sensitivity - cut.sensitivity, cut.cost
        if left > 0 and cut.notional != notional:
            gain = (cushion + cut.maintenance - cut.loss) / left - before
        else:
            gain = stand.after(cut).distance - before
        if gain > 0:
            worth = gain / cost if cost else inf
            if worth > most or (worth == most and gain > most_gain):
                most, most_gain, found = worth, gain, (way, cut)
    return found


def _just_enough(stand: _Stand, way: Exit, cut: Cut, policy: FlightPolicy) -> Cut:
    # It rises to its highest and falls after it, so between "not yet" and "enough" lies one
    # border; `cut` is beyond it. Up by a step: what is sized must be reached.
    step = way.market.step_base_quantums
    low, high, enough = 0, (cut.end - cut.start) // step, cut
    while high - low > 1:
        middle = (low + high) // 2
        part = _cut(way, cut.start, cut.start + middle * step)
        if stand.after(part).kept >= policy.restore_to:
            high, enough = middle, part
        else:
            low = middle
    return enough


def _costly(way: Exit, done: int) -> tuple[str, str]:
    rest = _cut(way, done, way.size)
    cost, relief = usdc_text(rest.loss), usdc_text(rest.maintenance)
    return way.ticker, f"leaving costs {cost} USDC and relieves {relief} of maintenance margin"


def _rungs(
    start: _Stand, climbed: list[tuple[Exit, Cut, _Stand]], policy: FlightPolicy
) -> tuple[Rung, ...]:
    # Drawn from the end: what fires early takes all that is cheaper along.
    rungs: list[Rung] = []
    fires_below, away = 0.0, min(max(start.distance, 0.0), 1.0)
    ways = {way.ticker: way for way, _, _ in climbed}
    ahead = {ticker: _followed(way, away, policy) for ticker, way in ways.items()}
    before = [start, *(stand for _, _, stand in climbed)]
    for (way, cut, stand), earlier in zip(climbed[::-1], before[-2::-1], strict=True):
        fires_below = max(fires_below, way.fires_below)
        reach = earlier.distance, stand.distance
        worst = _worst(way, cut.end, ahead[way.ticker], policy)
        rungs.append(_rung(way, cut, reach, fires_below, worst, policy))
    return tuple(rungs[::-1])


def _rung(
    way: Exit, cut: Cut, reach: tuple[float, float], fires_below: float, worst: int,
    policy: FlightPolicy,
) -> Rung:  # fmt: skip
    buys = way.held < 0
    penalty = mul_ppm(cut.quote, policy.terms.max_liquidation_fee_ppm, round_up=True)
    return Rung(
        market=way.market,
        side="BUY" if buys else "SELL",
        quantums=cut.end - cut.start,
        held=way.held + cut.start if buys else way.held - cut.start,
        subticks=worst,
        quote=cut.quote,
        spread=cut.spread,
        impact=cut.impact,
        fee=cut.fee,
        loss=cut.loss,
        before=reach[0],
        restores=reach[1],
        fires_below=fires_below,
        depth_share=way.depth_share,
        liquidation_quantums=way.liquidation_quantums,
        # It meets the same book, pays no taker fee, and the highest fee of a liquidation.
        liquidation_cost=cut.spread + cut.impact + penalty,
        blind=way.blind,
    )


def _worst(way: Exit, end: int, ahead: int, policy: FlightPolicy) -> int:
    """Return the worst price of an order that takes so much: beyond its last level, or `ahead`."""
    level = bisect_left(way.shown, (end,))
    deepest = way.shown[level][2] if level < len(way.shown) else way.bound
    if way.held < 0:
        return max(min(slipped(way.market, deepest, policy.slippage_bps, True), way.bound), ahead)
    return min(max(slipped(way.market, deepest, policy.slippage_bps, False), way.bound), ahead)


def _followed(way: Exit, away: float, policy: FlightPolicy) -> int:
    """Return how far a running market is followed: nearly to where liquidation would be."""
    # From the oracle or the book, whichever has run farther: the other will follow.
    market, buys = way.market, way.held < 0
    kept = market.imf_ppm * market.maintenance_fraction_ppm / PPM / PPM
    bps = min(round(10_000 * (kept + policy.chase * away)), 9_999)
    oracle = worst_subticks(market, way.price, way.exponent, bps, buys)
    book = slipped(market, way.best or way.bound, bps, buys)
    return max(oracle, book) if buys else min(oracle, book)


# === Exits ===
# One position, one book: how much can leave, in which cuts, and what each costs.


def _exit(
    ticker: str, quantums: int | None, view: MarketView | None, policy: FlightPolicy
) -> Exit | Stuck:
    market = view.market if view is not None else None
    if view is None or market is None:
        return Stuck(ticker, "the market is not known")
    if quantums is None:
        return Stuck(ticker, "its size is not known")
    oracle = view.oracle
    if oracle is None or oracle.digits <= 0:
        was = "unknown" if oracle is None else oracle.text
        return Stuck(ticker, f"expected a positive oracle price, it is {was}")
    if view.status not in ("ACTIVE", ""):
        status = f"expected an ACTIVE market, it is {view.status}"
        return Stuck(ticker, f"{status}: it takes no IOC", known=True)
    step = market.step_base_quantums
    size = min(abs(quantums), MOST_SUBTICKS) // step * step
    if not size:
        least = f"less than one step of {_size(market, step)}"
        return Stuck(ticker, f"{_size(market, abs(quantums))} is {least}", known=True)
    # Sent blind it fills only where it brings relief: reckon with half of what leaving frees.
    freed = market.imf_ppm * market.maintenance_fraction_ppm * 10_000 // PPM // PPM
    haircut = min(policy.haircut_bps, max(freed // 2, 1))
    bound = worst_subticks(market, oracle.digits, oracle.exponent, haircut, quantums < 0)
    way = Exit(
        market=market, held=quantums, price=oracle.digits, exponent=oracle.exponent, size=size,
        fee_ppm=policy.taker_fee_ppm, bound=bound, blind=_blindness(view),
    )  # fmt: skip
    try:
        return _costed(way if way.blind else _on_book(way, view.book, policy), policy)
    except RiskError as error:  # a figure beyond what the chain can hold
        return Stuck(ticker, str(error))


def _costed(way: Exit, policy: FlightPolicy) -> Exit:
    market, step = way.market, way.market.step_base_quantums
    takes = abs(liquidation_size(market, way.held, way.price, way.exponent, policy.terms))
    # Equal cuts on the grid; where there are fewer steps, each is one.
    steps, count = way.size // step, min(policy.cuts, way.size // step)
    borders = [_border(way, steps * n // count * step) for n in range(count + 1)]
    cuts = tuple(_between(way, *ends) for ends in pairwise(borders))
    early = _fires_below(way, cuts, policy)
    return msgspec.structs.replace(way, liquidation_quantums=takes, cuts=cuts, fires_below=early)


def _fires_below(way: Exit, cuts: tuple[Cut, ...], policy: FlightPolicy) -> float:
    """Return the policy's distance and what the exit loses to the book and takes of it."""
    if way.blind:
        return policy.earliest
    lost = sum(cut.spread + cut.impact for cut in cuts)
    value = sum(cut.quote for cut in cuts)
    margin = lost / max(value, 1) + policy.depth_margin * way.depth_share
    return float(min(policy.act_below + margin, policy.earliest))


def _blindness(view: MarketView) -> str:
    book = view.book
    if not book.known:
        return "the book is unknown"
    if book.best_bid is None or book.best_ask is None:
        return "the book is one-sided" if book.best_bid or book.best_ask else "the book is empty"
    return "the book is stale" if view.quality.stale else ""


def _on_book(way: Exit, book: Book, policy: FlightPolicy) -> Exit:
    market, buys = way.market, way.held < 0
    levels = book.asks(policy.levels) if buys else book.bids(policy.levels)
    across = book.best_bid if buys else book.best_ask
    tradable = list(on_grid(market, levels))
    opposite = next(on_grid(market, [across] if across is not None else []), None)
    if not tradable or opposite is None:
        return msgspec.structs.replace(way, blind="no level of the book is on the grid")
    best = tradable[0][0]
    bound = slipped(market, best, policy.reach_bps, buys)
    depth = size = quote = 0
    shown: list[tuple[int, int, int]] = []
    for subticks, quantums in tradable:
        if subticks > bound if buys else subticks < bound:
            break
        depth += quantums
        if size < way.size:
            size += quantums
            quote += market.quote_quantums(quantums, subticks)
            shown.append((size, quote, subticks))
    return msgspec.structs.replace(
        way, bound=bound, best=best, double_mid=best + opposite[0], shown=tuple(shown),
        depth_share=way.size / depth,
    )  # fmt: skip


class _Border(msgspec.Struct, frozen=True, gc=False):
    """How it stands when so much has left: what that traded for, what is held and required."""

    left: int
    quote: int
    value: int
    required: int


def _border(way: Exit, left: int) -> _Border:
    held = way.held + left if way.held < 0 else way.held - left
    terms = position_margin(way.market, held, way.price, way.exponent)
    return _Border(left, _quote(way, left), abs(terms.net_notional), terms.maintenance_margin)


def _cut(way: Exit, start: int, end: int) -> Cut:
    return _between(way, _border(way, start), _border(way, end))


def _between(way: Exit, start: _Border, end: _Border) -> Cut:
    market, size, quote = way.market, end.left - start.left, end.quote - start.quote
    value, required = start.value - end.value, start.required - end.required
    fee = mul_ppm(quote, way.fee_ppm, round_up=True)
    best = middle = value
    if not way.blind:
        best = market.quote_quantums(size, way.best)
        middle = market.quote_quantums(size, way.double_mid) // 2
    # A short leaves dearer: the same figures with the other sign.
    sign = -1 if way.held < 0 else 1
    spread, impact = max(sign * (middle - best), 0), max(sign * (best - quote), 0)
    return Cut(
        start=start.left,
        end=end.left,
        quote=quote,
        spread=spread,
        impact=impact,
        fee=fee,
        loss=max(sign * (value - quote), 0) + fee,
        maintenance=required,
        sensitivity=value - sign * required,
        notional=value,
        cost=spread + impact + fee,
    )


def _quote(way: Exit, size: int) -> int:
    """Return what so much of the exit trades for, from the best level on."""
    level = bisect_left(way.shown, (size,))
    above, quote, _ = way.shown[level - 1] if level else (0, 0, 0)
    subticks = way.shown[level][2] if level < len(way.shown) else way.bound
    return quote + way.market.quote_quantums(size - above, subticks)
