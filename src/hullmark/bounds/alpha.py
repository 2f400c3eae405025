"""Dual ascent: slopes, split multipliers and row mixes that make a backward bound better.

α-CROWN [alpha-CROWN] and β-CROWN [beta-CROWN] with a gradient written out by hand: the bound is
the value of the chosen rows at the pass's own primal point, so one forward pass of that point
gives the derivative by every slope (coefficient times pre-activation) and by every multiplier.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hullmark.bounds.activations import adjustable
from hullmark.bounds.linear import CHUNK, Dual, Pass, backward, primal, propagate, seed
from hullmark.bounds.objective import Objective
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation
from hullmark.network.ops import Rectifier


@dataclass(frozen=True)
class Ascent:
    """How long and how fast to ascend; rates are Adam's, multiplied by `decay` each step."""

    steps: int = 20
    slope_rate: float = 0.1
    split_rate: float = 0.05
    mix_rate: float = 0.3
    decay: float = 0.97


@dataclass(frozen=True, eq=False)
class Ascended:
    """The best bounds `(B, Q)` and slopes, the last multipliers, mix and primal input."""

    lower: Tensor
    slopes: dict[int, Tensor]
    beta: dict[int, Tensor]
    mix: Tensor | None
    point: Tensor


class Adam:
    """Adam ascent on a set of tensors, in place; each tensor with its own rate."""

    def __init__(self) -> None:
        self._moments: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}
        self._step = 0

    def tick(self) -> None:
        """Begin the next step."""
        self._step += 1

    def climb(self, key: tuple[str, int], value: Tensor, gradient: Tensor, rate: float) -> None:
        """One step of `value` along `gradient`."""
        if key not in self._moments:
            self._moments[key] = (torch.zeros_like(value), torch.zeros_like(value))
        first, second = self._moments[key]
        first.lerp_(gradient, 0.1)
        second.mul_(0.99).addcmul_(gradient, gradient, value=0.01)
        correction = (1 - 0.99**self._step) ** 0.5 / (1 - 0.9**self._step)
        value.addcdiv_(first, second.sqrt().add_(1e-12), value=rate * correction)


def slope_ranges(relaxation: Relaxation) -> dict[int, tuple[Tensor, Tensor]]:
    """For each rectifier built so far the least and largest sound lower slope, `(B, *shape)`."""
    ranges: dict[int, tuple[Tensor, Tensor]] = {}
    for i in relaxation.program.slopes:
        if i not in relaxation.lines:
            continue
        node = relaxation.program.network.nodes[i]
        if not isinstance(node.op, Rectifier):
            continue
        turns = adjustable(node.op, *relaxation.interval(node.inputs[0]))
        fixed = relaxation.lines[i].lower_slope
        ranges[i] = (
            torch.where(turns.lower, turns.least, fixed),
            torch.where(turns.lower, turns.greatest, fixed),
        )
    return ranges


def initial_slopes(relaxation: Relaxation, queries: int, top: int) -> dict[int, Tensor]:
    """The relaxation's own lower slopes as free ones, `(B, queries, *shape)`, below `top`."""
    return {
        i: relaxation.lines[i].lower_slope.unsqueeze(1).repeat(1, queries, *[1] * (s.dim()))
        for i, (s, _) in relaxation.program.slopes.items()
        if i in relaxation.lines and i < top
    }


def ascend(
    relaxation: Relaxation,
    objective: Objective,
    ascent: Ascent,
    slopes: dict[int, Tensor] | None = None,
    splits: dict[int, Tensor] | None = None,
    warm: tuple[dict[int, Tensor], Tensor | None] = ({}, None),
) -> Ascended:
    """Maximise the bound of every query of an objective over slopes, multipliers and mix.

    Arguments:
        relaxation: complete, with all pre-activation bounds.
        objective: Q queries per domain.
        ascent: steps and rates.
        slopes: starting slopes `(B, Q, *shape)`; taken over and changed in place.
        splits: signs (1: `z >= 0`, -1: `z <= 0`, 0: none) per pre-activation, `(B, *shape)`.
        warm: starting multipliers `(B, 1, *shape)` >= 0 per pre-activation, and mix.

    Trust: `lower` is the maximum of bounds that each hold in real arithmetic.
    """
    relaxation.advance(len(relaxation.program.network.nodes) - 1)
    batch, queries = relaxation.batch, objective.y.shape[1]
    last = len(relaxation.program.network.nodes) - 1
    slopes = initial_slopes(relaxation, queries, last + 1) if slopes is None else slopes
    ranges = slope_ranges(relaxation)
    for i, s in slopes.items():
        _clamp(s, ranges[i])
    signs = {j: s.unsqueeze(1) for j, s in (splits or {}).items()}
    beta = {j: warm[0].get(j, torch.zeros_like(s)) for j, s in signs.items()}
    mix = objective.uniform() if warm[1] is None else warm[1]
    mix = mix.expand(batch, -1, -1).clone()
    adam, rate = Adam(), 1.0
    best: Tensor | None = None
    kept: dict[int, Tensor] = {}
    point = relaxation.lower
    for step in range(ascent.steps + 1):
        dual = Dual(slopes, {j: beta[j] * signs[j] for j in beta})
        found = backward(relaxation, *objective.mixed(relaxation, mix), dual, record=True)
        if best is None:
            best, kept = found.lower, {i: s.clone() for i, s in slopes.items()}
        else:
            better = found.lower > best
            best = torch.where(better, found.lower, best)
            for i, s in slopes.items():
                where = better.reshape(batch, queries, *[1] * (s.dim() - 2))
                kept[i] = torch.where(where, s, kept[i])
        values = primal(relaxation, found, dual)
        point = values[0].flatten(2)
        if step == ascent.steps:
            break
        adam.tick()
        _climb_slopes(adam, relaxation, found, values, slopes, rate * ascent.slope_rate)
        for i, s in slopes.items():
            _clamp(s, ranges[i])
        for j, b in beta.items():
            if j in values:
                gradient = (-signs[j] * values[j]).sum(dim=1, keepdim=True)
                adam.climb(("split", j), b, gradient, rate * ascent.split_rate)
                b.clamp_(min=0)
        if objective.rows > 1:
            _climb_mix(adam, objective, values, last, mix, rate * ascent.mix_rate)
        rate *= ascent.decay
    if best is None:
        raise ValueError("an ascent needs at least one pass")
    return Ascended(best, kept, beta, mix, point)


