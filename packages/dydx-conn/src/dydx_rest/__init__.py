"""The indexer over HTTP: asked politely, answered with types, and every failure named.

    Rest.fills(…) ──► circuit ──► queue of its group ──► IndexerClient ──► pooled HTTPS
                          └ open: the last good answer, with its age            │
    Answer ◄── dydx_wire ◄── refusal? back-off and again, or a RestError ◄──────┘

`Rest` has a coroutine per endpoint, whose `Answer` says how old it is, and iterators `all_…` that
walk pages. `Allowance` (how often a group of endpoints may be asked) and `Circuit` (whether one
should be) are pure values with the clock handed in; `Metrics` is all that happened, as one value.

Units: `_s` seconds, `_ns` nanoseconds of a monotonic clock unless it says wall; sizes and prices
stay decimal text. Nothing here signs, sends an order, or remembers more than the last answers.
Sources: comlink (v4-chain/indexer): controllers, caches/rate-limiters.ts, lib/rate-limit.ts.
"""

# Errors are called what the caller has to deal with, and all end in RestError.
# ruff: noqa: N818

# One name a line would be a page.
# fmt: off
__all__ = [
    "MAX_BODY", "Allowance", "Answer", "BadAnswer", "BadRequest", "Circuit", "EndpointMetrics",
    "ErrorSample", "Forbidden", "GroupMetrics", "Metrics", "NotFound", "RateLimited", "Rest",
    "RestError", "ServerError", "Told", "Unreachable", "Untrusted",
]
# fmt: on

import asyncio
import contextlib
import email.utils
import heapq
import itertools
import random
import re
import ssl
import time
import zlib
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    Self,
    TypedDict,
    TypeVar,
    Unpack,
)
from urllib.parse import quote, urlencode, urlsplit

import dydx_wire as wire
import msgspec
from dydx_chain import ConnError, Network, Subaccount

if TYPE_CHECKING:
    import httpx

_T = TypeVar("_T")

# === Errors ===
# `tries` is how often a question is put before its error is raised.

Verdict = Literal["good", "bad", "gone"]


class RestError(ConnError):
    """A question that the indexer did not answer; children say what the caller should do."""

    tries: ClassVar[int] = 1
    verdict: ClassVar[Verdict] = "good"  # what it says of the endpoint's health

    def __init__(self, message: str, *, path: str = "", status: int = 0, wait_s: float = 0) -> None:
        super().__init__(message)
        self.path = path
        self.status = status  # 0 if nothing was answered
        self.wait_s = wait_s


class BadRequest(RestError):
    """The question itself is wrong (400): correct it; the message says which parameter."""


class Forbidden(RestError):
    """The venue refuses this region or address (403): stop asking, and trading."""


class NotFound(RestError):
    """There is no such ticker, order or subaccount (404): check the name."""

    never_funded = False  # of a subaccount: it begins to exist with its first deposit


class RateLimited(RestError):
    """The queue is longer than the caller's patience: ask less, or again after `wait_s`."""

    verdict = "gone"


class ServerError(RestError):
    """The venue is in trouble (5xx), and was asked again with back-off: wait."""

    tries = 4
    verdict = "bad"


class Unreachable(RestError):
    """Nothing was answered in time, or no connection made, three times: wait."""

    tries = 3
    verdict = "bad"


class Untrusted(Unreachable):
    """The certificate cannot be trusted: check the address, and this machine's clock."""

    tries = 1


class BadAnswer(RestError):
    """What came is no answer: a page of HTML, an error under a 200, too much. Report it."""

    verdict = "bad"


# === Values ===


@dataclass(frozen=True, slots=True)
class Answer(Generic[_T]):
    """What the indexer said; `stale` if it said so `age_s` ago, and its endpoint fails now."""

    value: _T
    age_s: float = 0.0
    stale: bool = False


class ErrorSample(msgspec.Struct, frozen=True):
    """One failure as it was, for a person; `at_ns` is wall time."""

    at_ns: int
    error: str
    status: int
    message: str


class EndpointMetrics(msgspec.Struct, frozen=True):
    """How an endpoint has answered; rates and latencies are of its last 512 exchanges."""

    asked: int
    answered: int
    stale: int  # earlier answers served in place of new ones
    errors: dict[str, int]
    samples: dict[str, tuple[ErrorSample, ...]]  # the last few of each class, oldest first
    per_minute: float
    errors_per_minute: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    circuit: str
    retry_in_s: float  # until an open circuit lets one question through
    good_age_s: float | None  # since the last good answer


class GroupMetrics(msgspec.Struct, frozen=True):
    """How a group of endpoints stands with its rate limit."""

    limit: int
    left: int
    flying: int
    queued: int
    wait_s: float  # what the next to ask can expect
    waits: int
    waited_s: float
    limited: int  # how often the venue said 429


class Metrics(msgspec.Struct, frozen=True):
    """All that happened, ready for `msgspec.json.encode`.

    `skew_s` is how far this machine's clock is ahead of the venue's, give or take `skew_within_s`.
    """

    endpoints: dict[str, EndpointMetrics]
    groups: dict[str, GroupMetrics]
    errors: dict[str, int]
    skew_s: float | None
    skew_within_s: float


# === Limits ===
# The venue counts per address and group in windows of ten seconds that begin when it likes.

WINDOW_NS: Final = 10_000_000_000
_MS_NS: Final = 1_000_000
_S_NS: Final = 1_000_000_000
_SAME_MS: Final = 1000
_MOST_LIMIT: Final = 10_000
_LIMITS: Final[Mapping[str, int]] = {
    "default": 100,
    "orders": 100,
    "fills": 100,
    "sparklines": 100,
    "historical-pnl": 100,
    "pnl": 100,
    "fundingPayments": 100,
    "candles": 1000,
}


