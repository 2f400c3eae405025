"""Which method for which problem: attack, bounds, then the search that fits the input.

The user chooses nothing here. Few live inputs: split the box. Many: bound the root well, then
split neurons. Networks with pieces that no split makes affine are searched over the box.
"""

import math
from dataclasses import dataclass, replace

import torch

from hullmark.bounds.alpha import Ascended, Ascent, ascend, propagate_optimised
from hullmark.bounds.linear import propagate
from hullmark.bounds.objective import Objective, objective_of
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation, Stopped
from hullmark.bounds.rounding import faithful_arithmetic
from hullmark.network.model import Model
from hullmark.search.attack import Plan, Target, attack, descend
from hullmark.search.boxes import BoxTree, live_inputs
from hullmark.search.effort import Effort
from hullmark.search.judge import WitnessJudge
from hullmark.search.neurons import NeuronTree
from hullmark.search.witness import Replay
from hullmark.spec.property import Property
from hullmark.verdict import (
    Monitor,
    Options,
    Proved,
    Reason,
    Refuted,
    Stats,
    Unknown,
    Verdict,
    Witness,
)

# Boxes are split if at most so many inputs vary, or if a few more do and one backward pass takes
# at most so many multiplications; neurons otherwise.
FEW_INPUTS = 8
SOME_INPUTS = 20
SMALL_WORK = 5_000_000
ROOT = Ascent(steps=30, slope_rate=0.3, decay=0.9)
ROOT_OBJECTIVE = Ascent(steps=40, decay=0.97)
# The share of the time that goes into the root's bounds, at so many multiplications a second.
ROOT_SHARE = 0.15
ROOT_RATE = 5e9
LOCAL = Plan(restarts=1, steps=15, first=0.05, last=0.002)
QUICK = Plan(restarts=8, steps=20, first=0.1, last=0.002)
THOROUGH = Plan(restarts=16, steps=40)


@dataclass(frozen=True, eq=False)
class Question:
    """A model and a property, compiled."""

    model: Model
    prop: Property
    program: Program
    objective: Objective
    replay: Replay
    options: Options


def decide(model: Model, prop: Property, options: Options, monitor: Monitor) -> Verdict:
    """Prove or refute a property, or say what is known when time runs out.

    Arguments:
        model: the network (without a final softmax) and its original.
        prop: the property, over the same inputs and outputs.
        options: time, memory, device, precision, seed.
        monitor: told about progress.

    Trust: `Proved` rests on bounds rounded outwards only, `Refuted` on an exact replay only.
    """
    deadline = options.deadline()
    effort = Effort(deadline, monitor, options.memory or 2 << 30)
    if not prop.cases:
        return Proved(math.inf, deadline.elapsed(), Stats("bounds"))
    replay = Replay(model, prop)
    reason: Reason = "timeout"
    witness: Witness | None = None
    detail = ""
    try:
        with faithful_arithmetic(), torch.no_grad():
            program = Program.compile(model.network, options.device, getattr(torch, options.dtype))
            question = Question(
                model, prop, program, objective_of(program, prop.cases), replay, options
            )
            proved, witness = _search(question, effort)
            if proved and witness is None:
                return Proved(effort.bound, deadline.elapsed(), _stats(effort))
            reason = "timeout" if deadline.expired() else "incomplete"
    except Stopped:
        reason = "timeout"
    except KeyboardInterrupt:
        reason = "interrupted"
    except (MemoryError, torch.OutOfMemoryError) as error:
        reason, detail = "memory", str(error)
    if witness is not None:
        return Refuted(witness, deadline.elapsed(), _stats(effort))
    return Unknown(reason, effort.bound, effort.open, deadline.elapsed(), _stats(effort), detail)


def _stats(effort: Effort) -> Stats:
    return Stats(effort.method, effort.domains, effort.leaves, effort.attack_points)


def _search(question: Question, effort: Effort) -> tuple[bool, Witness | None]:
    """Whether everything was proved, and the witness if there is one."""
    effort.method = "attack"
    witness = _attack(question, QUICK, effort)
    if question.replay.settles(witness):
        return False, witness
    target = _target(question)

    def hunt(x: torch.Tensor, case: torch.Tensor) -> Witness | None:
        program = question.program.single
        starts = x.to(program.dtype).unsqueeze(1)
        with torch.enable_grad():
            return descend(program, target.part(case), starts, question.replay, LOCAL, effort)

    judge = WitnessJudge(question.replay, hunt)
    judge.take(witness)
    cases = question.prop.cases
    if any(not case.constraints for case in cases):
        # Every input of such a case is a counterexample, and the attack found none that replays.
        return False, witness
    live = max(
        len(live_inputs(torch.as_tensor(box.lower)[None], torch.as_tensor(box.upper)[None]))
        for box, _ in question.prop.groups
    )
    small = live <= SOME_INPUTS and question.program.work[-1] <= SMALL_WORK
    if live <= FEW_INPUTS or small or not _piecewise_linear(question.program):
        proved = _split_boxes(question, judge, effort)
    else:
        proved = _split_neurons(question, judge, effort)
    return proved, judge.witness


