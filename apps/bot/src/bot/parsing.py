"""How what is typed is parsed: the words of a wrong one, the shape of the help, what is a value.

Only argparse is imported here, so that help and a typing error answer at once; what else is needed
is loaded once something is wrong.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final, NoReturn


class Parser(argparse.ArgumentParser):
    """A parser whose help is in groups, and whose errors repeat no more than they must."""

    # Of the one parser of all commands: the names of each group, and each command's own parser.
    groups: dict[str, list[str]]
    commands: "argparse._SubParsersAction[Parser]"

    def format_help(self) -> str:
        """Return the help, commands by group where there are some."""
        if not hasattr(self, "groups"):
            return super().format_help()
        shape = self._get_formatter()
        shape.add_usage(self.usage, (), ())
        shape.add_text(self.description)
        rows = {row.dest: row for row in self.commands._get_subactions()}
        sections = {title: [rows[name] for name in names] for title, names in self.groups.items()}
        for title, actions in [*sections.items(), ("Options", self._actions)]:
            shape.start_section(title)
            shape.add_arguments(each for each in actions if each is not self.commands)
            shape.end_section()
        shape.add_text(self.epilog)
        return shape.format_help()

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse arguments; of those left over only options are named."""
        options, left = self.parse_known_args(args, namespace)
        words = [text for text in left if not text.startswith("-")]
        if words and args and (moved := _words_first(args, words)) != args:
            # Once: of words that are left over still, the same may be the value of an option.
            options, left = self.parse_known_args(moved, namespace)
            words = [text for text in left if not text.startswith("-")]
        if left:
            own = self.commands.choices[options.command]
            own.refuse([text.partition("=")[0] for text in left if text.startswith("-")], words)
        return options

    def _print_message(self, message: str, file: Any = None) -> None:
        # What is printed has somewhere to go, or there is an error: argparse would hide it.
        if file is sys.stdout:
            file.write(message)
        else:
            super()._print_message(message, file)

    def refuse(self, options: list[str], words: list[str]) -> NoReturn:
        """Report what this command does not take: options by their names, words by their number."""
        count, known = len(words), [*self._option_string_actions]
        near = [f"{name}{_hint(_near(name, known))}" for name in options]
        got = [*near, *([f"{count} more word{'s' * (count > 1)}"] if words else [])]
        self.error(f"expected no more arguments, got {' and '.join(got)}")

    def error(self, message: str) -> NoReturn:
        """Print in one line what is wrong, and exit with a 2."""
        for was, words in _REWORDED:
            message = re.sub(was, words, message)
        if (missing := _MISSING.match(message)) is not None:
            message = f"expected {self._wanted(missing[1])}, got none"
        if not message.isprintable():
            from bot.outlet import clean

            message = clean(message)
        self.exit(2, f"{self.prog}: {message}; {self.prog} --help lists what can be typed\n")

    def _wanted(self, names: str) -> str:
        """Return what may be typed for words that are missing: which, where these are few."""
        choices = {action.dest: [*(action.choices or ())] for action in self._actions}
        wanted = []
        for name in names.split(", "):
            known = [str(choice) for choice in choices.get(name, ())] or [name]
            wanted.append(("one of " if len(known) > 1 else "") + ", ".join(known))
        return " and ".join(wanted)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        if isinstance(action, argparse._SubParsersAction):
            what, played = "a command", f"bot replay {value}"
            hint = f" ({played} plays a recording)" if value.endswith(".zst") else ""
        else:
            what, hint = f"one of {', '.join(action.choices)}", ""
        hint = hint or _hint(_near(str(value), action.choices))
        raise argparse.ArgumentError(action, f"expected {what}, got {value!r}{hint}")


# argparse's own words, and what is printed in their place: expected, got.
_REWORDED: Final = (
    (r"^argument (-\S+): ", r"\1: "),
    (r"^argument \S+: ", ""),  # a word: what is expected says which
    (r"expected (one|at least one) argument$", "expected a value, got none"),
    (r"ignored explicit argument (.+)$", r"expected no value, got \1"),
    (r"not allowed with argument (\S+)$", r"expected no \1 beside it, got both"),
    (r"^ambiguous option: (\S+) could match (.+)$", r"expected one of \2, got \1"),
)


