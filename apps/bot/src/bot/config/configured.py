"""What was typed and what is configured come to one: the settings that a command runs by.

    arguments ─► typed_of ─┐
    bot.yaml, found ───────┼─► loaded_of ─► Loaded (bot.config.settings)
    what was recorded ─────┘

An option counts only where it was typed. A file is looked for in the working directory and in the
user's configuration directory, and is reported on stderr, in a line; DYDX_CONFIG names another, or
none, as --config does.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bot.config.environment import EnvironmentSettings
from bot.config.layers import DEFAULT
from bot.config.loaded import Loaded, load, opened
from bot.config.passphrase import passphrase
from bot.config.place import NONE, found
from bot.config.settings import AccountSettings

# === Options ===
# What stands for which setting: the destination of an option, and the path.

PATHS: Final[Mapping[str, str]] = {
    "environment": "environment",
    "network": "network",
    "rest": "endpoints.rest",
    "ws": "endpoints.ws",
    "node": "endpoints.node",
    "keys": "account.keys",
    "address": "account.address",
    "subaccount": "account.subaccount",
    "authenticators": "account.authenticators",
    "audit": "audit",
    "tickers": "markets",
    "record": "record",
    "database": "database.url",
    "strategy": "strategy",
    "profile": "profile",
    "signals": "signals.use",
    "deposit": "deposit",
    "guard": "guard",
    "strict": "strict",
    "hand_beside": "policy.hand_beside",
    "detectors": "detectors",
    "log": "log.file",
    "log_level": "log.level",
    "log_human": "log.human",
    "api": "api.address",
    "api_certificate": "api.certificate",
    "api_key": "api.key",
    "notify": "notify.enabled",
}


def typed_of(arguments: argparse.Namespace) -> dict[str, tuple[str, Any]]:
    """Return what was typed: of each path the option and the value."""
    given = ((name, path, getattr(arguments, name, None)) for name, path in PATHS.items())
    return {path: (_option(name, value), value) for name, path, value in given if value is not None}


def _option(name: str, value: Any) -> str:
    return f"--{'no-' * (value is False)}{name.replace('_', '-')}"


def typed_again(arguments: argparse.Namespace, *names: str) -> list[str]:
    """Return the options that were typed, and the file of settings, as they are typed again.

    With `names` only these of them; what is in the file is not typed again.
    """
    words: list[str] = []
    for name in names or PATHS:
        value = getattr(arguments, name, None)
        if value is None:
            continue
        words.append(_option(name, value))
        if not isinstance(value, bool):
            words.append(",".join(map(str, value)) if isinstance(value, tuple) else str(value))
    config = getattr(arguments, "config", None)
    return words if config is None else [*words, "--config", config]


# === Settings ===


def loaded_of(arguments: argparse.Namespace, recorded: str = "") -> Loaded:
    """Return the settings of a command; read once, and reported where a file has part in it.

    What a run was `recorded` with (JSON) takes the place of a file that is only found, and of
    variables; what is typed goes over it.
    """
    loaded: Loaded | None = getattr(arguments, "loaded", None)
    if loaded is None:
        loaded = arguments.loaded = _loaded(arguments, recorded)
    return loaded


def _loaded(arguments: argparse.Namespace, recorded: str) -> Loaded:
    named: str | None = getattr(arguments, "config", None)
    if recorded and named is None:  # a variable is of today
        print("bot: configuration: as recorded (--config FILE or none: another)", file=sys.stderr)
        return load(typed_of(arguments), recorded=json.loads(recorded), environment={})
    path = found() if named is None else None if named == NONE else Path(named)
    if named is None and path is not None:
        print(f"bot: configuration: {path} (--config none: without it)", file=sys.stderr)
    return load(typed_of(arguments), path=path, environment=os.environ)


def opened_of(arguments: argparse.Namespace) -> Loaded:
    """Return the settings with their secrets, for which a passphrase may be needed, once."""
    arguments.loaded = opened(loaded_of(arguments), _passphrase)
    return arguments.loaded  # type: ignore[no-any-return]  # a namespace has no types


def _passphrase() -> Any:
    return passphrase("passphrase of the configuration: ", "DYDX_CONFIG_PASSPHRASE")


def environment_of(arguments: argparse.Namespace) -> EnvironmentSettings:
    """Return where to run; what confirms it is typed, and no setting."""
    loaded = loaded_of(arguments)
    settings, origins = loaded.settings, loaded.origins
    given = [name for name in ("network", "environment") if origins[name] != DEFAULT]
    return EnvironmentSettings(
        environment=settings.environment,
        network=settings.network,
        **dict(settings.endpoints),
        yes_mainnet=getattr(arguments, "yes_mainnet", False),
        yes_orders=getattr(arguments, "yes_orders", False),
        given=", ".join(f"{name}: {origins[name]}" for name in given),
    )


def account_settings(arguments: argparse.Namespace) -> AccountSettings:
    """Return whose account it is, and who signs."""
    return loaded_of(arguments).settings.account
