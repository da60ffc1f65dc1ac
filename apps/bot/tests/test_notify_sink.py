"""Sinks on the loopback: that takes, refuses, fails for a while, hangs, and comes back."""

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bot.notify.sink
import pytest
from bot.config.notify import SinkSettings
from bot.notify.notice import Message
from bot.notify.sending import Attempt, SinkError, address_of, deliver, service_of, without
from bot.notify.sink import Sink
from bot.notify.spool import Spool
from dydx_conn import ConnError
from pydantic import SecretStr
from runbook import is_in, pages
from webhook import Hook, listening

PATIENCE_S = 10.0


@pytest.fixture
def hook() -> Iterator[Hook]:
    """Return a webhook on a port of its own."""
    with listening(Hook()) as made:
        yield made


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setattr(bot.notify.sink, "RETRY_S", (0.01,))
    monkeypatch.setattr(bot.notify.sink, "_LOOK_S", 0.01)


def message(title: str = "x", **given: Any) -> Message:
    """Return a message."""
    fields: dict[str, Any] = {"at": 1, "level": "critical", "body": "words"} | given
    return Message(title=title, **fields)


def until(holds: Callable[[], object]) -> None:
    """Wait until something holds, within a bound."""
    tick = threading.Event()
    for _ in range(2_000):
        if holds():
            return
        tick.wait(0.005)
    pytest.fail("it never came")


@contextmanager
def running(url: str, timeout_s: float = 20.0, ends_s: float = 60.0) -> Iterator[Sink]:
    """Start a sink, and end it soon."""
    sink = Sink("hook", lambda: url, timeout_s=timeout_s)
    sink.start()
    try:
        yield sink
    finally:
        sink.end_within(ends_s)
        sink.close()


def test_messages_are_delivered_in_order(hook: Hook) -> None:
    """With title, body and how grave they are; then nothing waits."""
    with running(hook.url) as sink:
        for n in range(3):
            sink.put(message(str(n), omitted=n))

    assert hook.titles == ["0", "1", "2"]
    assert (hook.got[0]["message"], hook.got[0]["type"]) == ("words", "failure")
    assert hook.got[2]["message"].endswith("2 notices before it were too many to be stored")
    assert (sink.sent, sink.failed, sink.waiting, sink.trouble) == (3, 0, 0, "")


def test_a_sink_that_fails_is_tried_again_until_it_takes_it(hook: Hook) -> None:
    """Each message once, in order."""
    hook.answers = itertools.chain([500, 429, 500], itertools.repeat(200))
    with running(hook.url) as sink:
        sink.put(message("first"))
        sink.put(message("second"))
        until(lambda: sink.sent == 2)

    assert hook.titles == ["first", "second"]
    assert (sink.failed, sink.failing) == (3, "")


def test_what_nobody_takes_is_sent_by_the_next_run(hook: Hook) -> None:
    """Nothing is lost between the two, and the address may be mended meanwhile."""
    with running("json://127.0.0.1:1/") as refused:
        refused.put(message("first"))
        refused.put(message("second"))
        until(lambda: refused.failing)
    assert "onnection" in refused.failing
    assert len(Spool("hook").waiting()) == 2

    with running(hook.url) as sink:
        sink.put(message("third"))

    assert hook.titles == ["first", "second", "third"]
    assert sink.waiting == 0


def test_a_sink_that_hangs_holds_up_nobody_and_loses_nothing(hook: Hook) -> None:
    """Putting takes no time; there is one attempt, and it counts once it is taken."""
    hook.goes.clear()
    before = threading.active_count()
    with running(hook.url, timeout_s=0.02) as sink:
        for n in range(3):
            sink.put(message(str(n)))
        until(lambda: sink.failing == "no answer within 0.02 s")
        assert sink.waiting == 3
        assert threading.active_count() <= before + 3  # sink, attempt, and the server's own
        hook.goes.set()
        until(lambda: sink.sent == 3)

    assert hook.titles == ["0", "1", "2"]


def test_a_run_ends_soon_though_a_sink_hangs(hook: Hook) -> None:
    """What was not taken is left to the next one."""
    hook.goes.clear()
    with running(hook.url, ends_s=0.05) as sink:
        sink.put(message("late"))
        until(lambda: sink._attempt is not None)

    assert hook.titles == []
    assert [path.suffix for path in Spool("hook").waiting()] == [".json"]


def test_a_sink_that_never_started_ends_too() -> None:
    """As that of a run that was refused."""
    sink = Sink("hook", lambda: "json://127.0.0.1:1/", timeout_s=1)
    sink.end_within(0.0)
    sink.close()

    assert sink.trouble == ""


