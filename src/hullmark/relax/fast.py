"""Facets found in floating point, each with a right-hand side that is proved.

A vertex list in floats proves nothing: a tolerance that drops one vertex makes a wrong row. So the
vertices only guess the left-hand side of a row, and weak duality proves its right-hand side.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hullmark.relax.bases import enumerate_bases, proven_box, scaled_polyhedron
from hullmark.relax.cone import cut, normalised, whole_space
from hullmark.relax.duality import ROW_BITS, Evidence, proven_bounds
from hullmark.relax.exact import round_up
from hullmark.relax.pieces import Pieces

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class ValidRows:
    """Rows `(m, 2k)` with right-hand sides `(m,)` and vertices `(n, 2k)`, all float64.

    Trust: every row holds on the graph in real arithmetic; the vertices are rounded.
    """

    rows: Array
    rhs: Array
    vertices: Array


def searched_rows(A: Array, b: Array, pieces: Pieces) -> ValidRows | None:
    """The facets of the hull by floating-point search; None where floats cannot settle the set.

    Arguments:
        A, b: the set, fractions, shapes `(m, k)` and `(m,)`.

    Raises:
        Unsupported: if there are too many bases or rows.

    Trust: as `ValidRows`. None says nothing: the set may be empty, unbounded, or just thin.
    """
    try:
        return _searched(A, b, pieces)
    except OverflowError:
        return None


def _searched(A: Array, b: Array, pieces: Pieces) -> ValidRows | None:
    body = scaled_polyhedron(A, b)
    if body is None:
        return None
    bases = enumerate_bases(body, pieces.kinked)
    box = proven_box(body, bases)
    if box is None:
        return None
    points = _distinct(bases.points, pieces)
    rows = _facet_rows(points)
    bounds = proven_bounds(Evidence(body, bases, pieces, box), rows)
    rhs = np.array([round_up(bound * body.scale) for bound in bounds], dtype=np.float64)
    good = np.isfinite(rhs)
    return ValidRows(rows[good], rhs[good], points * float(body.scale))


def rounded_rows(rows: Array, equalities: tuple[Array, Array], vertices: Array) -> ValidRows:
    """Exact facets and equations as float rows, each with the bound that the exact vertices prove.

    Arguments:
        rows, equalities, vertices: as in an exact `ReluHull`.

    Trust: as `ValidRows`.
    """
    both = np.concatenate([rows, equalities[0], -equalities[0]])
    floats = np.array([[v / max(map(abs, row)) for v in row] for row in both.tolist()], np.float64)
    floats = floats.reshape(len(both), vertices.shape[1])
    exact = np.array([[Fraction(v) for v in row] for row in floats.tolist()], dtype=object)
    heights = exact.reshape(floats.shape) @ vertices.T
    rhs = np.array([round_up(max(row)) for row in heights.tolist()], dtype=np.float64)
    good = np.isfinite(rhs)
    return ValidRows(floats[good], rhs[good], vertices.astype(np.float64))


def _distinct(points: Array, pieces: Pieces) -> Array:
    """The points with their values `(n, 2k)`, one of those that agree to nine digits."""
    points = np.where(np.abs(points) < 1e-12, 0.0, points)
    _, index = np.unique(np.round(points, 9), axis=0, return_index=True)
    points = points[index]
    left, right = (np.array([float(v) for v in p]) for p in (pieces.negative, pieces.positive))
    return np.concatenate([points, np.where(points > 0, points * right, points * left)], axis=1)


def _facet_rows(points: Array) -> Array:
    """Directions `(m, 2k)` of the facets of the points, multiples of 2^-40, largest entry 1."""
    cone = whole_space(1 + points.shape[1], exact=False)
    for normal in normalised(np.column_stack([points, np.ones(len(points))])):
        cone = cut(cone, normal)
    directions = -np.concatenate([cone.rays, cone.lines, -cone.lines])[:, :-1]
    size = np.abs(directions).max(axis=1, initial=0)
    directions = directions[size > 1e-9] / size[size > 1e-9, None]
    return np.ldexp(np.round(np.ldexp(directions, ROW_BITS)), -ROW_BITS)
