"""A run as rows of the database: what happens in it, to the quantum, and the same run hash."""

import json
from collections import Counter
from decimal import Decimal
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from bot.__main__ import main
from bot.database.error_rows import Errors
from bot.database.position_rows import PaperHoldings, WireHoldings
from bot.database.rows import Database, config_of, config_row, order_row, run_row, transfer_row
from bot.database.tables import TABLES, engine_of
from bot.run.acts import default_database
from bot.run.composition import Bot, Options
from bot.run.faults import error_of
from bot.run.journal import JournalEntry
from bot.run.wire import WireVenue
from dydx_conn import (
    Accounts,
    AccountUpdate,
    Frame,
    FundingPaymentFields,
    Inbox,
    OrderRequest,
    OrderState,
    PartyFields,
    PositionState,
    Recording,
    RecordingWriter,
    Subaccount,
    TransferFields,
    find_recording,
    replay,
)
from dydx_paper import FundingRecord, PaperVenue, Stamp
from dydx_risk import PositionFigures
from msgspec.structs import replace as with_fields
from reactivex import from_iterable
from reactivex import operators as ops
from sessions import REAL, Session

MINUTE = 60_000_000_000
US = Subaccount("dydx1rows", 0)


def rows(path: Path, table: str) -> list[dict[str, Any]]:
    """Return all rows of a table."""
    engine = engine_of(str(path))
    try:
        with engine.connect() as connection:
            found = connection.execute(sqlalchemy.select(TABLES[table]))
            return [dict(row) for row in found.mappings()]
    finally:
        engine.dispose()


def written(bot: Bot, path: Path, frames: list[Frame]) -> Bot:
    """Play frames for a bot, and write the run down."""
    run = run_row(
        bot, mode="paper", network="local", chain_id="c", name="x", config=config_of(bot),
        recording="",
    )  # fmt: skip
    beside = Database(bot, str(path), run)
    beside.begin(Inbox())
    bot.run(from_iterable(frames).pipe(ops.do_action(beside.note)))
    beside.end()
    assert beside.trouble == ""
    return bot


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory, frames: list[Frame]
) -> tuple[Bot, dict[str, list[dict[str, Any]]]]:
    """Return a reckless run of the bundled recording, and all that was written of it."""
    path = tmp_path_factory.mktemp("rows") / "bot.db"
    bot = written(Bot(Options.of("reckless")), path, frames)
    return bot, {table: rows(path, table) for table in TABLES}


Run = tuple[Bot, dict[str, list[dict[str, Any]]]]


@pytest.mark.replays
def test_what_the_journal_counts_is_in_the_database(run: Run) -> None:
    """Each decision, verdict, order and fill, by its id."""
    bot, found = run
    kinds = ("decision", "approved", "denied", "reduce", "bracket", "withdraw", "fill")

    ids = {
        table: {row["id"] for row in found[table]} for table in ("decisions", "verdicts", "fills")
    }
    assert ids["decisions"] == {entry.id for entry in bot.journal.of_kind("decision")}
    assert ids["verdicts"] == {entry.id for entry in bot.journal.of_kind(*kinds[1:-1])}
    assert ids["fills"] == {entry.id for entry in bot.journal.of_kind("fill")}
    stood: dict[str, tuple[str, ...]] = {}
    changes = 0
    for state in (entry.value for entry in bot.journal.of_kind("order")):
        stands = state.status, str(state.filled), state.reason
        changes += stood.get(state.id) != stands
        stood[state.id] = stands
    assert len(found["order_changes"]) == changes


@pytest.mark.replays
def test_an_order_is_as_it_was_seen_last(run: Run) -> None:
    """With the verdict that it is of, and what was filled."""
    bot, found = run
    last = {entry.id: entry for entry in bot.journal.of_kind("order")}

    stored = {row["id"]: row for row in found["orders"]}
    assert stored.keys() == last.keys()
    for id_, entry in last.items():
        row = stored[id_]
        expected = (entry.value.id, entry.value.status, entry.parent, entry.words)
        assert (row["order_id"], row["status"], row["verdict_id"], row["words"]) == expected
        assert Decimal(row["filled"]) == entry.value.filled


