"""Each signal over sessions of the real software, against its definition computed plainly."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from statistics import fmean

import pytest
from dydx_conn import Frame
from dydx_data import DataState, Level, MarketView, step
from dydx_signals import STANDARD, Scorer
from sessions import REAL
from tape import Read

NAMES = [make().name for make in STANDARD]
SECOND = 1_000_000_000


@pytest.fixture(scope="module", params=REAL, ids=str)
def session(request):
    """Give each session in turn."""
    return request.param


def scored(frames: tuple[Frame, ...], only: str = "") -> Iterator[tuple[MarketView, Read]]:
    """Replay frames; give each view that was scored with its scores, read within the frame."""
    state, scorer = DataState(), Scorer()
    for frame in frames:
        for view in step(state, frame):
            if not only or view.ticker == only:
                for made in scorer.step(view):
                    yield view, Read.of(made)


# === The definitions, computed plainly ===


class Plain:
    """A signal's definition in floats, over the views of one market that can change it."""

    def value(self, view: MarketView) -> float | None:
        """Take a view, return the score; None if there is none."""
        raise NotImplementedError


def weigh(samples: list[tuple[int, float]], at: int, half_life: float) -> float:
    """Average a step function (time, value from then on), weights halving every half-life."""
    value = samples[0][1]
    for (since, _), (until, new) in pairwise([*samples, (at, samples[-1][1])]):
        share = 0.5 ** ((until - since) / SECOND / half_life)
        value = new + (value - new) * share
    return value


class PlainImbalance(Plain):
    """50 + 50 · the average of (bid size - ask size) / (bid size + ask size)."""

    def __init__(self) -> None:
        self.samples: list[tuple[int, float]] = []

    def value(self, view: MarketView) -> float | None:
        bids, asks = view.book.bids(1), view.book.asks(1)
        if not bids or not asks:
            return None
        raw = (bids[0].size - asks[0].size) / (bids[0].size + asks[0].size)
        self.samples.append((view.at, raw))
        if view.at - self.samples[0][0] < 5 * SECOND:
            return None
        return 50 + 50 * weigh(self.samples, view.at, 5)


class PlainMomentum(Plain):
    """The logistic of trend over what a random walk of the same variance would show."""

    def __init__(self) -> None:
        self.samples: list[tuple[int, float]] = []
        self.returns: list[tuple[int, float, float]] = []
        self.last: tuple[int, float] | None = None

    def value(self, view: MarketView) -> float | None:
        bids, asks = view.book.bids(1), view.book.asks(1)
        if not bids or not asks:
            return None
        mid = fmean([bids[0].price, asks[0].price])
        self.samples.append((view.at, mid))
        if self.last is None:
            self.last = view.at, mid
        elif view.at - self.last[0] >= SECOND:
            seconds = (view.at - self.last[0]) / SECOND
            self.returns.append((view.at, math.log(mid / self.last[1]), seconds))
            self.last = view.at, mid
        age = (view.at - self.samples[0][0]) / SECOND
        if len(self.returns) < 5 or age < 10:
            return None
        trend = math.log(weigh(self.samples, view.at, 10) / weigh(self.samples, view.at, 60))
        return 100 / (1 + math.exp(-trend / math.sqrt(self.variance() * self.spread(age))))

    def variance(self) -> float:
        """Return the variance per second, weights halving every 120 s before the last return."""
        until = self.returns[-1][0]
        weights = [0.5 ** ((until - at) / SECOND / 120) for at, _, _ in self.returns]
        squares = math.fsum(w * r * r for w, (_, r, _) in zip(weights, self.returns, strict=True))
        seconds = math.fsum(w * s for w, (_, _, s) in zip(weights, self.returns, strict=True))
        return max(squares / seconds, 0.05e-4**2)

    @staticmethod
    def spread(age: float) -> float:
        """Return the variance of the trend for a unit of variance a second, after `age` seconds."""
        fast, slow = 10 / math.log(2), 60 / math.log(2)

        def both(x: float, y: float) -> float:
            c = 1 / (1 / x + 1 / y)
            return (1 - math.exp(-age / c)) * c

        return both(slow, slow) + both(fast, fast) - 2 * both(fast, slow)


