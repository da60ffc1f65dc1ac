"""A run from its source to its report, whichever command began it.

    source of frames, acts ──► Bot.run ──► dashboard, or none ──► report

What replay, paper and trade have in common: what was typed becomes the bot's options, a network's
frames are checked, recorded and bounded in time, acts reach the run by a key or by its handle, and
however it ends it is reported.
"""

import argparse
import contextlib
import gc
import os
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dydx_conn import (
    ConnError,
    Frame,
    Inbox,
    MarketsContents,
    Network,
    NetworkError,
    WireError,
    contents,
    key_of,
)
from reactivex import Observable, operators

from bot.config.configured import loaded_of
from bot.config.loaded import Loaded
from bot.config.place import CONFIG
from bot.database.rows import database_of
from bot.ending import Ended
from bot.live.handle import Handle, within_reach
from bot.live.reach import Answers, is_reached, reached, stay
from bot.live.reload import Reloader, place_of
from bot.live.stream import streaming
from bot.live.troubles import Terminal, Troubles, recorder
from bot.report.brief import print_report
from bot.report.report import report_of
from bot.report.status import starting, status_of
from bot.run.acts import Standstill
from bot.run.beside import Beside, begun, noting, warned
from bot.run.budget import REPLAYED, Budget
from bot.run.composition import Bot, Options
from bot.run.desk import Desk
from bot.run.kinds import kinds_of
from bot.run.links import reason_words
from bot.run.resume import Left
from bot.run.signals import Days, days_file, read_state

if TYPE_CHECKING:
    from bot.pages.reporting import Reporting
    from bot.screen.leave import Leave
    from bot.screen.screen import Screen
    from bot.screen.travel import Travel

Source = Callable[[Callable[[Frame], bool]], Observable[Frame]]

# === What was typed ===
# Options and tickers from what was typed, and whether there is a dashboard.

DEPOSIT: Final = 10_000


def options_of(
    arguments: argparse.Namespace,
    deposit: int = DEPOSIT,
    *,
    budget: Budget = REPLAYED,
    recorded: str = "",
) -> Options:
    """Gather what changes how the bot acts; `deposit` is for whoever chose none.

    `recorded` is what a recording holds of the settings of its run.
    """
    loaded, state = loaded_of(arguments, recorded), None
    if arguments.state and budget is REPLAYED:  # a live run records it as its first frame
        state = read_state(Path(arguments.state))
        if state is None:
            raise ConnError(f"expected what another run left in {arguments.state}, got no file")
    return chosen(loaded, deposit, state=state, budget=budget)


def chosen(
    loaded: Loaded, deposit: int, *, state: Frame | None = None, budget: Budget = REPLAYED
) -> Options:
    """Return the options of settings; `deposit` is for whoever chose none."""
    settings = loaded.settings
    policy = settings.policy
    # Without a strategy the guard looks after what a person trades: there is nobody else to halt.
    if settings.strategy == "none":
        policy = policy.model_copy(update={"hand_beside": True})
    return Options(
        strategy=settings.strategy,
        signals=settings.signals.use,
        tuned=settings.signals.tuned(),
        state=state,
        deposit=settings.deposit or deposit,
        guard=settings.guard,
        strict=settings.strict,
        profile=settings.profile,
        policy=policy,
        settings=settings.of_strategy(),
        paper=settings.paper,
        budget=budget,
        detectors=settings.detectors,
        config=loaded,
    )


def typed_words(options: Options) -> str:
    """Return as it is typed what a run decides by beside its frames: a replay must have the same.

    Of a user's strategy it is the name of its file alone.
    """
    words = ["--profile", options.profile, "--strategy", Path(options.strategy).name]
    words += ["--signals", Path(options.signals).name] if options.signals else []
    words += ["--hand-beside"] * options.policy.hand_beside + ["--no-guard"] * (not options.guard)
    return shlex.join(words)


def tickers_of(arguments: argparse.Namespace) -> list[str]:
    """Return the markets to trade."""
    return [*loaded_of(arguments).settings.markets]


def record_of(options: Options) -> Path | None:
    """Return where the frames of a live run are written, if anywhere."""
    path = options.config and options.config.settings.record
    return _begun(path) if path else None


@lru_cache
def _begun(path: str) -> Path:
    # Once: the same file is meant when the run begins, and by its dashboard.
    return Path(path.replace("{time}", time.strftime("%Y%m%d-%H%M%S", time.gmtime())))


