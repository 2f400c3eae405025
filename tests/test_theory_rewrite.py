"""Rewriting: the same function, and how P_1 then bounds it on every polytope within a domain."""

from fractions import Fraction
from itertools import pairwise
from random import Random

import numpy as np
import pytest

from hullmark.errors import BadInput, Unsupported
from hullmark.theory.encodings import nested_max, unstable
from hullmark.theory.net import ExactNet, Layer, mlp
from hullmark.theory.polytope import Polytope
from hullmark.theory.regions import exact_range, regions
from hullmark.theory.relaxations import bounds
from hullmark.theory.rewrite import clamped, copied_inputs, lower_exact, mirrored, upper_exact

SQUARE = ([-1, -1], [1, 1])


def numbers(random: Random, *shape: int) -> np.ndarray:
    found = np.empty(shape, dtype=object)
    for place in np.ndindex(shape):
        found[place] = Fraction(random.randint(-4, 4), 2)
    return found


def random_net(random: Random, *sizes: int) -> ExactNet:
    return mlp([(numbers(random, n, m), numbers(random, n)) for m, n in pairwise(sizes)])


def skipping_net(random: Random, inputs: int) -> ExactNet:
    """Two layers; the second keeps an input and a ReLU of the first."""
    first = Layer(numbers(random, 3, inputs), numbers(random, 3), (0,))
    second = Layer(numbers(random, 2, 4), numbers(random, 2), (0, 2))
    return ExactNet(inputs, (first, second), numbers(random, 1, 4), numbers(random, 1))


def barrier(height: int) -> ExactNet:
    """`-2 T min(relu(x), relu(-x))`, which is 0; P_1 says `-T` [Barrier Thm 3.3]."""
    bend = mlp([([[1], [-1]], [0, 0]), ([[1, -1], [1, 0]], [0, 0]), ([[1, -1]], [0])])
    return bend.objective([Fraction(2 * height)])


def parts(random: Random, count: int) -> list[Polytope]:
    """Boxes, triangles and segments within the square."""
    found: list[Polytope] = []
    for index in range(count):
        points = numbers(random, 2 + (index % 2), 2) * Fraction(1, 2)
        box = Polytope.box(points.min(axis=0), points.max(axis=0))
        found.append(Polytope.hull(points) if index % 2 or index % 3 == 2 else box)
    return found


def same(net: ExactNet, other: ExactNet, whole: Polytope) -> bool:
    """Whether two networks are equal on a set: on every region both have the same piece."""
    return all(
        (piece.weight == cell.weight).all() and (piece.bias == cell.bias).all()
        for cell in regions(net, whole)
        for piece in regions(other, cell.cell)
    )


def both_bounds(net: ExactNet, whole: Polytope, tried: list[Polytope]) -> int:
    """On how many sets the two forms together give the exact range."""
    below, above = lower_exact(net, whole), upper_exact(net, whole)
    assert same(net, below, whole) and same(net, above, whole)
    hits = 0
    for part in tried:
        found = bounds(below, part)[0][0], bounds(above, part)[0][1]
        hits += found == exact_range(net, part)[0]
    return hits


@pytest.mark.parametrize("seed", range(8))
def test_section_4_copying_the_inputs_alone_changes_nothing(seed: int) -> None:
    random = Random(seed)
    for net in (random_net(random, 2, 3, 3, 2), skipping_net(random, 2), barrier(3)):
        ends = ([-1] * net.input_size, [1] * net.input_size)
        copied = copied_inputs(net, *ends)
        assert [layer.size for layer in copied.layers] == [
            layer.size + net.input_size for layer in net.layers
        ]
        assert same(net, copied, Polytope.box(*ends))
        assert unstable(copied, *ends) == unstable(net, *ends)
        assert bounds(copied, *ends) == bounds(net, *ends)


