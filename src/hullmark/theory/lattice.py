"""Lattice form: a piecewise linear function as a minimum of maxima, or a maximum of minima."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from hullmark.errors import BadInput, Unsupported
from hullmark.relax.exact import Array, as_fractions
from hullmark.theory.net import ExactNet
from hullmark.theory.polytope import Polytope
from hullmark.theory.regions import regions

MOST_PIECES = 64
"""A function with more affine pieces is not put into lattice form."""

Outer = Literal["min", "max"]


@dataclass(frozen=True, eq=False)
class Lattice:
    """`outer over groups of inner over j in the group of weight[j] · x + bias[j]`.

    `outer` is "min" or "max", and the inner operation the other one. `weight` `(n, d)`, `bias`
    `(n,)`, fractions.

    Raises:
        BadInput: if a group is empty or names no piece, there is none, or shapes do not fit.

    Trust: exact.
    """

    weight: Array
    bias: Array
    groups: tuple[tuple[int, ...], ...]
    outer: Outer = "min"

    def __post_init__(self) -> None:
        if self.weight.ndim != 2 or self.bias.shape != (len(self.weight),):
            raise BadInput(f"pieces of shape {self.weight.shape} with {self.bias.size} biases")
        if self.outer not in ("min", "max"):
            raise BadInput(f"the outer operation is 'min' or 'max', not {self.outer!r}")
        if not self.groups or not all(self.groups):
            raise BadInput("a lattice form needs a group, and each group a piece")
        for group in self.groups:
            if not all(0 <= j < len(self.bias) for j in group):
                raise BadInput(f"group {group} names a piece that does not exist")

    @staticmethod
    def of(
        weight: ArrayLike, bias: ArrayLike, groups: Sequence[Sequence[int]], outer: Outer = "min"
    ) -> Lattice:
        """The lattice form of numbers of any kind; raises as the class."""
        rows, constants = as_fractions(weight, "weight", 2), as_fractions(bias, "bias", 1)
        return Lattice(rows, constants, tuple(tuple(group) for group in groups), outer)

    @property
    def size(self) -> int:
        """The number of inputs."""
        return self.weight.shape[1]

    def evaluate(self, x: ArrayLike) -> Array:
        """The values `(batch,)` at `x` `(batch, size)`."""
        heights = np.dot(as_fractions(x, "x", 2), self.weight.T) + self.bias
        inner, outer = (np.max, np.min) if self.outer == "min" else (np.min, np.max)
        return outer([inner(heights[:, list(group)], axis=1) for group in self.groups], axis=0)

    def negated(self) -> Lattice:
        """The form of the negative function: minima and maxima change places."""
        swapped: Outer = "max" if self.outer == "min" else "min"
        return Lattice(-self.weight, -self.bias, self.groups, swapped)


@dataclass(frozen=True, eq=False)
class _Patch:
    """A convex part of the domain, and the piece that the function is there."""

    cell: Polytope
    piece: int


def lattice_form(
    net: ExactNet,
    lower: ArrayLike | Polytope,
    upper: ArrayLike | None = None,
    outer: Outer = "min",
) -> Lattice:
    """The lattice form of a small network with one output, on a fixed convex domain.

    Of a patch of the domain where the network is piece i, the group `{j : piece j <= piece i on
    the patch}` has its maximum equal to the network there, and nowhere below it if every pair of
    pieces is in one order on the patch [TarelaMartinez99]. A patch whose group fails is cut where
    it is not. Then pieces and groups that are not needed are dropped. Each group that is used has
    been checked to be nowhere below the network, and the network itself on one of the patches.

    Arguments:
        lower, upper: the ends of a box, `(input_size,)` each; or a `Polytope` alone.
        outer: "min" for a minimum of maxima, "max" for a maximum of minima.

    Raises:
        BadInput, VacuousProperty: if the domain is none, or `outer` neither.
        Unsupported: if there is more than one output, or more than `MOST_PIECES` pieces.

    Trust: exact.
    """
    if net.output_size != 1:
        raise Unsupported(f"a lattice form is of one output; the network has {net.output_size}")
    if outer not in ("min", "max"):
        raise BadInput(f"the outer operation is 'min' or 'max', not {outer!r}")
    if outer == "max":
        return lattice_form(net.objective([Fraction(-1)]), lower, upper).negated()
    search = _Search.of(net, lower, upper)
    patches = [part for patch in search.patches for part in search.settled(patch)]
    found = {search.shrunk(search.below(patch)) for patch in patches}
    return search.form(search.covering(sorted(found, key=sorted), patches))


class _Search:
    """Groups of pieces whose maximum is nowhere below the function."""

    def __init__(self, weight: Array, bias: Array, patches: list[_Patch]) -> None:
        self.weight, self.bias, self.patches = weight, bias, patches
        self.known: dict[frozenset[int], bool] = {}

    @staticmethod
    def of(net: ExactNet, lower: ArrayLike | Polytope, upper: ArrayLike | None) -> _Search:
        """The distinct pieces of a network, and its regions as patches."""
        cells = regions(net, lower, upper)
        index: dict[tuple[Fraction, ...], int] = {}
        patches: list[_Patch] = []
        for region in cells:
            row = (*region.weight[0], region.bias[0])
            patches.append(_Patch(region.cell, index.setdefault(row, len(index))))
        if len(index) > MOST_PIECES:
            raise Unsupported(
                f"the network has {len(index)} different affine pieces on this domain, too many "
                f"for a lattice form (limit {MOST_PIECES}); take a smaller domain"
            )
        rows = np.array(list(index), dtype=object)
        return _Search(rows[:, :-1], rows[:, -1], patches)

    def gap(self, above: int, below: int) -> tuple[list[Fraction], Fraction]:
        """Piece `above` minus piece `below`, an affine function: its weight and constant."""
        normal = self.weight[above] - self.weight[below]
        return normal.tolist(), Fraction(self.bias[above] - self.bias[below])

    def below(self, patch: _Patch) -> frozenset[int]:
        """The pieces that are nowhere above the function on a patch."""
        return frozenset(
            j for j in range(len(self.bias)) if not patch.cell.sides(*self.gap(j, patch.piece))[0]
        )

    def valid(self, group: frozenset[int]) -> bool:
        """Whether the maximum of a group is nowhere below the function."""
        if group not in self.known:
            self.known[group] = not any(self._fails(group, patch) for patch in self.patches)
        return self.known[group]

    def _fails(self, group: frozenset[int], patch: _Patch) -> bool:
        """Whether all pieces of a group are below the function somewhere on a patch."""
        if patch.piece in group:
            return False
        rest: Polytope | None = patch.cell
        gaps = [self.gap(patch.piece, j) for j in sorted(group)]
        for normal, offset in gaps:
            rest = rest.cut(normal, offset)
            if rest is None:
                return False
        # If every gap is positive somewhere, the mean of these points makes all of them so.
        return all(rest.sides(normal, offset)[0] for normal, offset in gaps)

    def settled(self, patch: _Patch) -> list[_Patch]:
        """The patch, or its parts, on each of which the group of pieces below is valid."""
        if self.valid(self.below(patch)):
            return [patch]
        for j in range(len(self.bias)):
            if all(patch.cell.sides(*self.gap(j, patch.piece))):
                halves = [
                    patch.cell.cut(*self.gap(j, patch.piece)),
                    patch.cell.cut(*self.gap(patch.piece, j)),
                ]
                parts = [_Patch(cell, patch.piece) for cell in halves if cell is not None]
                return [done for part in parts for done in self.settled(part)]
        # Where all pieces are in one order this has been shown not to happen.
        raise Unsupported("no group of affine pieces equals the network on a part of this domain")

    def shrunk(self, group: frozenset[int]) -> frozenset[int]:
        """A valid group within a valid one, from which no piece can be left out."""
        for j in sorted(group):
            if len(group) > 1 and self.valid(group - {j}):
                group = group - {j}
        return group

    def covering(
        self, groups: Sequence[frozenset[int]], patches: Sequence[_Patch]
    ) -> list[frozenset[int]]:
        """A few of the groups, of which one is the function on each patch, taken greedily."""
        serves = {
            group: {i for i, patch in enumerate(patches) if group <= self.below(patch)}
            for group in groups
        }
        chosen: list[frozenset[int]] = []
        left = set(range(len(patches)))
        while left:
            best = max(groups, key=lambda group: len(serves[group] & left))
            chosen.append(best)
            left -= serves[best]
        return chosen

    def form(self, groups: Sequence[frozenset[int]]) -> Lattice:
        """The minimum of the groups' maxima, with the pieces that are used."""
        used = sorted({j for group in groups for j in group})
        place = {j: k for k, j in enumerate(used)}
        named = tuple(tuple(place[j] for j in sorted(group)) for group in groups)
        return Lattice(self.weight[used], self.bias[used], named, "min")
