"""The way out, every shock, and the paper venue: figures of the layers and what they rest on."""

import io
import math

from dydx_panels import EquityPart, Snapshot, Theme, VenuePart, View, panel, run_panel, selectable
from dydx_risk import MarginFigures, RiskFigures, Rung, Watch, stress_table
from msgspec.structs import replace
from rich.console import Console


def drawn(name: str, snapshot: Snapshot, view: View | None = None, width: int = 80) -> str:
    """Draw one panel to text, without its frame."""
    text = panel(name, snapshot, width, 26, view or View(panel=name)).text
    return "\n".join(line.strip("│ ") for line in text.split("\n"))


def unfolded(name: str, snapshot: Snapshot, view: View | None = None, width: int = 80) -> str:
    """Draw one panel as running text: what is folded is joined again."""
    return " ".join(drawn(name, snapshot, view, width).split())


def watch_of(snapshot: Snapshot) -> Watch:
    """Return the watch that a snapshot is known to hold."""
    assert snapshot.watch is not None
    return snapshot.watch


def colours(name: str, snapshot: Snapshot) -> dict[str, str]:
    """Return each text on a panel with its colour."""
    rows = panel(name, snapshot, 100, 26, View(panel=name)).rows
    parts = [part for row in rows for strip in row for part in strip]
    return {p.text.strip(): p.style.color.name for p in parts if p.style and p.style.color}


# === Way out ===


def test_the_way_out_shows_the_distance_now_and_after_another_such_block(full: Snapshot) -> None:
    """Both distances stand first, with the ladder's ends, its cost and its moment."""
    text = unfolded("flight", full)

    assert "SAFE 11.8 % now if the last block repeats twice 10.9 % guard below 11.2 %" in text
    assert "2 steps from 6.2 % to 12.0 % cost 4.28 USDC at 09:31:07 #48211" in text


def test_each_rung_is_shown_with_its_costs_and_prices(full: Snapshot) -> None:
    """What it sells of what, at which worst price, and what doing nothing would cost."""
    text = unfolded("flight", full)

    assert "1 ETH-USD SELL 0.600 +2.100 3,003.4 2.14 9.1 % below 6.2 %" in text
    assert "spread 1.10 impact 0.14 fee 0.90 · 14 % of the depth" in text
    assert "liquidated 28.34 at most, 0.331 a block · oracle 3,012.4 · best 3,012.3" in text
    assert "BLIND, the book is stale: the oracle less a haircut" in text


def test_what_is_stuck_is_shown_with_its_reason(full: Snapshot) -> None:
    """A position without a way out is never left out."""
    assert "SOL-USD stays: its reduction has no answer yet" in unfolded("flight", full)


def test_a_rung_that_is_due_is_red(full: Snapshot) -> None:
    """The word stands beside the colour, and only from the distance after such a block."""
    watch = watch_of(full)
    near = replace(full, watch=replace(watch, plan=replace(watch.plan, distance_next=0.061)))

    assert "DUE 6.2 %" in unfolded("flight", near)
    assert "below 6.0 %" in unfolded("flight", near)
    assert "#ff5548" == colours("flight", near)["DUE 6.2 %"]
    assert "DUE" not in unfolded("flight", full)


def test_a_ladder_that_ends_in_nothing_held_ends_flat(full: Snapshot) -> None:
    """Infinity is a word, and one that does not suffice is marked."""
    watch = watch_of(full)
    last = replace(watch.plan.rungs[0], restores=math.inf)
    flat = replace(watch.plan, rungs=(last,), distance_after=math.inf, left=())
    short = replace(watch.plan, distance_after=0.07)

    assert "1 step from 6.2 % to flat" in unfolded("flight", _with(full, flat))
    assert "2.14 flat below" in unfolded("flight", _with(full, flat))
    assert "to 7.0 %, not enough" in unfolded("flight", _with(full, short))


def _with(snapshot: Snapshot, plan: object) -> Snapshot:
    return replace(snapshot, watch=replace(watch_of(snapshot), plan=plan))


