"""The joint rows of one layer of rectifiers: where they are, what proves them, and their pool."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hullmark.bounds.pools import Pool
from hullmark.bounds.program import Program
from hullmark.joint.through import Coordinates, incoming
from hullmark.network.ops import Rectifier
from hullmark.relax.octahedra import octahedral_rows
from hullmark.relax.separate import JointRows
from hullmark.rows import Kink, Row, Value, octahedral_group, rows_of_group

Array = NDArray[Any]
Groups = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Layer:
    """A rectifier node `post` with its pre-activation node `pre`, and its slopes `(size,)`.

    `space`: what its groups may have as members: its neurons, and where `weights` `(size, values)`
    is not None the values that these read, see `incoming`.
    """

    pre: int
    post: int
    shape: tuple[int, ...]
    negative: Array
    positive: Array
    space: Coordinates
    weights: Array | None = None

    @staticmethod
    def of(program: Program, post: int) -> "Layer":
        """The layer of rectifier node `post`."""
        node = program.network.nodes[post]
        if not isinstance(node.op, Rectifier):
            raise ValueError(f"node {post} is not a rectifier")
        # The network's own slopes, which those of a float32 program are only near.
        sides = (node.op.negative, node.op.positive)
        negative, positive = (np.broadcast_to(s, node.shape).flatten() for s in sides)
        (pre,) = node.inputs
        weights = incoming(program, pre)
        space = Coordinates.of(program.network, pre, passing=weights is not None)
        return Layer(pre, post, node.shape, negative, positive, space, weights)

    @property
    def size(self) -> int:
        """The number of neurons; coordinates from there on are passing values."""
        return len(self.negative)

    @property
    def nodes(self) -> tuple[int, ...]:
        """The nodes that its rows may read."""
        return (self.post, *self.space.nodes)

    def slopes(self, groups: Groups) -> tuple[Array, Array]:
        """Left and right slopes of coordinates of any shape; both 1 where a value passes."""
        neuron = np.minimum(groups, self.size - 1)
        negative, positive = (
            np.where(groups < self.size, side[neuron], 1.0)
            for side in (self.negative, self.positive)
        )
        return negative, positive

    def lifted(self, values: Mapping[int, Array]) -> tuple[Array, Array]:
        """All coordinates before and after the layer, both `(..., total)`, of points `(..., size)`
        for each of `nodes`."""
        before = self.space.joined(values)
        passing = before[..., self.size :]
        return before, np.concatenate([values[self.post], passing], axis=-1)

    def kink(self, coordinate: int) -> Kink:
        """The coordinate before and after the layer: the same value, where it passes."""
        pre = self.space.value(coordinate)
        if coordinate >= self.size:
            return Kink(pre, pre, 1.0, 1.0)
        slopes = float(self.negative[coordinate]), float(self.positive[coordinate])
        return Kink(pre, Value(self.post, coordinate), *slopes)


@dataclass(frozen=True, eq=False)
class Block:
    """Rows of groups of one size.

    `groups` `(m, k)`: the coordinates of each row, see `Layer.space`. `bounds` `(m, M)`: upper
    bounds of the sums `template` `(M, k)` of their pre-activations, all octahedral ones if None,
    which prove it. `rows` with `group` counting from 0 to m - 1.
    """

    groups: Groups
    bounds: Array
    rows: JointRows
    template: Array | None = None

    @staticmethod
    def of(
        groups: Groups, bounds: Array, found: JointRows, template: Array | None = None
    ) -> "Block":
        """Rows of groups of a batch, `groups` `(G, k)` and `bounds` `(G, M)`."""
        return Block(groups[found.group], bounds[found.group], _numbered(found), template)

    @property
    def k(self) -> int:
        """The size of the groups."""
        return self.groups.shape[1]

    def selected(self, chosen: Array) -> "Block":
        """The rows with these indices."""
        rows = _numbered(self.rows.selected(chosen))
        return Block(self.groups[chosen], self.bounds[chosen], rows, self.template)


def _numbered(rows: JointRows) -> JointRows:
    return replace(rows, group=np.arange(len(rows)))


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
        """Append rows; those that are there keep their places.

        Rows have no coefficients on what passing values are after the layer, for they are the
        same before: these are added to those, and what of a sum is lost in float32 is charged.

        Raises:
            ValueError: if a group has a coordinate twice.
        """
        if (np.diff(np.sort(block.groups, axis=1), axis=1) == 0).any():
            raise ValueError("a group has a coordinate twice")
        block = _folded(self.layer, block)
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
        passing = any((block.groups >= layer.size).any() for block in self.blocks)
        space = layer.space if passing else Coordinates((layer.pre,), (0, layer.size))
        before = torch.zeros(count, space.starts[-1], dtype=program.dtype, device=program.device)
        after = torch.zeros_like(before)
        rhs = torch.zeros(count, dtype=torch.float64)
        at = 0
        for block in self.blocks:
            part = slice(at, at + len(block.groups))
            where = torch.as_tensor(block.groups, device=program.device)
            before[part].scatter_(1, where, program.tensor(block.rows.x))
            after[part].scatter_(1, where, program.tensor(block.rows.y))
            rhs[part] = torch.as_tensor(block.rows.rhs)
            at = part.stop
        coefficients = space.split(before) | {layer.post: after[:, : layer.size]}
        nodes = program.network.nodes
        shaped = {j: c.reshape(count, *nodes[j].shape) for j, c in coefficients.items()}
        return Pool(shaped, -program.enclosing(-rhs, -rhs)[0])

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
        kinks = [self.layer.kink(coordinate) for coordinate in block.groups[index].tolist()]
        rows = block.rows.selected(np.array([index]))
        template = octahedral_rows(block.k) if block.template is None else block.template
        group = octahedral_group(kinks, template, block.bounds[index])
        pair = (rows.x, rows.y)
        return [*rows_of_group(group, pair, rows.rhs, rows.members, rows.multipliers)]


def _folded(layer: Layer, block: Block) -> Block:
    """The same rows without coefficients on passing values after the layer."""
    passing, rows = block.groups >= layer.size, block.rows
    if not passing.any():
        return block
    # Exact, for both are values of float32 of magnitudes from 2^-24 to 1.
    exact = np.where(passing, rows.x + rows.y, rows.x)
    x = exact.astype(np.float32).astype(np.float64)
    normals = octahedral_rows(block.k) if block.template is None else block.template
    units = np.abs(normals).sum(axis=1) == 1
    reach = np.abs(block.bounds[:, units]) @ np.abs(normals[units])
    lost = np.abs(exact - x)
    # Covers the rounding of the loss and of the sum, and its underflow.
    charge = (lost * reach).sum(axis=1) * (1 + 2.0**-40) + np.finfo(np.float64).tiny
    rhs = np.where(lost.any(axis=1), np.nextafter(rows.rhs + charge, np.inf), rows.rhs)
    y = np.where(passing, 0.0, rows.y)
    folded = replace(block, rows=replace(rows, x=x, y=y, rhs=rhs))
    # That a value is the same after the layer is no row.
    return folded.selected(np.flatnonzero(x.any(axis=1) | y.any(axis=1)))
