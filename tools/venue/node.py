"""The node: the gRPC services that the official NodeClient calls.

    BroadcastTx ──► TxRaw ──► signer, sequence, signature, fee ──► message ──► Exchange

`CheckTx` judges a transaction as a validator's mempool does and answers by (codespace, code):
the signature is verified over the SignDoc with the key in the SignerInfo, whose address must own
what the message touches or have been given an authenticator for it. Short-term orders need no
sequence; whatever else does takes the exact one, or a timestamp nonce. So many orders are taken
in so many blocks. The query services answer from the exchange.

Only what the official client calls is answered; the rest is gRPC's UNIMPLEMENTED.
"""

import asyncio
import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import authenticators
import bech32
import grpc
from accounts import TIMESTAMP_NONCE, Wallet
from coincurve import PublicKey
from coincurve.ecdsa import cdata_to_der, deserialize_compact
from disturbances import Spells
from dydx_conn import (
    EQUITY_TIERS,
    STANDARD_FEE_TIERS,
    CancelRequest,
    FeeTier,
    OrderRequest,
    Side,
    TimeInForce,
    batch_cancel_objection,
    code_of,
)
from dydx_conn import Subaccount as Account
from dydx_paper import Attempts
from exchange import Exchange
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from replicas import Settled
from tape import MarketTape, iso
from tls import Papers
from v4_proto.cosmos.auth.v1beta1 import auth_pb2
from v4_proto.cosmos.auth.v1beta1 import query_pb2 as auth
from v4_proto.cosmos.auth.v1beta1 import query_pb2_grpc as auth_grpc
from v4_proto.cosmos.bank.v1beta1 import (
    query_pb2 as bank,
)
from v4_proto.cosmos.bank.v1beta1 import (
    query_pb2_grpc as bank_grpc,
)
from v4_proto.cosmos.bank.v1beta1 import (
    tx_pb2 as bank_tx,
)
from v4_proto.cosmos.base.abci.v1beta1 import abci_pb2
from v4_proto.cosmos.base.tendermint.v1beta1 import query_pb2 as comet
from v4_proto.cosmos.base.tendermint.v1beta1 import query_pb2_grpc as comet_grpc
from v4_proto.cosmos.base.v1beta1 import coin_pb2
from v4_proto.cosmos.crypto.secp256k1 import keys_pb2
from v4_proto.cosmos.tx.v1beta1 import (
    service_pb2 as tx_service,
)
from v4_proto.cosmos.tx.v1beta1 import (
    service_pb2_grpc as tx_grpc,
)
from v4_proto.cosmos.tx.v1beta1 import (
    tx_pb2,
)
from v4_proto.dydxprotocol.accountplus import models_pb2 as plus_models
from v4_proto.dydxprotocol.accountplus import query_pb2 as plus
from v4_proto.dydxprotocol.accountplus import query_pb2_grpc as plus_grpc
from v4_proto.dydxprotocol.accountplus import tx_pb2 as plus_tx
from v4_proto.dydxprotocol.clob import (
    clob_pair_pb2,
    order_pb2,
)
from v4_proto.dydxprotocol.clob import (
    equity_tier_limit_config_pb2 as tiers,
)
from v4_proto.dydxprotocol.clob import (
    query_pb2 as clob,
)
from v4_proto.dydxprotocol.clob import (
    query_pb2_grpc as clob_grpc,
)
from v4_proto.dydxprotocol.clob import (
    tx_pb2 as clob_tx,
)
from v4_proto.dydxprotocol.feetiers import (
    params_pb2,
)
from v4_proto.dydxprotocol.feetiers import (
    query_pb2 as fees,
)
from v4_proto.dydxprotocol.feetiers import (
    query_pb2_grpc as fees_grpc,
)
from v4_proto.dydxprotocol.perpetuals import (
    perpetual_pb2,
)
from v4_proto.dydxprotocol.perpetuals import (
    query_pb2 as perpetuals,
)
from v4_proto.dydxprotocol.perpetuals import (
    query_pb2_grpc as perpetuals_grpc,
)
from v4_proto.dydxprotocol.prices import (
    market_price_pb2,
)
from v4_proto.dydxprotocol.prices import (
    query_pb2 as prices,
)
from v4_proto.dydxprotocol.prices import (
    query_pb2_grpc as prices_grpc,
)
from v4_proto.dydxprotocol.sending import transfer_pb2
from v4_proto.dydxprotocol.sending import tx_pb2 as sending_tx
from v4_proto.dydxprotocol.stats import query_pb2 as stats
from v4_proto.dydxprotocol.stats import query_pb2_grpc as stats_grpc
from v4_proto.dydxprotocol.stats import stats_pb2
from v4_proto.dydxprotocol.subaccounts import (
    asset_position_pb2,
    perpetual_position_pb2,
    subaccount_pb2,
)
from v4_proto.dydxprotocol.subaccounts import (
    query_pb2 as subaccounts,
)
from v4_proto.dydxprotocol.subaccounts import (
    query_pb2_grpc as subaccounts_grpc,
)

