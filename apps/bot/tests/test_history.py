"""What a person reads from the database: orders, and what is refused."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bot.__main__ import main
from bot.config.place import is_configured
from bot.database.tables import TABLES, engine_of, upgrade, writing
from bot.history import orders as history
from bot.history import when
from bot.history.listing import WIDTH, Column, table
from bot.history.reading import reading
from stored import NOON, ROWS, SECOND, order_row

Bot = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bot(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Bot:
    """Return what types a command, at noon of a day, and returns code, output and errors."""
    monkeypatch.setattr("time.time_ns", lambda: NOON)

    def typed(*words: str) -> tuple[int, str, str]:
        code = main(words)
        out, err = capsys.readouterr()
        return code, out, err

    return typed


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a database with a few rows of each kind."""
    path = tmp_path_factory.mktemp("history") / "bot.db"
    engine = engine_of(str(path))
    upgrade(engine)
    with writing(engine).begin() as connection:
        for name, rows in ROWS.items():
            connection.execute(TABLES[name].insert(), rows)
    engine.dispose()
    return str(path)


# === Pages ===


def test_orders_stand_newest_first_with_how_many_there_are(bot: Bot, stored: str) -> None:
    """A line says so, and in which time."""
    _, out, _ = bot("history", "--database", stored)

    assert out.splitlines() == [
        "orders 1 to 3 of 3, newest first; times are UTC of 2025",
        "",
        "run  id  created         ticker   side  size  price  filled  status",
        "  2  O1  11-30 12:03:00  BTC-USD  BUY   0.02  65000     25%  partially filled",
        "  1  O2  11-30 12:02:00  ETH-USD  BUY   0.02  65000          cancelled",
        "  1  O1  11-30 12:01:00  BTC-USD  BUY   0.02  65000    100%  filled",
        "",
        "all about one: bot history O1 --run 2",
    ]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ("--status filled", ["1"]),
        ("--status filled,cancelled", ["2", "1"]),
        ("--ticker eth-usd", ["2"]),
        ("--run 2", ["3"]),
        ("--account dydx1m --network testnet", ["3", "2", "1"]),
        ("--network dydx-testnet-4 --ticker BTC-USD", ["3", "1"]),
        ("--since 2025-11-30T12:02", ["3", "2"]),
        ("--since 2025-11-30T12:02:00Z --until 2025-11-30T13:03+01:00", ["2"]),
        ("--until 2025-11-30", ["3", "2", "1"]),
        ("--until 2025-11-29", []),
        ("--page 2 --limit 2", ["1"]),
    ],
)
def test_filters_choose_orders(bot: Bot, stored: str, filters: str, found: list[str]) -> None:
    """By each of them alone, and together."""
    _, out, _ = bot("history", "--database", stored, "--json", *filters.split())

    assert [row["client_id"] for row in json.loads(out)["rows"]] == found


