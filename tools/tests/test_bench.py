"""The bench: it reports what it measured, and refuses what it does not know."""

import pytest
from bench import BENCHES, best, held_account, main


def test_a_bench_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and the names that there are."""
    with pytest.raises(SystemExit) as refused:
        main(["astrology"])

    said = capsys.readouterr().err
    assert refused.value.code == 2
    assert all(name in said for name in BENCHES)


def test_the_best_of_several_rounds_is_told() -> None:
    """Noise only adds, so the least is nearest to the truth."""
    calls: list[int] = []

    assert best(lambda: calls.append(1), rounds=3, repeats=4) > 0
    assert len(calls) == 12


@pytest.mark.parametrize("count", [1, 25])
def test_the_account_that_is_measured_is_a_real_one(count: int) -> None:
    """Every position has an oracle price, a margin and a liquidation price."""
    risk, view, prices = held_account(count)

    positions = risk.positions()
    assert len(positions) == count
    assert risk.margin.known
    assert all(p.maintenance_margin and p.initial_margin for p in positions)
    assert [price.text for price in prices] == ["3000.25", "3000.75"]
    assert view.ticker == "M0-USD"


def test_rows_are_printed_beside_their_floor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line a figure: what, measured, floor, budget."""
    rows = iter([("a figure", "1 µs", "0.5 µs", "< 2 µs")])
    monkeypatch.setitem(BENCHES, "margin", lambda _: rows)

    assert main(["margin"]) == 0
    assert "a figure" in capsys.readouterr().out