def test_without_an_exit_the_oracle_of_a_rung_is_left_out(full: Snapshot) -> None:
    """Joined rungs may outlive what they were costed on; a blind one has no best price."""
    plan = watch_of(full).plan
    bare = replace(plan, exits=())
    blind = replace(plan, exits=tuple(replace(way, best=0) for way in plan.exits))

    assert "oracle 3,012.4" not in unfolded("flight", _with(full, bare))
    assert "best" not in unfolded("flight", _with(full, blind)).replace("best price", "")


def test_an_account_of_which_nobody_knows_what_it_holds_is_not_flat(full: Snapshot) -> None:
    """Before its first snapshot it looks as if nothing were held: that is no good news."""
    watch, trouble = watch_of(full), "no account snapshot yet"
    plan = replace(watch.plan, exits=(), rungs=(), left=())
    figures, stress = RiskFigures(margin=MarginFigures(0)), stress_table(0, ())
    blind = replace(watch, plan=plan, figures=figures, stress=stress, trouble=trouble)
    safety = replace(full.safety, margin=None, advice=True)
    shown = replace(full, watch=blind, safety=safety)

    assert "UNKNOWN what is held now" in unfolded("flight", shown)
    assert f"unknown: {trouble}" in unfolded("stress", shown)
    assert "advice unknown" in unfolded("safety", shown)
    for name in ("flight", "stress", "safety"):
        assert "nothing is held" not in unfolded(name, shown)


def test_nothing_held_and_nothing_seen_are_two_things(full: Snapshot) -> None:
    """An account that nobody looked at is unknown; a flat one is flat."""
    flat = replace(watch_of(full).plan, exits=(), rungs=(), left=())

    assert "unknown: nobody has looked at the account yet" in unfolded("flight", Snapshot())
    assert "FLAT nothing is held now" in unfolded("flight", _with(full, flat))
    assert "guard is off" in unfolded("flight", Snapshot(watch=watch_of(full)))


def test_an_account_in_trouble_is_unknown(full: Snapshot) -> None:
    """Why the figures are no certainty stands above them."""
    watch = watch_of(full)
    plan = replace(watch.plan, unknown=("LINK-USD",))
    blind = replace(full, watch=replace(watch, plan=plan, trouble="its channel is closed"))

    assert "unknown: its channel is closed; LINK-USD: no figure at all" in unfolded("flight", blind)


# === Stress ===


def test_every_shock_stands_on_80_columns(full: Snapshot) -> None:
    """All moves of all markets, and of each alone, fit on the smallest screen."""
    lines = drawn("stress", full).split("\n")
    moves = next(line.split() for line in lines if line.startswith("MOVE"))

    assert ["-40", "-20", "-10", "-5", "-2", "-1", "0"] == moves[3:10]
    assert ["+1", "+2", "+5", "+10", "+20", "+40"] == moves[10:]
    for name in ("together", "ETH-USD", "BTC-USD"):
        assert 13 == next(len(line.split()) for line in lines if line.startswith(name))


def test_the_cell_without_a_move_is_the_account_as_it_is(full: Snapshot) -> None:
    """Now, open interest and funding have one cell each, under 0."""
    watch = watch_of(full)
    text = unfolded("stress", full)

    assert f"now {_whole(watch.stress.now().distance)}" in text
    assert "every open interest at its cap: equity" in text
    assert "8 h of the highest funding, all paying: equity" in text


def _whole(distance: float | None) -> str:
    assert distance is not None
    return f"{math.floor(distance * 1_000) / 10}"


def test_a_shock_that_liquidates_has_a_word_and_a_colour(full: Snapshot) -> None:
    """Danger is readable without colour; what is merely near has a sign."""
    act = replace(full, safety=replace(full.safety, act_below=0.2))

    assert "LIQ" in drawn("stress", full)
    assert "#ff5548" == colours("stress", full)["LIQ"]
    assert any(text.endswith("!") and text[0].isdigit() for text in colours("stress", act))
    assert panel("stress", act, 80, 24, theme=Theme(unicode=False, colours="")).text.isascii()


