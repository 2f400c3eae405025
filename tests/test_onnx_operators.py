"""Each ONNX operator against onnxruntime, over opsets and attributes."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hullmark.network.model import Model, check_parity
from hullmark.network.onnx import load_onnx

OPSETS = (7, 9, 11, 13, 17, 26)
RNG = np.random.default_rng(7)
Arrays = dict[str, np.ndarray]


def weights(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def save(
    folder: Path,
    nodes: list[onnx.NodeProto],
    shape: list[int | str],
    stored: Arrays,
    opset: int,
) -> Path:
    """A model from `x` of this shape to `y`, with stored weights."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, k) for k, v in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def same(path: Path, low: float = -2.0, high: float = 2.0) -> Model:
    """Load, and compare tightly with the original; five samples, so a free batch is batched."""
    model = load_onnx(path)
    size = model.network.input_size
    check_parity(model, np.full(size, low), np.full(size, high))
    x = RNG.uniform(low, high, (5, size)).astype(np.float32)
    ours = model.network.evaluate(x.astype(np.float64)).reshape(5, -1)
    theirs = model.replay(x)
    scale = max(1.0, float(np.abs(theirs).max()))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=3e-6 * scale)
    return model


def one(
    tmp_path: Path,
    op: str,
    shape: list[int | str],
    stored: Arrays,
    opset: int,
    **attributes: object,
) -> Model:
    node = helper.make_node(op, ["x", *stored], ["y"], name="n", **attributes)
    return same(save(tmp_path, [node], shape, stored, opset))


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


IMAGE: list[int | str] = ["N", 4, 7, 6]
CONVOLUTIONS = [
    ("Conv", IMAGE, (6, 4, 3, 2), {}),
    ("Conv", IMAGE, (6, 2, 3, 2), {"group": 2, "strides": [2, 1], "pads": [1, 0, 2, 1]}),
    ("Conv", IMAGE, (4, 1, 3, 3), {"group": 4, "dilations": [2, 1], "pads": [2, 2, 2, 2]}),
    ("Conv", IMAGE, (5, 4, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("Conv", IMAGE, (5, 4, 4, 4), {"auto_pad": "SAME_LOWER", "strides": [2, 3]}),
    ("Conv", IMAGE, (5, 4, 2, 2), {"auto_pad": "VALID"}),
    ("Conv", [1, 3, 9], (2, 3, 4), {"strides": [2], "pads": [1, 2]}),
    ("Conv", [1, 2, 4, 5, 3], (3, 2, 2, 2, 2), {"pads": [0, 1, 0, 1, 0, 1]}),
    ("ConvTranspose", IMAGE, (4, 5, 3, 2), {}),
    ("ConvTranspose", IMAGE, (4, 3, 3, 2), {"group": 2, "strides": [2, 3], "pads": [1, 0, 0, 1]}),
    ("ConvTranspose", IMAGE, (4, 2, 3, 3), {"strides": [2, 2], "output_padding": [1, 1]}),
    ("ConvTranspose", IMAGE, (4, 2, 3, 3), {"dilations": [2, 1], "pads": [3, 3, 3, 3]}),
    ("ConvTranspose", IMAGE, (4, 2, 3, 3), {"strides": [2, 2], "output_shape": [14, 13]}),
    ("ConvTranspose", IMAGE, (4, 2, 3, 3), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("ConvTranspose", IMAGE, (4, 2, 3, 3), {"strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    ("ConvTranspose", [1, 3, 5], (3, 2, 4), {"strides": [3], "pads": [1, 2]}),
]


@pytest.mark.parametrize("opset", [9, 13, 22])
@pytest.mark.parametrize("case", range(len(CONVOLUTIONS)))
def test_convolution(tmp_path: Path, case: int, opset: int) -> None:
    op, shape, kernel, attributes = CONVOLUTIONS[case]
    outputs = kernel[0] if op == "Conv" else kernel[1] * attributes.get("group", 1)
    stored = {"w": weights(*kernel), "b": weights(outputs)}
    if case % 2:
        del stored["b"]
    one(tmp_path, op, shape, stored, opset, **attributes)


POOLS = [
    ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}, 7),
    ("MaxPool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 1]}, 7),
    ("MaxPool", {"kernel_shape": [3, 2], "pads": [2, 0, 1, 1], "strides": [2, 3]}, 7),
    ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, 11),
    ("MaxPool", {"kernel_shape": [2, 3], "strides": [3, 4], "ceil_mode": 1}, 11),
    ("MaxPool", {"kernel_shape": [2, 2], "dilations": [3, 2]}, 11),
    ("MaxPool", {"kernel_shape": [2, 2], "strides": [4, 3], "ceil_mode": 1}, 11),
    ("MaxPool", {"kernel_shape": [2, 2], "dilations": [2, 2], "pads": [1, 1, 1, 1]}, 11),
    ("AveragePool", {"kernel_shape": [2, 2], "strides": [4, 3], "ceil_mode": 1}, 11),
    ("MaxPool", {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]}, 7),
    ("MaxPool", {"kernel_shape": [1, 1], "strides": [2, 2]}, 7),
    ("AveragePool", {"kernel_shape": [2, 3], "strides": [2, 1]}, 7),
    ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 2, 0, 1], "strides": [2, 2]}, 7),
    (
        "AveragePool",
        {"kernel_shape": [3, 3], "pads": [1, 2, 0, 1], "strides": [2, 2], "count_include_pad": 1},
        7,
    ),
    ("AveragePool", {"kernel_shape": [2, 4], "strides": [2, 4], "ceil_mode": 1}, 11),
    (
        "AveragePool",
        {
            "kernel_shape": [3, 3],
            "strides": [2, 2],
            "ceil_mode": 1,
            "pads": [1, 1, 1, 1],
            "count_include_pad": 1,
        },
        19,
    ),
    ("AveragePool", {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER"}, 7),
    ("AveragePool", {"kernel_shape": [2, 2], "dilations": [2, 3]}, 19),
    ("GlobalAveragePool", {}, 7),
    ("GlobalMaxPool", {}, 7),
]


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("case", range(len(POOLS)))
def test_pooling(tmp_path: Path, case: int, opset: int) -> None:
    op, attributes, since = POOLS[case]
    one(tmp_path, op, IMAGE, {}, max(opset, since), **attributes)


def test_max_pool_padding_never_wins(tmp_path: Path) -> None:
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3], pads=[2, 2])
    model = same(save(tmp_path, [node], [1, 1, 4], {}, 13), -3.0, -1.0)
    assert model.network.evaluate(np.array([[-1.0, -2.0, -3.0, -4.0]])).max() < 0


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("op", ["Relu", "Abs", "Neg", "Sigmoid", "Tanh", "Sign", "LeakyRelu"])
def test_elementwise(tmp_path: Path, op: str, opset: int) -> None:
    opset = max(opset, 9) if op == "Sign" else opset
    attributes = {"alpha": 0.3} if op == "LeakyRelu" else {}
    one(tmp_path, op, ["N", 3, 4], {}, opset, **attributes)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("slope", [(4,), (3, 1), (1,), (3, 4)])
