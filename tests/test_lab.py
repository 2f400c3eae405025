"""`hullmark lab`: what it tells of small networks, what it makes, and how it refuses."""

import json
import re
import signal
import subprocess
import sys
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from hullmark.cli import run
from hullmark.errors import BadInput
from hullmark.network.onnx.write import write_onnx
from hullmark.theory import bounds, exact_range, mlp, network, regions
from hullmark.theory.picture import canvas, draw_regions, save

ROOT = Path(__file__).resolve().parent.parent

MAX = [([[1, -1], [0, 1]], [0, 0]), ([[1, 1]], [0])]
NESTED = [([[1, -1, 0], [0, 1, 0], [0, 0, 1]], [0] * 3), ([[1, 1, -1], [0, 0, 1]], [0, 0])]
NESTED += [([[1, 1]], [0])]
ZERO = [([[1], [-1]], [0, 0]), ([[1, 0], [1, -1]], [0, 0]), ([[-2, 2]], [0])]
TWO = [([[1, 0], [0, 1], [-1, -1]], [0, 0, 0]), ([[1, 0, 1], [0, 1, 1]], [0, 0])]


def call(*arguments: object) -> int:
    return run(["lab", *map(str, arguments)], time.perf_counter())


def written(folder: Path, layers: list[Any], activation: str = "Relu") -> Path:
    path = folder / "net.onnx"
    write_onnx(path, layers, activation)
    return path


