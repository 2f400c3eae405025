"""VNN-LIB 1.0: meaning, exactness, speed and errors of the parser."""

import gzip
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hullmark.errors import BadInput, HullmarkError, Unsupported, VacuousProperty
from hullmark.spec.load import load_property
from hullmark.spec.property import Property
from hullmark.spec.sexpr import Source
from hullmark.spec.vnnlib1 import parse_vnnlib1

UNIT = "".join(f"(assert (>= X_{i} 0))(assert (<= X_{i} 1))\n" for i in range(2))


def declare(inputs: int = 2, outputs: int = 2) -> str:
    names = [f"X_{i}" for i in range(inputs)] + [f"Y_{j}" for j in range(outputs)]
    return "".join(f"(declare-const {name} Real)\n" for name in names)


def parse(text: str, *sizes: int) -> Property:
    return parse_vnnlib1(Source("test.vnnlib", text), *sizes)


def unit(conditions: str) -> Property:
    """Two inputs in [0, 1], two outputs, and these conditions."""
    return parse(declare() + UNIT + conditions)


def violates(p: Property, x: list, y: list) -> bool:
    return p.violated(
        np.array([Fraction(v) for v in x], dtype=object),
        np.array([Fraction(v) for v in y], dtype=object),
    )


def test_decimals_are_exact() -> None:
    p = parse(
        declare(1, 1) + "(assert (<= X_0 1.1e-1)) (assert (>= X_0 -0.30))(assert (<= Y_0 0.1))"
    )
    box = p.cases[0].box
    assert (Fraction(box.exact_lower[0]), Fraction(box.exact_upper[0])) == (
        Fraction(-3, 10),
        Fraction(11, 100),
    )
    assert p.cases[0].constraints[0].bound == Fraction(1, 10)
    assert Fraction(float(box.lower[0])) < Fraction(-3, 10)


@pytest.mark.parametrize(
    "term",
    [
        "(+ (* 2 X_0) (* -3.0 Y_1) 0.5)",
        "(+ 0.5 (- (* X_0 2) (* Y_1 3)))",
        "(- (+ X_0 X_0 1) Y_1 Y_1 Y_1 (/ 1 2))",
        "(* 2 (+ X_0 (* (- 1.5) Y_1) 2.5e-1))",
        "(+ (- (- X_0)) X_0 (* 3 -1 Y_1) (* (/ 5 10) 1))",
    ],
)
@pytest.mark.parametrize("relation", ["(<= {} 0)", "(>= 0 {})", "(<= (+ 1 {}) (+ 1 0.0))"])
def test_linear_terms_in_many_forms(term: str, relation: str) -> None:
    (case,) = unit(f"(assert {relation.format(term)})").cases
    (c,) = case.constraints
    assert (c.x, c.y, c.bound, c.strict) == (
        ((0, Fraction(2)),),
        ((1, Fraction(-3)),),
        Fraction(-1, 2),
        False,
    )


@pytest.mark.parametrize(
    ("condition", "unsafe"),
    [
        ("(<= Y_0 0.5)", {0, 0.5}),
        ("(< Y_0 0.5)", {0}),
        ("(>= Y_0 0.5)", {0.5, 1}),
        ("(> Y_0 0.5)", {1}),
        ("(= Y_0 0.5)", {0.5}),
        ("(== Y_0 0.5)", {0.5}),
        ("(!= Y_0 0.5)", {0, 1}),
        ("(not (<= Y_0 0.5))", {1}),
        ("(not (> Y_0 0.5))", {0, 0.5}),
        ("(not (= Y_0 0.5))", {0, 1}),
        ("(not (!= Y_0 0.5))", {0.5}),
        ("(not (or (< Y_0 0.5) (> Y_0 0.5)))", {0.5}),
        ("(not (and (>= Y_0 0.5) (not (> Y_0 0.5))))", {0, 1}),
        ("(<= 0 Y_0 0.5)", {0, 0.5}),
        ("(not (<= 0.5 Y_0 0.5))", {0, 1}),
        ("(< 0 Y_0 1)", {0.5}),
        ("(or (<= Y_0 0) (not (<= Y_0 0)))", {0, 0.5, 1}),
        ("(<= -0.0 Y_0 (- 0))", {0}),
        ("(and (or (<= Y_0 0) (>= Y_0 1)) (or (>= Y_0 0.5) (and (<= Y_0 0) (<= 1 0))))", {1}),
        ("(or (and (<= Y_0 0)) (and (or (>= Y_0 1))))", {0, 1}),
    ],
)
def test_conditions_mean_what_they_say(condition: str, unsafe: set) -> None:
    p = unit(f"(assert {condition})")
    assert {y for y in (0, 0.5, 1) if violates(p, [0, 0], [y, 7])} == unsafe


