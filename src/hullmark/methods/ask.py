"""Bounds of the queries of a question over one box, by any named method."""

import time
from collections.abc import Sequence

import torch

from hullmark.bounds.methods import METHODS as SINGLE
from hullmark.bounds.methods import bound_margins
from hullmark.bounds.objective import objective_of
from hullmark.bounds.program import Program
from hullmark.bounds.rounding import faithful_arithmetic
from hullmark.errors import BadInput
from hullmark.methods.duals import bound_by_duals
from hullmark.methods.names import MethodOptions, check
from hullmark.methods.programs import bound_by_programs
from hullmark.methods.task import Bounded, Task
from hullmark.spec.property import Case
from hullmark.spec.sets import Box
from hullmark.verdict import Deadline


@faithful_arithmetic()
@torch.no_grad()
def bound_queries(
    program: Program,
    box: Box,
    cases: Sequence[Case],
    values: Sequence[Case],
    method: str,
    options: MethodOptions,
) -> Bounded:
    """Lower bounds of margins and of linear functions over one box, by one method.

    Arguments:
        program: the compiled network.
        box: of inputs; the boxes of the cases themselves are not looked at.
        cases: those of a property over this box; all of them, since what a method assumes of a
            counterexample may be that the others are no worse.
        values: cases of one row each, whose margins are the linear functions; at least one.
        method: one of `METHODS`.
        options: those of a method of joint rows. Time starts now.

    Raises:
        BadInput: for an unknown method, an option that it does not take, or no values.
        Unsupported: for a network that the method cannot bound or that is too large for it.

    Trust: see `Bounded`.
    """
    options = check(method, options)
    if not values:
        raise BadInput("there is nothing to bound")
    clock = Deadline(time.perf_counter(), options.seconds)
    objective = objective_of(program, (*cases, *values))
    lower, upper = program.enclosing(box.lower, box.upper)
    task = Task(program, lower, upper, objective, len(cases), clock)
    if method in SINGLE:
        sides = (lower.unsqueeze(0), upper.unsqueeze(0))
        found = bound_margins(program, *sides, objective, method, clock.expired)
        # The others make no choice that time could cut short.
        complete = method != "alpha" or not clock.expired()
        return Bounded.plain(task, found[0].double().cpu().numpy(), complete)
    solve = bound_by_duals if method in ("mined", "prima") else bound_by_programs
    return solve(task, method, options)
