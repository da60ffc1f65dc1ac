"""A bot's gate on a paper venue, wired as the bot wires them: what stands there, and why."""

import msgspec
from dydx_conn import Accounts, Frame
from dydx_data import step
from dydx_paper import PaperVenue, account_frame, snapshot
from dydx_risk import (
    Denied,
    GateChange,
    Judgement,
    Policy,
    Risk,
    StandingBracket,
    Withdraw,
)
from dydx_strategy import Decision
from exchange import OWNER, USDC, Exchange, body

TICKER = "BTC-USD"
POLICY = Policy(
    act_below=0.01, restore_to=0.02, keep_above=0.02, max_leverage=20, max_order_usdc=10**6,
    slippage_bps=50, guard_slippage_bps=500, stale_seconds=10**6, max_oracle_bps=2_000,
)  # fmt: skip


class Desk(Exchange):
    """One market, a gate and a venue; `verdicts` is all that was judged."""

    def __init__(
        self, *, guard: bool = False, policy: Policy = POLICY, deposit: int = 100_000
    ) -> None:
        super().__init__(PaperVenue(OWNER, deposit * USDC))
        self.policy, self.guard, self.decisions = policy, guard, 0
        self.verdicts: list[Judgement] = []
        self.boot()
        self.open()
        self.depth(50_000)

    def boot(self) -> None:
        self.accounts, self.risk = Accounts([OWNER]), Risk(self.policy, OWNER, guard=self.guard)

    def restart(self) -> None:
        """Begin a run that knows nothing but the client ids of the one before."""
        ids = (1, self.risk.next_client_id)
        self.boot()
        self.risk.next_client_id = ids[1]
        self.risk.account.orders.remember([ids])
        rows = body(self.frames).get("orders", []) if self.frames else []
        standing = [row for row in rows if row["status"] in ("OPEN", "UNTRIGGERED")]
        contents = snapshot(self.venue.ledger, self.height, standing)
        when = msgspec.structs.replace(self.venue._seen.when, seq=self.seq)
        self.account([account_frame(OWNER, "subscribed", contents, 1, when)])
        for view in self.state.views.values():
            self.judge(self.risk.step(view))

    # --- the world

    def depth(self, middle: float, size: float = 20) -> None:
        """Set the oracle price, with a deep book a dollar around it."""
        self.oracle(middle)
        self.book([(middle - 1, size)], [(middle + 1, size)])

    def blocks(self, count: int = 3) -> None:
        """Let blocks pass, with the book as it is."""
        for _ in range(count):
            self.block()
            self.oracle(self.price)

    @property
    def price(self) -> float:
        """Return the oracle price."""
        oracle = self.state.views[TICKER].oracle
        assert oracle is not None
        return oracle.price

    def move(self, middle: float) -> None:
        """Move the market, and let three blocks take it in."""
        self.depth(middle)
        self.blocks()

    # --- deeds

    def decide(self, target: float, **intent: object) -> list[Judgement]:
        """Decide on a target in base units; return the verdicts of it."""
        self.decisions += 1
        count = len(self.verdicts)
        fields = {"previous_usdc": 0.0, "urgency": 0.5, "score": 50.0} | intent
        self.judge(self.risk.step(Decision(
            ticker=TICKER, seq=self.seq, at=self.at, action="target", reasons=(), scores=(),
            target_usdc=target * self.price, id=f"D{self.decisions}", **fields,  # type: ignore[arg-type]
        )))  # fmt: skip
        return self.verdicts[count:]

    # --- what is so

    @property
    def held(self) -> float:
        """Return what the venue says is held, in base units."""
        return float(self.venue.ledger.position(TICKER)) / 1e10

    @property
    def standing(self) -> list[tuple[str, str, float, float]]:
        """Return what stands on the venue: kind, side, size left and trigger or price."""
        market, rows = self.venue.markets.get(TICKER), []
        if market is None:
            return []
        waiting = market.desk.waiting
        for order in (*waiting.untriggered, *waiting.placed, *market.desk.book.orders.values()):
            kind = order.condition_type if order.reduce_only else order.time_in_force
            at = order.trigger_subticks or order.subticks
            rows.append((kind, order.side, order.remaining / 1e10, at / 1e5))
        return sorted(rows)

    @property
    def meant(self) -> list[StandingBracket]:
        """Return the brackets that stand or are on their way, and are not taken back."""
        return [
            bracket
            for bracket in self.risk.account.orders.brackets.values()
            if not bracket.cancel_sent
        ]

    def denials(self) -> list[str]:
        """Return why things were denied."""
        return [one.why for one in self.verdicts if isinstance(one, Denied)]

    # --- wiring

    def see(self, frame: Frame) -> list[Frame]:
        made: list[Frame] = []
        self.seq = frame.seq
        for view in step(self.state, frame):
            made += self.venue.step(view)
            self.judge(self.risk.step(view))
        if frame.channel == "v4_block_height":
            self.account([frame])
        self.account(self.keep(made))
        return made

    def account(self, frames: list[Frame]) -> None:
        for frame in frames:
            for update in self.accounts.step(frame):
                self.judge(self.risk.step(update))

    def judge(self, verdicts: list[Judgement]) -> None:
        self.verdicts += verdicts
        for verdict in verdicts:
            if isinstance(verdict, Denied | GateChange):
                continue
            sent = verdict.cancel if isinstance(verdict, Withdraw) else verdict.order
            self.account(self.keep(self.venue.step(sent)))
