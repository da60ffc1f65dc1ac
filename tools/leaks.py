"""Look for secrets in all that tests print and write, as a plugin of pytest that every gate has.

    plant(secret) ─► PLANTED ──┐
    stdout, stderr, logging ───┼──► secrets_in ──► the test fails
    output of subprocesses ────┤
    files in directories ──────┘──► the run fails, and names the file

Tests give the bot keys, mnemonics, tokens and passphrases; what they give is planted here, and none
of it may come out again: on a stream, in a log, a recording (unpacked), a spool, a database or a
report. Three words of a mnemonic in a row are found too, whatever stands between them. What a test
writes for the bot to read (settings, token files, what is `as_input`) is no output. A message names
what was found by its first characters, and the text that holds it is hidden.
"""

import io
import re
import secrets
import subprocess
import sys
from collections.abc import Generator, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import zstandard

# What several tests use: two keys, the words of a vector of BIP-39, two passphrases.
PLANTED: Final[set[str]] = {
    "4b" * 32,
    "9f" * 32,
    " ".join(["abandon"] * 11 + ["about"]),
    "correct horse",
    "hunter2",
}
_GIVEN: Final[set[Path]] = set()  # files that tests wrote for the bot to read
# Of what is given to the bot, and of programs; all else that a test leaves behind is looked at.
_INPUT: Final = frozenset([".yaml", ".yml", ".toml", ".py", ".pyc", ".so", ".token", ".tokens"])
_PACKED: Final = b"\x28\xb5\x2f\xfd"  # how zstandard begins
_MOST: Final = 64 * 2**20  # of one file
_PHRASE: Final = 6  # words of which a secret is a mnemonic
_SHOWN: Final = 4
_BLOCK: Final = 8  # bytes


def plant(secret: str) -> str:
    """Return a secret that tests give to the bot, and let it be looked for from here on."""
    PLANTED.add(secret)
    return secret


def as_input(path: Path) -> Path:
    """Return the path of a file that a test writes for the bot to read: it is no output."""
    _GIVEN.add(path)
    return path


class _Sought(NamedTuple):
    """What is looked for: long secrets all at once, each other by itself."""

    singly: tuple[str, ...]
    together: tuple[str, ...]
    blocks: frozenset[int]  # each text that holds a long secret has one of these eight bytes


