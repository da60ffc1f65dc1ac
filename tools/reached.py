"""A run that is served, for tests: acts enter at once, questions are answered, no server listens.

the first minute of a recording ──► Reached ──► Client: requests to its application
"""

import asyncio
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from bot.config.api import ApiSettings
from bot.config.loaded import load
from bot.run.acts import waiting
from bot.run.composition import Bot, Options
from bot.run.desk import Desk
from bot.serve.app import app_of
from bot.serve.served import Served
from bot.serve.tokens import Tokens, file_of, read
from dydx_conn import Frame, Inbox, Recording, find_recording
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Cookies, Response

URL = "http://127.0.0.1:8710"


class Client:
    """Calls an application without a server; it has the cookies that it was given."""

    def __init__(self, app: FastAPI, token: str = "") -> None:
        self.app, self.cookies = app, Cookies()
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def request(self, method: str, path: str, **how: Any) -> Response:
        """Send one request and return its answer."""
        return asyncio.run(self._request(method, path, **how))

    async def _request(self, method: str, path: str, **how: Any) -> Response:
        transport = ASGITransport(self.app, raise_app_exceptions=False)
        async with AsyncClient(
            transport=transport, base_url=URL, headers=self._headers, cookies=self.cookies
        ) as client:
            answer = await client.request(method, path, **how)
            self.cookies = client.cookies
            return answer

    def get(self, path: str, **how: Any) -> Response:
        """Get something."""
        return self.request("GET", path, **how)

    def post(self, path: str, **how: Any) -> Response:
        """Post something."""
        return self.request("POST", path, **how)


class Reached(NamedTuple):
    """A run that is served, and its tokens."""

    bot: Bot
    served: Served
    token: str  # the trading token
    read_token: str
    app: FastAPI

    def client(self, token: str | None = None, *, fresh: bool = False) -> Client:
        """Return what calls it, with the trading token unless another one is given.

        An application that is made for it knows nobody, and has counted no wrong token.
        """
        app = app_of(self.served, 8710) if fresh else self.app
        return Client(app, self.token if token is None else token)


def reached_run(directory: Path, **served: Any) -> Reached:
    """Return a run in its first minute, with its tokens in a directory; `served` as Served has."""
    bot, inbox, desk = Bot(Options.of("reckless")), Inbox(), Desk()
    for frame in first_minute():
        bot._take(frame)
    settings = ApiSettings(
        read_token=str(directory / "read.token"), trading_token=str(directory / "trading.token")
    )
    tokens = Tokens(settings)
    tokens.require()

    def wake() -> None:
        for frame in waiting(inbox, bot.shown.last_frames[-1]):
            bot._take(frame)
        desk.answer()

    desk.begin(bot)
    desk.wake = wake
    usual: dict[str, Any] = {
        "desk": desk, "inbox": inbox, "mode": "REPLAY", "name": "quickstart", "tokens": tokens,
        "settings": settings, "recording": find_recording("quickstart"),
        "config": load(environment={}),
    }  # fmt: skip
    trading, looking = (read(file_of(settings, kind)) for kind in ("trading", "read"))
    made = Served(**usual | served)
    return Reached(bot, made, trading, looking, app_of(made, 8710))


@cache
def first_minute() -> tuple[Frame, ...]:
    """Return the frames of the first minute of the bundled recording."""
    found: list[Frame] = []
    for frame in Recording(find_recording("quickstart")):
        if found and frame.mono - found[0].mono > 60e9:
            break
        found.append(frame)
    return tuple(found)
