"""A moment of a run: all that the layers know between two frames, packed, to come back to.

    parts of a bot ──► packed ──► Moment ──► unpacked ──► parts, from which Bot.go_to goes on

A run is a fold: what it knows at a frame, and the frames after it, make all that it will know.
So a recording is played from any moment of it as it was the first time, to the same hash. Parts
are packed as they are and as one: two that share a value share it again. What belongs to the
process and not to the run, as a timer, a subscription or a figure of the machine, is left out. A
strategy of a user's own may hold what cannot be packed (a lambda, a file, a generator): then there
is no moment, and whoever goes back folds from the first frame.
"""

import pickle
import zlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from dydx_conn import ConnError

# What a bot has of this process, or of who looks at it.
_OF_THE_PROCESS: Final = frozenset(
    ["meters", "supervisor", "reload", "_hubs", "_subscriptions", "_failed", "_failure"]
)
# What is never changed but replaced as a whole: it is shared with the moment.
_SHARED: Final = ("options", "stopped")


class MomentError(ConnError):
    """A part of a run that cannot be packed: go back to the first frame instead."""


class Moment(NamedTuple):
    """What a run knows between two frames; `digest` is its hash so far."""

    parts: bytes
    digest: Any
    shared: dict[str, Any]


def of_the_run(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return those attributes of a bot that are of its run."""
    return {name: part for name, part in parts.items() if name not in _OF_THE_PROCESS}


def packed(parts: dict[str, Any], digest: Any) -> Moment:
    """Pack the parts of a run; `MomentError` names what cannot be."""
    shared = {name: parts.pop(name) for name in _SHARED}
    try:
        text = pickle.dumps(parts, pickle.HIGHEST_PROTOCOL)
    # Whatever a user's own class raises while it is packed.
    except Exception as error:
        what = f"expected a run whose parts can be packed, got {type(error).__name__}: {error}"
        raise MomentError(what) from error
    return Moment(zlib.compress(text, 1), digest, shared)


def unpacked(moment: Moment) -> dict[str, Any]:
    """Return the parts of a run, made again at each call."""
    parts: dict[str, Any] = pickle.loads(zlib.decompress(moment.parts))
    parts["journal"].go_on(moment.digest)
    return {**parts, **moment.shared}
