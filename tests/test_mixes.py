"""Mixes of the rows of a case: one that is not convex would bound another margin."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from exactly import exactly, margin_at, model_of
from small import network_of, random_network

import hullmark as hm
from hullmark.bounds.alpha import Ascent, Multipliers, ascend
from hullmark.bounds.objective import objective_of
from hullmark.bounds.optimised import propagate_optimised
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation
from hullmark.lp.highs import Model, Solution
from hullmark.network.graph import Network
from hullmark.spec.property import Case, Constraint, Property
from hullmark.spec.sets import Box

BOX = Box([-1, -1], [1, 1])
NETWORK = random_network(2, 6, 6, 2, seed=1)
# The first case is the greater of two rows, both below zero; the second has a single row.
CASES = (
    Case(BOX, (Constraint.of({}, {0: 1}, 5), Constraint.of({}, {1: 1}, 5)), 2),
    Case(BOX, (Constraint.of({}, {0: 1, 1: -1}, 3),), 2),
)
NONE = Case(BOX, (), 2)


def least(case: Case, network: Network = NETWORK) -> Fraction:
    """The least margin at some points, which the true one does not exceed."""
    exact, rng = exactly(network), np.random.default_rng(0)
    return min(margin_at(case, exact, x) for x in rng.uniform(-1, 1, (50, 2)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    "weights",
    [
        [0.0, 0.0],
        [-1.0, -2.0],
        [float("nan"), 0.0],
        [float("nan"), 1.0],
        [float("inf"), 1.0],
        [1e-45, 0.0],
        [5e-324, 5e-324],
        [0.0, 7.0],
        [1e300, 1e300],
    ],
)
def test_no_mix_raises_a_bound_above_the_margin(weights: list[float], dtype: torch.dtype) -> None:
    program = Program.compile(NETWORK, dtype=dtype)
    relaxation = Relaxation(program, *(s[None] for s in program.enclosing(BOX.lower, BOX.upper)))
    propagate_optimised(relaxation, Ascent(steps=5))
    mix = torch.tensor(weights, dtype=torch.float64).expand(1, 2, 2).clone()
    start = Multipliers({}, mix=mix)
    for steps in (0, 3):
        found = ascend(relaxation, objective_of(program, CASES), Ascent(steps=steps), start)
        for bound, case in zip(found.lower[0].tolist(), CASES, strict=True):
            assert -100 < Fraction(bound) <= least(case)


def test_a_case_without_rows_has_no_bound() -> None:
    prop = Property(2, 2, (NONE, CASES[0]), "")
    for method in ("deeppoly", "alpha", "mined", "prima", "triangle", "krelu"):
        report = hm.bound(model_of(NETWORK), prop, method=method)
        assert report.margin == -np.inf and not report.proved
        assert report.margins[0] == -np.inf and report.margins[1] > -100


@pytest.mark.parametrize("method", ["alpha", "prima"])
def test_overflow_in_the_search_does_not_make_a_bound(method: str) -> None:
    scale, rng = 5 * 10**37, np.random.default_rng(0)
    layers = [(rng.normal(size=(4, n)), rng.normal(size=4) * 0.2) for n in (2, 4)]
    network = network_of(*layers, (rng.normal(size=(2, 4)) * scale, np.zeros(2)))
    rows = (Constraint.of({}, {0: 1, 1: 1}, scale * 3), Constraint.of({}, {0: 1, 1: -2}, scale * 5))
    case = Case(BOX, rows, 2)
    report = hm.bound(model_of(network), Property(2, 2, (case,), ""), method=method)
    assert report.margin == -np.inf or Fraction(report.margin) <= least(case, network)


@pytest.mark.parametrize("method", ["krelu", "multivariate", "mk"])
def test_duals_of_zero_are_no_mix(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    def nothing(model: Model, seconds: float = np.inf) -> Solution:
        program = model.program
        middle = (np.maximum(program.lower, -1e3) + np.minimum(program.upper, 1e3)) / 2
        return Solution(middle, np.zeros(program.matrix.rows))

    monkeypatch.setattr(Model, "solve", nothing)
    report = hm.bound(model_of(NETWORK), Property(2, 2, CASES[:1], ""), method=method)
    assert Fraction(report.margin) <= least(CASES[0])
