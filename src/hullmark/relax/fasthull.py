"""Hulls of many octahedral groups at once: a few good rows each, or every facet.

`fast_hull` tightens each octahedral row to touch the hull on both sides of every kink, coordinate
by coordinate [WraLU]; the order of the coordinates matters, so all orders are taken.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hullmark.relax.batch import proved_together
from hullmark.relax.cone import facet_directions
from hullmark.relax.flat import flattened
from hullmark.relax.octahedra import Octahedra, octahedra, octahedral_rows
from hullmark.relax.separate import JointRows, rows_for

Array = NDArray[Any]

_CHUNK = 16
_NEVER = 1e30
_APART = 1e-9
_DIGITS = 2.0**30


@dataclass(frozen=True, eq=False)
class _Clouds:
    """Vertices of groups `(G, n, k)`, short clouds padded by repetition.

    Coordinates are in units of `size` `(G, k)`, powers of two about as large as the coordinates.
    `kinked` `(G, k)` says where the two slopes differ.
    """

    points: Array
    size: Array
    kinked: Array


def fast_hull(bounds: ArrayLike, negative: ArrayLike = 0.0, positive: ArrayLike = 1.0) -> JointRows:
    """A tight relaxation of `conv{(x, f(x))}` for each group of a batch, by a few rows.

    With the octahedral rows themselves they are the whole hull for `k = 1` and nearly all of it
    for `k` 2 and 3: almost all of what separates the triangles from the hull, see the benchmarks.

    Arguments:
        bounds: sound upper bounds `(G, 3^k - 1)` of `octahedral_rows(k) @ x`, `k <= 3`.
        negative, positive: the slopes of `f`: one number, `(k,)` or `(G, k)`.

    Returns:
        About 12 rows for a pair of ReLUs and 50 for a triple, sorted by group; every facet, about
        as many, where the group is nearly flat, see `flattened`. No rows for a group in which a
        coordinate is unbounded or whose vertices were not found.

    Raises:
        BadInput, Unsupported: as `octahedra`.

    Trust: see `JointRows`; how tight the rows are is up to rounding.
    """
    groups = octahedra(bounds, negative, positive)
    filled = np.flatnonzero(np.diff(groups.start) > 0)
    flat, thin = flattened(groups)
    index, normals = _facets(thin)
    parts = [_lines(groups, filled), (flat[index], normals)]
    swept = np.setdiff1d(filled, flat)
    for at in range(0, len(swept), _CHUNK):
        some = swept[at : at + _CHUNK]
        clouds = _clouds(groups, some)
        parts.append(_directions(groups, some, clouds.size, _swept(clouds)))
    group = np.concatenate([part[0] for part in parts])
    directions = np.concatenate([part[1] for part in parts])
    order = np.argsort(group, kind="stable")
    return rows_for(groups, group[order], directions[order], proved_together)


def all_facets(
    bounds: ArrayLike, negative: ArrayLike = 0.0, positive: ArrayLike = 1.0
) -> JointRows:
    """Every facet of `conv{(x, f(x))}` for each group of a batch, as far as floats can tell.

    Arguments:
        bounds, negative, positive: as in `fast_hull`.

    Returns:
        Rows sorted by group. A flat hull has opposite rows for each equation.

    Raises:
        BadInput, Unsupported: as `octahedra`.

    Trust: each row as `JointRows` says; that none is missing is up to rounding.
    """
    groups = octahedra(bounds, negative, positive)
    return rows_for(groups, *facet_normals(groups), proved_together)


def facet_normals(groups: Octahedra) -> tuple[Array, Array]:
    """The group `(m,)` and the normal `(m, 2k)` over `(x, y)`, largest entry 1, of each facet.

    A group that is nearly `flattened` has the facets of the flat one.

    Trust: none; the normals come from vertices in floats.
    """
    flat, thin = flattened(groups)
    others = np.setdiff1d(np.arange(len(groups.bounds)), flat)
    (index, normals), (at, more) = _facets(groups.selected(others)), _facets(thin)
    group, normals = np.concatenate([others[index], flat[at]]), np.concatenate([normals, more])
    order = np.argsort(group, kind="stable")
    return group[order], normals[order]


def _facets(groups: Octahedra) -> tuple[Array, Array]:
    """`facet_normals` of the groups as they are."""
    lifted = groups.lifted()
    normals: list[Array] = [np.empty((0, 2 * groups.k))]
    counts = np.zeros(len(groups.bounds), dtype=np.intp)
    for index in range(len(groups.bounds)):
        chosen = slice(groups.start[index], groups.start[index + 1])
        points = lifted[chosen][groups.first[chosen]]
        if len(points):
            unit = _power(np.abs(points).max(axis=0))
            found = facet_directions(points / unit) / unit
            counts[index] = len(found)
            normals.append(found / np.abs(found).max(axis=1, keepdims=True))
    return np.repeat(np.arange(len(counts)), counts), np.concatenate(normals)


def _power(values: Array) -> Array:
    """Powers of two that are at least the values; 1 for 0."""
    return np.where(values > 0, np.ldexp(1.0, np.frexp(values)[1]), 1.0)


def _clouds(groups: Octahedra, some: Array) -> _Clouds:
    """The distinct vertices of some groups, each of which has one."""
    part = groups.selected(some)
    points, group = part.points[part.first], part.group[part.first]
    start = np.searchsorted(group, np.arange(len(some)))
    counts = np.bincount(group, minlength=len(some))
    place = np.minimum(np.arange(counts.max()), counts[:, None] - 1)
    padded = points[start[:, None] + place]
    size = _power(np.abs(padded).max(axis=1))
    return _Clouds(padded / size[:, None], size, part.negative != part.positive)


def _swept(clouds: _Clouds) -> Array:
    """Octahedral rows tightened in every order of the coordinates.

    A row `sum_j (x_j > 0 ? q_j : p_j) x_j <= rhs` is kept as `(q, p, rhs, 1)`. Raising `q_j` takes
    from the slack of the vertices with `x_j > 0` only, lowering `p_j` from those with `x_j < 0`.

    Returns:
        Shape `(G, k! M, 2k)`, the `q` and `p`.
    """
    k = clouds.points.shape[2]
    ratios = _ratios(clouds)
    rows = octahedral_rows(k) * clouds.size[:, None]
    # A bound may be infinite, or loose: the vertices say where the row touches.
    offsets = (rows @ clouds.points.swapaxes(1, 2)).max(axis=2, keepdims=True)
    ones = np.ones((*rows.shape[:2], 1))
    start = np.concatenate([rows, rows, offsets, ones], axis=2)
    pending, done = [(start, tuple(range(k)))], []
    while pending:
        state, left = pending.pop()
        if not left:
            done.append(state[:, :, : 2 * k])
        for j in left:
            steps = [(state @ ratio).min(axis=2) for ratio in ratios[j]]
            pending.append((_stepped(state, j, steps, clouds.kinked), tuple(set(left) - {j})))
    return np.concatenate(done, axis=1)


def _ratios(clouds: _Clouds) -> list[tuple[Array, Array]]:
    """For each coordinate and side a matrix `(G, 2k + 2, n)` from rows to slack over `|x_j|`."""
    points = clouds.points
    high, low = np.maximum(points, 0.0), np.minimum(points, 0.0)
    ones = np.ones((*points.shape[:2], 1))
    slack = np.concatenate([-high, -low, ones, np.zeros_like(ones)], axis=2)
    result: list[tuple[Array, Array]] = []
    for j in range(points.shape[2]):
        sides: list[Array] = []
        for distance in (high[:, :, j], -low[:, :, j]):
            beyond = distance > _APART
            matrix = slack * np.where(beyond, 1.0 / np.where(beyond, distance, 1.0), 0.0)[..., None]
            # Vertices on the other side do not limit the step.
            matrix[:, :, -1] = np.where(beyond, 0.0, _NEVER)
            sides.append(np.ascontiguousarray(matrix.swapaxes(1, 2)))
        result.append((sides[0], sides[1]))
    return result


def _stepped(state: Array, j: int, steps: list[Array], kinked: Array) -> Array:
    """The rows with the largest steps in `q_j` and `p_j`; with equal slopes on a stable side."""
    k = kinked.shape[1]
    up, down = (np.maximum(step, 0.0) for step in steps)
    moving = kinked[:, j, None]
    right = np.where(moving & (up < _NEVER / 2), up, 0.0) + state[:, :, j]
    left = state[:, :, k + j] - np.where(moving & (down < _NEVER / 2), down, 0.0)
    after = state.copy()
    after[:, :, j] = np.where(up < _NEVER / 2, right, left)
    after[:, :, k + j] = np.where(down < _NEVER / 2, left, right)
    return after


def _directions(groups: Octahedra, some: Array, size: Array, slopes: Array) -> tuple[Array, Array]:
    """The group and the distinct directions `(m, 2k)` over `(x, y)` of rows given by slopes."""
    k = groups.k
    largest = np.abs(slopes).max(axis=2, keepdims=True)
    unit = slopes / np.where(largest > 0, largest, 1.0)
    index, row = _distinct(unit)
    chosen = unit[index, row] / np.tile(size[index], 2)
    group = some[index]
    right, left = chosen[:, :k], chosen[:, k:]
    negative, gap = groups.negative[group], (groups.positive - groups.negative)[group]
    y = np.where(gap != 0, (right - left) / np.where(gap != 0, gap, 1.0), 0.0)
    return group, np.concatenate([left - negative * y, y], axis=1)


def _distinct(rows: Array) -> tuple[Array, Array]:
    """Where the first of each set of rows is that agree to nine digits; `rows` `(G, R, w)`."""
    whole = np.round(rows * _DIGITS).astype(np.int64).view(np.uint64)
    odd = np.random.default_rng(0).integers(1, 2**63, size=rows.shape[2], dtype=np.uint64) * 2 + 1
    mixed = (whole * odd).sum(axis=2, dtype=np.uint64) >> np.uint64(16)
    key = mixed | (np.arange(len(rows), dtype=np.uint64)[:, None] << np.uint64(48))
    first = np.sort(np.unique(key, return_index=True)[1])
    return first // rows.shape[1], first % rows.shape[1]


def _lines(groups: Octahedra, some: Array) -> tuple[Array, Array]:
    """The lines through zero that bound each function alone, as directions `(m, 2k)`.

    Both slopes bound a convex function from below; where a coordinate is stable, its line also
    bounds it from above, and one direction or the other proves to be of use.
    """
    k = groups.k
    rows = np.zeros((len(some), 3, k, 2 * k))
    at = np.arange(k)
    negative, positive = groups.negative[some], groups.positive[some]
    shape = octahedral_rows(k)
    units = [int(np.flatnonzero((shape == unit).all(axis=1))[0]) for unit in np.eye(k)]
    active = -groups.bounds[some][:, [len(shape) - 1 - unit for unit in units]] >= 0
    inactive = groups.bounds[some][:, units] <= 0
    sign = np.where(positive >= negative, 1.0, -1.0)
    for place, slope in enumerate((negative, positive)):
        rows[:, place, at, at] = sign * slope
        rows[:, place, at, k + at] = -sign
    stable = active | inactive | (negative == positive)
    line = np.where(active, positive, negative)
    rows[:, 2, at, at] = np.where(stable, -sign * line, 0.0)
    rows[:, 2, at, k + at] = np.where(stable, sign, 0.0)
    rows[:, 1][(negative == positive)] = 0.0
    return np.repeat(some, 3 * k), rows.reshape(-1, 2 * k)