def test_prelu(tmp_path: Path, slope: tuple[int, ...], opset: int) -> None:
    one(tmp_path, "PRelu", ["N", 3, 4], {"s": weights(*slope)}, opset)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("shape", [(), (4,), (3, 1), (1, 3, 4), (2, 3, 4), (2, 1, 1, 4)])
@pytest.mark.parametrize("left", [False, True])
def test_arithmetic_with_constants(
    tmp_path: Path, op: str, shape: tuple[int, ...], left: bool, opset: int
) -> None:
    constant = weights(*shape) + np.float32(3)
    names = ["c", "x"] if left else ["x", "c"]
    path = save(tmp_path, [helper.make_node(op, names, ["y"])], [1, 3, 4], {"c": constant}, opset)
    same(path, 0.5, 2.0)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Max", "Min"])
def test_arithmetic_with_broadcasting(tmp_path: Path, op: str) -> None:
    stored = {"w": weights(3, 3)}
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["r"], keepdims=1, axes=[2]),
        helper.make_node("MatMul", ["w", "x"], ["m"]),
        helper.make_node(op, ["m", "r"], ["y"]),
    ]
    same(save(tmp_path, nodes, ["N", 3, 4], stored, 11), 0.5, 2.0)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("op", ["Max", "Min", "Sum", "Mean"])
def test_several_operands(tmp_path: Path, op: str, opset: int) -> None:
    stored = {"w": weights(4, 4), "c": weights(1, 4), "d": weights(1, 4)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node(op, ["c", "x", "m", "d"], ["y"]),
    ]
    same(save(tmp_path, nodes, ["N", 4], stored, opset))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("bounds", [(0.0, 6.0), (-0.5, 0.7), (None, 0.3), (-1.0, None)])
def test_clip(tmp_path: Path, bounds: tuple[float | None, float | None], opset: int) -> None:
    if opset < 11:
        named = {k: b for k, b in zip(("min", "max"), bounds, strict=True) if b is not None}
        one(tmp_path, "Clip", ["N", 5], {}, opset, **named)
        return
    stored = {
        k: np.array(b, dtype=np.float32)
        for k, b in zip(("low", "high"), bounds, strict=True)
        if b is not None
    }
    names = [k if k in stored else "" for k in ("low", "high")]
    same(save(tmp_path, [helper.make_node("Clip", ["x", *names], ["y"])], ["N", 5], stored, opset))


