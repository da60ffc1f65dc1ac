"""Real orders without a venue: what is received, what is sent, and how a run ends."""

import argparse
import contextlib
import dataclasses
import errno
import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import chain, islice, takewhile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import bot.live.trade
import msgspec
import pytest
import reactivex
from bot.__main__ import main
from bot.commands import parser
from bot.config.configured import loaded_of
from bot.config.environment import EnvironmentSettings, RefusalError
from bot.config.settings import AccountSettings
from bot.config.validation import Check, Validation
from bot.live.commands import bot_for
from bot.live.runs import options_of, require_tickers
from bot.live.trade import (
    account_of,
    closing,
    fit,
    flattening,
    gently,
    held_tickers,
    restriction,
    still_open,
    trading,
)
from bot.run.acts import among
from bot.run.claim import claimed
from bot.run.composition import Bot, Options
from bot.run.wire import WireVenue
from dydx_conn import (
    NETWORKS,
    AuditLog,
    CancelRequest,
    Frame,
    Inbox,
    Keys,
    MarketFields,
    Network,
    NetworkError,
    NotQueued,
    OrderRequest,
    Queued,
    Recording,
    Subaccount,
    WireWriter,
    find_recording,
    market_fields,
    market_parameters,
    order_id,
    replay,
)
from dydx_data import Chain, DataState, MarketView, Oracle, step
from dydx_risk import Policy, Risk
from pydantic import SecretStr
from reactivex import operators
from servers import http_server

HEX = "4b" * 32
KEYS = Keys(SecretStr(HEX))
US = Subaccount(KEYS.address, 0)
NOW = 1_767_225_600 * 10**9


def wire(height: int = 1) -> WireWriter:
    """Return what writes a connection's message of this block: it brings one a block."""
    writer = WireWriter(at=NOW)
    writer.seq, writer.mono, writer.height = 8, 5, height
    writer.ids[writer.link] = height - 1
    return writer


def account_frame(contents: dict[str, Any], whose: Subaccount = US) -> Frame:
    """Make a change of an account, in the block after its first frame."""
    return wire(2).account_update(whose, **contents)


def snapshot(equity: str = "1000", **positions: Any) -> Frame:
    """Make the first frame of our account."""
    return wire().account(US, equity, positions.values())


def position(size: str, realized: str, funding: str, **other: str) -> dict[str, str]:
    """Describe a position as the indexer does."""
    fields = {"market": "BTC-USD", "status": "OPEN", "size": size, "entryPrice": "100"}
    return fields | {"realizedPnl": realized, "netFunding": funding} | other


def fill(id_: str, fee: str, type_: str = "LIMIT") -> dict[str, str]:
    """Describe a fill as the indexer does."""
    what = {"id": id_, "side": "BUY", "size": "1", "price": "100", "liquidity": "TAKER"}
    what |= {"ticker": "BTC-USD"}
    return what | {"fee": fee, "type": type_, "createdAt": "2026-01-01T00:00:00Z"}


ORDER = OrderRequest(
    ticker="BTC-USD",
    clob_pair_id=0,
    side="BUY",
    quantums=10_000_000_000,
    subticks=9_000_000_000,
    time_in_force="GTT",
    client_id=7,
    good_til_block=20,
)


def sent(order: OrderRequest = ORDER, mono: int = 5) -> Frame:
    """Make the frame of an order that was sent."""
    body = {"ids": [order_id(US, order)], "subaccount": str(US), "size": "1"}
    place = {name: getattr(order, name) for name in order.__struct_fields__}
    return Frame(8, NOW, mono, "node", "sent", json.dumps(body | {"place": place}), "", "place")


def answered(code: int) -> Frame:
    """Make the frame of what a node made of it."""
    body = {"to": "place", "ids": [order_id(US, ORDER)], "until": 20}
    text = json.dumps(body | {"result": {"code": code, "codespace": "clob", "log": "no"}})
    return Frame(9, NOW, 5, "node", "http", text, str(code), "broadcast")


class Desk:
    """A trader that takes down what it is handed."""

    def __init__(self, answer: Queued | NotQueued | None = None) -> None:
        self.requests: list[Any] = []
        self.frames: list[Frame] = []
        self.height = 0
        self._answer = answer or Queued(())

    def submit(self, request: Any, number: int | None = None) -> Queued | NotQueued:
        self.requests.append((request, number))
        return self._answer

    def observe(self, frame: Frame) -> None:
        self.frames.append(frame)

    def good_til_block(self) -> int:
        return 30

    def good_til_block_time(self) -> int:
        return 1_900_000_000

    def __enter__(self) -> "Desk":
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


ESTIMATED = market_parameters("BTC-USD")


def venue_with(desk: Any = None) -> WireVenue:
    """Make a venue of ours with a trader, as a bot would begin it."""
    venue = WireVenue(US)
    venue.trader = desk
    venue.begin(Risk(None, US))
    return venue


# === What is received ===


def receive(venue: WireVenue, *frames: Frame) -> None:
    """Receive frames as a bot does: the account's updates go to risk, if there is one."""
    for frame in frames:
        for received in venue.receive(frame):
            for update in venue.accounts.step(received):
                venue.learn(update)
                if venue._risk is not None:
                    venue._risk.step(update)


def test_the_accounts_frames_are_read_and_no_others() -> None:
    """Others' accounts are not ours; what our link lost is."""
    venue = venue_with(desk := Desk())
    assert not venue.known
    receive(venue, account_frame({}, Subaccount("dydx1other", 0)), sent(), snapshot())
    assert venue.known
    assert venue._risk is not None
    receive(venue, Frame(4, NOW, 5, "c2", "close", "gone", "1012"))
    assert venue._risk.account.trouble == ""
    receive(venue, Frame(4, NOW, 5, "c1", "close", "gone", "1012"))
    assert "lost" in venue._risk.account.trouble
    assert len(desk.frames) == 5


