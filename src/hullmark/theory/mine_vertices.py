"""All points at which a layer's image of a polytope can have a vertex, with proven errors.

The first layer is affine on the cells that its neurons' hyperplanes cut the input set into. So
every linear function of the image is least at a vertex of a cell: where as many hyperplanes and
facets meet as the set has dimensions. All such meetings are solved for in floats, and how far
each solution is from the true point is proved; where that fails, it is solved for in rational
arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import combinations, islice
from math import comb
from typing import NamedTuple

import numpy as np
from flint import fmpq, fmpq_mat
from numpy.typing import NDArray

from hullmark.relax.exact import Array, primitive
from hullmark.theory.net import Layer
from hullmark.theory.polytope import Polytope
from hullmark.theory.pricing import TINY, UNIT, Floats, Listed, floats, power_above
from hullmark.verdict import Deadline

Indices = NDArray[np.intp]

MOST_MEETINGS = 2_500_000
"""So many meetings are solved for in a few seconds; more are left to a search."""

CHUNK = 20_000
FAR = 2.0**-34
"""Meetings known less precisely than this are solved for exactly."""


def image_vertices(whole: Polytope, layer: Layer, deadline: Deadline) -> Listed | None:
    """The convex hull of a layer's image of an input set, by all vertices of its cells.

    Returns:
        None if the set is not full-dimensional, if there are more than `MOST_MEETINGS` meetings,
        or if the time is over.

    Trust: no vertex is missing; floats carry proven errors.
    """
    if whole.dimension < whole.size:
        return None
    planes = _Planes.of(whole, layer)
    if comb(len(planes.normals), whole.size) > MOST_MEETINGS:
        return None
    found = planes.meetings(deadline)
    if found is None:
        return None
    weight, bias = floats(layer.weight), floats(layer.bias)
    x, radius = found.points, float(found.radii.max())
    states = np.concatenate([x[:, list(layer.keep)], np.maximum(x @ weight.T + bias, 0)], axis=1)
    rounded = _rate(whole.size) * (np.abs(x).max(axis=0) @ np.abs(weight).T + np.abs(bias))
    relus = (radius * np.abs(weight).sum(axis=1) + rounded) * 1.001 + TINY
    errors = np.concatenate([np.full(len(layer.keep), radius), relus])

    def exact(index: int) -> tuple[Array, Array]:
        point = planes.meeting(found.chosen[index].tolist())
        if point is None:
            raise ValueError("a meeting of dependent planes")
        return point, layer.apply(point[None])[0]

    return Listed(states, errors, exact)


class _Meetings(NamedTuple):
    """Vertices: the planes that meet there, the point nearly, and how far it may be off."""

    chosen: Indices
    points: Floats
    radii: Floats


@dataclass(frozen=True, eq=False)
class _Planes:
    """The facets of an input set and the hyperplanes of neurons: `normals · x == offsets`.

    Of the set, the first `facets` rows say `normals · x <= offsets`. No two are the same.
    """

    normals: Array
    offsets: Array
    facets: int

    @staticmethod
    def of(whole: Polytope, layer: Layer) -> _Planes:
        rows, sides = whole.facets
        found = {
            tuple(primitive([*row, side])): None for row, side in zip(rows, sides, strict=True)
        }
        facets = len(found)
        for row, constant in zip(layer.weight, layer.bias, strict=True):
            plane = tuple(primitive([*row, -constant]))
            opposite = tuple(-value for value in plane)
            if all(whole.sides(row, constant)) and opposite not in found:
                found[plane] = None
        table = np.array([[Fraction(value) for value in plane] for plane in found])
        scales = np.array([power_above(row[:-1]) for row in table])
        return _Planes(table[:, :-1] / scales[:, None], table[:, -1] / scales, facets)

    def meetings(self, deadline: Deadline) -> _Meetings | None:
        """All vertices of cells; None if the time is over."""
        size = self.normals.shape[1]
        parallel = self._parallel()
        subsets = combinations(range(len(self.normals)), size)
        parts: list[_Meetings] = []
        while some := list(islice(subsets, CHUNK)):
            if deadline.expired():
                return None
            chosen = np.array(some, dtype=np.intp)
            for i, j in combinations(range(size), 2):
                chosen = chosen[~parallel[chosen[:, i], chosen[:, j]]]
            if len(chosen):
                parts.append(self._located(chosen))
        return _Meetings(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def meeting(self, chosen: Sequence[int]) -> Array | None:
        """Where planes meet, exactly; None if that is no single point."""
        size, rows = len(chosen), [self._rationals[i] for i in chosen]
        matrix = fmpq_mat(size, size, [value for row in rows for value in row[:-1]])
        try:
            found = matrix.solve(fmpq_mat(size, 1, [row[-1] for row in rows])).entries()
        except ZeroDivisionError:
            return None
        return np.array([Fraction(int(value.p), int(value.q)) for value in found], dtype=object)

    @cached_property
    def _rationals(self) -> list[list[fmpq]]:
        """For each plane its normal and offset."""
        table = np.concatenate([self.normals, self.offsets[:, None]], axis=1)
        return [[fmpq(value.numerator, value.denominator) for value in row] for row in table]

    def _parallel(self) -> NDArray[np.bool_]:
        lines = [tuple(primitive(row)) for row in self.normals]
        turned = [tuple(-value for value in line) for line in lines]
        return np.array([[a in (b, c) for b, c in zip(lines, turned, strict=True)] for a in lines])

    def _located(self, chosen: Indices) -> _Meetings:
        """Those of some meetings that are in the set."""
        normals, offsets = floats(self.normals), floats(self.offsets)
        points, radii = _solved(normals[chosen], offsets[chosen])
        size, m = self.normals.shape[1], self.facets
        facets, sides = normals[:m], offsets[:m]
        with np.errstate(invalid="ignore", over="ignore"):
            slack = sides - points @ facets.T
            rounded = _rate(size) * (np.abs(points) @ np.abs(facets).T + np.abs(sides))
            error = (rounded + radii[:, None] * np.abs(facets).sum(axis=1)) * 1.001 + TINY
        member = np.any(chosen[:, :, None] == np.arange(m), axis=1)
        sharp = np.isfinite(radii) & (radii <= FAR * (1 + np.abs(points).max(axis=1)))
        inside = sharp & np.all(member | (slack > error), axis=1)
        outside = np.isfinite(radii) & np.any(~member & (slack < -error), axis=1)
        doubtful = np.flatnonzero(~inside & ~outside)
        exactly = [(k, x) for k in doubtful if (x := self._vertex(chosen[k].tolist())) is not None]
        order = np.concatenate([np.flatnonzero(inside), np.array([k for k, _ in exactly], np.intp)])
        near = floats(np.array([x for _, x in exactly], dtype=object)).reshape(-1, size)
        off = np.abs(near).max(axis=1, initial=0.0) * 2 * UNIT + TINY
        return _Meetings(
            chosen[order],
            np.concatenate([points[inside], near]),
            np.concatenate([radii[inside], off]),
        )

    def _vertex(self, chosen: Sequence[int]) -> Array | None:
        """Where planes meet, if that is a point of the set."""
        point = self.meeting(chosen)
        if point is None:
            return None
        kept = self.normals[: self.facets] @ point <= self.offsets[: self.facets]
        return point if bool(np.all(kept)) else None


def _solved(matrices: Floats, right: Floats) -> tuple[Floats, Floats]:
    """Solutions of linear equations `(n, d)`, and how far they may be off; infinite if unknown.

    With `q = |I - R A| < 1` for some `R`, A is regular, and `|x - y| <= |R (b - A y)| / (1 - q)`.
    """
    size = right.shape[1]
    rate = _rate(size)
    with np.errstate(all="ignore"):
        usable = np.abs(np.linalg.det(matrices)) > 0
        inverse = np.zeros_like(matrices)
        inverse[usable] = np.linalg.inv(matrices[usable])
        away = np.abs(np.eye(size) - inverse @ matrices)
        away += rate * (np.abs(inverse) @ np.abs(matrices))
        quotient = away.sum(axis=2).max(axis=1) * 1.001
        column = right[..., None]
        points = inverse @ column
        points += inverse @ (column - matrices @ points)
        rest = np.abs(column - matrices @ points)
        rest += rate * (np.abs(matrices) @ np.abs(points) + np.abs(column)) + TINY
        radii = (np.abs(inverse) @ rest)[..., 0].max(axis=1) * 1.001 / (1 - quotient)
    known = usable & (quotient < 0.5) & np.isfinite(radii)
    return np.where(known[:, None], points[..., 0], 0.0), np.where(known, radii, np.inf)


def _rate(size: int) -> float:
    """More than the relative error of sums of `size` products, inputs rounded [Higham02 §3.1]."""
    return (2 * size + 10) * UNIT
