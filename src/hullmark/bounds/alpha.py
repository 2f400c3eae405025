"""Dual ascent: slopes, split multipliers and row mixes that make a backward bound better.

α-CROWN [alpha-CROWN] and β-CROWN [beta-CROWN] with a gradient written out by hand: the bound is
the value of the chosen rows at the pass's own primal point, so one forward pass of that point
gives the derivative by every slope (coefficient times pre-activation) and by every multiplier.
The ascent runs in float32 and pays for no rounding; its best multipliers then take one charged
pass in the relaxation's own precision, which is the bound.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from hullmark.bounds.activations import adjustable
from hullmark.bounds.aims import Aim, split_aim
from hullmark.bounds.linear import (
    CHUNK,
    Dual,
    Pass,
    backward,
    primal,
)
from hullmark.bounds.objective import Objective
from hullmark.bounds.relaxation import Relaxation, never
from hullmark.network.ops import Rectifier


@dataclass(frozen=True)
class Ascent:
    """How long and how fast to ascend; rates are Adam's, multiplied by `decay` each step.

    `work` bounds the multiplications spent on the neurons of one pre-activation, at the price
    of steps; `stop` ends an ascent early.
    """

    steps: int = 20
    slope_rate: float = 0.1
    split_rate: float = 0.05
    mix_rate: float = 0.3
    row_rate: float = 0.02
    decay: float = 0.97
    work: float = 4e10
    stop: Callable[[], bool] = never


@dataclass(frozen=True, eq=False)
class Multipliers:
    """Where an ascent starts, and where it ends.

    `slopes[i]` `(B, Q, *shape)` per rectifier; `signs[j]` (1: `z >= 0`, -1: `z <= 0`, 0: none)
    and `beta[j] >= 0`, both `(B, 1, *shape)`, per pre-activation; `mix` `(B, Q, m)`; `gamma[p]`
    `(B, Q, R)`, at least 0, per pool of joint rows.
    """

    slopes: dict[int, Tensor]
    signs: dict[int, Tensor] = field(default_factory=dict[int, Tensor])
    beta: dict[int, Tensor] = field(default_factory=dict[int, Tensor])
    mix: Tensor | None = None
    gamma: dict[int, Tensor] = field(default_factory=dict[int, Tensor])

    def dual(self) -> Dual:
        """The slopes and signed multipliers of a backward pass."""
        push = {j: b * self.signs[j] for j, b in self.beta.items()}
        return Dual(self.slopes, push, self.gamma)

    def take(self, queries: slice) -> "Multipliers":
        """Those of some queries; for multipliers without splits and mixes."""
        slopes = {i: s[:, queries] for i, s in self.slopes.items()}
        return Multipliers(slopes, gamma={p: g[:, queries] for p, g in self.gamma.items()})


@dataclass(frozen=True, eq=False)
class Ascended:
    """What an ascent found.

    `lower` `(B, Q)` and `best`: the bounds and the multipliers that gave them; `final`: the last
    multipliers, from which a further ascent does better than from the best; `point` `(B, Q, n)`:
    the last primal input; `values[j]` `(B, Q, *shape)`: the mean of the last third of the primal
    points at the nodes that were asked for, and `coefficients[i]` the last coefficients on those
    of them that are nonlinear, both in the precision of the search.
    """

    lower: Tensor
    best: Multipliers
    final: Multipliers
    point: Tensor
    values: dict[int, Tensor]
    coefficients: dict[int, Tensor]


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
    aim: Aim,
    ascent: Ascent,
    start: Multipliers | None = None,
    watch: tuple[int, ...] = (),
) -> Ascended:
    """Maximise the bound of every query over slopes, split multipliers and row mix.

    Arguments:
        relaxation: built up to the aim, with all pre-activation bounds.
        aim: Q queries per domain.
        ascent: steps and rates.
        start: where to start; its tensors are left alone. The relaxation's own lines if None.
        watch: the nodes whose values at the primal points are wanted.

    Trust: `lower` holds in real arithmetic, whatever the multipliers.
    """
    nodes = relaxation.program.network.nodes
    last = len(nodes) - 1 if isinstance(aim, Objective) else aim.node
    # What is assumed of the last node tells of every node below it.
    top = len(nodes) if relaxation.assumes else last
    relaxation.advance(min(top, len(nodes) - 1))
    start = _completed(relaxation, start, aim.queries, top)
    climbed = _Climb(start, start, relaxation.lower.flatten(1).unsqueeze(1), {}, {})
    chosen = start.slopes or start.gamma or start.beta or aim.rows > 1
    if ascent.steps and chosen:
        scout = relaxation.sketch(relaxation.program.single)
        climbed = _climb(scout, aim.cast(scout.program), ascent, start, watch)
    exact, mix = _settled(relaxation, climbed.best, aim)
    found = backward(relaxation, *aim.mixed(relaxation, mix), exact.dual())
    # A query without rows holds nowhere, and there is nothing that could be mixed for it.
    lower = torch.where(mix.sum(dim=-1) > 0, found.lower, -torch.inf)
    point = climbed.point.to(relaxation.lower)
    return Ascended(lower, exact, climbed.final, point, climbed.values, climbed.coefficients)


def ascend_in_pieces(
    relaxation: Relaxation,
    aim: Aim,
    ascent: Ascent,
    start: Multipliers | None = None,
    watch: tuple[int, ...] = (),
) -> Ascended:
    """`ascend` for many queries, in parts that fit into a cache one after the other.

    For aims of one row a query and relaxations without splits.
    """
    largest = max(n.size for n in relaxation.program.network.nodes)
    piece = max(8, CHUNK // (relaxation.batch * largest))
    if aim.queries <= piece:
        return ascend(relaxation, aim, ascent, start, watch)
    found = [
        ascend(relaxation, part, ascent, None if start is None else start.take(place), watch)
        for place, part in split_aim(aim, piece)
    ]
    return Ascended(
        torch.cat([f.lower for f in found], dim=1),
        _side_by_side([f.best for f in found]),
        _side_by_side([f.final for f in found]),
        torch.cat([f.point for f in found], dim=1),
        {j: torch.cat([f.values[j] for f in found], dim=1) for j in found[0].values},
        {j: torch.cat([f.coefficients[j] for f in found], dim=1) for j in found[0].coefficients},
    )


def _side_by_side(parts: list[Multipliers]) -> Multipliers:
    first = parts[0]
    return Multipliers(
        {i: torch.cat([p.slopes[i] for p in parts], dim=1) for i in first.slopes},
        gamma={k: torch.cat([p.gamma[k] for p in parts], dim=1) for k in first.gamma},
    )


def _completed(
    relaxation: Relaxation, start: Multipliers | None, queries: int, top: int
) -> Multipliers:
    """The start with slopes for every rectifier and multipliers for every row below `top`: the
    relaxation's own lines, and 0."""
    slopes = initial_slopes(relaxation, queries, top + 1)
    if start is None:
        start = Multipliers({})
    gamma: dict[int, Tensor] = {}
    for p, pool in relaxation.pools.items():
        if pool.top >= top:
            continue
        gamma[p] = pool.zeros(queries)
        known = start.gamma.get(p)
        if known is not None:
            gamma[p][:, :, : known.shape[2]] = known
    return Multipliers(slopes | start.slopes, start.signs, start.beta, start.mix, gamma)


