"""What a linear program is asked: the least value of the largest of some linear functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from hullmark.bounds.interval import interval
from hullmark.bounds.objective import Objective
from hullmark.bounds.program import Program
from hullmark.bounds.rounding import down, tiny
from hullmark.encode.encoding import Encoding, Goal
from hullmark.lp.program import Vector
from hullmark.lp.safe import product_down, sum_down


@dataclass(frozen=True, eq=False)
class Query:
    """`max_i (y_i . top + x_i . input - level_i)`, to be bounded from below.

    `y` `(m, size)` over the values of a node, `x` `(m, n)` over the inputs or None, `level`
    `(m,)` rounded up, and `floor` `(m,)` rounded down, None if levels are exact. A true coefficient
    is off by at most the share `roundoff` of the stored one, and `underflow`.
    """

    y: Vector
    x: Vector | None
    level: Vector
    roundoff: float = 0.0
    underflow: float = 0.0
    floor: Vector | None = None

    @staticmethod
    def of(objective: Objective, query: int) -> Query:
        """One query of an objective of batch 1, over the output."""
        used = objective.used[0, query]

        def rows(values: Vector) -> Vector:
            return np.ascontiguousarray(values[used.cpu().numpy()])

        bound = objective.bound[0, query]
        # Coefficients that are normal in float64 need not be so in float32.
        underflow = 0.0 if bound.dtype == torch.float64 else tiny(bound.dtype)
        return Query(
            rows(objective.y[0, query].double().cpu().numpy()),
            None if objective.x is None else rows(objective.x[0, query].double().cpu().numpy()),
            rows(bound.double().cpu().numpy()),
            objective.roundoff,
            underflow,
            # Levels went up to the next number at most, and what underflows is less than that.
            rows(down(bound).double().cpu().numpy() - underflow),
        )

    @staticmethod
    def neuron(size: int, neuron: int, sign: int) -> Query:
        """`sign * value[neuron]` of a node of that size."""
        y = np.zeros((1, size))
        y[0, neuron] = sign
        return Query(y, None, np.zeros(1))

    def goals(self, encoding: Encoding) -> tuple[Goal, ...]:
        """Each row over the columns of a program.

        Trust: no goal is above its row; the error of the coefficients is charged.
        """
        sizes = [np.maximum(*map(np.abs, encoding.bounds[j])) for j in (encoding.top, 0)]
        found: list[Goal] = []
        for i, level in enumerate(self.level.tolist()):
            x = None if self.x is None else self.x[i]
            goal = encoding.goal(self.y[i], x, level)
            lost = self._lost(i, *sizes)
            if lost.any():
                goal = goal._replace(constant=sum_down(np.concatenate([lost, [goal.constant]])))
            found.append(goal)
        return tuple(found)

    def _lost(self, i: int, top: Vector, inputs: Vector) -> Vector:
        """At or below what the error of each coefficient of row i takes, given magnitudes."""
        parts = [(self.y[i], top)] if self.x is None else [(self.y[i], top), (self.x[i], inputs)]
        return np.concatenate(
            [
                product_down(-(np.abs(row) * self.roundoff + self.underflow), size * (1 + 2.0**-40))
                for row, size in parts
            ]
        )

    def value(self, program: Program, top: int, point: Vector) -> float:
        """At or above the value of the query at an input, by interval arithmetic.

        Arguments:
            program: the network.
            top: the node that `y` is over.
            point: `(n,)`.

        Trust: holds in real arithmetic for the input as stored in the program's precision.
        """
        x = program.tensor(point).reshape(1, -1)
        lower, upper = (b.double().flatten().cpu().numpy() for b in interval(program, x, x)[top])
        stored = x.double().flatten().cpu().numpy()
        size = np.maximum(np.abs(lower), np.abs(upper))
        highest = -np.inf
        for i, level in enumerate((self.level if self.floor is None else self.floor).tolist()):
            row = -self.y[i]
            terms = np.minimum(product_down(row, lower), product_down(row, upper))
            if self.x is not None:
                terms = np.concatenate([terms, product_down(-self.x[i], stored)])
            lost = self._lost(i, size, np.abs(stored))
            highest = max(highest, -sum_down(np.concatenate([terms, lost, [level]])))
        return highest
