"""Real orders: the way into a run with them, and the way out of it.

    key, network, account ──► fit? ──► Trader ──► WireVenue (bot.run.wire) ──► the run (runs)

One bot a subaccount (`claim`), which is as its last run left it, or it begins halted (`reconcile`).
A run ends in steps: what is held leaves, with --flatten or if a person answers so (`leave`);
what is open is taken off the books; then the sources are let go. What is still held is in the
report: nobody guards it any more.
"""

import argparse
import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from dydx_conn import (
    ENDPOINTS,
    AuditLog,
    ComplianceFields,
    ConnError,
    Frame,
    Inbox,
    Keys,
    Network,
    OrderState,
    Rest,
    RestError,
    Subaccount,
    Trader,
    contents,
    live,
)
from reactivex import Observable, operators

from bot.config.configured import account_settings, environment_of, loaded_of, opened_of
from bot.config.environment import EnvironmentSettings, RefusalError, enter
from bot.config.validation import validate
from bot.database.rows import written_down
from bot.ending import ENDS, Ended
from bot.live.handle import Handle, flatten_run, within_reach
from bot.live.keys import has_key, keys_of
from bot.live.reach import listened
from bot.live.reconcile import reconcile
from bot.live.runs import (
    asks,
    history_of,
    lived,
    on_dashboard,
    options_of,
    recorder_of,
    remembered,
    tickers_of,
    typed_words,
    until,
)
from bot.live.troubles import handled
from bot.logs.run import logged
from bot.outlet import as_lines
from bot.report.report import positions_of
from bot.report.status import starting
from bot.run.acts import act
from bot.run.budget import LIVE
from bot.run.claim import Claim, ClaimedError, claimed
from bot.run.composition import Bot, Options
from bot.run.handles import running
from bot.run.wire import WireVenue, range_words
from bot.screen.leave import Leave, command_words

# === Ends ===
# How a run with real orders ends: what is held leaves, open orders are cancelled, then it stops.

# A cancel may be lost, and what became of it may be requested from REST only after 5 s.
_GRACE_NS: Final = 15_000_000_000
_REPEAT_NS: Final = 5_000_000_000
# What is sold is reported by an indexer that may be 30 blocks behind.
_LEAVE_NS: Final = 30_000_000_000
_AGAIN_NS: Final = 1_000_000_000


def closing(
    venue: WireVenue,
    pace: Callable[[Frame], bool],
    stopping: threading.Event,
    leaving: Callable[[Frame], bool] = lambda _: False,
    on_screen: Callable[[], bool] = lambda: False,
) -> Callable[[Frame], bool]:
    """End a source once the run's orders are off the books, or 15 s after somebody ended it.

    Each is cancelled again after 5 s. Before that, what is held leaves, for as long as `leaving`
    returns True. A dashboard is shown that somebody ended it, and ends its pace by itself.
    """
    over, ends, due = threading.Event(), list[int](), list[int]()

    def bounded(frame: Frame) -> bool:
        stops = over.is_set() or (stopping.is_set() and not on_screen())
        if not stops and pace(frame):
            return True
        over.set()
        if not ends:
            if leaving(frame):
                return True
            ends.append(frame.mono + _GRACE_NS)
        if not due or (venue.open and due[-1] <= frame.mono < ends[0]):
            due.append(frame.mono + _REPEAT_NS)
            venue.withdraw(venue.open)
        if venue.open and frame.mono < ends[0]:
            return True
        if stopping.is_set():
            raise Ended  # now it may end as any run that is interrupted
        return False

    return bounded


def flattening(
    bot: Bot, venue: WireVenue, inbox: Inbox, most_ns: int = _LEAVE_NS
) -> Callable[[Frame], bool]:
    """Let what is held leave: an act a second, for 30 s at most; False when it is over.

    Orders that may still enter are cancelled first. It is over when nothing is held, and no order
    is on its way that could change that.
    """
    acted: list[int] = []

    def leaving(frame: Frame) -> bool:
        if not (still_open(bot) or venue.open or venue.brackets):
            return False
        if not acted:
            venue.cancel([each for each in venue.open if each.order and not each.order.reduce_only])
        elif frame.mono - acted[0] >= most_ns:
            return False
        if not acted or frame.mono - acted[-1] >= _AGAIN_NS:
            act(inbox, "end", "flatten", "the run ends")
            acted.append(frame.mono)
        return True

    return leaving


