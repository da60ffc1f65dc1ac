"""A file of settings: YAML in which everything knows its line, and what is wrong with it.

    bytes ──► read ──► Document: a value, and the place of each part of it ──► bot.config.settings

All that is wrong is reported, not the first of it alone, and each with file, line and column. A
plain word is a number, a truth (true, yes, on …) or nothing (null) as YAML 1.2 has it, and text
otherwise; no tag makes anything else of it. Nothing here knows which settings there are.
"""

import errno
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
from dydx_conn import ConnError, is_secret, printable, redact

from bot.parsing import nearest
from bot.system import NO_WAIT

if TYPE_CHECKING:
    import yaml

Path = tuple[str | int, ...]

# === Errors ===


class Fault(msgspec.Struct, frozen=True, order=True):
    """One thing that is wrong: where it was given, and in words what was expected."""

    where: str
    words: str


class ConfigError(ConnError):
    """Settings that cannot be meant; the message is a line for each fault."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(map(_without_addresses, {*faults}), key=_in_order))
        lines = [f"{fault.where}: {fault.words}" for fault in self.faults]
        head = f"expected a configuration without faults, got {len(lines)}:"
        super().__init__("\n".join([head, *lines] if len(lines) > 1 else lines))


# An address of a service that notifies has its token where it likes, and may be in a wrong place.
_SERVICE: Final = re.compile(
    r"\b(?!(?:https?|wss?|(?:sqlite|postgresql)(?:\+\w+)?)://)([a-z][a-z0-9.+-]*)://\S+",
    re.IGNORECASE,
)
_LONG_PATH: Final = re.compile(r"\b(https?://[^/\s]+)/\S{24,}", re.IGNORECASE)


def _without_addresses(fault: Fault) -> Fault:
    """Return a fault that repeats of an address what cannot be its token."""
    expected, but, got = fault.words.partition(", got ")
    got = _LONG_PATH.sub(r"\1/***", _SERVICE.sub(r"\1://***", got))
    return Fault(fault.where, f"{expected}{but}{got}")


def _in_order(fault: Fault) -> list[tuple[int, str]]:
    # Line 9 before line 10.
    parts = [*_NUMBERS.split(fault.where), fault.words]
    return [(int(part), "") if part.isdecimal() else (0, part) for part in parts]


_NUMBERS: Final = re.compile(r":(\d+)")


def shown(value: Any) -> str:
    """Return a value as an error repeats it: short, in one line, and never a secret."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    text = value if isinstance(value, str) else repr(value)
    if holds_secret(text) or redact(text) != text:
        return "what looks like a secret"
    text = printable(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")
    return repr(text) if isinstance(value, str) else text


_LONGEST: Final = 80


def near(name: str, known: Iterable[str]) -> str:
    """Return in words the known name that may be meant, "" if none is near."""
    known = [*known]
    found = nearest(name, known)
    if not found and len(name) > 2:  # the beginning of one, as prod
        found = next((one for one in known if one.startswith(name)), "")
    return f": did you mean {found}?" if found else ""


# === Reading ===
# From bytes to plain values, with the place of each.

BYTES: Final = 256 * 1024  # more than a thousand settings with a paragraph about each
_NODES: Final = 10_000  # with what aliases repeat
_DEPTH: Final = 24


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """What a text holds, the place of each part by its path, and what is wrong so far."""

    source: str
    value: Any
    places: Mapping[Path, str]
    faults: tuple[Fault, ...] = ()

    def place(self, path: Path) -> str:
        """Return where a part is, or what it would be part of."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, self.source)

    def line(self, path: Path) -> str:
        """Return where a part is, without the column."""
        return _COLUMN.sub(r":\1", self.place(path))


_COLUMN: Final = re.compile(r":(\d+):\d+$")


def content_of(path: str | os.PathLike[str]) -> bytes:
    """Return what is in a file, of one that is too long the beginning; `OSError` if it is none.

    Who opens a pipe waits for somebody to write, and a device may never end.
    """
    with open(os.open(path, os.O_RDONLY | NO_WAIT), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode) and not os.path.samefile(path, os.devnull):
            raise OSError(errno.EINVAL, "a pipe or a device, and no file")
        return file.read(BYTES + 1)


def read_file(path: "str | os.PathLike[str]") -> Document:
    """Read a file of settings; `ConfigError` if it cannot be read."""
    try:
        return read(content_of(path), str(path))
    except OSError as error:
        words = f"expected a configuration that can be read, got {error.strerror or error}"
        raise ConfigError([Fault(str(path), words)]) from None


def read(content: bytes, source: str) -> Document:
    """Read YAML; `ConfigError` where it cannot be read, faults in the result where it can."""
    import yaml

    text = _text(content, source)
    reader = _Reader(source)
    try:
        node = yaml.compose(text, yaml.BaseLoader)
        value = None if node is None else reader.value(node)
        reader.look(text)
    except yaml.MarkedYAMLError as error:
        raise ConfigError([_syntax(error, source)]) from None
    except yaml.reader.ReaderError as error:
        where = _place(text, error.position, source)
        what = f"expected text, got the control character {error.character:#04x}"
        raise ConfigError([Fault(where, what)]) from None
    except RecursionError:
        words = f"expected at most {_DEPTH} levels, got more"
        raise ConfigError([Fault(f"{source}:1", words)]) from None
    return Document(
        source=source, value=value, places=reader.places, faults=tuple(reader.faults),
    )  # fmt: skip


def read_text(text: str, source: str) -> Document:
    """Read the value of one variable; all of its parts are where the variable is."""
    try:
        found = read(text.encode(errors="replace"), source)
    except ConfigError as error:
        raise ConfigError([Fault(source, fault.words) for fault in error.faults]) from None
    faults = tuple(Fault(source, fault.words) for fault in found.faults)
    return msgspec.structs.replace(found, places={(): source}, faults=faults)


def _text(content: bytes, source: str) -> str:
    if len(content) > BYTES:
        words = f"expected at most {BYTES // 1024} KiB, got more"
        raise ConfigError([Fault(f"{source}:1", words)])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        words = f"expected UTF-8, got the byte {content[error.start]:#04x}"
        raise ConfigError([Fault(_place(before, len(before), source), words)]) from None


def _place(text: str, position: int, source: str) -> str:
    line, column = text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)
    return f"{source}:{line}:{column}"


def _syntax(error: "yaml.MarkedYAMLError", source: str) -> Fault:
    mark = error.problem_mark or error.context_mark
    where = f"{source}:1" if mark is None else f"{source}:{mark.line + 1}:{mark.column + 1}"
    got = ": ".join(filter(None, (error.context, error.problem)))
    for sign, words in _SYNTAX.items():
        if sign in got:
            return Fault(where, words)
    return Fault(where, f"expected YAML, got what cannot be read ({got})")


# What a person does most often, by what the parser has for it.
_SYNTAX: Final = {
    "found character '\\t'": "expected spaces, got a tab",
    "single document": "expected one document, got another below ---",
    "mapping values are not allowed": "expected a line for each name, quotes around a value with a "
    "colon in it, or another indentation, got a colon here",
    "expected <block end>": "expected the names of a section below each other, got another "
    "indentation",
}


class _Reader:
    """Makes plain values of nodes, and notes where they are and what is wrong with them."""

    def __init__(self, source: str) -> None:
        self.faults: list[Fault] = []
        self.places: dict[Path, str] = {}
        self._source = source
        self._nodes = 0
        self._looked: set[int] = set()  # lines of values that were looked at

    def value(self, node: Any, path: Path = ()) -> Any:
        """Return the value of a node, which may be repeated by aliases, but not for ever."""
        self._nodes += 1
        where = self._where(node)
        self.places[path] = where
        if self._nodes > _NODES or len(path) > _DEPTH:
            most = f"{_NODES} values" if self._nodes > _NODES else f"{_DEPTH} levels"
            raise ConfigError([Fault(where, f"expected at most {most}, got more")])
        if node.tag not in _TAGS:
            tag = printable(str(node.tag))[:_LONGEST]
            self.faults.append(Fault(where, f"expected a value without a tag, got {tag}"))
            return None
        return _KINDS[node.id](self, node, path)

    def _where(self, node: "yaml.Node") -> str:
        mark = node.start_mark
        return f"{self._source}:{mark.line + 1}:{mark.column + 1}"

    def look(self, text: str) -> None:
        """Look for secrets in what is no value, in comments."""
        for n, line in enumerate(text.splitlines()):
            if n not in self._looked and holds_secret(line):
                self.faults.append(Fault(f"{self._source}:{n + 1}", SECRET))
        if not self.faults and is_secret(text):  # over several lines
            self.faults.append(Fault(f"{self._source}:1", SECRET))

    def _scalar(self, node: "yaml.ScalarNode", path: Path) -> Any:
        sealed = path[:1] == (SEALED,)
        secret = not sealed and holds_secret(node.value)
        if sealed or secret:
            self._looked.update(range(node.start_mark.line, node.end_mark.line + 1))
        if secret:
            self.faults.append(Fault(self._where(node), SECRET))
            return None
        return node.value if node.style else plain(node.value)

    def _sequence(self, node: "yaml.SequenceNode", path: Path) -> list[Any]:
        return [self.value(part, (*path, n)) for n, part in enumerate(node.value)]

    def _mapping(self, node: "yaml.MappingNode", path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, part in node.value:
            where = self._where(key)
            if key.id != "scalar":
                self.faults.append(Fault(where, f"expected a name, got a {key.id}"))
            elif key.value in found:
                first = self.places[(*path, key.value, KEY)]
                words = f"expected {shown(key.value)} once, got it again: it stands at {first}"
                self.faults.append(Fault(where, words))
            else:
                self.places[(*path, key.value, KEY)] = where
                found[key.value] = self.value(part, (*path, key.value))
        return found


# What YAML has no room for, and JSON has: the control characters beyond ASCII, line separators.
_UNPRINTABLE: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def quoted(value: Any) -> str:
    """Return a value as JSON in one line that is YAML, too."""
    text = json.dumps(value, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


SEALED: Final = "sealed"  # the section whose values are encrypted
KEY: Final = "(name)"  # the last part of the path of a name, where its value has another place
_TAGS: Final = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map")}
_KINDS: Final[Mapping[str, Callable[[_Reader, Any, Path], Any]]] = {
    "scalar": _Reader._scalar,
    "sequence": _Reader._sequence,
    "mapping": _Reader._mapping,
}


def plain(text: str) -> Any:
    """Return what a word without quotes means."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else _DOTTED.get(text, text)


_WORDS: Final[Mapping[str, bool | None]] = {
    "": None, "~": None, "null": None, "true": True, "yes": True, "on": True,
    "false": False, "no": False, "off": False,
}  # fmt: skip
_INTEGER: Final = re.compile(r"[-+]?[0-9](_?[0-9]){0,40}")
_NUMBER: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9](_?[0-9])*(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_DOTTED: Final[Mapping[str, float]] = {
    sign + word: float(sign + word[1:])
    for sign in ("", "+", "-")
    for word in (".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN")
}

# === Secrets ===
# What belongs into the sealed section, or into no file at all.

SECRET: Final = (
    "expected no secret in the clear, got what looks like one: `bot config seal` encrypts it, and "
    "a key belongs into a key file (`bot keys save`)"
)
# One that is shown as stars is not there any more.
_PASSWORD: Final = re.compile(r"://[^/\s@]*:(?!\*+@)[^@\s]+@|[?&](?:ssl)?password=(?!\*)")
_PARTS: Final = re.compile(r"[^0-9A-Za-z]+")
_WEB: Final = r"(?i:https?|wss?)://"
_HEX_GROUPS: Final = "|".join(
    rf"(?:[0-9A-Fa-f]{{{size}}}[\s:]\s*){{{64 // size - 1}}}[0-9A-Fa-f]{{{size}}}"
    for size in (2, 4, 8, 16, 32)
)
# What no word and no path looks like.
_TOKEN: Final = re.compile(
    "|".join(
        (
            rf"{_WEB}[^/\s@]+@",
            rf"{_WEB}\S*[?&][\w-]*(?i:token|key|secret|auth)=",
            rf"{_WEB}\S*/(?=[A-Za-z_-]*\d)(?=[\d_-]*[A-Za-z])[\w-]{{20,}}(?![\w.-])",
            r"\b\d{6,12}:[\w-]{30,}",  # a bot of Telegram
            rf"(?<![0-9A-Za-z])(?=[\d\s:]*[A-Fa-f])(?:{_HEX_GROUPS})(?![0-9A-Za-z])",
            # 32 bytes in base64, as `bot token` makes them
            r"(?<![\w+/.-])(?=\S*[A-Z])(?=\S*[a-z])(?=\S*\d)[\w+/-]{43}=?(?![\w+/.=-])",
            r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*",  # a JSON web token
            r"\b[txyz]prv[0-9A-Za-z]{100,}",  # an extended key of BIP-32
            r"-----BEGIN [A-Z ]*PRIVATE KEY",
        )
    )
)


def holds_password(text: str) -> bool:
    """Return whether an address with a password in it stands in a text."""
    return _PASSWORD.search(text) is not None


def holds_secret(text: str) -> bool:
    """Return whether a text is or holds a key, a token, or an address with a password in it."""
    if holds_password(text) or is_secret(text) or _TOKEN.search(text):
        return True
    return len(text) > 64 and any(map(is_secret, _PARTS.split(text)))
