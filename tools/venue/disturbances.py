"""What goes wrong at a venue: each a switch, all off until switched on, all by the seed.

    Disturbances ──► Spells     when the node stops, the makers leave, a subscription falls silent
                 └─► wrong_answer    what REST says instead

How the venue reports in good times (late, twice, in no order) is no disturbance: it always does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

_SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbances:
    """How much of each; 0 is none of it.

    Lags are in blocks, `errors` is a share of answers. `node_stops`, `makers_leave` and `silence`
    are the mean seconds of venue time between two of them. `geo_block` is an HTTP status.
    """

    replica_lag: int = 0
    indexer_lag: int = 0
    errors: float = 0.0
    node_stops: float = 0.0
    makers_leave: float = 0.0
    silence: float = 0.0
    geo_block: int = 0


NONE: Final = Disturbances()
HARSH: Final = Disturbances(
    replica_lag=3, indexer_lag=8, errors=0.03, node_stops=45.0, makers_leave=60.0, silence=60.0
)


class Spells:
    """Spells of trouble by chance: `every_s` apart in the mean, each of some length in seconds."""

    def __init__(self, chance: Random, every_s: float, shortest_s: float, longest_s: float) -> None:
        self._moments = self._draw(chance, every_s, shortest_s, longest_s)
        self._first_ns: int | None = None
        self._spell = next(self._moments, None)

    @staticmethod
    def _draw(
        chance: Random, every_s: float, shortest_s: float, longest_s: float
    ) -> Iterator[tuple[float, float]]:
        """Yield when each begins and ends, in seconds since the first look."""
        end = 0.0
        while every_s > 0:
            begin = end + chance.expovariate(1 / every_s)
            end = begin + chance.uniform(shortest_s, longest_s)
            yield begin, end

    def on(self, now_ns: int) -> bool:
        """Return whether this moment lies in a spell; time never goes back."""
        if self._first_ns is None:
            self._first_ns = now_ns
        elapsed_s = (now_ns - self._first_ns) / _SECOND_NS
        while self._spell is not None and self._spell[1] <= elapsed_s:
            self._spell = next(self._moments)
        return self._spell is not None and self._spell[0] <= elapsed_s


# === REST ===

_JSON: Final = "application/json; charset=utf-8"
# Of the indexer, its load balancer, its gateway, its cache, and whoever stands before all of them.
_WRONG: Final = (
    (500, b'{"errors":[{"msg":"Internal Server Error"}]}', _JSON),
    (503, b'{"message":"Service Unavailable"}', _JSON),
    (502, b'{"error":"Bad Gateway"}', _JSON),
    (429, b'{"message":"Too Many Requests"}', _JSON),
    (
        503,
        b'{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"no healthy '
        b'upstream"}',
        "application/problem+json",
    ),
    (502, b"<html><head><title>502 Bad Gateway</title></head><body></body></html>", "text/html"),
    (404, b"<html><body><h1>404 Not Found</h1></body></html>", "text/html"),
    (504, b"", "text/plain"),
    (200, b"", _JSON),
    (200, b"{}", _JSON),
    (200, b"null", _JSON),
    (200, b'{"message":"Service Unavailable"}', _JSON),
)
BLOCKED: Final = (
    "Because you appear to be a resident of, or trading from, a jurisdiction that violates our "
    "terms of use, or have engaged in activity that violates our terms of use, you have been "
    "blocked. You may withdraw your funds from the protocol at any time."
)


def wrong_answer(chance: Random) -> tuple[int, bytes, str]:
    """Return a status, a body and its type that are no answer."""
    return chance.choice(_WRONG)
