"""Candidates become witnesses only inside the set as written, and only as the original runs."""

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hullmark.errors import BadInput
from hullmark.network.graph import Builder, Network
from hullmark.network.model import Model
from hullmark.network.ops import Array, Dense
from hullmark.search.witness import Replay, confirm, confirm_any, exact_margin
from hullmark.spec.property import Case, Constraint, Property
from hullmark.spec.sets import Box, Inside

F32 = np.float32


class Original:
    """A runtime made of a function from float32 batches to batches; remembers batch sizes."""

    def __init__(self, function: Callable[[Array], Array]) -> None:
        self._function = function
        self.batches: list[int] = []

    def run(self, x: Array) -> Array:
        self.batches.append(len(x))
        return np.asarray(self._function(x), dtype=x.dtype)


def linear(weight: list[list[float]], bias: list[float]) -> Network:
    builder = Builder((len(weight[0]),))
    return builder.build(builder.add(Dense(np.array(weight), np.array(bias)), 0))


def identity(n: int) -> Network:
    return linear(np.eye(n).tolist(), [0.0] * n)


def model_of(
    network: Network, function: Callable[[Array], Array] | None = None, dtype: type = F32
) -> tuple[Model, Original]:
    original = Original(function or (lambda x: x.copy()))
    return Model(network, original, np.dtype(dtype), "net"), original


def asks(box: Box, *cases: list[Constraint], outputs: int = 1) -> Property:
    return Property(box.size, outputs, tuple(Case(box, tuple(c), outputs) for c in cases), "prop")


def below(j: int, bound: object, strict: bool = False) -> Constraint:
    return Constraint.of({}, {j: 1}, bound, strict=strict)


def test_a_violation_is_replayed_and_described() -> None:
    model, original = model_of(identity(2))
    prop = asks(Box([0, 0], [1, 1]), [below(0, -5)], [below(1, "0.5")], outputs=2)
    witness = confirm(model, prop, np.array([0.9, 0.25]))
    assert witness is not None
    assert witness.case == 1
    assert witness.rounding == 0
    assert witness.margin == -0.25
    assert witness.input.dtype == F32
    assert prop.violated(witness.input, witness.output)
    assert set(original.batches) == {1}


def test_a_candidate_outside_is_brought_inside() -> None:
    # 0.1 is no float: the largest float32 below it is the largest input there is.
    model, _ = model_of(identity(1))
    prop = asks(Box(["0"], ["0.1"]), [Constraint.of({}, {0: -1}, "-0.0999")])
    witness = confirm(model, prop, np.array([0.1 + 1e-9]))
    assert witness is not None
    assert Fraction(float(witness.input[0])) <= Fraction(1, 10)
    assert prop.violated(witness.input, witness.output)


def test_only_the_original_decides() -> None:
    # The search's own copy says 0, the original says 1.
    model, _ = model_of(linear([[0.0]], [0.0]), lambda x: np.ones_like(x))
    prop = asks(Box([0], [1]), [below(0, "0.5")])
    assert confirm(model, prop, np.array([0.5])) is None
    other, _ = model_of(linear([[0.0]], [1.0]), lambda x: np.zeros_like(x))
    assert confirm(other, prop, np.array([0.5])) is not None


def test_there_is_no_tolerance() -> None:
    tiny = float(np.finfo(F32).smallest_subnormal)
    model, _ = model_of(identity(1), lambda x: np.full_like(x, tiny))
    assert confirm(model, asks(Box([0], [1]), [below(0, 0)]), np.array([0.5])) is None
    assert confirm(model, asks(Box([0], [1]), [below(0, tiny)]), np.array([0.5])) is not None
    strict = asks(Box([0], [1]), [below(0, tiny, strict=True)])
    assert confirm(model, strict, np.array([0.5])) is None


def test_one_at_a_time_decides_and_not_the_batch() -> None:
    # A runtime whose last bit depends on the batch size: only alone it is safe.
    def run(x: Array) -> Array:
        return np.full_like(x, 1e-7 if len(x) == 1 else -1e-7)

    model, original = model_of(identity(1), run)
    prop = asks(Box([0], [1]), [below(0, 0)])
    assert confirm_any(model, prop, np.linspace(0, 1, 5)[:, None]) is None
    assert {1, 5} <= set(original.batches)


