"""All that can be chosen about a run: every setting of every layer in one tree, and its path.

    bot.config.section ─► api, log, notify, paper, signals ─┐
    Policy, RankSettings … of the layers ───────────────────┴─► Settings ─► PATHS, SECTIONS

`Settings` is made of the layers' own models: what a field means and which values it takes is
theirs to say. A dotted path names a setting everywhere: `policy.max_leverage` is the line
`max_leverage` below `policy:` in a file, and the variable DYDX__POLICY__MAX_LEVERAGE. A mapping
such as the weights of signals is one setting, and is replaced as a whole. Where values come from
is in bot.config.layers, what becomes of them in bot.config.loaded.
"""

import inspect
import re
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Union, get_args, get_origin

from dydx_conn import NETWORKS
from dydx_risk import Policy
from dydx_strategy import (
    SETTINGS,
    AllocatorSettings,
    CarrySettings,
    Pace,
    PairsSettings,
    RankSettings,
    ReversionSettings,
    SniperSettings,
)
from pydantic import BaseModel, Field, SecretStr, field_serializer, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from bot.config.api import ApiSettings
from bot.config.document import shown
from bot.config.environment import Environment
from bot.config.log import LogSettings
from bot.config.notify import NotifySettings
from bot.config.paper import PaperSettings
from bot.config.profiles import PROFILES, STEADY
from bot.config.section import AT_HOME, HomePath, Section
from bot.config.signals import SignalSettings

# === Tree ===
# The sections in the order of a file. What a layer has a model for is that model.


class EndpointSettings(Section):
    """Addresses in place of the network's own."""

    rest: str = Field(default="", description="REST address of an indexer, https://…")
    ws: str = Field(default="", description="WebSocket address of an indexer, wss://…")
    node: str = Field(default="", description="node, as HOST:PORT")


class AccountSettings(Section):
    """Whose account is traded with real orders, and who signs."""

    keys: HomePath = Field(
        default="env",
        description="where the key is: env (DYDX_MNEMONIC or DYDX_PRIVATE_KEY), keyring:NAME, or "
        "the path of an encrypted file; never the key itself",
    )
    address: str = Field(default="", description="refuse a key of any other address")
    subaccount: int = Field(default=0, ge=0, le=128_000, description="number of the subaccount")
    authenticators: tuple[int, ...] = Field(
        default=(), description="ids by which the owner has permitted the key"
    )


class StrategiesSettings(Section):
    """The settings of each strategy; `strategy` names the one that trades."""

    rank: RankSettings = PROFILES[STEADY].strategy
    sniper: SniperSettings = SniperSettings()
    reversion: ReversionSettings = ReversionSettings()
    carry: CarrySettings = CarrySettings()
    pairs: PairsSettings = PairsSettings()
    mix: AllocatorSettings | None = Field(
        default=None, description="several on one account, for `strategy: mix`"
    )


class DatabaseSettings(Section):
    """Where runs, orders, fills and positions are stored."""

    url: SecretStr = Field(
        default=SecretStr(""),
        description="postgresql+psycopg://…, a file, or none; empty for a file of the user's",
    )

    @field_serializer("url")
    def _without_password(self, url: SecretStr) -> str:
        return _PASSWORD.sub(r"\1\2***", url.get_secret_value())


_PASSWORD: Final = re.compile(r"(://[^/\s@:]*:)[^/\s]*(?=@)|([?&]\w*password=)[^&\s]*")


