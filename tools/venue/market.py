"""Markets that move like markets: what is listed, what happens, and one order book each.

    Scenario ──mood──┐
    Factor ──────────┴──► Market.step ──► orders on `dydx_paper.OrderBook` ──► levels, trades

`listings` chooses what is traded, on the mainnet's grid; `Scenario` decides what happens when;
`Factor` and `Market` move a fair price with fat tails, clustered volatility and a common
factor, and surround it with makers that quote late, get hit, pull and come back. Everything
trades on the one matching engine of the house: nothing here fills an order by itself.

The same seed gives the same orders: each market has a chance of its own, so that one more
market does not change the others, and time comes in steps. Prices and sizes are floats here
(opinions); what reaches the book is subticks and quantums. No clock, no I/O.

Shapes follow measured figures: a book that thickens away from the mid, minute returns with an
excess kurtosis near ten, log-normal trade sizes that come in clusters, spreads of a few basis
points for the large markets and many for the small.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from random import Random
from typing import Final

from disturbances import Spells
from dydx_conn import PerpetualMarket, Side, Subaccount
from dydx_paper import Match, Order, OrderBook, Placement, Positions

STEP_NS: Final = 100_000_000
STEP_S: Final = STEP_NS / 1e9

# === Listings ===


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A market before its first trade: its grid and how lively it is.

    `price` in USDC, `volume` in USDC and `trades` in counts a day, `sigma_bps` the standard
    deviation of a one-minute return, `beta` its share in the common factor.
    """

    market: PerpetualMarket
    price: float
    volume: float
    trades: float
    spread_bps: float
    sigma_bps: float
    beta: float
    open_interest: int

    @property
    def ticker(self) -> str:
        """Return the market's ticker."""
        return self.market.ticker


