"""Settings that change while a run goes: all of them at once, or none, and again in a replay."""

import contextlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bot.config.changes import (
    brief_change_words,
    change_words,
    changes_of,
    may_change,
    reloaded,
    require_live,
    text_of,
)
from bot.config.loaded import Loaded, load
from bot.config.settings import PATHS, Settings
from bot.live.reload import differences
from bot.report.report import report_of
from bot.report.status import status_lines, status_of
from bot.run.composition import Bot, Options
from bot.screen.line import Line
from dydx_conn import NETWORKS, ConnError, Frame, Header, Recording, RecordingWriter
from dydx_strategy import Allocation, Allocator, AllocatorSettings, PairsSettings, StrategyError
from reactivex import from_iterable, operators

MIDDLE_S = 300.0


def changing(frames: list[Frame], *texts: str, at_s: float = MIDDLE_S) -> list[Frame]:
    """Put acts that change settings in between frames, one after the other."""
    after = next(n for n, f in enumerate(frames) if f.mono - frames[0].mono > at_s * 1e9)
    last = frames[after - 1]
    acts = [Frame(last.seq, last.at, last.mono, "file", "act", text, "reload") for text in texts]
    return [*frames[:after], *acts, *frames[after:]]


def played(frames: list[Frame], options: Options | None = None) -> Bot:
    """Run a bot through frames."""
    bot = Bot(options or Options())
    bot.run(from_iterable(frames))
    return bot


WRONG = (
    "no JSON",
    "[1]",
    '{"policy.max_leverage":99.0}',
    '{"policy.keep_above":0.01}',
    '{"policy.max_leverag":2.0}',
    '{"policy.max_leverage":1.5,"markets":["BTC-USD"]}',
    '{"policy.max_leverage":1.5,"strategies.rank.enter":99.0,"strategies.rank.full":60.0}',
    '{"policy.max_leverage":1.5,"strategies.rank.weights":{"trend":1.0}}',
    '{"policy.max_leverage":1.5,"profile":"bold"}',
    '{"policy.hand_beside":true}',
)


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_with_any_of_it_changes_nothing_of_it(frames: list[Frame], text: str) -> None:
    """It is noted by whom it is of, in one line; policy, settings and limits are as they were."""
    bot = played(changing(frames[:300], text, at_s=1.0))

    (refused, note) = bot.journal.of_kind("act")
    assert (bot.options, bot.risk.policy) == (Options(), Options().policy)
    assert refused.value.type == "reload"
    assert (note.value.link, note.value.type) == ("file", "refuse")
    assert note.value.text.startswith("nothing changes: ")
    assert bot.shown.notice == note.words


def test_an_edit_that_is_refused_is_shown_until_one_is_taken(frames: list[Frame]) -> None:
    """By `bot status`, over HTTP and on the dashboard's last line; the newest edit is it after."""
    bot = played(changing(frames[:300], WRONG[2], at_s=1.0), Options(config=load()))
    line = Line(bot)
    seen = [(line.note(), status_of(bot, "PAPER", "x")["settings"]["edit"])]
    bot._act(
        msgspec.structs.replace(
            bot.shown.last_frames[-1], link="file", kind="act", type="reload", text="{}"
        )
    )
    found = status_of(bot, "PAPER", "x")
    seen.append((line.note(), found["settings"]["edit"]))

    assert [(note, edit["id"], edit["refused"]) for note, edit in seen] == [
        ("AN EDIT OF THE SETTINGS IS REFUSED: A2", "A2", True), ("", "A3", False),
    ]  # fmt: skip
    assert seen[0][1]["words"].startswith(
        "settings refused by file: nothing changes: policy.max_leverage: "
    )
    lines = status_lines(found)
    assert "settings     no file" in lines
    assert lines[lines.index("settings     no file") + 1].endswith(
        "reload by file: as the run goes by already"
    )


