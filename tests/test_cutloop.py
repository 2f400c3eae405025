"""Cut loops: values that must come out, and bounds that no lie or delay makes wrong."""

import math
import sys
from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from small import DIFFERENCE, MAXIMUM, SOLVED, deep, relaxed

from hullmark.bounds.objective import Objective, output_objective
from hullmark.bounds.relaxation import Relaxation
from hullmark.cuts.cutloop import CutBound, CutOptions, CutProgram, cut_loop, run_optimum
from hullmark.cuts.milp import unverified_milp_bounds
from hullmark.cuts.separators import ReluGroups, propagated_groups
from hullmark.encode import Inequalities, Query, encode
from hullmark.errors import Unsupported
from hullmark.lp.highs import Solution
from hullmark.lp.program import Vector
from hullmark.network import ops
from hullmark.network.graph import Builder

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

from inputs import Golden, goldens


def both_ends(relaxation: Relaxation, groups: list[list[int]], neuron: int = 0) -> list[float]:
    """The range of an output with the k-ReLU rows of groups of the first hidden layer."""
    node = next(iter(relaxation.program.slopes))
    separators = []
    if groups:
        separators = [propagated_groups(relaxation, node, np.array(groups))]
    encoding = encode(relaxation)
    size = relaxation.program.network.output_size
    ends: list[float] = []
    for sign in (1, -1):
        goals = Query.neuron(size, neuron, sign).goals(encoding)
        ends.append(sign * cut_loop(CutProgram(encoding, goals), separators, CutOptions()).lower)
    return ends


def test_the_maximum_of_two() -> None:
    relaxation = relaxed(MAXIMUM, np.zeros(2), np.ones(2))
    assert both_ends(relaxation, []) == pytest.approx([0, 1.5], abs=SOLVED)
    # The stable neuron of the group passes through.
    assert both_ends(relaxation, [[0, 1]]) == pytest.approx([0, 1], abs=SOLVED)


def test_a_difference_of_equals() -> None:
    relaxation = relaxed(DIFFERENCE, -np.ones(1), np.ones(1))
    assert both_ends(relaxation, []) == pytest.approx([-0.5, 0.5], abs=SOLVED)
    assert both_ends(relaxation, [[0, 1]]) == pytest.approx([0, 0], abs=SOLVED)


def test_a_network_may_end_in_relus() -> None:
    builder, at = Builder((1,)), 0
    at = builder.add(ops.Dense(np.array([[1.0], [1.0]]), np.zeros(2)), at)
    network = builder.build(builder.add(ops.Rectifier(), at))
    relaxation = relaxed(network, -np.ones(1), np.ones(1))
    encoding = encode(relaxation)
    separators = [propagated_groups(relaxation, 2, np.array([[0, 1]]))]
    query = Query(np.array([[1.0, -1.0]]), None, np.zeros(1))
    found = cut_loop(CutProgram(encoding, query.goals(encoding)), separators, CutOptions())
    assert found.lower == pytest.approx(0, abs=SOLVED)
    values = encoding.values(np.array([0.5, 0.5, 0.5, 0.6, 0.7]))
    assert values[2].tolist() == [0.6, 0.7]


@pytest.fixture(scope="module")
def known(data: Path) -> list[Golden]:
    return goldens(data)


def test_what_is_attained_is_the_exact_end(known: list[Golden]) -> None:
    attained = 0
    for golden in known:
        relaxation = relaxed(golden.network, golden.box.lower, golden.box.upper)
        encoding = encode(relaxation)
        query = Query.neuron(golden.network.output_size, 0, 1)
        found = cut_loop(CutProgram(encoding, query.goals(encoding)), [], CutOptions())
        run = run_optimum(found, query, relaxation.program, encoding.top)
        assert run is not None and golden.box.contains(run.input)
        least = golden.ranges["exact"][0][0]
        assert Fraction(found.lower) <= least <= Fraction(run.value)
        assert Fraction(found.lower) + Fraction(run.gap) >= Fraction(run.value)
        if run.gap <= SOLVED:
            attained += 1
            assert float(least) - found.lower <= 2 * SOLVED
    assert 10 < attained < len(known)


def all_pairs(relaxation: Relaxation) -> list[ReluGroups]:
    found: list[ReluGroups] = []
    for i in relaxation.program.slopes:
        j = relaxation.program.network.nodes[i].inputs[0]
        low, high = (b.flatten() for b in relaxation.bounds[j])
        open_ = ((low < 0) & (high > 0)).nonzero().squeeze(1).tolist()
        pairs = [[a, b] for a in open_ for b in open_ if a < b]
        if pairs:
            found.append(propagated_groups(relaxation, i, np.array(pairs)))
    return found


class Looped(NamedTuple):
    """A cut loop with all pairs, and the bound of every round."""

    found: CutBound
    program: CutProgram
    relaxation: Relaxation
    objective: Objective
    history: list[float]


