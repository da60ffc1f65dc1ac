"""Who comes in: every request passes here before any route sees it, and a WebSocket as well.

    request ──► called by our name? ──► small enough? ──► from our own page? ──► whose token?
            └── 421                 └── 413           └── 403                └── 401, 403

A name that is not ours is how a page of somebody else reaches a loopback address (DNS rebinding).
What comes with a cookie must come from our own page; a header is nobody's but who wrote it.
`/health…` and `/login` need no token; whatever route is added needs one. Wrong tokens are not
counted: nobody guesses 32 characters, and whoever sends many would lock out all who come from the
same address, as all do on one machine.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse, Response

from bot.serve.problems import ProblemError, response
from bot.serve.served import Served
from bot.serve.sessions import Sessions
from bot.serve.tokens import Kind

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOGIN: Final = "/login"
LOGOUT: Final = "/logout"
LONGEST: Final = 4_096  # bytes of a body
_LOOKS: Final = ("GET", "HEAD", "OPTIONS")
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_BEARER: Final = "Bearer "


def is_free(path: str) -> bool:
    """Return whether a path needs no token."""
    return path == "/health" or path.startswith("/health/") or path == LOGIN


def is_ours(origin: str, host: str, scheme: str) -> bool:
    """Return whether an origin is a page of this host; "null" is none.

    Where we speak TLS a page that came without it may be anybody's. Where we do not, what stands
    before us may (a proxy).
    """
    try:
        found = urlsplit(origin.lower())
    except ValueError:
        return False
    is_safe = found.scheme == "https" or scheme not in ("https", "wss")
    return found.netloc == host and is_safe


class Gate:
    """Lets a request in to `app`, or answers it; `scope["state"]` has `kind` and `caller`."""

    def __init__(self, app: App, served: Served, sessions: Sessions) -> None:
        self._app, self._served, self._sessions = app, served, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one in, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._admit(scope, headers)
            if scope["type"] == "http":
                receive = await _whole(headers, receive)
        except ProblemError as problem:
            await _refuse(problem, scope, headers, receive, send)
            return
        if scope["type"] == "websocket":  # which lasts
            await self._app(scope, receive, send)
            return
        with self._served.desk.guest():
            await self._app(scope, receive, send)

    def _admit(self, scope: Scope, headers: Headers) -> None:
        host = self._require_host(scope, headers)
        looks = scope["type"] == "http" and scope["method"] in _LOOKS
        origin = headers.get("origin")
        if origin is not None and not looks and not is_ours(origin, host, scope.get("scheme", "")):
            raise ProblemError(403, f"a request of a page of {host}", f"one of {origin}")
        kind, sent = self._kind(headers), headers.get("authorization")
        if kind is None and sent is not None:
            challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
            raise ProblemError(401, "a token of this bot", "another one", challenge)
        if kind is not None and sent is None and not looks and origin is None:
            raise ProblemError(403, "an Origin beside a cookie", "none")
        free = is_free(scope["path"])
        if kind is None and not free:
            challenge = {"WWW-Authenticate": "Bearer"}
            expected = "a token (bot token) in Authorization: Bearer"
            raise ProblemError(401, expected, "none", challenge)
        free = free or scope["path"] == LOGOUT
        if scope["type"] == "http" and not (looks or free) and kind != "trading":
            raise ProblemError(403, "the trading token", "the token that may look alone")
        state = scope.setdefault("state", {})
        state["kind"], state["caller"] = kind, _caller(scope, kind)
        # For what stays open for hours: a session ends, and a token is replaced.
        state["is_known"] = lambda: self._kind(headers) is not None

    def _require_host(self, scope: Scope, headers: Headers) -> str:
        """Return by which name and port we were called; it must be one of ours."""
        host = headers.get("host", "")
        name = _name(host)
        settings, server = self._served.settings, scope.get("server") or ("", 0)
        known = {*_LOOPBACK, *(each.lower() for each in settings.hosts), str(server[0])}
        if name not in known:
            raise ProblemError(421, "a Host of ours (the setting api.hosts adds names)", host)
        return host.lower()

    def _kind(self, headers: Headers) -> Kind | None:
        """Return what the caller may do, by the header or, where there is none, by the cookie."""
        sent = headers.get("authorization")
        if sent is None:
            return self._sessions.kind_of(_cookie(headers, self._sessions.cookie))
        token = sent[len(_BEARER) :].strip() if _is_bearer(sent) else ""
        return self._served.tokens.kind_of(token)


def _is_bearer(sent: str) -> bool:
    return sent[: len(_BEARER)].lower() == _BEARER.lower()


def _name(host: str) -> str:
    """Return the name in a Host header, without its port."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return str(ip_address(name)) if ":" in name else name.rstrip(".")
    except ValueError:
        return ""


def _cookie(headers: Headers, name: str) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return "" if found is None else found.value


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


def _caller(scope: Scope, kind: Kind | None) -> str:
    """Name who calls, for the audit: by which token, from where; never the token."""
    return f"{kind or 'no'} token, {_address(scope)}"


# === Bodies ===


async def _whole(headers: Headers, receive: Receive) -> Receive:
    """Return what gives a body that has come whole; a long one is refused before it has."""
    length = headers.get("content-length", "0")
    if not (length.isdecimal() and len(length) < 20 and int(length) <= LONGEST):
        raise _too_long(f"{length[:20]} bytes")
    parts, size, more = list[Message](), 0, True
    while more:
        part = await receive()
        if part["type"] != "http.request":
            parts.append(part)
            break
        more, size = part.get("more_body", False), size + len(part.get("body", b""))
        if size > LONGEST:
            raise _too_long("a longer one")
        parts.append(part)
    waiting: Iterable[Message] = iter(parts)

    async def again() -> Message:
        found = next(iter(waiting), None)
        return await receive() if found is None else found

    return again


def _too_long(got: str) -> ProblemError:
    return ProblemError(413, f"a body of at most {LONGEST} bytes", got, {"Connection": "close"})


async def _refuse(
    problem: ProblemError, scope: Scope, headers: Headers, receive: Receive, send: Send
) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": str(problem)[:120]})
        return
    answer: Response = response(problem)
    wants_page = "text/html" in headers.get("accept", "")
    if problem.status == 401 and scope["method"] == "GET" and wants_page:
        answer = RedirectResponse(LOGIN, 303)
    await answer(scope, receive, send)
