"""The exact least value behind one more layer of ReLUs, by branching on their signs."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import count

import numpy as np

from hullmark.errors import Unsupported, VacuousProperty
from hullmark.relax.exact import Array
from hullmark.theory.formulation import ONE, ZERO, Extreme, Form, Formulation, combined
from hullmark.theory.net import Layer
from hullmark.theory.single import Signs, kept, neurons, triangle

MOST_NODES = 20_000
"""A search that takes more nodes is given up."""


class LastLayer:
    """A layer over all that a formulation allows, without any relaxation of its own.

    Arguments:
        made: what the layer may read; grows by the triangles of its unstable neurons.
        signs: of neurons whose sign is fixed.

    Trust: exact.
    """

    def __init__(self, made: Formulation, layer: Layer, signs: Signs) -> None:
        self.made = made
        self.layer = layer
        self.neurons = neurons(made, layer, signs)
        self.outputs = [triangle(made, neuron) for neuron in self.neurons]
        self.state = kept(made, layer) + self.outputs

    def least(self, row: Sequence[Fraction], constant: Fraction = ZERO) -> Extreme:
        """The least value of `row · u + constant` over the values `u` behind the layer.

        Raises:
            Unsupported: after `MOST_NODES` nodes.
        """
        goal = combined(zip(row, self.state, strict=True), constant)
        best: Extreme | None = None
        order = count()
        first = self._relaxed(goal, {})
        heap = [] if first is None else [(first.value, next(order), first, {})]
        while heap:
            bound, number, relaxed, signs = heapq.heappop(heap)
            if best is not None and bound >= best.value:
                break
            if number > MOST_NODES:
                raise Unsupported(
                    f"too large to be exact: over {MOST_NODES} sign patterns of one layer; take a "
                    "smaller network or a weaker relaxation"
                )
            value = self._real(goal, relaxed.point)
            if best is None or value < best.value:
                best = Extreme(value, relaxed.point)
            pick = self._widest(goal, relaxed.point, signs)
            if pick is None:
                continue
            for sign in (1, -1):
                child = {**signs, pick: sign}
                found = self._relaxed(goal, child)
                if found is not None and found.value < best.value:
                    heapq.heappush(heap, (found.value, next(order), found, child))
        if best is None:
            raise VacuousProperty("the relaxation allows no point at all")
        return best

    def _relaxed(self, goal: Form, signs: Mapping[int, int]) -> Extreme | None:
        """The triangle relaxation's optimum where some signs are fixed; None if there is none."""
        program = self.made.program
        first = program.rows
        for index, sign in signs.items():
            form, value = self.neurons[index].form, self.outputs[index]
            self.made.atleast(form.scaled(Fraction(sign)))
            # With the triangle's own rows, these make the value the form, or 0.
            tight = combined([(ONE, form), (-ONE, value)]) if sign > 0 else value.scaled(-ONE)
            self.made.atleast(tight)
        try:
            return self.made.least(goal)
        except VacuousProperty:
            return None
        finally:
            program.drop_rows(first)

    def _real(self, goal: Form, point: Sequence[Fraction]) -> Fraction:
        """What the goal is where the ReLUs are what they should be."""
        return goal.at(self._repaired(point))

    def _repaired(self, point: Sequence[Fraction]) -> list[Fraction]:
        repaired = list(point)
        for neuron, value in zip(self.neurons, self.outputs, strict=True):
            if not neuron.sign:
                repaired[next(iter(value.terms))] = max(neuron.form.at(point), ZERO)
        return repaired

    def real(self, point: Sequence[Fraction]) -> Array:
        """The values behind the layer at a point of the program, its ReLUs made right."""
        repaired = self._repaired(point)
        return np.array([form.at(repaired) for form in self.state], dtype=object)

    def _widest(
        self, goal: Form, point: Sequence[Fraction], signs: Mapping[int, int]
    ) -> int | None:
        """The neuron whose value costs most by being wrong; None if all are right."""
        best: tuple[Fraction, int] | None = None
        for index, (neuron, value) in enumerate(zip(self.neurons, self.outputs, strict=True)):
            if neuron.sign or index in signs:
                continue
            wrong = abs(value.at(point) - max(neuron.form.at(point), ZERO))
            weight = goal.terms.get(next(iter(value.terms)), ZERO)
            if wrong and weight and (best is None or wrong * abs(weight) > best[0]):
                best = wrong * abs(weight), index
        return None if best is None else best[1]
