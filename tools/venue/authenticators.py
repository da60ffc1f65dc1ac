"""Permissioned keys: what an owner lets somebody else's key sign (x/accountplus).

    MsgAddAuthenticator ──► a wallet's authenticators ──► objection(chosen, key, message)

A transaction chooses one authenticator for its message. `SignatureVerification` names the key;
the filters name messages, subaccounts or markets; `AllOf` and `AnyOf` hold others as JSON, their
configurations in base64. Whether the signature itself fits is the node's business.
"""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from v4_proto.dydxprotocol.clob import tx_pb2 as clob_tx

Authenticator = tuple[str, bytes]  # its type and its configuration

CODESPACE: Final = "dydxaccountplus"
# Its code there, and the chain's words.
_REFUSALS: Final = {
    "SignatureVerification": (100, "signature verification failed"),
    "MessageFilter": (101, "message type verification failed"),
    "ClobPairIdFilter": (102, "clob pair id verification failed"),
    "SubaccountFilter": (103, "subaccount verification failed"),
    "AllOf": (104, "allOf verification failed"),
    "AnyOf": (105, "anyOf verification failed"),
}


def objection(
    held: Mapping[int, Authenticator], chosen: list[int], key: bytes, message: Any
) -> tuple[int, str]:
    """Return why a key may not sign a message, (0, "") if it may."""
    if len(chosen) != 1 or chosen[0] not in held:
        return 1, f"authenticator not found: {chosen}"
    kind, config = held[chosen[0]]
    return (0, "") if _permits(kind, config, key, message) else _REFUSALS[kind]


def unsigned(held: Mapping[int, Authenticator], chosen: list[int]) -> tuple[int, str]:
    """Return how the chosen authenticator refuses a signature that does not fit."""
    return _REFUSALS[held[chosen[0]][0]]


def is_sound(kind: str, config: bytes) -> bool:
    """Return whether an authenticator can be read, and those in it."""
    try:
        return kind in _REFUSALS and all(is_sound(*inner) for inner in _inner(kind, config))
    except (ValueError, KeyError, TypeError):
        return False


def _permits(kind: str, config: bytes, key: bytes, message: Any) -> bool:
    if kind in _COMPOSED:
        inner = (_permits(*each, key, message) for each in _inner(kind, config))
        return _COMPOSED[kind](inner)
    if kind == "SignatureVerification":
        return key == config
    allowed, found = config.decode().split(","), set(_FILTERED[kind](message))
    return bool(found) and found <= set(allowed)


def _inner(kind: str, config: bytes) -> Iterator[Authenticator]:
    for each in json.loads(config) if kind in _COMPOSED else []:
        yield each["type"], base64.b64decode(each["config"])


def _orders(message: Any) -> list[Any]:
    if isinstance(message, clob_tx.MsgPlaceOrder):
        return [message.order.order_id]
    return [message.order_id] if isinstance(message, clob_tx.MsgCancelOrder) else []


def _subaccounts(message: Any) -> list[str]:
    if isinstance(message, clob_tx.MsgBatchCancel):
        return [str(message.subaccount_id.number)]
    return [str(id.subaccount_id.number) for id in _orders(message)]


def _pairs(message: Any) -> list[str]:
    if isinstance(message, clob_tx.MsgBatchCancel):
        return [str(batch.clob_pair_id) for batch in message.short_term_cancels]
    return [str(id.clob_pair_id) for id in _orders(message)]


_COMPOSED: Final[Mapping[str, Callable[[Iterator[bool]], bool]]] = {"AllOf": all, "AnyOf": any}
_FILTERED: Final[Mapping[str, Callable[[Any], list[str]]]] = {
    "MessageFilter": lambda message: [f"/{message.DESCRIPTOR.full_name}"],
    "SubaccountFilter": _subaccounts,
    "ClobPairIdFilter": _pairs,
}
