"""The original network through onnxruntime: the judge of every counterexample."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from hullmark.errors import BadInput
from hullmark.network.ops import Array, Shape


class OnnxRunner:
    """Runs the bytes of a model on one core; the session is made at the first run.

    Arguments:
        data: a function that returns the serialized model, with all its weights.
        shape: of the input, a free batch axis as 1.
        free: whether several samples may go in one run.
        source: the file, for messages.

    Trust: a free batch axis is used only if the runtime gives the same on a batch as on its
    samples alone; otherwise samples run one by one.
    """

    def __init__(self, data: Callable[[], bytes], shape: Shape, free: bool, source: str) -> None:
        self._data, self._shape, self._source = data, shape, source
        self._batched: bool | None = None if free else False

    @cached_property
    def _session(self) -> Any:
        import onnxruntime as runtime

        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            return runtime.InferenceSession(
                self._data(), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises a dozen types of its own
            raise BadInput(f"{self._source}: onnxruntime: {_line(error)}") from None

    def run(self, x: Array) -> Array:
        """Outputs `(batch, output_size)` at `x`, `(batch, *input_shape)` of the model's type."""
        if len(x) > 1 and self._batched is None:
            self._batched = self._agrees(x[:2])
        if self._batched and len(x) > 1:
            return self._call(x.reshape(len(x), *self._shape[1:])).reshape(len(x), -1)
        return np.stack([self._call(sample.reshape(self._shape)).reshape(-1) for sample in x])

    def _agrees(self, pair: Array) -> bool:
        alone = np.stack([self._call(s.reshape(self._shape)).reshape(-1) for s in pair])
        try:
            together = self._call(pair.reshape(2, *self._shape[1:])).reshape(2, -1)
        except BadInput:
            return False
        if together.shape != alone.shape or not np.isfinite(alone).all():
            return False
        largest = float(np.abs(alone).max(initial=0.0))
        return bool(np.allclose(together, alone, rtol=1e-4, atol=1e-4 * largest))

    def _call(self, x: Array) -> Array:
        name = self._session.get_inputs()[0].name
        try:
            return np.asarray(self._session.run(None, {name: x})[0])
        except Exception as error:  # onnxruntime raises a dozen types of its own
            raise BadInput(f"{self._source}: onnxruntime: {_line(error)}") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
