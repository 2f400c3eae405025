"""Relaxations of small networks, exactly: reference values, facts of the papers, inclusions."""

from fractions import Fraction
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from exact_nets import Reference, random_net, random_points, references
from hypothesis import given, settings
from hypothesis import strategies as st

from hullmark.errors import BadInput, Unsupported, VacuousProperty
from hullmark.relax import relu_hull
from hullmark.theory import Layer, Polytope, bounds, exact_range, mlp, regions, relax
from hullmark.theory import formulation as formulations
from hullmark.theory.encodings import nested_max
from hullmark.theory.net import ExactNet

F = Fraction
# x2 + relu(x1 - x2) with a layer that x2 skips, and as a chain on the unit box.
MAX_SKIP = ExactNet(
    2,
    (Layer(np.array([[F(1), F(-1)]]), np.array([F(0)]), keep=(1,)),),
    np.array([[F(1), F(1)]]),
    np.array([F(0)]),
)
MAX_CHAIN = mlp([([[1, -1], [0, 1]], [0, 0]), ([[1, 1]], [0])])
DIFFERENCE = mlp([([[1], [1]], [0, 0]), ([[1, -1]], [0])])
# [kReLU Fig. 2] up to x7 and x8, and with the ReLUs behind them.
FIGURE_2 = mlp([([[1, 1], [1, -1]], [0, 0]), ([[1, 2], [0, 1]], [0, F(3, 2)])])
FIGURE_2_RELU = mlp(
    [
        ([[1, 1], [1, -1]], [0, 0]),
        ([[1, 2], [0, 1]], [0, F(3, 2)]),
        ([[1, 0], [0, 1]], [0, 0]),
    ]
)
LADDER: list[tuple[str, dict[str, int]]] = [
    ("ibp", {}),
    ("deepz", {}),
    ("deeppoly0", {}),
    ("deeppoly1", {}),
    ("deeppoly", {}),
    ("triangle", {}),
    ("krelu", {"k": 2}),
    ("krelu", {"k": 3}),
    ("multivariate", {}),
    ("mk", {"k": 1}),
    ("mk", {"k": 2}),
    ("mko", {"k": 2}),
    ("p1", {}),
    ("pr", {"window": 1}),
    ("pr", {"window": 2}),
    ("exact", {}),
]


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


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_every_rung_contains_the_graph_and_stronger_ones_lie_inside(seed: int) -> None:
    net = random_net(2, 3, 3, 1, seed=seed)
    box = [F(-1)] * 2, [F(1)] * 2
    found = {(name, *o.values()): bounds(net, *box, name, **o)[0] for name, o in LADDER}
    exact = found["exact",]
    values = net.evaluate(random_points(box, 50, seed))[:, 0]
    assert exact[0] <= min(values) and max(values) <= exact[1]
    for low, high in found.values():
        assert low <= exact[0] and exact[1] <= high
    inside = [
        (("triangle",), ("deeppoly",)),
        (("triangle",), ("deepz",)),
        (("deeppoly0",), ("ibp",)),
        (("krelu", 2), ("triangle",)),
        (("multivariate",), ("triangle",)),
        (("mk", 1), ("triangle",)),
        (("p1",), ("mk", 2)),
        (("p1",), ("krelu", 3)),
        (("p1",), ("mko", 2)),
        (("pr", 2), ("p1",)),
    ]
    for inner, outer in inside:
        assert found[outer][0] <= found[inner][0] and found[inner][1] <= found[outer][1]
    assert found["pr", 1] == found["p1",] and found["pr", 2] == exact


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_lemma_8_m_k_on_all_unstable_neurons_of_a_chain_is_p1(seed: int) -> None:
    """[MN-v1, Lemmas 7 and 8], what is left of them."""
    net = random_net(2, 3, 3, 1, seed=seed)
    box = [F(-1)] * 2, [F(1)] * 2
    assert bounds(net, *box, "mk", k=3) == bounds(net, *box, "p1")


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_lemma_3_1_and_3_2_p1_is_the_network_behind_over_the_hull_before(seed: int) -> None:
    net = random_net(2, 3, 3, 1, seed=seed)
    box = [F(-1)] * 2, [F(1)] * 2
    first = mlp([(net.layers[0].weight, net.layers[0].bias), (np.eye(3, dtype=int), [0] * 3)])
    images = [np.maximum(first.evaluate(r.cell.vertices), F(0)) for r in regions(first, *box)]
    hull = Polytope.hull(np.concatenate(images))
    behind = ExactNet(3, net.layers[1:], net.weight, net.bias)
    assert exact_range(behind, hull) == bounds(net, *box, "p1")


@pytest.mark.parametrize(("name", "options"), LADDER)
def test_bounds_are_those_of_the_projection(name: str, options: dict[str, int]) -> None:
    net = random_net(2, 3, 2, seed=5)
    found = relax(net, [-1, -1], [1, 1], name, **options)
    outputs = found.project()
    for output, ends in enumerate(found.bounds):
        assert outputs.range(np.eye(2, dtype=int)[output]) == ends
    if name in ("ibp", "mko"):
        return
    graph = found.project("graph")
    assert graph.size == 4
    points = random_points(([F(-1)] * 2, [F(1)] * 2), 20, 1)
    rows, sides = graph.facets
    for x, y in zip(points, net.evaluate(points), strict=True):
        assert np.all(rows @ np.array([*x, *y], dtype=object) <= sides)