def test_orders_are_numbered_by_the_first_frames_time() -> None:
    """500 a second: a restart begins where no order of the last run can stand."""
    first, later = venue_with(), venue_with()
    tick = Frame(1, NOW, 5, "clock", "tick")
    receive(first, tick)
    receive(later, Frame(1, NOW + 10**9, 5, "clock", "tick"))
    numbers = [venue._risk.next_client_id for venue in (first, later) if venue._risk]

    assert numbers[1] - numbers[0] == 500
    assert 0 <= numbers[0] < 2**32
    receive(first, Frame(2, NOW + 10**12, 5, "clock", "tick"))
    assert first._risk is not None
    assert first._risk.next_client_id == numbers[0]


def test_money_is_counted_from_where_the_run_began() -> None:
    """A position that was there brings its entry with it, and not its past."""
    venue = venue_with()
    held: Any = {"BTC-USD": position("1", "50", "-3")}
    sold = fill("a", "0.5") | {"side": "SELL", "size": "0.5", "price": "120", "ticker": "BTC-USD"}

    receive(venue, snapshot("1000", **held))
    assert venue.figures().realized_pnl == venue.figures().funding_paid == 0
    receive(venue, account_frame({
        "perpetualPositions": [position("0.5", "60.5", "-4.25")], "fills": [sold],
        "usdc": "1059.5",
    }))  # fmt: skip

    money = venue.figures()
    assert (money.realized_pnl, money.fees_paid, money.fills) == (10_000_000, 500_000, 1)
    assert (money.wins, money.losses, money.complete) == (0, 0, True)


def test_worth_is_what_risk_knows() -> None:
    """Unknown while the account is; then collateral and what the positions stand at."""
    venue = venue_with()
    assert venue.figures().equity is None

    risk = venue._risk
    assert risk is not None
    receive(venue, snapshot("1000"))

    assert venue.figures().equity == 1_000_000_000
    assert venue.figures().unrealized_pnl == 0


def test_what_positions_had_gained_before_a_run_is_no_profit_of_it() -> None:
    """Only what they gain from the moment at which the account is known."""
    row = SimpleNamespace(unrealized_pnl=Decimal(7))
    judge = SimpleNamespace(
        account=SimpleNamespace(trouble=""), positions=lambda: [row], next_client_id=1,
        margin=SimpleNamespace(known=True, net_collateral=1_007_000_000),
    )  # fmt: skip
    venue = WireVenue(US)
    venue._risk = cast(Any, judge)
    venue.known = True

    venue.receive(Frame(1, NOW, 5, "clock", "tick"))
    first = venue.figures().unrealized_pnl
    row.unrealized_pnl = Decimal("8.5")

    assert (first, venue.figures().unrealized_pnl) == (0, 1_500_000)


def test_an_account_frame_that_cannot_be_read_is_a_doubt() -> None:
    """Risk learns what is wrong with it; the money stays as it was."""
    venue = venue_with()

    receive(venue, snapshot(), account_frame({"orders": 7}))

    assert venue._risk is not None
    assert "cannot be read" in venue._risk.account.trouble
    assert venue.figures().fills == 0


# === What is sent ===


def markets_frame(market: dict[str, Any]) -> Frame:
    """Make the frame that describes a market."""
    return wire().publish("v4_markets", {"markets": market}, snapshot=True)


def market_view(market: dict[str, Any]) -> Any:
    """Make the view of a market that was received."""
    [view] = step(DataState(), markets_frame(market))
    return view


BTC = {"BTC-USD": market_fields("BTC-USD", price="100")}


def test_orders_go_to_the_trader_with_the_markets_they_are_checked_by() -> None:
    """A trader knows of a market what its view holds."""
    venue = venue_with(desk := Desk())

    assert venue.step(market_view(BTC)) == []
    assert venue.step(ORDER) == []

    assert desk.requests == [(ORDER, None)]
    assert venue.markets["BTC-USD"].clob_pair_id == 0
    assert venue.statuses == {"BTC-USD": "ACTIVE"}


def test_a_market_that_is_not_known_yet_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A view may come before its market's description."""
    view = market_view({"BTC-USD": {"ticker": "BTC-USD", "oraclePrice": "100"}})

    venue = venue_with()
    venue.step(view)

    assert venue.markets == {}


def test_what_is_not_sent_is_counted_with_its_reason() -> None:
    """By us before sending, and by the node."""
    venue = venue_with(Desk(NotQueued("full", "")))

    venue.step(ORDER)
    receive(venue, sent())
    receive(venue, answered(2003))

    assert venue.refusals["full"] == 1
    assert any("2003" in reason for reason in venue.refusals)


def test_without_a_trader_orders_go_nowhere() -> None:
    """In a replay their fate is in the recording."""
    venue = venue_with()

    venue.step(ORDER)
    receive(venue, sent())
    venue.withdraw(venue.open)

    assert [state.order for state in venue.open] == [ORDER]


def test_withdrawing_sends_cancels_and_nothing_else_after() -> None:
    """The short-term ones in one batch, until a block that outlives them; then it is closed."""
    venue = venue_with(desk := Desk())
    receive(venue, sent())

    venue.withdraw(venue.open)
    venue.step(ORDER)

    [(batch, number)] = desk.requests
    assert [(request.client_id, request.good_til_block) for request in batch.cancels] == [(7, 30)]
    assert number == 0
    assert venue.closing


