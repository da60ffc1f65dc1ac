"""What frames report of accounts: the same facts, however, whenever and by whom."""

from collections.abc import Iterable
from decimal import Decimal
from random import Random
from typing import Any

import msgspec
import pytest
from dydx_conn import (
    MARBLE_CASES,
    Accounts,
    AccountUpdate,
    Frame,
    Profit,
    Subaccount,
    WireWriter,
    account_updates,
    collect,
    play,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from reactivex import from_iterable, of

US = Subaccount("dydx1a", 3)
PATH = "/v4/addresses/dydx1a/subaccountNumber/3"
QUERY = "address=dydx1a&subaccountNumber=3"
FILLS = f"/v4/fills?limit=100&{QUERY}"

# === Frames ===


def reports(
    contents: dict[str, Any],
    type: str = "channel_data",
    channel: str = "v4_subaccounts",
    **more: Any,
) -> Frame:
    """Make a message of our channel, or of another."""
    return WireWriter().message(type, channel, contents, str(US), **more)


def block(height: int) -> Frame:
    """Report a block."""
    return WireWriter().block(height)


def answers(path: str, body: Any, status: str = "200") -> Frame:
    """Answer a request over REST."""
    return WireWriter().answer(path, body, status)


def usdc(balance: float | Decimal) -> dict[str, str]:
    """Report a balance."""
    side = "LONG" if balance >= 0 else "SHORT"
    return {"symbol": "USDC", "side": side, "size": f"{abs(balance)}"}


def position(
    ticker: str, size: Decimal | str, entry: str = "100", status: str = "OPEN"
) -> dict[str, Any]:
    """Report a position."""
    side = "SHORT" if str(size).startswith("-") else "LONG"
    return {
        "market": ticker,
        "status": status,
        "size": f"{size}",
        "side": side,
        "entryPrice": entry,
    }


def fill(
    id: str, side: str, size: Decimal | str, price: str = "100", fee: str = "0", **more: Any
) -> dict[str, Any]:
    """Report a fill."""
    return {
        "id": id, "side": side, "size": f"{size}", "price": price, "fee": fee, "ticker": "A-USD",
        "liquidity": "TAKER", "type": "LIMIT", "orderId": "o1",
        "createdAt": "2026-01-01T00:00:01.000Z", **more,
    }  # fmt: skip


def summary(height: int, balance: Decimal | float = 1000, *held: dict[str, Any]) -> dict[str, Any]:
    """Sum the account up as the indexer does: as it is since the block `height`."""
    return {
        "subaccountNumber": 3, "equity": "1", "updatedAtHeight": str(height),
        "latestProcessedBlockHeight": str(height),
        "openPerpetualPositions": {row["market"]: row for row in held},
        "assetPositions": {"USDC": usdc(balance)},
    }  # fmt: skip


def snapshot(height: int, balance: Decimal | float = 1000, *held: dict[str, Any]) -> Frame:
    """Begin a subscription."""
    contents = {"subaccount": summary(height, balance, *held), "orders": []}
    return reports({**contents, "blockHeight": str(height)}, "subscribed")


def polled(height: int, balance: Decimal | float = 1000, *held: dict[str, Any]) -> Frame:
    """Answer what the account holds."""
    return answers(PATH, {"subaccount": summary(height, balance, *held)})


def folded(*frames: Frame) -> list[AccountUpdate]:
    """Fold frames numbered from 1."""
    numbered = [msgspec.structs.replace(frame, seq=n) for n, frame in enumerate(frames, 1)]
    return collect(from_iterable(numbered).pipe(account_updates()))


def last(*frames: Frame) -> AccountUpdate:
    """Fold frames; return the last update."""
    return folded(*frames)[-1]


def held(updates: Iterable[AccountUpdate]) -> dict[str, Decimal]:
    """Add the changes of positions up."""
    positions: dict[str, Decimal] = {}
    for update in updates:
        positions |= {state.ticker: state.size for state in update.positions}
    return {ticker: size for ticker, size in positions.items() if size}


# === Where an account comes from ===


@pytest.mark.parametrize(
    ("frames", "polled_at_the_end"),
    [
        ([], False),
        ([polled(9)], False),
        ([WireWriter().event("close", "1006")], True),
        ([WireWriter().event("close", "1006"), polled(9)], True),
        ([WireWriter().event("gap", "3 lost"), polled(9)], True),
        ([reports({}, "unsubscribed"), polled(9)], True),
        ([WireWriter().event("close", "1006"), polled(9), snapshot(9)], False),
    ],
)
def test_a_socket_that_lives_is_not_polled_whatever_rest_answers_beside_it(
    frames: list[Frame], polled_at_the_end: bool
) -> None:
    """REST is compared with what is silent: such an answer must not age like the only source."""
    assert last(snapshot(9), *frames).polled is polled_at_the_end


def test_an_attempt_that_fails_casts_no_doubt_on_what_rest_answered() -> None:
    """The socket carried nothing that it could lose."""
    lost = WireWriter().event("close", "1006")

    assert last(snapshot(9), lost).doubt
    assert last(snapshot(9), lost, polled(9), lost).doubt == ""
    assert last(snapshot(9), lost, polled(9), WireWriter().event("gap", "3 lost")).doubt


# === Snapshots ===


def test_nothing_is_certain_before_a_snapshot() -> None:
    """What comes before one changes no figure."""
    update = last(reports({"assetPositions": [usdc(5)], "blockHeight": "9"}))

    assert (update.doubt, update.collateral) == ("no account snapshot yet", None)


def test_a_snapshot_reports_all_that_is_held() -> None:
    """Positions, the balance, and no doubt."""
    update = last(snapshot(9, -20, position("A-USD", "2.5", "101.5")))

    assert (update.seq, update.subaccount, update.height) == (1, US, 9)
    assert (update.collateral, update.settled, update.doubt) == (-20_000_000, True, "")
    [state] = update.positions
    assert (state.ticker, state.size, state.entry_price) == (
        "A-USD", Decimal("2.5"), Decimal("101.5"),
    )  # fmt: skip
    assert update.profit == Profit()


def test_an_account_that_was_never_funded_begins_with_nothing() -> None:
    """Its snapshot is empty; the first deposit is a balance, and then a transfer."""
    deposit = {
        "sender": {"address": "dydx1b"}, "recipient": {"address": "dydx1a", "subaccountNumber": 3},
        "size": "5", "symbol": "USDC", "type": "DEPOSIT", "createdAt": "",
        "createdAtHeight": "11", "transactionHash": "AB",
    }  # fmt: skip
    begun = reports({}, "subscribed")
    balance = reports({"assetPositions": [usdc(5)], "blockHeight": "11"})
    transfer = reports({"transfers": deposit, "blockHeight": "11"})
    again = answers(f"/v4/transfers?{QUERY}", {"transfers": [{**deposit, "id": "t1"}]})

    updates = folded(begun, balance, transfer, again, block(14))

    assert [update.collateral for update in updates[:3]] == [0, 5_000_000, 5_000_000]
    assert [update.unexplained for update in updates[:3]] == [0, 5_000_000, 0]
    assert updates[-1].profit.transferred == 5_000_000
    assert updates[-1].profit.funding == 0
    assert [len(update.transfers) for update in updates] == [0, 0, 1, 0, 0][: len(updates)]
    assert updates[-1].doubt == ""


def test_a_snapshot_that_differs_is_right_and_reports_missing_fills() -> None:
    """Profit is complete again once the fills have been requested."""
    whole = snapshot(20, 800, position("A-USD", "2", "100"))
    fills = answers(FILLS, {"fills": [fill("f1", "BUY", "2", createdAtHeight="15")]})

    missing = last(snapshot(9), LOST, whole)
    found = last(snapshot(9), LOST, whole, fills)

    assert (missing.doubt, missing.profit.complete, missing.collateral) == ("", False, 800_000_000)
    assert found.profit == Profit(fills=1)


def test_a_loss_is_a_doubt_until_the_next_snapshot() -> None:
    """Of its own link, or of all; another's, or of a book alone, is none of its business."""
    other = Frame(0, 0, 0, "c2", "close", "")
    book = Frame(0, 0, 0, "c1", "gap", "", channel="v4_orderbook", id="A-USD")
    gap = Frame(0, 0, 0, "", "gap", "")

    doubts = [update.doubt for update in folded(snapshot(9), other, book, gap, snapshot(12))]

    assert doubts == ["", "account frames were lost: gap at 4", ""]


@pytest.mark.parametrize("type", ["error", "unsubscribed"])
def test_a_subscription_that_ends_is_a_doubt(type: str) -> None:
    """Nothing more would be reported."""
    assert last(snapshot(9), reports({}, type)).doubt == f"account frames end: {type} at 2"


@pytest.mark.parametrize(
    ("channel", "id_", "is_ours"),
    [
        ("v4_subaccounts", "", True),
        ("v4_subaccounts", str(US), True),
        ("v4_subaccounts", f"{US.owner}/77", False),
        ("v4_subaccounts", f"somebody/{US.number}", False),
        ("v4_parent_subaccounts", f"{US.owner}/{US.number % 128}", True),
        ("v4_parent_subaccounts", f"{US.owner}/77", False),
    ],
)
def test_what_is_lost_of_another_account_is_no_loss_of_ours(
    channel: str, id_: str, is_ours: bool
) -> None:
    """Several are carried by one link, and a silent subscription is requested again by itself."""
    gap = Frame(0, 0, 0, "c1", "gap", "silent", channel=channel, id=id_)

    doubts = [update.doubt for update in folded(snapshot(9), gap)]

    assert (doubts[-1] != "") is is_ours


def test_a_block_in_which_frames_were_lost_is_as_its_fills_say() -> None:
    """Its last match was not reported: neither its size nor its balance is the block's last."""
    state = {
        "perpetualPositions": [position("A-USD", "1")], "assetPositions": [usdc(900)],
        "blockHeight": "12",
    }  # fmt: skip
    lost = Frame(0, 0, 0, "c1", "gap", "frames lost")
    whole = snapshot(20, 700, position("A-USD", "3"))
    rows = [fill("f1", "BUY", "1"), fill("f2", "BUY", "2")]
    fills = answers(FILLS, {"fills": [{**row, "createdAtHeight": "12"} for row in rows]})

    update = last(snapshot(9), reports(state), lost, block(15), whole, fills, block(24))

    assert update.profit == Profit(fills=2)
    assert (update.collateral, update.doubt) == (700_000_000, "")


def test_what_comes_of_a_block_after_its_snapshot_is_older() -> None:
    """A snapshot is of a block's end: a match of the same block, on its way meanwhile, is not."""
    on_its_way = reports({
        "perpetualPositions": [position("A-USD", "1")], "assetPositions": [usdc(900)],
        "blockHeight": "12",
    })  # fmt: skip

    updates = folded(snapshot(9), snapshot(12, 700, position("A-USD", "3")), on_its_way)

    assert held(updates) == {"A-USD": Decimal(3)}
    assert {update.collateral for update in updates[1:]} == {700_000_000}


def _filled(height: int, was: int, sold: int) -> list[Frame]:
    """Report a block as the socket does: how it stands, then the fill of it."""
    left = position("A-USD", f"{was - sold}", status="OPEN" if was - sold else "CLOSED")
    row = fill(f"f{height}", "SELL", f"{sold}", createdAtHeight=str(height))
    stands = {"perpetualPositions": [left], "assetPositions": [usdc(1000 + 100 * sold)]}
    return [
        reports({**stands, "blockHeight": str(height)}),
        reports({"fills": [row], "perpetualPositions": [left], "blockHeight": str(height)}),
    ]


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("socket_first", [False, True])
@pytest.mark.parametrize("balance", [1000, 1200])
def test_an_answer_with_the_positions_of_before_its_block_hides_no_fill(
    first: bool, socket_first: bool, balance: int
) -> None:
    """The indexer reads the row that has the height, the positions and the balance apart.

    What was sold must not be sold twice.
    """
    early = polled(12, balance, position("A-USD", "2"))
    begun = [] if first else [snapshot(9, 1000, position("A-USD", "2"))]
    sold = _filled(12, 2, 2)
    frames = [*sold, early] if socket_first and not first else [early, *sold]

    updates = folded(*begun, *frames, block(15))

    assert held(updates) == {}
    assert (updates[-1].doubt, updates[-1].collateral) == ("", 1_200_000_000)
    assert [one.id for update in updates for one in update.fills] == ["f12"]


@pytest.mark.parametrize("first", [False, True])
def test_an_answer_with_the_balance_of_before_its_block_hides_none(first: bool) -> None:
    """Positions and balance are two reads of the indexer: the balance alone may be early."""
    begun = [] if first else [snapshot(9, 1000, position("A-USD", "2"))]

    updates = folded(*begun, polled(12), *_filled(12, 2, 2), block(15))

    assert held(updates) == {}
    assert (updates[-1].doubt, updates[-1].collateral) == ("", 1_200_000_000)


@pytest.mark.parametrize("first", [False, True])
def test_a_snapshot_that_the_socket_contradicts_is_a_doubt_once_its_block_is_over(
    first: bool,
) -> None:
    """Which of them is right nobody knows, until the next that is reported of the position."""
    begun = [] if first else [snapshot(9)]
    odd = polled(12, 1000, position("A-USD", "5"))
    moved = _filled(20, 2, 2)

    updates = folded(*begun, odd, *_filled(12, 4, 2), block(15), *moved, block(23))

    doubts = [update.doubt for update in updates[len(begun) :]]
    assert doubts[:4] == [
        "", "", "", "block 12: a snapshot has 5 A-USD, 2 was reported",
    ]  # fmt: skip
    assert held(updates) == {}


def test_a_second_answer_of_the_first_block_is_newer() -> None:
    """It was read later: the first one may have been early."""
    early, whole = polled(12, 1000, position("A-USD", "2")), snapshot(12, 1200)

    updates = folded(early, whole, block(15))

    assert held(updates) == {}
    assert updates[-1].collateral == 1_200_000_000


def test_what_comes_of_the_first_snapshots_block_is_in_it_already() -> None:
    """Its fills are history: neither traded again nor a doubt."""
    updates = folded(snapshot(12, 1200, position("A-USD", "1")), *_filled(12, 3, 2), block(15))

    assert held(updates) == {"A-USD": Decimal(1)}
    assert (updates[-1].doubt, updates[-1].collateral) == ("", 1_200_000_000)
    assert (updates[-1].profit, updates[-1].unexplained) == (Profit(), 0)


def test_a_fill_that_was_reported_before_the_first_snapshot_is_counted_after_it() -> None:
    """REST may be ahead of the replica that answers the subscription."""
    row = fill("f1", "BUY", "2", createdAtHeight="12")
    socket = reports({
        "fills": [row], "perpetualPositions": [position("A-USD", "2")],
        "assetPositions": [usdc(800)], "blockHeight": "12",
    })  # fmt: skip

    update = last(answers(FILLS, {"fills": [row]}), snapshot(9), socket, block(15))

    assert (update.profit.fills, update.doubt) == (1, "")


def test_an_older_snapshot_changes_nothing() -> None:
    """A replica may be behind the socket: heights decide, not arrival."""
    moved = [
        reports({
            "fills": [fill("f1", "BUY", "5")], "perpetualPositions": [position("A-USD", "5")],
            "assetPositions": [usdc(500)], "blockHeight": "12",
        }),
        block(20),
    ]  # fmt: skip
    behind = polled(9)

    updates = folded(snapshot(9), *moved, behind)

    assert held(updates) == {"A-USD": Decimal(5)}
    assert (updates[-1].collateral, updates[-1].doubt, updates[-1].profit.fills) == (
        500_000_000, "", 1,
    )  # fmt: skip


# === The venue's order of reporting ===


def test_a_match_is_reported_before_its_fills() -> None:
    """State first, with the sums of before it; then the order with its fills: no contradiction."""
    state = reports({
        "perpetualPositions": [position("A-USD", "3", "0")], "assetPositions": [usdc(699)],
        "blockHeight": "12",
    })  # fmt: skip
    filled = reports({
        "fills": [fill("f1", "BUY", "3", "100", "1", createdAtHeight="12")],
        "perpetualPositions": [position("A-USD", "3")], "blockHeight": "12",
    })  # fmt: skip

    first, second, third = folded(snapshot(9), state, filled)

    assert (first.doubt, second.doubt, third.doubt) == ("", "", "")
    assert [s.entry_price for s in second.positions] == [Decimal(0)]
    assert [s.entry_price for s in third.positions] == [Decimal(100)]
    assert (third.collateral, third.profit.fees, third.profit.fills) == (699_000_000, 1_000_000, 1)
    assert [f.quote for f in third.fills] == [300_000_000]


def test_a_flip_closes_one_position_beside_another_that_opens() -> None:
    """Both stand in one message: what is open counts; won or lost by what was closed."""
    flip = reports({
        "perpetualPositions": [
            position("A-USD", "0", status="CLOSED"), position("A-USD", "-1", "110"),
        ],
        "assetPositions": [usdc(1120)], "blockHeight": "12",
    })  # fmt: skip
    filled = reports({
        "fills": [fill("f1", "SELL", "3", "110", createdAtHeight="12")],
        "perpetualPositions": [position("A-USD", "-1", "110")], "blockHeight": "12",
    })  # fmt: skip

    updates = folded(snapshot(9, 790, position("A-USD", "2")), flip, filled, block(15))

    assert held(updates) == {"A-USD": Decimal(-1)}
    assert updates[-1].profit.wins == 1
    assert updates[-1].profit.realized == 20_000_000
    assert updates[-1].doubt == ""


def test_a_close_that_is_reported_twice_counts_once() -> None:
    """By the position's event, and with the order."""
    closed = position("A-USD", "0", status="CLOSED")
    state = {"perpetualPositions": [closed], "assetPositions": [usdc(990)], "blockHeight": "12"}
    filled = {"fills": [fill("f1", "SELL", "2", "95")], "perpetualPositions": [closed]}

    updates = folded(
        snapshot(9, 800, position("A-USD", "2")),
        reports(state), reports({**filled, "blockHeight": "12"}), reports({**filled, "blockHeight": "12"}),
        block(15),
    )  # fmt: skip

    profit = updates[-1].profit
    assert (profit.losses, profit.wins, profit.fills, profit.realized) == (1, 0, 1, -10_000_000)
    assert held(updates) == {}


def test_what_the_insurance_fund_takes_is_no_fee() -> None:
    """A liquidation has no order."""
    taken = fill("f1", "SELL", "2", "60", "7", type="LIQUIDATED", orderId=None)
    closed = position("A-USD", "0", status="CLOSED")

    update = last(
        snapshot(9, 800, position("A-USD", "2")),
        reports({
            "fills": [taken], "perpetualPositions": [closed], "assetPositions": [usdc(913)],
            "blockHeight": "12",
        }),
        block(15),
    )  # fmt: skip

    profit = update.profit
    assert (profit.fees, profit.insurance, profit.liquidations) == (0, 7_000_000, 1)


@pytest.mark.parametrize(("height", "doubted"), [(13, False), (75, False), (90, True)])
def test_that_a_subaccount_is_unknown_may_be_a_replica_that_lags(
    height: int, doubted: bool
) -> None:
    """One that was just funded is not there yet; one that has long been is not to be missed."""
    unknown = answers(PATH, {"errors": [{"msg": "No subaccount found"}]}, "404")
    funded = reports({"assetPositions": [usdc(500)], "blockHeight": "12"})

    update = last(reports({}, "subscribed"), funded, block(height), unknown)

    assert bool(update.doubt) is doubted
    assert update.collateral == 500_000_000


LOST = Frame(0, 0, 0, "c1", "gap", "frames lost")
TRANSFERS = f"/v4/transfers?limit=100&{QUERY}"


def paid_in(height: int, usdc: str) -> dict[str, Any]:
    """Report a deposit, as a list of transfers does."""
    party = {"address": "dydx1b"}
    return {
        "id": "t", "type": "DEPOSIT", "size": usdc, "symbol": "USDC", "sender": party,
        "recipient": party, "createdAt": "2026-01-01T00:00:01.000Z",
        "createdAtHeight": str(height), "transactionHash": "h",
    }  # fmt: skip


def test_what_came_during_a_loss_has_no_cause_until_all_lists_have_come() -> None:
    """A deposit is neither found money first and paid in afterwards, nor funding in between."""
    none, deposit = (
        answers(FILLS, {"fills": []}),
        answers(TRANSFERS, {"transfers": [paid_in(15, "500")]}),
    )

    updates = folded(snapshot(9), LOST, snapshot(20, 1500), block(30), none, deposit)

    assert [(u.unexplained, u.profit.transferred) for u in updates[2:]] == [
        (500_000_000, 0), (500_000_000, 0), (0, 500_000_000)
    ]  # fmt: skip
    assert {update.profit.funding for update in updates} == {0}
    assert [update.doubt for update in updates[2:]] == ["", "", ""]


def test_what_no_list_explains_for_long_is_funding() -> None:
    """A list that never comes must not hide a loss for ever."""
    updates = folded(snapshot(9), LOST, snapshot(20, 900), block(80), block(90))

    assert [update.unexplained for update in updates[2:]] == [-100_000_000, 0]
    assert updates[-1].profit.funding == 100_000_000


@pytest.mark.parametrize(("oldest", "complete"), [(10, False), (9, True), (8, True)])
def test_a_full_page_of_fills_is_all_only_if_it_reaches_back(oldest: int, complete: bool) -> None:
    """Of a hundred fills since the loss the oldest may be on the next page."""
    rows = [
        fill(
            f"f{n}", "BUY" if n % 2 else "SELL", "1", createdAtHeight=str(max(oldest, 20 - n // 2))
        )
        for n in range(100)
    ]

    update = last(snapshot(9), LOST, snapshot(20), answers(FILLS, {"fills": rows}))

    assert update.profit.complete is complete


@pytest.mark.parametrize("most", [300, 100])
def test_fills_of_more_blocks_than_are_stored_are_all_counted(most: int) -> None:
    """After a long loss they come newest first, in one page or in several."""
    rows = [
        fill(f"f{n}", "BUY" if n % 2 else "SELL", "1", "100", "1", createdAtHeight=str(10 + n))
        for n in reversed(range(200))
    ]
    path = f"/v4/fills?limit={most}&{QUERY}"
    pages = [answers(path, {"fills": rows[at : at + most]}) for at in range(0, 201, most)]

    update = last(snapshot(9), LOST, snapshot(210, 800), *pages, block(215))

    profit = update.profit
    assert (profit.fills, profit.fees, profit.complete) == (200, 200_000_000, True)
    assert (profit.realized, update.collateral, update.doubt) == (0, 800_000_000, "")


def test_what_fills_leave_open_of_a_balance_is_funding() -> None:
    """The chain settles it when it touches the account: the block's balance shows it."""
    touched = reports({
        "fills": [fill("f1", "BUY", "1")], "perpetualPositions": [position("A-USD", "3")],
        "assetPositions": [usdc(Decimal("699.8606"))], "blockHeight": "12",
    })  # fmt: skip

    update = last(snapshot(9, 800, position("A-USD", "2")), touched, block(15))

    assert update.profit.funding == 139_400


@pytest.mark.parametrize("turn", [1, -1])
def test_funding_that_exceeds_a_fill_is_found_from_all_balances_of_its_block(turn: int) -> None:
    """100 are settled, then 300 and 50 spent: the balance after both is the block's, not the first.

    The first one leaves less open of what fills explain, but then the second has no cause.
    """
    ids = ("0000000c0000000200000002", "0000000c0000000200000004")
    balances = [
        reports({
            "perpetualPositions": [position("A-USD", size)], "assetPositions": [usdc(balance)],
            "blockHeight": "12",
        })
        for size, balance in (("3", 600), ("3.5", 550))
    ]  # fmt: skip
    fills = reports({
        "fills": [
            fill("f1", "BUY", "1", "300", eventId=ids[0]),
            fill("f2", "BUY", "0.5", "100", eventId=ids[1]),
        ],
        "perpetualPositions": [position("A-USD", "3.5")], "blockHeight": "12",
    })  # fmt: skip
    begun = snapshot(9, 1000, position("A-USD", "2"))

    update = last(begun, *balances[::turn], fills, block(15))

    assert (update.collateral, update.profit.funding) == (550_000_000, 100_000_000)
    assert update.doubt == ""


def test_fills_that_do_not_add_up_are_a_doubt_once_their_block_is_over() -> None:
    """Until then more may come; the venue's last word is what is believed."""
    odd = reports({
        "fills": [fill("f1", "BUY", "1")], "perpetualPositions": [position("A-USD", "3")],
        "assetPositions": [usdc(900)], "blockHeight": "12",
    })  # fmt: skip

    updates = folded(snapshot(9), odd, block(13), block(14))
    whole = last(snapshot(9), odd, block(14), snapshot(15, 900, position("A-USD", "3")))

    assert [update.doubt for update in updates] == [
        "", "", "block 12: fills add up to 1 A-USD, 3 was reported",
    ]  # fmt: skip
    assert held(updates) == {"A-USD": Decimal(3)}
    assert (whole.doubt, whole.profit.complete) == ("", False)


def test_a_doubt_ends_where_the_next_block_bears_out_what_was_reported() -> None:
    """What was missed stays missed: profit is not complete."""
    odd = reports({
        "fills": [fill("f1", "BUY", "1")], "perpetualPositions": [position("A-USD", "3")],
        "assetPositions": [usdc(900)], "blockHeight": "12",
    })  # fmt: skip
    even = reports({
        "fills": [fill("f2", "SELL", "1")], "perpetualPositions": [position("A-USD", "2")],
        "assetPositions": [usdc(1000)], "blockHeight": "20",
    })  # fmt: skip

    updates = folded(snapshot(9), odd, block(14), even, block(22))

    assert [bool(update.doubt) for update in updates] == [False, False, True, True, False]
    assert held(updates) == {"A-USD": Decimal(2)}
    assert not updates[-1].profit.complete


def test_fills_without_their_position_are_a_doubt_once_their_block_is_over() -> None:
    """REST may be ahead of the socket: until then that is no contradiction."""
    ahead = answers(FILLS, {"fills": [fill("f1", "BUY", "1", createdAtHeight="12")]})
    state = reports({
        "perpetualPositions": [position("A-USD", "1")], "assetPositions": [usdc(900)],
        "blockHeight": "12",
    })  # fmt: skip

    never = last(snapshot(9), ahead, block(14))
    late = last(snapshot(9), ahead, block(14), state)

    assert never.doubt == "block 12: fills of A-USD are reported without its position"
    assert (late.doubt, late.profit.fills) == ("", 1)


def test_mixed_fills_of_a_block_are_traded_in_the_order_of_their_events() -> None:
    """By the event's id, as text or as bytes, or by what each found held where REST omits it."""
    rows = [
        fill("f1", "BUY", "1", "100", createdAtHeight="12", positionSizeBefore="0"),
        fill("f2", "SELL", "2", "110", createdAtHeight="12", positionSizeBefore="1"),
        fill("f3", "BUY", "1", "105", createdAtHeight="12", positionSizeBefore="1",
             positionSideBefore="SHORT"),
    ]  # fmt: skip
    events = [{**row, "eventId": f"0000000c{n:016x}"} for n, row in enumerate(rows)]
    octets = [
        {**row, "eventId": {"type": "Buffer", "data": [0, 0, 0, 12, *[0] * 7, n]}}
        for n, row in enumerate(rows)
    ]
    after = reports({
        "perpetualPositions": [position("A-USD", "0", status="CLOSED")],
        "assetPositions": [usdc(1015)], "blockHeight": "12",
    })  # fmt: skip

    for listed in (events, octets, rows):
        page = answers(FILLS, {"fills": listed[::-1]})
        profit = last(snapshot(9), after, page, block(14)).profit

        assert (profit.realized, profit.wins, profit.losses) == (15_000_000, 2, 0)


def test_the_events_of_fills_may_come_after_the_fills() -> None:
    """REST omits them; the socket's report of the same fills puts them in order."""
    rows = [
        fill("f2", "BUY", "1", "100", createdAtHeight="12"),
        fill("f1", "SELL", "1", "110", createdAtHeight="12"),
    ]
    events = [{**row, "eventId": f"0000000c{n:016x}"} for n, row in enumerate(rows)]
    after = reports({
        "fills": events, "perpetualPositions": [position("A-USD", "1", "75")],
        "assetPositions": [usdc(1010)], "blockHeight": "12",
    })  # fmt: skip

    began = snapshot(9, 1000, position("A-USD", "1", "50"))
    profit = last(began, answers(FILLS, {"fills": rows}), after, block(14)).profit

    # Bought at 50 and 100, one of them sold at 110.
    assert (profit.realized, profit.fills) == (35_000_000, 2)


# === What is no answer ===


@pytest.mark.parametrize(
    ("status", "body"),
    [
        ("503", '{"message":"Service Unavailable"}'),
        ("200", '{"message":"Service Unavailable"}'),
        ("200", "{}"),
        ("200", "null"),
        ("200", "<html>"),
        ("404", '{"errors":[{"msg":"none"}]}'),
        ("502", '{"type":"about:blank","title":"Bad Gateway"}'),
        ("404", "<html><title>404 Not Found</title></html>"),
        ("200", '{"subaccount":null}'),
        ("200", '{"subaccount":{"equity":"0"}}'),
        ("200", '{"subaccount":{"address":"dydx1b","subaccountNumber":3,"equity":"0",'
                '"openPerpetualPositions":{},"assetPositions":{}}}'),
        ("200", '{"subaccount":{"subaccountNumber":4,"equity":"0",'
                '"openPerpetualPositions":{},"assetPositions":{}}}'),
        ("503", '{"subaccount":{"subaccountNumber":3,"equity":"0",'
                '"openPerpetualPositions":{},"assetPositions":{}}}'),
    ],
)  # fmt: skip
def test_what_is_no_answer_changes_nothing_and_is_a_doubt(status: str, body: str) -> None:
    """A long of 1 BTC is not flat because a server is in trouble."""
    moved = snapshot(9, 50, position("A-USD", "1"))

    updates = folded(moved, answers(PATH, body, status))
    better = last(moved, answers(PATH, body, status), polled(9, 50, position("A-USD", "1")))

    assert held(updates) == {"A-USD": Decimal(1)}
    assert updates[-1].collateral == 50_000_000
    assert updates[-1].doubt != ""
    assert better.doubt == ""


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        ("503", '{"message":"Service Unavailable"}', "503: 'Service Unavailable'"),
        ("403", '{"errors":[{"msg":"blocked","code":"GEOBLOCKED"}]}', "403: blocked [GEOBLOCKED]"),
        ("502", '{"title":"Bad Gateway","status":502}', "502: 'Bad Gateway'"),
        ("404", "<html><title>Not here</title>", "404: a page of HTML, 'Not here'"),
        ("500", "", "500: an empty body"),
        ("500", '{"errors":[]}', "500: no reason"),
    ],
)
def test_a_doubt_has_the_words_of_whoever_answered(status: str, body: str, why: str) -> None:
    """The indexer's, a gateway's or a proxy's."""
    update = last(snapshot(9), answers(PATH, body, status))

    assert update.doubt == f"expected an answer of {PATH}, got {why}"


def test_a_doubt_says_once_what_was_expected() -> None:
    """An answer that cannot be read has its own words already."""
    update = last(snapshot(9), answers(f"/v4/fills?{QUERY}", "null"))

    assert update.doubt.startswith("cannot be read: expected the answer of /v4/fills, got 'null': ")
    assert update.doubt.count("expected the answer") == 1


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner)
    | st.dictionaries(
        st.text() | st.sampled_from(["subaccount", "equity", "message", "errors", "orders",
                                     "openPerpetualPositions", "childSubaccounts", "fills"]),
        inner,
    ),
    max_leaves=9,
)  # fmt: skip


