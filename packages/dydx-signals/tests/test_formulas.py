"""The formulas that a person reads: held to what the engines compute."""

import math

import pytest
from dydx_signals import ALL, Engine, Score, worked
from hypothesis import given
from hypothesis import strategies as st

ENGINES = {made().name: made for made in ALL}
TAKERS = "buys_usd sells_usd trades"
INPUTS = {
    "momentum": "fast slow sigma_bps",
    "volume": "now_usd_s usual_usd_s",
    "volatility": "now_bps usual_bps",
    "imbalance": "±smoothed",
    "liquidity": "now_usd_per_bp usual_usd_per_bp cost_10k_bps",
    "funding": "±rate_1h_bps scale_bps",
    "microprice": "±edge_bps sigma_bps",
    "taker_flow_10s": TAKERS,
    "taker_flow_1min": TAKERS,
    "taker_flow_5min": TAKERS,
    "depth": "bid_depth ask_depth",
    "trend": "±z_15_60 ±z_60_240 ±z_240_960",
    "reversion": "mid vwap sigma_bps half_life_s",
    "basis": "±basis_bps scale_bps",
    "carry": "±rate_1h_bps usual_bps",
    "interest": "open_interest usual_interest mid average sigma_bps",
    "liquidations": "forced_buys_usd forced_sells_usd traded_usd",
    "jumps": "jump_share ±signed",
    "strength": "gains_bps losses_bps",
}
POSITIVE, SIGNED = st.floats(1e-3, 1e6), st.floats(-50, 50).filter(lambda x: abs(x) > 1e-6)
CALCULATOR = {
    "ln": math.log,
    "abs": abs,
    "tanh": math.tanh,
    "logistic": lambda z: 100 / (1 + math.exp(-z)) if z > -700 else 0.0,
    "leaning": lambda x: min(max(50 + 50 * x, 0), 100),
}


def inputs_of(name: str) -> st.SearchStrategy[dict[str, float]]:
    """Draw what an engine computes from."""
    words = INPUTS[name].split()
    return st.fixed_dictionaries(
        {word.strip("±"): SIGNED if word.startswith("±") else POSITIVE for word in words}
    )


@pytest.mark.parametrize("name", ENGINES)
@given(data=st.data())
def test_a_formula_gives_what_its_engine_gives(name: str, data: st.DataObject):
    """From the same inputs the last step of every engine's formula is the engine's value."""
    engine: Engine = ENGINES[name]()
    inputs = data.draw(inputs_of(name))

    steps = worked(Score(name, name, 0.0, (*inputs.items(),), 1))

    assert steps[-1].name == "value"
    assert steps[-1].value == pytest.approx(engine.value(inputs), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", ENGINES)
@given(data=st.data())
def test_the_words_of_a_formula_are_what_is_computed(name: str, data: st.DataObject):
    """What stands there can be typed into any calculator, each step with those before it."""
    known = data.draw(inputs_of(name))

    steps = worked(Score(name, name, 0.0, (*known.items(),), 1))
    typed: dict[str, float] = {}
    for step in steps:
        typed[step.name] = eval(step.formula, dict(CALCULATOR), {**known, **typed})

    assert {step.name: step.value for step in steps} == pytest.approx(typed, rel=1e-9, abs=1e-9)


def test_the_steps_of_a_score_show_formula_numbers_and_result():
    """Each step names its formula, the same in numbers, and what its functions are."""
    inputs = (("fast", 101.0), ("slow", 100.0), ("sigma_bps", 50.0))

    first, last = worked(Score("BTC-USD", "momentum", 88.0, inputs, 1))

    assert first.formula == "10000 * ln(fast / slow) / sigma_bps"
    assert first.numbers == "10000 * ln(101 / 100) / 50"
    assert first.value == pytest.approx(1e4 * math.log(1.01) / 50)
    assert last.numbers == "logistic(1.99007)"
    assert (
        worked(
            Score("BTC-USD", "momentum", 1.0, (("fast", 1.0), ("slow", 2.0), ("sigma_bps", 1.0)), 1)
        )[1].numbers
        == "logistic(-6931.47)"
    )
    assert last.means == ("logistic(z) = 100 / (1 + e^-z)",)


def test_what_has_no_value_ends_the_steps():
    """A trend of nothing is the engine's own 50; a user's signal has no formula here."""
    flat = (("z_15_60", 0.0), ("z_60_240", 0.0), ("z_240_960", 0.0))

    steps = worked(Score("BTC-USD", "trend", 50.0, flat, 1))

    assert [(step.name, step.value) for step in steps] == [("mean", 0.0), ("agreed", None)]
    assert worked(Score("BTC-USD", "mine", 50.0, (), 1)) == ()
    assert worked(Score("BTC-USD", "momentum", 50.0, (), 1))[0].value is None
