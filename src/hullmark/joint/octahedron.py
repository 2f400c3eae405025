"""Octahedral bounds of groups of neurons: the input polytopes of their joint hulls.

A group's polytope is given by upper bounds of all `3^k - 1` sums `sum_u a_u x_u` with `a_u` in
{-1, 0, 1} [kReLU §4.1]. The sums of one neuron are its bounds; those of several are forms of their
own, bounded in batched backward passes, each form once however many groups share it. Besides the
neurons of a layer a group may have values that the layer reads, see `through`.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hullmark.bounds.aims import Forms
from hullmark.bounds.alpha import Ascended, Ascent, Multipliers, ascend
from hullmark.bounds.linear import CHUNK
from hullmark.bounds.relaxation import Relaxation
from hullmark.joint.ancestry import Sums, used_rows
from hullmark.joint.through import Coordinates
from hullmark.relax.octahedra import octahedral_rows

Array = NDArray[np.float64]
Groups = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Start:
    """Multipliers of an ascent over neurons and both signs.

    `above[i]` and `below[i]`, `(size,)`: which query was `+x_i`, and which `-x_i`.
    """

    multipliers: Multipliers
    above: Tensor
    below: Tensor

    @staticmethod
    def of(seen: Ascended, neurons: Tensor, size: int) -> "Start":
        """From an ascent over `neurons` `(n,)` and then their negations, of a node's `size`."""
        place = torch.zeros(size, dtype=torch.long, device=neurons.device)
        place[neurons] = torch.arange(len(neurons), device=neurons.device)
        return Start(seen.best, place, place + len(neurons))

    def with_rows(self, pool: int, kept: Tensor) -> "Start":
        """After some rows of a pool have been dropped; `kept` is a mask of those there were."""
        gamma = dict(self.multipliers.gamma)
        if pool in gamma:
            gamma[pool] = gamma[pool][:, :, kept[: gamma[pool].shape[2]]]
        return Start(replace(self.multipliers, gamma=gamma), self.above, self.below)


def octahedral_bounds(
    relaxation: Relaxation,
    node: int,
    groups: Groups,
    ascent: Ascent,
    start: Start | None = None,
    wanted: NDArray[np.bool_] | None = None,
) -> Array:
    """The `bounds` of `octahedral_sums`, float64 `(G, 3^k - 1)`; arguments as there."""
    return octahedral_sums(relaxation, node, groups, ascent, start, wanted).bounds


