"""Load every network and every question of every family, and compare with the original runtime.

python benchmarks/families.py [family ...]
"""

import argparse
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from inputs import Instance, data_root, families, instances, markdown, networks

from hullmark.errors import HullmarkError
from hullmark.network.model import Model, check_parity
from hullmark.network.onnx import load_onnx
from hullmark.spec.load import load_property
from hullmark.spec.property import Property
from hullmark.verify import as_property, without_softmax

# Networks without any question are compared on this box.
PIXELS = (0.0, 1.0)


@dataclass
class Report:
    """What was found in one family."""

    networks: int = 0
    loaded: int = 0
    instances: int = 0
    parsed: int = 0
    compared: int = 0
    largest: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter[str])

    def row(self, family: str, seconds: float) -> list[str]:
        """The family's line of the table."""
        reasons = "; ".join(f"{text} ({n})" for text, n in self.reasons.items())
        return [
            family,
            f"{self.loaded} of {self.networks}",
            f"{self.parsed} of {self.instances}",
            str(self.compared),
            f"{self.largest:.1e}",
            f"{seconds:.1f}",
            reasons or "none",
        ]


def survey(root: Path, family: str) -> Report:
    """Load and compare everything of one family."""
    report = Report()
    models: dict[Path, Model] = {}
    asked: set[Path] = set()
    for path in networks(root, family):
        report.networks += 1
        try:
            models[path] = load_onnx(path)
            report.loaded += 1
        except HullmarkError as error:
            report.reasons[f"{type(error).__name__}: {error}"] += 1
    for instance in instances(root, family):
        report.instances += 1
        model = models.get(instance.network)
        if model is None:
            continue
        try:
            prop = _property(instance, model)
            report.parsed += 1
            if instance.network not in asked and prop.cases:
                asked.add(instance.network)
                _compare(model, prop.cases[0].box.lower, prop.cases[0].box.upper, report)
        except HullmarkError as error:
            report.reasons[f"{type(error).__name__}: {error}"] += 1
    for path, model in models.items():
        if path not in asked:
            size = model.network.input_size
            try:
                _compare(model, np.full(size, PIXELS[0]), np.full(size, PIXELS[1]), report)
            except HullmarkError as error:
                report.reasons[f"{type(error).__name__}: {error}"] += 1
    return report


def _property(instance: Instance, model: Model) -> Property:
    sizes = (model.network.input_size, model.network.output_size)
    prop = as_property(load_property(instance.question, *sizes), model.network)
    # Raises if the property needs a final softmax that can only be dropped.
    without_softmax(model, prop)
    return prop


def _compare(model: Model, lower: np.ndarray, upper: np.ndarray, report: Report) -> None:
    report.largest = max(report.largest, check_parity(model, lower, upper))
    report.compared += 1


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", help="all by default")
    root = data_root()
    wanted: list[str] = parser.parse_args().families or families(root)
    rows: list[list[str]] = []
    for family in wanted:
        started = time.perf_counter()
        report = survey(root, family)
        rows.append(report.row(family, time.perf_counter() - started))
    head = ["family", "networks loaded", "questions read", "compared"]
    print(markdown([*head, "largest relative difference", "s", "exceptions"], rows))


if __name__ == "__main__":
    main()