def recorder_of(
    options: Options, net: Network, run: str = ""
) -> contextlib.AbstractContextManager[list[Beside]]:
    """Return what writes the frames of a run down, with by what it decides; or nothing."""
    settings = "" if options.config is None else options.config.text()
    return recorder(record_of(options), net, run, settings)


def history_of(bot: Bot, tickers: list[str]) -> list[tuple[str, str]]:
    """Return which candles are requested of before a run and of what a gap hid, and which rates."""
    names = bot.data.resolutions
    candles = [("v4_candles", f"{ticker}/{name}") for name in names for ticker in tickers]
    return candles + [("historical_funding", ticker) for ticker in tickers]


def on_dashboard(arguments: argparse.Namespace) -> bool:
    """Return whether a person is looking: both ends are a terminal, and no option is against it."""
    unwanted = arguments.plain or arguments.json or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and sys.stdin.isatty() and not unwanted


def asks(arguments: argparse.Namespace) -> bool:
    """Return whether somebody at a terminal without a dashboard can answer."""
    there = sys.stdin.isatty() and sys.stderr.isatty()
    return there and not (arguments.json or on_dashboard(arguments))


# === Runs ===
# From a source of frames to a report and an exit code, on a dashboard or without.


def lived(
    arguments: argparse.Namespace,
    bot: Bot,
    net: Network,
    tickers: list[str],
    receive: Source,
    inbox: Inbox,
    *,
    mode: str,
    beside: Sequence[Beside] = (),
    leave: "Leave | None" = None,
    handle: Handle | None = None,
) -> int:
    """Run a bot on the frames of a network, with a dashboard or without, and report.

    A halt that nobody took back is the first frame, and what is halted now outlives the run. It is
    whole whenever it ends: a network sends on for ever.
    Whatever goes wrong `beside` it (bot.live.troubles) it goes on, and is a 1.
    """
    days = Days(bot.scorer, lambda: bot.journal.hash, Path(arguments.state or days_file(net)))
    reporting = reporting_of(arguments, bot)
    beside = [Standstill(net, bot.venue.subaccount), days, *reporting, *beside]
    beside += notices_of(arguments, bot, mode=mode, network=net.name)
    check, note, terminal = require_tickers(tickers, net), noting(beside), Terminal()
    bot.shown.beside = beside
    sources = {one.name: partial(getattr, one, "trouble") for one in beside}
    sources[terminal.name] = partial(getattr, terminal, "trouble")
    troubles = Troubles(bot, inbox, sources, prints=not (shown := on_dashboard(arguments)))

    def passing(frame: Frame) -> None:
        check(frame)
        note(frame)
        troubles.look()

    def source(pace: Callable[[Frame], bool]) -> Observable[Frame]:
        def goes_on(frame: Frame) -> bool:
            if refused := terminal.refused():
                bot.shown.notice = refused
                troubles.warn(refused)
            return pace(frame) and not troubles.is_over

        return receive(goes_on).pipe(operators.do_action(passing))

    bot.made.record = passing
    name = f"{net.name} {' '.join(tickers[:3])}"
    with begun(beside, inbox), terminal.held():
        conduct(
            arguments, bot, source, inbox, mode=mode, name=name, leave=leave, handle=handle,
            recording=record_of(bot.options), lost=terminal.lose, net=net,
        )  # fmt: skip
        if not shown:
            require_frames(bot, net)
    troubles.look()
    # To whom, without a terminal? The exit code has it still.
    with contextlib.suppress(*[OSError] if terminal.trouble else []):
        print_report(report_of(bot, name=name), arguments)
    for each in reporting:
        each.write(name, mode, net.name)
    return max(ended(bot), int(bool(bot.shown.troubles)), *map(warned, reporting), 0)


def remembered(
    arguments: argparse.Namespace, bot: Bot, net: Network, left: Left | None, mode: str
) -> None:
    """Show what an account did before this run, where it goes on and somebody looks."""
    if left is None or not left.run or not (on_dashboard(arguments) or is_reached(arguments)):
        return
    from bot.screen.earlier import earlier_of

    earlier = earlier_of(database_of(arguments), net.chain_id, bot.venue.subaccount, left, mode)
    bot.shown.dressed = partial(earlier.dress, bot.executed.orders)


