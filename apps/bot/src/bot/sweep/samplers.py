"""Which variants are tried next: all of a grid, or what a sampler of Optuna asks for.

    Grid ─► Listed: each combination once ────────────────┐
    Grid, seed ─► Sampled: batches, by what is known ◄────┴─► changes ─► results ─► tell

A sampler gives a batch at a time and learns it in the order of its trials, so that it asks
for the same whatever number of workers there is, and whichever of them is done first.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from dydx_conn import ConnError

from bot.sweep.grid import Field, Grid, require_few
from bot.system import absent

BATCH: Final = 20


class Sampler(Protocol):
    """Asks for variants, a batch at a time; none are the end."""

    trials: int

    def ask(self) -> list[dict[str, Any]]:
        """Return the changes of the next variants."""
        ...

    def tell(self, values: Sequence[Sequence[float] | None]) -> None:
        """Take the objectives of the batch, in its order; None where there are none."""
        ...


class Listed:
    """Every combination of a grid, in one batch."""

    def __init__(self, grid: Grid) -> None:
        require_few(grid)
        self.trials = grid.count
        self._left = [*grid.combinations()]

    def ask(self) -> list[dict[str, Any]]:
        """Return all of them, once."""
        batch, self._left = self._left, []
        return batch

    def tell(self, values: Sequence[Sequence[float] | None]) -> None:
        """Need nothing: what is tried is settled."""


class Sampled:
    """A sampler of Optuna: as many trials, in batches of `BATCH`."""

    def __init__(
        self, name: str, grid: Grid, *, trials: int, seed: int, directions: Sequence[str]
    ) -> None:
        optuna = require_optuna()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.trials = trials
        self._grid, self._left = grid, trials
        sampler = sampler_of(name, seed, len(directions))
        self._study = optuna.create_study(directions=[*directions], sampler=sampler)
        self._failed = optuna.trial.TrialState.FAIL
        self._open: list[Any] = []

    def ask(self) -> list[dict[str, Any]]:
        """Return the next batch."""
        count = min(BATCH, self._left)
        self._left -= count
        self._open = [self._study.ask() for _ in range(count)]
        return [
            {field.path: _suggested(trial, field) for field in self._grid.fields}
            for trial in self._open
        ]

    def tell(self, values: Sequence[Sequence[float] | None]) -> None:
        """Take the objectives of the batch, in its order; None where there are none."""
        for trial, objectives in zip(self._open, values, strict=True):
            if objectives is None:
                self._study.tell(trial, state=self._failed)
            else:
                self._study.tell(trial, [*objectives])


def require_optuna() -> Any:
    """Return Optuna; `ConnError` where it is not installed names what installs it."""
    if missing := absent("sweep", "--sampler beside grid"):
        raise ConnError(missing)
    import optuna

    return optuna


def sampler_of(name: str, seed: int, objectives: int) -> Any:
    """Return a sampler by its name; `ConnError` for one that does not fit."""
    samplers = require_optuna().samplers
    if name == "cmaes" and objectives > 1:
        raise ConnError(f"expected one objective for cmaes, got {objectives}: nsga2 takes several")
    makes: Mapping[str, Any] = {
        "random": lambda: samplers.RandomSampler(seed=seed),
        "tpe": lambda: samplers.TPESampler(seed=seed, constant_liar=True, n_startup_trials=BATCH),
        "cmaes": lambda: samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False),
        "nsga2": lambda: samplers.NSGAIISampler(seed=seed, population_size=BATCH),
    }
    return makes[name]()


def _suggested(trial: Any, field: Field) -> Any:
    if field.values:
        # By their number: a value may be a list, which is no category.
        return field.values[trial.suggest_categorical(field.path, [*range(len(field.values))])]
    whole = all(isinstance(part, int) for part in (field.low, field.high, field.step or 1))
    if whole and field.step is not None:
        return trial.suggest_int(field.path, field.low, field.high, step=field.step)
    if whole:
        return trial.suggest_int(field.path, field.low, field.high, log=field.log)
    return trial.suggest_float(field.path, field.low, field.high, step=field.step, log=field.log)
