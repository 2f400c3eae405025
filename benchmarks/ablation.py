"""What each kind of joint row brings without branching, and how few rows mining needs.

Every variant bounds the worst margin of a few questions on one core. *Closed* is the share of
what alpha-CROWN lacks to a proof. The variants that solve a linear program for each open margin do
so over the bounds of alpha-CROWN; `all` does over those of mining, with its rows and the
multivariate hulls. Lines are kept as by `kpoly.py`:

    python benchmarks/ablation.py --out ablation.csv
    python benchmarks/ablation.py --out ablation.csv --report

`--facets` mines for the worst query of questions of 256x2, over the bounds of alpha-CROWN, and
compares with all facets of all the groups that it looked at. Both bounds are optima of linear
programs, that with all facets found by separating until nothing is violated.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from inputs import data_root, instances, markdown
from kpoly import MARGINS, NEURONS, Clock, Ledger, Robust
from torch import Tensor

from hullmark.bounds.alpha import ascend, propagate_optimised
from hullmark.bounds.objective import Objective
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation
from hullmark.bounds.rounding import faithful_arithmetic
from hullmark.cuts.cutloop import CutBound, CutOptions, CutProgram, cut_loop
from hullmark.cuts.layers import NeuronHulls
from hullmark.cuts.separators import ReluGroups
from hullmark.encode import Inequalities, Query, encode
from hullmark.joint.krelu import Grouping, Scheme, area, krelu_margins, prima, shuffled
from hullmark.joint.mine import Mine, Mining
from hullmark.joint.mined import mined_margins
from hullmark.joint.store import Array, Groups
from hullmark.joint.tighten import Miner, Plan
from hullmark.network.onnx import load_onnx
from hullmark.relax.fasthull import all_facets
from hullmark.search.strategy import Question
from hullmark.search.witness import Replay
from hullmark.spec.load import load_property
from hullmark.verdict import Options
from hullmark.verify import as_property

IMAGES = (9, 12, 21, 22)
PROPERTIES = ("prop_2_0.03", "prop_6_0.03", "prop_0_0.05", "prop_9_0.05", "prop_11_0.05")
# Seconds of one linear program with its cuts.
PROGRAM = 10.0
PATIENT = CutOptions(rounds=100, least_gain=1e-6, slack_rounds=100)
# Of what all facets close, to which the rows of mining are counted.
SHARES = (0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True, eq=False)
class Asked:
    """A question over one box, compiled, and the time it has."""

    name: str
    program: Program
    lower: Tensor
    upper: Tensor
    objective: Objective
    clock: Clock

    @staticmethod
    def of(name: str, question: Question, seconds: float) -> "Asked":
        """A question; its time starts now."""
        box = question.prop.cases[0].box
        sides = question.program.enclosing(box.lower, box.upper)
        return Asked(name, question.program, *sides, question.objective, Clock(seconds))

    def relaxation(self) -> Relaxation:
        """The box, nothing bounded yet."""
        return Relaxation(self.program, self.lower.unsqueeze(0), self.upper.unsqueeze(0))

    def plan(self, plan: Plan) -> Plan:
        """The plan within the time."""
        return replace(plan, stop=self.clock.over, spent=self.clock.spent)


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


def alpha(asked: Asked) -> tuple[Relaxation, Tensor]:
    """Bounds of all pre-activations, and of all queries, without joint rows."""
    relaxation = asked.relaxation()
    propagate_optimised(relaxation, NEURONS, sieve=True)
    return relaxation, ascend(relaxation, asked.objective, MARGINS).lower[0]


def by_alpha(asked: Asked) -> Bounds:
    """No joint rows."""
    return alpha(asked)[1], 0


def by_groups(rule: Grouping) -> Callable[[Asked], Bounds]:
    """All rows of groups that are chosen beforehand."""

    def bound(asked: Asked) -> Bounds:
        sides = asked.lower, asked.upper
        plain, over = Scheme(rule), asked.clock.over
        scheme = Scheme(
            rule,
            neurons=replace(plain.neurons, stop=over),
            forms=replace(plain.forms, stop=over),
            queries=replace(plain.queries, stop=over),
        )
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
        relaxation, lower = alpha(asked)
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
    """The bounds with those that are open improved; the largest number of rows that were cut."""
    encoding = encode(relaxation)
    held = inequalities(mines)
    separators = [NeuronHulls(encoding, i) for i in encoding.kinks] if hulls else []
    found, rows = lower.clone(), 0
    program: CutProgram | None = None
    for query in (lower <= 0).nonzero().flatten().tolist():
        goals = Query.of(objective, query).goals(encoding)
        if program is None:
            program = CutProgram(encoding, goals)
            program.hold(held)
        else:
            program.aim(goals[0])
        options = CutOptions(seconds=PROGRAM, rounds=30 if separators else 0, target=0.0)
        cut = cut_loop(program, separators, options)
        found[query] = max(float(found[query]), cut.lower)
        rows = max(rows, len(program.added) - len(held))
    return found, rows


def inequalities(mines: Mapping[int, Mine]) -> Inequalities:
    """All rows that were mined."""
    return Inequalities.joined(
        [
            Inequalities.of_groups(block.rows, mine.layer.pre, mine.layer.post, block.groups)
            for mine in mines.values()
            for block in mine.found.blocks
        ]
    )


SINGLE_PASS = Plan(patience=0)
VARIANTS: Mapping[str, Callable[[Asked], Bounds]] = {
    "none (alpha)": by_alpha,
    "triangle, LP": by_programs(False),
    "multivariate, LP": by_programs(True),
    "k = 2 by area": by_groups(area(2)),
    "k = 3 by area": by_groups(area(3)),
    "k = 3 at random": by_groups(shuffled(3)),
    "k = 3 overlapping": by_groups(prima(3)),
    "mined, k = 2, one pass": by_mining(replace(SINGLE_PASS, mining=Mining(k=2))),
    "mined, k = 3, one pass": by_mining(SINGLE_PASS),
    "mined, k = 5, one pass": by_mining(replace(SINGLE_PASS, mining=Mining(k=5))),
    "counterexamples, no rows": by_mining(Plan(mining=Mining(candidates=0))),
    "mined, k = 2": by_mining(Plan(mining=Mining(k=2))),
    "mined, k = 3": by_mining(Plan()),
    "mined, k = 5": by_mining(Plan(mining=Mining(k=5))),
    "all": by_all,
}


def images(root: Path, numbers: list[int]) -> dict[str, Question]:
    """Questions of 6x100."""
    network = Robust(root, "mnist_6x100")
    return {f"6x100 image {number}": network.question(number) for number in numbers}


def properties(root: Path, names: list[str]) -> dict[str, Question]:
    """Questions of 256x2."""
    found: dict[str, Question] = {}
    for instance in instances(root, "mnist_fc"):
        name = Path(instance.vnnlib).stem
        if "256x2" not in instance.onnx or name not in names:
            continue
        model = load_onnx(instance.network)
        sizes = model.network.input_size, model.network.output_size
        prop = as_property(load_property(instance.question, *sizes), model.network)
        found[f"256x2 {name}"] = Question.of(model, prop, Replay(model, prop), Options())
    return found


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


def compare(name: str, question: Question, rounds: int) -> Comparison:
    """Mine for the worst query alone, over the bounds of alpha-CROWN."""
    asked = Asked.of(name, question, float("inf"))
    miner = Miner(asked.relaxation(), Plan(rounds=0))
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


@faithful_arithmetic()
@torch.no_grad()
def facets(wanted: argparse.Namespace) -> None:
    """Print the comparison with all facets."""
    asked = properties(data_root(), wanted.properties)
    found = [compare(name, question, wanted.rounds) for name, question in asked.items()]
    print(facets_table(found))


def main() -> None:
    """Measure, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("ablation.csv"), help="appended to")
    parser.add_argument("--images", type=int, nargs="*", default=list(IMAGES), help="of 6x100")
    parser.add_argument("--properties", nargs="*", default=list(PROPERTIES), help="of 256x2")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS))
    parser.add_argument("--limit", type=float, default=30.0, help="seconds after which ascents end")
    parser.add_argument("--report", action="store_true", help="only print what is in the file")
    parser.add_argument("--facets", action="store_true", help="compare mining with all facets")
    parser.add_argument("--rounds", type=int, default=12, help="of mining for that")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    ledger = Ledger(wanted.out, Result)
    if wanted.report:
        report(ledger.lines())
    elif wanted.facets:
        facets(wanted)
    else:
        measure(wanted, ledger)


if __name__ == "__main__":
    main()
