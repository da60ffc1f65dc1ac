"""Accounts led through crashes: what a path is, what rivals do, what is claimed of the guard."""

import json
from collections.abc import Generator, Iterable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import crash
import crash_runs
import msgspec
import pytest
from bot.config.profiles import RECKLESS
from bot.engines.engine import engine_of
from bot.run.composition import Bot, Options
from crash_paths import CALM_S, DEPOSIT, FAMILIES, KINDS, Asset, Event, Path, path_of
from crash_recorded import RecordedOutcome, on_recording
from crash_rivals import RIVALS, Rival, closing
from crash_runs import (
    GUARD,
    OPENS_S,
    POLICIES,
    SHARES,
    USDC,
    Back,
    Exchange,
    Front,
    Hindsight,
    PathOutcome,
    entries,
    hindsight,
    lead,
)
from crash_table import (
    Run,
    as_json,
    claims,
    dominating,
    front,
    paired,
    quantile,
    regrets,
    sums,
    table,
)
from crash_wire import frames_of
from dydx_conn import Frame, OrderRequest, from_generator, replay
from dydx_data import DataState, step
from dydx_risk import adjusted_imf_ppm

LONG = Asset("M0-USD", 100.0, 0.03, 1.0, 30_000.0, 200_000.0)
SHORT = Asset("M1-USD", 100.0, 0.03, 1.0, -30_000.0, 200_000.0)


def path_with(*events: Event, assets: tuple[Asset, ...] = (LONG,), seconds: int = 60) -> Path:
    """Return a path of one's own making."""
    return Path(1, "slide", assets, events, seconds)


def seen(path: Path) -> Iterator[tuple[int, DataState, DataState]]:
    """Yield each second with what is shown at its end, and what is true."""
    shown, true = DataState(), DataState()
    for second, sent in enumerate(frames_of(path)):
        for frame, fact in sent:
            step(shown, frame)
            step(true, fact)
        yield second, shown, true


def mids(path: Path, ticker: str = "M0-USD") -> list[float]:
    """Return the middle of the book at the end of each second."""
    return [shown.views[ticker].book.mid_price or 0.0 for _, shown, _ in seen(path)]


def oracles(path: Path, ticker: str = "M0-USD") -> list[float]:
    """Return the oracle price at the end of each second."""
    views = (shown.views[ticker] for _, shown, _ in seen(path))
    return [view.oracle.price if view.oracle else 0.0 for view in views]


# === Paths ===


def test_a_seed_always_draws_the_same_path() -> None:
    """Frames and outcomes are the seed's alone."""
    first, second = path_of(7), path_of(7)

    assert first == second
    assert [*frames_of(first)] == [*frames_of(second)]
    assert lead(first) == lead(second)
    assert path_of(8) != first


def test_seeds_take_the_families_in_turn() -> None:
    """Ten thousand paths are more than five hundred of each."""
    drawn = [path_of(seed).family for seed in range(1, 10_001)]

    assert min(drawn.count(family) for family in FAMILIES) >= 500
    assert path_of(3, "V").family == "V"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_draws_what_its_row_says(family: str) -> None:
    """Kinds that exist, after the calm, over before the path is; one of each certain draw."""
    certain = [draw.kind for draw in FAMILIES[family].draws if draw.chance == 1.0]
    for seed in range(30):
        path = path_of(seed, family)
        drawn = [event.kind for event in path.events]
        assert set(drawn) <= set(KINDS)
        assert all(drawn.count(kind) >= certain.count(kind) for kind in certain)
        assert all(event.at_s > CALM_S for event in path.events if event.kind != "noise")
        assert family == "mixed" or path.seconds >= 15 + max(
            event.until_s for event in path.events if event.for_s < 600
        )


@pytest.mark.parametrize(
    ("family", "least"), [("correlated markets", 3), ("funding squeeze on a hedge", 2), ("V", 1)]
)
def test_accounts_hold_what_their_family_says(family: str, least: int) -> None:
    """Several markets, or two that face each other."""
    for seed in range(20):
        held = [asset.held_usdc for asset in path_of(seed, family).assets]
        assert len(held) >= least
        assert family != "funding squeeze on a hedge" or held[0] * held[1] < 0