# Ticker, price, volume and trades a day, tier; grid and spread only where the rule below misses.
_TABLE: Final = """
BTC 93000 246e6 33800 large tick=1e5 spread=2.2 sigma=4.1
ETH 3120 191e6 110000 large tick=1e5 spread=0.5 sigma=5.8
SOL 240 43e6 25700 mid resolution=-7 spread=1.25 sigma=6.5
DOGE 0.4 59e6 31800 small resolution=-4 oi=26e6
XRP 1.1 17e6 14200 small resolution=-5 spread=5.1
WLD 2.3 15e6 7200 small
ADA 0.73 8.6e6 4500 small
SUI 3.8 8.1e6 8000 small resolution=-5
TIA 5.2 7.9e6 4900 small resolution=-7
LTC 87 7.6e6 3000 small
TRX 0.2 4.9e6 4600 small resolution=-4
PEPE 0.0000206 4.4e6 5100 small resolution=1
ETC 26 4.2e6 2200 small
XLM 0.23 4.0e6 2200 small
HBAR 0.137 3.9e6 7500 long
DOT 5.8 3.7e6 2200 small
NEAR 5.84 3.6e6 2200 small
SEI 0.5 3.6e6 960 long
AVAX 34.6 3.5e6 3400 small
BNB 617 3.5e6 2300 small
LINK 14.8 3.3e6 3400 small resolution=-6
SHIB 0.0000254 3.2e6 1300 small resolution=0
WIF 3.5 3.1e6 1900 long oi=6.4e6
ATOM 6.3 2.8e6 2500 small
UNI 9.5 2.1e6 2300 small
FIL 4.5 2.1e6 2400 small
OP 1.74 1.6e6 1700 small
CRV 0.43 1.3e6 1100 small
ALGO 0.23 1.3e6 1700 long
BCH 450 1.2e6 1400 small
APT 11.8 1.0e6 1300 small resolution=-6
TON 5.5 9e5 2000 long
CHZ 0.076 9e5 1300 long resolution=-5
ARB 0.69 8.8e5 1100 small resolution=-6
HYPE 31 8e5 1100 small spread=12
1INCH 0.34 5.6e5 370 long
AAVE 162 5.4e5 700 small resolution=-7
BONK 0.000054 5.4e5 960 long resolution=-1
FTM 0.7 5.1e5 280 long
ICP 9.3 5.0e5 1000 long
RUNE 5.3 4.3e5 450 long
ZEC 410 4.2e5 520 long spread=9.5 sigma=14
MANA 0.41 2.6e5 130 long
JUP 1.18 2.2e5 400 long
GRT 0.24 2.0e5 120 small
MKR 1500 1.9e5 470 long
RENDER 8.0 1.5e5 100 long
APE 1.14 1.4e5 110 long
LDO 1.2 1.3e5 300 long
DYDX 1.26 1.3e5 1400 long
INJ 25 1.3e5 250 long
ORDI 38 1.2e5 390 long
STX 1.95 1.2e5 830 small
COMP 54 1.2e5 600 long
EOS 0.65 1.1e5 290 small
PYTH 0.42 1.0e5 530 long
STRK 0.48 9e4 100 long
FLOKI 0.00025 8.6e4 320 long
JTO 2.9 8.1e4 390 long
SNX 1.8 7.7e4 80 long
XTZ 1.05 7.2e4 70 isolated
OM 4.2 5.5e4 75 isolated
IMX 1.4 3.4e4 70 long
DYM 1.6 2.8e4 630 long
ETHFI 1.6 2.2e4 120 long
AEVO 0.36 2.0e4 30 long
ENA 0.55 2.0e4 20 isolated
BLUR 0.26 2.0e4 120 long
AKT 4.2 1.8e4 35 isolated
ONT 0.23 1.5e4 9 isolated
WOO 0.24 1.5e4 530 small
ARKM 2.0 1.4e4 20 long
W 0.25 1.4e4 8 long
BLAST 0.0095 1.3e4 36 long
EIGEN 2.4 1.2e4 21 isolated
TURBO 0.0088 1.1e4 14 isolated
GALA 0.03 1.0e4 16 isolated
POPCAT 1.9 1.0e4 18 isolated
TAO 488 9.8e3 13 isolated
ONDO 1.04 9.5e3 16 isolated
NEIRO 0.099 7.8e3 9 isolated
BRETT 0.17 6.8e3 15 isolated
DRIFT 1.4 6.3e3 5 isolated
ZK 0.147 5.8e3 5 long
AXL 0.75 4.9e3 85 long
QTUM 3.2 4.0e3 4 isolated
THETA 1.8 4.0e3 17 isolated
GOAT 1.05 3.7e3 6 isolated
BOME 0.0103 3.4e3 8 isolated
GMX 28.5 2.4e3 7 isolated
SATS 0.00000025 2.4e3 7 isolated
ZRO 3.6 2.4e3 4 long
NOT 0.0076 2.4e3 5 isolated
AXS 5.8 2.2e3 8 isolated
ENS 18.3 2.1e3 24 long
XMR 161 1.9e3 4 isolated
CAKE 1.9 1.9e3 7 isolated
PEOPLE 0.064 1.6e3 6 long
EGLD 32 1.0e3 8 isolated
PENDLE 5.2 8e2 5 long
PAXG 2660 6e2 4 isolated spread=17.9 sigma=2
ASTR 0.067 5e2 14 long
"""

# Initial margin ppm, maintenance fraction ppm, open-interest caps in USDC, market type.
_TIERS: Final = {
    "large": (20_000, 600_000, 0, 0, "CROSS"),
    "mid": (50_000, 600_000, 40_000_000, 100_000_000, "CROSS"),
    "small": (100_000, 500_000, 20_000_000, 50_000_000, "CROSS"),
    "long": (200_000, 500_000, 5_000_000, 10_000_000, "CROSS"),
    "isolated": (50_000, 600_000, 500_000, 1_000_000, "ISOLATED"),
}


def listings(count: int) -> list[Listing]:
    """List the `count` liveliest markets; names beyond the well-known ones are made up."""
    rows = [line.split() for line in _TABLE.strip().splitlines()]
    rows += [_made_up(number) for number in range(len(rows), count)]
    return [_listing(number, *row) for number, row in enumerate(rows[:count])]


