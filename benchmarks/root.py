"""How much of what alpha-CROWN leaves open mined joint rows close at the root, in 15 seconds.

Over the images that alpha-CROWN does not prove and an attack does not refute, with worst margins
`m` with joint rows and `a` by alpha-CROWN: `1 - sum (-m)^+ / sum (-a)`. No branching; the limit is
processor time of one core, everything after loading included. Options, output and resuming are as
for `kpoly.py`:

    python benchmarks/root.py --out root.csv
    python benchmarks/root.py --out root.csv --report
"""

import numpy as np
from inputs import data_root, markdown
from kpoly import options, run
from runs import Ledger
from table3 import Line

NETWORKS = ["mnist_6x100", "mnist_9x200"]
IMAGES = "0:20:1"
LIMIT = 15.0


def share(lines: list[Line]) -> float:
    """How much of the sum of the open margins is closed; 1 where nothing is open."""
    before = -sum(line.alpha for line in lines)
    after = sum(max(-line.mined, 0.0) for line in lines)
    return 1 - after / before if before > 0 else 1.0


def report(lines: list[Line]) -> None:
    """Print the totals, and a table of the open images of each network."""
    names = list(dict.fromkeys(line.network for line in lines))
    totals: list[list[str]] = []
    for name in names:
        open_lines = open_images([line for line in lines if line.network == name])
        if open_lines:
            proved = sum(line.verified for line in open_lines)
            seconds = [line.cpu for line in open_lines]
            figures = [f"{share(open_lines):.1%}", f"{np.mean(seconds):.1f}", f"{max(seconds):.1f}"]
            totals.append([name, str(len(open_lines)), str(proved), *figures])
    head = ["network", "open images", "proved", "closed", "mean s", "largest s"]
    print(markdown(head, totals))
    for name in names:
        body = [
            [
                str(line.image),
                f"{line.alpha:.3f}",
                f"{line.mined:.3f}",
                f"{share([line]):.1%}",
                str(line.rows),
                f"{line.cpu:.1f}",
            ]
            for line in open_images([line for line in lines if line.network == name])
        ]
        print(f"\n{name}\n")
        print(markdown(["image", "alpha", "with rows", "closed", "rows", "s"], body))


def open_images(lines: list[Line]) -> list[Line]:
    """Those to which joint rows were put, in order."""
    tried = [line for line in lines if line.status in ("mined", "open")]
    return sorted(tried, key=lambda line: line.image)


def main() -> None:
    """Examine images, or print the tables."""
    wanted = options(__doc__, NETWORKS, LIMIT).parse_args()
    wanted.images = wanted.images or IMAGES
    if wanted.report:
        report(Ledger(wanted.out, Line).lines())
    else:
        run(wanted, data_root())


if __name__ == "__main__":
    main()
