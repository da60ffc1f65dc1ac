"""Debian's Chromium, driven by playwright: for tools that look at a page as a person does.

program ──► where it is, None where it cannot be driven
SIZES ──► a desk, a hand and a small hand, in pixels
"""

import shutil
from typing import Final

SIZES: Final = {"desk": (1400, 900), "hand": (390, 844), "small": (360, 740)}
PATIENCE_MS: Final = 20_000
SKIPPED: Final = 77
MISSING: Final = "expected chromium and playwright (the group browser), got none: nothing was held"


def program() -> str | None:
    """Return where Chromium is, None without it or without what drives it."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return None
    return shutil.which("chromium") or shutil.which("chromium-browser")