@pytest.mark.replays
def test_what_is_changed_is_judged_and_decided_by_from_there_on(frames: list[Frame]) -> None:
    """A half of the sizes, of the limits in the report, and of what the strategy has as settings."""
    changes = {
        "policy.max_account_share": 0.5,
        "policy.max_market_share": 0.2,
        "strategies.rank.gross_share": 0.5,
        "strategies.rank.market_share": 0.2,
        "strategies.sniper.arm": 9.0,  # of one that does not trade
    }
    some = [frame for frame in frames if frame.mono - frames[0].mono < 400e9]
    options = Options(config=load())
    whole, half = played(some), played(changing(some, text_of(changes), at_s=1.0), options)

    limits = report_of(half, name="x", complete=True)["profile"]["limits"]
    assert "entered up to 0.5, a market up to 0.2" in limits
    assert half.shown.strategy.settings == half.options.settings  # type: ignore[union-attr]
    bought = [
        max(abs(entry.value.target_usdc) for entry in bot.journal.of_kind("decision"))
        for bot in (whole, half)
    ]
    assert bought[1] == pytest.approx(bought[0] / 2, rel=0.1)
    assert half.shown.notice == (
        "reload by file: 5 changes: policy.max_account_share 1 → 0.5, policy.max_market_share "
        "0.5 → 0.2, strategies.rank.gross_share 1 → 0.5, …"
    )


@pytest.mark.replays
def test_its_recording_replays_to_the_same_hash(frames: list[Frame], tmp_path: Path) -> None:
    """Also where wrong edits came between: what was refused then is refused again."""
    texts = (WRONG[2], '{"policy.max_leverage":1.25}', WRONG[4], '{"strategies.rank.enter":58.0}')
    path, source = tmp_path / "run.jsonl.zst", changing(frames[:20_000], *texts, at_s=20.0)
    lived = Bot(Options())
    with contextlib.closing(RecordingWriter(path, Header.of(NETWORKS["local"]))) as writer:

        def written(frame: Frame) -> None:
            writer.write_frame(frame)

        lived.made.record = written
        lived.run(from_iterable(source).pipe(operators.do_action(written)))
    again = played([*Recording(path)])

    assert again.journal.hash == lived.journal.hash
    assert (again.options, again.risk.policy) == (lived.options, lived.risk.policy)
    assert again.options.policy.max_leverage == 1.25
    assert [e.value.type for e in again.journal.of_kind("act")] == [
        "reload", "refuse", "reload", "reload", "refuse", "reload",
    ]  # fmt: skip


@pytest.mark.replays
def test_to_what_it_is_already_is_an_act_and_no_change(frames: list[Frame]) -> None:
    """All that follows is the same: decisions, verdicts, fills."""
    some = frames[:20_000]
    same = changing(some, text_of({"policy.max_leverage": 2.0, "strategies.rank.enter": 60.0}))

    def rows(bot: Bot) -> list[Any]:
        return [(e.id, e.seq, e.words) for e in bot.journal.entries if e.kind != "act"]

    assert rows(played(same)) == rows(played(some))


def test_a_person_reads_what_an_act_changes(frames: list[Frame]) -> None:
    """On the tape and by `bot why`: paths, what was and what is, and not their JSON."""
    texts = '{"policy.max_leverage":1.5}', '{"policy.max_leverag":1.5}', "no JSON"
    bot = played(changing(frames[:300], *texts, at_s=1.0), Options(config=load()))

    words = [entry.words for entry in bot.journal.of_kind("act")]
    assert [line for line in words if not line.startswith("settings refused")] == [
        "reload by file: policy.max_leverage 2 → 1.5",
        "reload by file: policy.max_leverag 1.5",
        "reload by file: no JSON",
    ]


def test_of_many_changes_a_tape_has_the_first_few() -> None:
    """The profile before all; of a long value the beginning. Who requested it reads all of it."""
    weights = {"trend": 1.0, "momentum": 2.0, "basis": 3.0}
    changes = {"a.a": weights, "a.b": 1, "a.c": 2, "profile": "reckless"}

    assert brief_change_words(changes, {"a.a": {}, "profile": "steady"}) == (
        '4 changes: profile steady → reckless, a.a {} → {"trend":1.0,"momentum"…, a.b 1, …'
    )
    assert change_words(changes, {}).endswith('"basis":3.0}, a.b 1, a.c 2, profile reckless')


