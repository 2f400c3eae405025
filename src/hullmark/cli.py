"""The command line: parse, call, exit code."""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated

import typer

import hullmark
from hullmark import lab, results
from hullmark.console import Display, complain, display_for, flush, lost, say
from hullmark.errors import BadInput
from hullmark.guard import Guard, exit_soon
from hullmark.verdict import Options, Reason, Recorder, Verdict

if TYPE_CHECKING:
    from hullmark.ladder.climb import Climb
    from hullmark.ladder.rungs import Ladder
    from hullmark.methods.report import BoundReport
    from hullmark.network.summary import NetworkInfo

app = typer.Typer(
    name="hullmark",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A sound verifier for neural networks: proves a property, or shows a counterexample.",
)

Net = Annotated[Path, typer.Argument(metavar="NET", help="An ONNX file, possibly gzipped.")]
Spec = Annotated[Path, typer.Argument(metavar="SPEC", help="A VNN-LIB file, 1.0 or 2.0.")]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, or cuda with a GPU.")]


def main() -> None:
    """Run the command line on the arguments of this process, and end with its exit code."""
    # The clock of `--timeout` starts with the process; the processor time spent until here is
    # the part of it that went into starting Python.
    code = run(sys.argv[1:], time.perf_counter() - time.process_time())
    # Taking torch and a large search tree apart in good order lasts up to a second, which would
    # count against the timeout; everything that matters has been written.
    os._exit(flush(code))


def run(arguments: list[str], started: float) -> int:
    """Run the command line and return its exit code.

    Arguments:
        arguments: without the name of the program.
        started: the reading of `time.perf_counter()` that `--timeout` counts from.
    """
    try:
        app(args=arguments, prog_name="hullmark", obj=started)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else results.EXIT_USAGE
    # Commands tell their own errors; these are of the version and of the parser's help.
    except BadInput as error:
        return complain(error)
    except OSError as error:
        return lost(error)
    return 0


