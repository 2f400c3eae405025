"""Table 3 of [kReLU]: how many images are proved robust without branching, and how fast.

Each image goes down one ladder until something settles it: a wrong class counts as not verified,
then DeepPoly, alpha-CROWN, an attack, and mined joint rows until the limit. Counts are out of all
images, as in the papers; the limit counts the processor time of one image on one core, everything
after loading included. Each image is a line of the output as soon as it is done, and images that
are in the output already are skipped, so that a run can be interrupted and shared:

    python benchmarks/kpoly.py --out kpoly.csv --limit 60 --part 1/2 &
    python benchmarks/kpoly.py --out kpoly.csv --limit 60 --part 2/2
    python benchmarks/kpoly.py --out kpoly.csv --report --plot docs/img/table3.png

Images that are left open can be tried once more with a longer limit, the most promising first,
for as long as there is time; the last line of an image counts:

    python benchmarks/kpoly.py --out kpoly.csv --again 3600 --limit 300
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import time
from dataclasses import astuple, replace
from fractions import Fraction
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from inputs import data_root, table
from runs import Clock, Ledger, part_of
from table3 import PRIMA, Line, last_lines, plot, report
from torch import Tensor

from hullmark.bounds.alpha import Ascent, ascend
from hullmark.bounds.methods import bound_margins
from hullmark.bounds.optimised import propagate_optimised
from hullmark.bounds.relaxation import Relaxation
from hullmark.bounds.rounding import faithful_arithmetic
from hullmark.joint.mined import mined_margins
from hullmark.joint.tighten import Plan
from hullmark.network.model import Model
from hullmark.network.onnx import load_onnx
from hullmark.search.attack import Plan as Attack
from hullmark.search.effort import Effort
from hullmark.search.strategy import Question
from hullmark.search.witness import Replay
from hullmark.spec.robustness import robust
from hullmark.verdict import Deadline, Options, Silent

# As long as there is time, an image is not given up.
PLAN = Plan(patience=10)
ATTACK = Attack(restarts=16, steps=60)
NEURONS = Ascent(steps=20, slope_rate=0.2)
MARGINS = Ascent(steps=60, slope_rate=0.2)
# The numbers of the images, and the file that holds them.
IMAGES = {
    "mnist": (tuple(range(0, 496, 5)), "mnist_test_0000-0499.npz"),
    "cifar10": (tuple(range(100)), "cifar10_test_0000-0099.npz"),
}


class Robust:
    """A network of the table, and the questions of its images."""

    def __init__(self, root: Path, name: str) -> None:
        folder = root / "benchmarks" / "kpoly"
        entry = next(r for r in table(folder / "table.csv") if r["onnx"] == f"onnx/{name}.onnx")
        self.name = name
        self.epsilon = Fraction(entry["epsilon"])
        self.model: Model = load_onnx(folder / entry["onnx"])
        stored = np.load(folder / IMAGES[entry["dataset"]][1])
        self.pixels = stored["images"].reshape(len(stored["images"]), -1) / 255.0
        self.labels = [int(label) for label in stored["labels"]]

    def correct(self, image: int) -> bool:
        """Whether the network classifies an image correctly."""
        output = self.model.replay(self.pixels[image : image + 1].astype(self.model.dtype))
        return int(output.argmax()) == self.labels[image]

    def question(self, image: int) -> Question:
        """Whether the ball around an image keeps its label."""
        asked = robust(self.pixels[image], self.labels[image], self.epsilon)
        network = self.model.network
        prop = asked.property(network.input_size, network.output_size)
        return Question.of(self.model, prop, Replay(self.model, prop), Options())


@faithful_arithmetic()
@torch.no_grad()
def examine(robust: Robust, image: int, limit: float, plan: Plan = PLAN) -> Line:
    """Go down the ladder with one image."""
    clock = Clock(limit)
    line = _settle(robust, Line(robust.name, image, "wrong"), clock, plan)
    return replace(line, wall=round(clock.wall, 3), cpu=round(clock.cpu, 3), limit=limit)


def _settle(robust: Robust, line: Line, clock: Clock, plan: Plan) -> Line:
    if not robust.correct(line.image):
        return line
    asked = robust.question(line.image)
    program, objective = asked.program, asked.objective
    lower, upper = sides(asked)
    if by_deeppoly(asked):
        return replace(line, status="deeppoly")
    relaxation = Relaxation(program, lower[None], upper[None])
    propagate_optimised(relaxation, replace(NEURONS, stop=clock.over), sieve=True)
    alpha = ascend(relaxation, objective, replace(MARGINS, stop=clock.over)).lower[0]
    line = replace(line, alpha=float(alpha.min()))
    if line.alpha > 0:
        return replace(line, status="alpha")
    if attacked(asked):
        return replace(line, status="attacked")
    timed = replace(plan, stop=clock.over, spent=clock.spent)
    found = mined_margins(program, lower, upper, objective, timed)
    worst = float(torch.maximum(found.lower, alpha).min())
    status = "mined" if worst > 0 else "open"
    return replace(line, status=status, mined=worst, rows=sum(found.rows.values()))


def sides(asked: Question) -> tuple[Tensor, Tensor]:
    """The box of a question, in the program's precision."""
    box = asked.prop.cases[0].box
    return asked.program.enclosing(box.lower, box.upper)


