"""The joint rows of layers of rectifiers: where they are, what proves them, and their pools."""

from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hullmark.bounds.pools import Pool
from hullmark.bounds.program import Program
from hullmark.joint.ancestry import NONE, Ledger
from hullmark.joint.through import Coordinates, incoming
from hullmark.network.ops import Rectifier
from hullmark.relax.octahedra import octahedral_rows
from hullmark.relax.separate import JointRows
from hullmark.rows import Group, Kink, Propagated, Row, Value, octahedral_group, rows_of_group

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
    which prove it. `rows` with `group` counting from 0 to m - 1. `uses`: objects `(m, M)`, for
    each bound the numbers of the rows that its own proof uses; none if None. `numbers` `(m,)`:
    those of the rows themselves, given by an `Archive`.
    """

    groups: Groups
    bounds: Array
    rows: JointRows
    template: Array | None = None
    uses: Array | None = None
    numbers: Array | None = None

    @staticmethod
    def of(
        groups: Groups,
        bounds: Array,
        found: JointRows,
        template: Array | None = None,
        uses: Array | None = None,
    ) -> "Block":
        """Rows of groups of a batch, `groups` `(G, k)`, `bounds` and `uses` `(G, M)`."""
        uses = None if uses is None else uses[found.group]
        return Block(groups[found.group], bounds[found.group], _counted(found), template, uses)

    @property
    def k(self) -> int:
        """The size of the groups."""
        return self.groups.shape[1]

    def selected(self, chosen: Array) -> "Block":
        """The rows with these indices."""
        rows = _counted(self.rows.selected(chosen))
        uses, numbers = (None if a is None else a[chosen] for a in (self.uses, self.numbers))
        return Block(self.groups[chosen], self.bounds[chosen], rows, self.template, uses, numbers)


def _counted(rows: JointRows) -> JointRows:
    return replace(rows, group=np.arange(len(rows)))


@dataclass
class Archive:
    """The rows that all layers of one domain have ever had, by number; dropped ones are needed
    where the proofs of others use them.

    A row only uses rows of smaller numbers. `ledger`: what the bounds of neurons use. Rows from
    the number `everywhere` on, if it is not None, hold where something is assumed that no `Row`
    can say; all others hold on the whole domain. `count` rows have been numbered.
    """

    ledger: Ledger = field(default_factory=Ledger)
    everywhere: int | None = None
    count: int = 0
    blocks: list[tuple[Layer, Block]] = field(default_factory=list[tuple[Layer, Block]])

    def assuming(self) -> "Archive":
        """The same so far; what is added there from now on may rest on an assumption."""
        first = self.count if self.everywhere is None else self.everywhere
        return Archive(self.ledger.copied(), first, self.count, list(self.blocks))

    def admit(self, layer: Layer, block: Block) -> Block:
        """The block with numbers for its rows."""
        numbers = np.arange(self.count, self.count + len(block.groups), dtype=np.int32)
        block = replace(block, numbers=numbers)
        self.blocks.append((layer, block))
        self.count += len(numbers)
        return block

    def rows(self, wanted: Iterable[int], assumed: bool = False) -> dict[int, Row]:
        """The rows with these numbers, and in their ancestries all rows that their proofs use.

        If not `assumed`, only those that hold everywhere. What a miner assumes is no row, nor is a
        row of a group of which some sum has no bound, as in `GroupProof`; both are missing here and
        among those that are used.

        Trust: none is added; `Row.derived` checks each.
        """
        last = self.count if assumed or self.everywhere is None else self.everywhere
        numbers = [number for number in wanted if number < last]
        made = _Made()
        starts = [int(_numbers(block)[0]) for _, block in self.blocks]
        for number in self._needed(numbers, starts):
            place = bisect(starts, number) - 1
            made.add(number, *self.blocks[place], number - starts[place])
        return {number: made.rows[number] for number in numbers if number in made.rows}

    def _needed(self, numbers: Iterable[int], starts: list[int]) -> list[int]:
        """The numbers and those that they use, directly or not, in ascending order."""
        needed, known, left = set[int](), set[int](), list(numbers)
        while left:
            number = left.pop()
            if number in needed:
                continue
            needed.add(number)
            place = bisect(starts, number) - 1
            for uses in _uses(self.blocks[place][1], number - starts[place]):
                # Groups share the sums of their members.
                if id(uses) not in known:
                    known.add(id(uses))
                    left += uses.tolist()
        return sorted(needed)


class _Made:
    """Rows by number, made after all that they use; what several have in common is made once."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self._groups: dict[tuple[object, ...], Group] = {}
        self._used: dict[int, Propagated] = {}

    def add(self, number: int, layer: Layer, block: Block, index: int) -> None:
        """Make the row of a block, if all sums of its group have bounds."""
        if not np.isfinite(block.bounds[index]).all():
            return
        rows = block.rows.selected(np.array([index]))
        pair, group = (rows.x, rows.y), self._group(layer, block, index)
        (row,) = rows_of_group(group, pair, rows.rhs, rows.members, rows.multipliers)
        self.rows[number] = row

    def _group(self, layer: Layer, block: Block, index: int) -> Group:
        members, bounds = block.groups[index].tolist(), block.bounds[index]
        uses = _uses(block, index)
        key = (layer.post, *members, bounds.tobytes(), *map(id, uses))
        if key not in self._groups:
            template = octahedral_rows(block.k) if block.template is None else block.template
            group = octahedral_group([layer.kink(u) for u in members], template, bounds)
            parents = [
                replace(parent, derivation=self._propagated(used))
                for parent, used in zip(group.parents, uses, strict=True)
            ]
            self._groups[key] = Group(group.kinks, tuple(parents))
        return self._groups[key]

    def _propagated(self, uses: Array) -> Propagated:
        if id(uses) not in self._used:
            known = (self.rows.get(n) for n in uses.tolist())
            self._used[id(uses)] = Propagated(tuple(row for row in known if row is not None))
        return self._used[id(uses)]


