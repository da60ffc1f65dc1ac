"""The chaos proxy: it carries what it is given, and each fault is what its name means."""

import asyncio
import contextlib
import itertools
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from chaos import CUTS, FAULTS, ChaosProxy, ProxyFault, main, plan, work

CHAOS = Path(__file__).parent.parent / "chaos.py"
Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
# No event is as late as this; a busy machine may be slow.
PATIENCE_S = 60
SEED = 6  # its plan begins with a cut that needs no data


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back whatever is received, as an upstream."""
    with contextlib.suppress(ConnectionError):
        while sent := await reader.read(65_536):
            writer.write(sent)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def proxied(delay_s: float = 0.3, bytes_per_s: float = 1e6) -> AsyncIterator[ChaosProxy]:
    """Stand a proxy before an echo."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    proxy = ChaosProxy("127.0.0.1", port, seed=7, delay_s=delay_s, bytes_per_s=bytes_per_s)
    async with server, proxy:
        yield proxy


@contextlib.asynccontextmanager
async def connected(proxy: ChaosProxy) -> AsyncIterator[Ends]:
    """Connect to it, and be sure that bytes come through."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def soon(awaited: asyncio.Future[bytes] | asyncio.Task[bytes]) -> bytes:
    """Wait for it, but not for ever."""
    return await asyncio.wait_for(awaited, PATIENCE_S)


@pytest.mark.asyncio
async def test_what_is_sent_passes_untouched_both_ways() -> None:
    """A megabyte there and back, byte for byte, and it is counted."""
    sent = bytes(range(256)) * 4096
    async with proxied() as proxy, connected(proxy) as (reader, writer):
        writer.write(sent)

        assert await asyncio.wait_for(reader.readexactly(len(sent)), 10) == sent
        assert proxy.carried == 2 * (len(sent) + 5)


@pytest.mark.asyncio
async def test_fin_ends_every_connection_politely() -> None:
    """All clients read the end of the stream."""
    async with proxied() as proxy, connected(proxy) as (one, _), connected(proxy) as (two, _):
        done = await proxy.fault("fin")

        assert (await one.read(), await two.read()) == (b"", b"")
        assert (done.kind, done.hit) == ("fin", 2)


@pytest.mark.asyncio
async def test_rst_ends_every_connection_rudely() -> None:
    """The client's read fails: connection reset."""
    async with proxied() as proxy, connected(proxy) as (reader, _):
        await proxy.fault("rst")

        with pytest.raises(ConnectionResetError):
            await reader.read()


@pytest.mark.asyncio
async def test_a_cut_in_mid_frame_delivers_half_of_it() -> None:
    """What was being sent arrives in part, and then the end."""
    async with proxied() as proxy, connected(proxy) as (reader, writer):
        cutting = asyncio.create_task(proxy.fault("mid_frame"))
        await asyncio.sleep(0)  # it waits for something to be sent
        writer.write(b"0123456789")

        assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b"01234"
        assert (await cutting).hit == 1


@pytest.mark.asyncio
async def test_corruption_flips_bits_and_keeps_the_length() -> None:
    """As many bytes as were sent, some of them others; the next ones are right again."""
    async with proxied() as proxy, connected(proxy) as (reader, writer):
        spoiling = asyncio.create_task(proxy.fault("corrupt"))
        await asyncio.sleep(0)
        writer.write(bytes(100))
        spoilt = await asyncio.wait_for(reader.readexactly(100), PATIENCE_S)
        await spoiling
        writer.write(bytes(100))

        assert 0 < sum(byte.bit_count() for byte in spoilt) <= 8
        assert await asyncio.wait_for(reader.readexactly(100), PATIENCE_S) == bytes(100)


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["delay", "throttle"])
async def test_a_slow_line_carries_everything_later(kind: str) -> None:
    """Nothing is lost, and it takes at least the time that was requested."""
    async with proxied(delay_s=0.05, bytes_per_s=1000) as proxy, connected(proxy) as ends:
        loop, (reader, writer) = asyncio.get_running_loop(), ends
        slow = asyncio.create_task(proxy.fault(kind, 0.2))
        await asyncio.sleep(0)
        began = loop.time()
        writer.write(bytes(50))  # 50 ms at 1,000 bytes a second

        assert await asyncio.wait_for(reader.readexactly(50), PATIENCE_S) == bytes(50)
        assert loop.time() - began >= 0.09  # there and back
        await slow