@pytest.mark.parametrize("family", FAMILIES)
def test_every_account_opens_what_its_path_holds(family: str) -> None:
    """Markets of all prices have grids on which the positions fit, and nothing is lost in calm."""
    for seed in range(6):
        path = msgspec.structs.replace(path_of(seed, family), events=(), seconds=12)
        outcome = lead(path, ("none",))["none"]

        assert not outcome.lost
        assert outcome.left > 0.98 * DEPOSIT


# === Events ===


def test_a_slide_goes_against_whoever_holds() -> None:
    """A fall for longs, a rise for shorts, of about its size over its time."""
    slide = Event("slide", 10, 20, 0.30)
    fall, rise = mids(path_with(slide)), mids(path_with(slide, assets=(SHORT,)), "M1-USD")

    assert fall[9] == pytest.approx(100, abs=0.1)
    assert fall[40] == pytest.approx(100 * (1 - 0.30 / 20) ** 20, rel=1e-3)
    assert rise[40] == pytest.approx(100 * (1 + 0.30 / 20) ** 20, rel=1e-3)


def test_a_gap_takes_one_second() -> None:
    """All of it, at once."""
    prices = mids(path_with(Event("gap", 10, 1, 0.20)))

    assert prices[9] == pytest.approx(100, abs=0.1)
    assert prices[10] == pytest.approx(80, abs=0.1)


@pytest.mark.parametrize("share", [0.8, 1.0])
def test_a_v_comes_back(share: float) -> None:
    """By its share of what was lost."""
    prices = mids(path_with(Event("gap", 10, 1, 0.20), Event("recovery", 12, 10, share)))

    assert prices[11] == pytest.approx(80, abs=0.1)
    assert prices[30] == pytest.approx(80 + share * 20, abs=0.1)


def test_the_oracle_lags_the_book_or_the_book_the_oracle() -> None:
    """By its seconds: one shows now what the other showed then."""
    slide = Event("slide", 12, 20, 0.30)
    late = path_with(Event("oracle lags", 8, 600, 5.0), slide)
    stale = path_with(Event("book lags", 8, 600, 5.0), slide)

    assert oracles(late)[20:50] == pytest.approx(mids(late)[15:45], rel=2e-3)
    assert mids(stale)[20:50] == pytest.approx(oracles(stale)[15:45], rel=2e-3)
    assert oracles(late)[20] != pytest.approx(mids(late)[20], rel=0.05)


def test_a_frozen_feed_sends_blocks_alone() -> None:
    """Neither books nor prices, then all of what happened meanwhile."""
    path = path_with(Event("frozen", 10, 6, 0.0), Event("gap", 16, 1, 0.10))
    channels = [{frame.channel for frame, _ in sent} for sent in frames_of(path)]

    assert channels[10:16] == [{"v4_block_height"}] * 6
    assert channels[16] == {"v4_block_height", "v4_markets", "v4_orderbook"}
    assert mids(path)[15:17] == pytest.approx([100, 90], abs=0.1)


def test_depth_that_is_pulled_is_shown_and_does_not_fill() -> None:
    """The bot sees all of it, the venue a share, and only from then on."""
    path = path_with(Event("noise", 0, 600, 0.001), Event("pulled", 20, 600, 0.1))
    sizes = {
        second: [sum(level.size for level in now.views["M0-USD"].book.bids()) for now in both]
        for second, *both in seen(path)
    }

    assert sizes[19][0] == sizes[19][1]
    assert sizes[30][1] == pytest.approx(0.1 * sizes[30][0], rel=0.01)


def test_open_interest_scales_the_initial_margin() -> None:
    """At its end the margin is as many times the least as its size says; before, once."""
    path = path_with(Event("interest", 10, 10, 8.0))
    ppm = []
    for _, shown, _ in seen(path):
        view = shown.views["M0-USD"]
        market, interest = view.market, view.open_interest
        assert market is not None
        assert interest is not None
        price = 100 * USDC * interest * 10.0**market.atomic_resolution
        caps = market.open_interest_lower_cap, market.open_interest_upper_cap
        ppm.append(adjusted_imf_ppm(market.imf_ppm, *caps, round(price)))

    assert ppm[9] == 50_000
    assert ppm[20] == pytest.approx(8 * 50_000, rel=0.01)


