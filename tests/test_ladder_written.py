"""What a ladder leaves behind: long fractions, several files, exit codes, and a search's time."""

import importlib
import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ladders import (
    UNIT,
    call,
    floats_of,
    maximum_files,
    random_layers,
    rung,
    saved,
)

import hullmark as hm
from hullmark.cli import run
from hullmark.ladder import Ladder
from hullmark.ladder.floats import Floats
from hullmark.ladder.rungs import LONGEST, Real, settled
from hullmark.ladder.table import number_text

LONG = Fraction(7**6000, 3**10000)
"""About 2 to the power of 994, with a numerator and a denominator of over 4700 digits."""

HUGE = Fraction(10**5000)
"""Beyond all floats."""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return maximum_files(tmp_path)


@pytest.mark.parametrize("value", [LONG, -LONG, 1 / LONG, 1 + 1 / LONG])
def test_fractions_too_long_to_write_are_rounded_outwards(value: Fraction) -> None:
    with pytest.raises(ValueError, match="digits"):
        str(value)
    assert Fraction(number_text(value, up=False)) <= value <= Fraction(number_text(value, up=True))
    ladder = Ladder("Y_0", True, (rung("p1", value - 1, value + 1),), (), 1.0)
    told = json.loads(json.dumps(ladder.record(), allow_nan=False))["rungs"][0]
    assert told["rounded"] is True
    assert Fraction(told["lower"]) <= value - 1 < value + 1 <= Fraction(told["upper"])
    assert told["gap"] == "2"


def test_a_record_holds_fractions_up_to_its_limit() -> None:
    fits, longer = Fraction(1, 10 ** (LONGEST - 3)), Fraction(1, 10 ** (LONGEST + 9))
    for value, rounded in ((fits, False), (longer, True)):
        told = rung("p1", value, value).record(two_sided=True)
        assert told["rounded"] is rounded
        assert (Fraction(told["lower"]) == value) is not rounded
        assert Fraction(told["lower"]) <= value <= Fraction(told["upper"])


def test_what_is_met_is_rounded_inwards() -> None:
    third = 1 / LONG + Fraction(1, 3)
    met = rung("real", third, third + 1, "real").record(two_sided=True)
    assert third <= Fraction(met["lower"]) and Fraction(met["upper"]) <= third + 1
    # The least margin met is rounded up at either end.
    met = rung("real", third, third, "real").record(two_sided=False)
    assert third <= Fraction(met["lower"]) and third <= Fraction(met["upper"])


def test_bounds_beyond_floats_are_told_and_drawn() -> None:
    pytest.importorskip("matplotlib")
    rungs = [rung("ibp", -HUGE, HUGE), rung("p1", Fraction(-1), Fraction(1)), rung("pr", -1.0, 2.0)]
    ladder = Ladder("Y_0", True, settled(rungs, Real(), True), (), 1.0)
    told = ladder.record()["rungs"][0]
    assert (told["lower"], told["upper"], told["gap"], told["rounded"]) == (None, None, None, True)
    assert "∞" in ladder.table()
    assert ladder.rungs[0].gap == 2 * HUGE
    assert len(ladder.plot().axes[0].containers) == 2


def test_a_network_of_long_fractions_keeps_all_rungs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sizes = ((30, 5), (30, 30), (1, 30))
    path = saved(tmp_path, [(rng.normal(size=size), rng.normal(size=size[0])) for size in sizes])
    ladder = hm.ladder(path, hm.Box([-1] * 5, [1] * 5), seconds=30, methods=("ibp", "triangle"))
    ibp, triangle = (rung for rung in ladder.rungs if rung.kind == "exact")
    with pytest.raises(ValueError, match="digits"):
        str(triangle.lower)
    told = json.loads(json.dumps(ladder.record(), allow_nan=False))["rungs"]
    assert [rung["rounded"] for rung in told[:2]] == [False, True]
    assert Fraction(told[0]["lower"]) == ibp.lower
    assert Fraction(told[1]["lower"]) < triangle.lower < triangle.upper < Fraction(told[1]["upper"])
    assert "triangle" in ladder.table()