def _settled(relaxation: Relaxation, found: Multipliers, aim: Aim) -> tuple[Multipliers, Tensor]:
    """Multipliers in the relaxation's own precision, each within its range; and their mix."""
    dtype = relaxation.lower.dtype
    slopes = {i: s.to(dtype, copy=True) for i, s in found.slopes.items()}
    _clamp(slopes, slope_ranges(relaxation))
    uniform = aim.uniform().to(dtype)
    mix = uniform if found.mix is None else _convex(found.mix.to(dtype), uniform)
    signs = {j: s.to(dtype) for j, s in found.signs.items()}
    beta = {j: b.to(dtype).clamp(min=0) for j, b in found.beta.items()}
    gamma = {p: g.to(dtype).clamp(min=0) for p, g in found.gamma.items()}
    return Multipliers(slopes, signs, beta, mix, gamma), mix


def _convex(mix: Tensor, uniform: Tensor) -> Tensor:
    """A mix of the rows that there are; where it is none that sums to 1, the uniform one.

    A negative multiplier bounds nothing, and what sums to less than 1 bounds another margin.
    """
    mix = torch.where(uniform > 0, mix, 0.0).clamp(min=0)
    total = mix.sum(dim=-1, keepdim=True)
    usable = total.isfinite() & (total >= torch.finfo(mix.dtype).tiny)
    return torch.where(usable, mix / total, uniform)


class _Climb(NamedTuple):
    """The best multipliers met, per query (those of splits: per domain), the last, the last
    point, and at the nodes watched the mean of the late points and the last coefficients."""

    best: Multipliers
    final: Multipliers
    point: Tensor
    values: dict[int, Tensor]
    coefficients: dict[int, Tensor]


