"""Watched accounts, folded from frames: exact to the quantum, and nothing is sent."""

import dataclasses
import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from bot.run.composition import Options
from bot.screen.snapshot import snapshot_of
from bot.watch.address import Target
from bot.watch.group import Group, Standing
from bot.watch.node import LINK, PATH, Node, is_chain, state_in, text_of
from bot.watch.past import Past
from bot.watch.reading import INDEXER_ONLY
from bot.watch.rows import (
    Changes,
    account_rows,
    advice,
    is_due,
    report_json,
    report_lines,
    trouble_of,
)
from dydx_conn import (
    NETWORKS,
    ChainAccount,
    ChainMarket,
    ChainPosition,
    ChainState,
    Frame,
    Inbox,
    NetworkError,
    OrderRequest,
    Subaccount,
    WireWriter,
    market_fields,
    market_parameters,
)
from sessions import REAL, Session, subaccount_named

NET = NETWORKS["local"]
OWNER = "dydx1lwzy434rmz8ufxkeak36xgpuzk9k9csx0sn6km"
OTHER = "dydx18y6v62cltpkud6kqr26yxa6swnjv8f4z5p6c78"
US, CHILD = Subaccount(OWNER, 0), Subaccount(OWNER, 128)
NOW = 1_767_225_600 * 10**9
MICRO = 10**6
BTC = market_parameters("BTC-USD")


def node_frame(state: ChainState | str, after: Frame | None = None) -> Frame:
    """Make a node's answer, behind another frame."""
    text, kind = (state, "-1") if isinstance(state, str) else (text_of(state), "200")
    at = after or Frame(1_000, NOW, NOW, "", "")
    return Frame(at.seq + 1, at.at, at.mono, LINK, "http", text, kind, PATH)


# === The recorded sessions of the real software ===


@pytest.mark.replays
@pytest.mark.parametrize("session", REAL, ids=str)
def test_what_is_folded_is_what_the_real_chain_held(session: Session) -> None:
    """Net collateral, both margins and unsettled funding to the quantum, by the frames alone.

    And the node's own answer at the named block agrees with it, for each account that is watched.
    """
    known = [subaccount_named(name) for name in session.truth["state"]]
    group = Group([Target(each.owner, each.number) for each in known], Options(), known)
    received = [n for n, frame in enumerate(session.frames) if frame.kind in ("ws", "http")]
    last = session.frames[received[-1]]

    for frame in session.frames[: received[-1] + 1]:
        group.take(frame)

    figures = ("net_collateral", "initial_margin", "maintenance_margin")
    for name, truth in session.truth["state"].items():
        risk = group.bots[subaccount_named(name)].risk
        assert [getattr(risk.margin, each) for each in figures] == [truth[f] for f in figures]
        assert risk.account.unsettled.quantums == truth["unsettled_funding"]
    group.take(node_frame(session.chain, last))
    assert {group.block(each) for each in known} == {session.truth["true_at_block"]}
    for name, truth in session.truth["state"].items():
        seen = group.seen[subaccount_named(name)].margin
        assert seen is not None
        assert seen.net_collateral == truth["net_collateral"]


# === Written frames ===


class Wire:
    """A venue's frames about an account that holds a bitcoin at 50,000, and what takes them."""

    def __init__(self, *targets: Target, known: tuple[Subaccount, ...] = (US,)) -> None:
        self.group = Group(targets or [Target(OWNER)], Options(), known)
        self.writer = WireWriter(at=NOW)
        self.stood = list[Standing]()
        self.group.listeners.append(self.stood.append)

    def take(self, *frames: Frame) -> None:
        """Let frames in."""
        for frame in frames:
            self.group.take(frame)

    def begin(self, usdc: str = "1000", size: str = "1") -> None:
        """Let in the markets and the account."""
        row = {"market": "BTC-USD", "status": "OPEN", "size": size, "entryPrice": "49000"}
        self.take(
            self.writer.event("open", "ws:"),
            self.writer.markets(market_fields("BTC-USD", price="50000")),
            self.writer.account(US, usdc, [row] if size != "0" else []),
        )

    @property
    def margin(self) -> Any:
        """Return the margin of our account."""
        return self.group.bots[US].risk.margin


def state(collateral: int, quantums: int = 10**10, height: int = 10, index: int = 0) -> ChainState:
    """Make what a node holds of our account."""
    held = (ChainPosition("BTC-USD", quantums, -10, 0, index),) if quantums else ()
    markets = {"BTC-USD": ChainMarket(BTC, 5_000_000_000, -5, 10**13, index)}
    accounts = {US: ChainAccount(height, collateral, held)}
    return ChainState(NET.chain_id, height, NOW, accounts, markets)


