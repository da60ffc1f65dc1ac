"""Who sent the orders of an account: ours, an earlier run's, what stood there, and strangers'."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dydx_conn
import msgspec
import pytest
from dydx_conn import (
    Accounts,
    Frame,
    OrderRequest,
    Origins,
    Recording,
    Subaccount,
    WireWriter,
    find_recording,
    is_of,
    limit,
    market_parameters,
    order_id,
)
from hypothesis import given
from hypothesis import strategies as some

BTC = market_parameters("BTC-USD")
US = Subaccount("dydx1us", 0)
ORDER = limit(BTC, "BUY", "1", "60000", client_id=7, good_til_block=110)
ID = order_id(US, ORDER)
SESSIONS = sorted(find_recording("quickstart").parent.glob("localnet/*/frames.jsonl.zst"))
LIST = f"/v4/orders?address={US.owner}&subaccountNumber=0&limit=100"

# === Frames ===


def reports(contents: dict[str, Any], type: str = "channel_data") -> Frame:
    """Make a message of the account."""
    return WireWriter().message(type, "v4_subaccounts", contents, str(US))


def snapshot(*orders: dict[str, Any], height: int = 10) -> Frame:
    """Begin a subscription with these orders, at a block."""
    held = {
        "equity": "1", "openPerpetualPositions": {}, "updatedAtHeight": str(height),
        "latestProcessedBlockHeight": str(height),
        "assetPositions": {"USDC": {"symbol": "USDC", "side": "LONG", "size": "1000"}},
    }  # fmt: skip
    contents = {"subaccount": held, "orders": [*orders], "blockHeight": str(height)}
    return reports(contents, "subscribed")


def row(status: str = "BEST_EFFORT_OPENED", **fields: Any) -> dict[str, Any]:
    """Describe an order as the indexer does."""
    return {
        "id": ID, "status": status, "clientId": "7", "clobPairId": "0", "orderFlags": "0",
        "ticker": "BTC-USD", "side": "BUY", "size": "1", "price": "60000", "goodTilBlock": "110",
        **fields,
    }  # fmt: skip


def order(status: str = "BEST_EFFORT_OPENED", **fields: Any) -> Frame:
    """Report an order."""
    return reports({"orders": [row(status, **fields)], "blockHeight": "12"})


def fill(id: str = ID, type: str = "LIMIT", height: int = 12) -> dict[str, Any]:
    """Describe a fill as the indexer does."""
    return {
        "id": f"fill of {id}", "side": "BUY", "size": "1", "price": "60000", "ticker": "BTC-USD",
        "liquidity": "TAKER", "type": type, "orderId": id or None, "createdAt": "",
        "createdAtHeight": str(height),
    }  # fmt: skip


def fills(**how: Any) -> Frame:
    """Report a fill without its order."""
    return reports({"fills": [fill(**how)], "blockHeight": "12"})


def listed(*orders: dict[str, Any]) -> Frame:
    """Answer the list of all orders."""
    return WireWriter().answer(LIST, [*orders])


def sent(request: OrderRequest = ORDER) -> Frame:
    """Report that we sent an order."""
    content = {"ids": [order_id(US, request)], "subaccount": str(US), "size": "1"}
    text = json.dumps({**content, "place": msgspec.to_builtins(request)})
    return Frame(0, 0, 0, "node", "sent", text, "", "place")


def block(height: int) -> Frame:
    """Report a block."""
    return WireWriter().block(height)


def found(
    *frames: Frame, earlier: Iterable[tuple[int, int]] = (), only: Iterable[Subaccount] = (US,)
) -> tuple[list[str], Origins]:
    """Play frames; return how strangers were noticed, and what noticed them."""
    accounts = Accounts(only)
    origins = Origins(accounts.orders)
    origins.earlier = tuple(earlier)
    words: list[str] = []
    for frame in frames:
        origins.observe(frame)
        for update in accounts.step(frame):
            origins.take(update)
        words += [f"{s.words}{', which stood' * s.stood}" for s in origins.found()]
    return words, origins


FILLED = "BUY 1 BTC-USD filled at 60000"
OPEN = "BUY 1 BTC-USD at 60000 (client id 7) is OPEN"

# === Strangers ===


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([order()], [OPEN]),
        ([order(), order("FILLED", totalFilled="1"), fills()], [OPEN]),
        ([order("FILLED", totalFilled="1"), fills()], [f"{FILLED} (client id 7)"]),
        ([reports({"orders": [row("FILLED")], "fills": [fill()], "blockHeight": "12"})],
         [f"{FILLED} (client id 7)"]),
        # It was placed while no link was open.
        ([snapshot(row(), height=20)], [OPEN]),
        # REST alone tells of it.
        ([listed(), listed(row(updatedAtHeight="12"))], [OPEN]),
    ],
)  # fmt: skip
def test_what_nobody_of_ours_sent_is_a_stranger_once(frames: list[Frame], words: list[str]) -> None:
    """By the first that is reported of it: an order, or its fill."""
    assert found(snapshot(), *frames)[0] == words


@pytest.mark.parametrize("first", [[snapshot(), sent()], [sent(), snapshot()]])
def test_what_we_sent_is_none(first: list[Frame]) -> None:
    """Whatever becomes of it."""
    assert found(*first, order(), order("FILLED", totalFilled="1"), fills())[0] == []


@pytest.mark.parametrize("frame", [order("CANCELED"), order("BEST_EFFORT_CANCELED"), listed(row())])
def test_what_ends_without_a_fill_or_was_there_is_none(frame: Frame) -> None:
    """A cancel of an order that the indexer does not know, too."""
    assert found(snapshot(), frame)[0] == []


@pytest.mark.parametrize("type_", ["LIQUIDATED", "DELEVERAGED", "OFFSETTING"])
def test_what_the_venue_takes_is_no_strangers(type_: str) -> None:
    """It has no order."""
    assert found(snapshot(), fills(id="", type=type_), block(100))[0] == []


def test_a_fill_waits_for_its_order_and_is_a_strangers_without_it() -> None:
    """Thirty blocks: that is how far an indexer is behind its node."""
    waiting = [snapshot(), block(12), fills()]

    assert found(*waiting, block(42))[0] == []
    assert found(*waiting, block(42), order("FILLED"), block(80), earlier=[(7, 8)])[0] == []
    assert found(*waiting, block(43), block(44))[0] == [FILLED]
    assert found(*waiting, order("OPEN"), block(80))[0] == [OPEN]


def test_an_order_without_a_name_waits_as_well() -> None:
    """An update may hold little of it."""
    bare = reports({"orders": [{"id": ID, "status": "OPEN"}], "blockHeight": "12"})

    assert found(snapshot(), block(12), bare, block(42))[0] == []
    assert found(snapshot(), block(12), bare, block(43))[0] == ["an order is OPEN"]


def refused(codespace: str, log: str = "account sequence mismatch, expected 8, got 7") -> Frame:
    """Answer a broadcast with a 32."""
    result = {"code": 32, "codespace": codespace, "log": log}
    text = json.dumps({"to": "cancel", "ids": [ID], "until": 20, "result": result})
    return Frame(0, 0, 0, "node", "http", text, "32", "broadcast")


def test_a_sequence_that_somebody_else_used_is_noticed() -> None:
    """It names no order: it may be another subaccount's. The same number means else elsewhere."""
    words, _ = found(snapshot(), refused("sdk"), refused("clob"))

    assert words == [
        "another client signs for the address: account sequence mismatch, expected 8, got 7"
    ]
    broken = msgspec.structs.replace(refused("sdk"), text="{")
    assert found(snapshot(), broken)[0] == []


