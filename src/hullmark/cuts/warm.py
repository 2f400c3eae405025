"""From the multipliers of a linear program to those of a backward pass over the same rows."""

import time
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hullmark.bounds.alpha import Ascent, Multipliers, ascend, ascend_in_pieces
from hullmark.bounds.objective import Objective
from hullmark.bounds.pools import Pool
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation
from hullmark.cuts.cutloop import CutBound
from hullmark.encode import Inequalities

OWN_POOL = -1
"""The number of the pool that holds the rows of a linear program; nodes have the others."""


def warm_start(relaxation: Relaxation, found: CutBound) -> Multipliers | None:
    """Where a dual ascent over the rows of a linear program is at that program's optimum.

    Arguments:
        relaxation: with the bounds of the one that was encoded; the rows become its pool
            `OWN_POOL`, in place of those that were there.
        found: the bound of a query.

    Returns:
        None if the rows have coefficients that the program's precision cannot hold.

    Trust: the pool holds if the rows do; the multipliers are as good as any.
    """
    program, gamma = relaxation.program, dict[int, Tensor]()
    if not _hold(relaxation, found.rows):
        return None
    if len(found.rows):
        gamma[OWN_POOL] = program.tensor(found.multipliers).reshape(1, 1, -1)
    slopes: dict[int, Tensor] = {}
    for i, values in found.slopes.items():
        own = relaxation.lines[i].lower_slope
        flat = own.double().cpu().numpy().ravel()
        known = program.tensor(np.where(np.isnan(values), flat, values)).reshape(own.shape)
        slopes[i] = known.unsqueeze(1)
    return Multipliers(slopes, gamma=gamma)


def bound_again(relaxation: Relaxation, objective: Objective, found: CutBound) -> float:
    """The bound of one backward pass with a linear program's multipliers.

    Where the solver ended at an optimum it is that of the program, up to rounding; where it was
    stopped before, it may be better, since here multipliers that do not fit are made to.

    Arguments:
        relaxation, found: as for `warm_start`.
        objective: of batch 1, the query alone that was bounded.

    Trust: holds in real arithmetic for the domain if the rows do.
    """
    start = warm_start(relaxation, found)
    if start is None:
        return -np.inf
    mix = torch.zeros_like(objective.bound)
    mix[objective.used] = relaxation.program.tensor(found.mix)
    start = replace(start, mix=mix)
    return _known(ascend(relaxation, objective, Ascent(steps=0), start).lower[0])[0]


def share_rows(
    relaxation: Relaxation, objective: Objective, rows: Inequalities, ascent: Ascent
) -> list[CutBound]:
    """Bound queries by a dual ascent over the rows that a linear program of another one found.

    It takes a small part of the time of a linear program for each, and comes near to it. The
    slopes of the other query are no good start: its lines are wrong where signs differ.

    Arguments:
        relaxation: as for `warm_start`.
        objective: of batch 1 and one row a query.
        rows: that hold on the whole domain.
        ascent: of all queries.

    Returns:
        One bound a query; none at all if there are no rows to share.

    Trust: holds in real arithmetic for the domain if the rows do.
    """
    if not len(rows) or not _hold(relaxation, rows):
        return []
    began = time.perf_counter()
    seen = ascend_in_pieces(relaxation, objective, ascent)
    gamma = seen.best.gamma[OWN_POOL][0].double().cpu().numpy()
    slopes = {i: s[0].flatten(1).double().cpu().numpy() for i, s in seen.best.slopes.items()}
    seconds = (time.perf_counter() - began) / objective.queries
    shared: list[CutBound] = []
    for q, lower in enumerate(_known(seen.lower[0])):
        used = np.flatnonzero(gamma[q] > 0)
        own = {i: values[q] for i, values in slopes.items()}
        kept, weights = rows.take(used), gamma[q, used]
        shared.append(CutBound(lower, kept, weights, own, np.ones(1), seconds, None, False))
    return shared


def _hold(relaxation: Relaxation, rows: Inequalities) -> bool:
    """Make the rows the relaxation's pool `OWN_POOL`; False if it cannot hold them."""
    relaxation.pools.pop(OWN_POOL, None)
    pool = pool_of(rows, relaxation.program)
    if pool is not None and len(rows):
        relaxation.set_pool(OWN_POOL, pool)
    return pool is not None


def pool_of(rows: Inequalities, program: Program) -> Pool | None:
    """The rows as a pool for backward passes; None if a coefficient is none of the program's."""
    row = np.repeat(np.arange(len(rows)), np.diff(rows.start))
    coefficients: dict[int, Tensor] = {}
    for j in np.unique(rows.node).tolist():
        node, chosen = program.network.nodes[j], rows.node == j
        place = row[chosen] * node.size + rows.neuron[chosen]
        dense = np.zeros(len(rows) * node.size)
        dense[place] = rows.coefficient[chosen]
        held = program.tensor(dense)
        exact = np.array_equal(held.double().cpu().numpy(), dense)
        if not exact or len(np.unique(place)) < len(place):
            return None
        coefficients[j] = held.reshape(len(rows), *node.shape)
    return Pool(coefficients, -program.enclosing(-rows.rhs, -rows.rhs)[0])


def _known(lower: Tensor) -> list[float]:
    """Bounds, minus infinity in place of those that are no number."""
    return torch.where(lower.isfinite(), lower, -torch.inf).double().tolist()
