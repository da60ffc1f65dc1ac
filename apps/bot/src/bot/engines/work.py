"""What happens to a task where it is worked on, and by which code.

    task, Stamp of whoever wants it ──► work ──► Answer: own Stamp, result ──► taken: result or Lost

A result is of the code that made it. A worker whose sources are not those of whoever wants the task
refuses it, and a result with another stamp than was wanted is none.
"""

import hashlib
import traceback
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec

from bot.version import described

_PACKAGES: Final = (
    "bot", "dydx_conn", "dydx_data", "dydx_paper", "dydx_risk", "dydx_signals", "dydx_strategy",
)  # fmt: skip


class Lost(msgspec.Struct, frozen=True):
    """A task that has no result, and why."""

    why: str


class Stamp(msgspec.Struct, frozen=True):
    """Which code it is: version and commit in words, and the SHA-256 over its sources."""

    version: str
    sources: str

    @property
    def words(self) -> str:
        """Return it in a few words."""
        return f"{self.version}, sources {self.sources[:12]}"


class Answer(msgspec.Struct, frozen=True):
    """What a worker answers: by which code, and a result, or what was raised and where."""

    stamp: Stamp
    result: Any = None
    raised: BaseException | None = None
    trace: str = ""


class RemoteError(Exception):
    """Where in a worker an error was raised, as its traceback has it."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@lru_cache(maxsize=1)
def stamp() -> Stamp:
    """Return which code this process is of, as it was when first wanted."""
    digest, version, found = hashlib.sha256(), described(), 0
    for name in _PACKAGES:
        spec = find_spec(name)
        for root in map(Path, (spec and spec.submodule_search_locations) or ()):
            for path in sorted(root.rglob("*.py")):
                digest.update(f"{name}/{path.relative_to(root).as_posix()}\0".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
                found += 1
    if not found:  # an executable has none: it is what it was built of
        digest.update(version.encode())
    return Stamp(version=version, sources=digest.hexdigest())


def work(function: Callable[[Any], Any], task: Any, wanted: Stamp) -> Answer:
    """Work on a task, in a worker; refuse it where this is other code than is wanted."""
    own = stamp()
    if own != wanted:
        return Answer(own)
    try:
        return Answer(own, function(task))
    except Exception as error:  # noqa: BLE001  # raised where the task came from
        return Answer(own, raised=error, trace=traceback.format_exc())


def taken(answer: Answer, wanted: Stamp) -> Any:
    """Return the result of an answer, or `Lost`; raise what the function raised."""
    if answer.stamp != wanted:
        what = f"another version: expected {wanted.words}, got a worker of {answer.stamp.words}"
        return Lost(what)
    if answer.raised is not None:
        raise answer.raised from RemoteError(answer.trace)
    return answer.result
