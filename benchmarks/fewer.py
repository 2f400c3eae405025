"""How few rows mining needs, of all facets of all the groups that it looked at.

Mines for the worst query of questions of 256x2, over the bounds of alpha-CROWN and from no rows at
all. Both bounds are optima of linear programs, that with all facets found by separating until
nothing is violated:

    python benchmarks/fewer.py --properties prop_2_0.03 prop_6_0.03
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from asked import PROPERTIES, Asked, inequalities, properties
from inputs import data_root, markdown

from hullmark.bounds.relaxation import Relaxation
from hullmark.bounds.rounding import faithful_arithmetic
from hullmark.cuts.cutloop import CutBound, CutOptions, CutProgram, cut_loop
from hullmark.cuts.separators import ReluGroups
from hullmark.encode import Query, encode
from hullmark.joint.mine import Mine
from hullmark.joint.store import Array, Groups
from hullmark.joint.tighten import Miner, Plan
from hullmark.relax.fasthull import all_facets
from hullmark.search.strategy import Question

PATIENT = CutOptions(rounds=100, least_gain=1e-6, slack_rounds=100)
# Of what all facets close, to which the rows of mining are counted.
SHARES = (0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Comparison:
    """Mining and all facets for one query, over the same bounds of the neurons.

    `groups`: all that mining looked at; `facets`: of their hulls; `without`, `complete`: the
    bounds with none and with all of them; `mined`: after each round the rows, and the bound with
    them; `used`: the rows with a multiplier in the last of these bounds; `converged`: whether
    nothing violated was left at `complete`, which is too low otherwise.
    """

    question: str
    groups: int
    facets: int
    without: float
    complete: float
    mined: tuple[tuple[int, float], ...]
    used: int
    converged: bool

    def reached(self, share: float) -> int | None:
        """The rows of the first round that closes that share of what all facets close."""
        wanted = self.without + share * (self.complete - self.without)
        return next((rows for rows, bound in self.mined if bound >= wanted), None)


@faithful_arithmetic()
@torch.no_grad()
def compare(name: str, question: Question, rounds: int) -> Comparison:
    """Mine for the worst query alone, over the bounds of alpha-CROWN."""
    asked = Asked.of(name, question, float("inf"))
    miner = Miner(asked.relaxation(), Plan(fill=0))
    miner.propagate()
    worst = int(miner.bound(asked.objective, 0).lower[0].argmin())
    single = asked.objective.select(slice(worst, worst + 1))
    # Mining ends where a query is proved; here it is to go on.
    raised = replace(single, bound=single.bound + 1e3)
    encoding = encode(miner.relaxation)
    program = CutProgram(encoding, Query.of(single, 0).goals(encoding))
    without = cut_loop(program, [], PATIENT).lower
    mined: list[tuple[int, float]] = []
    cut: CutBound | None = None
    for _ in range(rounds):
        miner.bound(raised, 1)
        rows = inequalities(miner.mines)
        program = CutProgram(encoding, Query.of(single, 0).goals(encoding))
        program.hold(rows)
        cut = cut_loop(program, [], PATIENT)
        mined.append((len(rows), cut.lower))
    separators = [s for mine in miner.mines.values() for s in looked_at(miner.relaxation, mine)]
    complete = cut_loop(program, separators, PATIENT)
    return Comparison(
        name,
        sum(len(s.groups) for s in separators),
        sum(facets_of(s.bounds) for s in miner.mines.values()),
        without,
        complete.lower,
        tuple(mined),
        0 if cut is None else len(cut.rows),
        complete.converged,
    )


def looked_at(relaxation: Relaxation, mine: Mine) -> list[ReluGroups]:
    """Separators for all groups of a layer that mining looked at, by their sizes."""
    return [
        ReluGroups(relaxation, mine.layer.post, groups, bounds)
        for groups, bounds in by_size(mine.bounds)
    ]


def facets_of(known: Mapping[tuple[int, ...], Array]) -> int:
    """How many facets the hulls of these groups of ReLUs have together."""
    return sum(len(all_facets(bounds)) for _, bounds in by_size(known))


def by_size(known: Mapping[tuple[int, ...], Array]) -> Iterator[tuple[Groups, Array]]:
    """Groups `(G, k)` and their octahedral bounds, for each k that there is."""
    for k in sorted({len(group) for group in known}):
        groups = [group for group in known if len(group) == k]
        yield np.array(groups, dtype=np.intp), np.stack([known[group] for group in groups])


def facets_table(found: list[Comparison]) -> str:
    """The bounds, and how many rows mining took to shares of what all facets close."""
    body: list[list[str]] = []
    for one in found:
        last = one.mined[-1]
        share = (last[1] - one.without) / (one.complete - one.without)
        reached = [one.reached(part) for part in SHARES]
        body.append(
            [
                one.question.split()[1],
                str(one.groups),
                str(one.facets),
                f"{one.without:.4f}",
                f"{one.complete:.4f}" + ("" if one.converged else " or more"),
                *("-" if r is None else f"{r} ({one.facets / max(r, 1):.0f})" for r in reached),
                f"{share:.1%} with {last[0]} rows, {one.used} of them used",
            ]
        )
    head = ["256x2", "groups", "facets", "bound without", "with all facets"]
    head += [f"rows to {part:.0%} (times fewer)" for part in SHARES]
    return markdown([*head, "in the end"], body)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--properties", nargs="*", default=list(PROPERTIES), help="of 256x2")
    parser.add_argument("--rounds", type=int, default=12, help="of mining")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    asked = properties(data_root(), wanted.properties)
    found = [compare(name, question, wanted.rounds) for name, question in asked.items()]
    print(facets_table(found))


if __name__ == "__main__":
    main()