def _made_up(number: int) -> list[str]:
    chance = Random(f"listing {number}")
    syllables = ["BA", "DO", "FI", "GU", "KE", "LO", "MI", "NU", "PA", "RO", "SI", "TU", "VE", "WO"]
    name = "".join(chance.sample(syllables, 2)) + chance.choice("XNRTK")
    price = f"{10 ** chance.uniform(-3, 2):.3g}"
    return [f"{name}{number}", price, f"{10 ** chance.uniform(1.5, 3.2):.0f}", "3", "isolated"]


def _listing(
    number: int, name: str, price: str, volume: str, trades: str, tier: str, *options: str
) -> Listing:
    option = dict(text.split("=") for text in options)
    imf_ppm, fraction_ppm, lower, upper, kind = _TIERS[tier]
    # The size step is worth some dollars and the tick is 1 to 10 bps, whatever the price.
    resolution = int(option.get("resolution", -6 - math.floor(math.log10(float(price)))))
    chance = Random(f"character of {name}")
    turnover = float(volume)
    market = PerpetualMarket(
        ticker=f"{name}-USD",
        clob_pair_id=number,
        perpetual_id=number,
        atomic_resolution=resolution,
        quantum_conversion_exponent=-9,
        step_base_quantums=1_000_000,
        subticks_per_tick=int(float(option.get("tick", "1e6"))),
        imf_ppm=imf_ppm,
        maintenance_fraction_ppm=fraction_ppm,
        open_interest_lower_cap=lower * 1_000_000,
        open_interest_upper_cap=upper * 1_000_000,
        market_type=kind,
    )
    interest = float(option.get("oi", turnover * 0.35)) / float(price)
    return Listing(
        market=market,
        price=float(price),
        volume=turnover,
        trades=float(trades),
        spread_bps=float(option.get("spread", 1.4 * (2.5e8 / turnover) ** 0.3)),
        sigma_bps=float(option.get("sigma", chance.uniform(7.0, 13.0))),
        beta=1.0 if number < 2 else chance.uniform(0.85, 1.25),
        open_interest=market.floor_quantums(Decimal(repr(interest))),
    )


# === Scenarios ===


@dataclass(frozen=True, slots=True)
class Swing:
    """How prices are displaced and come back, beside the walk that they are on anyway.

    Every `least_s` to `most_s` seconds a price is displaced at once, up or down, by half to all of
    `amplitude_bps`; what is left of that halves each `half_life_s`. Where they are `paired`, two
    markets that follow each other in the list are displaced against each other, by half each, and
    not each by itself.
    """

    half_life_s: float
    amplitude_bps: float
    least_s: float
    most_s: float
    paired: bool = False


# In and out as a taker: twice 5 bps, and the spread of a lively market. Two legs cost it twice.
ROUND_TRIP_BPS: Final = 12.0
# Chosen before the strategies that they test, and not fitted to them. No displacement is more than
# three times the cost of trading it; the noise is the markets' usual walk (`Mood.vol` of 1).
REVERT: Final = Swing(30.0, 3 * ROUND_TRIP_BPS, 120.0, 240.0)
PAIR: Final = Swing(60.0, 3 * 2 * ROUND_TRIP_BPS, 240.0, 480.0, paired=True)


@dataclass(frozen=True, slots=True)
class Mood:
    """What one moment does to all markets, beside chance.

    `drift` is the log return of the common factor in this step; the others multiply. `lapse` is
    the chance that a quote is left to expire instead of being cancelled, which is how the
    indexer's books cross; `basis` shifts the book away from the oracle; `gone` are the makers;
    `swing` is how prices are displaced for a while.
    """

    drift: float = 0.0
    vol: float = 1.0
    depth: float = 1.0
    spread: float = 1.0
    trades: float = 1.0
    lapse: float = 0.004
    basis_bps: float = 0.0
    frozen: bool = False
    gone: bool = False
    swing: Swing | None = None


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of a scenario; `move` is the factor's log return over all of it."""

    seconds: float
    move: float = 0.0
    mood: Mood = field(default_factory=Mood)


CALM: Final = Mood()
SCENARIOS: Final = ("calm", "trend", "crash", "halt", "funding-squeeze", "revert", "pair")


