"""Mined joint rows against fractions: bounds, rows and what counterexamples are known to be."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from exactly import Rng, exactly, fractions, rectified_network
from segments import Pieces, pieces, wire
from test_pools import DTYPES, LOWER, UPPER, asked, true_rows

from hullmark.bounds.alpha import Ascent, Multipliers
from hullmark.bounds.objective import Objective, objective_of
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation
from hullmark.joint.krelu import Scheme, krelu_margins, prima
from hullmark.joint.mine import Mining
from hullmark.joint.mined import mined_margins
from hullmark.joint.octahedron import Start, octahedral_bounds
from hullmark.joint.store import Layer
from hullmark.joint.tighten import Miner, Plan
from hullmark.network import ops
from hullmark.network.graph import Builder, Network
from hullmark.relax.octahedra import octahedral_rows
from hullmark.rows import Combined, Row, Value
from hullmark.spec.property import Case, Constraint
from hullmark.spec.sets import Box

PLAN = Plan(
    rounds=1,
    steps=8,
    objective_rounds=1,
    objective_steps=10,
    row_rate=0.1,
    mining=Mining(triples=6, coarse=2, fine=4),
)


def moved(cases: tuple[Case, ...], by: Fraction) -> tuple[Case, ...]:
    """The same cases, all rows of which are greater by that much."""
    return tuple(
        Case(c.box, tuple(replace(r, bound=r.bound - by) for r in c.constraints), c.output_size)
        for c in cases
    )


def margins_on(cases: tuple[Case, ...], known: Pieces) -> np.ndarray:
    """Exact margins `(cases, N)` at the ends of pieces."""
    x, y = known.values[0], known.values[-1]
    margins = [[max(true_rows(c, x[k], y[k])) for k in range(len(x))] for c in cases]
    return np.array(margins, dtype=object)


def mined(
    network: Network, cases: tuple[Case, ...], dtype: str = "float64", plan: Plan = PLAN
) -> tuple[list[float], int]:
    """The bounds of all cases over the box of the first, and the number of rows."""
    program = Program.compile(network, dtype=DTYPES[dtype])
    box = program.enclosing(cases[0].box.lower, cases[0].box.upper)
    found = mined_margins(program, *box, objective_of(program, cases), plan)
    return found.lower.double().tolist(), sum(found.rows.values())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["many", "single", "both", "inputs", "equal"])
def test_the_least_bound_is_below_the_least_margin(kind: str, dtype: str) -> None:
    """Properties that hold or fail by little, where assumptions are all but contradictions."""
    rows = 0
    for seed, slack in enumerate((-1e-3, 0, 1e-6, 1e-2)):
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


class Calls:
    """Says to stop once it has been asked so often."""

    def __init__(self, limit: int) -> None:
        self.left = limit

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0

    @property
    def over(self) -> bool:
        return self.left < 0


@pytest.mark.parametrize("kind", ["many", "both"])
def test_time_may_run_out_anywhere(kind: str) -> None:
    """It stops at the n-th question, and for good: nothing that was not finished counts."""
    network = wire(np.random.default_rng(3))
    known = pieces(network, LOWER, UPPER)
    cases = asked(np.random.default_rng(3), known, kind)
    margins = margins_on(cases, known)
    for slack in (Fraction(1, 100),):
        wanted = moved(cases, slack - margins.min())
        ends: set[bool] = set()
        for looks in (0, 1, 2, 4, 8, 14, 21, 33, 50, 80):
            calls = Calls(looks)
            lower, _ = mined(network, wanted, plan=replace(PLAN, stop=calls))
            assert Fraction(max(min(lower), -1e300)) <= slack
            ends.add(calls.over)
        assert True in ends


def dense(*sizes: int, scale: float = 1.0, op: ops.Op | None = None) -> Network:
    rng, builder, at = np.random.default_rng(0), Builder((sizes[0],)), 0
    for k, (n, m) in enumerate(pairwise(sizes)):
        at = builder.add(op or ops.Rectifier(), at) if k else at
        at = builder.add(ops.Dense(rng.normal(size=(m, n)) * scale, rng.normal(size=m)), at)
    return builder.build(at)


def odd_networks() -> Iterator[tuple[str, Network]]:
    yield "input", Builder((2,)).build(0)
    yield "affine", dense(2, 2)
    builder = Builder((2,))
    yield "rectified input", builder.build(builder.add(ops.Rectifier(), 0))
    builder = Builder((2,))
    turn = builder.add(ops.Dense(np.array([[1.0, 1.0], [1.0, -1.0]]), np.zeros(2)), 0)
    yield "rectified output", builder.build(builder.add(ops.Rectifier(), turn))
    yield "sigmoid", dense(2, 4, 4, 2, op=ops.Sigmoid())
    builder = Builder((2,))
    first = builder.add(ops.Dense(np.array([[1.0, 2.0], [1.0, -1.0], [2.0, 1.0]]), np.zeros(3)), 0)
    both = builder.add(ops.Concat(0), builder.add(ops.Rectifier(), first), first)
    second = builder.add(ops.Dense(np.linspace(-1, 1, 18).reshape(3, 6), np.full(3, 0.1)), both)
    mixed = builder.add(ops.Product(), builder.add(ops.Rectifier(), second), first)
    yield "product", builder.build(builder.add(ops.Dense(np.ones((2, 3)), np.zeros(2)), mixed))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "network"), list(odd_networks()))
def test_networks_of_odd_shape(name: str, network: Network, dtype: str) -> None:
    rng = np.random.default_rng(0)
    box = Box([-1, -1], [1, 1])
    x = np.concatenate([rng.uniform(-1, 1, (3000, 2)), np.indices((2, 2)).reshape(2, -1).T * 2 - 1])
    y = network.evaluate(x).reshape(len(x), -1)
    for over_x in ({}, {0: 1, 1: -2}):
        values = y @ [1.0, -2.0] + sum(c * x[:, i] for i, c in over_x.items())
        one = Constraint.of(over_x, {0: 1, 1: -2}, Fraction(float(values.min())) - Fraction(1, 8))
        # Equal queries, and one whose row is half of another's.
        half = Constraint.of({i: c / 2 for i, c in over_x.items()}, {0: 0.5, 1: -1}, one.bound / 2)
        cases = tuple(Case(box, (row,), 2) for row in (one, one, half))
        calls = Calls(4000)
        lower, _ = mined(network, cases, dtype, replace(PLAN, stop=calls))
        assert not calls.over
        assert min(lower) <= 1 / 16 + 1e-12
        if name in ("input", "affine"):
            assert min(lower) >= 1 / 16 - 1e-2
        wanted = moved(cases, Fraction(-1, 4))
        assert min(mined(network, wanted, dtype)[0]) <= -1 / 8 + 1e-12


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("scale", [1e-100, 1e70, 1e110, 1e160])
def test_numbers_at_the_ends_of_float(scale: float) -> None:
    """The end comes by itself, and an overflow is no bound."""
    network = dense(2, 5, 5, 1, scale=scale)
    box = Box([-1, -1], [1, 1])
    exact, rng = exactly(network), np.random.default_rng(1)
    values = exact.evaluate(fractions(rng.uniform(-1, 1, (20, 2))))[:, 0]
    for sign in (1, -1):
        cases = tuple(Case(box, (Constraint.of({}, {0: s}, 0),), 1) for s in (sign, 2 * sign))
        calls = Calls(3000)
        lower, _ = mined(network, cases, plan=replace(PLAN, stop=calls))
        assert not calls.over
        truth = min(sign * v for v in values)
        assert lower[0] == -np.inf or Fraction(lower[0]) <= truth


def inner_values(exact: Network, x: np.ndarray) -> list[np.ndarray]:
    """Exact values `(N, size)` of all nodes."""
    return [v.reshape(len(x), -1) for v in exact.values(fractions(x))]


def excess_of(row: Row, values: list[np.ndarray], k: int) -> Fraction:
    names = [name for name, _ in row.terms]
    assert all(isinstance(name, Value) for name in names)
    return row.excess({name: values[name.node][k, name.neuron] for name in names})


def miner_of(network: Network, box: Box, dtype: str, plan: Plan = PLAN) -> Miner:
    program = Program.compile(network, dtype=DTYPES[dtype])
    low, high = program.enclosing(box.lower, box.upper)
    return Miner(Relaxation(program, low.unsqueeze(0), high.unsqueeze(0)), plan)


def check_bounds(miner: Miner, values: list[np.ndarray], points: list[int]) -> None:
    """All intermediate bounds contain what neurons are at these points."""
    for j, (low, high) in miner.relaxation.bounds.items():
        low, high = (b.double().flatten().numpy() for b in (low, high))
        for u in np.flatnonzero(np.isfinite(low) & np.isfinite(high)).tolist():
            seen = values[j][points, u]
            if len(seen):
                assert Fraction(low[u]) <= min(seen) and max(seen) <= Fraction(high[u])


def check_rows(miner: Miner, values: list[np.ndarray], points: list[int]) -> int:
    """Every row is derived, means what its pool says, and holds at these points."""
    count = 0
    for i, mine in miner.mines.items():
        rows = mine.found.rows()
        count += len(rows)
        for row in rows[:: 1 + len(rows) // 10]:
            assert isinstance(row.derivation, Combined) and row.derived()
            for parent in (row, *row.derivation.parents):
                assert all(
                    excess_of(parent, values, k) <= 0 for k in points[:: 1 + len(points) // 6]
                )
        if rows and i in miner.relaxation.pools:
            pool = miner.relaxation.pools[i]
            assert len(pool.rhs) == len(rows)
            total = np.repeat(-fractions(pool.rhs.double().numpy())[:, None], len(points), axis=1)
            for j, c in pool.coefficients.items():
                total = total + fractions(c.double().flatten(1).numpy()) @ values[j][points].T
            assert (total <= 0).all()
    return count


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_and_bounds_hold_everywhere(dtype: str) -> None:
    count = 0
    for seed in range(2):
        rng = np.random.default_rng(seed)
        network = rectified_network(rng, 3)
        box = Box([-1, -1, -1], [1, 1, 0.5])
        x = np.concatenate(
            [rng.uniform(box.lower, box.upper, (8, 3)), [[-1, 1, 0.5]], [[1, 1, -1]]]
        )
        values = inner_values(exactly(network), x)
        miner = miner_of(network, box, dtype)
        miner.propagate()
        y = rng.normal(size=(1, 3, 1, 2))
        miner.bound(plain(miner.relaxation.program, y))
        miner.again()
        miner.bound(plain(miner.relaxation.program, y))
        check_bounds(miner, values, list(range(len(x))))
        count += check_rows(miner, values, list(range(len(x))))
    assert count > 10


def plain(program: Program, y: np.ndarray) -> Objective:
    shape = y.shape[:3]
    used = torch.ones(*shape, dtype=torch.bool)
    return Objective(program.tensor(y), None, program.tensor(np.zeros(shape)), used, 0.0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_slopes_are_those_of_the_network(dtype: str) -> None:
    """In whatever precision bounds are computed: rows are about the network itself."""
    builder, slopes = Builder((2,)), (np.array([0.1, -0.7]), np.array(1.3))
    network = builder.build(builder.add(ops.Rectifier(*slopes), 0))
    layer = Layer.of(Program.compile(network, dtype=DTYPES[dtype]), 1)
    assert layer.negative.tolist() == [0.1, -0.7] and layer.positive.tolist() == [1.3, 1.3]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["many", "single", "both"])
def test_what_is_found_of_counterexamples_holds_at_them(kind: str, dtype: str) -> None:
    checked, shrunk, count = 0, 0.0, 0
    for seed in range(2):
        network = wire(np.random.default_rng(seed))
        known = pieces(network, LOWER, UPPER)
        cases = asked(np.random.default_rng(seed), known, kind)
        margins = margins_on(cases, known)
        cases = moved(cases, -margins.min() - (margins.max() - margins.min()) / 20)
        # Ends of pieces, and points between them.
        share = fractions(np.linspace(0, 1, 9)[:-1]).reshape(1, -1, 1)
        values = [
            np.concatenate(
                [(v[:-1, None] + share * (v[1:] - v[:-1])[:, None]).reshape(-1, v.shape[1])]
            )
            for v in known.values
        ]
        at = np.array(
            [
                [max(true_rows(c, x, y)) for c in cases]
                for x, y in zip(values[0], values[-1], strict=True)
            ]
        )
        miner = miner_of(network, Box([LOWER], [UPPER]), dtype)
        miner.propagate()
        objective = objective_of(miner.relaxation.program, cases)
        miner.bound(objective)
        everywhere = list(range(len(at)))
        for q in range(len(cases)):
            points = [k for k in everywhere if at[k, q] <= 0 and at[k, q] == at[k].min()]
            case = miner.assuming(objective, q)
            shrunk = max(shrunk, case.sweep(10), case.sweep(10))
            found = case.bound(objective.select(slice(q, q + 1)), 1).lower
            bound = float(found)
            if points:
                assert not case.empty()
                assert bound == -np.inf or Fraction(bound) <= min(at[k, q] for k in points)
            check_bounds(case, values, points)
            count += check_rows(case, values, points)
            checked += len(points)
        # Whatever was assumed stayed there.
        check_bounds(miner, values, everywhere)
        check_rows(miner, values, everywhere)
        assert not miner.relaxation.assumes
    assert checked > 0 and count > 3 and shrunk > 0.05


def start_of(rng: Rng, relaxation: Relaxation, node: int, size: int) -> Start:
    """Slopes and row multipliers of any kind: neither has to be good, or even within its range."""
    nodes = relaxation.program.network.nodes
    slopes = {
        i: torch.as_tensor(rng.normal(size=(1, 2 * size, *nodes[i].shape)))
        for i in relaxation.program.slopes
        if i < node
    }
    gamma = {
        p: torch.as_tensor(rng.normal(size=(1, 2 * size, len(pool.rhs))))
        for p, pool in relaxation.pools.items()
        if pool.top < node
    }
    place = torch.arange(size)
    return Start(Multipliers(slopes, gamma=gamma), place, place + size)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_octahedral_bounds(k: int, dtype: str) -> None:
    tight = 0
    signs = octahedral_rows(k)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        network = wire(rng)
        known = pieces(network, LOWER, UPPER)
        miner = miner_of(network, Box([LOWER], [UPPER]), dtype)
        miner.propagate()
        miner.bound(plain(miner.relaxation.program, rng.normal(size=(1, 3, 1, 2))))
        for node in miner.relaxation.bounds:
            size = network.nodes[node].size
            groups = np.array([rng.permutation(size)[:k] for _ in range(4)])
            wanted = rng.random((4, len(signs))) < 0.7
            for start, mask in (
                (None, None),
                (start_of(rng, miner.relaxation, node, size), wanted),
            ):
                ascent = Ascent(int(rng.integers(3)) * 4)
                found = octahedral_bounds(miner.relaxation, node, groups, ascent, start, mask)
                several = np.count_nonzero(signs, axis=1) > 1
                asked_for = np.ones_like(wanted) if mask is None else mask | ~several
                assert np.array_equal(np.isfinite(found), asked_for)
                sums = known.values[node][:, groups] @ fractions(signs.astype(float)).T
                for g, r in zip(*np.nonzero(asked_for), strict=True):
                    largest = max(sums[:, g, r])
                    assert largest <= Fraction(found[g, r])
                    tight += bool(largest >= Fraction(found[g, r]) - Fraction(1, 10**4))
    assert tight > 20


@pytest.mark.parametrize("dtype", DTYPES)
def test_groups_chosen_beforehand(dtype: str) -> None:
    rows = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        network = wire(rng)
        known = pieces(network, LOWER, UPPER)
        cases = asked(rng, known, "many")
        least = margins_on(cases, known).min(axis=1)
        program = Program.compile(network, dtype=DTYPES[dtype])
        box = program.enclosing(cases[0].box.lower, cases[0].box.upper)
        short = Ascent(5)
        for facets in (False, True):
            scheme = Scheme(prima(3, 2, 4), facets, short, short, short)
            found = krelu_margins(program, *box, objective_of(program, cases), scheme)
            rows += sum(found.rows.values())
            for bound, truth in zip(found.lower.double().tolist(), least, strict=True):
                assert Fraction(bound) <= truth
    assert rows > 30


def test_groups_of_a_network_without_rectifiers() -> None:
    program = Program.compile(dense(2, 2))
    objective = plain(program, np.ones((1, 1, 1, 2)))
    box = program.enclosing(np.zeros(2), np.zeros(2))
    found = krelu_margins(program, *box, objective, Scheme(prima()))
    assert float(found.lower) == pytest.approx(
        float(program.network.evaluate(np.zeros((1, 2))).sum())
    )
