"""What went wrong, as a caller gets it: what was expected and what it was, and nothing secret.

    HTTPException, RequestValidationError, ConnError, a bug ──► Problem, JSON ──► 4xx, 5xx

`PROBLEMS` declares the answers that any route may give; what is a route's own stands at the route.
"""

from collections.abc import Callable
from typing import Annotated, Any, Final

from dydx_conn import ConnError
from fastapi import FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from bot.outlet import one_line

_LONGEST: Final = 300


class Problem(BaseModel):
    """What was expected, and what it was."""

    expected: str = Field(description="what would have been right")
    got: str = Field(description="what it was")


class ProblemError(Exception):
    """A request that cannot be served: a status, what was expected, and what it was."""

    def __init__(
        self, status: int, expected: str, got: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(f"expected {expected}, got {got}")
        self.status, self.expected, self.got, self.headers = status, expected, got, headers or {}


def response(problem: ProblemError) -> JSONResponse:
    """Return a problem as an answer; a text of the caller's is cut, and redacted."""
    parts = {"expected": problem.expected, "got": problem.got}
    content = {name: one_line(text, _LONGEST) for name, text in parts.items()}
    return JSONResponse(content, status_code=problem.status, headers=problem.headers)


def parted(text: str) -> tuple[str, str]:
    """Part words such as "expected this, got that" into both; the latter is "" where it is none."""
    expected, _, got = text.removeprefix("expected ").partition(", got ")
    return expected, got


def _declared(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Problem, "description": _MEANT[status]} for status in statuses}


_MEANT: Final = {
    400: "not HTTP, or not JSON",
    401: "no token, or a wrong one",
    403: "from another site, or not with this token",
    404: "no such thing",
    405: "not with this method",
    409: "not in this state of the run",
    413: "a body or a header that is too long",
    415: "a body that is no JSON",
    421: "called by a name that is not ours",
    422: "a parameter or a body that is not as described",
    500: "a mistake of the bot's",
    503: "the run does not answer, or not in time",
}
PROBLEMS: Final = _declared(400, 401, 403, 413, 421, 422, 500, 503)
NOT_FOUND: Final = _declared(404)
CONFLICT: Final = _declared(409, 415)


# === Parameters ===

# A market by its ticker, as a filter has it.
Ticker = Annotated[str, Field(pattern=r"^[!-~]{1,100}$")]


async def require_known(connection: HTTPConnection) -> None:
    """Refuse a parameter that a route does not have: a filter that is misspelt would be none."""
    route = connection.scope.get("route")
    if isinstance(route, APIRoute):
        known = _names(route.dependant)
        for name in connection.query_params:
            if name not in known:
                listed = f"one of {', '.join(sorted(known))}" if known else "no parameter"
                raise ProblemError(422, listed, repr(name))


def _names(dependant: Dependant) -> set[str]:
    found = {field.alias for field in dependant.query_params}
    return found.union(*map(_names, dependant.dependencies))


# === Handlers ===


def handle_problems(app: FastAPI, failed: Callable[[str], None]) -> None:
    """Answer whatever is raised with a problem; a bug's words are for `failed` alone."""

    async def of_bug(_: Request, error: Exception) -> JSONResponse:
        failed(f"expected an answer over HTTP, got {type(error).__name__}: {error}")
        return response(ProblemError(500, "an answer", "a mistake of the bot's, which is noted"))

    app.add_exception_handler(ProblemError, _of_problem)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(RequestValidationError, _of_parameters)
    app.add_exception_handler(ConnError, _of_layer)  # the desk, the database
    app.add_exception_handler(Exception, of_bug)


async def _of_problem(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ProblemError)  # noqa: S101 - by its registration
    return response(error)


async def _of_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - by its registration
    headers = dict(error.headers or {})
    if error.status_code == 405:
        allowed = headers.get("Allow", "another method")
        return response(
            ProblemError(405, f"{allowed} of {request.url.path}", request.method, headers)
        )
    if error.status_code == 404:
        return response(ProblemError(404, "a path of /openapi.json", request.url.path, headers))
    return response(ProblemError(error.status_code, "a request as described", str(error.detail)))


async def _of_parameters(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - by its registration
    found = error.errors()[0]
    where = " ".join(str(part) for part in found["loc"])
    what = str(found["msg"]).removeprefix("Value error, ")
    expected = what if what.startswith("expected") else f"{where}: {what}"
    return response(ProblemError(422, expected.removeprefix("expected "), repr(found.get("input"))))


async def _of_layer(_: Request, error: Exception) -> JSONResponse:
    """Part the words of an error, which are "expected …, got …", into a problem."""
    expected, got = parted(str(error))
    return response(ProblemError(503, expected, got or "no answer"))
