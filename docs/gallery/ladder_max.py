"""The bounds of every relaxation of the maximum of four inputs."""

import tempfile
from pathlib import Path

from matplotlib.figure import Figure

import hullmark as hm
from hullmark.network.onnx.write import write_onnx
from hullmark.theory.encodings import nested_max

BOX = [0] * 4, [1] * 4


def picture() -> Figure:
    """The chain that takes one input after the other, on the unit cube."""
    net = nested_max(4, *BOX)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "max.onnx"
        hidden = [(layer.weight, layer.bias) for layer in net.layers]
        write_onnx(path, [*hidden, (net.weight, net.bias)])
        return hm.ladder(path, hm.Box(*BOX)).plot()