def test_boxes_per_disjunct_are_met_with_the_global_bounds() -> None:
    p = unit(
        "(assert (or (and (<= X_0 0.25) (<= X_0 7) (<= Y_0 0)) (and (>= X_0 0.75) (<= Y_0 1))"
        " (and (>= X_0 2) (<= Y_0 9))))"
    )
    # The third disjunct has no input.
    assert len(p.cases) == 2
    assert [float(c.box.upper[0]) for c in p.cases] == [0.25, 1]
    assert [float(c.box.lower[0]) for c in p.cases] == [0, 0.75]
    assert all(len(c.constraints) == 1 for c in p.cases)


def test_boxes_only_in_disjuncts_and_a_product_with_outputs() -> None:
    boxes = "(assert (or (and (>= X_0 0) (<= X_0 1)) (and (>= X_0 5) (<= X_0 6))))"
    outputs = "(assert (or (<= Y_0 0) (>= Y_0 9)))"
    for text in (boxes + outputs, outputs + boxes):
        p = parse(declare(1, 1) + text)
        assert len(p.cases) == 4
        assert sorted(len(members) for _, members in p.groups) == [2, 2]
        assert violates(p, [5.5], [9]) and violates(p, [0], [0])
        assert not violates(p, [3], [9]) and not violates(p, [5], [5])


def test_cases_without_input_conditions_share_one_box() -> None:
    p = unit("(assert (or (<= Y_0 0) (and (<= Y_1 0) (<= Y_0 Y_1)) (<= Y_1 Y_0)))")
    assert len(p.cases) == 3 and len(p.groups) == 1


def test_mixed_and_many_variable_input_constraints_stay() -> None:
    p = unit("(assert (<= (+ X_0 X_1) 1.5)) (assert (<= Y_0 (* 2 X_0)))")
    (case,) = p.cases
    assert [bool(c.y) for c in case.constraints] == [False, True]
    assert violates(p, [1, 0.5], [2, 0])
    assert not violates(p, [1, 0.75], [2, 0]) and not violates(p, [0.5, 0.5], [2, 0])


def test_a_strict_input_bound_closes_the_box_and_stays() -> None:
    p = unit("(assert (< X_0 0.5))")
    assert float(p.cases[0].box.upper[0]) == 0.5
    assert violates(p, [0.25, 0], [0, 0]) and not violates(p, [0.5, 0], [0, 0])


@pytest.mark.parametrize(
    "condition",
    [
        "(<= X_0 -0.1)",
        "(< X_0 0)",
        "(or (>= X_0 2) (<= X_1 -1))",
        "(<= (+ X_0 X_1) -1)",
        "(<= (- X_0 X_0) -1)",
        "(and (< X_0 0.5) (>= X_0 0.5))",
    ],
)
def test_no_input_at_all_is_vacuous(condition: str) -> None:
    with pytest.raises(VacuousProperty, match=r"test\.vnnlib"):
        unit(f"(assert {condition})")


@pytest.mark.parametrize(
    "condition", ["(<= 2 1)", "(< Y_0 Y_0)", "(and (<= Y_0 1) (<= (* 0 Y_1) -1))"]
)
def test_an_impossible_output_condition_leaves_no_case(condition: str) -> None:
    p = unit(f"(assert {condition})")
    assert p.cases == () and not violates(p, [0, 0], [0, 0])
    p = unit(f"(assert (or {condition} (<= Y_0 0)))")
    assert len(p.cases) == 1