# === How it ends ===


def ticks(*seconds: float) -> list[Frame]:
    """Make the clock's frames."""
    return [Frame(1, NOW, int(s * 1e9), "clock", "tick") for s in seconds]


def test_a_run_without_open_orders_ends_at_once() -> None:
    """Its pace ends it, or somebody else does."""
    stopping = threading.Event()
    bounded = closing(venue_with(Desk()), lambda _: True, stopping)
    paced = closing(venue_with(Desk()), lambda frame: frame.mono < 2e9, threading.Event())

    assert [bounded(tick) for tick in ticks(1)] == [True]
    stopping.set()
    with pytest.raises(KeyboardInterrupt):
        bounded(ticks(2)[0])
    assert [paced(tick) for tick in ticks(1, 2)] == [True, False]


def test_a_run_with_open_orders_waits_for_their_end() -> None:
    """The cancels go every 5 s; the frames that answer them are still received, for 15 s."""
    venue = venue_with(desk := Desk())
    paced = closing(venue, lambda frame: frame.mono < 10e9, threading.Event())
    receive(venue, sent())

    assert [paced(tick) for tick in ticks(10, 14.9)] == [True, True]
    assert len(desk.requests) == 1
    assert [paced(tick) for tick in ticks(15, 24.9, 25)] == [True, True, False]
    assert len(desk.requests) == 3


def test_a_run_ends_when_its_orders_are_gone() -> None:
    """As soon as the venue reports it."""
    venue, stopping = venue_with(Desk()), threading.Event()
    paced = closing(venue, lambda _: True, stopping)
    receive(venue, sent())
    stopping.set()
    assert paced(ticks(10)[0])
    gone = {"id": order_id(US, ORDER), "status": "BEST_EFFORT_CANCELED", "clientId": "7"}

    receive(venue, account_frame({"orders": [gone | {"removalReason": "USER_CANCELED"}]}))

    with pytest.raises(KeyboardInterrupt):
        paced(ticks(11)[0])


HELD: Any = {"BTC-USD": position("1", "0", "0")}


def holding(desk: Any, *frames: Frame) -> tuple[Bot, WireVenue, Inbox]:
    """Make a bot that has received this of its account."""
    venue = WireVenue(US)
    venue.trader = desk
    trading_bot = Bot(options_of(parser().parse_args(["replay"])), venue)
    trading_bot.run(reactivex.from_iterable(frames))
    return trading_bot, venue, Inbox()


def acts_in(inbox: Inbox) -> list[tuple[str, str]]:
    """Return who did what, of all that was put in."""
    taken = iter(lambda: inbox.take(1, 0.0), None)
    return [(frame.link, frame.type) for frame in taken]


def test_what_is_held_is_closed_by_an_act_a_second_for_thirty() -> None:
    """What may still enter is cancelled before; after that the run ends, whatever stayed."""
    trading_bot, venue, inbox = holding(desk := Desk(), snapshot(**HELD), sent())
    leaving = flattening(trading_bot, venue, inbox)

    assert [leaving(tick) for tick in ticks(1, 1.5, 2, 3.5, 30.9, 31)] == [*[True] * 5, False]

    assert acts_in(inbox) == [("end", "flatten")] * 4
    assert [cancel.client_id for request, _ in desk.requests for cancel in request.cancels] == [7]
    assert not venue.closing


def test_an_exit_on_its_way_is_not_cancelled() -> None:
    """It is what is wanted; and the run waits for it."""
    leaves = msgspec.structs.replace(ORDER, reduce_only=True)
    trading_bot, venue, inbox = holding(desk := Desk(), snapshot(), sent(leaves))
    leaving = flattening(trading_bot, venue, inbox)

    assert leaving(ticks(1)[0])
    assert [cancel for request, _ in desk.requests for cancel in request.cancels] == []


def test_without_positions_there_is_no_act() -> None:
    """Nor is there anything to wait for."""
    leaving = flattening(*(held := holding(Desk(), snapshot())))

    assert not leaving(ticks(1)[0])
    assert not held[2].waiting


def test_an_account_that_is_not_known_is_not_flat() -> None:
    """That nothing is held is not known."""
    held = holding(Desk())

    assert still_open(held[0]) == ["no account snapshot yet"]
    assert flattening(*held)(ticks(1)[0])


def test_what_is_held_leaves_before_the_books_are_left() -> None:
    """The orders that close it must still be let out."""
    venue = venue_with(desk := Desk())
    stays = iter([True, True, False])
    paced = closing(venue, lambda _: False, threading.Event(), lambda _: next(stays))
    receive(venue, sent())

    assert [paced(tick) for tick in ticks(10, 11)] == [True, True]
    assert (desk.requests, venue.closing) == ([], False)
    assert [paced(tick) for tick in ticks(12, 16.9)] == [True, True]
    assert len(desk.requests) == 1
    assert [paced(tick) for tick in ticks(26.9, 27)] == [True, False]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_gently_and_the_second_at_once(number: signal.Signals) -> None:
    """Between them there is time to take orders off the books; afterwards all is as before."""
    stopping, before = threading.Event(), signal.getsignal(number)

    with gently(stopping):
        os.kill(os.getpid(), number)
        assert stopping.is_set()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)

    assert signal.getsignal(number) is before


