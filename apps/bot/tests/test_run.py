"""A whole run: the bundled recording through every layer, and what it leaves behind."""

import gc
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bot.live.runs import seldom_stopped, until
from bot.report.report import report_lines, report_of
from bot.report.why import chain
from bot.run.composition import Bot, Options
from dydx_conn import (
    ConnError,
    Frame,
    Header,
    OrderRequest,
    Recording,
    RecordingWriter,
    collect,
    find_recording,
    from_generator,
    load_recorded_stream,
    replay,
)
from reactivex import from_iterable, throw


@pytest.fixture(scope="module")
def quickstart(crashed: Callable[..., Any]) -> Bot:
    """Return the bot after the whole bundled recording, guarded."""
    bot: Bot = crashed("steady").bot
    return bot


@pytest.fixture(scope="module")
def reckless(crashed: Callable[..., Any]) -> Bot:
    """Return the bot after the same with as much leverage as makes the guard act."""
    bot: Bot = crashed("reckless").bot
    return bot


@pytest.mark.replays
def test_the_recording_leads_to_explained_decisions_orders_and_fills(quickstart: Bot) -> None:
    """Each layer put something out, and each decision gives its reasons in figures."""
    decisions = quickstart.journal.of_kind("decision")
    fills = quickstart.journal.of_kind("fill")

    assert decisions
    assert fills
    assert all(any(c.isdigit() for c in entry.words) for entry in decisions)
    assert quickstart.journal.counts["order FILLED"] > 0


def test_the_first_decision_comes_within_ten_seconds_at_the_dashboards_speed(
    quickstart: Bot,
) -> None:
    """At 20 times real time, 200 seconds of the recording are ten of a viewer's."""
    first = quickstart.journal.of_kind("decision")[0]
    began = next(iter(Recording(find_recording("quickstart")))).at

    assert (first.at - began) / 1e9 / 20 < 10


@pytest.mark.replays
def test_the_guard_acts_in_the_crash_and_the_account_is_not_liquidated(reckless: Bot) -> None:
    """It fired before the distance fell below what it acts at, and nothing was liquidated."""
    figures = reckless.venue.figures()

    assert reckless.journal.counts["reduce"] > 0
    assert figures.liquidations == 0
    assert reckless.risk.closest is not None
    assert reckless.risk.policy.act_below < reckless.risk.closest < 0.25


@pytest.mark.replays
def test_without_a_strategy_the_guard_looks_after_what_a_person_trades() -> None:
    """Nothing is decided; an order placed by hand is filled, and reduced when the crash comes."""
    bot, placed = Bot(Options(strategy="none")), list[OrderRequest]()

    def by_hand() -> Generator[Frame]:
        for frame in Recording(find_recording("quickstart")):
            yield frame
            view = bot.data.views.get("BTC-USD")
            if placed or view is None or not (view.market and view.chain.height):
                continue
            if (ask := view.book.best_ask) is not None:
                worst = ask.price * 1.01
                placed.append(OrderRequest(
                    ticker="BTC-USD", clob_pair_id=view.market.clob_pair_id, side="BUY",
                    quantums=view.market.floor_quantums(f"{45_000 / worst:.10f}"),
                    subticks=view.market.floor_subticks(f"{worst:.10f}"), time_in_force="IOC",
                    client_id=1, good_til_block=view.chain.height + 10,
                ))  # fmt: skip
                bot.place(placed[0])

    bot.run(from_generator(by_hand))

    counts = bot.journal.counts
    assert (counts["target"], counts["hold"], counts["approved"]) == (0, 0, 0)
    assert counts["reduce"] > 0
    assert counts["fill"] > counts["reduce"]
    assert bot.venue.figures().liquidations == 0


def test_no_reason_of_the_guard_says_that_a_figure_is_below_itself(reckless: Bot) -> None:
    """Where rounding would make two figures one, more digits tell them apart."""
    reasons = [entry.value.why for entry in reckless.journal.of_kind("reduce")]

    assert reasons
    assert [why for why in reasons if re.search(r"([\d.]+) % < \1 %", why)] == []


@pytest.mark.replays
def test_without_the_guard_the_account_comes_nearer_to_liquidation(
    reckless: Bot, crashed: Callable[..., Any]
) -> None:
    """The same frames, unguarded: what the guard was for."""
    unguarded = crashed("reckless", guard=False).bot

    assert unguarded.journal.counts["reduce"] == 0
    assert unguarded.risk.closest is not None
    assert reckless.risk.closest is not None
    assert unguarded.risk.closest < reckless.risk.closest
    assert unguarded.journal.hash != reckless.journal.hash


def run_hash(*arguments: str, seed: str = "0") -> str:
    """Run the bot in a process of its own and return the hash it reports."""
    done = subprocess.run(
        [sys.executable, "-m", "bot", "replay", "quickstart", "--json", *arguments],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": seed},
    )
    return str(json.loads(done.stdout)["run_hash"])


