"""Panels are pure: values and a size in, rows of exactly that size out."""

import io
import math
import os
import re
from decimal import Decimal
from pathlib import Path

import pytest
from dydx_conn import Frame
from dydx_data import Level
from dydx_panels import (
    _WORDS,
    KEYS,
    BookPart,
    CandleRow,
    CandlesPart,
    FlowPart,
    FlowRow,
    HeaderPart,
    MarketRow,
    PanelError,
    PriceRow,
    PricesPart,
    QualityPart,
    SafetyPart,
    Snapshot,
    SpeedPart,
    TapeRow,
    Theme,
    View,
    WirePart,
    _broken,
    _figure,
    dashboard,
    export_svg,
    panel,
    run_panel,
    selectable,
    worded,
)
from dydx_risk import (
    MarginFigures,
    PositionFigures,
    Standing,
    Watch,
    percent_text,
)
from dydx_signals import Score
from msgspec.structs import replace
from rich.cells import cell_len
from rich.console import Console

SIZES = ((80, 24), (120, 40), (200, 60), (250, 70))
SNAPSHOTS = Path(__file__).parent / "snapshots"
FRAMED = [*KEYS.values(), "help", "why"]


def drawn(
    name: str, snapshot: Snapshot, view: View | None = None, width: int = 100, height: int = 16
) -> str:
    """Draw one panel to text."""
    return panel(name, snapshot, width, height, view or View()).text


def agrees(name: str, text: str) -> bool:
    """Compare with the stored picture; UPDATE_SNAPSHOTS=1 stores what is drawn now."""
    path = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    return path.read_text(encoding="utf-8") == text + "\n"


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_dashboard_looks_as_it_was_looked_at(full: Snapshot, width: int, height: int) -> None:
    """Each size shows the picture that was approved by eye."""
    assert agrees(f"dashboard-{width}x{height}", dashboard(full, View(), width, height).text)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_an_empty_dashboard_looks_as_it_was_looked_at(width: int, height: int) -> None:
    """Before the first frame everything reads unknown."""
    assert agrees(f"empty-{width}x{height}", dashboard(Snapshot(), View(), width, height).text)


@pytest.mark.parametrize("name", FRAMED)
def test_each_panel_alone_looks_as_it_was_looked_at(full: Snapshot, name: str) -> None:
    """A panel shown alone has room for its samples."""
    view = View(panel=name, why=("D42 target", "frame #48211 " + "wire text " * 20))

    assert agrees(f"panel-{name}", drawn(name, full, view, 120, 24))


def test_an_ascii_terminal_gets_letters_it_can_show(full: Snapshot) -> None:
    """Without unicode every cell is ASCII and the widths stay."""
    text = dashboard(full, View(), 120, 40, Theme(unicode=False, colours="")).text

    assert text.isascii()
    assert agrees("ascii-120x40", text)


@pytest.mark.parametrize(
    ("words", "letters"),
    [("sell at ≥ 3,003.4: ", "sell at >=3,003.4: "), ("+6,326 → +4,217", "+6,326 ->+4,217"),
     ("score ≤71", "score <=71"), ("→ reasons", "> reasons")],
)  # fmt: skip
def test_no_letter_says_another_thing_than_its_sign(
    full: Snapshot, words: str, letters: str
) -> None:
    """At least is not more than, nor what becomes of a figure; what follows stands where it did."""
    snapshot = replace(full, tape=(replace(full.tape[0], text=f"{words} end"),))
    theme = Theme(unicode=False, colours="")

    text = panel("tape", snapshot, 120, 5, View(panel="tape"), theme).text

    assert f"{letters} end" in text


def test_without_colour_only_weight_is_left(full: Snapshot) -> None:
    """NO_COLOR leaves bold, dim and reverse, and no colour."""
    screen = dashboard(full, View(), 120, 40, Theme(colours=""))
    styles = {segment.style for row in screen.rows for strip in row for segment in strip}

    assert all(style is not None and style.color is None for style in styles)
    assert all(style is not None and style.bgcolor is None for style in styles)


def test_every_panel_has_a_key_of_its_own() -> None:
    """Keys name panels, one to one."""
    assert len(KEYS) == len(set(KEYS.values()))
    assert ["safety", "positions", "markets"] == [KEYS[key] for key in "123"]


def test_an_unknown_panel_is_refused_with_the_names() -> None:
    """The message holds what was expected and what it was."""
    with pytest.raises(PanelError, match=r"expected a panel among safety.*got 'sums'"):
        panel("sums", Snapshot(), 80, 24)


def test_24_rows_show_header_safety_positions_tape_and_footer(full: Snapshot) -> None:
    """The smallest promised size holds the five, and nothing wider than it."""
    text = dashboard(full, View(), 80, 24).text

    for word in ("REPLAY", "Safety", "Positions", "Tape", "q quit", "last step", "acts next"):
        assert word in text
    assert {80} == {cell_len(row) for row in text.split("\n")}


def test_120_columns_add_markets_scores_book_and_charts(full: Snapshot) -> None:
    """Scores are bars with their figure beside them."""
    text = dashboard(full, View(), 120, 40).text

    for word in ("Markets", "MOMENTUM", "IMBALANCE", "Book ETH-USD", "██░░  50", "Equity",
                 "Candles ETH-USD", "deposited", "entry"):  # fmt: skip
        assert word in text


def test_200_columns_show_all(full: Snapshot) -> None:
    """Every panel is on the widest screen, but those that need it for themselves."""
    text = dashboard(full, View(), 200, 60).text
    shown = {name for key, name in KEYS.items() if f"─ {key} " in text}

    assert shown >= {"safety", "positions", "markets", "signals", "decisions", "orders", "quality",
                     "speed", "book", "wire", "tape", "flight", "stress"}  # fmt: skip


def test_a_tall_narrow_screen_has_a_layout_of_its_own(full: Snapshot) -> None:
    """A shape between the promised sizes uses its room too."""
    assert "Markets" in dashboard(full, View(), 80, 50).text
    assert "Decisions" in dashboard(full, View(), 80, 50).text


def test_a_wide_and_high_screen_has_a_layout_of_its_own(full: Snapshot) -> None:
    """It adds how paper was traded to what 200 columns show."""
    assert "Paper venue" in dashboard(full, View(), 250, 70).text
    assert "Paper venue" not in dashboard(full, View(), 200, 60).text


@pytest.mark.parametrize("count", [0, 2, 7])
def test_what_is_held_makes_its_panel_no_higher_than_it_needs(full: Snapshot, count: int) -> None:
    """What it leaves is for the tape; a row more is a row higher, as long as there is room."""
    held = tuple(replace(full.positions[0], ticker=f"T{n}-USD") for n in range(count))
    rows = dashboard(replace(full, positions=held), View(), 140, 50).text.split("\n")
    first = next(n for n, row in enumerate(rows) if "Positions" in row)
    last = next(n for n, row in enumerate(rows[first:]) if row.startswith("╰"))

    assert count + 2 == last


def test_on_one_line_a_row_is_worth_more_than_its_titles(full: Snapshot) -> None:
    """A panel of three rows has one between its frame."""
    text = drawn("positions", full, width=80, height=3)

    assert "ETH-USD" in text
    assert "TICKER" not in text


def test_who_holds_nothing_needs_no_way_out(full: Snapshot) -> None:
    """Its place, and that of the shocks, is for those beside them; unknown is not nothing."""
    flat = replace(full, positions=(), safety=replace(full.safety, positions=0))
    unknown = replace(full, positions=(), safety=replace(full.safety, positions=None))
    rows = dashboard(flat, View(), 200, 60).text.split("\n")

    assert not any("Way out" in row or "Stress" in row for row in rows)
    assert {200} == {cell_len(row) for row in rows}
    assert "Way out" in dashboard(unknown, View(), 200, 60).text


