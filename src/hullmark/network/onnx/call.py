"""One node of an ONNX graph as its handler sees it: attributes, inputs, and nothing forgotten."""

from dataclasses import dataclass, field

import numpy as np

from hullmark.errors import BadInput, Unsupported
from hullmark.network.lower import Lowering, Value
from hullmark.network.ops import Array, Shape

Operand = Value | Array
Attribute = int | float | str | Array | list[int] | list[float]
Result = Operand | list[Operand]


@dataclass(frozen=True, eq=False)
class Call:
    """A node: operator, opset, operands (None where left out), attributes, number of outputs.

    Attributes are taken through `integer`, `integers`, `number`, `text` and `tensor`, which
    note what was read: an attribute that no handler asked for could change the meaning, so
    `unread` names it and the import stops.
    """

    low: Lowering
    op: str
    opset: int
    operands: tuple[Operand | None, ...]
    attributes: dict[str, Attribute]
    outputs: int
    seen: set[str] = field(default_factory=lambda: set[str]())

    @property
    def unread(self) -> list[str]:
        return sorted(set(self.attributes) - self.seen)

    def ignore(self, *names: str) -> None:
        """Accept attributes that do not change the function computed in inference."""
        self.seen.update(names)

    def integer(self, name: str, default: int) -> int:
        value = self._take(name, default)
        if not isinstance(value, int):
            raise BadInput(f"attribute {name} is not an integer")
        return value

    def integers(self, name: str) -> tuple[int, ...] | None:
        """A list of integers, or None where the attribute is left out."""
        value = self._take(name, None)
        if value is None:
            return None
        if not isinstance(value, list):
            raise BadInput(f"attribute {name} is not a list")
        return tuple(int(v) for v in value)

    def number(self, name: str, default: float) -> float:
        value = self._take(name, default)
        if not isinstance(value, int | float):
            raise BadInput(f"attribute {name} is not a number")
        return float(value)

    def text(self, name: str, default: str) -> str:
        value = self._take(name, default)
        if not isinstance(value, str):
            raise BadInput(f"attribute {name} is not a text")
        return value

    def tensor(self, name: str) -> Array | None:
        value = self._take(name, None)
        if value is not None and not isinstance(value, np.ndarray):
            raise BadInput(f"attribute {name} is not a tensor")
        return value

    def has(self, index: int) -> bool:
        """Whether operand `index` is given."""
        return index < len(self.operands) and self.operands[index] is not None

    def operand(self, index: int) -> Operand:
        value = self.operands[index] if index < len(self.operands) else None
        if value is None:
            raise BadInput(f"operand {index} is missing")
        return value

    def value(self, index: int) -> Value:
        """Operand `index` as something the network computes."""
        value = self.operand(index)
        return value if isinstance(value, Value) else self.low.constant(value)

    def constant(self, index: int) -> Array:
        """Operand `index`, which must be known without running the network."""
        value = self.operand(index)
        if isinstance(value, Value):
            raise Unsupported(f"operand {index} depends on the network's input")
        return value

    def optional(self, index: int) -> Array | None:
        return self.constant(index) if self.has(index) else None

    def axes(self, index: int) -> tuple[int, ...] | None:
        """Axes, an attribute in older opsets and operand `index` in newer ones."""
        given = self.integers("axes")
        if given is not None or not self.has(index):
            return given
        return tuple(int(a) for a in self.constant(index).reshape(-1))

    def _take(self, name: str, default: Attribute | None) -> Attribute | None:
        self.seen.add(name)
        return self.attributes.get(name, default)


def shape_of(value: Operand) -> Shape:
    """The shape of an operand in the source."""
    return value.shape
