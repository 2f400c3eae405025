"""What a question of the laboratory is about: a small network, and a polytope of its inputs."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hullmark.errors import BadInput, Unsupported
from hullmark.spec.load import load_property
from hullmark.spec.numbers import as_fraction
from hullmark.theory import ExactNet, Polytope, network

MOST_FREE = 12
"""A box with more inputs that can vary has too many vertices for exact arithmetic."""

Ends = list[tuple[Fraction, Fraction]]


class Asked(NamedTuple):
    """A network, and the inputs that it is asked about."""

    net: ExactNet
    whole: Polytope


def asked(net: Path, spec: Path | None, box: str | None, objective: str | None = None) -> Asked:
    """The network and the input set that a command line names.

    Arguments:
        net: an ONNX file.
        spec: a VNN-LIB file, of which only the inputs are taken.
        box: instead of it, as `parse_box` reads it.
        objective: coefficients of the outputs; the network's only output becomes their sum.

    Raises:
        BadInput: unless exactly one of `spec` and `box` is given; if one cannot be read.
        Unsupported: if the network or the box is too large to be exact; says how large.
    """
    if (spec is None) == (box is None):
        raise BadInput("say which inputs: a VNN-LIB file as SPEC, or else --box l:u,l:u")
    # A box with a slip in it should not wait for a network to be read.
    given = None if box is None else parse_box(box)
    exact = network(net)
    ends = _ends_of(spec, exact) if given is None else _fitted(given, exact.input_size)
    whole = polytope(ends)
    if objective is not None:
        row = [parse_number(part, "--objective") for part in objective.split(",")]
        if len(row) != exact.output_size:
            raise BadInput(
                f"--objective has {len(row)} coefficients, the network {exact.output_size} outputs"
            )
        exact = exact.objective(row)
    return Asked(exact, whole)


def polytope(ends: Ends) -> Polytope:
    """The box with these ends.

    Raises:
        Unsupported: if too many inputs can vary; says how many.
        VacuousProperty: if it is empty.
    """
    free = sum(low < high for low, high in ends)
    if free > MOST_FREE:
        raise Unsupported(
            f"too large to be exact: {free} of the {len(ends)} inputs can vary, so that the box "
            f"has 2^{free} vertices (limit 2^{MOST_FREE}); hullmark bound takes networks of any "
            "size"
        )
    lower, upper = np.array(ends, dtype=object).T
    return Polytope.box(lower, upper)


def _ends_of(spec: Path | None, net: ExactNet) -> Ends:
    """The one box of a VNN-LIB file, as its decimals are written."""
    if spec is None:
        raise BadInput("there is no SPEC")
    prop = load_property(spec, net.input_size, net.output_size)
    boxes = [box for box, _ in prop.groups]
    distinct = {(b.exact_lower, b.exact_upper): b for b in boxes}
    if len(distinct) != 1:
        raise BadInput(f"{spec}: has {len(distinct)} boxes of inputs; choose one by --box")
    (box,) = distinct.values()
    pairs = zip(box.exact_lower, box.exact_upper, strict=True)
    return [(as_fraction(low), as_fraction(high)) for low, high in pairs]


def _fitted(ends: Ends, size: int) -> Ends:
    """As many pairs of ends as the network has inputs; a single pair stands for all."""
    if len(ends) == 1:
        return ends * size
    if len(ends) != size:
        raise BadInput(f"--box has {len(ends)} intervals, the network {size} inputs")
    return ends


def parse_box(text: str) -> Ends:
    """The ends in a text like `0:1,-1/2:0.25`, exactly.

    Raises:
        BadInput: if it is none; names the interval.
    """
    return _pairs(text, "--box: interval", "l:u")


def parse_points(text: str) -> Ends:
    """The points in a text like `-1:1,0:0,1:1`, of a piecewise linear function.

    Raises:
        BadInput: if it is none; names the point.
    """
    return _pairs(text, "--points: point", "x:y")


def _pairs(text: str, what: str, form: str) -> Ends:
    found: Ends = []
    for place, part in enumerate(text.split(",")):
        where = f"{what} {place}"
        first, colon, second = part.partition(":")
        if not colon:
            raise BadInput(f"{where} is {part!r}, not of the form {form}")
        found.append((parse_number(first, where), parse_number(second, where)))
    return found


def parse_number(text: str, where: str) -> Fraction:
    """A decimal, or two with a `/` between them, exactly.

    Raises:
        BadInput: if it is none, or not finite; says where it stands.
    """
    over, slash, under = text.partition("/")
    try:
        return as_fraction(over) / (as_fraction(under) if slash else 1)
    except (BadInput, ZeroDivisionError):
        raise BadInput(f"{where}: {text.strip()!r} is no finite number") from None


def parse_groups(text: str | None) -> list[list[list[int]]] | None:
    """The groups in a text like `0,1;2,3/0,1`: layers by `/`, groups by `;`, neurons by `,`.

    Raises:
        BadInput: if it is none.
    """
    if text is None:
        return None
    return [
        [_whole_numbers(group, "--groups") for group in layer.split(";") if group]
        for layer in text.split("/")
    ]


def parse_order(text: str) -> "str | tuple[int, ...] | tuple[tuple[int, int], ...]":
    """A word, or coordinates as in `1,0`, or ReLUs as `layer.neuron` in `1.0,0.2`, all from 0.

    Raises:
        BadInput: if it is a list with something else in it.
    """
    if text.isalpha():
        return text
    parts = text.split(",")
    if not any("." in part for part in parts):
        return tuple(_whole_numbers(text, "--order"))
    pairs = [_whole_numbers(part.replace(".", ","), "--order") for part in parts]
    if any(len(pair) != 2 for pair in pairs):
        raise BadInput(f"--order: {text!r} is no list of layer.neuron")
    return tuple((first, second) for first, second in pairs)


def _whole_numbers(text: str, where: str) -> list[int]:
    parts: Sequence[str] = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise BadInput(f"{where}: {text!r} is no list of numbers from 0 on")
    return [int(part) for part in parts]
