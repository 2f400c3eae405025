"""Vertices in floating point: every basis of a small polyhedron, and a box that is proved."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from math import ceil, comb, log2
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hullmark.errors import Unsupported
from hullmark.relax.exact import primitive_rows

Array = NDArray[Any]

TOLERANCE = 1e-9
"""How far outside a row a basic point may lie, in a set whose rows are at distance 1 at most."""

BASES_LIMIT = 5_000_000
_DETERMINANT = 1e-7
_CHUNK = 200_000
_ATTEMPTS = 10


@dataclass(frozen=True, eq=False)
class Polyhedron:
    """`{x : A x <= b}`, integers (dtype object); the set asked for is `scale` times it.

    `normals` `(m, k)` and `offsets` `(m,)` are the rows in floats, with normals of length 1, and
    `lengths` `(m,)` the lengths of the integer normals.
    """

    A: Array
    b: Array
    normals: Array
    offsets: Array
    lengths: Array
    scale: Fraction


@dataclass(frozen=True, eq=False)
class Bases:
    """The bases whose points lie in a polyhedron, up to rounding.

    `members` `(n, k)`: the rows of each; an index from `rows` on means a coordinate hyperplane, of
    the coordinate `kinked[index - rows]`. `inverses` `(n, k, k)` of the matrices of normals, and
    `points` `(n, k)`, both float64.
    """

    members: Array
    inverses: Array
    points: Array
    rows: int
    kinked: tuple[int, ...]

    def selected(self, chosen: Array) -> "Bases":
        """Those that a mask `(n,)` chooses."""
        return Bases(
            self.members[chosen],
            self.inverses[chosen],
            self.points[chosen],
            self.rows,
            self.kinked,
        )

    def plain(self) -> "Bases":
        """Those of rows alone, without coordinate hyperplanes."""
        return self.selected(np.all(self.members < self.rows, axis=1))


def scaled_polyhedron(A: Array, b: Array) -> Polyhedron | None:
    """The set of fractions `A x <= b`, scaled by a power of two so that its rows are near.

    Returns:
        None if a row reads `0 <= b` with `b < 0`; other rows without a normal are left out.

    Raises:
        OverflowError: if a number is too large for a float.
    """
    whole = primitive_rows(np.column_stack([A, b]))
    flat = np.all(whole[:, :-1] == 0, axis=1)
    if np.any(whole[flat, -1] < 0):
        return None
    whole = whole[~flat]
    lengths = np.array([float(sum(v * v for v in row[:-1])) ** 0.5 for row in whole.tolist()])
    farthest = max(
        (abs(r[-1]) / s for r, s in zip(whole.tolist(), lengths, strict=True)), default=0
    )
    scale = Fraction(2) ** (ceil(log2(farthest)) if farthest else 0)
    offsets = np.array([Fraction(v) / scale for v in whole[:, -1].tolist()], dtype=object)
    whole = primitive_rows(np.column_stack([whole[:, :-1], offsets]))
    floats = whole.astype(np.float64)
    lengths = np.linalg.norm(floats[:, :-1], axis=1)
    floats /= lengths[:, None]
    return Polyhedron(whole[:, :-1], whole[:, -1], floats[:, :-1], floats[:, -1], lengths, scale)


def enumerate_bases(body: Polyhedron, kinked: tuple[int, ...]) -> Bases:
    """Every choice of `k` rows or coordinate hyperplanes that meet in a point of the set.

    Raises:
        Unsupported: if there are more than `BASES_LIMIT` choices.

    Trust: none; a rounding error may add or lose a basis.
    """
    rows, width = body.normals.shape
    count = comb(rows + len(kinked), width)
    if count > BASES_LIMIT:
        raise Unsupported(
            f"{rows} rows in dimension {width} have {count:.1e} bases to solve "
            f"(limit {BASES_LIMIT:.0e}); use a smaller group"
        )
    normals = np.concatenate([body.normals, np.eye(width)[list(kinked)]])
    offsets = np.concatenate([body.offsets, np.zeros(len(kinked))])
    choices = np.array(list(combinations(range(len(normals)), width)), dtype=np.intp)
    choices = choices.reshape(count, width)
    found: list[tuple[Array, Array, Array]] = []
    for start in range(0, max(1, count), _CHUNK):
        part = choices[start : start + _CHUNK]
        part = part[np.abs(np.linalg.det(normals[part])) > _DETERMINANT]
        inverses = np.linalg.inv(normals[part])
        points = np.einsum("nij,nj->ni", inverses, offsets[part])
        inside = np.all(points @ body.normals.T <= body.offsets + TOLERANCE, axis=1)
        found.append((part[inside], inverses[inside], points[inside]))
    members, inverses, points = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Bases(members, inverses, points, rows, kinked)


def proven_box(body: Polyhedron, bases: Bases) -> tuple[Array, Array] | None:
    """A box `(lower, upper)` of fractions around the set, by multipliers that solve exactly.

    Returns:
        None if it cannot be found, or no point is found to lie exactly in the set: it may then be
        empty or unbounded.

    Trust: exact; a box also shows that the set is bounded and not empty.
    """
    plain = bases.plain()
    # The middle of a set that is not flat is in it beyond all rounding; flat ones need luck.
    middle = bases.points.mean(axis=0) if len(bases.points) else np.zeros(body.A.shape[1])
    inside = np.array([Fraction(v) for v in middle.tolist()], dtype=object)
    if not np.all(body.A @ inside <= body.b) and not any(
        _feasible(body, members) for members in plain.members[:_ATTEMPTS]
    ):
        return None
    width = body.A.shape[1]
    sides: list[list[Fraction]] = []
    for sign in (-1, 1):
        side: list[Fraction] = []
        for coordinate in range(width):
            bound = _extreme(body, plain, coordinate, sign)
            if bound is None:
                return None
            side.append(sign * bound)
        sides.append(side)
    return np.array(sides[0], dtype=object), np.array(sides[1], dtype=object)


def _feasible(body: Polyhedron, members: Array) -> bool:
    point = _solve(body.A[members], body.b[members])
    return point is not None and bool(np.all(body.A @ point <= body.b))


def _extreme(body: Polyhedron, plain: Bases, coordinate: int, sign: int) -> Fraction | None:
    """An upper bound of `sign * x[coordinate]`, from the most promising bases."""
    goal = np.array([sign * (j == coordinate) for j in range(body.A.shape[1])], dtype=object)
    scores = (sign * plain.inverses[:, coordinate, :]).min(axis=1)
    for index in np.argsort(-scores)[:_ATTEMPTS]:
        members = plain.members[index]
        multipliers = _solve(body.A[members].T, goal)
        if multipliers is not None and np.all(multipliers >= 0):
            return sum(multipliers * body.b[members], Fraction(0))
    return None


def _solve(matrix: Array, right: Array) -> Array | None:
    """The solution of a square system, in fractions; None if it is singular."""
    rows = [[Fraction(v) for v in [*row, r]] for row, r in zip(matrix, right, strict=True)]
    size = len(rows)
    for column in range(size):
        pivot = next((i for i in range(column, size) if rows[i][column] != 0), None)
        if pivot is None:
            return None
        rows[column], rows[pivot] = rows[pivot], rows[column]
        lead = rows[column]
        for i in range(size):
            if i != column and rows[i][column] != 0:
                factor = rows[i][column] / lead[column]
                rows[i] = [a - factor * c for a, c in zip(rows[i], lead, strict=True)]
    return np.array([row[-1] / row[i] for i, row in enumerate(rows)], dtype=object)
