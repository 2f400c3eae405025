"""Real inputs at which a network is low: from cell to cell, downhill, in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from hullmark.lp.rational import Optimum, RationalProgram
from hullmark.relax.exact import Array, identity, zeros
from hullmark.theory.net import ExactNet
from hullmark.theory.polytope import Polytope
from hullmark.verdict import Deadline

MOST_CELLS = 60
"""No descent looks at more cells."""

Pattern = tuple[tuple[bool, ...], ...]


class Descent:
    """Looks for an input at which a network's output is as low as a bound says.

    On the cell of an activation pattern the network is affine, and least at a vertex; the cells
    beyond are those where the signs of neurons that are 0 there are other ones.

    Arguments:
        goal: a network with one output.

    Trust: exact, but the lowest input need not be found.
    """

    def __init__(self, goal: ExactNet, whole: Polytope, deadline: Deadline) -> None:
        self._goal = goal
        self._facets = [
            ([Fraction(v) for v in row], Fraction(side))
            for row, side in zip(*whole.facets, strict=True)
        ]
        self._deadline = deadline
        self._seen: set[Pattern] = set()

    def lower(self, x: Array, bound: Fraction) -> tuple[Array, Fraction]:
        """An input that is at least as low as `x`, and the output; ends early at the bound."""
        value = self._value(x)
        steps = self._patterns(x)
        while steps and value > bound and len(self._seen) < MOST_CELLS:
            if self._deadline.expired():
                break
            pattern = steps.pop(0)
            if pattern in self._seen:
                continue
            self._seen.add(pattern)
            found = self._least(pattern)
            if found is not None and self._value(found) < value:
                x, value = found, self._value(found)
                steps = self._patterns(x)
        return x, value

    def _value(self, x: Array) -> Fraction:
        return self._goal.evaluate(x[None])[0, 0]

    def _patterns(self, x: Array) -> list[Pattern]:
        """The cell of an input, and those where one neuron that is 0 has another sign."""
        states = self._goal.states(x[None])
        before = [layer.before(u)[0] for layer, u in zip(self._goal.layers, states, strict=False)]
        own = tuple(tuple(bool(v > 0) for v in z) for z in before)
        found = [own]
        for depth, z in enumerate(before):
            for index in np.flatnonzero(z == 0):
                signs = (*own[depth][:index], True, *own[depth][index + 1 :])
                found.append((*own[:depth], signs, *own[depth + 1 :]))
        return found

    def _least(self, pattern: Pattern) -> Array | None:
        """The lowest input of a cell; None if there is none."""
        program = RationalProgram()
        columns = [program.column() for _ in range(self._goal.input_size)]
        for row, side in self._facets:
            program.row(dict(zip(columns, row, strict=True)), upper=side)
        size = len(columns)
        weight, bias = identity(size), zeros(size)
        for layer, signs in zip(self._goal.layers, pattern, strict=True):
            before, constant = np.dot(layer.weight, weight), np.dot(layer.weight, bias) + layer.bias
            for row, b, on in zip(before, constant, signs, strict=True):
                terms = dict(zip(columns, row, strict=True))
                program.row(terms, lower=-b if on else None, upper=None if on else -b)
            on = np.array(signs, dtype=np.int64).astype(object)
            keep = list(layer.keep)
            weight = np.concatenate([weight[keep], before * on[:, None]])
            bias = np.concatenate([bias[keep], constant * on])
        cost = np.dot(self._goal.weight, weight)[0]
        found = program.minimise(dict(zip(columns, cost, strict=True)))
        return np.array(found.point, dtype=object) if isinstance(found, Optimum) else None
