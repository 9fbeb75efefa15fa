"""Grokking: accuracies on train and test, with the tangent kernel's entropy and trace through the transition."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tangentscope.pipeline.config.features import BOTH
from tangentscope.pipeline.report.drawing.axes import log_ticks, log_y
from tangentscope.pipeline.report.drawing.facets import file_name
from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, drawing_style
from tangentscope.pipeline.report.view import Kernel, View, column
from tangentscope.pipeline.store.planned import PlannedRun
from tangentscope.probes.trajectories.curves import learning_time

_MOST = 6  # networks
_COLOURS = {"train": "#d55e00", "test": "#0072b2"}
_OF_SPLITS = {**_COLOURS, BOTH: "#222222"}  # features are measured of both together
_VARIABLES = {"entropy": "entropy (nats)", "trace": "trace", "kappa_cka": "κ (1 − CKA)"}


def grokking(view: View) -> list[Drawing]:
    """Nam fig. 6.4, and the kernel with it: a drawing for each network. Empty without an accuracy."""
    if view.score != "accuracy" or not len(view.history):
        return []
    shown = [(name, view.kernels(name)[0]) for name in _VARIABLES if view.kernels(name)]
    drawings, taken = [], set[str]()
    for parts, runs in list(view.networks.items())[:_MOST]:
        with drawing_style():
            figure = Figure(figsize=(FULL_WIDTH, 2.4), layout="constrained")
            accuracy, *others = figure.subplots(1, 1 + len(shown)) if shown else [figure.subplots()]
            times = _draw_accuracy(accuracy, view, runs)
            for number, ((name, kernel), panel) in enumerate(zip(shown, others, strict=True)):
                _draw_variable(panel, view, runs, name, kernel)
                panel.set_title(f"({chr(ord('b') + number)}) {_VARIABLES[name]}", loc="left")
            for panel in (accuracy, *others):
                for split, time in times.items():
                    panel.axvline(time, color=_COLOURS[split], linestyle=":", linewidth=0.8)
                panel.set_xscale("log")
                panel.set_xlabel("step")
                log_ticks(panel.xaxis, *panel.get_xlim())
        name = file_name("-".join(["grokking", *parts]), taken)
        caption = (
            f"Study {view.name}, {len(runs)} seed{'s' * (len(runs) != 1)}: thin lines, and their mean. Dotted: where "
            "the mean accuracy on train (orange) and test (blue) has come to 95 % of its last value."
        )
        drawings.append(Drawing(name, ", ".join(["Grokking", *parts]), caption, figure))
    return drawings


def _draw_accuracy(panel: Axes, view: View, runs: list[PlannedRun]) -> dict[str, float]:
    """Draws it; returns when each split is learned in the mean."""
    times = {}
    for split, colour in _COLOURS.items():
        curves = [view.curve(run, split, "score", None) for run in runs]
        steps, values = _aligned([(column(c, "step"), column(c, "value")) for c in curves])
        if steps.size:
            _lines(panel, steps, values, colour, split)
            times[split] = learning_time(steps, values.mean(1))
    panel.set_title("(a) accuracy", loc="left")
    panel.legend(frameon=False)
    return {split: time for split, time in times.items() if np.isfinite(time) and time > 0}


def _draw_variable(panel: Axes, view: View, runs: list[PlannedRun], name: str, kernel: Kernel) -> None:
    found = []
    for split, colour in _OF_SPLITS.items():
        curves = [view.curve(run, split, name, kernel) for run in runs]
        steps, values = _aligned([(column(c, "step"), column(c, "value")) for c in curves])
        if steps.size:
            _lines(panel, steps, values, colour, split)
            found.append(values[np.isfinite(values)])
    together = np.concatenate([np.empty(0), *found])
    if together.size and together.min() > 0 and together.max() > 10 * together.min():
        log_y(panel)


def _aligned(curves: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Steps after the start that all curves have, and the values there `[steps, curves]`."""
    curves = [curve for curve in curves if curve[0].size]
    if not curves:
        return np.empty(0), np.empty((0, 0))
    steps = curves[0][0]
    for other, _ in curves[1:]:
        steps = np.intersect1d(steps, other)
    steps = steps[steps > 0]
    return steps, np.stack([values[np.isin(own, steps)] for own, values in curves], 1)


def _lines(panel: Axes, steps: np.ndarray, values: np.ndarray, colour: str, label: str) -> None:
    panel.plot(steps, values, color=colour, linewidth=0.4, alpha=0.5)
    panel.plot(steps, values.mean(1), color=colour, label=label)
