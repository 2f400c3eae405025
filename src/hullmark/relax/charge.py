"""Upper bounds of linear functions by given multipliers, rounded up.

On `{x : N x <= d, -s_j x_j <= 0}`, for any multipliers `m >= 0` on its rows, a linear `g · x` is at
most `m · d + r · x`, where `r` is what the multipliers leave of `g`; and `r · x` is bounded by the
unit rows among `N`. So multipliers from floating point prove a bound all the same: what they
leave over, and all rounding, is charged.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_UNIT = 2.0**-53
_TINY = float(np.finfo(np.float64).smallest_normal)
# Covers everything of second order: the rounding of the charges themselves.
_SAFETY = 1.02


@dataclass(frozen=True, eq=False)
class Goals:
    """Linear functions on parts of groups that share their rows, one per entry.

    `rows` `(M, k)` with entries in {-1, 0, 1}, of which `upper[j]` is `x_j` and `lower[j]` is
    `-x_j`; `bounds` `(n, M)` and `signs` `(n, k)` say which part of which group; `goal` `(n, k)` is
    the function, and `weight` `(n, k)` at least the magnitudes that it was computed from, by at
    most two roundings.
    """

    rows: Array
    upper: Array
    lower: Array
    bounds: Array
    signs: Array
    goal: Array
    weight: Array

    def taken(self, index: Array) -> "Goals":
        """Those with these indices."""
        return Goals(
            self.rows,
            self.upper,
            self.lower,
            self.bounds[index],
            self.signs[index],
            self.goal[index],
            self.weight[index],
        )


def bound_by(goals: Goals, members: Array, multipliers: Array) -> Array:
    """Upper bounds `(n,)` of the goals by multipliers of the members, both `(n, t)`.

    Arguments:
        members: rows, or `M + j` for the sign row `-s_j x_j <= 0`.
        multipliers: not negative.

    Returns:
        Infinity where nothing is proved.

    Trust: holds in exact arithmetic for the numbers as stored, whatever the multipliers.
    """
    count, k = goals.rows.shape
    axis = members - count
    signed = axis >= 0
    signs = np.take_along_axis(goals.signs, np.maximum(axis, 0), axis=1)
    normals = np.concatenate([goals.rows, np.eye(k)])[members]
    factors = multipliers * np.where(signed, -signs, 1.0)
    rest = goals.goal - np.einsum("ni,nij->nj", factors, normals)
    weight = goals.weight + np.einsum("ni,nij->nj", multipliers, np.abs(normals))
    return charged(goals, rest, weight, spent(goals, members, multipliers))


def spent(goals: Goals, members: Array, multipliers: Array) -> Array:
    """The right-hand sides of the members times their multipliers, `(n, t)`; sign rows have 0."""
    signed = members >= len(goals.rows)
    offsets = np.take_along_axis(goals.bounds, np.where(signed, 0, members), axis=1)
    return multipliers * np.where(signed | (multipliers == 0), 0.0, offsets)


def charged(goals: Goals, rest: Array, weight: Array, terms: Array) -> Array:
    """At least `sum(terms) + rest · x` on the box, if `rest` came from numbers of size `weight`.

    With `u` the unit roundoff, sums of `n` products are off by at most `n u / (1 - n u)` times
    the sum of magnitudes [Higham02 §3.1]. None here has more than `2 (k + t) + 8` roundings, `t`
    the number of terms, and `rest` is the goal minus a sum of `t` products at most.
    """
    upper, lower = goals.bounds[:, goals.upper], -goals.bounds[:, goals.lower]
    gamma = (2 * (rest.shape[1] + terms.shape[1]) + 8) * _UNIT * _SAFETY
    reach = np.maximum(np.abs(upper), np.abs(lower))
    left = np.where(rest > 0, rest * upper, rest * lower)
    total = terms.sum(axis=1) + left.sum(axis=1)
    sizes = np.abs(terms).sum(axis=1) + (np.abs(rest) * reach).sum(axis=1)
    error = (gamma * weight + _TINY) * reach
    charge = (gamma * sizes + error.sum(axis=1) + _TINY) * _SAFETY
    bound = np.nextafter(total + charge, np.inf)
    return np.where(np.isfinite(bound), bound, np.inf)
