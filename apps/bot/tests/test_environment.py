"""Where a run may go: environments, networks, confirmations, and what is checked at start."""

import dataclasses
import io
import subprocess
import sys
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

import dydx_conn
import pytest
import reactivex
from bot.__main__ import main
from bot.config.environment import (
    EnvironmentSettings,
    RefusalError,
    confirmations,
    enter,
    look_at,
    network_type,
    objection,
    read_network,
    too_few_files,
)
from bot.config.validation import Validation, check_chain, judge, listen, validate
from dydx_conn import (
    NETWORKS,
    ChainTip,
    ConnError,
    Frame,
    Network,
    NetworkError,
    Subaccount,
    WireWriter,
    market_fields,
)
from reactivex import Observable

MAINNET, TESTNET, LOCAL = (NETWORKS[name] for name in ("mainnet", "testnet", "local"))

# === Environments ===


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ("development", "testnet"),
        ("test", "local"),
        ("staging", "testnet"),
        ("production", "mainnet"),
    ],
)
def test_an_environment_picks_its_network(environment: Any, name: str) -> None:
    """Nothing has to be typed; what is typed comes first."""
    assert EnvironmentSettings(environment=environment).chosen() == NETWORKS[name]
    assert EnvironmentSettings(environment=environment, network="local").chosen() == LOCAL


@pytest.mark.parametrize(
    ("environment", "network", "refused"),
    [
        ("development", MAINNET, False),
        ("development", LOCAL, False),
        ("test", MAINNET, True),
        ("test", TESTNET, False),
        ("staging", MAINNET, False),
        ("production", MAINNET, False),
        ("production", TESTNET, True),
        ("production", LOCAL, True),
        ("production", dataclasses.replace(LOCAL, chain_id="fork-1"), True),
    ],
)
def test_an_environment_refuses_what_it_is_not_for(
    environment: Any, network: Network, refused: bool
) -> None:
    """Production on testnet does not start, and a test never on mainnet."""
    assert bool(objection(EnvironmentSettings(environment=environment), network)) is refused


WORDS = {
    ("development", "testnet", False): [],
    ("development", "testnet", True): ["orders"],
    ("development", "local", True): [],
    ("development", "mainnet", False): ["mainnet"],
    ("development", "mainnet", True): ["mainnet", "orders"],
    ("staging", "mainnet", False): ["mainnet"],
    ("production", "mainnet", False): [],
    ("production", "mainnet", True): ["mainnet", "orders"],
}


@pytest.mark.parametrize("case", WORDS, ids=str)
def test_what_has_to_be_confirmed(case: tuple[Any, str, bool]) -> None:
    """Orders on mainnet want two confirmations, everywhere; on the stand-in none is wanted."""
    environment, name, orders = case

    wanted = confirmations(
        EnvironmentSettings(environment=environment), NETWORKS[name], orders=orders
    )

    assert [one.word for one in wanted] == WORDS[case]
    assert len({one.flag for one in wanted}) == len(wanted)


