"""The audit's scenarios of the venue: which network, what a bad answer does, what is never shown.

EnvironmentSettings, judge ─────────────► NETWORKS
Rest against a loopback that fails ─────► ERRORS    time passes only where somebody waits
Connections, frame by frame ────────────► LINKS
the same frames twice; redact ──────────► PROMISES
"""

import json
from collections.abc import Iterator
from typing import Final

from dydx_conn import (
    Accounts,
    ChainTip,
    ConnectionState,
    Frame,
    Network,
    Subaccount,
    WireWriter,
    market_fields,
    network,
    redact,
)
from dydx_conn import Connections as Links

from bot.audit.scenarios import Evidence, Group, That, above
from bot.audit.stage import BTC, ETH, Stage, usdc
from bot.config.environment import EnvironmentSettings, confirmations, objection
from bot.config.validation import judge

NETWORKS: Final = Group("Networks and confirmations")
_ON_SCALE: Final = That("0 to 100", lambda got: 0.0 <= got[0] <= got[1] <= 100.0)
_FALLING: Final = That("below 20", lambda got: got < 20.0)
LINKS: Final = Group("Data and recovery")
PROMISES: Final = Group("Repeatable and silent")

# === Networks ===


@NETWORKS.shows(
    "each environment its network",
    "development and staging pick the testnet, production mainnet, tests the local one",
    "bot/environment::an_environment_picks_its_network",
)
def _picks() -> Iterator[Evidence]:
    for name, expected in (
        ("development", "testnet"), ("staging", "testnet"), ("production", "mainnet"),
        ("test", "local"),
    ):  # fmt: skip
        yield Evidence(name, expected, _environment(name).chosen().name)


@NETWORKS.shows(
    "refused",
    "production on testnet does not start, a test never touches mainnet",
    "bot/environment::an_environment_refuses_what_it_is_not_for",
    "bot/environment::mainnet_under_another_name_is_mainnet",
    "bot/environment::a_refusal_is_a_two",
)
def _refused() -> Iterator[Evidence]:
    for name, net, refused in (
        ("production", "testnet", True), ("production", "local", True), ("test", "mainnet", True),
        ("development", "mainnet", False),
    ):  # fmt: skip
        yield Evidence(
            f"{name} on {net}: refused", refused, bool(objection(_environment(name), network(net)))
        )
    disguised = Network("harmless", "http://127.0.0.1:1", "", "", network("mainnet").chain_id)
    refused_too = bool(objection(_environment("test"), disguised))
    yield Evidence("mainnet's chain under another name in a test: refused", True, refused_too)


@NETWORKS.shows(
    "confirmed",
    "mainnet in development wants a word; real orders on mainnet want two, everywhere",
    "bot/environment::what_has_to_be_confirmed",
    "bot/environment::without_a_terminal_only_a_flag_confirms",
)
def _confirmed() -> Iterator[Evidence]:
    for name, net, orders, words in (
        ("development", "mainnet", False, ["mainnet"]),
        ("development", "mainnet", True, ["mainnet", "orders"]),
        ("production", "mainnet", True, ["mainnet", "orders"]),
        ("development", "local", True, []),
    ):
        wanted = confirmations(_environment(name), network(net), orders=orders)
        what = f"{name} on {net}{', orders' * orders}"
        yield Evidence(what, words, [one.word for one in wanted])


@NETWORKS.shows(
    "health of a network",
    "200 where it is well, 503 with details where it is silent, 400 on another chain",
    "bot/environment::a_network_that_answers_is_fine",
    "bot/environment::a_node_that_is_silent_is_unreachable",
    "bot/environment::a_node_of_another_chain_is_a_mismatch",
)
def _health() -> Iterator[Evidence]:
    at = 1_767_225_600 * 10**9
    writer = WireWriter(at=at)
    writer.mono = 1
    fields = market_fields(BTC, price="100")
    received = {
        "http": writer.answer("/v4/perpetualMarkets", {"markets": {BTC: fields}}),
        "open": Frame(1, at, 1, "c1", "open", "wss://v/v4/ws"),
        "sent": Frame(1, at, 1, "c1", "sent", '{"type":"subscribe","channel":"v4_markets"}'),
        "v4_markets": writer.markets(fields),
        "v4_block_height": writer.block(9, "2025-12-31T23:59:59.500Z"),
    }
    net = network("testnet")
    tip = ChainTip(net.chain_id, 10, at - 200_000_000, at)
    other = ChainTip("dydx-mainnet-1", 10, at - 200_000_000, at)
    for what, seen, status in (("all is well", tip, 200), ("node of mainnet", other, 400)):
        yield Evidence(
            what, status, judge(_environment("development"), net, seen, received).http_status
        )
    silent = judge(_environment("development"), net, "expected a block, got UNAVAILABLE", received)
    yield Evidence("node silent", 503, silent.http_status)
    yield Evidence("which check failed", ["node"], [check.name for check in silent.failed])