class Scenario:
    """A story in phases: `mood` gives what the moment holds, by seconds since the start.

    In the spells `away` the makers leave, whatever the story says. `factor` is what moves all
    markets at once.
    """

    def __init__(self, name: str, seed: int, calm_s: float, away: Spells) -> None:
        self.factor = Factor(seed)
        self._phases = _PHASES[name](Random(f"{seed} {name}"), calm_s)
        self._away = away

    def mood(self, elapsed_s: float) -> Mood:
        """Return the mood of the step that begins `elapsed_s` after the start."""
        mood = self._scripted(elapsed_s)
        return replace(mood, gone=True) if self._away.on(int(elapsed_s * 1e9)) else mood

    def _scripted(self, elapsed_s: float) -> Mood:
        for phase in self._phases:
            if elapsed_s < phase.seconds:
                return self._in(phase)
            elapsed_s -= phase.seconds
        return CALM

    @staticmethod
    def _in(phase: Phase) -> Mood:
        return replace(phase.mood, drift=phase.move * STEP_S / phase.seconds)


def _calm(_chance: Random, _calm_s: float) -> list[Phase]:
    return []


def _trend(chance: Random, calm_s: float) -> list[Phase]:
    sign = chance.choice((1.0, -1.0))
    phases = [Phase(min(calm_s, 30.0))]
    for _ in range(500):
        phases.append(Phase(90.0, sign * chance.uniform(0.001, 0.0022), Mood(trades=1.6)))
        phases.append(Phase(35.0, -sign * chance.uniform(0.0002, 0.0007), Mood(vol=1.3)))
    return phases


def _crash(chance: Random, calm_s: float) -> list[Phase]:
    total = math.log(1 - chance.uniform(0.28, 0.34))
    gap = math.log(1 - chance.uniform(0.07, 0.09))
    rest = total - gap
    panic = Mood(vol=3.0, depth=0.18, spread=6.0, trades=9.0, lapse=0.01)
    pause = Mood(vol=2.5, depth=0.25, spread=4.0, trades=6.0, lapse=0.005)
    # Crashes hit where the crowd leans: the last stretch of the calm drifts up and draws it in.
    rally_s = min(calm_s, 120.0)
    return [
        Phase(calm_s - rally_s),
        Phase(rally_s, 0.008, Mood(trades=1.4)),
        Phase(0.8, gap, Mood(vol=2.0, depth=0.12, spread=8.0, trades=15.0, lapse=0.05)),
        Phase(22.0, rest * 0.6, panic),
        Phase(12.0, rest * -0.08, pause),
        Phase(30.0, rest * 0.4, panic),
        Phase(14.0, rest * 0.08, Mood(vol=4.0, depth=0.12, spread=8.0, trades=12.0, lapse=0.01)),
        Phase(50.0, total * -0.33, Mood(vol=2.5, depth=0.35, spread=3.0, trades=6.0, lapse=0.005)),
        Phase(300.0, 0.0, Mood(vol=1.8, depth=0.7, spread=1.5, trades=2.0, lapse=0.003)),
    ]


def _halt(chance: Random, calm_s: float) -> list[Phase]:
    jump = chance.choice((1.0, -1.0)) * chance.uniform(0.008, 0.02)
    return [
        Phase(calm_s),
        # The world goes on while the chain stands: the price is elsewhere when it wakes.
        Phase(60.0, jump, Mood(frozen=True)),
        Phase(10.0, 0.0, Mood(vol=2.5, depth=0.4, spread=3.0, trades=6.0, lapse=0.005)),
    ]


def _funding_squeeze(_chance: Random, calm_s: float) -> list[Phase]:
    ramp = [Phase(10.0, 0.0004, Mood(vol=1.2, trades=1.8, basis_bps=4.0 * n)) for n in range(1, 21)]
    return [Phase(min(calm_s, 30.0)), *ramp, Phase(1e9, 0.0, Mood(trades=1.5, basis_bps=80.0))]


def _revert(_chance: Random, calm_s: float) -> list[Phase]:
    return [Phase(min(calm_s, 30.0)), Phase(1e9, 0.0, Mood(swing=REVERT))]


