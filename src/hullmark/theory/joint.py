"""Relaxations of several neurons of a layer at once: k-ReLU, M_k and M_k^o."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations, product

import numpy as np

from hullmark.errors import BadInput, Unsupported
from hullmark.relax.hull import relu_hull
from hullmark.theory.budget import in_time
from hullmark.theory.formulation import ONE, ZERO, Form, Formulation, affordable, combined
from hullmark.theory.net import Layer, positive
from hullmark.theory.single import Neuron, Rule, Signs, advance, neurons, triangle

Groups = Sequence[Sequence[int]]

SUBSETS = 3
"""Larger k-ReLU groups are relaxed through all their subsets of this size [kReLU eq. 7]."""


@dataclass(frozen=True)
class Choice:
    """Which neurons are relaxed together: `groups` of each layer, or the `k` of largest area.

    Raises:
        BadInput: unless exactly one of them is given, and `k` is positive.
    """

    k: int | None = None
    groups: Sequence[Groups] | None = None

    def __post_init__(self) -> None:
        if (self.k is None) == (self.groups is None):
            raise BadInput("give either k or groups")
        if self.k is not None:
            positive(self.k, "k")

    def of(self, depth: int, layer: Layer) -> Groups | None:
        """The groups given for a layer, checked; None if they are to be chosen.

        Raises:
            BadInput: if one names a neuron twice, or one that does not exist.
        """
        if self.groups is None:
            return None
        chosen = self.groups[depth] if depth < len(self.groups) else []
        for group in chosen:
            if not isinstance(group, Sequence):
                raise BadInput(f"groups of layer {depth + 1} are {chosen!r}, not tuples of neurons")
            if len(set(group)) != len(group) or not all(0 <= j < layer.size for j in group):
                raise BadInput(
                    f"group {tuple(group)} of layer {depth + 1} must name different neurons "
                    f"among 0 to {layer.size - 1}"
                )
        return chosen


def by_area(found: Sequence[Neuron]) -> list[int]:
    """The unstable neurons, largest triangle first."""
    open_ = [n for n in found if not n.sign]
    return [n.index for n in sorted(open_, key=lambda n: (-n.area, n.index))]


def krelu_layer(choice: Choice, depth: int) -> Rule:
    """k-ReLU: hulls over the octahedra of groups, as tight as the formulation allows.

    Without groups, the unstable neurons are grouped by `k` in the order of their areas.
    """

    def rule(made: Formulation, layer: Layer, signs: Signs) -> None:
        found = neurons(made, layer, signs)
        groups = choice.of(depth, layer)
        if groups is None:
            order, k = by_area(found), choice.k or 1
            groups = [order[i : i + k] for i in range(0, len(order), k)]
        outputs = [triangle(made, n) for n in found]
        started = time.perf_counter()
        for done, group in enumerate(groups):
            in_time(started, done / len(groups))
            live = [j for j in group if not found[j].sign]
            for part in combinations(live, min(len(live), SUBSETS)):
                if len(part) > 1:
                    _octahedral(made, [found[j] for j in part], [outputs[j] for j in part])
        advance(made, layer, outputs)

    return rule


def _octahedral(made: Formulation, group: Sequence[Neuron], outputs: Sequence[Form]) -> None:
    """The rows of one group's hull over its octahedron."""
    units = [unit for unit in product((-1, 0, 1), repeat=len(group)) if any(unit)]
    sides = [
        made.most(combined((Fraction(a), n.form) for a, n in zip(unit, group, strict=True))).value
        for unit in units
    ]
    hull = relu_hull(units, np.array(sides, dtype=object))
    both = [n.form for n in group] + list(outputs)
    for row, side in zip(hull.rows, hull.rhs, strict=True):
        made.atleast(combined(zip((-Fraction(v) for v in row), both, strict=True), Fraction(side)))
    for row, side in zip(*hull.equalities, strict=True):
        made.equal(combined(zip(map(Fraction, row), both, strict=True), -Fraction(side)))


def mk_layer(choice: Choice, depth: int, tied: bool = False) -> Rule:
    """M_k: one group of a layer with all that the layer reads [MN-v1 §3]; triangles for the rest.

    The hull is a disjunction over the group's sign patterns [Balas79], of copies of all that is
    known so far. If `tied`, only what the layer reads is tied to the values that the copies are
    of, and inputs that it does not read are as free as M_k leaves them. Otherwise the copies
    stand for those values: of what later layers read that says no more than M_k, by smaller
    programs.
    """

    def rule(made: Formulation, layer: Layer, signs: Signs) -> None:
        found = neurons(made, layer, signs)
        live = [j for j in _group(choice, depth, layer, found) if not found[j].sign]
        values: dict[int, Form] = {}
        if live:
            joined, old, copied = _Disjunction.of(made, [found[j] for j in live]).joined()
            if tied:
                copies = [_substituted(form, old) for form in made.state]
                first = _append(made, joined)
                for form, copy in zip(made.state, copies, strict=True):
                    made.equal(combined([(ONE, form), (-ONE, _shifted(copy, first))]))
                copied = [_shifted(value, first) for value in copied]
            else:
                made.program = joined.program
                made.inputs = [_substituted(form, old) for form in made.inputs]
                made.state = [_substituted(form, old) for form in made.state]
                found = [replace(n, form=_substituted(n.form, old)) for n in found]
            values = dict(zip(live, copied, strict=True))
        advance(made, layer, _completed(made, found, values))

    return rule