def reporting_of(arguments: argparse.Namespace, bot: Bot) -> "list[Reporting]":
    """Return what writes a page about a run, where that is wanted; refused where nothing draws."""
    if not getattr(arguments, "report_html", None):
        return []
    from bot.pages.reporting import Reporting

    return [Reporting(bot, Path(arguments.report_html))]


NO_SINKS: Final = (
    "expected sinks in notify of bot.yaml for --notify, got none: bot notify --help shows how (a "
    "recording has settings of its own: --config FILE goes before them)"
)


def notices_of(
    arguments: argparse.Namespace, bot: Bot, *, mode: str, network: str
) -> Sequence[Beside]:
    """Return what notifies people of a run; nothing is loaded where nobody is to be notified."""
    if not loaded_of(arguments).settings.notify.sinks:
        if getattr(arguments, "notify", None):
            raise ConnError(NO_SINKS)
        return []
    from bot.notify.beside import notified

    return notified(arguments, bot, mode=mode, network=network)


def conduct(
    arguments: argparse.Namespace,
    bot: Bot,
    source: Source,
    inbox: Inbox,
    *,
    mode: str,
    name: str,
    speed: float | None = None,
    recording: Path | None = None,
    leave: "Leave | None" = None,
    handle: Handle | None = None,
    lost: Callable[[str], None] | None = None,
    panel: str = "",
    travel: "Travel | None" = None,
    tours: bool = False,
    net: Network | None = None,
) -> bool:
    """Run a source, on a dashboard if somebody looks, within reach of acts; True at its end.

    The dashboard begins with a `panel` alone, if it names one; `travel` is whose frames go back;
    it `tours` where a newcomer is shown around.
    `lost` takes why the terminal is lost and lets the run go on; without it that is its end.
    """
    bot.shown.feeds.vitals = inbox.vitals
    kinds = kinds_of(getattr(arguments, "fidelity", None))
    with contextlib.ExitStack() as stack:
        if handle is None:
            account = str(bot.venue.subaccount)
            handle = stack.enter_context(within_reach(inbox, starting(mode, name, account)))
        handle.begin(partial(status_of, bot, mode, name), lambda: bot.reload("command"))
        stack.enter_context(_reloaded(arguments, bot, inbox, silent=bool(panel)))
        desk = Desk(gives_way=mode == "REPLAY")
        desk.begin(bot)
        answers, shown = Answers(handle, desk), on_dashboard(arguments)
        stack.enter_context(
            reached(
                arguments, bot, inbox, desk, mode=mode, name=name, net=net, recording=recording,
                prints=not shown,
            )
        )  # fmt: skip
        if not shown:
            if panel:
                arguments.quiet = True
            return _unseen(arguments, bot, source, inbox, answers, mode=mode, lost=lost)
        with dashboard_of(tours=tours)(
            bot, mode=mode, name=name, speed=speed, recording=recording, inbox=inbox,
            idle=answers.answer, leave=leave, lost=lost, panel=panel, travel=travel,
            mouse=not getattr(arguments, "no_mouse", False), kinds=kinds,
            bell=not getattr(arguments, "no_bell", False),
        ) as screen:  # fmt: skip
            if is_reached(arguments):
                desk.wake = screen.look
                inbox.attend = lambda: min(screen.attend(), desk.attend())
            if run_to_end(bot, source(screen.pace)):
                screen.bot.shown.ended = mode == "REPLAY"
                # Whoever looks at the last picture may leave it by Ctrl-C, too.
                with contextlib.suppress(KeyboardInterrupt):
                    screen.stay()
        return screen.finished


def _unseen(
    arguments: argparse.Namespace,
    bot: Bot,
    source: Source,
    inbox: Inbox,
    answers: Answers,
    *,
    mode: str,
    lost: Callable[[str], None] | None,
) -> bool:
    """Run a source without a dashboard, and answer on at its end where somebody chose so."""
    if is_reached(arguments):
        inbox.attend, bot.shown.speed = answers.attend, getattr(arguments, "speed", None)
    complete = run_plain(arguments, bot, source, mode=mode, idle=answers.answer, lost=lost)
    if mode == "REPLAY" and complete:
        bot.shown.ended = True
        stay(arguments, answers.answer)
    return complete


