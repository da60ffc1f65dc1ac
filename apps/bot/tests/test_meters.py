"""The run's own figures."""

import pytest
from bot.run.meters import LatencyHistogram, Meters
from bot.system import memory_mb
from hypothesis import given
from hypothesis import strategies as st


@given(
    st.lists(st.integers(1, 10**12), min_size=1, max_size=200), st.sampled_from([0.5, 0.99, 1.0])
)
def test_a_percentile_is_right_to_a_bucket(durations: list[int], share: float) -> None:
    """The histogram forgets the values, and is wrong by three per cent at most."""
    latency = LatencyHistogram()
    for duration in durations:
        latency.add(duration)

    rank = max(-(-int(share * 100) * len(durations) // 100), 1)
    expected = sorted(durations)[rank - 1]
    assert latency.percentile(share) == pytest.approx(expected, rel=0.04, abs=1)


def test_before_the_first_duration_nothing_is_known() -> None:
    """An unknown latency is None and not zero."""
    assert LatencyHistogram().percentile(0.5) is None


def test_rates_are_sampled_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a second the last figures stand; after it they are new."""
    now = [0]
    monkeypatch.setattr("bot.run.meters.time.monotonic_ns", lambda: now[0])
    meters = Meters()
    meters.latency.add(1000)

    meters.sample()
    assert meters.frames_per_s is None

    now[0] = 2_000_000_000
    meters.sample()
    assert meters.frames_per_s == 0.5
    assert meters.per_second == [0.5]
    assert meters.elapsed_s == 2.0


def test_memory_is_measured_also_where_proc_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc the peak stands for the present."""
    here = memory_mb()

    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", missing)

    assert here > 1
    assert memory_mb() > 1
