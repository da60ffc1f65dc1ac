"""How the connections stand, for whoever looks: folded from the frames of a run.

    frame ─► Links.take ─► Connections.step ─► state of each link ─► history, a line of the tape

Nothing is decided by it, and no hash covers it: a recording gives the same states as its run.
"""

import re
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from dydx_conn import Connections, ConnectionState, Frame

# What a person reads for a state of a link.
WORDS: Final = {
    "connecting": "connecting", "subscribing": "subscribing", "live": "live", "stale": "silent",
    "backing_off": "reconnecting", "polling": "polling over REST", "closed": "closed",
}  # fmt: skip
_HISTORY: Final = 200
_NAMED: Final = re.compile(r"\b[A-Za-z.]+(?:Exception|Error): |\[Errno [^\]]*\] ")
_BRACED: Final = re.compile(r'\{"message":\s*"([^"]*)"\}')


class Links:
    """The state of all connections together, since when, and the newest transitions of each.

    `note` takes what a person is to read: a connection that is lost, polled for, or back.
    """

    def __init__(self, note: Callable[[ConnectionState, str], None]) -> None:
        self.history: deque[ConnectionState] = deque(maxlen=_HISTORY)
        self.state = self.reason = ""
        # Since when not all of them are live, None while they are; how often it was tried since.
        self.lost_at: int | None = None
        self.attempts = 0
        self._note = note
        self.followers: list[Callable[[ConnectionState], None]] = []  # of each transition
        self._lost: ConnectionState | None = None
        self._standing = Connections()

    def __getstate__(self) -> dict[str, Any]:
        """Return what can be packed: not who follows."""
        return vars(self) | {"followers": []}

    def words(self, at: int) -> str:
        """Return the state as a person reads it: for how long it is lost, and what is done."""
        if self.lost_at is None:
            return WORDS.get(self.state, "connecting")
        if self.lost_at == at:  # as at the end of a recording, whose connections are then closed
            return WORDS["closed"]
        tries = self.attempts and self.state != "polling"
        tried = f", attempt {self.attempts}" if tries else ""
        return f"{WORDS[self.state]} {max(at - self.lost_at, 0) / 1e9:.0f} s{tried}"

    def take(self, frame: Frame) -> None:
        """Take a frame that the layers are done with."""
        if self._lost is not None and frame.kind != "close":
            # A run that ends closes its connections itself: then no frame comes after that.
            self._note(self._lost, f"link {_lost_words(self._lost)}")
            self._lost = None
        # Called as it is: a stream around it takes three times as long, with every frame.
        for turn in self._standing.step(frame):
            self._turned(turn)

    def _turned(self, turn: ConnectionState) -> None:
        self.history.append(turn)
        for follow in self.followers:
            follow(turn)
        if turn.link:
            self.attempts += turn.state == "connecting" and self.lost_at is not None
            return
        self.state, self.reason = turn.state, turn.reason
        if turn.state == "live":
            if self.lost_at is not None:
                self._note(turn, f"link back after {(turn.at - self.lost_at) / 1e9:,.1f} s")
            self.lost_at, self.attempts, self._lost = None, 0, None
        elif turn.was == "live" or turn.state == "polling":
            self.lost_at = turn.at if self.lost_at is None else self.lost_at
            self._lost = turn


def _lost_words(turn: ConnectionState) -> str:
    words = WORDS[turn.state] if turn.state in ("polling", "stale", "subscribing") else "lost"
    return f"{words}: {reason_words(turn.reason)}"


def reason_words(reason: str) -> str:
    """Return why a connection is as it is, without braces of a venue and names of the program."""
    return _NAMED.sub("", _BRACED.sub(r"\1", reason)).removeprefix("chain: ")
