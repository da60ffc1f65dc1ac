"""Recorded sessions, as the tests of each layer replay them.

    recordings/localnet/NAME/{frames.jsonl.zst, truth.json} ──► Session: its frames, its truth

`REAL` are the sessions of the real dYdX software, in order of their names. Frames and truth are
read once, when first used; nobody may change them.
"""

import gc
import importlib
import json
import pkgutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import pytest
from dydx_conn import (
    ChainAccount,
    ChainMarket,
    ChainPosition,
    ChainState,
    Frame,
    Recording,
    Subaccount,
    market_parameters,
)
from leaks import look_out

RECORDINGS: Final = Path(__file__).resolve().parent.parent / "recordings"


@dataclass(frozen=True)
class Session:
    """One recorded session; `str` gives its short name."""

    folder: Path

    def __str__(self) -> str:
        return self.folder.name

    @cached_property
    def frames(self) -> tuple[Frame, ...]:
        """All frames, in order."""
        return tuple(Recording(self.folder / "frames.jsonl.zst"))

    @cached_property
    def truth(self) -> dict[str, Any]:
        """What the node and the indexer's database held at block `true_at_block`."""
        truth: dict[str, Any] = json.loads((self.folder / "truth.json").read_text())
        return truth

    @cached_property
    def chain(self) -> ChainState:
        """What the node held then, as a query of it without a key answers."""
        height, markets = self.truth["true_at_block"], self.truth["markets"]
        accounts = {
            subaccount_named(name): _held(state, height, markets)
            for name, state in self.truth["state"].items()
        }
        rows = {ticker: _market(ticker, row) for ticker, row in markets.items()}
        return ChainState(self.truth["chain_id"], height, 0, accounts, rows)


def subaccount_named(name: str) -> Subaccount:
    """Read OWNER/N."""
    owner, _, number = name.partition("/")
    return Subaccount(owner, int(number))


def _held(state: dict[str, Any], height: int, markets: dict[str, Any]) -> ChainAccount:
    # What was settled at that block has its market's index; of other positions it is the truth's.
    rows = tuple(
        ChainPosition(
            row["ticker"], row["quantums"], markets[row["ticker"]]["atomic_resolution"],
            row["funding_index"], row["funding_index"],
        )
        for row in state["positions"]
    )  # fmt: skip
    return ChainAccount(height, state["usdc_quantums"] + state["quote_balances"], rows)


def _market(ticker: str, row: dict[str, Any]) -> ChainMarket:
    market = market_parameters(
        ticker, atomic_resolution=row["atomic_resolution"], imf_ppm=row["initial_margin_ppm"],
        maintenance_fraction_ppm=row["maintenance_fraction_ppm"],
        open_interest_lower_cap=int(row["oi_lower_cap"]),
        open_interest_upper_cap=int(row["oi_upper_cap"]),
    )  # fmt: skip
    interest = int(row["open_interest_quantums"])
    return ChainMarket(market, row["oracle_price"], row["oracle_exponent"], interest, 0)


REAL: Final = tuple(
    Session(file.parent) for file in sorted((RECORDINGS / "localnet").glob("*/truth.json"))
)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """Collect tests without the tracer, having imported under it what they test.

    To read tests and to rewrite their assertions takes more than twice as long under it.
    """
    plugin: Any = session.config.pluginmanager.getplugin("_cov")
    controller = _controller(session.config)
    if controller is None or not controller.started:
        return (yield)
    for name in _measured(plugin.options.cov_source):
        importlib.import_module(name)
    controller.pause()
    try:
        return (yield)
    finally:
        controller.resume()


def _controller(config: pytest.Config) -> Any:
    """Return what starts and stops the tracer, None in a run without coverage."""
    return getattr(config.pluginmanager.getplugin("_cov"), "cov_controller", None)


def _measured(sources: Iterable[str | Path]) -> Iterator[str]:
    """Name the modules whose coverage is wanted, of packages or of their folders."""
    for source in sources:
        package = importlib.import_module(Path(source).name)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith(".env"):  # Alembic's migrates where it is imported
                yield module.name


def pytest_collection_modifyitems(config: pytest.Config, items: Iterable[pytest.Item]) -> None:
    """Replay recordings and try properties without the tracer, which takes as long as they do.

    A layer's coverage is that of its other tests; a conftest takes this hook up by importing it.
    In a file of another name a test that plays a recording whole says so by the mark `replays`.
    What a property comes to is chance, and no coverage, but in a file of the mark `traced`: a few
    are quick, and reach what no other test does; so do a few fixtures (Untraced). A file that
    sweeps through sizes has pytest-cov's own mark, `no_cover`. Where a run notes which test reaches
    which line, it wants to know it of these as well. No secret may come out of any (leaks).
    """
    look_out(config)
    # What was imported stays, and what a replay makes is soon gone: to walk both less often takes
    # a tenth off all tests.
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    controller = _controller(config)
    if config.getoption("no_cov", False):
        config.pluginmanager.unregister(name="_cov")  # a test of its mark fails without a tracer
    elif controller is not None and not config.getoption("cov_context"):
        config.pluginmanager.register(Untraced(controller))
        for item in items:
            whole = item.path.name.startswith(("test_sessions", "test_recording"))
            chance = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
            chance = chance and not item.get_closest_marker("traced")
            if whole or chance or item.get_closest_marker("replays"):
                item.add_marker("no_cover")


class Untraced:
    """Makes also what a test without the tracer needs without it, and what several tests share.

    A run that a fixture plays for a module is as long as a test that plays it.
    """

    def __init__(self, controller: Any) -> None:
        self._controller = controller
        self._paused = False

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        """Pause the tracer for the fixtures of a test that is not traced."""
        if not item.get_closest_marker("no_cover"):
            return (yield)
        with self._pause():
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Iterator[None]:
        """Pause the tracer for a fixture that is made once for several tests.

        Not in a file of the mark `traced`: what it makes is what no test reaches.
        """
        is_traced = request.node.get_closest_marker("traced")
        if fixturedef.scope == "function" or is_traced or self._paused:
            return (yield)
        with self._pause():
            return (yield)

    @contextmanager
    def _pause(self) -> Iterator[None]:
        self._controller.pause()
        self._paused = True
        try:
            yield
        finally:
            self._paused = False
            self._controller.resume()