_MISSING: Final = re.compile(r"^the following arguments are required: (.+)$")


def _near(name: str, known: Iterable[str]) -> str:
    """Return the known name that is most like one that is not, "" if none is."""
    import difflib

    return next(iter(difflib.get_close_matches(name, list(known), n=1)), "")


def _hint(near: str) -> str:
    return f" (the nearest is {near})" if near else ""


def _words_first(typed: Sequence[str], words: Sequence[str]) -> list[str]:
    """Move words from behind the options to those before: argparse takes none after an option."""
    moved = list(typed)
    for word in reversed(words):
        del moved[len(moved) - 1 - moved[::-1].index(word)]
    first = next((n for n, text in enumerate(moved) if text.startswith("-")), len(moved))
    return [*moved[:first], *words, *moved[first:]]


class Shape(argparse.HelpFormatter):
    """How help looks: texts are filled a paragraph at a time, what is indented stays as it is."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog)
        self._width = min(self._width, 98)  # lines that are longer are read badly

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        filled = [
            part if "\n " in part else super(Shape, self)._fill_text(part, width, indent)
            for part in text.split("\n\n")
        ]
        return "\n\n".join(filled)


class Version(argparse.Action):
    """Print version and commit; looked up only when they are wanted."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print and exit."""
        from bot.version import described

        print(described())
        parser.exit()


# === Help ===
# What stands below the options of a command, and its usage.


# What is longer has its words on a line of their own.
_BESIDE: Final = 46
_WIDTH: Final = 78


def examples_of(rows: Iterable[tuple[str, str]]) -> str:
    """Return examples, what is typed beside what it does."""
    rows = list(rows)
    column = max([len(typed) for typed, _ in rows if len(typed) <= _BESIDE], default=0) + 2
    lines = []
    for typed, words in rows:
        start = min(column, _WIDTH - len(words))
        gap = f"{'':{start - len(typed)}}" if len(typed) + 2 <= start else f"\n  {'':{start}}"
        lines.append(f"  {typed}{gap if words else ''}{words}")
    return "\n".join(["examples:", *lines])


def words_of(options: Iterable[tuple[tuple[str, ...], dict[str, Any]]]) -> list[str]:
    """Return the words that a command takes beside its options, as its usage shows them."""
    words = []
    for (name, *_), how in options:
        if name.startswith("-"):
            continue
        word = "|".join(how.get("choices", ())) or how.get("metavar", name)
        many = {None: word, "?": f"[{word}]", "+": f"{word} …"}
        words.append(many.get(how.get("nargs"), f"[{word} …]"))
    return words


# === Values ===
# How the text of an option becomes a value, and what is refused.


def positive(text: str) -> float:
    """Read a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return number


def whole(text: str) -> int:
    """Read a number of 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number, 0 or more, got {text!r}")
    return int(text)


def count(text: str) -> int:
    """Read how many: 1 or more."""
    number = whole(text)
    if number < 1:
        raise argparse.ArgumentTypeError("expected 1 or more, got 0")
    return number


def rank(text: str) -> int:
    """Read the number of a page, or of rows: 1 or more, and no more than is ever counted."""
    number = count(text)
    if number > 10**9:
        raise argparse.ArgumentTypeError(f"expected no more than {10**9:,}, got {text}")
    return number


def numbers(text: str) -> tuple[int, ...]:
    """Read numbers that commas part."""
    if not all(part.strip().isdecimal() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"expected whole numbers such as 1,2, got {text!r}")
    return tuple(int(part) for part in text.split(","))


