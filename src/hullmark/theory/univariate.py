"""Networks for functions of one variable that relaxations bound exactly, on every interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise, product
from typing import Any

import numpy as np

from hullmark.errors import BadInput, Unsupported
from hullmark.theory.cpwl import Cpwl, Hinge, hinges
from hullmark.theory.net import ExactNet, mlp

RELAXATIONS = ("ibp", "deeppoly0", "deeppoly1", "triangle", "p1")
"""The relaxations of [Expr Table 1]."""


def _net(*layers: tuple[Sequence[Sequence[Any]], Sequence[Any]]) -> ExactNet:
    return mlp([(np.array(w, dtype=object), np.array(b, dtype=object)) for w, b in layers])


def constant(value: Fraction) -> ExactNet:
    """The network of one input whose output is always this."""
    return _net(([[0]], [value]))


def _one_layer(f: Cpwl, bends: Sequence[Hinge], slope: Fraction, offset: Fraction) -> ExactNet:
    """`offset + slope * (x - a) + sum of bends`; `x - a` goes through a ReLU that is stable."""
    start = f.knots[0]
    rows = [([1] if h.right else [-1], -h.knot if h.right else h.knot, h.weight) for h in bends]
    if slope:
        rows.append(([1], -start, slope))
    if not rows:
        return constant(offset)
    weight, bias, out = zip(*rows, strict=True)
    return _net((weight, bias), ([out], [offset]))


def monotone_ibp(f: Cpwl) -> ExactNet:
    """A monotone function as a sum of clamped ramps: exact under intervals [Expr].

    Ramp i is `w - relu(w - relu(x - x_i))`, `w` the width of piece i. The input occurs once in
    each, and all ramps rise, or all fall: so interval arithmetic is exact. So are DeepPoly-0 and
    the triangle, on every interval within the domain; DeepPoly-1 is not.

    Raises:
        BadInput: if the function is not monotone.
    """
    ramps = _ramps(f)
    if not ramps:
        return constant(f.values[0])
    first = [[1]] * len(ramps), [-knot for knot, _, _ in ramps]
    second = [_unit(i, len(ramps), -1) for i in range(len(ramps))], [w for _, w, _ in ramps]
    total = f.values[0] + sum(slope * w for _, w, slope in ramps)
    return _net(first, second, ([[-slope for _, _, slope in ramps]], [total]))


def monotone_deeppoly1(f: Cpwl) -> ExactNet:
    """A monotone function as clamped ramps whose ReLUs all look the other way.

    DeepPoly-1 bounds `t + relu(-t)` as DeepPoly-0 bounds `relu(t)`: below by `t - t = 0`, above
    by the chord. With `p_i = (x - x_i) + relu(x_i - x)`, ramp i is `p_i - relu(p_i - w_i)`. The
    sum of the `p_i`, weighted, is a neuron of its own; it is never below 0, under DeepPoly-1
    too, and so it is stable. Exact under DeepPoly-1 on every interval within the domain.

    Raises:
        BadInput: if the function is not monotone.
    """
    ramps = _ramps(f)
    if not ramps:
        return constant(f.values[0])
    start, count = f.knots[0], len(ramps)
    first = [[-1]] * count + [[1]], [knot for knot, _, _ in ramps] + [-start]
    # `p_i` of what the first layer yields: ReLU i, and `x - start`.
    rows = [[*_unit(i, count, 1), 1] for i in range(count)]
    offsets = [start - knot for knot, _, _ in ramps]
    size = [abs(slope) for _, _, slope in ramps]
    total = [*size, sum(size)]
    second = (
        [*rows, total],
        [c - w for c, (_, w, _) in zip(offsets, ramps, strict=True)]
        + [sum(s * c for s, c in zip(size, offsets, strict=True))],
    )
    sign = 1 if f.values[-1] > f.values[0] else -1
    out = [-sign * s for s in size] + [sign]
    return _net(first, second, ([out], [f.values[0]]))


def _unit(index: int, size: int, value: int) -> list[int]:
    return [value if j == index else 0 for j in range(size)]


def _ramps(f: Cpwl) -> list[tuple[Fraction, Fraction, Fraction]]:
    """Knot, width and slope of every piece of a monotone function that is not flat."""
    if not f.is_monotone:
        raise BadInput("the function is not monotone")
    pieces = zip(pairwise(f.knots), f.slopes, strict=True)
    return [(left, right - left, slope) for (left, right), slope in pieces if slope]


def convex_triangle(f: Cpwl, mirrored: Sequence[bool]) -> ExactNet:
    """A convex function as a sum of hinges, some of them mirrored: exact under the triangle.

    Hinge i of `hinges(f)` is written `relu(t)`, or `t + relu(-t)` if `mirrored[i]`: the same
    function, another network. Every mixture is exact under the triangle on every interval within
    the domain [Expr]. A concave function is encoded as the negative of a convex one.

    Raises:
        BadInput: if the function is neither, or there is not one flag for each hinge.
    """
    if not f.is_convex and f.is_concave:
        net = convex_triangle(-f, mirrored)
        return ExactNet(net.input_size, net.layers, -net.weight, -net.bias)
    flat = hinges(f)
    if len(mirrored) != len(flat):
        raise BadInput(f"there are {len(flat)} hinges and {len(mirrored)} flags")
    start, end = f.domain
    rising, falling = f.slopes[0] > 0, f.slopes[-1] < 0
    # What is left beside the hinges: f(x*), or the line of a function without inner minimiser.
    slope = f.slopes[0] if rising else f.slopes[-1] if falling else Fraction(0)
    offset = f.values[-1] - slope * (end - start) if falling else min(f.values)
    bends: list[Hinge] = []
    for hinge, turned in zip(flat, mirrored, strict=True):
        bends.append(Hinge(hinge.knot, hinge.weight, hinge.right != turned))
        if turned:
            lean = hinge.weight if hinge.right else -hinge.weight
            slope, offset = slope + lean, offset + lean * (start - hinge.knot)
    return _one_layer(f, bends, slope, offset)


def convex_deeppoly0(f: Cpwl) -> ExactNet:
    """A convex or concave function as hinges that are flat at its minimiser [Expr].

    DeepPoly-0 bounds each of them below by 0, which is what it is at `x*`, and above by its
    chord; exact on every interval within the domain.

    Raises:
        BadInput: if the function is neither convex nor concave.
    """
    return convex_triangle(f, [False] * count_hinges(f))


def convex_deeppoly1(f: Cpwl) -> ExactNet:
    """A convex or concave function as `convex_deeppoly0`, every hinge mirrored [Expr].

    DeepPoly-1 bounds `t + relu(-t)` below by 0 and above by the chord of `relu(t)`.

    Raises:
        BadInput: if the function is neither convex nor concave.
    """
    return convex_triangle(f, [True] * count_hinges(f))


def count_hinges(f: Cpwl) -> int:
    """The number `n` of hinges of a convex or concave function; the triangle is exact on `2^n`
    encodings made of them.

    Raises:
        BadInput: if the function is neither.
    """
    return len(hinges(-f if f.is_concave and not f.is_convex else f))


def triangle_encodings(f: Cpwl) -> Iterator[tuple[tuple[bool, ...], ExactNet]]:
    """All `2^n` mixtures of `convex_triangle`, each with its flags."""
    for flags in product((False, True), repeat=count_hinges(f)):
        yield flags, convex_triangle(f, flags)


def univariate_p1(f: Cpwl) -> ExactNet:
    """Any function, with one hidden layer: exact under P_1 [Expr].

    P_1 takes the hull of what the layer yields; the output is affine in it.
    """
    bends = [Hinge(knot, change, True) for knot, change in f.kinks]
    return _one_layer(f, bends, f.slopes[0], f.values[0])


def encode(f: Cpwl, relaxation: str) -> ExactNet:
    """A network for the function on which a relaxation is exact, on every interval within its
    domain [Expr Table 1].

    Arguments:
        relaxation: one of `RELAXATIONS`.

    Raises:
        BadInput: if the relaxation is none of them.
        Unsupported: if no such network is known.

    Trust: exact.
    """
    if relaxation not in RELAXATIONS:
        raise BadInput(f"no encodings for {relaxation!r}; take one of {', '.join(RELAXATIONS)}")
    if relaxation == "p1":
        return univariate_p1(f)
    if f.is_monotone:
        return monotone_deeppoly1(f) if relaxation == "deeppoly1" else monotone_ibp(f)
    if relaxation != "ibp" and (f.is_convex or f.is_concave):
        return convex_deeppoly1(f) if relaxation == "deeppoly1" else convex_deeppoly0(f)
    raise Unsupported(
        f"no network is known for this function on which {relaxation} is exact on every interval; "
        "intervals need a monotone function, the others one that is monotone, convex or concave"
    )
