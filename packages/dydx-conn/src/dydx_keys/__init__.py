"""Keys, and what may be written about them.

    environment · keyring · encrypted file ──► Keys ──► Wallet (the official client's)
    text ──► redact ──► AuditLog (one JSON object a line)
    Network ──► chain_tip ──► which chain a node says it is

`Keys` holds one signing key, a mnemonic or a private key, and shows its address alone: in
`repr`, logs, copies, pickles, dumps and tracebacks, with or without locals. `redact` takes out
of a text whatever looks like a secret; `AuditLog` writes down what passed between us and a
venue, redacted. `chain_tip` asks a node for its newest block: nothing is signed for a chain
that has not said which one it is.

A secret in the clear is never a local variable of a function that raises, and an error is
raised outside of any `except`: otherwise its context would carry the frames that saw the
secret. The file is Scrypt and Fernet of `cryptography`; nothing here is home-made.
Sources: BIP-39, BIP-44 (coin type 118), RFC 7914, x/accountplus, the official KeyPair.
"""

__all__ = [
    "AuditLog", "ChainTip", "KeyProblem", "Keys", "chain_tip", "is_loopback",
    "redact", "rotate",
]  # fmt: skip

import asyncio
import base64
import contextlib
import hashlib
import json
import logging
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self
from urllib.parse import urlsplit

import msgspec
from dydx_chain import ConnError, Network, NetworkError
from dydx_wire import Frame
from pydantic import SecretStr

if TYPE_CHECKING:
    from dydx_v4_client.key_pair import KeyPair
    from dydx_v4_client.wallet import Wallet

# === Errors ===


class KeyProblem(ConnError):  # noqa: N818 - what it is, in the word of the interface
    """A key that cannot be used; the message says why and holds nothing of the key."""


# === Keys ===

SERVICE: Final = "dydx-conn"  # under which the system's keyring is asked
_LENGTHS: Final = (12, 15, 18, 21, 24)
_HEX_KEY: Final = re.compile(r"(?:0[xX])?[0-9a-fA-F]{64}")


class Keys:
    """One signing key; `address` is all that it shows, `source` says where it came from.

    The text is a BIP-39 mnemonic in English or 64 hexadecimal digits. `KeyProblem` says what is
    wrong with it, or that its address is not the `expected` one.
    """

    __slots__ = ("_pair", "_secret", "address", "source")

    def __init__(self, secret: SecretStr, *, source: str = "given", expected: str = "") -> None:
        self._secret = secret
        self.source = source
        self._pair = _key_pair(secret, source)
        self.address = self.wallet(0, 0).address
        if expected and expected != self.address:
            raise KeyProblem(f"{source}: expected the key of {expected}, it is of {self.address}")

    @classmethod
    def from_environment(
        cls,
        environment: Mapping[str, str] | None = None,
        *,
        mnemonic: str = "DYDX_MNEMONIC",
        private_key: str = "DYDX_PRIVATE_KEY",
        expected: str = "",
    ) -> Self:
        """Read the one of two environment variables that is set."""
        given = os.environ if environment is None else environment
        found = [
            (name, SecretStr(given[name])) for name in (mnemonic, private_key) if given.get(name)
        ]
        del given, environment  # a traceback that shows locals would show all of it
        if len(found) != 1:
            was = "both are" if found else "neither is"
            raise KeyProblem(f"expected one of {mnemonic} and {private_key} to be set, {was}")
        name, secret = found[0]
        return cls(secret, source=name, expected=expected)

    @classmethod
    def from_keyring(cls, name: str, *, expected: str = "") -> Self:
        """Read a key from the system's keyring; needs the extra `keyring`."""
        secret = _from_keyring(name)
        return cls(secret, source=f"keyring:{name}", expected=expected)

    @classmethod
    def from_file(cls, path: Path | str, passphrase: SecretStr, *, expected: str = "") -> Self:
        """Read a key from an encrypted file."""
        file = _Sealed.read(Path(path))
        keys = cls(file.open(passphrase), source=str(path), expected=expected)
        if keys.address != file.address:
            raise KeyProblem(f"{path}: expected the key of {file.address}, it is of {keys.address}")
        return keys

    def save(self, path: Path | str, passphrase: SecretStr) -> None:
        """Write the key to a new encrypted file that only its owner may read."""
        _Sealed.seal(self._secret, self.address, passphrase).write(Path(path), new=True)

    def wallet(self, account_number: int, sequence: int) -> "Wallet":
        """Return the official client's wallet; nothing is asked of a node."""
        from dydx_v4_client.wallet import Wallet

        return Wallet(self._pair, account_number, sequence)

    def __repr__(self) -> str:
        return f"Keys({getattr(self, 'address', 'not read')}, from {self.source})"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        # Who dumps a configuration copies it: the copy is this very object, and as silent.
        return self

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise TypeError("keys are not pickled: read them again where they are needed")


