"""What each command does, once its words are checked.

replay, paper ──► a source of frames ──► Bot.run ──► dashboard or report
why           ──► the same run, at full speed, then one answer from it
"""

import argparse
import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dydx_conn import ConnError, Frame, Header, Inbox, Network, Subaccount, find_recording, live
from dydx_conn import replay as play
from msgspec.structs import replace
from reactivex import Observable, operators

from bot.config.configured import environment_of
from bot.config.environment import enter
from bot.config.layers import RECORDING
from bot.config.validation import check_chain
from bot.database.rows import database_of, replay_written_down, written_down
from bot.live.reach import held_until_due, is_reached, listened
from bot.live.runs import (
    DEPOSIT,
    conduct,
    ended,
    history_of,
    lived,
    notices_of,
    on_dashboard,
    options_of,
    recorder_of,
    remembered,
    reporting_of,
    run_plain,
    run_to_end,
    tickers_of,
    typed_words,
    until,
)
from bot.logs.run import logged, replay_logged
from bot.outlet import as_lines
from bot.report.brief import print_report
from bot.report.report import report_of
from bot.report.why import chain
from bot.run.acts import act, among
from bot.run.beside import begun, noting, warned
from bot.run.budget import LIVE, Foreseen
from bot.run.claim import Claim, ClaimedError, claimed
from bot.run.composition import Bot, Options
from bot.run.kinds import kinds_of
from bot.run.paper import paper_account
from bot.run.resume import beginning, beyond, unused_id
from bot.run.signals import write_state
from bot.run.wire import WireVenue
from bot.screen.leave import Leave

if TYPE_CHECKING:
    from bot.screen.travel import Travel

# What the header of a recording holds of a run on a network: of real orders or paper ones, for
# whom, with what worth, and of real ones by what it decided.
RUN: Final = re.compile(r"(trade|paper) (\w+)/(\d+) (\d+)(?: (.+))?")


LOOK_FRAMES: Final = 250


def options_as_recorded(arguments: argparse.Namespace, header: Header) -> Options:
    """Return the options of whatever plays a recording: its own settings, below what is typed."""
    run = RUN.fullmatch(header.run)
    deposit = DEPOSIT if run is None else int(run[4])
    options = options_of(arguments, deposit, recorded=header.settings)
    chosen = RECORDING if options.config is None else options.config.origins["deposit"]
    # An account that went on has another deposit than was chosen for one that begins.
    return replace(options, deposit=deposit) if run and chosen == RECORDING else options


def bot_for(arguments: argparse.Namespace, recording: Foreseen) -> Bot:
    """Return a bot as it was recorded: the orders of a real run were sent, and are not again.

    Where the strategy was stopped it is again, whatever it would do today.
    """
    run, venue = RUN.fullmatch(recording.header.run), None
    if run is not None and run[1] == "trade":
        venue = WireVenue(Subaccount(run[2], int(run[3])))
    options = options_as_recorded(arguments, recording.header)
    if run is not None and run[1] == "paper":
        options = replace(options, account=run[2].removeprefix("dydx1"))
    elif run is not None and run[5] and run[5] != (now := typed_words(options)):
        what = "what it decides is not what was decided then"
        print(f"bot: warning: recorded with {run[5]}, got {now}: {what}", file=sys.stderr)
    bot = Bot(options, venue)
    bot.supervisor.stops = recording.stops
    return bot


