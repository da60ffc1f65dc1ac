"""How what is typed is parsed: the words of a wrong one, the shape of the help, what is a value.

Only argparse is imported here, so that help and a typing error answer at once; what else is needed
is loaded once something is wrong.
"""

import argparse
from collections.abc import Iterable
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
        if left:
            named = [text.partition("=")[0] for text in left if text.startswith("-")]
            words = len(left) - len(named)
            got = [*named, *([f"{words} more word{'s' * (words > 1)}"] if words else [])]
            self.error(f"expected no more arguments, got {' and '.join(got)}")
        return options

    def error(self, message: str) -> NoReturn:
        """Print how it is used and what is wrong, and exit with a 2."""
        if not message.isprintable():
            from bot.outlet import clean

            message = clean(message)
        super().error(message)


class Shape(argparse.HelpFormatter):
    """How help looks: texts are filled a paragraph at a time, what is indented stays as it is."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        filled = [
            part if "\n " in part else super(Shape, self)._fill_text(part, width, indent)
            for part in text.split("\n\n")
        ]
        return "\n\n".join(filled)


class Version(argparse.Action):
    """Print the version; looked up only when it is wanted."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print and exit."""
        from bot import __version__

        print(f"bot {__version__}")
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
        fits = len(typed) + 2 <= column and column + len(words) <= _WIDTH
        under = min(column, _WIDTH - len(words))
        below = "" if fits or not words else f"\n  {'':{under}}"
        lines.append(f"  {typed if below else f'{typed:<{column}}'}{below}{words}".rstrip())
    return "\n".join(["examples:", *lines])


def words_of(options: Iterable[tuple[tuple[str, ...], dict[str, Any]]]) -> list[str]:
    """Return the words that a command takes beside its options, as its usage shows them."""
    words = []
    for (name, *_), how in options:
        if name.startswith("-"):
            continue
        word = "|".join(how.get("choices", ())) or how.get("metavar", name)
        words.append({None: word, "?": f"[{word}]"}.get(how.get("nargs"), f"[{word} …]"))
    return words


# === Values ===
# How the text of an option becomes a value, and what is refused.


def positive(text: str) -> float:
    """Read a number above 0."""
    number = float(text)
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