@given(
    st.sampled_from(["200", "204", "301", "400", "403", "404", "429", "451", "500", "503"]),
    ANYTHING,
    st.sampled_from([PATH, FILLS, f"/v4/orders?{QUERY}", PATH.replace("/sub", "/parentSub")]),
)
def test_no_answer_at_all_makes_a_flat_account_without_a_doubt(
    status: str, body: Any, path: str
) -> None:
    """Unless it reports what is held: positions and balances, of this subaccount, with a 200."""
    updates = folded(snapshot(9, 50, position("A-USD", "1")), answers(path, body, status))

    assert held(updates) == {"A-USD": Decimal(1)} or updates[-1].doubt != ""


@pytest.mark.parametrize(
    "contents",
    [
        {"orders": [], "blockHeight": "12"},
        {"message": "Service Unavailable"},
        {"errors": [{"msg": "x"}]},
        {"subaccount": {"equity": "0"}, "orders": []},
        {"subaccount": None},
    ],
)
def test_a_snapshot_without_its_account_is_a_doubt(contents: dict[str, Any]) -> None:
    """Who was never funded gets an empty one: all else is what an error left of it."""
    begun = snapshot(9, 50, position("A-USD", "1"))

    updates = folded(begun, reports(contents, "subscribed"))
    never = last(reports({}, "subscribed"))

    assert held(updates) == {"A-USD": Decimal(1)}
    assert updates[-1].doubt.startswith("account frame 2 ")
    assert (never.collateral, never.doubt) == (0, "")


