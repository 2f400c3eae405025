"""The linear program whose solutions are cuts of a group of ReLUs over a polytope [Balas79]."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from hullmark.lp.program import Indices, Program, Sparse, Vector
from hullmark.lp.safe import product_down, sum_down


@dataclass(frozen=True, eq=False)
class Neurons:
    """ReLUs `y = max(weight @ w + bias, 0)` of a group over the columns `w` of a program.

    `weight` `(k, d)`; `bias` `(k,)`; `live` are the columns that a cut may use, which for `M_k`
    are the inputs of the layer: cuts over all columns see more than one layer.
    """

    weight: Sparse
    bias: Vector
    live: Indices


@dataclass(frozen=True, eq=False)
class Multipliers:
    """Why a cut holds: for each sign pattern, in the order of `product((-1, 1), repeat=k)`,

    multipliers of the program's rows `(2^k, m)`, positive on upper and negative on lower sides,
    and of the equations `z - weight @ w = bias` `(2^k, k)`, of any sign.
    """

    rows: Vector
    equations: Vector


class CutGenerator:
    """The cut-generating program, and where in it everything stands.

    Its columns are the coefficients on live columns and on posts, each as the difference of two
    that are not negative; the right-hand side; and for each sign pattern multipliers of the upper
    and lower sides of the rows, of the upper and lower bounds of the columns, and of those of the
    pre-activations. With `c` the coefficients on the columns, `g` those on the posts that are
    active, `p` and `q`, `r` and `t`, `o` and `u` the multipliers and `e = g - o + u`, a pattern
    asks for `c + W^T e - A^T (p - q) - r + t = 0` and for
    `upper . p - lower . q + high . r - low . t + bias . e + z_high . o - z_low . u <= rhs`.
    """

    def __init__(self, polytope: Program, neurons: Neurons, bounds: tuple[Vector, Vector]) -> None:
        self._polytope, self._neurons, self._bounds = polytope, neurons, bounds
        self._columns, self._k = polytope.matrix.columns, len(neurons.bias)
        self._above = np.flatnonzero(np.isfinite(polytope.row_upper))
        self._below = np.flatnonzero(np.isfinite(polytope.row_lower))
        self._half = len(neurons.live) + self._k
        self._positive = np.array(list(product((False, True), repeat=self._k)))
        sizes = [len(self._above), len(self._below), *[self._columns] * 2, *[self._k] * 2]
        self._ends = np.cumsum(sizes)

    def program(self, at: Vector, scale: Vector) -> Program:
        """Maximise by how much the cut passes the point, in units of `scale`; both `(d + k,)`."""
        head, block = 2 * self._half + 1, int(self._ends[-1])
        patterns, equations = len(self._positive), self._columns
        total = head + patterns * block
        used = self._coefficients()
        norm = np.concatenate([scale[used], scale[used]])
        pieces = [(Sparse.of(norm[None]), 0, 0)]
        tail = self._tail()
        for index, positive in enumerate(self._positive):
            row, column = 1 + index * (equations + 1), head + index * block
            pieces.append((self._head(positive), row, 0))
            pieces.extend((piece, row, column + start) for piece, start in tail)
            on_head, on_tail = self._charges(positive)
            pieces.append((Sparse.of(on_head[None]), row + equations, 0))
            pieces.append((Sparse.of(on_tail[None]), row + equations, column))
        rows = 1 + patterns * (equations + 1)
        lower = np.tile(np.append(np.zeros(equations), -np.inf), patterns)
        floor = np.zeros(total)
        floor[head - 1] = -np.inf
        cost = np.zeros(total)
        cost[:head] = np.concatenate([-at[used], at[used], [1.0]])
        return Program(
            cost,
            assembled(pieces, (rows, total)),
            np.append(-np.inf, lower),
            np.append(1.0, np.zeros(rows - 1)),
            floor,
            np.full(total, np.inf),
        )

    def read(self, point: Vector) -> tuple[Vector, Multipliers]:
        """The coefficients `(d + k,)` and the multipliers of a solution."""
        half, head = self._half, 2 * self._half + 1
        coefficients = np.zeros(self._columns + self._k)
        coefficients[self._coefficients()] = point[:half] - point[half : head - 1]
        parts = np.maximum(point[head:].reshape(len(self._positive), -1), 0.0)
        above, below, _, _, over, under, _ = np.split(parts, self._ends, axis=1)
        rows = np.zeros((len(self._positive), self._polytope.matrix.rows))
        rows[:, self._above] += above
        rows[:, self._below] -= below
        active = self._positive * coefficients[self._columns :]
        return coefficients, Multipliers(rows, active - over + under)

    def _coefficients(self) -> Indices:
        """The entries of `(w, y)` that a cut may use."""
        posts = np.arange(self._columns, self._columns + self._k)
        return np.concatenate([self._neurons.live, posts])

    def _head(self, positive: Vector) -> Sparse:
        """`c + W^T g` in terms of the coefficients."""
        live = self._neurons.live
        units = Sparse.placed(
            live, np.arange(len(live)), np.ones(len(live)), (self._columns, len(live))
        )
        weight = self._neurons.weight
        active = Sparse(
            weight.start, weight.index, weight.value * positive[weight.row], self._columns
        )
        posts = active.transposed()
        half = assembled([(units, 0, 0), (posts, 0, len(live))], (self._columns, self._half))
        parts = [(half, 0, 0), (half.negated(), 0, self._half)]
        return assembled(parts, (self._columns, 2 * self._half + 1))

    def _tail(self) -> list[tuple[Sparse, int]]:
        """What the multipliers of one pattern add to its equations, and at which columns."""
        matrix, unit = self._polytope.matrix, Sparse.unit(self._columns)
        weight = self._neurons.weight.transposed()
        parts = [
            matrix.take(self._above).transposed().negated(),
            matrix.take(self._below).transposed(),
            unit.negated(),
            unit,
            weight.negated(),
            weight,
        ]
        return list(zip(parts, [0, *self._ends.tolist()[:-1]], strict=True))

    def _charges(self, positive: Vector) -> tuple[Vector, Vector]:
        """What the coefficients and the multipliers of one pattern add to its right-hand side."""
        polytope, bias = self._polytope, self._neurons.bias
        low, high = signed_bounds(self._bounds, positive)
        none, active = np.zeros(len(self._neurons.live)), bias * positive
        head = np.concatenate([none, active, none, -active, [-1.0]])
        sides = [polytope.row_upper[self._above], -polytope.row_lower[self._below]]
        box = [polytope.upper, -polytope.lower]
        return head, np.concatenate([*sides, *box, high - bias, bias - low])


def pre_bounds(polytope: Program, neurons: Neurons) -> tuple[Vector, Vector]:
    """Bounds `(k,)` of the pre-activations over the box of the columns; hold in real arithmetic."""
    found: list[list[float]] = [[], []]
    for j, bias in enumerate(neurons.bias):
        row = neurons.weight.take(np.array([j]))
        for ends, sign in zip(found, (1.0, -1.0), strict=True):
            at_lower = product_down(sign * row.value, polytope.lower[row.index])
            at_upper = product_down(sign * row.value, polytope.upper[row.index])
            terms = np.append(np.minimum(at_lower, at_upper), sign * bias)
            ends.append(sign * sum_down(terms))
    return np.array(found[0]), np.array(found[1])


def signed_bounds(bounds: tuple[Vector, Vector], positive: Vector) -> tuple[Vector, Vector]:
    """Bounds of the pre-activations where they have these signs."""
    low, high = bounds
    return (
        np.where(positive, 0.0, np.minimum(low, 0.0)),
        np.where(positive, np.maximum(high, 0.0), 0.0),
    )


def with_values(weight: Sparse) -> Sparse:
    """`z - weight @ w` over columns `w` and then `z`."""
    k = weight.rows
    parts = [(weight.negated(), 0, 0), (Sparse.unit(k), 0, weight.columns)]
    return assembled(parts, (k, weight.columns + k))


def assembled(pieces: Sequence[tuple[Sparse, int, int]], shape: tuple[int, int]) -> Sparse:
    """One matrix of several, each with its first row and column."""
    row = np.concatenate([piece.row + first for piece, first, _ in pieces])
    column = np.concatenate([piece.index + first for piece, _, first in pieces])
    value = np.concatenate([piece.value for piece, _, _ in pieces])
    return Sparse.placed(row, column, value, shape)
