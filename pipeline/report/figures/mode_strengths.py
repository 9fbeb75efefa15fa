"""Strengths of modes over time: closed forms as lines, what was simulated as dots."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tangentscope.pipeline.report.drawing.colours import colours
from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, drawing_style
from tangentscope.pipeline.report.solvable import SolvableRun, solvable_runs
from tangentscope.pipeline.report.view import View

_MOST_MODES = 8
_MOST_PANELS = 6
_MARKS = {"flow": "o", "sgd": "x"}


def mode_strengths(view: View) -> list[Drawing]:
    """Nam fig. 3.3–3.4: a panel for each model and task. Empty without models that have a closed form."""
    groups: dict[str, list[SolvableRun]] = {}
    for run in solvable_runs(view):
        groups.setdefault(f"{run.model.model_dump_json()}{run.task.model_dump_json()}", []).append(run)
    panels = [runs for runs in groups.values() if len(runs[0].simulated[0]) > 2][:_MOST_PANELS]
    if not panels:
        return []
    rows = -(-len(panels) // 2)
    with drawing_style():
        figure = Figure(figsize=(FULL_WIDTH if len(panels) > 1 else FULL_WIDTH / 2, 2.1 * rows), layout="constrained")
        axes = list(figure.subplots(rows, min(2, len(panels)), squeeze=False).flat)
        for number, (runs, panel) in enumerate(zip(panels, axes, strict=False)):
            _draw(panel, runs)
            title = f"({chr(ord('a') + number)}) {runs[0].model.name}, {runs[0].task.name}"
            panel.set_title(title.replace("_", " "), loc="left")
            panel.set(xlabel="t = η · steps", ylabel="strength / S")
        for panel in axes[len(panels) :]:
            panel.set_visible(False)
        used = sorted({run.optimiser.name for runs in panels for run in runs if run.optimiser.name in _MARKS})
        handles = [Line2D([], [], color="#555555", label="closed form")] + [
            Line2D([], [], color="#555555", linestyle="", marker=_MARKS[name], markersize=3, label=name)
            for name in used
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    caption = (
        f"Study {view.name}. Lines: closed forms from the networks' own start; marks: simulated, in the snapshots that "
        f"are kept. One colour for each of the first {_MOST_MODES} modes."
    )
    return [Drawing("mode_strengths", "Strengths of modes", caption, figure)]


def _draw(panel: Axes, runs: list[SolvableRun]) -> None:
    count = min(_MOST_MODES, len(runs[0].scales), runs[0].simulated[1].shape[1])
    palette = list(colours(list(range(count))).values())
    end = max(run.run.steps * run.rate for run in runs)
    times = np.linspace(0, end, 400)
    closed = runs[0].closed(times)
    for mode in range(count):
        scale = runs[0].scales[mode]
        if closed is not None:
            panel.plot(times, closed[:, mode] / scale, color=palette[mode], linewidth=1)
        for run in runs:
            steps, strengths = run.simulated
            shown = np.unique(np.linspace(0, len(steps) - 1, 25).round().astype(int))
            mark = {"marker": _MARKS.get(run.optimiser.name, "."), "markersize": 2.5, "linestyle": ""}
            panel.plot(steps[shown] * run.rate, strengths[shown, mode] / scale, color=palette[mode], **mark)
