"""Short plans of mining over small networks, and what is exactly true of them."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import torch
from segments import Pieces
from test_pools import DTYPES, true_rows

from hullmark.bounds.objective import Objective, objective_of
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation
from hullmark.joint.mine import Mining
from hullmark.joint.mined import mined_margins
from hullmark.joint.tighten import Miner, Plan
from hullmark.network import ops
from hullmark.network.graph import Builder, Network
from hullmark.spec.property import Case
from hullmark.spec.sets import Box

PLAN = Plan(
    rounds=1,
    steps=8,
    objective_rounds=1,
    objective_steps=10,
    row_rate=0.1,
    mining=Mining(triples=6, coarse=2, fine=4),
)


class Calls:
    """Says to stop once it has been asked so often."""

    def __init__(self, limit: int) -> None:
        self.left = limit

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0

    @property
    def over(self) -> bool:
        return self.left < 0


def moved(cases: tuple[Case, ...], by: Fraction) -> tuple[Case, ...]:
    """The same cases, all rows of which are greater by that much."""
    return tuple(
        Case(c.box, tuple(replace(r, bound=r.bound - by) for r in c.constraints), c.output_size)
        for c in cases
    )


def margins_on(cases: tuple[Case, ...], known: Pieces) -> np.ndarray:
    """Exact margins `(cases, N)` at the ends of pieces."""
    x, y = known.values[0], known.values[-1]
    margins = [[max(true_rows(c, x[k], y[k])) for k in range(len(x))] for c in cases]
    return np.array(margins, dtype=object)


def mined(
    network: Network, cases: tuple[Case, ...], dtype: str = "float64", plan: Plan = PLAN
) -> tuple[list[float], int]:
    """The bounds of all cases over the box of the first, and the number of rows."""
    program = Program.compile(network, dtype=DTYPES[dtype])
    box = program.enclosing(cases[0].box.lower, cases[0].box.upper)
    found = mined_margins(program, *box, objective_of(program, cases), plan)
    return found.lower.double().tolist(), sum(found.rows.values())


def miner_of(network: Network, box: Box, dtype: str, plan: Plan = PLAN) -> Miner:
    program = Program.compile(network, dtype=DTYPES[dtype])
    low, high = program.enclosing(box.lower, box.upper)
    return Miner(Relaxation(program, low.unsqueeze(0), high.unsqueeze(0)), plan)


def plain(program: Program, y: np.ndarray) -> Objective:
    shape = y.shape[:3]
    used = torch.ones(*shape, dtype=torch.bool)
    return Objective(program.tensor(y), None, program.tensor(np.zeros(shape)), used, 0.0)


def dense(*sizes: int, scale: float = 1.0, op: ops.Op | None = None) -> Network:
    rng, builder, at = np.random.default_rng(0), Builder((sizes[0],)), 0
    for k, (n, m) in enumerate(pairwise(sizes)):
        at = builder.add(op or ops.Rectifier(), at) if k else at
        at = builder.add(ops.Dense(rng.normal(size=(m, n)) * scale, rng.normal(size=m)), at)
    return builder.build(at)
