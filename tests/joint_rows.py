"""Random octahedral groups, and exact checks of rows over them and of what proves these."""

from fractions import Fraction
from itertools import product

import numpy as np

from hullmark.lp.highs import solve
from hullmark.lp.program import Program, Sparse
from hullmark.relax import relu_hull
from hullmark.relax.octahedra import Octahedra, octahedral_rows, template
from hullmark.relax.separate import JointRows

SLOPES = [(0.0, 1.0), (0.01, 1.0), (-0.5, 0.75), (1.0, 1.0), (0.1, 0.3)]


def fractions(values: np.ndarray) -> list[Fraction]:
    return [Fraction(v) for v in np.asarray(values).tolist()]


def random_bounds(count: int, k: int, rng: np.random.Generator) -> np.ndarray:
    """Support functions of images of boxes, half of them loosened as propagation would."""
    rows = octahedral_rows(k).astype(float)
    maps = rng.normal(size=(count, k, 10)) * (rng.random((count, k, 10)) < 0.6)
    widths = np.abs(maps).sum(axis=2)
    centres = rng.uniform(-0.6, 0.6, size=(count, k)) * widths
    d = np.abs(rows @ maps).sum(axis=2) + centres @ rows.T
    loosen = rng.random((count, 1)) < 0.5
    extra = rng.random(d.shape) * 0.1 * widths.max(axis=1, keepdims=True)
    return d + loosen * extra * (np.abs(rows).sum(axis=1) - 1) + 1e-3


def implied(
    rows: JointRows,
    index: int,
    normals: np.ndarray,
    bounds: np.ndarray,
    slopes: tuple[np.ndarray, np.ndarray],
) -> Fraction:
    """The right-hand side that the stored multipliers prove, in exact arithmetic.

    `normals` `(M, k)` and `bounds` `(M,)` of the row's group, and its slopes, both `(k,)`.
    """
    x, y = fractions(rows.x[index]), fractions(rows.y[index])
    d, k, count = bounds.tolist(), len(x), len(normals)
    sides = [fractions(side) for side in slopes]
    whole = normals.astype(int).tolist()
    best: list[Fraction] = []
    for pattern, signs in enumerate(product((-1, 1), repeat=k)):
        rest = [x[j] + y[j] * sides[signs[j] > 0][j] for j in range(k)]
        total = Fraction(0)
        for member, multiplier in zip(
            rows.members[index, pattern].tolist(),
            fractions(rows.multipliers[index, pattern]),
            strict=True,
        ):
            assert multiplier >= 0
            if multiplier == 0:
                continue
            if member < count:
                total += multiplier * Fraction(d[member])
                rest = [r - multiplier * a for r, a in zip(rest, whole[member], strict=True)]
            else:
                rest[member - count] += multiplier * signs[member - count]
        for j, r in enumerate(rest):
            unit = [0] * k
            unit[j] = 1 if r >= 0 else -1
            total += abs(r) * Fraction(d[whole.index(unit)]) if r else 0
        best.append(total)
    return max(best)


def random_points(groups: Octahedra, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points of the octahedra with values between the function and the chord of each neuron."""
    shape = template(groups.k)
    x = np.zeros((len(groups.bounds), groups.k))
    for g in range(len(x)):
        points = groups.points[groups.start[g] : groups.start[g + 1]]
        x[g] = rng.dirichlet(np.full(len(points), 0.3)) @ points * groups.scale[g]
    upper, lower = groups.bounds[:, shape.upper], -groups.bounds[:, shape.lower]

    def f(v: np.ndarray) -> np.ndarray:
        return np.where(v > 0, groups.positive, groups.negative) * v

    chord = f(lower) + (x - lower) * (f(upper) - f(lower)) / (upper - lower)
    return x, f(x) + (chord - f(x)) * rng.random(x.shape) ** 0.3


def slack(rows: JointRows, index: int, vertices: np.ndarray) -> Fraction:
    """How far the row's right-hand side lies above the exact hull; negative if it is wrong."""
    row = np.array(fractions(np.concatenate([rows.x[index], rows.y[index]])), dtype=object)
    return Fraction(rows.rhs[index]) - max((vertices @ row).tolist())


def check(rows: JointRows, groups: Octahedra, tight: bool = True) -> None:
    """Each row has float32 coefficients and holds exactly; it touches the hull if `tight`."""
    normals = octahedral_rows(groups.k).tolist()
    both = np.concatenate([rows.x, rows.y], axis=1)
    assert np.array_equal(both, both.astype(np.float32).astype(np.float64))
    assert np.array_equal(np.abs(both).max(axis=1, initial=0), np.ones(len(rows)))
    for index in range(len(rows)):
        g = int(rows.group[index])
        slopes = (groups.negative[g], groups.positive[g])
        proved = implied(rows, index, np.array(normals), groups.bounds[g], slopes)
        assert proved <= Fraction(rows.rhs[index])
        hull = relu_hull(
            normals,
            groups.bounds[g].tolist(),
            negative=groups.negative[g].tolist(),
            positive=groups.positive[g].tolist(),
        )
        left = slack(rows, index, hull.vertices)
        assert left >= 0
        if tight:
            # Vertices are known to about 1e-15, and the charge is as small.
            assert left <= 1e-12 * groups.scale[g]


def beyond(rows: JointRows, bounds: np.ndarray, slopes: tuple[list[float], list[float]]) -> float:
    """How far the rows of one group and its bounds leave the worst facet of its exact hull.

    Bounds and slopes are numbers of few digits; relative to the group's largest bound.
    """
    normals = octahedral_rows(len(slopes[0])).astype(np.float64)
    hull = relu_hull(normals.astype(int), bounds, negative=slopes[0], positive=slopes[1])
    sides = (*hull.equalities, hull.rows, hull.rhs)
    A, b, C, d = (np.array(side, dtype=np.float64) for side in sides)
    facets, tops = np.concatenate([A, -A, C]), np.concatenate([b, -b, d])
    size, lengths = np.abs(bounds).max() or 1.0, np.abs(facets).max(axis=1)
    given = np.concatenate([normals, np.zeros_like(normals)], axis=1)
    known = np.concatenate([np.concatenate([rows.x, rows.y], axis=1), given])
    rhs = np.concatenate([rows.rhs, bounds]) / size
    # As its dual, which is feasible wherever rounding has left the rows.
    none, most = np.zeros(len(rhs)), np.full(len(rhs), np.inf)
    worst = 0.0
    for facet, top in zip(facets / lengths[:, None], tops / lengths / size, strict=True):
        found = solve(Program(rhs, Sparse.of(known.T), facet, facet, none, most))
        assert found is not None
        assert np.abs(known.T @ found.point - facet).max() < 1e-6
        worst = max(worst, float(rhs @ found.point - top))
    return worst
