"""What is asked of a network: a set of unsafe input-output pairs, which must be empty.

The unsafe set is a disjunction of cases; a case is a box of inputs and a conjunction of linear
constraints over inputs `X_i` and outputs `Y_j`. The question is answered "proved" when no input
of a case's box is mapped to an output that meets the case's constraints.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hullmark.errors import BadInput
from hullmark.spec.numbers import Floats, Values, as_fraction, outward
from hullmark.spec.sets import Box

Array = NDArray[Any]
Terms = tuple[tuple[int, Fraction], ...]

_SMALLEST_NORMAL = float(np.finfo(np.float64).tiny)
_HALF_STEP = 2.0**-53


@dataclass(frozen=True)
class Constraint:
    """`sum of c * X_i over x + sum of c * Y_j over y <= bound`, or `<` where `strict`.

    `x` and `y` hold pairs `(index, coefficient)`, sorted by index, without zeros. Build one with
    `Constraint.of`.
    """

    x: Terms
    y: Terms
    bound: Fraction
    strict: bool

    @classmethod
    def of(
        cls,
        x: Mapping[int, object],
        y: Mapping[int, object],
        bound: object,
        *,
        strict: bool = False,
    ) -> "Constraint":
        """The constraint with these coefficients, by input and by output index.

        Raises:
            BadInput: if a coefficient or the bound is not a finite number.

        Trust: exact; a float stands for the number it is.
        """
        return cls(_terms(x), _terms(y), as_fraction(bound), strict)

    @property
    def is_constant(self) -> bool:
        """Whether no input and no output occurs, so that it always holds or never does."""
        return not self.x and not self.y

    def holds(self, x: Values, y: Values) -> bool:
        """Whether the constraint holds at these values, numbers of any kind.

        Raises:
            BadInput: if a value that matters is not finite.

        Trust: exact; each float is the number it is.
        """
        total = sum((c * as_fraction(x[i]) for i, c in self.x), Fraction(0))
        total = sum((c * as_fraction(y[j]) for j, c in self.y), total)
        return total < self.bound if self.strict else total <= self.bound


@dataclass(frozen=True, eq=False)
class Rows:
    """The `m` constraints of a case over floats, for bounds by `n` inputs and `k` outputs.

    `x` is `(m, n)`, or `None` when no constraint mentions an input; `y` is `(m, k)`; `bound` and
    `strict` are `(m,)`.

    Trust: every true coefficient `c` and its float `f` satisfy `|c - f| <= roundoff * |f|`, and
    `bound` is at least the true bound.
    """

    x: Floats | None
    y: Floats
    bound: Floats
    strict: NDArray[np.bool_]
    roundoff: float


@dataclass(frozen=True, eq=False)
class Case:
    """One disjunct of the unsafe set: a box of inputs and constraints that hold together."""

    box: Box
    constraints: tuple[Constraint, ...]
    output_size: int

    @cached_property
    def rows(self) -> Rows:
        """The constraints as float arrays.

        Raises:
            BadInput: if a coefficient or bound lies outside the range of normal float64.
        """
        m = len(self.constraints)
        x = np.zeros((m, self.box.size)) if any(c.x for c in self.constraints) else None
        y = np.zeros((m, self.output_size))
        roundoff = 0.0
        for row, constraint in enumerate(self.constraints):
            sides = ((x, "X", constraint.x), (y, "Y", constraint.y))
            for array, name, terms in sides:
                for i, coefficient in terms:
                    value, exact = _coefficient(coefficient, f"{name}_{i}")
                    roundoff = roundoff if exact else _HALF_STEP
                    if array is not None:
                        array[row, i] = value
        bound = outward([c.bound for c in self.constraints], up=True)
        if not np.isfinite(bound).all():
            raise BadInput("the bound of a constraint is beyond the range of float64")
        strict = np.array([c.strict for c in self.constraints], dtype=np.bool_)
        return Rows(x, y, bound, strict, roundoff)


@dataclass(frozen=True, eq=False)
class Property:
    """A question: is every case of the unsafe set impossible for the network?

    `source` names where the question comes from, for messages. Without cases the unsafe set is
    empty whatever the network does. Cases over the same inputs share one `Box` object.
    """

    input_size: int
    output_size: int
    cases: tuple[Case, ...]
    source: str

    def violated(self, x: Array, y: Array) -> bool:
        """Whether `x` and `y` are a counterexample: the one meaning of that word.

        They are one if some case has `x` in its closed box, its bounds as written, and meets all
        of its constraints, strict ones strictly and others without any tolerance.

        Arguments:
            x, y: the input and the network's output at it, of any shape, row-major; floats or
                `Fraction` objects.

        Raises:
            BadInput: if a size is wrong.

        Trust: exact rational arithmetic; each float is the number it is. Values that are not
        finite are never a counterexample.
        """
        return self.violated_case(x, y) is not None

    def violated_case(self, x: Array, y: Array, *, box: bool = True) -> int | None:
        """The index of the first case that `x` and `y` meet, or `None`.

        Arguments:
            x, y: as for `violated`.
            box: with `False` only the constraints are looked at, for an input that is outside
                the box by no more than its rounding to the network's float type.

        Raises:
            BadInput: if a size is wrong.

        Trust: exact.
        """
        x, y = np.asarray(x).reshape(-1), np.asarray(y).reshape(-1)
        if len(x) != self.input_size or len(y) != self.output_size:
            raise BadInput(
                f"{self.source}: {len(x)} inputs and {len(y)} outputs were given to a property "
                f"of {self.input_size} inputs and {self.output_size} outputs"
            )
        if not (_finite(x) and _finite(y)):
            return None
        inside: dict[int, bool] = {}
        for i, case in enumerate(self.cases):
            if box:
                key = id(case.box)
                if key not in inside:
                    inside[key] = case.box.contains(x)
                if not inside[key]:
                    continue
            if all(c.holds(x, y) for c in case.constraints):
                return i
        return None

    @cached_property
    def groups(self) -> tuple[tuple[Box, tuple[int, ...]], ...]:
        """Each distinct box with the indices of its cases, in order of first appearance."""
        members: dict[int, list[int]] = {}
        for i, case in enumerate(self.cases):
            members.setdefault(id(case.box), []).append(i)
        return tuple((self.cases[group[0]].box, tuple(group)) for group in members.values())

    def permits_dropping_softmax(self) -> bool:
        """Whether a final softmax over all outputs can be left out without changing the answer.

        So when every constraint is a comparison of two outputs, since softmax keeps their order.

        Trust: exact for the real softmax; a float softmax may make outputs equal that differ.
        """
        return all(_compares_outputs(c) for case in self.cases for c in case.constraints)


def _terms(coefficients: Mapping[int, object]) -> Terms:
    exact = [(int(i), as_fraction(c)) for i, c in sorted(coefficients.items())]
    return tuple((i, c) for i, c in exact if c)


def _coefficient(value: Fraction, name: str) -> tuple[float, bool]:
    """The nearest float of a coefficient, and whether it is exact."""
    try:
        nearest = float(value)
    except OverflowError:
        raise BadInput(f"a coefficient of {name} is beyond the range of float64") from None
    exact = nearest == value
    # Below the normal range the relative error of rounding is no longer bounded.
    if not exact and abs(nearest) < _SMALLEST_NORMAL:
        raise BadInput(f"a coefficient of {name} is too small for float64")
    return nearest, exact


def _finite(values: Array) -> bool:
    return values.dtype == object or bool(np.isfinite(values).all())


def _compares_outputs(c: Constraint) -> bool:
    return not c.x and not c.bound and len(c.y) == 2 and c.y[0][1] == -c.y[1][1]
