"""How the run is, for a monitor that has no token: one state, its reasons, and the parts.

    RunFigures ──► connection, data, trading, system, limits ──► the worst of them ──► 200 or 503

`ok` and `degraded` are a 200, `down` is a 503: nobody trades, or nobody watches what is held.
`degraded` goes on, and wants somebody to look. Whoever reaches the address may read this: it names
markets, states, reasons by their kind and what the machine has left. It does not have what an
account is worth or holds, whose it is, words of persons or of the venue, nor paths and addresses;
`/status` and `/metrics` have them, with a token.
"""

import time
from collections.abc import Callable, Iterator
from typing import Final, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from bot.run.desk import DeskError
from bot.run.links import WORDS
from bot.serve.figures import RunFigures
from bot.serve.metrics import process_of
from bot.serve.sample import Process
from bot.serve.served import Mode, Served, monitored
from bot.times import iso

State = Literal["ok", "degraded", "down"]

_GRAVEST: Final[tuple[State, ...]] = ("down", "degraded", "ok")
BEGIN_S: Final = 60.0  # in which a run comes up, and a lost connection back
LATE_S: Final = 1.0  # that frames wait, or requests for a rate limit
DISK_FREE: Final = 500e6
_NAMED: Final = 8  # markets in a reason


# === Parts ===


class Part(BaseModel):
    """One part of a run."""

    state: State
    reasons: list[str] = Field(description="why it is not ok, in words")


class ConnectionHealth(Part):
    """The links to the venue."""

    link: str = Field(description="state of the worst of them; unknown before the first")
    since: str | None = Field(description="since when not all are live, UTC; null while they are")
    attempts: int = Field(description="attempts to reconnect since then")
    disconnects: int
    gaps: int = Field(description="times that messages were lost")
    late_s: float = Field(description="how long frames wait until they are folded")


class MarketHealth(BaseModel):
    """How far the data of a market can be believed; null is unknown."""

    ticker: str
    stale: bool
    silent_s: float = Field(description="how long the worst of its sources is silent")
    complete: float = Field(description="share of its parts that are known")
    known: float | None = Field(description="share of the time in which it could be traded")
    lag_p50_ms: float | None = Field(description="from a trade's stamp to its receipt")
    lag_p99_ms: float | None


class DataHealth(Part):
    """What is known of the markets."""

    block_age_s: float | None = Field(description="since the newest block; null before the first")
    markets: list[MarketHealth]


class TradingHealth(Part):
    """Whether it trades."""

    gate: str = Field(description="ACTIVE, REDUCING or HALTED")
    reasons_by_kind: list[str] = Field(description="why the gate is not ACTIVE; words need a token")
    guard: bool = Field(description="whether the guard may act")
    strategy: Literal["running", "stopped"]
    audit: Literal["written", "failing", "none"] = Field(description="the log of orders sent")


class SystemHealth(Part):
    """The process and its machine."""

    uptime_s: float
    memory_mb: float
    cpu_share: float | None = Field(description="of one core, since the last look")
    threads: int
    disk_free_mb: float | None
    frames_per_s: float | None
    beside: dict[str, Literal["ok", "failing"]] = Field(
        description="what is written beside the run: recorder, database, notices …"
    )


class LimitsHealth(Part):
    """The venue's rate limits, by group of endpoints."""

    left: dict[str, int] = Field(description="requests left in the window")
    queued: int = Field(description="requests that wait")
    wait_s: float | None = Field(description="what a request waits by now; null without REST")
    limited: int = Field(description="answers so far that were a 429")
    circuits_open: int = Field(description="endpoints that get no requests for now")


class Health(BaseModel):
    """How the run is: the worst of its parts."""

    status: State
    reasons: list[str]
    mode: str
    version: str
    at: str | None = Field(description="event time of the newest frame, UTC")
    connection: ConnectionHealth | None = None
    data: DataHealth | None = None
    trading: TradingHealth | None = None
    system: SystemHealth | None = None
    limits: LimitsHealth | None = None


Found = Iterator[tuple[State, str]]


