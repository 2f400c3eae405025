"""A second process for exact numbers, which can be ended when its time is up.

Exact arithmetic has no clock to look at and may take any time and memory. What is asked and told
goes through pipes, as pickles between two processes of the same program.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import IO, Any

from hullmark.errors import HullmarkError, Unsupported
from hullmark.ladder.exactly import Ask, Part, Told, tell

READY = "ready"
STARTED_WITHIN = 60.0
"""Seconds after which a process that has not started is given up."""

_CODE = "import sys; sys.path[:] = {path!r}; from hullmark.ladder.worker import serve; serve()"


class OutOfReach(Exception):
    """A relaxation is too large, or takes too long; the message says which."""


class Worker:
    """Exact rungs of some networks, one at a time; a context, at whose end the process ends.

    Arguments:
        parts: the networks.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = tuple(parts)
        self._process: subprocess.Popen[bytes] | None = None
        self._told: queue.Queue[Any] = queue.Queue()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def ask(self, ask: Ask, seconds: float) -> Told:
        """What a relaxation says.

        Raises:
            OutOfReach: if it is too large, not done within so many seconds, or failed otherwise.
        """
        self._start()
        try:
            self._put(ask)
            answer = self._told.get(timeout=seconds)
        except queue.Empty:
            self.close()
            raise OutOfReach(f"not done within {seconds:.1f} s") from None
        except OSError:
            answer = None
        except BaseException:
            self.close()
            raise
        match answer:
            case Told():
                return answer
            case HullmarkError():
                raise OutOfReach(str(answer))
            case MemoryError() | None:
                # A process that the system ends for its memory has no last words.
                self.close()
                raise OutOfReach("out of memory")
            case _:
                raise OutOfReach(f"failed: {answer} (please report this)")

    def close(self) -> None:
        """End the process; the next question starts another one."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def _start(self) -> None:
        if self._process is not None:
            return
        command = [sys.executable, "-c", _CODE.format(path=sys.path)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._told = queue.Queue()
        source = self._process.stdout
        threading.Thread(target=_receive, args=(source, self._told), daemon=True).start()
        try:
            self._put(self._parts)
            if self._told.get(timeout=STARTED_WITHIN) == READY:
                return
        except (OSError, queue.Empty):
            pass
        self.close()
        raise OutOfReach("no second process could be started")

    def _put(self, value: object) -> None:
        if self._process is None or self._process.stdin is None:
            raise BrokenPipeError
        pickle.dump(value, self._process.stdin)
        self._process.stdin.flush()


def serve() -> None:
    """Be the second process: answer what comes from standard input until that is closed."""
    # Ctrl-C reaches both processes; the first one decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked: queue.Queue[Any] = queue.Queue()
    # Printing must not get between the answers.
    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    threading.Thread(target=_listen, args=(asked,), daemon=True).start()
    parts: Sequence[Part] = asked.get()
    _answer(answers, READY)
    while True:
        _answer(answers, answer(parts, asked.get()))


def answer(parts: Sequence[Part], ask: Ask) -> Told | BaseException | str:
    """What there is to say to a question: what is told, or why it cannot be."""
    started = time.perf_counter()
    try:
        bounds, rows, regions = tell(parts, ask)
    except (HullmarkError, MemoryError) as error:
        return error
    except RecursionError:
        return Unsupported("too deep for exact numbers")
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return Told(bounds, rows, regions, time.perf_counter() - started)


def _answer(pipe: IO[bytes], value: object) -> None:
    """Give an answer out; where nobody reads it any more, this process ends without a word."""
    try:
        pickle.dump(value, pipe)
        pipe.flush()
    except OSError:
        os._exit(0)


def _listen(asked: queue.Queue[Any]) -> None:
    """Take questions in; the end of the first process is the end of this one."""
    try:
        while True:
            asked.put(pickle.load(sys.stdin.buffer))
    except (EOFError, OSError, pickle.UnpicklingError):
        os._exit(0)


def _receive(pipe: IO[bytes] | None, told: queue.Queue[Any]) -> None:
    """Take answers in; None says that there will be no more."""
    try:
        while pipe is not None:
            told.put(pickle.load(pipe))
    except (EOFError, OSError, ValueError, pickle.UnpicklingError):
        told.put(None)