def _clamp(slope: Tensor, limits: tuple[Tensor, Tensor]) -> None:
    torch.minimum(slope, limits[1].unsqueeze(1), out=slope)
    torch.maximum(slope, limits[0].unsqueeze(1), out=slope)


def _climb_slopes(
    adam: Adam,
    relaxation: Relaxation,
    found: Pass,
    values: dict[int, Tensor],
    slopes: dict[int, Tensor],
    rate: float,
) -> None:
    for i, s in slopes.items():
        if i in found.coefficients:
            j = relaxation.program.network.nodes[i].inputs[0]
            adam.climb(("slope", i), s, found.coefficients[i].clamp(min=0) * values[j], rate)


def _climb_mix(
    adam: Adam,
    objective: Objective,
    values: dict[int, Tensor],
    last: int,
    mix: Tensor,
    rate: float,
) -> None:
    """A step on the simplex: multiply each row's weight by an exponential of its margin."""
    margins = objective.margins(values[0].flatten(2), values[last].flatten(2))
    logits = mix.clamp(min=1e-12).log()
    finite = margins.masked_fill(~objective.used, 0.0)
    gradient = mix * (finite - (mix * finite).sum(-1, keepdim=True))
    adam.climb(("mix", 0), logits, gradient, rate)
    mix.copy_(torch.softmax(logits.masked_fill(~objective.used, -torch.inf), dim=-1))


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
    piece = max(1, CHUNK // (relaxation.batch * max(4 * total, largest)))
    ranges = slope_ranges(relaxation)
    sides: list[Tensor] = []
    for sign in (1, -1):
        found: list[Tensor] = []
        for part in torch.split(neurons, piece, dim=-1):
            start, constant = seed(relaxation, node, part, sign)
            slopes = initial_slopes(relaxation, part.shape[-1], node)
            found.append(_ascend_fixed(relaxation, start, constant, (slopes, ranges), ascent))
        sides.append(torch.cat(found, dim=1))
    return sides[0], -sides[1]


def _ascend_fixed(
    relaxation: Relaxation,
    start: dict[int, Tensor],
    constant: Tensor,
    free: tuple[dict[int, Tensor], dict[int, tuple[Tensor, Tensor]]],
    ascent: Ascent,
) -> Tensor:
    slopes, ranges = free
    adam, rate = Adam(), ascent.slope_rate
    best: Tensor | None = None
    for step in range(ascent.steps + 1):
        dual = Dual(slopes)
        found = backward(relaxation, start, constant, dual, record=True)
        best = found.lower if best is None else torch.maximum(best, found.lower)
        if step == ascent.steps:
            break
        adam.tick()
        values = primal(relaxation, found, dual)
        _climb_slopes(adam, relaxation, found, values, slopes, rate)
        for i, s in slopes.items():
            _clamp(s, ranges[i])
        rate *= ascent.decay
    if best is None:
        raise ValueError("an ascent needs at least one pass")
    return best


def unstable_neurons(program: Program, relaxation: Relaxation, node: int) -> Tensor:
    """Flat indices of the neurons of a pre-activation whose sign is open on some domain."""
    lower, upper = relaxation.bounds[node]
    open_sign = ((lower < 0) & (upper > 0)).flatten(1).any(dim=0)
    smooth = any(
        i not in program.slopes
        for i in program.network.consumers[node]
        if i in set(program.nonlinear)
    )
    if smooth:
        open_sign = (upper > lower).flatten(1).any(dim=0)
    return open_sign.nonzero().squeeze(1)


def propagate_optimised(relaxation: Relaxation, ascent: Ascent) -> None:
    """Bound every pre-activation in order, with optimised slopes wherever its sign is open."""
    program = relaxation.program
    for j in program.pre_activations:
        if j == 0:
            continue
        propagate(relaxation, upto=j)
        neurons = unstable_neurons(program, relaxation, j)
        earlier = any(i < j for i in program.slopes)
        if len(neurons) == 0 or not earlier:
            continue
        lower, upper = tighten(relaxation, j, neurons, ascent)
        shape = relaxation.bounds[j][0].shape
        old_lower, old_upper = (b.flatten(1).clone() for b in relaxation.bounds[j])
        old_lower[:, neurons] = torch.maximum(old_lower[:, neurons], lower)
        old_upper[:, neurons] = torch.minimum(old_upper[:, neurons], upper)
        relaxation.set_bounds(j, old_lower.reshape(shape), old_upper.reshape(shape))
