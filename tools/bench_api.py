"""How long a run takes to answer over HTTP while it plays as fast as it can, or at a speed.

    bot replay sixty --api … ──► one client, requests one after the other ──► percentiles by path

The client waits a moment between two requests, as a monitor or a browser does: without `--pause`
it is a load that nobody makes. Compare with `tools/paired.py` what a run itself loses by it.
"""

import argparse
import http.client
import time
from collections import defaultdict
from itertools import chain
from urllib.parse import urlsplit

from fuzz_api import served

PATHS = (
    "/status", "/positions", "/pnl", "/orders", "/fills", "/decisions/D1/why?wire=false", "/health",
    "/metrics", "/config",
)  # fmt: skip


def measured(url: str, token: str, seconds: float, pause_s: float) -> dict[str, list[float]]:
    """Request each path in turn for so long; return how long each took, in ms."""
    address, headers = urlsplit(url), {"Authorization": f"Bearer {token}"}
    connection = http.client.HTTPConnection(str(address.hostname), address.port)
    found: dict[str, list[float]] = defaultdict(list)
    ends, n = time.monotonic() + seconds, 0
    while time.monotonic() < ends:
        path = PATHS[n % len(PATHS)]
        n += 1
        began = time.perf_counter()
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            break  # the recording is over
        found[path if answer.status < 500 else f"{path} {answer.status}"].append(
            (time.perf_counter() - began) * 1e3
        )
        time.sleep(pause_s)
    return found


def line(name: str, times: list[float]) -> str:
    """Return the percentiles of some times in ms."""
    times = sorted(times)

    def at(share: float) -> float:
        return times[min(len(times) - 1, int(share * len(times)))]

    return (
        f"{name:<20} {len(times):>6} requests  p50 {at(0.5):6.2f}  p99 {at(0.99):6.2f}  "
        f"max {times[-1]:6.2f} ms"
    )


def main() -> int:
    """Print the percentiles; 1 if the p99 of all is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recording", nargs="?", default="sixty")
    parser.add_argument("--seconds", type=float, default=20.0, help="of requests, in all")
    parser.add_argument("--pause", type=float, default=0.005, help="s between two requests")
    parser.add_argument("--speed", default="", help="of the replay (default: as fast as it can)")
    parser.add_argument("--limit", type=float, default=20.0, help="ms that the p99 may have")
    arguments = parser.parse_args()
    found: dict[str, list[float]] = defaultdict(list)
    ends = time.monotonic() + arguments.seconds
    speed = ["--speed", arguments.speed] if arguments.speed else []
    while (left := ends - time.monotonic()) > 0:
        # Without --stay: a run that is over answers sooner than one that plays.
        with served(arguments.recording, *speed, stays=False) as (url, token):
            for path, times in measured(url, token, left, arguments.pause).items():
                found[path] += times
    for path, times in found.items():
        print(line(path, times))
    whole = sorted(chain.from_iterable(found.values()))
    print(line("all", whole))
    return int(whole[int(0.99 * len(whole))] > arguments.limit)


if __name__ == "__main__":
    raise SystemExit(main())
