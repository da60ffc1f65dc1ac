from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from dydx_conn import PerpetualMarket, market_parameters
from dydx_risk import (
    Difference,
    Holding,
    MarginError,
    MarginFigures,
    ViewName,
    account_view,
    explain,
    parent_view,
    position_margin,
    total_margin,
)
from hypothesis import given
from hypothesis import strategies as st

Account = tuple[int, tuple[Holding, ...]]


ETH = market_parameters("ETH-USD")
CAPS = {"open_interest_lower_cap": 10**12, "open_interest_upper_cap": 2 * 10**12}
SCALED = msgspec.structs.replace(ETH, **CAPS)
VIEWS: list[ViewName] = ["chain", "web", "abacus", "indexer"]


def _held(market: PerpetualMarket = ETH, eth: int = 1, **fields: Any) -> Holding:
    """Hold whole ETH at 3,000 USDC."""
    position = Holding(market=market, quantums=eth * 10**9, price=3_000, open_interest=0)
    return msgspec.structs.replace(position, **fields)


def _account(usdc: int, *holdings: Holding) -> Account:
    """Hold whole USDC."""
    return usdc * 10**6, holdings


def _figures(account: Account) -> MarginFigures:
    """Sum an account up as the chain does."""
    return total_margin(account[0], [holding.margin() for holding in account[1]])


def _both(*figures: Any) -> tuple[Any, ...]:
    """Put figures side by side, whole numbers and fractions alike."""
    return figures


def _found(account: Account, view: str, figure: str, ticker: str = "") -> Difference:
    """Find the one difference of a view in a figure."""
    (found,) = [
        each
        for each in explain(*account)
        if (each.view, each.figure, each.ticker) == (view, figure, ticker)
    ]
    return found


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_agrees_on_a_plain_account(view: ViewName) -> None:
    """1 ETH at 3,000 with 1,000 USDC of its own: three times leverage, 85 % left."""
    seen = account_view(view, *_account(-2_000, _held()))

    assert _both(seen.equity, seen.free_collateral, seen.quote_balance) == (1_000, 850, -2_000)
    assert _both(seen.leverage, seen.margin_usage) == (3, Fraction(15, 100))
    assert _both(seen.notional, seen.value) == (3_000, 3_000)
    assert _both(seen.initial_margin, seen.maintenance_margin) == (150, 90)
    (position,) = seen.positions
    assert position.liquidation_price == Fraction(200_000, 97)
    assert _both(position.size, position.notional, position.max_leverage) == (1, 3_000, 20)


def test_a_gain_is_of_what_was_staked_at_the_leverage_chosen() -> None:
    """1,000 USDC on 2,000: half of it at a leverage of 1 and below, three quarters at 1.5."""
    for chosen, percent in ((Fraction(1, 2), 50), (Fraction(1), 50), (Fraction(3, 2), 75)):
        held = _held(entry_price=Decimal(2_000), selected_leverage=chosen)
        (position,) = account_view("web", *_account(0, held)).positions
        assert _both(position.unrealized_pnl, position.unrealized_pnl_percent) == (
            1_000,
            Fraction(percent, 100),
        )


@pytest.mark.parametrize("view", VIEWS)
def test_an_empty_account_is_worth_its_usdc(view: ViewName) -> None:
    """No position: no leverage, nothing used."""
    seen = account_view(view, *_account(5))

    assert _both(seen.equity, seen.leverage, seen.margin_usage, seen.positions) == (5, 0, 0, ())


def test_a_liquidation_price_is_where_the_account_stands_at_its_maintenance() -> None:
    """The chain's own test turns there, to the quantum or so."""
    (position,) = account_view("chain", *_account(-2_000, _held())).positions
    assert position.liquidation_price is not None
    price = int(position.liquidation_price * 10**6)

    above = _figures(_account(-2_000, _held(price=price + 1, exponent=-6)))
    below = _figures(_account(-2_000, _held(price=price - 1, exponent=-6)))
    assert below.cushion < 0 <= above.cushion


