"""VNN-LIB 2.0: one declared network with an input and an output tensor, and `assert`."""

import math
import re

from hullmark.errors import BadInput
from hullmark.spec.assemble import Assertions
from hullmark.spec.expression import Reader
from hullmark.spec.property import Property
from hullmark.spec.sexpr import Expression, Form, SimpleBound, Source, Token, commands

_ELEMENT = re.compile(r"([A-Za-z][A-Za-z0-9_]*)\s*(?:\[([0-9,\s]*)\])?")
_MOST_ELEMENTS = 10**8
_FLOAT_TYPES = ("real", "float", "float32", "float64", "double")


class _Tensor:
    """A declared tensor, of which single elements are referred to."""

    def __init__(self, is_input: bool, shape: tuple[int, ...]) -> None:
        self.is_input = is_input
        self.shape = shape

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def offset(self, name: str, index: tuple[int, ...]) -> int:
        """The row-major place of an element."""
        if len(index) != len(self.shape):
            raise BadInput(
                f"{name} has {len(index)} indices, but the tensor has the shape {list(self.shape)}"
            )
        place = 0
        for i, length in zip(index, self.shape, strict=True):
            if i >= length:
                raise BadInput(f"{name} lies outside of the shape {list(self.shape)}")
            place = place * length + i
        return place


class _Declared:
    """The tensors of the network, by name."""

    def __init__(self) -> None:
        self.networks = 0
        self.tensors: dict[str, _Tensor] = {}
        self._known: dict[str, tuple[bool, int]] = {}

    def lookup(self, name: str) -> tuple[bool, int]:
        if name not in self._known:
            parts = _ELEMENT.fullmatch(name)
            if parts is None or parts.group(1) not in self.tensors:
                raise BadInput(f"{name} is not declared")
            tensor = self.tensors[parts.group(1)]
            index = _integers(parts.group(2) or "")
            self._known[name] = tensor.is_input, tensor.offset(name, index)
        return self._known[name]

    def size(self, is_input: bool, expected: int | None) -> int:
        kind = "input" if is_input else "output"
        sizes = [t.size for t in self.tensors.values() if t.is_input == is_input]
        if not sizes:
            raise BadInput(f"no {kind} is declared")
        if expected is not None and sizes[0] != expected:
            raise BadInput(
                f"the declared {kind} has {sizes[0]} elements, but the network has {expected}"
            )
        return sizes[0]


def parse_vnnlib2(
    source: Source, input_size: int | None = None, output_size: int | None = None
) -> Property:
    """The property that a VNN-LIB 2.0 text states about one network.

    Elements `X[0,3]` are numbered in row-major order. Conditions are as in version 1.0, with
    `==` and `!=` besides.

    Arguments:
        source: the text and its name.
        input_size, output_size: those of the network, or `None` to take what is declared.

    Raises:
        BadInput: as for version 1.0, or if an index does not fit its tensor; names the line.
        Unsupported: if there are several networks, inputs or outputs, hidden tensors, networks
            declared equal or isomorphic, or element types other than real, float32 and float64.
        VacuousProperty: if it describes no input at all.

    Trust: exact; decimals never pass through a float. Element types do not round them.
    """
    declared = _Declared()
    reader = Reader(source, declared)
    assertions = Assertions()
    for command in commands(source):
        match command:
            case SimpleBound():
                reader.assertion(command, assertions)
            case Form(items=(Token("assert"), *_)):
                reader.assertion(command, assertions)
            case Form(items=(Token("vnnlib-version"), *_)):
                _check_version(command, source)
            case Form(items=(Token("declare-network"), *_)):
                declared.networks += 1
                if declared.networks > 1:
                    raise source.unsupported(command.offset, "only one network is supported")
                _declare_network(command, source, declared)
            case Form(items=(Token(name), *_)):
                raise source.unsupported(command.offset, f"the command {name!r} is not supported")
            case Form():
                raise source.bad(command.offset, "a command must begin with its name")
    try:
        sizes = declared.size(True, input_size), declared.size(False, output_size)
    except BadInput as error:
        raise BadInput(f"{source.name}: {error}") from None
    return assertions.build(*sizes, source.name)


def _check_version(command: Form, source: Source) -> None:
    match command.items:
        case (_, Token(version)) if re.fullmatch(r"<?2\.[0-9]+>?", version):
            return
        case (_, Token(version)):
            raise source.unsupported(
                command.offset, f"VNN-LIB {version} is not supported, only 2.x"
            )
        case _:
            raise source.bad(command.offset, "vnnlib-version takes a version as <2.0>")


def _declare_network(command: Form, source: Source, declared: _Declared) -> None:
    if len(command.items) < 2 or not isinstance(command.items[1], Token):
        raise source.bad(command.offset, "declare-network takes a name and declarations")
    for part in command.items[2:]:
        match part:
            case Form(items=(Token("declare-input" | "declare-output" as kind), *rest)):
                _declare_tensor(kind == "declare-input", tuple(rest), part, source, declared)
            case Form(items=(Token("declare-hidden" | "equal-to" | "isomorphic-to" as kind), *_)):
                raise source.unsupported(part.offset, f"{kind} is not supported")
            case _:
                raise source.bad(part.offset, "a declaration of an input or output is expected")


def _declare_tensor(
    is_input: bool,
    rest: tuple[Expression, ...],
    form: Form,
    source: Source,
    declared: _Declared,
) -> None:
    words = " ".join(part.text for part in rest if isinstance(part, Token))
    parts = re.fullmatch(
        r'([A-Za-z]\w*)\s+(\w+)\s*\[([0-9,\s]*)\]\s*("[^"]*")?', words, flags=re.ASCII
    )
    if parts is None:
        raise source.bad(form.offset, "a tensor is declared by its name, type and shape")
    name, kind = parts.group(1), parts.group(2)
    try:
        shape = _integers(parts.group(3))
    except BadInput as error:
        raise source.bad(form.offset, str(error)) from None
    if kind.lower() not in _FLOAT_TYPES:
        raise source.unsupported(form.offset, f"{name} has the type {kind}, not float32 or float64")
    if any(t.is_input == is_input for t in declared.tensors.values()):
        what = "input" if is_input else "output"
        raise source.unsupported(form.offset, f"only one {what} tensor is supported")
    if name in declared.tensors:
        raise source.bad(form.offset, f"{name} is declared twice")
    if not 0 < math.prod(shape) <= _MOST_ELEMENTS:
        raise source.bad(form.offset, f"{name} has {math.prod(shape)} elements")
    declared.tensors[name] = _Tensor(is_input, shape)


def _integers(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    for part in parts:
        if re.fullmatch(r"[0-9]{1,9}", part) is None:
            raise BadInput(f"[{text}] is not a list of indices")
    return tuple(int(part) for part in parts)