def test_a_signal_that_is_ignored_stays_so() -> None:
    """Under nohup a hang-up ends nothing."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with gently(threading.Event()) as _:
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_layer_that_raises_leaves_no_order_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends a run, its open orders are taken back, and the log lists what was left."""
    desk, venue = Desk(), venue_with()
    monkeypatch.setattr(bot.live.trade, "Trader", lambda *_, **__: desk)
    path = tmp_path / "audit.jsonl"

    def fails(audit: AuditLog) -> None:
        with trading(venue, NETWORKS["local"], KEYS, Inbox(), audit):
            receive(venue, sent())
            raise ZeroDivisionError

    with AuditLog(path) as audit, pytest.raises(ZeroDivisionError):
        fails(audit)

    assert [cancel.client_id for request, _ in desk.requests for cancel in request.cancels] == [7]
    assert desk.closed
    events = [json.loads(line)["event"] for line in path.read_text().splitlines()]
    assert events == ["trading", "ended"]


# === Before it begins ===


@pytest.fixture
def validated(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let a network be found like this, with these frames of the account."""

    def found(status: Any, *frames: Frame) -> None:
        result = Validation(
            environment="development",
            network="testnet",
            network_type="testnet",
            chain_id_expected="dydx-testnet-4",
            chain_id_reported="other",
            status=status,
            checks=(Check("chain", "failed", "another one"),),
        )
        received = {frame.channel: frame for frame in frames}
        monkeypatch.setattr(bot.live.trade, "validate", lambda *_: (result, received))

    return found


def test_a_network_that_is_not_fit_is_not_traded_on(validated: Callable[..., None]) -> None:
    """With what failed."""
    validated("mismatch", snapshot())

    with pytest.raises(RefusalError, match="got mismatch: chain: another one"):
        fit(EnvironmentSettings(), NETWORKS["testnet"], US)


COMPLIANCE = f"/v4/compliance/screen/{US.owner}"
BLOCKED = '{"errors":[{"code":"GEOBLOCKED","msg":"Because you appear to be a resident"}]}'


@contextlib.contextmanager
def answering(status: int, body: str) -> Iterator[tuple[Network, list[str]]]:
    """Answer every request over REST like this; yield where, and the paths that came."""
    paths: list[str] = []

    def get(path: str) -> tuple[int, bytes]:
        paths.append(path)
        return status, body.encode()

    with http_server(get) as at:
        yield dataclasses.replace(NETWORKS["local"], rest=f"http://{at}"), paths


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ("COMPLIANT", ""),
        ("FIRST_STRIKE", ""),
        ("CLOSE_ONLY", "only close what it holds: CLOSE_ONLY (US_GEO)"),
        ("FIRST_STRIKE_CLOSE_ONLY", "only close what it holds: FIRST_STRIKE_CLOSE_ONLY (US_GEO)"),
    ],
)
def test_the_venue_reports_how_an_address_stands(status: str, why: str) -> None:
    """Who may only close begins halted."""
    with answering(200, json.dumps({"status": status, "reason": "US_GEO"})) as (net, paths):
        limited = restriction(net, US.owner)

    assert limited.endswith(why)
    assert (limited == "", paths) == (why == "", [COMPLIANCE])


@pytest.mark.parametrize(
    ("status", "body", "tries", "why"),
    [
        (
            200,
            '{"status":"BLOCKED","reason":"COMPLIANCE_PROVIDER"}',
            1,
            "got BLOCKED (COMPLIANCE_P",
        ),
        (200, '{"status":"SOMETHING_NEW"}', 1, "got SOMETHING_NEW"),
        (200, "{}", 2, "missing required field `status`"),
        (403, BLOCKED, 1, "got 403: Because you appear to be a resident [GEOBLOCKED]"),
        (451, "", 1, "(the venue refuses this region or address)"),
        (404, "<html>", 2, "got 404: a page of HTML"),
    ],
)
def test_who_may_not_trade_does_not_start(status: int, body: str, tries: int, why: str) -> None:
    """Nor who is not known to: with the venue's words."""
    with answering(status, body) as (net, paths), pytest.raises(RefusalError) as refused:
        restriction(net, US.owner)

    assert why in str(refused.value)
    assert paths == [COMPLIANCE] * tries


def test_an_account_that_may_only_close_begins_halted(
    stage: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first act of the run, with the venue's words."""
    acts: list[tuple[str, ...]] = []
    _, typed = stage("trade", snapshot())
    monkeypatch.setattr(bot.live.trade, "restriction", lambda *_: "it may only close")
    monkeypatch.setattr(bot.live.trade, "act", lambda _, *words: acts.append(words))

    main([*typed, "--json"])

    assert acts == [("compliance", "halt", "it may only close")]
    assert "bot: it may only close: the run begins halted" in capsys.readouterr().err


def test_one_answer_that_is_none_does_not_leave_what_is_held_unguarded(
    validated: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is started again in a crash validates three times before it gives up."""
    answers: list[Any] = []
    for status in ("unreachable", "unreachable", "ok"):
        validated(status, snapshot("1234.9"))
        answers.append(vars(bot.live.trade)["validate"]())
    monkeypatch.setattr(bot.live.trade, "validate", lambda *_: answers.pop(0))

    assert fit(EnvironmentSettings(), NETWORKS["testnet"], US) == 1234

    validated("unreachable", snapshot("1234.9"))
    with pytest.raises(RefusalError, match="to be fit to trade on, got unreachable"):
        fit(EnvironmentSettings(), NETWORKS["testnet"], US)


def test_an_answer_that_lists_no_markets_ends_no_run() -> None:
    """The next one lists them, and only that one is held against what was typed."""
    check = require_tickers(["BTC-USD", "NOPE-USD"], NETWORKS["testnet"])
    odd = Frame(1, NOW, 1, "rest", "http", "{}", "200", "/v4/perpetualMarkets")

    check(odd)
    with pytest.raises(NetworkError, match="got NOPE-USD"):
        check(markets_frame(BTC))


def test_an_account_without_money_is_refused(validated: Callable[..., None]) -> None:
    """Never funded or empty; one that was not shown may have money, and is not known to."""
    empty = wire().message("subscribed", "v4_subaccounts", {}, str(US))
    money, shown = "expected money in dydx1", "expected testnet to show dydx1.*, got no answer"
    cases: tuple[tuple[list[Frame], str], ...] = (
        ([], shown),
        ([empty], money),
        ([snapshot("0.5")], money),
    )
    for frames, why in cases:
        validated("ok", *frames)
        with pytest.raises(RefusalError, match=why):
            fit(EnvironmentSettings(), NETWORKS["testnet"], US)
    validated("ok", snapshot("1234.9"))

    assert fit(EnvironmentSettings(), NETWORKS["testnet"], US) == 1234


def test_a_permitted_key_trades_for_its_owner() -> None:
    """Else the account is the key's own, whatever address it was compared with."""
    typed = ["trade", "--address", "dydx1owner", "--subaccount", "3"]

    own = account_of(parser().parse_args(typed), KEYS)
    permitted = account_of(parser().parse_args([*typed, "--authenticators", "1,2"]), KEYS)

    assert own == Subaccount(KEYS.address, 3)
    assert permitted == Subaccount("dydx1owner", 3)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["trade", "--network", "testnet"], "expected --yes-orders without a terminal"),
        (["trade", "--network", "mainnet", "--yes-orders"], "expected --yes-mainnet"),
        (
            ["trade", "--environment", "production", "--yes-orders"],
            "expected --yes-mainnet",
        ),
        (["trade", "--network", "local"], "expected a key in DYDX_MNEMONIC or DYDX_PRIVATE_KEY"),
        (
            ["trade", "--network", "local", "--keys", "none.json"],
            "or an encrypted key file, got 'none.json'",
        ),
        (["trade", "--network", "local", "--tickers", ","], "expected tickers"),
        (["cancel-all", "--network", "testnet"], "expected --yes-orders"),
        (["keys", "address"], "how to get one"),
        (["keys", "save"], "expected a file to write for bot keys save, got none"),
        (["keys", "rotate", "x.json"], "expected no file besides --keys for bot keys rotate"),
    ],
)
def test_a_trade_that_may_not_begin_is_a_two(
    typed: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line of why; nothing was connected to."""
    monkeypatch.setenv("DYDX_PASSPHRASE", "correct horse")

    assert main(typed) == 2

    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_recording_of_a_real_run_is_replayed_as_one(tmp_path: Path) -> None:
    """Its header names the account and its worth; a typed deposit comes first; others are on paper."""

    class Recorded:
        stops: ClassVar[dict[int, Frame]] = {}

        class header:  # noqa: N801 - as a recording has it
            run, settings = f"trade {US} 1234", ""

    typed = parser().parse_args(["replay", "x"])

    again: Bot = bot_for(typed, Recorded())  # type: ignore[arg-type]  # what is read of a recording
    assert isinstance(again.venue, WireVenue)
    assert again.venue.subaccount == again.risk.account.subaccount == US
    assert again.options.deposit == 1234
    assert options_of(parser().parse_args(["replay", "--deposit", "5"]), 1234).deposit == 5
    Recorded.header.run = "something else"
    on_paper: Bot = bot_for(typed, Recorded())  # type: ignore[arg-type]  # as above
    assert not isinstance(on_paper.venue, WireVenue)
    assert on_paper.options.deposit == 10_000


@pytest.mark.parametrize(
    ("typed", "differs"), [([], True), (["--profile", "reckless", "--hand-beside"], False)]
)
def test_a_real_run_that_is_replayed_otherwise_is_warned_about(
    typed: list[str], differs: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its frames alone do not make it what it was."""

    class Recorded:
        stops: ClassVar[dict[int, Frame]] = {}

        class header:  # noqa: N801 - as a recording has it
            run = f"trade {US} 1234 --profile reckless --strategy rank --hand-beside"
            settings = ""

    bot_for(parser().parse_args(["replay", "x", *typed]), Recorded())  # type: ignore[arg-type]  # as above

    warned = "recorded with --profile reckless --strategy rank --hand-beside, got --profile steady"
    assert (warned in capsys.readouterr().err) == differs


def test_a_bot_folds_the_account_from_the_wire() -> None:
    """The same path as on paper: journal and risk see it, after the frame it came in."""
    trading_bot = Bot(options_of(parser().parse_args(["replay"])), WireVenue(US))
    opened = position("1", "0", "0")
    update = account_frame({"perpetualPositions": [opened], "fills": [fill("a", "0.5")]})
    lost = Frame(10, NOW, 6, "c1", "close", "gone", "1012")

    trading_bot.run(reactivex.from_iterable([snapshot(), update, sent(), lost]))

    assert trading_bot.risk.account.positions["BTC-USD"].size == Decimal(1)
    assert trading_bot.journal.counts["fill"] == 1
    assert "lost" in trading_bot.risk.account.trouble
    assert trading_bot.data.counts() == {}


def test_an_account_that_is_polled_is_read() -> None:
    """While its socket is away its answers come over REST; those of others are not ours."""
    venue = venue_with()

    def answer(owner: str) -> Frame:
        path = f"/v4/addresses/{owner}/subaccountNumber/0"
        usdc = {"USDC": {"symbol": "USDC", "side": "LONG", "size": "7"}}
        held = {"openPerpetualPositions": {}, "assetPositions": usdc}
        body = {"subaccount": {"equity": "7", **held}}
        return Frame(11, NOW, 7, "rest", "http", json.dumps(body), "200", path)

    receive(venue, answer("dydx1someone"))
    assert not venue.known
    receive(venue, answer(US.owner))
    assert venue._risk is not None
    assert venue._risk.account.collateral == 7_000_000


def test_what_an_order_may_cost_is_written_down_before_it_is_sent(tmp_path: Path) -> None:
    """Fee, gas, margin, and whether the account can carry it; of unknown markets nothing."""
    path = tmp_path / "audit.jsonl"
    venue = venue_with(desk := Desk())
    order = OrderRequest(
        ticker="BTC-USD", clob_pair_id=0, side="BUY", quantums=100_000_000,
        subticks=5_000_000_000, time_in_force="IOC", client_id=7, good_til_block=9,
    )  # fmt: skip

    venue.step(order)
    with AuditLog(path) as venue.audit:
        venue.step(order)
        view = MarketView("BTC-USD", Chain(), {}, MarketFields(), market=ESTIMATED)
        view.oracle = Oracle(60_000.0, 60_000, 0, NOW, 1, "60000")
        venue.step(view)
        venue.step(order)

    (row,) = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row[name] for name in ("event", "ticker", "client_id")] == ["estimate", "BTC-USD", 7]
    assert (row["quote"], row["fee"], row["gas"]) == (600_000_000, 300_000, 0)
    assert (row["initial_margin"], row["affordable"]) == (30_000_000, None)
    assert len(desk.requests) == 3


