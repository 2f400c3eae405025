"""Batches of octahedral groups: the vertices of the parts on which all functions are linear.

An octahedral group of size `k` is `{x : R x <= d}` where the rows of `R` are all nonzero vectors of
`{-1, 0, 1}^k` [kReLU §4.1]. All groups share `R`, so every choice of `k` rows or coordinate
hyperplanes that meet in one point is inverted once, and the vertices of any number of groups are
products of those inverses with their right-hand sides.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hullmark.errors import BadInput, Unsupported

Array = NDArray[Any]

LARGEST_GROUP = 3
"""Larger groups have too many bases to enumerate: 1.9 million at `k = 4`."""

TOLERANCE = 1e-11
"""How far outside a row a basic point may lie, in a group whose largest bound is 1/2 to 1."""

# Groups and bases at a time; their temporaries stay in the processor's cache.
_CHUNK = 32
_BLOCK = 512
_FINE = 2.0**33


@dataclass(frozen=True, eq=False)
class Template:
    """What all octahedral groups of one size have in common.

    `rows` `(M, k)` float64, `M = 3^k - 1`; `members` `(B, k)`: the rows of each basis, `M + j` for
    the hyperplane `x_j = 0`; `planes` `(B, k)`: whether a basis uses that hyperplane; `inverses`
    `(B, k, k)` of the matrices of normals, so that the point of a basis is `inverse @ offsets`;
    `upper` and `lower` `(k,)`: the index of the row `x_j` and of the row `-x_j`.
    """

    rows: Array
    members: Array
    planes: Array
    inverses: Array
    upper: Array
    lower: Array


@dataclass(frozen=True, eq=False)
class Octahedra:
    """A batch of `G` octahedral groups with two-piece functions, and guesses of their vertices.

    `bounds` `(G, M)`, `negative` and `positive` `(G, k)` float64 are as given; `usable` `(G,)` says
    which groups have finite bounds of every coordinate. The vertices are sorted by group: those
    of group `g` are `start[g]` to `start[g + 1]`. `group` and `basis` `(n,)` name the group and the
    basis of the template, and `points` `(n, k)` the vertex in units of `scale[g]`, a power of two;
    `first` `(n,)` is False at a point that an earlier basis of the group already gave.

    Trust: the points are floats and may be wrong or incomplete; nothing proved rests on them.
    """

    bounds: Array
    negative: Array
    positive: Array
    usable: Array
    scale: Array
    start: Array
    group: Array
    basis: Array
    points: Array
    first: Array

    @property
    def k(self) -> int:
        """The size of each group."""
        return self.negative.shape[1]

    def lifted(self) -> Array:
        """The vertices with their values `(n, 2k)`, in units of the groups' scales."""
        slopes = np.where(self.points > 0, self.positive[self.group], self.negative[self.group])
        return np.concatenate([self.points, slopes * self.points], axis=1)

    def selected(self, groups: Array) -> "Octahedra":
        """The groups with these indices `(m,)`, in this order; an index may come twice."""
        counts = np.diff(self.start)[groups]
        start = np.concatenate([[0], np.cumsum(counts)])
        group = np.repeat(np.arange(len(groups)), counts)
        source = np.arange(start[-1]) + np.repeat(self.start[groups] - start[:-1], counts)
        return Octahedra(
            self.bounds[groups],
            self.negative[groups],
            self.positive[groups],
            self.usable[groups],
            self.scale[groups],
            start,
            group,
            self.basis[source],
            self.points[source],
            self.first[source],
        )


@lru_cache(maxsize=8)
def octahedral_rows(k: int) -> Array:
    """All nonzero vectors of `{-1, 0, 1}^k` in lexicographic order [kReLU §4.1].

    Returns:
        Shape `(3^k - 1, k)`, int8, not writeable. Row `i` and row `M - 1 - i` are opposite.

    Raises:
        BadInput: if `k < 1`.
    """
    if k < 1:
        raise BadInput(f"a group has at least one coordinate, not {k}")
    rows = np.array([row for row in product((-1, 0, 1), repeat=k) if any(row)], dtype=np.int8)
    rows.flags.writeable = False
    return rows


