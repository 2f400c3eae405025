"""How many MNIST images DeepPoly alone proves robust, on four fully connected networks.

An image counts if the network classifies it correctly and all nine margins of its label are
proved positive on the ball of radius eps, clipped to [0, 1].

    python benchmarks/deeppoly_counts.py [--method deeppoly] [--networks mnist_6x100 ...]
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from inputs import data_root, markdown
from numpy.typing import NDArray

from hullmark.bounds.methods import METHODS, bound_margins
from hullmark.bounds.objective import objective_of
from hullmark.bounds.program import Program
from hullmark.network.model import Model
from hullmark.network.onnx import load_onnx
from hullmark.spec.property import Case, Constraint
from hullmark.spec.sets import Box

EPSILON = {"mnist_6x100": 0.026, "mnist_9x100": 0.026, "mnist_6x200": 0.015, "mnist_9x200": 0.015}
# How many of the images 0-199 and 0-499 are known to be provable by DeepPoly.
KNOWN = {
    "mnist_6x100": (35, 82),
    "mnist_9x100": (38, 89),
    "mnist_6x200": (65, 141),
    "mnist_9x200": (54, 126),
}
CLASSES = 10


@dataclass(frozen=True, eq=False)
class Outcome:
    """For each image whether it is classified correctly, and whether it is proved too."""

    correct: NDArray[np.bool_]
    proved: NDArray[np.bool_]
    seconds: float


def images(root: Path, count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The first images `(count, 784)` with pixels in [0, 1], and their labels."""
    stored = np.load(root / "benchmarks" / "kpoly" / "mnist_test_0000-0499.npz")
    pixels = stored["images"][:count].reshape(count, -1) / 255.0
    return pixels, stored["labels"][:count]


def count_proved(
    model: Model,
    pixels: NDArray[np.float64],
    labels: NDArray[np.int64],
    epsilon: float,
    method: str = "deeppoly",
) -> Outcome:
    """Bound the margins of all correctly classified images, those of a label in one batch."""
    program = Program.compile(model.network)
    started = time.perf_counter()
    correct = model.replay(pixels.astype(model.dtype)).argmax(axis=1) == labels
    proved = np.zeros(len(labels), dtype=bool)
    lower, upper = program.enclosing(
        np.clip(pixels - epsilon, 0, 1), np.clip(pixels + epsilon, 0, 1)
    )
    for label in range(CLASSES):
        members = np.flatnonzero(correct & (labels == label))
        if len(members):
            objective = objective_of(program, _rivals(model, label))
            margins = bound_margins(program, lower[members], upper[members], objective, method)
            proved[members] = (margins > 0).all(dim=1).cpu().numpy()
    return Outcome(correct, proved, time.perf_counter() - started)


def network_file(root: Path, name: str) -> Path:
    """Where a network lies."""
    return root / "benchmarks" / "kpoly" / "onnx" / f"{name}.onnx"


def _rivals(model: Model, label: int) -> tuple[Case, ...]:
    """For every other class the case that it is at least as likely as the label."""
    box = Box([0] * model.network.input_size, [1] * model.network.input_size)
    return tuple(
        Case(box, (Constraint.of({}, {label: 1, rival: -1}, 0),), CLASSES)
        for rival in range(CLASSES)
        if rival != label
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", choices=list(METHODS), default="deeppoly")
    parser.add_argument("--networks", nargs="+", choices=list(EPSILON), default=list(EPSILON))
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    root = data_root()
    pixels, labels = images(root, 500)
    rows: list[list[str]] = []
    for name in wanted.networks:
        model = load_onnx(network_file(root, name))
        found = count_proved(model, pixels, labels, EPSILON[name], wanted.method)
        counts = [int(found.proved[:n].sum()) for n in (200, 500)]
        known = KNOWN[name] if wanted.method == "deeppoly" else ("", "")
        bounded = int(found.correct.sum())
        each = f"{1000 * found.seconds / bounded:.1f}"
        figures = [f"{EPSILON[name]}", str(bounded), *map(str, counts), *map(str, known), each]
        rows.append([name, *figures])
    head = ["network", "eps", "correct", "0-199", "0-499", "known", "known", "ms an image"]
    print(markdown(head, rows))


if __name__ == "__main__":
    main()
