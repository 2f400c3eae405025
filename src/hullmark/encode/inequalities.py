"""Inequalities over the values of any nodes, in arrays: what separators hand to a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hullmark.bounds.pools import Pool
from hullmark.errors import BadInput
from hullmark.lp.program import Indices, Sparse, Vector, gathered
from hullmark.rows import Row, Value

if TYPE_CHECKING:
    from hullmark.relax.separate import JointRows

Groups = Indices


@dataclass(frozen=True, eq=False)
class Inequalities:
    """`sum coefficient[t] * value(node[t], neuron[t]) <= rhs[r]` over the terms t of each row r.

    Row r has the terms `start[r]` to `start[r + 1]`; neurons are flat indices within their node.

    Trust: as good as their maker's.
    """

    start: Indices
    node: Indices
    neuron: Indices
    coefficient: Vector
    rhs: Vector

    def __len__(self) -> int:
        return len(self.rhs)

    @staticmethod
    def none() -> Inequalities:
        """No inequality."""
        empty = np.zeros(0, dtype=np.intp)
        return Inequalities(np.zeros(1, dtype=np.intp), empty, empty, np.zeros(0), np.zeros(0))

    @staticmethod
    def of_groups(rows: JointRows, pre: int, post: int, groups: Groups) -> Inequalities:
        """Rows over groups of neurons: x are values of the node `pre`, y of the node `post`.

        Arguments:
            rows: of a batch of groups.
            pre, post: the nodes before and after the nonlinearity.
            groups: flat indices of neurons, `(G, k)`.
        """
        k = groups.shape[1]
        neuron = np.tile(groups[rows.group], 2)
        node = np.broadcast_to(np.repeat([pre, post], k), neuron.shape)
        return _rectangular(node, neuron, np.concatenate([rows.x, rows.y], axis=1), rows.rhs)

    @staticmethod
    def of_rows(rows: Sequence[Row]) -> Inequalities:
        """Rows over values.

        Raises:
            BadInput: for a row over an indicator, which is no column of a linear program.
        """
        node: list[int] = []
        neuron: list[int] = []
        coefficient: list[float] = []
        start = [0]
        for row in rows:
            for name, factor in row.terms:
                if not isinstance(name, Value):
                    raise BadInput(f"a linear program has no column for {name}")
                node.append(name.node)
                neuron.append(name.neuron)
                coefficient.append(factor)
            start.append(len(node))
        return Inequalities(
            np.array(start, dtype=np.intp),
            np.array(node, dtype=np.intp),
            np.array(neuron, dtype=np.intp),
            np.array(coefficient, dtype=np.float64),
            np.array([row.rhs for row in rows], dtype=np.float64),
        )

    @staticmethod
    def of_pool(pool: Pool) -> Inequalities:
        """The rows of a pool."""
        count = len(pool.rhs)
        parts = [
            (j, Sparse.of(c.flatten(1).double().cpu().numpy()))
            for j, c in pool.coefficients.items()
        ]
        row = np.concatenate([part.row for _, part in parts])
        node = np.concatenate([np.full(len(part.value), j) for j, part in parts])
        order = np.argsort(row, kind="stable")
        return Inequalities(
            np.searchsorted(row[order], np.arange(count + 1)),
            node[order],
            np.concatenate([part.index for _, part in parts])[order],
            np.concatenate([part.value for _, part in parts])[order],
            pool.rhs.double().cpu().numpy(),
        )

    @staticmethod
    def joined(parts: Sequence[Inequalities]) -> Inequalities:
        """All rows of several."""
        if not parts:
            return Inequalities.none()
        ends = np.cumsum([0, *(part.start[-1] for part in parts)])
        starts = [part.start[1:] + end for part, end in zip(parts, ends[:-1], strict=True)]
        return Inequalities(
            np.concatenate([[0], *starts]),
            np.concatenate([part.node for part in parts]),
            np.concatenate([part.neuron for part in parts]),
            np.concatenate([part.coefficient for part in parts]),
            np.concatenate([part.rhs for part in parts]),
        )

    def take(self, rows: Indices) -> Inequalities:
        """Some of the rows, in the given order."""
        count = np.diff(self.start)[rows]
        start = np.concatenate([[0], np.cumsum(count)])
        terms = np.arange(start[-1]) + np.repeat(self.start[rows] - start[:-1], count)
        return Inequalities(
            start, self.node[terms], self.neuron[terms], self.coefficient[terms], self.rhs[rows]
        )

    def excess(self, values: Mapping[int, Vector]) -> Vector:
        """How far a point, flat values per node, is beyond each row; rounded."""
        term = np.repeat(np.arange(len(self)), np.diff(self.start))
        at = np.zeros(len(self.node))
        for j in np.unique(self.node).tolist():
            chosen = self.node == j
            at[chosen] = values[j].ravel()[self.neuron[chosen]]
        total = gathered(term, self.coefficient * at, len(self))
        return total - self.rhs


def _rectangular(node: Indices, neuron: Indices, coefficient: Vector, rhs: Vector) -> Inequalities:
    """Rows with equally many terms, without the terms whose coefficient is 0."""
    used = coefficient != 0
    start = np.concatenate([[0], np.cumsum(used.sum(axis=1))])
    return Inequalities(start, node[used], neuron[used], np.asarray(coefficient[used]), rhs)
