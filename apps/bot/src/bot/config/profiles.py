"""How much a run may risk and how its strategy trades: all settings of both profiles.

    --profile NAME ──► PROFILES[NAME] ──► Policy (gate, guard), RankSettings (strategy)

A profile is plain data that is validated where it comes in; `read_profile` does it, and its error
is one line that names the fields. `POLICY` and `STRATEGY` are the only place where a setting of a
run stands: what a field means is in `Policy` and `RankSettings`, why it has its value here.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Self

from dydx_conn import ConnError
from dydx_risk import Policy, percent_text
from dydx_strategy import RankSettings
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

STEADY: Final = "steady"  # unless another is typed
RECKLESS: Final = "reckless"


class Profile(BaseModel):
    """A policy and the settings of a strategy that keeps within it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: Policy
    strategy: RankSettings

    @model_validator(mode="after")
    def _within(self) -> Self:
        for setting, wanted, name, most in beyond(self.policy, self.strategy):
            raise ValueError(
                f"expected strategy.{setting} <= policy.{name}, got {wanted:g} and {most:g}"
            )
        return self


# Which limits of the policy a share of a strategy may not be beyond.
_WITHIN: Final = {
    "gross_share": ("max_account_share", "max_leverage"),
    "market_share": ("max_market_share",),
    "leg_share": ("max_market_share",),
}


def beyond(policy: Policy, strategy: BaseModel) -> Iterator[tuple[str, float, str, float]]:
    """Yield what a strategy wants beyond a limit of the policy: setting, value, limit, value."""
    for setting, names in _WITHIN.items():
        wanted = getattr(strategy, setting, 0.0)
        for name in names:
            most = getattr(policy, name)
            if most is not None and wanted > most:
                yield setting, wanted, name, most


def read_profile(name: str, fields: Mapping[str, Any]) -> Profile:
    """Validate a profile; `ConnError` names each field, what was expected of it and what it is."""
    try:
        return Profile.model_validate(fields)
    except ValidationError as error:
        wrong = "; ".join(_words(dict(one)) for one in error.errors())
        raise ConnError(f"profile {name}: {wrong}") from None


def _words(error: Mapping[str, Any]) -> str:
    where, what = ".".join(map(str, error["loc"])), error["msg"]
    if error["type"] == "value_error":
        return f"{where}: {what.removeprefix('Value error, ')}".removeprefix(": ")
    if error["type"] == "extra_forbidden":
        return f"expected no field {where}, got {error['input']!r}"
    if error["type"] == "missing":
        return f"expected a field {where}, got none"
    return f"expected {where} {what.replace('Input should ', 'to ', 1)}, got {error['input']!r}"


def profile_of(name: str) -> Profile:
    """Return a profile by its name; `ConnError` lists the known ones."""
    if name not in PROFILES:
        raise ConnError(f"expected a profile ({', '.join(PROFILES)}), got {name!r}")
    return PROFILES[name]


def limits_text(policy: Policy) -> str:
    """Word in a line how much a policy lets a run risk."""
    limits = _LIMITS | (_CLOSES if policy.protect else {})
    found = ((getattr(policy, name), words) for name, words in limits.items())
    parts = [words.format(most, percent_text(most)) for most, words in found if most]
    if policy.cool_down_s:
        parts.append(f"out of it for {policy.cool_down_s:g} s after a reduction")
    return ", ".join(parts)


# What a limit lets a run do: {0} is its figure, {1} that as a percentage.
_LIMITS: Final = {
    "max_leverage": "gross at most {0:g} times the equity",
    "max_account_share": "entered up to {0:g}",
    "max_market_share": "a market up to {0:g}",
    "warm_up_s": "after {0:g} s of data",
    "max_volatility_1h": "sized to {1} in a usual hour",
    "bear_move": "to survive a move of {1}",
}
_CLOSES: Final = {
    "max_daily_loss": "closed at a loss of {1} in a day",
    "max_daily_loss_usdc": "closed at a loss of {0:,.2f} USDC in a day",
    "max_drawdown": "closed {1} below the peak",
}


