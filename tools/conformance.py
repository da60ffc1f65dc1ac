"""Hold the packages to dYdX's own answers: exact cases, texts really sent, whole sessions.

    vectors DIR    DIR/<family>.json ──► public functions ──► passed/total per family
    captures DIR   DIR/{ws,rest,accounts,candles} ──► parsers ──► parsed/total, each refusal
    sessions DIR   DIR/<session>/frames.jsonl.zst ──► the layers ──► figures as in truth.json
    watch DIR      the same, by what `bot watch` folds ──► figures as in truth.json
    rules DIR      DIR/**/*.jsonl.zst, DIR/ws ──► the data layer ──► frames that no rule objects to

    uv run tools/conformance.py vectors DIR [-v]
    uv run tools/conformance.py captures DIR [-v]
    uv run tools/conformance.py sessions DIR [-v]
    uv run tools/conformance.py watch DIR [-v]
    uv run tools/conformance.py rules DIR [-v]

A family that nothing answers yet counts as failed: the figure is what is left. The exit code
is 0 when the tool ran, whatever the figure, and 2 when DIR is not what was promised. No case
is known by name here: an adapter turns a shape of input into calls and gives back their answer.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, cast

import dydx_conn as conn
import dydx_data as data
import dydx_paper as paper
import dydx_risk as risk
import msgspec
from bot.run.composition import Options
from bot.watch.address import Target
from bot.watch.group import Group
from bot.watch.node import LINK, PATH, text_of
from sessions import Session, subaccount_named

Case = Mapping[str, Any]
Solve = Callable[[Any], Any]


class ConformanceError(Exception):
    """A directory that is not there or holds nothing to check: give another."""


class NotBuiltError(Exception):
    """No public function answers this shape of input yet."""


@dataclass
class FamilyTally:
    """How many cases of a family passed, and what the first failure was."""

    family: str
    total: int = 0
    passed: int = 0
    failures: list[str] = field(default_factory=list)


# === Command line ===


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the checks; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="tools/conformance.py", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("check", choices=["vectors", "captures", "sessions", "watch", "rules"])
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("-v", "--verbose", action="store_true", help="show what failed")
    given = parser.parse_args(arguments)
    try:
        if given.check == "vectors":
            report(vectors(given.directory), verbose=given.verbose)
        elif given.check == "rules":
            report(rules(given.directory), verbose=given.verbose)
        elif given.check == "watch":
            report(watched(given.directory), verbose=given.verbose)
        elif given.check == "sessions":
            played, candles = sessions(given.directory)
            report(played, verbose=given.verbose, apart=candles)
        else:
            report(captures(given.directory), verbose=True)
    except ConformanceError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    return 0


def report(
    tallies: Sequence[FamilyTally], *, verbose: bool, apart: FamilyTally | None = None
) -> None:
    """Print one line a family and the total, of which what stands `apart` is no part."""
    width = max(len(tally.family) for tally in tallies)
    for tally in [*tallies, *([] if apart is None else [apart])]:
        print(f"{tally.family:<{width}}  {tally.passed}/{tally.total}")
        for failure in tally.failures if verbose else ():
            print(f"    {failure}")
    passed = sum(tally.passed for tally in tallies)
    print(f"TOTAL {passed}/{sum(tally.total for tally in tallies)}")


# === Vectors ===


def vectors(directory: Path) -> list[FamilyTally]:
    """Run every case of every family found."""
    files = sorted(directory.glob("*.json")) if directory.is_dir() else []
    if not files:
        raise ConformanceError(f"expected a directory of <family>.json files, got {directory}")
    return [run_family(file.stem, load(file)) for file in files]


def load(file: Path) -> list[Case]:
    """Read the cases of one family."""
    try:
        cases = json.loads(file.read_text())
    except ValueError as error:
        raise ConformanceError(f"expected {file} to be JSON: {error}") from error
    if not isinstance(cases, list) or not all(
        isinstance(case, dict) and {"input", "expected"} <= case.keys() for case in cases
    ):
        raise ConformanceError(f"expected {file} to list cases of `input` and `expected`")
    return cases


def run_family(family: str, cases: Sequence[Case]) -> FamilyTally:
    """Run the cases of one family; keep what the first failure expected and got."""
    tally = FamilyTally(family)
    for case in cases:
        tally.total += 1
        try:
            got: Any = solver(family, case["input"])(case["input"])
        except NotBuiltError as error:
            got = f"not built: {error}"
        except Exception as error:  # noqa: BLE001 - a case that raises has failed, and shows how
            got = f"{type(error).__name__}: {error}"
        kind, expected = case["input"].get("kind", ""), case["expected"]
        if kind in PARTIAL:
            expected, got = by_position(expected), by_position(got)
        if agrees(expected, got, TOLERANCES.get(kind, 0)):
            tally.passed += 1
        elif not tally.failures:
            name = case.get("name", "?")
            tally.failures.append(f"{name}: expected {case['expected']}, got {got}")
    return tally


def solver(family: str, given: Case) -> Solve:
    """Find who answers this family and kind."""
    kind = given.get("kind", "")
    solve = SOLVERS.get((family, kind))
    if solve is None:
        raise NotBuiltError(f"{family} {kind}".rstrip())
    return solve


# What the front ends print went through their own number types.
TOLERANCES = {"v4_web_parent_account": Fraction(1, 10**12), "abacus_account": Fraction(1, 10**9)}

# Their tests state some positions of an account, not all.
PARTIAL = frozenset(["abacus_account"])


def by_position(answer: Any) -> Any:
    """Name an answer's positions, so that those a case does not state are not judged."""
    if not isinstance(answer, dict):
        return answer
    rows = {(row["market"], row["subaccount_number"]): row for row in answer["positions"]}
    return {**answer, "positions": rows}


def agrees(expected: Any, got: Any, tolerance: Fraction | int = 0) -> bool:
    """Compare what the case states with what came out; extra answers are not judged."""
    if isinstance(expected, dict):
        return isinstance(got, dict) and all(
            key in got and agrees(value, got[key], tolerance) for key, value in expected.items()
        )
    if isinstance(expected, list):
        return (
            isinstance(got, list)
            and len(expected) == len(got)
            and all(agrees(a, b, tolerance) for a, b in zip(expected, got, strict=True))
        )
    if isinstance(got, int | Decimal | Fraction) and not isinstance(got, bool):
        if not isinstance(expected, str):
            return False
        wanted = Fraction(expected)
        return abs(Fraction(got) - wanted) <= tolerance * abs(wanted)
    return bool(expected == got)


def integers(given: Case, *names: str) -> list[int]:
    """Read integer fields."""
    return [int(given[name]) for name in names]


def market_of(pid: str, given: Case, **grid: int) -> conn.PerpetualMarket:
    """Make a market of a vector's description."""
    tier = given["liquidity_tier"]
    return conn.PerpetualMarket(
        ticker=pid,
        clob_pair_id=int(pid),
        perpetual_id=int(pid),
        atomic_resolution=int(given["atomic_resolution"]),
        quantum_conversion_exponent=grid.get("quantum_conversion_exponent", -9),
        step_base_quantums=grid.get("step_base_quantums", 1),
        subticks_per_tick=grid.get("subticks_per_tick", 1),
        imf_ppm=int(tier["initial_margin_ppm"]),
        maintenance_fraction_ppm=int(tier["maintenance_fraction_ppm"]),
        open_interest_lower_cap=int(tier["open_interest_lower_cap"]),
        open_interest_upper_cap=int(tier["open_interest_upper_cap"]),
        market_type=given.get("market_type", "CROSS"),
    )


def terms_of(given: Case, pid: str, quantums: int, extra_interest: int = 0) -> risk.PositionMargin:
    """Value a position of a vector's account."""
    fields = given["markets"][pid]
    price, exponent, interest = integers(
        fields, "price", "price_exponent", "open_interest_base_quantums"
    )
    market = market_of(pid, fields)
    return risk.position_margin(market, quantums, price, exponent, interest + extra_interest)


def settled(given: Case, account: Case) -> tuple[int, dict[str, int]]:
    """Settle an account's funding; return its USDC and its positions."""
    positions = {p["perpetual_id"]: int(p["quantums"]) for p in account["positions"]}
    credits = [
        risk.funding_settlement_ppm(
            int(p["quantums"]),
            int(given["markets"][p["perpetual_id"]]["funding_index"]),
            int(p["funding_index"]),
        )
        for p in account["positions"]
    ]
    return int(account["usdc_quantums"]) + risk.funding_settlement(credits), positions


def changed(usdc: int, positions: dict[str, int], update: Case) -> tuple[int, dict[str, int]]:
    """Apply an update's deltas."""
    after = dict(positions)
    for delta in update.get("perpetual_deltas", []):
        pid = delta["perpetual_id"]
        after[pid] = after.get(pid, 0) + int(delta["quantums_delta"])
    return usdc + int(update.get("usdc_delta", 0)), after


