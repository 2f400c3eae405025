"""Relaxations of one neuron at a time: lines, triangles, and hulls over boxes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from hullmark.errors import VacuousProperty
from hullmark.relax.exact import Array
from hullmark.theory.budget import in_time
from hullmark.theory.formulation import ONE, ZERO, Form, Formulation, combined
from hullmark.theory.net import Layer

Signs = Mapping[int, int]
"""For neurons of a layer whose sign is fixed: 1 for on, -1 for off."""

Rule = Callable[[Formulation, Layer, Signs], None]
"""Adds what a relaxation says of a layer, and goes behind it."""


@dataclass(frozen=True)
class Neuron:
    """A pre-activation with its bounds; `sign` is 1 or -1 if it is stable or fixed, else 0."""

    index: int
    form: Form
    lower: Fraction
    upper: Fraction
    sign: int

    @property
    def chord(self) -> Form:
        """The least concave upper bound between the bounds."""
        slope = self.upper / (self.upper - self.lower)
        return combined([(slope, self.form)], -slope * self.lower)

    @property
    def area(self) -> Fraction:
        """Of the triangle, twice."""
        return ZERO if self.sign else -self.lower * self.upper


def neurons(made: Formulation, layer: Layer, signs: Signs) -> list[Neuron]:
    """The pre-activations of a layer, with the tightest bounds that a formulation gives.

    Signs that are fixed are demanded first, and tighten all bounds of the layer.
    """
    forms = [
        combined(zip(row, made.state, strict=True), constant)
        for row, constant in zip(layer.weight, layer.bias, strict=True)
    ]
    for index, sign in signs.items():
        made.atleast(forms[index].scaled(Fraction(sign)))
    found: list[Neuron] = []
    started = time.perf_counter()
    for index, form in enumerate(forms):
        if index:
            in_time(started, index / len(forms))
        lower, upper = made.range(form)
        stable = 1 if lower >= 0 else -1 if upper <= 0 else 0
        found.append(Neuron(index, form, lower, upper, signs.get(index, stable)))
    return found


def kept(made: Formulation, layer: Layer) -> list[Form]:
    """The values that skip a layer."""
    return [made.state[index] for index in layer.keep]


def advance(made: Formulation, layer: Layer, outputs: Sequence[Form]) -> None:
    """Go behind a layer, whose ReLUs have these values."""
    made.state = kept(made, layer) + list(outputs)


def stable_output(neuron: Neuron) -> Form:
    """The value of a stable ReLU."""
    return neuron.form if neuron.sign > 0 else Form({})


def interval_layer(made: Formulation, layer: Layer, signs: Signs) -> None:
    """IBP: intervals, and no dependence kept. A fixed sign clips its neuron's interval alone.

    Raises:
        VacuousProperty: if an interval has no point of a fixed sign.
    """
    outputs: list[Form] = []
    for neuron in neurons(made, layer, {}):
        sign = signs.get(neuron.index, 0)
        if (sign > 0 and neuron.upper < 0) or (sign < 0 and neuron.lower > 0):
            raise VacuousProperty("the relaxation allows no point at all")
        off = sign < 0
        ends = (ZERO, ZERO) if off else (max(neuron.lower, ZERO), max(neuron.upper, ZERO))
        outputs.append(made.column(*ends))
    # Values that skip the layer are inputs or ReLUs, and so have columns of their own.
    advance(made, layer, outputs)


def boxed(made: Formulation) -> Formulation:
    """The smallest box around what a formulation allows, without any dependence."""
    box = Formulation()
    box.inputs = [box.column(*made.range(form)) for form in made.state]
    box.state = list(box.inputs)
    return box


def deeppoly_layer(rule: str) -> Rule:
    """DeepPoly: the chord and one lower line: 0, z, or the one of smaller area [kReLU §4.3]."""

    def slope(neuron: Neuron) -> Fraction:
        if rule == "area":
            return ONE if neuron.upper > -neuron.lower else ZERO
        if rule == "zonotope":
            return neuron.upper / (neuron.upper - neuron.lower)
        return Fraction(int(rule))

    def layer_rule(made: Formulation, layer: Layer, signs: Signs) -> None:
        outputs: list[Form] = []
        for neuron in neurons(made, layer, signs):
            if neuron.sign:
                outputs.append(stable_output(neuron))
                continue
            value = made.column()
            made.atleast(combined([(ONE, value), (-slope(neuron), neuron.form)]))
            made.atleast(combined([(ONE, neuron.chord), (-ONE, value)]))
            outputs.append(value)
        advance(made, layer, outputs)

    return layer_rule


def triangle(made: Formulation, neuron: Neuron) -> Form:
    """The value of a ReLU in its triangle [kReLU eq. 5], or of a stable one."""
    if neuron.sign:
        return stable_output(neuron)
    value = made.column(lower=ZERO)
    made.atleast(combined([(ONE, value), (-ONE, neuron.form)]))
    made.atleast(combined([(ONE, neuron.chord), (-ONE, value)]))
    return value


def triangle_layer(made: Formulation, layer: Layer, signs: Signs) -> None:
    """1-ReLU: the convex hull of each neuron's graph over its bounds."""
    advance(made, layer, [triangle(made, n) for n in neurons(made, layer, signs)])


