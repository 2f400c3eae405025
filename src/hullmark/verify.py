"""The façade: load, check, ask; `verify`, `bound` and `info`."""

import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from hullmark.errors import BadInput, HullmarkError, Unsupported
from hullmark.methods.report import Answer, BoundReport, report_of
from hullmark.network import ops
from hullmark.network.graph import Network
from hullmark.network.model import Model, check_parity
from hullmark.network.ops import Array, Shape
from hullmark.network.summary import NetworkInfo, summarise
from hullmark.spec.load import load_property
from hullmark.spec.property import Case, Constraint, Property
from hullmark.spec.sets import Box
from hullmark.verdict import (
    Monitor,
    Options,
    Proved,
    Recorder,
    Silent,
    Stats,
    Verdict,
)

if TYPE_CHECKING:
    from torch.nn import Module


@runtime_checkable
class Question(Protocol):
    """What becomes a property once the network's sizes are known, e.g. `robust(...)`."""

    def property(self, input_size: int, output_size: int) -> Property:
        """The property for a network of these sizes."""
        ...


Net: TypeAlias = "str | os.PathLike[str] | Module | Model"
Asked: TypeAlias = str | os.PathLike[str] | Property | Question

# A parity check runs the original network; a property with thousands of boxes gets a few.
PARITY_BOXES = 8


def verify(
    net: Net,
    question: Asked,
    *,
    timeout: float | None = None,
    device: str = "cpu",
    seed: int = 0,
    input_shape: Shape | None = None,
) -> Verdict:
    """Decide whether a network can do what the question calls unsafe.

    Arguments:
        net: path of an ONNX file, a `torch.nn.Module`, or a loaded `Model`.
        question: path of a VNN-LIB file, a `Property`, or what becomes one, like `robust(...)`.
        timeout: seconds of wall-clock time, loading included; None for no limit.
        device: where to compute, e.g. "cpu" or "cuda".
        seed: of everything random.
        input_shape: of one input of a torch module, without the batch axis; needed where it is
            not that of the image or the bounds in the question. A `Property` asks about vectors.

    Returns:
        `Proved`, `Refuted` with a replayed witness, or `Unknown` with the best bound.

    Raises:
        HullmarkError: one of `BadInput`, `Unsupported`, `VacuousProperty`, `ParityError`.

    Trust: floats search, outward-rounded arithmetic proves, and the original network in its own
    runtime refutes. A proof is about real arithmetic on the stored coefficients; the runtime's
    own rounding is not part of it.
    """
    options = Options(timeout, device, seed=seed)
    return verify_with(net, question, options, input_shape=input_shape)


def verify_with(
    net: Net,
    question: Asked,
    options: Options,
    monitor: Monitor | None = None,
    *,
    input_shape: Shape | None = None,
) -> Verdict:
    """`verify` with all options, watched by `monitor`.

    An interrupt or a lack of memory ends in `Unknown` with the best bound so far.
    """
    deadline = options.deadline()
    options = replace(options, started=deadline.started)
    recorder = Recorder(monitor or Silent())
    try:
        model = load(net, question, input_shape)
        prop = as_property(question, model.network)
        return _decide(model, prop, options, recorder)
    except KeyboardInterrupt:
        return recorder.unknown("interrupted", deadline.elapsed(), "")
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return recorder.unknown("memory", deadline.elapsed(), "out of memory")