def _pair(_chance: Random, calm_s: float) -> list[Phase]:
    return [Phase(min(calm_s, 30.0)), Phase(1e9, 0.0, Mood(swing=PAIR))]


_PHASES: Final = {
    "calm": _calm,
    "trend": _trend,
    "crash": _crash,
    "halt": _halt,
    "funding-squeeze": _funding_squeeze,
    "revert": _revert,
    "pair": _pair,
}

# === Returns ===


class VolatilityLevel:
    """A slow log-normal level around 1, with bursts: clustered returns with fat tails."""

    # Twenty minutes of memory give the autocorrelation measured on absolute minute returns, and
    # the bursts of about forty seconds the kurtosis that the slow level alone does not reach.
    _SD = 0.6
    _KEEP = math.exp(-1.0 / 1200.0)
    _BURST_KEEP = math.exp(-1.0 / 40.0)

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._log = chance.gauss(0.0, self._SD) * 0.5
        self._burst = 0.0
        self.level = math.exp(self._log - self._SD**2)

    def second(self) -> None:
        """Let one second pass."""
        shock = self._chance.gauss(0.0, self._SD * math.sqrt(1 - self._KEEP**2))
        self._log = self._log * self._KEEP + shock
        self._burst *= self._BURST_KEEP
        if self._chance.random() < 1.0 / 1200.0:
            self._burst += self._chance.expovariate(0.4)
        self.level = math.exp(self._log - self._SD**2) * (1.0 + self._burst)


class Displacement:
    """How far one market's price is from where its walk alone would have it."""

    def __init__(self, seed: int, number: int, ticker: str) -> None:
        self.bps = 0.0
        self._alone = Random(f"{seed} displaced {ticker}")
        # Both of a pair draw the same; the second goes the other way.
        self._paired = Random(f"{seed} displaced pair {number // 2}")
        self._side = -1.0 if number % 2 else 1.0
        self._wait_s: float | None = None

    def second(self, swing: Swing) -> float:
        """Let one second pass; return what it adds to the price, a log return."""
        chance = self._paired if swing.paired else self._alone
        if self._wait_s is None:
            self._wait_s = chance.uniform(swing.least_s, swing.most_s)
        before = self.bps
        self.bps *= 0.5 ** (1.0 / swing.half_life_s)
        self._wait_s -= 1.0
        if self._wait_s <= 0.0:
            self._wait_s = chance.uniform(swing.least_s, swing.most_s)
            self.bps = swing.amplitude_bps * chance.uniform(0.5, 1.0) * chance.choice((1.0, -1.0))
            if swing.paired:
                self.bps *= self._side / 2.0
        return (self.bps - before) * 1e-4


class Factor:
    """What all markets share: the common return of each step."""

    SIGMA_BPS: Final = 3.6

    def __init__(self, seed: int) -> None:
        self._chance = Random(f"{seed} factor")
        self._volatility = VolatilityLevel(self._chance)

    def step(self, mood: Mood, whole_second: bool) -> float:
        """Return the common log return of this step."""
        if whole_second:
            self._volatility.second()
        sigma = self.SIGMA_BPS * 1e-4 * math.sqrt(STEP_S / 60.0)
        return mood.drift + self._chance.gauss(0.0, sigma * self._volatility.level * mood.vol)


# === Liquidity ===


@dataclass(slots=True)
class Quote:
    """One background order on the book, and how far from the fair price it likes to stand."""

    order: Order
    rank: int


@dataclass(frozen=True, slots=True)
class TapeTrade:
    """One match on the tape; the side is the taker's."""

    side: Side
    subticks: int
    quantums: int
    kind: str = "LIMIT"


Level = tuple[Side, int, int]
"""A side of the book, a price in subticks, and a size in quantums."""

MAKERS: Final = tuple(Subaccount(f"maker{n}", 0) for n in range(4))
TAKERS: Final = tuple(Subaccount(f"taker{n}", 0) for n in range(4))