# === Links ===


@LINKS.shows(
    "five failures",
    "a socket that fails five times in a row is replaced by polling until it lives again",
    "conn/connection::five_attempts_in_vain_are_polling_until_it_lives",
    "conn/live::where_sockets_fail_rest_is_polled_until_they_work",
    "conn/live::each_failure_waits_longer",
)
def _polling() -> Iterator[Evidence]:
    links, wire = Links(), WireWriter()
    seen: list[str] = []
    for _ in range(5):
        for frame in (wire.event("tick"), wire.event("close", "refused", type="0")):
            seen += _states(links.step(frame))
    yield Evidence("after five attempts", "polling", seen[-1])
    yield Evidence("before that", "backing_off", seen[-3])
    for frame in (wire.event("tick"), *_opened(wire)):
        seen += _states(links.step(frame))
    yield Evidence("once one works", "live", seen[-1])


@LINKS.shows(
    "silence and lost messages",
    "30 s without a message are stale; a gap is resubscribed; both are states with a reason",
    "conn/connection::a_silent_link_is_stale_and_a_word_revives_it",
    "conn/connection::a_gap_is_mended_by_a_new_subscription",
    "conn/live::a_half_open_link_is_found_by_a_ping",
    "conn/silence::two_answers_that_differ_in_a_silence_prove_it_dead",
)
def _silence() -> Iterator[Evidence]:
    links, wire = Links(), WireWriter()
    for frame in _opened(wire):
        links.step(frame)
    wire.wait(30.5)
    (stale, _) = links.step(wire.event("tick", link="clock"))
    yield Evidence(
        "half a minute of nothing", ("stale", "no message for 30 s"), (stale.state, stale.reason)
    )
    (alive, _) = links.step(wire.message("channel_data", "v4_trades", id="A-USD"))
    yield Evidence("a message", "live", alive.state)
    (gap, _) = links.step(wire.event("gap", "2 messages lost"))
    yield Evidence("lost messages", ("subscribing", "2 messages lost"), (gap.state, gap.reason))


@LINKS.shows(
    "a lost connection trades nothing",
    "books are unknown from the loss on, and known again with the next snapshot",
    "risk/risk::a_doubt_stops_new_risk_and_leaves_the_way_out_open",
    "paper/venue::an_unknown_book_fills_nothing",
    "bot/links::a_connection_that_was_lost_is_noted_with_its_reason_and_how_long_it_was_away",
)
def _lost() -> Iterator[Evidence]:
    stage = Stage()
    stage.lose()
    order = stage.order("BUY", "0.5", "50100")
    stage.place(order)
    stage.block()
    yield Evidence("an order on a lost book: fills", 0, len(stage.fills()))
    yield Evidence("the book is known", False, stage.data.views[BTC].book.mid_price is not None)
    stage.book()
    yield Evidence("after a snapshot: fills", 1, len(stage.fills()))


@LINKS.shows(
    "what is reported twice",
    "a fill, an order or a balance that comes again, late or by another way, changes nothing",
    "conn/accounts::a_close_that_is_reported_twice_counts_once",
    "conn/lifecycle::no_frames_make_a_fill_smaller_or_bring_an_order_back",
    "paper/history::a_fill_reported_twice_is_booked_once",
)
def _twice() -> Iterator[Evidence]:
    wire, who = WireWriter(), Subaccount("dydx1audit", 0)
    wire.height = 10
    frames = [wire.account(who, 100_000)]
    wire.height = 11
    row = {"id": "f1", "side": "BUY", "size": "1", "price": "50000", "ticker": BTC, "orderId": "o1"}
    frames += [wire.account_update(who, fills=[row])] * 3
    accounts = Accounts([who])
    updates = [update for frame in frames for update in accounts.step(frame)]
    taken = [len(update.fills) for update in updates]
    yield Evidence("100,000 USDC, buy 1 at 50,000, the frame three times: fills", 1, sum(taken))
    yield Evidence("USDC left", "50000 USDC", usdc(updates[-1].collateral or 0))
    yield Evidence("held", ["1"], [f"{p.size}" for update in updates for p in update.positions])


