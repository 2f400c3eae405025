"""The counting of the benchmark of joint rows: shares, curves, parts, and its file."""

import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import kpoly as script
import root
import table3
import torch
import volumes
from runs import Ledger


def line(status: str, cpu: float = 1.0, image: int = 0, **margins: float) -> table3.Line:
    return table3.Line("mnist_6x100", image, status, cpu=cpu, limit=60.0, **margins)


PUBLISHED = {
    "deeppoly_verified": "160",
    "deeppoly_s": "0.3",
    "refinezono_verified": "312",
    "refinezono_s": "310",
    "kpoly_verified": "441",
    "kpoly_s": "307",
}


def test_a_row_counts_all_images_and_closes_what_an_attack_leaves() -> None:
    lines = [line(s) for s in ("wrong", "deeppoly", "alpha", "mined", "open", "open", "attacked")]
    row = table3.row("mnist_6x100", lines, PUBLISHED)
    # Of 7 images 3 are verified; of 5 survivors DeepPoly leaves 4, of which 2 are proved.
    assert row[1:4] == ["7", "60", "42.9 (1.0)"]
    assert row[4:10] == ["1", "1", "1", "1", "1", "50%"]
    assert row[10:] == ["16.0 (0.3)", "31.2 (310)", "44.1 (307)", "51.0 (159)"]


def test_a_shorter_limit_verifies_less_and_costs_less() -> None:
    lines = [line("deeppoly", 0.1), line("mined", 20.0), line("open", 60.0), line("wrong", 0.1)]
    assert table3.within(lines, 60.0) == (50.0, pytest.approx(80.2 / 4))
    assert table3.within(lines, 10.0) == (25.0, pytest.approx(20.2 / 4))


def test_lines_survive_their_file(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "out.csv", table3.Line)
    assert ledger.lines() == []
    first = line("mined", 3.25, 5, alpha=-1.5, mined=0.1)
    ledger.add(first)
    Ledger(tmp_path / "out.csv", table3.Line).add(line("wrong", image=10))
    found = ledger.lines()
    assert found[0] == first
    assert (found[1].image, found[1].status, found[1].verified) == (10, "wrong", False)
    assert math.isnan(found[1].alpha)


def test_images_are_chosen_by_range_or_by_number() -> None:
    assert script.chosen_images(None, "mnist_6x100") == tuple(range(0, 500, 5))
    assert script.chosen_images(None, "cifar10_convsmall_pgd") == tuple(range(100))
    assert script.chosen_images("2:9:3", "mnist_6x100") == (2, 5, 8)
    assert script.chosen_images("4,7", "mnist_6x100") == (4, 7)


def test_root_precision_sums_margins_and_forgives_no_proof() -> None:
    lines = [line("open", alpha=-4.0, mined=-1.0), line("mined", alpha=-1.0, mined=3.0)]
    assert root.share(lines) == pytest.approx(0.8)
    both = [line("attacked", image=3, alpha=-9.0), *lines, line("alpha", alpha=1.0)]
    assert root.open_images(both) == lines


def test_an_image_stops_where_it_is_settled(data: Path) -> None:
    network = script.Robust(data, "mnist_6x100")
    statuses = {image: script.examine(network, image, 5.0).status for image in (0, 65, 15)}
    assert statuses == {0: "deeppoly", 65: "wrong", 15: "attacked"}


def test_the_volume_is_that_of_the_box() -> None:
    # Outputs in [-1, 9] and [2, 3]: bounds of y from below, then of -y.
    margins = torch.tensor([-1.0, 2.0, -9.0, -3.0])
    assert volumes.log_volume(margins) == pytest.approx(1.0)
