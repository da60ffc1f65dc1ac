"""Sniper, reversion, carry and pairs: when they enter, stay, leave, and when they must not."""

import math
import pickle
import random
from typing import Any

import pytest
from dydx_signals import Scored
from dydx_strategy import (
    STRATEGIES,
    Carry,
    CarrySettings,
    Decider,
    Decision,
    Holdings,
    Pairs,
    PairsSettings,
    RankAndTarget,
    Reversion,
    ReversionSettings,
    Sniper,
    SniperSettings,
    WatchSettings,
    _round_trip_bps,
)
from pydantic import ValidationError
from street import Prices, Street, held, words

QUICK: dict[str, Any] = {"warm_up_s": 60.0, "report_s": 20.0}


def steady(price: float = 100.0) -> Prices:
    """Stand still, but for a flicker."""
    return lambda second: {"BTC-USD": price * (1 + 0.2e-4 * (-1) ** second)}


def still(prices: dict[str, float]) -> Prices:
    """Stand still."""
    return lambda _: prices


def jumping(every: int = 120, bps: float = 40.0, half_life: float = 20.0) -> Prices:
    """Jump now and then, up and down in turn, and come back; with a little noise."""
    noise = random.Random(1)

    def prices(second: int) -> dict[str, float]:
        sign = 1 if second // every % 2 else -1
        off = sign * bps * 1e-4 * 0.5 ** (second % every / half_life) if second >= every else 0.0
        return {"BTC-USD": 100.0 * math.exp(off + noise.gauss(0, 0.3e-4))}

    return prices


def drifting(bps: float = 0.5, noise_bps: float = 0.8, seed: int = 1) -> Prices:
    """Go up a little each second, or down where `bps` is negative."""
    noise, log = random.Random(seed), [0.0]

    def prices(_: int) -> dict[str, float]:
        log[0] += noise.gauss(bps, noise_bps) * 1e-4
        return {"BTC-USD": 100.0 * math.exp(log[0])}

    return prices


# === Costs ===


def test_a_round_trip_is_both_sides_of_the_book_and_two_fees():
    """2 bps of spread and two of 5; deeper levels cost more, and a book may be too small."""
    street = Street(Sniper())
    street.run(1, steady())
    book = street.data.views["BTC-USD"].book

    assert _round_trip_bps(book, 1_000.0, 500) == pytest.approx(12.0, abs=0.01)
    assert _round_trip_bps(book, 1e9, 500) is None
    assert _round_trip_bps(book, 0.0, 500) is None
    levels = [("99.99", "10"), ("99.89", "1000")], [("100.01", "10"), ("100.11", "1000")]
    street.play(street.wire.book("BTC-USD", *levels))
    assert _round_trip_bps(book, 2_000.0, 500) == pytest.approx(22.0, abs=0.01)


# === What all of them do ===


@pytest.mark.parametrize("make", [Sniper, Reversion, Carry, Pairs])
def test_nothing_is_entered_before_anything_is_known(make):
    """Each says once a minute why nothing happens, and never targets in a still market."""
    street = Street(make(), "BTC-USD", "ETH-USD")
    decided = street.run(400, lambda second: {"BTC-USD": 100.0, "ETH-USD": 50.0})

    assert {one.action for one in decided} == {"hold"}
    assert 4 <= len(decided) <= 8


@pytest.mark.parametrize("make", [Sniper, Reversion, Carry])
def test_what_is_found_in_trouble_is_closed_when_it_lasts(make):
    """Five seconds without a book; nothing flat is touched."""
    street = Street(make(), "BTC-USD")
    street.held["BTC-USD"] = held("BTC-USD", 4_000.0, 100.0)
    street.run(1, lambda _: {})
    street.play(street.wire.oracle("BTC-USD", "100"))
    street.play(street.wire.book("BTC-USD", [("99.99", "1")], []))
    for second in range(12):
        street.tick()
        street.play(street.wire.oracle("BTC-USD", f"{100 + second % 2}"))

    closes = [one for one in street.decided if one.action == "target"]
    assert {one.target_usdc for one in closes} == {0.0}
    assert closes[0].reasons[0].startswith("close: the book is one-sided (")
    assert closes[0].urgency == 0.9


