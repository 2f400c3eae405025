"""How a ladder is told: the second process, the table, the picture, the command and its end."""

import importlib
import json
import queue
import signal
import subprocess
import sys
import textwrap
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ladders import (
    MAXIMUM,
    UNIT,
    bounds_of,
    call,
    exactly,
    maximum_files,
    random_layers,
    rung,
    saved,
)

import hullmark as hm
from hullmark.errors import BadInput
from hullmark.ladder import Ladder, Rung, Skipped
from hullmark.ladder.exactly import Ask
from hullmark.ladder.rungs import Real, settled
from hullmark.ladder.table import number_text
from hullmark.ladder.worker import OutOfReach, Worker

HARD = random_layers(6, 12, 12, 1, seed=1)


def test_a_relaxation_that_takes_too_long_is_ended_and_the_next_one_answered(
    tmp_path: Path,
) -> None:
    parts, quantity = exactly(saved(tmp_path, HARD), hm.Box([-1] * 6, [1] * 6), None)
    easy = Ask("ibp", "ibp", "")
    with Worker(parts) as worker:
        before = worker.ask(easy, 30.0)
        begun = time.perf_counter()
        with pytest.raises(OutOfReach, match=r"not done within 0\.5 s"):
            worker.ask(Ask("p1", "p1", ""), 0.5)
        assert time.perf_counter() - begun < 2.0
        again = worker.ask(easy, 30.0)
        assert again.bounds == before.bounds
        assert again.ends(quantity) == bounds_of(parts, quantity, "ibp")["ibp"]


def test_what_the_theory_refuses_is_out_of_reach(tmp_path: Path) -> None:
    parts, _ = exactly(saved(tmp_path, MAXIMUM), UNIT, None)
    with Worker(parts) as worker, pytest.raises(OutOfReach, match="no relaxation 'p9'"):
        worker.ask(Ask("p9", "p9", ""), 30.0)


def test_a_second_process_that_dies_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parts, _ = exactly(saved(tmp_path, MAXIMUM), UNIT, None)
    worker = importlib.import_module("hullmark.ladder.worker")
    monkeypatch.setattr(worker, "_CODE", "import sys; sys.exit(1)")
    with Worker(parts) as broken, pytest.raises(OutOfReach, match="no second process"):
        broken.ask(Ask("ibp", "ibp", ""), 30.0)


def test_floats_stand_in_for_what_exact_numbers_cannot_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []
    real = Worker.ask

    def ask(self: Worker, ask: Ask, seconds: float) -> Any:
        asked.append(ask.name)
        if ask.name in ("triangle", "p1", "exact"):
            raise OutOfReach("not done within 1.0 s")
        return real(self, ask, seconds)

    monkeypatch.setattr(Worker, "ask", ask)
    ladder = hm.ladder(saved(tmp_path, MAXIMUM), UNIT, seconds=30)
    found = {rung.name: rung for rung in ladder.rungs}
    assert found["triangle"].kind == "sound float"
    assert "not done within 1.0 s" in found["triangle"].note
    assert found["triangle"].lower <= 0
    assert found["triangle"].upper >= 1.5
    assert "triangle was out of reach" in found["mk k=2"].note
    # What comes after a relaxation that took too long is not even tried.
    assert not {"mk k=1", "krelu k=2"} & set(asked)
    assert {skip.name for skip in ladder.skipped} == {"p1", "exact"}
    # In place of the enumeration there is a search, and the exact values at its inputs.
    assert found["search"].attained
    assert (found["real"].lower, found["real"].upper) == (0, 1)


THREE = Ladder(
    "Y_0",
    True,
    (
        rung("ibp", Fraction(-(10**9), 7), Fraction(10**9, 7)),
        rung("triangle", -0.5, 1.25, "sound float"),
        Rung("exact", "exact", Fraction(0), Fraction(1), 0, 0.5, True, "2 regions"),
    ),
    (Skipped("p1", "not done within 1.0 s"),),
    1.25,
)


