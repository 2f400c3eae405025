"""Random octahedral groups, and what the multipliers of a row prove about them, exactly."""

from fractions import Fraction
from itertools import product

import numpy as np

from hullmark.relax.octahedra import octahedral_rows
from hullmark.relax.separate import JointRows


def fractions(values: np.ndarray) -> list[Fraction]:
    return [Fraction(v) for v in np.asarray(values).tolist()]


def random_bounds(count: int, k: int, rng: np.random.Generator) -> np.ndarray:
    """Support functions of images of boxes, half of them loosened as propagation would."""
    rows = octahedral_rows(k).astype(float)
    maps = rng.normal(size=(count, k, 10)) * (rng.random((count, k, 10)) < 0.6)
    widths = np.abs(maps).sum(axis=2)
    centres = rng.uniform(-0.6, 0.6, size=(count, k)) * widths
    d = np.abs(rows @ maps).sum(axis=2) + centres @ rows.T
    loosen = rng.random((count, 1)) < 0.5
    extra = rng.random(d.shape) * 0.1 * widths.max(axis=1, keepdims=True)
    return d + loosen * extra * (np.abs(rows).sum(axis=1) - 1) + 1e-3


def implied(
    rows: JointRows,
    index: int,
    normals: np.ndarray,
    bounds: np.ndarray,
    slopes: tuple[np.ndarray, np.ndarray],
) -> Fraction:
    """The right-hand side that the stored multipliers prove, in exact arithmetic.

    `normals` `(M, k)` and `bounds` `(M,)` of the row's group, and its slopes, both `(k,)`.
    """
    x, y = fractions(rows.x[index]), fractions(rows.y[index])
    d, k, count = bounds.tolist(), len(x), len(normals)
    sides = [fractions(side) for side in slopes]
    whole = normals.astype(int).tolist()
    best: list[Fraction] = []
    for pattern, signs in enumerate(product((-1, 1), repeat=k)):
        rest = [x[j] + y[j] * sides[signs[j] > 0][j] for j in range(k)]
        total = Fraction(0)
        for member, multiplier in zip(
            rows.members[index, pattern].tolist(),
            fractions(rows.multipliers[index, pattern]),
            strict=True,
        ):
            assert multiplier >= 0
            if multiplier == 0:
                continue
            if member < count:
                total += multiplier * Fraction(d[member])
                rest = [r - multiplier * a for r, a in zip(rest, whole[member], strict=True)]
            else:
                rest[member - count] += multiplier * signs[member - count]
        for j, r in enumerate(rest):
            unit = [0] * k
            unit[j] = 1 if r >= 0 else -1
            total += abs(r) * Fraction(d[whole.index(unit)]) if r else 0
        best.append(total)
    return max(best)
