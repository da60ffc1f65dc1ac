"""What the last run left, the indexer and the chain: each difference in plain words."""

from decimal import Decimal

import msgspec
import pytest
from bot.reconcile import (
    Finding,
    Held,
    Kind,
    Left,
    Move,
    Reported,
    Standing,
    compare,
    reason,
)
from hypothesis import given
from hypothesis import strategies as st

ORDER = Standing(order_id="o1", client_id="77", words="SELL 0.2 ETH-USD at 3000")
SOLD = Move(kind="fill", at=5, paid_in=600_000_000, id="f9", ticker="ETH-USD", size=Decimal("-0.2"))


def held(height: int, eth: str = "1.2", usdc: int | None = 1_000_000_000) -> Held:
    """Return an account that holds ETH alone."""
    sizes = {"ETH-USD": Decimal(eth)} if Decimal(eth) else {}
    return Held(height=height, sizes=sizes, collateral=usdc)


def left(eth: str = "1.2", usdc: int | None = 1_000_000_000, *orders: Standing) -> Left:
    """Return what a run left."""
    return Left(run="run 12", began=1, held=held(800, eth, usdc), orders=orders)


AT_812 = "the indexer has +1.0 at block 812, the chain +1.0 at block 830"


@pytest.mark.parametrize(
    ("was", "indexer", "chain", "kind", "words"),
    [
        # Sold while no bot ran.
        (
            left(usdc=None), Reported(held=held(812, "1.0"), moves=(SOLD,)), held(830, "1.0"),
            "explained",
            f"ETH-USD: the last run left +1.2, {AT_812}: 0.2 was sold while no bot ran: fill f9",
        ),
        # The same, by an order that the run had sent.
        (
            left("1.2", None, ORDER),
            Reported(held=held(812, "1.0"),
                     moves=(msgspec.structs.replace(SOLD, order_id="o1"),), orders=(ORDER,)),
            held(830, "1.0"), "explained",
            f"ETH-USD: the last run left +1.2, {AT_812}: 0.2 was sold by an order of the last run "
            "while no bot ran: fill f9",
        ),
        # By force.
        (
            left(usdc=None),
            Reported(held=held(812, "1.0"), moves=(msgspec.structs.replace(SOLD, words="LIQUIDATED"),)),
            held(830, "1.0"), "explained",
            f"ETH-USD: the last run left +1.2, {AT_812}: 0.2 was sold while no bot ran (liquidated)"
            ": fill f9",
        ),
        # Nothing explains it.
        (
            left(usdc=None), Reported(held=held(812, "1.0")), held(830, "1.0"), "unexplained",
            f"ETH-USD: the last run left +1.2, {AT_812}: no fills are reported that explain -0.2",
        ),
        # Fills of something else do not.
        (
            left(usdc=None),
            Reported(held=held(812, "1.0"),
                     moves=(msgspec.structs.replace(SOLD, ticker="BTC-USD"),)),
            held(830, "1.0"), "unexplained",
            f"ETH-USD: the last run left +1.2, {AT_812}: no fills are reported that explain -0.2",
        ),
        # The indexer lags, with a database and without.
        (
            left(), Reported(held=held(826)), held(830, "1.0"), "behind",
            "ETH-USD: the last run left +1.2, the indexer has +1.2 at block 826, the chain +1.0 at "
            "block 830: the indexer is 4 blocks behind the chain",
        ),
        (
            None, Reported(held=held(829)), held(830, "0"), "behind",
            "ETH-USD: the indexer has +1.2 at block 829, the chain +0 at block 830: the indexer is "
            "1 block behind the chain",
        ),
        # It does not lag, and is wrong.
        (
            None, Reported(held=held(830)), held(830, "1.0"), "unexplained",
            "ETH-USD: the indexer has +1.2 at block 830, the chain +1.0 at block 830: expected the "
            "indexer to have what the chain has",
        ),
        # It lags, and nothing differs.
        (
            left(), Reported(held=held(790)), held(830), "noted",
            "the indexer is 40 blocks behind the chain",
        ),
        # Money.
        (
            left(), Reported(held=held(830, usdc=987_660_000)), held(830, usdc=987_660_000),
            "unexplained",
            "collateral: the last run left 1,000.000000 USDC, the indexer has 987.660000 USDC at "
            "block 830, the chain 987.660000 USDC at block 830: no fill, transfer or funding is "
            "reported that explains -12.340000 USDC",
        ),
        (
            left(),
            Reported(held=held(830, usdc=987_660_000), moves=(
                Move(kind="transfer", at=9, paid_in=-12_000_000, id="t1"),
                Move(kind="funding", at=8, paid_in=-340_000, ticker="ETH-USD"),
            )),
            held(830, usdc=987_660_000), "explained",
            "collateral: the last run left 1,000.000000 USDC, the indexer has 987.660000 USDC at "
            "block 830, the chain 987.660000 USDC at block 830: 1 transfer -12.000000 USDC, "
            "funding -0.340000 USDC",
        ),
        # Orders.
        (
            left("1.2", None, ORDER), Reported(held=held(830), orders=(ORDER,)), held(830), "noted",
            "an order of the last run (client id 77) still stands: SELL 0.2 ETH-USD at 3000",
        ),
        (
            left("1.2", None, ORDER), Reported(held=held(830)), held(830), "explained",
            "an order of the last run (client id 77) is over: SELL 0.2 ETH-USD at 3000",
        ),
        (
            left(), Reported(held=held(830), orders=(ORDER,)), held(830), "noted",
            "an order that the last run did not leave (client id 77) stands: SELL 0.2 ETH-USD at "
            "3000",
        ),
    ],
)  # fmt: skip
def test_each_difference_is_one_finding(
    was: Left | None, indexer: Reported, chain: Held, kind: Kind, words: str
) -> None:
    """With what each of the three has, at which block, and what explains it."""
    assert Finding(kind, words) in compare(was, indexer, chain)


