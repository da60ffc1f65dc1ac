"""Somebody else at the account: what it does to a run, and that a recording does it again."""

import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
import reactivex
from bot.commands import parser
from bot.live.runs import options_of
from bot.report.report import report_lines, report_of
from bot.report.status import status_lines, status_of
from bot.run.composition import Bot, Options
from bot.run.wire import WireVenue, range_words, ranges
from dydx_conn import Frame, OrderRequest, Subaccount, WireWriter, order_id
from dydx_risk import Policy
from hypothesis import given
from hypothesis import strategies as some

US = Subaccount("dydx1us", 0)
NOW = 1_767_225_600 * 10**9
OURS = OrderRequest(
    ticker="BTC-USD", clob_pair_id=0, side="BUY", quantums=10_000_000_000, subticks=6_000_000_000,
    time_in_force="IOC", client_id=7, good_til_block=110,
)  # fmt: skip
THEIRS = order_id(US, msgspec.structs.replace(OURS, client_id=5))
BESIDE = Options(strategy="none", policy=Policy(hand_beside=True))
ALONE = Options(strategy="none")


def numbered(frames: Iterable[Frame]) -> list[Frame]:
    """Number frames as one connection's, a second apart."""
    return [
        msgspec.structs.replace(frame, seq=n, at=NOW + n * 10**9, mono=n * 10**9)
        for n, frame in enumerate(frames, 1)
    ]


def message(type_: str, **contents: Any) -> Frame:
    """Make a message of the account's channel, at block 12."""
    fields = {**contents, "blockHeight": "12"}
    return WireWriter(at=NOW).message(type_, "v4_subaccounts", fields, str(US))


def row(client_id: str = "5", status: str = "BEST_EFFORT_OPENED") -> dict[str, Any]:
    """Describe an order that this run did not send."""
    return {
        "id": THEIRS, "status": status, "clientId": client_id, "clobPairId": "0", "price": "60000",
        "orderFlags": "0", "ticker": "BTC-USD", "side": "BUY", "size": "1", "goodTilBlock": "110",
    }  # fmt: skip


def begun(*orders: dict[str, Any]) -> Frame:
    """Make the account's first frame."""
    held = {
        "equity": "1000", "openPerpetualPositions": {}, "updatedAtHeight": "10",
        "latestProcessedBlockHeight": "10",
        "assetPositions": {"USDC": {"symbol": "USDC", "side": "LONG", "size": "1000"}},
    }  # fmt: skip
    return message("subscribed", subaccount=held, orders=[*orders])


def sent() -> Frame:
    """Report that this run sent an order."""
    place = msgspec.to_builtins(OURS)
    text = json.dumps({"ids": [order_id(US, OURS)], "subaccount": str(US), "place": place})
    return Frame(1, NOW, 1, "node", "sent", text, "", "place")


def act(what: str, text: str = "", who: str = "command") -> Frame:
    """Make an act."""
    return Frame(1, NOW, 1, who, "act", text, what)


def order(**how: Any) -> Frame:
    """Report that order."""
    return message("channel_data", orders=[row(**how)])


def run(options: Options, *frames: Frame) -> tuple[Bot, list[Frame]]:
    """Play frames; return the bot, and all frames as a recording has them."""
    bot, recorded = Bot(options, WireVenue(US)), list[Frame]()
    bot.made.record = recorded.append
    source = reactivex.from_iterable(numbered(frames))
    bot.run(source.pipe(reactivex.operators.do_action(recorded.append)))
    return bot, recorded


WHY = "somebody else trades the account: BUY 1 BTC-USD at 60000 (client id 5) is OPEN"


def acts(bot: Bot) -> list[str]:
    """Return the words of a run's acts."""
    return [entry.words for entry in bot.journal.of_kind("act")]


def test_a_strangers_order_halts_the_run_and_says_so() -> None:
    """In the journal, the report and the status, with the order."""
    bot, _ = run(ALONE, begun(), order())

    assert acts(bot) == [f"halt by account: {WHY}"]
    halted = f"halted: {WHY} (by account)"
    assert bot.risk.standing.state == "HALTED"
    assert ("FOREIGN", halted) in bot.risk.standing.reasons
    assert f"HALTED       {halted}" in report_lines(report_of(bot, name="run"))
    assert f"             {halted}" in status_lines(status_of(bot, "TRADE", "run"))


def test_a_hand_beside_the_bot_has_its_market_to_itself() -> None:
    """Nothing is halted."""
    bot, _ = run(BESIDE, begun(), order())

    assert acts(bot) == [f"adopt by account: {WHY}"]
    assert bot.risk.standing.state != "HALTED"
    assert bot.risk.account.by_hand == {"BTC-USD"}
    status = status_lines(status_of(bot, "TRADE", "run"))
    assert "by hand      BTC-USD: somebody else trades there" in status
    report = report_lines(report_of(bot, name="run"))
    assert "by hand      BTC-USD: somebody else traded there" in report