def _numbers(block: Block) -> Array:
    """The numbers of a block that has some.

    Raises:
        ValueError: if it has none.
    """
    if block.numbers is None:
        raise ValueError("a block that no archive has admitted")
    return block.numbers


def _uses(block: Block, index: int) -> list[Array]:
    """For each bound of a row's group the numbers of the rows that it uses."""
    return [NONE] * block.bounds.shape[1] if block.uses is None else block.uses[index].tolist()


@dataclass
class LayerRows:
    """All joint rows of a layer, in the order in which they came; grows, and drops idle rows.

    `archive`: where they are kept for those that use them.
    """

    layer: Layer
    blocks: list[Block] = field(default_factory=list[Block])
    archive: Archive = field(default_factory=Archive)

    def __len__(self) -> int:
        return sum(len(block.groups) for block in self.blocks)

    @property
    def numbers(self) -> NDArray[np.int32]:
        """The numbers of the rows, `(rows,)`."""
        return np.concatenate([NONE, *map(_numbers, self.blocks)])

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
            self.blocks.append(self.archive.admit(self.layer, block))

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
        return Pool(shaped, -program.enclosing(-rhs, -rhs)[0], self.numbers)

    def rows(self, assumed: bool = False) -> list[Row]:
        """Every row that holds everywhere as a `Row`, its octahedral bounds as its parents.

        If `assumed`, those too that hold only where what the miner assumes does. See
        `Archive.rows` for which there are none of.
        """
        return list(self.archive.rows(self.numbers.tolist(), assumed).values())


@dataclass(frozen=True, eq=False)
class _Stored:
    """Some rows of an archive, made together once somebody asks for one."""

    archive: Archive
    numbers: tuple[int, ...]

    @cached_property
    def rows(self) -> dict[int, Row]:
        return self.archive.rows(self.numbers)


@dataclass(frozen=True, eq=False)
class StoredProof:
    """Of a row of an archive: its number, and the rows that are made with it."""

    number: int
    stored: _Stored

    def row(self) -> Row | None:
        """The row, its octahedral bounds as parents; None if there is none, see `Archive.rows`."""
        return self.stored.rows.get(self.number)


def stored_proofs(layers: Sequence[LayerRows]) -> tuple[StoredProof, ...]:
    """Of every row that layers of one archive have now."""
    if not layers:
        return ()
    numbers = tuple(np.concatenate([layer.numbers for layer in layers]).tolist())
    stored = _Stored(layers[0].archive, numbers)
    return tuple(StoredProof(number, stored) for number in numbers)


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
    # The larger magnitude of each member, of which one that is lost nothing of may have none.
    sides = np.abs(block.bounds[:, units])[:, :, None]
    reach = np.where(normals[units] != 0, sides, 0.0).max(axis=1)
    lost = np.abs(exact - x)
    taken = np.multiply(lost, reach, out=np.zeros_like(lost), where=lost > 0)
    # Covers the rounding of the loss and of the sum, and its underflow.
    charge = taken.sum(axis=1) * (1 + 2.0**-40) + np.finfo(np.float64).tiny
    rhs = np.where(lost.any(axis=1), np.nextafter(rows.rhs + charge, np.inf), rows.rhs)
    y = np.where(passing, 0.0, rows.y)
    folded = replace(block, rows=replace(rows, x=x, y=y, rhs=rhs))
    # That a value is the same after the layer is no row, nor is what nothing bounds.
    some = x.any(axis=1) | y.any(axis=1)
    return folded.selected(np.flatnonzero(some & np.isfinite(rhs)))
