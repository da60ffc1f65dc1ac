"""A small venue in wire text: what is sent here goes through the layers below, as live."""

from decimal import Decimal
from typing import Any

from dydx_conn import (
    AccountUpdate,
    Frame,
    GridError,
    OrderState,
    PositionState,
    Profit,
    Subaccount,
    WireWriter,
    market_fields,
    number,
)
from dydx_data import DataState, MarketView, step
from dydx_risk import (
    GateChange,
    MarginFigures,
    Policy,
    Reduce,
    Risk,
    Verdict,
    position_margin,
    total_margin,
)
from dydx_strategy import Decision

OWNER = Subaccount("dydx1abc", 0)
SECOND = 1_000_000_000


class World:
    """Send as the venue and receive what risk judges."""

    def __init__(self, policy: Policy | None = None, *, guard: bool = True) -> None:
        self.state = DataState()
        self.risk = Risk(policy, OWNER, guard=guard)
        self.verdicts: list[Verdict] = []
        self.changes: list[GateChange] = []
        self.seq = 0
        self.at = 0
        self.height = 0
        self._wire = WireWriter()

    @property
    def wire(self) -> WireWriter:
        """Return what writes the next frame."""
        self._wire.seq, self._wire.at, self._wire.mono = self.seq, self.at, self.at
        return self._wire

    def send(self, frame: Frame) -> list[Verdict]:
        """Send a market frame and let risk see each view it touched."""
        self.seq = frame.seq
        return [v for view in step(self.state, frame) for v in self.put(view)]

    def put(self, event: MarketView | AccountUpdate | Decision | Frame) -> list[Verdict]:
        """Put an event to risk; return its verdicts, and gather them and what the gate became."""
        judged = self.risk.step(event)
        verdicts = [value for value in judged if not isinstance(value, GateChange)]
        self.changes += [value for value in judged if isinstance(value, GateChange)]
        self.verdicts += verdicts
        return verdicts

    def markets(self, *fields: dict[str, Any]) -> None:
        """Send a snapshot of the markets."""
        self.send(self.wire.markets(*fields))

    def block(
        self, height: int | None = None, time: str = "2026-07-14T09:31:07.000Z"
    ) -> list[Verdict]:
        """Let a block pass, a second later."""
        self.height = height or self.height + 1
        self.at += SECOND
        return self.send(self.wire.block(self.height, time))

    def oracle(self, ticker: str, price: str) -> list[Verdict]:
        """Move an oracle price."""
        return self.send(self.wire.oracle(ticker, price))

    def book(self, ticker: str, bids: list[tuple[str, str]], asks: list[tuple[str, str]]) -> Any:
        """Send a snapshot of a book."""
        return self.send(self.wire.book(ticker, bids, asks))

    def account(self, usdc: str, positions: dict[str, tuple[str, str]] | None = None) -> None:
        """Report what the whole account holds: positions are ticker -> (signed size, entry price)."""
        held, wanted = self.risk.account.positions, positions or {}
        states = [state_of(ticker, *of) for ticker, of in wanted.items()]
        states += [state_of(ticker, "0") for ticker in held.keys() - wanted.keys()]
        self.update(
            collateral=quantums(usdc),
            settled=quantums(usdc) != self.risk.account.collateral,
            positions=tuple(state for state in states if state is not None),
            unreadable=tuple(t for t, (size, _) in wanted.items() if state_of(t, size) is None),
        )

    def update(self, **changed: Any) -> list[Verdict]:
        """Hand an account update in: what it leaves out of the account is as it was."""
        account = self.risk.account
        known = account.trouble != "no account snapshot yet"
        before = {
            "collateral": account.collateral if known else None,
            "height": account.height,
            "unreadable": tuple(account.unreadable),
            "profit": Profit(transferred=account.profit.transferred),
        }
        self.seq += 1
        update = AccountUpdate(
            seq=self.seq, at=self.at, subaccount=OWNER, **(before | changed)
        )  # fmt: skip
        return self.put(update)

    def lose(self) -> None:
        """Lose the account's link."""
        self.update(doubt="account frames were lost: close")

    def order(self, id: str, status: Any, filled: str = "0", **known: Any) -> None:
        """Report how an order stands."""
        state = OrderState(id=id, status=status, filled=Decimal(filled), seq=self.seq, **known)
        self.update(orders=(state,))

    def decide(self, ticker: str, usdc: float, action: Any = "target") -> Verdict:
        """Hand a decision in and return the one verdict."""
        (verdict,) = self.put(decision(ticker, usdc, self.seq, self.at, action))
        return verdict

    def fill(self, verdict: Any, usdc: str, size: str, entry: str = "3000") -> None:
        """Answer a verdict's order with a fill: the new position and balance, the order done."""
        ticker = verdict.order.ticker
        done = OrderState(id=self.order_id(ticker), status="FILLED", seq=self.seq)
        self.update(
            positions=(state_of(ticker, size, entry),),
            collateral=quantums(usdc),
            settled=True,
            orders=(done,),
        )

    def order_id(self, ticker: str) -> str:
        """Name the order in flight."""
        return self.risk.account.orders.in_flight(ticker)[-1].order_id

    def margin_from_nothing(self) -> MarginFigures:
        """Value the account from what it holds and the newest prices, no step between them."""
        terms = []
        for ticker, held in self.risk.account.positions.items():
            view = self.state.views[ticker]
            assert view.market is not None
            assert view.oracle is not None
            assert held.quantums is not None
            price = view.oracle.digits, view.oracle.exponent
            terms.append(position_margin(view.market, held.quantums, *price, view.open_interest))
        return total_margin(self.risk.account.settled, terms)

    @property
    def reductions(self) -> list[Reduce]:
        """Return what the guard sent."""
        return [verdict for verdict in self.verdicts if isinstance(verdict, Reduce)]


def state_of(ticker: str, size: str, entry: str = "0") -> PositionState | None:
    """Read a position; None if its size is no number."""
    try:
        return PositionState(ticker=ticker, size=number(size), entry_price=number(entry))
    except GridError:
        return None


def quantums(usdc: str) -> int:
    """Read USDC as quote quantums."""
    return int(Decimal(usdc).scaleb(6))


def decision(
    ticker: str,
    usdc: float,
    seq: int = 0,
    at: int = 0,
    action: Any = "target",
    urgency: float = 0.5,
) -> Decision:
    """Want an exposure."""
    return Decision(
        id=f"D{seq}",
        ticker=ticker,
        seq=seq,
        at=at,
        action=action,
        target_usdc=usdc,
        previous_usdc=0.0,
        urgency=urgency,
        score=70.0,
        reasons=("because",),
        scores=(),
    )


ETH = market_fields("ETH-USD", price="3000", nextFundingRate="0.0001")
BTC = market_fields("BTC-USD", price="60000", nextFundingRate="0.0001")
ETH_BOOK = ([("2999.9", "5"), ("2999", "20")], [("3000.1", "5"), ("3001", "20")])


def open_world(policy: Policy | None = None, *, guard: bool = True, **eth: Any) -> World:
    """Open a venue with two markets, a book of ETH, a block and 10,000 USDC."""
    world = World(policy, guard=guard)
    world.markets(ETH | eth, BTC)
    world.block(100)
    world.book("ETH-USD", *ETH_BOOK)
    world.account("10000")
    return world
