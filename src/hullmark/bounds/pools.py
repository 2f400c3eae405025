"""Joint rows for backward passes: linear inequalities over the values of any nodes.

A row `sum_j c_j . value_j <= rhs` that holds for every point of the network enters a backward
pass with a multiplier: any multiplier at least 0 keeps the bound sound, and good ones are found
by ascent, as for slopes and splits [PRIMA], [BICCOS].
"""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Pool:
    """`sum_j coefficients[j] . value_j <= rhs` for R rows that hold on every domain.

    `coefficients[j]` `(R, *shape)` per node; `rhs` `(R,)`; `numbers` `(R,)`, int32: what the rows
    are known by, None if by nothing.
    """

    coefficients: Mapping[int, Tensor]
    rhs: Tensor
    numbers: NDArray[np.int32] | None = None

    @property
    def top(self) -> int:
        """The last node that a row reads."""
        return max(self.coefficients)

    @cached_property
    def width(self) -> int:
        """The number of values that the rows read."""
        return sum(c.shape[1:].numel() for c in self.coefficients.values())

    @cached_property
    def none(self) -> Tensor:
        """Zeros, one for each row."""
        return torch.zeros_like(self.rhs)

    @cached_property
    def sparse(self) -> Mapping[int, tuple[Tensor, Tensor]] | None:
        """Per node the coefficients as sparse `(R, size)` and `(size, R)`; None where torch cannot
        multiply them fast. Rows have a handful of terms, so this is several times faster."""
        if self.rhs.device.type != "cpu" or not torch.backends.mkl.is_available():
            return None
        with warnings.catch_warnings():
            # Torch calls its sparse tensors "beta" once a process.
            warnings.simplefilter("ignore")
            flat = {j: c.flatten(1) for j, c in self.coefficients.items()}
            return {
                j: (c.to_sparse_csr(), c.T.contiguous().to_sparse_csr()) for j, c in flat.items()
            }

    def zeros(self, queries: int) -> Tensor:
        """Multipliers `(1, Q, R)`, all 0, laid out so that products with the rows are fast."""
        return self.rhs.new_zeros(len(self.rhs), queries).T.unsqueeze(0)

    def shares(self, gamma: Tensor) -> Iterator[tuple[int, Tensor]]:
        """What multipliers `(B|1, Q, R)` add to each node's coefficients, `(B|1, Q, *shape)`."""
        for j, c in self.coefficients.items():
            if self.sparse is not None and len(gamma) == 1:
                part = (self.sparse[j][1] @ gamma[0].T.contiguous()).T
            else:
                part = gamma @ c.flatten(1)
            yield j, part.reshape(*gamma.shape[:2], *c.shape[1:])

    def excess(self, values: Mapping[int, Tensor]) -> Tensor:
        """How far points, node values `(B, Q, *shape)`, are beyond each row: `(B, Q, R)`."""
        found = -self.rhs
        for j, c in self.coefficients.items():
            at = values[j].flatten(2)
            if self.sparse is not None and len(at) == 1:
                found = found + (self.sparse[j][0] @ at[0].T.contiguous()).T.unsqueeze(0)
            else:
                found = found + at @ c.flatten(1).T
        return found

    def to(self, device: torch.device, dtype: torch.dtype) -> "Pool":
        """The same rows elsewhere, rounded to nearest; made once and kept."""
        if (device, dtype) == (self.rhs.device, self.rhs.dtype):
            return self
        if (device, dtype) not in self._elsewhere:
            moved = {j: c.to(device, dtype) for j, c in self.coefficients.items()}
            self._elsewhere[device, dtype] = Pool(moved, self.rhs.to(device, dtype), self.numbers)
        return self._elsewhere[device, dtype]

    @cached_property
    def _elsewhere(self) -> dict[tuple[torch.device, torch.dtype], "Pool"]:
        return {}
