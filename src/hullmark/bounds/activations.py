"""Relaxations of element-wise operations by lines, batched, sound in real arithmetic.

Slopes are chosen by floating-point formulas for tightness; `extremes` then finds an offset
that makes each line hold.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from hullmark.bounds.extremes import (
    check_domain,
    highest,
    lowest,
    offsets,
    rectifier_slopes,
    round_up,
)
from hullmark.bounds.rounding import tiny, up
from hullmark.bounds.scurves import tanh_derivative, tanh_support_slope
from hullmark.errors import BadInput
from hullmark.network import ops
from hullmark.network.ops import Elementwise, Rectifier


class Lines(NamedTuple):
    """Two lines that enclose `y = op(x)`, neuron by neuron; all of the shape of the bounds.

    `lower_slope * x + lower_offset <= y <= upper_slope * x + upper_offset`.
    """

    lower_slope: Tensor
    lower_offset: Tensor
    upper_slope: Tensor
    upper_offset: Tensor


class Strip(NamedTuple):
    """Two parallel lines: `slope * x + lowest <= op(x) <= slope * x + highest`."""

    slope: Tensor
    lowest: Tensor
    highest: Tensor


class Adjustable(NamedTuple):
    """Where a line may turn about the origin, and how far.

    Where `lower` (`upper`) is true, the slope of the lower (upper) line of `relax` may be
    replaced by any number in `[least, greatest]`, its offset being kept.
    """

    lower: Tensor
    upper: Tensor
    least: Tensor
    greatest: Tensor


def relax(op: Elementwise, lower: Tensor, upper: Tensor, rule: str = "area") -> Lines:
    """Lines around `op` on `[lower, upper]`.

    The tight line of an unstable rectifier is its chord; of the other side any line through the
    origin with a slope between the two is tight at 0, and `rule` picks one. A smooth operation
    gets the supporting lines of its envelopes at the middle, which have the least area.

    Arguments:
        op: the operation.
        lower, upper: `(B, *shape)`, float32 or float64, `lower <= upper`; infinite ones give
            horizontal lines.
        rule: slope of the adjustable line of a rectifier: "area" for the smaller area
            [DeepPoly], "zero" for the negative-side slope (DeepPoly-0), "one" for the
            positive-side slope (DeepPoly-1) [Expr].

    Raises:
        Unsupported: for a reciprocal on an interval that holds 0.
        BadInput: for an unknown rule.

    Trust: the lines hold in real arithmetic for every real `x` with `lower <= x <= upper`. They
    touch up to a few units in the last place of the largest value involved.
    """
    if rule not in ("area", "zero", "one"):
        raise BadInput(f"rule {rule!r} is none of area, zero, one")
    match op:
        case Rectifier():
            if op.is_relu:
                return _relu_lines(lower, upper, rule)
            slopes = _rectifier_line_slopes(op, lower, upper, rule)
            return _fitted(op, lower, upper, *slopes)
        case ops.Sigmoid() | ops.Tanh():
            middle = lower / 2 + upper / 2
            return tangent_lines(op, lower, upper, middle, middle)
        case ops.Sign():
            below, above = _sign_upper_slope(-upper, -lower), _sign_upper_slope(lower, upper)
            return _fitted(op, lower, upper, below, above)
        case ops.Reciprocal():
            check_domain(op, lower, upper)
            middle = lower / 2 + upper / 2
            tangent, chord = -1 / middle / middle, -1 / lower / upper
            right = lower > 0
            below, above = torch.where(right, tangent, chord), torch.where(right, chord, tangent)
            return _fitted(op, lower, upper, below, above)


def tangent_lines(
    op: ops.Sigmoid | ops.Tanh,
    lower: Tensor,
    upper: Tensor,
    lower_point: Tensor,
    upper_point: Tensor,
) -> Lines:
    """Lines around a sigmoid or tanh that support its envelopes at given points.

    The lower line touches the convex envelope on `[lower, upper]` at `lower_point`, the upper
    line the concave envelope at `upper_point`; where the envelope is straight, the line is that
    straight piece. Every point is allowed, in or out of the interval.

    Arguments:
        op: the operation.
        lower, upper: `(B, *shape)`, `lower <= upper`.
        lower_point, upper_point: of the same shape.

    Trust: as for `relax`.
    """
    scale = 0.5 if isinstance(op, ops.Sigmoid) else 1.0
    a, b = lower.double() * scale, upper.double() * scale
    p = torch.minimum(torch.maximum(lower_point.double() * scale, a), b)
    q = torch.minimum(torch.maximum(upper_point.double() * scale, a), b)
    below = tanh_support_slope(-b, -a, -p) * scale**2
    above = tanh_support_slope(a, b, q) * scale**2
    return _fitted(op, lower, upper, below, above)


def strip(op: Elementwise, lower: Tensor, upper: Tensor) -> Strip:
    """Two parallel lines around `op`, for domains that keep one slope a neuron.

    A rectifier and a reciprocal get the slope of their chord, which makes the strip as thin as
    can be; sigmoid and tanh the smaller of their slopes at the ends [DeepZ]; a sign 0.

    Arguments, raises and trust as for `relax`.
    """
    match op:
        case Rectifier():
            negative, positive = rectifier_slopes(op, lower)
            slope = _chord(lower.double(), upper.double(), negative, positive)
        case ops.Sigmoid() | ops.Tanh():
            scale = 0.5 if isinstance(op, ops.Sigmoid) else 1.0
            far = torch.maximum(lower.abs(), upper.abs()).double() * scale
            slope = tanh_derivative(far) * scale**2
        case ops.Sign():
            slope = torch.zeros_like(lower)
        case ops.Reciprocal():
            check_domain(op, lower, upper)
            slope = -1 / lower / upper
    slope = _usable(slope, lower, upper)
    return Strip(slope, *offsets(op, lower, upper, slope))


def image(op: Elementwise, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """The values of `op` on `[lower, upper]`, as an interval rounded outwards.

    Arguments and raises as for `relax`.

    Trust: holds in real arithmetic. Exact for ReLU, absolute value and sign; otherwise one or a
    few units in the last place wide of the exact image (of 1, for sigmoid).
    """
    if isinstance(op, Rectifier) and op.is_relu:
        return lower.clamp(min=0), upper.clamp(min=0)
    low, high = offsets(op, lower, upper, torch.zeros_like(lower))
    if isinstance(op, ops.Sigmoid):
        return low.clamp(min=0), high.clamp(max=1)
    return low, high


def adjustable(op: Elementwise, lower: Tensor, upper: Tensor) -> Adjustable:
    """Which lines of `relax` may turn, for optimisers of slopes.

    A convex rectifier (ReLU, leaky ReLU, absolute value) has an adjustable lower line where it
    is unstable, a concave one an adjustable upper line; nothing else is adjustable this way.

    Trust: with any slope in `[least, greatest]`, which is rounded inwards, the line holds in
    real arithmetic.
    """
    never = torch.zeros_like(lower, dtype=torch.bool)
    if not isinstance(op, Rectifier):
        return Adjustable(never, never, torch.zeros_like(lower), torch.zeros_like(lower))
    negative, positive = rectifier_slopes(op, lower)
    least, greatest = _inward(negative, positive, lower.dtype)
    turns = (lower < 0) & (upper > 0) & (least <= greatest)
    return Adjustable(
        turns & (positive >= negative),
        turns & (positive < negative),
        least.expand(lower.shape),
        greatest.expand(lower.shape),
    )


def product_lines(lx: Tensor, ux: Tensor, ly: Tensor, uy: Tensor) -> tuple[Tensor, ...]:
    """Planes around `z = x * y` on a box: of the four of [McCormick76] the better two.

    Arguments:
        lx, ux, ly, uy: the bounds of x and of y, of one shape.

    Returns:
        `(ax, ay, a, bx, by, b)` with `ax * x + ay * y + a <= z <= bx * x + by * y + b`; better
        means nearer at the middle of the box.

    Trust: the planes hold in real arithmetic; their slopes are bounds of x and y themselves.
    """
    mx, my = lx / 2 + ux / 2, ly / 2 + uy / 2
    low = ly * mx + lx * my - lx * ly >= uy * mx + ux * my - ux * uy
    high = uy * mx + lx * my - lx * uy <= ly * mx + ux * my - ux * ly
    ax, ay = torch.where(low, ly, uy), torch.where(low, lx, ux)
    bx, by = torch.where(high, uy, ly), torch.where(high, lx, ux)
    below, above = -_product_up(ax, ay), _product_up(-bx, by)
    return ax, ay, below, bx, by, above


def product_image(lx: Tensor, ux: Tensor, ly: Tensor, uy: Tensor) -> tuple[Tensor, Tensor]:
    """The values of `x * y` on a box, as an interval rounded outwards.

    Trust: holds in real arithmetic; within one unit in the last place.
    """
    corners = [(lx, ly), (lx, uy), (ux, ly), (ux, uy)]
    high = torch.stack([_product_up(x, y) for x, y in corners]).amax(0)
    low = torch.stack([_product_up(-x, y) for x, y in corners]).amax(0)
    return -low, high


def _relu_lines(lower: Tensor, upper: Tensor, rule: str) -> Lines:
    """`relax` for the operation that counts most, in the precision of the bounds.

    A chord from `(lower, 0)` that is a little too steep still passes above `(upper, upper)`, and
    the slope 1 is never too flat; so both slope and offset just have to be rounded up.
    """
    eps, largest = torch.finfo(lower.dtype).eps, torch.finfo(lower.dtype).max
    # Four roundings of eps / 2 each and any underflow are paid for.
    more, least = 1 + 4 * eps, tiny(lower.dtype)
    turning = (lower < 0) & (upper > 0)
    active = (lower >= 0).to(lower.dtype)
    chord = (upper / (upper - lower).clamp(max=largest) * more + least).clamp(max=1)
    lift = -(chord * lower) * more + least
    none = torch.zeros_like(lower)
    match rule:
        case "zero":
            below = active
        case "one":
            below = torch.where(turning, 1.0, active)
        case _:
            below = (upper > -lower).to(lower.dtype)
    return Lines(below, none, torch.where(turning, chord, active), torch.where(turning, lift, none))


def _rectifier_line_slopes(
    op: Rectifier, lower: Tensor, upper: Tensor, rule: str
) -> tuple[Tensor, Tensor]:
    negative, positive = rectifier_slopes(op, lower)
    convex = positive >= negative
    least, greatest = (s.double() for s in _inward(negative, positive, lower.dtype))
    at_negative = torch.where(convex, least, greatest)
    at_positive = torch.where(convex, greatest, least)
    match rule:
        case "zero":
            turned = at_negative
        case "one":
            turned = at_positive
        case _:
            turned = torch.where(upper > -lower, at_positive, at_negative)
    chord = _chord(lower.double(), upper.double(), negative, positive)
    turning = (lower < 0) & (upper > 0)
    return (
        torch.where(turning & convex, turned, chord),
        torch.where(turning & ~convex, turned, chord),
    )


def _inward(negative: Tensor, positive: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    least, greatest = torch.minimum(negative, positive), torch.maximum(negative, positive)
    return round_up(least, dtype), -round_up(-greatest, dtype)


def _chord(lower: Tensor, upper: Tensor, negative: Tensor, positive: Tensor) -> Tensor:
    chord = (positive * upper - negative * lower) / (upper - lower)
    stable = torch.where(lower >= 0, positive, negative)
    return torch.where((lower < 0) & (upper > 0), chord, stable)


def _sign_upper_slope(lower: Tensor, upper: Tensor) -> Tensor:
    """Of the lines above sign: from `(lower, -1)` to its highest limit at 0, or a level one."""
    rise = torch.where(upper > 0, 2.0, 1.0).to(lower.dtype)
    slanted = (lower < 0) & (upper >= 0) & (upper < -lower)
    return torch.where(slanted, rise / -lower, torch.zeros_like(lower))


def _fitted(op: Elementwise, lower: Tensor, upper: Tensor, below: Tensor, above: Tensor) -> Lines:
    below, above = _usable(below, lower, upper), _usable(above, lower, upper)
    return Lines(below, lowest(op, lower, upper, below), above, highest(op, lower, upper, above))


def _usable(slope: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """The slope in the precision of the bounds; 0 where it or a bound is not finite."""
    slope = slope.to(lower.dtype)
    fine = slope.isfinite() & lower.isfinite() & upper.isfinite()
    return torch.where(fine, slope, torch.zeros_like(slope))


def _product_up(x: Tensor, y: Tensor) -> Tensor:
    z = up(x * y)
    return torch.where((x == 0) | (y == 0), torch.zeros_like(z), z)
