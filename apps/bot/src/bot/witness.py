"""A strategy under observation: what it reads, when, from where, and what it decides.

    Scored ─► Lent (good for its frame) ─► the strategy ─► decisions ─► Witness.decided
    an open file, a socket, a process ─► Python's audit events ─► Witness.reached

What a strategy is lent is good for the frame that it came with: a view is updated in place, so
that one that was kept shows another time than the decision's. A strategy under observation decides
what it decides without it, more slowly.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from types import MethodType, NoneType
from typing import Any, Final

import msgspec
from dydx_data import stopping
from dydx_signals import Scored, SignalError
from dydx_strategy import Decision, Holdings, Outcome, Strategy

# === Lent values ===
# A value that does not change stays what it is. All else is lent: whatever is read from it while
# its frame lasts, and nothing after.

_VALUES: Final = (
    int, float, str, bytes, NoneType, Decimal, tuple, frozenset, msgspec.Struct, type,
)  # fmt: skip


class Lease:
    """Until when what was lent is good: until `seq` is another; `late` holds what was read then."""

    def __init__(self) -> None:
        self.seq = 0
        self.late: list[str] = []


def lent(thing: Any, name: str, lease: Lease) -> Any:
    """Return a thing as it may be read within the frame at hand."""
    if isinstance(thing, _VALUES) and not isinstance(thing, Scored):
        return thing
    return Lent(thing, name, lease)


class Lent:
    """Stands for a thing that changes; raises `SignalError` when it is read after its frame."""

    __slots__ = ("_lease", "_name", "_seq", "_thing")

    def __init__(self, thing: Any, name: str, lease: Lease) -> None:
        self._thing, self._name, self._lease, self._seq = thing, name, lease, lease.seq

    def __getattr__(self, attribute: str) -> Any:
        name = f"{self._name}.{attribute}"
        found = getattr(_now(self, name), attribute)
        return found if isinstance(found, MethodType) else lent(found, name, self._lease)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self._thing)

    def __getitem__(self, key: Any) -> Any:
        return lent(_now(self, self._name)[key], f"{self._name}[{key!r}]", self._lease)

    def __iter__(self) -> Iterator[Any]:
        for item in _now(self, self._name):
            yield lent(item, self._name, self._lease)

    def __len__(self) -> int:
        return len(_now(self, self._name))

    def __bool__(self) -> bool:
        return bool(_now(self, self._name))

    def __contains__(self, item: object) -> bool:
        return item in _now(self, self._name)

    def __eq__(self, other: object) -> bool:
        return bool(_now(self, self._name) == other)

    __hash__ = None  # type: ignore[assignment]  # as what changes has none


def _now(one: Lent, name: str) -> Any:
    lease = one._lease
    if lease.seq != one._seq:
        words = f"{name} of frame {one._seq} was read at frame {lease.seq}"
        lease.late.append(words)
        raise SignalError(f"expected a view to be read within its frame, got this: {words}")
    return one._thing


class LentScored(Lent):
    """A `Scored` of which it is noted which signals are requested."""

    __slots__ = ("_asked",)

    def __init__(self, thing: Scored, lease: Lease, asked: set[str]) -> None:
        super().__init__(thing, "scored", lease)
        self._asked = asked

    @property
    def markets(self) -> dict[str, "LentScored"]:
        """Return every market as of this frame."""
        markets = _now(self, "scored.markets").markets
        return {
            ticker: LentScored(one, self._lease, self._asked) for ticker, one in markets.items()
        }

    # What names a market and its frame is a value, and stays.

    @property
    def ticker(self) -> str:
        """Return the market's ticker."""
        return str(self._thing.ticker)

    @property
    def seq(self) -> int:
        """Return the number of its frame."""
        return int(self._thing.seq)

    @property
    def at(self) -> int:
        """Return the time of its frame, in ns."""
        return int(self._thing.at)

    def value(self, signal: str) -> float | None:
        """Return the value of one signal; None if it is absent."""
        self._asked.add(signal)
        found: float | None = _now(self, "scored.value").value(signal)
        return found

    def score(self, signal: str) -> Any:
        """Return the score of one signal; None if it is absent."""
        self._asked.add(signal)
        return _now(self, "scored.score").score(signal)


