"""Polytopes in exact arithmetic, by vertices and inequalities at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hullmark.errors import BadInput, Unsupported, VacuousProperty
from hullmark.exact import figures, nearest
from hullmark.relax.cone import Cone, cut
from hullmark.relax.exact import Array, as_fraction, as_fractions, primitive, primitive_rows
from hullmark.relax.polytope import facets_of, homogenised, in_order, points_of

MOST_CORNERS = 2**16
"""The vertices of a box with more corners are not listed."""


@dataclass(frozen=True, eq=False)
class Polytope:
    """A bounded polyhedron that is not empty.

    Make one by `box`, `inequalities` or `hull`; `cut` and `image` make further ones. `made`
    homogenises it, with its vertices for rays; `given` are its facets `(A, b)`. At least one of
    the two is known, and the other is found when it is needed.

    Trust: exact.
    """

    made: Cone | None
    given: tuple[Array, Array] | None = None

    @staticmethod
    def box(lower: ArrayLike, upper: ArrayLike) -> Polytope:
        """`lower <= x <= upper`, both `(d,)`, numbers of any kind.

        Raises:
            BadInput: if a number is not finite or the shapes differ.
            VacuousProperty: if a lower end is above the upper one; names the coordinate.
        """
        low, high = as_fractions(lower, "lower", 1), as_fractions(upper, "upper", 1)
        if len(low) != len(high) or not len(low):
            raise BadInput(f"a box has {len(low)} lower and {len(high)} upper ends")
        for j, (a, b) in enumerate(zip(low, high, strict=True)):
            if a > b:
                ends = " to ".join(figures(v, 40) or f"{nearest(v):g}" for v in (a, b))
                raise VacuousProperty(f"the box is empty: coordinate {j} from {ends}")
        eye = np.eye(len(low), dtype=np.int64).astype(object)
        return Polytope(None, (np.concatenate([eye, -eye]), np.concatenate([high, -low])))

    @staticmethod
    def inequalities(A: ArrayLike, b: ArrayLike) -> Polytope:
        """`{x : A x <= b}`, `A` `(m, d)`, `b` `(m,)`, numbers of any kind.

        Raises:
            BadInput: if a shape or number is wrong, or the set is unbounded.
            VacuousProperty: if it is empty.
            Unsupported: if it is too large.
        """
        rows, sides = as_fractions(A, "A", 2), as_fractions(b, "b", 1)
        if len(rows) != len(sides) or not rows.shape[1]:
            raise BadInput(f"A has shape {rows.shape}, b has {len(sides)} entries")
        return Polytope(homogenised(rows, sides))

    @staticmethod
    def hull(points: ArrayLike) -> Polytope:
        """The convex hull of points `(n, d)`.

        Raises:
            BadInput: if there is none.
            Unsupported: if it has too many facets.
        """
        given = as_fractions(points, "points", 2)
        if not given.size:
            raise BadInput("the convex hull of no points")
        rows, sides = _facets(in_order(given.tolist(), given.shape[1]))
        return Polytope(homogenised(rows, sides), (rows, sides))

    @cached_property
    def cone(self) -> Cone:
        """The homogenised set, with its vertices for rays.

        Raises:
            Unsupported: if a box has over `MOST_CORNERS` of them.
        """
        if self.made is not None:
            return self.made
        rows, sides = self.facets
        # Only boxes come without their vertices.
        if 2**self.size > MOST_CORNERS:
            raise Unsupported(
                f"too large to be exact: a box in {self.size} dimensions has 2^{self.size} corners "
                f"(limit {MOST_CORNERS}); take a relaxation by linear programs, as the triangle"
            )
        return homogenised(rows, sides)

    @property
    def size(self) -> int:
        """The number of coordinates."""
        return self.facets[0].shape[1] if self.made is None else self.made.rays.shape[1] - 1

    @cached_property
    def vertices(self) -> Array:
        """Its vertices `(n, d)`, fractions, sorted."""
        return points_of(self.cone)

    @cached_property
    def dimension(self) -> int:
        """Of its affine hull; 0 for a point."""
        return rank(self.vertices[1:] - self.vertices[0])

    @cached_property
    def facets(self) -> tuple[Array, Array]:
        """`(A, b)` with `{x : A x <= b}` this set, irredundant; two rows for each equation."""
        return _facets(self.vertices) if self.given is None else self.given

    def cut(self, normal: Iterable[Any], offset: Any) -> Polytope | None:
        """The part where `normal · x + offset >= 0`; None if there is none."""
        rest = cut(self.cone, _plane(normal, offset))
        return Polytope(rest) if len(rest.rays) else None

    def sides(self, normal: Iterable[Any], offset: Any) -> tuple[bool, bool]:
        """Whether `normal · x + offset` is positive somewhere, and negative somewhere."""
        heights = self.cone.rays @ _plane(normal, offset)
        return bool(np.any(heights > 0)), bool(np.any(heights < 0))

    def range(self, normal: Iterable[Any], offset: Any = 0) -> tuple[Fraction, Fraction]:
        """The least and the largest value of `normal · x + offset`."""
        row = as_fractions(np.array(list(normal), dtype=object), "the normal", 1)
        heights = np.dot(self.vertices, row) + as_fraction(offset, "the offset")
        return min(heights), max(heights)

    def image(self, weight: Array, bias: Array) -> Polytope:
        """`{weight @ x + bias}`."""
        return Polytope.hull(np.dot(self.vertices, weight.T) + bias)

    def contains(self, x: ArrayLike) -> bool:
        """Whether a point `(d,)` is in the set."""
        rows, sides = self.facets
        return bool(np.all(rows @ as_fractions(x, "x", 1) <= sides))

    def centre(self) -> Array:
        """The mean of the vertices, a point of the relative interior."""
        return self.vertices.sum(axis=0) * Fraction(1, len(self.vertices))


def rank(rows: Array) -> int:
    """The rank of a matrix of fractions."""
    left = primitive_rows(rows) if len(rows) else rows
    done = 0
    for column in range(left.shape[1]):
        picks = np.flatnonzero(left[done:, column] != 0)
        if len(picks) == 0:
            continue
        pick = done + int(picks[0])
        left[[done, pick]] = left[[pick, done]]
        for other in range(done + 1, len(left)):
            if left[other, column]:
                left[other] = left[other] * left[done, column] - left[done] * left[other, column]
        done += 1
        if done == len(left):
            break
    return done


def _plane(normal: Iterable[Any], offset: Any) -> Array:
    """Offset and normal as primitive integers."""
    numbers = [
        v if isinstance(v, int | Fraction) else as_fraction(v, "the normal")
        for v in (offset, *normal)
    ]
    return np.array(primitive([Fraction(v) for v in numbers]), dtype=object)


def _facets(points: Array) -> tuple[Array, Array]:
    """The facets of the convex hull of points."""
    found = facets_of(points)
    rows = np.concatenate([found.rows, found.equations, -found.equations])
    return rows, np.concatenate([found.rhs, found.constants, -found.constants])
