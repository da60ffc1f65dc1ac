"""Which network a run is on, and whether it is the one that it should be.

    GET /health/network ──► the node's newest block, at most a quarter of a minute old ─┐
                        ──► how the run's links stand ──────────────────────────────────┴─► status

`ok` is a 200; `unreachable` a 503 (no node answers, or the links are lost); `mismatch` a 400: the
node is of another chain than the network's. A run begins on none such, but addresses may come to
lead elsewhere while it goes on. Of a recording the network is the one that was recorded.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import msgspec
from dydx_conn import NETWORKS, ChainTip, ConnError, Network, Recording, chain_tip
from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from bot.config.environment import network_type
from bot.run.desk import DeskError
from bot.serve.figures import Connection
from bot.serve.served import Served, monitored
from bot.times import iso

Status = Literal["ok", "recording", "unreachable", "mismatch"]

CODES: Final[dict[Status, int]] = {"ok": 200, "recording": 200, "unreachable": 503, "mismatch": 400}
_FRESH_S: Final = 15.0
_AGAIN_S: Final = 5.0  # after a failure
_PATIENCE_S: Final = 4.0
# In these states no data comes by the links; while it polls it comes over REST.
_LOST: Final = ("backing_off", "stale", "closed")


class NetworkHealth(BaseModel):
    """Which network a run is on, and whether it answers."""

    status: Status
    network: str
    network_type: str = Field(description="mainnet, testnet or local; unknown of a recording")
    chain_id: str | None = Field(description="of the network; null where a recording has none")
    chain_id_reported: str | None = Field(description="of the node; null if it did not answer")
    height: int | None = Field(description="of the node's newest block")
    checked_at: str | None = Field(description="when the node was requested, UTC")
    link: str = Field(description="state of the links to the indexer, unknown before the first")
    details: list[str] = Field(description="why the status is not ok")


class Checked(msgspec.Struct, frozen=True):
    """What the node answered, or why it did not, and when (wall time, monotonic; ns)."""

    tip: ChainTip | str
    at: int
    mono: int


class Node:
    """The node's newest block, requested when somebody wants to know, and not too often."""

    def __init__(self, net: Network, request: Callable[[Network], ChainTip]) -> None:
        self._net, self._request = net, request
        self._known: Checked | None = None
        self._requesting = asyncio.Lock()

    async def checked(self) -> Checked:
        """Return what it answered lately; one request serves all that come meanwhile."""
        async with self._requesting:
            known = self._known
            if known is None or time.monotonic_ns() - known.mono >= _lasts_s(known) * 1e9:
                tip = await asyncio.to_thread(self._tip)
                known = self._known = Checked(tip, time.time_ns(), time.monotonic_ns())
            return known

    def _tip(self) -> ChainTip | str:
        try:
            return self._request(self._net)
        except ConnError as error:
            return str(error)


def _lasts_s(known: Checked) -> float:
    return _AGAIN_S if isinstance(known.tip, str) else _FRESH_S


def network_health(net: Network, checked: Checked, link: Connection | None) -> NetworkHealth:
    """Judge a network by its node and the links of the run, None if the run does not answer."""
    tip, state = checked.tip, "" if link is None else link.state
    details: list[str] = []
    status: Status = "ok"
    if link is None:
        status, details = "unreachable", ["the run does not answer"]
    elif state in _LOST:
        status, details = "unreachable", [f"the links to the indexer are {state}"]
    if isinstance(tip, str):
        status, details = "unreachable", [*details, f"no node of {net.name} answers"]
    elif tip.chain_id != net.chain_id:
        what = f"expected a node of {net.chain_id}, got one of {tip.chain_id}"
        status, details = "mismatch", [what, *details]
    return NetworkHealth(
        status=status, network=net.name, network_type=network_type(net), chain_id=net.chain_id,
        chain_id_reported=None if isinstance(tip, str) else tip.chain_id,
        height=None if isinstance(tip, str) else tip.height,
        checked_at=iso(checked.at), link=state or "unknown", details=details,
    )  # fmt: skip


def recorded_health(network: str) -> NetworkHealth:
    """Return the health of a recording: nothing of it can be lost any more."""
    known = NETWORKS.get(network)
    return NetworkHealth(
        status="recording", network=network, chain_id=None if known is None else known.chain_id,
        network_type="unknown" if known is None else network_type(known), chain_id_reported=None,
        height=None, checked_at=None, link="recording", details=[],
    )  # fmt: skip


def recorded_network(path: Path | None) -> str:
    """Return the network that a recording is of, by its first line; "unknown" without one."""
    if path is None:
        return "unknown"
    try:
        return Recording(path).header.network
    except (ConnError, OSError):
        return "unknown"


def routes(served: Served, request: Callable[[Network], ChainTip] | None = None) -> APIRouter:
    """Return the route of the network; `request` returns a node's newest block."""
    router = APIRouter(tags=["monitoring"])
    node = None if served.net is None else Node(served.net, request or _request)
    recorded = recorded_health(recorded_network(served.recording)) if node is None else None

    @router.get(
        "/health/network",
        response_model=NetworkHealth,
        responses={400: {"model": NetworkHealth}, 503: {"model": NetworkHealth}},
    )
    async def network() -> JSONResponse:
        """Return network, chain id and status: 400 on another chain, 503 where nothing answers."""
        if recorded is not None or node is None or served.net is None:
            found = recorded or recorded_health("unknown")
        else:
            found = network_health(served.net, await node.checked(), await _link(served))
        return JSONResponse(found.model_dump(), CODES[found.status])

    return router


def _request(net: Network) -> ChainTip:
    return chain_tip(net, deadline_s=_PATIENCE_S)


async def _link(served: Served) -> Connection | None:
    try:
        return (await monitored(served)).connection
    except DeskError:
        return None