CHAIN_ID: Final = "localdydxprotocol"
USDC: Final = "ibc/8E27BA2D5493AF5636760E354E46004562C46AB7EC0CC4C1CA14E9E20E2545B5"
NATIVE: Final = "adv4tnt"
GAS_USED: Final = 120_000

# === Verdicts ===


@dataclass(frozen=True, slots=True)
class Verdict:
    """What CheckTx answers: code 0 is accepted, and only that."""

    code: int = 0
    codespace: str = ""
    log: str = ""


ACCEPTED: Final = Verdict()


def _sdk(code: int, log: str) -> Verdict:
    return Verdict(code, "sdk", log)


class RefusedError(Exception):
    """A transaction that is not taken."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.log)
        self.verdict = verdict


# === Signatures ===


def address_of(key: bytes) -> str:
    """Return the dydx address of a compressed secp256k1 key."""
    digest = hashlib.new("ripemd160", hashlib.sha256(key).digest()).digest()
    return str(bech32.bech32_encode("dydx", bech32.convertbits(digest, 8, 5) or []))


def signed(key: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether a compact signature fits; only the lower of the two forms of it does."""
    try:
        der = cdata_to_der(deserialize_compact(signature))
        return bool(PublicKey(key).verify(der, message))
    except (ValueError, TypeError):
        return False


# === Block rates ===


class BlockRates:
    """What each owner sent in the last blocks."""

    def __init__(self) -> None:
        self._sent: dict[str, Attempts] = {}

    def objection(self, owner: str, message: Any, next_height: int) -> str:
        """Count a message; return which rate it exceeds, "" if none."""
        placed = isinstance(message, clob_tx.MsgPlaceOrder)
        short = _short_term(message)
        if not (short or placed):
            return ""  # cancels of stateful orders are not counted
        weight = 2 if isinstance(message, clob_tx.MsgBatchCancel) else 1
        sent = self._sent.setdefault(owner, Attempts())
        return sent.objection(next_height, stateful=not short, weight=weight)


# === CheckTx ===


@dataclass(frozen=True, slots=True)
class Envelope:
    """A transaction taken apart."""

    raw: tx_pb2.TxRaw
    body: tx_pb2.TxBody
    auth: tx_pb2.AuthInfo
    key: bytes
    address: str
    sequence: int


def opened(tx: bytes) -> Envelope:
    """Take a transaction apart; `RefusedError` if it is none, or not one signer's one message."""
    raw, body, info, key = tx_pb2.TxRaw(), tx_pb2.TxBody(), tx_pb2.AuthInfo(), keys_pb2.PubKey()
    try:
        raw.ParseFromString(tx)
        body.ParseFromString(raw.body_bytes)
        info.ParseFromString(raw.auth_info_bytes)
        signer = info.signer_infos[0] if len(info.signer_infos) == 1 else None
        if signer is not None:
            key.ParseFromString(signer.public_key.value)
    except DecodeError as error:
        raise RefusedError(_sdk(2, f"tx parse error: {error}")) from None
    if signer is None or len(raw.signatures) != 1:
        raise RefusedError(
            _sdk(15, "no signatures supplied: expected one signer and one signature")
        )
    if not signer.public_key.type_url.endswith("cosmos.crypto.secp256k1.PubKey"):
        raise RefusedError(_sdk(8, f"invalid pubkey: {signer.public_key.type_url}"))
    if len(body.messages) != 1:
        raise RefusedError(_sdk(18, f"expected one message, got {len(body.messages)}"))
    return Envelope(raw, body, info, key.key, address_of(key.key), signer.sequence)