def still_open(bot: Bot) -> list[str]:
    """Return what is held, or that it is not known: an empty list is sure to be flat."""
    account = bot.risk.account
    held = [f"{row['ticker']} {row['size']}" for row in positions_of(bot)]
    return [*held, account.trouble] if account.trouble else held


@contextlib.contextmanager
def gently(stopping: threading.Event) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM request the end, and only the second one force it."""

    def requested(*_: object) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()

    with handled(dict.fromkeys(ENDS, requested)):
        yield


# === Sweep ===
# Every order of a subaccount leaves the books, whoever placed it.

# An indexer may be 30 blocks behind its node, which may stop for some seconds.
_PATIENCE_NS: Final = 60_000_000_000


class Sweep:
    """Cancels every order, each again after 5 s, until the venue reports the end of all.

    It is over when nothing is left that was on the books as it began, or after a minute.
    """

    def __init__(self, venue: WireVenue) -> None:
        self.found: set[str] = set()
        self._venue = venue
        self._began: tuple[int, int] | None = None  # when, and at which block of the node
        self._due: dict[str, int] = {}  # when an order is cancelled again
        self._listed = False

    @property
    def left(self) -> list[OrderState]:
        """Return the orders that may still stand on a book."""
        # What we send ourselves, as an exit, is not to be swept off.
        orders = self._venue.accounts.orders.open()
        return [state for state in orders if state.order is None and not state.leaving]

    @property
    def troubles(self) -> list[str]:
        """Return what was expected and is not so: an empty list is sure to be the end of all."""
        troubles = [f"{_named(state)} off the books, got {state.status}" for state in self.left]
        if not self._listed:
            troubles += ["a list of orders from REST, got none: a TWAP order may go on"]
        height, (_, began) = self._venue.accounts.orders.height, self._began or (0, 0)
        if height < began:
            what = f"the indexer to come to block {began}, got {height}"
            troubles += [f"{what}: an order placed last may stand"]
        return troubles

    def pace(self, frame: Frame) -> bool:
        """Cancel what is due; return whether to go on."""
        venue, now = self._venue, frame.mono
        if self._began is None:
            self._began = now, venue.trader.height if venue.trader is not None else 0
        if not venue.known:
            return now < self._began[0] + _PATIENCE_NS
        if due := [state for state in self.left if self._due.get(state.id, now) <= now]:
            self._due |= {state.id: now + _REPEAT_NS for state in due}
            self.found.update(self._due)
            venue.cancel(due)
        return now < self._began[0] + _PATIENCE_NS and bool(self.troubles)

    def take(self, frame: Frame) -> None:
        """Note that REST listed the orders: an account's snapshot names no TWAP."""
        path = ENDPOINTS["orders"].path
        self._listed |= frame.kind == "http" and frame.path == path and frame.ok


def _named(state: OrderState) -> str:
    ticker = state.named.ticker if state.named is not None else ""
    return f"order {state.id} {ticker}".rstrip()


# === Commands ===
# `bot trade`, `bot cancel-all` and `bot flatten`; all let orders out through `trading` alone.


def trade(arguments: argparse.Namespace) -> int:
    """Trade for real until stopped, take what is open off the books, and report.

    With --flatten it is a 1 if anything is still held then.
    """
    settings = environment_of(arguments)
    net = enter(settings, orders=True)
    tickers_of(arguments)  # refused before a passphrase is typed
    keys = keys_of(account_settings(arguments))
    subaccount = account_of(arguments, keys)
    reached = starting("TRADE", net.name, str(subaccount))
    with (
        listened(arguments),
        claimed(net, subaccount, "trade") as claim,
        within_reach(Inbox(), reached) as handle,
    ):
        return _trade(arguments, settings, net, keys, claim, handle)