def named(subaccount: Subaccount) -> bool:
    """Return whether an account has a ledger, unlike the crowd that quotes and takes."""
    return subaccount.owner.startswith("dydx")


class _Crowd(Positions):
    """Accounts without books: nobody reads what the crowd holds."""

    def settle(self, match: Match) -> None:
        """Store nothing."""


_OTHER: Final[dict[Side, Side]] = {"BUY": "SELL", "SELL": "BUY"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How the makers and takers of one market behave, fixed by its listing.

    Rates are per second; `idio` is the deviation of its own one-minute return, `alert` the chance
    that a stale quote is hit in a step, `excite` what one trade adds to the rate of the next.
    """

    slots: int
    slot_usd: float
    quote_rate: float
    width_bps: float
    idio: float
    trade_rate: float
    alert: float
    excite: float
    mean_usd: float


def habits_of(listing: Listing) -> Habits:
    """Return how a market behaves by what is listed of it."""
    liveliness = min(listing.volume / 2.5e8, 1.0)
    # Half of all trades are caused by an earlier one; a quiet market still trades some.
    # One taker makes more than one trade, and some hit what the makers forgot to pull.
    a_second = max(listing.trades / 86_400.0, 1 / 150.0)
    return Habits(
        slots=14 + int(34 * liveliness**0.25),
        slot_usd=max(60.0, 16_000.0 * liveliness**0.42),
        quote_rate=max(0.5, 22.0 * liveliness**0.32),
        width_bps=max(60.0, 9.0 * listing.spread_bps),
        idio=math.sqrt(max(listing.sigma_bps**2 - (3.6 * listing.beta) ** 2, 1.0)) * 1e-4,
        trade_rate=a_second / 4.0,
        alert=min(0.3, 0.5 * a_second),
        excite=0.5 / (5.0 * (a_second / 4.0)),
        mean_usd=min(max(listing.volume / max(listing.trades, 1.0), 40.0), 7_300.0),
    )


class Market:
    """One market: its fair price, its book, and those who quote and take without a name.

    `drain` hands over what happened: the levels whose total changed, the quotes that were left to
    expire, the trades, and the orders of named accounts that left the book unfilled.
    """

    def __init__(self, listing: Listing, seed: int) -> None:
        self.listing = listing
        self.book = OrderBook(listing.market, _Crowd(), track_changes=True)
        self.fair = listing.price
        self.basis_bps = 0.0
        self.trades: list[TapeTrade] = []
        self.removed: list[tuple[Order, str]] = []
        self.lapsed: list[Level] = []
        self._chance = Random(f"{seed} {listing.ticker}")
        self._volatility = VolatilityLevel(self._chance)
        self._displacement = Displacement(seed, self.market.clob_pair_id, listing.ticker)
        self._quotes: dict[Side, list[Quote | None]] = {"BUY": [], "SELL": []}
        self._client_id = 0
        self._flow = 0.0
        self._excitement = 0.0
        self._habits = habits_of(listing)
        for side in ("BUY", "SELL"):
            self._quotes[side] = [None] * self._habits.slots
            for rank in range(self._habits.slots):
                self._quote(side, rank, CALM)
        self.drain()

    @property
    def market(self) -> PerpetualMarket:
        """Return the market's grid and margins."""
        return self.listing.market

    @property
    def _scale(self) -> float:
        market = self.market
        return 10.0 ** (market.atomic_resolution - market.quantum_conversion_exponent + 6)

    # --- one step ---

    def step(self, mood: Mood, common: float, whole_second: bool) -> None:
        """Let one step pass: move the fair price, pull what is stale, quote, and trade."""
        self._move(mood, common, whole_second)
        if mood.gone:
            self._leave(mood)
        if mood.frozen or mood.gone:
            return
        self._chase(mood)
        for _ in range(self._count(self._habits.quote_rate * self._hurry(mood) * STEP_S)):
            side: Side = "BUY" if self._chance.random() < 0.5 else "SELL"
            rank = int(self._habits.slots * self._chance.random() ** 2)
            self._requote(side, rank, mood)
        rate = self._habits.trade_rate * mood.trades * (1.0 + min(self._excitement, 5.0))
        for _ in range(min(self._count(rate * STEP_S), 6)):
            self._take(mood)
        self._excitement *= 0.98

    def drain(self) -> tuple[list[Level], list[Level], list[TapeTrade], list[tuple[Order, str]]]:
        """Hand over levels with their totals, lapsed quotes, trades and removals since last."""
        happened = self.book.take_changes(), self.lapsed, self.trades, self.removed
        self.lapsed, self.trades, self.removed = [], [], []
        return happened

    def execute(self, order: Order) -> Placement:
        """Place an order, anybody's, and write its fills on the tape."""
        result = self.book.place(order)
        kind = "LIQUIDATED" if order.liquidation else "LIMIT"
        for match in result.fills:
            self.trades.append(TapeTrade(order.side, match.subticks, match.quantums, kind))
        if result.removed:
            self.removed += [pair for pair in result.removed if named(pair[0].subaccount)]
        return result

    @property
    def mid(self) -> float:
        """Return the middle of the book, the fair price where a side is empty."""
        bid, ask = self.book.best_bid, self.book.best_ask
        if bid is None or ask is None:
            return self.fair
        return (bid + ask) / 2.0 / self._scale

    # --- the price ---

    def _move(self, mood: Mood, common: float, whole_second: bool) -> None:
        if whole_second:
            self._volatility.second()
            target = mood.basis_bps * self.listing.beta
            self.basis_bps += 0.05 * (target - self.basis_bps) + self._chance.gauss(0.0, 0.12)
            if mood.swing is not None:
                self.fair *= math.exp(self._displacement.second(mood.swing))
        sigma = self._habits.idio * math.sqrt(STEP_S / 60.0) * self._volatility.level * mood.vol
        self.fair *= math.exp(common * self.listing.beta + self._chance.gauss(0.0, sigma))

    @property
    def _centre(self) -> float:
        return self.fair * (1.0 + self.basis_bps * 1e-4)

    def _hurry(self, mood: Mood) -> float:
        return 1.0 + 0.35 * (mood.trades - 1.0)

    def _count(self, expected: float) -> int:
        whole = int(expected)
        return whole + (self._chance.random() < expected - whole)

    # --- the makers ---

    def _quote(self, side: Side, rank: int, mood: Mood) -> None:
        half = self.listing.spread_bps * mood.spread / 2.0
        reach = (
            self._habits.width_bps
            * (rank / self._habits.slots) ** 2
            * (1.0 + 0.4 * (mood.spread - 1.0))
        )
        offset = half * self._chance.uniform(0.85, 1.25) + reach * self._chance.uniform(0.8, 1.2)
        sign = -1.0 if side == "BUY" else 1.0
        price = self._centre * (1.0 + sign * offset * 1e-4)
        subticks = self.to_subticks(price, side)
        depth = mood.depth * (0.35 + 1.4 * rank / self._habits.slots)
        usd = self._habits.slot_usd * depth * self._chance.lognormvariate(-0.25, 0.7)
        order = self._order(self._chance.choice(MAKERS), side, usd, subticks, "POST_ONLY")
        self.execute(order)
        resting = order.key in self.book.orders
        self._quotes[side][rank] = Quote(order, rank) if resting else None

    def _requote(self, side: Side, rank: int, mood: Mood) -> None:
        quote = self._quotes[side][rank]
        if quote is not None:
            self._pull(quote, mood)
            # In a thin moment who pulls does not always come back.
            if self._chance.random() > 0.4 + 0.6 * mood.depth:
                return
        self._quote(side, rank, mood)

    def _pull(self, quote: Quote, mood: Mood) -> None:
        """Take a quote off the book; whether by a cancel or by its end the indexer cannot see."""
        order = quote.order
        if self._chance.random() < mood.lapse and order.key in self.book.orders:
            self.lapsed.append((order.side, order.subticks, order.remaining))
        self.book.cancel(order.key)
        self._quotes[order.side][quote.rank] = None

    def _leave(self, mood: Mood) -> None:
        """Pull every quote but one of each side, far away."""
        for side, quotes in self._quotes.items():
            if not any(quotes[1:]):
                continue
            for quote in filter(None, quotes):
                self._pull(quote, mood)
            away = self._chance.uniform(0.085, 0.095) * (-1 if side == "BUY" else 1)
            subticks = self.to_subticks(self.fair * (1 + away), side)
            usd = self._habits.slot_usd
            order = self._order(self._chance.choice(MAKERS), side, usd, subticks, "POST_ONLY")
            self.execute(order)
            self._quotes[side][0] = Quote(order, 0)

    def _chase(self, mood: Mood) -> None:
        """Deal with quotes the fair price has run through: pulled in time, or hit."""
        centre = self._centre * self._scale
        bid, ask = self.book.best_bid, self.book.best_ask
        if bid is not None and bid > centre:
            self._stale("BUY", centre, mood)
        elif ask is not None and ask < centre:
            self._stale("SELL", centre, mood)
        # Somebody always makes a price in the end, if not a good one.
        sides: tuple[tuple[Side, int | None], ...]
        sides = ("BUY", self.book.best_bid), ("SELL", self.book.best_ask)
        for side, best in sides:
            if best is None and self._chance.random() < 0.6:
                for rank in range(3, self._habits.slots, 4):
                    self._requote(side, rank, mood)

    def _stale(self, side: Side, centre: float, mood: Mood) -> None:
        if self._chance.random() < self._habits.alert * mood.trades:
            usd = self._habits.mean_usd * self._chance.lognormvariate(0.0, 1.0)
            limit = self.to_subticks(self._centre, side)
            taker = self._order(self._chance.choice(TAKERS), _OTHER[side], usd, limit, "IOC")
            self.execute(taker)
        sign = 1 if side == "BUY" else -1
        for rank, quote in enumerate(self._quotes[side]):
            if quote is None or sign * (quote.order.subticks - centre) <= 0:
                continue
            if self._chance.random() < 0.7:
                self._pull(quote, mood)
                if self._chance.random() < max(mood.depth, 0.5):
                    self._quote(side, rank, mood)

    # --- the takers ---

    def _take(self, mood: Mood) -> None:
        self._flow = 0.9 * self._flow + self._chance.gauss(0.0, 0.25)
        pull = (self._centre - self.mid) / self._centre * 1e4 / max(self.listing.spread_bps, 0.5)
        lean = 0.5 + 0.4 * math.tanh(self._flow + 0.6 * pull + mood.drift * 2_000.0)
        side: Side = "BUY" if self._chance.random() < lean else "SELL"
        usd = self._habits.mean_usd * max(mood.depth, 0.3) * self._chance.lognormvariate(-0.98, 1.4)
        worst = self._centre * (1.0 + (1 if side == "BUY" else -1) * 0.01 * mood.spread)
        limit = self.to_subticks(worst, _OTHER[side])
        self.execute(self._order(self._chance.choice(TAKERS), side, usd, limit, "IOC"))
        self._excitement += self._habits.excite

    # --- the book ---

    def _order(
        self, subaccount: Subaccount, side: Side, usd: float, subticks: int, kind: str
    ) -> Order:
        self._client_id += 1
        step = self.market.step_base_quantums
        base = usd / self.fair * 10.0**-self.market.atomic_resolution
        return Order(
            subaccount=subaccount,
            client_id=self._client_id,
            clob_pair_id=self.market.clob_pair_id,
            side=side,
            quantums=max(int(base / step), 1) * step,
            subticks=subticks,
            time_in_force="IOC" if kind == "IOC" else "POST_ONLY",
        )

    def to_subticks(self, price: float, side: Side) -> int:
        """Align a price to the ticks, away from the other side."""
        tick = self.market.subticks_per_tick
        ticks = price * self._scale / tick
        return max(math.floor(ticks) if side == "BUY" else math.ceil(ticks), 1) * tick


def walk_back(chance: Random, price: float, sigma: float) -> Iterator[float]:
    """Yield prices that led to `price`, newest first, each `sigma` (log) from the next."""
    while True:
        yield price
        price *= math.exp(chance.gauss(0.0, sigma))
