"""Mined bounds of P_1 and M_k: equal to the exact ones, proved at any moment, whoever lies."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from exact_nets import random_net, references
from hypothesis import given, settings
from hypothesis import strategies as st

from hullmark.errors import BadInput, Unsupported
from hullmark.theory import ExactNet, Layer, Polytope, bounds, exact_range, mlp
from hullmark.theory import mine_node as node_programs
from hullmark.theory import mine_vertices as vertices
from hullmark.theory.hulls import layer_points, layerwise_points
from hullmark.theory.mining import Mined, mine
from hullmark.verdict import Deadline

F = Fraction
ALWAYS = Deadline(0.0, None)
MAX_SKIP = ExactNet(
    2,
    (Layer(np.array([[F(1), F(-1)]]), np.array([F(0)]), keep=(1,)),),
    np.array([[F(1), F(1)]]),
    np.array([F(0)]),
)


def barrier(T) -> ExactNet:
    """`-2T min(relu(x), relu(-x))`, the minimum as `a - relu(a - b)`; 0 everywhere."""
    return mlp([([[1], [-1]], [0, 0]), ([[1, 0], [1, -1]], [0, 0]), ([[-2 * T, 2 * T]], [0])])


def gaussian(*sizes: int, seed: int, bias: float = 0.3) -> ExactNet:
    rng = np.random.default_rng(seed)
    return mlp(
        [
            (rng.normal(size=(m, n)) / np.sqrt(n), bias * rng.normal(size=m))
            for n, m in pairwise(sizes)
        ]
    )


def skipping(seed: int) -> ExactNet:
    """A random network of up to three layers, some values of which skip some layers."""
    rng = np.random.default_rng(seed)

    def numbers(*shape: int) -> np.ndarray:
        return np.vectorize(lambda v: F(int(v), 4), otypes=[object])(rng.integers(-6, 7, shape))

    inputs = width = int(rng.integers(1, 4))
    layers: list[Layer] = []
    for _ in range(int(rng.integers(1, 4))):
        keep = tuple(sorted(rng.permutation(width)[: rng.integers(0, 3)].tolist()))
        size = int(rng.integers(1, 4))
        layers.append(Layer(numbers(size, width), numbers(size), keep))
        width = len(keep) + size
    return ExactNet(inputs, tuple(layers), numbers(1, width), numbers(1))


def both(net: ExactNet, *where, **options) -> tuple[Mined, Mined]:
    return mine(net, *where, **options), mine(net, *where, side="upper", **options)


def assert_proved(found: tuple[Mined, Mined], true: tuple[Fraction, Fraction]) -> None:
    """The relaxation's bounds lie between what is proved and what is possible."""
    assert found[0].bound <= true[0] <= found[0].limit
    assert found[1].bound >= true[1] >= found[1].limit


def assert_exact(found: tuple[Mined, Mined], true: tuple[Fraction, Fraction]) -> None:
    assert (found[0].bound, found[1].bound) == true == (found[0].limit, found[1].limit)


def test_golden_networks_get_the_exact_bounds_of_p1(data: Path) -> None:
    for known in references(data):
        for output, true in enumerate(known.ranges["p1"]):
            found = both(known.net, known.lower, known.upper, output=output)
            assert_exact(found, true)
            for mined, end, real in zip(found, true, known.ranges["exact"][output], strict=True):
                assert mined.certificate == ("attained" if end == real else "closed")
                assert known.net.evaluate(mined.witness[None])[0, output] == mined.value
                assert mined.certificate == "closed" or mined.value == end


@pytest.mark.parametrize("k", [1, 2, 3])
def test_golden_networks_get_the_exact_bounds_of_mk(data: Path, k: int) -> None:
    for known in references(data)[k::4]:
        true = bounds(known.net, known.lower, known.upper, "mk", k=k)
        for output, ends in enumerate(true):
            found = both(known.net, known.lower, known.upper, relaxation="mk", k=k, output=output)
            assert_exact(found, ends)


@pytest.mark.parametrize("relaxation", [{}, {"relaxation": "mk", "k": 1}], ids=["p1", "m1"])
def test_fact_1_the_maximum_is_closed_by_real_inputs(relaxation) -> None:
    found = both(MAX_SKIP, [0, 0], [1, 1], **relaxation)
    assert_exact(found, (F(0), F(1)))
    assert [mined.certificate for mined in found] == ["attained"] * 2
    assert max(found[1].witness) == 1


