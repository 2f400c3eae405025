"""The picture of a ladder: a bar for each rung, over what is real."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hullmark.errors import BadInput
from hullmark.exact import nearest
from hullmark.ladder.rungs import Ladder, Number, Rung, is_finite
from hullmark.ladder.table import number_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXACT, FLOAT, ATTAINED = "#24527a", "#8fb3d1", "#2f855a"
INK, PALE, ALARM = "#222222", "#777777", "#b03a2e"

ZERO_LINE: dict[str, Any] = {"color": ALARM, "linewidth": 1.2, "linestyle": (0, (4, 3))}

STOPPED = "///"

THICK = 0.58
"""The height of a bar, where rungs are 1 apart."""

DOTS = 200
"""Pixels per inch of a picture of pixels."""

OUTLIER = 4.0
"""A bar that reaches so many times further than the next one is cut off at the edge."""

SHOWN = 4
"""Digits of a number in the picture."""


@dataclass(frozen=True)
class _Scale:
    """What the axis shows, `left` to `right`, and what is real, `least` to `greatest`."""

    left: float
    right: float
    least: float
    greatest: float

    @property
    def width(self) -> float:
        return self.right - self.left


def draw(ladder: Ladder) -> Figure:
    """The rungs as horizontal bars, the weakest on top.

    Raises:
        BadInput: if matplotlib is not installed, or no rung has finite bounds.
    """
    Figure = _figure()
    bars = [
        rung for rung in ladder.rungs if rung.kind != "real" and math.isfinite(nearest(rung.lower))
    ]
    if not bars:
        raise BadInput("no rung of the ladder has finite bounds, so that there is nothing to draw")
    scale = _scale(ladder, bars)
    figure = Figure(figsize=(9, 1.6 + 0.37 * len(bars)), layout="constrained")
    axes = figure.add_subplot()
    _draw_truth(axes, ladder, scale)
    for height, rung in enumerate(bars):
        _draw_bar(axes, height, rung, scale)
    _draw_frame(axes, ladder, bars, scale)
    return figure


def check_drawable(path: Path) -> None:
    """Make sure, before anything long starts, that a picture can be saved as what `path` names.

    Raises:
        BadInput: if matplotlib is not installed, or cannot write files of this kind.
    """
    kinds = _figure()().canvas.get_supported_filetypes()
    kind = path.suffix.lower().removeprefix(".")
    if kind not in kinds:
        raise BadInput(f"{path}: a picture is one of {', '.join(sorted(kinds))}, not {kind!r}")


def save(ladder: Ladder, path: Path) -> None:
    """Draw a ladder into a file, whose ending says what kind it is.

    Raises:
        BadInput: as `draw` and `check_drawable`, or if the file cannot be written.
    """
    check_drawable(path)
    try:
        draw(ladder).savefig(path, dpi=DOTS)
    except OSError as error:
        raise BadInput(f"{path}: cannot write a picture: {error.strerror}") from None


def _figure() -> Any:
    """The class of figures, of matplotlib if it is there."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise BadInput('plot() needs matplotlib: pip install "hullmark[plot]"') from None
    return Figure


def _scale(ladder: Ladder, bars: Sequence[Rung]) -> _Scale:
    """The stretch of the axis that shows all bars but those that would dwarf the others."""
    truth = ladder.truth
    least = max(nearest(rung.lower) for rung in bars)
    greatest = min(nearest(rung.upper) for rung in bars)
    if truth is not None:
        least, greatest = nearest(truth.lower), nearest(truth.upper)
    if not math.isfinite(greatest):
        greatest = least
    below = _reach([least - nearest(rung.lower) for rung in bars])
    above = _reach(
        [nearest(rung.upper) - greatest for rung in bars if math.isfinite(nearest(rung.upper))]
    )
    unit = (below + above + abs(greatest - least)) or max(abs(least), 1.0)
    left, right = least - below - 0.04 * unit, greatest + above + 0.04 * unit
    if not ladder.two_sided:
        # The sign of a margin is what matters, so that 0 is shown where it is not too far away.
        left = min(left, -0.04 * unit) if 0 < left < 0.5 * unit else left
        right = max(right, 0.04 * unit) if -0.5 * unit < right < 0.04 * unit else right
    return _Scale(left, right, least, greatest)


def _reach(distances: list[float]) -> float:
    """The largest distance, outliers left aside; 0 if there is none."""
    ordered = sorted((d for d in distances if d > 0 and math.isfinite(d)), reverse=True)
    while len(ordered) > 1 and ordered[0] > OUTLIER * ordered[1]:
        ordered.pop(0)
    return ordered[0] if ordered else 0.0


def _shows_zero(ladder: Ladder, scale: _Scale) -> bool:
    """Whether the sign of a margin can be seen."""
    return not ladder.two_sided and scale.left < 0 < scale.right


