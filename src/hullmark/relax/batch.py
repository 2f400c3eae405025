"""Many rows for each of many octahedral groups, proved together.

The same weak duality as in `weak`, arranged for dozens of rows a group: the vertices of each sign
pattern are found once for bounds moved outwards by random amounts of about 1e-7. In the moved group
every vertex has one basis, and the basis of the best vertex gives multipliers that are not
negative, whatever degenerate the group itself is. They are then used with the bounds as given.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hullmark.relax.charge import charged
from hullmark.relax.octahedra import Octahedra, octahedra, template
from hullmark.relax.weak import Proof, proven_offsets, sign_patterns

Array = NDArray[Any]

_MOVED = 1e-7
_LOOSE = 1e-9
_ENTRIES = 8192


@dataclass(frozen=True, eq=False)
class _Tables:
    """For basis `b` and sign pattern `s`, at `b * 2^k + s`: what gives multipliers and remainders.

    `solve` `(n, k, k)`: the multipliers of a goal `g` are `g @ solve`; `normals` `(n, k, k)`: the
    rows that they multiply. On a hyperplane that is the sign row of the pattern.
    """

    solve: Array
    normals: Array


@dataclass(frozen=True, eq=False)
class _Corners:
    """Vertices of the moved groups by pattern, padded: `(G, 2^k, k, n)`, in units of the scale.

    `basis` `(G, 2^k, n)`; `empty` `(G, 2^k)` says that none was found. `row` and `offset`
    `(G, 2^k)` are the octahedral row that shows best that the pattern is impossible, if the
    offset is negative.
    """

    points: Array
    basis: Array
    empty: Array
    row: Array
    offset: Array


@dataclass(frozen=True, eq=False)
class _Block:
    """Rows of some groups, padded to `R` a group: coefficients `(G, R, k)`, groups `(G,)`."""

    index: Array
    x: Array
    y: Array


@dataclass(frozen=True, eq=False)
class _Found:
    """Per pattern and row of a block: bounds `(G, 2^k, R)`, members and multipliers."""

    bound: Array
    members: Array
    multipliers: Array
    loose: Array


def proved_together(groups: Octahedra, group: Array, x_coef: Array, y_coef: Array) -> Proof:
    """`weak.proven_offsets` for many rows of each group, several times as fast.

    Arguments:
        group: the group of each row, `(m,)`.
        x_coef, y_coef: finite coefficients `(m, k)` of `x` and of `f(x)`, largest about 1.

    Trust: each right-hand side holds in exact arithmetic for all `x` within the stored bounds.
    """
    k, patterns = groups.k, 2**groups.k
    rhs = np.full(len(group), np.inf)
    members = np.zeros((len(group), patterns, k + 1), dtype=np.intp)
    multipliers = np.zeros((len(group), patterns, k + 1))
    loose = np.zeros(len(group), dtype=np.bool_)
    rows = np.flatnonzero(groups.usable[group])
    rows = rows[np.argsort(group[rows], kind="stable")]
    for some, place, real in _blocks(group[rows], patterns):
        at = rows[place]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            found = _proved(groups, _Block(some, x_coef[at], y_coef[at]))
        kept = at[real]
        rhs[kept] = found.bound.max(axis=1)[real]
        members[kept] = found.members.swapaxes(1, 2)[real]
        multipliers[kept] = found.multipliers.swapaxes(1, 2)[real]
        loose[kept] = found.loose[real]
    slow = np.flatnonzero(loose)
    if len(slow):
        again = proven_offsets(groups, group[slow], x_coef[slow], y_coef[slow])
        better = ~(again.rhs > rhs[slow])
        for whole, part in zip((rhs, members, multipliers), again, strict=True):
            whole[slow[better]] = part[better]
    return Proof(rhs, members, multipliers)


def _blocks(group: Array, patterns: int) -> list[tuple[Array, Array, Array]]:
    """Groups with about as many rows: their indices, their rows `(G, R)`, and which count."""
    names, start, counts = np.unique(group, return_index=True, return_counts=True)
    order = np.argsort(counts, kind="stable")
    blocks: list[tuple[Array, Array, Array]] = []
    at = 0
    while at < len(order):
        step = max(1, _ENTRIES // (patterns * int(counts[order[at]])))
        some = order[at : at + step]
        place = np.arange(counts[some].max())
        rows = start[some, None] + np.minimum(place, counts[some, None] - 1)
        blocks.append((names[some], rows, place < counts[some, None]))
        at += step
    return blocks


@lru_cache(maxsize=4)
def _tables(k: int) -> _Tables:
    shape, signs = template(k), sign_patterns(k)
    count = len(shape.rows)
    plane = shape.members >= count
    axis = np.where(plane, shape.members - count, 0)
    # The sign row of x_j is the normal of its hyperplane times -s_j.
    turn = np.where(plane[:, None, :], -signs[:, axis].swapaxes(0, 1), 1.0)
    normals = np.concatenate([shape.rows, np.eye(k)])[shape.members]
    solve = shape.inverses[:, None] * turn[:, :, None, :]
    rows = normals[:, None] * turn[:, :, :, None]
    return _Tables(solve.reshape(-1, k, k), rows.reshape(-1, k, k))


def _corners(groups: Octahedra) -> _Corners:
    """The vertices of the groups with bounds moved outwards."""
    k, signs = groups.k, sign_patterns(groups.k)
    shape = template(k)
    moves = np.random.default_rng(0).uniform(_MOVED / 2, _MOVED, len(shape.rows))
    moved = octahedra(
        groups.bounds + moves * groups.scale[:, None], groups.negative, groups.positive
    )
    points = moved.points * (moved.scale / groups.scale)[moved.group, None]
    equal = np.asarray(groups.negative == groups.positive)
    passing = equal[moved.group]
    high: Array = (points >= 0) | passing
    low: Array = (points <= 0) | passing
    inside = np.ones((len(signs), len(points)), dtype=np.bool_)
    for j in range(k):
        inside &= np.where(signs[:, j, None] > 0, high[:, j], low[:, j])
    pattern, vertex = np.nonzero(inside)
    cell = moved.group[vertex] * len(signs) + pattern
    order = np.argsort(cell, kind="stable")
    cell, vertex = cell[order], vertex[order]
    counts = np.bincount(cell, minlength=len(groups.bounds) * len(signs))
    start = np.concatenate([[0], np.cumsum(counts)[:-1]])
    place = np.minimum(np.arange(counts.max(initial=1)), np.maximum(counts, 1)[:, None] - 1)
    padded = vertex[np.minimum(start[:, None] + place, len(vertex) - 1)]
    full = (len(groups.bounds), len(signs))
    columns = points[padded].reshape(*full, -1, k).swapaxes(2, 3)
    basis = moved.basis[padded].reshape(*full, -1)
    # A row w · x <= d < 0 with w_j in {0, s_j} and the sign rows of its coordinates add to 0 <= d.
    fits = np.all(shape.rows[None] * signs[:, None] >= 0, axis=2)
    blocked = np.any(np.abs(shape.rows)[None] * equal[:, None] > 0, axis=2)
    offsets = np.where(fits[None] & ~blocked[:, None], groups.bounds[:, None], np.inf)
    row = offsets.argmin(axis=2)
    least = np.take_along_axis(offsets, row[:, :, None], axis=2)[:, :, 0]
    empty = (counts == 0).reshape(full)
    return _Corners(np.ascontiguousarray(columns), basis, empty, row, least)


def _proved(groups: Octahedra, block: _Block) -> _Found:
    """The bound of every row on every pattern."""
    some = groups.selected(block.index)
    k, signs = some.k, sign_patterns(some.k)
    corners, tables, shape = _corners(some), _tables(k), template(k)
    slopes = np.where(signs > 0, some.positive[:, None], some.negative[:, None])[:, :, None]
    products = block.y[:, None] * slopes
    goal = block.x[:, None] + products
    weight = np.abs(block.x)[:, None] + np.abs(products)
    heights = goal @ corners.points
    best = heights.argmax(axis=3)
    height = np.take_along_axis(heights, best[..., None], axis=3)[..., 0]
    basis = np.take_along_axis(corners.basis, best, axis=2)
    entry = basis * len(signs) + np.arange(len(signs))[:, None]
    factors = np.maximum(np.einsum("gprj,gprji->gpri", goal, tables.solve[entry]), 0.0)
    factors = np.where(corners.empty[:, :, None, None], 0.0, factors)
    rest = goal - np.einsum("gpri,gprij->gprj", factors, tables.normals[entry])
    chosen = shape.members[basis]
    wide = np.concatenate([some.bounds, np.zeros((len(some.bounds), k))], axis=1)
    offsets = wide[np.arange(len(wide))[:, None, None, None], chosen]
    terms = np.where(factors > 0, factors * offsets, 0.0)
    members = np.zeros((*chosen.shape[:3], k + 1), dtype=np.intp)
    members[..., :k] = chosen
    multipliers = np.zeros(members.shape)
    multipliers[..., :k] = factors
    bound = charged(_box(some), rest, weight + factors.sum(axis=3, keepdims=True), terms)
    empty = corners.empty[:, :, None]
    if empty.any():
        bound = _excluded(corners, some, (goal, weight), bound, (members, multipliers))
    highest = np.where(empty, -np.inf, height).max(axis=1)
    scale = some.scale[:, None]
    loose = ~(bound.max(axis=1) - highest * scale <= _LOOSE * scale)
    return _Found(bound, members, multipliers, loose)


def _excluded(
    corners: _Corners,
    groups: Octahedra,
    goals: tuple[Array, Array],
    bound: Array,
    proof: tuple[Array, Array],
) -> Array:
    """The bounds with those of empty patterns pushed below the others, where a row shows it.

    `goals` are linear functions with the magnitudes behind them. Fills in the members and
    multipliers of the empty patterns. Any multiple of a contradiction `0 <= d < 0` may be added
    to a bound over the box.
    """
    k, count = groups.k, groups.bounds.shape[1]
    goal, weight = goals
    terms = np.zeros(goal.shape)
    box = _box(groups)
    plain = charged(box, goal, weight, terms)
    target = np.where(corners.empty[:, :, None], -np.inf, bound).max(axis=1, keepdims=True)
    offset = np.where(corners.offset < 0, corners.offset, 0.0)[:, :, None]
    factor = np.maximum(2.0 * (plain - target), 0.0) / -offset
    factor = np.where(np.isfinite(factor), factor, 0.0)
    terms[..., 0] = factor * offset
    pushed = charged(box, goal, weight, terms)
    used = (template(k).rows != 0)[corners.row]
    g, p = np.nonzero(corners.empty)
    members, multipliers = proof
    members[g, p, :, 0] = corners.row[g, p, None]
    members[g, p, :, 1:] = np.where(used, count + np.arange(k), 0)[g, p, None]
    multipliers[g, p, :, 0] = factor[g, p]
    multipliers[g, p, :, 1:] = np.where(used[g, p, None], factor[g, p, :, None], 0.0)
    return np.where(corners.empty[:, :, None], pushed, bound)


def _box(groups: Octahedra) -> tuple[Array, Array]:
    """The unit bounds of groups, both `(G, 1, 1, k)`."""
    shape = template(groups.k)
    lower = -groups.bounds[:, None, None, shape.lower]
    return lower, groups.bounds[:, None, None, shape.upper]