def test_the_table_has_a_line_for_each_rung() -> None:
    lines = THREE.table().splitlines()
    assert lines[0] == "Y_0, 3 rungs in 1.2 s"
    told = {line.split()[0]: line.split() for line in lines[3:] if line}
    assert told["triangle"][1:4] == ["-0.5", "1.25", "1.75"]
    assert told["exact"][1:] == ["0", "1", "1", "0.50", "yes", "exact", "2", "regions"]
    assert lines[-1] == "left out: p1: not done within 1.0 s"
    assert max(map(len, THREE.table(60).splitlines())) <= 60


@pytest.mark.parametrize("value", [Fraction(10**9, 7), Fraction(-1, 3**20), 0.1, -2e-300])
def test_numbers_are_rounded_to_the_safe_side(value: Fraction | float) -> None:
    assert (
        Fraction(number_text(value, up=False))
        <= Fraction(value)
        <= Fraction(number_text(value, up=True))
    )
    assert number_text(Fraction(3, 2), up=True) == number_text(Fraction(3, 2), up=False) == "3/2"


def test_the_record_is_json(tmp_path: Path) -> None:
    told = json.loads(json.dumps(THREE.record(), allow_nan=False))
    assert told["rungs"][0]["lower"] == "-1000000000/7"
    assert told["rungs"][1]["upper"] == 1.25
    assert told["skipped"] == [{"name": "p1", "why": "not done within 1.0 s"}]
    unbounded = Ladder("Y_0", True, (rung("ibp", -np.inf, 1.0, "sound float"),), (), 0.0)
    assert unbounded.record()["rungs"][0]["lower"] is None


