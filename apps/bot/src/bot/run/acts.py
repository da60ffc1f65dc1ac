"""Acts: what a person or a watchdog does to a run, as frames, and what outlives it.

    key, command, restart … ──► Inbox ──► Frame(kind="act") ──► the composition
    halt, resume ──► Standstill: a file ──► the next run's first frame

Whoever acts puts a frame in and does nothing else: `link` is who (key, command, api, restart,
strategy, file, end …), `type` what (halt, resume, pause, unpause, flatten, cancel, reload, refuse,
note …), `text` why. A pause, of entries, ends with its run. A network's frames and its acts come
out of one inbox; `among` lets acts in between the frames of a recording.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec
from dydx_conn import ConnError, Frame, Inbox, Network, Subaccount, fold
from reactivex import Observable

from bot.system import IS_UNIX, replacing

# === Acts ===
# Putting an act in, and letting acts in between the frames of a recording.

_LONGEST: Final = 300


def act(inbox: Inbox, who: str, what: str, why: str, number: int = 0) -> None:
    """Put an act in; it takes effect when its turn among the frames comes.

    By a `number`, which decides nothing, whoever put it finds out what came of it.
    """
    inbox.put("act", one_line(why), what, message_id=number, link=who)


def one_line(why: str) -> str:
    """Return a reason as one printable line, not too long."""
    return "".join(filter(str.isprintable, " ".join(why.split())))[:_LONGEST]


def among(inbox: Inbox) -> Callable[[Observable[Frame]], Observable[Frame]]:
    """Let acts in between the frames of a recording, each before the frame that comes next.

    An act has the number and the times of the frame before it: no other frame's number moves, so
    that numbers go on naming frames of the recording. Hot or cold as the source is, on its
    thread; completes and errors with it.

        frames  --1-----2-----3--|
        inbox   -----h-----------|
        among   --1----h2-----3--|
    """

    def step(last: list[Frame], frame: Frame) -> list[Frame]:
        out = [] if not inbox.waiting else list(waiting(inbox, last[0] if last else frame))
        last[:] = [frame]
        return [*out, frame]

    return fold(list[Frame], step)


def waiting(inbox: Inbox, at: Frame) -> Iterator[Frame]:
    """Take out what waits, with the number and the times of the frame before it."""
    while (found := inbox.take(at.seq, 0.0)) is not None:
        yield msgspec.structs.replace(found, at=at.at, mono=at.mono)


# === Directories ===
# Where files that outlive a run, and handles, may be: only what this user alone can write.


def private(directory: Path) -> Path:
    """Make a directory that only its owner may enter, or make one of ours such a one."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.lstat()
    if not is_ours(directory):
        what = f"mode {found.st_mode & 0o777:o} of user {found.st_uid}"
        raise ConnError(f"expected {directory} to be a directory of ours alone, got {what}")
    if found.st_mode & 0o077:
        directory.chmod(0o700)
    return directory


def is_ours(directory: Path) -> bool:
    """Return whether nobody else can have put there what is in a directory."""
    try:
        found = directory.lstat()
    except OSError:
        return False
    # A link leads where somebody else may choose.
    is_ours = not IS_UNIX or (found.st_uid == os.getuid() and not found.st_mode & 0o022)
    return stat.S_ISDIR(found.st_mode) and is_ours


def state_directory() -> Path:
    """Return where what outlives a run is stored: XDG_STATE_HOME, or `.local/state` at home."""
    return _directory("XDG_STATE_HOME", ".local/state")


def data_directory() -> Path:
    """Return where what a person may want back is: XDG_DATA_HOME, or `.local/share` at home."""
    return _directory("XDG_DATA_HOME", ".local/share")


def default_database() -> Path:
    """Return the file of the database of whoever chose none."""
    return data_directory() / "bot.db"


def _directory(name: str, at_home: str) -> Path:
    given = os.environ.get(name, "")
    return (Path(given) if given.startswith("/") else Path.home() / at_home) / "dydx-bot"


def state_file(what: str, net: Network, subaccount: Subaccount) -> Path:
    """Return where something of a subaccount on a chain is stored."""
    # A network is what its chain is, whatever it is called.
    name = re.sub(r"[^\w.-]", "_", f"{net.chain_id}-{subaccount.owner}-{subaccount.number}")
    return state_directory() / f"{what}-{name}.json"


# === What outlives a run ===
# The halt of a subaccount, stored until somebody resumes.


class Halted(msgspec.Struct, frozen=True):
    """Who halted, and why."""

    who: str
    why: str


# What they halt for is of this run alone: the next one has a recording and a terminal of its own.
_OF_THE_RUN: Final = ("restart", "recorder", "audit", "terminal")


class Standstill:
    """The halt of a subaccount on a chain: a file that is there until somebody resumes.

    A run reads it when it starts and writes it when it is halted, at once, so that no way of
    ending it loses the halt. A replay has none. What cannot be written is in `trouble`: a halt is
    never stopped by a full disk.
    """

    name = "halt"

    def __init__(self, net: Network, subaccount: Subaccount) -> None:
        self.path = state_file("halted", net, subaccount)
        self.trouble = ""

    def read(self) -> Halted | None:
        """Return the halt that stands; one that cannot be read is one too."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Halted)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            return Halted("unknown", f"expected who halted and why in {self.path}, got {error}")

    def begin(self, inbox: Inbox) -> None:
        """Put a halt that stands in, as the first frame of a run that has not begun."""
        if (halted := self.read()) is not None:
            act(inbox, "restart", "halt", f"{halted.why} (by {halted.who}, and nobody resumed)")

    def note(self, frame: Frame) -> None:
        """Store a halt, and delete it when somebody resumes."""
        if frame.kind != "act" or frame.link in _OF_THE_RUN:
            return
        try:
            if frame.type == "resume":
                self.path.unlink(missing_ok=True)
            elif frame.type not in ("halt", "flatten") or frame.link == "end":
                return
            elif frame.text or self.read() is None:  # a reason that stands is worth more than none
                self._write(Halted(frame.link, frame.text))
        except (OSError, ConnError) as error:
            self.trouble = f"expected to store the {frame.type} in {self.path}, got {error}"

    def end(self) -> None:
        """Leave all as it is: what is halted outlives the run."""

    def _write(self, halted: Halted) -> None:
        private(self.path.parent)
        with replacing(self.path, on_disk=True) as file:
            file.write(msgspec.json.encode(halted))
