"""The exchange: the venue's clock, its blocks, and whatever a block settles.

    step ──► markets ──► book levels at once      block ──► trades, candles, oracle, funding

Venue time advances in fixed steps, and only here; how fast the steps follow each other is the
business of who calls `step`. Blocks follow each other in 0.6 to 1.4 s of venue time. What a real
indexer gets from the full node's mempool (book levels) goes out at once; what it gets
from the chain (trades, candles, oracle prices, funding, heights) goes out with the block.

Nothing here knows of sockets: everything published goes to a `Sink`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from accounts import Sink, VenueAccounts
from disturbances import NONE, Disturbances, Spells
from dydx_conn import OrderRequest, Subaccount
from market import STEP_NS, STEP_S, Market, Scenario, TapeTrade, listings
from past import History, Past, PastMarket
from replicas import Late, Replicas
from residents import RESIDENTS, Resident
from roundtable import Roundtable
from tape import SECOND_NS, START_HEIGHT, Json, MarketTape, iso

# === Values ===

VERSIONS: Final = {
    "v4_orderbook": "1.0.0",
    "v4_subaccounts": "3.0.0",
    "v4_parent_subaccounts": "3.0.0",
    "v4_trades": "2.1.0",
    "v4_markets": "1.0.0",
    "v4_candles": "1.0.0",
    "v4_block_height": "1.0.0",
}

MINUTE_NS: Final = 60 * SECOND_NS
HOUR_NS: Final = 3600 * SECOND_NS


class Silence:
    """A sink nobody listens to."""

    def wanted(self, channel: str, id: str) -> bool:
        """Return that nobody listens."""
        return False

    def publish(self, channel: str, id: str, contents: Json, subaccount: int | None = None) -> None:
        """Drop it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueSettings:
    """What a venue is made of; the same settings give the same venue."""

    scenario: str = "calm"
    markets: int = 3
    seed: int = 7
    calm_s: float = 240.0
    start_ns: int = 0
    disturbances: Disturbances = NONE
    history: History | None = None


def _pasts(settings: VenueSettings) -> dict[str, PastMarket]:
    """Return the past of each market, by its ticker; of none without a history."""
    if settings.history is None:
        return {}
    past = Past(settings.history, settings.scenario, settings.seed, settings.start_ns, START_HEIGHT)
    listed = listings(settings.markets)
    return {
        listing.ticker: PastMarket(past, listing, late=0 < number == len(listed) - 1)
        for number, listing in enumerate(listed)
    }


# === Exchange ===