@pytest.mark.replays
def test_positions_are_the_ledgers_own_to_the_quantum(run: Run) -> None:
    """What is held and what has ended: profit, fees and funding add up to the account's."""
    bot, found = run
    ledger = bot.shown._ledger
    assert ledger is not None
    records = {each.id: each for each in ledger.positions(limit=1_000).rows}

    stored = {row["position_id"]: row for row in found["positions"]}
    assert stored.keys() == records.keys()
    sums = Counter[str]()
    for row in stored.values():
        record = records[row["position_id"]]
        assert row["realized"] + row["funding"] == record.realized
        assert row["status"] == record.status
        sums += Counter({name: row[name] for name in ("realized", "funding", "fees")})
    assert sums["fees"] == ledger.paid.fees
    assert ledger.realized_pnl == sum(
        row["realized"] + row["funding"] for row in stored.values()
    )  # integers


@pytest.mark.replays
def test_the_run_ends_with_its_hash_and_its_configuration(run: Run) -> None:
    """And its account is its own: it is on paper."""
    bot, found = run
    (row,) = found["runs"]

    assert row["run_hash"] == bot.journal.hash
    assert (row["state"], row["ledger"], row["mode"]) == ("ended", row["id"], "paper")
    assert row["config"]["policy"]["max_leverage"] == bot.options.policy.max_leverage
    assert row["deposit"] == 10_000_000_000
    assert found["configs"][0]["changes"] == row["config"]


@pytest.mark.replays
def test_equity_is_a_point_a_second_at_most_and_ends_with_the_accounts_own(run: Run) -> None:
    """The deepest fall is in it, as the report has it."""
    bot, found = run
    points = sorted(found["equity_points"], key=lambda row: row["at"])

    apart = [late["at"] - early["at"] for early, late in pairwise(points)]
    assert min(apart[:-1]) >= 10**9
    assert points[-1]["equity"] == bot.venue.figures().equity
    deepest = max(point["drawdown"] for point in points)
    assert 0.3 < deepest == pytest.approx(bot.risk.falls.share, rel=0.02)


@pytest.mark.replays
def test_changes_of_the_gate_and_of_connections_are_states(run: Run) -> None:
    """Each with what it was before."""
    bot, found = run
    by_kind = Counter(row["what"] for row in found["states"])

    assert by_kind["gate"] == bot.journal.counts["gate"]
    assert by_kind["connection"] > 0


@pytest.fixture
def short(tmp_path: Path) -> Path:
    """Return the first frames of the bundled recording as a recording of their own."""
    source = Recording(find_recording("quickstart"))
    path = tmp_path / "short.jsonl.zst"
    writer = RecordingWriter(path, source.header)
    for frame in islice(source, 600):
        writer.write_frame(frame)
    writer.close()
    return path


def hash_of(capsys: pytest.CaptureFixture[str], *typed: str) -> str:
    """Run a command; return the hash that it prints."""
    assert main([*typed, "--json"]) == 0
    hash_: str = json.loads(capsys.readouterr().out)["run_hash"]
    return hash_


