"""The façade of the ladder, and the climb: which rungs, in which order, with how much time."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike

from hullmark.errors import BadInput, HullmarkError
from hullmark.ladder.exactly import Ask, Part, asks_of, is_small, parts_of
from hullmark.ladder.log import Log
from hullmark.ladder.quantity import Quantity, quantity_of
from hullmark.ladder.rungs import ORDER, Ended, Ladder, Real, Rung
from hullmark.ladder.worker import OutOfReach, Worker
from hullmark.network.model import Model
from hullmark.network.ops import Shape
from hullmark.spec.sets import Box
from hullmark.theory.relaxations import RELAXATIONS
from hullmark.verdict import Deadline, Monitor, Options, Silent
from hullmark.verify import Asked, Net, as_property, check_boxes, load

SMALL = (
    "ibp",
    "deepz",
    "deeppoly0",
    "deeppoly1",
    "deeppoly",
    "triangle",
    "krelu",
    "multivariate",
    "mk",
    "p1",
    "pr",
    "exact",
)
"""What is tried of a small network, in exact numbers."""

LARGE = (
    "ibp",
    "deepz",
    "deeppoly",
    "alpha",
    "triangle",
    "krelu",
    "kpoly",
    "multivariate",
    "mk",
    "prima",
    "mined",
    "search",
)
"""What is tried of any other network, in floats."""

BEYOND = "was out of reach"

EXACT_SHARE = 0.7
"""The part of the time that exact numbers may take."""


@dataclass(frozen=True)
class Plan:
    """What is to be bounded, and by what; None leaves the choice to the ladder.

    Raises:
        BadInput: for an unknown name among the methods, or none.
    """

    methods: tuple[str, ...] | None = None
    objective: ArrayLike | None = None
    output: int | None = None
    input_shape: Shape | None = None

    def __post_init__(self) -> None:
        if self.methods == ():
            raise BadInput("a ladder needs at least one method")
        for name in self.methods or ():
            if name not in ORDER:
                raise BadInput(f"unknown method {name!r}; known are {', '.join(ORDER)}")


def ladder(  # noqa: PLR0913 (what the command line takes has the same names here)
    net: Net,
    question: Asked | Box,
    *,
    seconds: float = 60.0,
    methods: Sequence[str] | None = None,
    objective: ArrayLike | None = None,
    output: int | None = None,
    device: str = "cpu",
    seed: int = 0,
    input_shape: Shape | None = None,
) -> Ladder:
    """Bound one quantity of a network by every relaxation that the time is enough for.

    Small networks, piecewise linear with at most 10 inputs and 64 ReLUs, are bounded in exact
    numbers, and in floats where that takes too long; others in floats.

    Arguments:
        net: path of an ONNX file, a `torch.nn.Module`, or a loaded `Model`.
        question: path of a VNN-LIB file, a `Property`, or what becomes one, like `robust(...)`:
            its worst margin is bounded. Or a box of inputs.
        seconds: wall-clock time, loading included. Methods of one pass take the time of that pass.
        methods: names of `hullmark.ladder.rungs.ORDER`, where "krelu", "mk" and "pr" stand for all
            their sizes; what suits the size of the network if None.
        objective: bound `c . y` from both sides instead, `c` of shape `(output_size,)`.
        output: likewise, of the output with this index; of a box, the only one if None.
        device: where floats are computed, e.g. "cpu" or "cuda".
        seed: of everything random.
        input_shape: of one input of a torch module, as for `verify`.

    Returns:
        The rungs that were climbed; also after an interrupt.

    Raises:
        HullmarkError: as for `verify`; `BadInput` also for an unknown method, and where it is not
            clear what is to be bounded.

    Trust: as `Rung` says.
    """
    plan = Plan(None if methods is None else tuple(methods), objective, output, input_shape)
    return Climb(net, question, plan, Options(seconds, device, seed=seed)).run()


class Climb:
    """A climb, which can be looked at from another thread while it goes on.

    Arguments:
        net, question: as for `ladder`.
        plan: what is bounded, by what.
        options: time, device and seed.
        monitor: told about progress.

    Raises:
        BadInput: without a finite time limit.
    """

    def __init__(
        self,
        net: Net,
        question: Asked | Box,
        plan: Plan,
        options: Options,
        monitor: Monitor | None = None,
    ) -> None:
        if options.timeout is None or not math.isfinite(options.timeout):
            raise BadInput("a ladder shares out its time, so that this must be finite")
        self._net, self._question = net, question
        self._plan, self._options = plan, options
        self._log = Log(options.deadline(), monitor or Silent())

    def run(self) -> Ladder:
        """Climb to the end, or until an interrupt.

        Raises:
            HullmarkError: as `ladder`.
        """
        try:
            self._climb()
        except KeyboardInterrupt:
            return self.so_far("interrupted")
        found = self.so_far("complete")
        return found if found.rungs or self._log.left else self.so_far("timeout")

    def so_far(self, ended: Ended) -> Ladder:
        """What is known by now."""
        return self._log.ladder(ended)

    def _climb(self) -> None:
        model = load(self._net, self._question, self._plan.input_shape)
        quantity = self._quantity(model)
        self._log.quantity = quantity
        parts = _small(model, quantity)
        chosen = self._plan.methods or (LARGE if parts is None else SMALL)
        wanted, why = dict.fromkeys(chosen, ""), "for small, piecewise linear networks only"
        if parts is not None:
            asks = [ask for ask in asks_of(parts) if ask.relaxation in chosen]
            wanted = {name: "" for name in chosen if name not in RELAXATIONS}
            wanted |= self._exactly(parts, quantity, asks)
        if self._log.has("exact") and not wanted:
            return
        if not self._log.left:
            for name, reason in wanted.items():
                self._log.skip(name, reason or "no time was left")
            return
        # Here because exact numbers need no torch.
        from hullmark.bounds.program import Program
        from hullmark.ladder.floats import Floats
        from hullmark.ladder.methods import climb_by_floats

        program = Program.compile(model.network, self._options.device)
        floats = Floats(program, quantity, self._options)
        climb_by_floats(self._log, floats, parts or (), wanted, why)

    def _quantity(self, model: Model) -> Quantity:
        question = self._question
        if not isinstance(question, Box):
            question = as_property(question, model.network)
        plan = self._plan
        quantity = quantity_of(model.network, question, plan.objective, plan.output)
        check_boxes(model, [box for box, _ in quantity.parts], self._options.seed)
        return quantity

    def _exactly(
        self, parts: Sequence[Part], quantity: Quantity, asks: Sequence[Ask]
    ) -> dict[str, str]:
        """Climb in exact numbers; which rungs were out of reach, and why."""
        log, failed = self._log, dict[str, str]()
        clock = Deadline(time.perf_counter(), EXACT_SHARE * log.left)
        with Worker(parts) as worker:
            for done, ask in enumerate(asks):
                left = len(asks) - done
                log.tell(ask.name, left)
                if ask.after in failed:
                    why = failed[ask.after]
                    failed[ask.name] = why if BEYOND in why else f"{ask.after} {BEYOND}"
                    continue
                try:
                    told = worker.ask(ask, 2 * clock.remaining() / (left + 1))
                except OutOfReach as error:
                    failed[ask.name] = str(error)
                    continue
                lower, upper = told.ends(quantity)
                note = f"{told.regions:,} regions" if told.regions else ""
                log.add(Rung(ask.name, "exact", lower, upper, told.rows, told.seconds, None, note))
                if ask.relaxation == "exact":
                    log.real = Real(lower, upper) if quantity.two_sided else Real(lower)
        return failed


def _small(model: Model, quantity: Quantity) -> tuple[Part, ...] | None:
    """The network in exact numbers, None if it is not made for them."""
    if not is_small(model.network):
        return None
    try:
        return parts_of(model.network, quantity)
    except HullmarkError:
        return None