@lru_cache(maxsize=4)
def template(k: int) -> Template:
    """The bases of all octahedral groups of size `k`, computed once.

    Raises:
        Unsupported: if `k > LARGEST_GROUP`.
    """
    if k > LARGEST_GROUP:
        raise Unsupported(f"groups of {k} have too many bases; at most {LARGEST_GROUP} here")
    rows = octahedral_rows(k).astype(np.float64)
    count = len(rows)
    normals = np.concatenate([rows, np.eye(k)])
    members = np.array(list(combinations(range(count + k), k)), dtype=np.intp)
    # Determinants are integers.
    members = members[np.abs(np.linalg.det(normals[members])) > 0.5]
    planes = np.stack([np.any(members == count + j, axis=1) for j in range(k)], axis=1)
    upper = np.array([int(np.flatnonzero((rows == unit).all(axis=1))[0]) for unit in np.eye(k)])
    inverses = np.linalg.inv(normals[members])
    # Entries are integers over a determinant of at most 4.
    inverses = np.round(inverses * 12) / 12
    return Template(rows, members, planes, inverses, upper, count - 1 - upper)


def octahedra(bounds: ArrayLike, negative: ArrayLike = 0.0, positive: ArrayLike = 1.0) -> Octahedra:
    """The vertices of the linear parts of a batch of groups.

    Arguments:
        bounds: upper bounds `(G, 3^k - 1)` of `octahedral_rows(k) @ x`. A group in which a bound
            is not a number or a coordinate is unbounded gets no vertices; other infinite bounds
            are as if absent.
        negative, positive: the slopes left and right of zero: one number, `(k,)` or `(G, k)`. ReLU
            is (0, 1); a coordinate with equal slopes passes through and is not cut at zero.

    Raises:
        BadInput: if a shape does not fit, or a slope is not finite.
        Unsupported: if the groups are larger than `LARGEST_GROUP`.

    Trust: none; see `Octahedra`.
    """
    d = np.asarray(bounds, dtype=np.float64)
    k = group_size(d)
    left, right = slopes_of(negative, d, k), slopes_of(positive, d, k)
    shape = template(k)
    units = np.concatenate([shape.upper, shape.lower])
    usable = np.all(np.isfinite(d[:, units]), axis=1) & np.all(d > -np.inf, axis=1)
    safe = np.where(usable[:, None], d, 0.0)
    largest = np.max(np.abs(safe), axis=1, where=np.isfinite(safe), initial=0.0)
    scale = np.ldexp(1.0, np.frexp(largest)[1].clip(-1000, 1000))
    scaled = np.where(np.isfinite(safe), safe, 0.0) / scale[:, None]
    # A missing row is put where the box around the group does not reach: no vertex lies on it.
    scaled = np.where(np.isfinite(safe), scaled, 2.0 * k)
    passing = left == right
    parts = [
        _vertices(shape, scaled[at : at + _CHUNK], passing[at : at + _CHUNK])
        for at in range(0, len(d), _CHUNK)
    ]
    parts = parts or [(np.empty(0, np.intp), np.empty(0, np.intp), np.empty((0, k)))]
    group = np.concatenate([part[0] + i * _CHUNK for i, part in enumerate(parts)])
    kept = usable[group]
    group = group[kept]
    basis = np.concatenate([part[1] for part in parts])[kept]
    points = np.concatenate([part[2] for part in parts])[kept]
    start = np.searchsorted(group, np.arange(len(d) + 1))
    first = _first(group, points)
    return Octahedra(d, left, right, usable, scale, start, group, basis, points, first)


def group_size(bounds: Array) -> int:
    """The `k` of bounds `(G, 3^k - 1)`.

    Raises:
        BadInput: if there is none.
    """
    sizes = {3**k - 1: k for k in range(1, 13)}
    if bounds.ndim != 2 or bounds.shape[1] not in sizes:
        raise BadInput(f"octahedral bounds have shape (groups, 3^k - 1), not {bounds.shape}")
    return sizes[bounds.shape[1]]


