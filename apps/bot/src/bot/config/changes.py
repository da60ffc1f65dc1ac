"""What of the settings may change while a run goes, and how it is put into an act.

    {dotted path: value} ──► act "reload", its text JSON ──► the composition: all of it, or nothing
    what cannot be meant ──► act "refuse", its text why

`LIVE` is the whole table: what is not in it needs a restart. The settings of a strategy have a few
more, in their `fixed`.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from dydx_conn import ConnError, Frame
from dydx_strategy import SETTINGS, Pace
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

if TYPE_CHECKING:  # all settings there are cost a fifth of a run's start: a replay changes none
    from bot.config.loaded import Loaded

RELOAD: Final = "reload"  # the type of the act
REFUSE: Final = "refuse"  # of the act that says why nothing, or something of it, did not change

# What may change between two frames: a setting, or a section with all that is in it.
LIVE: Final = ("profile", "policy", "strategies")
# But of these: who may trade beside the bot decides what an order of somebody else's is.
_FIXED: Final = ("policy.hand_beside",)
# And of sections that may not these: nothing is decided by them.
_FREE: Final = ("log.level",)

_M = TypeVar("_M", bound=BaseModel)


class RestartError(ConnError):
    """A change that can be meant, and needs a restart."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a reload, as `bot reload` gets it: `was` and `now` are by path.

    `refused` is why nothing changed, "" if nothing is wrong; `restart` says that it can be meant,
    and needs one. `above` has what was edited and something else goes over, a sentence each.
    """

    was: dict[str, Any] = {}
    now: dict[str, Any] = {}
    above: list[str] = []
    refused: str = ""
    restart: bool = False


UNWATCHED: Final = Reply(refused="expected a run that goes by settings, got one that has not begun")


def may_change(path: str) -> bool:
    """Return whether a setting may change while a run goes."""
    return path in _FREE or (path.partition(".")[0] in LIVE and path not in _FIXED)


def require_live(changes: Mapping[str, Any]) -> None:
    """Refuse changes that need a restart, each by its name."""
    fixed = {path: value for path, value in changes.items() if not may_change(path)}
    if fixed:
        names = " and ".join(fixed)
        got = ", ".join(_text(value) for value in fixed.values())
        raise RestartError(
            f"expected no change of {names} while it runs, got {got}: restart for it"
        )


def is_of_settings(act: Frame) -> bool:
    """Return whether an act changes settings, or says why they did not change."""
    return act.type in (RELOAD, REFUSE)


def text_of(changes: Mapping[str, Any]) -> str:
    """Return changes as the text of an act."""
    # Within a value as ordered: so are weights added, and by a run that begins with them.
    return msgspec.json.encode(dict(sorted(changes.items()))).decode()


def changes_of(text: str) -> dict[str, Any]:
    """Read the text of an act; `ConnError` if it is not that."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise ConnError(f"expected settings by their paths, got {text[:80]!r}: {error}") from None


def changed(model: _M, section: str, changes: Mapping[str, Any]) -> _M:
    """Return a section's model with its changes in it, validated as a whole."""
    given = _below(section, changes)
    return validated(type(model), dict(model) | given, section) if given else model


def _below(section: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    before = f"{section}."
    return {
        path.removeprefix(before): value
        for path, value in changes.items()
        if path.startswith(before)
    }


def validated(kind: type[_M], fields: Mapping[str, Any], section: str) -> _M:
    """Return a model of these fields; `ConnError` names the first that cannot be meant."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, (section, *first["loc"])))
        words = first["msg"].removeprefix("Value error, ")
        raise ConnError(f"{where}: {words}, got {_text(first['input'])[:80]}") from None


def require_restartless(was: BaseModel, now: BaseModel, scored: Collection[str]) -> None:
    """Refuse other settings of a strategy of which something stays as it is while it runs.

    So do the signals: their engines are made when it starts, for what is `scored`.
    """
    if isinstance(was, Pace) and isinstance(now, Pace):
        was.refuse(now)
    for member in getattr(now, "strategies", ()):
        kind, _ = SETTINGS.get(member.use, (None, None))
        if kind is not None:
            validated(kind, member.settings, member.title)
    for name in _weighed(now):
        if name not in scored:
            known = ", ".join(scored)
            raise RestartError(
                f"expected weights of what is scored ({known}), got {name}: restart for it"
            )


def _weighed(settings: BaseModel) -> Iterator[str]:
    yield from getattr(settings, "weights", ())
    for member in getattr(settings, "strategies", ()):
        yield from member.settings.get("weights", ())


def reloaded(config: "Loaded", changes: Mapping[str, Any], who: str) -> "Loaded":
    """Return what was loaded with settings changed since, and who did it as their origin."""
    before = config.settings
    strategies = {name: _of_strategy(name, model, changes) for name, model in before.strategies}
    settings = before.model_copy(
        update={
            "profile": changes.get("profile", before.profile),
            "policy": changed(before.policy, "policy", changes),
            "strategies": before.strategies.model_copy(update=strategies),
            "log": changed(before.log, "log", changes),
        }
    )
    origins = config.origins | dict.fromkeys(changes, f"reload by {who}")
    return msgspec.structs.replace(config, settings=settings, origins=origins)


def _of_strategy(name: str, model: _M | None, changes: Mapping[str, Any]) -> BaseModel | None:
    """Return the changed settings of a strategy, which a file may leave out, or begin."""
    section = f"strategies.{name}"
    given = _below(section, changes)
    if not given:
        return model
    if model is None:
        from bot.config.settings import SECTIONS

        return validated(SECTIONS[section], given, section)
    left_out = given.keys() == type(model).model_fields.keys() and not any(
        value is not None for value in given.values()
    )
    return None if left_out else changed(model, section, changes)


def values_of(config: "Loaded", paths: Iterable[str]) -> dict[str, Any]:
    """Return what settings are now, by path, of those that there are."""
    from bot.config.settings import PATHS, value_of

    return {path: value_of(config.settings, path) for path in paths if path in PATHS}


def refusal(words: str) -> str:
    """Return why nothing changes as the text of an act, in one line: of many faults the first."""
    head, *faults = words.splitlines() or [""]
    first = faults[0] if faults else head
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"nothing changes: {first}{more}"


def change_words(changes: Mapping[str, Any], was: Mapping[str, Any]) -> str:
    """Put changes in one line, with what each was where that is known."""
    return ", ".join(_words(changes, was, _text))


_FEW: Final = 3
_SHORT: Final = 24


def brief_change_words(changes: Mapping[str, Any], was: Mapping[str, Any]) -> str:
    """Put the first few changes in one line, for a tape or a terminal."""
    first = dict(sorted(changes.items(), key=lambda change: change[0].count(".")))  # the profile
    words = _words(first, was, _cut)
    count = f"{len(words)} changes: " if len(words) > _FEW else ""
    return count + ", ".join(words[:_FEW]) + ", …" * bool(count)


def _words(
    changes: Mapping[str, Any], was: Mapping[str, Any], text: Callable[[Any], str]
) -> list[str]:
    before = {path: f"{text(value)} → " for path, value in was.items()}
    return [f"{path} {before.get(path, '')}{text(value)}" for path, value in changes.items()]


def _cut(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 1]}…"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else to_json(value).decode()
