"""Verdicts, options and deadlines, and how verdicts are told."""

import json
import math
import os
import stat
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hullmark import results
from hullmark.errors import BadInput, ParityError, Unsupported, VacuousProperty
from hullmark.verdict import (
    Deadline,
    Options,
    Progress,
    Proved,
    Recorder,
    Refuted,
    Silent,
    Stats,
    Unknown,
    Verdict,
    Witness,
)

STATS = Stats("relu splitting", domains=120, leaves=61, attack_points=1000)
POINT = Witness(
    np.array([0.1, -0.0, 1e-30], dtype=np.float32),
    np.array([1 / 3, 12345.678], dtype=np.float32),
    case=2,
    rounding=0.0,
    margin=-0.25,
)
ROUNDED = Witness(POINT.input, POINT.output, 0, 3e-9, -0.25)
PROVED = Proved(0.012799, 3.21, STATS)
REFUTED = Refuted(POINT, 0.5, STATS)
UNKNOWN = Unknown("timeout", -0.32149, 12, 60.0, STATS)


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (PROVED, 0),
        (REFUTED, 10),
        (Refuted(ROUNDED, 0.5, STATS), 11),
        (Unknown("incomplete", 0.0, 0, 1.0, STATS), 20),
        (UNKNOWN, 21),
        (Unknown("interrupted", 0.0, 0, 1.0, STATS), 22),
        (Unknown("memory", 0.0, 0, 1.0, STATS), 23),
    ],
)
def test_each_verdict_has_its_exit_code(verdict: Verdict, code: int) -> None:
    assert results.exit_code(verdict) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadInput("a\nb"), 64),
        (Unsupported("x"), 65),
        (VacuousProperty("x"), 66),
        (ParityError("x"), 67),
        (ZeroDivisionError("x"), 70),
    ],
)
def test_each_error_is_one_line_and_a_code(error: Exception, code: int) -> None:
    message, found = results.error_message(error)
    assert found == code
    assert "\n" not in message
    assert message.startswith("hullmark: ")
    assert ("report" in message) == (code == 70)


def test_headlines_say_what_is_known() -> None:
    proved = results.headline(PROVED)
    assert proved == "proved in 3.2 s   worst margin ≥ 0.0127   61 leaves"
    assert "1 leaf" in results.headline(Proved(1.0, 1.0, Stats("bounds", leaves=1)))
    assert "worst margin > 0" in results.headline(Proved(0.0, 1.0, STATS))
    assert "case 2, margin -0.25" in results.headline(REFUTED)
    assert "rounding" not in results.headline(REFUTED)
    assert "up to input rounding (at most 3e-09 outside)" in results.headline(
        Refuted(ROUNDED, 0.5, STATS)
    )
    unknown = results.headline(UNKNOWN)
    assert unknown == "unknown (timeout) after 60.0 s   worst margin ≥ -0.322   12 open domains"
    assert "margin" not in results.headline(Unknown("memory", -math.inf, 0, 1.0, STATS))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_printed_lower_bound_is_still_one(value: float) -> None:
    text = results.floor_text(value)
    shown = Fraction(text)
    assert shown <= Fraction(value)
    if value:
        assert abs(shown - Fraction(value)) <= abs(Fraction(value)) / 100
    assert Fraction(results.ceiling_text(-value)) == -shown


def test_infinite_bounds_are_printed_as_such() -> None:
    assert results.floor_text(math.inf) == "∞"
    assert results.floor_text(-math.inf) == "-∞"
    assert results.ceiling_text(math.inf) == "∞"


def test_competition_result_reads_back_exactly() -> None:
    assert results.competition_text(PROVED) == "unsat\n"
    assert results.competition_text(UNKNOWN) == "timeout\n"
    assert results.competition_text(Unknown("memory", 0.0, 0, 1.0, STATS)) == "unknown\n"
    first, *rest = results.competition_text(REFUTED).splitlines()
    assert first == "sat"
    assert rest[0].startswith("((X_0 ")
    assert rest[-1].endswith("))")
    assert "".join(rest).count("(") == "".join(rest).count(")")
    pairs = [line.strip("()").split() for line in rest]
    assert [name for name, _ in pairs] == ["X_0", "X_1", "X_2", "Y_0", "Y_1"]
    values = np.array([float(text) for _, text in pairs])
    expected = np.concatenate([POINT.input, POINT.output]).astype(np.float64)
    assert values.tobytes() == expected.tobytes()


