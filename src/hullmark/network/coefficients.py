"""Coefficients that are not representable, with bounds on what rounding them lost.

Each function returns what is stored and how far the real number may lie from it, in the sense
of `ops.Roundoff`. All values are of magnitude `2**-1000` or more, or exactly zero: a relative
bound would not hold for a subnormal number.
"""

from fractions import Fraction
from math import isqrt

import numpy as np

from hullmark.errors import BadInput, Unsupported
from hullmark.exact import round_up
from hullmark.network.ops import Array, Roundoff

UNIT = 2.0**-53
TINY = 2.0**-1000
SLACK = 1 + 2.0**-20
"""Covers the rounding of the error bounds themselves, which are sums of few positive terms."""

_BITS = 160


def in_range(value: Array) -> bool:
    """Whether every entry is zero, or finite and so large that rounding is relative."""
    return bool(np.all((value == 0) | ((np.abs(value) >= TINY) & np.isfinite(value))))


def reciprocal(value: Array) -> tuple[Array, float]:
    """`1 / value`, and its relative error: 0 where all are powers of two, else `2**-53`.

    Raises:
        BadInput: on a division by zero.
        Unsupported: if a result leaves the range of normal numbers.
    """
    value = value.astype(np.float64)
    if not value.all():
        raise BadInput("division by a constant that is zero")
    inverse = 1 / value
    if not in_range(inverse):
        raise Unsupported("division by a constant whose reciprocal is out of range")
    return inverse, 0.0 if bool(np.all(_power_of_two(value))) else UNIT


def times(a: Array, b: Array) -> tuple[Array, float] | None:
    """`a * b`, and its relative error: 0 or `2**-53`; None if a result is out of range."""
    product = a * b
    if not in_range(product) or np.any((product == 0) & (a != 0) & (b != 0)):
        return None
    exact = (_short(a) & _short(b)) | _power_of_two(a) | _power_of_two(b) | (product == 0)
    return product, 0.0 if bool(np.all(exact)) else UNIT


def plus(a: Array, b: Array) -> tuple[Array, Array]:
    """`a + b`, and the absolute value of its rounding error, which is exact (Knuth's TwoSum)."""
    total = a + b
    tail = total - a
    return total, np.abs((a - (total - tail)) + (b - tail))


def compound(*relative: float) -> float:
    """The relative error of a product of factors with these relative errors, all far below 1.

    With `s` their sum, the product of the `1 + r` is at most `exp(s)`, so at most `1 + s + s**2`.
    """
    total = sum(relative)
    return (total + total * total) * SLACK


def batch_norm(
    scale: Array, bias: Array, mean: Array, variance: Array, epsilon: float
) -> tuple[Array, Array, Roundoff]:
    """The affine map of a batch normalisation in inference: factor and shift per channel.

    Arguments:
        scale, bias, mean, variance: shape `(channels,)`.
        epsilon: added to the variance.

    Returns:
        factor `scale / sqrt(variance + epsilon)`, shift `bias - mean * factor`, and their error.

    Raises:
        BadInput: if a variance plus epsilon is not positive.

    Trust: computed with rationals; the square root is enclosed to 160 bits and each result
    rounded once.
    """
    factors, shifts, errors = [], [], []
    for s, b, m, v in zip(scale, bias, mean, variance, strict=True):
        total = Fraction(float(v)) + Fraction(epsilon)
        if total <= 0:
            raise BadInput(f"a variance of {float(v)} with epsilon {epsilon} has no square root")
        factor = Fraction(float(s)) / _root(total)
        shift = Fraction(float(b)) - Fraction(float(m)) * factor
        factors.append(float(factor))
        shifts.append(float(shift))
        # The enclosed root is off by a relative 2**-158 at most, and so is the factor.
        lost = abs(shift - Fraction(shifts[-1])) + abs(Fraction(float(m)) * factor) / 2**150
        errors.append(round_up(lost))
    factor, shift = np.array(factors), np.array(shifts)
    if not (in_range(factor) and in_range(shift)):
        raise Unsupported("a batch normalisation whose coefficients are out of range")
    return factor, shift, Roundoff(UNIT * (1 + 2.0**-40), np.array(errors))


def _root(value: Fraction) -> Fraction:
    """The square root of a positive rational, to a relative error of `2**-158`."""
    digits = max(0, _BITS - (value.numerator.bit_length() - value.denominator.bit_length()) // 2)
    return Fraction(isqrt((value.numerator << 2 * digits) // value.denominator), 1 << digits)


def _power_of_two(value: Array) -> Array:
    return np.abs(np.frexp(value)[0]) == 0.5


def _short(value: Array) -> Array:
    """Which entries have at most 24 significant bits, so that products of two are exact."""
    with np.errstate(over="ignore", under="ignore"):
        return value == value.astype(np.float32)
