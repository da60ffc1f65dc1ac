"""`bot watch`: real accounts on a dashboard or in a pipe, read-only."""

import io
import json
import threading
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import bot.watch.command
import msgspec
import pytest
from bot.__main__ import main
from bot.run.composition import Options
from bot.watch.address import Target
from bot.watch.command import Pasts, channels, nearest
from bot.watch.group import Group
from bot.watch.past import Past
from bot.watch.reading import Order, Reading, Seen
from bot.watch.screen import WatchScreen
from dydx_conn import (
    NETWORKS,
    Frame,
    Network,
    NetworkError,
    Recording,
    Subaccount,
    WireWriter,
    market_fields,
    market_parameters,
)
from dydx_risk import Holding
from reactivex import Observable, from_iterable
from rich.console import Console
from sessions import REAL

OWNER = "dydx1lwzy434rmz8ufxkeak36xgpuzk9k9csx0sn6km"
OTHER = "dydx18y6v62cltpkud6kqr26yxa6swnjv8f4z5p6c78"
US, CHILD, THEM = Subaccount(OWNER, 0), Subaccount(OWNER, 128), Subaccount(OTHER, 0)
PARENTS = next(session for session in REAL if str(session).startswith("13-"))

# === A recording ===


def played(*typed: str) -> list[str]:
    """Return what is typed to watch both accounts of the session with a child and its parent."""
    names = [*PARENTS.truth["state"]]
    path = PARENTS.folder / "frames.jsonl.zst"
    return ["watch", *names, "--recording", str(path), *typed]


