"""A moment of a run: all that the layers know between two frames, packed, to come back to.

    parts of a bot ──► packed ──► Moment ──► unpacked ──► parts, from which Bot.go_to goes on

A run is a fold: what it knows at a frame, and the frames after it, make all that it will know.
So a recording is played from any moment of it as it was the first time, to the same hash. Parts
are packed as they are and as one: two that share a value share it again. What belongs to the
process and not to the run, as a timer, a subscription or a figure of the machine, is left out. A
strategy of a user's own may hold what cannot be packed (a lambda, a file, a generator): then there
is no moment, and whoever goes back folds from the first frame.
"""

import io
import pickle
import zlib
from collections.abc import Iterator, Mapping
from copyreg import dispatch_table
from typing import Any, Final, NamedTuple

import msgspec
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
    text = io.BytesIO()
    pickler = pickle.Pickler(text, pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table = {**dispatch_table, **dict.fromkeys(_sparse_kinds(), _sparse)}
    try:
        pickler.dump(parts)
    # Whatever a user's own class raises while it is packed.
    except Exception as error:
        what = f"expected a run whose parts can be packed, got {type(error).__name__}: {error}"
        raise MomentError(what) from error
    return Moment(zlib.compress(text.getbuffer(), 1), digest, shared)


def _sparse_kinds(base: type[msgspec.Struct] = msgspec.Struct) -> Iterator[type[msgspec.Struct]]:
    # What is written without its defaults is: msgspec knows them by identity, not by value.
    for kind in base.__subclasses__():
        if kind.__struct_config__.omit_defaults:
            yield kind
        yield from _sparse_kinds(kind)


def _sparse(value: msgspec.Struct) -> tuple[Any, ...]:
    kind = type(value)
    fields = {name: getattr(value, name) for name in kind.__struct_fields__}
    defaults = zip(
        reversed(kind.__struct_fields__), reversed(kind.__struct_defaults__), strict=False
    )
    for name, default in defaults:
        if fields[name] is default:
            del fields[name]
    return _made, (kind, fields)


def _made(kind: type[msgspec.Struct], fields: dict[str, Any]) -> msgspec.Struct:
    return kind(**fields)


def unpacked(moment: Moment) -> dict[str, Any]:
    """Return the parts of a run, made again at each call."""
    parts: dict[str, Any] = pickle.loads(zlib.decompress(moment.parts))
    parts["journal"].go_on(moment.digest)
    return {**parts, **moment.shared}