# === Earlier runs ===


@pytest.mark.parametrize(
    ("range_", "ours"),
    [((7, 8), True), ((0, 8), True), ((8, 9), False), ((0, 7), False),
     ((2**32 - 5, 8), True), ((2**32 - 5, 7), False)],
)  # fmt: skip
def test_an_order_of_an_earlier_run_is_ours(range_: tuple[int, int], ours: bool) -> None:
    """Its number tells, where the numbers come round too; it may fill late."""
    frames = [snapshot(), order("FILLED", totalFilled="1"), fills()]

    assert (found(*frames, earlier=[(90, 99), range_])[0] == []) is ours


@given(some.integers(0, 2**32 - 1), some.integers(1, 10_000), some.integers(0, 2**32 - 1))
def test_a_range_holds_what_is_in_it(first: int, count: int, other: int) -> None:
    """And nothing else."""
    ranges = [(first, (first + count) % 2**32)]
    inside = {(first + n) % 2**32 for n in range(count)}

    numbers = (first, (first + count - 1) % 2**32, (first + count) % 2**32, other)
    found = [is_of(number, ranges) for number in numbers]
    assert found == [number in inside for number in numbers]


# === What stood there ===


def test_orders_that_stand_as_it_begins_are_reported_and_no_strangers() -> None:
    """In the first snapshot or the first list; the first fill of each is noticed as such."""
    more = reports({"fills": [fill() | {"id": "another"}], "blockHeight": "12"})
    words, origins = found(snapshot(row()), fills(), more, listed(row(id="o2", clientId="8")))

    assert words == [f"{FILLED} (client id 7), which stood"]
    assert [*origins.standing] == [ID, "o2"]


