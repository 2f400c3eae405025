"""Relaxations of small networks: inclusions, projections, signs, groups, windows, refusals."""

from fractions import Fraction
from importlib import import_module

import numpy as np
import pytest
from exact_nets import DIFFERENCE, MAX_CHAIN, MAX_SKIP, random_net, random_points
from hypothesis import given, settings
from hypothesis import strategies as st

from hullmark.errors import BadInput, Unsupported, VacuousProperty
from hullmark.theory import Layer, Polytope, bounds, exact_range, mlp, regions, relax
from hullmark.theory import formulation as formulations
from hullmark.theory.hulls import layer_points
from hullmark.theory.net import ExactNet

F = Fraction
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


def admitted(net: ExactNet, x: list[Fraction], signs: dict[tuple[int, int], int]) -> bool:
    states = net.states(np.array([x], dtype=object))
    return all(net.layers[d].before(states[d])[0, j] * sign >= 0 for (d, j), sign in signs.items())


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("name", ["triangle", "multivariate", "deeppoly", "p1", "krelu", "mk"])
def test_signs_of_all_layers_bound_the_inputs_that_have_them(seed: int, name: str) -> None:
    net = random_net(2, 3, 2, 2, 1, seed=seed)
    box = [F(-1)] * 2, [F(1)] * 2
    options = {"k": 2} if name in ("krelu", "mk") else {}
    signs = {(0, 0): 1, (1, 1): -1, (2, 0): 1}
    real = [x for x in random_points(box, 120, seed) if admitted(net, x, signs)]
    try:
        found = relax(net, *box, name, signs=signs, **options)
    except VacuousProperty:
        assert not real
        return
    ((low, high),) = found.bounds
    plain = bounds(net, *box, name, **options)[0] if name == "p1" else (low, high)
    assert plain[0] <= low and high <= plain[1]
    graph = found.project("graph")
    assert graph.range([0, 0, 1]) == (low, high)
    for x, (y,) in zip(real, net.evaluate(real) if real else [], strict=True):
        assert low <= y <= high and graph.contains([*x, y])
    for pair, ends in zip(found.attained, found.bounds, strict=True):
        for x, end in zip(pair, ends, strict=True):
            if x is not None:
                assert admitted(net, x, signs) and net.evaluate([x])[0, 0] == end


def test_signs_are_about_the_inputs_that_have_them() -> None:
    lines = mlp([([[1], [-1]], [0, 0]), ([[1, 1]], [0])])
    right = relax(lines, [-1], [1], "p1", signs={(0, 0): 1})
    assert right.bounds == [(0, 1)] and not right.project("graph").contains([-1, 1])
    net = mlp([([[1], [0]], [-1, 0]), ([[-3, 3]], [0])])
    low, high = relax(net, [-1], [1], "p1", signs={(0, 0): 1}).attained[0]
    assert low is not None and high is not None and low[0] == high[0] == 1


def test_m_k_is_about_one_group_of_a_layer() -> None:
    for name in ("mk", "mko"):
        with pytest.raises(BadInput, match="one group of a layer"):
            bounds(DIFFERENCE, [-1], [1], name, groups=[[[0], [1]]])
        assert bounds(DIFFERENCE, [-1], [1], name, groups=[[[0, 1]]]) == [(0, 0)]
    # With the other neuron in its triangle.
    assert bounds(DIFFERENCE, [-1], [1], "mk", groups=[[[1]]]) == [(F(-1, 2), F(1, 2))]


@pytest.mark.parametrize("seed", range(6))
def test_m_k_on_all_neurons_of_a_chain_allows_the_graph_of_p1(seed: int) -> None:
    """Not less either: values two layers back are tied by what lies between alone."""
    net = random_net(2, 2, 1, 1, seed=seed)
    mk, p1 = (relax(net, [-1, -1], [1, 1], *o[:1], **o[1]) for o in (("mk", {"k": 2}), ("p1", {})))
    assert np.array_equal(mk.project("graph").vertices, p1.project("graph").vertices)


def test_groups_are_those_given_and_larger_ones_are_tighter() -> None:
    net = random_net(2, 4, 1, seed=3)
    box = [-1, -1], [1, 1]
    one, two, three = (bounds(net, *box, "krelu", k=k)[0] for k in (1, 2, 3))
    assert one == bounds(net, *box, "triangle")[0]
    assert one[1] - one[0] > two[1] - two[0] > three[1] - three[0]
    given = {
        pair: bounds(net, *box, "krelu", groups=[[pair]])[0] for pair in ((0, 1), (1, 2), (2, 3))
    }
    assert len(set(given.values())) > 1
    # Four neurons by all their triples [kReLU eq. 7].
    four = bounds(net, *box, "krelu", k=4)[0]
    assert three[0] <= four[0] and four[1] <= three[1]


