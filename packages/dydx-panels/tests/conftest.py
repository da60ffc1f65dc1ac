"""A moment of a run, written by hand: every panel has figures and samples to show."""

import math

import pytest
from dydx_panels import (
    Account,
    Book,
    DecisionRow,
    FillRow,
    Header,
    LayerRow,
    MarketRow,
    PositionRow,
    Quality,
    Safety,
    ScoreRow,
    Snapshot,
    Speed,
    TapeRow,
    VerdictRow,
    Wire,
)

SECOND = 1_000_000_000
NOW = 1_784_021_467 * SECOND

_MARKETS = (
    ("ETH-USD", 3012.4, 1, "ACTIVE", False, 2),
    ("BTC-USD", 63132.0, -1, "ACTIVE", False, 0),
    ("SOL-USD", 148.31, 0, "ACTIVE", True, 2),
    ("DOGE-USD", 0.12345, 1, "CANCEL_ONLY", False, 5),
    ("LINK-USD", None, 0, "", False, 3),
)


def _market(place: int) -> MarketRow:
    ticker, price, move, status, stale, digits = _MARKETS[place]
    scores = tuple(
        (name, 50 + 45 * math.sin(place * 1.7 + i * 2.1))
        for i, name in enumerate(("momentum", "volume", "volatility", "imbalance"))
    )
    return MarketRow(
        ticker=ticker,
        price=price,
        move=move,
        history=tuple(math.sin(i / 3 + place) for i in range(24)) if price else (),
        spread_bps=1.25 + place if price else None,
        volume_60s=81_234.5 * (place + 1) if price else None,
        oracle=price,
        funding_1h=0.0000125 * (1 - place) if price else None,
        status=status,
        stale=stale,
        age_s=12.0 if stale else 0.1,
        scores=scores if price else (),
        digits=digits,
    )


def _book() -> Book:
    return Book(
        ticker="ETH-USD",
        known=True,
        bids=tuple((3012.3 - i / 10, 2.5 + 8 * abs(math.sin(i))) for i in range(20)),
        asks=tuple((3012.6 + i / 10, 1.5 + 9 * abs(math.cos(i))) for i in range(20)),
        mid_price=3012.45,
        spread_bps=0.99,
        crossed=1,
        seq=48_211,
        trades=tuple(
            (NOW - i * SECOND, ("BUY", "SELL")[i % 2], 3012.4 + i / 10, 0.3 + i, 48_210 - i)
            for i in range(12)
        ),
        candles=tuple(
            (NOW - i * 60 * SECOND, 3010.0 + i, 3016.0 + i, 3008.5 + i, 3012.4 - i, 41.2)
            for i in range(12)
        ),
        digits=1,
    )


def _decisions() -> tuple[DecisionRow, ...]:
    return (
        DecisionRow(
            id="D42", at=NOW - SECOND, ticker="ETH-USD", action="target", target=4_217.0,
            previous=6_326.0, score=58.0, urgency=0.62, seq=48_190,
            reasons=("score 58.0 is third of 5", "imbalance 38 fell below 45",
                     "volatility 82 scales the target to 67 %"),
        ),
        DecisionRow(
            id="D41", at=NOW - 2 * SECOND, ticker="SOL-USD", action="target", target=-1_483.0,
            previous=0.0, score=31.0, urgency=0.4, seq=48_160,
            reasons=("score 31.0 is the lowest of 5", "momentum 22 points down"),
        ),
        DecisionRow(
            id="D40", at=NOW - 6 * SECOND, ticker="BTC-USD", action="hold", target=3_150.0,
            previous=3_150.0, score=52.0, urgency=0.0, seq=48_020,
            reasons=("change 0.4 % is under the least change of 10 %",),
        ),
    )  # fmt: skip


def _verdicts() -> tuple[VerdictRow, ...]:
    return (
        VerdictRow(id="V18", at=NOW, ticker="ETH-USD", verdict="reduce", seq=48_211,
                   order="SELL 0.600 IOC reduce-only, worst 3,003.4",
                   why="distance 5.9 % < 6.0 %: rung 1 restores 9.0 %"),
        VerdictRow(id="V17", at=NOW - 2 * SECOND, ticker="SOL-USD", verdict="denied", seq=48_160,
                   reason="MARGIN", figures=(("needs", "812.00"), ("free", "610.44")),
                   why="initial margin after the trade would exceed net collateral"),
        VerdictRow(id="V16", at=NOW - 9 * SECOND, ticker="BTC-USD", verdict="approved", seq=48_001,
                   order="BUY 0.0500 IOC, worst 63,258.0", why="usage 61.0 % after"),
    )  # fmt: skip


def _fills() -> tuple[FillRow, ...]:
    return (
        FillRow(id="F9", at=NOW, ticker="ETH-USD", side="SELL", size="0.300", price="3012.4",
                fee=0.45186, liquidity="TAKER", type="LIMIT", pnl=-2.31, seq=48_212),
        FillRow(id="F8", at=NOW - 9 * SECOND, ticker="BTC-USD", side="BUY", size="0.0500",
                price="63132", fee=1.5783, liquidity="TAKER", type="LIMIT", seq=48_003),
        FillRow(id="F7", at=NOW - 99 * SECOND, ticker="SOL-USD", side="SELL", size="12",
                price="148.3", fee=0.0, liquidity="TAKER", type="LIQUIDATED", seq=41_003),
    )  # fmt: skip


