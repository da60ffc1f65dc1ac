"""Keys: every way in, every way to get them wrong, and no way out for the secret."""

import asyncio
import base64
import copy
import dataclasses
import io
import json
import logging
import os
import pickle
import pprint
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import dydx_conn
import grpc
import msgspec
import pytest
from dydx_conn import (
    NETWORKS,
    ChainAccount,
    ChainPosition,
    ChainTip,
    ConnError,
    KeyProblem,
    Keys,
    NetworkError,
    Subaccount,
    chain_account,
    chain_tip,
    is_loopback,
    rotate,
    seal,
    unseal,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from leaks import plant
from pydantic import BaseModel, ConfigDict, SecretBytes, SecretStr
from v4_proto.cosmos.base.tendermint.v1beta1 import query_pb2, query_pb2_grpc
from v4_proto.dydxprotocol.perpetuals import query_pb2_grpc as perpetuals_grpc
from v4_proto.dydxprotocol.perpetuals.perpetual_pb2 import Perpetual, PerpetualParams
from v4_proto.dydxprotocol.perpetuals.query_pb2 import QueryPerpetualResponse
from v4_proto.dydxprotocol.subaccounts import query_pb2_grpc as subaccounts_grpc
from v4_proto.dydxprotocol.subaccounts.asset_position_pb2 import AssetPosition
from v4_proto.dydxprotocol.subaccounts.perpetual_position_pb2 import PerpetualPosition
from v4_proto.dydxprotocol.subaccounts.query_pb2 import QuerySubaccountResponse
from v4_proto.dydxprotocol.subaccounts.subaccount_pb2 import Subaccount as Held

# Vectors of BIP-39, known to everyone and holding nothing.
MNEMONIC = " ".join(["abandon"] * 11 + ["about"])
LONG = plant(" ".join(["abandon"] * 23 + ["art"]))
# Its account on every chain of coin type 118, without prefix and checksum.
ACCOUNT = "19rl4cm2hmr8afy4kldpxz3fka4jguq0a"
HEX = "4b" * 32
PASSPHRASE = SecretStr("correct horse battery")


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Derive the key of a file at the least cost that is still read."""
    monkeypatch.setattr(dydx_conn, "_COST", 2**14)


def shown(error: BaseException) -> str:
    """Return all that a traceback can show of an error: locals, causes, contexts."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join(shown.format()) + repr(error) + str(error.__dict__)


def refused(make: Callable[[], object]) -> str:
    """Return the message of a refusal, which holds nothing of the key in any depth."""
    with pytest.raises(KeyProblem) as caught:
        make()
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return str(caught.value)


# === In ===


def test_a_mnemonic_of_the_environment_is_the_key_of_its_address() -> None:
    """The path is the chain's: coin type 118; spaces and capitals do not matter."""
    typed = {"DYDX_MNEMONIC": f"  {MNEMONIC.upper()}\n"}

    keys = Keys.from_environment(typed)

    assert keys.address.startswith(f"dydx{ACCOUNT}")
    assert keys.source == "DYDX_MNEMONIC"


@pytest.mark.parametrize("name", ["DYDX_MNEMONIC", "DYDX_PRIVATE_KEY"])
def test_a_secret_that_was_read_is_no_longer_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Strategies and child processes could read it there, were it valid or not."""
    monkeypatch.delenv("DYDX_MNEMONIC", raising=False)
    monkeypatch.delenv("DYDX_PRIVATE_KEY", raising=False)
    for secret in (MNEMONIC if name == "DYDX_MNEMONIC" else HEX, "nonsense"):
        monkeypatch.setenv(name, secret)
        with suppress(KeyProblem):
            Keys.from_environment()

        assert name not in os.environ


@pytest.mark.parametrize("text", [HEX, f"0x{HEX}", f" {HEX.upper()} "])
def test_a_private_key_may_be_written_in_several_ways(text: str) -> None:
    """64 hexadecimal digits, with or without a prefix, name one key."""
    assert Keys(SecretStr(text)).address == Keys(SecretStr(HEX)).address


def test_the_names_of_the_variables_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two bots on one machine need two names; the process's own environment is the default."""
    monkeypatch.setenv("SECOND_KEY", HEX)

    keys = Keys.from_environment(mnemonic="SECOND_WORDS", private_key="SECOND_KEY")

    assert keys.source == "SECOND_KEY"


def test_the_wallet_is_the_official_one_and_signs() -> None:
    """It is made without a node: number and sequence are handed in."""
    from coincurve import PublicKey
    from coincurve.ecdsa import cdata_to_der, deserialize_compact
    from dydx_v4_client.wallet import Wallet

    wallet = Keys(SecretStr(MNEMONIC)).wallet(7, 3)

    assert isinstance(wallet, Wallet)
    assert (wallet.account_number, wallet.sequence) == (7, 3)
    signature = cdata_to_der(deserialize_compact(wallet.key.sign(b"this")))
    assert PublicKey(wallet.public_key.key).verify(signature, b"this")


def test_a_key_file_gives_back_the_key(tmp_path: Path) -> None:
    """What was saved is read with its passphrase, and only its owner may read the file."""
    path = tmp_path / "key.json"

    Keys(SecretStr(LONG)).save(path, PASSPHRASE)

    assert Keys.from_file(path, PASSPHRASE).address == Keys(SecretStr(LONG)).address
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["key.json"]
    assert "abandon" not in path.read_text()


def test_a_key_file_names_what_it_is(tmp_path: Path) -> None:
    """Its header names the format, its version, the address and how the key is derived."""
    path = tmp_path / "key.json"
    Keys(SecretStr(MNEMONIC)).save(path, PASSPHRASE)

    header = json.loads(path.read_text())

    assert header["format"] == "dydx-keys"
    assert header["version"] == 1
    assert header["address"] == Keys(SecretStr(MNEMONIC)).address
    assert (header["kdf"], header["cost"]) == ("scrypt", 2**14)


def test_a_file_is_not_written_over(tmp_path: Path) -> None:
    """A key that is there may be the only copy."""
    path = tmp_path / "key.json"
    path.write_text("precious")

    message = refused(lambda: Keys(SecretStr(MNEMONIC)).save(path, PASSPHRASE))

    assert "File exists" in message
    assert path.read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 1


def test_rotating_changes_the_passphrase_and_not_the_key(tmp_path: Path) -> None:
    """The old one opens nothing any more, and the mode of the file stays."""
    path, new = tmp_path / "key.json", SecretStr("another passphrase")
    Keys(SecretStr(MNEMONIC)).save(path, PASSPHRASE)

    rotate(path, PASSPHRASE, new)

    assert Keys.from_file(path, new).address == Keys(SecretStr(MNEMONIC)).address
    assert "got another" in refused(lambda: Keys.from_file(path, PASSPHRASE))
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_rotation_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Power may go at any moment: the file is replaced whole or not at all."""
    path = tmp_path / "key.json"
    Keys(SecretStr(MNEMONIC)).save(path, PASSPHRASE)

    def full(*_: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as broken:
        broken.setattr("os.fsync", full)
        assert "no space left" in refused(lambda: rotate(path, PASSPHRASE, SecretStr("x" * 9)))

    assert Keys.from_file(path, PASSPHRASE).address == Keys(SecretStr(MNEMONIC)).address
    assert len(list(tmp_path.iterdir())) == 1


class Ring:
    """A system keyring of one key."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def get_password(self, service: str, name: str) -> Any:
        assert (service, name) == ("dydx-conn", "main")
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def test_a_key_of_the_systems_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is queried by name under one service."""
    monkeypatch.setattr("keyring.get_password", Ring(MNEMONIC).get_password)

    assert Keys.from_keyring("main").address == Keys(SecretStr(MNEMONIC)).address


def test_a_keyring_that_does_not_have_it_explains_how_to_store_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The command is the keyring's own."""
    monkeypatch.setattr("keyring.get_password", Ring(None).get_password)

    assert "`keyring set dydx-conn main` stores one" in refused(lambda: Keys.from_keyring("main"))


def test_a_machine_without_a_keyring_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """No backend, or one that is locked: the system's own reason."""
    import keyring.errors

    locked = keyring.errors.KeyringLocked("locked\nand more")
    monkeypatch.setattr("keyring.get_password", Ring(locked).get_password)

    assert refused(lambda: Keys.from_keyring("main")).endswith("got locked")


def test_without_the_extra_there_is_no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything else works, and the message names the extra."""
    monkeypatch.setitem(sys.modules, "keyring", None)

    assert "dydx-conn[keyring]" in refused(lambda: Keys.from_keyring("main"))


# === Wrong ===

WRONG = {
    "a word too few": (" ".join(["abandon"] * 11), "12, 15, 18, 21, 24 words, got 11"),
    "a word too many": (f"{MNEMONIC} zoo", "got 13"),
    "a word of no list": (MNEMONIC.replace("about", "dolphinx"), "got others at 12"),
    "words of another list": (" ".join(["abaisser"] * 12), "English BIP-39 list"),
    "a wrong checksum": (" ".join(["abandon"] * 12), "checksum"),
    "words out of place": (" ".join(["about"] + ["abandon"] * 11), "checksum"),
    "a hex digit too few": (HEX[1:], "one word of 63 characters"),
    "a key of zero": ("0" * 64, "secp256k1"),
    "a key past the order": ("f" * 64, "secp256k1"),
    "something else": ("hunter2", "one word of 7 characters"),
    "nothing": ("   ", "got 0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_key_is_refused_without_being_shown(name: str) -> None:
    """The message names what was expected; no traceback shows a word of it, locals included."""
    secret, message = SecretStr(WRONG[name][0]), WRONG[name][1]

    with pytest.raises(KeyProblem, match=r"^given: expected") as caught:
        Keys(secret)

    assert message in str(caught.value)
    for word in secret.get_secret_value().split():
        assert word not in _ours(caught.value)


def _ours(error: BaseException) -> str:
    """Show an error as a crash reporter does, from the frames of dydx_conn up."""
    trace = error.__traceback__
    while trace is not None and "dydx_conn" not in trace.tb_frame.f_code.co_filename:
        trace = trace.tb_next
    return shown(error.with_traceback(trace))


def test_the_environment_is_not_shown_either() -> None:
    """A mapping that holds the secret is as bad as the secret."""
    with pytest.raises(KeyProblem) as both:
        Keys.from_environment({"DYDX_MNEMONIC": MNEMONIC, "DYDX_PRIVATE_KEY": HEX})
    with pytest.raises(KeyProblem) as wrong:
        Keys.from_environment({"DYDX_PRIVATE_KEY": "f" * 64})

    assert "got both" in str(both.value)
    assert "abandon" not in _ours(both.value)
    assert "f" * 64 not in _ours(wrong.value)


def test_a_missing_key_is_reported_with_the_names() -> None:
    """Which variables were looked for."""
    message = refused(lambda: Keys.from_environment({"DYDX_MNEMONIC": ""}))

    assert message == "expected one of DYDX_MNEMONIC and DYDX_PRIVATE_KEY to be set, got neither"


def test_the_address_of_another_key_is_refused() -> None:
    """A key of another address than the expected one is refused."""
    own = Keys(SecretStr(MNEMONIC)).address

    message = refused(lambda: Keys(SecretStr(HEX), source="HEX", expected=own))

    assert message.startswith(f"HEX: expected the key of {own}, got dydx1")
    assert Keys(SecretStr(MNEMONIC), expected=own).address == own


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: "", "expected an encrypted key file"),
        (lambda text: text[: len(text) // 2], "expected an encrypted key file"),
        (lambda text: "[" * 10_000, "expected an encrypted key file"),
        (lambda text: '{"crypto": {}}', "expected an encrypted key file"),
        (lambda text: text.replace("gAAAA", "gAAAB"), "a damaged one"),
        (lambda text: text.replace("16384", "16385"), "a damaged one"),
        (lambda text: text.replace('"version": 1', '"version": 2'), "got dydx-keys 2"),
        (lambda text: text.replace('"scrypt"', '"md5"'), "with md5"),
        (lambda text: text.replace("dydx-keys", "ethereum"), "got ethereum"),
    ],
)
def test_a_damaged_file_is_no_wrong_passphrase(
    tmp_path: Path, spoil: Callable[[str], str], message: str
) -> None:
    """Each with what was expected, and with the path."""
    path = tmp_path / "key.json"
    Keys(SecretStr(MNEMONIC)).save(path, PASSPHRASE)
    path.write_text(spoil(path.read_text()))

    with pytest.raises(KeyProblem) as caught:
        Keys.from_file(path, PASSPHRASE)

    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_reported(tmp_path: Path) -> None:
    """With the system's reason."""
    with pytest.raises(KeyProblem, match="No such file"):
        Keys.from_file(tmp_path / "none.json", PASSPHRASE)


def resealed(path: Path, **changed: Any) -> None:
    """Change a file and make its sum hold again, as an attacker would."""
    sealed = dydx_conn._Sealed.read(path)
    sealed = msgspec.structs.replace(sealed, **changed)
    sealed = msgspec.structs.replace(sealed, sha256=sealed._sum())
    path.write_bytes(msgspec.json.encode(sealed))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"cost": 2**40}, "a damaged one"),
        ({"cost": 2}, "a damaged one"),
        ({"cost": 2**14 + 1}, "got another"),
        ({"salt": "?"}, "got another"),
        ({"token": "x"}, "got another"),
        ({"address": "dydx1other"}, "expected the key of dydx1other"),
    ],
)
def test_a_forged_header_opens_nothing(tmp_path: Path, changed: Any, message: str) -> None:
    """It may neither require endless work nor pass a key off as another's."""
    path = tmp_path / "key.json"
    Keys(SecretStr(MNEMONIC)).save(path, PASSPHRASE)
    resealed(path, **changed)

    assert message in refused(lambda: Keys.from_file(path, PASSPHRASE))