def test_a_node_settles_what_the_chain_has_not_yet() -> None:
    """From then on the account is exact at that block; before, the indexer alone is known."""
    wire = Wire()
    wire.begin()
    before = wire.group.block(US), wire.margin.net_collateral

    wire.take(node_frame(state(1_000 * MICRO, index=200)))

    assert before == (None, 51_000 * MICRO)
    assert (wire.group.block(US), wire.margin.net_collateral) == (10, 50_998 * MICRO)
    assert wire.stood[-1].block == 10
    assert wire.stood[-1].distance == wire.margin.distance


def test_a_node_that_holds_something_else_settles_nothing() -> None:
    """The indexer is behind, or ahead: neither is the other's account."""
    wire = Wire()
    wire.begin()

    wire.take(node_frame(state(900 * MICRO, quantums=2 * 10**10)))

    assert wire.group.block(US) is None
    assert wire.margin.net_collateral == 51_000 * MICRO
    assert wire.group.seen[US].holdings[0].quantums == 2 * 10**10


def test_what_a_node_has_first_is_no_funding() -> None:
    """Money is withdrawn, and the node answers before the indexer reports it: nothing was lost."""
    wire = Wire()
    wire.begin()
    risk, height = wire.group.bots[US].risk, wire.writer.height + 1

    wire.take(node_frame(state(400 * MICRO, height=height)))
    between = wire.group.block(US), wire.margin.net_collateral, wire.group.profit(US)
    wire.writer.height = height
    paid_out = {
        "sender": {"address": OWNER}, "recipient": {"address": "dydx1"}, "size": "600",
        "symbol": "USDC", "type": "WITHDRAWAL", "createdAtHeight": str(height),
    }  # fmt: skip
    wire.take(wire.writer.account_update(US, usdc="400", transfers=paid_out))
    wire.take(node_frame(state(400 * MICRO, height=height, index=200)))

    assert between == (None, 51_000 * MICRO, 0)
    assert (wire.group.block(US), wire.margin.net_collateral) == (height, 50_398 * MICRO)
    assert (wire.group.profit(US), risk.falls.deepest) == (-2 * MICRO, 2 * MICRO)


@pytest.mark.parametrize(
    ("usdc", "blocks"),
    [
        ("998.000001", [10, 11, 13]),  # of the hour that the node is in
        ("997.5", [None, None, 13]),  # of the hour before: is it funding, or on its way?
    ],
)
def test_funding_that_a_snapshot_has_in_it_is_settled_all_the_same(
    usdc: str, blocks: list[int | None]
) -> None:
    """At once where the node comes to as much, else when anything else were reported by now."""
    wire = Wire()
    wire.begin(usdc=usdc)

    wire.take(node_frame(state(1_000 * MICRO, index=200)))
    exact = [wire.group.block(US)]
    wire.take(node_frame(state(1_000 * MICRO, height=11, index=300)))
    exact.append(wire.group.block(US))
    wire.take(wire.writer.block(12, "2026-01-01T00:00:12.000Z"))
    wire.take(node_frame(state(1_000 * MICRO, height=13, index=400)))

    assert [*exact, wire.group.block(US)] == blocks
    assert wire.margin.net_collateral == 50_996 * MICRO


def test_a_node_that_is_away_is_shown_until_it_answers() -> None:
    """On the screen, and at the end."""
    wire = Wire()
    wire.begin()

    away = (
        "expected dydx1us/0, dydx1us/1 … of the node 127.0.0.1:9, got UNAVAILABLE: UNKNOWN: "
        "ipv4:127.0.0.1:9: Failed to connect to remote host: Connection refused"
    )
    wire.take(*(node_frame(away) for _ in range(2)))

    bot = wire.group.bots[US]
    words = "node 127.0.0.1:9: Failed to connect to remote host: Connection refused"
    lasting = f"{words}: indexer only, unsettled funding not included"
    assert bot.shown.troubles == {"node": lasting}
    assert wire.group.no_chain == away
    assert away in "\n".join(report_lines(NET, wire.group, {}))
    wire.take(node_frame(state(1_000 * MICRO)))
    tape = [entry.words for entry in bot.journal.entries if entry.kind == "link"]
    assert tape == [f"lost: {words}", "node back"]
    assert (wire.group.no_chain, wire.group.bots[US].shown.troubles) == ("", {})
    wire.take(Frame(9, NOW, NOW, LINK, "http", "{", "200", PATH))
    assert wire.group.no_chain.startswith("expected what the chain holds, got")