def test_mainnet_under_another_name_is_mainnet() -> None:
    """The chain id decides, not what somebody called it."""
    disguised = dataclasses.replace(MAINNET, name="harmless", rest="http://127.0.0.1:1")

    assert network_type(disguised) == "mainnet"
    assert network_type(dataclasses.replace(LOCAL, chain_id="dydx-staging-1")) == "other"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sit somebody at a terminal who types this."""

    def types(text: str) -> None:
        keyboard = io.StringIO(text)
        keyboard.isatty = lambda: True  # type: ignore[method-assign]  # as a terminal would
        monkeypatch.setattr("sys.stdin", keyboard)
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)

    return types


def test_a_word_that_is_typed_confirms(
    terminal: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """The warning has the reason; both words for orders."""
    terminal("mainnet\norders\n")

    assert enter(EnvironmentSettings(network="mainnet"), orders=True) == MAINNET
    warned = capsys.readouterr().err
    assert "on mainnet (dydx-mainnet-1) money is real, and this is development" in warned
    assert "real money moves" in warned


@pytest.mark.parametrize("typed", ["yes\n", "MAINNET\n", "\n", "", "mainnet\norder\n"])
def test_a_wrong_word_starts_nothing(terminal: Callable[[str], None], typed: str) -> None:
    """Whoever is in doubt types something else."""
    terminal(typed)

    with pytest.raises(RefusalError, match="nothing was started"):
        enter(EnvironmentSettings(network="mainnet"), orders=True)


def test_without_a_terminal_only_a_flag_confirms(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe with the word mainnet is no person."""
    monkeypatch.setattr("sys.stdin", io.StringIO("mainnet\norders\n"))

    with pytest.raises(RefusalError, match="expected --yes-mainnet without a terminal"):
        enter(EnvironmentSettings(network="mainnet"))
    with pytest.raises(RefusalError, match="expected --yes-orders"):
        enter(EnvironmentSettings(network="mainnet", yes_mainnet=True), orders=True)
    assert enter(EnvironmentSettings(network="mainnet", yes_mainnet=True)) == MAINNET
    both = EnvironmentSettings(network="mainnet", yes_mainnet=True, yes_orders=True)
    assert enter(both, orders=True) == MAINNET


def test_what_is_only_looked_at_needs_no_confirmation_and_may_be_refused() -> None:
    """Nothing can be sent: mainnet is as good as any network that the environment does not refuse."""
    assert look_at(EnvironmentSettings(network="mainnet")).name == "mainnet"
    with pytest.raises(RefusalError, match="expected local in test, got mainnet"):
        look_at(EnvironmentSettings(environment="test", network="mainnet"))


def test_what_is_refused_is_not_put_to_confirmation(terminal: Callable[[str], None]) -> None:
    """No word makes testnet production."""
    terminal("testnet\n")

    with pytest.raises(RefusalError, match="expected mainnet in production, got testnet"):
        enter(EnvironmentSettings(environment="production", network="testnet"))


