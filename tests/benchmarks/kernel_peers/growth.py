"""How our own time and memory grow with data points, outputs, width and depth: a figure each."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from statistics import median

import matplotlib as mpl
from kernel_peers.environments import Environment
from kernel_peers.processes import Record, Settings, Task, kept, measure
from kernel_peers.sizes import SIZES

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import NullLocator

# By what is varied: cells, and factors on the cell's own size.
LADDERS: dict[str, tuple[tuple[str, ...], tuple[float, ...]]] = {
    "points": (("mlp", "cnn"), (0.25, 0.5, 1, 2, 4)),
    "outputs": (("mlp",), (0.5, 1, 2, 4, 8)),
    "width": (("mlp",), (0.25, 0.5, 1, 2, 4)),
    "depth": (("mlp",), (1, 2, 4, 8, 16)),
}


def grow(out: Path, scale: str, settings: Settings, fresh: bool, say: Callable[[Record], None]) -> None:
    """Measure what is missing, write growth.json and growth-*.png."""
    found: dict[str, dict[str, list[Record]]] = {}
    for varied, (cells, factors) in LADDERS.items():
        found[varied] = {}
        for cell in cells:
            sizes = SIZES[scale][cell]
            steps = dict.fromkeys(max(1, round(factor * sizes[varied])) for factor in factors)
            found[varied][cell] = [
                rung(out / "records" / f"growth-{scale}", cell, {**sizes, varied: step}, varied, settings, fresh)
                for step in steps
            ]
            for record in found[varied][cell]:
                say(record)
        draw(out / f"growth-{varied}.png", varied, found[varied])
    (out / "growth.json").write_text(json.dumps(found, indent=1))


def rung(folder: Path, cell: str, sizes: dict[str, int], varied: str, settings: Settings, fresh: bool) -> Record:
    task = Task(cell, sizes, "tangentscope", f"{varied}={sizes[varied]}")
    path = folder / f"{cell}--{varied}-{sizes[varied]}.json"
    known = None if fresh else kept(path, task, settings)
    return known or measure(task, settings, Environment(), folder, path)


def draw(path: Path, varied: str, cells: dict[str, list[Record]]) -> None:
    """Time and peak memory on double logarithmic axes, with the slope of the last two steps."""
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for cell, records in cells.items():
        done = [record for record in records if record["status"] == "measured"]
        steps = [record["sizes"][varied] for record in done]
        times = [median(record["seconds"]) for record in done]
        memory = [max(record["peak_mb"], 0.1) for record in done]
        for axis, values in zip(axes, (times, memory), strict=True):
            axis.plot(steps, values, "o-", label=f"{cell}{slope(steps, values)}")
        axes[0].fill_between(
            steps, *([pick(record["seconds"]) for record in done] for pick in (min, max)), alpha=0.2, lw=0
        )
    ticks = sorted({record["sizes"][varied] for records in cells.values() for record in records})
    for axis, name in zip(axes, ("seconds a kernel", "peak memory above baseline (MB)"), strict=True):
        axis.set(xscale="log", yscale="log", xlabel=varied, ylabel=name)
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.grid(alpha=0.3, which="both")
        axis.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def slope(steps: list[int], values: list[float]) -> str:
    """The exponent between the last two steps."""
    if len(steps) < 2:
        return ""
    return f", power {math.log(values[-1] / values[-2]) / math.log(steps[-1] / steps[-2]):.1f} at the end"
