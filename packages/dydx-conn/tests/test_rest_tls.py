"""Rest over TLS on loopback: certificates are always verified, and connections are reused."""

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from dydx_conn import ConnError, Network, Rest, RestError, Unreachable, Untrusted

HEIGHT = b'{"height":"7","time":"t"}'
HERE = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
ELSEWHERE = x509.DNSName("indexer.example")
TODAY = datetime.datetime.now(datetime.UTC)  # noqa: TID251 - certificates expire by the real clock
DAY = datetime.timedelta(days=1)


class Served:
    """A venue on loopback that answers everything alike; counts connections."""

    def __init__(self, papers: Path | None) -> None:
        self.context = None
        if papers is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(papers)
        self.connections = 0
        self.port = 0
        self.silent = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(HEIGHT)}\r\n\r\n"
        try:
            # Who begins with a handshake that is not expected here is let go.
            while await reader.read(-1 if self.silent else 1) == b"G":
                while (await reader.readline()).strip():
                    pass
                writer.write(head.encode() + HEIGHT)
                await writer.drain()
        finally:
            writer.close()

    def query(self, talk: Callable[[Rest], Awaitable[Any]], **options: Any) -> Any:
        """Talk to it and return what comes of it."""

        async def session() -> Any:
            server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=self.context)
            self.port = server.sockets[0].getsockname()[1]
            where = f"http{'s' if self.context else ''}://127.0.0.1:{self.port}"
            network = Network("local", where, "", "", "")
            async with server, Rest(network, sleep=lambda _: asyncio.sleep(0), **options) as rest:
                return await talk(rest)

        return asyncio.run(session())


def papers(
    folder: Path, *, host: x509.GeneralName = HERE, days: tuple[int, int] = (-1, 1), ca: bool = True
) -> Path:
    """Write a certificate that signs itself, and its key; valid for `days` around today."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(TODAY + days[0] * DAY)
        .not_valid_after(TODAY + days[1] * DAY)
        .add_extension(x509.SubjectAlternativeName([host]), critical=False)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "papers.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


async def failure(request: Awaitable[object]) -> RestError:
    """Return the error that a request ends with."""
    with pytest.raises(RestError) as caught:
        await request
    return caught.value


def test_a_certificate_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    """By default, and once: a retry would not help."""
    venue = Served(papers(tmp_path))

    error = venue.query(lambda rest: failure(rest.height()))

    assert type(error) is Untrusted
    assert venue.connections <= 1
    assert str(error) == (
        f"expected a certificate of 127.0.0.1:{venue.port} to trust, got one that it signed "
        "itself; check the address and this machine's clock"
    )


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"days": (-9, -1)}, "one that has expired;"),
        ({"days": (1, 9)}, "one that is not valid yet;"),
        ({"host": ELSEWHERE}, "one of another host;"),
    ],
)
def test_a_trusted_certificate_still_has_to_be_right(
    tmp_path: Path, made: dict[str, Any], words: str
) -> None:
    """In its time, and for this host."""
    path = papers(tmp_path, **made)
    trusting = ssl.create_default_context(cafile=str(path))

    error = Served(path).query(lambda rest: failure(rest.height()), verify=trusting)

    assert type(error) is Untrusted
    assert words in str(error)


def test_a_certificate_signed_by_a_stranger_is_refused(tmp_path: Path) -> None:
    """Though it is of no authority itself."""
    error = Served(papers(tmp_path, ca=False)).query(lambda rest: failure(rest.height()))

    assert type(error) is Untrusted


def test_a_trusted_certificate_is_accepted_and_its_connection_reused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose authority the system trusts; ten requests are one handshake."""
    path = papers(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    venue = Served(path)

    async def talk(rest: Rest) -> list[Any]:
        return [await rest.height() for _ in range(10)]

    answers = venue.query(talk)

    assert {answer.value.height for answer in answers} == {"7"}
    assert venue.connections == 1


def unverified() -> ssl.SSLContext:
    """Make a context that takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def nameless() -> ssl.SSLContext:
    """Make a context that takes a good certificate of anybody."""
    context = ssl.create_default_context()
    context.check_hostname = False
    return context


@pytest.mark.parametrize("context", [unverified(), nameless()])
def test_verification_cannot_be_turned_off(context: ssl.SSLContext) -> None:
    """Not by a context that does not verify, nor by one that does not look at the name."""
    with pytest.raises(ConnError, match="expected a TLS context that verifies certificates and"):
        Rest(Network("x", "https://venue", "", "", ""), verify=context)


def test_what_does_not_speak_tls_is_unreachable() -> None:
    """A plain port is tried three times; it is not a matter of trust."""
    venue = Served(None)

    async def talk(rest: Rest) -> RestError:
        network = Network("x", f"https://127.0.0.1:{venue.port}", "", "", "")
        async with Rest(network, sleep=lambda _: asyncio.sleep(0), timeout_s=2.0) as secure:
            return await failure(secure.height())

    error = venue.query(talk)

    assert type(error) is Unreachable
    assert f"expected 127.0.0.1:{venue.port} to answer /v4/height, got ConnectError" in str(error)


def test_a_handshake_that_hangs_ends_and_leaves_no_socket() -> None:
    """Who accepts and then sends nothing is given up, three times."""
    venue = Served(None)
    venue.silent = True

    async def talk(rest: Rest) -> RestError:
        network = Network("x", f"https://127.0.0.1:{venue.port}", "", "", "")
        async with Rest(network, sleep=lambda _: asyncio.sleep(0), timeout_s=0.2) as secure:
            return await failure(secure.height())

    error = venue.query(talk)

    assert type(error) is Unreachable
    assert str(error).endswith(f"127.0.0.1:{venue.port} to /v4/height within 0.2 s, got none")
    assert venue.connections == 3


def test_a_port_where_nobody_listens_is_unreachable(unused_port: int) -> None:
    """With the words of the system."""

    async def session() -> RestError:
        network = Network("x", f"http://127.0.0.1:{unused_port}", "", "", "")
        async with Rest(network, sleep=lambda _: asyncio.sleep(0)) as rest:
            return await failure(rest.height())

    error = asyncio.run(session())

    assert type(error) is Unreachable
    assert "All connection attempts failed" in str(error)


@pytest.fixture
def unused_port() -> int:
    """Return a port that was free a moment ago."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
