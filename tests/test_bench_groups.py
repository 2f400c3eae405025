"""The benchmarks of groups: their variants, what their reports count, and tiny runs of each."""

import argparse
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import ablation
import asked
import fewer
import groupings
import regions
from runs import Ledger

from hullmark.joint.mine import Mining

PROPERTY = "prop_6_0.03"


def test_proved_regions_are_counted_of_the_images_that_all_variants_have(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = [regions.Region(0, v, "deeppoly") for v in regions.VARIANTS]
    lines += [regions.Region(1, v, "attacked") for v in regions.VARIANTS]
    margins = zip(regions.VARIANTS, (-1.0, 0.5, -0.5), strict=True)
    for variant, margin in margins:
        status = "proved" if margin > 0 else "open"
        lines.append(regions.Region(2, variant, status, margin, 9, 4.0, 60.0))
    lines.append(regions.Region(3, "1-ReLU", "proved", 1.0, 0, 1.0, 60.0))
    regions.report(lines)
    shown = capsys.readouterr().out
    assert "3 images: DeepPoly proves 1 of them" in shown and "refutes 1, 0 have" in shown
    assert "| 1-ReLU | 1 | 20 | -1.000 | 9 | 4.0 |" in shown
    assert "| 3-ReLU by area | 2 | 35 | 0.500 | 9 | 4.0 |" in shown


def test_a_region_that_deeppoly_proves_or_an_attack_refutes_is_settled(data: Path) -> None:
    network = regions.Robust(data, regions.NETWORK)
    assert [regions.settled(network, image) for image in (0, 8)] == ["deeppoly", "attacked"]


def test_regions_are_resumed(data: Path, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "out.csv", regions.Region)
    ledger.add(regions.Region(0, "1-ReLU", "deeppoly"))
    wanted = argparse.Namespace(images="0,8", part="1/2", limit=1.0)
    regions.measure(wanted, ledger)
    found = ledger.lines()
    assert [line.variant for line in found] == list(regions.VARIANTS)
    assert {(line.image, line.status) for line in found} == {(0, "deeppoly")}


def test_rules_close_shares_of_what_the_triangle_leaves() -> None:
    def result(rule: str, worst: float, lost: float) -> groupings.Result:
        return groupings.Result("256x2 p", rule, 3, worst, lost, 5, 2.4, 1, 1.0)

    known = {
        ("256x2 p", groupings.TRIANGLE): result(groupings.TRIANGLE, -3.0, 4.0),
        ("256x2 p", "gain"): result("gain", -0.5, 1.0),
    }
    row = groupings.row("gain", ["256x2 p"], known)
    assert row == ["gain", "-0.500", "75.0%", "5", "2", "1.0", "1 of 1"]


def test_groups_are_counted_and_never_worse_than_the_triangle(data: Path, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "out.csv", groupings.Result)
    rules = [groupings.TRIANGLE, "area", "gain"]
    wanted = argparse.Namespace(images=[], properties=[PROPERTY], rules=rules, k=2, limit=60.0)
    groupings.measure(wanted, ledger)
    groupings.measure(wanted, ledger)
    plain, area, gain = ledger.lines()
    assert [line.rule for line in (plain, area, gain)] == rules
    assert plain.groups == 0 < area.groups < gain.groups
    assert max(area.lost, gain.lost) < plain.lost and min(area.worst, gain.worst) > plain.worst


def test_adaptive_groups_choose_k_themselves() -> None:
    assert groupings.options_of("adaptive", 3).k is None
    assert groupings.options_of("overlap", 2).k == 2
    assert groupings.options_of(groupings.TRIANGLE, 3).k == 1


def test_rows_are_counted_to_a_share_of_what_all_facets_close() -> None:
    rounds = ((10, -1.0), (20, -0.4), (30, -0.1))
    found = fewer.Comparison("q", 5, 500, -2.0, 0.0, rounds, 3, True)
    assert [found.reached(share) for share in (0.5, 0.6, 0.95, 0.96)] == [10, 20, 30, None]


def test_mining_without_filling_starts_from_no_rows(data: Path) -> None:
    ((name, question),) = asked.properties(data, [PROPERTY]).items()
    found = fewer.compare(name, question, 1)
    assert found.without < found.mined[0][1] <= found.complete + 1e-6
    # One round in each of the two layers.
    assert 0 < found.used <= found.mined[0][0] <= 2 * Mining().rows < found.facets


def test_a_margin_that_is_only_known_to_be_positive_shows_no_number() -> None:
    assert [ablation.shown(v) for v in (1e-300, 0.25, 0.0, -1e-3)] == [
        "> 0",
        "0.250",
        "0.000",
        "-0.001",
    ]


def test_variants_say_what_they_leave_out(data: Path) -> None:
    ((name, question),) = asked.properties(data, [PROPERTY]).items()
    names = ["none (alpha)", "counterexamples, no rows", "filled only", "filled and mined, k = 3"]
    with ablation.faithful_arithmetic(), ablation.torch.no_grad():
        # Counterexamples are bounded for as long as there is time.
        limits = [30.0, 0.5, 30.0, 30.0]
        pairs = zip(names, limits, strict=True)
        found = [ablation.VARIANTS[v](asked.Asked.of(name, question, t)) for v, t in pairs]
    margins = [float(lower.min()) for lower, _ in found]
    rows = [count for _, count in found]
    assert rows[:2] == [0, 0] and min(rows[2:]) > 0
    assert margins[0] < min(margins[1:]) and margins[3] > 0