def _climb(
    scout: Relaxation, aim: Aim, ascent: Ascent, start: Multipliers, watch: tuple[int, ...]
) -> _Climb:
    batch, queries = scout.batch, aim.queries
    now, mix = _settled(scout, start, aim)
    mix = mix.expand(batch, -1, -1).clone()
    now = Multipliers(now.slopes, now.signs, now.beta, mix, now.gamma)
    ranges = slope_ranges(scout)
    adam, rate = Adam(), 1.0
    highest = torch.full((batch, queries), -torch.inf, dtype=mix.dtype, device=mix.device)
    best, point = now, scout.lower.flatten(1).unsqueeze(1)
    total, late = dict[int, Tensor](), 0
    last: dict[int, Tensor] = {}
    for step in range(ascent.steps + 1):
        dual = now.dual()
        found = backward(scout, *aim.mixed(scout, mix), dual, record=True)
        best = _keep_best(best, now, found.lower > highest, first=step == 0)
        highest = torch.maximum(highest, found.lower)
        values = primal(scout, found, dual)
        point = values[0].flatten(2)
        ends = step == ascent.steps or ascent.stop()
        if watch and (ends or 3 * step >= 2 * ascent.steps):
            late += 1
            total = {j: values[j] + total[j] if j in total else values[j] for j in watch}
        if ends:
            last = {j: found.coefficients[j] for j in watch if j in found.coefficients}
            break
        adam.tick()
        _climb_lines(adam, scout, found, values, now, rate * ascent.slope_rate)
        _clamp(now.slopes, ranges)
        for j, b in now.beta.items():
            if j in values:
                gradient = (-now.signs[j] * values[j]).sum(dim=1, keepdim=True)
                adam.climb(("split", j), b, gradient, rate * ascent.split_rate)
                b.clamp_(min=0)
        for p, g in now.gamma.items():
            excess = scout.pools[p].excess(values)
            adam.climb(("row", p), g, excess, rate * ascent.row_rate)
            g.clamp_(min=0)
        if isinstance(aim, Objective) and aim.rows > 1:
            _climb_mix(adam, aim, values, mix, rate * ascent.mix_rate)
        rate *= ascent.decay
    means = {j: v / late for j, v in total.items()}
    return _Climb(best, now, point, means, last)


def _climb_lines(
    adam: Adam,
    scout: Relaxation,
    found: Pass,
    values: dict[int, Tensor],
    now: Multipliers,
    rate: float,
) -> None:
    for i, s in now.slopes.items():
        if i in found.coefficients:
            z = values[scout.program.network.nodes[i].inputs[0]]
            gradient = found.coefficients[i].clamp(min=0) * z
            adam.climb(("slope", i), s, gradient, rate)


def _keep_best(best: Multipliers, now: Multipliers, better: Tensor, first: bool) -> Multipliers:
    if first:
        better = torch.ones_like(better)

    def pick(old: Tensor, new: Tensor, where: Tensor) -> Tensor:
        return torch.where(where.reshape(*where.shape, *[1] * (new.dim() - 2)), new, old)

    shared = better.any(dim=1, keepdim=True)
    mix = None
    if now.mix is not None and best.mix is not None:
        mix = pick(best.mix, now.mix, better)
    return Multipliers(
        {i: pick(best.slopes[i], s, better) for i, s in now.slopes.items()},
        now.signs,
        {j: pick(best.beta[j], b, shared) for j, b in now.beta.items()},
        mix,
        {p: pick(best.gamma[p], g, better) for p, g in now.gamma.items()},
    )


def _clamp(slopes: dict[int, Tensor], ranges: dict[int, tuple[Tensor, Tensor]]) -> None:
    for i, slope in slopes.items():
        torch.minimum(slope, ranges[i][1].unsqueeze(1), out=slope)
        torch.maximum(slope, ranges[i][0].unsqueeze(1), out=slope)


def _climb_mix(
    adam: Adam, objective: Objective, values: dict[int, Tensor], mix: Tensor, rate: float
) -> None:
    """A step on the simplex, by the margins of the rows at the primal point."""
    margins = objective.margins(values[0].flatten(2), values[max(values)].flatten(2))
    logits = mix.clamp(min=1e-12).log()
    finite = margins.masked_fill(~objective.used, 0.0)
    gradient = mix * (finite - (mix * finite).sum(-1, keepdim=True))
    adam.climb(("mix", 0), logits, gradient, rate)
    logits = logits.masked_fill(~objective.used, -torch.inf)
    mix.copy_(torch.nan_to_num(torch.softmax(logits, dim=-1)))