def test_attained_says_where() -> None:
    found = relax(MAX_CHAIN, [0, 0], [1, 1], "p1")
    ((low, high),) = found.attained
    assert found.exact and low is not None and high is not None
    assert MAX_CHAIN.evaluate([low, high])[:, 0].tolist() == [0, 1]
    loose = relax(MAX_CHAIN, [0, 0], [1, 1], "triangle")
    assert loose.attained[0][0] is not None and loose.attained[0][1] is None
    assert not loose.exact


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_fixed_signs_split_the_exact_set(seed: int) -> None:
    """The two halves of a split bound what the whole does, no less and no more tightly."""
    net = random_net(2, 3, 1, seed=seed)
    box = [F(-1)] * 2, [F(1)] * 2
    whole = exact_range(net, *box)[0]
    ends = []
    for sign in (1, -1):
        try:
            ends.append(bounds(net, *box, "p1", signs={(0, 1): sign})[0])
        except VacuousProperty:
            continue
    assert (min(low for low, _ in ends), max(high for _, high in ends)) == whole
    for name in ("triangle", "multivariate", "deeppoly"):
        for sign in (1, -1):
            try:
                low, high = bounds(net, *box, name, signs={(0, 1): sign})[0]
            except VacuousProperty:
                continue
            assert low <= high


def test_a_network_without_relus_is_exact_everywhere() -> None:
    net = mlp([([[1, -2]], [3])])
    for name, options in LADDER:
        assert bounds(net, [0, 0], [1, 1], name, **options) == [(1, 4)]


def test_an_input_polytope_is_taken_as_it_is() -> None:
    triangle = Polytope.hull([[0, 0], [1, 0], [0, 1]])
    assert bounds(MAX_CHAIN, triangle, None, "exact") == [(0, 1)]
    net = mlp([([[1, 1]], [F(-1, 2)]), ([[1]], [0])])
    assert bounds(net, triangle, None, "triangle") == [(0, F(1, 2))]
    point = Polytope.hull([[F(1, 3), F(1, 7)]])
    for name, options in LADDER:
        assert bounds(net, point, None, name, **options) == [(0, 0)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"relaxation": "simplex"}, "no relaxation 'simplex'"),
        ({"relaxation": "mk"}, "either k or groups"),
        ({"relaxation": "mk", "k": 0}, "k is 0"),
        ({"relaxation": "mk", "groups": [[[0, 0]]]}, "different neurons"),
        ({"relaxation": "krelu", "groups": [[[5]]]}, "different neurons"),
        ({"relaxation": "p1", "k": 1}, "takes no k"),
        ({"relaxation": "pr"}, "needs a window"),
        ({"relaxation": "pr", "window": 0}, "the window is 0"),
        ({"relaxation": "p1", "window": 1}, "needs a window"),
        ({"relaxation": "ibp", "signs": {(0, 0): 1}}, "takes no signs"),
        ({"relaxation": "p1", "signs": {(0, 9): 1}}, "no ReLU 9"),
        ({"relaxation": "p1", "signs": {(0, 0): 0}}, "not 1 or -1"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        relax(MAX_CHAIN, [0, 0], [1, 1], **options)  # type: ignore[arg-type]


def test_bad_sets_are_named() -> None:
    with pytest.raises(BadInput, match="3 coordinates"):
        bounds(MAX_CHAIN, [0, 0, 0], [1, 1, 1])
    with pytest.raises(VacuousProperty, match="coordinate 1 from 2 to 1"):
        bounds(MAX_CHAIN, [0, 2], [1, 1])
    with pytest.raises(BadInput, match="not a finite number"):
        bounds(MAX_CHAIN, [0, float("nan")], [1, 1])
    with pytest.raises(BadInput, match="unbounded"):
        Polytope.inequalities([[1, 0], [0, 1], [-1, 0]], [1, 1, 1])
    with pytest.raises(VacuousProperty, match="allows no point"):
        bounds(MAX_CHAIN, [1, 0], [2, F(1, 2)], "p1", signs={(0, 0): -1})


def test_what_is_too_large_says_how_large(monkeypatch: pytest.MonkeyPatch) -> None:
    net = random_net(2, 6, 6, 1, seed=0)
    # The module's name is also that of its function.
    monkeypatch.setattr(import_module("hullmark.theory.regions"), "MOST_REGIONS", 5)
    with pytest.raises(Unsupported, match=r"\d+ regions"):
        bounds(net, [-1, -1], [1, 1], "exact")
    monkeypatch.setattr(formulations, "MOST_ROWS", 100)
    with pytest.raises(Unsupported, match=r"would have \d+ rows"):
        bounds(net, [-1, -1], [1, 1], "mk", k=3)
