"""Mining: at the point that a dual ascent suggests, the joint rows that it violates.

The average of the late primal points of an ascent approaches an optimum of the relaxation. Where
its post-activations lie above the ReLU and carry a negative coefficient, precision is lost;
groups of those neurons, and of values that pass them, are separated from the point, and the
deepest rows are kept. Groups and points are chosen by what they cost the queries at hand, not by
area.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hullmark.bounds.alpha import Ascended, Ascent
from hullmark.bounds.relaxation import Relaxation, never
from hullmark.joint.deep import separate_deep
from hullmark.joint.groups import by_area, shuffled
from hullmark.joint.octahedron import Start, octahedral_sums
from hullmark.joint.passing import passing_pairs
from hullmark.joint.store import Block, Groups, Layer, LayerRows
from hullmark.relax.fasthull import fast_hull
from hullmark.relax.octahedra import octahedra, octahedral_rows
from hullmark.relax.separate import JointRows, rows_for, separate_from

Array = NDArray[Any]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Mining:
    """What is mined in one layer at a time.

    All pairs among the `candidates` that lose most, and the `triples` whose pairs are cut off
    deepest; each is separated at the `points` to which it matters most. At most `rows` are kept,
    `each` a neuron. Octahedral bounds are first optimised in `coarse` steps, and those of groups
    that gave a row in `fine` more. If `k` is above 3, the best triples also grow to `larger`
    groups of that size, separated at the point that matters most to each.
    """

    k: int = 3
    candidates: int = 24
    triples: int = 40
    larger: int = 12
    points: int = 4
    rows: int = 150
    each: int = 6
    coarse: int = 4
    fine: int = 20


@dataclass
class Mine:
    """The rows of one layer, and the octahedra of the groups that have been looked at.

    `bounds` maps a group to its octahedral bounds, `uses` to the numbers of the rows that these
    use, and `fine` to a mask of those that have had all their steps. `filled` counts the partitions
    whose rows were added, and `fresh` says that idle ones among them have not been dropped.
    """

    layer: Layer
    found: LayerRows
    start: Start | None = None
    fresh: bool = False
    filled: int = 0
    stop: Callable[[], bool] = never
    bounds: dict[tuple[int, ...], Array] = field(default_factory=dict[tuple[int, ...], Array])
    uses: dict[tuple[int, ...], Array] = field(default_factory=dict[tuple[int, ...], Array])
    fine: dict[tuple[int, ...], Mask] = field(default_factory=dict[tuple[int, ...], Mask])

    def dig(self, relaxation: Relaxation, seen: Ascended, weight: Tensor, mining: Mining) -> int:
        """Add the rows that the points of an ascent violate; returns how many.

        Arguments:
            relaxation: of one domain; gets the enlarged pool.
            seen: watched the layer's nodes.
            weight: how much each of the ascent's queries matters, `(Q,)`.
        """
        layer = self.layer
        z, y, loss = self._losses(seen, weight)
        lower, upper = relaxation.ends(layer.pre)
        open_neurons = np.flatnonzero((lower < 0) & (upper > 0))
        order = np.argsort(-loss[:, open_neurons].sum(axis=0), kind="stable")[: mining.candidates]
        worst = np.sort(open_neurons[order])
        pairs = np.concatenate([_pairs(worst), passing_pairs(relaxation, layer, worst)])
        if len(pairs) == 0:
            return 0
        self._learn(relaxation, pairs, mining.coarse)
        first = self._separate(pairs, loss, z, y, mining)
        parts = [first]
        table = Pairwise.of(first)
        triples = table.triples(mining.triples if mining.k > 2 else 0)
        if len(triples):
            self._learn(relaxation, triples, mining.coarse)
            parts.append(self._separate(triples, loss, z, y, mining))
        if len(triples) and mining.k > 3:
            groups = table.grown(triples[: mining.larger], mining.k)
            parts.append(self._separate_larger(relaxation, groups, loss, (z, y), mining))
        kept = _choose(parts, mining)
        for block in kept:
            if block.template is None:
                self._deepen(relaxation, block, mining.fine)
                block = self._settled(block)
            self.found.add(block)
        if kept:
            relaxation.set_pool(layer.post, self.found.pool(relaxation.program))
        return sum(len(block.groups) for block in kept)

    def _losses(self, seen: Ascended, weight: Tensor) -> tuple[Array, Array, Array]:
        """The points before and after the layer, and what is lost there; each `(Q, total)` over
        the coordinates of the layer, of which passing values lose nothing."""
        layer = self.layer
        values = {j: seen.values[j][0].flatten(1).double().cpu().numpy() for j in layer.nodes}
        z, y = values[layer.pre], values[layer.post]
        a = seen.coefficients[layer.post][0].flatten(1).double().cpu().numpy()
        function = np.where(z > 0, layer.positive * z, layer.negative * z)
        loss = np.abs(a * (y - function)) * weight.double().cpu().numpy()[:, None]
        before, after = layer.lifted(values)
        unlost = np.zeros((len(loss), before.shape[1] - layer.size))
        return before, after, np.concatenate([loss, unlost], axis=1)

    def restarted(self, start: Start | None) -> "Mine":
        """The same rows, where the octahedra are to be bounded anew."""
        stop, fresh, filled = self.stop, self.fresh, self.filled
        return Mine(self.layer, self.found, start, fresh, filled, stop)

    def fill(self, relaxation: Relaxation, k: int, steps: int, most: int) -> None:
        """Rows of at most `most` disjoint groups of `k`: most of what pays, at few forms' cost.

        The first time groups are by area, then at random: two neurons are seldom together twice.

        Arguments:
            relaxation: of one domain; gets the enlarged pool.
            k: the size of the groups, at most 3.
            steps: of the ascents for octahedral bounds.
            most: how many groups.
        """
        rule = shuffled(k, self.filled) if self.filled else partial(by_area, k=k)
        self.filled += 1
        groups = rule(*relaxation.ends(self.layer.pre))[:most]
        if len(groups) == 0:
            return
        ascent = Ascent(steps, slope_rate=0.1, stop=self.stop)
        bounds, uses = self._sums(relaxation, groups, ascent)
        rows = fast_hull(bounds, *self.layer.slopes(groups))
        self.found.add(Block.of(groups, bounds, rows, uses=uses))
        self.fresh = True
        relaxation.set_pool(self.layer.post, self.found.pool(relaxation.program))

    def _learn(self, relaxation: Relaxation, groups: Groups, steps: int) -> None:
        """Octahedral bounds of the groups that have none."""
        new = [g for g in map(tuple, groups.tolist()) if g not in self.bounds]
        if not new:
            return
        array = np.array(new, dtype=np.intp)
        ascent = Ascent(steps, slope_rate=0.1, stop=self.stop)
        bounds, uses = self._sums(relaxation, array, ascent)
        self.bounds.update(zip(new, bounds, strict=True))
        self.uses.update(zip(new, uses, strict=True))

    def _sums(
        self, relaxation: Relaxation, groups: Groups, ascent: Ascent, wanted: Mask | None = None
    ) -> tuple[Array, Array]:
        """Octahedral bounds of groups, and the numbers of the rows that they use."""
        pre = self.layer.pre
        found = octahedral_sums(relaxation, pre, groups, ascent, self.start, wanted)
        return found.bounds, self.found.archive.ledger.completed(pre, groups, found)

    def _deepen(self, relaxation: Relaxation, block: Block, steps: int) -> None:
        """Better octahedral bounds where the proofs of rows use them."""
        groups, place = np.unique(block.groups, axis=0, return_inverse=True)
        wanted = np.zeros((len(groups), block.bounds.shape[1]), dtype=np.bool_)
        row, pattern, entry = np.nonzero(block.rows.multipliers > 0)
        member = block.rows.members[row, pattern, entry]
        real = member < wanted.shape[1]
        wanted[place.ravel()[row[real]], member[real]] = True
        keys = [tuple(group) for group in groups.tolist()]
        for key, mask in zip(keys, wanted, strict=True):
            mask &= ~self.fine.setdefault(key, np.zeros_like(mask))
        ascent = Ascent(steps, slope_rate=0.1, stop=self.stop)
        found = self._sums(relaxation, groups, ascent, wanted)
        for key, bounds, uses, done in zip(keys, *found, wanted, strict=True):
            self.uses[key] = np.where(bounds < self.bounds[key], uses, self.uses[key])
            self.bounds[key] = np.minimum(self.bounds[key], bounds)
            self.fine[key] = self.fine[key] | done

    def _bounds(self, groups: Groups) -> Array:
        return np.stack([self.bounds[g] for g in map(tuple, groups.tolist())])

    def _separate(
        self, groups: Groups, loss: Array, z: Array, y: Array, mining: Mining
    ) -> tuple[Block, Array]:
        """The rows of all groups at the points that matter to them, and what each point loses."""
        bounds = self._bounds(groups)
        shapes = octahedra(bounds, *self.layer.slopes(groups))
        cost = loss[:, groups].sum(axis=2)
        blocks: list[Block] = []
        costs: list[Array] = []
        for rank in np.argsort(-cost, axis=0)[: mining.points]:
            at = rank[:, None]
            point = np.concatenate([z[at, groups], y[at, groups]], axis=1)
            rows = separate_from(shapes, z[at, groups], y[at, groups])
            blocks.append(Block.of(groups, bounds, rows))
            costs.append(_depth(rows, point[rows.group]))
        return _joined(blocks), np.concatenate(costs)

    def _separate_larger(
        self,
        relaxation: Relaxation,
        groups: Groups,
        loss: Array,
        points: tuple[Array, Array],
        mining: Mining,
    ) -> tuple[Block, Array]:
        """Rows of groups of four and more, over the sums of at most two of their neurons."""
        rows = octahedral_rows(groups.shape[1])
        few = np.count_nonzero(rows, axis=1) <= 2
        wanted = np.broadcast_to(few, (len(groups), len(rows)))
        ascent = Ascent(mining.fine, slope_rate=0.1, stop=self.stop)
        bounds, uses = (a[:, few] for a in self._sums(relaxation, groups, ascent, wanted))
        at = loss[:, groups].sum(axis=2).argmax(axis=0)[:, None]
        point = np.concatenate([p[at, groups] for p in points], axis=1)
        found = separate_deep(rows[few], bounds, point, self.layer.slopes(groups))
        depth = _depth(found, point[found.group])
        return Block.of(groups, bounds, found, rows[few], uses), depth

    def _settled(self, block: Block) -> Block:
        """The same directions over the octahedra as they are known now."""
        bounds = self._bounds(block.groups)
        shapes = octahedra(bounds, *self.layer.slopes(block.groups))
        directions = np.concatenate([block.rows.x, block.rows.y], axis=1)
        rows = rows_for(shapes, np.arange(len(directions)), directions)
        uses = np.stack([self.uses[g] for g in map(tuple, block.groups.tolist())])
        return Block.of(block.groups, bounds, rows, uses=uses)


def _pairs(neurons: Array) -> Groups:
    """All pairs `(G, 2)` of neurons in ascending order."""
    pairs = list(combinations(neurons.tolist(), 2))
    return np.array(pairs, dtype=np.intp).reshape(len(pairs), 2)


def _depth(rows: JointRows, points: Array) -> Array:
    """How far points `(m, 2k)` are beyond the rows, in the Euclidean norm."""
    normals = np.concatenate([rows.x, rows.y], axis=1)
    return ((normals * points).sum(axis=1) - rows.rhs) / np.linalg.norm(normals, axis=1)


@dataclass(frozen=True, eq=False)
class Pairwise:
    """How deep the pairs of some neurons are cut off: `neurons` `(n,)`, `depth` `(n, n)`."""

    neurons: Array
    depth: Array

    @staticmethod
    def of(pairs: tuple[Block, Array]) -> "Pairwise":
        """From the rows of pairs and their depths."""
        block, depth = pairs
        neurons = np.unique(block.groups)
        i, j = np.searchsorted(neurons, block.groups).T
        table = np.zeros((len(neurons), len(neurons)))
        np.maximum.at(table, (i, j), depth)
        return Pairwise(neurons, table + table.T)

    def triples(self, count: int) -> Groups:
        """The triples `(G, 3)` whose three pairs are cut off deepest."""
        size = len(self.neurons)
        triples = np.array(list(combinations(range(size), 3)), dtype=np.intp).reshape(-1, 3)
        a, b, c = triples.T
        score = self.depth[a, b] + self.depth[a, c] + self.depth[b, c]
        best = np.argsort(-score, kind="stable")[:count]
        return self.neurons[triples[best[score[best] > 0]]]

    def grown(self, groups: Groups, k: int) -> Groups:
        """The groups extended to `k` neurons, each by those whose pairs with it are deepest."""
        found: set[tuple[int, ...]] = set()
        for group in np.searchsorted(self.neurons, groups).tolist():
            while len(group) < min(k, len(self.neurons)):
                score = self.depth[group].sum(axis=0)
                score[group] = -1.0
                group = [*group, int(score.argmax())]
            found.add(tuple(sorted(self.neurons[group].tolist())))
        return np.array(sorted(found), dtype=np.intp)


def _joined(blocks: list[Block]) -> Block:
    rows = [b.rows for b in blocks]
    joined = JointRows(
        np.arange(sum(len(r) for r in rows)),
        *(
            np.concatenate([getattr(r, name) for r in rows])
            for name in ("x", "y", "rhs", "members", "multipliers")
        ),
    )
    groups = np.concatenate([b.groups for b in blocks])
    return Block(groups, np.concatenate([b.bounds for b in blocks]), joined)


def _choose(parts: list[tuple[Block, Array]], mining: Mining) -> list[Block]:
    """The deepest rows, not too many on any neuron."""
    depth = np.concatenate([d for _, d in parts])
    origin = np.concatenate([np.full(len(d), i) for i, (_, d) in enumerate(parts)])
    place = np.concatenate([np.arange(len(d)) for _, d in parts])
    used: dict[int, int] = {}
    kept: list[list[int]] = [[] for _ in parts]
    for index in np.argsort(-depth).tolist():
        if sum(map(len, kept)) == mining.rows or depth[index] < 1e-4:
            break
        group = parts[origin[index]][0].groups[place[index]].tolist()
        if all(used.get(u, 0) < mining.each for u in group):
            kept[origin[index]].append(int(place[index]))
            for u in group:
                used[u] = used.get(u, 0) + 1
    return [
        block.selected(np.array(chosen, dtype=np.intp))
        for (block, _), chosen in zip(parts, kept, strict=True)
        if chosen
    ]