def test_a_parents_answer_is_of_its_children_alone() -> None:
    """Not of the parent itself; a child without a number is of nobody."""
    child = {**summary(9, 70, position("B-USD", "2")), "subaccountNumber": 131}
    other = {"equity": "1", "openPerpetualPositions": {}, "assetPositions": {}}
    parent = {"equity": "1", "parentSubaccountNumber": 3, "childSubaccounts": [child, other]}
    path = PATH.replace("/sub", "/parentSub")

    updates = folded(snapshot(9, 50, position("A-USD", "1")), answers(path, {"subaccount": parent}))

    assert [(each.subaccount.number, each.collateral) for each in updates[1:]] == [
        (3, 50_000_000), (131, 70_000_000)
    ]  # fmt: skip
    assert held(updates[:2]) == {"A-USD": Decimal(1)}
    assert "a child without its number" in updates[1].doubt


def test_that_a_subaccount_was_never_funded_is_no_news_of_an_empty_one() -> None:
    """The venue answers 404 for it."""
    never = answers(PATH, {"errors": [{"msg": "No subaccount found"}]}, "404")

    assert last(reports({}, "subscribed"), never).doubt == ""


@pytest.mark.parametrize(
    "frame",
    [
        answers("/v4/addresses/dydx1b/subaccountNumber/3", {"subaccount": None}),
        answers("/v4/orderbooks/perpetualMarket/A-USD", {"bids": [], "asks": []}),
        answers("/v4/orders?address=dydx1a", []),
        reports({}, channel="v4_trades"),
        Frame(0, 0, 0, "clock", "tick"),
    ],
)
def test_what_is_of_no_account_or_anothers_changes_nothing(frame: Frame) -> None:
    """With subaccounts to look for, all others are passed over."""
    accounts = Accounts([US])
    accounts.step(snapshot(9))

    assert accounts.step(frame) == []


