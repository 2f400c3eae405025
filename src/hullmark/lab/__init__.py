"""`hullmark lab`: exact sets, bounds, barriers, encodings and partitions of small networks."""

import functools
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import typer

from hullmark import results
from hullmark.console import say
from hullmark.guard import Guard
from hullmark.lab import make, measure, search
from hullmark.verdict import Options, Reason

Failures = Callable[[], AbstractContextManager[object]]

COMMANDS: dict[str, Callable[..., None]] = {
    "range": measure.exact_range,
    "bounds": measure.bounds,
    "regions": measure.regions,
    "mine": search.mine,
    "partition": search.partition,
    "barrier": make.barrier,
    "encode": make.encode,
    "rewrite": make.rewrite,
}

LATE = 1.5
"""Mining is cut short where it takes so much more than its time."""


def group(failures: Failures) -> typer.Typer:
    """The commands, each ended by its `--seconds`, and run within what `failures` makes."""
    app = typer.Typer(
        no_args_is_help=True,
        help="The theory, runnable: small networks in exact arithmetic.",
    )
    for name, command in COMMANDS.items():
        app.command(name)(_run(command, failures))
    return app


def _run(command: Callable[..., None], failures: Failures) -> Callable[..., None]:
    # The parser reads the options from the command that is wrapped.
    @functools.wraps(command)
    def run(*, seconds: float, **given: Any) -> None:
        # Mining keeps its time itself, and has something to tell when it is up.
        most = LATE * seconds if command is search.mine else seconds
        with failures(), Guard(Options(most).deadline(), _last_words(most)) as guard:
            try:
                command(seconds=seconds, **given)
            except BaseException:
                # A product of fractions that is interrupted raises an error of its own.
                if guard.interrupted:
                    raise KeyboardInterrupt from None
                raise
            finally:
                guard.release()

    return run


def _last_words(seconds: float) -> Callable[[Reason], int]:
    def told(reason: Reason) -> int:
        if reason == "timeout":
            text = (
                f"hullmark: the time is up after {seconds:g} s: exact arithmetic takes longer on "
                "this network; allow more --seconds, or take a smaller network or input set"
            )
        else:
            text = "hullmark: interrupted"
        say(sys.stderr, text)
        return results.EXIT_UNKNOWN[reason]

    return told
