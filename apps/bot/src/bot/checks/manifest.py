"""What a bundle says of itself: what it is about, what is expected of it, and what made that so.

run, machine ──► Manifest ──► JSON ──► read_manifest ──► differences from this machine, in words
"""

import hashlib
import platform
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import distributions
from typing import Any, Final

import msgspec

from bot.checks.parcel import MANIFEST, BundleError
from bot.checks.trail import Row

VERSION: Final = 1
_SHOWN: Final = 6  # distributions whose versions differ, by name


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Which programs a run was made by: of Python, of the system, of each distribution."""

    python: str
    platform: str
    distributions: dict[str, str]

    @classmethod
    @cache
    def here(cls) -> "Machine":
        """Return what is installed here; that takes a while, and does not change."""
        found = {one["Name"].lower(): one["Version"] for one in _metadata()}
        return cls(
            python=f"{platform.python_implementation()} {platform.python_version()}",
            platform=f"{platform.system()} {platform.machine()}, {'-'.join(platform.libc_ver())}",
            distributions=dict(sorted(found.items())),
        )


def _metadata() -> Iterator[Any]:
    # Each time that it is read it is parsed; of a broken one nothing is known.
    for one in distributions():
        if (found := one.metadata) and found["Name"]:
            yield found


class Member(msgspec.Struct, frozen=True):
    """A file of the bundle and the SHA-256 of what is in it."""

    name: str
    hash: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle is about; `seq` is the last of its frames, `code` are files of the user's."""

    version: int = VERSION
    id: str
    entry: Row
    source: str
    made_by: str
    frames: int
    seq: int
    after_s: float
    run_hash: str
    settings: dict[str, Any]
    code: list[str]
    machine: Machine
    members: list[Member]


class _Version(msgspec.Struct):
    version: int


def members_of(members: Mapping[str, bytes]) -> list[Member]:
    """Return the sums of all members but the manifest itself."""
    return [
        Member(name, hashlib.sha256(content).hexdigest())
        for name, content in sorted(members.items())
        if name != MANIFEST
    ]


def read_manifest(members: Mapping[str, bytes], where: str) -> Manifest:
    """Read the manifest, and hold all else to its sums; `BundleError` where it is not so."""
    if MANIFEST not in members:
        raise BundleError(f"expected {MANIFEST} in {where}, got {', '.join(members) or 'nothing'}")
    try:
        version = msgspec.json.decode(members[MANIFEST], type=_Version).version
        if version > VERSION:
            what = f"expected a bundle of version {VERSION} or older in {where}, got {version}"
            raise BundleError(f"{what}: a newer release wrote it")
        manifest = msgspec.json.decode(members[MANIFEST], type=Manifest)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise BundleError(f"expected a manifest in {where}, got {error}") from None
    expected, got = ({one.name: one.hash for one in each}
                     for each in (manifest.members, members_of(members)))  # fmt: skip
    if wrong := sorted(n for n in {*expected, *got} if expected.get(n) != got.get(n)):
        raise BundleError(f"expected {where} as it was written, got other content: {wrong[0]}")
    return manifest


def differences(then: Machine, now: Machine) -> list[str]:
    """Put in words what is installed otherwise than where the bundle was made."""
    found = [
        f"{name} {was} there, {is_} here"
        for name, was, is_ in (
            ("Python", then.python, now.python), ("system", then.platform, now.platform),
        )
        if was != is_
    ]  # fmt: skip
    # What is installed beside the bot takes no part; what it had and is not here may.
    others = [
        f"{name} {was} there, {now.distributions.get(name, 'none')} here"
        for name, was in then.distributions.items()
        if now.distributions.get(name) != was
    ]
    more = [f"and {len(others) - _SHOWN} more"] if len(others) > _SHOWN else []
    return [*found, *others[:_SHOWN], *more]
