"""Where the benchmark data lie, and what their files hold; shared by the scripts of this folder.

`HULLMARK_DATA` names the folder that holds `benchmarks/` and `goldens/`, relative to the root of
the repository unless it is absolute; by default `../shared`.
"""

import csv
import json
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hullmark.network import ops
from hullmark.network.graph import Builder, Network
from hullmark.spec.sets import Box

ROOT = Path(__file__).resolve().parent.parent
Ends = tuple[Fraction, Fraction]


@dataclass(frozen=True)
class Instance:
    """One question of a family: files as they lie on disk, names as the lists give them."""

    family: str
    onnx: str
    vnnlib: str
    timeout: float
    network: Path
    question: Path

    @property
    def key(self) -> tuple[str, str, str]:
        """What the lists of other tools' results know it by."""
        return self.family, self.onnx, self.vnnlib


@dataclass(frozen=True, eq=False)
class Golden:
    """A small network over a box, with exact ranges of its outputs by several relaxations."""

    name: str
    network: Network
    box: Box
    ranges: dict[str, tuple[Ends, ...]]


def data_root() -> Path:
    """The folder that holds the data.

    Raises:
        SystemExit: if it is not there.
    """
    root = (ROOT / os.environ.get("HULLMARK_DATA", "../shared")).resolve()
    if not (root / "benchmarks").is_dir():
        raise SystemExit(f"no benchmark data in {root}: set HULLMARK_DATA to their folder")
    return root


def families(root: Path) -> list[str]:
    """The names of all families, in order."""
    return sorted(p.name for p in (root / "benchmarks").iterdir() if p.is_dir())


def instances(root: Path, family: str) -> list[Instance]:
    """The instances of a family, in its own order; none if it has no list.

    Raises:
        FileNotFoundError: if a file that the list names is missing.
    """
    folder = root / "benchmarks" / family
    listing = folder / "instances.csv"
    if not listing.exists():
        return []
    found: list[Instance] = []
    for onnx, vnnlib, timeout in csv.reader(listing.read_text().splitlines()):
        paths = (_present(folder / onnx), _present(folder / vnnlib))
        found.append(Instance(family, onnx, vnnlib, float(timeout), *paths))
    return found


def networks(root: Path, family: str) -> list[Path]:
    """The network files of a family, in order of their names."""
    return sorted((root / "benchmarks" / family).rglob("*.onnx*"))


def goldens(root: Path) -> list[Golden]:
    """The networks whose exact ranges are known."""
    with (root / "goldens" / "networks.json").open() as file:
        return [_golden(entry) for entry in json.load(file)]


def table(path: Path) -> list[dict[str, str]]:
    """The rows of a comma-separated file with a header."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _present(path: Path) -> Path:
    zipped = path.with_name(path.name + ".gz")
    for candidate in (path, zipped):
        if candidate.exists():
            return candidate
    raise FileNotFoundError(path)


def _golden(entry: dict[str, list[list[str]]]) -> Golden:
    box = [(Fraction(low), Fraction(high)) for low, high in entry["box"]]
    builder, node = Builder((len(box),)), 0
    for number, layer in enumerate(entry["layers"]):
        if number:
            node = builder.add(ops.Rectifier(), node)
        node = builder.add(ops.Dense(_floats(layer["weight"]), _floats(layer["bias"])), node)
    ranges = {
        kind: tuple((Fraction(low), Fraction(high)) for low, high in entry[kind])
        for kind in ("ibp", "triangle", "p1", "exact")
    }
    sides = ([low for low, _ in box], [high for _, high in box])
    return Golden(str(entry["name"]), builder.build(node), Box(*sides), ranges)


def _floats(values: list[str] | list[list[str]]) -> NDArray[np.float64]:
    """Rationals as the floats that they are."""
    exact = np.array(
        [[Fraction(v) for v in row] if isinstance(row, list) else Fraction(row) for row in values]
    )
    floats = exact.astype(np.float64)
    if not np.all(floats.astype(object) == exact):
        raise ValueError("a coefficient is not a float")
    return floats
