"""Sessions of the real software: what frames report of accounts comes to what the node held."""

import functools
import json
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from dydx_conn import (
    Accounts,
    AccountUpdate,
    Frame,
    Recording,
    Subaccount,
    WireWriter,
    find_recording,
    ws_frame,
)
from hypothesis import given, settings
from hypothesis import strategies as st

LOCALNET = find_recording("quickstart").parent / "localnet"
SESSIONS = sorted(path.parent for path in LOCALNET.glob("*/truth.json"))
ACCOUNTS = ("v4_subaccounts", "v4_parent_subaccounts")

# === Recorded ===


@functools.cache
def truth_of(folder: Path) -> dict[str, Any]:
    """Read what the node and the indexer's database held."""
    truth: dict[str, Any] = json.loads((folder / "truth.json").read_text())
    return truth


@functools.cache
def frames_of(folder: Path) -> list[Frame]:
    """Read what concerns accounts, up to the last message: then the recorder itself ended."""
    frames = [
        frame
        for frame in Recording(folder / "frames.jsonl.zst")
        if frame.kind != "ws" or frame.channel in (*ACCOUNTS, "v4_block_height")
    ]
    messages = [n for n, frame in enumerate(frames) if frame.kind in ("ws", "http")]
    return frames[: messages[-1] + 1]


def height_of(frame: Frame) -> int:
    """Return the block that a frame reports, 0 if none."""
    found = re.search(r'"(?:blockHeight|height)":"(\d+)"', frame.text)
    return int(found[1]) if found and frame.kind == "ws" else 0


def folded(frames: Iterable[Frame]) -> dict[Subaccount, list[AccountUpdate]]:
    """Fold frames numbered from 1; the updates of each subaccount."""
    accounts, updates = Accounts(), dict[Subaccount, list[AccountUpdate]]()
    for seq, frame in enumerate(frames, 1):
        for update in accounts.step(msgspec.structs.replace(frame, seq=seq)):
            updates.setdefault(update.subaccount, []).append(update)
    return updates


def quanta(amount: str) -> int:
    """Return USDC in quote quantums."""
    return round(Fraction(amount) * 10**6)


def figures(updates: list[AccountUpdate]) -> dict[str, Any]:
    """Return what an account holds and did, as the truth states it."""
    positions: dict[str, Decimal] = {}
    for update in updates:
        positions |= {state.ticker: state.size for state in update.positions}
    last, profit = updates[-1], updates[-1].profit
    return {
        "USDC": last.collateral,
        "positions": {ticker: size for ticker, size in positions.items() if size},
        "realised": profit.realized,
        "costs": (profit.fees + profit.insurance, profit.funding),
        "verdicts": (profit.wins, profit.losses),
        "fills": sorted(fill.id for update in updates for fill in update.fills),
        "certain": (last.doubt, last.unexplained, profit.complete),
    }


def expected(folder: Path, name: str) -> dict[str, Any]:
    """Return the same of the truth: what happened while the recording ran."""
    truth = truth_of(folder)
    state = truth["state"][name]
    lots = {p["ticker"]: truth["markets"][p["ticker"]] for p in state["positions"]}
    profit = state["profit"]
    return {
        "USDC": state["usdc_quantums"],
        "positions": {
            p["ticker"]: Decimal(p["quantums"]).scaleb(lots[p["ticker"]]["atomic_resolution"])
            for p in state["positions"]
        },
        "realised": quanta(profit["realised_in_recording"]),
        "costs": (quanta(profit["fees_in_recording"]), 0),
        "verdicts": (profit["wins_in_recording"], profit["losses_in_recording"]),
        "fills": sorted(f["id"] for f in state["fills"] if not f.get("before_recording")),
        "certain": ("", 0, True),
    }


def subaccount(name: str) -> Subaccount:
    """Read `owner/number`."""
    owner, _, number = name.partition("/")
    return Subaccount(owner, int(number))


EVERY = [(folder, name) for folder in SESSIONS for name in truth_of(folder)["state"]]
IDS = [f"{folder.name}/{name.rpartition('/')[2]}" for folder, name in EVERY]
every_account = pytest.mark.parametrize(("folder", "name"), EVERY, ids=IDS)
every_session = pytest.mark.parametrize("folder", SESSIONS, ids=lambda folder: folder.name)

# === As it was ===


@every_account
def test_an_account_ends_as_the_node_held_it(folder: Path, name: str) -> None:
    """Balance, positions, profit and fills, to the quantum; no doubt is left."""
    updates = folded(frames_of(folder))[subaccount(name)]

    assert figures(updates) == expected(folder, name)


