"""Bounds of every pre-activation with optimised slopes, layer by layer."""

import torch
from torch import Tensor

from hullmark.bounds.aims import Neurons
from hullmark.bounds.alpha import Ascent, ascend
from hullmark.bounds.linear import CHUNK, propagate, unstable_neurons
from hullmark.bounds.relaxation import Relaxation


def tighten(
    relaxation: Relaxation, node: int, neurons: Tensor, ascent: Ascent
) -> tuple[Tensor, Tensor]:
    """Optimised lower and upper bounds `(B, Q)` of chosen neurons of one pre-activation.

    Every neuron and side has slopes of its own; pieces that fit into memory run in turn.
    """
    relaxation.advance(node)
    nodes = relaxation.program.network.nodes
    total = sum(nodes[i].size for i in relaxation.program.slopes if i < node)
    largest = max(n.size for n in nodes[: node + 1])
    piece = max(1, 4 * CHUNK // (relaxation.batch * max(4 * total, largest)))
    spent = 4.0 * relaxation.batch * neurons.shape[-1] * relaxation.program.work[node]
    steps = max(min(ascent.steps, int(ascent.work / spent)), 0)
    sides: list[Tensor] = []
    for sign in (1, -1):
        found: list[Tensor] = []
        for part in torch.split(neurons, piece, dim=-1):
            more = Ascent(steps, ascent.slope_rate, decay=ascent.decay, stop=ascent.stop)
            found.append(ascend(relaxation, Neurons(node, part, sign), more).lower)
        sides.append(torch.cat(found, dim=1))
    return sides[0], -sides[1]


def propagate_optimised(relaxation: Relaxation, ascent: Ascent, sieve: bool = False) -> None:
    """Bound every pre-activation in order, with optimised slopes wherever its sign is open.

    Arguments as for `propagate`.
    """
    program = relaxation.program
    for j in program.pre_activations:
        if j == 0:
            continue
        propagate(relaxation, j, sieve)
        neurons = unstable_neurons(relaxation, j)
        earlier = any(i < j for i in program.slopes)
        if len(neurons) and earlier and not ascent.stop():
            relaxation.refine(j, neurons, *tighten(relaxation, j, neurons, ascent))
