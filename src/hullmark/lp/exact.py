"""The bound of `lp.safe` in rational arithmetic: nothing is lost but what the multipliers lack."""

from fractions import Fraction
from math import isfinite

from hullmark.lp.program import Program, Vector
from hullmark.lp.safe import usable_duals


def exact_bound(program: Program, duals: Vector) -> Fraction | None:
    """A number that `cost . x` is not below at any feasible point.

    Arguments:
        program, duals: as for `safe_bound`.

    Returns:
        The bound; None where a column without a finite bound leaves nothing proved.

    Trust: exact, for the program as stored and the multipliers that can be used; at or above
    what `safe_bound` says.
    """
    if len(duals) != program.matrix.rows:
        return None
    y = [Fraction(v) for v in usable_duals(program, duals).tolist()]
    reduced = [Fraction(c) for c in program.cost.tolist()]
    matrix = program.matrix
    entries = zip(matrix.row.tolist(), matrix.index.tolist(), matrix.value.tolist(), strict=True)
    for i, j, value in entries:
        if y[i]:
            reduced[j] -= y[i] * Fraction(value)
    total = Fraction(0)
    rows = zip(y, program.row_lower.tolist(), program.row_upper.tolist(), strict=True)
    for multiplier, low, high in rows:
        if multiplier:
            total += multiplier * Fraction(low if multiplier > 0 else high)
    columns = zip(reduced, program.lower.tolist(), program.upper.tolist(), strict=True)
    for d, low, high in columns:
        if d:
            end = low if d > 0 else high
            if not isfinite(end):
                return None
            total += d * Fraction(end)
    return total
