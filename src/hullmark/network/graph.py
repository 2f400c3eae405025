"""A network: an immutable directed acyclic graph of operations."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hullmark.errors import BadInput
from hullmark.network.ops import Array, Input, Op, Shape


@dataclass(frozen=True, eq=False)
class Node:
    """One operation, the nodes it reads, the shape it yields, and its name in the source."""

    op: Op
    inputs: tuple[int, ...]
    shape: Shape
    name: str

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Network:
    """Nodes in topological order; node 0 is the input, the last node the output.

    Trust: `evaluate` is exact over `Fraction` arrays and correctly ordered over floats; the
    real function it stands for is that of the coefficients within each op's `roundoff`.
    """

    nodes: tuple[Node, ...]

    @property
    def input_shape(self) -> Shape:
        return self.nodes[0].shape

    @property
    def output_shape(self) -> Shape:
        return self.nodes[-1].shape

    @property
    def input_size(self) -> int:
        return self.nodes[0].size

    @property
    def output_size(self) -> int:
        return self.nodes[-1].size

    @cached_property
    def consumers(self) -> tuple[tuple[int, ...], ...]:
        """For each node the nodes that read it, once per time they read it."""
        readers: list[list[int]] = [[] for _ in self.nodes]
        for i, node in enumerate(self.nodes):
            for j in node.inputs:
                readers[j].append(i)
        return tuple(tuple(r) for r in readers)

    def values(self, x: Array) -> Iterator[Array]:
        """The value of every node in order; x `(batch, *input_shape)` or `(batch, input_size)`."""
        kept: dict[int, Array] = {}
        last_use = {j: i for i, node in enumerate(self.nodes) for j in node.inputs}
        for i, node in enumerate(self.nodes):
            if isinstance(node.op, Input):
                kept[i] = x.reshape(len(x), *node.shape)
            else:
                kept[i] = node.op.apply(*(kept[j] for j in node.inputs))
            for j in node.inputs:
                if last_use[j] == i:
                    kept.pop(j, None)
            yield kept[i]

    def evaluate(self, x: Array) -> Array:
        """Outputs `(batch, *output_shape)`; x `(batch, *input_shape)` or `(batch, input_size)`."""
        y = x
        for value in self.values(np.asarray(x)):
            y = value
        return y


class Builder:
    """Collects nodes, infers their shapes, and closes into a `Network`."""

    def __init__(self, input_shape: Shape, name: str = "input") -> None:
        self._nodes = [Node(Input(input_shape), (), input_shape, name)]

    def add(self, op: Op, *inputs: int, name: str = "") -> int:
        """Append a node and return its index.

        Raises:
            BadInput: if the shapes do not fit; names the node.
        """
        label = name or f"{type(op).__name__}_{len(self._nodes)}"
        try:
            shape = op.shape(*(self._nodes[i].shape for i in inputs))
        except BadInput as error:
            raise BadInput(f"node {label}: {error}") from None
        self._nodes.append(Node(op, inputs, shape, label))
        return len(self._nodes) - 1

    def shape(self, node: int) -> Shape:
        return self._nodes[node].shape

    def build(self, output: int) -> Network:
        """The network whose output is `output`, without the nodes that it does not need."""
        needed = {0, output}
        for i in range(output, 0, -1):
            if i in needed:
                needed.update(self._nodes[i].inputs)
        place = {old: new for new, old in enumerate(sorted(needed))}
        return Network(
            tuple(
                Node(n.op, tuple(place[j] for j in n.inputs), n.shape, n.name)
                for n in (self._nodes[i] for i in sorted(needed))
            )
        )