@pytest.mark.replays
def test_the_hash_is_the_same_in_every_process(quickstart: Bot) -> None:
    """Neither Python's hash seed, which is random here, nor the speed changes what the bot does."""
    assert run_hash("--speed", "2000", seed="4242") == quickstart.journal.hash


@pytest.mark.replays
def test_a_recorded_run_replays_to_the_same_bytes(quickstart: Bot, tmp_path: Path) -> None:
    """What `bot paper --record` writes is the run: frames written and read again are the same."""
    path = tmp_path / "again.jsonl.zst"
    header = Header(network="local", rest="", ws="", client="", source="test")
    writer = RecordingWriter(path, header)
    for frame in Recording(find_recording("quickstart")):
        writer.write_frame(frame)
    writer.close()

    again = Bot(Options())
    again.run(replay(path))

    assert again.journal.hash == quickstart.journal.hash


@pytest.mark.replays
@pytest.mark.parametrize("kind", ["fill", "approved", "decision", "reduce", "gate"])
def test_why_walks_from_anything_back_to_the_wire(reckless: Bot, kind: str) -> None:
    """The chain names its links, its frames, and quotes the wire's own text."""
    entry = reckless.journal.of_kind(kind)[-1]
    path = find_recording("quickstart")

    printed = chain(entry, reckless.journal, path)

    text = "".join(line.strip() for line in printed)
    caused_by = next(frame for frame in Recording(path) if frame.seq == entry.seq)
    assert printed[0].startswith(entry.id)
    assert f"#{entry.seq}" in text
    assert caused_by.text[:40].replace(" ", "") in text.replace(" ", "")


def test_every_fill_leads_back_to_a_verdict(quickstart: Bot) -> None:
    """No trade comes out of nowhere: its order was let go by an Approved or a Reduce."""
    journal = quickstart.journal
    for fill in journal.of_kind("fill"):
        order = journal.find(fill.parent)
        assert order is not None
        verdict = journal.find(order.parent)
        assert verdict is not None
        assert verdict.kind in ("approved", "reduce")


def test_the_report_is_the_same_in_words_and_figures(quickstart: Bot) -> None:
    """What is printed holds the counts, the money and the hash of the data."""
    recording = Recording(find_recording("quickstart"))
    report = report_of(quickstart, name="quickstart", recording=recording)

    printed = "\n".join(report_lines(report))

    assert report["fills"] == quickstart.journal.counts["fill"]
    assert report["run_hash"] in printed
    closed = "; ".join(report["gate"]["reasons"].values())
    assert f"\ngate         REDUCING: {closed}\n" in printed
    assert "not market data of dYdX" in printed
    assert json.loads(json.dumps(report)) == report


def test_a_run_without_frames_reports_nothing_and_not_zero_distance() -> None:
    """No position is not a distance of zero."""
    bot = Bot(Options())
    bot.run(from_iterable([]))

    printed = "\n".join(report_lines(report_of(bot, name="nothing")))

    assert "no position was held" in printed
    assert "decisions    0 target, 0 hold" in printed


def test_real_orders_begin_with_what_is_there_and_not_with_a_deposit() -> None:
    """A run that is started again has deposited nothing: its figure is of its own start."""
    report = report_of(Bot(Options(deposit=529)), name="x") | {"open": []}

    assert "equity       unknown USDC of 529 at the start" in [
        line.replace("529.00", "unknown") for line in report_lines(report)
    ]


def test_a_halt_is_reported_once_and_what_else_closes_the_gate_beside_it() -> None:
    """The halt stands first; a gate that lets all in needs no line."""
    reasons = {"HALTED": "halted: a headline (by key)", "DRAWDOWN": "drawdown 12 %, limit 10 %"}
    report = report_of(Bot(Options()), name="nothing")

    def gated(**gate: Any) -> list[str]:
        lines = report_lines(report | {"gate": gate})
        return [line for line in lines if line.startswith(("gate", "HALTED"))]

    assert gated(state="HALTED", reasons=reasons) == [
        "HALTED       halted: a headline (by key)", "gate         HALTED: drawdown 12 %, limit 10 %"
    ]  # fmt: skip
    assert gated(state="ACTIVE", reasons={}) == []


