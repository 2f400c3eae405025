"""What the benchmarks share: their clock and parts, and which images are examined once more."""

import argparse
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import kpoly as script
import runs
import table3


def line(image: int, status: str, cpu: float, limit: float, mined: float = -1.0) -> table3.Line:
    return table3.Line("mnist_6x100", image, status, -2.0, mined, 7, cpu, cpu, limit)


def wanted(out: Path, **options: object) -> argparse.Namespace:
    usual = {"networks": ["mnist_6x100"], "images": None, "part": "1/1", "limit": 300.0}
    return argparse.Namespace(out=out, **(usual | options))


LINES = [
    line(0, "open", 60.0, 60.0, -3.0),
    line(5, "open", 60.0, 60.0, -0.5),
    line(10, "mined", 20.0, 60.0, 0.5),
    line(15, "open", 60.0, 60.0, -1.0),
    line(0, "mined", 200.0, 300.0, 0.1),
    line(20, "open", 300.0, 300.0, -0.1),
    line(3, "open", 60.0, 60.0, -0.1),
]


def test_parts_share_everything_once() -> None:
    parts = [runs.part_of((1, 2, 3, 4, 5), f"{i}/2") for i in (1, 2)]
    assert parts == [(1, 3, 5), (2, 4)]


def test_a_clock_keeps_a_reserve_of_its_limit() -> None:
    assert not runs.Clock(1e3).over()
    assert runs.Clock(1e-9).over()
    assert runs.Clock(100.0).spent() >= 0.0


def test_open_images_are_tried_again_from_the_best_margin_on(tmp_path: Path) -> None:
    found = script.promising(LINES, wanted(tmp_path / "out.csv"))
    # Of 0 the last line is a proof, 10 is one, 20 has had the limit, and 3 is not asked for.
    assert [one.image for one in found] == [5, 15]
    parts = [script.promising(LINES, wanted(tmp_path / "out.csv", part=f"{i}/2")) for i in (1, 2)]
    assert [[one.image for one in part] for part in parts] == [[], [5, 15]]
    assert not script.promising(LINES, wanted(tmp_path / "out.csv", networks=["mnist_9x100"]))


def test_again_adds_lines_while_there_is_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Named:
        def __init__(self, root: Path, name: str) -> None:
            self.name = name

    class Slow(runs.Clock):
        @property
        def wall(self) -> float:
            return 100.0 * len(runs.Ledger(tmp_path / "out.csv", table3.Line).lines()) - 700.0

    def examine(network: Named, image: int, limit: float, plan: object) -> table3.Line:
        return line(image, "mined", 250.0, limit, 0.2)

    monkeypatch.setattr(script, "Robust", Named)
    monkeypatch.setattr(script, "Clock", Slow)
    monkeypatch.setattr(script, "examine", examine)
    ledger = runs.Ledger(tmp_path / "out.csv", table3.Line)
    for one in LINES:
        ledger.add(one)
    # The first begins after 0 seconds and may take 300; the second would begin after 100.
    script.run_again(wanted(tmp_path / "out.csv", again=399.0), tmp_path)
    assert [one.image for one in ledger.lines()[len(LINES) :]] == [5]
    script.run_again(wanted(tmp_path / "out.csv", again=400.0), tmp_path)
    assert [one.image for one in ledger.lines()[len(LINES) :]] == [5, 15]
    assert table3.last_lines(ledger.lines())[1] == line(5, "mined", 250.0, 300.0, 0.2)


def test_the_last_line_of_an_image_counts_with_its_own_limit() -> None:
    found = table3.by_network(LINES)["mnist_6x100"]
    assert {one.image: one.status for one in found}[0] == "mined"
    assert len(found) == 6
    assert table3.limits_of(found) == "60 (4), 300 (2)"
    assert table3.limits_of(found[1:2]) == "60"
    # Open with 60 s: not proved for a larger t either, and no more than 60 s.
    assert table3.within(found, 60.0) == (pytest.approx(100 / 6), pytest.approx(320 / 6))
    assert table3.within(found, 300.0) == (pytest.approx(200 / 6), pytest.approx(700 / 6))


def test_the_report_prints_the_limits_and_draws_the_curves(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table3.report(LINES, data)
    shown = capsys.readouterr().out
    assert "| mnist_6x100 | 6 | 60 (4), 300 (2) | 33.3 (116.7) |" in shown
    assert "t = 300" in shown and "t = 600" not in shown
    table3.plot(LINES, data, tmp_path / "img" / "table3.png")
    assert (tmp_path / "img" / "table3.png").stat().st_size > 10_000


def test_a_curve_rises_to_what_is_verified_and_ends_at_the_limit() -> None:
    seconds, share = table3.steps_of(table3.by_network(LINES)["mnist_6x100"])
    assert seconds == [20.0, 200.0, 300.0]
    assert share == pytest.approx([100 / 6, 200 / 6, 200 / 6])
