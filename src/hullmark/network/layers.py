"""Layers that lower to several operations: products, normalisation, reductions, two-piece maps.

Everything piecewise linear becomes `Rectifier` and `Add` by an identity that holds exactly over
the reals: `max(x, y) = y + relu(x - y)`.
"""

import math

import numpy as np

from hullmark.errors import BadInput, Unsupported
from hullmark.network import coefficients, ops
from hullmark.network.lower import Lowering, Value, lost, real
from hullmark.network.ops import Array, Roundoff

LARGEST = float(np.finfo(np.float32).max)
"""A clip at this magnitude or beyond is how exporters write no clip at all."""

ONE = np.ones(())
ZERO = np.zeros(())


def relu(low: Lowering, x: Value) -> Value:
    """`max(x, 0)`."""
    return low.pointwise(ops.Rectifier(), x)


def rectify(low: Lowering, x: Value, slope: Array) -> Value:
    """`x` where `x >= 0` and `slope * x` elsewhere; the slope broadcasts to the shape of `x`."""
    slope = real(slope)
    if slope.size == 1:
        return low.pointwise(ops.Rectifier(slope.reshape(())), x)
    if np.broadcast_shapes(slope.shape, x.shape) != x.shape:
        raise BadInput(f"slopes of shape {slope.shape} do not broadcast to {x.shape}")
    full = slope.reshape((1,) * (len(x.shape) - slope.ndim) + slope.shape)
    slopes = full[0] if lost(x.shape) else full
    return low.emit(ops.Rectifier(slopes), x, shape=x.shape)


def absolute(low: Lowering, x: Value) -> Value:
    """`|x|`."""
    return low.pointwise(ops.Rectifier(np.array(-1.0)), x)


def maximum(low: Lowering, x: Value, y: Value) -> Value:
    """The larger of two values, as `y + relu(x - y)`."""
    return low.add(y, relu(low, low.add(x, y, signs=(1, -1))))


def minimum(low: Lowering, x: Value, y: Value) -> Value:
    """The smaller of two values, as `x - relu(x - y)`."""
    return low.add(x, relu(low, low.add(x, y, signs=(1, -1))), signs=(1, -1))


def at_least(low: Lowering, x: Value, bound: Array) -> Value:
    """`max(x, bound)` for a constant."""
    bound = real(bound)
    return low.scale(relu(low, low.scale(x, ONE, -bound)), ONE, bound)


def at_most(low: Lowering, x: Value, bound: Array) -> Value:
    """`min(x, bound)` for a constant, as `bound - relu(bound - x)`."""
    bound = real(bound)
    return low.scale(relu(low, low.scale(x, -ONE, bound)), -ONE, bound)


def clip(low: Lowering, x: Value, lower: float | None, upper: float | None) -> Value:
    """`min(max(x, lower), upper)`; None or a bound beyond single precision is none."""
    if any(b is not None and math.isnan(b) for b in (lower, upper)):
        raise BadInput("a clip at NaN")
    if lower is not None and lower > -LARGEST:
        x = at_least(low, x, np.array(lower))
    if upper is not None and upper < LARGEST:
        x = at_most(low, x, np.array(upper))
    return x


def divide(low: Lowering, x: Value, divisor: Array) -> Value:
    """`x / divisor` for a constant; the reciprocal carries its rounding error."""
    inverse, relative = coefficients.reciprocal(real(divisor))
    return low.scale(x, inverse, ZERO, Roundoff(relative))


