"""How many parts the maximum of d inputs must be cut into."""

from matplotlib.figure import Figure

from hullmark.theory.branch import Branching, branch
from hullmark.theory.encodings import nested_max
from hullmark.theory.partition import structural_p1, structural_single
from hullmark.theory.picture import PALETTE, canvas, draw_leaves

DIMENSIONS = range(2, 8)
RULES = {
    "triangle, first ReLU first": Branching("triangle", "signs", "first", "upper"),
    "triangle, last ReLU first": Branching("triangle", "signs", "last", "upper"),
    "$P_1$": Branching("p1", "signs", "first", "upper"),
}


def picture() -> Figure:
    """The counts by definition, and the leaves of searches that stop at the exact bound."""
    pieces: dict[str, list[tuple[int, int]]] = {"single neurons": [], "$P_1$": []}
    leaves: dict[str, list[tuple[int, int]]] = {name: [] for name in RULES}
    for d in DIMENSIONS:
        net, box = nested_max(d), ([0] * d, [1] * d)
        pieces["single neurons"].append((d, structural_single(net, *box)))
        pieces["$P_1$"].append((d, structural_p1(net, *box).upper))
        for name, rule in RULES.items():
            leaves[name].append((d, len(branch(net, *box, rule).leaves)))
    figure, (left, right) = canvas(9.6, 4.0, 2)
    draw_leaves(left, pieces, PALETTE[1:4:2])
    draw_leaves(right, leaves)
    left.set(title="Pieces, by structure", ylabel="pieces")
    right.set(title="Leaves of branch and bound", ylabel="leaves")
    for axes in (left, right):
        axes.set_ylim(0.8, 90)
        axes.legend(loc="upper left")
    return figure
