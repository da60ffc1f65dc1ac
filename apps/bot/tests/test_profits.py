"""What a person reads of positions, profit and loss, and errors."""

import csv
import io
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from bot.__main__ import main
from bot.commands import COMMANDS
from bot.database.tables import TABLES, engine_of, upgrade, writing
from bot.history import failures, holdings, profits
from stored import ACCOUNT, NOON, ROWS, SECOND

DAY = 86_400 * SECOND
MINUTE = 60 * SECOND


def position(number: int, **fields: Any) -> dict[str, Any]:
    """Return a position that was won: 12 USDC after 1 of funding and 3 of fees."""
    return {
        **ACCOUNT, "position_id": f"{number}{number}-f00d", "run_id": 1, "ticker": "BTC-USD",
        "side": "LONG", "status": "CLOSED", "size": "0", "max_size": "0.02",
        "entry_price": "65005", "exit_price": "65705", "realized": 14_000_000, "unrealized": 0,
        "funding": 1_000_000, "fees": 3_000_000, "opened": NOON, "closed": NOON + MINUTE,
        "updated": NOON + MINUTE, **fields,
    }  # fmt: skip


MORE: dict[str, list[dict[str, Any]]] = {
    "positions": [
        position(1),
        position(2, ticker="ETH-USD", side="SHORT", realized=-20_000_000, max_size="9.5",
                 opened=NOON + 1, closed=NOON + DAY, updated=NOON + DAY),
        position(3, run_id=2, status="OPEN", size="0.1", max_size="0.1", exit_price="",
                 realized=0, unrealized=None, opened=NOON + DAY, closed=None,
                 updated=NOON + DAY + 1),
    ],
    "funding_payments": [
        {**ACCOUNT, "run_id": 1, "ticker": "BTC-USD", "at": NOON + 30 * SECOND, "size": "0.02",
         "rate": None, "quote": 1_000_000},
    ],
    "transfers": [
        {**ACCOUNT, "transfer_id": "t", "run_id": 1, "at": NOON, "type": "DEPOSIT",
         "quote": 50_000_000, "other": "x"},
    ],
    "equity_points": [
        {"run_id": run, "at": NOON + at, "equity": equity, "free": 1, "drawdown": drawdown}
        for run, at, equity, drawdown in (
            (1, 0, 1_000_000_000, 0.0), (1, MINUTE, 1_012_000_000, 0.01),
            (1, DAY, 990_000_000, 0.02), (2, DAY + SECOND, 980_000_000, 0.0),
        )
    ],
    "errors": [
        {"run_id": 1, "minute": NOON + minute * MINUTE, "class": kind, "endpoint": endpoint,
         "count": count, "sample": f"{kind} at {minute}"}
        for minute, kind, endpoint, count in (
            (0, "RateLimited", "/v4/orders", 3), (1, "RateLimited", "/v4/fills", 4),
            (61, "ServerError", "/v4/orders", 1),
        )
    ],
}  # fmt: skip

