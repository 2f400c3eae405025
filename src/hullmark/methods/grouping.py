"""From the names of grouping rules to groups of every layer's neurons."""

from collections.abc import Mapping

import numpy as np

from hullmark.bounds.alpha import Ascent, ascend
from hullmark.bounds.linear import backward
from hullmark.bounds.objective import Objective
from hullmark.bounds.relaxation import Relaxation
from hullmark.errors import BadInput
from hullmark.joint.groups import (
    BLOCK,
    OVERLAP,
    Grouping,
    adaptive,
    by_area,
    by_gain,
    overlapping,
    shuffled,
    subsets,
)
from hullmark.joint.store import Layer
from hullmark.lp.program import Indices, Vector
from hullmark.methods.names import SUBSETS, MethodOptions

_WEIGHING = Ascent(steps=20)


def layer_rule(options: MethodOptions, largest: int = SUBSETS) -> Grouping:
    """The rule "area", "overlap", "adaptive" or "random", which needs only a layer's bounds.

    A layer with fewer than k unstable neurons gives one group of them all.

    Arguments:
        options: with k and groups.
        largest: groups of more neurons become all their subsets of that size.

    Raises:
        BadInput: for another rule.
    """
    if options.groups not in ("area", "overlap", "adaptive", "random"):
        raise BadInput(f"groups by {options.groups} need more than the bounds of a layer")

    def rule(lower: Vector, upper: Vector) -> Indices:
        unstable = np.flatnonzero((lower < 0) & (upper > 0))
        k = min(options.size, len(unstable))
        if k == 0:
            return np.empty((0, 1), dtype=np.intp)
        if options.groups == "area":
            found = by_area(lower, upper, k)
        elif options.groups == "overlap":
            overlap = OVERLAP if options.overlap is None else options.overlap
            found = overlapping(lower, upper, k, min(overlap, k - 1), options.block or BLOCK)
        elif options.groups == "adaptive":
            found = adaptive(lower, upper, k) if k > 1 else by_area(lower, upper, k)
        else:
            found = shuffled(k, options.seed)(lower, upper)
        return _reduced(found, largest)

    return rule


def groups_of(
    relaxation: Relaxation, objective: Objective, options: MethodOptions, largest: int = SUBSETS
) -> Mapping[int, Indices]:
    """The groups of every rectifier that has unstable neurons, by any rule.

    Arguments:
        relaxation: of one domain, with bounds of every pre-activation.
        objective: what "gain" is about.
        options, largest: as for `layer_rule`.
    """
    program = relaxation.program
    layers = [Layer.of(program, i) for i in program.slopes]
    # Inputs are independent of each other, so that their joint hulls are those of each.
    layers = [layer for layer in layers if layer.pre in relaxation.bounds]
    if options.groups == "gain":
        found = {
            layer.post: _reduced(groups, largest)
            for layer, groups in _by_gain(relaxation, objective, layers, options.size)
        }
    else:
        rule = layer_rule(options, largest)
        found = {a.post: rule(*relaxation.ends(a.pre)) for a in layers}
    return {i: groups for i, groups in found.items() if len(groups)}


def _by_gain(
    relaxation: Relaxation, objective: Objective, layers: list[Layer], k: int
) -> list[tuple[Layer, Indices]]:
    """As many groups a layer as it has unstable neurons, chosen at the points of an ascent."""
    watch = tuple(j for layer in layers for j in (layer.pre, layer.post))
    seen = ascend(relaxation, objective, _WEIGHING, watch=watch)
    radius = ((relaxation.upper - relaxation.lower) / 2).flatten().double().cpu().numpy()
    found: list[tuple[Layer, Indices]] = []
    for layer in layers:
        lower, upper = relaxation.ends(layer.pre)
        unstable = np.flatnonzero((lower < 0) & (upper > 0))
        if layer.post not in seen.coefficients or not len(unstable):
            continue
        z, y, weights = (
            values[0].flatten(1).double().cpu().numpy()[:, unstable]
            for values in (
                seen.values[layer.pre],
                seen.values[layer.post],
                seen.coefficients[layer.post],
            )
        )
        slope = np.where(z > 0, layer.positive[unstable], layer.negative[unstable])
        size = min(k, len(unstable))
        if size == 1:
            found.append((layer, unstable[:, None]))
            continue
        reads = _reads(relaxation, layer.pre, unstable) * radius
        groups = by_gain(weights, y - slope * z, reads, size, len(unstable))
        found.append((layer, unstable[groups]))
    return found


def _reads(relaxation: Relaxation, node: int, neurons: Indices) -> Vector:
    """How neurons depend on the inputs by their linear lower bounds, `(len(neurons), n)`."""
    shape = relaxation.program.network.nodes[node].shape
    start = relaxation.lower.new_zeros(1, len(neurons), int(np.prod(shape)))
    start[0, range(len(neurons)), neurons.tolist()] = 1.0
    constant = relaxation.lower.new_zeros(1, 1)
    found = backward(relaxation, {node: start.reshape(1, -1, *shape)}, constant)
    return found.input[0].double().cpu().numpy()


def _reduced(groups: Indices, largest: int) -> Indices:
    return subsets(groups, largest) if groups.shape[1] > largest else groups