# === The table ===

# Distances are to liquidation, shares of the equity; None is no limit.
POLICY: Final[dict[str, tuple[Any, Any]]] = {
    # field                  steady    reckless
    "act_below":             (0.10,     0.10),
    "restore_to":            (0.18,     0.18),
    "keep_above":            (0.20,     0.20),
    "max_leverage":          (2.0,      5.0),
    "max_account_share":     (1.0,      None),
    "max_market_share":      (0.5,      None),
    "max_account_usdc":      (None,     None),
    "max_market_usdc":       (None,     None),
    "market_usdc":           ({},       {}),
    "max_positions":         (None,     None),
    "max_order_usdc":        (20_000.0, 20_000.0),
    "max_orders_per_minute": (None,     None),
    "warm_up_s":             (300.0,    0.0),
    # A usual hour moves the equity by 2 % at most: only where a market moves 4 % is it cut.
    "max_volatility_1h":     (0.02,     None),
    "bear_move":             (0.35,     None),  # a third in a day was seen more than once
    "max_daily_loss":        (0.05,     None),
    "max_daily_loss_usdc":   (None,     None),
    "max_drawdown":          (0.10,     0.15),
    "protect":               (True,     True),
    "cool_down_s":           (900.0,    300.0),
    "slippage_bps":          (30,       30),
    "guard_slippage_bps":    (100,      100),
    "stop_slippage_bps":     (500,      500),
    "max_oracle_bps":        (200,      200),
    "max_slippage_bps":      (None,     None),
    "guard_cuts":            (4,        4),
    "guard_levels":          (25,       25),
    "guard_reach_bps":       (300,      300),
    "guard_haircut_bps":     (300,      300),
    "guard_chase":           (0.75,     0.75),
    "taker_fee_ppm":         (500,      500),
    "hand_beside":           (False,    False),  # --hand-beside sets it
    "good_til_blocks":       (5,        5),
    "stale_seconds":         (30.0,     30.0),
}  # fmt: skip

# What `RankAndTarget` decides by. Reckless is patient, so that the guard has something to do.
STRATEGY: Final[dict[str, tuple[Any, Any]]] = {
    # field               steady    reckless
    "gross_share":        (1.0,     4.5),
    "market_share":       (0.4,     1.6),  # three, and room for one to grow
    "positions":          (3,       3),
    "smallest_share":     (0.8,     0.8),
    "least_share":        (0.05,    0.05),
    "change_share":       (0.3,     0.3),
    "enter":              (60.0,    60.0),
    "exit":               (52.0,    52.0),
    "full":               (75.0,    75.0),
    "weights":            ({"momentum": 0.6, "imbalance": 0.3, "funding": 0.1},) * 2,
    "quorum":             (0.6,     0.6),
    "volume_lift":        (0.25,    0.25),
    "volatility_calm":    (75.0,    75.0),
    "volatility_extreme": (90.0,    90.0),
    "liquidity_calm":     (25.0,    25.0),
    "liquidity_extreme":  (5.0,     5.0),
    "holding_s":          (30.0,    30.0),
    "confirm_s":          (15.0,    45.0),
    "patience_s":         (5.0,     5.0),
    "look_s":             (5.0,     5.0),
    "report_s":           (30.0,    30.0),
    "throttle_s":         (10.0,    10.0),
    "debounce_s":         (60.0,    60.0),
    "same_share":         (0.05,    0.05),
    "back_off_s":         (10.0,    10.0),
    "back_off_most_s":    (300.0,   300.0),
    "cool_down_s":        (300.0,   300.0),
}  # fmt: skip

PROFILES: Final[dict[str, Profile]] = {
    name: read_profile(
        name,
        {
            "policy": {field: values[n] for field, values in POLICY.items()},
            "strategy": {field: values[n] for field, values in STRATEGY.items()},
        },
    )
    for n, name in enumerate((STEADY, RECKLESS))
}
