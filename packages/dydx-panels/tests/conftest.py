"""A moment of a run, written by hand: every panel has figures and samples to show."""

import math
from decimal import Decimal

import pytest
from dydx_conn import Frame, OrderRequest, PerpetualMarket
from dydx_data import SPANS, WINDOWS, Depth, Detection, Level, PriceRange, Sample, Trade
from dydx_panels import (
    AccountRow,
    BookPart,
    CandleRow,
    CandlesPart,
    EquityPart,
    FeedRow,
    FillMark,
    FlowPart,
    FlowRow,
    FundingRow,
    HeaderPart,
    HealthPart,
    HealthRow,
    HeldCosts,
    LayerRow,
    LimitRow,
    LinkPart,
    LinkRow,
    MarginRow,
    MarketRow,
    OrderRow,
    PerformancePart,
    PriceRow,
    PricesPart,
    QualityPart,
    QualityRow,
    RestRow,
    ResultPart,
    SafetyPart,
    ScoreHistory,
    SettingRow,
    Snapshot,
    SpeedPart,
    TapeRow,
    TurnRow,
    VenuePart,
    WalkPart,
    WalkRow,
    WayChange,
    WayPart,
    WayStage,
    WirePart,
    Witnessed,
)
from dydx_paper import (
    Execution,
    MarketTrades,
    Performance,
    RoundTrip,
    Stamp,
    TradeFigures,
    distribution,
    execution_figures,
)
from dydx_risk import (
    Approved,
    Check,
    Denied,
    Exit,
    FlightPlan,
    Holding,
    MarginFigures,
    PositionFigures,
    Reduce,
    Rung,
    Trigger,
    Verdict,
    Watch,
    margin_inputs,
    risk_figures,
    sign_text,
    stress_table,
    suggest_leverage,
)
from dydx_signals import Score
from dydx_strategy import Decision, Look, Ranked, RankSettings, composite
from hypothesis import HealthCheck, settings
from msgspec.structs import replace
from sessions import pytest_collection, pytest_collection_modifyitems  # noqa: F401  (hooks)

# A property is about what comes out, not about how busy the machine was.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

SECOND = 1_000_000_000
NOW = 1_784_021_467 * SECOND

_MARKETS = (
    ("ETH-USD", 3012.4, "ACTIVE", None, -9, 100_000),
    ("BTC-USD", 63132.0, "ACTIVE", None, -10, 1_000_000),
    ("SOL-USD", 148.31, "ACTIVE", 12.0, -7, 1_000_000),
    ("DOGE-USD", 0.12345, "CANCEL_ONLY", None, -4, 1_000_000),
    ("LINK-USD", None, "", None, -6, 1_000),
)
_SIGNALS = ("momentum", "volume", "volatility", "imbalance")
_INPUTS = (("fast", 3012.44), ("slow", 3010.2), ("slope", 0.000742))


def margin_at(distance: float) -> MarginFigures:
    """Return a margin at this distance to liquidation."""
    cushion = round(distance * 1_000_000_000)
    return MarginFigures(cushion, 0, 0, 1_000_000_000, 1_000_000_000)


def perpetual(ticker: str, atomic: int, tick: int) -> PerpetualMarket:
    """Return the parameters of a market whose tick is `tick` subticks."""
    return PerpetualMarket(
        ticker=ticker, clob_pair_id=0, perpetual_id=0, atomic_resolution=atomic,
        quantum_conversion_exponent=-9, step_base_quantums=1_000_000, subticks_per_tick=tick,
        imf_ppm=50_000, maintenance_fraction_ppm=600_000,
    )  # fmt: skip


def _market(place: int) -> MarketRow:
    ticker, price, status, stale_s, atomic, tick = _MARKETS[place]
    scores = tuple(
        Score(ticker, name, 50 + 45 * math.sin(place * 1.7 + i * 2.1), _INPUTS, 48_211, 17)
        for i, name in enumerate(_SIGNALS)
    )
    return MarketRow(
        ticker=ticker,
        market=perpetual(ticker, atomic, tick) if price else None,
        price=price,
        history=tuple(price * (1 + math.sin(i / 3 + place) / 99) for i in range(24))
        if price
        else (),
        spread_bps=1.25 + place if price else None,
        volume_60s=81_234.5 * (place + 1) if price else None,
        oracle=price,
        funding_1h=0.0000125 * (1 - place) if price else None,
        status=status,
        stale_s=stale_s,
        scores=scores if price else (),
        curves={
            score.signal: [math.sin(n / (i + 2)) for n in range(16)]
            for i, score in enumerate(scores)
        },
    )


def level(price: float, size: float) -> Level:
    """Return a level as the data layer makes it."""
    return Level(price, size, str(price), str(size), 0)


def _book() -> BookPart:
    return BookPart(
        ticker="ETH-USD",
        market=perpetual("ETH-USD", -9, 100_000),
        known=True,
        bids=tuple(level(3012.3 - i / 10, 2.5 + 8 * abs(math.sin(i))) for i in range(20)),
        asks=tuple(level(3012.6 + i / 10, 1.5 + 9 * abs(math.cos(i))) for i in range(20)),
        mid_price=3012.45,
        spread_bps=0.99,
        crossed=1,
        seq=48_211,
        trades=tuple(
            Trade(f"t{i}", ("BUY", "SELL")[i % 2], 3012.4 + i / 10, 0.3 + i, "", "",
                  NOW - i * SECOND, "LIMIT", 48_210 - i)
            for i in range(12)
        ),
    )  # fmt: skip


