"""Two affine operations in a row as one, with a bound on what rounding its coefficients loses.

Each function returns None where the merge would not be sound or not pay.

Trust: with `s` the stored and `t` the true coefficients, `|t - s| <= relative * |s|` and
`|t - s| <= bias` hold for the result if they hold for the operands. Sums of `n` products are
charged `(n + 2) * 2**-53` times the sum of their magnitudes, whatever their order [Higham02 §3.1];
what such bounds lose to their own rounding is covered by `coefficients.SLACK`.
"""

import math
from dataclasses import replace

import numpy as np

from hullmark.network.coefficients import SLACK, TINY, UNIT, compound, in_range, plus, times
from hullmark.network.ops import Array, Conv, ConvTranspose, Dense, Roundoff, Scale, Shape

COARSEST = 2.0**-40
"""A product of matrices with a larger relative error in some entry is not formed."""


def is_identity(op: Scale) -> bool:
    """Whether a scale changes nothing, and exactly so."""
    exact = not op.roundoff.relative and not np.any(op.roundoff.bias)
    return exact and bool(np.all(op.factor == 1)) and not np.any(op.shift)


def scale_scale(first: Scale, second: Scale) -> Scale | None:
    """`second` after `first`."""
    factor = times(first.factor, second.factor)
    shift = _shift(second, first.shift, _error(first))
    if factor is None or shift is None:
        return None
    lost = compound(first.roundoff.relative, second.roundoff.relative, factor[1])
    return Scale(factor[0], shift[0], Roundoff(lost, shift[1]))


def dense_scale(first: Dense, second: Scale, shape: Shape) -> Dense | None:
    """A scale, the same along all but the last axis of `shape`, after a matrix."""
    scale = _along(second, shape, len(shape) - 1)
    if scale is None:
        return None
    weight = times(first.weight, scale.factor[:, np.newaxis])
    bias = _shift(scale, first.bias, _error(first))
    if weight is None or bias is None:
        return None
    lost = compound(first.roundoff.relative, scale.roundoff.relative, weight[1])
    return Dense(weight[0], bias[0], Roundoff(lost, bias[1]))


