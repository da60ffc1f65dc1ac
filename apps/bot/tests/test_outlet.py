"""What leaves the program: no terminal acts upon it, and no key is repeated."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import pytest
from bip_utils import Bip39MnemonicGenerator, Bip39WordsNum
from bot.__main__ import main
from bot.outlet import Outlet, behind, guarded, uncaught
from dydx_conn import ChainTip, Frame, Header, Recording, RecordingWriter, find_recording
from leaks import as_input, plant
from msgspec.structs import replace
from reactivex import from_iterable

# Made for each run of the tests: it holds nothing, and nobody knows it.
MNEMONIC = plant(str(Bip39MnemonicGenerator().FromWordsNumber(Bip39WordsNum.WORDS_NUM_24)))
HEX = "4b" * 32
ESCAPES = "\x1b]0;owned\x07\x9b31m\u202e"


def shows(text: str) -> bool:
    """Return whether a text shows two words of the mnemonic beside each other."""
    return any(f"{one} {two}" in text for one, two in pairwise(MNEMONIC.split()))


# === Arguments ===

PLACES: list[Callable[[str], list[str]]] = [
    lambda secret: ["trade", "--keys", secret],
    lambda secret: ["trade", f"--keys={secret}"],
    lambda secret: ["trade", "--address", secret],
    lambda secret: ["trade", "--subaccount", secret],
    lambda secret: ["trade", "--authenticators", secret],
    lambda secret: ["trade", "--network", secret],
    lambda secret: ["cancel-all", "--keys", secret],
    lambda secret: ["keys", "address", "--keys", secret],
    lambda secret: ["keys", secret],
    lambda secret: ["keys", "save", secret],
    lambda secret: ["replay", secret],
    lambda secret: ["replay", "quickstart", secret],
    lambda secret: ["replay", "--speed", secret],
    lambda secret: ["panel", secret],
    lambda secret: ["why", secret],
    lambda secret: ["halt", secret],
    lambda secret: [secret],
    lambda secret: ["trade", "--keys", *secret.split()],
    lambda secret: ["replay", *secret.split()],
    lambda secret: secret.split(),
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("secret", [MNEMONIC, MNEMONIC.upper(), HEX, f"0x{HEX}"])
def test_a_key_in_a_wrong_place_is_not_repeated(
    place: Callable[[str], list[str]], secret: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whichever place: a 2, and what to do about it."""
    assert main(place(secret)) == 2

    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        "bot: expected no key among the arguments, got what looks like a mnemonic or a private "
        "key: by now the shell's history has it, and every process could read it. Move what it "
        "holds to another key; where a key belongs: bot trade --help\n"
    )