def test_a_squeeze_makes_both_sides_of_a_hedge_pay() -> None:
    """Hours pass, and whatever is held pays in each."""
    path = path_with(Event("squeeze", 10, 3, 0.002), assets=(LONG, SHORT), seconds=20)
    front = Front(path)
    back = Back(front, "none")
    front.play([back])

    paid = -back.venue.ledger.unsettled / USDC
    assert paid == pytest.approx(3 * 0.002 * 60_000, rel=0.02)


# === What befalls orders and account frames ===


def sent_at(second: int, path: Path) -> list[Frame]:
    """Return what comes of an order that sells all at the end of a second, until 15 s later."""
    front, frames = Front(path), list[Frame]()
    venue = Exchange(path, front.truth)
    for now, sent in enumerate(frames_of(path)):
        venue.second = now
        for frame, _ in sent:
            for view in step(front.data, frame):
                found = venue.step(view)
                frames += found if second <= now else []
        if now == OPENS_S:
            for order in entries(front):
                venue.step(order)
        if now == second:
            view = front.data.views["M0-USD"]
            assert view.market is not None
            held = venue.ledger.position("M0-USD")
            frames += venue.step(closing(view, view.market, held, 1.0, 7))
        if now == second + 15:
            break
    return frames


def test_half_of_the_orders_is_lost_in_two_ways() -> None:
    """A half arrives; a quarter is reported and expires, a quarter is never mentioned."""
    calm = path_with(Event("orders lost", 8, 600, 0.5), seconds=40)
    fates = []
    for seed in range(200):
        text = "".join(f.text for f in sent_at(10, msgspec.structs.replace(calm, seed=seed)))
        expired = "EXPIRED" in text or "BEST_EFFORT_OPENED" in text
        fates.append("filled" if '"FILLED"' in text else "expired" if expired else text)

    assert set(fates) == {"filled", "expired", ""}
    assert fates.count("filled") == pytest.approx(100, abs=20)
    assert fates.count("") == pytest.approx(50, abs=17)


def test_a_node_that_stopped_answers_nothing() -> None:
    """Until it goes on."""
    path = path_with(Event("node stops", 10, 5, 0.0))

    assert sent_at(9, path)
    assert sent_at(10, path) == sent_at(14, path) == []
    assert sent_at(15, path)


def test_account_frames_come_late() -> None:
    """What is sold is known of so many seconds later, and not before."""
    path = path_with(Event("account lags", 8, 600, 2.0), Event("gap", 20, 1, 0.295))
    front = Front(path)
    back = Back(front, "half")
    end_second, known, true = back.end_second, list[float](), list[int]()

    def noting(second: int) -> None:
        known.append(sum(float(position.size) for position in held(back).values()))
        true.append(back.venue.ledger.position("M0-USD"))
        end_second(second)

    back.end_second = noting  # type: ignore[method-assign]
    front.play([back])

    sold = next(n for n, (was, now) in enumerate(pairwise(true)) if n > CALM_S and now < was) + 1
    assert sold in (20, 21)
    assert known[sold + 1] == 300
    assert known[sold + 2] == 150


def held(back: Back) -> dict[str, Any]:
    """Return the positions that a back's bot knows of."""
    return {**back.bot.risk.account.positions}


def test_a_restart_forgets_all_but_what_snapshots_say() -> None:
    """Another bot, which knows the positions from its first frame on; the ledger went on."""
    path = path_with(Event("restart", 10, 5, 0.0))
    front = Front(path)
    back = Back(front, "guard")
    before, position = back.bot, back.venue.ledger.position
    front.play([back])

    assert back.bot is not before
    assert before.risk.account.positions == back.bot.risk.account.positions != {}
    assert position("M0-USD") > 0
    assert back.bot.risk.next_client_id > before.risk.next_client_id


# === Rivals ===


