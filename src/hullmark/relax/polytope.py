"""Bounded polyhedra, exactly: vertices from inequalities, facets from points."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hullmark.errors import BadInput, VacuousProperty
from hullmark.relax.cone import Cone, cut, normalised, whole_space
from hullmark.relax.exact import primitive_rows

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Facets:
    """The convex hull of a list of points in `R^d`, as inequalities.

    It is `{z : rows · z <= rhs, equations · z == constants}`; `rows` `(m, d)`, `rhs` `(m,)`,
    `equations` `(e, d)`, `constants` `(e,)`, all primitive integers (dtype object). No inequality
    can be left out. The equations are in reduced echelon form from the last coordinate
    backwards, and no inequality uses a coordinate that an equation determines; rows are sorted.
    """

    rows: Array
    rhs: Array
    equations: Array
    constants: Array


def homogenised(A: Array, b: Array) -> Cone:
    """The cone over `{x : A x <= b}`, in `R^{1+k}`; over integers, from fractions.

    Arguments:
        A, b: shapes `(m, k)` and `(m,)`, fractions or integers.

    Raises:
        BadInput: if the set is unbounded; the message shows a direction.
        VacuousProperty: if it is empty.
        Unsupported: if it is too large.

    Trust: exact. Each ray `(t, t x)`, `t > 0`, is a vertex `x`; there are no others.
    """
    dimension = A.shape[1]
    cone = whole_space(1 + dimension, exact=True)
    upright = np.zeros(1 + dimension, dtype=object)
    upright[0] = 1
    cone = cut(cone, upright)
    rows = primitive_rows(np.column_stack([b, -A]))
    for row in in_order(rows.tolist(), 1 + dimension):
        cone = cut(cone, row)
    if not np.any(cone.rays[:, 0] > 0):
        raise VacuousProperty("the set {x : A x <= b} is empty")
    endless = np.concatenate([cone.lines, cone.rays[cone.rays[:, 0] == 0]])
    if len(endless):
        raise BadInput(
            "the set {x : A x <= b} is unbounded in the direction "
            f"({', '.join(str(value) for value in endless[0, 1:])})"
        )
    return cone


def points_of(cone: Cone) -> Array:
    """The vertices `(n, k)` of a homogenised polytope, fractions, sorted."""
    points = [[Fraction(value, ray[0]) for value in ray[1:]] for ray in cone.rays]
    return in_order(points, cone.rays.shape[1] - 1)


def vertices_of(A: Array, b: Array) -> Array:
    """The vertices `(n, k)` of `{x : A x <= b}`, fractions, sorted; raises as `homogenised`."""
    return points_of(homogenised(A, b))


def in_order(rows: list[list[Any]], width: int) -> Array:
    """Distinct rows as an array `(n, width)` of dtype object, sorted lexicographically."""
    distinct = sorted({tuple(row) for row in rows})
    result = np.empty((len(distinct), width), dtype=object)
    for index, row in enumerate(distinct):
        result[index] = row
    return result


def facets_of(points: Array) -> Facets:
    """The convex hull of points `(n, d)`, fractions or integers, `n >= 1`.

    Raises:
        Unsupported: if it has too many facets.

    Trust: exact, and complete.
    """
    dimension = points.shape[1]
    ones = np.full((len(points), 1), Fraction(1), dtype=object)
    cone = whole_space(1 + dimension, exact=True)
    # Lexicographic order keeps the intermediate hulls small [Fukuda96].
    for normal in primitive_rows(np.column_stack([points, ones])):
        cone = cut(cone, normal)
    # A ray (-a, b) says b - a·v >= 0 for every point v, and a line says b - a·v == 0.
    lines, pivots = _echelon(cone.lines)
    rays = cone.rays
    for line, pivot in zip(lines, pivots, strict=True):
        sign = 1 if line[pivot] > 0 else -1
        rays = rays * (line[pivot] * sign) - rays[:, pivot : pivot + 1] * (line * sign)
    rays = normalised(rays)
    rays = rays[np.any(rays[:, :-1] != 0, axis=1)]
    rows = in_order([[-v for v in ray[:-1]] + [ray[-1]] for ray in rays], 1 + dimension)
    equal = normalised(np.column_stack([lines[:, :-1], -lines[:, -1:]]))
    return Facets(rows[:, :-1], rows[:, -1], equal[:, :-1], equal[:, -1])


def _echelon(lines: Array) -> tuple[Array, list[int]]:
    """The same row space in reduced echelon form, pivots positive, from the last-but-one column.

    The last column is the constant of the equation and never a pivot: a line without any other
    entry would say that a constant vanishes.
    """
    left = lines.copy()
    done = 0
    pivots: list[int] = []
    for column in reversed(range(lines.shape[1] - 1)):
        candidates = np.flatnonzero(left[done:, column] != 0)
        if len(candidates) == 0:
            continue
        pick = done + int(candidates[0])
        left[[done, pick]] = left[[pick, done]]
        if left[done, column] < 0:
            left[done] = -left[done]
        for other in range(len(left)):
            if other != done:
                left[other] = left[other] * left[done, column] - left[done] * left[other, column]
        left = normalised(left)
        done += 1
        pivots.append(column)
    return left, pivots
