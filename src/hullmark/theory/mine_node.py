"""The bound of one node of a search, as a program over multipliers that grows point by point."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from hullmark.exact import nearest
from hullmark.lp.highs import Model
from hullmark.lp.program import Program, Sparse
from hullmark.lp.rational import Optimum, RationalProgram
from hullmark.relax.exact import Array
from hullmark.theory.formulation import ONE, ZERO
from hullmark.theory.mine_stage import Mixture, Stage
from hullmark.theory.pricing import Floats, dyadic, floats


class Cut(NamedTuple):
    """A valid inequality of a body: `normal · w >= bound`."""

    normal: Array
    bound: Fraction


@dataclass(eq=False)
class Node:
    """Some fixed signs of neurons, and what is proved where they are so.

    `fineness`: how finely its program has been solved. `settled`: it has been solved exactly.
    """

    signs: Mapping[int, int]
    bound: Fraction
    points: list[int]
    cut: Cut | None = None
    fineness: float = np.inf
    settled: bool = False
    split: int | None = None
    active: set[int] = field(default_factory=set[int])

    def raise_by(self, cut: Cut, constant: Fraction) -> None:
        """Take the bound `cut.bound + constant` if it is higher."""
        if cut.bound + constant > self.bound:
            self.bound, self.cut = cut.bound + constant, cut


class Terms:
    """A goal behind a layer, bounded by linear functions of what the layer reads.

    For every choice of multipliers in `[0, 1]` there is one, `direction · w + constant`, that is
    nowhere above the goal where the signs hold:

    - a ReLU whose value is to be small is above any `m z`;
    - one whose value is to be large is below its chord, or is z, or 0 where its sign is fixed;
    - where a sign is fixed, a multiple of the pre-activation may be taken off.

    `costs` are the goal's coefficients of ReLUs, `base` those of what the layer reads; `open` are
    the neurons with chords.

    Arguments:
        row: the goal, over what the stage yields.

    Trust: exact, but for the methods that say nearly.
    """

    def __init__(self, stage: Stage, row: Array) -> None:
        keep = stage.layer.keep
        self._stage = stage
        self.base = np.full(stage.body.size, ZERO, dtype=object)
        for place, value in zip(keep, row, strict=False):
            self.base[place] += value
        self.costs = row[len(keep) :]
        self.open: list[int] = []
        self._slopes = np.full(stage.layer.size, ZERO, dtype=object)
        self._constant = ZERO
        self._columns: list[int] = []
        self._factors: list[Fraction] = []
        for j, cost in enumerate(self.costs):
            low, high = stage.crude(j) if cost >= 0 else stage.range(j).outer
            if low >= 0:
                self._slopes[j] = cost
            elif high > 0 and cost > 0:
                self._columns.append(j)
                self._factors.append(cost)
            elif high > 0 and cost < 0:
                self._slopes[j] = cost * stage.chord(j).slope
                self._constant += cost * stage.chord(j).offset
                self.open.append(j)
        self._penalty = 2 * max((abs(cost) for cost in self.costs), default=ZERO)
        self.base_near = floats(self.base)
        self._slopes_near = floats(self._slopes)
        self._factors_near = floats(self._factors)

    def under(self, signs: Mapping[int, int]) -> Terms:
        """The same where some of the open neurons have these signs."""
        terms = copy(self)
        terms._slopes, terms._slopes_near = self._slopes.copy(), self._slopes_near.copy()
        for j, sign in signs.items():
            terms._constant -= self.costs[j] * self._stage.chord(j).offset
            terms._slopes[j] = self.costs[j] if sign > 0 else ZERO
            terms._slopes_near[j] = nearest(terms._slopes[j])
        terms.open = [j for j in self.open if j not in signs]
        terms._columns = self._columns + list(signs)
        terms._factors = self._factors + [-sign * self._penalty for sign in signs.values()]
        terms._factors_near = floats(terms._factors)
        return terms

    @property
    def multipliers(self) -> int:
        """How many there are."""
        return len(self._columns)

    def function(self, multipliers: list[Fraction]) -> tuple[Array, Fraction]:
        """The linear function of these multipliers: direction and constant."""
        slopes = self._slopes.copy()
        for j, factor, m in zip(self._columns, self._factors, multipliers, strict=True):
            slopes[j] += factor * m
        direction, constant = self._stage.pulled(slopes)
        return self.base + direction, self._constant + constant

    def near(self, multipliers: list[Fraction]) -> tuple[Floats, float]:
        """The same, nearly."""
        slopes = self._slopes_near.copy()
        slopes[self._columns] += self._factors_near * floats(multipliers)
        direction, constant = self._stage.pulled_near(slopes)
        return self.base_near + direction, nearest(self._constant) + constant

    def lines(self, rows: Floats) -> tuple[Floats, Floats]:
        """At points, nearly: the function for multipliers 0, and how it grows with each."""
        z = self._stage.before(rows)
        values = rows @ self.base_near + z @ self._slopes_near + nearest(self._constant)
        return values, z[:, self._columns] * self._factors_near

    def line(self, w: Array) -> tuple[Fraction, list[Fraction]]:
        """The same at one point, exactly."""
        layer = self._stage.layer
        z = np.dot(layer.weight, w) + layer.bias
        value = self.base @ w + self._slopes @ z + self._constant
        return value, [z[j] * f for j, f in zip(self._columns, self._factors, strict=True)]


class Proposal(NamedTuple):
    """The value of a program over multipliers, these, and weights of the points."""

    value: float
    multipliers: list[Fraction]
    weights: Floats


class Multipliers:
    """Finds the multipliers for which the least value over some points is largest, in floats.

    Arguments:
        scale: the unit of values.

    Trust: none; any multipliers give a bound, and that is computed from them anew.
    """

    def __init__(self, terms: Terms, rows: Floats, scale: float) -> None:
        self._terms = terms
        self._scale = scale
        count = terms.multipliers
        cost = np.concatenate([[-1.0], np.zeros(count)])
        lower = np.concatenate([[-np.inf], np.zeros(count)])
        upper = np.concatenate([[np.inf], np.ones(count)])
        matrix, sides = self._rows(rows)
        none = np.full(len(sides), -np.inf)
        self._model = Model(Program(cost, matrix, none, sides, lower, upper))

    def _rows(self, rows: Floats) -> tuple[Sparse, Floats]:
        values, slopes = self._terms.lines(rows)
        table = np.concatenate([np.ones((len(rows), 1)), -slopes / self._scale], axis=1)
        return Sparse.of(table), values / self._scale

    def add(self, rows: Floats) -> None:
        """Take further points into account."""
        matrix, sides = self._rows(rows)
        self._model.add(matrix, np.full(len(sides), -np.inf), sides)

    def solve(self) -> Proposal | None:
        """Solve; None if the solver gives up."""
        found = self._model.solve()
        if found is None or not np.all(np.isfinite(found.point)):
            return None
        weights = np.maximum(-found.duals, 0.0)
        return Proposal(
            float(found.point[0]) * self._scale,
            [dyadic(float(v)) for v in found.point[1:]],
            np.where(weights > 1e-11, weights, 0.0),
        )


class Settled(NamedTuple):
    """The exact optimum over some points."""

    value: Fraction
    multipliers: list[Fraction]
    mixture: Mixture


def settle(terms: Terms, points: list[int], exact: list[Array]) -> Settled:
    """What `Multipliers` finds, in rational arithmetic.

    Arguments:
        points, exact: indices of points, and the points themselves.

    Trust: exact.
    """
    program = RationalProgram()
    top = program.column()
    columns = [program.column(ZERO, ONE) for _ in range(terms.multipliers)]
    for w in exact:
        value, slopes = terms.line(w)
        row = {top: ONE} | {j: -slope for j, slope in zip(columns, slopes, strict=True)}
        program.row(row, upper=value)
    found = program.minimise({top: -ONE})
    if not isinstance(found, Optimum):
        raise ArithmeticError("a program that always has a solution")
    weights = {points[i]: -dual for i, dual in found.duals.items()}
    mixture = Mixture(tuple(weights), tuple(weights.values()))
    return Settled(-found.value, [found.point[j] for j in columns], mixture)
