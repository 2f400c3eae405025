"""Networks for piecewise linear functions of several variables: maxima, lattices, differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from hullmark.errors import BadInput
from hullmark.relax.exact import Array, as_fractions
from hullmark.theory.chain import Chain, Form, combine, domain
from hullmark.theory.lattice import Lattice, lattice_form
from hullmark.theory.net import ExactNet, Layer
from hullmark.theory.polytope import Polytope
from hullmark.theory.regions import exact_range


def nested_max(
    size: int, lower: ArrayLike | Polytope | None = None, upper: ArrayLike | None = None
) -> ExactNet:
    """`max(...max(max(x1, x2), x3)..., xd)`, each as `max(c, x) = x + relu(c - x)`.

    Arguments:
        size: d, at least 2.
        lower, upper: None for a network with skip connections, good for all inputs. The ends of
            a box, `(size,)` each, or a `Polytope`: for a chain of width `size` that is good on
            this domain, where the inputs yet to come go through stable ReLUs.

    Raises:
        BadInput: if `size` is below 2, or the domain is none or has another size.

    Trust: exact.
    """
    return _nested(size, lower, upper, 1)


def nested_min(
    size: int, lower: ArrayLike | Polytope | None = None, upper: ArrayLike | None = None
) -> ExactNet:
    """`min(...min(min(x1, x2), x3)..., xd)`, each as `min(c, x) = x - relu(x - c)`.

    Arguments and errors as of `nested_max`.

    Trust: exact.
    """
    return _nested(size, lower, upper, -1)


def _nested(
    size: int, lower: ArrayLike | Polytope | None, upper: ArrayLike | None, sign: int
) -> ExactNet:
    if size < 2:
        raise BadInput(f"a maximum or minimum of {size} values; it takes two")
    if lower is None:
        return _nested_skipping(size, sign)
    chain = Chain(_sized(domain(lower, upper), size))
    held, *coming = chain.inputs
    factor = Fraction(sign)
    while coming:
        *coming, bend = chain.layer(coming, [(held - coming[0]).times(factor)])
        held, coming = coming[0] + bend.times(factor), coming[1:]
    return chain.network([held])


def _nested_skipping(size: int, sign: int) -> ExactNet:
    """With skip connections: layer i yields `x_{i+1}, ..., x_d` and its ReLU y.

    The value so far is `x_{i+1} + sign * y`.
    """
    zero, one, factor = Fraction(0), Fraction(1), Fraction(sign)
    rows = [[factor, -factor] + [zero] * (size - 2)]
    rows += [[factor, -factor] + [zero] * (left - 1) + [one] for left in range(size - 2, 0, -1)]
    nothing = np.array([zero], dtype=object)
    layers = tuple(
        Layer(np.array([row], dtype=object), nothing, tuple(range(1, size - depth)))
        for depth, row in enumerate(rows)
    )
    return ExactNet(size, layers, np.array([[one, factor]], dtype=object), nothing)


def _sized(whole: Polytope, size: int) -> Polytope:
    if whole.size != size:
        raise BadInput(f"the domain has {whole.size} coordinates, not {size}")
    return whole


def _line(x: Sequence[Form], row: Array) -> Form:
    """The affine function `row[:-1] · x + row[-1]` of the inputs as they stand."""
    return combine(x, row[:-1].tolist(), Fraction(row[-1]))


def lattice(form: Lattice, lower: ArrayLike | Polytope, upper: ArrayLike | None = None) -> ExactNet:
    """A chain for a lattice form on a fixed domain, of width at most d + 2.

    Every layer carries the inputs and the outer value so far, shifted so that they are stable,
    and bends one value: the inner maxima grow by `max(c, l) = l + relu(c - l)`, one piece a
    layer, and the outer minimum by `min(r, c) = r - relu(r - c)`; of a maximum of minima all
    signs are turned. At most one neuron a layer is unstable.

    With "min" outside, P_1's lower bound is exact on every polytope within the domain; with
    "max" outside its upper bound: see `hullmark.theory.rewrite`.

    Arguments:
        lower, upper: the ends of a box, or a `Polytope` alone.

    Raises:
        BadInput, VacuousProperty: if the domain is none, or has another size than the form.

    Trust: exact.
    """
    chain = Chain(_sized(domain(lower, upper), form.size))
    sign = Fraction(1 if form.outer == "min" else -1)
    rows = np.column_stack([form.weight, form.bias]) * sign
    x, outer = chain.inputs, list[Form]()
    for group in form.groups:
        inner = _line(x, rows[group[0]])
        for j in group[1:]:
            *carried, bend = chain.layer([*x, *outer], [inner - _line(x, rows[j])])
            x, outer = carried[: form.size], carried[form.size :]
            inner = _line(x, rows[j]) + bend
        if outer:
            *x, done, bend = chain.layer([*x, *outer], [outer[0] - inner])
            outer = [done - bend]
        else:
            outer = [inner]
    return chain.network([outer[0].times(sign)])


@dataclass(frozen=True, eq=False)
class Difference:
    """`max(first @ x + first_bias) - max(second @ x + second_bias)`, fractions.

    Every continuous piecewise linear function is one.

    Raises:
        BadInput: if a maximum is over nothing, or shapes do not fit.

    Trust: exact.
    """

    first: Array
    first_bias: Array
    second: Array
    second_bias: Array

    def __post_init__(self) -> None:
        pairs = ((self.first, self.first_bias), (self.second, self.second_bias))
        for weight, bias in pairs:
            if weight.ndim != 2 or bias.shape != (len(weight),) or not len(bias):
                raise BadInput(f"pieces of shape {weight.shape} with {bias.size} biases")
        if self.first.shape[1] != self.second.shape[1]:
            raise BadInput("the two maxima are of different numbers of inputs")

    @staticmethod
    def of(
        first: ArrayLike, first_bias: ArrayLike, second: ArrayLike, second_bias: ArrayLike
    ) -> Difference:
        """The difference of numbers of any kind; raises as the class."""
        return Difference(
            as_fractions(first, "first", 2),
            as_fractions(first_bias, "first bias", 1),
            as_fractions(second, "second", 2),
            as_fractions(second_bias, "second bias", 1),
        )

    @property
    def size(self) -> int:
        """The number of inputs."""
        return self.first.shape[1]

    def evaluate(self, x: ArrayLike) -> Array:
        """The values `(batch,)` at `x` `(batch, size)`."""
        points = as_fractions(x, "x", 2)
        left = np.dot(points, self.first.T) + self.first_bias
        right = np.dot(points, self.second.T) + self.second_bias
        return left.max(axis=1) - right.max(axis=1)


def max_affine_difference(
    form: Difference, lower: ArrayLike | Polytope, upper: ArrayLike | None = None
) -> ExactNet:
    """A chain for the difference of two maxima, of width at most d + 2.

    Every layer carries the inputs and grows both maxima by a piece; the one that is finished
    first is carried. At most two neurons a layer are unstable.

    Arguments:
        lower, upper: the ends of a box, or a `Polytope` alone.

    Raises:
        BadInput, VacuousProperty: if the domain is none, or has another size than the form.

    Trust: exact.
    """
    chain = Chain(_sized(domain(lower, upper), form.size))
    sides = (
        np.column_stack([form.first, form.first_bias]),
        np.column_stack([form.second, form.second_bias]),
    )
    x = chain.inputs
    held = [_line(x, side[0]) for side in sides]
    for step in range(1, max(len(side) for side in sides)):
        rows = [side[step] if step < len(side) else None for side in sides]
        waiting = [c for c, row in zip(held, rows, strict=True) if row is None]
        bent = [c - _line(x, row) for c, row in zip(held, rows, strict=True) if row is not None]
        values = chain.layer([*x, *waiting], bent)
        x, rest = values[: form.size], iter(values[form.size :])
        carried = [next(rest) for _ in waiting]
        held = [carried[0] if row is None else _line(x, row) + next(rest) for row in rows]
    return chain.network([held[0] - held[1]])


def hanin(function: ExactNet | Lattice | Difference) -> ExactNet:
    """A narrow chain for any continuous piecewise linear function on `[0, 1]^d`.

    It has at most `d + 3` neurons a layer, of which at most 3 are unstable [Hanin Thm 2]. In
    fact `d + 2` and 1 are enough, and 2 for a difference of maxima.

    Arguments:
        function: a small network with one output, which is brought into lattice form; or a
            lattice form, or a difference of maxima.

    Raises:
        Unsupported: if a network has more than one output, or too many affine pieces.

    Trust: exact.
    """
    size = function.input_size if isinstance(function, ExactNet) else function.size
    cube = Polytope.box([0] * size, [1] * size)
    match function:
        case Difference():
            return max_affine_difference(function, cube)
        case ExactNet():
            return lattice(lattice_form(function, cube), cube)
        case Lattice():
            return lattice(function, cube)


def unstable(
    net: ExactNet, lower: ArrayLike | Polytope, upper: ArrayLike | None = None
) -> list[int]:
    """The number of neurons of each layer whose pre-activation changes its sign on a domain.

    Raises:
        BadInput, VacuousProperty: if the domain is none, or has another size than the network.
        Unsupported: if the network has too many regions.

    Trust: exact.
    """
    whole = domain(lower, upper)
    found: list[int] = []
    for depth, layer in enumerate(net.layers):
        front = ExactNet(net.input_size, net.layers[:depth], layer.weight, layer.bias)
        found.append(sum(low < 0 < high for low, high in exact_range(front, whole)))
    return found