def test_a_replay_is_written_down_where_that_is_wanted(
    short: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else nothing is; its hash is the same both ways."""
    plain = hash_of(capsys, "replay", str(short))
    assert not default_database().exists()
    journaled = hash_of(capsys, "replay", str(short), "--journal")

    (row,) = rows(default_database(), "runs")
    assert (row["run_hash"], row["mode"]) == (journaled, "replay")
    assert journaled == plain


@pytest.fixture
def live_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand the bundled frames in for the network."""

    def frames(_net: object, _tickers: object, *, inbox: Inbox, **_: object) -> object:
        recorded = islice(Recording(find_recording("quickstart")), 500)
        put = iter(lambda: inbox.take(0, 0.0), None)
        numbered = enumerate(chain(put, recorded), 1)
        return from_iterable(with_fields(frame, seq=seq) for seq, frame in numbered)

    monkeypatch.setattr("bot.live.commands.live", frames)


@pytest.mark.replays
@pytest.mark.usefixtures("live_frames")
def test_a_paper_run_is_written_down_unless_somebody_wants_none(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """In the user's data directory, or where --database says."""
    paper = ("paper", "--network", "local")
    without = hash_of(capsys, *paper, "--database", "none")
    assert not default_database().exists()
    elsewhere = hash_of(capsys, *paper, "--database", str(tmp_path / "x.db"))
    default = hash_of(capsys, *paper)

    stored = [rows(path, "runs")[0] for path in (tmp_path / "x.db", default_database())]
    assert [row["run_hash"] for row in stored] == [elsewhere, default]
    assert [row["name"] for row in stored] == ["BTC-USD,ETH-USD,SOL-USD"] * 2
    assert without


@pytest.mark.replays
@pytest.mark.usefixtures("live_frames")
def test_a_run_goes_on_beside_a_database_that_is_none(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It is reported, the exit code is a 1, and the next run has what it could not write."""
    path = tmp_path / "x.db"
    path.write_text("my notes " * 99)
    paper = ["paper", "--network", "local", "--json", "--database", str(path), "--fresh"]

    assert main(paper) == 1
    printed = capsys.readouterr()
    path.unlink()
    assert main(paper) == 0

    hash_ = json.loads(printed.out)["run_hash"]
    assert f"bot: warning: expected a database in {path}, got a file that is no" in printed.err
    states = {row["run_hash"]: row["state"] for row in rows(path, "runs")}
    assert states[hash_] == "ended"


@pytest.mark.parametrize("command", [["replay", "--journal"], ["paper", "--network", "local"]])
def test_what_names_no_database_is_a_two(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything runs, and without a password."""
    monkeypatch.setattr("bot.live.commands.check_chain", lambda _: None)

    assert main([*command, "--database", "mysql://me:hunter2@host/x"]) == 2
    printed = capsys.readouterr().err
    assert "@HOST/NAME, got mysql" in printed
    assert "hunter2" not in printed


# === Errors ===


def http(status: str, path: str, text: str = "{}", link: str = "rest") -> Frame:
    """Return an answer."""
    return Frame(1, MINUTE, 0, link, "http", text, status, path)


BROADCAST = '{"to":"place","ids":["o"],"result":{"code":2003,"codespace":"clob","log":"why"}}'


@pytest.mark.parametrize(
    ("frame", "kind", "endpoint"),
    [
        (http("400", "/v4/orders?x=1"), "BadRequest", "/v4/orders"),
        (http("403", "/v4/time"), "Forbidden", "/v4/time"),
        (http("404", "/v4/candles/perpetualMarkets/BTC-USD"), "NotFound", "/v4/candles/perpetualMarkets/{ticker}"),
        (http("429", f"/v4/addresses/dydx1{'a' * 38}/subaccountNumber/0"), "RateLimited", "/v4/addresses/{address}/subaccountNumber/{number}"),
        (http("502", "/v4/height"), "ServerError", "/v4/height"),
        (http("302", "/v4/height"), "BadAnswer", "/v4/height"),
        (http("2003", "broadcast", BROADCAST, "node"), "clob 2003", "node broadcast"),
        (http("-1", "broadcast", '{"to":"place","ids":["o"]}', "node"), "Unreachable", "node broadcast"),
        (http("-1", "broadcast", "nonsense", "node"), "Unreachable", "node broadcast"),
        (Frame(1, 1, 0, "c1", "close", "reset", "1006"), "Disconnected", "c1"),
        (Frame(1, 1, 0, "c1", "gap", "lost", "", "v4_trades"), "Gap", "v4_trades"),
        (Frame(1, 1, 0, "c1", "ws", "x", "error", "v4_trades"), "Refused", "v4_trades"),
        (Frame(1, 1, 0, "c1", "ws", "x", "channel_data", "v4_trades", fault="no JSON"), "WireError", "v4_trades"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_named_by_what_to_do(frame: Frame, kind: str, endpoint: str) -> None:
    """And by where: names of many are one endpoint."""
    assert (error_of(frame) or ())[:2] == (kind, endpoint)


@pytest.mark.parametrize(
    "frame",
    [
        http("200", "/v4/height"),
        http("0", "broadcast", link="node"),
        Frame(1, 1, 0, "c1", "close", "", "1000"),
        Frame(1, 1, 0, "c1", "open", "wss://x"),
        Frame(1, 1, 0, "c1", "ws", "{}", "channel_data", "v4_trades"),
    ],
)
def test_what_is_well_is_no_error(frame: Frame) -> None:
    """Nor is a connection that somebody ends in order."""
    assert error_of(frame) is None


def test_errors_are_counted_by_the_minute() -> None:
    """A row has the count of its whole minute, and is written again when that grows."""
    errors, wrong = Errors(), http("502", "/v4/height")
    errors.note(wrong)
    errors.note(wrong)
    first = [*errors.rows(MINUTE)]
    errors.note(wrong)
    errors.note(with_fields(wrong, at=2 * MINUTE))
    second = [*errors.rows(2 * MINUTE)]

    counts = [(row["minute"] // MINUTE, row["count"]) for row in (*first, *second)]
    assert counts == [(1, 2), (1, 3), (2, 1)]
    assert [*errors.rows(2 * MINUTE)] == []


def test_endless_kinds_of_errors_are_counted_together() -> None:
    """A venue that answers each path otherwise fills no memory."""
    errors = Errors()
    for number in range(600):
        errors.note(http("502", f"/v4/{number}x"))

    found = [*errors.rows(MINUTE)]
    assert len(found) == 501
    assert found[-1]["endpoint"] == "others"
    assert sum(row["count"] for row in found) == 600


def test_a_sample_of_an_error_holds_no_secret() -> None:
    """Whatever a server puts into it."""
    errors = Errors()
    errors.note(http("500", "/v4/height", f"mnemonic={'abandon ' * 12}\n{'0' * 64}\x1b[2J"))

    (row,) = errors.rows(MINUTE)
    assert "abandon abandon" not in row["sample"]
    assert row["sample"].isprintable()


# === Positions of a real account ===


def holdings(figures: list[PositionFigures] | None = None) -> WireHoldings:
    """Return an account that is looked after."""
    return WireHoldings(str(US), lambda: figures or [])


@pytest.mark.parametrize("session", REAL, ids=str)
def test_positions_of_real_sessions_add_up_to_what_was_earned(session: Session) -> None:
    """Whatever order their fills are reported in; what is open is what the chain has."""
    for account in session.truth["state"]:
        owner, _, number = account.partition("/")
        accounts, held = Accounts([Subaccount(owner, int(number))]), holdings()
        stored: dict[str, dict[str, Any]] = {}
        profit = None
        for frame in session.frames:
            for update in accounts.step(frame):
                profit = update.profit
                found = [row for table, row in held.take(update) if table == "positions"]
                stored |= {row["position_id"]: row for row in found}
        assert profit is not None
        realized, fees = (
            sum(row[name] for row in stored.values()) for name in ("realized", "fees")
        )
        assert abs(realized - profit.realized) <= len(stored)
        assert fees == profit.fees + profit.insurance
        open_ = {row["ticker"] for row in stored.values() if row["status"] == "OPEN"}
        assert open_ == {row["ticker"] for row in session.truth["state"][account]["positions"]}


def update(**fields: Any) -> AccountUpdate:
    """Return an update of the account."""
    return AccountUpdate(**{"seq": 1, "at": 10, "subaccount": US, "height": 1, **fields})


def test_what_was_held_before_a_run_begins_with_it() -> None:
    """What an earlier run left open is no more a row of its own."""
    held, position = (
        holdings(),
        PositionState(ticker="A-USD", size=Decimal(-2), entry_price=Decimal(5)),
    )
    (left, _), (_, row) = held.take(update(collateral=1, positions=(position,)))

    assert left == "positions_left"
    assert (row["side"], row["size"], row["entry_price"], row["opened"]) == ("SHORT", "-2", "5", 10)


def test_funding_is_a_payment_and_part_of_its_position() -> None:
    """In quote quantums: what was received is positive."""
    held, position = (
        holdings(),
        PositionState(ticker="A-USD", size=Decimal(2), entry_price=Decimal(5)),
    )
    paid = FundingPaymentFields(
        created_at="1970-01-01T01:00:00Z", ticker="A-USD", oracle_price="5", size="2", side="LONG",
        rate="0.001", payment="-0.01",
    )  # fmt: skip
    assert [*held.take(update(collateral=1, positions=(position,)))]
    payment, row = held.take(update(funding=(paid,)))

    assert payment == (
        "funding_payments",
        {"ticker": "A-USD", "at": 60 * MINUTE, "size": "2", "rate": "0.001", "quote": -10_000},
    )
    assert row[1]["funding"] == -10_000


def test_funding_of_a_paper_account_is_written_without_an_update() -> None:
    """None comes with it; each payment is a row once, and the last of a run is one too."""
    venue = PaperVenue(US, 1)
    found, seen = PaperHoldings(venue), []
    for paid in (1, 2, 0):
        if paid:
            venue.ledger.history.keep(FundingRecord(
                position_id="p", ticker="BTC-USD", quantums=-7, index=paid, credited=paid,
                created=Stamp(time_ns=paid * 60 * MINUTE),
            ))  # fmt: skip
        seen.append([(row["at"], row["quote"]) for _, row in found.look(paid * 60 * MINUTE)])

    assert seen == [[(60 * MINUTE, 1)], [(120 * MINUTE, 2)], []]


def test_what_is_open_is_valued_when_it_is_looked_at() -> None:
    """By risk's own figures; nothing is there to be valued where nothing is held."""
    figures = PositionFigures(ticker="A-USD", size=Decimal(2), unrealized_pnl=Decimal("1.5"))
    held, position = (
        holdings([figures]),
        PositionState(ticker="A-USD", size=Decimal(2), entry_price=Decimal(5)),
    )
    assert [*held.look(1)] == []
    assert [*held.take(update(collateral=1, positions=(position,)))]

    ((_, row),) = held.look(20)
    assert (row["unrealized"], row["updated"]) == (1_500_000, 20)


# === Rows of other kinds ===


def test_an_order_of_which_nothing_is_reported_is_as_it_was_sent() -> None:
    """Its price is not known without its market's grid."""
    sent = OrderRequest(
        ticker="A-USD", clob_pair_id=1, side="SELL", quantums=5, subticks=7, client_id=3,
        time_in_force="IOC", condition_type="STOP_LOSS",
    )  # fmt: skip
    state = OrderState(id="o", status="PENDING", order=sent, size=Decimal("0.50"), seq=1)
    entry = JournalEntry(
        id="O1", kind="order", seq=1, at=2, ticker="A-USD", words="w", value=state, parent="V1"
    )
    row = order_row(entry, None)

    found = [row[name] for name in ("side", "type", "size", "price", "client_id", "verdict_id")]
    assert found == ["SELL", "STOP_LOSS", "0.5", "", "", "V1"]


@pytest.mark.parametrize(
    ("type_", "quote", "other"),
    [
        ("TRANSFER_IN", 1_500_000, "b/1"),
        ("WITHDRAWAL", -1_500_000, "a"),
        ("DEPOSIT", 1_500_000, "b/1"),
    ],
)
def test_a_transfer_is_what_came_or_went_and_its_other_end(
    type_: str, quote: int, other: str
) -> None:
    """By its id, or by all else that is known of it."""
    moved = TransferFields(
        sender=PartyFields(address="b", subaccount_number=1), recipient=PartyFields(address="a"),
        size="1.5", symbol="USDC", type=type_,
    )  # fmt: skip
    row = transfer_row(moved, 7)

    assert (row["quote"], row["other"], row["at"]) == (quote, other, 7)
    assert row["transfer_id"] == transfer_row(moved, 8)["transfer_id"]


@pytest.mark.parametrize(
    ("type_", "text", "accepted", "changes", "words"),
    [
        ("reload", '{"policy.max_leverage": 2}', True, {"policy.max_leverage": 2}, ""),
        ("refuse", "expected a number, got x", False, None, "expected a number, got x"),
    ],
)
def test_a_change_of_the_configuration_is_written_down(
    type_: str, text: str, accepted: bool, changes: object, words: str
) -> None:
    """Accepted or refused."""
    act = Frame(1, 2, 3, "file", "act", text, type_)
    entry = JournalEntry(id="A1", kind="act", seq=1, at=2, ticker="", words="w", value=act)
    row = config_row(entry)

    assert row == {"at": 2, "who": "file", "accepted": accepted, "changes": changes, "words": words}


def test_a_trouble_around_a_run_is_a_state(tmp_path: Path) -> None:
    """Once, however long it lasts."""
    bot = Bot(Options(strategy="none"), WireVenue(US))
    bot.shown.troubles["recorder"] = "expected room, got none"
    frames = [Frame(1, second * 10**9, 0, "clock", "tick") for second in range(1, 4)]
    written(bot, tmp_path / "bot.db", frames)

    found = [row for row in rows(tmp_path / "bot.db", "states") if row["what"] == "trouble"]
    assert [(row["state"], row["words"]) for row in found] == [
        ("recorder", "expected room, got none")
    ]


def test_a_clock_that_is_set_back_stops_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour back, and what goes wrong from then on is written by the second all the same."""
    hour, made = 3_600 * 10**9, list[str]()
    database = Database(Bot(Options(strategy="none"), WireVenue(US)), "x", {})
    monkeypatch.setattr(database.writer, "put", lambda table, _: made.append(table))
    for second in range(1, 6):
        at = 2 * hour - second // 3 * hour
        database.note(with_fields(http("502", "/v4/height"), mono=second * 10**9, at=at))

    assert 5 == made.count("errors")


def test_the_most_of_a_short_position_is_what_was_held_at_most() -> None:
    """Filled in two parts, it is their sum: the venue's own number is that of the first."""
    bot = Bot(Options.of("reckless"))
    found, most = PaperHoldings(bot.venue), dict[str, Decimal]()  # type: ignore[arg-type]

    def take(event: object) -> None:
        if isinstance(event, AccountUpdate):
            for table, row in found.take(event):
                if table == "positions" and row["side"] == "SHORT":
                    most[row["position_id"]] = Decimal(row["max_size"])

    bot.journal.listeners.append(take)
    bot.run(replay("quickstart").pipe(ops.take(2_000)))

    assert sorted(most.values()) == [Decimal("-53.1"), Decimal("-0.1404")]