def test_what_is_done_while_it_is_halted_is_no_news() -> None:
    """It is reported, and whoever resumes takes it over."""
    bot, _ = run(ALONE, begun(), act("halt", "by hand now"), order(), act("resume"))

    assert acts(bot)[1:] == [f"adopt by account: {WHY}", "resume by command: no reason was given"]
    assert bot.risk.standing.state != "HALTED"


@pytest.mark.parametrize("options", [ALONE, BESIDE])
def test_a_recorded_stranger_replays_to_the_same_bytes(options: Options) -> None:
    """The run makes the act again, and takes the recorded one for the same."""
    lived, recorded = run(options, begun(), order(), message("channel_data"), order(status="OPEN"))
    again = Bot(options, WireVenue(US))
    again.run(reactivex.from_iterable(recorded))

    assert [frame.type for frame in recorded if frame.kind == "act"] == [acts(lived)[0].split()[0]]
    assert again.journal.hash == lived.journal.hash


def test_who_signs_for_another_subaccount_halts_nothing() -> None:
    """Its sequence is the address's: it is reported."""
    result = {"code": 32, "codespace": "sdk", "log": "expected 8, got 7"}
    text = json.dumps({"to": "cancel", "ids": ["x"], "until": 20, "result": result})
    bot, _ = run(ALONE, begun(), Frame(1, NOW, 1, "node", "http", text, "32", "broadcast"))

    words = "note by account: another client signs for the address: expected 8, got 7"
    assert acts(bot) == [words]
    assert bot.risk.standing.state != "HALTED"


def test_what_this_run_and_earlier_runs_sent_is_nobody_elses() -> None:
    """The act that begins the run has the numbers of those before."""
    ids = act("ids", range_words([(90, 95), (5, 6)]), "restart")
    bot, _ = run(ALONE, ids, begun(), sent(), order())

    assert acts(bot) == ["ids by restart: sent by earlier runs: 90-95, 5-6"]
    assert bot.risk.standing.state != "HALTED"


@given(
    some.lists(some.tuples(some.integers(0, 2**32 - 1), some.integers(0, 2**32 - 1)), max_size=8)
)
def test_ranges_of_ids_survive_their_words(given_: list[tuple[int, int]]) -> None:
    """As an act is text, and short."""
    assert ranges(range_words(given_)) == tuple(given_)
    assert len(range_words(given_)) <= 300


def test_an_order_that_stood_before_the_run_is_reported_and_left_alone() -> None:
    """As long as it may fill."""
    bot, _ = run(ALONE, begun(row()))
    gone, _ = run(ALONE, begun(row()), order(status="CANCELED"))

    lines = report_lines(report_of(bot, name="run"))
    words = "BTC-USD BUY 1 at 60,000: OPEN: it stood before the run and is left alone"
    assert f"standing     {words}" in lines
    assert acts(bot) == []
    assert report_of(gone, name="run")["standing"] == []


@pytest.mark.parametrize(("options", "theirs"), [(ALONE, set()), (BESIDE, {"BTC-USD"})])
def test_an_order_from_before_the_run_that_trades_is_reported_and_halts_nothing(
    options: Options, theirs: set[str]
) -> None:
    """It is whose hand is beside the bot, if one is; else the run takes over what it holds."""
    fill = {
        "id": "f", "side": "BUY", "size": "1", "price": "60000", "ticker": "BTC-USD", "fee": "0",
        "liquidity": "TAKER", "type": "LIMIT", "orderId": THEIRS, "createdAt": "",
        "createdAtHeight": "12",
    }  # fmt: skip
    held = {"market": "BTC-USD", "status": "OPEN", "side": "LONG", "size": "1", "entryPrice": "6"}
    traded = message("channel_data", fills=[fill], perpetualPositions=[held])
    bot, _ = run(options, begun(row()), traded)

    words = "an order from before the run traded: BUY 1 BTC-USD filled at 60000 (client id 5)"
    assert acts(bot) == [f"adopt by account: {words}"]
    assert bot.risk.account.by_hand == theirs
    assert bot.risk.standing.state != "HALTED"


@pytest.mark.parametrize(
    ("typed", "beside"),
    [([], False), (["--hand-beside"], True), (["--strategy", "none"], True)],
)
def test_who_may_be_beside_the_bot_is_an_option(typed: list[str], beside: bool) -> None:
    """Without a strategy, it is the person whose account the guard looks after."""
    options = options_of(parser().parse_args(["replay", *typed]))

    assert options.policy.hand_beside is beside
