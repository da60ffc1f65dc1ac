"""How a run is reached over HTTP: the section `api` of the settings.

ApiSettings ──► bot.serve: where it listens, who may ask, by which certificate
"""

import re
from typing import Final

from pydantic import Field, field_validator

from bot.config.section import HomePath, Section

_ADDRESS: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]\s]+)):(\d{1,5})")
_HOST: Final = re.compile(r"[A-Za-z0-9.-]{1,253}|[0-9A-Fa-f:.]{2,45}")


def host_and_port(text: str) -> tuple[str, int]:
    """Read HOST:PORT, or [IPv6]:PORT; `ValueError` for anything else. Port 0 is any free one."""
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found[3]) > 65_535:
        what = "expected HOST:PORT such as 127.0.0.1:8710, with a port of at most 65535"
        raise ValueError(f"{what}, got {text[:80]!r}")
    return found[1] or found[2], int(found[3])


class ApiSettings(Section):
    """Where a run is reached over HTTP, and by whom."""

    address: str = Field(
        default="",
        description="HOST:PORT where a run answers over HTTP, as 127.0.0.1:8710; empty for nowhere",
    )
    read_token: HomePath = Field(
        default="",
        description="path of the file (0600) with the token that may look; empty for one in the "
        "state directory, made at the first start",
    )
    trading_token: HomePath = Field(
        default="",
        description="path of the file (0600) with the token that may look and act; empty as above",
    )
    certificate: HomePath = Field(
        default="", description="path of the TLS certificate (PEM), needed beyond loopback"
    )
    key: HomePath = Field(default="", description="path of the certificate's private key (PEM)")
    hosts: tuple[str, ...] = Field(
        default=(), description="names by which it may be called, beside loopback and its address"
    )

    @field_validator("address")
    @classmethod
    def _addressed(cls, text: str) -> str:
        if text:
            host_and_port(text)
        return text

    @field_validator("hosts")
    @classmethod
    def _named(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not _HOST.fullmatch(name):
                raise ValueError(f"expected hosts such as bot.example.org, got {name[:80]!r}")
        return names
