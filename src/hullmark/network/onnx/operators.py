"""Operators that compute on the network's values: one handler each, named in `HANDLERS`."""

from collections.abc import Callable

import numpy as np

from hullmark.errors import Unsupported
from hullmark.network import coefficients, layers, ops
from hullmark.network.layers import ONE, ZERO
from hullmark.network.lower import Value, real
from hullmark.network.onnx import moves
from hullmark.network.onnx.call import Call, Result
from hullmark.network.onnx.read import FLOATS
from hullmark.network.onnx.windows import (
    average_pool,
    conv,
    conv_transpose,
    global_average_pool,
    global_max_pool,
    max_pool,
)
from hullmark.network.ops import Roundoff

Handler = Callable[[Call], Result]


def _add(call: Call) -> Result:
    x, y = call.operand(0), call.operand(1)
    if isinstance(y, np.ndarray):
        return call.low.scale(call.value(0), ONE, y)
    if isinstance(x, np.ndarray):
        return call.low.scale(y, ONE, x)
    return call.low.add(x, y)


def _subtract(call: Call) -> Result:
    x, y = call.operand(0), call.operand(1)
    if isinstance(y, np.ndarray):
        return call.low.scale(call.value(0), ONE, -real(y))
    if isinstance(x, np.ndarray):
        return call.low.scale(y, -ONE, x)
    return call.low.add(x, y, signs=(1, -1))


def _multiply(call: Call) -> Result:
    x, y = call.operand(0), call.operand(1)
    if isinstance(y, np.ndarray):
        return call.low.scale(call.value(0), y, ZERO)
    if isinstance(x, np.ndarray):
        return call.low.scale(y, x, ZERO)
    return call.low.product(x, y)


def _divide(call: Call) -> Result:
    x, y = call.operand(0), call.operand(1)
    if isinstance(y, np.ndarray):
        return layers.divide(call.low, call.value(0), y)
    inverse = call.low.pointwise(ops.Reciprocal(), y)
    if isinstance(x, np.ndarray):
        return call.low.scale(inverse, x, ZERO)
    return call.low.product(x, inverse)


def _matmul(call: Call) -> Result:
    return layers.matmul(call.low, call.operand(0), call.operand(1))


def _gemm(call: Call) -> Result:
    low = call.low
    sides = [call.operand(0), call.operand(1)]
    for i, name in enumerate(("transA", "transB")):
        side = sides[i]
        if not call.integer(name, 0):
            continue
        if isinstance(side, np.ndarray):
            sides[i] = side.T
        else:
            sides[i] = low.select(side, low.positions(side).T)
    y = layers.matmul(low, sides[0], sides[1])
    alpha, beta = call.number("alpha", 1.0), call.number("beta", 1.0)
    if alpha != 1:
        y = low.scale(y, np.array(alpha), ZERO)
    if not call.has(2) or beta == 0:
        return y
    bias = call.operand(2)
    if isinstance(bias, Value):
        return low.add(y, low.scale(bias, np.array(beta), ZERO))
    scaled = coefficients.times(real(bias), np.array(beta))
    if scaled is None:
        raise Unsupported("a bias out of the range of double precision")
    error = Roundoff(bias=scaled[1] * np.abs(scaled[0]))
    return low.scale(y, ONE, scaled[0], error)


def _relu(call: Call) -> Result:
    return layers.relu(call.low, call.value(0))


def _leaky_relu(call: Call) -> Result:
    return layers.rectify(call.low, call.value(0), np.array(call.number("alpha", 0.01)))


def _prelu(call: Call) -> Result:
    x, slope = call.value(0), call.constant(1)
    return layers.rectify(call.low, x, slope)


def _absolute(call: Call) -> Result:
    return layers.absolute(call.low, call.value(0))


def _negate(call: Call) -> Result:
    return call.low.scale(call.value(0), -ONE, ZERO)


def _clip(call: Call) -> Result:
    if call.opset < 11:
        lower = call.number("min", -layers.LARGEST)
        upper = call.number("max", layers.LARGEST)
        return layers.clip(call.low, call.value(0), lower, upper)
    bounds = [call.optional(i) for i in (1, 2)]
    lower, upper = (None if b is None or not b.size else float(b.reshape(())) for b in bounds)
    return layers.clip(call.low, call.value(0), lower, upper)


def _hard_sigmoid(call: Call) -> Result:
    alpha, beta = call.number("alpha", 0.2), call.number("beta", 0.5)
    x = call.low.scale(call.value(0), np.array(alpha), np.array(beta))
    return layers.clip(call.low, x, 0.0, 1.0)


