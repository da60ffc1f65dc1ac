"""A command as a row of a table.

COMMANDS of a group ──► bot.commands: all of them, and the parser
"""

from typing import NamedTuple

from bot.options import Option


class Command(NamedTuple):
    """A command: where and how it stands in the help, what does it, and what can be typed.

    `help` is its one line; `does` is `module:function`; `examples` pairs what is typed with what it
    does; `more` stands at the end of its own help.
    """

    help: str
    does: str
    options: tuple[Option, ...]
    description: str
    examples: tuple[tuple[str, str], ...]
    more: str = ""
