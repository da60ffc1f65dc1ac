"""What all tests here share: a machine on which nobody has chosen anything yet."""

import itertools
import os
import select
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from bot.run.composition import Bot, Options
from bot.screen.keyboard import Key
from bot.screen.screen import Screen
from dydx_conn import Frame, Inbox, Recording, RecordingWriter, find_recording, replay
from hypothesis import HealthCheck, settings
from leaks import look_at
from servers import places, postgresql_server
from sessions import pytest_collection, pytest_collection_modifyitems  # noqa: F401  (hooks)

ReadUntil = Callable[[int, bytes], bytes]

# A property is about what comes out, not about how busy the machine was.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take away what the shell that runs the tests may have set, and what other bots left."""
    for name in ("ENVIRONMENT", "MNEMONIC", "PRIVATE_KEY", "PASSPHRASE", "ADDRESS"):
        monkeypatch.delenv(f"DYDX_{name}", raising=False)
    for name in [name for name in os.environ if name.startswith("DYDX__")]:
        monkeypatch.delenv(name)
    for name in ("COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    # Not below tmp_path: the path of a socket may be no longer than 107 characters.
    with tempfile.TemporaryDirectory(prefix="bot-") as folder:
        for name, place in places(Path(folder)).items():  # and no file of the working directory's
            monkeypatch.setenv(name, place)
        yield
        look_at([Path(folder)])


@pytest.fixture(scope="session")
def read_until() -> ReadUntil:
    """Return what reads a terminal until something is on it, or nothing more comes."""

    def read(terminal: int, wanted: bytes) -> bytes:
        seen = b""
        while wanted not in seen and select.select([terminal], [], [], 60.0)[0]:
            try:
                seen += os.read(terminal, 65536)
            except OSError:
                break
        return seen

    return read


@pytest.fixture(scope="session")
def frames() -> list[Frame]:
    """Return the bundled recording's frames up to the end of its crash."""
    frames = list(Recording(find_recording("quickstart")))
    return [frame for frame in frames if frame.mono - frames[0].mono < 640 * 10**9]


CRASH_S = 559.0  # when it begins in the bundled recording


class Crashed(NamedTuple):
    """A run of the bundled recording, and what it held and had done when the crash began."""

    bot: Bot
    held: dict[str, float]  # notional in USDC
    fills: int
    began: int


@pytest.fixture(scope="session")
def crashed() -> Callable[..., Crashed]:
    """Return what plays the bundled recording by a profile: once for all tests, who only look."""

    @cache
    def played(profile: str, *, guard: bool = True) -> Crashed:
        bot, path = Bot(Options.of(profile, guard=guard)), find_recording("quickstart")
        began = next(iter(Recording(path))).at
        found: list[tuple[dict[str, float], int]] = []

        def look(frame: Frame) -> bool:
            if not found and frame.at - began > CRASH_S * 1e9:
                rows = bot.risk.positions()
                held = {row.ticker: (row.net_notional or 0) / 1e6 for row in rows}
                found.append((held, bot.journal.counts["fill"]))
            return True

        bot.run(replay(path, pace=look))
        return Crashed(bot, *found[0], began)

    return played


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[], str]]:
    """Return what makes an empty database on a server of its own; skips where there is none."""
    server = postgresql_server()
    try:
        url = server.__enter__()
    except OSError as error:
        pytest.skip(f"no PostgreSQL: {error}")
    import psycopg

    numbers = itertools.count()

    def made() -> str:
        name = f"bot{next(numbers)}"
        admin = url.replace("+psycopg", "") + "postgres"
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return url + name

    try:
        yield made
    finally:
        server.__exit__(None, None, None)


class Wrote:
    """Something beside a run that counts what it wrote."""

    name, trouble = "database", "expected a database that follows, got one that is behind"

    def figures(self) -> dict[str, int]:
        return {"written": 9, "lost": 1}

    def begin(self, inbox: Inbox) -> None: ...

    def note(self, frame: Frame) -> None: ...

    def end(self) -> None: ...


@pytest.fixture
def wrote() -> Wrote:
    """Return something beside a run that wrote nine and lost one."""
    return Wrote()


@pytest.fixture
def short(tmp_path: Path) -> Path:
    """Return the first minute of the bundled recording as a recording of its own."""
    source = Recording(find_recording("quickstart"))
    path = tmp_path / "short.jsonl.zst"
    writer = RecordingWriter(path, source.header)
    first = None
    for frame in source:
        first = frame.mono if first is None else first
        if frame.mono - first > 60e9:
            break
        writer.write_frame(frame)
    writer.close()
    return path


class Clock:
    """Time that stands still unless somebody waits."""

    def __init__(self) -> None:
        self.now = 1_000_000_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Stand in for the monotonic clock of whoever watches."""
    clock = Clock()
    monkeypatch.setattr("time.monotonic_ns", clock)
    return clock


@pytest.fixture
def at_once(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Screen], Screen]]:
    """Let the waits of a screen pass at once; its terminal is given back at the end."""
    made: list[Screen] = []

    def at_once(screen: Screen) -> Screen:
        asleep = screen._next_key

        def pass_time(seconds: float) -> Key:
            clock.now += int(seconds * 1e9) + 1
            return asleep(0)

        monkeypatch.setattr(screen, "_next_key", pass_time)
        made.append(screen)
        return screen

    yield at_once
    for screen in made:
        screen.terminal.dashboard.shutdown()