class CheckTx:
    """A node's mempool: it judges a transaction and, if it is good, carries it out."""

    # What a node remembers to refuse the same bytes twice.
    CACHED: Final = 10_000

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._rates = BlockRates()
        self._seen: OrderedDict[str, tuple[bytes, Verdict, int]] = OrderedDict()

    def __call__(self, tx: bytes) -> tuple[str, Verdict]:
        """Return the hash and the verdict."""
        name = hashlib.sha256(tx).hexdigest().upper()
        if name in self._seen:
            return name, _sdk(19, "tx already exists in cache")
        try:
            verdict = self._judge(opened(tx))
        except RefusedError as objection:
            return name, objection.verdict
        if verdict.code == 0:
            self._seen[name] = (tx, verdict, self._exchange.height + 1)
            if len(self._seen) > self.CACHED:
                self._seen.popitem(last=False)
        return name, verdict

    def known(self, name: str) -> tuple[bytes, Verdict, int] | None:
        """Return an accepted transaction by its hash."""
        return self._seen.get(name.upper())

    def _judge(self, envelope: Envelope) -> Verdict:
        message = envelope.body.messages[0]
        reader = _MESSAGES.get(message.type_url)
        if reader is None:
            return _sdk(6, f"unknown request: {message.type_url}")
        shape, owner, carry_out = reader
        content = shape()
        try:
            content.ParseFromString(message.value)
        except DecodeError as error:
            return _sdk(2, f"tx parse error: {error}")
        clob_message = message.type_url.startswith("/dydxprotocol.clob.")
        if not clob_message:
            self._fee(envelope)
        needs_sequence = not _short_term(content)
        account = self._signer(envelope, owner(content), content, needs_sequence=needs_sequence)
        exceeded = self._rates.objection(owner(content), content, self._exchange.height + 1)
        if exceeded:
            return Verdict(5001, "clob", f"{exceeded}: Block rate limit exceeded")
        verdict = carry_out(self._exchange, content)
        if needs_sequence and verdict.code == 0:
            # What the mempool does not take leaves no trace.
            account.use(envelope.sequence)
        return verdict

    def _signer(
        self, envelope: Envelope, owner: str, message: Any, *, needs_sequence: bool
    ) -> Wallet:
        account = self._exchange.accounts.bank.wallets.get(owner)
        chosen = _chosen(envelope.body)
        if chosen and account is not None:
            held = account.authenticators
            code, log = authenticators.objection(held, chosen, envelope.key, message)
            if code:
                raise RefusedError(Verdict(code, authenticators.CODESPACE, log))
        elif owner != envelope.address:
            raise RefusedError(
                _sdk(8, f"pubKey does not match signer address {owner} with signer index: 0")
            )
        if account is None:
            raise RefusedError(_sdk(9, f"account {owner} does not exist: unknown address"))
        now_ms = self._exchange.block_ns // 1_000_000
        problem = account.objection(envelope.sequence, now_ms) if needs_sequence else ""
        stale = bool(problem) and envelope.sequence < TIMESTAMP_NONCE
        if problem and not (chosen and stale):
            raise RefusedError(_sdk(32, problem))
        document = tx_pb2.SignDoc(
            body_bytes=envelope.raw.body_bytes,
            auth_info_bytes=envelope.raw.auth_info_bytes,
            chain_id=CHAIN_ID,
            account_number=account.number,
        )
        signature = envelope.raw.signatures[0]
        # An authenticator verifies over the account's own sequence: a stale one does not fit.
        if stale or not signed(envelope.key, signature, document.SerializeToString()):
            raise RefusedError(_unsigned(account, chosen))
        return account

    def _fee(self, envelope: Envelope) -> None:
        # Only orders and cancels are free.
        gas = envelope.auth.fee.gas_limit
        paid = {coin.denom: int(coin.amount) for coin in envelope.auth.fee.amount}
        usdc, native = math.ceil(gas * 0.025), gas * 25_000_000_000
        if paid.get(USDC, 0) < usdc and paid.get(NATIVE, 0) < native:
            raise RefusedError(
                _sdk(
                    13,
                    f"insufficient fees; got: {paid or ''} required: {native}{NATIVE},{usdc}{USDC}"
                    ": insufficient fee",
                )
            )
        account = self._exchange.accounts.bank.wallets.get(envelope.address)
        if account is not None and paid.get(USDC, 0):
            if account.usdc < paid[USDC]:
                raise RefusedError(_sdk(5, "insufficient funds to pay the fee"))
            account.usdc -= paid[USDC]


def _unsigned(account: Wallet, chosen: list[int]) -> Verdict:
    """Return the refusal of a signature that does not fit, in its author's words."""
    words = (
        f"signature verification failed; please verify account number ({account.number}), "
        f"sequence ({account.sequence}) and chain-id ({CHAIN_ID})"
    )
    if not chosen:
        return _sdk(4, f"{words}: unauthorized")
    code, log = authenticators.unsigned(account.authenticators, chosen)
    return Verdict(code, authenticators.CODESPACE, f"authentication failed: {words}: {log}")


def _chosen(body: tx_pb2.TxBody) -> list[int]:
    extension, chosen = plus_tx.TxExtension(), []
    for packed in body.non_critical_extension_options:
        if packed.Unpack(extension):
            chosen += extension.selected_authenticators
    return chosen


# === Messages ===

_TIMES: Final[dict[int, TimeInForce]] = {0: "GTT", 1: "IOC", 2: "POST_ONLY"}
_SIDES: Final[dict[int, Side]] = {1: "BUY", 2: "SELL"}


def _short_term(message: Any) -> bool:
    if isinstance(message, clob_tx.MsgPlaceOrder):
        return int(message.order.order_id.order_flags) == 0
    if isinstance(message, clob_tx.MsgCancelOrder):
        return int(message.order_id.order_flags) == 0
    return isinstance(message, clob_tx.MsgBatchCancel)


