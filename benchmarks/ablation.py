"""What each kind of joint row brings without branching.

Every variant bounds the worst margin of a few questions on one core. *Closed* is the share of
what alpha-CROWN lacks to a proof. The variants that solve a linear program for each open margin do
so over the bounds of alpha-CROWN; `all` does over those of mining, with its rows and the
multivariate hulls. *All rows* keeps every row of groups that a rule forms by the bounds of each
layer. *Mined only* looks for violated rows once, layer by layer and for the objective, without
filling layers first; *filled only* adds the rows of a few partitions of each layer and drops those
that stay idle, and mines nothing. Lines are kept as by `kpoly.py`:

    python benchmarks/ablation.py --out ablation.csv
    python benchmarks/ablation.py --out ablation.csv --report
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import torch
from asked import IMAGES, PROPERTIES, Asked, images, inequalities, properties
from inputs import data_root, markdown
from runs import Ledger, conclude
from torch import Tensor

from hullmark.bounds.objective import Objective
from hullmark.bounds.relaxation import Relaxation
from hullmark.bounds.rounding import faithful_arithmetic
from hullmark.cuts.cutloop import CutOptions, CutProgram, Separator
from hullmark.cuts.layers import NeuronHulls
from hullmark.cuts.queries import cut_queries
from hullmark.joint.groups import Grouping, shuffled
from hullmark.joint.krelu import Scheme, area, krelu_margins, prima
from hullmark.joint.mine import Mine, Mining
from hullmark.joint.mined import mined_margins
from hullmark.joint.tighten import Miner, Plan

# Seconds of one linear program with its cuts.
PROGRAM = 10.0


@dataclass(frozen=True)
class Result:
    """The worst margin of a question by a variant, the rows that it had, and seconds."""

    question: str
    variant: str
    margin: float
    rows: int
    seconds: float


Bounds = tuple[Tensor, int]
"""Lower bounds of all queries `(Q,)`, and the number of joint rows."""


def by_alpha(asked: Asked) -> Bounds:
    """No joint rows."""
    return asked.alpha()[1], 0


def by_groups(rule: Grouping) -> Callable[[Asked], Bounds]:
    """All rows of groups that are chosen beforehand."""

    def bound(asked: Asked) -> Bounds:
        sides = asked.lower, asked.upper
        scheme = asked.scheme(Scheme(rule))
        found = krelu_margins(asked.program, *sides, asked.objective, scheme)
        return found.lower, sum(found.rows.values())

    return bound


def by_mining(plan: Plan) -> Callable[[Asked], Bounds]:
    """Rows that are violated."""

    def bound(asked: Asked) -> Bounds:
        sides = asked.lower, asked.upper
        found = mined_margins(asked.program, *sides, asked.objective, asked.plan(plan))
        return found.lower, sum(found.rows.values())

    return bound


def by_programs(hulls: bool) -> Callable[[Asked], Bounds]:
    """A linear program for each open query, with or without multivariate hulls."""

    def bound(asked: Asked) -> Bounds:
        relaxation, lower = asked.alpha()
        return programs(asked.objective, relaxation, lower, {}, hulls)

    return bound


def by_all(asked: Asked) -> Bounds:
    """Mined rows and multivariate hulls in a linear program over the bounds of mining."""
    miner = Miner(asked.relaxation(), asked.plan(Plan()))
    miner.propagate()
    mined = miner.margins(asked.objective)
    lower, rows = programs(asked.objective, miner.relaxation, mined, miner.mines, True)
    return lower, rows + sum(len(mine.found) for mine in miner.mines.values())


def programs(
    objective: Objective,
    relaxation: Relaxation,
    lower: Tensor,
    mines: Mapping[int, Mine],
    hulls: bool,
) -> Bounds:
    """The bounds with those that are open improved; how many rows were cut in the end."""
    held, made = inequalities(mines), list[CutProgram]()

    def rule(program: CutProgram) -> Sequence[Separator]:
        program.hold(held)
        made.append(program)
        kinks = program.encoding.kinks if hulls else ()
        return [NeuronHulls(program.encoding, i, program.naming) for i in kinks]

    left = (lower <= 0).nonzero().flatten()
    floor = lower[left].double().numpy()
    options = CutOptions(seconds=PROGRAM, rounds=30 if hulls else 0, target=0.0)
    cuts = cut_queries(relaxation, objective.select(left), rule, floor, lambda: options)
    found = lower.clone()
    for query, cut in zip(left.tolist(), cuts, strict=True):
        if cut is not None:
            found[query] = max(float(found[query]), cut.lower)
    return found, max((len(p.added) - len(held) for p in made), default=0)


def single_pass(k: int) -> Plan:
    """Violated rows alone, looked for once."""
    mining = Mining(k=k)
    return Plan(rounds=1, objective_rounds=1, mining=mining, patience=0, fill=0)


VARIANTS: Mapping[str, Callable[[Asked], Bounds]] = {
    "none (alpha)": by_alpha,
    "triangle, LP": by_programs(False),
    "k = 2 by area, all rows": by_groups(area(2)),
    "k = 3 by area, all rows": by_groups(area(3)),
    "k = 3 overlapping, all rows": by_groups(prima(3)),
    "k = 3 at random, all rows": by_groups(shuffled(3)),
    "mined only, k = 2": by_mining(single_pass(2)),
    "mined only, k = 3": by_mining(single_pass(3)),
    "mined only, k = 5": by_mining(single_pass(5)),
    "filled only": by_mining(Plan(objective_rounds=0, patience=0)),
    "filled and mined, k = 3": by_mining(Plan()),
    "filled and mined, k = 5": by_mining(Plan(mining=Mining(k=5))),
    "counterexamples, no rows": by_mining(Plan(fill=0, mining=Mining(candidates=0))),
    "multivariate, LP": by_programs(True),
    "all": by_all,
}


def report(lines: list[Result]) -> None:
    """Print the share closed, rows and seconds of each variant, a mean for each network."""
    known = {(line.question, line.variant): line for line in lines}
    first = next(iter(VARIANTS))
    for network in sorted({line.question.split()[0] for line in lines}):
        questions = list(
            dict.fromkeys(line.question for line in lines if line.question.split()[0] == network)
        )
        variants = [v for v in VARIANTS if all((q, v) in known for q in questions)]
        body = [row(variant, questions, known, first) for variant in variants]
        print(f"{network}: {len(questions)} questions\n")
        head = ["joint rows", *(q.split(maxsplit=1)[1] for q in questions)]
        print(markdown([*head, "closed", "proved", "rows", "s"], body), end="\n\n")


def row(
    variant: str, questions: list[str], known: Mapping[tuple[str, str], Result], first: str
) -> list[str]:
    """A variant's margins, the share it closes of the sum of alpha's, and its costs."""
    found = [known[q, variant] for q in questions]
    before = sum(max(-known[q, first].margin, 0.0) for q in questions)
    after = sum(max(-line.margin, 0.0) for line in found)
    return [
        variant,
        *(shown(line.margin) for line in found),
        f"{1 - after / before:.1%}" if before else "",
        str(sum(line.margin > 0 for line in found)),
        f"{np.mean([line.rows for line in found]):.0f}",
        f"{np.mean([line.seconds for line in found]):.1f}",
    ]


def shown(margin: float) -> str:
    """A margin; mining may show that one is positive and by no number that is known."""
    return "> 0" if 0 < margin < 1e-9 else f"{margin:.3f}"


@faithful_arithmetic()
@torch.no_grad()
def measure(wanted: argparse.Namespace, ledger: Ledger[Result]) -> None:
    """Bound what the file does not have yet."""
    root = data_root()
    done = {(line.question, line.variant) for line in ledger.lines()}
    asked = images(root, wanted.images) | properties(root, wanted.properties)
    for name, question in asked.items():
        for variant in wanted.variants or VARIANTS:
            if (name, variant) in done:
                continue
            one = Asked.of(name, question, wanted.limit)
            lower, rows = VARIANTS[variant](one)
            line = Result(name, variant, float(lower.min()), rows, round(one.clock.cpu, 2))
            ledger.add(line)
            print(*astuple(line), flush=True)


def main() -> None:
    """Measure, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("ablation.csv"), help="appended to")
    parser.add_argument("--images", type=int, nargs="*", default=list(IMAGES), help="of 6x100")
    parser.add_argument("--properties", nargs="*", default=list(PROPERTIES), help="of 256x2")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS))
    parser.add_argument("--limit", type=float, default=30.0, help="seconds after which ascents end")
    parser.add_argument("--report", action="store_true", help="only print what is in the file")
    conclude(parser.parse_args(), Result, report, measure)


if __name__ == "__main__":
    main()