def test_a_program_gets_the_same_fields_as_json_and_as_csv(bot: Bot, stored: str) -> None:
    """Their names and their order are stable, and times are ISO 8601."""
    _, as_json, _ = bot("history", "--database", stored, "--json", "--limit", "1")
    _, as_csv, _ = bot("history", "--database", stored, "--csv", "--limit", "1")
    body = json.loads(as_json)
    (row,) = csv.DictReader(io.StringIO(as_csv))

    assert (body["schema"], body["page"], body["pages"], body["total"]) == (
        "bot.history/1", 1, 3, 3,
    )  # fmt: skip
    assert tuple(row) == tuple(body["rows"][0]) == history.FIELDS
    assert row["created"] == body["rows"][0]["created"] == "2025-11-30T12:03:00.000000Z"


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ("--status filed", "got 'filed'; the nearest is FILLED"),
        ("--ticker BTC", "those there are: BTC-USD, ETH-USD; got 'BTC'; the nearest is BTC-USD"),
        ("--network mainnet", "expected a network of those there are: dydx-testnet-4, testnet;"),
        ("--account cosmos1", "expected an account of those there are: dydx1me/0; got 'cosmos1'"),
        ("--run 7", "expected a run from 1 to 2, got 7"),
        ("--page 9", "expected a page from 1 to 1, got 9"),
        ("--since soon", "--since: expected a date or time of UTC such as 2026-11-30 or"),
        ("--since 1h --until 2h", "expected --since before --until, got 2025-11-30 11:00:00 and"),
        ("O9", "expected an order of any run, got 'O9', which none has"),
        ("O2 --run 2", "expected an order of run 2, got 'O2', which none has"),
        ("9", "expected an order such as O3, or the beginning of the venue's id of one, got '9'"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_can(
    bot: Bot, stored: str, filters: str, words: str
) -> None:
    """One line, and exit code 2."""
    code, out, err = bot("history", "--database", stored, *filters.split())

    assert (code, out) == (2, "")
    assert words in err


@pytest.mark.parametrize("typed", ["0", "-1", "1.5", "9" * 12])
def test_a_page_is_a_whole_number(bot: Bot, typed: str) -> None:
    """Refused before anything is opened."""
    with pytest.raises(SystemExit):
        bot("history", "--page", typed)


@pytest.mark.parametrize(
    ("named", "environment", "configured"),
    [
        (None, {}, False),
        ("none", {"DYDX_CONFIG": "x.yaml"}, False),
        ("x.yaml", {}, True),
        (None, {"DYDX__DATABASE__URL": "x.db"}, True),
    ],
)
def test_where_nothing_is_configured_is_seen_without_the_tree_of_settings(
    named: str | None, environment: dict[str, str], configured: bool
) -> None:
    """By the file that is named or found, and by the names of variables."""
    assert is_configured(named, environment) is configured


def test_the_users_own_database_is_read_without_the_tree_of_settings(
    bot: Bot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """To load it takes longer than to look."""
    monkeypatch.chdir(tmp_path)
    loads: list[Any] = []
    monkeypatch.setattr("bot.config.configured.opened_of", loads.append)

    assert bot("history")[0] == 0
    assert loads == []


def test_a_machine_without_a_database_gets_to_know_how_to_make_one(bot: Bot) -> None:
    """Nobody has done anything wrong."""
    code, out, _ = bot("history")

    assert code == 0
    assert "nothing yet: expected a database in" in out
    assert "bot paper --network testnet makes the first run" in out.replace("\n", " ")


def test_a_database_that_was_typed_is_expected_to_be_there(bot: Bot, tmp_path: Path) -> None:
    """A slip of the pen is not an empty history; and no file is made of it."""
    code, _, err = bot("history", "--database", str(tmp_path / "bto.db"))

    assert (code, list(tmp_path.iterdir())) == (2, [])
    assert "bto.db, got no file" in err


def test_a_database_without_orders_says_which_filters_left_none(bot: Bot, stored: str) -> None:
    """And nothing is wrong with that."""
    code, out, _ = bot("history", "--database", stored, "--since", "2026-01-01")

    assert (code, out.splitlines()[1]) == (0, "by these filters: --since 2026-01-01")


def test_a_database_of_an_earlier_version_is_not_written_to(bot: Bot, tmp_path: Path) -> None:
    """Whoever looks changes nothing."""
    path = str(tmp_path / "bot.db")
    engine = engine_of(path)
    upgrade(engine, "0001")
    engine.dispose()
    code, _, err = bot("history", "--database", path)

    assert code == 2
    assert "got 0001: the next bot paper or bot trade upgrades it" in err


def test_orders_are_read_while_a_bot_writes(bot: Bot, stored: str) -> None:
    """What is not yet committed is not there, and nobody waits."""
    engine = writing(engine_of(stored))
    with engine.connect() as connection:
        connection.execute(TABLES["orders"].insert(), [order_row(4)])
        _, out, _ = bot("history", "--database", stored)
        connection.rollback()
    engine.dispose()

    assert out.startswith("orders 1 to 3 of 3")


def test_what_a_killed_bot_has_committed_is_read(bot: Bot, tmp_path: Path) -> None:
    """Its log is there, and nobody who could put it into the file."""
    engine = engine_of(str(tmp_path / "bot.db"))
    upgrade(engine)
    with writing(engine).connect() as connection:
        for name in ("runs", "orders"):
            connection.execute(TABLES[name].insert(), ROWS[name])
        connection.commit()
        (tmp_path / "killed").mkdir()
        for path in tmp_path.glob("bot.db*"):
            if not path.name.endswith("-shm"):
                (tmp_path / "killed" / path.name).write_bytes(path.read_bytes())
    engine.dispose()
    _, out, _ = bot("history", "--database", str(tmp_path / "killed" / "bot.db"))

    assert out.startswith("orders 1 to 3 of 3")


def test_a_reader_that_goes_away_is_no_trouble_of_the_database(stored: str) -> None:
    """What prints rows while they are read ends as quietly as any other."""
    with pytest.raises(BrokenPipeError), reading(stored):
        raise BrokenPipeError


# === One order ===


def test_an_order_is_shown_with_all_that_led_to_it(bot: Bot, stored: str) -> None:
    """Its changes, its fills and what they cost, its verdict and its decision."""
    _, out, _ = bot("history", "O1", "--run", "1", "--database", stored)

    assert out.splitlines() == [
        "order       O1 of run 1 (trade on testnet)",
        "venue's id  1-0000-cafe",
        "account     dydx1me/0 on dydx-testnet-4",
        "what        BUY 0.02 BTC-USD at 65000, limit",
        "status      FILLED, 0.02 of 0.02 in 2 fills at 65,005 on average, fees 0.32 USDC",
        "created     2025-11-30 12:01:00 UTC, changed 2025-11-30 12:01:01",
        "verdict     V3 approved: leverage 0.13 after it",
        "decision    D7 target +0 → +1,300 USDC: momentum 81",
        "why         bot why O1 night.jsonl.zst (with the choices of the run)",
        "",
        "changed              status  filled  reason",
        "2025-11-30 12:00:00  OPEN         0",
        "2025-11-30 12:00:01  FILLED    0.02",
        "",
        "fill  at                    size  price   fee  liquidity  of it",
        "F1    2025-11-30 12:00:01  0.005  64990  0.16  taker        25%",
        "F2    2025-11-30 12:00:01  0.015  65010  0.16  taker        75%",
    ]


@pytest.mark.parametrize(("typed", "client_id"), [("o1", "3"), ("o2", "2"), ("2-00", "2")])
def test_an_order_is_found_by_its_number_or_by_the_venues(
    bot: Bot, stored: str, typed: str, client_id: str
) -> None:
    """Of several runs the newest is meant."""
    _, out, _ = bot("history", typed, "--database", stored, "--json")

    assert json.loads(out)["order"]["client_id"] == client_id


def test_a_program_gets_all_about_an_order(bot: Bot, stored: str) -> None:
    """Money is exact, as text."""
    _, out, _ = bot("history", "1-", "--database", stored, "--json")
    body = json.loads(out)

    assert (body["schema"], body["average_price"], body["fees_usdc"]) == (
        "bot.order/1", "65005", "0.325000",
    )  # fmt: skip
    assert [fill["quote_usdc"] for fill in body["fills"]] == ["324.950000", "975.150000"]
    assert (body["verdict"]["id"], body["decision"]["id"]) == ("V3", "D7")
    _, out, _ = bot("history", "1-", "--database", stored, "--csv")
    assert [row["id"] for row in csv.DictReader(io.StringIO(out))] == ["F1", "F2"]


def test_an_order_of_nobody_here_says_so(bot: Bot, stored: str) -> None:
    """No verdict, no recording, no fill."""
    _, out, _ = bot("history", "O1", "--run", "2", "--database", stored)

    assert "nothing filled" in out
    assert "verdict     none is stored" in out
    assert "why         no recording of that run: start one with --record" in out


# === Times and tables ===


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [("45s", -45), ("2h", -7_200), ("1w", -604_800), ("yesterday", -129_600), ("today", -43_200),
     ("now", 0), ("2025-11-30T14:00+02:00", 0), ("20251130", -43_200)],
)  # fmt: skip
def test_a_time_is_read_as_people_type_it(typed: str, seconds: int) -> None:
    """Counted from now, or named."""
    assert when.span(typed, None, NOON) == (NOON + seconds * SECOND, None)


@pytest.mark.parametrize("typed", ["9999999999h", "999999w", "2025-13-01", "", "h", "0x1"])
def test_a_time_that_is_none_is_refused(typed: str) -> None:
    """Also one before the calendar begins."""
    with pytest.raises(when.TypedError, match=r"^--until: expected a date or time of UTC"):
        when.span(None, typed, NOON)


def test_no_line_of_a_table_is_wider_than_a_terminal() -> None:
    """What may be cut is cut."""
    columns = (Column("a", cut=True), Column("b", right=True), Column("c", cut=True))
    lines = table(columns, [["x" * 50, "1", "y" * 70], ["x", "22", "y"]])

    assert max(map(len, lines)) == WIDTH
    assert lines[2].split() == ["x", "22", "y"]


def test_a_password_that_is_typed_is_warned_of_and_never_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever is on the machine sees what was typed."""
    assert main(["history", "--database", "postgresql://bot:hunter2@127.0.0.1:1/x"]) == 2
    out, err = capsys.readouterr()

    assert "bot: warning: expected no password in --database" in err
    assert "hunter2" not in out + err
