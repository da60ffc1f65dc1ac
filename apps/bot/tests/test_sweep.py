"""Sweeps: what is tried, what comes of it, and that it is the same whoever worked on it."""

import errno
import json
import sqlite3
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bot.__main__ import main
from bot.backtest.figures import Figures, RunFigures
from bot.backtest.playing import bounds
from bot.backtest.statistics import Interval, Overfitting
from bot.config.document import ConfigError
from bot.config.loaded import load
from bot.config.varied import base_of, varied, yaml_of
from bot.engines.engine import Here
from bot.engines.work import Lost
from bot.progress import Progress
from bot.run.resume import ACCOUNT
from bot.sweep import block as blocks
from bot.sweep.block import Block, Key, Outcome, code_of, play_block, source_of, spans_of
from bot.sweep.grid import Variant, read_grid, variants_of
from bot.sweep.ranking import Overfit, intervals, overfit, ranked
from bot.sweep.report import luck_rows
from bot.sweep.results import Results, digest_of, write_table
from bot.sweep.run import Plan, Sweep
from bot.sweep.samplers import Listed, Sampled, sampler_of
from dydx_conn import ConnError, Frame, Header, History, Recording, RecordingWriter, find_recording

GRID = """\
policy:
  max_leverage: [1, 2]
strategies.rank.gross_share: {low: 0.6, high: 1.0, step: 0.2}
"""
BAD = """
class Bad:
    name = "bad"

    def step(self, scored, held):
        raise ValueError("no")

def strategy():
    return Bad()
"""
BASE = base_of(load(environment={}))


@pytest.fixture
def grid(tmp_path: Path) -> Callable[[str], Path]:
    """Return what writes a grid."""

    def write(text: str) -> Path:
        path = tmp_path / "grid.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Return a plan of three variants on the first seconds of the bundled recording."""
    path = tmp_path_factory.mktemp("small") / "small.yaml"
    path.write_text("policy.max_leverage: [1, 1.5, 2]\n", encoding="utf-8")
    source = source_of(find_recording("quickstart"), "quickstart", 2.0)
    return Plan(grid=read_grid(path), base=BASE, sources=(source,), objectives=("profit",))


def swept(plan: Plan, engine: Any, folder: Path) -> Sweep:
    """Run a plan on an engine, with its results in a folder."""
    with Results(folder) as results, Progress("results", 1) as progress, engine:
        run = Sweep(plan, engine, results, progress)
        run.run(Listed(plan.grid))
    return run


