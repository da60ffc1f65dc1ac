"""Where a run may go: the environment, the network, and what has to be confirmed before.

    options, DYDX_ENVIRONMENT ──► EnvironmentSettings ──► enter ──► Network, or a refusal
    Network ──► validate ──► Validation: ok, unfit, unreachable or mismatch

An environment picks a network by itself, refuses some, and wants others confirmed: by a flag,
or by a word typed at a terminal, never by default. A network is what its chain id makes it,
whatever name it goes by. `validate` queries the node for its chain and receives the indexer as
a run would; the one result it returns is what the doctor prints, what `bot trade` starts on,
and what a health endpoint can answer with.
"""

import sys
import threading
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace as with_fields
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from dydx_conn import (
    NETWORKS,
    ChainTip,
    ConnError,
    Frame,
    MarketsContents,
    Network,
    NetworkError,
    Subaccount,
    WireError,
    chain_tip,
    contents,
    is_loopback,
    live,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from bot.config.document import near
from bot.system import file_limits, raise_file_limit

# === Errors ===


class RefusalError(ConnError):
    """A run that may not start here, or that nobody has confirmed."""


# === Networks ===
# What a network is, by its chain, and how one is read from a TOML file. Connects to nothing.

NetworkType = Literal["mainnet", "testnet", "local", "other"]
_TYPES: Final[Mapping[str, Any]] = {known.chain_id: name for name, known in NETWORKS.items()}


def network_type(net: Network) -> NetworkType:
    """Return what a network is by its chain, so that no other name makes mainnet harmless."""
    kind: NetworkType = _TYPES.get(net.chain_id, "other")
    return kind


class NetworkFile(BaseModel):
    """A network as a TOML file describes it; the denominations and `source` may be left out."""

    model_config = ConfigDict(extra="forbid")

    name: str
    rest: tuple[str, ...] = Field(min_length=1)
    ws: tuple[str, ...] = Field(min_length=1)
    node: tuple[str, ...] = Field(min_length=1)
    chain_id: str
    usdc_denom: str | None = None
    chain_denom: str | None = None
    source: str | None = None

    @field_validator("rest", "ws", "node", mode="before")
    @classmethod
    def _listed(cls, given: Any) -> Any:
        return given if isinstance(given, list) else [given]

    @field_validator("rest", "ws")
    @classmethod
    def _encrypted(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        for address in addresses:
            scheme, _, _ = address.partition("://")
            safe = scheme in ("https", "wss") or (scheme in ("http", "ws") and is_loopback(address))
            if not safe:
                raise ValueError(f"expected https:// or wss://, or this machine, got {address!r}")
        return tuple(address.rstrip("/") for address in addresses)

    @field_validator("node")
    @classmethod
    def _with_port(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        for address in addresses:
            if not address.rpartition(":")[2].isdigit():
                raise ValueError(
                    f"expected a host and a port such as grpc.example.com:443, got {address!r}"
                )
        return addresses

    @field_validator("name", "chain_id")
    @classmethod
    def _named(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("expected some text, got none")
        return text

    def network(self) -> Network:
        """Return it as a value; `NetworkError` if an indexer lacks one of its two addresses."""
        return Network(
            **self.model_dump(exclude_none=True, exclude={"rest", "ws", "node"}),
            rest=self.rest[0], ws=self.ws[0], node=self.node[0],
            other_rest=self.rest[1:], other_ws=self.ws[1:], other_nodes=self.node[1:],
        )  # fmt: skip


def read_network(path: Path) -> Network:
    """Read a network from a TOML file; `NetworkError` names the line that is wrong, and why.

    `rest`, `ws` and `node` are an address each, or a list of them with the first choice first.
    """
    try:
        return NetworkFile(**tomllib.loads(path.read_text(encoding="utf-8"))).network()
    except ValidationError as error:
        raise NetworkError(f"{path}: {_first(error)}") from None
    except NetworkError as error:
        raise NetworkError(f"{path}: {error}") from None
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as error:
        raise NetworkError(f"expected a network in TOML at {path}, got {error}") from None


def _first(error: ValidationError) -> str:
    """Put the first thing that is wrong in one line; the values are no secrets."""
    wrong = error.errors()[0]
    name = ".".join(map(str, wrong["loc"])) or "it"
    return f"{name}: {wrong['msg'].removeprefix('Value error, ')}"


# === Settings ===
# `RULES`, the table of environments: what each picks, refuses and wants confirmed; then what was
# typed or comes from the shell. A new environment is one row, and its name in `Environment`.

Environment = Literal["development", "test", "staging", "production"]
ENVIRONMENT: Final = "DYDX_ENVIRONMENT"


class Rule(msgspec.Struct, frozen=True):
    """What an environment picks by itself, what it refuses and what it wants confirmed."""

    picks: str
    refuses: tuple[NetworkType, ...] = ()
    confirms: tuple[NetworkType, ...] = ()


RULES: Final[Mapping[Environment, Rule]] = {
    "development": Rule("testnet", confirms=("mainnet",)),
    "test": Rule("local", refuses=("mainnet",)),
    "staging": Rule("testnet", confirms=("mainnet",)),
    "production": Rule("mainnet", refuses=("testnet", "local", "other")),
}


class EnvironmentSettings(BaseModel):
    """What was chosen about where to run; an empty `network` is the environment's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    environment: Environment = "development"
    network: str = ""
    rest: str = ""
    ws: str = ""
    node: str = ""
    yes_mainnet: bool = False
    yes_orders: bool = False
    given: str = ""  # in words, where environment and network were given

    @property
    def rule(self) -> Rule:
        """Return what the environment allows."""
        return RULES[self.environment]

    def chosen(self) -> Network:
        """Return the network: by name, from a file, or the environment's own."""
        name = self.network or self.rule.picks
        net = read_network(Path(name)) if name.endswith(".toml") else _named(name)
        typed = {part: getattr(self, part) for part in _OTHERS if getattr(self, part)}
        # Who names an address means that one, and no other in its place.
        others: dict[str, Any] = {name: () for part in typed for name in _OTHERS[part]}
        return with_fields(net, **typed, **others)


def _named(name: str) -> Network:
    if name not in NETWORKS:
        words = f"expected one of {', '.join(NETWORKS)}, or a TOML file, got network {name!r}"
        raise NetworkError(words + near(name, NETWORKS))
    return NETWORKS[name]


_OTHERS: Final[Mapping[str, tuple[str, ...]]] = {
    "rest": ("other_rest", "other_ws"),
    "ws": ("other_rest", "other_ws"),
    "node": ("other_nodes",),
}


# === Confirmations ===
# What a run needs before it may start: no objection, and each confirmation by flag or typed word.


class Confirmation(msgspec.Struct, frozen=True):
    """A word to be typed, or a flag to be given, before a run may start."""

    word: str
    flag: str
    why: str


def objection(settings: EnvironmentSettings, net: Network) -> str:
    """Return why an environment refuses a network, "" if it does not."""
    kind = network_type(net)
    if kind not in settings.rule.refuses:
        return ""
    wanted = settings.rule.picks
    return (
        f"expected {wanted} in {settings.environment}, got {net.name} ({kind}, chain "
        f"{net.chain_id}): choose another network, or another environment"
        + (f" ({settings.given})" if settings.given else "")
    )


def confirmations(
    settings: EnvironmentSettings, net: Network, *, orders: bool
) -> list[Confirmation]:
    """Return what has to be confirmed: real orders on mainnet want two, each its own word."""
    kind, wanted = network_type(net), []
    if kind in settings.rule.confirms or (orders and kind == "mainnet"):
        why = f"on {net.name} ({net.chain_id}) money is real, and this is {settings.environment}"
        wanted.append(Confirmation("mainnet", "--yes-mainnet", why))
    if orders and kind != "local":
        money = "real" if kind == "mainnet" else kind
        why = f"orders will be signed and sent to {net.name}: {money} money moves"
        wanted.append(Confirmation("orders", "--yes-orders", why))
    return wanted


def look_at(settings: EnvironmentSettings) -> Network:
    """Return the network to look at, where nothing can be sent: that needs no confirmation."""
    net = settings.chosen()
    if refused := objection(settings, net) or too_few_files():
        raise RefusalError(refused)
    return net


def enter(settings: EnvironmentSettings, *, orders: bool = False) -> Network:
    """Return the network to run on, once nothing refuses it and everything is confirmed."""
    net = look_at(settings)
    for wanted in confirmations(settings, net, orders=orders):
        print(f"bot: warning: {wanted.why}", file=sys.stderr, flush=True)
        if not getattr(settings, wanted.flag.strip("-").replace("-", "_")):
            _confirm(wanted)
    return net


# Of sockets, their event loops, the recording, the audit log and the handle of a run.
_FILES: Final = 128


def too_few_files() -> str:
    """Return why a run would lack open files, "" if it would not; raise the limit if it may."""
    soft, hard = file_limits()
    if soft < _FILES <= hard:
        raise_file_limit(_FILES)
        return ""
    what = f"expected a limit of {_FILES} or more open files (ulimit -n {_FILES})"
    return "" if soft >= _FILES else f"{what}, got {soft}"


def _confirm(wanted: Confirmation) -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        what = f"expected {wanted.flag} without a terminal to confirm at, got neither"
        raise RefusalError(f"{what}: {wanted.why}; nothing was started")
    print(f"type {wanted.word} to go on: ", end="", file=sys.stderr, flush=True)
    typed = sys.stdin.readline().strip()
    if typed != wanted.word:
        raise RefusalError(f"expected {wanted.word!r}, got {typed!r}: nothing was started")


# === Validation ===
# A network as it answers: `_LOOKS` is the table of checks, one function each, and `judge` folds
# them into a status. A new check is one function and one row. No order is sent.

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
