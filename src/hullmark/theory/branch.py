"""Branch and bound with any relaxation, any kind of split and any fixed order; leaves counted."""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from hullmark.errors import BadInput
from hullmark.relax.exact import Array
from hullmark.theory.net import ExactNet
from hullmark.theory.polytope import Polytope
from hullmark.theory.regions import Region, input_set, minimiser, ranges_of, regions
from hullmark.theory.relaxations import relax

Split = Literal["inputs", "polytopes", "signs"]
Side = Literal["lower", "upper"]
Order = Literal["first", "last", "widest"] | tuple[int, ...] | tuple[tuple[int, int], ...]

Signs = dict[tuple[int, int], int]
"""For ReLUs `(layer, neuron)`, both from 0, whose sign is fixed: 1 for on, -1 for off."""


@dataclass(frozen=True)
class Branching:
    """How to branch, and with which bounds.

    Arguments:
        relaxation: that bounds a node, a name of `RELAXATIONS`.
        split: "inputs" bisects a coordinate; "polytopes" cuts the inputs where a ReLU changes
            sign that reads an affine function of them; "signs" fixes the sign of any ReLU.
        order: of ReLUs: those of the "first" or of the "last" layer first, or a list of
            `(layer, neuron)`, from 0, that goes before all others. Of coordinates: in turn from
            the "first" or the "last", those of a list in turn, or always the "widest". It is
            fixed: the next split does not depend on the bounds.
        side: of the output that is wanted, its "lower" or its "upper" end.
        k: of the relaxations that take one.
        limit: the number of leaves at which the search is given up.

    Raises:
        BadInput: if an argument is none of these.
    """

    relaxation: str = "triangle"
    split: Split = "signs"
    order: Order = "first"
    side: Side = "lower"
    k: int | None = None
    limit: int = 1000

    def __post_init__(self) -> None:
        if self.split not in get_args(Split):
            raise BadInput(f"no split {self.split!r}; there are {', '.join(get_args(Split))}")
        if self.side not in get_args(Side):
            raise BadInput(f"the side is 'lower' or 'upper', not {self.side!r}")
        words = ("first", "last", "widest") if self.split == "inputs" else ("first", "last")
        if isinstance(self.order, str) and self.order not in words:
            raise BadInput(f"splits of {self.split} have no order {self.order!r}")
        if self.limit < 1:
            raise BadInput(f"the limit is {self.limit} leaves; it must be 1 or more")


@dataclass(frozen=True, eq=False)
class Leaf:
    """The inputs in `part` at which ReLUs have these `signs`; `bound` is that of the relaxation."""

    part: Polytope
    signs: Signs
    bound: Fraction


@dataclass(frozen=True, eq=False)
class BranchTree:
    """What a branch and bound ends with.

    `target` is the exact end of the range, taken at the input `witness` `(d,)`, and `bound` what
    the leaves prove. `stuck` of the leaves are open and cannot be split.

    Trust: exact.
    """

    leaves: tuple[Leaf, ...]
    bound: Fraction
    target: Fraction
    witness: Array
    stuck: int

    @property
    def gap(self) -> Fraction:
        """How far the proven bound is from the exact one."""
        return abs(self.target - self.bound)

    @property
    def closed(self) -> bool:
        """Whether the bound is attained."""
        return not self.gap