def test_a_short_passphrase_is_refused(tmp_path: Path) -> None:
    """A file is tried offline, as often as somebody likes."""
    message = refused(lambda: Keys(SecretStr(HEX)).save(tmp_path / "k", SecretStr("1234567")))

    assert "of 8 or more characters" in message


# === Other secrets ===


@settings(max_examples=10)  # each derives a key, twice
@given(st.binary(max_size=4096))
def test_what_is_sealed_is_what_comes_out(plain: bytes) -> None:
    """Any bytes, none among them, and nothing of them in what is written."""
    sealed = seal(plain, PASSPHRASE)

    assert unseal(sealed, PASSPHRASE) == plain
    assert len(plain) < 4 or plain not in sealed


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: b"", "expected sealed text, got"),
        (lambda text: b"\xff" + text, "expected sealed text, got"),
        (lambda text: b"[" * 10_000, "expected sealed text, got"),
        (lambda text: text.replace(b"gAAAA", b"gAAAB"), "a damaged one"),
        (lambda text: text.replace(b'"version": 1', b'"version": 2'), "got dydx-sealed 2"),
        (lambda text: text.replace(b"dydx-sealed", b"dydx-keys"), "got dydx-keys 1"),
    ],
)
def test_damaged_sealed_text_is_no_wrong_passphrase(
    spoil: Callable[[bytes], bytes], message: str
) -> None:
    """Neither is a key file, which has another format."""
    sealed = seal(b"postgresql://", PASSPHRASE)

    with pytest.raises(KeyProblem) as caught:
        unseal(spoil(sealed), PASSPHRASE)

    assert message in str(caught.value)