Bot = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bot(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, stored: str) -> Bot:
    """Return what types a command of this database, and returns code, output and errors."""
    monkeypatch.setattr("time.time_ns", lambda: NOON)

    def typed(*words: str) -> tuple[int, str, str]:
        code = main([words[0], "--database", stored, *words[1:]])
        out, err = capsys.readouterr()
        return code, out, err

    return typed


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a database with a few rows of each kind."""
    return written(str(tmp_path_factory.mktemp("profits") / "bot.db"), ROWS | MORE)


def written(url: str, tables: dict[str, list[dict[str, Any]]]) -> str:
    """Write rows to a new database, and return it."""
    engine = engine_of(url)
    upgrade(engine)
    with writing(engine).begin() as connection:
        for name, rows in tables.items():
            connection.execute(TABLES[name].insert(), rows)
    engine.dispose()
    return url


# === Positions ===


def test_positions_are_summed_up_and_listed(bot: Bot) -> None:
    """Won and lost by what is left after fees and funding."""
    _, out, _ = bot("positions")

    assert out.splitlines() == [
        "3 positions: 1 open, 2 closed",
        "closed       1 won, 1 lost, 0 neither",
        "realized     -6.00 USDC before fees and funding",
        "unrealized   +0.00 USDC (1 not valued yet)",
        "funding      +3.00 USDC (+ received)",
        "fees         9.00 USDC paid",
        "net          -12.00 USDC",
        "",
        "run  opened       ticker   side   size   entry    exit  net USDC  status",
        "  2  12-01 12:00  BTC-USD  long    0.1  65,005             -2.00  open",
        "  1  11-30 12:00  ETH-USD  short   9.5  65,005  65,705    -22.00  closed",
        "  1  11-30 12:00  BTC-USD  long   0.02  65,005  65,705    +12.00  closed",
        "",
        "times are UTC of 2025; all about one: bot positions 33-f00d",
    ]


def test_what_was_left_is_neither_open_nor_won(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A paper account that began again took nothing: what it held stays at what it was worth."""
    engine = engine_of(str(tmp_path / "bot.db"))
    upgrade(engine)
    left = {"status": "LEFT", "size": "0.01", "exit_price": "", "closed": None, "realized": 0}
    with writing(engine).begin() as connection:
        connection.execute(TABLES["runs"].insert(), ROWS["runs"])
        rows = [position(1), position(2, **left, unrealized=5_000_000)]
        connection.execute(TABLES["positions"].insert(), rows)
    engine.dispose()

    assert main(["positions", "--database", str(tmp_path / "bot.db")]) == 0
    head, words, closed, _, unrealized, *_ = capsys.readouterr().out.splitlines()
    assert head == "2 positions: 0 open, 1 closed, 1 left"
    assert words == "left         held on in a later row, or by a paper account that began again"
    assert closed == "closed       1 won, 0 lost, 0 neither"
    assert unrealized == "unrealized   +5.00 USDC"


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("--ticker eth-usd", "2"),
        ("--status open", "3"),
        ("--side short", "2"),
        ("--run 1", "21"),
        ("--account dydx1me --network testnet", "321"),
        ("--until 2025-11-30", "21"),
        ("--since 2025-12-01", "32"),
        ("--sort net", "132"),
        ("--sort max_size --ascending", "132"),
        ("--sort Ticker", "231"),
        ("--page 2 --limit 2", "1"),
    ],
)
def test_positions_are_chosen_and_sorted(bot: Bot, typed: str, found: str) -> None:
    """A number that is stored as text is sorted as a number."""
    _, out, _ = bot("positions", "--json", *typed.split())

    assert "".join(row["position_id"][0] for row in json.loads(out)["rows"]) == found


@pytest.mark.replays
@pytest.mark.parametrize("sort", holdings.SORTS)
def test_positions_are_sorted_by_any_column(bot: Bot, sort: str) -> None:
    """Also by one that some of them have nothing in."""
    assert bot("positions", "--sort", sort)[0] == 0


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("--sort profit", "expected a column to sort by of those there are: account, closed,"),
        ("--side up", "expected a side of those there are: LONG, SHORT; got 'up'"),
        ("--status opened", "got 'opened'; the nearest is OPEN"),
        ("--page 2", "expected a page from 1 to 1, got 2"),
        ("SOL-USD", "expected a position by its id, or a ticker of those there are: BTC-USD"),
    ],
)
def test_positions_that_cannot_be_meant_are_refused(bot: Bot, typed: str, words: str) -> None:
    """With those that can."""
    code, _, err = bot("positions", *typed.split())

    assert code == 2
    assert words in err


@pytest.mark.parametrize("typed", ["11", "11-f00d"])
def test_a_position_is_shown_with_its_fills_and_its_funding(bot: Bot, typed: str) -> None:
    """Those of its market, from its opening to its end."""
    _, out, _ = bot("positions", typed)

    assert out.splitlines() == [
        "position    long BTC-USD, closed",
        "id          11-f00d of run 1",
        "size        0, 0.02 at most",
        "price       entered at 65,005, left at 65,705",
        "time        opened 2025-11-30 12:00:00, closed 2025-11-30 12:01:00 UTC",
        "realized    +14.00 USDC",
        "unrealized  +0.00 USDC",
        "funding     +1.00 USDC",
        "fees        3.00 USDC",
        "net         +12.00 USDC",
        "",
        "fill  at                   side   size  price   fee",
        "F1    2025-11-30 12:00:01  buy   0.005  64990  0.16",
        "F2    2025-11-30 12:00:01  buy   0.015  65010  0.16",
        "",
        "funding              size  rate   USDC",
        "2025-11-30 12:00:30  0.02     ?  +1.00",
    ]