def test_each_relaxation_of_one_neuron() -> None:
    """The ReLU itself on [-1, 2], with and against its line."""
    net = mlp([([[1]], [0]), ([[1]], [0])])
    expected = {"ibp": (0, 2), "deepz": (F(-2, 3), 2), "deeppoly0": (0, 2), "deeppoly1": (-1, 2)}
    for name, ends in expected.items():
        assert bounds(net, [-1], [2], name)[0] == ends


def test_the_multivariate_hull_of_one_neuron_over_a_box() -> None:
    assert bounds(MAX_SKIP, [0, 0], [1, 1], "multivariate") == [(0, 1)]
    # Over a box, the hull of one neuron with what it reads is M_1's.
    for seed in range(8):
        net = random_net(3, 1, 1, seed=seed)
        skipping = ExactNet(
            3,
            (Layer(net.layers[0].weight, net.layers[0].bias, keep=(0, 1, 2)),),
            np.array([[F(1), F(-2), F(1), F(-1)], [F(-1), F(1), F(2), F(1)]], dtype=object),
            np.array([F(0), F(0)]),
        )
        box = [-1] * 3, [1] * 3
        assert bounds(skipping, *box, "multivariate") == bounds(skipping, *box, "mk", k=1)


@pytest.mark.parametrize("seed", range(6))
def test_windows_overlap_and_are_linked(seed: int) -> None:
    net = random_net(2, 2, 2, 2, 1, seed=seed)
    box = [-1, -1], [1, 1]
    one, two, three = (bounds(net, *box, "pr", window=r)[0] for r in (1, 2, 3))
    assert one == bounds(net, *box, "p1")[0] and three == exact_range(net, *box)[0]
    assert one[0] <= two[0] <= three[0] and three[1] <= two[1] <= one[1]


@pytest.mark.parametrize("seed", [10, 18, 26])
def test_linked_windows_say_more_than_the_last_one_alone(seed: int) -> None:
    net = random_net(1, 3, 3, 2, 1, seed=seed)
    ends = [bounds(net, [-1], [1], "pr", window=r)[0] for r in (1, 2, 3)]
    one, two, three = (high - low for low, high in ends)
    behind = ExactNet(3, net.layers[1:], net.weight, net.bias)
    hull = Polytope.hull(layer_points(Polytope.box([-1], [1]), net.layers[0]))
    low, high = exact_range(behind, hull)[0]
    assert one >= high - low > two >= three


def test_stable_neurons_do_not_count_in_predictions() -> None:
    rows = [[int(i == j) for i in range(8)] for j in range(3)]
    weight = rows + [[0] * 8] * 30
    bias = [0] * 3 + [1] * 30
    for order in (slice(None), slice(None, None, -1)):
        net = mlp([(weight[order], bias[order]), ([[1] * 33], [0])])
        assert len(regions(net, [-1] * 8, [1] * 8)) == 8


def test_a_long_enumeration_is_refused_soon() -> None:
    net = random_net(5, 40, 40, 1, seed=0)
    with pytest.raises(Unsupported, match=r"too large to be"):
        regions(net, [-1] * 5, [1] * 5)


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
        ({"relaxation": "mk", "k": 1.5}, "k is 1.5"),
        ({"relaxation": "krelu", "groups": [[0, 1]]}, "not tuples of neurons"),
        ({"relaxation": "krelu", "groups": [[[0]], [[0]]]}, "2 layers for 1"),
        ({"relaxation": "p1", "window": 1}, "needs a window"),
        ({"relaxation": "exact", "signs": {(0, 0): 1}}, "takes no signs"),
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


@pytest.mark.parametrize("seed", range(6))
def test_ibp_with_signs_clips_intervals(seed: int) -> None:
    net = random_net(2, 3, 2, 1, seed=seed)
    box = [F(-1)] * 2, [F(1)] * 2
    for signs in ({(0, 0): 1}, {(0, 0): -1, (1, 1): 1}):
        real = [x for x in random_points(box, 80, seed) if admitted(net, x, signs)]
        try:
            low, high = bounds(net, *box, "ibp", signs=signs)[0]
        except VacuousProperty:
            assert not real
            continue
        plain = bounds(net, *box, "ibp")[0]
        assert plain[0] <= low and high <= plain[1]
        assert all(low <= net.evaluate([x])[0, 0] <= high for x in real)


def test_polytopes_take_floats_as_they_are() -> None:
    square = Polytope.box([0, 0], [1, 1])
    assert square.range([0.5, 1], 0.25) == (F(1, 4), F(7, 4))
    half = square.cut([0.5, -0.5], 0)
    assert half is not None and half.contains([1, 0.5]) and not half.contains([0, 1])
    with pytest.raises(BadInput, match="normal"):
        square.cut(["a", 1], 0)
