"""What the screen is given of risk and of the paper venue, and that drawing it changes nothing."""

import pytest
from bot.report.report import report_lines, report_of
from bot.run.composition import Bot, Options
from bot.run.wire import WireVenue
from bot.screen.actions import ACTIONS
from bot.screen.snapshot import snapshot_of
from dydx_conn import Frame, Recording, Subaccount, Vitals, find_recording, replay
from dydx_panels import KEYS, Snapshot, panel
from dydx_paper import PaperVenue
from dydx_risk import percent_text
from msgspec.structs import replace
from reactivex import from_iterable

RECORDINGS = find_recording("quickstart").parent


def played(bot: Bot, until: int = 2500, every: int = 0) -> Bot:
    """Play the first frames, and look at the run every so many of them."""

    def pace(frame: Frame) -> bool:
        if every and frame.seq % every == 0:
            shown(bot)
        return frame.seq < until

    bot.run(replay("quickstart", pace=pace))
    return bot


def shown(bot: Bot) -> Snapshot:
    """Copy a run for the panels."""
    return snapshot_of(bot, mode="REPLAY", name="quickstart", speed=None)


@pytest.fixture(scope="module")
def paper() -> Bot:
    """Return a run that somebody looks at, has traded on paper and holds something."""
    bot = Bot(Options())
    bot.follow_links()
    return played(bot)


def test_the_screen_sees_the_way_out_and_every_shock(paper: Bot) -> None:
    """The newest watch is of the account as it stands: its markets, its ladder, its margin."""
    watch = shown(paper).watch

    assert watch is not None
    assert set(paper.risk.account.positions) == set(watch.stress.rows)
    assert paper.risk.margin == watch.figures.margin
    assert paper.risk.flight_plan.rungs == watch.plan.rungs


def test_one_look_serves_a_second_of_event_time(paper: Bot) -> None:
    """Four pictures a second need one look."""
    first = shown(paper).watch

    assert first is shown(paper).watch


def test_a_later_second_is_looked_at_again() -> None:
    """What was seen is never older than a second of event time."""
    bot, ages = Bot(Options()), []

    def pace(frame: Frame) -> bool:
        if (watch := bot.shown.watch()) is not None:
            ages.append(bot.data.at - watch.at)
        return frame.seq < 500

    bot.run(replay("quickstart", pace=pace))

    assert 0 <= min(ages) <= max(ages) < 1_000_000_000


def test_before_the_first_frame_nothing_is_known() -> None:
    """No view, no watch; a paper venue is there, and has done nothing."""
    fresh = shown(Bot(Options()))

    assert fresh.watch is None
    assert fresh.venue is not None
    assert fresh.venue.error is None
    assert () == fresh.venue.fills


@pytest.mark.replays
def test_looking_changes_nothing_of_what_the_bot_does(paper: Bot) -> None:
    """A run that is looked at all the time has the same hash."""
    assert paper.journal.hash == played(Bot(Options()), every=50).journal.hash


def test_the_screen_sees_how_far_the_tape_bears_out_the_fills(paper: Bot) -> None:
    """Volumes by market, and the account's performance as the ledger has it."""
    venue, again = shown(paper).venue, shown(paper).venue

    assert isinstance(paper.venue, PaperVenue)
    assert venue is not None
    assert venue.performance is not None
    assert {row.ticker for row in venue.fills} == set(paper.venue.optimism.assumed)
    assert paper.venue.ledger.paid.fees == venue.performance.fees
    assert venue == again


def test_orders_on_the_wire_have_no_paper_venue() -> None:
    """The wire is no venue of ours to judge."""
    real = Bot(Options(), WireVenue(Subaccount("dydx1wire", 0)))

    assert shown(real).venue is None
    assert real.shown.performance() is None


def test_the_screen_sees_for_how_long_a_market_is_stale() -> None:
    """Of a halted chain as well, whose books go on: it is the worst source that counts."""
    bot = Bot(Options())
    seen: list[float] = []
    bot.data.stale_after_ns = 8 * 10**9

    def pace(frame: Frame) -> bool:
        seen.extend(row.stale_s for row in shown(bot).markets if row.stale_s is not None)
        return not seen

    ender_stopped = RECORDINGS / "localnet" / "17-ender-stopped" / "frames.jsonl.zst"
    bot.run(replay(str(ender_stopped), pace=pace))

    assert 8 <= min(seen) < 9


