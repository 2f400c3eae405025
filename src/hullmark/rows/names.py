"""What rows speak of: values, indicators and splits of neurons, and the kinks between values."""

from typing import Literal, NamedTuple


class Value(NamedTuple):
    """The value of one neuron: its flat index in a node of the network's graph."""

    node: int
    neuron: int


class Indicator(NamedTuple):
    """1 where that pre-activation is at least 0, 0 where it is at most 0; at 0 either.

    `kind` keeps an indicator from being equal to the `Value` of the same neuron.
    """

    node: int
    neuron: int
    kind: Literal["indicator"] = "indicator"


class Split(NamedTuple):
    """The half of the domain where that pre-activation is `>= 0` (sign 1) or `<= 0` (sign -1)."""

    node: int
    neuron: int
    sign: int


class Kink(NamedTuple):
    """`post = negative * pre` where `pre <= 0`, `positive * pre` where `pre >= 0`.

    A claim about the network, as a `Defined` row is. With equal slopes the value passes through;
    then `post` may be `pre` itself.
    """

    pre: Value
    post: Value
    negative: float = 0.0
    positive: float = 1.0


Name = Value | Indicator
Terms = tuple[tuple[Name, float], ...]
