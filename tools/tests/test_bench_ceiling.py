"""The bench at the venue's ceiling: what it reads of a terminal, and its rows."""

import os

import pytest
from bench_ceiling import Terminal, growth, reported, rows

REPORT = """\x1b[2J│ a drawing takes 1 ms │\x1b[0m
frames       1,234,500 of 250 markets: BTC-USD ETH-USD
latency      p50 31.25, p99 812.5, p99.9 1,950.0, max 20,000.5 µs from a frame to its last order
throughput   20,000 frames/s while busy, 617.25 s in all, 141 MB
"""


def test_the_report_is_read_off_the_terminal() -> None:
    """What was drawn before it is not."""
    assert reported(REPORT) == {
        "latency_ms": {"p50": 0.03125, "p99": 0.8125, "p99.9": 1.95, "max": 20.0005},
        "frames_per_s": 2_000.0,
    }


def test_a_bot_that_reports_nothing_ends_the_bench() -> None:
    """With its own words."""
    with pytest.raises(SystemExit, match="expected a report of the bot, got: no such network"):
        reported("\x1b[31mno such network")


@pytest.mark.parametrize(
    ("memory", "grown"),
    [([100.0], 0.0), ([100.0, 100.0, 110.0, 110.0], 0.1), ([100.0, 180.0, 100.0, 100.0], -0.29)],
)
def test_memory_is_flat_if_its_halves_are(memory: list[float], grown: float) -> None:
    """By their medians: one sample says nothing."""
    assert growth(memory) == pytest.approx(grown, abs=0.01)


def test_each_figure_stands_beside_its_budget() -> None:
    """Rate, CPU, latency, memory at most and where it was first."""
    used = {"cpu": 0.151, "memory_mb": [120.0, 130.0], "terminal_bytes_per_s": 50_000.0}

    found = {figure: rest for figure, *rest in rows("ceiling", used | reported(REPORT))}

    assert found["ceiling"] == ["2,000 f/s", "", "2,000 f/s"]
    assert found["  CPU, dashboard on"] == ["15.1% of a core", "", "< 20 %"]
    assert found["  frame to order, p99"] == ["0.812 ms", "", "< 1 ms"]
    assert found["  memory, at most"] == ["130 MB", "120 MB", "< 150 MB"]


def test_a_terminal_holds_the_end_of_what_was_written() -> None:
    """All of it, once nobody writes any more."""
    with Terminal() as terminal:
        os.write(terminal.theirs, b"the end")

        assert (terminal.text(), terminal.count) == ("the end", 7)
