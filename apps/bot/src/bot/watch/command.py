"""`bot watch`: real accounts on the dashboard, live and read-only.

ADDRESS[/N] … ──► read once ──► which subaccounts, which markets
live: markets, blocks, their channels ─┐
node, every ten seconds ───────────────┴─► Group ──► dashboard, or a line for each change
"""

import argparse
import contextlib
import json
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from math import inf
from pathlib import Path
from typing import Final

from dydx_conn import (
    ConnError,
    Frame,
    Inbox,
    Network,
    Subaccount,
    find_recording,
    live,
)
from dydx_conn import Recording as Recorded
from dydx_conn import replay as play
from reactivex import Observable, operators

from bot.config.configured import environment_of, loaded_of
from bot.config.environment import look_at
from bot.live.reach import held_until_due, is_reached, listened, reached
from bot.live.runs import history_of, on_dashboard, require_frames, until
from bot.live.troubles import recorder
from bot.outlet import as_lines
from bot.run.beside import begun, noting, warned
from bot.run.composition import Bot, Options
from bot.run.desk import Desk
from bot.watch.account import NO_KEY, require_known
from bot.watch.address import Target, parent_of, target
from bot.watch.group import Group, Standing
from bot.watch.node import Node
from bot.watch.notices import notices_of
from bot.watch.past import Past, past
from bot.watch.reading import INDEXER_ONLY, Reading, read
from bot.watch.rows import Changes, report_json, report_lines

_AGAIN_S: Final = 300.0  # the indexer adds to the past once an hour

Source = Callable[[Callable[[Frame], bool]], Observable[Frame]]

# === Commands ===


def watch(arguments: argparse.Namespace) -> int:
    """Watch accounts until stopped, and report; 1 where the chain was never read."""
    targets = [*dict.fromkeys(target(text) for text in arguments.whose)]
    with listened(arguments):
        if arguments.recording:
            return _recorded(arguments, targets)
        return _watch(arguments, targets)


def _watch(arguments: argparse.Namespace, targets: list[Target]) -> int:
    net = look_at(environment_of(arguments))
    readings = read(net, targets)
    for words in missing(net, targets, readings):
        print(f"bot: warning: {words}", file=sys.stderr)
    group = group_of(arguments, targets, [each.whose for each in readings])
    for each in readings:
        if each.is_empty:
            group.notes[each.whose] = f"nothing was ever deposited here, on {net.name}"
    tickers, keys, inbox = tickers_of(arguments, readings), channels(readings), Inbox()
    notices = notices_of(arguments, group, net.name)
    run = f"watch {' '.join(map(str, targets))}"
    with (
        recorder(_path(arguments.record), net, run) as record,
        Node(net, inbox, lambda: [*group.bots]),
        Pasts(net, [each.whose for each in readings if not each.isolated], past) as pasts,
        begun(beside := [*record, *notices], inbox),
    ):
        first = next(iter(group.bots.values()))

        def source(pace: Callable[[Frame], bool]) -> Observable[Frame]:
            bounded = until(arguments.seconds, pace)
            frames = live(
                net, tickers, also=keys, history=history_of(first, tickers), pace=bounded,
                inbox=inbox,
            )  # fmt: skip
            return frames.pipe(operators.do_action(noting(beside)))

        conduct(arguments, group, source, net.name, pasts, inbox, nearest(readings), net)
    require_frames(next(iter(group.bots.values())), net)
    return max(report(arguments, net, group, pasts.found), *map(warned, notices), 0)