def octahedral_sums(
    relaxation: Relaxation,
    node: int,
    groups: Groups,
    ascent: Ascent,
    start: Start | None = None,
    wanted: NDArray[np.bool_] | None = None,
) -> Sums:
    """Upper bounds of the octahedral sums of groups of neurons of one pre-activation.

    Arguments:
        relaxation: of one domain, with bounds of `node` and of everything before it.
        node: the pre-activation.
        groups: coordinates `(G, k)`, all different within a group: flat indices of neurons, and
            then of the values that the node reads, as `Coordinates` counts them.
        ascent: how each form of two or more neurons is optimised.
        start: multipliers of the neurons themselves, from which those of the forms are made. The
            relaxation's own lines if None.
        wanted: a mask `(G, 3^k - 1)` of the sums that are worth a pass; all if None.

    Returns:
        Bounds in float64; infinite where not wanted.

    Trust: every bound holds in real arithmetic.
    """
    rows = octahedral_rows(groups.shape[1])
    size = relaxation.program.network.nodes[node].size
    passing = bool((groups >= size).any())
    space = Coordinates.of(relaxation.program.network, node, passing)
    lower, upper = space.interval(relaxation)
    bounds = np.full((len(groups), len(rows)), np.inf)
    uses = np.full(bounds.shape, None, dtype=object)
    several = np.count_nonzero(rows, axis=1) > 1
    for index in np.flatnonzero(~several):
        u = int(np.flatnonzero(rows[index])[0])
        chosen = groups[:, u]
        bounds[:, index] = upper[chosen] if rows[index, u] > 0 else -lower[chosen]
    asked: NDArray[np.bool_] = np.broadcast_to(several, bounds.shape)
    if wanted is not None:
        asked = asked & wanted
    if not asked.any():
        return Sums(bounds, uses)
    # A form is known by the sorted codes 2 i + (a_i < 0) of its neurons, padded with -1.
    codes = np.where(rows == 0, -1, 2 * groups[:, None, :] + (rows < 0))
    codes = np.sort(codes, axis=2)[asked]
    forms, place = np.unique(codes, axis=0, return_inverse=True)
    found, used = np.full(len(forms), np.inf), np.full(len(forms), None, dtype=object)
    # A form of passing values alone starts from nothing that is known of neurons.
    neurons = (forms >= 0) & (forms < 2 * size)
    for part, begin in ((neurons.any(axis=1), start), (~neurons.any(axis=1), None)):
        if part.any():
            found[part], used[part] = _upper_bounds(relaxation, space, forms[part], ascent, begin)
    # A sum is also at most the sum of its parts, rounded up.
    parts = np.where(forms % 2, -lower[forms // 2], upper[forms // 2])
    parts = np.where(forms >= 0, parts, 0.0)
    apart = parts.sum(axis=1) + np.abs(parts).sum(axis=1) * (8 * np.finfo(np.float64).eps)
    used[apart < found] = None
    found = np.fmin(found, apart)
    bounds[asked], uses[asked] = found[place.ravel()], used[place.ravel()]
    return Sums(bounds, uses)


def _upper_bounds(
    relaxation: Relaxation,
    space: Coordinates,
    forms: Groups,
    ascent: Ascent,
    start: Start | None,
) -> tuple[Array, NDArray[np.object_]]:
    """Upper bounds of forms, and the rows that they use."""
    held = 4 * sum(s[0].numel() for s in relaxation.program.slopes.values())
    piece = max(1, 4 * CHUNK // max(held, space.starts[-1]))
    found: list[Tensor] = []
    uses: list[NDArray[np.object_]] = []
    for part in torch.as_tensor(forms).split(piece):
        if ascent.stop():
            found.append(torch.full((len(part),), torch.inf, dtype=torch.float64))
            uses.append(np.full(len(part), None, dtype=object))
            continue
        used = part >= 0
        sign = torch.where(part % 2 == 1, 1.0, -1.0) * used
        # Lower bounds of the negated forms.
        coefficients = torch.zeros(len(part), space.starts[-1], dtype=torch.float64)
        coefficients.scatter_add_(1, (part // 2).clamp(min=0), sign.double())
        device = relaxation.lower.device
        aim = Forms(space.split(coefficients.unsqueeze(0).to(device)))
        begin = None if start is None else _blend(start, part.to(device))
        seen = ascend(relaxation, aim, ascent, begin)
        found.append(-seen.lower[0].double().cpu())
        uses.append(used_rows(relaxation, seen))
    return torch.cat(found).numpy(), np.concatenate(uses)


def _blend(start: Start, forms: Tensor) -> Multipliers:
    """Slopes averaged and row multipliers added over the neurons of each (negated) form."""
    neuron = forms // 2
    used = (forms >= 0) & (neuron < len(start.above))
    neuron = torch.where(used, neuron, 0)
    query = torch.where(forms % 2 == 1, start.above[neuron], start.below[neuron])
    mean = used / used.sum(dim=1, keepdim=True)

    def over(values: Tensor, weight: Tensor) -> Tensor:
        picked = values[:, query]
        weight = weight.to(values).reshape(1, *weight.shape, *[1] * (values.dim() - 2))
        return (picked * weight).sum(dim=2)

    return Multipliers(
        {i: over(s, mean) for i, s in start.multipliers.slopes.items()},
        gamma={p: over(g, used) for p, g in start.multipliers.gamma.items()},
    )