def rotate(path: Path | str, old: SecretStr, new: SecretStr) -> None:
    """Encrypt a key file with a new passphrase; until that is done the old file stands."""
    keys = Keys.from_file(path, old)
    _Sealed.seal(keys._secret, keys.address, new).write(Path(path), new=False)


def _key_pair(secret: SecretStr, source: str) -> "KeyPair":
    from dydx_v4_client.key_pair import KeyPair

    problem = _objection(secret)
    if not problem:
        with contextlib.suppress(ValueError):
            if _is_hex(secret):
                return KeyPair.from_hex(secret.get_secret_value().strip()[-64:])
            return KeyPair.from_mnemonic(" ".join(_words(secret)))
        # Not in an `except`: the error would keep the frames in which the secret was seen.
        problem = "expected a private key of the curve secp256k1: not zero, and below its order"
    raise KeyProblem(f"{source}: {problem}")


def _is_hex(secret: SecretStr) -> bool:
    return _HEX_KEY.fullmatch(secret.get_secret_value().strip()) is not None


def _objection(secret: SecretStr) -> str:
    """Say what is wrong with a key's text, "" if nothing is; the place of a word, not the word."""
    if _is_hex(secret):
        return ""
    count = len(_words(secret))
    if count == 1:
        digits = len(secret.get_secret_value().strip())
        return f"expected a mnemonic or 64 hexadecimal digits, got one word of {digits} characters"
    if count not in _LENGTHS:
        return f"expected a mnemonic of {', '.join(map(str, _LENGTHS))} words, got {count}"
    unknown = [str(n) for n, word in enumerate(_words(secret), 1) if word not in _english()]
    if unknown:
        return f"expected words of the English BIP-39 list, number {', '.join(unknown)} is none"
    if not _checks(secret):
        return "expected a mnemonic whose checksum holds: a word is wrong or out of place"
    return ""


def _words(secret: SecretStr) -> list[str]:
    return secret.get_secret_value().lower().split()


def _checks(secret: SecretStr) -> bool:
    from bip_utils import Bip39Languages, Bip39MnemonicValidator

    validator = Bip39MnemonicValidator(Bip39Languages.ENGLISH)
    return bool(validator.IsValid(" ".join(_words(secret))))


@lru_cache
def _english() -> frozenset[str]:
    from bip_utils import Bip39Languages
    from bip_utils.bip.bip39.bip39_mnemonic_utils import Bip39WordsListGetter

    words = Bip39WordsListGetter.Instance().GetByLanguage(Bip39Languages.ENGLISH)
    return frozenset(words.GetWordAtIdx(index) for index in range(words.Length()))


def _from_keyring(name: str) -> SecretStr:
    try:
        import keyring
        import keyring.errors
    except ImportError:
        problem = "expected the extra: install dydx-conn[keyring]"
    else:
        try:
            found = keyring.get_password(SERVICE, name)
        except keyring.errors.KeyringError as error:
            problem = f"expected the system's keyring to answer, but {error}".splitlines()[0]
        else:
            if found:
                return SecretStr(found)
            problem = f"expected a key of that name; `keyring set {SERVICE} {name}` stores one"
    raise KeyProblem(f"keyring:{name}: {problem}")


# === The file ===
# One JSON object: how the passphrase becomes a key, whose key is in it, and the sealed text.

