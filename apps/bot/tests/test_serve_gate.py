"""Who comes in: by our name, from our own page, with a token that may do it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, MutableMapping
from typing import Any

import pytest
from bot.serve.gate import LONGEST, is_ours
from reached import Reached, reached_run


@pytest.fixture(scope="module")
def reached(tmp_path_factory: pytest.TempPathFactory) -> Reached:
    """Return a run in its first minute that is served."""
    return reached_run(tmp_path_factory.mktemp("tokens"))


@pytest.fixture
def acts(reached: Reached) -> Callable[[], int]:
    """Return what counts the acts since the test began."""
    before = reached.bot.journal.counts["act"]
    return lambda: reached.bot.journal.counts["act"] - before


# === Tokens ===


@pytest.mark.parametrize("path", ["/status", "/config", "/openapi.json", "/nowhere", "/metrics"])
def test_nothing_is_answered_without_a_token(path: str, reached: Reached) -> None:
    """Not even whether there is such a path."""
    answer = reached.client("").get(path)

    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json()["got"] == "none"


@pytest.mark.parametrize(
    "header", ["Bearer wrong", "Basic dXNlcjpwYXNz", "Bearer", "", "token", "Bearer ä"]
)
def test_a_wrong_token_is_refused(header: str, reached: Reached) -> None:
    """Whatever stands there; it is not repeated."""
    answer = reached.client("", fresh=True).get(
        "/status", headers={"Authorization": header.encode("latin-1")}
    )

    assert answer.status_code == 401
    assert "wrong" not in answer.text


def test_a_token_in_a_url_is_none(reached: Reached) -> None:
    """URLs stand in logs and histories."""
    answer = reached.client("").get("/status", params={"token": reached.token})

    assert answer.status_code == 401


def test_the_read_token_looks_and_does_not_act(reached: Reached, acts: Callable[[], int]) -> None:
    """It is refused with words, and nothing happens."""
    client = reached.client(reached.read_token)
    acted = client.post("/halt")

    assert client.get("/status").status_code == 200
    assert (acted.status_code, acted.json()["expected"]) == (403, "the trading token")
    assert acts() == 0


def test_many_wrong_tokens_lock_nobody_out(reached: Reached) -> None:
    """Who has the right one may halt, whatever others on this machine send."""
    client = reached.client("", fresh=True)
    wrong = {"Authorization": "Bearer wrong"}
    codes = {client.get("/status", headers=wrong).status_code for _ in range(12)}
    client.post("/login", data={"token": "wrong"})

    assert codes == {401}
    assert client.post("/login", data={"token": reached.token}).status_code == 303
    right = {"Authorization": f"Bearer {reached.token}"}
    assert client.get("/status", headers=right).status_code == 200


# === Names and pages ===


@pytest.mark.parametrize(
    "host",
    ["evil.example.org", "127.0.0.1.evil.org:8710", "[::2]:8710", "10.0.0.1", "[", "x@evil:1"],
)
def test_a_name_that_is_not_ours_is_refused(host: str, reached: Reached) -> None:
    """As of a page of somebody else, whose name leads here (DNS rebinding)."""
    assert reached.client().get("/status", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost:8710", "127.0.0.1", "[::1]:8710", "LOCALHOST."])
def test_our_own_names_are_taken(host: str, reached: Reached) -> None:
    """With any port: it may be forwarded."""
    assert reached.client().get("/status", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.org", "null", "http://127.0.0.1:9999", "http://["])
def test_an_act_from_another_page_is_refused(
    origin: str, reached: Reached, acts: Callable[[], int]
) -> None:
    """Even with the token."""
    answer = reached.client().post("/halt", headers={"Origin": origin})

    assert answer.status_code == 403
    assert acts() == 0


def test_an_act_from_our_own_page_is_taken(reached: Reached) -> None:
    """Its origin is the name by which we are called."""
    answer = reached.client().post("/halt", headers={"Origin": "http://127.0.0.1:8710"})

    assert answer.status_code == 200


# === Browsers ===


def logged_in(reached: Reached, token: str) -> tuple[str, str]:
    """Return the cookie of a browser that logged in: its name and its value."""
    answer = reached.client("").post("/login", data={"token": token})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Secure" not in cookie
    assert token not in cookie
    name, _, value = cookie.partition(";")[0].partition("=")
    return name, value


def test_a_browser_is_sent_to_the_form(reached: Reached) -> None:
    """And gets it without a token."""
    client = reached.client("")
    answer = client.get("/status", headers={"Accept": "text/html"})

    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert '<form method="post" action="/login">' in client.get("/login").text


def test_a_cookie_stands_for_the_token_until_it_is_given_back(reached: Reached) -> None:
    """One application, as the sessions are its own."""
    client = reached.client("")
    answer = client.post("/login", data={"token": reached.read_token})
    assert answer.status_code == 303

    assert client.get("/status").status_code == 200
    out = client.post("/logout", headers={"Origin": "http://127.0.0.1:8710"})
    assert out.status_code == 303
    assert client.get("/status").status_code == 401


def test_a_cookie_acts_only_from_our_own_page(reached: Reached) -> None:
    """A form of somebody else sends no Origin of ours."""
    client = reached.client("")
    client.post("/login", data={"token": reached.token})

    assert client.post("/halt").status_code == 403
    ours = {"Origin": "http://127.0.0.1:8710"}
    assert client.post("/halt", headers=ours).status_code == 200


def test_a_cookie_is_not_the_token(reached: Reached) -> None:
    """And of another process it is nothing."""
    name, value = logged_in(reached, reached.token)
    answer = reached.client("", fresh=True).get("/status", headers={"Cookie": f"{name}={value}"})

    assert answer.status_code == 401


@pytest.mark.parametrize("cookie", ["bot-8710=x", "=;;;", "\x01", 'bot-8710="', "a" * 3000])
def test_a_cookie_that_is_none_is_no_token(cookie: str, reached: Reached) -> None:
    """Whatever it is."""
    assert reached.client("").get("/status", headers={"Cookie": cookie}).status_code == 401


def test_a_wrong_token_in_the_form_is_refused(reached: Reached) -> None:
    """And no form at all as well."""
    client = reached.client("")

    assert client.post("/login", data={"token": "x"}).status_code == 401
    assert client.post("/login", content=b"\xff\x00&token").status_code == 401


def test_a_page_without_tls_is_none_of_a_host_with_it() -> None:
    """It may be anybody's on the way; before a host without it a proxy may speak TLS."""
    host, pages = "bot:1", ("http://bot:1", "https://bot:1", "https://BOT:1", "https://evil:1")

    assert [is_ours(page, host, "https") for page in pages] == [False, True, True, False]
    assert [is_ours(page, host, "ws") for page in pages] == [True, True, True, False]


