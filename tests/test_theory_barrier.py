"""Barriers: what P_1 and P_r say of networks that do nothing, and points that no input yields."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from math import floor
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hullmark as hm
from hullmark.errors import BadInput, Unsupported
from hullmark.network.onnx import load_onnx
from hullmark.theory.barrier import SmoothBarrier, barrier, l_shape, smooth_barrier
from hullmark.theory.files import write
from hullmark.theory.net import mlp
from hullmark.theory.phantom import Activation, Chain, chain, enclose, phantom_point
from hullmark.theory.polytope import Polytope
from hullmark.theory.regions import exact_range, output_set
from hullmark.theory.relaxations import bounds

MP = mpmath.MPContext()
MP.prec = 800
# Far above what mpmath's rounding at 800 bits does to numbers up to 10^40.
MP_SLACK = Fraction(1, 10**150)
HALF = Fraction(1, 2)
GAPS = [1, 100, 10**6]
SMOOTH: list[Activation] = ["tanh", "sigmoid"]
EPSILONS = [10, Fraction(1, 1000), Fraction(1, 10**12)]


@pytest.mark.parametrize("T", [*GAPS, Fraction(1, 3), 0.1])
def test_fact_5_theorem_3_3_p1_is_off_by_exactly_t(T: Any) -> None:
    made = barrier(T)
    assert exact_range(made.net, made.lower, made.upper) == [made.range] == [(0, 0)]
    assert bounds(made.net, made.lower, made.upper, "p1") == [(-Fraction(T), 0)]
    assert made.bound == -Fraction(T)
    assert made.layers == 3
    assert made.range[0] > made.threshold > made.bound


@pytest.mark.parametrize("layers", range(3, 13))
def test_fact_6_theorem_4_2_every_window_that_does_not_span_both(layers: int) -> None:
    for window in range(1, layers - 1):
        made = barrier(100, window, layers)
        assert (made.layers, made.window) == (layers, window)
        found = bounds(made.net, made.lower, made.upper, "pr", window=window)
        assert found == [(made.bound, 0)] == [(-100, 0)]
    for window in (layers - 1, layers):
        assert bounds(made.net, made.lower, made.upper, "pr", window=window) == [(0, 0)]
    assert exact_range(made.net, made.lower, made.upper) == [(0, 0)]


@pytest.mark.parametrize("T", GAPS)
@pytest.mark.parametrize("share", [Fraction(1, 2), Fraction(3, 4), Fraction(9, 10)])
def test_theorem_4_2_no_share_of_the_layers_is_enough(share: Fraction, T: int) -> None:
    layers = next(n for n in range(3, 50) if floor(share * n) <= n - 2)
    made = barrier(T, max(1, floor(share * layers)), layers)
    found = bounds(made.net, made.lower, made.upper, "pr", window=made.window)
    assert found == [(-T, 0)]


@pytest.mark.parametrize("layers", [3, 4, 7, 12, 30])
def test_theorem_4_2_by_a_point_that_every_window_allows(layers: int) -> None:
    # By hand, without linear programs: halfway between the values at -1 and at 1 up to the last
    # layer of ReLUs, which is then computed.
    made = barrier(100, layers - 2)
    real = made.net.states(np.array([[Fraction(-1)], [Fraction(1)]]))
    assert made.layers == layers
    halfway = [state.sum(axis=0) * HALF for state in real]
    states = [*halfway[:-1], made.net.layers[-1].apply(halfway[-2][None])[0]]
    for start in range(layers - made.window):
        window = states[start : start + made.window + 1]
        combines = all(np.array_equal(a, b) for a, b in zip(window, halfway[start:], strict=False))
        real_from_here = all(
            np.array_equal(made.net.layers[start + i].apply(a[None])[0], b)
            for i, (a, b) in enumerate(pairwise(window))
        )
        assert combines or real_from_here
    assert made.net.weight @ states[-1] + made.net.bias == [made.bound]


def test_lemma_3_2_the_phantom_point_of_the_barrier() -> None:
    for T in GAPS:
        phantom = barrier(T).phantom
        assert phantom.check()
        assert phantom.most == -T
        assert phantom.values == ((HALF, HALF), (HALF, HALF))


@given(st.integers(0, 10**6))
@settings(max_examples=25)
def test_lemma_3_2_p1_is_never_above_a_phantom_point(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = [2, 3, 2, 1]
    layers = [(rng.integers(-3, 4, (m, n)), rng.integers(-2, 3, m)) for n, m in pairwise(sizes)]
    inputs = rng.integers(-4, 5, (3, 2)).astype(object) * Fraction(1, 4)
    shares = [Fraction(int(n)) for n in rng.integers(1, 5, 3)]
    weights = [w / sum(shares) for w in shares]
    [(low, _)] = bounds(mlp(layers), [-1, -1], [1, 1], "p1")
    for depth in (1, 2):
        box = [-1, -1], [1, 1]
        phantom = phantom_point(chain(layers, "relu"), box, inputs, weights, depth=depth)
        assert phantom.check()
        assert low <= phantom.most
        assert not replace(phantom, most=phantom.most - Fraction(1, 1000)).check()


def test_section_6_item_1_one_layer_maps_a_segment_to_an_l() -> None:
    net = l_shape()
    parts = output_set(net, [-1], [1])
    hull = Polytope.hull(np.concatenate([part.vertices for part in parts]))
    middle = [HALF, HALF]
    assert hull.dimension == 2
    assert hull.contains(middle)
    assert not any(part.contains(middle) for part in parts)
    assert sorted(map(tuple, hull.vertices.tolist())) == [(0, 0), (0, 1), (1, 0)]
    assert len(barrier(1).net.layers[0].bias) == 2


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("T", [*GAPS, Fraction(1, 10**6), 1e30])
def test_theorem_3_3_for_smooth_activations(T: Any, epsilon: Any, activation: Any) -> None:
    made = smooth_barrier(T, activation, epsilon)
    assert made.check()
    low, high = made.range
    assert -epsilon <= low <= 0 <= high <= epsilon
    assert high - low <= epsilon
    assert made.phantom.most <= low - Fraction(T)
    assert low > made.threshold > made.phantom.most
    for index, (weight, bias) in enumerate(made.chain.layers):
        numbers = [*weight.ravel().tolist(), *bias.tolist()]
        assert all(Fraction(float(v)) == v for v in numbers), index


def reference(net: Chain, state: Any, first: int = 0) -> Fraction:
    """The output by mpmath, from what layer `first` reads."""
    values = [MP.mpf(v.numerator) / v.denominator if isinstance(v, Fraction) else v for v in state]
    for index in range(first, len(net.layers)):
        weight, bias = net.layers[index]
        z = [
            MP.fsum(
                MP.mpf(w.numerator) / w.denominator * v for w, v in zip(row, values, strict=True)
            )
            + MP.mpf(b.numerator) / b.denominator
            for row, b in zip(weight.tolist(), bias.tolist(), strict=True)
        ]
        values = z if index == len(net.layers) - 1 else [curve(net.activation, v) for v in z]
    return rational(values[0])


def curve(activation: str, z: mpmath.mpf) -> mpmath.mpf:
    return MP.tanh(z) if activation == "tanh" else 1 / (1 + MP.exp(-z))


def rational(x: mpmath.mpf) -> Fraction:
    mantissa, exponent = x.man_exp
    size = Fraction(int(mantissa)) * Fraction(2) ** int(exponent)
    return -size if x < 0 else size


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize(("T", "epsilon"), [(1, HALF), (100, EPSILONS[1]), (10**6, EPSILONS[2])])
def test_smooth_barriers_against_mpmath(T: int, epsilon: Fraction, activation: Any) -> None:
    made = smooth_barrier(T, activation, epsilon)
    low, high = made.range
    for i in range(-40, 41):
        x = Fraction(i, 40)
        value = reference(made.chain, [x])
        assert low - MP_SLACK <= value <= high + MP_SLACK
        [(least, most)] = made.chain.enclose([x])
        assert least - MP_SLACK <= value <= most + MP_SLACK
        assert most - least < Fraction(T, 10**30)
        # tanh(p + q) < tanh(p) + tanh(q) for positive p and q.
        assert value < 0
    weight, bias = made.chain.layers[0]
    behind = [
        sum(curve(activation, MP.mpf(int(2 * (w * x + b))) / 2) for x in (-1, 1)) / 2
        for w, b in zip(weight[:, 0], bias, strict=True)
    ]
    value = reference(made.chain, behind, 1)
    assert value <= made.phantom.most + MP_SLACK
    assert made.phantom.most - value < Fraction(T, 10**15)


def test_both_smooth_activations_make_the_same_function() -> None:
    tanh, sigmoid = (smooth_barrier(3, activation, HALF) for activation in SMOOTH)
    for i in range(-10, 11):
        x = [Fraction(i, 10)]
        (a, b), (c, d) = tanh.chain.enclose(x)[0], sigmoid.chain.enclose(x)[0]
        assert max(a, c) <= min(b, d)
        assert max(b - a, d - c) < Fraction(1, 10**30)


def altered(made: SmoothBarrier, layer: int, row: int, column: int) -> Chain:
    layers = [(weight.copy(), bias.copy()) for weight, bias in made.chain.layers]
    layers[layer][0][row, column] += Fraction(1, 10**6)
    return chain(layers, made.chain.activation)


@pytest.mark.parametrize("activation", SMOOTH)
def test_certificates_that_were_tampered_with_are_caught(activation: Any) -> None:
    made = smooth_barrier(2, activation, Fraction(1, 10))
    point = made.phantom
    assert made.check()
    low, high = made.range
    assert not replace(made, range=(low / 2, high)).check()
    assert not replace(made, range=(low, high / 2)).check()
    assert not replace(made, range=(low - 1, high)).check()
    assert not replace(made, gap=made.gap * 3).check()
    assert not replace(made, epsilon=high).check()
    shifted = tuple((a + 1, b + 1) for a, b in point.values)
    points = [
        replace(point, most=point.most - Fraction(1, 1000)),
        replace(point, values=shifted),
        replace(point, values=point.values[:1]),
        replace(point, values=tuple((a, a) for a, _ in point.values)),
        replace(point, inputs=((Fraction(-2),), (Fraction(2),))),
        replace(point, inputs=((Fraction(0),), (Fraction(0),))),
        replace(point, inputs=((Fraction(0),),)),
        replace(point, inputs=(), weights=()),
        replace(point, weights=(Fraction(2), Fraction(-1))),
        replace(point, weights=(HALF, Fraction(1, 3))),
        replace(point, depth=0),
        replace(point, depth=3),
        replace(point, depth=2),
        replace(point, lower=(Fraction(-1, 2),)),
        replace(point, lower=()),
        replace(point, upper=(Fraction(2),)),
    ]
    for layer, row, column in [(0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1), (2, 0, 0), (2, 0, 2)]:
        points.append(replace(point, net=altered(made, layer, row, column)))
    for tampered in points:
        assert not replace(made, phantom=tampered).check(), tampered
    other: Activation = "tanh" if activation == "sigmoid" else "sigmoid"
    assert not replace(made, phantom=replace(point, net=chain(made.chain.layers, other))).check()


@given(st.fractions(-60, 60, max_denominator=10**6), st.fractions(0, 5), st.sampled_from(SMOOTH))
def test_enclosures_contain_and_are_narrow(x: Fraction, width: Fraction, name: Activation) -> None:
    low, high = enclose(name, (x, x + width), 128)
    for inside in (x, x + width / 2, x + width):
        value = rational(curve(name, MP.mpf(inside.numerator) / inside.denominator))
        assert low - MP_SLACK <= value <= high + MP_SLACK
    least, most = enclose(name, (x, x), 128)
    assert most - least < Fraction(1, 2**120)
    assert enclose(name, (x, Fraction(10) ** 40), 53)[1] >= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "T is 0, not positive"),
        ((-1,), "T is -1, not positive"),
        ((float("inf"),), "T is inf, not a finite number"),
        ((float("nan"),), "T is nan"),
        (("1",), "not a number"),
        ((1, 0), "window is 0"),
        ((1, 1.5), "window is 1.5"),
        ((1, 1, 2), "window is 1, layers 2: a barrier needs window <= layers - 2"),
        ((1, 4, 5), "r = layers - 1 is exact"),
        ((1, 1, -3), "layers is -3"),
    ],
)
def test_barriers_that_cannot_be(arguments: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        barrier(*arguments)


def test_smooth_barriers_and_phantom_points_that_cannot_be() -> None:
    relu: Any = "relu"
    for arguments in [(0,), (1, relu), (1, "tanh", 0), (float("inf"),), (1, "tanh", float("nan"))]:
        with pytest.raises(BadInput):
            smooth_barrier(*arguments)
    net, box = barrier(1).chain, ([-1], [1])
    for inputs, weights, depth, message in [
        ([[-2], [1]], [HALF, HALF], 1, r"\('-2',\) is outside the box"),
        ([[-1], [1]], [HALF, HALF], 3, "depth is 3"),
        ([[-1], [1]], [HALF], 1, "2 inputs need as many weights"),
        ([[-1], [1]], [2, -1], 1, "a weight is negative"),
        ([[-1, 0], [1, 0]], [HALF, HALF], 1, "has 1 inputs"),
    ]:
        with pytest.raises(BadInput, match=message):
            phantom_point(net, box, inputs, weights, depth=depth)
    with pytest.raises(BadInput, match="one output"):
        phantom_point(chain([([[1]], [0]), ([[1], [1]], [0, 0])], "tanh"), box, [[0]], [1])
    with pytest.raises(BadInput, match="layer 1"):
        chain([([[1]], [0]), ([[1, 1]], [0])], "tanh")
    with pytest.raises(BadInput, match="2 entries"):
        net.enclose([0, 0])


@pytest.mark.parametrize("T", GAPS)
@pytest.mark.parametrize(("window", "layers"), [(1, 3), (2, 6)])
def test_files_are_proved_by_splitting_and_not_by_relaxing(
    T: int, window: int, layers: int, tmp_path: Path
) -> None:
    made = barrier(T, window, layers)
    net, question = write(made, tmp_path / "made")
    assert isinstance(hm.verify(str(net), str(question), timeout=60), hm.Proved)
    for method in ("deeppoly", "triangle"):
        report = hm.bound(str(net), str(question), method=method)
        assert not report.proved
        assert report.lower[0] <= -T
    # Floats compute 0 everywhere, too.
    x = np.linspace(-1, 1, 201, dtype=np.float32)[:, None]
    model = load_onnx(net)
    assert model.dtype == np.float32
    assert not model.replay(x).any()
    assert not model.network.evaluate(x.astype(np.float64)).any()


@pytest.mark.parametrize("activation", SMOOTH)
def test_smooth_files_are_proved_by_splitting_and_not_by_relaxing(
    activation: Any, tmp_path: Path
) -> None:
    made = smooth_barrier(100, activation, Fraction(1, 1000))
    net, question = write(made, tmp_path, activation)
    assert (net.name, question.name) == (f"{activation}.onnx", f"{activation}.vnnlib")
    assert isinstance(hm.verify(str(net), str(question), timeout=60), hm.Proved)
    for method in ("deeppoly", "triangle"):
        report = hm.bound(str(net), str(question), method=method)
        assert not report.proved
        assert report.lower[0] <= made.phantom.most
    x = np.linspace(-1, 1, 201, dtype=np.float32)[:, None]
    # Single precision: some units in the last place of the output's summands, below 2048.
    assert abs(load_onnx(net).replay(x)).max() <= 1e-3 + 2048 * 2.0**-20


def test_files_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="2/3 is no float64"):
        write(barrier(Fraction(1, 3)), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be made"):
        write(barrier(1), tmp_path / "file")


def test_a_barrier_deeper_than_anybody_needs_is_refused() -> None:
    with pytest.raises(Unsupported, match="limit 1000"):
        barrier(1, 1, 10**9)