def figures_of(
    given: Case, usdc: int, positions: dict[str, int], interest: Mapping[str, int] | None = None
) -> risk.MarginFigures:
    """Sum an account up."""
    extra = interest or {}
    return risk.total_margin(
        usdc, [terms_of(given, p, q, extra.get(p, 0)) for p, q in positions.items()]
    )


def totals_of(given: Case) -> risk.MarginFigures:
    """Sum up the account that a case holds."""
    return figures_of(given, *settled(given, given))


def risk_of(given: Case) -> risk.MarginFigures:
    """Read bare totals."""
    return risk.MarginFigures(
        int(given["net_collateral"]),
        int(given.get("initial_margin", 0)),
        int(given["maintenance_margin"]),
    )


def poor(totals: risk.MarginFigures) -> risk.MarginFigures:
    """Let totals fall short of the initial margin, as in the case."""
    return risk.MarginFigures(
        totals.net_collateral, totals.net_collateral + 1, totals.maintenance_margin
    )


# --- margin


def margin_position(given: Case) -> Any:
    """Answer margin_requirement / position."""
    fields = {**given, "liquidity_tier": {name: given[name] for name in _TIER}}
    terms = terms_of({"markets": {"0": fields}}, "0", int(given["quantums"]))
    return {
        "initial_margin_quote_quantums": terms.initial_margin,
        "maintenance_margin_quote_quantums": terms.maintenance_margin,
    }


def adjusted(given: Case) -> int:
    """Scale the fraction of a case by its open interest."""
    return risk.adjusted_imf_ppm(
        *integers(
            given,
            "initial_margin_ppm",
            "open_interest_lower_cap",
            "open_interest_upper_cap",
            "open_interest_notional_quote_quantums",
        )
    )


def account_totals(given: Case) -> Any:
    """Answer net_collateral / account."""
    totals = figures_of(given, *changed(*settled(given, given), given))
    return {
        "net_collateral": totals.net_collateral,
        "initial_margin": totals.initial_margin,
        "maintenance_margin": totals.maintenance_margin,
    }


def liquidatable(given: Case) -> Any:
    """Answer both kinds of is_liquidatable."""
    totals = risk_of(given) if given["kind"] == "totals" else totals_of(given)
    verdict = risk.is_liquidatable(totals.net_collateral, totals.maintenance_margin)
    return {"liquidatable": verdict}


def updates(given: Case) -> Any:
    """Answer collateral_check / can_update and update."""
    interest: dict[str, int] = {}
    if given["update_type"] == "Match":
        for update in given["updates"]:
            _, before = settled(given, account_of(given, update))
            _, after = changed(0, before, update)
            for pid, quantums in after.items():
                grown = max(quantums, 0) - max(before.get(pid, 0), 0)
                interest[pid] = interest.get(pid, 0) + grown
    results = [judge(given, update, interest) for update in given["updates"]]
    success = all(result == "Success" for result in results)
    return {"success": success, "results": results, **after_updates(given, success)}


def account_of(given: Case, update: Case) -> Case:
    """Find an update's account; one never seen is empty."""
    empty = {"usdc_quantums": "0", "positions": []}
    account: Case = given["accounts"].get(update["subaccount"], empty)
    return account


def judge(given: Case, update: Case, interest: Mapping[str, int]) -> str:
    """Judge one update against the account as it is."""
    usdc, held = settled(given, account_of(given, update))
    usdc_after, after = changed(usdc, held, update)
    markets = [market_of(pid, given["markets"][pid]) for pid in after]
    return risk.check_update(
        figures_of(given, usdc, held), figures_of(given, usdc_after, after, interest), markets
    )


def after_updates(given: Case, success: bool) -> Case:
    """Give the account that the case looks at afterwards."""
    account = given["accounts"]["acct/0"]
    if not success:
        return {"usdc_after": int(account["usdc_quantums"]), "positions_after": rows_of(account)}
    usdc, positions = settled(given, account)
    for update in given["updates"]:
        if update["subaccount"] == "acct/0":
            usdc, positions = changed(usdc, positions, update)
    rows = [
        {
            "perpetual_id": pid,
            "quantums": quantums,
            "funding_index": int(given["markets"][pid]["funding_index"]),
            "quote_balance": 0,
        }
        for pid, quantums in sorted(positions.items())
        if quantums
    ]
    return {"usdc_after": usdc, "positions_after": rows}


def rows_of(account: Case) -> list[Case]:
    """Give positions as they were stated, their numbers as numbers."""
    numbers = ("quantums", "funding_index", "quote_balance")
    return [{**p, **{name: int(p[name]) for name in numbers}} for p in account["positions"]]


# --- liquidation


def closing(given: Case, delta: int) -> tuple[risk.MarginFigures, Any, Any]:
    """Give the account's totals and one position's terms before and after closing `delta`."""
    usdc, held = settled(given, given)
    pid = given["perpetual_id"]
    risk.check_closing(held.get(pid, 0), delta)
    before, after = (terms_of(given, pid, quantums) for quantums in (held[pid], held[pid] + delta))
    return figures_of(given, usdc, held), before, after


def bankruptcy(given: Case) -> Any:
    """Answer bankruptcy_price."""
    try:
        quote = risk.bankruptcy_price(*closing(given, int(given["delta_quantums"])))
    except risk.LiquidationError:
        return {"error": "ErrInvalidPerpetualPositionSizeDelta"}
    return {"delta_quote_quantums": quote}


def fillable(given: Case) -> Any:
    """Answer fillable_price / fillable_price."""
    names = ("bankruptcy_adjustment_ppm", "spread_to_maintenance_margin_ratio_ppm")
    settings = risk.LiquidationTerms(**{name: int(given[name]) for name in names})
    try:
        totals, position, _ = closing(given, int(given["delta_quantums"]))
    except risk.LiquidationError:
        return {"error": "ErrInvalidPerpetualPositionSizeDelta"}
    quantums = settled(given, given)[1][given["perpetual_id"]]
    price = risk.fillable_price(totals, position, quantums, settings)
    return {"price_quote_quantums_per_base_quantum": price}


def fillable_subticks(given: Case) -> Any:
    """Answer fillable_price / to_subticks."""
    subticks = risk.fillable_subticks(
        Fraction(given["price"]),
        is_long=given["is_liquidating_long"],
        quantum_conversion_exponent=int(given["quantum_conversion_exponent"]),
        subticks_per_tick=int(given["subticks_per_tick"]),
    )
    return {"subticks": subticks}


def insurance(given: Case) -> Any:
    """Answer liquidation_fee / insurance_fund_delta."""
    quantums, subticks, exponent, fee_ppm = integers(
        given,
        "fill_quantums",
        "fill_subticks",
        "quantum_conversion_exponent",
        "max_liquidation_fee_ppm",
    )
    side = 1 if given["is_buy"] else -1
    quote = -side * conn.fill_to_quote(quantums, subticks, exponent)
    try:
        bankrupt = risk.bankruptcy_price(*closing(given, side * quantums))
    except risk.LiquidationError:
        return {"error": "ErrInvalidQuantumsForInsuranceFundDeltaCalculation"}
    return {"insurance_fund_delta": risk.insurance_fund_delta(bankrupt, quote, fee_ppm)}


def liquidation_settings(given: Case) -> risk.LiquidationTerms:
    """Read the limits of a case."""
    return risk.LiquidationTerms(
        min_position_notional=int(given["min_position_notional_liquidated"]),
        max_position_portion_ppm=int(given["max_position_portion_liquidated_ppm"]),
        max_subaccount_notional=int(given.get("max_notional_liquidated", 0)),
    )


def liquidation_size(given: Case) -> Any:
    """Answer liquidation_fee / liquidatable_size."""
    position = given["positions"][0]
    fields = given["markets"][position["perpetual_id"]]
    step = int(given["step_base_quantums"])
    delta = risk.liquidation_size(
        market_of(position["perpetual_id"], fields, step_base_quantums=step),
        int(position["quantums"]),
        int(fields["price"]),
        int(fields["price_exponent"]),
        liquidation_settings(given),
    )
    return {"delta_quantums": delta}


def liquidation_limits(given: Case) -> Any:
    """Answer liquidation_fee / position_limits."""
    position = given["positions"][0]
    terms = terms_of(given, position["perpetual_id"], int(position["quantums"]))
    least, most = risk.liquidation_limits(abs(terms.net_notional), liquidation_settings(given))
    return {"min": least, "max": most}


# --- funding


def premium(given: Case) -> Any:
    """Answer funding_rate / premium_vote."""
    orders = [order_of(order) for order in given["orders"]]
    tier = dict.fromkeys(_TIER, 1)
    market = market_of(
        "0",
        {"atomic_resolution": given["atomic_resolution"], "liquidity_tier": tier},
        quantum_conversion_exponent=int(given["quantum_conversion_exponent"]),
    )
    bids, asks = (
        [(order.subticks, order.quantums) for order in orders if order.side == side]
        for side in ("BUY", "SELL")
    )
    vote = data.premium_vote(
        market,
        bids,
        asks,
        *integers(given, "index_price", "index_price_exponent"),
        impact_notional=int(given["impact_notional_quote_quantums"]),
        clamp_ppm=int(given["max_abs_premium_vote_ppm"]),
    )
    return {"premium_ppm": vote}


