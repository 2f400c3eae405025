"""The methods that solve linear programs: triangle, refinezono, krelu, kpoly, multivariate, mk.

A program is over the whole network, so that these are for networks of moderate size; what is too
large is refused before any time is spent.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from hullmark.bounds.methods import FINAL, INTERMEDIATE, ascend_queries
from hullmark.bounds.optimised import propagate_optimised
from hullmark.bounds.relaxation import Relaxation
from hullmark.cuts.cutloop import CutBound, CutOptions, CutProgram, Optimum, run_optimum
from hullmark.cuts.kpoly import SHARED, KPolyBounds, KPolyOptions, kpoly
from hullmark.cuts.layers import DisjunctiveGroups, NeuronHulls
from hullmark.cuts.queries import Separators, cut_queries
from hullmark.cuts.separators import ReluGroups, propagated_groups, propagated_passing
from hullmark.cuts.warm import bound_again, share_rows
from hullmark.encode import Proof, Query
from hullmark.errors import Unsupported
from hullmark.lp.program import Indices
from hullmark.methods.grouping import groups_of, layer_rule
from hullmark.methods.names import SUBSETS, MethodOptions
from hullmark.methods.task import Bounded, Task
from hullmark.network import ops
from hullmark.network.ops import Array
from hullmark.verdict import Deadline

LARGEST_PROGRAM = 10_000_000
"""Coefficients of a network whose linear program is solved at all."""

LARGEST_CUT = 500_000
"""Coefficients of a cut of `mk`, which takes `2^k` copies of what comes before a layer."""

EXACT = 1e-6
"""A bound that the network comes as near as this to, relative to its size beyond 1, is exact."""

# There is one program for all queries with one row, and its rows serve them all.
CUTS = CutOptions(rounds=100, least_gain=1e-5)

# The part of the time left that an ascent may have: the last one of `alpha`, and the one over rows
# of other queries.
_SHARE = 0.5

Found = list[CutBound | None]


class Alpha(NamedTuple):
    """What `alpha` knows: the relaxation with its bounds of all pre-activations, and bounds of
    the queries `(Q,)`, below which no method of this module falls; and how many seconds these
    took."""

    relaxation: Relaxation
    floor: Array
    seconds: float


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
    alpha = _alpha(task)
    match method:
        case "krelu":
            return _krelu(task, options, alpha)
        case "multivariate":
            return _cut_parts(task, alpha, [_hulls for _ in task.parts()])
        case "mk":
            return _mk(task, options, alpha)
        case _:
            found = _kpoly(task, method, options, alpha)
            floor = np.maximum(found.lower, alpha.floor)
            return _bounded(task, floor, [found.found], not task.clock.expired())


def _alpha(task: Task) -> Alpha:
    relaxation = task.relaxation()
    propagate_optimised(relaxation, replace(INTERMEDIATE, stop=task.clock.expired))
    relaxation.advance(len(task.program.network.nodes) - 1)
    clock = Deadline(time.perf_counter(), _SHARE * task.clock.remaining())
    found = ascend_queries(relaxation, task.objective, replace(FINAL, stop=clock.expired))[0]
    floor = found.double().cpu().numpy()
    return Alpha(relaxation, np.where(np.isfinite(floor), floor, -np.inf), clock.elapsed())


def _kpoly(task: Task, method: str, options: MethodOptions, alpha: Alpha) -> KPolyBounds:
    """kPoly, or its loop without groups."""
    left = task.clock.remaining()
    # No single program may take all of the time.
    cuts = replace(SHARED, seconds=left / 4 if math.isfinite(left) else left)
    plain = KPolyOptions(1, cuts=cuts, stop=task.clock.expired, known=alpha.relaxation.bounds)
    match method:
        case "triangle":
            wanted = plain
        case "refinezono":
            wanted = replace(plain, start="deepz")
        case _:
            wanted = replace(plain, k=min(options.size, SUBSETS), grouping=layer_rule(options))
    return kpoly(task.program, task.lower, task.upper, task.objective, wanted)


def _krelu(task: Task, options: MethodOptions, alpha: Alpha) -> Bounded:
    relaxation, rules = alpha.relaxation, list[Separators]()
    # A single neuron has its hull in the program already.
    alone = options.k == 1
    passing = [] if alone else _passing(task, relaxation)
    for part in task.parts():
        skip = alone or task.clock.expired()
        groups = {} if skip else groups_of(relaxation, part, options)
        known = [propagated_groups(relaxation, i, g) for i, g in groups.items()]
        rules.append(partial(_given, known + passing))
    return _cut_parts(task, alpha, rules)


def _passing(task: Task, relaxation: Relaxation) -> list[ReluGroups]:
    """Groups with passing values, whichever part is bounded, of the layers that time is for."""
    found: list[ReluGroups] = []
    for i in relaxation.program.slopes:
        known = task.program.network.nodes[i].inputs[0] in relaxation.bounds
        if known and not task.clock.expired():
            found += propagated_passing(relaxation, i)
    return found


def _given(separators: list[ReluGroups], program: CutProgram) -> list[ReluGroups]:
    """Those that the program has the layers of."""
    return [s for s in separators if s.node in program.encoding.forms]


def _mk(task: Task, options: MethodOptions, alpha: Alpha) -> Bounded:
    """Cuts of `M_k` over the bounds of kPoly, which are those of the triangle if k is 1."""
    rule = "area" if options.groups == "gain" else options.groups
    method = "triangle" if options.k == 1 else "kpoly"
    base = _kpoly(task, method, replace(options, groups=rule), alpha)
    rules: list[Separators] = []
    for part in task.parts():
        groups = groups_of(base.relaxation, part, options, largest=options.size)
        rules.append(partial(_disjunctive, groups))
    start = alpha._replace(relaxation=base.relaxation, floor=np.maximum(base.lower, alpha.floor))
    return _cut_parts(task, start, rules, base.found)


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
    encoding = program.encoding
    return [NeuronHulls(encoding, i, program.naming) for i in encoding.kinks]


def _cut_parts(
    task: Task, start: Alpha, rules: list[Separators], before: Sequence[CutBound | None] = ()
) -> Bounded:
    """Linear programs for margins and values, each with separators of its own.

    `before` are earlier programs of the queries.
    """
    found = Found()
    again = start.relaxation.renewed()
    # Some time is kept for queries that have to do without a program of their own.
    left = task.clock.remaining()
    clock = Deadline(time.perf_counter(), left - min(2 * start.seconds, _SHARE * left))
    for part, rule in zip(task.parts(), rules, strict=True):
        place = slice(len(found), len(found) + part.queries)
        more = cut_queries(start.relaxation, part, rule, start.floor[place], partial(_cuts, clock))
        for q, cut in enumerate(more):
            if cut is not None:
                single = part.select(slice(q, q + 1))
                better = max(cut.lower, bound_again(again, single, cut))
                more[q] = replace(cut, lower=better)
        found += more
    complete = not clock.expired()
    known = [_shared(task, again, found), *([before] if before else [])]
    return _bounded(task, start.floor, known, complete)


def _shared(task: Task, relaxation: Relaxation, found: Found) -> Found:
    """The bounds of queries without a program over the rows of one that there was."""
    known = [cut for cut in found if cut is not None]
    richest = max(known, key=lambda cut: len(cut.rows), default=None)
    if richest is None or len(known) == len(found):
        return found
    shared, first = list(found), 0
    ascent = replace(FINAL, stop=task.clock.expired)
    for part in task.parts():
        open_ = part.used[0, :, 0].tolist()
        left = [q for q in range(part.queries) if open_[q] and found[first + q] is None]
        if left and part.rows == 1:
            more = share_rows(relaxation, part.select(torch.tensor(left)), richest.rows, ascent)
            for q, cut in zip(left, more, strict=False):
                shared[first + q] = cut
        first += part.queries
    return shared


def _cuts(clock: Deadline) -> CutOptions:
    return replace(CUTS, seconds=clock.remaining(), stop=clock.expired)


def _bounded(
    task: Task, floor: Array, known: Sequence[Sequence[CutBound | None]], complete: bool
) -> Bounded:
    """All together, and at which inputs the network attains a bound.

    `known`: programs of all queries, one or none each, of which the first best one counts.
    """
    lower = floor.copy()
    attained: dict[int, Optimum] = {}
    proofs: list[tuple[Proof | None, ...]] = []
    last = len(task.program.network.nodes) - 1
    for q, programs in enumerate(zip(*known, strict=True)):
        cut = max((c for c in programs if c is not None), key=lambda c: c.lower, default=None)
        proofs.append(())
        if cut is None:
            continue
        if cut.lower >= lower[q]:
            lower[q] = cut.lower
            proofs[q] = cut.rows.all_proofs()
        best = replace(cut, lower=float(lower[q]))
        here = run_optimum(best, Query.of(task.objective, q), task.program, last)
        if here is not None and here.gap <= EXACT * max(1.0, abs(best.lower)):
            attained[q] = here
    chosen = [int(lower[: task.cases].argmin())] if task.cases else range(len(proofs))
    behind = tuple(proof for q in chosen for proof in proofs[q])
    positive = bool(np.all(lower[: task.cases] > 0))
    return Bounded(lower, positive, len(behind), complete, attained, behind)


def _check(task: Task, method: str, options: MethodOptions) -> None:
    """Refuse what a method cannot do before it starts."""
    network = task.program.network
    size, largest, copies = max(task.program.work), LARGEST_PROGRAM, 1
    if method == "mk":
        copies, largest = 2**options.size, LARGEST_CUT
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
