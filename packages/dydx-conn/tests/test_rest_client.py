"""Rest against a venue that is written in each test, in time that passes only when all wait."""

import asyncio
import dataclasses
import functools
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from email.utils import formatdate
from typing import Any

import dydx_conn
import httpx
import msgspec
import pytest
from dydx_conn import (
    ENDPOINTS,
    MAX_BODY,
    Answer,
    BadAnswer,
    BadRequest,
    ConnError,
    Forbidden,
    Network,
    NotFound,
    RateLimited,
    Rest,
    RestError,
    ServerError,
    Subaccount,
    Unreachable,
    choose_address,
)

VENUE = Network("local", "http://venue:3002", "", "", "")
ALICE = Subaccount("dydx1alice", 0)
HEIGHT = '{"height":"7","time":"2026-01-05T13:56:00.000Z"}'
WALL_S = 1_795_000_000


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time stands still while anybody can go on, and then jumps to the next."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        selector: Any = self._selector  # type: ignore[attr-defined]  # of BaseSelectorEventLoop
        look = selector.select

        def select(timeout: float | None) -> Any:
            if timeout:
                self.now += timeout
            return look(0 if timeout is not None else None)

        selector.select = select

    def time(self) -> float:
        return self.now


class Venue:
    """Answers with `script` in turn, the last one for ever; stores time and path of requests."""

    def __init__(self, *script: Any, latency_s: float = 0.05) -> None:
        self.script = list(script)
        self.latency_s = latency_s
        self.requested: list[tuple[float, str]] = []
        self.flying = self.most_flying = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requested.append((asyncio.get_running_loop().time(), request.url.raw_path.decode()))
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        self.flying += 1
        self.most_flying = max(self.most_flying, self.flying)
        try:
            await asyncio.sleep(self.latency_s)
        finally:
            self.flying -= 1
        if callable(step):
            step = step(request)
        if isinstance(step, Exception):
            raise step
        return step if isinstance(step, httpx.Response) else response(200, step)

    @property
    def paths(self) -> list[str]:
        return [path for _, path in self.requested]

    @property
    def times(self) -> list[float]:
        return [round(at, 3) for at, _ in self.requested]


def response(status: int, body: str | bytes = HEIGHT, **headers: str) -> httpx.Response:
    """Make an answer that is not read yet, as one from the network is not."""
    raw = body.encode() if isinstance(body, str) else body
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers=named, stream=httpx.ByteStream(raw))


def refused(msg: str, status: int = 400, **more: str) -> httpx.Response:
    """Make a refusal as the indexer words it."""
    return response(status, json.dumps({"errors": [{"msg": msg, **more}]}))


class Endless(httpx.AsyncByteStream):
    """A body in pieces, for ever if need be; counts those that were taken."""

    def __init__(self, chunk: bytes, pause_s: float = 0.0, count: int | None = None) -> None:
        self.chunk, self.pause_s, self.count = chunk, pause_s, count
        self.taken = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self.taken != self.count:
            self.taken += 1
            await asyncio.sleep(self.pause_s)
            yield self.chunk

    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture
