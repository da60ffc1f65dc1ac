"""Which bot this is: its version, and the commit that it was made of where that is known.

    commit of an executable (a file that its build writes) ─┐
    .git of the checkout that these files stand in ─────────┴─► described: bot 0.2.0 (37b4948761ab)

Nothing is read before somebody wants to know, and git is not run: the commit is that of the
checkout, whether or not its files were edited since. A wheel is of no commit, and has a version.
"""

import re
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).resolve().parent
# Beside the package in an executable; a commit in full, and `+changes` where it was built of more.
BUILT_OF: Final = "commit"

_CHECKOUT: Final = ("apps", "bot", "src", "bot")
_COMMIT: Final = re.compile(r"([0-9a-f]{40}|[0-9a-f]{64})(\+changes)?")
_SHOWN: Final = 12


def described(package: Path = PACKAGE) -> str:
    """Return version and commit in a line, the version alone where no commit is known."""
    from bot import __version__

    commit = commit_of(package)
    if commit is None:
        return f"bot {__version__}"
    sha, plus, changes = commit.partition("+")
    return f"bot {__version__} ({sha[:_SHOWN]}{plus}{changes})"


def commit_of(package: Path = PACKAGE) -> str | None:
    """Return the commit of a folder of this package, None where it is not known."""
    try:
        if (package / BUILT_OF).is_file():
            found = (package / BUILT_OF).read_text(encoding="ascii")
        elif package.parts[-len(_CHECKOUT) :] == _CHECKOUT:
            # Nothing else above it: a wheel may be installed within somebody else's checkout.
            found = _checked_out(package.parents[len(_CHECKOUT) - 1])
        else:
            return None
    except (OSError, UnicodeDecodeError):
        return None
    known = _COMMIT.fullmatch(found.strip())
    return known.group() if known else None


def _checked_out(root: Path) -> str:
    git = root / ".git"
    if git.is_file():  # of a second worktree, or a submodule
        git = root / git.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
    head = (git / "HEAD").read_text(encoding="utf-8").strip()
    if not head.startswith("ref:"):
        return head
    name, shared = head.removeprefix("ref:").strip(), git
    if (git / "commondir").is_file():
        shared = git / (git / "commondir").read_text(encoding="utf-8").strip()
    if (shared / name).is_file():
        return (shared / name).read_text(encoding="ascii")
    packed = (shared / "packed-refs").read_text(encoding="utf-8").splitlines()
    return next((line.split()[0] for line in packed if line.endswith(f" {name}")), "")
