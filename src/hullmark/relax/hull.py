"""The convex hull of a group of ReLUs over a polytope: every facet [kReLU §3.3]."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hullmark.errors import BadInput
from hullmark.relax.exact import as_fractions
from hullmark.relax.fast import ValidRows, rounded_rows, searched_rows
from hullmark.relax.pieces import Pieces, lifted_vertices, read_pieces
from hullmark.relax.polytope import facets_of, homogenised

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class ReluHull:
    """The convex hull of `{(x, f(x)) : A x <= b}`, as inequalities over `(x, y)` in `R^{2k}`.

    It is `{(x, y) : rows · (x, y) <= rhs, E · (x, y) == e}` with `equalities = (E, e)`; `rows`
    is `(m, 2k)`, `rhs` `(m,)`, `vertices` `(n, 2k)`. `A`, `b` and `pieces` are the question.

    If `exact`, all arrays have dtype object: rows, right-hand sides and equations are primitive
    integers, sorted, none redundant; the vertices are fractions. Otherwise all are float64, there
    are no equalities (a flat hull has opposite rows), and the rows may be incomplete.

    Trust: every row holds for every point of the graph, in real arithmetic, exact or not. If
    `exact`, the description is complete and minimal, and so are the vertices; otherwise the
    vertices are rounded and prove nothing.
    """

    rows: Array
    rhs: Array
    equalities: tuple[Array, Array]
    vertices: Array
    exact: bool
    A: Array
    b: Array
    pieces: Pieces

    def contains(self, x: ArrayLike, y: ArrayLike) -> bool:
        """Whether `(x, y)` satisfies every row and equality; `x` and `y` of shape `(k,)`.

        Raises:
            BadInput: if a shape is another, or a number is not finite.

        Trust: exact, floats included: they are taken as the numbers that they are.
        """
        point = np.concatenate([as_fractions(x, "x", 1), as_fractions(y, "y", 1)])
        width = self.A.shape[1]
        if np.shape(x) != (width,) or np.shape(y) != (width,):
            raise BadInput(f"x and y have shapes {np.shape(x)} and {np.shape(y)}, not ({width},)")
        rows, rhs = _as_exact(self.rows), _as_exact(self.rhs)
        equations, constants = self.equalities
        return bool(np.all(rows @ point <= rhs) and np.all(equations @ point == constants))

    def plot(self) -> Figure:
        """The pictures of the papers for `k` = 1 and 2, with the triangle relaxation beside.

        Needs matplotlib (`pip install "hullmark[plot]"`).

        Returns:
            A matplotlib figure; `figure.savefig("hull.png")` writes it.

        Raises:
            BadInput: if `k > 2`, or matplotlib is not installed.

        Trust: a picture; the shapes are computed exactly and drawn in floats.
        """
        from hullmark.relax.picture import draw

        return draw(self.A, self.b, self.pieces)


def relu_hull(
    A: ArrayLike,
    b: ArrayLike,
    exact: bool = True,
    negative: ArrayLike = 0,
    positive: ArrayLike = 1,
) -> ReluHull:
    """The convex hull of `{(x, f(x)) : A x <= b}`, `f` the ReLU in each coordinate.

    Practical for `k` up to 3, and for groups of 4 with few rows.

    Arguments:
        A, b: the input polytope, shapes `(m, k)` and `(m,)`: floats (taken exactly as they are
            stored), integers, `Fraction`, `Decimal`.
        exact: whether to compute in rational arithmetic; otherwise in floats, with right-hand
            sides repaired to proven bounds.
        negative, positive: the slopes of `f` left and right of zero, for all coordinates or one
            for each; (0, 1) is the ReLU, (-1, 1) the absolute value.

    Raises:
        BadInput: if a shape or number is wrong, or the set is unbounded.
        VacuousProperty: if the set is empty.
        Unsupported: if the hull is too large; says what the next step would have cost.

    Trust: see `ReluHull`. A set that is empty by less than rounding may pass when not `exact`;
    its rows hold vacuously.
    """
    matrix, offsets = read_polytope(A, b)
    pieces = read_pieces(negative, positive, matrix.shape[1])
    if not exact:
        found = searched_rows(matrix, offsets, pieces)
        if found is None:
            full = _exact_hull(matrix, offsets, pieces)
            found = rounded_rows(full.rows, full.equalities, full.vertices)
        return _float_hull(found, matrix, offsets, pieces)
    return _exact_hull(matrix, offsets, pieces)


def read_polytope(A: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    """`A` and `b` as arrays of fractions `(m, k)` and `(m,)`, `k >= 1`.

    Raises:
        BadInput: if the shapes do not fit, or an entry is no finite number; names the entry.
    """
    matrix, offsets = as_fractions(A, "A", 2), as_fractions(b, "b", 1)
    if matrix.shape[1] == 0:
        raise BadInput("A has no columns: a group has at least one coordinate")
    if len(matrix) != len(offsets):
        raise BadInput(f"A has {len(matrix)} rows and b has {len(offsets)} entries")
    return matrix, offsets


def _exact_hull(A: Array, b: Array, pieces: Pieces) -> ReluHull:
    vertices = lifted_vertices(homogenised(A, b), pieces)
    facets = facets_of(vertices)
    equalities = (facets.equations, facets.constants)
    return ReluHull(facets.rows, facets.rhs, equalities, vertices, True, A, b, pieces)


def _float_hull(found: ValidRows, A: Array, b: Array, pieces: Pieces) -> ReluHull:
    none = (np.empty((0, found.rows.shape[1])), np.empty(0))
    return ReluHull(found.rows, found.rhs, none, found.vertices, False, A, b, pieces)


def _as_exact(values: Array) -> Array:
    if values.dtype == object:
        return values
    return np.array([Fraction(v) for v in values.ravel().tolist()], dtype=object).reshape(
        values.shape
    )