def mko_layer(choice: Choice, depth: int) -> Rule:
    """M_k^o: the hull of the group's outputs alone; how they hang on what is read is forgotten.

    Neurons outside the group have triangles over what the layer reads, and values that skip the
    layer stay what they are; neither is tied to the group.
    """

    def rule(made: Formulation, layer: Layer, signs: Signs) -> None:
        found = neurons(made, layer, signs)
        # Stable neurons take part: it is the relation to them that is kept or lost.
        group = _group(choice, depth, layer, found, [n.index for n in found if n.sign])
        values: dict[int, Form] = {}
        if group:
            apart, _, copied = _Disjunction.of(made, [found[j] for j in group]).joined()
            # A group is small, so that few points say what its program says.
            corners = apart.project(copied).vertices
            values = dict(zip(group, made.points(corners), strict=True))
        advance(made, layer, _completed(made, found, values))
        made.inputs = []

    return rule


def _completed(
    made: Formulation, found: Sequence[Neuron], values: Mapping[int, Form]
) -> list[Form]:
    """The outputs of a layer: those of a group, and triangles for the rest."""
    return [values[n.index] if n.index in values else triangle(made, n) for n in found]


def _group(
    choice: Choice,
    depth: int,
    layer: Layer,
    found: Sequence[Neuron],
    more: Sequence[int] = (),
) -> Sequence[int]:
    """The one group of a layer: the one given, or the unstable neurons of largest area, and more.

    Raises:
        BadInput: if several are given.
    """
    groups = choice.of(depth, layer)
    if groups is None:
        return [*by_area(found), *more][: choice.k]
    if len(groups) > 1:
        raise BadInput(f"M_k relaxes one group of a layer, not {len(groups)} of layer {depth + 1}")
    return groups[0] if groups else []


@dataclass(frozen=True, eq=False)
class _Disjunction:
    """A formulation, and the sign patterns of a group that it allows."""

    made: Formulation
    group: Sequence[Neuron]
    patterns: list[tuple[int, ...]]

    @staticmethod
    def of(made: Formulation, group: Sequence[Neuron]) -> _Disjunction:
        patterns: list[tuple[int, ...]] = [()]
        for place, _ in enumerate(group):
            longer = [(*p, sign) for p in patterns for sign in (1, -1)]
            patterns = [p for p in longer if made.allows(_signed(group[: place + 1], p))]
            # Rows of the program, its columns' sides, and those of the signs.
            affordable(len(patterns) * (made.program.rows + made.program.columns + len(group)))
        return _Disjunction(made, group, patterns)

    def joined(self) -> tuple[Formulation, list[Form], list[Form]]:
        """A formulation of the hull; the old columns in it, and the group's outputs."""
        if self.made.separators:
            raise Unsupported("M_k over rows that are not listed")
        new = Formulation()
        weights = [new.column(lower=ZERO) for _ in self.patterns]
        new.equal(combined(((ONE, w) for w in weights), -ONE))
        copies = [self._copy(new, w, p) for w, p in zip(weights, self.patterns, strict=True)]
        old = [
            combined((ONE, copy[j]) for copy in copies) for j in range(self.made.program.columns)
        ]
        outputs = [
            combined(
                (ONE, _homogeneous(neuron.form, copy, weight))
                for copy, weight, pattern in zip(copies, weights, self.patterns, strict=True)
                if pattern[place] > 0
            )
            for place, neuron in enumerate(self.group)
        ]
        return new, old, outputs

    def _copy(self, new: Formulation, weight: Form, pattern: tuple[int, ...]) -> list[Form]:
        """A copy of all columns, scaled by a weight, where the group has these signs."""
        program = self.made.program
        copy: list[Form] = []
        for lower, upper in program.all_columns():
            column = new.column(lower=ZERO if lower == 0 else None)
            if lower:
                new.atleast(combined([(ONE, column), (-lower, weight)]))
            if upper is not None:
                new.atleast(combined([(upper, weight), (-ONE, column)]))
            copy.append(column)
        for terms, low, high in program.all_rows():
            form = combined((value, copy[j]) for j, value in terms.items())
            if low is not None and low == high:
                new.equal(combined([(ONE, form), (-low, weight)]))
                continue
            if low is not None:
                new.atleast(combined([(ONE, form), (-low, weight)]))
            if high is not None:
                new.atleast(combined([(high, weight), (-ONE, form)]))
        for form in _signed(self.group, pattern):
            new.atleast(_homogeneous(form, copy, weight))
        return copy


def _signed(group: Sequence[Neuron], pattern: Sequence[int]) -> list[Form]:
    """The forms that are nonnegative where the neurons have these signs."""
    return [n.form.scaled(Fraction(s)) for n, s in zip(group, pattern, strict=True)]


def _homogeneous(form: Form, copy: Sequence[Form], weight: Form) -> Form:
    """A form of the old columns in a scaled copy of them."""
    parts = [(value, copy[j]) for j, value in form.terms.items()]
    return combined([*parts, (form.constant, weight)])


def _substituted(form: Form, moved: Sequence[Form]) -> Form:
    return combined(((v, moved[j]) for j, v in form.terms.items()), form.constant)


def _append(made: Formulation, other: Formulation) -> int:
    """Put another program beside this one; returns where its columns begin."""
    first = made.program.columns
    for lower, upper in other.program.all_columns():
        made.program.column(lower, upper)
    affordable(made.program.rows + other.program.rows)
    for terms, low, high in other.program.all_rows():
        made.program.row({first + j: value for j, value in terms.items()}, low, high)
    return first


def _shifted(form: Form, first: int) -> Form:
    return Form({first + j: value for j, value in form.terms.items()}, form.constant)
