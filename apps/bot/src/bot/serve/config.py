"""By which settings the run goes, and where each comes from; no secret is among them."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from bot.config.settings import PATHS, SECRETS, Loaded, value_of
from bot.outlet import one_line
from bot.run.composition import Bot
from bot.serve.served import Served, answered


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
    plain = loaded.settings.model_dump(mode="json")
    return {
        path: Setting(value=_shown(path, _at(plain, path), loaded), origin=loaded.origins[path])
        for path in PATHS
    }


def _at(plain: Any, path: str) -> Any:
    for name in path.split("."):
        plain = plain.get(name) if isinstance(plain, dict) else None
    return plain


def _shown(path: str, value: Any, loaded: Loaded) -> Any:
    """Return a value that may be shown: of a secret whether there is one, of a text no key."""
    if path in SECRETS:
        secret = value_of(loaded.settings, path)
        return "**********" if secret is not None and secret.get_secret_value() else ""
    return one_line(value, 2_000) if isinstance(value, str) else value