def test_fact_2_two_neurons_together_see_that_they_are_equal() -> None:
    net = mlp([([[1], [1]], [0, 0]), ([[1, -1]], [0])])
    assert_exact(both(net, [-1], [1], relaxation="mk", k=2), (F(0), F(0)))
    alone = both(net, [-1], [1], relaxation="mk", k=1)
    assert_exact(alone, bounds(net, [-1], [1], "mk", k=1)[0])
    assert alone[1].bound > 0


@pytest.mark.parametrize("T", [1, 100, 10**6, F(1, 3)])
def test_fact_5_the_barrier_closes_at_minus_t(T) -> None:
    low, high = both(barrier(T), [-1], [1])
    assert (low.bound, low.limit, low.value, low.certificate) == (-T, -T, 0, "closed")
    assert (high.bound, high.certificate) == (0, "attained")


@pytest.mark.parametrize("listed", [True, False], ids=["vertices", "search"])
@pytest.mark.parametrize("seed", range(6))
def test_skip_connections_any_polytope_and_any_group(seed, listed, monkeypatch) -> None:
    if not listed:
        # The first layer is then searched as all others are.
        monkeypatch.setattr(vertices, "MOST_MEETINGS", 0)
    net, rng = skipping(seed), np.random.default_rng(seed)
    corners = np.vectorize(F, otypes=[object])(rng.integers(-3, 4, (seed % 3 + 2, net.input_size)))
    whole = Polytope.hull(corners)
    assert_exact(both(net, whole), bounds(net, whole)[0])
    groups: list[list[list[int]]] = []
    for layer in net.layers:
        order = rng.permutation(layer.size).tolist()
        groups.append([order[: seed % 3 + 1]])
    true = bounds(net, whole, relaxation="mk", groups=groups)[0]
    assert_exact(both(net, whole, relaxation="mk", groups=groups), true)


@pytest.mark.parametrize("seed", range(4))
def test_section_6_item_1_mk_of_all_neurons_is_p1_on_chains(seed: int) -> None:
    net = random_net(2, 4, 4, 1, seed=seed)
    joint = both(net, [-1] * 2, [1] * 2, relaxation="mk", k=4)
    layerwise = both(net, [-1] * 2, [1] * 2)
    assert [m.bound for m in joint] == [m.bound for m in layerwise]


def test_every_cut_holds_at_all_vertices_of_what_the_last_layer_reads() -> None:
    box, mined = Polytope.box([-1] * 2, [1] * 2), 0
    for seed in range(12):
        net = random_net(2, 5, 4, 1, seed=seed)
        points = layerwise_points(net, box, {})
        for found in both(net, box):
            for normal, bound in found.cuts:
                assert min(points @ normal) >= bound
            mined += len(found.cuts)
    assert mined > 30


def test_a_network_without_relus_and_one_whose_output_is_constant() -> None:
    affine = mlp([([[1, -2]], [3])])
    assert_exact(both(affine, [0, 0], [1, 1]), (F(1), F(4)))
    assert_exact(both(affine, [0, 0], [1, 1], relaxation="mk", k=1), (F(1), F(4)))
    constant = mlp([([[1], [-1]], [0, 0]), ([[0, 0]], [7])])
    assert_exact(both(constant, [-1], [1]), (F(7), F(7)))


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.floats(1e-6, 0.3), st.booleans())
def test_bounds_are_proved_at_any_moment(seed: int, seconds: float, joint: bool) -> None:
    net = random_net(2, 5, 4, 1, seed=seed)
    options = {"relaxation": "mk", "k": 2} if joint else {}
    true = bounds(net, [-1] * 2, [1] * 2, **options)[0]
    found = both(net, [-1] * 2, [1] * 2, seconds=seconds, **options)
    assert_proved(found, true)
    for mined in found:
        if mined.certificate == "attained":
            assert mined.gap == 0
        elif mined.certificate == "closed":
            assert mined.gap <= F(1, 10**6) * max(1, abs(mined.limit))
        else:
            assert mined.seconds >= seconds


class Steps:
    """A deadline that is over after so many looks at it, on every machine alike."""

    def __init__(self, looks: int) -> None:
        self.started, self.timeout, self.left = 0.0, None, looks

    def elapsed(self) -> float:
        return 0.0

    def expired(self) -> bool:
        self.left -= 1
        return self.left < 0


