"""The pieces on which a network is affine, and what follows from them: exact output sets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import comb

import numpy as np
from numpy.typing import ArrayLike

from hullmark.errors import BadInput, Unsupported, VacuousProperty
from hullmark.relax.exact import Array, identity, zeros
from hullmark.theory.budget import in_time
from hullmark.theory.net import ExactNet, Layer
from hullmark.theory.polytope import Polytope

MOST_REGIONS = 20_000
"""A network is refused once it has more regions than this."""

_SAMPLE = 50
# No prediction is made from fewer hyperplanes.
_TELLING = 3
# A prediction may be wrong by this factor.
_DOUBT = 4

Range = tuple[Fraction, Fraction]


@dataclass(frozen=True, eq=False)
class Region:
    """A piece of the input set, full-dimensional in it, on which no ReLU changes its sign.

    There the network is `weight @ x + bias`, and `pattern[i][j]` says whether ReLU j of layer i
    is on; one that is 0 on the whole piece counts as off.
    """

    cell: Polytope
    weight: Array
    bias: Array
    pattern: tuple[tuple[bool, ...], ...]

    @property
    def image(self) -> Polytope:
        """The outputs that the network takes on the piece."""
        return self.cell.image(self.weight, self.bias)


@dataclass(frozen=True, eq=False)
class Piece:
    """A cell, and what the next layer reads as `weight @ x + bias` there."""

    cell: Polytope
    weight: Array
    bias: Array
    dimension: int
    pattern: tuple[tuple[bool, ...], ...] = ()


def input_set(net: ExactNet, lower: ArrayLike | Polytope, upper: ArrayLike | None) -> Polytope:
    """The polytope that a pair of ends, or a polytope alone, stands for.

    Raises:
        BadInput: if it has not as many coordinates as the network has inputs.
    """
    if isinstance(lower, Polytope):
        if upper is not None:
            raise BadInput("a polytope is an input set by itself, and takes no upper ends")
        chosen = lower
    elif upper is None:
        raise BadInput("an input set is a polytope, or the lower and the upper ends of a box")
    else:
        chosen = Polytope.box(lower, upper)
    if chosen.size != net.input_size:
        raise BadInput(f"the input set has {chosen.size} coordinates, the net {net.input_size}")
    return chosen


def regions(
    net: ExactNet, lower: ArrayLike | Polytope, upper: ArrayLike | None = None
) -> list[Region]:
    """All activation regions of a network on an input set; their number is A(f, X) [Barrier §5].

    Arguments:
        lower, upper: the ends of a box, `(input_size,)` each; or a `Polytope` alone.

    Raises:
        BadInput, VacuousProperty: if the input set is none.
        Unsupported: if there are more than `MOST_REGIONS`, or a piece is too large.

    Trust: exact: the pieces cover the set, and overlap in their boundaries only.
    """
    whole = input_set(net, lower, upper)
    return [
        Region(
            p.cell, np.dot(net.weight, p.weight), np.dot(net.weight, p.bias) + net.bias, p.pattern
        )
        for p in pieces_behind(whole, net.layers)
    ]


def pieces_behind(whole: Polytope, layers: Sequence[Layer]) -> list[Piece]:
    """The parts of a polytope on which some layers are affine.

    Raises:
        Unsupported: if there are more than `MOST_REGIONS`, as soon as that can be told.

    Trust: exact.
    """
    pieces = [start(whole)]
    for depth, layer in enumerate(layers):
        where = f"behind layer {depth + 1} of {len(layers)}"
        parts: list[Piece] = []
        started = time.perf_counter()
        for done, piece in enumerate(pieces, 1):
            parts += split(piece, layer)
            # The first pieces tell what all of them will come to.
            if done >= _SAMPLE or done == len(pieces):
                doubt = 1 if done == len(pieces) else _DOUBT
                affordable(len(parts) * len(pieces) // (done * doubt), where)
            in_time(started, done / len(pieces))
        pieces = parts
    return pieces


def affordable(count: int, where: str) -> None:
    """Refuse more than `MOST_REGIONS` regions.

    Raises:
        Unsupported: says how many there would be.
    """
    if count > MOST_REGIONS:
        raise Unsupported(
            f"too large to be enumerated: about {count} regions {where} (limit {MOST_REGIONS}); "
            "take a smaller input set, or a relaxation that does not enumerate"
        )


def start(whole: Polytope) -> Piece:
    """The one piece of an input set before the first layer."""
    size = whole.size
    return Piece(whole, identity(size), zeros(size), whole.dimension)


def split(piece: Piece, layer: Layer) -> Iterator[Piece]:
    """The parts of a piece on which no ReLU of a layer changes its sign, behind the layer."""
    weight = np.dot(layer.weight, piece.weight)
    bias = np.dot(layer.weight, piece.bias) + layer.bias
    cells: list[tuple[Polytope, tuple[bool, ...]]] = [(piece.cell, ())]
    started, work, done = time.perf_counter(), 0, 0
    # The hyperplanes that cut the piece; others leave all cells as they are.
    cutting = [all(piece.cell.sides(*plane)) for plane in zip(weight, bias, strict=True)]
    for row, constant, cuts in zip(weight, bias, cutting, strict=True):
        cells = [part for cell in cells for part in _halves(cell, row, constant)]
        done, work = done + cuts, work + len(cells)
        total = sum(cutting)
        left = [_foreseen(len(cells), done, n, piece.dimension) for n in range(done + 1, total + 1)]
        affordable(left[-1] // _DOUBT if left else len(cells), "of one layer")
        in_time(started, work / (work + sum(left)))
    keep = list(layer.keep)
    for cell, signs in cells:
        on = np.array(signs, dtype=np.int64).astype(object)
        yield Piece(
            cell,
            np.concatenate([piece.weight[keep], weight * on[:, None]]),
            np.concatenate([piece.bias[keep], bias * on]),
            piece.dimension,
            (*piece.pattern, signs),
        )


def _foreseen(count: int, done: int, planes: int, dimension: int) -> int:
    """How many cells `planes` hyperplanes will make, if those to come cut like those `done`.

    In general position `n` hyperplanes make `sum C(n, i)` cells, `i` up to the dimension. Where
    they are fewer than that, each has multiplied the cells by about the same factor.
    """
    if done < _TELLING:
        return count

    def most(n: int) -> int:
        return sum(comb(n, i) for i in range(dimension + 1))

    return min(count * most(planes) // most(done), int(count ** (planes / done)))


def _halves(
    part: tuple[Polytope, tuple[bool, ...]], row: Array, constant: Fraction
) -> Iterator[tuple[Polytope, tuple[bool, ...]]]:
    cell, signs = part
    above, below = cell.sides(row, constant)
    if not (above and below):
        yield cell, (*signs, above)
        return
    for sign, on in ((1, True), (-1, False)):
        half = cell.cut(sign * row, sign * constant)
        # Both have inner points, since the row takes both signs.
        if half is not None:
            yield half, (*signs, on)


def exact_range(
    net: ExactNet, lower: ArrayLike | Polytope, upper: ArrayLike | None = None
) -> list[Range]:
    """The least and the largest value of every output, as `regions`.

    Trust: exact.
    """
    return ranges_of(regions(net, lower, upper))


def ranges_of(pieces: Sequence[Region]) -> list[Range]:
    """The least and the largest value of every output over some regions."""
    values = np.concatenate([np.dot(p.cell.vertices, p.weight.T) + p.bias for p in pieces])
    return [(min(column), max(column)) for column in values.T]


def minimiser(
    pieces: Sequence[Region],
    output: int,
    sign: int = 1,
    admitted: Callable[[Array], bool] = lambda _: True,
) -> Array:
    """An input `(d,)` at which an output is least, or largest if `sign` is -1.

    Arguments:
        admitted: which vertices of the regions count. Where signs of ReLUs are fixed, those that
            have them: of every region they span the face, or all, that does.

    Raises:
        VacuousProperty: if there is none.

    Trust: exact.
    """
    best: tuple[Fraction, Array] | None = None
    for piece in pieces:
        values = (np.dot(piece.cell.vertices, piece.weight[output]) + piece.bias[output]) * sign
        for value, vertex in zip(values, piece.cell.vertices, strict=True):
            if (best is None or value < best[0]) and admitted(vertex):
                best = value, vertex
    if best is None:
        raise VacuousProperty("no input has these signs")
    return best[1]


def output_set(
    net: ExactNet, lower: ArrayLike | Polytope, upper: ArrayLike | None = None
) -> list[Polytope]:
    """The polytopes whose union is the set of all outputs, one for each region.

    Trust: exact.
    """
    return [piece.image for piece in regions(net, lower, upper)]
