"""`bot config`: show, check, describe, begin and seal the file of settings.

    show [NAME]     what is not as the profile has it, and where it comes from; --all: all of it
    check [FILE]    all that is wrong with a file: 1 if anything is
    schema [FILE]   the JSON Schema by which an editor completes and checks
    init [FILE]     a file in which every setting stands as a comment
    seal NAME       encrypt a secret into the file

All of it is made of the tree (bot.config.settings): what is printed of a field is what its layer
says.
"""

import argparse
import getpass
import json
import os
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from dydx_conn import ConnError, KeyProblem, seal, unseal
from pydantic import BaseModel, SecretStr

from bot.config.configured import environment_of, loaded_of
from bot.config.document import SEALED, ConfigError, Fault, near, plain, quoted, read, shown
from bot.config.environment import objection
from bot.config.loaded import Loaded, load, settings_words
from bot.config.passphrase import new_passphrase, passphrase
from bot.config.place import FILE, PREFIX
from bot.config.settings import PATHS, SECRETS, SECTIONS, Settings, model_of
from bot.outlet import as_lines
from bot.system import replacing


def config(arguments: argparse.Namespace) -> int:
    """Do one of it."""
    return _ACTS[arguments.act](arguments)


# === Show ===


def show(arguments: argparse.Namespace) -> int:
    """Print what is not as the profile and the defaults have it, or all below a name."""
    loaded = loaded_of(arguments)
    paths = _named(arguments.name)
    if arguments.json:
        plain = loaded.plain()
        values = {path: {"value": plain[path], "from": loaded.origins[path]} for path in paths}
        print(json.dumps({"hash": loaded.hash, "settings": values}, indent=2))
        return 0
    listed = paths
    if not (arguments.all or arguments.name):
        others = {*loaded.changed, *loaded.sealed}
        listed = [path for path in paths if path in others]
    print(as_lines([*_table(loaded, listed), *_summary(loaded, paths, listed)]))
    return 0


def _table(loaded: Loaded, paths: list[str]) -> Iterator[str]:
    """Yield settings by their sections: name, value, and where it comes from."""
    values = _shown_values(loaded)
    if len(paths) == 1 and paths[0] in PATHS:  # all of it, however long
        yield f"{paths[0]}: {values[paths[0]]}"
        yield f"from {loaded.origins[paths[0]]}"
        return
    width = shutil.get_terminal_size().columns
    sections: dict[str, list[str]] = {"": []}
    for path in paths:
        sections.setdefault(path.rpartition(".")[0], []).append(path)
    names = min(max((len(path.rpartition(".")[2]) for path in paths), default=0), _NAME) + 2
    longest = max((len(values[path]) for path in paths), default=0)
    most = min(longest, max(_LEAST, width - names - _ORIGIN - 4))
    for section, below in sections.items():
        yield from [section] if section else []
        for path in below:
            name = "  " * bool(section) + path.rpartition(".")[2]
            room = max(_LEAST, most - max(0, len(name) - names))
            line = f"{name:<{names}}  {_ending(values[path], room):<{room}}  "
            yield line + _beginning(loaded.origins[path], max(_LEAST, width - len(line)))


def _summary(loaded: Loaded, paths: list[str], listed: list[str]) -> list[str]:
    words = settings_words(loaded.file, loaded.changed, loaded.settings.profile, loaded.hash)
    more = len(paths) - len(listed)
    rest = f"{more} more are as the profile and the defaults have them: --all lists them, too"
    return [*([""] if listed else []), f"settings     {words}", *([rest] if more else [])]


_LEAST: Final = 10  # columns, on however narrow a terminal
_NAME: Final = 24
_ORIGIN: Final = 20


def _ending(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _beginning(text: str, most: int) -> str:
    return text if len(text) <= most else f"…{text[1 - most :]}"


def _named(name: str | None) -> list[str]:
    found = [path for path in PATHS if not name or f"{path}.".startswith(f"{name}.")]
    if not found:
        known = [*SECTIONS, *PATHS]
        words = f"expected a setting or a section, got {shown(name)}{near(str(name), known)}"
        raise ConfigError([Fault("config show", words)])
    return found


def _shown_values(loaded: Loaded) -> dict[str, str]:
    closed = loaded.sealed.keys() - loaded.secrets.keys()
    values = {path: written(value) for path, value in loaded.plain().items()}
    return values | dict.fromkeys(closed, "(encrypted)")


def written(value: Any) -> str:
    """Return a value as YAML in one line."""
    if isinstance(value, str) and _BARE.fullmatch(value) and plain(value) == value:
        return value
    return quoted(value)


_BARE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.]*")

