"""From exact numbers to float64: the nearest one, and the tightest one on either side.

Where exact and floating arithmetic meet: an exact result is handed to floats by one outward
rounding, and nothing is computed afterwards.
"""

import math
from decimal import Decimal
from fractions import Fraction

Number = int | float | Decimal | Fraction
"""A number that stands for itself: a `float` for the dyadic rational that it stores."""


def round_down(value: Number) -> float:
    """The largest float64 that is not above a number.

    Arguments:
        value: finite.

    Returns:
        Minus infinity below all finite floats, the largest finite float above them.

    Trust: exact; floats, fractions and decimals are compared in Python without rounding.
    """
    near = nearest(value)
    return math.nextafter(near, -math.inf) if near > value else near


def round_up(value: Number) -> float:
    """The smallest float64 that is not below a number.

    Arguments:
        value: finite.

    Returns:
        Infinity above all finite floats, the least finite float below them.

    Trust: exact, as `round_down`.
    """
    near = nearest(value)
    return math.nextafter(near, math.inf) if near < value else near


def nearest(value: Number) -> float:
    """The float64 nearest to a finite number, infinite beyond the range of floats.

    Trust: none on the side; bounds go through `round_down` and `round_up`.
    """
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def figures(value: Fraction, most: int) -> str | None:
    """A fraction as it is written, `-3/4`; None if that takes more than `most` characters.

    Python itself refuses to write integers of over 4300 digits.
    """
    # A digit is log2(10) = 3.32 bits.
    if value.numerator.bit_length() + value.denominator.bit_length() > 3.33 * most + 8:
        return None
    text = str(value)
    return text if len(text) <= most else None
