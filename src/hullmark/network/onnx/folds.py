"""Operators on constants alone: shape arithmetic and weights computed in the file.

Trust: a constant is computed by numpy in the types that the file declares, as the runtime does;
from there on it counts as exact.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from hullmark.errors import BadInput, Unsupported
from hullmark.network.onnx.call import Call
from hullmark.network.onnx.read import numpy_type
from hullmark.network.ops import Array

Fold = Callable[[Call], Array]


def _unary(function: Callable[[Any], Any]) -> Fold:
    return lambda call: np.asarray(function(call.constant(0)))


def _binary(function: Callable[[Any, Any], Any]) -> Fold:
    return lambda call: np.asarray(function(call.constant(0), call.constant(1)))


def _many(function: Callable[[Any, Any], Any]) -> Fold:
    def fold(call: Call) -> Array:
        total = call.constant(0)
        for i in range(1, len(call.operands)):
            total = np.asarray(function(total, call.constant(i)))
        return total

    return fold


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return np.asarray(a / b)
    if not np.all(b):
        raise BadInput("an integer division by zero")
    return np.asarray(np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)


def _constant(call: Call) -> Array:
    value = call.tensor("value")
    if value is not None:
        return value
    for name, kind in (("value_float", np.float32), ("value_int", np.int64)):
        if name in call.attributes:
            return np.array(call.number(name, 0), dtype=kind)
    for name, kind in (("value_floats", np.float32), ("value_ints", np.int64)):
        numbers = call.attributes.get(name)
        if isinstance(numbers, list):
            call.ignore(name)
            return np.array(numbers, dtype=kind)
    raise Unsupported("a constant that is neither a tensor nor numbers")


def _constant_of_shape(call: Call) -> Array:
    value = call.tensor("value")
    fill = np.zeros(1, dtype=np.float32) if value is None else value
    return np.full(tuple(int(n) for n in call.constant(0)), fill.reshape(()), dtype=fill.dtype)


def _range(call: Call) -> Array:
    start, limit, delta = (call.constant(i).item() for i in range(3))
    return np.arange(start, limit, delta, dtype=call.constant(0).dtype)


def _cast(call: Call) -> Array:
    call.ignore("saturate", "round_mode")
    return call.constant(0).astype(numpy_type(call.integer("to", 0)))


def _shape(call: Call) -> Array:
    shape = call.operand(0).shape
    start, end = call.integer("start", 0), call.integer("end", len(shape))
    return np.array(shape[start:end], dtype=np.int64)


def _size(call: Call) -> Array:
    return np.array(np.prod(call.operand(0).shape), dtype=np.int64)


def _reduce(function: Callable[..., Any]) -> Fold:
    def fold(call: Call) -> Array:
        axes = call.axes(1)
        keep = bool(call.integer("keepdims", 1))
        if axes is None and call.integer("noop_with_empty_axes", 0):
            return call.constant(0)
        return np.asarray(function(call.constant(0), axis=axes, keepdims=keep))

    return fold


ALWAYS: dict[str, Fold] = {"Shape": _shape, "Size": _size}
"""Folds that need the shape of their operand alone."""

FOLDS: dict[str, Fold] = {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "Cast": _cast,
    "Neg": _unary(np.negative),
    "Abs": _unary(np.abs),
    "Sqrt": _unary(np.sqrt),
    "Exp": _unary(np.exp),
    "Log": _unary(np.log),
    "Floor": _unary(np.floor),
    "Ceil": _unary(np.ceil),
    "Reciprocal": _unary(np.reciprocal),
    "Not": _unary(np.logical_not),
    "Add": _binary(np.add),
    "Sub": _binary(np.subtract),
    "Mul": _binary(np.multiply),
    "Div": _binary(_divide),
    "Pow": lambda call: np.power(call.constant(0), call.constant(1)).astype(call.constant(0).dtype),
    "Equal": _binary(np.equal),
    "Greater": _binary(np.greater),
    "GreaterOrEqual": _binary(np.greater_equal),
    "Less": _binary(np.less),
    "LessOrEqual": _binary(np.less_equal),
    "And": _binary(np.logical_and),
    "Or": _binary(np.logical_or),
    "MatMul": _binary(np.matmul),
    "Max": _many(np.maximum),
    "Min": _many(np.minimum),
    "Sum": _many(np.add),
    "Where": lambda call: np.where(call.constant(0), call.constant(1), call.constant(2)),
    "Concat": lambda call: np.concatenate(
        [call.constant(i) for i in range(len(call.operands))], axis=call.integer("axis", 1)
    ),
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min),
}
