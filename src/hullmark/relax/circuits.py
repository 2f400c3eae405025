"""Why a part of an octahedron is empty: positive dependencies between rows and sign rows.

By Farkas' lemma a part is empty if and only if some rows with normals `N_i` have weights
`w_i > 0` with `Σ w_i N_i = 0` and `Σ w_i d_i < 0`, and `k + 1` rows are enough. The normals of all
octahedral groups of one size are the same, so all such dependencies are listed once.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hullmark.relax.octahedra import octahedral_rows

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Circuits:
    """Minimal positive dependencies of the rows on one sign pattern that use a sign row.

    `members` `(c, k + 1)`: octahedral rows, or `M + j` for the sign row `-s_j x_j <= 0`; `weights`
    `(c, k + 1)`: nonnegative integers; 0 in places left over. `sums` `(M, c)` takes bounds to the
    weighted sums of right-hand sides, each divided by the sum of its weights. `planes` `(c, k)`:
    which sign rows are used.
    """

    members: Array
    weights: Array
    sums: Array
    planes: Array


@lru_cache(maxsize=32)
def circuits(signs: tuple[int, ...]) -> Circuits:
    """All dependencies on the part with these signs.

    Trust: exact.
    """
    k = len(signs)
    rows = octahedral_rows(k).astype(np.intp)
    count = len(rows)
    # Reflecting coordinates permutes the rows.
    reflected = (rows * np.array(signs) + 1) @ 3 ** np.arange(k)[::-1]
    reflected -= reflected > count // 2
    image = np.concatenate([reflected, count + np.arange(k)])
    members, weights = _positive_circuits(k)
    members = np.where(weights > 0, image[members], 0)
    total = weights.sum(axis=1)
    sums = np.zeros((count + k, len(members)))
    np.add.at(sums, (members, np.arange(len(members))[:, None]), weights / total[:, None])
    planes = sums[count:].T > 0
    return Circuits(members, weights, np.ascontiguousarray(sums[:count]), planes)


@lru_cache(maxsize=4)
def _positive_circuits(k: int) -> tuple[Array, Array]:
    """Members and weights for the part where all coordinates are nonnegative."""
    rows = octahedral_rows(k).astype(np.float64)
    normals = np.concatenate([rows, -np.eye(k)])
    members = np.array(list(combinations(range(len(normals)), k + 1)), dtype=np.intp)
    # The dependency between k + 1 vectors, by Cramer's rule; the determinants are integers.
    minors = [np.linalg.det(normals[np.delete(members, i, axis=1)]) for i in range(k + 1)]
    signs = (-1) ** np.arange(k + 1)
    weights = np.round(np.stack(minors, axis=1)).astype(np.intp) * signs
    weights *= np.where((weights < 0).any(axis=1), -1, 1)[:, None]
    uses_sign = ((members >= len(rows)) & (weights > 0)).any(axis=1)
    good = (weights >= 0).all(axis=1) & uses_sign
    members, weights = members[good], weights[good]
    weights //= np.gcd.reduce(weights, axis=1)[:, None]
    members = np.where(weights > 0, members, 0)
    both = np.unique(np.concatenate([members, weights], axis=1), axis=0)
    order = np.argsort(both[:, k + 1 :] == 0, axis=1, kind="stable")
    members = np.take_along_axis(both[:, : k + 1], order, axis=1)
    weights = np.take_along_axis(both[:, k + 1 :], order, axis=1)
    both = np.unique(np.concatenate([members, weights], axis=1), axis=0)
    return both[:, : k + 1], both[:, k + 1 :]
