"""Separation from the hulls of larger groups, `k` of 4 to 6, by one linear program a group.

A row `a · x + c · y <= b` holds on the hull if and only if it holds where `x` has given signs, for
every sign pattern `s`, and there it is linear with normal `g_s = a + c * slopes_s`. By duality that
means multipliers `m_s >= 0` on the group's rows with `s * (g_s - m_s R) <= 0` and `m_s · d <= b`
[Balas79]. Maximising `a · x + c · y - b` at the point over all rows with coefficients in [-1, 1]
finds the deepest one; its right-hand side is then proved without the solver.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hullmark.errors import BadInput, Unsupported
from hullmark.lp.highs import solve
from hullmark.lp.program import Program, Sparse
from hullmark.relax.charge import Goals, bound_by
from hullmark.relax.separate import JointRows

Array = NDArray[Any]

LARGEST_GROUP = 6
"""Each further coordinate doubles the number of sign patterns."""

_SMALLEST = 1e-6
"""Violations below this, in units of the group's scale, are not worth a row."""


@dataclass(frozen=True, eq=False)
class _Group:
    """One group: rows `(M, k)` and `bounds` `(M,)`, and where its units are among the rows.

    `slopes` `(2, k)` left and right of zero; `signs` `(p, k)` are the sign patterns, among which
    coordinates with equal slopes do not count.
    """

    rows: Array
    bounds: Array
    upper: Array
    lower: Array
    slopes: Array
    signs: Array

    def goals(self, direction: Array) -> Goals:
        """The linear function of the row `(2k,)` on each sign pattern."""
        x, y = np.split(direction, 2)
        products = y * np.where(self.signs > 0, self.slopes[1], self.slopes[0])
        return Goals(
            self.rows,
            self.upper,
            self.lower,
            np.broadcast_to(self.bounds, (len(self.signs), len(self.bounds))),
            self.signs,
            x + products,
            np.abs(x) + np.abs(products),
        )


@dataclass(frozen=True, eq=False)
class _Found:
    """A row of a group, and for each of its sign patterns the members and multipliers."""

    group: int
    direction: Array
    rhs: float
    members: Array
    multipliers: Array
    signs: Array


def separate_deep(
    rows: Array,
    bounds: Array,
    points: Array,
    slopes: tuple[ArrayLike, ArrayLike] = (0.0, 1.0),
    seconds: float = np.inf,
) -> JointRows:
    """For each group and point the row that cuts the point off deepest, about.

    Depth is `(a · x + c · y - b) / max(|a|, |c|)`, the distance in the 1-norm.

    Arguments:
        rows: the rows that all groups share, `(M, k)` with entries in {-1, 0, 1}, the unit vectors
            and their opposites among them; all of `octahedral_rows(k)`, or those with few entries.
        bounds: sound upper bounds `(G, M)` of `rows @ x`; infinite ones are as if absent, but for a
            group whose coordinates are not all bounded nothing is found.
        points: `x` and `y` of each group, `(G, 2k)`.
        slopes: left and right of zero, each one number, `(k,)` or `(G, k)`.
        seconds: the time limit of each group's program.

    Returns:
        At most one row a group. Its `members` `(m, 2^k, t)` count in `rows`.

    Raises:
        BadInput: if the shapes do not fit or a unit row is missing.
        Unsupported: if `k > LARGEST_GROUP`.

    Trust: see `JointRows`; what the solver says is only a guess. That there is no row where none
    is returned is not proved.
    """
    upper, lower = _unit_rows(rows)
    k = rows.shape[1]
    if bounds.shape != (len(points), len(rows)) or points.shape[1] != 2 * k:
        raise BadInput(f"{len(rows)} rows, bounds {bounds.shape} and points {points.shape}")
    shape = (len(bounds), k)
    sides = np.stack([np.broadcast_to(np.asarray(s, np.float64), shape) for s in slopes], axis=1)
    units = np.concatenate([upper, lower])
    usable = np.isfinite(bounds[:, units]).all(axis=1) & (bounds > -np.inf).all(axis=1)
    usable &= np.isfinite(points).all(axis=1)
    found: list[_Found] = []
    for index in np.flatnonzero(usable).tolist():
        kinked = sides[index, 0] != sides[index, 1]
        signs = list(product(*[(-1, 1) if both else (1,) for both in kinked]))
        group = _Group(rows, bounds[index], upper, lower, sides[index], np.array(signs, np.float64))
        row = _separate(group, points[index], seconds)
        if row is not None:
            found.append(_Found(index, *row))
    return _joined(found, k)


def _unit_rows(rows: Array) -> tuple[Array, Array]:
    """Where the unit vectors and their opposites are among the rows."""
    k = rows.shape[1]
    if k > LARGEST_GROUP:
        raise Unsupported(f"groups of {k} have {2**k} sign patterns; at most {LARGEST_GROUP} here")
    found = [np.flatnonzero((rows == unit).all(axis=1)) for unit in (*np.eye(k), *-np.eye(k))]
    if not all(len(where) for where in found):
        raise BadInput("the rows bound no side of some coordinate")
    first = np.array([where[0] for where in found])
    return first[:k], first[k:]