def multivariate_layer(made: Formulation, layer: Layer, signs: Signs) -> None:
    """The hull of `(u, relu(w . u + b))` over the box of u, each neuron alone [OptC2V]."""
    outputs: list[Form] = []
    found = neurons(made, layer, signs)
    ends = [made.range(form) for form in made.state]
    for neuron in found:
        value = triangle(made, neuron)
        outputs.append(value)
        if not neuron.sign:
            hull = _BoxHull(
                layer.weight[neuron.index], layer.bias[neuron.index], ends, made.state, value
            )
            made.separators.append(hull.violated)
    advance(made, layer, outputs)


@dataclass(frozen=True, eq=False)
class _BoxHull:
    """The upper side of the hull of a neuron's graph over a box of what it reads.

    Its facets are `y <= sum_I w_i (u_i - a_i) + s (u_h - a_h)`: over the coordinates `I`, with
    `a` the corner where `w . u` is least, and `s` such that the bound is exact at the corners
    next to the kink. The one most violated fills `I` in the order of `(u_i - a_i) / (b_i - a_i)`.
    """

    weight: Array
    bias: Fraction
    ends: Sequence[tuple[Fraction, Fraction]]
    state: Sequence[Form]
    value: Form

    def violated(self, point: Sequence[Fraction]) -> list[Form]:
        """The most violated facet, if one is."""
        live = [i for i, w in enumerate(self.weight) if w and self.ends[i][0] < self.ends[i][1]]
        near, far = {}, {}
        for i in live:
            low, high = self.ends[i]
            near[i], far[i] = (low, high) if self.weight[i] > 0 else (high, low)
        at = {i: self.state[i].at(point) for i in live}
        order = sorted(live, key=lambda i: (at[i] - near[i]) / (far[i] - near[i]))
        fixed = [i for i in range(len(self.weight)) if i not in near]
        rest = self.bias + sum((self.weight[i] * self.ends[i][0] for i in fixed), ZERO)
        # The largest value of the pre-activation, then with more and more inputs at `near`.
        height = rest + sum((self.weight[i] * far[i] for i in live), ZERO)
        parts: list[tuple[Fraction, Form]] = []
        constant = ZERO
        for i in order:
            lowered = height - self.weight[i] * (far[i] - near[i])
            slope = self.weight[i] if lowered >= 0 else height / (far[i] - near[i])
            parts.append((slope, self.state[i]))
            constant -= slope * near[i]
            if lowered < 0:
                break
            height = lowered
        row = combined([*parts, (-ONE, self.value)], constant)
        return [row] if row.at(point) < 0 else []
