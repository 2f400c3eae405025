"""Table 3 of [kReLU]: how many images are proved robust without branching, and how fast.

Each image goes down one ladder until something settles it: a wrong class counts as not verified,
then DeepPoly, alpha-CROWN, an attack, and mined joint rows until the limit. Counts are out of all
images, as in the papers; the limit counts the processor time of one image on one core, everything
after loading included. Each image is a line of the output as soon as it is done, and images that
are in the output already are skipped, so that a run can be interrupted and shared:

    python benchmarks/kpoly.py --out kpoly.csv --limit 60 --part 1/2 &
    python benchmarks/kpoly.py --out kpoly.csv --limit 60 --part 2/2
    python benchmarks/kpoly.py --out kpoly.csv --report
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import csv
import time
from dataclasses import astuple, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Generic, TypeVar, get_type_hints

import numpy as np
import torch
from inputs import data_root, markdown, table

from hullmark.bounds.alpha import Ascent, ascend, propagate_optimised
from hullmark.bounds.methods import bound_margins
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

PLAN = Plan()
ATTACK = Attack(restarts=16, steps=60)
NEURONS = Ascent(steps=20, slope_rate=0.2)
MARGINS = Ascent(steps=60, slope_rate=0.2)


@dataclass(frozen=True)
class Published:
    """Percent verified and mean seconds as [PRIMA] has them, of the first 1000 images."""

    percent: float
    seconds: float


PRIMA = {
    "mnist_6x100": Published(51.0, 159),
    "mnist_9x100": Published(42.8, 301),
    "mnist_6x200": Published(69.0, 224),
    "mnist_9x200": Published(62.4, 395),
    "mnist_convsmall": Published(59.8, 42),
    "cifar10_convsmall_pgd": Published(44.1, 20),
}
# The numbers of the images, and the file that holds them.
IMAGES = {
    "mnist": (tuple(range(0, 496, 5)), "mnist_test_0000-0499.npz"),
    "cifar10": (tuple(range(100)), "cifar10_test_0000-0099.npz"),
}
VERIFIED = ("deeppoly", "alpha", "mined")
# Seconds, and the share of the limit, at most kept for finishing a step that has begun.
RESERVE = (1.0, 0.1)


class Clock:
    """Seconds of one image, by the wall and of this processor, and whether its limit is over."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._began = time.perf_counter(), time.process_time()

    @property
    def wall(self) -> float:
        return time.perf_counter() - self._began[0]

    @property
    def cpu(self) -> float:
        return time.process_time() - self._began[1]

    def over(self) -> bool:
        """Whether the processor time of the image is used up, but for a reserve."""
        return self.spent() >= 1

    def spent(self) -> float:
        """The share of the time that is gone."""
        return self.cpu / (self.limit - min(RESERVE[0], RESERVE[1] * self.limit))


@dataclass(frozen=True)
class Line:
    """What was found of one image.

    `status`: wrong, deeppoly, alpha, attacked, mined or open. `alpha` and `mined`: the worst
    margin as far as that method was tried. `rows`: joint rows in the end.
    """

    network: str
    image: int
    status: str
    alpha: float = float("nan")
    mined: float = float("nan")
    rows: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    limit: float = 0.0

    @property
    def verified(self) -> bool:
        return self.status in VERIFIED


Entry = TypeVar("Entry")


class Ledger(Generic[Entry]):
    """Lines in a file, each a dataclass of words and numbers; processes may append at once."""

    def __init__(self, path: Path, kind: type[Entry]) -> None:
        self.path = path
        self._kind = kind
        self._types = get_type_hints(kind)

    def lines(self) -> list[Entry]:
        """All lines that are there."""
        if not self.path.exists():
            return []
        return [
            self._kind(**{name: self._types[name](word) for name, word in entry.items()})
            for entry in table(self.path)
        ]

    def add(self, line: Entry) -> None:
        """Append a line."""
        try:
            with self.path.open("x") as file:
                file.write(",".join(self._types) + "\n")
        except FileExistsError:
            pass
        values = [getattr(line, name) for name in self._types]
        with self.path.open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(values)


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
    case = asked.prop.cases[0]
    lower, upper = program.enclosing(case.box.lower, case.box.upper)
    if bool((bound_margins(program, lower[None], upper[None], objective, "deeppoly") > 0).all()):
        return replace(line, status="deeppoly")
    relaxation = Relaxation(program, lower[None], upper[None])
    propagate_optimised(relaxation, replace(NEURONS, stop=clock.over), sieve=True)
    alpha = ascend(relaxation, objective, replace(MARGINS, stop=clock.over)).lower[0]
    line = replace(line, alpha=float(alpha.min()))
    if line.alpha > 0:
        return replace(line, status="alpha")
    effort = Effort(Deadline(time.perf_counter(), None), Silent(), 1 << 30)
    if asked.attack(ATTACK, effort) is not None:
        return replace(line, status="attacked")
    timed = replace(plan, stop=clock.over, spent=clock.spent)
    found = mined_margins(program, lower, upper, objective, timed)
    worst = float(torch.maximum(found.lower, alpha).min())
    status = "mined" if worst > 0 else "open"
    return replace(line, status=status, mined=worst, rows=sum(found.rows.values()))


