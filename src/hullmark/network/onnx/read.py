"""Reading an ONNX file: bytes, structure, weights in side files. Nothing here knows operators."""

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx import numpy_helper

from hullmark.errors import BadInput, Unsupported
from hullmark.network.ops import Array, Shape

OLDEST_OPSET = 7
FLOATS: dict[int, np.dtype[Any]] = {
    onnx.TensorProto.FLOAT: np.dtype(np.float32),
    onnx.TensorProto.DOUBLE: np.dtype(np.float64),
}


def read_model(path: Path) -> onnx.ModelProto:
    """Parse a file, plain or gzipped, and pull weights in side files into the model.

    Raises:
        BadInput: if there is no such file, it is not an ONNX model, or a side file is missing
            or lies outside the folder of the model.
    """
    data = _read_bytes(path)
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError):
        raise BadInput(f"{path}: not an ONNX file, or a damaged one") from None
    if not model.graph.node:
        raise BadInput(f"{path}: the file holds no network (its graph has no nodes)")
    for tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _embed(tensor, path)
    return model


def opset(model: onnx.ModelProto, path: Path) -> int:
    """The version of the standard operators that the model asks for."""
    versions = {o.version for o in model.opset_import if o.domain in ("", "ai.onnx")}
    if len(versions) != 1:
        found = ", ".join(map(str, sorted(versions))) or "none"
        raise BadInput(f"{path}: needs one version of the standard operators, found {found}")
    version = versions.pop()
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= version <= newest:
        raise Unsupported(f"{path}: opset {version}; known are {OLDEST_OPSET} to {newest}")
    return version


def to_array(tensor: onnx.TensorProto, path: Path, what: str) -> Array:
    """The values of a tensor.

    Raises:
        BadInput: if the data do not fit the declared shape and type.
        Unsupported: if the type is none that numpy has.
    """
    try:
        value = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(f"{path}: {what} {tensor.name!r} is damaged: {error}") from None
    if value.dtype.kind not in "fiub":
        raise Unsupported(f"{path}: {what} {tensor.name!r} has element type {value.dtype}")
    return value


def numpy_type(code: int) -> np.dtype[Any]:
    """The numpy type for an ONNX element type.

    Raises:
        Unsupported: if numpy has none.
    """
    try:
        found = onnx.helper.tensor_dtype_to_np_dtype(code)
    except KeyError:
        raise Unsupported(f"element type {code}") from None
    if found.kind not in "fiub":
        raise Unsupported(f"element type {found}")
    return found


def declared(info: onnx.ValueInfoProto, path: Path) -> tuple[np.dtype[np.floating], Shape, bool]:
    """Type and shape of the input, and whether its first axis is free.

    Returns:
        The type; the shape, with 1 for a free batch axis; whether the batch axis is free.

    Raises:
        Unsupported: if it is not a float32 or float64 tensor of known size beyond the batch.
    """
    kind = info.type.tensor_type
    where = f"{path}: input {info.name!r}"
    if not info.type.HasField("tensor_type") or kind.elem_type not in FLOATS:
        names = {code: name for name, code in onnx.TensorProto.DataType.items()}
        found = names.get(kind.elem_type, "UNDEFINED")
        raise Unsupported(f"{where} has element type {found}; known are FLOAT and DOUBLE")
    if not kind.HasField("shape"):
        raise Unsupported(f"{where} has no shape")
    sizes = [max(d.dim_value, 0) for d in kind.shape.dim]
    free = bool(sizes) and sizes[0] == 0
    if free:
        sizes[0] = 1
    if 0 in sizes:
        raise Unsupported(f"{where} has a size that is not fixed, on axis {sizes.index(0)}")
    return FLOATS[kind.elem_type], tuple(sizes), free


def _read_bytes(path: Path) -> bytes:
    zipped = Path(f"{path}.gz")
    source = zipped if not path.exists() and zipped.exists() else path
    try:
        data = source.read_bytes()
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
    if source.suffix != ".gz":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        raise BadInput(f"{source}: not a gzip file, or a damaged one") from None


def _tensors(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    found = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                found.append(attribute.t)
    return found


def _embed(tensor: onnx.TensorProto, path: Path) -> None:
    """Read a tensor's side file, which must lie in the model's own folder, links resolved."""
    entries = {e.key: e.value for e in tensor.external_data}
    location = entries.get("location", "")
    where = f"{path}: the side file {location!r} of weight {tensor.name!r}"
    folder = path.parent.resolve()
    try:
        side = (folder / location).resolve()
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", -1))
        if Path(location).is_absolute() or folder not in side.parents or offset < 0:
            raise BadInput(f"{where} lies outside the model's folder")
        with side.open("rb") as file:
            file.seek(offset)
            data = file.read(length if length >= 0 else -1)
    except OSError as error:
        raise BadInput(f"{where} cannot be read: {error.strerror}") from None
    except ValueError:
        raise BadInput(f"{where} has a damaged description") from None
    if length >= 0 and len(data) != length:
        raise BadInput(f"{where} is too short")
    del tensor.external_data[:]
    tensor.data_location = onnx.TensorProto.DEFAULT
    tensor.raw_data = data


def serialize(model: onnx.ModelProto, path: Path) -> bytes:
    """The model with all its weights, as the runtime takes it."""
    try:
        return model.SerializeToString()
    except (EncodeError, ValueError):
        raise Unsupported(f"{path}: larger than 2 GB with its side files") from None
