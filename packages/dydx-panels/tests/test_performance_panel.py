"""What trading came to: each trade, all of them, and what fills have cost; costs are negative."""

import pytest
from dydx_panels import EquityPart, PerformancePart, Snapshot, Theme, View, panel, selectable
from msgspec.structs import replace

VIEW = View(panel="performance")


def drawn(snapshot: Snapshot, width: int = 140, height: int = 40) -> str:
    """Draw the panel alone."""
    return panel("performance", snapshot, width, height, VIEW).text


def test_figures_and_trades_stand_together(full: Snapshot) -> None:
    """Expectancy, payoff, best and worst, sizes and times, each trade with its frames."""
    text = drawn(full)

    assert "expectancy -12.04 USDC a trade" in text
    assert "best +31.20 ETH-USD" in text
    assert "worst -61.00 BTC-USD" in text
    assert "1.3 min to 1.1 h, median 2.0 min" in text
    assert "#40001 to #41001" in text
    assert selectable(full, VIEW) == ("ETH-USD", "SOL-USD", "ETH-USD", "BTC-USD")


def test_what_is_not_known_of_a_trade_is_unknown(full: Snapshot) -> None:
    """A market of an unknown grid has no size, a liquidation may have no exit."""
    sol, btc = (next(line for line in drawn(full).split("\n") if f"  {ticker}  " in line and "#4" in line) for ticker in ("SOL-USD", "BTC-USD"))  # fmt: skip

    assert "unknown" in sol
    assert "unknown" in btc


def test_profits_are_counted_in_bars_of_one_width(full: Snapshot) -> None:
    """Four trades from -61 to 31 in bars of 10, empty ones too."""
    text = drawn(full, 140, 50)

    assert "PROFIT OF A TRADE, USDC" in text
    assert "from      -70 █" in text
    assert "from      -60\n" in "\n".join(line.strip("│ ") for line in text.split("\n"))
    assert "from       30 █" in text


def test_the_newest_fills_stand_under_all_of_it(full: Snapshot) -> None:
    """Real samples, where there is room: each beside the mid that it met."""
    text = drawn(full, 140, 60)

    assert "NEWEST FILLS" in text
    assert "ETH-USD   BUY  1.400 at 3,012.6 taker fee -2.11" in text


def test_taking_and_making_cost_apart(full: Snapshot) -> None:
    """Fees and slippage in USDC and basis points, as negative money."""
    text = drawn(full)

    taker = next(line for line in text.split("\n") if "taker" in line)
    assert "-3.16" in taker
    assert "-5.0" in taker
    assert "31.0 ms" in taker
    assert "maker" in text
    assert "fills of resting orders: pessimistic" in text


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60), (250, 70)])
def test_every_size_has_trades_and_costs(full: Snapshot, size: tuple[int, int]) -> None:
    """The list, the costs and the distribution share what room there is."""
    text = drawn(full, *size)

    assert "RESULT" in text
    assert "SLIPPAGE" in text
    assert "PROFIT OF A TRADE" in text


def test_on_the_wire_only_what_is_counted_is_known() -> None:
    """Nobody has every trade there: the rest is unknown, and missing fills are named."""
    part = PerformancePart(
        won=3, lost=1, fills=9, fees=2_000_000, funding=-500_000, insurance=0, complete=False
    )
    text = drawn(Snapshot(performance=part))

    assert "won 75 %" in text
    assert "profit factor unknown" in text
    assert "fees -2.00  funding +0.50" in text
    assert "some fills are missing" in text
    assert "no trade has ended yet" in text


def test_before_an_hour_is_over_the_curve_knows_the_drawdown(full: Snapshot) -> None:
    """The account's own points are an hour apart; the run's are a second."""
    assert full.performance.performance is not None
    did = replace(full.performance.performance, max_drawdown=0, max_drawdown_ratio=None)
    shown = replace(
        full,
        performance=replace(full.performance, performance=did),
        equity=EquityPart(deepest=412.5, deepest_share=0.041),
    )

    assert "drawdown -412.50 USDC" in drawn(shown)
    assert "412.50 USDC, 4.1 % of equity, of the run" in drawn(shown)


def test_nothing_traded_is_no_zero() -> None:
    """Before the first trade there are counts and unknowns."""
    text = drawn(Snapshot())

    assert "trades 0" in text
    assert "won unknown" in text
    assert "no fill yet" in text


def test_the_panel_is_legible_without_unicode(full: Snapshot) -> None:
    """Bars have letters in their place."""
    plain = panel("performance", full, 120, 40, VIEW, Theme(unicode=False, colours=""))

    assert plain.text.isascii()