def bound(  # noqa: PLR0913 (what the command line takes has the same names here)
    net: Net,
    question: Asked | Box,
    *,
    method: str = "alpha",
    k: int | None = None,
    groups: str | None = None,
    overlap: int | None = None,
    block: int | None = None,
    seconds: float | None = None,
    objective: Array | None = None,
    device: str = "cpu",
    seed: int = 0,
    input_shape: Shape | None = None,
) -> BoundReport:
    """Bound a network's outputs, and a property's worst margin, by one method without search.

    Arguments:
        net, device, input_shape: as for `verify`.
        question: as for `verify`, or a box of inputs.
        method: a name of `hullmark.methods.names.METHODS`: "ibp", "deepz", "deeppoly0",
            "deeppoly1", "deeppoly", "crown", "alpha", "best", or with joint rows "triangle",
            "refinezono", "krelu", "kpoly", "prima", "mined", "multivariate", "mk".
        k: the number of neurons that are relaxed together; the method's own choice if None.
        groups: how they are chosen: "area", "overlap", "gain", "adaptive" or "random"; None
            likewise.
        overlap, block: of overlapping groups: how many neurons two may share, and how many there
            are in a block of them; None likewise.
        seconds: wall-clock time, loading included; what is known by then is returned. Methods of
            one pass take the time of that pass.
        objective: rows to bound instead of single outputs, `(k,)` or `(m, k)`.
        seed: of random groups.

    Raises:
        HullmarkError: as for `verify`; `BadInput` for an unknown method or an option that it does
            not take, `Unsupported` for a network that is too large for it.

    Trust: as `BoundReport` says.
    """
    started = time.perf_counter()
    model = load(net, question, input_shape)
    cases: tuple[Case, ...] | None = None
    boxes: tuple[tuple[Box, tuple[int, ...]], ...]
    if isinstance(question, Box):
        boxes = ((question, ()),)
    else:
        prop = as_property(question, model.network)
        cases, boxes = prop.cases, prop.groups
    check_boxes(model, [box for box, _ in boxes], 0)
    rows = _rows(objective, model.network.output_size)
    # Here because bad input should be told without waiting for torch.
    from hullmark.bounds.program import Program
    from hullmark.methods.ask import bound_queries
    from hullmark.methods.names import MethodOptions, check

    options = check(method, MethodOptions(k, groups, seconds, seed, overlap, block))
    program = Program.compile(model.network, device)
    answers: list[Answer] = []
    for done, (box, members) in enumerate(boxes):
        if seconds is not None:
            # The boxes that are left share the time that is left.
            left = seconds - (time.perf_counter() - started)
            options = replace(options, seconds=max(left / (len(boxes) - done), 1e-3))
        asked = [cases[i] for i in members] if cases else []
        found = bound_queries(program, box, asked, _both_sides(rows, box), method, options)
        answers.append(Answer(members, found))
    seconds = time.perf_counter() - started
    return report_of(answers, len(rows), None if cases is None else len(cases), method, seconds)


def info(net: Net, *, input_shape: Shape | None = None) -> NetworkInfo:
    """Say what a network is made of, without bounding anything.

    Arguments:
        net, input_shape: as for `verify`.

    Raises:
        HullmarkError: if the network cannot be loaded.
    """
    return summarise(load(net, None, input_shape), _opset(net))


def load(net: Net, question: object = None, input_shape: Shape | None = None) -> Model:
    """The network and its original runtime.

    Arguments:
        net: as for `verify`.
        question: asked for the input shape of a torch module if `input_shape` is None.
        input_shape: of one input, without the batch axis.

    Raises:
        BadInput: if `net` is of another type, or a module's input shape is not known.
        HullmarkError: whatever loading raises.
    """
    if isinstance(net, Model):
        return net
    if isinstance(net, str | os.PathLike):
        from hullmark.network.onnx import load_onnx

        return load_onnx(Path(net))
    # A module can only exist where torch has been imported; this check never imports it.
    torch: Any = sys.modules.get("torch")
    if torch is None or not isinstance(net, torch.nn.Module):
        raise BadInput(f"a network is a path, a torch module or a Model, not a {_kind(net)}")
    from hullmark.network.torch import load_torch

    if input_shape is not None:
        return load_torch(net, tuple(input_shape))
    shape = _shape_of(question)
    if shape is None:
        raise BadInput(f"{_kind(net)}: the shape of its input is not known; give input_shape=")
    try:
        return load_torch(net, shape)
    except HullmarkError as error:
        hint = f"the input was taken to be {shape}; if it is not, give input_shape="
        raise type(error)(f"{error} ({hint})") from None


