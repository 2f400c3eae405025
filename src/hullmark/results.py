"""How a verdict is told: a line, an exit code, a competition result, a JSON record."""

import json
import math
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from hullmark.errors import BadInput, HullmarkError
from hullmark.verdict import Options, Proved, Reason, Refuted, Unknown, Verdict, Witness

if TYPE_CHECKING:
    from hullmark.methods.report import BoundReport

Record: TypeAlias = dict[str, Any]

EXIT_PROVED = 0
EXIT_USAGE = 2
EXIT_REFUTED = 10
EXIT_ROUNDED = 11
EXIT_INTERNAL = 70
EXIT_UNKNOWN: dict[Reason, int] = {
    "incomplete": 20,
    "timeout": 21,
    "interrupted": 22,
    "memory": 23,
}

JSON_FORMAT = 1
LIBRARIES = ("numpy", "torch", "onnx", "onnxruntime")


def exit_code(verdict: Verdict) -> int:
    """The code that the command line ends with."""
    match verdict:
        case Proved():
            return EXIT_PROVED
        case Refuted():
            return EXIT_ROUNDED if verdict.up_to_rounding else EXIT_REFUTED
        case Unknown():
            return EXIT_UNKNOWN[verdict.reason]


def floor_text(value: float, digits: int = 3) -> str:
    """`value` to a few digits, rounded down so that a proven lower bound stays one."""
    return _rounded_text(value, digits, ROUND_FLOOR)


def ceiling_text(value: float, digits: int = 3) -> str:
    """`value` to a few digits, rounded up so that a proven upper bound stays one."""
    return _rounded_text(value, digits, ROUND_CEILING)


def _rounded_text(value: float, digits: int, rounding: str) -> str:
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: "-∞"}.get(value, "?")
    rounded = Context(prec=digits, rounding=rounding).create_decimal(Decimal(value))
    plain = not rounded or -5 <= rounded.adjusted() < 7
    return f"{rounded.normalize():{'f' if plain else 'e'}}"


def headline(verdict: Verdict) -> str:
    """The verdict in one line for a person, e.g. `proved in 3.2 s   worst margin ≥ 0.0127`."""
    parts: list[str] = []
    match verdict:
        case Proved():
            parts.append(f"proved in {verdict.seconds:.1f} s")
            if verdict.margin > 0:
                parts.append(f"worst margin ≥ {floor_text(verdict.margin)}")
            else:
                parts.append("worst margin > 0")
            parts.append(_count(verdict.stats.leaves, "leaf", "leaves"))
        case Refuted():
            witness = verdict.witness
            parts.append(f"refuted in {verdict.seconds:.1f} s")
            parts.append(f"case {witness.case}, margin {witness.margin:.3g}")
            if verdict.up_to_rounding:
                parts.append(f"up to input rounding (at most {witness.rounding:.3g} outside)")
            parts.append(f"by {verdict.stats.method}")
        case Unknown():
            parts.append(f"unknown ({verdict.reason}) after {verdict.seconds:.1f} s")
            if verdict.lower > -math.inf:
                parts.append(f"worst margin ≥ {floor_text(verdict.lower)}")
            if verdict.open_domains:
                parts.append(_count(verdict.open_domains, "open domain", "open domains"))
            if verdict.detail:
                parts.append(verdict.detail)
    return "   ".join(parts)


def competition_text(verdict: Verdict) -> str:
    """The verdict as VNN-COMP reads it: `unsat`, `sat` and the witness, `timeout` or `unknown`.

    Trust: the numbers are those of the witness exactly; read as binary64 they are the same.
    """
    match verdict:
        case Proved():
            return "unsat\n"
        case Refuted(witness=w):
            pairs = [f"(X_{i} {float(v)!r})" for i, v in enumerate(w.input)]
            pairs += [f"(Y_{j} {float(v)!r})" for j, v in enumerate(w.output)]
            return "sat\n(" + "\n".join(pairs) + ")\n"
        case Unknown(reason="timeout"):
            return "timeout\n"
        case Unknown():
            return "unknown\n"


def verdict_record(verdict: Verdict) -> Record:
    """The verdict as plain values; infinities become null, which JSON has no other word for."""
    stats = verdict.stats
    record: Record = {
        "verdict": type(verdict).__name__.lower(),
        "exit_code": exit_code(verdict),
        "seconds": verdict.seconds,
        "stats": {
            "method": stats.method,
            "domains": stats.domains,
            "leaves": stats.leaves,
            "attack_points": stats.attack_points,
        },
    }
    match verdict:
        case Proved():
            record["margin"] = _finite(verdict.margin)
        case Refuted():
            record["up_to_rounding"] = verdict.up_to_rounding
            record["witness"] = _witness_record(verdict.witness)
        case Unknown():
            record["reason"] = verdict.reason
            record["lower"] = _finite(verdict.lower)
            record["open_domains"] = verdict.open_domains
            record["detail"] = verdict.detail
    return record


