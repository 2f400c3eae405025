"""A small network in exact numbers: layers of ReLUs, each of which may carry values past it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hullmark.errors import BadInput, Unsupported
from hullmark.network import ops
from hullmark.network.graph import Network, Node
from hullmark.relax.exact import Array, as_fractions

MOST = 250_000
"""No network for exact arithmetic has more coefficients."""


@dataclass(frozen=True, eq=False)
class Layer:
    """`u -> (u[keep], relu(weight @ u + bias))`; all arrays of `Fraction`.

    Of a chain, `keep` is empty. A value that a later layer reads past this one is kept.
    """

    weight: Array
    bias: Array
    keep: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """The number of ReLUs."""
        return len(self.bias)

    @property
    def inputs(self) -> int:
        """The number of values that it reads."""
        return self.weight.shape[1]

    @property
    def outputs(self) -> int:
        """The number of values that it yields: those kept, then the ReLUs'."""
        return len(self.keep) + self.size

    def before(self, u: Array) -> Array:
        """The pre-activations `(batch, size)` at `u` `(batch, inputs)`."""
        return np.dot(u, self.weight.T) + self.bias

    def apply(self, u: Array) -> Array:
        """The values `(batch, outputs)` at `u` `(batch, inputs)`."""
        z = self.before(u)
        return np.concatenate([u[:, list(self.keep)], z * (z > 0)], axis=1)


@dataclass(frozen=True, eq=False)
class ExactNet:
    """Layers of ReLUs and a last affine map `weight @ u + bias`, in exact numbers.

    Every network of affine maps and piecewise linear activations has this form: what skips a
    layer is kept by it. The relaxations of `hullmark.theory` are defined on it, layer by layer.

    Trust: exact.
    """

    input_size: int
    layers: tuple[Layer, ...]
    weight: Array
    bias: Array

    @property
    def output_size(self) -> int:
        """The number of outputs."""
        return len(self.bias)

    @property
    def relus(self) -> int:
        """The number of ReLUs."""
        return sum(layer.size for layer in self.layers)

    @property
    def is_chain(self) -> bool:
        """Whether no layer is skipped."""
        return not any(layer.keep for layer in self.layers)

    @property
    def depth(self) -> int:
        """The number of affine layers, `L` of the papers: one more than layers of ReLUs."""
        return len(self.layers) + 1

    def states(self, x: Array) -> list[Array]:
        """What every layer reads and, last, what the output does, at `x` `(batch, input_size)`."""
        found = [x]
        for layer in self.layers:
            found.append(layer.apply(found[-1]))
        return found

    def evaluate(self, x: ArrayLike) -> Array:
        """The outputs `(batch, output_size)` at `x` `(batch, input_size)`, fractions.

        Raises:
            BadInput: if `x` is no array of numbers of this shape.
        """
        points = as_fractions(x, "x", 2)
        if points.shape[1] != self.input_size:
            raise BadInput(f"x has {points.shape[1]} columns, the network {self.input_size} inputs")
        return np.dot(self.states(points)[-1], self.weight.T) + self.bias

    def selected(self, output: int) -> ExactNet:
        """The same network with one of its outputs only.

        Raises:
            BadInput: if there is no such output.
        """
        if not 0 <= output < self.output_size:
            raise BadInput(f"there is no output {output}; there are {self.output_size}")
        pick = slice(output, output + 1)
        return ExactNet(self.input_size, self.layers, self.weight[pick], self.bias[pick])

    def objective(self, row: Sequence[Fraction] | Array) -> ExactNet:
        """The network whose only output is `row · y`, y the outputs of this one.

        Raises:
            BadInput: if the row is no `(output_size,)` numbers.
        """
        combined = as_fractions(np.array(row, dtype=object), "the objective", 1)[None]
        if combined.shape[1] != self.output_size:
            raise BadInput(f"an objective of {combined.shape[1]} for {self.output_size} outputs")
        return ExactNet(self.input_size, self.layers, combined @ self.weight, combined @ self.bias)

    def as_floats(self) -> list[tuple[Array, Array]]:
        """Weight and bias of every affine layer, as float64, of a chain.

        Raises:
            Unsupported: if there are skip connections, or a number is no float64.
        """
        if not self.is_chain:
            raise Unsupported("a network with skip connections is no list of matrices")
        pairs = [(layer.weight, layer.bias) for layer in self.layers] + [(self.weight, self.bias)]
        floats = [(w.astype(np.float64), b.astype(np.float64)) for w, b in pairs]
        for (w, b), (v, c) in zip(pairs, floats, strict=True):
            exact = [Fraction(x) for x in [*v.ravel().tolist(), *c.tolist()]]
            if exact != [*w.ravel().tolist(), *b.tolist()]:
                raise Unsupported("a weight is no float64; scale the network, or round it first")
        return floats