@pytest.mark.parametrize("make", [Sniper, Reversion, Carry])
def test_what_takes_no_order_cannot_be_closed(make):
    """A market that is paused: it says so, and sends nothing."""
    street = Street(make(SETTINGS[make](report_s=2.0)), "BTC-USD")
    street.held["BTC-USD"] = held("BTC-USD", 4_000.0, 100.0)
    decided = street.run(12, steady(), status="PAUSED")

    assert {one.action for one in decided} == {"hold"}
    assert "cannot be closed: the status is PAUSED" in words(decided)


SETTINGS: dict[Any, Any] = {
    Sniper: SniperSettings, Reversion: ReversionSettings, Carry: CarrySettings,
}  # fmt: skip


@pytest.mark.parametrize(
    ("equity", "why"),
    [(None, "the account's equity is not known"), (0.0, "no equity is left"),
     (-5.0, "no equity is left")],
)  # fmt: skip
@pytest.mark.parametrize("make", [Sniper, Reversion, Carry])
def test_nothing_is_sized_by_an_unknown_equity(make, equity, why):
    """Nor by none."""
    street = Street(make(SETTINGS[make](report_s=1.0)), equity=equity)
    street.run(2, steady())

    assert why in words(street.run(120, steady()))


def test_no_more_markets_are_held_than_there_are_places():
    """One place, and another market in it."""
    street = Street(Reversion(ReversionSettings(positions=1, **QUICK)))
    street.held["SOL-USD"] = held("SOL-USD", 100.0, 5.0)

    assert set(words(street.run(200, jumping()))) == {"no place: 1 of 1 markets held"}