def bad_frames() -> list[Frame]:
    """Return the recording with something wrong after each tenth frame."""
    texts = ["", "\0", "{", '{"type":"channel_data","channel":"v4_orderbook","contents":7}', "[]"]
    frames: list[Frame] = []
    for n, frame in enumerate(collect(load_recorded_stream("quickstart"))[:3000]):
        frames.append(frame)
        if n % 10 == 9:
            text = texts[n // 10 % len(texts)]
            bad = Frame(frame.seq, frame.at, frame.mono, "c1", "ws", text, fault="bad")
            frames.append(bad)
    return frames


@pytest.mark.replays
def test_bad_frames_are_counted_and_nothing_around_them_is_lost() -> None:
    """The same decisions come out, with every bad frame on the quality panel."""
    good, bad = Bot(Options()), Bot(Options())
    good.run(from_iterable(collect(load_recorded_stream("quickstart"))[:3000]))

    bad.run(from_iterable(bad_frames()))

    assert bad.data.counts()["malformed"] == 300
    assert [e.words for e in bad.journal.of_kind("decision")] == [
        e.words for e in good.journal.of_kind("decision")
    ]


def test_a_failing_source_stops_the_bot_with_its_error() -> None:
    """What cannot be read is raised, not swallowed."""
    with pytest.raises(ConnError, match="broken"):
        Bot(Options()).run(throw(ConnError("broken")))


def test_a_layer_that_raises_stops_the_bot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug must not go on trading: the run ends at once with the bug's own error."""

    def broken(*_: object) -> list[Frame]:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("dydx_paper.PaperVenue.step", broken)
    bot = Bot(Options())
    with pytest.raises(ZeroDivisionError, match="a bug"):
        bot.run(load_recorded_stream("quickstart"))

    assert bot.data.frames < 200


def test_until_ends_a_source_in_its_own_time() -> None:
    """Seconds are the recording's, so nothing waits."""
    pace = until(30, lambda _: True)
    played = collect(replay("quickstart", pace=pace))

    assert 0 < played[-1].mono - played[0].mono < 30e9


@pytest.mark.replays
def test_the_strategy_of_the_readme_trades(tmp_path: Path) -> None:
    """What a person copies from it runs, buys when it should and sells again."""
    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    [example] = [part for part in readme.split("```python\n") if part.startswith("# contrarian")]
    path = tmp_path / "contrarian.py"
    path.write_text(example.split("```")[0])

    bot = Bot(Options(strategy=str(path)))
    bot.run(replay("quickstart", pace=lambda frame: frame.seq < 6_000))

    decided = [entry.value for entry in bot.journal.of_kind("decision")]
    assert {one.target_usdc for one in decided if one.action == "target"} == {2_000.0, 0.0}
    assert bot.journal.counts["fill"] > 0


def test_markets_that_nobody_subscribed_to_get_no_opinion() -> None:
    """Every oracle price comes with the markets' channel; books and trades only when subscribed."""
    frames = [
        frame
        for frame in collect(load_recorded_stream("sixty"))[:4000]
        if frame.channel in ("v4_markets", "v4_block_height") or frame.id == "BTC-USD"
    ]
    bot = Bot(Options())

    bot.run(from_iterable(frames))

    assert len(bot.data.views) == 60
    assert [view.ticker for view in bot.shown.watched] == ["BTC-USD"]
    assert list(bot.scorer.views) == ["BTC-USD"]


@pytest.mark.replays
def test_a_run_that_was_late_replays_to_its_hash(tmp_path: Path) -> None:
    """What was folded together, and what was denied for it, is in the frames; and it is not nothing."""
    header = Header(network="local", rest="r", ws="w", client="t", source="a slow run")
    writer = RecordingWriter(tmp_path / "late.jsonl.zst", header)
    late = list(lagging(list(islice(Recording(find_recording("quickstart")), 2_000))))
    bots = [Bot(Options()) for _ in range(3)]

    for frame in late:
        writer.write_frame(frame)
    writer.close()
    bots[0].run(from_iterable(late))
    bots[1].run(replay(str(tmp_path / "late.jsonl.zst")))
    bots[2].run(from_iterable([frame for frame in late if not frame.text.startswith('{"age')]))

    assert bots[0].journal.hash == bots[1].journal.hash != bots[2].journal.hash
    shapes = [
        {view.ticker: (view.book.bids(), view.book.asks()) for view in bot.data.views.values()}
        for bot in bots
    ]
    assert shapes[0] == shapes[1] == shapes[2]


def lagging(frames: list[Frame]) -> Iterator[Frame]:
    """Number frames again with a lag of 0.3 s in the last third of them, reported every 40."""
    seq = 0
    for n, frame in enumerate(frames):
        if n % 40 == 0 and n > 2 * len(frames) // 3:
            ahead = enumerate(frames[n : n + 40], 1)
            books = {each.id: m for m, each in ahead if each.channel == "v4_orderbook"}
            text = json.dumps({"age_ns": 300_000_000, "waiting": 40, "books": books})
            seq += 1
            yield Frame(seq, frame.at, frame.mono, "clock", "tick", text)
        seq += 1
        yield msgspec.structs.replace(frame, seq=seq)


def test_a_run_leaves_the_search_for_garbage_as_it_was() -> None:
    """What was there before a run is not looked through during it, and is again after it."""
    usual = gc.get_threshold()

    with seldom_stopped():
        during = gc.get_freeze_count() > 0, gc.get_threshold()[0] >= 20_000

    assert (during, gc.get_freeze_count(), gc.get_threshold()) == ((True, True), 0, usual)
