"""What relaxations allow for two outputs, beside what the network does."""

import random
from fractions import Fraction
from typing import Any

from matplotlib.figure import Figure

from hullmark.theory import mlp, output_set, relax
from hullmark.theory.picture import PALETTE, canvas, draw_projections, legend_below

LADDER: dict[str, tuple[str, dict[str, Any]]] = {
    "DeepPoly": ("deeppoly", {}),
    "triangle": ("triangle", {}),
    "2-ReLU": ("krelu", {"k": 2}),
    "$M_2$": ("mk", {"k": 2}),
    "$P_1$": ("p1", {}),
}
BOX = [-1, -1], [1, 1]


def picture() -> Figure:
    """A random network with layers of 2, 4, 3 and 2 values: all of it, and what is innermost."""
    pick = random.Random(15)
    layers = [
        (
            [[Fraction(pick.randint(-8, 8), 4) for _ in range(n)] for _ in range(m)],
            [Fraction(pick.randint(-4, 4), 4) for _ in range(m)],
        )
        for n, m in ((2, 4), (4, 3), (3, 2))
    ]
    net = mlp(layers)
    bodies = {
        told: relax(net, *BOX, name, **options).project()
        for told, (name, options) in LADDER.items()
    }
    real = output_set(net, *BOX)
    figure, (whole, inner) = canvas(10.4, 5.2, 2)
    draw_projections(whole, bodies, real)
    draw_projections(inner, {told: bodies[told] for told in ("$M_2$", "$P_1$")}, real, PALETTE[3:])
    whole.set(title="All relaxations", xlabel="$y_0$", ylabel="$y_1$")
    inner.set(title="The two tightest", xlabel="$y_0$", ylabel="$y_1$")
    for axes in (whole, inner):
        legend_below(axes)
    return figure
