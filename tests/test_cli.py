"""The command line with engines that are not there: lines, files, codes, clocks and signals."""

import importlib
import json
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import hullmark
from hullmark import results
from hullmark.cli import run
from hullmark.console import Lines, LiveView, say, summary
from hullmark.errors import BadInput, Unsupported
from hullmark.methods.names import METHODS
from hullmark.methods.report import Attained, BoundReport
from hullmark.verdict import Progress, Proved, Refuted, Stats, Unknown, Witness

STATS = Stats("bounds", domains=1, leaves=1)
WITNESS = Witness(np.zeros(2, np.float32), np.ones(1, np.float32), 0, 0.0, -1.0)
Install = Callable[[object], None]

FAKE = """
import sys, time, types
fake = types.ModuleType("hullmark.verify")
sys.modules["hullmark.verify"] = fake
from hullmark import cli, guard
from hullmark.verdict import Progress, Proved, Stats, Unknown
guard.CLEANUP_SECONDS = 0.3
def search(net, spec, options, monitor):
    monitor.update(Progress("relu splitting", -0.75, 5, 9, 1.0, 0.1, options.timeout))
{body}
def wait():
    print("waiting", file=sys.stderr, flush=True)
    time.sleep(60)
fake.verify_with = search
cli.main()
"""


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Replace the façade's `verify_with` by something that returns or raises at once."""

    def install(outcome: object) -> None:
        def fake(*arguments: object) -> object:
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        monkeypatch.setattr(importlib.import_module("hullmark.verify"), "verify_with", fake)

    return install


def call(*arguments: object) -> int:
    return run([str(a) for a in arguments], time.perf_counter())


def spawn(body: str, *arguments: str) -> subprocess.Popen[str]:
    script = FAKE.format(body=textwrap.indent(textwrap.dedent(body), "    "))
    return subprocess.Popen(
        [sys.executable, "-c", script, "verify", "net", "spec", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def interrupt(process: subprocess.Popen[str], number: int) -> tuple[str, str, float]:
    assert process.stderr is not None
    assert process.stderr.readline() == "waiting\n"
    process.send_signal(number)
    sent = time.perf_counter()
    out, err = process.communicate(timeout=20)
    return out, err, time.perf_counter() - sent


@pytest.mark.parametrize(
    ("outcome", "code", "line"),
    [
        (Proved(0.5, 1.0, STATS), 0, "proved in 1.0 s   worst margin ≥ 0.5   1 leaf"),
        (Refuted(WITNESS, 1.0, STATS), 10, "refuted in 1.0 s"),
        (Unknown("incomplete", -1.0, 0, 1.0, STATS, "no more"), 20, "unknown (incomplete)"),
        (Unknown("memory", -1.0, 3, 1.0, STATS), 23, "unknown (memory)"),
    ],
)
def test_a_verdict_is_a_line_and_a_code(
    engine: Install, capsys: pytest.CaptureFixture[str], outcome: object, code: int, line: str
) -> None:
    engine(outcome)
    assert call("verify", "a.onnx", "b.vnnlib") == code
    captured = capsys.readouterr()
    assert captured.out.startswith(line)
    assert captured.out.count("\n") == 1
    assert captured.err == ""


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (BadInput("b.vnnlib: line 3: no"), 64, "hullmark: error: b.vnnlib: line 3: no\n"),
        (Unsupported("node n: Foo"), 65, "hullmark: error: node n: Foo\n"),
        (KeyError("boom"), 70, "hullmark: internal error: KeyError: 'boom' (please report this)\n"),
        (MemoryError(), 23, "hullmark: out of memory\n"),
    ],
)
def test_an_error_is_a_line_and_a_code(
    engine: Install,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    error: BaseException,
    code: int,
    says: str,
) -> None:
    engine(error)
    result, record = tmp_path / "r.txt", tmp_path / "r.json"
    result.write_text("unsat\n")
    assert call("verify", "a", "b", "--result", result, "--json", record) == code
    captured = capsys.readouterr()
    assert captured.err == says
    assert captured.out == ""
    assert result.read_text() == "error\n"
    assert json.loads(record.read_text())["verdict"] == "error"


def test_debugging_shows_the_traceback(
    engine: Install, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HULLMARK_DEBUG", "1")
    engine(KeyError("boom"))
    assert call("verify", "a", "b") == 70
    assert "Traceback" in capsys.readouterr().err


def test_both_files_are_written(engine: Install, tmp_path: Path) -> None:
    engine(Refuted(WITNESS, 1.0, STATS))
    result, record = tmp_path / "r.txt", tmp_path / "r.json"
    assert call("verify", "a", "b", "--result", result, "--json", record, "--seed", 7) == 10
    assert result.read_text() == "sat\n((X_0 0.0)\n(X_1 0.0)\n(Y_0 1.0))\n"
    told = json.loads(record.read_text())
    assert told["network"] == "a"
    assert told["options"]["seed"] == 7
    assert told["witness"]["output"] == [1.0]


def test_an_unwritable_file_is_told_before_the_search(
    engine: Install, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    engine(AssertionError("the search has started"))
    assert call("verify", "a", "b", "--json", tmp_path / "no" / "r.json") == 64
    assert "no/r.json" in capsys.readouterr().err.replace("\\", "/")


@pytest.mark.parametrize("arguments", [["verify", "a"], ["nonsense"], ["verify", "a", "b", "--x"]])
def test_usage_errors_end_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments, time.perf_counter()) == 2
    assert capsys.readouterr().err


def test_a_negative_timeout_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("verify", "a", "b", "--timeout", "-1") == 64
    assert "timeout" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["verify", "--help"]])
