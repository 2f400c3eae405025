"""Bounds and exact minima on the small networks whose exact ranges are known.

Prints how wide every method's output intervals are, relative to the exact ranges, and how far
the branch and bound ends from the exact minima and maxima.
"""

import time
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import torch
from inputs import Golden, data_root, goldens, markdown

from hullmark.bounds.methods import METHODS, bound_outputs
from hullmark.bounds.program import Program
from hullmark.search.optimum import minimise
from hullmark.verdict import Options

Ends = tuple[Fraction, Fraction]


def method_ranges(golden: Golden, method: str) -> tuple[Ends, ...]:
    """The range of every output that a method proves, exactly the floats it gives."""
    program = Program.compile(golden.network)
    sides = program.enclosing(golden.box.lower, golden.box.upper)
    low, high = bound_outputs(program, *(s.unsqueeze(0) for s in sides), method)
    return tuple(
        (Fraction(a), Fraction(b)) for a, b in zip(low[0].tolist(), high[0].tolist(), strict=True)
    )


def minima(
    golden: Golden, splitting: str, gap: float = 1e-6, timeout: float | None = None
) -> Iterator[tuple[Fraction, float, float]]:
    """For both ends of every output the exact minimum, and the proven bounds on both sides."""
    for j, (low, high) in enumerate(golden.ranges["exact"]):
        for sign, exact in ((1, low), (-1, -high)):
            row = np.zeros(golden.network.output_size)
            row[j] = sign
            options = Options(timeout)
            found = minimise(golden.network, golden.box, row, gap, splitting, options)  # pyright: ignore[reportArgumentType]
            yield exact, found.lower, found.upper


def main() -> None:
    """Print both tables."""
    torch.set_num_threads(1)
    known = goldens(data_root())
    rows: list[list[str]] = []
    for method in ("triangle", "p1", *METHODS):
        started = time.perf_counter()
        ratios: list[float] = []
        contained = 0
        for golden in known:
            given = method not in METHODS
            ranges = golden.ranges[method] if given else method_ranges(golden, method)
            for (low, high), (least, most) in zip(ranges, golden.ranges["exact"], strict=True):
                contained += low <= least and most <= high
                if most > least:
                    ratios.append(float((high - low) / (most - least)))
        seconds = time.perf_counter() - started
        figures = [f"{np.mean(ratios):.3f}", f"{np.median(ratios):.3f}", f"{max(ratios):.2f}"]
        rows.append([method, *figures, str(contained), f"{seconds:.2f}"])
    head = ["method", "mean width / exact", "median", "largest", "contain exact", "s"]
    print(markdown(head, rows), end="\n\n")
    rows = []
    for splitting in ("neurons", "inputs"):
        started = time.perf_counter()
        ends = [end for golden in known for end in minima(golden, splitting, timeout=5)]
        worst = max(upper - lower for _, lower, upper in ends)
        sound = sum(lower <= exact <= upper for exact, lower, upper in ends)
        near = sum(upper - lower <= 1e-6 for _, lower, upper in ends)
        seconds = time.perf_counter() - started
        rows.append(
            [splitting, str(len(ends)), str(sound), str(near), f"{worst:.1e}", f"{seconds:.1f}"]
        )
    head = ["splitting", "minima", "enclosed", "to within 1e-6", "largest gap", "s"]
    print(markdown(head, rows))


if __name__ == "__main__":
    main()