def test_a_disk_that_takes_nothing_is_reported_and_messages_are_sent_from_memory(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to a bound; what is more is counted."""
    monkeypatch.setattr(Spool, "add", no_space)
    monkeypatch.setattr(bot.notify.sink, "MOST", 2)
    sink = Sink("hook", lambda: hook.url, timeout_s=5)
    for n in range(4):
        sink.put(message(str(n), count=2))
    assert (sink.waiting, sink.lost) == (2, 4)
    sink.start()
    until(lambda: sink.sent == 2)
    sink.end_within(1.0)
    sink.close()

    assert hook.titles == ["0", "1"]
    assert "No space left" in sink.trouble
    assert sink.trouble.endswith("4 notices are lost")


def test_what_is_in_memory_alone_at_the_end_is_reported_as_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the reason."""
    monkeypatch.setattr(Spool, "add", no_space)
    with running("json://127.0.0.1:1/") as sink:
        sink.put(message(count=3))
        until(lambda: sink.failing)

    assert sink.trouble.endswith("No space left on device: 3 are lost")


def no_space(*_: Any) -> None:
    """Raise what a full disk raises."""
    raise OSError(28, "No space left on device")


def test_a_sink_that_fails_for_long_is_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it answers, how many wait, and where; a damaged file is named as well."""
    monkeypatch.setattr(bot.notify.sink, "_TROUBLE_S", 0.0)
    with running("json://127.0.0.1:1/") as sink:
        sink.spool.add(message()).write_text("{")
        sink.put(message())
        until(lambda: "1 wait in" in sink.trouble)

    assert "1 damaged or refused, set aside as" in sink.trouble
    assert "expected hook to take notices, got for 0 s: " in sink.trouble
    assert is_in(pages()["No notice comes"].shows[0], sink.trouble)


def test_an_address_that_is_none_is_trouble_at_once(hook: Hook) -> None:
    """Though nothing is to be sent yet; once it is mended it is none."""
    address = ["gopher://secret/"]
    sink = Sink("hook", lambda: address[0], timeout_s=5.0)
    sink.start()
    until(lambda: sink.trouble)
    what = "expected an address that apprise knows (its wiki lists them), got gopher://***"
    assert sink.trouble == f"{what}: notices wait in {sink.spool.path}"
    assert is_in(pages()["No notice comes"].shows[1], sink.trouble)
    address[0] = hook.url
    sink.put(message())
    until(lambda: not sink.trouble)
    sink.end_within(1.0)
    sink.close()

    assert hook.titles == ["x"]


def test_a_message_that_is_never_taken_holds_up_no_other(hook: Hook) -> None:
    """It is set aside and named once another one is taken; where none is, all of them wait."""
    hook.answers = itertools.repeat(500)
    with running(hook.url) as sink:
        for n in range(3):
            sink.put(message(str(n)))
        until(lambda: sink.failed > 20)
        assert sink.waiting == 3
        # From here on all but the oldest are taken, as it is with one that is too long.
        hook.refuses = "0"
        hook.answers = itertools.repeat(200)
        until(lambda: sink.sent == 2)

    assert hook.titles == ["1", "2"]
    assert [path.suffix for path in sink.spool.aside] == [".refused"]
    assert "1 damaged or refused, set aside as" in sink.trouble


def test_what_goes_wrong_on_the_disk_stops_no_sink(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be read is tried again; what was sent and cannot be removed is sent once."""
    reads = iter([PermissionError("no"), ValueError("odd")])
    oldest, unlink = Spool.oldest, Path.unlink

    def failing(spool: Spool, **given: Any) -> Any:
        if (error := next(reads, None)) is not None:
            raise error
        return oldest(spool, **given)

    def fixed(path: Path, **given: Any) -> None:
        if path.suffix == ".json" and not path.name.startswith("."):
            raise PermissionError
        unlink(path, **given)

    monkeypatch.setattr(Spool, "oldest", failing)
    monkeypatch.setattr(Path, "unlink", fixed)
    with running(hook.url) as sink:
        sink.put(message("a"))
        sink.put(message("b"))
        until(lambda: sink.sent == 2)
        until(lambda: sink.waits == 0)

    assert hook.titles == ["a", "b"]
    assert sink.failed == 2


def test_a_service_that_cannot_be_made_is_no_end(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it raises: messages are sent once it can."""

    def odd(_: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(bot.notify.sink, "service_of", odd)
    with running(hook.url) as sink:
        sink.put(message("a"))

    assert hook.titles == ["a"]


def test_another_process_may_be_the_one_that_sends(hook: Hook) -> None:
    """Then messages are left to it."""
    other = Spool("hook")
    with other.held(), running(hook.url) as sink:
        sink.put(message("theirs"))
    other.close()

    assert hook.titles == []
    assert len(other.waiting()) == 1


# === Addresses ===


def sink(**given: Any) -> SinkSettings:
    """Return a sink."""
    return SinkSettings(name="phone", **given)


def test_an_address_is_where_it_is_configured_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the clear, in a variable, in a private file, or sealed."""
    file = tmp_path / "address"
    file.touch(0o600)
    file.write_text("tgram://1:file/2\n")
    monkeypatch.setenv("PHONE_URL", "tgram://1:variable/2")
    sealed = SecretStr("mail=mailto://a:b@example.com\nphone=tgram://1:sealed/2")

    assert address_of(sink(url="json://127.0.0.1:1/"), sealed) == "json://127.0.0.1:1/"
    assert address_of(sink(url_env="PHONE_URL"), sealed) == "tgram://1:variable/2"
    assert address_of(sink(url_file=str(file)), sealed) == "tgram://1:file/2"
    assert address_of(sink(), sealed) == "tgram://1:sealed/2"


def readable(path: Path) -> None:
    """Let everybody read it."""
    path.write_text("tgram://1:hidden/2")
    path.chmod(0o644)


def written(text: bytes) -> Callable[[Path], None]:
    """Return what writes a private file."""

    def write(path: Path) -> None:
        path.touch(0o600)
        path.write_bytes(text)

    return write


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (readable, "readable by you alone (chmod 600), got mode 644"),
        (Path.mkdir, "expected the address of phone in"),
        (lambda path: os.mkfifo(path, 0o600), "expected a file in"),
        (lambda path: path.symlink_to("/dev/null"), "expected the address of phone in"),
        (lambda path: None, "got No such file or directory"),
        (written(b"\xff\xfe"), "got no text"),
        (written(b""), "expected one address in"),
        (written(b"tgram://1:hidden/2 and more"), "got 3"),
    ],
)
def test_a_file_that_holds_no_address_is_refused(
    make: Callable[[Path], Any], words: str, tmp_path: Path
) -> None:
    """In words, and without what it holds."""
    make(path := tmp_path / "address")

    with pytest.raises(SinkError, match="expected") as refused:
        address_of(sink(url_file=str(path)), SecretStr(""))

    assert words in str(refused.value)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"url_env": "PHONE_URL"}, "expected the address of phone in PHONE_URL, got nothing"),
        ({}, "expected the address of phone in url, url_env, url_file or notify.urls, got none"),
    ],
)
def test_an_address_that_is_nowhere_is_refused(given: dict[str, str], words: str) -> None:
    """By the name of its sink."""
    with pytest.raises(ConnError, match="expected") as refused:
        address_of(sink(**given), SecretStr("mail=mailto://a:b@example.com"))

    assert str(refused.value) == words


