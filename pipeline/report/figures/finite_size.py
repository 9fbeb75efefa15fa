"""Losses of finitely many skills over time, the pure power law, and the law that finite size corrects."""

import numpy as np
from matplotlib.figure import Figure

from tangentscope.models.solvable.scaling import finite_power_law, power_law
from tangentscope.pipeline.report.drawing.axes import log_ticks, log_y
from tangentscope.pipeline.report.drawing.colours import colours
from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, drawing_style
from tangentscope.pipeline.report.scaling import Law, over_time
from tangentscope.pipeline.report.solvable import SkillRun, skill_runs
from tangentscope.pipeline.report.view import View


def finite_size(view: View) -> list[Drawing]:
    """Nam fig. C.1. Empty of a study without skills that are all there are."""
    runs = finite_runs(view)
    if not runs:
        return []
    palette = colours([run.task.alpha for run, _ in runs])
    with drawing_style():
        figure = Figure(figsize=(0.6 * FULL_WIDTH, 3), layout="constrained")
        panel = figure.subplots()
        for run, law in runs:
            colour = next(iter(palette.values())) if len(palette) == 1 else palette[f"{run.task.alpha:g}"]
            pure, corrected = finite_laws(run, law)
            panel.plot(law.amounts, law.losses, color=colour, label=f"α = {run.task.alpha:g}")
            panel.plot(law.amounts, corrected, color=colour, linestyle="--")
            panel.plot(law.amounts, pure, color=colour, linestyle=":")
        panel.set(xlabel="T = η · steps", ylabel="loss")
        panel.set_xscale("log")
        log_ticks(panel.xaxis, *panel.get_xlim())
        log_y(panel)
        panel.legend(frameon=False)
    skills = f"{runs[0][0].task.skills:,}"
    caption = (
        f"Study {view.name}: N = {skills} skills that are all there are. Solid: the loss; dotted: the power law of "
        "endless skills, −α/(α + 1), through its start; dashed: the same corrected for finite N (Nam eq. C.2)."
    )
    return [Drawing("finite_size", "Finite number of skills", caption, figure)]


def finite_runs(view: View) -> list[tuple[SkillRun, Law]]:
    """Runs of all skills there are, with their loss up to when the last skill is about to be learned."""
    found = []
    for run in skill_runs(view):
        law = over_time(run)
        whole = not run.task.endless and run.task.samples is None and run.skills == run.task.skills
        if whole and law is not None:
            # From a decade after the first skill on: laws are of many skills.
            early = (law.amounts >= 10 * law.amounts[0]) & (law.amounts < 1 / (run.task.scale * run.task.shares()[-1]))
            if early.sum() >= 2:
                found.append((run, Law("time", law.amounts[early], law.losses[early], law.alpha)))
    return found


def finite_laws(run: SkillRun, law: Law) -> tuple[np.ndarray, np.ndarray]:
    """The pure and the corrected law through the first point, at its times."""
    task, start = run.task, (float(law.amounts[0]), float(law.losses[0]), run.task.alpha)
    return power_law(law.amounts, *start), finite_power_law(law.amounts, *start, task.scale, task.skills)