def replay(arguments: argparse.Namespace) -> int:
    """Play a recording, on a dashboard if this is a terminal, and report."""
    recording = Foreseen(find_recording(arguments.recording), kinds_of(arguments.fidelity))
    bot, name, speed, inbox = bot_for(arguments, recording), arguments.recording, None, Inbox()
    if on_dashboard(arguments):  # which holds each frame until it is due
        speed = arguments.speed or 20.0

    def source(pace: Callable[[Frame], bool]) -> Observable[Frame]:
        held = pace if speed or not arguments.speed else held_until_due(arguments.speed, pace)
        return play(recording, pace=held).pipe(among(inbox), beside_each)

    reporting = reporting_of(arguments, bot)
    logs = replay_logged(arguments, bot, recording.header.network, human=speed is None)
    beside = [*reporting, *logs, *replay_written_down(arguments, bot, recording)]
    if arguments.notify:  # a recording notifies nobody unless that is what is to be seen
        network = recording.header.network or "recording"
        beside += notices_of(arguments, bot, mode="REPLAY", network=network)
    bot.shown.beside = beside
    beside_each = operators.do_action(noting(beside)) if beside else _as_they_come
    with listened(arguments), begun(beside, inbox):
        if speed or arguments.speed or is_reached(arguments):
            # What is written down of a run happens once.
            travel = travel_of(bot, recording, inbox) if speed and not beside else None
            complete = conduct(
                arguments, bot, source if travel is None else travel.frames, inbox, mode="REPLAY",
                name=name, speed=speed, recording=recording.path, travel=travel,
            )  # fmt: skip
        else:  # nobody could halt it so soon

            def at_once(pace: Callable[[Frame], bool]) -> Observable[Frame]:
                return play(recording, pace=pace).pipe(beside_each)

            complete = run_plain(arguments, bot, at_once, mode="REPLAY")
    if complete and (unknown := unknown_markets(bot)):
        print(f"bot: warning: {unknown}", file=sys.stderr)
    report = report_of(bot, name=name, recording=recording, complete=complete)
    print_report(report, arguments)
    for each in reporting:
        each.write(name, "replay", recording.header.network, recording, complete=complete)
    if arguments.save_state:
        write_state(bot.scorer, bot.journal.hash, Path(arguments.save_state))
    return max(ended(bot), *map(warned, beside), 0)


def unknown_markets(bot: Bot) -> str:
    """Return in words which of the markets that were chosen a recording does not have, or ""."""
    if (loaded := bot.options.config) is None or "markets" not in loaded.changed:
        return ""
    known = [view.ticker for view in bot.shown.watched]
    unknown = [ticker for ticker in loaded.settings.markets if ticker not in known]
    if not unknown:
        return ""
    some = ", ".join(known[:8]) + (", …" if len(known) > 8 else "")
    what = f"expected markets that are in the recording ({some}), got {', '.join(unknown)}"
    return f"{what} ({loaded.origins['markets']}): it is played with all that it has"


def travel_of(bot: Bot, recording: Foreseen, inbox: Inbox) -> "Travel":
    """Return the way back and forth in a recording that is shown on a dashboard."""
    from bot.screen.travel import Travel, remade

    return Travel(bot, recording, inbox, remade(bot))


def _as_they_come(frames: Observable[Frame]) -> Observable[Frame]:
    return frames


def paper(arguments: argparse.Namespace) -> int:
    """Trade on paper against a live network until stopped, and report.

    The account goes on where its last run stopped, and nobody else is at it.
    """
    net = enter(environment_of(arguments))
    with listened(arguments), claimed_on_paper(net, paper_account(arguments.account)) as claim:
        return _paper(arguments, net, claim)