def _extreme(call: Call, sign: int) -> Result:
    best = call.operand(0)
    for i in range(1, len(call.operands)):
        other = call.operand(i)
        if isinstance(best, np.ndarray):
            best, other = other, best
        if isinstance(best, np.ndarray):
            best = (np.maximum if sign > 0 else np.minimum)(best, other)
        elif isinstance(other, np.ndarray):
            best = (layers.at_least if sign > 0 else layers.at_most)(call.low, best, other)
        else:
            best = (layers.maximum if sign > 0 else layers.minimum)(call.low, best, other)
    return best


def _sum(call: Call) -> Result:
    return call.low.add(*(call.value(i) for i in range(len(call.operands))))


def _mean(call: Call) -> Result:
    total = call.low.add(*(call.value(i) for i in range(len(call.operands))))
    return layers.divide(call.low, total, np.array(float(len(call.operands))))


def _pointwise(op: ops.Elementwise) -> Handler:
    return lambda call: call.low.pointwise(op, call.value(0))


def _power(call: Call) -> Result:
    x, exponent = call.value(0), call.constant(1)
    if np.all(exponent == 1):
        return call.low.expand(x, np.broadcast_shapes(x.shape, exponent.shape))
    if not np.all(exponent == 2):
        raise Unsupported("an exponent other than 1 and 2")
    square = call.low.product(x, x)
    return call.low.expand(square, np.broadcast_shapes(x.shape, exponent.shape))


def _cast(call: Call) -> Result:
    call.ignore("saturate", "round_mode")
    if call.integer("to", 0) not in FLOATS:
        raise Unsupported("a cast of computed values to other than float32 and float64")
    return call.value(0)


def _softmax(call: Call) -> Result:
    old = call.opset < 13
    axis = call.integer("axis", 1 if old else -1)
    return layers.softmax(call.low, call.value(0), axis, flatten=old)


def _where(call: Call) -> Result:
    mask = call.constant(0).astype(bool)
    parts: list[Value] = []
    for i, chosen in ((1, mask), (2, ~mask)):
        part = call.operand(i)
        if isinstance(part, np.ndarray):
            parts.append(call.low.constant(np.where(chosen, part, 0.0)))
        else:
            parts.append(call.low.scale(part, chosen.astype(np.float64), ZERO))
    return call.low.add(*parts)


def _concat(call: Call) -> Result:
    values = [call.value(i) for i in range(len(call.operands))]
    return call.low.concat(values, call.integer("axis", 1))


def _batch_norm(call: Call) -> Result:
    call.ignore("momentum")
    if call.integer("training_mode", 0) or not call.integer("spatial", 1):
        raise Unsupported("a batch normalisation in training mode or per pixel")
    parameters = tuple(call.constant(i) for i in range(1, 5))
    return layers.batch_norm(call.low, call.value(0), parameters, call.number("epsilon", 1e-5))


def _reduce(call: Call, kind: str) -> Result:
    x, axes = call.value(0), call.axes(1)
    keep = bool(call.integer("keepdims", 1))
    if not axes:
        if call.integer("noop_with_empty_axes", 0):
            return x
        axes = tuple(range(len(x.shape)))
    call.ignore("noop_with_empty_axes")
    if kind == "sum":
        return call.low.total(x, axes, keep)
    if kind == "mean":
        return layers.mean(call.low, x, axes, keep)
    return layers.extremum(call.low, x, axes, keep, 1 if kind == "max" else -1)


HANDLERS: dict[str, Handler] = {
    "Abs": _absolute,
    "Add": _add,
    "AveragePool": average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Div": _divide,
    "Gemm": _gemm,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": _leaky_relu,
    "MatMul": _matmul,
    "Max": lambda call: _extreme(call, 1),
    "MaxPool": max_pool,
    "Mean": _mean,
    "Min": lambda call: _extreme(call, -1),
    "Mul": _multiply,
    "Neg": _negate,
    "PRelu": _prelu,
    "Pad": moves.pad,
    "Pow": _power,
    "Reciprocal": _pointwise(ops.Reciprocal()),
    "ReduceMax": lambda call: _reduce(call, "max"),
    "ReduceMean": lambda call: _reduce(call, "mean"),
    "ReduceMin": lambda call: _reduce(call, "min"),
    "ReduceSum": lambda call: _reduce(call, "sum"),
    "Relu": _relu,
    "Sigmoid": _pointwise(ops.Sigmoid()),
    "Sign": _pointwise(ops.Sign()),
    "Softmax": _softmax,
    "Split": moves.split,
    "Sub": _subtract,
    "Sum": _sum,
    "Tanh": _pointwise(ops.Tanh()),
    "Where": _where,
}
