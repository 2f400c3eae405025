"""How many pieces an input set must be cut into, by structure: A(f, X), and the count of P_1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from hullmark.errors import BadInput
from hullmark.relax.exact import Array
from hullmark.relax.polytope import in_order
from hullmark.theory.convex import Dent, convex_union, layer_images, uncovered
from hullmark.theory.net import ExactNet
from hullmark.theory.polytope import Polytope
from hullmark.theory.regions import input_set, regions, split, start

TRIES = 200
"""The search for few pieces asks so often at most whether one is kept convex."""

MOST_APART = 30
"""Inputs among which the proof of a lower bound looks for some that lie apart."""


def structural_single(
    net: ExactNet, lower: ArrayLike | Polytope, upper: ArrayLike | None = None
) -> int:
    """The fewest convex pieces on each of which no ReLU changes its sign: A(f, X).

    This is the structural count of every relaxation of single neurons [Barrier Prop. 5.6]. It
    says nothing about the leaves of a branch and bound that stops early: see `branch`.

    Arguments:
        lower, upper: the ends of a box, `(input_size,)` each; or a `Polytope` alone.

    Raises:
        BadInput, VacuousProperty: if the input set is none.
        Unsupported: if there are too many regions.

    Trust: exact. Of two regions, some ReLU is on inside one and off inside the other, so that no
    piece meets the interior of both.
    """
    return len(regions(net, lower, upper))


@dataclass(frozen=True, eq=False)
class P1Count:
    """What is known of the fewest convex pieces that every layer maps to convex sets.

    `pieces` are such, and cover the input set: `upper` is their number. `dent` shows that the
    whole set is none; of the inputs `apart` `(n, d)` no two lie in one such piece. `lower`
    follows from both.

    Trust: exact; `check` goes through all of it again.
    """

    pieces: tuple[Polytope, ...]
    dent: Dent | None
    apart: Array

    @property
    def upper(self) -> int:
        """A certified upper bound of the count."""
        return len(self.pieces)

    @property
    def lower(self) -> int:
        """A certified lower bound of the count."""
        return max(1 if self.dent is None else 2, len(self.apart))

    @property
    def proved(self) -> bool:
        """Whether `upper` is the minimum."""
        return self.lower == self.upper

    def check(
        self, net: ExactNet, lower: ArrayLike | Polytope, upper: ArrayLike | None = None
    ) -> bool:
        """Whether the pieces and the lower bound hold for a network and an input set."""
        whole = input_set(net, lower, upper)
        within = all(uncovered(piece, [whole]) is None for piece in self.pieces)
        fit = all(not isinstance(layer_images(net, piece), Dent) for piece in self.pieces)
        dented = self.dent is None or isinstance(layer_images(net, whole), Dent)
        sets = _images(net, whole)
        apart = all(_apart(net, sets, p, q) for p, q in combinations(self.apart, 2))
        return within and fit and dented and apart and uncovered(whole, self.pieces) is None


def structural_p1(
    net: ExactNet,
    lower: ArrayLike | Polytope,
    upper: ArrayLike | None = None,
    tries: int = TRIES,
) -> P1Count:
    """The structural count of P_1: the fewest pieces that every layer keeps convex.

    On such a piece P_1 is exact [Barrier Prop. 5.3]. No algorithm is known for the minimum. The
    upper bound comes from merging regions, and from cutting the set along the regions'
    boundaries; the lower bound from inputs that cannot share a piece. With one input the
    minimum is found.

    Arguments:
        lower, upper: the ends of a box, `(input_size,)` each; or a `Polytope` alone.
        tries: how many candidates for a piece are examined at most.

    Raises:
        BadInput, VacuousProperty: if the input set is none, or the number of tries negative.
        Unsupported: if there are too many regions.

    Trust: exact.
    """
    if tries < 0:
        raise BadInput(f"the search for pieces cannot have {tries} tries")
    whole = input_set(net, lower, upper)
    images = layer_images(net, whole)
    if not isinstance(images, Dent):
        return P1Count((whole,), None, _points([]))
    cells = sorted((r.cell for r in regions(net, whole)), key=lambda c: c.vertices.tolist())
    search = _Search(net, _planes(whole, cells), tries)
    merged = search.merged(cells)
    # Two pieces are the fewest where one is not enough.
    apart = _points([]) if len(merged) == 2 else _hidden(net, whole, cells)
    best = search.fewest(whole, max(2, len(apart)), len(merged) - 1) or merged
    return P1Count(tuple(best), images, apart)


@dataclass(eq=False)
class _Search:
    """Looks for few pieces that a network keeps convex, until its tries are used up."""

    net: ExactNet
    planes: list[tuple[int, ...]]
    tries: int
    known: dict[bytes, bool] = field(default_factory=dict)
    beyond: dict[bytes, int] = field(default_factory=dict)

    def fits(self, piece: Polytope) -> bool:
        """Whether every layer keeps a piece convex; False once the tries are used up."""
        name = _name(piece)
        if name not in self.known:
            if not self.tries:
                return False
            self.tries -= 1
            self.known[name] = not isinstance(layer_images(self.net, piece), Dent)
        return self.known[name]

    def merged(self, cells: Sequence[Polytope]) -> list[Polytope]:
        """Regions, joined two by two as long as the union can be a piece."""
        left, first = list(cells), 0
        while first < len(left):
            for second in range(first + 1, len(left)):
                union = convex_union([left[first], left[second]]) if self.tries else None
                if union is not None and self.fits(union):
                    left[first] = union
                    del left[second]
                    break
            else:
                first += 1
        return left

    def fewest(self, whole: Polytope, least: int, most: int) -> list[Polytope] | None:
        """As few pieces as cuts along the planes give, from `least` to `most`; or None."""
        for count in range(least, most + 1):
            found = self.within(whole, count)
            if found or not self.tries:
                return found
        return None

    def within(self, piece: Polytope, count: int) -> list[Polytope] | None:
        """At most so many pieces that make up one; None if cuts along the planes give none."""
        if self.fits(piece):
            return [piece]
        name = _name(piece)
        if count <= self.beyond.get(name, 1):
            return None
        for left, right in self.cuts(piece):
            if not self.tries:
                return None
            for share in range(1, count):
                first = self.within(left, share)
                if first is None:
                    continue
                second = self.within(right, count - share)
                if second is not None:
                    return first + second
                break
        self.beyond[name] = count
        return None

    def cuts(self, piece: Polytope) -> Iterator[tuple[Polytope, Polytope]]:
        """The pairs of parts that a plane cuts a piece into."""
        for plane in self.planes:
            offset, *row = plane
            if not all(piece.sides(row, offset)):
                continue
            left, right = piece.cut(row, offset), piece.cut([-v for v in row], -offset)
            if left is not None and right is not None:
                yield left, right


def _name(piece: Polytope) -> bytes:
    return repr(sorted(map(tuple, piece.cone.rays.tolist()))).encode()


def _points(points: Sequence[Array]) -> Array:
    return np.array([list(p) for p in points], dtype=object)


def _planes(whole: Polytope, cells: Sequence[Polytope]) -> list[tuple[int, ...]]:
    """The hyperplanes that bound regions inside the set, those of most regions first."""
    found: Counter[tuple[int, ...]] = Counter()
    for cell in cells:
        for row, side in zip(*cell.facets, strict=True):
            if all(whole.sides(row, -side)):
                plane = (-side, *row)
                found[max(plane, tuple(-v for v in plane))] += 1
    return [plane for plane, _ in sorted(found.items(), key=lambda item: (-item[1], item[0]))]


def _images(net: ExactNet, whole: Polytope) -> list[list[Polytope]]:
    """For every layer the polytopes whose union is its image."""
    pieces, images = [start(whole)], []
    for layer in net.layers:
        pieces = [part for piece in pieces for part in split(piece, layer)]
        images.append([p.cell.image(p.weight, p.bias) for p in pieces])
    return images


def _hidden(net: ExactNet, whole: Polytope, cells: Sequence[Polytope]) -> Array:
    """Inputs no two of which lie in one piece; as many as are found."""
    centres = [cell.centre() for cell in cells]
    points = in_order([list(p) for p in [*centres, *whole.vertices]], whole.size)
    if len(points) > MOST_APART:
        points = in_order([list(p) for p in centres[:MOST_APART]], whole.size)
    sets = _images(net, whole)
    near = {
        (i, j): _apart(net, sets, points[i], points[j])
        for i, j in combinations(range(len(points)), 2)
    }
    best: list[int] = []

    def grow(chosen: list[int], rest: list[int]) -> None:
        nonlocal best
        if len(chosen) > len(best):
            best = chosen
        for place, i in enumerate(rest):
            if len(chosen) + len(rest) - place <= len(best):
                return
            grow([*chosen, i], [j for j in rest[place + 1 :] if near[i, j]])

    grow([], list(range(len(points))))
    return points[best]


def _apart(net: ExactNet, sets: Sequence[Sequence[Polytope]], p: Array, q: Array) -> bool:
    """Whether no piece holds both of two inputs.

    A piece holds the segment between them. Its images are convex, and so hold the hull of what
    a layer makes of the segment, but none goes beyond the layer's image of the whole set.
    """
    pieces = [start(Polytope.hull(np.array([p, q], dtype=object)))]
    for layer, members in zip(net.layers, sets, strict=True):
        pieces = [part for piece in pieces for part in split(piece, layer)]
        points = [np.dot(s.cell.vertices, s.weight.T) + s.bias for s in pieces]
        if uncovered(Polytope.hull(np.concatenate(points)), members) is not None:
            return True
    return False
