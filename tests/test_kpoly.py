"""kPoly: values that must come out, and bounds that no lie or delay makes wrong."""

import math
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from exactly import Rng, exactly, output_at, rectified_network
from small import FIGURE_2, MAXIMUM, SOLVED, deep, network_of, relaxed

from hullmark.bounds.alpha import Ascent
from hullmark.bounds.objective import Objective, output_objective
from hullmark.bounds.optimised import propagate_optimised
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation
from hullmark.cuts.kpoly import KPolyOptions, kpoly
from hullmark.cuts.separators import ReluGroups
from hullmark.errors import BadInput
from hullmark.lp.highs import Model, Solution
from hullmark.lp.program import Vector
from hullmark.network.graph import Network

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

from inputs import Golden, goldens


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
