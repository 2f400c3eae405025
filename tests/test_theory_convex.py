"""Convex unions of polytopes, and the images of layers, exactly."""

from fractions import Fraction

import numpy as np
import pytest
from exact_nets import integer_net
from hypothesis import given, settings
from hypothesis import strategies as st

from hullmark.theory import Polytope, bounds, exact_range, mlp, regions, structural_p1
from hullmark.theory.convex import Dent, convex_union, layer_images, uncovered

BENT = mlp([([[1], [-1]], [0, 0]), ([[-1, -1]], [1]), ([[-1]], [0])])
"""x -> -relu(1 - |x|), behind an image that is an L."""


def same(one: Polytope | None, other: Polytope) -> bool:
    return one is not None and one.vertices.tolist() == other.vertices.tolist()


def cell(i: int, j: int, flat: bool) -> Polytope:
    """A unit square; on a slope of space if it is to be flat."""
    square = Polytope.box([i, j], [i + 1, j + 1])
    slope = np.array(
        [[Fraction(1), Fraction(0)], [Fraction(0), Fraction(1)], [Fraction(2), Fraction(-3)]],
        dtype=object,
    )
    return square.image(slope, np.array([Fraction(0)] * 3, dtype=object)) if flat else square


CELLS = st.sets(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1)


@settings(deadline=None, max_examples=60)
@given(CELLS, st.booleans())
def test_squares_of_a_grid_are_convex_together_if_they_fill_a_rectangle(cells, flat) -> None:
    rows, columns = ({c[axis] for c in cells} for axis in (0, 1))
    filled = (max(rows) - min(rows) + 1) * (max(columns) - min(columns) + 1) == len(cells)
    members = [cell(i, j, flat) for i, j in sorted(cells)]
    union = convex_union(members)
    assert (union is not None) == filled
    if filled:
        assert same(union, Polytope.hull(np.concatenate([m.vertices for m in members])))


@settings(deadline=None, max_examples=30)
@given(CELLS, st.booleans())
def test_repeated_and_flat_members_do_not_change_convexity(cells, flat) -> None:
    members = [cell(i, j, flat) for i, j in sorted(cells)]
    edges = [Polytope.hull(member.vertices[:2]) for member in members]
    once, again = convex_union(members), convex_union([*edges, *members, *members[::-1]])
    assert (once is None) == (again is None)


def test_a_diagonal_does_not_fill_the_gap_between_two_squares() -> None:
    gap = [
        Polytope.box([0, 0], [1, 1]),
        Polytope.box([1, 1], [2, 2]),
        Polytope.hull([[0, 2], [2, 0]]),
    ]
    assert convex_union(gap) is None
    assert convex_union([Polytope.hull([[0, 2], [1, 1]]), Polytope.hull([[1, 1], [2, 0]])])


def cut_up(whole: Polytope, planes: list[tuple[list[int], int]]) -> list[Polytope]:
    pieces = [whole]
    for row, offset in planes:
        done: list[Polytope] = []
        for piece in pieces:
            halves = piece.cut(row, offset), piece.cut([-v for v in row], -offset)
            done += [h for h in halves if h] if all(piece.sides(row, offset)) else [piece]
        pieces = done
    return pieces


@pytest.mark.parametrize("seed", range(8))
def test_of_a_cut_polytope_exactly_the_removed_piece_is_uncovered(seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole = Polytope.hull(rng.integers(-9, 10, size=(8, 3)).tolist())
    planes = [(rng.integers(-3, 4, size=3).tolist(), int(rng.integers(-3, 4))) for _ in range(3)]
    pieces = cut_up(whole, planes)
    assert same(convex_union(pieces), whole)
    for gone, removed in enumerate(pieces):
        rest = pieces[:gone] + pieces[gone + 1 :]
        left = uncovered(whole, rest)
        assert left is not None and left.dimension == 3
        assert removed.contains(left.centre())
        assert not any(piece.contains(left.centre()) for piece in rest)


@pytest.mark.parametrize("seed", range(12))
def test_images_of_layers_are_convex_exactly_where_those_of_the_regions_are(seed: int) -> None:
    net = integer_net(seed, 2, 3, 3, 1)
    whole = Polytope.box([-1, -1], [1, 1])
    pieces = regions(net, whole)
    images = layer_images(net, whole)
    for depth in range(len(net.layers)):
        behind = [np.array(net.states(p.cell.vertices)[depth + 1]) for p in pieces]
        members = [Polytope.hull(points) for points in behind]
        union = convex_union(members)
        if isinstance(images, Dent) and depth == images.layer:
            assert union is None
            phantom = images.missing.centre()
            assert Polytope.hull(np.concatenate(behind)).contains(phantom)
            assert not any(member.contains(phantom) for member in members)
            return
        # Before the first dent all images are convex.
        assert union is not None
        if not isinstance(images, Dent):
            assert same(union, images[depth + 1])


def test_section_6_item_1_one_layer_maps_a_segment_to_an_l() -> None:
    segment = Polytope.box([-1], [1])
    dent = layer_images(BENT, segment)
    assert isinstance(dent, Dent) and dent.layer == 0
    corner = Polytope.hull([[0, 0], [1, 0], [0, 1]])
    assert same(Polytope.hull(np.concatenate(dent.corners)), corner)
    assert same(dent.missing, corner)
    # P_1 takes the missing corner for real; on the two halves it does not.
    assert bounds(BENT, segment, None, "p1") == [(-1, 0)]
    assert exact_range(BENT, segment) == [(-1, 0)]
    assert structural_p1(BENT, segment).proved