def test_what_is_on_its_way_takes_its_place():
    """Two markets jump in the same second, with one place: one is entered."""
    street = Street(Reversion(ReversionSettings(positions=1, **QUICK)), "BTC-USD", "ETH-USD")
    one = jumping()
    street.run(600, lambda s: dict.fromkeys(("BTC-USD", "ETH-USD"), one(s)["BTC-USD"]))
    entered = [row for row in street.decided if row.target_usdc and row.action == "target"]

    assert entered
    assert len({row.at // 10**10 for row in entered}) == len(entered)


# === Sniper ===


SNIPER = SniperSettings(trend_s=120.0, rest_s=30.0, pullback=0.2, **QUICK)


def test_a_trend_is_joined_on_its_pullback_by_a_limit_order_and_left_when_it_ends():
    """Armed, triggered, entered, left: one bid that waits, with a stop behind it."""
    street = Street(Sniper(SNIPER))
    [shot] = [one for one in street.run(150, drifting()) if one.action == "target"]

    assert (shot.target_usdc, shot.entry, shot.patience_s) == (4_000.0, "make", 30.0)
    assert shot.reasons[0].startswith("triggered: t ")
    assert 95.0 < shot.stop_loss < street.mids["BTC-USD"]
    price, since = street.mids["BTC-USD"], street.second
    fallen = street.run(200, lambda s: {"BTC-USD": price * (1 - 0.2e-4 * (s - since))})
    assert [one.target_usdc for one in fallen if one.action == "target"] == [0.0]
    assert any(" < 1" in why for why in words(fallen))


def test_a_fall_is_joined_from_the_other_side():
    """A short, with its stop above."""
    street = Street(Sniper(SNIPER))
    [shot] = [one for one in street.run(150, drifting(-0.5)) if one.action == "target"]

    assert shot.target_usdc == -4_000.0
    assert shot.stop_loss > street.mids["BTC-USD"]


def test_a_bid_that_failed_takes_another_pullback():
    """Its order expires, and it aims again; one that the pace does not let out fails in time."""
    strategy = Sniper(SNIPER.model_copy(update={"report_s": 1.0}))
    street = Street(strategy)
    street.dead.add("BTC-USD")
    shots = [one for one in street.run(400, drifting(0.3, 1.2)) if one.action == "target"]

    assert len(shots) > 1
    assert any(why.startswith("armed again: nothing came") for why in words(street.decided))
    assert shots[1].at - shots[0].at >= 10**10
    assert not street.held


def test_a_loss_is_left_and_rests():
    """A fall of many minutes' deviations: out, and nothing for a while."""
    strategy = Sniper(SNIPER.model_copy(update={"stop": 2.0, "leave": -500.0, "rest_s": 600.0}))
    street = Street(strategy)
    street.run(150, drifting())
    price = street.mids["BTC-USD"]
    assert street.held
    fallen = street.run(60, lambda s: {"BTC-USD": price * (0.995 + 0.5e-4 * (s % 2))})

    assert [one.target_usdc for one in fallen if one.action == "target"] == [0.0]
    assert any("bps against it" in why for why in words(fallen))
    assert any(why.startswith("it rests for") for why in words(fallen))


def test_an_aim_is_given_up_when_the_trend_is_gone():
    """Armed but never triggered; and a thin market is not aimed at."""
    strategy = Sniper(SNIPER.model_copy(update={"pullback": 50.0, "report_s": 1.0}))
    street = Street(strategy)
    street.run(150, drifting())
    price = street.mids["BTC-USD"]
    reasons = [*words(street.run(300, lambda s: {"BTC-USD": price * (1 - 2e-4 * (s % 2))}))]

    assert any(why.startswith("armed: t ") for why in reasons)
    assert any(why.startswith("no longer armed") for why in reasons)
    thin = Street(Sniper(SNIPER.model_copy(update={"least_liquidity": 99.0, "report_s": 1.0})))
    reasons = [*words(thin.run(150, drifting()))]
    assert any(why.startswith("armed: liquidity ") for why in reasons)
    assert not thin.held


def test_settings_that_contradict_are_refused():
    """It could not leave what it has just entered."""
    with pytest.raises(ValidationError, match="expected leave below arm, got 3 and 3"):
        SniperSettings(leave=3.0)
    with pytest.raises(ValidationError, match="did you mean 'market_share'"):
        WatchSettings(market_shaer=0.1)  # type: ignore[call-arg]


def test_a_position_that_was_cut_is_watched_again():
    """Somebody closed it: what it held is gone."""
    strategy = Sniper(SNIPER.model_copy(update={"report_s": 1.0}))
    street = Street(strategy)
    street.run(150, drifting())
    street.held.clear()

    assert "what it held is gone" in words(street.run(3, steady(street.mids["BTC-USD"])))


# === Reversion ===

BACK = ReversionSettings(vwap_s=120.0, usual_s=600.0, **QUICK)


def test_what_jumps_and_comes_back_is_traded_against():
    """Short after a jump up, long after one down, out when it is back."""
    street = Street(Reversion(BACK))
    targets = street.targets(960, jumping())

    assert len(targets) >= 4
    assert all(target == 0.0 for target in targets[1::2])
    assert {abs(target) for target in targets[::2]} == {4_000.0}
    assert any("are left" in why for why in words(street.decided))


def test_candles_alone_say_nothing_to_trade_against():
    """What was paid within a minute is not in them: that is its reason, not a wait for ever."""
    street = Street(Reversion(BACK.model_copy(update={"report_s": 60.0})))
    street.run(1, jumping())
    street.data.views["BTC-USD"].book.fidelity = "candles"

    assert street.targets(960, jumping()) == []
    assert any("it needs trades" in why for why in words(street.decided))


def test_what_jumps_and_stays_is_not():
    """A step up each ten minutes: half of its distance lasts as long as the average follows."""
    street = Street(Reversion(BACK))

    assert street.targets(1_300, lambda s: {"BTC-USD": 100.0 + s // 600 * 0.4}) == []
    assert any("half of it stays" in why for why in words(street.decided))


def test_what_is_not_worth_its_costs_is_not():
    """A jump of 12 bps costs as much to trade; a book too small costs no one knows what."""
    street = Street(Reversion(BACK))
    assert street.targets(720, jumping(bps=12.0)) == []
    assert any("less than 1.5 times" in why for why in words(street.decided))
    street = Street(Reversion(BACK), depth="1")
    assert street.targets(720, jumping()) == []
    assert any("does not hold as much" in why for why in words(street.decided))


def test_what_goes_on_is_given_up_and_so_is_what_stays():
    """Out at twice the distance; out after the longest wait; then a rest."""
    for step, why in ((1.008, "it went on"), (1.002, "bps are left after 30 s")):
        settings = BACK.model_copy(update={"holding_s": 30.0})
        street = Street(Reversion(settings))
        prices = jumping()
        while not street.held:
            street.run(1, prices)
        price = street.mids["BTC-USD"]
        away = -1 if street.held["BTC-USD"].usdc > 0 else 1
        found = street.run(45, steady(price * step**away))

        assert any(why in reasons for reasons in words(found)), [*words(found)]
        assert not street.held
        assert street.targets(30, jumping()) == []


def test_a_position_that_is_found_is_left_when_it_is_back():
    """A restart: what is held has no distance of its own yet."""
    street = Street(Reversion(BACK))
    street.held["BTC-USD"] = held("BTC-USD", 4_000.0, 100.0)

    assert street.targets(60, steady()) == [0.0]


# === Carry ===


CARRY = CarrySettings(look_s=5.0, **QUICK)


def test_the_side_that_is_paid_is_held_while_it_is_worth_it():
    """10 bps an hour: short; when it turns, out. And long where shorts pay."""
    for sign in (1, -1):
        street = Street(Carry(CARRY))
        opened = street.targets(90, steady(), nextFundingRate=f"{sign * 0.001}")
        closed = street.run(60, steady(), nextFundingRate=f"{-sign * 0.001}")

        assert opened == [-sign * 4_000.0]
        assert [one.target_usdc for one in closed if one.action == "target"] == [0.0]
        assert any("of carry to come: no more than 0 times" in why for why in words(closed))


def test_carry_that_does_not_pay_twice_the_costs_is_left_alone():
    """2 bps an hour come to 22 in a day, the round trip costs 12; so does a book too small."""
    street = Street(Carry(CARRY))
    assert street.targets(90, steady(), nextFundingRate="0.0002") == []
    assert any("not more than 2 times" in why for why in words(street.decided))
    street = Street(Carry(CARRY), depth="1")
    assert street.targets(90, steady(), nextFundingRate="0.001") == []
    assert any("does not hold as much" in why for why in words(street.decided))


def test_a_rate_beyond_what_the_chain_charges_counts_as_that():
    """The venue's figure is not clamped; 2 and 3 % an hour are the same to who is paid."""
    reasons = []
    for rate in ("0.02", "0.03"):
        street = Street(Carry(CARRY))
        assert street.targets(90, steady(), nextFundingRate=rate) == [-4_000.0]
        reasons.append(next(why for why in words(street.decided) if "longs pay" in why))

    assert reasons[0] == reasons[1]


def test_a_rate_that_has_just_come_is_not_believed():
    """Neither before its warm-up nor above its mean."""
    street = Street(Carry(CARRY))
    street.run(600, steady(), nextFundingRate="0.00001")

    assert street.targets(30, steady(), nextFundingRate="0.002") == []


def test_a_price_that_goes_far_against_it_is_left():
    """8 % of the price, whatever is to come."""
    street = Street(Carry(CARRY))
    street.run(90, steady(), nextFundingRate="0.001")

    assert street.targets(10, steady(109.0), nextFundingRate="0.001") == [0.0]
    assert any("9.0% against it" in why or "8." in why for why in words(street.decided))


def test_less_than_two_round_trips_is_refused():
    """It would enter where it earns nothing."""
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        CarrySettings(edge=1.5)


# === Pairs ===

PAIR = PairsSettings(mean_s=300.0, usual_s=900.0, half_life_s=120.0, edge=1.2, **QUICK)


def apart(every: int = 150, bps: float = 80.0, half_life: float = 30.0) -> Prices:
    """Two markets that follow one walk and jump apart now and then."""
    one, walk = jumping(every, bps / 2, half_life), drifting(0.0, 1.0)

    def prices(second: int) -> dict[str, float]:
        common, off = walk(second)["BTC-USD"], one(second)["BTC-USD"] / 100.0
        return {"BTC-USD": common * off, "ETH-USD": common / off / 10.0}

    return prices


def two(settings: PairsSettings = PAIR, **how: object) -> Street:
    """Play pairs in both markets."""
    return Street(Pairs(settings), "BTC-USD", "ETH-USD", **how)  # type: ignore[arg-type]


def test_both_legs_are_held_against_each_other_and_left_together():
    """As much of one as against it of the other, entered and left in the same frame."""
    street = two()
    targets = [one for one in street.run(900, apart()) if one.action == "target"]
    frames = {one.seq for one in targets}

    assert len(targets) >= 4
    assert len(targets) == 2 * len(frames)
    for one, other in zip(targets[::2], targets[1::2], strict=True):
        assert (one.ticker, other.ticker) == ("BTC-USD", "ETH-USD")
        assert one.target_usdc == -other.target_usdc
    assert not street.held or len(street.held) == 2


@pytest.mark.parametrize("dead", ["BTC-USD", "ETH-USD"])
def test_a_leg_that_fails_takes_the_other_off(dead):
    """An order expires: the other leg is closed within a look, and it rests."""
    street = two()
    street.dead.add(dead)
    alone = longest = 0
    prices = apart()
    for _ in range(900):
        street.run(1, prices)
        alone = alone + 1 if street.held else 0
        longest = max(longest, alone)

    assert 1 <= longest <= 3
    assert any(f"{dead} was expired" in why for why in words(street.decided))


def test_a_leg_that_never_answers_takes_the_other_off():
    """No outcome at all: after `leg_s`."""
    street = two()
    street.tell = lambda *_, **__: None  # type: ignore[method-assign]
    street.dead.add("ETH-USD")
    alone = longest = 0
    prices = apart()
    for _ in range(900):
        street.run(1, prices)
        alone = alone + 1 if street.held else 0
        longest = max(longest, alone)

    assert 14 <= longest <= 19
    assert any("ETH-USD is held with +0 USDC after 15 s" in why for why in words(street.decided))


def test_a_leg_that_is_cut_takes_the_other_off():
    """The guard has closed one: the other does not stay."""
    street = two()
    prices = apart()
    while len(street.held) < 2:
        street.run(1, prices)
    street.run(2, prices)
    [first] = [one for one in street.decided if one.ticker == "BTC-USD" and one.target_usdc][-1:]
    del street.held["BTC-USD"]
    street.tell(first, "cut", reason="GUARD")
    found = street.run(3, prices)

    assert [one.target_usdc for one in found if one.action == "target"] == [0.0]
    assert "was cut GUARD" in found[0].reasons[0]


def test_a_leg_alone_is_closed_and_two_are_adopted():
    """After a restart, too; and what is uneven is none."""
    for usdc, why in (
        (0.0, "a leg alone was found"),
        (-1_000.0, "a leg alone was found"),
        (-3_900.0, "back: "),
    ):
        street = two()
        street.held["BTC-USD"] = held("BTC-USD", 4_000.0, 100.0)
        if usdc:
            street.held["ETH-USD"] = held("ETH-USD", usdc, 10.0)
        flat = {"BTC-USD": 100.0, "ETH-USD": 10.0}
        first = street.run(3, still(flat))

        assert {one.target_usdc for one in first} == {0.0}
        assert len(first) == 1 + bool(usdc)
        assert all(why in one.reasons[0] for one in first)


def test_trouble_in_one_market_closes_both():
    """One is paused: its leg cannot be closed, the other is."""
    street = two()
    prices = apart()
    while len(street.held) < 2:
        street.run(1, prices)
    street.run(2, prices)
    street.play(street.wire.trading("ETH-USD", status="PAUSED"))
    found = street.run(20, prices)

    assert "BTC-USD" not in street.held
    assert "ETH-USD" in street.held
    assert any("the status is PAUSED" in why for why in words(found))


def test_what_stays_apart_or_goes_on_is_given_up():
    """After the longest wait, or at twice the distance."""
    for step, why in ((1.0, "are left after 30 s"), (1.012, "it went on")):
        street = two(PAIR.model_copy(update={"holding_s": 30.0, "mean_s": 1e5}))
        prices = apart()
        while len(street.held) < 2:
            street.run(1, prices)
        up = 1 if street.held["BTC-USD"].usdc < 0 else -1
        btc, eth = street.mids["BTC-USD"] * step**up, street.mids["ETH-USD"]
        found = street.run(40, still({"BTC-USD": btc, "ETH-USD": eth}))

        assert any(why in reasons for reasons in words(found)), [*words(found)]
        assert not street.held


def test_a_pair_is_silent_without_its_other_market_or_equity():
    """Nothing is known of it: it says so; another market is none of its business."""
    alone = Street(Pairs(PAIR), "BTC-USD", "SOL-USD")
    reasons = {*words(alone.run(90, lambda _: {"BTC-USD": 100.0, "SOL-USD": 5.0}))}
    assert reasons == {"not judged: nothing is known of ETH-USD yet"}
    poor = two(equity=None)
    assert {*words(poor.run(90, apart()))} == {"the account's equity is not known, or none is left"}


def test_a_market_belongs_to_one_pair():
    """And is no pair with itself."""
    for wrong in ((("A", "A"),), (("A", "B"), ("B", "C")), ()):
        with pytest.raises(ValidationError):
            PairsSettings(pairs=wrong)


# === Rest ===


class Resting(Decider):
    """Counts what comes in its time of rest, and what it did then all the same."""

    rests = moved = 0

    def step(self, event: Any) -> Any:
        """Decide, and look whether a score that changes nothing has changed anything."""
        if not isinstance(event, Scored) or event.at >= self.rests_until(event.view):
            return super().step(event)
        before = self._parts()
        decided = super().step(event)
        self.rests += 1
        self.moved += bool(decided) or self._parts() != before
        return decided

    def _parts(self) -> bytes:
        parts = {n: v for n, v in vars(self.strategy).items() if not n.startswith("_phases")}
        return pickle.dumps(parts)


@pytest.mark.parametrize("make", STRATEGIES.values())
def test_scores_in_a_strategys_rest_change_nothing(make: Any) -> None:
    """Nothing is decided by them, and all that it knows stays as it is."""
    street = Street(make(), "BTC-USD", "ETH-USD")
    street.decider = resting = Resting(lambda: street.strategy)
    noise = drifting(bps=1.0)
    street.run(200, lambda second: {"ETH-USD": 100.0, **noise(second)})

    assert resting.rests > 50
    assert resting.moved == 0


def test_a_strategy_of_a_users_own_never_rests() -> None:
    """Nobody knows what it takes in."""

    class Mine:
        name = "mine"

        def step(self, scored: Scored, held: Holdings) -> tuple[()]:
            return ()

    street = Street(Mine())
    street.run(3, steady())

    assert street.decider.rests_until(street.data.views["BTC-USD"]) == 0


def test_a_turn_that_is_under_way_leaves_no_rest() -> None:
    """Its far side is due as soon as nothing is held."""
    street = Street(RankAndTarget())
    street.run(3, steady())
    view = street.data.views["BTC-USD"]
    assert street.decider.rests_until(view) > view.at

    scored = street.scorer.step(view)[0]
    street.decider._turns["BTC-USD"] = Decision.of(scored, -100.0, "turn")
    assert street.decider.rests_until(view) == 0
