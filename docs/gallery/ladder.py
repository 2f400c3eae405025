"""The bounds of every relaxation, from intervals to the exact range, of a random network."""

import random
import tempfile
from pathlib import Path

from matplotlib.figure import Figure

import hullmark as hm
from hullmark.network.onnx.write import write_onnx


def picture() -> Figure:
    """Layers of 3, 5, 5 and 1 values, on which P_1 is not exact."""
    pick = random.Random(10)
    layers = [
        (
            [[pick.randint(-8, 8) / 4 for _ in range(n)] for _ in range(m)],
            [pick.randint(-4, 4) / 4 for _ in range(m)],
        )
        for n, m in ((3, 5), (5, 5), (5, 1))
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        write_onnx(path, layers)
        return hm.ladder(path, hm.Box([-1] * 3, [1] * 3)).plot()
