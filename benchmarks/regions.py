"""Which groups matter: the experiment of [kReLU §5] on the first 100 images of MNIST ConvSmall.

The balls around the images are bounded with 1-ReLU, with 3-ReLU in disjoint groups by the areas of
the triangles, and with 3-ReLU in disjoint groups at random. The paper solves linear programs; here
bounds of all neurons are optimised over the same rows by dual ascent. What DeepPoly proves counts
as proved by all; wrong classes and what an attack refutes cannot be proved. The limit counts the
processor time of one image with one kind of groups. Lines are kept as by `kpoly.py`:

    python benchmarks/regions.py --out regions.csv --limit 60 --part 1/2 &
    python benchmarks/regions.py --out regions.csv --limit 60 --part 2/2
    python benchmarks/regions.py --out regions.csv --report
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from asked import Asked
from inputs import data_root, markdown
from kpoly import Robust, attacked, by_deeppoly, chosen_images
from runs import Ledger, conclude, part_of

from hullmark.joint.groups import shuffled
from hullmark.joint.krelu import Scheme, area, krelu_margins

NETWORK = "mnist_convsmall"
# Groups of neurons alone, as in the paper.
VARIANTS: Mapping[str, Scheme] = {
    "1-ReLU": Scheme(None),
    "3-ReLU by area": Scheme(area(3), passing=False),
    "3-ReLU at random": Scheme(shuffled(3), passing=False),
}
# Of 100 regions [kReLU §5].
PUBLISHED = {"1-ReLU": 20, "3-ReLU by area": 35, "3-ReLU at random": 34}


@dataclass(frozen=True)
class Region:
    """What one kind of groups found of one image.

    `status`: wrong, deeppoly, attacked, proved or open; only the last two have been tried, and
    have the worst `margin`, joint `rows` and seconds `cpu`.
    """

    image: int
    variant: str
    status: str
    margin: float = float("nan")
    rows: int = 0
    cpu: float = 0.0
    limit: float = 0.0

    @property
    def proved(self) -> bool:
        return self.status in ("deeppoly", "proved")

    @property
    def tried(self) -> bool:
        return self.status in ("proved", "open")


def settled(network: Robust, image: int) -> str | None:
    """What an image is without joint rows; None if it is left to them."""
    if not network.correct(image):
        return "wrong"
    question = network.question(image)
    if by_deeppoly(question):
        return "deeppoly"
    return "attacked" if attacked(question) else None


def examine(network: Robust, image: int, variant: str, limit: float) -> Region:
    """Bound the ball around an image."""
    asked = Asked.of(str(image), network.question(image), limit)
    scheme = asked.scheme(VARIANTS[variant])
    found = krelu_margins(asked.program, asked.lower, asked.upper, asked.objective, scheme)
    margin, rows = float(found.lower.min()), sum(found.rows.values())
    status = "proved" if margin > 0 else "open"
    return Region(image, variant, status, margin, rows, round(asked.clock.cpu, 3), limit)


def report(lines: list[Region]) -> None:
    """Print the counts of the images that every variant has, beside those of the paper."""
    each = {v: {line.image: line for line in lines if line.variant == v} for v in VARIANTS}
    common = sorted(set.intersection(*(set(found) for found in each.values())))
    first = [next(iter(each.values()))[image] for image in common]
    count = {s: sum(line.status == s for line in first) for s in ("deeppoly", "attacked", "wrong")}
    limits = ", ".join(f"{limit:g}" for limit in sorted({x.limit for x in lines if x.tried}))
    print(
        f"{NETWORK}, {len(common)} images: DeepPoly proves {count['deeppoly']} of them, an attack"
    )
    print(f"refutes {count['attacked']}, {count['wrong']} have a wrong class. Seconds and rows are")
    print(f"those of the others, with a limit of {limits or '-'} s each.\n")
    body = [row(v, [found[image] for image in common]) for v, found in each.items()]
    head = ["", "proved", "of 100 [kReLU §5]", "mean margin", "rows, median", "s, median"]
    print(markdown(head, body))


def row(variant: str, lines: list[Region]) -> list[str]:
    """A variant's line of the table."""
    tried = [line for line in lines if line.tried]
    costs = ["", "", ""]
    if tried:
        costs = [
            f"{np.mean([line.margin for line in tried]):.3f}",
            f"{np.median([line.rows for line in tried]):.0f}",
            f"{np.median([line.cpu for line in tried]):.1f}",
        ]
    return [variant, str(sum(line.proved for line in lines)), str(PUBLISHED[variant]), *costs]


def measure(wanted: argparse.Namespace, ledger: Ledger[Region]) -> None:
    """Bound what the file does not have yet."""
    done = {(line.image, line.variant) for line in ledger.lines()}
    network = Robust(data_root(), NETWORK)
    for image in part_of(chosen_images(wanted.images, NETWORK), wanted.part):
        left = [variant for variant in VARIANTS if (image, variant) not in done]
        status = settled(network, image) if left else None
        for variant in left:
            if status is None:
                line = examine(network, image, variant, wanted.limit)
            else:
                line = Region(image, variant, status)
            ledger.add(line)
            print(*astuple(line), flush=True)


def main() -> None:
    """Measure, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", default="0:100:1", help="start:stop:step, or with commas")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds an image and variant")
    parser.add_argument("--part", default="1/1", help="i/n: every n-th image, from the i-th")
    parser.add_argument("--out", type=Path, required=True, help="CSV file, appended to")
    parser.add_argument("--report", action="store_true", help="only print what is in the file")
    conclude(parser.parse_args(), Region, report, measure)


if __name__ == "__main__":
    main()
