"""All routes in one application, behind the gate.

    Served ──► app_of ──► Gate(FastAPI(routes …))

A part that has routes is one row of `PARTS`; the gate, the problems and the description of both in
OpenAPI hold for all of them, so that no route has to think of a token.
"""

from collections.abc import Callable
from typing import Any, Final

from fastapi import APIRouter, Depends, FastAPI

from bot import __version__
from bot.serve import (
    acts,
    chain,
    config,
    errors,
    health,
    login,
    metrics,
    money,
    orders,
    status,
    view,
    why,
)
from bot.serve.gate import Gate, is_free
from bot.serve.problems import PROBLEMS, handle_problems, require_known
from bot.serve.served import Served
from bot.serve.sessions import Sessions

PARTS: Final[tuple[Callable[[Served], APIRouter], ...]] = (
    status.routes,
    orders.routes,
    money.routes,
    why.routes,
    config.routes,
    acts.routes,
    health.routes,
    chain.routes,
    metrics.routes,
    errors.routes,
    view.routes,
)


def app_of(
    served: Served, port: int = 0, failed: Callable[[str], None] = lambda words: None
) -> FastAPI:
    """Return what answers for a run; `failed` gets the words of a bug of ours."""
    app = FastAPI(
        title="dYdX bot", version=__version__, docs_url=None, redoc_url=None,
        description="A running bot: how it stands, what it did and why, and acts upon it.",
        responses=PROBLEMS, dependencies=[Depends(require_known)],
    )  # fmt: skip
    sessions = Sessions(served.tokens, port)
    handle_problems(app, failed)
    for routes in PARTS:
        app.include_router(routes(served))
    app.include_router(login.routes(served, sessions))
    app.add_middleware(Gate, served=served, sessions=sessions)
    described = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _with_tokens(described())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's own guide has it
    return app


def _with_tokens(schema: dict[str, Any]) -> dict[str, Any]:
    """Describe the token that all but the free paths need."""
    schemes = schema.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes["token"] = {"type": "http", "scheme": "bearer"}
    for path, methods in schema.get("paths", {}).items():
        for operation in methods.values():
            operation["security"] = [] if is_free(path) else [{"token": []}]
    return schema