def closed(deeppoly: int, verified: int, survivors: int) -> float:
    """The share of the images left open by DeepPoly, and not refuted, that is proved."""
    return (verified - deeppoly) / (survivors - deeppoly) if survivors > deeppoly else 1.0


def percent(verified: str) -> str:
    """A published count of 1000 as percent."""
    return f"{int(verified) / 10:.1f}"


def row(name: str, lines: list[Line], published: dict[str, str]) -> list[str]:
    """The network's line of the table."""
    count = {s: sum(line.status == s for line in lines) for s in (*VERIFIED, "attacked", "wrong")}
    verified = sum(line.verified for line in lines)
    survivors = len(lines) - count["attacked"] - count["wrong"]
    prima = PRIMA[name]
    return [
        name,
        str(len(lines)),
        f"{100 * verified / len(lines):.1f} ({np.mean([line.cpu for line in lines]):.1f})",
        *(str(count[s]) for s in (*VERIFIED, "attacked", "wrong")),
        f"{100 * closed(count['deeppoly'], verified, survivors):.0f}%",
        *(
            f"{percent(published[f'{tool}_verified'])} ({published[f'{tool}_s']})"
            for tool in ("deeppoly", "refinezono", "kpoly")
        ),
        f"{prima.percent} ({prima.seconds:.0f})",
    ]


def within(lines: list[Line], seconds: float) -> tuple[float, float]:
    """Percent verified, and mean seconds, had the limit been that."""
    proved = sum(line.verified and line.cpu <= seconds for line in lines)
    mean = np.mean([min(line.cpu, seconds) for line in lines])
    return 100 * proved / len(lines), float(mean)


def report(lines: list[Line], root: Path) -> None:
    """Print the table, and precision against time."""
    entries = {r["onnx"]: r for r in table(root / "benchmarks" / "kpoly" / "table.csv")}
    names = [name for name in PRIMA if any(line.network == name for line in lines)]
    each = {name: [line for line in lines if line.network == name] for name in names}
    limits = sorted({line.limit for line in lines})
    head = ["network", "images", "verified % (mean s)", "DeepPoly", "alpha", "mined", "attacked"]
    head += ["wrong", "closed", "DeepPoly*", "RefineZono*", "kPoly*", "PRIMA*"]
    body = [row(name, each[name], entries[f"onnx/{name}.onnx"]) for name in names]
    print(f"Seconds of one core, at most {', '.join(f'{limit:g}' for limit in limits)} an image.")
    print("*: as published, % of 1000 images (mean s on the authors' machines).\n")
    print(markdown(head, body), end="\n\n")
    steps = [t for t in (0.3, 1, 2, 5, 10, 20, 30, 60, 120, 300) if t <= max(limits, default=0)]
    curve: list[list[str]] = []
    for name in names:
        found = [within(each[name], t) for t in steps]
        curve.append([name, *(f"{share:.1f} ({mean:.1f})" for share, mean in found)])
    print("Verified % (mean s) with a limit of t seconds:\n")
    print(markdown(["network", *(f"t = {t:g}" for t in steps)], curve))


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
    part, parts = (int(number) for number in wanted.part.split("/"))
    for name in wanted.networks:
        images = chosen_images(wanted.images, name)[part - 1 :: parts]
        left = [image for image in images if (name, image) not in done]
        if not left:
            continue
        network = Robust(root, name)
        for image in left:
            line = examine(network, image, wanted.limit, plan)
            ledger.add(line)
            print(*astuple(line), flush=True)


def arguments(description: str | None, networks: list[str], limit: float) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--networks", nargs="+", choices=list(PRIMA), default=networks)
    parser.add_argument("--images", help="start:stop:step, or numbers with commas")
    parser.add_argument("--limit", type=float, default=limit, help="seconds an image")
    parser.add_argument("--part", default="1/1", help="i/n: every n-th image, from the i-th")
    parser.add_argument("--out", type=Path, required=True, help="CSV file, appended to")
    parser.add_argument("--report", action="store_true", help="only print what is in the file")
    return parser.parse_args()


def main() -> None:
    """Examine images, or print the table."""
    wanted = arguments(__doc__, list(PRIMA), 60.0)
    root = data_root()
    if wanted.report:
        report(Ledger(wanted.out, Line).lines(), root)
    else:
        run(wanted, root)


if __name__ == "__main__":
    main()