def query(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run `talk(rest)` against a venue, in virtual time."""

    def run(
        venue: Callable[..., Awaitable[httpx.Response]],
        talk: Callable[[Rest], Coroutine[Any, Any, Any]],
        **options: Any,
    ) -> Any:
        monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", venue)
        loop = VirtualLoop()

        async def session() -> Any:
            async with Rest(
                options.pop("network", VENUE),
                **{
                    "clock_ns": lambda: round(loop.time() * 1e9),
                    "wall_ns": lambda: round((WALL_S + loop.time()) * 1e9),
                    "chance": lambda: 1.0,
                    **options,
                },
            ) as rest:
                return await talk(rest)

        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(session())

    return run


async def failure(request: Awaitable[object]) -> RestError:
    """Return the error that a request ends with."""
    with pytest.raises(RestError) as caught:
        await request
    return caught.value


async def outcomes(requests: Iterable[Awaitable[Any]]) -> list[Any]:
    """Return answers and errors of requests put at once."""
    return await asyncio.gather(*requests, return_exceptions=True)


# === Questions ===


@pytest.mark.parametrize(
    ("put", "path"),
    [
        (lambda r: r.perpetual_markets(), "/v4/perpetualMarkets"),
        (lambda r: r.perpetual_markets("A&B=1 C"), "/v4/perpetualMarkets?ticker=A%26B%3D1%20C"),
        (lambda r: r.order_book("A,B-USD"), "/v4/orderbooks/perpetualMarket/A%2CB-USD"),
        (lambda r: r.order_book("../time?x"), "/v4/orderbooks/perpetualMarket/..%2Ftime%3Fx"),
        (
            lambda r: r.trades("X", limit=3, created_before_or_at="2026-01-05T13:56:00+00:00"),
            "/v4/trades/perpetualMarket/X?createdBeforeOrAt=2026-01-05T13:56:00%2B00:00&limit=3",
        ),
        (
            lambda r: r.candles("X", "1MIN", from_iso="2026-01-05T13:56:00Z"),
            "/v4/candles/perpetualMarkets/X?fromISO=2026-01-05T13:56:00Z&resolution=1MIN",
        ),
        (lambda r: r.historical_funding("X", limit=1), "/v4/historicalFunding/X?limit=1"),
        (lambda r: r.sparklines(), "/v4/sparklines?timePeriod=ONE_DAY"),
        (lambda r: r.time(), "/v4/time"),
        (lambda r: r.screen("a"), "/v4/screen?address=a"),
        (lambda r: r.compliance("a"), "/v4/compliance/screen/a"),
        (lambda r: r.subaccounts("a"), "/v4/addresses/a"),
        (lambda r: r.subaccount(ALICE), "/v4/addresses/dydx1alice/subaccountNumber/0"),
        (
            lambda r: r.subaccount(ALICE, parent=True),
            "/v4/addresses/dydx1alice/parentSubaccountNumber/0",
        ),
        (
            lambda r: r.positions(ALICE, status=["OPEN", "CLOSED"], limit=None),
            "/v4/perpetualPositions?address=dydx1alice&status=OPEN,CLOSED&subaccountNumber=0",
        ),
        (
            lambda r: r.asset_positions(ALICE, parent=True),
            "/v4/assetPositions/parentSubaccountNumber?address=dydx1alice&parentSubaccountNumber=0",
        ),
        (
            lambda r: r.orders(ALICE, return_latest_orders=False, good_til_block_before_or_at=9),
            "/v4/orders?address=dydx1alice&goodTilBlockBeforeOrAt=9&returnLatestOrders=false"
            "&subaccountNumber=0",
        ),
        (lambda r: r.order("b-1"), "/v4/orders/b-1"),
        (
            lambda r: r.fills(ALICE, ticker="X", page=2),
            "/v4/fills?address=dydx1alice&market=X&marketType=PERPETUAL&page=2&subaccountNumber=0",
        ),
        (
            lambda r: r.trade_history(ALICE, limit=5),
            "/v4/tradeHistory?address=dydx1alice&limit=5&subaccountNumber=0",
        ),
        (
            lambda r: r.transfers(ALICE, parent=True),
            "/v4/transfers/parentSubaccountNumber?address=dydx1alice&parentSubaccountNumber=0",
        ),
        (
            lambda r: r.transfers_between(ALICE, Subaccount("b", 1)),
            "/v4/transfers/between?recipientAddress=b&recipientSubaccountNumber=1"
            "&sourceAddress=dydx1alice&sourceSubaccountNumber=0",
        ),
        (
            lambda r: r.funding_payments(ALICE, parent=True, ticker="X", after_or_at="t"),
            "/v4/fundingPayments/parentSubaccount?address=dydx1alice&afterOrAt=t"
            "&parentSubaccountNumber=0&ticker=X",
        ),
        (
            lambda r: r.historical_pnl(ALICE, created_on_or_after="t"),
            "/v4/historical-pnl?address=dydx1alice&createdOnOrAfter=t&subaccountNumber=0",
        ),
        (
            lambda r: r.pnl(ALICE, daily=True, limit=2),
            "/v4/pnl?address=dydx1alice&daily=true&limit=2&subaccountNumber=0",
        ),
        (
            lambda r: r.client.megavault.get_megavault_positions(),
            "/v4/vault/v1/megavault/positions",
        ),
        (
            lambda r: r.client.affiliate.get_address("a b"),
            "/v4/affiliates/address?referralCode=a%20b",
        ),
    ],
)
def test_a_question_is_written_as_the_venue_reads_it(
    query: Callable[..., Any], put: Callable[[Rest], Awaitable[object]], path: str
) -> None:
    """Names sorted, nothing for None, a list as words with commas, the rest escaped."""
    venue = Venue(refused("not now"))

    query(venue, lambda rest: failure(put(rest)))

    assert venue.paths == [path]


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_would_change_the_path_is_not_sent(
    query: Callable[..., Any], name: str
) -> None:
    """The message names it."""
    venue = Venue(HEIGHT)

    error = query(venue, lambda rest: failure(rest.order_book(name)))

    assert isinstance(error, BadRequest)
    assert (str(error), venue.requested) == (
        f"expected a ticker, an address or an id, got {name!r}",
        [],
    )


def test_answers_have_types_and_no_age(query: Callable[..., Any]) -> None:
    """What dydx_conn makes of the same text."""
    answer = query(Venue(HEIGHT), lambda rest: rest.height())

    assert answer == Answer(answer.value)
    assert (answer.value.height, answer.age_s, answer.stale) == ("7", 0.0, False)


def test_the_official_client_has_no_way_around(query: Callable[..., Any]) -> None:
    """Its own requests go the same way, and are answered in JSON where no type is known."""

    async def talk(rest: Rest) -> Any:
        positions = await rest.client.megavault.get_megavault_positions()
        refusal = await failure(rest.client.megavault.get_megavault_positions())
        with pytest.raises(BadRequest, match="expected a GET, got a POST of /v4/x"):
            await rest.client.account.post("/v4/x")
        return positions, refusal, rest.metrics.endpoints

    positions, refusal, endpoints = query(
        Venue('{"positions":[]}', lambda _: response(200, '{"errors":[{"msg":"no"}]}')), talk
    )

    assert positions.value == {"positions": []}
    assert isinstance(refusal, BadAnswer)
    assert endpoints["/v4/vault/v1/megavault/positions"].requested == 3


def test_rest_has_to_be_entered() -> None:
    """The message shows how."""
    with pytest.raises(ConnError, match=r"expected to be in `async with Rest\(…\)"):
        asyncio.run(Rest(VENUE).height())


def test_each_exchange_is_reported_word_by_word(query: Callable[..., Any]) -> None:
    """Refusals too; what was never answered is not an exchange."""
    reported: list[Any] = []
    venue = Venue(refused("broken", 500), httpx.ConnectError("refused"), response(200, HEIGHT))

    query(venue, lambda rest: rest.height(), on_answer=lambda *what: reported.append(what[:4]))

    assert reported == [
        ("GET", "/v4/height", 500, '{"errors": [{"msg": "broken"}]}'),
        ("GET", "/v4/height", 200, HEIGHT),
    ]


# === Refusals ===


@pytest.mark.parametrize(
    ("answer", "kind", "tries", "words"),
    [
        (
            refused("limit must be a positive integer", 400, param="limit"),
            BadRequest,
            1,
            "expected the answer of /v4/height, got 400: limit must be a positive integer (limit)",
        ),
        (response(405, ""), BadRequest, 1, "got 405: an empty body"),
        (
            refused("Because you appear to be a resident of …", 403, code="GEOBLOCKED"),
            Forbidden,
            1,
            "got 403: Because you appear to be a resident of … [GEOBLOCKED]",
        ),
        (response(403, "<!DOCTYPE html><title>No</title>"), Forbidden, 1, "a page of HTML, 'No'"),
        (response(451, "no"), Forbidden, 1, "got 451: 'no'"),
        (refused("Unable to find order id x", 404), NotFound, 1, "Unable to find order id x"),
        (refused("Internal Server Error", 500), ServerError, 4, "got 500: Internal Server Error"),
        (
            response(502, "<html><head><title>502 Bad Gateway</title></head>"),
            ServerError,
            4,
            "got 502: a page of HTML, '502 Bad Gateway'",
        ),
        (response(503, '{"errors":[]}'), ServerError, 4, "got 503: no reason"),
        (response(307, "", location="http://evil"), BadAnswer, 2, "got 307: an empty body"),
        (response(999, "?"), BadAnswer, 2, "got 999: '?'"),
        (
            response(200, "<html><body>maintenance</body></html>"),
            BadAnswer,
            2,
            "got 200 with a page of HTML: JSON is malformed",
        ),
        (
            response(200, '{"errors":[{"msg":"Too many requests"}]}'),
            BadAnswer,
            2,
            "got 200 with an error: Too many requests",
        ),
        (response(200, '{"height":"7"'), BadAnswer, 2, 'got 200 with \'{"height":"7"\''),
        (response(200, "[]"), BadAnswer, 2, "got 200 with '[]'"),
        (response(200, "[" * 200_000), BadAnswer, 2, "got 200 with '[[["),
        (response(200, b"\xff\xfe"), BadAnswer, 2, "in UTF-8, got"),
        (response(204, ""), BadAnswer, 2, "got 204: an empty body"),
        (response(200, b"x", content_encoding="br"), BadAnswer, 2, "or plain text for"),
        (response(200, b"<html", content_encoding="gzip"), BadAnswer, 2, "incorrect header check"),
        (
            response(200, b"\x1f\x8b", content_encoding="gzip"),
            BadAnswer,
            2,
            "expected gzip for /v4/height, got",
        ),
        (httpx.ConnectError("no route"), Unreachable, 3, "got ConnectError: no route"),
        (httpx.RemoteProtocolError("cut"), Unreachable, 3, "got RemoteProtocolError: cut"),
    ],
)
def test_a_failure_shows_what_to_do(
    query: Callable[..., Any], answer: Any, kind: type[RestError], tries: int, words: str
) -> None:
    """By its class; the message names what was expected and what it was."""

    def again(_request: httpx.Request) -> Any:
        if isinstance(answer, Exception):
            return answer
        raw = b"".join(answer.stream)
        return httpx.Response(
            answer.status_code, headers=answer.headers, stream=httpx.ByteStream(raw)
        )

    venue = Venue(again)
    error = query(venue, lambda rest: failure(rest.height()))

    assert type(error) is kind
    assert words in str(error)
    assert (len(venue.requested), error.path) == (tries, "/v4/height")


def test_a_subaccount_never_funded_is_no_wrong_address(query: Callable[..., Any]) -> None:
    """Both may be a 404, but only the first is the indexer's own word."""
    own = Venue(refused("No subaccount found with address dydx1alice", 404))
    proxy = Venue(lambda _: response(404, "<html>nginx</html>"))

    unknown, other = (
        query(venue, lambda r: failure(r.subaccount(ALICE))) for venue in (own, proxy)
    )

    assert (type(unknown), unknown.never_funded) == (NotFound, True)
    assert type(other) is BadAnswer


@pytest.mark.parametrize("wrong", ["null", "{}", '{"message":"Service Unavailable"}'])
def test_what_is_no_answer_is_requested_once_more(query: Callable[..., Any], wrong: str) -> None:
    """A proxy that answered in the venue's place may not again."""
    venue = Venue(wrong, HEIGHT)

    assert query(venue, lambda rest: rest.height()).value.height == "7"
    assert len(venue.requested) == 2


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("{}", "missing required field `subaccount`"),
        ('{"message":"Service Unavailable"}', "missing required field `subaccount`"),
        ('{"subaccount":{"equity":"0"}}', "Expected positions and balances, or children"),
    ],
)
def test_an_answer_without_its_part_is_none(query: Callable[..., Any], body: str, why: str) -> None:
    """The socket may omit an account that was never funded, REST may not."""
    error = query(Venue(body), lambda rest: failure(rest.subaccount(ALICE)))

    assert isinstance(error, BadAnswer)
    assert why in str(error)


