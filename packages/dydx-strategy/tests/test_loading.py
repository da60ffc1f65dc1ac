"""Strategies by name, by file and by module, and the errors of those that are none."""

import sys
from pathlib import Path

import pytest
from dydx_strategy import (
    Decider,
    Holdings,
    RankAndTarget,
    Sniper,
    Strategy,
    StrategyError,
    load_allocator,
    load_strategy,
)
from market import Account, Market

ONE_FILE = """
from dataclasses import dataclass
from dydx_strategy import Decision

@dataclass
class Always:
    name: str = "always"

    def step(self, scored, held):
        yield Decision.of(scored, 100.0, "because")

def strategy():
    return Always()
"""


def written(folder: Path, text: str, name: str = "mine.py") -> Path:
    """Write a user's file."""
    path = folder / name
    path.write_text(text)
    return path


def test_the_houses_strategies_are_known_by_name():
    """`rank` and `sniper` need no file."""
    assert isinstance(load_strategy("rank")(), RankAndTarget)
    assert isinstance(load_strategy("sniper")(), Sniper)


def test_a_file_with_a_strategy_function_is_a_strategy(tmp_path):
    """One file is enough, and each call makes a new one."""
    make = load_strategy(written(tmp_path, ONE_FILE))
    [decision] = make().step(Market().scored(0), Holdings())

    assert isinstance(make(), Strategy)
    assert make() is not make()
    assert (decision.target_usdc, decision.reasons) == (100.0, ("because",))


def test_the_example_of_the_readme_decides_only_when_something_changes(tmp_path):
    """It goes by what is held in each market: what a user copies must be good to copy."""
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    example = readme.split("```python\n")[1].split("```")[0]
    decider, market = Decider(load_strategy(written(tmp_path, example))), Market()
    account, made = Account(), []
    for at, value in enumerate([30.0, 4.0, 3.0, 30.0, 61.0, 70.0]):
        decider.step(account.held)
        made += account.take(decider.step(market.scored(at, momentum=value)))

    assert decider.step(market.scored(9)) == []
    assert [(one.previous_usdc, one.target_usdc, one.reasons) for one in made] == [
        (0.0, 1_000.0, ("momentum 4, below 5",)),
        (1_000.0, 0.0, ("momentum 61, above 60",)),
    ]


OLD = """
class Old:
    name = "old"

    def step(self, scored):
        return ()

strategy = Old
"""


def test_a_file_of_an_older_version_is_refused_with_what_is_expected_now(tmp_path):
    """`step` took the scores alone; what is held comes beside them."""
    expected = (
        r"expected step\(scored, held\) in .*mine.py, got step\(scored\): the second argument"
    )

    with pytest.raises(StrategyError, match=expected):
        load_strategy(written(tmp_path, OLD))


def test_a_step_without_a_signature_is_tried(tmp_path):
    """Some callables of C do not; they are found out when they are called."""
    text = "from types import SimpleNamespace as N\nstrategy = lambda: N(name='c', step=iter)"

    assert load_strategy(written(tmp_path, text))().name == "c"


def test_an_importable_module_is_a_strategy(tmp_path, monkeypatch):
    """A module path works as a file path does."""
    written(tmp_path, ONE_FILE, "strategy_for_a_test.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        assert load_strategy("strategy_for_a_test")().name == "always"
    finally:
        sys.modules.pop("strategy_for_a_test", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", r"expected .*mine.py to define strategy\(\), got nothing"),
        ("strategy = 1", r"to define strategy\(\), got a int"),
        ("import nowhere_at_all", "to run, got ModuleNotFoundError: No module"),
        ("def strategy(:", "to run, got SyntaxError"),
        ("def strategy(): 1 / 0", r"to return a strategy, got ZeroDivisionError"),
        ("import sys; sys.exit()", "to run, got SystemExit$"),
        ("import sys\ndef strategy(): sys.exit(3)", "a strategy, got SystemExit: 3"),
        ("def strategy(): pass", r"with a name and step\(scored, held\), got nothing"),
        ("def strategy(): return 7", r"with a name and step\(scored, held\), got a int"),
        ("def strategy(x): return x", "to return a strategy, got TypeError"),
    ],
)
def test_a_file_that_is_no_strategy_is_refused_with_what_it_was(tmp_path, text, message):
    """The user's own mistakes are named, in the user's own file."""
    with pytest.raises(StrategyError, match=message):
        load_strategy(written(tmp_path, text))


