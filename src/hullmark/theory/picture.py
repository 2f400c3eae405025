"""Pictures of exact sets: regions, images and their hulls, relaxations, phantom points, leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hullmark.errors import BadInput
from hullmark.relax.exact import Array
from hullmark.theory.polytope import Polytope
from hullmark.theory.regions import Region

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REAL, INSIDE, HULL, POINT = "#1f4e79", "#8fb0d3", "#c44e52", "#111111"
"""The colours of what a network really does, line and area, of hulls, and of single points."""

PALETTE = ("#b7bcc4", "#8da0cb", "#66a61e", "#e6a532", "#c44e52", "#7a3b8f", "#2a9d8f")
"""The colours of several relaxations, from the weakest on."""

BANDS = 24
"""Into about so many bands a function's values are divided."""

MOST_DRAWN = 2000
"""A picture of more polygons is refused: nobody could read it."""


def canvas(width: float, height: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """An empty figure, and axes side by side in it.

    Arguments:
        width, height: in inches.

    Raises:
        BadInput: if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise BadInput('pictures need matplotlib: pip install "hullmark[plot]"') from None
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = [figure.add_subplot(1, panels, place + 1) for place in range(panels)]
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save(figure: Figure, path: str | Path) -> None:
    """Write a picture; the file's name says in which format.

    Raises:
        BadInput: if there is no such format, or the file cannot be written.
    """
    try:
        # Tight, since labels may stand out where the sides of a plot are of fixed proportion.
        figure.savefig(path, dpi=144, bbox_inches="tight", pad_inches=0.1)
    except ValueError as error:
        raise BadInput(f"{path}: no picture: {error}") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be written: {error.strerror}") from None


def ring(body: Polytope) -> Array:
    """The vertices of a polygon `(n, 2)` in their order around it, floats; also of a flat one."""
    points = body.vertices.astype(np.float64)
    offsets = points - points.mean(axis=0)
    return points[np.argsort(np.arctan2(offsets[:, 1], offsets[:, 0]), kind="stable")]


def draw_body(axes: Axes, body: Polytope, color: str, **style: Any) -> None:
    """Add a polytope of the plane: filled, or a line, or a dot, by its dimension.

    Arguments:
        style: passed on, e.g. `label` or `zorder`; `inside` is the colour of the area.

    Raises:
        BadInput: if it is of another space.
    """
    if body.size != 2:
        raise BadInput(f"only sets of the plane can be drawn, this one has {body.size} coordinates")
    points = ring(body)
    inside = style.pop("inside", (color, 0.3))
    if body.dimension == 2:
        axes.fill(*points.T, facecolor=inside, edgecolor=color, linewidth=1.6, **style)
    elif body.dimension == 1:
        width = style.pop("linewidth", 3.2)
        axes.plot(*points.T, color=color, linewidth=width, solid_capstyle="round", **style)
    else:
        axes.plot(*points.T, "o", color=color, markersize=7, **style)


def draw_regions(pieces: Sequence[Region], output: int = 0) -> Figure:
    """The activation regions of a network with two inputs, coloured by an output's exact value.

    With one input, the output's graph instead, region by region.

    Arguments:
        pieces: of `hullmark.theory.regions`.

    Raises:
        BadInput: if there are more inputs, or no such output, or matplotlib is not installed.

    Trust: corners and their values are exact and then rounded for the picture; between them the
    output is affine, and so is the colour.
    """
    size, outputs = pieces[0].weight.shape[::-1]
    if size > 2:
        raise BadInput(f"only regions of one or two inputs can be drawn, the network has {size}")
    if not 0 <= output < outputs:
        raise BadInput(f"there is no output {output}; the network has {outputs}")
    if len(pieces) > MOST_DRAWN:
        raise BadInput(f"{len(pieces)} regions are too many for a picture (limit {MOST_DRAWN})")
    figure, (axes,) = canvas(6.2 if size == 2 else 5.4, 5.0 if size == 2 else 3.8)
    axes.set_title(f"{len(pieces)} activation regions")
    if size == 1:
        _draw_graph(axes, pieces, output)
        return figure
    rings = [ring(piece.cell) for piece in pieces]
    heights = [_values(p, corners, output) for p, corners in zip(pieces, rings, strict=True)]
    shade_affine(axes, rings, heights, f"$y_{{{output}}}$")
    for corners in rings:
        axes.plot(*np.concatenate([corners, corners[:1]]).T, color="white", linewidth=1.3)
    axes.set(xlabel="$x_0$", ylabel="$x_1$", aspect="equal")
    return figure


def shade_affine(axes: Axes, rings: Sequence[Array], heights: Sequence[Array], label: str) -> None:
    """Add polygons, coloured in bands by a function that is affine on each, and the colours' bar.

    Arguments:
        rings: the corners `(n, 2)` of each, in their order around it; flat ones are left out.
        heights: the function at the corners.
        label: of the bar.
    """
    from matplotlib.ticker import MaxNLocator
    from matplotlib.tri import Triangulation

    fans: list[tuple[int, int, int]] = []
    start = 0
    for corners in rings:
        fans += [(start, start + i, start + i + 1) for i in range(1, len(corners) - 1)]
        start += len(corners)
    values = np.concatenate(heights)
    low, high = float(values.min()), float(values.max())
    if not fans or low == high:
        return
    levels = MaxNLocator(BANDS).tick_values(low, high)
    points = np.concatenate(rings)
    mesh = Triangulation(points[:, 0], points[:, 1], fans)
    shade = axes.tricontourf(mesh, values, levels=levels, cmap="viridis")
    axes.figure.colorbar(shade, ax=axes, label=label)


def _values(piece: Region, points: Array, output: int) -> Array:
    """An output at points `(n, d)` of a region, floats."""
    return (points @ piece.weight[output] + piece.bias[output]).astype(np.float64)


def _draw_graph(axes: Axes, pieces: Sequence[Region], output: int) -> None:
    for piece in pieces:
        ends = piece.cell.vertices
        values = _values(piece, ends, output)
        axes.plot(ends[:, 0].astype(float), values, color=REAL, linewidth=2.2)
        axes.plot(ends[:, 0].astype(float), values, "o", color=REAL, markersize=4)
    axes.set(xlabel="$x_0$", ylabel=f"$y_{{{output}}}$")


def draw_image(axes: Axes, parts: Sequence[Polytope], name: str = "image") -> None:
    """Add the union of polygons, which need not be convex, upon its convex hull.

    Arguments:
        parts: e.g. of `hullmark.theory.output_set`, with two outputs.
    """
    hull = Polytope.hull(np.concatenate([part.vertices for part in parts]))
    draw_body(axes, hull, HULL, label="its convex hull", zorder=1)
    _draw_union(axes, parts, name, 3)
    axes.set(aspect="equal")


def draw_projections(
    axes: Axes,
    bodies: Mapping[str, Polytope],
    real: Sequence[Polytope] = (),
    colors: Sequence[str] = PALETTE,
) -> None:
    """Add what several relaxations allow, one upon the other, and what the network really does.

    Arguments:
        bodies: polygons by the names of their relaxations, from the weakest on.
        real: the parts of the real set.
    """
    for index, (name, body) in enumerate(bodies.items()):
        color = colors[index % len(colors)]
        # Wide enough to be seen on both sides of what the network does.
        wide: dict[str, Any] = {"linewidth": 6.0} if body.dimension == 1 else {}
        draw_body(axes, body, color, label=name, zorder=1 + index, **wide)
    _draw_union(axes, real, "real", 20)


def _draw_union(axes: Axes, parts: Sequence[Polytope], name: str, zorder: int) -> None:
    """Polygons in one colour; flat ones thin, and only what is not part of another one."""
    most = max((part.dimension for part in parts), default=0)
    shown = [p for p in parts if p.dimension == most or not _within(p, parts)]
    for index, part in enumerate(sorted(shown, key=lambda part: -part.dimension)):
        label = None if index else name
        draw_body(axes, part, REAL, inside=INSIDE, label=label, zorder=zorder)


def _within(flat: Polytope, parts: Sequence[Polytope]) -> bool:
    larger = (part for part in parts if part.dimension > flat.dimension)
    return any(all(map(part.contains, flat.vertices)) for part in larger)


def legend_below(axes: Axes, columns: int = 3) -> None:
    """Add the legend under the axes, where it hides nothing."""
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.16),
        ncols=columns,
        frameon=False,
        borderaxespad=0,
        handlelength=1.3,
        columnspacing=1.2,
    )


def draw_leaves(
    axes: Axes,
    counts: Mapping[str, Sequence[tuple[int, int]]],
    colors: Sequence[str] = PALETTE[1:],
) -> None:
    """Add curves of counts over the dimension, with a logarithmic axis of base 2.

    Arguments:
        counts: pairs `(d, count)` by the name of the curve.
    """
    from matplotlib.ticker import MaxNLocator

    markers = "osD^vPX"
    for index, (name, points) in enumerate(counts.items()):
        axes.plot(
            *np.array(points).T,
            marker=markers[index % len(markers)],
            color=colors[index % len(colors)],
            linewidth=2.2,
            markersize=6,
            label=name,
        )
    axes.set_yscale("log", base=2)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set(xlabel="d", ylabel="pieces or leaves")