def _draw_truth(axes: Any, ladder: Ladder, scale: _Scale) -> None:
    """The real values, over the whole height."""
    truth = ladder.truth
    if _shows_zero(ladder, scale):
        axes.axvline(0, **ZERO_LINE, zorder=5)
    if truth is None:
        return
    for end in {scale.least, scale.greatest}:
        axes.axvline(end, color=ATTAINED, linewidth=1.2, zorder=5)
    axes.axvspan(scale.least, scale.greatest, color=ATTAINED, alpha=0.13, linewidth=0, zorder=0)
    low, high = _text(truth.lower, up=False), _text(truth.upper, up=True)
    if ladder.two_sided:
        label = f"exact [{low}, {high}]" if truth.kind == "exact" else f"met [{low}, {high}]"
    else:
        label = f"exact {high}" if truth.kind == "exact" else f"met {high}"
    centre = (scale.least + scale.greatest) / 2
    share = (centre - scale.left) / scale.width
    side = "left" if share < 0.2 else "right" if share > 0.8 else "center"
    axes.annotate(
        label,
        (centre, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 5),
        textcoords="offset points",
        ha=side,
        color=ATTAINED,
        fontsize=10,
        fontweight="bold",
    )


def _draw_bar(axes: Any, height: int, rung: Rung, scale: _Scale) -> None:
    """The bar of one rung, with its gap and its time at the right."""
    left = max(nearest(rung.lower), scale.left)
    top = nearest(rung.upper) if math.isfinite(nearest(rung.upper)) else scale.greatest
    right = min(top, scale.right)
    color = ATTAINED if rung.attained else EXACT if rung.kind == "exact" else FLOAT
    (bar,) = axes.barh(height, right - left, left=left, height=THICK, color=color, zorder=3)
    if not rung.complete:
        bar.set(hatch=STOPPED, edgecolor="white", linewidth=0)
    if right - left < 0.005 * scale.width:
        axes.plot([(left + right) / 2], [height], "o", color=color, markersize=8, zorder=6)
    for value, edge, name in ((rung.lower, scale.left, "◂"), (rung.upper, scale.right, "▸")):
        beyond = nearest(value) < edge if name == "◂" else scale.right < nearest(value) < math.inf
        if beyond:
            number = _text(value, up=name == "▸")
            axes.annotate(
                f"{name} {number}" if name == "◂" else f"{number} {name}",
                (edge, height),
                xytext=(5 if name == "◂" else -5, 0),
                textcoords="offset points",
                ha="left" if name == "◂" else "right",
                va="center",
                color="white" if color != FLOAT else INK,
                fontsize=8.5,
                zorder=4,
            )
    gap = number_text(rung.gap, up=True, digits=3) if is_finite(rung.gap) else ""
    for text, offset, shade in ((gap, 62, INK), (_seconds(rung), 104, PALE)):
        _beside(axes, text, height, offset, shade)


def _draw_frame(axes: Any, ladder: Ladder, bars: Sequence[Rung], scale: _Scale) -> None:
    """Names, headings, the legend, and nothing that is not needed."""
    axes.set_yticks(range(len(bars)), [rung.name for rung in bars], fontsize=10)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_xlim(scale.left, scale.right)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=9, colors=PALE)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(PALE)
    axes.set_xlabel(ladder.quantity, fontsize=10, color=INK)
    for text, offset, shade in (("gap", 62, INK), ("s", 104, PALE)):
        axes.annotate(
            text,
            (1, 1),
            xycoords="axes fraction",
            xytext=(offset, 5),
            textcoords="offset points",
            ha="right",
            color=shade,
            fontsize=9,
            fontweight="bold",
        )
    _draw_legend(axes, bars, _shows_zero(ladder, scale))


def _draw_legend(axes: Any, bars: Sequence[Rung], zero: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    kinds = {
        "attained": (ATTAINED, any(r.attained for r in bars)),
        "exact rationals": (EXACT, any(r.kind == "exact" and not r.attained for r in bars)),
        "sound floats": (FLOAT, any(r.kind != "exact" and not r.attained for r in bars)),
    }
    signs: list[Any] = [Patch(color=c, label=name) for name, (c, used) in kinds.items() if used]
    if not all(rung.complete for rung in bars):
        stopped = Patch(facecolor=FLOAT, edgecolor="white", hatch=STOPPED, linewidth=0)
        stopped.set_label("stopped by time")
        signs.append(stopped)
    if zero:
        signs.append(Line2D([], [], **ZERO_LINE, label="0: the property holds beyond"))
    axes.figure.legend(
        handles=signs,
        loc="outside lower center",
        ncols=len(signs),
        frameon=False,
        fontsize=9,
        handlelength=1.2,
    )


def _beside(axes: Any, text: str, height: int, offset: int, color: str) -> None:
    """Text at the right of a bar, so many points beyond the axis, right-aligned."""
    axes.annotate(
        text,
        (1, height),
        xycoords=("axes fraction", "data"),
        xytext=(offset, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        color=color,
        fontsize=9.5,
        annotation_clip=False,
    )


def _seconds(rung: Rung) -> str:
    return "<0.01" if rung.seconds < 0.01 else f"{rung.seconds:.{2 if rung.seconds < 1 else 1}f}"


def _text(value: Number, up: bool) -> str:
    return number_text(value, up, SHOWN).replace("-", "−")
