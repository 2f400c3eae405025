"""Encodings in several variables: maxima, lattices, differences of maxima, and narrow chains."""

from fractions import Fraction
from itertools import pairwise
from random import Random

import numpy as np
import pytest

from hullmark.errors import BadInput, Unsupported, VacuousProperty
from hullmark.theory.encodings import (
    Difference,
    hanin,
    lattice,
    max_affine_difference,
    nested_max,
    nested_min,
    unstable,
)
from hullmark.theory.lattice import MOST_PIECES, Lattice, lattice_form
from hullmark.theory.net import ExactNet, mlp
from hullmark.theory.polytope import Polytope
from hullmark.theory.regions import Region, exact_range, regions
from hullmark.theory.relaxations import bounds

TRIANGLE = {2: "3/2", 3: "19/10", 4: "651/290", 5: "696691/272890"}
"""Its upper bound of the nested maximum on `[0, 1]^d`."""


def numbers(random: Random, *shape: int, unit: int = 2) -> np.ndarray:
    found = np.empty(shape, dtype=object)
    for place in np.ndindex(shape):
        found[place] = Fraction(random.randint(-4, 4), unit)
    return found


def random_points(random: Random, count: int, size: int, low: int, high: int) -> np.ndarray:
    values = [Fraction(random.randint(6 * low, 6 * high), 6) for _ in range(count * size)]
    return np.array(values, dtype=object).reshape(count, size)


def random_net(random: Random, *sizes: int) -> ExactNet:
    steps = pairwise(sizes)
    return mlp([(numbers(random, n, m), numbers(random, n)) for m, n in steps])


def random_lattice(random: Random, size: int, outer: str) -> Lattice:
    count = random.randint(1, 5)
    groups = [random.sample(range(count), random.randint(1, count)) for _ in range(3)]
    return Lattice.of(numbers(random, count, size), numbers(random, count), groups, outer)


def agree(net: ExactNet, function, points: np.ndarray) -> bool:
    return net.evaluate(points)[:, 0].tolist() == function(points).tolist()


def corners(net: ExactNet, whole: Polytope) -> np.ndarray:
    """The vertices of all regions: a function affine on the regions is known by its values."""
    return np.concatenate([region.cell.vertices for region in regions(net, whole)])


def random_polytopes(random: Random, size: int, low: int, high: int, count: int) -> list[Polytope]:
    """Boxes and simplices, some of them flat."""
    found: list[Polytope] = []
    for index in range(count):
        points = random_points(random, 2 if index % 2 else size + 1, size, low, high)
        box = Polytope.box(points.min(axis=0), points.max(axis=0))
        found.append(box if index % 2 else Polytope.hull(points))
    return found


@pytest.mark.parametrize("size", [2, 3, 4])
def test_nested_maxima_and_minima_are_what_they_are_called(size: int) -> None:
    points = random_points(Random(size), 60, size, -2, 2)
    ends = ([-2] * size, [2] * size)
    for net in (nested_max(size), nested_max(size, *ends)):
        assert agree(net, lambda x: x.max(axis=1), points)
    for net in (nested_min(size), nested_min(size, *ends)):
        assert agree(net, lambda x: x.min(axis=1), points)
    assert not nested_max(size, *ends).layers[0].keep and nested_max(size).layers[0].keep


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_fact_1_the_triangle_on_the_nested_maximum(size: int) -> None:
    for net in (nested_max(size), nested_max(size, [0] * size, [1] * size)):
        expected = [(0, Fraction(TRIANGLE[size]))]
        assert bounds(net, [0] * size, [1] * size, "triangle") == expected


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6])
def test_fact_1_p_1_and_m_1_are_exact_on_the_nested_maximum(size: int) -> None:
    for net in (nested_max(size), nested_max(size, [0] * size, [1] * size)):
        assert bounds(net, [0] * size, [1] * size, "p1") == [(0, 1)]
        assert bounds(net, [0] * size, [1] * size, "mk", k=1) == [(0, 1)]


@pytest.mark.parametrize("size", [2, 3])
def test_fact_1_output_only_m_2_is_exact_on_the_nested_maximum(size: int) -> None:
    chain = nested_max(size, [0] * size, [1] * size)
    assert bounds(chain, [0] * size, [1] * size, "mko", k=2) == [(0, 1)]


