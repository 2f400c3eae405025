"""Exact numbers as they are written, and arrays of them rounded outwards to float64.

A `Number` stands for itself: an `int`, `Decimal` or `Fraction` for the rational it denotes, a
`float` for the dyadic rational it is. Numbers are compared and converted, never computed with
in place (`Decimal` arithmetic rounds); arithmetic is done on `Fraction`.
"""

import math
import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from hullmark.errors import BadInput
from hullmark.exact import Number, nearest, round_down, round_up

Floats = NDArray[np.float64]
Values = Sequence[Any] | NDArray[Any]

NUMBER_PATTERN = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
"""A decimal number with an optional exponent, as VNN-LIB files write it."""

_NUMBER = re.compile(NUMBER_PATTERN)
# Beyond this power of ten a number is a mistake, and its exact form would fill the memory.
_LARGEST_EXPONENT = 2000


def parse_number(text: str) -> Decimal | None:
    """The decimal that `text` spells, or `None` where it spells no number.

    Raises:
        BadInput: if the exponent is beyond ±2000.

    Trust: exact; the digits never pass through a float.
    """
    if _NUMBER.fullmatch(text) is None:
        return None
    try:
        return _within_reach(Decimal(text))
    except InvalidOperation:
        raise BadInput(f"the exponent of {text} is out of reach") from None


def as_number(value: object) -> Number:
    """A finite number, from any Python or numpy number or a decimal string.

    Raises:
        BadInput: if `value` is not a number, NaN or infinite, or its exponent is beyond ±2000.

    Trust: exact.
    """
    if isinstance(value, str):
        parsed = parse_number(value.strip())
        if parsed is None:
            raise BadInput(f"{value!r} is not a finite number")
        return parsed
    if isinstance(value, Decimal):
        return _within_reach(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, np.floating) and not isinstance(value, float):
        # Through its ratio, since a long double does not fit a float.
        return Fraction(*value.as_integer_ratio()) if np.isfinite(value) else _refuse(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else _refuse(value)
    if isinstance(value, Fraction | int) and not isinstance(value, bool):
        return value
    raise BadInput(f"{value!r} is not a number")


def as_fraction(value: object) -> Fraction:
    """The number that `value` is, as `as_number` reads it, as a `Fraction`.

    Raises:
        BadInput: as `as_number`.

    Trust: exact.
    """
    return value if isinstance(value, Fraction) else Fraction(as_number(value))


def flatten(values: Values) -> list[object]:
    """The entries of an array or of a nested list, in row-major order, as they are."""
    return as_array(values).reshape(-1).tolist()


def as_array(values: Values) -> NDArray[Any]:
    """An array of the entries of an array or of a nested list, as they are."""
    # As objects, since numpy would turn a list that mixes strings and numbers into text.
    return np.asarray(values, dtype=object if isinstance(values, list | tuple) else None)


def outward(values: Sequence[Number], *, up: bool) -> Floats:
    """Every number rounded up, or down; shape `(len(values),)`, a zero is always +0.0.

    Trust: the tightest float64 on that side, by exact comparison; infinite where there is none.
    """
    rounding = round_up if up else round_down
    return np.array([rounding(value) for value in values], dtype=np.float64) + 0.0


def shown(value: Number) -> str:
    """A number for a message: as it was written, or a fraction by its nearest float."""
    return repr(nearest(value)) if isinstance(value, Fraction) else str(value)


def _within_reach(value: Decimal) -> Decimal:
    if not value.is_finite():
        _refuse(value)
    if not value:
        return Decimal(0)
    if abs(value.adjusted()) > _LARGEST_EXPONENT:
        raise BadInput(f"a number with the exponent {value.adjusted()} is out of reach")
    return value


def _refuse(value: object) -> NoReturn:
    raise BadInput(f"{value} is not a finite number")
