"""Nothing that can be in a snapshot, at any size, stops or overflows the drawing."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, Literal, get_args, get_origin

import dydx_panels
import msgspec
import pytest
from dydx_conn import PerpetualMarket
from dydx_panels import KEYS, HeaderPart, SafetyPart, Snapshot, Theme, View, dashboard, panel
from dydx_risk import (
    Exit,
    FlightPlan,
    FlightPolicy,
    Holding,
    RiskFigures,
    StressTable,
    Watch,
    stress_table,
)
from dydx_strategy import RankSettings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import fields, replace
from rich.cells import cell_len

# Sizes and values by the hundred: which lines they reach is the other files' to show.
pytestmark = pytest.mark.no_cover

NAMES = (*KEYS.values(), "header", "banner", "footer", "help", "why")
_TEXT = st.text(max_size=30) | st.sampled_from(["ETH-USD", "SELL", "ACTIVE", "denied", "PAPER"])
_BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    str: _TEXT,
    int: st.integers(-(2**63), 2**63),
    float: st.floats() | st.floats(-2, 2),
    bool: st.booleans(),
    bytes: st.binary(max_size=9),
    type(None): st.none(),
    Decimal: st.decimals(allow_nan=False, allow_infinity=False, places=3) | st.sampled_from(
        [Decimal(0), Decimal("-1e-12"), Decimal("1e30")]),
    # The grid of a market is of the chain's making: any grid the chain allows.
    PerpetualMarket: st.builds(
        PerpetualMarket, ticker=_TEXT, clob_pair_id=st.just(0), perpetual_id=st.just(0),
        atomic_resolution=st.integers(-20, 2), quantum_conversion_exponent=st.integers(-20, 2),
        step_base_quantums=st.integers(1, 10**12), subticks_per_tick=st.integers(1, 10**12),
        imf_ppm=st.just(50_000), maintenance_fraction_ppm=st.just(600_000)),
    msgspec.Raw: st.just(msgspec.Raw(b"")),
    FlightPolicy: st.just(FlightPolicy()),
    RankSettings: st.just(RankSettings()),
}  # fmt: skip
_AMOUNTS, _POWERS = st.integers(-(2**70), 2**70), st.integers(-12, 6)
_FLOATS = st.none() | st.floats()
# A table is of risk's making, of any holdings; so is the oracle price of an exit.
_BY_TYPE[StressTable] = st.builds(
    stress_table,
    _AMOUNTS,
    st.lists(
        st.builds(
            Holding, market=_BY_TYPE[PerpetualMarket], quantums=_AMOUNTS,
            price=st.none() | st.integers(1, 10**12), exponent=_POWERS,
            funding_8h_ppm=st.none() | st.integers(-(2**40), 2**40),
            volatility_1h=_FLOATS, beta=_FLOATS | st.floats(-3, 3)),
        max_size=3, unique_by=lambda holding: holding.ticker),
)  # fmt: skip
_BY_TYPE[Exit] = st.builds(
    Exit, market=_BY_TYPE[PerpetualMarket], held=_AMOUNTS, price=st.integers(1, 10**12),
    exponent=_POWERS, size=_AMOUNTS, fee_ppm=st.just(500), bound=_AMOUNTS, best=_AMOUNTS,
)  # fmt: skip


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Make any value of an annotated type: scalars, unions, tuples and the snapshot's parts."""
    if kind in _BY_TYPE:
        return _BY_TYPE[kind]
    arguments = getattr(kind, "__args__", None)
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if get_origin(kind) is Mapping:
        return st.dictionaries(*map(values, get_args(kind)), max_size=2)
    if get_origin(kind) is frozenset:
        return st.frozensets(values(get_args(kind)[0]), max_size=3)
    if get_origin(kind) is Sequence:
        return st.lists(values(get_args(kind)[0]), max_size=3)
    if get_origin(kind) is frozenset:
        return st.frozensets(values(get_args(kind)[0]), max_size=3)
    if arguments is None:
        parts = {field.name: values(field.type) for field in fields(kind)}
        return st.fixed_dictionaries(parts).map(lambda known: kind(**known))
    if getattr(kind, "__origin__", None) is not tuple:
        return st.one_of(*map(values, arguments))
    if arguments[-1] is Ellipsis:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    return st.tuples(*map(values, arguments))


ANY_WATCH, ANY_SAFETY = values(Watch), values(SafetyPart)
# Any watch has a test of its own: in a snapshot it would be most of it.
_BY_TYPE[Watch] = st.just(
    Watch(seq=1, at=1, trouble="", figures=RiskFigures(), stress=stress_table(0, ()),
          plan=FlightPlan())
)  # fmt: skip
_PARTS: Final = {field.name: values(field.type) for field in fields(Snapshot)}


def snapshots(count: int = 10) -> st.SearchStrategy[Snapshot]:
    """Make a snapshot of which some parts are anything: all at once would be too much to draw."""
    chosen = st.lists(st.sampled_from([*_PARTS]), max_size=count, unique=True)
    return chosen.flatmap(
        lambda names: st.fixed_dictionaries({name: _PARTS[name] for name in names})
    ).map(lambda known: Snapshot(**known))


