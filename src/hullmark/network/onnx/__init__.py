"""The ONNX front end: files to a `Network`, and the original through onnxruntime."""

from hullmark.network.onnx.load import load_onnx

__all__ = ["load_onnx"]