def _trade(
    arguments: argparse.Namespace,
    settings: EnvironmentSettings,
    net: Network,
    keys: Keys,
    claim: Claim,
    handle: Handle,
) -> int:
    from bot.database.remains import carried

    tickers, subaccount = tickers_of(arguments), account_of(arguments, keys)
    limited = restriction(net, subaccount.owner)
    worth = fit(settings, net, subaccount)
    venue, inbox = WireVenue(subaccount), handle.inbox
    venue.claim = claim
    if limited:
        print(f"bot: {limited}: the run begins halted", file=sys.stderr)
        act(inbox, "compliance", "halt", limited)
    if claim.earlier:
        act(inbox, "restart", "ids", range_words(claim.earlier))
    database = opened_of(arguments).settings.database.url
    paid_in = reconcile(net, subaccount, inbox, database.get_secret_value())
    options = options_of(arguments, worth, budget=LIVE)
    left = carried(arguments, net, subaccount, paid_in)
    bot = Bot(options, venue)
    remembered(arguments, bot, net, left, "trade")
    leave = Leave(
        bot, flattening(bot, venue, inbox), flatten=arguments.flatten, asks=asks(arguments)
    )
    stopping = leave.requested
    logs = logged(arguments, bot, net, mode="trade", human=not on_dashboard(arguments))
    written = written_down(arguments, bot, net, left, mode="trade")
    with (
        recorder_of(options, net, recorded_as(subaccount, options)) as record,
        AuditLog(loaded_of(arguments).settings.audit) as audit,
        trading(venue, net, keys, inbox, audit, account_settings(arguments).authenticators),
        gently(stopping),
    ):

        def receive(pace: Callable[[Frame], bool]) -> Observable[Frame]:
            paced = until(arguments.seconds, pace)
            bounded = closing(venue, paced, stopping, leave.holds, lambda: leave.on_screen)
            return live(
                net, tickers, subaccount=subaccount, history=history_of(bot, tickers), pace=bounded,
                inbox=inbox,
            )  # fmt: skip

        code = lived(
            arguments, bot, net, tickers, receive, inbox, mode="TRADE",
            beside=[*logs, Audited(audit), *record, *written], leave=leave, handle=handle,
        )  # fmt: skip
    return left_open(arguments, bot, leave) or code


class Audited:
    """The audit log of a run: all that passes is in it."""

    name = "audit"

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    @property
    def trouble(self) -> str:
        """Return why it cannot be written, "" while it can."""
        return self._audit.trouble

    def figures(self) -> dict[str, int]:
        """Return how many lines are written and lost."""
        return {"written": self._audit.lines, "lost": self._audit.failures}

    def begin(self, inbox: Inbox) -> None:
        """Have begun with the way into the run."""

    def note(self, frame: Frame) -> None:
        """Write down what passes."""
        self._audit.passed(frame)

    def end(self) -> None:
        """Leave it to the way out of the run, which goes on writing."""


def recorded_as(subaccount: Subaccount, options: Options) -> str:
    """Return what the header of a recording holds of a run (`commands` reads it)."""
    return f"trade {subaccount} {options.deposit} {typed_words(options)}"


def left_open(arguments: argparse.Namespace, bot: Bot, leave: Leave) -> int:
    """Report what stays open and how to close it; 1 if it was to be closed."""
    held = still_open(bot)
    if held and leave.closes:
        what = f"expected nothing to be held, got {', '.join(held)}"
        print(f"bot: {what}", file=sys.stderr)
    if held:
        print(f"bot: this closes what stays open: {command_words(arguments)}", file=sys.stderr)
    return 1 if held and leave.closes else 0


def withdraw_all(arguments: argparse.Namespace) -> int:
    """Take every order of a subaccount off the books, whoever placed it; 1 if some stay, or may."""
    settings = environment_of(arguments)
    net = enter(settings, orders=True)
    keys = keys_of(account_settings(arguments))
    with alone_or_warned(net, account_of(arguments, keys), "cancel-all"):
        return _withdraw_all(arguments, net, keys)