def _paper(arguments: argparse.Namespace, net: Network, claim: Claim | None) -> int:
    from bot.database.remains import carried

    us, tickers = paper_account(arguments.account), tickers_of(arguments)
    left, options = carried(arguments, net, us), options_of(arguments, budget=LIVE)
    options = replace(options, account=arguments.account)
    if claim is not None:
        left = beginning(claim.earlier) if left is None else beyond(left, claim.earlier)
        claim.note(1 if left is None else unused_id(left))
    if left is not None and not left.run and not arguments.fresh and database_of(arguments):
        what = f"expected what an earlier run of {us} left in the database, got none"
        print(f"bot: warning: {what}: it begins with a deposit", file=sys.stderr)
    if left is not None and left.run:
        options = replace(options, deposit=left.deposits // 10**6)
        tickers = [*dict.fromkeys((*tickers, *left.tickers))]
    bot, inbox = Bot(options), Inbox()
    remembered(arguments, bot, net, left, "paper")
    with recorder_of(options, net, f"paper {us} {options.deposit}") as record:
        check_chain(net)

        def receive(pace: Callable[[Frame], bool]) -> Observable[Frame]:
            bounded = closed_first(leave, until(arguments.seconds, pace))
            history = history_of(bot, tickers)
            return live(net, tickers, history=history, pace=bounded, inbox=inbox)

        logs = logged(arguments, bot, net, mode="paper", human=not on_dashboard(arguments))
        beside = [*logs, *record, *written_down(arguments, bot, net, left, mode="paper")]
        stays = "for the next run" if database_of(arguments) else "unsaved, and are gone"
        leave = Leave(bot, leaving_paper(bot, inbox), flatten=False, stays=stays)
        code = lived(
            arguments, bot, net, tickers, receive, inbox, mode="PAPER", beside=beside, leave=leave
        )
        if held := leave.open:
            print(f"bot: {held}", file=sys.stderr)
        return code


_LEAVE_NS: Final = 10_000_000_000
_AGAIN_NS: Final = 1_000_000_000


def leaving_paper(bot: Bot, inbox: Inbox) -> Callable[[Frame], bool]:
    """Let what is held on paper leave: an act a second, for 10 s at most; False when it is over."""
    acted: list[int] = []

    def leaving(frame: Frame) -> bool:
        if not bot.risk.positions() or (acted and frame.mono - acted[0] >= _LEAVE_NS):
            return False
        if not acted or frame.mono - acted[-1] >= _AGAIN_NS:
            act(inbox, "end", "flatten", "the run ends")
            acted.append(frame.mono)
        return True

    return leaving


def closed_first(leave: Leave, pace: Callable[[Frame], bool]) -> Callable[[Frame], bool]:
    """End a source once what is held has left, if whoever ends it wants that."""
    over: list[bool] = []

    def bounded(frame: Frame) -> bool:
        if not over and pace(frame):
            return True
        over.append(True)
        return leave.holds(frame)

    return bounded


@contextlib.contextmanager
def claimed_on_paper(net: Network, account: Subaccount) -> Iterator[Claim | None]:
    """Hold a paper account for one run; `ClaimedError` if another one of ours has it."""
    claim = None
    with contextlib.ExitStack() as stack:
        try:
            claim = stack.enter_context(claimed(net, account, "paper"))
        except ClaimedError as error:
            what = f"{error}: --account NAME is another account"
            raise ClaimedError(what, error.pid) from None
        except ConnError as error:  # a full disk stops no paper
            print(f"bot: warning: {error}", file=sys.stderr)
        yield claim


def why(arguments: argparse.Namespace) -> int:
    """Print the way from an id back to the wire."""
    bot, path = replayed_to_end(arguments, wanted=arguments.id)
    entry = bot.journal.find(arguments.id)
    if entry is None:
        newest = {e.kind: f"{e.id} ({e.kind})" for e in bot.journal.entries}
        known = list(newest.values())
        print(
            f"bot: expected the id of a decision (D1), verdict (V1), change of the gate (G1), "
            f"order (O1), fill (F1) or act (A1) of this run, got {arguments.id!r}; "
            f"the newest are {', '.join(known) or 'none'}",
            file=sys.stderr,
        )
        return 2
    print(as_lines(chain(entry, bot.journal, path, kinds=kinds_of(arguments.fidelity))))
    return 0


def replayed_to_end(
    arguments: argparse.Namespace,
    seconds: float | None = None,
    look: Callable[[Bot], object] = lambda _: None,
    wanted: str = "",
) -> tuple[Bot, Path]:
    """Run a recording as fast as it can be read; the run is what it always is.

    It ends once it has the entry that is `wanted`: a journal forgets the oldest of a long run.
    `look` sees it now and then, as whoever draws it would: some figures begin when they are read.
    """
    path = find_recording(arguments.recording)
    recording = Foreseen(path, kinds_of(getattr(arguments, "fidelity", None)))
    bot = bot_for(arguments, recording)
    if "panel" in arguments:  # which draws curves
        bot.follow()
    # A recording ends with its connections closed and every book unknown: look before that.
    last = max((frame.seq for frame in recording if frame.kind == "ws"), default=0)

    def goes_on(frame: Frame) -> bool:
        if not frame.seq % LOOK_FRAMES:
            look(bot)
        return frame.seq <= last and bot.journal.find(wanted) is None

    run_to_end(bot, play(recording, pace=until(seconds, goes_on)))
    return bot, path