def decision(**fields: object) -> Decision:
    """Return a decision; what is not given is of no matter."""
    known = {
        "id": "D1", "at": 0, "ticker": "A-USD", "action": "hold", "target_usdc": 0.0,
        "previous_usdc": 0.0, "score": 50.0, "urgency": 0.0, "seq": 1, "reasons": (), "scores": (),
    }  # fmt: skip
    return Decision(**{**known, **fields})  # type: ignore[arg-type]


def _decisions() -> tuple[Decision, ...]:
    return (
        decision(
            id="D42", at=NOW - SECOND, ticker="ETH-USD", action="target", target_usdc=4_217.0,
            previous_usdc=6_326.0, score=58.0, urgency=0.62, seq=48_190,
            reasons=("score 58.0 is third of 5", "imbalance 38 fell below 45",
                     "volatility 82 scales the target to 67 %"),
        ),
        decision(
            id="D41", at=NOW - 2 * SECOND, ticker="SOL-USD", action="target", target_usdc=-1_483.0,
            score=31.0, urgency=0.4, seq=48_160,
            reasons=("score 31.0 is the lowest of 5", "momentum 22 points down"),
        ),
        decision(
            id="D40", at=NOW - 6 * SECOND, ticker="BTC-USD", target_usdc=3_150.0,
            previous_usdc=3_150.0, score=52.0, seq=48_020,
            reasons=("change 0.4 % is under the least change of 10 %",),
        ),
    )  # fmt: skip


def order(ticker: str, **fields: object) -> OrderRequest:
    """Return an order; what is not given is of no matter."""
    known = {
        "ticker": ticker, "clob_pair_id": 0, "side": "SELL", "quantums": 1, "subticks": 1,
        "time_in_force": "IOC", "client_id": 1, "good_til_block": 41_223_124,
    }  # fmt: skip
    return OrderRequest(**{**known, **fields})  # type: ignore[arg-type]


def _reduce() -> Reduce:
    return Reduce(
        id="V18", at=NOW, seq=48_211, order=order("ETH-USD", reduce_only=True), distance=0.059,
        rung=1, cost=2_140_000, before=margin_at(0.059), after=margin_at(0.09),
        why="sell 0.6 ETH-USD (of 2.1) at >= 3,003.4: distance 5.9 % < 6.0 %; restores 9.0 %, "
            "costs 2.14 USDC",
    )  # fmt: skip


def rung(**fields: object) -> Rung:
    """Return a rung that sells some ETH; what is not given is of no matter."""
    known = {
        "market": perpetual("ETH-USD", -9, 100_000), "side": "SELL", "quantums": 600_000_000,
        "held": 2_100_000_000, "subticks": 3_003_400_000, "quote": 1_806_720_000,
        "spread": 1_100_000, "impact": 140_000, "fee": 900_000, "loss": 2_200_000,
        "before": 0.06, "restores": 0.091, "fires_below": 0.062, "depth_share": 0.14,
        "liquidation_quantums": 331_000_000, "liquidation_cost": 28_341_000,
    }  # fmt: skip
    return Rung(**{**known, **fields})  # type: ignore[arg-type]


def _holdings() -> list[Holding]:
    eth, btc = perpetual("ETH-USD", -9, 100_000), perpetual("BTC-USD", -10, 1_000_000)
    return [
        Holding(market=eth, quantums=2_100_000_000, price=301_240, exponent=-2,
                open_interest=10**13, funding_8h_ppm=80, volatility_1h=0.011, beta=1.1),
        Holding(market=btc, quantums=-500_000_000, price=63_100, funding_8h_ppm=-40),
    ]  # fmt: skip


def _margins() -> tuple[MarginRow, ...]:
    held = _holdings()
    eth, btc = held
    scaled = replace(
        eth.market, open_interest_lower_cap=25 * 10**12, open_interest_upper_cap=50 * 10**12
    )
    held = [replace(eth, market=scaled, entry_price=Decimal("3020.1")), btc]
    figures = risk_figures(4_000_000_000, held)
    assert figures.margin is not None
    return tuple(
        MarginRow(figures=row, inputs=margin_inputs(one, figures.margin), market=one.market)
        for row, one in zip(figures.positions, held, strict=True)
    )


def watched(collateral: int = -2_000_000_000, holdings: list[Holding] | None = None) -> Watch:
    """Return what risk sees of an account: a ladder of two rungs, and one that is blind."""
    held = _holdings() if holdings is None else holdings
    first = rung()
    second = rung(held=1_500_000_000, before=0.091, restores=0.12, fires_below=0.06,
                  blind="the book is stale")  # fmt: skip
    way = Exit(market=first.market, held=2_100_000_000, price=301_240, exponent=-2,
               size=2_100_000_000, fee_ppm=500, bound=1, best=3_012_300_000)  # fmt: skip
    return Watch(
        seq=48_211, at=NOW, trouble="",
        figures=risk_figures(collateral, held), stress=stress_table(collateral, held),
        plan=FlightPlan(rungs=(first, second), distance_now=0.118, distance_next=0.109,
                        drawn_at=0.062, distance_after=0.12, cost=4_280_000, exits=(way,),
                        left=(("SOL-USD", "its reduction has no answer yet"),)),
        triggers=_triggers(),
        leverage=tuple(suggest_leverage(h, keep_above=0.12) for h in held),
    )  # fmt: skip


