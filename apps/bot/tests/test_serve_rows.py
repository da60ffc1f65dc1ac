"""What a run did, over HTTP: orders, fills, positions, profit, reasons, settings."""

from pathlib import Path
from typing import Any

import pytest
from bot.config.loaded import load
from bot.database.rows import Database, run_row
from dydx_conn import NETWORKS, Inbox
from reached import Client, Reached, first_minute, reached_run


@pytest.fixture(scope="module")
def reached(tmp_path_factory: pytest.TempPathFactory) -> Reached:
    """Return a run in its first minute that is served, without a database."""
    return reached_run(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def client(reached: Reached) -> Client:
    """Return what may only look."""
    return reached.client(reached.read_token)


def got(client: Client, path: str, **query: Any) -> Any:
    """Return what is answered to a path; it is not refused."""
    answer = client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_orders_stand_newest_first_in_pages(client: Client, reached: Reached) -> None:
    """And each page says how many there are."""
    whole = got(client, "/orders")
    pages = [got(client, "/orders", limit=1, page=n) for n in (1, 2, whole["total"] + 1)]

    ids = [row["id"] for row in whole["rows"]]
    created = [row["created"] for row in whole["rows"]]
    assert len(ids) == whole["total"] == len(reached.bot.venue.accounts.orders.orders)
    assert created == sorted(created, reverse=True)
    assert [[row["id"] for row in page["rows"]] for page in pages] == [[ids[0]], [ids[1]], []]
    assert pages[0]["pages"] == whole["total"]


def test_orders_are_filtered(client: Client) -> None:
    """By ticker, status and time; what no order has is no mistake."""
    rows = got(client, "/orders")["rows"]
    tickers = {row["ticker"] for row in rows}
    one = sorted(tickers)[0]
    middle = rows[len(rows) // 2]["created"]

    def ids(**query: Any) -> list[str]:
        return [row["id"] for row in got(client, "/orders", **query)["rows"]]

    assert ids(ticker=one) == [row["id"] for row in rows if row["ticker"] == one]
    assert ids(ticker=["NO-USD"]) == []
    assert ids(status="FILLED") == [row["id"] for row in rows if row["status"] == "FILLED"]
    assert ids(status="REJECTED") == []
    assert ids(**{"from": middle}) == [row["id"] for row in rows if row["created"] >= middle]
    assert ids(to=middle) == [row["id"] for row in rows if row["created"] < middle]
    assert ids(**{"from": "1900-01-01T00:00:00", "to": "9999-12-31T23:59:59+23:00"}) == ids()


@pytest.mark.parametrize(
    ("path", "query", "got_"),
    [
        ("/orders", {"status": "LOST"}, "'LOST'"),
        ("/orders", {"limit": 501}, "'501'"),
        ("/orders", {"page": 0}, "'0'"),
        ("/orders", {"from": "yesterday"}, "'yesterday'"),
        ("/orders", {"ticker": "a b"}, "'a b'"),
        ("/orders/O 1", {}, "'O 1'"),
        ("/positions", {"sort": "size"}, "'size'"),
        ("/decisions/1/why", {}, "'1'"),
    ],
)
def test_a_wrong_filter_is_named(path: str, query: Any, got_: str, client: Client) -> None:
    """With what was expected and what it was."""
    answer = client.get(path, params=query)

    assert (answer.status_code, answer.json()["got"]) == (422, got_)


def test_all_about_an_order_is_one_answer(client: Client) -> None:
    """By its number here, in any case, by the venue's id, or by the beginning of that."""
    order = got(client, "/orders", status="FILLED")["rows"][0]
    found = got(client, f"/orders/{order['id'].lower()}")

    assert found["order"] == order
    assert [change["status"] for change in found["changes"]][-1] == "FILLED"
    assert sum(float(fill["size"]) for fill in found["fills"]) == float(order["size"])
    assert found["verdict"]["id"] == order["verdict"]
    assert found["decision"]["id"].startswith("D")
    assert found["average_price"] is not None
    for name in (order["order_id"], order["order_id"][:13]):
        assert got(client, f"/orders/{name}") == found


def test_an_order_that_nobody_knows_is_a_404(client: Client) -> None:
    """In words."""
    answer = client.get("/orders/O999")

    assert (answer.status_code, answer.json()["got"]) == (404, "O999, which none has")


def test_fills_stand_newest_first(client: Client, reached: Reached) -> None:
    """Each with its fee."""
    found = got(client, "/fills")

    assert found["total"] == reached.bot.journal.counts["fill"]
    assert all(float(row["fee_usdc"]) > 0 for row in found["rows"])
    assert got(client, "/fills", ticker="NO-USD")["rows"] == []


@pytest.mark.parametrize("sort", ["distance", "notional", "ticker", "unrealized"])
def test_positions_are_those_of_the_risk(sort: str, client: Client, reached: Reached) -> None:
    """With their margin, in any order; infinity is null."""
    found = got(client, "/positions", sort=sort)

    assert {row["ticker"] for row in found["rows"]} == {
        r.ticker for r in reached.bot.risk.positions()
    }
    assert found["equity_usdc"] == reached.bot.risk.margin.net_collateral / 1e6
    sides = [got(client, "/positions", side=side)["rows"] for side in ("long", "short")]
    assert len(sides[0]) + len(sides[1]) == len(found["rows"])
    assert got(client, "/positions", ticker="NO-USD")["rows"] == []


def test_profit_is_that_of_the_report(client: Client, reached: Reached) -> None:
    """In USDC."""
    found, money = got(client, "/pnl"), reached.bot.venue.figures()

    assert found["profit_usdc"] == money.profit / 1e6
    assert found["fees_usdc"] == money.fees_paid / 1e6
    assert found["deposit_usdc"] == 10_000


def test_a_reason_leads_back_to_the_wire(client: Client) -> None:
    """As `bot why` prints it, and the same in parts."""
    found = got(client, "/decisions/f1/why")

    kinds = [link["kind"] for link in found["links"]]
    assert (kinds[0], kinds[-1]) == ("fill", "decision")
    assert found["links"][-1]["figures"][0].startswith("score ")
    assert any(line.startswith("wire: frames #") for line in found["text"])
    assert any(line.startswith("#") and " ws " in line for line in found["text"])


def test_what_is_not_remembered_is_a_404(client: Client) -> None:
    """With the newest of what is."""
    answer = client.get("/decisions/D999/why")

    assert answer.status_code == 404
    assert answer.json()["got"].startswith("D999; the newest are ")


def test_settings_have_their_origins_and_no_secret(tmp_path: Path) -> None:
    """A password is none of anybody's business."""
    variables = {
        "DYDX__DATABASE__URL": "postgresql://me:hunter2@host/bot",
        "DYDX__POLICY__MAX_LEVERAGE": "1.5",
    }
    client = reached_run(tmp_path, config=load(environment=variables)).client()
    answer = client.get("/config")
    settings = answer.json()["settings"]

    assert "hunter2" not in answer.text
    assert settings["database.url"]["value"] == "postgresql://me:***@host/bot"
    assert settings["policy.max_leverage"] == {
        "value": 1.5, "origin": "DYDX__POLICY__MAX_LEVERAGE",
    }  # fmt: skip
    assert settings["profile"]["origin"] == "default"


def test_without_settings_there_are_none(tmp_path: Path) -> None:
    """As of a run that was made by a program."""
    found = got(reached_run(tmp_path, config=None).client(), "/config")

    assert (found["file"], found["settings"]) == ("no file", {})


# === With a database ===


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, reached: Reached) -> tuple[Reached, Client]:
    """Return a run that was written down, and that remembers nothing of it by itself."""
    from bot.run.composition import Bot, Options

    place = tmp_path_factory.mktemp("database")
    url, net = f"sqlite:///{place / 'bot.db'}", NETWORKS["local"]
    bot = Bot(Options.of("reckless"))
    named = {"network": net.name, "chain_id": net.chain_id, "name": "here", "recording": ""}
    database = Database(bot, url, run_row(bot, config={}, mode="paper", **named))
    database.begin(Inbox())
    for frame in first_minute():
        database.note(frame)
        bot._take(frame)
    database.end()
    assert database.trouble == ""
    found = reached_run(place, database=url, net=net)
    return found, found.client()


def test_stored_orders_are_those_of_the_run(stored: tuple[Reached, Client], client: Client) -> None:
    """Every row is as it is remembered, and has the number of its run."""
    ours, theirs = got(client, "/orders")["rows"], got(stored[1], "/orders")["rows"]

    assert [row["order_id"] for row in theirs] == [row["order_id"] for row in ours]
    assert {row["run"] for row in theirs} == {1}
    for name in ("id", "status", "filled", "size", "price", "ticker", "verdict"):
        assert [row[name] for row in theirs] == [row[name] for row in ours]


def test_stored_orders_are_filtered(stored: tuple[Reached, Client], client: Client) -> None:
    """As those that are remembered are."""
    rows = got(client, "/orders")["rows"]
    middle, one = rows[len(rows) // 2]["created"], rows[0]["ticker"]
    for query in (
        {"ticker": one}, {"status": ["FILLED", "OPEN"]}, {"from": middle}, {"to": middle},
        {"ticker": "NO-USD"}, {"limit": 1, "page": 2},
    ):  # fmt: skip
        ours, theirs = (got(each, "/orders", **query) for each in (client, stored[1]))
        assert [row["id"] for row in ours["rows"]] == [row["id"] for row in theirs["rows"]], query
        assert ours["total"] == theirs["total"]


def test_a_stored_order_has_all_about_it(stored: tuple[Reached, Client], client: Client) -> None:
    """By its number or by the venue's id; of another account it is none of ours."""
    order = got(client, "/orders", status="FILLED")["rows"][0]
    ours, theirs = (got(each, f"/orders/{order['id']}") for each in (client, stored[1]))

    assert theirs["fills"] == ours["fills"]
    assert theirs["decision"] == ours["decision"]
    assert got(stored[1], f"/orders/{order['order_id']}") == theirs
    assert stored[1].get("/orders/nothing").status_code == 404


def test_stored_fills_are_those_of_the_run(stored: tuple[Reached, Client], client: Client) -> None:
    """With the same filters."""
    first = got(client, "/fills")["rows"][-1]
    for query in (
        {}, {"ticker": first["ticker"]}, {"to": first["at"]}, {"from": first["at"]}, {"limit": 1},
    ):  # fmt: skip
        assert got(stored[1], "/fills", **query) == got(client, "/fills", **query)


def test_without_a_file_a_run_remembers(tmp_path: Path) -> None:
    """As in the first second of the first run."""
    url = f"sqlite:///{tmp_path / 'none.db'}"
    client = reached_run(tmp_path, database=url).client()

    assert got(client, "/orders")["total"] > 0
    assert got(client, "/fills")["total"] > 0
    assert got(client, "/orders/O1")["order"]["id"] == "O1"


def test_a_database_that_is_none_is_a_503(tmp_path: Path) -> None:
    """In words; the run goes on."""
    path = tmp_path / "broken.db"
    path.write_bytes(b"no database" * 500)
    answer = reached_run(tmp_path, database=f"sqlite:///{path}").client().get("/orders")

    assert answer.status_code == 503
    assert "database" in answer.json()["expected"]
