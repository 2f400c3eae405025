"""What a network is made of, in numbers."""

from collections import Counter
from dataclasses import dataclass

from hullmark.network import ops
from hullmark.network.model import Model
from hullmark.network.ops import Shape

# What makes a node's values neurons.
NONLINEAR = (ops.Rectifier, ops.Sigmoid, ops.Tanh, ops.Sign, ops.Reciprocal, ops.Product)


@dataclass(frozen=True)
class NetworkInfo:
    """What a network is made of.

    Arguments:
        source: file or class name.
        opset: the ONNX opset of the file; None for a module in memory.
        dtype: of the original network's input.
        input_shape, output_shape: without the batch axis.
        operations: how many nodes of each operation, after import and simplification.
        neurons: how many values go through a nonlinear operation.
        parameters: how many coefficients the operations store.
    """

    source: str
    opset: int | None
    dtype: str
    input_shape: Shape
    output_shape: Shape
    operations: dict[str, int]
    neurons: int
    parameters: int


def summarise(model: Model, opset: int | None) -> NetworkInfo:
    """Count what the imported network of `model` holds; `opset` is that of its file, if any."""
    nodes = model.network.nodes[1:]
    return NetworkInfo(
        source=model.source,
        opset=opset,
        dtype=str(model.dtype),
        input_shape=model.network.input_shape,
        output_shape=model.network.output_shape,
        operations=dict(Counter(type(n.op).__name__ for n in nodes)),
        neurons=sum(n.size for n in nodes if isinstance(n.op, NONLINEAR)),
        parameters=sum(_parameters(n.op) for n in nodes),
    )


def _parameters(op: ops.Op) -> int:
    match op:
        case ops.Dense() | ops.Conv() | ops.ConvTranspose():
            return op.weight.size + op.bias.size
        case ops.Scale():
            return op.factor.size + op.shift.size
        case _:
            return 0
