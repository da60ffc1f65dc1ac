"""Which signals a run scores, and the days of its levels that outlive it.

    --signals, the strategy's `signals` ──► engines_of ──► Scorer
    Scorer ──► Days, write_state ──► a file ──► read_state ──► Frame(kind="state") ──► Bot.begin

Standard are six; what nobody reads is not computed. A file of the user's own defines `signals()`,
which returns engines (`dydx_signals.Engine`): it is run here, with all rights of this process.
"""

import contextlib
import difflib
import hashlib
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec
from dydx_conn import ConnError, Frame, Inbox, Network
from dydx_signals import ALL, STANDARD, Engine, Scorer, SignalError
from dydx_strategy import StrategyError, run_file

from bot.run.acts import private, state_directory
from bot.system import reason, replacing

Make = Callable[[], Engine]

# === Engines ===
# From words to what makes engines; a wrong word is refused with the nearest right one.


def engines_of(
    words: str,
    strategy: Callable[[], Any] | None,
    tuned: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
) -> Sequence[Make]:
    """Return the standard engines, those that the strategy names and those that were typed.

    `words` is "all", names with commas between, or the path of a Python file; `tuned` has of some
    names by what they are made.
    """
    makes = known(words)
    makes |= {name: partial(makes[name], **fields) for name, fields in tuned.items()}
    if words == "all":
        return [makes[_name(make)] for make in ALL]
    named = () if strategy is None else tuple(getattr(strategy(), "signals", ()))
    typed = [*makes][len(ALL) :]
    if not words.endswith(".py"):
        typed = [word.strip() for word in words.split(",") if word.strip()]
    wanted = [*(_name(make) for make in STANDARD), *named, *typed]
    for name in wanted:
        if name not in makes:
            near = ", ".join(difflib.get_close_matches(name, makes, 3) or makes)
            raise SignalError(f"expected a signal such as {near}, got {name!r}")
    return [makes[name] for name in dict.fromkeys(wanted)]


def known(words: str) -> dict[str, Make]:
    """Return by name all that can be scored, those of a user's file last."""
    mine = from_file(Path(words)) if words.endswith(".py") else ()
    return {_name(make): make for make in ALL} | {_name(make): make for make in mine}


def _name(make: Make) -> str:
    name: str = getattr(make, "name", "") or make().name
    return name


def from_file(path: Path) -> tuple[Make, ...]:
    """Run a user's file and return what makes its engines; `SignalError` says what is wrong."""
    try:
        makes = tuple(run_file(path, "signals").signals())
        missing = [_lacks(make()) for make in makes] or ["none"]
    except StrategyError as error:
        raise SignalError(str(error)) from error
    except (Exception, SystemExit) as error:
        raise SignalError(
            f"expected signals() of {path} to return engines, got {type(error).__name__}: {error}"
        ) from error
    if got := next(filter(None, missing), ""):
        raise SignalError(f"expected signals() of {path} to return engines, got {got}")
    return makes


_PARTS: Final = ("name", "changes", "update", "read", "value")


def _lacks(engine: object) -> str:
    lacking = [part for part in _PARTS if not hasattr(engine, part)]
    return f"a {type(engine).__name__} without {', '.join(lacking)}" if lacking else ""


# === Days ===
# What a run leaves for the next: a file, whole or not at all, that enters as a frame.

_EVERY_NS: Final = 60_000_000_000  # what is lost by a kill -9 is no older
_PATIENCE_S: Final = 10.0


def days_file(net: Network) -> Path:
    """Return where the days of a network's markets are stored between runs."""
    return state_directory() / f"days-{net.chain_id}.json"


def begin_with(path: Path, inbox: Inbox) -> None:
    """Put what a run left in, as the first frame of one that has not begun.

    What cannot be read is no reason not to begin: the levels warm up as on the first day.
    """
    try:
        state = read_state(path)
    except (SignalError, OSError) as error:
        print(
            f"bot: warning: {reason(error)}: the day of each market begins again", file=sys.stderr
        )
        return
    if state is not None:
        inbox.put("state", state.text, id=state.id, link=state.link)


class Days:
    """Begins a live run with the days of the last one; stores its own, under its hash.

    Once a minute, a day a frame, so that a run that is killed loses no more; then a thread writes
    them. A full disk is no reason to lose the report of a run.
    """

    name = "days"
    trouble = ""

    def __init__(self, scorer: Scorer, hash_of: Callable[[], str], path: Path) -> None:
        self._scorer, self._hash_of, self._path = scorer, hash_of, path
        self._taking: Iterator[bytes] | None = None
        self._taken: list[bytes] = []
        self._due = 0
        self._writing = threading.Thread()

    def begin(self, inbox: Inbox) -> None:
        """Put in what the last run left."""
        _clear(self._path)
        begin_with(self._path, inbox)

    def note(self, frame: Frame) -> None:
        """Take the next of what is stored once a minute; most frames are none of its."""
        if self._taking is None:
            if frame.mono < self._due or self._writing.is_alive():
                return
            began, self._due = self._due > 0, frame.mono + _EVERY_NS
            if began and self._scorer.views:
                self._taking = self._scorer.state_parts(self._hash_of())
        elif (part := next(self._taking, None)) is not None:
            self._taken.append(part)
        else:
            taken, self._taking, self._taken = self._taken, None, []
            self._writing = threading.Thread(target=self._store, args=[taken], daemon=True)
            self._writing.start()

    def end(self) -> None:
        """Store the days."""
        if self._writing.ident is not None:
            self._writing.join(_PATIENCE_S)
        try:
            if self._writing.is_alive():
                raise TimeoutError(f"a disk that took none for {_PATIENCE_S:.0f} s")
            write_state(self._scorer, self._hash_of(), self._path)
        except (OSError, ConnError) as error:
            what = f"expected to store the day of each market in {self._path}"
            print(f"bot: {what}, got {reason(error)}", file=sys.stderr)

    def _store(self, parts: list[bytes]) -> None:
        with contextlib.suppress(OSError, ConnError):  # the end tries again, and reports it
            _write(parts, self._path)


def _clear(path: Path) -> None:
    # What a run was writing when it was killed.
    with contextlib.suppress(OSError):
        for left in path.parent.glob(f".{path.name}.[0-9]*"):
            if not Path("/proc", left.suffix[1:]).exists():
                left.unlink()


def read_state(path: Path) -> Frame | None:
    """Return what is stored as the frame that a run begins with; None if nothing is."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeError as error:
        raise SignalError(f"expected what a run left in {path}, got {error}") from error
    try:
        source = msgspec.json.decode(text, type=_Source).source
    except msgspec.MsgspecError as error:
        raise SignalError(f"expected what a run left in {path}, got {error}") from error
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    state = Frame(0, 0, 0, "state", "state", text, id=f"{source[:16]}/{digest}")
    Scorer().restore(state)  # refused here, and not within a run
    return state


class _Source(msgspec.Struct):
    source: str


def write_state(scorer: Scorer, source: str, path: Path) -> None:
    """Store the days of the run of that hash; if it never scored a market nothing is stored."""
    if not scorer.views:
        return
    _write(scorer.state_parts(source), path)


def _write(parts: Iterable[bytes], path: Path) -> None:
    if path.parent == state_directory():
        private(path.parent)
    with replacing(path, 0o666) as file:
        file.writelines(parts)