def test_the_screen_sees_how_late_frames_are() -> None:
    """As the last tick reported it; a run that is in time has no figure."""
    bot = Bot(Options())
    ticks = [Frame(n, n, n, "clock", "tick", f'{{"age_ns":{n}}}') for n in (500_000_000, 0)]
    seen = [shown(bot).header.late_s]

    for tick in ticks:
        bot = Bot(Options(), data=bot.data)
        bot.run(from_iterable([tick]))
        seen.append(shown(bot).header.late_s)

    assert seen == [None, 0.5, None]


def test_the_screen_sees_what_was_won_since_the_start_and_today(paper: Bot) -> None:
    """In quote quantums without what was paid in, and as shares; risk's fall, and its limits."""
    snapshot = shown(paper)
    result, did, falls = snapshot.safety.result, paper.venue.figures(), paper.risk.falls

    assert result is not None
    assert did.equity is not None
    assert result.paid_in == did.equity - did.profit == 10_000 * 10**6
    assert (result.profit, result.today, result.fall) == (did.profit, falls.today, falls.depth)
    assert result.profit == result.today != 0
    assert result.share == pytest.approx(did.profit / 10**10)
    assert (result.most_today, result.most_fall) == (0.05, 0.1)
    assert snapshot.equity.most_fall == result.most_fall


def test_the_limit_of_a_day_in_money_is_a_share_of_its_beginning(paper: Bot) -> None:
    """The nearer of the two counts; without protection there is none."""
    policy = paper.risk.policy
    for protect, most in ((True, 0.02), (False, None)):
        update = {"max_daily_loss_usdc": 200.0, "protect": protect}
        paper.risk.policy = policy.model_copy(update=update)
        result = shown(paper).safety.result
        paper.risk.policy = policy

        assert result is not None
        assert result.most_today == (most and pytest.approx(most, rel=1e-3))


def test_the_result_of_an_account_of_unknown_worth_is_unknown() -> None:
    """As with real orders before the account is known."""
    real = Bot(Options(), WireVenue(Subaccount("dydx1wire", 0)))

    assert shown(real).safety.result is None


def last_known(lost: str = "", links: bool = True, ticks: int = 40) -> Bot:
    """Return a run that holds something, a while after its last frame."""
    bot = Bot(Options())
    if links:
        bot.follow_links()
    frames = [*Recording(RECORDINGS / "quickstart.jsonl.zst")][:2500]
    last, second = frames[-1], 10**9
    if lost:
        frames.append(replace(last, kind="close", type="1006", text=lost, channel="", seq=2500))
    frames += [
        Frame(2500 + n, last.at + n * second, last.mono + n * second, "clock", "tick")
        for n in range(1, ticks + 1)
    ]
    bot.run(from_iterable(frames))
    assert bot.risk.account.positions
    return bot


@pytest.mark.replays
@pytest.mark.parametrize(
    ("links", "words"),
    [(True, "link silent, no new block for 11 s"), (False, " stale, no block came")],
)
def test_what_is_held_on_old_prices_is_in_doubt(paper: Bot, links: bool, words: str) -> None:
    """The distance is only what was known last: why, and for how long."""
    stale = shown(last_known(links=links)).safety

    assert shown(paper).safety.doubt == ""
    assert words in stale.doubt
    assert stale.doubt_s == pytest.approx(40, abs=2)


@pytest.mark.replays
def test_a_poll_that_brings_nothing_stands_in_for_no_connection() -> None:
    """One that answers does."""
    seen = []
    for silent in (False, True):
        bot = last_known("1006", ticks=8 if silent else 3)
        assert bot.shown.links is not None
        bot.shown.links.state = "polling"
        seen.append(bool(shown(bot).safety.doubt))

    assert seen == [False, True]


@pytest.mark.replays
def test_what_is_held_behind_a_lost_connection_is_in_doubt() -> None:
    """Before its markets are stale; the header has the reason, and how often it was tried."""
    lost = last_known("gone", ticks=5)
    snapshot = shown(lost)

    assert snapshot.safety.doubt.startswith("link reconnecting, ")
    assert "1006 gone" in snapshot.safety.doubt
    assert snapshot.safety.doubt_s == pytest.approx(5, abs=2)
    assert snapshot.header.connection == "reconnecting 5 s"
    assert "1006 gone" in snapshot.header.link_why
    assert next(row.text for row in snapshot.tape if row.kind == "link").startswith("link lost: ")