def uneven(seed: int) -> ExactNet:
    """3-3-4-1 with weights of long numbers."""
    pick = Random(seed)

    def layer(reads: int, yields: int):
        rows = [[F(pick.uniform(-2, 2)) for _ in range(reads)] for _ in range(yields)]
        return rows, [F(pick.uniform(-2, 2)) / 4 for _ in range(yields)]

    return mlp([layer(3, 3), layer(3, 4), layer(4, 1)])


@pytest.mark.parametrize("looks", [0, 2, 5, 10, 40, 160])
def test_short_of_time_mk_chooses_no_group_that_it_cannot_prove(looks: int, monkeypatch) -> None:
    nets = [uneven(seed) for seed in (39, 40, 74, 79, 105)]
    true = [bounds(net, [-1] * 3, [1] * 3, "mk", k=1)[0] for net in nets]

    def steps(_: float, seconds: float | None) -> Any:
        return ALWAYS if seconds is None else Steps(looks)

    monkeypatch.setattr("hullmark.theory.mining.Deadline", steps)
    for net, ends in zip(nets, true, strict=True):
        found = both(net, [-1] * 3, [1] * 3, relaxation="mk", k=1, seconds=1)
        assert_proved(found, ends)
        for mined in found:
            assert mined.certificate != "closed" or mined.gap <= F(1, 10**6) * max(1, mined.limit)


def test_neurons_of_equal_area_that_are_no_mirror_images_are_not_told_apart() -> None:
    # Exchanging both inputs exchanges the neurons; ranges of long numbers are not exact.
    a, b, c = (F(v) for v in (1.1, -0.7, 0.3))
    turn = ([[a, b], [b, a]], [c, c])
    net = mlp([turn, turn, ([[1, F(-0.4)]], [0])])
    true = bounds(net, [-1] * 2, [1] * 2, "mk", k=1)[0]
    found = both(net, [-1] * 2, [1] * 2, relaxation="mk", k=1)
    assert_proved(found, true)
    assert all(mined.certificate != "closed" or mined.gap == 0 for mined in found)


@pytest.mark.parametrize("sign", [1, -1])
def test_neurons_that_are_equal_up_to_sign_rank_by_their_place(sign: int) -> None:
    net = gaussian(2, 3, 2, 1, seed=3)
    first, second = net.layers
    twins = Layer(
        np.concatenate([second.weight, sign * second.weight]),
        np.concatenate([second.bias, sign * second.bias]),
    )
    goal = np.concatenate([net.weight, -2 * net.weight], axis=1)
    net = ExactNet(2, (first, twins), goal, net.bias)
    true = bounds(net, [-1] * 2, [1] * 2, "mk", k=1)[0]
    found = both(net, [-1] * 2, [1] * 2, relaxation="mk", k=1)
    assert_proved(found, true)
    assert all(mined.certificate in ("closed", "attained") for mined in found)


@pytest.mark.parametrize("lie", ["nothing", "noise", "high"])
def test_solvers_that_lie_prove_nothing_false(lie: str, monkeypatch) -> None:
    rng = np.random.default_rng(0)
    honest = node_programs.Multipliers.solve

    def solve(self):
        found = honest(self)
        if lie == "nothing" or found is None:
            return None
        if lie == "high":
            return found._replace(value=found.value + 1)
        noise = [F(int(v), 8) for v in rng.integers(0, 9, len(found.multipliers))]
        return found._replace(multipliers=noise, weights=rng.random(len(found.weights)))

    monkeypatch.setattr(node_programs.Multipliers, "solve", solve)
    for seed in range(6):
        net = random_net(2, 4, 4, 1, seed=seed)
        true = bounds(net, [-1] * 2, [1] * 2)[0]
        found = both(net, [-1] * 2, [1] * 2, seconds=2)
        assert_proved(found, true)
        if lie == "nothing":
            assert_exact(found, true)