def _recorded(arguments: argparse.Namespace, targets: list[Target]) -> int:
    """Watch accounts in a recording of their frames, as they were then."""
    recording = Recorded(find_recording(arguments.recording))
    group = group_of(arguments, targets, [Subaccount(t.owner, t.number or 0) for t in targets])
    net = Network(recording.header.network or "recording", "", "", "", "recorded")

    # It ends with its connections closed, and every account in doubt: look before that. A node
    # may have answered after the last message.
    newest = recording.newest()
    end = 0 if newest is None else newest.mono

    def source(pace: Callable[[Frame], bool]) -> Observable[Frame]:
        speed = arguments.speed or (20.0 if on_dashboard(arguments) else None)
        bounded = until(arguments.seconds, pace)
        if speed is not None and is_reached(arguments) and not on_dashboard(arguments):
            # Whoever looks from elsewhere is answered while no frame is due, too.
            bounded, speed = held_until_due(speed, bounded), None
        frames = play(recording, speed=speed, pace=lambda one: goes_on(one) and bounded(one))
        return frames.pipe(operators.do_action(noting(notices)))

    def goes_on(frame: Frame) -> bool:
        return frame.mono <= end or frame.kind == "http"

    name, first = Path(arguments.recording).name, next(iter(group.bots))
    # A recording notifies nobody unless that is what is to be seen.
    notices = notices_of(arguments, group, net.name, goes_on=False) if arguments.notify else []
    with begun(notices, inbox := Inbox()):
        conduct(arguments, group, source, name, NoPasts(), inbox, first)
    lost = [f"expected an account of {name}, got {t}" for t in targets if not group.has_met(t)]
    if len(lost) == len(targets):
        raise ConnError(f"{lost[0]}: no frame that was played is of it")
    for words in lost:
        print(f"bot: warning: {words}", file=sys.stderr)
    return report(arguments, net, group, {})


def group_of(
    arguments: argparse.Namespace, targets: Sequence[Target], known: Iterable[Subaccount]
) -> Group:
    """Return what watches accounts, by the limits of the profile."""
    settings = loaded_of(arguments).settings
    options = Options(profile=settings.profile, policy=settings.policy, strategy="none")
    return Group(targets, options, known)


def missing(net: Network, targets: Sequence[Target], readings: Sequence[Reading]) -> Iterator[str]:
    """Yield which of the accounts nobody knows; `ConnError` if that is so of each."""
    lost = list[ConnError]()
    for each in targets:
        try:
            require_known(net, [each], readings)
        except ConnError as error:
            lost.append(error)
    if len(lost) == len(targets):
        raise lost[0]
    yield from map(str, lost)
    if no_chain := next((each.no_chain for each in readings if each.no_chain), ""):
        yield f"{INDEXER_ONLY}: {no_chain}"


def nearest(readings: Sequence[Reading]) -> Subaccount:
    """Return the account that is nearest to liquidation; the first one where none has a position.

    One that cannot be valued comes before all others.
    """

    def away(reading: Reading) -> float:
        seen = reading.best
        if seen is None or not (seen.holdings or seen.unvalued):
            return inf
        margin = seen.margin
        return -inf if margin is None or margin.distance is None else margin.distance

    return min(readings, key=away).whose


def channels(readings: Iterable[Reading]) -> list[tuple[str, str]]:
    """Return the channels of accounts: a parent's brings its children, too."""
    keys = list[tuple[str, str]]()
    parents = {each.whose for each in readings if not each.isolated}
    for each in readings:
        whose = each.whose
        if not each.isolated:
            keys.append(("v4_parent_subaccounts", str(whose)))
        elif Subaccount(whose.owner, parent_of(whose.number)) not in parents:
            keys.append(("v4_subaccounts", str(whose)))
    return keys


def tickers_of(arguments: argparse.Namespace, readings: Iterable[Reading]) -> list[str]:
    """Return the markets to receive: those of the accounts, and those that were typed."""
    held = list[str]()
    for each in readings:
        for seen in (each.chain, each.indexer):
            held += [holding.ticker for holding in seen.holdings] if seen else []
        held += [order.ticker for order in each.orders or ()]
    markets = loaded_of(arguments).settings.markets
    return [*dict.fromkeys([*held, *(markets if arguments.tickers or not held else ())])]


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