def test_the_most_violating_candidate_is_taken_first() -> None:
    model, _ = model_of(identity(1))
    prop = asks(Box([-1], [1]), [below(0, 0)])
    witness = confirm_any(model, prop, np.array([[0.5], [-0.25], [-0.75], [np.nan]]))
    assert witness is not None
    assert witness.input[0] == F32(-0.75)
    assert confirm_any(model, prop, np.array([[0.5], [0.75]])) is None
    assert confirm_any(model, prop, np.zeros((0, 1))) is None


def test_an_interval_without_floats_gives_a_rounded_witness() -> None:
    # Between 1 and the next float32, 1 + 2^-23, closer to 1.
    point = Decimal("1.00000001")
    model, _ = model_of(identity(2))
    prop = asks(Box([point, 0], [point, 1]), [below(1, "0.5")], outputs=2)
    witness = confirm(model, prop, np.array([1.00000001, 0.25]))
    assert witness is not None
    assert witness.input[0] == 1
    assert Fraction(witness.rounding) >= Fraction(1, 10**8)
    assert witness.rounding == pytest.approx(1e-8, rel=1e-9)
    assert not prop.violated(witness.input, witness.output)
    assert prop.violated_case(witness.input, witness.output, box=False) == witness.case
    # The other coordinate has floats of its own and may not be rounded.
    assert Fraction(0) <= Fraction(float(witness.input[1])) <= 1


def test_a_witness_of_another_case_must_be_of_that_box() -> None:
    # Case 0 holds no float; case 1 is far away. A point for case 0 must not be judged by case 1.
    point = Decimal("1.00000001")
    first = Case(Box([point], [point]), (below(0, -5),), 1)
    second = Case(Box([5], [6]), (below(0, 3),), 1)
    model, _ = model_of(identity(1))
    prop = Property(1, 1, (first, second), "prop")
    assert confirm(model, prop, np.array([1.0])) is None


def test_a_witness_without_rounding_is_preferred() -> None:
    point = Decimal("1.00000001")
    rounded = Case(Box([point], [point]), (below(0, 3),), 1)
    exact = Case(Box([1], [1]), (below(0, 3),), 1)
    model, _ = model_of(identity(1))
    prop = Property(1, 1, (rounded, exact), "prop")
    # Nearest to the box without floats, which is tried first and leads to a witness too.
    witness = confirm(model, prop, np.array([1.00000001]))
    assert witness is not None
    assert (witness.case, witness.rounding) == (1, 0)
    again = Replay(model, prop).confirm(np.array([1.0]), case=0)
    assert again is not None
    assert again.case == 0
    assert again.rounding > 0


def test_a_box_that_lies_about_its_floats_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(box: Box, dtype: object) -> Inside:
        return Inside(np.array([-9], F32), np.array([9], F32), np.zeros(1))

    monkeypatch.setattr(Box, "float_inside", too_large)
    model, _ = model_of(identity(1))
    prop = asks(Box([0], [1]), [below(0, 5)])
    # 1.5 itself is refused; of the repairs the end of the box is an input.
    witness = confirm(model, prop, np.array([1.5]))
    assert witness is not None
    assert witness.input[0] == 1


def test_the_nearest_of_many_boxes_is_tried() -> None:
    cases = tuple(Case(Box([i], [i + 0.5]), (below(0, 30.25),), 1) for i in range(50))
    model, _ = model_of(identity(1))
    prop = Property(1, 1, cases, "prop")
    witness = confirm(model, prop, np.array([30.1]))
    assert witness is not None
    assert witness.case == 30
    assert confirm(model, prop, np.array([31.1])) is None


def test_input_constraints_are_exact() -> None:
    # x0 + x1 <= 1/10 with decimals, on the edge; and the output condition always holds.
    edge = Constraint.of({0: 1, 1: 1}, {}, "0.1")
    model, _ = model_of(identity(2))
    prop = asks(Box([0, 0], [1, 1]), [edge, below(0, 5)], outputs=2)
    assert confirm(model, prop, np.array([0.5, 0.5])) is None
    near = confirm(model, prop, np.array([0.05, 0.05]))
    assert near is None or prop.violated(near.input, near.output)
    inside = confirm(model, prop, np.array([0.05, 0.04]))
    assert inside is not None
    assert inside.margin < 0


