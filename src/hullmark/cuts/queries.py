"""A linear program for each query of an objective, the worst first, and warm where it can be."""

from collections.abc import Callable, Sequence

import numpy as np

from hullmark.bounds.objective import Objective
from hullmark.bounds.relaxation import Relaxation
from hullmark.cuts.cutloop import CutBound, CutOptions, CutProgram, Separator, cut_loop
from hullmark.encode import Query, encode
from hullmark.lp.program import Vector

Separators = Callable[[CutProgram], Sequence[Separator]]


def cut_queries(
    relaxation: Relaxation,
    objective: Objective,
    rule: Separators,
    floor: Vector,
    options: Callable[[], CutOptions],
) -> list[CutBound | None]:
    """Bound every query, with the rows that the separators find.

    Arguments:
        relaxation: of one domain, with bounds of every pre-activation.
        objective: of batch 1. There is one program for all queries of one row.
        rule: the separators of a program.
        floor: what is known of the queries, `(Q,)`, which decides the order.
        options: of the next cut loop; none begins once `stop` says so.

    Returns:
        None for a query that has no rows, or that time was too short for.

    Trust: see `CutBound`.
    """
    found: list[CutBound | None] = [None] * objective.queries
    shared, encoding = None, None
    for q in np.argsort(floor, kind="stable").tolist():
        query, cuts = Query.of(objective, q), options()
        if cuts.stop() or not len(query.level):
            continue
        encoding = encode(relaxation) if encoding is None else encoding
        goals = query.goals(encoding)
        if len(goals) == 1 and shared is not None:
            program, separators = shared
            program.aim(goals[0])
        else:
            program = CutProgram(encoding, goals)
            separators = rule(program)
            shared = (program, separators) if len(goals) == 1 else shared
        found[q] = cut_loop(program, separators, cuts)
    return found
