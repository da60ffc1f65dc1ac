"""The command line: what a person types, checked, and handed to the part that does it.

    words ──► parser (bot.commands) ──► run: the row's own function, loaded now ──► exit code

Only the table of commands is imported for `bot --help`; everything else is loaded when it is used,
so that help and a typing error answer at once.
"""

import argparse
import importlib
import io
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import Final

from bot.commands import COMMANDS, parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. A wrong word is one line of error and a 2."""
    begin_streams()
    typed = list(sys.argv[1:] if arguments is None else arguments)
    if shows_secret(typed):
        print(f"bot: {_SHOWN}", file=sys.stderr)
        return 2
    # `bot` alone, or with options alone, plays the bundled recording.
    if not typed or (typed[0].startswith("-") and typed[0] not in ("-h", "--help", "--version")):
        typed.insert(0, "replay")
    options = parsed(typed)
    former, sys.unraisablehook = sys.unraisablehook, end_again
    from bot.ending import ENDS
    from bot.hangup import handler_of

    # Whoever ends a run politely gets what Ctrl-C gets: its report, its recording closed.
    for number in ENDS[1:]:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler_of(number, options.command))
    code = 0
    try:
        # What these load takes most of a second on a busy machine: Ctrl-C ends that, too.
        from bot.outlet import guarded, uncaught

        sys.excepthook = uncaught
        with guarded():
            code = run(options)
        return flushed(code)
    except BrokenPipeError:
        # The reader has seen enough; the interpreter would complain again while closing it.
        sys.stdout = None
        return code
    except KeyboardInterrupt:
        return 130
    finally:
        sys.unraisablehook = former


def parsed(typed: Sequence[str]) -> argparse.Namespace:
    """Parse what was typed; once help, the version or an error is printed the program ends."""
    try:
        try:
            return parser().parse_args(typed)  # type: ignore[no-any-return]
        except SystemExit as done:
            code = flushed(int(done.code or 0))
    except KeyboardInterrupt:  # this takes a while on a busy machine
        code = 130
    except BrokenPipeError:
        sys.stdout, code = None, 0
    except OSError as error:
        sys.stdout, code = None, 2
        print(f"{_NO_FILE}{words_of(error)}", file=sys.stderr)
    raise SystemExit(code)


def end_again(lost: "sys.UnraisableHookArgs") -> None:
    """Raise what was to end the program a moment later, where Python could not; else as ever.

    It comes between any two steps: while Python closes a generator that nobody needs any more, say,
    and from there nothing is raised. Then a run that was to end would go on.
    """
    if lost.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(lost)
        return
    import threading

    from bot.ending import ENDS

    # Below nohup one is ignored: what ends this program then is another.
    ends = (one for one in ENDS if signal.getsignal(one) is signal.default_int_handler)
    again = threading.Timer(_MOMENT_S, interrupt, [next(ends, signal.SIGINT)])
    again.daemon = True
    again.start()


def interrupt(number: signal.Signals) -> None:
    """Let the main thread get a signal, also where it waits."""
    if hasattr(signal, "pthread_kill"):
        import threading

        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        import _thread

        _thread.interrupt_main(number)


_MOMENT_S: Final = 0.05


def begin_streams() -> None:
    """See to it that there are streams, and that they take any text."""
    # Python has no stream where there is no file (2>&-), and all else here counts on one.
    for name, how in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, how, encoding="utf-8"))  # noqa: SIM115 - to the end
    # A terminal that cannot show an arrow gets a question mark, not a traceback.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def flushed(code: int) -> int:
    """Return the exit code; where what was printed has nowhere to go a line says so, and a 2."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            setattr(sys, name, None)  # the interpreter would try again, and fail
            print(f"{_NO_FILE}{words_of(error)}", file=sys.stderr)  # of None nothing is printed
            code = code or 2
    return code


def words_of(error: Exception) -> str:
    """Return what an error says, without the numbers and names that only a program needs."""
    return _NUMBERED.sub("", str(error))


_NUMBERED: Final = re.compile(r"\bConnect\w*Error: |\[Errno -?\d+\] ")
_NO_FILE: Final = "bot: expected files that can be read and written, got "


def run(options: argparse.Namespace) -> int:
    """Load what does a command and run it; what is expected to go wrong is one line and a 2."""
    try:
        module, _, function = COMMANDS[options.command].does.partition(":")
        code: int = getattr(importlib.import_module(module), function)(options)
        return code
    except raised() as error:
        print(f"bot: {words_of(error)}", file=sys.stderr)
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"{_NO_FILE}{words_of(error)}", file=sys.stderr)
    return 2


def raised() -> tuple[type[Exception], ...]:
    """Return what the layers raise for what was not expected; one not loaded raised nothing.

    To load all of them for their names alone would take half of what a look into the database does.
    """
    names = {
        "dydx_conn": "ConnError", "dydx_panels": "PanelError", "dydx_signals": "SignalError",
        "dydx_strategy": "StrategyError",
    }  # fmt: skip
    return tuple(getattr(sys.modules[of], name) for of, name in names.items() if of in sys.modules)


# === Secrets ===
# A key typed in the wrong place is in the shell's history already; it is not repeated here as well.

_SHOWN: Final = (
    "expected no key among the arguments, got what looks like a mnemonic or a private key: by now "
    "the shell's history has it, and every process could read it. Move what it holds to another "
    "key; where a key belongs: bot trade --help"
)


def shows_secret(typed: Sequence[str]) -> bool:
    """Return whether a key is among the arguments, in one of them or a word in each."""
    whole = [part for text in typed for part in (text, text.partition("=")[2])]
    # No layer is loaded for arguments that are too short to be one.
    if len(" ".join(typed).split()) < 12 and not any(len(text) >= 64 for text in whole):
        return False
    from dydx_conn import is_secret

    return any(map(is_secret, whole)) or is_secret(" ".join(typed))


if __name__ == "__main__":
    raise SystemExit(main())
