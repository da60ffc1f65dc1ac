"""The venue over TLS: who trusts its authority is served, who checks is never fooled."""

import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from exchange import Exchange, VenueSettings
from market import Level
from servers import VenueProcess, venue_process
from tls import TRUST, issue

# The official clients as they come, but for the socket's sslopt: its own is CERT_NONE.
CLIENTS = """
import asyncio, json, ssl, sys
from dydx_v4_client.indexer.rest.indexer_client import IndexerClient
from dydx_v4_client.indexer.socket.websocket import IndexerSocket
from dydx_v4_client.network import LOCAL, make_secure
from dydx_v4_client.node.client import NodeClient

rest, ws, node = sys.argv[1:]
outcome = {}

def socket():
    def received(app, message):
        outcome["socket"] = message["type"]
        app.close()
    def failed(app, error):
        outcome.setdefault("socket", str(error))
    app = IndexerSocket(ws, on_message=received, on_error=failed)
    app.run_forever(sslopt={"cert_reqs": ssl.CERT_REQUIRED, "check_hostname": True})

async def query(name, question):
    try:
        outcome[name] = await question()
    except Exception as error:
        outcome[name] = f"{type(error).__name__} {error}"

async def height_of_node():
    config = LOCAL.node
    make = lambda channel: type(config)(config.chain_id, "", "", channel)
    network = make_secure(make, rest_indexer=rest, websocket_indexer=ws, node_url=node)
    return await (await NodeClient.connect(network.node)).latest_block_height() > 0

async def height_of_indexer():
    return int((await IndexerClient(rest).utility.get_height())["height"]) > 0

socket()
asyncio.run(query("rest", height_of_indexer))
asyncio.run(query("node", height_of_node))
print(json.dumps(outcome))
"""


def speak(venue: VenueProcess, trust: dict[str, str]) -> dict[str, object]:
    """Let the official clients speak to a venue, in a process that trusts what it is given."""
    environment = {k: v for k, v in os.environ.items() if k not in TRUST} | trust
    command = [sys.executable, "-c", CLIENTS, venue.rest, venue.ws, venue.node]
    done = subprocess.run(
        command, env=environment, check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    outcome: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return outcome


@pytest.fixture(scope="module")
def venue() -> Iterator[VenueProcess]:
    """Run a venue over TLS."""
    with venue_process("--tls") as running:
        yield running
        assert running.stop() == 0
        assert not Path(running.authority).exists()


def test_the_official_clients_trust_the_authority_they_are_given(venue: VenueProcess) -> None:
    """Socket, REST and node, each over TLS, each by nothing but its environment."""
    outcome = speak(venue, dict.fromkeys(TRUST, venue.authority))

    assert outcome == {"socket": "connected", "rest": True, "node": True}
    assert (venue.rest[:8], venue.ws[:6]) == ("https://", "wss://")


def test_who_was_given_nothing_refuses_the_venue(venue: VenueProcess) -> None:
    """An authority of nobody's is not trusted: verification is on."""
    outcome = speak(venue, {})

    assert "CERTIFICATE_VERIFY_FAILED" in str(outcome["socket"])
    assert "CERTIFICATE_VERIFY_FAILED" in str(outcome["rest"])
    assert outcome["node"] is not True


def test_an_expired_certificate_is_refused_by_its_name() -> None:
    """Trusting the authority does not help a certificate that was valid until yesterday."""
    with venue_process("--tls", "expired") as venue:
        outcome = speak(venue, dict.fromkeys(TRUST, venue.authority))

    assert "certificate has expired" in str(outcome["socket"])
    assert "certificate has expired" in str(outcome["rest"])
    assert outcome["node"] is not True


def test_the_key_is_for_its_owner_and_the_names_are_the_loopbacks(tmp_path: Path) -> None:
    """Nobody else reads the key; the certificate names 127.0.0.1 and localhost alone."""
    papers = issue(tmp_path)

    names = (
        x509.load_pem_x509_certificate(papers.certificate.read_bytes())
        .extensions.get_extension_for_class(x509.SubjectAlternativeName)
        .value
    )
    assert papers.key.stat().st_mode & 0o077 == 0
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_time_that_is_held_stands_still_and_all_is_answered(venue: VenueProcess) -> None:
    """SIGUSR1 holds venue time, SIGUSR2 lets it go on."""
    context = ssl.create_default_context(cafile=venue.authority)
    with httpx.Client(base_url=venue.rest, verify=context) as client:

        def time_now() -> str:
            return str(client.get("/v4/time").json()["iso"])

        def changes_within(queries: int) -> bool:
            first = time_now()
            return any(time_now() != first for _ in range(queries))

        venue.process.send_signal(signal.SIGUSR1)
        while changes_within(15):  # a signal is handled when the venue's loop comes round
            pass
        held = not changes_within(20)
        venue.process.send_signal(signal.SIGUSR2)

        assert held
        assert changes_within(60)


def test_what_was_to_be_published_late_is_published_when_time_is_held() -> None:
    """Who compares books while time stands still finds no level that the venue did not publish."""
    published: list[tuple[str, Any]] = []

    class Ears:
        def wanted(self, channel: str, id: str) -> bool:
            return True

        def publish(self, channel: str, id: str, contents: Any, subaccount: int | None = None):
            published.append((channel, contents))

    exchange = Exchange(VenueSettings(markets=1), Ears())
    tape = exchange.tapes["BTC-USD"]
    exchange.step()
    bid: Level = ("BUY", 10**5, 10**6)
    stood = list(tape.levels.change([bid], [], exchange.height))
    gone = list(tape.levels.change([("BUY", 10**5, 0)], [bid], exchange.height))
    published.clear()

    exchange.publish_all()

    assert (stood, gone) == ([bid], [])
    assert published == [("v4_orderbook", {"bids": [(tape.price_text(10**5), "0")]})]