def test_a_file_that_cannot_be_written_loses_no_other(
    files: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    pytest.importorskip("matplotlib")
    picture, record = tmp_path / "l.svg", tmp_path / "l.json"
    wanted = ("ladder", *files, "--methods", "ibp", "--json", record, "--plot", picture)

    def broken(ladder: Ladder) -> dict[str, Any]:
        raise ValueError("too long")

    with monkeypatch.context() as patch:
        patch.setattr(Ladder, "record", broken)
        assert call(*wanted) == 70
    captured = capsys.readouterr()
    assert "-3/4" in captured.out
    assert captured.err.count("\n") == 1 and "too long" in captured.err
    assert "<svg" in picture.read_text()

    def unwritable(ladder: Ladder, path: Path) -> None:
        raise hm.BadInput(f"{path}: cannot write a picture")

    picture_module = importlib.import_module("hullmark.ladder.picture")
    monkeypatch.setattr(picture_module, "save", unwritable)
    assert call(*wanted) == 64
    # The record is not replaced by one of the error.
    assert json.loads(record.read_text())["rungs"][0]["lower"] == "-3/4"
    assert "-3/4" in capsys.readouterr().out


def test_a_table_that_cannot_be_printed_is_an_error_and_the_files_stay(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    record = tmp_path / "l.json"
    command = [sys.executable, "-m", "hullmark", "ladder", *map(str, files), "--methods", "ibp"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*command, "--json", str(record), "--quiet"], stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 64
    assert done.stderr.decode() == (
        "hullmark: error: standard output cannot be written: No space left on device\n"
    )
    assert json.loads(record.read_text())["rungs"][0]["lower"] == "-3/4"


def test_no_rung_in_time_ends_with_21(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    record, picture = tmp_path / "l.json", tmp_path / "l.svg"
    wanted = ("ladder", *files, "--seconds", 1000, "--json", record, "--plot", picture)
    # Of so much time the process gets 12 seconds more until it is ended from outside.
    assert run([str(a) for a in wanted], time.perf_counter() - 1000) == 21
    assert capsys.readouterr().out.splitlines()[-1].startswith("timeout after ")
    told = json.loads(record.read_text())
    assert (told["ended"], told["rungs"]) == ("timeout", [])
    assert not picture.exists()
    assert call("ladder", *files, "--seconds", 20, "--methods", "ibp") == 0


# Searching.


class Slow:
    """In place of a search: each case needs so many seconds, and until then has a weak bound."""

    def __init__(self, floats: Floats, needs: list[float], truth: list[float]) -> None:
        self.asked: list[tuple[int, float]] = []
        self._floats, self._needs, self._truth = floats, needs, truth

    def minimise(self, q: int, box: Any, case: Any, row: Any, seconds: float) -> float:
        self.asked.append((q, seconds))
        time.sleep(min(seconds, self._needs[q]))
        if seconds <= self._needs[q]:
            return -100.0
        met: Any = vars(self._floats)["_met"]
        met[q] = min(met[q], self._truth[q])
        return self._truth[q]


@pytest.fixture
def searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[list[float], list[float], list[float]], tuple[Floats, Slow]]:
    """A search whose cases need some time, have some minima, and are known to some bounds."""

    def make(needs: list[float], truth: list[float], known: list[float]) -> tuple[Floats, Slow]:
        path = saved(tmp_path, random_layers(2, 3, len(needs) + 1, seed=3))
        floats = floats_of(path, hm.robust([0.5, 0.5], label=0, eps="0.25"), None)
        slow = Slow(floats, needs, truth)
        monkeypatch.setattr(floats, "_minimise", slow.minimise)
        monkeypatch.setattr(floats, "_known", np.array(known))
        return floats, slow

    return make


def test_time_that_easy_cases_leave_over_goes_to_the_worst(searched: Any) -> None:
    floats, slow = searched([0.6, 0.0, 0.0, 0.0], [-3.0, -2.0, -1.0, 0.0], [-9.0] * 4)
    found = floats.search(1.2)
    # An equal share of the time would have been 0.3 seconds.
    assert found.complete
    assert found.lower[0] == -3.0
    assert max(seconds for q, seconds in slow.asked if q == 0) > 0.6


def test_a_case_no_worse_than_a_value_met_takes_no_time(searched: Any) -> None:
    floats, slow = searched([0.0, 9.0, 9.0], [-3.0, 0.0, 0.0], [-9.0, -2.0, -2.5])
    found = floats.search(5.0)
    assert found.complete
    assert {q for q, _ in slow.asked} == {0}
    assert found.lower.tolist() == [-3.0, -2.0, -2.5]


def test_a_search_that_is_stopped_has_used_its_time_and_keeps_the_best_bounds(
    searched: Any,
) -> None:
    floats, slow = searched([9.0, 9.0, 0.0], [-3.0, -3.0, 0.0], [-5.0, -4.0, -6.0])
    begun = time.perf_counter()
    found = floats.search(0.8)
    assert 0.75 < time.perf_counter() - begun < 1.5
    assert not found.complete
    # What it met for itself, -100, is no better than what was known.
    assert found.lower.tolist() == [-5.0, -4.0, 0.0]
    assert {q for q, _ in slow.asked} == {0, 1, 2}


def test_a_search_of_the_demonstration_is_no_worse_than_any_method() -> None:
    demo = Path(__file__).resolve().parent.parent / "demo"
    (spec,) = (demo / "properties").glob("test01*")
    methods = ("alpha", "multivariate", "search")
    ladder = hm.ladder(demo / "digits_fc.onnx", spec, seconds=20, methods=methods)
    found = {rung.name: rung for rung in ladder.rungs}
    assert found["search"].lower >= max(found[name].lower for name in methods)
    assert found["search"].complete and found["search"].attained
    assert math.isclose(found["search"].lower, float(found["real"].lower), rel_tol=1e-5)


# The files of the guide.


def test_the_guide_makes_what_it_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    guide = Path(__file__).resolve().parent.parent / "docs/howto/ladder.md"
    blocks = re.findall(r"```(\w+)\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    told = 0
    for kind, text in blocks:
        if kind == "lisp":
            Path("max.vnnlib").write_text(text)
        elif kind == "console":
            first, *lines = text.splitlines()
            assert call(*first.removeprefix("$ hullmark ").split()) == 0
            shown = capsys.readouterr().out.splitlines()
            assert [_untimed(line) for line in shown] == [_untimed(line) for line in lines]
            told += 1
    assert told == 2
    assert Path("ladder.png").exists()
    assert hm.ladder("max.onnx", UNIT, seconds=20, methods=("ibp",)).rungs[0].gap == 2


def _untimed(line: str) -> str:
    """A line of a table with times, counts of rows and the width of rules left open."""
    timed = re.sub(r"\d+\.\d+( s\b)?", "T", " ".join(line.split()))
    return re.sub(r"─+", "─", re.sub(r"( \d+)? T\b", " T", timed))