class Exchange:
    """All markets, one clock, one chain."""

    def __init__(self, settings: VenueSettings, sink: Sink) -> None:
        self.settings = settings
        # Whoever writes down each order that the node receives, and its answer (--placed).
        self.received: Callable[[Subaccount, OrderRequest, int, str], None] = lambda *_: None
        disturbances, seed = settings.disturbances, settings.seed
        self.sink = Late(sink, disturbances)
        self.now_ns = self.block_ns = settings.start_ns
        self.height = START_HEIGHT
        self._chance = Random(f"{seed} blocks")
        away = Spells(Random(f"{seed} makers"), disturbances.makers_leave, 5.0, 12.0)
        self._scenario = Scenario(settings.scenario, seed, settings.calm_s, away)
        self._next_block_ns = self.now_ns + SECOND_NS
        self.tapes: dict[str, MarketTape] = {}
        pasts = _pasts(settings)
        for listing in listings(settings.markets):
            past = pasts.get(listing.ticker)
            tape = MarketTape(Market(listing, seed), seed, settings.start_ns, past)
            self.tapes[tape.ticker] = tape
        self.accounts = VenueAccounts(self, self.tapes, self.sink)
        self.residents = [
            Resident(name, self.accounts, self, self.tapes, seed) for name in RESIDENTS
        ]
        self.accounts.whole.clear()  # their money is of the genesis block
        self._roundtable = Roundtable(self.tapes, self.sink, seed, settings.start_ns)
        self.replicas = Replicas(self, disturbances, seed)
        self._pending: dict[str, list[TapeTrade]] = {}

    @property
    def pairs(self) -> Mapping[int, MarketTape]:
        """Return the markets by the number of their order book."""
        return self.accounts.pairs

    @property
    def steps(self) -> int:
        """Return how many steps have passed."""
        return (self.now_ns - self.settings.start_ns) // STEP_NS

    def step(self) -> None:
        """Let one step of venue time pass."""
        mood = self._scenario.mood(self.steps * STEP_S)
        whole_second = self.steps % (SECOND_NS // STEP_NS) == 0
        common = self._scenario.factor.step(mood, whole_second)
        self.now_ns += STEP_NS
        for tape in self.tapes.values():
            tape.book.step(mood, common, whole_second)
            self._publish_levels(tape)
        self._roundtable.step(self.now_ns, self.height)
        if self.now_ns >= self._next_block_ns:
            self._next_block_ns = self.now_ns + self._block_time_ns()
            if not mood.frozen:
                self.block()

    def _block_time_ns(self) -> int:
        return int(min(max(self._chance.lognormvariate(-0.2, 0.22), 0.55), 2.5) * SECOND_NS)

    def publish_all(self) -> None:
        """Publish every book as it is, also the removals that were to come late."""
        for tape in self.tapes.values():
            self._publish_levels(tape)
        self._roundtable.remove_expired(self.height)

    def _publish_levels(self, tape: MarketTape) -> None:
        levels, lapsed, trades, removed = tape.book.drain()
        if trades:
            self._pending.setdefault(tape.ticker, []).extend(trades)
        if removed:
            self.accounts.removed(tape, removed)
        wanted = self.sink.wanted("v4_orderbook", tape.ticker)
        for level in tape.levels.change(levels, lapsed, self.height):
            if wanted:
                self.sink.publish("v4_orderbook", tape.ticker, tape.level_update(level))

    # --- a block ---

    def block(self) -> None:
        """Commit what happened since the last block, and publish it."""
        before_ns, self.block_ns = self.block_ns, self.now_ns
        self.height += 1
        self.sink.begin(self.height)
        pending, self._pending = self._pending, {}
        for tape in self.tapes.values():
            self._commit(tape, pending.get(tape.ticker, []))
        self._oracle()
        self._funding(before_ns)
        self.accounts.commit()
        self.sink.publish("v4_block_height", "v4_block_height", self.block_message())
        self.replicas.commit()
        self.sink.end(self.replicas.socket_height)
        for resident in self.residents:
            resident.act()

    def block_message(self) -> Json:
        """Return the newest block as an update reports it."""
        return {"blockHeight": str(self.height), "time": iso(self.block_ns)}

    def _commit(self, tape: MarketTape, trades: list[TapeTrade]) -> None:
        rows = tape.block(trades, self.height, self.block_ns)
        self.accounts.traded(tape, trades)
        if rows:
            self.sink.publish("v4_trades", tape.ticker, {"trades": rows})
        if tape.fresh_candles:
            for name, candles in tape.candles.items():
                id = f"{tape.ticker}/{name}"
                if self.sink.wanted("v4_candles", id):
                    self.sink.publish("v4_candles", id, tape.candle(name, candles.retained[-1]))

    def _oracle(self) -> None:
        wanted = self.sink.wanted("v4_markets", "v4_markets")
        effective = {"effectiveAt": iso(self.block_ns), "effectiveAtHeight": str(self.height)}
        for ticker, tape in self.tapes.items():
            if tape.oracle.observe(tape.book.fair) and wanted:
                price = {
                    "oraclePrice": tape.oracle.text,
                    **effective,
                    "marketId": tape.market.perpetual_id,
                }
                contents = {"oraclePrices": {ticker: price}}
                self.sink.publish("v4_markets", "v4_markets", contents)
            tape.funding.vote()

    def _funding(self, before_ns: int) -> None:
        # The chain samples at half past each minute and pays on the hour.
        half = MINUTE_NS // 2
        if (before_ns - half) // MINUTE_NS != (self.block_ns - half) // MINUTE_NS:
            for tape in self.tapes.values():
                tape.funding.sample()
        if before_ns // HOUR_NS != self.block_ns // HOUR_NS:
            for tape in self.tapes.values():
                tape.funding.tick(self.height, self.block_ns)
            self.accounts.fund()