def _triggers() -> tuple[Trigger, ...]:
    """Return every rule: one that is near, one that is due, one of an unknown equity, one that no move reaches."""
    return (
        Trigger(cause="DISTANCE", level=0.112, now=0.118, share=0.5, away=0.006,
                why="from 12.0 % down to 10.0 %, where nothing stays"),
        Trigger(cause="LEVERAGE", level=2.0, now=2.14, share=0.89, away=0.0,
                why="no more than 2 times the equity"),
        Trigger(cause="DAILY_LOSS", level=9_750e6, now=None, share=0.5,
                why="from 10,000.00 USDC down to 9,500.00, where nothing stays"),
        Trigger(cause="DRAWDOWN", level=9_100e6, now=10_000e6, share=0.0, away=math.inf,
                why="from 10,100.00 USDC down to 9,100.00, where nothing stays"),
    )  # fmt: skip


_DID = Performance(
    trades=12, win_rate=0.417, profit_factor=0.82, average_win=31_200_000.0,
    average_loss=22_400_000.0, max_drawdown=412_000_000, max_drawdown_ratio=0.0396,
    drawdown_ns=3 * 3_600 * SECOND, sharpe=None, sortino=None, exposure=0.62,
    turnover=3.1, volume=32_000_000_000, fees=16_010_000, funding=-41_200, insurance=0,
)  # fmt: skip


def _trip(place: int, ticker: str, pnl: float, **fields: object) -> RoundTrip:
    known = {
        "is_long": pnl > 0, "pnl": pnl, "fees": 2.1, "funding": 0.3, "entry": 3_012.44,
        "exit": 3_019.2, "size": 2.1, "usdc": 6_326.12, "share": 0.61,
        "opened": Stamp(seq=40_000 + place, at=NOW - place * 90 * SECOND, time_ns=1),
        "ended": Stamp(seq=41_000 + place, at=NOW - place * 60 * SECOND,
                       time_ns=1 + (place + 1) * 40 * SECOND),
    }  # fmt: skip
    return RoundTrip(ticker=ticker, **{**known, **fields})  # type: ignore[arg-type]


def _performance() -> PerformancePart:
    trips = (_trip(1, "ETH-USD", 31.2), _trip(2, "SOL-USD", -22.4, size=None, usdc=None, share=None),
             _trip(3, "ETH-USD", 4.05), _trip(4, "BTC-USD", -61.0, exit=None))  # fmt: skip
    fills = (
        execution(0),
        execution(1),
        execution(2, liquidity="MAKER", mid_sent=None, waited_ns=None),
    )
    return PerformancePart(
        performance=_DID, won=5, lost=7, fills=31, fees=16_010_000, funding=-41_200, insurance=0,
        queue="pessimistic", executions=fills, costs=execution_figures(fills),
        trades=TradeFigures(
            trips=trips, bars=distribution([trip.pnl for trip in trips], 12), expectancy=-12.04,
            payoff=0.42, best=trips[0], worst=trips[3], held_s=(80.0, 120.0, 4_000.0),
            usdc=(6_326.0, 6_326.0, 6_326.0), share=(0.61, 0.61, 0.61),
            markets=(
                MarketTrades(ticker="ETH-USD", trades=2, won=2, pnl=35.25, fees=4.2, funding=0.6,
                             best=31.2, worst=4.05),
                MarketTrades(ticker="SOL-USD", trades=1, won=0, pnl=-22.4, fees=2.1, funding=0.3,
                             best=-22.4, worst=-22.4),
            ),
        ),
    )  # fmt: skip


def _venue() -> VenuePart:
    return VenuePart(
        performance=_DID,
        liquidations=1, maker_ppm=100, taker_ppm=500, queue="pessimistic", error=0.214, pending=2,
        fills=(Witnessed("ETH-USD", 20_000_000_000, 18_000_000_000, 0.1),
               Witnessed("SOL-USD", 8_000_000_000, 4_000_000_000, 0.5)),
        refusals=(("ErrGTBExceedsMax", 3), ("ErrInvalidClob", 1)), owed=(("SOL-USD", 2),),
    )  # fmt: skip


def execution(place: int = 0, **fields: object) -> Execution:
    """Return a fill of the order of the sample; what is not given is of no matter."""
    known = {
        "id": f"F{place + 9}", "order": "O4", "ticker": "ETH-USD", "side": "BUY",
        "size": 1.4 / (place + 1), "price": 3012.6 + place / 10, "liquidity": "TAKER",
        "fee": 2_108_000 // (place + 1), "mid_price": 3012.5, "mid_sent": 3012.45,
        "waited_ns": 31_000_000, "seq": 48_191 + place, "at": NOW - SECOND,
    }  # fmt: skip
    return Execution(**{**known, **fields})  # type: ignore[arg-type]


def _orders() -> tuple[OrderRow, ...]:
    return (
        order_row(id="O5", at=NOW - 40 * SECOND, status="OPEN", why="", filled=0.4, average=3012.0,
                  age_s=40.0, kind="resting, post-only", by="D41", verdict="V15", fills=()),
        order_row(),
        order_row(id="O3", at=NOW - 90 * SECOND, ticker="BTC-USD",
                  market=perpetual("BTC-USD", -10, 1_000_000), side="SELL", size=0.05,
                  filled=0.05, status="FILLED", why="", price=62_500.0, average=63_132.0,
                  verdict="V9", by="guard", kind="at once, reduce-only"),
        order_row(id="O2", at=NOW - 95 * SECOND, ticker="SOL-USD", market=None, size=None, filled=0.0, fills=(),
                  status="REJECTED", why="the account has not enough collateral", verdict="",
                  by="another", trigger=140.2, price=None, average=None, kind="stop loss"),
    )  # fmt: skip


