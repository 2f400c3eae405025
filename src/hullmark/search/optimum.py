"""The least value of a linear function of a network's outputs over a box, to within a gap."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from hullmark.bounds.alpha import Ascent, ascend
from hullmark.bounds.linear import propagate
from hullmark.bounds.methods import bound_margins
from hullmark.bounds.objective import Objective, objective_of
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation
from hullmark.bounds.rounding import faithful_arithmetic
from hullmark.errors import BadInput
from hullmark.network.graph import Network
from hullmark.network.ops import Array
from hullmark.search.boxes import BoxTree
from hullmark.search.effort import Effort
from hullmark.search.judge import IncumbentJudge
from hullmark.search.neurons import NeuronTree
from hullmark.spec.property import Case, Constraint
from hullmark.spec.sets import Box
from hullmark.verdict import Options, Silent

ROOT = Ascent(steps=20)
MEMORY = 2 << 30


@dataclass(frozen=True, eq=False)
class Optimum:
    """A minimum between two bounds, and a point near it.

    Arguments:
        lower: no point of the box has a lesser value.
        upper: the value at `point` is at most this; infinity without a point.
        point: input `(n,)` in the box; None if time ran out before one was tried.

    Trust: both bounds hold in real arithmetic, rounding charged outwards.
    """

    lower: float
    upper: float
    point: Array | None


@faithful_arithmetic()
@torch.no_grad()
def minimise(
    network: Network,
    box: Box,
    row: Array,
    gap: float = 1e-6,
    splitting: Literal["inputs", "neurons"] | None = None,
    options: Options | None = None,
) -> Optimum:
    """Minimise `row @ output` over a box by branch and bound.

    Arguments:
        network: small, and without a final softmax.
        box: of inputs.
        row: shape `(output_size,)`.
        gap: absolute and positive; how far apart the two bounds may stay. They end further
            apart if time runs out, or if the rounding of the bounds alone exceeds the gap.
        splitting: what to branch on; by default neurons where the network is piecewise linear,
            which ends after finitely many steps whatever the gap, and else inputs. Splitting
            inputs takes about `1 / gap^d` boxes where the minimum lies on a kink of dimension d.
        options: time, memory, device and precision; no limit by default.

    Raises:
        BadInput: if a size or the gap does not fit, or neurons are to be split of a network
            that is not piecewise linear.
        Unsupported: for an operation that cannot be bounded on the box.
        MemoryError: if the open subproblems outgrow the memory limit.

    Trust: as `Optimum` says.
    """
    row = np.asarray(row, dtype=np.float64)
    if row.shape != (network.output_size,) or box.size != network.input_size:
        raise BadInput(
            f"a box of {box.size} inputs and a row of shape {row.shape} do not fit a network of "
            f"{network.input_size} inputs and {network.output_size} outputs"
        )
    if not 0 < gap < np.inf:
        raise BadInput(f"the gap must be positive, not {gap}")
    options = options or Options()
    program = Program.compile(network, options.device, getattr(torch, options.dtype))
    affine_by_splits = all(i in program.slopes for i in program.nonlinear)
    if splitting == "neurons" and not affine_by_splits:
        raise BadInput("no split of neurons makes this network piecewise affine")
    by_neurons = affine_by_splits if splitting is None else splitting == "neurons"
    effort = Effort(options.deadline(), Silent(), options.memory or MEMORY)
    # The incumbent is a float value, so that a part of the gap is left for its rounding.
    judge = IncumbentJudge(0.9 * gap)
    lower, upper = (side.unsqueeze(0) for side in program.enclosing(box.lower, box.upper))
    root = Relaxation(program, lower, upper)
    search = _split_neurons if by_neurons else _split_inputs
    least = search(root, objective_of(program, (_linear(box, row),)), judge, effort)
    if judge.point is None:
        return Optimum(least, np.inf, None)
    point = judge.point.clamp(lower[0], upper[0])
    return Optimum(least, _value(program, point, _linear(box, -row)), point.double().cpu().numpy())


def _split_inputs(
    root: Relaxation, objective: Objective, judge: IncumbentJudge, effort: Effort
) -> float:
    tree = BoxTree(root.program, objective, judge, effort)
    case = torch.zeros(1, dtype=torch.int64, device=root.program.device)
    tree.run(root.lower.flatten(1), root.upper.flatten(1), case)
    return min(effort.bound, tree.margin)


def _split_neurons(
    root: Relaxation, objective: Objective, judge: IncumbentJudge, effort: Effort
) -> float:
    propagate(root)
    found = ascend(root, objective, ROOT)
    tree = NeuronTree(root, objective, judge, effort)
    tree.run(torch.zeros(1, dtype=torch.int64, device=root.program.device), found)
    # What was closed early may be the worst of all when time runs out.
    return min(effort.bound, tree.margin)


def _value(program: Program, point: torch.Tensor, case: Case) -> float:
    """An upper bound of the value at a point, whose negative is the margin of `case`."""
    at = point.unsqueeze(0)
    return -float(bound_margins(program, at, at, objective_of(program, (case,)), "ibp"))


def _linear(box: Box, row: Array) -> Case:
    """The case whose margin is `row @ output`."""
    return Case(box, (Constraint.of({}, dict(enumerate(row.tolist())), 0),), len(row))