def mean(low: Lowering, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    """The mean over axes of the source."""
    count = math.prod(x.shape[a] for a in {a % len(x.shape) for a in axes})
    return divide(low, low.total(x, axes, keep), np.array(float(count)))


def tournament(low: Lowering, x: Value, taps: Array) -> Value:
    """The maximum over `taps[:, ...]`, flat positions in `x`, by rounds of pairwise maxima.

    Arguments:
        taps: shape `(candidates, *result)`.
    """
    seats, source, spare = taps, x, list[Value]()
    while len(seats) > 1:
        half = len(seats) // 2
        if len(seats) % 2:
            spare.append(low.select(source, seats[-1]))
        left, right = seats[:half], seats[half : 2 * half]
        if half == 1:
            left, right = left[0], right[0]
        source = maximum(low, low.select(source, left), low.select(source, right))
        seats = np.arange(source.size, dtype=np.int64).reshape(half, *taps.shape[1:])
    best = low.select(source, seats[0])
    for other in spare:
        best = maximum(low, best, other)
    return best


def extremum(low: Lowering, x: Value, axes: tuple[int, ...], keep: bool, sign: int) -> Value:
    """The maximum (`sign` 1) or minimum (`sign` -1) over axes of the source."""
    axes = tuple(sorted({a % len(x.shape) for a in axes}))
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    taps = np.moveaxis(low.positions(x), axes, range(len(axes)))
    taps = taps.reshape(-1, *(n for i, n in enumerate(x.shape) if i not in axes))
    signed = x if sign > 0 else low.scale(x, -ONE, ZERO)
    best = tournament(low, signed, taps)
    best = Value(best.node, kept if keep else taps.shape[1:])
    return best if sign > 0 else low.scale(best, -ONE, ZERO)


def batch_norm(low: Lowering, x: Value, parameters: tuple[Array, ...], epsilon: float) -> Value:
    """Normalisation by stored statistics, channels on axis 1.

    Arguments:
        parameters: scale, bias, mean, variance, each `(channels,)`.
    """
    if len(x.shape) < 2 or any(p.shape != (x.shape[1],) for p in parameters):
        raise BadInput(f"statistics of shape {parameters[0].shape} on shape {x.shape}")
    scale, bias, average, variance = (real(p) for p in parameters)
    factor, shift, roundoff = coefficients.batch_norm(scale, bias, average, variance, epsilon)
    column = (-1, *(1,) * (len(x.shape) - 2))
    error = np.asarray(roundoff.bias).reshape(column)
    return low.scale(
        x, factor.reshape(column), shift.reshape(column), Roundoff(roundoff.relative, error)
    )


def matmul(low: Lowering, x: Value | Array, y: Value | Array) -> Value:
    """The matrix product with numpy's rules for ranks; either side may be a constant matrix."""
    if isinstance(y, np.ndarray):
        if isinstance(x, np.ndarray):
            return low.constant(np.matmul(real(x), real(y)))
        return _times_constant(low, x, y)
    if isinstance(x, np.ndarray):
        return _constant_times(low, x, y)
    return _times_value(low, x, y)


def _times_constant(low: Lowering, x: Value, y: Array) -> Value:
    if y.ndim == 1:
        product = low.dense(x, y[np.newaxis, :], None)
        return Value(product.node, x.shape[:-1])
    if y.ndim > 2 and math.prod(y.shape[:-2]) != 1:
        return _times_value(low, x, low.constant(real(y)))
    product = low.dense(x, y.reshape(y.shape[-2:]).T, None)
    extra = max(0, y.ndim - len(product.shape)) if len(x.shape) > 1 else y.ndim - 2
    return Value(product.node, (1,) * extra + product.shape)


def _constant_times(low: Lowering, x: Array, y: Value) -> Value:
    if len(y.shape) == 1:
        if x.ndim == 1:
            x = x[np.newaxis, :]
            return Value(low.dense(y, x, None).node, ())
        if x.ndim > 2:
            raise Unsupported(f"a product of shapes {x.shape} and {y.shape}")
        return low.dense(y, x, None)
    turned = low.select(y, low.positions(y).swapaxes(-1, -2))
    product = _times_constant(low, turned, x if x.ndim == 1 else x.swapaxes(-1, -2))
    if x.ndim == 1:
        return product
    return low.select(product, low.positions(product).swapaxes(-1, -2))


def _times_value(low: Lowering, x: Value, y: Value) -> Value:
    """`sum_k x[..., i, k] * y[..., k, j]` through products of gathered entries."""
    a, b = low.positions(x), low.positions(y)
    a = a[np.newaxis, :] if a.ndim == 1 else a
    b = b[:, np.newaxis] if b.ndim == 1 else b
    if a.shape[-1] != b.shape[-2]:
        raise BadInput(f"shapes {x.shape} and {y.shape} cannot be multiplied")
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    shape = (*batch, a.shape[-2], b.shape[-1], a.shape[-1])
    left = np.broadcast_to(a[..., :, np.newaxis, :], shape)
    right = np.broadcast_to(b.swapaxes(-1, -2)[..., np.newaxis, :, :], shape)
    terms = low.product(low.select(x, left), low.select(y, right))
    result = list(shape[:-1])
    if len(y.shape) == 1:
        del result[-1]
    if len(x.shape) == 1:
        del result[-1 if len(y.shape) == 1 else -2]
    return Value(low.total(terms, (len(shape) - 1,), keep=False).node, tuple(result))


def softmax(low: Lowering, x: Value, axis: int, flatten: bool) -> Value:
    """Softmax along an axis, or over all axes from it on (as ONNX had it before opset 13)."""
    axis %= len(x.shape)
    if flatten:
        rows = Value(x.node, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))
        return Value(softmax(low, rows, 1, flatten=False).node, x.shape)
    if axis == 0:
        return low.emit_full(ops.Softmax(0), x, shape=x.shape)
    return low.emit(ops.Softmax(axis - lost(x.shape)), x, shape=x.shape)
