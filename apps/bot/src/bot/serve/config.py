"""By which settings the run goes, and where each comes from; no secret is among them."""

from typing import Any, Final

from fastapi import APIRouter
from pydantic import BaseModel, Field

from bot.config.loaded import Loaded
from bot.outlet import one_line
from bot.run.composition import Bot
from bot.serve.served import Served, answered

_LONGEST: Final = 2_000  # letters of a value


class Setting(BaseModel):
    """A setting: what it is, and which option, variable or line of a file it comes from."""

    value: Any
    origin: str


class Config(BaseModel):
    """The settings by their dotted paths, as they are now: a reload changes some of them."""

    file: str = Field(description="the file that was read, or no file")
    hash: str = Field(description="SHA-256 over all by which the run decides")
    changed: list[str] = Field(description="what is not as the profile and the defaults have it")
    settings: dict[str, Setting]


def _config_of(bot: Bot) -> Loaded | None:
    return bot.options.config


def routes(served: Served) -> APIRouter:
    """Return the route of the settings."""
    router = APIRouter(tags=["run"])
    # The newest, and what it was made of: it changes with a reload alone.
    made: list[tuple[Loaded, Config]] = []

    @router.get("/config")
    async def config() -> Config:
        """Return the effective settings with their origins, without secrets."""
        loaded = await answered(served, _config_of) or served.config
        if loaded is None:
            return Config(file="no file", hash="", changed=[], settings={})
        if not made or made[0][0] is not loaded:
            settings = _settings(loaded)
            now = Config(
                file=loaded.file, hash=loaded.hash, changed=loaded.changed, settings=settings
            )
            made[:] = [(loaded, now)]
        return made[0][1]

    return router


def _settings(loaded: Loaded) -> dict[str, Setting]:
    return {
        path: Setting(value=_shown(value), origin=loaded.origins[path])
        for path, value in loaded.plain().items()
    }


def _shown(value: Any) -> Any:
    return one_line(value, _LONGEST) if isinstance(value, str) else value