def test_a_position_that_nothing_can_liquidate_has_no_liquidation_price() -> None:
    """Cash beyond the notional: the price would be below 0. A tier of 100 % has none either."""
    full = msgspec.structs.replace(ETH, imf_ppm=1_000_000, maintenance_fraction_ppm=1_000_000)

    assert account_view("chain", *_account(1, _held())).positions[0].liquidation_price is None
    assert account_view("chain", *_account(-1, _held(full))).positions[0].liquidation_price is None


def test_only_abacus_writes_a_short_leverage_negative() -> None:
    """The others show how much, not which way."""
    account = _account(4_000, _held(eth=-1))

    leverages = [account_view(view, *account).positions[0].leverage for view in VIEWS]
    assert leverages == [3, 3, -3, 3]
    assert [account_view(view, *account).leverage for view in VIEWS] == [3] * 4


def test_the_screen_shows_nothing_below_zero() -> None:
    """A lost account has 0 there, and its true hole elsewhere."""
    account = _account(-3_100, _held())

    assert [account_view(view, *account).equity for view in VIEWS] == [-100, 0, -100, -100]
    assert [account_view(view, *account).free_collateral for view in VIEWS] == [-250, 0, -250, -250]
    assert [account_view(view, *account).leverage for view in VIEWS] == [None] * 4
    assert [account_view(view, *account).positions[0].leverage for view in VIEWS] == [None] * 4


def test_the_indexer_leaves_out_open_interest() -> None:
    """Half way between the caps the others require half of all that is missing to 100 %."""
    account = _account(0, _held(SCALED, open_interest=500 * 10**9))

    imfs = [account_view(view, *account).positions[0].imf for view in VIEWS]
    assert imfs == [Fraction(525, 1000)] * 3 + [Fraction(5, 100)]


def test_unknown_open_interest_counts_as_the_most() -> None:
    """Between the caps it matters; the indexer never applies it."""
    account = _account(0, _held(SCALED, open_interest=None))

    assert [account_view(view, *account).initial_margin for view in VIEWS] == [
        3_000,
        3_000,
        3_000,
        150,
    ]


def test_equal_caps_are_none_to_the_screens_and_all_to_the_chain() -> None:
    """Past the upper cap the chain requires everything."""
    capped = msgspec.structs.replace(SCALED, open_interest_lower_cap=2 * 10**12)
    account = _account(0, _held(capped, open_interest=10**12))

    assert [account_view(view, *account).initial_margin for view in VIEWS] == [3_000, 150, 150, 150]
    assert "requires 100 % on the chain, 5 % here" in str(_found(account, "web", "initial_margin"))


def test_the_selected_leverage_counts_on_the_chain_and_on_the_screen() -> None:
    """Twice leverage requires half; abacus and the indexer know nothing of it."""
    account = _account(0, _held(selected_leverage=Fraction(2)))

    assert [account_view(view, *account).initial_margin for view in VIEWS] == [
        1_500,
        1_500,
        150,
        150,
    ]


def test_unrealised_profit_is_measured_against_what_was_staked() -> None:
    """Bought at 2,000 with 20 times leverage: 100 staked, 1,000 won."""
    (position,) = account_view("web", *_account(0, _held(entry_price=Decimal(2_000)))).positions

    assert _both(position.unrealized_pnl, position.unrealized_pnl_percent) == (1_000, 10)


def test_no_entry_price_is_no_profit_and_one_of_zero_no_share() -> None:
    """Neither is 0."""
    (unknown,) = account_view("web", *_account(0, _held())).positions
    (gift,) = account_view("web", *_account(0, _held(entry_price=Decimal(0)))).positions

    assert _both(unknown.unrealized_pnl, unknown.unrealized_pnl_percent) == (None, None)
    assert _both(gift.unrealized_pnl, gift.unrealized_pnl_percent) == (3_000, None)