@pytest.mark.parametrize("two_sided", [True, False])
def test_the_picture_has_a_bar_for_each_rung(two_sided: bool, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from hullmark.ladder.picture import save

    met = rung("real", 0.25, 0.75 if two_sided else 0.25, "real")
    ladder = Ladder("Y_0", two_sided, (*THREE.rungs[:2], met), (), 1.0)
    axes = ladder.plot().axes[0]
    assert len(axes.containers) == 2
    # A bar far longer than the others is cut off at the edge of the picture.
    wide, narrow = (bars[0] for bars in axes.containers)
    assert wide.get_x() == axes.get_xlim()[0]
    assert narrow.get_x() == -0.5
    save(ladder, tmp_path / "ladder.png")
    assert (tmp_path / "ladder.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_needs_no_real_values() -> None:
    pytest.importorskip("matplotlib")
    rungs = settled([rung("ibp", -2.0, np.inf), rung("alpha", -1.0, np.inf)], Real(), False)
    axes = Ladder("worst margin", False, rungs, (), 1.0, "interrupted").plot().axes[0]
    assert [bars[0].get_width() for bars in axes.containers] == [1.0, 0.0]


def test_pictures_that_cannot_be_drawn_are_bad_input(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from hullmark.ladder.picture import check_drawable

    pytest.importorskip("matplotlib")
    with pytest.raises(BadInput, match="png"):
        check_drawable(tmp_path / "ladder.xyz")
    with pytest.raises(BadInput, match="nothing to draw"):
        Ladder("Y_0", True, (), (), 1.0).plot()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(BadInput, match=r"hullmark\[plot\]"):
        THREE.plot()


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return maximum_files(tmp_path)


def test_the_command_prints_writes_and_draws(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    record, picture = tmp_path / "l.json", tmp_path / "l.svg"
    assert call("ladder", *files, "--seconds", 30, "--json", record, "--plot", picture) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    told = {line.split()[0]: line.split() for line in captured.out.splitlines() if line}
    # The margin of `Y_0 >= 1.25` is 1.25 - Y_0.
    assert told["triangle"][1] == "-1/4"
    assert told["exact"][1] == "1/4"
    rungs = {rung["name"]: rung for rung in json.loads(record.read_text())["rungs"]}
    assert rungs["p1"]["lower"] == "1/4"
    assert rungs["ibp"]["attained"] is False
    assert "<svg" in picture.read_text()


def test_the_command_bounds_an_output_by_chosen_methods(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("ladder", *files, "--output", 0, "--methods", "triangle,exact") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[-2:]] == [
        ["triangle", "0", "3/2"],
        ["exact", "0", "1"],
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--output", "7"], "output 7"),
        (["--methods", "foo"], "unknown method 'foo'"),
        (["--seconds", "0"], "must be positive"),
        (["--json", "/nowhere/at/all.json"], "nowhere"),
        (["--plot", "/nowhere/at/all.png"], "nowhere"),
    ],
)
def test_the_command_tells_bad_input(
    files: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    assert call("ladder", *files, *arguments) == 64
    captured = capsys.readouterr()
    assert captured.err.startswith("hullmark: error: ")
    assert says in captured.err.replace("\\", "/")
    assert captured.out == ""


HANGING = """
import sys, time
from hullmark import cli, guard
from hullmark.ladder.worker import Worker
guard.CLEANUP_SECONDS = 0.3
real = Worker.ask
def ask(self, ask, seconds):
    if ask.name != "triangle":
        return real(self, ask, seconds)
    print("waiting", file=sys.stderr, flush=True)
    {body}
Worker.ask = ask
cli.main()
"""


def spawn(body: str, *arguments: object) -> subprocess.Popen[str]:
    script = HANGING.format(body=textwrap.indent(textwrap.dedent(body), "    ").strip())
    return subprocess.Popen(
        [sys.executable, "-c", script, "ladder", *map(str, arguments), "--quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


SLEEP = "time.sleep(60)"
STUBBORN = """
while True:
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        pass
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent differently there")
@pytest.mark.parametrize("body", [SLEEP, STUBBORN], ids=["willing", "stubborn"])
def test_an_interrupt_keeps_the_rungs_that_were_climbed(
    files: tuple[Path, Path], tmp_path: Path, body: str
) -> None:
    record = tmp_path / "l.json"
    process = spawn(body, *files, "--json", record)
    assert process.stderr is not None
    assert process.stderr.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 22, err
    lines = out.splitlines()
    assert [line.split()[0] for line in lines if " exact" in line] == [
        *("ibp", "deepz", "deeppoly0", "deeppoly1", "deeppoly")
    ]
    assert lines[-1].startswith("interrupted after ")
    assert json.loads(record.read_text())["ended"] == "interrupted"


def test_a_climb_that_ignores_its_deadline_is_ended_with_what_it_knows(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    begun = time.perf_counter()
    process = spawn(SLEEP, *files, "--seconds", "7")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert time.perf_counter() - begun < 7 + 2
    assert "deeppoly1" in out
    assert out.splitlines()[-1].startswith("timeout after ")


def test_nothing_is_left_running_after_an_interrupt(tmp_path: Path) -> None:
    parts, _ = exactly(saved(tmp_path, HARD), hm.Box([-1] * 6, [1] * 6), None)
    with Worker(parts) as worker:
        worker.ask(Ask("ibp", "ibp", ""), 30.0)
        process: Any = vars(worker)["_process"]
        told: Any = vars(worker)["_told"]

        def interrupted(timeout: float) -> None:
            raise KeyboardInterrupt

        told.get = interrupted
        with pytest.raises(KeyboardInterrupt):
            worker.ask(Ask("p1", "p1", ""), 30.0)
        assert process.poll() is not None


def test_a_second_process_ends_with_the_first(tmp_path: Path) -> None:
    parts, _ = exactly(saved(tmp_path, HARD), hm.Box([-1] * 6, [1] * 6), None)
    with Worker(parts) as worker:
        worker.ask(Ask("ibp", "ibp", ""), 30.0)
        process: Any = vars(worker)["_process"]
        with pytest.raises(queue.Empty):
            vars(worker)["_put"] = None
            Worker._put(worker, Ask("p1", "p1", ""))
            vars(worker)["_told"].get(timeout=0.2)
        # As when the first process ends without a word, while the second one is at work.
        process.stdin.close()
        assert process.wait(timeout=10) == 0
