"""`bot notify`: where notices go, what waits for it, and whether it takes any.

show          each sink, what it gets, and how much waits
test [SINK]   send one message to each, or to one, and report what came of it
flush [SINK]  send what waits, with what was held back
check_sinks   for `bot doctor`: what would stop a notice on its way
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from dydx_conn import ConnError

from bot.config.configured import loaded_of, opened_of
from bot.config.document import near, shown
from bot.config.notify import CHOSEN, NotifySettings, SinkSettings, hidden
from bot.config.validation import Check
from bot.notify.beside import address, needs_opening
from bot.notify.notice import Heading, Message
from bot.notify.sending import Attempt, SinkError, address_of, deliver, service_of
from bot.notify.spool import Spool
from bot.notify.throttle import flushed
from bot.outlet import as_lines
from bot.times import utc

_NONE: Final = (
    "expected sinks in notify of bot.yaml, got none: bot config init writes a file that shows how, "
    'in short: notify: {sinks: [{name: hook, url: "json://127.0.0.1:8080/"}]}'
)
_ACCOUNT: Final = "bot notify"


def notify(arguments: argparse.Namespace) -> int:
    """Do one of it."""
    settings = loaded_of(arguments).settings.notify
    if not settings.sinks:
        raise ConnError(_NONE)
    chosen = _chosen(settings, arguments.sink)
    if arguments.act != "show" and needs_opening(settings):
        settings = opened_of(arguments).settings.notify
    rows = [_ACTS[arguments.act](one, settings) for one in chosen]
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        print(as_lines([line for row in rows for line in _lines(row)]))
        if not settings.enabled:
            print("notices are switched off: notify.enabled is false")
    return int(any(row.get("error") for row in rows))


def _chosen(settings: NotifySettings, name: str | None) -> list[SinkSettings]:
    names = [one.name for one in settings.sinks]
    if name is not None and name not in names:
        what = f"expected a sink ({', '.join(names)}), got {shown(name)}"
        raise ConnError(what + near(name, names))
    return [one for one in settings.sinks if name in (None, one.name)]


def _lines(row: Mapping[str, Any]) -> Iterator[str]:
    yield f"{row['sink']:<12} {row['error'] or row['words']}"
    yield from (f"{'':<12} {line}" for line in row.get("more", ()))


# === Show ===


def _show(sink: SinkSettings, settings: NotifySettings) -> dict[str, Any]:
    """Return where a sink is, what it gets, and what waits."""
    spool = Spool(sink.name)
    waiting, held = spool.waiting(), spool.held_back()
    aside = [path.name for path in spool.path.glob("*.*ed")]
    what = "all kinds" if {*sink.kinds} >= {*CHOSEN} else ", ".join(sink.kinds)
    grave = "" if sink.level == "all" else f", {sink.level} or graver"
    more = [f"{what}{grave}; {_waits(len(waiting), held)}"]
    more += [f"set aside in {spool.path}: {', '.join(aside)}"] if aside else []
    return {
        "sink": sink.name, "words": _place(sink), "error": _lost(sink, settings), "more": more,
        "waiting": len(waiting), "held_back": held, "aside": aside,
    }  # fmt: skip


def _place(sink: SinkSettings) -> str:
    if sink.url:
        return hidden(sink.url)
    if sink.url_env:
        return f"address in the variable {sink.url_env}"
    return f"address in {sink.url_file}" if sink.url_file else "address in notify.urls"


def _lost(sink: SinkSettings, settings: NotifySettings) -> str:
    """Return why a sink has no address, "" if it has one."""
    try:
        if not _sealed(sink, settings):
            address_of(sink, settings.urls)
    except SinkError as error:
        return str(error)
    return ""


def _sealed(sink: SinkSettings, settings: NotifySettings) -> bool:
    """Return whether an address is not opened: to look needs no passphrase, to send does."""
    placed = sink.url or sink.url_env or sink.url_file
    return not placed and not settings.urls.get_secret_value()


def _waits(count: int, held: int) -> str:
    held_back = f", {held:,} events held back" if held else ""
    messages = "1 message waits" if count == 1 else f"{count:,} messages wait"
    return f"{messages}{held_back}" if count or held else "nothing waits"


# === Test ===


def _test(sink: SinkSettings, settings: NotifySettings) -> dict[str, Any]:
    """Send a message, past all limits, and report what came of it."""
    now = time.time_ns()
    body = f"Sent by `bot notify test` at {utc(now)} UTC: notices of a run arrive here."
    message = Message(at=now, level="info", title="dydx bot: a test", body=body)
    began = time.monotonic()
    error = _sent(sink, settings, message)
    took = "" if error else f"taken within {time.monotonic() - began:.1f} s"
    return {"sink": sink.name, "words": took, "error": error}


def _sent(sink: SinkSettings, settings: NotifySettings, message: Message) -> str:
    why = Attempt(deliver, address(sink, settings.urls), message).wait(settings.timeout_s)
    return f"no answer within {settings.timeout_s:g} s" if why is None else why


# === Flush ===


def _flush(sink: SinkSettings, settings: NotifySettings) -> dict[str, Any]:
    """Send what waits, oldest first, until it is not taken; what was held back comes last."""
    spool, sent = Spool(sink.name), 0
    with spool.held() as ours:
        if not ours:
            words = "a run that goes on sends what waits"
            return {"sink": sink.name, "words": words, "error": "", "sent": 0}
        state = spool.take()
        heading = Heading(mode="held back", network="", account=_ACCOUNT)
        for message in flushed(state, heading)[1]:
            spool.add(message)
        error = ""
        while not error and (found := spool.oldest()) is not None:
            if not (error := _sent(sink, settings, found[1])):
                spool.remove(found[0])
                sent += 1
    spool.close()
    waits = f"{sent:,} messages sent, {_waits(len(spool.waiting()), 0)}"
    return {
        "sink": sink.name, "words": waits, "error": f"{error}: {waits}" if error else "",
        "sent": sent,
    }  # fmt: skip


_ACTS: Final[Mapping[str, Callable[[SinkSettings, NotifySettings], dict[str, Any]]]] = {
    "show": _show, "test": _test, "flush": _flush,
}  # fmt: skip

# === Doctor ===

_HINT: Final = "bot notify test sends one, and reports what came of it"


def check_sinks(settings: NotifySettings) -> list[Check]:
    """Return for each sink whether a notice could be sent to it; nothing is sent."""
    if not settings.sinks:
        return [Check("notices", "ok", "no sink is configured: nobody is notified")]
    return [_checked(sink, settings) for sink in settings.sinks]


def _checked(sink: SinkSettings, settings: NotifySettings) -> Check:
    name, shows = f"sink {sink.name}", _show(sink, settings)
    if _sealed(sink, settings):
        return Check(name, "ok", f"its address is not looked at: {_place(sink)}", _HINT)
    try:
        found = address_of(sink, settings.urls)
        service_of(found)
    except SinkError as error:
        return Check(name, "failed", str(error), _HINT)
    seen = f"{hidden(found)}; {shows['more'][0]}"
    waits = shows["waiting"] or shows["held_back"] or shows["aside"]
    return Check(name, "warning" if waits else "ok", seen, "bot notify flush" if waits else "")