def bound_headline(report: "BoundReport") -> str:
    """What bounding without search ended with, in one line for a person."""
    ended = "in" if report.complete else "stopped after"
    parts = [f"{report.method} {ended} {report.seconds:.2f} s"]
    if report.proved and not report.margin > 0:
        parts.append("worst margin > 0")
    elif not math.isnan(report.margin):
        parts.append(f"worst margin ≥ {floor_text(report.margin)}")
    if report.rows:
        parts.append(_count(report.rows, "joint row", "joint rows"))
    worst = int(report.margins.argmin()) if len(report.margins) else -1
    if any(a.end == "margin" and a.index == worst for a in report.attained):
        parts.append("attained by an input")
    return "   ".join(parts)


def bound_lines(report: "BoundReport") -> Iterator[str]:
    """One line for each output, with which of its ends are known to be exact."""
    exact = {(a.end, a.index) for a in report.attained}
    for j, (low, high) in enumerate(zip(report.lower, report.upper, strict=True)):
        line = f"Y_{j}   [{floor_text(low, 6)}, {ceiling_text(high, 6)}]"
        ends = [end for end in ("lower", "upper") if (end, j) in exact]
        yield f"{line}   {' and '.join(ends)} attained" if ends else line


def bound_record(report: "BoundReport") -> Record:
    """The bounds as plain values; infinities become null."""
    return {
        "method": report.method,
        "seconds": report.seconds,
        "complete": report.complete,
        "proved": report.proved,
        "margin": _finite(report.margin),
        "margins": [_finite(m) for m in report.margins.tolist()],
        "lower": [_finite(v) for v in report.lower.tolist()],
        "upper": [_finite(v) for v in report.upper.tolist()],
        "rows": report.rows,
        "attained": [
            {"end": a.end, "index": a.index, "input": a.input.tolist(), "gap": _finite(a.gap)}
            for a in report.attained
        ],
    }


def error_record(error: BaseException, code: int) -> Record:
    """What is kept of a run that ended in an error."""
    return {
        "verdict": "error",
        "exit_code": code,
        "error": {"type": type(error).__name__, "message": str(error)},
    }


def run_record(network: str, prop: str, options: Options) -> Record:
    """What was asked, and with which versions."""
    return {
        "format": JSON_FORMAT,
        "network": network,
        "property": prop,
        "options": {
            "timeout": options.timeout,
            "device": options.device,
            "dtype": options.dtype,
            "seed": options.seed,
            "memory": options.memory,
        },
        "versions": {
            "hullmark": _version("hullmark"),
            "python": platform.python_version(),
            **{name: _version(name) for name in LIBRARIES},
        },
        "platform": f"{sys.platform} {platform.machine()}",
    }


def json_text(record: Record) -> str:
    """A record as JSON; floats are written so that they read back exactly."""
    return json.dumps(record, indent=2, allow_nan=False) + "\n"


def error_message(error: BaseException) -> tuple[str, int]:
    """One line for stderr, and the exit code."""
    if isinstance(error, HullmarkError):
        return f"hullmark: error: {_one_line(error)}", error.exit_code
    text = f"{type(error).__name__}: {_one_line(error)}"
    return f"hullmark: internal error: {text} (please report this)", EXIT_INTERNAL


def check_writable(path: Path) -> None:
    """Make sure, before anything long starts, that a result can be written at `path`.

    Raises:
        BadInput: if it cannot; names the path and the reason.
    """
    if path.is_dir():
        raise BadInput(f"{path}: cannot write a result: it is a folder")
    try:
        target = _file_at(path)
        if target is None:
            if not os.access(path, os.W_OK):
                raise BadInput(f"{path}: cannot write a result: no permission")
            return
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        os.close(descriptor)
        Path(name).unlink()
    except OSError as error:
        raise BadInput(f"{path}: cannot write a result: {error.strerror}") from None


def write_atomically(path: Path, text: str) -> None:
    """Put `text` at `path` in one step: a reader sees the old file or the whole new one.

    A symbolic link stays, and what it points to is written. What is no regular file, like a
    device, is written into.

    Raises:
        BadInput: if it cannot be written; names the path and the reason.
    """
    try:
        target = _file_at(path)
        if target is None:
            with path.open("w", encoding="utf-8", newline="\n") as device:
                device.write(text)
            return
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with open(descriptor, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            Path(name).chmod(0o666 & ~_umask())
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise BadInput(f"{path}: cannot write a result: {error.strerror}") from None


def _file_at(path: Path) -> Path | None:
    """The regular file, there or not yet, that `path` leads to; None if it is something else."""
    if str(path) == "-":
        raise BadInput("-: cannot write a result: it goes into a file, which needs a name")
    if path.exists() and not path.is_file():
        return None
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise BadInput(f"{path}: cannot write a result: its links lead back to themselves")
    return target


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _witness_record(witness: Witness) -> Record:
    return {
        "input": [float(v) for v in witness.input],
        "output": [float(v) for v in witness.output],
        "dtype": str(witness.input.dtype),
        "case": witness.case,
        "margin": _finite(witness.margin),
        "rounding": witness.rounding,
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or "no message"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
