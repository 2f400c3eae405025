"""Inequalities over the values of any nodes, in arrays: what separators hand to a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from hullmark.lp.program import Indices, Vector, gathered
from hullmark.rows import Row

if TYPE_CHECKING:
    from hullmark.relax.separate import JointRows

Groups = Indices


class Proof(Protocol):
    """Why an inequality holds, kept in short until somebody asks."""

    def row(self) -> Row | None:
        """The inequality with its derivation; None if no row can say it.

        Trust: `Row.derived` checks it.
        """
        ...


@dataclass(frozen=True, eq=False)
class Inequalities:
    """`sum coefficient[t] * value(node[t], neuron[t]) <= rhs[r]` over the terms t of each row r.

    Row r has the terms `start[r]` to `start[r + 1]`; neurons are flat indices within their node.
    `proofs` has one entry for each row, None where there is none; it may be empty if all are.

    Trust: as good as their maker's.
    """

    start: Indices
    node: Indices
    neuron: Indices
    coefficient: Vector
    rhs: Vector
    proofs: tuple[Proof | None, ...] = ()

    def __len__(self) -> int:
        return len(self.rhs)

    @staticmethod
    def none() -> Inequalities:
        """No inequality."""
        empty = np.zeros(0, dtype=np.intp)
        return Inequalities(np.zeros(1, dtype=np.intp), empty, empty, np.zeros(0), np.zeros(0))

    @staticmethod
    def of_groups(
        rows: JointRows,
        pre: int | Indices,
        post: int | Indices,
        groups: Groups,
        proofs: Sequence[Proof] = (),
    ) -> Inequalities:
        """Rows over groups of neurons: x are values of the node `pre`, y of the node `post`.

        Arguments:
            rows: of a batch of groups. Where `pre` is `post`, x or y is zero.
            pre, post: the nodes before and after the nonlinearity; `(G, k)` if members differ.
            groups: flat indices of neurons in these nodes, `(G, k)`.
            proofs: of each row, or none.
        """
        neuron = np.tile(groups[rows.group], 2)
        nodes = np.stack(np.broadcast_arrays(pre, post, groups)[:2], axis=1)
        node = nodes[rows.group].reshape(neuron.shape)
        coefficient = np.concatenate([rows.x, rows.y], axis=1)
        used = coefficient != 0
        return Inequalities(
            np.concatenate([[0], np.cumsum(used.sum(axis=1))]),
            node[used],
            neuron[used],
            np.asarray(coefficient[used]),
            rows.rhs,
            tuple(proofs),
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
            tuple(proof for part in parts for proof in part.all_proofs()),
        )

    def take(self, rows: Indices) -> Inequalities:
        """Some of the rows, in the given order."""
        count = np.diff(self.start)[rows]
        start = np.concatenate([[0], np.cumsum(count)])
        terms = np.arange(start[-1]) + np.repeat(self.start[rows] - start[:-1], count)
        known = self.all_proofs()
        return Inequalities(
            start,
            self.node[terms],
            self.neuron[terms],
            self.coefficient[terms],
            self.rhs[rows],
            tuple(known[row] for row in rows.tolist()),
        )

    def all_proofs(self) -> tuple[Proof | None, ...]:
        """The proof of every row, None where there is none."""
        return self.proofs or (None,) * len(self)

    def derived(self) -> tuple[Row, ...]:
        """The rows that have proofs, with their derivations.

        Trust: `Row.derived` checks each.
        """
        found = (proof.row() for proof in self.proofs if proof is not None)
        return tuple(row for row in found if row is not None)

    def excess(self, values: Mapping[int, Vector]) -> Vector:
        """How far a point, flat values per node, is beyond each row; rounded."""
        term = np.repeat(np.arange(len(self)), np.diff(self.start))
        at = np.zeros(len(self.node))
        for j in np.unique(self.node).tolist():
            chosen = self.node == j
            at[chosen] = values[j].ravel()[self.neuron[chosen]]
        total = gathered(term, self.coefficient * at, len(self))
        return total - self.rhs