@LINKS.shows(
    "scores keep to their scale",
    "0 to 100 whatever comes, and none at all where nothing is known",
    "signals/sessions::scores_are_on_the_scale_and_name_a_frame_that_has_been",
    "signals/signals::a_crash_of_any_depth_stays_on_the_scale",
    "signals/signals::a_signal_is_absent_until_it_can_be_computed",
    "signals/sessions::no_score_knows_the_rest_of_the_session",
)
def _scores() -> Iterator[Evidence]:
    stage = Stage()
    momentum = [score.signal for score in stage.bot.scorer.scores(BTC)]
    yield Evidence("momentum in the first second", False, "momentum" in momentum)
    values: list[float] = []
    for n in range(120):
        stage.market_at(50_000 - 400 * n)
        values += [score.value for score in stage.bot.scorer.scores(BTC)]
    yield Evidence("in a fall to 2,400: scores seen", above(100), len(values))
    yield Evidence("the least and the most of them", _ON_SCALE, (min(values), max(values)))
    low = {score.signal: score.value for score in stage.bot.scorer.scores(BTC)}["momentum"]
    yield Evidence("momentum at its end", _FALLING, low)


# === Promises ===


@PROMISES.shows(
    "the same frames, the same run",
    "two runs of the same frames have the same hash; one other price, and it is another",
    "bot/run::the_hash_is_the_same_in_every_process",
    "paper/sessions_traded::the_same_frames_make_the_same_bytes_and_half_of_them_the_first_half",
)
def _same() -> Iterator[Evidence]:
    first, again, other = _played(50_000), _played(50_000), _played(50_001)
    yield Evidence("hash of the same", first[:16], again[:16])
    yield Evidence("hash of another", True, other != first)


@PROMISES.shows(
    "every fill says why",
    "from a fill to its order, its verdict, its decision and the frame of the wire",
    "bot/run::why_walks_from_anything_back_to_the_wire",
    "bot/history::an_order_is_shown_with_all_that_led_to_it",
)
def _why() -> Iterator[Evidence]:
    stage = Stage()
    stage.want(ETH, 5_000.0)
    stage.touch(ETH)
    journal = stage.bot.journal
    entry, chain = journal.find("F1"), list[str]()
    while entry is not None:
        chain.append(entry.kind)
        entry = journal.find(entry.parent) if entry.parent else None
    yield Evidence("chain", ["fill", "order", "approved", "decision"], chain)


@PROMISES.shows(
    "no secret leaves",
    "mnemonics, keys, passwords and signed transactions are taken out of whatever is printed",
    "conn/audit::a_mnemonic_goes_however_it_is_written",
    "bot/outlet::a_key_in_a_wrong_place_is_not_repeated",
    "conn/keys::keys_show_their_address_alone",
)
def _secrets() -> Iterator[Evidence]:
    words = "abandon " * 11 + "about"
    hidden = {
        "a mnemonic": (f"try {words} now", words), "a private key": (f"0x{'ab' * 32}", "abab"),
        "a password": ('{"password": "hunter2"}', "hunter2"),
        "a signed transaction": (f"tx_bytes={'QUJD' * 30}", "QUJD"),
    }  # fmt: skip
    for what, (text, secret) in hidden.items():
        yield Evidence(f"{what} is still there", False, secret in redact(text))
    public = f'"hash": "{"AB" * 32}"'
    yield Evidence("the hash of a transaction is public, and stays", True, redact(public) == public)


# === Underneath ===


def _environment(name: str) -> EnvironmentSettings:
    return EnvironmentSettings.model_validate({"environment": name})


def _states(made: list[ConnectionState]) -> list[str]:
    return [state.state for state in made if state.link]


def _opened(wire: WireWriter) -> list[Frame]:
    request = json.dumps({"type": "subscribe", "channel": "v4_trades", "id": "A-USD"})
    return [
        wire.event("tick"), wire.event("open"), wire.event("sent", request),
        wire.message("connected"), wire.message("subscribed", "v4_trades", id="A-USD"),
    ]  # fmt: skip


def _played(price: int) -> str:
    stage = Stage()
    stage.want(ETH, 5_000.0)
    stage.touch(ETH)
    stage.trade("BUY", "0.5", f"{price + 100}")
    stage.market_at(price + 50)
    return stage.bot.journal.hash
