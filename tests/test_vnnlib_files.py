"""Every kind of public benchmark file is read, and means what its family is known to ask."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from hullmark.spec.load import load_property

# Inputs, outputs and cases of every file of a family.
FAMILIES = {
    "cifar10_resnet": (3072, 10, 9),
    "cifar_biasfield": (16, 10, 9),
    "collins_rul_cnn": (None, 1, 1),
    "cora": (784, 10, 9),
    "dist_shift": (792, 10, 1),
    "eran": (784, 10, 9),
    "kpoly": (784, 10, 9),
    "linearizenn": (4, 2, 2),
    "marabou_cifar10": (3072, 10, 1),
    "mnist_fc": (784, 10, 9),
    "oval21": (3072, 10, 9),
    "reach_prob_density": (None, None, 1),
    "sri_resnet_b": (3072, 10, 9),
    "verivital": (784, 10, 9),
}

# The number of constraints in each case of each property.
ACASXU = {
    "prop_1": [1],
    "prop_2": [4],
    "prop_3": [4],
    "prop_4": [4],
    "prop_7": [3, 3],
    "prop_8": [2, 2, 2],
    "prop_9": [1, 1, 1, 1],
    "prop_10": [1, 1, 1, 1],
}


@pytest.mark.parametrize("family", FAMILIES)
def test_families_have_their_sizes(data: Path, family: str) -> None:
    inputs, outputs, cases = FAMILIES[family]
    files = sorted((data / "benchmarks" / family).rglob("*.vnnlib.gz"))
    assert files
    for path in files[:: len(files) // 3]:
        p = load_property(path, inputs, outputs)
        assert (len(p.cases), len(p.groups)) == (cases, 1)
        box = p.cases[0].box
        inside = box.float_inside(np.float32)
        # A decimal that is no float is missed by no more than the recorded rounding.
        for x in (inside.lower, inside.upper):
            gaps = zip(box.distance(x), inside.rounding.tolist(), strict=True)
            assert all(gap <= Fraction(rounding) for gap, rounding in gaps)


@pytest.mark.parametrize("name", ACASXU)
def test_acas_xu(data: Path, name: str) -> None:
    path = data / "benchmarks" / "acasxu" / "vnnlib" / f"{name}.vnnlib"
    p = load_property(path, 5, 5)
    assert [len(c.constraints) for c in p.cases] == ACASXU[name]
    # All but the first compare advisories.
    assert p.permits_dropping_softmax() == (name != "prop_1")


def test_lookups_in_disjoint_boxes(data: Path) -> None:
    path = data / "benchmarks" / "nn4sys" / "vnnlib" / "lindex_200.vnnlib"
    p = load_property(path, 1, 1)
    assert len(p.cases) == 400 and len(p.groups) == 200
    (first, members), *_ = p.groups
    x = np.array([Fraction(v) for v in first.exact_lower], dtype=object)
    far = np.array([Fraction(10**9)], dtype=object)
    assert p.violated_case(x, far) in members