@pytest.mark.parametrize("seed", range(6))
def test_prices_of_a_listed_image_are_those_of_all_its_vertices(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = seed % 3 + 1
    net = random_net(size, 6, 1, seed=seed) if seed < 3 else gaussian(size, 6, 1, seed=seed)
    layer = net.layers[0]
    if seed % 2:
        layer = Layer(layer.weight, layer.bias, keep=(0,))
    whole = Polytope.hull(np.concatenate([np.eye(size, dtype=int), -np.eye(size, dtype=int)]))
    body = vertices.image_vertices(whole, layer, ALWAYS)
    assert body is not None
    points = layer_points(whole, layer)
    for _ in range(20):
        direction = np.array([F(int(v), 7) for v in rng.integers(-9, 10, layer.outputs)])
        true = min(points @ direction)
        assert body.least(direction, F(0)).bound == true
        rough = body.least(direction, F(1, 10**6)).bound
        assert true - F(1, 10**6) <= rough <= true
    for index in range(body.known):
        point = body.point(index)
        assert tuple(layer.apply(body.source(index)[None])[0]) == tuple(point)
        for value, near, error in zip(point, body.rows([index])[0], body._errors, strict=True):
            assert abs(value - F(float(near))) <= F(float(error))


def test_meetings_that_floats_cannot_tell_apart_are_solved_exactly() -> None:
    # Hyperplanes that are almost parallel, and three that meet in one point.
    tiny = F(1, 2**48)
    weight = [[1, 1], [1, 1 + tiny], [1, -1], [1, 0]]
    net = mlp([(weight, [0, 0, 0, 0]), ([[1, -2, 1, -1]], [0])])
    true = bounds(net, [-1] * 2, [1] * 2)[0]
    assert_exact(both(net, [-1] * 2, [1] * 2), true)


def test_bad_questions_are_refused() -> None:
    net = barrier(1)
    for options in (
        {"relaxation": "triangle"},
        {"side": "left"},
        {"output": 1},
        {"tolerance": -1},
        {"tolerance": float("nan")},
        {"seconds": 0},
        {"k": 2},
        {"relaxation": "mk"},
        {"relaxation": "mk", "k": 0},
        {"relaxation": "mk", "groups": [[[0, 1], [1]]]},
        {"relaxation": "mk", "groups": [[[7]]]},
    ):
        with pytest.raises(BadInput):
            mine(net, [-1], [1], **options)
    huge = mlp([([[F(10) ** 200], [1]], [0, 0]), ([[1, F(10) ** 200]], [0])])
    with pytest.raises(Unsupported, match="scale them"):
        mine(huge, [-1], [1])


def test_a_network_of_5_20_20_1_is_bounded_exactly() -> None:
    net = gaussian(5, 20, 20, 1, seed=0)
    mined = mine(net, [-1] * 5, [1] * 5, seconds=60)
    assert mined.certificate in ("closed", "attained")
    assert mined.gap <= F(1, 10**6)
    assert mined.bound <= mined.value
    points = np.array(
        [[F(int(v), 8) for v in row] for row in np.random.default_rng(1).integers(-8, 9, (200, 5))]
    )
    assert min(net.evaluate(points)[:, 0]) >= mined.bound


@pytest.mark.slow
@pytest.mark.parametrize("bias", [0.0, 0.3, 1.0])
def test_networks_of_5_20_20_1_are_closed_from_both_sides(bias: float) -> None:
    for seed in range(100, 104):
        net = gaussian(5, 20, 20, 1, seed=seed, bias=bias)
        low, high = both(net, [-1] * 5, [1] * 5)
        assert low.gap == high.gap == 0
        assert low.bound <= low.value <= high.value <= high.bound


@pytest.mark.slow
def test_m20_of_5_20_20_1_is_p1_and_smaller_groups_are_weaker() -> None:
    net = gaussian(5, 20, 20, 1, seed=0)
    found = [mine(net, [-1] * 5, [1] * 5, "mk", k=k) for k in (2, 10, 20)]
    assert all(mined.gap <= F(1, 10**6) * max(1, abs(mined.limit)) for mined in found)
    assert found[0].limit < found[1].bound < found[2].bound
    layerwise = mine(net, [-1] * 5, [1] * 5)
    assert found[2].bound <= layerwise.bound <= found[2].limit


@pytest.mark.slow
def test_three_hidden_layers_of_20_are_mined_layer_by_layer() -> None:
    net = gaussian(5, 20, 20, 20, 1, seed=0)
    mined = mine(net, [-1] * 5, [1] * 5)
    assert mined.gap <= F(1, 10**6)
    assert mined.bound <= mined.value


def test_p1_of_one_hidden_layer_is_exact() -> None:
    net = gaussian(2, 6, 1, seed=4)
    found = both(net, [-1] * 2, [1] * 2)
    assert_exact(found, exact_range(net, [-1] * 2, [1] * 2)[0])
    assert [mined.certificate for mined in found] == ["attained"] * 2