def test_a_status_between_a_good_one_and_a_redirect_is_no_answer(
    query: Callable[..., Any],
) -> None:
    """Only a 200 with the expected content is one."""
    venue = Venue(lambda _: response(203))

    error = query(venue, lambda rest: failure(rest.height()))

    assert isinstance(error, BadAnswer)
    assert "got 203" in str(error)


def test_a_refused_region_is_requested_again_after_ten_minutes(query: Callable[..., Any]) -> None:
    """Of the endpoint that refused it; others are not spared, and the reason stays the same."""
    venue = Venue(refused("not here", 403, code="GEOBLOCKED"), HEIGHT)

    async def talk(rest: Rest) -> Any:
        errors = [await failure(rest.trades("A-USD")) for _ in range(3)]
        await rest.height()
        await asyncio.sleep(601)
        return errors, await failure(rest.trades("B-USD"))

    errors, later = query(venue, talk)

    assert {type(error) for error in errors} == {Forbidden}
    assert {str(error) for error in errors} == {
        "expected the answer of /v4/trades/perpetualMarket/A-USD, got 403: "
        "not here [GEOBLOCKED] (the venue refuses this region or address)"
    }
    assert errors[-1].wait_s > 590
    assert venue.paths == [
        "/v4/trades/perpetualMarket/A-USD",
        "/v4/height",
        *["/v4/trades/perpetualMarket/B-USD"] * 2,
    ]
    assert isinstance(later, BadAnswer)


