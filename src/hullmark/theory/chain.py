"""Chains written down value by value: each layer carries some values and bends others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hullmark.errors import BadInput
from hullmark.relax.exact import Array, zeros
from hullmark.theory.net import ExactNet, Layer
from hullmark.theory.polytope import Polytope


@dataclass(frozen=True, eq=False)
class Form:
    """The value `weight · u + offset`, `u` what the last layer of a `Chain` yields."""

    weight: Array
    offset: Fraction

    def __add__(self, other: Form) -> Form:
        return Form(self.weight + other.weight, self.offset + other.offset)

    def __sub__(self, other: Form) -> Form:
        return Form(self.weight - other.weight, self.offset - other.offset)

    def times(self, factor: Fraction) -> Form:
        """The value multiplied by a number."""
        return Form(self.weight * factor, self.offset * factor)

    def plus(self, constant: Fraction) -> Form:
        """The value and a number added up."""
        return Form(self.weight, self.offset + constant)


def combine(forms: Sequence[Form], factors: Sequence[Any], constant: Fraction) -> Form:
    """The sum of `factors[i] * forms[i]` and a constant; at least one form."""
    weight, offset = forms[0].weight * Fraction(0), constant
    for form, factor in zip(forms, factors, strict=True):
        weight, offset = weight + form.weight * factor, offset + form.offset * factor
    return Form(weight, offset)


class Chain:
    """A chain in the making on a fixed set of inputs, with intervals of its values there.

    The intervals only serve to shift the carried values. A carried value `v` goes through a
    ReLU as `v - low`, where interval arithmetic on the whole set says `v >= low`; it is stable
    on every part of the set, under intervals and under whatever is tighter.

    Trust: exact.
    """

    def __init__(self, whole: Polytope) -> None:
        size = whole.size
        self._size = size
        self._layers: list[Layer] = []
        self._low = whole.vertices.min(axis=0)
        self._high = whole.vertices.max(axis=0)
        self.inputs = [self._value(j, size, Fraction(0)) for j in range(size)]
        """The inputs, as forms of the chain before its first layer."""

    def _value(self, index: int, size: int, offset: Fraction) -> Form:
        weight = zeros(size)
        weight[index] = Fraction(1)
        return Form(weight, offset)

    def interval(self, form: Form) -> tuple[Fraction, Fraction]:
        """An interval that holds the value on the whole set."""
        up, down = np.maximum(form.weight, 0), np.minimum(form.weight, 0)
        low = form.offset + up @ self._low + down @ self._high
        high = form.offset + up @ self._high + down @ self._low
        return Fraction(low), Fraction(high)

    def layer(self, carried: Sequence[Form], bent: Sequence[Form]) -> list[Form]:
        """Append a layer; returns the carried values and the ReLUs of the bent ones behind it."""
        forms = [*carried, *bent]
        ends = [self.interval(form) for form in forms]
        count = len(carried)
        shifts = [-low for low, _ in ends[:count]] + [Fraction(0)] * len(bent)
        weight = np.array([form.weight for form in forms], dtype=object)
        bias = [form.offset + shift for form, shift in zip(forms, shifts, strict=True)]
        self._layers.append(Layer(weight, np.array(bias, dtype=object)))
        moved = [(low + s, high + s) for (low, high), s in zip(ends, shifts, strict=True)]
        self._low = np.array([max(low, Fraction(0)) for low, _ in moved], dtype=object)
        self._high = np.array([max(high, Fraction(0)) for _, high in moved], dtype=object)
        return [self._value(j, len(forms), -shift) for j, shift in enumerate(shifts)]

    def network(self, outputs: Sequence[Form]) -> ExactNet:
        """The chain whose outputs are these values."""
        weight = np.array([form.weight for form in outputs], dtype=object)
        bias = np.array([form.offset for form in outputs], dtype=object)
        return ExactNet(self._size, tuple(self._layers), weight, bias)


def domain(lower: ArrayLike | Polytope, upper: ArrayLike | None) -> Polytope:
    """The fixed set of inputs: a polytope alone, or the box between two ends.

    Raises:
        BadInput, VacuousProperty: if it is none.
    """
    if isinstance(lower, Polytope):
        return lower
    if upper is None:
        raise BadInput("the set of inputs is a polytope, or the lower and upper ends of a box")
    return Polytope.box(lower, upper)
