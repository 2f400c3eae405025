"""Right-hand sides proved by weak duality, one sign pattern at a time, in integers.

On the part of the set where `x` has given signs, `f` is linear and a row `r · x + c · f(x)` is a
linear function `g · x`. For any multipliers `λ >= 0` on the rows `E x <= d` of that part,
`g · x <= λ · d + ρ · x` with `ρ = g - λ E`; and `ρ · x` is at most its maximum over a proven box.
So the multipliers may come from floats: what they leave over is charged. The largest bound over
all sign patterns holds on the whole graph.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hullmark.relax.bases import TOLERANCE, Bases, Polyhedron
from hullmark.relax.cone import cut, whole_space
from hullmark.relax.pieces import Pieces

Array = NDArray[Any]
Signs = Mapping[int, int]

ROW_BITS = 40
"""Rows to be bounded are multiples of `2^-ROW_BITS`."""

_BOX_BITS = 30
_MULTIPLIER_BITS = 60
_BLOCK = 4_000_000


@dataclass(frozen=True, eq=False)
class Evidence:
    """A set, guesses of its bases, the functions on it, and a proven box `(lower, upper)`."""

    body: Polyhedron
    bases: Bases
    pieces: Pieces
    box: tuple[Array, Array]


def proven_bounds(evidence: Evidence, rows: Array) -> list[Fraction]:
    """For each row over `(x, y)`, a number that it does not exceed on the graph.

    Arguments:
        rows: floats `(m, 2k)`, multiples of `2^-ROW_BITS`.

    Trust: exact. How tight a bound is depends on the bases, whether it holds does not.
    """
    pieces = evidence.pieces
    width = len(pieces.negative)
    common = lcm(*(slope.denominator for slope in (*pieces.negative, *pieces.positive)))
    whole = _integers(rows, ROW_BITS)
    unit = common << ROW_BITS
    best: list[Fraction] | None = None
    for chosen in product((-1, 1), repeat=len(pieces.kinked)):
        signs = dict(zip(pieces.kinked, chosen, strict=True))
        bases = _within(evidence.bases, signs)
        slopes = [
            pieces.negative[j] if signs.get(j) == -1 else pieces.positive[j] for j in range(width)
        ]
        scaled = np.array([int(slope * common) for slope in slopes], dtype=object)
        goals = whole[:, :width] * common + whole[:, width:] * scaled
        if len(bases.points) == 0:
            if _proven_empty(evidence, signs):
                continue
            bases, signs = evidence.bases.plain(), {}
        bounds = _dual_bounds(evidence, bases, signs, goals, unit)
        best = bounds if best is None else list(map(max, best, bounds))
    return best or []


def _within(bases: Bases, signs: Signs) -> Bases:
    """The bases whose points have the signs, up to rounding."""
    chosen = np.ones(len(bases.points), dtype=np.bool_)
    for coordinate, sign in signs.items():
        chosen &= sign * bases.points[:, coordinate] >= -TOLERANCE
    return bases.selected(chosen)


def _dual_bounds(
    evidence: Evidence, bases: Bases, signs: Signs, goals: Array, unit: int
) -> list[Fraction]:
    """Upper bounds of `goals / unit · x` on the part with these signs; goals `(m, k)` integers."""
    body, kinked = evidence.body, bases.kinked
    width = body.A.shape[1]
    # Rows and right-hand sides by member index: the set's rows, then -sign * x[j] <= 0. A
    # hyperplane whose sign is free appears in no basis that is passed here.
    axes = np.zeros((len(kinked), width), dtype=object)
    for index, coordinate in enumerate(kinked):
        axes[index, coordinate] = -signs.get(coordinate, 0)
    normals = np.concatenate([body.A, axes])
    offsets = np.concatenate([body.b, np.zeros(len(kinked), dtype=object)])
    lengths = np.concatenate([body.lengths, np.ones(len(kinked))])
    flips = np.array([-float(signs.get(j, 0)) for j in kinked])
    orientation = np.concatenate([np.ones(len(body.A)), flips])

    floats = np.array([[v / unit for v in row] for row in goals.tolist()], dtype=np.float64)
    members, multipliers = _guess(bases, floats.reshape(goals.shape), orientation)
    multipliers = np.maximum(multipliers, 0.0) / lengths[members]
    shift = _MULTIPLIER_BITS + max(0, int(np.ceil(np.log2(lengths.max()))))
    exact = _integers(multipliers, shift)
    # In units of 1 / (unit * 2^shift):
    goals = goals << shift
    rest = goals - unit * (exact[:, :, None] * normals[members]).sum(axis=1)
    bounds = unit * (exact * offsets[members]).sum(axis=1)
    lower, upper = _outward(evidence.box)
    extremes = np.where(rest > 0, rest * upper, rest * lower).sum(axis=1)
    total = (bounds << _BOX_BITS) + extremes
    return [Fraction(value, unit << (shift + _BOX_BITS)) for value in total.tolist()]


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
    goals = _integers(direction, ROW_BITS)
    return _dual_bounds(evidence, evidence.bases.plain(), {}, goals, 1 << ROW_BITS)[0] < 0


def _outward(box: tuple[Array, Array]) -> tuple[Array, Array]:
    """The box of fractions, rounded outwards to integer multiples of `2^-_BOX_BITS`."""
    unit = 2**_BOX_BITS
    lower = [(value * unit).__floor__() for value in box[0]]
    upper = [(value * unit).__ceil__() for value in box[1]]
    return np.array(lower, dtype=object), np.array(upper, dtype=object)


def _integers(values: Array, bits: int) -> Array:
    """The floats times `2^bits`, rounded towards zero to Python integers."""
    flat = [int(Fraction(value) * 2**bits) for value in values.ravel().tolist()]
    return np.array(flat, dtype=object).reshape(values.shape)
