"""Bounds of a whole network with mined joint rows, layer by layer, and of an objective.

Every layer's bounds are optimised with the rows mined so far in all layers below it; the points
that the optimisation suggests then show which further rows those layers lack. All queries of a
layer share one pool of rows per layer below.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hullmark.bounds.alpha import (
    Aim,
    Ascended,
    Ascent,
    Neurons,
    ascend,
)
from hullmark.bounds.linear import propagate, unstable_neurons
from hullmark.bounds.objective import Objective
from hullmark.bounds.relaxation import Relaxation, never
from hullmark.joint.mine import Mine, Mining
from hullmark.joint.octahedron import Start
from hullmark.joint.store import Layer, LayerRows


@dataclass(frozen=True)
class Plan:
    """How bounds are mined: rounds of mining for each layer and for the objective, the steps of
    each ascent, and what is mined in a round."""

    rounds: int = 2
    steps: int = 30
    objective_rounds: int = 3
    objective_steps: int = 40
    slope_rate: float = 0.2
    row_rate: float = 0.02
    mining: Mining = field(default_factory=Mining)
    patience: int = 2
    least: float = 0.1
    enough: float = 0.1
    stop: Callable[[], bool] = never


class Miner:
    """One domain's relaxation, the rows mined for it, and how to go on.

    Arguments:
        relaxation: of one domain; gets bounds of every pre-activation and the pools of rows.
    """

    def __init__(self, relaxation: Relaxation, plan: Plan) -> None:
        self.relaxation = relaxation
        self.plan = plan
        self.mines: dict[int, Mine] = {}

    def propagate(self) -> None:
        """Bound every pre-activation in order."""
        program = self.relaxation.program
        for j in program.pre_activations:
            if j == 0:
                continue
            propagate(self.relaxation, j, sieve=True)
            readers = [i for i in program.network.consumers[j] if i in program.slopes]
            neurons = unstable_neurons(self.relaxation, j)
            start = None
            if len(neurons) and any(i < j for i in program.slopes):
                start = self._tighten(j, neurons)
            for i in readers:
                layer = Layer.of(program, i)
                self.mines[i] = Mine(layer, LayerRows(layer), start)

    def _tighten(self, j: int, neurons: Tensor) -> Start:
        relaxation = self.relaxation
        size = relaxation.program.network.nodes[j].size
        ones = torch.ones(len(neurons), device=neurons.device)
        aim = Neurons(j, neurons.repeat(2), torch.cat([ones, -ones]))

        def weigh(seen: Ascended) -> Tensor:
            low, high = seen.lower[0].chunk(2)
            relaxation.refine(j, neurons, low.unsqueeze(0), -high.unsqueeze(0))
            lower, upper = (b.flatten()[neurons] for b in relaxation.bounds[j])
            area = (-lower).clamp(min=0) * upper.clamp(min=0)
            area = area / (upper - lower).clamp(min=torch.finfo(area.dtype).tiny)
            return (area / area.max().clamp(min=1e-30)).repeat(2)

        seen = self._ascend(aim, j, self.plan.rounds, self.plan.steps, weigh)
        return _start_of(seen, neurons, size)

    def bound(self, objective: Objective, rounds: int | None = None) -> Ascended:
        """Bounds of every query of an objective, with further rows mined for them."""

        def weigh(seen: Ascended) -> Tensor:
            return (seen.lower[0] <= 0).to(seen.lower)

        last = len(self.relaxation.program.network.nodes) - 1
        rounds = self.plan.objective_rounds if rounds is None else rounds
        return self._ascend(objective, last, rounds, self.plan.objective_steps, weigh)

    def assuming(self, objective: Objective, query: int) -> "Miner":
        """A miner that starts from what is known here and bounds counterexamples to one query.

        Trust: its bounds and rows hold where `objective.assumption` does.
        """
        twin = Miner(self.relaxation.renewed(), self.plan)
        last = len(twin.relaxation.program.network.nodes) - 1
        twin.relaxation.advance(last)
        twin.relaxation.set_pool(last, objective.assumption(twin.relaxation, query))
        for i, mine in self.mines.items():
            found = LayerRows(mine.layer, list(mine.found.blocks))
            twin.mines[i] = Mine(mine.layer, found, mine.start)
        return twin

    def margins(self, objective: Objective) -> Tensor:
        """The bounds `(Q,)` of an objective, the worst one improved as long as that helps.

        A query's bound that is not positive holds everywhere for the least of all queries, and a
        positive one says that there is no counterexample to it (see `Objective.assumption`).
        """
        plan = self.plan
        lower = self.bound(objective).lower[0]
        cases: dict[int, Miner] = {}
        idle = 0
        while float(lower.min()) <= 0 and idle < plan.patience and not plan.stop():
            worst = int(lower.argmin())
            query = objective.select(slice(worst, worst + 1))
            if worst not in cases:
                cases[worst] = self.assuming(objective, worst)
            case, old = cases[worst], float(lower[worst])
            shrunk = case.sweep(plan.objective_steps)
            rounds = 0 if shrunk > plan.enough else 1
            found = float(case.bound(query, rounds).lower[0, 0])
            lower[worst] = max(found, old)
            idle = idle + 1 if found - old < plan.least * -old and shrunk < plan.enough else 0
        return lower

    def sweep(self, steps: int) -> float:
        """Bound every open pre-activation again, by all that is known of the layers above and
        below it. Returns by how much the widths shrank, relative to what they were."""
        before = after = 0.0
        program = self.relaxation.program
        ascent = Ascent(steps, self.plan.slope_rate, row_rate=self.plan.row_rate)
        for j in program.pre_activations:
            neurons = unstable_neurons(self.relaxation, j) if j else torch.zeros(0)
            if len(neurons) == 0 or self.plan.stop():
                continue
            ones = torch.ones(len(neurons), device=neurons.device)
            aim = Neurons(j, neurons.repeat(2), torch.cat([ones, -ones]))
            before += self._width(j)
            seen = ascend(self.relaxation, aim, ascent)
            low, high = seen.lower.chunk(2, dim=1)
            self.relaxation.refine(j, neurons, low, -high)
            after += self._width(j)
            self.relaxation = self.relaxation.renewed()
            self._remember(j, neurons, seen)
        return 1 - after / before if before else 0.0

    def _width(self, j: int) -> float:
        lower, upper = self.relaxation.bounds[j]
        return float((upper - lower).clamp(min=0).sum())

    def _remember(self, j: int, neurons: Tensor, seen: Ascended) -> None:
        """Let the forms of layer j start from these multipliers; its octahedra are to be anew."""
        program = self.relaxation.program
        start = _start_of(seen, neurons, program.network.nodes[j].size)
        for i in program.network.consumers[j]:
            if i in self.mines:
                mine = self.mines[i]
                self.mines[i] = Mine(mine.layer, mine.found, start)

    def _ascend(
        self,
        aim: Aim,
        top: int,
        rounds: int,
        steps: int,
        weigh: Callable[[Ascended], Tensor],
    ) -> Ascended:
        plan, relaxation = self.plan, self.relaxation
        relaxation.advance(top)
        below = {i: m for i, m in self.mines.items() if i < top}
        watch = tuple(j for i, m in below.items() for j in (i, m.layer.pre))
        ascent = Ascent(steps, plan.slope_rate, row_rate=plan.row_rate, stop=plan.stop)
        seen = ascend(relaxation, aim, ascent, watch=watch)
        best, weight = seen.lower, weigh(seen)
        for _ in range(rounds):
            if plan.stop():
                break
            for mine in below.values():
                mine.dig(relaxation, seen, weight, plan.mining)
            seen = ascend(relaxation, aim, ascent, seen.final, watch)
            best, weight = torch.maximum(best, seen.lower), weigh(seen)
        return Ascended(best, seen.best, seen.final, seen.point, seen.values, seen.coefficients)


def _start_of(seen: Ascended, neurons: Tensor, size: int) -> Start:
    """Where the forms of a layer start, from an ascent over `neurons` and then their negations."""
    place = torch.zeros(size, dtype=torch.long, device=neurons.device)
    place[neurons] = torch.arange(len(neurons), device=neurons.device)
    return Start(seen.best, place, place + len(neurons))
