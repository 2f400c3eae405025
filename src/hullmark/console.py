"""What a person sees while a search runs: a live line on a terminal, a line now and then else."""

import contextlib
import errno
import math
import os
import sys
import time
from typing import TYPE_CHECKING, Protocol, TextIO

from hullmark.errors import BadInput
from hullmark.results import EXIT_UNKNOWN, error_message, floor_text
from hullmark.verdict import Monitor, Progress

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

LINE_SECONDS = 10.0
REFRESHES_PER_SECOND = 4


class Display(Monitor, Protocol):
    """A monitor that occupies a stream until it is closed."""

    def close(self) -> None:
        """Give the stream back."""
        ...


def display_for(stream: TextIO | None, quiet: bool) -> Display:
    """The display that fits `stream`: nothing, a live view, or occasional lines.

    Arguments:
        stream: None if the process was started with it closed.
        quiet: show nothing anyhow.
    """
    if quiet or stream is None:
        return Blank()
    return LiveView(stream) if stream.isatty() else Lines(stream)


class Blank:
    """Shows nothing."""

    def update(self, progress: Progress) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Lines:
    """One line on `stream` about every ten seconds.

    Arguments:
        stream: where to write.
        interval: seconds between lines.
    """

    def __init__(self, stream: TextIO, interval: float = LINE_SECONDS) -> None:
        self._stream = stream
        self._interval = interval
        self._next = time.perf_counter() + interval

    def update(self, progress: Progress) -> None:
        """Write a line if the last one is long enough ago."""
        now = time.perf_counter()
        if now >= self._next:
            self._next = now + self._interval
            say(self._stream, f"{progress.seconds:.0f} s   {summary(progress)}")

    def close(self) -> None:
        """Do nothing: what was written stays."""


class LiveView:
    """A line on a terminal that is redrawn in place and removed at the end.

    Arguments:
        stream: a terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._latest: Progress | None = None
        self._live: Live | None = None

    def update(self, progress: Progress) -> None:
        """Show `progress` at the next refresh."""
        self._latest = progress
        if self._live is None:
            self._live = self._open()

    def close(self) -> None:
        """Remove the line and give the terminal back."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _open(self) -> "Live":
        # Here because a run without a terminal should not pay for the import.
        from rich.console import Console
        from rich.live import Live

        live = Live(
            console=Console(file=self._stream),
            get_renderable=self._line,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=True,
        )
        live.start()
        return live

    def _line(self) -> "Text":
        from rich.text import Text

        text = "" if self._latest is None else summary(self._latest)
        return Text(text, no_wrap=True, overflow="ellipsis")


def summary(progress: Progress) -> str:
    """Phase, bound, open subproblems, rate and time left, separated by three spaces."""
    parts = [progress.phase]
    if progress.lower > -math.inf:
        parts.append(f"worst margin ≥ {floor_text(progress.lower)}")
    if progress.open or progress.done:
        parts.append(f"{progress.open:,} open, {progress.done:,} done")
    if progress.rate > 0:
        parts.append(f"{progress.rate:,.0f}/s" if progress.rate >= 10 else f"{progress.rate:.1f}/s")
    if progress.timeout is not None:
        parts.append(f"{max(progress.timeout - progress.seconds, 0.0):.0f} s left")
    return "   ".join(parts)


def say(stream: TextIO | None, text: str) -> None:
    """Write a line and flush; in plain letters where the stream's encoding has no others.

    Nothing happens if the stream is closed, or nobody reads it any more: the exit code and the
    files still tell the verdict. A stream that cannot be written for another reason is closed.

    Raises:
        BadInput: if that stream is standard output, for instance because a disk is full.
    """
    if stream is None or getattr(stream, "closed", False):
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = (
            text.replace("≥", ">=").replace("∞", "inf").encode(encoding, "replace").decode(encoding)
        )
    try:
        print(text, file=stream, flush=True)
    except OSError as error:
        if _is_unread(error):
            return
        # What the stream still holds is not tried again at the end of the process.
        with contextlib.suppress(OSError):
            stream.close()
        if stream is sys.stdout:
            raise _unwritable(error) from None


def _is_unread(error: OSError) -> bool:
    """Whether writing failed only because the reader of a pipe has gone."""
    # Windows has no error of its own for that.
    return isinstance(error, BrokenPipeError) or (
        sys.platform == "win32" and error.errno == errno.EINVAL
    )


def _unwritable(error: OSError) -> BadInput:
    """The error that says so of standard output."""
    return BadInput(f"standard output cannot be written: {error.strerror}")


def lost(error: OSError) -> int:
    """Tell why standard output could not be written; 0 if nobody reads it any more."""
    return 0 if _is_unread(error) else complain(_unwritable(error))


def complain(error: BaseException) -> int:
    """Tell an error on stderr, in one line; the exit code that belongs to it."""
    if os.environ.get("HULLMARK_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        message, code = "hullmark: interrupted", EXIT_UNKNOWN["interrupted"]
    elif isinstance(error, MemoryError):
        message, code = "hullmark: out of memory", EXIT_UNKNOWN["memory"]
    else:
        message, code = error_message(error)
    say(sys.stderr, message)
    return code


def flush(code: int) -> int:
    """Write what the streams still hold, at the end of a process whose exit code is `code`.

    Returns:
        The exit code: another one if standard output cannot be written.
    """
    try:
        # A stream is None if the process was started with it closed.
        if sys.stdout is not None and not sys.stdout.closed:
            sys.stdout.flush()
    except OSError as error:
        code = lost(error) or code
    with contextlib.suppress(OSError, AttributeError, ValueError):
        sys.stderr.flush()
    return code