def test_a_cancel_goes_the_same_way() -> None:
    """As a strategy's own code may request."""
    request = CancelRequest(ticker="BTC-USD", clob_pair_id=0, client_id=7, good_til_block=9)
    venue = venue_with(desk := Desk())

    venue.step(request)

    assert desk.requests == [(request, None)]


def test_options_name_who_signs() -> None:
    """Each with its default."""
    options: argparse.Namespace = parser().parse_args(["trade"])
    settings = loaded_of(options).settings

    assert settings.account == AccountSettings(keys="env", subaccount=0)
    assert settings.audit == "audit.jsonl"
    assert (options.yes_orders, options.yes_mainnet) == (False, False)


SESSIONS = sorted(find_recording("account").parent.glob("localnet/*/frames.jsonl.zst"))


@pytest.mark.replays
@pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.parent.name)
def test_no_fill_of_the_real_venue_stops_the_gate(path: Path) -> None:
    """Only lost frames do, for a while: of what it reports itself nothing leaves a doubt."""
    truth = json.loads((path.parent / "truth.json").read_text())
    owner, _, number = next(iter(truth["state"])).partition("/")
    # No limit of loss: some of these accounts are liquidated.
    options = Options(strategy="none", policy=Policy(hand_beside=True))
    trading_bot = Bot(options, WireVenue(Subaccount(owner, int(number))))
    states, doubts = ["REDUCING"], set[str]()

    def look(_: Frame) -> None:
        states.append(trading_bot.risk.standing.state)
        doubts.add(trading_bot.risk.account.trouble.partition(":")[0])

    trading_bot.run(replay(Recording(path)).pipe(operators.do_action(look)))

    assert states[-1] == "ACTIVE"
    assert {*states} == {"REDUCING", "ACTIVE"}
    assert doubts <= {"no account snapshot yet", "account frames were lost", ""}