@pytest.mark.parametrize("seed", range(4))
def test_p_1_is_exact_on_nested_maxima_and_minima_on_every_polytope(seed: int) -> None:
    random = Random(seed)
    for make in (nested_max, nested_min):
        for net in (make(3), make(3, [-2] * 3, [2] * 3)):
            for part in random_polytopes(random, 3, -2, 2, 4):
                assert bounds(net, part) == exact_range(net, part)


def test_fact_10_the_triangle_is_not_exact_on_all_boxes_for_max() -> None:
    for net in (nested_max(2), nested_max(2, [0, 0], [1, 1])):
        assert bounds(net, [0, 0], [1, 1], "triangle") != exact_range(net, [0, 0], [1, 1])
        stable = ([0, Fraction(1, 2)], [Fraction(1, 2), 1])
        assert bounds(net, *stable, "triangle") == exact_range(net, *stable)


def test_section_4_max_by_nesting_has_width_d() -> None:
    for size in range(2, 7):
        layers = nested_max(size, [0] * size, [1] * size).layers
        assert [layer.size for layer in layers] == list(range(size, 1, -1))


@pytest.mark.parametrize("outer", ["min", "max"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_lattice_form_and_its_chain_are_one_function(size: int, outer: str) -> None:
    random = Random(size)
    cube = Polytope.box([0] * size, [1] * size)
    for _ in range(6):
        form = random_lattice(random, size, outer)
        net = lattice(form, cube)
        assert net.is_chain
        assert agree(net, form.evaluate, random_points(random, 30, size, 0, 1))
        assert agree(net, form.evaluate, corners(net, cube))
        assert agree(lattice(form.negated(), cube), lambda x, f=form: -f.evaluate(x), cube.vertices)


@pytest.mark.parametrize("outer", ["min", "max"])
@pytest.mark.parametrize("seed", range(6))
def test_a_network_equals_its_lattice_form(seed: int, outer: str) -> None:
    random = Random(seed)
    net = random_net(random, 2, 3, 2, 1)
    form = lattice_form(net, [-1, -1], [1, 1], outer)
    cells = regions(net, [-1, -1], [1, 1])
    for cell in cells:
        # On a region the network is one piece; a form that agrees on all of a finer chain's
        # regions within it agrees everywhere.
        chain = lattice(form, cell.cell)
        assert agree(net, form.evaluate, corners(chain, cell.cell))
        for part in regions(chain, cell.cell):
            assert (part.weight == cell.weight).all() and (part.bias == cell.bias).all()
    assert len(form.bias) <= len({(*c.weight[0], c.bias[0]) for c in cells})


def test_convex_and_concave_networks_need_one_group() -> None:
    bend = mlp([([[1, 0], [0, 1], [1, 1]], [0, 0, 0]), ([[1, 1, 1]], [0])])
    convex = lattice_form(bend, [-1, -1], [1, 1])
    assert len(convex.groups) == 1
    concave = lattice_form(bend.objective([Fraction(-1)]), [-1, -1], [1, 1])
    assert all(len(group) == 1 for group in concave.groups)
    assert len(concave.groups) == len(convex.groups[0])


def lower_than_the_network(net: ExactNet, cells: list[Region]) -> np.ndarray | None:
    """A point where, for some region, all pieces that are nowhere above the network on that
    region are below the network."""
    rows = {(*c.weight[0], c.bias[0]) for c in cells}
    for mine in cells:
        here = (*mine.weight[0], mine.bias[0])
        gaps = [[a - b for a, b in zip(row, here, strict=True)] for row in rows]
        below = [
            np.array(row, dtype=object)
            for row, gap in zip(rows, gaps, strict=True)
            if not mine.cell.sides(gap[:-1], gap[-1])[0]
        ]
        for other in cells:
            rest = other.cell
            for row in below:
                rest = rest and rest.cut(other.weight[0] - row[:-1], other.bias[0] - row[-1])
            if rest is not None:
                x = rest.centre()
                if all(net.evaluate([x])[0, 0] > row[:-1] @ x + row[-1] for row in below):
                    return x
    return None


def test_a_region_may_have_to_be_cut_for_its_group() -> None:
    """Where pieces cross within a region, the group of the whole region can be too small; the
    lattice form is right all the same."""
    net = random_net(Random(303), 2, 4, 3, 1)
    cells = regions(net, [-1, -1], [1, 1])
    x = lower_than_the_network(net, cells)
    assert x is not None
    form = lattice_form(net, [-1, -1], [1, 1])
    assert form.evaluate([x]).tolist() == net.evaluate([x])[:, 0].tolist()
    whole = Polytope.box([-1, -1], [1, 1])
    assert agree(net, form.evaluate, corners(lattice(form, whole), whole))
    assert agree(net, form.evaluate, corners(net, whole))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_difference_of_two_maxima(size: int) -> None:
    random = Random(size)
    cube = Polytope.box([0] * size, [1] * size)
    for first, second in ((1, 1), (1, 3), (3, 1), (3, 2), (4, 4)):
        form = Difference.of(
            numbers(random, first, size),
            numbers(random, first),
            numbers(random, second, size),
            numbers(random, second),
        )
        net = max_affine_difference(form, cube)
        assert agree(net, form.evaluate, random_points(random, 30, size, 0, 1))
        assert agree(net, form.evaluate, corners(net, cube))


def narrow(net: ExactNet, size: int, loose: int) -> bool:
    widths = [layer.size for layer in net.layers]
    counts = unstable(net, [0] * size, [1] * size)
    return net.is_chain and max(widths, default=0) <= size + 2 and max(counts, default=0) <= loose


@pytest.mark.parametrize("seed", range(5))
def test_section_4_hanin_width_and_unstable_neurons(seed: int) -> None:
    """d + 3 and 3 are promised; d + 2 is reached, with 1 or 2 unstable neurons a layer."""
    random = Random(seed)
    for size in (1, 2, 3):
        cube = Polytope.box([0] * size, [1] * size)
        net = random_net(random, size, 3, 1)
        found = hanin(net)
        assert narrow(found, size, 1)
        assert agree(found, lambda x, n=net: n.evaluate(x)[:, 0], corners(found, cube))
        assert agree(found, lambda x, n=net: n.evaluate(x)[:, 0], corners(net, cube))
        assert narrow(hanin(random_lattice(random, size, "max")), size, 1)
        maxima = (numbers(random, 3, size), numbers(random, 3))
        assert narrow(hanin(Difference.of(*maxima, numbers(random, 2, size), [0, 1])), size, 2)


def test_unstable_neurons_are_counted_by_layer() -> None:
    net = mlp([([[1], [1], [1]], [0, 1, -2]), ([[1, 0, 0]], [Fraction(-1, 2)]), ([[1]], [0])])
    assert unstable(net, [-1], [1]) == [1, 1]
    assert unstable(net, [0], [1]) == [0, 1]
    assert unstable(net, [-1], [0]) == [0, 0]


def wide() -> ExactNet:
    """A parabola's worth of pieces."""
    knots = range(1, MOST_PIECES + 1)
    return mlp([([[1]] * len(knots), [-k for k in knots]), ([[1] * len(knots)], [0])])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nested_max(1), BadInput, "it takes two"),
        (lambda: nested_max(3, [0, 0], [1, 1]), BadInput, "2 coordinates, not 3"),
        (lambda: nested_min(2, [0, 0]), BadInput, "lower and upper ends"),
        (lambda: nested_min(2, [0, 1], [1, 0]), VacuousProperty, "coordinate 1"),
        (lambda: Lattice.of([[1]], [0], []), BadInput, "needs a group"),
        (lambda: Lattice.of([[1]], [0], [[]]), BadInput, "each group a piece"),
        (lambda: Lattice.of([[1]], [0], [[1]]), BadInput, "does not exist"),
        (lambda: Lattice.of([[1]], [0, 1], [[0]]), BadInput, "2 biases"),
        (lambda: Lattice.of([[1]], [0], [[0]], "mid"), BadInput, "'mid'"),
        (lambda: Difference.of([[1]], [0], [[1, 1]], [0]), BadInput, "different numbers"),
        (lambda: Difference.of([[1]], [0], [[1]], [0, 1]), BadInput, "2 biases"),
        (lambda: lattice_form(nested_max(2), [0, 0], [1, 1], "mid"), BadInput, "'mid'"),
        (lambda: lattice_form(mlp([([[1], [2]], [0, 0])]), [0], [1]), Unsupported, "has 2"),
        (lambda: lattice_form(wide(), [0], [100]), Unsupported, f"{MOST_PIECES + 1} different"),
    ],
)
def test_what_cannot_be_encoded_is_named(make, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        make()
