"""Small networks as files, their exact rungs computed in this process, and rungs made up."""

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import hullmark as hm
from hullmark.bounds.program import Program
from hullmark.cli import run
from hullmark.ladder import Ladder, Rung
from hullmark.ladder.exactly import Part, asks_of, parts_of, tell
from hullmark.ladder.floats import Floats
from hullmark.ladder.quantity import Quantity, quantity_of
from hullmark.network.graph import Network
from hullmark.network.onnx import load_onnx
from hullmark.network.onnx.write import write_onnx
from hullmark.verdict import Options
from hullmark.verify import as_property

Layers = list[tuple[Any, Any]]

UNIT = hm.Box([0, 0], [1, 1])
SEGMENT = hm.Box([-1], [1])
MAXIMUM: Layers = [([[1, -1], [0, 1]], [0, 0]), ([[1, 1]], [0])]
DIFFERENCE: Layers = [([[1], [1]], [0, 0]), ([[1, -1]], [0])]
# -2 min(relu(x), relu(-x)) = -2 (a - relu(a - b)), which is 0 everywhere.
BARRIER: Layers = [([[1], [-1]], [0, 0]), ([[1, 0], [1, -1]], [0, 0]), ([[-2, 2]], [0])]

QUESTION = """
(declare-const X_0 Real) (declare-const X_1 Real) (declare-const Y_0 Real)
(assert (>= X_0 0)) (assert (<= X_0 1)) (assert (>= X_1 0)) (assert (<= X_1 1))
(assert (>= Y_0 1.25))
"""


def saved(folder: Path, layers: Layers, name: str = "net.onnx") -> Path:
    write_onnx(folder / name, layers)
    return folder / name


def maximum_files(folder: Path) -> tuple[Path, Path]:
    """The maximum of two, and whether it reaches 1.25 on the unit square."""
    (folder / "max.vnnlib").write_text(QUESTION)
    return saved(folder, MAXIMUM), folder / "max.vnnlib"


def call(*arguments: object) -> int:
    """The exit code of a command."""
    return run([str(a) for a in arguments], time.perf_counter())


def random_layers(*sizes: int, seed: int) -> Layers:
    rng = np.random.default_rng(seed)
    return [
        (np.round(rng.normal(size=(m, n)) * 16) / 16, np.round(rng.normal(size=m) * 16) / 16)
        for n, m in pairwise(sizes)
    ]


def ends(ladder: Ladder) -> dict[str, tuple[Any, Any]]:
    return {rung.name: (rung.lower, rung.upper) for rung in ladder.rungs}


def asked(question: Any, network: Network) -> Any:
    return question if isinstance(question, hm.Box) else as_property(question, network)


def exactly(path: Path, question: Any, output: int | None) -> tuple[tuple[Part, ...], Quantity]:
    network = load_onnx(path).network
    quantity = quantity_of(network, asked(question, network), None, output)
    return parts_of(network, quantity), quantity


def bounds_of(parts: tuple[Part, ...], quantity: Quantity, *names: str) -> dict[str, Any]:
    """The ends of the named exact rungs, computed in this process; of all if none is named."""
    found: dict[str, Any] = {}
    for ask in asks_of(parts):
        if ask.name in names or not names:
            bounds = tell(parts, ask)[0]
            lows = [low for part in bounds for low, _ in part]
            highs = [high for part in bounds for _, high in part]
            found[ask.name] = (min(lows), max(highs) if quantity.two_sided else None)
    return found


def floats_of(path: Path, question: Any, output: int | None) -> Floats:
    network = load_onnx(path).network
    quantity = quantity_of(network, asked(question, network), None, output)
    return Floats(Program.compile(network), quantity, Options(30.0))


def rung(name: str, lower: Any, upper: Any, kind: Any = "exact") -> Rung:
    return Rung(name, kind, lower, upper, 0, 0.0)
