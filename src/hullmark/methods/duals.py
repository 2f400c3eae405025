"""The methods that use joint rows as multipliers in backward bounds: mined and prima."""

import time
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from hullmark.bounds.alpha import Ascent
from hullmark.bounds.methods import bound_by_rows
from hullmark.bounds.objective import Objective
from hullmark.bounds.rounding import certain, down
from hullmark.errors import Unsupported
from hullmark.joint.krelu import Scheme, krelu_bounds
from hullmark.joint.mine import Mining
from hullmark.joint.mined import mined_bounds
from hullmark.joint.store import stored_proofs
from hullmark.joint.tighten import Miner, Plan
from hullmark.methods.grouping import layer_rule
from hullmark.methods.names import MethodOptions
from hullmark.methods.task import Bounded, Task
from hullmark.network.ops import Array
from hullmark.verdict import Deadline

LARGEST_PASS = 500_000_000
"""Coefficients of the backward pass of all neurons of the largest layer at once."""

# The part of the time that the margins get; the linear functions have what is left.
_MARGINS = 0.85


def bound_by_duals(task: Task, method: str, options: MethodOptions) -> Bounded:
    """Bounds of all queries by one of the methods of this module.

    Arguments:
        task: the queries.
        method: "mined" or "prima".
        options: complete (see `names.check`).

    Raises:
        Unsupported: if a layer is too large, or an operation has no linear bounds.

    Trust: see `Bounded`. A margin that `mined` bounds by a number that is not positive has this
    bound where it is the least of all margins, so that the least of the bounds holds for the worst
    margin; 0 may stand for a margin that is shown to be positive, by no number that is known.
    Everything else holds on the whole box.
    """
    _check(task, method)
    return _mined(task, options) if method == "mined" else _prima(task, options)


def _mined(task: Task, options: MethodOptions) -> Bounded:
    margins, values = task.margins, task.values
    relaxation = task.relaxation()
    share = 1.0 if margins is None else _MARGINS
    clock = Deadline(time.perf_counter(), share * task.clock.remaining())
    mining = Mining(k=options.size)
    spent = partial(_spent, clock)
    miner = Miner(relaxation, Plan(mining=mining, stop=clock.expired, spent=spent))
    miner.propagate()
    lower, positive = np.zeros(0), True
    if margins is not None:
        known = torch.maximum(mined_bounds(miner, margins), _floor(miner, margins))
        positive = bool((known > 0).all())
        # What is known to be positive by no number is the least that its type can hold.
        shown = (known > 0) & (known <= torch.finfo(known.dtype).tiny)
        lower = _array(torch.where(shown, 0.0, known))
    found = _floor(miner, values)
    if not task.clock.expired():
        miner.plan = replace(miner.plan, stop=task.clock.expired)
        found = torch.maximum(found, _values(miner, values))
    proofs = stored_proofs([mine.found for mine in miner.mines.values()])
    bounds, complete = np.concatenate([lower, _array(found)]), not task.clock.expired()
    return Bounded(bounds, positive, len(proofs), complete, proofs=proofs)


def _spent(clock: Deadline) -> float:
    """The share of the time that is gone."""
    return clock.elapsed() / max(clock.elapsed() + clock.remaining(), 1e-9)


def _values(miner: Miner, values: Objective) -> Tensor:
    """Bounds of linear functions, less their values at the middle of the box while they are mined:
    a query that is positive anyway would be left alone."""
    relaxation = miner.relaxation
    program = relaxation.program
    middle = (relaxation.lower / 2 + relaxation.upper / 2).flatten(1)
    level = values.y[0, :, 0] @ program.evaluate(middle)[0]
    level = torch.where(level.isfinite(), level, 0.0).reshape(values.bound.shape)
    shifted = replace(values, bound=values.bound + level)
    back = down(shifted.bound - values.bound).flatten()
    return certain(down(miner.bound(shifted).lower[0] + back))


def _prima(task: Task, options: MethodOptions) -> Bounded:
    """All rows of groups that are chosen beforehand; an ascent that time ends keeps its best."""
    plain = Scheme(layer_rule(options))

    def timed(ascent: Ascent) -> Ascent:
        return replace(ascent, stop=task.clock.expired)

    ascents = (timed(ascent) for ascent in (plain.neurons, plain.forms, plain.queries))
    neurons, forms, queries = ascents
    scheme = replace(plain, neurons=neurons, forms=forms, queries=queries)
    bounds, rows = krelu_bounds(task.relaxation(), task.parts(), scheme)
    lower, proofs = _array(bounds), stored_proofs(list(rows.values()))
    positive = bool(np.all(lower[: task.cases] > 0))
    return Bounded(lower, positive, len(proofs), not task.clock.expired(), proofs=proofs)


def _floor(miner: Miner, objective: Objective) -> Tensor:
    """What one backward pass says of each query on the whole box."""
    return certain(bound_by_rows(miner.relaxation, objective)[0])


def _array(bounds: Tensor) -> Array:
    return bounds.double().cpu().numpy()


def _check(task: Task, method: str) -> None:
    program = task.program
    nodes = program.network.nodes
    largest = max((nodes[j].size for j in program.pre_activations), default=0)
    total = sum(nodes[i].size for i in (0, *program.nonlinear))
    if 2 * largest * total > LARGEST_PASS:
        raise Unsupported(
            f"method {method} bounds all {largest:,} neurons of a layer at once, which takes "
            f"{2 * largest * total:,} coefficients, and at most {LARGEST_PASS:,} are; use alpha"
        )
