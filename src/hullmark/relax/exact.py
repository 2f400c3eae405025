"""Numbers as they are given: to fractions without rounding, and rows of primitive integers."""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from math import gcd, lcm
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hullmark.errors import BadInput

Array = NDArray[Any]


def as_fraction(value: Any, name: str) -> Fraction:
    """The number exactly; a float is the dyadic fraction that it stores.

    Raises:
        BadInput: if it is no finite real number; the message begins with `name`.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, Fraction | int | float | Decimal):
        raise BadInput(f"{name} is {value!r}, not a number")
    try:
        return Fraction(value)
    except (ValueError, OverflowError):
        raise BadInput(f"{name} is {value}, not a finite number") from None


def as_fractions(values: ArrayLike, name: str, dimensions: int) -> Array:
    """An array of fractions (dtype object) with that many dimensions.

    Raises:
        BadInput: if the shape is another, or an entry is no finite number; names the entry.
    """
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "biufO":
            array = np.asarray(values, dtype=object)
    except ValueError:
        raise BadInput(f"{name} has rows of different lengths") from None
    if array.ndim != dimensions:
        raise BadInput(f"{name} has shape {array.shape}; it must have {dimensions} dimension(s)")
    result = np.empty(array.shape, dtype=object)
    for index in np.ndindex(array.shape):
        result[index] = as_fraction(array[index], f"{name}[{', '.join(map(str, index))}]")
    return result


def primitive(values: Sequence[Fraction]) -> list[int]:
    """The integers without common factor that are a positive multiple of the fractions."""
    scale = lcm(*(value.denominator for value in values))
    integers = [value.numerator * (scale // value.denominator) for value in values]
    divisor = gcd(*integers)
    return [value // divisor for value in integers] if divisor else integers


def primitive_rows(rows: Array) -> Array:
    """`primitive` for each row of an array `(n, d)` of fractions; dtype object."""
    result = np.empty(rows.shape, dtype=object)
    for index, row in enumerate(rows):
        result[index] = primitive(list(row))
    return result


def identity(size: int) -> Array:
    """The identity matrix, of fractions."""
    return np.eye(size, dtype=np.int64).astype(object) * Fraction(1)


def zeros(*shape: int) -> Array:
    """An array of zeros, of fractions."""
    return np.full(shape, Fraction(0), dtype=object)
