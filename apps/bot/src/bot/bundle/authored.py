"""Files of the user's own by which a run decides: what a bundle takes along, and may name.

    --strategy, --signals, --state ──► code_of, state_of ──► members of a bundle
    settings of a bundle ──► require_known: they name what is built in, or what is in the bundle

A name in a bundle could otherwise run any file or module of the machine on which it is checked.
"""

import argparse
import json
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from dydx_strategy import SETTINGS, AllocatorSettings, StrategyError

from bot.bundle.parcel import STATE, BundleError, require_no_secret
from bot.config.loaded import Loaded
from bot.config.settings import Settings

_BUILT_IN: Final = ("none", "mix", *SETTINGS)
_LISTS: Final = (".toml", ".json")


def code_of(strategy: str, signals: str, config: Loaded | None) -> dict[str, bytes]:
    """Return the files by which a run decides, by their names in a bundle."""
    found: dict[str, bytes] = {}
    if strategy.endswith((".py", *_LISTS)):
        found[f"strategy/{Path(strategy).name}"] = _file(Path(strategy))
    if signals.endswith(".py"):
        found[f"signals/{Path(signals).name}"] = _file(Path(signals))
    mix = None if config is None else config.settings.strategies.mix
    _require(strategy, signals, mix, found)
    return found


def state_of(arguments: argparse.Namespace) -> dict[str, bytes]:
    """Return what another run left for this one, where that is no frame of the recording."""
    return {STATE: _file(Path(arguments.state))} if arguments.state else {}


def require_known(settings: Settings, members: Mapping[str, bytes]) -> None:
    """Refuse settings of a bundle that name code which is not in it; `BundleError`."""
    _require(settings.strategy, settings.signals.use, settings.strategies.mix, members)


def _require(
    strategy: str, signals: str, mix: AllocatorSettings | None, members: Mapping[str, bytes]
) -> None:
    files = {name.rpartition("/")[2] for name in members if "/" in name}
    if strategy not in _BUILT_IN and Path(strategy).name not in files:
        what = "expected a built-in strategy or a file in the bundle"
        raise BundleError(f"{what}, got {strategy!r}, a module that no bundle holds")
    if signals.endswith(".py") and Path(signals).name not in files:
        raise BundleError(f"expected signals of a file in the bundle, got {signals!r}")
    listed = [row.use for row in mix.strategies] if strategy == "mix" and mix else []
    for name, content in members.items():
        if "/" in name and name.endswith(_LISTS):
            listed += _listed(name, content)
    _require_built_in(listed)


def _require_built_in(names: Collection[str]) -> None:
    for name in names:
        if name not in SETTINGS:
            what = f"expected several strategies that are built in ({', '.join(SETTINGS)})"
            raise BundleError(f"{what}, got {name!r} among them: bundle it by itself")


def _listed(name: str, content: bytes) -> list[str]:
    """Return which strategies stand in a list of several."""
    try:
        text = content.decode()
        found: Any = tomllib.loads(text) if name.endswith(".toml") else json.loads(text)
        return [str(row["use"]) for row in found["strategies"]]
    except (ValueError, KeyError, TypeError) as error:
        raise StrategyError(f"expected a list of strategies in {name}, got {error!r}") from None


def _file(path: Path) -> bytes:
    content = path.read_bytes()
    text = content.decode("utf-8", "replace")
    for number, line in enumerate(text.splitlines(), 1):
        require_no_secret(f"line {number} of {path}", line)
    require_no_secret(str(path), text)
    return content