class Told(msgspec.Struct, frozen=True):
    """What an answer's headers say of the limit; None where they say nothing."""

    limit: int | None = None
    remaining: int | None = None
    reset_ms: int = 0  # the venue's epoch: it names the window
    reset_in_ns: int = 0
    refused: bool = False
    retry_in_ns: int = 0

    @classmethod
    def read(cls, headers: Mapping[str, str], *, refused: bool, wall_ns: int) -> Self:
        """Read headers; `wall_ns` is our clock, used if the answer does not carry its own."""
        limit, remaining, reset_ms, retry = (
            int(text) if (text := headers.get(name, "")).isdecimal() and len(text) < 16 else None
            for name in ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "retry-after")
        )
        said_ns = _date_ns(headers)
        reset_in_ns = (reset_ms or 0) * _MS_NS - (wall_ns if said_ns is None else said_ns)
        # The indexer says milliseconds, against the standard; a proxy before it says seconds.
        unit = _S_NS if reset_ms is None else _MS_NS
        retry_in_ns = min((retry or 0) * unit, 86_400 * _S_NS)
        # No limit, or one without bound, is no limit that anybody set.
        limit = limit if limit and limit <= _MOST_LIMIT else None
        return cls(limit, remaining, reset_ms or 0, reset_in_ns, refused, retry_in_ns)


def _date_ns(headers: Mapping[str, str]) -> int | None:
    """Return the wall time of an answer by its Date header, which knows whole seconds."""
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        stamp = email.utils.parsedate_to_datetime(headers.get("date", ""))
        return int(stamp.timestamp()) * _S_NS
    return None