# === Delivery ===


def test_what_a_service_answers_is_repeated_without_its_token() -> None:
    """Nor with any other part of the address."""
    address = "tgram://123456:AAtoken/987654?thread=topic1"

    assert without(address, "401 at /bot123456:AAtoken/send to 987654, topic1: AA") == (
        "401 at /bot***:***/send to ***, ***: AA"
    )


def test_without_apprise_it_is_named_and_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra."""
    monkeypatch.setitem(__import__("sys").modules, "apprise", None)

    with pytest.raises(SinkError, match=r"expected bot\[notify\] to be installed"):
        service_of("json://127.0.0.1/")


def test_what_apprise_needs_loads_without_a_word_whatever_other_threads_do_about_warnings() -> None:
    """What is silenced meanwhile may be lost: another thread puts back the filters it found."""
    code = (
        "import warnings; warnings.simplefilter = lambda *_, **__: None\n"
        "from bot.notify import sending; sending._forgo_socks(); import requests"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_a_failed_delivery_prints_nothing_and_returns_why(
    hook: Hook, capfd: pytest.CaptureFixture[str]
) -> None:
    """Apprise logs addresses: they are nobody else's."""
    hook.answers = itertools.repeat(403)

    why = deliver(hook.url, message())

    assert "403" in why
    assert capfd.readouterr() == ("", "")


def test_whatever_a_service_raises_is_why_it_was_not_taken() -> None:
    """On the thread of the attempt, and without the address."""

    def raising(*_: Any) -> str:
        raise ValueError("no chat secret99")

    attempt = Attempt(raising, lambda: "tgram://secret99/", message())

    assert attempt.wait(PATIENCE_S) == "ValueError: no chat ***"
