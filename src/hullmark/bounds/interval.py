"""Interval bound propagation: the value of every node, one box at a time."""

import torch
from torch import Tensor

from hullmark.bounds.activations import image, product_image
from hullmark.bounds.kernels import ConcatKernel, Kernel, ReshapeKernel, SelectKernel
from hullmark.bounds.program import Program
from hullmark.bounds.rounding import SAFETY, down, faithful_arithmetic, gamma, tiny, unit, up
from hullmark.errors import Unsupported
from hullmark.network import ops

Interval = tuple[Tensor, Tensor]

# These only move values about, so that no rounding is to be paid for.
MOVES = (ReshapeKernel, ConcatKernel, SelectKernel)


@faithful_arithmetic()
def interval(program: Program, lower: Tensor, upper: Tensor) -> dict[int, Interval]:
    """Bounds of every node over each input box, no dependence between values being kept [IBP].

    Arguments:
        program: the compiled network.
        lower, upper: input boxes, `(B, input_size)` or `(B, *input_shape)`, of the program's
            device and precision.

    Returns:
        For every node a lower and an upper bound `(B, *shape)`; infinite where the range of
        float is left.

    Raises:
        Unsupported: where a reciprocal's argument may be 0, naming the node; where sums are too
            long for the precision.

    Trust: holds in real arithmetic for every input in the closed boxes and all coefficients
    within their `roundoff`. An affine node is wider than interval arithmetic over the reals by
    at most about `4 gamma(n)` times the sum of the magnitudes it adds up.
    """
    nodes = program.network.nodes
    shape = program.network.input_shape
    found: dict[int, Interval] = {0: (lower.reshape(-1, *shape), upper.reshape(-1, *shape))}
    for i in range(1, len(nodes)):
        inputs = [found[j] for j in nodes[i].inputs]
        kernel = program.kernels[i]
        if kernel is not None:
            found[i] = affine_image(kernel, inputs)
            continue
        op = nodes[i].op
        if isinstance(op, ops.Elementwise):
            try:
                found[i] = image(op, *inputs[0])
            except Unsupported as error:
                raise Unsupported(f"node {nodes[i].name}: {error}") from None
        else:
            found[i] = product_image(*inputs[0], *inputs[1])
    return found


def affine_image(kernel: Kernel, inputs: list[Interval]) -> Interval:
    """The image of boxes under an affine kernel: its value at the centre, give or take a radius.

    Trust: holds in real arithmetic; the radius pays for the rounding of the centre, of itself
    and for the coefficients' own uncertainty.
    """
    if isinstance(kernel, MOVES):
        return kernel.forward(*(x for x, _ in inputs)), kernel.forward(*(x for _, x in inputs))
    dtype = inputs[0][0].dtype
    centres = [a / 2 + b / 2 for a, b in inputs]
    radii = [torch.maximum(up(b - c), up(c - a)) for (a, b), c in zip(inputs, centres, strict=True)]
    centre = kernel.forward(*centres)
    radius = paid_radius(kernel, [c.abs() + r for c, r in zip(centres, radii, strict=True)], radii)
    if kernel.bias is not None:
        centre = centre + kernel.bias
    radius = (radius + kernel.bias_error + unit(dtype) * centre.abs()) * (1 + 8 * unit(dtype))
    return enclose(centre, radius)


def paid_radius(kernel: Kernel, reach: list[Tensor], radii: list[Tensor]) -> Tensor:
    """`|W| r` together with all that the products of `W` with values up to `reach` can lose.

    Arguments:
        kernel: an affine map whose products are rounded.
        reach: per input the largest magnitudes of its values, of which half a percent may lack.
        radii: per input the radii `r >= 0`.

    Trust: at or above the real `|W| r + (relative + gamma) |W| reach`, underflow included.
    """
    dtype = reach[0].dtype
    own = gamma(kernel.fan + 16, dtype)
    rate = SAFETY * (own + kernel.relative)
    # `2 own` pays for the rounding of the very sum that `magnitude` takes.
    widened = [r * (1 + 2 * own) + rate * m for m, r in zip(reach, radii, strict=True)]
    return kernel.magnitude(*widened) + tiny(dtype) * (2 * kernel.fan + 8)


def enclose(centre: Tensor, radius: Tensor) -> Interval:
    """`centre - radius` and `centre + radius` rounded outwards; infinite in place of NaN."""
    lower, upper = down(centre - radius), up(centre + radius)
    return (
        torch.where(lower.isnan(), torch.full_like(lower, -torch.inf), lower),
        torch.where(upper.isnan(), torch.full_like(upper, torch.inf), upper),
    )
