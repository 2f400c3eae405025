"""The pictures are drawn, and refused with a clear message where they cannot be."""

import sys
from pathlib import Path

import pytest

from hullmark.errors import BadInput
from hullmark.relax import relu_hull

DIAMOND = [[1, 1], [1, -1], [-1, 1], [-1, -1]]


@pytest.mark.parametrize(
    ("A", "b", "panels"),
    [
        ([[1], [-1]], [2, 1], 1),
        (DIAMOND, [2] * 4, 4),
        (DIAMOND, [2, 2, -2, 2], 4),
        ([[1, 0], [-1, 0], [0, 1], [0, -1]], [2, -1, 2, -1], 4),
    ],
)
def test_plot_writes_an_image(A, b, panels: int, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figure = relu_hull(A, b).plot()
    assert len(figure.axes) == panels
    figure.savefig(tmp_path / "hull.png")
    assert (tmp_path / "hull.png").stat().st_size > 5000


def test_plot_refuses_three_neurons() -> None:
    A = [[s * (i == j) for j in range(3)] for i in range(3) for s in (1, -1)]
    with pytest.raises(BadInput, match="this one has 3"):
        relu_hull(A, [1] * 6).plot()


def test_plot_without_matplotlib_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(BadInput, match=r"hullmark\[plot\]"):
        relu_hull(DIAMOND, [2] * 4).plot()
