"""Every order as it stands: what of it was filled, at which cost, and why the rest was not."""

from dydx_conn import OrderRequest, cancel
from dydx_panels import Snapshot, View, panel, selectable
from dydx_risk import Bracket, Withdraw
from msgspec.structs import replace


def drawn(snapshot: Snapshot, selected: int = -1, width: int = 220, height: int = 30) -> str:
    """Draw the orders alone."""
    return panel("orders", snapshot, width, height, View(panel="orders", selected=selected)).text


def line(text: str, name: str) -> str:
    """Return the row of an order."""
    return next(row for row in text.split("\n") if f" {name} " in row)


def test_open_orders_come_first_with_their_age_and_what_is_filled(full: Snapshot) -> None:
    """Then the rest, the newest first."""
    text = drawn(full)

    assert selectable(full, View(panel="orders")) == (
        "O5", "V18", "O4", "V17", "O3", "O2",
    )  # fmt: skip
    assert "open" in line(text, "O5")
    assert "14 %" in line(text, "O5")
    assert "40.0 s" in line(text, "O5")


def test_what_was_partly_filled_says_why_the_rest_was_not(full: Snapshot) -> None:
    """Three quarters at an average price, with its fees as negative money."""
    row = line(drawn(full), "O4")

    assert "cancelled        75 %" in row
    assert "3,012.63" in row
    assert "-3.16" in row
    assert "immediate or cancel would rest on book" in row


def test_what_was_refused_has_its_reason(full: Snapshot) -> None:
    """It never became an order: it has no size, and its figures are in its words."""
    row = line(drawn(full, width=240), "V17")

    assert "MARGIN: initial margin after the trade would exceed net collateral" in row
    assert "unknown" not in row


def test_what_the_venue_rejected_is_another_thing(full: Snapshot) -> None:
    """An order of somebody else has no verdict of ours, and an unknown size."""
    row = line(drawn(full), "O2")

    assert "rejected" in row
    assert "unknown" in row
    assert "another" in row
    assert "140.20" in row


def test_the_fills_of_the_selected_order_stand_under_the_list(full: Snapshot) -> None:
    """Each beside mid, and all of them together; the verdict's words whole."""
    text = drawn(full, selected=2)

    assert "O4 of D42, V16 verdict" in text
    assert "2.100 at 3,012.63 fee -3.16 slippage -0.39 USDC" in text
    assert "taker fee -1.05 mid 3,012.45" in text
    assert "verdict   buy 0.05 BTC-USD at ≤ 63,258: leverage 3.10, distance 15.0 %" in text


def test_what_was_let_go_and_not_answered_is_no_order_yet(full: Snapshot) -> None:
    """A bracket by its words and its decision; what is taken back is no row of its own."""
    bracket = Bracket(
        id="V20", at=full.verdicts[0].at + 1, seq=48_213, kind="STOP_LOSS", decision="D42",
        why="stop loss on the venue: sell 1 ETH-USD at >= 2,871 once the price falls to 2,900",
        order=OrderRequest(
            ticker="ETH-USD", clob_pair_id=1, side="SELL", quantums=10**9, subticks=2_871 * 10**6,
            client_id=9, time_in_force="IOC", reduce_only=True, order_flags=32,
            condition_type="STOP_LOSS", trigger_subticks=1, good_til_block_time=1_784_021_497,
        ),
    )  # fmt: skip
    back = Withdraw(
        id="V21", ticker="ETH-USD", cancel=cancel(bracket.order), seq=48_214, at=bracket.at + 1,
        why="the stop loss is taken back: nothing is held any more",
    )  # fmt: skip
    shown = replace(full, verdicts=(back, bracket, *full.verdicts))
    text = drawn(shown, width=240)

    assert "V21" not in selectable(shown, View(panel="orders"))
    assert "unanswered" in line(text, "V20")
    assert "1.000" in line(text, "V20")
    assert "D42" in line(text, "V20")
    assert bracket.why.replace(">=", "≥") in line(text, "V20")


def test_an_order_in_an_unknown_market_has_an_unknown_size(full: Snapshot) -> None:
    """Nobody knows its grid."""
    row = line(drawn(replace(full, markets=())), "V18")

    assert "unknown" in row


def test_a_small_screen_shows_the_list_and_no_more(full: Snapshot) -> None:
    """The fills need room that is not there."""
    text = drawn(full, width=80, height=10)

    assert "of D41" not in text
    assert "O5" in text
