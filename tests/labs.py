"""Small networks in files, and `hullmark lab` called on them."""

import time
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hullmark.cli import run
from hullmark.network.onnx.write import write_onnx

MAX = [([[1, -1], [0, 1]], [0, 0]), ([[1, 1]], [0])]
NESTED = [([[1, -1, 0], [0, 1, 0], [0, 0, 1]], [0] * 3), ([[1, 1, -1], [0, 0, 1]], [0, 0])]
NESTED += [([[1, 1]], [0])]
ZERO = [([[1], [-1]], [0, 0]), ([[1, 0], [1, -1]], [0, 0]), ([[-2, 2]], [0])]
TWO = [([[1, 0], [0, 1], [-1, -1]], [0, 0, 0]), ([[1, 0, 1], [0, 1, 1]], [0, 0])]


def call(*arguments: object) -> int:
    return run(["lab", *map(str, arguments)], time.perf_counter())


def written(folder: Path, layers: list[Any], activation: str = "Relu") -> Path:
    path = folder / "net.onnx"
    write_onnx(path, layers, activation)
    return path


def told(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """The words of every line on stdout."""
    captured = capsys.readouterr()
    assert captured.err == ""
    return [line.split() for line in captured.out.splitlines()]


def wide(seed: int, *sizes: int) -> list[Any]:
    pick = Random(seed)
    return [
        (
            [[pick.randint(-8, 8) / 4 for _ in range(n)] for _ in range(m)],
            [pick.randint(-8, 8) / 4 for _ in range(m)],
        )
        for n, m in pairwise(sizes)
    ]