def test_a_long_reason_takes_the_rows_that_are_free(full: Snapshot) -> None:
    """Two lines rather than a cut one, older rows give way; on three rows each has one."""
    words = " ".join(f"reason{n}" for n in range(40))
    long = tuple(replace(row, text=words) for row in full.tape)
    low, high = (drawn("tape", replace(full, tape=long), width=100, height=h) for h in (5, 20))

    assert "…" in low
    assert low.count("reason1 ") == 3
    assert "reason24" in high
    assert high.count("reason1 ") == 6


# === Safety ===


def margin_at(distance: float) -> MarginFigures:
    """Return a margin at this distance to liquidation."""
    return MarginFigures(round(distance * 1_000_000_000), 0, 0, 10**9, 10**9)


def words(safety: SafetyPart) -> str:
    """Draw safety small, where its word is text."""
    return drawn("safety", Snapshot(safety=safety), width=90, height=6)


@pytest.mark.parametrize(
    ("safety", "word"),
    [
        (SafetyPart(positions=1, margin=margin_at(0.05999), act_below=0.06), "DANGER 5.9 %"),
        (SafetyPart(positions=1, margin=margin_at(0.08), act_below=0.06), "WATCH 8.0 %"),
        (SafetyPart(positions=1, margin=margin_at(0.09), act_below=0.06), "SAFE 9.0 %"),
        (SafetyPart(positions=1, margin=margin_at(0.04)), "DANGER 4.0 %"),
        (SafetyPart(positions=1, margin=margin_at(1.3857), act_below=0.06), "SAFE 138 %"),
        (SafetyPart(positions=1, margin=margin_at(77.0), act_below=0.06), "SAFE >999 %"),
        (SafetyPart(positions=0, margin=MarginFigures(10_000_000_000)), "FLAT"),
        (SafetyPart(positions=3), "UNKNOWN"),
        (SafetyPart(), "UNKNOWN"),
    ],
)
def test_the_distance_has_a_word_beside_its_colour(safety: SafetyPart, word: str) -> None:
    """A colour is never the only bearer of the message."""
    assert word in words(safety)


def colours(name: str, snapshot: Snapshot) -> set[str]:
    """Return the colours a panel uses."""
    rows = panel(name, snapshot, 100, 14).rows
    styles = (segment.style for row in rows for strip in row for segment in strip)
    both = (colour for style in styles if style for colour in (style.color, style.bgcolor))
    return {colour.name for colour in both if colour}


def test_red_is_shown_for_danger_and_only_then() -> None:
    """Open positions at an unknown distance are a danger too; an unread account is not."""
    near = SafetyPart(positions=1, margin=margin_at(0.01), act_below=0.06)

    assert "#ff5548" in colours("safety", Snapshot(safety=near))
    assert "#ff5548" in colours("safety", Snapshot(safety=SafetyPart(positions=2)))
    assert "#ff5548" not in colours("safety", Snapshot(safety=SafetyPart()))
    assert "#ff5548" not in colours(
        "safety", Snapshot(safety=SafetyPart(positions=0, margin=MarginFigures(1)))
    )
    assert "#ff5548" not in colours("safety", Snapshot(safety=replace(near, margin=margin_at(0.2))))


def blocks(safety: SafetyPart, width: int, height: int) -> int:
    """Count the full cells of the panel's first rows: how large the figure is."""
    text = drawn("safety", Snapshot(safety=safety), width=width, height=height)
    return sum(row.count("█") for row in text.split("\n")[1:-4])


def test_the_distance_grows_with_its_room() -> None:
    """It is the largest thing on the screen, whatever the screen."""
    safety = SafetyPart(positions=1, margin=margin_at(0.118), act_below=0.06)

    assert 0 < blocks(safety, 60, 10) < blocks(safety, 100, 15) < blocks(safety, 190, 40)


def test_a_distance_beyond_all_harm_is_capped_in_words() -> None:
    """A hedged account may be farther from liquidation than a price can fall."""
    assert agrees("safety-far", drawn("safety", Snapshot(
        safety=SafetyPart(positions=1, margin=MarginFigures(5, 6, 0, 1), act_below=0.06,
                      change=0.031, history=(0.1, 0.2))), height=16))  # fmt: skip


def test_a_distance_past_liquidation_is_drawn_as_negative() -> None:
    """Past the maintenance margin the figure shows how far, in red."""
    safety = SafetyPart(positions=1, margin=margin_at(-0.2), act_below=0.06)

    assert agrees("safety-under", drawn("safety", Snapshot(safety=safety), height=11))


def next_step(safety: SafetyPart, watch: Watch | None) -> str:
    """Return what the safety panel shows of the next step."""
    text = drawn("safety", Snapshot(safety=safety, watch=watch), width=160, height=18)
    return next(line for line in text.split("\n") if "next step" in line).strip("│ ")


def test_the_next_step_is_in_the_words_of_the_ladder(full: Snapshot) -> None:
    """What the guard would do and at which distance, or why there is nothing to come."""
    held = SafetyPart(positions=1, margin=margin_at(0.118), act_below=0.06)
    watch = full.watch
    assert watch is not None
    near = replace(watch, plan=replace(watch.plan, distance_next=0.061))
    stuck = replace(watch, plan=replace(watch.plan, rungs=()))

    assert next_step(held, watch).startswith(
        "next step below 6.2 %: sell 0.6 ETH-USD (of 2.1) at ≥ 3,003.4, restores 9.1 %, costs 2.14"
    )
    assert "due now: sell 0.6 ETH-USD" in next_step(held, near)
    assert "SOL-USD stays: its reduction has no answer yet" in next_step(held, stuck)
    assert "the guard is off" in next_step(replace(held, act_below=None), watch)
    assert "no position is held" in next_step(replace(held, margin=MarginFigures(1)), watch)
    assert next_step(held, None).endswith("unknown")


def test_a_rung_is_red_while_it_is_new(full: Snapshot) -> None:
    """The screen makes plain that the guard has acted, and calms down after half a minute."""
    calm = replace(full, safety=replace(full.safety, margin=margin_at(0.2)))
    assert calm.header.clock_ns is not None
    later = replace(calm, header=replace(calm.header, clock_ns=calm.header.clock_ns + 31 * 10**9))

    assert "#ff5548" in colours("safety", calm)
    assert "#ff5548" not in colours("safety", later)
    assert "last step 09:31:07" in drawn("safety", later)


def test_a_change_too_small_to_show_is_not_shown() -> None:
    """An arrow beside nothing would puzzle."""
    held = SafetyPart(positions=1, margin=margin_at(0.118), change=0.0004)

    assert "▲" not in words(held)
    assert "▲1.2 %/min" in words(replace(held, change=0.012))