_FORMAT: Final = "dydx-keys"
_VERSION: Final = 1
_COST: Final = 2**17  # 128 MiB and a third of a second for each guess
_COSTS: Final = range(2**14, 2**20 + 1)  # less protects nothing, more would never end
_SHORTEST: Final = 8


class _Sealed(msgspec.Struct, frozen=True, kw_only=True):
    format: str
    version: int
    address: str
    kdf: str
    cost: int
    salt: str
    token: str
    sha256: str = ""  # over the rest: tells a damaged file from a wrong passphrase

    @classmethod
    def seal(cls, secret: SecretStr, address: str, passphrase: SecretStr) -> Self:
        if len(passphrase.get_secret_value()) < _SHORTEST:
            raise KeyProblem(f"expected a passphrase of at least {_SHORTEST} characters")
        salt = secrets.token_bytes(16)
        token = _fernet(passphrase, salt, _COST).encrypt(secret.get_secret_value().encode())
        sealed = cls(
            format=_FORMAT,
            version=_VERSION,
            address=address,
            kdf="scrypt",
            cost=_COST,
            salt=base64.b64encode(salt).decode(),
            token=token.decode(),
        )
        return msgspec.structs.replace(sealed, sha256=sealed._sum())

    @classmethod
    def read(cls, path: Path) -> Self:
        try:
            sealed = msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise KeyProblem(f"expected an encrypted key file at {path}: {error}") from None
        if (sealed.format, sealed.kdf) != (_FORMAT, "scrypt") or sealed.version > _VERSION:
            was = f"{sealed.format} {sealed.version} with {sealed.kdf}"
            raise KeyProblem(f"{path}: expected {_FORMAT} {_VERSION} with scrypt, it is {was}")
        if sealed.sha256 != sealed._sum() or sealed.cost not in _COSTS:
            raise KeyProblem(f"{path}: expected the file as it was written, it is damaged")
        return sealed

    def open(self, passphrase: SecretStr) -> SecretStr:
        from cryptography.fernet import InvalidToken

        with contextlib.suppress(InvalidToken, ValueError):
            fernet = _fernet(passphrase, base64.b64decode(self.salt), self.cost)
            return SecretStr(fernet.decrypt(self.token).decode())
        raise KeyProblem(f"expected the passphrase of the key of {self.address}, it is another")

    def write(self, path: Path, *, new: bool) -> None:
        """Write it whole or not at all; a new file takes nobody's place."""
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        problem = ""
        try:
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            # A link fails where a file is, a rename would take its place.
            os.link(part, path) if new else os.replace(part, path)
        except OSError as error:
            problem = str(error)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        if problem:
            raise KeyProblem(f"expected to write a new key file at {path}: {problem}")

    def _sum(self) -> str:
        rest = msgspec.json.encode(msgspec.structs.replace(self, sha256=""))
        return hashlib.sha256(rest).hexdigest()


def _fernet(passphrase: SecretStr, salt: bytes, cost: int) -> Any:
    from cryptography.fernet import Fernet
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    derive = Scrypt(salt=salt, length=32, n=cost, r=8, p=1).derive
    return Fernet(base64.urlsafe_b64encode(derive(passphrase.get_secret_value().encode())))


# === Redaction ===

_GONE: Final = "[redacted]"
_SECRETS: Final = (
    r"mnemonic|seed_?phrase|passphrase|password|private_?key|secret|signatures?|tx_?bytes"
    r"|tx_?raw|auth_?info_?bytes|body_?bytes"
)
_NAME: Final = re.compile(rf"(?:\w*_)?(?:{_SECRETS})", re.IGNORECASE)
# A name and its value, in JSON, in the repr of Python, or as a shell has it.
_NAMED: Final = re.compile(
    rf"""((?:{_SECRETS})(?:\\?["'])?\s*[:=]\s*)(?:(\\?["']).*?\2|(?<==)[^\s"'\\]+)""",
    re.IGNORECASE | re.DOTALL,
)
_DIGITS: Final = re.compile(r"(?<![0-9A-Za-z])(?:0[xX])?[0-9a-fA-F]{64,}(?![0-9A-Za-z])")
# The hash of a transaction looks like a private key, and is as public as the chain.
_HASH: Final = re.compile(r"(?:tx_?|transaction_?)?hash\W{1,5}$", re.IGNORECASE)
_BASE64: Final = re.compile(r"(?<![A-Za-z0-9+/_-])(?!/v4/)[A-Za-z0-9+/_-]{80,}={0,2}")
_BYTES: Final = re.compile(r"""\bb(['"])(?=(?:(?!\1).)*?\\x)(?:(?!\1)[^\\]|\\.){32,}\1""")
# The letter of an escaped line break is not the first one of the word after it.
_WORD: Final = re.compile(r"(?<=\\[nrt])[A-Za-z]+|(?<![A-Za-z\\])[A-Za-z]+")
_BETWEEN: Final = 8  # characters between two words of a mnemonic: quotes, commas, numbers