# === What cannot be read ===


def test_a_row_that_cannot_be_read_hides_no_other() -> None:
    """Its position is unreadable, not gone; the balance beside it is taken."""
    bad = reports({
        "perpetualPositions": [position("A-USD", "much"), position("B-USD", "2")],
        "assetPositions": [usdc(900)], "blockHeight": "12",
    })  # fmt: skip

    updates = folded(snapshot(9, 1000, position("A-USD", "1")), bad)

    assert updates[-1].unreadable == ("A-USD",)
    assert "cannot be read" in updates[-1].doubt
    assert updates[-1].collateral == 900_000_000
    assert held(updates) == {"A-USD": Decimal(1), "B-USD": Decimal(2)}


def test_a_snapshot_with_a_row_of_no_shape_reports_all_the_rest() -> None:
    """An order, a position or a balance that is none."""
    subaccount = summary(9, 1000, position("A-USD", "1"))
    subaccount["openPerpetualPositions"]["B-USD"] = 7
    contents = {"subaccount": subaccount, "orders": [{"id": 3}], "blockHeight": "9"}

    update = last(reports(contents, "subscribed"))

    assert update.unreadable == ("B-USD",)
    assert [state.ticker for state in update.positions] == ["A-USD"]
    assert "orders 0: expected `str`, got `int`" in update.doubt
    assert update.collateral == 1_000_000_000


