"""Losses of the skill model over time, data, parameters and compute, with the powers of Nam's Table 4.1."""

from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tangentscope.pipeline.report.drawing.axes import log_ticks, log_y
from tangentscope.pipeline.report.drawing.colours import colours
from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, drawing_style
from tangentscope.pipeline.report.scaling import Law, laws
from tangentscope.pipeline.report.solvable import SkillRun, skill_runs
from tangentscope.pipeline.report.view import View

_PANELS = {
    "time": ("Time", "T = η · steps"),
    "data": ("Data", "samples D"),
    "parameters": ("Parameters", "skills N of the model"),
    "compute": ("Compute", "C = T · N"),
}


def scaling_laws(view: View) -> list[Drawing]:
    """Nam fig. 4.2–4.3: a panel for each bottleneck, of what the study has. Empty of a study without skills."""
    runs = skill_runs(view)
    found = laws(runs)
    panels = [name for name in _PANELS if any(law.bottleneck == name for law in found)]
    if not panels:
        return []
    with drawing_style():
        figure = Figure(figsize=(FULL_WIDTH, 2.3 * (1 + (len(panels) > 2))), layout="constrained")
        axes = list(figure.subplots(1 + (len(panels) > 2), min(2, len(panels)), squeeze=False).flat)
        for number, (name, panel) in enumerate(zip(panels, axes, strict=False)):
            ours = [law for law in found if law.bottleneck == name]
            if name in ("time", "compute"):
                _draw_runs(panel, [run for run in runs if run.task.samples is None], name == "compute")
            _draw(panel, ours, name)
            title, label = _PANELS[name]
            panel.set_title(f"({chr(ord('a') + number)}) {title}", loc="left")
            panel.set(xlabel=label, ylabel="loss, all data")
            panel.set_xscale("log")
            log_ticks(panel.xaxis, *panel.get_xlim())
            log_y(panel)
            panel.legend(frameon=False, loc="lower left")
        for panel in axes[len(panels) :]:
            panel.set_visible(False)
    return [Drawing("scaling_laws", "Scaling laws of the skill model", _caption(view, runs), figure)]


def _draw(panel: Axes, found: list[Law], name: str) -> None:
    """The points of a law, and the power of the table through the middle of the first of them."""
    for law in found:
        points = {"marker": "o", "markersize": 2.5, "linewidth": 0.8} if name in ("data", "parameters") else {}
        if name != "time":
            panel.plot(law.amounts, law.losses, color="#1f4e8c", **points)
    law = _mean(found)
    middle = np.sqrt(np.prod(law.decade))
    through = np.exp(np.interp(np.log(middle), np.log(law.amounts), np.log(law.losses)))
    powers = through * (law.amounts / middle) ** law.exponent
    panel.plot(law.amounts, powers, color="#222222", linestyle=":", label=f"slope {law.exponent:.3f} (Table 4.1)")
    if (slope := law.slope()) is not None:
        panel.plot([], [], " ", label=f"fitted {slope:.3f}")


def _mean(found: list[Law]) -> Law:
    """Of the draws that are of as many amounts as the first."""
    alike = [law.losses for law in found if np.array_equal(law.amounts, found[0].amounts)]
    return replace(found[0], losses=np.mean(alike, axis=0))


def _draw_runs(panel: Axes, runs: list[SkillRun], by_compute: bool) -> None:
    """Losses of runs over time, lines of the closed form and dots of what was simulated."""
    palette = colours([run.skills for run in runs])
    most = max(run.skills for run in runs)
    for run in runs:
        times, losses = run.loss()
        factor = run.skills if by_compute else 1
        colour = palette[str(run.skills)] if by_compute else "#1f4e8c"
        if type(run.optimiser).__name__ == "Solution":
            if by_compute or run.skills == most:
                panel.plot(factor * times, losses, color=colour, linewidth=0.7)
        elif not by_compute:
            panel.plot(times, losses, "o", color="#d55e00", markersize=2, label=f"simulated, N = {run.skills:,}")
            if (closed := run.closed_loss(times)) is not None:
                panel.plot(times, closed, color="#d55e00", linewidth=0.7)


def _caption(view: View, runs: list[SkillRun]) -> str:
    task = runs[0].task
    return (
        f"Study {view.name}: {task.skills:,} skills of frequency ∝ k^−{task.alpha + 1:g}, S = {task.scale:g}. Solid: "
        "closed form; dots: simulated, with the closed form of as many skills behind; dotted: the power of Nam, Table "
        "4.1. Slopes are fitted over the middle decade; compute is the least loss of all numbers of skills (colours)."
    )
