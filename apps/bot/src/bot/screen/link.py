"""The connections as their panel shows them: of what was noted, and what the edge measures.

    Links, Feeds, DataState ─┐
    Vitals of the edge ──────┴─► link_of ─► dydx_panels.LinkPart

A recording has no edge: of REST it has the answers alone, and pings it has none.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from dydx_conn import EndpointMetrics, Metrics
from dydx_panels import FeedRow, LimitRow, LinkPart, LinkRow, RestRow, TurnRow

from bot.run.composition import Bot
from bot.run.links import reason_words
from bot.run.meters import PERCENTILES

_TURNS: Final = 60
_ERRORS: Final = 12
# From where to where it is a loss: to fail to come back is none.
_THERE: Final = ("live", "subscribing")
_LOST: Final = ("backing_off", "polling", "stale")


def link_of(bot: Bot) -> LinkPart:
    """Return how the connections stand, and what they were before."""
    bot.follow_links()
    links, data = bot.shown.links, bot.data
    turns = [] if links is None else [*links.history]
    together = next((turn for turn in reversed(turns) if not turn.link), None)
    lags = sorted(ns / 1e6 for view in data.views.values() for ns in view.quality.lags_ns)
    chain = data.chain
    blocks = chain.at - chain.time_ns if chain.at and chain.time_ns else None
    vitals = bot.shown.feeds.vitals
    metrics = None if vitals is None else vitals.rest
    return LinkPart(
        state=data.connection if together is None else together.state,
        reason="" if together is None else reason_words(together.reason),
        since_s=None if together is None else (data.at - together.at) / 1e9,
        lag_ms=_shares(lags),
        block_ms=None if blocks is None or abs(blocks) > _DAY_NS else blocks / 1e6,
        late_ms=chain.lag_ns / 1e6 or None,
        links=tuple(_links(bot)),
        turns=tuple(islice(_turns(bot), _TURNS)),
        rest=tuple(_measured(metrics) if metrics else _answered(bot)),
        limits=tuple(_limits(metrics)) if metrics else (),
        feeds=tuple(_feeds(bot)),
        errors=tuple(islice(_errors(bot, metrics), _ERRORS)),
    )


_DAY_NS: Final = 86_400_000_000_000  # a recording may be of another year than its receiver


def _shares(values: Sequence[float]) -> tuple[tuple[str, float], ...]:
    """Return the percentiles of sorted values; nothing of none."""
    last, shares = len(values) - 1, PERCENTILES.items()
    return tuple((name, values[round(share * last)]) for name, share in shares) if values else ()


def _links(bot: Bot) -> Iterator[LinkRow]:
    """Yield each connection that is not over, and the blocks, which have a state like one."""
    shown, data = bot.shown, bot.data
    history = () if shown.links is None else shown.links.history
    newest = {turn.link: turn for turn in history if turn.link}
    losses = Counter(x.link for x in history if x.was in _THERE and x.state in _LOST)
    pings = {} if shown.feeds.vitals is None else dict(shown.feeds.vitals.pings)
    frames = shown.feeds.links
    for name in dict.fromkeys((*newest, *frames)):
        turn, received = newest.get(name), data.links.received_at.get(name)
        yield LinkRow(
            link=name,
            state="" if turn is None else turn.state,
            reason="" if turn is None else reason_words(turn.reason),
            since_s=None if turn is None else (data.at - turn.at) / 1e9,
            silent_s=None if received is None else (data.at - received) / 1e9,
            frames=frames[name],
            losses=losses[name],
            pings_ms=_shares(sorted(seconds * 1e3 for seconds in pings.get(name, ()))),
        )


def _turns(bot: Bot) -> Iterator[TurnRow]:
    """Yield the changes of state, newest first, each with how long it lasted."""
    ended: dict[str, int] = {}
    for turn in reversed(() if bot.shown.links is None else bot.shown.links.history):
        until = ended.get(turn.link)
        lasted_s = None if until is None else (until - turn.at) / 1e9
        ended[turn.link] = turn.at
        yield TurnRow(
            turn.at, turn.link, turn.was, turn.state, reason_words(turn.reason), lasted_s, turn.seq
        )


# === REST ===


def _measured(metrics: Metrics) -> Iterator[RestRow]:
    for endpoint, one in sorted(metrics.endpoints.items(), key=lambda item: -item[1].requested):
        yield RestRow(
            endpoint=endpoint,
            answered=one.answered,
            requested=one.requested,
            per_minute=one.per_minute,
            took_ms=_took(one),
            errors=tuple(sorted(one.errors.items(), key=lambda item: -item[1])),
            retried=one.retried,
            circuit=one.circuit,
            retry_in_s=one.retry_in_s,
            good_age_s=one.good_age_s,
        )


def _took(one: EndpointMetrics) -> tuple[tuple[str, float], ...]:
    return (("p50", one.p50_ms), ("p99", one.p99_ms), ("max", one.max_ms)) if one.answered else ()


def _answered(bot: Bot) -> Iterator[RestRow]:
    """Yield what a recording knows of REST: its answers, by endpoint and status."""
    answers = bot.shown.feeds.answers
    for endpoint in dict.fromkeys(endpoint for endpoint, _ in answers):
        by_status = {status: count for (of, status), count in answers.items() if of == endpoint}
        yield RestRow(
            endpoint=endpoint,
            answered=by_status.get(_GOOD, 0),
            errors=tuple((str(code), n) for code, n in sorted(by_status.items()) if code != _GOOD),
        )


_GOOD: Final = 200


def _limits(metrics: Metrics) -> Iterator[LimitRow]:
    for group, one in metrics.groups.items():
        yield LimitRow(
            group=group, limit=one.limit, left=one.left, queued=one.queued, wait_s=one.wait_s,
            waits=one.waits, waited_s=one.waited_s, limited=one.limited,
        )  # fmt: skip


# === What came ===


def _feeds(bot: Bot) -> Iterator[FeedRow]:
    """Yield each channel and market, the most frames first."""
    feeds = bot.shown.feeds
    rates = feeds.rates(bot.data.at)
    for (channel, ticker), count in feeds.flows.most_common():
        per_s = rates.get((channel, ticker))
        of = "" if ticker == channel else ticker  # what is of all markets is named twice
        yield FeedRow(channel=channel or "(control)", ticker=of, frames=count, per_s=per_s)


def _errors(bot: Bot, metrics: Metrics | None) -> Iterator[tuple[str, str, int]]:
    """Yield what went wrong and where: failures of REST, losses, what could not be believed."""
    found = [("lost", reason_words(why), count) for why, count in bot.shown.feeds.losses.items()]
    for endpoint, one in metrics.endpoints.items() if metrics else ():
        for kind, samples in one.samples.items():
            what = f"{kind}: {samples[-1].message}" if samples else kind
            found.append((endpoint, what, one.errors.get(kind, 0)))
    found += [("data", kind, count) for kind, count in bot.data.counts().items()]
    yield from sorted(found, key=lambda row: -row[2])
