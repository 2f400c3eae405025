"""Networks with a purpose: the commands that make barriers, encodings and rewritten networks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hullmark import results
from hullmark.errors import BadInput
from hullmark.lab.measure import Box, Net, Output, Seconds, Spec

if TYPE_CHECKING:
    from hullmark.theory import ExactNet, Polytope

Out = Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as an ONNX file.")]

KINDS = ("max", "min", "function")


def barrier(  # noqa: PLR0913 (the parser takes one parameter for each option)
    gap: Annotated[str, typer.Option("--T", metavar="T", help="How far relaxations are off.")],
    window: Annotated[int, typer.Option(metavar="R", help="Of the P_r that fails.")] = 1,
    layers: Annotated[
        int | None, typer.Option(metavar="L", help="Affine layers; at least R + 2.")
    ] = None,
    activation: Annotated[str, typer.Option(help="relu, tanh or sigmoid.")] = "relu",
    epsilon: Annotated[
        str | None, typer.Option(metavar="E", help="Of tanh and sigmoid: the range around 0.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write it there as barrier.onnx and .vnnlib."),
    ] = None,
    seconds: Seconds = 60,
) -> None:
    """A network that is 0 on [-1, 1] (or nearly), while P_r says that it may be -T."""
    from hullmark.lab.ask import parse_number
    from hullmark.lab.tell import line
    from hullmark.theory import files
    from hullmark.theory.barrier import barrier as sharp
    from hullmark.theory.barrier import smooth_barrier

    size = parse_number(gap, "--T")
    if out is not None:
        _fillable(out)
    made: Any
    if activation == "relu":
        if epsilon is not None:
            raise BadInput("a relu barrier is 0 everywhere and takes no --epsilon")
        made = sharp(size, window, layers)
    else:
        if window != 1 or layers is not None:
            raise BadInput(f"a {activation} barrier has 3 layers and takes no window")
        narrow = () if epsilon is None else (parse_number(epsilon, "--epsilon"),)
        made = smooth_barrier(size, activation, *narrow)  # type: ignore[arg-type]
        if not made.check():
            raise ArithmeticError("the certificate of a barrier does not hold")
    # First of all: what is told of it may take long.
    if out is not None:
        for path in files.write(made, out):
            line(f"wrote {path}")
    (_tell_sharp if activation == "relu" else _tell_smooth)(made)


def _fillable(folder: Path) -> None:
    """Refuse a folder that the two files could not be written into, without making it."""
    for path in (folder, *folder.parents):
        if path.is_dir():
            for name in ("barrier.onnx", "barrier.vnnlib"):
                results.check_writable(path / name)
            return
        if path.exists():
            raise BadInput(f"{path}: cannot write into it: it is no folder")


def _tell_sharp(made: Any) -> None:
    """What the relaxations of a ReLU barrier really give, the windows that matter."""
    from hullmark.lab.tell import Table, exactly
    from hullmark.theory import bounds

    windows = sorted({1, made.window, made.layers - 2, made.layers - 1})
    asked: list[tuple[str, dict[str, Any]]] = [("triangle", {})]
    asked += [(f"p{w}", {"window": w}) for w in windows] + [("exact", {})]
    page = Table(("relaxation", "lower", "upper"))
    for name, options in asked:
        relaxation = "pr" if options else name
        ((low, high),) = bounds(made.net, made.lower, made.upper, relaxation, **options)
        page.add([(name, exactly(low), exactly(high))])


def _tell_smooth(made: Any) -> None:
    from hullmark.lab.tell import decimal, line

    low, high = decimal(made.range[0], "lower"), decimal(made.range[1], "upper")
    line(f"exact range within [{low}, {high}]")
    line(f"lower bound of P_1 at most {decimal(made.phantom.most, 'upper')}, by a phantom point")


def encode(  # noqa: PLR0913 (the parser takes one parameter for each option)
    kind: Annotated[str, typer.Argument(metavar="KIND", help="max, min or function.")],
    dimension: Annotated[int, typer.Option(metavar="D", help="Of max and min.")] = 2,
    box: Annotated[str, typer.Option(metavar="L:U", help="Of max and min: the domain.")] = "0:1",
    points: Annotated[
        str | None, typer.Option(metavar="X:Y,X:Y", help="Of function: its knots and values.")
    ] = None,
    relaxation: Annotated[
        str,
        typer.Option(help="Of function: which is exact: ibp, deeppoly0, deeppoly1, triangle, p1."),
    ] = "p1",
    out: Out = None,
    seconds: Seconds = 60,
) -> None:
    """A network for a piecewise linear function, on which a relaxation is exact."""
    from hullmark.lab.ask import parse_box, parse_points, polytope

    _writable(out)
    if kind not in KINDS:
        raise BadInput(f"no encoding {kind!r}; there are {', '.join(KINDS)}")
    if (points is None) == (kind == "function"):
        raise BadInput("a function needs --points x:y,x:y, and nothing else takes them")
    if points is not None:
        from hullmark.theory.cpwl import Cpwl
        from hullmark.theory.univariate import encode as encoded

        function = Cpwl.through(parse_points(points))
        whole = polytope([function.domain])
        net = encoded(function, relaxation)
    else:
        from hullmark.theory.encodings import nested_max, nested_min

        if dimension < 2:
            raise BadInput(f"--dimension is {dimension}; a {kind} is of at least two inputs")
        ends = parse_box(box)
        ends = ends * dimension if len(ends) == 1 else ends
        whole = polytope(ends)
        net = (nested_max if kind == "max" else nested_min)(dimension, whole)
    _write(net, out)
    _tell_net(net, whole)


def rewrite(  # noqa: PLR0913 (the parser takes one parameter for each option)
    net: Net,
    spec: Spec = None,
    box: Box = None,
    form: Annotated[
        str, typer.Option(help="Which bound of P_1 is made exact: lower or upper.")
    ] = "lower",
    output: Output = 0,
    out: Out = None,
    seconds: Seconds = 60,
) -> None:
    """The same function as another network, on which a bound of P_1 is exact on every X inside."""
    from hullmark.lab.ask import asked
    from hullmark.lab.measure import known
    from hullmark.lab.tell import line
    from hullmark.theory.rewrite import lower_exact, upper_exact

    _writable(out)
    if form not in ("lower", "upper"):
        raise BadInput(f"the form is 'lower' or 'upper', not {form!r}")
    question = asked(net, spec, box)
    known(output, question.net.output_size)
    before = question.net.selected(output)
    after = (lower_exact if form == "lower" else upper_exact)(before, question.whole)
    _write(after, out)
    line("before")
    _tell_net(before, question.whole)
    line("after")
    _tell_net(after, question.whole)


def _tell_net(net: "ExactNet", whole: "Polytope") -> None:
    """The sizes of a network's layers, and what a few relaxations give, each once it is known."""
    from hullmark.lab.tell import Table, exactly, line
    from hullmark.theory import bounds

    sizes = [net.input_size, *(layer.outputs for layer in net.layers), net.output_size]
    line(f"values in each layer   {'-'.join(map(str, sizes))}")
    page = Table(("relaxation", "lower", "upper"))
    for name in ("ibp", "deeppoly0", "deeppoly1", "triangle", "p1", "exact"):
        ((low, high),) = bounds(net, whole, None, name)
        page.add([(name, exactly(low), exactly(high))])


def _write(net: "ExactNet", out: Path | None) -> None:
    if out is None:
        return
    from hullmark.lab.tell import line
    from hullmark.network.onnx.write import write_onnx

    hidden: list[tuple[Any, Any]] = [(layer.weight, layer.bias) for layer in net.layers]
    if any(layer.keep for layer in net.layers):
        raise BadInput("a network with skip connections is not written")
    write_onnx(out, [*hidden, (net.weight, net.bias)])
    line(f"wrote {out}")


def _writable(out: Path | None) -> None:
    if out is not None:
        results.check_writable(out)
