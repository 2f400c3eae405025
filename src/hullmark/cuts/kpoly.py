"""kPoly: pre-activations refined layer by layer with linear programs that hold k-ReLU rows.

With k = 1 these are the triangle programs whose bounds are the tightest that they themselves
give; started from zonotopes instead of DeepPoly the same loop is RefineZono's [kReLU §4.3].
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np
import torch

from hullmark.bounds.linear import propagate, unstable_neurons
from hullmark.bounds.methods import bound_by_rows
from hullmark.bounds.objective import Objective
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Interval, Relaxation, never
from hullmark.bounds.rounding import faithful_arithmetic
from hullmark.bounds.zonotope import zonotope
from hullmark.cuts.cutloop import CutBound, CutOptions, CutProgram, cut_loop
from hullmark.cuts.queries import cut_queries
from hullmark.cuts.separators import ReluGroups, propagated_groups, propagated_passing
from hullmark.encode import Query, encode
from hullmark.errors import BadInput
from hullmark.joint.groups import Grouping, by_area
from hullmark.lp.program import Indices, Vector

# A row that one objective does not need may serve those that follow.
SHARED = CutOptions(rounds=10, least_gain=1e-3, patience=1, slack_rounds=100)


@dataclass(frozen=True)
class KPolyOptions:
    """What is refined, and how.

    `k`: the size of groups, at most 3, 1 for none; `grouping`: from lower and upper bounds of a
    layer to flat indices `(G, k)`, `by_area` if None; `passing`: whether groups with passing
    values come after these; `start`: where a layer's bounds come from before they are refined;
    `cuts`: of every objective, `seconds` included; `stop`: asked before each linear program, and
    whatever it leaves undone keeps the bounds it started from; `known`: bounds that are kept then.
    """

    k: int = 3
    grouping: Grouping | None = None
    passing: bool = True
    start: Literal["deeppoly", "deepz"] = "deeppoly"
    cuts: CutOptions = SHARED
    stop: Callable[[], bool] = never
    known: Mapping[int, Interval] = field(default_factory=dict[int, Interval])


@dataclass(frozen=True, eq=False)
class KPolyBounds:
    """What kPoly found.

    `lower` `(Q,)`: bounds of the queries; `relaxation`: with the refined bounds; `found`: the
    last linear program of each query, None where it was not solved; `programs`: how many
    objectives were bounded; `complete`: whether nothing was left undone.

    Trust: all bounds hold in real arithmetic, complete or not.
    """

    lower: Vector
    relaxation: Relaxation
    found: tuple[CutBound | None, ...]
    programs: int
    seconds: float
    complete: bool


@faithful_arithmetic()
@torch.no_grad()
def kpoly(
    program: Program,
    lower: torch.Tensor,
    upper: torch.Tensor,
    objective: Objective,
    options: KPolyOptions | None = None,
) -> KPolyBounds:
    """Lower bounds of every query of an objective over one box [kReLU §4].

    Arguments:
        program: the compiled network.
        lower, upper: the box `(n,)`, of the program's device and precision.
        objective: over the outputs, of batch 1.
        options: DeepPoly and disjoint groups of three if None.

    Raises:
        BadInput: for a k below 1 or above 3.
        Unsupported: for an operation that has no linear bounds.

    Trust: see `KPolyBounds`; nothing that the solver says is believed.
    """
    options = KPolyOptions() if options is None else options
    if not 1 <= options.k <= 3:
        raise BadInput(f"k-ReLU rows need groups of 1 to 3 neurons, not {options.k}")
    started = time.perf_counter()
    work = _Work(program, lower, upper, options)
    for j in program.pre_activations:
        if j:
            work.refine(j)
    found, bounds = work.bound(objective)
    seconds = time.perf_counter() - started
    return KPolyBounds(bounds, work.relaxation, found, work.programs, seconds, not work.interrupted)


class _Work:
    """The relaxation so far, and the groups of its layers."""

    def __init__(
        self, program: Program, lower: torch.Tensor, upper: torch.Tensor, options: KPolyOptions
    ) -> None:
        box = (lower.reshape(1, -1), upper.reshape(1, -1))
        self.relaxation = Relaxation(program, *box)
        self.programs = 0
        self.interrupted = False
        self._options = options
        self._cuts = replace(options.cuts, stop=self._stops)
        self._groups: list[ReluGroups] = []
        self._given: dict[int, Interval] = {}
        if options.start == "deepz":
            self._given = zonotope(program, *box)

    def _stops(self) -> bool:
        self.interrupted |= self._options.stop()
        return self.interrupted

    def refine(self, j: int) -> None:
        """Bound one pre-activation and choose the groups of its rectifiers."""
        relaxation, program = self.relaxation, self.relaxation.program
        if j in self._given:
            relaxation.advance(j)
            relaxation.set_bounds(j, *self._given[j])
        else:
            propagate(relaxation, j)
        if any(i < j for i in program.nonlinear) and program.kernels[j] is not None:
            neurons = unstable_neurons(relaxation, j).cpu().numpy()
            if len(neurons) and not self._stops():
                self._refine(j, neurons)
        if self.interrupted and j in self._options.known:
            every = torch.arange(program.network.nodes[j].size, device=relaxation.lower.device)
            low, high = self._options.known[j]
            relaxation.refine(j, every, low.flatten(1), high.flatten(1))
        low, high = relaxation.ends(j)
        for i in program.network.consumers[j]:
            if i in program.slopes and self._options.k > 1 and not self._stops():
                rule = self._options.grouping or partial(by_area, k=self._options.k)
                groups = rule(low, high)
                if len(groups):
                    self._groups.append(propagated_groups(relaxation, i, groups))
                if self._options.passing:
                    self._groups += propagated_passing(relaxation, i)

    def _refine(self, j: int, neurons: Indices) -> None:
        encoding = encode(self.relaxation, j, neurons)
        size = self.relaxation.program.network.nodes[j].size
        cuts: CutProgram | None = None
        separators: list[ReluGroups] = []
        # One sign after the other: neighbours have optima that are less far apart.
        for sign in (1, -1):
            # What the first sign has made stable needs no second.
            for neuron in unstable_neurons(self.relaxation, j).tolist():
                if self._stops():
                    return
                goal = Query.neuron(size, neuron, sign).goals(encoding)[0]
                if cuts is None:
                    cuts = CutProgram(encoding, (goal,))
                    separators = self._separators(cuts)
                else:
                    cuts.aim(goal)
                self._learn(j, neuron, sign, cut_loop(cuts, separators, self._cuts).lower)
                self.programs += 1

    def _learn(self, j: int, neuron: int, sign: int, bound: float) -> None:
        """Take in a lower bound of `sign` times a neuron."""
        ends = (bound, np.inf) if sign > 0 else (-np.inf, -bound)
        low, high = self.relaxation.program.enclosing(*(np.array([[end]]) for end in ends))
        index = torch.tensor([neuron], device=self.relaxation.lower.device)
        self.relaxation.refine(j, index, low, high)

    def _separators(self, program: CutProgram) -> list[ReluGroups]:
        """Those that the program has the layers of."""
        return [g for g in self._groups if g.node in program.encoding.forms]

    def bound(self, objective: Objective) -> tuple[tuple[CutBound | None, ...], Vector]:
        """Every query: by one backward pass, and then by a linear program."""
        bounds = bound_by_rows(self.relaxation, objective)[0].double().cpu().numpy()
        found = cut_queries(
            self.relaxation, objective, self._separators, bounds, lambda: self._cuts
        )
        for q, cut in enumerate(found):
            if cut is not None:
                bounds[q] = max(bounds[q], cut.lower)
                self.programs += 1
        return tuple(found), bounds
