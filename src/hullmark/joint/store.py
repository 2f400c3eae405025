"""The joint rows of one layer of rectifiers: where they are, what proves them, and their pool."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hullmark.bounds.pools import Pool
from hullmark.bounds.program import Program
from hullmark.network.ops import Rectifier
from hullmark.relax.octahedra import octahedral_rows
from hullmark.relax.separate import JointRows
from hullmark.rows import Kink, Row, Value, octahedral_group, rows_of_group

Array = NDArray[Any]
Groups = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Layer:
    """A rectifier node `post` with its pre-activation node `pre`, and its slopes `(size,)`."""

    pre: int
    post: int
    shape: tuple[int, ...]
    negative: Array
    positive: Array

    @staticmethod
    def of(program: Program, post: int) -> "Layer":
        """The layer of rectifier node `post`."""
        node = program.network.nodes[post]
        if not isinstance(node.op, Rectifier):
            raise ValueError(f"node {post} is not a rectifier")
        # The network's own slopes, which those of a float32 program are only near.
        sides = (node.op.negative, node.op.positive)
        negative, positive = (np.broadcast_to(s, node.shape).flatten() for s in sides)
        return Layer(node.inputs[0], post, node.shape, negative, positive)

    @property
    def size(self) -> int:
        """The number of neurons."""
        return len(self.negative)


@dataclass(frozen=True, eq=False)
class Block:
    """Rows of groups of one size.

    `groups` `(m, k)`: the neurons of each row. `bounds` `(m, M)`: upper bounds of the sums
    `template` `(M, k)` of their pre-activations, all octahedral ones if None, which prove it.
    `rows` with `group` counting from 0 to m - 1.
    """

    groups: Groups
    bounds: Array
    rows: JointRows
    template: Array | None = None

    @property
    def k(self) -> int:
        """The size of the groups."""
        return self.groups.shape[1]

    def selected(self, chosen: Array) -> "Block":
        """The rows with these indices."""
        rows = self.rows.selected(chosen)
        renumbered = JointRows(
            np.arange(len(rows)), rows.x, rows.y, rows.rhs, rows.members, rows.multipliers
        )
        return Block(self.groups[chosen], self.bounds[chosen], renumbered, self.template)


@dataclass
class LayerRows:
    """All joint rows of a layer, in the order in which they came; grows, and drops idle rows.

    Only the first `everywhere` blocks hold on the whole domain, if it is not None; the others hold
    where something is assumed that no `Row` can say.
    """

    layer: Layer
    blocks: list[Block] = field(default_factory=list[Block])
    everywhere: int | None = None

    def __len__(self) -> int:
        return sum(len(block.groups) for block in self.blocks)

    def add(self, block: Block) -> None:
        """Append rows; those that are there keep their places."""
        if len(block.groups):
            self.blocks.append(block)

    def keep(self, chosen: Array) -> None:
        """Drop all rows but those of a mask `(rows,)`."""
        at, kept = 0, list[Block]()
        for block in self.blocks:
            part = np.flatnonzero(chosen[at : at + len(block.groups)])
            at += len(block.groups)
            if len(part):
                kept.append(block.selected(part))
        self.blocks = kept

    def pool(self, program: Program) -> Pool:
        """The rows for backward passes, in the same order.

        Trust: coefficients are values that float32 holds; right-hand sides are rounded up.
        """
        layer, count = self.layer, len(self)
        pre = torch.zeros(count, layer.size, dtype=program.dtype, device=program.device)
        post = torch.zeros_like(pre)
        rhs = torch.zeros(count, dtype=torch.float64)
        at = 0
        for block in self.blocks:
            part = slice(at, at + len(block.groups))
            where = torch.as_tensor(block.groups, device=program.device)
            pre[part].scatter_(1, where, program.tensor(block.rows.x))
            post[part].scatter_(1, where, program.tensor(block.rows.y))
            rhs[part] = torch.as_tensor(block.rows.rhs)
            at = part.stop
        return Pool(
            {
                layer.pre: pre.reshape(count, *layer.shape),
                layer.post: post.reshape(count, *layer.shape),
            },
            -program.enclosing(-rhs, -rhs)[0],
        )

    def rows(self, assumed: bool = False) -> list[Row]:
        """Every row that holds everywhere as a `Row`, its octahedral bounds as its parents.

        If `assumed`, those too that hold only where what the miner assumes does.
        """
        found: list[Row] = []
        for block in self.blocks if assumed else self.blocks[: self.everywhere]:
            for index in range(len(block.groups)):
                found += self._row(block, index)
        return found

    def _row(self, block: Block, index: int) -> list[Row]:
        kinks = [
            Kink(
                Value(self.layer.pre, int(neuron)),
                Value(self.layer.post, int(neuron)),
                float(self.layer.negative[neuron]),
                float(self.layer.positive[neuron]),
            )
            for neuron in block.groups[index]
        ]
        rows = block.rows.selected(np.array([index]))
        template = octahedral_rows(block.k) if block.template is None else block.template
        group = octahedral_group(kinks, template, block.bounds[index])
        pair = (rows.x, rows.y)
        return [*rows_of_group(group, pair, rows.rhs, rows.members, rows.multipliers)]
