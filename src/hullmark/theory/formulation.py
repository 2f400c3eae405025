"""What a relaxation allows, as a rational linear program that grows layer by layer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from hullmark.errors import Unsupported, VacuousProperty
from hullmark.lp.rational import Infeasible, Optimum, RationalProgram
from hullmark.relax.exact import Array
from hullmark.theory.budget import in_time
from hullmark.theory.polytope import Polytope

MOST_ROWS = 4000
"""A program with more rows is refused: its exact solution would take minutes."""

ONE = Fraction(1)
ZERO = Fraction(0)


@dataclass(frozen=True)
class Form:
    """An affine form of the columns of a program."""

    terms: dict[int, Fraction]
    constant: Fraction = ZERO

    def at(self, point: Sequence[Fraction]) -> Fraction:
        """Its value where the columns have these values."""
        return sum((value * point[j] for j, value in self.terms.items()), self.constant)

    def scaled(self, factor: Fraction) -> Form:
        """A multiple."""
        if not factor:
            return Form({})
        return Form({j: v * factor for j, v in self.terms.items()}, self.constant * factor)


def combined(parts: Iterable[tuple[Fraction, Form]], constant: Fraction = ZERO) -> Form:
    """The sum of multiples of forms and a constant."""
    terms: dict[int, Fraction] = {}
    for factor, form in parts:
        if factor:
            constant += factor * form.constant
            for j, value in form.terms.items():
                terms[j] = terms.get(j, ZERO) + factor * value
    return Form({j: value for j, value in terms.items() if value}, constant)


class Extreme(NamedTuple):
    """The least value of a form, and values of all columns at which it is taken."""

    value: Fraction
    point: tuple[Fraction, ...]


Separator = Callable[[Sequence[Fraction]], list[Form]]
"""Finds forms that are nonnegative on the relaxation, but negative at a point of the program."""


class Formulation:
    """The projection of a program's feasible set that a relaxation allows.

    `inputs` and `state` are forms: the network's inputs, if they are kept, and what the next
    layer reads. `separators` stand for rows that are too many to be listed; whatever is found
    to be violated is added.

    Trust: exact.
    """

    def __init__(self) -> None:
        self.program = RationalProgram()
        self.inputs: list[Form] = []
        self.state: list[Form] = []
        self.separators: list[Separator] = []

    @staticmethod
    def of(whole: Polytope) -> Formulation:
        """An input set, by its facets."""
        made = Formulation()
        rows, sides = whole.facets
        ends: list[list[Fraction | None]] = [[None, None] for _ in range(whole.size)]
        others: list[tuple[Array, Fraction]] = []
        for row, side in zip(rows, sides, strict=True):
            (live,) = np.nonzero(row)
            if len(live) == 1:
                factor = Fraction(row[live[0]])
                ends[live[0]][int(factor > 0)] = Fraction(side) / factor
            else:
                others.append((row, Fraction(side)))
        made.inputs = [made.column(low, high) for low, high in ends]
        made.state = list(made.inputs)
        for row, side in others:
            form = combined(zip(map(Fraction, row), made.inputs, strict=True))
            made.atleast(combined([(-ONE, form)], side))
        return made

    def column(self, lower: Fraction | None = None, upper: Fraction | None = None) -> Form:
        """A new value."""
        return Form({self.program.column(lower, upper): ONE})

    def atleast(self, form: Form) -> None:
        """Demand that a form is not negative.

        Raises:
            Unsupported: if there are more than `MOST_ROWS` rows.
        """
        affordable(self.program.rows + 1)
        self.program.row(form.terms, lower=-form.constant)

    def equal(self, form: Form) -> None:
        """Demand that a form vanishes."""
        affordable(self.program.rows + 1)
        self.program.row(form.terms, -form.constant, -form.constant)

    def points(self, points: Array) -> list[Form]:
        """Coordinates of an unknown point of the convex hull of points `(n, d)`."""
        weights = [self.column(lower=ZERO) for _ in range(len(points))]
        self.equal(combined(((ONE, w) for w in weights), -ONE))
        return [combined(zip(column, weights, strict=True)) for column in points.T]

    def least(self, form: Form) -> Extreme:
        """The least value of a form.

        Raises:
            VacuousProperty: if nothing is feasible.
        """
        while True:
            found = self.program.minimise(form.terms)
            if isinstance(found, Infeasible):
                raise VacuousProperty("the relaxation allows no point at all")
            violated = self._violated(found)
            if not violated:
                return Extreme(found.value + form.constant, found.point)
            for row in violated:
                self.atleast(row)

    def _violated(self, found: Optimum) -> list[Form]:
        return [row for separate in self.separators for row in separate(found.point)]

    def most(self, form: Form) -> Extreme:
        """The largest value of a form."""
        found = self.least(form.scaled(-ONE))
        return Extreme(-found.value, found.point)

    def range(self, form: Form) -> tuple[Fraction, Fraction]:
        """The least and the largest value of a form."""
        return self.least(form).value, self.most(form).value

    def allows(self, rows: Sequence[Form]) -> bool:
        """Whether some point has nonnegative values of all these forms."""
        first = self.program.rows
        for row in rows:
            self.atleast(row)
        found = self.program.minimise({})
        self.program.drop_rows(first)
        return isinstance(found, Optimum)

    def project(self, forms: Sequence[Form]) -> Polytope:
        """All values that forms take together."""

        def support(direction: Array) -> Array:
            point = self.most(combined(zip(map(Fraction, direction), forms, strict=True))).point
            return np.array([form.at(point) for form in forms], dtype=object)

        return hull_by_support(support, len(forms))


def affordable(rows: int) -> None:
    """Refuse a program with too many rows.

    Raises:
        Unsupported: says how many there would be.
    """
    if rows > MOST_ROWS:
        raise Unsupported(
            f"too large to be exact: the linear program would have {rows} rows or more (limit "
            f"{MOST_ROWS}); take smaller groups, a smaller network, or a weaker relaxation"
        )


def hull_by_support(support: Callable[[Array], Array], size: int) -> Polytope:
    """A polytope from its support function.

    Arguments:
        support: for a direction `(size,)` of integers, a point of the polytope farthest in it.
        size: the number of coordinates.

    Raises:
        Unsupported: after ten minutes.

    Trust: exact and complete: every facet has been asked about.
    """
    axes = np.eye(size, dtype=np.int64).astype(object)
    points = {tuple(support(axis)) for axis in np.concatenate([axes, -axes])}
    settled: set[tuple[int, ...]] = set()
    started = time.perf_counter()
    while True:
        body = Polytope.hull([list(point) for point in points])
        rows, sides = body.facets
        grown = False
        for row, side in zip(rows, sides, strict=True):
            key = (*row, side)
            if key in settled:
                continue
            settled.add(key)
            # How much is left cannot be told, only that it has been enough.
            in_time(started, 1.0)
            found = support(row)
            if row @ found > side:
                points.add(tuple(found))
                grown = True
        if not grown:
            return body