class Allowance(msgspec.Struct, frozen=True):
    """How often a group may be asked: never above its limit in any window of the venue's.

    A question holds its place from when it is asked until a window after it was answered, and
    the venue counts it in between; so neither latency nor where a window begins can exceed the
    limit. Others may ask from the same address: what the headers tell is believed as well.
    """

    limit: int
    flying: int = 0  # asked, not yet answered
    landed: tuple[int, ...] = ()  # when the answers of the last window came, oldest first
    remaining: int = 0  # the least the venue told, in the window that ends at reset_ns
    reset_ms: int = 0
    reset_ns: int = 0
    not_before_ns: int = 0
    refusals: int = 0  # since the last answer that was none

    def wait_ns(self, now_ns: int, ahead: int = 0) -> int:
        """Return how long to wait, with `ahead` questions to be asked before; 0 is now."""
        waits = [self.not_before_ns - now_ns]
        taken = [at + WINDOW_NS for at in self._live(now_ns)] + [now_ns + WINDOW_NS] * self.flying
        places = [now_ns] * (self.limit - len(taken)) + taken
        rounds, place = divmod(ahead + len(places) - self.limit, len(places))
        waits.append(places[place] + rounds * WINDOW_NS - now_ns)
        if now_ns < self.reset_ns and (short := ahead + 1 - self._told_left()) > 0:
            waits.append(self.reset_ns - now_ns + (short - 1) // self.limit * WINDOW_NS)
        return max(0, *waits)

    def left(self, now_ns: int) -> int:
        """Return how many questions may be asked now."""
        left = self.limit - self.flying - len(self._live(now_ns))
        if now_ns < self.reset_ns:
            left = min(left, self._told_left())
        return 0 if now_ns < self.not_before_ns else max(left, 0)

    def asked(self) -> "Allowance":
        """Count a question."""
        return msgspec.structs.replace(self, flying=self.flying + 1)

    def landed_at(self, now_ns: int, told: Told | None) -> "Allowance":
        """Count its answer, or (None) that there was none: it may have been counted even so."""
        after = msgspec.structs.replace(
            self, flying=self.flying - 1, landed=(*self._live(now_ns), now_ns)
        )
        if told is None:
            return msgspec.structs.replace(after, remaining=max(self.remaining - 1, 0))
        return after._believing(told, now_ns)

    def _believing(self, told: Told, now_ns: int) -> "Allowance":
        refusals = self.refusals + 1 if told.refused else 0
        # Whoever says "at once" and refuses again is asked ever more rarely.
        pause_ns = max(told.retry_in_ns, 100 * _MS_NS << min(refusals, 7)) if refusals else 0
        not_before_ns = max(self.not_before_ns, now_ns + pause_ns if refusals else 0)
        after = msgspec.structs.replace(
            self, limit=told.limit or self.limit, refusals=refusals, not_before_ns=not_before_ns
        )
        # The end of one window is told with a few milliseconds of difference.
        later_ms = told.reset_ms - self.reset_ms
        if told.remaining is None or later_ms < -_SAME_MS:
            return after
        same = later_ms <= _SAME_MS
        # Answers overtake each other; within a window the venue only counts down.
        remaining = min(self.remaining, told.remaining) if same else told.remaining
        reset_ns = now_ns + min(max(told.reset_in_ns, 0), WINDOW_NS)
        return msgspec.structs.replace(
            after,
            remaining=remaining,
            reset_ms=max(self.reset_ms, told.reset_ms),
            reset_ns=min(self.reset_ns, reset_ns) if same else reset_ns,
        )

    def _live(self, now_ns: int) -> tuple[int, ...]:
        return tuple(at for at in self.landed if at + WINDOW_NS > now_ns)

    def _told_left(self) -> int:
        # What flies may be in the count already, or not yet.
        return self.remaining - self.flying


# === Circuits ===
# An endpoint that fails again and again is left alone, then tried with a single question.

_TOLERATED: Final = 5  # failures in a row
_COOL_NS: Final = 5 * _S_NS  # doubled with each trial that fails, up to sixteen times

_CIRCUIT: Final[Mapping[tuple[str, str], str]] = {
    ("closed", "good"): "closed",
    ("closed", "bad"): "closed",
    ("closed", "worn"): "open",  # bad, once too often
    ("closed", "gone"): "closed",
    ("closed", "asked"): "closed",
    ("open", "good"): "closed",  # asked before it opened
    ("open", "bad"): "open",
    ("open", "gone"): "open",
    ("open", "asked"): "open",
    ("open", "cooled"): "half-open",  # asked, after the pause
    ("half-open", "good"): "closed",
    ("half-open", "bad"): "open",
    ("half-open", "gone"): "open",  # the trial was given up, or not let through
    ("half-open", "asked"): "half-open",
}


class Circuit(msgspec.Struct, frozen=True):
    """Whether an endpoint should be asked."""

    state: str = "closed"
    failures: int = 0  # in a row
    trips: int = 0  # openings since it was last closed
    since_ns: int = 0  # when it opened

    def asked(self, now_ns: int) -> tuple["Circuit", bool]:
        """Return the circuit after somebody wants to ask, and whether they may."""
        cooled = self.state == "open" and self.retry_in_ns(now_ns) == 0
        state = _CIRCUIT[self.state, "cooled" if cooled else "asked"]
        return msgspec.structs.replace(self, state=state), cooled or state == "closed"

    def heard(self, verdict: Verdict, now_ns: int) -> "Circuit":
        """Return the circuit after a question was answered (good), failed, or was given up."""
        failures = self.failures + (verdict == "bad")
        worn = self.state == "closed" and failures >= _TOLERATED and verdict == "bad"
        state = _CIRCUIT[self.state, "worn" if worn else verdict]
        if verdict == "good":
            return Circuit()
        if worn or (self.state, verdict) == ("half-open", "bad"):
            return Circuit(state, failures, self.trips + 1, now_ns)
        return msgspec.structs.replace(self, state=state, failures=failures)

    def retry_in_ns(self, now_ns: int) -> int:
        """Return how long it stays open; 0 if it is not, or a trial is due."""
        if self.state != "open":
            return 0
        return max(self.since_ns + (_COOL_NS << min(self.trips - 1, 4)) - now_ns, 0)


# === Refusals ===
# What an answer's status and text mean.

MAX_BODY: Final = 16 * 1024 * 1024
_REFUSALS: Final[Mapping[int, type[RestError]]] = {
    403: Forbidden,
    404: NotFound,
    429: RateLimited,
    451: Forbidden,
    # Any other by its hundred.
    3: BadAnswer,
    4: BadRequest,
    5: ServerError,
}
_CERTIFICATES: Final[Mapping[int, str]] = {
    9: "that is not valid yet",
    10: "that has expired",
    18: "that it signed itself",
    19: "whose chain ends in one that signed itself",
    20: "that nobody known here has signed",
    62: "of another host",
    64: "of another host",
}


def _refusal(path: str, status: int, text: str) -> RestError | None:
    if 200 <= status < 300:
        return None
    kind = _REFUSALS.get(status) or _REFUSALS.get(status // 100, BadAnswer)
    error = kind(f"expected the answer of {path}, got {status}: {_said(text)}",
                 path=path, status=status)  # fmt: skip
    if isinstance(error, NotFound):
        error.never_funded = path.startswith("/v4/addresses/") and _errors(text) is not None
    return error


def _unicode(path: str, status: int, body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        what = f"expected the answer of {path} in UTF-8, got {error}"
        raise BadAnswer(what, path=path, status=status) from None


def _decoded(path: str, status: int, text: str, decode: Callable[[str, str], Any]) -> Any:
    try:
        value = decode(path, text)
    except (wire.WireError, msgspec.DecodeError, UnicodeError, RecursionError) as error:
        why = str(error).rpartition(f"{text[:80]!r}: ")[2]  # without what is said anyway
        what = f"expected the answer of {path}, got {status} with {_said(text)}: {why}"
        raise BadAnswer(what, path=path, status=status) from None
    if isinstance(value, wire.ErrorsContents):
        what = f"expected the answer of {path}, got {status} with an error in it: {_said(text)}"
        raise BadAnswer(what, path=path, status=status)
    return value


def _plain(_path: str, text: str) -> Any:
    errors = _errors(text)
    return msgspec.json.decode(text) if errors is None else errors


def _errors(text: str) -> Any:
    with contextlib.suppress(msgspec.DecodeError, UnicodeError, RecursionError):
        return msgspec.json.decode(text, type=wire.ErrorsContents)
    return None


def _said(text: str) -> str:
    if (refusal := _errors(text)) is not None:
        said = (
            e.msg + (f" ({e.param})" if e.param else "") + (f" [{e.code}]" if e.code else "")
            for e in refusal.errors
        )
        return "; ".join(said)[:500] or "no reason"
    if re.match(r"\s*<(!doctype|html)", text, re.IGNORECASE):
        title = re.search(r"<title>([^<]{0,80})", text[:10_000], re.IGNORECASE)
        return f"a page of HTML, {title[1].strip()!r}" if title else "a page of HTML"
    return repr(text[:80]) if text else "an empty body"


def _unreachable(error: BaseException, host: str, path: str) -> Unreachable:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        said = f"{type(error).__name__}: {error}".removesuffix(": ")
        return Unreachable(f"expected {host} to answer {path}, got {said}", path=path)
    got = _CERTIFICATES.get(cause.verify_code, f"that fails: {cause.verify_message}")
    what = f"expected a certificate of {host} to trust, got one {got}"
    return Untrusted(f"{what}; check the address and this machine's clock", path=path)


# === Questions ===
# How a question is written, and which endpoint and group it belongs to.

_NAMED = re.compile(
    r"^(/v4/(?:orderbooks/perpetualMarket|trades/perpetualMarket|candles/perpetualMarkets"
    r"|historicalFunding|addresses|orders|compliance/screen|historicalBlockTradingRewards"
    r"|historicalTradingRewardAggregations))/(?!parentSubaccountNumber)[^/]+"
)


def _question(path: str, parameters: Mapping[str, Any] | None) -> str:
    stated = {name: value for name, value in (parameters or {}).items() if value is not None}
    query = urlencode(
        sorted((name, _text(value)) for name, value in stated.items()), quote_via=quote, safe=",:"
    )
    return f"{path}?{query}" if query else path


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else ",".join(map(_text, value))


def _endpoint(question: str) -> str:
    # Without what differs from one question to the next: there are few endpoints.
    return re.sub(r"/\d+$", "/*", _NAMED.sub(r"\1/*", question.partition("?")[0]))


def _group(question: str) -> str:
    first = re.split(r"[/?]", question.removeprefix("/v4/"), maxsplit=1)[0]
    first = {"tradeHistory": "fills"}.get(first, first)
    return first if first in _LIMITS else "default"


def _segment(name: str) -> str:
    # A ticker or an address becomes one part of a path, whatever is written in it.
    if name in ("", ".", ".."):
        raise BadRequest(f"expected a ticker, an address or an id, got {name!r}")
    return quote(name, safe="")


# === Edges ===
# The one place that speaks HTTP.

OnAnswer = Callable[[str, str, int, str, Mapping[str, str]], None]

_REMEMBERED: Final = 32 * 1024 * 1024  # characters of last good answers
_SAMPLES: Final = 5  # failures kept of each class and endpoint
_CONNECTIONS: Final = 32
_BACKOFF_S: Final = 0.25
_BACKOFF_MOST_S: Final = 8.0


class _Group:
    """The questions that wait for one allowance, by the order in which they were put."""

    def __init__(self, limit: int) -> None:
        self.allowance = Allowance(limit)
        self.queue: list[tuple[int, asyncio.Event]] = []
        self.waits = 0
        self.waited_ns = 0
        self.limited = 0

    def wake(self) -> None:
        """Let the first look again."""
        if self.queue:
            self.queue[0][1].set()

    def metrics(self, now_ns: int) -> GroupMetrics:
        return GroupMetrics(
            limit=self.allowance.limit,
            left=self.allowance.left(now_ns),
            flying=self.allowance.flying,
            queued=len(self.queue),
            wait_s=self.allowance.wait_ns(now_ns, len(self.queue)) / 1e9,
            waits=self.waits,
            waited_s=self.waited_ns / 1e9,
            limited=self.limited,
        )


class _Tally:
    """What an endpoint has done."""

    def __init__(self) -> None:
        self.circuit = Circuit()
        self.asked = self.answered = self.stale = 0
        self.good_ns: int | None = None
        self.errors: Counter[str] = Counter()
        self.samples: dict[str, deque[ErrorSample]] = {}
        self.recent: deque[tuple[int, int, bool]] = deque(maxlen=512)  # when, how long, well?

    def note(self, error: RestError, wall_ns: int) -> None:
        """Count a failure and keep it as a sample."""
        kind = type(error).__name__
        self.errors[kind] += 1
        samples = self.samples.setdefault(kind, deque(maxlen=_SAMPLES))
        samples.append(ErrorSample(wall_ns, kind, error.status, str(error)))

    def metrics(self, now_ns: int) -> EndpointMetrics:
        took = sorted(ns / 1e6 for _, ns, _ in self.recent) or [0.0]
        minute = [well for at, _, well in self.recent if at > now_ns - 60 * _S_NS]
        # When the memory of exchanges does not reach back a minute, extrapolate.
        full = len(minute) == self.recent.maxlen
        share = 60 * _S_NS / max(now_ns - self.recent[0][0], 1) if full else 1.0
        return EndpointMetrics(
            asked=self.asked,
            answered=self.answered,
            stale=self.stale,
            errors=dict(self.errors),
            samples={kind: tuple(samples) for kind, samples in self.samples.items()},
            per_minute=len(minute) * share,
            errors_per_minute=minute.count(False) * share,
            p50_ms=took[len(took) // 2],
            p99_ms=took[len(took) * 99 // 100],
            max_ms=took[-1],
            circuit=self.circuit.state,
            retry_in_s=self.circuit.retry_in_ns(now_ns) / 1e9,
            good_age_s=None if self.good_ns is None else (now_ns - self.good_ns) / 1e9,
        )


class _Desk:
    """Where questions are put: it queues, asks, asks again, and keeps the books."""

    def __init__(
        self, network: Network, *, on_answer: OnAnswer | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns, wall_ns: Callable[[], int] = time.time_ns,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        chance: Callable[[], float] = random.random, verify: ssl.SSLContext | None = None,
        timeout_s: float = 10.0, patience_s: float = 60.0,
    ) -> None:  # fmt: skip
        if verify and not (verify.verify_mode == ssl.CERT_REQUIRED and verify.check_hostname):
            raise ConnError("expected a TLS context that verifies certificates and host names")
        self._host, self._on_answer, self._verify = network.rest.rstrip("/"), on_answer, verify
        self._where = urlsplit(self._host).netloc.rpartition("@")[2]  # to be shown
        self._clock_ns, self._wall_ns, self._sleep, self._chance = clock_ns, wall_ns, sleep, chance
        self._timeout_s, self._patience_s = timeout_s, patience_s
        self._http: Any = None
        self._client: Any = None
        self._seats = asyncio.Semaphore(_CONNECTIONS)
        self._groups = {name: _Group(limit) for name, limit in _LIMITS.items()}
        self._tallies: dict[str, _Tally] = {}
        self._tickets = itertools.count()
        self._memory: OrderedDict[str, tuple[int, str]] = OrderedDict()
        self._remembered = 0
        self._skew: tuple[float | None, float] = (None, 0.0)

    async def __aenter__(self) -> Self:
        import httpx
        from dydx_v4_client.indexer.rest.indexer_client import IndexerClient

        self._http = httpx.AsyncClient(
            base_url=self._host,
            # A handshake that hangs must end by itself: cancelled, it would leave a socket open.
            timeout=httpx.Timeout(self._timeout_s, connect=self._timeout_s * 0.4),
            verify=self._verify or httpx.create_ssl_context(),
            limits=httpx.Limits(max_connections=_CONNECTIONS),
            # Only what can be unpacked piece by piece, within bounds.
            headers={"accept-encoding": "gzip", "accept": "application/json"},
            follow_redirects=False,
        )
        self._client = IndexerClient(self._host, self._timeout_s)
        # Its own requests have no real timeout, a connection each, and keep no text or header.
        for name in ("markets", "account", "utility", "megavault", "affiliate"):
            module = getattr(self._client, name)
            typed = name in ("markets", "account", "utility")
            module.get = self._ask if typed else partial(self._ask, decode=_plain)
            module.post = _no_post
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    @property
    def client(self) -> Any:
        """The official client, for what has no method here; its calls return an `Answer` too."""
        if self._client is None:
            raise ConnError("expected Rest to be entered: async with Rest(…) as rest")
        return self._client

    @property
    def metrics(self) -> Metrics:
        """All that happened so far."""
        now_ns = self._clock_ns()
        return Metrics(
            endpoints={name: tally.metrics(now_ns) for name, tally in self._tallies.items()},
            groups={name: group.metrics(now_ns) for name, group in self._groups.items()},
            errors=dict(sum((tally.errors for tally in self._tallies.values()), Counter())),
            skew_s=self._skew[0],
            skew_within_s=self._skew[1],
        )

    async def _ask(
        self,
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        decode: Callable[[str, str], Any] = wire.rest_contents,
    ) -> Answer[Any]:
        question = _question(path, params)
        tally = self._tallies.setdefault(_endpoint(question), _Tally())
        tally.circuit, may = tally.circuit.asked(self._clock_ns())
        if not may:
            retry_s = tally.circuit.retry_in_ns(self._clock_ns()) / 1e9
            what = f"expected {_endpoint(question)} to work, but it failed {tally.circuit.failures}"
            error = Unreachable(f"{what} times; it is asked again in {retry_s:.1f} s",
                                path=question, wait_s=retry_s)  # fmt: skip
            return self._recall(question, tally, error, decode)
        turn = next(self._tickets), self._clock_ns() + int(self._patience_s * 1e9)
        tries = 0
        while True:
            try:
                return Answer(await self._try(question, tally, turn, decode))
            except RestError as error:
                if isinstance(error, RateLimited) and error.status:
                    continue  # in its turn, when the venue says; patience ends it
                tries += 1
                if tries >= error.tries or tally.circuit.state == "open":
                    return self._recall(question, tally, error, decode)
            # Full jitter: many who failed together must not come back together.
            await self._sleep(min(_BACKOFF_S * 2**tries, _BACKOFF_MOST_S) * self._chance())

    async def _try(
        self, question: str, tally: _Tally, turn: tuple[int, int], decode: Callable[[str, str], Any]
    ) -> Any:
        group = self._groups[_group(question)]
        verdict: Verdict = "gone"
        try:
            await self._turn(group, *turn, question)
            value, text = await self._exchange(question, tally, group, decode)
            verdict = "good"
            self._remember(question, tally, text)
            return value
        except RestError as error:
            verdict = error.verdict
            group.limited += error.status == 429
            tally.note(error, self._wall_ns())
            raise
        finally:
            tally.circuit = tally.circuit.heard(verdict, self._clock_ns())

    async def _turn(self, group: _Group, ticket: int, until_ns: int, question: str) -> None:
        wake = asyncio.Event()
        place, came_ns = (ticket, wake), self._clock_ns()
        heapq.heappush(group.queue, place)
        try:
            while True:
                wake.clear()
                now_ns = self._clock_ns()
                # Who was refused has the older ticket, and goes first.
                ahead = sum(other < ticket for other, _ in group.queue)
                wait_ns = group.allowance.wait_ns(now_ns, ahead)
                if not ahead and not wait_ns:
                    break
                if now_ns + wait_ns > until_ns:
                    what = f"expected a turn for {question} within {self._patience_s:g} s"
                    raise RateLimited(f"{what}, but the limit allows it in {wait_ns / 1e9:.1f} s",
                                      path=question, wait_s=wait_ns / 1e9)  # fmt: skip
                await self._pause(wake, None if ahead else wait_ns / 1e9)
        finally:
            group.queue.remove(place)
            heapq.heapify(group.queue)
            group.wake()
        group.allowance = group.allowance.asked()
        group.waits += now_ns > came_ns
        group.waited_ns += now_ns - came_ns

    async def _pause(self, wake: asyncio.Event, wait_s: float | None) -> None:
        either: list[asyncio.Future[object]] = [asyncio.ensure_future(wake.wait())]
        if wait_s is not None:
            either.append(asyncio.ensure_future(self._sleep(wait_s)))
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in either:
                each.cancel()

    async def _exchange(
        self, question: str, tally: _Tally, group: _Group, decode: Callable[[str, str], Any]
    ) -> tuple[Any, str]:
        tally.asked += 1
        told, began_ns, well = None, None, False
        try:
            async with self._seats:
                began_ns = self._clock_ns()
                status, headers, body = await self._fetch(question)
            told = Told.read(headers, refused=status == 429, wall_ns=self._wall_ns())
            tally.answered += 1
            self._compare_clocks(headers, self._clock_ns() - began_ns)
            text = _unicode(question, status, body)
            if self._on_answer is not None:
                self._on_answer("GET", question, status, text, headers)
            if refusal := _refusal(question, status, text):
                raise refusal
            value, well = _decoded(question, status, text, decode), True
            return value, text
        finally:
            now_ns = self._clock_ns()
            group.allowance = group.allowance.landed_at(now_ns, told)
            group.wake()
            if began_ns is not None:
                tally.recent.append((now_ns, now_ns - began_ns, well))

    async def _fetch(self, question: str) -> tuple[int, Mapping[str, str], bytes]:
        import httpx

        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._http.stream("GET", question) as response,
            ):
                return response.status_code, response.headers, await _body(response, question)
        except (TimeoutError, httpx.TimeoutException):
            what = f"expected {self._where} to answer {question} within {self._timeout_s:g} s"
            raise Unreachable(f"{what}, it did not", path=question) from None
        except httpx.TransportError as error:
            raise _unreachable(error, self._where, question) from error

    def _compare_clocks(self, headers: Mapping[str, str], took_ns: int) -> None:
        # A Date is cut to the second, and was written while we waited.
        if (said_ns := _date_ns(headers)) is not None:
            ahead_ns = self._wall_ns() - took_ns // 2 - said_ns - _S_NS // 2
            self._skew = ahead_ns / 1e9, (_S_NS + took_ns) / 2e9

    def _remember(self, question: str, tally: _Tally, text: str) -> None:
        tally.good_ns = self._clock_ns()
        if question in self._memory:
            self._remembered -= len(self._memory.pop(question)[1])
        self._memory[question] = tally.good_ns, text
        self._remembered += len(text)
        while self._remembered > _REMEMBERED:
            self._remembered -= len(self._memory.popitem(last=False)[1][1])

    def _recall(
        self, question: str, tally: _Tally, error: RestError, decode: Callable[[str, str], Any]
    ) -> Answer[Any]:
        if tally.circuit.state == "closed" or question not in self._memory:
            raise error
        tally.stale += 1
        at_ns, text = self._memory[question]
        age_s = (self._clock_ns() - at_ns) / 1e9
        return Answer(_decoded(question, 200, text, decode), age_s, stale=True)


async def _body(response: "httpx.Response", question: str) -> bytes:
    def bad(expected: str, got: str) -> BadAnswer:
        what = f"expected {expected} for {question}, got {got}"
        return BadAnswer(what, path=question, status=response.status_code)

    encoding = response.headers.get("content-encoding", "identity")
    if encoding not in ("gzip", "deflate", "identity"):
        raise bad("gzip or plain text", encoding)
    unpack = None if encoding == "identity" else zlib.decompressobj(zlib.MAX_WBITS | 32)
    body = bytearray()
    try:
        async for chunk in response.aiter_raw():
            # Never unpacked whole: a kilobyte of gzip can be a megabyte of text.
            body += unpack.decompress(chunk, MAX_BODY + 1 - len(body)) if unpack else chunk
            if len(body) > MAX_BODY:
                raise bad(f"at most {MAX_BODY} bytes", "more")
    except zlib.error as error:
        raise bad(encoding, str(error)) from None
    if unpack is not None and not unpack.eof:
        raise bad(encoding, "no end of it")
    return bytes(body)


async def _no_post(path: str, *_: object, **__: object) -> None:
    raise BadRequest(f"expected to be asked only, got a POST of {path}", path=path)


# === Rest ===


class Rows(TypedDict, total=False):
    """Which rows of a list, newest first: at most `limit` (1000), up to an instant in ISO."""

    limit: int | None
    created_before_or_at: str | None


class Pages(Rows, total=False):
    """The same, or page 1, 2, … of `limit` rows."""

    page: int | None


class Spans(Pages, total=False):
    """The same, or from an instant on."""

    created_on_or_after: str | None


class OrderChoice(TypedDict, total=False):
    """Which orders: of a ticker, a side, a type, some statuses; or those that end soon."""

    ticker: str | None
    side: str | None
    type: str | None
    status: Sequence[str] | None
    limit: int | None
    good_til_block_before_or_at: int | None
    good_til_block_time_before_or_at: str | None
    return_latest_orders: bool | None


_MOST: Final = 1000  # rows that an answer may have


class Rest(_Desk):
    """The indexer's endpoints; an async context manager, for one event loop.

        async with Rest(network("testnet")) as rest:
            book = await rest.order_book("BTC-USD")
            if not book.stale:
                print(book.value.bids[0])
            async for fill in rest.all_fills(Subaccount("dydx1…", 0)):
                print(fill.created_at, fill.size, fill.price)

    Each question waits its turn under the limit of its group, in order, for at most `patience_s`;
    takes at most `timeout_s` a try; and raises a `RestError`, or returns an earlier answer that
    says its age, if its endpoint keeps failing. `parent` asks for all children of a parent
    subaccount together.

    `on_answer` hears of each exchange that brought a text, refusals too: method, path with sorted
    query, status, body, headers. Clocks, sleep and chance are parameters so that tests don't wait.
    """

    # -- The market

    async def perpetual_markets(
        self, ticker: str | None = None
    ) -> Answer[dict[str, wire.MarketFields]]:
        """Return all markets by ticker, or the one."""
        return await self._part("markets", self.client.markets.get_perpetual_markets(ticker))

    async def order_book(self, ticker: str) -> Answer[wire.BookContents]:
        """Return a book: at most 100 levels a side, uncrossed by the venue."""
        ask = self.client.markets.get_perpetual_market_orderbook
        return await self._part("", ask(_segment(ticker)))

    async def trades(self, ticker: str, **rows: Unpack[Pages]) -> Answer[list[wire.TradeFields]]:
        """Return a market's trades."""
        path = f"/v4/trades/perpetualMarket/{_segment(ticker)}"
        return await self._part("trades", self.client.markets.get(path, _camel(rows)))

    async def candles(
        self, ticker: str, resolution: str, *, from_iso: str | None = None,
        to_iso: str | None = None, limit: int | None = None,
    ) -> Answer[list[wire.CandleFields]]:  # fmt: skip
        """Return candles that start at `from_iso` or later, and before `to_iso`."""
        ask = self.client.markets.get_perpetual_market_candles
        asked = ask(_segment(ticker), resolution, from_iso, to_iso, limit)
        return await self._part("candles", asked)

    async def historical_funding(
        self, ticker: str, *, limit: int | None = None, effective_before_or_at: str | None = None
    ) -> Answer[list[wire.FundingFields]]:
        """Return a market's hourly funding rates."""
        ask = self.client.markets.get_perpetual_market_historical_funding
        asked = ask(_segment(ticker), effective_before_or_at, limit=limit)
        return await self._part("historical_funding", asked)

    async def sparklines(self, period: str = "ONE_DAY") -> Answer[dict[str, list[str]]]:
        """Return closing prices by ticker, of ONE_DAY by hours or of SEVEN_DAYS by four hours."""
        return await self._part("", self.client.markets.get_perpetual_market_sparklines(period))

    async def height(self) -> Answer[wire.HeightContents]:
        """Return the block that the indexer has come to; the chain is ahead of it."""
        return await self._part("", self.client.utility.get_height())

    async def time(self) -> Answer[wire.TimeFields]:
        """Return the indexer's clock."""
        return await self._part("", self.client.utility.get_time())

    async def screen(self, address: str) -> Answer[wire.ScreenFields]:
        """Tell whether an address is restricted, as the older endpoint has it."""
        return await self._part("", self.client.utility.screen(address))

    async def compliance(self, address: str) -> Answer[wire.ComplianceFields]:
        """Return how an address stands with the venue."""
        return await self._part("", self.client.utility.compliance_screen(_segment(address)))

    # -- Accounts

    async def subaccounts(self, address: str) -> Answer[list[wire.SubaccountFields]]:
        """Return all subaccounts of an address; `NotFound` if none was ever funded."""
        ask = self.client.account.get_subaccounts
        return await self._part("subaccounts", ask(_segment(address)))

    async def subaccount(
        self, subaccount: Subaccount, *, parent: bool = False
    ) -> Answer[wire.SubaccountFields]:
        """Return a subaccount, or a parent with its children; `NotFound` if never funded."""
        account = self.client.account
        ask = account.get_parent_subaccount if parent else account.get_subaccount
        return await self._part("subaccount", ask(_segment(subaccount.owner), subaccount.number))

    async def positions(
        self, subaccount: Subaccount, *, parent: bool = False,
        status: Sequence[str] | None = None, **rows: Unpack[Rows],
    ) -> Answer[list[wire.PositionFields]]:  # fmt: skip
        """Return perpetual positions: OPEN, CLOSED, LIQUIDATED ones, or all."""
        where = "/v4/perpetualPositions", "positions", subaccount, parent
        return await self._account(*where, rows, status=status)

    async def asset_positions(
        self, subaccount: Subaccount, *, parent: bool = False
    ) -> Answer[list[wire.AssetPositionFields]]:
        """Return what a subaccount holds in assets: USDC, owed if its side is SHORT."""
        return await self._account("/v4/assetPositions", "positions", subaccount, parent)

    async def orders(
        self, subaccount: Subaccount, *, parent: bool = False, **chosen: Unpack[OrderChoice]
    ) -> Answer[list[wire.OrderFields]]:
        """Return orders, of some statuses (OPEN, UNTRIGGERED, BEST_EFFORT_OPENED…) or all."""
        return await self._account("/v4/orders", "", subaccount, parent, chosen)

    async def order(self, order_id: str) -> Answer[wire.OrderFields]:
        """Return one order by the indexer's id; `NotFound` if it has not seen it."""
        return await self._part("", self.client.account.get_order(_segment(order_id)))

    async def fills(
        self, subaccount: Subaccount, *, parent: bool = False, ticker: str | None = None,
        **rows: Unpack[Pages],
    ) -> Answer[list[wire.FillFields]]:  # fmt: skip
        """Return fills; with `page`, in the order in which the venue pages them."""
        where = "/v4/fills", "fills", subaccount, parent
        return await self._account(*where, rows, **_market(ticker))

    async def trade_history(
        self, subaccount: Subaccount, *, parent: bool = False, ticker: str | None = None,
        limit: int | None = None, page: int | None = None,
    ) -> Answer[list[wire.TradeHistoryFields]]:  # fmt: skip
        """Return what fills did to positions, with the profit of each."""
        where = "/v4/tradeHistory", "trade_history", subaccount, parent
        return await self._account(*where, limit=limit, page=page, **_market(ticker))

    async def transfers(
        self, subaccount: Subaccount, *, parent: bool = False, **rows: Unpack[Pages]
    ) -> Answer[list[wire.TransferFields]]:
        """Return deposits, withdrawals and transfers."""
        return await self._account("/v4/transfers", "transfers", subaccount, parent, rows)

    async def transfers_between(
        self, source: Subaccount, recipient: Subaccount, *, created_before_or_at: str | None = None
    ) -> Answer[list[wire.TransferFields]]:
        """Return the transfers between two subaccounts."""
        ask = self.client.account.get_transfer_between
        ends = source.owner, source.number, recipient.owner, recipient.number
        asked = ask(*ends, created_before_or_at=created_before_or_at)
        return await self._part("transfers_subset", asked)

    async def funding_payments(
        self, subaccount: Subaccount, *, parent: bool = False, ticker: str | None = None,
        limit: int | None = None, page: int | None = None, after_or_at: str | None = None,
    ) -> Answer[list[wire.FundingPaymentFields]]:  # fmt: skip
        """Return funding payments, of one hour and position each."""
        where = "/v4/fundingPayments", "funding_payments", subaccount, parent
        rows = {"limit": limit, "page": page, "after_or_at": after_or_at}
        return await self._account(*where, rows, ticker=ticker)

    async def historical_pnl(
        self, subaccount: Subaccount, *, parent: bool = False, **rows: Unpack[Spans]
    ) -> Answer[list[wire.PnlFields]]:
        """Return equity and total profit as they were, hour by hour."""
        return await self._account("/v4/historical-pnl", "historical_pnl", subaccount, parent, rows)

    async def pnl(
        self, subaccount: Subaccount, *, parent: bool = False, daily: bool | None = None,
        **rows: Unpack[Spans],
    ) -> Answer[list[wire.PnlFields]]:  # fmt: skip
        """Return the same as the newer endpoint counts it, by the hour or `daily`."""
        return await self._account("/v4/pnl", "pnl", subaccount, parent, rows, daily=daily)

    # -- Walks: every row once, however many pages; never from memory of a failing endpoint

    def all_trades(self, ticker: str) -> AsyncIterator[wire.TradeFields]:
        """Walk all trades of a market."""
        return _by_page(partial(self.trades, ticker), attrgetter("id"))

    def all_candles(
        self, ticker: str, resolution: str, *, from_iso: str | None = None
    ) -> AsyncIterator[wire.CandleFields]:
        """Walk candles from the newest back to `from_iso`, or to the first."""
        ask, start = partial(self.candles, from_iso=from_iso), attrgetter("started_at")
        return _by_time(partial(ask, ticker, resolution), "to_iso", start, start)

    def all_historical_funding(self, ticker: str) -> AsyncIterator[wire.FundingFields]:
        """Walk all hourly funding rates of a market, newest first."""
        ask, at = partial(self.historical_funding, ticker), attrgetter("effective_at")
        return _by_time(ask, "effective_before_or_at", at, at)

    def all_positions(
        self, subaccount: Subaccount, *, parent: bool = False
    ) -> AsyncIterator[wire.PositionFields]:
        """Walk all positions, those closed too, newest first."""
        ask, at = partial(self.positions, subaccount, parent=parent), attrgetter("created_at")
        key = attrgetter("market", "created_at", "subaccount_number")
        return _by_time(ask, "created_before_or_at", at, key)

    def all_fills(
        self, subaccount: Subaccount, *, parent: bool = False, ticker: str | None = None
    ) -> AsyncIterator[wire.FillFields]:
        """Walk all fills."""
        ask = partial(self.fills, subaccount, parent=parent, ticker=ticker)
        return _by_page(ask, attrgetter("id"))

    def all_transfers(
        self, subaccount: Subaccount, *, parent: bool = False
    ) -> AsyncIterator[wire.TransferFields]:
        """Walk all transfers."""
        ask = partial(self.transfers, subaccount, parent=parent)
        return _by_page(ask, attrgetter("id"))

    def all_funding_payments(
        self, subaccount: Subaccount, *, parent: bool = False, ticker: str | None = None
    ) -> AsyncIterator[wire.FundingPaymentFields]:
        """Walk all funding payments."""
        ask = partial(self.funding_payments, subaccount, parent=parent, ticker=ticker)
        return _by_page(ask, attrgetter("ticker", "created_at", "subaccount_number"), None)

    def all_historical_pnl(self, subaccount: Subaccount) -> AsyncIterator[wire.PnlFields]:
        """Walk all hours of an account's profit."""
        ask = partial(self.historical_pnl, subaccount)
        return _by_page(ask, attrgetter("created_at", "block_height"))

    async def _account(
        self, path: str, part: str, subaccount: Subaccount, parent: bool,
        rows: Mapping[str, Any] = {}, **more: Any,
    ) -> Answer[Any]:  # fmt: skip
        # Not by the client's own methods: they know no pages, and filter fills by a parameter
        # that the venue does not have, so that it answers with all of them.
        number = "parentSubaccountNumber" if parent else "subaccountNumber"
        twin = "/parentSubaccount" if path == "/v4/fundingPayments" else "/parentSubaccountNumber"
        who = {"address": subaccount.owner, number: subaccount.number}
        asked = {**who, **_camel(rows), **_camel(more)}
        return await self._part(part, self.client.account.get(path + twin * parent, asked))

    @staticmethod
    async def _part(part: str, asked: Awaitable[Answer[Any]]) -> Answer[Any]:
        answer = await asked
        value = getattr(answer.value, part) if part else answer.value
        if value is None:
            raise BadAnswer(f"expected {part} in the answer, got none")
        return replace(answer, value=value)


def _market(ticker: str | None) -> dict[str, Any]:
    return {"market": ticker, "marketType": ticker and "PERPETUAL"}


def _camel(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {re.sub("_(.)", lambda m: m[1].upper(), name): v for name, v in parameters.items()}


async def _by_page(
    ask: Callable[..., Awaitable[Answer[list[_T]]]], key: Callable[[_T], Hashable],
    time_of: Callable[[_T], str] | None = attrgetter("created_at"),
) -> AsyncIterator[_T]:  # fmt: skip
    seen: set[Hashable] = set()
    for page in itertools.count(1):
        rows = _fresh(await ask(limit=_MOST, page=page))
        # What is new pushes rows to later pages, where they are seen again.
        new = _new(rows, seen, key)
        for row in new:
            yield row
        if len(rows) < _MOST:
            return
        if not new:
            break  # the same page again: some parents' lists know no pages, and say nothing
    if time_of is None:
        raise BadAnswer("expected the next page, got the same again: the walk cannot go on")
    async for row in _by_time(ask, "created_before_or_at", time_of, key, seen):
        yield row


async def _by_time(
    ask: Callable[..., Awaitable[Answer[list[_T]]]], bound: str, time_of: Callable[[_T], str],
    key: Callable[[_T], Hashable], seen: set[Hashable] | None = None,
) -> AsyncIterator[_T]:  # fmt: skip
    seen = set() if seen is None else seen
    before = None
    while True:
        rows = _fresh(await ask(limit=_MOST, **{bound: before}))
        for row in _new(rows, seen, key):
            yield row
        if len(rows) < _MOST:
            return
        if time_of(rows[-1]) == before:
            what = f"expected less than {_MOST} rows at one instant"
            raise BadAnswer(f"{what}, got more at {before}: the walk cannot go on")
        before = time_of(rows[-1])


def _fresh(answer: Answer[list[_T]]) -> list[_T]:
    if answer.stale:
        what = "expected the next page, got one from memory"
        raise Unreachable(f"{what} that is {answer.age_s:.0f} s old: the endpoint fails")
    return answer.value


def _new(rows: list[_T], seen: set[Hashable], key: Callable[[_T], Hashable]) -> list[_T]:
    new = {key(row): row for row in rows if key(row) not in seen}
    seen.update(new)
    return list(new.values())
