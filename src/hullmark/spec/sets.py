"""Sets of inputs: the closed box, with its bounds exactly as they were written."""

from dataclasses import dataclass, field, fields
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hullmark.errors import BadInput, VacuousProperty
from hullmark.exact import Number, round_up
from hullmark.spec.numbers import (
    Floats,
    Values,
    as_array,
    as_fraction,
    as_number,
    flatten,
    outward,
    shown,
)

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Inside:
    """The representable inputs of a box; `lower` and `upper` `(n,)` of one float type.

    Where a coordinate's interval holds no number of that type, both ends are the nearest one and
    `rounding` (float64, `(n,)`) holds its distance to the interval, rounded up; 0 elsewhere.
    """

    lower: Array
    upper: Array
    rounding: Floats


@dataclass(frozen=True, eq=False, init=False)
class Box:
    """The closed box of the inputs `x` with `lower[i] <= x[i] <= upper[i]`; never empty.

    `exact_lower` and `exact_upper` are the bounds as given; `lower` and `upper` (float64,
    `(n,)`) are those bounds rounded outwards; `shape` is that of the bounds as given, which an
    input of a module in memory has, too.

    Trust: `exact_lower` and `exact_upper` are the box. The float box contains it, and each
    bound is the tightest float64 that does so.
    """

    lower: Floats
    upper: Floats
    exact_lower: tuple[Number, ...] = field(repr=False)
    exact_upper: tuple[Number, ...] = field(repr=False)
    shape: tuple[int, ...]

    def __init__(self, lower: Values, upper: Values) -> None:
        """The box between two sequences of numbers, of any shape, read in row-major order.

        Arguments:
            lower, upper: floats, integers, `Fraction`, `Decimal`, decimal strings or arrays.

        Raises:
            BadInput: if the lengths differ, or a bound is missing (`None`), NaN or infinite, or
                beyond the range of float64; names the input, as `X_3`.
            VacuousProperty: if a lower bound exceeds its upper bound; names the input.
        """
        given = as_array(lower), as_array(upper)
        exact_lower, exact_upper = _numbers(given[0], "lower"), _numbers(given[1], "upper")
        if len(exact_lower) != len(exact_upper):
            raise BadInput(
                f"{len(exact_lower)} lower bounds do not match {len(exact_upper)} upper bounds"
            )
        if not exact_lower:
            raise BadInput("a box needs at least one input")
        low, high = outward(exact_lower, up=False), outward(exact_upper, up=True)
        for side, bounds in (("lower", low), ("upper", high)):
            if not np.isfinite(bounds).all():
                where = int(np.flatnonzero(~np.isfinite(bounds))[0])
                raise BadInput(f"the {side} bound of X_{where} is beyond the range of float64")
        # Only where the outward floats are within one step of each other can the order of the
        # exact bounds still be open.
        with np.errstate(over="ignore"):
            close = np.nextafter(low, np.inf) >= high
        for i in np.flatnonzero(close).tolist():
            if exact_lower[i] > exact_upper[i]:
                raise VacuousProperty(
                    f"the input box is empty: X_{i} has the lower bound {shown(exact_lower[i])} "
                    f"and the upper bound {shown(exact_upper[i])}"
                )
        shape = given[0].shape if given[0].shape == given[1].shape else (len(low),)
        values = (low, high, exact_lower, exact_upper, shape or (1,))
        for own, value in zip(fields(self), values, strict=True):
            # What the constructor of a frozen dataclass does, too.
            object.__setattr__(self, own.name, value)

    @property
    def size(self) -> int:
        """The number of inputs."""
        return len(self.exact_lower)

    @cached_property
    def _tight(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Where the float bound equals the exact one."""
        lower = [a == b for a, b in zip(self.lower.tolist(), self.exact_lower, strict=True)]
        upper = [a == b for a, b in zip(self.upper.tolist(), self.exact_upper, strict=True)]
        return np.array(lower), np.array(upper)

    def contains(self, x: Array) -> bool:
        """Whether the input `x`, `size` floats or `Fraction` objects of any shape, is in the box.

        Raises:
            BadInput: if `x` has another number of entries.

        Trust: exact, with the bounds as written and each float as the number it is. NaN and
        infinities are in no box.
        """
        x = self._flat(x)
        if x.dtype == object:
            return all(
                low <= value <= high
                for low, value, high in zip(
                    self.exact_lower, x.tolist(), self.exact_upper, strict=True
                )
            )
        wide = x.astype(np.float64)
        return bool(np.all(self._above(wide) & self._below(wide)))

    def float_inside(self, dtype: DTypeLike) -> Inside:
        """The largest box of representable numbers inside this one.

        Arguments:
            dtype: float32 or float64.

        Raises:
            BadInput: if `dtype` is another type.

        Trust: exact. Every number of that type within `[lower, upper]` of the result lies in the
        box where `rounding` is 0, and no representable number of the box lies outside.
        """
        kind = np.dtype(dtype)
        if kind not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise BadInput(f"inputs of type {kind} are not supported, only float32 and float64")
        up, down = np.array(np.inf, dtype=kind), np.array(-np.inf, dtype=kind)
        # A bound beyond the range of the type becomes infinite here, which is what is wanted.
        with np.errstate(over="ignore"):
            lower, upper = self.lower.astype(kind), self.upper.astype(kind)
            above, below = np.nextafter(lower, up), np.nextafter(upper, down)
        lower = np.where(self._above(lower.astype(np.float64)), lower, above)
        upper = np.where(self._below(upper.astype(np.float64)), upper, below)
        rounding = np.zeros(self.size)
        for i in np.flatnonzero(lower > upper).tolist():
            lower[i], rounding[i] = self._nearest(i, upper[i], lower[i])
            upper[i] = lower[i]
        # Adding zero turns the -0.0 that a step may have left into 0.0.
        return Inside(lower + 0, upper + 0, rounding)

    def distance(self, x: Array) -> list[Fraction]:
        """How far each entry of `x` lies outside its closed interval; 0 inside.

        Raises:
            BadInput: if `x` has another number of entries, or one that is not finite.

        Trust: exact.
        """
        x = self._flat(x)
        excess = [Fraction(0)] * self.size
        if x.dtype == object:
            suspects = range(self.size)
        else:
            wide = x.astype(np.float64)
            if not np.isfinite(wide).all():
                where = int(np.flatnonzero(~np.isfinite(wide))[0])
                raise BadInput(f"X_{where} is {wide[where]}, not a finite number")
            suspects = np.flatnonzero(~(self._above(wide) & self._below(wide))).tolist()
        for i in suspects:
            excess[i] = self._excess(i, Fraction(x[i].item() if x.dtype != object else x[i]))
        return excess

    def _flat(self, x: Array) -> Array:
        x = np.asarray(x).reshape(-1)
        if len(x) != self.size:
            raise BadInput(f"{len(x)} input values do not match a box of {self.size} inputs")
        if x.dtype.kind == "f" and x.dtype.itemsize <= 8:
            return x
        # Whatever float64 might not hold: long doubles, large integers, Fractions.
        return np.array([as_fraction(value) for value in x.tolist()], dtype=object)

    def _above(self, x: Floats) -> NDArray[np.bool_]:
        # `lower` is the largest float64 not above the exact bound, so that a larger float is
        # above the bound too, and `lower` itself is so only when it equals the bound.
        return np.isfinite(x) & ((x > self.lower) | ((x == self.lower) & self._tight[0]))

    def _below(self, x: Floats) -> NDArray[np.bool_]:
        return np.isfinite(x) & ((x < self.upper) | ((x == self.upper) & self._tight[1]))

    def _nearest(self, i: int, before: Any, after: Any) -> tuple[Any, float]:
        """Of two neighbouring floats around interval `i`, the nearer one and its distance."""
        options = [
            (self._excess(i, Fraction(float(value))), value)
            for value in (before, after)
            if np.isfinite(value)
        ]
        distance, value = min(options, key=lambda option: option[0])
        return value, round_up(distance)

    def _excess(self, i: int, value: Fraction) -> Fraction:
        below = as_fraction(self.exact_lower[i]) - value
        above = value - as_fraction(self.exact_upper[i])
        return max(below, above, Fraction(0))


def _numbers(values: Values, side: str) -> tuple[Number, ...]:
    exact: list[Number] = []
    for i, value in enumerate(flatten(values)):
        if value is None:
            raise BadInput(f"X_{i} has no {side} bound")
        try:
            exact.append(as_number(value))
        except BadInput as error:
            raise BadInput(f"the {side} bound of X_{i} cannot be used: {error}") from None
    return tuple(exact)