def _look() -> Look:
    chosen = RankSettings(weights={"momentum": 0.6, "imbalance": 0.4}, market_share=0.6)
    return Look(
        seq=48_190, at=NOW - SECOND, settings=chosen, equity_usdc=10_412.33, gross_usdc=9_476.0,
        limit_usdc=31_236.99, taken=2,
        markets=(
            Ranked(ticker="ETH-USD", score=72.4, has_usdc=0.0, strength=0.827, earns_usdc=5_707.0,
                   wants_usdc=5_707.0, gets_usdc=4_217.0, why="score 72.4 ≥ 60 to go long"),
            Ranked(ticker="SOL-USD", score=31.0, has_usdc=-1_483.0, strength=0.6,
                   earns_usdc=-4_998.0, wants_usdc=-1_483.0, gets_usdc=-1_483.0,
                   why="held 12 s < 30 s"),
            Ranked(ticker="BTC-USD", score=52.0, has_usdc=0.0, strength=0.0, earns_usdc=3_124.0,
                   wants_usdc=0.0, gets_usdc=0.0, why="score 52.0 < 60 to go long"),
        ),
    )  # fmt: skip


def order_row(**fields: object) -> OrderRow:
    """Return an order that was partly filled; what is not given is of no matter."""
    known = {
        "id": "O4", "at": NOW - SECOND, "seq": 48_192, "ticker": "ETH-USD", "side": "BUY",
        "market": perpetual("ETH-USD", -9, 100_000),
        "size": 2.8, "filled": 2.1, "price": 3015.0, "average": 3012.63, "fee": 3_162_000,
        "kind": "at once", "status": "CANCELLED", "why": "immediate or cancel would rest on book",
        "verdict": "V16", "by": "D42", "fills": (execution(0), execution(1)),
    }  # fmt: skip
    return OrderRow(**{**known, **fields})  # type: ignore[arg-type]


def _walk() -> WalkPart:
    bought, sold, stays = _decisions()
    look, scores = _look(), _market(0).scores
    bought = replace(bought, scores=scores, score=composite(scores, look.settings).value)
    before = MarginFigures(10_412_330_000, 301_240_000, 180_744_000, 9_476_000_000, 9_300_000_000)
    after = MarginFigures(10_399_120_000, 512_000_000, 307_200_000, 13_693_000_000, 13_500_000_000)
    approved = Approved(id="V16", at=NOW - SECOND, seq=48_190, order=order("ETH-USD", side="BUY"),
                        decision=bought, before=before, after=after,
                        why="buy 2.8 ETH-USD at <= 3,015.0: leverage 1.32")  # fmt: skip
    limits = (
        Check(reason="LEVERAGE", what="leverage", would_be=1.32, limit=5.0, unit="x"),
        Check(reason="DISTANCE", what="distance to liquidation", would_be=0.11, limit=0.12,
              unit="%", is_least=True),
        Check(reason="NOTIONAL", what="notional", would_be=None, limit=9_000.0, unit="USDC"),
    )  # fmt: skip
    denied = _verdicts()[1]
    assert isinstance(denied, Denied)
    return WalkPart(rows=(
        WalkRow(decision=bought, strategy="rank", composite=composite(scores, look.settings),
                look=look, verdict=approved, checks=limits, orders=(order_row(),)),
        WalkRow(decision=replace(sold, scores=scores), strategy="sniper",
                limits={"arm": 3.0, "leave": 1.0}, verdict=denied),
        WalkRow(decision=stays, strategy="rank", look=look, composite=composite((), look.settings)),
    ))  # fmt: skip


def _verdicts() -> tuple[Verdict, ...]:
    return (
        _reduce(),
        Denied(id="V17", at=NOW - 2 * SECOND, ticker="SOL-USD", seq=48_160, decision=None,
               reason="MARGIN", figures=(("needs", "812.00"), ("free", "610.44")),
               why="initial margin after the trade would exceed net collateral"),
        Approved(id="V16", at=NOW - 9 * SECOND, seq=48_001, order=order("BTC-USD", side="BUY"),
                 decision=decision(), before=margin_at(0.2), after=margin_at(0.15),
                 why="buy 0.05 BTC-USD at <= 63,258: leverage 3.10, distance 15.0 %"),
    )  # fmt: skip


def _fills() -> tuple[TapeRow, ...]:
    return (
        TapeRow(NOW, "fill", "SELL 0.300 at 3,012.4, taker fee 0.45 USDC", "ETH-USD", "F9", 48_212),
        TapeRow(NOW - 9 * SECOND, "fill", "BUY 0.0500 at 63,132, taker fee 1.58 USDC", "BTC-USD", "F8",
                48_003),
        TapeRow(NOW - 99 * SECOND, "liquidated", "SELL 12 at 148.3, taker fee 0.00 USDC", "SOL-USD", "F7",
                41_003),
    )  # fmt: skip


