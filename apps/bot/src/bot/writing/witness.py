"""A strategy under observation: what it reads, when, from where, and what it decides.

    frames ─► Bot ─► Scored ─► Lent (good for its frame) ─► the strategy ─► decisions ─┐
              an open file, a socket, a process ─► Python's audit events ──────────────┴─► Seen

What a strategy is lent is good for the frame that it came with: a view is updated in place, so
that one that was stored shows another time than the decision's. A strategy under observation
decides what it decides without it, more slowly.
"""

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from types import MethodType, NoneType
from typing import Any, Final

import msgspec
from dydx_conn import ConnError, Frame
from dydx_data import stopping
from dydx_signals import Scored, SignalError
from dydx_strategy import Decision, Holdings, Outcome, Strategy
from reactivex import from_iterable

from bot.findings import Finding
from bot.run.budget import Supervisor
from bot.run.composition import Bot, Options, raised, strategy_of

# === Lent values ===
# A value that does not change stays what it is. All else is lent: whatever is read from it while
# its frame lasts, and nothing after.

_VALUES: Final = (
    int, float, str, bytes, NoneType, Decimal, tuple, frozenset, msgspec.Struct, type,
)  # fmt: skip


class Lease:
    """Until when what was lent is good: until `seq` is another; `late` takes what is read then."""

    def __init__(self, late: list[str]) -> None:
        self.seq, self.late = 0, late


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

    __slots__ = ("_wanted",)

    def __init__(self, thing: Scored, lease: Lease, wanted: set[str]) -> None:
        super().__init__(thing, "scored", lease)
        self._wanted = wanted

    @property
    def markets(self) -> dict[str, "LentScored"]:
        """Return every market as of this frame."""
        markets = _now(self, "scored.markets").markets
        return {
            ticker: LentScored(one, self._lease, self._wanted) for ticker, one in markets.items()
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
        self._wanted.add(signal)
        found: float | None = _now(self, "scored.value").value(signal)
        return found

    def score(self, signal: str) -> Any:
        """Return the score of one signal; None if it is absent."""
        self._wanted.add(signal)
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
# Byte code is written under a passing name: mine.cpython-311.pyc.140244…
_CODE: Final = re.compile(r"\.(py|pyc(\.\d+)?|so|pyd|pth)\Z")
# Python itself (an executable has it within), its libraries, and what describes the machine.
_OWN: Final = (
    sys.executable, sys.prefix, sys.base_prefix, os.path.dirname(os.__file__), "/proc", "/sys",
    "/dev", "/etc", "/usr/share/zoneinfo", "/usr/lib",
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
    return bool(_CODE.search(path)) or os.path.abspath(path).startswith(_OWN)


# === What was seen ===
# A run of a strategy under observation.


class Decided(msgspec.Struct, frozen=True):
    """A target as it came from a strategy, and how things stood.

    `held` is what was held of the market then, `others` of all others without their signs, and
    `equity` what the account was worth, in USDC. `objection` is what stopped an entry.
    """

    decision: Decision
    held: float
    others: float
    equity: float | None
    objection: str

    @property
    def grows(self) -> bool:
        """Return whether it adds to what is held, or turns it round."""
        target = self.decision.target_usdc
        return abs(target) > abs(self.held) or target * self.held < 0


class Seen(msgspec.Struct):
    """What a strategy did in a run: its decisions, what it read, and how long its steps took.

    `decided` are its targets, `made` all that it decided, holds too.
    `held` is what was held from which time (ns) on, by ticker; `stopped` what it raised, if it did;
    `scored` what could be read.
    """

    made: list[Decision] = msgspec.field(default_factory=list)
    decided: list[Decided] = msgspec.field(default_factory=list)
    wanted: set[str] = msgspec.field(default_factory=set)
    scored: tuple[str, ...] = ()
    reached: list[str] = msgspec.field(default_factory=list)
    late: list[str] = msgspec.field(default_factory=list)
    held: list[tuple[int, dict[str, float]]] = msgspec.field(default_factory=list)
    took_ns: list[int] = msgspec.field(default_factory=list)
    stopped: Exception | None = None

    def rows(self, last: int | None = None) -> list[tuple[int, bytes]]:
        """Return what was decided up to a frame as bytes, so that it can be compared."""
        return [(one.seq, _ENCODE(one)) for one in self.made if last is None or one.seq <= last]


_ENCODE: Final = msgspec.json.Encoder(order="deterministic").encode


def observed(frames: Iterable[Frame], options: Options, make: Callable[[], Strategy]) -> Seen:
    """Run a strategy under observation."""
    seen = Seen()
    bot = Bot(options, strategy=lambda: _Witness(make, seen))
    try:
        bot.run(from_iterable(frames))
    except Exception as error:
        if error is not bot.stopped:
            raise
    seen.stopped, seen.scored = bot.stopped, bot.scorer.names
    return seen


def loaded(options: Options, reached: list[str]) -> Callable[[], Strategy]:
    """Load the strategy of some options under observation; `ConnError` if there is none."""
    with Supervisor(options.budget).loading(options.strategy), reaching(reached):
        make = strategy_of(options)
    if make is None:
        raise ConnError(f"expected a strategy, got {options.strategy}")
    return make


def seen_findings(seen: Seen, reached: Sequence[str]) -> list[Finding]:
    """Return what an observed run shows by itself; `reached` is what its loading has."""
    outside = [*reached, *seen.reached]
    found = [
        Finding.of(
            "own frame",
            "it keeps a view past its frame, which shows another time than the decision's: "
            + seen.late[0]
            if seen.late
            else "",
            "no view is read after its frame",
        ),
        Finding.of(
            "frames only",
            f"it {' and '.join(outside[:3])}: what holds the future there, no replay can tell; "
            "what a strategy knows comes with the frames"
            if outside
            else "",
            "nothing is opened, connected to or started",
        ),
    ]
    if seen.stopped is not None and not seen.late:
        found.append(Finding("runs", "broken", f"it was stopped: {raised(seen.stopped)}"))
    return found


class _Witness:
    """Stands for a strategy, and notes what it does."""

    def __init__(self, make: Callable[[], Strategy], seen: Seen) -> None:
        self._seen, self._lease = seen, Lease(seen.late)
        self._held: Holdings | None = None
        with reaching(seen.reached):
            self._strategy = make()
        self.pace = getattr(self._strategy, "pace", None)

    @property
    def name(self) -> str:
        return self._strategy.name

    def step(self, scored: Scored, held: Holdings) -> Iterable[Decision]:
        self._lease.seq = scored.seq
        if held is not self._held:
            self._held = held
            self._seen.held.append((scored.at, {ticker: one.usdc for ticker, one in held.items()}))
        views: Any = LentScored(scored, self._lease, self._seen.wanted)
        entered = time.perf_counter_ns()
        with reaching(self._seen.reached):
            made: Any = self._strategy.step(views, held)
            # A generator is walked here, where it is observed; of what is no answer the decider
            # says so.
            decided = [*made] if isinstance(made, Iterator) else made
        self._seen.took_ns.append(time.perf_counter_ns() - entered)
        for one in decided if isinstance(decided, Iterable) else ():
            if not isinstance(one, Decision):
                continue  # of which the decider makes an error
            self._seen.made.append(one)
            if one.action == "target":
                self._seen.decided.append(_decided(one, scored, held))
        found: Iterable[Decision] = decided
        return found

    def learn(self, outcome: Outcome) -> None:
        self._lease.seq = outcome.seq
        learn = getattr(self._strategy, "learn", None)
        if learn is not None:
            with reaching(self._seen.reached):
                learn(outcome)


def _decided(decision: Decision, scored: Scored, held: Holdings) -> Decided:
    ticker, market = decision.ticker, scored.markets.get(decision.ticker)
    others = sum(abs(one.usdc) for name, one in held.items() if name != ticker)
    stops = ["it has no scores"]
    if market is not None:
        stops = [one.why for one in stopping(market.view, "entry")]
    equity, objection = held.equity_usdc, stops[0] if stops else ""
    return Decided(decision, held.usdc(ticker), others, equity, objection)