def redact(text: str) -> str:
    """Return the text without what looks like a secret, or like a signed transaction.

    That is: twelve words of the BIP-39 list in a row, 64 hexadecimal digits that are not called
    a hash, long base64, the bytes of Python, and the value of whatever is named as a secret.
    """
    text = _without_mnemonics(text)  # first: a name takes no more than one bare word with it
    text = _NAMED.sub(rf"\1{_GONE}", text)
    text = _DIGITS.sub(_unless_hash, text)
    text = _BASE64.sub(_GONE, text)
    return _BYTES.sub(_GONE, text)


def _unless_hash(found: re.Match[str]) -> str:
    before = found.string[max(found.start() - 32, 0) : found.start()]
    return found[0] if _HASH.search(before) else _GONE


def _without_mnemonics(text: str) -> str:
    places = [word.span() for word in _WORD.finditer(text)]
    if len(places) < _LENGTHS[0]:
        return text
    out, kept, run = [], 0, 0
    for n, (start, end) in enumerate([*places, (len(text) + _BETWEEN + 1, 0)]):
        apart = n > 0 and start - places[n - 1][1] > _BETWEEN
        known = text[start:end].lower() in _english()
        if (apart or not known) and run >= _LENGTHS[0]:
            out += [text[kept : places[n - run][0]], _GONE]
            kept = places[n - 1][1]
        run = known + (0 if apart or not known else run)
    return "".join([*out, text[kept:]])


# === Audit ===

_LONGEST: Final = 2_000  # characters of one text; more of an answer is a recording's business


