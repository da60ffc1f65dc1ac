"""`bot notify`: where notices go, what waits, and whether a sink takes any."""

import json
from collections.abc import Iterator

import pytest
from bot.__main__ import main
from bot.config.loaded import load
from bot.config.notify import NotifySettings, SinkSettings
from bot.doctor.services import services
from bot.notify.command import check_sinks
from bot.notify.notice import Held, Message, Notice
from bot.notify.spool import Spool
from bot.notify.throttle import Flow
from pydantic import SecretStr
from runbook import is_in, pages
from webhook import Hook, listening

TOKEN = "123456789:AAhidden_hidden_hidden_hidden_hidd"


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    """Return a webhook that is a sink of the settings, beside one where nobody listens."""
    with listening(Hook()) as made:
        sinks = [
            {"name": "hook", "url": made.url},
            {"name": "dead", "url": "json://127.0.0.1:1/", "level": "critical"},
            {"name": "phone", "url_env": "PHONE_URL", "kinds": ["guard", "liquidation"]},
        ]
        monkeypatch.setenv("DYDX__NOTIFY__SINKS", json.dumps(sinks))
        yield made


def waits(sink: str) -> None:
    """Leave a message, and an event that was held back, as a run does."""
    spool = Spool(sink)
    spool.add(Message(at=1, level="info", title="left", body=""))
    notice = Notice(kind="order", subject="X", at=10**18, level="warning", title="rejected")
    spool.leave(Flow(1, held={"order X": Held(1, 3, notice)}))


def test_it_lists_where_notices_go_and_what_waits(
    hook: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    """And nothing is sent."""
    waits("hook")
    Spool("dead").add(Message(at=1, level="info", title="", body="")).write_text("{")
    Spool("dead").oldest()

    assert main(["notify"]) == 1  # the variable of one is not set

    assert capsys.readouterr().out.splitlines() == [
        f"hook         {hook.url}",
        "             all kinds; 1 message waits, 3 events held back",
        "dead         json://127.0.0.1:1/",
        "             all kinds, critical or graver; nothing waits",
        f"             set aside in {Spool('dead').path}: "
        f"{next(Spool('dead').path.glob('*.damaged')).name}",
        "phone        expected the address of phone in PHONE_URL, got nothing",
        "             guard, liquidation; nothing waits",
    ]
    assert hook.got == []


def test_a_test_reports_what_came_of_it(
    hook: Hook, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each sink or of one; an address is never printed."""
    monkeypatch.setenv("PHONE_URL", f"nothing://{TOKEN}/42")

    assert main(["notify", "test", "hook"]) == 0
    taken = capsys.readouterr().out
    assert main(["notify", "test", "--json"]) == 1
    rows = {row["sink"]: row for row in json.loads(capsys.readouterr().out)}

    assert taken.startswith("hook         taken within ")
    assert is_in(pages()["No notice comes"].over[1], taken)
    assert hook.titles == ["dydx bot: a test"] * 2
    assert (rows["hook"]["error"], rows["dead"]["words"]) == ("", "")
    assert "onnection" in rows["dead"]["error"]
    assert rows["phone"]["error"].endswith("got nothing://***")
    assert TOKEN not in json.dumps(rows)


def test_what_waits_is_flushed_with_what_was_held_back(
    hook: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is not taken waits still."""
    waits("hook")
    waits("dead")

    assert main(["notify", "flush"]) == 1

    out = capsys.readouterr().out
    assert hook.titles == ["left", "held back: rejected"], out
    assert "hook         2 messages sent, nothing waits" in out
    assert "0 messages sent, 2 messages wait" in out
    with Spool("hook").held() as ours:
        assert ours
        assert main(["notify", "flush", "hook"]) == 0
    assert "a run that goes on sends what waits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (
            ["notify", "test", "hok"],
            "expected a sink (hook, dead, phone), got 'hok': did you mean hook?",
        ),
        (["notify", "send"], "expected one of show, test, flush, got 'send'"),
    ],
)
def test_a_wrong_word_is_refused(
    typed: list[str], words: str, hook: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what is known."""
    try:
        code = main(typed)
    except SystemExit as ended:
        code = int(ended.code or 0)

    assert code == 2
    assert words in capsys.readouterr().err


def test_without_sinks_it_is_shown_how_to_have_one(capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands in a file."""
    assert main(["notify", "test"]) == 2
    assert "expected sinks in notify of bot.yaml, got none" in capsys.readouterr().err


def test_that_notices_are_switched_off_is_reported(
    hook: Hook, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test is sent all the same."""
    monkeypatch.setenv("DYDX__NOTIFY__ENABLED", "false")

    assert main(["notify", "show", "hook"]) == 0
    assert capsys.readouterr().out.endswith("switched off: notify.enabled is false\n")


def test_a_doctor_has_a_check_of_each_sink(hook: Hook) -> None:
    """Beside the log and the API; without sinks there is none."""
    found = {check.name: check.outcome for check in services(load().settings)}
    without = [check.name for check in services(load(environment={}).settings)]

    assert found["sink hook"] == "ok"
    assert found["sink phone"] == "failed"  # its variable is not set
    assert [name for name in without if name.startswith("sink")] == []


def test_the_doctor_looks_at_each_sink_and_sends_nothing(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its address, and at what waits."""
    monkeypatch.setenv("PHONE_URL", f"tgram://{TOKEN}/42")
    waits("hook")
    named = [
        SinkSettings(name="hook", url=hook.url),
        SinkSettings(name="phone", url_env="PHONE_URL"),
        SinkSettings(name="wrong", url_env="NO_URL"),
        SinkSettings(name="sealed", url_file=""),
    ]
    given = NotifySettings(sinks=tuple(named))

    found = {check.name: check for check in check_sinks(given)}

    assert [check.outcome for check in found.values()] == ["warning", "ok", "failed", "ok"]
    assert found["sink hook"].seen.endswith("1 message waits, 3 events held back")
    assert found["sink hook"].hint == "bot notify flush"
    assert found["sink phone"].seen == "tgram://***; all kinds; nothing waits"
    assert found["sink wrong"].seen == "expected the address of wrong in NO_URL, got nothing"
    assert found["sink sealed"].seen.endswith("address in notify.urls")
    assert hook.got == []
    (opened,) = check_sinks(NotifySettings(sinks=(named[3],), urls=SecretStr("mail=json://a")))
    assert opened.outcome == "failed"
    assert check_sinks(NotifySettings())[0].seen == "no sink is configured: nobody is notified"
