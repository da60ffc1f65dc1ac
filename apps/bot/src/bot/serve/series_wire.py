"""What Prometheus gets of the wire: speed, frames, connections, REST and the data of markets.

    Sources ──► WIRE, rows of one metric each

Labels are bounded: a channel that the venue never had is "other", an endpoint is a pattern without
names and numbers, and a market is one that is watched.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import Any, Final

from dydx_conn import CHANNELS, EndpointMetrics, GroupMetrics

from bot.run.links import WORDS
from bot.serve.sample import Sample, Series, Sources, one

_KINDS: Final = {*CHANNELS, "ws", "http", "sent", "open", "close", "gap", "tick", "act", "state"}

# === Speed and wire ===


def _frames(seen: Sources) -> Iterable[Sample]:
    counts: Counter[str] = Counter()
    for kind, count in seen.run.frames:
        counts[kind if kind in _KINDS else "other"] += count
    return [((kind,), count) for kind, count in counts.items()]


def _kind(name: str) -> Callable[[Sources], float]:
    return lambda seen: dict(seen.run.frames).get(name, 0)


def _gaps(seen: Sources) -> float:
    return _kind("gap")(seen) + _troubles(seen)["gap"]


def _troubles(seen: Sources) -> Counter[str]:
    counts = Counter(dict(seen.run.troubles))
    for market in seen.run.markets:
        counts.update(dict(market.troubles))
    return counts


def _states(seen: Sources) -> Iterable[Sample]:
    state = seen.run.connection.state
    return [((name,), float(name == state)) for name in WORDS] if state else []


def _lost_s(seen: Sources) -> float | None:
    connection = seen.run.connection
    if not connection.state:
        return None
    lost_at = connection.lost_at
    return 0.0 if lost_at is None else max(seen.run.at - lost_at, 0) / 1e9


_SPEED: Final = (
    Series("frame_duration_seconds", "histogram",
           "What a frame takes, from its reading until all that it led to is done.", (),
           lambda seen: [((), seen.run.latency)]),
    Series("stage_duration_seconds", "histogram",
           "What a layer takes of a frame, without those it calls: of one frame in 53.", ("stage",),
           lambda seen: [((name,), bars) for name, bars in seen.run.stages if bars.count]),
    Series("frames_total", "counter", "Frames, by channel, or by kind where there is none.",
           ("kind",), _frames),
    Series("received_bytes_total", "counter", "Texts of frames; a character counts as a byte.", (),
           one(lambda seen: seen.run.bytes)),
    Series("gaps_total", "counter", "Times that messages were lost.", (), one(_gaps)),
    Series("disconnects_total", "counter", "Connections that were lost, and reconnected.", (),
           one(_kind("close"))),
    Series("connection_state", "gauge", "1 for the state of the worst connection, else 0.",
           ("state",), _states),
    Series("connection_lost_seconds", "gauge", "How long not all connections are live.", (),
           one(_lost_s)),
    Series("connection_attempts", "gauge", "Attempts to reconnect since it was lost.", (),
           one(lambda seen: seen.run.connection.attempts if seen.run.connection.state else None)),
    Series("ping_seconds", "gauge", "What the newest answer to a ping took.", ("link",),
           lambda seen: [((link,), took) for link, took in seen.run.pings]),
    Series("block_height", "gauge", "The newest block received.", (),
           one(lambda seen: seen.run.height or None)),
    Series("block_age_seconds", "gauge", "Since the newest block was received.", (),
           one(lambda seen: (seen.run.at - seen.run.height_at) / 1e9 if seen.run.height_at else
                None)),
    Series("queue_late_seconds", "gauge", "How long frames wait until they are folded.", (),
           one(lambda seen: seen.run.late_ns / 1e9)),
    Series("data_troubles_total", "counter", "What was wrong with data, by kind.", ("kind",),
           lambda seen: [((kind,), count) for kind, count in _troubles(seen).items()]),
    Series("errors_total", "counter", "What went wrong on the wire, by class and endpoint.",
           ("class", "endpoint"), lambda seen: seen.run.faults),
)  # fmt: skip

# === REST ===


def _endpoints(
    value: Callable[[EndpointMetrics], float | None],
) -> Callable[[Sources], Iterator[Sample]]:
    def samples(seen: Sources) -> Iterator[Sample]:
        rest = seen.run.rest
        for name, each in {} if rest is None else rest.endpoints.items():
            yield (name,), value(each)

    return samples


def _groups(value: Callable[[GroupMetrics], float]) -> Callable[[Sources], Iterator[Sample]]:
    def samples(seen: Sources) -> Iterator[Sample]:
        rest = seen.run.rest
        for name, each in {} if rest is None else rest.groups.items():
            yield (name,), value(each)

    return samples


def _answers(seen: Sources) -> Iterable[Sample]:
    return [((path, str(status)), count) for (path, status), count in seen.run.answers]


def _classes(seen: Sources) -> Iterator[Sample]:
    rest = seen.run.rest
    for name, each in {} if rest is None else rest.endpoints.items():
        for kind, count in each.errors.items():
            yield (kind, name), count


def _took(seen: Sources) -> Iterator[Sample]:
    rest = seen.run.rest
    for name, each in {} if rest is None else rest.endpoints.items():
        if each.answered:
            for quantile, took_ms in (("0.5", each.p50_ms), ("0.99", each.p99_ms)):
                yield (name, quantile), took_ms / 1e3


_REST: Final = (
    Series("rest_answers_total", "counter", "Answers over REST that became frames.",
           ("endpoint", "status"), _answers),
    Series("rest_requests_total", "counter", "Requests over REST.", ("endpoint",),
           _endpoints(attrgetter("requested"))),
    Series("rest_errors_total", "counter", "Requests that failed, by class of the failure.",
           ("class", "endpoint"), _classes),
    Series("rest_retries_total", "counter", "Requests that were sent again after a failure.",
           ("endpoint",), _endpoints(attrgetter("retried"))),
    Series("rest_stale_total", "counter", "Earlier answers served in place of new ones.",
           ("endpoint",), _endpoints(attrgetter("stale"))),
    Series("rest_latency_seconds", "gauge", "What answers took, of the last 512 of each.",
           ("endpoint", "quantile"), _took),
    Series("rest_circuit_open", "gauge", "1 where an endpoint gets no requests for now.",
           ("endpoint",), _endpoints(lambda each: float(each.circuit != "closed"))),
    Series("rate_limit_requests", "gauge", "Requests that a rate limit allows in its window.",
           ("group",), _groups(attrgetter("limit"))),
    Series("rate_limit_left", "gauge", "Requests that are left of them.", ("group",),
           _groups(attrgetter("left"))),
    Series("rate_limit_queued", "gauge", "Requests that wait for a rate limit.", ("group",),
           _groups(attrgetter("queued"))),
    Series("rate_limit_wait_seconds", "gauge", "What the next request can expect to wait.",
           ("group",), _groups(attrgetter("wait_s"))),
    Series("rate_limit_waits_total", "counter", "Requests that had to wait.", ("group",),
           _groups(attrgetter("waits"))),
    Series("rate_limit_waited_seconds_total", "counter", "How long all of them have waited.",
           ("group",), _groups(attrgetter("waited_s"))),
    Series("rate_limited_total", "counter", "Answers that were a 429.", ("group",),
           _groups(attrgetter("limited"))),
)  # fmt: skip

# === Markets ===


def _markets(value: Callable[[Any], float | None]) -> Callable[[Sources], Iterable[Sample]]:
    return lambda seen: [((market.ticker,), value(market)) for market in seen.run.markets]


def _lags(seen: Sources) -> Iterator[Sample]:
    for market in seen.run.markets:
        if lags := sorted(market.lags_ns):
            for quantile, share in (("0.5", 50), ("0.99", 99)):
                yield (market.ticker, quantile), lags[len(lags) * share // 100] / 1e9


_MARKETS: Final = (
    Series("markets_watched", "gauge", "Markets that are watched.", (),
           one(lambda seen: len(seen.run.markets) + seen.run.markets_left_out)),
    Series("markets_left_out", "gauge", "Of them, those without series of their own.", (),
           one(lambda seen: seen.run.markets_left_out)),
    Series("market_stale", "gauge", "1 if what is known of a market is too old.", ("market",),
           _markets(lambda market: float(market.stale))),
    Series("market_book_known", "gauge", "1 if a market's book is known.", ("market",),
           _markets(lambda market: float(market.book_known))),
    Series("market_silent_seconds", "gauge", "How long the worst of its sources is silent.",
           ("market",), _markets(lambda market: market.silent_ns / 1e9)),
    Series("market_complete_ratio", "gauge", "Which share of its parts is known.", ("market",),
           _markets(attrgetter("complete"))),
    Series("market_known_ratio", "gauge", "In which share of the time it could be traded.",
           ("market",), _markets(attrgetter("known"))),
    Series("market_messages_per_second", "gauge", "Messages of late, with a half-life of 10 s.",
           ("market",), _markets(attrgetter("messages_s"))),
    Series("market_lag_seconds", "gauge", "From a trade's stamp to its receipt, by two clocks.",
           ("market", "quantile"), _lags),
    Series("market_troubles_total", "counter", "What was wrong with its data.", ("market",),
           _markets(lambda market: sum(count for _, count in market.troubles))),  # integers
)  # fmt: skip

WIRE: Final[tuple[Series, ...]] = (*_SPEED, *_REST, *_MARKETS)
