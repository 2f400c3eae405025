"""The triangle relaxation: each neuron of a group by itself [Ehlers17]."""

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hullmark.relax.hull import read_polytope
from hullmark.relax.pieces import Pieces, read_pieces
from hullmark.relax.polytope import facets_of, in_order, vertices_of

Array = NDArray[Any]


def relu_triangle(
    A: ArrayLike, b: ArrayLike, negative: ArrayLike = 0, positive: ArrayLike = 1
) -> tuple[Array, Array]:
    """The polytope `{(x, y) : A x <= b, (x_j, y_j) in the triangle of each j}` around the hull.

    Arguments:
        A, b, negative, positive: as for `relu_hull`.

    Returns:
        `rows` `(m, 2k)` and `rhs` `(m,)` of `rows · (x, y) <= rhs`, fractions: the rows of `A`
        first. A stable neuron gets its equation as two rows.

    Raises:
        BadInput, VacuousProperty, Unsupported: as `relu_hull`.

    Trust: exact; the range of each `x_j` is the one over the set.
    """
    matrix, offsets = read_polytope(A, b)
    pieces = read_pieces(negative, positive, matrix.shape[1])
    return triangle_rows(matrix, offsets, pieces)


def triangle_rows(A: Array, b: Array, pieces: Pieces) -> tuple[Array, Array]:
    """`relu_triangle` on fractions."""
    width = A.shape[1]
    points = vertices_of(A, b)
    rows = [np.concatenate([A, np.zeros_like(A)], axis=1)]
    rhs = [b]
    for j in range(width):
        alone = Pieces((pieces.negative[j],), (pieces.positive[j],))
        low, high = min(points[:, j]), max(points[:, j])
        ends = [low, high, Fraction(0)] if low < 0 < high else [low, high]
        facets = facets_of(alone.lifted(in_order([[end] for end in ends], 1)))
        flat = np.concatenate([facets.rows, facets.equations, -facets.equations])
        wide = np.zeros((len(flat), 2 * width), dtype=object)
        wide[:, [j, width + j]] = flat
        rows.append(wide)
        rhs.append(np.concatenate([facets.rhs, facets.constants, -facets.constants]))
    return np.concatenate(rows), np.concatenate(rhs)
