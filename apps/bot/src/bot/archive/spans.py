"""What of the past is wanted, as a person types it: read, or refused with what was expected.

--from 30d --to 2026-11-20 --kinds trades,candles --window 6h ──► Wanted ──► History, a name
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec
from dydx_conn import ConnError, History

from bot.archive.rows import KINDS, MINUTE_NS
from bot.history.when import chosen, span
from bot.times import utc

SUFFIX: Final = ".jsonl.zst"
_HOUR_S: Final = 3_600
_LONGEST_H: Final = 16  # of a window: its minutes fit on a page of candles
_NAMED: Final = 4  # markets by which a recording is named; of more only the first


class WantedError(ConnError):
    """A span, a kind or a market that cannot be fetched: the message says what can."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What was typed, checked as far as that is possible without the venue."""

    markets: tuple[str, ...]
    since: str
    until: str | None
    kinds: tuple[str, ...]
    window_s: int

    def history(self, known: Sequence[str], now_ns: int) -> History:
        """Return what is fetched; `now_ns` is the newest block's time: nothing is later."""
        markets = tuple(dict.fromkeys(chosen("a market", text, known) for text in self.markets))
        since, until = self.span(now_ns)
        return History(markets=markets, kinds=self.kinds, since_ns=since, until_ns=until,
                       window_s=self.window_s)  # fmt: skip

    def span(self, now_ns: int) -> tuple[int, int]:
        """Return the first minute, and the end of the last, of which there can be something."""
        since, until = span(self.since, self.until, now_ns, ("--from", "--to"))
        begun, _ = span(self.until, None, now_ns, ("--to", ""))
        newest = _whole(now_ns)
        since = _whole(since or 0)
        for name, at in (("--from", since), ("--to", begun or 0)):
            if at > newest:
                what = f"expected {name} in the past, got {utc(at)}"
                raise WantedError(f"{what}: the newest block is of {utc(now_ns)} (UTC)")
        until = newest if until is None else min(_whole(until), newest)
        if since >= until:
            what = f"expected a minute at least, got {utc(since)} to {utc(until)} (UTC)"
            raise WantedError(what)
        return since, until

    def name(self, network: str) -> str:
        """Return what a recording of it is called where nobody chose a name.

        The same words make the same name, so that typing them again goes on with it.
        """
        tickers = [ticker.removesuffix("-USD") for ticker in self.markets]
        if len(tickers) > _NAMED:
            tickers = [tickers[0], f"and-{len(tickers) - 1}-more"]
        parts = [*tickers, *map(_short, filter(None, [self.since, self.until]))]
        parts += [] if self.kinds == KINDS else self.kinds
        parts += [] if network == "mainnet" else [network]
        return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


def wanted(
    markets: Sequence[str], since: str, until: str | None, kinds: str, window: str, now_ns: int
) -> Wanted:
    """Read what was typed; `ConnError` says what was expected."""
    found = Wanted(
        markets=tuple(dict.fromkeys(text.strip().upper() for text in markets)), since=since,
        until=until, kinds=_kinds(kinds), window_s=_window_s(window),
    )  # fmt: skip
    found.span(now_ns)  # once the venue has answered its own clock counts
    return found


def _kinds(text: str) -> tuple[str, ...]:
    typed = [part.strip().lower() for part in text.split(",") if part.strip()]
    kinds = {chosen("kinds", part, KINDS) for part in typed}
    if not kinds:
        raise WantedError(f"expected some of {', '.join(KINDS)}, got none")
    return tuple(kind for kind in KINDS if kind in kinds)


def _window_s(text: str) -> int:
    hours = re.fullmatch(r"(\d{1,3})h", text.strip().lower())
    if hours is None or not 1 <= int(hours[1]) <= _LONGEST_H:
        raise WantedError(f"expected a window of 1h to {_LONGEST_H}h, got {text!r}")
    return int(hours[1]) * _HOUR_S


def _short(text: str) -> str:
    # A name has the minutes of a time, not its seconds and zone.
    return re.sub(r"(T\d\d:\d\d).*", r"\1", text.strip(), flags=re.IGNORECASE)


def is_fixed(text: str | None) -> bool:
    """Return whether a time that is typed means the same on any day."""
    return text is not None and re.match(r"\d{4}", text.strip()) is not None


def _whole(at_ns: int) -> int:
    return at_ns // MINUTE_NS * MINUTE_NS
