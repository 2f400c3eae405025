"""The pieces on which a network of two inputs is affine."""

import random
from fractions import Fraction

from matplotlib.figure import Figure

from hullmark.theory import mlp, regions
from hullmark.theory.picture import draw_regions


def picture() -> Figure:
    """A network of two hidden layers with five ReLUs each, weights from a fixed seed."""
    pick = random.Random(5)
    layers = [
        (
            [[Fraction(pick.randint(-8, 8), 4) for _ in range(n)] for _ in range(m)],
            [Fraction(pick.randint(-4, 4), 4) for _ in range(m)],
        )
        for n, m in ((2, 5), (5, 5), (5, 1))
    ]
    return draw_regions(regions(mlp(layers), [-1, -1], [1, 1]))
