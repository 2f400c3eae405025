"""The convex barrier: networks that do nothing, and on which relaxations are off by any amount."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from hullmark.errors import BadInput, Unsupported
from hullmark.relax.exact import as_fraction
from hullmark.theory.net import ExactNet, mlp
from hullmark.theory.phantom import (
    Chain,
    Enclosure,
    Interval,
    PhantomPoint,
    chain,
    phantom_point,
)

ENDS = (Fraction(-1),), (Fraction(1),)
"""Every barrier asks about [-1, 1]."""

HALF = Fraction(1, 2)

STEEPEST = {"relu": Fraction(1), "tanh": Fraction(1), "sigmoid": Fraction(1, 4)}
"""No activation rises faster than this; none falls."""


@dataclass(frozen=True, eq=False)
class Barrier:
    """A ReLU network that is 0 on all of [-1, 1], while P_r's lower bound is exactly `-gap`.

    Arguments:
        net: `x -> -2 gap * min(relu(x), relu(-x))`, one input and one output.
        gap: T of the theorems.
        window: r; no r consecutive layers tell P_r that the two ReLUs are never both on.
    """

    net: ExactNet
    gap: Fraction
    window: int

    @property
    def lower(self) -> tuple[Fraction, ...]:
        """The lower end of the input box."""
        return ENDS[0]

    @property
    def upper(self) -> tuple[Fraction, ...]:
        """The upper end of the input box."""
        return ENDS[1]

    @property
    def layers(self) -> int:
        """The number of affine layers, L."""
        return self.net.depth

    @property
    def range(self) -> Interval:
        """The least and the largest value of the network: both are 0."""
        return Fraction(0), Fraction(0)

    @property
    def bound(self) -> Fraction:
        """The lower bound of P_window, and so that of P_1."""
        return -self.gap

    @property
    def threshold(self) -> Fraction:
        """Halfway between the truth and the bound: the output never falls so low."""
        return -self.gap / 2

    @property
    def chain(self) -> Chain:
        """The network, for `PhantomPoint` and for files."""
        hidden = [(layer.weight, layer.bias) for layer in self.net.layers]
        return chain([*hidden, (self.net.weight, self.net.bias)], "relu")

    @property
    def phantom(self) -> PhantomPoint:
        """Halfway between what -1 and 1 yield behind the first layer, both ReLUs are on."""
        return phantom_point(self.chain, ENDS, [[-1], [1]], [HALF, HALF])


MOST_LAYERS = 1000
"""Of a barrier."""


def barrier(T: int | float | Fraction, window: int = 1, layers: int | None = None) -> Barrier:
    """A network on which P_r is off by T while its range is a point.

    The first layer yields `(a, b) = (relu(x), relu(-x))`, of which one is always 0, and the last
    hidden one `2T relu(a)` and `2T relu(a - b)`, whose difference is `2T min(a, b)`. The hull of
    the first layer's values holds (1/2, 1/2). Layers between the two pass a and b on, so that no
    window of r <= L - 2 layers spans both: P_1 fails by [Barrier Thm 3.3], P_r by
    [Barrier Thm 4.2]. P_{L-1} is exact.

    Arguments:
        T: positive; a float is the dyadic fraction that it stores.
        window: r, at least 1.
        layers: L, the number of affine layers, at least `window + 2`, which None stands for.

    Raises:
        BadInput: if an argument is otherwise.
        Unsupported: if there are over `MOST_LAYERS` layers.

    Trust: exact.
    """
    gap = _positive(T, "T")
    _count(window, "window")
    depth = window + 2 if layers is None else _count(layers, "layers")
    if window > depth - 2:
        raise BadInput(
            f"window is {window}, layers {depth}: a barrier needs window <= layers - 2, "
            "since P_r with r = layers - 1 is exact"
        )
    if depth > MOST_LAYERS:
        raise Unsupported(f"a barrier of {depth} layers is too deep (limit {MOST_LAYERS})")
    first = ([[1], [-1]], [0, 0])
    passing = ([[1, 0], [0, 1]], [0, 0])
    # Scaled here and not behind it, floats give 0 everywhere, too.
    meeting = ([[2 * gap, 0], [2 * gap, -2 * gap]], [0, 0])
    last = ([[-1, 1]], [0])
    chosen: list[tuple[Any, Any]] = [first, *[passing] * (depth - 3), meeting, last]
    return Barrier(mlp(chosen), gap, window)


def l_shape() -> ExactNet:
    """`x -> (relu(x), relu(-x))`, which maps [-1, 1] to an L.

    One layer of ReLUs that takes a segment to a set that is not convex: [MN-v1 Lemma 3] is false,
    and with it what rests on it.
    """
    return mlp([([[1], [-1]], [0, 0]), ([[1, 0], [0, 1]], [0, 0])])


@dataclass(frozen=True, eq=False)
class SmoothBarrier:
    """A tanh or sigmoid network within `epsilon` of 0 on [-1, 1], where P_1 is off by `gap`.

    Arguments:
        gap, epsilon: what `check` compares with.
        range: an interval that contains the network's values on the box.
        phantom: at a point of the hull behind the first layer, the network is at least `gap`
            below that interval.

    Trust: that of `check`.
    """

    gap: Fraction
    epsilon: Fraction
    range: Interval
    phantom: PhantomPoint

    @property
    def chain(self) -> Chain:
        """The network."""
        return self.phantom.net

    @property
    def lower(self) -> tuple[Fraction, ...]:
        """The lower end of the input box."""
        return self.phantom.lower

    @property
    def upper(self) -> tuple[Fraction, ...]:
        """The upper end of the input box."""
        return self.phantom.upper

    @property
    def threshold(self) -> Fraction:
        """Between the range and the phantom point: the output never falls so low."""
        return -self.epsilon - self.gap / 2

    def check(self) -> bool:
        """Whether range and phantom point are as claimed, computed anew from the weights.

        So the range lies within `epsilon` of 0 and is no wider than that, and P_1's lower bound
        is below the least value by `gap` at least.

        Trust: intervals of rationals, rounded outwards.
        """
        if (self.lower, self.upper) != ENDS or not _is_second_difference(self.chain):
            return False
        low, high = _range(self.chain, self.phantom.bits)
        claimed = self.range[0] <= low and high <= self.range[1]
        narrow = max(self.range[1] - self.range[0], -self.range[0], self.range[1]) <= self.epsilon
        missed = self.phantom.most <= self.range[0] - self.gap
        return claimed and narrow and missed and self.phantom.check()


def smooth_barrier(
    T: int | float | Fraction,
    activation: Literal["tanh", "sigmoid"] = "tanh",
    epsilon: int | float | Fraction = Fraction(1, 1000),
) -> SmoothBarrier:
    """A network of tanh or sigmoid units, nearly 0 on [-1, 1], on which P_1 is off by T.

    With the sigmoid s, the first layer yields `p = 2 s(2k(x - 1/2))` and `q = 2 s(2k(-x - 1/2))`;
    one of them is below `2 exp(-k)` for every x. The output is `c` times `tanh(p + q) - tanh(p) -
    tanh(q)`, which vanishes where p or q does. Halfway between what -1 and 1 yield, p and q are
    about 1 and the output is below `-c/2`. [Barrier] has such networks by universal approximation;
    this one is explicit.

    A tanh network and a sigmoid network can be the same function, since `s(2x)` is
    `(1 + tanh(x)) / 2`; here they are. All weights are dyadic.

    Arguments:
        T: positive.
        activation: "tanh" or "sigmoid".
        epsilon: positive; how far from 0 the output may be, and how wide its range. The weights
            of the first layer grow with `log(T / epsilon)`.

    Raises:
        BadInput: if an argument is otherwise.

    Trust: `SmoothBarrier.check` holds for the result; it is not needed for making it.
    """
    gap, width = _positive(T, "T"), _positive(epsilon, "epsilon")
    if activation not in ("tanh", "sigmoid"):
        raise BadInput(f"the activation {activation!r} is neither tanh nor sigmoid")
    scale = Fraction(2) ** _exponent(2 * (gap + width))
    # The range is at most 4 scale exp(-steep) < 16 (gap + width) 2^-steep wide.
    steep = _exponent(16 * (gap + width) / width)
    layers: list[tuple[Any, Any]]
    if activation == "tanh":
        layers = [
            ([[steep], [-steep]], [-steep * HALF] * 2),
            ([[1, 1], [1, 0], [0, 1]], [2, 1, 1]),
            ([[scale, -scale, -scale]], [0]),
        ]
    else:
        layers = [
            ([[2 * steep], [-2 * steep]], [-steep, -steep]),
            ([[4, 4], [4, 0], [0, 4]], [0, 0, 0]),
            ([[2 * scale, -2 * scale, -2 * scale]], [scale]),
        ]
    net = chain(layers, activation)
    bits = 64 + 4 * steep
    point = phantom_point(net, ENDS, [[-1], [1]], [HALF, HALF], bits=bits)
    return SmoothBarrier(gap, width, _range(net, bits), point)


def _is_second_difference(net: Chain) -> bool:
    """Whether the network is `c (s(p + q) - s(p) - s(q) + s(0))`, s its activation.

    Here p rises with the input and q falls, and both are affine in one first unit each.
    """
    if [weight.shape for weight, _ in net.layers] != [(2, 1), (3, 2), (1, 3)]:
        return False
    (first, _), (second, bias), (last, constant) = net.layers
    summed = np.all(second[0] == second[1] + second[2]) and bias[0] == bias[1] + bias[2]
    rises = first[0, 0] > 0 and second[1, 0] > 0 and second[1, 1] == 0
    falls = first[1, 0] < 0 and second[2, 1] > 0 and second[2, 0] == 0
    scale = last[0, 0]
    ends = last[0, 1] == -scale and last[0, 2] == -scale
    middle = HALF if net.activation == "sigmoid" else Fraction(0)
    return bool(summed and rises and falls and ends and constant[0] == scale * middle)


def _range(net: Chain, bits: int) -> Interval:
    """An interval of all values on [-1, 1] of what `_is_second_difference` says.

    Left of 0 it is p that lies between p(-1) and p(0), right of it q between q(1) and q(0). Call
    it r, and D the multiples of r between 0 and the steepest slope: both `s(p + q) - s(p + q - r)`
    and `s(r) - s(0)` lie in D, and the output is c times their difference.
    """
    left, middle, right = (_sums(net, Fraction(x), bits) for x in (-1, 0, 1))
    least = min(left.lower[1], right.lower[2], Fraction(0))
    largest = max(middle.upper[1], middle.upper[2], Fraction(0))
    reach = abs(net.layers[-1][0][0, 0]) * STEEPEST[net.activation] * (largest - least)
    return -reach, reach


def _sums(net: Chain, x: Fraction, bits: int) -> Enclosure:
    """Intervals of p + q, p and q at an input."""
    at = np.array([x], dtype=object)
    return net.before(net.enclosures(Enclosure(at, at), 0, bits)[1], 1)


def _count(value: Any, name: str) -> int:
    if not isinstance(value, int) or value < 1:
        raise BadInput(f"{name} is {value!r}, not a positive number of layers")
    return value


def _positive(value: int | float | Fraction, name: str) -> Fraction:
    number = as_fraction(value, name)
    if number <= 0:
        raise BadInput(f"{name} is {value}, not positive")
    return number


def _exponent(value: Fraction) -> int:
    """The least n with `2^n >= value`, value positive."""
    n = value.numerator.bit_length() - value.denominator.bit_length() - 1
    while Fraction(2) ** n < value:
        n += 1
    return n
