"""What mining finds, against fractions: rows, hidden bounds, and what counterexamples are."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from exactly import Rng, exactly, fractions, rectified_network
from mining import margins_on, miner_of, moved, plain
from segments import pieces, wire
from test_pools import DTYPES, LOWER, UPPER, asked, true_rows

from hullmark.bounds.alpha import Ascent, Multipliers
from hullmark.bounds.objective import objective_of
from hullmark.bounds.relaxation import Relaxation
from hullmark.joint.octahedron import Start, octahedral_bounds
from hullmark.joint.tighten import Miner
from hullmark.network.graph import Network
from hullmark.relax.octahedra import octahedral_rows
from hullmark.rows import Combined, Row, Value
from hullmark.spec.sets import Box


def inner_values(exact: Network, x: np.ndarray) -> list[np.ndarray]:
    """Exact values `(N, size)` of all nodes."""
    return [v.reshape(len(x), -1) for v in exact.values(fractions(x))]


def excess_of(row: Row, values: list[np.ndarray], k: int) -> Fraction:
    names = [name for name, _ in row.terms]
    assert all(isinstance(name, Value) for name in names)
    return row.excess({name: values[name.node][k, name.neuron] for name in names})


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
        rows = mine.found.rows(assumed=True)
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
            only = objective.select(slice(q, q + 1))
            for _ in range(2):
                shrunk = max(shrunk, case.sweep(10, case.bound(only, 0).coefficients))
            found = case.bound(only, 1).lower
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