def test_the_fill_that_closed_a_position_is_among_its_fills(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its message comes after the block that closed it; one of the position before is not."""
    path = str(tmp_path / "bot.db")
    engine = engine_of(path)
    upgrade(engine)
    orders = (
        ("SELL", 0.5, "0.3"), ("BUY", 1, "0.02"), ("SELL", 59, "0.01"),
        ("SELL", 60.5, "0.01"), ("BUY", 61, "0.02"),
    )  # fmt: skip
    made = [
        {**ROWS["fills"][0], "fill_id": f"f{n}", "id": f"F{n}", "side": side, "size": size,
         "at": NOON + int(after * SECOND)}
        for n, (side, after, size) in enumerate(orders, 1)
    ]  # fmt: skip
    with writing(engine).begin() as connection:
        connection.execute(TABLES["runs"].insert(), ROWS["runs"])
        connection.execute(TABLES["positions"].insert(), [position(1)])
        connection.execute(TABLES["fills"].insert(), made)
    engine.dispose()

    main(["positions", "11", "--csv", "--database", path])

    rows = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert [row["id"] for row in rows] == ["F2", "F3", "F4"]


def test_what_a_run_left_to_a_later_one_is_neither_open_nor_closed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is won or lost where it ends; its row is not counted twice."""
    path = str(tmp_path / "bot.db")
    engine = engine_of(path)
    upgrade(engine)
    left = position(1, status="LEFT", closed=None, realized=0)
    later = position(2, status="OPEN", closed=None, realized=0, run_id=2)
    with writing(engine).begin() as connection:
        connection.execute(TABLES["runs"].insert(), ROWS["runs"])
        connection.execute(TABLES["positions"].insert(), [left, later])
    engine.dispose()

    main(["positions", "--database", path])
    out = capsys.readouterr().out

    assert out.startswith("2 positions: 1 open, 0 closed, 1 left\nleft  ")


def test_a_position_without_funding_has_no_table_of_it(bot: Bot) -> None:
    """A head above nothing would be one more thing to wonder about."""
    _, out, _ = bot("positions", "33")

    assert "rate" not in out


def test_one_position_is_counted_as_one(bot: Bot) -> None:
    """Words agree with their number."""
    _, out, _ = bot("positions", "--side", "short")

    assert out.startswith("1 position: 0 open, 1 closed\n")


def test_a_program_gets_a_position_whole(bot: Bot) -> None:
    """Of a ticker the newest; what is not known is null."""
    _, out, _ = bot("positions", "btc-usd", "--json")
    body = json.loads(out)
    assert body["position"]["unrealized_usdc"] is None
    _, out, _ = bot("positions", "11", "--csv")
    assert [row["id"] for row in csv.DictReader(io.StringIO(out))] == ["F1", "F2"]


# === Profit and loss ===


def test_what_is_next_to_nothing_has_no_sign_of_its_own() -> None:
    """Minus nothing is read as something that was paid."""
    assert profits._cents(-4_000) == "+0.00"


def test_a_sum_of_several_accounts_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Paper and real money would else stand as one."""
    path = str(tmp_path / "bot.db")
    engine = engine_of(path)
    upgrade(engine)
    first, second = ROWS["runs"][:2]
    points = [{**point, "run_id": run} for point in MORE["equity_points"][:1] for run in (1, 2)]
    with writing(engine).begin() as connection:
        connection.execute(TABLES["runs"].insert(), [first, {**second, "account": "dydx1paper/0"}])
        connection.execute(TABLES["equity_points"].insert(), points)
    engine.dispose()

    main(["pnl", "--database", path])
    both = capsys.readouterr().out
    main(["pnl", "--database", path, "--account", "dydx1paper"])
    one = capsys.readouterr().out

    assert "accounts     2 in one sum (--account, --network: one of them)" in both
    assert "in one sum" not in one


def test_profit_is_summed_by_day(bot: Bot) -> None:
    """A position counts when it closed, fees and funding when they were paid."""
    _, out, _ = bot("pnl")

    assert out.splitlines() == [
        "profit and loss by day, in USDC; days are UTC",
        "",
        "day         realized  unreal.  funding  fees     net    equity  drawdn",
        "2025-11-30    +14.00    +0.00    +1.00  0.32  +14.68  1,012.00    1.0%",
        "2025-12-01    -20.00    +0.00    +0.00  0.00  -20.00    980.00    2.0%",
        "total          -6.00    +0.00    +1.00  0.32   -5.32    980.00    2.0%",
        "",
        "equity       1,000.00 at first, 980.00 at last",
        "transfers    +50.00 paid in or out",
        "realized     counts when a position closed, unrealized where it stands",
        "unrealized   is not known of 1 open position",
    ]


@pytest.mark.parametrize(
    ("typed", "groups"),
    [
        ("--by run", {1: "-5.325000", 2: "0.000000"}),
        ("--by market", {"BTC-USD": "14.675000", "ETH-USD": "-20.000000"}),
        ("--by strategy", {"not stored": "-5.325000"}),
        ("--by market --ticker eth-usd", {"ETH-USD": "-20.000000"}),
        ("--by market --ticker eth-usd,BTC-USD", {"BTC-USD": "14.675000", "ETH-USD": "-20.000000"}),
        ("--until 2025-11-30", {"2025-11-30": "14.675000"}),
        ("--since 2025-12-01", {"2025-12-01": "-20.000000"}),
        ("--by run --run 2 --account dydx1me --network testnet", {2: "0.000000"}),
    ],
)
def test_profit_is_summed_by_what_is_chosen(bot: Bot, typed: str, groups: dict[Any, str]) -> None:
    """Exact, as text, and the groups add up to the total."""
    _, out, _ = bot("pnl", "--json", *typed.split())
    body = json.loads(out)

    assert {row["group"]: row["net_usdc"] for row in body["rows"]} == groups
    assert sum(map(Decimal, groups.values()), Decimal(0)) == Decimal(body["total"]["net_usdc"])


def test_equity_of_a_market_is_not_known(bot: Bot) -> None:
    """It is null for a program, and in words for a person."""
    _, out, _ = bot("pnl", "--by", "market", "--ticker", "BTC-USD")
    assert "equity       not known: an account's is stored, not a market's" in out
    _, out, _ = bot("pnl", "--by", "market", "--json")
    assert {row["equity_end_usdc"] for row in json.loads(out)["rows"]} == {None}


# === Errors ===


def test_errors_are_counted_by_class(bot: Bot) -> None:
    """The most frequent first, with the newest text of each."""
    _, out, _ = bot("errors")

    assert out.splitlines() == [
        "8 errors by class; times are UTC, to the minute",
        "",
        "count  class        endpoint     first        last",
        "    7  RateLimited  2 endpoints  11-30 12:00  11-30 12:01",
        "    1  ServerError  /v4/orders   11-30 13:01  11-30 13:01",
        "",
        "RateLimited: RateLimited at 1",
        "ServerError: ServerError at 61",
        "bot errors --by endpoint has each of the endpoints",
    ]


@pytest.mark.parametrize(
    ("typed", "counts"),
    [
        ("--by endpoint", [4, 3, 1]),
        ("--by minute", [1, 4, 3]),
        ("--by hour", [1, 7]),
        ("--by day", [7, 1]),
        ("--by run --run 1 --account dydx1me --network testnet", [7, 1]),
        ("--class ratelimited", [7]),
        ("--by endpoint --endpoint /v4/orders", [3, 1]),
        ("--since 2025-11-30T12:01:30", [4, 1]),
        ("--until 2025-11-30T12:01", [3]),
        ("--limit 1", [7]),
    ],
)
def test_errors_are_counted_by_what_is_chosen(bot: Bot, typed: str, counts: list[int]) -> None:
    """Times stand newest first."""
    _, out, _ = bot("errors", "--json", *typed.split())

    assert [row["count"] for row in json.loads(out)["rows"]] == counts


@pytest.mark.parametrize("by", failures.GROUPS)
def test_errors_fit_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str], by: str) -> None:
    """Whatever they are grouped by, and whatever a server had to answer."""
    row = {
        **MORE["errors"][0], "endpoint": "/v4/" + "orders/" * 20, "sample": '{"a":"b"} ' * 40,
    }  # fmt: skip
    stored = written(str(tmp_path / "bot.db"), {"runs": ROWS["runs"], "errors": [row]})

    assert main(["errors", "--by", by, "--database", stored]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


# === All of them ===


def test_a_server_has_the_same_answers(bot: Bot, postgresql: Callable[[], str]) -> None:
    """Whatever is summed, grouped or sorted, and by whatever."""
    server = written(postgresql(), ROWS | MORE)
    typed = [
        *(["pnl", "--by", by] for by in profits.GROUPS),
        *(["errors", "--by", by] for by in failures.GROUPS),
        *(["positions", "--sort", by] for by in ("opened", "net", "entry_price")),
        ["pnl", "--ticker", "BTC-USD,ETH-USD"], ["history", "--ticker", "BTC-USD"],
        ["history", "O1", "--run", "1"], ["positions", "11-f00d"],
    ]  # fmt: skip

    for words in typed:
        here, there = (bot(*words, "--json", *where)[1] for where in ([], ["--database", server]))
        assert json.loads(here) == json.loads(there)


READING = ("history", "positions", "pnl", "errors")
FIELDS = {"positions": holdings.FIELDS, "pnl": profits.FIELDS, "errors": failures.FIELDS}


@pytest.mark.parametrize("command", FIELDS)
def test_csv_has_the_fields_of_json(bot: Bot, command: str) -> None:
    """In an order that does not change."""
    _, as_csv, _ = bot(command, "--csv")
    _, as_json, _ = bot(command, "--json")
    body = json.loads(as_json)

    assert body["schema"] == f"bot.{command}/1"
    assert {tuple(row) for row in body["rows"]} == {FIELDS[command]}
    assert tuple(next(csv.reader(io.StringIO(as_csv)))) == FIELDS[command]


@pytest.mark.parametrize("command", READING)
def test_where_no_bot_has_run_each_command_says_how_to_begin(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A program gets the shape that it gets of a database without rows, and the same zeros."""
    engine = engine_of(str(tmp_path / "empty.db"))
    upgrade(engine)
    engine.dispose()
    typed = [command, "--since", "2030-01-01", "--json"]

    assert main([command]) == 0
    assert "bot paper --network testnet" in capsys.readouterr().out
    assert main(typed) == 0
    without = json.loads(capsys.readouterr().out)
    assert main([*typed, "--database", str(tmp_path / "empty.db")]) == 0
    assert json.loads(capsys.readouterr().out) == without
    assert without["rows"] == []


@pytest.mark.parametrize("command", READING)
def test_rows_are_printed_in_one_form(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Of two the one is not dropped, and a directory is no disk that fails."""
    with pytest.raises(SystemExit):
        main([command, "--csv", "--json"])
    assert "--json: expected no --csv beside it, got both" in capsys.readouterr().err
    assert main([command, "--database", str(tmp_path)]) == 2
    expected = f"bot: expected a database in {tmp_path}, got a directory\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize("command", ["history", "positions", "pnl"])
def test_where_no_run_has_done_anything_that_is_what_it_says(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Nobody is sent to make the first run, which there is."""
    engine = engine_of(str(tmp_path / "bot.db"))
    upgrade(engine)
    with writing(engine).begin() as connection:
        connection.execute(TABLES["runs"].insert(), ROWS["runs"])
    engine.dispose()

    assert main([command, "--database", str(tmp_path / "bot.db")]) == 0
    assert "runs so far: 2, and none of them has any" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["positions", "pnl", "errors"])
def test_where_nothing_is_left_by_the_filters_that_is_no_error(bot: Bot, command: str) -> None:
    """The filters are named, so that nobody believes that nothing was lost."""
    code, out, _ = bot(command, "--since", "2030-01-01")

    assert code == 0
    assert "from 2030-01-01 00:00:00 UTC" in out


def test_each_of_them_has_an_example() -> None:
    """And says that it reads."""
    assert all(COMMANDS[name].examples for name in (*READING, "backup", "restore"))


@pytest.mark.parametrize(("by", "each"), [("day", [0.15]), ("run", [0.0, 0.05])])
def test_an_account_falls_through_all_of_its_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], by: str, each: list[float]
) -> None:
    """A run that goes on with it begins below the peak; another account has its own."""
    engine, equities = engine_of(str(tmp_path / "bot.db")), ((1, 100), (1, 110), (2, 99), (2, 93.5))
    upgrade(engine)
    run = {"state": "ended", "mode": "paper", "chain_id": "c", "account": "a/0", "ledger": 1}
    with writing(engine).begin() as connection:
        for number in (1, 2):
            connection.execute(
                TABLES["runs"].insert(), [{**run, "id": number, "began": number, "process": "p"}]
            )
        for at, (number, equity) in enumerate(equities):
            drawdown = 0.05 if equity == 93.5 else 0.0
            row = {"run_id": number, "at": NOON + at, "drawdown": drawdown}
            connection.execute(
                TABLES["equity_points"].insert(), [{**row, "equity": int(equity * 10**6)}]
            )
    engine.dispose()

    assert main(["pnl", "--by", by, "--json", "--database", str(tmp_path / "bot.db")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["drawdown"] for row in found["rows"]] == each
    assert found["total"]["drawdown"] == 0.15
