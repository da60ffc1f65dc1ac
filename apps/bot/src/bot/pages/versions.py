"""What a report was made with: the versions of the bot's distributions and what draws.

installed metadata ──► versions
"""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Final

_DISTRIBUTIONS: Final = (
    "bot", "dydx-panels", "dydx-paper", "dydx-risk", "dydx-strategy", "dydx-signals", "dydx-data",
    "dydx-conn", "dydx-v4-client", "reactivex", "msgspec", "pydantic", "plotly",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Return the versions by distribution, those that are installed, and Python's own."""
    found = {"Python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
