"""`hullmark lab`: what it tells of small networks, and what it makes."""

import importlib
import json
import re
import shlex
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labs import MAX, NESTED, TWO, ZERO, call, told, wide, written

from hullmark.network.onnx.write import write_onnx
from hullmark.theory import bounds, exact_range, network, regions
from hullmark.verdict import Deadline

ROOT = Path(__file__).resolve().parent.parent


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
    assert lines[0][3:] == ["single", "neurons", "4"]
    assert lines[1][3:] == ["P_1", "1"]
    assert lines[4] == ["Y_0", "upper", "1", leaves, "closed"]


def test_fact_8_boxes_never_close_the_maximum_under_ibp(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = written(tmp_path, MAX)
    options = ["--relaxation", "ibp", "--split", "inputs", "--limit", 20]
    assert call("partition", net, "--box", "0:1", *options) == 0
    assert told(capsys)[4][3:6] == ["20", "open,", "gap"]


def test_fact_5_a_barrier_is_told_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("barrier", "--T", "100", "--out", tmp_path / "b") == 0
    lines = told(capsys)
    assert ["p1", "-100", "0"] in lines
    assert ["p2", "0", "0"] in lines
    net, spec = (tmp_path / "b" / f"barrier.{end}" for end in ("onnx", "vnnlib"))
    assert lines[:2] == [["wrote", str(net)], ["wrote", str(spec)]]
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
    assert lines[1][-1] == "3-3-2-1"
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
    assert lines[-1][1 + side] == lines[-2][1 + side]
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


HUGE = Fraction(10**5000 + 1, 3 * 10**5000)


def test_fractions_that_python_does_not_write_are_told_and_kept_as_decimals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    net, record = written(tmp_path, [([[1]], [0])]), tmp_path / "r.json"
    monkeypatch.setattr("hullmark.lab.ask.parse_box", lambda text: [(-HUGE, HUGE)])
    assert call("range", net, "--box=0:1", "--json", record) == 0
    lower, upper = (Fraction(line[4]) for line in told(capsys)[1:3])
    assert lower < -HUGE < -Fraction(1, 3) < HUGE < upper
    (kept,) = json.loads(record.read_text("utf-8"))["relaxations"]
    assert kept["rounded"] is True
    ((low, high),) = kept["bounds"]
    assert (Fraction(low.removeprefix("~")), Fraction(high.removeprefix("~"))) == (lower, upper)
    assert kept["attained"][0][0] == ["~-0.3333333333"]


def test_finished_relaxations_stay_when_a_later_one_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net, record = written(tmp_path, wide(0, 6, 40, 40, 1)), tmp_path / "r.json"
    options = ["--relaxation", "ibp", "--relaxation", "exact", "--json", record]
    assert call("bounds", net, "--box=-1:1", *options) == 65
    assert "ibp" in capsys.readouterr().out
    kept = json.loads(record.read_text("utf-8"))["relaxations"]
    assert [each["relaxation"] for each in kept] == ["ibp"]


@pytest.mark.parametrize("command", ["mine", "partition", "rewrite", "encode", "barrier"])
def test_what_is_known_is_told_and_written_before_the_next_step(
    command: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net, out = written(tmp_path, NESTED), tmp_path / "o"
    given, stops, told_first = {
        "mine": ([net, "--box=0:1"], "hullmark.theory.mining.mine", "Y_0 lower"),
        "partition": (
            [net, "--box=0:1"],
            "hullmark.theory.branch.branch",
            "pieces by structure   P_1 1",
        ),
        "rewrite": ([net, "--box=0:1", "--out", out], "hullmark.theory.bounds", "wrote"),
        "encode": (["max", "--out", out], "hullmark.theory.bounds", "wrote"),
        "barrier": (["--T", 1, "--out", out], "hullmark.theory.bounds", "wrote"),
    }[command]
    path, name = stops.rsplit(".", 1)
    module = importlib.import_module(path)
    honest = getattr(module, name)
    calls = iter(range(10))

    def stopping(*arguments: Any, **options: Any) -> Any:
        # The second step never ends: somebody interrupts it.
        if next(calls) or command == "partition" or "wrote" in told_first:
            raise KeyboardInterrupt
        return honest(*arguments, **options)

    monkeypatch.setattr(module, name, stopping)
    assert call(command, *given) == 22
    assert told_first in capsys.readouterr().out
    assert out.exists() == (told_first == "wrote")


def test_mining_that_took_no_step_ends_like_one_whose_time_was_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = written(tmp_path, wide(0, 3, 12, 12, 1))
    monkeypatch.setattr("hullmark.theory.mining.Deadline", lambda at, _: Deadline(at, 1e-9))
    assert call("mine", net, "--box=-1:1") == 21
    lines = told(capsys)
    assert [line[:2] for line in lines[1:]] == [["Y_0", "lower"], ["Y_0", "upper"]]
    assert all("time" in line for line in lines[1:])


def test_a_number_that_is_no_float64_is_told_before_anything_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--points=0:0,1:1/3", "--out", tmp_path / "f.onnx"]
    assert call("encode", "function", *options) == 64
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "1/3 is no float64" in captured.err


def test_the_page_shows_what_the_commands_print(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    shown: list[str] = []
    for page in ("howto/lab.md", "theory/barriers.md", "theory/partitions.md"):
        text = (ROOT / "docs" / page).read_text("utf-8")
        for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
            for part in re.split(r"^\$ hullmark lab ", block, flags=re.MULTILINE)[1:]:
                command, _, expected = part.partition("\n")
                assert call(*shlex.split(command)) == 0, command
                # Of several inputs that take a bound any may be shown.
                told_now = re.sub(r"at \(.*\)", "at (...)", capsys.readouterr().out)
                meant = re.sub(r"at \(.*\)", "at (...)", expected)
                assert told_now.replace("\\", "/") == meant, command
                shown.append(command)
    assert len(shown) >= 6