@every_session
def test_nothing_is_in_doubt_while_every_frame_arrives(folder: Path) -> None:
    """Not at any frame between a first snapshot and a loss of the connection; nor is profit."""
    frames = frames_of(folder)
    lost = [n for n, frame in enumerate(frames) if frame.kind in ("close", "gap")]

    updates = folded(frames[: lost[0]] if lost else frames)

    known = [u for each in updates.values() for u in each if u.collateral is not None]
    assert known
    assert {(update.doubt, update.profit.complete) for update in known} == {("", True)}


@every_account
def test_a_balance_has_no_cause_until_a_fill_or_a_transfer_names_it(
    folder: Path, name: str
) -> None:
    """Every block's balance comes first: what is open of it closes within the block."""
    updates = folded(frames_of(folder))[subaccount(name)]
    begun = updates[0].collateral or 0

    moved = 0
    for update in updates:
        moved += sum(fill.paid_in for fill in update.fills)
        if update.profit.complete and not update.doubt:
            paid = update.profit.transferred + moved
            assert update.collateral == begun + paid + update.unexplained
    # The last block is over, or its causes are known.
    assert updates[-1].unexplained == 0


@every_account
def test_an_order_ends_as_the_database_has_it(folder: Path, name: str) -> None:
    """Filled as far as it says; the chain's order never goes on after its end."""
    words = {"FILLED": "FILLED", "CANCELED": "CANCELLED"}
    accounts = Accounts()
    for frame in frames_of(folder):
        accounts.step(frame)

    for row in truth_of(folder)["state"][name]["orders"]:
        order = accounts.orders.orders[row["id"]]
        assert order.filled == Decimal(row["totalFilled"])
        assert order.status == words.get(row["status"], order.status)


def test_a_parents_channel_alone_reports_its_children() -> None:
    """One that it does not list was never funded; what moves between two is no funding."""
    [folder] = [folder for folder in SESSIONS if "parent" in folder.name]
    own = re.compile(r"subaccountNumber=|/subaccountNumber/")
    frames = [
        frame
        for frame in frames_of(folder)
        if frame.channel != "v4_subaccounts" and not own.search(frame.channel)
    ]

    updates = folded(frames)

    for name in truth_of(folder)["state"]:
        assert figures(updates[subaccount(name)]) == expected(folder, name)
    paid = [each[-1].profit.transferred for each in updates.values()]
    assert sorted(paid) == [25_000_000, 375_000_000]


def of_its_parent(frame: Frame) -> Frame:
    """Report what a subaccount's channel and lists report as its parent's do."""
    number = re.search(r"(?:subaccountNumber[/=]|/)(\d+)$", frame.id or frame.channel)
    if number is None or "subaccount" not in frame.channel:
        return frame
    child, parent = int(number[1]), int(number[1]) % 128
    message = json.loads(frame.text)
    contents = message["contents"] if frame.kind == "ws" else message
    if "subaccount" in contents:
        children = {"parentSubaccountNumber": parent, "childSubaccounts": [contents["subaccount"]]}
        contents["subaccount"] = {"equity": "0", **children}
    if frame.kind == "http":
        rows = contents if isinstance(contents, list) else contents.get("fills", [])
        for row in rows:
            row["subaccountNumber"] = child
        path, _, query = frame.channel.partition("?")
        path = path.replace(f"/subaccountNumber/{child}", f"/parentSubaccountNumber/{parent}")
        if query:
            query = "?" + query.replace(
                f"subaccountNumber={child}", f"parentSubaccountNumber={parent}"
            )
            path += "/parentSubaccountNumber"
        return msgspec.structs.replace(frame, channel=path + query, text=json.dumps(message))
    owner = frame.id.partition("/")[0]
    message |= {"channel": "v4_parent_subaccounts", "id": f"{owner}/{parent}"}
    message |= {} if frame.is_snapshot else {"subaccountNumber": child}
    return ws_frame(frame.seq, frame.at, frame.mono, frame.link, json.dumps(message))


@every_session
def test_a_parent_reports_a_child_of_its_own_number_too(folder: Path) -> None:
    """Most trade as child 0 of parent 0: its snapshot is of that child as of any other."""
    if any("parent" in frame.channel for frame in frames_of(folder)):
        return  # it has two children of one, which no two snapshots list

    updates = folded(map(of_its_parent, frames_of(folder)))

    for name in truth_of(folder)["state"]:
        assert figures(updates[subaccount(name)]) == expected(folder, name)


# === However it is reported ===


