"""From linear programs to backward passes: the optimum is kept, and rows serve other queries."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small import MAXIMUM, SOLVED, deep, network_of, relaxed
from test_cutloop import all_pairs

from hullmark.bounds.alpha import Ascent, ascend
from hullmark.bounds.linear import propagate
from hullmark.bounds.objective import Objective, output_objective
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation
from hullmark.cuts.cutloop import CutOptions
from hullmark.cuts.queries import Separators, cut_queries
from hullmark.cuts.separators import ReluGroups
from hullmark.cuts.warm import OWN_POOL, bound_again, pool_of, share_rows, warm_start
from hullmark.encode import Inequalities


def given(separators: list[ReluGroups]) -> Separators:
    return lambda program: [s for s in separators if s.node in program.encoding.forms]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_backward_pass_with_the_multipliers_attains_the_optimum(dtype: torch.dtype) -> None:
    # In float32 the pass pays for roundings that the program does not make.
    near = 1e-6 if dtype == torch.float64 else 2e-3
    for seed in range(5):
        network, lower = deep(np.random.default_rng(seed))
        program = Program.compile(network, "cpu", dtype)
        sides = program.enclosing(lower, -lower)
        relaxation = Relaxation(program, *(s.unsqueeze(0) for s in sides))
        propagate(relaxation)
        objective = output_objective(program)
        pairs = all_pairs(relaxation)
        cuts = cut_queries(relaxation, objective, given(pairs), np.zeros(4), CutOptions)
        for q, found in enumerate(cuts):
            assert found is not None and len(found.rows)
            part = objective.select(slice(q, q + 1))
            twin = relaxation.renewed()
            again = bound_again(twin, part, found)
            assert again == pytest.approx(found.lower, rel=near, abs=near)
            # The rows are what makes it so, and an ascent from there finds no more.
            assert bound_again(twin, part, replace(found, multipliers=0 * found.multipliers)) < (
                again - 1e-3
            )
            start = warm_start(twin, found)
            assert start is not None
            climbed = float(ascend(twin, part, Ascent(steps=20), start).lower[0, 0])
            assert again - near <= climbed <= found.lower + 10 * near
            # Without rows the pool goes, and with it their multipliers.
            none = replace(found, rows=Inequalities.none(), multipliers=np.zeros(0))
            assert bound_again(twin, part, none) < again and OWN_POOL not in twin.pools


def test_other_queries_come_near_to_their_programs_over_shared_rows() -> None:
    for seed in range(3):
        network, lower = deep(np.random.default_rng(seed))
        relaxation = relaxed(network, lower, -lower)
        objective, pairs = output_objective(relaxation.program), all_pairs(relaxation)
        own = cut_queries(relaxation, objective, given(pairs), np.zeros(4), CutOptions)
        richest = max((cut for cut in own if cut is not None), key=lambda cut: len(cut.rows))
        plain = ascend(relaxation, objective, Ascent(steps=60)).lower[0].numpy()
        shared = share_rows(relaxation.renewed(), objective, richest.rows, Ascent(steps=60))
        gained = np.array([cut.lower for cut in shared]) - plain
        assert np.all(gained > -0.02) and gained.sum() > 0.05
        for cut, best in zip(shared, own, strict=True):
            assert best is not None and cut.point is None
            assert len(cut.rows) == len(cut.multipliers) == len(cut.rows.derived())
            assert np.all(cut.multipliers > 0)
            assert best is not richest or cut.lower <= best.lower + SOLVED
        none = Inequalities.none()
        assert share_rows(relaxation.renewed(), objective, none, Ascent(steps=60)) == []


def test_several_rows_are_mixed_by_their_multipliers() -> None:
    """`max(x, -x)` is at least 0, which neither row alone shows."""
    program = Program.compile(network_of(([[1], [-1]], [0, 0])))
    sides = program.enclosing(-np.ones(1), np.ones(1))
    relaxation = Relaxation(program, *(s.unsqueeze(0) for s in sides))
    propagate(relaxation)
    one = torch.ones(1, 1, 3, dtype=torch.float64)
    rows = torch.tensor([[1.0, 0.0], [7.0, 7.0], [0.0, 1.0]], dtype=torch.float64)
    used = torch.tensor([[[True, False, True]]])
    objective = Objective(rows.reshape(1, 1, 3, 2), None, 0 * one, used, 0.0)
    (found,) = cut_queries(relaxation, objective, lambda _: [], np.zeros(1), CutOptions)
    assert found is not None and found.mix == pytest.approx([0.5, 0.5])
    assert bound_again(relaxation.renewed(), objective, found) == pytest.approx(0, abs=SOLVED)


def test_rows_that_the_precision_cannot_hold_start_nothing() -> None:
    zero, third = np.zeros(1, dtype=np.intp), np.array([1 / 3])
    rows = Inequalities(np.array([0, 1]), zero, zero, third, np.ones(1))
    both = np.repeat(zero, 2)
    twice = Inequalities(np.array([0, 2]), both, both, np.ones(2), np.ones(1))
    for dtype in (torch.float64, torch.float32):
        program = Program.compile(MAXIMUM, "cpu", dtype)
        pool = pool_of(rows, program)
        assert (pool is None) == (dtype == torch.float32)
        assert pool_of(twice, program) is None
