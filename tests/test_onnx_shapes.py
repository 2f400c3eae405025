"""Operators that move entries, shape arithmetic, and what counts as the batch."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from test_onnx_operators import OPSETS, ints, one, same, save, weights

from hullmark.network.model import check_parity
from hullmark.network.onnx import load_onnx


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("target", [(1, -1), (-1, 24), (0, -1), (1, 4, 6), (-1, 2, 0, 2)])
def test_reshape(tmp_path: Path, target: tuple[int, ...], opset: int) -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "t"], ["r"]),
        helper.make_node("Relu", ["r"], ["y"]),
    ]
    same(
        save(
            tmp_path,
            nodes,
            ["N", 2, 4, 3] if target[-1] != 2 else [1, 2, 6, 2],
            {"t": ints(*target)},
            opset,
        )
    )


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_flatten(tmp_path: Path, axis: int) -> None:
    one(tmp_path, "Flatten", [1, 2, 3, 2], {}, 13, axis=axis)


@pytest.mark.parametrize("perm", [(0, 2, 3, 1), (0, 3, 1, 2), (3, 2, 1, 0), None])
def test_transpose(tmp_path: Path, perm: tuple[int, ...] | None) -> None:
    named = {} if perm is None else {"perm": perm}
    one(tmp_path, "Transpose", [1, 2, 3, 4], {}, 13, **named)


@pytest.mark.parametrize("opset", OPSETS)
def test_squeeze_away_the_batch_and_back(tmp_path: Path, opset: int) -> None:
    nodes = [
        helper.make_node("Squeeze", ["x"], ["s"], axes=[0])
        if opset < 13
        else helper.make_node("Squeeze", ["x", "a"], ["s"]),
        helper.make_node("MatMul", ["w", "s"], ["m"]),
        helper.make_node("Unsqueeze", ["m"], ["y"], axes=[0])
        if opset < 13
        else helper.make_node("Unsqueeze", ["m", "a"], ["y"]),
    ]
    stored = {"w": weights(3, 4)} | ({"a": ints(0)} if opset >= 13 else {})
    same(save(tmp_path, nodes, [1, 4], stored, opset))


SLICES = [
    ((1,), (3,), (2,), (1,)),
    ((-1,), (-100,), (2,), (-2,)),
    ((0, 1), (2, 2**62), (1, 2), (1, 2)),
    ((3,), (0,), (-1,), (-1,)),
]


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("case", range(len(SLICES)))
def test_slice(tmp_path: Path, case: int, opset: int) -> None:
    starts, ends, axes, steps = SLICES[case]
    if opset >= 10:
        stored = {"s": ints(*starts), "e": ints(*ends), "a": ints(*axes), "t": ints(*steps)}
        one(tmp_path, "Slice", ["N", 3, 5], stored, opset)
    elif min(steps) == max(steps) == 1:
        one(tmp_path, "Slice", ["N", 3, 5], {}, opset, starts=starts, ends=ends, axes=axes)


@pytest.mark.parametrize("indices", [ints(2, 0, -1), np.array(1), np.array([[0, 1], [2, 2]])])
@pytest.mark.parametrize("axis", [1, -1])
def test_gather(tmp_path: Path, indices: np.ndarray, axis: int) -> None:
    one(tmp_path, "Gather", ["N", 3, 4], {"i": indices}, 13, axis=axis)


@pytest.mark.parametrize("opset", OPSETS)
def test_split_and_concat(tmp_path: Path, opset: int) -> None:
    stored = {"c": weights(1, 2)}
    if opset < 13:
        split = helper.make_node("Split", ["x"], ["a", "b"], axis=1, split=[2, 4])
    else:
        stored["l"] = ints(2, 4)
        split = helper.make_node("Split", ["x", "l"], ["a", "b"], axis=1)
    named = {"num_outputs": 2} if opset >= 18 else {}
    nodes = [
        split,
        helper.make_node("Split", ["b"], ["p", "q"], axis=1, **named),
        helper.make_node("Concat", ["q", "c", "a", "p"], ["y"], axis=1),
    ]
    same(save(tmp_path, nodes, [1, 6], stored, opset))


def test_concat_of_other_axes(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Concat", ["x", "r"], ["a"], axis=-1),
        helper.make_node("Concat", ["a", "a"], ["y"], axis=0),
    ]
    same(save(tmp_path, nodes, [1, 3, 2], {}, 13))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("value", [0.0, 1.5])
@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_pad(tmp_path: Path, mode: str, value: float, opset: int) -> None:
    pads = (0, 0, 1, 2, 0, 0, 2, 0)
    if opset < 11:
        one(tmp_path, "Pad", ["N", 2, 4, 5], {}, opset, pads=pads, value=value, mode=mode)
    else:
        stored = {"p": ints(*pads), "v": np.array(value, dtype=np.float32)}
        one(tmp_path, "Pad", ["N", 2, 4, 5], stored, opset, mode=mode)


def test_pad_before_a_convolution_is_merged(tmp_path: Path) -> None:
    stored = {"p": ints(0, 0, 1, 2, 0, 0, 2, 0), "w": weights(3, 2, 3, 3)}
    nodes = [
        helper.make_node("Pad", ["x", "p"], ["a"]),
        helper.make_node("Conv", ["a", "w"], ["y"], pads=[1, 1, 1, 1]),
    ]
    assert len(same(save(tmp_path, nodes, ["N", 2, 5, 5], stored, 13)).network.nodes) == 2


@pytest.mark.parametrize("op", ["DepthToSpace", "SpaceToDepth"])
def test_space_and_depth(tmp_path: Path, op: str) -> None:
    one(tmp_path, op, ["N", 8, 4, 6], {}, 13, blocksize=2)


def test_expand_and_tile(tmp_path: Path) -> None:
    stored = {"s": ints(1, 3, 4), "r": ints(1, 2, 1)}
    nodes = [
        helper.make_node("Expand", ["x", "s"], ["e"]),
        helper.make_node("Tile", ["e", "r"], ["y"]),
    ]
    same(save(tmp_path, nodes, ["N", 1, 4], stored, 13))


@pytest.mark.parametrize("opset", OPSETS)
def test_shape_arithmetic_folds(tmp_path: Path, opset: int) -> None:
    """The usual export of `x.view(x.size(0), -1)`, and a constant made from a shape."""
    zero, minus = helper.make_tensor("z", 7, [1], [0]), helper.make_tensor("m", 7, [1], [-1])
    fill = helper.make_tensor("f", TensorProto.FLOAT, [1], [0.25])
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Constant", [], ["z"], value=zero),
        helper.make_node("Constant", [], ["m"], value=minus),
        helper.make_node("Gather", ["s", "z"], ["b"], axis=0),
        helper.make_node("Concat", ["b", "m"], ["t"], axis=0),
        helper.make_node("Reshape", ["x", "t"], ["r"]),
    ]
    if opset >= 9:
        nodes += [
            helper.make_node("Shape", ["r"], ["rs"]),
            helper.make_node("ConstantOfShape", ["rs"], ["c"], value=fill),
            helper.make_node("Mul", ["r", "c"], ["y"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["r"], ["y"]))
    same(save(tmp_path, nodes, ["N", 2, 3], {}, opset))


def test_constants_are_computed(tmp_path: Path) -> None:
    stored = {"v": np.abs(weights(4)) + 1, "e": np.array(1e-3, dtype=np.float32)}
    nodes = [
        helper.make_node("Add", ["v", "e"], ["ve"]),
        helper.make_node("Sqrt", ["ve"], ["s"]),
        helper.make_node("Div", ["x", "s"], ["y"]),
    ]
    same(save(tmp_path, nodes, ["N", 4], stored, 13))


def test_dropout_is_off(tmp_path: Path) -> None:
    node = helper.make_node("Dropout", ["x"], ["y", "mask"])
    same(save(tmp_path, [node], ["N", 4], {}, 13))


@pytest.mark.parametrize(
    ("shape", "inner"),
    [
        ([5], (5,)),
        ([1], (1,)),
        (["N"], (1,)),
        ([3, 2], (3, 2)),
        ([1, 3, 2], (3, 2)),
        ([1, 1], (1,)),
    ],
)
def test_what_counts_as_the_batch(
    tmp_path: Path, shape: list[int | str], inner: tuple[int, ...]
) -> None:
    model = same(save(tmp_path, [helper.make_node("Relu", ["x"], ["y"])], shape, {}, 13))
    assert model.network.input_shape == inner


def test_a_batch_that_mixes_is_run_one_by_one(tmp_path: Path) -> None:
    """The mean over the batch is nothing for one sample, which is how the network is read."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
        helper.make_node("Add", ["x", "m"], ["y"]),
    ]
    model = same(save(tmp_path, nodes, ["N", 3], {}, 13))
    x = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(model.replay(x), 2 * x)


def test_a_network_that_does_nothing(tmp_path: Path) -> None:
    same(save(tmp_path, [helper.make_node("Identity", ["x"], ["y"])], ["N", 3], {}, 13))


def test_a_constant_network(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Sub", ["x", "x"], ["z"]),
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("ConstantOfShape", ["s"], ["y"]),
    ]
    model = load_onnx(save(tmp_path, nodes, [1, 3], {}, 13))
    assert not model.network.evaluate(np.ones((2, 3))).any()


def test_double_precision(tmp_path: Path) -> None:
    weight = np.random.default_rng(2).normal(size=(3, 4))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Relu", ["m"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, ["N", 4])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (tmp_path / "double.onnx").write_bytes(model.SerializeToString())
    loaded = load_onnx(tmp_path / "double.onnx")
    assert loaded.dtype == np.float64
    assert check_parity(loaded, -np.ones(3), np.ones(3)) < 1e-14
