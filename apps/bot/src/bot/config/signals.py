"""What is scored, and what each signal is made of: the arguments of its engine are its settings.

dydx_signals.ALL ──► SignalSettings, a section for each of them ──► tuned ──► bot.run.signals
"""

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, cast

from dydx_signals import ALL
from pydantic import BaseModel, Field, create_model

from bot.config.section import HomePath, Section


class ScoredSettings(Section):
    """What is scored, beside the standard six and what the strategy names."""

    use: HomePath = Field(
        default="",
        description="all, names with commas between such as trend,basis, or a Python file of yours",
    )

    def tuned(self) -> dict[str, dict[str, float]]:
        """Return of each signal that is not as its layer has it by what it is made."""
        return {
            name: dict(value)
            for name, value in dict(self).items()
            if isinstance(value, BaseModel) and value != type(value)()
        }


# What the arguments of the engines are, which have no models.
_ARGUMENTS: Final = {
    "fast": "half-life of the fast average, in s",
    "slow": "half-life of the slow average, in s",
    "variance": "half-life of the variance that it is measured in, in s",
    "now": "half-life of what counts as now, in s",
    "half_life": "half-life of its average, in s",
    "scale_bps": "how far from nothing scores as far from 50 as one deviation does, in bps",
    "distance_bps": "how far from the mid price is looked, in bps",
}


def _engine_settings() -> Iterator[tuple[str, tuple[type[BaseModel], BaseModel]]]:
    for make in ALL:
        fields = {
            name: (
                float,
                Field(default=one.default, gt=0, description=_ARGUMENTS.get(name)),
            )
            for name, one in inspect.signature(make).parameters.items()
        }
        if fields:
            words = (make.__doc__ or "").partition("\n")[0]
            kind: Any = create_model(
                make.__name__, __base__=Section, __doc__=words, **cast(Any, fields)
            )
            yield make().name, (kind, kind())


if TYPE_CHECKING:
    SignalSettings = ScoredSettings
else:
    SignalSettings = create_model(
        "SignalSettings",
        __base__=ScoredSettings,
        __doc__=ScoredSettings.__doc__,
        **dict(_engine_settings()),
    )