@pytest.mark.parametrize("distance", [0.0599, 0.05999, 0.06, 0.9999, 1.3857, 77.0, -0.0123])
def test_one_distance_has_one_text_on_every_panel(full: Snapshot, distance: float) -> None:
    """The guard's reason, the header, a position, the way out and the limit: one formatter."""
    text, watch = percent_text(distance), full.watch
    assert watch is not None
    plan = replace(watch.plan, distance_now=distance, distance_next=distance)
    acts = replace(watch.triggers[0], level=distance, now=distance)
    shown = Snapshot(
        safety=SafetyPart(positions=1, margin=margin_at(distance), act_below=distance,
                      closest=distance),
        positions=(replace(full.positions[0], distance=distance),),
        watch=replace(watch, triggers=(acts,), plan=replace(plan, rungs=(replace(
            plan.rungs[0], restores=distance, fires_below=distance),))),
    )  # fmt: skip
    safety = drawn("safety", shown, width=200, height=11)

    assert f" {text} " in safety
    assert f"closest so far {text}" in drawn("safety", shown, width=200)
    assert f"guard acts at {text}" in safety
    assert f"acts next distance below {text} (now {text}, " in safety
    assert f"restores {text}" in safety
    assert f" {text} " in drawn("positions", shown)
    assert f" {text} now  if the last block repeats twice {text} " in drawn("flight", shown)


# === Results, doubt, connection ===


@pytest.mark.parametrize(("width", "height"), [*SIZES, (100, 30), (250, 70)])
def test_every_size_shows_what_was_won_and_how_much_is_at_stake(
    full: Snapshot, width: int, height: int
) -> None:
    """Profit since the start and today, drawdown, leverage, margin used, and of how much."""
    text = dashboard(full, View(), width, height).text

    for word in ("of 10,000", "deposited", "+412.33", "+4.1 %", "-31.20", "-0.3 %",
                 "64.10", "leverage 3.20", "margin used 70"):  # fmt: skip
        assert word in text


def losing(full: Snapshot, **fields: float) -> Snapshot:
    """Return an account far from liquidation that loses."""
    result = full.safety.result
    assert result is not None
    safety = replace(full.safety, margin=margin_at(0.439), last=None,
                     result=replace(result, **fields))  # fmt: skip
    return Snapshot(safety=safety)


@pytest.mark.parametrize(
    ("fields", "words", "colour"),
    [
        ({}, "SAFE", "#2fbf8f"),
        ({"fall_share": 0.06}, "LOSING 6.0 % below the peak", "#f0b000"),
        ({"fall_share": 0.439}, "LOSING 43.9 % below the peak", "#ff5548"),
        ({"today_share": -0.03}, "LOSING 3.0 % lost today", "#f0b000"),
        ({"today_share": -0.05, "fall_share": 0.06}, "LOSING 5.0 % lost today", "#ff5548"),
        # Without a limit, too.
        ({"fall_share": 0.06, "most_fall": None}, "LOSING 6.0 % below the peak", "#f0b000"),
        ({"fall_share": 0.21, "most_fall": None}, "LOSING 21.0 % below the peak", "#ff5548"),
    ],
)
def test_who_loses_is_not_safe_however_far_liquidation_is(
    full: Snapshot, fields: dict[str, float], words: str, colour: str
) -> None:
    """By half of what may be lost it is to be watched, from there on it is grave."""
    lost = losing(full, **fields)

    assert words in drawn("safety", lost, width=80, height=10)
    assert colour in colours("safety", lost)
    assert (colour == "#2fbf8f") == ("#2fbf8f" in colours("safety", lost))


def test_old_prices_are_grey_and_unknown(full: Snapshot) -> None:
    """The digits are those of when it was known last; a word says so, why, and for how long."""
    words = "BTC-USD is stale, no block came"
    safety = replace(full.safety, margin=margin_at(0.439), doubt=words, doubt_s=117.4, last=None)
    dead = replace(full, safety=safety, watch=None)
    text = drawn("safety", dead, width=80, height=10)

    assert "UNKNOWN last known 2.0 min ago" in text
    assert f"unknown {words}: the figures in grey were known last" in text
    assert "SAFE" not in text
    assert "last known 7.2 min ago" in drawn("safety", replace(dead, safety=replace(
        safety, doubt_s=432.0)), width=80, height=10)  # fmt: skip
    assert not colours("safety", dead) & {"#2fbf8f", "#56b4e9"}
    assert not colours("positions", dead) & {"#2fbf8f", "#ff5548"}
    assert "UNKNOWN" in drawn("flight", replace(full, safety=safety))


def test_a_lost_connection_stands_in_the_header_with_its_reason(full: Snapshot) -> None:
    """And for how long a request waits for a rate limit."""
    lost = replace(full, header=replace(
        full.header, connection="reconnecting 12 s, attempt 3", link_why="c1: 1006 closed",
        waits_s=4.23))  # fmt: skip
    header = drawn("header", lost, width=160, height=1)

    assert "○ reconnecting 12 s, attempt 3  c1: 1006 closed" in header
    assert "waiting 4.2 s for a rate limit" in header
    assert "○ reconnecting 12 s, attempt 3" in drawn("header", lost, width=80, height=1)


@pytest.mark.parametrize(("width", "height"), [*SIZES, (30, 8)])
def test_a_banner_stands_over_the_panels(full: Snapshot, width: int, height: int) -> None:
    """From edge to edge in the second row; where no room is left there is none."""
    view = View(banner="GUARD SOLD: sell 0.6 ETH-USD at >= 3,003.4", flash=True)
    rows = dashboard(full, view, width, height).text.split("\n")

    assert rows[1].startswith(" GUARD SOLD: sell 0.6 ETH")
    assert len(rows) == height
    assert {width} == {cell_len(row) for row in rows}
    assert "GUARD" not in dashboard(full, view, width, 5).text


def test_a_flash_draws_every_frame_in_red(full: Snapshot) -> None:
    """And leaves what stands inside as it is."""
    frames = [panel("markets", full, 100, 14, View(flash=flash)) for flash in (True, False)]
    corners = [picture.rows[0][0][0].style for picture in frames]

    assert [style is not None and style.bgcolor is not None for style in corners] == [True, False]
    assert frames[0].text == frames[1].text


@pytest.mark.parametrize(
    ("mode", "badge"),
    [
        ("TRADE", " !! TRADE MAINNET !! "),
        ("PAPER", " PAPER "),
        ("WATCH", " WATCH "),
        ("REPLAY", " REPLAY \N{MULTIPLICATION SIGN}20 "),
        ("TRADE MAINNET", " !! TRADE MAINNET !! "),
    ],
)
def test_each_mode_has_a_badge_of_its_own(mode: str, badge: str) -> None:
    """Real money has the loudest, which names the network that takes it."""
    speed = 20.0 if mode == "REPLAY" else None
    head = HeaderPart(mode=mode, source="mainnet BTC-USD", speed=speed)
    (first, *_), *_ = panel("header", Snapshot(header=head), 120, 1).rows[0]

    assert first.text == badge
    assert first.style is not None
    assert first.style.bgcolor is not None
    real = first.style.bgcolor.name == "#c4008c"
    assert real == mode.startswith("TRADE")


def test_what_rounds_to_nothing_is_not_negative() -> None:
    """A sign before nothing would puzzle."""
    lost = SafetyPart(positions=0, margin=MarginFigures(10**10, 10**10 + 1))

    assert "free 0.00" in drawn("safety", Snapshot(safety=lost), width=100, height=12)


@pytest.mark.parametrize(
    ("value", "text"), [(-0.02, "0.0"), (0.02, "+0.0"), (0.0, "+0.0"), (-0.07, "-0.1")]
)
def test_a_small_loss_is_not_shown_as_a_gain(value: float, text: str) -> None:
    """Beside a profit of -10.56 it would read as +0.0 %."""
    assert _figure(value, 1, sign=True) == text


def test_a_list_of_markets_has_room_for_the_smallest_price(full: Snapshot) -> None:
    """0.0000206… says nothing about how it moves."""
    whole = full.markets[0].market
    market = whole and replace(whole, atomic_resolution=3, subticks_per_tick=1)
    row = replace(full.markets[0], ticker="TINY-USD", market=market, price=0.000000123456)

    text = drawn("markets", replace(full, markets=(row,)), width=120, height=12)

    assert "0.000000123456" in text