def mlp(layers: Sequence[tuple[ArrayLike, ArrayLike]]) -> ExactNet:
    """A chain of affine layers with ReLUs between them.

    Arguments:
        layers: `(weight, bias)` of every affine layer, `weight` `(m, n)`, `bias` `(m,)`: numbers
            or `Fraction`s; floats are the dyadic fractions that they store. One layer is an
            affine map.

    Raises:
        BadInput: if there is none, shapes do not fit, or a number is not finite; names the layer.

    Trust: exact.
    """
    if not len(layers):
        raise BadInput("a network needs at least one layer")
    read: list[tuple[Array, Array]] = []
    for index, (weight, bias) in enumerate(layers):
        w = as_fractions(weight, f"weight of layer {index}", 2)
        b = as_fractions(bias, f"bias of layer {index}", 1)
        if len(w) != len(b) or 0 in w.shape:
            raise BadInput(f"layer {index} has a weight of shape {w.shape} and {len(b)} biases")
        if read and w.shape[1] != len(read[-1][1]):
            raise BadInput(
                f"layer {index} reads {w.shape[1]} values, the one before yields {len(read[-1][1])}"
            )
        read.append((w, b))
    weight, bias = read[-1]
    hidden = tuple(Layer(w, b) for w, b in read[:-1])
    return ExactNet(read[0][0].shape[1], hidden, weight, bias)


def network(source: Any, input_shape: Sequence[int] | None = None) -> ExactNet:
    """Any network of affine maps, ReLUs and other two-piece activations, taken exactly.

    Layers are made by depth: a ReLU belongs to layer `i` if at most `i` ReLUs lie on a path to
    it, itself included. What a later layer or the output reads past a layer is kept by it.

    Arguments:
        source: a path to an ONNX file, a torch module, a loaded `Model` or a `Network`.
        input_shape: of one input of a torch module, without the batch axis; that of its first
            linear layer if None.

    Raises:
        BadInput: if it cannot be read.
        Unsupported: if there are more than `MOST` coefficients, an operation is neither affine nor
            piecewise linear, or coefficients are only known up to rounding (a folded batch norm,
            a division); names the node.

    Trust: exact for the numbers in the source.
    """
    graph = source if isinstance(source, Network) else _loaded(source, input_shape)
    size = sum(_coefficients(node) for node in graph.nodes)
    if size > MOST:
        raise Unsupported(
            f"a network of {size} coefficients is too large for exact arithmetic (limit {MOST})"
        )
    atoms = _Atoms(graph.input_size)
    values: list[Array] = []
    for node in graph.nodes:
        read = [values[j] for j in node.inputs]
        shapes = [graph.nodes[j].shape for j in node.inputs]
        values.append(_forms(atoms, node.op, node.name, read, shapes))
    return atoms.layered(values[-1])


def _loaded(source: Any, input_shape: Sequence[int] | None) -> Network:
    from hullmark.network.model import Model

    if isinstance(source, Model):
        return source.network
    if isinstance(source, str) or hasattr(source, "__fspath__"):
        from hullmark.network.onnx import load_onnx

        return load_onnx(source, simplified=False).network
    if not hasattr(source, "modules"):
        raise BadInput(f"a network is a path, a torch module or a Model, not {type(source)}")
    from hullmark.network.torch import load_torch

    if input_shape is None:
        found = next((m for m in source.modules() if hasattr(m, "in_features")), None)
        if found is None:
            raise BadInput("the shape of the module's input is not known; give input_shape=")
        input_shape = (int(found.in_features),)
    return load_torch(source, tuple(input_shape), simplified=False).network


