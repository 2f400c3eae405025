"""Two-piece functions: `f(x) = negative · x` for `x <= 0`, `positive · x` for `x >= 0`."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hullmark.errors import BadInput
from hullmark.relax.cone import Cone, cut
from hullmark.relax.exact import as_fraction, as_fractions
from hullmark.relax.polytope import in_order, points_of

Array = NDArray[Any]


@dataclass(frozen=True)
class Pieces:
    """One two-piece function per coordinate: its slopes left and right of zero.

    ReLU is (0, 1), leaky ReLU (1/100, 1), the absolute value (-1, 1). A coordinate whose slopes
    are equal passes through, scaled.
    """

    negative: tuple[Fraction, ...]
    positive: tuple[Fraction, ...]

    @property
    def kinked(self) -> tuple[int, ...]:
        """The coordinates whose two slopes differ."""
        pairs = enumerate(zip(self.negative, self.positive, strict=True))
        return tuple(index for index, (left, right) in pairs if left != right)

    def lifted(self, points: Array) -> Array:
        """The points `(n, k)` of fractions with their values, `(n, 2k)`."""
        left = np.array(self.negative, dtype=object)
        right = np.array(self.positive, dtype=object)
        values = np.where(points > 0, points * right, points * left)
        return np.concatenate([points, values], axis=1)


def read_pieces(negative: ArrayLike, positive: ArrayLike, width: int) -> Pieces:
    """The functions with these slopes, each one number for all coordinates or one for each.

    Raises:
        BadInput: if there are neither one nor `width` slopes, or one is no finite number.
    """
    return Pieces(_slopes(negative, "negative", width), _slopes(positive, "positive", width))


def _slopes(values: ArrayLike, name: str, width: int) -> tuple[Fraction, ...]:
    if np.ndim(values) == 0:
        return (as_fraction(np.asarray(values, dtype=object).item(), name),) * width
    slopes = as_fractions(values, name, 1)
    if len(slopes) != width:
        raise BadInput(f"{name} has {len(slopes)} slopes for {width} coordinates")
    return tuple(slopes)


def lifted_vertices(cone: Cone, pieces: Pieces) -> Array:
    """The vertices `(n, 2k)` of `conv{(x, f(x))}` over the polytope that the cone homogenises.

    They are the vertices of the parts on which every `f_j` is linear, with their values: a point
    `(v, f(v))` between others of the graph has all of them in every part that contains `v`,
    because no `f_j` is linear across its kink.

    Trust: exact, sorted, and each of them a vertex.
    """
    width = cone.rays.shape[1] - 1
    parts = [cone]
    for coordinate in pieces.kinked:
        normal = np.zeros(1 + width, dtype=object)
        normal[1 + coordinate] = 1
        halves = [cut(part, side) for part in parts for side in (normal, -normal)]
        parts = [half for half in halves if len(half.rays)]
    points = [row for part in parts for row in points_of(part).tolist()]
    return pieces.lifted(in_order(points, width))
