"""Convex sets that are known by prices: the least value that a linear function takes on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
from flint import fmpq
from numpy.typing import NDArray

from hullmark.exact import nearest
from hullmark.relax.exact import Array
from hullmark.theory.polytope import Polytope
from hullmark.theory.regions import Range
from hullmark.verdict import Deadline

Floats = NDArray[np.float64]

UNIT = 2.0**-53
TINY = 2.0**-1000
"""More than any product of moderate numbers loses to underflow."""

BLOCKS = 12
"""From so many parts of a list one point each is proposed: together they cut more than the best."""

MOST_TIES = 3000
"""An exact price that has to compare more points is not computed."""


class Price(NamedTuple):
    """What is known of a linear function over a body.

    It is nowhere less than `bound`; `points` are some at which it is small, by their indices in
    the body, smallest first.
    """

    bound: Fraction
    points: list[int]


class Seen(NamedTuple):
    """A point that a body knows, and nearly the value of a linear function there."""

    point: int
    value: float


@dataclass(eq=False)
class Effort:
    """The time that mining may take, and the linear programs and prices that it took so far."""

    deadline: Deadline
    programs: int = 0
    prices: int = 0


class Body(Protocol):
    """A convex set that contains all points it lists, and whose linear functions have prices.

    `complete`: it is the convex hull of those points. `ends` is a box around it. `rows` are its
    points nearly, `point` and `source` one of them and an input that it comes from, exactly.
    """

    @property
    def size(self) -> int: ...

    @property
    def known(self) -> int: ...

    @property
    def complete(self) -> bool: ...

    @property
    def ends(self) -> list[Range]: ...

    def rows(self, picked: Sequence[int]) -> Floats: ...

    def point(self, index: int) -> Array: ...

    def source(self, index: int) -> Array: ...

    def lowest(self, direction: Floats) -> list[Seen]:
        """Known points where `direction · w` is small, smallest first; they prove nothing."""
        ...

    def least(self, direction: Array, tolerance: Fraction, target: float = ...) -> Price:
        """The price of `direction · w`.

        Arguments:
            tolerance: how far the bound may be below the least value; exact if 0.
            target: a point well below it will do.
        """
        ...


class Listed:
    """The convex hull of a finite list of points, each known up to an error.

    Arguments:
        rows: the points `(n, size)` nearly.
        errors: `(size,)`; no coordinate of a point is farther from its float.
        exact: an input and its point, exactly.

    Trust: prices are exact if the tolerance is 0 and at most `MOST_TIES` points come into
    question; else rounded outwards.
    """

    def __init__(
        self, rows: Floats, errors: Floats, exact: Callable[[int], tuple[Array, Array]]
    ) -> None:
        self._rows = rows
        self._errors = errors
        self._exact = lru_cache(maxsize=None)(exact)
        self._largest = np.abs(rows).max(axis=0)
        low = np.nextafter(rows.min(axis=0) - errors, -np.inf)
        high = np.nextafter(rows.max(axis=0) + errors, np.inf)
        self.ends = [(Fraction(a), Fraction(b)) for a, b in zip(low, high, strict=True)]

    @property
    def size(self) -> int:
        """The number of coordinates."""
        return self._rows.shape[1]

    @property
    def complete(self) -> bool:
        """Yes."""
        return True

    @property
    def known(self) -> int:
        """The number of points."""
        return len(self._rows)

    def rows(self, picked: Sequence[int]) -> Floats:
        """Some of the points, nearly."""
        return self._rows[list(picked)]

    def point(self, index: int) -> Array:
        """A point."""
        return self._exact(index)[1]

    def source(self, index: int) -> Array:
        """The input that a point comes from."""
        return self._exact(index)[0]

    def lowest(self, direction: Floats) -> list[Seen]:
        """As of every `Body`: the lowest point of each of some parts of the list."""
        values = self._rows @ direction
        found = [block.lowest(values) for block in _blocks(len(values))]
        return sorted(found, key=lambda seen: seen.value)

    def least(self, direction: Array, tolerance: Fraction, target: float = -np.inf) -> Price:
        """As of every `Body`: the least value over the list."""
        scale = power_above(direction)
        a = floats(direction / scale)
        values = self._rows @ a
        error = self._error(np.abs(a))
        best = int(values.argmin())
        bound = (Fraction(float(values[best])) - Fraction(error)) * scale
        near = np.flatnonzero(values <= values[best] + 2 * error).tolist()
        if tolerance or len(near) > MOST_TIES:
            return Price(bound, [best])
        exact = {k: dotted(direction, self.point(k)) for k in near}
        best = min(near, key=exact.__getitem__)
        return Price(exact[best], [best])

    def _error(self, a: Floats) -> float:
        """How far a computed value may be from the exact one [Higham02 §3.1]."""
        rounded = (self.size + 4) * UNIT * (self._largest + self._errors)
        return float(a @ (self._errors + rounded) + TINY * (1 + self._largest.sum())) * 1.001


class _Block(NamedTuple):
    first: int
    last: int

    def lowest(self, values: Floats) -> Seen:
        index = self.first + int(values[self.first : self.last].argmin())
        return Seen(index, float(values[index]))


def _blocks(count: int) -> list[_Block]:
    ends = [count * k // BLOCKS for k in range(BLOCKS + 1)]
    return [_Block(a, b) for a, b in pairwise(ends) if a < b]


def power_above(values: Sequence[Fraction] | Array) -> Fraction:
    """A power of two at or above the largest magnitude; 1 for zeros."""
    largest = max((abs(value) for value in values), default=Fraction(0))
    if not largest:
        return Fraction(1)
    power = largest.numerator.bit_length() - largest.denominator.bit_length() + 1
    return Fraction(2) ** power


def corners(whole: Polytope) -> Listed:
    """An input set, by its vertices."""
    vertices = whole.vertices
    rows = floats(vertices)
    errors = np.abs(rows).max(axis=0) * 2 * UNIT + TINY
    return Listed(rows, errors, lambda k: (vertices[k], vertices[k]))


def floats(values: Sequence[Fraction] | Array) -> Floats:
    """The floats nearest to some numbers; a row for each row of a matrix."""
    table = np.asarray(values, dtype=object)
    near = [nearest(value) for value in table.ravel()]
    return np.array(near, dtype=np.float64).reshape(table.shape)


def dotted(direction: Array, w: Array) -> Fraction:
    """The product of two vectors of fractions."""
    return sum((a * b for a, b in zip(direction, w, strict=True) if a), Fraction(0))


def dyadic(value: float, bits: int = 30) -> Fraction:
    """A float between 0 and 1 in a few bits."""
    if not math.isfinite(value):
        return Fraction(0)
    return Fraction(round(min(max(value, 0.0), 1.0) * (1 << bits)), 1 << bits)


def rational(value: Fraction) -> fmpq:
    """For flint."""
    return fmpq(value.numerator, value.denominator)


def fraction(value: fmpq) -> Fraction:
    """From flint."""
    return Fraction(int(value.p), int(value.q))