def test_a_parent_has_the_equity_of_all_its_children() -> None:
    """What else is shown is the parent's own."""
    family = {0: _account(100), 128: _account(-2_000, _held())}

    seen = parent_view("web", family)

    assert _both(seen.equity, seen.parent.equity, seen.parent.free_collateral) == (1_100, 100, 100)
    assert seen.children[128].positions[0].margin_mode == "ISOLATED"


@pytest.mark.parametrize("numbers", [[], [128], [0, 1]])
def test_a_family_has_one_parent(numbers: list[int]) -> None:
    """None or two are refused, with the numbers given."""
    with pytest.raises(MarginError, match="one subaccount below 128"):
        parent_view("web", {number: _account(0) for number in numbers})


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"price": 0}, "an oracle price above 0, got 0"),
        ({"price": -1}, "an oracle price above 0, got -1"),
        ({"exponent": 999}, "an exponent within ±200, got 999"),
        ({"quantums": 10**90}, "a margin from 0 to 10\\^60 quote quantums, got an integer of"),
        ({"selected_leverage": Fraction(0)}, "a selected leverage above 0, got 0"),
        ({"market": SCALED, "open_interest": -1}, "open interest of 0 or more, got -1"),
    ],
)
def test_no_view_shows_what_the_chain_cannot_value(
    view: ViewName, fields: dict[str, Any], expected: str
) -> None:
    """A wrong figure is refused with its reason, not shown as 0."""
    with pytest.raises(MarginError, match=f"ETH-USD: {expected}"):
        account_view(view, *_account(0, _held(**fields)))


@pytest.mark.parametrize("view", VIEWS[1:])
def test_a_tier_of_nothing_has_no_leverage_to_show(view: ViewName) -> None:
    """To the chain it requires nothing; a screen would divide by it."""
    account = _account(0, _held(msgspec.structs.replace(ETH, imf_ppm=0)))

    assert account_view("chain", *account).positions[0].max_leverage is None
    with pytest.raises(MarginError, match="a tier's imf_ppm above 0, got 0"):
        account_view(view, *account)


# --- explain


def test_a_plain_account_needs_no_explanation() -> None:
    """Every view agrees, to the last digit."""
    assert explain(*_account(-2_000, _held()), rounding=True) == []


def test_a_floor_is_explained() -> None:
    """What was hidden is explained, in figures."""
    account = _account(-3_100, _held())

    equity = _found(account, "web", "equity")
    price = _found(account, "web", "liquidation_price", "ETH-USD")

    assert _both(equity.shown, equity.acts) == (0, -100)
    assert str(equity) == "web: equity 0, on the chain -100: equity is -100, shown no lower than 0"
    assert price.reasons == ("equity is -100, shown no lower than 0",)


def test_a_shown_nothing_left_explains_what_is_lacking() -> None:
    """0 free collateral may be thousands short of the initial margin."""
    account = _account(-2_900, _held())

    assert str(_found(account, "web", "free_collateral")) == (
        "web: free collateral 0, on the chain -50: initial margin lacks 50, shown as 0 left"
    )
    assert _found(account, "web", "margin_usage").acts == Fraction(3, 2)


def test_open_interest_and_a_chosen_leverage_are_both_explained() -> None:
    """The indexer leaves out the one and the other; abacus the second alone."""
    held = _held(SCALED, open_interest=500 * 10**9, selected_leverage=Fraction(1))
    account = _account(0, held)

    chosen = "the leverage chosen for ETH-USD requires 100 %, left out here"
    assert _found(account, "abacus", "initial_margin").reasons == (chosen,)
    assert _found(account, "indexer", "free_collateral").reasons == (
        "by its open interest ETH-USD requires 52.5 % on the chain, 5 % here",
        chosen,
    )