@pytest.mark.parametrize(
    ("signals", "message"),
    [
        ('("momentum", "volume")', None),
        ('("momentum", "volumes")', "got 'volumes': did you mean 'volume'\\?$"),
        ('("momentum", "mine")', "read signals \\(momentum, .*\\), got 'mine'$"),
        ('"momentum"', "to list its signals, got a str$"),
        ("7", "to list its signals, got a int$"),
    ],
)
def test_a_strategy_reads_what_is_scored(tmp_path, signals, message):
    """A misspelt name is refused with the nearest: it would be absent for ever."""
    text = ONE_FILE.replace("name: str", f"signals = {signals}\n    name: str")
    path = written(tmp_path, text)

    if message is None:
        assert load_strategy(path)().name == "always"
    else:
        with pytest.raises(StrategyError, match=message):
            load_strategy(path)


def test_what_is_scored_besides_may_be_read_too(tmp_path):
    """A run with engines of a user's own has their names as well."""
    path = written(tmp_path, ONE_FILE.replace("name: str", 'signals = ("mine",)\n    name: str'))

    assert load_strategy(path, ["momentum", "mine"])().name == "always"


def test_a_file_may_begin_at_home(tmp_path, monkeypatch):
    """Also among several, in a list that no shell has read."""
    monkeypatch.setenv("HOME", str(tmp_path))
    written(tmp_path, ONE_FILE)

    alone = load_strategy("~/mine.py")()
    among = load_allocator({"strategies": [{"use": "~/mine.py"}, {"use": "rank"}]})()

    assert (alone.name, [part.use for part in among.settings.strategies]) == (
        load_strategy(tmp_path / "mine.py")().name, ["~/mine.py", "rank"],
    )  # fmt: skip


@pytest.mark.parametrize("name", ["nowhere/mine.py", "mine.py"])
def test_a_missing_file_is_named(name):
    """A wrong path is the commonest mistake."""
    with pytest.raises(StrategyError, match=f"got no file {name}"):
        load_strategy(name)


def test_a_file_of_another_kind_is_refused(tmp_path):
    """YAML is settings, not a strategy."""
    with pytest.raises(StrategyError, match=r"ending in \.py, got .*mine\.yaml"):
        load_strategy(written(tmp_path, "a: 1", "mine.yaml"))


@pytest.mark.parametrize("name", ["rnak", "", "..", "no.such.module"])
def test_an_unknown_name_lists_the_known_ones(name):
    """A mistyped name gets help, not a traceback."""
    with pytest.raises(
        StrategyError, match=r"expected a strategy \(rank, sniper, reversion, carry, pairs\)"
    ):
        load_strategy(name)


def test_a_misspelt_strategy_is_refused_with_the_nearest():
    """Whoever mistypes a name is shown which one it may be."""
    with pytest.raises(StrategyError, match="got 'snipper': did you mean 'sniper'\\?"):
        load_strategy("snipper")


@pytest.mark.parametrize(
    ("text", "raised"),
    [("1 / 0", "ZeroDivisionError: division"), ("raise SystemExit(1)", "SystemExit: 1")],
)
def test_a_module_that_breaks_on_import_is_refused(tmp_path, monkeypatch, text, raised):
    """What its import raised is in the message."""
    written(tmp_path, text, "broken_strategy_for_a_test.py")
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(StrategyError, match=f"to import, got {raised}"):
        load_strategy("broken_strategy_for_a_test")
