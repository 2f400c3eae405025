"""Verdicts end to end, on networks small enough to check each claim with fractions."""

from collections.abc import Callable
from fractions import Fraction
from typing import Literal

import numpy as np
import pytest
import torch
from exactly import (
    Rng,
    exactly,
    margin_at,
    model_of,
    output_at,
    rectified_network,
    values_at,
)

from hullmark.bounds.alpha import Ascent
from hullmark.bounds.linear import propagate
from hullmark.bounds.objective import objective_of
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation
from hullmark.lp.highs import Program as LinearProgram
from hullmark.lp.highs import Solution
from hullmark.lp.highs import solve as solve_honestly
from hullmark.network.graph import Network
from hullmark.network.ops import Array
from hullmark.search import effort as effort_module
from hullmark.search import judge as judge_module
from hullmark.search import leaf as leaf_module
from hullmark.search import neurons as neurons_module
from hullmark.search import strategy
from hullmark.search.optimum import minimise
from hullmark.search.strategy import decide
from hullmark.spec.property import Case, Constraint, Property
from hullmark.spec.sets import Box
from hullmark.verdict import (
    Deadline,
    Options,
    Precision,
    Progress,
    Proved,
    Refuted,
    Silent,
    Unknown,
    Verdict,
)

Splitting = Literal["inputs", "neurons"]
SPLITTINGS: tuple[Splitting, ...] = ("inputs", "neurons")
INPUTS, OUTPUTS = 3, 2


@pytest.fixture(params=SPLITTINGS)
def splitting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Splitting:
    """Has every search split inputs, or neurons, whatever the network."""
    if request.param == "neurons":
        monkeypatch.setattr(strategy, "FEW_INPUTS", -1)
        monkeypatch.setattr(strategy, "SOME_INPUTS", -1)
    return request.param


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """No counterexample is ever found, so that nothing hides a proof that is wrong."""

    def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr(strategy, "attack", nothing)
    monkeypatch.setattr(strategy, "descend", nothing)
    monkeypatch.setattr(judge_module.WitnessJudge, "offer", nothing)


def random_case(rng: Rng, network: Network, box: Box, slack: float) -> Case:
    """A conjunction of rows over outputs, and perhaps inputs, whose worst margin is about `slack`
    times the spread of the largest row."""
    x = rng.uniform(box.lower, box.upper, (3000, INPUTS))
    y = network.evaluate(x)
    rows: list[tuple[dict[int, float], dict[int, float]]] = []
    values: list[Array] = []
    for _ in range(int(rng.integers(1, 4))):
        over_y = {j: float(c) for j, c in enumerate(rng.normal(size=OUTPUTS))}
        over_x = {0: float(rng.normal())} if rng.random() < 0.3 else {}
        value = y @ np.array(list(over_y.values())) + over_x.get(0, 0.0) * x[:, 0]
        rows.append((over_x, over_y))
        values.append(value - np.mean(value))
    largest = np.max(values, axis=0)
    shift = float(np.min(largest) - slack * (np.ptp(largest) + 0.1))
    strict = bool(rng.random() < 0.3)
    constraints = tuple(
        Constraint.of(a, b, float(np.mean(raw)) + shift, strict=strict)
        for (a, b), raw in zip(rows, _raw(rows, x, y), strict=True)
    )
    return Case(box, constraints, OUTPUTS)


def _raw(rows: list[tuple[dict[int, float], dict[int, float]]], x: Array, y: Array) -> list[Array]:
    return [y @ np.array(list(b.values())) + a.get(0, 0.0) * x[:, 0] for a, b in rows]


def random_property(rng: Rng, network: Network, slack: float) -> Property:
    """Several boxes, one of which has two cases of different numbers of rows."""
    cases: list[Case] = []
    for number in range(2):
        lower = rng.normal(size=INPUTS)
        box = Box(lower, lower + rng.uniform(0.1, 0.8, INPUTS))
        cases += [random_case(rng, network, box, slack) for _ in range(2 - number)]
    return Property(INPUTS, OUTPUTS, tuple(cases), "random")