def parts_of(frame: Frame) -> Iterator[Frame]:
    """Split a message: each kind of row in one of its own, under the same block."""
    message = json.loads(frame.text)
    for name, rows in message["contents"].items():
        if name != "blockHeight":
            contents = {name: rows, "blockHeight": message["contents"]["blockHeight"]}
            text = json.dumps({**message, "contents": contents})
            yield ws_frame(frame.seq, frame.at, frame.mono, frame.link, text)


def fills_answer(folder: Path, name: str, block: int) -> Frame:
    """Answer over REST which fills there were until a block, the newest first, without events."""
    owner, _, number = name.partition("/")
    rows = [
        {
            **{key: row[key] for key in ("id", "side", "liquidity", "type", "price", "size", "fee")},
            "orderId": row["orderId"] or None,
            "positionSizeBefore": row["positionSizeBefore"] or None,
            "positionSideBefore": row["positionSideBefore"] or None,
            "market": row["ticker"], "createdAt": row["createdAt"],
            "createdAtHeight": str(row["block"]),
        }
        for row in truth_of(folder)["state"][name]["fills"]
        if row["block"] <= block
    ]  # fmt: skip
    path = f"/v4/fills?address={owner}&limit=100&subaccountNumber={number}"
    return WireWriter().answer(path, {"fills": rows[::-1][:100]})


def transfers_answer(folder: Path, name: str, block: int) -> Frame:
    """Answer over REST what was paid in and out until a block, the newest first."""
    owner, _, number = name.partition("/")
    rows = [
        {**row, "id": f"t{n}"}
        for n, frame in enumerate(frames_of(folder))
        if frame.channel == "v4_subaccounts" and frame.id == name
        for row in [json.loads(frame.text)["contents"].get("transfers")]
        if row and int(row["createdAtHeight"]) <= block
    ]
    path = f"/v4/transfers?address={owner}&limit=100&subaccountNumber={number}"
    return WireWriter().answer(path, {"transfers": rows[::-1]})


def stretches(frames: list[Frame]) -> Iterator[list[Frame]]:
    """Cut at snapshots and losses: what comes before one must not come after it."""
    stretch: list[Frame] = []
    for frame in frames:
        if frame.type == "subscribed" or frame.kind in ("open", "close", "gap"):
            yield from (stretch, [frame])
            stretch = []
        else:
            stretch.append(frame)
    yield stretch


def mixed(folder: Path, chance: Random) -> list[Frame]:
    """Report the same in another way: split, doubled, in disorder, early and late by REST.

    A frame keeps its place but by ten others, farther than the venue's own disorder goes; an
    answer of REST comes again up to 300 frames late, as a replica that lags gives it.
    """
    placed: list[Frame] = []
    parts = list(stretches(frames_of(folder)))
    for number, stretch in enumerate(parts, 1):
        reports: list[tuple[float, Frame]] = []
        for n, frame in enumerate(stretch):
            rows = [frame]
            if frame.type == "channel_data" and frame.channel in ACCOUNTS and chance.random() < 0.5:
                rows = list(parts_of(frame))
            if frame.kind == "http" and not frame.ok:
                reports.append((n, frame))  # it has no height: it says what was true then
                continue
            reports += [(n + 10 * chance.random(), row) for row in rows]
            reports += [(n + 10 * chance.random(), row) for row in rows if chance.random() < 0.3]
            if frame.kind == "http":
                reports.append((n + 300 * chance.random(), frame))
        if number == len(parts):
            early = answers(folder, chance)
            reports += [(len(stretch) * chance.uniform(0.3, 1), frame) for frame in early]
        placed += [frame for _, frame in sorted(reports, key=lambda report: report[0])]
    return placed


def answers(folder: Path, chance: Random) -> Iterator[Frame]:
    """Ask for fills in between: REST may be far ahead of the socket."""
    for name, state in truth_of(folder)["state"].items():
        blocks = [row["block"] for row in state["fills"]]
        for block in chance.sample(blocks, min(len(blocks), 3)):
            yield fills_answer(folder, name, block)


@every_session
@settings(max_examples=6)
@given(st.integers(0, 2**32))
def test_however_it_is_reported_it_comes_to_the_same(folder: Path, seed: int) -> None:
    """The same facts make the same account; the chain is some blocks on before it is judged."""
    height = truth_of(folder)["true_at_block"] + 10
    frames = [*mixed(folder, Random(seed)), WireWriter().block(height)]

    updates = folded(frames)

    for name in truth_of(folder)["state"]:
        assert figures(updates[subaccount(name)]) == expected(folder, name)


