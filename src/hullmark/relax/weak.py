"""Right-hand sides of rows over octahedral groups, proved by weak duality in floating point.

Where `x` has given signs, a row `a · x + c · f(x)` is a linear `g · x`. For any multipliers
`m >= 0` on the octahedral rows and the sign rows `-s_j x_j <= 0`, with normals `N` and right-hand
sides `d`, `g · x <= m · d + r · x`, `r = g - m N`, and `r · x` is bounded by the unit rows. Bases
of vertices give the multipliers; what rounding leaves over is charged. The largest bound over
all sign patterns holds on the graph of `f`.
"""

from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hullmark.relax.charge import Goals, bound_by, charged, spent
from hullmark.relax.circuits import circuits
from hullmark.relax.octahedra import Octahedra, Template, template

Array = NDArray[Any]

# Vertices whose values differ by less, in units of the group's scale, compete.
_TIE = 1e-9
# A bound that exceeds its vertex's value by more is improved by trying all bases.
_LOOSE = 1e-8
# Vertices, and sign patterns, that are worked on at once.
_CHUNK = 200_000
_DENSE = 64


class Proof(NamedTuple):
    """Right-hand sides `(m,)` with the multipliers that show them, both `(m, 2^k, k + 1)`.

    Per sign pattern, in the order of `itertools.product((-1, 1), repeat=k)`: `members` are rows of
    the octahedral description, or `M + j` for the sign row `-s_j x_j <= 0`; places left over have
    multiplier 0. What the multipliers leave of the row is charged against the unit rows.
    """

    rhs: Array
    members: Array
    multipliers: Array

    def improved(self, index: Array, other: "Proof") -> "Proof":
        """This one, with what the other proves better of the entries `index`."""
        better = other.rhs < self.rhs[index]
        result = Proof(*(part.copy() for part in self))
        for whole, part in zip(result, other, strict=True):
            whole[index[better]] = part[better]
        return result


def _unproved(count: int, k: int) -> Proof:
    shape = (count, k + 1)
    return Proof(np.full(count, np.inf), np.zeros(shape, dtype=np.intp), np.zeros(shape))


