"""How long exact answers about small networks take.

The 56 reference networks with all that is known of them, checked on the way; P_1 on random networks
of 3-6-6-1, exact ranges and regions of 2-12-12-2. Weights are Gaussian floats, taken exactly.

    python benchmarks/theory.py --seeds 20
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from random import Random
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")

from inputs import data_root, markdown

from hullmark.theory import ExactNet, bounds, exact_range, mlp, regions

WHOLE = ("ibp", "triangle", "p1", "exact")


def random_net(sizes: list[int], seed: int) -> ExactNet:
    """Weights of variance 1, biases of 1/4."""
    random = Random(seed)
    return mlp(
        [
            (
                [[random.gauss(0, 1) for _ in range(n)] for _ in range(m)],
                [random.gauss(0, 0.5) for _ in range(m)],
            )
            for n, m in pairwise(sizes)
        ]
    )


def timed(work: Callable[[ExactNet, int], object], sizes: list[int], seed: int) -> float:
    """Processor seconds of work on a random network."""
    net = random_net(sizes, seed)
    started = time.process_time()
    work(net, sizes[0])
    return time.process_time() - started


def references() -> dict[str, float]:
    """Seconds for all reference networks, by what is computed; exits if one is wrong."""
    spent: dict[str, float] = dict.fromkeys((*WHOLE, "regions"), 0.0)
    for entry in json.loads((data_root() / "goldens" / "networks.json").read_text()):
        layers = [
            (
                [[Fraction(v) for v in row] for row in part["weight"]],
                list(map(Fraction, part["bias"])),
            )
            for part in entry["layers"]
        ]
        net = mlp(layers)
        ends = [list(map(Fraction, side)) for side in zip(*entry["box"], strict=True)]
        for name in WHOLE:
            started = time.process_time()
            found = bounds(net, *ends, name)
            spent[name] += time.process_time() - started
            if found != [tuple(map(Fraction, pair)) for pair in entry[name]]:
                raise SystemExit(f"{entry['name']}: {name} is {found}")
        started = time.process_time()
        count = len(regions(net, *ends))
        spent["regions"] += time.process_time() - started
        if count != entry["patterns"]:
            raise SystemExit(f"{entry['name']}: {count} regions")
    return spent


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    wanted = parser.parse_args()
    lines = [
        [f"56 reference networks, {name}", f"{seconds:.2f} in all", ""]
        for name, seconds in references().items()
    ]
    jobs: list[tuple[str, list[int], Callable[[ExactNet, int], object]]] = [
        ("P_1", [3, 6, 6, 1], lambda net, d: bounds(net, [-1] * d, [1] * d, "p1")),
        ("exact range", [2, 12, 12, 2], lambda net, d: exact_range(net, [-1] * d, [1] * d)),
        ("regions", [2, 12, 12, 2], lambda net, d: regions(net, [-1] * d, [1] * d)),
    ]
    for name, sizes, work in jobs:
        times = [timed(work, sizes, seed) for seed in range(wanted.seeds)]
        shape = "-".join(map(str, sizes))
        what = f"{name}, {shape}, {len(times)} networks"
        lines.append([what, f"{median(times):.2f}", f"{max(times):.2f}"])
    print(markdown(["what", "s, median", "s, worst"], lines))


if __name__ == "__main__":
    main()