def test_constants_that_always_hold_are_dropped() -> None:
    (case,) = unit("(assert (<= 1 1)) (assert (<= X_0 (+ X_0 1)))").cases
    assert case.constraints == ()


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (declare() + UNIT + "(assert (<= Y_0 1)", BadInput, "line 7: a parenthesis is not closed"),
        (declare() + "(assert (<= Y_0 1)\n" + UNIT, BadInput, "line 5: .*before the next command"),
        (declare() + UNIT + ")", BadInput, "line 7: .*never opened"),
        (declare() + UNIT + "\n assert", BadInput, "line 8: 'assert' stands outside"),
        (declare() + UNIT + "(assert (<= Y_2 1))", BadInput, "line 7: Y_2 is not declared"),
        (declare() + UNIT + "(assert (<= (+ Z Y_0) 1))", BadInput, "line 7: Z is not declared"),
        ("(declare-const Z_0 Real)", BadInput, "line 1: Z_0 is neither"),
        ("(declare-const X_0 Real)(declare-const X_0 Real)", BadInput, "X_0 is declared twice"),
        ("(declare-const X_0 Int)", Unsupported, "line 1: X_0 has the type Int"),
        ("(declare-const X_0)", BadInput, "line 1: a declaration"),
        (declare() + UNIT + "(assert (<= (* X_0 X_1) 1))", BadInput, "line 7: .*not linear"),
        (declare() + UNIT + "(assert (<= (/ Y_0 X_1) 1))", BadInput, "line 7: .*divided"),
        (declare() + UNIT + "(assert (<= (/ Y_0 0) 1))", BadInput, "line 7: .*divided"),
        (declare() + UNIT + "(assert (=> (<= Y_0 1)))", Unsupported, "line 7: the operator '=>'"),
        (declare() + UNIT + "(assert (<= (abs Y_0) 1))", Unsupported, "the operator 'abs'"),
        (declare() + UNIT + "(check-sat)", Unsupported, "line 7: the command 'check-sat'"),
        (declare() + UNIT + "(assert)", BadInput, "line 7: assert takes exactly one"),
        (declare() + UNIT + "(assert Y_0)", BadInput, "line 7: 'Y_0' is not a condition"),
        (declare() + UNIT + "(assert (or))", BadInput, "line 7: or needs"),
        (declare() + UNIT + "(assert (<= Y_0))", BadInput, "line 7: <= needs two"),
        (declare() + UNIT + "(assert (<= (+) Y_0))", BadInput, r"line 7: \+ needs"),
        (declare() + UNIT + "(assert (<= () Y_0))", BadInput, "line 7: a term must begin"),
        (declare() + UNIT + "(assert (<= Y_0 1e9999))", BadInput, "line 7: .*exponent"),
        (declare() + UNIT + "(assert (<= X_0 1e9999))", BadInput, "line 7: .*exponent"),
        (declare() + UNIT + "()", BadInput, "line 7: a command must begin"),
        (declare() + UNIT + '(set-info "a)', BadInput, "line 7: unexpected '\"'"),
        (declare() + "(assert (<= X_0 1))", BadInput, r"test\.vnnlib: X_0 has no lower bound"),
        (declare(1) + "(assert (>= X_0 1))", BadInput, "X_0 has no upper bound"),
        ("(declare-const X_1 Real)(declare-const Y_0 Real)", BadInput, "X_0 is not declared"),
        ("(declare-const X_0 Real)", BadInput, "no output"),
        ("", BadInput, "no input"),
    ],
)
def test_errors_name_the_line(text: str, error: type, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        parse(text)
    assert type(caught.value) is error
    assert str(caught.value).startswith("test.vnnlib")


def test_the_property_must_fit_the_network() -> None:
    text = declare() + UNIT + "(assert (<= Y_0 0))"
    assert parse(text, 2, 2).output_size == 2
    with pytest.raises(BadInput, match="line 2: X_1 is declared, but the network has 1 inputs"):
        parse(text, 1, 2)
    with pytest.raises(BadInput, match="2 outputs are declared, but the network has 5"):
        parse(text, 2, 5)
    with pytest.raises(BadInput, match="X_900 is not declared; the network has 2 inputs"):
        parse(text + "(assert (<= X_900 0))", 2, 2)


def test_comments_line_breaks_and_scalars_of_smt_are_read() -> None:
    p = parse(
        "; (assert (\n(declare-fun X_0 () Real) ;)\n(declare-const Y_0 Real)\r\n(assert ; no\n"
        "(<= X_0 ;; 3))\n 1))\t(assert(>= X_0 0))(assert\n(and (<= Y_0 0.)))"
    )
    assert float(p.cases[0].box.upper[0]) == 1 and len(p.cases[0].constraints) == 1


def test_sums_nested_thousands_deep_are_read() -> None:
    term = "Y_0"
    for _ in range(5000):
        term = f"(+ X_0 {term})"
    (case,) = unit(f"(assert (<= {term} 0))").cases
    assert case.constraints[0].x == ((0, Fraction(5000)),)
    deep = "(and " * 5000 + "(<= Y_0 0)" + ")" * 5000
    with pytest.raises(BadInput, match="nested too deeply"):
        unit(f"(assert {deep})")


def test_an_explosion_of_cases_is_refused() -> None:
    one = "(assert (or (<= Y_0 0) (>= Y_0 1) (<= Y_1 0)))"
    with pytest.raises(Unsupported, match="more than 200,000 cases"):
        unit(one * 12)


def test_gzip_is_found_and_read(tmp_path: Path) -> None:
    text = (declare() + UNIT + "(assert (<= Y_0 0))").encode()
    (tmp_path / "p.vnnlib.gz").write_bytes(gzip.compress(text))
    (tmp_path / "q.vnnlib").write_bytes(gzip.compress(text))
    for name in ("p.vnnlib", "p.vnnlib.gz", "q.vnnlib"):
        assert load_property(tmp_path / name, 2, 2).input_size == 2
    (tmp_path / "cut.vnnlib").write_bytes(gzip.compress(text)[:-20])
    (tmp_path / "binary.vnnlib").write_bytes(b"\xff\xfe\x00")
    for name, message in (
        ("cut.vnnlib", "cannot be read"),
        ("binary.vnnlib", "UTF-8"),
        ("none.vnnlib", "no such file"),
        ("", "cannot be read"),
    ):
        with pytest.raises(BadInput, match=message):
            load_property(tmp_path / name)
    for folder in (".", "/"):
        with pytest.raises(BadInput, match="cannot be read"):
            load_property(folder)


def test_large_files_are_read_quickly() -> None:
    n = 100_000
    bounds = "".join(f"(assert (<= X_{i} 1.{i}))\n(assert (>= X_{i} 0.{i}))\n" for i in range(n))
    start = time.process_time()
    p = parse(declare(n, 1) + bounds + "(assert (<= Y_0 0))")
    # Measured at 1.4 s; the margin is for slow machines.
    assert time.process_time() - start < 6
    assert Fraction(p.cases[0].box.exact_upper[n - 1]) == Fraction(f"1.{n - 1}")


def test_many_disjuncts_are_read_quickly() -> None:
    n = 10_000
    cases = "\n".join(f"(and (>= X_0 {i}) (<= X_0 {i}.5) (>= Y_0 0.{i}))" for i in range(n))
    start = time.process_time()
    p = parse(declare(1, 1) + f"(assert (or {cases}))")
    assert time.process_time() - start < 8
    assert len(p.cases) == n
    assert p.violated_case(np.array([77.25]), np.array([0.8])) == 77


VALUES = {"X_0": 0, "X_1": 1, "Y_0": 2, "Y_1": 3}
leaves = st.one_of(
    st.sampled_from(sorted(VALUES)), st.sampled_from(["0", "0.5", "-1", "1e0", "5e-1", "2.0"])
)
terms = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from("+-"), inner, inner),
        st.tuples(st.just("-"), inner),
        st.tuples(st.just("*"), st.sampled_from(["0.5", "-2"]), inner),
    ),
    max_leaves=4,
)
relations = st.tuples(st.sampled_from(["<=", ">=", "<", ">", "=", "!="]), terms, terms)
conditions = st.recursive(
    relations,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["and", "or"]), inner, inner),
        st.tuples(st.sampled_from(["and", "or"]), inner, inner, inner),
        st.tuples(st.just("not"), inner),
    ),
    max_leaves=5,
)


