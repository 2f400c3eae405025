"""Pictures of small hulls: the input set, the joint hull, and the triangle beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hullmark.errors import BadInput
from hullmark.relax.pieces import Pieces, lifted_vertices
from hullmark.relax.polytope import facets_of, homogenised, vertices_of
from hullmark.relax.triangle import triangle_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[Any]

_INPUT, _HULL, _TRIANGLE = "#4c72b0", "#c44e52", "#8c8c8c"


def draw(A: Array, b: Array, pieces: Pieces) -> Figure:
    """The picture of the hull over `{x : A x <= b}`, fractions, `k` = 1 or 2.

    Raises:
        BadInput: for other `k`, or if matplotlib is not installed.
    """
    width = A.shape[1]
    if width > 2:
        raise BadInput(f"only hulls of 1 and 2 neurons can be drawn, this one has {width}")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise BadInput('plot() needs matplotlib: pip install "hullmark[plot]"') from None
    figure = Figure(figsize=(5, 4) if width == 1 else (14, 3.6), layout="constrained")
    hull = lifted_vertices(homogenised(A, b), pieces)
    if width == 1:
        _draw_one(figure, hull, pieces)
    else:
        _draw_two(figure, hull, vertices_of(*triangle_rows(A, b, pieces)))
    return figure


def _draw_one(figure: Figure, hull: Array, pieces: Pieces) -> None:
    """The interval, the function over it, and the hull, which is the triangle."""
    axes = figure.add_subplot()
    _outline(axes, hull, _HULL, "hull = triangle")
    axes.plot(*_floats(hull).T, color="black", linewidth=2, label="y = f(x)")
    ends = _floats(hull)[[0, -1], 0]
    axes.plot(
        ends, [0, 0], color=_INPUT, linewidth=7, label="input set", solid_capstyle="butt", zorder=1
    )
    axes.set(xlabel="x", ylabel="y", title="One neuron")
    axes.legend()


def _draw_two(figure: Figure, hull: Array, triangle: Array) -> None:
    """The input set; both relaxations over it, seen as (x1, x2, y1 + y2); both as (y1, y2)."""
    first = figure.add_subplot(1, 4, 1)
    _outline(first, hull[:, :2], _INPUT, None)
    first.axhline(0, color="black", linewidth=0.6)
    first.axvline(0, color="black", linewidth=0.6)
    first.set(xlabel="x1", ylabel="x2", title="Input set")
    bodies = ((2, hull, _HULL, "Joint hull"), (3, triangle, _TRIANGLE, "Triangle"))
    top = max(row[2] + row[3] for row in triangle)
    bottom = min(row[2] + row[3] for row in triangle)
    for place, points, color, title in bodies:
        axes = figure.add_subplot(1, 4, place, projection="3d")
        seen = np.column_stack([points[:, :2], points[:, 2] + points[:, 3]])
        _solid(axes, seen, color)
        axes.set(xlabel="x1", ylabel="x2", title=f"{title}: y1 + y2 over x1, x2")
        if top > bottom:
            axes.set_zlim(float(bottom), float(top))
    last = figure.add_subplot(1, 4, 4)
    _outline(last, triangle[:, 2:], _TRIANGLE, "triangle")
    _outline(last, hull[:, 2:], _HULL, "joint hull")
    last.set(xlabel="y1", ylabel="y2", title="Outputs")
    last.legend()


def _outline(axes: Any, points: Array, color: str, label: str | None) -> None:
    """The convex hull of points in the plane, filled."""
    ring = _ring(_floats(points))
    axes.fill(*ring.T, facecolor=color, edgecolor=color, alpha=0.4, linewidth=1.5, label=label)


def _solid(axes: Any, points: Array, color: str) -> None:
    """The convex hull of points in space, face by face; exact incidences make whole faces."""
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    facets = facets_of(points)
    on = [points @ row == height for row, height in zip(facets.rows, facets.rhs, strict=True)]
    groups = on if len(facets.equations) == 0 else [np.ones(len(points), dtype=np.bool_)]
    faces = [_ring(_floats(points[group])) for group in groups]
    axes.add_collection3d(
        Poly3DCollection(faces, facecolor=color, edgecolor="black", linewidth=0.5, alpha=0.45)
    )
    floats = _floats(points)
    axes.auto_scale_xyz(*floats.T)


def _ring(points: Array) -> Array:
    """Points of one plane in the order around their convex hull, interior points dropped."""
    points = np.unique(points, axis=0)
    centred = points - points.mean(axis=0)
    plane = np.linalg.svd(centred, full_matrices=False)[2][:2]
    if len(points) < 3 or len(plane) < 2:
        return points
    flat = centred @ plane.T
    order = list(np.lexsort((flat[:, 1], flat[:, 0])))
    return points[_chain(flat, order) + _chain(flat, order[::-1])]


def _chain(flat: Array, order: list[Any]) -> list[Any]:
    """Half of the convex hull in the plane [Andrew's monotone chain], without its last point."""
    kept: list[Any] = []
    for index in order:
        while len(kept) >= 2:
            (ux, uy), (vx, vy) = flat[kept[-1]] - flat[kept[-2]], flat[index] - flat[kept[-2]]
            if ux * vy - uy * vx > 1e-12:
                break
            kept.pop()
        kept.append(index)
    return kept[:-1]


def _floats(points: Array) -> Array:
    return points.astype(np.float64)