def _judged(found: Found) -> tuple[State, list[str]]:
    """Return the gravest state, and why, the gravest first."""
    rows = sorted(found, key=lambda row: _GRAVEST.index(row[0]))
    return (rows[0][0] if rows else "ok"), [words for _, words in rows]


# === What is wrong ===


def _connection_troubles(run: RunFigures, mode: Mode, up_s: float) -> Found:
    state, lost_at = run.connection.state, run.connection.lost_at
    if mode != "REPLAY" and state != "live":  # a recording is not connected to anything
        lost_s = up_s if lost_at is None else max(run.at - lost_at, 0) / 1e9
        words = WORDS.get(state, "connecting")
        stands_in = state == "polling"
        down = state == "closed" or (lost_s >= BEGIN_S and not stands_in)
        yield "down" if down else "degraded", f"connection: {words} for {lost_s:.0f} s"
    if run.late_ns >= LATE_S * 1e9:
        yield "degraded", f"connection: frames wait {run.late_ns / 1e9:.1f} s"


def _data_troubles(run: RunFigures, up_s: float) -> Found:
    stale = [market.ticker for market in run.markets if market.stale]
    bookless = [each.ticker for each in run.markets if not (each.stale or each.book_known)]
    if not run.markets:
        state: State = "degraded" if up_s < BEGIN_S else "down"
        yield state, f"data: none of a market for {up_s:.0f} s"
    elif len(stale) == len(run.markets):
        yield "down", "data: every market is stale"
    elif stale:
        yield "degraded", f"data: stale: {_some(stale)}"
    if bookless:
        yield "degraded", f"data: no book: {_some(bookless)}"


