"""Which method for which problem: attack, bounds, then the search that fits the input.

The user chooses nothing here. Few live inputs: split the box. Many: bound the root well, then
split neurons. Networks with pieces that no split makes affine are searched over the box.
"""

import math
from dataclasses import dataclass, replace

import torch

from hullmark.bounds.alpha import Ascent, ascend
from hullmark.bounds.linear import propagate, unstable_neurons
from hullmark.bounds.objective import Objective, objective_of
from hullmark.bounds.optimised import propagate_optimised
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
# The share of the time that may go into the root's bounds, and how much faster an ascent works
# than the plain passes before it, which are in double precision.
ROOT_SHARE = 0.2
SPEED_UP = 2.0
# Bytes that open subproblems may take where the options name no limit.
MEMORY = 2 << 30
LOCAL = Plan(restarts=1, steps=15, first=0.05, last=0.002)
QUICK = Plan(restarts=8, steps=20, first=0.1, last=0.002)
THOROUGH = Plan(restarts=16, steps=40)


@dataclass(frozen=True, eq=False)
class Question:
    """A property of a model, compiled."""

    prop: Property
    program: Program
    objective: Objective
    target: Target
    replay: Replay
    options: Options

    @staticmethod
    def of(model: Model, prop: Property, replay: Replay, options: Options) -> "Question":
        """Compile for the device and precision of the options."""
        program = Program.compile(model.network, options.device, getattr(torch, options.dtype))
        objective = objective_of(program, prop.cases)
        fast = program.single
        target = Target(
            torch.stack([fast.tensor(case.box.lower) for case in prop.cases]),
            torch.stack([fast.tensor(case.box.upper) for case in prop.cases]),
            objective.cast(fast),
            torch.arange(len(prop.cases), device=fast.device),
        )
        return Question(prop, program, objective, target, replay, options)

    def judge(self, effort: Effort) -> WitnessJudge:
        """A judge whose hunts descend from given points in the boxes of their cases."""

        def hunt(x: torch.Tensor, case: torch.Tensor) -> Witness | None:
            program = self.program.single
            starts = x.to(program.dtype).unsqueeze(1)
            with torch.enable_grad():
                return descend(program, self.target.part(case), starts, self.replay, LOCAL, effort)

        return WitnessJudge(self.replay, hunt)

    def attack(self, plan: Plan, effort: Effort) -> Witness | None:
        """Attack all cases at once."""
        with torch.enable_grad():
            return attack(
                self.program.single, self.target, self.replay, plan, effort, self.options.seed
            )


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
    effort = Effort(deadline, monitor, options.memory or MEMORY)
    if not prop.cases:
        return Proved(math.inf, deadline.elapsed(), Stats("bounds"))
    judge: WitnessJudge | None = None
    reason: Reason = "timeout"
    detail = ""
    try:
        with faithful_arithmetic(), torch.no_grad():
            question = Question.of(model, prop, Replay(model, prop), options)
            judge = question.judge(effort)
            if _search(question, judge, effort):
                return Proved(effort.bound, deadline.elapsed(), _stats(effort))
            reason = "timeout" if deadline.expired() else "incomplete"
    except Stopped:
        reason = "timeout"
    except KeyboardInterrupt:
        reason = "interrupted"
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        reason, detail = "memory", str(error).splitlines()[0] if str(error) else ""
    if judge is not None and judge.witness is not None:
        return Refuted(judge.witness, deadline.elapsed(), _stats(effort))
    return Unknown(reason, effort.bound, effort.open, deadline.elapsed(), _stats(effort), detail)


def _stats(effort: Effort) -> Stats:
    return Stats(effort.method, effort.domains, effort.leaves, effort.attack_points)


def _search(question: Question, judge: WitnessJudge, effort: Effort) -> bool:
    """Whether everything was proved; what refutes it is with the judge."""
    effort.method = "attack"
    judge.take(question.attack(QUICK, effort))
    if judge.finished or any(not case.constraints for case in question.prop.cases):
        # Every input of a case without constraints is a counterexample: nothing to prove.
        return False
    live = max(
        len(live_inputs(torch.as_tensor(box.lower)[None], torch.as_tensor(box.upper)[None]))
        for box, _ in question.prop.groups
    )
    small = live <= SOME_INPUTS and question.program.work[-1] <= SMALL_WORK
    if live <= FEW_INPUTS or small or not _piecewise_linear(question.program):
        return _split_boxes(question, judge, effort)
    return _split_neurons(question, judge, effort)


def _piecewise_linear(program: Program) -> bool:
    return all(i in program.slopes for i in program.nonlinear)


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
    program, groups = question.program, question.prop.groups
    worst, proved = math.inf, True
    for number, (box, members) in enumerate(groups):
        effort.lower = -math.inf
        effort.elsewhere = worst if number + 1 == len(groups) else -math.inf
        if judge.finished or effort.deadline.expired():
            return False
        effort.method = "bounds"
        root = Relaxation(program, *program.enclosing(box.lower, box.upper))
        cases = torch.tensor(members, device=program.device)
        proved = _prove_box(question, root, cases, judge, effort) and proved
        worst = min(worst, effort.lower)
    effort.lower = effort.elsewhere = worst
    return proved


def _prove_box(
    question: Question,
    root: Relaxation,
    cases: torch.Tensor,
    judge: WitnessJudge,
    effort: Effort,
) -> bool:
    """Whether all cases of one box were proved; their bound is left in `effort.lower`."""
    stop = root.stop = effort.deadline.expired
    objective = question.objective.select(cases)
    began = effort.deadline.elapsed()
    propagate(root, sieve=True)
    rate = SPEED_UP * _passed(root) / (effort.deadline.elapsed() - began)
    plain = ascend(root, objective, Ascent(steps=0)).lower
    effort.lower = float(plain.min())
    effort.domains += len(cases)
    if effort.lower > 0:
        effort.leaves += len(cases)
        return True
    effort.report("root bounds")
    judge.take(question.attack(THOROUGH, effort))
    if judge.finished:
        return False
    better = Relaxation(question.program, root.lower, root.upper)
    better.stop = stop
    layers = max(1, len(question.program.pre_activations))
    work = rate * ROOT_SHARE * min(effort.deadline.remaining(), 300.0) / layers
    propagate_optimised(better, replace(ROOT, stop=stop, work=work), sieve=True)
    found = ascend(better, objective, replace(ROOT_OBJECTIVE, stop=stop))
    found = replace(found, lower=torch.fmax(found.lower, plain))
    effort.lower = float(found.lower.min())
    closed = found.lower[0] > 0
    effort.leaves += int(closed.sum())
    if bool(closed.all()):
        return True
    effort.report("root bounds")
    effort.method = "relu splitting"
    tree = NeuronTree(better, objective, _Renamed(judge, cases), effort)
    proved = tree.run((~closed).nonzero().squeeze(1), found)
    effort.lower = min([effort.lower, *found.lower[0][closed].tolist()])
    return proved


def _passed(root: Relaxation) -> float:
    """The multiplications that bounding a root by plain passes took."""
    program = root.program
    queries = {j: 2 * len(unstable_neurons(root, j)) for j in root.bounds}
    return 1.0 + sum(count * program.work[j] for j, count in queries.items())


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
