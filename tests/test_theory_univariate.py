"""Encodings in one variable: each is its function, and exact under a relaxation as promised."""

from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hullmark.errors import BadInput, Unsupported
from hullmark.theory.cpwl import Cpwl, hinges
from hullmark.theory.expressivity import (
    exact_encodings,
    exact_on,
    grid_intervals,
    random_function,
    random_interval,
    table1,
)
from hullmark.theory.net import ExactNet, mlp
from hullmark.theory.regions import regions
from hullmark.theory.relaxations import bounds
from hullmark.theory.univariate import (
    RELAXATIONS,
    convex_deeppoly0,
    convex_deeppoly1,
    convex_triangle,
    count_hinges,
    encode,
    monotone_deeppoly1,
    monotone_ibp,
    triangle_encodings,
    univariate_p1,
)

RAMP = Cpwl.through([(-2, 0), (-1, 0), (1, 2), (2, 2)])
"""Monotone, and neither convex nor concave."""
VALLEY = Cpwl.through([(-2, 4), (-1, 1), (0, 0), (1, 2), (2, 5)])
"""Convex; its minimiser is a knot."""
WAVE = Cpwl.through([(-2, 0), (-1, 2), (1, -1), (2, 3)])
"""None of these."""

seeds = st.integers(0, 10**6)


def drawn(kind, seed: int) -> Cpwl:
    random = Random(seed)
    return random_function(kind, random.randint(1, 5), random)


def some_intervals(f: Cpwl, seed: int, count: int = 4) -> list[tuple[Fraction, Fraction]]:
    random = Random(seed)
    return [random_interval(f, random) for _ in range(count)]


def is_the_function(net: ExactNet, f: Cpwl) -> bool:
    """Both are affine between these points, so that this is all of the domain."""
    cells = regions(net, [f.knots[0]], [f.knots[-1]])
    points = sorted({*f.knots, *(x for cell in cells for x in cell.cell.vertices[:, 0])})
    values = net.evaluate(np.array(points, dtype=object)[:, None])[:, 0]
    return values.tolist() == [f(x) for x in points]


