"""What the doctor has to say about a log, an API and where notices go, before a run begins."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bot.__main__ import main
from bot.config.loaded import load
from bot.config.validation import Check
from bot.doctor.services import services
from bot.logs.run import logs_directory
from bot.run.acts import private, state_directory
from bot.serve.tokens import default_file, made


def found(**chosen: Any) -> dict[str, Check]:
    """Look at what is chosen by dotted paths, with __ between."""
    typed = {name.replace("__", "."): ("typed", value) for name, value in chosen.items()}
    return {check.name: check for check in services(load(typed).settings)}


def test_where_nothing_is_chosen_all_is_well() -> None:
    """A log of each account, no API."""
    checks = found()

    assert {check.outcome for check in checks.values()} == {"ok"}
    assert checks["log"].seen.endswith("logs, each at most 60 MB, from info on")
    assert checks["api"].seen.startswith("none is wanted")
    assert found(log__file="none")["log"].seen.startswith("none is wanted")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: None, ""),
        (lambda path: path.write_text("x"), ""),
        (lambda path: path.mkdir(), "got something that is no file"),
        (lambda path: path.symlink_to("x"), "got something that is no file"),
        (lambda path: path.parent.rmdir(), "got no directory"),
    ],
)
def test_a_log_that_was_chosen_and_cannot_be_fails(
    tmp_path: Path, make: Callable[[Path], object], why: str
) -> None:
    """With why; nothing is made."""
    path = tmp_path / "logs" / "bot.jsonl"
    path.parent.mkdir()
    make(path)
    before = sorted(tmp_path.rglob("*"))

    check = found(log__file=str(path))["log"]

    assert (check.outcome, bool(check.hint)) == (("failed", True) if why else ("ok", False))
    assert why in check.seen
    assert sorted(tmp_path.rglob("*")) == before


def test_a_log_without_permission_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where another user's bot wrote it."""
    monkeypatch.setattr("bot.doctor.services.os.access", lambda *_: False)

    assert found(log__file=str(tmp_path / "x"))["log"].seen.endswith("got no permission")


def test_a_directory_of_logs_that_others_may_write_to_is_a_warning() -> None:
    """A run goes on without its log."""
    private(state_directory())
    logs_directory().mkdir()
    logs_directory().chmod(0o777)

    check = found()["log"]

    assert (check.outcome, check.hint) == ("warning", f"ls -ld {logs_directory()}")


def test_an_address_that_is_taken_fails_and_one_that_is_free_is_let_go() -> None:
    """With what to do."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        check = found(api__address=address)["api"]
        assert (check.outcome, "bot status" in check.hint) == ("failed", True)
        assert address in check.seen

    for _ in range(2):
        assert found(api__address=address)["api"].seen == f"{address} is free"


def test_an_address_beyond_loopback_wants_a_certificate() -> None:
    """As a start does."""
    check = found(api__address="0.0.0.0:0")["api"]

    assert (check.outcome, "expected api.certificate" in check.seen) == ("failed", True)


def test_a_token_that_others_may_read_fails() -> None:
    """None yet is well: the first run makes it."""
    address = "127.0.0.1:0"
    assert found(api__address=address)["read token"].seen.startswith(
        "none yet: the first run makes"
    )

    made(default_file("read"))
    assert found(api__address=address)["read token"].seen.endswith("is yours alone")

    default_file("read").chmod(0o644)
    check = found(api__address=address)["read token"]
    assert (check.outcome, check.hint) == (
        "failed", "bot token read --new makes one, readable by you alone",
    )  # fmt: skip


def test_the_doctor_fails_where_a_start_would_be_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is typed counts as it would for a run; files with secrets are looked at."""
    key = tmp_path / "key.pem"
    key.write_text("")
    key.chmod(0o644)
    typed = ["--log", str(tmp_path / "none" / "x"), "--api-key", str(key)]

    code = main(["doctor", "--offline", "--json", *typed])

    checks = {row["name"]: row for row in json.loads(capsys.readouterr().out)["machine"]}
    assert (code, checks["log"]["outcome"]) == (1, "failed")
    assert checks["permissions"]["hint"] == f"chmod 600 {key}"
    assert "the log" in checks["disk"]["seen"]


def test_each_sink_of_notices_is_looked_at() -> None:
    """Nothing is sent; one whose address is not there fails."""
    assert found()["notices"].outcome == "ok"

    sinks = [{"name": "phone", "url_file": "/none"}, {"name": "hook", "url": "json://127.0.0.1:9/"}]
    checks = found(notify__sinks=sinks)

    assert {name: checks[name].outcome for name in checks if name.startswith("sink")} == {
        "sink phone": "failed", "sink hook": "ok",
    }  # fmt: skip
