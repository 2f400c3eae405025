"""Cut loops and kPoly: values that must come out, and bounds that no lie or delay makes wrong."""

import math
import sys
from collections.abc import Callable, Mapping
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from exactly import Rng, exactly, output_at, rectified_network

from hullmark.bounds.alpha import Ascent, propagate_optimised
from hullmark.bounds.linear import propagate
from hullmark.bounds.objective import Objective, output_objective
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation
from hullmark.cuts.cutloop import CutBound, CutOptions, CutProgram, cut_loop, run_optimum
from hullmark.cuts.kpoly import KPolyOptions, kpoly
from hullmark.cuts.milp import unverified_milp_bounds
from hullmark.cuts.separators import ReluGroups, propagated_groups
from hullmark.encode import Inequalities, Query, encode
from hullmark.errors import BadInput, Unsupported
from hullmark.lp.highs import Model, Solution
from hullmark.lp.program import Vector
from hullmark.network import ops
from hullmark.network.graph import Builder, Network

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

from inputs import Golden, goldens

# Of the solver: primal and dual feasibility are 1e-7 each.
SOLVED = 1e-6


def network_of(*layers: tuple[list[list[float]], list[float]]) -> Network:
    builder, at = Builder((len(layers[0][0][0]),)), 0
    for number, (weight, bias) in enumerate(layers):
        if number:
            at = builder.add(ops.Rectifier(), at)
        at = builder.add(ops.Dense(np.array(weight), np.array(bias)), at)
    return builder.build(at)


MAXIMUM = network_of(([[1, -1], [0, 1]], [0, 0]), ([[1, 1]], [0]))
DIFFERENCE = network_of(([[1], [1]], [0, 0]), ([[1, -1]], [0]))
FIGURE_2 = network_of(
    ([[1, 1], [1, -1]], [0, 0]), ([[1, 2], [0, 1]], [0, 1.5]), ([[1, 0], [0, 1]], [0, 0])
)


def relaxed(network: Network, lower: Vector, upper: Vector) -> Relaxation:
    program = Program.compile(network)
    sides = program.enclosing(lower, upper)
    relaxation = Relaxation(program, *(s.unsqueeze(0) for s in sides))
    propagate(relaxation)
    return relaxation


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


def ranges(network: Network, lower: Vector, upper: Vector, options: KPolyOptions) -> Vector:
    """`(2, outputs)`: kPoly's bounds of every output."""
    program = Program.compile(network)
    sides = program.enclosing(lower, upper)
    found = kpoly(program, *sides, output_objective(program), options)
    assert found.complete
    low, negated = np.split(found.lower, 2)
    return np.stack([low, -negated])


def test_the_figure_of_the_paper_is_proved_with_pairs() -> None:
    alone = ranges(FIGURE_2, -np.ones(2), np.ones(2), KPolyOptions(1))
    pairs = ranges(FIGURE_2, -np.ones(2), np.ones(2), KPolyOptions(2))
    assert alone[1, 0] > 4.5
    assert pairs[1, 0] == pytest.approx(4, abs=SOLVED)
    assert pairs[0, 1] == pytest.approx(1.5, abs=SOLVED)


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


def of_golden(golden: Golden, options: KPolyOptions) -> Vector:
    return ranges(golden.network, golden.box.lower, golden.box.upper, options)


@pytest.mark.parametrize("start", ["deeppoly", "deepz"])
def test_single_neurons_give_the_triangle(known: list[Golden], start: str) -> None:
    for golden in known:
        found = of_golden(golden, KPolyOptions(1, start=start))  # pyright: ignore[reportArgumentType]
        wanted = np.array([[float(v) for v in ends] for ends in golden.ranges["triangle"]]).T
        np.testing.assert_allclose(found, wanted, rtol=0, atol=SOLVED, err_msg=golden.name)


def test_groups_tighten_the_triangle_and_keep_the_exact_range(known: list[Golden]) -> None:
    totals = np.zeros(3)
    for golden in known:
        widths: list[float] = []
        for k in (1, 2, 3):
            low, high = of_golden(golden, KPolyOptions(k))
            for j, (least, most) in enumerate(golden.ranges["exact"]):
                assert Fraction(low[j]) <= least and most <= Fraction(high[j]), golden.name
            widths.append(float((high - low).sum()))
        totals += widths
        assert widths[1] <= widths[0] + SOLVED and widths[2] <= widths[0] + SOLVED
    assert totals[1] < 0.96 * totals[0] and totals[2] < 0.99 * totals[1]


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


def deep(rng: Rng, width: int = 8) -> tuple[Network, Vector]:
    builder, at = Builder((3,)), 0
    for _ in range(2):
        weight = rng.normal(size=(width, builder.shape(at)[0]))
        at = builder.add(ops.Dense(weight, rng.normal(size=width) * 0.3), at)
        at = builder.add(ops.Rectifier(), at)
    last = ops.Dense(rng.normal(size=(2, width)), rng.normal(size=2))
    return builder.build(builder.add(last, at)), np.full(3, -1.0)


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


Solver = Callable[[Model, float], Solution | None]


