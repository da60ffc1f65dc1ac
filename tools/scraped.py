"""Let Prometheus scrape a running bot, and hold what it got against what a bot has.

    uv run --all-packages --group dev tools/scraped.py                 half a minute
    uv run --all-packages --group dev tools/scraped.py --seconds 120

    venue ◄──► bot paper --api ◄── /metrics, every 5 s ── prometheus ◄── its own HTTP API ── here

The configuration and the rules are those of apps/bot/config, with address and token of this run put
in; promtool checks them and the text of /metrics. It runs Debian's prometheus; where that is not
installed it exits with 77. Exit code 1 if anything is not so.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from answering import answering, ended, free_port
from bot.serve.series import PREFIX, SERIES
from servers import places, venue_process

CONFIG: Final = Path(__file__).parent.parent / "apps" / "bot" / "config"
PROGRAMS: Final = ("prometheus", "promtool")
SKIPPED: Final = 77
PATIENCE_S: Final = 30.0
TICKERS: Final = "BTC-USD,ETH-USD,SOL-USD"
# What a run of half a minute need not have: what it never did, or does not know here.
OPTIONAL: Final = {
    "data_troubles_total", "distance_to_liquidation_ratio",
    "errors_total", "leverage_ratio", "open_orders", "order_refusals_total", "order_updates_total",
    "ping_seconds", "position_distance_ratio", "position_notional_usdc",
    "position_unrealized_pnl_usdc", "rest_errors_total", "market_lag_seconds",
}  # fmt: skip


def main() -> int:
    """Scrape, compare and report; return the exit code."""
    options = parser().parse_args()
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        print(f"expected {' and '.join(missing)} on the path, got none: apt-get install prometheus")
        return SKIPPED
    proof = Proof()
    with tempfile.TemporaryDirectory(prefix="scraped-") as name:
        folder = Path(name)
        flags = ("--scenario", "trend", "--seed", "7", "--count", "8")
        with (
            venue_process(*flags) as there,
            running_bot(folder, there.typed) as bot,
        ):
            proof.look(bot, folder)
            with prometheus(folder) as url:
                time.sleep(options.seconds)  # it scrapes; there is nothing to wait for
                proof.query(url, options.seconds)
    print("\n".join(proof.lines))
    print(f"{len(proof.faults)} faults")
    return 1 if proof.faults else 0


def parser() -> argparse.ArgumentParser:
    """Make the parser."""
    made = argparse.ArgumentParser(
        prog="tools/scraped.py", description=(__doc__ or "").split("\n")[0]
    )
    made.add_argument("--seconds", type=float, default=30.0, help="to scrape for (default 30)")
    return made


# === Processes ===


@dataclass(frozen=True)
class Bot:
    """A bot that runs: where it answers, and the file of the token that may look."""

    url: str
    token: Path

    def get(self, path: str, *, token: bool = True) -> tuple[int, str]:
        """Return status and text of a request."""
        made = urllib.request.Request(self.url + path)
        if token:
            made.add_header("Authorization", f"Bearer {self.token.read_text().strip()}")
        return fetched(made)


def fetched(request: str | urllib.request.Request) -> tuple[int, str]:
    """Return status and text of an answer, whatever it is; (0, why) where none comes."""
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


@contextlib.contextmanager
def running_bot(folder: Path, typed: Sequence[str]) -> Iterator[Bot]:
    """Run `bot paper` until its API answers; it is ended however it goes."""
    words = [
        "paper", "--network", "local", *typed, "--plain", "--quiet",
        "--tickers", TICKERS, "--account", "scraped", "--profile", "reckless",
        "--database", f"sqlite:///{folder}/bot.db",
    ]  # fmt: skip
    with answering(words, os.environ | places(folder)) as run:
        found = Bot(run.url, run.token_file())
        waits(lambda: found.get("/health")[0] == 200, "a bot in health")
        yield found


@contextlib.contextmanager
def prometheus(folder: Path) -> Iterator[str]:
    """Run Prometheus on the configuration in a folder; yields its URL once it is ready."""
    port = free_port()
    command = [
        "prometheus", f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    with ended(process):
        url = f"http://127.0.0.1:{port}"
        waits(lambda: fetched(f"{url}/-/ready")[0] == 200, "a Prometheus that is ready")
        yield url


def waits(done: Any, what: str) -> None:
    """Wait until something is so, for a bounded time."""
    ends = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > ends:
            raise SystemExit(f"expected {what} within {PATIENCE_S:g} s, got none: no proof")
        time.sleep(0.1)


# === What is compared ===


@dataclass
class Proof:
    """What was found, a line each, and what is not as it should be."""

    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def require(self, what: str, *, so: bool, got: object = "") -> None:
        """Note something that should be so."""
        self.lines.append(f"{'ok ' if so else 'NOT'}  {what}{f': {got}' if got != '' else ''}")
        if not so:
            self.faults.append(what)

    def look(self, bot: Bot, folder: Path) -> None:
        """Check the text of a scrape, who gets it, and the files that people begin with."""
        status, text = bot.get("/metrics")
        self.require("/metrics answers", so=status == 200, got=f"{len(text.splitlines())} lines")
        self.require("and not without a token", so=bot.get("/metrics", token=False)[0] == 401)
        self.checked("promtool check metrics", ["promtool", "check", "metrics"], text)
        health, _ = bot.get("/health", token=False)
        network, found = bot.get("/health/network", token=False)
        self.require("/health without a token", so=health == 200, got=health)
        self.require("/health/network without one", so=network == 200, got=found)
        example = (CONFIG / "prometheus.yml").read_text()
        made = example.replace("127.0.0.1:8710", bot.url.removeprefix("http://"))
        (folder / "prometheus.yml").write_text(made.replace("api-read.token", str(bot.token)))
        shutil.copy(CONFIG / "alerts.yml", folder)
        file = str(folder / "prometheus.yml")
        self.checked("promtool check config", ["promtool", "check", "config", file])
        self.checked("promtool check rules", ["promtool", "check", "rules", f"{folder}/alerts.yml"])

    def checked(self, what: str, command: Sequence[str], text: str = "") -> None:
        """Run a check of promtool."""
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        words = (done.stdout + done.stderr).strip().splitlines()
        self.require(what, so=done.returncode == 0, got="; ".join(words[-6:]))

    def query(self, url: str, seconds: float) -> None:
        """Ask Prometheus what it has."""
        (target,) = result(url, "/api/v1/targets")["activeTargets"]
        self.require("the target is up", so=target["health"] == "up", got=target["lastError"])
        names = {*result(url, "/api/v1/label/__name__/values")}
        wanted = {
            PREFIX + row.name + ("_bucket" if row.kind == "histogram" else "")
            for row in SERIES if row.name not in OPTIONAL
        }  # fmt: skip
        missing = sorted(wanted - names)
        own = sum(name.startswith(PREFIX) for name in names)  # integers
        self.require("every series is there", so=not missing, got=missing or f"{own} names")
        scrapes = value(url, f"count_over_time(up[{seconds:.0f}s])")
        self.require("it was scraped", so=(scrapes or 0) >= seconds / 5 - 2, got=scrapes)
        self.require(
            "and never in vain", so=value(url, f"min_over_time(up[{seconds:.0f}s])") == 1
        )  # fmt: skip
        rate = value(url, f"sum(rate({PREFIX}frames_total[{seconds:.0f}s]))")
        self.require("frames come", so=(rate or 0) > 0, got=f"{rate} a second")
        groups = result(url, "/api/v1/rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        bad = [rule["name"] for rule in rules if rule["health"] == "err"]
        self.require("its rules are evaluated", so=bool(rules) and not bad, got=bad or len(rules))
        firing = [rule["name"] for rule in rules if rule["state"] == "firing"]
        self.lines.append(f"     firing: {', '.join(firing) or 'none'}")
        for what in ("scrape_duration_seconds", "scrape_samples_scraped",
                     f"{PREFIX}figures_duration_seconds", f"{PREFIX}memory_bytes"):  # fmt: skip
            self.lines.append(f"     {what}: {value(url, what)}")


def result(url: str, path: str) -> Any:
    """Return the data of an answer of Prometheus."""
    status, text = fetched(url + path)
    if status != 200:
        raise SystemExit(f"expected {path} of Prometheus, got {status}: {text[:200]}")
    return json.loads(text)["data"]


def value(url: str, query: str) -> float | None:
    """Return the value of a query that has one, None where it has none."""
    rows = result(url, f"/api/v1/query?{urllib.parse.urlencode({'query': query})}")["result"]
    return float(rows[0]["value"][1]) if rows else None


if __name__ == "__main__":
    sys.exit(main())