def test_the_prices_of_a_small_market_are_not_cut(full: Snapshot) -> None:
    """Its last digits are those that move."""
    tiny = Decimal("0.000000123456")
    held = replace(full.positions[0], ticker="TINY-USD", oracle_price=tiny, entry_price=tiny)
    whole = full.markets[0].market
    market = whole and replace(whole, atomic_resolution=3, subticks_per_tick=1)
    shown = replace(full, positions=(held,), markets=(MarketRow(ticker="TINY-USD", market=market),))

    assert " 0.000000123456 " in drawn("positions", shown, width=120)


# === Words ===


def everything(snapshot: Snapshot) -> Snapshot:
    """Add what a screen shows rarely: all states of a market and an order, a fund, fee tiers."""
    statuses = ("CANCEL_ONLY", "POST_ONLY", "INITIALIZING", "FINAL_SETTLEMENT")
    names = ("day_h", "day_rank", "raw", "constant", "refill")
    score = Score("CAN", "volume", 50.0, tuple((name, 0.5) for name in names), 1)
    markets = tuple(
        MarketRow(ticker=status[:3], status=status, scores=(score,) if status[0] == "C" else ())
        for status in statuses
    )
    venue = snapshot.venue and replace(snapshot.venue, fund=1, tier="2")
    events = tuple(TapeRow(1, kind, "", side=side) for kind, side in (
        ("reduce", "BUY"), ("reduce", "SELL"), ("bracket", ""), ("withdraw", "")))  # fmt: skip
    orders = tuple(
        replace(snapshot.orders[0], status=status)
        for status in ("PENDING", "PARTIALLY_FILLED", "UNRESOLVED")
    )
    return replace(
        snapshot, markets=(*snapshot.markets, *markets), venue=venue, tape=snapshot.tape + events,
        orders=(*snapshot.orders, *orders),
    )  # fmt: skip