# === Check ===


def check(arguments: argparse.Namespace) -> int:
    """Print all that is wrong with a file of settings: 1 if anything is."""
    if arguments.name is not None:
        arguments.config = arguments.name
    try:
        loaded = loaded_of(arguments)
        if faults := [*_refusals(arguments, loaded)]:
            raise ConfigError(faults)
    except ConfigError as error:
        print(f"bot: {error}", file=sys.stderr)
        return 1
    changed = len(loaded.changed)
    what = f"{changed} setting{'s' * (changed != 1)} changed" if changed else "nothing changed"
    print(f"{loaded.file}: {what}, config hash {loaded.hash}")
    return 0


def _refusals(arguments: argparse.Namespace, loaded: Loaded) -> Iterator[Fault]:
    """Find why no run may start with these settings on the network that they choose."""
    settings = environment_of(arguments)
    where = loaded.origins["network" if settings.network else "environment"]
    try:
        refused = objection(settings, settings.chosen())
    except ConnError as error:
        refused = str(error)
    if refused:
        yield Fault(where, refused)


# === Schema ===


def schema(arguments: argparse.Namespace) -> int:
    """Print the JSON Schema of a file of settings, or write it to one."""
    text = json.dumps(schema_of(), indent=2)
    if arguments.name is None:
        print(text)
    else:
        Path(arguments.name).write_text(text + "\n", encoding="utf-8")
    return 0


def schema_of() -> dict[str, Any]:
    """Return the JSON Schema of a file of settings."""
    found = Settings.model_json_schema()
    found = {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}
    found["title"] = "Settings of the dYdX bot"
    found["properties"][SEALED] = {
        "type": "object",
        "description": "secrets that `bot config seal` has encrypted",
        "properties": {name: {"type": "string"} for name in SECRETS},
        "additionalProperties": False,
    }
    # A section of which everything is a comment is nothing.
    for section in (found, *found["$defs"].values()):
        for name, part in section.get("properties", {}).items():
            if "$ref" in part or name == SEALED:
                section["properties"][name] = {"anyOf": [part, {"type": "null"}]}
    return found


# === Init ===

_HEAD: Final = """\
# yaml-language-server: $schema=bot.schema.json
##
## Settings of the bot: `bot config show` prints those that count, `bot config check` what is wrong.
## Take the "# " away from what you change; the values here are those of the profile steady, and the
## defaults. `bot config schema bot.schema.json` writes what the first line names for your editor.
## A variable goes over this file: DYDX__POLICY__MAX_LEVERAGE=1.5; an option goes over both.
## While a run goes these take effect as the file is saved: profile, policy, strategies, log.level;
## all others as a run begins.
"""
_TAIL: Final = """\
## Secrets are encrypted: `bot config seal database.url` writes one here. They are opened with a
## passphrase, which is typed or comes from DYDX_CONFIG_PASSPHRASE.
sealed:
"""
# Of what has no default of its own.
_EXAMPLES: Final[Mapping[str, Any]] = {
    "strategies.mix.strategies": [{"use": "rank", "weight": 2}, {"use": "carry", "weight": 1}],
    "notify.sinks": [
        {"name": "hook", "url": "json://127.0.0.1:8080/"},
        {"name": "phone", "url_env": "PHONE_URL"},
    ],
}
_WIDTH: Final = 100


def init(arguments: argparse.Namespace) -> int:
    """Write a file in which every setting stands as a comment, with what it means."""
    path = Path(arguments.name or FILE)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # It may hold what is sealed: nobody else needs to read it.
        with open(os.open(path, _NEW, 0o600), "w", encoding="utf-8") as file:
            file.write(template())
    except FileExistsError:
        words = "expected a path where nothing is yet, got a file: it is left as it is"
        raise ConfigError([Fault(str(path), words)]) from None
    print(f"{path}: {len(PATHS)} settings, all as comments: take the # from those to change, then")
    print(f"  bot config check {shlex.quote(str(path))}")
    return 0


_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL


def template() -> str:
    """Return the file: sections as they are, settings as comments, prose behind two signs."""
    return "\n".join([_HEAD, *_lines(Settings, load(environment={}).settings, ""), _TAIL])