@pytest.mark.parametrize("verdict", [PROVED, REFUTED, UNKNOWN, Proved(math.inf, 0.1, STATS)])
def test_json_reads_back(verdict: Verdict) -> None:
    asked = results.run_record("net.onnx", "prop.vnnlib", Options(timeout=60))
    record = json.loads(results.json_text(asked | results.verdict_record(verdict)))
    assert record["verdict"] == type(verdict).__name__.lower()
    assert record["exit_code"] == results.exit_code(verdict)
    assert record["versions"]["python"].startswith("3.")
    assert record["options"]["timeout"] == 60
    if isinstance(verdict, Refuted):
        again = np.array(record["witness"]["input"], dtype=record["witness"]["dtype"])
        assert again.tobytes() == POINT.input.tobytes()
    if isinstance(verdict, Proved) and math.isinf(verdict.margin):
        assert record["margin"] is None


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "result.txt"
    target.write_text("old")
    results.check_writable(target)
    assert target.read_text() == "old"
    results.write_atomically(target, "new ≥\n")
    assert target.read_text(encoding="utf-8") == "new ≥\n"
    assert [p.name for p in tmp_path.iterdir()] == ["result.txt"]
    if sys.platform != "win32":
        assert stat.S_IMODE(target.stat().st_mode) & 0o400


def linked(link: Path, target: Path) -> None:
    try:
        link.symlink_to(target)
    except OSError:
        pytest.skip("no symbolic links here")


@pytest.mark.parametrize("there", [True, False])
def test_a_symbolic_link_stays_and_its_target_is_written(tmp_path: Path, there: bool) -> None:
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far/result.txt", tmp_path / "link.txt"
    if there:
        target.write_text("old")
    linked(link, target)
    results.check_writable(link)
    results.write_atomically(link, "new\n")
    assert link.is_symlink()
    assert target.read_text() == "new\n"
    assert [p.name for p in (tmp_path / "far").iterdir()] == ["result.txt"]


def test_a_link_to_itself_is_bad_input(tmp_path: Path) -> None:
    link = tmp_path / "link.txt"
    linked(link, link)
    for write in (results.check_writable, lambda path: results.write_atomically(path, "x")):
        with pytest.raises(BadInput, match="cannot write"):
            write(link)
    assert link.is_symlink()


@pytest.mark.skipif(sys.platform == "win32", reason="has no files that are pipes")
def test_what_is_no_regular_file_is_written_into(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        results.check_writable(pipe)
        results.write_atomically(pipe, "told\n")
        assert os.read(reader, 100) == b"told\n"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    results.check_writable(Path(os.devnull))
    results.write_atomically(Path(os.devnull), "lost")
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
    full = Path("/dev/full")
    if full.exists():
        with pytest.raises(BadInput, match="No space"):
            results.write_atomically(full, "x")
        assert stat.S_ISCHR(full.stat().st_mode)


def test_a_dash_is_no_name_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="needs a name"):
        results.check_writable(Path("-"))
    with pytest.raises(BadInput, match="needs a name"):
        results.write_atomically(Path("-"), "x")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", ["missing/result.txt", "."])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, where: str) -> None:
    target = tmp_path / where
    with pytest.raises(BadInput, match="cannot write"):
        results.check_writable(target)
    with pytest.raises(BadInput, match="cannot write"):
        results.write_atomically(target, "x")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Options(timeout=0),
        lambda: Options(timeout=-1.0),
        lambda: Options(timeout=math.nan),
        lambda: Options(memory=0),
        lambda: Options(dtype="float16"),
    ],
)
def test_options_that_make_no_sense_are_refused(make) -> None:
    with pytest.raises(BadInput):
        make()


def test_deadlines_count_from_their_start() -> None:
    now = time.perf_counter()
    late = Options(timeout=1.0, started=now - 5).deadline()
    assert late.expired()
    assert late.remaining() == 0
    assert late.elapsed() >= 5
    early = Deadline(now, 1000.0)
    assert not early.expired()
    assert 900 < early.remaining() <= 1000
    assert Deadline(now - 1e6, None).remaining() == math.inf
    assert not Deadline(now - 1e6, None).expired()
    assert Options(timeout=50.0).deadline().remaining() > 49


def test_a_recorder_knows_the_latest_bound() -> None:
    recorder = Recorder(Silent())
    nothing = recorder.unknown("timeout", 1.0, "")
    assert nothing.lower == -math.inf
    recorder.update(Progress("root", -5.0, 1, 1, 0.0, 0.1, None))
    recorder.update(Progress("relu splitting", -0.5, 7, 20, 9.0, 0.9, None))
    known = recorder.unknown("interrupted", 1.0, "why")
    assert (known.lower, known.open_domains, known.stats.domains) == (-0.5, 7, 20)
    assert known.detail == "why"
