"""The linear relaxation of a network over a batch of domains, built up node by node.

A domain is a box of inputs and, in a search tree, the pre-activation bounds that its splits
imply. For each nonlinear node the relaxation holds two lines; for every node the largest
magnitude that its value can take, and from it the charge per unit of coefficient that pays for
all rounding in a backward pass (see `hullmark.bounds.rounding`).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from hullmark.bounds.activations import Lines, image, product_image, product_lines, relax
from hullmark.bounds.interval import MOVES, Interval, enclose
from hullmark.bounds.kernels import AddKernel, ConcatKernel, ReshapeKernel, SelectKernel
from hullmark.bounds.pools import Pool
from hullmark.bounds.program import Program
from hullmark.bounds.rounding import SAFETY, gamma, tiny, unit, up
from hullmark.network import ops
from hullmark.network.ops import Array


class Stopped(Exception):
    """Whoever asked for bounds wants them no longer; see `Relaxation.stop`."""


def never() -> bool:
    """The answer of whoever never wants to stop."""
    return False


class Relaxation:
    """Lines, magnitudes and charges of the nodes reached so far.

    Arguments:
        program: the compiled network.
        lower, upper: input boxes, shape `(B, input_size)` or `(B, *input_shape)`.
        rule: the slope of adjustable lower lines: "area", "zero" or "one" (see `relax`).
        charged: whether rounding is paid for; only a `sketch` is not.

    Trust: with sound `bounds` every line holds in real arithmetic; `charge[i]` bounds all that
    rounding can do at node i in a backward pass, per unit of |coefficient|, and `lost`, `(B, 1)`,
    all that underflow can do to a pass whatever its coefficients.
    """

    def __init__(
        self,
        program: Program,
        lower: Tensor,
        upper: Tensor,
        rule: str = "area",
        charged: bool = True,
    ) -> None:
        shape = program.network.input_shape
        self.program = program
        self.rule = rule
        self.lower = lower.reshape(-1, *shape)
        self.upper = upper.reshape(-1, *shape)
        self.bounds: dict[int, Interval] = {}
        self.lines: dict[int, Lines] = {}
        self.products: dict[int, tuple[Tensor, ...]] = {}
        self.magnitude: dict[int, Tensor] = {}
        self.charge: dict[int, Tensor | None] = {}
        self.pools: dict[int, Pool] = {}
        # Whether some pool reads the last node, so that it tells of every node below.
        self.assumes = False
        self._intervals: dict[int, Interval] = {}
        self._pool_charges: dict[int, Tensor] = {}
        self.reached = 0
        self.charged = charged
        # Asked before every longer piece of work; if it says so, `Stopped` is raised.
        self.stop: Callable[[], bool] = never
        self.lost = self.lower.new_zeros(1, 1)
        if charged:
            size = program.network.input_size
            self._admit(0, torch.maximum(self.lower.abs(), self.upper.abs()), self._gamma(size))
            self._lose(0, 1)

    @property
    def batch(self) -> int:
        return len(self.lower)

    def sketch(self, program: Program) -> "Relaxation":
        """This relaxation as far as it is built, in another program's precision, uncharged.

        Trust: none; for finding good multipliers, which are then used on the relaxation itself.
        """

        def cast(tensor: Tensor) -> Tensor:
            return tensor.to(program.device, program.dtype)

        twin = Relaxation(program, cast(self.lower), cast(self.upper), self.rule, charged=False)
        twin.bounds = {j: (cast(a), cast(b)) for j, (a, b) in self.bounds.items()}
        twin.lines = {i: Lines(*(cast(t) for t in lines)) for i, lines in self.lines.items()}
        twin.products = {i: tuple(cast(t) for t in p) for i, p in self.products.items()}
        twin.assumes = self.assumes
        place = (program.device, program.dtype)
        twin.pools = {key: pool.to(*place) for key, pool in self.pools.items()}
        twin.reached = self.reached
        return twin

    def renewed(self) -> "Relaxation":
        """A relaxation of the same domains with the same bounds and pools, its lines made anew."""
        twin = Relaxation(self.program, self.lower, self.upper, self.rule, self.charged)
        for j, (lower, upper) in self.bounds.items():
            twin.set_bounds(j, lower, upper)
        twin.advance(self.reached)
        for key, pool in self.pools.items():
            twin.set_pool(key, pool)
        twin.stop = self.stop
        return twin

    def set_bounds(self, node: int, lower: Tensor, upper: Tensor) -> None:
        """Give a pre-activation its sound bounds, each `(B, *shape)`.

        A bound that left the range of float, in either direction, says nothing.
        """
        self.bounds[node] = (
            torch.where(lower < torch.inf, lower, -torch.inf),
            torch.where(upper > -torch.inf, upper, torch.inf),
        )

    def refine(self, node: int, neurons: Tensor, lower: Tensor, upper: Tensor) -> None:
        """Improve the bounds of some neurons, flat indices `(Q,)`, by others, each `(B, Q)`."""
        low, high = (b.flatten(1).clone() for b in self.bounds[node])
        shape = self.bounds[node][0].shape
        low[:, neurons] = torch.fmax(low[:, neurons], lower)
        high[:, neurons] = torch.fmin(high[:, neurons], upper)
        self.set_bounds(node, low.reshape(shape), high.reshape(shape))

    def set_pool(self, key: int, pool: Pool) -> None:
        """Let backward passes use joint rows that hold on every domain, as pool `key`."""
        self.pools[key] = pool
        self.assumes |= pool.top == len(self.program.network.nodes) - 1
        self._pool_charges.pop(key, None)

    def pool_charge(self, key: int) -> Tensor:
        """`(R,)`: what rounding can do to a pass per unit of multiplier of each row of a pool."""
        pool = self.pools[key]
        if not self.charged:
            return pool.none
        if key not in self._pool_charges:
            size = pool.rhs.abs() + sum(
                c.flatten(1).abs() @ self.magnitude[j].flatten(1).amax(dim=0)
                for j, c in pool.coefficients.items()
            )
            reach = sum(self.magnitude[j].flatten(1).sum(1).amax() for j in pool.coefficients)
            lost = tiny(self.program.dtype) * (len(pool.rhs) + 8) * (reach + pool.width)
            self.lost = self.lost + lost * SAFETY
            # What underflows in the size of a row, a large multiplier may bring back.
            least = tiny(self.program.dtype) * (pool.width + 2)
            self._pool_charges[key] = (self._gamma(len(pool.rhs)) * size + least) * SAFETY
        return self._pool_charges[key]

    def advance(self, node: int) -> None:
        """Build everything up to `node`; all pre-activations before it need their bounds."""
        for i in range(self.reached + 1, node + 1):
            if self.program.kernels[i] is not None:
                self._affine(i)
            else:
                self._nonlinear(i)
            self.reached = i

    def _gamma(self, terms: int) -> float:
        # Besides the sum itself: what a term meets on its way through the constant, to which a
        # node adds up to four times, and through the coefficients of nodes with several readers.
        return gamma(terms + 4 * len(self.program.kernels) + 16, self.program.dtype)

    def _lose(self, i: int, terms: int) -> None:
        """Pay for the underflow of every product at node i, which no coefficient scales."""
        node, kind = self.program.network.nodes[i], self.program.dtype
        reach = sum(self.magnitude[j].flatten(1).sum(1, keepdim=True) for j in (i, *node.inputs))
        self.lost = self.lost + tiny(kind) * SAFETY * (terms + 8) * (reach + node.size)

    def _admit(self, i: int, magnitude: Tensor, relative: float) -> None:
        lost = tiny(self.program.dtype) * self.program.network.nodes[i].size
        self.magnitude[i] = magnitude
        self.charge[i] = (relative * magnitude + lost) * SAFETY

    def _affine(self, i: int) -> None:
        program, node = self.program, self.program.network.nodes[i]
        kernel = program.kernels[i]
        if kernel is None:
            raise ValueError(f"node {i} is not affine")
        if not self.charged:
            return
        reach = kernel.magnitude(*(self.magnitude[j] for j in node.inputs))
        weight_error = self._gamma(kernel.fan) + kernel.relative
        charge = weight_error * reach + kernel.bias_error
        total = reach * (1 + weight_error) + kernel.bias_error
        if kernel.bias is not None:
            charge = charge + self._gamma(node.size) * kernel.bias.abs()
            total = total + kernel.bias.abs()
        total = total * (1 + 8 * unit(program.dtype)) + tiny(program.dtype) * kernel.fan
        if i in self.bounds:
            lower, upper = self.bounds[i]
            total = torch.minimum(total, torch.maximum(lower.abs(), upper.abs()))
        self.magnitude[i] = total
        moves = isinstance(kernel, ReshapeKernel | ConcatKernel | AddKernel) or (
            isinstance(kernel, SelectKernel) and kernel.fan == 1
        )
        alone = all(len(program.network.consumers[j]) == 1 for j in node.inputs)
        lost = tiny(program.dtype) * (node.size + kernel.fan)
        self.charge[i] = None if moves and alone else (charge + lost) * SAFETY
        self._lose(i, kernel.fan)

    def _nonlinear(self, i: int) -> None:
        program, node = self.program, self.program.network.nodes[i]
        if isinstance(node.op, ops.Product):
            (lx, ux), (ly, uy) = (self.interval(j) for j in node.inputs)
            self.products[i] = parts = product_lines(lx, ux, ly, uy)
            if not self.charged:
                return
            reach = torch.maximum(lx.abs(), ux.abs()) * torch.maximum(ly.abs(), uy.abs())
            slopes = [parts[k].abs() for k in (0, 1, 3, 4)]
            offsets = torch.maximum(parts[2].abs(), parts[5].abs())
            paid = offsets * self._gamma(node.size)
            for slope, j in zip(slopes, (*node.inputs, *node.inputs), strict=True):
                paid = paid + slope * self.pay(j)
            self.magnitude[i] = reach * SAFETY
            self.charge[i] = (paid + tiny(program.dtype) * node.size) * SAFETY
            self._lose(i, 2)
            return
        op = node.op
        if not isinstance(op, ops.Elementwise):
            raise ValueError(f"node {i} is not elementwise")
        j = node.inputs[0]
        lower, upper = self.interval(j)
        lines = relax(op, lower, upper, self.rule)
        self.lines[i] = lines
        if not self.charged:
            return
        low, high = image(op, lower, upper)
        self.magnitude[i] = torch.maximum(low.abs(), high.abs())
        slope = torch.maximum(lines.lower_slope.abs(), lines.upper_slope.abs())
        if i in program.slopes:
            negative, positive = program.slopes[i]
            # A free lower slope may be as steep as either side, split or not.
            slope = torch.maximum(slope, torch.maximum(negative.abs(), positive.abs()))
        offset = torch.maximum(lines.lower_offset.abs(), lines.upper_offset.abs())
        charge = slope * self.pay(j) + self._gamma(node.size) * offset
        self.charge[i] = (charge + tiny(program.dtype) * node.size) * SAFETY
        self._lose(i, 2)

    def pay(self, j: int) -> Tensor:
        """The charge of pre-activation j as its nonlinear reader pays it, with its own rounding."""
        charge = self.charge[j]
        own = self._gamma(1) * self.magnitude[j]
        return own if charge is None else charge + own

    def interval(self, node: int) -> Interval:
        """Bounds of a node: given ones, or else by interval arithmetic from its inputs'.

        Trust: rounded outwards; holds in real arithmetic if the given bounds do.
        """
        if node == 0:
            return self.lower, self.upper
        if node not in self.bounds and node not in self._intervals:
            self._intervals[node] = self._interval(node)
        return self.bounds[node] if node in self.bounds else self._intervals[node]

    def ends(self, node: int) -> tuple[Array, Array]:
        """The `interval` of a node of the only domain, each end flat and in float64."""
        lower, upper = (b.flatten().double().cpu().numpy() for b in self.interval(node))
        return lower, upper

    def _interval(self, i: int) -> Interval:
        item, kernel = self.program.network.nodes[i], self.program.kernels[i]
        inputs = [self.interval(j) for j in item.inputs]
        if kernel is None:
            if isinstance(item.op, ops.Product):
                return product_image(*inputs[0], *inputs[1])
            if not isinstance(item.op, ops.Elementwise):
                raise ValueError(f"node {i} is not elementwise")
            return image(item.op, *inputs[0])
        if isinstance(kernel, MOVES):
            return kernel.forward(*(a for a, _ in inputs)), kernel.forward(*(b for _, b in inputs))
        middle = [lower / 2 + upper / 2 for lower, upper in inputs]
        radius = [
            up(torch.maximum(upper - m, m - lower))
            for (lower, upper), m in zip(inputs, middle, strict=True)
        ]
        spread = kernel.magnitude(*radius) * (1 + 2 * self._gamma(kernel.fan) + kernel.relative)
        charge = self.charge.get(i)
        centre = kernel.forward(*middle)
        if kernel.bias is not None:
            centre = centre + kernel.bias
        if charge is not None:
            spread = spread + charge
        elif self.charged:
            spread = spread + self._gamma(kernel.fan) * self.magnitude[i]
        return enclose(centre, up(spread))
