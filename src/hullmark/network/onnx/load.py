"""From an ONNX file to a `Model`: the walk over the graph."""

from pathlib import Path

import numpy as np
import onnx

from hullmark.errors import BadInput, Unsupported
from hullmark.network.lower import Lowering, Value
from hullmark.network.model import Model
from hullmark.network.onnx import read
from hullmark.network.onnx.call import Attribute, Call, Operand, Result
from hullmark.network.onnx.folds import ALWAYS, FOLDS
from hullmark.network.onnx.moves import MOVES, apply_move
from hullmark.network.onnx.operators import HANDLERS
from hullmark.network.onnx.runtime import OnnxRunner
from hullmark.network.ops import Array, Softmax
from hullmark.network.simplify import simplify

MALFORMED = (ValueError, IndexError, KeyError, TypeError, OverflowError, ZeroDivisionError)


def load_onnx(path: str | Path, *, simplified: bool = True) -> Model:
    """Read a network from an ONNX file.

    The graph is read for one sample: a free first axis of the input counts as a batch of one.

    Arguments:
        path: the file, plain or `.gz`; `name` stands for `name.gz` where only that exists.
        simplified: whether affine maps in a row become one, up to rounding; otherwise operations
            are as they are in the file.

    Raises:
        BadInput: if the file is missing, damaged, or inconsistent.
        Unsupported: if it uses an operator, type or shape that is not handled; names the node.

    Trust: over the reals the result is the network of the file, up to each op's `roundoff`;
    subexpressions of constants are computed as the file's types demand. `check_parity`
    compares it with the original.
    """
    path = Path(path)
    model = read.read_model(path)
    version = read.opset(model, path)
    info, output = _ends(model.graph, path)
    dtype, shape, free = read.declared(info, path)
    low = Lowering(shape, info.name)
    known: dict[str, Operand] = {**_weights(model.graph, path), info.name: low.input}
    with np.errstate(all="ignore"):
        for node in model.graph.node:
            _import(node, version, low, known, path)
        if output not in known:
            raise BadInput(f"{path}: no node yields the output {output!r}")
        result = known[output]
        if not isinstance(result, Value):
            result = low.constant(result)
        network = low.build(result)
        network = simplify(network) if simplified else network
    for node in network.nodes[:-1]:
        if isinstance(node.op, Softmax):
            raise Unsupported(f"{path}: node {node.name!r}: a softmax before the last operation")
    runner = OnnxRunner(lambda: read.serialize(model, path), shape, free, str(path))
    return Model(network, runner, dtype, str(path))


def _ends(graph: onnx.GraphProto, path: Path) -> tuple[onnx.ValueInfoProto, str]:
    """The one input and the name of the one output."""
    if graph.sparse_initializer:
        raise Unsupported(f"{path}: sparse weights")
    stored = {t.name for t in graph.initializer}
    inputs = [i for i in graph.input if i.name not in stored]
    for what, found in (("input", inputs), ("output", list(graph.output))):
        if len(found) != 1:
            names = ", ".join(repr(v.name) for v in found) or "none"
            raise Unsupported(f"{path}: {len(found)} graph {what}s ({names}), not one")
    return inputs[0], graph.output[0].name


def _weights(graph: onnx.GraphProto, path: Path) -> dict[str, Array]:
    weights = {t.name: read.to_array(t, path, "initializer") for t in graph.initializer}
    # An infinite bound of a clip means that there is none.
    clips = {name for node in graph.node if node.op_type == "Clip" for name in node.input[1:]}
    for name, value in weights.items():
        if value.dtype.kind != "f":
            continue
        if np.isnan(value).any():
            raise BadInput(f"{path}: initializer {name!r} holds NaN")
        if name not in clips and not np.isfinite(value).all():
            raise BadInput(f"{path}: initializer {name!r} holds infinite values")
    return weights


def _import(
    node: onnx.NodeProto, version: int, low: Lowering, known: dict[str, Operand], path: Path
) -> None:
    """Lower one node, and enter what it yields under the names of its outputs."""
    label = node.name or (node.output[0] if node.output else node.op_type)
    where = f"{path}: node {label!r} ({node.op_type}, opset {version})"
    if node.domain not in ("", "ai.onnx"):
        raise Unsupported(f"{where}: operators of domain {node.domain!r}")
    for name in node.input:
        if name and name not in known:
            raise BadInput(f"{where}: reads {name!r}, which no earlier node yields")
    low.source(label)
    operands = tuple(known[name] if name else None for name in node.input)
    try:
        attributes = {a.name: _attribute(a, path) for a in node.attribute}
        call = Call(low, node.op_type, version, operands, attributes, len(node.output))
        result = _lower(call)
        if call.unread:
            raise Unsupported(f"attribute {call.unread[0]!r}")
    except (BadInput, Unsupported) as error:
        raise type(error)(f"{where}: {error}") from None
    except MALFORMED as error:
        raise BadInput(f"{where}: {error}") from error
    results = result if isinstance(result, list) else [result]
    # Further outputs, such as the mask of a dropout, are not made; a node that reads one fails.
    for name, value in zip(node.output, results, strict=False):
        if name in known:
            raise BadInput(f"{where}: yields {name!r}, which is taken")
        known[name] = value


def _lower(call: Call) -> Result:
    constant = not any(isinstance(x, Value) for x in call.operands)
    if call.op in ALWAYS:
        return ALWAYS[call.op](call)
    if constant and call.op in FOLDS:
        return FOLDS[call.op](call)
    if call.op in MOVES:
        return apply_move(call, MOVES[call.op])
    if call.op not in HANDLERS:
        detail = " on computed values" if call.op in FOLDS else ""
        raise Unsupported(f"this operator is not handled{detail}")
    return HANDLERS[call.op](call)


def _attribute(attribute: onnx.AttributeProto, path: Path) -> Attribute:
    kinds = onnx.AttributeProto
    if attribute.type == kinds.TENSOR:
        return read.to_array(attribute.t, path, "tensor")
    if attribute.type == kinds.STRING:
        return attribute.s.decode(errors="replace")
    if attribute.type == kinds.INT:
        return attribute.i
    if attribute.type == kinds.FLOAT:
        return attribute.f
    if attribute.type == kinds.INTS:
        return list(attribute.ints)
    if attribute.type == kinds.FLOATS:
        return list(attribute.floats)
    raise Unsupported(f"attribute {attribute.name!r} of this kind")
