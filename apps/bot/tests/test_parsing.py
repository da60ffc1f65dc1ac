"""What is typed wrong: one line, with what was expected, what it was and what is most like it."""

from pathlib import Path

import pytest
from bot.__main__ import main, words_of
from bot.commands import parser


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("fly", "bot: expected a command, got 'fly'"),
        ("pappr", "bot: expected a command, got 'pappr' (the nearest is paper)"),
        ("my.zst", "bot: expected a command, got 'my.zst' (bot replay my.zst plays a recording)"),
        ("--sped 3", "bot replay: expected no more arguments, got --sped (the nearest is --speed)"),
        ("replay -x", "bot replay: expected no more arguments, got -x"),
        ("replay a b c", "bot replay: expected no more arguments, got 2 more words"),
        ("paper --tickers A A", "bot paper: expected no more arguments, got 1 more word"),
        ("replay a b -x", "bot replay: expected no more arguments, got -x and 1 more word"),
        ("replay --speed", "bot replay: --speed: expected a value, got none"),
        ("replay --speed x", "bot replay: --speed: expected a number above 0, got x"),
        ("replay --json=3", "bot replay: --json: expected no value, got '3'"),
        ("replay --deposit 1.5", "bot replay: --deposit: expected a whole number, 0 or more"),
        (
            "replay --st 3",
            "bot replay: expected one of --stay, --strategy, --state, --strict, got --st",
        ),
        ("strategy", "bot strategy: expected check and FILE, got none"),
        ("keys", "bot keys: expected one of address, save, rotate, got none"),
        (
            "keys adress",
            "bot keys: expected one of address, save, rotate, got 'adress' (the nearest is "
            "address)",
        ),
        ("halt x", "bot halt: expected a whole number, 0 or more, got 'x'"),
        ("trade --authenticators 1,x", "bot trade: --authenticators: expected whole numbers such"),
        ("trade --subaccount -1", "bot trade: --subaccount: expected a whole number, 0 or more"),
        ("paper --rest foo", "bot paper: --rest: expected an address such as https://"),
        ("paper --ws http://x", "bot paper: --ws: expected an address such as wss://"),
        ("paper --node x", "bot paper: --node: expected an address such as grpc.example.com:443"),
        ("paper --tickers A-USD,a-usd", "bot paper: --tickers: expected each ticker once, got A"),
        ("paper --markets B-USD,B-USD", "bot paper: --markets: expected each ticker once, got B"),
        ("paper --tickers A --markets A", "bot paper: expected --tickers once, as in --tickers A"),
        ("panel all --svg .", "bot panel: --svg: expected a file to write, got ., a directory"),
        (
            "replay --save-state /no/x",
            "bot replay: --save-state: expected a file to write, got /no/x: there is no directory",
        ),
    ],
)
def test_a_wrong_word_is_one_line_and_a_two(
    typed: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is loaded or run; it names the help that lists what is right."""
    with pytest.raises(SystemExit) as refused:
        main(typed.split())

    error = capsys.readouterr().err
    assert refused.value.code == 2
    assert error.startswith(message)
    assert error.endswith("--help lists what can be typed\n")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError(2, "No such file", "a.json"), "No such file: 'a.json'"),
        (
            OSError("expected x to answer, got ConnectError: [Errno -2] Name not known"),
            "expected x to answer, got Name not known",
        ),
        (ValueError("got SyntaxError: invalid syntax"), "got SyntaxError: invalid syntax"),
    ],
)
def test_an_error_is_printed_without_what_only_a_program_needs(
    error: Exception, words: str
) -> None:
    """Numbers of the system, names of the libraries; a bug of the user's code has its name."""
    assert words_of(error) == words


def test_who_ends_the_program_while_words_are_parsed_sees_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That takes a while on a busy machine; the exit code is that of any other Ctrl-C."""

    def ended(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bot.__main__.parser", ended)

    with pytest.raises(SystemExit) as done:
        main(["history"])

    assert done.value.code == 130


def test_a_file_that_may_not_be_written_is_refused_before_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For lack of permission, too."""
    monkeypatch.setattr("os.access", lambda *_: False)

    with pytest.raises(SystemExit):
        main(["replay", "--save-state", str(tmp_path / "x")])

    assert "no permission" in capsys.readouterr().err


@pytest.mark.parametrize(
    "typed", ["panel flow --market ETH-USD account", "panel --market ETH-USD flow account"]
)
def test_words_may_stand_behind_options(typed: str) -> None:
    """In any order: argparse alone would leave the last one over."""
    options = parser().parse_args(typed.split())

    assert (options.panel, options.market, options.recording) == ("flow", "ETH-USD", "account")
