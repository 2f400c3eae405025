"""Facts of the papers and reference values, exactly."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from exact_nets import DIFFERENCE, MAX_CHAIN, MAX_SKIP, Reference, references

from hullmark.relax import relu_hull
from hullmark.theory import Layer, Polytope, bounds, exact_range, mlp, regions, relax
from hullmark.theory.encodings import nested_max
from hullmark.theory.net import ExactNet

F = Fraction
# [kReLU Fig. 2] up to x7 and x8, and with the ReLUs behind them.
FIGURE_2 = mlp([([[1, 1], [1, -1]], [0, 0]), ([[1, 2], [0, 1]], [0, F(3, 2)])])
FIGURE_2_RELU = mlp(
    [
        ([[1, 1], [1, -1]], [0, 0]),
        ([[1, 2], [0, 1]], [0, F(3, 2)]),
        ([[1, 0], [0, 1]], [0, 0]),
    ]
)


@pytest.fixture(scope="module")
def known(data: Path) -> list[Reference]:
    return references(data)


@pytest.mark.parametrize("relaxation", ["ibp", "triangle", "p1", "exact"])
def test_fact_7_reference_bounds_come_out_exactly(known: list[Reference], relaxation: str) -> None:
    assert len(known) == 56
    for each in known:
        found = bounds(each.net, each.lower, each.upper, relaxation)
        assert found == each.ranges[relaxation], each.name


def test_fact_7_reference_numbers_of_regions(known: list[Reference]) -> None:
    for each in known:
        assert len(regions(each.net, each.lower, each.upper)) == each.patterns, each.name


@pytest.mark.parametrize("net", [MAX_SKIP, MAX_CHAIN])
def test_fact_1_the_maximum_of_two(net: ExactNet) -> None:
    box = [0, 0], [1, 1]
    assert bounds(net, *box, "triangle") == [(0, F(3, 2))]
    for relaxation, options in (("mk", {"k": 1}), ("p1", {}), ("exact", {})):
        assert bounds(net, *box, relaxation, **options) == [(0, 1)]


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6])
def test_fact_1_the_nested_maximum(size: int) -> None:
    box = [0] * size, [1] * size
    upper = [F(3, 2), F(19, 10), F(651, 290), F(696691, 272890)]
    for net in (nested_max(size), nested_max(size, *box)):
        assert bounds(net, *box, "p1") == [(0, 1)]
        assert bounds(net, *box, "mk", k=1) == [(0, 1)]
        if size < 6:
            assert bounds(net, *box, "triangle") == [(0, upper[size - 2])]
    assert bounds(nested_max(size, *box), *box, "mko", k=2) == [(0, 1)]


def test_fact_2_and_section_6_item_2_the_difference_of_two_equal_relus() -> None:
    """The interval bounds are ±1; those of the triangle's linear program are ±1/2."""
    assert bounds(DIFFERENCE, [-1], [1], "ibp") == [(-1, 1)]
    assert bounds(DIFFERENCE, [-1], [1], "triangle") == [(F(-1, 2), F(1, 2))]
    for relaxation in ("mk", "mko", "krelu"):
        assert bounds(DIFFERENCE, [-1], [1], relaxation, k=2) == [(0, 0)]


def test_fact_3_the_diamond() -> None:
    hull = relu_hull([[1, 1], [1, -1], [-1, 1], [-1, -1]], [2, 2, 2, 2])
    expected = {
        (0, 0, -1, 0, 0),
        (1, 0, -1, 0, 0),
        (0, 0, 0, -1, 0),
        (0, 1, 0, -1, 0),
        (-1, -1, 2, 2, 2),
    }
    found = np.column_stack([hull.rows, hull.rhs])
    assert {tuple(row) for row in found.tolist()} == expected


def test_fact_4_and_section_6_item_3_figure_2() -> None:
    """`x9 <= 4`: DeepPoly does not prove it, pairs do by `2x5 + 2x6 - x3 - x4 <= 2`."""
    box = [-1, -1], [1, 1]
    assert bounds(FIGURE_2, *box, "deeppoly0") == [(0, 5), (F(3, 2), F(7, 2))]
    assert bounds(FIGURE_2, *box, "deeppoly") == [(0, 5), (F(3, 2), F(7, 2))]
    assert bounds(FIGURE_2, *box, "krelu", k=2)[0] == (0, 4)
    assert bounds(FIGURE_2_RELU, *box, "deeppoly")[0][1] == 5
    assert bounds(FIGURE_2_RELU, *box, "krelu", k=2)[0][1] == 4
    # The printed claim `x9 <= 2` is false.
    assert exact_range(FIGURE_2_RELU, *box)[0][1] == 4


def test_section_6_item_5_more_neurons_need_not_help() -> None:
    """Where neurons are independent, their joint hull is no smaller than their triangles."""
    net = mlp([([[1, 0], [0, 1]], [0, 0]), ([[1, 1]], [0])])
    box = [-1, -1], [1, 1]
    assert bounds(net, *box, "krelu", k=2) == bounds(net, *box, "triangle")
    one, two = (relax(net, *box, "krelu", k=k).project("graph") for k in (1, 2))
    assert np.array_equal(one.vertices, two.vertices)


def test_m_k_keeps_all_that_a_layer_reads_not_only_pre_activations() -> None:
    """`theory`: over conv{(0,0), (1,0), (1/2,1)} the hull in (z, y) gives 5/4, in (x, y) 1."""
    triangle = Polytope.hull([[0, 0], [1, 0], [F(1, 2), 1]])
    net = ExactNet(
        2,
        (Layer(np.array([[F(1), F(0)]]), np.array([F(-1, 2)]), keep=(1,)),),
        np.array([[F(1), F(1)]]),
        np.array([F(0)]),
    )
    assert bounds(net, triangle, None, "mk", k=1)[0][1] == 1
    assert bounds(net, triangle, None, "triangle")[0][1] == F(5, 4)