@contextlib.contextmanager
def alone_or_warned(net: Network, subaccount: Subaccount, what: str) -> Iterator[None]:
    """Hold a subaccount, or warn that a bot does: what takes risk away waits for nobody."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(claimed(net, subaccount, what))
        except ConnError as error:
            print(f"bot: warning: {error}", file=sys.stderr)
        yield


def _withdraw_all(arguments: argparse.Namespace, net: Network, keys: Keys) -> int:
    venue, inbox = WireVenue(account_of(arguments, keys)), Inbox()
    sweep = Sweep(venue)

    def pass_on(frame: Frame) -> None:
        audit.passed(frame)
        sweep.take(frame)
        for received in venue.receive(frame):
            for update in venue.accounts.step(received):
                venue.learn(update)

    with (
        AuditLog(loaded_of(arguments).settings.audit) as audit,
        trading(venue, net, keys, inbox, audit, account_settings(arguments).authenticators),
    ):
        live(net, [], subaccount=venue.subaccount, pace=sweep.pace, inbox=inbox).subscribe(pass_on)
    if not venue.known:
        raise RefusalError(f"expected the orders of {venue.subaccount} from {net.name}, got none")
    found, left = len(sweep.found), sweep.left
    print(f"{venue.subaccount}: {found - len(left)} of {found} orders are off the books")
    for reason, count in venue.refusals.items():
        print(as_lines([f"{count} refused: {reason}"]), file=sys.stderr)
    if audit.trouble:
        print(as_lines([f"bot: {audit.trouble}"]), file=sys.stderr)
    for trouble in sweep.troubles:
        print(as_lines([f"bot: expected {trouble}"]), file=sys.stderr)
    return 1 if sweep.troubles or audit.trouble else 0


_WHERE: Final = ("environment", "network", "rest", "ws", "node", "address")


def flatten(arguments: argparse.Namespace) -> int:
    """Close all that a subaccount holds: by the bot that runs there, or without one; 1 if not all.

    Where no key or no network is given it is the one bot that runs on this machine.
    """
    # The key of the bot that runs is often in the environment; its network is typed again by few.
    here = not any(getattr(arguments, name) for name in _WHERE) and running()
    if arguments.run is not None or here or not has_key(account_settings(arguments)):
        return flatten_run(arguments.run, arguments.why)
    settings = environment_of(arguments)
    net = enter(settings, orders=True)
    keys = keys_of(account_settings(arguments))
    with contextlib.ExitStack() as stack:
        claim = None
        try:
            claim = stack.enter_context(claimed(net, account_of(arguments, keys), "flatten"))
        except ClaimedError as error:
            if error.pid not in running():
                raise
            return flatten_run(error.pid, arguments.why)
        except ConnError as error:  # an exit waits for no disk
            print(f"bot: warning: {error}", file=sys.stderr)
        return _flatten(arguments, net, keys, claim)


def _flatten(arguments: argparse.Namespace, net: Network, keys: Keys, claim: Claim | None) -> int:
    venue, inbox, stopping = (
        WireVenue(account_of(arguments, keys)),
        Inbox(),
        threading.Event(),
    )
    venue.claim = claim
    # No strategy: what is left to do is an act's, and the guard looks after it meanwhile.
    bot, sweep = Bot(Options(strategy="none"), venue), Sweep(venue)
    leaving = flattening(bot, venue, inbox, _PATIENCE_NS)
    found: dict[str, None] = {}

    def pace(frame: Frame) -> bool:
        found.update(dict.fromkeys(bot.risk.account.positions))
        sweeps = sweep.pace(frame)
        leaves = not venue.known or leaving(frame)
        return (sweeps or (venue.known and leaves)) and not stopping.is_set()

    def pass_on(frame: Frame) -> None:
        audit.passed(frame)
        sweep.take(frame)

    with (
        AuditLog(loaded_of(arguments).settings.audit) as audit,
        trading(venue, net, keys, inbox, audit, account_settings(arguments).authenticators),
        gently(stopping),
    ):
        tickers = held_tickers(net, venue.subaccount)
        frames = live(net, tickers, subaccount=venue.subaccount, pace=pace, inbox=inbox)
        bot.run(frames.pipe(operators.do_action(pass_on)))
    if not venue.known:
        raise RefusalError(f"expected what {venue.subaccount} holds from {net.name}, got none")
    closed, orders = len(found.keys() - bot.risk.account.positions), len(sweep.found)
    print(
        f"{venue.subaccount}: {closed} of {len(found)} positions are closed, "
        f"{orders - len(sweep.left)} of {orders} orders are off the books"
    )
    troubles = [*_unclosed(bot), *sweep.troubles]
    for trouble in troubles:
        print(as_lines([f"bot: expected {trouble}"]), file=sys.stderr)
    return 1 if troubles else 0


def _unclosed(bot: Bot) -> list[str]:
    """Return what is still held, and why it could not be closed."""
    whys = {entry.ticker: f": {entry.words}" for entry in bot.journal.of_kind("denied")}
    return [
        f"nothing to be held, got {each}{whys.get(each.partition(' ')[0], '')}"
        for each in still_open(bot)
    ]


def held_tickers(net: Network, subaccount: Subaccount) -> list[str]:
    """Query the venue for the markets of what is held: their books are worth subscribing to.

    None where it does not answer: without a book an exit goes by the oracle price.
    """

    async def query() -> list[str]:
        async with Rest(net, patience_s=5.0) as rest:
            held = (await rest.subaccount(subaccount)).value
            return [*held.open_perpetual_positions]

    try:
        return asyncio.run(query())
    except RestError:
        return []


def account_of(arguments: argparse.Namespace, keys: Keys) -> Subaccount:
    """Return the subaccount to trade for: the key's own, or one that it may sign for."""
    account = account_settings(arguments)
    owner = account.address if account.authenticators else ""
    return Subaccount(owner or keys.address, account.subaccount)