def looked(path: Path, policy: str) -> list[tuple[Any, int]]:
    """Return what the account was and how many orders were out, after each frame."""
    front = Front(path)
    back = Back(front, policy)
    settle, out = back.settle, list[tuple[Any, int]]()

    def noting(frame: Frame) -> None:
        settle(frame)
        rival = back.rival
        out.append((back.bot.risk.margin, 0 if rival is None else rival.orders))

    back.settle = noting  # type: ignore[method-assign]
    front.play([back])
    return out


DUE = {
    "all": lambda margin: margin.distance is not None and margin.distance < 0.10,
    "half": lambda margin: margin.net_collateral < 2 * margin.maintenance_margin,
    "stop": lambda margin: 0 < margin.net_collateral < 8_500 * USDC,
}


@pytest.mark.parametrize("policy", DUE)
def test_a_rival_acts_at_its_threshold_and_not_before(policy: str) -> None:
    """In the frame that crosses it."""
    frames = looked(path_with(Event("slide", 12, 30, 0.345)), policy)
    due = DUE[policy]
    first = next(n for n, (margin, _) in enumerate(frames) if due(margin))

    assert [orders for _, orders in frames[: first + 1]] == [0] * first + [1]


def test_no_guard_never_acts() -> None:
    """Whatever happens."""
    assert {orders for _, orders in looked(path_with(Event("gap", 12, 1, 0.4)), "none")} == {0}


def test_selling_all_leaves_nothing_and_selling_half_a_half() -> None:
    """What is left of the position once the first order has filled."""
    slide = path_with(Event("slide", 12, 30, 0.30))
    fallen = {p: lead(slide, (p,))[p] for p in ("all", "stop")}
    half = path_with(Event("gap", 12, 1, 0.295))
    front = Front(half)
    back = Back(front, "half")
    front.play([back])

    assert {outcome.orders for outcome in fallen.values()} == {1}
    assert back.venue.ledger.position("M0-USD") == 150 * 10**8
    assert back.rival is not None
    assert back.rival.orders == 1


def test_a_rival_sends_again_what_was_not_answered() -> None:
    """As soon as the node takes orders."""
    path = path_with(Event("slide", 12, 30, 0.30), Event("node stops", 12, 33, 0.0))
    outcome = lead(path, ("all",))["all"]

    assert outcome.orders > 3
    assert not outcome.lost


# === Runs ===


def alone(path: Path, policy: str) -> float:
    """Return what a policy leaves when a whole Bot plays the frames as it would any recording."""
    front = Front(path)
    venue = Exchange(path)
    bot = Bot(Options(strategy="none", guard=policy == "guard", policy=GUARD), venue)
    rival = RIVALS[policy](bot, 1) if policy in RIVALS else None

    def frames() -> Generator[Frame]:
        for second, sent in enumerate(frames_of(path)):
            venue.second = second
            for frame, _ in sent:
                step(front.data, frame)
                yield frame
                for order in rival.look() if rival is not None and second > CALM_S else ():
                    bot.place(order)
            if second == OPENS_S:
                for order in entries(front):
                    bot.place(order)

    bot.run(from_generator(frames))
    return venue.left


@pytest.mark.parametrize("seed", [17, 6, 11, 12, 14, 16])  # a slide, then one trouble each
def test_one_front_for_all_leaves_what_separate_runs_leave(seed: int) -> None:
    """To the quantum: sharing the fold of the market changes nothing."""
    path = path_of(seed)
    together = lead(path)

    assert {policy: together[policy].left for policy in (*RIVALS, "guard")} == {
        policy: alone(path, policy) for policy in (*RIVALS, "guard")
    }