def _place(exchange: Exchange, message: clob_tx.MsgPlaceOrder) -> Verdict:
    order = message.order
    tape = exchange.pairs.get(order.order_id.clob_pair_id)
    if tape is None:
        return Verdict(1, "clob", f"clob pair {order.order_id.clob_pair_id} is not listed")
    if order.side not in _SIDES:
        return Verdict(12, "clob", "order has no side")
    if order.time_in_force not in _TIMES:
        return Verdict(48, "clob", "fill or kill is deprecated")
    condition = {1: "STOP_LOSS", 2: "TAKE_PROFIT"}.get(order.condition_type, "")
    request = OrderRequest(
        ticker=tape.ticker,
        clob_pair_id=order.order_id.clob_pair_id,
        side=_SIDES[order.side],
        quantums=order.quantums,
        subticks=order.subticks,
        time_in_force=_TIMES[order.time_in_force],
        client_id=order.order_id.client_id,
        reduce_only=order.reduce_only,
        order_flags=order.order_id.order_flags,
        good_til_block=order.good_til_block,
        good_til_block_time=order.good_til_block_time,
        client_metadata=order.client_metadata,
        condition_type=condition,  # type: ignore[arg-type]  # the three words it may be
        trigger_subticks=order.conditional_order_trigger_subticks,
        **_recent_fields(order),
    )
    who = _subaccount(order.order_id.subaccount_id)
    verdict = _verdict(exchange.accounts.place(who, request))
    exchange.received(who, request, verdict.code, verdict.log)
    return verdict


def _recent_fields(order: order_pb2.Order) -> dict[str, Any]:
    """Read what the chain keeps at 12, the TWAP's terms, and at 13, the builder's.

    v4_proto 8.2 has the builder's message at 12: there only its second number is understood.
    """
    found: dict[str, Any] = {}
    if order.HasField("builder_code_parameters"):
        at_12 = order.builder_code_parameters
        others = {field.field_number: field.data for field in _unknown(at_12)}
        found["twap_duration_s"], found["twap_interval_s"] = others.get(1, 0), at_12.fee_ppm
        found["twap_tolerance_ppm"] = others.get(3, 0)
    for field in _unknown(order):
        if field.field_number == 13:
            builder = order_pb2.BuilderCodeParameters.FromString(field.data)
            found["builder_address"] = builder.builder_address
            found["builder_fee_ppm"] = builder.fee_ppm
    return found


def _unknown(message: Any) -> list[Any]:
    fields = UnknownFieldSet(message)
    return [fields[i] for i in range(len(fields))]


def _cancel(exchange: Exchange, message: clob_tx.MsgCancelOrder) -> Verdict:
    return _verdict(
        exchange.accounts.cancel(
            _subaccount(message.order_id.subaccount_id),
            _cancel_request(exchange, message.order_id, message),
        )
    )


def _cancel_request(exchange: Exchange, id: order_pb2.OrderId, good_til: Any) -> CancelRequest:
    tape = exchange.pairs.get(id.clob_pair_id)
    return CancelRequest(
        ticker=tape.ticker if tape else "",
        clob_pair_id=id.clob_pair_id,
        client_id=id.client_id,
        order_flags=id.order_flags,
        good_til_block=good_til.good_til_block,
        good_til_block_time=getattr(good_til, "good_til_block_time", 0),
    )


def _batch_cancel(exchange: Exchange, message: clob_tx.MsgBatchCancel) -> Verdict:
    ids = [
        order_pb2.OrderId(client_id=client_id, clob_pair_id=batch.clob_pair_id)
        for batch in message.short_term_cancels
        for client_id in batch.client_ids
    ]
    cancels = [_cancel_request(exchange, id, message) for id in ids]
    error = batch_cancel_objection(cancels, height=exchange.height) or (
        "" if ids else "ErrInvalidBatchCancel"
    )
    if error:
        return Verdict(code_of(error), "clob", error)
    subaccount = _subaccount(message.subaccount_id)
    failed = [cancel for cancel in cancels if exchange.accounts.cancel(subaccount, cancel)[0]]
    if failed:
        return Verdict(46, "clob", f"{len(failed)} of {len(ids)} cancels failed")
    return ACCEPTED


def _deposit(exchange: Exchange, message: transfer_pb2.MsgDepositToSubaccount) -> Verdict:
    to = _subaccount(message.recipient)
    return _verdict(exchange.accounts.deposit(message.sender, to, message.quantums))


def _withdraw(exchange: Exchange, message: transfer_pb2.MsgWithdrawFromSubaccount) -> Verdict:
    sender = _subaccount(message.sender)
    return _verdict(exchange.accounts.withdraw(sender, message.recipient, message.quantums))


