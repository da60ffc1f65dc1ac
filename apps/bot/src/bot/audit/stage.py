"""A day of a market as an audit needs it: wire texts in, and the bot's own composition behind them.

    Stage.book, block, oracle … ─► WireWriter ─► Frame ─► DataState ─► Bot ─► journal, ledger
    Stage.buy, sell, place ────────► past the gate: what somebody sends by hand
    Stage.want ────────────────────► a decision, through the gate

Nothing stands for anything here: the venue is the paper one, gate and guard are those of every run.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
from dydx_conn import (
    CancelRequest,
    Frame,
    OrderRequest,
    OrderState,
    PerpetualMarket,
    WireWriter,
    limit,
    market_fields,
)
from dydx_data import DataState, step
from dydx_paper import AccountFigures, PaperVenue
from dydx_risk import Policy
from dydx_signals import Scored
from dydx_strategy import Decision, Holdings

from bot.run.composition import Bot, Options
from bot.run.journal import JournalEntry
from bot.run.resume import ACCOUNT, Left

BTC: Final = "BTC-USD"
ETH: Final = "ETH-USD"
USDC: Final = 1_000_000
_HOUR_S: Final = 3_600
_PACE_S: Final = 31
_START: Final = 1_700_000_000 - 1_700_000_000 % _HOUR_S  # on an hour
_END: Final = _START + 86_400
BIDS: Final = ((49_999, 1), (49_990, 2))
ASKS: Final = ((50_001, 1), (50_010, 2))


class Scripted:
    """A strategy that decides what it is given, with the next score of its market."""

    name = "audit"

    def __init__(self) -> None:
        self.wanted: dict[str, tuple[float, dict[str, Any]]] = {}

    def step(self, scored: Scored, _: Holdings) -> Iterator[Decision]:
        """Decide what is wanted of a market, once."""
        if (wanted := self.wanted.pop(scored.ticker, None)) is not None:
            yield Decision.of(scored, wanted[0], "the audit wants it", **wanted[1])


class Stage:
    """Two markets with books, and one paper account; `policy` is that of the gate.

    The account begins with what another run `left`, where there is that.
    """

    def __init__(
        self, *, deposit: int = 100_000, guard: bool = True, policy: Policy | None = None,
        left: Left | None = None,
    ) -> None:  # fmt: skip
        self.data, self.script = DataState(), Scripted()
        options = Options(deposit=deposit, guard=guard, policy=policy or Policy(), strict=True)
        self.bot = Bot(options, data=self.data, strategy=lambda: self.script)
        self.height, self.second, self.client = 1_000, 10, 0
        self.note: Callable[[Frame], object] = lambda _: None  # who takes each frame, too
        self._wire = WireWriter()
        if left is not None:
            self._see("event", "state", left.text, link=ACCOUNT, id=f"{left.run}/audit")
            self.client = self.bot.risk.next_client_id
        self._see("message", "connected")
        self._see("block", self.height, self._time, snapshot=True)
        eth = market_fields(ETH, price="2000", nextFundingRate="-0.00002")
        btc = market_fields(BTC, price="50000", nextFundingRate="0.00001", openInterest="100")
        self._see("markets", btc, eth)
        self.book()
        self.book([("1999", 50)], [("2001", 50)], ETH)

    # --- the world moves

    def book(
        self, bids: Iterable[Any] = BIDS, asks: Iterable[Any] = ASKS, ticker: str = BTC
    ) -> None:
        """Send a whole book."""
        self._see("book", ticker, [*bids], [*asks])

    def levels(self, bids: Iterable[Any] = (), asks: Iterable[Any] = (), ticker: str = BTC) -> None:
        """Change levels of a book; a size of 0 takes one away."""
        self._see("levels", ticker, [*bids], [*asks])

    def touch(self, ticker: str = BTC) -> None:
        """Let the book change where it does not matter: what waits is matched."""
        self._see("levels", ticker, [("1", self.client + 1)], [])

    def block(self, seconds: int = 1) -> None:
        """Let a block pass, some seconds later."""
        self.height, self.second = self.height + 1, self.second + seconds
        self._see("block", self.height, self._time)

    def oracle(self, price: Any, ticker: str = BTC) -> None:
        """Move an oracle price, and with it a book of ten on each side around it."""
        self._see("oracle", ticker, price)
        self.block()

    def market_at(self, price: int, size: int = 10) -> None:
        """Move everything to a price: the book first, then the oracle."""
        self.book([(price - 1, size)], [(price + 1, size)])
        self.oracle(price)

    def change(self, ticker: str = BTC, **fields: str) -> None:
        """Change what the venue reports of a market."""
        self._see("trading", ticker, **fields)

    def refuse(self, path: str, status: int, msg: str) -> None:
        """Answer a request over HTTP with a refusal."""
        self._see("answer", path, {"errors": [{"msg": msg}]}, status)

    def lose(self) -> None:
        """Lose the connection."""
        self._see("event", "close")

    # --- somebody acts

    def place(self, order: OrderRequest | CancelRequest) -> None:
        """Send past the gate, and let a block show what the venue reports."""
        self.bot.place(order)
        self._see("event", "tick", link="clock")

    def order(
        self, side: Any, size: str, price: str, ticker: str = BTC, **terms: Any
    ) -> OrderRequest:
        """Build an order; an IOC for the next twenty blocks where nothing else is chosen."""
        self.client += 1
        ends = {} if "good_til_block_time" in terms else {"good_til_block": self.height + 20}
        usual = {"client_id": self.client, "time_in_force": "IOC", **ends}
        return limit(self.market(ticker), side, size, price, **{**usual, **terms})

    def trade(
        self, side: Any, size: str, price: str, ticker: str = BTC, **terms: Any
    ) -> OrderRequest:
        """Place an order and let the market go on, so that it is matched."""
        order = self.order(side, size, price, ticker, **terms)
        self.place(order)
        self.touch(ticker)
        return order

    def want(self, ticker: str, usdc: float, **exits: float) -> JournalEntry:
        """Decide on a target, and maybe where to leave; return the entry of the verdict."""
        # A strategy changes its mind no sooner than after half a minute; prices stay known.
        self.block(_PACE_S)
        for name in (BTC, ETH):
            if (oracle := self.data.views[name].oracle) is not None:
                self._see("oracle", name, oracle.price)
        before = len(self.bot.journal.entries)
        self.script.wanted[ticker] = usdc, exits
        self.touch(ticker)
        made = [*self.bot.journal.entries][before:]
        return next(entry for entry in made if entry.kind in ("approved", "denied"))

    def act(self, what: str, why: str = "audit") -> None:
        """Do what a person may: halt, resume, flatten."""
        self._see("event", "act", why, link="person", type=what)

    # --- what came of it

    @property
    def venue(self) -> PaperVenue:
        """Return the venue, whose ledger has the money to the quantum."""
        assert isinstance(self.bot.venue, PaperVenue)  # noqa: S101 - the composition's own
        return self.bot.venue

    @property
    def money(self) -> AccountFigures:
        """Return what the account earned, in quote quantums."""
        return self.venue.figures()

    def market(self, ticker: str = BTC) -> PerpetualMarket:
        """Return a market's parameters."""
        found = self.data.views[ticker].market
        if found is None:
            raise LookupError(f"expected parameters of {ticker}, got none")
        return found

    def state(self, order: OrderRequest) -> OrderState:
        """Return how an order stands, as the account's one reader has it."""
        states = self.bot.venue.accounts.orders.orders.values()
        return next(s for s in states if s.named and s.named.client_id == order.client_id)

    def statuses(self, order: OrderRequest) -> list[str]:
        """Return each status that the journal has of an order, in order."""
        id_ = self.state(order).id
        found = [e.value.status for e in self.bot.journal.of_kind("order") if e.value.id == id_]
        return [now for now, was in zip(found, [None, *found], strict=False) if now != was]

    def fills(self) -> list[JournalEntry]:
        """Return all fills."""
        return self.bot.journal.of_kind("fill")

    def size(self, ticker: str = BTC) -> str:
        """Return what risk knows to be held of a market, signed, in base units."""
        held = self.bot.risk.account.positions.get(ticker)
        return "0" if held is None else f"{held.size.normalize():f}"

    # --- underneath

    @property
    def _time(self) -> str:
        return datetime.fromtimestamp(_START + self.second, UTC).isoformat()[:19] + "Z"

    def _see(self, what: str, *args: Any, **more: Any) -> None:
        wire = self._wire
        wire.at = wire.mono = (_START + self.second) * 10**9
        frame: Frame = getattr(wire, what)(*args, **more)
        wire.seq = frame.seq
        self.bot.shown.last_frames.append(frame)
        self.note(frame)
        for view in step(self.data, frame):
            self.bot.see(view)
        self.bot.settle(frame)
        if self.bot.failure is not None:
            raise self.bot.failure


def usdc(quantums: int) -> str:
    """Return money exactly, in USDC."""
    return f"{Decimal(quantums).scaleb(-6).normalize():f} USDC"


def later(order: OrderRequest, **terms: Any) -> OrderRequest:
    """Return an order with some of its terms changed."""
    return msgspec.structs.replace(order, **terms)


LONG_TERM_END: Final = _END
