"""The paper venue reports as the real one: the same shapes, and nothing before its turn."""

import random
from collections.abc import Iterable
from typing import Any

import pytest
from dydx_conn import CONDITIONAL, LONG_TERM, Frame
from dydx_paper import PaperVenue
from exchange import OWNER, START, USDC, Exchange
from habits import broken
from traded import KNOWN, forms, trade


def reported(frames: Iterable[Frame]) -> list[Frame]:
    """Leave out what a node answers, and the paper venue reports for want of one: refusals."""
    return [frame for frame in frames if '"removalReason":"clob ' not in frame.text]


@pytest.mark.replays
def test_what_a_recording_brings_is_reported_as_by_the_real_indexer() -> None:
    """A whole crash, traded by turns."""
    _, frames = trade()

    assert [] == broken(frames)
    assert set() == forms(frames) - KNOWN
    assert len(frames) > 200


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_is_reported_as_by_the_real_indexer(seed: int) -> None:
    """Orders of every kind, their ends, flips, liquidations, deposits: in no other way."""
    frames = reported(live(random.Random(seed)))

    assert [] == broken(frames)
    assert set() == forms(frames) - KNOWN


@pytest.mark.replays
def test_twenty_lives_show_most_of_what_the_recordings_show() -> None:
    """All but what only transfers, TWAPs, restarts and several accounts bring."""
    seen = forms(frame for seed in range(20) for frame in live(random.Random(seed)))
    kinds = {(shape.what, shape.keys) for shape in KNOWN if shape.channel != _PARENT}
    missing = kinds - {(shape.what, shape.keys) for shape in seen}

    assert len(missing) <= 6, missing


_PARENT = "v4_parent_subaccounts"


def live(chance: random.Random) -> list[Frame]:
    """Let an account live through 150 random events."""
    exchange = Exchange(PaperVenue(OWNER, chance.choice([0, 8_000]) * USDC)).open()
    exchange.keep(exchange.venue.deposit(4_000 * USDC))
    price = 50_000
    for _ in range(150):
        price += chance.randint(-150, 150)
        deed = chance.choices(["order", "book", "block", "cancel", "money", "crash"],
                              [8, 8, 6, 3, 1, 0.5])[0]  # fmt: skip
        if deed == "order":
            order(exchange, chance, price)
        elif deed == "book":
            bids = [(price - 1 - 10 * n, chance.randint(1, 20) / 100) for n in range(3)]
            asks = [(price + 1 + 10 * n, chance.randint(1, 20) / 100) for n in range(3)]
            exchange.book(bids, asks)
        elif deed == "block":
            exchange.block(second=exchange.second + chance.choice([1, 1, 1, 3_600]))
            exchange.oracle(price)
        elif deed == "cancel":
            cancel(exchange, chance)
        elif deed == "money":
            move = chance.choice([exchange.venue.deposit, exchange.venue.withdraw])
            exchange.keep(move(chance.randint(1, 500) * USDC))
        else:
            price = price * chance.choice([90, 110]) // 100
            exchange.oracle(price)
    return exchange.frames


def order(exchange: Exchange, chance: random.Random, price: int) -> None:
    """Send an order of some kind; some replace an earlier one."""
    kind = chance.choice(["short", "short", "short", "replace", "long", "conditional"])
    at, fields = price + chance.randint(-30, 30), dict[str, Any]()
    if kind == "replace" and exchange.client:
        fields = {"client_id": chance.randint(max(1, exchange.client - 3), exchange.client)}
    elif kind == "long":
        fields = {"order_flags": LONG_TERM, "good_til_block": 0}
    elif kind == "conditional":
        away = chance.randint(-100, 100)
        fields = {
            "order_flags": CONDITIONAL, "good_til_block": 0,
            "condition_type": chance.choice(["STOP_LOSS", "TAKE_PROFIT"]),
            "trigger_subticks": exchange.market().subticks(str(price + away)),
        }  # fmt: skip
    if "order_flags" in fields:
        # One that waited in vain is in no recording: it lives on here.
        life = 10**6 if kind == "conditional" else chance.choice([5, 100])
        fields["good_til_block_time"] = START + exchange.second + life
    tif = chance.choice(["IOC", "GTT", "POST_ONLY"] if kind == "short" else ["GTT"])
    size = f"0.{chance.randint(1, 40):02}"
    exchange.order(chance.choice(["BUY", "SELL"]), size, str(at), tif, **fields)


def cancel(exchange: Exchange, chance: random.Random) -> None:
    """Cancel an order of late, of whatever kind, or one that never was."""
    client = chance.randint(max(1, exchange.client - 6), exchange.client + 1)
    flags = chance.choice([0, 0, LONG_TERM, CONDITIONAL])
    if flags:
        until = START + exchange.second + 10**6 + 100
        exchange.cancel(client, order_flags=flags, good_til_block=0, good_til_block_time=until)
    else:
        exchange.cancel(client)
