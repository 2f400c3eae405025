"""Values that pass a layer in linear programs: what they tell, and that their rows hold."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from exactly import Rng, fractions, model_of
from test_krelu import maximum
from test_passing import BOX, relaxed, skipping, values_at
from test_pools import DTYPES

import hullmark as hm
from hullmark.bounds.objective import output_objective
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation
from hullmark.cuts import separators
from hullmark.cuts.kpoly import KPolyOptions, kpoly
from hullmark.cuts.separators import ReluGroups, propagated_groups, propagated_passing
from hullmark.encode import Inequalities
from hullmark.joint.store import Layer
from hullmark.relax.octahedra import Octahedra
from hullmark.relax.separate import JointRows, rows_for, separate_from
from hullmark.rows import Value
from hullmark.spec.sets import Box

PASSES = [("inputs", 0.0), ("inputs", 0.25), ("hidden", 0.0), ("hidden", -0.5)]


@pytest.mark.parametrize("method", ["krelu", "kpoly"])
@pytest.mark.parametrize(("before", "slope"), [*PASSES, ("stable", 0.0), ("two nodes", 0.0)])
def test_linear_programs_know_the_maximum_of_two_values(
    before: str, slope: float, method: str
) -> None:
    network, box = maximum(before, slope), Box([-1, -1], [1, 1])
    found = hm.bound(model_of(network), box, method=method)
    ends = found.lower[0], found.upper[0]
    assert -1 - 1e-9 < ends[0] <= -1 < 1 <= ends[1] < 1 + 1e-9
    rows = found.joint_rows()
    assert len(rows) == found.rows > 0 and all(row.derived() for row in rows)
    assert not any(replace(row, rhs=row.rhs - 1e-9).derived() for row in rows)
    alone = hm.bound(model_of(network), box, method=method, k=1)
    assert alone.rows == 0 and alone.upper[0] > 2 - 1e-9


def checked(rows: Inequalities, layer: Layer) -> None:
    """Each row is what its derivation proves, or is less."""
    for i, row in enumerate(rows.derived()):
        terms = slice(rows.start[i], rows.start[i + 1])
        named = zip(rows.node[terms], rows.neuron[terms], strict=True)
        own = zip((Value(*n) for n in named), rows.coefficient[terms], strict=True)
        assert row.terms and set(row.terms) == set(own)
        assert {name.node for name, _ in row.terms} <= set(layer.nodes)
        assert row.derived() and row.rhs <= rows.rhs[i]


def separators_of(relaxation: Relaxation, node: int, rng: Rng) -> Iterator[ReluGroups]:
    """Those that the layer asks for, and others of any coordinates."""
    yield from propagated_passing(relaxation, node)
    layer = Layer.of(relaxation.program, node)
    for k in (2, 3):
        some = [rng.choice(layer.space.starts[-1], k, replace=False) for _ in range(12)]
        yield propagated_groups(relaxation, node, np.sort(np.array(some), axis=1))


def points_beside(values: list[np.ndarray], rng: Rng) -> Iterator[dict[int, np.ndarray]]:
    """Averages of what the nodes are at several points, and then off these, in floats."""
    for _ in range(8):
        mix = rng.dirichlet(np.full(len(values[0]), 0.3))
        means = [mix @ v.astype(float) for v in values]
        yield {j: mean + rng.normal(size=len(mean)) / 4 for j, mean in enumerate(means)}


def excesses(rows: Inequalities, values: list[np.ndarray]) -> np.ndarray:
    """How far points are beyond rows, exactly; `(rows, N)`."""
    found = np.repeat(-fractions(rows.rhs)[:, None], len(values[0]), axis=1)
    term = np.repeat(np.arange(len(rows)), np.diff(rows.start))
    each = zip(term, rows.node, rows.neuron, fractions(rows.coefficient), strict=True)
    for row, node, neuron, factor in each:
        found[row] += factor * values[node][:, neuron]
    return found


@pytest.mark.parametrize("dtype", DTYPES)
def test_separated_rows_with_passing_values_hold_exactly(dtype: str) -> None:
    passing, tight = 0, 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        network = skipping(rng)
        relaxation, values = relaxed(network, BOX, dtype), values_at(network, rng)
        for node in relaxation.program.slopes:
            layer = Layer.of(relaxation.program, node)
            separators = list(separators_of(relaxation, node, rng))
            for point in points_beside(values, rng):
                rows = Inequalities.joined([separator(point) for separator in separators])
                assert np.all(rows.excess(point) > 0)
                beyond = excesses(rows, values)
                assert np.all(beyond <= 0)
                tight += int((beyond > -1e-3).any(axis=1).sum())
                passing += int(np.isin(rows.node, layer.space.nodes[1:]).sum())
                assert len(rows.derived()) == len(rows)
                checked(rows, layer)
    assert passing > 100 and tight > 100


def test_what_a_row_says_of_a_value_after_the_layer_is_charged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng, lost = np.random.default_rng(0), 0

    def parted(groups: Octahedra, x: np.ndarray, y: np.ndarray) -> JointRows:
        """Rows that say some of it there, which is proved anew."""
        nonlocal lost
        rows = separate_from(groups, x, y)
        passing = groups.negative[rows.group] == groups.positive[rows.group]
        share = passing * rng.uniform(-0.5, 0.5, rows.x.shape)
        both = np.concatenate([rows.x - share, rows.y + share], axis=1)
        rows = rows_for(groups, rows.group, both)
        total = np.where(passing, rows.x + rows.y, 0.0)
        lost += int((total != total.astype(np.float32)).sum())
        return rows

    monkeypatch.setattr(separators, "separate_from", parted)
    for _ in range(6):
        network = skipping(rng)
        relaxation, values = relaxed(network, BOX), values_at(network, rng)
        for node in relaxation.program.slopes:
            for separator in propagated_passing(relaxation, node):
                for point in points_beside(values, rng):
                    checked(separator(point), Layer.of(relaxation.program, node))
    assert lost > 20


@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_programs_over_passing_values_hold_exactly(dtype: str) -> None:
    gained = 0.0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        network = skipping(rng)
        program, values = Program.compile(network, dtype=DTYPES[dtype]), values_at(network, rng)
        sides, goal = program.enclosing(BOX.lower, BOX.upper), output_objective(program)
        alone, found = (
            kpoly(program, *sides, goal, KPolyOptions(2, passing=some)).lower
            for some in (False, True)
        )
        gained += float((found - alone).sum())
        lower, upper = fractions(found[:2]), -fractions(found[2:])
        assert all(np.all((lower <= y) & (y <= upper)) for y in values[-1])
        for method in ("krelu", "kpoly"):
            both = hm.bound(model_of(network), BOX, method=method)
            lower, upper = fractions(both.lower), fractions(both.upper)
            assert all(np.all((lower <= y) & (y <= upper)) for y in values[-1])
    assert gained > 0.01