def told(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """The words of every line on stdout."""
    captured = capsys.readouterr()
    assert captured.err == ""
    return [line.split() for line in captured.out.splitlines()]


def wide(seed: int, *sizes: int) -> list[Any]:
    pick = Random(seed)
    return [
        (
            [[pick.randint(-8, 8) / 4 for _ in range(n)] for _ in range(m)],
            [pick.randint(-8, 8) / 4 for _ in range(m)],
        )
        for n, m in pairwise(sizes)
    ]


def test_range_tells_the_ends_and_inputs_that_take_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = written(tmp_path, MAX)
    assert call("range", net, "--box", "1/3:1,0:0.5") == 0
    lines = told(capsys)
    assert lines[1][:5] == ["exact", "Y_0", "lower", "1/3", "0.3333333333"]
    assert lines[2][:5] == ["exact", "Y_0", "upper", "1", "1"]
    assert lines[3] == ["2", "regions,", "A(f,", "X)"]
    inputs = [[Fraction(v.strip("(),")) for v in line[6:]] for line in lines[1:3]]
    assert [max(x) for x in inputs] == [Fraction(1, 3), 1]


def test_fact_1_the_triangle_is_not_attained_and_m_1_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = written(tmp_path, MAX)
    options = ["--relaxation", "triangle", "--relaxation", "mk", "--k", 1]
    assert call("bounds", net, "--box", "0:1", *options) == 0
    lines = told(capsys)
    assert lines[2] == ["triangle", "Y_0", "upper", "3/2", "1.5", "by", "no", "input"]
    assert lines[4][:6] == ["mk", "Y_0", "upper", "1", "1", "at"]


@pytest.mark.parametrize("index", [0, 7, 19, 34])
def test_bounds_and_range_equal_the_goldens(index: int, data: Path, tmp_path: Path) -> None:
    golden = json.loads((data / "goldens/networks.json").read_text("utf-8"))[index]
    layers = [
        ([list(map(Fraction, row)) for row in layer["weight"]], list(map(Fraction, layer["bias"])))
        for layer in golden["layers"]
    ]
    net, record = written(tmp_path, layers), tmp_path / "r.json"
    box = ",".join(":".join(map(str, ends)) for ends in golden["box"])
    names = ("ibp", "triangle", "p1", "exact")
    options = [word for name in names for word in ("--relaxation", name)]
    assert call("bounds", net, f"--box={box}", *options, "--json", record) == 0
    found = json.loads(record.read_text("utf-8"))["relaxations"]
    assert [each["relaxation"] for each in found] == list(names)
    assert {each["relaxation"]: each["bounds"] for each in found} == {
        name: golden[name] for name in names
    }
    assert found[-1]["rows"] == golden["patterns"]


def test_the_box_of_a_property_is_taken_as_its_decimals_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "s.vnnlib"
    lines = ["(declare-const X_0 Real)", "(declare-const X_1 Real)", "(declare-const Y_0 Real)"]
    for j in range(2):
        lines += [f"(assert (>= X_{j} 0.1))", f"(assert (<= X_{j} 0.7))"]
    spec.write_text("\n".join([*lines, "(assert (<= Y_0 0.0))"]), "utf-8")
    assert call("bounds", written(tmp_path, MAX), spec, "--relaxation", "p1") == 0
    rows = told(capsys)
    assert [row[3] for row in rows[1:3]] == ["1/10", "7/10"]


def test_groups_windows_and_objectives_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = written(tmp_path, ZERO)
    assert call("bounds", net, "--box=-1:1", "--relaxation", "pr", "--window", 1) == 0
    assert told(capsys)[1][3] == "-1"
    options = ["--relaxation", "mk", "--groups", "0,1/0,1"]
    assert call("bounds", net, "--box=-1:1", *options, "--objective=-3") == 0
    assert [line[3] for line in told(capsys)[1:]] == ["0", "3"]
    equal = written(tmp_path, [([[1], [1]], [0, 0]), ([[1, 0], [0, 1]], [0, 0])])
    assert call("range", equal, "--box=-1:1", "--objective", "1,-1") == 0
    assert [line[3] for line in told(capsys)[1:3]] == ["0", "0"]


def test_long_fractions_are_told_by_decimals_rounded_outwards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    thin = Fraction(1, 3**60)
    net = written(tmp_path, [([[1]], [0])])
    assert call("range", net, f"--box={-thin}:{thin}") == 0
    lines = told(capsys)
    assert lines[1][3].startswith("~-2.35")
    assert Fraction(lines[1][4]) < -thin
    assert Fraction(lines[2][4]) > thin


@pytest.mark.parametrize("options", [["p1"], ["mk", "--k", 2]])
def test_mined_bounds_enclose_those_of_the_relaxation(
    options: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = written(tmp_path, wide(7, 3, 5, 4, 1))
    assert call("mine", net, "--box=-1:1", "--relaxation", *options) == 0
    lines = told(capsys)[1:]
    given = {"k": options[2]} if len(options) > 1 else {}
    ends = bounds(network(net), [-1] * 3, [1] * 3, str(options[0]), **given)[0]
    for line, end, side in zip(lines, ends, ("lower", "upper"), strict=True):
        assert line[:2] == ["Y_0", side]
        proved = Fraction(line[2])
        assert proved <= end if side == "lower" else proved >= end
        assert abs(proved - end) <= Fraction(1, 10**5)


def test_fact_5_mining_meets_the_barrier(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("mine", written(tmp_path, ZERO), "--box=-1:1") == 0
    lower, upper = told(capsys)[1:]
    assert lower[2:6] == ["-1", "the", "same", "closed"]
    assert upper[2:6] == ["0", "the", "same", "attained"]


def test_regions_are_listed_with_signs_and_functions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = written(tmp_path, [([[1, -2], [0, 1]], [0, 0]), ([[1, 1.5]], [0.5])])
    assert call("regions", net, "--box", "0:1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split(maxsplit=1)[1] for line in lines[1:3]} == {
        "X_0 - 1/2 X_1 + 1/2",
        "3/2 X_1 + 1/2",
    }
    many = written(tmp_path, wide(1, 2, 12, 6, 1))
    assert call("regions", many, "--box=-1:1") == 0
    lines = capsys.readouterr().out.splitlines()
    count = len(regions(network(many), [-1, -1], [1, 1]))
    assert lines[-2:] == [f"... and {count - 40} more", f"{count} regions, A(f, X)"]


@pytest.mark.parametrize(("order", "leaves"), [("first", "4"), ("last", "3"), ("1.0,0.0", "3")])
def test_fact_8_leaves_of_the_triangle_depend_on_the_order(
    order: str, leaves: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("partition", written(tmp_path, NESTED), "--box", "0:1", "--order", order) == 0
    lines = told(capsys)
    assert lines[0][3:] == ["single", "neurons", "4", "P_1", "1"]
    assert lines[3] == ["Y_0", "upper", "1", leaves, "closed"]


def test_fact_8_boxes_never_close_the_maximum_under_ibp(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = written(tmp_path, MAX)
    options = ["--relaxation", "ibp", "--split", "inputs", "--limit", 20]
    assert call("partition", net, "--box", "0:1", *options) == 0
    assert told(capsys)[3][3:6] == ["20", "open,", "gap"]


def test_fact_5_a_barrier_is_told_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("barrier", "--T", "100", "--out", tmp_path / "b") == 0
    lines = told(capsys)
    assert ["p1", "-100", "0"] in lines
    assert ["p2", "0", "0"] in lines
    net, spec = (tmp_path / "b" / f"barrier.{end}" for end in ("onnx", "vnnlib"))
    assert lines[-2:] == [["wrote", str(net)], ["wrote", str(spec)]]
    assert call("bounds", net, spec) == 0
    assert [line[3] for line in told(capsys)[1:]] == ["-100", "0"]


def test_fact_6_a_barrier_for_several_layers(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("barrier", "--T", "1/3", "--window", 2, "--layers", 5) == 0
    found = {name: (low, high) for name, low, high in told(capsys)[1:]}
    assert found["p2"] == found["p3"] == ("-1/3", "0")
    assert found["p4"] == found["exact"] == ("0", "0")


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_a_smooth_barrier_is_told_with_its_phantom_point(
    activation: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--activation", activation, "--epsilon", "1/100"]
    assert call("barrier", "--T", 2, *options) == 0
    first, second = capsys.readouterr().out.splitlines()
    low, high = (Fraction(v.strip("[,]")) for v in first.split()[-2:])
    assert -Fraction(1, 100) <= low <= 0 <= high <= Fraction(1, 100)
    assert Fraction(second.split()[6].strip(",")) <= -2


@pytest.mark.parametrize("kind", ["max", "min"])
def test_encode_writes_a_maximum(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.onnx"
    assert call("encode", kind, "--dimension", 3, "--box=-1:2", "--out", out) == 0
    lines = told(capsys)
    assert lines[0][-1] == "3-3-2-1"
    assert ["p1", "-1", "2"] in lines
    x = np.array([[0, 1, 2], [1, -1, 0], [2, 2, -1]], dtype=object)
    chosen = x.max(axis=1) if kind == "max" else x.min(axis=1)
    assert (network(out).evaluate(x)[:, 0] == chosen).all()


@pytest.mark.parametrize("relaxation", ["deeppoly0", "deeppoly1", "triangle", "p1"])
def test_fact_10_encode_makes_a_convex_function_exact(
    relaxation: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "f.onnx"
    options = ["--points=-1:1,0:0,1:2", "--relaxation", relaxation, "--out", out]
    assert call("encode", "function", *options) == 0
    assert [relaxation, "0", "2"] in told(capsys)
    assert bounds(network(out), [-0.5], [0.25], relaxation) == [(0, Fraction(1, 2))]


@pytest.mark.parametrize(("form", "side"), [("lower", 0), ("upper", 1)])
def test_section_4_rewrite_makes_a_bound_exact(
    form: str, side: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net, out = written(tmp_path, wide(3, 2, 3, 2, 1)), tmp_path / "r.onnx"
    assert call("rewrite", net, "--box=-1:1", "--form", form, "--out", out) == 0
    lines = told(capsys)
    assert lines[-2][1 + side] == lines[-3][1 + side]
    before, after = network(net), network(out)
    for box in (([-1, -1], [1, 1]), ([0, -0.5], [1, 0.25])):
        assert exact_range(after, *box) == exact_range(before, *box)
        assert bounds(after, *box, "p1")[0][side] == exact_range(before, *box)[0][side]


def test_pictures_are_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    two, one = written(tmp_path, TWO), tmp_path / "one.onnx"
    write_onnx(one, ZERO)
    shown = tmp_path / "p.png"
    for arguments in (
        ["regions", two, "--box=-1:1", "--plot", shown],
        ["regions", one, "--box=-1:1", "--plot", shown],
        ["bounds", two, "--box=-1:1", "--relaxation", "ibp", "--project", shown],
        ["bounds", one, "--box=-1:1", "--project", shown],
    ):
        shown.unlink(missing_ok=True)
        assert call(*arguments) == 0
        assert shown.stat().st_size > 5000


REFUSED = [
    ("range {net}", 64, "--box"),
    ("range {net} {net} --box 0:1", 64, "--box"),
    ("range nope.onnx --box 0:1", 64, "nope.onnx"),
    ("range {net} nope.vnnlib", 64, "nope.vnnlib"),
    ("range {net} {open}", 64, "X_1"),
    ("range {net} --box 0:1,0:1,0:1", 64, "3 intervals"),
    ("range {net} --box 0", 64, "interval 0"),
    ("range {net} --box 0:inf", 64, "'inf'"),
    ("range {net} --box 0:1/0", 64, "'1/0'"),
    ("range {net} --box 0:1e99999999", 64, "interval 0"),
    ("range {net} --box 0:1,1:0", 66, "coordinate 1"),
    ("range {net} --box 0:1 --objective 1,1", 64, "2 coefficients"),
    ("range {net} --box 0:1 --json no/r.json", 64, "no/r.json"),
    ("range {net} --box 0:1 --seconds 0", 64, "positive"),
    ("range {tanh} --box 0:1", 65, "not piecewise linear"),
    ("range {large} --box 0:1", 65, "2^40 vertices"),
    ("bounds {net} --box 0:1 --relaxation nope", 64, "'nope'"),
    ("bounds {net} --box 0:1 --relaxation triangle --k 2", 64, "takes no k"),
    ("bounds {net} --box 0:1 --relaxation mk", 64, "k or groups"),
    ("bounds {net} --box 0:1 --relaxation pr", 64, "window"),
    ("bounds {net} --box 0:1 --relaxation mk --groups 0,x", 64, "--groups"),
    ("bounds {net} --box 0:1 --relaxation mk --groups 0,9", 64, "neurons"),
    ("bounds {net} --box 0:1 --project p.png", 64, "2 inputs and 1 outputs"),
    ("regions {net} --box 0:1 --output 1", 64, "output 1"),
    ("mine {net} --box 0:1 --relaxation triangle", 64, "'triangle'"),
    ("mine {net} --box 0:1 --side both", 64, "'both'"),
    ("mine {net} --box 0:1 --tolerance -1", 64, "tolerance"),
    ("mine {net} --box 0:1 --output 3", 64, "output 3"),
    ("partition {net} --box 0:1 --split nope", 64, "'nope'"),
    ("partition {net} --box 0:1 --order widest", 64, "'widest'"),
    ("partition {net} --box 0:1 --order 7.0", 64, "(7, 0)"),
    ("partition {net} --box 0:1 --order 1.2.3", 64, "layer.neuron"),
    ("partition {net} --box 0:1 --output -1", 64, "output -1"),
    ("barrier --T 0", 64, "positive"),
    ("barrier --T x", 64, "--T"),
    ("barrier --T 1 --window 3 --layers 4", 64, "window"),
    ("barrier --T 1 --epsilon 1", 64, "--epsilon"),
    ("barrier --T 1 --activation tanh --window 2", 64, "window"),
    ("barrier --T 1 --activation cosine", 64, "'cosine'"),
    ("encode nope", 64, "'nope'"),
    ("encode max --dimension 1", 64, "two"),
    ("encode max --dimension 30", 65, "2^30 vertices"),
    ("encode max --points 0:0,1:1", 64, "--points"),
    ("encode function", 64, "--points"),
    ("encode function --points 0:0", 64, "1 knots"),
    ("encode function --points 0:0,1:1,2:0,3:5 --relaxation ibp", 65, "ibp"),
    ("encode function --points 0:0,1:1 --relaxation mk", 64, "'mk'"),
    ("rewrite {net} --box 0:1 --form nope", 64, "'nope'"),
]


@pytest.mark.parametrize(("line", "code", "says"), REFUSED, ids=[line for line, _, _ in REFUSED])
def test_bad_input_is_a_line_and_a_code(
    line: str,
    code: int,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_onnx("net.onnx", MAX)
    write_onnx("tanh.onnx", MAX, "Tanh")
    write_onnx("large.onnx", [([[1] * 40], [0])])
    head = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)"
    Path("open.vnnlib").write_text(f"{head}(assert (>= X_0 0))(assert (<= X_0 1))", "utf-8")
    names = {"net": "net.onnx", "tanh": "tanh.onnx", "large": "large.onnx", "open": "open.vnnlib"}
    assert call(*line.format(**names).split()) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("hullmark: error: ")
    assert captured.err.count("\n") == 1
    assert says in captured.err.replace("\\", "/")


def test_two_boxes_in_a_property_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes = " ".join(f"(and (>= X_0 {j}) (<= X_0 {j + 1}) (<= Y_0 0))" for j in range(2))
    spec = tmp_path / "s.vnnlib"
    head = "(declare-const X_0 Real)(declare-const Y_0 Real)"
    spec.write_text(f"{head}(assert (or {boxes}))", "utf-8")
    assert call("range", written(tmp_path, ZERO), spec) == 64
    assert "2 boxes" in capsys.readouterr().err


def test_too_many_regions_are_predicted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = written(tmp_path, wide(0, 6, 40, 40, 1))
    begun = time.perf_counter()
    for command in ("range", "regions", "partition"):
        assert call(command, net, "--box=-1:1") == 65
        captured = capsys.readouterr()
        assert re.search(r"about \d+ regions .* \(limit 20000\)", captured.err)
        assert captured.out == ""
    assert time.perf_counter() - begun < 20


def test_a_command_ends_when_its_time_is_up(tmp_path: Path) -> None:
    net = written(tmp_path, wide(0, 3, 24, 24, 1))
    command = [sys.executable, "-m", "hullmark", "lab", "range", str(net), "--box=-1:1"]
    begun = time.perf_counter()
    done = subprocess.run([*command, "--seconds", "1"], capture_output=True, text=True)
    assert time.perf_counter() - begun < 20
    assert done.returncode == 21
    assert done.stderr.startswith("hullmark: the time is up after 1 s")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_an_interrupt_ends_a_command_in_one_line(tmp_path: Path) -> None:
    net = written(tmp_path, wide(0, 3, 24, 24, 1))
    command = [sys.executable, "-m", "hullmark", "lab", "range", str(net), "--box=-1:1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(2.0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (22, "", "hullmark: interrupted\n")


@pytest.mark.parametrize("arguments", [["lab", "--help"], ["lab", "bounds", "--help"]])
def test_help_imports_no_engine(arguments: list[str]) -> None:
    script = (
        "import sys, time; from hullmark.cli import run; "
        f"code = run({arguments!r}, time.perf_counter()); "
        "heavy = {'torch', 'onnx', 'numpy', 'matplotlib'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--help" in done.stdout


def test_pictures_are_refused_where_there_is_nothing_to_see(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pieces = regions(mlp(NESTED), [0] * 3, [1] * 3)
    with pytest.raises(BadInput, match="the network has 3"):
        draw_regions(pieces)
    with pytest.raises(BadInput, match="no output 1"):
        draw_regions(regions(mlp(MAX), [0, 0], [1, 1]), 1)
    figure, _ = canvas(2, 2)
    with pytest.raises(BadInput, match=r"p\.nope"):
        save(figure, tmp_path / "p.nope")
    with pytest.raises(BadInput, match="cannot be written"):
        save(figure, tmp_path / "no" / "p.png")


def test_pictures_without_matplotlib_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(BadInput, match=r"hullmark\[plot\]"):
        canvas(2, 2)


def test_the_gallery_shows_every_script_and_its_picture() -> None:
    page = (ROOT / "docs/gallery/index.md").read_text("utf-8")
    scripts = sorted(p.stem for p in (ROOT / "docs/gallery").glob("*.py") if p.stem != "render")
    assert scripts
    for name in scripts:
        assert f"(../img/gallery/{name}.png)" in page
        assert f"[{name}.py]({name}.py)" in page
