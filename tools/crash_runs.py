"""Policies led down a path: one fold of the market, and behind it an account for each of them.

    frames ──► DataState ──► views ──┬─► Exchange · Bot          (guard, guard and protections)
                  (once)             ├─► Exchange · Bot · Rival  (none, all, half, stop)
                                     └─► Exchange                (hindsight: one sale, no risk)

Each account is a whole Bot with a paper venue of its own, joined as `bot.run.composition` does it;
what they share is the fold of the market data. Every policy looks after every frame. The best of
hindsight needs nobody who looks: it is the best of all sales of a share at the end of one second.
"""

import copy
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Protocol

import msgspec
from bot.config.profiles import PROFILES, RECKLESS
from bot.run.composition import Bot, Options
from bot.run.paper import Paper
from crash_paths import CALM_S, DEPOSIT, Event, Path
from crash_rivals import RIVALS, closing
from crash_wire import Sent, frames_of, height_at
from dydx_conn import Accounts, CancelRequest, ConnError, Frame, OrderRequest, Subaccount
from dydx_data import DataState, MarketView, step
from dydx_paper import account_frame, snapshot
from dydx_risk import Policy

OWNER: Final = Subaccount("dydx1crash", 0)
USDC: Final = 10**6
SECOND: Final = 10**9
OPENS_S: Final = 2  # the second after which the account's positions are ordered
# What is proved is what runs: the policy of the profile that leaves the guard something to do.
BOTH: Final = PROFILES[RECKLESS].policy
GUARD: Final = BOTH.model_copy(update={"protect": False})
GUARDS: Final[Mapping[str, Policy]] = {"guard": GUARD, "both": BOTH}
POLICIES: Final = (*RIVALS, *GUARDS)
_FIRST_CLIENT_ID: Final = 10_000_000  # a restart begins so much higher than what it forgot


class PathOutcome(msgspec.Struct, frozen=True):
    """What became of an account under a policy; money is USDC.

    A deleveraging counts as lost like a liquidation: the chain took the position either way.
    """

    lost: bool
    left: float
    orders: int
    lines: tuple[str, ...] = ()


# === Exchange ===


class Exchange(Paper):
    """The paper venue of one path, with what its family does to orders and account frames.

    Whether an order is lost is drawn from the path's seed, its block and its number within that:
    who sends in the same second meets the same. `second` is the one at hand: whoever plays the path
    moves it on. `truth` are the views that orders fill by, where they differ from what is shown.
    """

    def __init__(self, path: Path, truth: DataState | None = None) -> None:
        super().__init__(OWNER, DEPOSIT * USDC)
        self.second = 0
        self._seed, self._truth = path.seed, truth
        self._lag, self._loss, self._stop = map(path.first, _TROUBLES)
        self._delays = self._delay = _Delay()
        self._sent_in = (0, 0)  # a second, and how many orders
        self._late: list[tuple[int, Frame]] = []  # account frames, and the second they come in

    @property
    def taken(self) -> int:
        """Count what the chain took: liquidations, and positions that were deleveraged."""
        ledger = self.ledger
        return ledger.tally.liquidations + ledger.history.fills(status="DELEVERAGED").total

    @property
    def left(self) -> float:
        """Return what the account is worth to its owner, in USDC: never less than nothing."""
        return max(self.ledger.equity or 0, 0) / USDC

    def step(self, event: MarketView | OrderRequest | CancelRequest) -> list[Frame]:
        """Take one event in, if it arrives; return the account frames that are not late."""
        if isinstance(event, MarketView):
            shown = event if self._truth is None else self._truth.views[event.ticker]
            return self._report(super().step(shown))
        if isinstance(event, OrderRequest) and self.second > CALM_S:
            fate = self._fate()
            if fate == "lost":
                return []
            if fate == "expires":
                self._delay.ns = (event.good_til_block - height_at(self.second) + 1) * SECOND
        frames = super().step(event)
        self._delay.ns = 0
        return self._report(frames)

    def receive(self, frame: Frame) -> Iterable[Frame]:
        """Return the account frames that are due, and blocks."""
        if not self._late:
            return super().receive(frame)
        due = [late for second, late in self._late if second <= self.second]
        self._late = self._late[len(due) :]
        return [*due, *super().receive(frame)]

    def restart(self) -> None:
        """Begin a new connection: its first frame is the account as it is."""
        self.accounts, self._late = Accounts([OWNER]), []
        when = self._seen.when
        contents = snapshot(self.ledger, when.height - 1)
        self._late.append((self.second, account_frame(OWNER, "subscribed", contents, 1, when)))

    def fork(self, front: "Front") -> "Exchange":
        """Return one that goes its own way from here on, on the same views."""
        shared = [front.data, *front.data.views.values()]
        if front.truth is not None:
            shared += [front.truth, *front.truth.views.values()]
        return copy.deepcopy(self, {id(one): one for one in shared})

    def _fate(self) -> str:
        """Return what becomes of an order: it arrives (""), expires, or is lost unanswered."""
        number = self._sent_in[1] + 1 if self._sent_in[0] == self.second else 1
        self._sent_in = self.second, number
        if self._stop is not None and self._stop.at_s <= self.second < self._stop.until_s:
            return "lost"
        if self._loss is None or self.second < self._loss.at_s:
            return ""
        draw = random.Random(f"{self._seed} {self.second} {number}").random()
        if draw >= self._loss.size:
            return ""
        return "expires" if draw < self._loss.size / 2 else "lost"

    def _report(self, frames: list[Frame]) -> list[Frame]:
        lag = self._lag
        if not frames or lag is None or self.second < lag.at_s:
            return frames
        self._late += [(self.second + round(lag.size), frame) for frame in frames]
        return []