def branch(
    net: ExactNet,
    lower: ArrayLike | Polytope,
    upper: ArrayLike | None = None,
    rule: Branching | None = None,
) -> BranchTree:
    """Split an input set until a relaxation proves the exact end of a network's range.

    The exact value is known beforehand, from the regions. A leaf is closed once its bound is not
    worse, as in a search that met an optimal input at once; the leaf with the worst bound is
    split next. So the leaves depend on nothing but the relaxation, the split and the order: for
    the same rule, a relaxation that is nowhere weaker never needs more of them.

    Arguments:
        net: with one output; `selected` and `objective` make such.
        lower, upper: the ends of a box, `(input_size,)` each; or a `Polytope` alone.
        rule: `Branching()` if None.

    Raises:
        BadInput, VacuousProperty: if the input set is none, the network has several outputs, or
            the order does not fit it.
        Unsupported: if there are too many regions.

    Trust: exact.
    """
    chosen = rule or Branching()
    if net.output_size != 1:
        raise BadInput(f"branching bounds one output; the network has {net.output_size}")
    whole = input_set(net, lower, upper)
    sign = 1 if chosen.side == "lower" else -1
    least = net.objective([Fraction(sign)])
    pieces = regions(least, whole)
    target = ranges_of(pieces)[0][0]
    splitter = _splitter(least, pieces, chosen)
    serial = count()

    def entry(node: _Node) -> tuple[Fraction, int, _Node]:
        found = relax(
            least, node.part, None, chosen.relaxation, k=chosen.k, signs=node.signs or None
        )
        return found.bounds[0][0], next(serial), node

    open_ = [entry(splitter.root(whole))]
    ended: list[tuple[Fraction, int, _Node]] = []
    while open_ and open_[0][0] < target and len(open_) + len(ended) < chosen.limit:
        worst = heapq.heappop(open_)
        children = splitter.children(worst[2])
        if not children:
            ended.append(worst)
        for child in children:
            heapq.heappush(open_, entry(child))
    leaves = tuple(Leaf(n.part, n.signs, sign * b) for b, _, n in sorted(ended + open_))
    bound = min(target, *(b for b, _, _ in ended + open_))
    witness = minimiser(pieces, 0)
    return BranchTree(leaves, sign * bound, sign * target, witness, len(ended))


@dataclass(frozen=True, eq=False)
class _Node:
    """A subproblem; `cells` are the regions that have its signs, where those are fixed."""

    part: Polytope
    signs: Signs
    depth: int = 0
    cells: tuple[Signs, ...] = ()


class _Splitter(ABC):
    """One kind of split, in one order."""

    @abstractmethod
    def children(self, node: _Node) -> list[_Node]:
        """The parts of a node; none if there is nothing to split."""

    def root(self, whole: Polytope) -> _Node:
        """The node of the whole input set."""
        return _Node(whole, {})


def _splitter(net: ExactNet, pieces: Sequence[Region], rule: Branching) -> _Splitter:
    if rule.split == "inputs":
        return _Inputs(net.input_size, rule.order)
    order = _neurons(net, rule.order)
    return _Signs(net, pieces, order) if rule.split == "signs" else _Polytopes(net, order)


def _neurons(net: ExactNet, order: Order) -> list[tuple[int, int]]:
    """All ReLUs in an order."""
    every = [(i, j) for i, layer in enumerate(net.layers) for j in range(layer.size)]
    if order == "first":
        return every
    if order == "last":
        return sorted(every, key=lambda neuron: (-neuron[0], neuron[1]))
    given: list[Any] = list(order)
    for neuron in given:
        if neuron not in every:
            raise BadInput(f"the order names a ReLU {neuron!r} that does not exist")
    return list(dict.fromkeys([*given, *every]))


class _Inputs(_Splitter):
    """Bisects a coordinate at the middle of its range."""

    def __init__(self, size: int, order: Order) -> None:
        turns = {"first": range(size), "last": range(size)[::-1], "widest": range(size)}
        self.widest = order == "widest"
        self.turn: list[Any] = list(turns[order] if isinstance(order, str) else order)
        for j in self.turn:
            if j not in range(size):
                raise BadInput(f"the order names a coordinate {j!r} that does not exist")
        if not self.turn:
            raise BadInput("the order names no coordinate")

    def children(self, node: _Node) -> list[_Node]:
        low, high = node.part.vertices.min(axis=0), node.part.vertices.max(axis=0)
        first = node.depth % len(self.turn)
        turn = self.turn[first:] + self.turn[:first]
        if self.widest:
            turn = sorted(self.turn, key=lambda j: low[j] - high[j])
        wide = [j for j in turn if low[j] < high[j]]
        if not wide:
            return []
        row = [Fraction(int(j == wide[0])) for j in range(node.part.size)]
        return _cut(node, row, -(low[wide[0]] + high[wide[0]]) / 2)


