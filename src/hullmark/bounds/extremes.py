"""Proven extremes of `f(x) - s x` on an interval, for every element-wise operation `f`.

Every relaxation by lines rests on this alone: a slope may come from anywhere, in any precision,
and its offset is the extreme of what the slope leaves over. All of it is float64, rounded
outwards, and then rounded outwards once more to the precision of the bounds.
"""

import numpy as np
import torch
from torch import Tensor

from hullmark.bounds.rounding import down, up
from hullmark.bounds.scurves import sigmoid_highest, tanh_highest
from hullmark.errors import BadInput, Unsupported
from hullmark.network import ops
from hullmark.network.ops import Elementwise, Rectifier


def offsets(op: Elementwise, lower: Tensor, upper: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds on `op(x) - slope * x` over `lower <= x <= upper`.

    Arguments:
        op: the operation.
        lower, upper, slope: `(batch, *shape)`, float32 or float64, `lower <= upper`.

    Returns:
        The lowest and the highest value, in the precision of the bounds; infinite where the
        range of float is left.

    Raises:
        Unsupported: for a reciprocal on an interval that holds 0.

    Trust: holds in real arithmetic for every real `x` in the closed interval (sigmoid and tanh:
    see `scurves`); a few units in the last place from the true extremes.
    """
    return lowest(op, lower, upper, slope), highest(op, lower, upper, slope)


def highest(op: Elementwise, lower: Tensor, upper: Tensor, slope: Tensor) -> Tensor:
    """The upper half of `offsets`."""
    check_domain(op, lower, upper)
    top = _highest(op, lower.double(), upper.double(), slope.double())
    return round_up(top, lower.dtype)


def lowest(op: Elementwise, lower: Tensor, upper: Tensor, slope: Tensor) -> Tensor:
    """The lower half of `offsets`."""
    check_domain(op, lower, upper)
    top = _highest(_mirrored(op), -upper.double(), -lower.double(), slope.double())
    if isinstance(op, ops.Sigmoid):
        # sigmoid(-x) = 1 - sigmoid(x); the other curves are odd, or mirrored into each other.
        top = up(top - 1)
    return -round_up(top, lower.dtype)


def check_domain(op: Elementwise, lower: Tensor, upper: Tensor) -> None:
    """Reject a reciprocal whose argument may be 0.

    Raises:
        Unsupported: naming the interval.
    """
    if isinstance(op, ops.Reciprocal):
        across = (lower <= 0) & (upper >= 0)
        if bool(across.any()):
            worst = int(across.flatten().int().argmax())
            a, b = lower.flatten()[worst].item(), upper.flatten()[worst].item()
            raise Unsupported(f"Reciprocal: its argument may be 0, being in [{a:.6g}, {b:.6g}]")


def round_up(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The least number of `dtype` at or above the float64 `x`; infinity for NaN."""
    y = x.to(dtype)
    if dtype != torch.float64:
        y = torch.where(y.double() < x, up(y), y)
    return torch.where(y.isnan(), torch.full_like(y, torch.inf), y)


def rectifier_slopes(op: Rectifier, like: Tensor) -> tuple[Tensor, Tensor]:
    """The negative and the positive slope as float64 on the device of `like`, exactly."""
    if op.negative.dtype == object or op.positive.dtype == object:
        raise BadInput("Rectifier: exact slopes cannot be bounded in floating point")
    negative = torch.as_tensor(np.asarray(op.negative, np.float64), device=like.device)
    positive = torch.as_tensor(np.asarray(op.positive, np.float64), device=like.device)
    return negative, positive


def _mirrored(op: Elementwise) -> Elementwise:
    """The operation whose graph is that of `op` turned about the origin."""
    return Rectifier(op.positive, op.negative) if isinstance(op, Rectifier) else op


def _highest(op: Elementwise, lower: Tensor, upper: Tensor, slope: Tensor) -> Tensor:
    match op:
        case Rectifier():
            return _rectifier_highest(op, lower, upper, slope)
        case ops.Sigmoid():
            return sigmoid_highest(lower, upper, slope)
        case ops.Tanh():
            return tanh_highest(lower, upper, slope)
        case ops.Sign():
            return _sign_highest(lower, upper, slope)
        case ops.Reciprocal():
            a, b = torch.where(lower > 0, lower, -upper), torch.where(lower > 0, upper, -lower)
            return torch.where(
                lower > 0,
                _reciprocal_ends(a, b, slope)[1],
                -_reciprocal_lowest(a, b, slope),
            )


def _rectifier_highest(op: Rectifier, lower: Tensor, upper: Tensor, slope: Tensor) -> Tensor:
    negative, positive = rectifier_slopes(op, lower)
    left = _linear_above(torch.where(lower < 0, negative, positive), slope, lower)
    right = _linear_above(torch.where(upper < 0, negative, positive), slope, upper)
    top = torch.maximum(left, right)
    return torch.where((lower < 0) & (upper > 0), top.clamp(min=0), top)


def _linear_above(steep: Tensor, slope: Tensor, x: Tensor) -> Tensor:
    """At or above `(steep - slope) * x`; equal to it where nothing has to be rounded."""
    d = steep - slope
    exact = (steep == 0) | (slope == 0) | (d == 0)
    d = torch.where(exact, d, torch.where(x > 0, up(d), down(d)))
    y = d * x
    y = torch.where(d.abs() == 1, y, up(y))
    return torch.where((d == 0) | (x == 0), torch.zeros_like(y), y)


def _sign_highest(lower: Tensor, upper: Tensor, slope: Tensor) -> Tensor:
    def above(x: Tensor) -> Tensor:
        line = slope * x
        line = torch.where((slope == 0) | (x == 0), torch.zeros_like(line), down(line))
        return torch.where(line == 0, torch.sign(x), up(torch.sign(x) - line))

    # The limits at 0 from both sides, which only count where that side is in the interval.
    at_zero = torch.where(upper > 0, 1.0, torch.where(upper == 0, 0.0, -torch.inf))
    at_zero = torch.where(lower > 0, -torch.inf, at_zero)
    return torch.maximum(torch.maximum(above(lower), above(upper)), at_zero)


def _reciprocal_ends(lower: Tensor, upper: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Below the lesser and above the greater of the two end values, `0 < lower <= upper`."""
    lows, highs = [], []
    for x in (lower, upper):
        line = slope * x
        flat = slope == 0
        lows.append(torch.where(flat, down(1 / x), down(down(1 / x) - up(line))))
        highs.append(torch.where(flat, up(1 / x), up(up(1 / x) - down(line))))
    return torch.minimum(*lows), torch.maximum(*highs)


def _reciprocal_lowest(lower: Tensor, upper: Tensor, slope: Tensor) -> Tensor:
    """Below `1/x - slope * x`, which is convex: the least end, or `2 sqrt(-slope)` between."""
    fall = -slope
    rising = down(down(lower * lower) * fall) >= 1
    falling = (fall <= 0) | (up(up(upper * upper) * fall) <= 1)
    between = down(2 * down(torch.sqrt(fall.clamp(min=0))))
    return torch.where(rising | falling, _reciprocal_ends(lower, upper, slope)[0], between)