def as_property(question: object, network: Network) -> Property:
    """The property that a question is for this network.

    Arguments:
        question: as for `verify`.
        network: fixes the numbers of inputs and outputs.

    Raises:
        BadInput: if it is no question, or about other sizes than the network's.
        HullmarkError: whatever reading a file raises.
    """
    sizes = (network.input_size, network.output_size)
    if isinstance(question, str | os.PathLike):
        prop = load_property(Path(question), *sizes)
    elif isinstance(question, Property):
        prop = question
    elif isinstance(question, Question):
        prop = question.property(*sizes)
    else:
        raise BadInput(
            f"a question is a path, a Property or like robust(), not a {_kind(question)}"
        )
    if (prop.input_size, prop.output_size) != sizes:
        raise BadInput(
            f"{prop.source} is about {prop.input_size} inputs and {prop.output_size} outputs, "
            f"but the network has {sizes[0]} and {sizes[1]}"
        )
    return prop


def without_softmax(model: Model, prop: Property) -> Model:
    """The model without a final softmax, for bounding only; the original runtime is untouched.

    Raises:
        Unsupported: if the property is about more than the order of outputs that one softmax
            normalises together.

    Trust: exact, since softmax keeps the order of the real numbers it is given. Margins are
    then those of the softmax's inputs.
    """
    nodes = model.network.nodes
    last = nodes[-1]
    if not isinstance(last.op, ops.Softmax):
        return model
    together = last.shape[last.op.axis] == last.size
    if not together or not prop.permits_dropping_softmax():
        raise Unsupported(
            f"{model.source}: node {last.name}: a final softmax is supported where the property "
            "only compares its outputs with each other"
        )
    # Every node leads to the last one, which reads only the one before it.
    return replace(model, network=Network(nodes[:-1]))


def _decide(model: Model, prop: Property, options: Options, recorder: Recorder) -> Verdict:
    check_boxes(model, [box for box, _ in prop.groups], options.seed)
    searched = without_softmax(model, prop)
    if not prop.cases:
        return Proved(math.inf, options.deadline().elapsed(), Stats("bounds"))
    # Here because bad input should be told without waiting for torch.
    from hullmark.search.strategy import decide

    return decide(searched, prop, options, recorder)


def check_boxes(model: Model, boxes: Sequence[Box], seed: int) -> None:
    """Compare a network with its original on some of the boxes, at random inputs.

    Raises:
        BadInput: if a box does not fit the network.
        ParityError: if both disagree.
    """
    step = max(1, math.ceil(len(boxes) / PARITY_BOXES))
    for box in boxes[::step]:
        if box.size != model.network.input_size:
            raise BadInput(
                f"a box of {box.size} inputs does not fit {model.source}, "
                f"which has {model.network.input_size}"
            )
        check_parity(model, box.lower, box.upper, seed=seed)


def _rows(objective: Array | None, outputs: int) -> Array:
    if objective is None:
        return np.eye(outputs)
    rows = np.atleast_2d(np.asarray(objective, dtype=np.float64))
    if rows.ndim != 2 or rows.shape[1] != outputs or not np.isfinite(rows).all():
        raise BadInput(f"an objective of shape {rows.shape} does not fit {outputs} outputs")
    return rows


def _both_sides(rows: Array, box: Box) -> list[Case]:
    """Cases whose margins are `row @ y` for every row, then `-row @ y` for every row."""
    signed = np.concatenate([rows, -rows])
    return [
        Case(box, (Constraint.of({}, dict(enumerate(row.tolist())), 0),), rows.shape[1])
        for row in signed
    ]


def _shape_of(question: object) -> Shape | None:
    """The shape that a question gives its inputs: its own, or else a vector of its size."""
    shape = getattr(question, "input_shape", None)
    if shape is not None:
        return tuple(shape)
    if isinstance(question, Property):
        return (question.input_size,)
    box = getattr(question, "box", question)
    return box.shape if isinstance(box, Box) else None


def _opset(net: Net) -> int | None:
    if not isinstance(net, str | os.PathLike):
        return None
    from hullmark.network.onnx.read import opset, read_model

    path = Path(net)
    return opset(read_model(path), path)


def _kind(value: object) -> str:
    return type(value).__name__


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out."""
    # torch raises a RuntimeError of its own on a GPU, and a plain one on the CPU.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
        or "not enough memory" in str(error)
    )
