"""What mixed-integer programs would add to the second hidden layer, as kPoly's authors refine it.

For some images of a network of [kReLU] the mean width of open second-layer pre-activations, by
DeepPoly, by kPoly's linear programs, and by a mixed-integer solver. The columns of the latter are
*unverified*: the word of a solver that works with tolerances and hands over no multipliers. No
bound or verdict ever rests on it.

    python benchmarks/milp.py --network mnist_6x100 --images 2,9,12 --neurons 10 --seconds 5
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import time
from dataclasses import dataclass

import numpy as np
import torch
from inputs import data_root, markdown
from kpoly import PRIMA, Robust, chosen_images

from hullmark.bounds.linear import propagate, unstable_neurons
from hullmark.bounds.relaxation import Relaxation
from hullmark.bounds.rounding import faithful_arithmetic
from hullmark.cuts.kpoly import KPolyOptions, kpoly
from hullmark.cuts.milp import unverified_milp_bounds
from hullmark.lp.program import Indices, Vector
from hullmark.verdict import Deadline

HEAD = (
    "image",
    "neurons",
    "DeepPoly",
    "kPoly",
    "(s)",
    "MILP, unverified",
    "(s)",
    "stable, unverified",
)


@dataclass(frozen=True)
class Limits:
    """Of one image: how many neurons, and the seconds of kPoly and of each integer program."""

    neurons: int
    layer: float
    program: float


def widths(ends: tuple[Vector, Vector]) -> str:
    """The mean width of intervals."""
    return f"{float(np.mean(ends[1] - ends[0])):.4f}"


def ends_of(relaxation: Relaxation, node: int, neurons: Indices) -> tuple[Vector, Vector]:
    """Bounds of chosen neurons."""
    low, high = (b.flatten().double().numpy()[neurons] for b in relaxation.bounds[node])
    return low, high


@faithful_arithmetic()
@torch.no_grad()
def row(robust: Robust, image: int, limits: Limits) -> list[str]:
    """The line of one image."""
    asked = robust.question(image)
    program, box = asked.program, asked.prop.cases[0].box
    lower, upper = program.enclosing(box.lower, box.upper)
    plain = Relaxation(program, lower[None], upper[None])
    propagate(plain)
    # The layer after the first rectifier is the second hidden one.
    second = sorted(program.network.nodes[i].inputs[0] for i in program.slopes)[1]
    neurons = unstable_neurons(plain, second).numpy()[: limits.neurons]
    started = time.perf_counter()
    clock = Deadline(started, limits.layer)
    found = kpoly(program, lower, upper, asked.objective, KPolyOptions(3, stop=clock.expired))
    half = time.perf_counter()
    milp = unverified_milp_bounds(found.relaxation, second, neurons, limits.program)
    spent = time.perf_counter() - half
    known = np.isfinite(milp[0]) & np.isfinite(milp[1])
    signs = int(np.sum((milp[0] >= 0) | (milp[1] <= 0)))
    return [
        str(image),
        f"{int(known.sum())} of {len(neurons)}",
        widths(ends_of(plain, second, neurons[known])),
        widths(ends_of(found.relaxation, second, neurons[known])),
        f"{half - started:.1f}",
        widths((milp[0][known], milp[1][known])),
        f"{spent:.1f}",
        str(signs),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=list(PRIMA), default="mnist_6x100")
    parser.add_argument("--images", default="2,9,12", help="start:stop:step, or numbers")
    parser.add_argument("--neurons", type=int, default=10, help="of an image")
    parser.add_argument("--layer", type=float, default=20.0, help="seconds of kPoly")
    parser.add_argument("--seconds", type=float, default=5.0, help="of an integer program")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    robust = Robust(data_root(), wanted.network)
    limits = Limits(wanted.neurons, wanted.layer, wanted.seconds)
    images = chosen_images(wanted.images, wanted.network)
    print("Mean widths of open second-layer pre-activations; the column of MILP is unverified.\n")
    print(markdown(list(HEAD), [row(robust, image, limits) for image in images]))


if __name__ == "__main__":
    main()
