"""The HiGHS backend. What it returns is a hint: a bound is recomputed from the duals."""

from dataclasses import dataclass

import highspy
import numpy as np

from hullmark.lp.program import Indices, Program, Sparse, Vector

# Beyond so many rows an interior point method and its crossover find the first basis sooner.
LARGE = 3000


@dataclass(frozen=True, eq=False)
class Solution:
    """A point and the multipliers of the rows, in HiGHS's sign convention (minimisation)."""

    point: Vector
    duals: Vector


class Model:
    """A program inside a solver, which starts each solve from the basis where it ended the last.

    Arguments:
        program: as it is at first.
        scaled: whether the solver may scale it; programs of networks are as well without, and
            take half of the iterations.

    Trust: none in what the solver says; `program` is always the program that was asked about.
    """

    def __init__(self, program: Program, scaled: bool = False) -> None:
        self.program = program
        self.iterations = 0
        self._solver = _quiet()
        if program.matrix.rows > LARGE:
            self._solver.setOptionValue("solver", "ipm")
        if not scaled:
            self._solver.setOptionValue("simplex_scale_strategy", 0)
        self._solver.passModel(_model(program))

    def aim(self, cost: Vector) -> None:
        """Replace the objective."""
        self.program = self.program.with_cost(cost)
        columns = np.arange(len(cost), dtype=np.int32)
        self._solver.changeColsCost(len(cost), columns, cost)

    def add(self, matrix: Sparse, lower: Vector, upper: Vector) -> None:
        """Append rows; the last basis stays feasible for the dual simplex."""
        self.program = self.program.with_rows(matrix, lower, upper)
        merged = matrix.merged()
        start, index = merged.start[:-1].astype(np.int32), merged.index.astype(np.int32)
        count = len(merged.value)
        self._solver.addRows(matrix.rows, lower, upper, count, start, index, merged.value)

    def drop(self, rows: Indices) -> None:
        """Remove rows; the basis stays if all of them were slack at the last solution."""
        self.program = self.program.without_rows(rows)
        self._solver.deleteRows(len(rows), np.sort(rows).astype(np.int32))

    def solve(self, seconds: float = np.inf) -> Solution | None:
        """Solve from the last basis; None if the solver stops without a point and duals."""
        if np.isfinite(seconds):
            # The solver's clock adds up all of its runs.
            limit = self._solver.getRunTime() + max(0.0, float(seconds))
            self._solver.setOptionValue("time_limit", limit)
        self._solver.run()
        self._solver.setOptionValue("solver", "simplex")
        self.iterations += max(0, int(self._solver.getInfo().simplex_iteration_count))
        found = self._solver.getSolution()
        if not found.value_valid or not found.dual_valid:
            return None
        return Solution(np.asarray(found.col_value), np.asarray(found.row_dual))


def solve(program: Program, seconds: float = np.inf) -> Solution | None:
    """Solve a linear program once; None if the solver stops without a point.

    Trust: none. Neither the point nor the duals need be feasible.
    """
    return Model(program, scaled=True).solve(seconds)


def unverified_integer_bound(program: Program, binary: Indices, seconds: float) -> float:
    """The solver's own lower bound of the program with some columns 0 or 1.

    Returns:
        Minus infinity if the solver has none.

    Trust: none: mixed-integer solvers give no multipliers from which it could be recomputed.
    """
    solver = _quiet()
    solver.setOptionValue("time_limit", max(0.0, float(seconds)))
    solver.passModel(_model(program))
    kind = np.full(len(binary), 1, dtype=np.uint8)
    solver.changeColsIntegrality(len(binary), binary.astype(np.int32), kind)
    solver.run()
    bound = float(solver.getInfo().mip_dual_bound)
    return bound if np.isfinite(bound) else -np.inf


def _quiet() -> highspy.Highs:
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    # The parallel simplex would ignore a basis.
    solver.setOptionValue("parallel", "off")
    return solver


def _model(program: Program) -> highspy.HighsLp:
    model = highspy.HighsLp()
    matrix = program.matrix.merged()
    model.num_row_, model.num_col_ = matrix.shape
    model.col_cost_ = program.cost
    model.col_lower_, model.col_upper_ = program.lower, program.upper
    model.row_lower_, model.row_upper_ = program.row_lower, program.row_upper
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_ = matrix.start
    model.a_matrix_.index_ = matrix.index
    model.a_matrix_.value_ = matrix.value
    return model
