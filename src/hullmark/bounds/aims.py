"""What a backward pass is to bound: queries of an objective, neurons, or forms of values."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hullmark.bounds.linear import seed
from hullmark.bounds.objective import Objective
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation


@dataclass(frozen=True, eq=False)
class Neurons:
    """The values of chosen neurons of a node, times `sign`, as queries; both as in `seed`."""

    node: int
    neurons: Tensor
    sign: int | Tensor

    @property
    def queries(self) -> int:
        """The number Q of queries a domain has."""
        return self.neurons.shape[-1]

    rows = 1

    def uniform(self) -> Tensor:
        """One row a query, of weight 1."""
        return torch.ones(1, self.queries, 1, device=self.neurons.device)

    def mixed(self, relaxation: Relaxation, mix: Tensor) -> tuple[dict[int, Tensor], Tensor]:
        """Start and constant of a backward pass."""
        return seed(relaxation, self.node, self.neurons, self.sign)

    def cast(self, program: Program) -> "Neurons":
        """Nothing here depends on precision."""
        return self


@dataclass(frozen=True, eq=False)
class Forms:
    """Linear forms of values as queries: for each node coefficients `(1, Q, size)`.

    Trust: coefficients must be representable in float32.
    """

    coefficients: Mapping[int, Tensor]

    @property
    def node(self) -> int:
        """The last node that a form reads."""
        return max(self.coefficients)

    @property
    def queries(self) -> int:
        """The number Q of queries a domain has."""
        return self.coefficients[self.node].shape[1]

    rows = 1

    def uniform(self) -> Tensor:
        """One row a query, of weight 1."""
        return torch.ones(1, self.queries, 1, device=self.coefficients[self.node].device)

    def mixed(self, relaxation: Relaxation, mix: Tensor) -> tuple[dict[int, Tensor], Tensor]:
        """Start and constant of a backward pass."""
        nodes = relaxation.program.network.nodes
        start = {
            j: c.to(relaxation.lower).reshape(1, self.queries, *nodes[j].shape)
            for j, c in self.coefficients.items()
        }
        return start, relaxation.lower.new_zeros(1, self.queries)

    def cast(self, program: Program) -> "Forms":
        """The same forms; `mixed` converts them."""
        return self


Aim = Objective | Neurons | Forms


def split_aim(aim: Aim, piece: int) -> Iterator[tuple[slice, Aim]]:
    """The aim in parts of at most `piece` queries, each with its place."""
    for k in range(0, aim.queries, piece):
        part = slice(k, min(k + piece, aim.queries))
        match aim:
            case Objective():
                yield part, aim.select(part)
            case Neurons():
                sign = aim.sign if isinstance(aim.sign, int) else aim.sign[part]
                yield part, Neurons(aim.node, aim.neurons[..., part], sign)
            case Forms():
                yield part, Forms({j: c[:, part] for j, c in aim.coefficients.items()})


def both_signs(node: int, neurons: Tensor) -> Neurons:
    """The values of neurons `(n,)` of a node and then their negations, as `2n` queries."""
    ones = torch.ones(len(neurons), device=neurons.device)
    return Neurons(node, neurons.repeat(2), torch.cat([ones, -ones]))
