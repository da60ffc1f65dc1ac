"""The settings of a run, and where each comes from: what all else of the bot takes.

    what was typed ─► variables ─► recording ─► file ─► profile ─► defaults    the first that has it
                           └──── load ──► Loaded: Settings, the origin of each, a hash

All by which a run decides is its `text`, written in its recording, and the `hash` over it.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, Final

import msgspec
from dydx_conn import unseal
from pydantic import SecretStr

from bot.config.document import ConfigError, Fault, holds_secret, read_file
from bot.config.layers import (
    DEFAULT,
    PROFILE,
    RECORDING,
    Given,
    in_the_clear,
    is_ours,
    of_document,
    of_options,
    of_profile,
    of_recording,
    of_sealed,
    of_variables,
)
from bot.config.settings import PATHS, Settings, value_of
from bot.config.settled import settled

NO_FILE: Final = "no file"
_SEALED: Final = ", sealed"
_HIDDEN: Final = "**********"  # as pydantic shows a secret


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
        plain = {path: reduce(_below, path.split("."), values) for path in PATHS}
        # An address from a variable may hold a token, which a file would be refused for.
        hidden = [path for path, value in plain.items() if holds_secret(str(value))]
        return plain | dict.fromkeys(hidden, _HIDDEN)

    @property
    def changed(self) -> list[str]:
        """Return the paths of what is not as the profile and the defaults have it."""
        usual, _ = settled([of_profile(self.settings.profile)], [])
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
    variables = {name: environment[name] for name in environment if is_ours(name)}
    layers, sealed = [of_options(typed), of_variables(variables, faults)], dict[str, Given]()
    if recorded is not None:
        layers.append(of_recording(recorded, typed, faults))
    if path is not None:
        document = read_file(path)
        faults += document.faults
        sealed = of_sealed(document, faults)
        layers.append(of_document(document, faults))
        faults += in_the_clear(layers[-1])
    settings, origins = settled(layers, faults)
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


def _below(values: Any, name: str) -> Any:
    return None if values is None else values[name]


# === Sealed ===
# What is encrypted in the file, opened where it is needed.


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