def _transfer(exchange: Exchange, message: sending_tx.MsgCreateTransfer) -> Verdict:
    sender, to = _subaccount(message.transfer.sender), _subaccount(message.transfer.recipient)
    return _verdict(exchange.accounts.transfer(sender, to, message.transfer.amount))


def _send(exchange: Exchange, message: bank_tx.MsgSend) -> Verdict:
    amount = sum(int(coin.amount) for coin in message.amount if coin.denom == USDC)
    return _verdict(exchange.accounts.bank.send(message.from_address, message.to_address, amount))


def _add_authenticator(exchange: Exchange, message: plus_tx.MsgAddAuthenticator) -> Verdict:
    if not authenticators.is_sound(message.authenticator_type, message.data):
        return Verdict(5, "accountplus", "the authenticator cannot be read")
    wallets = exchange.accounts.bank.wallets
    # The chain numbers them all, whosever they are.
    taken = (id for wallet in wallets.values() for id in wallet.authenticators)
    permitted = wallets[message.sender].authenticators
    permitted[max(taken, default=-1) + 1] = (message.authenticator_type, message.data)
    return ACCEPTED


def _remove_authenticator(exchange: Exchange, message: plus_tx.MsgRemoveAuthenticator) -> Verdict:
    if exchange.accounts.bank.wallets[message.sender].authenticators.pop(message.id, None) is None:
        return Verdict(1, "accountplus", f"authenticator {message.id} not found")
    return ACCEPTED


def _subaccount(id: subaccount_pb2.SubaccountId) -> Account:
    return Account(id.owner, id.number)


def _verdict(answer: tuple[int, str, str]) -> Verdict:
    code, codespace, log = answer
    return Verdict(code, codespace, log)


Reader = tuple[Callable[[], Any], Callable[[Any], str], Callable[[Exchange, Any], Verdict]]

# What a message is, who must have signed it, and what it does.
_MESSAGES: Final[dict[str, Reader]] = {
    "/dydxprotocol.clob.MsgPlaceOrder": (
        clob_tx.MsgPlaceOrder,
        lambda message: str(message.order.order_id.subaccount_id.owner),
        _place,
    ),
    "/dydxprotocol.clob.MsgCancelOrder": (
        clob_tx.MsgCancelOrder,
        lambda message: str(message.order_id.subaccount_id.owner),
        _cancel,
    ),
    "/dydxprotocol.clob.MsgBatchCancel": (
        clob_tx.MsgBatchCancel,
        lambda message: str(message.subaccount_id.owner),
        _batch_cancel,
    ),
    "/dydxprotocol.sending.MsgDepositToSubaccount": (
        transfer_pb2.MsgDepositToSubaccount,
        lambda message: str(message.sender),
        _deposit,
    ),
    "/dydxprotocol.sending.MsgWithdrawFromSubaccount": (
        transfer_pb2.MsgWithdrawFromSubaccount,
        lambda message: str(message.sender.owner),
        _withdraw,
    ),
    "/dydxprotocol.sending.MsgCreateTransfer": (
        sending_tx.MsgCreateTransfer,
        lambda message: str(message.transfer.sender.owner),
        _transfer,
    ),
    "/cosmos.bank.v1beta1.MsgSend": (
        bank_tx.MsgSend,
        lambda message: str(message.from_address),
        _send,
    ),
    "/dydxprotocol.accountplus.MsgAddAuthenticator": (
        plus_tx.MsgAddAuthenticator,
        lambda message: str(message.sender),
        _add_authenticator,
    ),
    "/dydxprotocol.accountplus.MsgRemoveAuthenticator": (
        plus_tx.MsgRemoveAuthenticator,
        lambda message: str(message.sender),
        _remove_authenticator,
    ),
}

# === Transactions ===


class Transactions(tx_grpc.ServiceServicer):  # type: ignore[misc]  # generated, untyped
    """cosmos.tx.v1beta1.Service."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._check = CheckTx(exchange)

    async def BroadcastTx(self, request: Any, _context: Any) -> Any:  # noqa: N802
        """Judge a transaction; the answer is CheckTx's alone."""
        name, verdict = self._check(request.tx_bytes)
        return tx_service.BroadcastTxResponse(tx_response=self._response(name, verdict, 0))

    async def Simulate(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Return how much gas a transaction takes; no signature is looked at."""
        messages = request.tx.body.messages
        if request.tx_bytes and not messages:
            messages = opened(request.tx_bytes).body.messages
        unknown = [message.type_url for message in messages if message.type_url not in _MESSAGES]
        if unknown or not messages:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"cannot simulate {unknown}")
        gas = abci_pb2.GasInfo(gas_wanted=0, gas_used=GAS_USED * len(messages))
        return tx_service.SimulateResponse(gas_info=gas, result=abci_pb2.Result())

    async def GetTx(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Return an accepted transaction."""
        known = self._check.known(request.hash)
        if known is None or known[2] > self._exchange.height:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"tx not found: {request.hash}")
            return None
        tx, verdict, height = known
        return tx_service.GetTxResponse(
            tx=tx_pb2.Tx.FromString(tx),
            tx_response=self._response(request.hash, verdict, height),
        )

    def _response(self, name: str, verdict: Verdict, height: int) -> abci_pb2.TxResponse:
        return abci_pb2.TxResponse(
            txhash=name,
            code=verdict.code,
            codespace=verdict.codespace,
            raw_log=verdict.log,
            height=height,
            timestamp=iso(self._exchange.block_ns) if height else "",
        )