def test_a_function_is_its_knots_and_slopes() -> None:
    f = Cpwl.through([(2, 3), (0, 1), (Fraction(1, 2), 0)])
    assert f == Cpwl.sloped([0, Fraction(1, 2), 2], 1, [-2, 2])
    assert f.domain == (0, 2) and f.kinks == ((Fraction(1, 2), 4),)
    assert (f(Fraction(1, 4)), f(1), f(2)) == (Fraction(1, 2), 1, 3)
    assert f.is_convex and not f.is_concave and not f.is_monotone
    assert (-f).is_concave and (-f)(1) == -1
    assert f.range(Fraction(1, 4), 1) == (0, 1) and f.range(1, 1) == (1, 1)


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_the_range_is_that_of_a_fine_grid_and_the_knots(seed: int) -> None:
    f = drawn("all", seed)
    for low, high in some_intervals(f, seed):
        grid = [low + (high - low) * Fraction(k, 7) for k in range(8)]
        values = [f(x) for x in [*grid, *(k for k in f.knots if low <= k <= high)]]
        assert f.range(low, high) == (min(values), max(values))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cpwl.through([(0, 1)]), "1 knots"),
        (lambda: Cpwl.through([(0, 1), (0, 2)]), "knot 1 is 0"),
        (lambda: Cpwl.through([(0, float("nan")), (1, 2)]), "y is nan"),
        (lambda: Cpwl.sloped([0, 1, 2], 0, [1]), "3 knots need 2 slopes"),
        (lambda: RAMP(3), "outside the domain"),
        (lambda: RAMP.range(1, 0), "nothing between 1 and 0"),
        (lambda: monotone_ibp(VALLEY), "not monotone"),
        (lambda: monotone_deeppoly1(VALLEY), "not monotone"),
        (lambda: convex_deeppoly0(WAVE), "not convex"),
        (lambda: convex_triangle(VALLEY, [True]), "4 hinges and 1 flags"),
        (lambda: encode(RAMP, "deepz"), "no encodings for 'deepz'"),
    ],
)
def test_what_cannot_be_used_is_named(make, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        make()


@given(seeds)
@settings(max_examples=15, deadline=None)
def test_fact_10_monotone_is_exact_under_ibp_deeppoly0_and_the_triangle(seed: int) -> None:
    f = drawn("monotone", seed)
    net = monotone_ibp(f)
    assert is_the_function(net, f)
    for relaxation in ("ibp", "deeppoly0", "triangle"):
        assert exact_on(net, f, relaxation, some_intervals(f, seed))


@given(seeds)
@settings(max_examples=15, deadline=None)
def test_fact_10_monotone_is_exact_under_deeppoly1(seed: int) -> None:
    f = drawn("monotone", seed)
    net = monotone_deeppoly1(f)
    assert is_the_function(net, f)
    assert exact_on(net, f, "deeppoly1", some_intervals(f, seed, 8))


def test_fact_10_the_ibp_encoding_does_not_serve_deeppoly1() -> None:
    assert exact_on(monotone_ibp(RAMP), RAMP, "ibp", grid_intervals(RAMP))
    assert not exact_on(monotone_ibp(RAMP), RAMP, "deeppoly1", grid_intervals(RAMP))
    assert exact_on(monotone_deeppoly1(RAMP), RAMP, "deeppoly1", grid_intervals(RAMP))
    assert exact_on(monotone_deeppoly1(-RAMP), -RAMP, "deeppoly1", grid_intervals(RAMP))


@given(seeds)
@settings(max_examples=15, deadline=None)
def test_fact_10_convex_is_exact_under_both_deeppolys(seed: int) -> None:
    f = drawn("convex", seed)
    for g in (f, -f):
        for make, relaxation in ((convex_deeppoly0, "deeppoly0"), (convex_deeppoly1, "deeppoly1")):
            assert is_the_function(make(g), g)
            assert exact_on(make(g), g, relaxation, some_intervals(f, seed))


@given(seeds)
@settings(max_examples=8, deadline=None)
def test_fact_10_convex_is_exact_under_the_triangle_in_every_mixture(seed: int) -> None:
    f = drawn("convex", seed)
    mixtures = list(triangle_encodings(f))
    assert len(mixtures) == 2 ** count_hinges(f) == 2 ** len(hinges(f))
    for _, net in mixtures:
        assert is_the_function(net, f)
    for _, net in Random(seed).sample(mixtures, min(4, len(mixtures))):
        assert exact_on(net, f, "triangle", some_intervals(f, seed))


def test_fact_10_the_other_orientation_does_not_serve() -> None:
    intervals = grid_intervals(VALLEY)
    assert exact_on(convex_deeppoly0(VALLEY), VALLEY, "deeppoly0", intervals)
    assert not exact_on(convex_deeppoly0(VALLEY), VALLEY, "deeppoly1", intervals)
    assert not exact_on(convex_deeppoly1(VALLEY), VALLEY, "deeppoly0", intervals)


def test_fact_10_convex_is_not_exact_under_ibp() -> None:
    for _, net in triangle_encodings(VALLEY):
        assert not exact_on(net, VALLEY, "ibp", grid_intervals(VALLEY))


@given(seeds)
@settings(max_examples=15, deadline=None)
def test_fact_10_all_are_exact_under_p1_with_one_hidden_layer(seed: int) -> None:
    f = drawn("all", seed)
    net = univariate_p1(f)
    assert len(net.layers) <= 1 and is_the_function(net, f)
    assert exact_on(net, f, "p1", some_intervals(f, seed))


def test_fact_10_one_hidden_layer_is_not_enough_for_the_triangle() -> None:
    assert exact_on(univariate_p1(WAVE), WAVE, "p1", grid_intervals(WAVE))
    assert not exact_on(univariate_p1(WAVE), WAVE, "triangle", grid_intervals(WAVE))
    for relaxation in ("ibp", "deeppoly0", "deeppoly1", "triangle"):
        with pytest.raises(Unsupported, match=relaxation):
            encode(WAVE, relaxation)


@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_constant_and_affine_functions_have_encodings_too(relaxation: str) -> None:
    for values in ((1, 1, 1), (0, 1, 2), (3, 1, -1)):
        f = Cpwl.through(list(enumerate(values)))
        assert is_the_function(encode(f, relaxation), f)
        assert exact_on(encode(f, relaxation), f, relaxation, grid_intervals(f))


def test_expr_ii_the_triangle_has_exponentially_many_encodings() -> None:
    """One for DeepPoly-0, one for DeepPoly-1, all 2^n for the triangle."""
    for points in ([(-1, 2), (0, 0), (1, 1)], [(-2, 5), (-1, 2), (0, 0), (1, 1)]):
        f = Cpwl.through(points)
        count = 2 ** count_hinges(f)
        assert count == 2 ** len(points[1:])
        assert exact_encodings(f, "deeppoly0") == (1, count)
        assert exact_encodings(f, "deeppoly1") == (1, count)
        assert exact_encodings(f, "triangle") == (count, count)


def test_equal_networks_count_once() -> None:
    """Of |x| the hinges `relu(x)` and `relu(-x)` may be mirrored both, which changes nothing."""
    f = Cpwl.through([(-1, 1), (0, 0), (1, 1)])
    assert exact_encodings(f, "triangle") == (3, 3)


def test_table_1_of_expr() -> None:
    cells = {(c.functions, c.relaxation): c for c in table1(functions=4, boxes=4)}
    assert len(cells) == 4 * len(RELAXATIONS)
    for cell in cells.values():
        assert cell.boxes == 16
        assert (cell.exact == cell.boxes) == (cell.answer == "exact"), cell
    answers = {
        kind: [cells[kind, r].answer for r in RELAXATIONS]
        for kind in ("monotone", "convex", "all", "max in R^2")
    }
    assert answers == {
        "monotone": ["exact"] * 5,
        "convex": ["none"] + ["exact"] * 4,
        "all": ["none", "open", "open", "open", "exact"],
        "max in R^2": ["none"] * 4 + ["exact"],
    }


def test_fact_2_the_difference_of_equal_relus() -> None:
    net = mlp([([[1], [1]], [0, 0]), ([[1, -1]], [0])])
    assert bounds(net, [-1], [1], "ibp") == [(-1, 1)]
    assert bounds(net, [-1], [1], "triangle") == [(Fraction(-1, 2), Fraction(1, 2))]
    for relaxation in ("mk", "mko"):
        assert bounds(net, [-1], [1], relaxation, k=2) == [(0, 0)]


def test_too_many_encodings_are_not_counted_one_by_one() -> None:
    f = Cpwl.through([(i, i * i) for i in range(14)])
    with pytest.raises(Unsupported, match=r"2\^\d+ encodings"):
        exact_encodings(f, "triangle")
