"""What importing the layer costs: who replays pays for no connection."""

import subprocess
import sys

HEAVY = {
    "bip_utils",
    "cryptography",
    "dydx_v4_client",
    "grpc",
    "httpx",
    "pydantic",
    "v4_proto",
    "websocket",
}


def test_importing_it_is_quick() -> None:
    """No client, no protocol, no wallet and no validation is loaded before its first use."""
    script = "import sys, dydx_conn; print(*sys.modules)"

    loaded = subprocess.check_output([sys.executable, "-c", script], text=True).split()

    assert set() == HEAVY & {*loaded}


def test_the_clients_warning_of_its_own_configuration_reaches_nobody() -> None:
    """On whichever threads it is first used; what else it may warn of later is not withheld."""
    script = """if True:
        import logging, threading, dydx_conn
        node = dydx_conn._Node(dydx_conn.NETWORKS["testnet"], 1.0)
        threads = [threading.Thread(target=lambda: node._client) for _ in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        logging.getLogger("dydx_v4_client.network").warning("something else")
    """

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert done.stderr == "something else\n"
