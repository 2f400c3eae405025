"""Tanh and sigmoid: proven extremes of `f(x) - s x`, and the slopes worth having.

Both curves are one: `sigmoid(x) = 1/2 + tanh(x / 2) / 2`, so that everything is done for tanh,
in float64. The bound on `tanh(x) - s x` uses only that tanh is odd, convex below 0 and concave
above, through one tangent at a point that may be any number: how well the point was found
decides how tight the bound is, never whether it holds.

Trust: what is assumed of the runtime is that `torch.tanh` and `torch.exp` in float64 are within
4 units in the last place; the vendors promise 1 and 2. Everything else is rounded outwards.
"""

import torch
from torch import Tensor

from hullmark.bounds.rounding import down, up

# Four units in the last place are 2^-50 of the value; the rest pays for using the margin.
_VALUE_MARGIN = 2.0**-49
_DERIVATIVE_MARGIN = 2.0**-48
# More than results lose where they are too small to have full precision.
_ABSOLUTE_MARGIN = 1e-300
# Each round about doubles the correct digits of the touching point.
_ROUNDS = 6


def tanh_highest(lower: Tensor, upper: Tensor, slope: Tensor) -> Tensor:
    """An upper bound on `tanh(x) - slope * x` over `lower <= x <= upper`.

    Where `x >= 0` the difference is concave and so below its tangent at any point `t`; where
    `x <= 0` it is convex and largest at an end.

    Arguments:
        lower, upper, slope: float64, of one shape; any slope is fine.

    Returns:
        float64 of that shape; larger than the least upper bound by a few units in the last
        place of the largest value involved.

    Trust: holds in real arithmetic, see the head of this file.
    """
    start = lower.clamp(min=0)
    point = torch.minimum(torch.maximum(_stationary(slope), start), upper)
    least, most = _derivative_range(point)
    rise = up(up(most - slope).clamp(min=0) * up(upper - point))
    fall = up(up(slope - least).clamp(min=0) * up(point - start))
    peak = up(_above(point, slope) + torch.maximum(rise, fall))
    right = torch.where(upper > 0, peak, _above(upper, slope))
    highest = torch.maximum(_above(lower, slope), right)
    return torch.where(slope == 0, tanh_above(upper), highest)


def sigmoid_highest(lower: Tensor, upper: Tensor, slope: Tensor) -> Tensor:
    """An upper bound on `sigmoid(x) - slope * x` over `lower <= x <= upper`.

    Arguments, returns and trust as for `tanh_highest`.
    """
    a, b = lower * 0.5, upper * 0.5
    a = torch.where(a * 2 == lower, a, down(a))
    b = torch.where(b * 2 == upper, b, up(b))
    return up(0.5 + up(0.5 * tanh_highest(a, b, slope * 4)))


def tanh_above(x: Tensor) -> Tensor:
    """A number at or above `tanh(x)`, at most 1; x float64."""
    t = torch.tanh(x)
    return (t + (t.abs() * _VALUE_MARGIN + _ABSOLUTE_MARGIN)).clamp(max=1)


def tanh_derivative(x: Tensor) -> Tensor:
    """`1 - tanh(x)^2` to full relative precision, x float64; not directed."""
    e = torch.exp(x.abs() * -2)
    return 4 * e / (1 + e).square()


def tanh_support_slope(lower: Tensor, upper: Tensor, point: Tensor) -> Tensor:
    """The slope of a supporting line of tanh's concave envelope on `[lower, upper]` at `point`.

    At the middle of the interval it is the upper line of least area. The envelope is a straight
    line from the lower end to a touching point `d >= 0`, and tanh itself from there on; `d`
    maximises the slope `(tanh(d) - tanh(lower)) / (d - lower)`, a ratio of a concave and a
    linear function, which Dinkelbach's iteration finds.

    Arguments:
        lower, upper, point: float64 of one shape.

    Returns:
        A slope of that shape, between 0 and 1; approximate, as slopes may be.
    """
    base = torch.tanh(lower)

    def steepness(d: Tensor) -> Tensor:
        return (torch.tanh(d) - base) / (d - lower)

    # At `-lower` tanh is already flatter than the chord from `lower`, so `d` is not beyond.
    d = torch.where(lower < 0, torch.minimum(upper, -lower), upper)
    for _ in range(_ROUNDS):
        d = torch.minimum(_stationary(steepness(d)), upper)
    straight = steepness(d)
    straight = torch.where(straight.isnan(), tanh_derivative(upper), straight)
    bent = point > torch.where(lower >= 0, lower, d)
    return torch.where(bent, tanh_derivative(point), straight).clamp(0, 1)


def _stationary(slope: Tensor) -> Tensor:
    """The `x >= 0` at which tanh has this slope: 0 above slope 1, infinity below slope 0."""
    s = slope.clamp(0, 1)
    return torch.log((1 + torch.sqrt(1 - s)) / torch.sqrt(s))


def _above(x: Tensor, slope: Tensor) -> Tensor:
    line = slope * x
    line = torch.where((slope == 0) | (x == 0), torch.zeros_like(line), down(line))
    return up(tanh_above(x) - line)


def _derivative_range(x: Tensor) -> tuple[Tensor, Tensor]:
    d = tanh_derivative(x)
    margin = d * _DERIVATIVE_MARGIN + _ABSOLUTE_MARGIN
    return d - margin, d + margin