def samples(given: Case) -> Any:
    """Answer funding_rate / votes_to_samples; samples of 0 are dropped."""
    terms = data.FundingTerms(min_num_votes_per_sample=int(given["min_num_votes_per_sample"]))
    after = {pid: [int(old) for old in held] for pid, held in given["previous_samples"].items()}
    for pid, votes in given["votes"].items():
        sample = data.premium_sample(map(int, votes), int(given["num_votes"]), terms=terms)
        if sample:
            after.setdefault(pid, []).append(sample)
    return {"samples": after}


def funding_tick(given: Case) -> Any:
    """Answer funding_rate / funding_tick: the rate, and how far it moves the index."""
    terms = data.FundingTerms(
        funding_rate_clamp_factor_ppm=int(given["funding_rate_clamp_factor_ppm"]),
        sample_seconds=int(given["sample_duration"]),
        tick_seconds=int(given["tick_duration"]),
    )
    rate = data.funding_rate(
        map(int, given["samples"]),
        *integers(given, "initial_margin_ppm", "maintenance_fraction_ppm", "default_funding_ppm"),
        terms=terms,
    )
    delta = risk.funding_index_delta(
        rate, terms.tick_seconds, *integers(given, "price", "price_exponent", "atomic_resolution")
    )
    return {"rate_8h_ppm": rate, "funding_index_delta": delta}


# --- what people are shown


def liquidation_prices(given: Case) -> Any:
    """Answer liquidation_price."""
    return {"positions": front_positions(front_end(given))}


def account_summary(given: Case) -> Any:
    """Answer account_summary: a parent and its children, in human units."""
    seen = front_end(given)
    parent, children = front_account(seen.parent), seen.children.items()
    return {
        **parent,
        "parent": {
            **parent,
            "equity": seen.equity,
            "parent_subaccount_equity": seen.parent.equity,
        },
        "equity": seen.equity,
        "children": {str(number): front_account(child) for number, child in children},
        "positions": front_positions(seen),
    }


def front_end(given: Case) -> risk.ParentView:
    """See the accounts of a case as the front end that it names shows them."""
    views: dict[str, risk.ViewName] = {"v4_web_parent_account": "web", "abacus_account": "abacus"}
    family = {
        int(number): (
            int(Decimal(account["usdc"]).scaleb(6)),
            [front_position(given, *position) for position in account["positions"].items()],
        )
        for number, account in given["subaccounts"].items()
    }
    return risk.parent_view(views[given["kind"]], family)


# Finer than any size of a case.
_RESOLUTION = -12


def front_position(given: Case, ticker: str, position: Case) -> risk.Holding:
    """Bring a position in human units onto the chain's grid."""
    fields = given["markets"][ticker]
    imf_ppm = conn.ppm(fields["initialMarginFraction"])
    lower, upper = (
        int(Decimal(fields[f"openInterest{end}Cap"] or 0).scaleb(6)) for end in ("Lower", "Upper")
    )
    market = conn.PerpetualMarket(
        ticker=ticker,
        clob_pair_id=0,
        perpetual_id=0,
        atomic_resolution=_RESOLUTION,
        quantum_conversion_exponent=-9,
        step_base_quantums=1,
        subticks_per_tick=1,
        imf_ppm=imf_ppm,
        maintenance_fraction_ppm=conn.ppm(fields["maintenanceMarginFraction"]) * 10**6 // imf_ppm,
        open_interest_lower_cap=lower,
        open_interest_upper_cap=upper,
    )
    size = abs(int(Decimal(position["size"]).scaleb(-_RESOLUTION)))
    price, exponent = conn.exact(fields["oraclePrice"])
    selected = given.get("selected_leverages", {}).get(ticker)
    return risk.Holding(
        market=market,
        quantums=-size if position["side"] == "SHORT" else size,
        price=price,
        exponent=exponent,
        open_interest=int(Decimal(fields["openInterest"]).scaleb(-_RESOLUTION)),
        entry_price=Decimal(position["entry_price"]),
        selected_leverage=None if selected is None else Fraction(selected),
    )


def front_account(seen: risk.AccountView) -> Case:
    """Name an account's figures as the front ends do."""
    return {
        "equity": seen.equity,
        "free_collateral": seen.free_collateral,
        "raw_free_collateral": seen.raw_free_collateral,
        "margin_usage": seen.margin_usage,
        "leverage": seen.leverage,
        "quote_balance": seen.quote_balance,
        "notional_total": seen.notional,
        "value_total": seen.value,
        "initial_risk_total": seen.initial_margin,
        "maintenance_risk_total": seen.maintenance_margin,
    }


def front_positions(seen: risk.ParentView) -> list[Case]:
    """Name the positions' figures as the front ends do."""
    return [
        {
            "market": position.ticker,
            "subaccount_number": str(number),
            "signed_size": position.size,
            "notional": position.notional,
            "value": position.value,
            "adjusted_imf": position.imf,
            "adjusted_mmf": position.mmf,
            "initial_risk": position.notional * position.imf,
            "initial_risk_selected": position.initial_margin,
            "maintenance_risk": position.maintenance_margin,
            "max_leverage": position.max_leverage,
            "leverage": position.leverage,
            "signed_leverage": position.leverage,
            "liquidation_price": position.liquidation_price,
            "unrealized_pnl": position.unrealized_pnl,
            "unrealized_pnl_percent": position.unrealized_pnl_percent,
            "margin_mode": position.margin_mode,
        }
        for number, child in seen.children.items()
        for position in child.positions
    ]


# --- units and book


def conversion(function: Callable[..., int], *names: str) -> Solve:
    """Answer a conversion that is one function of integers."""
    answers = {"fill_to_quote": "quote_quantums"}
    return lambda given: {
        answers.get(given["kind"], "quantums"): function(*integers(given, *names))
    }


def oracle_subticks(given: Case) -> Fraction:
    """Return one unit of an oracle's integer price in subticks, exactly."""
    conversion_exponent, atomic_resolution = integers(
        given, "quantum_conversion_exponent", "atomic_resolution"
    )
    tier = dict.fromkeys(_TIER, 1)
    market = market_of(
        "0",
        {"atomic_resolution": atomic_resolution, "liquidity_tier": tier},
        quantum_conversion_exponent=conversion_exponent,
    )
    return data.oracle_subticks(market, 1, int(given["price_exponent"]))


def uncrossed(given: Case) -> Any:
    """Answer orderbook_uncross."""
    sides = [
        {Decimal(p): (Decimal(level["size"]), int(level["offset"])) for p, level in side.items()}
        for side in (given["bids"], given["asks"])
    ]
    bids, asks = (
        [{"price": price, "size": size, "offset": offset} for price, size, offset in side]
        for side in data.uncross(*sides)
    )
    return {"bids": bids, "asks": asks}


# --- orders


class Script(paper.Positions):
    """Accounts that fail the n-th collateral check that a case names."""

    def __init__(self, positions: dict[conn.Subaccount, int]) -> None:
        super().__init__(positions)
        self.failures: dict[int, dict[str, paper.UpdateResult]] = {}
        self.checks = 0

    def check(self, match: paper.Match) -> tuple[paper.UpdateResult, paper.UpdateResult]:
        """Return how this check ends for either side."""
        failing = self.failures.get(self.checks, {})
        self.checks += 1
        maker, taker = (str(order.subaccount) for order in (match.maker, match.taker))
        return failing.get(maker, "Success"), failing.get(taker, "Success")


def subaccount_of(text: str) -> conn.Subaccount:
    """Read `name/number`."""
    owner, _, number = text.partition("/")
    return conn.Subaccount(owner, int(number))


def order_of(given: Case) -> paper.Order:
    """Read an order."""
    return paper.Order(
        subaccount=subaccount_of(given["subaccount"]),
        client_id=int(given["client_id"]),
        clob_pair_id=int(given["clob_pair_id"]),
        side=given["side"],
        quantums=int(given["quantums"]),
        subticks=int(given["subticks"]),
        time_in_force=given["time_in_force"],
        reduce_only=given["reduce_only"],
        order_flags=int(given["order_flags"]),
        good_til_block=int(given.get("good_til_block", 0)),
        good_til_block_time=int(given.get("good_til_block_time", 0)),
        condition_type=given.get("condition_type", ""),
        trigger_subticks=int(given.get("trigger_subticks", 0)),
    )


def name_of(order: paper.Order) -> str:
    """Name an order as the vectors do."""
    return f"{order.subaccount}:{order.client_id}:{order.clob_pair_id}:{order.order_flags}"