def test_an_update_with_a_row_of_no_shape_reports_all_the_rest() -> None:
    """Good fills, orders and balances beside it count; its position is unreadable."""
    odd = {
        "perpetualPositions": [{**position("B-USD", "1"), "size": 1}, position("A-USD", "2")],
        "orders": [{"id": 7}, {"id": "o1", "status": "FILLED"}],
        "fills": [fill("f1", "BUY", "1"), {"id": "f2"}],
        "assetPositions": [usdc(900)], "transfers": 3, "blockHeight": "12",
    }  # fmt: skip

    updates = folded(snapshot(9, 1000, position("A-USD", "1")), reports(odd))

    update = updates[-1]
    assert held(updates) == {"A-USD": Decimal(2)}
    assert [row.id for row in update.fills] == ["f1"]
    assert {row.id for row in update.orders} == {"o1"}
    assert (update.collateral, update.unreadable) == (900_000_000, ("B-USD",))
    for name in ("perpetualPositions B-USD", "orders 0", "fills f2", "transfers"):
        assert f"cannot be read: {name}" in update.doubt


def test_what_cannot_be_read_of_a_snapshot_is_not_gone() -> None:
    """What a snapshot leaves out has ended, and is worth nothing: an odd row is still there."""
    opened = reports({"orders": [{"id": "o1", "status": "OPEN", "size": "1"}], "blockHeight": "9"})
    whole = summary(12, 1000, position("A-USD", "1"))
    whole["assetPositions"]["USDC"]["size"] = 7
    order = {"id": "o1", "ticker": "A-USD", "status": 3}
    odd = {"subaccount": whole, "orders": [order], "blockHeight": "12"}

    update = last(snapshot(8, 1000), opened, reports(odd, "subscribed"))

    assert (update.collateral, update.orders) == (1_000_000_000, ())
    assert "assetPositions USDC: expected `str`, got `int`" in update.doubt