class _Delay(Iterator[int]):
    """How long the next order takes, in nanoseconds."""

    ns = 0

    def __next__(self) -> int:
        return self.ns


_TROUBLES: Final = ("account lags", "orders lost", "node stops")

# === Front ===


class Onlooker(Protocol):
    """An account behind the front."""

    done: bool  # nothing can happen to it any more

    def see(self, view: MarketView) -> None:
        """Take a view."""

    def settle(self, frame: Frame) -> None:
        """Take the end of a frame, whose views have all been shown."""

    def end_second(self, second: int) -> None:
        """Take the end of a second."""


class Front:
    """The market of a path, folded once for all that stand behind it."""

    def __init__(self, path: Path) -> None:
        self.path, self.data = path, DataState()
        self.truth = DataState() if path.first("pulled") else None

    def play(self, accounts: Sequence[Onlooker]) -> None:
        """Show the whole path to all accounts, or as much as any of them has use for."""
        running = accounts
        for second, sent in enumerate(frames_of(self.path)):
            for frame, views in map(self._fold, sent):
                for view in views:
                    for account in running:
                        account.see(view)
                for account in running:
                    account.settle(frame)
            for account in running:
                account.end_second(second)
            running = [account for account in running if not account.done]
            if not running:
                return

    def _fold(self, sent: Sent) -> tuple[Frame, Sequence[MarketView]]:
        shown, true = sent
        if self.truth is not None:
            step(self.truth, true)
        return shown, step(self.data, shown)


def entries(front: Front) -> Iterator[OrderRequest]:
    """Yield the orders by which a path's account opens its positions."""
    for number, asset in enumerate(front.path.assets):
        market = front.data.views[asset.ticker].market
        if market is None:
            raise ConnError(f"expected the parameters of {asset.ticker} before it is opened")
        size = f"{abs(asset.held_usdc) / asset.price:.12f}"
        worst = f"{asset.price * (1.02 if asset.held_usdc > 0 else 0.98):.12f}"
        yield OrderRequest(
            ticker=asset.ticker, clob_pair_id=market.clob_pair_id,
            side="BUY" if asset.held_usdc > 0 else "SELL", quantums=market.floor_quantums(size),
            subticks=market.floor_subticks(worst), time_in_force="IOC", client_id=900_000 + number,
            good_til_block=height_at(CALM_S),
        )  # fmt: skip


def require_open(venue: Exchange, path: Path) -> None:
    """Raise `ConnError` unless an account got all that its path holds."""
    if len(venue.ledger.holdings) != len(path.assets):
        raise ConnError(f"expected an account that opens {len(path.assets)} markets, got {path}")


# === Policies ===


