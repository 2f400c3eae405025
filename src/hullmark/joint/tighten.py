"""Bounds of a whole network with mined joint rows, layer by layer, and of an objective.

Every layer's bounds are optimised with the rows mined so far in all layers below it; the points
that the optimisation suggests then show which further rows those layers lack. All queries of a
layer share one pool of rows per layer below.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hullmark.bounds.aims import Aim, both_signs
from hullmark.bounds.alpha import Ascended, Ascent, ascend_in_pieces
from hullmark.bounds.linear import propagate, unstable_neurons
from hullmark.bounds.objective import Objective
from hullmark.bounds.relaxation import Relaxation, never
from hullmark.joint.mine import Mine, Mining
from hullmark.joint.octahedron import Start
from hullmark.joint.store import Archive, Layer, LayerRows


def nothing() -> float:
    """The share of the time that is gone where time is not limited."""
    return 0.0


@dataclass(frozen=True)
class Plan:
    """How bounds are mined.

    Every layer is first filled with the rows of disjoint groups of `fill` neurons, 0 for none, in
    as many `partitions` as time allows (if None: 4 in deep networks, else 1), and rows that stay
    idle are dropped. Then come `rounds` of mining with ascents of `steps` for each layer, and
    `objective_rounds` for the objective (if None: 0 in deep networks, else 1); `mining` says what
    a round looks for. After that the worst query is improved until `patience` attempts in a row
    have brought less than the share `least` of its bound: by sweeps over counterexamples as long
    as their bounds shrink by more than the share `enough`, else by mining for it alone if no more
    than `few` are open, else by a further pass over all layers, with `more` partitions in deep
    networks and a round of mining in others. A partition has at most `groups` groups, and a sweep
    bounds at most `swept` neurons of a layer.

    `stop` ends everything early; `spent` says which share of the time is gone, so that the first
    pass over the layers takes at most the share `first` of it.
    """

    rounds: int = 0
    steps: int = 30
    objective_rounds: int | None = None
    objective_steps: int = 40
    slope_rate: float = 0.2
    row_rate: float = 0.02
    mining: Mining = field(default_factory=Mining)
    patience: int = 3
    least: float = 0.05
    enough: float = 0.1
    few: int = 2
    swept: int = 200
    groups: int = 100
    fill: int = 3
    partitions: int | None = None
    more: int = 3
    first: float = 0.6
    stop: Callable[[], bool] = never
    spent: Callable[[], float] = nothing


# Networks with so many layers of nonlinear nodes are deep.
DEEP = 4

# Rows whose multipliers are no larger for any query are dropped; those of used rows are near 1.
IDLE = 3e-2

# After a sweep that has shrunk bounds by less there is none for the next `PAUSE` times.
IDLE_SWEEP = 1e-2
PAUSE = 2


class Miner:
    """One domain's relaxation, the rows mined for it, and how to go on.

    Arguments:
        relaxation: of one domain; gets bounds of every pre-activation and the pools of rows.
    """

    def __init__(self, relaxation: Relaxation, plan: Plan) -> None:
        self.relaxation = relaxation
        self.plan = plan
        self.mines: dict[int, Mine] = {}
        self.archive = Archive()
        self.pause = 0

    def propagate(self) -> None:
        """Bound every pre-activation in order."""
        program = self.relaxation.program
        inner = [j for j in program.pre_activations if j]
        partitions = self.plan.partitions
        if partitions is None:
            partitions = 4 if self.deep else 1
        for place, j in enumerate(inner):
            propagate(self.relaxation, j, sieve=True)
            share = self.plan.first * (place + 1) / len(inner)
            start = self._tighten(j, self.plan.rounds, share)
            for i in program.network.consumers[j]:
                if i in program.slopes:
                    layer = Layer.of(program, i)
                    rows = LayerRows(layer, archive=self.archive)
                    self.mines[i] = Mine(layer, rows, start, stop=self.plan.stop)
            self._fill(j, partitions, share)

    def again(self) -> None:
        """Bound every open pre-activation once more, with rows for what is still lost."""
        for j in self.relaxation.program.pre_activations:
            if j and not self.plan.stop():
                self._restart(j, self._tighten(j, 0 if self.deep else 1, 1.0))
                self._fill(j, self.plan.more if self.deep else 0, 1.0)

    @property
    def deep(self) -> bool:
        """Whether most precision is lost in bounds between layers, not in the objective's."""
        return sum(j > 0 for j in self.relaxation.program.pre_activations) >= DEEP

    def _fill(self, j: int, partitions: int, share: float) -> None:
        """Rows of disjoint groups of a pre-activation, until the share of the time is gone."""
        plan = self.plan
        for i in self.relaxation.program.network.consumers[j]:
            for part in range(partitions if plan.fill and i in self.mines else 0):
                if plan.stop() or (part and plan.spent() >= share):
                    break
                self.mines[i].fill(self.relaxation, plan.fill, plan.mining.fine, plan.groups)

    def _tighten(self, j: int, rounds: int, share: float) -> Start | None:
        """Optimise the bounds of the open neurons of a pre-activation, mining below it."""
        relaxation, program = self.relaxation, self.relaxation.program
        neurons = unstable_neurons(relaxation, j)
        if len(neurons) == 0 or not (relaxation.assumes or any(i < j for i in program.slopes)):
            return None

        def weigh(seen: Ascended) -> Tensor:
            self.archive.ledger.refine(relaxation, j, neurons, seen)
            lower, upper = (b.flatten()[neurons] for b in relaxation.bounds[j])
            area = (-lower).clamp(min=0) * upper.clamp(min=0)
            area = area / (upper - lower).clamp(min=torch.finfo(area.dtype).tiny)
            return torch.nan_to_num(area / area.max().clamp(min=1e-30)).repeat(2)

        seen = self._ascend(both_signs(j, neurons), rounds, self.plan.steps, weigh, share)
        start = Start.of(seen, neurons, program.network.nodes[j].size)
        return self._purged(start)

    def _purged(self, start: Start) -> Start:
        """Drop the rows that a layer's ascent has left idle, if they were never mined for one."""
        for i, gamma in start.multipliers.gamma.items():
            mine = self.mines.get(i)
            if mine is None or not mine.fresh:
                continue
            mine.fresh = False
            used = gamma.amax(dim=(0, 1)) > IDLE
            mine.found.keep(used.cpu().numpy())
            start = start.with_rows(i, used)
            for other in self.mines.values():
                if other.start is not None:
                    other.start = other.start.with_rows(i, used)
            if len(mine.found):
                self.relaxation.set_pool(i, mine.found.pool(self.relaxation.program))
            else:
                del self.relaxation.pools[i]
        return start

    def bound(self, objective: Objective, rounds: int | None = None) -> Ascended:
        """Bounds of every query of an objective, with further rows mined for them."""

        def weigh(seen: Ascended) -> Tensor:
            return (seen.lower[0] <= 0).to(seen.lower)

        if rounds is None:
            rounds = self.plan.objective_rounds
        if rounds is None:
            rounds = 0 if self.deep else 1
        return self._ascend(objective, rounds, self.plan.objective_steps, weigh, 1.0)

    def assuming(self, objective: Objective, query: int) -> "Miner":
        """A miner that starts from what is known here and bounds counterexamples to one query.

        Trust: its bounds and rows hold where `objective.assumption` does.
        """
        twin = Miner(self.relaxation.renewed(), self.plan)
        last = len(twin.relaxation.program.network.nodes) - 1
        twin.relaxation.advance(last)
        # Not the key of a node, whose rows it would replace.
        twin.relaxation.set_pool(last + 1, objective.assumption(twin.relaxation, query))
        twin.archive = self.archive.assuming()
        for i, mine in self.mines.items():
            found = LayerRows(mine.layer, list(mine.found.blocks), twin.archive)
            twin.mines[i] = Mine(mine.layer, found, mine.start, stop=mine.stop)
        return twin

    def margins(self, objective: Objective) -> Tensor:
        """The bounds `(Q,)` of an objective, the worst one improved as long as that helps.

        Counterexamples to the worst query are bounded: they are few, and so are the values that
        neurons take at them. Where that does not help and many queries are open, all layers are
        mined once more for all of them.

        Trust: a bound that is not positive holds wherever its query is the least of all, so that
        the least of them holds for the least query everywhere; if all are positive, so is every
        query everywhere (see `Objective.assumption`).
        """
        plan = self.plan
        lower = self.bound(objective).lower[0].clone()
        cases: dict[int, Miner] = {}
        idle, alone = 0, False
        while float(lower.min()) <= 0 and idle < plan.patience and not plan.stop():
            worst, old = int(lower.argmin()), float(lower.min())
            if worst not in cases:
                cases[worst] = self.assuming(objective, worst)
            case = cases[worst]
            shrunk = 0.0 if case.resting() else case.sweep_for(objective, worst, lower)
            if float(lower[worst]) <= 0 and shrunk < plan.enough and not plan.stop():
                if alone or int((lower <= 0).sum()) <= plan.few:
                    case.learn(objective, worst, lower, 1)
                else:
                    before = float(lower.min())
                    self.again()
                    lower = torch.maximum(lower, self.bound(objective).lower[0])
                    alone = float(lower.min()) - before < plan.least * -before
                    cases.clear()
            gained = float(lower[worst]) - old
            # Nothing is gained from minus infinity either, nor from 0.
            idle = 0 if gained > plan.least * -old or shrunk >= plan.enough else idle + 1
        return lower

    def resting(self) -> bool:
        """Whether the last sweep brought so little that there is to be none this time."""
        self.pause -= 1
        return self.pause >= 0

    def sweep_for(self, objective: Objective, query: int, lower: Tensor) -> float:
        """Sweep over counterexamples to a query; returns by what share their bounds shrank."""
        only = objective.select(slice(query, query + 1))
        shrunk = self.sweep(self.plan.objective_steps, self.bound(only, 0).coefficients)
        self.pause = 0 if shrunk >= IDLE_SWEEP else PAUSE
        self.learn(objective, query, lower, 0)
        return shrunk

    def learn(self, objective: Objective, query: int, lower: Tensor, rounds: int) -> None:
        """Bound a query at its counterexamples, with rounds of mining, and take that in."""
        only = objective.select(slice(query, query + 1))
        # Of a query without counterexamples only that it is positive is known, and no number.
        found = math.inf if self.empty() else float(self.bound(only, rounds).lower[0, 0])
        known = float(lower[query])
        lower[query] = max(known, torch.finfo(lower.dtype).tiny if found > 0 else found)

    def empty(self) -> bool:
        """Whether the bounds of some neuron exclude each other, so that there is no such point."""
        return any(bool((low > high).any()) for low, high in self.relaxation.bounds.values())

    def sweep(self, steps: int, coefficients: Mapping[int, Tensor]) -> float:
        """Bound the open pre-activations again, by all that is known of the layers above and below
        them: in each layer those that lose most where a query has these coefficients.

        Returns:
            By how much the widths shrank, relative to what they were.
        """
        before = after = 0.0
        program = self.relaxation.program
        plan = self.plan
        ascent = Ascent(steps, plan.slope_rate, row_rate=plan.row_rate, stop=plan.stop)
        for j in program.pre_activations:
            neurons = self._losing(j, coefficients) if j else torch.zeros(0)
            if len(neurons) == 0 or self.plan.stop() or self.empty():
                continue
            before += self._width(j)
            seen = ascend_in_pieces(self.relaxation, both_signs(j, neurons), ascent)
            self.archive.ledger.refine(self.relaxation, j, neurons, seen)
            after += self._width(j)
            self._restart(j, Start.of(seen, neurons, program.network.nodes[j].size))
        return 1 - after / before if before else 0.0

    def _losing(self, j: int, coefficients: Mapping[int, Tensor]) -> Tensor:
        """The open neurons of a pre-activation, at most `swept`: those with the largest triangles,
        weighted by the coefficients on their post-activations."""
        neurons = unstable_neurons(self.relaxation, j)
        if len(neurons) <= self.plan.swept:
            return neurons
        lower, upper = (b.flatten()[neurons] for b in self.relaxation.bounds[j])
        height = -lower * upper / (upper - lower)
        loss = torch.zeros_like(height)
        for i in self.relaxation.program.network.consumers[j]:
            if i in coefficients:
                loss += coefficients[i].flatten(2)[0, 0, neurons].abs() * height
        return neurons[loss.argsort(descending=True, stable=True)[: self.plan.swept]].sort().values

    def _width(self, j: int) -> float:
        lower, upper = self.relaxation.bounds[j]
        return float((upper - lower).clamp(min=0).sum())

    def _restart(self, j: int, start: Start | None) -> None:
        """Make lines anew after layer j's bounds have changed; its octahedra are to be anew too."""
        self.relaxation = self.relaxation.renewed()
        for i in self.relaxation.program.network.consumers[j]:
            if i in self.mines:
                mine = self.mines[i]
                self.mines[i] = mine.restarted(start or mine.start)

    def _ascend(
        self,
        aim: Aim,
        rounds: int,
        steps: int,
        weigh: Callable[[Ascended], Tensor],
        share: float,
    ) -> Ascended:
        """Ascend, and mine at the points found, until the share of the time is gone."""
        plan, relaxation = self.plan, self.relaxation
        last = len(relaxation.program.network.nodes) - 1
        top = last + 1 if isinstance(aim, Objective) else aim.node
        relaxation.advance(min(top, last))
        below = {i: m for i, m in self.mines.items() if i < top}
        watch = tuple(j for mine in below.values() for j in mine.layer.nodes)
        ascent = Ascent(steps, plan.slope_rate, row_rate=plan.row_rate, stop=plan.stop)
        seen = ascend_in_pieces(relaxation, aim, ascent, watch=watch)
        best, weight = seen.lower, weigh(seen)
        for _ in range(rounds):
            for mine in below.values():
                if plan.spent() < share and not plan.stop():
                    mine.dig(relaxation, seen, weight, plan.mining)
            if plan.stop():
                break
            seen = ascend_in_pieces(relaxation, aim, ascent, seen.final, watch)
            best, weight = torch.maximum(best, seen.lower), weigh(seen)
        return Ascended(best, seen.best, seen.final, seen.point, seen.values, seen.coefficients)