class Twisted(Here):
    """An engine on which everything goes wrong: the last task first, some lost, some not its own."""

    workers = 2

    def __init__(self, spoil: Callable[[Block, Any], Any]) -> None:
        self._spoil = spoil

    def run(self, function: Any, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Yield what came of each task, in the wrong order."""
        for number in reversed(range(len(tasks))):
            yield number, self._spoil(tasks[number], function(tasks[number]))


# === Grids ===


def test_a_grid_names_settings_by_their_paths(grid):
    """Nested or dotted, values or spans: each setting once, in the order of paths."""
    found = read_grid(grid(GRID))

    assert [field.path for field in found.fields] == [
        "policy.max_leverage", "strategies.rank.gross_share",
    ]  # fmt: skip
    assert [*found.combinations()][:2] == [
        {"policy.max_leverage": 1, "strategies.rank.gross_share": 0.6},
        {"policy.max_leverage": 1, "strategies.rank.gross_share": 0.8},
    ]
    assert found.count == 6


def test_steps_are_exact(grid):
    """A tenth ten times is one, and whole numbers stay whole."""
    text = (
        "policy.max_leverage: {low: 1, high: 1.5, step: 0.1}\ndeposit: {low: 1, high: 9, step: 4}"
    )
    found = read_grid(grid(text))

    assert [field.listed() for field in found.fields] == [
        (1, 5, 9), (1.0, 1.1, 1.2, 1.3, 1.4, 1.5),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("policy:\n  max_levrage: [1]", "2", "did you mean policy.max_leverage"),
        ("policy.max_levrage: [1]", "1", "did you mean policy.max_leverage"),
        ("quux.deep.er: [1]", "1", "expected the name of a setting, got 'quux.deep.er'"),
        ("log.level: [info]", "1", "expected a setting of what is tried .*, got log.level"),
        ("policy: 3", "1", "expected settings of policy, got 3"),
        ("policy: [1]", "1", "expected settings of policy, got a list"),
        ("policy.max_leverage: []", "1", "expected a value or more to try, got none"),
        ("policy.max_leverage: [1, 2, 1]", "1:29", "expected each value once, got 1 again"),
        ("policy.max_leverage: {low: 1}", "1", "expected low and high, got no high"),
        ("policy.max_leverage: {low: 1, high: x}", "1", "expected a number as high, got 'x'"),
        ("policy.max_leverage: {low: 1, high: .inf}", "1", r"a number up to 1e\+15 as high"),
        ("policy.max_leverage: {low: 2, high: 1}", "1", "expected low < high, got 2 and 1"),
        ("policy.max_leverage: {low: 1, high: 2, step: 0}", "1", "expected a step above 0"),
        ("policy.max_leverage: {low: 1, high: 2, log: 3}", "1", "expected log to be true"),
        ("policy.max_leverage: {low: 1, high: 2, log: yes, step: 1}", "1", "without a step"),
        ("policy.max_leverage: {low: 1, values: [1]}", "1", "expected values alone"),
        ("policy:\n  max_leverage: 1\npolicy.max_leverage: 2", "3", "once, got it again"),
    ],
)
def test_what_is_wrong_with_a_grid_has_its_line(grid, text, where, words):
    """The error names the file, the line, what was expected and what it was."""
    with pytest.raises(ConfigError, match=words) as caught:
        read_grid(grid(text))

    assert caught.value.faults[0].where.endswith(f"grid.yaml:{where}")


@pytest.mark.parametrize("text", ["", "[1]", "3"])
def test_a_grid_of_nothing_is_refused(grid, text):
    """What a grid may look like is shown."""
    with pytest.raises(ConfigError, match=r"as policy.max_leverage: \[1, 2\]"):
        read_grid(grid(text))


def test_a_span_without_a_step_is_no_grid(grid):
    """A sampler may draw from it; all of it cannot be tried."""
    with pytest.raises(ConfigError, match="expected a step beside low and high"):
        Listed(read_grid(grid("policy.max_leverage: {low: 1, high: 2}")))


def test_a_grid_beyond_all_patience_is_refused(grid):
    """A million combinations are a mistake."""
    text = "deposit: {low: 1, high: 1000, step: 1}\npolicy.max_leverage: {low: 1, high: 2, step: 0.001}"
    with pytest.raises(ConnError, match="expected at most 100,000 combinations, got 1,001,000"):
        Listed(read_grid(grid(text)))


def test_a_grid_without_end_is_refused_before_any_of_it_is_made(grid):
    """Steps that are too small by mistake take no time, and no memory."""
    with pytest.raises(ConnError, match=r"expected at most 100,000 combinations, got 1\.0e\+300"):
        Listed(read_grid(grid("policy.max_leverage: {low: 1, high: 2, step: 1.0e-300}")))


# === Variants ===


def test_combinations_that_contradict_themselves_are_left_out(grid):
    """Each value of the grid is good for something: what is left out has its reason and line."""
    found = read_grid(grid("policy: {max_leverage: [1, 2], max_account_share: [1, 2]}"))

    variants, left_out = variants_of(BASE, found, found.combinations())

    assert [one.changes for one in left_out] == [
        {"policy.max_account_share": 2, "policy.max_leverage": 1}
    ]
    assert "expected max_account_share <= max_leverage, got 2 and 1" in left_out[0].why
    assert len({one.config for one in variants}) == 3


def test_a_value_that_no_variant_can_have_is_an_error_at_its_place(grid):
    """It is not left out in silence, whatever it contradicts."""
    path = grid("policy.max_account_share: [0.6, 1]\n")

    with pytest.raises(ConfigError, match="as configured") as caught:
        variants_of(BASE, read_grid(path), read_grid(path).combinations())

    assert caught.value.faults[0].where == f"{path}:1:28"


def test_the_same_settings_twice_are_one_variant(grid):
    """One and one point nothing are the same number."""
    found = read_grid(grid("policy.max_leverage: [1, 1.0]\n"))

    variants, _ = variants_of(BASE, found, found.combinations())

    assert len(variants) == 1


def test_a_variant_has_the_hash_of_the_same_settings_in_a_file(tmp_path):
    """What is written as bot.yaml decides as the variant did, defaults and all."""
    loaded = varied(BASE, {"signals.momentum.fast": 11.5, "policy.max_leverage": 2})
    path = tmp_path / "bot.yaml"

    path.write_text(yaml_of(loaded, "chosen\nby me", ["policy.max_leverage"]), encoding="utf-8")

    assert load(path=path, environment={}).hash == loaded.hash
    assert path.read_text(encoding="utf-8").startswith("# chosen\n# by me\nprofile: ")
    assert "max_leverage: 2.0" in path.read_text(encoding="utf-8")


def test_another_strategy_of_ones_own_is_other_code(tmp_path):
    """The hash of settings has its name alone: what is in it counts as code."""
    mine = tmp_path / "mine.py"
    base = base_of(load({"strategy": ("--strategy", str(mine))}, environment={}))
    found = []
    for text in ("x = 1", "x = 22"):
        mine.write_text(text, encoding="utf-8")
        found.append(code_of(base))

    assert len({*found, code_of(BASE)}) == 3


def test_another_model_of_books_is_other_code(tmp_path):
    """Settings have its path: what is in it counts as code, whether of the base or of a variant."""
    path = tmp_path / "book.json"
    base = base_of(load({"paper.book_model": ("bot.yaml", str(path))}, environment={}))
    found = []
    for text in ("{}", '{"markets": {}}'):
        path.write_text(text, encoding="utf-8")
        found += [code_of(base), code_of(BASE, {"paper.book_model": str(path)})]

    assert found[0] == found[1] != found[2] == found[3] != code_of(BASE)


# === Blocks ===


def block(plan: Plan, **changed: Any) -> Block:
    """Return a task of one variant."""
    variant = Variant({"policy.max_leverage": 1}, varied(BASE, {"policy.max_leverage": 1}).hash)
    made = Block(source=plan.sources[0], base=BASE, variants=(variant,), code=code_of(BASE))
    return msgspec.structs.replace(made, **changed)


def played_alone(task: Block) -> RunFigures:
    """Return what a task of one variant came to."""
    found = play_block(task)
    assert not isinstance(found, Lost)
    return found[0].figures


def test_what_is_played_of_a_recording_is_part_of_what_its_results_are_of(tmp_path):
    """Candles alone are another result than trades, and what a history lacks is refused before."""
    path, past = tmp_path / "past.jsonl.zst", History(
        markets=("BTC-USD",), kinds=("candles",), since_ns=0, until_ns=1, window_s=60,
    )  # fmt: skip
    header = Header(network="n", rest="", ws="", client="", source="s", history=past)
    RecordingWriter(path, header).close()

    source = source_of(path, "past", 60.0, "candles")

    assert (source.span, source_of(path, "past", None).span) == ("first 60 s, candles", "")
    with pytest.raises(ConnError, match="expected a history of trades, got one of candles"):
        source_of(path, "past", None, "trades")


def test_a_recording_that_is_another_is_not_played(small):
    """Its hash is looked at before it is played."""
    other = msgspec.structs.replace(small.sources[0], sha256="0" * 64)

    found = play_block(block(small, source=other))

    assert isinstance(found, Lost)
    assert "quickstart.jsonl.zst with SHA-256 000000000000, got" in found.why


def test_a_recording_that_changes_under_way_has_no_result(small, monkeypatch):
    """What was played was neither the one nor the other."""
    looks = iter([("a", 1, 1), ("a", 1, 2)])
    monkeypatch.setattr(blocks, "_looks", lambda path: next(looks))
    monkeypatch.setattr(blocks, "_sha256", lambda *_: small.sources[0].sha256)

    found = play_block(block(small, variants=()))

    assert isinstance(found, Lost)
    assert found.why.endswith("got one that changed under way")


def test_a_recording_that_is_gone_has_no_result(small):
    """The reason is in the result; nothing is raised."""
    gone = msgspec.structs.replace(small.sources[0], path="/nowhere/gone.jsonl.zst")

    found = play_block(block(small, source=gone))

    assert isinstance(found, Lost)
    assert found.why.startswith("FileNotFoundError")


def test_a_recording_is_found_by_its_name_where_a_worker_began(tmp_path, monkeypatch):
    """Another machine has it in another place."""
    (tmp_path / "mine.jsonl.zst").touch()
    monkeypatch.chdir(tmp_path)

    assert blocks.found_here("/elsewhere/mine.jsonl.zst") == Path("mine.jsonl.zst")
    assert blocks.found_here("/elsewhere/other.zst") == Path("/elsewhere/other.zst")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"variants": (Variant({"policy.max_leverage": 1}, "0" * 64),)}, "the worker's defaults"),
        ({"code": "0" * 64}, "expected the files of strategy, signals and book model"),
    ],
)
def test_settings_and_code_that_are_others_are_refused(small, changed, words):
    """A worker answers for what was meant, or not at all."""
    found = play_block(block(small, **changed))

    assert isinstance(found, Lost)
    assert words in found.why


def test_what_a_variant_raises_is_in_its_result_alone(small, tmp_path):
    """It is a result, with why it ended early."""
    mine = tmp_path / "mine.py"
    mine.write_text(BAD, encoding="utf-8")
    base = base_of(load({"strategy": ("--strategy", str(mine))}, environment={}))
    variant = Variant({}, varied(base, {}).hash)
    task = Block(source=small.sources[0], base=base, variants=(variant,), code=code_of(base))

    found = play_block(task)

    assert not isinstance(found, Lost)
    (outcome,) = found

    assert outcome.failure.endswith("got ValueError: no at mine.py:6")


def test_a_recording_is_cut_into_spans(small):
    """One after the other, as whole ones; each has a key and an account of its own."""
    source = msgspec.structs.replace(small.sources[0], seconds=None)
    since, until = bounds(Recording(Path(source.path)))

    first, second, *_ = spans_of(source, since, until, 2 * 10**9)
    assert (first.closes_ns, second.closes_ns) == (second.opens_ns, since + 4 * 10**9)
    assert first.span.endswith("Z/" + second.span.partition("/")[0])
    one, other = (played_alone(block(small, source=each)) for each in (first, second))
    assert (one.since_ns, other.since_ns) == (since, since + 2 * 10**9)
    assert one.until_ns < since + 2 * 10**9 <= other.until_ns
    assert one.equity[0][1] == other.equity[0][1] == 10_000
    with pytest.raises(ConnError, match=r"spans within quickstart, .* got 24 hours as one"):
        spans_of(source, since, until, 24 * 3_600 * 10**9)


def test_of_a_span_only_what_warms_it_up_is_read(small, monkeypatch):
    """Of history the windows before that are passed over; how much is part of its key."""
    source = msgspec.structs.replace(small.sources[0], seconds=None)
    since, until = bounds(Recording(Path(source.path)))
    begun = list[int]()

    def noted(_, at_ns):
        begun.append(at_ns)
        return iter(())

    monkeypatch.setattr(Recording, "since", noted)

    span = spans_of(source, since, until, 2 * 10**9)[1]
    short = msgspec.structs.replace(span, warmup_ns=10**9)
    for one in (source, span, short):
        play_block(block(small, source=one))

    assert begun == [0, since + 2 * 10**9 - 2 * 86_400 * 10**9, since + 10**9]
    assert short.span == f"{span.span}, 1 s before it"


def test_what_a_recorded_run_did_is_no_part_of_a_sweep(small):
    """Its acts and its account are left out; what it carried over is not."""
    frames = [
        Frame(n, n, n, link, kind, text)
        for n, (kind, link, text) in enumerate(
            [
                ("act", "key", "halt"),
                ("state", ACCOUNT, "{}"),
                ("state", "run", "{}"),
                ("ws", "c1", "x"),
            ]
        )
    ]

    assert [frame.kind for frame in frames if blocks._counts(frame)] == ["state", "ws"]


# === Sweeps ===


def test_every_order_and_every_loss_gives_the_same_digest(small, tmp_path):
    """A block that is lost once is tried again, each of its variants by itself."""

    def lose_first(task: Block, result: Any) -> Any:
        return Lost("its worker ended") if len(task.variants) > 1 else result

    straight = swept(small, Here(), tmp_path / "a")
    twisted = swept(small, Twisted(lose_first), tmp_path / "b")

    assert len(straight.swept.outcomes) == 3
    assert straight.swept.digest == twisted.swept.digest
    assert twisted.swept.missing == []


def test_a_sweep_goes_on_with_what_is_there(small, tmp_path):
    """One result and a torn one of another sweep, and workers that twist the order: one digest."""
    straight = swept(small, Here(), tmp_path / "a")
    lines = (tmp_path / "a" / "results.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "results.jsonl").write_bytes(lines[1] + lines[0][:40])

    resumed = swept(small, Twisted(lambda _, result: result), tmp_path / "b")

    assert resumed.swept.digest == straight.swept.digest
    assert resumed.swept.known == 1


def test_variants_of_other_code_are_played_in_other_passes(small, tmp_path, grid):
    """A pass has one model of books and one hash of code; what came of each is found in whole."""
    for name, text in (("a", "{}"), ("b", '{"markets": {}}')):
        (tmp_path / f"{name}.json").write_text(text, encoding="utf-8")
    paths = [str(tmp_path / f"{name}.json") for name in ("a", "b")]
    text = f"paper.book_model: {json.dumps(paths)}\npolicy.max_leverage: [1, 2]\n"
    plan = msgspec.structs.replace(small, grid=read_grid(grid(text)))
    sizes: list[int] = []

    def note(task: Block, result: Any) -> Any:
        sizes.append(len(task.variants))
        return result

    run = swept(plan, Twisted(note), tmp_path / "out")

    assert (sizes, run.swept.missing) == ([1] * 4, [])
    assert len({key.code for key in run.swept.outcomes}) == 2


def test_a_worker_that_answers_for_another_task_is_believed_nothing(small, tmp_path):
    """Results of other keys are no results: these are missing, and named."""

    def lie(task: Block, result: Any) -> Any:
        key = msgspec.structs.replace(result[0].key, recording="0" * 64)
        return [msgspec.structs.replace(result[0], key=key), *result[1:]]

    run = swept(small, Twisted(lie), tmp_path)

    assert run.swept.outcomes == {}
    assert {one.why for one in run.swept.missing} == {
        "expected 1 results of the keys of the task, got 1 of other keys"
    }
    assert (tmp_path / "results.jsonl").read_bytes() == b""


@pytest.mark.replays
def test_a_sampler_asks_for_the_same_whoever_works(small, tmp_path):
    """It is answered in the order of its trials, not of the results."""
    digests = set()
    for name, engine in (("a", Here()), ("b", Twisted(lambda _, result: result))):
        with Results(tmp_path / name) as results, Progress("results", 1) as progress, engine:
            run = Sweep(small, engine, results, progress)
            sampler = Sampled("tpe", small.grid, trials=4, seed=7, directions=["maximize"])
            run.run(sampler)
        digests.add((run.swept.digest, tuple(run.swept.variants)))

    assert len(digests) == 1


# === Samplers ===


@pytest.mark.parametrize("name", ["random", "tpe", "nsga2"])
def test_samplers_draw_by_their_seed(grid, name):
    """The same seed draws the same; values are of the grid, numbers within their span."""
    text = "policy.max_leverage: {low: 1, high: 4}\ndeposit: {low: 1, high: 9, step: 2}\n"
    text += "signals.momentum.fast: {low: 1.0, high: 9.0, log: true}\nstrategy: [rank, carry]\n"
    found = read_grid(grid(text))

    def drawn(seed: int) -> list[dict[str, Any]]:
        sampler = Sampled(name, found, trials=23, seed=seed, directions=["maximize"])
        first = sampler.ask()
        sampler.tell([None if n % 5 == 0 else (float(n),) for n in range(len(first))])
        return [*first, *sampler.ask()]

    assert drawn(1) == drawn(1) != drawn(2)
    assert len(drawn(1)) == 23
    assert {one["strategy"] for one in drawn(1)} == {"rank", "carry"}
    assert {one["deposit"] for one in drawn(1)} <= {1, 3, 5, 7, 9}
    assert {one["policy.max_leverage"] for one in drawn(1)} <= {1, 2, 3, 4}


def test_one_sampler_takes_one_objective():
    """Several have no single best to go towards."""
    with pytest.raises(ConnError, match="expected one objective for cmaes, got 2"):
        sampler_of("cmaes", 0, 2)


# === Results ===


def figures(profit: float, drawdown: float = 0.1, equity: Sequence[float] = ()) -> RunFigures:
    """Return figures of a run."""
    total = Figures(profit=profit, max_drawdown=drawdown, max_drawdown_share=drawdown / 1e4)
    points = tuple((n * 3_600 * 10**9, worth) for n, worth in enumerate(equity))
    return RunFigures(
        run_hash="r", fidelity="book", optimism=None, since_ns=0, until_ns=1, total=total,
        markets={}, equity=points,
    )  # fmt: skip


def outcome(config: str, profit: float = 1.0, **more: Any) -> Outcome:
    """Return a result of a variant."""
    key = Key("rec", "", config, "code")
    return Outcome(key=key, changes={"policy.max_leverage": 2}, figures=figures(profit, **more))


def test_results_that_cannot_be_read_are_made_again(tmp_path):
    """A torn last line is cut off; what is no result is left out, and counted."""
    with Results(tmp_path) as results:
        results.add([outcome("a"), outcome("b"), outcome("a")])
    path = tmp_path / "results.jsonl"
    whole = path.read_bytes()
    path.write_bytes(b"{nonsense}\n" + whole + whole[:30])

    with Results(tmp_path) as again:
        found, torn = dict(again.found), again.torn
        again.add([outcome("c")])

    assert [key.config for key in found] == ["a", "b"]
    assert torn == 2
    assert path.read_bytes().count(b"\n") == 4


def test_a_result_that_was_edited_is_made_again(tmp_path):
    """Each line has its sum: no figure but the one that was found ranks."""
    with Results(tmp_path) as results:
        results.add([outcome("a", profit=1.0), outcome("b", profit=2.0)])
    path = tmp_path / "results.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"profit":2.0', b'"profit":9.0'))

    with Results(tmp_path) as again:
        assert ([key.config for key in again.found], again.torn) == (["a"], 1)


def test_one_sweep_at_a_time_writes_to_a_folder(tmp_path):
    """A second one is refused, and named what to type."""
    with Results(tmp_path), pytest.raises(ConnError, match=r"got another sweep .* --out DIR"):
        Results(tmp_path).__enter__()


def test_a_full_disk_ends_a_sweep_and_what_is_written_stays(tmp_path):
    """No half line is left, and the words name how many are there."""

    class Full:
        def __init__(self, file: Any) -> None:
            self.file, self.first = file, 0

        def write(self, content: bytes) -> int:
            if len(content) < self.first:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.first = len(content)
            return int(self.file.write(content[:10]))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    with Results(tmp_path) as results:
        results.add([outcome("a")])
        before = results.path.read_bytes()
        results._file, real = Full(results._file), results._file  # type: ignore[assignment]
        with pytest.raises(ConnError, match="got no space left on device; 1 are in it"):
            results.add([outcome("b")])
        real.close()

    assert results.path.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    """A file stands where the folder would be."""
    (tmp_path / "file").touch()

    with pytest.raises(ConnError, match=r"expected to write to .*results.jsonl, got"):
        Results(tmp_path / "file")


def test_the_digest_is_over_results_and_not_their_order():
    """Who is done first is no part of it; what was found is."""
    one, other = outcome("a"), outcome("b")

    assert digest_of([one, other]) == digest_of([other, one])
    assert digest_of([one]) != digest_of([outcome("a", 2.0)])


def test_the_table_is_sorted_by_key(tmp_path):
    """Each setting and each figure is a column."""
    import pyarrow.parquet

    path = tmp_path / "results.parquet"
    assert write_table(path, [outcome("b"), outcome("a", 3.0)], {"rec": "monday"}) == ""

    rows = pyarrow.parquet.read_table(path).to_pylist()
    assert [(row["config"], row["profit"], row["name"]) for row in rows] == [
        ("a", 3.0, "monday"), ("b", 1.0, "monday"),
    ]  # fmt: skip
    assert rows[0]["policy.max_leverage"] == 2
    assert "expected to write" in write_table(tmp_path / "no" / "x", [outcome("a")], {})


# === Ranking ===


def of_results(plan: Plan, results: dict[str, RunFigures], code: str) -> tuple[Any, Plan]:
    """Return what a sweep of these figures would have found."""
    from bot.sweep.run import Swept

    source = plan.sources[0]
    found = Swept()
    for config, each in results.items():
        key = Key(source.sha256, source.span, config, code)
        found.variants[config] = Variant({"policy.max_leverage": len(config)}, config)
        found.outcomes[key] = Outcome(key=key, changes={}, figures=each)
    return found, plan


def test_those_on_the_front_come_first(small):
    """More profit or less drawdown: no other variant has both; what failed is last."""
    plan = msgspec.structs.replace(small, objectives=("profit", "max_drawdown"))
    made = {
        "most": figures(9.0, 5.0), "safe": figures(2.0, 1.0), "beaten": figures(8.0, 6.0),
        "none": msgspec.structs.replace(figures(0.0), total=Figures()),
    }  # fmt: skip

    rows = ranked(*of_results(plan, made, code_of(BASE)))

    assert [(row.config_hash, row.on_front) for row in rows] == [
        ("most", True), ("safe", True), ("beaten", False), ("none", False),
    ]  # fmt: skip


def test_by_one_objective_the_best_is_first_and_the_front_is_of_it_and_drawdown(small):
    """What earned less is on the front where it fell less, too, and stands by what it earned."""
    falls = {"most": (9.0, 0.05), "beaten": (8.0, 0.06), "safe": (2.0, 0.01)}
    made = {
        name: msgspec.structs.replace(
            figures(profit), total=Figures(profit=profit, max_drawdown_share=share)
        )
        for name, (profit, share) in falls.items()
    }
    plan = msgspec.structs.replace(small, objectives=("profit",))

    rows = ranked(*of_results(plan, made, code_of(BASE)))

    assert [(row.config_hash, row.on_front) for row in rows] == [
        ("most", True), ("beaten", False), ("safe", True),
    ]  # fmt: skip


def test_luck_is_unknown_where_there_is_too_little(small):
    """Two points are one return: no interval, no share."""
    made = {name: figures(1.0, equity=[100.0, 101.0]) for name in ("a", "b")}
    found, plan = of_results(small, made, code_of(BASE))

    luck = overfit(found, plan, ranked(found, plan))

    assert (luck.trials, luck.deflated, luck.chosen) == (2, None, None)
    assert intervals(found, plan, "a")["return"].low is None


def test_luck_is_reckoned_over_all_variants(small):
    """With days of hours there are intervals, and how often the best goes on to be good."""
    hours = range(100)
    made = {
        name: figures(1.0, equity=[100.0 + (n * slope) % 7 + n * drift for n in hours])
        for name, slope, drift in (("up", 3, 0.5), ("flat", 5, 0.0), ("down", 2, -0.5))
    }
    found, plan = of_results(small, made, code_of(BASE))

    luck = overfit(found, plan, ranked(found, plan))

    assert luck.chosen is not None
    assert luck.chosen.halves == 252
    assert luck.deflated is not None
    assert intervals(found, plan, "up")["return"].low is not None


def test_luck_is_put_in_words():
    """Intervals, the chance against the best of luck, and how often the best stays good."""
    found = Overfit(
        hours=48.0, trials=12, deflated=0.5,
        chosen=Overfitting(probability=0.25, lost=0.5, halves=252),
    )  # fmt: skip

    rows = dict(luck_rows(found, {"return": Interval(value=0.1, low=-0.2, high=0.3)}))

    assert rows == {
        "return": "of the best 0.1, 95 of 100 samples within -0.2 and 0.3",
        "deflated": "50 % that it is better than the best of 12 by luck",
        "overfitting": "25 %: how often the best of half the time is among the worse of the other "
        "half",
    }


# === Command ===


def typed(path: Path, out: Path, *more: str) -> list[str]:
    """Return a sweep as it is typed."""
    words = ["sweep", str(path), "quickstart", "--seconds", "2", "--engine", "here"]
    return [*words, "--out", str(out), *more]


def test_a_sweep_leaves_results_a_page_a_row_each_and_a_file_of_settings(grid, tmp_path, capsys):
    """What it prints names all of it; a second time everything is known; the file can be used."""
    path, out, database = grid(GRID), tmp_path / "out", tmp_path / "bot.db"

    assert main([*typed(path, out), "--database", str(database)]) == 0
    first = capsys.readouterr().out
    assert main([*typed(path, out, "--json"), "--database", str(database)]) == 0
    second = json.loads(capsys.readouterr().out)

    assert "sweep        grid: 2 settings, 6 variants" in first
    assert f"hash {second['results_hash']}" in first
    assert "max_leverage  gross_share" in first
    assert f"page         {out}/front.html" in first
    assert f"next         bot backtest {out}/best.yaml quickstart --report-html" in first
    assert {path.name for path in out.iterdir()} == {
        "results.jsonl", "results.parquet", "front.html", "best.yaml",
    }  # fmt: skip
    with sqlite3.connect(database) as connection:
        rows = connection.execute("select count(*), min(name) from sweep_results").fetchall()
    assert rows == [(6, "quickstart")]
    chosen = load(path=out / "best.yaml", environment={})
    assert chosen.hash == second["variants"][0]["config_hash"]


@pytest.mark.parametrize(
    ("words", "got"),
    [
        (["{grid}"], "expected a recording or more"),
        (["{grid}", "quickstart", "quickstart"], "expected each recording once"),
        (["{grid}", "quickstart", "--objective", "profits"], "did you mean profit"),
        (["{grid}", "quickstart", "--objective", ","], "each once"),
        (["{grid}", "quickstart", "--trials", "3"], "which tries all"),
        (["{grid}", "quickstart", "--engine", "moon"], "expected an engine"),
        (["{grid}", "quickstart", "--span", "soon"], "expected a span such as 1d"),
        (["{grid}", "quickstart", "--span", "1h"], "got 1 hours as one"),
        (["{grid}", "quickstart", "--span", "9s", "--seconds", "9"], "--span or --seconds"),
        (["{grid}", "quickstart", "--engine", "dask://10.0.0.1:1"], "mutual TLS"),
        (["nowhere.yaml", "quickstart"], "expected a configuration that can be read"),
        (["{grid}", "quickstart", "--strategy", "gone.py"], "gone.py"),
        (["certs"], "expected bot sweep certs DIR, got 0 words"),
        (["scheduler", "10.0.0.1:8786"], "mutual TLS is needed"),
        (["worker", "10.0.0.1:8786"], "mutual TLS is needed"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_runs(grid, tmp_path, capsys, words, got):
    """One line says what was expected; nothing is written."""
    path = grid("policy.max_leverage: [1, 2]\n")
    out = tmp_path / "out"

    code = main(["sweep", *(word.format(grid=path) for word in words), "--out", str(out)])

    assert code == 2
    assert got in capsys.readouterr().err
    assert not out.exists() or [*out.iterdir()] == [out / "results.jsonl"]


def test_ctrl_c_keeps_what_is_finished(grid, tmp_path, capsys, monkeypatch):
    """It exits with 130, prints what is known so far, and how to go on."""

    def interrupted(self: Any, function: Any, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        yield 0, function(tasks[0])
        raise KeyboardInterrupt

    monkeypatch.setattr(Here, "run", interrupted)
    monkeypatch.setattr(Here, "workers", 3)

    code = main([*typed(grid(GRID), tmp_path / "out"), "--database", "none"])

    assert code == 130
    printed = capsys.readouterr().out
    assert "ended early: the same command goes on with what is there" in printed
    assert (tmp_path / "out" / "results.jsonl").read_bytes().count(b"\n") == 1


def test_certificates_are_made_by_a_command(tmp_path, capsys):
    """Each file that was written is named; they are for their owner alone."""
    assert main(["sweep", "certs", str(tmp_path / "certs")]) == 0

    made = [*(tmp_path / "certs").iterdir()]
    assert len(made) == 7
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o600}
    assert "ca.pem, scheduler.pem" in capsys.readouterr().out