def test_every_word_of_the_table_is_on_a_screen(
    full: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is called another name in the table is called so wherever it is drawn."""
    words = {term: f"q{number:02}" for number, term in enumerate(_WORDS)}
    for term, word in words.items():
        monkeypatch.setitem(_WORDS, term, word)
    names = (*KEYS.values(), "header", "footer", "help")
    text = "".join(drawn(name, everything(full), width=300, height=60) for name in names)

    assert [] == [term for term, word in words.items() if word not in text.lower()]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("now_usd_s", 7198.8004, "now 7,199 USDC/s"),
        ("usual_usd_per_bp", 1_170_000.0, "usual 1,170,000 USDC/bp"),
        ("rate_1h_bps", 0.0, "rate 0 bp/h"),
        ("trend_bps", -19.15871, "trend -19.16 bp"),
        ("slow", 3.8012094, "slow 3.80121"),
        ("slow", 0.00005407, "slow 0.00005407"),
        ("raw", -1e-12, "of now 0"),
        ("day_h", 0.13361, "known of a day 0.1336 h"),
        ("-ETH-USD", 424.3931, "-ETH-USD 424.393"),
        ("z", float("nan"), "z unknown"),
    ],
)
def test_an_input_of_a_score_is_worded_with_its_unit(name: str, value: float, words: str) -> None:
    """The code's name carries the unit; a trader reads it behind the figure."""
    assert worded(name, value) == words


def test_what_a_limit_went_by_is_there_where_one_row_is(full: Snapshot) -> None:
    """Of the margin before and at worst the distance is the last to go."""
    text = drawn("walk", full, View(panel="walk"), 80, 24)

    assert "margin    distance, at worst" in text


def test_no_screen_shows_a_name_of_the_code(full: Snapshot) -> None:
    """Only what came over the wire has underscores, and a figure that a formula names."""
    for name in {*KEYS.values(), "header", "footer", "help"} - {
        "wire",
        "quality",
        "signals",
        "way",
        "health",
    }:
        text = drawn(name, everything(full), width=300, height=60)

        assert [] == re.findall(r"[A-Za-z]+_[A-Za-z]+", text)


# === Gate ===

HALTED = Standing(state="HALTED", reasons=(("HALTED", "halted: flash crash (by ann)"),))
REDUCING = Standing(state="REDUCING", reasons=(
    ("DAILY_LOSS", "812.00 USDC were lost since 00:00 UTC: nothing enters until 00:00 UTC"),
    ("DRAWDOWN", "drawdown 9.1 %, limit 8.0 %")))  # fmt: skip


def test_the_gate_is_in_the_header(full: Snapshot) -> None:
    """A word while all is well; else it stands first, with its reasons as far as there is room."""
    active = replace(full, gate=Standing(state="ACTIVE"))

    assert " ACTIVE quickstart " in drawn("header", active, width=80, height=1)
    assert " gate unknown " in drawn("header", full, width=80, height=1)
    assert drawn("header", replace(full, gate=HALTED), width=80, height=1).startswith(
        " HALTED   REPLAY \N{MULTIPLICATION SIGN}20  flash crash (by ann) 09:31:07Z ● live 5/5 "
    )
    assert (
        "REDUCING   REPLAY \N{MULTIPLICATION SIGN}20  812.00 USDC were lost since… 09:31:07Z"
        in drawn("header", replace(full, gate=REDUCING), width=80, height=1)
    )


@pytest.mark.parametrize(("width", "height"), [(20, 5), *SIZES])
def test_a_gate_that_stops_cannot_be_overlooked(full: Snapshot, width: int, height: int) -> None:
    """On any screen it is the first word, and it stands beside the safety word."""
    for gate in (HALTED, REDUCING):
        text = dashboard(replace(full, gate=gate), View(), width, height).text

        assert text.split()[0] == gate.state
        assert f" {gate.state}  SAFE" in text or width < 80


def test_a_halt_is_red_and_reducing_is_not(full: Snapshot) -> None:
    """The account is safe, so that all red is the gate's; an active gate has no colour."""
    calm = replace(full, safety=replace(full.safety, last=None))

    for name in ("header", "safety"):
        shown = [replace(calm, gate=gate) for gate in (HALTED, REDUCING, Standing(state="ACTIVE"))]

        assert ["#ff5548" in colours(name, one) for one in shown] == [True, False, False]


def test_the_safety_panel_shows_why_the_gate_stops(full: Snapshot) -> None:
    """Every reason stands under the figures, whole on the smallest dashboard of a flat account."""
    reducing = replace(full, gate=REDUCING)
    flat = replace(
        reducing,
        safety=SafetyPart(positions=0, margin=MarginFigures(10**10), last=full.safety.last),
    )
    whole = "; ".join(why for _, why in REDUCING.reasons)
    halted = replace(full, gate=HALTED)

    assert "gate flash crash (by ann)" in drawn("safety", halted, width=120, height=24)
    assert "│  HALTED  SAFE 11.8 % " in drawn("safety", halted, width=60, height=6)
    assert "HALTED" not in drawn("safety", full, width=120, height=24)
    for shown, width, height in ((reducing, 120, 24), (flat, 80, 10)):
        lines = drawn("safety", shown, width=width, height=height).splitlines()
        assert f"gate {whole}" in " ".join(" ".join(lines).replace("│", " ").split())


def test_no_rule_that_reduces_is_cut_off_where_there_is_room(full: Snapshot) -> None:
    """Its level, how far away it is and why it stands there: whole on a panel alone."""
    assert full.watch is not None
    for name in ("safety", "flight"):
        lines = drawn(name, full, View(panel=name), 80, 24).splitlines()
        text = " ".join(" ".join(lines).replace("│", " ").split())

        assert full.watch.triggers[0].why in text


def test_a_question_stands_in_the_place_of_the_keys(full: Snapshot) -> None:
    """Nothing else is on the last row until it is answered."""
    view = View(confirm="halt trading? y / n", filter="eth", filtering=True, message="saved")

    assert drawn("footer", full, view, 80, 1).strip() == "halt trading? y / n"


def test_the_key_of_a_halt_is_listed_with_what_it_does(full: Snapshot) -> None:
    """The footer names it, what is halted can be resumed, and the help explains its confirmation."""
    live = replace(full, header=replace(full.header, mode="PAPER", speed=None))
    assert " K halt  " in drawn("footer", live, width=80, height=1)
    assert " K resume  " in drawn("footer", replace(live, gate=HALTED), width=80, height=1)
    assert "K          halt, after a y" in drawn("help", live, height=24)


# === Figures ===


def test_a_figure_that_is_not_known_reads_unknown() -> None:
    """None is unknown and never 0."""
    row = PositionFigures(ticker="ETH-USD", size=Decimal(1), entry_price=Decimal(2))
    text = drawn("positions", Snapshot(positions=(row,), safety=SafetyPart(positions=1)), width=140)

    assert 6 == text.count("unknown")
    assert "0.0" not in text.replace("1.000", "")


def test_a_figure_that_is_no_number_is_unknown() -> None:
    """Neither not-a-number nor infinity is shown as a price."""
    for price in (math.nan, math.inf, None):
        row = MarketRow(ticker="A-USD", price=price, spread_bps=1.0, status="ACTIVE")

        assert 1 == drawn("markets", Snapshot(markets=(row,)), width=60).count("unknown")


def test_a_price_below_zero_liquidates_nothing() -> None:
    """What the rest of the account carries has no liquidation price of its own."""
    row = PositionFigures(ticker="ETH-USD", size=Decimal(1), entry_price=Decimal(2),
                          liquidation_price=Decimal(-3), distance=1.5)  # fmt: skip
    text = drawn("positions", Snapshot(positions=(row,)), width=140)

    assert "none" in text
    assert "150 %" in text


def test_a_position_that_no_price_liquidates_is_not_unknown(full: Snapshot) -> None:
    """Small beside the rest of a known account, it is no danger and not red."""
    row = replace(full.positions[0], liquidation_price=None, distance=None)
    calm = SafetyPart(positions=1, margin=margin_at(0.2), act_below=0.06)
    known, unknown = (Snapshot(positions=(row,), safety=s) for s in (calm, SafetyPart(positions=1)))

    assert "none    >999 %" in drawn("positions", known, width=140)
    assert "#ff5548" not in colours("positions", known)
    assert 4 == drawn("positions", unknown, width=140).count("unknown")


def test_a_huge_figure_keeps_its_size() -> None:
    """Ten to the thirty fits in a column."""
    assert "1.000e+30" in drawn("orders", Snapshot(money=(("realized", 10**36),)))


def test_the_clock_out_of_range_is_unknown() -> None:
    """A stamp beyond the calendar does not stop the drawing."""
    late = Snapshot(header=HeaderPart(clock_ns=2**90))

    assert "unknown" in panel("header", late, 120, 1).text


def test_durations_are_in_the_unit_that_reads_best(full: Snapshot) -> None:
    """Microseconds up to a thousand, then milliseconds."""
    text = drawn("speed", full, width=120)

    assert "410.0 µs" in text
    assert "1.23 ms" in text


def test_a_flat_history_is_a_level_line() -> None:
    """No range is no reason to divide by zero."""
    rows = (MarketRow(ticker="A-USD", history=(2.0, 2.0, 2.0)),)

    assert "▄▄▄" in drawn("markets", Snapshot(markets=rows), width=120)


# === Foreign text ===


def test_escapes_in_foreign_text_never_reach_the_terminal() -> None:
    """A wire text may hold anything; what cannot be drawn is a question mark."""
    row = TapeRow(0, "gap", "\x1b[2Jevil\ttext\u200d\u0301 \u202e\n")
    text = drawn("tape", Snapshot(tape=(row,)))

    assert "?[2Jevil?text" in text
    assert {"\x1b", "\t", "\u200d", "\u202e"}.isdisjoint(text)


@pytest.mark.parametrize("width", range(40, 60))
def test_wide_letters_are_cut_at_a_cell_and_never_in_half(width: int) -> None:
    """Two cells a letter: the row keeps its width, whatever the cut."""
    row = TapeRow(0, "gap", "幣安人生" * 20)
    market = MarketRow(ticker="幣安人生幣安人生-USD", price=1.0, status="ACTIVE")
    snapshot = Snapshot(tape=(row,), markets=(market,))

    for name in ("tape", "markets"):
        assert {width} == {
            cell_len(line) for line in drawn(name, snapshot, View(), width).split("\n")
        }
    assert panel("tape", snapshot, width, 5, theme=Theme(unicode=False)).text.isascii()


# === What the person chose ===


def test_a_filter_keeps_the_rows_that_hold_it(full: Snapshot) -> None:
    """Case does not matter; a reason counts as well as a ticker."""
    assert ("D42",) == selectable(full, View(panel="decisions", filter="IMBALANCE"))
    assert ("SOL-USD",) == selectable(full, View(panel="markets", filter="sol"))
    assert "BTC-USD" not in drawn("positions", full, View(filter="eth"))
    assert "nothing matches the filter" in drawn("markets", full, View(filter="zzz"))


def test_each_list_names_the_rows_it_shows(full: Snapshot) -> None:
    """`selected` counts what is drawn, newest first."""
    assert ("F9", "V18", "D42") == selectable(full, View())[:3]
    assert ("O5", "V18", "O4") == selectable(full, View(panel="orders"))[:3]
    assert ("ETH-USD", "BTC-USD", "LINK-USD") == selectable(full, View(panel="positions"))
    assert 16 == len(selectable(full, View(panel="signals")))
    assert "48211" == selectable(full, View(panel="wire"))[0]
    assert () == selectable(full, View(panel="safety"))


@pytest.mark.parametrize("name", ["positions", "markets", "signals", "decisions", "orders", "tape",
                                  "quality"])  # fmt: skip
def test_the_selected_row_is_turned_over(full: Snapshot, name: str) -> None:
    """Exactly one row is in reverse."""
    rows = panel(name, full, 120, 20, View(panel=name, selected=1)).rows
    turned = [
        row for row in rows for strip in row if any(s.style and s.style.reverse for s in strip)
    ]

    assert 1 == len(turned)


def test_a_selection_far_down_scrolls_into_sight(full: Snapshot) -> None:
    """The list moves so that the chosen row is on the screen."""
    tape = tuple(TapeRow(0, "fill", "x", id=f"F{i}") for i in range(100))
    many = replace(full, tape=tape, markets=tuple(MarketRow(ticker=f"M{i}") for i in range(100)),
                   decisions=tuple(replace(full.decisions[0], id=f"D{i}") for i in range(100)))  # fmt: skip

    assert "F70" in drawn("tape", many, View(selected=70))
    assert "M70" in drawn("markets", many, View(panel="markets", selected=70))
    assert "D70" in drawn("decisions", many, View(panel="decisions", selected=70))
    assert "F99" in drawn("tape", many, View(selected=99)).split("\n")[-2]


def test_a_stale_market_is_grey_and_tells_its_age(full: Snapshot) -> None:
    """What is old is never shown as if it were now."""
    assert "stale 12 s" in drawn("markets", full, width=120)
    assert {"#8c8c8c"} < colours("markets", Snapshot(markets=(full.markets[2],)))
    assert "#7fb8d8" not in colours("markets", Snapshot(markets=(full.markets[2],)))


def test_pause_is_shown_in_the_header(full: Snapshot) -> None:
    """The mode stays in sight."""
    text = dashboard(full, View(paused=True), 80, 24).text

    assert "REPLAY \N{MULTIPLICATION SIGN}20 PAUSED" in text


@pytest.mark.parametrize(
    ("late_s", "words"),
    [(0.31, " 0.3 s LATE "), (2.0, " 2.0 s LATE "), (33.4, " 33.4 s LATE, NO ENTRIES ")],
)
def test_frames_that_come_late_are_in_the_header(full: Snapshot, late_s: float, words: str) -> None:
    """How late, and from 2 s on what that stops, on the narrowest screen too."""
    late = replace(full, header=replace(full.header, late_s=late_s))

    assert words in drawn("header", late, width=80, height=1)
    assert "LATE" not in drawn("header", full, width=80, height=1)


def test_a_closed_link_is_shown_in_the_header() -> None:
    """Sign, word and colour change together."""
    assert (
        "○ closed" in panel("header", Snapshot(header=HeaderPart(connection="closed")), 80, 1).text
    )


def test_a_message_stands_apart_from_the_keys_behind_it(full: Snapshot) -> None:
    """On a wide screen, too, where keys alone are a cell apart."""
    view = View(message="nothing changes")

    assert "nothing changes  space pause  . " in drawn("footer", full, view, 200, 1)
    assert " 1 safety 2 " in drawn("footer", full, width=200, height=1)


def test_the_footer_shows_the_filter_being_typed(full: Snapshot) -> None:
    """While typing, the keys make room."""
    assert "/et▏" in dashboard(full, View(filter="et", filtering=True), 80, 24).text
    assert "/et " in dashboard(full, View(filter="et"), 80, 24).text
    assert "saved x.svg" in dashboard(full, View(message="saved x.svg"), 80, 24).text


def test_a_message_that_is_too_long_shows_what_to_do(full: Snapshot) -> None:
    """Which is its end: a path in its middle is what goes."""
    message = (
        "settings refused by file: nothing changes: /srv/trading/dydx-bot/bot.yaml:12:3: expected "
        "the name of a setting, got 'policy.max_leverge': did you mean max_leverage?"
    )
    last = dashboard(full, View(message=message), 80, 24).text.splitlines()[-1]

    assert last.startswith(" settings refused by file")
    assert last.endswith("got 'policy.max_leverge': did you mean max_leverage?")
    assert "…" in last


def test_help_lists_the_keys_that_work_now(full: Snapshot) -> None:
    """The panels' own keys come first; only a replay has a speed."""
    text = dashboard(full, View(help=True), 80, 30).text
    live = replace(full, header=replace(full.header, speed=None))

    assert "+ -        play faster, slower" in text
    assert "3 markets" in text
    assert "f way out" in text
    assert "up down    select a row" in text
    assert "F          close all, after a y" in text
    assert "Positions" not in text
    assert "play faster" not in dashboard(live, View(help=True), 80, 24).text
    assert "+ - speed" not in dashboard(live, View(), 80, 24).text
    assert "close all" not in dashboard(full, View(help=True, off=frozenset("F")), 80, 24).text


def test_why_is_folded_and_scrolls_to_its_last_letter(full: Snapshot) -> None:
    """Wire text is shown whole."""
    view = View(why=("D42", "", "x" * 2_000 + "END"), why_title="D42", scroll=10_000)
    text = dashboard(full, view, 80, 24).text

    assert "Why D42" in text
    assert "END" in text


def test_one_panel_fills_the_screen_when_chosen(full: Snapshot) -> None:
    """A name that is no panel shows the whole dashboard."""
    assert "computed from" in dashboard(full, View(panel="signals"), 80, 24).text.lower()
    assert "Safety" not in dashboard(full, View(panel="signals"), 80, 24).text
    assert "Safety" in dashboard(full, View(panel="nonsense"), 80, 24).text


# === Rows ===


def test_the_chosen_order_is_shown_whole(full: Snapshot) -> None:
    """Alone on a narrow screen, the selected row's reason is folded under the list."""
    text = drawn("orders", full, View(panel="orders", selected=3), 60, 30)

    assert "would exceed net collateral" in " ".join(re.sub("[│ ]+", " ", text).split())
    assert "would exceed" not in drawn("orders", full, View(panel="orders"), 60, 30)


def test_the_readme_runs() -> None:
    """The example of the README draws what it promises."""
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    example = text.split("```python")[1].split("```")[0].split("board = ")[0]
    shown: list[str] = []
    exec(example.replace("print(", "shown.append("), {"shown": shown})

    assert "5,000.00 USDC" in shown[0]
    assert "ETH-USD     LONG" in shown[0]
    assert shown[1].isascii()


def test_a_book_that_is_not_known_is_not_drawn(full: Snapshot) -> None:
    """After a gap there are no levels to show."""
    assert "book unknown for ETH-USD" in drawn("book", Snapshot(book=BookPart(ticker="ETH-USD")))
    assert "book unknown" in drawn("book", Snapshot())


def test_a_one_sided_book_is_drawn(full: Snapshot) -> None:
    """Empty sides and no mid price are shown, not guessed."""
    lonely = BookPart(ticker="A", known=True, bids=(Level(1.0, 0.0, "1", "0", 0),))
    text = drawn("book", Snapshot(book=lonely))

    assert "unknown mid" in text
    assert "crossed" not in text


def test_a_book_on_80_columns_shows_its_trades(full: Snapshot) -> None:
    """Real samples stand beside the levels, with the frame that brought them."""
    assert "3,012.4 #48210" in drawn("book", full, width=80)
    assert "last trades" not in drawn("book", full, width=60)


def test_a_quiet_wire_and_clean_data_say_so() -> None:
    """No trouble is a fact worth a word."""
    assert "no trouble so far" in drawn("quality", Snapshot())
    assert "stale markets none" in drawn("quality", Snapshot(quality=QualityPart()))
    assert "block unknown" in drawn("wire", Snapshot())
    assert "#7 " in drawn(
        "wire", Snapshot(wire=WirePart(samples=(Frame(7, 0, 0, "", "tick", ""),)))
    )
    assert "unknown f/s" in drawn("speed", Snapshot(speed=SpeedPart()))


def test_the_wire_shows_the_contents_of_each_text() -> None:
    """The head of each message is the same; what differs is worth the room."""
    text = '{"type":"channel_data","contents":{"trades":[]}}'
    wire = WirePart(samples=(Frame(7, 0, 0, "ws", "ws", text, "channel_data", "v4_trades"),))

    assert 'v4_trades       …"contents":{"trades":[]}}' in drawn("wire", Snapshot(wire=wire))


def test_six_scores_leave_room_for_the_history() -> None:
    """Many engines shorten their titles and bars before a column is given up."""
    names = ("momentum", "volume", "volatility", "imbalance", "liquidity", "funding")
    row = MarketRow(ticker="A-USD", history=(1.0, 2.0),
                    scores=tuple(Score("A-USD", n, 40.0, (), 1) for n in names))  # fmt: skip

    narrow = drawn("markets", Snapshot(markets=(row,)), width=120)
    wide = drawn("markets", Snapshot(markets=(row,)), width=180)

    assert "LAST HOUR" in narrow
    assert "VOLAT.  IMBAL.  LIQUID  FUND." in narrow
    four = drawn("markets", Snapshot(markets=(replace(row, scores=row.scores[:4]),)), width=180)
    assert "VOLATILITY  IMBALANCE" in four
    assert "USDC/MIN" in wide


def test_a_kind_of_another_name_is_drawn_plainly() -> None:
    """A word the tables do not know is no error."""
    assert "novel" in drawn("tape", Snapshot(tape=(TapeRow(0, "novel", "x"),)))


# === Prints and pictures ===


def test_one_panel_prints_by_itself(full: Snapshot) -> None:
    """`run_panel` uses the console's width, and 24 rows in a pipe."""
    console = Console(width=90, height=30)
    with console.capture() as capture:
        run_panel("safety", full, console)

    assert [90] * 24 == [cell_len(row) for row in capture.get().splitlines()]


def test_one_panel_on_a_terminal_leaves_a_row_for_the_prompt(full: Snapshot) -> None:
    """The panel is as high as the terminal less one."""
    console = Console(width=90, height=30, force_terminal=True, legacy_windows=False)
    with console.capture() as capture:
        run_panel("tape", full, console)

    assert 29 == len(capture.get().splitlines())


def test_a_screen_prints_as_it_reads(full: Snapshot) -> None:
    """Recorded by Rich, the screen is its own text."""
    screen = dashboard(full, View(), 80, 24)
    console = Console(record=True, width=80, height=24, file=io.StringIO())
    console.print(screen, end="")

    assert screen.text + "\n" == console.export_text()


def test_the_same_arguments_give_the_same_picture(full: Snapshot) -> None:
    """The SVG holds the words, each at a place of its own, and no other thing changes it."""
    picture = export_svg(full, View(), 120, 40)

    assert picture == export_svg(full, View(), 120, 40)
    assert "10,412.33" in picture
    assert ">&#160;&#160;" not in picture


# === Panels shown alone ===


LARGE = ["candles", "equity", "flow", "funding", "quality", "detectors"]


@pytest.mark.parametrize("name", LARGE)
def test_a_panel_that_is_large_looks_as_it_was_looked_at(full: Snapshot, name: str) -> None:
    """With figures and samples side by side where there is room."""
    view = View(panel=name)

    assert agrees(f"alone-{name}-200x60", drawn(name, full, view, width=200, height=58))


def test_a_partial_candle_is_marked_and_never_drawn_as_another(full: Snapshot) -> None:
    """Below the candles, in the list, and counted."""
    text = drawn("candles", full, View(panel="candles"), width=200, height=58)

    assert "partial 1" in text
    assert re.search(r"\? +partial", text)
    assert text.count("?") == 1


@pytest.mark.parametrize("price", [0.0, math.nan])
def test_candles_that_cannot_be_drawn_are_none(price: float) -> None:
    """A price of 0 is none."""
    row = CandleRow(0, price, 1.0, 1.0, 1.0, 0.0, 0.0, 0)
    part = CandlesPart(ticker="X-USD", resolution="1DAY", rows=(row,))

    assert "no candle that can be drawn" in drawn("candles", Snapshot(candles=part))


def test_one_flat_candle_is_a_line() -> None:
    """Nothing to scale by, and nothing divides by 0."""
    row = CandleRow(0, 5.0, 5.0, 5.0, 5.0, 0.0, 0.0, 0, "venue")
    part = CandlesPart(ticker="X-USD", resolution="1HOUR", rows=(row,))
    text = drawn("candles", Snapshot(candles=part), View(panel="candles"))

    assert "01-01 00:00" in text
    assert "▀▀▀" in text or "▄▄▄" in text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("candles", "no candle yet"), ("flow", "no market yet"), ("funding", "no market yet"),
        ("detectors", "detectors are off"),
    ],
)  # fmt: skip
def test_a_panel_without_its_part_says_so(name: str, words: str) -> None:
    """Nothing is drawn as 0."""
    assert words in drawn(name, Snapshot())