def matched(given: Case) -> Any:
    """Answer matching, time_in_force and reduce_only."""
    orders = [order_of(order) for order in [*given["resting_sequence"], given["order"]]]
    books = {order.clob_pair_id: matching_book(order.clob_pair_id, given) for order in orders}
    for order in orders[:-1]:
        books[order.clob_pair_id].place(order)
    taker = orders[-1]
    accounts = books[taker.clob_pair_id].accounts
    if isinstance(accounts, Script):
        failures = given["collateral_failures_by_check_index"]
        accounts.checks, accounts.failures = 0, {int(n): who for n, who in failures.items()}
    result = books[taker.clob_pair_id].place(taker)
    answer: dict[str, Any] = {
        "filled_quantums": result.filled,
        "fills": [
            {"maker": name_of(f.maker), "taker": name_of(f.taker), "quantums": f.quantums}
            for f in result.fills
        ],
        "cancelled_reduce_only": sorted(
            name_of(order) for order, reason in result.removed if reason == "REDUCE_ONLY_RESIZE"
        ),
        "error" if result.error else "status": result.error or result.status,
    }
    for side, key in (("BUY", "bids"), ("SELL", "asks")):
        left = [o for book in books.values() for o in book.orders.values() if o.side == side]
        answer[key] = [
            {"order_id": name_of(o), "remaining": o.remaining} for o in sorted(left, key=name_of)
        ]
    return answer


def matching_book(clob_pair_id: int, given: Case) -> paper.OrderBook:
    """Open an empty book over the positions that a case states for its market."""
    fields = {"atomic_resolution": -10, "liquidity_tier": dict.fromkeys(_TIER, 1)}
    positions = {
        subaccount_of(who): int(quantums)
        for key, quantums in given["positions"].items()
        for who, _, clob in [key.partition("@")]
        if int(clob) == clob_pair_id
    }
    return paper.OrderBook(market_of(str(clob_pair_id), fields), Script(positions))


def triggered(given: Case) -> Any:
    """Answer conditional_trigger / poll_once: which orders one price triggers."""
    waiting = paper.Waiting(untriggered=tuple(map(order_of, given["orders"])))
    entry = waiting.enter([Fraction(given["oracle_price_subticks"])])
    return {
        "triggered_order_ids": sorted(map(name_of, entry.entering)),
        "still_untriggered": sorted(
            f"{name_of(o)}|{o.side}|{o.condition_type}|{o.trigger_subticks}"
            for o in entry.waiting.untriggered
        ),
    }


def triggered_by_block(given: Case) -> Any:
    """Answer conditional_trigger / oracle_and_trade_prices: a block's end, after its trades."""
    (multiplier,) = integers(given, "trigger_multiplier")
    if multiplier != paper.TRIGGER_MULTIPLIER:
        raise NotBuiltError(f"a trigger multiplier of {multiplier}")
    waiting = paper.Waiting()
    for order in map(order_of, given["conditional_orders"]):
        waiting, _ = waiting.submit(order)
    prices = paper.trigger_prices(
        Fraction(given["oracle_price_subticks"]),
        map(int, given["block_trade_subticks"]),
        min_price_change_ppm=int(given["min_price_change_ppm"]),
    )
    entry = waiting.enter(prices)
    fired = {name_of(order): True for order in entry.entering}
    return {"triggered": {name_of(o): False for o in entry.waiting.untriggered} | fired}


# --- settlement and validity


def fills_settled(given: Case) -> Any:
    """Answer fill_settlement: ledgers, filled one by one."""
    markets = {key: pair_of(key, given) for key in given["markets"]}
    ledgers = {who: ledger_of(who, held, markets, given) for who, held in given["accounts"].items()}
    fees = conn.Fees(taker_ppm=int(given["taker_fee_ppm"]), maker_ppm=int(given["maker_fee_ppm"]))
    for fill in given["fills"]:
        settle = deleverage if fill.get("deleverage") else settle_match
        settle(ledgers, markets[fill["perpetual_id"]], fees, fill, given)
    return {
        "usdc_after": {who: ledger.collateral for who, ledger in ledgers.items()},
        "positions_after": {
            who: [
                {"perpetual_id": held.market.perpetual_id, "quantums": held.quantums}
                for held in ledger.holdings.values()
            ]
            for who, ledger in ledgers.items()
        },
    }


def pair_of(key: str, given: Case) -> conn.PerpetualMarket:
    """Read a market with the clob pair's own grid."""
    pair, fields = given["clob_pairs"][key], given["markets"][key]
    tier = fields["liquidity_tier"]
    return conn.PerpetualMarket(
        ticker=key,
        clob_pair_id=int(key),
        perpetual_id=int(key),
        atomic_resolution=int(fields["atomic_resolution"]),
        imf_ppm=int(tier["initial_margin_ppm"]),
        maintenance_fraction_ppm=int(tier["maintenance_fraction_ppm"]),
        quantum_conversion_exponent=int(pair["quantum_conversion_exponent"]),
        step_base_quantums=int(pair["step_base_quantums"]),
        subticks_per_tick=int(pair["subticks_per_tick"]),
    )


def ledger_of(who: str, held: Case, markets: Any, given: Case) -> paper.Ledger:
    """Open a ledger with the positions that a case states."""
    ledger = paper.Ledger(subaccount_of(who), int(held["usdc_quantums"]))
    for key, fields in given["markets"].items():
        ledger.value(key, *integers(fields, "price", "price_exponent"))
    for position in held["positions"]:
        # Given, not bought: what a case holds at first has cost nothing.
        ledger.fill(markets[position["perpetual_id"]], int(position["quantums"]), 0, quote=0)
    return ledger


class CaseHouse:
    """A venue of the accounts of one case, for dydx_paper's own clearing."""

    def __init__(self, ledgers: Mapping[str, paper.Ledger], fees: conn.Fees, given: Case) -> None:
        self.ledgers = {ledger.subaccount: ledger for ledger in ledgers.values()}
        most = int(given["max_liquidation_fee_ppm"])
        terms = risk.LiquidationTerms(max_liquidation_fee_ppm=most)
        self.backstop = paper.Backstop(terms, paper.InsuranceFunds(None))
        self._fees = fees

    def fees_of(self, ledger: paper.Ledger) -> conn.Fees:
        """Return what the case charges everybody."""
        return self._fees

    def book(self, order: paper.Order, fill: paper.Filled) -> None:
        """Book one side of a match."""
        self.ledgers[order.subaccount].book(fill)


def settle_match(ledgers: Any, market: Any, fees: Any, fill: Case, given: Case) -> None:
    """Settle one match, an ordinary or a liquidating one."""
    quantums, subticks = integers(fill, "fill_quantums", "maker_subticks")
    sides: list[conn.Side] = ["BUY", "SELL"] if fill["taker_side"] == "BUY" else ["SELL", "BUY"]
    taker, maker = (
        paper.Order(
            subaccount=ledgers[fill[f"{who}_subaccount"]].subaccount,
            client_id=0,
            clob_pair_id=market.clob_pair_id,
            side=side,
            quantums=quantums,
            subticks=subticks,
            builder_fee_ppm=int(fill[f"{who}_builder_fee_ppm"]),
            liquidation=fill["liquidation"] and who == "taker",
        )
        for who, side in zip(("taker", "maker"), sides, strict=True)
    )
    clearing = paper.Clearing(CaseHouse(ledgers, fees, given), market)
    clearing.settle(paper.Match(maker, taker, quantums, subticks))


def deleverage(ledgers: Any, market: Any, fees: Any, fill: Case, given: Case) -> None:
    """Settle one deleveraging: at the bankruptcy price, or the oracle's in final settlement."""
    closed, other = ledgers[fill["liquidated"]], ledgers[fill["offsetting_subaccount"]]
    size = int(fill["fill_quantums"])
    signed = -size if closed.position(market.ticker) > 0 else size
    received = (
        closed.worth.margin_of(market, -signed).net_notional
        if fill["final_settlement"]
        else paper.bankruptcy(closed, market, signed)
    )
    quote = received if signed < 0 else -received
    closed.fill(market, signed, 0, quote=quote)
    other.fill(market, -signed, 0, quote=quote)


# The chain's enum numbers, in its order.
_SIDES = ("", "BUY", "SELL")
_TIMES_IN_FORCE = ("GTT", "IOC", "POST_ONLY", "FOK")
_CONDITIONS = ("", "STOP_LOSS", "TAKE_PROFIT")
# The cases hide addresses: of an owner they hold only whether it is one.
_ADDRESSES = {"valid": "dydx1kzsvkf2ghjqlysuffdkhcdctknl4rsvcx5hkm5"}


def validity(given: Case) -> Any:
    """Answer order_validation / stateless."""
    side, time_in_force, condition = integers(given, "side", "time_in_force", "condition_type")
    named = subaccount_of(given["subaccount"])
    order = conn.OrderRequest(
        ticker="0",
        clob_pair_id=0,
        side=cast(conn.Side, _SIDES[side]),
        quantums=int(given["quantums"]),
        subticks=int(given["subticks"]),
        time_in_force=cast(conn.TimeInForce, _TIMES_IN_FORCE[time_in_force]),
        client_id=0,
        reduce_only=given["reduce_only"],
        order_flags=int(given["order_flags"]),
        good_til_block=int(given["good_til_block"] or 0),
        good_til_block_time=int(given["good_til_block_time"] or 0),
        condition_type=cast(conn.ConditionType, _CONDITIONS[condition]),
        trigger_subticks=int(given["trigger_subticks"]),
    )
    # Any market will do: its grid is the finest, and it is the one that the order names.
    market = market_of("0", {"atomic_resolution": -10, "liquidity_tier": dict.fromkeys(_TIER, 1)})
    owner = _ADDRESSES.get(named.owner, named.owner)
    subaccount = conn.Subaccount(owner, named.number)
    return {"error": conn.objection(order, market, subaccount=subaccount) or None}