def test_help_and_version_import_no_engine(arguments: list[str]) -> None:
    script = (
        "import sys, time; from hullmark.cli import run; "
        f"code = run({arguments!r}, time.perf_counter()); "
        "heavy = {'torch', 'onnx', 'onnxruntime', 'numpy'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "hullmark" in done.stdout
    if arguments == ["--version"]:
        assert done.stdout == f"hullmark {hullmark.__version__}\n"


def test_a_search_that_ignores_its_deadline_is_ended(tmp_path: Path) -> None:
    result, record = tmp_path / "r.txt", tmp_path / "r.json"
    begun = time.perf_counter()
    process = spawn("wait()", "--timeout", "1.5", "--result", str(result), "--json", str(record))
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 21
    # One second beyond the timeout is allowed, and some more to start and to reap a process.
    assert time.perf_counter() - begun < 1.5 + 1.0 + 0.5
    assert out.startswith("unknown (timeout) after ")
    assert "worst margin ≥ -0.75   5 open domains" in out
    assert result.read_text() == "timeout\n"
    told = json.loads(record.read_text())
    assert (told["reason"], told["lower"], told["open_domains"]) == ("timeout", -0.75, 5)


def test_a_search_in_time_is_left_alone(tmp_path: Path) -> None:
    process = spawn('time.sleep(0.3); return Proved(1.0, 0.3, Stats("x"))', "--timeout", "5")
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert out.startswith("proved")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent differently there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_with_the_best_bound(number: int) -> None:
    process = spawn("wait()")
    out, err, seconds = interrupt(process, number)
    assert process.returncode == 22, err
    assert out.startswith("unknown (interrupted)")
    assert "worst margin ≥ -0.75" in out
    assert seconds < 2


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent differently there")
def test_a_signal_lets_the_search_end_itself() -> None:
    body = """
    try:
        wait()
    except KeyboardInterrupt:
        return Unknown("interrupted", -0.25, 2, 1.0, Stats("x"))
    """
    process = spawn(body)
    out, err, _ = interrupt(process, signal.SIGINT)
    assert process.returncode == 22, err
    assert "worst margin ≥ -0.25   2 open domains" in out


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent differently there")
def test_an_error_that_an_interrupt_causes_is_none() -> None:
    body = """
    try:
        wait()
    except KeyboardInterrupt:
        raise ImportError("initialization failed")
    """
    process = spawn(body)
    out, err, _ = interrupt(process, signal.SIGINT)
    assert process.returncode == 22, err
    assert out.startswith("unknown (interrupted)")
    assert "internal" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent differently there")
def test_an_import_is_not_interrupted(tmp_path: Path) -> None:
    slow = """
    import sys, time
    print("waiting", file=sys.stderr, flush=True)
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        time.sleep(60)
    """
    (tmp_path / "slow.py").write_text(textwrap.dedent(slow))
    process = spawn(f"sys.path.insert(0, {str(tmp_path)!r})\nimport slow")
    out, err, seconds = interrupt(process, signal.SIGINT)
    assert process.returncode == 22, err
    assert out.startswith("unknown (interrupted)")
    assert "interrupted" not in err
    assert seconds < 2


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent differently there")
def test_an_interrupt_while_the_program_loads_is_one_line() -> None:
    script = """
    import builtins, sys, time
    from hullmark.__main__ import main
    def load(*arguments):
        print("waiting", file=sys.stderr, flush=True)
        time.sleep(60)
    builtins.__import__ = load
    main()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    out, err, _ = interrupt(process, signal.SIGINT)
    assert (process.returncode, out, err) == (22, "", "hullmark: interrupted\n")
    assert results.EXIT_UNKNOWN["interrupted"] == 22


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent differently there")
def test_a_search_that_swallows_a_signal_is_ended() -> None:
    body = """
    while True:
        try:
            wait()
        except KeyboardInterrupt:
            pass
    """
    process = spawn(body)
    out, err, seconds = interrupt(process, signal.SIGTERM)
    assert process.returncode == 22, err
    assert "worst margin ≥ -0.75" in out
    assert seconds < 3


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent differently there")
def test_a_signal_is_heard_during_native_code() -> None:
    # One call that neither returns nor lets a handler of Python's run, as a long product would.
    body = """
    import hashlib
    print("waiting", file=sys.stderr, flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
    """
    process = spawn(body)
    out, err, seconds = interrupt(process, signal.SIGINT)
    assert process.returncode == 22, err
    assert "worst margin ≥ -0.75" in out
    assert seconds < 3


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
@pytest.mark.parametrize("redirect", [">&-", "2>&-", ">/dev/full", "| true"])
def test_the_exit_code_does_not_depend_on_who_reads(redirect: str) -> None:
    if "full" in redirect and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    script = FAKE.format(body='    return Proved(1.0, 0.3, Stats("x"))')
    command = f'set -o pipefail; "$0" -c "$1" verify net spec {redirect}'
    done = subprocess.run(["bash", "-c", command, sys.executable, script], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert (b"standard output cannot be written" in done.stderr) == ("full" in redirect)


class Stream:
    """A stream of some encoding that remembers what was written."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self.encoding = encoding
        self.text = ""

    def write(self, text: str) -> int:
        text.encode(self.encoding)
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True


PROGRESS = Progress("relu splitting", -0.5, 1200, 34, 88.4, 12.0, 60.0)


def test_progress_in_one_line() -> None:
    assert summary(PROGRESS) == (
        "relu splitting   worst margin ≥ -0.5   1,200 open, 34 done   88/s   48 s left"
    )
    assert summary(Progress("attack", -np.inf, 0, 0, 0.0, 1.0, None)) == "attack"


def test_lines_are_few() -> None:
    stream = Stream()
    lines = Lines(stream, interval=0.05)  # type: ignore[arg-type]
    for _ in range(100):
        lines.update(PROGRESS)
    assert stream.text == ""
    time.sleep(0.06)
    for _ in range(100):
        lines.update(PROGRESS)
    assert stream.text.count("\n") == 1
    assert stream.text.startswith("12 s   relu splitting")


def test_a_live_view_shows_and_leaves() -> None:
    stream = Stream()
    view = LiveView(stream)  # type: ignore[arg-type]
    view.close()
    assert stream.text == ""
    view.update(PROGRESS)
    view.update(PROGRESS)
    view.close()
    view.close()
    assert "relu splitting" in stream.text


def test_plain_letters_where_there_are_no_others() -> None:
    stream = Stream("ascii")
    say(stream, "worst margin ≥ -∞")  # type: ignore[arg-type]
    assert stream.text == "worst margin >= -inf\n"


REPORT = BoundReport(
    lower=np.array([-1.0, 0.5]),
    upper=np.array([2.0, np.inf]),
    margin=-0.25,
    margins=np.array([3.0, -0.25]),
    method="mk",
    seconds=1.5,
    rows=12,
    complete=False,
    attained=(
        Attained("margin", 1, np.array([0.5]), 1e-9),
        Attained("lower", 0, np.array([1.0]), 0.0),
        Attained("upper", 0, np.array([0.0]), 0.0),
    ),
)


def test_bounds_are_lines_and_a_record(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked: list[dict[str, object]] = []

    def fake(*arguments: object, **options: object) -> BoundReport:
        asked.append(options)
        return REPORT

    monkeypatch.setattr(importlib.import_module("hullmark.verify"), "bound", fake)
    file = tmp_path / "bounds.json"
    options = ("--method", "mk", "--k", 3, "--groups", "gain", "--seconds", 1.5, "--json", file)
    more = ("--overlap", 0, "--block", 7)
    assert call("bound", "a.onnx", "b.vnnlib", *options, *more) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Y_0   [-1, 2]   lower and upper attained",
        "Y_1   [0.5, ∞]",
        "mk stopped after 1.50 s   worst margin ≥ -0.25   12 joint rows   attained by an input",
    ]
    rule = {"k": 3, "groups": "gain", "overlap": 0, "block": 7}
    assert asked == [{"method": "mk", "seconds": 1.5, "device": "cpu", "seed": 0, **rule}]
    record = json.loads(file.read_text())
    assert (record["network"], record["method"]) == ("a.onnx", "mk")
    assert {name: record[name] for name in rule} == rule
    assert record["margins"] == [3.0, -0.25] and record["upper"] == [2.0, None]
    assert record["attained"][0] == {"end": "margin", "index": 1, "input": [0.5], "gap": 1e-9}
    assert (record["rows"], record["complete"], record["proved"]) == (12, False, False)


def test_bounds_that_cannot_be_had_are_an_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    demo = Path(__file__).resolve().parent.parent / "demo"
    question = (demo / "digits_fc.onnx", demo / "properties/test03_eps0.14.vnnlib")
    file = tmp_path / "bounds.json"
    assert call("bound", *question, "--method", "ibp", "--k", 2, "--json", file) == 64
    assert capsys.readouterr().err == (
        "hullmark: error: method ibp relaxes no groups and takes no k\n"
    )
    assert json.loads(file.read_text())["error"]["type"] == "BadInput"
    assert call("bound", *question, "--method", "mk", "--seconds", 0) == 64
    assert call("bound", *question, "--method", "mk", "--k", "two") == 2


def test_the_help_names_every_method(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("bound", "--help") == 0
    assert set(METHODS) <= set(re.findall(r"\w+", capsys.readouterr().out))
