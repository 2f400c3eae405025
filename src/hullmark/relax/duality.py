"""Right-hand sides proved by weak duality, one sign pattern at a time, rounded outwards.

On the part of the set where `x` has given signs, `f` is linear and a row `r · x + c · f(x)` is a
linear function `g · x`. For any multipliers `λ >= 0` on the rows `E x <= d` of that part,
`g · x <= λ · d + ρ · x` with `ρ = g - λ E`; and `ρ · x` is at most its maximum over a proven box.
So the multipliers may come from floats: what they leave over is charged, and so is every rounding.
The largest bound over all sign patterns holds on the whole graph.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hullmark.exact import round_up
from hullmark.relax.bases import TOLERANCE, Bases, Polyhedron
from hullmark.relax.charge import SAFETY, TINY, UNIT, charged
from hullmark.relax.cone import cut, whole_space
from hullmark.relax.pieces import Pieces

Array = NDArray[Any]
Signs = Mapping[int, int]

_BLOCK = 4_000_000


@dataclass(frozen=True, eq=False)
class Evidence:
    """A set, guesses of its bases, the functions on it, and a proven box `(lower, upper)`."""

    body: Polyhedron
    bases: Bases
    pieces: Pieces
    box: tuple[Array, Array]


@dataclass(frozen=True, eq=False)
class _Part:
    """Rows `normals · x <= offsets` in floats that hold on a part of the set, and its box.

    By member index as in `Bases`: the rows of the set, then `-sign_j x_j <= 0`. `turn` is -sign_j
    for the latter, and 1.
    """

    bases: Bases
    normals: Array
    offsets: Array
    turn: Array
    box: tuple[Array, Array]


def proven_bounds(evidence: Evidence, rows: Array) -> Array:
    """For each row over `(x, y)`, a number that it does not exceed on the graph.

    Arguments:
        rows: floats `(m, 2k)`.

    Returns:
        Shape `(m,)`, float64, in units of the body; infinite where nothing could be proved.

    Trust: holds in real arithmetic. How tight a bound is depends on the bases, whether it holds
    does not.
    """
    pieces = evidence.pieces
    width = len(pieces.negative)
    best = np.full(len(rows), -np.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        for chosen in product((-1, 1), repeat=len(pieces.kinked)):
            signs = dict(zip(pieces.kinked, chosen, strict=True))
            slopes = np.array(
                [
                    float(pieces.negative[j] if signs.get(j) == -1 else pieces.positive[j])
                    for j in range(width)
                ]
            )
            products = rows[:, width:] * slopes
            goals = rows[:, :width] + products
            # A slope may be rounded, a product and a sum are.
            weight = np.abs(rows[:, :width]) + np.abs(products)
            bases = _within(evidence.bases, signs)
            if len(bases.points) == 0:
                if _proven_empty(evidence, signs):
                    continue
                bases, signs = evidence.bases.plain(), {}
            best = np.maximum(best, _dual_bounds(_part(evidence, bases, signs), goals, weight))
    return best


def _within(bases: Bases, signs: Signs) -> Bases:
    """The bases whose points have the signs, up to rounding."""
    chosen = np.ones(len(bases.points), dtype=np.bool_)
    for coordinate, sign in signs.items():
        chosen &= sign * bases.points[:, coordinate] >= -TOLERANCE
    return bases.selected(chosen)


def _part(evidence: Evidence, bases: Bases, signs: Signs) -> _Part:
    """The part with these signs. A hyperplane whose sign is free appears in no basis passed here.

    A float row differs from a multiple of the integer row by at most two roundings an entry.
    """
    body, kinked = evidence.body, bases.kinked
    lower = np.array([-round_up(-value) for value in evidence.box[0]])
    upper = np.array([round_up(value) for value in evidence.box[1]])
    reach = np.maximum(np.abs(lower), np.abs(upper))
    away = np.abs(body.offsets) + np.abs(body.normals) @ reach
    charge = (3 * UNIT * away + TINY * (1 + reach.sum())) * SAFETY
    turn = np.array([-float(signs.get(j, 0)) for j in kinked])
    axes = np.eye(body.A.shape[1])[list(kinked)] * turn[:, None]
    return _Part(
        bases,
        np.concatenate([body.normals, axes]),
        np.concatenate([np.nextafter(body.offsets + charge, np.inf), np.zeros(len(kinked))]),
        np.concatenate([np.ones(len(body.A)), turn]),
        (lower, upper),
    )


def _dual_bounds(part: _Part, goals: Array, weight: Array) -> Array:
    """Upper bounds of goals `(m, k)` on the part, if they came from magnitudes `weight`."""
    lower, upper = part.box
    members, multipliers = _guess(part.bases, goals, part.turn)
    multipliers = np.maximum(multipliers, 0.0)
    normals = part.normals[members]
    rest = goals - np.einsum("mi,mij->mj", multipliers, normals)
    sizes = weight + np.einsum("mi,mij->mj", multipliers, np.abs(normals))
    terms = multipliers * part.offsets[members]
    return charged((lower, upper), rest, sizes, terms)


def _guess(bases: Bases, goals: Array, orientation: Array) -> tuple[Array, Array]:
    """For each goal `(m, k)` the basis whose multipliers are least negative; both `(m, k)`."""
    members: list[Array] = [np.empty((0, goals.shape[1]), dtype=np.intp)]
    chosen: list[Array] = [np.empty((0, goals.shape[1]))]
    turned = bases.inverses * orientation[bases.members][:, None, :]
    step = max(1, _BLOCK // turned.size)
    for start in range(0, len(goals), step):
        multipliers = np.einsum("mi,nij->mnj", goals[start : start + step], turned)
        best = np.argmax(multipliers.min(axis=2), axis=1)
        members.append(bases.members[best])
        chosen.append(multipliers[np.arange(len(best)), best])
    return np.concatenate(members), np.concatenate(chosen)


def _proven_empty(evidence: Evidence, signs: Signs) -> bool:
    """Whether a combination of the coordinates is proved negative where these signs want it not.

    Finds weights `w >= 0` with `Σ w_j sign_j x_j <= -δ < 0` on the points known, then proves it.
    """
    points = evidence.bases.points
    cone = whole_space(1 + len(signs), exact=False)
    for normal in np.eye(1 + len(signs)):
        cone = cut(cone, normal)
    turned = points[:, list(signs)] * np.array(list(signs.values()))
    for row in np.unique(np.round(turned, 9), axis=0):
        cone = cut(cone, np.append(-1.0, -row) / max(1.0, np.abs(row).max()))
    if len(cone.rays) == 0 or cone.rays[:, 0].max() <= 0:
        return False
    weights = cone.rays[np.argmax(cone.rays[:, 0]), 1:]
    direction = np.zeros((1, points.shape[1]))
    direction[0, list(signs)] = np.maximum(weights, 0.0) * np.array(list(signs.values()))
    part = _part(evidence, evidence.bases.plain(), {})
    return bool(_dual_bounds(part, direction, np.abs(direction))[0] < 0)
