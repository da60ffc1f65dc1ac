"""The audit's scenarios of bad answers: REST against an address on the loopback that fails.

    script ──► Venue, on 127.0.0.1 ◄── HTTP ── Rest ──► ERRORS ──► bot.audit.command

`Rest` is the one that every run speaks through. Time passes only where it waits, and at once.
"""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Iterator
from functools import cache
from typing import Any, Final

from dydx_conn import (
    BadRequest,
    Forbidden,
    Network,
    Rest,
    RestError,
    ServerError,
    Unreachable,
)

from bot.audit.scenarios import Evidence, Group, above, has

ERRORS: Final = Group("REST errors")

# === Loopback ===


class Clock:
    """Time that passes only where somebody waits for it; `waits` has each wait, in seconds."""

    def __init__(self) -> None:
        self.ns = 1_795_000_000 * 10**9
        self.waits: list[float] = []

    def __call__(self) -> int:
        """Return the time in nanoseconds."""
        return self.ns

    async def sleep(self, seconds: float) -> None:
        """Wait: the time is later at once."""
        self.ns += round(seconds * 1e9)
        self.waits.append(round(seconds, 3))
        await asyncio.sleep(0)


class Venue:
    """An HTTP server on the loopback that answers with a script; the last answer is for ever.

    An answer is a status, a body and headers; None is silence.
    """

    def __init__(self, *script: tuple[int, str, dict[str, str]] | None) -> None:
        self.script = [*script]
        self.paths: list[str] = []
        self.open: list[asyncio.Task[Any] | None] = []  # connections that are served

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until its end."""
        self.open.append(asyncio.current_task())
        try:
            while request := await reader.readline():
                while (await reader.readline()).strip():
                    pass
                self.paths.append(request.split()[1].decode())
                step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                if step is None:
                    await reader.read()  # until whoever waits has gone
                    return
                writer.write(_http(*step))
                await writer.drain()
        except OSError:
            return
        finally:
            writer.close()


def _http(status: int, body: str, headers: dict[str, str]) -> bytes:
    fields = {"content-length": str(len(body)), "content-type": "application/json", **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} x\r\n{head}\r\n{body}".encode()


HEIGHT: Final = (200, '{"height":"7","time":"2026-01-05T13:56:00.000Z"}', dict[str, str]())
TRADES: Final = (200, '{"trades":[]}', dict[str, str]())


def _refusal(status: int, msg: str, **headers: str) -> tuple[int, str, dict[str, str]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, json.dumps({"errors": [{"msg": msg, "param": "limit"}]}), named


def _talk(
    venue: Venue, talk: Callable[[Rest], Awaitable[Any]], *, timeout_s: float = 5.0
) -> tuple[Any, Clock]:
    """Let Rest talk to a venue on the loopback; return what came of it, and the waits."""
    clock = Clock()

    async def spoken() -> Any:
        server = await asyncio.start_server(venue, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        net = Network("local", f"http://127.0.0.1:{port}", "", "", "")
        rest = Rest(
            net, clock_ns=clock, wall_ns=clock, sleep=clock.sleep, chance=lambda: 1.0,
            timeout_s=timeout_s, verify=_context(),
        )  # fmt: skip
        async with server:
            async with rest:
                found = await talk(rest)
            async with asyncio.timeout(5.0):
                await asyncio.gather(*filter(None, venue.open))
        return found

    return asyncio.run(spoken()), clock


@cache
def _context() -> ssl.SSLContext:
    # To read the system's certificates takes longer than all the talk.
    return ssl.create_default_context()


async def _failure(request: Awaitable[Any]) -> RestError:
    try:
        await request
    except RestError as error:
        return error
    raise LookupError("expected a failure, got an answer")


# === Scenarios ===


@ERRORS.shows(
    "400 bad request",
    "it is not tried again, and the message names what was wrong, in the venue's words",
    "conn/rest::a_refusal_is_an_error_in_the_venues_words",
    "conn/rest_client::a_failure_shows_what_to_do",
)
def _bad_request() -> Iterator[Evidence]:
    venue = Venue(_refusal(400, "limit must be a positive integer"))
    error, _ = _talk(venue, lambda rest: _failure(rest.height()))
    yield Evidence("kind", BadRequest.__name__, type(error).__name__)
    yield Evidence("requests", 1, len(venue.paths))
    yield Evidence("it names the parameter", has("limit must be a positive integer"), str(error))


@ERRORS.shows(
    "429 too many requests",
    "it waits as long as the venue orders, then goes first; the others behind it, in order",
    "conn/rest_client::a_rate_limited_request_waits_as_ordered_and_goes_first",
    "conn/rest_client::many_questions_go_in_order_and_never_above_the_limit",
    "conn/rest_limits::no_window_of_the_venues_is_ever_exceeded",
)
def _rate_limited() -> Iterator[Evidence]:
    start = Clock().ns // 10**6
    order = {
        "retry_after": "2500",
        "ratelimit_reset": str(start + 4_000),
        "ratelimit_remaining": "0",
    }
    venue = Venue(_refusal(429, "Too many requests", **order), TRADES)

    async def talk(rest: Rest) -> Any:
        await asyncio.gather(*(rest.trades("BTC-USD", limit=n) for n in (1, 2, 3)))
        return rest.metrics.groups["default"]

    group, clock = _talk(venue, talk)
    yield Evidence("limits in the order of requests", ["1", "2", "3"], _last_three(venue))
    yield Evidence("refused, and counted", above(0), group.limited)
    yield Evidence("requests that waited, as health and metrics have it", above(0), group.waits)
    waited = (clock.ns - Clock().ns) / 1e9
    yield Evidence("seconds waited, 4 were ordered", above(3.9), waited)


@ERRORS.shows(
    "500 server error",
    "four tries with back-off that doubles, then the failure is reported",
    "conn/rest_client::a_server_in_trouble_is_given_ever_more_time",
    "conn/rest_client::a_hiccup_is_not_seen_by_the_caller",
)
def _server_error() -> Iterator[Evidence]:
    venue = Venue(_refusal(500, "x"))
    error, clock = _talk(venue, lambda rest: _failure(rest.height()))
    yield Evidence("kind", ServerError.__name__, type(error).__name__)
    yield Evidence("requests", 4, len(venue.paths))
    yield Evidence(
        "seconds between them, at most", ["0.5", "1.0", "2.0"], [f"{s}" for s in clock.waits]
    )
    well, _ = _talk(Venue(_refusal(503, "x"), HEIGHT), lambda rest: rest.height())
    yield Evidence("one hiccup is not noticed: height", "7", str(well.value.height))


@ERRORS.shows(
    "no answer in time",
    "three tries, then it is given up, with what was waited for and how long",
    "conn/rest_client::what_is_not_answered_in_time_is_given_up",
)
def _timeout() -> Iterator[Evidence]:
    venue = Venue(None)
    error, _ = _talk(venue, lambda rest: _failure(rest.height()), timeout_s=0.1)
    yield Evidence("kind", Unreachable.__name__, type(error).__name__)
    yield Evidence("requests", 3, len(venue.paths))
    yield Evidence("it says how long", has("within 0.1 s, got none"), str(error))


@ERRORS.shows(
    "breaker open",
    "after five failures in a row an endpoint is spared, and its last answer shown with its age",
    "conn/rest_client::a_failing_endpoint_is_spared_and_its_last_answer_shown_with_its_age",
    "conn/rest_limits::five_failures_in_a_row_open_it",
    "conn/rest_limits::one_trial_decides",
)
def _breaker() -> Iterator[Evidence]:
    venue = Venue(HEIGHT, _refusal(500, "x"))

    async def talk(rest: Rest) -> Any:
        await rest.height()
        await _failure(rest.height())
        fifth = await rest.height()
        requests = len(venue.paths)
        spared = await rest.height()
        endpoint = rest.metrics.endpoints["/v4/height"]
        return fifth.stale, spared.stale, spared.age_s, len(venue.paths) - requests, endpoint

    (fifth, spared, aged, more, endpoint), _ = _talk(venue, talk)
    yield Evidence("at the fifth failure: an earlier answer", True, fifth)
    yield Evidence("and after it", True, spared)
    yield Evidence("with its age, in seconds", above(0), aged)
    yield Evidence("requests sent for it", 0, more)
    yield Evidence("circuit, as health and metrics have it", "open", endpoint.circuit)


@ERRORS.shows(
    "403 refused region",
    "a refused region is tried once, and again only after ten minutes",
    "conn/rest_client::a_refused_region_is_requested_again_after_ten_minutes",
    "conn/rest_client::all_that_happened_is_one_value_of_json",
)
def _forbidden() -> Iterator[Evidence]:
    venue = Venue(_refusal(403, "GEOBLOCKED"))

    async def talk(rest: Rest) -> Any:
        first, second = await _failure(rest.height()), await _failure(rest.height())
        return first, second, rest.metrics.errors

    (first, second, errors), _ = _talk(venue, talk)
    yield Evidence("kind", Forbidden.__name__, type(first).__name__)
    yield Evidence("requests of two", 1, len(venue.paths))
    yield Evidence("again in seconds", 600, round(second.wait_s))
    yield Evidence("errors counted of the class Forbidden", above(0), errors.get("Forbidden", 0))


def _last_three(venue: Venue) -> list[str]:
    answered = list(dict.fromkeys(path.rpartition("=")[2] for path in venue.paths))
    return answered[-3:]
