"""The guard and its rivals on a recording, each looking after what the same strategy enters.

    recording ──► Bot (strategy on, guard off) · Rival ──► what each leaves

The strategy goes on as it would: each policy gets the same entries until it acts. A rule that
sells all says nothing of coming back, and a strategy that bought again what its rule has just sold
would be neither: once it has acted nothing enters any more, as after `bot halt`. Selling half ends
nothing, so entries go on, as they do beside the guard. "both" is the profile as it is, "guard" the
same without protections that close.
"""

from collections.abc import Generator, Iterable

import msgspec
from bot.run.composition import Bot, Options
from crash_rivals import RIVALS, Rival, SellAll
from crash_runs import POLICIES, USDC
from dydx_conn import Frame, Recording, find_recording, from_generator
from dydx_paper import PaperVenue

_FIRST_CLIENT_ID = 10_000_000  # below are those of the bot's own orders


class RecordedOutcome(msgspec.Struct, frozen=True):
    """What a policy made of a recording; money is USDC, `orders` are those that it sent."""

    lost: bool
    left: float
    orders: int
    fills: int


def on_recording(
    name: str, options: Options, policies: Iterable[str] = POLICIES
) -> dict[str, RecordedOutcome]:
    """Play a recording under each of the policies; `RecordingError` if it cannot be read."""
    recording = Recording(find_recording(name))
    return {policy: _play(recording, options, policy) for policy in policies}


def _play(recording: Recording, options: Options, policy: str) -> RecordedOutcome:
    protect = options.policy.protect and policy == "both"
    bot = Bot(msgspec.structs.replace(
        options, guard=policy not in RIVALS,
        policy=options.policy.model_copy(update={"protect": protect}),
    ))  # fmt: skip
    rival = RIVALS[policy](bot, _FIRST_CLIENT_ID) if policy in RIVALS else None
    bot.run(from_generator(lambda: _frames(recording, bot, rival)))
    figures, orders = bot.venue.figures(), bot.journal.counts["reduce"]
    ledger = bot.venue.ledger if isinstance(bot.venue, PaperVenue) else None
    deleveraged = ledger.history.fills(status="DELEVERAGED").total if ledger else 0
    return RecordedOutcome(
        figures.liquidations + deleveraged > 0, (figures.equity or 0) / USDC,
        orders if rival is None else rival.orders, figures.fills,
    )  # fmt: skip


def _frames(recording: Iterable[Frame], bot: Bot, rival: Rival | None) -> Generator[Frame]:
    out = False
    for frame in recording:
        yield frame
        if rival is None:
            continue
        for order in rival.look():
            bot.place(order)
        if isinstance(rival, SellAll) and rival.leaves and not out:
            out, why = True, "the rule has sold all"
            bot.made.add(Frame(frame.seq, frame.at, frame.mono, "rival", "act", why, "halt"))


def recorded_table(outcomes: dict[str, RecordedOutcome]) -> Iterable[str]:
    """Yield a line for each policy."""
    yield f"{'policy':<8}{'left, USDC':>12}{'orders':>8}{'fills':>7}"
    for policy, found in outcomes.items():
        state = "  liquidated" if found.lost else ""
        yield f"{policy:<8}{found.left:>12,.2f}{found.orders:>8,}{found.fills:>7,}{state}"
