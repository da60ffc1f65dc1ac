"""A notice, and the message that people read of it.

    Notice: what happened, to what, how grave ──► throttle ──► Message: title and body, a sink's

Words are those of the panels. What the venue or a strategy sends may hold anything: it is redacted
and printable before it leaves.
"""

from typing import Final, Literal

import msgspec

from bot.config.notify import Kind
from bot.outlet import one_line
from bot.times import utc

Level = Literal["info", "warning", "critical"]
LEVELS: Final[tuple[Level, ...]] = ("info", "warning", "critical")
# What a sink gets by its level.
LEAST: Final = {"all": 0, "warning": 1, "critical": 2}

_TITLE: Final = 120
_WORDS: Final = 500
# Of what was held back so many lines, of so many characters; the rest is in one line. With what
# leads it fits into the narrowest of services (Discord: 2,000 characters).
_LISTED: Final = 8
_LINE: Final = 140


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened, or `count` of them; `at` is event time (ns, UTC).

    What has the same `kind` and `subject` is the same again.
    """

    kind: Kind
    subject: str
    at: int
    level: Level
    title: str
    words: str = ""
    count: int = 1

    @property
    def key(self) -> str:
        """Return by what it is the same as another one."""
        return f"{self.kind} {self.subject}"


class Heading(msgspec.Struct, frozen=True, kw_only=True):
    """Of which run a message is: PAPER, TRADE …, the network, the account in short."""

    mode: str
    network: str
    account: str


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent to a sink; `count` is of how many events it is, at `at` (ns, UTC).

    `omitted` is how many events of messages before it nobody could store any more.
    """

    at: int
    level: Level
    title: str
    body: str
    count: int = 1
    omitted: int = 0


class Held(msgspec.Struct, frozen=True):
    """What was held back of one kind and subject: since when, how many, and the newest of them."""

    since: int
    count: int
    newest: Notice

    def add(self, notice: Notice) -> "Held":
        """Return it with one more; it stays as grave as the gravest."""
        level = max(self.newest.level, notice.level, key=LEVELS.index)
        newest = msgspec.structs.replace(notice, level=level)
        return Held(min(self.since, notice.at), self.count + notice.count, newest)


def message_of(heading: Heading, lead: Held, others: list[Held], at: int) -> Message:
    """Put in words what happened, and what was held back before it."""
    newest = lead.newest
    lines = [one_line(newest.words, _WORDS), *_more(lead)]
    if others:
        lines += ["", "held back meanwhile:", *map(_line, others[:_LISTED])]
    if rest := others[_LISTED:]:
        lines.append(f"- and {times(sum(one.count for one in rest))} of {len(rest)} other kinds")
    where = f"{heading.mode} {heading.network}".strip()
    lines += ["", f"{heading.account or 'no account'}, {where}, {utc(newest.at)} UTC"]
    together = (lead, *others)
    return Message(
        at=at,
        level=max((one.newest.level for one in together), key=LEVELS.index),
        title=one_line(f"{where}: {newest.title}", _TITLE),
        body="\n".join(lines).strip(),
        count=sum(one.count for one in together),
    )


def _more(held: Held) -> list[str]:
    more = held.count - 1
    return [f"… and {more:,} more like it, since {utc(held.since)} UTC"] if more else []


def _line(held: Held) -> str:
    newest = held.newest
    words = f": {newest.words}" if newest.words else ""
    line = f"- {newest.title} ({times(held.count)}, at {utc(newest.at)} UTC){words}"
    return one_line(line, _LINE)


def times(count: int) -> str:
    """Word how often something was."""
    return "once" if count == 1 else f"{count:,} times"


def short(account: str) -> str:
    """Return an account as people tell it from others: its ends, and the number behind it.

    >>> short("dydx18y6v62cltpkud6kqr26yxa6swnjv8f4z5p6c78/0")
    'dydx18y6…p6c78/0'
    """
    owner, slash, number = account.partition("/")
    return f"{owner[:8]}…{owner[-5:]}{slash}{number}" if len(owner) > 16 else account
