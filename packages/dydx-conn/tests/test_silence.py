"""Subscriptions that die on a connection that lives: a pure fold over frames."""

import json

import dydx_conn
import pytest
from dydx_conn import MARBLE_CASES, Frame, Silence, Silent, WireWriter, collect, fold, key_of, play
from reactivex import from_iterable

SECOND = 1_000_000_000
BOOK, TRADES, HEIGHT = ("v4_orderbook", "A-USD"), ("v4_trades", "A-USD"), ("v4_block_height", "")
ACCOUNT = ("v4_subaccounts", "dydx1a/0")
PATHS = {
    "v4_orderbook": "/v4/orderbooks/perpetualMarket/A-USD",
    "v4_trades": "/v4/trades/perpetualMarket/A-USD?limit=100",
    "v4_block_height": "/v4/height",
    "v4_subaccounts": "/v4/orders?address=dydx1a&subaccountNumber=0&limit=100",
}


class Wire(WireWriter):
    """One link, and what REST answers beside it."""

    def begin(self, *keys: tuple[str, str]) -> list[Frame]:
        """Open, and be answered a snapshot of each key."""
        answers = [self.message("subscribed", channel, id=id_) for channel, id_ in keys]
        return [self.event("open"), *answers]

    def update(self, channel: str, id_: str) -> Frame:
        """Make an update."""
        return self.message("channel_data", channel, id=id_)

    def rest(self, channel: str, text: str, status: str = "200") -> Frame:
        """Make an answer of REST for the channel."""
        return self.event("http", text, type=status, channel=PATHS[channel], link="rest")

    def ticks(self, seconds: int) -> list[Frame]:
        """Let so many seconds pass, a tick each."""
        frames = []
        for _ in range(seconds):
            self.wait(1.0)
            frames.append(self.event("tick", link="clock"))
        return frames


def judged(*frames: Frame) -> list[Silent]:
    """Fold frames; return what was judged."""
    return collect(from_iterable(frames).pipe(fold(Silence, Silence.step)))


