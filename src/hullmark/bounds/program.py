"""A network made ready for bounding: its kernels on one device, in one precision."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hullmark.bounds.kernels import ConvKernel, DenseKernel, Kernel, compile_affine
from hullmark.bounds.rounding import down
from hullmark.errors import BadInput, Unsupported
from hullmark.network import ops
from hullmark.network.graph import Network

NONLINEAR = (ops.Rectifier, ops.Sigmoid, ops.Tanh, ops.Sign, ops.Reciprocal, ops.Product)


@dataclass(frozen=True, eq=False)
class Program:
    """`kernels[i]` is the affine kernel of node i, None where the node is not affine."""

    network: Network
    kernels: tuple[Kernel | None, ...]
    device: torch.device
    dtype: torch.dtype

    @staticmethod
    def compile(
        network: Network, device: str = "cpu", dtype: torch.dtype = torch.float64
    ) -> "Program":
        """Compile a network.

        Raises:
            BadInput: for a device that torch does not know or cannot compute on here.
            Unsupported: for a softmax, which must be dropped before (it is no bound's business).
        """
        place = _usable(device, dtype)
        kernels: list[Kernel | None] = []
        for node in network.nodes:
            if isinstance(node.op, ops.Softmax):
                raise Unsupported(f"node {node.name}: softmax can only be dropped, not bounded")
            kernel: Kernel | None = None
            if isinstance(node.op, ops.Affine):
                shapes = [network.nodes[j].shape for j in node.inputs]
                kernel = compile_affine(node.op, shapes, place, dtype)
            kernels.append(kernel)
        return Program(network, tuple(kernels), place, dtype)

    @cached_property
    def nonlinear(self) -> tuple[int, ...]:
        """The nodes that are not affine, in order."""
        return tuple(i for i, n in enumerate(self.network.nodes) if isinstance(n.op, NONLINEAR))

    @cached_property
    def pre_activations(self) -> tuple[int, ...]:
        """The nodes that nonlinear nodes read, in order."""
        read = {j for i in self.nonlinear for j in self.network.nodes[i].inputs}
        return tuple(sorted(read))

    @cached_property
    def slopes(self) -> dict[int, tuple[Tensor, Tensor]]:
        """For each rectifier its slopes left and right of 0, broadcast to the node's shape."""
        found: dict[int, tuple[Tensor, Tensor]] = {}
        for i in self.nonlinear:
            node = self.network.nodes[i]
            if isinstance(node.op, ops.Rectifier):
                found[i] = (
                    self.tensor(node.op.negative).expand(node.shape),
                    self.tensor(node.op.positive).expand(node.shape),
                )
        return found

    @cached_property
    def single(self) -> "Program":
        """The same network in float32 on the same device, for searching."""
        if self.dtype == torch.float32:
            return self
        return Program.compile(self.network, str(self.device), torch.float32)

    @cached_property
    def work(self) -> tuple[int, ...]:
        """For each node the multiplications of one backward pass from it to the input."""
        total, upto = 0, list[int]()
        for kernel, node in zip(self.kernels, self.network.nodes, strict=True):
            total += node.size
            if isinstance(kernel, DenseKernel):
                total += node.size * kernel.weight.shape[1]
            elif isinstance(kernel, ConvKernel):
                total += kernel.weight.numel() * math.prod(kernel.small)
            upto.append(total)
        return tuple(upto)

    def tensor(self, values: object) -> Tensor:
        """Values as a tensor of this program's device and precision, rounded to nearest."""
        return torch.as_tensor(values, dtype=torch.float64).to(self.device, self.dtype)

    def enclosing(self, lower: object, upper: object) -> tuple[Tensor, Tensor]:
        """Boxes as tensors of this program's device and precision, rounded outwards."""
        negated = -torch.as_tensor(upper, dtype=torch.float64)
        return _rounded_down(self, lower), -_rounded_down(self, negated)

    def step(self, i: int, inputs: list[Tensor]) -> Tensor:
        """The value of node i from those of its inputs, tensors `(N, *shape)`; differentiable."""
        kernel = self.kernels[i]
        if kernel is not None:
            y = kernel.forward(*inputs)
            return y if kernel.bias is None else y + kernel.bias
        match self.network.nodes[i].op:
            case ops.Rectifier():
                negative, positive = self.slopes[i]
                return positive * inputs[0].clamp(min=0) + negative * inputs[0].clamp(max=0)
            case ops.Sigmoid():
                return torch.sigmoid(inputs[0])
            case ops.Tanh():
                return torch.tanh(inputs[0])
            case ops.Sign():
                return torch.sign(inputs[0])
            case ops.Reciprocal():
                return 1 / inputs[0]
            case _:
                return inputs[0] * inputs[1]

    def evaluate(self, x: Tensor) -> Tensor:
        """Outputs `(N, output_size)` at `(N, input_size)`; differentiable, rounded to nearest."""
        nodes = self.network.nodes
        kept = {0: x.reshape(-1, *nodes[0].shape)}
        for i in range(1, len(nodes)):
            kept[i] = self.step(i, [kept[j] for j in nodes[i].inputs])
            for j in nodes[i].inputs:
                if self.network.consumers[j][-1] == i:
                    kept.pop(j, None)
        return kept[len(nodes) - 1].reshape(len(x), -1)


def _usable(device: str, dtype: torch.dtype) -> torch.device:
    try:
        place = torch.device(device)
        # Some devices only fail when a value is asked for, or lack a precision.
        float(torch.zeros((), dtype=dtype, device=place))
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).strip().splitlines()[0].split(". ")[0]
        raise BadInput(f"device {device!r} cannot be used: {reason}") from None
    return place


def _rounded_down(program: Program, values: object) -> Tensor:
    wide = torch.as_tensor(values, dtype=torch.float64).to(program.device)
    near = wide.to(program.dtype)
    return torch.where(near.double() > wide, down(near), near)
