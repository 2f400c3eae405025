"""What single-neuron relaxations say of one ReLU, and of two that are equal."""

from matplotlib.figure import Figure

from hullmark.theory import mlp, output_set, relax
from hullmark.theory.picture import REAL, canvas, draw_projections, legend_below

ONE = mlp([([[1]], [0]), ([[1]], [0])])
TWIN = mlp([([[1], [1]], [0, 0]), ([[1, 0], [0, 1]], [0, 0])])
NAMES = {"IBP": "ibp", "DeepZ": "deepz", "triangle": "triangle"}
LINES = {"DeepPoly-0": "deeppoly0", "DeepPoly-1": "deeppoly1"}


def picture() -> Figure:
    """The graph of one ReLU under five relaxations; the values of two equal ones under four."""
    figure, (weak, lines, twin) = canvas(12.6, 4.4, 3)
    for axes, names in ((weak, NAMES), (lines, LINES)):
        bodies = {
            told: relax(ONE, [-1], [1], name).project("graph") for told, name in names.items()
        }
        draw_projections(axes, bodies)
        axes.plot([-1, 0, 1], [0, 0, 1], color=REAL, linewidth=3.2, label="ReLU", zorder=20)
        axes.set(xlabel="$z$", ylabel="$v$", ylim=(-1.1, 1.1))
        legend_below(axes, 2)
    weak.set_title("One ReLU on [-1, 1]")
    lines.set_title("DeepPoly's two lower lines")
    bodies = {told: relax(TWIN, [-1], [1], name).project() for told, name in NAMES.items()}
    bodies["$M_2$"] = relax(TWIN, [-1], [1], "mk", k=2).project()
    draw_projections(twin, bodies, output_set(TWIN, [-1], [1]))
    twin.set(title="Two equal ReLUs of one input", xlabel="$v_1$", ylabel="$v_2$")
    legend_below(twin, 3)
    return figure
