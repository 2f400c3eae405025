"""Lines on streams that cannot be written: what is told, and with which exit code."""

import errno
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hullmark.cli import run
from hullmark.console import flush, say
from hullmark.errors import BadInput

FULL = Path("/dev/full")
SAYS = "hullmark: error: standard output cannot be written: No space left on device\n"


class Broken:
    """A stream that every write to fails."""

    encoding = "utf-8"

    def __init__(self, error: OSError) -> None:
        self.error, self.closed, self.written = error, False, 0

    def write(self, text: str) -> int:
        self.written += 1
        raise self.error

    def flush(self) -> None:
        raise self.error

    def close(self) -> None:
        self.closed = True
        raise self.error


def full() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


def test_a_full_standard_output_is_bad_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = Broken(full())
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(BadInput, match="standard output cannot be written: No space left"):
        say(sys.stdout, "a line")
    # It is told once: nothing more is written, and nothing is left to flush.
    assert stream.closed
    written = stream.written
    say(sys.stdout, "another line")
    assert stream.written == written
    assert flush(0) == 0
    assert capsys.readouterr().err == ""


def test_a_pipe_without_reader_is_silence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", Broken(BrokenPipeError(errno.EPIPE, "Broken pipe")))
    say(sys.stdout, "a line")
    assert [flush(code) for code in (0, 10, 21)] == [0, 10, 21]
    assert capsys.readouterr().err == ""


def test_other_streams_lose_their_lines_silently() -> None:
    stream = Broken(full())
    say(stream, "a line")  # type: ignore[arg-type]
    say(None, "a line")
    assert stream.closed


def test_what_fails_only_at_the_end_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", Broken(full()))
    assert flush(0) == 64
    assert capsys.readouterr().err == SAYS
    monkeypatch.setattr(sys, "stdout", None)
    assert flush(22) == 22


def test_the_version_on_a_full_disk_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", Broken(full()))
    assert run(["--version"], time.perf_counter()) == 64
    assert capsys.readouterr().err == SAYS


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["lab", "encode", "max"]], ids=lambda a: a[0]
)
def test_commands_on_a_full_disk_end_with_64(arguments: list[str]) -> None:
    with FULL.open("w") as stream:
        done = subprocess.run(
            [sys.executable, "-m", "hullmark", *arguments], stdout=stream, stderr=subprocess.PIPE
        )
    assert (done.returncode, done.stderr.decode()) == (64, SAYS)