def test_what_touches_an_account_settles_its_funding() -> None:
    """The socket's balance is the chain's own, at its block."""
    wire = Wire()
    wire.begin()

    wire.writer.height += 1
    paid_in = {
        "sender": {"address": "dydx1"}, "recipient": {"address": OWNER}, "size": "100",
        "symbol": "USDC", "type": "DEPOSIT", "createdAtHeight": str(wire.writer.height),
    }  # fmt: skip
    wire.take(wire.writer.account_update(US, usdc="1100", transfers=paid_in))

    assert wire.group.block(US) == wire.writer.height
    wire.take(wire.writer.account_update(US, usdc="1090"))  # of the same block, once more
    assert wire.group.block(US) == wire.writer.height
    wire.writer.height += 1
    wire.take(wire.writer.account_update(US, usdc="1100"))
    assert wire.group.block(US) == wire.writer.height
    assert wire.margin.net_collateral == 51_100 * MICRO
    assert wire.group.profit(US) == 0


def test_after_an_hour_only_the_chain_knows_what_funding_is_owed() -> None:
    """Until somebody touches the account, or a node answers, the indexer's rate is a guess."""
    wire = Wire()
    wire.begin()
    wire.take(node_frame(state(1_000 * MICRO)))
    exact = wire.group.block(US)

    for height, time, price in ((11, "00:59:59", "50000.1"), (12, "01:00:01", "50000.2")):
        wire.take(wire.writer.block(height, f"2026-01-01T{time}.000Z"))
        wire.take(wire.writer.oracle("BTC-USD", price))
    guessed = wire.group.block(US), wire.group.bots[US].risk.account.unsettled.quantums

    wire.take(node_frame(state(1_000 * MICRO, height=12, index=25)))
    assert (exact, guessed[0], wire.group.block(US)) == (10, None, 12)
    assert guessed[1] < 0
    assert wire.group.bots[US].risk.account.unsettled.quantums == -250_000


def test_nothing_that_an_account_does_is_answered_with_an_order() -> None:
    """However near it is: no guard, no venue, nobody to halt."""
    wire = Wire()
    wire.begin(usdc="-49400")
    wire.take(wire.writer.book("BTC-USD", [("49990", "9")], [("50010", "9")]))
    bot = wire.group.bots[US]
    order = OrderRequest(
        ticker="BTC-USD", clob_pair_id=0, side="SELL", quantums=10**9, subticks=10**9,
        time_in_force="IOC", client_id=1, good_til_block=20,
    )  # fmt: skip

    bot.place(order)

    assert wire.stood[-1].alarm == "liquidatable"
    assert "LIQUIDATABLE, -" in "\n".join(report_lines(NET, wire.group, {}))
    assert [entry.kind for entry in bot.journal.entries if entry.kind in ("reduce", "order")] == []
    assert list(bot.venue.strangers()) == []
    assert bot.risk.flight_plan.rungs != ()


def test_an_isolated_child_is_watched_from_its_first_update() -> None:
    """It stands behind its parent; what is of nobody else's interest is not watched."""
    wire = Wire(Target(OWNER, 0), Target(OTHER, 5), known=(US, Subaccount(OTHER, 5)))
    wire.begin()

    wire.take(
        wire.writer.account(Subaccount(OTHER, 5), "5", []),
        wire.writer.account(CHILD, "50", []),
        wire.writer.account(Subaccount(OTHER, 6), "6", []),
    )

    assert [*wire.group.bots] == [US, CHILD, Subaccount(OTHER, 5)]
    assert wire.group.bots[CHILD].risk.margin.net_collateral == 50 * MICRO
    assert wire.group.bots[CHILD].data is wire.group.data


# === Rows and lines ===

EARLIER = Past(
    hours=((0, Decimal(1), Decimal(0)), (90_000 * 10**9, Decimal(2), Decimal(7))),
    whole=True, funding_24h=Decimal(0), fills=(), transfers=(),
)  # fmt: skip


