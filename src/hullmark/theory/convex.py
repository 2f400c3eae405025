"""Whether a union of polytopes is convex, and whether a network keeps a set convex, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hullmark.errors import BadInput
from hullmark.relax.exact import Array
from hullmark.relax.polytope import facets_of, in_order
from hullmark.theory.net import ExactNet
from hullmark.theory.polytope import Polytope, rank
from hullmark.theory.regions import split, start


def uncovered(whole: Polytope, members: Sequence[Polytope]) -> Polytope | None:
    """A part of a polytope that some others leave uncovered; None if they cover all of it.

    The part is as large as the polytope in dimension, and its relative interior touches no
    member.

    Arguments:
        whole: a polytope, which may be flat.
        members: polytopes of the same space, in any position.

    Trust: exact.
    """
    return _rest(whole, [member.facets for member in members])


def _rest(piece: Polytope, members: Sequence[tuple[Array, Array]]) -> Polytope | None:
    if not members:
        return piece
    rows, sides = members[0]
    for row, side in zip(rows, sides, strict=True):
        inside, outside = piece.sides(-row, side)
        if not outside:
            continue
        if not inside:
            return _rest(piece, members[1:])
        beyond, within = piece.cut(row, -side), piece.cut(-row, side)
        # There are points strictly on both sides, so that neither part is empty.
        found = None if beyond is None else _rest(beyond, members[1:])
        if found is not None or within is None:
            return found
        piece = within
    return None


def convex_union(members: Sequence[Polytope]) -> Polytope | None:
    """The union of polytopes as one polytope; None if it is not convex.

    Members of a lower dimension than the hull do not matter: what the others leave is open in
    the hull, and no finite number of flat sets covers it.

    Arguments:
        members: one polytope or more of the same space; they may overlap, repeat, or be flat.

    Trust: exact.
    """
    return _joined([member.vertices for member in members])


def _joined(members: Sequence[Array]) -> Polytope | None:
    """`convex_union` of the hulls of points."""
    distinct = {tuple(map(tuple, points)): points for points in members}
    points = np.concatenate(list(distinct.values()))
    dimension = rank(points[1:] - points[0])
    full = [facets_of(p) for p in distinct.values() if rank(p[1:] - p[0]) == dimension]
    if not full:
        return None
    hull = Polytope.hull(points)
    # The equations of a member that is not flat hold on all of the hull.
    covers = [(facets.rows, facets.rhs) for facets in full]
    return hull if len(distinct) == 1 or _rest(hull, covers) is None else None


@dataclass(frozen=True, eq=False)
class Dent:
    """Where a set stops to be convex: behind `layer` (from 0) its image is not.

    `corners` are the vertices `(n, d)` of the polytopes whose union the image is.
    """

    layer: int
    corners: tuple[Array, ...]

    @property
    def members(self) -> list[Polytope]:
        """The polytopes whose union the image is."""
        return [Polytope.hull(points) for points in self.corners]

    @property
    def missing(self) -> Polytope:
        """A part of the image's convex hull, of its dimension, without inner points of the image.

        Raises:
            BadInput: if the image is convex after all.
        """
        hull = Polytope.hull(np.concatenate(self.corners))
        full = [member for member in self.members if member.dimension == hull.dimension]
        found = uncovered(hull, full)
        if found is None:
            raise BadInput("the union of the members is convex")
        return found


def layer_images(net: ExactNet, whole: Polytope) -> list[Polytope] | Dent:
    """What every layer makes of a convex set, as long as it stays convex.

    If all images are convex, P_1 is exact on the set, for whatever is read off them
    [Barrier Prop. 5.3]. An image is that of the layer's whole state, kept values included.

    Arguments:
        whole: a set of inputs.

    Returns:
        The set and its images behind every layer of ReLUs, `len(net.layers) + 1` polytopes; or
        the first layer whose image is not convex.

    Trust: exact.
    """
    images = [whole]
    for depth, layer in enumerate(net.layers):
        parts = list(split(start(images[-1]), layer))
        points = [np.dot(p.cell.vertices, p.weight.T) + p.bias for p in parts]
        sets = [in_order(p.tolist(), p.shape[1]) for p in points]
        joined = _joined(sets)
        if joined is None:
            return Dent(depth, tuple(sets))
        images.append(joined)
    return images