@pytest.mark.parametrize(
    ("limits", "refused", "raised"),
    [
        ((16, 16), True, []),
        ((127, 127), True, []),
        ((16, 4096), False, [(128, 4096)]),
        ((16, -1), False, [(128, -1)]),
        ((128, 128), False, []),
        ((-1, -1), False, []),
    ],
)
def test_too_few_open_files_are_refused_before_a_run(
    limits: tuple[int, int], refused: bool, raised: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit that may be raised is; -1 is none."""
    done: list[Any] = []
    monkeypatch.setattr("resource.getrlimit", lambda _: limits)
    monkeypatch.setattr("resource.setrlimit", lambda _, pair: done.append(pair))

    why = too_few_files()

    found = f"expected a limit of 128 or more open files (ulimit -n 128), got {limits[0]}"
    assert why == (found if refused else "")
    assert done == raised


@pytest.mark.parametrize("command", ["paper", "doctor"])
def test_a_process_of_few_files_ends_with_one_line(command: str) -> None:
    """No traceback of whatever could open nothing more."""
    typed = f"ulimit -n 16; exec {sys.executable} -m bot {command} --network local"
    ended = subprocess.run(["sh", "-c", typed], capture_output=True, text=True, check=False)

    assert ended.returncode == 2
    assert ended.stderr.startswith("bot: expected a limit of 128 or more open files")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["paper", "--environment", "production", "--network", "testnet"], "expected mainnet in"),
        (["paper", "--network", "mainnet"], "expected --yes-mainnet"),
        (["paper", "--network", "none.toml"], "No such file"),
        (["doctor", "--network", "none.toml"], "No such file"),
    ],
)
def test_a_refusal_is_a_two(
    typed: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line of why, after the warnings; nothing has been connected to."""
    assert main(typed) == 2

    assert message in capsys.readouterr().err.splitlines()[-1]


# === Networks from files ===

FILE = """
name = "fork"
rest = "https://indexer.example.com/"
ws = "wss://indexer.example.com/v4/ws"
node = "grpc.example.com:443"
chain_id = "fork-1"
"""


LISTS = """
name = "fork"
rest = ["https://one.example.com", "https://two.example.com/"]
ws = ["wss://one.example.com/v4/ws", "wss://two.example.com/v4/ws"]
node = ["one.example.com:1", "two.example.com:1", "three.example.com:1"]
chain_id = "fork-1"
"""


def test_a_network_may_have_several_addresses_of_each_kind(tmp_path: Path) -> None:
    """The first one is used until it fails; a node that was typed has no others."""
    path = tmp_path / "fork.toml"
    path.write_text(LISTS)

    net = read_network(path)

    assert net.rests == ("https://one.example.com", "https://two.example.com")
    assert net.sockets == ("wss://one.example.com/v4/ws", "wss://two.example.com/v4/ws")
    assert net.nodes == ("one.example.com:1", "two.example.com:1", "three.example.com:1")
    assert EnvironmentSettings(network=str(path), node="127.0.0.1:9").chosen().nodes == (
        "127.0.0.1:9",
    )


def test_a_network_is_read_from_a_file(tmp_path: Path) -> None:
    """Each address as it stands there; what is left out has the usual denominations."""
    path = tmp_path / "fork.toml"
    path.write_text(FILE + 'chain_denom = "afork"\n')

    net = EnvironmentSettings(network=str(path), node="127.0.0.1:9").chosen()

    assert (net.name, net.chain_id, net.chain_denom) == ("fork", "fork-1", "afork")
    assert net.rest == "https://indexer.example.com"
    assert net.usdc_denom == TESTNET.usdc_denom
    assert net.node == "127.0.0.1:9"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "name: Field required"),
        (FILE.replace("chain_id", "chainid"), "chain_id: Field required"),
        (FILE + 'port = "1"', "port: Extra inputs are not permitted"),
        (FILE.replace("https", "http"), "rest: expected https:// or wss://, or this machine, got"),
        (FILE.replace("wss", "ws"), "ws: expected https:// or wss://"),
        (FILE.replace(":443", ""), "node: expected a host and a port"),
        (FILE.replace('"fork-1"', "7"), "chain_id: Input should be a valid string"),
        (FILE.replace('"fork-1"', '" "'), "chain_id: expected some text"),
        (FILE.replace("name", "name ="), "expected a network in TOML at"),
        (FILE.replace('node = "grpc.example.com:443"', "node = []"), "node: Tuple should have"),
        (LISTS.replace("https://two", "http://two"), "rest: expected https:// or wss://"),
        (LISTS.replace("wss://two", "ws://two"), "ws: expected https:// or wss://"),
        (LISTS.replace("two.example.com:1", "two.example.com"), "node: expected a host and a port"),
        (
            LISTS.replace(', "wss://two.example.com/v4/ws"', ""),
            "expected as many addresses of rest as of ws, got 2 of rest and 1 of ws",
        ),
        ("\x00", "expected a network in TOML at"),
    ],
)
def test_a_file_that_is_no_network_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """The field and what was expected of it, with the path, in one line."""
    path = tmp_path / "fork.toml"
    path.write_text(text)

    with pytest.raises(NetworkError) as caught:
        read_network(path)

    assert message in str(caught.value)
    assert str(path) in str(caught.value)


# === Validation ===

BTC = market_fields("BTC-USD", price="100")
NOW_NS = 1_767_225_600 * 10**9  # 2026-01-01T00:00:00Z
TIP = ChainTip("dydx-testnet-4", 10, NOW_NS - 200_000_000, NOW_NS)


def frame(kind: str, text: str = "", type_: str = "") -> Frame:
    """Make a frame that is no message, of the instant that all happens in."""
    channel = "/v4/perpetualMarkets" if kind == "http" else ""
    link = "rest" if kind in ("http", "gap") else "c1"
    return Frame(1, NOW_NS, 1, link, kind, text, type_, channel)


def wire() -> WireWriter:
    """Return what writes a message of that instant."""
    writer = WireWriter(at=NOW_NS)
    writer.mono = 1
    return writer


def block(time: str, height: int = 9) -> Frame:
    """Make the message that reports a block."""
    return wire().block(height, time)


