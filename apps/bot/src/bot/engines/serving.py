"""A scheduler of Dask and its workers, begun so that nobody else reaches them.

bot sweep scheduler ──────────► hands tasks on; loopback, or mutual TLS
bot sweep worker HOST:PORT ───► so many processes that work on them
"""

import argparse
import asyncio
import contextlib
import logging
import sys
from pathlib import Path
from typing import Any, Final

from dydx_conn import is_loopback

from bot.engines.certificates import require_distributed, security_of
from bot.engines.cluster import PORT, address_of
from bot.engines.engine import cores
from bot.engines.errors import EngineError, why
from bot.outlet import as_lines

# Its pages have no TLS: they stay on this machine.
_UNSEEN: Final[Any] = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
_FAILURES: Final = 1  # of workers that a task may end before it is the last one


def scheduler(arguments: argparse.Namespace) -> int:
    """Run a scheduler until it is ended."""
    where, certificates = _where(arguments)
    asyncio.run(_schedule(where, certificates))
    return 0


def worker(arguments: argparse.Namespace) -> int:
    """Run workers of a scheduler until they are ended, or it is gone."""
    where, certificates = _where(arguments)
    return asyncio.run(_work(where, certificates, arguments.workers or cores()))


def _where(arguments: argparse.Namespace) -> tuple[str, Path | None]:
    certificates = Path(arguments.certs) if arguments.certs else None
    return address_of(arguments.folder or f"127.0.0.1:{PORT}", certificates), certificates


def scheduler_at(address: str, certificates: Path | None) -> Any:
    """Return a scheduler of Dask that listens at an address once it is entered."""
    protocol, _, place = address.partition("://")
    host, _, port = place.rpartition(":")
    return require_distributed().Scheduler(
        host=host.strip("[]"), port=int(port), protocol=f"{protocol}://", **_UNSEEN,
        security=certificates and security_of(certificates, "scheduler"),
        allowed_failures=_FAILURES,
    )  # fmt: skip


async def _schedule(address: str, certificates: Path | None) -> None:
    try:
        async with scheduler_at(address, certificates) as running:
            print(as_lines([f"scheduler    {running.address}"]), flush=True)
            await running.finished()
    except OSError as error:
        what = f"expected to listen at {address}"
        raise EngineError(f"{what}, got {error.strerror or error}") from None


async def _work(address: str, certificates: Path | None, count: int) -> int:
    dask = require_distributed()
    host = address.partition("://")[2].rpartition(":")[0]
    named: dict[str, Any] = {"host": "127.0.0.1"} if is_loopback(host) else {}
    security = certificates and security_of(certificates, "worker")
    async with contextlib.AsyncExitStack() as stack:
        try:
            for _ in range(count):
                one = dask.Nanny(
                    address,
                    nthreads=1,
                    security=security,
                    silence_logs=logging.ERROR,
                    **_UNSEEN,
                    **named,
                )
                running = await stack.enter_async_context(one)
        except (OSError, TimeoutError, RuntimeError) as error:
            what = f"expected a scheduler at {address} (bot sweep scheduler)"
            raise EngineError(
                f"{what}, got {why(error, with_certificates=certificates is not None)}"
            ) from None
        print(as_lines([f"workers      {count}, of {address}"]), flush=True)
        await running.finished()
    print(f"bot: the scheduler at {address} is gone", file=sys.stderr)
    return 1
