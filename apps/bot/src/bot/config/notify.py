"""Who is notified of what: sinks, thresholds, quiet hours and limits.

    bot.yaml ──► NotifySettings ──► bot.notify

An address of apprise may hold a token, so none stands in the file in the clear but one that holds
nothing: a webhook of this machine. Others are in a variable (`url_env`), in a file that only its
owner may read (`url_file`), or in `notify.urls`, a secret that `bot config seal` encrypts.
"""

import re
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, field_serializer, field_validator, model_validator

from bot.config.section import HomePath, Section

# === Kinds ===
# All that a notice can be of, and whether it goes through quiet hours.

Kind = Literal[
    "guard", "distance", "gate", "connection", "lag", "order", "limit", "strategy", "liquidation",
    "reload", "trouble", "run", "summary", "test",
]  # fmt: skip
CHOSEN: Final = (
    "guard", "distance", "gate", "connection", "lag", "order", "limit", "strategy", "liquidation",
    "reload", "trouble", "run", "summary",
)  # fmt: skip
Level = Literal["all", "warning", "critical"]

# === Addresses ===
# What may stand in the clear.

SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*(?=://)", re.IGNORECASE)
_HERE: Final = re.compile(
    r"(?:json|xml|form)://(?:127\.0\.0\.1|localhost|\[::1\])(?::\d+)?(?:/[\w.-]{0,40})?/?",
    re.IGNORECASE,
)
_OF_DESKTOP: Final = re.compile(r"(?:dbus|gnome|macosx|windows|syslog)://?/?", re.IGNORECASE)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


def is_plain(url: str) -> bool:
    """Return whether an address holds nothing that is secret: a webhook here, or the desktop."""
    return bool(_HERE.fullmatch(url) or _OF_DESKTOP.fullmatch(url))


def hidden(url: str) -> str:
    """Return an address as it may be seen: its service alone, unless it holds nothing secret."""
    if is_plain(url):
        return url
    scheme = SCHEME.match(url)
    return f"{scheme[0].lower() if scheme else 'unknown'}://***"


# === Sections ===

_CLOCK: Final = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d")


def minutes_of(clock: str) -> int:
    """Return a time of day, HH:MM, in minutes after midnight."""
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)


class SinkSettings(Section):
    """Where notices go: its name, where its address is, and what it gets."""

    name: str = Field(description="what it is called, as phone")
    url: str = Field(
        default="", description="its address, where that holds no token: json://127.0.0.1:8080/"
    )
    url_env: str = Field(default="", description="or the variable that has it")
    url_file: HomePath = Field(
        default="", description="or a file that has it, which only you may read"
    )
    kinds: tuple[Kind, ...] = Field(
        default=CHOSEN, description=f"which kinds it gets, of {', '.join(CHOSEN)}"
    )
    level: Level = Field(default="all", description="how grave they are at least")

    @field_validator("name")
    @classmethod
    def _named(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(f"expected a name of a-z, 0-9, - and _, got {name[:40]!r}")
        return name

    @field_validator("url")
    @classmethod
    def _holds_nothing(cls, url: str) -> str:
        if url and not is_plain(url):
            raise ValueError(
                "expected a url without a token, as json://127.0.0.1:8080/ (others: url_env, "
                f"url_file, or notify.urls by bot config seal), got {hidden(url)}"
            )
        return url

    @model_validator(mode="after")
    def _in_one_place(self) -> Self:
        given = [name for name in ("url", "url_env", "url_file") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"expected one place of the address, got {' and '.join(given)}")
        return self


class NotifySettings(Section):
    """Who is notified of what, by apprise: Telegram, Discord, e-mail, webhooks and many more."""

    enabled: bool = Field(
        default=True, description="send notices of live runs and of what is watched"
    )
    sinks: tuple[SinkSettings, ...] = Field(
        default=(),
        description="where notices go: of each its name, its address (url, url_env or url_file), "
        f"and maybe its level (warning, critical) and its kinds, of {', '.join(CHOSEN)}",
    )
    urls: SecretStr = Field(
        default=SecretStr(""),
        description="addresses of sinks, to be sealed: a line each, as phone=tgram://…",
    )
    distance_below: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(0.25, 0.15, 0.10),
        description="distances to liquidation that are noticed; the lowest of them is critical",
    )
    disconnected_s: float = Field(
        default=30.0, ge=1, description="seconds of a lost connection that are noticed"
    )
    lag_s: float = Field(
        default=5.0, gt=0, description="seconds of waiting frames that are noticed"
    )
    wait_s: float = Field(
        default=10.0, gt=0, description="seconds of waiting for a rate limit that are noticed"
    )
    repeat_s: float = Field(
        default=300.0, ge=0, description="seconds in which the same again is counted, and not sent"
    )
    messages: int = Field(
        default=10, ge=1, le=1_000, description="most messages to a sink within `minutes`"
    )
    minutes: float = Field(
        default=10.0,
        gt=0,
        le=1_440,
        description="of `messages`; what is more is counted in the next",
    )
    quiet: str = Field(
        default="", description="hours in which only what is critical is sent, as 22:00-07:00"
    )
    timezone: str = Field(default="UTC", description="where quiet hours and the summary are")
    summary_at: str = Field(default="08:00", description="time of day of a summary; empty for none")
    timeout_s: float = Field(default=20.0, gt=0, le=300, description="seconds that a sink may take")

    @field_serializer("urls")
    def _without_addresses(self, urls: SecretStr) -> str:
        found = pairs_of(urls)
        return "\n".join(f"{name}={hidden(url)}" for name, url in found.items())

    @field_validator("urls")
    @classmethod
    def _in_pairs(cls, urls: SecretStr) -> SecretStr:
        for line in _lines(urls):
            name, equals, url = line.partition("=")
            if not (equals and _NAME.fullmatch(name.strip()) and SCHEME.match(url.strip())):
                raise ValueError("expected urls as phone=tgram://…, a line each, got another line")
        return urls

    @field_validator("summary_at")
    @classmethod
    def _of_a_day(cls, clock: str) -> str:
        if clock and not _CLOCK.fullmatch(clock):
            raise ValueError(f"expected summary_at as 08:00, got {clock[:20]!r}")
        return clock

    @field_validator("quiet")
    @classmethod
    def _from_to(cls, hours: str) -> str:
        begin, _, end = hours.partition("-")
        if hours and not (_CLOCK.fullmatch(begin) and _CLOCK.fullmatch(end) and begin != end):
            raise ValueError(f"expected quiet as 22:00-07:00, got {hours[:20]!r}")
        return hours

    @field_validator("timezone")
    @classmethod
    def _on_earth(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ValueError, OSError, LookupError):
            raise ValueError(f"expected a timezone as Europe/Berlin, got {name[:40]!r}") from None
        return name

    @field_validator("sinks")
    @classmethod
    def _by_name(cls, sinks: tuple[SinkSettings, ...]) -> tuple[SinkSettings, ...]:
        names = [sink.name for sink in sinks]
        if twice := next((name for name in names if names.count(name) > 1), ""):
            raise ValueError(f"expected sinks of different names, got {twice} twice")
        return sinks


def pairs_of(urls: SecretStr) -> dict[str, str]:
    """Return the addresses of `notify.urls` by the names of their sinks."""
    split = (line.partition("=") for line in _lines(urls))
    return {name.strip(): url.strip() for name, _, url in split}


def _lines(urls: SecretStr) -> list[str]:
    # As typed at a prompt, or in a variable, several may stand in one line.
    return [line for line in re.split(r"[\n ]+", urls.get_secret_value()) if line.strip()]
