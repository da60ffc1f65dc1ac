"""Which bot this is: read from files, of a checkout, an executable and a wheel."""

from pathlib import Path

import pytest
from bot import __version__
from bot.version import PACKAGE, commit_of, described

SHA = "37b4948761ab00112233445566778899aabbccdd"
OTHER = "0" * 40


def checkout(root: Path, files: dict[str, str]) -> Path:
    """Make a checkout of these files of git's, and return its folder of the bot."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    package = root / "apps" / "bot" / "src" / "bot"
    package.mkdir(parents=True)
    return package


@pytest.mark.parametrize(
    "files",
    [
        {".git/HEAD": "ref: refs/heads/main\n", ".git/refs/heads/main": f"{SHA}\n"},
        {".git/HEAD": f"{SHA}\n"},
        {
            ".git/HEAD": "ref: refs/heads/main\n",
            ".git/packed-refs": f"# pack-refs with: peeled\n{OTHER} refs/heads/old/main\n"
            f"{SHA} refs/heads/main\n^{OTHER}\n",
        },
        {
            ".git": "gitdir: elsewhere/.git/worktrees/mine\n",
            "elsewhere/.git/worktrees/mine/HEAD": "ref: refs/heads/mine\n",
            "elsewhere/.git/worktrees/mine/commondir": "../..\n",
            "elsewhere/.git/refs/heads/mine": f"{SHA}\n",
        },
    ],
    ids=["branch", "detached", "packed", "worktree"],
)
def test_a_checkout_names_the_commit_it_is_at(files: dict[str, str], tmp_path: Path) -> None:
    """However git stores it: nothing is run for it."""
    assert described(checkout(tmp_path, files)) == f"bot {__version__} (37b4948761ab)"


@pytest.mark.parametrize("text", [SHA, f"{SHA}+changes"])
def test_an_executable_names_the_commit_it_was_built_of(text: str, tmp_path: Path) -> None:
    """And that files were edited since, where they were."""
    (tmp_path / "commit").write_text(text + "\n")

    assert described(tmp_path) == f"bot {__version__} ({text.replace(SHA, SHA[:12])})"


@pytest.mark.parametrize(
    "files",
    [
        {},
        {".git/HEAD": "ref: refs/heads/main\n"},
        {".git/HEAD": "ref: refs/heads/main\n", ".git/packed-refs": f"{OTHER} refs/heads/x\n"},
        {".git/HEAD": "what is this\n"},
        {".git": "gitdir: nowhere\n"},
    ],
    ids=["no git", "no commit yet", "not packed", "no commit", "no folder"],
)
def test_where_no_commit_is_known_the_version_stands_alone(
    files: dict[str, str], tmp_path: Path
) -> None:
    """It is no reason to fail, whatever the files are."""
    assert described(checkout(tmp_path, files)) == f"bot {__version__}"


def test_a_wheel_within_a_checkout_of_somebody_else_is_of_no_commit(tmp_path: Path) -> None:
    """A project that has the bot in its environment is not the bot."""
    checkout(tmp_path, {".git/HEAD": SHA})

    assert commit_of(tmp_path / ".venv" / "lib" / "python3.11" / "site-packages" / "bot") is None


def test_the_commit_of_these_files_is_one_or_not_known() -> None:
    """Also where the tests run: in a checkout, in a worktree or in an unpacked archive."""
    assert len(commit_of(PACKAGE) or SHA) in (40, 64)
