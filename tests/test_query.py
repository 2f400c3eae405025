"""Queries of properties whose numbers are no floats: bounds stay below them, values above."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from exactly import exactly, margin_at, model_of
from small import network_of
from test_pools import DTYPES

import hullmark as hm
from hullmark.bounds.linear import propagate
from hullmark.bounds.objective import objective_of
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation
from hullmark.encode import Query, encode
from hullmark.network.graph import Network
from hullmark.spec.property import Case, Constraint, Property
from hullmark.spec.sets import Box

LEVELS = [Fraction(*pair) for pair in ((1, 3), (1, 10), (-1, 7), (100, 3), (1, 2), (0, 1))]
IDENTITY = network_of(([[1]], [0]), ([[1]], [0]))
BOX = Box([-1], [1])


def asked(network: Network, case: Case, dtype: str) -> tuple[Relaxation, Query]:
    program = Program.compile(network, dtype=DTYPES[dtype])
    low, high = program.enclosing(case.box.lower, case.box.upper)
    relaxation = Relaxation(program, low.unsqueeze(0), high.unsqueeze(0))
    with torch.no_grad():
        propagate(relaxation)
    return relaxation, Query.of(objective_of(program, (case,)), 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", [*LEVELS, Fraction(-1, 10**50), Fraction(1, 10**50)])
def test_values_are_above_though_levels_are_rounded_up(level: Fraction, dtype: str) -> None:
    case = Case(BOX, (Constraint.of({}, {0: 1}, level),), 1)
    relaxation, query = asked(IDENTITY, case, dtype)
    top = len(IDENTITY.nodes) - 1
    assert query.floor is not None
    assert Fraction(query.floor[0]) <= level <= Fraction(query.level[0])
    for x in ([0.5], [-1.0], [0.125]):
        true = margin_at(case, exactly(IDENTITY), np.array(x))
        found = Fraction(query.value(relaxation.program, top, np.array(x)))
        close = Fraction(1, 10**5 if dtype == "float32" else 10**12)
        assert true <= found <= true + close * (1 + abs(level))


@pytest.mark.parametrize("level", LEVELS)
def test_gaps_of_margins_are_no_smaller_than_they_are(level: Fraction) -> None:
    case = Case(BOX, (Constraint.of({}, {0: 1}, level),), 1)
    prop = Property(1, 1, (case,), "levels")
    found = hm.bound(model_of(IDENTITY), prop, method="krelu", k=1)
    (at,) = (a for a in found.attained if a.end == "margin")
    true = margin_at(case, exactly(IDENTITY), at.input)
    assert Fraction(found.margin) <= true <= Fraction(found.margin) + Fraction(at.gap)


def test_coefficients_that_float32_cannot_hold_are_charged() -> None:
    """`-1e-46` is 0 in float32, and values are so large that it matters."""
    network = network_of(([[1e19]], [1e19]), ([[1e18]], [0]))
    for sign in (1, -1):
        row = Constraint.of({0: Fraction(sign, 10**42)}, {0: Fraction(sign, 10**46)}, 0)
        case = Case(Box([-0.5], [1]), (row,), 1)
        relaxation, query = asked(network, case, "float32")
        encoding = encode(relaxation)
        (goal,) = query.goals(encoding)
        for x in (-0.5, 1.0):
            true = margin_at(case, exactly(network), np.array([x]))
            # There is one kink, and it is stable: columns are affine in the input.
            (column,) = {c for c in np.flatnonzero(goal.cost).tolist()} | {0}
            assert column == 0
            bound = Fraction(float(goal.cost[0])) * Fraction(x) + Fraction(goal.constant)
            assert bound <= true
            top = len(network.nodes) - 1
            assert true <= Fraction(query.value(relaxation.program, top, np.array([x])))