def test_a_near_miss_is_repaired() -> None:
    # Only the corner itself violates; the candidate stops a little short of it.
    model, _ = model_of(identity(1))
    prop = asks(Box([0], [1]), [Constraint.of({}, {0: -1}, -1)])
    witness = confirm(model, prop, np.array([1 - 1e-7]))
    assert witness is not None
    assert witness.input[0] == 1
    assert witness.margin == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_numbers_refute_nothing(value: float) -> None:
    model, _ = model_of(identity(1), lambda x: np.full_like(x, value))
    prop = asks(Box([0], [1]), [below(0, 0)])
    assert confirm(model, prop, np.array([0.5])) is None
    assert confirm_any(model, prop, np.array([[0.5], [0.25]])) is None


def test_candidates_that_are_not_numbers_lead_nowhere() -> None:
    model, _ = model_of(identity(1))
    prop = asks(Box([0], [1]), [below(0, 5)])
    assert confirm(model, prop, np.array([np.nan])) is None
    huge = confirm(model, prop, np.array([1e300]))
    assert huge is not None
    assert huge.input[0] == 1


def test_a_model_in_double_precision_keeps_it() -> None:
    model, _ = model_of(identity(1), dtype=np.float64)
    prop = asks(Box(["0.1"], ["0.3"]), [below(0, "0.2")])
    witness = confirm(model, prop, np.array([0.15000000000000002]))
    assert witness is not None
    assert witness.input.dtype == np.float64
    assert witness.input[0] == 0.15000000000000002


def test_no_case_means_no_witness() -> None:
    model, _ = model_of(identity(1))
    prop = Property(1, 1, (), "prop")
    assert confirm(model, prop, np.array([0.5])) is None
    assert confirm_any(model, prop, np.array([[0.5], [0.1]])) is None


def test_a_property_of_other_sizes_is_refused() -> None:
    model, _ = model_of(identity(1))
    with pytest.raises(BadInput, match="2 inputs"):
        Replay(model, asks(Box([0, 0], [1, 1]), [below(0, 0)]))


def test_margins_are_the_largest_row() -> None:
    case = Case(
        Box([0], [1]),
        (Constraint.of({0: 2}, {0: 1}, "0.5"), Constraint.of({}, {0: -1}, 3)),
        1,
    )
    assert exact_margin(case, np.array([0.25]), np.array([1.0])) == 1.0
    assert exact_margin(Case(Box([0], [1]), (), 1), np.zeros(1), np.zeros(1)) == -np.inf


@given(
    st.lists(st.tuples(st.integers(-999, 999), st.integers(0, 99)), min_size=1, max_size=4),
    st.integers(-2000, 2000),
    st.lists(st.floats(-20, 20), min_size=4, max_size=4),
)
def test_every_witness_is_one(sides: list[tuple[int, int]], level: int, place: list[float]) -> None:
    n = len(sides)
    box = Box(
        [Fraction(a, 100) for a, _ in sides], [Fraction(a + width, 100) for a, width in sides]
    )
    model, _ = model_of(linear([[1.0] * n], [0.0]), lambda x: x.sum(axis=1, keepdims=True))
    prop = asks(box, [below(0, Fraction(level, 100))])
    for witness in (
        confirm(model, prop, np.array(place[:n])),
        confirm_any(model, prop, np.array([place[:n], place[-n:]])),
    ):
        if witness is None:
            continue
        again = model.replay(witness.input[None])[0]
        assert again.tobytes() == witness.output.tobytes()
        assert witness.margin <= 0
        if witness.rounding == 0:
            assert prop.violated(witness.input, witness.output)
        else:
            outside = max(box.distance(witness.input))
            assert 0 < outside <= Fraction(witness.rounding)
            assert prop.violated_case(witness.input, witness.output, box=False) is not None
