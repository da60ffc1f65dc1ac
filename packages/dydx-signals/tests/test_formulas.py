"""The formulas that a person reads: held to what the engines compute."""

import math
import re

import pytest
from dydx_signals import ALL, FORMULAS, Engine, Score, worked
from hypothesis import given
from hypothesis import strategies as st

ENGINES = {made().name: made for made in ALL}
SIGNED = {
    "smoothed",
    "rate_1h_bps",
    "edge_bps",
    "z_15_60",
    "z_60_240",
    "z_240_960",
    "basis_bps",
    "signed",
}


def inputs_of(name: str) -> st.SearchStrategy[dict[str, float]]:
    """Draw what an engine computes from: each name that its formula does not define itself."""
    text = " ".join(FORMULAS[name])
    defined = {line.partition(" = ")[0] for line in FORMULAS[name]}
    words = (
        set(re.findall(r"[a-z]\w*", text)) - defined - {"ln", "abs", "tanh", "logistic", "leaning"}
    )
    positive, signed = st.floats(1e-3, 1e6), st.floats(-50, 50).filter(lambda x: abs(x) > 1e-6)
    return st.fixed_dictionaries({word: signed if word in SIGNED else positive for word in words})


def test_every_engine_has_a_formula():
    """What is scored can be worked out by hand."""
    assert set(ENGINES) == set(FORMULAS)


@pytest.mark.parametrize("name", FORMULAS)
@given(data=st.data())
def test_a_formula_gives_what_its_engine_gives(name: str, data: st.DataObject):
    """From the same inputs the last step is the engine's value, and each step follows from its numbers."""
    engine: Engine = ENGINES[name]()
    inputs = data.draw(inputs_of(name))

    steps = worked(Score(name, name, 0.0, (*inputs.items(),), 1))

    assert steps[-1].name == "value"
    assert steps[-1].value == pytest.approx(engine.value(inputs), rel=1e-9, abs=1e-9)


def test_the_steps_of_a_score_show_formula_numbers_and_result():
    """What is worked out can be typed into any calculator."""
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