def _some(tickers: list[str]) -> str:
    more = len(tickers) - _NAMED
    return ", ".join(tickers[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _trading_troubles(run: RunFigures) -> Found:
    standing = run.account.standing
    if run.failed:
        yield "down", "trading: a bug has stopped the run"
    if standing.state != "ACTIVE":
        kinds = ", ".join(dict.fromkeys(kind for kind, _ in standing.reasons))
        yield "degraded", f"trading: the gate is {standing.state}: {kinds}"
    if run.account.trouble:
        yield "degraded", "trading: what the account holds is not certain"
    if run.stopped:
        yield "degraded", "trading: the strategy has stopped: guard and exits go on"


def _system_troubles(run: RunFigures, process: Process) -> Found:
    for sink in run.sinks:
        if not sink.well:
            yield "degraded", f"system: {sink.name} fails"
    free = process.disk_free_bytes
    if free is not None and free < DISK_FREE:
        yield "degraded", f"system: {free / 1e6:.0f} MB of disk are left"


def _limit_troubles(run: RunFigures) -> Found:
    if run.rest_wait_s is not None and run.rest_wait_s >= LATE_S:
        yield "degraded", f"limits: a request waits {run.rest_wait_s:.1f} s for a rate limit"
    if run.rest is not None:
        for name, endpoint in run.rest.endpoints.items():
            if endpoint.circuit != "closed":
                yield (
                    "degraded",
                    f"limits: {name} fails: tried again in {endpoint.retry_in_s:.0f} s",
                )


# === Health ===


def health_of(run: RunFigures, process: Process, mode: Mode, uptime_s: float) -> Health:
    """Judge a run by its figures; pure."""
    parts = (
        _connection(run, mode, uptime_s), _data(run, uptime_s), _trading(run),
        _system(run, process, uptime_s), _limits(run),
    )  # fmt: skip
    connection, data, trading, system, limits = parts
    status = min((part.state for part in parts), key=_GRAVEST.index)
    ranked = sorted(parts, key=lambda part: _GRAVEST.index(part.state))
    return Health(
        status=status, reasons=[words for part in ranked for words in part.reasons],
        mode=mode, version=process.version, at=iso(run.at or None),
        connection=connection, data=data, trading=trading, system=system, limits=limits,
    )  # fmt: skip


def _connection(run: RunFigures, mode: Mode, up_s: float) -> ConnectionHealth:
    state, reasons = _judged(_connection_troubles(run, mode, up_s))
    lost_at, kinds = run.connection.lost_at, dict(run.frames)
    return ConnectionHealth(
        state=state, reasons=reasons, link=run.connection.state or "unknown",
        since=iso(lost_at), attempts=run.connection.attempts,
        disconnects=kinds.get("close", 0), gaps=kinds.get("gap", 0), late_s=run.late_ns / 1e9,
    )  # fmt: skip


def _data(run: RunFigures, up_s: float) -> DataHealth:
    state, reasons = _judged(_data_troubles(run, up_s))
    return DataHealth(
        state=state, reasons=reasons, markets=[*_markets(run)],
        block_age_s=(run.at - run.height_at) / 1e9 if run.height_at else None,
    )  # fmt: skip


def _markets(run: RunFigures) -> Iterator[MarketHealth]:
    for market in run.markets:
        lags = sorted(market.lags_ns)
        p50, p99 = (lags[len(lags) * share // 100] / 1e6 if lags else None for share in (50, 99))
        yield MarketHealth(
            ticker=market.ticker, stale=market.stale, silent_s=market.silent_ns / 1e9,
            complete=market.complete, known=market.known, lag_p50_ms=p50, lag_p99_ms=p99,
        )  # fmt: skip


def _trading(run: RunFigures) -> TradingHealth:
    state, reasons = _judged(_trading_troubles(run))
    standing = run.account.standing
    audits = [sink.well for sink in run.sinks if sink.name == "audit"]
    return TradingHealth(
        state=state, reasons=reasons, gate=standing.state, guard=run.account.guard,
        reasons_by_kind=[*dict.fromkeys(kind for kind, _ in standing.reasons)],
        strategy="stopped" if run.stopped else "running",
        audit="none" if not audits else "written" if all(audits) else "failing",
    )  # fmt: skip


def _system(run: RunFigures, process: Process, up_s: float) -> SystemHealth:
    state, reasons = _judged(_system_troubles(run, process))
    free = process.disk_free_bytes
    return SystemHealth(
        state=state, reasons=reasons, uptime_s=up_s, memory_mb=process.memory_bytes / 2**20,
        cpu_share=run.cpu_share, threads=process.threads, frames_per_s=run.frames_per_s,
        disk_free_mb=None if free is None else free / 1e6,
        beside={sink.name: "ok" if sink.well else "failing" for sink in run.sinks},
    )  # fmt: skip


def _limits(run: RunFigures) -> LimitsHealth:
    state, reasons = _judged(_limit_troubles(run))
    groups = {} if run.rest is None else run.rest.groups
    endpoints = [] if run.rest is None else [*run.rest.endpoints.values()]
    return LimitsHealth(
        state=state, reasons=reasons, left={name: group.left for name, group in groups.items()},
        queued=sum(group.queued for group in groups.values()),  # integers
        wait_s=run.rest_wait_s,
        limited=sum(group.limited for group in groups.values()),  # integers
        circuits_open=sum(each.circuit != "closed" for each in endpoints),  # integers
    )  # fmt: skip


def silent(mode: Mode, version: str) -> Health:
    """Return the health of a run that does not answer."""
    words = "the run does not answer: no frames come, or it is over"
    return Health(status="down", reasons=[words], mode=mode, version=version, at=None)


def routes(served: Served, now_ns: Callable[[], int] = time.monotonic_ns) -> APIRouter:
    """Return the route of the health."""
    from bot import __version__

    router = APIRouter(tags=["monitoring"])

    @router.get("/health", response_model=Health, responses={503: {"model": Health}})
    async def health() -> JSONResponse:
        """Return how the run is; 503 where it is down. It needs no token, and names no money."""
        try:
            run = await monitored(served)
        except DeskError:
            found = silent(served.mode, __version__)
        else:
            uptime_s = (now_ns() - run.started_ns) / 1e9
            found = health_of(run, process_of(served, run), served.mode, uptime_s)
        return JSONResponse(found.model_dump(), 503 if found.status == "down" else 200)

    return router
