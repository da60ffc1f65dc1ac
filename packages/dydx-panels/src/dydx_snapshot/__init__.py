"""What the screen can show at one moment, and what the person at it chose: values, nothing else.

    live state ── the bot copies ──► Snapshot ──┐
    keys ──────────────────────────► View ──────┴──► the floors above draw them

`Snapshot` holds the layers' own frozen values (decisions, verdicts, scores, margin, the watch of
risk) and copies of what goes on changing, in a part for each panel: `Header`, `Safety`,
`MarketRow`, `Venue`, `Book`, `Quality`, `Speed`, `Wire`, `TapeRow`. `View` is what the person
chose.

Units: money is USDC (quote quantums in the layers' values), sizes base units, fractions 0..1,
scores 0..100, times nanoseconds UTC. What is not known is None.
Nothing here draws, and nothing here can change.
"""

import msgspec
from dydx_conn import Frame, PerpetualMarket
from dydx_data import Level, Sample, Trade
from dydx_paper import Performance
from dydx_risk import MarginFigures, PositionFigures, Reduce, Verdict, Watch
from dydx_signals import Score
from dydx_strategy import Decision

__all__ = [
    "Book",
    "Header",
    "MarketRow",
    "Quality",
    "Safety",
    "Snapshot",
    "Speed",
    "TapeRow",
    "Venue",
    "View",
    "Wire",
    "Witnessed",
]  # fmt: skip

# === Values ===
# Frozen all the way down, so that equality is cheap and says whether to redraw.


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What is always on the first row; `speed` is the replay's, None when not a replay."""

    mode: str = ""
    source: str = ""
    speed: float | None = None
    clock_ns: int | None = None
    connection: str = ""
    lag_p99_ms: float | None = None
    data_age_s: float | None = None
    frames_per_s: float | None = None
    memory_mb: float | None = None
    cpu_percent: float | None = None
    run_hash: str = ""


class Safety(msgspec.Struct, frozen=True, kw_only=True):
    """The account's margin, which holds the distance to liquidation, and the guard around it.

    Without `margin` the distance is not known, a danger while there are `positions`. `change` is
    that of the distance over a minute; without `act_below` there is no guard.
    """

    margin: MarginFigures | None = None
    positions: int | None = None
    change: float | None = None
    closest: float | None = None
    act_below: float | None = None
    restore_to: float | None = None
    last: Reduce | None = None
    history: tuple[float, ...] = ()

    @property
    def distance(self) -> float | None:
        """Return the distance as a fraction of adverse move; None if flat or unknown."""
        return None if self.margin is None else self.margin.distance


class MarketRow(msgspec.Struct, frozen=True, kw_only=True):
    """One market; `history` are closes, oldest first; `stale_s` is None while it is fresh."""

    ticker: str
    market: PerpetualMarket | None = None
    price: float | None = None
    history: tuple[float, ...] = ()
    spread_bps: float | None = None
    volume_60s: float | None = None
    oracle: float | None = None
    funding_1h: float | None = None
    status: str = ""
    stale_s: float | None = None
    scores: tuple[Score, ...] = ()


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """One market's book, best level first, with its newest trades."""

    ticker: str = ""
    market: PerpetualMarket | None = None
    known: bool = False
    bids: tuple[Level, ...] = ()
    asks: tuple[Level, ...] = ()
    mid_price: float | None = None
    spread_bps: float | None = None
    crossed: int = 0
    seq: int = 0
    trades: tuple[Trade, ...] = ()


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """Troubles counted by kind, real samples of them, newest first, and the stale markets."""

    counts: tuple[tuple[str, int], ...] = ()
    samples: tuple[Sample, ...] = ()
    stale: tuple[str, ...] = ()


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """What a frame costs, at percentiles in microseconds, and how many came in each second."""

    latency_us: tuple[tuple[str, float], ...] = ()
    throughput: tuple[float, ...] = ()
    draw_ms: float | None = None


class Wire(msgspec.Struct, frozen=True, kw_only=True):
    """The newest block, what was counted, frames by kind or channel, and the last as they came."""

    height: int | None = None
    block_time_ns: int | None = None
    counts: tuple[tuple[str, int], ...] = ()
    kinds: tuple[tuple[str, int], ...] = ()
    samples: tuple[Frame, ...] = ()


class Witnessed(msgspec.Struct, frozen=True):
    """A market's fills on paper: quote quantums assumed to trade, and what the tape bears out."""

    ticker: str
    assumed: int
    traded: int
    error: float | None = None


class Venue(msgspec.Struct, frozen=True, kw_only=True):
    """How a paper venue filled, what it refused, and how the account did on it.

    `error` is the share of all fills that the tape does not bear out, `pending` the fills that are
    not judged yet, `owed` hours of funding by ticker whose price or rate is not known, `unsettled`
    (quote quantums) what the next fill or transfer credits of it. What a venue does not keep is
    None: an insurance `fund` in quote quantums, the `tier` of its fees.
    """

    performance: Performance | None = None
    liquidations: int | None = None
    maker_ppm: int | None = None
    taker_ppm: int | None = None
    queue: str = ""
    error: float | None = None
    pending: int | None = None
    fills: tuple[Witnessed, ...] = ()
    refusals: tuple[tuple[str, int], ...] = ()
    owed: tuple[tuple[str, int], ...] = ()
    unsettled: int | None = None
    fund: int | None = None
    tier: str | None = None


class TapeRow(msgspec.Struct, frozen=True):
    """One thing that happened, in plain words; `id` is what `why` can be asked about."""

    at: int
    kind: str
    text: str
    ticker: str = ""
    id: str = ""
    seq: int = 0


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the screen can show, at one moment. Rows are newest or most important first.

    `money` are results in quote quantums, `counts` what was sent and what came of it, both by name.
    `watch` is the newest look of risk at the account; without a `venue` there is no paper one.
    """

    header: Header = Header()
    safety: Safety = Safety()
    positions: tuple[PositionFigures, ...] = ()
    markets: tuple[MarketRow, ...] = ()
    decisions: tuple[Decision, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    fills: tuple[TapeRow, ...] = ()
    money: tuple[tuple[str, int], ...] = ()
    counts: tuple[tuple[str, int], ...] = ()
    watch: Watch | None = None
    venue: Venue | None = None
    book: Book = Book()
    quality: Quality = Quality()
    speed: Speed = Speed()
    wire: Wire = Wire()
    tape: tuple[TapeRow, ...] = ()


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What the person at the screen chose.

    `panel` is shown alone if it names one. `selected` counts its rows from 0, or else the tape's;
    -1 for none. `why` are the lines of an overlay, `scroll` its first.
    """

    panel: str = ""
    selected: int = -1
    filter: str = ""
    filtering: bool = False
    paused: bool = False
    help: bool = False
    why: tuple[str, ...] = ()
    why_title: str = ""
    scroll: int = 0
    message: str = ""
