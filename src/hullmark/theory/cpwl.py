"""Continuous piecewise linear functions of one variable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

from hullmark.errors import BadInput
from hullmark.relax.exact import as_fraction


@dataclass(frozen=True)
class Cpwl:
    """A continuous piecewise linear function on `[knots[0], knots[-1]]`.

    It takes `values[i]` at `knots[i]` and is affine between neighbours.

    Raises:
        BadInput: if there are fewer than two knots, or they do not increase.

    Trust: exact.
    """

    knots: tuple[Fraction, ...]
    values: tuple[Fraction, ...]

    def __post_init__(self) -> None:
        if len(self.knots) < 2 or len(self.knots) != len(self.values):
            raise BadInput(f"{len(self.knots)} knots and {len(self.values)} values are no function")
        for index, (left, right) in enumerate(pairwise(self.knots)):
            if left >= right:
                raise BadInput(f"knot {index + 1} is {right}, not above the one before, {left}")

    @staticmethod
    def through(points: Sequence[tuple[Any, Any]]) -> Cpwl:
        """The function through points `(x, y)`, in any order, numbers of any kind.

        Raises:
            BadInput: if there are fewer than two, two have one `x`, or a number is not finite.
        """
        read = sorted((as_fraction(x, "x"), as_fraction(y, "y")) for x, y in points)
        return Cpwl(tuple(x for x, _ in read), tuple(y for _, y in read))

    @staticmethod
    def sloped(knots: Sequence[Any], start: Any, slopes: Sequence[Any]) -> Cpwl:
        """The function with value `start` at the first knot and these slopes between knots.

        Raises:
            BadInput: if there is not one slope less than knots, or a number is not finite.
        """
        at = [as_fraction(x, "knot") for x in knots]
        if len(slopes) != len(at) - 1:
            raise BadInput(f"{len(at)} knots need {len(at) - 1} slopes, not {len(slopes)}")
        values = [as_fraction(start, "start")]
        for slope, (left, right) in zip(slopes, pairwise(at), strict=True):
            values.append(values[-1] + as_fraction(slope, "slope") * (right - left))
        return Cpwl(tuple(at), tuple(values))

    @property
    def domain(self) -> tuple[Fraction, Fraction]:
        """The ends of the interval on which it is defined."""
        return self.knots[0], self.knots[-1]

    @property
    def slopes(self) -> tuple[Fraction, ...]:
        """The slope between each knot and the next."""
        rises = (right - left for left, right in pairwise(self.values))
        runs = (right - left for left, right in pairwise(self.knots))
        return tuple(rise / run for rise, run in zip(rises, runs, strict=True))

    @property
    def kinks(self) -> tuple[tuple[Fraction, Fraction], ...]:
        """`(knot, change of slope)` of every inner knot at which the slope changes."""
        inner = zip(self.knots[1:-1], pairwise(self.slopes), strict=True)
        return tuple((x, right - left) for x, (left, right) in inner if left != right)

    @property
    def is_monotone(self) -> bool:
        """Whether it never falls, or never rises."""
        return all(s >= 0 for s in self.slopes) or all(s <= 0 for s in self.slopes)

    @property
    def is_convex(self) -> bool:
        """Whether its slopes never fall."""
        return all(change > 0 for _, change in self.kinks)

    @property
    def is_concave(self) -> bool:
        """Whether its slopes never rise."""
        return all(change < 0 for _, change in self.kinks)

    def __neg__(self) -> Cpwl:
        return Cpwl(self.knots, tuple(-y for y in self.values))

    def __call__(self, x: Any) -> Fraction:
        """The value at `x`.

        Raises:
            BadInput: if `x` is outside the domain.
        """
        at = as_fraction(x, "x")
        if not self.knots[0] <= at <= self.knots[-1]:
            raise BadInput(
                f"x = {at} is outside the domain from {self.knots[0]} to {self.knots[-1]}"
            )
        index = max(i for i, knot in enumerate(self.knots[:-1]) if knot <= at)
        return self.values[index] + self.slopes[index] * (at - self.knots[index])

    def range(self, lower: Any, upper: Any) -> tuple[Fraction, Fraction]:
        """The least and the largest value between two points of the domain.

        Raises:
            BadInput: if one is outside the domain, or they are the wrong way round.
        """
        low, high = as_fraction(lower, "lower"), as_fraction(upper, "upper")
        if low > high:
            raise BadInput(f"there is nothing between {low} and {high}")
        found = [self(low), self(high)]
        found += [y for x, y in zip(self.knots, self.values, strict=True) if low < x < high]
        return min(found), max(found)


@dataclass(frozen=True)
class Hinge:
    """`weight * relu(x - knot)`, or `weight * relu(knot - x)` if it does not face right."""

    knot: Fraction
    weight: Fraction
    right: bool


def hinges(f: Cpwl) -> tuple[Hinge, ...]:
    """The hinges of a convex function that are flat at its minimiser `x*` [Expr].

    Knots right of `x*` face right, those left of it face left; at `x*` itself one of each, by
    the signs of the slopes. All weights are positive.

    Raises:
        BadInput: if the function is not convex.
    """
    if not f.is_convex:
        raise BadInput("the function is not convex")
    found: list[Hinge] = []
    for knot, (left, right) in zip(f.knots[1:-1], pairwise(f.slopes), strict=True):
        if right > max(left, Fraction(0)):
            found.append(Hinge(knot, right - max(left, Fraction(0)), True))
        if left < min(right, Fraction(0)):
            found.append(Hinge(knot, min(right, Fraction(0)) - left, False))
    return tuple(found)