def _lines(model: type[BaseModel], values: BaseModel | None, before: str) -> Iterator[str]:
    indent, after = "  " * before.count("."), False
    for name, field in model.model_fields.items():
        path, value = before + name, getattr(values, name, field.get_default())
        section = model_of(field.annotation)
        if after and section is None:
            yield ""
        after = section is not None
        if section is None:
            yield from _prose(field.description or "", indent)
            value = _EXAMPLES.get(path, value)
            if isinstance(value, SecretStr):
                value = value.get_secret_value()
            if isinstance(value, tuple):
                value = [list(part) if isinstance(part, tuple) else part for part in value]
            yield f"{indent}# {name}: {written(value)}"
        else:
            what = field.description or (section.__doc__ or "").strip().splitlines()[0]
            yield ""
            yield from _prose(what, indent)
            yield f"{indent}{name}:"
            yield from _lines(section, value, f"{path}.")
    if not before:
        yield ""


def _prose(text: str, indent: str) -> list[str]:
    lines = textwrap.wrap(text, _WIDTH - len(indent) - 3, break_on_hyphens=False)
    return [f"{indent}## {line}" for line in lines]


# === Seal ===


def sealing(arguments: argparse.Namespace) -> int:
    """Encrypt a secret into the file; everything else in it stays as it is."""
    name: str = arguments.name or ""
    if name not in SECRETS:
        words = f"expected a secret ({', '.join(SECRETS)}), got {shown(name) if name else 'none'}"
        raise ConfigError([Fault("config seal", words)])
    loaded = loaded_of(arguments)
    path = loaded.path or Path(FILE)
    value, word = _value(name), _passphrase(loaded)
    text = seal(value.get_secret_value().encode(), word).decode()
    before = path.read_text(encoding="utf-8-sig") if path.exists() else ""
    after = with_sealed(before, name, text)
    found = read(after.encode(), str(path)).value or {}
    was = read(before.encode(), str(path)).value or {}
    expected = {**was, SEALED: {**(was.get(SEALED) or {}), name: text}}
    if found != expected:
        words = f"expected {SEALED}: in a line of its own, its names below it, got it otherwise"
        raise ConfigError([Fault(str(path), words)])
    _replace(path, after)
    print(f"{path}: {name} is sealed in it")
    return 0


def with_sealed(text: str, name: str, sealed: str) -> str:
    """Return the text of a file with a sealed secret in it, in place of one of that name."""
    entry = f"  {name}: |\n{textwrap.indent(sealed, '    ')}"
    head, title, section = _parted(text)
    if not title:
        return f"{head.rstrip()}\n\n{SEALED}:\n{entry}".lstrip()
    body = re.match(r"(?:[ \t].*\n|\s*\n)*", section)
    inside = "" if body is None else body[0]
    others = re.sub(rf"(?m)^  {re.escape(name)}:.*\n(?:(?:   .*)?\n)*", "", inside)
    return head + title + entry + others + section[len(inside) :]


def _parted(text: str) -> tuple[str, str, str]:
    text = text if not text or text.endswith("\n") else f"{text}\n"
    title = re.search(rf"(?m)^{SEALED}:[ \t]*(?:#.*)?\n", text)
    if title is None:
        return text, "", ""
    return text[: title.start()], title[0], text[title.end() :]


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all; only its owner may read a new one."""
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    with replacing(path, mode, on_disk=True) as file:
        file.write(text.encode())


def _value(name: str) -> SecretStr:
    variable = PREFIX + name.upper().replace(".", "__")
    if os.environ.get(variable):
        return SecretStr(os.environ[variable])
    if not sys.stdin.isatty():
        raise KeyProblem(f"expected a value in {variable} or typed at a terminal, got neither")
    return SecretStr(getpass.getpass(f"{name}: "))


def _passphrase(loaded: Loaded) -> SecretStr:
    """Return a new passphrase, or that of what is sealed already."""
    variable = "DYDX_CONFIG_PASSPHRASE"
    if not loaded.sealed:
        return passphrase("", variable) if os.environ.get(variable) else new_passphrase()
    word = passphrase("passphrase of the configuration: ", variable)
    for given in loaded.sealed.values():
        unseal(given.value.encode(), word)
    return word


_ACTS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "show": show,
    "check": check,
    "schema": schema,
    "init": init,
    "seal": sealing,
}