class _Polytopes(_Splitter):
    """Cuts where a ReLU changes its sign, if its pre-activation is affine on the part.

    If some ReLU does, so does the first one, and none before it: there is always one to cut at,
    until the network is affine on the part.
    """

    def __init__(self, net: ExactNet, order: Sequence[tuple[int, int]]) -> None:
        self.net, self.order = net, order

    def children(self, node: _Node) -> list[_Node]:
        found = self._bends(node.part)
        for neuron in self.order:
            if neuron in found:
                return _cut(node, *found[neuron])
        return []

    def _bends(self, part: Polytope) -> dict[tuple[int, int], tuple[list[Fraction], Fraction]]:
        """The unstable ReLUs that read affine functions of the inputs, with these functions."""
        # A row `(constant, *normal)` for each value; None if it is not known to be affine.
        size = part.size
        state: list[Array | None] = [
            np.array([Fraction(int(i == j + 1)) for i in range(size + 1)]) for j in range(size)
        ]
        found: dict[tuple[int, int], tuple[list[Fraction], Fraction]] = {}
        for i, layer in enumerate(self.net.layers):
            values: list[Array | None] = []
            for j, (weight, bias) in enumerate(zip(layer.weight, layer.bias, strict=True)):
                form = np.full(size + 1, Fraction(0), dtype=object)
                form[0] = bias
                read = [(w, u) for w, u in zip(weight, state, strict=True) if w]
                for w, u in read:
                    form = form if u is None else form + w * u
                if any(u is None for _, u in read):
                    values.append(None)
                    continue
                above, below = part.sides(form[1:].tolist(), form[0])
                if above and below:
                    found[i, j] = form[1:].tolist(), form[0]
                values.append(None if above and below else form * int(above))
            state = [state[index] for index in layer.keep] + values
        return found


def _cut(node: _Node, row: Sequence[Fraction], offset: Fraction) -> list[_Node]:
    halves = node.part.cut(row, offset), node.part.cut([-v for v in row], -offset)
    return [_Node(half, {}, node.depth + 1) for half in halves if half is not None]


class _Signs(_Splitter):
    """Fixes the sign of a ReLU that is on at some inputs of the node, and off at others.

    Both parts hold inputs. Where no ReLU is left, the node is one region: there the signs of all
    ReLUs are fixed, as if the others had been split and the empty parts dropped.
    """

    def __init__(
        self, net: ExactNet, pieces: Sequence[Region], order: Sequence[tuple[int, int]]
    ) -> None:
        self.order = order
        self.cells = tuple(_signature(net, piece) for piece in pieces)

    def root(self, whole: Polytope) -> _Node:
        return self._node(whole, {}, self.cells)

    def children(self, node: _Node) -> list[_Node]:
        neuron = self._next(node.cells)
        if neuron is None:
            return []
        found: list[_Node] = []
        for sign in (1, -1):
            cells = tuple(cell for cell in node.cells if cell[neuron] * sign >= 0)
            found.append(self._node(node.part, {**node.signs, neuron: sign}, cells))
        return found

    def _node(self, part: Polytope, signs: Signs, cells: tuple[Signs, ...]) -> _Node:
        if self._next(cells) is None:
            signs = {n: 1 if any(cell[n] > 0 for cell in cells) else -1 for n in self.order}
        return _Node(part, signs, 0, cells)

    def _next(self, cells: Sequence[Signs]) -> tuple[int, int] | None:
        for neuron in self.order:
            if {1, -1} <= {cell[neuron] for cell in cells}:
                return neuron
        return None


def _signature(net: ExactNet, piece: Region) -> Signs:
    """The signs of all pre-activations inside a region; 0 for one that vanishes on it."""
    found: Signs = {}
    states = net.states(piece.cell.centre()[None])
    for i, (layer, u) in enumerate(zip(net.layers, states, strict=False)):
        for j, z in enumerate(layer.before(u)[0]):
            found[i, j] = int(z > 0) - int(z < 0)
    return found
