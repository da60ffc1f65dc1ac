"""The configuration: every setting of every layer in one tree, and where each value comes from.

    options ─► variables ─► recording ─► file ─► profile ─► defaults      the first that has it
                     └──────────── load ──► Loaded: Settings, and the origin of each

`Settings` is made of the layers' own models: what a field means and which values it takes is
theirs to say. A dotted path names a setting everywhere: `policy.max_leverage` is the line
`max_leverage` below `policy:` in a file, and the variable DYDX__POLICY__MAX_LEVERAGE. A mapping
such as the weights of signals is one setting, and is replaced as a whole.
"""

import hashlib
import inspect
import json
import os
import re
import types
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Union, cast, get_args, get_origin

import msgspec
from dydx_conn import printable, unseal
from dydx_risk import Policy
from dydx_signals import ALL, SignalError
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
from pydantic import (
    BaseModel,
    Field,
    SecretStr,
    ValidationError,
    create_model,
    field_serializer,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from bot.config.api import ApiSettings
from bot.config.document import (
    KEY,
    SEALED,
    SECRET,
    ConfigError,
    Document,
    Fault,
    content_of,
    near,
    read,
    read_text,
    shown,
)
from bot.config.environment import ENVIRONMENT, Environment
from bot.config.log import LogSettings
from bot.config.notify import SCHEME, NotifySettings, is_plain, pairs_of
from bot.config.paper import PaperSettings, Section
from bot.config.place import PREFIX
from bot.config.profiles import PROFILES, STEADY, beyond

# === Tree ===
# The sections in the order of a file. What a layer has a model for is that model.


class EndpointSettings(Section):
    """Addresses in place of the network's own."""

    rest: str = Field(default="", description="REST address of an indexer, https://…")
    ws: str = Field(default="", description="WebSocket address of an indexer, wss://…")
    node: str = Field(default="", description="node, as HOST:PORT")


def _expanded(path: str | None) -> str | None:
    """Return a path as a shell would have it, which a file does not pass through."""
    return os.path.expanduser(path) if path is not None and path.startswith("~/") else path


class AccountSettings(Section):
    """Whose account is traded with real orders, and who signs."""

    keys: str = Field(
        default="env",
        description="where the key is: env (DYDX_MNEMONIC or DYDX_PRIVATE_KEY), keyring:NAME, or "
        "the path of an encrypted file; never the key itself",
    )
    address: str = Field(default="", description="refuse a key of any other address")
    subaccount: int = Field(default=0, ge=0, le=128_000, description="number of the subaccount")
    authenticators: tuple[int, ...] = Field(
        default=(), description="ids by which the owner has permitted the key"
    )

    _at_home = field_validator("keys")(_expanded)


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


class ScoredSettings(Section):
    """What is scored, beside the standard six and what the strategy names."""

    use: str = Field(
        default="",
        description="all, names with commas between such as trend,basis, or a Python file of yours",
    )

    _at_home = field_validator("use")(_expanded)

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
    network: str = Field(
        default="",
        description="testnet, mainnet, local or a TOML file; empty for the environment's own",
    )
    endpoints: EndpointSettings = EndpointSettings()
    account: AccountSettings = AccountSettings()
    markets: tuple[str, ...] = Field(
        default=("BTC-USD", "ETH-USD", "SOL-USD"), description="tickers to trade"
    )
    profile: str = Field(
        default=STEADY,
        description="how much may be risked: steady or reckless; policy and strategies go over it",
    )
    strategy: str = Field(
        default="rank",
        description="rank, sniper, reversion, carry, pairs, mix, none, or a .py, .toml, .json file",
    )
    strategies: StrategiesSettings = StrategiesSettings()
    signals: SignalSettings = SignalSettings()
    policy: Policy = PROFILES[STEADY].policy
    paper: PaperSettings = PaperSettings()
    deposit: int | None = Field(
        default=None, gt=0,
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
    record: str | None = Field(
        default=None,
        description="path of a new recording of a live run's frames; {time} in it is when it began",
    )
    audit: str = Field(default="audit.jsonl", description="path of the audit log of real orders")
    database: DatabaseSettings = DatabaseSettings()
    notify: NotifySettings = NotifySettings()
    api: ApiSettings = ApiSettings()
    log: LogSettings = LogSettings()

    _at_home = field_validator("network", "strategy", "record", "audit")(_expanded)

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
        """Take the values from the layers of `load`, the first of them first; else as given."""
        given: dict[str, Any] = getattr(init_settings, "init_kwargs", {})
        if "layers" not in given:
            return (init_settings,)
        return tuple(_Source(settings_cls, layer) for layer in given["layers"])


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


def value_of(settings: Settings, path: str) -> Any:
    """Return the value of a setting; None below a section that is left out."""
    value: Any = settings
    for name in path.split("."):
        value = None if value is None else getattr(value, name)
    return value


def _below(values: Any, name: str) -> Any:
    return None if values is None else values[name]


# === Layers ===
# Where values come from: each a mapping of paths to what was given there, and exactly where.


class Given(msgspec.Struct, frozen=True):
    """A value as it was given, and where; of its parts where they are in a file."""

    value: Any
    where: str
    place: Callable[[tuple[str | int, ...]], str] | None = None

    def at(self, part: tuple[str | int, ...] = ()) -> str:
        """Return where a part of it was given."""
        return self.where if self.place is None else self.place(part)


Layer = Mapping[str, Given]


class _Source(PydanticBaseSettingsSource):
    """One layer: of it only what no layer before it has, so that no mapping is a mixture."""

    def __init__(self, settings_cls: type[BaseSettings], layer: Layer) -> None:
        super().__init__(settings_cls)
        self._layer = layer

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return nothing: a layer is taken as a whole."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the values, nested."""
        nested: dict[str, Any] = {}
        for path, given in self._layer.items():
            *sections, name = path.split(".")
            before, into = cast(Any, self.current_state), nested
            for section in sections:
                before = before.get(section, {})
                into = into.setdefault(section, {})
            if name not in before:
                into[name] = given.value
        return nested


PROFILE: Final = "profile "


def of_profile(name: str) -> Layer:
    """Return what a profile decides."""
    profile, where = PROFILES.get(name, PROFILES[STEADY]), f"{PROFILE}{name}"
    fields = {"policy": profile.policy, "strategies.rank": profile.strategy}
    return {
        f"{section}.{field}": Given(value, where)
        for section, model in fields.items()
        for field, value in dict(model).items()
    }


def of_options(typed: Mapping[str, tuple[str, Any]]) -> Layer:
    """Return what was typed: of each path the option and its value."""
    return {path: Given(value, option) for path, (option, value) in typed.items()}


def of_document(document: Document, faults: list[Fault], before: str = "") -> Layer:
    """Return what a file gives; names that it does not know are faults."""
    layer: dict[str, Given] = {}
    _flatten(document, (), before, document.value, layer, faults)
    return layer


def _flatten(
    document: Document,
    path: tuple[str | int, ...],
    section: str,
    value: Any,
    layer: dict[str, Given],
    faults: list[Fault],
) -> None:
    if value is None:
        return  # a section of which everything is a comment
    if not isinstance(value, Mapping):
        name = section or "the file"
        words = f"expected names and values in {name}, got {_kind(value)}"
        words += " (as in name: value)" * isinstance(value, str)
        faults.append(Fault(document.place(path), words))
        return
    for name, part in value.items():
        here, below = f"{section}.{name}".removeprefix("."), (*path, name)
        if here in SECTIONS:
            _flatten(document, below, here, part, layer, faults)
        elif here in PATHS:
            layer[here] = Given(part, document.line((*below, KEY)), _placed(document, below))
        else:
            faults.append(Fault(document.place((*below, KEY)), unknown(section, name)))


def _placed(
    document: Document, path: tuple[str | int, ...]
) -> Callable[[tuple[str | int, ...]], str]:
    return lambda part: document.place((*path, *part))


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else shown(value)


def unknown(section: str, name: str) -> str:
    """Return in words that a section has no such name, and which may be meant."""
    whole = f"{section}.{name}".removeprefix(".")
    siblings = [*SECTIONS[section].model_fields]
    nearest = near(name, siblings)
    if not nearest:  # right, but in another place
        others = {path.rpartition(".")[2]: path for path in reversed([*PATHS])}
        found = near(name, others).rpartition(" ")[2].removesuffix("?")
        nearest = f": did you mean {others[found]}?" if found else f": known are {_some(siblings)}"
    return f"expected the name of a setting, got {shown(whole)}{nearest}"


def _some(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


# What these are called without the tree.
_SHORT: Final = {ENVIRONMENT: "environment", "DYDX_ADDRESS": "account.address"}


def of_variables(environment: Mapping[str, str], faults: list[Fault]) -> Layer:
    """Return what variables give; an empty one gives nothing."""
    layer = {
        path: Given(environment[name], name)
        for name, path in _SHORT.items()
        if environment.get(name)
    }
    # A section before its settings: what names one setting goes over what names many.
    for name in sorted(filter(environment.get, environment), key=lambda name: name.count("__")):
        if name.upper().startswith(PREFIX):
            layer |= _variable(name, environment[name], faults)
    return layer


def _variable(name: str, text: str, faults: list[Fault]) -> Layer:
    path = name[len(PREFIX) :].lower().replace("__", ".")
    field = PATHS.get(path)
    if field is None and (path not in SECTIONS or not path):
        known = {
            PREFIX + known.upper().replace(".", "__"): known
            for known in (*PATHS, *SECTIONS)
            if known
        }
        words = f"expected the name of a setting{near(name.upper(), known)}"
        faults.append(Fault(name, words))
        return {}
    if field is not None and field.annotation in (str, str | None, SecretStr):
        return {path: Given(text, name)}
    try:
        document = read_text(text, name)
    except ConfigError as error:
        faults.extend(error.faults)
        return {}
    faults.extend(document.faults)
    if field is None:
        return of_document(document, faults, path)
    return {path: Given(document.value, name)}


# === Loading ===
# All layers come to one tree, or to all that is wrong with them.

FILE: Final = "bot.yaml"
NONE: Final = "none"
NO_FILE: Final = "no file"
CONFIG: Final = "DYDX_CONFIG"  # what --config is where none is typed


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """Settings, where each comes from, and the file that was read, if one was.

    `sealed` has of each secret that is encrypted its text and where it is; `secrets` are those that
    were `opened`.
    """

    settings: Settings
    origins: dict[str, str]
    path: Path | None = None
    sealed: Mapping[str, Given] = {}
    secrets: Mapping[str, SecretStr] = {}
    typed: Mapping[str, tuple[str, Any]] = {}
    variables: Mapping[str, str] = {}

    def __repr__(self) -> str:
        # A variable may be a password.
        return f"Loaded({self.file}, {self.hash[:16]})"

    def __reduce__(self) -> tuple[Any, ...]:
        # To another process goes what decides: no secret, and no address.
        return remade, (self.text(), self.settings.strategy, self.settings.signals.use)

    def again(self) -> "Loaded":
        """Load the same again: what was typed and the variables stay, the file may have changed.

        What was opened of it stays open for as long as it is the same.
        """
        now = load(self.typed, path=self.path, environment=self.variables)
        was = {path: given.value for path, given in self.sealed.items()}
        same = [path for path, given in now.sealed.items() if was.get(path) == given.value]
        return _with(now, {path: self.secrets[path] for path in same if path in self.secrets})

    def plain(self) -> dict[str, Any]:
        """Return every value by its path as a file would have it; of a secret what may be seen."""
        values = self.settings.model_dump(mode="json")
        return {path: reduce(_below, path.split("."), values) for path in PATHS}

    @property
    def changed(self) -> list[str]:
        """Return the paths of what is not as the profile and the defaults have it."""
        usual, _ = _settled([of_profile(self.settings.profile)], [])
        given = [
            path for path, where in self.origins.items()
            if path != "profile" and where != DEFAULT and not where.startswith(PROFILE)
        ]  # fmt: skip
        return [path for path in given if value_of(self.settings, path) != value_of(usual, path)]

    def secret(self, path: str) -> str:
        """Return a secret as it was given: sealed where it is, as with it opened or not."""
        sealed = self.sealed.get(path)
        if sealed is not None and self.origins[path].removesuffix(_SEALED) == sealed.where:
            return str(sealed.value)
        found: SecretStr = value_of(self.settings, path)
        return found.get_secret_value()

    @property
    def is_recorded(self) -> bool:
        """Return whether they are those that a recording holds."""
        return RECORDING in self.origins.values()

    @property
    def file(self) -> str:
        """Return in words which file the settings are from."""
        if self.is_recorded:
            return "as recorded"
        return NO_FILE if self.path is None else str(self.path)

    @property
    def hash(self) -> str:
        """Return the SHA-256 over all by which a run decides."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    def text(self) -> str:
        """Return as JSON all by which a run decides: what stands beside it is left out.

        A deposit that nobody chose is null: what came of it stands beside this, wherever it is.
        """
        values = self.settings.model_dump(mode="json", exclude=_BESIDE)
        # Of a file of the user's the name alone, as of a strategy everywhere else.
        for section, name in ((values, "strategy"), (values["signals"], "use")):
            section[name] = section[name].replace("\\", "/").rpartition("/")[2]
        return json.dumps(values, separators=(",", ":"))  # as ordered: weights are added so


def deciding(paths: Sequence[str]) -> list[str]:
    """Return those of some paths by which a run decides: the others are no part of the hash."""
    return [path for path in paths if path.partition(".")[0] not in _BESIDE]


def settings_words(file: str, changed: Sequence[str], profile: str, digest: str) -> str:
    """Put in one line which settings count: the `file`, how many are others, and their hash."""
    count = len(changed)
    others = f"{count} differ{'s' * (count == 1)} from {profile}" if count else f"all as {profile}"
    after = f", {others}, hash {digest[:_DIGITS]}"
    most = _LINE - len(after)
    return (file if len(file) <= most else f"…{file[1 - most :]}") + after


_DIGITS: Final = 8
_LINE: Final = 67  # behind what it is called, in 80 columns
_BESIDE: Final = {
    "environment", "network", "endpoints", "account", "record", "audit", "database", "api",
    "log", "notify",
}  # fmt: skip


def load(
    typed: Mapping[str, tuple[str, Any]] = {},
    *,
    path: Path | None = None,
    recorded: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Loaded:
    """Load the settings: `typed` over variables over the file at `path` over the profile.

    `typed` has of each path the option that gave it, and the value; `recorded` is what a recording
    holds of its run. `ConfigError` has all faults.
    """
    faults: list[Fault] = []
    variables = {name: environment[name] for name in environment if _is_ours(name)}
    layers, sealed = [of_options(typed), of_variables(variables, faults)], dict[str, Given]()
    if recorded is not None:
        layers.append(_of_recording(recorded, typed, faults))
    if path is not None:
        document = read_file(path)
        faults += document.faults
        sealed = _sealed(document, faults)
        layers.append(of_document(document, faults))
        faults += _in_the_clear(layers[-1])
    settings, origins = _settled(layers, faults)
    for name, one in sealed.items():
        if origins[name] == DEFAULT:
            origins[name] = one.where + _SEALED
        elif origins[name].startswith(str(path)):
            faults.append(Fault(one.where, f"expected {name} once, got it in the clear as well"))
    if faults:
        raise ConfigError(faults)
    return Loaded(
        settings=settings, origins=origins, path=path, sealed=sealed, typed=typed,
        variables=variables,
    )  # fmt: skip


def remade(text: str, strategy: str, signals: str) -> Loaded:
    """Load what `Loaded.text` has of settings; of files of the user's it has no paths."""
    typed = {"strategy": ("--strategy", strategy), "signals.use": ("--signals", signals)}
    return load(typed, recorded=json.loads(text), environment={})


def _is_ours(name: str) -> bool:
    return name in _SHORT or name.upper().startswith(PREFIX)


def _of_recording(
    recorded: Mapping[str, Any], typed: Mapping[str, tuple[str, Any]], faults: list[Fault]
) -> Layer:
    document = Document(source=RECORDING, value=recorded, places={(): RECORDING})
    layer = of_document(document, faults)
    if "profile" not in typed:
        return layer
    # Whoever types another profile means all of it.
    return {
        path: given for path, given in layer.items()
        if not path.startswith(("policy.", "strategies.rank."))
    }  # fmt: skip


RECORDING: Final = "recording"
_SEALED: Final = ", sealed"


def read_file(path: Path) -> Document:
    """Read a file of settings; `ConfigError` if it cannot be read."""
    try:
        return read(content_of(path), str(path))
    except OSError as error:
        words = f"expected a configuration that can be read, got {error.strerror or error}"
        raise ConfigError([Fault(str(path), words)]) from None


def _settled(layers: list[Layer], faults: list[Fault]) -> tuple[Settings, dict[str, str]]:
    above: Mapping[str, Given] = ChainMap(*cast(Any, layers))
    name = above["profile"].value if "profile" in above else STEADY
    layers = [*layers, of_profile(name if isinstance(name, str) else STEADY)]
    given: Mapping[str, Given] = ChainMap(*cast(Any, layers))
    faults += _truths(given)
    wrong = [*faults, *_shadowed(layers)]
    try:
        settings = Settings(layers=layers)  # type: ignore[call-arg]  # see its sources
    except ValidationError as error:
        names = {path: given[path].value for path in _NAMES if path in given}
        unknown_names = _unknown_names(names, given)
        raise ConfigError(_themselves([*wrong, *_faults(error, given), *unknown_names])) from None
    if wrong := [*wrong, *_disagreements(settings, given)]:
        raise ConfigError(wrong)
    return settings, {path: _line(given, path) for path in PATHS}


def _themselves(faults: list[Fault]) -> list[Fault]:
    """Return what is wrong by itself: a secret was taken out, and is not missing."""
    secret = {fault.where for fault in faults if fault.words == SECRET}
    return [fault for fault in faults if fault.words == SECRET or fault.where not in secret]


def _line(given: Mapping[str, Given], path: str) -> str:
    return given[path].where if path in given else DEFAULT


def _at(given: Mapping[str, Given], path: str, part: tuple[str | int, ...] = ()) -> str:
    return given[path].at(part) if path in given else DEFAULT


DEFAULT: Final = "default"


def _shadowed(layers: list[Layer]) -> Iterator[Fault]:
    """Find what is wrong by itself in what another layer goes over."""
    for n in range(1, len(layers)):
        below: Mapping[str, Given] = ChainMap(*cast(Any, layers[n:]))
        try:
            Settings(layers=layers[n:])  # type: ignore[call-arg]  # see its sources
        except ValidationError as error:
            for one in _errors(error):
                path, part = _split(one["loc"])
                if path in below:
                    words = _words(".".join(map(str, one["loc"])), dict(one))
                    yield Fault(below[path].at(part), words)


def _truths(given: Mapping[str, Given]) -> Iterator[Fault]:
    """Find a true or false where a number is expected: pydantic takes it for 1 or 0."""
    for path, one in given.items():
        kinds = str(PATHS[path].annotation)
        if "bool" not in kinds and "Any" not in kinds and _holds_truth(one.value):
            yield Fault(one.at(), f"expected {path} to be no true or false, got one")


def _holds_truth(value: Any) -> bool:
    parts = value.values() if isinstance(value, Mapping) else value
    if isinstance(value, Mapping | list | tuple):
        return any(map(_holds_truth, parts))
    return isinstance(value, bool)


def _faults(error: ValidationError, given: Mapping[str, Given]) -> Iterator[Fault]:
    for one in _errors(error):
        path, part = _split(one["loc"])
        words = _words(".".join(map(str, one["loc"])), dict(one))
        if path in PATHS:
            # What is missing is so where its section was given.
            beside = f"{path.rpartition('.')[0]}."
            near_it = (other for other in PATHS if other.startswith(beside) and other in given)
            where = _at(given, path if path in given else next(near_it, path), part)
        else:
            where, words = _contradiction(path, words, given)
        yield Fault(where, words)


def _errors(error: ValidationError) -> Iterator[Any]:
    """Yield all but that a list is too short because of what is wrong in it."""
    found = error.errors()
    inner = {one["loc"][:-1] for one in found}
    yield from (one for one in found if one["type"] != "too_short" or one["loc"] not in inner)


def _split(loc: Sequence[str | int]) -> tuple[str, tuple[str | int, ...]]:
    """Part where an error is into the path of a setting, or a section, and what is within."""
    for n in range(len(loc), 0, -1):
        path = ".".join(map(str, loc[:n]))
        if path in PATHS or path in SECTIONS:
            return path, tuple(loc[n:])
    return "", tuple(loc)


def _words(path: str, error: Mapping[str, Any]) -> str:
    path, what = printable(path), error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        named = path.rpartition(".")[2] in what
        return what if named else f"{path}: {what}".removeprefix(": ")
    if error["type"] == "missing":
        return f"expected {path}, got nothing"
    if error["type"] == "extra_forbidden":
        return f"expected the name of a setting, got {shown(path)}"
    what = _KINDS.get(error["type"], what.replace("Input should ", "to ", 1))
    return f"expected {path} {what}, got {shown(error['input'])}"


# In place of pydantic's words, by the type of its error.
_KINDS: Final = {
    "bool_type": "to be true or false",
    "bool_parsing": "to be true or false",
    "int_type": "to be a whole number",
    "int_parsing": "to be a whole number",
    "int_from_float": "to be a whole number",
    "float_type": "to be a number",
    "float_parsing": "to be a number",
    "string_type": "to be text",
    "dict_type": "to be names and values, as in {BTC-USD: 1}",
    "tuple_type": "to be a list, as in [a, b]",
    "too_short": "to be longer",
}


def _contradiction(section: str, words: str, given: Mapping[str, Given]) -> tuple[str, str]:
    """Return where the settings that contradict each other come from, and say it of each."""
    below = [path for path in PATHS if path.startswith(f"{section}.")]
    named = [path for path in below if re.search(rf"\b{path.rpartition('.')[2]}\b", words)]
    named = named or [path for path in below if path in given]
    places = {path: _at(given, path) for path in named}
    listed = ", ".join(f"{path.rpartition('.')[2]}: {place}" for path, place in places.items())
    return _foremost([*places.values()] or [section]), f"{words} ({listed})" if listed else words


def _foremost(places: Sequence[str]) -> str:
    """Return where a person chose before where a profile did."""
    return min(places, key=lambda place: place == DEFAULT or place.startswith(PROFILE))


def _disagreements(settings: Settings, given: Mapping[str, Given]) -> Iterator[Fault]:
    """Find what agrees with its own section, and not with another one."""
    yield from _unknown_names({path: value_of(settings, path) for path in _NAMES}, given)
    if settings.strategy == "mix" and settings.strategies.mix is None:
        words = "expected strategies.mix beside strategy mix, got nothing"
        yield Fault(_at(given, "strategy"), words)
    if settings.strategy in StrategiesSettings.model_fields:
        name = f"strategies.{settings.strategy}"
        for setting, wanted, limit, most in beyond(settings.policy, settings.of_strategy()):
            paths = f"{name}.{setting}", f"policy.{limit}"
            places = [_at(given, path) for path in paths]
            words = f"expected {paths[0]} <= {paths[1]}, got {wanted:g} and {most:g}"
            yield Fault(
                _foremost(places), f"{words} ({setting}: {places[0]}, {limit}: {places[1]})"
            )
    yield from _of_mix(settings.strategies.mix, given)
    for make in ALL:
        fields = settings.signals.tuned().get(name := make().name)
        if fields is not None:
            try:
                make(**fields)
            except SignalError as error:
                where, words = _contradiction(f"signals.{name}", str(error), given)
                yield Fault(where, f"signals.{name}: {words}")


_NAMES: Final = ("strategy", "signals.use")


def _unknown_names(names: Mapping[str, Any], given: Mapping[str, Given]) -> Iterator[Fault]:
    """Find what is no name of a strategy or a signal, nor a file; not of what is typed."""
    texts = {path: value for path, value in names.items() if isinstance(value, str)}
    strategy, use = texts.get("strategy", "none"), texts.get("signals.use", "")
    known = [*SETTINGS, "mix", "none"]
    wanted = [part.strip() for part in use.split(",") if part.strip()]
    signals = [*(make().name for make in ALL), "all"]
    for path, name, meant in (
        ("strategy", strategy, known),
        *(("signals.use", name, signals) for name in wanted if not use.endswith(".py")),
    ):
        typed = _at(given, path).startswith("--")
        if name not in meant and not typed and not _FILE.search(name) and not _module(path, name):
            words = f"expected one of {', '.join(meant)}, or a file, got {shown(name)}"
            yield Fault(_at(given, path), words + near(name, meant))


_FILE: Final = re.compile(r"[/\\]|\.(py|toml|json)$")


def _module(path: str, name: str) -> bool:
    """Return whether a strategy may be an importable module."""
    if path != "strategy" or not name.replace(".", "").isidentifier():
        return False
    if "." in name:  # to look for it would import the package that it is in
        return True
    try:
        return find_spec(name) is not None
    except ValueError:  # one that is no module like others, as __main__
        return False


def _of_mix(mix: AllocatorSettings | None, given: Mapping[str, Given]) -> Iterator[Fault]:
    """Find what is wrong with the settings of one of several strategies."""
    path = "strategies.mix.strategies"
    for n, one in enumerate(mix.strategies if mix is not None else ()):
        kind, _ = SETTINGS.get(one.use, (None, None))
        if kind is None:
            if one.settings:
                words = f"expected settings of {', '.join(SETTINGS)} alone, got some of {one.use}"
                yield Fault(_at(given, path, (n, "settings")), words)
            continue
        try:
            kind.model_validate(one.settings)
        except ValidationError as error:
            for wrong in error.errors():
                below = (n, "settings", *wrong["loc"])
                words = _words(".".join(map(str, (path, *below))), dict(wrong))
                yield Fault(_at(given, path, below), words)


# === Sealed ===
# Secrets that are in the file, encrypted: opened where they are needed, and not before.

SECRETS: Final = tuple(path for path, field in PATHS.items() if field.annotation is SecretStr)


def _sealed(document: Document, faults: list[Fault]) -> dict[str, Given]:
    """Take the encrypted section out of a file: of each secret its text, and where it is."""
    value, found = document.value, dict[str, Given]()
    given = value.pop(SEALED, None) if isinstance(value, dict) else None
    if given is not None and not isinstance(given, dict):
        words = f"expected names and sealed texts in {SEALED}, got {_kind(given)}"
        faults.append(Fault(document.place((SEALED,)), words))
        return found
    for name, text in (given or {}).items():
        where = document.place((SEALED, name, KEY))
        if name not in SECRETS:
            words = f"expected a secret ({', '.join(SECRETS)}), got {shown(name)}"
            faults.append(Fault(where, words + near(name, SECRETS)))
        elif not isinstance(text, str) or '"dydx-sealed"' not in text:
            faults.append(Fault(where, "expected what `bot config seal` has made, got other text"))
        else:
            found[name] = Given(text, document.line((SEALED, name, KEY)))
    return found


def _in_the_clear(layer: Layer) -> Iterator[Fault]:
    """Find addresses of `notify.urls` that hold a token, and so are secret as a whole."""
    given = layer.get("notify.urls")
    if given is not None and isinstance(given.value, str):
        addresses = pairs_of(SecretStr(given.value)).values()
        if any(SCHEME.match(url) and not is_plain(url) for url in addresses):
            yield Fault(given.at(), SECRET)


def opened(loaded: Loaded, passphrase: Callable[[], SecretStr]) -> Loaded:
    """Return the settings with what is sealed in them; `KeyProblem` if that is not the passphrase.

    What goes over the file goes over what is sealed in it, too.
    """
    wanted = [path for path in loaded.sealed if loaded.origins[path].endswith(_SEALED)]
    if not wanted:
        return loaded
    word = passphrase()
    texts = {path: unseal(loaded.sealed[path].value.encode(), word) for path in wanted}
    return _with(loaded, {path: SecretStr(text.decode()) for path, text in texts.items()})


def _with(loaded: Loaded, secrets: Mapping[str, SecretStr]) -> Loaded:
    settings, origins = loaded.settings, dict(loaded.origins)
    for path, secret in secrets.items():
        if origins[path].endswith(_SEALED):
            *sections, name = path.split(".")
            settings = _replaced(settings, sections, name, secret)
            origins[path] = origins[path].removesuffix(_SEALED)
    return msgspec.structs.replace(loaded, settings=settings, origins=origins, secrets=secrets)


def _replaced(settings: Any, sections: Sequence[str], name: str, value: Any) -> Any:
    if sections:
        inner = _replaced(getattr(settings, sections[0]), sections[1:], name, value)
        return settings.model_copy(update={sections[0]: inner})
    return settings.model_copy(update={name: value})
