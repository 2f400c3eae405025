"""Searches on small networks: mined bounds, and partitions of the input set."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hullmark import results
from hullmark.errors import BadInput
from hullmark.lab.measure import Box, Groups, K, Net, Output, Seconds, Spec, known

if TYPE_CHECKING:
    from hullmark.theory import ExactNet
    from hullmark.theory.partition import P1Count


def mine(  # noqa: PLR0913 (the parser takes one parameter for each option)
    net: Net,
    spec: Spec = None,
    box: Box = None,
    relaxation: Annotated[str, typer.Option(help="p1 or mk.")] = "p1",
    k: K = None,
    groups: Groups = None,
    output: Output = 0,
    side: Annotated[
        str | None, typer.Option(help="lower or upper; both, each in half the time, if not given.")
    ] = None,
    tolerance: Annotated[
        str,
        typer.Option(metavar="E", help="The gap at which to stop, relative to a limit above 1."),
    ] = "1e-6",
    seconds: Seconds = 60,
) -> None:
    """The bound of P_1 or M_k by mined inequalities, where `bounds` takes too long."""
    started = time.perf_counter()
    from hullmark.lab.ask import asked, parse_groups, parse_number
    from hullmark.lab.tell import Table, decimal, point
    from hullmark.theory.mining import mine as mined

    gap, chosen = parse_number(tolerance, "--tolerance"), parse_groups(groups)
    question = asked(net, spec, box)
    known(output, question.net.output_size)
    sides = ("lower", "upper") if side is None else (side,)
    page = Table(("bound", "proved", "limit", "ended", "cuts", "s", ""))
    mining = False
    for done, end in enumerate(sides):
        left = max(seconds - (time.perf_counter() - started), 0.01)
        found = mined(
            question.net,
            question.whole,
            None,
            relaxation,
            k=k,
            groups=chosen,
            output=output,
            side=end,
            tolerance=gap,
            seconds=left / (len(sides) - done),
        )
        attained = found.certificate == "attained"
        limit = decimal(found.limit, "upper" if end == "lower" else "lower")
        mining = mining or found.nodes > 0 or found.certificate != "time"
        row = (
            f"Y_{output} {end}",
            decimal(found.bound, end),
            limit if found.gap else "the same",
            found.certificate,
            f"{len(found.cuts):,}",
            f"{found.seconds:.1f}",
            f"at {point(found.witness)}" if attained else "",
        )
        page.add([row])
    if not mining:
        # Its bounds are those of intervals, or little better.
        raise typer.Exit(results.EXIT_UNKNOWN["timeout"])


def partition(  # noqa: PLR0913 (the parser takes one parameter for each option)
    net: Net,
    spec: Spec = None,
    box: Box = None,
    relaxation: Annotated[str, typer.Option(help="Bounds the leaves.")] = "triangle",
    split: Annotated[str, typer.Option(help="inputs, polytopes or signs.")] = "signs",
    order: Annotated[
        str,
        typer.Option(
            help="first, last or widest; or a list, 1.0,0.2 of ReLUs as layer.neuron from 0, "
            "0,1 of inputs."
        ),
    ] = "first",
    k: K = None,
    output: Output = 0,
    limit: Annotated[int, typer.Option(metavar="N", help="Give up at so many leaves.")] = 1000,
    seconds: Seconds = 60,
) -> None:
    """Into how many pieces X must be cut by structure, and the leaves of a branch and bound."""
    from hullmark.lab.ask import asked, parse_order
    from hullmark.lab.tell import Table, exactly, line
    from hullmark.theory.branch import Branching, branch
    from hullmark.theory.partition import structural_p1, structural_single
    from hullmark.theory.relaxations import RELAXATIONS

    chosen = parse_order(order)
    rules: list[Any] = [
        Branching(relaxation, split, chosen, side, k, limit)  # type: ignore[arg-type]
        for side in ("lower", "upper")
    ]
    if relaxation not in RELAXATIONS:
        raise BadInput(f"no relaxation {relaxation!r}; there are {', '.join(RELAXATIONS)}")
    question = asked(net, spec, box)
    known(output, question.net.output_size)
    one = question.net.selected(output)
    _check_order(chosen, split, one)
    # Each count is told as soon as it is known.
    line(f"pieces by structure   single neurons {structural_single(one, question.whole):,}")
    line(f"pieces by structure   P_1 {_between(structural_p1(one, question.whole))}")
    page = Table(("end", "bound", "leaves", "search"))
    for rule in rules:
        tree = branch(one, question.whole, None, rule)
        ended = "closed" if tree.closed else f"open, gap {exactly(tree.gap)}"
        leaves = str(len(tree.leaves))
        page.add([(f"Y_{output} {rule.side}", exactly(tree.bound), leaves, ended)])


def _check_order(order: Any, split: str, net: "ExactNet") -> None:
    """Refuse a list that names what is not there, before anything is counted."""
    if isinstance(order, str):
        return
    if split == "inputs":
        there: set[Any] = set(range(net.input_size))
    else:
        there = {(d, j) for d, layer in enumerate(net.layers) for j in range(layer.size)}
    missing = next((each for each in order if each not in there), None)
    if missing is not None:
        raise BadInput(f"the order names {missing!r}, which is not there to split {split} by")


def _between(count: "P1Count") -> str:
    return f"{count.upper}" if count.proved else f"{count.lower} to {count.upper}"
