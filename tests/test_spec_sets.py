"""Boxes: outward rounding contains, inward rounding is inside, membership is exact."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hullmark.errors import BadInput, VacuousProperty
from hullmark.exact import round_down, round_up
from hullmark.spec.numbers import as_fraction, as_number, parse_number
from hullmark.spec.sets import Box

decimals = st.one_of(
    st.decimals(-10, 10, places=12),
    st.decimals(
        allow_nan=False, allow_infinity=False, places=3, min_value=-(10**6), max_value=10**6
    ),
    st.sampled_from(
        [Decimal(t) for t in ("0", "-0.0", "1e-400", "-1e-400", "1e-46", "3.4e38", "0.1")]
    ),
)
floats = st.floats(allow_nan=False, allow_infinity=False)
fractions = st.fractions(-100, 100)
numbers = st.one_of(decimals, floats, fractions, st.integers(-(2**60), 2**60))


@st.composite
def boxes(draw: st.DrawFn, values: st.SearchStrategy = numbers) -> tuple[Box, list, list]:
    n = draw(st.integers(1, 4))
    pairs = [sorted((draw(values), draw(values)), key=Fraction) for _ in range(n)]
    if draw(st.booleans()):
        pairs[0][1] = pairs[0][0]
    lower, upper = [p[0] for p in pairs], [p[1] for p in pairs]
    return Box(lower, upper), lower, upper


@given(numbers)
def test_rounding_is_outward_and_tight(value: object) -> None:
    exact = as_fraction(as_number(value))
    low, high = round_down(as_number(value)), round_up(as_number(value))
    assert Fraction(low) <= exact <= Fraction(high)
    assert low == high or np.nextafter(low, np.inf) == high


@pytest.mark.parametrize("value", [10**400, Fraction(10**400), Decimal("1e400")])
def test_rounding_beyond_the_range_is_infinite_on_that_side_only(value: object) -> None:
    largest = float(np.finfo(np.float64).max)
    number = as_number(value)
    assert (round_down(number), round_up(number)) == (largest, math.inf)
    assert (round_down(-number), round_up(-number)) == (-math.inf, -largest)


@given(boxes())
def test_float_box_contains_the_exact_box_and_nothing_needless(made: tuple) -> None:
    box, lower, upper = made
    for i in range(box.size):
        assert Fraction(float(box.lower[i])) <= Fraction(lower[i])
        assert Fraction(float(box.upper[i])) >= Fraction(upper[i])
        # A float compares exactly with a fraction, an infinite one too.
        assert math.nextafter(box.lower[i], math.inf) > Fraction(lower[i])
        assert math.nextafter(box.upper[i], -math.inf) < Fraction(upper[i])


@given(boxes(), st.data())
def test_contains_agrees_with_fractions(made: tuple, data: st.DataObject) -> None:
    box, lower, upper = made
    edges = [float(v) for b in (box.lower, box.upper) for v in b]
    edges += [math.nextafter(v, s) for v in edges for s in (-math.inf, math.inf)]
    pick = st.one_of(st.sampled_from([e for e in edges if np.isfinite(e)]), floats)
    x = [data.draw(pick) for _ in range(box.size)]
    truth = all(
        Fraction(a) <= Fraction(v) <= Fraction(b) for a, v, b in zip(lower, x, upper, strict=True)
    )
    assert box.contains(np.array(x)) is truth
    assert box.contains(np.array([Fraction(v) for v in x], dtype=object)) is truth
    excess = [
        max(Fraction(a) - Fraction(v), Fraction(v) - Fraction(b), Fraction(0))
        for a, v, b in zip(lower, x, upper, strict=True)
    ]
    assert box.distance(np.array(x)) == excess


@given(boxes(), st.sampled_from([np.float32, np.float64]))
def test_float_inside_is_the_largest_inside(made: tuple, kind: type) -> None:
    box, lower, upper = made
    inside = box.float_inside(kind)
    assert inside.lower.dtype == inside.upper.dtype == kind
    for i in range(box.size):
        low, high = Fraction(lower[i]), Fraction(upper[i])
        got = inside.lower[i], inside.upper[i]
        a, b = Fraction(float(got[0])), Fraction(float(got[1]))
        with np.errstate(over="ignore"):
            before, after = (
                float(np.nextafter(got[0], kind(-np.inf))),
                float(np.nextafter(got[1], kind(np.inf))),
            )
        if inside.rounding[i] == 0:
            assert low <= a <= b <= high
            assert not np.isfinite(before) or Fraction(before) < low
            assert not np.isfinite(after) or Fraction(after) > high
            continue
        assert a == b
        distance = max(low - a, a - high)
        assert 0 < distance <= Fraction(float(inside.rounding[i]))
        assert Fraction(float(np.nextafter(inside.rounding[i], 0))) < distance
        for other in (before, after):
            if np.isfinite(other):
                gap = max(low - Fraction(other), Fraction(other) - high)
                assert gap >= distance


def test_a_point_box_between_floats_uses_the_nearest_one() -> None:
    inside = Box(["0.1", "0.5", "1e-46"], ["0.1", "0.5", "1e-46"]).float_inside(np.float32)
    assert inside.lower.tolist() == inside.upper.tolist() == [float(np.float32(0.1)), 0.5, 0.0]
    assert inside.rounding[0] == pytest.approx(1.49e-9, rel=0.01)
    assert inside.rounding[1] == 0
    assert inside.rounding[2] == round_up(Decimal("1e-46"))


def test_beyond_float32_the_nearest_is_its_largest() -> None:
    inside = Box(["-1e39", "1e39", "-2e39"], ["-1e38", "2e39", "-1e39"]).float_inside(np.float32)
    most = float(np.finfo(np.float32).max)
    assert inside.lower.tolist() == [-most, most, -most]
    assert inside.upper.tolist()[1:] == [most, -most]
    assert inside.rounding[0] == 0
    assert (inside.rounding[1:] > 6e38).all()


def test_the_closed_box_holds_its_corners_as_written() -> None:
    box = Box(["0.1"], ["0.3"])
    # The float 0.1 is above a tenth and the float 0.3 is below three tenths.
    assert box.contains(np.array([0.1])) and box.contains(np.array([0.3]))
    assert not Box(["0.30000000000000000001"], ["1"]).contains(np.array([0.3]))
    assert Box([0.3], [0.3]).contains(np.array([0.3]))
    assert box.contains(np.array([Fraction(1, 10)], dtype=object))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_in_no_box(bad: float) -> None:
    box = Box([0, -1.7e308], [1, 1.7e308])
    assert not box.contains(np.array([0.5, bad]))
    assert not box.contains(np.array([bad, 0.5], dtype=np.float32))
    with pytest.raises(BadInput, match="X_1"):
        box.distance(np.array([0.5, bad]))


def test_integers_beyond_float64_are_not_rounded() -> None:
    box = Box([2**60 + 1], [2**60 + 3])
    assert not box.contains(np.array([2**60]))
    assert box.contains(np.array([2**60 + 1]))
    assert box.distance(np.array([2**60])) == [Fraction(1)]


@pytest.mark.parametrize(
    ("lower", "upper", "error", "message"),
    [
        ([0, 0], [1], BadInput, "2 lower bounds do not match 1"),
        ([], [], BadInput, "at least one"),
        ([0, float("nan")], [1, 1], BadInput, "lower bound of X_1"),
        ([0, 0], [1, float("inf")], BadInput, "upper bound of X_1"),
        ([0, None], [1, 1], BadInput, "X_1 has no lower bound"),
        ([0], ["1e400"], BadInput, "upper bound of X_0 is beyond"),
        (["-1e400"], [1], BadInput, "lower bound of X_0 is beyond"),
        ([0], ["1e99999"], BadInput, "X_0"),
        ([0], ["1e999999999999999999999999"], BadInput, "X_0"),
        ([0], ["one"], BadInput, "'one'"),
        ([0], [True], BadInput, "X_0"),
        ([0, 1], [1, Decimal("0.9999999999999999999999")], VacuousProperty, "X_1"),
        ([Fraction(1, 3)], ["0.3333333333333333333333333"], VacuousProperty, "X_0"),
    ],
)
def test_bounds_that_cannot_be_used(lower: list, upper: list, error: type, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        Box(lower, upper)
    assert type(caught.value) is error


def test_sizes_and_types_are_checked() -> None:
    box = Box([0, 0], [1, 1])
    with pytest.raises(BadInput, match="3 input values"):
        box.contains(np.zeros(3))
    with pytest.raises(BadInput, match="float16"):
        box.float_inside(np.float16)


def test_arrays_of_any_shape_are_read_in_row_major_order() -> None:
    image = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    box = Box(image, image + 1)
    assert box.lower.tolist() == [0, 1, 2, 3, 4, 5]
    assert box.contains(image) and not box.contains(image.transpose(0, 2, 1))
    assert Box([["0", Fraction(1, 2)]], [[1, 1]]).size == 2


def test_decimals_keep_all_their_digits() -> None:
    text = "0." + "1234567890" * 9
    assert as_fraction(parse_number(text)) == Fraction(int("1234567890" * 9), 10**90)
    assert parse_number("0x1") is None and parse_number("1_0") is None and parse_number("") is None
    assert [parse_number(t) for t in ("+.5e-1", "1.", "-0.0")] == [Decimal("0.05"), 1, 0]


def test_negative_zero_does_not_appear() -> None:
    box = Box(["-0.0", "-1e-400"], ["0", "-0.0"])
    inside = box.float_inside(np.float32)
    assert not np.signbit(box.upper).any() and not np.signbit(box.lower[0])
    assert not np.signbit(inside.lower).any() and not np.signbit(inside.upper).any()
