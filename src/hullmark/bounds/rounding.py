"""What floating point may cost, bounded beforehand.

Every sum of products that a bound is made of is charged with the classical a-priori error
[Higham02 §3.1]: with unit roundoff `u`, a dot product of `n` terms, added in any order and with
or without fused multiply-add, is off by at most `gamma(n) * sum |a_i * b_i|` plus an underflow
term, `gamma(n) = n * u / (1 - n * u)`. The charges use the largest magnitudes that the network's
values can take on the domain, so that one vector a node pays for all queries.
"""

import contextlib
from collections.abc import Generator

import torch
from torch import Tensor

from hullmark.errors import Unsupported

# Everything of second order (the rounding of the charges themselves) is below this factor as
# long as every gamma is below `LARGEST_GAMMA`.
SAFETY = 1.02
LARGEST_GAMMA = 0.005


def unit(dtype: torch.dtype) -> float:
    """The unit roundoff `u` of round-to-nearest: 2^-53 or 2^-24."""
    return torch.finfo(dtype).eps / 2


def gamma(terms: int, dtype: torch.dtype) -> float:
    """`n * u / (1 - n * u)` for a dot product of `terms` terms, rounded up.

    Raises:
        Unsupported: if so many terms make the error of this precision useless.
    """
    nu = terms * unit(dtype)
    if nu > LARGEST_GAMMA:
        raise Unsupported(f"sums of {terms} terms are too long for {dtype}; use float64")
    return nu / (1 - nu) * (1 + 1e-15)


def tiny(dtype: torch.dtype) -> float:
    """More than any single operation can lose to underflow, flushing to zero included."""
    return torch.finfo(dtype).smallest_normal


def down(x: Tensor) -> Tensor:
    """The next number towards minus infinity."""
    return torch.nextafter(x, torch.full_like(x, -torch.inf))


def up(x: Tensor) -> Tensor:
    """The next number towards plus infinity."""
    return torch.nextafter(x, torch.full_like(x, torch.inf))


def certain(lower: Tensor) -> Tensor:
    """Lower bounds, minus infinity where they left the range of float.

    Neither NaN nor plus infinity says anything: both are what remains of an overflow.
    """
    return torch.where(lower.isfinite(), lower, -torch.inf)


@contextlib.contextmanager
def faithful_arithmetic() -> Generator[None, None, None]:
    """Within it the arithmetic is the one that `gamma` describes.

    TF32, reduced-precision reductions and the Winograd and FFT convolutions of cuDNN are off;
    the CPU's convolutions are direct ones in any case.
    """
    cudnn, precision = torch.backends.cudnn.enabled, torch.get_float32_matmul_precision()
    torch.backends.cudnn.enabled = False
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = cudnn
        torch.set_float32_matmul_precision(precision)