def _tape() -> tuple[TapeRow, ...]:
    return (
        _fills()[0],
        TapeRow(NOW, "reduce", sign_text(_reduce().why), "ETH-USD", "V18", side="SELL"),
        TapeRow(NOW - SECOND, "decision", "target +6,326 → +4,217: imbalance 38 fell below 45",
                "ETH-USD", "D42"),
        TapeRow(NOW - 2 * SECOND, "denied", "initial margin would exceed net collateral",
                "SOL-USD", "V17"),
        TapeRow(NOW - 4 * SECOND, "link", "link back after 3.4 s", id="L2"),
        TapeRow(NOW - 6 * SECOND, "hold", "change 0.4 % is under the least change of 10 %",
                "BTC-USD", "D40"),
        TapeRow(NOW - 9 * SECOND, "approved", "buy 0.0500 BTC-USD", "BTC-USD", "V16"),
    )  # fmt: skip


def _wire() -> WirePart:
    head = '{"type":"channel_data","connection_id":"8f2","message_id":911,"id":"ETH-USD",'
    return WirePart(
        height=41_223_119, block_time_ns=NOW - SECOND,
        counts=(("frames", 48_211), ("faults", 2), ("gaps", 1), ("reconnects", 1), ("kB", 31_554)),
        kinds=(("v4_orderbook", 40_100), ("v4_trades", 6_211), ("v4_markets", 1_900)),
        samples=tuple(
            Frame(48_211 - i, NOW, NOW, "ws", "ws", head + f'"contents":[{{"bids":[["{i}","1"]]}}]}}',
                  "channel_data", "v4_orderbook")
            for i in range(12)
        ),
    )  # fmt: skip


OWNER = "dydx1lwzy434rmz8ufxkeak36xgpuzk9k9csx0sn6km"
OTHER = "dydx1l27zdyeq7atgf98eef36dds5aatfagyz9e4njq"


def accounts() -> tuple[AccountRow, ...]:
    """Make four accounts that are watched: safe, in danger, not known, and flat."""
    past = ("profit   24 h +120.50  7 d +90.00", "funding  24 h -0.31")
    return (
        AccountRow(
            id=f"{OWNER}/0", equity=12_345.67, profit=-3.2, day=120.5, leverage=2.17,
            distance=0.437, positions=6, orders=2, block=41_000_331, height=41_000_330,
            chosen=True, lines=past,
        ),
        AccountRow(
            id=f"{OWNER}/128", kind="isolated", equity=345.67, profit=3.2, leverage=12.17,
            distance=0.037, positions=1, orders=0, height=41_000_330,
        ),
        AccountRow(id=f"{OTHER}/0", trouble="no account snapshot yet"),
        AccountRow(
            id=f"{OTHER}/1", equity=0.0, profit=0.0, positions=0, orders=0, block=41_000_331,
            trouble="nothing was ever deposited here, on testnet",
        ),
    )  # fmt: skip


def sample() -> Snapshot:
    """Return a snapshot in which the guard has just acted."""
    positions = (
        PositionFigures(ticker="ETH-USD", size=Decimal("2.1"), entry_price=Decimal("3020.1"),
                        oracle_price=Decimal("3012.4"), unrealized_pnl=Decimal("-16.17"),
                        liquidation_price=Decimal(2655), distance=0.118, funding_1h=31_100,
                        seq=48_211),
        PositionFigures(ticker="BTC-USD", size=Decimal("-0.05"), entry_price=Decimal(63132),
                        oracle_price=Decimal(63100), unrealized_pnl=Decimal("1.6"),
                        liquidation_price=Decimal(91220), distance=0.445, funding_1h=-2_100,
                        seq=48_003),
        PositionFigures(ticker="LINK-USD", size=Decimal(10), entry_price=Decimal(15), seq=40_007),
    )  # fmt: skip
    return Snapshot(
        accounts=accounts(),
        header=HeaderPart(
            mode="REPLAY", speed=20.0, source="quickstart", clock_ns=NOW, connection="live 5/5",
            lag_p99_ms=0.4, data_age_s=0.12, frames_per_s=1_204.0, memory_mb=61.2,
            cpu_percent=4.1, run_hash="9f3ca1d2e4",
        ),
        safety=SafetyPart(
            margin=MarginFigures(10_412_330_000, 7_292_250_000, 4_375_350_000, 33_300_000_000,
                                 51_160_000_000),
            result=ResultPart(
                profit=412_330_000, share=0.0412, paid_in=10_000_000_000, today=-31_200_000,
                today_share=-0.003, fall=64_100_000, fall_share=0.0061, deepest=210_900_000,
                deepest_share=0.0207, most_today=0.05, most_fall=0.1,
            ),
            positions=3, change=-0.006, closest=0.059, act_below=0.06,
            last=_reduce(),
            history=tuple(0.12 + math.sin(i / 7) / 20 for i in range(90)),
        ),
        equity=_equity(),
        positions=positions,
        markets=tuple(_market(place) for place in range(len(_MARKETS))),
        decisions=_decisions(),
        verdicts=_verdicts(),
        orders=_orders(),
        money=(("realized_pnl", -12_200_000), ("unrealized_pnl", -14_570_000), ("fees", -2_030_000),
               ("funding", -41_200)),
        counts=(("approved", 1), ("denied", 1), ("reduce", 1), ("fills", 3), ("won", 1)),
        watch=watched(), venue=_venue(), book=_book(),
        quality=QualityPart(
            counts=(("malformed", 1), ("unknown", 1), ("duplicate", 4), ("gap", 1), ("stale", 2)),
            samples=(Sample(48_102, "malformed", '{"type":"channel_data","contents":{"bids":[["'),
                     Sample(47_655, "unknown", '{"type":"channel_data","channel":"v4_blocks"')),
            stale=("SOL-USD",), markets=_quality(),
        ),
        speed=SpeedPart(
            latency_us=(("p50", 22.5), ("p90", 61.4), ("p99", 410.0), ("max", 1_230.0)),
            throughput=tuple(1_000 + 200 * math.sin(i / 3) for i in range(40)),
            draw_ms=1.81,
        ),
        way=_way(),
        link=_link(),
        health=_health(),
        wire=_wire(),
        tape=_tape(),
        candles=_candles(),
        flow=_flow(),
        prices=_prices(),
        signals=_score_histories(),
        funding=_funding(),
        walk=_walk(),
        held=(HeldCosts(ticker="ETH-USD", fees=-3_162_000, funding=-41_200, owed=-1_100),
              HeldCosts(ticker="BTC-USD", fees=-1_578_300, funding=9_100, owed=300)),
        margins=_margins(),
        performance=_performance(),
        detections=_detections(),
        triggers={"volatility": (75.0, 90.0), "imbalance": (0.0, 100.0)},
    )  # fmt: skip


