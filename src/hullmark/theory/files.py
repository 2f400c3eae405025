"""Barriers as files, for any verifier: ONNX and VNN-LIB."""

from __future__ import annotations

from pathlib import Path

from hullmark.errors import BadInput
from hullmark.network.onnx.write import write_onnx
from hullmark.spec.property import Case, Constraint
from hullmark.spec.sets import Box
from hullmark.spec.write import write_vnnlib
from hullmark.theory.barrier import Barrier, SmoothBarrier


def write(
    barrier: Barrier | SmoothBarrier, folder: str | Path, name: str = "barrier"
) -> tuple[Path, Path]:
    """Write a barrier's network, and the question whether its output can reach the threshold.

    It cannot, so a sound verifier never says that it can ("sat"). The threshold lies above the
    bound of P_1, or of P_r with the barrier's window: none of these relaxations, nor any
    looser one, shows that it holds unless the input set is split.

    Arguments:
        folder: where `name.onnx` and `name.vnnlib` are put; made if there is none.

    Returns:
        The two files.

    Raises:
        BadInput: if a weight is no float64 or the threshold has no finite decimal (take a T that
            is dyadic), or a file cannot be written.

    Trust: exact: the files hold the barrier's own numbers.
    """
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{place}: cannot be made: {error.strerror}") from None
    net, question = place / f"{name}.onnx", place / f"{name}.vnnlib"
    box = Box(barrier.lower, barrier.upper)
    low = Constraint.of({}, {0: 1}, barrier.threshold)
    write_onnx(net, barrier.chain.layers, barrier.chain.activation.capitalize())
    write_vnnlib(question, Case(box, (low,), 1))
    return net, question
