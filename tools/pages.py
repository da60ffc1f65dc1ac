"""A report in a real browser: headless Chromium opens its page as a file, without a network.

    uv run --all-packages --group dev --group browser tools/pages.py              all of it
    uv run --all-packages --group dev --group browser tools/pages.py --into DIR   pictures

It holds that nothing is loaded but the file itself and nothing in it fails; that every chart is
drawn, a table sorts by what its cells mean, and an id shows its way back to the text of the wire;
that nothing is wider than a phone; and that paper is white, with every chart on it. Exit code 77
where there is no Chromium.
"""

import argparse
import contextlib
import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bot.__main__ import main as bot
from chromium import MISSING, PATIENCE_MS, SIZES, SKIPPED, program

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

REPORT: Final = ("quickstart", "--profile", "reckless", "--config", "none")


def main(words: list[str]) -> int:
    """Look, and print what did not hold; 1 if anything did not."""
    parser = argparse.ArgumentParser(prog="tools/pages.py", description=__doc__.splitlines()[0])
    parser.add_argument("--into", metavar="DIR", help="where the pictures go; else nowhere")
    options = parser.parse_args(words)
    if (chromium := program()) is None:
        print(MISSING)
        return SKIPPED
    with tempfile.TemporaryDirectory() as folder:
        into = Path(options.into or folder)
        into.mkdir(parents=True, exist_ok=True)
        page = Path(folder) / "report.html"
        with contextlib.redirect_stdout(io.StringIO()):
            code = bot(["report", *REPORT, "--html", str(page)])
        wrong = [*looked_at(chromium, page, into)] if code == 0 else [f"bot report returned {code}"]
    print("\n".join(wrong or ["the page is what it should be"]))
    return int(bool(wrong))


def looked_at(chromium: str, file: Path, into: Path) -> Iterator[str]:
    """Yield in words what does not hold of a page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, size in SIZES.items():
            with opened(browser, file, size) as (page, failed):
                page.screenshot(path=str(into / f"report-{name}.png"))
                for words in (*drawn(page), *fits(page), *sorts(page), *explains(page), *failed):
                    yield f"{name}: {words}"
                page.screenshot(path=str(into / f"report-{name}-whole.png"), full_page=True)
        with opened(browser, file, SIZES["desk"]) as (page, failed):
            for words in (*on_paper(page, into), *failed):
                yield f"paper: {words}"
        browser.close()


@contextlib.contextmanager
def opened(
    browser: "Browser", file: Path, size: tuple[int, int]
) -> Iterator[tuple["Page", list[str]]]:
    """Open a page as a file; whatever fails in it or is loaded beside it gets into the list."""
    width, height = size
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="dark")
    failed: list[str] = []
    page.on("pageerror", lambda error: failed.append(f"expected no error, got {error}"))
    page.on("console", lambda word: failed.append(f"expected no warning, got {word.text}")
            if word.type in ("error", "warning") else None)  # fmt: skip
    page.on("request", lambda one: failed.append(f"expected no request, got {one.url[:80]}")
            if one.url != file.as_uri() and not one.url.startswith(("data:", "blob:"))
            else None)  # fmt: skip
    page.goto(file.as_uri())
    yield page, failed
    page.close()


# === What holds ===


def drawn(page: "Page") -> Iterator[str]:
    """Yield the charts that are not drawn once somebody has come to them."""
    for chart in page.locator(".chart").all():
        chart.scroll_into_view_if_needed()
        try:
            chart.locator(".main-svg").first.wait_for(timeout=PATIENCE_MS)
        except Exception as error:  # noqa: BLE001 - what playwright raises is its own
            yield f"expected a chart {chart.get_attribute('aria-label')}, got {error}"


def fits(page: "Page") -> Iterator[str]:
    """Yield whether the page is wider than its window."""
    wide, room = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    if wide > room:
        yield f"expected a page of {room} pixels, got {wide}"


def sorts(page: "Page") -> Iterator[str]:
    """Yield whether a click on a title does not sort by money, down and then up."""
    title = page.locator("#trades th", has_text="net").locator("button")
    for sign in (-1, 1):
        title.click()
        cells = page.eval_on_selector_all(
            "#trades tbody tr", "rows => rows.map(row => Number(row.cells[9].dataset.v))"
        )
        if cells != sorted(cells, key=lambda value: sign * value):
            yield f"expected trades sorted by net, got {cells}"


def explains(page: "Page") -> Iterator[str]:
    """Yield whether an id does not show its way back to the wire, or does not hide it again."""
    for part in ("trades", "fills", "guard"):
        button = page.locator(f"#{part} button.why").first
        button.click()
        way: Any = page.locator(f"#{part} tr.shown").first
        way.locator("summary").click()
        text = way.inner_text()
        if "wire: frames #" not in text or '"channel"' not in text:
            yield f"expected the way from {part} to the wire, got {text[:80]!r}"
        button.click()
        if page.locator(f"#{part} tr.shown").count():
            yield f"expected nothing below a closed id of {part}, got its way"


def on_paper(page: "Page", into: Path) -> Iterator[str]:
    """Yield whether paper is not white, or lacks a chart."""
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.locator(".chart .main-svg").first.wait_for(timeout=PATIENCE_MS)
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    if colour != "rgb(255, 255, 255)":
        yield f"expected white paper, got {colour}"
    page.pdf(path=str(into / "report.pdf"), format="A4", print_background=True)
    missing = page.locator(".chart:not(.js-plotly-plot)").count()
    if missing:
        yield f"expected every chart on paper, got {missing} without"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
