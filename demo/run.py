"""Answer every question of the demonstration and print a table: `python demo/run.py`."""

import csv
from pathlib import Path

from rich.console import Console
from rich.table import Table

import hullmark as hm
from hullmark.results import floor_text

HERE = Path(__file__).resolve().parent


def row(verdict: hm.Verdict) -> tuple[str, str]:
    """The verdict in a word, and the number that goes with it."""
    match verdict:
        case hm.Proved(margin=margin):
            return "[green]proved[/]", f"≥ {floor_text(margin)}"
        case hm.Refuted(witness=witness):
            return "[red]refuted[/]", f"{witness.margin:.3g}"
        case hm.Unknown(reason=reason, lower=lower):
            return f"[yellow]unknown ({reason})[/]", f"≥ {floor_text(lower)}"


def main() -> None:
    """Verify the pairs listed in `instances.csv`, one after the other."""
    console = Console()
    table = Table(title="Does the network still read the digit, whatever the noise?")
    for heading in ("network", "property", "verdict", "worst margin", "seconds"):
        table.add_column(heading, justify="right" if heading == "seconds" else "left")
    with (HERE / "instances.csv").open(encoding="ascii", newline="") as file:
        instances = list(csv.reader(file))
    for number, (network, question, timeout) in enumerate(instances, start=1):
        with console.status(f"{number} of {len(instances)}: {network}, {question}"):
            verdict = hm.verify(HERE / network, HERE / question, timeout=float(timeout))
        word, margin = row(verdict)
        table.add_row(
            Path(network).stem, Path(question).stem, word, margin, f"{verdict.seconds:.2f}"
        )
    console.print(table)
    console.print(
        "A proved margin is a lower bound over the whole box, no larger than the proof needed; "
        "a refuted one is that of the counterexample found, replayed with onnxruntime."
    )


if __name__ == "__main__":
    main()
