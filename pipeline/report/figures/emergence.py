"""How the skills of sparse parities emerge over time, data or width, with what one skill alone predicts."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tangentscope.pipeline.report.drawing.axes import log_ticks
from tangentscope.pipeline.report.drawing.colours import colours
from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, drawing_style
from tangentscope.pipeline.report.emergence import Emergence, Emergences, emergences
from tangentscope.pipeline.report.formatting import number as told
from tangentscope.pipeline.report.view import View

_LABELS = {"time": "T = η · steps", "data": "samples D", "width": "hidden units N"}
_CONSTANTS = {"time": "B²", "data": "D_c", "width": "N_c"}
_MOST_SKILLS = 8


def emergence(view: View) -> list[Drawing]:
    """Nam fig. 5.1 and, where runs of one skill calibrate it, 5.2. Empty of a study without sparse parities."""
    found = emergences(view)
    if found is None or not (found.several or found.single):
        return []
    parts = [(name, group) for name, group in (("all skills", found.several), ("one skill", found.single)) if group]
    with drawing_style():
        figure = Figure(figsize=(FULL_WIDTH * (0.6 if len(parts) == 1 else 1), 2.7), layout="constrained")
        axes = figure.subplots(1, len(parts), squeeze=False)[0]
        for number, ((name, group), panel) in enumerate(zip(parts, axes, strict=True)):
            _draw(panel, found, group)
            panel.set_title(f"({chr(ord('a') + number)}) {name}, {len(group)} seeds", loc="left")
            panel.set(xlabel=_LABELS[found.resource], ylabel="R / S")
            panel.set_xscale("log")
            log_ticks(panel.xaxis, *panel.get_xlim())
        handles = [
            Line2D([], [], color="#555555", linestyle="--", label="networks, mean ± sd"),
            Line2D([], [], color="#555555", label="predicted"),
        ]
        if found.resource == "data":
            handles.append(Line2D([], [], color="#555555", linestyle=":", label="eq. 5.5 as printed"))
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return [Drawing("emergence", "Emergence of skills", _caption(view, found), figure)]


def _draw(panel, found: Emergences, group: list[Emergence]) -> None:
    amounts = group[0].amounts
    shares = np.array([each.shares for each in group if each.shares.shape == group[0].shares.shape])
    dense = np.geomspace(max(amounts[amounts > 0].min(), 1e-9), amounts.max(), 300)
    predicted = found.calibration.predict(group[0].task, dense)
    printed = found.calibration.printed(group[0].task, dense)
    count = min(_MOST_SKILLS, shares.shape[2])
    for k, colour in enumerate(list(colours(list(range(count))).values())):
        mean, spread = shares[..., k].mean(0), shares[..., k].std(0)
        later = amounts > 0
        panel.plot(amounts[later], mean[later], color=colour, linestyle="--", linewidth=1)
        panel.fill_between(
            amounts[later], (mean - spread)[later], (mean + spread)[later], color=colour, alpha=0.15, lw=0
        )
        panel.plot(dense, predicted[:, k], color=colour, linewidth=1)
        if printed is not None:
            panel.plot(dense, printed[:, k], color=colour, linewidth=1, linestyle=":")


def _caption(view: View, found: Emergences) -> str:
    constant = f"{_CONSTANTS[found.resource]} = {told(found.calibration.constant)}"
    how = "fitted to the runs of one skill" if found.calibration.from_runs else "as Nam fitted it on one skill"
    return f"Study {view.name}. Strengths of skills on test data (Nam eq. 4.7), and predictions with {constant}, {how}."