class AuditLog:
    """What was asked of a venue and what it said, one JSON object a line, redacted.

    Lines are appended to a file that only its owner may read, each in one write and at once.
    Any thread may write. A line that cannot be written is counted in `failures`, with
    `last_failure`, and never an error: nothing here may stop a trade or a way out of one.
    """

    def __init__(self, path: Path | str, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self.path = Path(path)
        self.lines = self.failures = 0
        self.last_failure = ""
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            self._file = os.open(self.path, flags, 0o600)
            os.fchmod(self._file, stat.S_IRUSR | stat.S_IWUSR)
        except OSError as error:
            raise ConnError(f"expected to write an audit log to {path}: {error}") from None

    def write(self, event: str, *, at: int | None = None, **fields: Any) -> None:
        """Append one event; `at` is in nanoseconds, by default now."""
        try:
            ns = self._clock_ns() if at is None else at
            line = {"ns": ns, **_plain({"event": event, **fields})}
            text = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
            with self._lock:
                os.write(self._file, text.encode("utf-8", "replace") + b"\n")
                self.lines += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, it may not reach a trade
            self.failures += 1
            self.last_failure = f"{type(error).__name__}: {redact(str(error))}"

    def answered(
        self, method: str, path: str, status: int, body: str, headers: Mapping[str, str]
    ) -> None:
        """Write down a REST answer; what it says only if it is a refusal. Fits `Rest.on_answer`."""
        told = {name: text for name, text in headers.items() if name.lower() in _LIMITS}
        if status >= 400:
            told["said"] = body
        self.write("rest", method=method, path=path, status=status, size=len(body), told=told)

    def passed(self, frame: Frame) -> None:
        """Write down what a link did: asked, answered, opened, lost or closed; not what it carried.

        What passed between us and a node is written where it is signed.
        """
        if frame.kind == "http" and frame.link != "node":
            status = int(frame.type) if frame.type.isdecimal() else 0
            self.answered("GET", frame.channel, status, frame.text, {})
        elif frame.kind in ("open", "sent", "gap", "close") and frame.link != "node":
            said = {"code": frame.type, "text": frame.text, "lost": frame.message_id}
            told = {name: value for name, value in said.items() if value}
            self.write(
                f"socket {frame.kind}", at=frame.at, link=frame.link, seq=frame.seq, told=told
            )

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            file, self._file = self._file, -1
            if file >= 0:
                os.close(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_LIMITS: Final = ("ratelimit-remaining", "ratelimit-reset", "retry-after")


def _plain(value: Any, depth: int = 6) -> Any:
    """Turn anything into what JSON has, redacted; what it is not made for, into its text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    if depth and isinstance(value, msgspec.Struct):
        value = msgspec.structs.asdict(value)
    if depth and isinstance(value, Mapping):
        pairs = ((str(name), inner) for name, inner in value.items())
        return {redact(name): _named(name, inner, depth - 1) for name, inner in pairs}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner, depth - 1) for inner in value]
    whole = str(value)
    text = redact(whole[: 10 * _LONGEST])  # megabytes are no reason to wait
    return text if len(whole) <= _LONGEST else f"{text[:_LONGEST]}… ({len(whole)})"


def _named(name: str, value: Any, depth: int) -> Any:
    if _NAME.fullmatch(name):
        return _GONE
    is_hash = _HASH.fullmatch(f"{name}:") and _DIGITS.fullmatch(str(value))
    return value if is_hash else _plain(value, depth)


# === Chain ===
# Whatever is signed is signed for one chain: the node has to say that it is that one.


@dataclass(frozen=True, slots=True)
class ChainTip:
    """A node's newest block: whose it is, its height, its time and when it was heard, in ns."""

    chain_id: str
    height: int
    time_ns: int
    at: int


def chain_tip(network: Network, *, deadline_s: float = 5.0) -> ChainTip:
    """Ask the network's node for its newest block; `NetworkError` if none comes in time."""
    import grpc

    channel = _channel(network.node)
    try:
        from dydx_v4_client.node.client import QueryNodeClient

        node = QueryNodeClient(grpc.intercept_channel(channel, _deadline(deadline_s)))
        header = asyncio.run(node.latest_block()).block.header
    except grpc.RpcError as error:
        said = str(error.details()).rpartition("last error: ")[2]
        problem = f"{error.code().name}: {said}"
    else:
        tip_ns = header.time.ToNanoseconds()
        return ChainTip(header.chain_id, header.height, tip_ns, time.time_ns())
    finally:
        channel.close()
    raise NetworkError(f"expected a block of the node {network.node}, but {problem}")


def is_loopback(address: str) -> bool:
    """Tell whether an address, with or without scheme and port, is of this machine."""
    host = urlsplit(address if "://" in address else f"//{address}").hostname or ""
    with contextlib.suppress(ValueError):
        return host == "localhost" or ip_address(host).is_loopback
    return False


def _channel(node: str) -> Any:
    # As it is imported, the client warns of an address in its own configuration.
    logger = logging.getLogger("dydx_v4_client.network")
    logger.addFilter(_nothing)
    try:
        from dydx_v4_client.network import insecure_channel, secure_channel
    finally:
        logger.removeFilter(_nothing)
    # Plain text is for a node on this machine; certificates are verified everywhere else.
    bare = re.sub(r"^\w+://", "", node)
    return insecure_channel(bare) if is_loopback(node) else secure_channel(bare)


def _nothing(_: logging.LogRecord) -> bool:
    return False


def _deadline(seconds: float) -> Any:
    """Return what gives every call of the official client a deadline; it has none by itself."""
    import grpc

    class Deadline(grpc.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]  # untyped
        def intercept_unary_unary(self, proceed: Any, details: Any, request: Any) -> Any:
            return proceed(details._replace(timeout=seconds), request)

    return Deadline()
