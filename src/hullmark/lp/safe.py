"""A proven lower bound of a linear program from any multipliers, rounded outwards.

For every `y`, `cost . x = y . (A x) + (cost - A^T y) . x`. The first sum is at least what the
row sides say, the second at least its minimum over the box of the columns [NeumaierShcherbina04].
"""

import math

import numpy as np

from hullmark.lp.program import Program, Vector, gathered

_UNIT = 2.0**-53
# More than any product loses to underflow.
_TINY = 2.0**-1000


def safe_bound(program: Program, duals: Vector) -> float:
    """A number that `cost . x` is not below at any feasible point.

    Arguments:
        program: columns that matter need finite bounds.
        duals: multipliers of the rows `(m,)`, positive for the lower side, as a solver returns
            them when minimising; anything is allowed.

    Returns:
        The bound; minus infinity where nothing is proved.

    Trust: holds in real arithmetic for the program as stored, whatever the multipliers; those
    that are not finite or have no row side to rest on are taken as 0.
    """
    if len(duals) != program.matrix.rows:
        return -math.inf
    y = usable_duals(program, duals)
    with np.errstate(over="ignore", invalid="ignore"):
        sides = product_down(y, np.where(y > 0, program.row_lower, program.row_upper))
        lowest, highest = _reduced_cost(program, y)
        columns = np.minimum(
            np.minimum(product_down(lowest, program.lower), product_down(highest, program.lower)),
            np.minimum(product_down(lowest, program.upper), product_down(highest, program.upper)),
        )
    return sum_down(np.concatenate([sides, columns]))


def usable_duals(program: Program, duals: Vector) -> Vector:
    """The multipliers, 0 in place of those that are not finite or point at no row side."""
    y = np.where(np.isfinite(duals), duals, 0.0)
    side = np.where(y > 0, program.row_lower, program.row_upper)
    return np.where(np.isfinite(side), y, 0.0)


def sum_down(terms: Vector) -> float:
    """At or below the sum of lower bounds; minus infinity where that is no finite number."""
    if not np.all(np.isfinite(terms)):
        return -math.inf
    try:
        # Rounded once, to nearest.
        total = math.nextafter(math.fsum(terms.tolist()), -math.inf)
    except OverflowError:
        return -math.inf
    return total if math.isfinite(total) else -math.inf


def product_down(a: Vector, b: Vector) -> Vector:
    """At or below `a * b`, 0 where a is 0 whatever b; minus infinity in place of NaN."""
    product = np.nextafter(a * np.where(a == 0, 0.0, b), -np.inf)
    product = np.where((a == 0) | (b == 0), 0.0, product)
    return np.where(np.isnan(product), -np.inf, product)


def _reduced_cost(program: Program, y: Vector) -> tuple[Vector, Vector]:
    """An interval around `cost - A^T y` [Higham02 §3.1]."""
    matrix = program.matrix
    terms = matrix.value * y[matrix.row]

    total = gathered(matrix.index, terms, matrix.columns)
    size = gathered(matrix.index, np.abs(terms), matrix.columns)
    count = np.bincount(matrix.index, minlength=matrix.columns)
    # Rounded are the products, their sum and that of the magnitudes, and the difference.
    rate = (count + 4) * _UNIT
    size = size + np.abs(program.cost)
    error = size * (2 * rate / (1 - 2 * rate)) * (1 + 8 * _UNIT)
    error = np.where(count > 0, error + _TINY * (count + 1), 0.0)
    middle = program.cost - total
    lowest, highest = middle - error, middle + error
    exact = error == 0
    return (
        np.where(exact, middle, np.nextafter(lowest, -np.inf)),
        np.where(exact, middle, np.nextafter(highest, np.inf)),
    )