def _equity() -> EquityPart:
    worth = [10_000 + 260 * math.sin(n / 14) + 3.4 * n for n in range(90)]
    peaks = [max(worth[: n + 1]) for n in range(90)]
    falls = tuple(1 - usdc / peak for usdc, peak in zip(worth, peaks, strict=True))
    return EquityPart(
        at=tuple(NOW - (89 - n) * 10 * SECOND for n in range(90)),
        seqs=tuple(48_211 - (89 - n) * 31 for n in range(90)),
        equity=tuple(worth), low=tuple(usdc - 4 for usdc in worth),
        high=tuple(usdc + 3 for usdc in worth), profit=tuple(usdc - 10_000 for usdc in worth),
        fall=falls, distance=(None, *(0.14 + math.sin(n / 7) / 15 for n in range(89))),
        leverage=tuple(3.0 + math.sin(n / 9) for n in range(90)), every_s=10.0, deposited=10_000.0,
        today=worth[-1] - 10_040, depth=peaks[-1] - worth[-1], depth_share=falls[-1],
        deepest=412.5, deepest_share=0.041, leverage_now=2.55, act_below=0.06,
    )  # fmt: skip


def _candles() -> CandlesPart:
    rows, price = [], 3_010.0
    for number in range(60):
        close = 3_010.0 + 8 * math.sin(number / 6)
        state = {31: "partial", 59: "forming"}.get(number, "venue" if number < 20 else "closed")
        rows.append(CandleRow(NOW - (60 - number) * 60 * SECOND, price, max(price, close) + 1.5,
                              min(price, close) - 1.0, close, 4.0 + number % 7, 12_000.0,
                              9 + number % 5, state))  # fmt: skip
        price = close
    return CandlesPart(
        ticker="ETH-USD",
        market=perpetual("ETH-USD", -9, 100_000),
        resolution="1MIN",
        rows=tuple(rows),
        fills=(
            FillMark(NOW - 41 * 60 * SECOND, "BUY", 3_012.1, 2.7, False, 46_201),
            FillMark(NOW - 9 * 60 * SECOND, "SELL", 3_014.9, 0.6, True, 48_102),
        ),
    )


def _flow() -> FlowPart:
    windows = tuple(
        FlowRow(ticker="ETH-USD", window=name, trades=9 * number, buys=1.5 * number,
                sells=0.6 * number, usd=6_321.5 * number, vwap=3_011.2 if number else None,
                largest=0.9 * number, median=0.02, p99=0.8, liquidated=0.03 * (number > 3))
        for number, name in enumerate(WINDOWS)
    )  # fmt: skip
    return FlowPart(
        ticker="ETH-USD", market=perpetual("ETH-USD", -9, 100_000), windows=windows, trades=_book().trades,
        by_price=tuple((3_008.0 + step / 2, 1.0 + step % 4, 0.5 * (step % 3)) for step in range(12)),
        others=tuple(FlowRow(ticker=ticker, window="1MIN", trades=4, buys=2.0, sells=1.0, usd=900.0)
                     for ticker, *_ in _MARKETS[:3]),
    )  # fmt: skip


def _health() -> HealthPart:
    return HealthPart(
        rows=(HealthRow("connection", "watch", "reconnecting 4 s: c1: 1006 connection reset"),
              HealthRow("data", "good", "", (("markets", 5), ("troubles", 9))),
              HealthRow("account", "good"),
              HealthRow("trading", "danger", "halted: flash crash (by ann)"),
              HealthRow("database", "watch", "expected a database that follows, got one behind",
                        (("written", 48_210), ("waiting", 12), ("in a file", 340), ("lost", 1)))),
        uptime_s=93_600.0, carried="goes on with 3 positions of the run before", cpu_share=0.31,
        cpu_s=4_211.0, memory_mb=96.2, peak_mb=121.0, threads=6, disk_free_gb=82.6, disk="/data",
        frames=48_211, reconnects=3, gaps=1, drawn=9_000, undrawn=2,
        draw_ms=(("p50", 1.8), ("p99", 12.0), ("max", 40.0)),
        ages=(("book", "SOL-USD", 45.0), ("trades", "LINK-USD", None), ("oracle", "BTC-USD", 61.0)),
        profile="steady", strategy="rank", file="bot.yaml", config_hash="6b37a6798857",
        settings=(SettingRow("policy.act_below", "0.08", "bot.yaml:4"),
                  SettingRow("database.url", "**********", "BOT_DATABASE__URL")),
    )  # fmt: skip


