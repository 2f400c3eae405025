"""Deep valid inequalities of the hulls of octahedral groups, for points that they cut off.

The nearest point of the hull of the lifted vertices gives the direction of a row, which is turned
until it is a facet; its right-hand side is then proved without them. One or two such rows do the
work of the hundreds of facets of a hull [kReLU §3.3].
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hullmark.errors import BadInput
from hullmark.relax.octahedra import Octahedra, octahedra
from hullmark.relax.project import nearest_points
from hullmark.relax.tilt import tilted
from hullmark.relax.weak import Proof, proven_offsets

Array = NDArray[Any]
Prover = Callable[[Octahedra, Array, Array, Array], Proof]

_CHUNK = 128
_SMALLEST = 1e-7
"""Violations below this, in units of the group's scale, are not worth a row."""


@dataclass(frozen=True, eq=False)
class JointRows:
    """Inequalities `x_coef · x + y_coef · f(x) <= rhs`, one per entry, of groups in a batch.

    `group` `(m,)` is the index of the group; `x` and `y` `(m, k)` are float64 values that float32
    holds, the largest magnitude of each row being 1; `rhs` `(m,)`. `members` and `multipliers`
    `(m, 2^k, t)` prove it: per sign pattern, in the order of
    `itertools.product((-1, 1), repeat=k)`, nonnegative multiples of rows of the octahedron (below
    `M = 3^k - 1`) or of the sign rows `-s_j x_j <= 0` (`M + j`); what they leave of the row is
    charged against the unit rows. Here `t` is `k + 1`; places left over have multiplier 0.

    Trust: each row holds in exact arithmetic wherever the bounds of its group hold as stored.
    """

    group: Array
    x: Array
    y: Array
    rhs: Array
    members: Array
    multipliers: Array

    def __len__(self) -> int:
        return len(self.group)

    def selected(self, rows: Array) -> "JointRows":
        """Those that a mask or indices choose."""
        return JointRows(
            self.group[rows],
            self.x[rows],
            self.y[rows],
            self.rhs[rows],
            self.members[rows],
            self.multipliers[rows],
        )


def separate(
    bounds: ArrayLike,
    x: Array,
    y: Array,
    negative: ArrayLike = 0.0,
    positive: ArrayLike = 1.0,
    facets: bool = True,
) -> JointRows:
    """For each group and point a deep row of `conv{(x, f(x))}` that cuts the point off.

    Arguments:
        bounds: sound upper bounds `(G, 3^k - 1)` of `octahedral_rows(k) @ x`, `k <= 3`.
        x, y: one point per group, both `(G, k)`.
        negative, positive: the slopes of the functions, one number, `(k,)` or `(G, k)`.
        facets: whether to turn each row until it is a facet. Its Euclidean distance from the point
            may be a little smaller then, but it tightens more: the first row of an objective
            closes 93% instead of 84% of the gap between triangles and hull at `k = 3`.

    Returns:
        At most one row a group; none where the point lies in the hull, nearly.

    Raises:
        BadInput, Unsupported: as `octahedra`, or if the points have another shape.

    Trust: see `JointRows`.
    """
    return separate_from(octahedra(bounds, negative, positive), x, y, facets)


def separate_from(groups: Octahedra, x: Array, y: Array, facets: bool = True) -> JointRows:
    """`separate` for groups whose vertices are known; call it again for other points."""
    points = np.concatenate([x, y], axis=1).astype(np.float64)
    if points.shape != (len(groups.bounds), 2 * groups.k):
        raise BadInput(f"{len(groups.bounds)} groups of {groups.k} and points {points.shape}")
    directions = _directions(groups, points / groups.scale[:, None], facets)
    found = np.flatnonzero(directions.any(axis=1))
    rows = rows_for(groups, found, directions[found])
    values = np.einsum("md,md->m", np.concatenate([rows.x, rows.y], axis=1), points[rows.group])
    return rows.selected(values - rows.rhs > _SMALLEST * groups.scale[rows.group])


def rows_for(
    groups: Octahedra, group: Array, directions: Array, prove: Prover = proven_offsets
) -> JointRows:
    """Rows with these directions `(m, 2k)` of groups `(m,)`, rounded to float32 and proved.

    Directions that are zero or not finite, and rows without a finite right-hand side, are left
    out.

    Arguments:
        prove: `batch.proved_together` is faster where there are many rows of each group.

    Trust: see `JointRows`; nothing is asked of the directions.
    """
    size = np.abs(directions).max(axis=1, initial=0.0)
    good = np.isfinite(size) & (size > 0)
    group, directions = group[good], directions[good] / size[good, None]
    # A coefficient that is noise would only cost precision and make a row denser.
    directions = np.where(np.abs(directions) < 2.0**-24, 0.0, directions)
    coefficients = directions.astype(np.float32).astype(np.float64)
    x, y = coefficients[:, : groups.k], coefficients[:, groups.k :]
    proof = prove(groups, group, x, y)
    rows = JointRows(group, x, y, proof.rhs, proof.members, proof.multipliers)
    return rows.selected(np.isfinite(proof.rhs))


def proven_rhs(
    bounds: ArrayLike,
    x_coef: Array,
    y_coef: Array,
    negative: ArrayLike = 0.0,
    positive: ArrayLike = 1.0,
) -> Proof:
    """The least right-hand side that weak duality proves, for one row in each group.

    Arguments:
        bounds, negative, positive: as in `separate`.
        x_coef, y_coef: coefficients `(G, k)` of `x` and `f(x)`.

    Returns:
        `(rhs, members, multipliers)`, see `Proof`.

    Trust: see `proven_offsets`.
    """
    groups = octahedra(bounds, negative, positive)
    return proven_offsets(groups, np.arange(len(groups.bounds)), x_coef, y_coef)


def _directions(groups: Octahedra, points: Array, facets: bool) -> Array:
    """From the hull of each group towards its point `(2k,)`, in the group's scale; 0 within."""
    lifted = groups.lifted()[groups.first]
    start = np.concatenate([[0], np.cumsum(groups.first)])[groups.start]
    counts = np.diff(start)
    directions = np.zeros_like(points)
    # Groups with about as many vertices share a padded block.
    wanted = np.flatnonzero((counts > 0) & np.isfinite(points).all(axis=1))
    wanted = wanted[np.argsort(counts[wanted], kind="stable")]
    for at in range(0, len(wanted), _CHUNK):
        some = wanted[at : at + _CHUNK]
        # A short cloud repeats its last vertex.
        place = np.minimum(np.arange(counts[some].max()), counts[some, None] - 1)
        clouds = lifted[start[some, None] + place] - points[some, None, :]
        nearest = nearest_points(clouds)
        far = np.abs(nearest).max(axis=1) > _SMALLEST / 4
        normals = -nearest[far]
        if facets:
            normals = tilted(clouds[far], normals, np.zeros_like(normals))
        directions[some[far]] = normals
    return directions