def test_an_account_is_a_row_with_its_source() -> None:
    """What is not known yet is None, and why."""
    wire = Wire()
    chosen = wire.group.bots[US]
    [unknown] = account_rows(wire.group, chosen, {})
    wire.begin()
    wire.take(node_frame(state(1_000 * MICRO)))

    [row] = account_rows(wire.group, chosen, {US: EARLIER})

    assert (unknown.equity, unknown.positions, unknown.trouble) == (
        None, None, "no account snapshot yet",
    )  # fmt: skip
    assert (row.id, row.kind, row.equity, row.day, row.block) == (
        str(US), "cross", 51_000.0, 7.0, 10,
    )  # fmt: skip
    assert (row.positions, row.orders, row.chosen, row.profit) == (1, 0, True, 0.0)
    assert row.lines[0] == (
        "profit   24 h +7.00  7 d +7.00  30 d +7.00  since it began +7.00  until 1970-01-02 01:00:00Z"
    )


def test_before_the_first_prices_an_account_says_what_it_waits_for() -> None:
    """Its positions may come before the markets."""
    wire = Wire()
    held = {"market": "BTC-USD", "status": "OPEN", "size": "1", "entryPrice": "1"}
    wire.take(wire.writer.event("open", "ws:"), wire.writer.account(US, "1000", [held]))

    assert trouble_of(wire.group, US) == "cannot be valued: BTC-USD, no prices yet"


def test_a_leverage_that_is_chosen_is_named_with_what_it_requires() -> None:
    """The indexer leaves it out of the initial margin; the chain does not."""
    wire = Wire()
    wire.begin()
    [held] = state(1_000 * MICRO).accounts[US].positions
    chosen = ChainAccount(10, 1_000 * MICRO, (dataclasses.replace(held, chosen_imf_ppm=500_000),))
    wire.take(node_frame(dataclasses.replace(state(1_000 * MICRO), accounts={US: chosen})))

    [row] = account_rows(wire.group, wire.group.bots[US], {})

    assert row.lines == (
        "initial margin 25,000.00, free 26,000.00 USDC on the chain at 10: "
        "a leverage is chosen for BTC-USD",
    )