def _link() -> LinkPart:
    pings = (("p50", 41.2), ("p90", 80.0), ("p99", 210.0), ("max", 212.4))
    took = (("p50", 88.0), ("p99", 412.0), ("max", 900.0))
    return LinkPart(
        state="backing_off", reason="c2: 1006 connection reset", since_s=4.2, lag_ms=pings,
        block_ms=812.0, late_ms=None,
        links=(LinkRow(link="c1", state="live", reason="all requests are answered", since_s=7_200.0,
                       silent_s=0.2, frames=48_000, pings_ms=pings),
               LinkRow(link="c2", state="backing_off", reason="1006 connection reset", since_s=4.2,
                       silent_s=12.0, frames=211, losses=3)),
        turns=(TurnRow(NOW - 4 * SECOND, "c2", "live", "backing_off", "1006 connection reset", None,
                       48_190),
               TurnRow(NOW - 30 * SECOND, "c1", "stale", "live", "a message arrived", 26.0, 48_000),
               TurnRow(NOW - 900 * SECOND, "", "subscribing", "live", "all links are", 896.0, 17)),
        rest=(RestRow(endpoint="/v4/orderbooks/perpetualMarket/*", answered=40, requested=44,
                      per_minute=2.0, took_ms=took, retried=2, errors=(("ServerError", 3), ("Unreachable", 1)),
                      circuit="open", retry_in_s=3.5, good_age_s=61.0),
              RestRow(endpoint="/v4/perpetualMarkets", answered=5)),
        limits=(LimitRow(group="default", limit=100, left=0, queued=4, wait_s=4.2, waits=9,
                         waited_s=31.0, limited=2),),
        feeds=(FeedRow(channel="v4_orderbook", ticker="ETH-USD", frames=40_100, per_s=4.0),
               FeedRow(channel="v4_trades", ticker="ETH-USD", frames=6_211)),
        errors=(("data", "crossed", 55), ("lost", "connection reset", 3)),
    )  # fmt: skip


def _way() -> WayPart:
    def layer(stage: str, us: float, share: float, errors: int | None = None) -> LayerRow:
        shares = (("p50", us), ("p90", 2 * us), ("p99", 40 * us), ("max", 400 * us))
        return LayerRow(
            stage=stage, frames=48_211, per_s=173.4, took_us=shares, share=share, errors=errors
        )

    text = '{"type":"channel_batch_data","connection_id":"8f2","contents":[{"bids":[["3012.3","2"'
    return WayPart(
        seq=48_190, at=NOW, ticker="ETH-USD", channel="v4_orderbook", size=1_148, took_us=182.4,
        market=perpetual("ETH-USD", -9, 100_000), why="led to D42",
        stages=(
            WayStage(stage="wire", texts=(("", text * 3),)),
            WayStage(stage="decoding", at_us=0.0, took_us=4.2, calls=1,
                     texts=(("", "BookContents(bids=[('3012.3', '2')], asks=[])"),)),
            WayStage(stage="data", at_us=4.2, took_us=11.0, calls=1, changes=(
                WayChange("best_bid", 3_012.2, 3_012.3), WayChange("bid_size", 2.0, 1.5),
                WayChange("best_ask", 3_012.5, 3_012.5), WayChange("ask_size", 1.0, 1.0),
                WayChange("last_trade", 3_012.5, 3_012.5),
                WayChange("mid_price", 3_012.4, 3_012.4), WayChange("funding_1h", None, 1.25e-5))),
            WayStage(stage="venue", at_us=15.4, took_us=2.1, calls=1),
            WayStage(stage="risk", at_us=17.9, took_us=1.9, calls=1, changes=(
                WayChange("distance", 0.118, 0.117), WayChange("net_collateral", 10_412.33, 10_410.0))),
            WayStage(stage="signals", at_us=20.1, took_us=3.1, calls=1, changes=(
                WayChange("momentum", 57.2, 58.0), WayChange("volume", 71.0, 71.0))),
            WayStage(stage="strategy", at_us=24.0, took_us=90.0, calls=2,
                     texts=(("D42", "ETH-USD target +6,326 to +4,217: imbalance 38 fell below 45"),)),
            WayStage(stage="verdict", at_us=60.2, took_us=40.0, calls=1,
                     texts=(("V18", "ETH-USD sell 0.7 at >= 3,003.4: distance 13.1 %"),)),
            WayStage(stage="account", changes=(WayChange("open_orders", 0.0, 1.0),), texts=(
                ("F9", "after 0.200 s, frame #48212: ETH-USD SELL 0.300 at 3012.4"),)),
        ),
        layers=(layer("decoding", 6.0, 0.1, 2), layer("data", 25.0, 0.5, 0),
                layer("signals", 9.0, 0.4)),
    )  # fmt: skip


