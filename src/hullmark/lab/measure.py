"""What a small network does, and what relaxations say of it: sets, bounds and regions."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hullmark import results
from hullmark.errors import BadInput, Unsupported

if TYPE_CHECKING:
    from hullmark.lab.ask import Asked
    from hullmark.lab.tell import Table
    from hullmark.theory import Polytope, Relaxed

Net = Annotated[Path, typer.Argument(metavar="NET", help="An ONNX file of a small network.")]
Spec = Annotated[
    Path | None, typer.Argument(metavar="SPEC", help="A VNN-LIB file; its box of inputs is taken.")
]
Box = Annotated[
    str | None,
    typer.Option(metavar="L:U,L:U", help="The inputs instead of SPEC, e.g. 0:1,-1/2:0.25."),
]
Objective = Annotated[
    str | None,
    typer.Option(metavar="C,C", help="Ask about this sum of outputs instead of every output."),
]
Json = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write all numbers exactly.")
]
Seconds = Annotated[float, typer.Option(metavar="S", help="End if it takes longer.")]
K = Annotated[int | None, typer.Option("--k", help="Neurons that are relaxed together.")]
Groups = Annotated[
    str | None,
    typer.Option(metavar="G", help="Instead of --k, e.g. 0,1;2,3/0,1: layers by /, groups by ;."),
]
Output = Annotated[int, typer.Option(metavar="J", help="The output.")]

GROUPED = ("krelu", "mk", "mko")
"""Relaxations that take --k or --groups."""

MOST_LINES = 40
"""So many regions are listed at most."""


def exact_range(
    net: Net,
    spec: Spec = None,
    box: Box = None,
    objective: Objective = None,
    json_file: Json = None,
    seconds: Seconds = 60,
) -> None:
    """The exact range of every output, with inputs that take its ends; and A(f, X)."""
    from hullmark.lab.ask import asked
    from hullmark.lab.tell import line
    from hullmark.theory import relax

    _writable(json_file)
    question = asked(net, spec, box, objective)
    found = relax(question.net, question.whole, None, "exact")
    _keep(json_file, net, [found])
    _tell(_table(), found)
    line(f"{found.rows:,} regions, A(f, X)")


def bounds(  # noqa: PLR0913 (the parser takes one parameter for each option)
    net: Net,
    spec: Spec = None,
    box: Box = None,
    relaxation: Annotated[
        list[str] | None,
        typer.Option(
            help="May be repeated: ibp, deepz, deeppoly0, deeppoly1, deeppoly, triangle, krelu, "
            "multivariate, mk, mko, p1, pr, exact."
        ),
    ] = None,
    k: K = None,
    groups: Groups = None,
    window: Annotated[
        int | None, typer.Option(metavar="R", help="Of pr: how many consecutive layers.")
    ] = None,
    objective: Objective = None,
    project: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Draw what is allowed for two outputs, or for one input and one output.",
        ),
    ] = None,
    json_file: Json = None,
    seconds: Seconds = 60,
) -> None:
    """The bounds of relaxations, exactly as defined, and whether a real input attains them."""
    from hullmark.lab.ask import asked, parse_groups
    from hullmark.theory import relax

    names = relaxation or ["p1"]
    _writable(json_file)
    _drawable(project)
    chosen = parse_groups(groups)
    _check_names(names, k, chosen, window)
    question = asked(net, spec, box, objective)
    _check_groups(names, k, chosen, question)
    if project is not None:
        _projected(question)
    page = _table()
    found: list[Relaxed] = []
    for name in names:
        grouped = len(names) == 1 or name in ("krelu", "mk", "mko")
        options: dict[str, Any] = {"k": k, "groups": chosen} if grouped else {}
        if len(names) == 1 or name == "pr":
            options["window"] = window
        found.append(relax(question.net, question.whole, None, name, **options))
        # What is known is told and kept, whatever becomes of the next one.
        _keep(json_file, net, found)
        _tell(page, found[-1])
    if project is not None:
        _draw(question, found, project)


def regions(
    net: Net,
    spec: Spec = None,
    box: Box = None,
    output: Output = 0,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw them, of networks with one or two inputs."),
    ] = None,
    seconds: Seconds = 60,
) -> None:
    """The activation regions, with the signs of all ReLUs and an output's affine function."""
    from hullmark.lab.ask import asked
    from hullmark.lab.tell import affine, line, table
    from hullmark.theory import regions as all_regions

    _drawable(plot)
    question = asked(net, spec, box)
    known(output, question.net.output_size)
    if plot is not None and question.net.input_size > 2:
        raise BadInput(
            "only regions of one or two inputs can be drawn, the network has "
            f"{question.net.input_size}"
        )
    pieces = all_regions(question.net, question.whole)
    rows: list[Sequence[str]] = []
    for piece in pieces[:MOST_LINES]:
        signs = "/".join("".join("+" if on else "-" for on in layer) for layer in piece.pattern)
        rows.append((signs or "none", affine(piece.weight[output], piece.bias[output])))
    table(("ReLUs", f"Y_{output}"), rows)
    if len(pieces) > MOST_LINES:
        line(f"... and {len(pieces) - MOST_LINES:,} more")
    line(f"{len(pieces):,} regions, A(f, X)")
    if plot is not None:
        from hullmark.theory.picture import draw_regions, save

        save(draw_regions(pieces, output), plot)


