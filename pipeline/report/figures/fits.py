"""Functions that linear models of sines have learned, with the points they learned from."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, drawing_style
from tangentscope.pipeline.report.sine_fits import SineFit, sine_fits
from tangentscope.pipeline.report.view import View

_MOST = 6  # panels
_POINTS = 4001  # of a function on [0, 1]


def fits(view: View) -> list[Drawing]:
    """Nam fig. 1.2–1.5: a panel for the first draw of each task. Empty without linear models of sines."""
    first: dict[str, SineFit] = {}
    for fit in sine_fits(view):
        first.setdefault(fit.task.model_copy(update={"data_seed": 0}).model_dump_json(), fit)
    shown = list(first.values())[:_MOST]
    if not shown:
        return []
    columns = 2 if len(shown) in (2, 4) else min(3, len(shown))
    rows = -(-len(shown) // columns)
    with drawing_style():
        figure = Figure(figsize=(FULL_WIDTH, 2.0 * rows + 0.3), layout="constrained")
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for number, (fit, panel) in enumerate(zip(shown, axes, strict=False)):
            _draw(panel, fit)
            panel.set_title(f"({chr(ord('a') + number)}) {_title(fit)}", loc="left")
            panel.set(xlabel="x", ylabel="f(x)")
        for panel in axes[len(shown) :]:
            panel.set_visible(False)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    caption = (
        f"Study {view.name}. Fits at the end of training (line) of a linear model of sines to some points (dots); "
        "dashed: what was to be learned. Of a few leading features and many weak ones, orange: the part of the leading "
        "ones alone; dotted: the share of the target that eq. 1.35 says is learned, where eq. 1.36 takes all of it."
    )
    return [Drawing("fits", "Fits of linear models of sines", caption, figure)]


def _draw(panel: Axes, fit: SineFit) -> None:
    x = np.linspace(0, 1, _POINTS)
    panel.plot(x, fit.at(x), color="#0072b2", linewidth=0.7, label="fit")
    target = fit.task.target_at(x)
    if target is not None:
        panel.plot(x, target, color="#222222", linestyle="--", linewidth=0.8, label="target")
    if fit.task.intensities == "plateau":
        leading = fit.at(x, slice(fit.task.leading))
        panel.plot(x, leading, color="#d55e00", linewidth=1.0, label=f"first {fit.task.leading} features")
        if target is not None and (share := fit.learnability) is not None:
            panel.plot(x, share * target, color="#009e73", linestyle=":", label="target · ρ/(ρ + κ), eq. 1.35")
    panel.plot(*fit.points(), ".", color="#222222", markersize=3 if fit.task.train_size < 20 else 1.5, label="points")
    panel.margins(x=0.01)


def _title(fit: SineFit) -> str:
    task = fit.task
    what = "random labels" if task.random_labels else f"sin {2 * task.frequency}πx"
    power = f"{2 * task.exponent:g}"
    how = rf", $\rho = k^{{{power}}}$" if task.intensities == "power" else ""
    return f"{what}\nn = {task.train_size}, p = {task.features:,}{how}"
