"""Files that are written: read back, they say the same, to the last digit."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hullmark.errors import BadInput
from hullmark.network.onnx import load_onnx
from hullmark.network.onnx.write import write_onnx
from hullmark.spec.load import load_property
from hullmark.spec.property import Case, Constraint
from hullmark.spec.sets import Box
from hullmark.spec.write import decimal, write_vnnlib

LAYERS = [([[1, -2], [3, 0.5], [0, 1]], [0, 0.25, -1]), ([[1, 2, Fraction(1, 8)]], [4])]
WIDE = [*LAYERS[:1], ([[1, 2, 0.1]], [4])]
DECIMALS = st.builds(
    lambda n, k: Fraction(n, 10**k), st.integers(-(10**9), 10**9), st.integers(0, 12)
)


@pytest.mark.parametrize("activation", ["Relu", "Tanh", "Sigmoid"])
@pytest.mark.parametrize(("layers", "kind"), [(LAYERS, np.float32), (WIDE, np.float64)])
def test_networks_are_read_back_as_they_were(
    layers: Any, kind: Any, activation: str, tmp_path: Path
) -> None:
    path = tmp_path / "net.onnx"
    write_onnx(path, layers, activation)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    model = load_onnx(path)
    assert model.dtype == kind
    x = np.random.default_rng(0).uniform(-2, 2, (50, 2)).astype(kind)
    hidden = x.astype(np.float64) @ np.array(layers[0][0], float).T + layers[0][1]
    curves = {
        "Relu": np.maximum(hidden, 0),
        "Tanh": np.tanh(hidden),
        "Sigmoid": 1 / (1 + np.exp(-hidden)),
    }
    expected = curves[activation] @ np.array(layers[1][0], float).T + layers[1][1]
    # The original runs in its own precision; outputs are below 64.
    assert np.abs(model.replay(x) - expected).max() < 64 * 16 * np.finfo(kind).eps
    assert np.abs(model.network.evaluate(x.astype(np.float64)) - expected).max() < 1e-12
    stored = [onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer]
    numbers = [Fraction(v) for array in stored for v in array.ravel().tolist()]
    given_ = [Fraction(v) for w, b in layers for v in [*np.ravel(np.array(w, object)), *b]]
    assert numbers == given_


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_onnx(tmp_path / name, LAYERS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    write_onnx(tmp_path / "c", WIDE)
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


@pytest.mark.parametrize(
    ("layers", "activation", "message"),
    [
        ([], "Relu", "at least one layer"),
        (LAYERS, "relu", "'relu' is none of Relu, Tanh, Sigmoid"),
        ([([[Fraction(1, 3)]], [0])], "Relu", "weight of layer 0: 1/3 is no float64"),
        (
            [([[1]], [10**400])],
            "Relu",
            "bias of layer 0: a number of over 60 figures",
        ),
        ([([[1]], [float("inf")])], "Relu", "bias of layer 0 is no array of finite numbers"),
        ([([[1]], [0]), ([[1, 1]], [0])], "Relu", "layer 1 reads 2 values"),
        ([([[1, 1]], [0, 0])], "Relu", "layer 0 has a weight of shape"),
        ([([1], [0])], "Relu", "layer 0 has a weight of shape"),
        ([([[1], [1, 2]], [0, 0])], "Relu", "weight of layer 0"),
    ],
)
def test_networks_that_cannot_be_written(
    layers: Any, activation: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=message):
        write_onnx(tmp_path / "net.onnx", layers, activation)
    assert not (tmp_path / "net.onnx").exists()


def test_files_in_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be written"):
        write_onnx(tmp_path / "none" / "net.onnx", LAYERS)
    with pytest.raises(BadInput, match="cannot be written"):
        write_vnnlib(tmp_path / "none" / "a.vnnlib", Case(Box([0], [1]), (), 1))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    inputs, outputs = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    ends = [sorted(draw(st.tuples(DECIMALS, DECIMALS))) for _ in range(inputs)]
    box = Box([a for a, _ in ends], [b for _, b in ends])
    scales = st.one_of(st.sampled_from([Fraction(1), Fraction(-1)]), DECIMALS)
    # One about outputs each: those about single inputs would be read as part of the box.
    constraints = [
        Constraint.of(
            draw(st.dictionaries(st.integers(0, inputs - 1), scales, max_size=2)),
            {draw(st.integers(0, outputs - 1)): draw(scales.filter(bool))},
            draw(DECIMALS),
            strict=draw(st.booleans()),
        )
        for _ in range(draw(st.integers(1, 3)))
    ]
    return Case(box, tuple(constraints), outputs)


@given(cases())
@settings(max_examples=60)
def test_properties_are_read_back_as_they_were(tmp_path_factory: Any, case: Case) -> None:
    path = tmp_path_factory.mktemp("written") / "prop.vnnlib"
    write_vnnlib(path, case)
    read = load_property(path)
    assert (read.input_size, read.output_size) == (case.box.size, case.output_size)
    [found] = read.cases
    assert [Fraction(v) for v in found.box.exact_lower] == list(case.box.exact_lower)
    assert [Fraction(v) for v in found.box.exact_upper] == list(case.box.exact_upper)
    assert found.constraints == case.constraints


@given(DECIMALS)
def test_decimals_are_exact(value: Fraction) -> None:
    assert Fraction(decimal(value)) == value
    assert "e" not in decimal(value).lower()


def test_decimals_of_floats_and_of_what_has_none() -> None:
    for value in (0.1, 5e-324, 1e300, -2.5, -0.0, 1e-7):
        assert Fraction(decimal(Fraction(value))) == Fraction(value)
    assert [decimal(Fraction(v)) for v in (0, -3, 120, Fraction(-1, 20), Fraction(5, 2))] == [
        "0",
        "-3",
        "120",
        "-0.05",
        "2.5",
    ]
    with pytest.raises(BadInput, match="1/3 has no finite decimal"):
        decimal(Fraction(1, 3))


def test_the_form_that_others_read(tmp_path: Path) -> None:
    path = tmp_path / "prop.vnnlib"
    low = Constraint.of({}, {1: -1}, Fraction(1, 2), strict=True)
    both = Constraint.of({0: 2}, {0: 1, 1: Fraction(-1, 4)}, 3)
    write_vnnlib(path, Case(Box([-1], [0.5]), (low, both), 2))
    assert path.read_text().splitlines() == [
        "(declare-const X_0 Real)",
        "(declare-const Y_0 Real)",
        "(declare-const Y_1 Real)",
        "(assert (>= X_0 -1))",
        "(assert (<= X_0 0.5))",
        "(assert (> Y_1 -0.5))",
        "(assert (<= (+ (* 2 X_0) Y_0 (* -0.25 Y_1)) 3))",
    ]


def test_numbers_too_long_to_be_told_are_refused_in_a_line() -> None:
    """Python refuses to write integers of over 4300 digits."""
    for value in (Fraction(2) ** 20000, Fraction(1, 2**20000), Fraction(10**5000, 3)):
        with pytest.raises(BadInput, match=r"a number (of over|has over)"):
            decimal(value)
    with pytest.raises(BadInput, match=r"a number of over 60 figures is no float64"):
        write_onnx("unused.onnx", [([[Fraction(10**80 + 1, 3 * 10**79)]], [0])])