class Settings(BaseSettings):
    """Everything that can be chosen about a run, and stays so from one to the next."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    environment: Environment = Field(
        default="development", description="what the run is for: decides which networks it may use"
    )
    network: HomePath = Field(
        default="",
        description="testnet, mainnet, local or a TOML file; empty for the environment's own",
        examples=[*NETWORKS],
    )
    endpoints: EndpointSettings = EndpointSettings()
    account: AccountSettings = AccountSettings()
    markets: tuple[str, ...] = Field(
        default=("BTC-USD", "ETH-USD", "SOL-USD"),
        description="tickers to trade",
        json_schema_extra={"type": ["array", "string"]},
    )
    profile: str = Field(
        default=STEADY,
        description="how much may be risked: steady or reckless; policy and strategies go over it",
        json_schema_extra={"enum": [*PROFILES]},
    )
    strategy: HomePath = Field(
        default="rank",
        description="rank, sniper, reversion, carry, pairs, mix, none, or a .py, .toml, .json file",
        examples=[*SETTINGS, "mix", "none"],
    )
    strategies: StrategiesSettings = StrategiesSettings()
    signals: SignalSettings = SignalSettings()
    policy: Policy = PROFILES[STEADY].policy
    paper: PaperSettings = PaperSettings()
    deposit: int | None = Field(
        default=None, gt=0, le=100_000_000_000,
        description="USDC to size positions to; null for 10000, or what a real account is worth",
    )  # fmt: skip
    guard: bool = Field(
        default=True, description="reduce positions before they are liquidated; off is for trials"
    )
    strict: bool = Field(
        default=False, description="end the run where the strategy raises, in place of its entries"
    )
    detectors: bool = Field(
        default=False, description="look for market makers and arbitrage; decides nothing"
    )
    record: Annotated[str | None, AT_HOME] = Field(
        default=None,
        description="path of a new recording of a live run's frames; {time} in it is when it began",
    )
    audit: HomePath = Field(
        default="audit.jsonl", description="path of the audit log of real orders"
    )
    database: DatabaseSettings = DatabaseSettings()
    notify: NotifySettings = NotifySettings()
    api: ApiSettings = ApiSettings()
    log: LogSettings = LogSettings()

    def of_strategy(self) -> Pace:
        """Return the settings of the strategy that trades; a file of the user's has none."""
        found = getattr(self.strategies, self.strategy, None)
        return found if isinstance(found, Pace) else self.strategies.rank

    @field_validator("markets", mode="before")
    @classmethod
    def _listed(cls, given: Any) -> Any:
        if isinstance(given, str):
            given = [part for part in given.split(",") if part.strip()]
        if given in ([], ()):
            raise ValueError("expected tickers such as BTC-USD and ETH-USD, got none")
        if isinstance(given, list | tuple):
            given = [part.strip().upper() if isinstance(part, str) else part for part in given]
            for part in given:
                if isinstance(part, str) and len(part.split()) != 1:
                    raise ValueError(f"expected markets such as BTC-USD, got {shown(part)}")
            if twice := next((part for part in given if given.count(part) > 1), ""):
                raise ValueError(f"expected markets once each, got {shown(twice)} twice")
        return given

    @field_validator("profile")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in PROFILES:
            raise ValueError(f"expected a profile ({', '.join(PROFILES)}), got {shown(name)}")
        return name

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take the values as bot.config.layers has put them together, with where each is from."""
        return (init_settings,)


# === Paths ===
# What can be set, by its dotted path.


def model_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model of a section, which may be left out; None for a setting."""
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        return model_of(parts[0]) if len(parts) == 1 else None
    return annotation if inspect.isclass(annotation) and issubclass(annotation, BaseModel) else None


def _leaves(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        section = model_of(field.annotation)
        if section is None:
            yield before + name, field
        else:
            yield from _leaves(section, f"{before}{name}.")


def _sections(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    yield before.removesuffix("."), model
    for name, field in model.model_fields.items():
        section = model_of(field.annotation)
        if section is not None:
            yield from _sections(section, f"{before}{name}.")


PATHS: Final[Mapping[str, FieldInfo]] = dict(_leaves(Settings))
SECTIONS: Final[Mapping[str, type[BaseModel]]] = dict(_sections(Settings))
SECRETS: Final = tuple(path for path, field in PATHS.items() if field.annotation is SecretStr)


def value_of(settings: Settings, path: str) -> Any:
    """Return the value of a setting; None below a section that is left out."""
    value: Any = settings
    for name in path.split("."):
        value = None if value is None else getattr(value, name)
    return value
