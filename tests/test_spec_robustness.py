"""Questions asked without a file."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hullmark.errors import BadInput, VacuousProperty
from hullmark.spec.robustness import Linf, Polytope, classified, holds, robust, unsafe
from hullmark.spec.sets import Box

pixels = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=5)


@given(pixels, st.floats(0, 1), st.sampled_from([None, (0, 1), ("0.1", "0.9")]))
def test_the_ball_is_exact(x: list[float], eps: float, clip: tuple | None) -> None:
    least, greatest = (Fraction(Decimal(str(c))) for c in clip or (-9, 9))
    low = [max(Fraction(v) - Fraction(eps), least) for v in x]
    high = [min(Fraction(v) + Fraction(eps), greatest) for v in x]
    if any(a > b for a, b in zip(low, high, strict=True)):
        with pytest.raises(VacuousProperty):
            Linf(x, eps, clip)
        return
    box = Linf(np.array(x, dtype=np.float32), eps, clip)
    assert list(box.exact_lower) == low
    assert list(box.exact_upper) == high


def test_decimal_strings_are_decimals_and_radii_may_differ() -> None:
    box = Linf([["0.5", 0.25]], "0.1")
    assert box.exact_lower == (Fraction(2, 5), Fraction(3, 20))
    box = Linf([0.5, 0.25], [0, "0.1"], clip=None)
    assert box.exact_upper == (Fraction(1, 2), Fraction(7, 20))


@pytest.mark.parametrize(
    ("x", "eps", "message"),
    [
        ([0.5], -0.1, "negative"),
        ([0.5], float("nan"), "finite"),
        ([float("inf")], 0.1, "finite"),
        ([0.5, 0.5, 0.5], [0.1, 0.1], "2 radii"),
    ],
)
def test_balls_that_cannot_be_used(x: list, eps: object, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Linf(x, eps)


@given(st.lists(st.integers(-2, 2), min_size=3, max_size=3), st.integers(0, 2))
def test_a_label_is_safe_only_if_it_is_the_strict_maximum(y: list[int], label: int) -> None:
    p = robust(np.full((1, 2), 0.5), label, 0.1).property(2, 3)
    unique = all(y[label] > v for j, v in enumerate(y) if j != label)
    assert p.violated(np.array([0.5, 0.5]), np.array(y)) is not unique
    assert len(p.cases) == 2 and len(p.groups) == 1 and p.permits_dropping_softmax()


def test_a_target_asks_for_one_other_class_only() -> None:
    p = robust([0.5], np.int64(0), 0.1, target=2).property(1, 3)
    x = np.array([0.5])
    assert not p.violated(x, np.array([0, 9, -1]))
    assert p.violated(x, np.array([0, -9, 0]))


def test_robustness_must_fit_the_network() -> None:
    question = robust([0.5, 0.5], 3, 0.1, classes=4)
    assert question.property(2, 4).output_size == 4
    for sizes, message in (((3, 4), "2 inputs"), ((2, 5), "4 classes")):
        with pytest.raises(BadInput, match=message):
            question.property(*sizes)
    box = Box([0], [1])
    with pytest.raises(BadInput, match="label 3"):
        classified(box, 3).property(1, 3)
    with pytest.raises(BadInput, match="target 3"):
        classified(box, 0, target=3).property(1, 3)
    with pytest.raises(BadInput, match="two outputs"):
        classified(box, 0).property(1, 1)


@pytest.mark.parametrize("label", [-1, True, 1.0, "1"])
def test_a_label_is_an_index(label: object) -> None:
    with pytest.raises(BadInput, match="label"):
        classified(Box([0], [1]), label)
    with pytest.raises(BadInput, match="both 1"):
        classified(Box([0], [1]), 1, target=1)


def test_unsafe_is_a_union_of_polyhedra() -> None:
    box = Box([0], [1])
    p = unsafe(box, [[([1, 0], -1), ([0, 1], -1)], [(np.array([-1.0, 0.0]), -5)]])
    x = np.array([0.5])
    assert [p.violated(x, np.array(y)) for y in ([-1, -1], [-1, 0], [5, 0], [4, 4])] == [
        True,
        False,
        True,
        False,
    ]
    assert not p.violated(np.array([1.5]), np.array([5, 0]))
    assert len(p.groups) == 1


def test_holds_is_violated_strictly_beyond_the_claim() -> None:
    p = holds(Box([0], [1]), [([1, "0.5"], "0.3"), ([-1, 0], 7)])
    x = np.array([0.5])
    assert not p.violated(x, np.array([Fraction(3, 10), Fraction(0)], dtype=object))
    assert p.violated(x, np.array([0.3 + 1e-12, 0.0]))
    assert not p.violated(x, np.array([-7.0, 0.0]))
    assert p.violated(x, np.array([-7.5, 0.0]))


def test_a_polytope_limits_the_inputs() -> None:
    simplex = Polytope(np.array([[1, 1], [-1, 0]]), [1, "-0.1"], Box([0, 0], [1, 1]))
    p = unsafe(simplex, [[([1], 0)]])
    y = np.array([0.0])
    for x, inside in (([0.5, 0.5], True), ([0.6, 0.5], False), ([0.05, 0.5], False)):
        assert simplex.contains(np.array(x)) is inside
        assert p.violated(np.array(x), y) is inside
    # The row over one input has become a bound of the box.
    assert p.cases[0].box.exact_lower[0] == Fraction(1, 10)


def test_an_empty_polytope_is_vacuous() -> None:
    box = Box([0, 0], [1, 1])
    with pytest.raises(VacuousProperty):
        unsafe(Polytope([[1, 1]], [-1], box), [[([1], 0)]])
    with pytest.raises(VacuousProperty):
        unsafe(Polytope([[1, 0]], ["-0.1"], box), [[([1], 0)]])


@pytest.mark.parametrize(
    ("rows", "message"),
    [([], "at least one"), ([[]], "at least one"), ([[([1], 0)], [([1, 2], 0)]], "do not fit")],
)
def test_unsafe_sets_that_cannot_be_used(rows: list, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        unsafe(Box([0], [1]), rows)


def test_polytopes_that_cannot_be_used() -> None:
    box = Box([0], [1])
    for a, b, message in (([[1]], [1, 2], "1 rows but 2"), ([[1, 2]], [1], "2 entries for 1")):
        with pytest.raises(BadInput, match=message):
            unsafe(Polytope(a, b, box), [[([1], 0)]])