def horizons(text: str) -> tuple[float, ...]:
    """Read seconds that commas part, the shortest first."""
    try:
        found = sorted({positive(part) for part in text.split(",")})
    except (ValueError, argparse.ArgumentTypeError):
        what = f"expected seconds above 0 such as 10,60,300, got {text!r}"
        raise argparse.ArgumentTypeError(what) from None
    return tuple(found)


def share(text: str) -> float:
    """Read a share of a whole, above 0 and below 1."""
    number = positive(text)
    if number >= 1:
        raise argparse.ArgumentTypeError(f"expected a share above 0 and below 1, got {text}")
    return number


def duration(text: str) -> int:
    """Read how long something is, such as 45s, 30m, 6h, 2d or 1w; ns.

    >>> duration("6h")
    21600000000000
    """
    found = re.fullmatch(r"(\d{1,5})([smhdw])", text.strip().lower())
    if found is None or not int(found[1]):
        what = "expected how long, such as 45s, 30m, 6h, 2d or 1w"
        raise argparse.ArgumentTypeError(f"{what}, got {text!r}")
    return int(found[1]) * _SECONDS[found[2]] * 1_000_000_000


_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def rest_address(text: str) -> str:
    """Read the address of an indexer's REST."""
    return _address(text, r"https?://[^\s/]+.*", "https://indexer.example.com")


def socket_address(text: str) -> str:
    """Read the address of an indexer's WebSocket."""
    return _address(text, r"wss?://[^\s/]+.*", "wss://indexer.example.com/v4/ws")


def listening_address(text: str) -> str:
    """Read HOST:PORT of this machine, where port 0 is any free one."""
    host, _, port = text.rpartition(":")
    if not (host and port.isdecimal() and len(port) <= 5 and int(port) <= 65_535):
        raise argparse.ArgumentTypeError(f"expected HOST:PORT such as 127.0.0.1:8710, got {text!r}")
    return text


def node_address(text: str) -> str:
    """Read the address of a node."""
    return _address(text, r"[^\s/]+:\d+", "grpc.example.com:443")


def _address(text: str, shape: str, such_as: str) -> str:
    if not re.fullmatch(shape, text):
        raise argparse.ArgumentTypeError(f"expected an address such as {such_as}, got {text!r}")
    return text


def new_file(text: str) -> str:
    """Read the path of a file that is to be written: what is wrong is refused before a run."""
    folder = os.path.dirname(text) or "."
    if os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"expected a file to write, got {text}, a directory")
    if not os.path.isdir(folder):
        what = f"expected a file to write, got {text}: there is no directory {folder}"
        raise argparse.ArgumentTypeError(what)
    if not os.access(text if os.path.exists(text) else folder, os.W_OK):
        raise argparse.ArgumentTypeError(f"expected a file to write, got {text}: no permission")
    return text


def json_file(text: str) -> str:
    """Read the path of a file of JSON that is to be written, or "-" for none.

    What has another suffix is none: it may be the name of a recording.
    """
    if text == "-":
        return text
    if not text.endswith(".json"):
        raise argparse.ArgumentTypeError(f"expected a file that ends in .json, got {text!r}")
    return new_file(text)


def table_file(text: str) -> str:
    """Read the path of a table that is to be written, as CSV or as Parquet by its suffix."""
    if not text.endswith((".csv", ".parquet")):
        what = f"expected a file that ends in .csv or .parquet, got {text!r}"
        raise argparse.ArgumentTypeError(what)
    return new_file(text)


class Tickers(argparse.Action):
    """Tickers with commas between: each once, and the option once."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
        option_string: str | None = None,
    ) -> None:  # fmt: skip
        """Take what was typed, if nothing in it is there twice."""
        names = [name.strip().upper() for name in values.split(",")]
        twice = [name for n, name in enumerate(names) if name and name in names[:n]]
        if twice:
            parser.error(f"{option_string}: expected each ticker once, got {twice[0]} twice")
        if hasattr(namespace, "tickers_typed"):
            parser.error(f"expected --tickers once, as in --tickers A,B, got it twice: {values}")
        namespace.tickers, namespace.tickers_typed = values, True