class Back:
    """One policy's account on a path: its venue, the bot that looks after it, and the rule."""

    def __init__(self, front: Front, policy: str, *, verbose: bool = False) -> None:
        self.policy, self.done, self._is_open = policy, False, False
        self.venue = Exchange(front.path, front.truth)
        self.lines: list[str] = []
        self.orders = 0
        self._front, self._verbose = front, verbose
        self._nobody = policy == "none"
        self._restart = None if self._nobody else front.path.first("restart")
        self._written = 0
        self._begin(1)

    def _begin(self, first_client_id: int) -> None:
        policy = GUARDS.get(self.policy)
        options = Options(
            strategy="none", deposit=DEPOSIT, policy=policy or GUARD,
            guard=policy is not None and self._is_open,
        )  # fmt: skip
        self.bot = Bot(options, self.venue, self._front.data)
        self.bot.risk.next_client_id = first_client_id
        self.rival = None if policy is not None else RIVALS[self.policy](self.bot, first_client_id)
        self.down = False

    def see(self, view: MarketView) -> None:
        """Show a view; while the bot is down its venue alone goes on."""
        if self.down:
            self.venue.step(view)
        else:
            self.bot.see(view)

    def settle(self, frame: Frame) -> None:
        """End a frame: what is reported comes in, and the rule looks at it."""
        second = self.venue.second
        if self.down and self._nobody:
            return
        if self._restart is not None and self._is_away(self._restart, second):
            return
        self.bot.settle(frame)
        if self.rival is not None and second > CALM_S:
            for order in self.rival.look():
                self.bot.place(order)

    def end_second(self, second: int) -> None:
        """Order what the path holds when it is time to; note how the account stands."""
        if second == OPENS_S:
            for order in entries(self._front):
                self.bot.place(order)
        if second == CALM_S:
            require_open(self.venue, self._front.path)
            # Nobody acts before all of it is open: no gate has judged what a path holds.
            self._is_open, self.bot.risk.guard = True, self.policy in GUARDS
            self.down = self.down or self._nobody
        if self._verbose:
            self._narrate(second)
        # Nothing enters: what is flat stays so.
        self.done = second > CALM_S and not self.venue.ledger.holdings
        self.venue.second = second + 1

    def outcome(self) -> PathOutcome:
        """Let go of the bot; return what is left."""
        self._end_bot()
        return PathOutcome(
            self.venue.taken > 0, self.venue.left, self.orders, tuple(self.lines)
        )  # fmt: skip

    def _is_away(self, restart: Event, second: int) -> bool:
        """Return whether the bot is gone in a second; it comes back with what snapshots say."""
        if second < restart.at_s:
            return False
        if second < restart.until_s:
            self.down = True
        elif self.down:
            self._end_bot()
            self.venue.restart()
            self._begin(_FIRST_CLIENT_ID)
        return self.down

    def _end_bot(self) -> None:
        self.orders += self.bot.journal.counts["reduce"]
        self.orders += 0 if self.rival is None else self.rival.orders
        self.bot.close()

    def _narrate(self, second: int) -> None:
        decided = self.bot.journal.of_kind("reduce", "gate", "denied", "approved")
        words = [item.value.why for item in decided[self._written :]]
        self._written = len(decided)
        ledger, taken = self.venue.ledger, self.venue.taken
        distance = ledger.margin.distance
        shown = "flat" if distance is None else f"distance {distance:.1%}"
        equity = "unknown" if ledger.equity is None else f"{ledger.equity / USDC:,.2f}"
        words.append(f"{shown}, {equity} USDC, {taken} taken{', away' if self.down else ''}")
        self.lines += [f"{second:5} s  {what}" for what in words]


def lead(
    path: Path, policies: Iterable[str] = POLICIES, *, verbose: bool = False
) -> dict[str, PathOutcome]:
    """Lead an account under each of the policies down a path, on the same frames."""
    front = Front(path)
    backs = [Back(front, policy, verbose=verbose) for policy in policies]
    front.play(backs)
    return {back.policy: back.outcome() for back in backs}


# === Hindsight ===

SHARES: Final = (0.25, 0.5, 1.0)


class Hindsight:
    """Accounts of which each sells a share of all it holds, once, at the end of one second.

    Until it sells each is the same as one that never does; `sales` are those that have, by their
    second and share.
    """

    def __init__(self, front: Front) -> None:
        self.done = False
        self.sales: dict[tuple[int, float], Exchange] = {}
        self._front = front
        self._holding = Exchange(front.path, front.truth)
        self._running = [self._holding]

    def see(self, view: MarketView) -> None:
        """Show the venues a view."""
        for venue in self._running:
            venue.step(view)

    def settle(self, frame: Frame) -> None:
        """Do nothing: nobody looks."""

    def end_second(self, second: int) -> None:
        """Open at its time; later let accounts that sell now part from the one that holds."""
        if second == OPENS_S:
            for order in entries(self._front):
                self._holding.step(order)
        if second > CALM_S:
            for share in SHARES if self._holding.ledger.holdings else ():
                self.sales[second, share] = self._selling(share)
                self._running.append(self.sales[second, share])
            self._running = [venue for venue in self._running if venue.ledger.holdings]
            self.done = not self._running
        for venue in self._running:
            venue.second = second + 1

    def _selling(self, share: float) -> Exchange:
        venue, views = self._holding.fork(self._front), self._front.data.views
        for number, (ticker, held) in enumerate(venue.ledger.holdings.items()):
            venue.step(closing(views[ticker], held.market, held.quantums, share, number + 1))
        return venue

    @property
    def best(self) -> float:
        """Return the most that any sale, or none, has left, in USDC."""
        return max(venue.left for venue in (self._holding, *self.sales.values()))


def hindsight(path: Path) -> float:
    """Return the most that any one sale would have left, in USDC."""
    front = Front(path)
    sellers = Hindsight(front)
    front.play([sellers])
    return sellers.best
