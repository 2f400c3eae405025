"""The demonstration's files fit together, and its questions ask what they claim to ask."""

import csv
import re
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from hullmark.spec.load import load_property

DEMO = Path(__file__).resolve().parent.parent / "demo"
SUFFIXES = (".onnx", ".vnnlib")
with (DEMO / "instances.csv").open(encoding="ascii", newline="") as file:
    INSTANCES = [tuple(row) for row in csv.reader(file)]


def test_every_file_is_listed_and_every_listed_file_is_there():
    listed = {name for network, question, _ in INSTANCES for name in (network, question)}
    there = {p.relative_to(DEMO).as_posix() for p in DEMO.rglob("*") if p.suffix in SUFFIXES}
    assert listed == there


def test_each_network_is_small_and_gets_six_questions():
    assert set(Counter(network for network, _, _ in INSTANCES).values()) == {6}
    assert all((DEMO / network).stat().st_size < 60_000 for network, _, _ in INSTANCES)


@pytest.mark.parametrize(("network", "question"), [row[:2] for row in INSTANCES])
def test_question_is_a_ball_around_a_digit_that_the_network_reads(network: str, question: str):
    text = (DEMO / question).read_text(encoding="ascii")
    label = int(re.findall(r"Y_(\d)\)\)$", text, re.MULTILINE)[0])
    eps = Fraction(re.findall(r"eps(.*)\.vnnlib", question)[0])
    low = [Fraction(b) for b in re.findall(r"\(>= X_\d+ ([^)]+)\)", text)]
    high = [Fraction(b) for b in re.findall(r"\(<= X_\d+ ([^)]+)\)", text)]
    # Where one end is clipped to [0, 1] the other one still tells the pixel.
    pixels = [b - eps if a == 0 else a + eps for a, b in zip(low, high, strict=True)]
    assert all((16 * p).denominator == 1 and 0 <= p <= 1 for p in pixels)
    assert low == [max(p - eps, Fraction(0)) for p in pixels]
    assert high == [min(p + eps, Fraction(1)) for p in pixels]

    session = onnxruntime.InferenceSession(DEMO / network, providers=["CPUExecutionProvider"])
    image = np.array(pixels, dtype=np.float32)
    scores = np.asarray(session.run(None, {"image": image.reshape(1, 1, 8, 8)})[0])[0]
    assert scores.argmax() == label

    prop = load_property(DEMO / question, 64, 10)
    assert not prop.violated(image, scores)
    worse = scores.copy()
    worse[(label + 1) % 10] = scores[label]
    assert prop.violated(image, worse)
    assert not prop.violated(image + np.float32(1), worse)
