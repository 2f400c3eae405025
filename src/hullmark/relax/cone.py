"""The double description of a polyhedral cone: inequalities in, extreme rays out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hullmark.errors import Unsupported

Array = NDArray[Any]

FLOAT_ZERO = 1e-9
"""A float ray this close to a hyperplane counts as on it; rays and normals have largest entry 1."""

STEP_LIMIT = 1e11
"""Elementary operations that one insertion may take, as predicted before it starts."""

_CHUNK = 4096
_BLOCK = 2e7


@dataclass(frozen=True, eq=False)
class Cone:
    """The cone `{lines · s + raysᵀ · t : t >= 0}`, with the inequalities that made it.

    `lines` `(p, d)` span the lineality space, `rays` `(n, d)` are the extreme rays modulo it, and
    `zeros[i, j]` says that ray `i` lies on the hyperplane of inequality `j`. The entries are
    Python integers without common factor (dtype object), or float64 with largest entry 1.

    Trust: exact over integers. Over floats the rays are a search result that proves nothing.
    """

    lines: Array
    rays: Array
    zeros: NDArray[np.bool_]


def whole_space(dimension: int, exact: bool) -> Cone:
    """All of `R^dimension`, over Python integers if `exact`, else over floats."""
    kind = object if exact else np.float64
    lines = np.eye(dimension, dtype=np.int64).astype(kind)
    return Cone(lines, np.empty((0, dimension), dtype=kind), np.empty((0, 0), dtype=np.bool_))


def cut(cone: Cone, normal: Array) -> Cone:
    """The part of the cone where `normal · z >= 0`; `normal` `(d,)`, of the cone's kind.

    Raises:
        Unsupported: if this step would take more than `STEP_LIMIT` operations.

    Trust: as for the cone.
    """
    on_lines = _heights(cone.lines, normal)
    if np.any(on_lines != 0):
        return _cut_line(cone, normal, on_lines)
    heights = _heights(cone.rays, normal)
    above, on, below = heights > 0, heights == 0, heights < 0
    first, second = _adjacent(cone, np.flatnonzero(above), np.flatnonzero(below))
    born = normalised(
        heights[first, None] * cone.rays[second] - heights[second, None] * cone.rays[first]
    )
    common = cone.zeros[first] & cone.zeros[second]
    keep = above | on
    zeros = np.concatenate([cone.zeros[keep], common])
    column = np.concatenate([on[keep], np.ones(len(first), dtype=np.bool_)])
    rays = np.concatenate([cone.rays[keep], born])
    return Cone(cone.lines, rays, np.column_stack([zeros, column]))


def normalised(rows: Array) -> Array:
    """The rows scaled by positive numbers: primitive integers, or floats with largest entry 1."""
    if len(rows) == 0:
        return rows
    if rows.dtype == object:
        divisors = np.gcd.reduce(rows, axis=1)
        return rows // np.where(divisors == 0, 1, divisors)[:, None]
    largest = np.abs(rows).max(axis=1, keepdims=True)
    return rows / np.where(largest == 0, 1.0, largest)


def _heights(rows: Array, normal: Array) -> Array:
    """`rows · normal`, where a float close to zero is zero."""
    heights = rows @ normal
    if rows.dtype != object:
        heights = np.where(np.abs(heights) <= FLOAT_ZERO, 0.0, heights)
    return heights


def _cut_line(cone: Cone, normal: Array, heights: Array) -> Cone:
    """`cut` where the hyperplane crosses the lineality space: one line becomes a ray."""
    pivot = int(np.argmax(np.abs(heights)))
    sign = 1 if heights[pivot] > 0 else -1
    ray, height = cone.lines[pivot] * sign, heights[pivot] * sign
    others = np.arange(len(cone.lines)) != pivot
    lines = normalised(height * cone.lines[others] - heights[others, None] * ray)
    rays = normalised(height * cone.rays - _heights(cone.rays, normal)[:, None] * ray)
    known = cone.zeros.shape[1]
    old = np.column_stack([cone.zeros, np.ones(len(rays), dtype=np.bool_)])
    new = np.append(np.ones(known, dtype=np.bool_), False)
    return Cone(lines, np.concatenate([rays, ray[None]]), np.concatenate([old, new[None]]))


def _adjacent(cone: Cone, above: Array, below: Array) -> tuple[Array, Array]:
    """The pairs (above, below) of rays that span a face of dimension 2.

    Combinatorial test [Fukuda96]: no third ray lies on every hyperplane that the two share. They
    must share `d − 2` hyperplanes at least, `d` the dimension modulo lines; this sorts most out.
    """
    if len(above) == 0 or len(below) == 0:
        return np.empty(0, dtype=np.intp), np.empty(0, dtype=np.intp)
    rays, known = cone.zeros.shape
    _affordable(cone, float(len(above)) * len(below) * known)
    needed = cone.rays.shape[1] - len(cone.lines) - 2
    zeros = cone.zeros.astype(np.float32)
    pairs = _sharing(zeros, above, below, needed)
    _affordable(cone, float(rays) * len(pairs) * known)
    alone: list[Array] = []
    for start in range(0, len(pairs), _CHUNK):
        part = pairs[start : start + _CHUNK]
        common = zeros[part[:, 0]] * zeros[part[:, 1]]
        holders = (zeros @ common.T == common.sum(axis=1)).sum(axis=0)
        alone.append(part[holders == 2])
    faces = np.concatenate(alone) if alone else pairs
    return faces[:, 0], faces[:, 1]


def _sharing(zeros: Array, above: Array, below: Array, needed: int) -> Array:
    """The pairs `(n, 2)` that share at least `needed` hyperplanes, searched block by block."""
    found: list[Array] = []
    step = max(1, int(_BLOCK // len(below)))
    for start in range(0, len(above), step):
        block = above[start : start + step]
        first, second = np.nonzero(zeros[block] @ zeros[below].T >= needed)
        found.append(np.column_stack([block[first], below[second]]))
    return np.concatenate(found)


def _affordable(cone: Cone, cost: float) -> None:
    if cost > STEP_LIMIT:
        rays, known = cone.zeros.shape
        raise Unsupported(
            f"this polytope is too large for an exact conversion: after {known} inequalities in "
            f"dimension {cone.rays.shape[1]} there are {rays} rays, and the next one would take "
            f"about {cost:.0e} operations (limit {STEP_LIMIT:.0e}); use a smaller group"
        )


def facet_directions(points: Array) -> Array:
    """Outward normals of the facets of the convex hull of points `(n, D)`, in floats.

    Returns:
        Shape `(m, D)`, largest entry 1. A flat hull has opposite normals for each equation.

    Trust: none; they are found up to about nine digits.
    """
    equations, free = _affine_hull(points)
    # Where an equation is left to the cuts, they may take its rounding for a facet.
    normals = np.zeros((0, points.shape[1]))
    if free.any():
        inner = _full_directions(points[:, free])
        normals = np.zeros((len(inner), points.shape[1]))
        normals[:, free] = inner
    directions = np.concatenate([normals, equations, -equations])
    size = np.abs(directions).max(axis=1, initial=0)
    return directions[size > FLOAT_ZERO] / size[size > FLOAT_ZERO, None]


def _full_directions(points: Array) -> Array:
    """Multiples of the facets' normals of a hull that is not flat."""
    cone = whole_space(1 + points.shape[1], exact=False)
    # Lexicographic order keeps the intermediate hulls small [Fukuda96].
    points = points[np.lexsort(points.T[::-1])]
    for normal in normalised(np.column_stack([points, np.ones(len(points))])):
        cone = cut(cone, normal)
    return -np.concatenate([cone.rays, cone.lines, -cone.lines])[:, :-1]


def _affine_hull(points: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Equations of the affine hull, and the coordinates that they leave free.

    Returns:
        Normals `(D - r, D)`, each with one of the other coordinates to itself; a mask `(D,)`.
    """
    _, sizes, axes = np.linalg.svd(points - points.mean(axis=0))
    left = axes[int(np.sum(sizes > FLOAT_ZERO * sizes.max(initial=0))) :]
    free = np.ones(points.shape[1], dtype=np.bool_)
    for done in range(len(left)):
        row, column = divmod(int(np.abs(left[done:]).argmax()), len(free))
        left[[done, done + row]] = left[[done + row, done]]
        left[done] /= left[done, column]
        others = np.arange(len(left)) != done
        left[others] -= left[others, column, None] * left[done]
        free[column] = False
    return left, free
