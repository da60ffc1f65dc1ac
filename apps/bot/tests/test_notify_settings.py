"""Who is notified of what: what of it is accepted, and what of an address may be seen."""

import json
from pathlib import Path

import pytest
from bot.config.document import ConfigError
from bot.config.loaded import load
from bot.config.notify import NotifySettings, hidden, is_plain, minutes_of, pairs_of
from pydantic import SecretStr, ValidationError

TOKEN = "123456:AAhidden"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("json://127.0.0.1:8080/", "json://127.0.0.1:8080/"),
        ("xml://localhost/hook", "xml://localhost/hook"),
        ("json://me:pw@127.0.0.1/", "json://***"),
        ("json://example.com/T0/B0/x", "json://***"),
        ("json://127.0.0.1.evil.example/", "json://***"),
        (f"tgram://{TOKEN}/42", "tgram://***"),
        ("gnome://", "gnome://"),
        (TOKEN, "unknown://***"),
    ],
)
def test_of_an_address_only_the_service_is_seen(url: str, shown: str) -> None:
    """But of one that can hold no token."""
    assert hidden(url) == shown
    assert is_plain(url) is (url == shown)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sinks": [{"name": "x", "url": f"tgram://{TOKEN}/42"}]}, "got tgram://***"),
        ({"sinks": [{"name": "x", "url_env": "A", "url_file": "b"}]}, "got url_env and url_file"),
        ({"sinks": [{"name": "X y"}]}, "expected a name of a-z"),
        ({"sinks": [{"name": "x"}, {"name": "x"}]}, "got x twice"),
        ({"urls": f"tgram://{TOKEN}/42"}, "expected urls as phone=tgram://…"),
        ({"summary_at": "8 o'clock"}, "expected summary_at as 08:00"),
        ({"quiet": "22:00-22:00"}, "expected quiet as 22:00-07:00"),
        ({"quiet": "24:00-07:00"}, "expected quiet as 22:00-07:00"),
        ({"timezone": "Mars/Base"}, "expected a timezone as Europe/Berlin"),
        ({"timezone": "/etc/passwd"}, "expected a timezone as Europe/Berlin"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(
    given: dict[str, object], words: str, tmp_path: Path
) -> None:
    """With what was expected, and never with a token."""
    file = tmp_path / "bot.yaml"
    file.write_text(json.dumps({"notify": given}))

    with pytest.raises(ConfigError) as refused:
        load(path=file, environment={})

    assert words in str(refused.value)
    assert TOKEN not in str(refused.value)


def test_addresses_come_by_a_variable_and_are_shown_without_their_tokens() -> None:
    """A line each, or with blanks between them."""
    text = f"phone=tgram://{TOKEN}/42 mail=mailto://me:pw@example.com"
    found = load(environment={"DYDX__NOTIFY__URLS": text}).settings.notify

    assert pairs_of(found.urls) == {
        "phone": f"tgram://{TOKEN}/42", "mail": "mailto://me:pw@example.com",
    }  # fmt: skip
    assert found.model_dump(mode="json")["urls"] == "phone=tgram://***\nmail=mailto://***"
    assert TOKEN not in repr(found)


def test_a_time_of_day_is_minutes_after_midnight() -> None:
    """As quiet hours and the summary are given."""
    assert [minutes_of(clock) for clock in ("00:00", "07:30", "23:59")] == [0, 450, 1439]


def test_nothing_changes_after_it_is_made() -> None:
    """It crosses over to other threads."""
    with pytest.raises(ValidationError):
        NotifySettings(urls=SecretStr("")).enabled = False
