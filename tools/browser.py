"""The view in a real browser: headless Chromium looks at a run, on a desk and in a hand.

    uv run --all-packages --group dev --group browser tools/browser.py              all of it
    uv run --all-packages --group dev --group browser tools/browser.py --into DIR   pictures

It logs in by the form, waits until the page is live and has its charts, and holds: the panels have
the letters that a terminal has; nothing fails in the page, and nothing is loaded from another host;
at the end of a recording it says so; a panel alone is no taller than it needs; a socket that is cut
leaves it polling, a bot that is stopped and one that is lost are shown as such, and since when; a
frame of sixty markets is on the page within 100 ms. Exit code 77 where there is no Chromium.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from answering import Answering, answering
from bench_view import delays, looked_at, within
from bot.run.composition import Bot, Options
from bot.screen.snapshot import snapshot_of
from chromium import MISSING, PATIENCE_MS, SIZES, SKIPPED, program
from dydx_conn import collect, load_recorded_stream, replay
from dydx_panels import View, placed

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# What is the same on every machine, at the end of a recording.
SAME: Final = frozenset(["safety", "positions", "candles", "book", "decisions", "tape"])
FAST, SLOW = "200", "5"


def main(words: list[str]) -> int:
    """Look, and print what was held; 1 if anything was not."""
    parser = argparse.ArgumentParser(prog="tools/browser.py", description=__doc__.splitlines()[0])
    parser.add_argument("--into", metavar="DIR", help="where the pictures go; else nowhere")
    options = parser.parse_args(words)
    if (chromium := program()) is None:
        print(MISSING)
        return SKIPPED
    with tempfile.TemporaryDirectory() as home:
        into = Path(options.into or home)
        into.mkdir(parents=True, exist_ok=True)
        wrong = [*looked_on(chromium, Path(home), into), *in_time()]
    print("\n".join(wrong or ["the page is what it should be"]))
    return int(bool(wrong))


# === A run that is looked at ===


def looked_on(chromium: str, home: Path, into: Path) -> Iterator[str]:
    """Yield what is wrong with the page of a run, in words."""
    from playwright.sync_api import sync_playwright

    environment = {**os.environ, "HOME": str(home), "XDG_STATE_HOME": str(home)}

    def running(speed: str) -> contextlib.AbstractContextManager[Answering]:
        words = ["replay", "quickstart", "--speed", speed, "--stay", "--quiet"]
        return answering(words, environment)

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        with running(FAST) as run:
            for name, size in SIZES.items():
                yield from held(browser, name, size, run.url, run.token(), into)
        with running(SLOW) as run:
            live, _ = opened(browser, SIZES["desk"], run.url, run.token())
            yield from stood(live, "live", "live")
            page, _ = opened(browser, SIZES["desk"], run.url, run.token(), cut=True)
            yield from stood(page, "polling", "polling")
            yield from moves(page)
            run.process.send_signal(signal.SIGINT)
            run.process.wait(20)
            yield from stood(page, "lost", "lost since ")
            yield from stood(live, "lost", "bot stopped ")
            page.screenshot(path=into / "lost.png")
        browser.close()


def opened(
    browser: "Browser", size: tuple[int, int], url: str, token: str, *, cut: bool = False
) -> tuple["Page", list[str]]:
    """Log in; return the page, and what is wrong with it so far. `cut`: without its socket."""
    wide, high = size
    context = browser.new_context(
        viewport={"width": wide, "height": high}, device_scale_factor=2 if wide < 700 else 1
    )
    page, wrong = context.new_page(), list[str]()
    if cut:
        page.route_web_socket("**/view/live", lambda socket: socket.close())
    page.on("console", lambda one: wrong.append(one.text) if one.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda one: None if one.url.startswith((url, "data:", "blob:")) else
            wrong.append(f"expected nothing of another host, got {one.url}"))  # fmt: skip
    page.goto(f"{url}/")
    page.fill("#token", token)
    page.click("button")
    page.wait_for_selector(".block", timeout=PATIENCE_MS)
    return page, wrong


def held(
    browser: "Browser", name: str, size: tuple[int, int], url: str, token: str, into: Path
) -> Iterator[str]:
    """Yield what is wrong with a page of one size."""
    page, wrong = opened(browser, size, url, token)
    ended(url, token)
    yield from stood(page, "ended", "ended")
    page.wait_for_selector('[data-chart="candles"]', state="attached", timeout=PATIENCE_MS)
    page.wait_for_timeout(500)
    page.screenshot(path=into / f"{name}.png")
    for chart in page.query_selector_all("[data-chart]"):
        chart.scroll_into_view_if_needed()
        chart.wait_for_selector(".plot svg", timeout=PATIENCE_MS)
    page.evaluate("window.scrollTo(0, 0)")
    page.screenshot(path=into / f"{name}-whole.png", full_page=True)
    wide = page.evaluate("document.documentElement.scrollWidth")
    if wide > size[0]:
        yield f"{name}: expected a page of {size[0]} pixels, got {wide}"
    yield from (f"{name}: {words}" for words in lettered(page))
    yield from (f"{name}: {words}" for words in wrong)
    page.keyboard.press("2")
    page.wait_for_selector('.block[data-panel="positions"]:only-child', timeout=PATIENCE_MS)
    panel = '.block[data-panel="positions"]'
    high = page.eval_on_selector(panel, "one => one.getBoundingClientRect().height")
    if high > size[1] / 3:
        yield f"{name}: expected no taller panel than one without positions needs, got {high}"
    page.keyboard.press("t")
    page.wait_for_selector('.block[data-panel="tape"]:only-child', timeout=PATIENCE_MS)
    page.screenshot(path=into / f"{name}-tape.png")
    page.context.close()


def ended(url: str, token: str) -> None:
    """Wait until the recording was played to its end, where nothing moves any more."""
    from urllib.request import Request, urlopen

    request = Request(f"{url}/view", headers={"Authorization": f"Bearer {token}"})
    before, until = -1, time.monotonic() + 60
    while time.monotonic() < until:
        with urlopen(request, timeout=10) as answer:
            seq = json.load(answer)["seq"]
        if seq == before:
            return
        before = seq
        time.sleep(0.5)
    raise TimeoutError("expected a recording of sixteen minutes to end at 200 times its speed")


def stood(page: "Page", state: str, words: str) -> Iterator[str]:
    """Yield what is wrong with the indicator, once it had time to change."""
    try:
        page.wait_for_selector(f'#status[data-state="{state}"]', timeout=PATIENCE_MS)
    except Exception as error:  # noqa: BLE001 - the driver's own errors, in its words
        yield f"expected the indicator to be {state}: {error}"
    if not (shown := page.inner_text("#status")).startswith(words):
        yield f"expected the indicator to say {words}, got {shown}"


def moves(page: "Page") -> Iterator[str]:
    """Yield what is wrong with a page that polls: what it shows has to go on."""
    before = page.evaluate("newest.version")
    goes_on = "before => newest.version > before"
    try:
        page.wait_for_function(goes_on, arg=before, timeout=PATIENCE_MS)
    except Exception as error:  # noqa: BLE001 - the driver's own errors, in its words
        yield f"expected what is polled to go on, got version {before}: {error}"


def lettered(page: "Page") -> Iterator[str]:
    """Yield the panels whose letters are not those of a terminal of the same size."""
    columns, rows = page.evaluate("[view.columns, view.rows]")
    bot = Bot(Options())
    bot.follow()
    bot.run(replay("quickstart"))
    shown = snapshot_of(bot, mode="REPLAY", name="quickstart", speed=None)
    bands = placed(shown, View(), columns, rows)
    for one in (one for band in bands for one in band if one.name in SAME):
        expected = ["".join(part.text for part in strip) for strip in one.strips]
        found = page.evaluate(
            """name => [...document.querySelector(`.block[data-panel="${name}"]`).children]
                 .map(row => row.textContent)""",
            one.name,
        )  # fmt: skip
        differ = [pair for pair in zip(expected, found, strict=False) if pair[0] != pair[1]]
        if differ or len(expected) != len(found):
            yield f"expected {one.name} as on a terminal, got {differ[:2]}"


# === How soon ===


def in_time() -> Iterator[str]:
    """Yield what is wrong with how soon frames are drawn by a browser."""
    frames = within(collect(load_recorded_stream("sixty")), 20.0)
    _, mono, arrivals = looked_at(frames, 1, __file__)
    late = sorted(delays(mono, arrivals))
    p50, p99 = (late[int(len(late) * share)] / 1e6 for share in (0.5, 0.99))
    print(f"frame to browser, p50 {p50:.1f} ms, p99 {p99:.1f} ms of {len(late):,} frames")
    if p99 >= 100.0:
        yield f"expected frames in a browser within 100 ms, got {p99:.1f} ms at p99"


_NOTE: Final = """
window.drawn = [];
document.addEventListener("drawn", ({ detail }) => requestAnimationFrame(() =>
  window.drawn.push([performance.timeOrigin + performance.now(), detail.seq])));
"""


def watched(port: str, token: str) -> list[Any]:
    """Look until a line comes; return when each drawing was there (monotonic ns) and its frame."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program(), args=["--no-sandbox"])
        url = f"http://127.0.0.1:{port}"
        page, _ = opened(browser, SIZES["desk"], url, token)
        page.evaluate(_NOTE)
        print("ready", flush=True)
        sys.stdin.readline()
        apart_ns = time.time_ns() - time.monotonic_ns()
        drawn = page.evaluate("window.drawn")
        browser.close()
    return [[[int(at_ms * 1e6) - apart_ns, seq] for at_ms, seq in drawn]]


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1].isdigit():
        print(json.dumps(watched(sys.argv[1], sys.argv[2])))
    else:
        sys.exit(main(sys.argv[1:]))
