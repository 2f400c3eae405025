"""Phantom points: what no input yields, but the hull behind a layer holds.

Values of tanh and sigmoid are irrational, so they are enclosed in rational intervals; the balls
of Arb give them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import numpy as np
from flint import arb, ctx, fmpq
from numpy.typing import ArrayLike

from hullmark.errors import BadInput
from hullmark.relax.exact import Array, as_fractions

Activation = Literal["relu", "tanh", "sigmoid"]

Interval = tuple[Fraction, Fraction]


class Enclosure(NamedTuple):
    """Intervals of several values; both ends `(n,)`, fractions."""

    lower: Array
    upper: Array


def enclose(activation: Activation, x: Interval, bits: int) -> Interval:
    """An interval of rationals that contains the activation of every number of an interval.

    Arguments:
        x: its ends.
        bits: of working precision; more make the result narrower.

    Trust: exact for the ReLU. For tanh and sigmoid the ends are rounded outwards, by Arb.
    """
    zero, half = Fraction(0), Fraction(1, 2)
    low, high = x
    match activation:
        case "relu":
            return max(low, zero), max(high, zero)
        case "tanh":
            return _tanh(low, bits)[0], _tanh(high, bits)[1]
        case "sigmoid":
            # sigmoid(x) = (1 + tanh(x / 2)) / 2.
            return half + half * _tanh(half * low, bits)[0], half + half * _tanh(half * high, bits)[
                1
            ]


def _tanh(x: Fraction, bits: int) -> Interval:
    with ctx.workprec(bits):
        ball = arb(fmpq(x.numerator, x.denominator)).tanh()
        ends = ball.lower().fmpq(), ball.upper().fmpq()
    low, high = (Fraction(int(end.p), int(end.q)) for end in ends)
    return low, high


@dataclass(frozen=True, eq=False)
class Chain:
    """Affine layers, each a pair `(weight, bias)` of fractions, with one activation between them.

    Make one by `chain`, which checks that the layers fit.
    """

    layers: tuple[tuple[Array, Array], ...]
    activation: Activation

    def enclosures(self, start: Enclosure, first: int, bits: int) -> list[Enclosure]:
        """Intervals of what layer `first` reads, `start`, and of what each later one reads.

        The last entry encloses the outputs. Values of one layer are enclosed one by one.
        """
        found = [start]
        for index in range(first, len(self.layers)):
            before = self.before(found[-1], index)
            if index < len(self.layers) - 1:
                ends = zip(before.lower, before.upper, strict=True)
                after = np.array([enclose(self.activation, x, bits) for x in ends], dtype=object)
                found.append(Enclosure(after[:, 0], after[:, 1]))
            else:
                found.append(before)
        return found

    def before(self, read: Enclosure, index: int) -> Enclosure:
        """Intervals of the pre-activations of layer `index`, from those of what it reads."""
        weight, bias = self.layers[index]
        rise = weight * (weight > 0)
        fall = weight - rise
        return Enclosure(
            np.dot(rise, read.lower) + np.dot(fall, read.upper) + bias,
            np.dot(rise, read.upper) + np.dot(fall, read.lower) + bias,
        )

    def enclose(self, x: ArrayLike, bits: int = 128) -> list[Interval]:
        """Intervals that contain the outputs at one input `(n,)`.

        Raises:
            BadInput: if `x` is no input of this network.

        Trust: sound; `enclose` says how.
        """
        point = as_fractions(x, "x", 1)
        if len(point) != self.input_size:
            raise BadInput(f"x has {len(point)} entries, the network {self.input_size} inputs")
        outputs = self.enclosures(Enclosure(point, point), 0, bits)[-1]
        return list(zip(outputs.lower, outputs.upper, strict=True))

    @property
    def input_size(self) -> int:
        """The number of inputs."""
        return self.layers[0][0].shape[1]


def chain(layers: Sequence[tuple[Any, Any]], activation: Activation) -> Chain:
    """The chain of these layers: weight `(m, n)` and bias `(m,)` of each, numbers of any kind.

    Raises:
        BadInput: if shapes do not fit, a number is not finite, or the activation is another.

    Trust: exact.
    """
    if activation not in ("relu", "tanh", "sigmoid"):
        raise BadInput(f"the activation {activation!r} is none of relu, tanh, sigmoid")
    read: list[tuple[Array, Array]] = []
    for index, (weight, bias) in enumerate(layers):
        w = as_fractions(weight, f"weight of layer {index}", 2)
        b = as_fractions(bias, f"bias of layer {index}", 1)
        if len(w) != len(b) or 0 in w.shape or (read and w.shape[1] != len(read[-1][1])):
            raise BadInput(f"layer {index} has weights of shape {w.shape} and {len(b)} biases")
        read.append((w, b))
    if not read:
        raise BadInput("a network needs at least one layer")
    return Chain(tuple(read), activation)


@dataclass(frozen=True, eq=False)
class PhantomPoint:
    """A convex combination of what real inputs yield behind layer `depth`, and where it leads.

    The network is `f2 . f1`, f1 its first `depth` layers. The point `sum of w_i f1(x_i)` lies in
    the convex hull of f1(X), where P_1 must expect it, so that P_1's lower bound of the output
    is at most f2's value there, and that is at most `most` [Barrier Lemma 3.2].

    Arguments:
        net: a chain with one output.
        lower, upper: the box X, its ends.
        inputs, weights: the x_i, all in X, and the w_i, not negative, of sum 1.
        values: intervals of the entries of the point.
        most: what f2 does not exceed wherever the point lies in `values`.
        bits: the precision at which `check` works.

    Trust: that of `check`.
    """

    net: Chain
    lower: tuple[Fraction, ...]
    upper: tuple[Fraction, ...]
    inputs: tuple[tuple[Fraction, ...], ...]
    weights: tuple[Fraction, ...]
    values: tuple[Interval, ...]
    most: Fraction
    depth: int
    bits: int

    @property
    def flaw(self) -> str | None:
        """Why box, inputs, weights and depth make no point of the hull; None if they do."""
        net, sizes = self.net, {len(self.lower), len(self.upper), *map(len, self.inputs)}
        if len(net.layers[-1][1]) != 1:
            return f"it is about one output, and the network has {len(net.layers[-1][1])}"
        if not 1 <= self.depth < len(net.layers):
            return f"depth is {self.depth}, and {len(net.layers) - 1} layers are hidden"
        if sizes != {net.input_size}:
            return f"the network has {net.input_size} inputs, box and points {sorted(sizes)}"
        for x in self.inputs:
            if not all(a <= c <= b for a, c, b in zip(self.lower, x, self.upper, strict=True)):
                return f"the input {tuple(map(str, x))} is outside the box"
        if len(self.weights) != len(self.inputs) or sum(self.weights) != 1:
            return f"its {len(self.inputs)} inputs need as many weights, of sum 1"
        return "a weight is negative" if min(self.weights) < 0 else None

    def check(self) -> bool:
        """Whether all of this is so, computed anew.

        Trust: intervals of rationals, rounded outwards; `False` may also mean too few bits.
        """
        if self.flaw is not None:
            return False
        found = _combined(self.net, self.inputs, self.weights, self.depth, self.bits)
        if len(found.lower) != len(self.values):
            return False
        ends = zip(found.lower, found.upper, self.values, strict=True)
        contained = all(low <= a and b <= high for a, b, (low, high) in ends)
        return contained and _most(self.net, self.values, self.depth, self.bits) <= self.most


def phantom_point(
    net: Chain,
    box: tuple[Any, Any],
    inputs: Any,
    weights: Any,
    *,
    depth: int = 1,
    bits: int = 128,
) -> PhantomPoint:
    """The phantom point of these inputs and weights, with the output's upper bound there.

    Arguments:
        net: a chain with one output.
        box: its lower and upper ends, `(n,)` each.
        inputs: `(k, n)`, in the box.
        weights: `(k,)`, not negative, of sum 1.
        depth: the layer behind which values are combined, from 1 to the hidden layers' number.

    Raises:
        BadInput: if one of these is otherwise.

    Trust: `PhantomPoint.check` holds for the result.
    """
    lower, upper = (as_fractions(end, "an end of the box", 1).tolist() for end in box)
    points = tuple(tuple(x) for x in as_fractions(inputs, "inputs", 2).tolist())
    shares = tuple(as_fractions(weights, "weights", 1).tolist())
    ends = tuple(lower), tuple(upper)
    bare = PhantomPoint(net, *ends, points, shares, (), Fraction(0), depth, bits)
    if bare.flaw is not None:
        raise BadInput(f"no phantom point: {bare.flaw}")
    found = _combined(net, points, shares, depth, bits)
    values = tuple(zip(found.lower.tolist(), found.upper.tolist(), strict=True))
    return replace(bare, values=values, most=_most(net, values, depth, bits))


def _combined(
    net: Chain,
    inputs: Sequence[Sequence[Fraction]],
    weights: Sequence[Fraction],
    depth: int,
    bits: int,
) -> Enclosure:
    """Intervals of the convex combination of what the inputs yield behind layer `depth`."""
    points = [np.array(x, dtype=object) for x in inputs]
    behind = [net.enclosures(Enclosure(x, x), 0, bits)[depth] for x in points]
    shares = np.array(weights, dtype=object)
    lower, upper = (np.array(ends, dtype=object) for ends in zip(*behind, strict=True))
    return Enclosure(np.dot(shares, lower), np.dot(shares, upper))


def _most(net: Chain, values: Sequence[Interval], depth: int, bits: int) -> Fraction:
    """What the output does not exceed where layer `depth` yields values in these intervals."""
    ends = np.array(values, dtype=object)
    return net.enclosures(Enclosure(ends[:, 0], ends[:, 1]), depth, bits)[-1].upper[0]