def liar(rng: Rng, honest: Solver) -> Solver:
    """A solver whose points and multipliers are nothing, anything, or nearly right."""

    def solve(model: Model, seconds: float = math.inf) -> Solution | None:
        rows, columns = model.program.matrix.shape
        found = honest(model, seconds)
        match int(rng.integers(6)):
            case 0:
                return None
            case 1:
                return Solution(np.full(columns, np.nan), np.full(rows, np.nan))
            case 2:
                return Solution(rng.normal(size=columns) * 1e30, rng.normal(size=rows) * 1e30)
            case 3:
                return Solution(np.full(columns, np.inf), rng.choice([-np.inf, np.inf, 0], rows))
            case _:
                if found is None:
                    return None
                lie = rng.choice([-1.0, 1.0, 1.1], rows)
                return Solution(found.point + 0.01 * rng.normal(size=columns), found.duals * lie)

    return solve


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_lying_solver_proves_nothing_false(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Model.solve
    for seed in range(12):
        rng = np.random.default_rng(seed)
        monkeypatch.setattr(Model, "solve", liar(rng, honest))
        network = rectified_network(rng, 2)
        lower = rng.normal(size=2)
        upper = lower + rng.choice([0.0, 0.5, 2.0])
        program = Program.compile(network)
        sides = program.enclosing(lower, upper)
        for k in (1, 2):
            found = kpoly(program, *sides, output_objective(program), KPolyOptions(k))
            low, negated = np.split(found.lower, 2)
            for x in rng.uniform(lower, upper, size=(5, 2)):
                y = output_at(exactly(network), x)
                for j, value in enumerate(y):
                    assert low[j] == -math.inf or Fraction(low[j]) <= value
                    assert negated[j] == -math.inf or value <= -Fraction(negated[j])


def test_kpoly_keeps_what_it_has_when_time_runs_out() -> None:
    rng = np.random.default_rng(0)
    network, lower = deep(rng)
    program = Program.compile(network)
    sides = program.enclosing(lower, -lower)
    values = [output_at(exactly(network), x) for x in rng.uniform(-1, 1, size=(20, 3))]
    widths: list[float] = []
    for patience in (0, 8, 25, 10**6):
        asked = 0

        def stop(patience: int = patience) -> bool:
            nonlocal asked
            asked += 1
            return asked > patience

        options = KPolyOptions(2, stop=stop)
        found = kpoly(program, *sides, output_objective(program), options)
        assert found.complete == (patience == 10**6)
        low, negated = np.split(found.lower, 2)
        for y in values:
            ends = zip(low, y, -negated, strict=True)
            assert all(Fraction(a) <= v <= Fraction(b) for a, v, b in ends)
        widths.append(float(-(low + negated).sum()))
    # Between the ends order is not certain: DeepPoly's lines may turn for the worse.
    assert widths[-1] < min(widths[:-1])


def test_kpoly_falls_back_on_what_is_known_when_time_runs_out() -> None:
    network, lower = deep(np.random.default_rng(0))
    program = Program.compile(network)
    sides = program.enclosing(lower, -lower)
    better = Relaxation(program, *(s.unsqueeze(0) for s in sides))
    propagate_optimised(better, Ascent(steps=20))
    second = list(better.bounds)[-1]
    for patience in (0, 8, 10**6):
        left = iter(range(patience + 1))
        options = KPolyOptions(
            1, stop=lambda left=left: next(left, None) is None, known=better.bounds
        )
        found = kpoly(program, *sides, output_objective(program), options)
        ends = found.relaxation.bounds[second]
        assert torch.all(ends[0] >= better.bounds[second][0] - SOLVED)
        assert torch.all(ends[1] <= better.bounds[second][1] + SOLVED)
        assert found.complete == (patience == 10**6)
    # With time enough the bounds are those of the linear programs alone: a lie changes nothing.
    known = {j: (low / 2, high / 2) for j, (low, high) in better.bounds.items()}
    both = [
        kpoly(program, *sides, output_objective(program), KPolyOptions(1, known=some))
        for some in ({}, known)
    ]
    assert np.array_equal(both[0].lower, both[1].lower)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_either_precision_is_sound(dtype: torch.dtype) -> None:
    for seed in range(4):
        network, lower = deep(np.random.default_rng(seed), 4)
        program = Program.compile(network, "cpu", dtype)
        sides = program.enclosing(lower, -lower)
        found = kpoly(program, *sides, output_objective(program), KPolyOptions(2))
        low, negated = np.split(found.lower, 2)
        for x in np.random.default_rng(seed).uniform(-1, 1, size=(20, 3)):
            y = output_at(exactly(network), x)
            assert all(
                Fraction(a) <= v <= -Fraction(b) for a, v, b in zip(low, y, negated, strict=True)
            )


def test_a_query_of_many_rows_is_bounded_by_all_of_them() -> None:
    """`max(x, -x)` is at least 0, which neither row alone shows."""
    network = network_of(([[1], [-1]], [0, 0]))
    program = Program.compile(network)
    one = torch.ones(1, 1, 2, dtype=torch.float64)
    eye = torch.eye(2, dtype=torch.float64).reshape(1, 1, 2, 2)
    objective = Objective(eye, None, 0 * one, one.bool(), 0.0)
    sides = program.enclosing(-np.ones(1), np.ones(1))
    found = kpoly(program, *sides, objective, KPolyOptions(1))
    assert found.lower[0] == pytest.approx(0, abs=SOLVED) and found.lower[0] <= 0


def test_wrong_questions_are_refused() -> None:
    program = Program.compile(MAXIMUM)
    sides = program.enclosing(np.zeros(2), np.ones(2))
    for k in (0, 4):
        with pytest.raises(BadInput):
            kpoly(program, *sides, output_objective(program), KPolyOptions(k))
    relaxation = relaxed(MAXIMUM, np.zeros(2), np.ones(2))
    with pytest.raises(BadInput):
        ReluGroups(relaxation, 1, np.array([[0, 1]]), np.ones((1, 8)))


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