def secrets_in(text: bytes) -> list[str]:
    """Return the beginnings of the secrets in a text."""
    low, sought = text.lower(), _sought(frozenset(PLANTED))
    whole = memoryview(low)[: len(low) // _BLOCK * _BLOCK].cast("Q")
    together = () if sought.blocks.isdisjoint(whole) else sought.together
    found = (secret for secret in (*sought.singly, *together) if _holds(low, secret))
    return [f"{secret[:_SHOWN]}…" for secret in sorted(found)]


@lru_cache(maxsize=1)
def _sought(planted: frozenset[str]) -> _Sought:
    # Tests make hundreds of tokens. A text is read eight bytes at a time, once for all of them:
    # of fifteen bytes in a row eight are such a block, wherever the first of them stands.
    together = {secret for secret in planted if _is_long(secret)}
    blocks = (
        secret.lower().encode()[start : start + _BLOCK]
        for secret in together
        for start in range(_BLOCK)
    )
    numbers = frozenset(int.from_bytes(block, sys.byteorder) for block in blocks)
    return _Sought(tuple(planted - together), tuple(together), numbers)


def _is_long(secret: str) -> bool:
    return len(secret.lower().encode()) >= 2 * _BLOCK - 1 and len(secret.split()) < _PHRASE


def _holds(low: bytes, secret: str) -> bool:
    words = secret.lower().split()
    if len(words) < _PHRASE:
        return secret.lower().encode() in low
    # Every third word is one of any three; that none is there is found much quicker than a pattern.
    some = any(word.encode() in low for word in words[2::3])
    return some and _pattern(secret.lower()).search(low) is not None


@lru_cache(maxsize=1_000)
def _pattern(phrase: str) -> re.Pattern[bytes]:
    words = phrase.split()
    threes = {
        rb"\W{1,8}".join(word.encode() for word in words[n : n + 3]) for n in range(len(words) - 2)
    }
    return re.compile(rb"\b(?:" + b"|".join(sorted(threes)) + rb")\b")


# === Files ===


def leaks_in(folder: Path) -> Iterator[str]:
    """Yield, a sentence each, which files below a folder hold which secrets."""
    for path in sorted({*folder.rglob("*")} - _GIVEN):
        if path.suffix in _INPUT or path.is_symlink() or not path.is_file():
            continue
        try:
            content = _content(path)
        except OSError:
            continue  # it went away, or is nobody's to read
        # Where a secret is all there is, it is there to be read: a token, and the bot made it.
        alone = content.strip().decode("utf-8", "replace") in PLANTED
        if not alone and (found := secrets_in(content)):
            yield f"expected no secret in {path}, got {', '.join(found)}"


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        head = file.read(_MOST)
    if not head.startswith(_PACKED):
        return head
    unpacked, out = zstandard.ZstdDecompressor(), bytearray()
    try:
        with unpacked.stream_reader(io.BytesIO(head), read_across_frames=True) as reader:
            while len(out) < _MOST and (part := reader.read(2**20)):
                out += part
    except zstandard.ZstdError:
        pass  # it was cut off, as some tests want it
    return bytes(out)


# === pytest ===


def require_none(where: str, *texts: Any) -> None:
    """Fail a test where any text, or bytes, holds a secret."""
    __tracebackhide__ = True
    for text in texts:
        content = text.encode("utf-8", "replace") if isinstance(text, str) else text or b""
        if found := secrets_in(content):
            pytest.fail(f"expected no secret {where}, got {', '.join(found)}", pytrace=False)


class Leaks:
    """Looks at what each test prints as it ends, and at what all of them wrote at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._folders: list[str] = []
        self._patches = pytest.MonkeyPatch()
        self._watch(pytest.CaptureFixture, "readouterr", "on stdout and stderr")
        self._watch(subprocess.Popen, "communicate", "in the output of a program")
        # Whatever is made in a test, as the tokens of its API, may not come out of it either.
        made = secrets.token_urlsafe
        self._patches.setattr(secrets, "token_urlsafe", lambda *size: plant(made(*size)))

    def _watch(self, kind: type[Any], name: str, where: str) -> None:
        """Look at both texts that a method returns."""
        method = getattr(kind, name)

        def watched(*given: Any, **named: Any) -> Any:
            __tracebackhide__ = True
            texts = method(*given, **named)
            require_none(where, *texts)
            return texts

        self._patches.setattr(kind, name, watched)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, Any, Any]:
        """Fail a test that printed a secret, and hide what it printed."""
        report = yield
        for n, (title, text) in enumerate(report.sections):
            if found := secrets_in(text.encode("utf-8", "replace")):
                report.outcome = "failed"
                report.longrepr = f"expected no secret in its {title}, got {', '.join(found)}"
                report.sections[n] = (title, "[hidden]")
        return report

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail the run where a file that a test has left holds a secret."""
        factory = getattr(self._config, "_tmp_path_factory", None)
        folder = None if factory is None else factory._basetemp
        self._folders += [] if folder is None else leaks_in(folder)
        if self._folders:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Name the files."""
        for words in self._folders:
            terminalreporter.write_line(f"FAILED {words}", red=True)

    def pytest_unconfigure(self) -> None:
        """Look no longer."""
        self._patches.undo()


def look_out(config: pytest.Config) -> None:
    """Register the plugin, once."""
    if not config.pluginmanager.has_plugin("leaks"):
        config.pluginmanager.register(Leaks(config), "leaks")


def look_at(folders: Iterable[Path]) -> None:
    """Fail a test whose own directories, which go with it, hold a secret."""
    __tracebackhide__ = True
    for words in (words for folder in folders for words in leaks_in(folder)):
        pytest.fail(words, pytrace=False)