def test_what_a_snapshot_of_a_lagging_replica_lacks_stood_there_by_its_block() -> None:
    """A later one lists it as of a block before the first."""
    frames = [snapshot(height=10), listed(), snapshot(row(updatedAtHeight="9"), height=30)]
    words, origins = found(*frames)

    assert words == []
    assert [*origins.standing] == [ID]


TWAP = {"orderFlags": "128", "type": "TWAP", "goodTilBlockTime": "2026-03-01T00:00:00.000Z"}


def test_a_twap_that_is_reported_before_the_first_list_stood_there() -> None:
    """No snapshot lists it, and a leg may fill before."""
    twap = row("OPEN", **TWAP, totalFilled="1", size="3")
    leg = reports({"orders": [twap], "fills": [fill()], "blockHeight": "12"})

    words, origins = found(snapshot(), leg, listed(twap), leg, block(90))
    assert words == [f"{FILLED} (client id 7), which stood"]
    assert [*origins.standing] == [ID]
    assert found(snapshot(), listed(), leg)[0] == [
        "BUY 3 BTC-USD at 60000 (client id 7) is PARTIALLY_FILLED"
    ]


def test_only_the_newest_that_were_judged_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run for months does not grow."""
    monkeypatch.setattr(dydx_conn, "_MOST_JUDGED", 2)
    _, origins = found(snapshot(*(row(id=f"o{n}") for n in range(5))))

    assert [*origins._judged] == ["o3", "o4"]


# === The real software ===


@pytest.mark.replays
@pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.parent.name)
def test_the_real_software_raises_no_false_alarm(path: Path) -> None:
    """With the session's own ids nothing is a stranger's; without, each live order, once.

    Liquidations, deleveragings, a TWAP's legs, triggers, replacements and lost links are in them.
    """
    frames, accounts = [*Recording(path)], Accounts()
    updates = [update for frame in frames for update in accounts.step(frame)]
    states = accounts.orders.orders
    ids = [state.named.client_id for state in states.values() if state.named]

    words, origins = found(*frames, earlier=[(n, (n + 1) % 2**32) for n in ids], only=())
    assert (words, origins.standing) == ([], {})
    strangers, origins = found(*frames, only=())
    traded = {fill.order_id for update in updates for fill in update.fills if fill.order_id}
    assert len(traded) <= len(strangers) <= len(states)