def least_margin(network: Network, prop: Property, count: int = 6) -> Fraction:
    """The least exact margin at the most promising of thousands of points of every case."""
    exact, found = exactly(network), list[Fraction]()
    rng = np.random.default_rng(0)
    for case in prop.cases:
        box, rows = case.box, case.rows
        x = rng.uniform(box.lower, box.upper, (3000, INPUTS))
        x[:8] = np.where(np.indices((2, 2, 2)).reshape(3, -1).T, box.upper, box.lower)
        values = network.evaluate(x) @ rows.y.T - rows.bound
        if rows.x is not None:
            values = values + x @ rows.x.T
        order = np.argsort(values.max(axis=1))[:count]
        found += [margin_at(case, exact, np.clip(x[k], box.lower, box.upper)) for k in order]
    return min(found)


def check(
    verdict: Verdict,
    network: Network,
    prop: Property,
    least: Fraction,
    dtype: type[np.floating] = np.float64,
) -> None:
    """Everything that a verdict says, held against the least exact margin that is known."""
    match verdict:
        case Proved(margin=margin):
            assert 0 <= margin < np.inf and least > 0 and Fraction(margin) <= least
        case Refuted(witness=witness):
            replayed = model_of(network, dtype).replay(witness.input[None])[0]
            assert prop.cases[witness.case].box.contains(witness.input)
            assert prop.violated(witness.input, replayed)
        case Unknown(lower=lower):
            assert lower == -np.inf or Fraction(lower) <= least


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_true_properties_are_proved_and_false_ones_refuted(
    splitting: Splitting, dtype: Precision, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    network = rectified_network(rng, INPUTS)
    for slack in (0.1, -0.1):
        prop = random_property(rng, network, slack)
        kind = np.float32 if seed % 2 else np.float64
        verdict = decide(model_of(network, kind), prop, Options(5, dtype=dtype), Silent())
        check(verdict, network, prop, least_margin(network, prop), kind)
        assert isinstance(verdict, Proved if slack > 0 else Refuted)


@pytest.mark.usefixtures("blind")
@pytest.mark.parametrize("seed", range(4))
def test_what_is_violated_is_never_proved(splitting: Splitting, seed: int) -> None:
    """By as little as single points of the box that only just violate it."""
    rng = np.random.default_rng(100 + seed)
    network = rectified_network(rng, INPUTS)
    for slack in (-1e-3, -1e-9, 1e-3):
        prop = random_property(rng, network, slack)
        options = Options(0.15, dtype="float32" if seed % 4 == 0 else "float64")
        verdict = decide(model_of(network), prop, options, Silent())
        check(verdict, network, prop, least_margin(network, prop))
        if slack < 0:
            assert isinstance(verdict, Unknown)


@pytest.mark.usefixtures("blind")
def test_time_may_run_out_anywhere(splitting: Splitting, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock strikes at the n-th look at it, for every n until the search ends by itself."""
    rng = np.random.default_rng(8)
    network = rectified_network(rng, INPUTS)
    prop = random_property(rng, network, 0.01)
    least = least_margin(network, prop)
    methods: set[str] = set()
    seen: set[float] = set()
    for looks in [*range(8), *range(8, 30, 4), *range(30, 400, 30)]:
        left = [looks]

        def expired(_: Deadline, left: list[int] = left) -> bool:
            left[0] -= 1
            return left[0] < 0

        monkeypatch.setattr(Deadline, "expired", expired)
        verdict = decide(model_of(network), prop, Options(1000), Silent())
        check(verdict, network, prop, least)
        methods.add(verdict.stats.method)
        if isinstance(verdict, Unknown):
            assert verdict.reason == "timeout"
            seen.add(verdict.lower)
        else:
            break
    assert isinstance(verdict, Proved) and len(seen) > 2
    assert methods >= ({"input splitting"} if splitting == "inputs" else {"relu splitting"})


class Bomb:
    """A monitor that raises at the n-th report, and remembers the one before."""

    def __init__(self, reports: int, error: BaseException) -> None:
        self._left = reports
        self._error = error
        self.bounds: list[float] = []

    def update(self, progress: Progress) -> None:
        self.bounds.append(progress.lower)
        self._left -= 1
        if self._left < 0:
            raise self._error


@pytest.mark.usefixtures("blind")
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyboardInterrupt(), "interrupted"),
        (MemoryError("none left"), "memory"),
        (RuntimeError("DefaultCPUAllocator: not enough memory"), "memory"),
    ],
)
def test_interrupts_and_lack_of_memory_keep_what_is_known(
    splitting: Splitting, error: BaseException, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(effort_module, "INTERVAL", 0.0)
    rng = np.random.default_rng(8)
    network = rectified_network(rng, INPUTS)
    prop = random_property(rng, network, 0.01)
    least = least_margin(network, prop)
    for reports in (0, 2, 5):
        bomb = Bomb(reports, error)
        verdict = decide(model_of(network), prop, Options(5), bomb)
        check(verdict, network, prop, least)
        if isinstance(verdict, Unknown):
            assert verdict.reason == reason
            assert verdict.lower >= max(bomb.bounds)


@pytest.mark.usefixtures("blind")
def test_what_was_taken_out_is_put_back(
    splitting: Splitting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt in the middle of a batch, while its rows are in nobody's hands."""
    rng = np.random.default_rng(8)
    network = rectified_network(rng, INPUTS)
    prop = random_property(rng, network, 0.01)
    least = least_margin(network, prop)
    for calls in range(3):
        left = [calls]

        def offer(*_: object, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt

        monkeypatch.setattr(judge_module.WitnessJudge, "offer", offer)
        verdict = decide(model_of(network), prop, Options(5), Silent())
        check(verdict, network, prop, least)


@pytest.mark.usefixtures("blind")
def test_a_memory_limit_ends_the_search(splitting: Splitting) -> None:
    rng = np.random.default_rng(8)
    network = rectified_network(rng, INPUTS)
    prop = random_property(rng, network, -1e-3)
    verdict = decide(model_of(network), prop, Options(5, memory=30_000), Silent())
    check(verdict, network, prop, least_margin(network, prop))
    assert isinstance(verdict, Unknown)
    assert verdict.reason == ("memory" if splitting == "inputs" else verdict.reason)


def liar(rng: Rng) -> Callable[[LinearProgram], Solution | None]:
    """A solver whose points and multipliers are arbitrary, huge, infinite or not numbers, or
    right but for some signs."""

    def solve(program: LinearProgram) -> Solution | None:
        rows, columns = program.matrix.shape
        match int(rng.integers(8)):
            case 0:
                return None
            case 1:
                return Solution(np.full(columns, np.nan), np.full(rows, np.nan))
            case 2:
                return Solution(np.full(columns, np.inf), rng.choice([-np.inf, np.inf, 0], rows))
            case 3:
                return Solution(rng.normal(size=columns) * 1e30, rng.normal(size=rows) * 1e30)
            case 4:
                return Solution(rng.normal(size=columns), rng.normal(size=rows))
            case _:
                found = solve_honestly(program)
                if found is None:
                    return None
                lie = rng.choice([-1.0, 1.0, 2.0], rows) + 0.3 * rng.normal(size=rows)
                return Solution(found.point + 0.1, found.duals * lie + 0.1 * rng.normal(size=rows))

    return solve


def test_a_lying_solver_changes_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without an ascent many more subproblems are split to the end, where the solver is asked.
    monkeypatch.setattr(neurons_module, "CHILD", Ascent(steps=0))
    lied = 0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        network = rectified_network(rng, INPUTS)
        lower = rng.normal(size=INPUTS)
        box, row = Box(lower, lower + 0.7), rng.normal(size=OUTPUTS)
        honest = minimise(network, box, row, 1e-7, "neurons", Options(3))

        def count(program: LinearProgram, lie: Callable[..., Solution | None]) -> Solution | None:
            nonlocal lied
            lied += 1
            return lie(program)

        lie = liar(rng)
        with monkeypatch.context() as patch:
            patch.setattr(leaf_module, "solve", lambda p, lie=lie: count(p, lie))
            fooled = minimise(network, box, row, 1e-7, "neurons", Options(0.5))
        assert fooled.lower <= honest.upper and honest.lower <= fooled.upper
        if fooled.point is not None:
            assert box.contains(fooled.point)
            value = sum(
                Fraction(float(c)) * v
                for c, v in zip(row, output_at(exactly(network), fooled.point), strict=True)
            )
            assert Fraction(fooled.lower) <= value <= Fraction(fooled.upper)
    assert lied > 20


def test_a_lying_solver_bounds_no_leaf_too_high(monkeypatch: pytest.MonkeyPatch) -> None:
    """The leaf is that of a point, whose margin bounds what may be said of it."""
    near = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        network = rectified_network(rng, INPUTS)
        lower = rng.normal(size=INPUTS)
        box = Box(lower, lower + 0.7)
        case = random_case(rng, network, box, 0.1)
        exact, x = exactly(network), rng.uniform(box.lower, box.upper)
        margin = margin_at(case, exact, x)
        program = Program.compile(network)
        low, high = program.enclosing(box.lower, box.upper)
        leaf = Relaxation(program, low.unsqueeze(0), high.unsqueeze(0))
        splits: dict[int, torch.Tensor] = {}
        values = dict(values_at(exact, x))
        for j in (j for j in program.pre_activations if j):
            propagate(leaf, j)
            low, high = leaf.bounds[j]
            sign = torch.as_tensor(np.sign(values[j].astype(float))).reshape(low.shape)
            splits[j] = sign * ((low < 0) & (high > 0))
            low = torch.where(splits[j] > 0, low.clamp(min=0), low)
            leaf.set_bounds(j, low, torch.where(splits[j] < 0, high.clamp(max=0), high))
        leaf.advance(len(network.nodes) - 1)
        objective = objective_of(program, (case,))
        honest = float(leaf_module.settle(leaf, objective, splits)[0])
        assert Fraction(honest) <= margin
        with monkeypatch.context() as patch:
            patch.setattr(leaf_module, "solve", liar(rng))
            for _ in range(40):
                bound, points = leaf_module.settle(leaf, objective, splits)
                assert float(bound) == -np.inf or Fraction(float(bound)) <= margin
                near += float(bound) > honest - 1
                inside = (points[0] >= leaf.lower) & (points[0] <= leaf.upper)
                assert bool((inside | points[0].isnan()).all())
    assert near > 20


@pytest.mark.usefixtures("blind")
def test_a_lying_solver_proves_nothing_false(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategy, "FEW_INPUTS", -1)
    monkeypatch.setattr(strategy, "SOME_INPUTS", -1)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        network = rectified_network(rng, INPUTS)
        monkeypatch.setattr(leaf_module, "solve", liar(rng))
        for slack in (-1e-6, 1e-2):
            prop = random_property(rng, network, slack)
            verdict = decide(model_of(network), prop, Options(0.3), Silent())
            check(verdict, network, prop, least_margin(network, prop))


def test_a_case_without_constraints_is_refuted_by_any_input() -> None:
    network = rectified_network(np.random.default_rng(0), INPUTS)
    far = Constraint.of({}, {0: 1}, -1000)
    box = Box([0, 0, 0], [1, 1, 1])
    prop = Property(INPUTS, OUTPUTS, (Case(box, (far,), 2), Case(box, (), 2)), "free")
    verdict = decide(model_of(network), prop, Options(5), Silent())
    assert isinstance(verdict, Refuted) and verdict.witness.case == 1


def test_without_cases_there_is_nothing_to_prove() -> None:
    network = rectified_network(np.random.default_rng(0), INPUTS)
    verdict = decide(model_of(network), Property(INPUTS, OUTPUTS, (), "empty"), Options(), Silent())
    assert isinstance(verdict, Proved) and verdict.margin == np.inf


def test_contradicting_input_constraints_leave_no_counterexample(splitting: Splitting) -> None:
    """A polytope without points: whatever the outputs, no input is admitted."""
    network = rectified_network(np.random.default_rng(0), INPUTS)
    box = Box([0, 0, 0], [1, 1, 1])
    rows = (Constraint.of({0: 1, 1: 1}, {}, Fraction(1, 2)), Constraint.of({0: -1, 1: -1}, {}, -1))
    prop = Property(INPUTS, OUTPUTS, (Case(box, rows, 2),), "polytope")
    verdict = decide(model_of(network), prop, Options(5), Silent())
    assert isinstance(verdict, Proved) and Fraction(verdict.margin) <= Fraction(1, 4)
