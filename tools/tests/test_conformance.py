import json
import re
import shutil
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import conformance
import pytest
from dydx_conn import Recording, find_recording
from sessions import REAL, RECORDINGS, Session

POSITION = {
    "kind": "position",
    "quantums": "2000000000",
    "atomic_resolution": "-9",
    "price": "3000000000",
    "price_exponent": "-6",
    "initial_margin_ppm": "50000",
    "maintenance_fraction_ppm": "600000",
    "open_interest_lower_cap": "0",
    "open_interest_upper_cap": "0",
    "open_interest_base_quantums": "0",
}
MARGINS = {
    "initial_margin_quote_quantums": "300000000",
    "maintenance_margin_quote_quantums": "180000000",
}


def write(directory: Path, family: str, *cases: tuple[Any, Any]) -> None:
    """Write a family of (input, expected) cases."""
    rows = [{"name": f"case {n}", "input": a, "expected": b} for n, (a, b) in enumerate(cases)]
    (directory / f"{family}.json").write_text(json.dumps(rows))


def capture(directory: Path, name: str, text: str) -> None:
    """Write a captured text."""
    file = directory / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


def test_a_case_that_agrees_counts_as_passed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line a family, one for the total, exit code 0."""
    write(tmp_path, "margin_requirement", (POSITION, MARGINS))

    assert conformance.main(["vectors", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "margin_requirement  1/1\nTOTAL 1/1\n"


def test_a_case_that_differs_is_shown_when_requested(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first failure shows what was expected and what came; the exit code stays 0."""
    wrong = {"maintenance_margin_quote_quantums": "1"}
    write(tmp_path, "margin_requirement", (POSITION, wrong), (POSITION, wrong))

    assert conformance.main(["vectors", str(tmp_path), "-v"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "margin_requirement  0/2"
    assert lines[1].startswith("    case 0: expected {'maintenance_margin_quote_quantums': '1'}")
    assert lines[2:] == ["TOTAL 0/2"]


def test_a_family_that_is_not_built_counts_as_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The figure shows what is left, and why."""
    write(tmp_path, "weather", ({"kind": "rain"}, {"wet": True}))

    assert conformance.main(["vectors", str(tmp_path), "-v"]) == 0
    out = capsys.readouterr().out
    assert "weather  0/1" in out
    assert "not built: weather rain" in out


def test_a_case_that_raises_has_failed(tmp_path: Path) -> None:
    """A missing field is a failure with its error, not the end of the run."""
    write(tmp_path, "margin_requirement", ({"kind": "position"}, {}))
    (tally,) = conformance.vectors(tmp_path)

    assert (tally.passed, tally.total) == (0, 1)
    assert "KeyError" in tally.failures[0]


@pytest.mark.parametrize("check", ["vectors", "captures"])
def test_a_missing_directory_is_reported_clearly(
    tmp_path: Path, check: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, with what was expected and what it was."""
    assert conformance.main([check, str(tmp_path / "nowhere")]) == 2
    assert f"got {tmp_path / 'nowhere'}" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "{}", '[{"input": {}}]'])
