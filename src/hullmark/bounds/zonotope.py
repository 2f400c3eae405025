"""DeepZ: zonotopes with one noise symbol for each input and each unstable neuron.

The value of a node is `centre + sum_k generators[k] * e_k` with `|e_k| <= 1`, give or take
`error`, which holds everything that rounding did and takes part in no cancellation. Noise
symbols are shared by all nodes, so that a difference of related values stays small.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hullmark.bounds.activations import strip
from hullmark.bounds.interval import MOVES, Interval, enclose, paid_radius
from hullmark.bounds.kernels import Kernel
from hullmark.bounds.program import Program
from hullmark.bounds.rounding import SAFETY, faithful_arithmetic, gamma, tiny, unit, up
from hullmark.errors import Unsupported
from hullmark.network import ops
from hullmark.network.graph import Node

# What the generators of one node may take, in bytes.
MEMORY = 2 * 2**30


class Form(NamedTuple):
    """Zonotopes: `centre` `(B, *shape)`, `generators` `(B, K, *shape)`, `error` `(B, *shape)`."""

    centre: Tensor
    generators: Tensor
    error: Tensor


@faithful_arithmetic()
def zonotope(
    program: Program, lower: Tensor, upper: Tensor, memory: int = MEMORY
) -> dict[int, Interval]:
    """Bounds of every node over each input box by zonotopes [DeepZ].

    A nonlinear node becomes a strip between two parallel lines, whose half width is a new noise
    symbol. Bounds are those of the zonotopes and of nothing else: a value after a ReLU may have
    a negative lower bound.

    Arguments:
        program: the compiled network.
        lower, upper: input boxes, `(B, input_size)` or `(B, *input_shape)`, of the program's
            device and precision.
        memory: what the generators of one node may take, in bytes.

    Returns:
        For every node a lower and an upper bound `(B, *shape)`; infinite where the range of
        float is left.

    Raises:
        Unsupported: where a reciprocal's argument may be 0 or the generators of a node take more
            than `memory`, naming the node; where sums are too long for the precision.

    Trust: holds in real arithmetic for every input in the closed boxes and all coefficients
    within their `roundoff`; wider than DeepZ over the reals only by a-priori rounding errors.
    """
    nodes = program.network.nodes
    shape = program.network.input_shape
    symbols = _Symbols(memory, lower.element_size())
    box = (lower.reshape(-1, *shape), upper.reshape(-1, *shape))
    forms = {0: _from_box(*box, nodes[0], symbols)}
    found: dict[int, Interval] = {0: box}
    for i in range(1, len(nodes)):
        node, kernel = nodes[i], program.kernels[i]
        inputs = [forms[j] for j in node.inputs]
        if kernel is not None:
            symbols.check(node, inputs[0].centre.shape[0], 0)
            forms[i] = _affine(kernel, inputs)
        elif isinstance(node.op, ops.Elementwise):
            forms[i] = _elementwise(node, inputs[0], found[node.inputs[0]], symbols)
        else:
            forms[i] = _product(node, inputs[0], inputs[1], symbols)
        found[i] = _bounds(forms[i])
        for j in node.inputs:
            if program.network.consumers[j][-1] == i:
                forms.pop(j, None)
    return found


@dataclass
class _Symbols:
    """How many noise symbols there are so far, and what they may take."""

    memory: int
    item: int
    count: int = 0

    def check(self, node: Node, batch: int, more: int) -> None:
        needed = batch * (self.count + more) * node.size * self.item
        if needed > self.memory:
            raise Unsupported(
                f"node {node.name}: {self.count + more} generators of {node.size} values for "
                f"{batch} boxes take {needed} bytes, more than {self.memory}"
            )

    def extend(self, node: Node, generators: Tensor, half: Tensor, chosen: Tensor) -> Tensor:
        """Append a symbol for each neuron of `chosen` (flat indices), of size `half`."""
        batch, more = len(half), len(chosen)
        self.check(node, batch, more)
        fresh = half.new_zeros(batch, more, node.size)
        fresh[:, torch.arange(more, device=half.device), chosen] = half.flatten(1)[:, chosen]
        old = _padded(generators, self.count)
        self.count += more
        return torch.cat([old, fresh.reshape(batch, more, *node.shape)], dim=1)


def _padded(generators: Tensor, count: int) -> Tensor:
    missing = count - generators.shape[1]
    return (
        F.pad(generators, (0, 0) * (generators.dim() - 2) + (0, missing)) if missing else generators
    )


def _from_box(lower: Tensor, upper: Tensor, node: Node, symbols: _Symbols) -> Form:
    centre = lower / 2 + upper / 2
    radius = torch.maximum(up(upper - centre), up(centre - lower))
    radius = torch.where(lower == upper, torch.zeros_like(radius), radius)
    chosen = (radius != 0).any(0).flatten().nonzero().flatten()
    none = centre.new_zeros(len(centre), 0, *node.shape)
    return Form(centre, symbols.extend(node, none, radius, chosen), torch.zeros_like(centre))


def _spread(form: Form) -> Tensor:
    """At or above `sum_k |generators[k]| + error`."""
    dtype = form.centre.dtype
    total = form.generators.abs().sum(dim=1)
    total = total * (1 + 2 * gamma(form.generators.shape[1] + 8, dtype))
    return (total + form.error) * (1 + 4 * unit(dtype)) + tiny(dtype)


def _bounds(form: Form) -> Interval:
    return enclose(form.centre, _spread(form))


def _affine(kernel: Kernel, inputs: list[Form]) -> Form:
    batch, count = len(inputs[0].centre), max(f.generators.shape[1] for f in inputs)
    stacked = [_padded(f.generators, count).flatten(0, 1) for f in inputs]
    centre = kernel.forward(*(f.centre for f in inputs))
    if count == 0:
        generators = centre.new_zeros(batch, 0, *centre.shape[1:])
    else:
        generators = kernel.forward(*stacked).reshape(batch, count, *centre.shape[1:])
    if isinstance(kernel, MOVES):
        return Form(centre, generators, kernel.forward(*(f.error for f in inputs)))
    dtype = centre.dtype
    reach = [f.centre.abs() + _spread(f) for f in inputs]
    error = paid_radius(kernel, reach, [f.error for f in inputs])
    if kernel.bias is not None:
        centre = centre + kernel.bias
    error = (error + kernel.bias_error + unit(dtype) * centre.abs()) * (1 + 8 * unit(dtype))
    return Form(centre, generators, error + tiny(dtype) * kernel.fan * count)


def _elementwise(node: Node, x: Form, bounds: Interval, symbols: _Symbols) -> Form:
    op, dtype = node.op, x.centre.dtype
    if not isinstance(op, ops.Elementwise):
        raise Unsupported(f"node {node.name}: {type(op).__name__} is not element-wise")
    try:
        slope, low, high = strip(op, *bounds)
    except Unsupported as error:
        raise Unsupported(f"node {node.name}: {error}") from None
    middle = low / 2 + high / 2
    half = torch.maximum(up(high - middle), up(middle - low))
    half = torch.where(low == high, torch.zeros_like(half), half)
    steep = slope.abs()
    size = steep * torch.maximum(bounds[0].abs(), bounds[1].abs()) + middle.abs()
    # A strip as thin as rounding deserves no symbol of its own.
    thick = (half > 32 * unit(dtype) * size + tiny(dtype)).any(0)
    chosen = thick.flatten().nonzero().flatten()
    centre = slope * x.centre + middle
    reach = steep * (x.centre.abs() + _spread(x)) + middle.abs()
    error = steep * x.error + torch.where(thick, torch.zeros_like(half), half)
    error = (error + 4 * SAFETY * unit(dtype) * reach) * (1 + 8 * unit(dtype))
    error = error + tiny(dtype) * (x.generators.shape[1] + 8)
    generators = symbols.extend(node, slope.unsqueeze(1) * x.generators, half, chosen)
    return Form(centre, generators, error)


def _product(node: Node, x: Form, y: Form, symbols: _Symbols) -> Form:
    """`x y = cx cy + cx (y - cy) + cy (x - cx) + (x - cx)(y - cy)`, the last a new symbol."""
    dtype = x.centre.dtype
    count = max(x.generators.shape[1], y.generators.shape[1])
    symbols.check(node, len(x.centre), node.size)
    cx, cy = x.centre, y.centre
    spread_x, spread_y = _spread(x), _spread(y)
    generators = cy.unsqueeze(1) * _padded(x.generators, count)
    generators = generators + cx.unsqueeze(1) * _padded(y.generators, count)
    reach = (cx.abs() + spread_x) * (cy.abs() + spread_y)
    error = cx.abs() * y.error + cy.abs() * x.error
    error = (error + 6 * SAFETY * unit(dtype) * reach) * (1 + 8 * unit(dtype))
    error = error + tiny(dtype) * (3 * count + 8)
    half = up(spread_x * spread_y) + tiny(dtype)
    every = torch.arange(node.size, device=half.device)
    return Form(cx * cy, symbols.extend(node, generators, half, every), error)
