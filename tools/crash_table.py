"""What the runs say: sums by family, paired intervals, and whether the guard wins.

    runs ──► sums (lost, left, cost) ──┬─► table
         └─► paired differences ───────┴─► verdicts

A difference is taken path by path, so that what a path does to everybody is not counted: its mean
has an interval of 95 %, by the normal approximation over the paths. A claim is refuted when the
whole interval is on its wrong side; "fewer" and "cheaper" must hold in the mean as well. What is
promised is a claim that must hold: of accounts lost in every family, of what is left on the whole.
The others show where in particular a rule leaves more, since no rule is the best everywhere.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from crash_paths import FAMILIES
from crash_runs import POLICIES, PathOutcome

TOTAL: Final = "total"
_Z: Final = 1.959964  # 95 % of a normal distribution
_V: Final = "V"


class Run(msgspec.Struct, frozen=True):
    """One path: what each policy made of it, and the best of hindsight, if that was searched."""

    seed: int
    family: str
    outcomes: dict[str, PathOutcome]
    hindsight: float | None = None


class Sums(msgspec.Struct, frozen=True):
    """A policy in a family; money is USDC. `cost` is what it left less than no guard did.

    Costs are of paths that survive without a guard, and of nobody else.
    """

    lost: int
    mean: float
    low: float  # the 5 % quantile
    cost: float | None


class Difference(msgspec.Struct, frozen=True):
    """A mean of paired differences with its interval of 95 %."""

    mean: float
    low: float
    high: float


class Claim(msgspec.Struct, frozen=True):
    """Something claimed of a family, the difference that it is judged by, and whether it holds."""

    family: str
    words: str
    difference: Difference
    holds: bool
    promised: bool

    @property
    def broken(self) -> bool:
        """Return whether it must hold and does not."""
        return self.promised and not self.holds


# === Sums ===


def sums(runs: Sequence[Run], policy: str) -> Sums:
    """Sum a policy up."""
    left = [run.outcomes[policy].left for run in runs]
    costs = [_cost(run, policy) for run in runs if not run.outcomes["none"].lost]
    return Sums(
        sum(run.outcomes[policy].lost for run in runs),  # integers
        statistics.fmean(left), quantile(left, 0.05), statistics.fmean(costs) if costs else None,
    )  # fmt: skip


def quantile(values: Iterable[float], share: float) -> float:
    """Return the value below which a share of all lies: one of them, the next above."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def by_family(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Sort the runs by family, as the table of families has them, and all of them at the end."""
    found = {name: [run for run in runs if run.family == name] for name in FAMILIES}
    return {name: of for name, of in found.items() if of} | {TOTAL: [*runs]}


def paired(differences: Iterable[float]) -> Difference:
    """Return the mean of paired differences, and its interval."""
    values = [*differences]
    mean = statistics.fmean(values)
    half = _Z * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return Difference(mean, mean - half, mean + half)


def _cost(run: Run, policy: str) -> float:
    return run.outcomes["none"].left - run.outcomes[policy].left


# === Claims ===

_Measure = Callable[[Run, str], float]


def _lost(run: Run, policy: str) -> float:
    return float(run.outcomes[policy].lost)


def _left(run: Run, policy: str) -> float:
    return run.outcomes[policy].left


def compared(runs: Sequence[Run], first: str, second: str, of: _Measure) -> Difference:
    """Return by how much a measure is higher under the first policy."""
    return paired(of(run, first) - of(run, second) for run in runs)


def claims(runs: Sequence[Run]) -> list[Claim]:
    """Judge all that is claimed of the guard, family by family and in total."""
    judged: list[Claim] = []
    for family, of in by_family(runs).items():
        total = family == TOTAL
        for rival in ("all", "half"):
            lost, left = (compared(of, "guard", rival, measure) for measure in (_lost, _left))
            words = "loses fewer than" if total else "loses no more than"
            judged.append(_claim(family, f"guard {words} {rival}", lost, below=True, strict=total))
            words = f"guard leaves no less than {rival}"
            judged.append(_claim(family, words, left, below=False, promised=total))
        if family == _V:
            cost = compared(of, "both", "stop", _cost)
            judged.append(
                _claim(family, "both costs less than stop", cost, below=True, strict=True)
            )
    if falls := [run for run in runs if run.family != _V]:
        for family, of in by_family(falls).items():
            total = family == TOTAL
            name = "all falls" if total else family
            lost, left = (compared(of, "both", "stop", measure) for measure in (_lost, _left))
            for words, difference, below in (
                ("both loses no more than stop", lost, True),
                ("both leaves no less than stop", left, False),
            ):
                judged.append(_claim(name, words, difference, below=below, promised=total))
    return judged


def _claim(
    family: str, words: str, difference: Difference, *, below: bool, strict: bool = False,
    promised: bool = True,
) -> Claim:  # fmt: skip
    refuted = difference.low > 0 if below else difference.high < 0
    met = difference.mean < 0 if below else difference.mean > 0
    return Claim(family, words, difference, not refuted and (met or not strict), promised)


# === Words ===


