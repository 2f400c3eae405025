"""Which groups to relax jointly: the rules compared at equal size, bounds and solver.

A question's open queries, those that alpha-CROWN does not prove, are bounded by linear programs
over the bounds of alpha-CROWN, with the rows of the groups of one rule separated until nothing is
violated or the time is over: the method `krelu` of `hullmark.bound`. *Closed* is the share of what
the triangle relaxation, the same programs without groups, leaves open. All groups have k neurons,
but that `adaptive` chooses k itself and takes groups of three; rules differ in how many groups they
form. The limit is by the wall, of each rule. Lines are kept as by `kpoly.py`:

    python benchmarks/groupings.py --out groupings.csv --limit 60
    python benchmarks/groupings.py --out groupings.csv --report
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import torch
from asked import Asked, images, properties
from inputs import data_root, markdown
from runs import Ledger, conclude

from hullmark.bounds.objective import Objective
from hullmark.bounds.relaxation import Relaxation
from hullmark.bounds.rounding import faithful_arithmetic
from hullmark.methods.grouping import groups_of
from hullmark.methods.names import JOINT, MethodOptions, check
from hullmark.methods.programs import bound_by_programs
from hullmark.methods.task import Task
from hullmark.verdict import Deadline

METHOD = "krelu"
TRIANGLE = "none (triangle)"
RULES = (TRIANGLE, *JOINT[METHOD].rules)
IMAGES = (9, 21, 22)
PROPERTIES = ("prop_2_0.03", "prop_6_0.03", "prop_0_0.05")


@dataclass(frozen=True)
class Result:
    """What the groups of a rule bring to the open queries of a question.

    `worst`: the least bound; `lost`: the sum of all negative ones, as a positive number; `rows`:
    on which the bounds rest, a mean over the queries; `complete`: 1 if the time was enough.
    """

    question: str
    rule: str
    k: int
    worst: float
    lost: float
    groups: int
    rows: float
    complete: int
    seconds: float


def options_of(rule: str, k: int) -> MethodOptions:
    """What the method is told."""
    if rule == TRIANGLE:
        return check(METHOD, MethodOptions(k=1))
    return check(METHOD, MethodOptions(k=None if rule == "adaptive" else k, groups=rule))


def bound(asked: Asked, rule: str, k: int, relaxation: Relaxation) -> Result:
    """Bound all queries of the question, which has none that are proved.

    Arguments:
        relaxation: with bounds of every pre-activation, to count the groups by.
    """
    options = options_of(rule, k)
    groups = {} if rule == TRIANGLE else groups_of(relaxation, asked.objective, options)
    clock = Deadline(time.perf_counter(), asked.clock.limit)
    # No property: the queries are linear functions, each with a bound of its own.
    task = Task(asked.program, asked.lower, asked.upper, asked.objective, 0, clock)
    found = bound_by_programs(task, METHOD, options)
    return Result(
        asked.name,
        rule,
        k,
        float(found.lower.min()),
        float(np.maximum(-found.lower, 0.0).sum()),
        sum(len(members) for members in groups.values()),
        round(found.rows / asked.objective.queries, 1),
        int(found.complete),
        round(clock.elapsed(), 2),
    )


def open_queries(asked: Asked) -> tuple[Relaxation, Objective]:
    """The queries that alpha-CROWN leaves open, and its bounds."""
    relaxation, lower = asked.alpha()
    return relaxation, asked.objective.select((lower <= 0).nonzero().flatten())


def report(lines: list[Result]) -> None:
    """Print a table for each k and network, of the questions that all rules have."""
    for k in sorted({line.k for line in lines}):
        known = {(line.question, line.rule): line for line in lines if line.k == k}
        rules = [rule for rule in RULES if any(rule == other for _, other in known)]
        asked = dict.fromkeys(question for question, _ in known)
        whole = [q for q in asked if all((q, rule) in known for rule in rules)]
        for network in sorted({question.split()[0] for question in whole}):
            questions = [q for q in whole if q.split()[0] == network]
            body = [row(rule, questions, known) for rule in rules]
            names = ", ".join(q.split(maxsplit=1)[1] for q in questions)
            print(f"{network}, k = {k}: {names}\n")
            head = ["groups by", *("margin" for _ in questions), "closed", "groups", "rows"]
            print(markdown([*head, "s", "in time"], body), end="\n\n")


def row(rule: str, questions: list[str], known: Mapping[tuple[str, str], Result]) -> list[str]:
    """A rule's worst margins, the share it closes of what the triangle leaves, and its costs."""
    found = [known[q, rule] for q in questions]
    closed = ""
    if all((q, TRIANGLE) in known for q in questions):
        before = sum(known[q, TRIANGLE].lost for q in questions)
        closed = f"{1 - sum(line.lost for line in found) / before:.1%}" if before else ""
    return [
        rule,
        *(f"{line.worst:.3f}" for line in found),
        closed,
        f"{np.mean([line.groups for line in found]):.0f}",
        f"{np.mean([line.rows for line in found]):.0f}",
        f"{np.mean([line.seconds for line in found]):.1f}",
        f"{sum(line.complete for line in found)} of {len(found)}",
    ]


@faithful_arithmetic()
@torch.no_grad()
def measure(wanted: argparse.Namespace, ledger: Ledger[Result]) -> None:
    """Bound what the file does not have yet."""
    root = data_root()
    done = {(line.question, line.rule, line.k) for line in ledger.lines()}
    asked = properties(root, wanted.properties) | images(root, wanted.images)
    for name, question in asked.items():
        left = [rule for rule in wanted.rules if (name, rule, wanted.k) not in done]
        if not left:
            continue
        one = Asked.of(name, question, wanted.limit)
        relaxation, queries = open_queries(one)
        if not queries.queries:
            continue
        sides = one.lower, one.upper
        part = Asked(name, one.program, *sides, queries, one.clock)
        for rule in left:
            line = bound(part, rule, wanted.k, relaxation)
            ledger.add(line)
            print(*astuple(line), flush=True)


def main() -> None:
    """Measure, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="CSV file, appended to")
    parser.add_argument("--images", type=int, nargs="*", default=list(IMAGES), help="of 6x100")
    parser.add_argument("--properties", nargs="*", default=list(PROPERTIES), help="of 256x2")
    parser.add_argument("--rules", nargs="+", choices=RULES, default=list(RULES))
    parser.add_argument("--k", type=int, default=3)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds of a rule")
    parser.add_argument("--report", action="store_true", help="only print what is in the file")
    conclude(parser.parse_args(), Result, report, measure)


if __name__ == "__main__":
    main()