ANY = {Snapshot: snapshots(), View: values(View)}
VIEWS = st.builds(
    View,
    panel=st.sampled_from(["", *NAMES]),
    selected=st.integers(-1, 9),
    scroll=st.integers(0, 9),
    filter=st.sampled_from(["", "e", "USD"]),
    filtering=st.booleans(),
    paused=st.booleans(),
    help=st.booleans(),
    why=st.lists(_TEXT, max_size=3).map(tuple),
)
THEMES = st.builds(Theme, unicode=st.booleans(), colours=st.sampled_from(["", "truecolor", "256"]))


@settings(max_examples=20)
@given(ANY[Snapshot], VIEWS, st.integers(20, 400), st.integers(5, 120), THEMES)
def test_any_snapshot_fills_any_screen_exactly(
    snapshot: Snapshot, view: View, width: int, height: int, theme: Theme
) -> None:
    """From 20 by 5 to 400 by 120: as many rows as requested, each as wide as requested."""
    rows = dashboard(snapshot, view, width, height, theme).text.split("\n")

    assert height == len(rows)
    assert {width} == {cell_len(row) for row in rows}


@settings(max_examples=25)
@given(ANY[Snapshot], ANY[View], THEMES)
def test_any_view_fills_the_screen_exactly(snapshot: Snapshot, view: View, theme: Theme) -> None:
    """What was typed or scrolled may be anything too."""
    rows = dashboard(snapshot, view, 120, 40, theme).text.split("\n")

    assert [120] * 40 == [cell_len(row) for row in rows]


@settings(max_examples=50)
@given(ANY[Snapshot], st.integers(1, 130), st.integers(1, 40))
def test_any_panel_fits_any_size(snapshot: Snapshot, width: int, height: int) -> None:
    """A panel alone has no least size."""
    for name in NAMES:
        rows = panel(name, snapshot, width, height).text.split("\n")

        assert [width] * height == [cell_len(row) for row in rows]


@settings(max_examples=40)
@given(ANY_WATCH, ANY_SAFETY, st.integers(1, 130), st.integers(1, 40), st.integers(-1, 5))
def test_any_watch_fits_any_size(
    watch: Watch, safety: SafetyPart, width: int, height: int, selected: int
) -> None:
    """Whatever risk reports, its panels have the size requested, and so has the widest screen."""
    snapshot = Snapshot(watch=watch, safety=safety)

    for name in ("safety", "flight", "stress"):
        view = View(panel=name, selected=selected)
        rows = panel(name, snapshot, width, height, view).text.split("\n")

        assert [width] * height == [cell_len(row) for row in rows]
    whole = dashboard(snapshot, View(), 200, 60).text.split("\n")

    assert [200] * 60 == [cell_len(row) for row in whole]


@pytest.mark.parametrize("width", range(20, 210, 17))
def test_every_height_is_filled(full: Snapshot, width: int) -> None:
    """No pair of sizes falls between two layouts."""
    for height in range(5, 70):
        rows = dashboard(full, View(), width, height).text.split("\n")

        assert [width] * height == [cell_len(row) for row in rows]


# Two whole snapshots are large, however little they hold.
_LARGE = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]


@settings(max_examples=3, suppress_health_check=_LARGE)
@given(st.tuples(ANY[Snapshot], ANY[Snapshot]), VIEWS)
def test_a_memo_never_changes_the_picture(snapshots: tuple[Snapshot, Snapshot], view: View) -> None:
    """Remembering panels is an economy and nothing else, also when an older picture comes back."""
    memo: Any = {}

    for snapshot in snapshots * 2:
        fresh = dashboard(snapshot, view, 200, 60).text

        assert fresh == dashboard(snapshot, view, 200, 60, memo=memo).text


@pytest.mark.parametrize("name", NAMES)
def test_a_panel_is_drawn_again_whatever_it_shows_has_changed(full: Snapshot, name: str) -> None:
    """A remembered panel is the panel of this snapshot, part by part."""
    view = View(panel=name, why=("D42",) if name == "why" else ())

    for field in fields(Snapshot):
        memo: Any = {}
        dashboard(full, view, 120, 40, memo=memo)
        changed = replace(full, **{field.name: getattr(Snapshot(), field.name)})

        assert dashboard(changed, view, 120, 40) == dashboard(changed, view, 120, 40, memo=memo)


def test_a_panel_is_not_drawn_again_for_what_it_does_not_show(full: Snapshot) -> None:
    """The same rows, not equal ones: nothing was drawn."""
    memo: Any = {}
    view = View(panel="markets")
    before = dashboard(full, view, 120, 40, memo=memo)
    after = dashboard(replace(full, header=HeaderPart(), tape=()), view, 120, 40, memo=memo)

    assert before.rows[0] != after.rows[0]
    assert all(a[0] is b[0] for a, b in zip(before.rows[1:-1], after.rows[1:-1], strict=True))


def test_what_is_public_is_named() -> None:
    """`__all__` holds each name once, and each exists."""
    names = dydx_panels.__all__

    assert len(names) == len(set(names))
    assert [] == [name for name in names if not hasattr(dydx_panels, name)]