def by_deeppoly(asked: Question) -> bool:
    """Whether DeepPoly proves a question."""
    lower, upper = sides(asked)
    ends = lower[None], upper[None]
    return bool((bound_margins(asked.program, *ends, asked.objective, "deeppoly") > 0).all())


def attacked(asked: Question) -> bool:
    """Whether an attack refutes a question."""
    effort = Effort(Deadline(time.perf_counter(), None), Silent(), 1 << 30)
    return asked.attack(ATTACK, effort) is not None


def chosen_images(text: str | None, name: str) -> tuple[int, ...]:
    """The images of a network, or `start:stop:step`, or a list with commas."""
    if text is None:
        return IMAGES[name.split("_")[0]][0]
    if ":" in text:
        return tuple(range(*(int(part) for part in text.split(":"))))
    return tuple(int(part) for part in text.split(","))


def run(wanted: argparse.Namespace, root: Path, plan: Plan = PLAN) -> None:
    """Examine all images of this part that the output has not."""
    torch.set_num_threads(1)
    ledger = Ledger(wanted.out, Line)
    done = {(line.network, line.image) for line in ledger.lines()}
    for name in wanted.networks:
        images = part_of(chosen_images(wanted.images, name), wanted.part)
        left = [image for image in images if (name, image) not in done]
        if not left:
            continue
        network = Robust(root, name)
        for image in left:
            record(ledger, examine(network, image, wanted.limit, plan))


def record(ledger: Ledger[Line], line: Line) -> None:
    """Keep a line, and print it."""
    ledger.add(line)
    print(*astuple(line), flush=True)


def promising(lines: list[Line], wanted: argparse.Namespace) -> list[Line]:
    """The images of this part that are open with a shorter limit, the best margin first."""
    chosen = {
        (name, image)
        for name in wanted.networks
        for image in part_of(chosen_images(wanted.images, name), wanted.part)
    }
    left = [
        line
        for line in last_lines(lines)
        if (line.network, line.image) in chosen
        and line.status == "open"
        and line.limit < wanted.limit
    ]
    return sorted(left, key=lambda line: -line.mined)


def run_again(wanted: argparse.Namespace, root: Path, plan: Plan = PLAN) -> None:
    """Examine open images again; none begins that might not end in the time that is left."""
    torch.set_num_threads(1)
    clock, ledger = Clock(wanted.again), Ledger(wanted.out, Line)
    network = cache(partial(Robust, root))
    for line in promising(ledger.lines(), wanted):
        if clock.wall + wanted.limit > wanted.again:
            break
        record(ledger, examine(network(line.network), line.image, wanted.limit, plan))


def options(description: str | None, networks: list[str], limit: float) -> argparse.ArgumentParser:
    """The options of scripts that examine images."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--networks", nargs="+", choices=list(PRIMA), default=networks)
    parser.add_argument("--images", help="start:stop:step, or numbers with commas")
    parser.add_argument("--limit", type=float, default=limit, help="seconds an image")
    parser.add_argument("--part", default="1/1", help="i/n: every n-th image, from the i-th")
    parser.add_argument("--out", type=Path, required=True, help="CSV file, appended to")
    parser.add_argument("--report", action="store_true", help="only print what is in the file")
    return parser


def main() -> None:
    """Examine images, or print the table."""
    parser = options(__doc__, list(PRIMA), 60.0)
    parser.add_argument("--again", type=float, help="seconds for open images with a longer limit")
    parser.add_argument("--plot", type=Path, help="with --report: the picture's file")
    wanted = parser.parse_args()
    root = data_root()
    if wanted.report:
        lines = Ledger(wanted.out, Line).lines()
        report(lines, root)
        if wanted.plot:
            plot(lines, root, wanted.plot)
    elif wanted.again:
        run_again(wanted, root)
    else:
        run(wanted, root)


if __name__ == "__main__":
    main()