def test_a_page_gets_the_form_again_with_what_was_wrong(reached: Reached) -> None:
    """Whoever pastes half a token is not left with JSON."""
    client = reached.client("", fresh=True)
    answer = client.post("/login", data={"token": "x"}, headers={"Accept": "text/html"})

    assert answer.status_code == 401
    assert (
        '<p role="alert">expected a token of this bot in the form, got another one' in answer.text
    )
    assert '<form method="post" action="/login">' in answer.text


@pytest.mark.parametrize("sent", [{}, {b"origin": b"http://evil.org"}, {b"host": b"evil.org"}])
def test_a_websocket_needs_a_token_and_our_own_page(
    sent: dict[bytes, bytes], reached: Reached
) -> None:
    """Refused before it is accepted."""
    headers = {b"host": b"127.0.0.1:8710"} | sent
    if sent:
        headers[b"authorization"] = f"Bearer {reached.token}".encode()
    scope = {
        "type": "websocket", "path": "/view/live", "headers": [*headers.items()],
        "query_string": b"", "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 8710),
    }  # fmt: skip
    messages: list[str] = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        messages.append(message["type"])

    asyncio.run(reached.client().app(scope, receive, send))

    assert messages == ["websocket.close"]


# === Bodies ===


def test_a_long_body_is_refused(reached: Reached) -> None:
    """Whether its length is announced or not."""
    client = reached.client()

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * 1000

    assert client.post("/halt", content=b"x" * (LONGEST + 1)).status_code == 413
    assert client.post("/halt", content=parts()).status_code == 413
    assert client.post("/halt", headers={"Content-Length": "-1"}).status_code == 413


@pytest.mark.parametrize(
    "body",
    [b"\xff\xfe", b"{", b"[]", b'"text"', b"1e999", b'{"why": 1}', b'{"whi": "x"}',
     json.dumps({"why": "x" * 201}).encode(), b'{"why": "\\ud800"}'],
)  # fmt: skip
def test_a_body_that_is_no_reason_is_refused(
    body: bytes, reached: Reached, acts: Callable[[], int]
) -> None:
    """With what was expected, and nothing happens."""
    kind = {"Content-Type": "application/json"}
    answer = reached.client().post("/halt", content=body, headers=kind)

    assert answer.status_code == 422
    assert {*answer.json()} == {"expected", "got"}
    assert acts() == 0


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [("PUT", "/halt", 405), ("GET", "/halt", 405), ("DELETE", "/status", 405),
     ("POST", "/status", 405), ("PATCH", "/x", 404), ("GET", "/x", 404)],
)  # fmt: skip
def test_a_wrong_method_or_path_is_named(
    method: str, path: str, code: int, reached: Reached
) -> None:
    """With what there is."""
    answer = reached.client().request(method, path)

    assert answer.status_code == code
    assert answer.json()["got"] in (method, path)
