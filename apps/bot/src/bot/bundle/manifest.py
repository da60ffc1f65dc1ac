"""What a bundle says of itself: what it is about, what is expected of it, and what made that so.

run, machine ──► Manifest ──► JSON ──► read_manifest ──► differences from this machine, in words
"""

import hashlib
import platform
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, distributions, requires
from typing import Any, Final

import msgspec

from bot.bundle.parcel import MANIFEST, BundleError
from bot.bundle.trail import Row

VERSION: Final = 1
_SHOWN: Final = 6  # distributions whose versions differ, by name


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Which programs a run was made by: of Python, of the system, of each distribution.

    `needed` are the distributions that the bot stands on; the others are only installed beside it.
    """

    python: str
    platform: str
    distributions: dict[str, str]
    needed: list[str] = []

    @classmethod
    @cache
    def here(cls) -> "Machine":
        """Return what is installed here; that takes a while, and does not change."""
        found = {_named(one["Name"]): one["Version"] for one in _metadata()}
        return cls(
            python=f"{platform.python_implementation()} {platform.python_version()}",
            platform=f"{platform.system()} {platform.machine()}, {'-'.join(platform.libc_ver())}",
            distributions=dict(sorted(found.items())),
            needed=sorted(_needed("bot") & found.keys()),
        )


def _metadata() -> Iterator[Any]:
    # Each time that it is read it is parsed; of a broken one nothing is known.
    for one in distributions():
        if (found := one.metadata) and found["Name"]:
            yield found


def _needed(name: str) -> set[str]:
    """Return what a distribution stands on, extras left out, and what that stands on."""
    found, open_ = {name}, [name]
    while open_:
        try:
            wanted = requires(open_.pop()) or []
        except PackageNotFoundError:  # for another system, or only bundled with it
            continue
        names = {_named(_NAME.split(one, maxsplit=1)[0]) for one in wanted if "extra ==" not in one}
        open_ += names - found
        found |= names
    return found


_NAME: Final = re.compile(r"[^A-Za-z0-9._-]")


def _named(text: str) -> str:
    return re.sub(r"[-_.]+", "-", text).lower()


class Member(msgspec.Struct, frozen=True):
    """A file of the bundle and the SHA-256 of what is in it."""

    name: str
    hash: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle is about; `seq` is the last of its frames, `code` are files of the user's.

    `damage` counts the places at which frames were missing from the recording: they are here too.
    """

    version: int = VERSION
    id: str
    entry: Row
    source: str
    made_by: str
    frames: int
    damage: int
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
    # What is installed beside the bot takes no part in a run.
    others = [
        f"{name} {was} there, {now.distributions.get(name, 'none')} here"
        for name in then.needed
        if now.distributions.get(name) != (was := then.distributions.get(name, "none"))
    ]
    more = [f"and {len(others) - _SHOWN} more"] if len(others) > _SHOWN else []
    return [*found, *others[:_SHOWN], *more]
