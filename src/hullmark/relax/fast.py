"""Facets found in floating point, each with a right-hand side that is proved.

A vertex list in floats proves nothing: a tolerance that drops one vertex makes a wrong row. So the
vertices only guess the left-hand side of a row, and weak duality proves its right-hand side.
"""

from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hullmark.exact import round_up
from hullmark.relax.bases import enumerate_bases, proven_box, scaled_polyhedron
from hullmark.relax.batch import proved_together
from hullmark.relax.cone import facet_directions
from hullmark.relax.duality import Evidence, proven_bounds
from hullmark.relax.fasthull import facet_normals
from hullmark.relax.octahedra import LARGEST_GROUP, octahedra, octahedral_rows
from hullmark.relax.pieces import Pieces

Array = NDArray[Any]
Signs = tuple[int, ...]


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
        bounds = octahedral_bounds(A, b)
        slopes = [_floats_exactly(values) for values in (pieces.negative, pieces.positive)]
        if bounds is not None and slopes[0] is not None and slopes[1] is not None:
            return _from_batch(bounds, slopes[0], slopes[1])
        return _searched(A, b, pieces)
    except OverflowError:
        return None


def octahedral_bounds(A: Array, b: Array) -> Array | None:
    """The set as an octahedral group `(3^k - 1,)`, if all its rows are octahedral.

    Arguments:
        A, b: fractions, shapes `(m, k)` and `(m,)`.

    Returns:
        Float bounds, rounded up and infinite where there is no row; None if a row has another
        direction, `k` is too large, or no row or sum of two rows bounds some coordinate.

    Trust: the set with these bounds contains the one asked for.
    """
    k = A.shape[1]
    if k > LARGEST_GROUP:
        return None
    known: dict[Signs, Fraction] = {}
    for row, bound in zip(A.tolist(), b.tolist(), strict=True):
        size = max(map(abs, row))
        if size == 0 or any(abs(v) not in (0, size) for v in row):
            return None
        signs = tuple(int(v / size) for v in row)
        offset: Fraction = bound / size
        known[signs] = min(offset, known.get(signs, offset))
    given = list(known.items())
    for unit in (tuple(sign * v for v in row) for sign in (1, -1) for row in _units(k)):
        if unit not in known:
            implied = _implied(unit, given)
            if implied is None:
                return None
            known[unit] = implied
    rows = octahedral_rows(k).tolist()
    return np.array([round_up(known[tuple(r)]) if tuple(r) in known else np.inf for r in rows])


def _units(k: int) -> list[list[int]]:
    return np.eye(k, dtype=int).tolist()


def _implied(unit: Signs, given: list[tuple[Signs, Fraction]]) -> Fraction | None:
    """The least bound of a coordinate that a sum of two rows gives."""
    bounds: list[Fraction] = []
    for (first, d), (second, e) in product(given, repeat=2):
        total = tuple(v + w for v, w in zip(first, second, strict=True))
        if total == unit:
            bounds.append(d + e)
        elif total == tuple(2 * v for v in unit):
            bounds.append((d + e) / 2)
    return min(bounds, default=None)


def _floats_exactly(values: tuple[Fraction, ...]) -> Array | None:
    floats = [float(value) for value in values]
    return np.array(floats) if floats == list(values) else None


def _from_batch(bounds: Array, negative: Array, positive: Array) -> ValidRows | None:
    """The facets as for a batch of one group."""
    groups = octahedra(bounds[None], negative, positive)
    group, rows = facet_normals(groups)
    rhs = proved_together(groups, group, rows[:, : groups.k], rows[:, groups.k :]).rhs
    good = np.isfinite(rhs)
    if not good.any():
        return None
    vertices = groups.lifted()[groups.first] * groups.scale[0]
    return ValidRows(rows[good], rhs[good], vertices)


def _searched(A: Array, b: Array, pieces: Pieces) -> ValidRows | None:
    body = scaled_polyhedron(A, b)
    if body is None:
        return None
    bases = enumerate_bases(body, pieces.kinked)
    box = proven_box(body, bases)
    if box is None:
        return None
    points = _distinct(bases.points, pieces)
    rows = facet_directions(points)
    bounds = proven_bounds(Evidence(body, bases, pieces, box), rows)
    rows, bounds = rows[np.isfinite(bounds)], bounds[np.isfinite(bounds)]
    rhs = np.array([round_up(Fraction(v) * body.scale) for v in bounds.tolist()], np.float64)
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
    rhs = np.array([_height(row, vertices) for row in floats], dtype=np.float64)
    good = np.isfinite(rhs)
    return ValidRows(floats[good], rhs[good], vertices.astype(np.float64))


def _height(row: Array, vertices: Array) -> float:
    """The largest value of a float row over exact vertices, rounded up."""
    rounded = vertices.astype(np.float64)
    heights, sizes = rounded @ row, np.abs(rounded) @ np.abs(row)
    # A vertex further below than the roundings of both cannot be the highest.
    error = 4 * len(row) * np.finfo(np.float64).eps * sizes + np.finfo(np.float64).tiny
    candidates = vertices[~(heights + error < (heights - error).max())]
    exact = np.array([Fraction(v) for v in row.tolist()], dtype=object)
    return round_up(max((candidates @ exact).tolist()))


def _distinct(points: Array, pieces: Pieces) -> Array:
    """The points with their values `(n, 2k)`, one of those that agree to nine digits."""
    points = np.where(np.abs(points) < 1e-12, 0.0, points)
    _, index = np.unique(np.round(points, 9), axis=0, return_index=True)
    points = points[index]
    left, right = (np.array([float(v) for v in p]) for p in (pieces.negative, pieces.positive))
    return np.concatenate([points, np.where(points > 0, points * right, points * left)], axis=1)