def test_section_4_copies_do_not_help_where_p_1_fails() -> None:
    """P_1 fails on these, and on their copies in the same way."""
    for net in (barrier(100), random_net(Random(6), 2, 3, 2, 1)):
        ends = ([-1] * net.input_size, [1] * net.input_size)
        assert bounds(net, *ends) != exact_range(net, *ends)
        assert bounds(copied_inputs(net, *ends), *ends) == bounds(net, *ends)


@pytest.mark.parametrize("height", [1, 100, 10**6])
def test_section_4_a_barrier_falls_in_both_forms(height: int) -> None:
    net = barrier(height)
    assert bounds(net, [-1], [1])[0][0] == -height
    whole = Polytope.box([-1], [1])
    assert both_bounds(net, whole, [whole]) == 1


@pytest.mark.parametrize("seed", range(12))
def test_section_4_both_forms_together_are_exact_on_every_polytope(seed: int) -> None:
    random = Random(seed)
    net = random_net(random, 2, 4, 3, 1)
    whole = Polytope.box(*SQUARE)
    tried = [whole, *parts(random, 4)]
    assert both_bounds(net, whole, tried) == len(tried)


@pytest.mark.slow
def test_section_4_48_of_48_random_functions_and_boxes() -> None:
    """P_1 is not exact on all of the original networks."""
    hits, before = 0, 0
    whole = Polytope.box(*SQUARE)
    for seed in range(48):
        random = Random(seed)
        net = random_net(random, *((2, 4, 3, 1), (2, 3, 2, 2, 1))[seed % 2])
        points = numbers(random, 2, 2) * Fraction(1, 2)
        tried = [whole, Polytope.box(points.min(axis=0), points.max(axis=0))]
        hits += both_bounds(net, whole, tried) == 2
        before += all(bounds(net, part) == exact_range(net, part) for part in tried)
    assert hits == 48 > before


@pytest.mark.parametrize("seed", range(4))
def test_section_4_in_three_dimensions_and_with_skip_connections(seed: int) -> None:
    random = Random(seed)
    cube = Polytope.box([-1] * 3, [1] * 3)
    tried = [cube, Polytope.hull(numbers(random, 4, 3) * Fraction(1, 2))]
    assert both_bounds(skipping_net(random, 3), cube, tried) == 2
    assert both_bounds(nested_max(3), cube, tried) == 2


def test_section_4_the_domain_may_be_a_polytope() -> None:
    random = Random(6)
    net = random_net(random, 2, 3, 2, 1)
    whole = Polytope.hull([[-1, -1], [1, 0], [0, 1], [1, 1]])
    inner = Polytope.hull([[0, 0], [1, Fraction(1, 2)], [Fraction(1, 2), 1]])
    assert both_bounds(net, whole, [whole, inner]) == 2


@pytest.mark.parametrize("seed", range(3))
def test_section_4_on_flat_domains(seed: int) -> None:
    net = random_net(Random(seed), 2, 4, 3, 1)
    for whole in (Polytope.box([0, 0], [1, 0]), Polytope.hull([[-1, -1], [1, Fraction(1, 2)]])):
        below, above = lower_exact(net, whole), upper_exact(net, whole)
        for other in (below, above):
            points = np.concatenate(
                [c.cell.vertices for n in (net, other) for c in regions(n, whole)]
            )
            assert other.evaluate(points).tolist() == net.evaluate(points).tolist()
        found = bounds(below, whole)[0][0], bounds(above, whole)[0][1]
        assert found == exact_range(net, whole)[0]


def test_section_4_the_other_bound_may_fail() -> None:
    """Each form promises one side only."""
    wrong = 0
    for seed in range(12):
        net = random_net(Random(seed), 2, 4, 3, 1)
        low, high = exact_range(net, *SQUARE)[0]
        wrong += bounds(lower_exact(net, *SQUARE), *SQUARE)[0][1] > high
        wrong += bounds(upper_exact(net, *SQUARE), *SQUARE)[0][0] < low
    assert wrong > 0


