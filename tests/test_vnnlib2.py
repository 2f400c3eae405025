"""VNN-LIB 2.0: one network with one input and one output tensor."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from hullmark.errors import BadInput, Unsupported
from hullmark.spec.load import load_property
from hullmark.spec.property import Property
from hullmark.spec.sexpr import Source
from hullmark.spec.vnnlib2 import parse_vnnlib2

HEAD = """; a comment (
(vnnlib-version <2.0>)
(declare-network f
    (declare-input  X float32 [1, 2,2])
    (declare-output Y Real [1,3] "logits")
)
"""
BOX = "".join(
    f"(assert (>= X[0,{i},{j}] 0))\n(assert (<= X [0, {i}, {j}] 1e0))\n"
    for i in range(2)
    for j in range(2)
)


def parse(text: str, *sizes: int) -> Property:
    return parse_vnnlib2(Source("test.vnnlib", text), *sizes)


def test_elements_are_numbered_in_row_major_order() -> None:
    p = parse(
        HEAD + BOX + "(assert (<= X[0,1,0] 2.5e-1))(assert (<= (* -2.0 Y[0,2]) Y [0,1]))", 4, 3
    )
    (case,) = p.cases
    assert [float(v) for v in case.box.upper] == [1, 1, 0.25, 1]
    assert case.constraints[0].y == ((1, Fraction(-1)), (2, Fraction(-2)))


def test_both_versions_of_a_property_agree(tmp_path: Path) -> None:
    one = "".join(f"(declare-const X_{i} Real)\n" for i in range(4))
    one += "".join(f"(declare-const Y_{i} Real)\n" for i in range(3))
    one += "".join(f"(assert (>= X_{i} 0))(assert (<= X_{i} 1))" for i in range(4))
    one += "(assert (or (and (>= X_3 0.1) (< Y_0 0.3)) (and (>= Y_1 Y_2) (= Y_0 (+ X_0 1e-1)))))"
    two = (
        HEAD
        + BOX
        + (
            "(assert (or (and (>= X[0,1,1] 0.1) (< Y[0,0] 0.3))"
            " (and (>= Y[0,1] Y[0,2]) (== Y[0,0] (+ X[0,0,0] 1e-1)))))"
        )
    )
    (tmp_path / "one.vnnlib").write_text(one)
    (tmp_path / "two.vnnlib").write_text(two)
    first, second = (load_property(tmp_path / f"{n}.vnnlib", 4, 3) for n in ("one", "two"))
    assert [c.constraints for c in first.cases] == [c.constraints for c in second.cases]
    for a, b in zip(first.cases, second.cases, strict=True):
        assert [Fraction(v) for v in a.box.exact_lower] == [Fraction(v) for v in b.box.exact_lower]
        assert [Fraction(v) for v in a.box.exact_upper] == [Fraction(v) for v in b.box.exact_upper]


@pytest.mark.parametrize("name", ["X", "X[]", "X []"])
def test_scalars(name: str) -> None:
    p = parse(
        "(vnnlib-version <2.0>)(declare-network f (declare-input X float64 [])"
        f"(declare-output Out_1 real []))(assert (and (<= 0 {name}) (<= {name} 1)))"
        "(assert (!= Out_1 0.5))"
    )
    assert (p.input_size, p.output_size, len(p.cases)) == (1, 1, 2)
    assert not p.violated(np.array([0.5]), np.array([0.5]))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (HEAD + BOX + "(assert (<= Y[0,3] 1))", BadInput, r"line 15: Y\[0,3\] lies outside"),
        (HEAD + BOX + "(assert (<= Y[3] 1))", BadInput, r"line 15: Y\[3\] has 1 indices"),
        (HEAD + BOX + "(assert (<= Y 1))", BadInput, "line 15: Y has 0 indices"),
        (HEAD + BOX + "(assert (<= Z[0,0] 1))", BadInput, r"line 15: Z\[0,0\] is not declared"),
        (HEAD + BOX + "(assert (<= (+ Y[0,,1] 1) 1))", BadInput, "line 15: .*not a list"),
        (HEAD + BOX + "(assert (<= (* Y[0,1] Y[0,0]) 1))", BadInput, "line 15: .*not linear"),
        (HEAD + HEAD, Unsupported, "only one network"),
        ("(vnnlib-version <1.0>)", Unsupported, "line 1: VNN-LIB <1.0>"),
        ("(vnnlib-version)", BadInput, "line 1"),
        ("(declare-network f (declare-input X int8 [1]))", Unsupported, "X has the type int8"),
        ('(declare-network f (declare-hidden Z real [1] "z"))', Unsupported, "declare-hidden"),
        ("(declare-network f (equal-to g))", Unsupported, "equal-to"),
        ("(declare-network f (isomorphic-to g))", Unsupported, "isomorphic-to"),
        ("(declare-network f (declare-input X real))", BadInput, "name, type and shape"),
        ("(declare-network f (declare-input X real [a]))", BadInput, "name, type and shape"),
        ("(declare-network f (declare-input X real [1,,2]))", BadInput, "list of indices"),
        ("(declare-network f (declare-input X real [1,0]))", BadInput, "0 elements"),
        ("(declare-network f (declare-input X real [99999,99999]))", BadInput, "elements"),
        (
            "(declare-network f (declare-input X real [1]) (declare-input W real [1]))",
            Unsupported,
            "one input tensor",
        ),
        (
            "(declare-network f (declare-input X real [1]) (declare-output X real [1]))",
            BadInput,
            "X is declared twice",
        ),
        ("(declare-network f (declare-input X real [1]))", BadInput, "no output is declared"),
        ("(declare-network f 3)", BadInput, "expected"),
        ("(declare-network)", BadInput, "takes a name"),
        ("(declare-const X_0 Real)", Unsupported, "'declare-const'"),
        (HEAD, BadInput, "X_0 has no lower bound"),
    ],
)
def test_errors_name_the_line(text: str, error: type, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        parse(text)
    assert type(caught.value) is error
    assert str(caught.value).startswith("test.vnnlib")


def test_the_property_must_fit_the_network() -> None:
    with pytest.raises(BadInput, match="the declared input has 4 elements, but the network has 5"):
        parse(HEAD + BOX, 5, 3)
    with pytest.raises(BadInput, match="the declared output has 3 elements, but the network has 2"):
        parse(HEAD + BOX, 4, 2)
