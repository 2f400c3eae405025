"""Leaves whose every neuron has a sign: the network is affine there, and a linear program
decides.

The program's duals are multipliers of rows and splits; the bound is that of a backward pass with
those multipliers, so that the solver is trusted for nothing. Its point is offered as a witness.
"""

import numpy as np
import torch
from torch import Tensor

from hullmark.bounds.linear import Dual, backward, seed
from hullmark.bounds.objective import Objective
from hullmark.bounds.relaxation import Relaxation
from hullmark.lp.highs import Solution, solve
from hullmark.lp.program import Program as LinearProgram
from hullmark.lp.program import Sparse

# What a unit of violated split costs; where the splits contradict each other, the bound is this
# times the least violation that some input needs.
PENALTIES = (1e3, 1e7)


def settle(
    relaxation: Relaxation, objective: Objective, splits: dict[int, Tensor]
) -> tuple[Tensor, Tensor]:
    """Bounds `(B,)` of subproblems without open neurons, and inputs `(B, n)` that attain them.

    Arguments:
        relaxation: of the leaves, complete.
        objective: one query per leaf.
        splits: signs per pre-activation, `(B, *shape)`.

    Trust: the bounds hold in real arithmetic.
    """
    lower: list[Tensor] = []
    points: list[Tensor] = []
    for b in range(relaxation.batch):
        bound, point = _settle_one(_alone(relaxation, b), _query(objective, b), splits, b)
        lower.append(bound)
        points.append(point)
    return torch.stack(lower), torch.stack(points)


def _settle_one(
    leaf: Relaxation, objective: Objective, splits: dict[int, Tensor], b: int
) -> tuple[Tensor, Tensor]:
    signs = {j: s[b : b + 1] for j, s in splits.items() if bool(s[b].any())}
    single = objective.single()
    rows = backward(leaf, *single.mixed(leaf, torch.ones_like(single.bound)))
    used = single.used[0, :, 0]
    forms, constants = [rows.input[0][used]], [rows.constant[0][used]]
    for j, s in signs.items():
        neurons = s.flatten().nonzero().squeeze(1)
        sign = s.flatten()[neurons].unsqueeze(1)
        found = backward(leaf, *seed(leaf, j, neurons, 1))
        forms.append(found.input[0] * sign)
        constants.append(found.constant[0] * sign[:, 0])
    best = torch.full((), -torch.inf, dtype=leaf.lower.dtype, device=leaf.lower.device)
    point = leaf.lower.flatten() / 2 + leaf.upper.flatten() / 2
    for penalty in PENALTIES:
        solution = solve(_program(leaf, forms, constants, penalty))
        if solution is None:
            continue
        mix, dual = _multipliers(solution, used, signs, leaf)
        lower = backward(leaf, *objective.mixed(leaf, mix), dual).lower[0, 0]
        best = torch.maximum(best, lower)
        point = leaf.lower.new_tensor(solution.point[: point.numel()])
        point = torch.minimum(torch.maximum(point, leaf.lower.flatten()), leaf.upper.flatten())
        if float(best) > 0:
            break
    return best, point


def _program(
    leaf: Relaxation, forms: list[Tensor], constants: list[Tensor], penalty: float
) -> LinearProgram:
    """`min t + penalty * e` with every row at most t and every split violated by at most e."""
    matrix = torch.cat(forms).double().cpu().numpy()
    constant = torch.cat(constants).double().cpu().numpy()
    rows, total = len(forms[0]), len(matrix)
    extra = np.zeros((total, 2))
    extra[:rows, 0] = -1.0
    extra[rows:, 1] = 1.0
    low = leaf.lower.flatten().double().cpu().numpy()
    high = leaf.upper.flatten().double().cpu().numpy()
    is_row = np.arange(total) < rows
    return LinearProgram(
        cost=np.concatenate([np.zeros(len(low)), [1.0, penalty]]),
        matrix=Sparse.of(np.concatenate([matrix, extra], axis=1)),
        row_lower=np.where(is_row, -np.inf, -constant),
        row_upper=np.where(is_row, -constant, np.inf),
        lower=np.concatenate([low, [-np.inf, 0.0]]),
        upper=np.concatenate([high, [np.inf, np.inf]]),
    )


def _multipliers(
    solution: Solution, used: Tensor, signs: dict[int, Tensor], leaf: Relaxation
) -> tuple[Tensor, Dual]:
    duals = torch.as_tensor(solution.duals).to(leaf.lower)
    rows = int(used.sum())
    weights = (-duals[:rows]).clamp(min=0)
    mix = torch.zeros(1, 1, len(used), dtype=leaf.lower.dtype, device=leaf.lower.device)
    mix[0, 0, used] = weights / weights.sum() if float(weights.sum()) > 0 else 1.0 / max(rows, 1)
    push: dict[int, Tensor] = {}
    at = rows
    for j, s in signs.items():
        neurons = s.flatten().nonzero().squeeze(1)
        beta = duals[at : at + len(neurons)].clamp(min=0)
        full = torch.zeros_like(s.flatten())
        full[neurons] = beta * s.flatten()[neurons]
        push[j] = full.reshape(s.shape).unsqueeze(1)
        at += len(neurons)
    return mix, Dual({}, push)


def _alone(relaxation: Relaxation, b: int) -> Relaxation:
    one = slice(b, b + 1)
    leaf = Relaxation(relaxation.program, relaxation.lower[one], relaxation.upper[one])
    for j, (lower, upper) in relaxation.bounds.items():
        leaf.set_bounds(j, lower[one], upper[one])
    leaf.advance(relaxation.reached)
    return leaf


def _query(objective: Objective, b: int) -> Objective:
    one = slice(b, b + 1)
    return Objective(
        objective.y[one],
        None if objective.x is None else objective.x[one],
        objective.bound[one],
        objective.used[one],
        objective.roundoff,
    )