# === The past ===


class NoPasts:
    """The past of accounts in a recording, which holds none."""

    def __init__(self) -> None:
        self.found: dict[Subaccount, Past] = {}


class Pasts(NoPasts):
    """What accounts did before, queried on a thread of its own now and then."""

    def __init__(
        self,
        net: Network,
        whose: list[Subaccount],
        query: Callable[[Network, list[Subaccount]], dict[Subaccount, Past]],
    ) -> None:
        super().__init__()
        self._net, self._whose, self._query = net, whose, query
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="past", daemon=True)

    def __enter__(self) -> "Pasts":
        """Begin to query."""
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        """Query no more; a query that is under way is not waited for."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self.found = self._query(self._net, self._whose)
            except ConnError:
                pass  # what is not answered is unknown; the accounts are watched all the same
            except RuntimeError:  # the interpreter ends, and lets nothing begin any more
                if not self._over.is_set():
                    raise
            self._over.wait(_AGAIN_S)


# === A run ===


def conduct(
    arguments: argparse.Namespace, group: Group, source: Source, name: str, pasts: NoPasts,
    inbox: Inbox, first: Subaccount, net: Network | None = None,
) -> None:  # fmt: skip
    """Watch a source, on a dashboard if somebody looks, until it ends or somebody ends it.

    The dashboard shows the account `first`, until another one is chosen; so does a browser.
    """
    desk, shown = Desk(), on_dashboard(arguments)

    def show(bot: Bot) -> None:
        if is_reached(arguments):
            from bot.watch.screen import watched

            bot.shown.dressed = partial(watched, group, bot, name, lambda: pasts.found)
            desk.begin(bot)

    def goes_on(_: Frame) -> bool:
        desk.answer()
        return True

    show(bot := group.bots[first])
    with reached(
        arguments, bot, inbox, desk, mode="WATCH", name=name, net=net, recording=None,
        prints=not shown,
    ):  # fmt: skip
        if shown:
            _on_dashboard(arguments, group, source, name, pasts, inbox, bot, desk, show)
            return
        _printing(arguments, group)
        inbox.attend = desk.attend if is_reached(arguments) else None
        with contextlib.suppress(KeyboardInterrupt):
            group.run(source(goes_on))


def _on_dashboard(
    arguments: argparse.Namespace, group: Group, source: Source, name: str, pasts: NoPasts,
    inbox: Inbox, bot: Bot, desk: Desk, show: Callable[[Bot], None],
) -> None:  # fmt: skip
    from bot.watch.screen import WatchScreen

    screen = WatchScreen(
        group, bot.venue.subaccount, lambda: pasts.found, shows=show, name=name, inbox=inbox,
        mouse=not arguments.no_mouse, idle=desk.answer,
    )  # fmt: skip
    with screen, contextlib.suppress(KeyboardInterrupt):
        if is_reached(arguments):
            desk.wake = screen.look
            inbox.attend = lambda: min(screen.attend(), desk.attend())
        group.run(source(screen.pace))
        screen.stay()


def _printing(arguments: argparse.Namespace, group: Group) -> None:
    """Let a line be printed for each thing that changes, unless only the report is wanted."""
    if arguments.json or arguments.quiet:
        return
    changes = Changes(group)
    print(f"watching, {NO_KEY}", flush=True)

    def listen(standing: Standing) -> None:
        if text := changes.line(standing):
            print(as_lines([text]), flush=True)

    group.listeners.append(listen)


def report(
    arguments: argparse.Namespace, net: Network, group: Group, pasts: dict[Subaccount, Past]
) -> int:
    """Print how the accounts stand at the end; 1 where the chain was not read."""
    if arguments.json:
        print(json.dumps(report_json(net, group, pasts), indent=2))
    else:
        print(as_lines(report_lines(net, group, pasts)))
    return int(bool(group.no_chain) and not arguments.recording)
