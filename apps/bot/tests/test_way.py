"""The way of a frame through the layers: what it changed in each, and that looking changes nothing."""

import pytest
from bot.run.composition import Bot, Options, trace, untrace
from bot.run.way import STAGES, Way
from bot.run.wire import WireVenue
from bot.screen.closeup import closeup
from bot.screen.way import way_of
from dydx_conn import Frame, Subaccount, replay
from dydx_panels import WayPart

UNTIL = 2_500


def played(*, traced: bool, until: int = UNTIL, venue: WireVenue | None = None) -> Bot:
    """Play the first frames, with somebody who looks or without."""
    bot = Bot(Options(), venue)
    if traced:
        trace(bot)

    def pace(frame: Frame) -> bool:
        return frame.seq < until

    bot.run(replay("quickstart", pace=pace))
    return bot


@pytest.fixture(scope="module")
def looked() -> Bot:
    """Return a run that somebody looked at from its first frame on."""
    return played(traced=True)


@pytest.fixture(scope="module")
def part(looked: Bot) -> WayPart:
    """Return the way of the newest decision."""
    return way_of(looked)


def way(bot: Bot) -> Way:
    """Return what is being followed."""
    assert bot.shown.way is not None
    return bot.shown.way


@pytest.mark.replays
def test_looking_changes_nothing(looked: Bot) -> None:
    """The run does the same for the same reasons: its hash is the one that nobody looked at."""
    assert looked.journal.hash == played(traced=False).journal.hash


def test_the_times_of_the_layers_make_up_that_of_the_frame(looked: Bot) -> None:
    """Each has its own time alone, and what is left over is the rest."""
    newest = way(looked).newest
    assert newest is not None

    took = newest.took()

    assert sum(own for _, own, _ in took.values()) == newest.took_ns
    assert set(took) <= set(STAGES)
    assert way(looked).latencies["decoding"].count == UNTIL - 1


def test_a_decision_is_followed_to_its_fills(looked: Bot) -> None:
    """The frame led to a decision, it to a verdict, an order, and in later frames to fills."""
    decided = way(looked).decided
    assert decided is not None
    decision, verdict = decided.entries[:2]

    kinds = {entry.kind for entry in (*decided.entries, *decided.later)}

    assert (decision.kind, decision.value.action) == ("decision", "target")
    assert verdict.parent == decision.id
    assert decision.seq == decided.frame.seq
    assert {"decision", "order"} <= kinds


def test_every_layer_shows_before_and_after(part: WayPart) -> None:
    """Wire text, what was decoded, the market, the scores, the decision in words."""
    stages = {stage.stage: stage for stage in part.stages}

    assert [*stages][:3] == ["wire", "decoding", "data"]
    assert stages["wire"].texts[0][1].startswith('…"contents"')
    assert "Contents(" in stages["decoding"].texts[0][1]
    assert {"momentum", "volume"} <= {change.term for change in stages["signals"].changes}
    assert stages["strategy"].texts[0][0].startswith("D")
    assert part.took_us is not None
    assert part.took_us > 0


def test_what_is_not_certain_of_an_account_is_no_fact() -> None:
    """On the wire, before it is read, it has no equity of 0."""
    bot = played(traced=True, until=200, venue=WireVenue(Subaccount("dydx1me", 0)))
    newest = way(bot).newest
    assert newest is not None

    assert bot.risk.account.trouble
    assert {*newest.before.of} == {"data", "signals"}
    assert {change.term for stage in way_of(bot).stages for change in stage.changes}.isdisjoint(
        {"net_collateral", "size"}
    )


def test_what_the_layers_take_is_of_the_frames_that_reach_them(part: WayPart) -> None:
    """Every frame is decoded, and few lead to a verdict."""
    frames = {row.stage: row.frames for row in part.layers}

    assert frames["decoding"] > frames["signals"] > frames["verdict"] > 0
    assert sum(row.share or 0.0 for row in part.layers) == pytest.approx(1.0)


def test_nothing_is_noted_once_nobody_looks() -> None:
    """Another panel takes the stopwatches off, and what stood there stands there again."""
    bot = Bot(Options())
    before = {name: hub.on_next for name, hub in vars(bot._hubs).items()}
    listeners = [*bot.journal.listeners]

    first = closeup(bot, "way", "")["way"]
    assert first.stages == ()
    assert bot.shown.way is not None
    assert before != {name: hub.on_next for name, hub in vars(bot._hubs).items()}

    closeup(bot, "", "")

    assert bot.shown.way is None
    assert before == {name: hub.on_next for name, hub in vars(bot._hubs).items()}
    assert bot.journal.listeners == listeners
    untrace(bot)  # a second time does nothing


def test_the_speed_panel_takes_no_facts() -> None:
    """What the layers take is measured without what only the way shows."""
    bot = Bot(Options())
    closeup(bot, "speed", "")
    bot.run(replay("quickstart", pace=lambda frame: frame.seq < 300))

    part = closeup(bot, "speed", "")["way"]

    assert {"decoding", "data", "signals"} <= {row.stage for row in part.layers}
    assert way(bot).newest is not None
    assert part.stages == ()
