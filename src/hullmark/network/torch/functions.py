"""Functions and methods of torch on `Value`s, by name; parameters are named as in torch."""

from typing import Any

import numpy as np
import torch

from hullmark.errors import Unsupported
from hullmark.network import layers, ops
from hullmark.network.layers import ONE, ZERO
from hullmark.network.lower import Value
from hullmark.network.torch.context import Context, Function, only
from hullmark.network.torch.moves import MOVES
from hullmark.network.torch.windows import WINDOWS

Number = int | float


def _binary(c: Context, x: Any, y: Any, sign: int) -> Value:
    """`x + sign * y`, where at most one side is constant."""
    if isinstance(x, Value) and isinstance(y, Value):
        return c.low.add(x, y, signs=(1, sign))
    if isinstance(x, Value):
        return c.low.scale(x, ONE, sign * c.array(y))
    return c.low.scale(y, np.array(float(sign)), c.array(x))


def _add(c: Context, x: Any, other: Any, *, alpha: Number = 1) -> Value:
    only(alpha == 1, f"alpha={alpha}")
    return _binary(c, x, other, 1)


def _subtract(c: Context, x: Any, other: Any, *, alpha: Number = 1) -> Value:
    only(alpha == 1, f"alpha={alpha}")
    return _binary(c, x, other, -1)


def _multiply(c: Context, x: Any, other: Any) -> Value:
    if isinstance(x, Value) and isinstance(other, Value):
        return c.low.product(x, other)
    if isinstance(x, Value):
        return c.low.scale(x, c.array(other), ZERO)
    return c.low.scale(other, c.array(x), ZERO)


def _divide(c: Context, x: Any, other: Any, *, rounding_mode: None = None) -> Value:
    only(rounding_mode is None, f"rounding_mode={rounding_mode}")
    if not isinstance(other, Value):
        return layers.divide(c.low, x, c.array(other))
    return _multiply(c, x, c.low.pointwise(ops.Reciprocal(), other))


def _power(c: Context, x: Value, exponent: Number) -> Value:
    only(exponent in (1, 2), f"exponent {exponent}")
    return x if exponent == 1 else c.low.product(x, x)


def _matmul(c: Context, x: Any, other: Any) -> Value:
    sides = (v if isinstance(v, Value) else c.array(v) for v in (x, other))
    return layers.matmul(c.low, *sides)


def _linear(c: Context, input: Value, weight: Any, bias: Any = None) -> Value:
    stored = None if bias is None else c.array(bias)
    return c.low.dense(input, c.array(weight), stored)


def _relu(c: Context, input: Value, inplace: bool = False) -> Value:
    return layers.relu(c.low, input)


def _leaky_relu(
    c: Context, input: Value, negative_slope: Number = 0.01, inplace: bool = False
) -> Value:
    return layers.rectify(c.low, input, c.array(negative_slope))


def _prelu(c: Context, input: Value, weight: Any) -> Value:
    slope = c.array(weight)
    if slope.size > 1:
        slope = slope.reshape(-1, *(1,) * (len(input.shape) - 2))
    return layers.rectify(c.low, input, slope)


def _clamp(c: Context, x: Value, min: Number | None = None, max: Number | None = None) -> Value:
    lower, upper = (None if b is None else float(c.array(b)) for b in (min, max))
    return layers.clip(c.low, x, lower, upper)


def _hardtanh(
    c: Context, input: Value, min_val: Number = -1, max_val: Number = 1, inplace: bool = False
) -> Value:
    return _clamp(c, input, min_val, max_val)


def _relu6(c: Context, input: Value, inplace: bool = False) -> Value:
    return _clamp(c, input, 0, 6)


def _extreme(c: Context, x: Value, other: Any, sign: int) -> Value:
    """The larger (`sign` 1) or smaller of two tensors."""
    if not isinstance(other, torch.Tensor | Value):
        raise Unsupported("a maximum or minimum of other than two tensors")
    if isinstance(other, torch.Tensor):
        bound = layers.at_least if sign > 0 else layers.at_most
        return bound(c.low, x, c.array(other))
    return (layers.maximum if sign > 0 else layers.minimum)(c.low, x, other)


def _reduce(c: Context, x: Value, dim: Any, keepdim: bool, kind: str) -> Value:
    """A sum, mean, maximum or minimum over `dim`, or over everything."""
    every = tuple(range(len(x.shape)))
    axes = every if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    if kind == "sum":
        return c.low.total(x, axes, keepdim)
    if kind == "mean":
        return layers.mean(c.low, x, axes, keepdim)
    return layers.extremum(c.low, x, axes, keepdim, 1 if kind == "max" else -1)


def _keep(c: Context, x: Value) -> Value:
    return x


def _dropout(
    c: Context, input: Value, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Value:
    only(not training or p == 0, "dropout in training mode")
    return input


def _softmax(c: Context, input: Value, dim: int, dtype: None = None, _stacklevel: int = 3) -> Value:
    only(dtype is None, f"dtype={dtype}")
    return layers.softmax(c.low, input, dim, flatten=False)


def _batch_norm(
    c: Context, input: Value, statistics: tuple[Any, ...], weights: tuple[Any, ...], eps: float
) -> Value:
    """With stored mean and variance, and a scale and a shift that may be missing."""
    only(all(v is not None for v in statistics), "a normalisation without stored statistics")
    mean, variance = (c.array(v) for v in statistics)
    scale = np.ones(len(mean)) if weights[0] is None else c.array(weights[0])
    shift = np.zeros(len(mean)) if weights[1] is None else c.array(weights[1])
    return layers.batch_norm(c.low, input, (scale, shift, mean, variance), float(eps))


def _reduction(kind: str) -> Function:
    def function(c: Context, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
        return _reduce(c, x, dim, keepdim, kind)

    return function


def _elementwise(op: ops.Elementwise) -> Function:
    return lambda c, x: c.low.pointwise(op, x)


FUNCTIONS: dict[str, Function] = {
    **MOVES,
    **WINDOWS,
    **dict.fromkeys(("abs", "absolute"), lambda c, x: layers.absolute(c.low, x)),
    **dict.fromkeys(("clamp", "clip"), _clamp),
    **dict.fromkeys(("contiguous", "clone", "detach"), _keep),
    **dict.fromkeys(("div", "truediv", "divide", "true_divide"), _divide),
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d"), _dropout),
    **dict.fromkeys(("matmul", "mm"), _matmul),
    **dict.fromkeys(("max", "maximum"), lambda c, x, other: _extreme(c, x, other, 1)),
    **dict.fromkeys(("min", "minimum"), lambda c, x, other: _extreme(c, x, other, -1)),
    **dict.fromkeys(("mul", "multiply"), _multiply),
    **dict.fromkeys(("neg", "negative"), lambda c, x: c.low.scale(x, -ONE, ZERO)),
    **dict.fromkeys(("sub", "subtract"), _subtract),
    "add": _add,
    "amax": _reduction("max"),
    "amin": _reduction("min"),
    "hardtanh": _hardtanh,
    "leaky_relu": _leaky_relu,
    "linear": _linear,
    "mean": _reduction("mean"),
    "normalise": _batch_norm,
    "pow": _power,
    "prelu": _prelu,
    "reciprocal": _elementwise(ops.Reciprocal()),
    "relu": _relu,
    "relu6": _relu6,
    "sigmoid": _elementwise(ops.Sigmoid()),
    "sign": _elementwise(ops.Sign()),
    "softmax": _softmax,
    "square": lambda c, x: c.low.product(x, x),
    "sum": _reduction("sum"),
    "tanh": _elementwise(ops.Tanh()),
}