def test_a_far_shock_keeps_its_four_letters(full: Snapshot) -> None:
    """A hundred per cent and more have no tenths, and a thousand no figure."""
    watch = watch_of(full)
    rich = replace(full, watch=replace(watch, stress=watch.stress.settled(10**11)))
    rows = watch.stress.rows.values()
    calm = stress_table(-4_000_000_000, [row.holding for row in rows])

    assert ">999" in drawn("stress", rich)
    assert "MOVE" in drawn("stress", replace(full, watch=replace(watch, stress=calm)))


def test_a_shock_after_which_nothing_is_worth_anything_has_no_distance(full: Snapshot) -> None:
    """A beta beyond 2.5 takes a price to nothing at -40 %: there is no distance to be 0."""
    watch = watch_of(full)
    row = next(iter(watch.stress.rows.values()))
    table = stress_table(10**12, [replace(row.holding, beta=3.0)])

    assert "together none" in unfolded("stress", replace(full, watch=replace(watch, stress=table)))


def test_the_figures_of_risk_stand_over_the_table(full: Snapshot) -> None:
    """Margin used, funding and what it takes off the distance, concentration: each by its name."""
    text = unfolded("stress", full, width=120)

    for word in ("margin used", "funding", "a day", "takes off the distance", "breaches alone",
                 "largest ETH-USD", "concentration 0.", "long", "short", "net", "#48211"):  # fmt: skip
        assert word in text


def test_each_market_shows_its_size_price_usual_hours_and_leverage(full: Snapshot) -> None:
    """The figures of a position and the reason of its advice, real inputs first."""
    text = unfolded("stress", full, View(panel="stress", selected=4))

    assert "LONG 2.100 at 3,012.4 ·" in text
    assert " usual hours · lever " in text
    assert "binds · at most 20.0" in text
    assert "of gross · funding -0.0" in text
    assert "initial margin of 5.00 %" in text


def test_what_is_not_known_is_named_with_its_reason(full: Snapshot) -> None:
    """No volatility, no beta: the words of risk, and never a figure."""
    text = unfolded("stress", full, View(panel="stress", selected=5))

    assert "usual hours away unknown" in text
    assert "unknown: BTC-USD: no usable volatility, none is known yet" in text
    assert "leverage unknown: BTC-USD: no usable volatility" in text
    assert "BTC-USD unknown (1)" in unfolded("stress", full, View(panel="stress", selected=1))


def test_an_account_that_cannot_be_valued_has_question_marks(full: Snapshot) -> None:
    """Without one oracle price no cell is known, and none is drawn as 0."""
    watch = watch_of(full)
    held = [row.holding for row in watch.stress.rows.values()]
    blind = replace(watch, figures=RiskFigures(), leverage=(),
                    stress=stress_table(0, [replace(held[0], price=None), held[1]]))  # fmt: skip
    text = unfolded("stress", replace(full, watch=blind))

    assert "unknown: ETH-USD: no oracle price" in text
    assert "together ? ?" in text
    assert "LIQ " not in text.replace("LIQ liquidatable", "")
    assert "UNKNOWN unknown" in text


def test_a_flat_account_has_no_shock(full: Snapshot) -> None:
    """Nothing held is not a row of zeros."""
    watch = watch_of(full)
    flat = replace(watch, figures=RiskFigures(margin=MarginFigures(5)), stress=stress_table(5, ()))

    assert "nothing is held: no price can hurt" in unfolded("stress", replace(full, watch=flat))
    assert "nobody has looked" in unfolded("stress", Snapshot())


def test_the_rows_of_risk_can_be_filtered_and_selected(full: Snapshot) -> None:
    """A market's rows are found by its name, on both panels."""
    assert ("ETH-USD", "ETH-USD") == selectable(full, View(panel="flight"))
    assert ("now", "together", "OI capped", "funding") == selectable(full, View(panel="stress"))[:4]
    assert "BTC-USD" in selectable(full, View(panel="stress", filter="short"))


