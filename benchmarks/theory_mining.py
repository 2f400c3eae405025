"""How long the bounds of P_1 and M_k take to mine on networks that no formulation could hold.

Random networks over [-1, 1]^5, their weights Gaussian with the variance 1 / inputs, times a scale,
or rounded to quarters. Both bounds of the output are mined from each, P_1's as exact numbers where
the gap is 0; on one core:

    python benchmarks/theory_mining.py --seeds 10 --first 1000
    python benchmarks/theory_mining.py --sizes 5,20,20,20,1 --seeds 3
    python benchmarks/theory_mining.py --relaxation mk --k 10 --seeds 3
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from inputs import markdown

from hullmark.theory import ExactNet, mlp
from hullmark.theory.mining import Mined, mine


@dataclass(frozen=True)
class Family:
    """How random networks are drawn: the spread of biases, and whether all is in quarters."""

    name: str
    scale: float
    bias: float
    quarters: bool = False

    def network(self, sizes: Sequence[int], seed: int) -> ExactNet:
        """The network of a seed."""
        rng = np.random.default_rng(seed)
        layers = []
        for inputs, outputs in pairwise(sizes):
            weight = rng.normal(size=(outputs, inputs)) * self.scale / np.sqrt(inputs)
            layers.append((weight, rng.normal(size=outputs) * self.bias))
        if self.quarters:
            layers = [(np.round(w * 4) / 4, np.round(b * 4) / 4) for w, b in layers]
        return mlp(layers)


FAMILIES = (
    Family("Gaussian, no biases", 1.0, 0.0),
    Family("Gaussian, biases 0.3", 1.0, 0.3),
    Family("Gaussian, biases 1", 1.0, 1.0),
    Family("Gaussian times 3, biases 1", 3.0, 1.0),
    Family("quarters, biases 0.5", 2.0, 0.5, quarters=True),
)
HEAD = ["weights", "bounds", "closed", "gap 0", "attained", "largest gap", "s, median", "s, worst"]


def row(family: Family, found: Sequence[Mined]) -> list[str]:
    """A family's line of the table."""
    seconds = [mined.seconds for mined in found]
    return [
        family.name,
        str(len(found)),
        str(sum(mined.certificate != "time" for mined in found)),
        str(sum(mined.gap == 0 for mined in found)),
        str(sum(mined.certificate == "attained" for mined in found)),
        f"{float(max(mined.gap for mined in found)):.1e}",
        f"{np.median(seconds):.1f}",
        f"{max(seconds):.1f}",
    ]


def main() -> None:
    """Mine, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="5,20,20,1", help="inputs, layers of ReLUs, outputs")
    parser.add_argument("--relaxation", default="p1", choices=["p1", "mk"])
    parser.add_argument("--k", type=int, help="of mk")
    parser.add_argument("--seeds", type=int, default=10, help="networks of each family")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seconds", type=float, default=60.0, help="limit for one bound")
    wanted = parser.parse_args()
    sizes = [int(size) for size in wanted.sizes.split(",")]
    ends = [-1] * sizes[0], [1] * sizes[0]
    lines: list[list[str]] = []
    for family in FAMILIES:
        found: list[Mined] = []
        for seed in range(wanted.first, wanted.first + wanted.seeds):
            net = family.network(sizes, seed)
            for side in ("lower", "upper"):
                options = {"k": wanted.k, "side": side, "seconds": wanted.seconds}
                found.append(mine(net, *ends, wanted.relaxation, **options))
        lines.append(row(family, found))
        print(*lines[-1], sep="  ", flush=True)
    print(f"\n{wanted.relaxation} of {wanted.sizes}, at most {wanted.seconds:g} s a bound\n")
    print(markdown(HEAD, lines))


if __name__ == "__main__":
    main()