def test_another_passphrase_opens_no_sealed_text() -> None:
    """The message names neither of them, nor what is sealed."""
    sealed = seal(b"postgresql://bot:hunter2@db/bot", PASSPHRASE)

    message = refused(lambda: unseal(sealed, SecretStr("battery horse correct")))

    assert message == "expected the passphrase of the sealed text, got another"


def test_a_short_passphrase_seals_nothing() -> None:
    """Nor does its refusal show what was to be sealed."""
    with pytest.raises(KeyProblem, match="of 8 or more characters") as caught:
        seal(b"hunter2" * 3, SecretStr("1234567"))

    assert "hunter2" not in _ours(caught.value)


def test_a_key_of_bytes_that_are_no_text_is_refused(tmp_path: Path) -> None:
    """Somebody who knows the passphrase may seal anything into a key file."""
    path = tmp_path / "key.json"
    sealed = dydx_conn._Sealed.seal(
        SecretBytes(b"\xff\xfe"), PASSPHRASE, format="dydx-keys", address="dydx1"
    )
    path.write_bytes(sealed.text())

    assert "expected a mnemonic" in refused(lambda: Keys.from_file(path, PASSPHRASE))


# === No way out ===


@dataclasses.dataclass
class Config:
    """A configuration as an application may have it."""

    keys: Keys
    name: str = "bot"