def test_many_rungs_are_a_line_each_and_the_selected_one_whole(full: Snapshot) -> None:
    """What does not fit is one row each; the selection scrolls and unfolds."""
    plan = watch_of(full).plan
    many = _with(full, replace(plan, rungs=tuple(_numbered(plan.rungs[0], n) for n in range(30))))
    text = drawn("flight", many, View(panel="flight", selected=29))

    assert "best 3,012.3" in text
    assert 1 == text.count("oracle 3,012.4")
    assert "30 ETH-USD" in text


def _numbered(rung: Rung, number: int) -> Rung:
    return replace(rung, fires_below=0.06 - number / 1_000)


# === Paper venue ===


def test_the_venue_tells_what_was_assumed_and_what_traded(full: Snapshot) -> None:
    """How much of the fills the tape bears out, market by market."""
    text = unfolded("venue", full)

    assert "fills no real trade confirms 21.4 % still to be judged 2 liquidations 1" in text
    assert "ETH-USD 20,000.00 18,000.00 10.0 %" in text


def test_the_venue_tells_how_the_account_did(full: Snapshot) -> None:
    """Ratios that need more hours are unknown, what was paid is not."""
    text = unfolded("venue", full, width=100)

    assert "trades 12 won 41.7 % profit factor 0.82 average win +31.20" in text
    assert "drawdown -412.00 USDC of equity 4.0 % lasted 3.0 h" in text
    assert "Sharpe unknown Sortino unknown annual from 24 hourly returns on" in text
    assert "fees -16.01 funding +0.04 insurance +0.00 USDC" in text


def test_refusals_and_owed_funding_are_listed_by_name(full: Snapshot) -> None:
    """What the chain would not have taken, and the hours that wait for a price."""
    text = unfolded("venue", full)

    assert "refused 3 ErrGTBExceedsMax, 1 ErrInvalidClob" in text
    assert "hours at an unknown rate SOL-USD 2 h" in text
    assert "fee rates maker 0.010 %, taker 0.050 % queue pessimistic" in text


def test_a_fund_and_a_tier_are_shown_once_a_venue_keeps_them(full: Snapshot) -> None:
    """A figure that a venue does not have takes no room."""
    assert full.venue is not None
    complete = replace(full, venue=replace(full.venue, fund=10**12, tier="3"))

    assert "insurance fund 1,000,000.00 USDC fee tier 3" in unfolded("venue", complete, width=120)
    assert "insurance fund" not in unfolded("venue", full, width=120)


def test_nothing_traded_is_unknown_and_nothing_marked_is_no_drawdown(full: Snapshot) -> None:
    """A venue of which nothing is known yet shows no zero."""
    assert full.venue is not None
    assert full.venue.performance is not None
    did = replace(full.venue.performance, max_drawdown=0, max_drawdown_ratio=None, average_win=None)
    fresh = replace(full, venue=replace(full.venue, performance=did), equity=EquityPart())
    bare = unfolded("venue", Snapshot(venue=VenuePart()))

    assert "drawdown unknown, of the run" in unfolded("venue", fresh)
    assert "average win unknown" in unfolded("venue", fresh)
    assert "0" not in bare.replace("v Paper venue", "")
    assert "refused nothing" in bare


def test_orders_on_the_wire_have_no_paper_venue() -> None:
    """The panel has that sentence, instead of being empty."""
    assert "no paper venue: what is sent goes over the wire" in unfolded("venue", Snapshot())


# === Prints ===


def test_each_of_the_three_prints_by_itself(full: Snapshot) -> None:
    """`run_panel` in a pipe: 24 rows of the console's width."""
    for name in ("flight", "stress", "venue"):
        console = Console(width=80, file=io.StringIO())
        with console.capture() as capture:
            run_panel(name, full, console)

        assert [80] * 24 == [len(row) for row in capture.get().splitlines()]
