"""Every benchmark network loads and agrees with its original."""

import gzip
import os
import re
from pathlib import Path

import numpy as np
import pytest

from hullmark.network.model import check_parity
from hullmark.network.onnx import load_onnx

BOUND = re.compile(r"\(\s*(<=|>=)\s+X_(\d+)\s+([-+.eE\d]+)\s*\)")
FAMILIES = [
    "acasxu",
    "cifar10_resnet",
    "cifar_biasfield",
    "collins_rul_cnn",
    "cora",
    "dist_shift",
    "eran",
    "kpoly",
    "linearizenn",
    "marabou_cifar10",
    "mnist_fc",
    "nn4sys",
    "oval21",
    "reach_prob_density",
    "rl_benchmarks",
    "sdp_cnn_a",
    "sri_resnet_b",
    "test",
    "verivital",
]


def boxes(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each network the outer box of one of its properties, read by eye of a regex."""
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    table = folder / "instances.csv"
    for line in table.read_text().splitlines() if table.exists() else []:
        network, question, *_ = line.split(",")
        name = os.path.basename(network)
        if name in found:
            continue
        path = folder / question
        zipped = path.with_name(path.name + ".gz")
        text = (
            gzip.decompress(zipped.read_bytes()).decode() if zipped.exists() else path.read_text()
        )
        ends: dict[str, dict[int, float]] = {"<=": {}, ">=": {}}
        for sign, index, value in BOUND.findall(text):
            widest = max if sign == "<=" else min
            known = ends[sign].get(int(index), float(value))
            ends[sign][int(index)] = widest(known, float(value))
        size = len(ends["<="])
        if size and ends["<="].keys() == ends[">="].keys() == set(range(size)):
            lower, upper = ([ends[s][i] for i in range(size)] for s in (">=", "<="))
            found[name] = (np.array(lower), np.array(upper))
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_family(family: str, data: Path) -> None:
    folder = data / "benchmarks" / family
    asked = boxes(folder)
    paths = sorted(p for p in (folder / "onnx").rglob("*") if ".onnx" in p.suffixes)
    assert paths
    for path in paths:
        model = load_onnx(path)
        size = model.network.input_size
        lower, upper = asked.get(path.name.removesuffix(".gz"), (np.zeros(size), np.ones(size)))
        assert lower.shape == (size,), path
        assert check_parity(model, lower, upper, samples=4) < 1e-4


def test_every_family_is_listed(data: Path) -> None:
    present = {p.parent.name for p in (data / "benchmarks").glob("*/onnx")}
    assert present == set(FAMILIES)