@pytest.mark.parametrize("seed", range(4))
def test_section_4_one_unstable_neuron_a_layer_so_m_1_is_exact_too(seed: int) -> None:
    random = Random(seed)
    net = random_net(random, 2, 3, 2, 1)
    below, above = lower_exact(net, *SQUARE), upper_exact(net, *SQUARE)
    for form in (below, above):
        assert max(unstable(form, *SQUARE), default=0) <= 1
        assert max((layer.size for layer in form.layers), default=0) <= 4
    for part in parts(random, 2):
        low, high = exact_range(net, part)[0]
        assert bounds(below, part, relaxation="mk", k=1)[0][0] == low
        assert bounds(above, part, relaxation="mk", k=1)[0][1] == high


def test_section_4_the_triangle_is_not_exact_on_the_rewritten_network() -> None:
    net = upper_exact(nested_max(2), [0, 0], [1, 1])
    assert bounds(net, [0, 0], [1, 1], "triangle") != [(0, 1)]
    assert bounds(net, [0, 0], [1, 1], "p1")[0][1] == 1


def test_section_4_the_shifts_depend_on_the_domain() -> None:
    """Outside of its domain the rewritten network is another function."""
    net = random_net(Random(6), 2, 3, 2, 1)
    small = lower_exact(net, [0, 0], [1, 1])
    far = np.array([[Fraction(-3), Fraction(-3)]], dtype=object)
    assert small.evaluate(far).tolist() != net.evaluate(far).tolist()
    large = lower_exact(net, [-3, -3], [1, 1])
    assert large.evaluate(far).tolist() == net.evaluate(far).tolist()


def test_section_4_clamping_makes_ibp_exact_on_one_set_only() -> None:
    quarter, loose = ([0, 0], [1, 1]), 0
    for seed in range(6):
        net = random_net(Random(seed), 2, 4, 3, 2)
        tight = clamped(net, *SQUARE)
        assert same(net, tight, Polytope.box(*SQUARE))
        assert bounds(tight, *SQUARE, "ibp") == exact_range(net, *SQUARE)
        assert bounds(net, *SQUARE, "ibp") != exact_range(net, *SQUARE)
        loose += bounds(tight, *quarter, "ibp") != exact_range(net, *quarter)
    assert loose >= 3


@pytest.mark.parametrize("seed", range(8))
def test_fact_10_mirroring_exchanges_deeppoly0_and_deeppoly1(seed: int) -> None:
    random = Random(seed)
    for net in (random_net(random, 2, 3, 3, 2), skipping_net(random, 2)):
        twin = mirrored(net)
        assert same(net, twin, Polytope.box(*SQUARE))
        zero, one = bounds(net, *SQUARE, "deeppoly0"), bounds(net, *SQUARE, "deeppoly1")
        assert bounds(twin, *SQUARE, "deeppoly1") == zero
        assert bounds(twin, *SQUARE, "deeppoly0") == one
        assert zero != one


def test_an_affine_network_is_its_own_form() -> None:
    net = mlp([([[1, -2]], [3])])
    for form in (lower_exact(net, *SQUARE), upper_exact(net, *SQUARE)):
        assert not form.layers
        assert form.weight.tolist() == [[1, -2]] and form.bias.tolist() == [3]
    assert copied_inputs(net, *SQUARE).weight.tolist() == [[1, -2]]


def test_what_cannot_be_rewritten_is_named() -> None:
    with pytest.raises(Unsupported, match="network has 2"):
        lower_exact(random_net(Random(0), 2, 3, 2), *SQUARE)
    with pytest.raises(BadInput, match="3 coordinates"):
        upper_exact(nested_max(2), [0] * 3, [1] * 3)
    with pytest.raises(BadInput, match="lower and the upper ends"):
        copied_inputs(nested_max(2), [0, 0])