# --- fees


def fee_rates(given: Case) -> Any:
    """Answer fees / fee_ppm: the tier, then what the market and staking take off."""
    tier = conn.fee_tier(
        [
            conn.FeeTier(
                name=row["name"],
                volume=int(row["absolute_volume_requirement"]),
                total_share_ppm=int(row["total_volume_share_requirement_ppm"]),
                maker_share_ppm=int(row["maker_volume_share_requirement_ppm"]),
                taker_ppm=int(row["taker_fee_ppm"]),
                maker_ppm=int(row["maker_fee_ppm"]),
            )
            for row in given["tiers"]
        ],
        maker_volume=int(given["user_maker_notional"]),
        taker_volume=int(given["user_taker_notional"]),
        total_volume=int(given["global_notional"]),
        is_vault=given["is_vault"],
    )
    staking = given["staking"] or {"tiers": [], "staked_base_tokens": "0"}
    off_ppm = conn.staking_discount_ppm(
        staking_levels(staking["tiers"]), tier.name, int(staking["staked_base_tokens"])
    )
    on_ppm = market_charge(given["market_discount"])
    return {
        name: conn.fee_ppm(rate, charge_ppm=on_ppm, discount_ppm=off_ppm)
        for name, rate in (("taker_fee_ppm", tier.taker_ppm), ("maker_fee_ppm", tier.maker_ppm))
    }


def market_charge(given: Case | None) -> int:
    """Return what the discount of a case leaves of a fee, in parts per million."""
    if given is None:
        return 1_000_000
    names = ("clob_pair_id", "start_time", "end_time", "charge_ppm")
    discount = conn.MarketDiscount(*integers(given, *names))
    return discount.at(*integers(given, "order_clob_pair_id", "block_time"))


def staking_levels(tiers: Sequence[Case]) -> dict[str, list[conn.StakingLevel]]:
    """Read the staking levels of each fee tier."""
    names = ("min_staked_base_tokens", "fee_discount_ppm")
    return {
        tier["fee_tier_name"]: [
            conn.StakingLevel(*integers(level, *names)) for level in tier["levels"]
        ]
        for tier in tiers
    }


def staking_discount(given: Case) -> Any:
    """Answer fees / staking_discount."""
    levels, staked = staking_levels(given["tiers"]), int(given["staked_base_tokens"])
    return {"discount_ppm": conn.staking_discount_ppm(levels, given["fee_tier_name"], staked)}


_TIER = (
    "initial_margin_ppm",
    "maintenance_fraction_ppm",
    "open_interest_lower_cap",
    "open_interest_upper_cap",
)
_BASE = ("quantums", "price", "price_exponent", "atomic_resolution")

SOLVERS: dict[tuple[str, str], Solve] = {
    ("margin_requirement", "position"): margin_position,
    ("margin_requirement", "adjusted_imf_ppm"): lambda given: {
        "adjusted_initial_margin_ppm": adjusted(given)
    },
    ("margin_requirement", "initial_margin_from_notional"): lambda given: {
        "initial_margin_quote_quantums": risk.mul_ppm(
            int(given["notional_quote_quantums"]), adjusted(given), round_up=True
        )
    },
    ("margin_requirement", "maintenance_margin_ppm"): lambda given: {
        "maintenance_margin_ppm": risk.maintenance_margin_ppm(
            *integers(given, "initial_margin_ppm", "maintenance_fraction_ppm")
        )
    },
    ("net_collateral", "net_notional"): lambda given: {
        "net_notional": conn.base_to_quote(*integers(given, *_BASE))
    },
    ("net_collateral", "account"): account_totals,
    ("is_liquidatable", "totals"): liquidatable,
    ("is_liquidatable", "account"): liquidatable,
    ("collateral_check", "is_initial_collateralized"): lambda given: {
        "ok": risk_of({"maintenance_margin": 0, **given}).free_collateral >= 0
    },
    ("collateral_check", "is_maintenance_collateralized"): lambda given: {
        "ok": risk_of(given).cushion >= 0
    },
    ("collateral_check", "risk_compare"): lambda given: {
        "first_vs_second": risk.compare_risk(risk_of(given["first"]), risk_of(given["second"]))
    },
    ("collateral_check", "transition_when_new_is_undercollateralized"): lambda given: {
        "result": risk.state_change(risk_of(given["cur"]), poor(risk_of(given["new"])))
    },
    ("collateral_check", "can_update"): updates,
    ("collateral_check", "update"): updates,
    ("bankruptcy_price", ""): bankruptcy,
    ("fillable_price", "fillable_price"): fillable,
    ("fillable_price", "to_subticks"): fillable_subticks,
    ("liquidation_fee", "insurance_fund_delta"): insurance,
    ("liquidation_fee", "liquidatable_size"): liquidation_size,
    ("liquidation_fee", "position_limits"): liquidation_limits,
    ("liquidation_price", "v4_web_parent_account"): liquidation_prices,
    ("liquidation_price", "abacus_account"): liquidation_prices,
    ("account_summary", "v4_web_parent_account"): account_summary,
    ("account_summary", "abacus_account"): account_summary,
    ("funding_rate", "premium_vote"): premium,
    ("funding_rate", "votes_to_samples"): samples,
    ("funding_rate", "remove_tails"): lambda given: {
        "samples": data.remove_tails(map(int, given["samples"]), int(given["removal_rate_ppm"]))
    },
    ("funding_rate", "clamp_bound"): lambda given: {
        "max_abs_ppm": data.funding_clamp_ppm(
            *integers(given, "clamp_factor_ppm", "initial_margin_ppm", "maintenance_fraction_ppm")
        )
    },
    ("funding_rate", "funding_tick"): funding_tick,
    ("funding_payment", "settlement_ppm"): lambda given: {
        "net_settlement_ppm": risk.funding_settlement_ppm(
            *integers(given, "quantums", "funding_index_now", "funding_index_position")
        )
    },
    ("funding_payment", "funding_index_delta"): lambda given: {
        "funding_index_delta": risk.funding_index_delta(
            *integers(
                given, "rate_8h_ppm", "seconds", "price", "price_exponent", "atomic_resolution"
            )
        )
    },
    ("fees", "mul_ppm"): lambda given: {
        "result": risk.mul_ppm(*integers(given, "value", "ppm"), round_up=given["round_up"])
    },
    ("fees", "fee_ppm"): fee_rates,
    ("fees", "staking_discount"): staking_discount,
    ("fill_settlement", ""): fills_settled,
    ("order_validation", "stateless"): validity,
    ("conversions", "base_to_quote"): conversion(conn.base_to_quote, *_BASE),
    ("conversions", "quote_to_base"): conversion(conn.quote_to_base, *_BASE),
    ("conversions", "fill_to_quote"): conversion(
        conn.fill_to_quote, "base_quantums", "subticks", "quantum_conversion_exponent"
    ),
    ("conversions", "average_subticks"): lambda given: {
        "subticks": risk.exact_subticks(
            Fraction(*integers(given, "quote_quantums", "base_quantums")),
            int(given["quantum_conversion_exponent"]),
        )
    },
    ("conversions", "price_to_subticks"): lambda given: {
        "subticks": int(given["price"]) * oracle_subticks(given)
    },
    ("conversions", "subticks_to_price"): lambda given: {
        "price": int(given["subticks"]) / oracle_subticks(given)
    },
    ("orderbook_uncross", ""): uncrossed,
    ("conditional_trigger", "poll_once"): triggered,
    ("conditional_trigger", "oracle_and_trade_prices"): triggered_by_block,
    ("matching", ""): matched,
    ("time_in_force", ""): matched,
    ("reduce_only", ""): matched,
}

# === Captures ===

FOLDERS = ("ws", "rest", "accounts", "candles", "books", "funding")
# Where a REST capture does not hold the request, its name does: the first that fits.
ENDPOINTS: dict[str, str] = {
    "perpetual_?markets": "/v4/perpetualMarkets",
    "candles": "/v4/candles/perpetualMarkets/ETH-USD",
    "historicalFunding": "/v4/historicalFunding/ETH-USD",
    "sparklines": "/v4/sparklines",
    "height_indexer": "/v4/height",
    "list_perpetual_positions": "/v4/perpetualPositions",
    "asset_positions": "/v4/assetPositions",
    "orders": "/v4/orders",
    "order": "/v4/orders/id",
    "fills": "/v4/fills",
    "transfers": "/v4/transfers",
    "addresses": "/v4/addresses/a",
}
NODE_KINDS: dict[str, str] = {
    "equity_tiers": "equity_tiers",
    "user_fee_tier": "user_fee_tier",
    "fee_tiers": "fee_tiers",
    "withdrawal_capacity": "withdrawal_capacity",
    "tx_broadcast": "broadcast",
    "validator_latest_block": "latest_block",
    "genesis": "genesis",
}


