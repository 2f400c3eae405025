"""Table 1 of [kReLU]: the volume of the output box with 1-, 2- and 3-ReLU rows, on 9x200.

The ball of radius 0.015 around each image goes through the network once for every k; in every
layer the unstable neurons are grouped disjointly by the areas of their triangles, and all later
bounds are optimised over the rows of all groups (`hullmark.joint.krelu`). Volumes are products
over the ten outputs, given as decimal logarithms. Lines are kept as by `kpoly.py`:

    python benchmarks/volumes.py --out volumes.csv
    python benchmarks/volumes.py --out volumes.csv --report --plot docs/img/volumes.png
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from math import log10
from pathlib import Path

import numpy as np
import torch
from inputs import data_root, markdown
from kpoly import Robust, chosen_images
from runs import Ledger
from torch import Tensor

from hullmark.bounds.alpha import Ascent
from hullmark.bounds.methods import bound_margins
from hullmark.bounds.objective import output_objective
from hullmark.joint.krelu import Scheme, area, krelu_margins

# Steps and decay of the ascents with `--converged`.
PATIENT = Ascent(steps=200, slope_rate=0.2, decay=0.985)
METHODS: Mapping[str, Scheme | None] = {
    "DeepPoly": None,
    "1-ReLU": Scheme(None),
    "2-ReLU": Scheme(area(2)),
    "3-ReLU": Scheme(area(3)),
}
CONVERGED: Mapping[str, Scheme | None] = {
    "1-ReLU, 200 steps": Scheme(None, neurons=PATIENT, queries=PATIENT),
    "2-ReLU, 200 steps": Scheme(area(2), neurons=PATIENT, queries=PATIENT),
    "3-ReLU, 200 steps": Scheme(area(3), neurons=PATIENT, queries=PATIENT),
}
# Of one ball, which is not named [kReLU, Table 1].
PUBLISHED = {"1-ReLU": 4.5272e14, "2-ReLU": 5.1252e7, "3-ReLU": 2.9679e5}


@dataclass(frozen=True)
class Volume:
    """The decimal logarithm of the volume of an image's output box by one method."""

    network: str
    image: int
    method: str
    log_volume: float
    rows: int
    seconds: float


def log_volume(margins: Tensor) -> float:
    """Of the box with lower bounds `margins` `(2 n,)` of the outputs, then of their negations."""
    below, above = margins.double().chunk(2)
    return float((-(below + above)).log10().sum())


def measure(network: Robust, image: int, method: str, scheme: Scheme | None) -> Volume:
    """The output box of one ball by one method."""
    asked = network.question(image)
    program = asked.program
    box = asked.prop.cases[0].box
    began = time.process_time()
    lower, upper = program.enclosing(box.lower, box.upper)
    objective = output_objective(program)
    rows = 0
    if scheme is None:
        margins = bound_margins(program, lower[None], upper[None], objective, "deeppoly")[0]
    else:
        found = krelu_margins(program, lower, upper, objective, scheme)
        margins, rows = found.lower, sum(found.rows.values())
    seconds = round(time.process_time() - began, 3)
    return Volume(network.name, image, method, log_volume(margins), rows, seconds)


def by_method(lines: list[Volume]) -> dict[str, dict[int, Volume]]:
    """The lines of each method that has any, by image."""
    known = [*METHODS, *CONVERGED]
    found = {name: {line.image: line for line in lines if line.method == name} for name in known}
    return {name: each for name, each in found.items() if each}


def report(lines: list[Volume]) -> None:
    """Print medians beside the published volumes, and the logarithms of all images."""
    found = by_method(lines)
    common = sorted(set.intersection(*(set(each) for each in found.values())))
    base = {image: found["1-ReLU"][image].log_volume for image in common}
    body: list[list[str]] = []
    for name, each in found.items():
        logs = [each[image].log_volume for image in common]
        fewer = [base[image] - each[image].log_volume for image in common]
        published = PUBLISHED.get(name)
        paper = ["", ""]
        if published:
            paper = [f"{log10(published):.1f}", f"{log10(PUBLISHED['1-ReLU'] / published):.1f}"]
        figures = [f"{np.median(logs):.2f}", f"{np.median(fewer):.2f}"]
        cost = [
            f"{np.median([each[image].rows for image in common]):.0f}",
            f"{np.median([each[image].seconds for image in common]):.1f}",
        ]
        body.append([name, *figures, *paper, *cost])
    print(f"Medians over {len(common)} images; the paper's are of one ball.\n")
    head = ["", "log10 volume", "orders below 1-ReLU", "paper", "paper's orders", "rows", "s"]
    print(markdown(head, body), end="\n\n")
    every = [
        [str(image), *(f"{each[image].log_volume:.2f}" for each in found.values())]
        for image in common
    ]
    print(markdown(["image", *found], every))


def plot(lines: list[Volume], path: Path) -> None:
    """Every image's volumes, one dot a method, images in order of their volume by 1-ReLU."""
    from matplotlib.figure import Figure

    found = by_method(lines)
    names = [name for name in METHODS if name in found]
    images = sorted(found["1-ReLU"], key=lambda image: found["1-ReLU"][image].log_volume)
    figure = Figure(figsize=(6.4, 3.2), dpi=100)
    axes = figure.subplots()
    for name, marker in zip(names, ("_", "s", "o", "D"), strict=False):
        logs = [found[name][image].log_volume for image in images if image in found[name]]
        axes.plot(range(len(logs)), logs, marker, label=name, markersize=5)
    axes.set_xticks(range(len(images)), [str(image) for image in images], fontsize=7)
    axes.set_xlabel("image")
    axes.set_ylabel("log10 of the output box's volume")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight")


def main() -> None:
    """Measure, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="mnist_9x200")
    parser.add_argument("--images", default="0:20:1", help="start:stop:step, or with commas")
    parser.add_argument("--converged", action="store_true", help="200 steps, too")
    parser.add_argument("--out", type=Path, required=True, help="CSV file, appended to")
    parser.add_argument("--report", action="store_true", help="only print what is in the file")
    parser.add_argument("--plot", type=Path, help="with --report: the picture's file")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    ledger = Ledger(wanted.out, Volume)
    known = [line for line in ledger.lines() if line.network == wanted.network]
    if wanted.report:
        report(known)
        if wanted.plot:
            plot(known, wanted.plot)
        return
    done = {(line.image, line.method) for line in known}
    network = Robust(data_root(), wanted.network)
    schemes = {**METHODS, **CONVERGED} if wanted.converged else METHODS
    for image in chosen_images(wanted.images, wanted.network):
        for method, scheme in schemes.items():
            if (image, method) not in done:
                line = measure(network, image, method, scheme)
                ledger.add(line)
                print(*astuple(line), flush=True)


if __name__ == "__main__":
    main()
