"""Write the demonstration's questions: boxes around held-out digits, as VNN-LIB 1.0 files.

Each asks whether every image within `eps` of a test image, pixel by pixel and inside [0, 1], is
still given the digit that it shows. The radii were chosen so that every network has some
questions that plain linear bounds settle, some that a gradient attack settles, and some between
the two, where the search has to work. Needs scikit-learn, as `demo/train.py` does.
"""

import csv
from decimal import Decimal
from pathlib import Path

from train import TRAINING_IMAGES, digits

HERE = Path(__file__).resolve().parent
TIMEOUT = 60

# Network, number of the test image, radius.
QUESTIONS = (
    ("digits_fc", 2, "0.06"),
    ("digits_fc", 3, "0.1"),
    ("digits_fc", 3, "0.14"),
    ("digits_fc", 15, "0.12"),
    ("digits_fc", 1, "0.1"),
    ("digits_fc", 7, "0.08"),
    ("digits_conv", 2, "0.08"),
    ("digits_conv", 3, "0.09"),
    ("digits_conv", 4, "0.068"),
    ("digits_conv", 2, "0.115"),
    ("digits_conv", 5, "0.07"),
    ("digits_conv", 7, "0.1"),
    ("digits_res", 2, "0.06"),
    ("digits_res", 3, "0.05"),
    ("digits_res", 5, "0.04"),
    ("digits_res", 3, "0.085"),
    ("digits_res", 5, "0.06"),
    ("digits_res", 11, "0.06"),
)


def question(number: int, eps: Decimal) -> str:
    """The VNN-LIB text; its decimals are exact, since pixels are multiples of 1/16."""
    images, labels = digits()
    levels = (16 * images[TRAINING_IMAGES + number]).round().int().flatten().tolist()
    label = int(labels[TRAINING_IMAGES + number])
    lines = [f"; Test image {number}, a {label}: is it still one within {eps} of every pixel?"]
    lines += [f"(declare-const X_{i} Real)" for i in range(len(levels))]
    lines += [f"(declare-const Y_{i} Real)" for i in range(10)]
    for i, level in enumerate(levels):
        pixel = Decimal(level) / 16
        lines.append(f"(assert (>= X_{i} {max(pixel - eps, Decimal(0))}))")
        lines.append(f"(assert (<= X_{i} {min(pixel + eps, Decimal(1))}))")
    lines.append("(assert (or")
    lines += [f"    (and (>= Y_{other} Y_{label}))" for other in range(10) if other != label]
    lines.append("))")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write every question once, and `instances.csv`: network, property, seconds."""
    folder = HERE / "properties"
    folder.mkdir(exist_ok=True)
    rows: list[tuple[str, str, int]] = []
    for network, number, eps in QUESTIONS:
        name = f"test{number:02d}_eps{eps}.vnnlib"
        (folder / name).write_text(question(number, Decimal(eps)), encoding="ascii", newline="\n")
        rows.append((f"{network}.onnx", f"properties/{name}", TIMEOUT))
    with (HERE / "instances.csv").open("w", encoding="ascii", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    main()