@pytest.mark.parametrize(
    ("heights", "floor", "chosen"),
    [
        ([105, 105], 0, 1),  # the one in use stays, though another is as good
        ([105, 85], 0, 1),
        ([105, 84], 0, 0),
        ([None, None], 0, 1),  # none is better
        ([99, 98], 100, 1),
        ([100, 99], 100, 0),
        ([0, None], 0, 0),
    ],
)
def test_an_address_is_left_for_one_that_is_fit_alone(
    heights: list[int | None], floor: int, chosen: int
) -> None:
    """Twenty blocks behind the best is fit, more is not; nor is what is older than was seen."""
    assert choose_address(1, heights, floor) == chosen


@pytest.mark.parametrize(
    ("heights", "goes_to"),
    [
        ((None, 7), "two"),
        ((None, 6), "one"),  # behind what was seen
        ((None, None), "one"),
        ((7, 9), "one"),  # the one in use answers
        ((7, 30), "two"),  # and is far behind
    ],
)
def test_another_indexer_is_used_if_it_is_not_behind(
    query: Callable[..., Any], heights: tuple[int | None, ...], goes_to: str
) -> None:
    """The first one answers no more: what it was last queried for is queried of the other."""
    reports = dict(zip(("one", "two"), heights, strict=True))
    failing: list[bool] = []
    requested: list[tuple[str, str]] = []

    async def venue(request: httpx.Request) -> httpx.Response:
        host, path = request.url.host, request.url.path
        requested.append((host, path))
        if not failing:
            return response(200, HEIGHT)
        if path == "/v4/height" and (height := reports[host]) is not None:
            return response(
                200, json.dumps({"height": str(height), "time": "2026-01-01T00:00:00Z"})
            )
        return response(200, '{"trades":[]}') if host == "two" else refused("down", 503)

    async def talk(rest: Rest) -> Any:
        await rest.height()
        failing.append(True)
        await asyncio.gather(rest.trades("A"), rest.trades("B"), return_exceptions=True)
        return rest.where

    two = dataclasses.replace(VENUE, rest="https://one", other_rest=("https://two",),
                              other_ws=("wss://two",))  # fmt: skip

    where = query(functools.partial(venue), talk, network=two)

    assert where == goes_to
    requested_of_two = {path for host, path in requested if host == "two"}
    assert requested_of_two - {"/v4/height"} == (
        {f"/v4/trades/perpetualMarket/{x}" for x in "AB"} if goes_to == "two" else set()
    )


def test_an_odd_row_is_named_beside_the_good_ones(query: Callable[..., Any]) -> None:
    """One market whose volume is a number costs no other; a walk ends with the reason."""
    fill = {"id": "1", "side": "BUY", "size": "1", "price": "2", "createdAt": "t",
            "liquidity": "TAKER"}  # fmt: skip
    body = json.dumps({"fills": [fill, {**fill, "id": "2", "price": 3}, {**fill, "id": "3"}]})

    async def both(rest: Rest) -> Any:
        walked: list[str] = []

        async def walk() -> None:
            async for row in rest.walk(ENDPOINTS["fills"], ALICE):
                walked.append(row.id)

        return await rest.fills(ALICE), str(await failure(walk())), walked

    answer, why, walked = query(Venue(body), both)

    assert why.startswith("expected rows of /v4/fills, got fills 2: expected `str`, got `int`")
    assert [row.id for row in answer.value] == walked == ["1", "3"]
    assert [(row.part, row.name) for row in answer.odd] == [("fills", "2")]


def test_a_server_in_trouble_is_given_ever_more_time(query: Callable[..., Any]) -> None:
    """Doubling, jittered, and at most four times."""
    chances = iter([1.0, 0.5, 1.0])
    venue = Venue(lambda _: refused("x", 500), latency_s=0)

    error = query(venue, lambda rest: failure(rest.height()), chance=lambda: next(chances))

    assert isinstance(error, ServerError)
    assert venue.times == [0.0, 0.5, 1.0, 3.0]


def test_what_is_not_answered_in_time_is_given_up(query: Callable[..., Any]) -> None:
    """After three tries of ten seconds, not of fifty minutes."""
    venue = Venue(HEIGHT, latency_s=3600)

    error = query(venue, lambda rest: failure(rest.height()))

    assert isinstance(error, Unreachable)
    assert str(error) == "expected an answer of venue:3002 to /v4/height within 10 s, got none"
    assert venue.times == [0.0, 10.5, 21.5]


def test_a_hiccup_is_not_seen_by_the_caller(query: Callable[..., Any]) -> None:
    """It is in the metrics."""

    async def talk(rest: Rest) -> Any:
        return await rest.height(), rest.metrics

    answer, metrics = query(Venue(httpx.ReadTimeout("slow"), refused("x", 500), HEIGHT), talk)

    assert answer.value.height == "7"
    assert metrics.errors == {"Unreachable": 1, "ServerError": 1}
    assert metrics.endpoints["/v4/height"].retried == 2