# === Reaching out ===
# A strategy gets what it may know with the frames. Whatever else it opens is noted, by Python's
# own audit events: what holds the future there, no replay can tell.

_EVENTS: Final = {
    "open": "opened {}",
    "sqlite3.connect": "opened the database {}",
    "socket.connect": "connected to {1}",
    "subprocess.Popen": "started {}",
    "os.system": "started {}",
    "gc.get_objects": "searched the memory",
    "gc.get_referrers": "searched the memory",
}
_CODE: Final = (".py", ".pyc", ".so", ".pyd", ".pth")
# Python itself, its libraries, and what describes the machine.
_OWN: Final = (
    sys.prefix, sys.base_prefix, os.path.dirname(os.__file__), "/proc", "/sys", "/dev", "/etc",
    "/usr/share/zoneinfo", "/usr/lib",
)  # fmt: skip
_noting: list[list[str]] = []
_hooked: list[bool] = []


@contextlib.contextmanager
def reaching(reached: list[str]) -> Iterator[None]:
    """Note what is opened, connected to or started meanwhile."""
    if not _hooked:
        sys.addaudithook(_audit)  # which stays to the end of the process, and does nothing
        _hooked.append(True)
    _noting.append(reached)
    try:
        yield
    finally:
        _noting.pop()


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _noting or event not in _EVENTS:
        return
    first, *others = arguments
    what = os.fsdecode(first) if isinstance(first, str | bytes) else first
    if event == "open" and (not isinstance(what, str) or _is_code(what)):
        return
    words = _EVENTS[event].format(what, *others)
    if words not in _noting[-1]:
        _noting[-1].append(words)


def _is_code(path: str) -> bool:
    return path.endswith(_CODE) or os.path.abspath(path).startswith(_OWN)


# === The witness ===


class Decided(msgspec.Struct, frozen=True):
    """A target that a strategy decided on, as it came from it, and what stood against it.

    `held` is what was held of the market then, `equity` the account's, both in USDC; `objection`
    is what stops an entry, and `may_leave` whether an exit was possible.
    """

    decision: Decision
    held: float
    equity: float | None
    objection: str
    may_leave: bool = True

    @property
    def grows(self) -> bool:
        """Return whether it adds to what is held, or turns it round."""
        target = self.decision.target_usdc
        return abs(target) > abs(self.held) or target * self.held < 0


class Witness:
    """Stands for a strategy, and notes what it does."""

    def __init__(self, make: Callable[[], Strategy]) -> None:
        self.reached: list[str] = []
        with reaching(self.reached):
            self._strategy = make()
        self.decided: list[Decided] = []
        self.asked: set[str] = set()
        self.took_ns: list[int] = []
        self.lease = Lease()
        self.pace = getattr(self._strategy, "pace", None)

    @property
    def name(self) -> str:
        """Return the name of the strategy."""
        return self._strategy.name

    def step(self, scored: Scored, held: Holdings) -> Iterable[Decision]:
        """Let the strategy decide."""
        self.lease.seq = scored.seq
        entered = time.perf_counter_ns()
        with reaching(self.reached):
            views: Any = LentScored(scored, self.lease, self.asked)
            made: Any = self._strategy.step(views, held)
            # A generator is walked here, where it is observed; of what is no answer the decider
            # says so.
            decided = [*made] if isinstance(made, Iterator) else made
        self.took_ns.append(time.perf_counter_ns() - entered)
        for one in decided if isinstance(decided, Iterable) else ():
            if isinstance(one, Decision) and one.action == "target":
                self.decided.append(_decided(one, scored, held))
        found: Iterable[Decision] = decided
        return found

    def learn(self, outcome: Outcome) -> None:
        """Let the strategy learn what became of a decision."""
        self.lease.seq = outcome.seq
        learn = getattr(self._strategy, "learn", None)
        if learn is not None:
            with reaching(self.reached):
                learn(outcome)


def _decided(decision: Decision, scored: Scored, held: Holdings) -> Decided:
    market = scored.markets.get(decision.ticker)
    stops = stopping(market.view, "entry") if market is not None else ()
    may_leave = market is not None and not stopping(market.view, "exit")
    return Decided(
        decision, held.usdc(decision.ticker), held.equity_usdc,
        stops[0].why if stops else "" if market is not None else "it has no scores", may_leave,
    )  # fmt: skip