class Once(Rival):
    """Sells a share after so many frames, as hindsight would."""

    frames, share = 0, 0.0

    def look(self) -> Iterable[OrderRequest]:
        """Count."""
        self.frames -= 1
        return self.close(self.share) if self.frames == 0 else ()


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("seed", [1, 5, 11])  # a gap, depth that is pulled, orders that are lost
def test_hindsight_is_the_same_rule_run_through_the_whole_bot(
    seed: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No risk layer looks, and the account is left with the same."""
    path, at_s = path_of(seed), 30
    until = [len(sent) for sent in frames_of(path)][CALM_S + 1 : at_s + 1]
    monkeypatch.setattr(Once, "frames", sum(until))
    monkeypatch.setattr(Once, "share", share)
    monkeypatch.setattr(crash_runs, "RIVALS", {**RIVALS, "once": Once})
    front = Front(path)
    sellers = Hindsight(front)
    front.play([sellers])

    assert sellers.sales[at_s, share].left == lead(path, ("once",))["once"].left


def test_hindsight_sells_before_the_fall() -> None:
    """All of it, in the last second that is worth it: fees and spread are all it costs."""
    path = path_with(Event("gap", 12, 1, 0.33), seconds=16)

    assert hindsight(path) == pytest.approx(DEPOSIT - 2 * 30_000 * (0.0005 + 0.0002), abs=5)


# === On a recording ===


@pytest.fixture(scope="module")
def recorded() -> dict[str, RecordedOutcome]:
    """Play the bundled recording once under each rule, and under the guard with protections."""
    return on_recording("quickstart", Options.of(RECKLESS), ("none", "all", "half", "stop", "both"))


def test_on_a_recording_the_guard_is_the_bot_itself_and_a_rival_stands_in_its_place(
    recorded: dict[str, RecordedOutcome],
) -> None:
    """The same strategy; what has sold all holds nothing at the end, and was worth selling."""
    bot = Bot(Options.of(RECKLESS))
    bot.run(replay("quickstart"))

    assert recorded["both"].left == (bot.venue.figures().equity or 0) / USDC
    assert recorded["both"].orders == bot.journal.counts["reduce"]
    assert recorded["all"].orders >= 1
    assert not recorded["all"].lost
    assert recorded["all"].left != recorded["both"].left


def test_reckless_ends_no_worse_on_the_recording_than_any_simple_rule(
    recorded: dict[str, RecordedOutcome],
) -> None:
    """Guard and protections together: what `--profile reckless` promises."""
    assert recorded["none"].lost
    assert recorded["both"].left >= max(recorded[rule].left for rule in ("all", "half", "stop"))


# === Table ===


def runs_of(family: str, **left: list[float]) -> list[Run]:
    """Return runs in which policies leave this, and lose where they leave nothing."""
    full = {policy: left.get(policy, left["none"]) for policy in POLICIES}
    return [
        Run(n, family, {p: PathOutcome(full[p][n] == 0, full[p][n], 0) for p in full}, 9_000)
        for n in range(len(left["none"]))
    ]


def test_a_paired_interval_is_that_of_the_normal_distribution() -> None:
    """Mean 2, deviation 1.5811, of five."""
    found = paired([0.0, 1.0, 2.0, 3.0, 4.0])

    assert found.mean == 2.0
    assert found.high - found.mean == pytest.approx(1.959964 * 1.58114 / 5**0.5, rel=1e-5)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_sums_count_what_was_lost_left_and_paid() -> None:
    """A cost is what no guard left more, where it survived."""
    found = sums(runs_of("V", none=[0, 8_000, 9_000, 7_000], all=[4_000, 6_000, 9_000, 0]), "all")

    assert (found.lost, found.mean, found.low) == (1, 4_750, 0)
    assert found.cost == pytest.approx((2_000 + 0 + 7_000) / 3)
    assert quantile(range(100), 0.05) == 5


def test_claims_are_refuted_by_a_whole_interval_on_the_wrong_side() -> None:
    """Within it, less is not refuted; in total, fewer must be fewer."""
    good = runs_of("gap", none=[0, 0, 5, 6], guard=[7, 8, 7, 9], both=[9] * 4, stop=[8] * 4)
    bad = runs_of("gap", none=[9] * 4, guard=[1, 2, 1, 2])
    held = {(c.family, c.words): c.holds for c in claims(good)}
    refuted = {(c.family, c.words): c.holds for c in claims(bad)}

    assert held["gap", "guard leaves no less than all"]
    assert held["total", "guard loses fewer than all"]
    assert not refuted["gap", "guard leaves no less than all"]
    assert refuted["gap", "guard loses no more than all"]
    assert not refuted["total", "guard loses fewer than all"]


def test_the_promises_are_accounts_in_each_family_and_money_on_the_whole() -> None:
    """Where in particular a rule leaves more is shown, and breaks nothing."""
    runs = runs_of("gap", none=[9] * 4, guard=[1, 2, 1, 2])
    broken = {(c.family, c.words) for c in claims(runs) if c.broken}
    promised = {c.words for c in claims(runs) if c.family == "gap" and c.promised}

    assert ("total", "guard leaves no less than all") in broken
    assert ("gap", "guard leaves no less than all") not in broken
    assert promised == {"guard loses no more than all", "guard loses no more than half"}
    assert any(line.endswith("not here") for line in table(runs))


def test_in_a_v_what_the_protections_cost_counts() -> None:
    """Less than the stop."""
    runs = runs_of("V", none=[9_000] * 3, both=[8_900, 8_800, 8_950], stop=[8_000] * 3)
    judged = {c.words: c.holds for c in claims(runs) if c.family == "V"}

    assert judged["both costs less than stop"]
    assert not any("stop" in c.words and c.family == "all falls" for c in claims(runs))


def test_the_front_names_who_is_nowhere_worse() -> None:
    """Lost, left and the cost in a V, all three."""
    runs = runs_of(
        "V", none=[9, 9], all=[5, 5], half=[8, 0], stop=[7, 7], guard=[8, 8], both=[6, 9]
    )
    found = front(runs)

    assert found["all"] == (0, 5.0, 4.0)
    assert dominating(found, "none") == []
    assert set(dominating(found, "all")) == {"none", "stop", "guard", "both"}
    assert "guard" in dominating(found, "half")


def test_regret_is_what_hindsight_left_more() -> None:
    """Never below nothing: who did better has none."""
    runs = runs_of("gap", none=[0, 8_000], guard=[9_500, 6_000])

    assert regrets(runs, "none") == [9_000, 1_000]
    assert regrets(runs, "guard") == [0, 3_000]
    assert as_json(runs)["regret"]["guard"]["mean"] == 1_500
    assert any("regret over 2 paths" in line for line in table(runs))


# === Command ===


def test_the_table_is_printed_and_the_code_tells(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In words, and as JSON; 1 if anything is refuted."""
    holds = [True]
    monkeypatch.setattr(crash, "_runs", lambda *_: runs_of("gap", none=[5, 6], guard=[7, 8]))
    monkeypatch.setattr(
        crash,
        "claims",
        lambda runs: [msgspec.structs.replace(c, holds=holds[0]) for c in claims(runs)],
    )

    assert crash.main(["--paths", "2"]) == 0
    assert "guard leaves no less than all" in capsys.readouterr().out
    holds[0] = False
    assert crash.main(["--paths", "2", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["families"]["gap"]["guard"]["mean"] == 7.5


def test_paths_run_in_processes_come_back_in_their_order() -> None:
    """Whoever is ready first."""
    runs = crash._runs(partial(crash.run, family="V"), range(601, 605), engine_of("local:2"))

    assert [run.seed for run in runs] == [601, 602, 603, 604]
    assert {run.family for run in runs} == {"V"}


def test_a_path_is_shown_second_by_second(capsys: pytest.CaptureFixture[str]) -> None:
    """What it holds, what happens, what the policy did, and how all ended."""
    assert crash.main(["--seed", "17", "--policy", "guard"]) == 0

    printed = capsys.readouterr().out
    assert "M0-USD  holds" in printed
    assert "event 0" in printed
    assert "restores" in printed
    assert "taken" in printed
    assert all(f"\n{policy:<6} " in printed for policy in POLICIES)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["--seed", "51", "--only", "99"], "expected numbers of the"),
        (["--family", "moon"], "expected a family among slide"),
        (["--seed", "1", "--family", "moon"], "got 'moon'"),
        (["--recording", "nowhere"], "nowhere"),
        (["--recording", "quickstart", "--profile", "brave"], "got 'brave'"),
    ],
)
def test_what_makes_no_sense_is_refused(
    typed: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and a sentence."""
    assert crash.main(typed) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("typed", [["--paths", "0"], ["--policy", "hope"], ["--paths", "x"]])
def test_what_cannot_be_read_is_refused_with_the_usage(typed: list[str]) -> None:
    """By argparse."""
    with pytest.raises(SystemExit):
        crash.main(typed)
