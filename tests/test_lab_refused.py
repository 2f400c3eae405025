"""`hullmark lab`: how it refuses, and how it ends when its time is up."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from labs import MAX, NESTED, ZERO, call, wide, written

from hullmark.errors import BadInput
from hullmark.network.onnx.write import write_onnx
from hullmark.theory import mlp, regions
from hullmark.theory.picture import canvas, draw_regions, save

ROOT = Path(__file__).resolve().parent.parent

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
    ("encode max --dimension 0", 64, "two"),
    ("encode min --dimension -3", 64, "two"),
    ("bounds {net} --box 0:1 --relaxation ibp --relaxation nope", 64, "'nope'"),
    ("bounds {net} --box 0:1 --relaxation ibp --relaxation mk", 64, "k or groups"),
    ("bounds {net} --box 0:1 --relaxation ibp --relaxation pr", 64, "window"),
    ("bounds {net} --box 0:1 --relaxation ibp --relaxation mk --groups 0,9", 64, "neurons"),
    ("bounds {net} --box 0:1 --project p", 64, "p: a picture is one of"),
    ("bounds {net} --box 0:1 --project p.nope", 64, "not 'nope'"),
    ("regions {net} --box 0:1 --plot p", 64, "p: a picture is one of"),
    ("regions {net} --box 0:1 --plot no/p.png", 64, "no/p.png"),
    ("partition {net} --box 0:1 --relaxation nope", 64, "'nope'"),
    ("partition {net} --box 0:1 --split inputs --order 5", 64, "5"),
    ("barrier --T 1 --out net.onnx", 64, "no folder"),
    ("barrier --T 1 --out net.onnx/b", 64, "no folder"),
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