def test_a_run_without_trades_has_no_volume_by_price(full: Snapshot) -> None:
    """Nor a share that was bought."""
    quiet = FlowPart(windows=(FlowRow(ticker="X-USD", window="1MIN"),))
    text = drawn("flow", replace(full, flow=quiet))

    assert "no trade since this panel is open" in text
    assert "unknown" not in text


def test_detectors_that_warm_up_have_found_nothing() -> None:
    """Which is not the same as being off."""
    assert "the detectors warm up" in drawn("detectors", Snapshot(detections=()))


def test_levels_that_know_less_than_a_day_say_so(full: Snapshot) -> None:
    """What is usual after a quarter of an hour is not what is usual."""
    score = Score("BTC-USD", "liquidity", 50.0, (("day_h", 0.25),), 9, 1)
    row = replace(full.markets[0], scores=(score,))
    whole = replace(row, scores=(replace(score, inputs=(("day_h", 23.9),)),))

    assert "usual is of 15 min" in drawn("signals", replace(full, markets=(row,)))
    assert "usual is of" not in drawn("signals", replace(full, markets=(whole,)))


# === Signals and prices ===


def test_a_selected_score_is_worked_out_from_its_inputs(full: Snapshot) -> None:
    """The formula, the numbers in it, what comes out, how the score spread, and its triggers."""
    inputs = (("now_bps", 3.0), ("usual_bps", 4.0))
    score = Score("ETH-USD", "volatility", 36.0, inputs, 48_211, 17)
    shown = replace(full, markets=(replace(full.markets[0], scores=(score,)),))
    text = drawn("signals", shown, View(panel="signals"), 120, 24)

    assert "value = 100 * now_bps**2 / (now_bps**2 + usual_bps**2)" in text
    assert "= 100 * 3**2 / (3**2 + 4**2) = 36.0000" in text
    assert "so far  least 10  p10 14  median 51  p90 86  greatest 90  0 " in text
    assert "100  of 340 values" in text
    assert "changes what it does at 75.0 (it is 39.0 below) and 90.0 (it is 54.0 below)" in text