# === Queries ===


def _integer(value: int) -> bytes:
    """Write an integer as the chain's SerializableInt does: a sign byte, then big endian."""
    size = (abs(value).bit_length() + 7) // 8
    return bytes([3 if value < 0 else 2]) + abs(value).to_bytes(size, "big") if value else b""


class Auth(auth_grpc.QueryServicer):  # type: ignore[misc]  # generated, untyped
    """cosmos.auth.v1beta1.Query."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def Account(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Return an account's number and sequence."""
        wallet = self._exchange.accounts.bank.wallets.get(request.address)
        if wallet is None:
            await context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"account {request.address} not found: the venue's faucet opens one",
            )
            return None
        response = auth.QueryAccountResponse()
        account = auth_pb2.BaseAccount(
            address=request.address, account_number=wallet.number, sequence=wallet.sequence
        )
        response.account.Pack(account, type_url_prefix="/")
        return response


class BankQuery(bank_grpc.QueryServicer):  # type: ignore[misc]  # generated, untyped
    """cosmos.bank.v1beta1.Query."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def Balance(self, request: Any, _context: Any) -> Any:  # noqa: N802
        """Return one balance, zero for a stranger."""
        amount = self._balances(request.address).get(request.denom, 0)
        coin = coin_pb2.Coin(denom=request.denom, amount=str(amount))
        return bank.QueryBalanceResponse(balance=coin)

    async def AllBalances(self, request: Any, _context: Any) -> Any:  # noqa: N802
        """Return what is not zero."""
        balances = self._balances(request.address).items()
        coins = [coin_pb2.Coin(denom=denom, amount=str(n)) for denom, n in balances if n]
        return bank.QueryAllBalancesResponse(balances=coins)

    def _balances(self, address: str) -> dict[str, int]:
        wallet = self._exchange.accounts.bank.wallets.get(address)
        return {USDC: wallet.usdc, NATIVE: wallet.native} if wallet else {}


class Comet(comet_grpc.ServiceServicer):  # type: ignore[misc]  # generated, untyped
    """cosmos.base.tendermint.v1beta1.Service."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def GetLatestBlock(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Return the newest block's header."""
        response = comet.GetLatestBlockResponse()
        for header in (response.block.header, response.sdk_block.header):
            header.chain_id = CHAIN_ID
            header.height = self._exchange.height
            header.time.FromNanoseconds(self._exchange.block_ns)
        return response

    async def GetNodeInfo(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Return what this is: not dYdX."""
        response = comet.GetNodeInfoResponse()
        response.default_node_info.network = CHAIN_ID
        response.default_node_info.moniker = "local stand-in"
        response.application_version.app_name = "venue, a local stand-in for dydxprotocol"
        response.application_version.version = "0"
        return response

    async def GetSyncing(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Return that there is nothing to catch up with."""
        return comet.GetSyncingResponse(syncing=False)


class Clob(clob_grpc.QueryServicer):  # type: ignore[misc]  # generated, untyped
    """dydxprotocol.clob.Query."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def ClobPair(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Return one pair."""
        tape = self._exchange.pairs.get(request.id)
        if tape is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "not found")
            return None
        return clob.QueryClobPairResponse(clob_pair=_clob_pair(tape))

    async def ClobPairAll(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Return all pairs."""
        pairs = [_clob_pair(tape) for tape in self._exchange.tapes.values()]
        return clob.QueryClobPairAllResponse(clob_pair=pairs)

    async def EquityTierLimitConfiguration(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Return how many stateful orders an account's worth allows."""
        limits = [
            tiers.EquityTierLimit(usd_tnc_required=_integer(least), limit=limit)
            for least, limit in EQUITY_TIERS
        ]
        config = tiers.EquityTierLimitConfiguration(stateful_order_equity_tiers=limits)
        return clob.QueryEquityTierLimitConfigurationResponse(equity_tier_limit_config=config)


def _clob_pair(tape: MarketTape) -> clob_pair_pb2.ClobPair:
    market = tape.market
    return clob_pair_pb2.ClobPair(
        id=market.clob_pair_id,
        perpetual_clob_metadata=clob_pair_pb2.PerpetualClobMetadata(
            perpetual_id=market.perpetual_id
        ),
        step_base_quantums=market.step_base_quantums,
        subticks_per_tick=market.subticks_per_tick,
        quantum_conversion_exponent=market.quantum_conversion_exponent,
        status=clob_pair_pb2.ClobPair.Status.STATUS_ACTIVE,
    )


class FeeTiersQuery(fees_grpc.QueryServicer):  # type: ignore[misc]  # generated, untyped
    """dydxprotocol.feetiers.Query."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def PerpetualFeeParams(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Return the tiers."""
        params = params_pb2.PerpetualFeeParams(tiers=map(_fee_tier, STANDARD_FEE_TIERS))
        return fees.QueryPerpetualFeeParamsResponse(params=params)

    async def UserFeeTier(self, request: Any, _context: Any) -> Any:  # noqa: N802
        """Return the tier that the first subaccount has earned, the first tier for a stranger."""
        ledger = self._exchange.accounts.ledgers.get(Account(request.user, 0))
        tier = STANDARD_FEE_TIERS[0]
        if ledger is not None:
            tier = ledger.volumes.tier(self._exchange.block_ns)
        index = STANDARD_FEE_TIERS.index(tier)
        return fees.QueryUserFeeTierResponse(index=index, tier=_fee_tier(tier))


def _fee_tier(tier: FeeTier) -> params_pb2.PerpetualFeeTier:
    return params_pb2.PerpetualFeeTier(
        name=tier.name,
        absolute_volume_requirement=tier.volume,
        total_volume_share_requirement_ppm=tier.total_share_ppm,
        maker_volume_share_requirement_ppm=tier.maker_share_ppm,
        maker_fee_ppm=tier.maker_ppm,
        taker_fee_ppm=tier.taker_ppm,
    )


class Perpetuals(perpetuals_grpc.QueryServicer):  # type: ignore[misc]  # generated, untyped
    """dydxprotocol.perpetuals.Query."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def Perpetual(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Return one perpetual."""
        tape = self._exchange.pairs.get(request.id)
        if tape is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "not found")
            return None
        return perpetuals.QueryPerpetualResponse(perpetual=self._perpetual(tape))

    async def AllPerpetuals(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Return all perpetuals."""
        found = [self._perpetual(tape) for tape in self._exchange.tapes.values()]
        return perpetuals.QueryAllPerpetualsResponse(perpetual=found)

    async def AllLiquidityTiers(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Return the tiers in use, numbered as `Perpetual` names them."""
        found = [
            perpetual_pb2.LiquidityTier(
                id=number,
                initial_margin_ppm=imf_ppm,
                maintenance_fraction_ppm=fraction_ppm,
                open_interest_lower_cap=lower,
                open_interest_upper_cap=upper,
            )
            for number, (imf_ppm, fraction_ppm, lower, upper) in enumerate(self._tiers())
        ]
        return perpetuals.QueryAllLiquidityTiersResponse(liquidity_tiers=found)

    def _tiers(self) -> list[tuple[int, int, int, int]]:
        return sorted({_tier(tape) for tape in self._exchange.tapes.values()})

    def _perpetual(self, tape: MarketTape) -> perpetual_pb2.Perpetual:
        market = tape.market
        kind = 1 if market.market_type == "CROSS" else 2
        return perpetual_pb2.Perpetual(
            params=perpetual_pb2.PerpetualParams(
                id=market.perpetual_id,
                ticker=tape.ticker,
                market_id=market.perpetual_id,
                atomic_resolution=market.atomic_resolution,
                default_funding_ppm=0 if kind == 1 else 100,
                liquidity_tier=self._tiers().index(_tier(tape)),
                market_type=kind,
            ),
            funding_index=_integer(tape.funding.index),
            open_interest=_integer(tape.open_interest),
        )


def _tier(tape: MarketTape) -> tuple[int, int, int, int]:
    market = tape.market
    return (
        market.imf_ppm,
        market.maintenance_fraction_ppm,
        market.open_interest_lower_cap,
        market.open_interest_upper_cap,
    )


class Prices(prices_grpc.QueryServicer):  # type: ignore[misc]  # generated, untyped
    """dydxprotocol.prices.Query."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def MarketPrice(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Return one oracle price."""
        tape = self._exchange.pairs.get(request.id)
        if tape is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "not found")
            return None
        return prices.QueryMarketPriceResponse(market_price=_price(tape))

    async def AllMarketPrices(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Return all oracle prices."""
        found = [_price(tape) for tape in self._exchange.tapes.values()]
        return prices.QueryAllMarketPricesResponse(market_prices=found)


def _price(tape: MarketTape) -> market_price_pb2.MarketPrice:
    return market_price_pb2.MarketPrice(
        id=tape.market.perpetual_id, exponent=tape.oracle.exponent, price=tape.oracle.price
    )


class Subaccounts(subaccounts_grpc.QueryServicer):  # type: ignore[misc]  # generated, untyped
    """dydxprotocol.subaccounts.Query."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def Subaccount(self, request: Any, _context: Any) -> Any:  # noqa: N802
        """Return a subaccount, an empty one for a stranger, as the chain does."""
        found = self._subaccount(Account(request.owner, request.number))
        return subaccounts.QuerySubaccountResponse(subaccount=found)

    async def SubaccountAll(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Return all subaccounts."""
        found = [self._subaccount(id) for id in self._exchange.accounts.ledgers]
        return subaccounts.QuerySubaccountAllResponse(subaccount=found)

    def _subaccount(self, id: Account) -> subaccount_pb2.Subaccount:
        found = subaccount_pb2.Subaccount(
            id=subaccount_pb2.SubaccountId(owner=id.owner, number=id.number), margin_enabled=True
        )
        # A query is of the last block's end, as the indexer is.
        ledger = Settled(self._exchange.accounts).get(id)
        if ledger is None:
            return found
        if ledger.collateral:
            found.asset_positions.append(
                asset_position_pb2.AssetPosition(asset_id=0, quantums=_integer(ledger.collateral))
            )
        for holding in ledger.holdings.values():
            found.perpetual_positions.append(
                perpetual_position_pb2.PerpetualPosition(
                    perpetual_id=holding.market.perpetual_id,
                    quantums=_integer(holding.quantums),
                    funding_index=_integer(holding.funding_index),
                )
            )
        return found


class Stats(stats_grpc.QueryServicer):  # type: ignore[misc]  # generated, untyped
    """dydxprotocol.stats.Query."""

    async def UserStats(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Return no volume: statistics of thirty days need thirty days."""
        return stats.QueryUserStatsResponse(stats=stats_pb2.UserStats())


class Plus(plus_grpc.QueryServicer):  # type: ignore[misc]  # generated, untyped
    """dydxprotocol.accountplus.Query."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def GetAuthenticators(self, request: Any, _context: Any) -> Any:  # noqa: N802
        """Return what an account lets other keys do."""
        wallet = self._exchange.accounts.bank.wallets.get(request.account)
        held = wallet.authenticators.items() if wallet else ()
        return plus.GetAuthenticatorsResponse(
            account_authenticators=[
                plus_models.AccountAuthenticator(id=id, type=kind, config=config)
                for id, (kind, config) in held
            ]
        )


# === Server ===


class Stops(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in stubs alone
    """A node that stops now and then: what is requested of it meanwhile waits."""

    def __init__(self, exchange: Exchange) -> None:
        seed, every_s = exchange.settings.seed, exchange.settings.disturbances.node_stops
        self._exchange = exchange
        self._spells = Spells(Random(f"{seed} node"), every_s, 2.0, 5.0)

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Answer once the node runs."""
        while self._spells.on(self._exchange.now_ns):
            await asyncio.sleep(0.02)
        return await continuation(details)


async def start(
    exchange: Exchange, port: int, papers: Papers | None = None
) -> tuple[grpc.aio.Server, int]:
    """Serve on the loopback; return the server and its port. `OSError` if it is taken."""
    options = [("grpc.so_reuseport", 0)]
    server = grpc.aio.server(options=options, interceptors=[Stops(exchange)])
    tx_grpc.add_ServiceServicer_to_server(Transactions(exchange), server)
    auth_grpc.add_QueryServicer_to_server(Auth(exchange), server)
    bank_grpc.add_QueryServicer_to_server(BankQuery(exchange), server)
    comet_grpc.add_ServiceServicer_to_server(Comet(exchange), server)
    clob_grpc.add_QueryServicer_to_server(Clob(exchange), server)
    fees_grpc.add_QueryServicer_to_server(FeeTiersQuery(exchange), server)
    perpetuals_grpc.add_QueryServicer_to_server(Perpetuals(exchange), server)
    prices_grpc.add_QueryServicer_to_server(Prices(exchange), server)
    subaccounts_grpc.add_QueryServicer_to_server(Subaccounts(exchange), server)
    stats_grpc.add_QueryServicer_to_server(Stats(), server)
    plus_grpc.add_QueryServicer_to_server(Plus(exchange), server)
    try:
        bound = _bind(server, f"127.0.0.1:{port}", papers)
    except RuntimeError as error:
        raise OSError(f"cannot listen on port {port}: {error}") from None
    await server.start()
    return server, bound


def _bind(server: grpc.aio.Server, address: str, papers: Papers | None) -> int:
    if papers is None:
        return server.add_insecure_port(address)
    pair = (papers.key.read_bytes(), papers.certificate.read_bytes())
    return server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
