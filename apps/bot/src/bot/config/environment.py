"""Where a run may go: the environment, the network, and what has to be confirmed before.

    options, DYDX_ENVIRONMENT ──► EnvironmentSettings ──► enter ──► Network, or a refusal

An environment picks a network by itself, refuses some, and wants others confirmed: by a flag,
or by a word typed at a terminal, never by default. A network is what its chain id makes it,
whatever name it goes by. Whether it answers is for bot.config.validation.
"""

import sys
import tomllib
from collections.abc import Mapping
from dataclasses import replace as with_fields
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from dydx_conn import (
    NETWORKS,
    ConnError,
    Network,
    NetworkError,
    is_loopback,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from bot.config.document import near
from bot.system import file_limits, raise_file_limit, reason

# === Errors ===


class RefusalError(ConnError):
    """A run that may not start here, or that nobody has confirmed."""


# === Networks ===
# What a network is, by its chain, and how one is read from a TOML file. Connects to nothing.

NetworkType = Literal["mainnet", "testnet", "local", "other"]
_TYPES: Final[Mapping[str, Any]] = {known.chain_id: name for name, known in NETWORKS.items()}


def network_type(net: Network) -> NetworkType:
    """Return what a network is by its chain, so that no other name makes mainnet harmless."""
    kind: NetworkType = _TYPES.get(net.chain_id, "other")
    return kind


class NetworkFile(BaseModel):
    """A network as a TOML file describes it; the denominations and `source` may be left out."""

    model_config = ConfigDict(extra="forbid")

    name: str
    rest: tuple[str, ...] = Field(min_length=1)
    ws: tuple[str, ...] = Field(min_length=1)
    node: tuple[str, ...] = Field(min_length=1)
    chain_id: str
    usdc_denom: str | None = None
    chain_denom: str | None = None
    source: str | None = None

    @field_validator("rest", "ws", "node", mode="before")
    @classmethod
    def _listed(cls, given: Any) -> Any:
        return given if isinstance(given, list) else [given]

    @field_validator("rest", "ws")
    @classmethod
    def _encrypted(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        for address in addresses:
            scheme, _, _ = address.partition("://")
            safe = scheme in ("https", "wss") or (scheme in ("http", "ws") and is_loopback(address))
            if not safe:
                raise ValueError(f"expected https:// or wss://, or this machine, got {address!r}")
        return tuple(address.rstrip("/") for address in addresses)

    @field_validator("node")
    @classmethod
    def _with_port(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        for address in addresses:
            if not address.rpartition(":")[2].isdigit():
                raise ValueError(
                    f"expected a host and a port such as grpc.example.com:443, got {address!r}"
                )
        return addresses

    @field_validator("name", "chain_id")
    @classmethod
    def _named(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("expected some text, got none")
        return text

    def network(self) -> Network:
        """Return it as a value; `NetworkError` if an indexer lacks one of its two addresses."""
        return Network(
            **self.model_dump(exclude_none=True, exclude={"rest", "ws", "node"}),
            rest=self.rest[0], ws=self.ws[0], node=self.node[0],
            other_rest=self.rest[1:], other_ws=self.ws[1:], other_nodes=self.node[1:],
        )  # fmt: skip


def read_network(path: Path) -> Network:
    """Read a network from a TOML file; `NetworkError` names the line that is wrong, and why.

    `rest`, `ws` and `node` are an address each, or a list of them with the first choice first.
    """
    try:
        return NetworkFile(**tomllib.loads(path.read_text(encoding="utf-8"))).network()
    except ValidationError as error:
        raise NetworkError(f"{path}: {_first(error)}") from None
    except NetworkError as error:
        raise NetworkError(f"{path}: {error}") from None
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as error:
        raise NetworkError(f"expected a network in TOML at {path}, got {reason(error)}") from None


def _first(error: ValidationError) -> str:
    """Put the first thing that is wrong in one line; the values are no secrets."""
    wrong = error.errors()[0]
    name = ".".join(map(str, wrong["loc"])) or "it"
    return f"{name}: {wrong['msg'].removeprefix('Value error, ')}"


# === Settings ===
# `RULES`, the table of environments: what each picks, refuses and wants confirmed; then what was
# typed or comes from the shell. A new environment is one row, and its name in `Environment`.

Environment = Literal["development", "test", "staging", "production"]
ENVIRONMENT: Final = "DYDX_ENVIRONMENT"


class Rule(msgspec.Struct, frozen=True):
    """What an environment picks by itself, what it refuses and what it wants confirmed."""

    picks: str
    refuses: tuple[NetworkType, ...] = ()
    confirms: tuple[NetworkType, ...] = ()


RULES: Final[Mapping[Environment, Rule]] = {
    "development": Rule("testnet", confirms=("mainnet",)),
    "test": Rule("local", refuses=("mainnet",)),
    "staging": Rule("testnet", confirms=("mainnet",)),
    "production": Rule("mainnet", refuses=("testnet", "local", "other")),
}


class EnvironmentSettings(BaseModel):
    """What was chosen about where to run; an empty `network` is the environment's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    environment: Environment = "development"
    network: str = ""
    rest: str = ""
    ws: str = ""
    node: str = ""
    yes_mainnet: bool = False
    yes_orders: bool = False
    given: str = ""  # in words, where environment and network were given

    @property
    def rule(self) -> Rule:
        """Return what the environment allows."""
        return RULES[self.environment]

    def chosen(self) -> Network:
        """Return the network: by name, from a file, or the environment's own."""
        name = self.network or self.rule.picks
        net = read_network(Path(name)) if name.endswith(".toml") else _named(name)
        typed = {part: getattr(self, part) for part in _OTHERS if getattr(self, part)}
        # Who names an address means that one, and no other in its place.
        others: dict[str, Any] = {name: () for part in typed for name in _OTHERS[part]}
        return with_fields(net, **typed, **others)


def _named(name: str) -> Network:
    if name not in NETWORKS:
        words = f"expected one of {', '.join(NETWORKS)}, or a TOML file, got network {name!r}"
        raise NetworkError(words + near(name, NETWORKS))
    return NETWORKS[name]


_OTHERS: Final[Mapping[str, tuple[str, ...]]] = {
    "rest": ("other_rest", "other_ws"),
    "ws": ("other_rest", "other_ws"),
    "node": ("other_nodes",),
}


# === Confirmations ===
# What a run needs before it may start: no objection, and each confirmation by flag or typed word.


class Confirmation(msgspec.Struct, frozen=True):
    """A word to be typed, or a flag to be given, before a run may start."""

    word: str
    flag: str
    why: str


def objection(settings: EnvironmentSettings, net: Network) -> str:
    """Return why an environment refuses a network, "" if it does not."""
    kind = network_type(net)
    if kind not in settings.rule.refuses:
        return ""
    wanted = settings.rule.picks
    return (
        f"expected {wanted} in {settings.environment}, got {net.name} ({kind}, chain "
        f"{net.chain_id}): choose another network, or another environment"
        + (f" ({settings.given})" if settings.given else "")
    )


def confirmations(
    settings: EnvironmentSettings, net: Network, *, orders: bool
) -> list[Confirmation]:
    """Return what has to be confirmed: real orders on mainnet want two, each its own word."""
    kind, wanted = network_type(net), []
    if kind in settings.rule.confirms or (orders and kind == "mainnet"):
        why = f"on {net.name} ({net.chain_id}) money is real, and this is {settings.environment}"
        wanted.append(Confirmation("mainnet", "--yes-mainnet", why))
    if orders and kind != "local":
        money = "real" if kind == "mainnet" else kind
        why = f"orders will be signed and sent to {net.name}: {money} money moves"
        wanted.append(Confirmation("orders", "--yes-orders", why))
    return wanted


def look_at(settings: EnvironmentSettings) -> Network:
    """Return the network to look at, where nothing can be sent: that needs no confirmation."""
    net = settings.chosen()
    if refused := objection(settings, net) or too_few_files():
        raise RefusalError(refused)
    return net


def enter(settings: EnvironmentSettings, *, orders: bool = False) -> Network:
    """Return the network to run on, once nothing refuses it and everything is confirmed."""
    net = look_at(settings)
    for wanted in confirmations(settings, net, orders=orders):
        print(f"bot: warning: {wanted.why}", file=sys.stderr, flush=True)
        if not getattr(settings, wanted.flag.strip("-").replace("-", "_")):
            _confirm(wanted)
    return net


# Of sockets, their event loops, the recording, the audit log and the handle of a run.
_FILES: Final = 128


def too_few_files() -> str:
    """Return why a run would lack open files, "" if it would not; raise the limit if it may."""
    soft, hard = file_limits()
    if soft < _FILES <= hard:
        raise_file_limit(_FILES)
        return ""
    what = f"expected a limit of {_FILES} or more open files (ulimit -n {_FILES})"
    return "" if soft >= _FILES else f"{what}, got {soft}"


def _confirm(wanted: Confirmation) -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        what = f"expected {wanted.flag} without a terminal to confirm at, got neither"
        raise RefusalError(f"{what}: {wanted.why}; nothing was started")
    print(f"type {wanted.word} to go on: ", end="", file=sys.stderr, flush=True)
    typed = sys.stdin.readline().strip()
    if typed != wanted.word:
        raise RefusalError(f"expected {wanted.word!r}, got {typed!r}: nothing was started")
