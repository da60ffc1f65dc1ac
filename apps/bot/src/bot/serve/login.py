"""A browser's way in: a form that takes a token, and the cookie that it is given for it.

GET /login ──► a form ──► POST /login ──► 303 to the page, with the cookie
"""

from html import escape
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
<title>log in - dYdX bot</title>
<style>
body { background: #0c0f12; color: #c8ccd0; font: 15px/1.5 ui-sans-serif, system-ui, sans-serif }
form { border: 1px solid #2a323a; border-radius: 6px; margin: 12vh auto 0; max-width: 26em;
  padding: 1.2em 1.4em 1.4em }
h1 { font-size: 1.2em; margin: 0 0 .8em }
p { color: #8c8c8c; margin: .4em 0 1.1em }
p[role] { color: #ff5548 }
code { color: #7fb8d8; font-family: ui-monospace, "DejaVu Sans Mono", monospace }
input, button { border-radius: 4px; box-sizing: border-box; font: inherit; padding: .5em;
  width: 100% }
input { background: #14191e; border: 1px solid #2a323a; color: inherit; margin-top: .3em }
button { background: #7fb8d8; border: 0; color: #0c0f12; cursor: pointer; font-weight: 600 }
:focus-visible { outline: 2px solid #7fb8d8; outline-offset: 2px }
</style>
</head>
<body>
<form method="post" action="/login">
<h1>dYdX bot</h1>
{note}<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<p>It is in the file that <code>bot token read</code> prints, on the machine of the bot.</p>
<button>Log in</button>
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
        return _form()

    @router.post(LOGIN)
    async def log_in(request: Request) -> Response:
        """Give a cookie for a token; a page gets the form again for a wrong one."""
        try:
            cookie = await _cookie(request)
        except ProblemError as problem:
            if "text/html" in request.headers.get("accept", ""):
                return _form(problem)
            raise
        answer = RedirectResponse("/", 303, headers={"Cache-Control": "no-store"})
        answer.set_cookie(
            sessions.cookie, cookie, max_age=LASTS_S, path="/", httponly=True, samesite="strict",
            secure=bool(served.settings.certificate),
        )  # fmt: skip
        return answer

    async def _cookie(request: Request) -> str:
        sent = parse_qs((await request.body()).decode("utf-8", "replace")).get("token", [""])[0]
        cookie = sessions.begin(sent.strip())
        if cookie is None:
            raise ProblemError(401, "a token of this bot in the form", "another one")
        return cookie

    @router.post(LOGOUT)
    async def log_out(request: Request) -> Response:
        """End the session."""
        sessions.end(request.cookies.get(sessions.cookie, ""))
        answer = RedirectResponse(LOGIN, 303)
        answer.delete_cookie(sessions.cookie, path="/")
        return answer

    return router


def _form(problem: ProblemError | None = None) -> HTMLResponse:
    """Return the form, with what was wrong before."""
    note = f'<p role="alert">{escape(str(problem))}</p>\n' if problem else ""
    status, more = (problem.status, problem.headers) if problem else (200, {})
    return HTMLResponse(_FORM.replace("{note}", note), status, {**_HEADERS, **more})