ANSWER = wire().answer("/v4/perpetualMarkets", {"markets": {"BTC-USD": BTC}})
OPENED = [
    frame("open", "wss://v/v4/ws"),
    frame("sent", '{"type":"subscribe","channel":"v4_markets"}'),
    wire().markets(BTC),
]
BLOCK = block("2025-12-31T23:59:59.500Z")


def sends(monkeypatch: pytest.MonkeyPatch, frames: list[Frame]) -> None:
    """Let any network send these frames, and then nothing."""

    def live(_: Network, __: list[str], *, pace: dydx_conn.Pacer, **___: Any) -> Observable[Frame]:
        late = frame("tick"), Frame(2, NOW_NS, 2**63, "clock", "tick")
        return reactivex.from_iterable(takewhile(pace, [*frames, *late]))

    monkeypatch.setattr("bot.config.validation.live", live)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Validation]:
    """Judge what a network sent: `found(frames, network=…, tip=…)`."""

    def judged(
        frames: list[Frame], net: Network = TESTNET, tip: ChainTip | str = TIP, **settings: Any
    ) -> Validation:
        sends(monkeypatch, frames)
        return judge(EnvironmentSettings(**settings), net, tip, listen(net))

    return judged


def outcomes(found: Validation) -> dict[str, str]:
    """Map each check's name to its outcome."""
    return {check.name: check.outcome for check in found.checks}


def seen(found: Validation, name: str) -> str:
    """Return what a check saw."""
    return next(check.seen for check in found.checks if check.name == name)


def test_a_network_that_answers_is_fine(found: Callable[..., Validation]) -> None:
    """Each figure is of what was received."""
    well = found([ANSWER, *OPENED, BLOCK])

    assert set(outcomes(well).values()) == {"ok"}
    assert (well.status, well.http_status, well.failed) == ("ok", 200, [])
    assert (well.network, well.network_type, well.environment) == (
        "testnet",
        "testnet",
        "development",
    )
    assert well.chain_id_expected == well.chain_id_reported == "dydx-testnet-4"
    assert seen(well, "node") == "test-dydx-grpc.kingnodes.com:443 is at block 10"
    assert seen(well, "chain") == "dydx-testnet-4"
    assert seen(well, "rest").endswith("lists 1 markets")
    assert seen(well, "socket").endswith("/v4/ws answered in 0 ms")
    assert seen(well, "height") == "block 9, 1 behind the node's, 0.3 s"
    assert seen(well, "skew") == "newest block minus our clock -0.2 s"


def test_of_a_list_each_address_may_be_the_one_that_answered(
    found: Callable[..., Validation],
) -> None:
    """Another is used where the first one fails: no line says of the first what another did."""
    net = dataclasses.replace(
        TESTNET, rest="http://a", other_rest=("http://b",), node="c:1", other_nodes=("d:1", "e:1"),
        ws="ws://a", other_ws=("ws://b",),
    )  # fmt: skip
    well = found([ANSWER, *OPENED, BLOCK], net)

    assert seen(well, "node") == "c:1 or d:1 or e:1 is at block 10"
    assert seen(well, "rest") == "http://a or http://b lists 1 markets"
    assert seen(well, "socket") == "ws://a or ws://b answered in 0 ms"


def test_another_indexer_may_answer_after_the_first_one_failed(
    found: Callable[..., Validation],
) -> None:
    """That the first one failed is no end: the other is queried within the same patience."""
    net = dataclasses.replace(TESTNET, other_rest=("http://b",), other_ws=("ws://b",))
    lost = frame("gap", "REST for v4_markets: expected a to answer")

    assert outcomes(found([lost, *OPENED, BLOCK, ANSWER], net))["rest"] == "ok"
    assert outcomes(found([ANSWER, frame("close"), *OPENED, BLOCK], net))["socket"] == "ok"
    assert outcomes(found([lost, *OPENED, BLOCK, ANSWER]))["rest"] == "failed"