class Model(BaseModel):
    """The same with pydantic."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    keys: Keys
    passphrase: SecretStr = PASSPHRASE


class Struct(msgspec.Struct):
    """The same with msgspec."""

    keys: Any


def _logged(keys: Keys) -> str:
    stream = io.StringIO()
    logger = logging.Logger("test")
    logger.addHandler(logging.StreamHandler(stream))
    logger.warning("%s %r %s", keys, keys, {"keys": keys})
    return stream.getvalue()


def _raised(keys: Keys) -> str:
    try:
        copied = [keys, Config(keys), Model(keys=keys)]
        raise ConnError(f"lost {copied}")
    except ConnError as error:
        return shown(error)


def _rich(keys: Keys) -> str:
    from rich.console import Console
    from rich.traceback import Traceback

    console = Console(file=io.StringIO(), width=200)
    try:
        config = Config(keys)
        raise ConnError(config.name)
    except ConnError:
        console.print(Traceback(show_locals=True))
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


WAYS: dict[str, Callable[[Keys], str]] = {
    "repr": repr,
    "str": str,
    "format": lambda keys: f"{keys} {keys!r:>200} {keys!s}",
    "pprint": lambda keys: pprint.pformat({"deep": [keys]}),
    "a copy": lambda keys: repr([copy.copy(keys), copy.deepcopy(keys)]),
    "the slots": lambda keys: repr([getattr(keys, name) for name in Keys.__slots__]),
    "a dataclass": lambda keys: repr([Config(keys), dataclasses.asdict(Config(keys))]),
    "a tuple of it": lambda keys: repr(dataclasses.astuple(Config(keys))),
    "pydantic": lambda keys: repr([Model(keys=keys), Model(keys=keys).model_dump()]),
    "json": lambda keys: json.dumps({"keys": keys}, default=str),
    "msgspec": lambda keys: msgspec.json.encode(Struct(keys), enc_hook=str).decode(),
    "msgspec to builtins": lambda keys: repr(msgspec.to_builtins(Struct(keys), enc_hook=repr)),
    "a log": _logged,
    "a traceback with locals": _raised,
    "a traceback of rich": _rich,
    "the wallet": lambda keys: repr(keys.wallet(1, 2)) + str(keys.wallet(1, 2).key),
}


@pytest.mark.parametrize("secret", [MNEMONIC, HEX], ids=["mnemonic", "private key"])
@pytest.mark.parametrize("way", WAYS)
def test_keys_show_their_address_alone(way: str, secret: str) -> None:
    """Whatever is done to print them; the raw bytes of the key are secret too."""
    keys = Keys(SecretStr(secret))

    printed = WAYS[way](keys)

    raw = bytes.fromhex(keys.wallet(0, 0).key.key.to_hex())
    for leak in (secret, "abandon", raw.hex(), repr(raw)[2:20], base64.b64encode(raw).decode()):
        assert leak not in printed
    assert keys.address in repr(keys)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_keys_are_not_pickled(protocol: int) -> None:
    """A pickle ends up in caches and in other processes; alone or in something else."""
    keys = Keys(SecretStr(MNEMONIC))

    for held in (keys, Config(keys), [keys]):
        with pytest.raises(TypeError, match="got a pickle"):
            pickle.dumps(held, protocol)


def test_half_made_keys_can_be_shown() -> None:
    """A debugger prints them before they are whole."""
    keys = Keys.__new__(Keys)
    keys.source = "nowhere"

    assert repr(keys) == "Keys(not read, from nowhere)"


@given(st.binary(min_size=32, max_size=32).filter(lambda raw: 0 < int.from_bytes(raw) < 2**255))
def test_any_private_key_has_an_address_and_no_repr(raw: bytes) -> None:
    """For all keys of the curve."""
    keys = Keys(SecretStr(raw.hex()))

    assert keys.address.startswith("dydx1")
    assert raw.hex() not in repr(keys)


# === Chain ===


class Comet(query_pb2_grpc.ServiceServicer):  # type: ignore[misc]  # generated, untyped
    """A node that sends one answer, or nothing until it is let go."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.free.set()
        self.height = 9
        self.chain: Any = None

    def GetLatestBlock(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Return a block."""
        self.free.wait(60)
        response = query_pb2.GetLatestBlockResponse()
        response.block.header.chain_id = "dydx-testnet-4"
        response.block.header.height = self.height
        response.block.header.time.FromNanoseconds(1_767_225_600_000_000_000)
        return response


class Chain(subaccounts_grpc.QueryServicer, perpetuals_grpc.QueryServicer):  # type: ignore[misc]  # generated, untyped
    """A chain on which one subaccount is short, and whose blocks may come while it answers."""

    def __init__(self, comet: Comet) -> None:
        self._comet, self.comes = comet, 0

    def Subaccount(self, request: Any, _context: Any) -> Any:  # noqa: N802
        """Return what subaccount 0 holds; of any other, that it is empty."""
        self._comet.height += self.comes
        if request.number:
            return QuerySubaccountResponse()
        short = PerpetualPosition(
            perpetual_id=5, quantums=bytes([3, 15, 66, 64]), funding_index=bytes([3, 42])
        )
        usdc = AssetPosition(asset_id=0, quantums=bytes([2, 1, 0, 0]))
        other = AssetPosition(asset_id=1, quantums=bytes([2, 9]))
        held = Held(perpetual_positions=[short], asset_positions=[other, usdc])
        return QuerySubaccountResponse(subaccount=held)

    def Perpetual(self, request: Any, _context: Any) -> Any:  # noqa: N802
        """Return a market with its funding index."""
        params = PerpetualParams(id=request.id, ticker="SOL-USD", atomic_resolution=-7)
        market = Perpetual(params=params, funding_index=bytes([2, 7]))
        return QueryPerpetualResponse(perpetual=market)


@pytest.fixture
def node() -> Iterator[tuple[Comet, str]]:
    """Run a node on the loopback."""
    comet, threads = Comet(), ThreadPoolExecutor(1)
    server = grpc.server(threads)
    comet.chain = Chain(comet)
    subaccounts_grpc.add_QueryServicer_to_server(comet.chain, server)
    perpetuals_grpc.add_QueryServicer_to_server(comet.chain, server)
    query_pb2_grpc.add_ServiceServicer_to_server(comet, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield comet, f"127.0.0.1:{port}"
    comet.free.set()
    server.stop(None).wait()
    threads.shutdown()


def at(address: str) -> Any:
    """Return the local network with its node elsewhere."""
    return dataclasses.replace(NETWORKS["local"], node=address)


def test_a_node_reports_which_chain_it_is(node: tuple[Comet, str]) -> None:
    """Its newest block names the chain, the height and the time."""
    tip = chain_tip(at(node[1]))

    assert (tip.chain_id, tip.height) == ("dydx-testnet-4", 9)
    assert tip.time_ns == 1_767_225_600_000_000_000
    assert tip.at > tip.time_ns
    assert isinstance(tip, ChainTip)


def test_another_node_is_used_where_the_first_one_fails(node: tuple[Comet, str]) -> None:
    """The first that answers and is of the same chain; all are named where none does."""
    here = dataclasses.replace(
        NETWORKS["testnet"], node="127.0.0.1:1", other_nodes=("127.0.0.1:2", node[1])
    )

    assert chain_tip(here).height == 9
    with pytest.raises(NetworkError, match=r"node 127.0.0.1:1 or 127.0.0.1:2, got UNAVAILABLE"):
        chain_tip(dataclasses.replace(here, other_nodes=("127.0.0.1:2",)))


def test_a_node_that_sends_nothing_is_not_waited_for(node: tuple[Comet, str]) -> None:
    """The official client would wait for ever."""
    node[0].free.clear()

    with pytest.raises(NetworkError, match="DEADLINE_EXCEEDED"):
        chain_tip(at(node[1]), deadline_s=0.2)


def test_a_node_that_is_not_there_is_reported() -> None:
    """With the address, and what the transport reports."""
    with pytest.raises(NetworkError, match=r"the node 127\.0\.0\.1:9, got UNAVAILABLE"):
        chain_tip(at("127.0.0.1:9"))


def test_plain_text_is_spoken_on_this_machine_alone(node: tuple[Comet, str]) -> None:
    """Any other node's certificate is verified: this one has none."""
    port = node[1].rpartition(":")[2]

    assert chain_tip(at(f"http://localhost:{port}")).height == 9
    with pytest.raises(NetworkError, match="UNAVAILABLE"):
        chain_tip(at(f"0.0.0.0:{port}"))


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1:9090", True),
        ("127.1.2.3:1", True),
        ("localhost:9090", True),
        ("[::1]:9090", True),
        ("ws://127.0.0.1:3003/v4/ws", True),
        ("127.0.0.1.example.com:443", False),
        ("localhost.example.com:443", False),
        ("https://indexer.dydx.trade/v4", False),
        ("10.0.0.1:9090", False),
    ],
)
def test_this_machine_is_known_by_its_address(address: str, local: bool) -> None:
    """And nothing that merely looks like it."""
    assert is_loopback(address) is local