def proven_offsets(groups: Octahedra, group: Array, x_coef: Array, y_coef: Array) -> Proof:
    """For each row over a group, a number that it does not exceed on the graph.

    Arguments:
        group: the group of each row, `(m,)`.
        x_coef, y_coef: finite coefficients `(m, k)` of `x` and of `f(x)`.

    Returns:
        Infinite right-hand sides, with multipliers 0, for groups that are not usable.

    Trust: each right-hand side holds in exact arithmetic for all `x` within the stored bounds,
    however wrong the vertices are; how tight it is depends on them.
    """
    k = groups.k
    patterns = 2**k
    proof = Proof(
        np.full(len(group), np.inf),
        np.zeros((len(group), patterns, k + 1), dtype=np.intp),
        np.zeros((len(group), patterns, k + 1)),
    )
    rows = np.flatnonzero(groups.usable[group])
    sizes = np.cumsum(np.diff(groups.start)[group[rows]] + patterns)
    cuts = np.flatnonzero(np.diff(sizes // _CHUNK)) + 1
    for some in np.split(rows, cuts):
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            part = _prove(groups, group[some], x_coef[some], y_coef[some])
        for whole, piece in zip(proof, part, strict=True):
            whole[some] = piece
    return proof


@lru_cache(maxsize=4)
def sign_patterns(k: int) -> Array:
    """All sign vectors `(2^k, k)` in the order of `itertools.product((-1, 1), repeat=k)`."""
    return np.array(list(product((-1.0, 1.0), repeat=k)))


def _prove(groups: Octahedra, group: Array, x_coef: Array, y_coef: Array) -> Proof:
    shape, patterns = template(groups.k), 2**groups.k
    goals = _goals(shape, groups, group, x_coef, y_coef)
    entries, bases, values = _best_vertices(groups, group, x_coef, y_coef)
    entries, bases = _steadiest(shape, goals, entries, bases)
    proof = _unproved(len(goals.goal), groups.k)
    proof = proof.improved(entries, _by_bases(shape, goals.taken(entries), bases))

    scale = np.repeat(groups.scale[group], patterns)
    loose = np.flatnonzero(~(proof.rhs - values * scale <= _LOOSE * scale))
    if len(loose):
        target = np.where(np.isfinite(proof.rhs), proof.rhs, -np.inf)
        target = target.reshape(-1, patterns).max(axis=1)[loose // patterns]
        passing = (groups.negative == groups.positive)[group[loose // patterns]]
        proof = proof.improved(loose, _repaired(shape, goals.taken(loose), passing, target))
    rhs = proof.rhs.reshape(-1, patterns).max(axis=1)
    proved = np.isfinite(rhs)
    full = (len(group), patterns, groups.k + 1)
    multipliers = np.where(proved[:, None, None], proof.multipliers.reshape(full), 0.0)
    return Proof(np.where(proved, rhs, np.inf), proof.members.reshape(full), multipliers)


def _repaired(shape: Template, goals: Goals, passing: Array, target: Array) -> Proof:
    """Bounds of parts without a vertex, or where the bases of the best vertex prove too little."""
    proof = _unproved(len(target), goals.goal.shape[1])
    patterns, which = np.unique(goals.signs, axis=0, return_inverse=True)
    for index, signs in enumerate(patterns.astype(np.intp).tolist()):
        some = np.flatnonzero(which.ravel() == index)
        empty = _by_emptiness(goals.taken(some), tuple(signs), passing[some], target[some])
        proof = proof.improved(some, empty)
    left = np.flatnonzero(~np.isfinite(proof.rhs))
    for part in np.split(left, range(_DENSE, len(left), _DENSE)):
        some = goals.taken(part)
        proof = proof.improved(
            part, _by_bases(shape, some, _best_basis(shape, some, passing[part]))
        )
    return proof


def _goals(shape: Template, groups: Octahedra, group: Array, x_coef: Array, y_coef: Array) -> Goals:
    """The linear function of each row on each sign pattern, row by row."""
    k = groups.k
    signs = sign_patterns(k)
    slopes = np.where(
        signs > 0, groups.positive[group][:, None, :], groups.negative[group][:, None, :]
    )
    products = y_coef[:, None, :] * slopes
    goal = x_coef[:, None, :] + products
    weight = np.abs(x_coef)[:, None, :] + np.abs(products)
    return Goals(
        shape.rows,
        shape.upper,
        shape.lower,
        np.repeat(groups.bounds[group], len(signs), axis=0),
        np.tile(signs, (len(group), 1)),
        goal.reshape(-1, k),
        weight.reshape(-1, k),
    )


def _best_vertices(
    groups: Octahedra, group: Array, x_coef: Array, y_coef: Array
) -> tuple[Array, Array, Array]:
    """The bases of (nearly) the best vertices of each row and pattern.

    Returns:
        For each candidate the entry, `row * 2^k + pattern`, and its basis; and the best value of
        each entry in units of the group's scale, minus infinity where there is no vertex.
    """
    signs = sign_patterns(groups.k)
    counts = np.diff(groups.start)[group]
    ends = np.cumsum(counts)
    row = np.repeat(np.arange(len(group)), counts)
    vertex = np.arange(len(row)) + np.repeat(groups.start[group] - (ends - counts), counts)
    lifted = groups.lifted()[vertex]
    values = np.einsum("nd,nd->n", lifted, np.concatenate([x_coef, y_coef], axis=1)[row])
    inside = _memberships(groups)[vertex]
    masked = np.where(inside, values[:, None], -np.inf)
    best = np.full((len(group), len(signs)), -np.inf)
    filled = np.flatnonzero(counts)
    if len(filled):
        best[filled] = np.maximum.reduceat(masked, (ends - counts)[filled], axis=0)
    size = np.maximum(np.abs(x_coef).max(axis=1), np.abs(y_coef).max(axis=1))
    close = inside & (masked >= (best - _TIE * size[:, None])[row])
    at, pattern = np.nonzero(close)
    return row[at] * len(signs) + pattern, groups.basis[vertex[at]], best.ravel()


def _memberships(groups: Octahedra) -> Array:
    """Which sign patterns each vertex fits, `(n, 2^k)`; a coordinate that passes fits both."""
    signs = sign_patterns(groups.k)
    passing = (groups.negative == groups.positive)[groups.group]
    high = (groups.points >= -_TIE) | passing
    low = (groups.points <= _TIE) | passing
    inside = np.ones((len(groups.points), len(signs)), dtype=np.bool_)
    for j in range(groups.k):
        inside &= np.where(signs[:, j] > 0, high[:, j, None], low[:, j, None])
    return inside


def _steadiest(shape: Template, goals: Goals, entries: Array, bases: Array) -> tuple[Array, Array]:
    """Of the bases that compete for an entry the one whose multipliers are least negative."""
    tied = np.bincount(entries, minlength=len(goals.goal))[entries] > 1
    alone = ~tied
    rivals, options = entries[tied], bases[tied]
    score = _multipliers(shape, goals.taken(rivals), options).min(axis=1, initial=np.inf)
    order = np.lexsort((-score, rivals))
    rivals, options = rivals[order], options[order]
    first = np.ones(len(rivals), dtype=np.bool_)
    first[1:] = rivals[1:] != rivals[:-1]
    return (
        np.concatenate([entries[alone], rivals[first]]),
        np.concatenate([bases[alone], options[first]]),
    )


def _multipliers(shape: Template, goals: Goals, basis: Array) -> Array:
    """What solves each goal `(n, k)` in the rows of its basis; negative ones prove nothing."""
    raw = np.einsum("nj,nji->ni", goals.goal, shape.inverses[basis])
    return raw * _turns(shape, goals, basis)


def _turns(shape: Template, goals: Goals, basis: Array) -> Array:
    """What takes the normal of a hyperplane to that of its sign row; 1 for other members."""
    axis = shape.members[basis] - len(shape.rows)
    turned = -np.take_along_axis(goals.signs, np.maximum(axis, 0), axis=1)
    return np.where(axis >= 0, turned, 1.0)


def _by_bases(shape: Template, goals: Goals, basis: Array) -> Proof:
    """Upper bounds of goals by the multipliers of a basis each."""
    members = shape.members[basis]
    factors = np.maximum(_multipliers(shape, goals, basis), 0.0)
    none = np.zeros((len(basis), 1))
    return Proof(
        bound_by(goals, members, factors),
        np.concatenate([members, none.astype(np.intp)], axis=1),
        np.concatenate([factors, none], axis=1),
    )


def _by_emptiness(goals: Goals, signs: tuple[int, ...], passing: Array, target: Array) -> Proof:
    """Bounds of at most about `target` where a circuit shows that the part is empty.

    Any multiple of its rows may be added, since their normals add up to zero.
    """
    known = circuits(signs)
    sums = np.where(np.isfinite(goals.bounds), goals.bounds, 1e300) @ known.sums
    sums = np.where(passing.astype(float) @ known.planes.T.astype(float) > 0, np.inf, sums)
    choice = sums.argmin(axis=1)
    members, weights = known.members[choice], known.weights[choice]
    total = sums[np.arange(len(sums)), choice] * weights.sum(axis=1)
    plain = charged(goals.box, goals.goal, goals.weight, np.zeros((len(sums), 1)))
    # A multiple that float32 holds makes the products with the weights exact.
    multiple = (np.maximum(2.0 * (plain - target), 0.0) / -total).astype(np.float32)
    good = (total < 0) & np.isfinite(multiple) & np.isfinite(target)
    multiple = np.where(good, multiple, 0.0).astype(np.float64)
    factors = multiple[:, None] * weights
    terms = spent(goals, members, factors)
    bound = charged(goals.box, goals.goal, goals.weight, terms)
    return Proof(np.where(good, bound, np.inf), members, factors)


def _best_basis(shape: Template, goals: Goals, passing: Array) -> Array:
    """Of all bases of the template the one with the least bound, about, for each goal."""
    count, k = shape.rows.shape
    raw = np.einsum("nj,bji->nbi", goals.goal, shape.inverses)
    plane = shape.members >= count
    axis = np.where(plane, shape.members - count, 0)
    turn = np.where(plane, -goals.signs[:, axis], 1.0)
    kept = np.where(raw * turn > 0, raw, 0.0)
    normals = np.concatenate([shape.rows, np.eye(k)])[shape.members]
    rest = goals.goal[:, None] - np.einsum("nbi,bij->nbj", kept, normals)
    offsets = np.where(plane, 0.0, goals.bounds[:, np.where(plane, 0, shape.members)])
    upper, lower = goals.bounds[:, None, shape.upper], -goals.bounds[:, None, shape.lower]
    spent = np.where(kept != 0, kept * offsets, 0.0).sum(axis=2)
    bound = spent + np.where(rest > 0, rest * upper, rest * lower).sum(axis=2)
    blocked = (shape.planes[None] & passing[:, None]).any(axis=2)
    return np.where(blocked | np.isnan(bound), np.inf, bound).argmin(axis=1)