def written(tree: object) -> str:
    return tree if isinstance(tree, str) else f"({' '.join(written(part) for part in tree)})"


def value(tree: object, point: tuple) -> Fraction:
    if isinstance(tree, str):
        return point[VALUES[tree]] if tree in VALUES else Fraction(tree)
    operator, *parts = tree
    values = [value(part, point) for part in parts]
    if operator == "*":
        return values[0] * values[1]
    if len(values) == 1:
        return -values[0]
    return values[0] + values[1] if operator == "+" else values[0] - values[1]


def truth(tree: tuple, point: tuple) -> bool:
    operator, *parts = tree
    if operator in ("and", "or"):
        return (all if operator == "and" else any)([truth(part, point) for part in parts])
    if operator == "not":
        return not truth(parts[0], point)
    a, b = (value(part, point) for part in parts)
    return {"<=": a <= b, ">=": a >= b, "<": a < b, ">": a > b, "=": a == b, "!=": a != b}[operator]


halves = st.sampled_from([Fraction(k, 2) for k in range(-1, 4)])
points = st.tuples(halves, halves, halves, halves)


@given(st.lists(conditions, min_size=1, max_size=2), st.lists(points, min_size=1, max_size=20))
def test_any_formula_means_what_its_tree_says(trees: list, chosen: list) -> None:
    try:
        p = unit("".join(f"(assert {written(tree)})\n" for tree in trees))
    except VacuousProperty:
        p = None
    for point in chosen:
        inside = all(0 <= v <= 1 for v in point[:2])
        expected = inside and all(truth(tree, point) for tree in trees)
        assert (p is not None and violates(p, point[:2], point[2:])) == expected


pieces = st.sampled_from(
    ["(", ")", "assert", "<=", ">=", "<", "or", "and", "not", "X_0", "Y_0", "X_7", "0.5", "-1e3",
     "1e99999", "(assert (<= X_0 1))", "(assert (>= X_0 0))", "+", "*", "-", "[1]", ";", '"', "\n",
     "declare-const", "(declare-const Z Real)"]
)  # fmt: skip


@given(st.lists(pieces, max_size=25), st.booleans())
def test_any_text_is_a_property_or_a_clear_error(parts: list[str], declared: bool) -> None:
    text = (declare(1, 1) if declared else "") + " ".join(parts)
    try:
        p = parse(text)
    except HullmarkError as error:
        assert str(error).startswith("test.vnnlib")
    else:
        assert p.input_size == 1