def test_the_screen_sees_a_wait_for_a_rate_limit(paper: Bot) -> None:
    """One that nobody would notice is none."""
    seen, vitals = [], Vitals()
    paper.shown.feeds.vitals = vitals
    for vitals.rest_wait_s in (0.2, 4.2):
        seen.append(shown(paper).header.waits_s)

    assert seen == [None, 4.2]


def test_no_key_of_a_panel_is_taken_by_an_action() -> None:
    """A key that does something else would hide its panel."""
    assert set() == KEYS.keys() & ACTIONS.keys()


def test_report_and_screen_word_a_distance_alike(paper: Bot) -> None:
    """The closest that liquidation came reads the same, rounded down, wherever it is shown."""
    text = percent_text(paper.risk.closest)
    report = "\n".join(report_lines(report_of(paper, name="quickstart")))

    assert f"closest      {text} from liquidation" in report
    assert f"closest so far {text}" in panel("safety", shown(paper), 120, 24).text


def test_the_screen_sees_what_the_gate_lets_pass() -> None:
    """A halt is in the header of the next picture, with its reason."""
    bot = Bot(Options())
    bot.risk.stops.halt("flash crash")
    gate = shown(bot).gate

    assert gate == bot.risk.standing
    assert "HALTED" in panel("header", shown(bot), 120, 1).text


# === Charts ===


def test_the_curve_is_of_the_whole_run_and_measured_by_the_deposit(paper: Bot) -> None:
    """Its last point is what the account is worth, transfers aside what was won since."""
    curve = shown(paper).equity

    assert 10_000.0 == curve.deposited == curve.equity[0]
    assert len(curve.at) == len(curve.equity) == len(curve.distance) > 10
    assert min(curve.low) == pytest.approx(10_000 + min(curve.profit), abs=5)
    assert paper.risk.falls.deepest / 1e6 == curve.deepest


def test_fills_are_on_the_chart_of_their_market(paper: Bot) -> None:
    """The largest position's market is shown, with what was filled there."""
    candles = shown(paper).candles
    fills = [e.value for e in paper.journal.entries if e.kind == "fill"]

    assert [(x.side, float(x.price)) for x in fills if x.ticker == candles.ticker] == [
        (mark.side, mark.price) for mark in candles.fills
    ]
    assert not candles.fills[0].is_exit
    assert 1 < len(candles.rows) <= 240


# === Panels shown alone ===


@pytest.mark.replays
def test_detectors_decide_nothing() -> None:
    """Looked for or not, the run is the same; and nobody pays for what nobody looks at."""
    without, with_ = (played(Bot(Options(detectors=on)), 1_500) for on in (False, True))

    assert without.journal.hash == with_.journal.hash
    assert shown(without).detections is None
    assert {one.detector for one in shown(with_).detections or ()} >= {"makers", "arbitrage"}


@pytest.mark.parametrize("name", ["flow", "funding"])
def test_what_a_panel_alone_shows_is_copied_for_it_alone(paper: Bot, name: str) -> None:
    """The dashboard has none of it."""
    alone = snapshot_of(paper, mode="REPLAY", name="quickstart", speed=None, panel=name)

    assert getattr(alone, name) != getattr(Snapshot(), name)
    assert getattr(shown(paper), name) == getattr(Snapshot(), name)


def test_the_worst_market_comes_first(paper: Bot) -> None:
    """By what stands against it, then by how long it was known, then by its troubles."""
    alone = snapshot_of(paper, mode="REPLAY", name="quickstart", speed=None, panel="quality")
    rows = alone.quality.markets

    assert len(rows) == 3
    assert {row.known is None for row in rows} == {False}
    assert sorted(rows, key=lambda x: (not x.why, x.known or 0.0, -x.troubles)) == list(rows)


def test_the_market_that_was_typed_is_shown(paper: Bot) -> None:
    """In place of that of the largest position."""
    paper.shown.ticker = "SOL-USD"
    try:
        assert shown(paper).book.ticker == "SOL-USD"
    finally:
        paper.shown.ticker = ""


def test_a_book_alone_is_deeper(paper: Bot) -> None:
    """More levels, and what stands within some distances; among others nobody pays for it."""
    alone = snapshot_of(paper, mode="REPLAY", name="quickstart", speed=None, panel="book").book

    assert len(alone.bids) > len(shown(paper).book.bids)
    assert [depth.bps for depth in alone.depths] == [5, 10, 25, 50]
    assert shown(paper).book.depths == ()
