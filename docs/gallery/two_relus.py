"""The hull of two ReLUs over the diamond `|x1 ± x2| <= 2`, beside two triangles."""

from matplotlib.figure import Figure

from hullmark.relax import relu_hull


def picture() -> Figure:
    """The diamond of [kReLU Fig. 1]."""
    return relu_hull([[1, 1], [1, -1], [-1, 1], [-1, -1]], [2, 2, 2, 2]).plot()