def _score_histories() -> tuple[ScoreHistory, ...]:
    return tuple(
        ScoreHistory(
            ticker=ticker, signal=name, count=340,
            points=tuple(50 + 40 * math.sin(n / 7 + place) for n in range(60)),
            quantiles=(9.6, 14.0, 51.0, 86.0, 90.1), bins=(9, 40, 30, 25, 20, 26, 30, 60, 70, 30),
        )
        for place, (ticker, *_) in enumerate(_MARKETS[:2]) for name in _SIGNALS
    )  # fmt: skip


def _range(span: str, place: int) -> PriceRange:
    return PriceRange(
        span=span, resolution="1MIN", periods=5 * place, wanted=5 * place + place // 4,
        partial=int(place == 3), open=3_000.0, high=3_020.5 + place, low=2_990.0 - place,
        close=3_012.4, volatility_1h=0.004 * place if place > 1 else None, size=8.1 * place,
        usd=24_000.0 * place**2, trades=9 * place,
    )  # fmt: skip


def _prices() -> PricesPart:
    def row(place: int) -> PriceRow:
        ticker, price, _, _, atomic, tick = _MARKETS[place]
        depth = Depth(25, 81_000.0 / (place + 1), 60_000.0)
        return PriceRow(
            ticker=ticker, market=perpetual(ticker, atomic, tick), price=price, spread_bps=1.2,
            hour=_range("1HOUR", 3) if place < 3 else None, depth=depth if price else None,
            seq=48_211 - place,
        )  # fmt: skip

    return PricesPart(
        shown=row(0),
        ranges=tuple(_range(span, place) for place, span in enumerate(SPANS, 1)),
        depths=(Depth(5, 12_000.0, 9_000.0), Depth(10, 40_100.0, 20_050.0), Depth(25, 0.0, 0.0)),
        by_price=_flow().by_price,
        closes=tuple(3_010.0 + 8 * math.sin(number / 6) for number in range(60)),
        markets=tuple(map(row, range(len(_MARKETS)))),
    )


def _funding() -> tuple[FundingRow, ...]:
    history = tuple(1e-5 * math.sin(hour / 9) for hour in range(240))
    return (
        FundingRow(ticker="ETH-USD", venue_1h=2.1e-5, predicted_1h=1.9e-5, most_1h=1e-3,
                   share=0.4, seconds=2_071.0, history=history, seq=48_001),
        FundingRow(ticker="BTC-USD", venue_1h=-4e-6, seconds=2_071.0, seq=48_003),
        FundingRow(ticker="LINK-USD"),
    )  # fmt: skip


def _quality() -> tuple[QualityRow, ...]:
    ages = (("book", 12.0), ("trades", 45.1), ("oracle", 12.0), ("funding", None))
    fresh = (("book", 0.1), ("trades", 2.0), ("oracle", 1.0), ("funding", 19.5))
    return (
        QualityRow(ticker="SOL-USD", why="its link is silent 12 s", ages=ages, known=0.91,
                   messages_s=0.0, expected_s=4.2, lag_p99_ms=812.0, counts=(("gap", 1), ("stale", 2))),
        QualityRow(ticker="BTC-USD", ages=fresh, complete=1.0, known=1.0, messages_s=5.1, expected_s=4.8, counts=(("crossed", 9), ("duplicate", 4))),
        QualityRow(ticker="ETH-USD", ages=fresh),
    )  # fmt: skip


def _detections() -> tuple[Detection, ...]:
    def found(ticker: str, detector: str, strength: float, **inputs: float) -> Detection:
        return Detection(ticker, detector, strength, tuple(inputs.items()), 48_100)

    return (
        found("BTC-USD", "arbitrage", 0.31, usd=1_000.0, basis_bps=41.2, basis_usd=3.4),
        found("BTC-USD", "discovery", 0.62, lead_trades_s=0.48, rho_trades=0.62, share_mid=0.9),
        found("BTC-USD", "makers", 0.81, uptime=1.0, there=1.0, prompt=0.84, life_s=0.8),
        found("ETH-USD", "arbitrage", 0.0, usd=1_000.0, basis_bps=2.5, basis_usd=-0.87),
        found("ETH-USD", "discovery", 0.4, lead_trades_s=-0.2, rho_trades=0.4),
        found("ETH-USD", "makers", 0.3, uptime=0.6, there=0.5, prompt=0.2, life_s=3.1),
        found("SOL-USD", "arbitrage", 0.0, usd=1_000.0, basis_bps=9.0),
        found("SOL-USD", "discovery", 0.5, lead_oracle_s=0.7, rho_oracle=0.5),
        found("SOL-USD", "makers", 0.1, uptime=0.1, there=0.1, prompt=0.0, life_s=9.0),
    )


@pytest.fixture
def full() -> Snapshot:
    """Give the snapshot in which the guard has just acted."""
    return sample()


@pytest.fixture
def again(full: Snapshot) -> Snapshot:
    """Return a run that is the 13th of its account."""
    count, earlier = len(full.equity.at), NOW - 600 * SECOND
    return replace(
        full,
        orders=(*full.orders, order_row(
            id="12/O104", at=earlier, seq=0, run=12, by="run 12", verdict="", fills=(), kind="",
        )),
        tape=(*full.tape, TapeRow(
            earlier, "fill", "BUY 2.1 at 3,012.6, taker fee 3.16 USDC", "ETH-USD", "12/F88", run=12,
        )),
        equity=replace(full.equity, seqs=(*(0,) * (count - 3), *full.equity.seqs[-3:])),
    )  # fmt: skip