GEMMS = [
    {},
    {"transB": 1},
    {"alpha": 0.3, "beta": 1.7},
    {"transB": 1, "alpha": -2.0, "beta": 0.0},
]


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("case", range(len(GEMMS)))
@pytest.mark.parametrize("bias", [(5,), (1, 5), (1,), None])
def test_gemm(tmp_path: Path, case: int, bias: tuple[int, ...] | None, opset: int) -> None:
    attributes = GEMMS[case]
    stored = {"w": weights(5, 4) if "transB" in attributes else weights(4, 5)}
    if bias is not None:
        stored["b"] = weights(*bias)
    elif opset < 11:
        pytest.skip("the bias was not optional before opset 11")
    one(tmp_path, "Gemm", ["N", 4], stored, opset, **attributes)


def test_gemm_with_the_network_on_the_right(tmp_path: Path) -> None:
    stored = {"w": weights(4, 3), "b": weights(3, 5)}
    node = helper.make_node("Gemm", ["w", "x", "b"], ["y"], transA=1, transB=1)
    same(save(tmp_path, [node], [5, 4], stored, 13))


MATMULS: list[tuple[list[int | str], tuple[int, ...], bool]] = [
    (["N", 4], (4, 3), False),
    (["N", 2, 4], (4, 3), False),
    (["N", 2, 4], (1, 4, 3), False),
    (["N", 2, 4], (4,), False),
    ([4], (4, 3), False),
    ([4], (3, 4), True),
    (["N", 4, 3], (5, 4), True),
    ([1, 4, 3], (4,), True),
    ([2, 3, 4], (2, 4, 3), False),
    ([5, 4], (4, 3), False),
    ([4], (1, 4, 3), False),
    (["N", 4, 3], (1, 5, 4), True),
]


@pytest.mark.parametrize("case", range(len(MATMULS)))
def test_matmul(tmp_path: Path, case: int) -> None:
    shape, other, left = MATMULS[case]
    names = ["w", "x"] if left else ["x", "w"]
    node = helper.make_node("MatMul", names, ["y"])
    same(save(tmp_path, [node], shape, {"w": weights(*other)}, 13))


def test_matmul_of_two_computed_values(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["x", "t"], ["y"]),
    ]
    same(save(tmp_path, nodes, ["N", 3, 4], {}, 13))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("shape", [["N", 3], ["N", 3, 4], ["N", 3, 4, 2]])
def test_batch_norm(tmp_path: Path, shape: list[int | str], opset: int) -> None:
    stored = {"s": weights(3), "b": weights(3), "m": weights(3), "v": np.abs(weights(3)) + 0.1}
    one(tmp_path, "BatchNormalization", shape, stored, opset, epsilon=1e-3)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"])
@pytest.mark.parametrize("axes", [(1,), (-1,), (2, 3), (1, 3), None])
@pytest.mark.parametrize("keep", [0, 1])
def test_reductions(
    tmp_path: Path, op: str, axes: tuple[int, ...] | None, keep: int, opset: int
) -> None:
    as_operand = opset >= (13 if op == "ReduceSum" else 18)
    stored = {"a": ints(*axes)} if as_operand and axes is not None else {}
    named = {"axes": axes} if not as_operand and axes is not None else {}
    one(tmp_path, op, [1, 3, 2, 4], stored, opset, keepdims=keep, **named)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("axis", [1, 2, -1])
def test_softmax_at_the_end(tmp_path: Path, axis: int, opset: int) -> None:
    axis = 2 if axis < 0 and opset < 11 else axis
    one(tmp_path, "Softmax", [1, 3, 4], {}, opset, axis=axis)


@pytest.mark.parametrize("exponent", [1.0, 2.0])
def test_power(tmp_path: Path, exponent: float) -> None:
    one(tmp_path, "Pow", ["N", 3], {"e": np.array(exponent, dtype=np.float32)}, 13)


def test_where_with_a_constant_condition(tmp_path: Path) -> None:
    stored = {"m": np.array([True, False, True]), "c": weights(1, 3)}
    nodes = [helper.make_node("Where", ["m", "x", "c"], ["y"])]
    same(save(tmp_path, nodes, ["N", 3], stored, 13))


def test_hard_sigmoid_and_cast(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["d"], to=TensorProto.DOUBLE),
        helper.make_node("Cast", ["d"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("HardSigmoid", ["f"], ["y"], alpha=0.4, beta=0.3),
    ]
    same(save(tmp_path, nodes, ["N", 3], {}, 13))
