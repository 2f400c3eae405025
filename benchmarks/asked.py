"""The questions that bounds with joint rows are compared on, and what several comparisons share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from inputs import instances
from kpoly import MARGINS, NEURONS, Robust
from runs import Clock
from torch import Tensor

from hullmark.bounds.alpha import ascend
from hullmark.bounds.objective import Objective
from hullmark.bounds.optimised import propagate_optimised
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation
from hullmark.encode import Inequalities
from hullmark.joint.krelu import Scheme
from hullmark.joint.mine import Mine
from hullmark.joint.tighten import Plan
from hullmark.network.onnx import load_onnx
from hullmark.search.strategy import Question
from hullmark.search.witness import Replay
from hullmark.spec.load import load_property
from hullmark.verdict import Options
from hullmark.verify import as_property

IMAGES = (9, 12, 21, 22)
PROPERTIES = ("prop_2_0.03", "prop_6_0.03", "prop_0_0.05", "prop_9_0.05", "prop_11_0.05")


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

    def alpha(self) -> tuple[Relaxation, Tensor]:
        """Bounds of all pre-activations, and of all queries, without joint rows."""
        relaxation = self.relaxation()
        propagate_optimised(relaxation, NEURONS, sieve=True)
        return relaxation, ascend(relaxation, self.objective, MARGINS).lower[0]

    def plan(self, plan: Plan) -> Plan:
        """The plan within the time."""
        return replace(plan, stop=self.clock.over, spent=self.clock.spent)

    def scheme(self, scheme: Scheme) -> Scheme:
        """The scheme within the time."""
        over = self.clock.over
        return replace(
            scheme,
            neurons=replace(scheme.neurons, stop=over),
            forms=replace(scheme.forms, stop=over),
            queries=replace(scheme.queries, stop=over),
        )


def images(root: Path, numbers: Sequence[int]) -> dict[str, Question]:
    """Questions of 6x100."""
    if not numbers:
        return {}
    network = Robust(root, "mnist_6x100")
    return {f"6x100 image {number}": network.question(number) for number in numbers}


def properties(root: Path, names: Sequence[str]) -> dict[str, Question]:
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


def inequalities(mines: Mapping[int, Mine]) -> Inequalities:
    """All rows that were mined, of networks whose layers no values pass.

    Raises:
        ValueError: if a row reads a value that passes its layer.
    """
    parts: list[Inequalities] = []
    for mine in mines.values():
        layer = mine.layer
        for block in mine.found.blocks:
            if (block.groups >= layer.size).any():
                raise ValueError(f"rows of node {layer.post} read values that pass it")
            parts.append(Inequalities.of_groups(block.rows, layer.pre, layer.post, block.groups))
    return Inequalities.joined(parts)