def test_the_chain_may_be_queried_from_a_thread_of_a_loop(node: tuple[Comet, str]) -> None:
    """A call blocks: a loop hands it to a thread."""
    tip = asyncio.run(asyncio.to_thread(chain_tip, at(node[1])))

    assert tip.height == 9


@pytest.mark.parametrize(("comes", "height"), [(0, 9), (1, 13)])
def test_the_chain_reports_what_it_holds_of_a_subaccount(
    node: tuple[Comet, str], comes: int, height: int
) -> None:
    """In signed quantums, with both funding indices; queried again while blocks come between."""
    node[0].chain.comes = comes

    account = chain_account(at(node[1]), Subaccount("dydx1", 0))

    short = ChainPosition("SOL-USD", -1_000_000, -7, -42, 7)
    assert account == ChainAccount(height, 65_536, (short,))
    assert account.positions[0].size == Decimal("-0.1")


def test_the_chain_holds_nothing_of_a_stranger(node: tuple[Comet, str]) -> None:
    """It returns an empty subaccount, not an error."""
    assert chain_account(at(node[1]), Subaccount("dydx1", 7)) == ChainAccount(9, 0)


def test_a_chain_that_does_not_report_a_subaccount_is_named() -> None:
    """With the subaccount, the node and what the transport reports."""
    with pytest.raises(
        NetworkError, match=r"expected dydx1/0 of the node 127\.0\.0\.1:9, got UNAV"
    ):
        chain_account(at("127.0.0.1:9"), Subaccount("dydx1", 0))