def _coefficients(node: Node) -> int:
    """How many products a node takes."""
    if isinstance(node.op, ops.Dense | ops.Conv):
        return node.op.weight.size * (node.size // len(node.op.bias))
    return node.size


def positive(value: object, name: str) -> None:
    """Refuse what is no positive whole number.

    Raises:
        BadInput: names it.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadInput(f"{name} is {value!r}; it must be a whole number, 1 or more")


class _Atoms:
    """The values that all others are affine in: inputs and ReLUs, each with its depth.

    A form is a dictionary from atoms to coefficients; -1 is the constant.
    """

    def __init__(self, inputs: int) -> None:
        self.inputs = inputs
        self.depth = [0] * inputs
        self.read: list[dict[int, Fraction]] = [{} for _ in range(inputs)]

    def relu(self, form: dict[int, Fraction]) -> dict[int, Fraction]:
        """The ReLU of a form: a new atom, unless the form is constant."""
        if set(form) <= {-1}:
            return {-1: max(form.get(-1, Fraction(0)), Fraction(0))}
        self.read.append(form)
        self.depth.append(1 + max(self.depth[a] for a in form if a >= 0))
        return {len(self.read) - 1: Fraction(1)}

    def layered(self, output: Array) -> ExactNet:
        """The network of all atoms; those that nothing reads still have regions of their own."""
        forms = [dict(form) for form in output.ravel()]
        last = max(self.depth, default=0)
        # The last layer at which an atom is read; the output comes after all.
        use = {a: last + 1 for form in forms for a in form}
        for atom, form in enumerate(self.read):
            for a in form:
                use[a] = max(use.get(a, 0), self.depth[atom])
        state = list(range(self.inputs))
        layers: list[Layer] = []
        for level in range(1, last + 1):
            place = {atom: k for k, atom in enumerate(state)}
            born = [a for a, depth in enumerate(self.depth) if depth == level]
            weight, bias = _affine([self.read[a] for a in born], place)
            kept = [a for a in state if use.get(a, 0) > level]
            layers.append(Layer(weight, bias, tuple(place[a] for a in kept)))
            state = kept + born
        weight, bias = _affine(forms, {atom: k for k, atom in enumerate(state)})
        return ExactNet(self.inputs, tuple(layers), weight, bias)


def _affine(forms: Sequence[dict[int, Fraction]], place: dict[int, int]) -> tuple[Array, Array]:
    weight = np.full((len(forms), len(place)), Fraction(0), dtype=object)
    bias = np.full(len(forms), Fraction(0), dtype=object)
    for row, form in enumerate(forms):
        for atom, value in form.items():
            if atom < 0:
                bias[row] = value
            else:
                weight[row, place[atom]] = value
    return weight, bias


class _Form:
    """An affine form of atoms that adds up and scales, so that numpy can carry it."""

    __slots__ = ("terms",)

    def __init__(self, terms: dict[int, Fraction]) -> None:
        self.terms = terms

    def __add__(self, other: Any) -> _Form:
        terms = dict(self.terms)
        added = other.terms if isinstance(other, _Form) else {-1: Fraction(other)}
        for atom, value in added.items():
            terms[atom] = terms.get(atom, Fraction(0)) + value
        return _Form({atom: value for atom, value in terms.items() if value})

    __radd__ = __add__

    def __mul__(self, factor: Any) -> _Form:
        value = Fraction(factor)
        return _Form({atom: v * value for atom, v in self.terms.items()} if value else {})

    __rmul__ = __mul__

    def __sub__(self, other: Any) -> _Form:
        return self + other * -1

    def __neg__(self) -> _Form:
        return self * -1


def _boxed(forms: Sequence[dict[int, Fraction]], shape: tuple[int, ...]) -> Array:
    array = np.empty(len(forms), dtype=object)
    for index, form in enumerate(forms):
        array[index] = _Form(form)
    return array.reshape(shape)


def _forms(
    atoms: _Atoms, op: ops.Op, name: str, read: list[Array], shapes: list[ops.Shape]
) -> Array:
    """The forms of a node's values, flat, from those of the nodes that it reads."""
    if isinstance(op, ops.Input):
        return np.array([{a: Fraction(1)} for a in range(atoms.inputs)], dtype=object)
    if isinstance(op, ops.Rectifier):
        return _rectified(atoms, op, read[0], shapes[0])
    roundoff = getattr(op, "roundoff", ops.EXACT)
    if roundoff.relative or np.any(np.asarray(roundoff.bias) != 0):
        raise Unsupported(f"node {name} has coefficients that are only known up to rounding")
    if not isinstance(op, ops.Affine):
        raise Unsupported(
            f"node {name}: {type(op).__name__} is not piecewise linear, or not in a way that the "
            "exact tools know"
        )
    if isinstance(op, ops.Dense) and len(shapes[0]) == 1:
        return _dense(op, read[0])
    inputs = [_boxed(list(forms), (1, *shape)) for forms, shape in zip(read, shapes, strict=True)]
    result = op.apply(*inputs)
    flat = np.empty(result.size, dtype=object)
    for index, form in enumerate(result.ravel()):
        flat[index] = form.terms if isinstance(form, _Form) else {-1: Fraction(form)}
    return flat


def _dense(op: ops.Dense, read: Array) -> Array:
    """A matrix of forms, without a sum in between."""
    found = np.empty(len(op.bias), dtype=object)
    for row, (weights, bias) in enumerate(zip(op.weight.tolist(), op.bias.tolist(), strict=True)):
        terms: dict[int, Fraction] = {-1: Fraction(bias)}
        for weight, form in zip(weights, read, strict=True):
            if weight:
                factor = Fraction(weight)
                for atom, value in form.items():
                    terms[atom] = terms.get(atom, Fraction(0)) + factor * value
        found[row] = {atom: value for atom, value in terms.items() if value}
    return found


def _rectified(atoms: _Atoms, op: ops.Rectifier, read: Array, shape: ops.Shape) -> Array:
    left = np.broadcast_to(op.negative, shape).ravel()
    right = np.broadcast_to(op.positive, shape).ravel()
    found = np.empty(len(read), dtype=object)
    for index, form in enumerate(read):
        low, high = Fraction(left[index]), Fraction(right[index])
        bend = _Form(atoms.relu(form)) * (high - low) if high != low else _Form({})
        found[index] = (_Form(form) * low + bend).terms
    return found
