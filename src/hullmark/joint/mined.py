"""The method `mined`: bounds of an objective over one box with joint rows, and no branching."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hullmark.bounds.objective import Objective
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation
from hullmark.bounds.rounding import certain, faithful_arithmetic
from hullmark.joint.tighten import Miner, Plan


@dataclass(frozen=True, eq=False)
class Mined:
    """Lower bounds `(Q,)` of an objective's queries, and how many joint rows they rest on.

    `rows[i]`: rows on rectifier node i. `relaxation`: the last relaxation that holds everywhere.
    """

    lower: Tensor
    rows: dict[int, int]
    relaxation: Relaxation


@faithful_arithmetic()
@torch.no_grad()
def mined_margins(
    program: Program, lower: Tensor, upper: Tensor, objective: Objective, plan: Plan
) -> Mined:
    """Bounds of every query of an objective over one box.

    Arguments:
        program: the compiled network.
        lower, upper: the box, `(input_size,)`, of the program's device and precision.
        objective: the queries, batch 1.
        plan: what to spend.

    Trust: each bound that is not positive holds for every point where its query is the least of
    all, so that the least of the bounds holds for the least of the queries everywhere; if all are
    positive, so is every query everywhere. Rounding is charged.
    """
    miner = Miner(Relaxation(program, lower.unsqueeze(0), upper.unsqueeze(0)), plan)
    miner.propagate()
    found = mined_bounds(miner, objective)
    rows = {i: len(mine.found) for i, mine in miner.mines.items()}
    return Mined(found, rows, miner.relaxation)


def mined_bounds(miner: Miner, objective: Objective) -> Tensor:
    """The bounds `(Q,)` of `mined_margins`, by a miner that has bounded every pre-activation."""
    found = torch.full((objective.queries,), -torch.inf).to(miner.relaxation.lower)
    # Of a query without rows nothing can be said.
    asked = objective.used[0].any(dim=1).nonzero().squeeze(1)
    if len(asked) == objective.queries:
        found = miner.margins(objective)
    elif len(asked):
        found[asked] = miner.bound(objective.select(asked)).lower[0]
    return certain(found)