def test_a_node_of_another_chain_is_a_mismatch(found: Callable[..., Validation]) -> None:
    """Nothing may be signed for it, whatever else is fine."""
    other = found([ANSWER, *OPENED, BLOCK], MAINNET)

    assert (other.status, other.http_status) == ("mismatch", 400)
    assert seen(other, "chain") == "expected dydx-mainnet-1, got dydx-testnet-4 from the node"
    assert [check.name for check in other.failed] == ["chain"]


def test_an_indexer_of_another_chain_is_a_mismatch(found: Callable[..., Validation]) -> None:
    """It does not name its chain, but its blocks do: far apart in height and not in time."""
    far = ChainTip("dydx-testnet-4", 20_000_000, NOW_NS, NOW_NS)

    other = found([ANSWER, *OPENED, BLOCK], tip=far)

    assert (other.status, other.http_status) == ("mismatch", 400)
    assert seen(other, "indexer").endswith("these are two chains")


@pytest.mark.parametrize(("net", "status"), [(TESTNET, "unfit"), (LOCAL, "ok")])
def test_an_indexer_that_does_not_keep_up_is_unfit(
    found: Callable[..., Validation], net: Network, status: str
) -> None:
    """A minute behind in blocks and in time is one chain, and no place to trade."""
    ahead = ChainTip(net.chain_id, 69, NOW_NS, NOW_NS)

    late = found([ANSWER, *OPENED, block("2025-12-31T23:59:00Z")], net, ahead)

    assert late.status == status
    assert seen(late, "height").startswith("block 9, 60 behind the node's, 60.0 s")
    assert late.http_status == (200 if status == "ok" else 503)


def test_a_node_that_is_silent_is_unreachable(found: Callable[..., Validation]) -> None:
    """The reason is the transport's; the indexer is judged all the same, and the clock by it."""
    silent = found([ANSWER, *OPENED, BLOCK], tip="expected a block, but UNAVAILABLE")

    assert (silent.status, silent.http_status) == ("unreachable", 503)
    assert silent.chain_id_reported == ""
    assert seen(silent, "node") == "expected a block, but UNAVAILABLE"
    assert seen(silent, "skew").endswith("-0.5 s")
    assert "chain" not in outcomes(silent)


@pytest.mark.parametrize(
    ("ahead_s", "net", "outcome"),
    [(4, TESTNET, "ok"), (60, TESTNET, "failed"), (-60, TESTNET, "failed"), (-60, LOCAL, "ok")],
)
def test_a_clock_that_is_off_fails(
    found: Callable[..., Validation], ahead_s: int, net: Network, outcome: str
) -> None:
    """Good-til times and nonces hang on it; a stand-in has a clock of its own."""
    tip = ChainTip(net.chain_id, 9, NOW_NS + ahead_s * 10**9, NOW_NS)
    time = f"2026-01-01T00:0{max(ahead_s, 0) // 60}:0{max(ahead_s, 0) % 60}Z"

    assert outcomes(found([ANSWER, *OPENED, block(time)], net, tip))["skew"] == outcome


def test_a_block_that_cannot_be_read_fails(found: Callable[..., Validation]) -> None:
    """Noon is no time of a block."""
    assert outcomes(found([ANSWER, *OPENED, block("noon")]))["skew"] == "failed"


REFUSED = "SSLError: [SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate"


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ([], {"rest": "no answer", "socket": "no answer", "tls": "not every connection"}),
        ([frame("gap", "not requested: ConnectError"), *OPENED, BLOCK], {"rest": "ConnectError"}),
        ([frame("http", "<html>", "502"), *OPENED], {"rest": "answered 502: a page of HTML"}),
        ([frame("http", '{"errors":[{"msg":"slow"}]}', "429"), *OPENED], {"rest": "slow"}),
        ([ANSWER, frame("close", "ConnectionRefusedError", "0")], {"socket": "RefusedError"}),
        ([ANSWER, OPENED[0], OPENED[1]], {"socket": "did not confirm the subscription"}),
        ([ANSWER, frame("close", REFUSED, "0")], {"socket": REFUSED, "tls": REFUSED}),
    ],
)
def test_what_does_not_answer_is_reported_in_the_networks_words(
    found: Callable[..., Validation], frames: list[Frame], expected: dict[str, str]
) -> None:
    """Nothing is waited for longer than some seconds, and no clock is judged without a block."""
    checked = found(frames)

    for name, words in expected.items():
        assert words in seen(checked, name)
    assert {check.name for check in checked.failed} >= {*expected} - {"tls"}
    assert (outcomes(checked)["tls"] == "failed") == (expected.get("tls") == REFUSED)
    assert checked.status == "unreachable"


