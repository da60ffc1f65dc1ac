"""A browser's way in: a form that takes a token, and the cookie that it is given for it.

GET /login ──► a form ──► POST /login ──► 303 to the page, with the cookie
"""

from typing import Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from bot.serve.gate import LOGIN, LOGOUT
from bot.serve.problems import ProblemError
from bot.serve.served import Served
from bot.serve.sessions import LASTS_S, Sessions

_FORM: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>bot</title>
<style>
body { background: #111; color: #ddd; font: 16px monospace }
form { margin: 4em auto; max-width: 30em; padding: 0 1em }
input, button { box-sizing: border-box; font: inherit; margin: .5em 0; padding: .5em; width: 100% }
</style>
</head>
<body>
<form method="post" action="/login">
<label for="token">The token: it is in the file that <code>bot token read</code> prints</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button>Look</button>
</form>
</body>
</html>
"""
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-store",
    # With none at all the form would come from nowhere ("Origin: null"), and be refused.
    "Referrer-Policy": "same-origin",
}


def routes(served: Served, sessions: Sessions) -> APIRouter:
    """Return the form, what takes it, and the way out."""
    router = APIRouter(include_in_schema=False)

    @router.get(LOGIN)
    async def form() -> HTMLResponse:
        """Show the form."""
        return HTMLResponse(_FORM, headers=_HEADERS)

    @router.post(LOGIN)
    async def log_in(request: Request) -> Response:
        """Give a cookie for a token."""
        sent = parse_qs((await request.body()).decode("utf-8", "replace")).get("token", [""])[0]
        cookie = sessions.begin(sent.strip())
        if cookie is None:
            raise ProblemError(401, "a token of this bot in the form", "another one")
        answer = RedirectResponse("/", 303, headers={"Cache-Control": "no-store"})
        answer.set_cookie(
            sessions.cookie, cookie, max_age=LASTS_S, path="/", httponly=True, samesite="strict",
            secure=bool(served.settings.certificate),
        )  # fmt: skip
        return answer

    @router.post(LOGOUT)
    async def log_out(request: Request) -> Response:
        """End the session."""
        sessions.end(request.cookies.get(sessions.cookie, ""))
        answer = RedirectResponse(LOGIN, 303)
        answer.delete_cookie(sessions.cookie, path="/")
        return answer

    return router
