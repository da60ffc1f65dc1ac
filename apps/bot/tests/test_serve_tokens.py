"""Who may look and who may act: the files of the tokens, and what was sent."""

from pathlib import Path

import pytest
from bot.__main__ import main
from bot.config.api import ApiSettings
from bot.serve.tokens import TokenError, Tokens, default_file, made, read


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    """Return two tokens of files that were made just now."""
    settings = ApiSettings(
        read_token=str(tmp_path / "read.token"), trading_token=str(tmp_path / "trading.token")
    )
    found = Tokens(settings)
    found.require()
    return found


def test_missing_tokens_are_made_at_the_start(tmp_path: Path) -> None:
    """Once, and for their owner alone."""
    settings = ApiSettings(
        read_token=str(tmp_path / "r.token"), trading_token=str(tmp_path / "t.token")
    )

    assert Tokens(settings).require() == [str(tmp_path / "t.token"), str(tmp_path / "r.token")]
    assert Tokens(settings).require() == []
    assert [(tmp_path / f"{name}.token").stat().st_mode & 0o777 for name in "rt"] == [0o600, 0o600]


def test_each_token_has_its_own_rights(tokens: Tokens, tmp_path: Path) -> None:
    """And what is none has none."""
    sent = [read(tmp_path / "read.token"), read(tmp_path / "trading.token"), "x" * 43, "", "ä" * 43]

    assert [tokens.kind_of(each) for each in sent] == ["read", "trading", None, None, None]


def test_one_token_for_both_is_refused(tokens: Tokens, tmp_path: Path) -> None:
    """Whoever may look could act; where it comes to be so later he may look."""
    token = read(tmp_path / "trading.token")
    (tmp_path / "read.token").write_text(token)

    assert tokens.kind_of(token) == "read"
    with pytest.raises(TokenError, match=r"expected two tokens in .*, got the same twice"):
        tokens.require()


def test_what_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a half of a token beside the one that was there."""

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(TokenError, match="No space left on device"):
        made(tmp_path / "a.token")

    assert [*tmp_path.iterdir()] == []


def test_a_new_token_counts_at_once(tokens: Tokens, tmp_path: Path) -> None:
    """What had the one before is refused."""
    before = read(tmp_path / "trading.token")
    made(tmp_path / "trading.token")

    assert tokens.kind_of(before) is None
    assert tokens.kind_of(read(tmp_path / "trading.token")) == "trading"


def test_a_file_that_others_may_read_is_no_token(tokens: Tokens, tmp_path: Path) -> None:
    """From the moment on at which it is such a one; whoever runs the bot learns of it."""
    path, lost = tmp_path / "read.token", list[str]()
    token = read(path)
    tokens.lost = lost.append
    path.chmod(0o644)

    assert tokens.kind_of(token) is None
    assert len(lost) == 1
    assert "readable by you alone (chmod 600), got mode 644" in lost[0]
    assert token not in lost[0]


@pytest.mark.parametrize("content", ["", "short", "with blanks " * 9, "\x00" * 50, "x" * 2_000])
def test_what_is_no_token_is_refused(content: str, tmp_path: Path) -> None:
    """Too short to be safe, more than one word, or no text; it is not repeated."""
    path = tmp_path / "a.token"
    path.write_text(content)
    path.chmod(0o600)

    with pytest.raises(TokenError, match="expected 32 to 1024 letters and digits") as error:
        read(path)
    assert "short" not in str(error.value)


@pytest.mark.parametrize("kind", ["directory", "link", "nothing"])
def test_what_is_no_file_is_refused(kind: str, tmp_path: Path) -> None:
    """A link leads where somebody else may choose."""
    path = tmp_path / "a.token"
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        made(tmp_path / "elsewhere.token")
        path.symlink_to(tmp_path / "elsewhere.token")

    with pytest.raises((TokenError, OSError)):
        read(path)


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """In words."""
    with pytest.raises(TokenError, match=r"expected to write a token into .*, got No such file"):
        made(tmp_path / "nowhere" / "token")


def test_the_command_makes_a_token_and_prints_where(capsys: pytest.CaptureFixture[str]) -> None:
    """The same one the next time, another one where that is typed; never the token itself."""
    assert main(["token", "read"]) == 0
    path = default_file("read")
    first = read(path)
    assert main(["token", "read"]) == 0
    assert read(path) == first
    assert main(["token", "read", "--new"]) == 0
    assert read(path) != first

    assert capsys.readouterr().out == f"{path}\n" * 3


def test_the_command_refuses_a_file_of_everybody(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and words."""
    assert main(["token", "trading"]) == 0
    default_file("trading").chmod(0o640)

    assert main(["token", "trading"]) == 2
    assert "got mode 640" in capsys.readouterr().err