# How the venue lets an address trade, by its compliance status: freely, or to close what it holds.
_FREE: Final = ("COMPLIANT", "FIRST_STRIKE")
_CLOSING: Final = ("CLOSE_ONLY", "FIRST_STRIKE_CLOSE_ONLY")


def restriction(net: Network, address: str) -> str:
    """Query the venue for how an address stands; return why it may only close, "" if it may trade.

    `RefusalError` if it may not trade at all, or if the venue does not answer.
    """

    async def query() -> ComplianceFields:
        async with Rest(net, patience_s=10.0) as rest:
            return (await rest.compliance(address)).value

    try:
        found = asyncio.run(query())
    except RestError as error:
        raise RefusalError(f"expected {net.name} to let {address} trade: {error}") from None
    got = found.status + (f" ({found.reason})" if found.reason else "")
    if found.status in _FREE:
        return ""
    if found.status in _CLOSING:
        return f"{net.name} lets {address} only close what it holds: {got}"
    raise RefusalError(f"expected {net.name} to let {address} trade, got {got}")


# A replica may answer with an error page, and what is held waits for its guard meanwhile.
_TRIES: Final = 3


def fit(settings: EnvironmentSettings, net: Network, subaccount: Subaccount) -> int:
    """Return what the account is worth in USDC, on a network that is fit to trade on."""
    for _ in range(_TRIES):
        found, received = validate(settings, net, subaccount)
        if found.status != "unreachable":
            break
    if found.status != "ok":
        why = "; ".join(f"{check.name}: {check.seen}" for check in found.failed)
        raise RefusalError(f"expected {net.name} to be fit to trade on, got {found.status}: {why}")
    frame = received.get("v4_subaccounts")
    if frame is None:
        raise RefusalError(f"expected {net.name} to show {subaccount}, got no answer")
    (account,) = contents(frame)
    if account.subaccount is None or float(account.subaccount.equity) < 1:
        raise RefusalError(f"expected money in {subaccount} on {net.name}, got none")
    return int(float(account.subaccount.equity))


@contextlib.contextmanager
def trading(
    venue: WireVenue,
    net: Network,
    keys: Keys,
    inbox: Inbox,
    audit: AuditLog,
    authenticators: Sequence[int] = (),
) -> Iterator[None]:
    """Let a venue's orders out; however it ends, what is open is taken back first."""
    trader = Trader(
        net, keys, venue.subaccount, inbox, audit,
        markets=venue.markets, statuses=venue.statuses, authenticators=authenticators,
    )  # fmt: skip
    audit.write("trading", network=net.name, chain=net.chain_id, subaccount=str(venue.subaccount))
    try:
        with trader:
            venue.trader, venue.audit = trader, audit
            try:
                yield
            finally:
                if not venue.closing:
                    venue.withdraw(venue.open)
    finally:
        left = [state.id for state in venue.open]
        audit.write("ended", refusals=dict(venue.refusals), open=left)