def captures(directory: Path) -> list[FamilyTally]:
    """Parse every capture found, folder by folder."""
    folders = [directory / name for name in FOLDERS]
    tallies = [
        parse_file(file)
        for folder in folders
        for file in sorted(folder.glob("*") if folder.is_dir() else ())
    ]
    if not tallies:
        raise ConformanceError(
            f"expected a directory with {FOLDERS[0]}, {FOLDERS[1]} …, got {directory}"
        )
    return tallies


def parse_file(file: Path) -> FamilyTally:
    """Parse the texts of one capture; a refusal is reported with its line."""
    tally = FamilyTally(f"{file.parent.name}/{file.name}")
    if file.suffix not in (".json", ".jsonl"):
        tally.failures.append(f"skipped: {file.suffix[1:]} is somebody's table, not wire text")
        return tally
    for number, parse in enumerate(parsers(file), start=1):
        tally.total += 1
        try:
            parse()
            tally.passed += 1
        except conn.ConnError as error:
            tally.failures.append(f"line {number}: {error}"[:300])
    return tally


def parsers(file: Path) -> Iterator[Callable[[], object]]:
    """Give one call for each text in a capture."""
    text = file.read_text()
    if file.parent.name == "ws":
        for number, line in enumerate(text.splitlines(), start=1):
            frame = conn.ws_frame(number, 0, 0, "capture", line)
            yield partial(conn.contents, frame)
    elif file.suffix == ".jsonl":
        for line in text.splitlines():
            body = f'{{"candles":[{line}]}}'
            yield partial(conn.rest_contents, ENDPOINTS["candles"], body)
    else:
        yield partial(parse_body, file.stem, text)


def parse_body(name: str, text: str) -> Any:
    """Parse a REST or node body by what its file is called."""
    for part, kind in NODE_KINDS.items():
        if part in name:
            return conn.node_contents(kind, text)
    for pattern, path in ENDPOINTS.items():
        if re.search(pattern, name, re.IGNORECASE):
            return conn.rest_contents(path, text)
    raise conn.WireError(f"expected a name that shows the endpoint, got {name}")


# === Sessions ===
# What a node and the indexer's database held at a named block, against what the layers make of
# the frames that the indexer sent. No session is known by its name.

Figure = tuple[str, Any, Any]  # its name, the truth, what the layers have


@dataclass(frozen=True)
class Moment:
    """What a subaccount holds after a block, in quote quantums and base units."""

    collateral: int | None = None
    unsettled: int = 0
    sizes: Mapping[str, Decimal] = field(default_factory=dict)


class Played:
    """The layers' own state, frame by frame, of one recorded played.

    `moments` is what a subaccount held after each block that changed it and that frames reported;
    `prices` and `interest` of each market stand beside the block of their report;
    `reported_interest` is what the frames themselves report last (block 0: a snapshot, whose
    figure is of no known block).
    """

    def __init__(self, truth: Case, frames: Sequence[conn.Frame]) -> None:
        self.truth = truth
        self.accounts, self.data = conn.Accounts(), data.DataState(resolutions=["1MIN"])
        self.risks = {
            name: risk.Risk(subaccount=subaccount_of(name), guard=False) for name in truth["state"]
        }
        self.updates: dict[str, list[conn.AccountUpdate]] = {name: [] for name in self.risks}
        self.prices: dict[str, list[tuple[int, data.Oracle]]] = {}
        self.interest: dict[str, list[tuple[int, int]]] = {}
        self.reported_interest: dict[str, tuple[int, str]] = {}
        self.moments: dict[tuple[str, int], Moment] = {}
        self.channels = {frame.id for frame in frames if frame.channel == "v4_subaccounts"}
        self.began: dict[str, int] = {}  # the block before what a subaccount is seen to do
        self.is_whole = True  # until a frame is lost
        self.doubted: dict[str, list[str]] = {name: [] for name in self.risks}
        self._reported: set[tuple[str, int]] = set()
        self._due = sorted(int(height) for height in truth["after_block"])
        self._play(frames)

    @property
    def block(self) -> int:
        """Return at the end of which block the truth is true."""
        return int(self.truth["true_at_block"])

    def moment(self, name: str) -> Moment:
        """Return what a subaccount holds now."""
        if not any(update.collateral is not None for update in self.updates[name][-1:]):
            return Moment()
        held = self.risks[name].account
        sizes = {ticker: position.size for ticker, position in held.positions.items()}
        return Moment(held.collateral, held.unsettled.quantums, sizes)

    def price(self, ticker: str, block: int) -> data.Oracle | None:
        """Return the oracle price that was in force at the end of a block."""
        known = [price for height, price in self.prices.get(ticker, ()) if height <= block]
        return known[-1] if known else None

    def _play(self, frames: Sequence[conn.Frame]) -> None:
        # The recorder's own end is no part of the session; nor is what follows the named block.
        received = [n for n, frame in enumerate(frames) if frame.kind in ("ws", "http")]
        for frame in frames[: received[-1] + 1 if received else 0]:
            changed = list(changes_of(frame)) if frame.kind == "ws" else []
            if any(name in self.risks and block > self.block for name, block in changed):
                break
            oracle = oracle_blocks(frame)
            self._look_back(max([block for _, block in changed] + [*oracle.values()], default=0))
            self._reported.update(changed)
            self._fold(frame, oracle)
            for ticker, text, is_new in interest_of(frame):
                self.reported_interest[ticker] = self.data.chain.height * is_new, text
        self._look_back(self.block + 1)

    def _look_back(self, block: int) -> None:
        # A report of a later block shows that all of the earlier ones have come.
        while self._due and self._due[0] < block:
            over = self._due.pop(0)
            for name in self.risks:
                if (name, over) in self._reported:
                    self.moments[name, over] = self.moment(name)

    def _fold(self, frame: conn.Frame, oracle: Mapping[str, int]) -> None:
        lost = frame.kind in ("close", "gap") or frame.is_refusal
        self.is_whole = self.is_whole and not lost
        updates = self.accounts.step(frame)
        for view in data.step(self.data, frame):
            self._note(view, oracle.get(view.ticker, self.data.chain.height))
            for each in self.risks.values():
                each.step(view)
        for update in updates:
            name = f"{update.subaccount.owner}/{update.subaccount.number}"
            if name in self.risks:
                self.risks[name].step(update)
                self.updates[name].append(update)
                if update.collateral is not None:
                    # A child that no snapshot of its parent lists begins with what it does first.
                    began = update.height - (frame.type in UPDATES)
                    self.began.setdefault(name, began)
                if update.doubt and self.is_whole and update.collateral is not None:
                    self.doubted[name].append(f"frame {frame.seq}: {update.doubt}")

    def _note(self, view: data.MarketView, block: int) -> None:
        prices = self.prices.setdefault(view.ticker, [])
        if view.oracle is not None and (not prices or prices[-1][1] is not view.oracle):
            prices.append((block, view.oracle))
        interest = self.interest.setdefault(view.ticker, [])
        known = view.open_interest
        if known is not None and (not interest or interest[-1][1] != known):
            interest.append((block, known))


def rules(directory: Path) -> list[FamilyTally]:
    """Fold every recording and every file of messages; what a rule objects to has failed."""
    files = [*sorted(directory.rglob("*.jsonl.zst")), *sorted(directory.glob("ws/*.jsonl"))]
    if not files:
        raise ConformanceError(f"expected recordings in {directory}, got none")
    return [judged(file, str(file.relative_to(directory))) for file in files]


def judged(file: Path, name: str) -> FamilyTally:
    """Fold one file and list what the rules of the data layer found in it."""
    state, tally = data.DataState(), FamilyTally(name)
    for frame in frames_in(file):
        tally.total += 1
        data.step(state, frame)
    found = {kind: n for kind, n in state.counts().items() if kind in data.RULES}
    tally.failures = [f"{kind}: {n}" for kind, n in found.items()]
    tally.passed = tally.total - sum(found.values())  # integers
    return tally


def frames_in(file: Path) -> Iterator[conn.Frame]:
    """Read a recording, or messages a line, without a time of their own."""
    if file.suffix == ".zst":
        yield from conn.Recording(file)
        return
    for number, line in enumerate(file.read_text().splitlines(), 1):
        yield conn.ws_frame(number, number, number, "c1", line)


def sessions_in(directory: Path) -> list[Session]:
    """Return every session found."""
    found = [Session(file.parent) for file in sorted(directory.glob("*/truth.json"))]
    if not found:
        raise ConformanceError(f"expected a directory of <session>/truth.json, got {directory}")
    return found


def watched(directory: Path) -> list[FamilyTally]:
    """Watch the accounts of every session found as `bot watch` does, from its frames alone."""
    return watched_tallies(sessions_in(directory))


