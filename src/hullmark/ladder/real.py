"""Values that a network takes: the least margins that descents find, and what they surely are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from hullmark.bounds.methods import bound_margins
from hullmark.bounds.objective import Objective, objective_of
from hullmark.bounds.program import Program
from hullmark.network.ops import Array
from hullmark.spec.property import Case
from hullmark.spec.sets import Box

RESTARTS = 16
STEPS = 60
FIRST, LAST = 0.25, 0.001
"""The first and the last step of a descent, as fractions of the box."""

HELD = 8_000_000
"""Numbers that one batch of descents may hold, over all nodes."""


def descend(
    program: Program, box: Box, cases: Sequence[Case], seed: int, stop: Callable[[], bool]
) -> list[Array]:
    """For each case the input with the least margin that descents by gradient signs meet [PGD].

    Starts are the centre, random corners and random points.

    Arguments:
        cases: over this box.
        stop: ends all descents early.

    Returns:
        One input `(n,)` for each case, in the box rounded outwards to floats.
    """
    fast = program.single
    lower, upper = fast.tensor(box.lower), fast.tensor(box.upper)
    generator = torch.Generator(device="cpu").manual_seed(seed)
    size = max(1, HELD // (RESTARTS * sum(node.size for node in program.network.nodes)))
    found: list[Array] = []
    for first in range(0, len(cases), size):
        part = tuple(cases[first : first + size])
        noise = torch.rand(RESTARTS, len(part), box.size, generator=generator).to(lower)
        noise[0] = 0.5
        noise[1 : RESTARTS // 2] = (noise[1 : RESTARTS // 2] > 0.5).to(lower)
        objective = objective_of(program, part).cast(fast)
        with torch.enable_grad():
            best = _descend(fast, objective, lower + noise * (upper - lower), lower, upper, stop)
        found += list(best.double().cpu().numpy())
    return found


def _descend(
    program: Program,
    objective: Objective,
    x: Tensor,
    lower: Tensor,
    upper: Tensor,
    stop: Callable[[], bool],
) -> Tensor:
    """The best input met of each case, `(Q, n)`, from starts `(R, Q, n)`."""
    best, least = x, x.new_full(x.shape[:2], torch.inf)
    shrink = (LAST / FIRST) ** (1 / (STEPS - 1))
    step = (upper - lower) * FIRST
    for _ in range(STEPS):
        x = x.detach().requires_grad_()
        y = program.evaluate(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        margin = objective.margins(x, y).amax(dim=-1)
        better = margin < least
        best = torch.where(better.unsqueeze(-1), x.detach(), best)
        least = torch.where(better, margin.detach(), least)
        if stop() or not margin.requires_grad:
            break
        (gradient,) = torch.autograd.grad(margin.sum(), x)
        x = torch.minimum(torch.maximum(x - step * gradient.sign(), lower), upper)
        step = step * shrink
    start = least.argmin(dim=0)
    return best[start, torch.arange(best.shape[1], device=best.device)]


def value_at(program: Program, box: Box, case: Case, x: Array) -> float:
    """The margin of a case at an input, rounded up.

    Arguments:
        x: shape `(n,)`; moved into the box, rounded outwards to floats, if it is outside.

    Returns:
        Infinity where nothing is known.

    Trust: no less than the real margin at that input.
    """
    lower, upper = program.enclosing(box.lower, box.upper)
    at = torch.minimum(torch.maximum(program.tensor(x), lower), upper).unsqueeze(0)
    worst = -torch.inf
    for constraint in case.constraints:
        negated = replace(
            constraint,
            x=tuple((i, -v) for i, v in constraint.x),
            y=tuple((j, -v) for j, v in constraint.y),
            bound=-constraint.bound,
        )
        alone = objective_of(program, (replace(case, constraints=(negated,)),))
        worst = max(worst, -float(bound_margins(program, at, at, alone, "ibp")))
    return worst