def known(output: int, outputs: int) -> None:
    """Refuse an output that the network has not."""
    if not 0 <= output < outputs:
        raise BadInput(f"there is no output {output}; the network has {outputs}, from 0 on")


def _check_names(names: Sequence[str], k: int | None, groups: Any, window: int | None) -> None:
    """Refuse at once what a later one of several relaxations would be refused for."""
    from hullmark.theory.joint import Choice
    from hullmark.theory.relaxations import RELAXATIONS

    for name in names:
        if name not in RELAXATIONS:
            raise BadInput(f"no relaxation {name!r}; there are {', '.join(RELAXATIONS)}")
    grouped = [name for name in names if name in GROUPED]
    if grouped:
        Choice(k, groups)
    elif k is not None or groups is not None:
        raise BadInput(f"{names[0]} takes no k and no groups")
    if ("pr" in names) != (window is not None):
        raise BadInput("'pr' needs a window, and nothing else takes one")


def _check_groups(names: Sequence[str], k: int | None, groups: Any, question: "Asked") -> None:
    """Refuse groups that do not fit the network."""
    from hullmark.theory.joint import Choice

    if any(name in GROUPED for name in names):
        for depth, layer in enumerate(question.net.layers):
            Choice(k, groups).of(depth, layer)


def _table() -> "Table":
    from hullmark.lab.tell import Table

    return Table(("relaxation", "bound", "exactly", "decimal", "attained"))


def _tell(page: "Table", found: "Relaxed") -> None:
    """One row for each end of each output under a relaxation."""
    from hullmark.lab.tell import decimal, exactly

    taken = _taken(found)
    rows: list[Sequence[str]] = []
    for output, ends in enumerate(found.bounds):
        for place, side in enumerate(("lower", "upper")):
            value = ends[place]
            row = (exactly(value), decimal(value, side), taken[output][place])
            rows.append((found.relaxation, f"Y_{output} {side}", *row))
    page.add(rows)


def _taken(found: "Relaxed") -> list[list[str]]:
    """For each output the inputs at which its bounds are taken, in words."""
    from hullmark.lab.tell import point

    try:
        attained = found.attained
    except Unsupported:
        return [["not known", "not known"] for _ in found.bounds]
    return [["by no input" if x is None else f"at {point(x)}" for x in pair] for pair in attained]


def _keep(path: Path | None, net: Path, found: Sequence["Relaxed"]) -> None:
    if path is not None:
        record = {
            "format": results.JSON_FORMAT,
            "network": str(net),
            "relaxations": [_record(each) for each in found],
        }
        results.write_atomically(path, results.json_text(record))


def _record(found: "Relaxed") -> results.Record:
    """Bounds and the inputs that attain them; fractions as text, null where there is none.

    A number with a `~` before it is a decimal, as the fraction is too long; of bounds it is
    rounded outwards, and `rounded` says that there is one.
    """
    from hullmark.lab.tell import in_full

    def entries(x: Any) -> list[str] | None:
        return None if x is None else [in_full(v) for v in x]

    record: results.Record = {
        "relaxation": found.relaxation,
        "bounds": [[in_full(low, "lower"), in_full(high, "upper")] for low, high in found.bounds],
        "rows": found.rows,
    }
    record["rounded"] = any(text.startswith("~") for pair in record["bounds"] for text in pair)
    try:
        record["attained"] = [[entries(low), entries(high)] for low, high in found.attained]
    except Unsupported:
        record["attained"] = None
    return record


def _writable(*paths: Path | None) -> None:
    for path in paths:
        if path is not None:
            results.check_writable(path)


def _drawable(path: Path | None) -> None:
    """Refuse a picture that could not be written, before anything is computed for it."""
    if path is not None:
        from hullmark.ladder.picture import check_drawable

        check_drawable(path)
        results.check_writable(path)


def _projected(question: "Asked") -> str:
    """What is drawn of a network: its outputs, or its graph."""
    inputs, outputs = question.net.input_size, question.net.output_size
    if outputs != 2 and (inputs, outputs) != (1, 1):
        raise BadInput(
            "a projection is drawn for two outputs, or for one input and one output; the network "
            f"has {inputs} inputs and {outputs} outputs"
        )
    return "outputs" if outputs == 2 else "graph"


def _draw(question: "Asked", found: Sequence["Relaxed"], path: Path) -> None:
    """The projections of relaxations, one upon the other, and the real set if it is in reach."""
    from hullmark.theory.picture import canvas, draw_projections, legend_below, save

    what = _projected(question)
    figure, (axes,) = canvas(6.0, 5.0)
    bodies = {each.relaxation: each.project(what) for each in found}
    draw_projections(axes, bodies, _real(question, what))
    names = ("$y_0$", "$y_1$") if what == "outputs" else ("$x_0$", "$y_0$")
    axes.set(xlabel=names[0], ylabel=names[1])
    legend_below(axes)
    save(figure, path)


def _real(question: "Asked", what: str) -> "list[Polytope]":
    from hullmark.theory import Polytope
    from hullmark.theory import regions as all_regions

    try:
        pieces = all_regions(question.net, question.whole)
    except Unsupported:
        return []
    if what == "outputs":
        return [piece.image for piece in pieces]
    ends = ((piece, piece.cell.vertices) for piece in pieces)
    return [Polytope.hull([[*x, *(p.weight @ x + p.bias)] for x in xs]) for p, xs in ends]