def _piecewise_linear(program: Program) -> bool:
    return all(i in program.slopes for i in program.nonlinear)


def _target(question: Question) -> Target:
    program = question.program.single
    boxes = [case.box for case in question.prop.cases]
    return Target(
        torch.stack([program.tensor(b.lower) for b in boxes]),
        torch.stack([program.tensor(b.upper) for b in boxes]),
        question.objective.cast(program),
        torch.arange(len(boxes), device=program.device),
    )


def _attack(question: Question, plan: Plan, effort: Effort) -> Witness | None:
    with torch.enable_grad():
        return attack(
            question.program.single,
            _target(question),
            question.replay,
            plan,
            effort,
            question.options.seed,
        )


def _split_boxes(question: Question, judge: WitnessJudge, effort: Effort) -> bool:
    effort.method = "input splitting"
    cases, program = question.prop.cases, question.program
    tree = BoxTree(program, question.objective, judge, effort)
    boxes = [program.enclosing(c.box.lower, c.box.upper) for c in cases]
    lower = torch.stack([b[0] for b in boxes])
    upper = torch.stack([b[1] for b in boxes])
    return tree.run(lower, upper, torch.arange(len(cases), device=program.device))


def _split_neurons(question: Question, judge: WitnessJudge, effort: Effort) -> bool:
    """Box by box; what is known of the property is the worst of what is known of each."""
    program = question.program
    closed = math.inf
    groups = question.prop.groups
    for number, (box, members) in enumerate(groups):
        effort.lower = -math.inf
        effort.elsewhere = closed if number + 1 == len(groups) else -math.inf
        if judge.finished or effort.deadline.expired():
            return False
        effort.method = "bounds"
        root = Relaxation(program, *program.enclosing(box.lower, box.upper))
        root.stop = effort.deadline.expired
        cases = torch.tensor(members, device=program.device)
        if not _prove_box(question, root, cases, judge, effort):
            return False
        closed = min(closed, effort.lower)
    effort.lower = effort.elsewhere = closed
    return True


def _prove_box(
    question: Question,
    root: Relaxation,
    cases: torch.Tensor,
    judge: WitnessJudge,
    effort: Effort,
) -> bool:
    objective = question.objective.select(cases)
    propagate(root, sieve=True)
    found = ascend(root, objective, Ascent(steps=0))
    effort.lower = float(found.lower.min())
    if effort.lower > 0:
        effort.domains += len(cases)
        effort.leaves += len(cases)
        return True
    effort.report("root bounds")
    judge.take(_attack(question, THOROUGH, effort))
    if judge.finished:
        return False
    better = Relaxation(question.program, root.lower, root.upper)
    better.stop = stop = effort.deadline.expired
    layers = max(1, len(question.program.pre_activations))
    work = ROOT_RATE * ROOT_SHARE * min(effort.deadline.remaining(), 300.0) / layers
    propagate_optimised(better, replace(ROOT, stop=stop, work=work), sieve=True)
    effort.report("root bounds")
    root_found: Ascended = ascend(better, objective, replace(ROOT_OBJECTIVE, stop=stop))
    effort.lower = float(root_found.lower.min())
    effort.domains += len(cases)
    open_cases = (root_found.lower[0] <= 0).nonzero().squeeze(1)
    effort.leaves += len(cases) - len(open_cases)
    if len(open_cases) == 0:
        return True
    effort.method = "relu splitting"
    tree = NeuronTree(better, objective, _Renamed(judge, cases), effort)
    proved = tree.run(open_cases, root_found)
    effort.lower = min([effort.lower, *root_found.lower[0][root_found.lower[0] > 0].tolist()])
    return proved


class _Renamed:
    """A judge for a part of the cases, which it knows by their place in the part."""

    def __init__(self, judge: WitnessJudge, cases: torch.Tensor) -> None:
        self._judge = judge
        self._cases = cases
        self.threshold = judge.threshold

    @property
    def finished(self) -> bool:
        return self._judge.finished

    def offer(self, x: torch.Tensor, margin: torch.Tensor, case: torch.Tensor) -> None:
        """Pass the points on under the cases' own numbers."""
        self._judge.offer(x, margin, self._cases[case])

    def hunt(self, x: torch.Tensor, margin: torch.Tensor, case: torch.Tensor) -> None:
        """Pass the points on under the cases' own numbers."""
        self._judge.hunt(x, margin, self._cases[case])