@pytest.mark.replays
def test_accounts_are_watched_in_a_recording_of_their_frames(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """To the quantum what the real chain held at its end, for a child and for its parent."""
    code = main(played("--json"))

    rows = json.loads(capsys.readouterr().out)["accounts"]
    got = {f"{row['address']}/{row['subaccount']}": row for row in rows}
    assert code == 0
    for name, truth in PARENTS.truth["state"].items():
        assert Decimal(got[name]["net_collateral"]) * 10**6 == truth["net_collateral"]
        assert Decimal(got[name]["maintenance_margin"]) * 10**6 == truth["maintenance_margin"]


@pytest.mark.replays
def test_an_account_that_is_in_no_frame_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Beside others it is a warning; alone it is no such account."""
    path = str(PARENTS.folder / "frames.jsonl.zst")
    known = next(iter(PARENTS.truth["state"]))

    both = main(["watch", known, OWNER, "--recording", path, "--quiet"])
    warned = capsys.readouterr().err
    alone = main(["watch", OWNER, "--recording", path, "--quiet"])
    refused = capsys.readouterr()

    assert (both, alone) == (0, 2)
    assert warned == f"bot: warning: expected an account of frames.jsonl.zst, got {OWNER}\n"
    assert refused.err.startswith(f"bot: expected an account of frames.jsonl.zst, got {OWNER}: ")
    assert refused.out == ""


@pytest.mark.replays
def test_a_pipe_gets_a_line_for_each_change_and_a_report(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first line says that no key is needed; --quiet leaves the report."""
    main(played())
    lines = capsys.readouterr().out.splitlines()
    main(played("--quiet"))
    quiet = capsys.readouterr().out.splitlines()

    assert lines[0] == "watching, public data alone: no key is needed, and none is read"
    assert any("to liquidation, equity" in line for line in lines)
    assert [line for line in lines if line.startswith("  EIGEN-USD +40, ")]
    assert "watching" not in quiet[0]
    assert lines[-len(quiet) :] == quiet


def test_a_recording_of_a_network_is_watched_as_the_network_was(
    world: "World", tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a pipe with a line for each change; its report is that of the run."""
    world.readings = [reading(US)]
    path = str(tmp_path / "mine.jsonl.zst")
    main(["watch", OWNER, "--network", "testnet", "--quiet", "--record", path])
    live = capsys.readouterr().out.splitlines()

    code = main(["watch", OWNER, "--recording", path])

    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert lines[:3] == [
        "watching, public data alone: no key is needed, and none is read",
        "00:00:00 dydx1lwz…sn6km/0 UNKNOWN: no account snapshot yet",
        "00:00:00 dydx1lwz…sn6km/0 FLAT, equity 1,000.00; "
        "indexer only, unsettled funding not included",
    ]
    assert lines[4:] == live[1:]


# === A network ===


def reading(whose: Subaccount = US, *tickers: str, **other: Any) -> Reading:
    """Read an account that is long of some markets."""
    held = tuple(Holding(market=market_parameters(each), quantums=1) for each in tickers)
    seen = Seen(height=9, collateral=5, holdings=held)
    return Reading(whose=whose, indexer=seen, orders=(), **other)


class World:
    """What stands in for a network: what is read of it, and the frames that it sends."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self.sent: dict[str, Any] = {}
        writer = WireWriter(at=1_767_225_600 * 10**9)
        self.frames: Sequence[Frame] = [
            writer.event("open", "ws:"),
            writer.markets(market_fields("BTC-USD", price="50000")),
            writer.account(US, "1000", []),
        ]

    def live(self, _: Network, tickers: list[str], **how: Any) -> Observable[Frame]:
        """Send the frames, as far as the pace lets them."""
        self.sent = {"tickers": tickers, **how}
        pace = how["pace"]
        return from_iterable(frame for frame in self.frames if pace(frame))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Put a stand-in in the place of the network."""
    world = World()
    monkeypatch.setattr(bot.watch.command, "read", lambda *_: world.readings)
    monkeypatch.setattr(bot.watch.command, "live", world.live)
    monkeypatch.setattr(bot.watch.command, "past", lambda *_: {})

    class Quiet:
        def __init__(self, *_: Any) -> None:
            pass

        def __enter__(self) -> "Quiet":
            return self

        def __exit__(self, *raised: object) -> None:
            pass

    monkeypatch.setattr(bot.watch.command, "Node", Quiet)
    return world


def test_the_markets_and_channels_are_those_of_the_accounts(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Held, ordered and typed ones; a parent's channel brings its child."""
    order = Order(ticker="ETH-USD", side="BUY", size="1", price="1", type="LIMIT", status="OPEN")
    held = msgspec.structs.replace(reading(US, "BTC-USD"), orders=(order,))
    world.readings = [held, reading(CHILD)]

    code = main(["watch", OWNER, "--network", "mainnet", "--tickers", "SOL-USD", "--json"])

    found = json.loads(capsys.readouterr().out)
    assert world.sent["tickers"] == ["BTC-USD", "ETH-USD", "SOL-USD"]
    assert world.sent["also"] == [("v4_parent_subaccounts", f"{OWNER}/0")]
    assert ("v4_candles", "BTC-USD/1MIN") in world.sent["history"]
    assert found["accounts"][0]["net_collateral"] == "1000.000000"
    assert (code, found["chain_unknown_because"]) == (1, "no node has answered yet")


def test_the_account_that_is_nearest_to_liquidation_is_shown_first() -> None:
    """What cannot be valued comes before all, and what is flat last."""
    flat, far = reading(US), reading(THEM, "BTC-USD")
    priced = tuple(
        msgspec.structs.replace(held, price=5, quantums=10**10)
        for held in far.indexer.holdings  # type: ignore[union-attr]
    )
    rich = Seen(height=9, collateral=10**12, holdings=priced)
    valued = msgspec.structs.replace(far, indexer=rich)

    assert nearest([flat, valued]) == THEM
    assert nearest([flat]) == US
    assert nearest([valued, reading(CHILD, "BTC-USD")]) == CHILD


def test_a_child_alone_has_a_channel_of_its_own() -> None:
    """Where its parent is not watched."""
    assert channels([reading(CHILD), reading(THEM)]) == [
        ("v4_subaccounts", f"{OWNER}/128"),
        ("v4_parent_subaccounts", f"{OTHER}/0"),
    ]


def test_who_holds_nothing_is_watched_with_the_markets_of_the_settings(world: World) -> None:
    """Somebody wants to see prices, and an account may trade any time."""
    world.readings = [reading(US)]

    main(["watch", OWNER, "--network", "testnet", "--quiet"])

    assert world.sent["tickers"] == ["BTC-USD", "ETH-USD", "SOL-USD"]


def test_of_several_accounts_one_that_nobody_knows_is_named_in_its_place(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are watched; if nobody knows any, nothing is."""
    lost = Reading(whose=THEM, orders=(), no_indexer="it knows of no deposit", no_chain="away")
    world.readings = [reading(US), lost]

    code = main(["watch", OWNER, OTHER, "--network", "testnet", "--quiet"])

    out = capsys.readouterr()
    assert code == 1
    assert f"warning: expected {OTHER} of testnet, got no answer: node: away" in out.err
    assert "indexer only, unsettled funding not included: away" in out.err
    world.readings = [lost]
    assert main(["watch", OTHER, "--network", "testnet"]) == 2
    assert capsys.readouterr().err.startswith(f"bot: expected {OTHER} of testnet")


def test_a_network_that_sends_nothing_is_reported(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the reason of the link that was lost."""
    world.readings = [reading(US)]
    world.frames = [Frame(1, 1, 1, "c1", "close", "Connection refused")]

    code = main(["watch", OWNER, "--network", "testnet", "--quiet"])

    assert code == 2
    err = capsys.readouterr().err
    assert "expected frames of testnet from wss://" in err
    assert "got none: Connection refused" in err


def test_the_frames_are_recorded_for_who_wants_them(world: World, tmp_path: Path) -> None:
    """With whose accounts they are; that recording can be watched again."""
    world.readings = [reading(US)]
    path = tmp_path / "mine.jsonl.zst"

    main(["watch", OWNER, "--network", "testnet", "--quiet", "--record", str(path)])

    recording = Recording(path)
    assert recording.header.run == f"watch {OWNER}"
    assert [frame.kind for frame in recording] == ["open", "ws", "ws"]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("hello", "expected an address of dYdX"),
        (f"{OWNER[:-1]}q", "its checksum is wrong"),
        (f"{OWNER}/x", "expected a subaccount between"),
    ],
)
def test_a_malformed_account_is_refused_before_anything_is_opened(
    typed: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line, and a 2."""
    assert main(["watch", typed, "--network", "mainnet"]) == 2
    assert words in capsys.readouterr().err


def test_the_past_is_queried_beside_the_run() -> None:
    """What is not answered is not known, and ends nothing."""
    found, queried = {US: Past()}, threading.Event()

    def query(_: Network, whose: list[Subaccount]) -> dict[Subaccount, Past]:
        queried.set()
        return found

    def fails(*_: Any) -> dict[Subaccount, Past]:
        queried.set()
        raise NetworkError("away")

    with Pasts(NETWORKS["local"], [US], query) as pasts:
        assert queried.wait(5)
        pasts._over.set()
        pasts._thread.join(5)
    assert pasts.found is found
    queried.clear()
    with Pasts(NETWORKS["local"], [US], fails) as pasts:
        assert queried.wait(5)
    assert pasts.found == {}


# === The dashboard ===


@pytest.fixture
def screen() -> Iterator[WatchScreen]:
    """Return the dashboard of three accounts on a made-up terminal."""
    group = Group([Target(OWNER), Target(OTHER)], Options(), [US, CHILD, THEM])
    for frame in World().frames:
        group.take(frame)
    console = Console(file=io.StringIO(), width=180, height=54, force_terminal=True)
    screen = WatchScreen(group, US, dict, name="testnet", console=console)
    try:
        yield screen
    finally:
        screen.terminal.dashboard.shutdown()


def press(screen: WatchScreen, *keys: str) -> None:
    """Press keys one after the other."""
    for key in keys:
        screen._answer(key)


def chosen(screen: WatchScreen) -> str:
    """Return the account that the panels show."""
    return next(row.id for row in screen.snapshot().accounts if row.chosen)


def test_the_dashboard_says_that_it_only_looks(screen: WatchScreen) -> None:
    """Its badge, its account, whose word it is, and that the way out is advice."""
    shown = screen.snapshot()
    screen.draw()

    assert (shown.header.mode, shown.gate, shown.safety.advice) == ("WATCH", None, True)
    assert shown.header.source == "testnet dydx1lwz…sn6km/0 indexer only"
    drawn = screen.terminal.console.file.getvalue()  # type: ignore[attr-defined]
    assert "WATCH" in drawn
    assert "read-only" in drawn


def test_tab_and_enter_choose_which_account_the_dashboard_shows(screen: WatchScreen) -> None:
    """On the panel of accounts alone; Enter goes back to the dashboard."""
    press(screen, "u", "tab")
    assert chosen(screen) == str(CHILD)
    press(screen, "back-tab", "back-tab")
    assert chosen(screen) == str(THEM)

    press(screen, "down", "\r")

    assert chosen(screen) == str(US)
    assert screen.choices.view.panel == ""


def test_a_filter_that_leaves_nothing_chooses_nothing(screen: WatchScreen) -> None:
    """Enter ends the filter first, as everywhere."""
    press(screen, "u", "/", "z", "z", "\r", "\r")

    assert chosen(screen) == str(US)
    assert screen.choices.view.panel == "accounts"


@pytest.mark.parametrize("key", ["K", "F", "P"])
def test_nothing_can_be_sent_from_it(screen: WatchScreen, key: str) -> None:
    """A key that would act says why it does not."""
    press(screen, key)

    assert screen.questions.text == ""
    assert "an account is watched without a key" in f"{screen.line.words()}{screen.line.note()}"


def test_a_picture_that_stands_still_stays_with_the_account(screen: WatchScreen) -> None:
    """Who chooses another one while it is paused sees that one, paused."""
    press(screen, " ")
    before = screen.snapshot()

    press(screen, "u", "tab")

    assert before is not screen.snapshot()
    assert screen.snapshot() is screen.snapshot()
    assert chosen(screen) == str(CHILD)


def test_a_terminal_is_given_the_dashboard(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The account that is nearest to liquidation is shown first; the report is behind it."""
    world.readings = [reading(US)]
    monkeypatch.setattr(bot.watch.command, "on_dashboard", lambda _: True)
    monkeypatch.setattr("bot.screen.screen.Screen.stay", lambda _: None)

    main(["watch", OWNER, "--network", "testnet"])

    assert "FLAT, equity 1,000.00" in capsys.readouterr().out