@pytest.mark.asyncio
async def test_who_is_refused_is_let_in_when_it_is_over() -> None:
    """The port is closed for a while, and those inside are thrown out."""
    async with proxied() as proxy, connected(proxy) as (reader, _):
        refusing = asyncio.create_task(proxy.fault("refuse", 0.5))
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), PATIENCE_S)

        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
        await refusing
        async with connected(proxy):
            pass


@pytest.mark.asyncio
async def test_a_half_open_connection_stays_dead_until_its_client_gives_up() -> None:
    """It takes what is sent and answers nothing; who connects again afterwards is served."""
    async with proxied() as proxy, connected(proxy) as (reader, writer):
        caught = asyncio.create_task(proxy.fault("half_open"))
        await asyncio.sleep(0.01)
        writer.write(b"anybody there?")
        async with connected(proxy):
            silent = asyncio.create_task(reader.read(1))
            done, _ = await asyncio.wait([silent, caught], timeout=0.05)
        assert not done

        writer.close()
        over = await asyncio.wait_for(caught, PATIENCE_S)
        assert (over.kind, over.hit, 0 < over.held_s < PATIENCE_S) == ("half_open", 1, True)
        assert await soon(silent) == b""


@pytest.mark.asyncio
async def test_who_connects_while_all_is_half_open_is_accepted_and_receives_nothing() -> None:
    """Such a connection is as dead as those that were caught."""
    async with proxied() as proxy:
        holding = asyncio.create_task(proxy.fault("half_open", 0.1))
        await asyncio.sleep(0)
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"hello")
        silent = asyncio.create_task(reader.read(1))
        done, _ = await asyncio.wait([silent, holding], timeout=0.2)
        assert not done

        writer.close()
        await asyncio.wait_for(holding, PATIENCE_S)
        assert await soon(silent) == b""


@pytest.mark.asyncio
async def test_a_venue_that_is_away_is_a_connection_that_ends() -> None:
    """The client is let in and hung up on; the proxy lives on."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    async with ChaosProxy("127.0.0.1", port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)

        assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
        writer.close()


@pytest.mark.asyncio
async def test_an_unknown_fault_is_refused_with_the_names_that_there_are() -> None:
    """A typo is no fault."""
    async with proxied() as proxy:
        with pytest.raises(ValueError, match="half_open"):
            await proxy.fault("gremlin")


def test_a_plan_is_its_seed_and_leaves_no_kind_out() -> None:
    """The same seed plans the same; every kind comes once before any comes again."""
    first, second, other = (
        list(itertools.islice(plan(seed, longest_s=4), 2 * len(FAULTS))) for seed in (1, 1, 2)
    )

    assert first == second != other
    assert {kind for kind, _ in first[: len(FAULTS)]} == set(FAULTS)
    assert all(s == 0 if kind in CUTS else 1 <= s <= 4 for kind, s in first)


@pytest.mark.asyncio
async def test_a_plan_is_worked_through_until_it_is_cancelled() -> None:
    """Each fault is reported when it is over; never to act is to do nothing."""
    reported: asyncio.Queue[ProxyFault] = asyncio.Queue()
    async with proxied() as proxy:
        await asyncio.wait_for(work(proxy, SEED, 0, reported.put_nowait), 1)
        assert reported.empty()
        working = asyncio.create_task(work(proxy, SEED, 0.01, reported.put_nowait))
        done = await asyncio.wait_for(reported.get(), PATIENCE_S)
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working

    assert done.kind == next(plan(SEED, longest_s=1))[0] == "rst"
    assert "rst" in str(done)


def test_an_upstream_that_is_no_address_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and what was expected."""
    with pytest.raises(SystemExit) as refused:
        main(["--upstream", "nowhere"])

    assert refused.value.code == 2
    assert "HOST:PORT" in capsys.readouterr().err


def test_a_port_that_is_taken_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 and the reason, no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code = main(["--upstream", "127.0.0.1:1", "--port", port])

    assert code == 1
    assert "address already in use" in capsys.readouterr().err


def test_the_command_prints_where_it_stands_and_ends_when_stopped() -> None:
    """One line with both addresses; SIGTERM ends it with 0."""
    command = [sys.executable, str(CHAOS), "--upstream", "127.0.0.1:1", "--every", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        sent = running.stdout.readline()
        running.send_signal(signal.SIGTERM)

        assert running.wait(10) == 0
    assert re.match(r"127\.0\.0\.1:\d+ stands for 127\.0\.0\.1:1;", sent)
