"""DeepPoly proves exactly as many images as it is known to, one by one and in batches."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import deeppoly_counts as script

from hullmark.network.onnx import load_onnx

SMALL = ["mnist_6x100", "mnist_9x100"]
LARGE = ["mnist_6x200", "mnist_9x200"]


def counted(data: Path, name: str, count: int) -> script.Outcome:
    pixels, labels = script.images(data, count)
    model = load_onnx(script.network_file(data, name))
    return script.count_proved(model, pixels, labels, script.EPSILON[name])


@pytest.mark.parametrize("name", SMALL)
def test_the_first_two_hundred(data: Path, name: str) -> None:
    found = counted(data, name, 200)
    assert int(found.proved.sum()) == script.KNOWN[name][0]
    assert not (found.proved & ~found.correct).any()


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL + LARGE)
def test_all_five_hundred(data: Path, name: str) -> None:
    found = counted(data, name, 500)
    known = script.KNOWN[name]
    assert int(found.proved[:200].sum()) == known[0]
    assert int(found.proved.sum()) == known[1]


def test_an_image_alone_is_bounded_as_in_its_batch(data: Path) -> None:
    pixels, labels = script.images(data, 40)
    model = load_onnx(script.network_file(data, "mnist_6x100"))
    epsilon = script.EPSILON["mnist_6x100"]
    together = script.count_proved(model, pixels, labels, epsilon).proved
    alone = [
        script.count_proved(model, pixels[i : i + 1], labels[i : i + 1], epsilon).proved[0]
        for i in range(40)
    ]
    assert 0 < together.sum() < 40
    np.testing.assert_array_equal(together, alone)
