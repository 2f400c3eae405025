"""A layer of ReLUs over a body: what it reads, the ranges of its neurons, and what it yields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from flint import fmpq_mat

from hullmark.exact import nearest, round_down, round_up
from hullmark.relax.exact import Array
from hullmark.theory.formulation import ONE, ZERO
from hullmark.theory.net import Layer
from hullmark.theory.pricing import Body, Effort, Floats, dyadic, floats, fraction, rational
from hullmark.theory.regions import Range


@dataclass(frozen=True)
class Mixture:
    """A convex combination of points of a body."""

    points: tuple[int, ...]
    weights: tuple[Fraction, ...]

    @staticmethod
    def near(points: Sequence[int], weights: Floats) -> Mixture:
        """From weights in floats, which need not add up to 1."""
        total = float(weights.sum())
        grid = 1 << 40
        parts = [max(0, round(float(w) / total * grid)) if total else 0 for w in weights]
        kept = [(k, part) for k, part in zip(points, parts, strict=True) if part]
        if not kept:
            return Mixture((points[0],), (ONE,))
        whole = sum(part for _, part in kept)
        return Mixture(tuple(k for k, _ in kept), tuple(Fraction(p, whole) for _, p in kept))

    def of(self, values: Sequence[Array]) -> Array:
        """The combination of what belongs to the points."""
        return np.dot(np.array(self.weights, dtype=object), np.array(values, dtype=object))


class Chord(NamedTuple):
    """`z -> slope z + offset`."""

    slope: Fraction
    offset: Fraction

    def above(self, z: Fraction) -> Fraction:
        """By how much it is above the ReLU."""
        return self.slope * z + self.offset - max(z, ZERO)


@dataclass(frozen=True)
class Ends:
    """A range of a pre-activation: it stays in `outer`, and takes the ends of `inner`."""

    outer: Range
    inner: Range

    @property
    def stable(self) -> int:
        """1 or -1 if the sign is known, else 0."""
        return 1 if self.outer[0] >= 0 else -1 if self.outer[1] <= 0 else 0


class Stage:
    """A layer over a body; its image, or, if `relaxed`, the image with triangles for ReLUs.

    `ends` are the ranges of neurons that are known already; they may be given.

    Arguments:
        tolerance: how far ranges may be off, relative to their width; exact if 0.

    Trust: exact; ranges contain, and are contained in, the true ones.
    """

    def __init__(
        self,
        body: Body,
        layer: Layer,
        effort: Effort,
        relaxed: bool = False,
        tolerance: Fraction = ZERO,
    ) -> None:
        self.body = body
        self.layer = layer
        self.effort = effort
        self.relaxed = relaxed
        self.tolerance = tolerance
        self.ends: dict[int, Ends] = {}
        self._chords: dict[int, Chord] = {}
        self._weight, self._bias = floats(layer.weight), floats(layer.bias)
        table = np.concatenate([layer.weight, layer.bias[:, None]], axis=1)
        entries = [rational(value) for value in table.T.ravel()]
        self._exact = fmpq_mat(body.size + 1, layer.size, entries)
        self._crude = [_interval(row, b, body.ends) for row, b in _rows(layer)]

    def crude(self, index: int) -> Range:
        """A range of a pre-activation that costs nothing."""
        return self.ends[index].outer if index in self.ends else self._crude[index]

    def range(self, index: int) -> Ends:
        """The range of a pre-activation, as tight as the tolerance asks for."""
        if index not in self.ends:
            low, inner_low = self._end(index, 1)
            high, inner_high = self._end(index, -1)
            self.ends[index] = Ends((low, -high), (inner_low, -inner_high))
        return self.ends[index]

    def _end(self, index: int, sign: int) -> Range:
        """Of a pre-activation, or its negative: a bound of the least value, and a value taken."""
        row, constant = self.layer.weight[index] * sign, self.layer.bias[index] * sign
        crude = self._crude[index]
        tolerance = ZERO if self.body.complete else self.tolerance * (crude[1] - crude[0])
        price = self.body.least(row, tolerance)
        taken = min(row @ self.body.point(k) for k in price.points) + constant
        bound = max(crude[0] if sign > 0 else -crude[1], price.bound + constant)
        if self.tolerance and bound != taken:
            bound, taken = Fraction(round_down(bound)), Fraction(round_up(taken))
        return bound, taken

    def chord(self, index: int) -> Chord:
        """A line above an unstable ReLU over its range; the lowest one if the stage is relaxed."""
        if index not in self._chords:
            low, high = self.range(index).outer
            slope = high / (high - low)
            if not self.relaxed:
                # Long numbers would slow down all that follows; the search branches on this one.
                slope = dyadic(nearest(slope))
            self._chords[index] = Chord(slope, max(-slope * low, high - slope * high))
        return self._chords[index]

    def pulled(self, slopes: Array) -> tuple[Array, Fraction]:
        """A linear function of pre-activations as one of what the layer reads, and a constant."""
        column = fmpq_mat(len(slopes), 1, [rational(value) for value in slopes])
        found = [fraction(value) for value in (self._exact * column).entries()]
        return np.array(found[:-1], dtype=object), found[-1]

    def pulled_near(self, slopes: Floats) -> tuple[Floats, float]:
        """The same in floats."""
        return slopes @ self._weight, float(slopes @ self._bias)

    def before(self, rows: Floats) -> Floats:
        """Pre-activations at points, nearly."""
        return rows @ self._weight.T + self._bias

    def after(self, w: Array, raised: Sequence[int] = ()) -> Array:
        """What the layer yields at a point of the body; some neurons as high as they may be."""
        z = np.dot(self.layer.weight, w) + self.layer.bias
        y = np.array([max(value, ZERO) for value in z], dtype=object)
        for index in raised:
            y[index] = max(y[index], self.highest(index, z[index]))
        return np.concatenate([w[list(self.layer.keep)], y])

    def highest(self, index: int, z: Fraction) -> Fraction:
        """The value that a relaxed ReLU surely may have at a pre-activation."""
        low, high = self.range(index).inner
        return max(z, ZERO) if low >= 0 or high <= 0 else high * (z - low) / (high - low)


def _rows(layer: Layer) -> list[tuple[Array, Fraction]]:
    return list(zip(layer.weight, layer.bias, strict=True))


def _interval(row: Array, constant: Fraction, ends: Sequence[Range]) -> Range:
    low = high = constant
    for value, (a, b) in zip(row, ends, strict=True):
        low += value * (a if value > 0 else b)
        high += value * (b if value > 0 else a)
    return low, high