@pytest.mark.parametrize(
    "frame",
    [
        reports({"orders": [{"size": 3}]}),
        reports({"assetPositions": [usdc(1) | {"size": "x"}], "blockHeight": "12"}),
        reports({"blockHeight": "tall"}),
        reports({"fills": [fill("f1", "BUY", "1", "1e99999")], "blockHeight": "12"}),
        reports({"subaccount": 3}, "subscribed"),
    ],
)
def test_a_frame_that_cannot_be_read_is_a_doubt(frame: Frame) -> None:
    """The next snapshot ends it."""
    assert "cannot be read" in last(snapshot(9), frame).doubt
    assert last(snapshot(9), frame, snapshot(13)).doubt == ""


# === Parents ===


@pytest.mark.parametrize("path", [PATH, PATH.replace("/sub", "/parentSub")])
def test_a_parent_without_the_child_that_holds_is_a_doubt(path: str) -> None:
    """Nothing listed is not the same as nothing held."""
    parent = {"equity": "0", "parentSubaccountNumber": 3, "childSubaccounts": []}
    held_before = snapshot(9, 50, position("A-USD", "1"))

    updates = folded(held_before, answers(path, {"subaccount": parent}))

    assert held(updates) == {"A-USD": Decimal(1)}
    assert updates[-1].doubt


