"""Render the gallery: `python docs/gallery/render.py [NAME ...]`, all pictures if none is named.

Every other script of this folder has a function `picture()`. What it returns is written to
`docs/img/gallery/` under the script's name.
"""

import importlib
import sys
import time
from pathlib import Path

from hullmark.theory.picture import save

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent / "img" / "gallery"


def main(names: list[str]) -> None:
    """Write the pictures of these scripts."""
    sys.path.insert(0, str(HERE))
    # The documentation takes over whatever lies beside its pages.
    sys.dont_write_bytecode = True
    TARGET.mkdir(parents=True, exist_ok=True)
    for name in names or sorted(p.stem for p in HERE.glob("*.py") if p.stem != "render"):
        started = time.perf_counter()
        save(importlib.import_module(name).picture(), TARGET / f"{name}.png")
        print(f"{name:<16}{time.perf_counter() - started:6.1f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
