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