def test_three_that_agree_are_no_finding() -> None:
    """Nor is funding that one of them rounds down, and another up."""
    assert compare(left(), Reported(held=held(829, usdc=999_999_999)), held(830)) == []


def test_an_account_without_a_database_is_the_indexers_and_the_chains() -> None:
    """Orders of nobody knows whom are no finding there."""
    assert compare(None, Reported(held=held(830), orders=(ORDER,)), held(830)) == []


def test_what_nothing_explains_is_the_reason_of_a_halt() -> None:
    """The first of it; what is explained, and what is only noted, is none."""
    found = [Finding("noted", "a"), Finding("unexplained", "b"), Finding("behind", "c")]

    assert reason(found) == "b (and 1 more)"
    assert reason(found[:2]) == "b"
    assert reason([Finding("noted", "a"), Finding("explained", "d")]) == ""


SIZES = st.integers(-50, 50).map(lambda n: Decimal(n).scaleb(-1))
FILLS = st.lists(st.tuples(SIZES.filter(bool), st.integers(-(10**9), 10**9)), max_size=8)


@given(SIZES, FILLS, FILLS, st.integers(0, 10**12), st.lists(st.integers(-(10**6), 10**6)))
def test_whatever_fills_did_is_explained_by_them(
    was: Decimal, before: list[tuple[Decimal, int]], since: list[tuple[Decimal, int]],
    usdc: int, funding: list[int],
) -> None:  # fmt: skip
    """With those before, which the last run knew of, beside them; and funding of any hours."""
    moves = [
        Move(kind="fill", at=at, id=f"f{at}", ticker="ETH-USD", size=size, paid_in=paid)
        for at, (size, paid) in enumerate([*before, *since])
    ] + [Move(kind="funding", at=0, paid_in=paid) for paid in funding]
    size = was + sum((size for size, _ in since), Decimal(0))
    now = held(9, str(size), usdc + sum(paid for _, paid in since) + sum(funding))

    found = compare(left(str(was), usdc), Reported(held=now, moves=tuple(moves)), now)

    assert {each.kind for each in found} <= {"explained"}
    assert bool([each for each in found if each.words.startswith("ETH")]) is (size != was)


@given(SIZES, SIZES, SIZES, st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12))
def test_whatever_is_not_explained_is_found(
    was: Decimal, now: Decimal, true: Decimal, before: int, after: int
) -> None:
    """Without fills, transfers and funding any difference halts."""
    found = compare(
        left(str(was), before), Reported(held=held(9, str(now), after)), held(9, str(true), after)
    )

    assert bool(reason(found)) is (not was == now == true or abs(before - after) > 1 + bool(true))