@every_account
def test_fills_of_rest_are_in_the_order_of_their_events(folder: Path, name: str) -> None:
    """REST lists those of a block in any order and without events: their ids are made of them."""
    state = truth_of(folder)["state"][name]
    owner, _, number = name.partition("/")
    path = f"/v4/fills?address={owner}&limit=100&subaccountNumber={number}"
    rows = json.loads(fills_answer(folder, name, 1 << 40).text)["fills"]
    for row in rows:
        del row["positionSizeBefore"], row["positionSideBefore"]
    Random(name).shuffle(rows)
    begun = WireWriter().message("subscribed", "v4_subaccounts", {}, name)

    [updates] = folded([begun, WireWriter().answer(path, {"fills": rows})]).values()

    fills = sorted((row["ev"], row["id"]) for row in state["fills"])[-100:]
    assert sorted((fill.event_id, fill.id) for fill in updates[-1].fills) == fills
    if len(state["fills"]) <= 100:
        assert updates[-1].profit.realized == quanta(state["profit"]["realised"])


# === What is lost ===


def summary(folder: Path, name: str, block: int) -> dict[str, Any]:
    """Sum a subaccount up as the indexer does, as it was after a block that changed it."""
    truth, (_, _, number) = truth_of(folder), name.partition("/")
    state = truth["after_block"][str(block)][name]
    balance = Decimal(state["usdc_quantums"]).scaleb(-6)
    positions = {
        ticker: Decimal(quantums).scaleb(truth["markets"][ticker]["atomic_resolution"])
        for ticker, quantums in state["positions"].items()
    }
    return {
        "subaccountNumber": int(number), "equity": "1", "updatedAtHeight": str(block),
        "openPerpetualPositions": {
            ticker: {
                "market": ticker, "status": "OPEN", "side": "SHORT" if size < 0 else "LONG",
                "size": f"{size:f}", "entryPrice": "1",
            }
            for ticker, size in positions.items()
        },
        "assetPositions": {
            "USDC": {
                "symbol": "USDC", "side": "SHORT" if balance < 0 else "LONG",
                "size": f"{abs(balance):f}",
            },
        },
    }  # fmt: skip


def made_up_for(folder: Path, height: int) -> list[Frame]:
    """Subscribe again and ask REST, as is done after a loss: the accounts as of a height.

    Empty if the truth does not say how they stood then, or fills were more than a page.
    """
    truth, writer, frames = truth_of(folder), WireWriter(), list[Frame]()
    for name, state in truth["state"].items():
        changed = [
            int(block)
            for block, states in truth["after_block"].items()
            if int(block) <= height and name in states
        ]
        happened = [row["block"] for row in state["fills"] if row["block"] <= height]
        if max(happened, default=0) > max(changed, default=0) or len(happened) > 100:
            return []
        [held] = [
            json.loads(frame.text)["contents"].get("subaccount")
            for frame in frames_of(folder)
            if frame.type == "subscribed" and (frame.channel, frame.id) == (ACCOUNTS[0], name)
        ]
        if changed:
            held = summary(folder, name, max(changed))
        if held:
            held |= {"latestProcessedBlockHeight": str(height)}
        contents = {"subaccount": held, "orders": [], "blockHeight": str(height)} if held else {}
        frames += [
            writer.message("subscribed", "v4_subaccounts", contents, name),
            fills_answer(folder, name, height),
            transfers_answer(folder, name, height),
        ]
    return frames


@every_session
@settings(max_examples=8)
@given(st.integers(0, 2**32))
def test_a_loss_is_made_up_by_a_snapshot_and_the_fills(folder: Path, seed: int) -> None:
    """Whatever part of a session is lost: profit is complete again, and nothing is in doubt."""
    chance, frames = Random(seed), frames_of(folder)
    begun = [n for n, frame in enumerate(frames) if frame.type == "subscribed"]
    if len({frames[n].link for n in begun}) > 1:
        return  # it has a loss of its own
    start, end = sorted(chance.choices(range(max(begun) + 1, len(frames)), k=2))
    heights = [height_of(frame) for frame in frames[:end]]
    gap = Frame(0, 0, 0, frames[begun[0]].link, "gap", "frames lost")

    made_up = made_up_for(folder, max(heights))
    if not made_up:
        return
    over = WireWriter().block(truth_of(folder)["true_at_block"] + 10)
    updates = folded([*frames[:start], gap, *made_up, *frames[end:], over])

    for name in truth_of(folder)["state"]:
        assert figures(updates[subaccount(name)]) == expected(folder, name)