@contextlib.contextmanager
def _reloaded(
    arguments: argparse.Namespace, bot: Bot, inbox: Inbox, *, silent: bool
) -> Iterator[None]:
    """Let the settings of a run be read again while it goes, where it goes by any."""
    if (loaded := bot.options.config) is None:
        yield
        return
    place = place_of(loaded, getattr(arguments, "config", None) or os.environ.get(CONFIG))
    # Where a line is printed for each thing that happens it has these, too.
    prints = bool(arguments.json or arguments.quiet or silent) and not on_dashboard(arguments)
    with Reloader(bot, loaded, inbox, place=place, prints=prints).watching():
        yield


def dashboard_of(*, tours: bool) -> "type[Screen]":
    """Return what draws a run on a terminal."""
    if tours:
        from bot.screen.tour import TourScreen

        return TourScreen
    from bot.screen.screen import Screen

    return Screen


def run_plain(
    arguments: argparse.Namespace,
    bot: Bot,
    source: Source,
    *,
    mode: str,
    idle: Callable[[], object] = lambda: None,
    lost: Callable[[str], None] | None = None,
) -> bool:
    """Run a source without a dashboard, with a line for each thing that happens; True at its end.

    It ends where nobody reads these any more, but with real orders: what is held is guarded.
    """
    if arguments.json or arguments.quiet:
        return run_to_end(bot, source(lambda _: idle() is None))
    real = lost is not None and mode == "TRADE"
    bot.follow_links()
    leaves = partial(lost, "a reader that went away") if lost is not None and real else lambda: None
    with streaming(bot.journal, waits=mode == "REPLAY", lost=leaves) as stream:
        return run_to_end(bot, source(lambda _: idle() is None and (real or not stream.gone)))


def run_to_end(bot: Bot, frames: Observable[Frame]) -> bool:
    """Run a source; True if it ended, False if somebody ended it. Both ways there is a report."""
    try:
        with seldom_stopped():
            bot.run(frames)
    except Ended:
        return False
    except Exception as error:
        if error is not bot.stopped:
            raise
    return True


@contextlib.contextmanager
def seldom_stopped() -> Iterator[None]:
    """Let the search for garbage stop a run seldom, and not for long.

    To look through the whole program, as Python does every few minutes, takes 40 ms in which no
    frame is answered. What was there before the run is no garbage until it ends; what the run makes
    is looked through once there are 20,000 more of them, not 700: nearly all of it is gone by then.
    """
    usual = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(max(usual[0], 20_000), *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()


def ended(bot: Bot) -> int:
    """Print what the strategy raised, below the report; return the exit code of the run."""
    if bot.stopped is None:
        return 0
    traceback.print_exception(bot.stopped)
    what = "expected a strategy that neither raises nor takes too long, got the above"
    print(f"bot: {what}: nothing entered after it, guard and exits went on", file=sys.stderr)
    return 1


def require_frames(bot: Bot, net: Network) -> None:
    """Refuse to report on a run in which the network sent nothing."""
    if not bot.data.views:
        why = f": {reason_words(bot.shown.last_loss.reason)}" if bot.shown.last_loss else ""
        sockets = " or ".join(net.sockets)
        hint = ": is it there? uv run tools/venue" if net.name == "local" else ""
        raise NetworkError(f"expected frames of {net.name} from {sockets}, got none{why}{hint}")


# === Frames of a network ===
# What is checked of live frames, where they end, and where they are recorded.


def until(seconds: float | None, pace: Callable[[Frame], bool]) -> Callable[[Frame], bool]:
    """End a source after so many seconds of its own time."""
    if seconds is None:
        return pace
    first: list[int] = []

    def bounded(frame: Frame) -> bool:
        first.append(frame.mono) if not first else None
        return frame.mono - first[0] < seconds * 1e9 and pace(frame)

    return bounded


def require_tickers(tickers: list[str], net: Network) -> Callable[[Frame], None]:
    """Refuse tickers that a network does not have, once it has listed its own."""
    listed: list[bool] = []

    def check(frame: Frame) -> None:
        if listed or key_of(frame)[0] != "v4_markets" or not (frame.is_snapshot or frame.ok):
            return
        try:
            parts = contents(frame)
        except WireError:
            return  # reported as malformed; the next answer lists them
        markets = next((c.markets for c in parts if isinstance(c, MarketsContents)), {})
        listed.append(bool(markets))
        if unknown := [ticker for ticker in tickers if ticker not in markets]:
            some = ", ".join(list(markets)[:8])
            raise NetworkError(
                f"expected markets of {net.name} ({len(markets)} of them: {some}, …), "
                f"got {', '.join(unknown)}"
            )

    return check
