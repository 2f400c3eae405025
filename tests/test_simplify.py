"""Simplified networks against exact rational arithmetic: the claimed roundoff must hold."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hullmark.errors import BadInput
from hullmark.network import coefficients
from hullmark.network.graph import Builder, Network
from hullmark.network.ops import (
    Add,
    Concat,
    Conv,
    ConvTranspose,
    Dense,
    Op,
    Rectifier,
    Reshape,
    Roundoff,
    Scale,
    Select,
)
from hullmark.network.simplify import simplify

Array = np.ndarray


def chain(shape: tuple[int, ...], *operations: Op) -> Network:
    builder = Builder(shape)
    at = 0
    for op in operations:
        at = builder.add(op, at)
    return builder.build(at)


def fractions(value: Array) -> Array:
    return np.vectorize(lambda v: Fraction(float(v)), otypes=[object])(value)


def truth(op: Op, rng: np.random.Generator) -> Op:
    """The operation with rational coefficients somewhere within its roundoff."""
    if isinstance(op, Dense | Conv | ConvTranspose | Scale):
        matrix, constant = ("factor", "shift") if isinstance(op, Scale) else ("weight", "bias")
        stored, offset = getattr(op, matrix), getattr(op, constant)
        relative = Fraction(op.roundoff.relative)
        error = fractions(np.broadcast_to(op.roundoff.bias, offset.shape))
        side, other = rng.integers(-1, 2, stored.shape), rng.integers(-1, 2, offset.shape)
        exact: Any = {
            matrix: fractions(stored) * (1 + relative * side),
            constant: fractions(offset) + error * other,
        }
        return replace(op, **exact)
    return op


def check_single(network: Network, rng: np.random.Generator) -> Op:
    """The network becomes one operation whose roundoff covers what the chain stands for."""
    small = simplify(network)
    assert len(small.nodes) == 2
    op = small.nodes[1].op
    assert isinstance(op, Dense | Conv | ConvTranspose | Scale)
    size = network.input_size
    points = fractions(
        np.concatenate([np.zeros((1, size)), np.eye(size), rng.normal(size=(1, size))])
    )
    true = points.reshape(-1, *network.input_shape)
    for node in network.nodes[1:]:
        true = truth(node.op, np.random.default_rng(rng.integers(2**32))).apply(true)
    nothing = replace(op, roundoff=Roundoff())
    stored = truth(nothing, rng).apply(points.reshape(-1, *network.input_shape))
    if isinstance(op, Scale):
        reach = replace(op, factor=np.abs(op.factor), shift=np.abs(op.shift * 0))
    else:
        reach = replace(op, weight=np.abs(op.weight), bias=op.bias * 0)
    reach = truth(replace(reach, roundoff=Roundoff()), rng).apply(
        np.abs(points).reshape(-1, *network.input_shape)
    )
    constant = op.shift if isinstance(op, Scale) else op.bias
    error = fractions(np.broadcast_to(op.roundoff.bias, constant.shape))
    if isinstance(op, Conv | ConvTranspose):
        error = error.reshape(-1, *(1,) * len(op.stride))
    allowed = reach * Fraction(op.roundoff.relative) + error
    assert (np.abs(true - stored) <= allowed).all()
    return op


class Maker:
    """Random operations with full double precision and some roundoff of their own."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def array(self, *shape: int) -> Array:
        return self.rng.normal(size=shape) * 10.0 ** self.rng.integers(-3, 4, size=shape)

    def roundoff(self, *shape: int) -> Roundoff:
        if self.rng.integers(2):
            return Roundoff()
        return Roundoff(2.0**-52, np.abs(self.array(*shape)) * 2.0**-50)

    def dense(self, m: int, n: int) -> Dense:
        return Dense(self.array(m, n), self.array(m), self.roundoff(m))

    def scale(self, *shape: int) -> Scale:
        return Scale(self.array(*shape), self.array(*shape), self.roundoff(*shape))

    def conv(self, out: int, into: int, groups: int = 1, padding: int = 0) -> Conv:
        weight = self.array(out, into // groups, 2, 2)
        frame = ((padding, 0), (0, padding))
        return Conv(weight, self.array(out), (1, 2), frame, (1, 1), groups, self.roundoff(out))

    def turned(self, into: int, out: int, groups: int) -> ConvTranspose:
        weight = self.array(into, out // groups, 2, 2)
        frame = ((0, 1), (0, 0))
        return ConvTranspose(
            weight, self.array(out), (2, 1), frame, (1, 1), (0, 0), groups, self.roundoff(out)
        )


SEEDS = st.integers(0, 10**6)


@settings(max_examples=40)
@given(SEEDS)
def test_scale_then_scale(seed: int) -> None:
    make = Maker(seed)
    check_single(chain((2, 3), make.scale(2, 3), make.scale(3), make.scale()), make.rng)


@settings(max_examples=40)
@given(SEEDS)
def test_dense_between_scales(seed: int) -> None:
    make = Maker(seed)
    check_single(chain((4,), make.scale(4), make.dense(3, 4), make.scale(3)), make.rng)


@settings(max_examples=40)
@given(SEEDS)
def test_scale_before_a_flatten(seed: int) -> None:
    make = Maker(seed)
    operations = (make.scale(2, 1), Reshape((6,)), make.dense(2, 6))
    small = simplify(chain((2, 3), *operations))
    assert [type(n.op) for n in small.nodes[1:]] == [Reshape, Dense]
    check_single(chain((6,), make.scale(6), make.dense(2, 6)), make.rng)


@pytest.mark.parametrize("groups", [1, 2])
@settings(max_examples=10)
@given(SEEDS)
def test_conv_between_scales(groups: int, seed: int) -> None:
    make = Maker(seed)
    operations = (make.scale(2, 1, 1), make.conv(4, 2, groups), make.scale(4, 1, 1))
    check_single(chain((2, 2, 3), *operations), make.rng)


@settings(max_examples=10)
@given(SEEDS)
def test_a_shift_does_not_pass_padding_but_a_factor_does(seed: int) -> None:
    make = Maker(seed)
    conv = make.conv(2, 2, padding=1)
    shifted = simplify(chain((2, 2, 3), make.scale(2, 1, 1), conv))
    assert [type(n.op) for n in shifted.nodes[1:]] == [Scale, Conv]
    factor = Scale(make.array(2, 1, 1), np.zeros(()))
    check_single(chain((2, 2, 3), factor, conv), make.rng)


@pytest.mark.parametrize("groups", [1, 2])
@settings(max_examples=10)
@given(SEEDS)
def test_scale_after_a_transposed_convolution(groups: int, seed: int) -> None:
    make = Maker(seed)
    operations = (make.turned(2, 4, groups), make.scale(4, 1, 1))
    check_single(chain((2, 2, 3), *operations), make.rng)


# With rare seeds products cancel, and the matrices rightly stay two.
@settings(max_examples=40, derandomize=True)
@given(SEEDS)
def test_two_matrices(seed: int) -> None:
    make = Maker(seed)
    check_single(chain((4,), make.dense(3, 4), make.dense(2, 3)), make.rng)


@settings(max_examples=40)
@given(SEEDS)
def test_a_permutation_goes_into_the_matrix(seed: int) -> None:
    make = Maker(seed)
    index = make.rng.permutation(np.append(np.arange(4), -1))
    check_single(chain((4,), Select(index), make.dense(3, 5)), make.rng)


def test_matrices_that_would_grow_stay() -> None:
    make = Maker(0)
    network = chain((50,), make.dense(2, 50), make.dense(60, 2))
    assert len(simplify(network).nodes) == 3


def test_cancelling_matrices_stay() -> None:
    """An entry that is all rounding error has no relative bound."""
    first = Dense(np.array([[0.1], [0.1]]), np.zeros(2))
    second = Dense(np.array([[1.0, -1.0]]), np.zeros(1))
    assert len(simplify(chain((1,), first, second)).nodes) == 3


def test_weights_of_single_precision_stay_exact() -> None:
    rng = np.random.default_rng(1)
    weight, bias = (rng.normal(size=s).astype(np.float32).astype(float) for s in ((3, 4), 3))
    operations = (
        Dense(weight, np.zeros(3)),
        Scale(np.ones(()), bias),
        Scale(np.array(-0.5), bias * 0),
    )
    small = simplify(chain((4,), *operations))
    op = small.nodes[1].op
    assert isinstance(op, Dense) and len(small.nodes) == 2
    assert op.roundoff.relative == 0 and not np.any(op.roundoff.bias)
    np.testing.assert_array_equal(op.weight, weight * -0.5)


def test_a_value_that_others_read_is_kept() -> None:
    make = Maker(3)
    builder = Builder((3,))
    shared = builder.add(make.dense(3, 3), 0)
    scaled = builder.add(make.scale(3), shared)
    network = builder.build(builder.add(Add((1, -1)), shared, scaled))
    small = simplify(network)
    x = make.array(5, 3)
    np.testing.assert_allclose(small.evaluate(x), network.evaluate(x), rtol=1e-12)
    assert [type(n.op) for n in small.nodes[1:]] == [Dense, Scale, Add]


def test_moves_are_composed_and_idle_ones_go() -> None:
    turn = np.arange(6).reshape(2, 3).T
    back = np.arange(6).reshape(3, 2).T
    network = chain(
        (2, 3), Select(turn), Reshape((3, 2)), Select(back), Rectifier(), Rectifier(), Reshape((6,))
    )
    assert [type(n.op) for n in simplify(network).nodes[1:]] == [Rectifier, Reshape]


@given(SEEDS)
def test_random_graphs_keep_their_function(seed: int) -> None:
    make = Maker(seed)
    builder = Builder((4,))
    nodes = [0]
    for _ in range(12):
        at = nodes[make.rng.integers(len(nodes))]
        kind = make.rng.integers(6)
        if kind == 0:
            nodes.append(builder.add(Dense(make.rng.normal(size=(4, 4)), np.ones(4)), at))
        elif kind == 1:
            nodes.append(builder.add(Scale(make.rng.normal(size=4), np.ones(())), at))
        elif kind == 2:
            nodes.append(builder.add(Select(make.rng.integers(-1, 4, 4)), at))
        elif kind == 3:
            nodes.append(builder.add(Rectifier(), at))
        elif kind == 4:
            shaped = builder.add(Reshape((2, 2)), at)
            nodes.append(builder.add(Reshape((4,)), shaped))
        else:
            other = nodes[make.rng.integers(len(nodes))]
            both = builder.add(Concat(0), at, other)
            nodes.append(builder.add(Select(make.rng.permutation(8)[:4]), both))
    network = builder.build(nodes[-1])
    small = simplify(network)
    x = make.rng.normal(size=(3, 4))
    np.testing.assert_allclose(small.evaluate(x), network.evaluate(x), rtol=1e-9, atol=1e-9)
    assert len(small.nodes) <= max(2, len(network.nodes))


@given(SEEDS, st.sampled_from([0.0, 1e-12, 1e-5, 1e-3]))
def test_batch_norm_coefficients(seed: int, epsilon: float) -> None:
    make = Maker(seed)
    scale, bias, mean = (make.array(4) for _ in range(3))
    variance = np.abs(make.array(4)) + 1e-9
    factor, shift, roundoff = coefficients.batch_norm(scale, bias, mean, variance, epsilon)
    relative = Fraction(roundoff.relative)
    errors = np.asarray(roundoff.bias)
    for i in range(4):
        s, b, m, f, t = (Fraction(float(v[i])) for v in (scale, bias, mean, factor, shift))
        square = s * s / (Fraction(float(variance[i])) + Fraction(epsilon))
        assert (f * (1 - relative)) ** 2 <= square <= (f * (1 + relative)) ** 2
        assert (f > 0) == (s > 0)
        # shift is off by `e` at most iff the true factor lies between two rationals, and the
        # square tells on which side of each it lies.
        e = Fraction(float(errors[i]))
        ends = sorted(((b - t - e) / m, (b - t + e) / m))
        assert _signed_square(ends[0]) <= _signed(square, s) <= _signed_square(ends[1])
        assert e <= abs(t) * Fraction(2) ** -52 + abs(m * f) * Fraction(2) ** -140


def _signed_square(value: Fraction) -> Fraction:
    return value * abs(value)


def _signed(square: Fraction, like: Fraction) -> Fraction:
    return square if like > 0 else -square


def test_batch_norm_without_a_root_is_refused() -> None:
    one = np.ones(1)
    with pytest.raises(BadInput, match="no square root"):
        coefficients.batch_norm(one, one, one, -one, 1e-5)


@given(st.lists(st.floats(1e-200, 1e200), min_size=1, max_size=4))
def test_reciprocals(values: list[float]) -> None:
    inverse, relative = coefficients.reciprocal(np.array(values))
    for value, stored in zip(values, inverse, strict=True):
        true = 1 / Fraction(value)
        assert abs(true - Fraction(float(stored))) <= Fraction(relative) * abs(
            Fraction(float(stored))
        )


def test_reciprocals_of_powers_of_two_are_exact() -> None:
    assert coefficients.reciprocal(np.array([2.0, -0.25, 1024.0]))[1] == 0
    with pytest.raises(BadInput, match="zero"):
        coefficients.reciprocal(np.array([1.0, 0.0]))


@given(SEEDS)
def test_sums_report_their_rounding(seed: int) -> None:
    make = Maker(seed)
    a, b = make.array(5), make.array(5)
    total, error = coefficients.plus(a, b)
    exact = np.abs(fractions(a) + fractions(b) - fractions(total))
    assert (exact == fractions(error)).all()


@given(SEEDS)
def test_products_report_their_rounding(seed: int) -> None:
    make = Maker(seed)
    a, b = make.array(5), make.array(5)
    made = coefficients.times(a, b)
    assert made is not None
    product, relative = made
    off = np.abs(fractions(a) * fractions(b) - fractions(product))
    assert (off <= Fraction(relative) * np.abs(fractions(product))).all()
    assert coefficients.times(np.array(1e-200), np.array(1e-200)) is None