# === The commands ===


@pytest.fixture
def stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, validated: Callable[..., None]
) -> Callable[..., tuple[Desk, list[str]]]:
    """Set a scene: these frames come, a desk stands for the node, and the words to type."""

    def set_(command: str, *frames: Frame) -> tuple[Desk, list[str]]:
        def received(*_: Any, pace: Any, **__: Any) -> Any:
            return reactivex.from_iterable(takewhile(pace, frames))

        desk = Desk()
        validated("ok", snapshot())
        monkeypatch.setattr(bot.live.trade, "restriction", lambda *_: "")
        monkeypatch.setattr(bot.live.trade, "reconcile", lambda *_: 0)
        monkeypatch.setenv("DYDX_PRIVATE_KEY", HEX)
        monkeypatch.setattr(bot.live.trade, "Trader", lambda *_, **__: desk)
        monkeypatch.setattr(bot.live.trade, "live", received)
        return desk, [command, "--network", "local", "--audit", str(tmp_path / "audit.jsonl")]

    return set_


@pytest.mark.replays
def test_a_trade_is_reported_and_recorded_for_replay(
    stage: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Orders go to the trader; what was lived replays to the same hash, sized the same."""
    frames = chain([snapshot()], islice(Recording(find_recording("quickstart")), 6_000))
    # `live` numbers what it puts in order.
    numbered = [msgspec.structs.replace(frame, seq=n) for n, frame in enumerate(frames, 1)]
    desk, typed = stage("trade", *numbered)
    recorded = tmp_path / "run.jsonl.zst"

    assert main([*typed, "--record", str(recorded), "--json"]) == 0
    lived = json.loads(capsys.readouterr().out)
    assert main(["replay", str(recorded), "--json"]) == 0
    replayed = json.loads(capsys.readouterr().out)

    assert desk.requests
    assert desk.closed
    assert lived["verdicts"]["approved"] == len([w for w, _ in desk.requests])
    assert lived["money_usdc"]["deposit"] == replayed["money_usdc"]["deposit"] == 1000
    assert lived["money_usdc"]["equity"] == 1000
    assert replayed["run_hash"] == lived["run_hash"]
    run = f"trade {US} 1000 --profile steady --strategy rank"
    assert Recording(recorded).header.run == run
    assert '"event":"ended"' in (tmp_path / "audit.jsonl").read_text()


def test_what_a_trade_leaves_open_is_reported(
    stage: Callable[..., Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody guards it any more; that is no failure, unless --flatten was given."""
    _, typed = stage("trade", markets_frame(BTC), snapshot(**HELD), *ticks(*range(20)))
    typed += ["--tickers", "BTC-USD", "--seconds", "2", "--database", "none"]

    assert main(typed) == 0
    left = capsys.readouterr()
    monkeypatch.setenv("DYDX_PRIVATE_KEY", HEX)
    assert main([*typed, "--flatten"]) == 1
    flattened = capsys.readouterr()

    for printed in (left, flattened):
        assert re.search(
            r"\nopen         BTC-USD \+1 \(100.00 USDC, 0.09x\), no price liquidates it: nobody",
            printed.out,
        )
    closes = "bot: this closes what stays open: bot flatten --network local\n"
    assert left.err == closes
    assert flattened.err == f"bot: expected nothing to be held, got BTC-USD +1\n{closes}"


OPEN = {
    "id": order_id(US, ORDER),
    "status": "OPEN",
    "clientId": "7",
    "clobPairId": "0",
    "orderFlags": "0",
    "goodTilBlock": "20",
    "size": "1",
    "totalFilled": "0",
}


def opened() -> Frame:
    """Make the first frame of an account with one order, of whoever placed it."""
    return wire().account(US, "1000", orders=[OPEN])


def listed(*rows: Any) -> Frame:
    """Make the answer of REST that lists the orders of the account."""
    path = f"/v4/orders?address={US.owner}&subaccountNumber={US.number}&limit=100"
    return Frame(12, NOW, 8, "rest", "http", json.dumps(rows), "200", path)


def test_cancel_all_takes_everything_off(
    stage: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """It waits for the account, cancels, and ends when the last order is gone: exit code 0."""
    gone = account_frame({"orders": [{**OPEN, "status": "BEST_EFFORT_CANCELED"}]})
    frames = opened(), *ticks(1), gone, listed(), *ticks(2, 3)
    desk, typed = stage("cancel-all", *ticks(0), *frames)

    assert main(typed) == 0

    assert [cancel.client_id for request, _ in desk.requests for cancel in request.cancels] == [7]
    assert "1 of 1 orders are off the books" in capsys.readouterr().out


TWAP_ROW = {
    "id": "a TWAP", "clientId": "4", "clobPairId": "0", "side": "BUY", "size": "300",
    "totalFilled": "30", "status": "FILLED", "type": "TWAP", "orderFlags": "128",
    "goodTilBlockTime": "2026-07-14T10:00:00.000Z", "updatedAtHeight": "120", "duration": "300",
    "interval": "30",
}  # fmt: skip


def test_cancel_all_ends_a_twap_that_no_snapshot_lists(
    stage: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """REST names it, FILLED as it is after its first leg: it is cancelled, its parts are not."""
    part = {**TWAP_ROW, "id": "a part", "orderFlags": "256", "status": "OPEN", "duration": None}
    ended = account_frame({"orders": [{**TWAP_ROW, "status": "CANCELED"}]})
    frames = snapshot(), *ticks(1), listed(TWAP_ROW, part), *ticks(2), ended, *ticks(3)
    desk, typed = stage("cancel-all", *frames)

    assert main(typed) == 0

    [(cancelled, number)] = desk.requests
    assert (cancelled.client_id, cancelled.order_flags, number) == (4, 128, 0)
    assert "1 of 1 orders are off the books" in capsys.readouterr().out


def test_cancel_all_does_not_call_it_done_while_a_twap_may_go_on(
    stage: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the list of REST nobody knows."""
    _, typed = stage("cancel-all", snapshot(), *ticks(1, 61))

    assert main(typed) == 1

    assert "expected a list of orders from REST, got none" in capsys.readouterr().err


def test_an_order_that_stays_is_a_one(
    stage: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """After a minute; it is named, with the reason if there is one."""
    desk, typed = stage("cancel-all", opened(), listed(OPEN), *ticks(1, 61, 62))
    desk._answer = NotQueued("the window is shut", "")

    assert main(typed) == 1

    printed = capsys.readouterr()
    assert "0 of 1 orders are off the books" in printed.out
    assert "refused: the window is shut" in printed.err
    assert f"expected order {OPEN['id']} off the books, got OPEN" in printed.err


def test_an_order_is_cancelled_again_until_its_end_is_reported(
    stage: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """A cancel may be lost, and the indexer may be half a minute late: every 5 s again."""
    gone = account_frame({"orders": [{**OPEN, "status": "CANCELED"}]})
    frames = *ticks(*range(1, 32)), msgspec.structs.replace(gone, seq=40), *ticks(32, 33)
    desk, typed = stage("cancel-all", opened(), listed(OPEN), *frames)

    assert main(typed) == 0

    assert len(desk.requests) == 7
    assert "1 of 1 orders are off the books" in capsys.readouterr().out


def test_cancel_all_waits_for_what_the_indexer_does_not_know_yet(
    stage: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """An order placed just before may be reported late: not before the node's block it is over."""
    late = account_frame({"orders": [OPEN]})
    gone = account_frame({"orders": [{**OPEN, "status": "CANCELED"}]})
    frames = *ticks(1), late, *ticks(2), gone, wire().block(9), *ticks(3)
    desk, typed = stage("cancel-all", snapshot(), listed(), *frames)
    desk.height = 9

    assert main(typed) == 0
    assert "1 of 1 orders are off the books" in capsys.readouterr().out
    desk, typed = stage("cancel-all", snapshot(), listed(), *ticks(1, 61))
    desk.height = 9
    assert main(typed) == 1
    assert "expected the indexer to come to block 9, got 1" in capsys.readouterr().err


def test_an_account_that_sends_nothing_is_a_two(
    stage: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is known to be off the books."""
    _, typed = stage("cancel-all", *ticks(1, 61))

    assert main(typed) == 2

    assert "got none" in capsys.readouterr().err


@pytest.fixture
def left(stage: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Set the scene of an account that nobody trades any more."""

    def set_(*frames: Frame) -> tuple[Desk, list[str]]:
        def received(*_: Any, pace: Any, inbox: Inbox, **__: Any) -> Any:
            return reactivex.from_iterable(takewhile(pace, frames)).pipe(among(inbox))

        found: tuple[Desk, list[str]] = stage("flatten", *frames)
        monkeypatch.setattr(bot.live.trade, "held_tickers", lambda *_: ["BTC-USD"])
        monkeypatch.setattr(bot.live.trade, "live", received)
        return found

    return set_


CLOSED = account_frame(
    {"perpetualPositions": [position("0", "0", "0", status="CLOSED")], "blockHeight": "2"}
)


def test_flatten_closes_what_is_held_and_cancels_what_is_open(
    left: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """By an order that only reduces, each five blocks again; exit code 0."""
    first = wire().account(US, "1000", [HELD["BTC-USD"]], orders=[OPEN])
    gone = account_frame({"orders": [{**OPEN, "status": "CANCELED"}]})
    frames = markets_frame(BTC), wire(2).block(2), first, listed(OPEN), *ticks(1, 2)
    desk, typed = left(*frames, gone, CLOSED, *ticks(3, 4))

    assert main(typed) == 0

    exits = [request for request, _ in desk.requests if isinstance(request, OrderRequest)]
    assert [(e.side, e.reduce_only, e.time_in_force) for e in exits] == [("SELL", True, "IOC")]
    assert any(not isinstance(request, OrderRequest) for request, _ in desk.requests)
    printed = capsys.readouterr()
    assert f"{US}: 1 of 1 positions are closed, 1 of 1 orders are off the books" in printed.out


def test_flatten_waits_for_no_disk(
    left: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the file that names who holds the subaccount cannot be written, it is a warning."""
    first = wire().account(US, "1000", [HELD["BTC-USD"]])
    frames = markets_frame(BTC), wire(2).block(2), first, listed(), *ticks(1, 2)
    desk, typed = left(*frames, CLOSED, *ticks(3, 4))

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)

    assert main(typed) == 0
    assert [type(request) for request, _ in desk.requests] == [OrderRequest]
    assert "bot: warning: expected to hold" in capsys.readouterr().err


def test_what_flatten_cannot_close_is_named_with_the_reason(
    left: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """After a minute; exit code 1. A market that takes no orders is one."""
    paused = {"BTC-USD": market_fields("BTC-USD", price="100", status="PAUSED")}
    frames = markets_frame(paused), wire(2).block(2), snapshot(**HELD), listed()
    _, typed = left(*frames, *ticks(*range(1, 64)))

    assert main(typed) == 1

    printed = capsys.readouterr()
    assert "0 of 1 positions are closed" in printed.out
    assert re.search(r"expected nothing to be held, got BTC-USD \+1: .*PAUSED", printed.err)


def test_flatten_of_an_account_that_sends_nothing_is_a_two(
    left: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is known to be closed."""
    _, typed = left(*ticks(1, 61, 62))

    assert main(typed) == 2
    assert "expected what" in capsys.readouterr().err


def test_flatten_without_a_network_is_the_bot_that_runs_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its key is in the environment, as it was for the bot; a testnet has no question."""
    flattened: dict[Any, int] = {(None, "panic"): 0}
    monkeypatch.setenv("DYDX_PRIVATE_KEY", HEX)
    monkeypatch.setattr(bot.live.trade, "running", lambda: {os.getpid(): None})
    monkeypatch.setattr(bot.live.trade, "flatten_run", lambda *what: flattened[what])

    assert main(["flatten", "--why", "panic"]) == 0


def test_flatten_where_a_bot_runs_is_the_bots(
    left: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another command that has the subaccount is waited for by whoever typed this."""
    _, typed = left()
    requested: list[Any] = []

    def closes(*what: Any) -> int:
        requested.append(what)
        return 0

    monkeypatch.setattr(bot.live.trade, "flatten_run", closes)
    with claimed(NETWORKS["local"], US, "trade"):
        assert main(typed) == 2  # it is not within reach
        monkeypatch.setenv("DYDX_PRIVATE_KEY", HEX)
        monkeypatch.setattr(bot.live.trade, "running", lambda: {os.getpid(): None})
        assert main([*typed, "--why", "now"]) == 0
    assert main(["flatten", "77"]) == 0

    assert requested == [(os.getpid(), "now"), (77, "")]
    assert "got bot trade as process" in capsys.readouterr().err


def test_the_markets_of_what_is_held_are_queried(monkeypatch: pytest.MonkeyPatch) -> None:
    """None where nobody answers: then the oracle price is enough."""
    body = {"subaccount": {"equity": "1", "openPerpetualPositions": HELD, "assetPositions": {}}}
    for text, tickers in ((json.dumps(body), ["BTC-USD"]), ("no JSON", [])):
        with answering(200, text) as (net, _):
            assert held_tickers(net, US) == tickers


def test_a_position_of_a_new_connection_is_not_a_new_one() -> None:
    """A second snapshot reports the same: nothing is earned by losing a connection."""
    venue = venue_with()
    held: Any = {"BTC-USD": position("1", "50", "-3")}

    receive(venue, snapshot(**held), snapshot(**held))

    assert venue.figures().realized_pnl == 0
    assert venue.figures().complete