def test_a_refusal_on_the_socket_is_no_answer(found: Callable[..., Validation]) -> None:
    """It names the channel, and brings nothing of it."""
    refusal = wire().message("error", "v4_markets")

    assert outcomes(found([ANSWER, *OPENED[:2], refusal]))["socket"] == "failed"


def test_only_the_markets_are_the_answer_of_rest(found: Callable[..., Validation]) -> None:
    """An answer about something else, or a message that was lost, does not count."""
    other = Frame(1, NOW_NS, 1, "rest", "http", "{}", "200", "/v4/height")
    lost = Frame(1, NOW_NS, 1, "c1", "gap", "3 messages were lost")

    checked = found([other, lost, *OPENED, ANSWER, BLOCK])

    assert checked.status == "ok"


def test_plain_text_is_for_the_local_venue_alone(found: Callable[..., Validation]) -> None:
    """To a real network it fails, whatever it answers."""
    plain = dataclasses.replace(TESTNET, ws="ws://127.0.0.1:9")
    tip = dataclasses.replace(TIP, chain_id="localdydxprotocol")

    assert found([ANSWER, *OPENED, BLOCK], plain).status == "unfit"
    assert outcomes(found([ANSWER, *OPENED, BLOCK], LOCAL, tip))["tls"] == "ok"


@pytest.mark.parametrize(
    ("environment", "net", "outcome"),
    [
        ("development", TESTNET, "ok"),
        ("development", MAINNET, "warning"),
        ("production", TESTNET, "failed"),
    ],
)
def test_the_environment_is_a_check_too(
    found: Callable[..., Validation], environment: str, net: Network, outcome: str
) -> None:
    """The doctor wants no confirmation: it reports what a run would want."""
    tip = dataclasses.replace(TIP, chain_id=net.chain_id)

    checked = found([ANSWER, *OPENED, BLOCK], net, tip, environment=environment)

    assert outcomes(checked)["environment"] == outcome
    assert checked.status == ("unfit" if outcome == "failed" else "ok")


def test_the_account_is_waited_for_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its snapshot is among what was received, also after a refusal: it is requested again."""
    shown = wire().message("subscribed", "v4_subaccounts", {})
    refused = wire().message("error", "v4_subaccounts", message="no")
    monkeypatch.setattr("bot.config.validation.chain_tip", lambda _: TIP)

    for answers in ([shown], [refused, shown]):
        sends(monkeypatch, [ANSWER, *OPENED, BLOCK, *answers])
        checked, received = validate(EnvironmentSettings(), TESTNET, Subaccount("dydx1abc"))
        assert received["v4_subaccounts"] is shown
        assert checked.status == "ok"


def test_a_node_that_fails_is_a_result_and_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A validation always comes to its end."""

    def silent(_: Network) -> ChainTip:
        raise NetworkError("nobody there")

    sends(monkeypatch, [])
    monkeypatch.setattr("bot.config.validation.chain_tip", silent)

    checked, _ = validate(EnvironmentSettings(), TESTNET)

    assert seen(checked, "node") == "nobody there"


def test_a_paper_run_is_refused_on_another_chain(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A silent node is a warning: nothing is sent to it."""

    def silent(_: Network) -> ChainTip:
        raise NetworkError("nobody there")

    monkeypatch.setattr("bot.config.validation.chain_tip", lambda _: TIP)
    check_chain(TESTNET)
    with pytest.raises(ConnError, match="to be of dydx-mainnet-1, got dydx-testnet-4"):
        check_chain(MAINNET)
    monkeypatch.setattr("bot.config.validation.chain_tip", silent)
    check_chain(MAINNET)

    assert "the chain is not checked: nobody there" in capsys.readouterr().err