@pytest.mark.parametrize("turn", [1, -1])
def test_a_transfer_of_a_parents_list_is_the_one_that_its_channel_reports(turn: int) -> None:
    """The list names a parent on either side, the channel a child: it is one transfer."""
    names = [{"subaccountNumber": 9}, {"subaccountNumber": 3}]
    parties = [{"address": "dydx1b", **names[0]}, {"address": "dydx1a", **names[1]}]
    row = {**paid_in(12, "500"), "sender": parties[0], "recipient": parties[1]}
    parents = [{"address": party["address"], "parentSubaccountNumber": 9} for party in parties]
    listed = {**row, "sender": parents[0], "recipient": parents[1]}
    path = f"/v4/transfers/parentSubaccountNumber?limit=100&{QUERY.replace('sub', 'parentSub')}"
    both = [
        reports(
            {"transfers": row, "blockHeight": "12"},
            channel="v4_parent_subaccounts", subaccountNumber=3,
        ),
        answers(path, {"transfers": [listed]}),
    ]  # fmt: skip
    funded = reports({"assetPositions": [usdc(1500)], "blockHeight": "12"})

    updates = folded(snapshot(9), funded, *both[::turn], block(15))

    assert (updates[-1].profit.transferred, updates[-1].profit.funding) == (500_000_000, 0)
    assert sum(len(update.transfers) for update in updates) == 1


def test_a_parents_channel_names_the_child() -> None:
    """In the envelope of an update, in each row of a snapshot and of an answer."""
    order = {"id": "o1", "status": "OPEN"}
    update = reports({"orders": [order]}, channel="v4_parent_subaccounts", subaccountNumber=131)
    child = summary(9, 1, position("A-USD", "1")) | {"subaccountNumber": 259}
    parent = {"parentSubaccountNumber": 3, "equity": "1", "childSubaccounts": [child]}
    whole = reports({"subaccount": parent}, "subscribed", "v4_parent_subaccounts")
    path = "/v4/fills/parentSubaccountNumber?address=dydx1a&parentSubaccountNumber=3"
    fills = answers(path, {"fills": [fill("f1", "BUY", "1", subaccountNumber=259,
                                          createdAtHeight="12")]})  # fmt: skip

    updates = folded(update, whole, fills)

    ordered = [(u.subaccount.number, len(u.orders)) for u in updates if u.orders]
    assert ordered[0] == (131, 1)
    assert [u.subaccount.number for u in updates if u.positions] == [259, 259]
    assert [u.subaccount.number for u in updates if u.fills] == [259]


def test_funding_payments_are_reported_once() -> None:
    """By REST alone; a balance counts what they moved."""
    paid = {
        "createdAt": "2026-01-01T01:00:00.000Z", "ticker": "A-USD", "oraclePrice": "1", "size": "1",
        "side": "LONG", "rate": "0.1", "payment": "-0.1", "subaccountNumber": "3",
    }  # fmt: skip
    page = answers(f"/v4/fundingPayments?{QUERY}", {"fundingPayments": [paid, paid]})

    updates = folded(snapshot(9), page, page)

    assert [len(update.funding) for update in updates] == [0, 1, 0]


# === Always ===