def test_a_score_that_is_weighed_says_how_much_and_where_the_whole_decides(full: Snapshot) -> None:
    """A score of the composite has no trigger of its own."""
    score = Score("ETH-USD", "momentum", 36.0, (), 48_211, 17)
    history = replace(full.signals[0], signal="momentum", weight=0.6)
    shown = replace(
        full, markets=(replace(full.markets[0], scores=(score,)),), signals=(history,),
        triggers={"composite": (60.0, 52.0)},
    )  # fmt: skip
    text = drawn("signals", shown, View(panel="signals"), 120, 24)

    assert "60 % of the composite: opens at 60.0, closes at 52.0 (short 40.0, 48.0)" in text


def test_a_signal_of_a_user_has_no_formula_here(full: Snapshot) -> None:
    """Its inputs are listed all the same."""
    score = Score("ETH-USD", "mine", 36.0, (), 48_211, 17)
    shown = replace(full, markets=(replace(full.markets[0], scores=(score,)),))

    assert "its formula is in its file" in drawn("signals", shown, View(panel="signals"), 120, 24)


def test_a_range_that_lacks_candles_says_of_how_many_it_is(full: Snapshot) -> None:
    """A day of which minutes are known is no day."""
    text = drawn("prices", full, View(panel="prices"), 120, 24)

    assert "14 of 15 " in text
    assert "no candle yet" in drawn("prices", replace(full, prices=PricesPart(
        shown=PriceRow(ticker="ETH-USD"))), View(panel="prices"), 120, 24)  # fmt: skip