def slopes_of(values: ArrayLike, bounds: Array, k: int) -> Array:
    """Slopes given once, for each coordinate or for each group, as `(G, k)`.

    Raises:
        BadInput: if the shape does not fit or a slope is not finite.
    """
    slopes = np.asarray(values, dtype=np.float64)
    if slopes.shape not in ((), (k,), (len(bounds), k)):
        raise BadInput(f"slopes have shape (), ({k},) or ({len(bounds)}, {k}), not {slopes.shape}")
    if not np.isfinite(slopes).all():
        raise BadInput("a slope is not finite")
    return np.broadcast_to(slopes, (len(bounds), k))


def _vertices(shape: Template, d: Array, passing: Array) -> tuple[Array, Array, Array]:
    """The group, basis and point of every feasible basis; `d` `(g, M)` scaled and finite."""
    k = shape.rows.shape[1]
    ceiling = d + TOLERANCE
    floor = -ceiling[:, ::-1]
    found: list[tuple[Array, Array, Array]] = []
    # Hyperplanes come after the rows, and their offsets are 0.
    offsets = np.concatenate([d, np.zeros((len(d), k))], axis=1)
    for at, members, inverses in _solvers(k):
        # Not a product of matrices: those of this size wake the threads of a linear algebra
        # library, which cost more than they bring.
        sides = [offsets.take(row, axis=1) for row in members]
        coordinates = np.empty((len(d), k, members.shape[1]))
        for j in range(k):
            coordinates[:, j] = sum(side * inverses[j, i] for i, side in enumerate(sides))
        inside = np.ones((len(d), coordinates.shape[2]), dtype=np.bool_)
        sums: dict[int, Array] = {}
        for row, evaluate in _sums(k):
            sums[row] = evaluate(coordinates, sums)
            inside &= sums[row] <= ceiling[:, row, None]
            inside &= sums[row] >= floor[:, row, None]
        group, basis = np.nonzero(inside)
        found.append((group, basis + at, coordinates[group, :, basis]))
    group, basis, points = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(group, kind="stable")
    order = order[~(shape.planes[basis[order]] & passing[group[order]]).any(axis=1)]
    return group[order], basis[order], points[order]


@lru_cache(maxsize=4)
def _solvers(k: int) -> list[tuple[int, Array, Array]]:
    """Blocks of bases: the first of each, their members `(k, b)` and inverses `(k, k, b)`."""
    shape = template(k)
    blocks: list[tuple[int, Array, Array]] = []
    for start in range(0, len(shape.members), _BLOCK):
        stop = start + _BLOCK
        members = np.ascontiguousarray(shape.members[start:stop].T)
        inverses = np.ascontiguousarray(shape.inverses[start:stop].transpose(1, 2, 0))
        blocks.append((start, members, inverses))
    return blocks


Evaluate = Callable[[Array, dict[int, Array]], Array]


@lru_cache(maxsize=4)
def _sums(k: int) -> list[tuple[int, Evaluate]]:
    """How to evaluate the rows whose first entry is 1, each from a shorter one."""
    rows = [tuple(row) for row in octahedral_rows(k).tolist()]
    positive = [row for row in rows if next(v for v in row if v) == 1]
    plan: list[tuple[int, Evaluate]] = []
    for row in sorted(positive, key=lambda row: sum(map(abs, row))):
        last = max(j for j in range(k) if row[j])
        rest = tuple(0 if j == last else v for j, v in enumerate(row))
        plan.append(
            (rows.index(row), _step(last, row[last], rows.index(rest) if any(rest) else None))
        )
    return plan


def _step(coordinate: int, sign: int, rest: int | None) -> Evaluate:
    if rest is None:
        return lambda x, sums: x[:, coordinate]
    if sign > 0:
        return lambda x, sums: sums[rest] + x[:, coordinate]
    return lambda x, sums: sums[rest] - x[:, coordinate]


def _first(group: Array, points: Array) -> Array:
    """Whether no earlier point of the same group agrees to ten digits; `(n,)` bool."""
    whole = np.round(points * _FINE).astype(np.int64)
    odd = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)
    mixed = (whole.view(np.uint64) * odd[: points.shape[1]]).sum(axis=1, dtype=np.uint64)
    key = (group.astype(np.uint64) << np.uint64(36)) | (mixed >> np.uint64(28))
    first = np.zeros(len(group), dtype=np.bool_)
    first[np.unique(key, return_index=True)[1]] = True
    return first