def compared(found: list[Silent]) -> list[tuple[tuple[str, str], int]]:
    """Return what was due to be compared, and after how many seconds of silence."""
    return [(x.key, x.since_ns // SECOND) for x in found if not x.is_dead]


def dead(found: list[Silent]) -> list[tuple[str, str]]:
    """Return what is dead."""
    return [x.key for x in found if x.is_dead]


def test_a_calm_market_is_compared_ever_more_rarely_and_left_alone() -> None:
    """REST answers the same each time: nothing happened, and nothing is lost."""
    wire = Wire()
    frames = wire.begin(BOOK)
    for _ in range(4):
        frames += [*wire.ticks(30), wire.rest("v4_orderbook", "{}")]

    found = judged(*frames)

    assert compared(found) == [(BOOK, second) for second in (4, 6, 10, 18, 34, 66)]
    assert dead(found) == []


def test_two_answers_that_differ_in_a_silence_prove_it_dead() -> None:
    """Not before a message had 2 s to follow the answer; then once, until it is answered again."""
    wire = Wire()
    frames = wire.begin(BOOK, TRADES)
    frames += [*wire.ticks(4), wire.rest("v4_orderbook", '{"bids":[]}')]
    frames += [*wire.ticks(2), wire.rest("v4_orderbook", '{"bids":[1]}')]
    before = judged(*frames, *wire.ticks(1))

    after = judged(*frames, *wire.ticks(20))

    assert dead(before) == []
    assert [(x.key, x.link, x.since_ns // SECOND) for x in after if x.is_dead] == [(BOOK, "c1", 8)]
    assert compared(after) == [(BOOK, 4), (BOOK, 6)]


@pytest.mark.parametrize("channel", ["v4_orderbook", "v4_trades", "v4_block_height"])
def test_every_channel_is_judged_by_its_own_patience(channel: str) -> None:
    """Blocks never pause for long; trades may."""
    wire = Wire()
    id_ = "" if channel == "v4_block_height" else "A-USD"
    patience_s = int(dydx_conn.CHANNELS[channel].quiet_s)
    frames = wire.begin((channel, id_))
    frames += [*wire.ticks(patience_s), wire.rest(channel, "1")]
    frames += [*wire.ticks(2), wire.rest(channel, "2"), *wire.ticks(2)]

    found = judged(*frames)

    assert found[0].since_ns == patience_s * SECOND
    assert dead(found) == [(channel, id_)]


def test_an_account_is_not_calm_once_something_was_sent() -> None:
    """Its own orders are reported within 5 s, or REST is requested; a message ends that."""
    wire = Wire()
    frames = wire.begin(ACCOUNT, TRADES)
    sent = wire.event("sent", "{}", type="place", link="node")
    quiet = judged(*frames, sent, *wire.ticks(20))
    events = wire.begin(ACCOUNT)
    events += [wire.event("sent", "{}", type="place", link="node"), *wire.ticks(2)]
    events += [wire.update(*ACCOUNT), *wire.ticks(20)]

    assert compared(quiet) == [(ACCOUNT, second) for second in (5, 7, 11, 19)]
    assert compared(judged(*events)) == []


def test_a_placed_order_is_to_be_followed_by_its_end() -> None:
    """Else an order that filled counts as expired, and what wanted it buys again."""
    wire = Wire()
    frames = wire.begin(ACCOUNT)
    opened = {"orders": [{"id": "a", "status": "BEST_EFFORT_OPENED"}]}
    frames += [wire.message("channel_data", ACCOUNT[0], opened, id=ACCOUNT[1]), *wire.ticks(12)]

    assert compared(judged(*frames)) == [(ACCOUNT, second) for second in (5, 7, 11)]


def test_what_is_sent_into_a_long_silence_is_compared_soon() -> None:
    """Comparisons that became rare are not rare any more."""
    wire = Wire()
    frames = [*wire.begin(ACCOUNT), *wire.ticks(70)]
    frames += [wire.event("sent", "{}", type="place", link="node"), *wire.ticks(10)]

    seconds = [second for _, second in compared(judged(*frames))]

    assert seconds == [30, 32, 36, 44, 60, 75, 79]


def test_a_message_ends_the_silence_and_what_was_proven_by_it() -> None:
    """It was on its way when REST answered."""
    wire = Wire()
    frames = wire.begin(BOOK)
    frames += [*wire.ticks(4), wire.rest("v4_orderbook", "1")]
    frames += [*wire.ticks(2), wire.rest("v4_orderbook", "2"), wire.update(*BOOK)]

    assert compared(judged(*frames, *wire.ticks(5)))[2:] == [(BOOK, 4)]
    assert dead(judged(*frames, *wire.ticks(9))) == []


def test_an_answer_that_may_be_older_than_the_last_message_proves_nothing() -> None:
    """Nor does a refusal."""
    wire = Wire()
    frames = [*wire.begin(BOOK), *wire.ticks(1), wire.rest("v4_orderbook", "older")]
    frames += [*wire.ticks(4), wire.rest("v4_orderbook", "{}")]
    frames += [*wire.ticks(2), wire.rest("v4_orderbook", "busy", "503"), *wire.ticks(9)]

    assert dead(judged(*frames)) == []


def test_what_is_computed_when_it_is_requested_proves_nothing() -> None:
    """An account's equity moves with the oracle price; its orders do not."""
    wire, account = Wire(), ("v4_subaccounts", "dydx1a/0")
    path = "/v4/addresses/dydx1a/subaccountNumber/0"

    def equity(text: str) -> Frame:
        return wire.event("http", text, type="200", channel=path, link="rest")

    calm = [*wire.begin(account), *wire.ticks(30), equity("1"), wire.rest("v4_subaccounts", "[]")]
    calm += [*wire.ticks(2), equity("2"), wire.rest("v4_subaccounts", "[]"), *wire.ticks(2)]
    ended = [*calm, wire.rest("v4_subaccounts", "[1]"), *wire.ticks(2)]

    assert key_of(equity("3")) == account
    assert dead(judged(*calm)) == []
    assert dead(judged(*ended)) == [account]


@pytest.mark.parametrize("kind", ["close", "open"])
def test_a_connection_that_is_lost_takes_its_subscriptions_along(kind: str) -> None:
    """What it carried is subscribed to again; nothing is to be compared."""
    wire = Wire()
    assert judged(*wire.begin(BOOK, HEIGHT), wire.event(kind), *wire.ticks(60)) == []
    assert judged(*wire.begin(BOOK), wire.event(kind, link="c2"), *wire.ticks(4)) != []


def test_what_was_never_answered_or_is_given_up_is_not_judged() -> None:
    """An answer that is overdue is a gap of its own."""
    wire = Wire()
    text = json.dumps({"type": "subscribe", "channel": "v4_orderbook", "id": "A-USD"})
    given_up = wire.message("unsubscribed", "v4_orderbook", id="A-USD")
    unknown = wire.message("channel_data", "v4_weather", id="A-USD")
    assert judged(wire.event("open"), wire.event("sent", text), unknown, *wire.ticks(60)) == []
    assert judged(*wire.begin(BOOK), given_up, wire.update(*BOOK), *wire.ticks(60)) == []


def test_few_are_compared_at_once_what_fell_silent_last_first() -> None:
    """A dead venue must not make a thousand requests; and who spoke just now is suspicious."""
    wire = Wire()
    calm = [("v4_orderbook", f"M{n}-USD") for n in range(9)]
    frames = [*wire.begin(*calm), *wire.ticks(7), wire.message("subscribed", *BOOK[:1], id=BOOK[1])]

    found = judged(*frames, *wire.ticks(4))

    assert [len([x for x in found if x.since_ns == s * SECOND]) for s in (4, 5, 6)] == [4, 3, 3]
    assert found[-3].key == BOOK


@pytest.mark.parametrize("case", MARBLE_CASES)
def test_silence_by_its_marbles(case: str) -> None:
    """As the docstring draws it."""
    wire = Wire()
    snapshot, *_ = wire.begin(BOOK)[1:]
    ticks = wire.ticks(4)
    first = wire.rest("v4_orderbook", "1")
    later = wire.ticks(2)
    second = wire.rest("v4_orderbook", "2")
    values = {"s": snapshot, "t": ticks[-1], "a": first, "u": later[-1], "b": second}
    values["v"] = wire.ticks(2)[-1]

    def letter(found: Silent) -> str:
        return "D" if found.is_dead else "C"

    came, drawn = play(Silence, fold(Silence, Silence.step), values, letter, case)

    assert came == drawn
