"""VNN-LIB 1.0: `declare-const` of inputs `X_i` and outputs `Y_j`, and `assert`."""

import re

from hullmark.errors import BadInput
from hullmark.spec.assemble import Assertions
from hullmark.spec.expression import Reader
from hullmark.spec.property import Property
from hullmark.spec.sexpr import Form, SimpleBound, Source, Token, commands

_VARIABLE = re.compile(r"([XY])_(0|[1-9][0-9]{0,8})")


class _Declared:
    """The variables declared so far, and how many the network has (`None`: any number)."""

    def __init__(self, input_size: int | None, output_size: int | None) -> None:
        self.sizes = {"X": input_size, "Y": output_size}
        self.indices: dict[str, tuple[bool, int]] = {}

    def declare(self, name: str) -> None:
        parts = _VARIABLE.fullmatch(name)
        if parts is None:
            raise BadInput(f"{name} is neither an input X_i nor an output Y_j")
        letter, index = parts.group(1), int(parts.group(2))
        size = self.sizes[letter]
        if size is not None and index >= size:
            raise BadInput(f"{name} is declared, but the network has {size} {_plural(letter)}")
        if name in self.indices:
            raise BadInput(f"{name} is declared twice")
        self.indices[name] = (letter == "X", index)

    def lookup(self, name: str) -> tuple[bool, int]:
        found = self.indices.get(name)
        if found is not None:
            return found
        parts = _VARIABLE.fullmatch(name)
        size = None if parts is None else self.sizes[parts.group(1)]
        if parts is None or size is None:
            raise BadInput(f"{name} is not declared")
        raise BadInput(f"{name} is not declared; the network has {size} {_plural(parts.group(1))}")

    def count(self, letter: str) -> int:
        """How many there are of `X` or of `Y`, of which none may be missing."""
        found = {i for is_input, i in self.indices.values() if is_input == (letter == "X")}
        size = self.sizes[letter]
        if not found:
            raise BadInput(f"no {_plural(letter)[:-1]} {letter}_0 is declared")
        missing = next((i for i in range(max(found) + 1) if i not in found), None)
        if missing is not None:
            raise BadInput(f"{letter}_{missing} is not declared")
        if size is not None and len(found) != size:
            raise BadInput(
                f"{len(found)} {_plural(letter)} are declared, but the network has {size}"
            )
        return len(found)


def parse_vnnlib1(
    source: Source, input_size: int | None = None, output_size: int | None = None
) -> Property:
    """The property that a VNN-LIB 1.0 text states.

    The asserted conditions describe the unsafe set: comparisons `<=`, `>=`, `<`, `>`, `=` of
    linear terms over inputs and outputs, joined by `and`, `or` and `not` in any order. Every
    case must bound every input on both sides.

    Arguments:
        source: the text and its name.
        input_size, output_size: those of the network, or `None` to take what is declared.

    Raises:
        BadInput: if the text is malformed, names what is not declared, is not linear, leaves an
            input unbounded, or does not fit the network; names the line.
        Unsupported: if it uses another command, operator or type; names the line.
        VacuousProperty: if it describes no input at all.

    Trust: exact; decimals never pass through a float.
    """
    declared = _Declared(input_size, output_size)
    reader = Reader(source, declared)
    assertions = Assertions()
    for command in commands(source):
        match command:
            case SimpleBound():
                reader.assertion(command, assertions)
            case Form(items=(Token("assert"), *_)):
                reader.assertion(command, assertions)
            case Form(items=(Token("declare-const" | "declare-fun"), *_)):
                _declare(command, source, declared)
            case Form(items=(Token(name), *_)):
                raise source.unsupported(command.offset, f"the command {name!r} is not supported")
            case Form():
                raise source.bad(command.offset, "a command must begin with its name")
    try:
        sizes = declared.count("X"), declared.count("Y")
    except BadInput as error:
        raise BadInput(f"{source.name}: {error}") from None
    return assertions.build(*sizes, source.name)


def _declare(command: Form, source: Source, declared: _Declared) -> None:
    match command.items:
        case (_, Token(name), Token(kind)) | (_, Token(name), Form(items=()), Token(kind)):
            if kind != "Real":
                raise source.unsupported(command.offset, f"{name} has the type {kind}, not Real")
        case _:
            raise source.bad(command.offset, "a declaration is a name and its type Real")
    try:
        declared.declare(name)
    except BadInput as error:
        raise source.bad(command.offset, str(error)) from None


def _plural(letter: str) -> str:
    return "inputs" if letter == "X" else "outputs"
