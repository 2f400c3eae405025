"""What every test may rely on: one thread, repeatable examples, and the benchmark data."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# Set before anything imports torch or onnxruntime, which read them once.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

IN_CI = os.environ.get("CI", "").lower() in ("1", "true")

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if IN_CI else "local")


def _data_root() -> Path | None:
    named = os.environ.get("HULLMARK_DATA")
    if named is not None:
        candidates = [ROOT / named] if named else []
    else:
        candidates = [ROOT / ".." / "shared", ROOT / "shared"]
    return next((c.resolve() for c in candidates if (c / "benchmarks").is_dir()), None)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder that holds `benchmarks/`: `$HULLMARK_DATA`, or `../shared`, or `shared`.

    A relative path counts from the repository root. Without the data a test is skipped, or
    fails when `CI` is true; an empty `HULLMARK_DATA` says that there are none and skips anyway.
    """
    root = _data_root()
    if root is not None:
        return root
    message = "no benchmark data: set HULLMARK_DATA to the folder that holds benchmarks/"
    if IN_CI and os.environ.get("HULLMARK_DATA") != "":
        pytest.fail(message)
    pytest.skip(message)