# === Way of the data ===


def test_the_way_shows_each_layer_before_and_after(full: Snapshot) -> None:
    """What a frame moved stands first, with its sign; what came of it has its id."""
    text = drawn("way", full, View(panel="way"), 120, 30)

    assert "best bid 3,012.2 → 3,012.3 ▲ · bid size 2.000 → 1.500 ▼" in text
    assert "funding/h unknown → +0.0013 %" in text
    assert "distance 11.8 % → 11.7 % ▼" in text
    assert "momentum 57.2 → 58.0 ▲ · volume 71.0" in text
    assert "D42 ETH-USD target +6,326" in text
    assert "nothing of ours traded" in text
    assert "led to D42" in text


@pytest.mark.parametrize("height", range(6, 40, 3))
def test_every_layer_is_on_the_way_as_long_as_there_is_a_row_for_it(
    full: Snapshot, height: int
) -> None:
    """A small screen cuts long texts before it leaves out a layer."""
    text = drawn("way", full, View(panel="way"), 100, height)
    stages = [stage.stage for stage in full.way.stages]

    shown = [stage for stage in stages if f"│ {stage} " in text]

    assert shown == stages[: height - 4]


def test_the_speed_panel_alone_lists_what_each_layer_takes(full: Snapshot) -> None:
    """Percentiles by layer, and what went wrong in it."""
    text = drawn("speed", full, View(panel="speed"), 120, 30)

    assert re.search(r"decoding +48,211 +173.4 +6.0 µs +12.0 µs +240 µs +2.4 ms +10 % +2 ", text)
    assert "decoding" not in drawn("speed", full, View(), 120, 30)


def test_without_a_frame_there_is_no_way() -> None:
    """It says since when it looks."""
    text = drawn("way", Snapshot(), View(panel="way"), 80, 10)

    assert "no frame since this panel is open" in text


# === Connection ===


def test_a_lost_connection_says_since_when_and_why(full: Snapshot) -> None:
    """State, reason and history in words, REST with its breaker, and what waits for a limit."""
    text = drawn("link", full, View(panel="link"), 200, 30)

    assert "● reconnecting for 4.2 s: c2: 1006 connection reset" in text
    assert "lag of trades p50 / p99 / max 41.2 ms / 210 ms / 212 ms" in text
    assert re.search(r"c2 +live +reconnecting +until now +(#48190 +)?1006 connection reset", text)
    assert re.search(r"40 .*88.0 ms / 412 ms +breaker open, retry in 3", text)
    assert re.search(r"default +0 / 100 +4 +4.2 s +31.0 s +2 ", text)
    assert re.search(r"v4_orderbook +ETH-USD +40,100 +4.0", text)
    assert "lost 3 connection reset" in text


@pytest.mark.parametrize("height", [24, 60])
def test_what_has_no_room_is_counted(full: Snapshot, height: int) -> None:
    """No list ends without a word."""
    many = tuple(replace(full.link.feeds[0], ticker=f"T{n}-USD") for n in range(80))
    text = drawn("link", replace(full, link=replace(full.link, feeds=many)), None, 120, height)

    assert re.search(r"and \d+ more", text)


def test_an_unknown_connection_is_none() -> None:
    """Before the first frame nothing is live."""
    assert "no connection since" in drawn("link", Snapshot(), View(panel="link"), 80, 10)


# === Health ===


def test_what_is_not_well_is_named_in_the_title(full: Snapshot) -> None:
    """Each thing that a run needs has a sign, a word and its reason."""
    text = drawn("health", full, View(panel="health"), 120, 40)

    assert "Health connection, trading, database" in text
    assert "▲ trading    halted: flash crash (by ann)" in text
    assert "48,210 written · 12 waiting · 340 in a file · 1 lost" in text
    assert "● account    well" in text
    assert "policy.act_below 0.08  bot.yaml:4" in text
    assert re.search(r"trades +never +LINK-USD", text)


def test_a_run_that_is_well_says_so(full: Snapshot) -> None:
    """And one that nobody has looked at says nothing."""
    rows = tuple(replace(row, state="good") for row in full.health.rows)
    well = replace(full, health=replace(full.health, rows=rows, settings=()))

    assert "Health all is well" in drawn("health", well, View(panel="health"), 120, 40)
    assert "all is as the profile has it" in drawn("health", well, View(panel="health"), 120, 40)
    assert "not known until" in drawn("health", Snapshot(), View(panel="health"), 80, 12)


@pytest.mark.parametrize("width", range(160, 260, 17))
def test_what_stands_beside_a_long_row_is_not_pushed_away(full: Snapshot, width: int) -> None:
    """The left column is cut where the right one begins."""
    rows = tuple(replace(row, words="words " * 90) for row in full.health.rows)
    shown = replace(full, health=replace(full.health, rows=rows))
    lines = drawn("health", shown, View(panel="health"), width, 40).split("\n")

    assert {width} == {cell_len(line) for line in lines}
    assert "oldest of all markets" in lines[1]


def test_a_book_alone_has_what_stands_within_some_distances(full: Snapshot) -> None:
    """Beside its ladder, which is as wide as there is room for."""
    book = replace(full.book, depths=full.prices.depths)
    text = drawn("book", replace(full, book=book), View(panel="book"), 120, 30)

    assert re.search(r"10 bp +40,100 +20,050 .*\+33 %", text)
    assert "last trades" in text
    assert "WITHIN" not in drawn("book", full, View(panel="book"), 120, 30)


def test_a_long_text_of_the_wire_is_broken_without_a_letter_more() -> None:
    """It has no words: three lines of it joined are the text itself."""
    text = "".join(f'{{"bids":[["{price}","4.783"]]}},' for price in range(60))

    for more in (1, 2, 5, 99):
        assert "".join(_broken(text, 40, 50, more)) == text


def test_words_are_broken_between_words() -> None:
    """A line takes what fits; what is left over stays one line, which is cut where it is drawn."""
    words = "one two three four five six seven eight nine ten"

    assert _broken(words, 9, 12, 2) == ("one two", "three four", "five six seven eight nine ten")


def test_a_flat_account_has_no_empty_row_of_its_last_distances(full: Snapshot) -> None:
    """There was none to draw."""
    flat = replace(full, safety=replace(full.safety, history=(float("inf"),) * 60))

    assert "last minutes" in drawn("safety", full, View(panel="safety"), 120, 40)
    assert "last minutes" not in drawn("safety", flat, View(panel="safety"), 120, 40)


def test_how_far_liquidation_is_stays_on_a_narrow_screen(full: Snapshot) -> None:
    """As narrow as a phone in a hand: what was won gives way first, and no distance is cut."""
    text = drawn("positions", full, width=50)
    titles = next(row for row in text.splitlines() if "TICKER" in row)

    assert "DISTANCE" in titles
    assert "…" not in titles


def test_bars_of_a_narrow_book_are_as_wide_as_there_is_room(full: Snapshot) -> None:
    """None is cut, and where there is none the sizes stand alone."""
    for width in (30, 31, 32, 40):
        rows = drawn("book", full, width=width).splitlines()
        assert not any("…" in row for row in rows if "mid" not in row)


@pytest.mark.parametrize("name", ["orders", "tape", "equity"])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60)])
def test_what_earlier_runs_did_looks_as_it_is_stored(
    again: Snapshot, name: str, width: int, height: int
) -> None:
    """Below what this run did; a point has no frame, and says that it is earlier."""
    text = panel(name, again, width, height, View(panel=name)).text

    assert agrees(f"earlier-{name}-{width}x{height}", text)
