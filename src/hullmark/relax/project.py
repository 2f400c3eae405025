"""The point of a convex hull nearest to the origin, for a batch of small clouds of points."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_ROUNDS = 100
_POSITIVE = 1e-12
_RIDGE = 1e-13


@dataclass(frozen=True, eq=False)
class _Corral:
    """Wolfe's state for some clouds: at most `D + 1` points of each, and their weights.

    `cloud` `(g,)` names the clouds; `index` `(g, D + 1)` the points; those not `used` count
    nothing and have `weight` 0.
    """

    cloud: Array
    index: Array
    used: Array
    weight: Array

    def kept(self, chosen: Array) -> "_Corral":
        return _Corral(
            self.cloud[chosen], self.index[chosen], self.used[chosen], self.weight[chosen]
        )


@np.errstate(over="ignore", invalid="ignore")
def nearest_points(clouds: Array) -> Array:
    """Minimum-norm points by Wolfe's algorithm, all clouds at once [Wolfe76].

    Arguments:
        clouds: shape `(G, n, D)`, `n >= 1`; a cloud with fewer points repeats one of them.

    Returns:
        Shape `(G, D)`: for each cloud the point of its convex hull nearest to 0.

    Trust: floating point; the answer is a guess.
    """
    count, _, dimension = clouds.shape
    found = np.zeros((count, dimension))
    slots = dimension + 1
    index = np.zeros((count, slots), dtype=np.intp)
    index[:, 0] = np.einsum("gnd,gnd->gn", clouds, clouds).argmin(axis=1)
    weight = np.zeros((count, slots))
    weight[:, 0] = 1.0
    state = _Corral(np.arange(count), index, weight > 0, weight)
    found[:] = clouds[state.cloud, index[:, 0]]
    for _ in range(_ROUNDS):
        corral = clouds[state.cloud[:, None], state.index]
        target = _affine_weights(corral, state.used)
        interior = np.all((target > _POSITIVE) | ~state.used, axis=1)
        weight = np.where(interior[:, None], target, _stepped(state, target))
        used = state.used & (weight > _POSITIVE)
        state = _Corral(state.cloud, state.index, used, np.where(used, weight, 0.0))
        points = np.einsum("gs,gsd->gd", target[interior], corral[interior])
        found[state.cloud[interior]] = points
        grown = _grown(state.kept(interior), clouds, points)
        state = _joined(state.kept(~interior), grown)
        if not len(state.cloud):
            break
    return found


def _joined(first: _Corral, second: _Corral) -> _Corral:
    return _Corral(
        np.concatenate([first.cloud, second.cloud]),
        np.concatenate([first.index, second.index]),
        np.concatenate([first.used, second.used]),
        np.concatenate([first.weight, second.weight]),
    )


def _affine_weights(corral: Array, used: Array) -> Array:
    """The weights, of sum 1, of the point of the affine hull that is nearest to 0."""
    gram = corral @ corral.swapaxes(1, 2)
    diagonal = np.einsum("gss->gs", gram)
    size = np.max(diagonal, axis=1, where=used, initial=1e-300)
    system = gram / size[:, None, None] + 1.0
    both = used[:, :, None] & used[:, None, :]
    system = np.where(both, system, 0.0)
    slots = np.arange(used.shape[1])
    system[:, slots, slots] += np.where(used, _RIDGE, 1.0)
    solution = np.linalg.solve(system, used[:, :, None].astype(np.float64))[:, :, 0]
    return solution / solution.sum(axis=1, keepdims=True)


def _stepped(state: _Corral, target: Array) -> Array:
    """The weights after the longest step towards the target that keeps them nonnegative."""
    falling = state.used & (target <= _POSITIVE)
    ratio = np.where(falling, state.weight, np.inf) / np.where(
        falling, np.maximum(state.weight - target, 1e-300), 1.0
    )
    blocking = ratio.argmin(axis=1)
    rows = np.arange(len(ratio))
    step = np.minimum(ratio[rows, blocking], 1.0)[:, None]
    weight = state.weight + step * (target - state.weight)
    weight[rows, blocking] = 0.0
    return weight


def _grown(state: _Corral, clouds: Array, points: Array) -> _Corral:
    """The corrals with the point deepest behind the plane through `points`, where there is one."""
    square = np.einsum("gd,gd->g", points, points)
    heights = np.matmul(clouds[state.cloud], points[:, :, None])[:, :, 0]
    deepest = heights.argmin(axis=1)
    gap = square - heights[np.arange(len(heights)), deepest]
    better = (square > 1e-18) & (gap > 1e-8 * square + 1e-13 * np.sqrt(square))
    held = state.used & (state.index == deepest[:, None])
    better &= ~held.any(axis=1) & ~state.used.all(axis=1)
    state, deepest = state.kept(better), deepest[better]
    slot = np.arange(state.used.shape[1]) == (~state.used).argmax(axis=1)[:, None]
    index = np.where(slot, deepest[:, None], state.index)
    return _Corral(state.cloud, index, state.used | slot, state.weight)
