"""The HiGHS backend. What it returns is a hint: a bound is recomputed from the duals."""

from dataclasses import dataclass

import highspy
import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Program:
    """`min cost . x` with `row_lower <= matrix @ x <= row_upper` and `lower <= x <= upper`."""

    cost: Vector
    matrix: NDArray[np.float64]
    row_lower: Vector
    row_upper: Vector
    lower: Vector
    upper: Vector


@dataclass(frozen=True, eq=False)
class Solution:
    """A point and the multipliers of the rows, in HiGHS's sign convention (minimisation)."""

    point: Vector
    duals: Vector


def solve(program: Program, seconds: float = np.inf) -> Solution | None:
    """Solve a dense linear program; None if the solver stops without a point.

    Trust: none. Neither the point nor the duals need be feasible.
    """
    model = highspy.HighsLp()
    rows, columns = program.matrix.shape
    model.num_col_, model.num_row_ = columns, rows
    model.col_cost_ = program.cost
    model.col_lower_, model.col_upper_ = program.lower, program.upper
    model.row_lower_, model.row_upper_ = program.row_lower, program.row_upper
    where = program.matrix != 0
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_ = np.concatenate([[0], np.cumsum(where.sum(axis=1))])
    model.a_matrix_.index_ = np.nonzero(where)[1]
    model.a_matrix_.value_ = program.matrix[where]
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    if np.isfinite(seconds):
        solver.setOptionValue("time_limit", float(seconds))
    solver.passModel(model)
    solver.run()
    found = solver.getSolution()
    if not found.value_valid or not found.dual_valid:
        return None
    return Solution(np.asarray(found.col_value), np.asarray(found.row_dual))