# === Bad input ===


def test_an_answer_of_64_megabytes_ends_before_it_is_in_memory(query: Callable[..., Any]) -> None:
    """It is cut off at 16 MB, and the connection closed."""
    streams: list[Endless] = []

    def long(_request: httpx.Request) -> httpx.Response:
        streams.append(Endless(b" " * 65_536, count=1024))
        return httpx.Response(200, stream=streams[-1])

    error = query(Venue(long), lambda rest: failure(rest.height()))

    assert isinstance(error, BadAnswer)
    assert str(error) == f"expected at most {MAX_BODY} bytes for /v4/height, got more"
    assert [(stream.taken, stream.closed) for stream in streams] == [(257, True)] * 2


def test_an_endless_stream_ends(query: Callable[..., Any]) -> None:
    """By its size if it is fast, and by the time if it only drips."""
    streams: list[Endless] = []

    def sent(body: bytes, pause_s: float) -> httpx.Response:
        streams.append(Endless(body, pause_s=pause_s))
        return httpx.Response(200, stream=streams[-1])

    fast = Venue(lambda _: sent(b" " * 65_536, 0.0))
    too_much = query(fast, lambda rest: failure(rest.height()))
    too_slow = query(Venue(lambda _: sent(b" ", 1.0)), lambda rest: failure(rest.height()))

    assert isinstance(too_much, BadAnswer)
    assert isinstance(too_slow, Unreachable)
    assert [stream.closed for stream in streams] == [True] * 5


def test_a_small_answer_that_unpacks_to_a_large_one_is_cut_off(query: Callable[..., Any]) -> None:
    """A few kilobytes of gzip are never unpacked whole."""
    packed = zlib.compressobj(9, wbits=31)
    bomb = packed.compress(b" " * (64 * 1024 * 1024)) + packed.flush()

    venue = Venue(lambda _: response(200, bomb, content_encoding="gzip"))

    error = query(venue, lambda rest: failure(rest.height()))

    assert len(bomb) < 100_000
    assert isinstance(error, BadAnswer)
    assert "expected at most" in str(error)


def test_packed_answers_are_unpacked(query: Callable[..., Any]) -> None:
    """In whatever pieces they come."""
    packed = gzip.compress(HEIGHT.encode())

    answer = query(
        Venue(response(200, packed, content_encoding="gzip")), lambda rest: rest.height()
    )

    assert answer.value.height == "7"


def test_credentials_in_an_address_are_not_shown(query: Callable[..., Any]) -> None:
    """Not in the message of an error."""

    async def talk(_rest: Rest) -> RestError:
        where = Network("x", "http://me:secret@venue:3002", "", "", "")
        async with Rest(where, sleep=lambda _: asyncio.sleep(0)) as rest:
            return await failure(rest.height())

    error = query(Venue(httpx.ConnectError("no route")), talk)

    assert str(error) == "expected venue:3002 to answer /v4/height, got ConnectError: no route"


# === Limits ===


def fixed_window(limit: int, window_s: float = 10.0) -> Callable[[httpx.Request], httpx.Response]:
    """Answer as the indexer's limiter does; raises if the limit was exceeded."""
    state = {"end": 0.0, "used": 0}

    def answer(_request: httpx.Request) -> httpx.Response:
        now = asyncio.get_running_loop().time()
        if now >= state["end"]:
            state.update(end=now + window_s, used=0)
        state["used"] += 1
        assert state["used"] <= limit
        return response(
            200,
            '{"trades":[]}',
            ratelimit_limit=str(limit),
            ratelimit_remaining=str(limit - int(state["used"])),
            ratelimit_reset=str(int((WALL_S + state["end"]) * 1000)),
            date=formatdate(WALL_S + now, usegmt=True),
        )

    return answer


def test_many_questions_go_in_order_and_never_above_the_limit(query: Callable[..., Any]) -> None:
    """250 at once take two pauses, and at most 32 connections."""
    venue = Venue(fixed_window(100))
    done: list[int] = []

    async def one(rest: Rest, number: int) -> None:
        await rest.trades("X", limit=number + 1)
        done.append(number)

    async def talk(rest: Rest) -> Any:
        requests = [asyncio.ensure_future(one(rest, number)) for number in range(250)]
        await asyncio.sleep(1)
        waiting = rest.metrics.groups["default"]
        await asyncio.gather(*requests)
        return waiting, rest.metrics

    waiting, metrics = query(venue, talk)

    assert [int(path.rpartition("=")[2]) - 1 for path in venue.paths] == list(range(250))
    assert venue.most_flying <= 32
    assert 20 < venue.times[-1] < 25
    assert (waiting.queued, waiting.left) == (150, 0)
    assert 19 < waiting.wait_s < 22
    assert metrics.groups["default"].waits == 150
    assert metrics.errors == {}


def test_groups_wait_for_themselves_alone(query: Callable[..., Any]) -> None:
    """Who reads candles does not stand behind who reads books."""
    venue = Venue(lambda _: response(200, '{"candles":[]}'), latency_s=0)

    async def talk(rest: Rest) -> None:
        await asyncio.gather(*(rest.candles("X", "1MIN") for _ in range(101)))

    query(venue, talk)

    assert venue.times[-1] == 0.0


def limited(**headers: str) -> httpx.Response:
    """Make a refusal for too many requests."""
    return response(429, '{"errors":[{"msg":"Too many requests"}]}', **headers)


