"""Residents: named accounts that trade by chance, so that account channels are not empty.

    block ──► Resident.act ──► VenueAccounts.place

Each has an address that nobody holds a key to, a first deposit, and a habit: the quoter rests
orders beside the mid, the follower runs after the price, the dabbler takes and gives back, the
gambler keeps buying the first market until the chain takes it from him.
"""

import hashlib
from collections.abc import Mapping
from random import Random
from typing import Final

import bech32
from accounts import BlockClock, VenueAccounts
from dydx_conn import OrderRequest, Side, Subaccount
from tape import MarketTape


def address_of_resident(name: str) -> str:
    """Return a resident's address: made of the name, so that no key is known."""
    digest = hashlib.sha256(f"resident of the local venue: {name}".encode()).digest()[:20]
    return str(bech32.bech32_encode("dydx", bech32.convertbits(digest, 8, 5) or []))


# === Residents ===

# Name, first deposit in USDC, and the leverage it likes to hold in the first market, if any.
RESIDENTS: Final = {
    "quoter": (250_000, 0.0),
    "follower": (50_000, 0.0),
    "dabbler": (10_000, 0.0),
    "gambler": (20_000, 12.0),
}


class Resident:
    """A named account that trades by chance, so that account channels have something to report."""

    def __init__(
        self,
        name: str,
        accounts: VenueAccounts,
        chain: BlockClock,
        tapes: Mapping[str, MarketTape],
        seed: int,
    ) -> None:
        self.name = name
        self.subaccount = Subaccount(address_of_resident(name), 0)
        self._accounts, self._chain, self._tapes = accounts, chain, tapes
        self._chance = Random(f"{seed} resident {name}")
        self._client_id = 0
        deposit, self._leverage = RESIDENTS[name]
        accounts.faucet(self.subaccount, deposit * 1_000_000)

    def act(self) -> None:
        """Do what this resident does after a block."""
        if self._chance.random() < 0.22:
            getattr(self, f"_{self.name}")()

    def _quoter(self) -> None:
        tape = self._some_market()
        side: Side = self._chance.choice(("BUY", "SELL"))
        held = tape.oracle.value(self._held(tape))
        # Leans against what it already holds.
        if abs(held) > 60_000_000_000:
            side = "SELL" if held > 0 else "BUY"
        away = 1.0 + (-1 if side == "BUY" else 1) * self._chance.uniform(0.5, 6.0) * 1e-4
        self._order(tape, side, self._chance.uniform(500, 5_000), tape.book.mid * away, "POST_ONLY")

    def _follower(self) -> None:
        tape = self._some_market()
        trend = tape.book.fair - float(tape.trades[0]["price"]) if tape.trades else 0.0
        self._order(tape, "BUY" if trend > 0 else "SELL", self._chance.uniform(200, 6_000))

    def _dabbler(self) -> None:
        tape = self._some_market()
        side: Side = self._chance.choice(("BUY", "SELL"))
        held = self._held(tape)
        if held and self._chance.random() < 0.5:
            self._order(tape, "SELL" if held > 0 else "BUY", 1e9, reduce_only=True)
        else:
            self._order(tape, side, self._chance.lognormvariate(5.5, 1.0))

    def _gambler(self) -> None:
        tape = next(iter(self._tapes.values()))
        margin = self._accounts.ledgers[self.subaccount].margin
        if margin.net_collateral > 1_000_000_000 and (margin.leverage or 0.0) < self._leverage:
            missing = self._leverage * margin.net_collateral - margin.notional
            self._order(tape, "BUY", missing / 1e6 * self._chance.uniform(0.1, 0.4))

    def _some_market(self) -> MarketTape:
        cross = [tape for tape in self._tapes.values() if tape.market.market_type == "CROSS"]
        return self._chance.choice(cross[:6])

    def _held(self, tape: MarketTape) -> int:
        return self._accounts.ledgers[self.subaccount].position(tape.ticker)

    def _order(
        self,
        tape: MarketTape,
        side: Side,
        usd: float,
        price: float = 0.0,
        kind: str = "IOC",
        *,
        reduce_only: bool = False,
    ) -> None:
        self._client_id += 1
        market = tape.market
        if not price:
            price = tape.book.mid * (1.003 if side == "BUY" else 0.997)
        step = market.step_base_quantums
        quantums = int(usd / price * 10.0**-market.atomic_resolution / step) * step
        if reduce_only:
            quantums = min(quantums, abs(self._held(tape)))
        request = OrderRequest(
            ticker=tape.ticker,
            clob_pair_id=market.clob_pair_id,
            side=side,
            quantums=max(quantums, step),
            subticks=tape.book.to_subticks(price, side),
            time_in_force="POST_ONLY" if kind == "POST_ONLY" else "IOC",
            client_id=self._client_id,
            reduce_only=reduce_only,
            good_til_block=self._chain.height + self._chance.randint(4, 18),
            client_metadata=0 if kind == "POST_ONLY" else 1,
        )
        self._accounts.place(self.subaccount, request)
