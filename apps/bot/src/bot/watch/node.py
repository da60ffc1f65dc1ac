"""What a node holds of watched accounts, as frames among the others: no key, no order.

    every ten seconds: chain_state ──► frame of link "node", "chain" ──► ChainState, or why not

As frames they are numbered and recorded, so that a recording is watched as the network was.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Final

import msgspec
from dydx_conn import (
    ChainAccount,
    ChainMarket,
    ChainState,
    Frame,
    Inbox,
    Network,
    NetworkError,
    Subaccount,
    chain_state,
)

LINK: Final = "node"
PATH: Final = "chain"
EVERY_S: Final = 10.0
_FAILED: Final = "-1"
_DEADLINE_S: Final = 5.0


class _Stated(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    # A state as its text has it: accounts by their ids.
    chain_id: str
    height: int
    time_ns: int
    accounts: dict[str, ChainAccount]
    markets: dict[str, ChainMarket]
    whole: bool = True


def text_of(state: ChainState) -> str:
    """Return a state of the chain as the text of a frame."""
    return msgspec.json.encode(
        _Stated(
            chain_id=state.chain_id,
            height=state.height,
            time_ns=state.time_ns,
            accounts={str(whose): held for whose, held in state.accounts.items()},
            markets=dict(state.markets),
            whole=state.whole,
        )
    ).decode()


def is_chain(frame: Frame) -> bool:
    """Return whether a frame is a node's answer about watched accounts."""
    return frame.kind == "http" and frame.link == LINK and frame.channel == PATH


def state_in(frame: Frame) -> ChainState | str:
    """Read such a frame: a state of the chain, or why there is none."""
    if frame.type == _FAILED:
        return frame.text
    try:
        stated = msgspec.json.decode(frame.text, type=_Stated)
    except msgspec.DecodeError as error:
        return f"expected what the chain holds, got {error}"
    accounts = {_subaccount(name): held for name, held in stated.accounts.items()}
    return ChainState(
        stated.chain_id, stated.height, stated.time_ns, accounts, stated.markets, stated.whole
    )


def _subaccount(name: str) -> Subaccount:
    owner, _, number = name.partition("/")
    return Subaccount(owner, int(number) if number.isdigit() else 0)


class Node:
    """Queries a network's node on a thread of its own, for as long as it is entered.

    `wanted` returns whose accounts, as they are then.
    """

    def __init__(
        self,
        net: Network,
        inbox: Inbox,
        wanted: Callable[[], Iterable[Subaccount]],
        query: Callable[..., ChainState] = chain_state,
        *,
        every_s: float = EVERY_S,
    ) -> None:
        self._net, self._inbox, self._wanted, self._query = net, inbox, wanted, query
        self._every_s, self._over = every_s, threading.Event()
        self._thread = threading.Thread(target=self._run, name="chain", daemon=True)

    def __enter__(self) -> "Node":
        """Begin to query."""
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        """Query no more; a query that is under way is not waited for."""
        self._over.set()

    def once(self) -> None:
        """Query the node now, and put in what it answers."""
        wanted = [*self._wanted()]
        try:
            state = self._query(self._net, wanted, deadline_s=_DEADLINE_S)
            kind, text = "200", text_of(state)
            if state.chain_id != self._net.chain_id:
                kind = _FAILED
                text = f"expected a node of {self._net.chain_id}, got one of {state.chain_id}"
        except NetworkError as error:
            kind, text = _FAILED, str(error)
        if not self._over.is_set():
            self._inbox.put("http", text, kind, PATH, link=LINK)

    def _run(self) -> None:
        while not self._over.is_set():
            self.once()
            self._over.wait(self._every_s)
