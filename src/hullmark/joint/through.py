"""Pass-through coordinates: the values that a layer reads, as members of its groups.

A neuron's output and a value that the neuron reads may cancel in what comes later, as in
`max(a, b) = relu(a - b) + b`. No row on the outputs of neurons alone tells of that; those of the
pair `(a - b, b)`, whose second coordinate is not bent, do.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hullmark.bounds.kernels import DenseKernel
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation
from hullmark.network.graph import Network
from hullmark.rows import Value

Array = NDArray[Any]

FEW = 32
"""Neurons that read more values have no passing ones: each of them matters little."""

LARGEST = 2**22
"""Layers with more weights than this are left alone, since all of them are looked at."""


@dataclass(frozen=True)
class Coordinates:
    """What the groups of a layer are made of.

    `nodes`: the pre-activation, and then the nodes that it reads, if these are wanted; the
    coordinates of `nodes[i]` are `starts[i]` to `starts[i + 1] - 1`, its values in flat order.
    """

    nodes: tuple[int, ...]
    starts: tuple[int, ...]

    @staticmethod
    def of(network: Network, pre: int, passing: bool = True) -> "Coordinates":
        """The neurons of a pre-activation, and if `passing` the values that it reads."""
        nodes = tuple(dict.fromkeys((pre, *(network.nodes[pre].inputs if passing else ()))))
        sizes = [network.nodes[j].size for j in nodes]
        return Coordinates(nodes, tuple(np.cumsum([0, *sizes]).tolist()))

    def split(self, values: Tensor) -> dict[int, Tensor]:
        """For each node its part of the last axis of `values` `(..., total)`."""
        ends = zip(self.nodes, self.starts, self.starts[1:], strict=False)
        return {j: values[..., start:end] for j, start, end in ends}

    def joined(self, values: Mapping[int, Array]) -> Array:
        """The inverse of `split`, for arrays `(..., size)` of each node and perhaps others."""
        return np.concatenate([values[j] for j in self.nodes], axis=-1)

    def interval(self, relaxation: Relaxation) -> tuple[Array, Array]:
        """Lower and upper bounds `(total,)` of a relaxation of one domain, in float64."""
        lower, upper = zip(*(relaxation.ends(j) for j in self.nodes), strict=True)
        return np.concatenate(lower), np.concatenate(upper)

    def value(self, coordinate: int) -> Value:
        """The value that a coordinate is."""
        place = int(np.searchsorted(self.starts, coordinate, side="right")) - 1
        return Value(self.nodes[place], coordinate - self.starts[place])


def incoming(program: Program, pre: int) -> Array | None:
    """The weights `(size, values)` of a layer some of whose neurons read two to `FEW` values.

    Arguments:
        pre: the pre-activation; values are counted as by `Coordinates`, from 0.

    Returns:
        Rows that read more than `FEW` values are zero. None if there are no such neurons, and for
        layers of more than `LARGEST` weights.

    Trust: none; they only tell which groups are worth a look.
    """
    kernel, node = program.kernels[pre], program.network.nodes[pre]
    if kernel is None or not node.inputs:
        return None
    space = Coordinates.of(program.network, pre)
    read = space.starts[-1] - node.size
    if not 0 < node.size * read <= LARGEST:
        return None
    if isinstance(kernel, DenseKernel) and len(node.shape) == 1:
        weights = kernel.weight
    elif kernel.fan > FEW:
        return None
    else:
        units = torch.eye(node.size, dtype=program.dtype, device=program.device)
        parts = kernel.transpose(units.reshape(-1, *node.shape))
        sums = {j: torch.zeros(1, device=program.device) for j in space.nodes[1:]}
        for j, part in zip(node.inputs, parts, strict=True):
            sums[j] = sums[j] + part.reshape(node.size, -1)
        weights = torch.cat([sums[j] for j in space.nodes[1:]], dim=1)
    count = (weights != 0).sum(dim=1, keepdim=True)
    if not bool(((count > 1) & (count <= FEW)).any()):
        return None
    return torch.where(count <= FEW, weights, 0.0).double().cpu().numpy()