def median(stood: list[tuple[float, int]]) -> float:
    """Return the figure that stood in the middle second."""
    ordered = sorted(stood)
    half = sum(seconds for _, seconds in ordered) / 2
    for figure, seconds in ordered:
        half -= seconds
        if half < 0:
            return figure
    raise AssertionError("nothing stood")


def spell(seconds: int) -> int:
    """Bound how long a figure counts."""
    return min(max(seconds, 1), 60)


class PlainVolume(Plain):
    """100 · now / (now + usual), both in USDC a second, of trades since the first view."""

    def __init__(self) -> None:
        self.traded: list[tuple[int, float]] = []
        self.stood: list[tuple[float, int]] = []
        self.since: int | None = None
        self.aged = self.due = 0

    def value(self, view: MarketView) -> float | None:
        at = view.at
        if self.since is None:
            self.since, self.aged, self.due = at, at, at + 15 * SECOND
        if view.changed == "trades":
            newest = max((trade.at_ns for trade in view.fresh), default=0)
            self.traded += [
                (at, trade.price * trade.size)
                for trade in view.fresh
                if trade.at_ns >= newest - 5 * SECOND
            ]
        if view.changed == "trades" or at >= self.due:
            self.aged = at
        if at >= self.due:
            self.stood.append((self.rate(at), spell((at - self.due) // SECOND + 1)))
            self.due = at + SECOND
        if len(self.traded) < 3 or not self.stood:
            return None
        now = self.rate(self.aged)
        return 100 * now / (now + max(median(self.stood), 1))

    def rate(self, at: int) -> float:
        """Weigh what was traded as of a moment."""
        assert self.since is not None
        tau, age = 20 / math.log(2), (at - self.since) / SECOND
        weighed = (usd * math.exp((then - at) / SECOND / tau) for then, usd in self.traded)
        return math.fsum(weighed) / (tau * (1 - math.exp(-age / tau)))


class PlainVolatility(Plain):
    """100 · now² / (now² + usual²), standard deviations of returns over at least a second."""

    def __init__(self) -> None:
        self.returns: list[tuple[int, float, float]] = []
        self.stood: list[tuple[float, int]] = []
        self.last: tuple[int, float, bool] | None = None
        self.shown: float | None = None
        self.at = 0

    def value(self, view: MarketView) -> float | None:
        self.at = self.at or view.at
        bids, asks = view.book.bids(1), view.book.asks(1)
        by_book = bool(bids and asks)
        if by_book:
            price = fmean([bids[0].price, asks[0].price])
        elif view.oracle is not None:
            price = view.oracle.price
        else:
            self.shown = None
            return None
        if self.last is not None and self.last[2] is by_book:
            if view.at - self.last[0] < SECOND:
                return self.shown
            seconds = (view.at - self.last[0]) / SECOND
            self.returns.append((view.at, math.log(price / self.last[1]), seconds))
        self.last = view.at, price, by_book
        if len(self.returns) >= 10:
            now = self.deviation()
            self.stood.append((now, spell((view.at - self.at) // SECOND)))
            self.shown = 100 * now**2 / (now**2 + min(median(self.stood), 5) ** 2)
        self.at = view.at
        return self.shown

    def deviation(self) -> float:
        """Return the standard deviation in bps, weights halving before the last return."""
        rows = self.returns
        # What counts is the time between returns, not across a change of source.
        ages = [math.fsum(seconds for _, _, seconds in rows[n + 1 :]) for n in range(len(rows))]
        weights = [0.5 ** (age / 30) for age in ages]
        squares = math.fsum(w * r * r for w, (_, r, _) in zip(weights, rows, strict=True))
        seconds = math.fsum(w * s for w, (_, _, s) in zip(weights, rows, strict=True))
        return 1e4 * math.sqrt(max(squares / seconds, 0.05e-4**2))


class PlainLiquidity(Plain):
    """The whole book's USDC per basis point of spread against usual, as far as one can trade."""

    def __init__(self) -> None:
        self.levels: list[tuple[int, float]] = []
        self.stood: list[tuple[float, int]] = []

    def value(self, view: MarketView) -> float | None:
        bids, asks = view.book.bids(), view.book.asks()
        if not bids or not asks:
            return None
        mid = fmean([bids[0].price, asks[0].price])
        if not self.levels or view.at - self.levels[-1][0] >= SECOND:
            resting = sum(level.size for level in [*bids, *asks]) * mid
            spread_bps = max(1e4 * (asks[0].price - bids[0].price) / mid, 0.01)
            since = self.levels[-1][0] if self.levels else view.at
            self.levels.append((view.at, math.log(resting / spread_bps + 1)))
            now = math.exp(weigh(self.levels, view.at, 5))
            self.stood.append((now, spell((view.at - since) // SECOND)))
        if self.levels[-1][0] - self.levels[0][0] < 5 * SECOND:
            return None
        now = self.stood[-1][0]
        cost = fmean([self.cost(bids, mid), self.cost(asks, mid)])
        return 100 * now / (now + median(self.stood)) / (1 + (cost / 40) ** 4)

    @staticmethod
    def cost(levels: list[Level], mid: float) -> float:
        """Return what 10,000 USDC cost, cent by cent as it were."""
        left, paid = 10_000.0, 0.0
        for level in levels:
            taken = min(left, level.price * level.size)
            left, paid = left - taken, paid + taken * abs(level.price / mid - 1)
        return paid + left * 0.1


class PlainFunding(Plain):
    """The logistic of the next hourly rate over 0.25 bps, turned round."""

    def value(self, view: MarketView) -> float | None:
        if not view.funding.known:
            return None
        return 100 / (1 + math.exp(view.funding.next_rate_1h * 1e4 / 0.25))


PLAIN: dict[str, Callable[[], Plain]] = {
    "momentum": PlainMomentum,
    "volume": PlainVolume,
    "volatility": PlainVolatility,
    "imbalance": PlainImbalance,
    "liquidity": PlainLiquidity,
    "funding": PlainFunding,
}


@pytest.mark.parametrize("name", NAMES)
def test_a_signal_is_its_definition_at_every_view(session, name):
    """Six digits, or what a bucket leaves, wherever the engine is shown a view of a real market."""
    engine = STANDARD[NAMES.index(name)]()
    state = DataState()
    plain: dict[str, Plain] = defaultdict(PLAIN[name])
    for frame in session.frames:
        for view in step(state, frame):
            if view.changed not in engine.changes:
                continue
            engine.update(view)
            score, expected = engine.read(view.ticker), plain[view.ticker].value(view)
            assert (score is None) is (expected is None), view.seq
            # A day's median is within the width of a bucket, 4 %.
            close = 2.5 if hasattr(engine, "days") else 1e-6
            assert score is None or score.value == pytest.approx(expected, abs=close)


# === What holds of all of them ===


def test_values_are_those_of_the_scores_to_the_last_digit(session):
    """Before a score is made, and after."""
    state, scorer = DataState(), Scorer()
    for frame in session.frames:
        for view in step(state, frame):
            for made in scorer.step(view):
                values = dict(made.values)
                assert values == {score.signal: score.value for score in made.scores}
                assert values == made.values


def test_scores_are_on_the_scale_and_name_a_frame_that_has_been(session):
    """And the figures beside them are numbers."""
    for view, made in scored(session.frames):
        for score in made.scores:
            assert 0 <= score.value <= 100
            assert score.seq <= made.seq == view.seq
            assert all(math.isfinite(figure) for _, figure in score.inputs)


def test_no_score_knows_the_rest_of_the_session(session):
    """Cut in half, the first half scores as it did in the whole."""
    half = session.frames[: len(session.frames) // 2]
    first = [made.scores for _, made in scored(half)]
    assert [made.scores for _, made in scored(session.frames)][: len(first)] == first


def test_a_market_alone_scores_as_among_others(session):
    """No engine mixes markets."""
    together = defaultdict(list)
    for _, made in scored(session.frames):
        together[made.ticker].append(made.scores)
    for ticker, scores in together.items():
        assert [made.scores for _, made in scored(session.frames, only=ticker)] == scores


def test_what_needs_a_book_is_absent_while_there_is_none(session):
    """Momentum, imbalance and liquidity vanish at once."""
    for view, made in scored(session.frames):
        if view.book.mid_price is None:
            assert {score.signal for score in made.scores} <= {"volume", "volatility", "funding"}


def test_the_longest_session_scores_every_signal():
    """So nothing above passes because nothing was scored."""
    longest = max(REAL, key=lambda session: len(session.frames))
    assert {score.signal for _, made in scored(longest.frames) for score in made.scores} == {*NAMES}
