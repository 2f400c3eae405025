"""From supporting planes of convex hulls to facets, for a batch of small clouds of points.

The plane at the nearest point touches a hull in a face of any dimension. Turned about that face
until it meets another vertex, again and again, it becomes a facet; each turn goes where the
point to be cut off gains most, so that seen from the centre of the hull the cut only gets
deeper.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_TOUCHING = 1e-7
_RANK = 1e-9
_NOTHING = 1e-9


def tilted(clouds: Array, normals: Array, targets: Array) -> Array:
    """Normals of facets between the hulls and their targets.

    Arguments:
        clouds: shape `(G, n, D)`; a cloud with fewer points repeats one of them.
        normals: of planes that support the hulls and leave the targets outside, `(G, D)`.
        targets: shape `(G, D)`.

    Returns:
        Shape `(G, D)`. A hull that is flat keeps its normal if the target lies off its plane.

    Trust: floating point; the answer is a guess.
    """
    centre = clouds.mean(axis=1)
    clouds, aims = clouds - centre[:, None], targets - centre
    height = np.einsum("gnd,gd->gn", clouds, normals).max(axis=1)
    good = height > _NOTHING * np.linalg.norm(normals, axis=1)
    rows = normals / np.where(good, height, 1.0)[:, None]
    free = _free_directions(clouds, rows)
    for _ in range(clouds.shape[2]):
        turn, possible = _turns(free, aims)
        if not (good & possible).any():
            break
        speed = np.einsum("gnd,gd->gn", clouds, turn)
        slack = np.maximum(1.0 - np.einsum("gnd,gd->gn", clouds, rows), 0.0)
        meets = speed > _NOTHING * np.abs(clouds).max(axis=(1, 2))[:, None]
        time = np.where(meets, slack, np.inf) / np.where(meets, speed, 1.0)
        first = time.argmin(axis=1)
        index = np.arange(len(clouds))
        blocked = meets[index, first]
        # Without a limit, gaining all the way: the target is off the plane of a flat hull.
        good &= blocked | ~possible | (np.einsum("gd,gd->g", turn, aims) <= _NOTHING)
        moving = good & possible & blocked
        rows = rows + np.where(moving, time[index, first], 0.0)[:, None] * turn
        spent = np.where(moving[:, None], clouds[index, first], turn)
        free = _without(free, spent)
    return np.where(good[:, None], rows, normals)


def _free_directions(clouds: Array, rows: Array) -> Array:
    """The projections `(G, D, D)` along all points that touch the planes `rows · x = 1`."""
    touching = np.einsum("gnd,gd->gn", clouds, rows) > 1.0 - _TOUCHING
    chosen = clouds * touching[:, :, None]
    values, vectors = np.linalg.eigh(chosen.swapaxes(1, 2) @ chosen)
    kept = vectors * (values <= _RANK * values[:, -1:])[:, None, :]
    return kept @ kept.swapaxes(1, 2)


def _turns(free: Array, aims: Array) -> tuple[Array, Array]:
    """The unit direction in which each target gains most, and whether any is left.

    Where the target gains nothing, some free direction.
    """
    gain = np.einsum("gde,ge->gd", free, aims)
    longest = np.einsum("gdd->gd", free).argmax(axis=1)
    some = np.take_along_axis(free, longest[:, None, None], axis=1)[:, 0]
    useful = np.linalg.norm(gain, axis=1) > _TOUCHING * np.linalg.norm(aims, axis=1)
    turn = np.where(useful[:, None], gain, some)
    size = np.linalg.norm(turn, axis=1)
    possible = np.einsum("gdd->g", free) > 0.5
    return turn / np.where(possible, size, 1.0)[:, None], possible


def _without(free: Array, directions: Array) -> Array:
    """The projections without these directions as well."""
    inner = np.einsum("gde,ge->gd", free, directions)
    square = np.einsum("gd,gd->g", inner, inner)
    square = np.where(square > 0, square, 1.0)
    return free - inner[:, :, None] * inner[:, None, :] / square[:, None, None]
