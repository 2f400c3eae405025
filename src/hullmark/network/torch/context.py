"""What every function of the torch front end is given, and how it reads its arguments."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hullmark.errors import Unsupported
from hullmark.network.lower import Lowering
from hullmark.network.ops import Array

Function = Callable[..., Any]


@dataclass(frozen=True)
class Context:
    """Where operations go, and the precision of the module."""

    low: Lowering
    dtype: np.dtype[Any]

    def array(self, value: Any) -> Array:
        """A weight or a number, in the precision of the module."""
        if isinstance(value, torch.Tensor):
            return value.detach().cpu().numpy()
        return np.asarray(value, dtype=self.dtype).astype(np.float64)


def sequence(value: Any, rank: int) -> tuple[int, ...]:
    """A number per axis, from one for all or from one each."""
    return (int(value),) * rank if isinstance(value, int) else tuple(int(v) for v in value)


def only(handled: bool, what: str) -> None:
    """Refuse arguments that change the function in a way that is not handled."""
    if not handled:
        raise Unsupported(f"{what} is not handled")
