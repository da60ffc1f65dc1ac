"""What monitors read of a run: /metrics, /health, /health/network and /errors."""

import asyncio
import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bot.config.api import ApiSettings
from bot.run.beside import Beside
from bot.run.composition import Bot, Options, monitor
from bot.run.desk import Desk, DeskError
from bot.serve import chain, errors, health, metrics
from bot.serve.app import app_of
from bot.serve.figures import Connection, RunFigures, Sink, figures_of
from bot.serve.sample import Process, Sources
from bot.serve.series import SERIES
from bot.serve.served import Served
from bot.serve.tokens import Tokens
from dydx_conn import (
    ChainTip,
    EndpointMetrics,
    Frame,
    GroupMetrics,
    Inbox,
    Metrics,
    Network,
    NetworkError,
    WireWriter,
    find_recording,
    network,
    replay,
)
from fastapi import APIRouter, FastAPI
from httpx import ASGITransport, AsyncClient, Response
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as families
from reactivex import from_iterable

PROCESS = Process(
    version="1.2.3", revision="abc", mode="paper", network="testnet", started=1.0, memory_bytes=1e8, peak_bytes=None,
    cpu_s=2.5, threads=9, disk_free_bytes=1e9,
)  # fmt: skip


@pytest.fixture(scope="module")
def played() -> Bot:
    """Return a run that traded while it was monitored."""
    bot = Bot(Options())
    monitor(bot).is_read = True
    bot.run(replay("quickstart", pace=lambda frame: frame.seq < 2_500))
    return bot


@pytest.fixture(scope="module")
def run(played: Bot) -> RunFigures:
    """Return its figures; a recording that is cut off ends with its connections open."""
    found = figures_of(played)
    return msgspec.structs.replace(
        found, connection=Connection(state="live", lost_at=None, attempts=0)
    )


def served(bot: Bot, *, net: Network | None = None, recording: Path | None = None) -> Served:
    """Return what is served of a run that answers whoever puts a question at once."""
    desk = Desk()
    desk.begin(bot)
    desk.wake = desk.answer
    settings = ApiSettings()
    return Served(
        desk=desk, inbox=Inbox(), mode="REPLAY" if net is None else "PAPER", name="here",
        settings=settings, tokens=Tokens(settings), net=net, recording=recording,
    )  # fmt: skip


class Client:
    """Gets from an application, without a server."""

    def __init__(self, *routers: APIRouter) -> None:
        self.app = FastAPI()
        for router in routers:
            self.app.include_router(router)

    def get(self, path: str, headers: dict[str, str] | None = None) -> Response:
        async def gotten() -> Response:
            async with AsyncClient(
                transport=ASGITransport(self.app), base_url="http://localhost"
            ) as one:
                return await one.get(path, headers=headers)

        return asyncio.run(gotten())


@pytest.fixture
def client(played: Bot) -> Client:
    """Return a client of all these routes."""
    of = served(played, recording=find_recording("quickstart"))
    parts = (metrics.routes, health.routes, chain.routes, errors.routes)
    return Client(*(routes(of) for routes in parts))