def recorded(program: CutProgram) -> list[float]:
    """The bounds that the program proves from now on."""
    history, solve = list[float](), program.solve

    def noted(seconds: float = math.inf) -> tuple[Solution | None, float]:
        solution, bound = solve(seconds)
        history.append(bound)
        return solution, bound

    program.solve = noted  # type: ignore[method-assign]
    return history


def looped(seed: int, options: CutOptions) -> Looped:
    network, lower = deep(np.random.default_rng(seed))
    relaxation = relaxed(network, lower, -lower)
    encoding = encode(relaxation)
    objective = output_objective(relaxation.program).select(slice(0, 1))
    program = CutProgram(encoding, Query.of(objective, 0).goals(encoding))
    history = recorded(program)
    found = cut_loop(program, all_pairs(relaxation), options)
    return Looped(found, program, relaxation, objective, history)


def test_bounds_rise_and_rest_on_the_rows_that_are_named() -> None:
    gained = 0
    for seed in range(5):
        found, program, _, objective, history = looped(seed, CutOptions(least_gain=0.0))
        assert found.converged
        assert all(b >= a - SOLVED for a, b in pairwise(history))
        assert found.lower == max(history)
        gained += found.lower > history[0] + 0.01
        assert len(found.rows) == len(found.multipliers)
        assert np.all(found.multipliers > 0)
        # The program of the named rows alone has the same optimum.
        again = CutProgram(program.encoding, Query.of(objective, 0).goals(program.encoding))
        again.hold(found.rows)
        assert len(again.added) == len(found.rows)
        assert again.solve()[1] == pytest.approx(found.lower, abs=10 * SOLVED)
    assert gained >= 3


def test_rows_without_multipliers_leave() -> None:
    kept = [len(looped(0, CutOptions(slack_rounds=n, least_gain=0))[1].added) for n in (1, 100)]
    bounds = [looped(0, CutOptions(slack_rounds=n, least_gain=0))[0].lower for n in (1, 100)]
    assert kept[0] < kept[1]
    assert bounds[0] == pytest.approx(bounds[1], abs=1e-2)


def test_a_loop_ends_when_it_is_told_to() -> None:
    whole = looped(0, CutOptions())
    free = whole.history
    assert len(free) > 2
    assert len(looped(0, CutOptions(rounds=1)).history) == 2
    assert len(looped(0, CutOptions(stop=lambda: True)).history) == 1
    assert len(looped(0, CutOptions(target=free[0] - 1)).history) == 1
    # Without any time the bound is that of no multipliers, and still one.
    hurried = looped(0, CutOptions(seconds=0.0))[0]
    assert -math.inf < hurried.lower <= whole.found.lower + SOLVED


def test_integer_programs_are_near_the_exact_range(known: list[Golden]) -> None:
    """Which is what their name says they do not prove."""
    for golden in known[20:26]:
        relaxation = relaxed(golden.network, golden.box.lower, golden.box.upper)
        top = len(golden.network.nodes) - 1
        every = np.arange(golden.network.output_size)
        low, high = unverified_milp_bounds(relaxation, top, every)
        for j, (least, most) in enumerate(golden.ranges["exact"]):
            assert low[j] == pytest.approx(float(least), abs=1e-3)
            assert high[j] == pytest.approx(float(most), abs=1e-3)


def test_integer_programs_are_for_relus() -> None:
    builder = Builder((1,))
    at = builder.add(ops.Rectifier(np.array(0.1)), 0)
    at = builder.add(ops.Dense(np.ones((1, 1)), np.zeros(1)), at)
    relaxation = relaxed(builder.build(at), -np.ones(1), np.ones(1))
    with pytest.raises(Unsupported):
        unverified_milp_bounds(relaxation, at, np.array([0]))


def test_separators_may_hand_over_anything_that_holds() -> None:
    """A row over the input alone, `x_0 <= 0.5`, bounds the output as a smaller box would."""
    relaxation = relaxed(MAXIMUM, np.zeros(2), np.ones(2))
    encoding = encode(relaxation)
    query = Query(np.zeros((1, 1)), np.array([[-1.0, 0.0]]), np.zeros(1))

    def half(values: Mapping[int, Vector]) -> Inequalities:
        assert values[0].shape == (2,)
        zero, one = np.zeros(1, dtype=np.intp), np.ones(1)
        return Inequalities(np.array([0, 1]), zero, zero, one, np.array([0.5]))

    program = CutProgram(encoding, query.goals(encoding))
    history = recorded(program)
    found = cut_loop(program, [half], CutOptions())
    assert history[0] == pytest.approx(-1) and found.lower == pytest.approx(-0.5)
    assert found.converged and found.multipliers == pytest.approx([1])
    assert found.rows.all_proofs() == (None,) and found.rows.derived() == ()