def test_a_rate_limited_request_waits_as_ordered_and_goes_first(
    query: Callable[..., Any],
) -> None:
    """In milliseconds; the others of its group behind it, in order."""
    reset = str((WALL_S + 4) * 1000)
    venue = Venue(
        limited(retry_after="2500", ratelimit_reset=reset, ratelimit_remaining="0"),
        '{"trades":[]}',
        latency_s=0,
    )

    async def talk(rest: Rest) -> Any:
        requests = [asyncio.ensure_future(rest.trades("X", limit=1))]
        await asyncio.sleep(0.1)
        requests += [asyncio.ensure_future(rest.trades("X", limit=n)) for n in (2, 3)]
        await asyncio.sleep(0.1)
        expected = rest.metrics.groups["default"].wait_s, rest.wait_s
        await asyncio.gather(*requests)
        return [*expected, rest.wait_s], rest.metrics.groups["default"]

    expected, group = query(venue, talk)

    assert [path[-1] for path in venue.paths] == ["1", "1", "2", "3"]
    assert venue.times == [0.0, 4.0, 4.0, 4.0]
    assert expected == pytest.approx([3.8, 3.8, 0.0])
    assert (group.limited, group.waits) == (1, 3)


def test_patience_ends_and_the_error_states_how_long_it_would_take(
    query: Callable[..., Any],
) -> None:
    """At once: who will not wait that long need not wait at all."""
    venue = Venue(limited(retry_after="120"))  # of a proxy: in seconds

    async def talk(rest: Rest) -> Any:
        return await failure(rest.height()), rest.metrics.errors

    error, errors = query(venue, talk)

    assert isinstance(error, RateLimited)
    assert error.wait_s == pytest.approx(120)
    assert str(error) == (
        "expected a turn for /v4/height within 60 s, got one in 120.0 s by the limit"
    )
    assert (len(venue.requested), errors) == (1, {"RateLimited": 2})


def test_a_venue_that_refuses_for_ever_is_not_pestered(query: Callable[..., Any]) -> None:
    """Though it orders a retry at once."""
    venue = Venue(lambda _: limited(retry_after="0"), latency_s=0)

    error = query(venue, lambda rest: failure(rest.height()))

    assert isinstance(error, RateLimited)
    assert len(venue.requested) < 14


def test_who_leaves_the_queue_lets_the_others_go_on(query: Callable[..., Any]) -> None:
    """Waiting for a turn, or in flight: a place given up is free again."""
    venue = Venue('{"trades":[]}', latency_s=1)

    async def talk(rest: Rest) -> Any:
        requests = [asyncio.ensure_future(rest.trades("X", limit=n)) for n in range(102)]
        await asyncio.sleep(0.5)
        requests[0].cancel()  # in flight
        requests[100].cancel()  # the first in the queue
        done = await outcomes(requests)
        return done, rest.metrics.groups["default"]

    done, group = query(venue, talk)

    assert [type(answer) for answer in done].count(asyncio.CancelledError) == 2
    assert (group.flying, group.queued) == (0, 0)
    assert len(venue.requested) == 101


# === Circuits ===


def test_a_failing_endpoint_is_spared_and_its_last_answer_shown_with_its_age(
    query: Callable[..., Any],
) -> None:
    """Others go on; after a pause one request tries it, and all is fresh again."""
    sick = {"now": False}

    def answer(request: httpx.Request) -> httpx.Response:
        if "height" not in request.url.path:
            return response(200, '{"iso":"t","epoch":1.5}')
        return refused("x", 500) if sick["now"] else response(200)

    venue = Venue(answer, latency_s=0)

    async def talk(rest: Rest) -> Any:
        await rest.height()
        sick["now"] = True
        first = await failure(rest.height())
        shown = await rest.height()  # the fifth failure opens it
        before = len(venue.requested)
        spared = await rest.height()
        assert len(venue.requested) == before
        other = await rest.time()
        open_ = rest.metrics.endpoints["/v4/height"]
        await asyncio.sleep(5)
        trial = await outcomes([rest.height(), rest.height()])
        assert len(venue.requested) == before + 2
        sick["now"] = False
        await asyncio.sleep(10)
        well = await rest.height()
        return first, [shown, spared, *trial], other, open_, well, rest.metrics

    first, stale, other, open_, well, metrics = query(venue, talk)

    assert isinstance(first, ServerError)
    assert {answer.stale for answer in stale} == {True}
    assert [round(answer.age_s, 1) for answer in stale] == [3.5, 3.5, 8.5, 8.5]
    assert {answer.value.height for answer in stale} == {"7"}
    assert (other.stale, well.stale, well.age_s) == (False, False, 0.0)
    assert (open_.circuit, open_.stale, open_.retry_in_s) == ("open", 2, 5.0)
    assert metrics.endpoints["/v4/height"].circuit == "closed"


def test_what_was_never_answered_cannot_be_shown(query: Callable[..., Any]) -> None:
    """The error names when the endpoint is retried."""
    venue = Venue(lambda _: refused("x", 500), latency_s=0)

    async def talk(rest: Rest) -> RestError:
        await failure(rest.height())
        await failure(rest.height())
        return await failure(rest.height())

    error = query(venue, talk)

    assert isinstance(error, Unreachable)
    assert error.wait_s == 5.0
    assert str(error) == ("expected /v4/height to work, got 5 failures: retry in 5.0 s")


def test_refusals_open_no_circuit(query: Callable[..., Any]) -> None:
    """A wrong request is no sign of the venue's health."""
    venue = Venue(lambda _: refused("x"), latency_s=0)

    async def talk(rest: Rest) -> str:
        for _ in range(20):
            await failure(rest.height())
        return rest.metrics.endpoints["/v4/height"].circuit

    assert query(venue, talk) == "closed"