def samples(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return the samples of a text by name and values of labels."""
    return {
        (sample.name.removeprefix("dydx_bot_"), (*sample.labels.values(),)): sample.value
        for family in families(text)
        for sample in family.samples
    }


# === Metrics ===


def test_all_that_a_run_did_is_scraped(run: RunFigures) -> None:
    """Latency, frames, orders, account, markets and process, each as it stands."""
    found = samples(metrics.exposition(Sources(run, PROCESS))[0].decode())

    assert found["frames_total", ("v4_orderbook",)] == dict(run.frames)["v4_orderbook"]
    assert found["frame_duration_seconds_count", ()] == run.latency.count
    assert found["stage_duration_seconds_count", ("data",)] == dict(run.stages)["data"].count
    assert found["fills_total", ()] == dict(run.journal)["fill"] > 0
    assert found["equity_usdc", ()] == pytest.approx((run.account.money.equity or 0) / 1e6)
    assert found["market_stale", ("BTC-USD",)] == 0
    assert found["connection_state", ("live",)] == 1
    assert found["build_info", ("paper", "testnet", "abc", "1.2.3")] == 1
    assert found["memory_bytes", ()] == 1e8


def test_a_histogram_counts_up_to_each_bound(run: RunFigures) -> None:
    """Bounds grow, and the last one has all of them."""
    found = samples(metrics.exposition(Sources(run, PROCESS))[0].decode())

    counts = [
        count for (name, _), count in found.items() if name == "frame_duration_seconds_bucket"
    ]

    assert counts == sorted(counts)
    assert counts[-1] == run.latency.count
    assert len(counts) == 16


def test_what_is_unknown_has_no_sample(run: RunFigures) -> None:
    """An account that is not certain has no equity, and no 0; nor has a run without REST a limit."""
    account = msgspec.structs.replace(
        run.account, trouble=True, margin=None, positions=(),
        money=msgspec.structs.replace(run.account.money, equity=None, unrealized_pnl=None),
    )  # fmt: skip
    found = samples(
        metrics.exposition(Sources(msgspec.structs.replace(run, account=account), PROCESS))[
            0
        ].decode()
    )
    names = {name for name, _ in found}

    assert found["account_known", ()] == 0
    assert not names & {"equity_usdc", "unrealized_pnl_usdc", "margin_usage_ratio", "notional_usdc"}
    assert not any(name.startswith(("rate_limit", "memory_peak")) for name in names)


def test_every_series_is_named_as_prometheus_has_it() -> None:
    """A total is a counter, and only that; each has a help that is a sentence, and its own name."""
    names = [row.name for row in SERIES]

    assert len(names) == len({*names})
    for row in SERIES:
        assert re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", row.name)
        assert row.name.endswith("_total") == (row.kind == "counter")
        assert row.help.endswith(".")


def test_what_the_venue_never_had_is_another(run: RunFigures) -> None:
    """A hostile stream makes no series without end."""
    odd = tuple((f"v4_odd{number}", 1) for number in range(1_000))
    found = samples(
        metrics.exposition(Sources(msgspec.structs.replace(run, frames=odd), PROCESS))[0].decode()
    )

    assert found["frames_total", ("other",)] == 1_000


def test_what_is_beside_a_run_is_counted_as_it_grows_or_stands(run: RunFigures) -> None:
    """A database that is behind shows what waits."""
    sinks = (Sink(name="database", well=False, counts=(("phone sent", 7), ("waiting", 2))),)
    found = samples(
        metrics.exposition(Sources(msgspec.structs.replace(run, sinks=sinks), PROCESS))[0].decode()
    )

    assert found["sink_items_total", ("database", "phone sent")] == 7
    assert found["sink_items", ("database", "waiting")] == 2
    assert found["sink_trouble", ("database",)] == 1


def test_a_scraper_may_choose_openmetrics(client: Client) -> None:
    """Without a choice it gets the text that any scraper reads."""
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}

    plain, chosen = client.get("/metrics"), client.get("/metrics", headers=accept)

    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert chosen.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert len([*open_families(chosen.text)]) == len([*families(plain.text)]) > 40


def test_one_look_serves_all_monitors_of_a_second(
    played: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many of them there are, the run's thread copies once."""
    of, looks = served(played), list[object]()
    put = of.desk.put

    def counted(*question: Any) -> None:
        looks.append(question)
        put(*question)

    monkeypatch.setattr(of.desk, "put", counted)
    client = Client(metrics.routes(of))

    for _ in range(5):
        client.get("/metrics")

    assert len(looks) == 1


@pytest.mark.replays
def test_counters_never_go_back() -> None:
    """From one moment of a run to a later one."""
    bot, seen = Bot(Options()), list[dict[Any, float]]()
    monitor(bot)

    def look(frame: Frame) -> bool:
        if frame.seq % 200 == 0:
            seen.append(samples(metrics.exposition(Sources(figures_of(bot), PROCESS))[0].decode()))
        return frame.seq < 1_500

    bot.run(replay("quickstart", pace=look))

    assert len(seen) > 5
    for earlier, later in pairwise(seen):
        assert all(
            later[key] >= value for key, value in earlier.items() if key[0].endswith("_total")
        )


# === Health ===


def judged(run: RunFigures, *, uptime_s: float = 600.0, **changed: Any) -> health.Health:
    """Judge a run of which something is otherwise."""
    return health.health_of(msgspec.structs.replace(run, **changed), PROCESS, "PAPER", uptime_s)


def lost(state: str, seconds: float) -> Callable[[RunFigures], dict[str, Any]]:
    """Return what is changed where connections are lost for so long."""
    return lambda run: {
        "connection": Connection(state=state, lost_at=run.at - int(seconds * 1e9), attempts=3)
    }


def gate(state: str) -> Callable[[RunFigures], dict[str, Any]]:
    """Return what is changed where the gate is so."""

    def changed(run: RunFigures) -> dict[str, Any]:
        reasons = (("DAILY_LOSS", "the day lost 512.30 USDC of dydx1abc"),)
        standing = msgspec.structs.replace(run.account.standing, state=state, reasons=reasons)
        return {"account": msgspec.structs.replace(run.account, standing=standing)}

    return changed


def stale(share: float) -> Callable[[RunFigures], dict[str, Any]]:
    """Return what is changed where some markets are stale."""

    def changed(run: RunFigures) -> dict[str, Any]:
        many = int(share * len(run.markets)) or 1
        rows = [msgspec.structs.replace(row, stale=n < many) for n, row in enumerate(run.markets)]
        return {"markets": tuple(rows)}

    return changed


def test_a_run_that_is_well_is_ok(run: RunFigures) -> None:
    """All of its parts are, and nothing is a reason."""
    found = judged(run)

    assert (found.status, found.reasons) == ("ok", [])


@pytest.mark.parametrize(
    ("changed", "status", "words"),
    [
        (lost("backing_off", 5), "degraded", "connection: reconnecting for 5 s"),
        (lost("backing_off", 90), "down", "connection: reconnecting for 90 s"),
        (lost("polling", 900), "degraded", "connection: polling over REST for 900 s"),
        (lambda _: {"connection": Connection(state="closed", lost_at=None, attempts=0)}, "down",
         "connection: closed for 600 s"),
        (lambda _: {"late_ns": 1_500_000_000}, "degraded", "connection: frames wait 1.5 s"),
        (lambda _: {"markets": ()}, "down", "data: none of a market for 600 s"),
        (stale(0.1), "degraded", "data: stale: BTC-USD"),
        (stale(1.0), "down", "data: every market is stale"),
        (gate("HALTED"), "degraded", "trading: the gate is HALTED: DAILY_LOSS"),
        (lambda _: {"failed": True}, "down", "trading: a bug has stopped the run"),
        (lambda _: {"stopped": "ValueError"}, "degraded",
         "trading: the strategy has stopped: guard and exits go on"),
        (lambda _: {"sinks": (Sink(name="database", well=False, counts=()),)}, "degraded",
         "system: database fails"),
        (lambda _: {"rest_wait_s": 2.0}, "degraded",
         "limits: a request waits 2.0 s for a rate limit"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_and_judged(
    run: RunFigures, changed: Callable[[RunFigures], dict[str, Any]], status: str, words: str
) -> None:
    """Degraded goes on and wants a look; down is not traded, or not watched."""
    found = judged(run, **changed(run))

    assert (found.status, found.reasons[0]) == (status, words)


def test_a_run_that_comes_up_is_not_down_yet(run: RunFigures) -> None:
    """For a minute it may connect."""
    connecting = Connection(state="connecting", lost_at=None, attempts=0)

    assert judged(run, connection=connecting, markets=(), uptime_s=5.0).status == "degraded"


def test_a_full_disk_is_a_reason(run: RunFigures) -> None:
    """Before it is full."""
    process = msgspec.structs.replace(PROCESS, disk_free_bytes=1e8)

    found = health.health_of(run, process, "PAPER", 600.0)

    assert found.reasons == ["system: 100 MB of disk are left"]


def test_the_health_has_no_money_and_no_names(run: RunFigures) -> None:
    """Whoever has no token learns neither what is held nor what anybody wrote."""
    text = judged(run, **gate("HALTED")(run)).model_dump_json()

    assert "512" not in text
    assert "dydx1" not in text
    assert not re.search(r"usdc|equity|notional|pnl", text, re.IGNORECASE)


def test_a_run_that_does_not_answer_is_down(played: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    """A monitor gets the 503 it can use, and why."""
    of = served(played)
    of.desk.wake = lambda: None
    monkeypatch.setattr(health, "monitored", _unanswered)

    answer = Client(health.routes(of)).get("/health")

    assert answer.status_code == 503
    assert answer.json()["reasons"] == ["the run does not answer: no frames come, or it is over"]


async def _unanswered(_: object) -> RunFigures:
    raise DeskError("expected an answer, got none")


def test_the_health_is_answered_with_its_parts(client: Client) -> None:
    """A replay is not connected to anything, which is no fault of its."""
    answer = client.get("/health")

    assert answer.status_code == 200
    found = answer.json()
    assert found["mode"] == "REPLAY"
    assert found["data"]["markets"][0]["ticker"] == "BTC-USD"
    assert found["trading"]["guard"] is True
    assert found["system"]["threads"] > 0


# === Network ===


def network_client(
    bot: Bot, request: Callable[[Network], ChainTip]
) -> tuple[Client, list[Network]]:
    """Return a client of the network's route, and whom it requested."""
    requested: list[Network] = []

    def counted(net: Network) -> ChainTip:
        requested.append(net)
        return request(net)

    return Client(chain.routes(served(bot, net=network("testnet")), counted)), requested


def live_bot() -> Bot:
    """Return a run whose link is live."""
    bot, link = Bot(Options(strategy="none")), WireWriter()
    monitor(bot)
    bot.run(from_iterable([
        link.event("open", text="ws://here"),
        link.event("sent", text='{"type":"subscribe","channel":"v4_orderbook","id":"BTC-USD"}'),
        link.book("BTC-USD", [("99", "1")], [("101", "1")]),
    ]))  # fmt: skip
    return bot


def tip_of(chain_id: str) -> Callable[[Network], ChainTip]:
    """Return what answers for a node of a chain."""
    return lambda _: ChainTip(chain_id, 77, 1, 1)


def no_tip(net: Network) -> ChainTip:
    """A node that does not answer."""
    raise NetworkError(f"expected a block of {net.node}, got none")


@pytest.mark.parametrize(
    ("request_tip", "code", "status", "reported"),
    [
        (tip_of("dydx-testnet-4"), 200, "ok", "dydx-testnet-4"),
        (tip_of("dydx-mainnet-1"), 400, "mismatch", "dydx-mainnet-1"),
        (no_tip, 503, "unreachable", None),
    ],
)
def test_a_network_is_judged_by_its_node(
    request_tip: Callable[[Network], ChainTip], code: int, status: str, reported: str | None
) -> None:
    """Right, another chain's, or silent: with the details."""
    client, _ = network_client(live_bot(), request_tip)

    answer = client.get("/health/network")

    found = answer.json()
    assert (answer.status_code, found["status"], found["chain_id_reported"]) == (
        code, status, reported,
    )  # fmt: skip
    assert (found["network"], found["chain_id"]) == ("testnet", "dydx-testnet-4")
    assert bool(found["details"]) == (status != "ok")


def test_a_network_whose_links_are_lost_is_unreachable() -> None:
    """Its node alone is not enough."""
    bot, link = live_bot(), WireWriter()
    assert bot.shown.links is not None
    bot.shown.links.state, bot.shown.links.lost_at = "backing_off", 1
    del link

    client, _ = network_client(bot, tip_of("dydx-testnet-4"))

    answer = client.get("/health/network")
    assert answer.status_code == 503
    assert answer.json()["details"] == ["the links to the indexer are backing_off"]


def test_a_node_is_not_requested_by_everybody() -> None:
    """One request serves all for a quarter of a minute."""
    client, requested = network_client(live_bot(), tip_of("dydx-testnet-4"))

    for _ in range(5):
        client.get("/health/network")

    assert len(requested) == 1


def test_a_recording_has_the_network_that_was_recorded(client: Client) -> None:
    """Nothing of it can be lost any more."""
    answer = client.get("/health/network")

    assert answer.status_code == 200
    assert answer.json()["status"] == "recording"
    assert answer.json()["network"] == chain.recorded_network(find_recording("quickstart"))


def test_what_is_no_recording_has_no_network(tmp_path: Path) -> None:
    """It is unknown, and nothing fails."""
    (tmp_path / "odd.jsonl.zst").write_bytes(b"odd")

    assert chain.recorded_network(tmp_path / "odd.jsonl.zst") == "unknown"
    assert chain.recorded_network(None) == "unknown"
    assert chain.recorded_health("nowhere").chain_id is None


# === Errors ===


def erring(many: int) -> Bot:
    """Return a run in which requests failed, one a minute."""
    bot = Bot(Options(strategy="none"))
    faults = monitor(bot).faults
    for minute in range(many):
        at = minute * 60_000_000_000 + 1_500_000_000
        text = f"private key {'0123456789abcdef' * 4}"
        faults.take(Frame(1, at, at, "rest", "http", text, "503", "/v4/height"))
    return bot


def errors_client(bot: Bot) -> Client:
    """Return a client of the errors' route."""
    return Client(errors.routes(served(bot)))


def test_errors_come_by_pages_newest_first() -> None:
    """With how many pages there are, and no secret."""
    client = errors_client(erring(5))

    first, last = (client.get(f"/errors?page={page}&limit=2").json() for page in (1, 3))

    assert [row["minute"] for row in first["rows"]] == [
        "1970-01-01T00:04:00.000000Z", "1970-01-01T00:03:00.000000Z",
    ]  # fmt: skip
    assert (first["rows"][0]["error"], first["rows"][0]["count"]) == ("ServerError", 1)
    assert [row["minute"] for row in last["rows"]] == ["1970-01-01T00:00:00.000000Z"]
    assert (first["pages"], first["total"], first["errors"], first["forgotten"]) == (3, 5, 5, 0)
    assert "0123456789abcdef" not in json.dumps(first)


def test_a_run_without_errors_has_an_empty_page() -> None:
    """So has one that nobody monitors, and a page beyond the last one."""
    assert errors_client(Bot(Options(strategy="none"))).get("/errors").json()["rows"] == []
    assert errors_client(erring(1)).get("/errors?page=9").json()["rows"] == []


@pytest.mark.parametrize("query", ["page=0", "limit=0", "limit=101", "page=one"])
def test_a_page_that_cannot_be_is_refused(query: str) -> None:
    """With what is wrong about it."""
    assert errors_client(erring(1)).get(f"/errors?{query}").status_code == 422


# === REST, and what goes beside a run ===

REST = Metrics(
    endpoints={
        "/v4/height": EndpointMetrics(
            requested=5, answered=3, stale=1, errors={"ServerError": 2}, samples={}, per_minute=1.0,
            errors_per_minute=1.0, p50_ms=20.0, p99_ms=80.0, max_ms=90.0, circuit="open",
            retry_in_s=4.0, good_age_s=9.0, retried=2,
        )
    },
    groups={
        "default": GroupMetrics(
            limit=100, left=97, flying=1, queued=2, wait_s=0.5, waits=4, waited_s=1.5, limited=3
        )
    },
    errors={"ServerError": 2}, skew_s=None, skew_within_s=0.0,
)  # fmt: skip


def test_rest_is_counted_by_class_endpoint_and_limit(run: RunFigures) -> None:
    """What was requested, what failed, what waits, and what it took."""
    changed = msgspec.structs.replace(
        run, rest=REST, answers=((("/v4/height", 503), 2),), pings=(("c1", 0.05),),
        faults=((("ServerError", "/v4/height"), 2),),
    )  # fmt: skip
    found = samples(metrics.exposition(Sources(changed, PROCESS))[0].decode())

    assert found["rest_requests_total", ("/v4/height",)] == 5
    assert found["rest_errors_total", ("ServerError", "/v4/height")] == 2
    assert found["errors_total", ("ServerError", "/v4/height")] == 2
    assert found["rest_answers_total", ("/v4/height", "503")] == 2
    assert found["rest_latency_seconds", ("/v4/height", "0.99")] == 0.08
    assert found["rest_circuit_open", ("/v4/height",)] == 1
    assert found["rate_limit_left", ("default",)] == 97
    assert found["rate_limited_total", ("default",)] == 3
    assert found["ping_seconds", ("c1",)] == 0.05


def test_limits_and_circuits_are_in_the_health(run: RunFigures) -> None:
    """What waits, how often it was a 429, and what gets no requests."""
    found = judged(run, rest=REST, rest_wait_s=0.5)

    assert found.limits is not None
    assert (found.limits.left, found.limits.queued, found.limits.limited) == (
        {"default": 97}, 2, 3,
    )  # fmt: skip
    assert found.reasons == ["limits: /v4/height fails: tried again in 4 s"]


def test_a_market_without_a_book_is_a_reason(run: RunFigures) -> None:
    """Many of them are named together."""
    first = msgspec.structs.replace(
        run.markets[0], book_known=False, lags_ns=(5_000_000, 7_000_000)
    )
    rows = tuple(msgspec.structs.replace(first, ticker=f"T{number}-USD") for number in range(10))

    found = judged(run, markets=rows)

    named = ", ".join(f"T{number}-USD" for number in range(8))
    assert found.reasons == [f"data: no book: {named} and 2 more"]
    assert found.data is not None
    assert found.data.markets[0].lag_p99_ms == 7.0


def test_what_goes_beside_a_run_is_looked_at_by_name(wrote: Beside) -> None:
    """So is what is wrong around it; of REST what the edge measures, where there is one."""
    bot = Bot(Options(strategy="none"))
    bot.shown.beside, bot.shown.troubles["terminal"] = [wrote], "it is closed"
    bot.shown.feeds.vitals = Inbox().vitals
    bot.shown.feeds.vitals.ponged("c1", 0.25)
    bot.shown.feeds.vitals.rest = REST

    found = figures_of(bot)

    assert [(sink.name, sink.well) for sink in found.sinks] == [
        ("database", False), ("terminal", False),
    ]  # fmt: skip
    assert found.sinks[0].counts == (("written", 9), ("lost", 1))
    assert (found.pings, found.rest, found.rest_wait_s) == ((("c1", 0.25),), REST, 0.0)
    assert (found.connection.state, found.monitored) == ("", False)


def test_a_run_that_nobody_follows_has_no_state_of_its_links() -> None:
    """Unknown is no sample."""
    seen = Sources(figures_of(Bot(Options(strategy="none"))), PROCESS)
    names = {name for name, _ in samples(metrics.exposition(seen)[0].decode())}

    assert not names & {"connection_state", "connection_lost_seconds", "connection_attempts"}
    assert not names & {"block_height", "block_age_seconds", "rest_requests_total"}


def test_a_run_that_does_not_answer_is_an_unreachable_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Although its node is there."""
    monkeypatch.setattr(chain, "monitored", _unanswered)
    client, _ = network_client(live_bot(), tip_of("dydx-testnet-4"))

    assert client.get("/health/network").json()["details"] == ["the run does not answer"]


def test_metrics_need_a_token_and_health_needs_none(played: Bot) -> None:
    """A monitor without one learns how the run is, and no more."""
    of = served(played, recording=find_recording("quickstart"))
    of.tokens.require()
    client = Client()
    client.app = app_of(of)

    codes = {path: client.get(path).status_code for path in ("/health", "/metrics", "/errors")}

    assert codes == {"/health": 200, "/metrics": 401, "/errors": 401}