def watched_tallies(found: Sequence[Session]) -> list[FamilyTally]:
    """Return how many figures of each session are as the node held them."""
    tallies = list[FamilyTally]()
    for session in found:
        tallies.append(FamilyTally(str(session)))
        for figure in watched_figures(session):
            count(tallies[-1], figure)
    return tallies


def watched_figures(session: Session) -> Iterator[Figure]:
    """Yield what is folded of each account, what its node held, and where both agree."""
    known = [subaccount_named(name) for name in session.truth["state"]]
    group = Group([Target(each.owner, each.number) for each in known], Options(), known)
    received = [n for n, frame in enumerate(session.frames) if frame.kind in ("ws", "http")]
    last = session.frames[received[-1]]
    for frame in session.frames[: received[-1] + 1]:
        group.take(frame)
    for name, truth in session.truth["state"].items():
        account = group.bots[subaccount_named(name)].risk
        for figure in ("net_collateral", "initial_margin", "maintenance_margin"):
            yield f"{name} {figure}", truth[figure], getattr(account.margin, figure)
        yield f"{name} unsettled", truth["unsettled_funding"], account.account.unsettled.quantums
        yield f"{name} trouble", "", account.account.trouble
    text = text_of(session.chain)
    group.take(conn.Frame(last.seq + 1, last.at, last.mono, LINK, "http", text, "200", PATH))
    for name, truth in session.truth["state"].items():
        whose = subaccount_named(name)
        margin = group.seen[whose].margin
        yield f"{name} on chain", truth["net_collateral"], margin and margin.net_collateral
        yield f"{name} agrees at", session.truth["true_at_block"], group.block(whose)


def sessions(directory: Path) -> tuple[list[FamilyTally], FamilyTally]:
    """Play every session found; its figures, and apart from them the complete candles of all."""
    found = sessions_in(directory)
    tallies, candles = [], FamilyTally("candles")
    for session in found:
        tally = FamilyTally(str(session))
        tallies.append(tally)
        try:
            truth, frames = session.truth, session.frames
        except (OSError, ValueError, conn.ConnError) as error:
            raise ConformanceError(f"expected a session in {session.folder}: {error}") from error
        played = Played(truth, frames)
        for figure in session_figures(played):
            count(tally, figure)
        for what, expected, got in candle_figures(played):
            count(candles, (f"{session} {what}", expected, got))
    return tallies, candles


def count(tally: FamilyTally, figure: Figure) -> None:
    """Count one figure; one that differs is shown."""
    what, expected, got = figure
    tally.total += 1
    if expected == got:
        tally.passed += 1
    else:
        tally.failures.append(f"{what}: expected {expected}, got {got}")


def changes_of(frame: conn.Frame) -> Iterator[tuple[str, int]]:
    """Yield which subaccount a frame reports the state of, and after which block.

    An order alone is no state: full nodes report it before its block, or long after.
    """
    if frame.type not in UPDATES:
        return
    owner, _, number = frame.id.partition("/")
    for part in parts_of(frame):
        if isinstance(part, conn.HeightContents):
            yield "", part.block[0]
        elif isinstance(part, conn.SubaccountContents) and part.block_height:
            rows = [*part.perpetual_positions, *part.asset_positions, *part.fills]
            given = {getattr(row, "subaccount_number", None) for row in rows} - {None}
            if rows or part.transfers is not None:
                for child in given or {number}:
                    yield f"{owner}/{child}", int(part.block_height)


UPDATES = ("channel_data", "channel_batch_data")


def parts_of(frame: conn.Frame) -> list[Any]:
    """Decode a frame; one that cannot be read is empty, and its figures will be missed."""
    try:
        return conn.contents(frame)
    except conn.WireError:
        return []


def oracle_blocks(frame: conn.Frame) -> dict[str, int]:
    """Return the block from which on each oracle price of a frame is in force, by ticker."""
    if frame.channel != "v4_markets" or frame.type not in UPDATES:
        return {}
    given = json.loads(frame.text)["contents"]
    parts = given if isinstance(given, list) else [given]
    rows = [row for part in parts for row in (part.get("oraclePrices") or {}).items()]
    return {t: int(row["effectiveAtHeight"]) for t, row in rows if "effectiveAtHeight" in row}


def interest_of(frame: conn.Frame) -> Iterator[tuple[str, str, bool]]:
    """Yield each market's open interest that a frame reports, and whether that is an update."""
    for part in parts_of(frame) if frame.kind == "ws" and frame.channel == "v4_markets" else ():
        for table in ("markets", "trading"):
            for ticker, row in getattr(part, table, {}).items():
                if row.open_interest is not None:
                    yield ticker, row.open_interest, table == "trading"


def session_figures(played: Played) -> Iterator[Figure]:
    """Yield every figure of a session: its subaccounts, each after each block, its markets."""
    for name, state in played.truth["state"].items():
        short = name[-12:]
        for part in (state_figures, profit_figures, fill_figures, order_figures, doubt_figures):
            for what, expected, got in part(played, name, state):
                yield f"{short} {what}", expected, got
    for block, states in played.truth["after_block"].items():
        for name, state in states.items():
            moment = played.moments.get((name, int(block)))
            for figure in () if moment is None else held(played, int(block), state, moment):
                yield f"{name[-12:]} after {block} {figure[0]}", *figure[1:]
    yield from market_figures(played)


def state_figures(played: Played, name: str, state: Case) -> Iterator[Figure]:
    """Yield what a subaccount holds at the named block."""
    held_then = {**state, "positions": {p["ticker"]: p["quantums"] for p in state["positions"]}}
    yield from held(played, played.block, held_then, played.moment(name))


def held(played: Played, block: int, state: Case, moment: Moment) -> Iterator[Figure]:
    """Yield balance, positions and margins after a block, by the prices then in force."""
    views = played.data.views
    grids = {ticker: views[ticker].market for ticker in moment.sizes if ticker in views}
    sizes = {t: grid.quantums(moment.sizes[t]) for t, grid in grids.items() if grid is not None}
    yield "USDC", state["usdc_quantums"], moment.collateral
    yield "positions", state["positions"], sizes
    names = ("net_collateral", "initial_margin", "maintenance_margin")
    expected = [state[name] for name in names]
    got: list[Any] = [None, None, None]
    # What an hour cost that the chain has not settled yet is in no frame: its rate comes later.
    unsettled = state["unsettled_funding"] or moment.unsettled
    balance = None if moment.collateral is None else moment.collateral + unsettled
    for late in (False, True):
        margin = margin_of(played, block, balance, sizes, late=late)
        if margin is not None and got != expected:
            got = [getattr(margin, name) for name in names]
    yield from zip(names, expected, got, strict=True)


def margin_of(
    played: Played, block: int, balance: int | None, sizes: Mapping[str, int], *, late: bool
) -> risk.MarginFigures | None:
    """Return the margins of a balance and positions after a block; None if they are not known.

    The indexer reports open interest up to a minute late: what it reports next (`late`) may be
    the chain's, or what it reported last.
    """
    holdings = []
    for ticker, quantums in sizes.items():
        view, price = played.data.views[ticker], played.price(ticker, block)
        reports = played.interest.get(ticker, [])
        known = [n for at, n in reports if at <= block][-1:]
        after = [n for at, n in reports if at > block][:1]
        interest = [*(after if late else known), *known, None][0]
        if view.market is None or price is None:
            return None
        holdings.append(
            risk.Holding(
                market=view.market, quantums=quantums, price=price.digits,
                exponent=price.exponent, open_interest=interest,
            )
        )  # fmt: skip
    return None if balance is None else risk.risk_figures(balance, holdings).margin


def profit_figures(played: Played, name: str, state: Case) -> Iterator[Figure]:
    """Yield what a subaccount earned and paid while the recording ran."""
    got = played.updates[name][-1].profit if played.updates[name] else conn.Profit()
    truth, fills = state["profit"], fills_of(state)
    insured = {True: 0, False: 0}
    for fill in fills:
        # What the fill of a liquidated account calls its fee went to the insurance fund.
        insured[fill["type"] == "LIQUIDATED"] += quanta(fill["fee"])
    paid = quanta(truth["fees_in_recording"]) + quanta(truth.get("insurance_in_recording", 0))
    moved = [amount for _, _, amount in transfers_of(played, name, state)]
    yield "realised", quanta(truth["realised_in_recording"]), got.realized
    yield "fees", insured[False], got.fees
    yield "insurance", insured[True], got.insurance
    yield "fees and insurance", paid, got.fees + got.insurance
    yield "funding", quanta(funding_of(state)), -got.funding
    yield "wins", truth["wins_in_recording"], got.wins
    yield "losses", truth["losses_in_recording"], got.losses
    yield "transferred", sum(moved), got.transferred
    yield "profit complete", True, got.complete


def quanta(amount: str | int | Fraction) -> int:
    """Return USDC in quote quantums, the nearest."""
    return round(Fraction(amount) * 10**6)


