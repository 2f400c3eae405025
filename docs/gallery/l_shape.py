"""ReLU layers do not keep sets convex: the image of a segment, and of a square."""

from matplotlib.figure import Figure

from hullmark.theory import mlp, output_set
from hullmark.theory.barrier import l_shape
from hullmark.theory.picture import canvas, draw_image

SQUARE = mlp(
    [([[1, 0], [0, 1], [-1, -1], [1, -1]], [0, 0, 0, 0]), ([[1, 0, 0, 1], [0, 1, 1, 0]], [0, 0])]
)


def picture() -> Figure:
    """Both images and their hulls."""
    figure, (left, right) = canvas(8.8, 4.2, 2)
    draw_image(left, output_set(l_shape(), [-1], [1]), "image of [-1, 1]")
    left.set(title="$x \\mapsto (\\rho(x), \\rho(-x))$", xlabel="$v_1$", ylabel="$v_2$")
    draw_image(right, output_set(SQUARE, [-1, -1], [1, 1]), "image of the square")
    right.set(title="Four ReLUs, added in pairs", xlabel="$y_0$", ylabel="$y_1$")
    for axes in (left, right):
        axes.legend(loc="upper right")
    return figure