def test_a_file_that_is_no_family_is_reported_clearly(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither JSON nor cases: exit code 2."""
    (tmp_path / "margin_requirement.json").write_text(text)

    assert conformance.main(["vectors", str(tmp_path)]) == 2
    assert "margin_requirement.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("expected", "got", "tolerance", "verdict"),
    [
        ("1", 1, 0, True),
        ("1/2", Fraction(1, 2), 0, True),
        ("1", Decimal("1.0"), 0, True),
        ("100", Fraction(101), Fraction(1, 100), True),
        ("100", Fraction(102), Fraction(1, 100), False),
        (True, 1, 0, False),
        (True, True, 0, True),
        (None, 1, 0, False),
        (None, None, 0, True),
        ({"a": "1"}, {"a": 1, "b": 2}, 0, True),
        ({"a": "1"}, {"b": 1}, 0, False),
        ({"a": "1"}, 1, 0, False),
        (["1"], [1, 2], 0, False),
        (["1", "2"], [1, 2], 0, True),
        ("Success", "Success", 0, True),
    ],
)
def test_answers_are_compared_by_value(
    expected: Any, got: Any, tolerance: Any, verdict: bool
) -> None:
    """Numbers as numbers, the rest as it stands; what the case does not state is not judged."""
    assert conformance.agrees(expected, got, tolerance) is verdict


def test_a_book_is_uncrossed_and_an_account_is_liquidatable(tmp_path: Path) -> None:
    """Families of other layers are answered by those layers."""
    bid, ask = {"size": "1", "offset": "3"}, {"size": "5", "offset": "4"}
    write(
        tmp_path,
        "orderbook_uncross",
        ({"bids": {"101": bid}, "asks": {"100": ask}}, {"bids": [], "asks": [{"price": "100"}]}),
    )
    totals = {"kind": "totals", "net_collateral": "1", "maintenance_margin": "2"}
    write(tmp_path, "is_liquidatable", (totals, {"liquidatable": True}))

    assert [(t.family, t.passed) for t in conformance.vectors(tmp_path)] == [
        ("is_liquidatable", 1),
        ("orderbook_uncross", 1),
    ]


def test_orders_and_fees_are_judged_by_the_connection(tmp_path: Path) -> None:
    """An owner is marked as an address or not; a rate has its tier and two discounts."""
    nothing = {"quantums": "0", "subticks": "0", "order_flags": "0", "good_til_block_time": None}
    order = {
        **nothing,
        **dict.fromkeys(["side", "time_in_force", "condition_type", "trigger_subticks"], "0"),
        "kind": "stateless",
        "subaccount": "nobody/0",
        "good_til_block": None,
        "reduce_only": False,
    }
    fok = {**order, "subaccount": "valid/0", "time_in_force": "3"}
    write(
        tmp_path,
        "order_validation",
        (order, {"error": "ErrInvalidSubaccountIdOwner"}),
        ({**order, "subaccount": "valid/0"}, {"error": "ErrInvalidOrderSide"}),
        (fok, {"error": "ErrDeprecatedField"}),
    )
    names = ("absolute_volume", "total_volume_share", "maker_volume_share")
    tier = {f"{name}_requirement{'' if n == 0 else '_ppm'}": "0" for n, name in enumerate(names)}
    levels = [{"min_staked_base_tokens": "5", "fee_discount_ppm": "500000"}]
    staking = [{"fee_tier_name": "1", "levels": levels}]
    window = {"start_time": "1", "end_time": "3", "block_time": "2", "charge_ppm": "500000"}
    rates = {
        "kind": "fee_ppm",
        "tiers": [{**tier, "name": "1", "taker_fee_ppm": "100", "maker_fee_ppm": "-9"}],
        "is_vault": False,
        **dict.fromkeys(["user_maker_notional", "user_taker_notional", "global_notional"], "0"),
        "market_discount": {**window, "clob_pair_id": "7", "order_clob_pair_id": "7"},
        "staking": {"staked_base_tokens": "5", "tiers": staking},
    }
    off = {"kind": "staking_discount", "tiers": staking, "fee_tier_name": "1"}
    write(
        tmp_path,
        "fees",
        (rates, {"taker_fee_ppm": "25", "maker_fee_ppm": "-4"}),
        (
            {**rates, "market_discount": None, "staking": None},
            {"taker_fee_ppm": "100", "maker_fee_ppm": "-9"},
        ),
        ({**off, "staked_base_tokens": "4"}, {"discount_ppm": "0"}),
    )

    tallies = conformance.vectors(tmp_path)

    assert [(t.family, t.passed, t.total) for t in tallies] == [
        ("fees", 3, 3),
        ("order_validation", 3, 3),
    ]


def test_captures_are_parsed_line_by_line_and_refusals_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """WebSocket lines, REST bodies and candles by the packages; tables of others are skipped."""
    capture(tmp_path, "ws/control.jsonl", '{"type":"connected","message_id":0}\n{"type":"what"}\n')
    capture(tmp_path, "rest/x_height_indexer.json", '{"height":"5","time":"2026-01-01T00:00:00Z"}')
    capture(tmp_path, "accounts/x_unheard_of.json", "{}")
    capture(tmp_path, "candles/rows.csv", "a,b\n")
    candle = dict.fromkeys(
        ["startedAt", "ticker", "low", "high", "open", "close", "baseTokenVolume", "usdVolume"], "1"
    )
    capture(tmp_path, "candles/x.jsonl", json.dumps({**candle, "trades": 1}) + "\n")

    assert conformance.main(["captures", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "ws/control.jsonl            1/2" in out
    assert "line 2: expected a known message" in out
    assert "rest/x_height_indexer.json  1/1" in out
    assert "expected a name that shows the endpoint, got x_unheard_of" in out
    assert "skipped: csv is somebody's table" in out
    assert out.endswith("TOTAL 3/5\n")


ABACUS = {
    "kind": "abacus_account",
    "markets": {
        "ETH-USD": {
            "oraclePrice": "1000",
            "initialMarginFraction": "0.05",
            "maintenanceMarginFraction": "0.03",
            "openInterest": "1",
            "openInterestLowerCap": None,
            "openInterestUpperCap": None,
        }
    },
    "subaccounts": {
        "0": {
            "usdc": "-900",
            "positions": {"ETH-USD": {"side": "LONG", "size": "1", "entry_price": "1000"}},
        }
    },
}


@pytest.mark.parametrize(
    ("positions", "passed"),
    [
        ([], 1),
        ([{"market": "ETH-USD", "subaccount_number": "0", "notional": "1000"}], 1),
        ([{"market": "ETH-USD", "subaccount_number": "0", "notional": "999"}], 0),
        ([{"market": "BTC-USD", "subaccount_number": "0"}], 0),
    ],
)
def test_positions_that_an_abacus_case_leaves_out_are_not_judged(
    tmp_path: Path, positions: list[Any], passed: int
) -> None:
    """Its tests state some of an account: those must agree, the others are free."""
    write(tmp_path, "account_summary", (ABACUS, {"equity": "100", "positions": positions}))

    (tally,) = conformance.vectors(tmp_path)

    assert (tally.passed, tally.total) == (passed, 1)


def test_a_web_case_states_every_position(tmp_path: Path) -> None:
    """One position more than it states is a failure."""
    web = {**ABACUS, "kind": "v4_web_parent_account"}
    write(tmp_path, "account_summary", (web, {"parent": {"equity": "100"}, "positions": []}))

    (tally,) = conformance.vectors(tmp_path)

    assert tally.passed == 0


# === Sessions ===

LOCALNET = find_recording("quickstart").parent / "localnet"


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """Return a directory with one bundled session, whose truth a test may change."""
    folder = tmp_path / "mine"
    shutil.copytree(LOCALNET / "05-open-add-reduce-close", folder)
    return folder


def played(directory: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Play the sessions of a directory; return the lines that were printed."""
    assert conformance.main(["sessions", str(directory), "-v"]) == 0
    return capsys.readouterr().out.splitlines()


def test_every_bundled_session_replays_to_its_truth(capsys: pytest.CaptureFixture[str]) -> None:
    """Each figure of each; complete candles stand apart, and are no part of the total."""
    names = sorted(path.parent.name for path in LOCALNET.glob("*/truth.json"))

    lines = played(LOCALNET, capsys)

    missed = [line for line in lines if line.startswith(" ")]
    *scores, candles, total = [line.split() for line in lines if line not in missed]
    figures = sum(int(score.split("/")[1]) for _, score in scores)
    assert missed == []
    assert [name for name, _ in scores] == names
    assert (candles[0], total) == ("candles", ["TOTAL", f"{figures}/{figures}"])


CHANGES: dict[str, Callable[[Any], None]] = {
    "USDC": lambda state: state.update(usdc_quantums=1),
    "initial_margin": lambda state: state.update(initial_margin=1),
    "realised": lambda state: state["profit"].update(realised_in_recording="9"),
    "wins": lambda state: state["profit"].update(wins_in_recording=7),
    "funding": lambda state: state["balance_check"].update(funding_received="0.5"),
    "insurance": lambda state: state["fills"][0].update(type="LIQUIDATED"),
    "fill 8e6d4ba8": lambda state: state["fills"][0].update(price="1"),
    "fills reported": lambda state: state["fills"].pop(),
    "order 40aaa414": lambda state: state["orders"][0].update(status="OPEN"),
    "open orders": lambda state: state["orders"][0].update(status="OPEN", orderFlags="64"),
    "transfers": lambda state: state["transfers"][0].update(block="8490"),
}


@pytest.mark.parametrize("figure", CHANGES)
def test_a_figure_that_is_not_the_truth_is_named(
    figure: str, session: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was expected, and what the layers have."""
    truth = json.loads((session / "truth.json").read_text())
    [state] = truth["state"].values()
    CHANGES[figure](state)
    (session / "truth.json").write_text(json.dumps(truth))

    missed = [line for line in played(session.parent, capsys) if line.startswith(" ")]

    assert any(f"/165 {figure}: expected " in line for line in missed)


def test_an_account_after_a_block_is_judged_too(
    session: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it was then, not as it became."""
    truth = json.loads((session / "truth.json").read_text())
    [state] = truth["after_block"]["8456"].values()
    state["positions"]["SOL-USD"] += 1
    (session / "truth.json").write_text(json.dumps(truth))

    missed = [line for line in played(session.parent, capsys) if line.startswith(" ")]

    assert [line.split(":")[0].split(maxsplit=1)[1] for line in missed] == ["after 8456 positions"]


def test_what_follows_the_named_block_is_not_judged(
    session: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The account is compared as of that block."""
    truth = json.loads((session / "truth.json").read_text())
    truth["true_at_block"] = 8456
    (session / "truth.json").write_text(json.dumps(truth))
    [state] = truth["after_block"]["8456"].values()

    missed = [line for line in played(session.parent, capsys) if "/165 USDC:" in line]

    assert len(missed) == 1
    assert f"got {state['usdc_quantums']}" in missed[0]


def test_a_parents_channel_is_judged_by_what_it_names() -> None:
    """All figures of its children, but for transfers between them: those it does not name."""
    [folder] = LOCALNET.glob("*-parent")
    truth = json.loads((folder / "truth.json").read_text())
    frames = [
        frame
        for frame in Recording(folder / "frames.jsonl.zst")
        if frame.channel != "v4_subaccounts"
        and not re.search(r"[?&/]subaccountNumber", frame.channel)
    ]

    figures = list(conformance.session_figures(conformance.Played(truth, frames)))

    assert [(what, want, got) for what, want, got in figures if want != got] == []
    named = [got for what, _, got in figures if what.endswith(" transfers")]
    assert sorted(map(len, named)) == [0, 1]


@pytest.mark.parametrize("damage", [None, "truth.json", "frames.jsonl.zst"])
def test_what_is_no_session_is_refused(
    damage: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty directory, a truth that is none, frames that cannot be read."""
    if damage is not None:
        shutil.copytree(LOCALNET / "01-one-taker-fill", tmp_path / "mine")
        (tmp_path / "mine" / damage).write_bytes(b"not this")

    assert conformance.main(["sessions", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("conformance: expected a ")


def test_no_rule_objects_to_a_session_of_the_real_software(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every frame of it is counted, and a directory without recordings is refused."""
    session = RECORDINGS / "localnet" / "19-makers-gone"

    assert conformance.main(["rules", str(session)]) == 0
    assert "302/302" in capsys.readouterr().out
    assert conformance.main(["rules", str(session / "truth.json")]) == 2


def test_accounts_of_a_session_are_watched_to_the_quantum(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What `bot watch` folds of the first session is what its node held; a wrong place is a 2."""
    one = REAL[0].folder

    [tally] = conformance.watched_tallies([Session(one)])

    assert (tally.passed, tally.total, tally.failures) == (7, 7, [])
    assert conformance.main(["watch", str(one / "nothing")]) == 2
    assert "expected a directory of <session>/truth.json" in capsys.readouterr().err
