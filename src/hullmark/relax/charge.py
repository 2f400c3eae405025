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

UNIT = 2.0**-53
TINY = float(np.finfo(np.float64).smallest_normal)
SAFETY = 1.02
"""Covers everything of second order: the rounding of the charges themselves."""


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

    @property
    def box(self) -> tuple[Array, Array]:
        """What the unit rows say: the lower and the upper ends, both `(n, k)`."""
        return -self.bounds[:, self.lower], self.bounds[:, self.upper]

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
    return charged(goals.box, rest, weight, spent(goals, members, multipliers))


def spent(goals: Goals, members: Array, multipliers: Array) -> Array:
    """The right-hand sides of the members times their multipliers, `(n, t)`; sign rows have 0."""
    signed = members >= len(goals.rows)
    offsets = np.take_along_axis(goals.bounds, np.where(signed, 0, members), axis=1)
    return multipliers * np.where(signed | (multipliers == 0), 0.0, offsets)


def charged(box: tuple[Array, Array], rest: Array, weight: Array, terms: Array) -> Array:
    """At least `sum(terms) + rest · x` for `x` in a box, if `rest` came from magnitudes `weight`.

    Arguments:
        box: lower and upper ends, both broadcast against `rest`.
        rest: the coefficients `(..., k)`: a function minus a sum of at most `t` products.
        weight: for each coefficient the sum of the magnitudes behind it, or more; broadcast.
        terms: products `(..., t)`, one rounding each.

    Returns:
        Shape `(...)`; infinite where a number overflowed.

    Trust: rounded up. With `u` the unit roundoff, a sum of `n` products is off by at most
    `n u / (1 - n u)` times the sum of magnitudes [Higham02 §3.1]; here `n` is at most
    `2 (k + t) + 8`.
    """
    lower, upper = box
    gamma = (2 * (rest.shape[-1] + terms.shape[-1]) + 8) * UNIT * SAFETY
    reach = np.maximum(np.abs(lower), np.abs(upper))
    left = np.where(rest > 0, rest * upper, rest * lower)
    sizes = _total(np.abs(terms)) + _total(np.abs(left))
    error = _total((gamma * weight + TINY) * reach + TINY)
    bound = _total(terms) + _total(left) + (gamma * sizes + error) * SAFETY
    bound = np.nextafter(bound, np.inf)
    return np.where(np.isfinite(bound), bound, np.inf)


def _total(values: Array) -> Array:
    """The sum over the last axis, which is short: NumPy's own is slow there."""
    total = values[..., 0]
    for j in range(1, values.shape[-1]):
        total = total + values[..., j]
    return total