class Venue:
    """An account that trades, and all that the venue reports of it, block by block."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.sizes: dict[str, Decimal] = {}
        self.costs: dict[str, list[tuple[Decimal, Decimal]]] = {}
        self.balance = Decimal(10_000)
        self.begun = self.balance
        self.fees = self.funding = Decimal(0)
        self.fills: list[dict[str, Any]] = []
        self.messages: list[dict[str, Any]] = []
        self.height = 100

    def trade(self) -> None:
        """Make a block: funding once, several matches, each of them reported by halves."""
        self.height += self.chance.randint(1, 4)
        height = str(self.height)
        if self.sizes and self.chance.random() < 0.3:
            paid = Decimal(self.chance.randint(-9, 9)).scaleb(-4)
            self.balance -= paid
            self.funding += paid
        orders: dict[str, list[dict[str, Any]]] = {}
        for event in range(self.chance.randint(1, 3)):
            ticker = self.chance.choice(("A-USD", "B-USD"))
            side = self.chance.choice(("BUY", "SELL"))
            size = Decimal(self.chance.randint(1, 50)) / 10
            price = Decimal(self.chance.randint(900, 1_100)) / 10
            fee = (size * price / 2_000).quantize(Decimal("0.000001"))
            before = self.sizes.get(ticker, Decimal(0))
            signed = size if side == "BUY" else -size
            self.sizes[ticker] = before + signed
            self.balance -= signed * price + fee
            self.fees += fee
            row = fill(
                f"f{len(self.fills)}", side, size, f"{price}", f"{fee}", ticker=ticker,
                orderId=f"o{len(self.fills)}", createdAtHeight=height,
                positionSizeBefore=f"{abs(before)}",
                positionSideBefore="SHORT" if before < 0 else "LONG",
                eventId=f"{self.height:08x}{2:08x}{event:08x}",
            )  # fmt: skip
            self.fills.append(row)
            orders[row["id"]] = [row]
            self.report(perpetualPositions=[self.held(ticker)], assetPositions=[usdc(self.balance)])
        for rows in orders.values():
            ticker = rows[0]["ticker"]
            self.report(fills=rows, perpetualPositions=[self.held(ticker)])

    def held(self, ticker: str) -> dict[str, Any]:
        """Report a position as it is; its entry is of no use to anybody."""
        size = self.sizes[ticker]
        return position(ticker, size, "0", "OPEN" if size else "CLOSED")

    def report(self, **contents: Any) -> None:
        """Put a message on the channel."""
        self.messages.append({**contents, "blockHeight": str(self.height)})

    def early(self, sizes: dict[str, Decimal], balance: Decimal) -> Frame:
        """Answer over REST in the middle of a block: its height, and what was held before it."""
        held = [position(ticker, size, "0") for ticker, size in sizes.items() if size]
        return polled(self.height, self.chance.choice((balance, self.balance)), *held)

    def answers(self) -> list[Frame]:
        """Answer now over REST what the account is and did: without the events' ids."""
        held = [self.held(ticker) for ticker, size in self.sizes.items() if size]
        rows = [{k: v for k, v in row.items() if k != "eventId"} for row in self.fills]
        return [polled(self.height, self.balance, *held), answers(FILLS, {"fills": rows})]


@settings(max_examples=60)
@given(st.randoms(use_true_random=False), st.integers(1, 12))
def test_the_same_facts_make_the_same_account(chance: Random, blocks: int) -> None:
    """Shuffled, split, doubled, by socket and by REST: to the quantum, and with no doubt left."""
    venue = Venue(chance)
    rest: list[Frame] = []
    for _ in range(blocks):
        before = dict(venue.sizes), venue.balance
        venue.trade()
        if chance.random() < 0.3:
            rest += venue.answers()
        if chance.random() < 0.3:
            rest.append(venue.early(*before))
    end = block(venue.height + 3)
    straight = [reports(message) for message in venue.messages]
    halves: list[Frame] = []
    for message in venue.messages:
        parts = [{k: v} for k, v in message.items() if k != "blockHeight"]
        whole = [{k: v for k, v in message.items() if k != "blockHeight"}]
        for part in chance.choice((parts, whole, [*whole, *whole])):
            halves.append(reports({**part, "blockHeight": message["blockHeight"]}))
    chance.shuffle(mixed := [*halves, *rest])

    expected = folded(snapshot(100, 10_000), *straight, end)
    actual = folded(snapshot(100, 10_000), *mixed, end)

    assert held(actual) == held(expected) == {t: s for t, s in venue.sizes.items() if s}
    assert actual[-1].profit == expected[-1].profit
    assert actual[-1].doubt == expected[-1].doubt == ""
    assert actual[-1].collateral == expected[-1].collateral == int(venue.balance.scaleb(6))
    assert actual[-1].profit.fees == int(venue.fees.scaleb(6))
    assert actual[-1].profit.funding == int(venue.funding.scaleb(6))
    assert sum(len(update.fills) for update in actual) == len(venue.fills)


def test_facts_older_than_what_is_remembered_change_no_position() -> None:
    """What comes after 64 blocks with something in them is counted no more."""
    frames = [
        reports({
            "fills": [fill(f"f{n}", "BUY", "1", createdAtHeight=str(10 + n))],
            "perpetualPositions": [position("A-USD", str(n + 1))],
            "assetPositions": [usdc(100_000 - 100 * (n + 1))], "blockHeight": str(10 + n),
        })
        for n in range(100)
    ]  # fmt: skip
    late = reports({"perpetualPositions": [position("A-USD", "7")], "blockHeight": "11"})

    updates = folded(snapshot(9, 100_000), *frames, late, block(200))

    assert held(updates) == {"A-USD": Decimal(100)}
    assert (updates[-1].doubt, updates[-1].profit.fills) == ("", 100)


# === The operator ===


@pytest.mark.parametrize("case", MARBLE_CASES)
def test_updates_are_as_drawn(case: str) -> None:
    """A snapshot, a fill, the same fill again, which is none, and the loss of the channel."""
    fills = [fill("f1", "BUY", "1", createdAtHeight="10")]
    frames = {
        "s": snapshot(9), "f": reports({"fills": fills, "blockHeight": "10"}),
        "c": WireWriter().event("close"),
    }  # fmt: skip

    def letter(update: AccountUpdate) -> str:
        return "D" if update.doubt else "F" if update.fills else "u"

    came, drawn = play(account_updates, account_updates(), frames, letter, case)

    assert came == drawn


def test_two_subscribers_share_no_state() -> None:
    """Each folds accounts of its own."""
    updates = of(snapshot(9)).pipe(account_updates())

    assert collect(updates) == collect(updates)
