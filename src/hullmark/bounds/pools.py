"""Joint rows for backward passes: linear inequalities over the values of any nodes.

A row `sum_j c_j . value_j <= rhs` that holds for every point of the network enters a backward
pass with a multiplier: any multiplier at least 0 keeps the bound sound, and good ones are found
by ascent, as for slopes and splits [PRIMA], [BICCOS].
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Pool:
    """`sum_j coefficients[j] . value_j <= rhs` for R rows that hold on every domain.

    `coefficients[j]` `(R, *shape)` per node; `rhs` `(R,)`.
    """

    coefficients: Mapping[int, Tensor]
    rhs: Tensor

    @property
    def top(self) -> int:
        """The last node that a row reads."""
        return max(self.coefficients)

    @cached_property
    def width(self) -> int:
        """The number of values that the rows read."""
        return sum(c[0].numel() for c in self.coefficients.values())

    @cached_property
    def none(self) -> Tensor:
        """Zeros, one for each row."""
        return torch.zeros_like(self.rhs)

    def shares(self, gamma: Tensor) -> Iterator[tuple[int, Tensor]]:
        """What multipliers `(B|1, Q, R)` add to the coefficients `(B|1, Q, *shape)` of each node."""
        for j, c in self.coefficients.items():
            yield j, (gamma @ c.flatten(1)).reshape(*gamma.shape[:2], *c.shape[1:])

    def excess(self, values: Mapping[int, Tensor]) -> Tensor:
        """How far points, node values `(B, Q, *shape)`, are beyond each row: `(B, Q, R)`."""
        found = -self.rhs
        for j, c in self.coefficients.items():
            found = found + values[j].flatten(2) @ c.flatten(1).T
        return found

    def cast(self, convert: Callable[[Tensor], Tensor]) -> "Pool":
        """The same rows after a conversion of every tensor."""
        return Pool({j: convert(c) for j, c in self.coefficients.items()}, convert(self.rhs))