def conv_scale(
    first: Conv | ConvTranspose, second: Scale, shape: Shape
) -> Conv | ConvTranspose | None:
    """A scale per channel after a convolution."""
    scale = _along(second, shape, 0)
    if scale is None:
        return None
    rank = len(first.stride)
    if isinstance(first, Conv):
        spread = scale.factor.reshape(-1, *(1,) * (rank + 1))
    else:
        per_group = scale.factor.reshape(first.groups, 1, -1)
        spread = np.repeat(per_group, len(first.weight) // first.groups, axis=1)
        spread = spread.reshape(len(first.weight), -1, *(1,) * rank)
    weight = times(first.weight, spread)
    bias = _shift(scale, first.bias, _error(first))
    if weight is None or bias is None:
        return None
    lost = compound(first.roundoff.relative, scale.roundoff.relative, weight[1])
    return replace(first, weight=weight[0], bias=bias[0], roundoff=Roundoff(lost, bias[1]))


def scale_dense(first: Scale, second: Dense, shape: Shape) -> Dense | None:
    """A matrix after a scale that is the same along all but the last axis of `shape`."""
    scale = _along(first, shape, len(shape) - 1)
    if scale is None:
        return None
    weight = times(second.weight, scale.factor)
    if weight is None:
        return None
    bias = _product(second, second.weight, scale.shift, _error(scale))
    lost = compound(second.roundoff.relative, scale.roundoff.relative, weight[1])
    return Dense(weight[0], bias[0], Roundoff(lost, bias[1]))


def scale_conv(first: Scale, second: Conv, shape: Shape) -> Conv | None:
    """A convolution after a scale per channel; a shift cannot pass a padding with zeros."""
    scale = _along(first, shape, 0)
    if scale is None:
        return None
    still = not np.any(scale.shift) and not np.any(scale.roundoff.bias)
    if not still and any(map(any, second.padding)):
        return None
    outputs, rank = len(second.weight), len(second.stride)

    def spread(value: Array) -> Array:
        rows = np.repeat(value.reshape(second.groups, -1), outputs // second.groups, axis=0)
        return rows.reshape(outputs, -1, *(1,) * rank)

    weight = times(second.weight, spread(scale.factor))
    if weight is None:
        return None
    shifts = np.broadcast_to(spread(scale.shift), second.weight.shape).reshape(outputs, -1)
    errors = np.broadcast_to(spread(_error(scale)), second.weight.shape).reshape(outputs, -1)
    bias = _product(second, second.weight.reshape(outputs, -1), shifts, errors)
    lost = compound(second.roundoff.relative, scale.roundoff.relative, weight[1])
    return replace(second, weight=weight[0], bias=bias[0], roundoff=Roundoff(lost, bias[1]))


def dense_dense(first: Dense, second: Dense) -> Dense | None:
    """The product of two matrices, if it is not larger than both and loses next to nothing."""
    weight = second.weight @ first.weight
    if weight.size > first.weight.size + second.weight.size or not in_range(weight):
        return None
    reach = np.abs(second.weight) @ np.abs(first.weight)
    met = (second.weight != 0).astype(float) @ (first.weight != 0).astype(float)
    unit = compound(first.roundoff.relative, second.roundoff.relative)
    error = reach * (unit + (first.weight.shape[0] + 2) * UNIT) * SLACK
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(met > 0, error / np.abs(weight), 0.0) * SLACK
    lost = float(relative.max())
    if not lost <= COARSEST:
        return None
    bias = _product(second, second.weight, first.bias, _error(first))
    return Dense(weight, bias[0], Roundoff(lost, bias[1]))


def _error(op: Dense | Conv | ConvTranspose | Scale) -> Array:
    """The absolute error of the constant part, entry by entry."""
    constant = op.shift if isinstance(op, Scale) else op.bias
    return np.broadcast_to(np.asarray(op.roundoff.bias, dtype=np.float64), constant.shape)


def _shift(scale: Scale, value: Array, error: Array) -> tuple[Array, Array] | None:
    """`factor * value + shift` for a value known up to `error`, and the error of the result."""
    product = times(scale.factor, value)
    if product is None:
        return None
    total, tail = plus(product[0], scale.shift)
    relative = scale.roundoff.relative
    lost = np.abs(product[0]) * (relative + product[1]) + tail + scale.roundoff.bias
    return total, _padded(lost + np.abs(scale.factor) * error * (1 + relative))


def _product(op: Dense | Conv, weight: Array, value: Array, error: Array) -> tuple[Array, Array]:
    """`weight @ value + bias` for values known up to `error`, and the error of the result."""
    before = _error(op)
    if not np.any(value) and not np.any(error):
        return op.bias, before
    size = np.abs(weight)
    reach = (size * np.abs(value)).sum(axis=1)
    total = (weight * value).sum(axis=1) + op.bias
    unit = (weight.shape[1] + 2) * UNIT
    lost = reach * (op.roundoff.relative + unit) + np.abs(op.bias) * unit + before
    return total, _padded(lost + (size * error).sum(axis=1) * (1 + op.roundoff.relative))


def _padded(error: Array) -> Array:
    """A bound with room for its own rounding and for underflow; an exact zero stays one."""
    return np.where(error > 0, error * SLACK + TINY, 0.0)


def _along(op: Scale, shape: Shape, axis: int) -> Scale | None:
    """The scale as one factor and shift per place on `axis`, if it depends on nothing else."""
    parts: list[Array] = []
    for value in (op.factor, op.shift, _error(op)):
        full = np.moveaxis(np.broadcast_to(value, shape), axis, 0)
        rows = full.reshape(shape[axis], -1) if value.size > 1 else full.reshape(-1, 1)[:1]
        if not bool(np.all(rows == rows[:, :1])):
            return None
        parts.append(np.broadcast_to(rows[:, 0], (shape[axis],)))
    return Scale(parts[0], parts[1], Roundoff(op.roundoff.relative, parts[2]))


def reshaped(op: Scale, shape: Shape, target: Shape) -> Scale:
    """The scale of values in `shape`, for the same values in `target`."""

    def turn(value: Array) -> Array:
        return value if value.size == 1 else np.broadcast_to(value, shape).reshape(target)

    if math.prod(op.factor.shape) == 1 and op.shift.size == 1:
        return Scale(op.factor.reshape(()), op.shift.reshape(()), op.roundoff)
    error = np.asarray(op.roundoff.bias, dtype=np.float64)
    roundoff = Roundoff(op.roundoff.relative, turn(error))
    return Scale(turn(op.factor), turn(op.shift), roundoff)
