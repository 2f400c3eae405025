"""Separators of a cut loop: from node values to rows that they violate."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hullmark.bounds.alpha import Ascent
from hullmark.bounds.relaxation import Relaxation
from hullmark.cuts.proofs import GroupProof
from hullmark.encode import Inequalities
from hullmark.errors import BadInput
from hullmark.joint.octahedron import octahedral_bounds
from hullmark.lp.program import Indices, Vector
from hullmark.network import ops
from hullmark.relax.octahedra import octahedra
from hullmark.relax.separate import JointRows, separate_from
from hullmark.rows import Kink, Value

_SMALLEST = 1e-9


class ReluGroups:
    """The k-ReLU rows of groups of neurons of one rectifier, one deep row a group at a time.

    Arguments:
        relaxation: of one domain, with bounds of the pre-activation.
        node: the rectifier.
        groups: flat indices of its neurons, `(G, k)`, k at most 3.
        bounds: of the octahedral sums, `(G, 3^k - 1)`, sound on the domain.

    Trust: every row holds on the domain if the bounds do.
    """

    def __init__(self, relaxation: Relaxation, node: int, groups: Indices, bounds: Vector) -> None:
        network = relaxation.program.network
        op = network.nodes[node].op
        if not isinstance(op, ops.Rectifier):
            raise BadInput(f"node {network.nodes[node].name} is not a rectifier")
        self.node, self.pre = node, network.nodes[node].inputs[0]
        self.groups = groups
        shape = network.nodes[node].shape
        self._negative, self._positive = (
            np.broadcast_to(np.asarray(s, np.float64), shape).ravel()[groups]
            for s in (op.negative, op.positive)
        )
        self._bounds = bounds
        self._octahedra = octahedra(bounds, self._negative, self._positive)

    def __call__(self, values: Mapping[int, Vector]) -> Inequalities:
        """Rows that the values violate, at most one for each group."""
        x, y = values[self.pre][self.groups], values[self.node][self.groups]
        # A point on the graph lies in every hull.
        apart = np.abs(y - np.where(x < 0, self._negative * x, self._positive * x)).max(axis=1)
        asked = np.flatnonzero(apart > _SMALLEST * np.abs(x).max(axis=1))
        rows = separate_from(self._octahedra.selected(asked), x[asked], y[asked])
        rows = replace(rows, group=asked[rows.group])
        proofs = [self._proof(rows.selected(np.array([i]))) for i in range(len(rows))]
        return Inequalities.of_groups(rows, self.pre, self.node, self.groups, proofs)

    def _proof(self, row: JointRows) -> GroupProof:
        """Of a single row."""
        at = int(row.group[0])
        sides = (self.groups[at], self._negative[at], self._positive[at])
        kinks = tuple(
            Kink(Value(self.pre, neuron), Value(self.node, neuron), negative, positive)
            for neuron, negative, positive in zip(*(s.tolist() for s in sides), strict=True)
        )
        return GroupProof(kinks, self._bounds[at], row)


def propagated_groups(relaxation: Relaxation, node: int, groups: Indices) -> ReluGroups:
    """Groups whose octahedral bounds are those of one backward pass [kReLU §4.3].

    Arguments as for `ReluGroups`.
    """
    pre = relaxation.program.network.nodes[node].inputs[0]
    bounds = octahedral_bounds(relaxation, pre, groups, Ascent(steps=0))
    return ReluGroups(relaxation, node, groups, bounds)
