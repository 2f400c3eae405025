"""Looking for a counterexample: projected gradient descent on the property's own margins.

Starts are the centre, random corners and random points; every case of the property is attacked
at once, batched. Nothing here decides: a candidate becomes a witness only by exact replay
[PGD].
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hullmark.bounds.objective import Objective
from hullmark.bounds.program import Program
from hullmark.search.effort import Effort
from hullmark.search.witness import Replay
from hullmark.verdict import Witness

# Numbers that a batch of attack points may hold, over all nodes.
BATCH = 4_000_000
# Random points tried per case, at most, multiplications spent on them for all cases, and how
# many are evaluated at a time.
MOST_SAMPLES = 20_000
SAMPLING = 5e8
EVALUATED = 4096


@dataclass(frozen=True)
class Plan:
    """`restarts` per case, each of `steps` steps whose size shrinks from `first` to `last`,
    as fractions of the box."""

    restarts: int = 8
    steps: int = 30
    first: float = 0.25
    last: float = 0.01


@dataclass(frozen=True, eq=False)
class Target:
    """What is attacked: the boxes `(Q, n)` and rows of Q cases, of the indices `cases`."""

    lower: Tensor
    upper: Tensor
    objective: Objective
    cases: Tensor

    def part(self, chosen: Tensor) -> "Target":
        """Some of the cases."""
        return Target(
            self.lower[chosen],
            self.upper[chosen],
            self.objective.select(chosen),
            self.cases[chosen],
        )


def attack(
    program: Program, target: Target, replay: Replay, plan: Plan, effort: Effort, seed: int
) -> Witness | None:
    """Attack all cases; the first witness that replays, or None.

    Arguments:
        program: the network, in any precision.
        target: boxes and rows, on the program's device and in its precision.
        replay: turns candidates into witnesses.
        plan: restarts and steps.
        effort: stops the attack when its deadline expires.
        seed: of the random starts.
    """
    generator = torch.Generator(device="cpu").manual_seed(seed)
    size = max(1, BATCH // (sum(n.size for n in program.network.nodes) * plan.restarts))
    inexact: Witness | None = None
    for chosen in torch.split(torch.arange(len(target.cases)), size):
        if effort.deadline.expired():
            break
        part = target.part(chosen)
        starts = _starts(program, part, plan.restarts, generator)
        witness = descend(program, part, starts, replay, plan, effort)
        if replay.settles(witness):
            return witness
        inexact = inexact or witness
        effort.report("attack")
    return inexact


def descend(
    program: Program,
    target: Target,
    starts: Tensor,
    replay: Replay,
    plan: Plan,
    effort: Effort,
) -> Witness | None:
    """Descend from given starts `(Q, R, n)`, R for each case of the target; a witness, or None."""
    inexact: Witness | None = None
    points = _descend(program, target, starts, plan, effort)
    for x, case in _promising(target, points):
        witness = replay.confirm(x.double().cpu().numpy(), case)
        if replay.settles(witness):
            return witness
        inexact = inexact or witness
    return inexact


def _starts(program: Program, target: Target, restarts: int, generator: torch.Generator) -> Tensor:
    """Starting points `(Q, R, n)`: the centre, corners, and the best of many random points."""
    q, n = target.lower.shape
    some = int(SAMPLING / (q * program.work[-1]))
    samples = max(restarts, min(some, MOST_SAMPLES, BATCH // (q * n)))
    noise = torch.rand(q, samples + restarts, n, generator=generator).to(target.lower)
    noise[:, 0] = 0.5
    noise[:, 1:restarts] = (noise[:, 1:restarts] > 0.5).to(noise.dtype)
    lower, upper = target.lower.unsqueeze(1), target.upper.unsqueeze(1)
    x = lower + noise * (upper - lower)
    with torch.no_grad():
        rows = torch.split(x.reshape(-1, n), EVALUATED)
        y = torch.cat([program.evaluate(r) for r in rows]).reshape(
            q, -1, target.objective.y.shape[3]
        )
        margin = _worst(target.objective, x, y)
    sure = -(-restarts // 2)
    best = torch.topk(margin[:, sure:], restarts - sure, dim=1, largest=False).indices + sure
    picked = x.gather(1, best.unsqueeze(2).expand(-1, -1, n))
    return torch.cat([x[:, :sure], picked], dim=1)


def _worst(objective: Objective, x: Tensor, y: Tensor) -> Tensor:
    """The margin of each point, `(Q, R)`: the largest of its case's rows."""
    return _margins(objective, x, y).amax(dim=-1)


def _margins(objective: Objective, x: Tensor, y: Tensor) -> Tensor:
    # An objective of batch 1 whose queries are the cases; points are grouped the same way.
    values = y @ objective.y[0].transpose(1, 2) - objective.bound[0].unsqueeze(1)
    if objective.x is not None:
        values = values + x @ objective.x[0].transpose(1, 2)
    return values.masked_fill(~objective.used[0].unsqueeze(1), -torch.inf)


def _descend(
    program: Program, target: Target, x: Tensor, plan: Plan, effort: Effort
) -> tuple[Tensor, Tensor]:
    """The best point met from each start, `(Q, R, n)`, and its margin."""
    lower, upper = target.lower.unsqueeze(1), target.upper.unsqueeze(1)
    q, r, n = x.shape
    best, best_margin = x, x.new_full((q, r), torch.inf)
    shrink = (plan.last / plan.first) ** (1 / max(1, plan.steps - 1))
    step = (upper - lower) * plan.first
    for _ in range(plan.steps + 1):
        x = x.detach().requires_grad_()
        y = program.evaluate(x.reshape(q * r, n)).reshape(q, r, -1)
        margin = _worst(target.objective, x, y)
        effort.attack_points += q * r
        better = margin < best_margin
        best = torch.where(better.unsqueeze(-1), x.detach(), best)
        best_margin = torch.where(better, margin.detach(), best_margin)
        if bool((best_margin <= 0).any()) or effort.deadline.expired():
            break
        if not margin.requires_grad or not bool(torch.isfinite(margin).all()):
            break
        (gradient,) = torch.autograd.grad(margin.sum(), x)
        x = torch.minimum(torch.maximum(x - step * gradient.sign(), lower), upper)
        step = step * shrink
    return best, best_margin


def _promising(target: Target, points: tuple[Tensor, Tensor]) -> list[tuple[Tensor, int]]:
    """The points that are, or nearly are, violations, best first; at most a few."""
    x, margin = points
    flat = margin.flatten()
    order = torch.argsort(flat)[:4]
    scale = 1e-4 * (1 + target.objective.bound.abs().amax())
    r = x.shape[1]
    return [
        (x[k // r, k % r], int(target.cases[k // r]))
        for k in order.tolist()
        if float(flat[k]) <= float(scale)
    ]