def test_a_position_is_not_explained_by_another() -> None:
    """Only the market that differs is explained, and only where it differs."""
    btc = msgspec.structs.replace(ETH, ticker="BTC-USD")
    account = _account(0, _held(btc), _held(SCALED, open_interest=500 * 10**9))

    assert {each.ticker for each in explain(*account)} == {"", "ETH-USD"}


def test_a_truncated_maintenance_fraction_is_explained() -> None:
    """The indexer writes six decimals of a fraction that the chain multiplies in full."""
    odd = msgspec.structs.replace(ETH, maintenance_fraction_ppm=600_010)

    difference = _found(_account(0, _held(odd)), "indexer", "maintenance_margin")

    assert difference.reasons == ("ETH-USD maintains 3.00005 % on the chain, 3 % here",)


def test_roundings_are_explained_on_request() -> None:
    """A quantum and a half of value is one quantum to the chain."""
    account = _account(0, _held(quantums=1, price=1_500))

    assert explain(*account) == []
    assert {each.reasons for each in explain(*account, rounding=True)} == {
        ("the chain rounds each position to 0.000001 USDC",)
    }


def test_what_is_undefined_reads_so() -> None:
    """No equity, no leverage: a word, not a number."""
    difference = Difference(
        view="web", figure="leverage", ticker="", shown=None, acts=Fraction(1, 2), reasons=("a",)
    )

    assert str(difference) == "web: leverage undefined, on the chain 0.5: a"


_HELD = st.builds(
    Holding,
    market=st.sampled_from([ETH, SCALED]),
    quantums=st.integers(-(10**12), 10**12),
    price=st.integers(1, 10**10),
    exponent=st.just(-6),
    open_interest=st.one_of(st.none(), st.integers(0, 10**12)),
    selected_leverage=st.one_of(st.none(), st.integers(1, 20).map(Fraction)),
)
_ACCOUNT = st.tuples(st.integers(-(10**14), 10**14), st.lists(_HELD, max_size=3).map(tuple))


@given(_ACCOUNT)
def test_the_chain_view_is_the_chain_margin(account: Account) -> None:
    """What is seen in USDC is what was summed in quote quantums."""
    seen, figures = account_view("chain", *account), _figures(account)

    assert _both(seen.equity * 10**6, seen.free_collateral * 10**6) == (
        figures.net_collateral,
        figures.free_collateral,
    )
    assert seen.maintenance_margin * 10**6 == figures.maintenance_margin
    assert seen.notional * 10**6 == figures.notional


@given(_ACCOUNT)
def test_no_difference_of_size_stays_unexplained(account: Account) -> None:
    """What is put down to rounding is a few quantums, and two ppm of the notional at most."""
    bound = Fraction(4 * len(account[1]), 10**6)
    for each in explain(*account, rounding=True):
        money = each.figure in ("equity", "free_collateral", "initial_margin", "maintenance_margin")
        if money and each.reasons[0].startswith("the chain rounds"):
            notional = account_view("chain", *account).notional
            assert each.shown is not None
            assert each.acts is not None
            assert abs(each.shown - each.acts) <= bound + notional * Fraction(4, 10**6)


@given(_ACCOUNT)
def test_views_are_never_stricter_than_the_chain_but_for_roundings(account: Account) -> None:
    """A screen may promise more free collateral than the chain grants; the chain rounds up."""
    granted = account_view("chain", *account).raw_free_collateral
    promised = account_view("indexer", *account).raw_free_collateral

    assert promised >= granted - Fraction(2 * len(account[1]), 10**6)


# --- chosen leverage


@given(_HELD)
def test_a_chosen_leverage_never_touches_maintenance(held: Holding) -> None:
    """Liquidation knows nothing of it."""
    plain = position_margin(held.market, held.quantums, held.price or 0, held.exponent)

    assert held.margin().maintenance_margin == plain.maintenance_margin
    assert held.margin().initial_margin >= plain.initial_margin
