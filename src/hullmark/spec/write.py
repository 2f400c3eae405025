"""VNN-LIB 1.0 files: one case of a property, its numbers written out in full."""

from fractions import Fraction
from pathlib import Path

from hullmark.errors import BadInput
from hullmark.exact import figures
from hullmark.spec.numbers import as_fraction
from hullmark.spec.property import Case, Constraint


def write_vnnlib(path: str | Path, case: Case) -> None:
    """Write the property whose unsafe set is one case: a box, and constraints that hold together.

    Arguments:
        path: the file.
        case: what is unsafe.

    Raises:
        BadInput: if a number has no finite decimal, or the file cannot be written.

    Trust: exact: read back, the file says the same.
    """
    box = case.box
    lines = [f"(declare-const X_{i} Real)" for i in range(box.size)]
    lines += [f"(declare-const Y_{j} Real)" for j in range(case.output_size)]
    for i, (low, high) in enumerate(zip(box.exact_lower, box.exact_upper, strict=True)):
        lines.append(f"(assert (>= X_{i} {decimal(as_fraction(low))}))")
        lines.append(f"(assert (<= X_{i} {decimal(as_fraction(high))}))")
    lines += [f"(assert {_compared(constraint)})" for constraint in case.constraints]
    try:
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    except OSError as error:
        raise BadInput(f"{path}: cannot be written: {error.strerror}") from None


def decimal(value: Fraction) -> str:
    """A number in full, without an exponent.

    Raises:
        BadInput: if its denominator has other primes than 2 and 5.

    Trust: exact.
    """
    rest, powers = value.denominator, {2: 0, 5: 0}
    for prime in powers:
        while rest % prime == 0:
            rest //= prime
            powers[prime] += 1
    if rest > 1:
        told = figures(value, 60) or "a number of over 60 figures"
        raise BadInput(f"{told} has no finite decimal, which VNN-LIB files are written in")
    places = max(powers.values())
    if figures(value, 4000) is None or places > 4000:
        raise BadInput("a number has over 4000 digits")
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    sign = "-" if value < 0 else ""
    whole = digits[: len(digits) - places]
    return f"{sign}{whole}.{digits[-places:]}" if places else f"{sign}{whole}"


def _compared(constraint: Constraint) -> str:
    named = [(f"X_{i}", c) for i, c in constraint.x] + [(f"Y_{j}", c) for j, c in constraint.y]
    strict = "" if constraint.strict else "="
    if len(named) == 1 and abs(named[0][1]) == 1:
        # The form that the simplest readers know.
        name, sign = named[0]
        operator = "<" if sign == 1 else ">"
        return f"({operator}{strict} {name} {decimal(sign * constraint.bound)})"
    terms = [name if c == 1 else f"(* {decimal(c)} {name})" for name, c in named] or ["0"]
    total = terms[0] if len(terms) == 1 else f"(+ {' '.join(terms)})"
    return f"(<{strict} {total} {decimal(constraint.bound)})"
