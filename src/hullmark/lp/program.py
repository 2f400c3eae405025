"""A linear program as a value: sparse, in floats that are meant exactly as they are stored."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hullmark.errors import BadInput

Vector = NDArray[np.float64]
Indices = NDArray[np.intp]


def gathered(place: Indices, terms: Vector, size: int) -> Vector:
    """`(size,)`: at each place the sum of its terms, rounded, as many as there are."""
    return np.asarray(np.bincount(place, weights=terms, minlength=size), np.float64)


@dataclass(frozen=True, eq=False)
class Sparse:
    """A matrix by rows; row i has `value[start[i]:start[i + 1]]` at columns `index[...]`.

    Entries at one place add up, in real arithmetic: a sum that is no float needs no rounding.

    Trust: exact, but for `times`, `transposed_times` and `merged`.
    """

    start: Indices
    index: Indices
    value: Vector
    columns: int

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.start) - 1

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows, self.columns

    @cached_property
    def row(self) -> Indices:
        """The row of every entry."""
        return np.repeat(np.arange(self.rows), np.diff(self.start))

    @staticmethod
    def of(dense: NDArray[np.float64]) -> "Sparse":
        """The entries of a dense matrix that are not zero."""
        row, column = np.nonzero(dense)
        start = np.searchsorted(row, np.arange(len(dense) + 1))
        return Sparse(start, column, np.asarray(dense[row, column], np.float64), dense.shape[1])

    @staticmethod
    def placed(row: Indices, column: Indices, value: Vector, shape: tuple[int, int]) -> "Sparse":
        """The matrix with the given entries, in any order."""
        order = np.argsort(row, kind="stable")
        start = np.searchsorted(row[order], np.arange(shape[0] + 1))
        return Sparse(start, column[order], value[order], shape[1])

    @staticmethod
    def unit(size: int) -> "Sparse":
        """The identity."""
        return Sparse(np.arange(size + 1), np.arange(size), np.ones(size), size)

    @staticmethod
    def zeros(rows: int, columns: int) -> "Sparse":
        """The matrix without entries."""
        none = np.zeros(0, dtype=np.intp)
        return Sparse(np.zeros(rows + 1, dtype=np.intp), none, np.zeros(0), columns)

    def take(self, rows: Indices) -> "Sparse":
        """Some of the rows, in the given order."""
        count = np.diff(self.start)[rows]
        start = np.concatenate([[0], np.cumsum(count)])
        entries = np.arange(start[-1]) + np.repeat(self.start[rows] - start[:-1], count)
        return Sparse(start, self.index[entries], self.value[entries], self.columns)

    def over(self, other: "Sparse") -> "Sparse":
        """These rows and then the other's, as wide as the wider of the two."""
        return Sparse(
            np.concatenate([self.start, self.start[-1] + other.start[1:]]),
            np.concatenate([self.index, other.index]),
            np.concatenate([self.value, other.value]),
            max(self.columns, other.columns),
        )

    def widened(self, columns: int) -> "Sparse":
        """The same entries with more columns."""
        return replace(self, columns=columns)

    def negated(self) -> "Sparse":
        """Every entry with the other sign."""
        return replace(self, value=-self.value)

    def plus(self, other: "Sparse") -> "Sparse":
        """The sum, entry beside entry."""
        row = np.concatenate([self.row, other.row])
        index = np.concatenate([self.index, other.index])
        value = np.concatenate([self.value, other.value])
        return Sparse.placed(row, index, value, (self.rows, max(self.columns, other.columns)))

    def transposed(self) -> "Sparse":
        """Rows and columns exchanged."""
        return Sparse.placed(self.index, self.row, self.value, (self.columns, self.rows))

    def compose(self, other: "Sparse") -> "Sparse":
        """`self @ other`, one entry for each product.

        Trust: exact where the entries of one factor are 1 and -1, rounded to nearest otherwise.
        """
        picked = other.take(self.index)
        count = np.diff(picked.start)
        filled = np.concatenate([[0], np.cumsum(count)])
        value = np.repeat(self.value, count) * picked.value
        return Sparse(filled[self.start], picked.index, value, other.columns)

    def times(self, x: Vector) -> Vector:
        """`self @ x`, rounded."""
        return gathered(self.row, self.value * x[self.index], self.rows)

    def transposed_times(self, y: Vector) -> Vector:
        """`self.T @ y`, rounded; sums of as many terms as a column has entries."""
        return gathered(self.index, self.value * y[self.row], self.columns)

    def merged(self) -> "Sparse":
        """One entry a place and no zeros, as solvers want it; sums are rounded."""
        place = self.row * self.columns + self.index
        if len(place) == 0 or (bool(np.all(np.diff(place) > 0)) and bool(np.all(self.value))):
            return self
        only, inverse = np.unique(place, return_inverse=True)
        value = gathered(inverse, self.value, len(only))
        only, value = only[value != 0], value[value != 0]
        return Sparse.placed(only // self.columns, only % self.columns, value, self.shape)


@dataclass(frozen=True, eq=False)
class Program:
    """`min cost . x` with `row_lower <= matrix @ x <= row_upper` and `lower <= x <= upper`.

    A side that is not there is infinite.

    Raises:
        BadInput: if the shapes do not fit.
    """

    cost: Vector
    matrix: Sparse
    row_lower: Vector
    row_upper: Vector
    lower: Vector
    upper: Vector

    def __post_init__(self) -> None:
        rows, columns = self.matrix.shape
        wanted = (columns, rows, rows, columns, columns)
        sides = (self.cost, self.row_lower, self.row_upper, self.lower, self.upper)
        if tuple(map(len, sides)) != wanted:
            raise BadInput(f"a linear program of {rows} rows and {columns} columns does not fit")

    def with_rows(self, matrix: Sparse, lower: Vector, upper: Vector) -> "Program":
        """The program with further rows below its own."""
        return replace(
            self,
            matrix=self.matrix.over(matrix),
            row_lower=np.concatenate([self.row_lower, lower]),
            row_upper=np.concatenate([self.row_upper, upper]),
        )

    def without_rows(self, dropped: Indices) -> "Program":
        """The program without some of its rows."""
        kept = np.delete(np.arange(self.matrix.rows), dropped)
        return replace(
            self,
            matrix=self.matrix.take(kept),
            row_lower=self.row_lower[kept],
            row_upper=self.row_upper[kept],
        )

    def with_cost(self, cost: Vector) -> "Program":
        """The program with another objective."""
        return replace(self, cost=cost)
