"""Linear programs in rational arithmetic, solved exactly.

HiGHS proposes a basis in floats; it is then solved over the rationals, and simplex steps in
rational arithmetic go on from it until it is optimal, or no point is feasible, beyond doubt
[DhiflaouiEtAl03].
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import highspy
import numpy as np
from flint import fmpq

from hullmark.errors import BadInput
from hullmark.exact import nearest
from hullmark.lp.simplex import Places, Simplex

Terms = Mapping[int, Fraction]
"""A linear form: coefficients of columns."""

_ZERO = fmpq(0)


@dataclass(frozen=True, eq=False)
class Optimum:
    """An optimal solution.

    `value` of the cost at `point` `(n,)`; `duals` `{row: multiplier}` are those that are not 0,
    positive at a row's lower side, negative at its upper side, when minimising.

    Trust: exact; the multipliers prove that no feasible point has a lower cost.
    """

    value: Fraction
    point: tuple[Fraction, ...]
    duals: dict[int, Fraction]


@dataclass(frozen=True, eq=False)
class Infeasible:
    """A proof that no point is feasible: multipliers of rows, `{row: multiplier}`.

    The combination of the rows has a largest value over the box of the columns that is below
    what their sides demand.
    """

    duals: dict[int, Fraction]


class RationalProgram:
    """`min cost . x` subject to `lower <= x <= upper` and rows `low <= a . x <= high`, exactly.

    Grows by `column` and `row`; a solve starts from the basis where the last one ended. A side
    of None is not there.

    Trust: exact.
    """

    def __init__(self) -> None:
        self._lower: list[fmpq | None] = []
        self._upper: list[fmpq | None] = []
        self._rows: list[dict[int, fmpq]] = []
        self._low: list[fmpq | None] = []
        self._high: list[fmpq | None] = []
        self._solver = _solver()

    @property
    def columns(self) -> int:
        """The number of columns."""
        return len(self._lower)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self._rows)

    def column(self, lower: Fraction | None = None, upper: Fraction | None = None) -> int:
        """Append a column; returns its index.

        Raises:
            BadInput: if its sides exclude each other.
        """
        if lower is not None and upper is not None and lower > upper:
            raise BadInput("the sides of a column of a linear program exclude each other")
        self._lower.append(_side(lower))
        self._upper.append(_side(upper))
        low, high = _float_side(lower, -np.inf), _float_side(upper, np.inf)
        self._solver.addCol(0.0, low, high, 0, np.zeros(0, np.int32), np.zeros(0))
        return self.columns - 1

    def row(
        self, terms: Terms, lower: Fraction | None = None, upper: Fraction | None = None
    ) -> int:
        """Append `lower <= sum of terms <= upper`; returns its index.

        Raises:
            BadInput: if a term names no column, or the sides exclude each other.
        """
        if lower is not None and upper is not None and lower > upper:
            raise BadInput("the sides of a row of a linear program exclude each other")
        kept = {j: _rational(value) for j, value in terms.items() if value}
        if any(not 0 <= j < self.columns for j in kept):
            raise BadInput("a row of a linear program names a column that does not exist")
        self._rows.append(kept)
        self._low.append(_side(lower))
        self._high.append(_side(upper))
        # The float solver refuses large coefficients, and takes small ones for zeros.
        scale = max((abs(Fraction(terms[j])) for j in kept), default=Fraction(1))
        low = _float_side(None if lower is None else lower / scale, -np.inf)
        high = _float_side(None if upper is None else upper / scale, np.inf)
        index = np.array(list(kept), dtype=np.int32)
        value = np.array([nearest(terms[j] / scale) for j in kept])
        self._solver.addRow(low, high, len(kept), index, value)
        return self.rows - 1

    def drop_rows(self, first: int) -> None:
        """Remove the rows from the index `first` on."""
        if first < self.rows:
            gone = np.arange(first, self.rows, dtype=np.int32)
            self._solver.deleteRows(len(gone), gone)
            del self._rows[first:], self._low[first:], self._high[first:]

    def copy(self) -> "RationalProgram":
        """The same program, to grow on its own."""
        twin = RationalProgram()
        for lower, upper in zip(self._lower, self._upper, strict=True):
            twin.column(_back(lower), _back(upper))
        for terms, low, high in self.all_rows():
            twin.row(terms, low, high)
        return twin

    def all_rows(self) -> Iterable[tuple[dict[int, Fraction], Fraction | None, Fraction | None]]:
        """Terms, lower and upper side of every row."""
        for terms, low, high in zip(self._rows, self._low, self._high, strict=True):
            yield {j: _fraction(v) for j, v in terms.items()}, _back(low), _back(high)

    def all_columns(self) -> Iterable[tuple[Fraction | None, Fraction | None]]:
        """Lower and upper side of every column."""
        for lower, upper in zip(self._lower, self._upper, strict=True):
            yield _back(lower), _back(upper)

    def minimise(self, cost: Terms) -> Optimum | Infeasible:
        """Solve.

        Raises:
            BadInput: if the cost has no least value.
            Unsupported: if too many exact steps would be needed.

        Trust: exact.
        """
        goal = [_ZERO] * self.columns
        for j, value in cost.items():
            if not 0 <= j < self.columns:
                raise BadInput("the cost of a linear program names a column that does not exist")
            goal[j] = _rational(value)
        if not self._rows:
            return self._corner(goal)
        simplex = Simplex(self._rows, self._lower + self._low, self._upper + self._high, goal)
        simplex.start(self._proposal(goal))
        if not simplex.feasible():
            return Infeasible(_fractions(simplex.duals))
        simplex.optimise()
        value = sum((c * x for c, x in zip(goal, simplex.point, strict=True)), _ZERO)
        point = tuple(_fraction(x) for x in simplex.point)
        return Optimum(_fraction(value), point, _fractions(simplex.duals))

    def _corner(self, goal: list[fmpq]) -> Optimum:
        """The solution without rows: every column at its better side."""
        point: list[fmpq] = []
        for c, low, high in zip(goal, self._lower, self._upper, strict=True):
            side = low if c > 0 else high if c < 0 else _ZERO
            if not c and (low is not None or high is not None):
                side = high if low is None else low
            if side is None:
                raise BadInput("a linear program has no least value")
            point.append(side)
        value = sum((c * x for c, x in zip(goal, point, strict=True)), _ZERO)
        return Optimum(_fraction(value), tuple(map(_fraction, point)), {})

    def _proposal(self, goal: list[fmpq]) -> Places | None:
        """Where the float solver ends."""
        columns = np.arange(self.columns, dtype=np.int32)
        scale = max((abs(_fraction(c)) for c in goal if c), default=Fraction(1))
        costs = np.array([nearest(_fraction(c) / scale) for c in goal])
        self._solver.changeColsCost(self.columns, columns, costs)
        self._solver.run()
        basis = self._solver.getBasis()
        # A row that the float solver would not take leaves it with another program.
        if not basis.valid or len(basis.row_status) != self.rows:
            return None
        places = {
            highspy.HighsBasisStatus.kBasic: 0,
            highspy.HighsBasisStatus.kUpper: 1,
        }
        statuses = [*basis.col_status, *basis.row_status]
        return [places.get(status, -1) for status in statuses]


def _rational(value: Fraction) -> fmpq:
    return fmpq(value.numerator, value.denominator)


def _fraction(value: fmpq) -> Fraction:
    return Fraction(int(value.p), int(value.q))


def _fractions(values: Mapping[int, fmpq]) -> dict[int, Fraction]:
    return {i: _fraction(value) for i, value in values.items() if value}


def _side(value: Fraction | None) -> fmpq | None:
    return None if value is None else _rational(value)


def _back(value: fmpq | None) -> Fraction | None:
    return None if value is None else _fraction(value)


def _float_side(value: Fraction | None, missing: float) -> float:
    return missing if value is None else nearest(value)


def _solver() -> highspy.Highs:
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    solver.setOptionValue("presolve", "off")
    solver.setOptionValue("solver", "simplex")
    return solver