def table(runs: Sequence[Run]) -> Iterable[str]:
    """Yield the table: a block for lost, left, its 5 % quantile and the cost; then the verdicts."""
    families = by_family(runs)
    found = {name: {p: sums(of, p) for p in POLICIES} for name, of in families.items()}
    for title, figure in _BLOCKS.items():
        yield f"{title:<44}" + "".join(f"{policy:>9}" for policy in POLICIES)
        for name, of in families.items():
            cells = (figure(found[name][policy]) for policy in POLICIES)
            line = f"  {name:<30}{len(of):>7,} paths" + "".join(f"{cell:>9}" for cell in cells)
            yield line
        yield ""
    yield from _verdicts(claims(runs))
    yield from _front(runs)
    yield from _regrets(runs)


_BLOCKS: Final[Mapping[str, Callable[[Sums], str]]] = {
    "accounts lost": lambda sums: f"{sums.lost:,}",
    "mean left, USDC": lambda sums: f"{sums.mean:,.0f}",
    "5 % quantile left, USDC": lambda sums: f"{sums.low:,.0f}",
    "cost where no guard survives, USDC": lambda sums: (
        "-" if sums.cost is None else f"{sums.cost:,.0f}"
    ),
}


def _verdicts(judged: Sequence[Claim]) -> Iterable[str]:
    yield f"{'claim':<66}{'difference':>11}  {'95 %':<22}"
    for claim in judged:
        found, per_path = claim.difference, " lo" in claim.words
        show = "{:+,.4f}" if per_path else "{:+,.1f}"
        interval = f"{show.format(found.low)} … {show.format(found.high)}"
        name = f"{claim.family}: {claim.words}"
        verdict = "holds" if claim.holds else "BROKEN" if claim.promised else "not here"
        yield f"{name:<66}{show.format(found.mean):>11}  {interval:<22} {verdict}"
    promised = [claim for claim in judged if claim.promised]
    broken, others = sum(claim.broken for claim in judged), len(judged) - len(promised)  # integers
    not_here = sum(not claim.holds for claim in judged) - broken  # integers
    yield f"{len(promised) - broken} promises hold, {broken} do not"
    yield f"of {others} comparisons beside them {not_here} are in the rival's favour"


def front(runs: Sequence[Run]) -> dict[str, tuple[int, float, float]]:
    """Return of each policy the accounts lost, the mean left, and what it costs in a V."""
    vs = [run for run in runs if run.family == _V]
    found = {policy: sums(runs, policy) for policy in POLICIES}
    costs = {p: statistics.fmean(_cost(run, p) for run in vs) if vs else 0.0 for p in POLICIES}
    return {policy: (of.lost, of.mean, costs[policy]) for policy, of in found.items()}


def dominating(found: Mapping[str, tuple[int, float, float]], policy: str) -> list[str]:
    """Return the policies that are nowhere worse than one, and better somewhere."""
    lost, left, cost = mine = found[policy]
    return [
        other
        for other, theirs in found.items()
        if theirs != mine and theirs[0] <= lost and theirs[1] >= left and theirs[2] <= cost
    ]


def _front(runs: Sequence[Run]) -> Iterable[str]:
    found = front(runs)
    yield ""
    yield f"{'front':<36}{'lost':>9}{'left':>9}{'V cost':>9}  dominated by"
    for policy, (lost, left, cost) in found.items():
        better = ", ".join(dominating(found, policy)) or "none"
        yield f"  {policy:<34}{lost:>9,}{left:>9,.0f}{cost:>9,.0f}  {better}"


def regrets(runs: Sequence[Run], policy: str) -> list[float]:
    """Return how much less a policy left than the best of hindsight, path by path."""
    return [
        max(run.hindsight, run.outcomes[policy].left) - run.outcomes[policy].left
        for run in runs
        if run.hindsight is not None
    ]


def _regrets(runs: Sequence[Run]) -> Iterable[str]:
    searched = regrets(runs, "none")
    if not searched:
        return
    yield ""
    yield f"regret over {len(searched)} paths, USDC" + " " * 13 + "mean   median     95 %"
    for policy in POLICIES:
        values = regrets(runs, policy)
        figures = statistics.fmean(values), statistics.median(values), quantile(values, 0.95)
        yield f"  {policy:<36}" + "".join(f"{figure:>9,.0f}" for figure in figures)


def as_json(runs: Sequence[Run]) -> dict[str, Any]:
    """Return all figures by their names."""
    families = by_family(runs)
    return {
        "families": {
            name: {"paths": len(of)} | {p: msgspec.to_builtins(sums(of, p)) for p in POLICIES}
            for name, of in families.items()
        },
        "front": front(runs),
        "claims": msgspec.to_builtins(claims(runs)),
        "regret": {
            policy: {
                "mean": statistics.fmean(values), "median": statistics.median(values),
                "q95": quantile(values, 0.95), "paths": len(values),
            }
            for policy in POLICIES
            if (values := regrets(runs, policy))
        },
        "lost": {
            policy: [run.seed for run in runs if run.outcomes[policy].lost] for policy in POLICIES
        },
    }  # fmt: skip