MIX = "strategies:\n  mix:\n    strategies: [{use: rank, weight: 2}, {use: carry, weight: 1}]\n"
WEIGHTS = "strategies: {rank: {weights: {trend: 1, momentum: 2}}}"


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("guard: true", MIX),
        (MIX, "guard: true"),
        (MIX, MIX.replace("2}", "3}")),
        (WEIGHTS, WEIGHTS.replace("1", "3")),
        (WEIGHTS, "strategies: {rank: {weights: {momentum: 2, trend: 1}}}"),
    ],
)
def test_what_is_in_force_after_a_change_is_what_a_run_would_begin_with(
    tmp_path: Path, was: str, now: str
) -> None:
    """Settings of a mix that begin or are left out, and weights in another order: the same hash."""
    file = tmp_path / "bot.yaml"

    def loaded(text: str) -> Loaded:
        file.write_text(text)
        return load(path=file, environment={})

    before, after = loaded(was), loaded(now)
    changes = differences(before.settings, after.settings)

    assert changes
    assert reloaded(before, changes_of(text_of(changes)), "file").hash == after.hash


# === Values ===


def test_what_needs_a_restart_is_refused_by_name() -> None:
    """All of it in one sentence."""
    changes = {"markets": ["BTC-USD"], "policy.max_leverage": 2.0, "guard": False}
    with pytest.raises(ConnError) as refused:
        require_live(changes)

    assert str(refused.value) == (
        'expected no change of markets and guard while it runs, got ["BTC-USD"], false: '
        "restart for it"
    )


def test_sections_that_change_while_it_runs() -> None:
    """Limits and thresholds; not where it runs, nor for whom."""
    live = [path for path in ("policy.x", "strategies.rank.x", "profile") if may_change(path)]
    fixed = ("network", "account.keys", "paper.fees", "policyx.a", "policy.hand_beside", "strategy")

    assert live == ["policy.x", "strategies.rank.x", "profile"]
    assert not any(map(may_change, fixed))


def test_members_of_a_mix_get_their_parts_by_the_act(frames: list[Frame]) -> None:
    """Weights and settings of its members at once; who is a member stays."""
    mix = AllocatorSettings(strategies=(Allocation(use="rank"), Allocation(use="sniper")))
    heavier = [{"use": "rank", "weight": 3.0}, {"use": "sniper", "settings": {"arm": 5.0}}]
    texts = [
        text_of({"strategies.mix.strategies": rows})
        for rows in (
            heavier[:1],
            [{"use": "rank", "settings": {"weights": {"trend": 1.0}}}, *heavier[1:]],
            [{"use": "rank"}, {"use": "sniper", "settings": {"arm": 0.5}}],
            heavier,
        )
    ]
    bot = played(changing(frames[:300], *texts, at_s=1.0), Options(strategy="mix", settings=mix))

    allocator = bot.shown.strategy
    assert isinstance(allocator, Allocator)
    assert [result.share for result in allocator.results()] == [0.75, 0.25]
    assert [one.settings.arm for one in allocator.strategies[1:]] == [5.0]  # type: ignore[attr-defined]
    assert [entry.value.type for entry in bot.journal.of_kind("act")] == [
        "reload", "refuse", "reload", "refuse", "reload", "refuse", "reload",
    ]  # fmt: skip


def test_every_setting_may_change_or_needs_a_restart() -> None:
    """And what a strategy fixes is named as in its settings."""
    live = {path.partition(".")[0] for path in PATHS if may_change(path)}
    fixed = {path.partition(".")[0] for path in PATHS if not may_change(path)}

    assert live == {"profile", "policy", "strategies", "log"}
    assert {path for path in PATHS if path.startswith("log.") and may_change(path)} == {"log.level"}
    assert fixed - {"policy", "log"} == {*Settings.model_fields} - live


def test_a_strategy_fixes_more() -> None:
    """Pairs stay; they are refused before anything is touched."""
    options = Options(strategy="pairs", settings=PairsSettings())
    with pytest.raises(StrategyError, match="expected no change of pairs while it runs"):
        options.changed({"strategies.pairs.pairs": [["SOL-USD", "ETH-USD"]]}, (), "file")


def test_changes_survive_their_text() -> None:
    """In the order of their paths, whoever wrote them."""
    changes = {"b": 1.5, "a": {"x": [1, None, "y"]}}

    assert changes_of(text_of(changes)) == changes
    assert text_of(changes) == '{"a":{"x":[1,null,"y"]},"b":1.5}'
    assert change_words({"a": 2.0, "b": None}, {"a": 1.0}) == "a 1 → 2, b null"