def test_a_trial_that_is_given_up_does_not_block_the_next(query: Callable[..., Any]) -> None:
    """Its circuit would stay half open for ever."""
    sick = Venue(lambda _: refused("x", 500), latency_s=0)

    async def talk(rest: Rest) -> Any:
        await failure(rest.height())
        await failure(rest.height())
        await asyncio.sleep(5)
        sick.latency_s, sick.script = 60.0, [HEIGHT]
        trial = asyncio.ensure_future(rest.height())
        await asyncio.sleep(1)
        trial.cancel()
        await outcomes([trial])
        sick.latency_s = 0.0
        return await rest.height()

    assert query(sick, talk).value.height == "7"


def test_old_answers_make_room_for_new_ones(
    query: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is remembered is bounded by its size, and the newest stays."""
    monkeypatch.setattr(dydx_conn, "_CACHED_CHARACTERS", 40)
    venue = Venue('{"trades":[]}', latency_s=0)  # 13 characters

    async def talk(rest: Rest) -> Any:
        for number in (1, 2, 3, 4, 4):
            await rest.trades("X", limit=number)
        venue.script = [lambda _: refused("x", 500)]
        await outcomes(rest.trades("X", limit=9) for _ in range(2))
        return await outcomes(rest.trades("X", limit=number) for number in (1, 2, 3, 4))

    first, *others = query(venue, talk)

    assert isinstance(first, Unreachable)
    assert [answer.stale for answer in others] == [True] * 3


# === Walks ===


def rows(*ids: int) -> str:
    """Make trades of the tape, by their number."""
    trade = {"side": "BUY", "size": "1", "price": "1", "createdAt": "t"}
    return json.dumps({"trades": [{"id": str(n), **trade} for n in ids]})


async def every(walk: AsyncIterator[Any]) -> list[Any]:
    """Return all that a walk brings."""
    return [each async for each in walk]


def test_a_walk_brings_each_row_once_though_the_list_grows_meanwhile(
    query: Callable[..., Any],
) -> None:
    """Two new rows push two old ones to the next page."""
    venue = Venue(rows(*range(2000, 1000, -1)), rows(*range(1002, 2, -1)), rows(2, 1))

    trades = query(venue, lambda rest: every(rest.walk(ENDPOINTS["trades"], ticker="X")))

    assert [int(trade.id) for trade in trades] == list(range(2000, 0, -1))
    assert [path.rpartition("&")[2] for path in venue.paths] == ["page=1", "page=2", "page=3"]


def transfers(*ids: int) -> list[dict[str, Any]]:
    """Make transfers by their number, which is also their time."""
    more = {"sender": {"address": "a"}, "recipient": {"address": "b"}, "size": "1"}
    more |= {"symbol": "USDC", "type": "DEPOSIT"}
    return [{"id": str(n), "createdAt": f"{n:05}", **more} for n in ids]


def test_a_walk_over_a_list_without_pages_goes_on_back_in_time(query: Callable[..., Any]) -> None:
    """A parent's list may answer every page with the first, without an error."""

    def answer(request: httpx.Request) -> httpx.Response:
        before = int(request.url.params.get("createdBeforeOrAt", "99999"))
        found = transfers(*(n for n in range(2500, 0, -1) if n <= before))[:1000]
        return response(200, json.dumps({"transfers": found}))

    walked = query(
        Venue(answer), lambda rest: every(rest.walk(ENDPOINTS["transfers"], ALICE, parent=True))
    )

    assert [int(row.id) for row in walked] == list(range(2500, 0, -1))


def test_a_walk_that_cannot_even_go_by_time_reports_it(query: Callable[..., Any]) -> None:
    """Funding payments have no bound above."""
    payment = {"ticker": "X", "oraclePrice": "1", "size": "1", "side": "LONG", "rate": "0"}
    paid = [{**payment, "payment": "0", "createdAt": str(n)} for n in range(1000)]
    venue = Venue(json.dumps({"fundingPayments": paid}))

    error = query(
        venue, lambda rest: failure(every(rest.walk(ENDPOINTS["funding_payments"], ALICE)))
    )

    assert str(error) == "expected the next page, got the same again: the walk cannot go on"


@pytest.mark.parametrize(
    ("walk", "part", "row", "differs"),
    [
        (
            lambda r: r.walk(ENDPOINTS["candles"], ticker="X", resolution="1MIN"),
            "candles",
            {
                **dict.fromkeys(("low", "high", "open", "close"), "1"),
                **{"baseTokenVolume": "1", "usdVolume": "1", "trades": 1},
            },
            "startedAt",
        ),
        (
            lambda r: r.walk(ENDPOINTS["historical_funding"], ticker="X"),
            "historicalFunding",
            {"ticker": "X", "rate": "0", "price": "1"},
            "effectiveAt",
        ),
        (
            lambda r: r.walk(ENDPOINTS["positions"], ALICE, parent=True),
            "positions",
            {"market": "X", "status": "OPEN", "size": "1"},
            "createdAt",
        ),
    ],
)
def test_a_walk_back_in_time_meets_the_last_row_again_and_drops_it(
    query: Callable[..., Any],
    walk: Callable[[Rest], AsyncIterator[Any]],
    part: str,
    row: dict[str, Any],
    differs: str,
) -> None:
    """The bound is inclusive, so that nothing of the same instant is lost."""
    names = [f"{number:04}" for number in range(1500, 0, -1)]
    bound = {"candles": "toISO", "historicalFunding": "effectiveBeforeOrAt"}.get(part)

    def answer(request: httpx.Request) -> httpx.Response:
        before = request.url.params.get(bound or "createdBeforeOrAt", "9999")
        found = [{**row, differs: name} for name in names if name <= before][:1000]
        return response(200, json.dumps({part: found}))

    walked = query(Venue(answer), lambda rest: every(walk(rest)))

    assert len(walked) == 1500


@pytest.mark.parametrize(
    ("walk", "part", "row"),
    [
        (
            lambda r: r.walk(ENDPOINTS["fills"], ALICE, market="X"),
            "fills",
            {"id": "1", "side": "BUY", "size": "1", "price": "1", "createdAt": "t",
             "liquidity": "MAKER"},
        ),
        (
            lambda r: r.walk(ENDPOINTS["transfers"], ALICE),
            "transfers",
            {"id": "1", "sender": {"address": "a"}, "recipient": {"address": "b"}, "size": "1",
             "symbol": "USDC", "type": "DEPOSIT"},
        ),
        (
            lambda r: r.walk(ENDPOINTS["funding_payments"], ALICE),
            "fundingPayments",
            {"createdAt": "t", "ticker": "X", "oraclePrice": "1", "size": "1", "side": "LONG",
             "rate": "0", "payment": "0"},
        ),
        (
            lambda r: r.walk(ENDPOINTS["historical_pnl"], ALICE),
            "historicalPnl",
            {"equity": "1", "totalPnl": "1", "netTransfers": "1", "createdAt": "t"},
        ),
    ],
)  # fmt: skip
def test_every_list_of_an_account_can_be_walked(
    query: Callable[..., Any],
    walk: Callable[[Rest], AsyncIterator[Any]],
    part: str,
    row: dict[str, Any],
) -> None:
    """The same row twice is one row."""
    walked = query(Venue(json.dumps({part: [row, row]})), lambda rest: every(walk(rest)))

    assert len(walked) == 1


def test_a_walk_that_cannot_go_on_reports_it(query: Callable[..., Any]) -> None:
    """More rows at one instant than a page holds would be left out silently."""
    funding = {"ticker": "X", "rate": "0", "price": "1", "effectiveAt": "t"}
    venue = Venue(json.dumps({"historicalFunding": [funding] * 1000}))

    error = query(
        venue, lambda rest: failure(every(rest.walk(ENDPOINTS["historical_funding"], ticker="X")))
    )

    assert str(error) == (
        "expected less than 1000 rows at one instant, got more at t: the walk cannot go on"
    )


def test_a_walk_never_goes_on_from_memory(query: Callable[..., Any]) -> None:
    """Pages of different times do not fit together."""
    venue = Venue(rows(1), latency_s=0)

    async def talk(rest: Rest) -> Any:
        await every(rest.walk(ENDPOINTS["trades"], ticker="X"))
        venue.script = [lambda _: refused("x", 500)]
        await failure(rest.trades("X"))
        await failure(rest.trades("X"))
        return await failure(every(rest.walk(ENDPOINTS["trades"], ticker="X")))

    error = query(venue, talk)

    assert str(error).startswith("expected the next page, got one from memory that is ")


# === Metrics ===


def test_all_that_happened_is_one_value_of_json(query: Callable[..., Any]) -> None:
    """Counts, rates, waits, circuits, latencies and the last samples of each class."""

    async def talk(rest: Rest) -> Any:
        for number in range(8):
            await outcomes([rest.order_book(f"X{number}")])
        await asyncio.sleep(30)
        return rest.metrics

    venue = Venue('{"bids":[],"asks":[]}', lambda _: refused("no such ticker", 404))
    metrics = query(venue, talk)

    endpoint = metrics.endpoints["/v4/orderbooks/perpetualMarket/*"]
    assert msgspec.json.decode(msgspec.json.encode(metrics), type=dydx_conn.Metrics) == metrics
    assert (endpoint.requested, endpoint.answered, endpoint.errors) == (8, 8, {"NotFound": 7})
    assert (endpoint.per_minute, endpoint.errors_per_minute) == (8.0, 7.0)
    assert len(endpoint.samples["NotFound"]) == 5
    assert "X7, got 404: no such ticker" in endpoint.samples["NotFound"][-1].message
    assert endpoint.p50_ms == endpoint.p99_ms == endpoint.max_ms == pytest.approx(50)
    assert endpoint.good_age_s == pytest.approx(30.35)
    assert metrics.groups["default"].left == 100


def test_rates_are_extrapolated_when_there_are_too_many_to_remember(
    query: Callable[..., Any],
) -> None:
    """1,000 in a second are 60,000 a minute."""

    async def talk(rest: Rest) -> Any:
        for _ in range(1000):
            await rest.candles("X", "1MIN")
        return rest.metrics.endpoints["/v4/candles/perpetualMarkets/*"]

    endpoint = query(Venue('{"candles":[]}', latency_s=0.001), talk)

    assert (endpoint.requested, round(endpoint.per_minute, -3)) == (1000, 60_000)


def test_the_venues_clock_is_compared_with_ours(query: Callable[..., Any]) -> None:
    """Its Date knows whole seconds: we learn the difference within half of one."""

    async def talk(rest: Rest) -> Any:
        before = rest.metrics.skew_s
        await rest.height()
        return before, rest.metrics

    date = formatdate(WALL_S - 90, usegmt=True)
    before, metrics = query(Venue(response(200, date=date), latency_s=0.2), talk)

    assert before is None
    assert metrics.skew_s == pytest.approx(90 - 0.5 + 0.1)
    assert metrics.skew_within_s == pytest.approx(0.6)