def _show_version(wanted: bool) -> None:
    if wanted:
        say(sys.stdout, f"hullmark {hullmark.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


@app.command()
def verify(  # noqa: PLR0913 (the parser takes one parameter for each option)
    context: typer.Context,
    net: Net,
    spec: Spec,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="S", help="Seconds allowed, counted from the start of the process."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the full verdict as JSON.")
    ] = None,
    result_file: Annotated[
        Path | None,
        typer.Option("--result", metavar="FILE", help="Write the verdict as VNN-COMP reads it."),
    ] = None,
    device: Device = "cpu",
    seed: Annotated[int, typer.Option(metavar="N", help="Of everything random.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Decide whether SPEC's unsafe set can be reached: proved, refuted or unknown.

    Exit codes: 0 proved, 10 refuted, 11 refuted up to input rounding, 20 unknown, 21 timeout,
    22 interrupted, 23 out of memory, 64 bad input, 65 unsupported, 66 empty input set,
    67 the imported network disagrees with the original, 70 internal error, 2 usage.
    """
    with _Failures() as failures:
        options = Options(timeout, device, seed=seed, started=context.obj)
        for path in (json_file, result_file):
            if path is not None:
                results.check_writable(path)
        report = _Report(net, spec, options, json_file, result_file)
        failures.report = report
        raise typer.Exit(_verify(report, quiet))


@app.command()
def bound(  # noqa: PLR0913 (the parser takes one parameter for each option)
    net: Net,
    spec: Spec,
    method: Annotated[
        str,
        typer.Option(
            help="Lines: ibp, deepz, deeppoly0, deeppoly1, deeppoly, crown, alpha, best. Linear "
            "programs: triangle, refinezono, multivariate, krelu, kpoly, mk. Joint rows in "
            "backward bounds: prima, mined."
        ),
    ] = "alpha",
    k: Annotated[
        int | None, typer.Option("--k", metavar="K", help="Neurons that are relaxed together.")
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option(help="How they are chosen: area, overlap, gain, adaptive or random."),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(metavar="N", help="Neurons that two groups by overlap may share: 1."),
    ] = None,
    block: Annotated[
        int | None,
        typer.Option(metavar="N", help="Neurons in a block of groups by overlap: 50."),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(metavar="S", help="Seconds allowed; what is known by then is told."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all bounds as JSON.")
    ] = None,
    device: Device = "cpu",
    seed: Annotated[int, typer.Option(metavar="N", help="Of random groups.")] = 0,
) -> None:
    """Bound every output and the worst margin of SPEC by one method, without search."""
    with _Failures() as failures:
        options = Options(seconds, device, seed=seed)
        if json_file is not None:
            results.check_writable(json_file)
        report = _Report(net, spec, options, json_file, None)
        failures.report = report
        from hullmark.verify import bound as bound_network

        found = bound_network(
            net,
            spec,
            method=method,
            k=k,
            groups=groups,
            overlap=overlap,
            block=block,
            seconds=seconds,
            device=device,
            seed=seed,
        )
        asked = {"k": k, "groups": groups, "overlap": overlap, "block": block}
        report.write(results.bound_record(found) | asked, "")
        _tell_bounds(found)


@app.command()
def ladder(  # noqa: PLR0913 (the parser takes one parameter for each option)
    context: typer.Context,
    net: Net,
    spec: Spec,
    seconds: Annotated[
        float, typer.Option(metavar="S", help="Seconds allowed, from the start of the process.")
    ] = 60.0,
    methods: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Only these, as ibp,triangle,krelu,exact.")
    ] = None,
    output: Annotated[
        int | None, typer.Option(metavar="I", help="Bound output I instead of the worst margin.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the ladder: .png, .svg or .pdf.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all rungs as JSON.")
    ] = None,
    device: Device = "cpu",
    seed: Annotated[int, typer.Option(metavar="N", help="Of everything random.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Bound SPEC's worst margin by every method there is time for, from IBP to exact: one table.

    Small networks are bounded in exact rationals. What is known when time is up is shown; the
    exit code is 21 if that is nothing, and 22 after an interrupt.
    """
    with _Failures() as failures:
        options = Options(seconds, device, seed=seed, started=context.obj)
        for path in filter(None, (json_file, plot)):
            results.check_writable(path)
        failures.report = report = _Report(net, spec, options, json_file, None)
        from hullmark.ladder.climb import Climb, Plan
        from hullmark.ladder.picture import check_drawable

        if plot is not None:
            check_drawable(plot)
        display = display_for(sys.stderr, quiet)
        plan = Plan(None if methods is None else tuple(methods.split(",")), output=output)
        raise typer.Exit(_ladder(Climb(net, spec, plan, options, display), display, report, plot))


@app.command()
def info(net: Net) -> None:
    """Say what NET is made of: operations, neurons, parameters, shapes, opset."""
    with _Failures():
        from hullmark.verify import info as describe

        _tell_info(describe(net))


class _Report:
    """Where the end of one run goes: the streams and the files asked for."""

    def __init__(
        self,
        net: Path,
        spec: Path,
        options: Options,
        json_file: Path | None,
        result_file: Path | None,
    ) -> None:
        self.net, self.spec, self.options = net, spec, options
        self._json_file, self._result_file = json_file, result_file
        self.written = False

    def write(self, record: results.Record, competition: str) -> None:
        """Write the files that were asked for."""
        if self._result_file is not None:
            results.write_atomically(self._result_file, competition)
        if self._json_file is not None:
            asked = results.run_record(str(self.net), str(self.spec), self.options)
            results.write_atomically(self._json_file, results.json_text(asked | record))
        self.written = True

    def verdict(self, verdict: Verdict) -> None:
        """Write the files for `verdict`."""
        self.write(results.verdict_record(verdict), results.competition_text(verdict))


class _Failures(contextlib.AbstractContextManager["_Failures"]):
    """Turns whatever escapes a command into one line on stderr and an exit code."""

    def __init__(self) -> None:
        self.report: _Report | None = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, typer.Exit | SystemExit):
            return
        code = complain(error)
        # What has been found and written stays.
        if self.report is not None and not self.report.written:
            with contextlib.suppress(BadInput):
                self.report.write(results.error_record(error, code), "error\n")
        raise typer.Exit(code) from None


def _verify(report: _Report, quiet: bool) -> int:
    deadline = report.options.deadline()
    display = display_for(sys.stderr, quiet)
    recorder = Recorder(display)

    def last_words(reason: Reason) -> int:
        detail = "the search did not end by itself"
        verdict = recorder.unknown(reason, deadline.elapsed(), detail)
        report.verdict(verdict)
        code = results.exit_code(verdict)
        exit_soon(code)
        _tell_verdict(verdict, display)
        return code

    with Guard(deadline, last_words) as guard:
        try:
            from hullmark.verify import verify_with

            verdict = verify_with(report.net, report.spec, report.options, recorder)
        except BaseException as error:
            # Native code that is interrupted, as while a module loads, raises errors of its own.
            if not (guard.interrupted or isinstance(error, KeyboardInterrupt)):
                raise
            verdict = recorder.unknown("interrupted", deadline.elapsed(), "")
        finally:
            guard.release()
            display.close()
        report.verdict(verdict)
    _tell_verdict(verdict, display)
    return results.exit_code(verdict)


def _tell_verdict(verdict: Verdict, display: Display) -> None:
    display.close()
    try:
        say(sys.stdout, results.headline(verdict))
    except BadInput as error:
        # The exit code is the verdict's.
        complain(error)


def _tell_bounds(report: "BoundReport") -> None:
    for line in results.bound_lines(report):
        say(sys.stdout, line)
    say(sys.stdout, results.bound_headline(report))


def _ladder(climb: "Climb", display: Display, report: _Report, plot: Path | None) -> int:
    def draw(rungs: "Ladder") -> None:
        if plot is not None and rungs.rungs:
            save(rungs, plot)

    def tell(rungs: "Ladder") -> None:
        display.close()
        wide = sys.stdout is not None and sys.stdout.isatty()
        say(sys.stdout, rungs.table(shutil.get_terminal_size().columns if wide else None))

    def write(rungs: "Ladder") -> None:
        report.write(rungs.record(), "")

    def last_words(reason: Reason) -> int:
        rungs = climb.so_far("timeout" if reason == "timeout" else "interrupted")
        code = _each(rungs, write, draw)
        exit_soon(code)
        return _each(rungs, tell) or code

    from hullmark.ladder.picture import save

    with Guard(report.options.deadline(), last_words) as guard:
        try:
            rungs = climb.run()
        except BaseException as error:
            # Native code that is interrupted, as while a module loads, raises errors of its own.
            if not (guard.interrupted or isinstance(error, KeyboardInterrupt)):
                raise
            rungs = climb.so_far("interrupted")
        finally:
            guard.release()
            display.close()
    return _each(rungs, write, tell, draw)


def _each(rungs: "Ladder", *ways: Callable[["Ladder"], None]) -> int:
    """Tell a ladder in several ways, whatever becomes of the others; the exit code."""
    code = 0
    for way in ways:
        try:
            way(rungs)
        except Exception as error:
            code = complain(error)
    if rungs.ended == "interrupted" or (rungs.ended == "timeout" and not rungs.rungs):
        return results.EXIT_UNKNOWN[rungs.ended]
    return code


def _tell_info(facts: "NetworkInfo") -> None:
    rows = {
        "network": facts.source,
        "opset": facts.opset,
        "input": f"{facts.input_shape} {facts.dtype}",
        "output": f"{facts.output_shape}",
        "operations": ", ".join(f"{count} {name}" for name, count in facts.operations.items()),
        "neurons": f"{facts.neurons:,}",
        "parameters": f"{facts.parameters:,}",
    }
    for name, value in rows.items():
        if value is not None:
            say(sys.stdout, f"{name:<12}{value}")


app.add_typer(lab.group(_Failures), name="lab")