def fills_of(state: Case) -> list[Case]:
    """Return the fills that happened while the recording ran."""
    return [fill for fill in state["fills"] if not fill.get("before_recording")]


def funding_of(state: Case) -> Fraction:
    """Return the funding received while the recording ran; paid is negative."""
    received = Fraction(state["balance_check"]["funding_received"])
    whole = Fraction(state["profit"].get("funding", 0))
    part = Fraction(state["profit"].get("funding_in_recording", whole))
    return received * part / whole if whole else received


def transfers_of(played: Played, name: str, state: Case) -> list[tuple[int, str, int]]:
    """Return the transfers after the first snapshot: block, transaction, quote quantums paid in."""
    began, own = played.began.get(name, 0), played.truth["subaccount_ids"][name]
    return sorted(
        (int(row["block"]), row["transactionHash"], quanta(row["size"]) * (-1, 1)[row["t"] == own])
        for row in state["transfers"]
        if row["assetId"] == "0" and int(row["block"]) > began
    )


def named_transfers(played: Played, name: str, state: Case) -> list[tuple[int, str, int]]:
    """Return those of them that the frames name.

    A parent's channel does not name what moves between two of its children.
    """
    transfers = transfers_of(played, name, state)
    if name in played.channels:
        return transfers
    who = subaccount_of(name)
    children = range(who.number % 128, 128_001, 128)
    family = {conn.subaccount_id(conn.Subaccount(who.owner, child)) for child in children}
    inner = {row["transactionHash"] for row in state["transfers"] if {row["f"], row["t"]} <= family}
    return [transfer for transfer in transfers if transfer[1] not in inner]


def fill_figures(played: Played, name: str, state: Case) -> Iterator[Figure]:
    """Yield every fill, whether it was reported once, and every transfer."""
    got = [fill for update in played.updates[name] for fill in update.fills]
    rows = {fill["id"]: fill for fill in fills_of(state)}
    yield "fills reported", sorted(rows), sorted(fill.id for fill in got)
    by_id = {fill.id: fill for fill in got}
    for id_, row in rows.items():
        fill = by_id.get(id_)
        expected = (
            row["orderId"], row["ticker"], row["side"], Decimal(row["size"]), Decimal(row["price"]),
            quanta(row["quoteAmount"]), quanta(row["fee"]), row["liquidity"], row["type"],
            row["block"],
        )  # fmt: skip
        yield f"fill {id_[:8]}", expected, fill and (
            fill.order_id, fill.ticker, fill.side, fill.size, fill.price,
            fill.quote, fill.fee, fill.liquidity, fill.type, fill.height,
        )  # fmt: skip
    moved = sorted(
        (
            int(row.created_at_height),
            row.transaction_hash,
            quanta(row.size) * (1 if row.type in ("TRANSFER_IN", "DEPOSIT") else -1),
        )
        for update in played.updates[name]
        for row in update.transfers
    )
    yield "transfers", named_transfers(played, name, state), moved


# The indexer's words for an order; a short-term one may fill until its last block is over.
ORDER_WORDS = {
    "FILLED": "FILLED", "CANCELED": "CANCELLED", "OPEN": "OPEN", "UNTRIGGERED": "OPEN",
    "BEST_EFFORT_OPENED": "OPEN", "BEST_EFFORT_CANCELED": "LEAVING",
}  # fmt: skip


def order_figures(played: Played, name: str, state: Case) -> Iterator[Figure]:
    """Yield what became of every order, and which orders are open."""
    height, orders = played.data.chain.height, played.accounts.orders
    began = played.began.get(name, 0)
    # Short-term orders that never filled are in no table: the indexer's cache alone has them.
    rows: dict[str, Any] = {}
    for row in [*state["comlink"]["orders"], *state["orders"]]:
        rows[row["id"]] = {**rows.get(row["id"], {}), **row}
    resting = set()
    for id_, row in rows.items():
        word, filled = ORDER_WORDS.get(row["status"], row["status"]), Decimal(row["totalFilled"])
        if row["orderFlags"] == "0" and word != "FILLED":
            is_over = 0 < int(row["goodTilBlock"] or 0) < height - 1
            word = "CANCELLED" if is_over else word
        if row["orderFlags"] == "128" and word == "FILLED" and filled < Decimal(row["size"]):
            # The indexer calls a TWAP filled after its first leg; it ends with its time.
            ends = conn.instant(row["createdAt"]) // 10**9 + int(row["duration"])
            word = "CANCELLED" if ends < orders.time else "OPEN"
        resting |= {id_} if word == "OPEN" else set()
        known = orders.orders.get(id_)
        if known is None and 0 < int(row.get("updatedAtHeight") or 0) <= began:
            continue  # it ended before the recording began
        got = known and ("LEAVING" if known.leaving else known.status, known.filled)
        if got and got[0] == "PARTIALLY_FILLED":
            got = "OPEN", got[1]  # for which the indexer has no word of its own
        yield f"order {id_[:8]}", (word, filled), got
    open_ = [order for order in orders.open() if order.subaccount == name and not order.leaving]
    yield "open orders", sorted(resting), sorted(order.id for order in open_)


def doubt_figures(played: Played, name: str, _: Case) -> Iterator[Figure]:
    """Yield what is in doubt at the end, and what was before a frame was lost."""
    yield "doubt", "", played.updates[name][-1].doubt if played.updates[name] else "never seen"
    yield "doubts while nothing was lost", [], played.doubted[name]


def market_figures(played: Played) -> Iterator[Figure]:
    """Yield each market's grid, oracle price and open interest."""
    for ticker, row in played.truth["markets"].items():
        view, price = played.data.views.get(ticker), played.price(ticker, played.block)
        market = None if view is None else view.market
        yield (
            f"{ticker} grid",
            [row[name] for name in GRID],
            market and [getattr(market, GRID[name]) for name in GRID],
        )
        exact = Decimal(row["oracle_price"]).scaleb(row["oracle_exponent"])
        yield f"{ticker} oracle price", exact, price and Decimal(price.text)
        yield f"{ticker} open interest", *interest_figure(played, ticker, row)


GRID = {
    "perpetual": "perpetual_id", "clob_pair": "clob_pair_id",
    "atomic_resolution": "atomic_resolution",
    "quantum_conversion_exponent": "quantum_conversion_exponent",
    "step_base_quantums": "step_base_quantums", "subticks_per_tick": "subticks_per_tick",
    "initial_margin_ppm": "imf_ppm", "maintenance_fraction_ppm": "maintenance_fraction_ppm",
}  # fmt: skip


def interest_figure(played: Played, ticker: str, row: Case) -> tuple[Any, Any]:
    """Return a market's open interest in base quantums: the truth, and what the layers have.

    The indexer reports it up to a minute late. Where trades came after its last report, no frame
    holds the chain's, and the last report is what is to be known.
    """
    view = played.data.views.get(ticker)
    block, text = played.reported_interest.get(ticker, (0, ""))
    lot = -int(row["atomic_resolution"])
    last = int(Decimal(text).scaleb(lot)) if text else None
    trades = [at for at, _, traded, *_ in played.truth["trades"] if traded == ticker]
    is_of_now = block and all(at <= block - INTEREST_LAG for at in trades if at <= played.block)
    return row["open_interest_quantums"] if is_of_now else last, view and view.open_interest


INTEREST_LAG = 2  # blocks from a trade to a report that surely counts it


def candle_figures(played: Played) -> Iterator[Figure]:
    """Yield every complete minute that is not partial, exactly; a price to the nearest subtick."""
    for ticker, rows in played.truth["candles_1min_complete"].items():
        view = played.data.views.get(ticker)
        made = {} if view is None else {c.started_at: c for c in view.candles["1MIN"]}
        for row in rows:
            candle = made.get(conn.instant(row["startedAt"]))
            if view is None or view.market is None or candle is None:
                yield f"{ticker} {row['startedAt']}", row, None
            elif candle.state != "partial":
                expected = venue_candle(view.market, row, whole=candle.state == "venue")
                got = msgspec.structs.replace(candle, state="venue")
                yield f"{ticker} {row['startedAt']}", expected, got


def venue_candle(market: conn.PerpetualMarket, row: Case, *, whole: bool) -> data.Candle:
    """Return a row of the venue's database in the chain's units; if `whole`, all that it has."""

    def price(name: str) -> int:
        return round(Decimal(row[name]) / market.price(1))

    def size(name: str) -> int:
        return int(Decimal(row[name]) / market.size(1))

    candle = data.Candle(
        conn.instant(row["startedAt"]), price("open"), price("high"), price("low"), price("close"),
        size("baseTokenVolume"), int(Decimal(row["usdVolume"]) * 10**6), row["trades"],
    )  # fmt: skip
    if not whole:
        return candle
    mids = [None if row[name] is None else price(name)
            for name in ("orderbookMidPriceOpen", "orderbookMidPriceClose")]  # fmt: skip
    return msgspec.structs.replace(
        candle, starting_open_interest=size("startingOpenInterest"),
        mid_open=mids[0], mid_close=mids[1],
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