def _separate(
    group: _Group, point: Array, seconds: float
) -> tuple[Array, float, Array, Array, Array] | None:
    """A deep row with its right-hand side, members and multipliers; None if none is worth it."""
    known = np.flatnonzero(np.isfinite(group.bounds))
    largest = float(np.abs(group.bounds[known]).max())
    scale = float(np.ldexp(1.0, np.frexp(largest)[1].clip(-1000, 1000)))
    solution = solve(_program(group, known, point / scale, scale), seconds)
    width = len(point)
    if solution is None or not np.isfinite(solution.point).all():
        return None
    size = np.abs(solution.point[:width]).max()
    if not size > _SMALLEST:
        return None
    direction = solution.point[:width] / size
    direction = np.where(np.abs(direction) < 2.0**-24, 0.0, direction)
    direction = direction.astype(np.float32).astype(np.float64)
    multipliers = np.maximum(solution.point[width + 1 :].reshape(len(group.signs), -1) / size, 0)
    goals = group.goals(direction)
    members, multipliers = _members(group, goals, known, multipliers)
    rhs = float(bound_by(goals, members, multipliers).max())
    if not float(direction @ point) - rhs > _SMALLEST * scale:
        return None
    return direction, rhs, members, multipliers, group.signs


def _program(group: _Group, known: Array, point: Array, scale: float) -> Program:
    """Minimise `b - a · x - c · y` over the valid rows with coefficients in [-1, 1].

    Columns: `a`, `c`, `b`, then for each sign pattern the multipliers of the known rows. Rows: for
    each sign pattern one for each coordinate, and `m · d <= b`.
    """
    signs, k, count = group.signs, len(point) // 2, len(known)
    patterns = len(signs)
    kinked = group.slopes[0] != group.slopes[1]
    slopes = np.where(signs > 0, group.slopes[1], group.slopes[0])
    block = np.arange(patterns)[:, None]
    at = block * (k + 1) + np.arange(k)
    last = np.arange(patterns) * (k + 1) + k
    member, axis = np.nonzero(group.rows[known])
    entries = group.rows[known][member, axis]
    column = 2 * k + 1 + block * count
    parts = [
        (at, np.arange(k) + 0 * block, signs),
        (at, np.arange(k) + k + 0 * block, signs * slopes),
        (block * (k + 1) + axis, column + member, -signs[:, axis] * entries),
        (
            last[:, None] + 0 * known,
            column + np.arange(count),
            group.bounds[known] / scale + 0 * block,
        ),
        (last, np.full(patterns, 2 * k), np.full(patterns, -1.0)),
    ]
    row, columns = (np.concatenate([p[i].ravel() for p in parts]).astype(np.intp) for i in (0, 1))
    values = np.concatenate([p[2].ravel() for p in parts]).astype(np.float64)
    height, width = patterns * (k + 1), 2 * k + 1 + patterns * count
    floor = np.full(height, -np.inf)
    # Where the slopes are equal there is no sign row.
    floor.reshape(patterns, k + 1)[:, :k][:, ~kinked] = 0.0
    lower, upper = np.zeros(width), np.full(width, np.inf)
    lower[: 2 * k], upper[: 2 * k], lower[2 * k] = -1.0, 1.0, -np.inf
    cost = np.zeros(width)
    cost[: 2 * k], cost[2 * k] = -point, 1.0
    matrix = Sparse.placed(row, columns, values, (height, width))
    return Program(cost, matrix, floor, np.zeros(height), lower, upper)


def _members(group: _Group, goals: Goals, known: Array, multipliers: Array) -> tuple[Array, Array]:
    """The rows that the multipliers `(p, M)` use, and the sign rows that take what is left."""
    k = goals.goal.shape[1]
    kinked = group.slopes[0] != group.slopes[1]
    width = int((multipliers > 0).sum(axis=1).max(initial=0))
    chosen = np.argsort(-multipliers, axis=1)[:, :width]
    factors = np.take_along_axis(multipliers, chosen, axis=1)
    left = np.einsum("pt,ptk->pk", factors, group.rows[known[chosen]]) - goals.goal
    signed = np.where(kinked, np.maximum(left * goals.signs, 0.0), 0.0)
    axes = np.broadcast_to(len(group.rows) + np.arange(k), signed.shape)
    return (
        np.concatenate([known[chosen], axes], axis=1),
        np.concatenate([factors, signed], axis=1),
    )


def _joined(found: list[_Found], k: int) -> JointRows:
    """The rows with members and multipliers for all `2^k` sign patterns."""
    width = max((row.members.shape[1] for row in found), default=0)
    members = np.zeros((len(found), 2**k, width), dtype=np.intp)
    multipliers = np.zeros((len(found), 2**k, width))
    patterns = np.array(list(product((-1, 1), repeat=k)))
    for index, row in enumerate(found):
        fits = (patterns[:, None] == row.signs) | ~(row.signs == -1).any(axis=0)
        source = fits.all(axis=2).argmax(axis=1)
        members[index, :, : row.members.shape[1]] = row.members[source]
        multipliers[index, :, : row.members.shape[1]] = row.multipliers[source]
    both = np.array([row.direction for row in found]).reshape(len(found), 2 * k)
    return JointRows(
        np.array([row.group for row in found], dtype=np.intp),
        both[:, :k],
        both[:, k:],
        np.array([row.rhs for row in found]),
        members,
        multipliers,
    )
