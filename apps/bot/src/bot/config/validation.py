"""A network as it answers: the node is queried for its chain, the indexer received as a run would.

    Network ──► validate ──► Validation: ok, unfit, unreachable or mismatch

The one result is what the doctor prints, what `bot trade` starts on, and what a health endpoint
answers with. `_LOOKS` is the table of checks, one function each, and `judge` folds them into a
status: a new check is one function and one row. No order is sent.
"""

import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal

import msgspec
from dydx_conn import (
    ChainTip,
    ConnError,
    Frame,
    MarketsContents,
    Network,
    Subaccount,
    WireError,
    chain_tip,
    contents,
    live,
)

from bot.config.environment import (
    Environment,
    EnvironmentSettings,
    NetworkType,
    RefusalError,
    confirmations,
    network_type,
    objection,
    too_few_files,
)

CheckOutcome = Literal["ok", "warning", "failed"]
Status = Literal["ok", "unfit", "unreachable", "mismatch"]
HTTP_STATUS: Final[Mapping[Status, int]] = {
    "ok": 200,
    "unfit": 503,
    "unreachable": 503,
    "mismatch": 400,
}


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at, what was seen, and what to do where that is not well."""

    name: str
    outcome: CheckOutcome
    seen: str
    hint: str = ""


class Validation(msgspec.Struct, frozen=True, kw_only=True):
    """A network as it was found; `unfit` answers, and is not to be traded on.

    `chain_id_reported` is empty while the node has not answered.
    """

    environment: Environment
    network: str
    network_type: NetworkType
    chain_id_expected: str
    chain_id_reported: str
    status: Status
    checks: tuple[Check, ...]

    @property
    def http_status(self) -> int:
        """Return what a health endpoint answers with."""
        return HTTP_STATUS[self.status]

    @property
    def failed(self) -> list[Check]:
        """Return the checks that failed."""
        return [check for check in self.checks if check.outcome == "failed"]


def validate(
    settings: EnvironmentSettings, net: Network, subaccount: Subaccount | None = None
) -> tuple[Validation, dict[str, Frame]]:
    """Query the node and receive the indexer, both at once; return what was received as well."""
    if few := too_few_files():
        raise RefusalError(few)
    tips: list[ChainTip | str] = []
    query = threading.Thread(target=lambda: tips.append(_tip(net)), name="node", daemon=True)
    query.start()
    received = listen(net, subaccount)
    query.join()
    return judge(settings, net, tips[0], received), received


def check_chain(net: Network) -> None:
    """Refuse a node of another chain; one that is silent is no hindrance where nothing is sent."""
    tip = _tip(net)
    if isinstance(tip, str):
        print(f"bot: warning: the chain is not checked: {tip}", file=sys.stderr, flush=True)
    elif tip.chain_id != net.chain_id:
        raise RefusalError(f"expected {net.node} to be of {net.chain_id}, got {tip.chain_id}")


def _tip(net: Network) -> ChainTip | str:
    try:
        return chain_tip(net)
    except ConnError as error:
        return str(error)


def judge(
    settings: EnvironmentSettings, net: Network, tip: ChainTip | str, received: Mapping[str, Frame]
) -> Validation:
    """Judge a network by what was received; a `tip` that is text is why there is none."""
    sight = Sight(settings, net, tip, received)
    checks = tuple(check for look in _LOOKS for check in look(sight))
    failed = {check.name for check in checks if check.outcome == "failed"}
    found = (status for names, status in _STATUSES if failed & names)
    return Validation(
        environment=settings.environment,
        network=net.name,
        network_type=network_type(net),
        chain_id_expected=net.chain_id,
        chain_id_reported=tip.chain_id if isinstance(tip, ChainTip) else "",
        status=next(found, "unfit" if failed else "ok"),
        checks=checks,
    )


# The first that holds is the status; what else fails makes a network unfit.
_STATUSES: Final[tuple[tuple[set[str], Status], ...]] = (
    ({"chain", "indexer"}, "mismatch"),
    ({"node", "rest", "socket"}, "unreachable"),
)

PATIENCE_NS: Final = 10_000_000_000
MAX_SKEW_S: Final = 5.0
MAX_LAG_S: Final = 15.0
# Node and indexer of one chain are so many blocks apart at most, and so many for each second.
_BLOCKS: Final = 100
_BLOCKS_A_SECOND: Final = 5.0


def listen(net: Network, subaccount: Subaccount | None = None) -> dict[str, Frame]:
    """Receive until REST and the socket answered or failed; return the first frame of each name.

    The name is a message's channel, or the kind; of answers and of what was not answered only
    the markets count, which REST is queried for first. It takes no longer than `PATIENCE_NS` and
    a tick.
    """
    received: dict[str, Frame] = {}
    begun: list[int] = []
    awaited = ["v4_markets", "v4_block_height"]  # in no order: each as soon as it was fetched
    awaited += [] if subaccount is None else ["v4_subaccounts"]

    def pace(frame: Frame) -> bool:
        received.setdefault(_name(frame), frame)
        # Time comes with the frames: the clock they were stamped by need not be this machine's.
        begun[:] = begun or [frame.mono]
        # A failure settles nothing where another indexer is used after it.
        failed = set[str]() if net.other_rest else {"gap", "close"} & received.keys()
        answered = "http" in received or "gap" in failed
        settled = answered and ("close" in failed or received.keys() >= {*awaited})
        return not settled and frame.mono < begun[0] + PATIENCE_NS

    live(net, [], subaccount=subaccount, pace=pace).subscribe()
    return received


def _name(frame: Frame) -> str:
    if frame.kind == "http":
        return "http" if frame.path == "/v4/perpetualMarkets" else frame.channel
    if frame.kind == "gap":
        return "gap" if frame.link == "rest" else "lost"
    # A refusal or an end names its channel, and brings nothing of it: it is requested again.
    brings = frame.kind == "ws" and frame.type not in ("error", "unsubscribed")
    return (frame.channel if brings else "") or frame.kind


class Sight(msgspec.Struct, frozen=True):
    """What the checks look at."""

    settings: EnvironmentSettings
    net: Network
    tip: ChainTip | str
    received: Mapping[str, Frame]

    @property
    def local(self) -> bool:
        """Return whether it is a stand-in, which has a clock of its own and encrypts nothing."""
        return network_type(self.net) == "local"


def _environment(sight: Sight) -> Iterable[Check]:
    settings, net = sight.settings, sight.net
    refused = objection(settings, net)
    flags = [wanted.flag for wanted in confirmations(settings, net, orders=False)]
    if refused:
        yield Check("environment", "failed", refused)
    elif flags:
        yield Check("environment", "warning", f"{settings.environment} wants {flags[0]} here")
    else:
        yield Check("environment", "ok", f"{settings.environment} on {network_type(net)}")


def _node(sight: Sight) -> Iterable[Check]:
    net, tip = sight.net, sight.tip
    if isinstance(tip, str):
        yield Check("node", "failed", tip)
        return
    yield Check("node", "ok", f"{_any(net.nodes)} is at block {tip.height}")
    same = tip.chain_id == net.chain_id
    seen = (
        f"{tip.chain_id}" if same else f"expected {net.chain_id}, got {tip.chain_id} from the node"
    )
    yield Check("chain", "ok" if same else "failed", seen)


def _rest(sight: Sight) -> Iterable[Check]:
    net, received = sight.net, sight.received
    answer, failure = received.get("http"), received.get("gap")
    if answer is None:
        seen = f"{_any(net.rests)}: {failure.reason if failure else 'no answer'}"
        yield Check("rest", "failed", seen)
        return
    try:
        (markets,) = contents(answer)
    except WireError as error:
        yield Check("rest", "failed", f"{_any(net.rests)} answered {answer.status}: {error}")
        return
    listed = isinstance(markets, MarketsContents)
    what = f"lists {len(markets.markets)} markets" if listed else f"answered {answer.status}"
    seen = f"{_any(net.rests)} {what}" + ("" if listed else f": {markets.reason}")
    yield Check("rest", "ok" if listed else "failed", seen)


def _socket(sight: Sight) -> Iterable[Check]:
    net, received = sight.net, sight.received
    if "open" not in received:
        why = received["close"].reason if "close" in received else "no answer"
        yield Check("socket", "failed", f"{_any(net.sockets)}: {why}")
    elif "v4_markets" not in received:
        what = "opened, and did not confirm the subscription"
        yield Check("socket", "failed", f"{_any(net.sockets)} {what}")
    else:
        taken_ms = (received["v4_markets"].mono - received["sent"].mono) / 1e6
        yield Check("socket", "ok", f"{_any(net.sockets)} answered in {taken_ms:.0f} ms")


def _any(addresses: Sequence[str]) -> str:
    # Which of them answered is not reported: another is used where the first one fails.
    return " or ".join(addresses)


def _tls(sight: Sight) -> Iterable[Check]:
    net, received = sight.net, sight.received
    addresses = (*net.rests, *net.sockets)
    plain = [url for url in addresses if not url.startswith(("https:", "wss:"))]
    texts = [received[kind].reason for kind in ("close", "gap") if kind in received]
    refused = [text for text in texts if "CERTIFICATE" in text]
    if plain:
        outcome: CheckOutcome = "ok" if sight.local else "failed"
        yield Check("tls", outcome, f"{' and '.join(plain)}: not encrypted")
    elif refused:
        yield Check("tls", "failed", refused[0])
    elif {"open", "http"} <= received.keys():
        yield Check("tls", "ok", "certificates verified")
    else:
        yield Check("tls", "warning", "not every connection was made")


def _blocks(sight: Sight) -> Iterable[Check]:
    """Compare the indexer's newest block with the node's, and with this machine's clock."""
    frame, tip = sight.received.get("v4_block_height"), sight.tip
    if frame is None:
        return
    try:
        (block,) = contents(frame)
        height, time_ns = block.block
    except (WireError, ValueError) as error:
        yield Check("skew", "failed", f"expected a block and its time, got {error}")
        return
    if isinstance(tip, ChainTip):
        yield _together(sight, tip, height, time_ns)
    # The node is ahead of the indexer: by its block the clock is judged, if there is one.
    ahead_ns = tip.time_ns - tip.at if isinstance(tip, ChainTip) else time_ns - frame.at
    bad = abs(ahead_ns) > MAX_SKEW_S * 1e9 and not sight.local
    seen = f"newest block minus our clock {ahead_ns / 1e9:+.1f} s"
    yield Check("skew", "failed" if bad else "ok", seen)


def _together(sight: Sight, tip: ChainTip, height: int, time_ns: int) -> Check:
    behind, lag_s = tip.height - height, (tip.time_ns - time_ns) / 1e9
    seen = f"block {height}, {behind} behind the node's, {lag_s:.1f} s"
    # The indexer does not name its chain: its blocks and their times do.
    if abs(behind) > _BLOCKS + _BLOCKS_A_SECOND * abs(lag_s):
        return Check("indexer", "failed", f"{seen}: these are two chains")
    if lag_s > MAX_LAG_S and not sight.local:
        return Check("height", "failed", f"{seen}: the indexer does not keep up")
    return Check("height", "ok", seen)


_LOOKS: Final[tuple[Callable[[Sight], Iterable[Check]], ...]] = (
    _environment,
    _node,
    _rest,
    _socket,
    _tls,
    _blocks,
)
