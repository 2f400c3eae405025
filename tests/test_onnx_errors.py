"""Files that cannot be used: one clear line that names the file and the thing."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from test_onnx_operators import save, weights

from hullmark.errors import BadInput, HullmarkError, ParityError, Unsupported
from hullmark.network.model import Model, check_parity
from hullmark.network.onnx import load_onnx


def small(folder: Path) -> Path:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="first"),
        helper.make_node("Relu", ["m"], ["y"]),
    ]
    return save(folder, nodes, ["N", 4], {"w": weights(4, 3)}, 13)


def changed(folder: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    path = small(folder)
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def refused(path: Path, kind: type[HullmarkError], *words: str) -> None:
    with pytest.raises(kind) as caught:
        load_onnx(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in (path.name, *words):
        assert word in message


def test_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.onnx", BadInput, "no such file")
    for folder in (tmp_path, Path(), Path("/")):
        refused(folder, BadInput, "cannot be read")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
def test_truncated(tmp_path: Path, share: float) -> None:
    path = small(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BadInput, match=r"model\.onnx"):
        load_onnx(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.binary(max_size=200))
def test_random_bytes(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "random.onnx"
    path.write_bytes(data)
    with pytest.raises(BadInput, match=r"random\.onnx"):
        load_onnx(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.data())
def test_a_flipped_byte_never_escapes(tmp_path: Path, data: st.DataObject) -> None:
    path = small(tmp_path)
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content))
    try:
        model = load_onnx(path)
        check_parity(model, np.zeros(model.network.input_size), np.ones(model.network.input_size))
    except HullmarkError as error:
        assert "\n" not in str(error)


def test_empty_graph(tmp_path: Path) -> None:
    refused(changed(tmp_path, lambda m: m.graph.ClearField("node")), BadInput, "no nodes")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    def change(model: onnx.ModelProto) -> None:
        weight = weights(4, 3)
        weight[1, 2] = value
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w"))

    refused(changed(tmp_path, change), BadInput, "'w'", "NaN" if np.isnan(value) else "infinite")


def test_unsupported_operator(tmp_path: Path) -> None:
    node = helper.make_node("Erf", ["x"], ["y"], name="curve")
    refused(save(tmp_path, [node], ["N", 4], {}, 13), Unsupported, "'curve'", "Erf", "opset 13")


def test_unsupported_attribute(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"], name="n", bend=3)
    refused(save(tmp_path, [node], ["N", 4], {}, 13), Unsupported, "'n'", "'bend'")


def test_softmax_in_the_middle(tmp_path: Path) -> None:
    nodes = [helper.make_node("Softmax", ["x"], ["s"]), helper.make_node("Relu", ["s"], ["y"])]
    refused(save(tmp_path, nodes, ["N", 4], {}, 13), Unsupported, "softmax")


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    info = helper.make_tensor_value_info("z", TensorProto.FLOAT, [1])
    refused(changed(tmp_path, lambda m: m.graph.input.append(info)), Unsupported, "2 graph inputs")
    refused(changed(tmp_path, lambda m: m.graph.output.append(info)), Unsupported, "2 graph outp")
    refused(changed(tmp_path, lambda m: m.graph.ClearField("input")), Unsupported, "0 graph inputs")


def test_shapes_that_are_not_fixed(tmp_path: Path) -> None:
    path = save(tmp_path, [helper.make_node("Relu", ["x"], ["y"])], ["N", "C", 4], {}, 13)
    refused(path, Unsupported, "'x'", "axis 1")


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.FLOAT16, TensorProto.BOOL])
def test_inputs_of_other_types(tmp_path: Path, kind: int) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.elem_type = kind

    refused(changed(tmp_path, change), Unsupported, "'x'", TensorProto.DataType.Name(kind))


@pytest.mark.parametrize(
    ("version", "kind"), [(6, Unsupported), (99, Unsupported), (None, BadInput)]
)
def test_opsets(tmp_path: Path, version: int | None, kind: type[HullmarkError]) -> None:
    def change(model: onnx.ModelProto) -> None:
        if version is None:
            model.ClearField("opset_import")
        else:
            model.opset_import[0].version = version

    refused(changed(tmp_path, change), kind, str(version) if version else "none")


def test_custom_domain(tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node[0].domain = "com.example"

    refused(changed(tmp_path, change), Unsupported, "'first'", "com.example")


def test_dangling_names(tmp_path: Path) -> None:
    def reads(model: onnx.ModelProto) -> None:
        model.graph.node[0].input[1] = "nowhere"

    def yields(model: onnx.ModelProto) -> None:
        model.graph.output[0].name = "nowhere"

    refused(changed(tmp_path, reads), BadInput, "'first'", "'nowhere'")
    refused(changed(tmp_path, yields), BadInput, "'nowhere'")


def test_shapes_that_do_not_fit(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="n")],
        ["N", 4],
        {"w": weights(5, 3)},
        13,
    )
    refused(path, BadInput, "'n'", "(3, 5)")


@pytest.mark.parametrize("name", ["net.onnx", "net.onnx.gz"])
def test_gzip(tmp_path: Path, name: str) -> None:
    path = small(tmp_path)
    (tmp_path / "net.onnx.gz").write_bytes(gzip.compress(path.read_bytes()))
    model = load_onnx(tmp_path / name)
    check_parity(model, np.zeros(4), np.ones(4))


def test_damaged_gzip(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx.gz"
    for data in (b"no gzip", gzip.compress(small(tmp_path).read_bytes())[:-20]):
        path.write_bytes(data)
        refused(path, BadInput, "gzip")


def external(folder: Path, location: str, **more: str) -> Path:
    """The small network, its weight described as lying in a side file."""

    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in ({"location": location} | more).items():
            tensor.external_data.add(key=key, value=value)

    return changed(folder, change)


def test_weights_in_a_side_file(tmp_path: Path) -> None:
    data = weights(4, 3)
    (tmp_path / "side.bin").write_bytes(b"12345678" + data.tobytes() + b"rest")
    model = load_onnx(external(tmp_path, "side.bin", offset="8", length="48"))
    check_parity(model, -np.ones(4), np.ones(4))
    x = np.eye(4)
    np.testing.assert_array_equal(model.network.evaluate(x), np.maximum(data, 0))


def test_side_files_elsewhere_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(weights(4, 3).tobytes())
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "link.bin").symlink_to(secret)
    (inner / "folder").symlink_to(tmp_path)
    for location in ("../secret.bin", str(secret), "link.bin", "folder/secret.bin", "."):
        refused(external(inner, location), BadInput, "'w'", "outside")
    refused(external(inner, "none.bin"), BadInput, "'w'", "none.bin")
    (inner / "short.bin").write_bytes(b"1234")
    refused(external(inner, "short.bin", length="48"), BadInput, "too short")
    refused(external(inner, "short.bin"), BadInput, "'w'")
    refused(external(inner, "short.bin", offset="x"), BadInput, "damaged")


def test_parity_catches_a_wrong_import(tmp_path: Path) -> None:
    right = load_onnx(small(tmp_path))
    check_parity(right, -np.ones(4), np.ones(4))
    wrong = load_onnx(small(tmp_path))
    mixed = Model(wrong.network, right.original, right.dtype, right.source)
    with pytest.raises(ParityError, match=r"model.onnx.*output \d is"):
        check_parity(mixed, -np.ones(4), np.ones(4))


def test_parity_catches_a_small_difference(tmp_path: Path) -> None:
    weight = weights(4, 3)
    node = helper.make_node("Gemm", ["x", "w"], ["y"])
    right = load_onnx(save(tmp_path, [node], ["N", 4], {"w": weight}, 13))
    wrong = load_onnx(save(tmp_path, [node], ["N", 4], {"w": weight * np.float32(1.001)}, 13))
    with pytest.raises(ParityError):
        check_parity(
            Model(wrong.network, right.original, right.dtype, "f"), np.zeros(4), np.ones(4)
        )


def test_parity_catches_another_number_of_outputs(tmp_path: Path) -> None:
    right = load_onnx(small(tmp_path))
    node = helper.make_node("Relu", ["x"], ["y"])
    wrong = load_onnx(save(tmp_path, [node], ["N", 4], {}, 13))
    with pytest.raises(ParityError, match="outputs"):
        check_parity(
            Model(wrong.network, right.original, right.dtype, "f"), np.zeros(4), np.ones(4)
        )


def test_outputs_that_are_no_numbers(tmp_path: Path) -> None:
    node = helper.make_node("Reciprocal", ["x"], ["y"])
    model = load_onnx(save(tmp_path, [node], ["N", 2], {}, 13))
    with pytest.raises(ParityError, match="inf"):
        check_parity(model, np.zeros(2), np.ones(2))
    with pytest.raises(BadInput, match="bounded"):
        check_parity(model, np.zeros(2), np.array([1.0, np.inf]))
    with pytest.raises(BadInput, match="size"):
        check_parity(model, np.zeros(3), np.ones(3))
