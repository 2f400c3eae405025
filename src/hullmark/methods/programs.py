"""The methods that solve linear programs: triangle, refinezono, krelu, kpoly, multivariate, mk.

A program is over the whole network, so that these are for networks of moderate size; what is too
large is refused before any time is spent.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from hullmark.bounds.alpha import propagate_optimised
from hullmark.bounds.methods import INTERMEDIATE, bound_by_rows
from hullmark.bounds.objective import Objective
from hullmark.bounds.relaxation import Relaxation
from hullmark.cuts.cutloop import (
    CutBound,
    CutOptions,
    CutProgram,
    Separator,
    cut_loop,
    run_optimum,
)
from hullmark.cuts.kpoly import SHARED, KPolyBounds, KPolyOptions, kpoly
from hullmark.cuts.layers import DisjunctiveGroups, NeuronHulls
from hullmark.cuts.separators import ReluGroups, propagated_groups
from hullmark.encode import Query, encode
from hullmark.errors import Unsupported
from hullmark.lp.program import Indices
from hullmark.methods.grouping import groups_of, layer_rule
from hullmark.methods.names import MethodOptions
from hullmark.methods.task import Attained, Bounded, Task
from hullmark.network import ops
from hullmark.network.ops import Array

LARGEST_PROGRAM = 10_000_000
"""Coefficients of a network whose linear program is solved at all."""

LARGEST_CUT = 500_000
"""Coefficients of a cut of `mk`, which takes `2^k` copies of what comes before a layer."""

EXACT = 1e-6
"""A bound that the network comes as near as this to, relative to its size beyond 1, is exact."""

# There is one program for all queries with one row, and its rows serve them all.
CUTS = CutOptions(rounds=100, least_gain=1e-5)

Found = list[CutBound | None]
Separators = Callable[[CutProgram], Sequence[Separator]]


def bound_by_programs(task: Task, method: str, options: MethodOptions) -> Bounded:
    """Bounds of all queries by one of the methods of this module.

    Arguments:
        task: the queries.
        method: its name.
        options: complete (see `names.check`).

    Raises:
        Unsupported: if the network is too large, or has an operation without linear bounds; for
            `multivariate` and `mk` also where a rectifier is no ReLU.

    Trust: see `Bounded`; nothing that the solver says is believed.
    """
    _check(task, method, options)
    match method:
        case "krelu":
            return _krelu(task, options)
        case "multivariate":
            return _multivariate(task)
        case "mk":
            return _mk(task, options)
        case _:
            found = _kpoly(task, method, options)
            return _bounded(task, found.lower, list(found.found))


def _kpoly(task: Task, method: str, options: MethodOptions) -> KPolyBounds:
    """kPoly, or its loop without groups."""
    left = task.clock.remaining()
    # No single program may take all of the time.
    cuts = replace(SHARED, seconds=left / 4 if math.isfinite(left) else left)
    if method in ("triangle", "refinezono"):
        start = "deeppoly" if method == "triangle" else "deepz"
        wanted = KPolyOptions(1, start=start, cuts=cuts, stop=task.clock.expired)
    else:
        rule = layer_rule(options)
        wanted = KPolyOptions(min(options.k or 3, 3), rule, cuts=cuts, stop=task.clock.expired)
    return kpoly(task.program, task.lower, task.upper, task.objective, wanted)


def _krelu(task: Task, options: MethodOptions) -> Bounded:
    relaxation = _optimised(task)
    floor, found = list[Array](), Found()
    for part in task.parts():
        floor.append(_floor(relaxation, part))
        groups = {} if task.clock.expired() else groups_of(relaxation, part, options)
        known = [propagated_groups(relaxation, i, g) for i, g in groups.items()]
        found += _cut(task, relaxation, part, partial(_given, known), floor[-1])
    return _bounded(task, np.concatenate(floor), found)


def _given(separators: list[ReluGroups], program: CutProgram) -> list[ReluGroups]:
    """Those that the program has the layers of."""
    return [s for s in separators if s.node in program.encoding.forms]


def _multivariate(task: Task) -> Bounded:
    relaxation = _optimised(task)
    floor, found = list[Array](), Found()
    for part in task.parts():
        floor.append(_floor(relaxation, part))
        found += _cut(task, relaxation, part, _hulls, floor[-1])
    return _bounded(task, np.concatenate(floor), found)


def _mk(task: Task, options: MethodOptions) -> Bounded:
    """Cuts of `M_k` over the bounds of kPoly, which are those of the triangle if k is 1."""
    rule = "area" if options.groups == "gain" else options.groups
    base = _kpoly(task, "triangle" if options.k == 1 else "kpoly", replace(options, groups=rule))
    found = Found()
    for part in task.parts():
        groups = groups_of(base.relaxation, part, options, largest=options.k or 2)
        floor = base.lower[len(found) : len(found) + part.queries]
        found += _cut(task, base.relaxation, part, partial(_disjunctive, groups), floor)
    pairs = zip(found, base.found, strict=True)
    return _bounded(task, base.lower, [new or old for new, old in pairs])


def _disjunctive(groups: Mapping[int, Indices], program: CutProgram) -> list[DisjunctiveGroups]:
    """The groups, less the neurons that the program leaves out since no query depends on them."""
    found: list[DisjunctiveGroups] = []
    for i, kinks in program.encoding.kinks.items():
        by_size: dict[int, set[tuple[int, ...]]] = {}
        for group in groups.get(i, np.empty((0, 1), dtype=np.intp)):
            left = tuple(group[np.isin(group, kinks.neurons)].tolist())
            by_size.setdefault(len(left), set()).add(left)
        for size, members in by_size.items():
            if size:
                found.append(DisjunctiveGroups(program, i, np.array(sorted(members))))
    return found


def _hulls(program: CutProgram) -> list[NeuronHulls]:
    return [NeuronHulls(program.encoding, i) for i in program.encoding.kinks]


def _optimised(task: Task) -> Relaxation:
    """The relaxation with bounds of all pre-activations as `alpha` has them."""
    relaxation = task.relaxation()
    propagate_optimised(relaxation, replace(INTERMEDIATE, stop=task.clock.expired))
    relaxation.advance(len(task.program.network.nodes) - 1)
    return relaxation


def _floor(relaxation: Relaxation, objective: Objective) -> Array:
    """What is known of the queries without a linear program."""
    return bound_by_rows(relaxation, objective)[0].double().cpu().numpy()


def _cut(
    task: Task, relaxation: Relaxation, objective: Objective, rule: Separators, floor: Array
) -> Found:
    """A linear program for each query, the worst first, with what the separators find."""
    found: Found = [None] * objective.queries
    shared, encoding = None, None
    for q in np.argsort(floor, kind="stable").tolist():
        query = Query.of(objective, q)
        if task.clock.expired() or not len(query.level):
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
        cuts = replace(CUTS, seconds=task.clock.remaining(), stop=task.clock.expired)
        found[q] = cut_loop(program, separators, cuts)
    return found


def _bounded(task: Task, floor: Array, found: Found) -> Bounded:
    """All together, and at which inputs the network attains a bound."""
    lower = floor.copy()
    attained: dict[int, Attained] = {}
    last = len(task.program.network.nodes) - 1
    for q, cut in enumerate(found):
        if cut is None:
            continue
        lower[q] = max(lower[q], cut.lower)
        best = replace(cut, lower=float(lower[q]))
        here = run_optimum(best, Query.of(task.objective, q), task.program, last)
        if here is not None and here.gap <= EXACT * max(1.0, abs(best.lower)):
            attained[q] = Attained(here.input, here.gap)
    chosen = [int(lower[: task.cases].argmin())] if task.cases else range(len(found))
    rows = sum(len(cut.rows) for q in chosen if (cut := found[q]) is not None)
    positive = bool(np.all(lower[: task.cases] > 0))
    return Bounded(lower, positive, rows, not task.clock.expired(), attained)


def _check(task: Task, method: str, options: MethodOptions) -> None:
    """Refuse what a method cannot do before it starts."""
    network = task.program.network
    size, largest, copies = max(task.program.work), LARGEST_PROGRAM, 1
    if method == "mk":
        copies, largest = 2 ** (options.k or 2), LARGEST_CUT
    if size * copies > largest:
        times = f"{copies} times " if copies > 1 else ""
        raise Unsupported(
            f"method {method} solves linear programs over {times}the network's {size:,} "
            f"coefficients, and takes at most {largest:,}; use mined or alpha"
        )
    if method in ("mk", "multivariate"):
        for node in network.nodes:
            op = node.op
            if isinstance(op, ops.Rectifier) and (
                np.any(op.negative != 0) or np.any(op.positive != 1)
            ):
                raise Unsupported(
                    f"method {method}: node {node.name} is no ReLU; use krelu or mined"
                )
