"""ONNX files of small networks: a chain of affine layers and one kind of activation."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from hullmark.errors import BadInput
from hullmark.exact import figures, nearest

ACTIVATIONS = ("Relu", "Tanh", "Sigmoid")

# Old enough for other verifiers to read.
OPSET, IR_VERSION = 13, 7

Array = NDArray[Any]


def write_onnx(
    path: str | Path, layers: Sequence[tuple[Any, Any]], activation: str = "Relu"
) -> None:
    """Write a chain of affine layers, with an activation between them, as an ONNX file.

    Input `input` `[1, n]`, output `output` `[1, m]`. In float32 where that holds every number
    exactly, else in float64. The same network always gives the same bytes.

    Arguments:
        layers: `(weight, bias)` of every layer, `(m, n)` and `(m,)`: floats, integers or
            `Fraction`s.
        activation: "Relu", "Tanh" or "Sigmoid".

    Raises:
        BadInput: if shapes do not fit, a number is no float64, the activation is another, or the
            file cannot be written; names the layer or the file.

    Trust: the file holds the numbers exactly; who runs it rounds.
    """
    if activation not in ACTIVATIONS:
        raise BadInput(f"the activation {activation!r} is none of {', '.join(ACTIVATIONS)}")
    if not layers:
        raise BadInput("a network needs at least one layer")
    chosen = [_layer(index, weight, bias) for index, (weight, bias) in enumerate(layers)]
    for index in range(1, len(chosen)):
        reads, yields = chosen[index][0].shape[1], len(chosen[index - 1][1])
        if reads != yields:
            raise BadInput(f"layer {index} reads {reads} values, the one before yields {yields}")
    data = _model(_narrowed(chosen), activation).SerializeToString(deterministic=True)
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise BadInput(f"{path}: cannot be written: {error.strerror}") from None


def _layer(index: int, weight: Any, bias: Any) -> tuple[Array, Array]:
    w, b = _floats(weight, f"weight of layer {index}"), _floats(bias, f"bias of layer {index}")
    if w.ndim != 2 or b.shape != w.shape[:1] or not w.size:
        raise BadInput(f"layer {index} has a weight of shape {w.shape}, a bias of {b.shape}")
    return w, b


def _floats(values: Any, name: str) -> Array:
    """The numbers as float64, none of them changed."""
    try:
        given = np.asarray(values, dtype=object)
        exact = [Fraction(x) for x in given.reshape(-1).tolist()]
    except (TypeError, ValueError, OverflowError):
        raise BadInput(f"{name} is no array of finite numbers") from None
    floats = [nearest(x) for x in exact]
    changed = next((x for x, y in zip(exact, floats, strict=True) if x != y), None)
    if changed is not None:
        told = figures(changed, 60) or "a number of over 60 figures"
        raise BadInput(f"{name}: {told} is no float64; scale the network, or round it first")
    return np.array(floats, dtype=np.float64).reshape(given.shape)


def _narrowed(layers: list[tuple[Array, Array]]) -> list[tuple[Array, Array]]:
    """All arrays as float32 if that changes none of them."""
    with np.errstate(over="ignore"):
        narrow = [(w.astype(np.float32), b.astype(np.float32)) for w, b in layers]
    same = all(
        np.array_equal(w, v) and np.array_equal(b, c)
        for (w, b), (v, c) in zip(layers, narrow, strict=True)
    )
    return narrow if same else layers


def _model(layers: list[tuple[Array, Array]], activation: str) -> onnx.ModelProto:
    kind = helper.np_dtype_to_tensor_dtype(layers[0][0].dtype)
    nodes: list[onnx.NodeProto] = []
    stored: list[onnx.TensorProto] = []
    at = "input"
    for index, (weight, bias) in enumerate(layers):
        last = index == len(layers) - 1
        names = [f"weight_{index}", f"bias_{index}"]
        to = "output" if last else f"before_{index}"
        stored += [
            numpy_helper.from_array(np.ascontiguousarray(a), name)
            for a, name in zip((weight, bias), names, strict=True)
        ]
        nodes.append(helper.make_node("Gemm", [at, *names], [to], f"affine_{index}", transB=1))
        if not last:
            at = f"after_{index}"
            nodes.append(helper.make_node(activation, [to], [at], f"activation_{index}"))
    ends = [
        helper.make_tensor_value_info(name, kind, [1, size])
        for name, size in (("input", layers[0][0].shape[1]), ("output", len(layers[-1][1])))
    ]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], stored)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    onnx.checker.check_model(model)
    return model