@pytest.mark.parametrize(
    ("variable", "typed", "instead"),
    [
        ("DYDX_ADDRESS", ["keys", "address"], "[redacted]"),
        ("DYDX_ENVIRONMENT", ["paper"], "got what looks like a secret"),
    ],
)
def test_a_key_in_a_wrong_variable_is_not_repeated(
    variable: str,
    typed: list[str],
    instead: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The error stays, without it."""
    monkeypatch.setenv("DYDX_PRIVATE_KEY", HEX)
    monkeypatch.setenv(variable, MNEMONIC)

    assert main(typed) == 2

    printed = capsys.readouterr().err
    assert instead in printed
    assert not shows(printed)


def test_what_is_left_over_is_counted_and_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    """A passphrase looks like any word; an option is named, so that it can be corrected."""
    with pytest.raises(SystemExit, match="2"):
        main(["replay", "quickstart", "hunter2", "--sped=9", "correct horse"])

    printed = capsys.readouterr().err
    assert "got --sped (the nearest is --speed) and 2 more words" in printed
    assert "hunter2" not in printed
    assert "horse" not in printed


def test_a_key_that_is_mistyped_beyond_recognition_is_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is no path is not repeated; a path is, to be corrected."""
    assert main(["keys", "address", "--keys", "four words of nothing"]) == 2
    assert main(["keys", "address", "--keys", "no/such/file"]) == 2

    words, path = capsys.readouterr().err.splitlines()
    assert words == "bot: expected env, keyring:NAME or an encrypted key file, got 4 words"
    assert path.endswith("got 'no/such/file'")


def test_an_argument_acts_upon_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither by way of a parser's error nor of the bot's own."""
    with pytest.raises(SystemExit, match="2"):
        main([f"{ESCAPES}repaly"])
    assert main(["replay", f"/{ESCAPES}"]) == 2

    printed = capsys.readouterr().err
    assert all(character.isprintable() or character == "\n" for character in printed)


# === Streams ===


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """Record what a venue may send: names that are escape sequences, and a key."""
    path, evil = as_input(tmp_path / "hostile.jsonl.zst"), f"EVIL{ESCAPES}\nrun hash     none-USD"
    header = Header(network="local", rest="", ws="", client="", source=f"{ESCAPES} {MNEMONIC}")
    writer = RecordingWriter(path, header)
    for frame in Recording(find_recording("quickstart")):
        text = frame.text.replace("SOL-USD", json.dumps(evil)[1:-1])
        writer.write_frame(replace(frame, text=text, id=frame.id.replace("SOL-USD", evil)))
        if frame.seq > 400:
            break
    writer.write_frame(
        Frame(401, 1, 1, "c1", "close", f"Handshake status 403 {ESCAPES} {MNEMONIC}", "1006")
    )
    writer.close()
    return path


@pytest.mark.parametrize(
    "typed", [["replay"], ["replay", "--report"], ["replay", "--json"], ["panel", "markets"]]
)
def test_what_a_venue_sends_acts_upon_no_terminal(
    hostile: Path, typed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A ticker, a reason, a source: in the report, as JSON and in a panel."""
    command, *rest = typed
    assert main([command, *rest, str(hostile)]) == 0

    printed = capsys.readouterr().out
    assert "EVIL" in printed
    assert all(character.isprintable() or character == "\n" for character in printed)
    assert not shows(printed)
    assert printed.count("\nrun hash") <= 1


def test_the_reason_of_a_refused_handshake_acts_upon_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the doctor's checks and in the error of a run that got no frames."""
    reason = f"Handshake status 403 {ESCAPES}\nok       node         fine"
    refused = [Frame(1, 1, 1, "c1", "close", reason, "0"), Frame(2, 2, 2, "rest", "gap", reason)]

    def answer(*_: Any, pace: Callable[[Frame], bool], **__: Any) -> Any:
        return from_iterable(takewhile(pace, [*refused, Frame(3, 10**12, 10**12, "", "tick", "")]))

    monkeypatch.setattr("bot.config.validation.live", answer)
    monkeypatch.setattr("bot.live.commands.live", answer)
    monkeypatch.setattr(
        "bot.config.validation.chain_tip", lambda net: ChainTip(net.chain_id, 1, 1, 1)
    )

    assert main(["doctor", "--network", "local"]) == 1
    assert main(["paper", "--network", "local"]) == 2

    printed = "".join(capsys.readouterr())
    assert printed.count("Handshake status 403 ?]0;owned??31m?") >= 3
    assert all(character.isprintable() or character == "\n" for character in printed)
    assert "\nok       node         fine" not in printed.partition("bot: ")[0]


def test_a_bugs_traceback_is_clean_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody caught is printed by Python itself."""
    monkeypatch.setattr(sys, "stderr", written := io.StringIO())
    try:
        raise ValueError(f"{ESCAPES} {MNEMONIC}")
    except ValueError as error:
        uncaught(ValueError, error, error.__traceback__)

    printed = written.getvalue()
    assert "Traceback" in printed
    assert "ValueError: ?]0;owned??31m? [redacted]" in printed


def test_an_outlet_is_a_stream_like_the_one_behind_it(tmp_path: Path) -> None:
    """It counts what it was given, and is gone with its command."""
    with (tmp_path / "out").open("w+", encoding="utf-8") as file:
        outlet = Outlet(file)
        assert outlet.write("a\x1bb\n\tc") == 6
        outlet.flush()
        assert (outlet.encoding, outlet.fileno(), outlet.isatty()) == (
            "utf-8",
            file.fileno(),
            False,
        )
        assert behind(outlet) is behind(file) is file
    assert (tmp_path / "out").read_text() == "a?b\n\tc"

    before = sys.stdout
    with guarded():
        assert behind(sys.stdout) is before
    assert sys.stdout is before


def test_a_dashboard_still_draws(hostile: Path) -> None:
    """Its own escape sequences go to the terminal, and nothing that a venue has put in a name."""
    code = "import pty, sys; sys.exit(pty.spawn([sys.executable, '-m', 'bot', *sys.argv[1:]]) >> 8)"
    typed = [sys.executable, "-c", code, "panel", "markets", str(hostile), "--plain"]
    drawn: Any = subprocess.run(typed, capture_output=True, check=True, timeout=60).stdout

    assert b"\x1b[" in drawn
    assert b"EVIL" in drawn
    assert b"\x1b]" not in drawn
    assert b"\x07" not in drawn
    assert "\x9b".encode() not in drawn


# === Streams that are gone ===


@pytest.mark.parametrize("how", ["2>/dev/full", "2>&-", ">&-", "<&-"])
def test_a_stream_that_is_full_or_closed_ends_nothing(how: str) -> None:
    """The command does what it does, and its exit code is its own."""
    command = f"{sys.executable} -m bot replay account --plain --json {how} | tail -c 70"

    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0
    assert done.stderr == ""
    assert ("machine" in done.stdout or "}" in done.stdout) is (how != ">&-")


@pytest.mark.parametrize("typed", ["keys address", "--help", "--version"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_report_that_has_nowhere_to_go_is_no_success(unbuffered: str, typed: str) -> None:
    """And one line says why, whether it is noticed as it is printed or at the end."""
    command = [sys.executable, "-m", "bot", *typed.split()]
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            env={**os.environ, "DYDX_PRIVATE_KEY": HEX, "PYTHONUNBUFFERED": unbuffered},
        )  # fmt: skip

    assert done.returncode == 2
    assert done.stderr.endswith("got No space left on device\n")
    assert done.stderr.count("\n") == 1