def _tape() -> tuple[TapeRow, ...]:
    return (
        TapeRow(at=NOW, kind="fill", id="F9", text="SELL 0.300 ETH-USD @ 3,012.4 taker fee 0.45"),
        TapeRow(at=NOW, kind="rung", id="V18",
                text="rung 1 of 4: distance 5.9 % < 6.0 %, sells 0.6 ETH-USD to restore 9.0 %"),
        TapeRow(at=NOW - SECOND, kind="decision", id="D42",
                text="ETH-USD target +6,326 → +4,217: imbalance 38 fell below 45"),
        TapeRow(at=NOW - 2 * SECOND, kind="denied", id="V17",
                text="SOL-USD MARGIN: needs 812.00, free 610.44"),
        TapeRow(at=NOW - 4 * SECOND, kind="gap", text="BTC-USD book: 3 messages lost, rebuilt"),
        TapeRow(at=NOW - 6 * SECOND, kind="hold", id="D40",
                text="BTC-USD: change 0.4 % is under the least change of 10 %"),
        TapeRow(at=NOW - 9 * SECOND, kind="approved", id="V16", text="BUY 0.0500 BTC-USD"),
    )  # fmt: skip


def _wire() -> Wire:
    text = '{"type":"channel_data","connection_id":"8f2","message_id":911,"id":"ETH-USD",'
    return Wire(
        state="live", network="testnet", height=41_223_119, block_time_ns=NOW - SECOND,
        frames=48_211, faults=2, reconnects=1, gaps=1, bytes=31_554_000,
        kinds=(("v4_orderbook", 40_100), ("v4_trades", 6_211), ("v4_markets", 1_900)),
        samples=tuple((48_211 - i, "ws", "v4_orderbook", text + f'"clobPairId":{i}}}')
                      for i in range(12)),
    )  # fmt: skip


def sample() -> Snapshot:
    """Return a snapshot in which the guard has just acted."""
    return Snapshot(
        header=Header(
            mode="REPLAY", speed=20.0, source="quickstart", clock_ns=NOW, connection="live",
            lag_p99_ms=0.4, data_age_ms=120.0, frames_per_s=1_204.0, memory_mb=61.2,
            cpu_percent=4.1, run_hash="9f3ca1d2e4",
        ),
        safety=Safety(
            positions=2, distance=0.118, change=-0.006, closest=0.059, act_below=0.06,
            restore_to=0.09, equity=10_412.33, free_collateral=3_120.08, initial_margin=7_292.25,
            maintenance_margin=4_375.35, usage=0.70, leverage=3.2, rungs=1,
            last_rung="SELL 0.6 ETH-USD: distance 5.9 % < 6.0 %", last_rung_at=NOW,
            next_rung="SELL 0.6 ETH-USD reduce-only ≈ 3,011.2 at 6.0 %, restores 9.0 %",
            history=tuple(0.12 + math.sin(i / 7) / 20 for i in range(90)),
        ),
        positions=(
            PositionRow(ticker="ETH-USD", size=2.1, entry=3020.1, oracle=3012.4, pnl=-16.17,
                        liquidation_price=2655.0, distance=0.118, funding_1h=-0.0311,
                        cause="#48211", digits=1),
            PositionRow(ticker="BTC-USD", size=-0.05, entry=63_132.0, oracle=63_100.0, pnl=1.6,
                        liquidation_price=91_220.0, distance=0.445, funding_1h=0.0021,
                        cause="#48003", digits=0, size_digits=4),
            PositionRow(ticker="LINK-USD", size=10.0, cause="#40007"),
        ),
        markets=tuple(_market(place) for place in range(len(_MARKETS))),
        scores=tuple(
            ScoreRow(ticker=row.ticker, signal=name, value=value, seq=48_211,
                     inputs=(("fast", 3012.44), ("slow", 3010.2), ("slope", 0.000742)))
            for row in (_market(0), _market(1), _market(3)) for name, value in row.scores
        ),
        decisions=_decisions(),
        verdicts=_verdicts(),
        fills=_fills(),
        account=Account(
            collateral=10_398.1, realized=-12.2, unrealized=-14.57, fees=2.03, funding=-0.0412,
            open_orders=0, fills=3, denied=1, approved=1, reduced=1, wins=1, losses=2, best=14.1,
            worst=-24.0, mean_notional=2_610.0,
        ),
        book=_book(),
        quality=Quality(
            counts=(("malformed", 1), ("unknown", 1), ("duplicate", 4), ("gap", 1), ("stale", 2)),
            samples=((48_102, "malformed", '{"type":"channel_data","contents":{"bids":[["'),
                     (47_655, "unknown", '{"type":"channel_data","channel":"v4_blocks"')),
            stale=("SOL-USD",),
        ),
        speed=Speed(
            layers=tuple(
                LayerRow(layer=name, p50_us=2.1 + i, p99_us=14.5 * (i + 1), max_us=410.0 * (i + 1),
                         count=48_211)
                for i, name in enumerate(
                    ("conn", "data", "signals", "strategy", "risk", "paper", "panels"))
            ),
            throughput=tuple(1_000 + 200 * math.sin(i / 3) for i in range(40)),
            frames=48_211, decisions=42, dropped=0, draw_ms=1.81,
            samples=("slowest frame #47,981: 1.9 ms in risk (v4_markets, 60 oracle prices)",),
        ),
        wire=_wire(),
        tape=_tape(),
    )  # fmt: skip


@pytest.fixture
def full() -> Snapshot:
    """Give the snapshot in which the guard has just acted."""
    return sample()
