"""Constraint mining by linear programs: solve, separate the optimum, solve again [MN-v1 §8].

The solver is warm all along and trusted for nothing: every bound is recomputed from its
multipliers, and an optimum is called attained only where the network itself was run.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import never
from hullmark.cuts.naming import Naming
from hullmark.encode import Encoding, Goal, Inequalities, Proof, Query
from hullmark.lp.highs import Model, Solution
from hullmark.lp.program import Indices, Vector
from hullmark.lp.safe import safe_bound

_SLACK = 1e-7

Separator = Callable[[Mapping[int, Vector]], Inequalities]


@dataclass(frozen=True)
class CutOptions:
    """When a cut loop ends, and what it keeps.

    `rounds`: how often it separates; `seconds`: its time; `target`: the bound that is enough;
    `least_gain`: it ends when the bound rose by less than this share of itself in `patience`
    rounds; `violation`: how far a point has to be beyond a row that is added, per unit of the
    row's largest coefficient; `slack_rounds`: a row leaves that had no multiplier for so many
    rounds in a row, unless a separator builds on it; `stop`: asked between two solves.
    """

    rounds: int = 30
    seconds: float = math.inf
    target: float = math.inf
    least_gain: float = 1e-4
    patience: int = 3
    violation: float = 1e-6
    slack_rounds: int = 5
    stop: Callable[[], bool] = never


DEFAULT = CutOptions()


@dataclass(frozen=True, eq=False)
class CutBound:
    """The best bound of a cut loop.

    `lower`: the bound; `rows` and `multipliers` `(r,)`, positive: the rows added that it rests
    on, with their proofs; `slopes`: per rectifier `(size,)`, as `Encoding.slopes`; `mix`: the
    multipliers of the goals, `(goals,)`; `point`: the inputs of the last optimum, within the
    domain's box; None if there was no solution. `converged`: whether nothing violated was found
    at the last optimum.

    Trust: `lower` holds in real arithmetic for the domain if the rows do; all else is a hint.
    """

    lower: float
    rows: Inequalities
    multipliers: Vector
    slopes: Mapping[int, Vector]
    mix: Vector
    seconds: float
    point: Vector | None
    converged: bool


class CutProgram:
    """The linear program of a network with the rows added so far, warm in a solver.

    Arguments:
        encoding: the network over one domain.
        goals: bounded is the largest of them. `aim` replaces a single one.
    """

    def __init__(self, encoding: Encoding, goals: Sequence[Goal]) -> None:
        program, self._constant = encoding.minimum(goals)
        self.encoding = encoding
        self.model = Model(program)
        self.added = Inequalities.none()
        self._goals = len(goals)
        self._own = program.matrix.rows
        self._idle = np.zeros(0, dtype=np.intp)
        self._read = np.zeros(program.matrix.columns, dtype=np.bool_)

    @cached_property
    def naming(self) -> Naming:
        """What the columns and rows of the encoding are."""
        return Naming(self.encoding)

    def keep(self, columns: Indices) -> None:
        """Never drop a row that reads no other columns: a separator builds on such rows.

        What a row without a multiplier says about one layer still shapes the rows that are found
        of the next one, and a point that those do not cut off need not violate it again.
        """
        self._read[columns] = True

    def aim(self, goal: Goal) -> None:
        """Bound another goal, with the same rows and a warm basis."""
        columns = self.model.program.matrix.columns
        cost = np.zeros(columns)
        cost[: len(goal.cost)] = goal.cost
        self.model.aim(cost)
        self._constant = goal.constant

    def solve(self, seconds: float = math.inf) -> tuple[Solution | None, float]:
        """The optimum as the solver sees it, and the bound that its multipliers prove."""
        solution = self.model.solve(seconds)
        program = self.model.program
        duals = np.zeros(program.matrix.rows) if solution is None else solution.duals
        bound = safe_bound(program, duals) + self._constant
        return solution, math.nextafter(bound, -math.inf) if math.isfinite(bound) else -math.inf

    def add(self, found: Inequalities, values: Mapping[int, Vector], violation: float) -> int:
        """Add the rows that a point violates; returns how many they are."""
        size = np.zeros(len(found))
        row = np.repeat(np.arange(len(found)), np.diff(found.start))
        np.maximum.at(size, row, np.abs(found.coefficient))
        chosen = np.flatnonzero(found.excess(values) > violation * size)
        if len(chosen):
            self.hold(found.take(chosen))
        return len(chosen)

    def hold(self, rows: Inequalities) -> None:
        """Add rows that are known already, violated or not."""
        matrix, rhs = self.encoding.rows(rows)
        wide = matrix.widened(self.model.program.matrix.columns)
        self.model.add(wide, np.full(len(rows), -np.inf), rhs)
        self.added = Inequalities.joined([self.added, rows])
        self._idle = np.concatenate([self._idle, np.zeros(len(rows), dtype=np.intp)])

    def multipliers(self, solution: Solution) -> Vector:
        """Of the rows added, at least 0."""
        return np.maximum(0.0, -solution.duals[self._own :])

    def mix(self, solution: Solution) -> Vector:
        """How the goals are mixed by their multipliers, `(goals,)`, at least 0."""
        if self._goals == 1:
            return np.ones(1)
        return np.maximum(0.0, solution.duals[self._own - self._goals : self._own])

    def parents(self, rows: Indices) -> list[int | Proof | None]:
        """What rows of the program are: the number of one of the encoding's, or an added one's
        proof."""
        proofs = self.added.all_proofs()
        return [r if r < self._own else proofs[r - self._own] for r in rows.tolist()]

    def purge(self, solution: Solution, rounds: int) -> None:
        """Note which rows had no multiplier, and drop the slack ones among those that had none
        for so many rounds, but for those to keep; to drop a tight one would cost the basis."""
        self._idle = np.where(self.multipliers(solution) > 0, 0, self._idle + 1)
        idle = np.flatnonzero(self._idle >= rounds)
        program = self.model.program
        part = program.matrix.take(self._own + idle)
        unread = np.bincount(part.row, ~self._read[part.index], part.rows) > 0
        slack = part.times(solution.point) < program.row_upper[self._own + idle] - _SLACK
        gone = idle[unread & slack]
        if not len(gone):
            return
        self.model.drop(self._own + gone)
        kept = np.delete(np.arange(len(self._idle)), gone)
        self.added = self.added.take(kept)
        self._idle = self._idle[kept]


def cut_loop(
    program: CutProgram, separators: Sequence[Separator], options: CutOptions = DEFAULT
) -> CutBound:
    """Bound the program's goal from below, adding the rows that the separators find.

    Arguments:
        program: left with the rows of the last round.
        separators: each maps node values, flat per node, to inequalities that hold on the whole
            domain; those that the values do not violate are left out.
        options: when to stop.

    Trust: see `CutBound`. Where time runs out, the best bound so far is kept.
    """
    started = time.perf_counter()
    best = _Best(program)
    history: list[float] = []
    point: Vector | None = None
    converged = False
    for _ in range(max(1, options.rounds + 1)):
        left = options.seconds - (time.perf_counter() - started)
        if history and (left <= 0 or options.stop()):
            break
        solution, lower = program.solve(left)
        history.append(lower)
        best.see(solution, lower)
        if solution is None:
            break
        point = _inside(program.encoding, solution.point)
        if lower > options.target or _stalls(history, options):
            break
        program.purge(solution, options.slack_rounds)
        if len(history) > options.rounds:
            break
        values = program.encoding.values(solution.point)
        found = [separator(values) for separator in separators]
        converged = program.add(Inequalities.joined(found), values, options.violation) == 0
        if converged:
            break
    seconds = time.perf_counter() - started
    return best.bound(seconds, point, converged)


class Optimum(NamedTuple):
    """An input, a value that the query does not exceed there, and how far above the bound it is."""

    input: Vector
    value: float
    gap: float


def run_optimum(found: CutBound, query: Query, program: Program, top: int) -> Optimum | None:
    """The network run on the input of the last optimum: a small gap says the bound is exact.

    Arguments:
        found: a bound of `query` over the values of the node `top`.
        program: the network.

    Returns:
        None if there was no optimum.

    Trust: value and gap hold in real arithmetic: the least value of the query over the box is
    between the bound and the value. A domain with splits need not contain the input.
    """
    if found.point is None:
        return None
    point = program.tensor(found.point).double().cpu().numpy()
    value = query.value(program, top, point)
    return Optimum(point, value, math.nextafter(value - found.lower, math.inf))


class _Best:
    """The best bound so far, with what it rests on."""

    def __init__(self, program: CutProgram) -> None:
        self._program = program
        self._lower = -math.inf
        self._rows, self._multipliers = Inequalities.none(), np.zeros(0)
        self._mix = np.ones(1)
        self._slopes: dict[int, Vector] = {}

    def see(self, solution: Solution | None, lower: float) -> None:
        """Take in a round."""
        if lower <= self._lower:
            return
        self._lower = lower
        if solution is None:
            return
        program = self._program
        multipliers = program.multipliers(solution)
        used = np.flatnonzero(multipliers > 0)
        self._rows, self._multipliers = program.added.take(used), multipliers[used]
        self._mix = program.mix(solution)
        self._slopes = program.encoding.slopes(program.model.program, solution.duals)

    def bound(self, seconds: float, point: Vector | None, converged: bool) -> CutBound:
        """The result."""
        return CutBound(
            self._lower,
            self._rows,
            self._multipliers,
            self._slopes,
            self._mix,
            seconds,
            point,
            converged,
        )


def _stalls(history: list[float], options: CutOptions) -> bool:
    if len(history) <= options.patience:
        return False
    before, now = history[-1 - options.patience], history[-1]
    return now - before <= options.least_gain * max(abs(now), abs(before))


def _inside(encoding: Encoding, point: Vector) -> Vector:
    count = encoding.network.input_size
    lower, upper = encoding.program.lower[:count], encoding.program.upper[:count]
    return np.clip(point[:count], lower, upper)
