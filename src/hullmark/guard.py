"""Ends a search that does not end itself: when its time is up, and when it is interrupted.

A search looks at its deadline between steps, and Python runs signal handlers between bytecodes,
but a step of native code may be long. The watchdog is a thread that waits a little beyond the
deadline or the signal, lets its owner write down what is known, and ends the process. It relies
on long steps (torch, onnxruntime, BLAS) letting other threads run.
"""

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType

from hullmark.verdict import Deadline, Reason

# Seconds that a search has to end itself after a signal.
CLEANUP_SECONDS = 2.0
# Seconds for the last line, which may meet a terminal that is stopped.
LAST_WORDS_SECONDS = 0.3
# The longest that some systems let a thread wait at a time.
LONGEST_WAIT = 3600.0

SIGNALS = (signal.SIGINT, signal.SIGTERM)
OVER = b"\0"
NOW = b"\xff"

LastWords = Callable[[Reason], int]


def grace(timeout: float) -> float:
    """Seconds beyond the timeout that a search gets to end by itself."""
    return max(0.6, 0.012 * timeout)


class Guard:
    """A context in which the timeout is hard and SIGINT and SIGTERM raise `KeyboardInterrupt`.

    Signals are only taken over in the main thread, where Python handles them.

    Arguments:
        deadline: when the search should have ended.
        last_words: called from the watchdog's thread with the reason, if the search has not
            ended shortly after its deadline, or after a signal; writes down what is known and
            returns the exit code that the process then ends with at once.

    `interrupted` says whether a signal has raised `KeyboardInterrupt`.
    """

    def __init__(self, deadline: Deadline, last_words: LastWords) -> None:
        self._deadline = deadline
        self._last_words = last_words
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._ending = threading.Lock()
        self._over = False
        self.interrupted = False
        self._watchdog = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._handlers: dict[int, signal.Handlers | int | Callable[..., object] | None] = {}
        self._wakeup = -1

    def __enter__(self) -> "Guard":
        if threading.current_thread() is threading.main_thread():
            # The interpreter itself writes a signal's number here as it arrives, so that the
            # watchdog hears of it even while the main thread is inside native code.
            self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
            for number in SIGNALS:
                self._handlers[number] = signal.signal(number, self._interrupt)
        self._watchdog.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
        if self._handlers:
            signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._watchdog.join()
        self._reader.close()
        self._writer.close()

    def release(self) -> None:
        """The search has ended: from here on nothing is cut short.

        Does not return if the watchdog has begun to end the process.
        """
        with self._ending:
            self._over = True
        self._writer.send(OVER)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._over:
            return
        if _importing(frame):
            # Native code that is interrupted while it loads may crash; and little is lost.
            self._writer.send(NOW)
            return
        self.interrupted = True
        raise KeyboardInterrupt

    def _watch(self) -> None:
        reason: Reason = "timeout"
        timeout = self._deadline.timeout
        end = None if timeout is None else self._deadline.started + timeout + grace(timeout)
        while end is None or time.perf_counter() < end:
            wait = LONGEST_WAIT if end is None else end - time.perf_counter()
            told = self._listen(min(max(wait, 0.0), LONGEST_WAIT))
            if OVER in told:
                return
            if any(number in told for number in SIGNALS) or NOW in told:
                soon = time.perf_counter() + (0 if NOW in told else CLEANUP_SECONDS)
                end = soon if end is None else min(end, soon)
                reason = "interrupted"
        self._end(reason)

    def _listen(self, seconds: float) -> bytes:
        """What has been written within so many seconds."""
        ready, _, _ = select.select([self._reader], [], [], seconds)
        return self._reader.recv(4096) if ready else b""

    def _end(self, reason: Reason) -> None:
        with self._ending:
            if self._over:
                return
            code = 70
            try:
                code = self._last_words(reason)
            finally:
                os._exit(code)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def exit_soon(code: int) -> None:
    """End the process with `code` shortly, even if writing to the terminal blocks meanwhile."""
    timer = threading.Timer(LAST_WORDS_SECONDS, os._exit, (code,))
    timer.daemon = True
    timer.start()
