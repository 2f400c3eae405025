"""On barriers of L layers: which P_r are off by T, and which are exact."""

from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from hullmark.theory import bounds
from hullmark.theory.barrier import barrier
from hullmark.theory.picture import HULL, REAL, canvas

DEEPEST = 10


def picture() -> Figure:
    """A square for each L and r, by what P_r really gives."""
    figure, (axes,) = canvas(6.6, 5.0)
    for layers in range(3, DEEPEST + 1):
        made = barrier(1, layers=layers)
        for window in range(1, layers + 1):
            ((low, _),) = bounds(made.net, made.lower, made.upper, "pr", window=window)
            color = HULL if low == made.bound else REAL
            axes.add_patch(Rectangle((layers - 0.46, window - 0.46), 0.92, 0.92, color=color))
            text = "$-T$" if low else "0"
            axes.text(layers, window, text, ha="center", va="center", color="white")
    axes.set(
        xlim=(2.4, DEEPEST + 0.6),
        ylim=(0.4, DEEPEST + 0.6),
        title="The lower bound that $P_r$ gives of 0",
        xlabel="$L$, affine layers of the barrier",
        ylabel="$r$, layers in a window",
        aspect="equal",
    )
    axes.set_xticks(range(3, DEEPEST + 1))
    axes.set_yticks(range(1, DEEPEST + 1))
    handles = [Patch(color=HULL, label="off by T"), Patch(color=REAL, label="exact")]
    axes.legend(handles=handles, loc="upper left")
    return figure
