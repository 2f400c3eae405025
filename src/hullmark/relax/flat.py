"""Octahedral groups whose coordinates depend on each other: flat, or as thin as rounding leaves.

Where `w · x` is constant on a group, `w` an octahedral row, the hull of its graph is flat, and rows
that differ by multiples of that equation are equal on it; where rounding has made `w · x` vary by a
little, its facets are slivers. Directions of rows are better looked for on the group with that
equation put in.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hullmark.relax.octahedra import Octahedra, octahedra, template

Array = NDArray[Any]

# Of the width of the narrowest coordinate that a row has.
_THIN = 2.0**-16
# Of the group's scale: an equation this close to zero goes through zero.
_NEAR = 1e-9


def flattened(groups: Octahedra) -> tuple[Array, Octahedra]:
    """The groups in which a row of two or more coordinates is all but constant, made flat.

    Returns:
        The indices `(F,)` of those that have vertices when flat, ascending; and these groups with
        an equation `w · x = d` for each such row that no other ones imply. The interval of `w · x`
        has `d` in its middle, or holds zero and `d` is zero, so that kinks which nearly meet do.

    Trust: none; the flat groups are no supersets and serve to guess rows.
    """
    rows = template(groups.k).rows
    count = len(rows)
    half, wide = rows[: count // 2] != 0, groups.bounds + groups.bounds[:, ::-1]
    with np.errstate(invalid="ignore"):
        width = np.where(groups.usable[:, None], wide, np.inf)[:, : count // 2]
        spans = wide[:, template(groups.k).upper]
        narrowest = np.where(half[None], spans[:, None, :], np.inf).min(axis=2)
        thin = (width < _THIN * narrowest) & (half.sum(axis=1) > 1)
    thin &= np.diff(groups.start)[:, None] > 0
    some = np.flatnonzero(thin.any(axis=1))
    bounds = groups.bounds[some].copy()
    for place, g in enumerate(some):
        for row in np.flatnonzero(thin[g]):
            bounds[place, [row, count - 1 - row]] = np.inf
        for row in _independent(groups.k, tuple(np.flatnonzero(thin[g]).tolist())):
            above, below = groups.bounds[g, [row, count - 1 - row]]
            middle = (above - below) / 2
            near = abs(middle) <= width[g, row] / 2 + _NEAR * groups.scale[g]
            level = 0.0 if near else middle
            bounds[place, [row, count - 1 - row]] = level, -level
    flat = octahedra(bounds, groups.negative[some], groups.positive[some])
    found = np.flatnonzero(np.diff(flat.start) > 0)
    return some[found], flat.selected(found)


@lru_cache(maxsize=256)
def _independent(k: int, rows: tuple[int, ...]) -> tuple[int, ...]:
    """Those of some rows of the template that the others before them do not imply, short first."""
    normals = template(k).rows
    chosen: list[int] = []
    for row in sorted(rows, key=lambda row: float(np.abs(normals[row]).sum())):
        if np.linalg.matrix_rank(normals[[*chosen, row]]) > len(chosen):
            chosen.append(row)
    return tuple(chosen)
