"""A point that no input reaches, but every layer-wise relaxation must allow."""

from fractions import Fraction

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hullmark.theory import ExactNet, Polytope, output_set, regions
from hullmark.theory.barrier import Barrier, SmoothBarrier, barrier, l_shape, smooth_barrier
from hullmark.theory.picture import (
    HULL,
    POINT,
    REAL,
    canvas,
    draw_image,
    legend_below,
    ring,
    shade_affine,
)


def picture() -> Figure:
    """Hidden values with T = 1, what the rest of the network makes of them, and with sigmoids."""
    figure, (first, rest, smooth) = canvas(13.2, 4.3, 3)
    sharp = barrier(1)
    parts = output_set(l_shape(), sharp.lower, sharp.upper)
    draw_image(first, parts, "reached")
    first.set(title="Behind the first layer: an L", xlabel="$v_1$", ylabel="$v_2$")
    _star(first, sharp)
    _rest(rest, sharp, Polytope.hull(np.concatenate([part.vertices for part in parts])))
    _smooth(smooth, smooth_barrier(1, "sigmoid", epsilon=Fraction(1, 10)))
    return figure


def _rest(axes: Axes, sharp: Barrier, hull: Polytope) -> None:
    """The layers behind the first, on the hull that P_1 takes for their input set."""
    net = sharp.net
    behind = ExactNet(2, net.layers[1:], net.weight, net.bias)
    pieces = regions(behind, hull)
    rings = [ring(piece.cell) for piece in pieces]
    heights = [c @ p.weight[0].astype(float) for p, c in zip(pieces, rings, strict=True)]
    shade_affine(axes, rings, heights, "output")
    _star(axes, sharp)
    axes.set(title="What the rest makes of the hull", xlabel="$v_1$", ylabel="$v_2$")
    axes.set(aspect="equal")


def _smooth(axes: Axes, made: SmoothBarrier) -> None:
    """The output of sigmoids, in floats for the eye, and the proved value at a phantom point."""
    x = values = np.linspace(-1, 1, 401)[:, None]
    for index, (weight, bias) in enumerate(made.chain.layers):
        values = 1 / (1 + np.exp(-values)) if index else values
        values = values @ weight.T.astype(float) + bias.astype(float)
    most = float(made.phantom.most)
    axes.plot(x, values, color=REAL, linewidth=2.6, label="the network")
    axes.axhline(most, color=HULL, linewidth=2.6, label="phantom: $P_1$ is no higher")
    axes.set(title="The same with sigmoids", xlabel="$x$", ylabel="$f(x)$", ylim=(1.2 * most, 0.3))
    legend_below(axes)


def _star(axes: Axes, failed: Barrier) -> None:
    """The phantom point, on the segment between the two reached points that it is made of."""
    x, y = (float(sum(interval) / 2) for interval in failed.phantom.values)
    axes.plot([0, 2 * x], [2 * y, 0], color=POINT, linestyle="--", linewidth=1, zorder=4)
    axes.plot(x, y, "*", color=POINT, markersize=17, label="phantom", zorder=5, linestyle="none")
    legend_below(axes)
