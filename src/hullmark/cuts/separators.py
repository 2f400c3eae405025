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
from hullmark.joint.passing import passing_groups
from hullmark.joint.store import Block, Layer, LayerRows
from hullmark.lp.program import Indices, Vector
from hullmark.network import ops
from hullmark.relax.octahedra import octahedra
from hullmark.relax.separate import separate_from

_SMALLEST = 1e-9


class ReluGroups:
    """The k-ReLU rows of groups of one rectifier, one deep row a group at a time.

    Arguments:
        relaxation: of one domain, with bounds of the pre-activation.
        node: the rectifier.
        groups: coordinates `(G, k)`, k at most 3, all different within a group: flat indices of
            its neurons, and then of the values that pass it, as `Layer.space` counts them.
        bounds: of the octahedral sums, `(G, 3^k - 1)`, sound on the domain.

    Raises:
        BadInput: if the node is no rectifier.

    Trust: every row holds on the domain if the bounds do. What the coefficients on a passing value
    lose when they are added up is charged.
    """

    def __init__(self, relaxation: Relaxation, node: int, groups: Indices, bounds: Vector) -> None:
        network = relaxation.program.network
        if not isinstance(network.nodes[node].op, ops.Rectifier):
            raise BadInput(f"node {network.nodes[node].name} is not a rectifier")
        self.node, self.groups = node, groups
        self._layer = Layer.of(relaxation.program, node)
        self._negative, self._positive = self._layer.slopes(groups)
        self._bounds = bounds
        self._octahedra = octahedra(bounds, self._negative, self._positive)

    def __call__(self, values: Mapping[int, Vector]) -> Inequalities:
        """Rows that the values violate, at most one for each group."""
        before, after = self._layer.lifted(values)
        x, y = before[self.groups], after[self.groups]
        # A point on the graph lies in every hull.
        apart = np.abs(y - np.where(x < 0, self._negative * x, self._positive * x)).max(axis=1)
        asked = np.flatnonzero(apart > _SMALLEST * np.abs(x).max(axis=1))
        rows = separate_from(self._octahedra.selected(asked), x[asked], y[asked])
        rows = replace(rows, group=asked[rows.group])
        found = LayerRows(self._layer)
        found.add(Block.of(self.groups, self._bounds, rows))
        return Inequalities.joined([self._inequalities(block) for block in found.blocks])

    def _inequalities(self, block: Block) -> Inequalities:
        """The rows over values of nodes, none of which a row names twice."""
        kinks = [tuple(map(self._layer.kink, group)) for group in block.groups.tolist()]
        proofs = [
            GroupProof(kinks[i], block.bounds[i], block.rows.selected(np.array([i])))
            for i in range(len(kinks))
        ]
        pre, post = (
            np.array([[kink[side] for kink in group] for group in kinks], dtype=np.intp)
            for side in (0, 1)
        )
        return Inequalities.of_groups(block.rows, pre[..., 0], post[..., 0], pre[..., 1], proofs)


def propagated_groups(relaxation: Relaxation, node: int, groups: Indices) -> ReluGroups:
    """Groups whose octahedral bounds are those of one backward pass [kReLU §4.3].

    Arguments as for `ReluGroups`.
    """
    pre = relaxation.program.network.nodes[node].inputs[0]
    bounds = octahedral_bounds(relaxation, pre, groups, Ascent(steps=0))
    return ReluGroups(relaxation, node, groups, bounds)


def propagated_passing(relaxation: Relaxation, node: int) -> list[ReluGroups]:
    """The pairs and triples of a rectifier's neurons with what passes it, see `passing_groups`.

    Arguments:
        relaxation: of one domain, with bounds of the pre-activation and of what that reads.
        node: the rectifier.
    """
    parts = passing_groups(relaxation, Layer.of(relaxation.program, node))
    return [propagated_groups(relaxation, node, groups) for groups in parts if len(groups)]
