"""Bounds by mined joint rows against fractions."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from mining import PLAN, Calls, margins_on, mined, moved
from segments import pieces, wire
from test_pools import DTYPES, LOWER, UPPER, asked


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["many", "single", "both", "inputs", "equal"])
def test_the_least_bound_is_below_the_least_margin(kind: str, dtype: str) -> None:
    """Properties that hold or fail by little, where assumptions are all but contradictions."""
    rows = 0
    slacks = (-1e-3, 0, 1e-6, 1e-2)
    # In single precision those that rounding may turn.
    for seed in range(4) if dtype == "float64" else (1, 2):
        slack = slacks[seed]
        network = wire(np.random.default_rng(seed))
        known = pieces(network, LOWER, UPPER)
        cases = asked(np.random.default_rng(seed), known, kind)
        margins = margins_on(cases, known)
        # A maximum of two rows is least at the ends of pieces or between them, so below.
        least, spread = margins.min(), margins.max() - margins.min()
        cases = moved(cases, Fraction(slack) * spread - least)
        calls = Calls(3000)
        lower, count = mined(network, cases, dtype, replace(PLAN, stop=calls))
        assert not calls.over
        rows += count
        bound = min(lower)
        truth = Fraction(slack) * spread
        assert bound == -np.inf or Fraction(bound) <= truth, seed
    assert rows > 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_counterexamples_that_do_not_exist_are_excluded(dtype: str) -> None:
    """What only holds of counterexamples proves a property, and is no bound of its margin."""
    helped = 0
    for seed in range(5):
        network = wire(np.random.default_rng(seed))
        known = pieces(network, LOWER, UPPER)
        cases = asked(np.random.default_rng(seed), known, "many")[:1]
        margins = margins_on(cases, known)
        alone = mined(network, cases, dtype, replace(PLAN, patience=0))[0][0]
        gap = margins.min() - Fraction(alone)
        truth = gap * 9 / 10
        calls = Calls(3000)
        cases = moved(cases, truth - margins.min())
        lower, _ = mined(network, cases, dtype, replace(PLAN, stop=calls))
        assert not calls.over
        assert Fraction(lower[0]) <= truth
        helped += lower[0] > 0
    assert helped >= 2
