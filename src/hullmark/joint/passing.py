"""Which passing values and stable neurons an unstable neuron is relaxed jointly with.

Such groups pay where a value passes the layer unbent, so that what comes later can set it against
the neuron's output. Where all that reads a value is bent, groups of neurons know as much.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hullmark.bounds.relaxation import Relaxation
from hullmark.joint.store import Layer
from hullmark.network.graph import Network
from hullmark.network.ops import Affine

Array = NDArray[Any]
Groups = NDArray[np.intp]

SHARE = 0.1
"""The least part of what moves a neuron that a value must have to be relaxed with it."""

CARRIED = 0.9
"""From which share on a stable neuron carries a value past its layer."""

NEARLY = 1e-6
"""A neuron is as good as stable if so little of its interval lies on one side of zero."""

MOST = 500
"""How many pairs a layer may have, as `groups.MOST_CALLS`."""


def passing_groups(relaxation: Relaxation, layer: Layer) -> list[Groups]:
    """Pairs and triples of all unstable neurons of a layer with what passes them.

    Arguments:
        relaxation: of one domain, with bounds of the layer's pre-activation.
        layer: groups are of its coordinates; see `Layer.slopes` and `Layer.lifted`.
    """
    lower, upper = relaxation.ends(layer.pre)
    pairs = passing_pairs(relaxation, layer, np.flatnonzero((lower < 0) & (upper > 0)))
    return [pairs, passing_triples(layer, pairs)]


def passing_pairs(relaxation: Relaxation, layer: Layer, neurons: Array) -> Groups:
    """Pairs of a neuron and what may cancel with it, which is linear.

    A neuron is moved by each value that it reads by the weight times the radius of the value. It
    is paired with the values that pass the layer, by way of other nodes or in a stable neuron that
    little else moves, if they have a share of at least `SHARE` in what moves it, but not all; and
    with the stable neurons that share such a value, passing or not, if their sum or their
    difference is moved at most half as much as it is.

    Arguments:
        relaxation: of one domain, with bounds of the layer's pre-activation.
        layer: pairs are of its coordinates.
        neurons: which unstable neurons; flat indices `(u,)`.

    Returns:
        `(P, 2)`, each ascending; at most `MOST`, those of the largest neurons, by the area of
        their triangle.
    """
    if layer.weights is None or not len(neurons):
        return np.empty((0, 2), dtype=np.intp)
    lower, upper = layer.space.interval(relaxation)
    moved = layer.weights * ((upper - lower) / 2)[layer.size :]
    moved = np.where(np.isfinite(moved), moved, 0.0)
    total = np.abs(moved).sum(axis=1)
    share = np.abs(moved) / np.where(total > 0, total, 1.0)[:, None]
    heavy = share >= SHARE
    lower, upper = lower[: layer.size], upper[: layer.size]
    slope = np.where(upper > -lower, layer.positive, layer.negative)
    bent = np.minimum(-lower, upper) > NEARLY * (upper - lower)
    order = neurons[np.argsort((lower * upper)[neurons], kind="stable")]
    order = order[bent[order]]
    stable = np.flatnonzero(~bent & (slope != 0) & (total > 0))
    passes = _carried(relaxation.program.network, layer) | (share[stable] >= CARRIED).any(axis=0)
    # What reads one value, with weight 1 or -1, is that value.
    alone = np.isin(np.abs(layer.weights), (0.0, 1.0)).all(axis=1) & (share.max(axis=1) == 1)
    stable = stable[~alone[stable]]
    found: list[tuple[int, int]] = []
    for neuron in order.tolist():
        if len(found) >= MOST:
            break
        chosen = np.flatnonzero(heavy[neuron] & (share[neuron] < 1))
        found += [(neuron, layer.size + v) for v in chosen[passes[chosen]].tolist()]
        near = stable[heavy[stable][:, chosen].any(axis=1)]
        apart = [np.abs(moved[near] + s * moved[neuron]).sum(axis=1) for s in (1, -1)]
        near = near[np.minimum(*apart) <= total[neuron] * (0.5 + 1e-9)]
        found += [(min(neuron, other), max(neuron, other)) for other in near.tolist()]
    return np.array(found[:MOST], dtype=np.intp).reshape(-1, 2)


def passing_triples(layer: Layer, pairs: Groups) -> Groups:
    """Pairs of neurons that share a passing value, with the value.

    Arguments:
        pairs: of neurons and values, `(P, 2)`; others are passed over.

    Returns:
        `(T, 3)`, each ascending; of all the neurons of a value each with the next in `pairs`, so
        that there are fewer than pairs.
    """
    found: list[tuple[int, int, int]] = []
    last: dict[int, int] = {}
    for neuron, value in pairs[pairs[:, 1] >= layer.size].tolist():
        if value in last:
            found.append((min(neuron, last[value]), max(neuron, last[value]), value))
        last[value] = neuron
    return np.array(found, dtype=np.intp).reshape(-1, 3)


def _carried(network: Network, layer: Layer) -> Array:
    """Which values reach an affine node after the layer by affine nodes other than its own."""
    parts: list[Array] = []
    for source in layer.space.nodes[1:]:
        seen, waiting = {layer.pre}, [source]
        while waiting:
            for i in network.consumers[waiting.pop()]:
                if i not in seen and isinstance(network.nodes[i].op, Affine):
                    seen.add(i)
                    waiting.append(i)
        parts.append(np.full(network.nodes[source].size, max(seen) > layer.pre))
    return np.concatenate(parts)
