"""Table 3 of [kReLU] from the lines of `kpoly.py`: what is counted, the report and its picture."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from inputs import markdown, table


@dataclass(frozen=True)
class Published:
    """Percent verified and mean seconds as [PRIMA] has them, of the first 1000 images."""

    percent: float
    seconds: float


PRIMA = {
    "mnist_6x100": Published(51.0, 159),
    "mnist_9x100": Published(42.8, 301),
    "mnist_6x200": Published(69.0, 224),
    "mnist_9x200": Published(62.4, 395),
    "mnist_convsmall": Published(59.8, 42),
    "cifar10_convsmall_pgd": Published(44.1, 20),
}
VERIFIED = ("deeppoly", "alpha", "mined")


@dataclass(frozen=True)
class Line:
    """What was found of one image.

    `status`: wrong, deeppoly, alpha, attacked, mined or open. `alpha` and `mined`: the worst
    margin as far as that method was tried. `rows`: joint rows in the end.
    """

    network: str
    image: int
    status: str
    alpha: float = float("nan")
    mined: float = float("nan")
    rows: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    limit: float = 0.0

    @property
    def verified(self) -> bool:
        return self.status in VERIFIED


def last_lines(lines: Iterable[Line]) -> list[Line]:
    """Of every image the line that came last."""
    return list({(line.network, line.image): line for line in lines}.values())


def limits_of(lines: list[Line]) -> str:
    """The limits in seconds, and of how many images each is if there are several."""
    count = Counter(line.limit for line in lines)
    if len(count) == 1:
        return f"{next(iter(count)):g}"
    return ", ".join(f"{limit:g} ({count[limit]})" for limit in sorted(count))


def closed(deeppoly: int, verified: int, survivors: int) -> float:
    """The share of the images left open by DeepPoly, and not refuted, that is proved."""
    return (verified - deeppoly) / (survivors - deeppoly) if survivors > deeppoly else 1.0


def percent(verified: str) -> str:
    """A published count of 1000 as percent."""
    return f"{int(verified) / 10:.1f}"


def row(name: str, lines: list[Line], published: dict[str, str]) -> list[str]:
    """The network's line of the table."""
    count = {s: sum(line.status == s for line in lines) for s in (*VERIFIED, "attacked", "wrong")}
    verified = sum(line.verified for line in lines)
    survivors = len(lines) - count["attacked"] - count["wrong"]
    prima = PRIMA[name]
    return [
        name,
        str(len(lines)),
        limits_of(lines),
        f"{100 * verified / len(lines):.1f} ({np.mean([line.cpu for line in lines]):.1f})",
        *(str(count[s]) for s in (*VERIFIED, "attacked", "wrong")),
        f"{100 * closed(count['deeppoly'], verified, survivors):.0f}%",
        *(
            f"{percent(published[f'{tool}_verified'])} ({published[f'{tool}_s']})"
            for tool in ("deeppoly", "refinezono", "kpoly")
        ),
        f"{prima.percent} ({prima.seconds:.0f})",
    ]


def within(lines: list[Line], seconds: float) -> tuple[float, float]:
    """Percent verified, and mean seconds, had the limit been that.

    An image that is open with a shorter limit of its own counts as not proved, with what it took.
    """
    proved = sum(line.verified and line.cpu <= seconds for line in lines)
    mean = np.mean([min(line.cpu, seconds) for line in lines])
    return 100 * proved / len(lines), float(mean)


def by_network(lines: list[Line]) -> dict[str, list[Line]]:
    """The lines of each network of the table that has any, the last one of each image."""
    last = last_lines(lines)
    found = {name: [line for line in last if line.network == name] for name in PRIMA}
    return {name: each for name, each in found.items() if each}


def report(lines: list[Line], root: Path) -> None:
    """Print the table, and precision against time."""
    entries = published(root)
    each = by_network(lines)
    head = ["network", "images", "limit", "verified % (mean s)", "DeepPoly", "alpha", "mined"]
    head += ["attacked", "wrong", "closed", "DeepPoly*", "RefineZono*", "kPoly*", "PRIMA*"]
    body = [row(name, found, entries[name]) for name, found in each.items()]
    print("Seconds of one core. Limit: of an image; with the number of images if there are several")
    print("limits, since images that were not run again with a longer one count with their own.")
    print("*: as published, % of 1000 images (mean s on the authors' machines).\n")
    print(markdown(head, body), end="\n\n")
    longest = max((line.limit for found in each.values() for line in found), default=0)
    steps = [t for t in (0.3, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600) if t <= longest]
    curve: list[list[str]] = []
    for name, found in each.items():
        shares = [within(found, t) for t in steps]
        curve.append([name, *(f"{share:.1f} ({mean:.1f})" for share, mean in shares)])
    print(
        "Verified % (mean s) with a limit of t seconds. An image that is open with a limit below t"
    )
    print("of its own counts as not proved, and with the seconds that it took:\n")
    print(markdown(["network", *(f"t = {t:g}" for t in steps)], curve))


def published(root: Path) -> dict[str, dict[str, str]]:
    """What [kReLU] says of each network."""
    entries = table(root / "benchmarks" / "kpoly" / "table.csv")
    return {Path(entry["onnx"]).stem: entry for entry in entries if entry["onnx"]}


def plot(lines: list[Line], root: Path, path: Path) -> None:
    """Precision against the limit, and the published points, in two panels."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    each, entries = by_network(lines), published(root)
    panels = {
        "fully connected": [name for name in each if "conv" not in name],
        "convolutional": [name for name in each if "conv" in name],
    }
    figure = Figure(figsize=(9.6, 3.8), dpi=100)
    both = figure.subplots(1, 2, sharex=True, sharey=True)
    colours = {name: f"C{number}" for number, name in enumerate(each)}
    for axes, (title, names) in zip(both, panels.items(), strict=True):
        for name in names:
            seconds, share = steps_of(each[name])
            colour = colours[name]
            axes.step(seconds, share, where="post", color=colour)
            kpoly = int(entries[name]["kpoly_verified"]) / 10
            axes.plot(float(entries[name]["kpoly_s"]), kpoly, "s", color=colour)
            axes.plot(PRIMA[name].seconds, PRIMA[name].percent, "^", color=colour)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("limit t in seconds; of published points, their mean")
        axes.grid(alpha=0.3)
        shown = [Line2D([], [], color=colours[name], label=name) for name in names]
        marks = [("s", "kPoly, published"), ("^", "PRIMA, published")]
        shown += [Line2D([], [], color="gray", ls="", marker=m, label=label) for m, label in marks]
        axes.legend(handles=shown, frameon=False, fontsize=8, loc="upper left")
    figure.axes[0].set_ylabel("verified % of images")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight")


def steps_of(lines: list[Line]) -> tuple[list[float], list[float]]:
    """Where the percentage verified rises, and to what; up to the longest limit."""
    times = sorted(line.cpu for line in lines if line.verified)
    ends = [*times, max(max(line.limit for line in lines), *times[-1:])]
    return ends, [within(lines, t)[0] for t in ends]
