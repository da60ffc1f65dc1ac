"""The connections as their panel shows them: from the frames of a run, and from what the edge measures."""

import pytest
from bot.run.composition import Bot, Options
from bot.screen.closeup import closeup
from dydx_conn import EndpointMetrics as Endpoint
from dydx_conn import Frame, Metrics, Vitals, WireWriter, replay
from dydx_conn import GroupMetrics as Group
from dydx_panels import LinkPart
from reactivex import from_iterable


def seen(bot: Bot) -> LinkPart:
    """Look at the connections."""
    part = closeup(bot, "link", bot.shown.watched[0].ticker)["link"]
    assert isinstance(part, LinkPart)
    return part


@pytest.fixture(scope="module")
def played() -> Bot:
    """Return a run over a recording that somebody looked at from the start."""
    bot = Bot(Options(strategy="none"))
    bot.follow_links()
    bot.run(replay("quickstart", pace=lambda frame: frame.seq < 1_500))
    return bot


def test_a_recording_knows_its_states_its_lag_and_its_answers(played: Bot) -> None:
    """What it has no part of is unknown: pings, and how long a request took."""
    part = seen(played)

    assert part.state == "live"
    assert [(row.link, row.state) for row in part.links] == [("c1", "live"), ("chain", "live")]
    assert dict(part.lag_ms)["p50"] > 0
    assert part.links[0].pings_ms == ()
    assert {row.endpoint for row in part.rest} >= {"/v4/perpetualMarkets"}
    assert {row.requested for row in part.rest} == {None}
    assert part.turns[-1].was == "connecting"


def test_what_came_is_counted_by_channel_and_market(played: Bot) -> None:
    """All of the socket's frames are among them."""
    part = seen(played)

    assert sum(row.frames for row in part.feeds) == played.shown.kinds.total() - sum(
        count
        for kind, count in played.shown.kinds.items()
        if not kind.startswith("v4_") and kind != "ws"
    )
    assert ("v4_orderbook", "BTC-USD") in {(row.channel, row.ticker) for row in part.feeds}


def test_a_lost_connection_is_in_the_history_with_its_reason() -> None:
    """And how long it was away, once it is back."""
    bot, link = Bot(Options(strategy="none")), WireWriter()
    bot.follow_links()
    frames: list[Frame] = [
        link.event("open", text="ws://here"),
        link.event("sent", text='{"type":"subscribe","channel":"v4_orderbook","id":"BTC-USD"}'),
        link.book("BTC-USD", [("99", "1")], [("101", "1")]),
    ]
    link.wait(5)
    frames.append(link.event("close", text="connection reset", type="1006"))
    link.wait(2)
    frames.append(link.event("open", text="ws://here"))
    bot.run(from_iterable(frames))

    part = seen(bot)
    lost = next(row for row in part.turns if row.link == "c1" and row.state == "backing_off")

    assert (lost.was, lost.reason, lost.lasted_s) == ("live", "1006 connection reset", 2.0)
    assert part.links[0].losses == 1
    assert ("lost", "connection reset", 1) in part.errors


def test_a_connection_that_fails_to_come_back_is_not_lost_again() -> None:
    """It was lost once, however often it is tried."""
    bot, link = Bot(Options(strategy="none")), WireWriter()
    bot.follow_links()
    frames: list[Frame] = [
        link.event("open", text="ws://here"),
        link.event("sent", text='{"type":"subscribe","channel":"v4_orderbook","id":"BTC-USD"}'),
        link.book("BTC-USD", [("99", "1")], [("101", "1")]),
        link.event("close", text="connection reset", type="1006"),
    ]
    for _ in range(2):
        link.wait(1)
        frames += [link.event("tick"), link.event("close", text="refused", type="1006")]
    bot.run(from_iterable(frames))

    part = seen(bot)

    assert [turn.state for turn in part.turns if turn.link == "c1"].count("backing_off") == 3
    assert part.links[0].losses == 1


def test_a_live_run_has_its_pings_and_its_requests(played: Bot) -> None:
    """As the edge measured them, failures and waits for a limit included."""
    vitals = Vitals()
    for ms in (30, 50, 40):
        vitals.ponged("c1", ms / 1e3)
    endpoint = Endpoint(
        requested=9, answered=7, stale=0, errors={"ServerError": 2}, samples={}, per_minute=3.0,
        errors_per_minute=1.0, p50_ms=80.0, p99_ms=400.0, max_ms=410.0, circuit="half-open",
        retry_in_s=0.0, good_age_s=2.0,
    )  # fmt: skip
    group = Group(
        limit=100, left=1, flying=0, queued=2, wait_s=4.2, waits=2, waited_s=8.0, limited=1
    )
    vitals.rest = Metrics({"/v4/height": endpoint}, {"default": group}, {}, None, 0.0)
    played.shown.feeds.vitals = vitals

    part = seen(played)

    assert dict(part.links[0].pings_ms) == pytest.approx(
        {"p50": 40, "p90": 50, "p99": 50, "p99.9": 50, "max": 50}
    )
    assert [(row.endpoint, row.circuit, row.took_ms[0]) for row in part.rest] == [
        ("/v4/height", "half-open", ("p50", 80.0))
    ]
    assert (part.limits[0].queued, part.limits[0].wait_s, part.limits[0].limited) == (2, 4.2, 1)
    assert ("/v4/height", "ServerError", 2) not in part.errors  # without a sample it has no words