def test_a_bug_in_a_layer_ends_the_watching(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loudly: a distance that nobody computes any more would stand there for ever."""
    wire = Wire()
    wire.begin()
    monkeypatch.setattr(wire.group.bots[US].risk, "_see", lambda _: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        wire.take(wire.writer.oracle("BTC-USD", "50001"))
    with pytest.raises(ZeroDivisionError):
        wire.group.close()


def test_a_position_that_cannot_be_valued_is_named_in_its_place() -> None:
    """Its distance is unknown, and so is the account's worth."""
    wire = Wire()
    wire.take(
        wire.writer.event("open", "ws:"),
        wire.writer.markets(market_fields("BTC-USD", price="50000")),
        wire.writer.account(
            US, "1000", [{"market": "GONE-USD", "status": "OPEN", "size": "1", "entryPrice": "1"}]
        ),
    )

    [row] = account_rows(wire.group, wire.group.bots[US], {})

    assert (row.equity, row.distance) == (None, None)
    assert row.trouble.startswith("cannot be valued: GONE-USD, no price among the 1 markets")


def test_a_line_is_printed_for_what_changed_and_for_nothing_else() -> None:
    """A state, a holding, whose word it is, or half a per cent of distance."""
    wire = Wire()
    lines, changes = list[str](), Changes(wire.group)
    wire.group.listeners.append(lambda standing: lines.append(changes.line(standing)))
    wire.begin()
    wire.take(node_frame(state(1_000 * MICRO)))
    wire.take(wire.writer.oracle("BTC-USD", "50001"))

    printed = [line for line in lines if line]

    assert printed == [
        "00:00:00 dydx1lwz…sn6km/0 UNKNOWN: no account snapshot yet",
        "00:00:00 dydx1lwz…sn6km/0 102 % to liquidation, equity 51,000.00, leverage 0.98x, "
        "1 position; indexer only, unsettled funding not included",
        "00:00:00 dydx1lwz…sn6km/0 102 % to liquidation, equity 51,000.00, leverage 0.98x, "
        "1 position; exact at block 10",
    ]


def test_an_account_without_a_deposit_is_no_safe_one() -> None:
    """It is flat, and it says that nothing was ever there."""
    wire = Wire()
    wire.group.notes[US] = "nothing was ever deposited here, on local"
    wire.begin(usdc="0", size="0")

    text = "\n".join(report_lines(NET, wire.group, {US: EARLIER}))

    assert trouble_of(wire.group, US) == "nothing was ever deposited here, on local"
    assert "FLAT, equity 0.00; nothing was ever deposited here, on local" in text
    assert "profit   24 h +7.00" in text


def test_a_program_gets_exact_amounts_at_the_end() -> None:
    """And null for what is not known."""
    wire = Wire()
    unknown = report_json(NET, wire.group, {})["accounts"][0]
    wire.begin()
    wire.take(node_frame(state(1_000 * MICRO, index=200)))

    found = report_json(NET, wire.group, {US: EARLIER})

    [row] = found["accounts"]
    assert (unknown["net_collateral"], unknown["unsettled_funding"]) == (None, None)
    assert (row["net_collateral"], row["unsettled_funding"]) == ("50998.000000", "-2.000000")
    assert (row["block"], row["positions"]) == (10, [{"ticker": "BTC-USD", "size": "1"}])
    assert json.dumps(found)
    text = "\n".join(report_lines(NET, wire.group, {}))
    assert "BTC-USD +1, no price of it liquidates" in text


# === The node ===


def test_a_node_is_queried_for_what_is_watched() -> None:
    """Its answer is a frame among the others; a failure is one too, and so is another chain."""
    inbox, found = Inbox(), list[Any]()

    def query(net: Any, wanted: list[Subaccount], **_: Any) -> ChainState:
        found.append(wanted)
        if len(found) == 2:
            raise NetworkError("got UNAVAILABLE")
        answer = state(5)
        return answer if len(found) == 1 else dataclasses.replace(answer, chain_id="other")

    node = Node(NET, inbox, lambda: [US], query)
    for _ in range(3):
        node.once()

    frames = [inbox.take(seq, 0) for seq in (1, 2, 3)]
    states = [state_in(frame) for frame in frames if frame and is_chain(frame)]
    assert states == [
        state(5), "got UNAVAILABLE", f"expected a node of {NET.chain_id}, got one of other",
    ]  # fmt: skip
    assert found == [[US]] * 3
    with node:
        while (frame := inbox.take(4, 5)) is None:
            raise AssertionError("expected an answer of its thread, got none")
    assert is_chain(frame)
    node.once()
    assert not [left for left in iter(lambda: inbox.take(5, 0), None) if left.seq > 5]


def test_a_state_of_the_chain_survives_its_text() -> None:
    """As a recording holds it."""
    assert state_in(node_frame(state(7, index=9))) == state(7, index=9)
    assert msgspec.json.decode(text_of(state(7)))["accounts"].keys() == {str(US)}


def test_an_account_whose_frames_were_lost_leaves_what_was_known_last_in_grey() -> None:
    """Its worth and distance stay on the screen, in doubt and with the reason."""
    wire = Wire()
    wire.begin()
    bot = wire.group.bots[US]
    before = snapshot_of(bot, mode="WATCH", name="local", speed=None).safety

    wire.take(wire.writer.event("close", "gone"))

    safety = snapshot_of(bot, mode="WATCH", name="local", speed=None).safety
    assert (before.doubt, before.distance) == ("", safety.distance)
    assert safety.distance == pytest.approx(1.02, abs=0.01)
    assert safety.doubt.startswith("account frames were lost")


def test_advice_that_is_not_due_yet_does_not_read_as_if_it_were() -> None:
    """What is due has its reason before it; what is not has the distance at which it is."""
    far, near = Wire(), Wire()
    far.begin()
    near.begin(usdc="-45000")

    reasons = [[line.partition(":")[0] for line in advice(each.group, US)] for each in (far, near)]

    assert reasons[0][0].startswith("advice, below ")
    assert reasons[1][:2] == ["advice by the limits of the profile", "advice, now"]
    assert not [line for line in advice(near.group, US) if ">=" in line or "<=" in line]
    assert [is_due(each.group.bots[US]) for each in (far, near)] == [False, True]


def test_what_an_account_brings_is_no_profit_of_the_watching() -> None:
    """Not even before the frame that comes after its first one."""
    wire = Wire()
    wire.begin()

    result = snapshot_of(wire.group.bots[US], mode="WATCH", name="local", speed=None).safety.result

    assert result is not None
    assert (result.profit, result.paid_in) == (0, 51_000 * MICRO)


def test_a_report_says_indexer_only_of_what_is_no_better_known() -> None:
    """Fills settle an account, too: it may be exact though no node has ever answered."""
    wire, net = Wire(), NETWORKS["local"]
    wire.begin()
    doubtful = list(report_lines(net, wire.group, {}))
    wire.take(node_frame(state(1_000 * MICRO)))
    wire.group.no_chain = "no node has answered yet"

    assert doubtful[-1].startswith(INDEXER_ONLY)
    assert not [line for line in report_lines(net, wire.group, {}) if INDEXER_ONLY in line]
